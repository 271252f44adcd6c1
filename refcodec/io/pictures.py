"""Pictures in: files, samples and the metadata that travels with them.

Nothing is lost in silence. Samples that are not eight bits of grey or RGB, with or without alpha, are converted by the
rules of `read_picture`, or refused; properties.py has what becomes of everything else. Samples are not rotated: an EXIF
orientation travels with the picture. TIFF alone states the order of its rows in the file, so its samples are delivered
upright and its EXIF says so.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import IO, Any

from PIL import Image

from ..errors import InvalidImage, LimitExceeded, RefcodecError, Unsupported, UsageError
from ..limits import MAX_METADATA_BYTES, Limits, check_memory
from .colour_profile import srgb_of
from .files import detail_of, opened, transfer_error
from .picture_facts import facts_of, no_such_frame, several_frames
from .pillow_samples import opaque_dropped, pillow_samples
from .properties import Picture, from_pillow
from .rows import RawRows, raw_layout, read_raw
from .sample_depth import BYTES_PER_PIXEL as DEEP_BYTES_PER_PIXEL
from .sample_depth import DEPTH, check_depth, deep_samples, told
from .sizes import check_size

STRIPS_FROM = 1 << 26
"""Samples from which on pictures are read and written in strips where their format allows it."""

READABLE = ("PNG", "PPM", "JPEG", "MPO", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA", "PCX", "QOI")
"""Pillow formats that are read: those whose sample depth is known, and that run no external program."""

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

MAX_FRAMES = 4096
"""Frames that can be chosen from: most formats decode all frames before the one that is asked for."""

_FRAME_BYTES_PER_PIXEL = 16
"""Memory of a frame beyond that of a picture: the frames that it changes and that are restored after it."""

_READ_WHOLE = ("WEBP", "AVIF")
"""Formats whose file is in memory, twice, while it is decoded."""

logging.getLogger("PIL").addHandler(logging.NullHandler())  # exceptions repeat what would go to standard error

_pillow_lock = threading.Lock()
_patches = ExitStack()
"""Settings of Pillow and of ``warnings`` that `_pillow` has changed and restores at its end."""


def _after_fork() -> None:
    """Undo in the child what another thread of the parent had patched; that thread does not exist here."""
    global _pillow_lock
    _pillow_lock = threading.Lock()
    _patches.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def read_picture(
    source: str | os.PathLike[str] | bytes,
    limits: Limits = Limits(),
    depth: int | None = None,
    *,
    alpha: bool = True,
    frame: int | None = None,
    cmyk_to_srgb: bool = False,
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
    frame : int or None
        The frame or page to read, from 0, of a file that may hold several (GIF, APNG, WebP, AVIF, TIFF, MPO). Frames of
        animations are read as a viewer shows them. None refuses files of several, but for the exceptions above.
    cmyk_to_srgb : bool
        Convert a CMYK picture to sRGB through its ICC profile, with relative colorimetric intent and black point
        compensation. Otherwise it is refused.

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
        ``depth`` is neither 8 nor None, or the file has no such frame.
    LimitExceeded
        See `check_size`; also metadata or elements of the file beyond their bounds, and lack of memory.
    """
    where = "the given bytes" if isinstance(source, bytes) else str(source)
    with opened(source) as file:
        picture = picture_from(file, limits, where, Reading(depth, frame, cmyk_to_srgb))
    if not alpha and picture.samples.shape[2:] in ((2,), (4,)):
        raise Unsupported(
            "the picture is transparent", where=where, cause="flatten the picture onto a background first"
        )
    return picture


@dataclass(frozen=True)
class Reading:
    """How a picture is read; as the arguments of `read_picture`. Raises UsageError for values that they cannot have."""

    depth: int | None = None
    frame: int | None = None
    cmyk_to_srgb: bool = False

    def __post_init__(self) -> None:
        if self.depth is not None and (type(self.depth) is not int or self.depth != DEPTH):
            raise UsageError("the depth of a picture is 8 bits per sample", value=repr(self.depth), allowed="8 or None")
        if self.frame is not None and (type(self.frame) is not int or not 0 <= self.frame < MAX_FRAMES):
            raise UsageError("frames count from 0", frame=repr(self.frame), allowed=f"0..{MAX_FRAMES - 1}")


def picture_from(file: IO[bytes], limits: Limits, where: str, reading: Reading = Reading()) -> Picture:
    """Read a picture from an open file.

    Parameters
    ----------
    file : binary file
        Seekable or not.
    limits : Limits
    where : str
        The place that errors name.
    reading : Reading
        Frame, depth and conversions.

    Returns
    -------
    Picture

    Raises
    ------
    InvalidImage
        The file is empty.
    RefcodecError
        As `read_picture`.
    """
    with translated(where):
        file = seekable(file, limits, where)
        head = file.read(8)
        file.seek(0)
        if not head:
            raise InvalidImage("the file is empty", where=where)
        if layout := raw_layout(file, limits, where, reading.depth):
            if reading.frame:
                raise no_such_frame(where, reading.frame)
            samples, notes = read_raw(file, layout, limits, where)
            return Picture(samples, notes=notes)
        return _read_pillow(file, limits, where, reading)


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
    """Make a file seekable: read a pipe up to what any picture within the limits needs. Plain PPM has 12 bytes per
    pixel.

    Parameters
    ----------
    file : binary file
    limits : Limits
    where : str
        The place that the error names.

    Returns
    -------
    binary file
        The file itself if it is seekable, else its content in memory.

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


def _read_pillow(file: IO[bytes], limits: Limits, where: str, reading: Reading) -> Picture:
    facts = facts_of(file, where, reading.frame)
    if reading.frame and (later := _later_jpeg(file, reading.frame, limits, where)):
        return _read_pillow(later, limits, where, replace(reading, frame=None))
    check_depth(facts.bits, reading.depth, where)
    with _pillow(limits), translated(where, facts.rare), _open_readable(file, where) as image:
        whole = 2 * file.seek(0, os.SEEK_END) if image.format in _READ_WHOLE else 0
        more = (4 if reading.cmyk_to_srgb else 0) + (_FRAME_BYTES_PER_PIXEL if reading.frame else 0)

        def check(each: int) -> None:
            check_size(image.width, image.height, limits, where, each + more, whole)

        check(_BYTES_PER_PIXEL[str(image.format)])
        several = image.format not in ("TIFF", "MPO") and getattr(image, "is_animated", False)
        if several and reading.frame is None:
            raise several_frames(where)
        if reading.frame:
            _seek(image, reading.frame, where)
            check(_BYTES_PER_PIXEL[str(image.format)])  # pages of a TIFF have different sizes
        bits = _check_tiff(image, limits, where) if image.format == "TIFF" else facts.bits
        check_depth(bits, reading.depth, where)
        notes = _frame_notes(image, reading)
        if bits > DEPTH:
            if several:
                raise Unsupported("frames of more than eight bits are not reduced", where=where, bits=bits)
            check(DEEP_BYTES_PER_PIXEL)
            samples = deep_samples(image, lambda: _seek(_open_readable(file, where), reading.frame, where), bits, where)
            return from_pillow(image, where, facts, opaque_dropped(samples), (*notes, told((1 << bits) - 1)))
        image.load()
        key = image.info.get("transparency")
        if image.format == "PNG" and image.mode == "L" and isinstance(key, int) and key < 1 << facts.bits < 256:
            image.info["transparency"] = key * 255 // ((1 << facts.bits) - 1)  # Pillow scales samples of 2 and 4 bits
        if image.mode != "CMYK":
            return from_pillow(image, where, facts, None, notes)
        if not reading.cmyk_to_srgb:
            raise Unsupported(
                "only eight-bit grey and RGB are coded",
                where=where,
                mode=image.mode,
                cause="--cmyk-to-srgb (in Python cmyk_to_srgb=True) converts it through its ICC profile",
            )
        converted = pillow_samples(srgb_of(image, image.info.pop("icc_profile", None), where), where)
        return from_pillow(image, where, facts, converted, (*notes, "converted from CMYK to sRGB by its ICC profile"))


def _seek(image: Any, frame: int | None, where: str) -> Any:
    """The image at a frame, decoded as far as its format needs."""
    try:
        image.seek(frame or 0)
    except EOFError as error:
        raise no_such_frame(where, frame) from error
    return image


def _frame_notes(image: Any, reading: Reading) -> tuple[str, ...]:
    if reading.frame is None or not getattr(image, "is_animated", False):
        return ()
    return (f"frame {reading.frame} alone is read, the others are left out",)


def _later_jpeg(file: IO[bytes], frame: int, limits: Limits, where: str) -> IO[bytes] | None:
    """A later picture of an MPO, which is a JPEG by itself; None for other files."""
    jpeg = file.read(2) == b"\xff\xd8"
    file.seek(0)
    if not jpeg:
        return None
    with _pillow(limits), translated(where), _open_readable(file, where) as image:
        if image.format != "MPO":
            raise no_such_frame(where, frame)
        entries = getattr(image, "mpinfo", {}).get(0xB002, [])
        _seek(image, frame, where)  # it reads a header
        size = min(int(entries[frame]["Size"]), file.seek(0, os.SEEK_END))
        check_memory(2 * size, limits, "reading the picture", where)
        file.seek(image.offset)
        return io.BytesIO(file.read(size))


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
