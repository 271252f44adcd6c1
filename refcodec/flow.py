"""The flow of samples and latents through the networks, strip by strip and tile by tile (SPEC 4.2 to 4.5, 6).

Both directions end in `Flow.samples`: g_s asks for rows of y_hat, that codes a row of tiles, and for an encoder that
runs g_a as far as these tiles need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .arith.engine import Engine
from .arith.maps import Map
from .arith.strips import Rows
from .bitstream.container import Header, Stream, serialise
from .entropy.costs import BlockBits
from .entropy.ports import Port, Reader, Writer
from .errors import InvalidStream
from .model.integer_model import Model
from .nets.analysis import analysis_strips
from .nets.hyperprior import hyper_analysis
from .nets.synthesis import REACH, synthesis_strips
from .planes import SampleRows, crop_samples, pad_rows, padding
from .progress import Work
from .slices import walk
from .tile_rows import CodeRow, LatentRows, y_hat_rows
from .tiles import STRIDE, Region, Tile

Trace = Callable[[str, np.ndarray], None]


class Parts(NamedTuple):
    """What coding is built from. Measurements (refcodec/bench/stopwatch.py) and tests exchange parts; no user does."""

    engine: type[Engine] = Engine
    reader: type[Reader] = Reader
    writer: type[Writer] = Writer
    pad_rows: Callable[[np.ndarray, int, np.ndarray], None] = pad_rows
    serialise: Callable[..., bytes] = serialise


class _TileTrace:
    """(SPEC 13.1-8) A trace that names the stages of a tile ``tiles/k/...`` while that tile is coded."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self.prefix = trace, ""

    def __call__(self, name: str, values: np.ndarray) -> None:
        self._trace(self.prefix + name, values)


class Flow:
    """What both directions share: the engine, the model, how the picture is cut, and who is told.

    Parameters
    ----------
    engine : Engine
    model : Model
    header : Header
    region : Region
        What is wanted of the picture.
    work : Work
    parts : Parts
    """

    def __init__(
        self, engine: Engine, model: Model, header: Header, region: Region, work: Work, parts: Parts = Parts()
    ) -> None:
        self.engine, self.model, self.grid, self._parts = engine, model, header.grid, parts
        self._channels, self._region, self._work = header.channels, region, work
        self._tiled = header.tiled
        self._trace: _TileTrace | None = None
        if header.tiled and engine.trace:
            engine.trace = self._trace = _TileTrace(engine.trace)

    def _latents(self, colours: SampleRows) -> LatentRows:
        """(SPEC 4.2, 6.2) y of the whole picture: pad, g_a."""
        config, grid = self.model.config, self.grid
        x = Rows(
            STRIDE * grid.height, STRIDE * grid.width, 4, padding(colours.rows, colours.height, self._parts.pad_rows)
        )

        def strips() -> Iterator[tuple[int, np.ndarray]]:
            for first, rows in analysis_strips(self.engine, config, x, self._tiled):
                self._work.step("analysis", rows.shape[0] / grid.height)
                yield first, rows

        return LatentRows(self.engine, strips(), config.M)

    def encoder(
        self, colours: SampleRows, segments: list[tuple[bytes, bytes]], costs: BlockBits | None = None
    ) -> CodeRow:
        """(SPEC 6.4, 6.9) Tiles by an encoder, which adds their segments to a list and their bits to ``costs``."""
        model, latents = self.model, self._latents(colours)

        def code_row(tiles: list[Tile]) -> Iterator[tuple[Tile, Map]]:
            maps = latents.row(tiles)
            for tile in tiles:
                y = maps.pop(0)
                self._name(f"tiles/{tile.index}/")
                z = hyper_analysis(self.engine, y)
                writer = self._parts.writer(self.engine, y, z, model.tables.gaussian, model.factorized)
                y_hat = self._walk(tile, costs.watched(writer, tile.top, tile.left) if costs else writer)
                segments.append(writer.finish())
                yield tile, y_hat

        return code_row

    def decoder(self, stream: Stream) -> CodeRow:
        """(SPEC 7) Tiles by a decoder; what is wrong with the segments of a tile is told with its number."""
        model = self.model

        def code_row(tiles: list[Tile]) -> Iterator[tuple[Tile, Map]]:
            for tile in tiles:
                self._name(f"tiles/{tile.index}/")
                z, y = stream.segments(tile.index)
                try:
                    reader = self._parts.reader(self.engine.backend, z, y, model.tables.gaussian, model.factorized)
                    y_hat = self._walk(tile, reader)
                    reader.finish()
                except InvalidStream as error:
                    if stream.header.tiled:
                        error.values.setdefault("tile", tile.index)
                    raise
                yield tile, y_hat

        return code_row

    def _name(self, prefix: str) -> None:
        if self._trace:
            self._trace.prefix = prefix

    def _walk(self, tile: Tile, port: Port) -> Map:
        """(SPEC 6.3) Code one tile: its y_hat."""
        watched = self._work.watched(port, tile)
        y_hat = walk(self.engine, self.model.config, self.model.medians, watched, tile.height, tile.width)
        self._name("")
        return y_hat

    def samples(self, code_row: CodeRow) -> Iterator[tuple[int, np.ndarray]]:
        """(SPEC 4.3, 4.5) Strips of the region's colours: y_hat as it is coded, g_s, clamp to 0..255, crop."""
        config, region, part = self.model.config, self._region, self.grid.window(self._region, REACH)
        y_hat = y_hat_rows(self.engine, self.grid, part, config.M, code_row)
        x, y = region.x - STRIDE * part.left, region.y - STRIDE * part.top
        for first, planes in synthesis_strips(self.engine, config, y_hat, self._tiled):
            top, end = max(first, y), min(first + planes.shape[0], y + region.height)
            if top < end:  # not for rows that lie in the reach around the region, or in the padding
                rows = np.clip(planes[top - first : end - first, x : x + region.width], 0, 255).astype(np.uint8)
                yield top - y, crop_samples(rows, end - top, region.width, self._channels)
                self._work.step("synthesis", (end - top) / region.height)


__all__ = ["Flow", "Parts", "Trace"]
