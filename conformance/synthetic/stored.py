"""Samples without loss in every form that an encoder may choose (SPEC 8.10, 8.11), byte for byte the same everywhere.

zlib streams are made here of stored and of fixed blocks, because those of the library depend on its version.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

Pack = Callable[[bytes], bytes]
"""Bytes -> a zlib stream of them."""

SAME, GREEN, GREY, PALETTE = range(4)
"""(SPEC 8.10-3) How coded pixels become samples."""

_LONGEST, _SHORTEST = 258, 3


def zlib_stream(blocks: bytes, data: bytes) -> bytes:
    """(RFC 1950) Deflate blocks between their head and the check value of what they inflate to."""
    return b"\x78\x01" + blocks + zlib.adler32(data).to_bytes(4, "big")


def stored(data: bytes, size: int = 65535, empty: int = 0) -> bytes:
    """(RFC 1951, 3.2.4) A zlib stream of stored blocks.

    Parameters
    ----------
    data : bytes
    size : int
        Most bytes per block.
    empty : int
        Number of empty blocks before them.

    Returns
    -------
    bytes
    """
    pieces = [data[n : n + size] for n in range(0, len(data), size)] or [b""]
    blocks = [b"\0\0\0\xff\xff"] * empty
    for n, piece in enumerate(pieces, 1):
        blocks.append(struct.pack("<BHH", n == len(pieces), len(piece), 0xFFFF - len(piece)) + piece)
    return zlib_stream(b"".join(blocks), data)


def fixed(data: bytes) -> bytes:
    """(RFC 1951, 3.2.6) A zlib stream of one block of fixed codes; repeated bytes are matches at distance 1."""
    bits = ["1", "10"]  # the last block; its kind, lowest bit first
    at = 0
    while at < len(data):
        run = 0
        while at and run < _LONGEST and at + run < len(data) and data[at + run] == data[at - 1]:
            run += 1
        if run == _LONGEST:
            bits.append("11000101" + "00000")  # code 285, distance 1
        elif run >= _SHORTEST:
            run = min(run, 10)
            bits.append(f"{run - 2:07b}" + "00000")  # codes 257 to 264 of lengths 3 to 10
        else:
            run = 1
            value = data[at]
            bits.append(f"{0x30 + value:08b}" if value < 144 else f"{0x190 + value - 144:09b}")
        at += run
    text = "".join([*bits, "0000000"])
    whole = int(text[::-1], 2).to_bytes(-(-len(text) // 8), "little")
    return zlib_stream(whole, data)


def _predicted(above: np.ndarray, row: np.ndarray, at: int, number: int) -> np.ndarray:
    """(SPEC 8.10-10) The prediction of a pixel."""
    a = row[at - 1] if at else np.zeros_like(row[0])
    b = above[at]
    c = above[at - 1] if at else np.zeros_like(row[0])
    near = [abs(a + b - c - v) for v in (a, b, c)]
    paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), a, np.where(near[1] <= near[2], b, c))
    predictions: list[np.ndarray] = [np.zeros_like(a), a, b, (a + b) // 2, paeth]
    return predictions[number]


def filtered(pixels: np.ndarray, filters: Sequence[int]) -> bytes:
    """(SPEC 8.10-9) Rows of pixels [h, w, size] with these filters in turn, before they are compressed."""
    above, out = np.zeros(pixels.shape[1:], np.int64), bytearray()
    for n, row in enumerate(pixels.astype(np.int64)):
        number = filters[n % len(filters)]
        out.append(number)
        out += b"".join(
            ((row[i] - _predicted(above, row, i, number)) % 256).astype(np.uint8).tobytes() for i in range(len(row))
        )
        above = row
    return bytes(out)


def coded(samples: np.ndarray, colour: int, table: np.ndarray | None = None) -> np.ndarray:
    """(SPEC 8.10-3) Coded pixels of samples.

    Parameters
    ----------
    samples : np.ndarray [h, w, c], uint8
    colour : int
        SAME, GREEN, GREY or PALETTE.
    table : np.ndarray [n, 3], uint8, or None
        The palette, which has every colour of the samples.

    Returns
    -------
    np.ndarray [h, w, coded channels], uint8
    """
    if colour == GREEN:
        green = samples[:, :, 1]
        return np.stack([samples[:, :, 0] - green, green, samples[:, :, 2] - green], axis=2)
    if colour == GREY:
        return samples[:, :, :1]
    if colour == PALETTE:
        assert table is not None
        numbers: np.ndarray = (samples[:, :, np.newaxis] == table).all(axis=3).argmax(axis=2)
        return numbers[:, :, np.newaxis].astype(np.uint8)
    return samples


def head(colour: int, codes: bool, table: np.ndarray | None = None) -> bytes:
    """(SPEC 8.10-2, 5) The kind, and the table of a palette.

    Parameters
    ----------
    colour : int
    codes : bool
        The payload has codes, not rows.
    table : np.ndarray [n, 3], uint8, or None

    Returns
    -------
    bytes
    """
    kind = bytes([2 * colour + codes])
    return kind if table is None else kind + bytes([len(table) - 1]) + table.tobytes()


def rows(
    samples: np.ndarray,
    colour: int = SAME,
    filters: Sequence[int] = (0,),
    table: np.ndarray | None = None,
    pack: Pack = stored,
) -> bytes:
    """(SPEC 8.10-9) A payload of rows.

    Parameters
    ----------
    samples : np.ndarray [h, w, c], uint8
        With GREY the three channels are equal.
    colour : int
    filters : sequence of int
        Of the rows in turn, 0..4.
    table : np.ndarray [n, 3], uint8
        The colours, with PALETTE.
    pack : callable
        Makes the zlib stream.

    Returns
    -------
    bytes
    """
    return head(colour, False, table) + pack(filtered(coded(samples, colour, table), filters))


def packed_codes(codes: np.ndarray, bits: int, rest: int = 0) -> np.ndarray:
    """(SPEC 8.10-17) Pack codes into bytes.

    Parameters
    ----------
    codes : np.ndarray [h, w]
    bits : int
        Bits per code: 1, 2, 4 or 8.
    rest : int
        Code that is repeated in the bits left over.

    Returns
    -------
    np.ndarray [h, ceil(w bits / 8), 1], uint8
    """
    each = 8 // bits
    wide = np.full((codes.shape[0], -(-codes.shape[1] // each) * each), rest, np.int64)
    wide[:, : codes.shape[1]] = codes
    parts = wide.reshape(codes.shape[0], -1, each) << np.arange(8 - bits, -1, -bits)
    return np.asarray(parts.sum(axis=2), np.uint8)[:, :, np.newaxis]


def codes(
    numbers: np.ndarray,
    bits: int,
    neighbours: int,
    listed: int,
    colours: bytes,
    colour: int = SAME,
    table: np.ndarray | None = None,
    filters: Sequence[int] = (0,),
    rest: int = 0,
    pack: Pack = stored,
) -> bytes:
    """(SPEC 8.10-13) A payload of codes.

    Parameters
    ----------
    numbers : np.ndarray [h, w]
        The codes.
    bits, neighbours, listed : int
        Bits of a code, bits of the neighbours that have one, number of listed colours.
    colours : bytes
        What the second zlib stream inflates to.
    rest : int
        Code in the bits behind the last one of a row.
    colour, table, filters, pack
        As of `rows`; the filters are those of the rows of codes.

    Returns
    -------
    bytes
    """
    first = pack(filtered(packed_codes(numbers, bits, rest), filters))
    form = bytes([neighbours | (bits.bit_length() - 1) << 4, listed]) + len(first).to_bytes(4, "little")
    return head(colour, True, table) + form + first + pack(colours)


def rectangles(places: Iterable[tuple[int, int, int, int]], payloads: Sequence[bytes]) -> bytes:
    """(SPEC 8.11) A payload of LOSS from places (x, y, width, height) and payloads of samples."""
    entries = [struct.pack("<5I", *place, len(payload)) for place, payload in zip(places, payloads, strict=True)]
    return len(entries).to_bytes(4, "little") + b"".join([*entries, *payloads])
