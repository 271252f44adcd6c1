"""``info STREAM --html``: which 16x16 samples of a picture cost how many bits, in which slice and tile.

The symbols are decoded as always, and each counts what it takes by the coder's tables (SPEC 7.2). Samples that are
stored without loss share the bits of their rectangle: in proportion to what each block takes alone, an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arith.checkerboard import put
from ..bitstream.container import ALPHA, LOSSLESS, Header, Stream, parse, parse_header
from ..bitstream.fields import Buffer
from ..codec import ModelArgument, decode_strips, stream_model
from ..entropy.costs import symbol_bits
from ..entropy.ports import Reader, channel_index
from ..flow import Parts
from ..limits import Limits, check_memory, check_pixels
from ..lossless.rectangles import BLOCK, Rectangle, Rectangles
from ..lossless.samples import estimated_bits
from ..model.symbol_tables import SymbolTables
from ..progress import Progress
from ..reduced import STEPS, Reduced
from ..tiles import STRIDE, Z_STRIDE, TileGrid

SHOWN = 1 << 20
"""Most samples of the picture under the map; larger pictures are reduced."""

_OTHER_MAPS = 4
"""Maps in addition to those of slices: z, what is stored, their sum, and one that is written into the page."""

_SIDE = BLOCK // STRIDE
"""Positions of a block of 64x64 samples, in both directions."""


@dataclass(frozen=True)
class BitMap:
    """Where the bits of a stream go.

    Attributes
    ----------
    stream : Stream
    grid : TileGrid
    z : [rows, columns] float32
        Bits of z for each 16x16 samples; the bits of one position of z are shared by its 4x4 positions of y.
    slices : list of [rows, columns] float32
        Bits of every slice of y.
    stored : [rows, columns] float32
        Bits of samples that are stored without loss.
    rectangles : list of (Rectangle, int)
        Rectangles that are stored without loss, and the bytes of each.
    picture : [h, w] or [h, w, C] uint8
        The decoded picture, reduced to at most ``SHOWN`` samples.
    step : int
        Samples of the picture for one that is shown, in both directions.
    """

    stream: Stream
    grid: TileGrid
    z: NDArray[np.float32]
    slices: list[NDArray[np.float32]]
    stored: NDArray[np.float32]
    rectangles: list[tuple[Rectangle, int]]
    picture: NDArray[np.uint8]
    step: int

    @property
    def layers(self) -> dict[str, NDArray[np.float32]]:
        """The maps by name, their sum first; only those that have bits."""
        named = {"z": self.z} | {f"slice {i}": bits for i, bits in enumerate(self.slices)}
        found = {name: bits for name, bits in (named | {"stored without loss": self.stored}).items() if bits.any()}
        return {"everything": np.sum(list(found.values()), axis=0, dtype=np.float32), **found} if found else {}


class _Counts:
    """Adds up the bits of symbols as they are read: z of all tiles in their order, then y."""

    def __init__(self, grid: TileGrid, slices: int) -> None:
        self._grid, self._z_tile, self._tile = grid, 0, 0
        shape = grid.height, grid.width
        self.z = np.zeros(shape, np.float32)
        self.slices = [np.zeros(shape, np.float32) for _ in range(slices)]

    def _place(self, index: int) -> tuple[slice, slice]:
        tile = self._grid.tile(index)
        return slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width)

    def add_z(self, symbols: np.ndarray, tables: SymbolTables) -> None:
        """Count z [h, w, hyper] of the next tile."""
        bits = symbol_bits(symbols, channel_index(symbols.shape), tables).sum(axis=2) / Z_STRIDE**2
        self.z[self._place(self._z_tile)] = bits.repeat(Z_STRIDE, axis=0).repeat(Z_STRIDE, axis=1)
        self._z_tile += 1

    def add_y(self, i: int, parity: int, symbols: np.ndarray, levels: np.ndarray, tables: SymbolTables) -> None:
        """Count half of slice i [h, w / 2, C] of the tile that is being decoded."""
        bits = symbol_bits(symbols, levels, tables).sum(axis=2).astype(np.float32)
        put(self.slices[i][self._place(self._tile)], parity, bits)

    def end_tile(self) -> None:
        """All slices of a tile have been read."""
        self._tile += 1


def _reader_for(counts: _Counts) -> type[Reader]:
    """Readers whose symbols are counted."""

    class Counting(Reader):
        def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
            symbols = super().z(medians, shape)
            counts.add_z(symbols, self._factorized)
            return symbols

        def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
            symbols = super().y(i, parity, levels, means)
            counts.add_y(i, parity, symbols, levels, self._gaussian)
            return symbols

        def finish(self) -> None:
            super().finish()
            counts.end_tile()

    return Counting


class _Weights:
    """Estimates what a sample of every block of 64x64 takes without loss, from strips of the decoded picture."""

    def __init__(self, header: Header, rectangles: list[tuple[Rectangle, int]]) -> None:
        self._colours, self._height = header.channels, header.height
        self.weights = np.zeros((header.grid.height // _SIDE, header.grid.width // _SIDE))
        self._wanted = np.zeros(self.weights.shape, np.bool_)
        for place, _ in rectangles:
            self._wanted[_met(place, BLOCK)] = True
        self._waiting: list[NDArray[np.uint8]] = []
        self._row = 0

    def __call__(self, first: int, rows: NDArray[np.uint8]) -> None:
        """Take a strip, [n, W] or [n, W, C]; strips come from the top down."""
        if not self._wanted.any():
            return
        colours = rows.reshape(*rows.shape[:2], -1)[:, :, : self._colours]
        self._waiting.append(colours.copy())
        held = np.concatenate(self._waiting)
        while len(held) >= BLOCK or (len(held) and first + len(rows) == self._height):
            for column in np.flatnonzero(self._wanted[self._row]).tolist():
                block = held[:BLOCK, column * BLOCK : (column + 1) * BLOCK]
                self.weights[self._row, column] = estimated_bits(np.ascontiguousarray(block)) / block.size
            held, self._row = held[BLOCK:], self._row + 1
        self._waiting = [held] if len(held) else []


def _met(place: Rectangle, side: int) -> tuple[slice, slice]:
    """Rows and columns of squares of ``side`` samples that a rectangle meets."""
    y, x, width, height = place
    return slice(y // side, -(-(y + height) // side)), slice(x // side, -(-(x + width) // side))


def _shared(start: int, length: int) -> NDArray[np.float64]:
    """Samples that an interval shares with every position of y that it meets."""
    edges = np.arange(start // STRIDE, -(-(start + length) // STRIDE) + 1) * STRIDE
    return np.diff(np.clip(edges, start, start + length)).astype(np.float64)


def _stored(weights: NDArray[np.float64], rectangles: list[tuple[Rectangle, int]]) -> NDArray[np.float32]:
    """Bits of stored samples for each 16x16 samples, from the weight of a sample in each block."""
    weights = weights.repeat(_SIDE, axis=0).repeat(_SIDE, axis=1)
    bits = np.zeros(weights.shape, np.float32)
    for place, size in rectangles:
        met = _met(place, STRIDE)
        share = weights[met] * np.outer(_shared(place.y, place.height), _shared(place.x, place.width))
        bits[met] += 8 * size * share / share.sum()
    return bits


def _rectangles(stream: Stream) -> list[tuple[Rectangle, int]]:
    """Rectangles that are stored losslessly, and their bytes."""
    header, payload = stream.header, stream.chunk(LOSSLESS)
    if payload is None:
        return []
    if header.lossless:
        return [(Rectangle(0, 0, header.width, header.height), len(payload))]
    found = Rectangles(payload, header.width, header.height, header.channels, stream.payload_start(LOSSLESS))
    return list(zip(found.places, found.sizes, strict=True))


def bit_map(
    data: Buffer,
    *,
    model: ModelArgument = None,
    threads: int | None = None,
    limits: Limits | None = None,
    backend: str | None = None,
    progress: Progress | None = None,
) -> BitMap:
    """Decode a stream and find what costs its bits.

    Parameters
    ----------
    data : bytes-like
    model, threads, limits, backend, progress
        As in `refcodec.codec.decode_strips`.

    Returns
    -------
    BitMap

    Raises
    ------
    InvalidStream, Unsupported, LimitExceeded, ModelError, UsageError
        As `refcodec.codec.decode_strips`.
    """
    limits, header = limits or Limits(), parse_header(data)
    check_pixels(header.width, header.height, limits, "byte 8 (SPEC 8.1)")
    stream = parse(data)
    grid, rectangles = header.grid, _rectangles(stream)
    found = None if header.lossless else stream_model(header, model)
    slices = found.config.slices if found else 0
    check_memory((slices + _OTHER_MAPS) * 4 * grid.height * grid.width, limits, "the map of bits")
    step = next(n for n in STEPS if header.width * header.height <= SHOWN * n * n or n == STEPS[-1])
    reduced = Reduced(header.height, header.width, step)
    counts, weights = _Counts(grid, slices), _Weights(header, rectangles)

    def place(first: int, rows: NDArray[np.uint8]) -> None:
        reduced(first, rows)
        weights(first, rows)

    decode_strips(
        data,
        place,
        model=found or model,
        threads=threads,
        limits=limits,
        backend=backend,
        progress=progress,
        parts=Parts(reader=_reader_for(counts)),
    )
    stored = _stored(weights.weights, rectangles)
    return BitMap(stream, grid, counts.z, counts.slices, stored, rectangles, reduced.samples, step)


def parts_of(found: BitMap) -> list[tuple[str, float]]:
    """Bytes of every part of the stream that has any; they sum to its size.

    Parameters
    ----------
    found : BitMap

    Returns
    -------
    list of (str, float)
        Name and bytes; those of symbols by the coder's tables.
    """
    stream = found.stream
    tables = [("z", found.z), *((f"slice {i}", bits) for i, bits in enumerate(found.slices))]
    rows = [(name, float(bits.sum(dtype=np.float64)) / 8) for name, bits in tables]
    rest = stream.segment_bytes - sum(size for _, size in rows)
    parts = [("header", float(stream.header.size)), ("index", float(stream.header.index_size))]
    if stream.segment_bytes:
        parts += [*rows, ("ends of the coder's segments", rest)]
    names = {LOSSLESS: "stored without loss", ALPHA: "alpha"}
    parts += [(names.get(tag, f"chunk {tag}"), float(len(payload))) for tag, payload in stream.chunks]
    parts += [("checksum and heads of chunks", len(stream.data) - sum(size for _, size in parts))]
    return [(name, size) for name, size in parts if size]


__all__ = ["BitMap", "bit_map", "parts_of"]
