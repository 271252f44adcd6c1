"""The share of the work that is done, for display to a user."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .entropy.ports import Port
from .model.integer_model import Model
from .tiles import Tile

Progress = Callable[[float], None]
"""Is given the share of the work that is done, 0 to 1."""


class Work:
    """Reports the share of the work that is done, weighed by the layer table's multiply-accumulates.

    Parameters
    ----------
    model : Model
    encoding : bool
        The work begins with g_a; decoding has none.
    tiles : iterable of Tile
        Those that are coded.
    report : callable or None
    """

    def __init__(self, model: Model, encoding: bool, tiles: Iterable[Tile], report: Progress | None) -> None:
        self._report, self._done = report, 0.0
        self._weights = dict.fromkeys(("analysis", "walk", "synthesis"), 0.0)
        for op in model.ops:
            part = {"g_a": "analysis", "g_s": "synthesis"}.get(op.name.split("/")[0], "walk")
            if encoding or part != "analysis":
                self._weights[part] += op.macs
        self._total = sum(self._weights.values())
        self._slices = model.config.slices
        self._positions = sum(tile.height * tile.width for tile in tiles)

    def step(self, part: str, share: float) -> None:
        """A share of a part is done, beyond what was reported before."""
        if self._report:
            self._done += share * self._weights[part] / self._total
            self._report(min(self._done, 1.0))

    def walked(self, tiles: Iterable[Tile]) -> None:
        """All slices of some tiles are done."""
        self.step("walk", sum(tile.height * tile.width for tile in tiles) / self._positions)

    def watched(self, port: Port, tile: Tile) -> Port:
        """The same port, which reports every half slice of a tile."""
        if self._report is None:
            return port
        return _Watched(port, self, tile.height * tile.width / self._positions / (2 * self._slices))


class _Watched:
    """A port that reports every half of a slice."""

    def __init__(self, port: Port, work: Work, share: float) -> None:
        self._port, self._work, self._share = port, work, share

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """As the port's."""
        return self._port.z(medians, shape)

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """As the port's."""
        symbols = self._port.y(i, parity, levels, means)
        self._work.step("walk", self._share)
        return symbols


__all__ = ["Progress", "Work"]
