"""The 3x3 convolution by tiles of 2x2 (SPEC 5.3): what its kernel reads (kernels/winograd.py), and calls.

Which layers take this way is decided when they are packed, by their shapes and weights; no result depends on it.
"""

from __future__ import annotations

import numpy as np

from ...model.layers import Conv
from ...model.proof import INT16_MAX
from .kernels.constants import FEW, LANES, OUTPUTS, PAIRS, PLACES, TILES
from .kernels.words import WINOGRAD, TransformWords, WinogradWords, filled
from .native.loader import Kernel
from .team import address, share

_rows, _filters, _filter_sums = (Kernel(f"winograd.{name}") for name in ("rows", "filters", "filter_sums"))

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


def unblocked(values: np.ndarray, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Undo `blocks`.

    Parameters
    ----------
    values : np.ndarray, int16
        In the order of the kernel.
    size : int
        Outputs in a block.
    shape : tuple of int
        (outputs, ..., 2 n).

    Returns
    -------
    np.ndarray of that shape, int16
    """
    pairs, out, done = values.view(np.int32), np.empty((*shape[:-1], shape[-1] // 2), np.int32), 0
    for first in range(0, len(out), size):
        part = out[first : first + size]
        block = pairs[done : done + part.size].reshape(*part.shape[1:], len(part))
        part[...] = np.moveaxis(block, -1, 0)
        done += part.size
    return out.view(np.int16)


def _copied(weight: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Inputs of which some transformed weight is no int16, as often as it takes to share it out; an even count."""
    # none is larger than four times the sum of a filter's magnitudes
    inputs = np.flatnonzero(4 * magnitude.max(axis=0) > INT16_MAX)
    largest = np.abs(transformed(weight[..., inputs].transpose(1, 2, 0, 3))).max(axis=(0, 1, 2))
    copied = np.repeat(inputs, np.maximum(-(-largest // INT16_MAX) - 1, 0))
    return np.append(copied, np.zeros(copied.size % 2, np.int64))


def _share_out(weight: np.ndarray, copied: np.ndarray, out: np.ndarray) -> None:
    """Set transformed weights of copied inputs and of their copies, which together are the whole ones."""
    outputs, inputs = weight.shape[0], weight.shape[3]
    wide = transformed(weight[..., copied].transpose(1, 2, 0, 3)).reshape(PLACES, outputs, copied.size)
    rest = {of: wide[:, :, n].copy() for n, of in enumerate(copied.tolist())}
    for n, of in enumerate(copied.tolist(), inputs):
        part = np.clip(rest[of], -INT16_MAX, INT16_MAX)
        rest[of] -= part
        _set_input(out, n, part, inputs + copied.size)
    for of, part in rest.items():
        _set_input(out, of, part, inputs + copied.size)


def _set_input(out: np.ndarray, n: int, values: np.ndarray, inputs: int) -> None:
    """Set transformed weights of one of ``inputs`` inputs, [16, outputs], in the order of the kernel."""
    for first in range(0, values.shape[1], OUTPUTS):
        part = values[:, first : first + OUTPUTS]
        start = first * PLACES * inputs
        block = out[start : start + part.size * inputs].reshape(PLACES, inputs // 2, -1, 2)
        block[:, n // 2, :, n % 2] = part


def _transform(weight: np.ndarray, signed: np.ndarray, out: np.ndarray, inputs: int) -> np.ndarray:
    """The words of the kernels that transform a layer's filters."""
    return filled(
        TransformWords(
            weight=address(weight),
            sums=address(signed),
            out=address(out),
            outputs=len(weight),
            inputs=weight.shape[3],
            all_inputs=inputs,
        )
    )


class Tiles:
    """A convolution in the order that the kernel reads it.

    Parameters
    ----------
    weight : np.ndarray [outputs, 3, 3, Ci], int16
        In the order of the kernel, with zeros up to a multiple of 16.
    signed : np.ndarray [outputs, Ci, 2], int32
        Sum of a filter's positive weights, and of its negated negative ones.
    copied : np.ndarray [n], int64
        Inputs that appear once more.
    bias : np.ndarray [outputs], int32
        In that order.
    """

    def __init__(self, weight: np.ndarray, signed: np.ndarray, copied: np.ndarray, bias: np.ndarray) -> None:
        outputs, inputs = weight.shape[0], weight.shape[3]
        self._weight = np.empty(outputs * PLACES * (inputs + copied.size), np.int16)
        words = _transform(weight, signed, self._weight, inputs + copied.size)
        _filters.call(address(words), 0, -(-outputs // OUTPUTS))
        if copied.size:
            _share_out(weight, copied, self._weight)
        self._shape = weight.shape
        stride = inputs + copied.size + -(inputs + copied.size) % PAIRS
        most = int((signed[..., 0] + signed[..., 1]).sum(axis=1).max())
        down = 0  # bounds are rounded up to multiples of 2^down: their sum is at most 2^30, and the bias's share 2^29
        while int(signed.max()) >> down >= INT16_MAX or (most >> down) + 2 * inputs > 1 << 15:
            down += 1
        self._bounds = blocks((-(-signed >> down)).astype(np.int16).reshape(outputs, -1), LANES)
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

    def weight(self) -> np.ndarray:
        """The weights, int16 [outputs, 3, 3, Ci] as given: taps from their transforms."""
        inputs = self._shape[3]
        out, every = np.empty(self._shape, np.int16), inputs + self._copied.size
        for first in range(0, self._shape[0], OUTPUTS):
            part = out[first : first + OUTPUTS]
            block = self._weight[first * PLACES * every :][: len(part) * PLACES * every]
            wide = block.reshape(4, 4, every // 2, -1, 2).astype(np.int32)
            wide = wide.swapaxes(3, 4).reshape(4, 4, every, -1)
            for n, of in enumerate(self._copied, inputs):
                wide[:, :, of] += wide[:, :, n]
            rows = np.stack((wide[0], wide[1] - wide[2], wide[3]))  # twice the taps along one side
            taps = np.stack((rows[:, 0], rows[:, 1] - rows[:, 2], rows[:, 3]), 1) >> 2
            part[...] = taps[:, :, :inputs].transpose(3, 0, 1, 2)
        return out

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
        inputs = layer.shape[3]  # an odd one would read beyond the map's end
        if layer.kernel != 3 or layer.stride != 1 or inputs < PAIRS or inputs % 2:
            return None
        weight = np.ascontiguousarray(weight)
        signed = np.empty((len(weight), inputs, 2), np.int32)
        words = _transform(weight, signed, signed, inputs)  # held while the kernel reads it
        _filter_sums.call(address(words), 0, len(weight))
        magnitude = signed[..., 0] + signed[..., 1]
        if int(magnitude.sum(axis=1, dtype=np.int64).max()) > _WEIGHTS:
            return None
        copied = _copied(weight, magnitude)
        return None if copied.size > _COPIES else cls(weight, signed, copied, bias)

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
