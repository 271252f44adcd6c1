"""Records what a part of the reference decoder reads and gives while it decodes a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refcodec.arith.engine import Engine
from refcodec.arith.maps import interior
from refcodec.bitstream.container import Header, Stream, parse
from refcodec.codec import decode_stream, stream_model
from refcodec.entropy.ports import Reader
from refcodec.model.integer_model import Model
from refcodec.nets.synthesis import synthesis
from refcodec.planes import crop_samples
from refcodec.slices import walk_tiles
from refcodec.tiles import Tile

from ..kit.errors import UsageError
from ..locate.stages import in_tile, of_picture, own_name, tile_of
from .stage_runner import Part, Values, part_of


@dataclass(frozen=True)
class Recorded:
    """A part of a decoding.

    Attributes
    ----------
    model : Model
    part : Part
    header : Header
        Of the stream.
    tile : int or None
        The tile that the part is of, None without tiles and for parts of the whole picture.
    values : dict of str to np.ndarray
        The part's inputs.
    result : np.ndarray
    """

    model: Model
    part: Part
    header: Header
    tile: int | None
    values: Values
    result: np.ndarray


class _Watched(Engine):
    """An engine whose trace also records y_hat/i before each context copy is built from it."""

    def rescale(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 5.4) As the engine's."""
        if name.startswith("ctx/"):
            self.show(f"y_hat/{name[4:]}", interior(x))
        return super().rescale(name, x, out)


class _Listening(Reader):
    """A reader that keeps table numbers and symbols."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.levels: list[np.ndarray] = []
        self.symbols: list[np.ndarray] = []

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols of z."""
        self.z_symbols = super().z(medians, shape)
        return self.z_symbols

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Symbols of one half of a slice."""
        self.levels.append(levels.copy())
        self.symbols.append(super().y(i, parity, levels, means))
        return self.symbols[-1]

    @property
    def y_symbols(self) -> np.ndarray:
        """All symbols of y: [slices, 2, rows, columns / 2, ch]."""
        halves = np.stack(self.symbols)
        return halves.reshape(-1, 2, *halves.shape[1:])


@dataclass
class _Catcher:
    """A trace that keeps a part's inputs as they are when its first operation runs, and the result of its last."""

    part: Part
    seen: int = 0
    latest: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    result: np.ndarray | None = None

    def __call__(self, name: str, found: np.ndarray) -> None:
        """Take one result."""
        first, last = (self.part.ops[n].name for n in (0, -1)) if self.part.ops else ("samples", "samples")
        if name == first:
            if self.seen == self.part.turn:
                self.values = dict(self.latest)
            self.seen += 1
        if name == last and self.seen == self.part.turn + 1 and self.result is None:
            self.result = found.copy()
        if name in self.part.inputs:
            self.latest[name] = found.copy()
        if name == "h_s/4" and "hyper_means" in self.part.inputs:
            self.latest["hyper_means"] = found[:, :, found.shape[2] // 2 :].copy()


def record(model: Model | None, data: bytes, part_name: str, backend: str | None = None) -> Recorded:
    """Decode a stream and keep what one part reads and gives.

    Parameters
    ----------
    model : Model or None
        None to find it by the stream's fingerprint.
    data : bytes
        A valid stream.
    part_name : str
        As `part_of` takes it; in a tiled stream parts of the coder and of the walk have tiles/k/ before it.
    backend : "numba", "numpy" or None
        None for ``REFCODEC_BACKEND``.

    Returns
    -------
    Recorded

    Raises
    ------
    UsageError
        The part does not exist, or no decoder runs it.
    RefcodecError
        The stream does not decode.
    """
    stream = parse(data)
    header = stream.header
    if header.lossless:
        raise UsageError("the picture is stored without loss: no part of the networks runs")
    model = stream_model(header, model)
    tile, part = tile_of(part_name), part_of(model, own_name(part_name))
    if part.name.split("/")[0] in ("g_a", "y", "h_a", "z"):
        raise UsageError(f"{part.name} is the encoder's: no stream holds its inputs; give inputs and no stream")
    _check_tile(part, tile, header)
    decode_stream(data, model=model, threads=1, backend=backend)  # with all its limits and checks
    catcher = _Catcher(part)
    ports, y_hat = _walked(model, stream, tile, backend, catcher)
    if part.name.split("/")[0] in ("g_s", "samples"):
        return Recorded(model, part, header, None, *_of_synthesis(model, part, header, y_hat, backend))
    k = tile or 0
    found = _special(part.name, *stream.segments(k), ports[k], catcher.latest, y_hat[k])
    values, result = found or (catcher.values, catcher.result)
    assert result is not None  # every part of a decoder has run
    return Recorded(model, part, header, tile, values, result)


def read_symbols(model: Model, data: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """(SPEC 7.4) The symbols of every tile of a valid stream; none of a picture that is stored without loss.

    Returns
    -------
    list of (z [rows / 4, columns / 4, hyper], y [slices, 2, rows, columns / 2, ch]), int32
        Of each tile; anchors come first.
    """
    stream = parse(data)
    ports = [] if stream.header.lossless else _walked(model, stream, None, None, lambda name, values: None)[0]
    return [(port.z_symbols, port.y_symbols) for port in ports]


def _check_tile(part: Part, tile: int | None, header: Header) -> None:
    """Raise UsageError unless a tile is named where the part is of one, and only there."""
    whole = of_picture(part.name)
    if tile is not None and (whole or not header.tiled):
        why = "it is of the whole picture" if whole else "the stream has no tiles"
        raise UsageError(f"{in_tile(tile, part.name)}: {why}, write {part.name}")
    if header.tiled and not whole and not (tile is not None and tile < header.tiles):
        raise UsageError(f"{part.name}: the stream has the tiles 0..{header.tiles - 1}, write tiles/k/{part.name}")


@dataclass
class _OfTile:
    """A trace that passes on the stages of one tile, of h_s what the tile reads; all stages if there is no tile."""

    trace: Callable[[str, np.ndarray], None]
    tile: Tile | None
    walked: int = 0

    def __call__(self, name: str, values: np.ndarray) -> None:
        """Take one result."""
        if self.tile is None or (self.walked == self.tile.index and not of_picture(name)):
            self.trace(name, values)
        elif name == "h_s/4":
            top, left, height, width = self.tile.top, self.tile.left, self.tile.height, self.tile.width
            self.trace(name, values[top : top + height, left : left + width])


def _walked(
    model: Model, stream: Stream, tile: int | None, backend: str | None, trace: Callable[[str, np.ndarray], None]
) -> tuple[list[_Listening], list[np.ndarray]]:
    """(SPEC 6.3) The walk of all tiles, one of which is traced: their ports, and their y_hat [h, w, M]."""
    header = stream.header
    see = _OfTile(trace, None if tile is None else header.grid.tile(tile))
    engine = _Watched(model.layers, model.tables, header.quality - 1, 1, backend, see)
    ports = [
        _Listening(engine.backend, *stream.segments(k), model.tables.gaussian, model.factorized)
        for k in range(header.tiles)
    ]
    y_hat = []
    for _, own in walk_tiles(engine, model.config, model.medians, header.grid, ports):
        y_hat.append(interior(own).copy())
        see.walked += 1
    return ports, y_hat


def _of_synthesis(
    model: Model, part: Part, header: Header, parts: list[np.ndarray], backend: str | None
) -> tuple[Values, np.ndarray]:
    """(SPEC 4.4-4, 6.10) What a part of g_s, or the output before stored samples, reads and gives."""
    catcher, grid = _Catcher(part), header.grid
    engine = Engine(model.layers, model.tables, header.quality - 1, 1, backend, catcher)
    y_hat = engine.map(grid.height, grid.width, model.config.M)
    for tile, own in zip(map(grid.tile, range(grid.count)), parts, strict=True):
        interior(y_hat)[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = own
    catcher("y_hat", interior(y_hat))
    planes = np.clip(interior(synthesis(engine, y_hat)), 0, 255).astype(np.uint8)
    cropped = planes[: header.height, : header.width]
    catcher("samples", crop_samples(cropped, header.height, header.width, header.channels))
    assert catcher.result is not None  # every part of a decoder has run
    return catcher.values, catcher.result


def _special(
    name: str, z: bytes, y: bytes, port: _Listening, seen: Values, y_hat: np.ndarray
) -> tuple[Values, np.ndarray] | None:
    """Inputs and outputs of a part that is not an operation; None for the others."""
    symbols = port.z_symbols
    if name == "coder/z":
        numbers = np.broadcast_to(np.arange(symbols.shape[2], dtype=np.int32), symbols.shape)
        return {"segment": np.frombuffer(z, np.uint8), "tables": numbers.reshape(-1)}, symbols.reshape(-1)
    if name == "coder/y":
        numbers = np.concatenate([levels.reshape(-1) for levels in port.levels])
        return (
            {"segment": np.frombuffer(y, np.uint8), "tables": numbers},
            np.concatenate([s.reshape(-1) for s in port.symbols]),
        )
    if name == "walk":
        return {"h_s/4": seen["h_s/4"], "y_symbols": port.y_symbols}, y_hat
    return None
