"""Pictures row by row, for those that need not fit into memory: binary PPM and PGM, PAM, NPY, and written PNG.

Files whose samples follow each other as they are (PPM, PGM, PAM, NPY) begin with a `Layout`. They are read whole by
`read_raw`, or in parts by `RawRows`. Writers take rows from the top down; `row_writer` chooses one.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import IO, Any, Literal, Protocol

import numpy as np

from ..errors import InvalidImage, Unsupported
from ..limits import Limits
from ..lossless.filters import Filters, filter_rows
from .files import Output, transfer_error
from .pillow_samples import opaque_dropped
from .sample_depth import check_depth, reduced, told
from .sizes import check_size

# ---------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class Layout:
    """Where the samples of a file are and how they are stored.

    Attributes
    ----------
    start : int
        Offset of the first sample.
    shape : tuple of int
        [H, W], or [H, W, C] with 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha) channels.
    dtype : np.dtype
        One or two bytes, unsigned.
    white : int
        The largest sample.
    order : "C" or "F"
        "F" if columns come first.
    """

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    white: int
    order: Literal["C", "F"] = "C"

    @property
    def channels(self) -> int:
        """Samples per pixel."""
        return self.shape[2] if len(self.shape) == 3 else 1

    @property
    def plain(self) -> bool:
        """Whether the samples are those of a picture, row by row."""
        return self.white == 255 and self.dtype.itemsize == 1 and self.order == "C"


def raw_layout(file: IO[bytes], limits: Limits, where: str, depth: int | None = None) -> Layout | None:
    """Read the beginning of a file of raw samples, and compare its length with what it announces.

    Parameters
    ----------
    file : binary file
        Seekable, at its beginning. At the end it is at the first sample.
    limits : Limits
    where : str
        The place that errors name.
    depth : int or None
        8 allows other depths, to be reduced.

    Returns
    -------
    Layout or None
        None for another kind of file; one of decimal numbers (P2, P3) is checked by its header.

    Raises
    ------
    InvalidImage, Unsupported, LimitExceeded
        As `refcodec.io.pictures.read_picture`.
    """
    head = file.read(6)
    file.seek(0)
    if head == b"\x93NUMPY":
        layout = _npy_layout(file, where, depth)
    elif head[:1] == b"P" and head[1:2] in (b"2", b"3", b"5", b"6"):
        layout = _pnm_layout(file, where, depth)
    elif head[:2] == b"P7":
        layout = _pam_layout(file, where, depth)
    else:
        return None
    height, width = layout.shape[:2]
    check_size(width, height, limits, where, 0)
    if head[1:2] in (b"2", b"3"):
        return None
    size = prod(layout.shape) * layout.dtype.itemsize
    rest = file.seek(0, os.SEEK_END) - layout.start
    if rest != size:
        raise InvalidImage(
            "the file ends early" if rest < size else "bytes follow the last sample",
            where=where,
            expected=size,
            found=rest,
            cause="the file is cut short, or holds more than one picture",
        )
    file.seek(layout.start)
    return layout


def _npy_layout(file: IO[bytes], where: str, depth: int | None) -> Layout:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise Unsupported("NPY version", where=where, version=version)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = reader(file)
    if dtype.kind != "u" or dtype.itemsize > 2 or len(shape) not in (2, 3) or shape[2:] not in ((), (2,), (3,), (4,)):
        raise Unsupported(
            "an array is read as a picture if it is uint8 [H, W], or [H, W, C] with 2 (grey and alpha), 3 (RGB) or 4 "
            "(RGB and alpha) channels",
            where=where,
            dtype=str(dtype),
            shape=list(shape),
        )
    check_depth(8 * dtype.itemsize, depth, where)
    return Layout(file.tell(), shape, dtype, (1 << 8 * dtype.itemsize) - 1, "F" if fortran_order else "C")


def _pnm_layout(file: IO[bytes], where: str, depth: int | None) -> Layout:
    magic = file.read(2)
    width, height, white = _pnm_numbers(file, where)
    decimal = magic in (b"P2", b"P3")  # Pillow reads these, and reduces them by its own rules
    return _netpbm_layout(file, (height, width, 1 if magic in (b"P2", b"P5") else 3), white, decimal, where, depth)


def _netpbm_layout(
    file: IO[bytes], shape: tuple[int, int, int], white: int, decimal: bool, where: str, depth: int | None
) -> Layout:
    """The layout of samples that begin here and have this largest value."""
    if not 1 <= white <= 65535:
        raise InvalidImage("the largest sample is not in 1..65535", where=where, maxval=white)
    if not decimal:
        check_depth(white.bit_length(), depth, where)
    if white != 255 and (decimal or depth is None):
        raise Unsupported(
            "samples are not eight bits",
            where=where,
            maxval=white,
            cause="scale the picture to 255" if decimal else "--depth 8 (in Python depth=8) scales them to 255",
        )
    dtype = np.dtype(">u2" if white > 255 else np.uint8)
    return Layout(file.tell(), shape if shape[2] > 1 else shape[:2], dtype, white)


def _pnm_numbers(file: IO[bytes], where: str) -> list[int]:
    """Width, height and maxval; the position is left on the first sample of a binary file."""
    numbers, token, comment = [], b"", False
    for _ in range(4096):  # a header is a few lines; this bounds its comments
        byte = file.read(1)
        comment = (comment or (byte == b"#" and not token)) and byte not in (b"\n", b"\r")
        if comment:
            continue
        if byte.isdigit() and len(token) < 10:
            token += byte
        elif not byte.isspace():
            break
        elif token:
            numbers.append(int(token))
            token = b""
            if len(numbers) == 3:
                return numbers
    raise InvalidImage("the PNM header is damaged", where=where, byte=file.tell())


_PAM_CHANNELS = {"BLACKANDWHITE": 1, "GRAYSCALE": 1, "GRAYSCALE_ALPHA": 2, "RGB": 3, "RGB_ALPHA": 4}
"""Channels by the tuple type of PAM, of those types whose samples are pictures."""

_PAM_HEAD = 4096
"""Longest header of a PAM file: six short lines, and comments."""


def _pam_layout(file: IO[bytes], where: str, depth: int | None) -> Layout:
    lines: list[bytes] = []
    left = _PAM_HEAD
    while left > 0 and lines[-1:] != [b"ENDHDR"] and (line := file.readline(left)):
        left -= len(line)
        lines.append(line.strip())
    fields = {line.split()[0]: line.split()[1:] for line in lines[1:-1] if line and not line.startswith(b"#")}
    numbers = [fields.get(name, [])[:1] for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")]
    numeric = all(number and number[0].isdigit() and len(number[0]) < 10 for number in numbers)
    width, height, channels, white = (int(number[0]) for number in numbers) if numeric else (0, 0, 0, 0)
    if lines[:1] != [b"P7"] or lines[-1:] != [b"ENDHDR"] or min(width, height, channels) < 1:
        raise InvalidImage("the PAM header is damaged", where=where, byte=file.tell())
    kind = b" ".join(fields.get(b"TUPLTYPE", [])).decode("ascii", "replace")
    if channels > 4 or (kind and _PAM_CHANNELS.get(kind) != channels):
        raise Unsupported(
            "the tuples of a PAM file are grey or RGB, with or without alpha",
            where=where,
            tuple_type=kind,
            channels=channels,
            allowed=_PAM_CHANNELS,
        )
    return _netpbm_layout(file, (height, width, channels), white, False, where, depth)


def read_raw(file: IO[bytes], layout: Layout, limits: Limits, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read a file of raw samples whole.

    Parameters
    ----------
    file : binary file
    layout : Layout
    limits : Limits
    where : str
        The place that errors name.

    Returns
    -------
    samples : np.ndarray [H, W] or [H, W, C], uint8
        Alpha that is 255 everywhere is dropped.
    notes : tuple of str
        Whether samples were scaled to eight bits.

    Raises
    ------
    LimitExceeded
        The picture takes too much memory.
    InvalidImage
        The file became shorter.
    """
    check_size(layout.shape[1], layout.shape[0], limits, where, _RAW_BYTES_PER_PIXEL * layout.dtype.itemsize)
    samples = np.empty(layout.shape, layout.dtype, order=layout.order)
    flat = samples.reshape(-1, order=layout.order)  # a view
    if file.readinto(flat.view(np.uint8).data) != samples.nbytes:  # type: ignore[attr-defined]  # of buffered files
        raise InvalidImage("the file ends early", where=where, cause="it was changed while it was read")
    notes = (told(layout.white),) if layout.white != 255 else ()
    return opaque_dropped(reduced(samples, layout.white) if notes else np.ascontiguousarray(samples)), notes


_RAW_BYTES_PER_PIXEL = 8
"""Memory per pixel for each byte of a sample: four samples, and as many again while their order is changed."""

_SCAN = 1 << 22
"""Bytes of alpha and colours that are looked at in one step."""


class RawRows:
    """A file of raw samples as `refcodec.planes.SampleRows`. Alpha that is 255 everywhere is dropped.

    Parameters
    ----------
    file : binary file
        Seekable.
    layout : Layout
        A plain one.
    where : str
        The place that errors name.
    """

    def __init__(self, file: IO[bytes], layout: Layout, where: str) -> None:
        self._file, self._layout, self._where = file, layout, where
        self.height, self.width = layout.shape[:2]
        self.channels = layout.channels
        if self.channels in (2, 4):
            count = max(1, _SCAN // (self.width * self.channels))
            opaque = ((self.rows(first, count)[:, :, -1] == 255).all() for first in range(0, self.height, count))
            self.channels -= all(opaque)

    def rows(self, first: int, count: int) -> np.ndarray:
        """As `SampleRows.rows`.

        Raises
        ------
        InvalidImage
            The file became shorter.
        TransferError
            Reading fails.
        """
        shape = max(0, min(count, self.height - first)), self.width, self._layout.channels
        try:
            self._file.seek(self._layout.start + first * self.width * self._layout.channels)
            data = self._file.read(prod(shape))
        except OSError as error:
            raise transfer_error("reading", self._where, error) from error
        if len(data) != prod(shape):
            raise InvalidImage("the file ends early", where=self._where, cause="it was changed while it was read")
        return np.frombuffer(data, np.uint8).reshape(shape)[:, :, : self.channels]


# ---------------------------------------------------------------------------------------------------------- writing


class RowWriter(Protocol):
    """Writes a picture from the top down."""

    def write(self, rows: np.ndarray) -> None:
        """Write the next rows, [n, W] or [n, W, C] uint8."""

    def finish(self) -> None:
        """Write what follows the last row."""


class _RawWriter:
    """Writes samples as they are."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def write(self, rows: np.ndarray) -> None:
        self._out.write(np.ascontiguousarray(rows).data)

    def finish(self) -> None:
        """Nothing follows."""


_PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's colour type by the number of channels."""

BAND = 1 << 18
"""Bytes that are filtered at once, so that they stay in a core's caches."""

IDAT = 1 << 16
"""Length of a chunk of samples, but for the last."""


class _PngWriter:
    """Writes PNG, with the filter of every row that makes the sum of magnitudes smallest."""

    def __init__(self, out: Output, height: int, width: int, channels: int, metadata: Mapping[str, bytes]) -> None:
        self._out, self._channels = out, channels
        self._above = np.zeros((width, channels), np.uint8)
        self._deflate, self._ready = zlib.compressobj(), b""
        out.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOURS[channels], 0, 0, 0))
        if profile := metadata.get("icc_profile"):
            self._chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile))
        if xmp := metadata.get("xmp"):
            self._chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        if exif := metadata.get("exif"):
            self._chunk(b"eXIf", exif)

    def _chunk(self, kind: bytes, data: bytes) -> None:
        checksum = zlib.crc32(data, zlib.crc32(kind))
        self._out.write(struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", checksum))

    def write(self, rows: np.ndarray) -> None:
        """Filter, deflate, and write whole chunks."""
        count = max(1, BAND // (rows[0].size))
        for first in range(0, rows.shape[0], count):
            band = rows[first : first + count].reshape(-1, *self._above.shape)
            self._ready += self._deflate.compress(filter_rows(band, self._above, Filters.SUM).data)
            self._above = band[-1].copy()
            while len(self._ready) >= IDAT:  # chunks that do not depend on the heights of strips
                self._chunk(b"IDAT", self._ready[:IDAT])
                self._ready = self._ready[IDAT:]

    def finish(self) -> None:
        """Write the last samples and the end."""
        self._ready += self._deflate.flush()
        for first in range(0, len(self._ready), IDAT):
            self._chunk(b"IDAT", self._ready[first : first + IDAT])
        self._chunk(b"IEND", b"")


ROW_FORMATS = ("PNM", "PAM", "NPY", "PNG")
"""Formats that are written row by row."""


def row_writer(
    out: Output, name: str, extension: str, shape: tuple[int, ...], metadata: Mapping[str, bytes], where: str
) -> RowWriter:
    """Begin a picture: write everything before its first row.

    Parameters
    ----------
    out : Output
    name : str
        One of ROW_FORMATS.
    extension : str
        Of PNM: ".pgm" holds no colour.
    shape : tuple of int
        [H, W] or [H, W, C].
    metadata : mapping
        Of PNG: "exif", "icc_profile" and "xmp".
    where : str
        The place that errors name.

    Returns
    -------
    RowWriter

    Raises
    ------
    Unsupported
        A PGM would hold colour.
    """
    height, width, channels = (*shape, 1)[:3]
    if name == "PNG":
        return _PngWriter(out, height, width, channels, metadata)
    if name == "NPY":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        out.write(header.getvalue())
        return _RawWriter(out)
    if name == "PAM":
        kind = next(kind for kind, n in reversed(_PAM_CHANNELS.items()) if n == channels)
        head = f"WIDTH {width}\nHEIGHT {height}\nDEPTH {channels}\nMAXVAL 255\nTUPLTYPE {kind}\nENDHDR\n"
        out.write(f"P7\n{head}".encode())
        return _RawWriter(out)
    if extension == ".pgm" and channels > 1:
        raise Unsupported("PGM holds no colour", where=where, cause="name the output .ppm")
    out.write(f"{'P5' if channels == 1 else 'P6'}\n{width} {height}\n255\n".encode())
    return _RawWriter(out)
