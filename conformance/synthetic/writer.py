"""Valid streams from chosen symbols: the decoder's own walk asks for them, so every choice decodes.

The walk reports the table and the mean of every symbol of y; the chooser answers with symbols. Nothing is
predicted, rounded or searched as an encoder would: any symbol of SPEC 7.2 may stand anywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from refcodec.arith.engine import Engine
from refcodec.bitstream.container import Header, reconstruction_digest, serialise
from refcodec.codec import decode_stream
from refcodec.entropy.rans import RangeEncoder
from refcodec.limits import MAX_SYMBOL
from refcodec.model.integer_model import Model
from refcodec.model.procedural import draws
from refcodec.model.symbol_tables import SymbolTables
from refcodec.slices import walk_tiles
from refcodec.tiles import UNIT

ChooseZ = Callable[[np.ndarray, tuple[int, int, int]], np.ndarray]
"""(medians [hyper], shape [h / 4, w / 4, hyper]) -> symbols of that shape, int32."""

ChooseY = Callable[[int, int, np.ndarray, np.ndarray], np.ndarray]
"""(slice, parity, levels [h, w / 2, ch], means in Q6) -> symbols of that shape, int32."""


def no_z(medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Zeros everywhere."""
    return np.zeros(shape, np.int32)


def no_y(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Zeros everywhere; arguments and result are those of `SlicePort.y`."""
    return np.zeros(levels.shape, np.int32)


def fill_z(symbols: np.ndarray | int) -> ChooseZ:
    """Choose these symbols [.., hyper] everywhere; with [n, hyper] those of the n positions."""

    def choose_z(medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        return np.broadcast_to(symbols, (shape[0] * shape[1], shape[2]))

    return choose_z


def fill_y(symbols: np.ndarray | int) -> ChooseY:
    """Choose these symbols [.., ch] everywhere in every slice."""

    def choose_y(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        return np.broadcast_to(symbols, levels.shape)

    return choose_y


class ChosenSymbols:
    """(SPEC 6.3) A port of the walk that asks for symbols and writes them.

    Parameters
    ----------
    model : Model
    choose_z, choose_y : callables
    backend : str or None
        Of the range coder.
    """

    def __init__(self, model: Model, choose_z: ChooseZ, choose_y: ChooseY, backend: str | None = None) -> None:
        self._model, self._choose_z, self._choose_y = model, choose_z, choose_y
        self._z, self._y = RangeEncoder(backend), RangeEncoder(backend)

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """(SPEC 6.4) The chosen symbols of z, coded by channel."""
        symbols = np.ascontiguousarray(self._choose_z(medians, shape), np.int32).reshape(shape)
        channel = np.broadcast_to(np.arange(shape[2], dtype=np.int32), shape)
        self._z.put(symbols, channel, self._model.factorized)
        return symbols

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """(SPEC 6.9) Write the chosen symbols of one half of a slice; arguments and result are those of
        `SlicePort.y`.
        """
        symbols = np.ascontiguousarray(self._choose_y(i, parity, levels, means), np.int32).reshape(levels.shape)
        self._y.put(symbols, levels, self._model.tables.gaussian)
        return symbols

    def finish(self) -> tuple[bytes, bytes]:
        """The z and y segments."""
        return self._z.finish(), self._y.finish()


Choose = Callable[[str], tuple[ChooseZ, ChooseY]]
"""Prefix of the names of a tile's stages, "" for a picture of one tile (SPEC 13.1-8) -> what chooses its symbols."""


def chosen_stream(
    model: Model,
    header: Header,
    choose: Choose,
    digest: bool = True,
    chunks: tuple[tuple[str, bytes], ...] = (),
) -> bytes:
    """(SPEC 8.6) A valid stream of chosen symbols.

    Parameters
    ----------
    model : Model
    header : Header
        Its digest is put in here.
    choose : callable
        Gives what chooses the symbols of a tile.
    digest : bool
        Store the digest of the decoded samples.
    chunks : tuple of (tag, payload)

    Returns
    -------
    bytes

    Raises
    ------
    SymbolError
        A chosen symbol is out of range.
    UsageError
        A field is.
    """
    prefixes = [f"tiles/{n}/" if header.tiled else "" for n in range(header.tiles)]
    ports = [ChosenSymbols(model, *choose(prefix)) for prefix in prefixes]
    engine = Engine(model.layers, model.tables, header.quality - 1, 1)
    deque(walk_tiles(engine, model.config, model.medians, header.grid, ports), maxlen=0)
    segments = [port.finish() for port in ports]
    plain = serialise(header, segments, chunks)
    if not digest:
        return plain
    samples, _ = decode_stream(plain, model=model, threads=1)
    return serialise(replace(header, digest=reconstruction_digest(samples)), segments, chunks)


def stream_of(
    model: Model,
    width: int,
    height: int,
    channels: int = 3,
    quality: int = 1,
    choose_z: ChooseZ = no_z,
    choose_y: ChooseY = no_y,
    digest: bool = True,
    chunks: tuple[tuple[str, bytes], ...] = (),
    tile: tuple[int, int] = (0, 0),
) -> bytes:
    """(SPEC 8.6) A valid stream of symbols that are chosen in one way for every tile.

    Parameters
    ----------
    model : Model
    width, height : int
    channels : int
        1 or 3.
    quality : int
        Step, 1..100, of the model's.
    choose_z, choose_y : callables
        Give the symbols, magnitudes at most 32767; by default zeros.
    tile : (int, int)
        Width and height of the tiles in units of 64 samples; 0 and 0 for none.
    digest, chunks
        As of `chosen_stream`, with its errors.

    Returns
    -------
    bytes
    """
    header = header_of(model, width, height, channels, quality, tile)
    return chosen_stream(model, header, lambda _: (choose_z, choose_y), digest, chunks)


def header_of(
    model: Model, width: int, height: int, channels: int = 3, quality: int = 1, tile: tuple[int, int] = (0, 0)
) -> Header:
    """(SPEC 8.1) A header.

    Parameters
    ----------
    model : Model
    width, height, channels : int
        Of the picture.
    quality : int
        1..100.
    tile : (int, int)
        Width and height of the tiles in units of 64 samples, 0 for none.

    Returns
    -------
    Header
    """
    return Header(width, height, channels, quality, model.fingerprint, UNIT * tile[0], UNIT * tile[1])


STYLES = {  # shares of near, inside, edge, escape and extreme symbols, of 100
    "plain": (60, 40, 0, 0, 0),
    "edges": (20, 0, 80, 0, 0),
    "escapes": (40, 0, 10, 50, 0),
    "extremes": (0, 0, 0, 0, 100),
    "sparse": (98, 0, 0, 0, 2),
    "mixed": (40, 30, 20, 9, 1),
}
"""How often random symbols are near zero, anywhere in the table, at its ends or just outside, escapes of any length,
or of the greatest magnitude; by name."""


def shaped_symbols(seed: int, name: str, style: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(SPEC 7.2) Random symbols for tables whose regular symbols are low..high.

    Parameters
    ----------
    seed : int
    name : str
        Of the stream of numbers (SPEC B.3): the symbols are a function of seed, name, style and tables.
    style : str
        A name of ``STYLES``.
    low, high : np.ndarray
        First and last regular symbol by place, any shape.

    Returns
    -------
    np.ndarray
        int32 of that shape, magnitudes at most 32767.
    """
    shape, count = low.shape, low.size
    low, high = low.reshape(-1).astype(np.int64), high.reshape(-1).astype(np.int64)

    def drawn(what: str, start: int | np.ndarray, choices: int | np.ndarray) -> np.ndarray:
        return draws(seed, f"{name}/{what}", count, start, choices)

    kind = np.searchsorted(np.cumsum(STYLES[style]), drawn("kind", 0, 100), side="right")
    sign = 1 - 2 * drawn("sign", 0, 2)
    bits = drawn("bits", 0, 15)
    magnitude = (np.int64(1) << bits) + (drawn("rest", 0, 1 << 16) >> (16 - bits))
    edges = np.stack([low, high, low - 1, high + 1])
    made = np.select(
        [kind == 0, kind == 1, kind == 2, kind == 3],
        [
            drawn("near", -1, 3),
            drawn("inside", low, high - low + 1),
            edges[drawn("edge", 0, 4), np.arange(count)],
            sign * magnitude,
        ],
        sign * MAX_SYMBOL,
    )
    symbols: NDArray[np.int32] = np.clip(made, -MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)
    return symbols.reshape(shape)


def regular_range(tables: SymbolTables, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(SPEC 7.1) First and last regular symbol of the tables of these numbers, int64 of that shape."""
    low = tables.first.astype(np.int64)
    high = low + np.diff(tables.start.astype(np.int64)) - 3
    return low[index], high[index]


def random_stream(
    model: Model,
    seed: int,
    width: int = 64,
    height: int = 64,
    channels: int = 3,
    quality: int = 1,
    style: str = "mixed",
    digest: bool = True,
    chunks: tuple[tuple[str, bytes], ...] = (),
    tile: tuple[int, int] = (0, 0),
) -> bytes:
    """(SPEC 7.2) A valid stream of random symbols, a function of the model, the seed and the other arguments alone.

    Parameters
    ----------
    seed : int
    style : str
        A name of ``STYLES``.
    model, width, height, channels, quality, digest, chunks, tile
        As of `stream_of`.

    Returns
    -------
    bytes
    """

    def choose(prefix: str) -> tuple[ChooseZ, ChooseY]:
        def choose_z(medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
            low, high = regular_range(model.factorized, np.broadcast_to(np.arange(shape[2]), shape))
            return shaped_symbols(seed, f"{prefix}z", style, low, high)

        def choose_y(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
            low, high = regular_range(model.tables.gaussian, levels)
            return shaped_symbols(seed, f"{prefix}y/{i}/{parity}", style, low, high)

        return choose_z, choose_y

    return chosen_stream(model, header_of(model, width, height, channels, quality, tile), choose, digest, chunks)
