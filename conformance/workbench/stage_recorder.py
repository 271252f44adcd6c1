"""Records what a part of the reference decoder reads and gives while it decodes a stream."""

from __future__ import annotations

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
from refcodec.slices import walk

from ..kit.errors import UsageError
from ..locate.stages import in_tile, own_name, tile_of
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
        The tile that the part is of, None without tiles and for g_s and the samples.
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
    """An engine whose trace sees y_hat/i also before each context copy is made of it."""

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
    model : Model or None to find it by the stream's fingerprint
    data : bytes
        A valid stream.
    part_name : str
        As `part_of` takes it; in a tiled stream parts of the walk have tiles/k/ before it, as stages have.

    Raises
    ------
    UsageError
        There is no such part, or no decoder runs it.
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
        raise UsageError(f"{part.name} is the encoder's: no stream tells what it read; give inputs and no stream")
    _check_tile(part, tile, header)
    decode_stream(data, model=model, threads=1, backend=backend)  # with all its limits and checks
    if _of_picture(part):
        return Recorded(model, part, header, None, *_of_synthesis(model, part, stream, backend))
    catcher = _Catcher(part)
    port, y_hat = _walked(model, stream, tile or 0, backend, catcher)
    values, result = _special(part.name, *stream.segments(tile or 0), port, y_hat) or (catcher.values, catcher.result)
    assert result is not None  # every part of a decoder has run
    return Recorded(model, part, header, tile, values, result)


def _of_picture(part: Part) -> bool:
    """Whether a part runs once over the picture and not over every tile."""
    return part.name.split("/")[0] in ("g_s", "samples")


def _check_tile(part: Part, tile: int | None, header: Header) -> None:
    """Raise UsageError unless a tile is named where the part is of one, and only there."""
    if tile is not None and (_of_picture(part) or not header.tiled):
        why = "it is of the whole picture" if _of_picture(part) else "the stream has no tiles"
        raise UsageError(f"{in_tile(tile, part.name)}: {why}, write {part.name}")
    if header.tiled and not _of_picture(part) and not (tile is not None and tile < header.tiles):
        raise UsageError(f"{part.name}: the stream has the tiles 0..{header.tiles - 1}, write tiles/k/{part.name}")


def _walked(
    model: Model, stream: Stream, tile: int, backend: str | None, catcher: _Catcher
) -> tuple[_Listening, np.ndarray]:
    """(SPEC 6.3) The walk of one tile: its port, and y_hat [h, w, M]."""
    engine = _Watched(model.layers, model.tables, stream.header.quality - 1, 1, backend, catcher)
    port = _Listening(engine.backend, *stream.segments(tile), model.tables.gaussian, model.factorized)
    place = stream.header.grid.tile(tile)
    return port, interior(walk(engine, model.config, model.medians, port, place.height, place.width)).copy()


def _of_synthesis(model: Model, part: Part, stream: Stream, backend: str | None) -> tuple[Values, np.ndarray]:
    """(SPEC 4.4-4, 6.10) What a part of g_s, or the output before stored samples, reads and gives."""
    header, catcher = stream.header, _Catcher(part)
    engine = Engine(model.layers, model.tables, header.quality - 1, 1, backend, catcher)
    grid = header.grid
    y_hat = engine.map(grid.height, grid.width, model.config.M)
    for tile in map(grid.tile, range(grid.count)):
        _, own = _walked(model, stream, tile.index, backend, _Catcher(part))
        interior(y_hat)[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = own
    catcher("y_hat", interior(y_hat))
    planes = np.clip(interior(synthesis(engine, y_hat)), 0, 255).astype(np.uint8)
    cropped = planes[: header.height, : header.width]
    catcher("samples", crop_samples(cropped, header.height, header.width, header.channels))
    assert catcher.result is not None  # every part of a decoder has run
    return catcher.values, catcher.result


def _special(name: str, z: bytes, y: bytes, port: _Listening, y_hat: np.ndarray) -> tuple[Values, np.ndarray] | None:
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
        halves = np.stack(port.symbols)
        return {"z_symbols": symbols, "y_symbols": halves.reshape(-1, 2, *halves.shape[1:])}, y_hat.copy()
    return None
