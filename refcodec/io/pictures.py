"""Pictures in and out: files, samples and the metadata that travels with them.

Nothing is lost in silence. Samples that are not eight bits of grey or RGB, with or without alpha, are converted by the
rules of `read_picture`, or refused. Every other property that Pillow reports is carried as metadata, or named in
``Picture.notes``; the table `_PROPERTIES` decides. Samples are not rotated: an EXIF orientation travels with the
picture. TIFF alone states the order of its rows in the file, so its samples are delivered upright and its EXIF says so.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ..errors import InvalidImage, LimitExceeded, RefcodecError, Unsupported, UsageError
from ..limits import MAX_METADATA_BYTES, Limits
from ..planes import check_samples
from .colour_profile import profile_of_png, profile_of_points
from .files import check_target, detail_of, opened, transfer_error, write_bytes, writing
from .picture_facts import Facts, facts_of, several_frames
from .pillow_samples import opaque_dropped, pillow_samples, premultiplied
from .rows import ROW_FORMATS, RawRows, RowWriter, raw_layout, read_raw, row_writer
from .sample_depth import BYTES_PER_PIXEL as DEEP_BYTES_PER_PIXEL
from .sample_depth import DEPTH, check_depth, deep_samples, told
from .sizes import check_size
from .tiff_tags import exif_facts, tiff_file

STRIPS_FROM = 1 << 26
"""Samples from which on pictures are read and written in strips where their format allows it."""

READABLE = ("PNG", "PPM", "JPEG", "MPO", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA", "PCX", "QOI")
"""Pillow formats that are read: those whose sample depth is known, and that run no external program."""

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

_EXTENSIONS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    # extension: format, options, the metadata it holds. Lossless wherever the format can be.
    ".png": ("PNG", {}, ("exif", "icc_profile", "xmp")),
    ".ppm": ("PNM", {}, ()),
    ".pgm": ("PNM", {}, ()),
    ".pnm": ("PNM", {}, ()),
    ".pam": ("PAM", {}, ()),
    ".npy": ("NPY", {}, ()),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}, ("exif", "icc_profile", "xmp")),
    ".webp": ("WEBP", {"lossless": True, "exact": True}, ("exif", "icc_profile", "xmp")),
    ".avif": ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, ("exif", "icc_profile", "xmp")),
    ".tif": ("TIFF", {}, ("exif", "icc_profile", "xmp")),
    ".jp2": ("JPEG2000", {}, ()),
    ".j2k": ("JPEG2000", {}, ()),
    ".bmp": ("BMP", {}, ()),
    ".tga": ("TGA", {}, ()),
    ".qoi": ("QOI", {"colorspace": "sRGB"}, ()),
}
_METADATA = {"exif": "EXIF", "icc_profile": "the ICC profile", "xmp": "XMP"}
_COLOUR_ONLY = ("WEBP", "AVIF", "QOI")
"""Formats whose samples are RGB in any case. Pillow does not write grey samples as QOI."""
_WITH_ALPHA = ("PNG", "PAM", "NPY", "WEBP", "AVIF", "TIFF", "JPEG2000", "TGA", "QOI")
"""Formats that hold alpha."""
_JPEG_HOLDS = {"exif": 65527, "icc_profile": 255 * 65519, "xmp": 65504}
"""A segment of 65533 bytes less the name it begins with; profiles are spread over up to 255 segments."""
_EXTENSIONS |= {".jpeg": _EXTENSIONS[".jpg"], ".tiff": _EXTENSIONS[".tif"]}

_BYTES_PER_PIXEL = {
    "PNG": 9,
    "PPM": 16,
    "JPEG": 12,
    "MPO": 12,
    "BMP": 9,
    "GIF": 8,
    "TIFF": 12,
    "WEBP": 20,
    "AVIF": 16,
    "JPEG2000": 28,
    "TGA": 9,
    "PCX": 8,
    "QOI": 12,
}
"""Largest memory that reading takes per pixel, by format: four bytes for Pillow's picture, up to four for the samples,
and what the format's library holds meanwhile (coefficients, canvases, 32-bit components)."""
_READ_WHOLE = ("WEBP", "AVIF")
"""Formats whose file is in memory, twice, while it is decoded."""

logging.getLogger("PIL").addHandler(logging.NullHandler())  # exceptions repeat what would go to standard error

_pillow_lock = threading.Lock()
_patches = ExitStack()
"""What `_pillow` has changed in Pillow and in ``warnings``, and undoes at its end."""


def _after_fork() -> None:
    """Undo in the child what another thread of the parent had patched; that thread does not exist here."""
    global _pillow_lock
    _pillow_lock = threading.Lock()
    _patches.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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


# ---------------------------------------------------------------------------------------------------------- reading


def read_picture(
    source: str | os.PathLike[str] | bytes, limits: Limits = Limits(), depth: int | None = None, *, alpha: bool = True
) -> Picture:
    """Read a picture from a file, from standard input (``-``) or from bytes. The content names the format.

    Defined conversions, all lossless: one bit becomes 0 or 255; a palette becomes RGB; transparent colours and palette
    entries become alpha; alpha that is 255 everywhere is dropped. PNG, PPM, PGM, PAM and NPY (uint8 [H, W] or
    [H, W, C]) are exact; what a lossy format such as JPEG decodes to is decided by the library that Pillow carries. Of
    a JPEG with further pictures (MPO) and of a TIFF with smaller versions the primary picture is read.

    Parameters
    ----------
    source : str, path or bytes
        File name, ``-``, or the bytes of a file.
    limits : Limits
        Checked on the header, before samples are decoded.
    depth : int or None
        8 reduces samples of more bits in PNG, TIFF, binary PPM and PGM, PAM and NPY: a sample v of a picture whose
        white is m becomes ``(v * 255 + m // 2) // m``, which rounds to the nearest value. None refuses them.
    alpha : bool
        False refuses pictures that are transparent.

    Returns
    -------
    Picture
        Samples not rotated, the metadata, and notes on what is left out or reduced.

    Raises
    ------
    MissingInput, TransferError
        As `read_bytes`.
    InvalidImage
        Not a picture in a known format, or a damaged one.
    Unsupported
        More than eight bits per sample, several frames, a colour space other than grey and RGB, or a kind of file that
        Pillow does not read.
    UsageError
        ``depth`` is neither 8 nor None.
    LimitExceeded
        See `check_size`; also metadata or elements of the file beyond their bounds, and lack of memory.
    """
    where = "the given bytes" if isinstance(source, bytes) else str(source)
    with opened(source) as file:
        picture = picture_from(file, limits, where, depth)
    if not alpha and picture.samples.shape[2:] in ((2,), (4,)):
        raise Unsupported(
            "the picture is transparent", where=where, cause="flatten the picture onto a background first"
        )
    return picture


def picture_from(file: IO[bytes], limits: Limits, where: str, depth: int | None = None) -> Picture:
    """Read a picture from an open file, seekable or not; as `read_picture`."""
    if depth not in (None, DEPTH):
        raise UsageError("the depth of a picture is 8 bits per sample", value=repr(depth), allowed="8 or None")
    with translated(where):
        file = seekable(file, limits, where)
        head = file.read(8)
        file.seek(0)
        if not head:
            raise InvalidImage("the file is empty", where=where)
        if layout := raw_layout(file, limits, where, depth):
            samples, notes = read_raw(file, layout, limits, where)
            return Picture(samples, notes=notes)
        return _read_pillow(file, limits, where, depth)


@contextmanager
def opened_rows(source: str | os.PathLike[str], limits: Limits) -> Iterator[RawRows | None]:
    """Open a picture for reading in strips.

    Parameters
    ----------
    source : str or path
    limits : Limits
        Its memory is not looked at: strips take little.

    Yields
    ------
    RawRows or None
        None unless it is a file of raw samples of eight bits (binary PPM or PGM, PAM, or NPY) with more than
        STRIPS_FROM samples.

    Raises
    ------
    MissingInput, TransferError, InvalidImage, Unsupported, LimitExceeded
        As `read_picture`.
    """
    with opened(source) as file:
        rows = None
        if file.seekable():
            with translated(str(source)):
                layout = raw_layout(file, limits, str(source), DEPTH)
                if layout and layout.plain and prod(layout.shape) > STRIPS_FROM:
                    rows = RawRows(file, layout, str(source))
                file.seek(0)
        yield rows


_UNSUPPORTED = (
    "unsupported",
    "not supported",
    "not yet supported",
    "cannot handle",
    "unknown pixel mode",
    "unknown data organization",
    "unknown tga",
    "unrecognized",
)
"""Words of Pillow's messages on files that it does not know, rather than on damaged ones."""


@contextmanager
def translated(where: str, rare: str = "") -> Iterator[None]:
    """Give every exception of Pillow its class: its readers raise nearly every type on damaged files.

    With ``rare``, a feature that Pillow may lack, what cannot be decoded is not called damaged.
    """
    try:
        yield
    except RefcodecError:
        raise
    except MemoryError as error:
        raise LimitExceeded("the picture does not fit into memory", where=where) from error
    except Image.DecompressionBombError as error:
        raise LimitExceeded("the picture has too many pixels", where=where, detail=detail_of(error)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise transfer_error("reading", where, error) from error
        detail = detail_of(error)
        if any(words in detail for words in ("data too large", "Too much memory")):
            raise LimitExceeded("the metadata is too long", where=where, detail=detail) from error
        if rare or any(words in detail.lower() for words in _UNSUPPORTED):
            raise Unsupported(
                "this Pillow does not read this kind of file",
                where=where,
                detail=f"{rare}, {detail}" if rare else detail,
            ) from error
        raise InvalidImage(
            "the picture cannot be decoded", where=where, detail=detail, cause="the file is damaged or cut short"
        ) from error


def seekable(file: IO[bytes], limits: Limits, where: str) -> IO[bytes]:
    """The file, or all of a pipe up to what any picture within the limits needs: plain PPM has twelve bytes per pixel.

    Raises
    ------
    LimitExceeded
        The pipe gives more.
    """
    if file.seekable():
        return file
    allowed = 12 * limits.max_pixels + 4 * MAX_METADATA_BYTES
    allowed = allowed if limits.max_memory is None else min(allowed, limits.max_memory)
    data = file.read(allowed + 1)
    if len(data) > allowed:
        raise LimitExceeded("the input is too long for a picture within the limits", where=where, allowed=allowed)
    return io.BytesIO(data)


@contextmanager
def _pillow(limits: Limits) -> Iterator[None]:
    """Quiet Pillow's warnings, and set its bound on pixels to ours: WebP allocates two canvases while being opened."""
    global _patches
    with _pillow_lock, ExitStack() as stack:
        _patches = stack
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        pixels = limits.max_pixels if limits.max_memory is None else min(limits.max_pixels, limits.max_memory // 8)
        Image.MAX_IMAGE_PIXELS = (pixels + 1) // 2  # it raises beyond twice this number
        yield


def open_picture(file: IO[bytes], where: str = "") -> Image.Image:
    """Open a file with one of the readers named in READABLE, none of which starts a program. Nothing is decoded.

    Parameters
    ----------
    file : binary file
        Seekable.
    where : str
        The place that errors name.

    Returns
    -------
    PIL.Image.Image
        Its size and mode are known. Its samples are not yet checked, as `read_picture` does.

    Raises
    ------
    InvalidImage, Unsupported, LimitExceeded, TransferError
        As `read_picture`.
    """
    with translated(where):
        return _open_readable(file, where)


def _open_readable(file: IO[bytes], where: str) -> Image.Image:
    Image.init()
    file.seek(0)
    head = file.read(16)
    for name in READABLE:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is not None and (accept is None or accept(head) is True):
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                if accept is not None:
                    raise
                # a format without a magic number: every file gets here
    cause = "read are NPY, PAM and " + ", ".join(READABLE)
    raise InvalidImage("not a picture in a known format", where=where, cause=cause)


def _read_pillow(file: IO[bytes], limits: Limits, where: str, depth: int | None) -> Picture:
    facts = facts_of(file, where)
    check_depth(facts.bits, depth, where)
    with _pillow(limits), translated(where, facts.rare), _open_readable(file, where) as image:
        width, height = image.size
        whole = 2 * file.seek(0, os.SEEK_END) if image.format in _READ_WHOLE else 0
        check_size(width, height, limits, where, _BYTES_PER_PIXEL[str(image.format)], whole)
        bits = _check_tiff(image, limits, where) if image.format == "TIFF" else facts.bits
        check_depth(bits, depth, where)
        if image.format not in ("TIFF", "MPO") and getattr(image, "is_animated", False):
            raise several_frames(where)
        if bits > DEPTH:
            check_size(width, height, limits, where, DEEP_BYTES_PER_PIXEL)
            samples = opaque_dropped(deep_samples(image, lambda: _open_readable(file, where), bits, where))
            return from_pillow(image, where, facts, samples, (told((1 << bits) - 1),))
        image.load()
        key = image.info.get("transparency")
        if image.format == "PNG" and image.mode == "L" and isinstance(key, int) and key < 1 << facts.bits < 256:
            image.info["transparency"] = key * 255 // ((1 << facts.bits) - 1)  # Pillow scales samples of 2 and 4 bits
        return from_pillow(image, where, facts)


def _check_tiff(image: Any, limits: Limits, where: str) -> int:
    """Refuse samples that are no colours or signed, and tiles that are larger than any picture may be; the depth."""
    depths = list(image.tag_v2.get(258, (1,)))
    if len(depths) > len(image.getbands()):
        raise Unsupported("samples that are not colours", where=where, channels=len(depths), mode=image.mode)
    if set(image.tag_v2.get(339, ())) - {1, 4}:  # unsigned, undefined; Pillow reads signed samples as unsigned
        raise Unsupported(
            "samples are not unsigned", where=where, formats=list(image.tag_v2[339]), cause="convert the picture first"
        )
    tile = image.tag_v2.get(322), image.tag_v2.get(323)
    if all(isinstance(side, int) and side > 0 for side in tile):  # libtiff takes memory for a whole tile
        check_size(int(tile[0]), int(tile[1]), limits, where, _BYTES_PER_PIXEL["TIFF"])
    return int(max(depths, default=1))


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
    """The ICC profile of the samples: their own, or one made of what else describes their colours."""
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


# ---------------------------------------------------------------------------------------------------------- writing


def check_format(path: str | os.PathLike[str], alpha: bool = False) -> None:
    """Refuse a name whose extension names no picture format that is written; ``-`` is PNG.

    Parameters
    ----------
    path : str or path
    alpha : bool
        The picture has alpha.

    Raises
    ------
    Unsupported
        The extension is unknown, or its format holds no alpha.
    """
    extension = _extension(path)
    if alpha and _EXTENSIONS[extension][0] not in _WITH_ALPHA:
        raise Unsupported(
            "the picture has alpha, which its format does not hold",
            where=str(path),
            extension=extension,
            cause="alpha is held by " + " ".join(e for e in sorted(_EXTENSIONS) if _EXTENSIONS[e][0] in _WITH_ALPHA),
        )


def _extension(path: str | os.PathLike[str]) -> str:
    extension = ".png" if os.fspath(path) == "-" else Path(path).suffix.lower()
    if extension not in _EXTENSIONS:
        raise Unsupported(
            "no picture format has this extension",
            where=str(path),
            extension=extension,
            cause="written are " + " ".join(sorted(_EXTENSIONS)),
        )
    return extension


def in_rows(path: str | os.PathLike[str]) -> bool:
    """Whether `writing_rows` writes the format that a name's extension names, and does it to a file."""
    return os.fspath(path) != "-" and _EXTENSIONS[_extension(path)][0] in ROW_FORMATS


@contextmanager
def writing_rows(
    path: str | os.PathLike[str], shape: tuple[int, ...], metadata: Mapping[str, bytes | None], force: bool = False
) -> Iterator[tuple[RowWriter, tuple[str, ...]]]:
    """Write a PNG, PPM, PGM, PAM or NPY row by row; the file is in its place when the block ends without an error.

    Parameters
    ----------
    path : str or path
        The target, written as `writing` does.
    shape : tuple of int
        [H, W] or [H, W, C].
    metadata : mapping
        "exif", "icc_profile" and "xmp", None where there is none.
    force : bool
        Overwrite an existing file.

    Yields
    ------
    writer : RowWriter
        Takes H rows.
    notes : tuple of str
        As `write_picture` returns.

    Raises
    ------
    Unsupported, OutputError, TransferError
        As `write_picture`.
    """
    check_format(path, shape[2:] in ((2,), (4,)))
    extension = _extension(path)
    held, notes = _held(extension, metadata, shape[2:] in ((), (2,)))
    with writing(path, force) as out:
        writer = row_writer(out, _EXTENSIONS[extension][0], extension, shape, held, str(path))
        yield writer, tuple(notes)
        writer.finish()


def write_picture(path: str | os.PathLike[str], picture: Picture, force: bool = False) -> tuple[str, ...]:
    """Write a picture in the format that the extension names; ``-`` is PNG on standard output.

    PNG, PPM/PGM, PAM, NPY, BMP, TIFF, TGA, QOI, WebP and JPEG 2000 are written without loss, JPEG (quality 95) and AVIF
    (quality 100) in 4:4:4. PNM files hold grey as P5 and RGB as P6. Alpha is exact in every format that holds it.

    Parameters
    ----------
    path : str or path
        The target, written as `writing` does.
    picture : Picture
        Samples uint8 [H, W] or [H, W, C].
    force : bool
        Overwrite an existing file.

    Returns
    -------
    tuple of str
        Notes on what the picture has and the format does not hold, one sentence each.

    Raises
    ------
    Unsupported
        Unknown extension, or the format cannot hold this picture, its alpha or its metadata.
    UsageError
        The samples are not those of a picture.
    LimitExceeded
        Lack of memory.
    OutputError, TransferError
        As `writing`.
    """
    extension = _extension(path)
    check_target(path, force)
    check_samples(picture.samples)
    metadata = {kind: getattr(picture, kind) for kind in _METADATA}
    name, options, _ = _EXTENSIONS[extension]
    if name in ROW_FORMATS:
        with writing_rows(path, picture.samples.shape, metadata, force) as (writer, told_of):
            writer.write(picture.samples)
        return told_of
    check_format(path, picture.samples.shape[2:] in ((2,), (4,)))
    held, notes = _held(extension, metadata, picture.samples.shape[2:] in ((), (2,)))
    if name == "TIFF":
        data, lost = tiff_file(picture.samples, held.get("exif"), held.get("icc_profile"), held.get("xmp"), str(path))
        notes += [f"left out: {text}" for text in lost]
    else:
        data = _with_pillow(picture.samples, name, dict(options), held, str(path))
    write_bytes(path, data, force)
    return tuple(notes)


def _held(extension: str, metadata: Mapping[str, bytes | None], grey: bool) -> tuple[dict[str, bytes], list[str]]:
    """What of the metadata a format holds, and notes on the rest."""
    name, _, kinds = _EXTENSIONS[extension]
    there = {kind: value for kind, value in metadata.items() if value}
    held = {kind: value for kind, value in there.items() if kind in kinds}
    notes = [f"the format does not carry {_METADATA[kind]}; it is left out" for kind in there if kind not in kinds]
    if "exif" in there and "exif" not in kinds and (orientation := exif_facts(there["exif"])[0]) != 1:
        notes.append(f"the picture is not upright: its orientation ({orientation}) was in the EXIF")
    if name in _COLOUR_ONLY and grey and held.get("icc_profile", b"")[16:20] == b"GRAY":
        del held["icc_profile"]
        notes.append("the format holds no grey pictures; the ICC profile, which is for grey, is left out")
    return held, notes


def _with_pillow(
    samples: np.ndarray, name: str, options: dict[str, Any], metadata: dict[str, bytes], where: str
) -> bytes:
    if name == "JPEG":
        for kind, allowed in _JPEG_HOLDS.items():
            if len(metadata.get(kind, b"")) > allowed:
                raise Unsupported(
                    f"JPEG cannot hold {_METADATA[kind]} of this length",
                    where=where,
                    bytes=len(metadata[kind]),
                    allowed=allowed,
                    cause="PNG, WebP and AVIF can",
                )
    if name == "QOI" and samples.shape[2:] in ((), (2,)):
        samples = samples.reshape(*samples.shape[:2], -1)[:, :, [0, 0, 0, 1] if samples.ndim == 3 else [0, 0, 0]]
    if "exif" in metadata:
        metadata["exif"] = EXIF_PREFIX + metadata["exif"]
    file = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(samples)).save(file, name, **options, **metadata)
    except MemoryError as error:
        raise LimitExceeded("the picture does not fit into memory", where=where) from error
    except Exception as error:  # each writer has its own bounds and its own way to say so
        raise Unsupported(
            f"{name} cannot hold this picture or its metadata",
            where=where,
            detail=detail_of(error),
            cause="use another format, for instance PNG",
        ) from error
    return file.getvalue()
