"""Reads a decoder's output strictly: the requested format, the size in the vector, nothing behind it."""

from __future__ import annotations

import io
import os
import re
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..kit import blocks
from ..kit.npy import read_header
from ..kit.reading import NotPlain, TooLarge, read_plain
from ..kit.text import printable
from ..kit.vectors import Accept

FORMATS = ("pnm", "png", "npy", "raw")
"""Formats that can be requested of a decoder: PGM, PPM or with alpha PAM; PNG; NPY of uint8 [H, W] or [H, W, C];
samples without a header. Alpha is the last channel of 2 or 4.

They are endings of the output's name, too, by which many decoders choose.
"""

SPARE = 1 << 20
"""Bytes that headers and metadata may take in addition to the samples."""

_PNM = re.compile(
    rb"P([56])((?:\s|#[^\n\r]*[\n\r])+)(\d{1,7})(?:\s|#[^\n\r]*[\n\r])+(\d{1,7})"
    rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,5})\s"
)

_PAM = re.compile(rb"P7\n((?:[^\n]*\n){1,99}?)ENDHDR\n")
_PAM_LINE = re.compile(r"(WIDTH|HEIGHT|DEPTH|MAXVAL)[ \t]+(\d{1,7})[ \t]*|(TUPLTYPE)[ \t]+(\w{1,20})[ \t]*")

TUPLE_TYPES = {1: "GRAYSCALE", 2: "GRAYSCALE_ALPHA", 3: "RGB", 4: "RGB_ALPHA"}
"""Of a PAM file, by channels."""

_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""Channels of a PNG file by its type of colour."""


class OutputWrong(ValueError):
    """The file that a decoder wrote is not the picture it was asked for; the text says why."""


def _expect_size(width: int, height: int, channels: int, expect: Accept) -> None:
    if (width, height, channels) != (expect.width, expect.height, expect.channels):
        raise OutputWrong(
            f"the picture is {width}x{height} with {channels} channels, "
            f"expected {expect.width}x{expect.height} with {expect.channels}"
        )


def _exactly(samples: bytes, expect: Accept) -> bytes:
    if len(samples) < expect.count:
        raise OutputWrong(f"{expect.count - len(samples)} of {expect.count} samples are missing")
    if len(samples) > expect.count:
        raise OutputWrong(f"{len(samples) - expect.count} bytes follow the picture")
    return samples


def _expect_top(top: int) -> None:
    if top != 255:
        raise OutputWrong(f"the largest sample is given as {top}, expected 255")


def _read_pnm(data: bytes, expect: Accept) -> bytes:
    if data.startswith(b"P7"):
        return _read_pam(data, expect)
    header = _PNM.match(data)
    if header is None:
        raise OutputWrong("not a binary PGM, PPM or PAM file")
    kind, _, width, height, top = header.groups()
    _expect_size(int(width), int(height), 1 if kind == b"5" else 3, expect)
    _expect_top(int(top))
    return _exactly(data[header.end() :], expect)


def _read_pam(data: bytes, expect: Accept) -> bytes:
    header = _PAM.match(data)
    if header is None:
        raise OutputWrong("not a PAM file: its header does not end with ENDHDR")
    fields = dict[str, str]()
    for line in header[1].decode("latin-1").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        found = _PAM_LINE.fullmatch(line)
        if found is None or (found[1] or found[3]) in fields:
            raise OutputWrong(f"a line of the PAM header is unknown or there twice: {printable(line[:40])!r}")
        fields[found[1] or found[3]] = found[2] or found[4]
    if missing := [n for n in ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL", "TUPLTYPE") if n not in fields]:
        raise OutputWrong(f"the PAM header has no {missing[0]}")
    width, height, channels = (int(fields[name]) for name in ("WIDTH", "HEIGHT", "DEPTH"))
    _expect_size(width, height, channels, expect)
    _expect_top(int(fields["MAXVAL"]))
    if fields["TUPLTYPE"] != TUPLE_TYPES[channels]:
        raise OutputWrong(f"the tuple type is {fields['TUPLTYPE']}, expected {TUPLE_TYPES[channels]}")
    return _exactly(data[header.end() :], expect)


def _png_end(data: bytes) -> int:
    """Where a PNG file ends; its chunks are walked and checked."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise OutputWrong("not a PNG file")
    at = 8
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise OutputWrong("a chunk of the PNG file has a wrong checksum")
        if kind == b"acTL":
            raise OutputWrong("the PNG file is animated")
        if kind == b"IEND":
            return end
        at = end
    raise OutputWrong("the PNG file is cut short")


def _read_png(data: bytes, expect: Accept) -> bytes:
    end = _png_end(data)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            depth, colour = data[24:26]  # of IHDR, which Pillow has checked
            channels = _PNG_CHANNELS.get(colour, 0)
            if depth != 8 or not channels:
                says = f"{depth} bits of colour type {colour}"
                raise OutputWrong(f"the PNG file holds {says}, expected 8 bits of type 0, 2, 4 or 6")
            width, height = picture.size
            _expect_size(width, height, channels, expect)
            samples: bytes = picture.tobytes()
    except OutputWrong:
        raise
    except Exception as error:  # Pillow raises IndexError, struct.error and others for damaged chunks
        raise OutputWrong(f"the PNG file cannot be read: {type(error).__name__}: {error}") from error
    if end < len(data):
        raise OutputWrong(f"{len(data) - end} bytes follow the picture")
    return samples


def _read_npy(data: bytes, expect: Accept) -> bytes:
    try:
        header = read_header(data, versions=(1, 2))
    except ValueError as error:
        raise OutputWrong(f"not a NPY file of version 1.0 or 2.0: {error}") from error
    shape, by_columns = header.shape, header.by_columns
    if header.dtype != np.uint8 or (by_columns and len(shape) > 1):
        raise OutputWrong(f"the array is {header.dtype}{' by columns' if by_columns else ''}, expected uint8 by rows")
    if len(shape) not in (2, 3):
        raise OutputWrong(f"the array has shape {shape}, expected [H, W] or [H, W, C]")
    _expect_size(shape[1], shape[0], shape[2] if len(shape) == 3 else 1, expect)
    return _exactly(data[header.start :], expect)


_READERS = {"pnm": _read_pnm, "png": _read_png, "npy": _read_npy, "raw": _exactly}


def read_picture(path: Path, form: str, expect: Accept) -> bytes:
    """The samples of a file: rows from the top, channels interleaved.

    Parameters
    ----------
    path : Path
    form : str
        One of `FORMATS`.
    expect : Accept
        Size and channels; nothing larger is read.

    Returns
    -------
    bytes

    Raises
    ------
    OutputWrong
        There is no file, or it is not that picture. No content of the file gives another exception.
    """
    try:
        data = read_plain(path, 2 * expect.count + SPARE, links=False)
    except FileNotFoundError as error:
        raise OutputWrong("no output was written") from error
    except NotPlain as error:
        raise OutputWrong("the output is not a plain file") from error
    except TooLarge as error:
        raise OutputWrong(f"the output is too large for {expect.count} samples: {error.strerror}") from error
    except OSError as error:
        raise OutputWrong(f"the output cannot be read: {error.strerror}") from error
    if not data:
        raise OutputWrong("the output is empty")
    return _READERS[form](data, expect)


def left_something(path: Path) -> bool:
    """Whether there is an output that is not an empty file."""
    try:
        facts = os.lstat(path)
    except OSError:
        return False
    return not stat.S_ISREG(facts.st_mode) or facts.st_size > 0


@dataclass(frozen=True)
class Difference:
    """How two pictures of one size differ.

    Attributes
    ----------
    count : int
        Samples that differ.
    total : int
    largest : int
    row, column, channel : int
        The first that differs, in the order of rows.
    expected, got : int
        Its two values.
    """

    count: int
    total: int
    largest: int
    row: int
    column: int
    channel: int
    expected: int
    got: int


def _arrays(expected: bytes, got: bytes, expect: Accept) -> tuple[np.ndarray, np.ndarray]:
    shape = (expect.height, expect.width, expect.channels)
    return tuple(
        np.frombuffer(data, np.uint8).reshape(shape).astype(np.int16)  # type: ignore[return-value]
        for data in (expected, got)
    )


def difference(expected: bytes, got: bytes, expect: Accept) -> Difference | None:
    """Compare two pictures.

    Parameters
    ----------
    expected, got : bytes
        Samples: rows from the top, channels interleaved.
    expect : Accept
        Size and channels.

    Returns
    -------
    Difference or None
        None if they are equal.
    """
    a, b = _arrays(expected, got, expect)
    apart = np.abs(a - b)
    count = int(np.count_nonzero(apart))
    if not count:
        return None
    row, column, channel = (int(n) for n in np.unravel_index(int(np.argmax(apart != 0)), apart.shape))
    return Difference(
        count,
        apart.size,
        int(apart.max()),
        row,
        column,
        channel,
        int(a[row, column, channel]),
        int(b[row, column, channel]),
    )


@dataclass(frozen=True)
class BlockDifference:
    """How a picture differs from one of which only digests of blocks are known.

    Attributes
    ----------
    count, total : int
        Blocks that differ, and all.
    side : int
        Rows and columns of a block.
    row, column : int
        Of the first pixel of the first block that differs, in raster order.
    """

    count: int
    total: int
    side: int
    row: int
    column: int


def block_difference(got: bytes, expect: Accept) -> BlockDifference | None:
    """Compare a picture with digests of blocks; None if these tell nothing."""
    if not expect.blocks:
        return None
    apart, block = blocks.differing(expect, got), blocks.side(expect.width, expect.height)
    if not apart.any():
        return None
    row, column = (int(n) * block for n in np.argwhere(apart)[0])
    return BlockDifference(int(np.count_nonzero(apart)), apart.size, block, row, column)


MAP_SIDE = 256
"""Most pixels of a heat map's side."""

_STOPS = np.array([(16, 18, 24), (60, 90, 230), (210, 40, 80), (250, 160, 40), (255, 250, 200)], np.float64)
"""Colours of differences 0, 1, 6, 40 and 255: even steps of their logarithm, and any difference is seen."""


def heat_map(expected: bytes, got: bytes, expect: Accept) -> bytes:
    """Draw the largest difference of every pixel, or of every block of pixels in large pictures.

    Parameters
    ----------
    expected, got : bytes
        Samples: rows from the top, channels interleaved.
    expect : Accept
        Size and channels.

    Returns
    -------
    bytes
        A PNG file.
    """
    a, b = _arrays(expected, got, expect)
    apart = np.abs(a - b).max(axis=2)
    block = -(-max(apart.shape) // MAP_SIDE)
    apart = np.pad(apart, [(0, -n % block) for n in apart.shape])
    rows, columns = (n // block for n in apart.shape)
    return _drawn(apart.reshape(rows, block, columns, block).max(axis=(1, 3)))


def block_map(got: bytes, expect: Accept) -> bytes:
    """The blocks that differ, all of one colour, as a PNG file: a cell for each block."""
    return _drawn(255 * blocks.differing(expect, got).astype(np.int16))


def _drawn(apart: np.ndarray) -> bytes:
    """Differences [rows, columns] of 0..255 as a PNG file."""
    rows, columns = apart.shape
    place = np.where(apart == 0, 0.0, 1 + 3 * np.log(np.maximum(apart, 1)) / np.log(255))
    colours = np.stack([np.interp(place, range(len(_STOPS)), _STOPS[:, c]) for c in range(3)], axis=2)
    enlarge = max(1, 128 // max(rows, columns))
    pixels = colours.round().astype(np.uint8).repeat(enlarge, 0).repeat(enlarge, 1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()
