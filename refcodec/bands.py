"""Bands of a tiled picture, decoded apart (SPEC 4.4, 4.5): what several machines do for one picture.

A band is one or more whole rows of tiles. First the slice walk gives y_hat of every band, for which it needs the
segments of the band alone, and z of the tiles around it. Then g_s gives the samples of every band, from its y_hat and
that of its neighbours. So no tile is walked twice, and g_s repeats a few rows of y_hat at each border.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .arith.engine import Engine
from .arith.maps import Map, borrowed_pool, interior
from .bitstream.container import Header, parse, parse_header
from .bitstream.fields import Buffer
from .codec import ModelArgument, check_segments, stream_model
from .errors import within_resources
from .flow import HYPER_REACH, Flow, needed_for
from .limits import Limits, check_memory
from .memory import memory_estimate
from .model.integer_model import Model
from .progress import Work
from .tile_rows import coded_row
from .tiles import STRIDE, Needs, Region, Tile, TileGrid

LEAST = 32
"""Rows of y_hat of every band but the last: more than g_s reaches, so a band needs its neighbours alone."""


def tops_of(grid: TileGrid) -> range:
    """First rows of y_hat of all bands."""
    return range(0, grid.height, -(-LEAST // grid.tile_height) * grid.tile_height)


def around(grid: TileGrid, band: int) -> range:
    """The bands whose y_hat the samples of a band depend on."""
    return range(max(0, band - 1), min(len(tops_of(grid)), band + 2))


def _region(header: Header, band: int) -> Region:
    """The samples of a band."""
    tops = tops_of(header.grid)
    top, end = STRIDE * tops[band], STRIDE * (tops[band] + tops.step)
    return Region(0, top, header.width, min(header.height, end) - top)


def _check(header: Header, model: Model, needs: Needs, threads: int | None, limits: Limits) -> None:
    grid, size = header.grid, (header.width, header.height)
    estimate = memory_estimate(*size, model, channels=header.channels, threads=threads, grid=grid, part=needs.y)
    check_memory(estimate, limits, "decoding a band", width=header.width, height=header.height)


def _flow(engine: Engine, header: Header, model: Model, needs: Needs) -> Flow:
    return Flow(engine, model, header, needs, Work(model, False, needs.tiles, None))


@within_resources("decoding")
def latents_of(
    data: Buffer, band: int, *, model: ModelArgument = None, threads: int | None = None, limits: Limits | None = None
) -> np.ndarray:
    """(SPEC 4.4, 7) y_hat of a band by the slice walk; of a mapped stream no other tiles' y is read.

    Parameters
    ----------
    data : bytes-like
    band : int
    model, threads, limits
        As in `refcodec.decode`.

    Returns
    -------
    np.ndarray [h, w, M] int16
        All columns of y_hat.

    Raises
    ------
    InvalidStream, LimitExceeded, ModelError
    """
    header = parse_header(data)
    grid, found = header.grid, stream_model(header, model)
    needs = Needs.of(grid, _region(header, band), 0, HYPER_REACH)
    stream = parse(data, [tile.index for tile in needs.of_z])
    check_segments(stream, found.config, needs)
    _check(header, found, needs, threads, limits or Limits())
    with borrowed_pool(header.tiled) as pool:
        engine = Engine(found.layers, found.tables, header.quality - 1, threads, None, None, pool)
        code_row = _flow(engine, header, found, needs).decoder(stream)
        rows = range(needs.tiles[0].index // grid.columns, needs.tiles[-1].index // grid.columns + 1)
        return np.concatenate(
            [coded_row(engine, grid.row(row, grid.whole), grid.whole, found.config.M, code_row) for row in rows]
        )


@within_resources("decoding")
def samples_of(
    header: Header,
    band: int,
    latents: Sequence[np.ndarray],
    *,
    model: ModelArgument = None,
    threads: int | None = None,
    limits: Limits | None = None,
) -> np.ndarray:
    """(SPEC 4.5) Colours of a band by g_s.

    Parameters
    ----------
    header : Header
    band : int
    latents : sequence of [h, w, M] int16
        y_hat of the bands `around` it.
    model, threads, limits
        As in `refcodec.decode`.

    Returns
    -------
    np.ndarray [n, W] or [n, W, 3], uint8

    Raises
    ------
    LimitExceeded, ModelError
    """
    grid, found = header.grid, stream_model(header, model)
    needs = needed_for(grid, _region(header, band))
    _check(header, found, needs, threads, limits or Limits())
    y_hat, top = np.concatenate(latents), tops_of(grid)[around(grid, band)[0]]
    with borrowed_pool(header.tiled) as pool:
        engine = Engine(found.layers, found.tables, header.quality - 1, threads, None, None, pool)

        def known(tiles: Iterable[Tile]) -> Iterator[tuple[Tile, Map]]:
            for tile in tiles:
                part = engine.map(tile.height, tile.width, found.config.M)
                at = tile.top - top
                interior(part)[...] = y_hat[at : at + tile.height, tile.left : tile.left + tile.width]
                yield tile, part

        return np.concatenate([rows for _, rows in _flow(engine, header, found, needs).samples(known)])


__all__ = ["around", "latents_of", "samples_of", "tops_of"]
