"""Networks over a picture strip by strip, with the exact result of one pass (SPEC 5.1).

A network is a plain function that names operations (refcodec/nets). Called with ``Strips`` in place of the engine, it
is given the rows of its input that are there and computes the rows of every operation that follow from them; called
again with more, it goes on where it stopped. Every operation keeps the last rows of its result, so that nothing is
computed twice: what a network holds grows with the width of a picture instead of its area.

Strips are as high as memory allows, for small ones cost time: a pass over one strip of 32 rows of y_hat took 48 ms for
the convolutions of g_s, over strips of 8 rows 54, of 2 rows 62 (768x512, two threads), although the maps of small
strips stay in a core's own caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..model.layers import Conv
from .engine import Engine
from .maps import BORDER, interior
from .protocols import Network

KEEP = 4
"""Rows kept of every result. A 3x3 convolution reads 2 rows before the end of what it was given last time, a skip
around two of them as many, one around a subpixel convolution and another 3."""

STRIP = 1 << 22
"""Elements of the widest map of a strip: 16 MiB, of which a network holds about six at once."""


class Window(NamedTuple):
    """Rows ``start`` to ``end`` of a result of ``height`` rows, in a map [end - start + 4, W + 4, C]."""

    map: np.ndarray
    start: int
    end: int
    height: int

    def rows(self, first: int, count: int) -> np.ndarray:
        """A map whose interior are rows first..first + count and whose border are their neighbours."""
        assert self.start <= first and first + count <= self.end, "a strip needs rows that are gone"
        return self.map[first - self.start : first - self.start + count + 2 * BORDER]


class Strips:
    """Replaces an engine in a network that is fed strips: the same operations on windows.

    Parameters
    ----------
    engine : Engine
        Computes; its trace sees nothing, as no result is whole.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._windows: dict[str, Window] = {}

    @property
    def layers(self) -> Mapping[str, Any]:
        """The engine's layers."""
        return self._engine.layers

    def grow(
        self, name: str, end: int, height: int, width: int, channels: int, fill: Callable[[int, np.ndarray], None]
    ) -> Window:
        """Compute further rows of a result.

        Parameters
        ----------
        name : str
            The result.
        end : int
            The row behind the last one that is needed.
        height, width, channels : int
            Of the whole result.
        fill : callable(first, out)
            Computes the rows from ``first`` on into the interior of ``out``, a map [n + 4, width + 4, channels], int16.

        Returns
        -------
        Window
            The rows up to ``end``, and the last ``KEEP`` rows before the new ones.
        """
        old = self._windows.get(name)
        first = old.end if old else 0
        if old and first >= end:
            return old
        start = max(first - KEEP, old.start) if old else 0
        # The next window will have some rows more: room for them now lets the pool serve both from one block.
        rows, room = end - start, 0 if old or end == height else 2 * KEEP
        new = Window(self._engine.map(rows + room, width, channels)[: rows + 2 * BORDER], start, end, height)
        if old:
            interior(new.map)[: first - start] = interior(old.map)[start - old.start :]
        self._windows[name] = new
        if end > first:
            fill(first, new.rows(first, end - first))
        return new

    def _same(self, name: str, x: Window, compute: Callable[[np.ndarray, np.ndarray], Any]) -> Window:
        """Grow the result of an operation that works on single positions."""

        def fill(first: int, out: np.ndarray) -> None:
            compute(x.rows(first, x.end - first), out)

        return self.grow(name, x.end, x.height, x.map.shape[1] - 2 * BORDER, x.map.shape[2], fill)

    def conv(self, name: str, x: Window, *, add: Window | None = None) -> Window:
        """As ``Engine.conv``, on windows."""
        layer = self.layers[name]
        factor, channels = (2, layer.shape[0] // 4) if layer.shuffle else (1, layer.shape[0])
        limit = add.end // factor if add else x.height
        end = min(self._reached(layer, x), limit)
        step = layer.stride

        def fill(first: int, out: np.ndarray) -> None:
            count = (out.shape[0] - 2 * BORDER) // factor
            source = x.map[first // factor * step - x.start :][: count * step + 2 * BORDER]
            branch = add.rows(first, count * factor) if add else None
            self._engine.conv(name, source, add=branch, out=out)

        done = self._windows[name].end // factor if name in self._windows else 0
        assert x.start == 0 or done * step - layer.kernel // 2 >= x.start, "a strip needs rows that are gone"
        width = -(-(x.map.shape[1] - 2 * BORDER) // step) * factor
        return self.grow(name, end * factor, -(-x.height // step) * factor, width, channels, fill)

    @staticmethod
    def _reached(layer: Conv, x: Window) -> int:
        """Rows of a convolution's result (before a shuffle) whose windows are there."""
        if x.end == x.height:
            return -(-x.height // layer.stride)
        return max(0, (x.end - 1 - layer.kernel // 2) // layer.stride + 1)

    def conv_sum(self, name: str, x: Window, total: str, skip: Window) -> Window:
        """As ``Engine.conv_sum``, on windows."""
        layer = self.layers[name]

        def fill(first: int, out: np.ndarray) -> None:
            count = out.shape[0] - 2 * BORDER
            source = x.map[first - x.start :][: count + 2 * BORDER]
            self._engine.conv_sum(name, source, total, skip.rows(first, count), out=out)

        return self.grow(
            total,
            min(self._reached(layer, x), skip.end),
            x.height,
            x.map.shape[1] - 2 * BORDER,
            layer.shape[0],
            fill,
        )

    def gdn(self, name: str, x: Window) -> Window:
        """As ``Engine.gdn``."""
        return self._same(name, x, lambda rows, out: self._engine.gdn(name, rows, out=out))

    def igdn(self, name: str, x: Window) -> Window:
        """As ``Engine.igdn``."""
        return self._same(name, x, lambda rows, out: self._engine.igdn(name, rows, out=out))

    def rescale(self, name: str, x: Window) -> Window:
        """As ``Engine.rescale``."""
        return self._same(name, x, lambda rows, out: self._engine.rescale(name, rows, out=out))

    def gain(self, name: str, x: Window) -> Window:
        """As ``Engine.gain``."""
        return self._same(name, x, lambda rows, out: self._engine.gain(name, rows, out=out))


class Rows(NamedTuple):
    """An input that is made as it is needed: fill(first, out) sets rows first.. in out [n, width, channels]."""

    height: int
    width: int
    channels: int
    fill: Callable[[int, np.ndarray], None]


def strip_rows(width: int, widest: float, low: bool = False) -> int:
    """Rows of a strip of a network's input: as STRIP allows, at least 4, or 1 if ``low``.

    Parameters
    ----------
    width : int
        Positions per row of the input.
    widest, low
        As for `in_strips`.

    Returns
    -------
    int
    """
    return max(1, int(STRIP / 2 / (width * widest))) if low else max(4, int(STRIP / (width * widest)))


def in_strips(
    engine: Engine,
    network: Network,
    x: np.ndarray | Rows,
    widest: float,
    lag: int = 0,
    low: bool = False,
    further: int = 0,
) -> Iterator[tuple[int, np.ndarray]]:
    """Run a network and yield its result in pieces, from the top down.

    Parameters
    ----------
    engine : Engine
    network : callable(engine, x)
        Of convolutions, normalisations, gains and residual sums.
    x : map [H + 4, W + 4, C] or Rows
    widest : float
        Elements of the network's widest map per position of x, which limits the height of a strip. A tracing engine
        gets all at once.
    lag : int
        Number of rows by which the last operation lags behind the first. The first strip is taller and the last one
        shorter by this amount, so that the last operation always receives strips of equal height.
    low : bool
        Strips of half the height: for pictures in tiles, which may be wide.
    further : int
        Number of rows that follow those of x but are not available. Results that depend on them are not computed.

    Yields
    ------
    int
        First row.
    np.ndarray [n, W, C], int16
        Rows of the result.
    """
    height = x.height if isinstance(x, Rows) else x.shape[0] - 2 * BORDER
    width = x.width if isinstance(x, Rows) else x.shape[1] - 2 * BORDER
    strip = height if engine.trace else strip_rows(width, widest, low)
    whole = height + further
    strips, done = Strips(engine), 0
    ends = [strip + lag]
    while ends[-1] < height - max(strip - lag, 1):
        ends.append(ends[-1] + strip)
    ends = [end for end in ends if end < height] + [height]
    for end in ends:
        if isinstance(x, Rows):
            given = strips.grow("", end, whole, width, x.channels, lambda first, out: x.fill(first, interior(out)))
        else:
            given = Window(x, 0, end, whole)
        if len(ends) == 1 and whole == height:
            yield 0, interior(network(engine, given.map))
            return
        out = network(strips, given)
        if out.end > done:
            yield done, interior(out.rows(done, out.end - done))
        done = out.end
