"""Pictures as Pillow holds them: what becomes of each of their properties.

Every property that Pillow reports is carried as metadata, converted, refused, or named in ``Picture.notes``; the table
`_PROPERTIES` decides. Nothing is lost in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import LimitExceeded, Unsupported
from ..limits import MAX_METADATA_BYTES
from .colour_profile import profile_of_png, profile_of_points
from .picture_facts import Facts
from .pillow_samples import pillow_samples, premultiplied
from .tiff_tags import exif_facts

EXIF_PREFIX = b"Exif\0\0"
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"

CARRIED, IN_SAMPLES = "carried", "in the samples"
_PROPERTIES = {
    # What becomes of each property that Pillow reports (``Image.info``, "FORMAT key" where formats differ). Any other
    # value is a loss, in the words of the note; a property that is not in the table is a loss under its own name.
    **dict.fromkeys(
        (
            "exif",
            "icc_profile",
            "xmp",
            "XML:com.adobe.xmp",
            "Raw profile type exif",
            "Raw profile type APP1",
            "Raw profile type xmp",
            "Raw profile type icc",
            "Raw profile type icm",
        ),
        CARRIED,
    ),
    **dict.fromkeys(("gamma", "chromaticity", "srgb"), CARRIED),  # as an ICC profile, see _colour
    **dict.fromkeys(("dpi", "aspect", "resolution", "jfif_unit", "jfif_density"), CARRIED),  # in EXIF, see _resolution
    "transparency": IN_SAMPLES,  # as alpha
    **dict.fromkeys(
        (
            "compression",
            "interlace",
            "progressive",
            "progression",
            "adobe",
            "adobe_transform",
            "jfif",
            "jfif_version",
            "GIF version",
            "TGA orientation",
            "LOCLIC quality",
        ),
        IN_SAMPLES,
    ),
    **dict.fromkeys(
        ("bbox", "blend", "disposal", "duration", "timestamp", "loop", "background", "default_image"), IN_SAMPLES
    ),  # of an only frame
    "comment": "its comment",
    "photoshop": "Photoshop's data (captions, paths)",
    "flashpix": "FlashPix data",
    "mp": "the file's further pictures (a preview, another view, a depth or gain map)",
    "GIF extension": "a GIF application extension",
    "id_section": "the identification of a TGA file",
}
_TYPED_KEYS = {"icc_profile", "gamma", "chromaticity", "srgb", "transparency", "exif", "xmp", "dpi", "aspect"}
"""Properties that are looked at, so that no text of a PNG may have their names."""
_PROFILE_SPACES = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK", b"Lab ": "Lab", b"XYZ ": "XYZ", b"YCbr": "YCbCr"}


@dataclass(frozen=True)
class Picture:
    r"""Samples and the metadata that travels with them.

    Attributes
    ----------
    samples : [H, W] or [H, W, C] uint8
        Grey, or C channels: 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha), row-major. Colours are not multiplied by
        alpha.
    exif : bytes or None
        The EXIF block from its TIFF header on, without the ``Exif\0\0`` that JPEG puts before it.
    icc_profile, xmp : bytes or None
        The ICC profile and the XMP packet.
    notes : tuple of str
        What reading has left out or converted, one sentence each.
    """

    samples: np.ndarray
    exif: bytes | None = None
    icc_profile: bytes | None = None
    xmp: bytes | None = None
    notes: tuple[str, ...] = ()


def from_pillow(
    image: Image.Image,
    where: str = "",
    facts: Facts | None = None,
    samples: np.ndarray | None = None,
    notes: Iterable[str] = (),
) -> Picture:
    """Convert a Pillow image by the table of properties: each is carried, converted, announced or refused.

    Parameters
    ----------
    image : PIL.Image.Image
        A single picture.
    where : str
        The place that errors name.
    facts : Facts or None
        What is known of its file beyond what Pillow reports.
    samples : np.ndarray or None
        Its samples where Pillow's are not those that are meant.
    notes : iterable of str
        What is to be said of them.

    Returns
    -------
    Picture
        ``notes`` names what is left out.

    Raises
    ------
    Unsupported
        A mode other than those of eight-bit grey and RGB, a colour space without an ICC profile, colours that a file
        holds multiplied by alpha and that Pillow does not divide.
    InvalidImage
        A side is zero, or a colour exceeds the alpha that it is multiplied by.
    LimitExceeded
        The metadata is too long.
    """
    facts = facts or Facts()
    samples = pillow_samples(image, where) if samples is None else samples
    alpha = samples.shape[2:] in ((2,), (4,))
    info = {key: value for key, value in image.info.items() if isinstance(key, str)}
    texts = set(getattr(image, "text", {}))  # of PNG, whose texts share their names with properties
    if hidden := sorted(texts & _TYPED_KEYS):
        raise Unsupported(
            "a text chunk has the name of a property of the picture",
            where=where,
            names=hidden,
            cause="Pillow reports one of the two; remove the text",
        )
    notes = list(notes)
    if alpha and facts.undivided:
        raise Unsupported(
            "colours are multiplied by alpha",
            where=where,
            cause="Pillow does not divide those of this format; convert the picture to straight alpha first",
        )
    if alpha and (premultiplied(image) or facts.multiplied):
        rounded = "" if premultiplied(image) else ", which rounds"
        notes.append(f"its colours were multiplied by alpha and were divided by it{rounded}")
    lost = list(facts.lost)
    for key in info:
        fate = _PROPERTIES.get(f"{image.format} {key}", _PROPERTIES.get(key, ""))
        if key in texts and fate != CARRIED:
            lost.append(f"the text {key!r}")
        elif fate not in (CARRIED, IN_SAMPLES):
            lost.append(fate or repr(key))
    raw = {
        "exif": _raw_profile(info, ("exif", "APP1"), EXIF_PREFIX, lost),
        "icc_profile": _raw_profile(info, ("icc", "icm"), b"", lost),
        "xmp": info.get("XML:com.adobe.xmp") or _raw_profile(info, ("xmp", "APP1"), _XMP_PREFIX, lost),
    }
    found = {name: info.get(name) or raw[name] or getattr(facts, name) for name in raw}
    if "icc_profile" in info and not info["icc_profile"]:
        lost.append("a damaged ICC profile")
    exif, icc_profile, xmp = (_metadata(data, name, where) for name, data in found.items())
    icc_profile = _colour(image, info, facts, icc_profile, samples.shape[2:] in ((), (2,)), where, notes, lost)
    if (stated := _resolution(image, info)) and not (exif and exif_facts(exif)[1]):
        lost.append(stated)
    if lost:
        words = [text if len(text) < 100 else text[:96] + " ..." for text in dict.fromkeys(lost)]
        more = [f"and {len(words) - 12} others"] if len(words) > 12 else []
        notes.insert(0, "left out: " + ", ".join(words[:12] + more))
    return Picture(samples, exif, icc_profile, xmp, tuple(notes))


def _colour(
    image: Image.Image,
    info: dict[str, Any],
    facts: Facts,
    icc_profile: bytes | None,
    grey: bool,
    where: str,
    notes: list[str],
    lost: list[str],
) -> bytes | None:
    """The ICC profile of the samples: their own, or one built from other descriptions of their colours."""
    if facts.points and not (icc_profile and image.format == "AVIF"):  # PNG prefers cICP, AVIF its profile
        made = profile_of_points(*facts.points, grey, where)
        if made or icc_profile:
            notes.append(
                "its coding points of colour became an ICC profile"
                if made
                else "its ICC profile is left out: its coding points say sRGB"
            )
        return made
    if icc_profile is None and "srgb" not in info and ("gamma" in info or "chromaticity" in info):
        try:
            made = profile_of_png(info.get("gamma"), info.get("chromaticity"), grey)
        except ValueError:
            lost.append("gAMA and cHRM, which describe no colours")
            return None
        if made:
            notes.append("its gAMA and cHRM became an ICC profile")
        return made
    if icc_profile and icc_profile[16:20] in _PROFILE_SPACES and icc_profile[16:20] != (b"GRAY" if grey else b"RGB "):
        lost.append(f"its ICC profile, which is for {_PROFILE_SPACES[icc_profile[16:20]]}")
        return None
    return icc_profile


def _resolution(image: Image.Image, info: dict[str, Any]) -> str:
    """Name the resolution if the file states one; that pixels are square is no statement."""
    if image.format in ("JPEG", "MPO"):  # Pillow makes up 72 dpi where neither JFIF nor EXIF says any
        x, y = info.get("jfif_density", (1, 1))
        return "its resolution" if info.get("jfif_unit") or x != y else ""
    if image.format == "TIFF":  # in its EXIF; Pillow makes up 1 dpi
        return ""
    x, y = info.get("aspect", (1, 1))
    return "its resolution" if "dpi" in info or x != y else ""


def _raw_profile(info: dict[str, Any], names: tuple[str, ...], prefix: bytes, lost: list[str]) -> bytes | None:
    """Metadata that ImageMagick writes into PNG text: a name, a length and hexadecimal digits.

    The one named APP1 is EXIF or XMP, with the beginning of its JPEG segment, which is ``prefix``.
    """
    for name in names:
        key = f"Raw profile type {name}"
        try:
            data = bytes.fromhex("".join(str(info.get(key, "")).split("\n")[3:]))
        except ValueError:
            lost.append(f"a damaged {key!r}")
            continue
        if data and (name != "APP1" or data.startswith(prefix)):
            return data.removeprefix(prefix)
    return None


def _metadata(data: Any, name: str, where: str) -> bytes | None:
    data = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    if not isinstance(data, bytes) or not data:
        return None
    if len(data) > MAX_METADATA_BYTES:
        raise LimitExceeded(
            "the metadata is too long", where=where, kind=name, bytes=len(data), allowed=MAX_METADATA_BYTES
        )
    return data.removeprefix(EXIF_PREFIX) if name == "exif" else data
