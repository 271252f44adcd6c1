"""Tiles of one row decoded at once, each on one thread (SPEC 4.4: no tile depends on another's symbols).

An operation on a tile is so short that two threads share it at 1.5 times the speed of one; two tiles at once are nearly
twice as fast. Compiled kernels release the interpreter's lock, and what is done in Python is a few percent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .arith.maps import Map
from .threads import share_rows
from .tiles import Tile


def tiles_at_once(backend: str, threads: int, count: int) -> int:
    """Number of tiles of a row that are decoded at once: one on each thread if there are enough tiles.

    Parameters
    ----------
    backend : "numba" or "numpy"
    threads : int
    count : int
        Tiles of the row.

    Returns
    -------
    int
    """
    return threads if backend == "numba" and count >= threads else 1


def side_by_side(tiles: list[Tile], decode: Callable[[int, Tile], Map]) -> Iterator[tuple[Tile, Map]]:
    """Decode tiles, each on its own thread.

    Parameters
    ----------
    tiles : list of Tile
    decode : callable(n, tile)
        Decodes tile n; two calls share nothing that either changes.

    Yields
    ------
    Tile and its y_hat

    Raises
    ------
    Exception
        What the first of the tiles that failed raised, when all are done.
    """
    maps: list[Map | None] = [None] * len(tiles)
    errors: list[Exception | None] = [None] * len(tiles)

    def work(first: int, end: int) -> None:
        for n in range(first, end):
            try:
                maps[n] = decode(n, tiles[n])
            except Exception as error:
                errors[n] = error

    share_rows(work, len(tiles), len(tiles))
    for error in filter(None, errors):
        raise error
    for n, tile in enumerate(tiles):
        y_hat, maps[n] = maps[n], None
        assert y_hat is not None
        yield tile, y_hat
