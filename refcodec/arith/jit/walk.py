"""Kernel versions of the small steps of the slice walk (SPEC 6.3, 6.8, 6.9), with the arguments of Engine's methods.

In NumPy each is half a dozen passes over arrays that come fresh from the system; all of a slice's together took as
long as its entropy parameters. None is worth a second thread.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from ...model.layers import Rescale
from ...model.tables import Tables
from ..maps import interior
from .addresses import place_of
from .kernels.words import HalfWords, PlaceWords, RefineWords, SplitWords, filled
from .native.loader import Kernel
from .team import address

_split, _place, _refine, _half, _clear_border = (
    Kernel(f"walk.{name}") for name in ("split", "place", "refine", "half", "clear_border")
)

_levels: WeakKeyDictionary[Tables, np.ndarray] = WeakKeyDictionary()


def _level_of(tables: Tables) -> np.ndarray:
    """Level of every scale from 0 to the last threshold, uint8."""
    found = _levels.get(tables)
    if found is None:
        scales = np.arange(int(tables.thresholds[-1]) + 1)
        found = _levels[tables] = np.searchsorted(tables.thresholds, scales, side="right").astype(np.uint8)
    return found


def _run(kernel: Kernel, rows: int, task: tuple[int, ...]) -> None:
    """All rows of a task on this thread."""
    a = filled(task)
    kernel.call(address(a), 0, rows)


def levels_and_means(parameters: np.ndarray, tables: Tables, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """(SPEC 6.8) Levels of the scales, and means; arguments and result are those of `FusedOps.levels_and_means`.

    A scale below 0 has level 0, as the thresholds are positive.
    """
    inner = interior(parameters)
    height, width, channels = inner.shape[0], inner.shape[1], inner.shape[2] // 2
    levels, means = np.empty((height, width, channels), np.int32), np.empty((height, width, channels), np.int32)
    level_of = _level_of(tables)
    start, row, column = place_of(inner)
    task = SplitWords(
        parameters=start,
        row=row,
        column=column,
        level_of=address(level_of),
        top=level_of.size - 1,
        limit=limit,
        levels=address(levels),
        means=address(means),
        width=width,
        channels=channels,
    )
    _run(_split, height, task)
    return levels, means


def _half_of(
    y_hat: np.ndarray, parity: int, limit: int, layer: Rescale, current: np.ndarray, shape: tuple[int, ...]
) -> dict[str, int]:
    """The words by which kernels reach one half of y_hat and its context copy, both maps."""
    start, row, column = place_of(interior(y_hat))
    copy, copy_row, copy_column = place_of(interior(current))
    return {
        "parity": parity,
        "limit": limit,
        "shift": layer.shift,
        "top": layer.limit,
        "width": shape[1],
        "channels": shape[2],
        "y_hat": start,
        "row": row,
        "column": column,
        "current": copy,
        "current_row": copy_row,
        "current_column": copy_column,
    }


def place(
    symbols: np.ndarray,
    means: np.ndarray,
    parity: int,
    frac: int,
    limit: int,
    y_hat: np.ndarray,
    layer: Rescale,
    current: np.ndarray,
) -> None:
    """(SPEC 6.9) Symbols and means into one half of y_hat; arguments are those of `FusedOps.place`."""
    symbols, means = np.ascontiguousarray(symbols, np.int32), np.ascontiguousarray(means, np.int32)
    task = PlaceWords(
        symbols=address(symbols),
        means=address(means),
        up=frac,
        **_half_of(y_hat, parity, limit, layer, current, symbols.shape),
    )
    _run(_place, len(symbols), task)


def refine(
    residual: np.ndarray,
    table: np.ndarray,
    parity: int,
    limit: int,
    y_hat: np.ndarray,
    layer: Rescale,
    current: np.ndarray,
) -> None:
    """(SPEC 6.9) Add 0.5 tanh of a packed map to one half of y_hat; arguments are those of `FusedOps.refine`.

    ``table[0]`` is 0, so that the sign of a zero does not matter.
    """
    inner = interior(residual)
    source, source_row, source_column = place_of(inner)
    task = RefineWords(
        residual=source,
        residual_row=source_row,
        residual_column=source_column,
        table=address(table),
        last=table.size - 1,
        **_half_of(y_hat, parity, limit, layer, current, inner.shape),
    )
    _run(_refine, len(inner), task)


def clear_border(out: np.ndarray) -> None:
    """As ``maps.clear_border``: in NumPy the four ranges cost more than what many a map is made for."""
    height, width, channels = out.shape
    _clear_border.call(address(out), height, width << 32 | channels)


def half(source: np.ndarray, parity: int, out: np.ndarray) -> None:
    """(SPEC 6.3) As ``numpy_ops.half``."""
    inner, packed = interior(source), interior(out)
    height, width, channels = packed.shape
    start, row, column = place_of(inner)
    target, out_row, out_column = place_of(packed)
    task = HalfWords(
        source=start,
        row=row,
        column=column,
        parity=parity,
        out=target,
        out_row=out_row,
        out_column=out_column,
        width=width,
        channels=channels,
    )
    _run(_half, height, task)
