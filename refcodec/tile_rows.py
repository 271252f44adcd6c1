"""Rows of tiles (SPEC 4.4): what g_a and h_s make is handed to the tiles, what the tiles make is handed to g_s.

The transforms run over the whole picture in strips. So about a row of tiles is all that is ever held of y, of the hyper
parameters and of y_hat, and memory grows with the width of a picture. Of z, which is small, all is held. A picture of
one tile is one row of one tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from .arith.engine import Engine
from .arith.maps import Map, interior
from .arith.strips import Rows
from .tiles import Tile, TileGrid, Window

CodeRow = Callable[[list[Tile]], Iterable[tuple[Tile, Map]]]
"""Codes tiles of one row: gives each with its y_hat, a map [height + 4, width + 4, M]."""


class TileRows:
    """Hands the strips that a network makes to the tiles, from the top down: y of g_a, hyper parameters of h_s.

    Parameters
    ----------
    engine : Engine
    strips : iterator of (first row, rows [n, width, channels] int16)
    channels : int
    top, left : int
        Place of the first row and column in y.
    """

    def __init__(
        self, engine: Engine, strips: Iterator[tuple[int, np.ndarray]], channels: int, top: int = 0, left: int = 0
    ) -> None:
        self._engine, self._strips, self._channels, self._left = engine, strips, channels, left
        self._top = top
        self._rows: np.ndarray | None = None
        self._first = 0

    def row(self, tiles: list[Tile]) -> list[Map]:
        """The parts of the tiles of the next row of tiles: maps [height + 4, width + 4, channels]."""
        maps = [self._engine.map(tile.height, tile.width, self._channels) for tile in tiles]
        done, end = tiles[0].top, tiles[0].top + tiles[0].height
        while done < end:
            if self._rows is None or self._first + self._rows.shape[0] <= done:
                self._rows = None  # its memory is free before the next strip takes some
                first, self._rows = next(self._strips)
                self._first = self._top + first
                continue
            rows = self._rows[done - self._first : end - self._first]
            for tile, part in zip(tiles, maps, strict=True):
                at, left = done - tile.top, tile.left - self._left
                interior(part)[at : at + rows.shape[0]] = rows[:, left : left + tile.width]
            done += rows.shape[0]
        if end == self._first + self._rows.shape[0]:  # type: ignore[union-attr]  # one or more strips were read
            self._rows = None
        return maps


def rows_of(strips: Iterator[tuple[int, np.ndarray]], height: int, width: int, channels: int) -> Rows:
    """Use the strips that one network computes as the input of another, which reads every row once and from the top
    down.

    Parameters
    ----------
    strips : iterator of (first row, np.ndarray [n, width, channels], int16)
        Consecutive strips from row 0.
    height, width, channels : int
        Of the whole map.

    Returns
    -------
    Rows
    """
    held: list[np.ndarray] = []

    def fill(first: int, out: np.ndarray) -> None:
        done = 0
        while done < out.shape[0]:
            rows = held.pop() if held else next(strips)[1]
            part = rows[: out.shape[0] - done]
            out[done : done + part.shape[0]] = part
            done += part.shape[0]
            if part.shape[0] < rows.shape[0]:
                held.append(rows[part.shape[0] :])

    return Rows(height, width, channels, fill)


def and_a_row(x: Rows) -> Rows:
    """The same rows and one of zeros: strips of g_s are up to 7.375 rows of y_hat behind, samples depend on 7."""

    def fill(first: int, out: np.ndarray) -> None:
        there = max(0, x.height - first)
        if there:
            x.fill(first, out[:there])
        out[there:] = 0

    return Rows(x.height + 1, x.width, x.channels, fill)


def y_hat_rows(engine: Engine, grid: TileGrid, part: Window, channels: int, code_row: CodeRow) -> Map | Rows:
    """A part of y_hat as the input of g_s, coded as it is read.

    Parameters
    ----------
    engine : Engine
    grid : TileGrid
    part : Window
        The part of y_hat. Only tiles that lie in it are coded.
    channels : int
        M.
    code_row : callable
        Codes tiles of one row; called for row after row.

    Returns
    -------
    map [height + 4, width + 4, M], int16, or Rows of that size
        One tile that is wanted whole is its own map, without a copy.
    """
    if grid.count == 1 and part == grid.whole:
        ((_, y_hat),) = code_row(grid.row(0, part))
        return y_hat
    held: dict[str, np.ndarray] = {}

    def fill(first: int, out: np.ndarray) -> None:
        done = 0
        while done < out.shape[0]:
            row, at = divmod(part.top + first + done, grid.tile_height)
            if at == 0 or not held:
                held.clear()  # the row before is read to its end
                held["row"] = coded_row(engine, grid.row(row, part), part, channels, code_row)
            rows = held["row"][at : at + out.shape[0] - done]
            out[done : done + rows.shape[0]] = rows
            done += rows.shape[0]

    return Rows(part.bottom - part.top, part.right - part.left, channels, fill)


def coded_row(engine: Engine, tiles: list[Tile], part: Window, channels: int, code_row: CodeRow) -> np.ndarray:
    """y_hat of a row of tiles, side by side, in the columns of a part.

    Parameters
    ----------
    engine : Engine
    tiles : list of Tile
        Of one row of the grid.
    part : Window
        Positions of y_hat that are wanted.
    channels : int
        Latent channels M.
    code_row : callable
        Yields each tile with its map y_hat.

    Returns
    -------
    np.ndarray [height, right - left, M], int16, Q6
    """
    row: np.ndarray = interior(engine.map(tiles[0].height, part.right - part.left, channels))
    for tile, y_hat in code_row(tiles):
        first, end = max(tile.left, part.left), min(tile.left + tile.width, part.right)
        row[:, first - part.left : end - part.left] = interior(y_hat)[:, first - tile.left : end - tile.left]
    return row


__all__ = ["CodeRow", "TileRows", "and_a_row", "coded_row", "rows_of", "y_hat_rows"]
