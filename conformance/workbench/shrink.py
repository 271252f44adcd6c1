"""Makes a failing stream smaller: fewer slices, a smaller picture, a simpler header, fewer and smaller symbols.

Every step proposes a simpler draft of a stream and keeps it if the decoder still fails in the same way. Steps are
repeated until none helps, so that what is left is minimal: no single symbol can be made 0 or smaller, no side shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Draft:
    """A stream before it is written.

    Attributes
    ----------
    slices : int
        Of the model.
    width, height, channels, quality : int
    z : np.ndarray [h / 4, w / 4, hyper], int32
        Symbols.
    y : np.ndarray [slices, 2, h, w / 2, ch], int32
        Symbols, anchors first.
    digest : bool
    chunks : tuple of (tag, payload)
    """

    slices: int
    width: int
    height: int
    channels: int
    quality: int
    z: np.ndarray
    y: np.ndarray
    digest: bool = False
    chunks: tuple[tuple[str, bytes], ...] = ()

    @property
    def nonzero(self) -> int:
        """Symbols that are not 0."""
        return int(np.count_nonzero(self.z) + np.count_nonzero(self.y))

    @property
    def key(self) -> Hashable:
        """Equal for equal drafts."""
        return (
            self.slices,
            self.width,
            self.height,
            self.channels,
            self.quality,
            self.z.tobytes(),
            self.y.tobytes(),
            self.digest,
            self.chunks,
        )

    def describe(self) -> str:
        """The draft in a line."""
        return (
            f"{self.width}x{self.height}, {'grey' if self.channels == 1 else 'colour'}, quality {self.quality}, "
            f"{self.slices} slices, {self.nonzero} of {self.z.size + self.y.size} symbols not 0"
        )


Fails = Callable[[Draft], bool]
"""Whether the decoder still fails in the same way."""


class Budget(Exception):
    """No trial is left."""


class _Shrinker:
    """Holds the smallest failing draft so far."""

    def __init__(self, draft: Draft, fails: Fails, trials: int) -> None:
        self.best, self._fails, self._left = draft, fails, trials
        self._passed: set[Hashable] = set()

    def keeps(self, draft: Draft) -> bool:
        """Try a draft, if it was not tried before; take it if it fails."""
        if draft.key in self._passed:
            return False
        if self._left == 0:
            raise Budget
        self._left -= 1
        if not self._fails(draft):
            self._passed.add(draft.key)
            return False
        self.best = draft
        return True

    def number(self, low: int, value: int, change: Callable[[int], Draft]) -> None:
        """Bring a number down by bisection; ends where one less does not fail."""
        if value == low or self.keeps(change(low)):
            return
        while value - low > 1:  # low does not fail
            middle = (low + value) // 2
            if self.keeps(change(middle)):
                value = middle
            else:
                low = middle


def cropped(draft: Draft, slices: int, width: int, height: int) -> Draft:
    """A draft of a smaller picture or fewer slices, with the symbols that are left."""
    rows, columns = -(-height // 64), -(-width // 64)
    return replace(
        draft,
        slices=slices,
        width=width,
        height=height,
        z=draft.z[:rows, :columns],
        y=draft.y[:slices, :, : 4 * rows, : 2 * columns],
    )


def shrink(draft: Draft, fails: Fails, fewer_slices: bool = False, trials: int = 2000) -> Draft:
    """The simplest draft that is found and still fails.

    Parameters
    ----------
    draft : Draft
        A failing one.
    fails : callable(Draft) -> bool
    fewer_slices : bool
        Whether there are models of fewer slices.
    trials : int
        How often ``fails`` is asked at the most.
    """
    state = _Shrinker(draft, fails, trials)
    try:
        before = None
        while state.best is not before:
            before = state.best
            _shrink_header(state)
            _shrink_size(state, fewer_slices)
            _shrink_symbols(state)
            _shrink_single(state)
    except Budget:
        pass
    return state.best


def _shrink_size(state: _Shrinker, fewer_slices: bool) -> None:
    def at(slices: int | None = None, width: int | None = None, height: int | None = None) -> Draft:
        best = state.best
        return cropped(best, slices or best.slices, width or best.width, height or best.height)

    if fewer_slices:
        state.number(1, state.best.slices, lambda n: at(slices=n))
    state.number(1, state.best.width, lambda n: at(width=n))
    state.number(1, state.best.height, lambda n: at(height=n))


def _shrink_header(state: _Shrinker) -> None:
    if state.best.chunks:
        state.keeps(replace(state.best, chunks=()))
    if state.best.digest:
        state.keeps(replace(state.best, digest=False))
    if state.best.channels == 1:
        state.keeps(replace(state.best, channels=3))
    state.number(1, state.best.quality, lambda n: replace(state.best, quality=n))


def _with_symbols(draft: Draft, flat: np.ndarray) -> Draft:
    size = draft.z.size
    return replace(draft, z=flat[:size].reshape(draft.z.shape), y=flat[size:].reshape(draft.y.shape))


def _flat(draft: Draft) -> np.ndarray:
    return np.concatenate([draft.z.reshape(-1), draft.y.reshape(-1)])


def _parts(places: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(places), size):
        yield places[first : first + size]


def _shrink_symbols(state: _Shrinker) -> None:
    """Make symbols 0: all, then halves, quarters and so on down to single ones."""
    size = state.best.nonzero
    while size:
        for part in _parts(np.flatnonzero(_flat(state.best)), size):
            flat = _flat(state.best)
            flat[part] = 0
            state.keeps(_with_symbols(state.best, flat))
        size = min(size, state.best.nonzero) // 2


FEW = 32
"""Symbols that are looked at one by one."""


def _shrink_single(state: _Shrinker) -> None:
    """Bring every symbol that is left nearer to 0, and to the first position, so that the picture may be smaller."""
    for place in np.flatnonzero(_flat(state.best))[:FEW].tolist():
        _bring_down(state, place)
        first, value = _first_position(state.best, place), int(_flat(state.best)[place])
        if first != place and not _flat(state.best)[first]:
            state.keeps(_changed(_changed(state.best, place, 0), first, value))


def _bring_down(state: _Shrinker, place: int) -> None:
    value = int(_flat(state.best)[place])
    sign = 1 if value > 0 else -1
    state.number(1, abs(value), lambda n: _changed(state.best, place, sign * n))


def _changed(draft: Draft, place: int, value: int) -> Draft:
    flat = _flat(draft)
    flat[place] = value
    return _with_symbols(draft, flat)


def _first_position(draft: Draft, place: int) -> int:
    """The place of the same channel of the same half at row 0, column 0."""
    size = draft.z.size
    if place < size:
        return place % int(draft.z.shape[-1])
    rows, columns, channels = map(int, draft.y.shape[2:])
    half, rest = divmod(place - size, rows * columns * channels)
    return size + half * rows * columns * channels + rest % channels
