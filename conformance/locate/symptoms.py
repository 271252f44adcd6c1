"""Patterns of the differences between two arrays: rounding, clamp, wrap, order, border, parity.

Each symptom is a rule that holds for every differing number, so that one line names the likely kind of mistake.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .stages import HALVES

Rule = Callable[[np.ndarray, np.ndarray], bool]
"""Of expected and got, int64, at the places that differ."""


def _wraps(bits: int) -> Rule:
    def rule(expected: np.ndarray, got: np.ndarray) -> bool:
        return bool(((expected - got) % (1 << bits) == 0).all())

    return rule


_VALUES: tuple[tuple[Rule, str], ...] = (
    (lambda e, g: bool((g == 0).all()), "all that differ are 0: not computed, or not written"),
    (lambda e, g: bool((g == -e).all()), "signs are exchanged"),
    (_wraps(16), "differences are multiples of 2^16: a number was kept in 16 bits"),
    (_wraps(8), "differences are multiples of 2^8: a number was kept in 8 bits"),
    (
        lambda e, g: bool((g - e == 1).all() and (e < 0).all()),
        "only negative numbers differ, greater by 1: a division or cast towards 0 where the floor is due",
    ),
    (lambda e, g: bool((g - e == -1).all()), "all are less by 1: the rounding term is missing, or a shift comes first"),
    (lambda e, g: bool((g - e == 1).all()), "all are greater by 1: rounded twice, or up instead of half up"),
    (lambda e, g: bool((np.abs(g - e) == 1).all()), "all differences are 1: another rounding"),
    (lambda e, g: len(set((g - e).tolist())) == 1 and len(e) > 1, "all differ by the same number: a bias or a median"),
)
"""Rules about the numbers, and what they mean; the first that holds is reported."""


def symptoms(expected: np.ndarray, got: np.ndarray, latent: bool = False) -> list[str]:
    """Describe the differences, one line per symptom.

    Parameters
    ----------
    expected, got : np.ndarray of integers, of one shape [H, W, C] or [H, W], not equal
    latent : bool
        Positions are those of y, so anchors and non-anchors are distinguished.

    Returns
    -------
    list of str
        Empty where nothing is striking.
    """
    e, g = (np.atleast_3d(x).astype(np.int64) for x in (expected, got))
    differs: np.ndarray = np.not_equal(e, g)
    found = [*_places(differs, latent), *_moved(e, g)]
    if clamp := _clamp(e, g, differs):
        return [clamp, *found]
    text = next((text for rule, text in _VALUES if rule(e[differs], g[differs])), None)
    return ([text] if text else []) + found


def _clamp(e: np.ndarray, g: np.ndarray, differs: np.ndarray) -> str | None:
    limit, reach = int(np.abs(e).max()), int(np.abs(g).max())  # the clamps, if they are met several times
    met: np.ndarray = np.equal(np.abs(e), limit)
    if met.sum() > 1 and (met | ~differs).all() and (np.abs(g[differs]) > limit).all():
        return f"only numbers at +-{limit} differ, and exceed it: the clamp is missing or wider"
    if 0 < reach < limit and (np.abs(g[differs]) == reach).all() and (np.abs(e[differs]) > reach).all():
        return f"only numbers beyond +-{reach} differ, and are brought there: the clamp is narrower"
    if (e[differs] < 0).all() and (g[differs] == 0).all() and (g >= 0).all():
        return "negative numbers are 0: a clamp or cast to unsigned"
    return None


def _places(differs: np.ndarray, latent: bool) -> list[str]:
    """Symptoms of where numbers differ."""
    found = []
    height, width, channels = differs.shape
    rows, columns, at_channels = (np.flatnonzero(differs.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    spots: np.ndarray = differs.max(axis=2)
    if latent:
        parity = np.add.outer(np.arange(height), np.arange(width)) % 2
        for half, name in HALVES.items():
            if not spots[parity != half].any():
                found.append(f"only {name} differ")
    if len(at_channels) == 1 < channels:
        found.append(f"only channel {at_channels[0]} differs")
    inner = spots[2:-2, 2:-2].any()
    axes = (("rows", rows, height), ("columns", columns, width))
    extents = [(name, int(at[0]), int(at[-1]), size) for name, at, size in axes]
    if min(height, width) > 4 and not inner and all(first < 2 and last >= size - 2 for _, first, last, size in extents):
        return [*found, "only positions at the border differ: padding, or what is read outside the map"]
    for name, first, last, size in extents:
        if first > size // 2 and size > 2:
            found.append(f"only {name} from {first} on differ")
        elif last < size // 2 - 1:
            found.append(f"only {name} up to {last} differ")
    return found


def _moved(e: np.ndarray, g: np.ndarray) -> list[str]:
    """Symptoms of right numbers in wrong places."""
    if not np.array_equal(np.sort(e, axis=None), np.sort(g, axis=None)):
        shifts = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}
        return [
            f"the picture is shifted {name} by 1"
            for name, (dy, dx) in shifts.items()
            if min(e.shape[:2]) > 2 and _overlap_equal(e, g, dy, dx)
        ]
    height, width, channels = e.shape
    ways = {
        "rows and columns are exchanged": np.swapaxes(e, 0, 1) if height == width else None,
        "rows stand upside down": e[::-1],
        "columns stand from right to left": e[:, ::-1],
        "channels are in reverse order": e[:, :, ::-1],
        "the first and the second half of the channels are exchanged": np.roll(e, channels // 2, axis=2),
        "numbers stand channel after channel instead of interleaved": np.moveaxis(e, 2, 0).reshape(e.shape),
        "positions are exchanged in pairs along rows, as by another parity": e.reshape(height, -1, 2, channels)[
            :, :, ::-1
        ].reshape(e.shape)
        if width % 2 == 0
        else None,
    }
    same = [text for text, moved in ways.items() if moved is not None and np.array_equal(moved, g)]
    return same[:1] or ["the numbers are the right ones in other places"]


def _overlap_equal(e: np.ndarray, g: np.ndarray, dy: int, dx: int) -> bool:
    height, width = e.shape[:2]
    inner = e[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
    moved = g[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
    return bool(np.array_equal(inner, moved))
