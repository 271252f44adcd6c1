"""Tiles (SPEC 4.4): how the latents of a picture are cut, and which tiles a region of it needs.

The latents are cut, not the picture: g_a and g_s run over the whole, and so do h_a and h_s. Sizes and places are
in latent positions, 16x16 samples each, unless a name says samples.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from .errors import UsageError
from .limits import padded

STRIDE = 16
"""Samples of one latent position, in both directions (SPEC 4.2)."""

Z_STRIDE = 4
"""Positions of y for a position of z, in both directions (SPEC 6.4)."""

UNIT = 64
"""Samples of the unit in which the header gives tile sizes (SPEC 8.1): every tile has whole positions of z."""


@dataclass(frozen=True)
class Tile:
    """One tile: its index in raster order and its place in y."""

    index: int
    top: int
    left: int
    height: int
    width: int


class Region(NamedTuple):
    """A rectangle of the picture, in samples."""

    x: int
    y: int
    width: int
    height: int


class Window(NamedTuple):
    """A part of y_hat: its first row and column, and the first ones beyond it."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class TileGrid:
    """How a picture is cut.

    Attributes
    ----------
    height, width : int
        Rows and columns of y, multiples of 4.
    tile_height, tile_width : int
        Those of a tile, multiples of 4; tiles at the right and at the bottom are smaller.
    """

    height: int
    width: int
    tile_height: int
    tile_width: int

    @classmethod
    def of(cls, width: int, height: int, tile_width: int = 0, tile_height: int = 0) -> TileGrid:
        """(SPEC 4.4-1) The grid of a picture.

        Parameters
        ----------
        width, height : int
            Samples of the picture, before padding.
        tile_width, tile_height : int
            Samples of a tile, multiples of 64; 0 for one tile in this direction.

        Returns
        -------
        TileGrid
        """
        rows, columns = padded(height) // STRIDE, padded(width) // STRIDE
        return cls(
            rows, columns, min(rows, tile_height // STRIDE or rows), min(columns, tile_width // STRIDE or columns)
        )

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.height // self.tile_height)

    @property
    def columns(self) -> int:
        """Columns of tiles."""
        return -(-self.width // self.tile_width)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.rows * self.columns

    def tile(self, index: int) -> Tile:
        """(SPEC 4.4-2) The tile of an index in raster order."""
        top, left = index // self.columns * self.tile_height, index % self.columns * self.tile_width
        return Tile(index, top, left, min(self.tile_height, self.height - top), min(self.tile_width, self.width - left))

    @property
    def whole(self) -> Window:
        """All of y_hat."""
        return Window(0, self.height, 0, self.width)

    @property
    def whole_z(self) -> Window:
        """All of z, in positions of z."""
        return Window(0, self.height // Z_STRIDE, 0, self.width // Z_STRIDE)

    def window(self, region: Region, reach: int) -> Window:
        """(SPEC 4.5-3) The part of y_hat that a region's samples depend on."""
        return Window(
            max(0, region.y // STRIDE - reach),
            min(self.height, (region.y + region.height - 1) // STRIDE + reach + 1),
            max(0, region.x // STRIDE - reach),
            min(self.width, (region.x + region.width - 1) // STRIDE + reach + 1),
        )

    def row(self, row: int, part: Window) -> list[Tile]:
        """Tiles of one row of tiles that have a column of a part."""
        columns = range(part.left // self.tile_width, (part.right - 1) // self.tile_width + 1)
        return [self.tile(row * self.columns + column) for column in columns]

    def needed(self, part: Window) -> list[Tile]:
        """(SPEC 4.5-4) Tiles that hold a position of a part, in raster order."""
        rows = range(part.top // self.tile_height, (part.bottom - 1) // self.tile_height + 1)
        return [tile for row in rows for tile in self.row(row, part)]

    def z_window(self, tiles: list[Tile], reach: int) -> Window:
        """(SPEC 4.5-5) The part of z, in positions of z, that the hyper parameters of tiles depend on."""
        first, last = tiles[0], tiles[-1]
        return Window(
            max(0, first.top // Z_STRIDE - reach),
            min(self.height // Z_STRIDE, (last.top + last.height) // Z_STRIDE + reach),
            max(0, first.left // Z_STRIDE - reach),
            min(self.width // Z_STRIDE, (last.left + last.width) // Z_STRIDE + reach),
        )

    def needed_z(self, part: Window) -> list[Tile]:
        """(SPEC 4.5-5) Tiles that hold a position of a part of z, in raster order."""
        return self.needed(Window(*(Z_STRIDE * n for n in part)))


@dataclass(frozen=True)
class Needs:
    """(SPEC 4.5) What a region of a picture is decoded from.

    Attributes
    ----------
    region : Region
    y : Window
        The part of y_hat that its samples depend on.
    tiles : list of Tile
        Tiles that hold a position of it, in raster order: all of each is decoded.
    z : Window
        The part of z, in positions of z, that the hyper parameters of these tiles depend on.
    of_z : list of Tile
        Tiles that hold a position of it, in raster order.
    """

    region: Region
    y: Window
    tiles: list[Tile]
    z: Window
    of_z: list[Tile]

    @classmethod
    def of(cls, grid: TileGrid, region: Region, reach: int, hyper_reach: int) -> Needs:
        """Find what a region depends on.

        Parameters
        ----------
        grid : TileGrid
        region : Region
            In samples, inside the picture.
        reach : int
            Positions of y_hat on each side that a sample depends on through g_s.
        hyper_reach : int
            Positions of z on each side that hyper parameters depend on through h_s.

        Returns
        -------
        Needs
        """
        y = grid.window(region, reach)
        tiles = grid.needed(y)
        z = grid.z_window(tiles, hyper_reach)
        return cls(region, y, tiles, z, grid.needed_z(z))


def check_region(region: Iterable[int], width: int, height: int) -> Region:
    """(SPEC 4.5-1) Check a region of a picture.

    Parameters
    ----------
    region : iterable of 4 int
        x, y, width and height in samples.
    width, height : int
        Samples of the picture.

    Returns
    -------
    Region

    Raises
    ------
    UsageError
        They are not four integers, or the rectangle is empty or not inside the picture.
    """
    try:
        values = list(islice(region, 5))  # a fifth one is too many
        if any(isinstance(value, bool) for value in values):  # Python counts True as 1
            raise TypeError
        found = Region(*map(operator.index, values))
    except (TypeError, ValueError):
        raise UsageError("a region is x, y, width and height", value=repr(region)) from None
    if not (0 <= found.x < found.x + found.width <= width and 0 <= found.y < found.y + found.height <= height):
        raise UsageError("the region is not inside the picture", region=list(found), width=width, height=height)
    return found


__all__ = ["STRIDE", "UNIT", "Needs", "Region", "Tile", "TileGrid", "Window", "check_region"]
