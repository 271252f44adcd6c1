"""Pictures out: samples and metadata in the format that a name's extension names, and notes on what it cannot hold."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import LimitExceeded, Unsupported, UsageError
from ..planes import check_samples
from .files import check_target, detail_of, write_bytes, writing
from .properties import EXIF_PREFIX, Picture
from .rows import ROW_FORMATS, RowWriter, row_writer
from .tiff_tags import exif_facts, tiff_file

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
FORMATS = tuple(sorted(extension.removeprefix(".") for extension in _EXTENSIONS))
"""Formats that are written, by the extensions that name them."""


def check_format(path: str | os.PathLike[str], alpha: bool = False, form: str | None = None) -> None:
    """Refuse a name whose extension names no picture format that is written; ``-`` is PNG.

    Parameters
    ----------
    path : str or path
    alpha : bool
        The picture has alpha.
    form : str or None
        One of FORMATS instead of the extension, for a pipe or another name that has none.

    Raises
    ------
    UsageError
        The extension names another format than ``form``, or ``form`` is unknown.
    Unsupported
        The extension is unknown, or its format holds no alpha.
    """
    extension = _extension(path, form)
    if alpha and _EXTENSIONS[extension][0] not in _WITH_ALPHA:
        raise Unsupported(
            "the picture has alpha, which its format does not hold",
            where=str(path),
            extension=extension,
            cause="alpha is held by " + " ".join(e for e in sorted(_EXTENSIONS) if _EXTENSIONS[e][0] in _WITH_ALPHA),
        )


def _extension(path: str | os.PathLike[str], form: str | None = None) -> str:
    extension = ".png" if os.fspath(path) == "-" and form is None else Path(path).suffix.lower()
    if form is not None:
        if not isinstance(form, str) or form not in FORMATS:
            raise UsageError("no picture format has this name", where="--format", value=repr(form), known=list(FORMATS))
        if extension in _EXTENSIONS and _EXTENSIONS[extension][0] != _EXTENSIONS[f".{form}"][0]:
            raise UsageError("the name and --format say two formats", where=str(path), format=form)
        extension = f".{form}"
    if extension not in _EXTENSIONS:
        raise Unsupported(
            "no picture format has this extension",
            where=str(path),
            extension=extension,
            cause="written are " + " ".join(sorted(_EXTENSIONS)),
        )
    return extension


def in_rows(path: str | os.PathLike[str], form: str | None = None) -> bool:
    """Whether `writing_rows` writes the format that a name's extension names, and does it to a file."""
    return os.fspath(path) != "-" and _EXTENSIONS[_extension(path, form)][0] in ROW_FORMATS


def shows_orientation(path: str | os.PathLike[str], form: str | None = None) -> bool:
    """Whether a viewer of the format learns the orientation, or is none: NPY holds samples as they are."""
    name, _, kinds = _EXTENSIONS[_extension(path, form)]
    return "exif" in kinds or name == "NPY"


@contextmanager
def writing_rows(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    metadata: Mapping[str, bytes | None],
    force: bool = False,
    form: str | None = None,
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
    form : str or None
        As `check_format`.

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
    check_format(path, shape[2:] in ((2,), (4,)), form)
    extension = _extension(path, form)
    held, notes = _held(extension, metadata, shape[2:] in ((), (2,)))
    with writing(path, force) as out:
        writer = row_writer(out, _EXTENSIONS[extension][0], extension, shape, held, str(path))
        yield writer, tuple(notes)
        writer.finish()


def write_picture(
    path: str | os.PathLike[str], picture: Picture, force: bool = False, form: str | None = None
) -> tuple[str, ...]:
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
    form : str or None
        As `check_format`.

    Returns
    -------
    tuple of str
        Notes on what the picture has and the format does not hold, one sentence each.

    Raises
    ------
    Unsupported
        Unknown extension, or the format cannot hold this picture, its alpha or its metadata.
    UsageError
        The samples are not those of a picture, or the name and ``form`` contradict each other.
    LimitExceeded
        Lack of memory.
    OutputError, TransferError
        As `writing`.
    """
    extension = _extension(path, form)
    check_target(path, force)
    check_samples(picture.samples)
    metadata = {kind: getattr(picture, kind) for kind in _METADATA}
    name, options, _ = _EXTENSIONS[extension]
    if name in ROW_FORMATS:
        with writing_rows(path, picture.samples.shape, metadata, force, form) as (writer, told_of):
            writer.write(picture.samples)
        return told_of
    check_format(path, picture.samples.shape[2:] in ((2,), (4,)), form)
    held, notes = _held(extension, metadata, picture.samples.shape[2:] in ((), (2,)))
    if name == "TIFF":
        data, lost = tiff_file(picture.samples, held.get("exif"), held.get("icc_profile"), held.get("xmp"), str(path))
        notes += [f"left out: {text}" for text in lost]
    else:
        data = _with_pillow(picture.samples, name, dict(options), held, str(path))
    write_bytes(path, data, force)
    return tuple(notes)


def _held(extension: str, metadata: Mapping[str, bytes | None], grey: bool) -> tuple[dict[str, bytes], list[str]]:
    """The metadata that a format can hold, and notes on the rest."""
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
