"""The 3x3 convolution by tiles of 2x2 (SPEC 5.3): what its kernel reads (kernels/winograd.py), and calls.

Which layers take this way is decided when they are packed, by their shapes and weights; no result depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...model.layers import Conv
from ...model.proof import INT16_MAX
from .kernels.constants import FEW, LANES, OUTPUTS, PAIRS, PLACES, TILES
from .kernels.words import WINOGRAD, WinogradWords, filled
from .native.loader import Kernel
from .team import address, share

_rows = Kernel("winograd.rows")

_SUM_MAX = (1 << 29) - 1
"""Largest magnitude of a sum with its bias: four of them fit int32."""

_WEIGHTS = 1 << 24
"""Largest sum of an output's weights: 15 times as much is below 2^28."""

_COPIES = 8
"""Most inputs whose weights are divided."""

_LINE = 64

_spaces: list[np.ndarray] = []
"""Memory for transformed tiles that no call uses."""


def transformed(taps: np.ndarray) -> np.ndarray:
    """(2 G) g (2 G)^T of every filter g: int16 [3, 3, ...] -> int32 [4, 4, ...], at most 9 * 2^15."""
    wide = taps.astype(np.int32)
    for shape in ((4, 3), (4, 4)):
        out = np.empty((*shape, *taps.shape[2:]), np.int32)
        a, b, c = wide if shape == (4, 3) else wide.swapaxes(0, 1)
        first, second, third, fourth = out if shape == (4, 3) else out.swapaxes(0, 1)
        np.add(a, a, out=first)
        np.add(a, c, out=third)
        np.add(third, b, out=second)
        np.subtract(third, b, out=third)
        np.add(c, c, out=fourth)
        wide = out
    return wide


def blocks(values: np.ndarray, size: int) -> np.ndarray:
    """int16 [outputs, ..., 2 n] -> [..., n, outputs, 2] of each ``size`` outputs, of 16 at the end; one-dimensional."""
    pairs = np.ascontiguousarray(values).view(np.int32)
    out, done = np.empty(pairs.size, np.int32), 0
    for first in range(0, len(pairs), size):
        block = np.moveaxis(pairs[first : first + size], 0, -1)
        out[done : done + block.size].reshape(block.shape)[...] = block
        done += block.size
    return out.view(np.int16)


def _copied(weight: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Inputs of which some transformed weight is no int16, as often as it takes to share it out; an even count."""
    if 4 * int(magnitude.max()) <= INT16_MAX:  # none is larger than four times the sum of a filter's magnitudes
        return np.zeros(0, np.int64)
    largest = [np.abs(transformed(part.transpose(1, 2, 0, 3))).max(axis=(0, 1, 2)) for part in _parts(weight)]
    more = np.maximum(-(-np.max(largest, axis=0) // INT16_MAX) - 1, 0)
    copied = np.repeat(np.arange(more.size), more)
    return np.append(copied, np.zeros(copied.size % 2, np.int64))


def _block(weight: np.ndarray, copied: np.ndarray) -> np.ndarray:
    """int16 [n, 3, 3, Ci] -> transformed [4, 4, pairs of inputs, n, 2]: a weight that is too large is shared out."""
    count, inputs = len(weight), weight.shape[3]
    pairs = np.ascontiguousarray(np.moveaxis(np.ascontiguousarray(weight).view(np.int32), 0, -1))
    wide = transformed(pairs.view(np.int16)).reshape(4, 4, -1, count, 2)
    if not copied.size:
        return wide
    out = np.zeros((4, 4, (inputs + copied.size) // 2, count, 2), np.int32)
    for n, of in enumerate(copied, inputs):
        whole = wide[:, :, of // 2, :, of % 2]
        out[:, :, n // 2, :, n % 2] = np.clip(whole, -INT16_MAX, INT16_MAX)
        whole -= out[:, :, n // 2, :, n % 2]
    out[:, :, : inputs // 2] = wide
    return out


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    """Outputs block by block: a layer's transformed weights would be several megabytes."""
    for first in range(0, len(values), OUTPUTS):
        yield values[first : first + OUTPUTS]


class Tiles:
    """A convolution in the order that the kernel reads it.

    Parameters
    ----------
    weight : np.ndarray [outputs, 3, 3, Ci], int16
        In the order of the kernel, with zeros up to a multiple of 16.
    magnitude : np.ndarray [outputs, Ci], int32
        Sum of a filter's magnitudes.
    copied : np.ndarray [n], int64
        Inputs that appear once more.
    bias : np.ndarray [outputs], int32
        In that order.
    """

    def __init__(self, weight: np.ndarray, magnitude: np.ndarray, copied: np.ndarray, bias: np.ndarray) -> None:
        inputs = weight.shape[3]
        self._weight, done = np.empty(len(weight) * PLACES * (inputs + copied.size), np.int16), 0
        for part in _parts(weight):
            block = _block(part, copied)
            self._weight[done : done + block.size].reshape(block.shape)[...] = block
            done += block.size
        stride = inputs + copied.size + -(inputs + copied.size) % PAIRS
        total = weight.sum(axis=(1, 2), dtype=np.int32)
        signed = [(magnitude + total) >> 1, (magnitude - total) >> 1]
        most = int(magnitude.sum(axis=1).max())
        down = 0  # bounds are rounded up to multiples of 2^down: their sum is at most 2^30, and the bias's share 2^29
        while max(n.max() for n in signed) >> down >= INT16_MAX or (most >> down) + 2 * inputs > 1 << 15:
            down += 1
        rounded = np.stack([-(-n >> down) for n in signed], 2).reshape(-1, 2 * inputs)
        self._bounds = blocks(rounded.astype(np.int16), LANES)
        self._bias, self._zeros = bias << 2, np.zeros_like(bias)
        self._bias_bound = np.minimum(-(-np.abs(bias.astype(np.int64)) >> down), _SUM_MAX + 1).astype(np.int32)
        self._copied = copied
        sums = PLACES * TILES * 2 * stride
        reach = sums + PLACES * TILES * 4 * OUTPUTS
        half = reach + 4 * inputs * (1 + FEW)
        self._words = filled(
            WinogradWords(
                weight=address(self._weight),
                bias=address(self._bias),
                bounds=address(self._bounds),
                bias_bound=address(self._bias_bound),
                most=_SUM_MAX >> down,
                zeros=address(self._zeros),
                inputs=inputs,
                stride=stride,
                copied=address(copied),
                n_copied=copied.size,
                sums=sums,
                reach=reach,
                pairs=reach + 4 * inputs,
                room=2 * (half + -half % _LINE),
            )
        )

    @classmethod
    def of(cls, layer: Conv, weight: np.ndarray, bias: np.ndarray) -> Tiles | None:
        """Pack a layer in the order of the kernel.

        Parameters
        ----------
        layer : Conv
        weight, bias : np.ndarray
            As in the constructor.

        Returns
        -------
        Tiles or None
            None if the kernel does not compute the layer exactly.
        """
        inputs = layer.weight.shape[3]  # an odd one would read beyond the map's end
        if layer.kernel != 3 or layer.stride != 1 or inputs < PAIRS or inputs % 2:
            return None
        magnitude = np.concatenate([np.abs(part).sum(axis=(1, 2), dtype=np.int32) for part in _parts(weight)])
        if int(magnitude.sum(axis=1, dtype=np.int64).max()) > _WEIGHTS:
            return None
        copied = _copied(weight, magnitude)
        return None if copied.size > _COPIES else cls(weight, magnitude, copied, bias)

    def run(self, conv: np.ndarray, rows: int, threads: int) -> None:
        """Compute rows of results, before a pixel shuffle.

        Parameters
        ----------
        conv : np.ndarray, int64
            The words of Conv.
        rows : int
        threads : int
        """
        a = self._words.copy()
        size = threads * int(a[WINOGRAD.room]) + _LINE
        try:
            space = _spaces.pop()
        except IndexError:
            space = np.empty(0, np.uint8)
        if space.size < size:
            space = np.empty(size, np.uint8)
        slots = np.ones(threads, np.int64)
        a[WINOGRAD.conv], a[WINOGRAD.rows], a[WINOGRAD.slots] = address(conv), rows, address(slots)
        a[WINOGRAD.n_slots], a[WINOGRAD.space] = threads, address(space) + -address(space) % _LINE
        share(_rows, a, (rows + 1) // 2, threads)
        if not _spaces:
            _spaces.append(space)
