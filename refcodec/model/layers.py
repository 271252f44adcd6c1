"""The integer layers: what a model file holds for each operation of the layer table (SPEC 5 and annex B).

Arrays are read-only. Formats: a tensor of ``frac`` fraction bits holds round(value * 2^frac); ``limit`` is the clamp
that makes the next accumulator provable, results lie in [-limit, limit].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

NORM_FRAC = 10
"""Fraction bits of a normalised vector (SPEC 5.6): |value| < sqrt(64), so 8 * 2^10 fits int16."""

LOGIT_FRAC = 16
"""Fraction bits of attention logits in log2 units (SPEC 5.7)."""

WEIGHT_FRAC = 16
"""Fraction bits of attention weights (SPEC 5.7)."""


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution or linear layer (SPEC 5.3): clamp(act((bias + sum weight * x [+ branch << add_shift]) >> shift)).

    Attributes
    ----------
    weight : np.ndarray [Co, k, k, Ci], int16
        Ci is 1 for a depthwise convolution. Read ``shape`` where the numbers are not needed: they may have been
        released.
    bias : np.ndarray [Co], int32
        Includes the rounding term 2^(shift - 1).
    shift : np.ndarray [Co], int32 in 0..30
    add_shift : np.ndarray [Co], int32 in 0..30, or None
        Left shift of the branch that joins the accumulator.
    frac : int
        Fraction bits of the result.
    limit : int
        Clamp of the result; 0 for a wide layer (int32, no clamp).
    gelu : np.ndarray int16 or None
        Table of t * Phi(-t) in ``frac`` bits.
    stride : int
    shuffle, depthwise : bool
    """

    name: str
    weight: NDArray[np.int16]
    bias: NDArray[np.int32]
    shift: NDArray[np.int32]
    frac: int
    limit: int
    add_shift: NDArray[np.int32] | None = None
    gelu: NDArray[np.int16] | None = None
    stride: int = 1
    shuffle: bool = False
    depthwise: bool = False

    def __post_init__(self) -> None:
        self.__dict__["_shape"] = self.weight.shape

    if not TYPE_CHECKING:  # else every name would be an attribute

        def __getattr__(self, name: str) -> Any:
            """Weights that have been released, made again."""
            if name != "weight" or "_restore" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            weight = self.__dict__["_restore"]()
            weight.flags.writeable = False
            self.__dict__["weight"] = weight
            return weight

    def release(self, restore: Callable[[], NDArray[np.int16]]) -> None:
        """Free the weights. ``restore`` makes them again when they are next read; it does not hold this layer."""
        self.__dict__["_restore"] = restore
        self.__dict__.pop("weight", None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weights."""
        shape: tuple[int, ...] = self.__dict__["_shape"]
        return shape

    @property
    def kernel(self) -> int:
        """Side of the filter."""
        return self.shape[1]


@dataclass(frozen=True, eq=False)
class Gdn:
    """GDN or IGDN (SPEC 5.5): n = beta + sum gamma x^2, r = floor(sqrt(n)), then x * r or x / r.

    Attributes
    ----------
    gamma : np.ndarray [C, C], int64 >= 0
        gamma[i, j] weighs x_j^2 for output i.
    beta : np.ndarray [C], int64 >= 1
    shift : int
        IGDN: right shift of x * r. GDN: left shift of x before the division.
    frac, limit : int
    """

    name: str
    gamma: np.ndarray
    beta: np.ndarray
    shift: int
    frac: int
    limit: int


@dataclass(frozen=True, eq=False)
class Sum:
    """A residual sum (SPEC 5.4): clamp(((a << shift_a) + (b << shift_b)) >> shift, rounded)."""

    name: str
    shift_a: int
    shift_b: int
    shift: int
    frac: int
    limit: int


@dataclass(frozen=True, eq=False)
class Gain:
    """Multiplication by a channel's gain (SPEC 5.4): clamp((x * multiplier) >> shift, rounded), by quality.

    Attributes
    ----------
    multiplier : np.ndarray [steps, C], int32 in [2^14, 2^15)
    shift : np.ndarray [steps, C], int32 in 1..30
    """

    name: str
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    frac: int
    limit: int


@dataclass(frozen=True, eq=False)
class Rescale:
    """A narrower copy of y or y_hat (SPEC 5.4): clamp(x >> shift, rounded)."""

    name: str
    shift: int
    frac: int
    limit: int


@dataclass(frozen=True, eq=False)
class Norm:
    """Layer normalisation without its affine part, which the next layer holds (SPEC 5.6).

    Attributes
    ----------
    epsilon : int
        round(C^3 * 1e-5 * 2^(2 f)) for an input of f fraction bits, at least 1.
    """

    name: str
    epsilon: int
    frac: int
    limit: int


@dataclass(frozen=True, eq=False)
class LocalAttention:
    """Windowed attention (SPEC 5.8).

    Attributes
    ----------
    shift : int
        Right shift of q . k to Q16.
    bias : np.ndarray [81, heads], int32, Q16
        Relative position bias in log2 units, row (dy + 4) * 9 + (dx + 4) for query minus key.
    """

    name: str
    shift: int
    bias: NDArray[np.int32]
    heads: int
    frac: int
    limit: int


@dataclass(frozen=True, eq=False)
class LinearAttention:
    """Linear global attention (SPEC 5.9).

    Attributes
    ----------
    key_shift, query_shift : int
        Left shifts of keys and queries to Q16.
    context_shift : int
        Left shift of the sums before their division: extra fraction bits of the result over the values.
    """

    name: str
    key_shift: int
    query_shift: int
    context_shift: int
    heads: int
    frac: int
    limit: int


Layer = Conv | Gdn | Sum | Gain | Rescale | Norm | LocalAttention | LinearAttention
