"""The flow of samples and latents through the networks, strip by strip and tile by tile (SPEC 4.2 to 4.5, 6).

Both directions end in `Flow.samples`: g_s asks for rows of y_hat, that codes a row of tiles, and for an encoder that
runs g_a as far as these tiles need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import tee
from typing import NamedTuple

import numpy as np

from .arith.engine import Engine
from .arith.maps import Map, interior
from .arith.strips import Rows
from .bitstream.container import Header, Stream, serialise
from .entropy.costs import BlockBits
from .entropy.ports import Port, Reader, Writer
from .errors import InvalidStream
from .model.integer_model import Model
from .nets.analysis import analysis_strips
from .nets.hyperprior import REACH as HYPER_REACH
from .nets.hyperprior import hyper_analysis, hyper_analysis_strips, hyper_synthesis, hyper_synthesis_strips
from .nets.synthesis import REACH, synthesis_strips
from .planes import SampleRows, crop_samples, pad_rows, padding
from .progress import Work
from .refinement import Latents
from .side_by_side import side_by_side, tiles_at_once
from .slices import walk_slices
from .tile_rows import CodeRow, TileRows, and_a_row, rows_of, y_hat_rows
from .tiles import STRIDE, Z_STRIDE, Needs, Region, Tile, TileGrid, Window

Trace = Callable[[str, np.ndarray], None]


class Parts(NamedTuple):
    """The replaceable parts of coding. Measurements (refcodec/bench/stopwatch.py) and tests exchange parts; no user
    does.
    """

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


def needed_for(grid: TileGrid, region: Region) -> Needs:
    """(SPEC 4.5) What a region of a picture is decoded from."""
    return Needs.of(grid, region, REACH, HYPER_REACH)


class Flow:
    """State that both directions share: the engine, the model, the tile grid, and the progress report.

    Parameters
    ----------
    engine : Engine
    model : Model
    header : Header
    needs : Needs
        What is wanted of the picture, and what it is coded from.
    work : Work
    parts : Parts
    """

    def __init__(
        self, engine: Engine, model: Model, header: Header, needs: Needs, work: Work, parts: Parts = Parts()
    ) -> None:
        self.engine, self.model, self.grid, self._parts = engine, model, header.grid, parts
        self._channels, self._needs, self._work = header.channels, needs, work
        self._tiled = header.tiled
        self._trace: _TileTrace | None = None
        if header.tiled and engine.trace:
            engine.trace = self._trace = _TileTrace(engine.trace)

    def _latents(self, colours: SampleRows) -> Iterator[tuple[int, np.ndarray]]:
        """(SPEC 4.2, 6.2) Strips of y of the whole picture: pad, g_a."""
        config, grid = self.model.config, self.grid
        x = Rows(
            STRIDE * grid.height, STRIDE * grid.width, 4, padding(colours.rows, colours.height, self._parts.pad_rows)
        )
        for first, rows in analysis_strips(self.engine, config, x, self._tiled):
            self._work.step("analysis", rows.shape[0] / grid.height)
            yield first, rows

    def encoder(
        self,
        colours: SampleRows,
        segments: list[tuple[bytes, bytes]],
        costs: BlockBits | None = None,
        refined: Latents | None = None,
    ) -> CodeRow:
        """(SPEC 6.4, 6.9) Encode tiles row by row.

        Parameters
        ----------
        colours : SampleRows
            The samples of the whole picture, read once from the top down.
        segments : list of (bytes, bytes)
            Receives the segments of z and y of every tile, in raster order.
        costs : BlockBits or None
            Counts the bits of every block, if given.
        refined : Latents or None
            Latents that replace those that g_a and h_a would compute.

        Returns
        -------
        callable
            From the tiles of one row of tiles to an iterator of (tile, y_hat), y_hat a map [h + 4, w + 4, M], int16,
            Q6.
        """
        model, config, engine = self.model, self.model.config, self.engine
        hyper, z = None, None
        if self._tiled or refined is not None:
            z = engine.map(self.grid.height // Z_STRIDE, self.grid.width // Z_STRIDE, config.hyper)
        if refined is not None and z is not None:
            interior(z)[...] = refined.z
            strips, of_z = iter([(0, refined.y)]), iter([(0, refined.z)])
            self._work.step("analysis", 1)
        else:
            strips = self._latents(colours)
            if z is not None:  # h_a reads ahead; copies, for a strip's own map holds rows that are not its result
                strips, ahead = tee((first, rows.copy()) for first, rows in strips)
                of_z = self._z_of(z, ahead)
        if self._tiled:
            hyper = self._hyper_rows(self._z_hat_of(of_z), self.grid.whole_z)
        latents = TileRows(engine, strips, config.M)

        def code_row(tiles: list[Tile]) -> Iterator[tuple[Tile, Map]]:
            parts = hyper.row(tiles) if hyper else []
            maps = latents.row(tiles)
            for tile in tiles:
                y = maps.pop(0)
                of_tile = hyper_analysis(engine, y) if z is None else self._part_of_z(z, tile)
                writer = self._parts.writer(engine, y, of_tile, model.tables.gaussian, model.factorized)
                port = costs.watched(writer, tile.top, tile.left) if costs else writer
                symbols = port.z(model.medians, interior(of_tile).shape)
                parts = parts or [self._hyper(engine.reconstruct(symbols, model.medians))]
                y_hat = self._walk(tile, parts.pop(0), port)
                segments.append(writer.finish())
                yield tile, y_hat

        return code_row

    def _z_of(self, z: Map, ahead: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """(SPEC 6.4) Strips of z of the whole picture from those of y, which are also put into a map."""
        y = rows_of(ahead, self.grid.height, self.grid.width, self.model.config.M)
        for first, rows in hyper_analysis_strips(self.engine, self.model.config, y):
            interior(z)[first : first + rows.shape[0]] = rows
            yield first, rows

    def _z_hat_of(self, z: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """(SPEC 6.9) Strips of z_hat from those of z."""
        for first, rows in z:
            symbols = self.engine.symbols(rows, self.model.medians)
            yield first, self.engine.reconstruct(symbols, self.model.medians).astype(np.int16)

    def _part_of_z(self, z: Map, tile: Tile) -> Map:
        """A tile's part of z."""
        top, left, height, width = (n // Z_STRIDE for n in (tile.top, tile.left, tile.height, tile.width))
        part = self.engine.map(height, width, self.model.config.hyper)
        interior(part)[...] = interior(z)[top : top + height, left : left + width]
        return part

    def _hyper(self, z_hat: np.ndarray) -> Map:
        """(SPEC 6.4) Hyper parameters of a picture of one tile."""
        given = self.engine.map(*z_hat.shape)
        interior(given)[...] = z_hat
        self.engine.show("z_hat", interior(given))
        return hyper_synthesis(self.engine, given)

    def _hyper_rows(self, z_hat: Iterator[tuple[int, np.ndarray]], part: Window) -> TileRows:
        """(SPEC 4.4, 6.4) Hyper parameters of a part of z for the tiles, from strips of z_hat."""
        config = self.model.config
        rows = rows_of(self._shown(z_hat), part.bottom - part.top, part.right - part.left, config.hyper)
        strips = hyper_synthesis_strips(self.engine, config, rows)
        return TileRows(self.engine, strips, 2 * config.M, Z_STRIDE * part.top, Z_STRIDE * part.left)

    def _shown(self, z_hat: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Strips of z_hat, which a trace sees: it gets all in one strip."""
        for first, rows in z_hat:
            self.engine.show("z_hat", rows)
            yield first, rows

    def decoder(self, stream: Stream) -> CodeRow:
        """(SPEC 7) Tiles by a decoder; an error in the segments of a tile is reported with its number."""
        config, part = self.model.config, self._needs.z
        z_hat = interior(self.engine.map(part.bottom - part.top, part.right - part.left, config.hyper))

        def reader_of(tile: Tile) -> Reader:  # made twice: held, the readers would hold copies of all segments
            tables = self.model.tables.gaussian, self.model.factorized
            return self._parts.reader(self.engine.backend, *stream.segments(tile.index), *tables)

        for tile in self._needs.of_z:
            self._read_z(tile, reader_of(tile), part, z_hat)
        hyper = self._hyper_rows(iter([(0, z_hat)]), part) if self._tiled else None
        engines: list[Engine] = []

        def decoded(engine: Engine, tile: Tile, hyper: list[Map], watched: Callable[..., Port]) -> Map:
            reader = reader_of(tile)
            with self._telling(tile):
                y_hat = walk_slices(engine, config, hyper.pop(), watched(reader, tile))
                reader.finish()
            return y_hat

        def code_row(tiles: list[Tile]) -> Iterator[tuple[Tile, Map]]:
            parts = [[part] for part in (hyper.row(tiles) if hyper else [self._hyper(z_hat)])]
            together = self._threads_of(tiles)
            while len(tiles) >= together > 1:
                while len(engines) < together:
                    engines.append(self.engine.alone())
                group, tiles = tiles[:together], tiles[together:]
                held, parts = parts[:together], parts[together:]

                def decode(n: int, tile: Tile, held: list[list[Map]] = held) -> Map:
                    return decoded(engines[n], tile, held[n], lambda port, _: port)

                yield from side_by_side(group, decode)
                self._work.walked(group)
            for tile, part in zip(tiles, parts, strict=True):
                with self._named(tile):
                    y_hat = decoded(self.engine, tile, part, self._work.watched)
                yield tile, y_hat

        return code_row

    def _threads_of(self, tiles: list[Tile]) -> int:
        """How many tiles of a row are decoded at once: one, or one on each thread."""
        at_once = tiles_at_once(self.engine.backend, self.engine.threads, len(tiles))
        return at_once if not self.engine.trace and self._parts == Parts() else 1

    def _read_z(self, tile: Tile, reader: Reader, part: Window, z_hat: np.ndarray) -> None:
        """(SPEC 7) Read z of a tile and put what lies in a part of z there, as z_hat."""
        medians, top, left = self.model.medians, tile.top // Z_STRIDE, tile.left // Z_STRIDE
        shape = (tile.height // Z_STRIDE, tile.width // Z_STRIDE, self.model.config.hyper)
        with self._telling(tile):
            found = self.engine.reconstruct(reader.z(medians, shape), medians)
        above, before = max(part.top - top, 0), max(part.left - left, 0)
        found = found[above : part.bottom - top, before : part.right - left]
        at, column = top + above - part.top, left + before - part.left
        z_hat[at : at + found.shape[0], column : column + found.shape[1]] = found

    @contextmanager
    def _telling(self, tile: Tile) -> Iterator[None]:
        """Errors of a tile's segments with its number."""
        try:
            yield
        except InvalidStream as error:
            if self._tiled:
                error.values.setdefault("tile", tile.index)
            raise

    @contextmanager
    def _named(self, tile: Tile) -> Iterator[None]:
        """(SPEC 13.1-8) Give the stages of a tile its number."""
        if self._trace:
            self._trace.prefix = f"tiles/{tile.index}/"
        yield
        if self._trace:
            self._trace.prefix = ""

    def _walk(self, tile: Tile, hyper: Map, port: Port) -> Map:
        """(SPEC 6.3) Code the slices of one tile: its y_hat."""
        with self._named(tile):
            return walk_slices(self.engine, self.model.config, hyper, self._work.watched(port, tile))

    def samples(self, code_row: CodeRow) -> Iterator[tuple[int, np.ndarray]]:
        """(SPEC 4.3, 4.5) Strips of the region's colours: y_hat as it is coded, g_s, clamp to 0..255, crop."""
        config, region, part = self.model.config, self._needs.region, self._needs.y
        y_hat = y_hat_rows(self.engine, self.grid, part, config.M, code_row)
        x, y = region.x - STRIDE * part.left, region.y - STRIDE * part.top
        further = 0 if self.engine.trace else self.grid.height - part.bottom  # a trace sees whole results
        if further and isinstance(y_hat, Rows):
            y_hat, further = and_a_row(y_hat), further - 1
        for first, planes in synthesis_strips(self.engine, config, y_hat, self._tiled, further):
            top, end = max(first, y), min(first + planes.shape[0], y + region.height)
            if top < end:  # not for rows that lie in the reach above the region, or in the padding
                rows = np.clip(planes[top - first : end - first, x : x + region.width], 0, 255).astype(np.uint8)
                yield top - y, crop_samples(rows, end - top, region.width, self._channels)
                self._work.step("synthesis", (end - top) / region.height)


__all__ = ["HYPER_REACH", "Flow", "Parts", "Trace", "needed_for"]
