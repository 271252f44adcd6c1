"""Makes a failing stream smaller: fewer slices, a smaller picture, a simpler header, fewer and smaller symbols.

Tiles are given up. What is stored without loss is left out, or coded again for the smaller picture.

Every step proposes a simpler draft of a stream and keeps it if the decoder still fails in the same way. Steps are
repeated until none helps, so that what is left is minimal: no single symbol can be made 0 or smaller, no side shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from refcodec.bitstream.container import ALPHA, LOSSLESS
from refcodec.lossless.rectangles import Rectangle, Rectangles, pack_rectangles
from refcodec.lossless.samples import SamplesReader, encode_samples, strip_rows


@dataclass(frozen=True)
class Draft:
    """A stream before it is written.

    Attributes
    ----------
    slices : int
        Of the model.
    width, height, channels, quality : int
        Quality 0 for a picture that is stored without loss.
    z : np.ndarray [h / 4, w / 4, hyper], int32
        Symbols of all tiles; none if the picture is stored without loss.
    y : np.ndarray [slices, 2, h, w / 2, ch], int32
        Symbols, anchors first.
    digest : bool
    chunks : tuple of (tag, payload)
    tile : (int, int)
        Width and height of the tiles in units of 64 samples; 0 and 0 for none.
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
    tile: tuple[int, int] = (0, 0)

    @property
    def lossless(self) -> bool:
        """The whole picture is stored without loss."""
        return self.quality == 0

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
            self.tile,
        )

    def describe(self) -> str:
        """The draft in a line."""
        symbols = f"{self.nonzero} of {self.z.size + self.y.size} symbols not 0"
        coded = f"quality {self.quality}, {self.slices} slices, {symbols}"
        tiles = f", tiles of {64 * self.tile[0]}x{64 * self.tile[1]}" if self.tile[0] else ""
        return (
            f"{self.width}x{self.height}, {'grey' if self.channels == 1 else 'colour'}, "
            f"{'without loss' if self.lossless else coded}{tiles}{''.join(f', {tag}' for tag, _ in self.chunks)}"
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
    """A draft of a smaller picture or fewer slices, with the symbols that are left.

    Parameters
    ----------
    draft : Draft
    slices : int
    width, height : int
        Of the picture, in samples.

    Returns
    -------
    Draft
    """
    rows, columns = -(-height // 64), -(-width // 64)
    return replace(
        draft,
        slices=slices,
        width=width,
        height=height,
        z=draft.z[:rows, :columns],
        y=draft.y[:slices, :, : 4 * rows, : 2 * columns],
        chunks=draft.chunks
        if (width, height) == (draft.width, draft.height)
        else _cropped_chunks(draft, width, height),
    )


def _cropped_chunks(draft: Draft, width: int, height: int) -> tuple[tuple[str, bytes], ...]:
    """(SPEC 8.10, 8.11) Chunks of a smaller picture; rectangles that are not in it are left out."""
    chunks = []
    for tag, payload in draft.chunks:
        if tag == ALPHA or (tag == LOSSLESS and draft.lossless):
            samples = _stored(draft, payload, 1 if tag == ALPHA else draft.channels)
            chunks.append((tag, _coded(samples[:height, :width])))
        elif tag == LOSSLESS:
            found = Rectangles(payload, draft.width, draft.height, draft.channels)
            samples = np.zeros((draft.height, draft.width, draft.channels), np.uint8)
            found.apply(samples, 0)
            left = [
                Rectangle(y, x, min(w, width - x), min(h, height - y))
                for y, x, w, h in found.places
                if y < height and x < width
            ][: -(-width // 64) * -(-height // 64)]
            if left:
                rows = _rows_of(samples[:height, :width])
                chunks.append((tag, pack_rectangles(left, rows, width, height, draft.channels)))
        else:
            chunks.append((tag, payload))
    return tuple(chunks)


def _stored(draft: Draft, payload: bytes, channels: int) -> np.ndarray:
    """(SPEC 8.10) Samples [height, width, channels] that a payload stores for the whole picture."""
    reader, parts = SamplesReader(payload, draft.height, draft.width, channels), []
    while reader.left:
        parts.append(reader.read(min(reader.left, strip_rows(draft.width, channels))))
    return np.concatenate(parts)


def _rows_of(samples: np.ndarray) -> Callable[[int, int], np.ndarray]:
    return lambda first, count: samples[first : first + count]


def _coded(samples: np.ndarray) -> bytes:
    return encode_samples(_rows_of(samples), *samples.shape)


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

    Returns
    -------
    Draft
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
    _shrink_chunks(state)
    if state.best.tile[0]:
        state.keeps(replace(state.best, tile=(0, 0)))
    if state.best.digest:
        state.keeps(replace(state.best, digest=False))
    if state.best.channels == 1 and LOSSLESS not in dict(state.best.chunks):
        state.keeps(replace(state.best, channels=3))
    if not state.best.lossless:
        state.number(1, state.best.quality, lambda n: replace(state.best, quality=n))


def _shrink_chunks(state: _Shrinker) -> None:
    """Leave chunks out, all that need not be there or one by one; then make samples that are stored for all 0."""
    needed = (LOSSLESS,) if state.best.lossless else ()
    for gone in (tuple(tag for tag, _ in state.best.chunks), *((tag,) for tag, _ in state.best.chunks)):
        left = tuple(c for c in state.best.chunks if c[0] in needed or c[0] not in gone)
        if left != state.best.chunks:
            state.keeps(replace(state.best, chunks=left))
    for n, (tag, _) in enumerate(state.best.chunks):
        if tag == ALPHA or tag in needed:
            zeros = np.zeros(
                (state.best.height, state.best.width, 1 if tag == ALPHA else state.best.channels), np.uint8
            )
            chunks = list(state.best.chunks)
            chunks[n] = (tag, _coded(zeros))
            if tuple(chunks) != state.best.chunks:
                state.keeps(replace(state.best, chunks=tuple(chunks)))


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
