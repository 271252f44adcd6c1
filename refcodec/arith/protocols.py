"""Interfaces: of an engine for the networks and the slice walk, and of a backend for an engine.

Several classes answer the first: the integer engine, strips of it, floats for calibration, tensors for training. So the
structure of the networks is written once. Two modules answer the second: numpy_ops and jit/backend.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..model.layers import Conv, Gdn, LinearAttention, LocalAttention, Norm, Rescale, Sum
from ..model.tables import Tables
from .maps import Map, WideMap

M = TypeVar("M")
"""How an engine holds a map: an array, or a window of rows."""


class PictureOps(Protocol[M]):
    """The operations of g_a, h_a, h_s and g_s, which also run strip by strip."""

    @property
    def layers(self) -> Mapping[str, Any]:
        """The operations there are, by name."""

    def conv(self, name: str, x: M, *, add: M | None = None) -> M:
        """(SPEC 5.3) Convolution; arguments and result are those of `Engine.conv`."""

    def conv_sum(self, name: str, x: M, total: str, skip: M) -> M:
        """(SPEC 5.3, 5.4) The residual sum of skip and a convolution of x.

        Arguments and result are those of `Engine.conv_sum`.
        """

    def gdn(self, name: str, x: M) -> M:
        """(SPEC 5.5) Divisive normalisation."""

    def igdn(self, name: str, x: M) -> M:
        """(SPEC 5.5) Its inverse."""

    def gain(self, name: str, x: M) -> M:
        """(SPEC 5.4) Multiplication by the gains of the quality."""

    def rescale(self, name: str, x: M) -> M:
        """(SPEC 5.4) A narrower copy."""


class Network(Protocol):
    """A network that `PictureOps` can run."""

    def __call__(self, engine: PictureOps[M], x: M, /) -> M:
        """The result's map of the input's."""


class NetworkOps(PictureOps[np.ndarray], Protocol):
    """All operations of the networks and of the slice walk, on maps [H + 4, W + 4, C] of the engine's own type."""

    def map(self, height: int, width: int, channels: int) -> np.ndarray:
        """A map whose border is zero; arguments and result are those of `Engine.map`."""

    def channels(self, name: str) -> int:
        """Channels of a convolution's result."""

    def show(self, name: str, values: np.ndarray) -> None:
        """Hand a named result [H, W, C] to the trace."""

    def conv(
        self,
        name: str,
        x: np.ndarray,
        *,
        add: np.ndarray | None = None,
        parity: int = -1,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """(SPEC 5.3) Convolution; arguments and result are those of `Engine.conv`."""

    def conv_halves(
        self, name: str, x: np.ndarray, outs: Mapping[int, np.ndarray], add: np.ndarray | None = None
    ) -> None:
        """(SPEC 5.3, 6.3) Convolution into packed halves of the checkerboard; arguments are those of
        `Engine.conv_halves`.
        """

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """(SPEC 5.6) Layer normalisation over channels."""

    def local_attention(self, name: str, qkv: np.ndarray) -> np.ndarray:
        """(SPEC 5.8) Windows of every non-anchor: [h, w / 2, 25 C] inside a map."""

    def linear_attention(
        self,
        name: str,
        queries: np.ndarray,
        keys: np.ndarray,
        values: np.ndarray,
        keys_at: int = -1,
        queries_at: int = -1,
    ) -> np.ndarray:
        """(SPEC 5.9) Attention over positions; arguments and result are those of `Engine.linear_attention`."""

    def half(self, x: np.ndarray, parity: int, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 6.3) One half of the checkerboard; arguments and result are those of `Engine.half`."""

    def masked(self, x: np.ndarray, parity: int) -> np.ndarray:
        """(SPEC 6.3) A copy that is zero outside one half of the checkerboard."""

    def levels_and_means(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(SPEC 6.8) Levels of the scales, and means, both [h, w / 2, C]."""

    def reconstruct(self, symbols: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(SPEC 6.9) Values of symbols."""

    def place(
        self, name: str, symbols: np.ndarray, means: np.ndarray, parity: int, y_hat: np.ndarray, current: np.ndarray
    ) -> None:
        """(SPEC 6.9) Symbols and means into one half of y_hat; arguments are those of `Engine.place`."""

    def add_residual(
        self, name: str, residual: str, x: np.ndarray, parity: int, y_hat: np.ndarray, current: np.ndarray
    ) -> None:
        """(SPEC 6.9) Add 0.5 tanh of x to one half of y_hat; arguments are those of `Engine.add_residual`."""


class Ops(Protocol):
    """A backend: the operations of the integer arithmetic that every backend has. Arguments are passed by position.

    Maps are int16 [H + 4, W + 4, C], of a wide layer int32; ``out`` is written, mostly its interior alone.
    """

    def clear_border(self, out: Map, /) -> None:
        """Make the border of a map zero."""

    def half(self, x: Map, parity: int, out: Map, /) -> None:
        """(SPEC 6.3) One half of the checkerboard of a map into a packed map; arguments are those of
        `numpy_ops.half`.
        """

    def conv(
        self, x: Map, layer: Conv, out: Map | WideMap, add: Map | WideMap | None, parity: int, threads: int, /
    ) -> None:
        """(SPEC 5.3) Convolution; arguments are those of `numpy_ops.conv`."""

    def conv_sum(self, x: Map, layer: Conv, out: Map, skip: Map, total: Sum, threads: int, /) -> None:
        """(SPEC 5.3, 5.4) The residual sum of skip and the convolution of x; arguments are those of
        `numpy_ops.conv_sum`.
        """

    def gdn(self, x: Map, layer: Gdn, out: Map, threads: int, /) -> None:
        """(SPEC 5.5) x / sqrt(beta + gamma x^2); arguments are those of `numpy_ops.gdn`."""

    def igdn(self, x: Map, layer: Gdn, out: Map, threads: int, /) -> None:
        """(SPEC 5.5) x * sqrt(beta + gamma x^2); arguments are those of `numpy_ops.igdn`."""

    def layer_norm(self, x: Map, layer: Norm, out: Map, threads: int, /) -> None:
        """(SPEC 5.6) Layer normalisation; arguments are those of `numpy_ops.layer_norm`."""

    def local_attention(
        self, qkv: Map, layer: LocalAttention, table: NDArray[np.int32], out: Map, threads: int, /
    ) -> None:
        """(SPEC 5.8) Attention inside windows; arguments are those of `numpy_ops.local_attention`."""

    def linear_attention(
        self,
        queries: Map,
        keys: Map,
        values: Map,
        layer: LinearAttention,
        table: NDArray[np.int32],
        out: Map,
        keys_at: int,
        queries_at: int,
        threads: int,
        /,
    ) -> None:
        """(SPEC 5.9) Attention over positions; arguments are those of `numpy_ops.linear_attention`."""


class FusedOps(Ops, Protocol):
    """A backend that also does the steps of the slice walk in one pass each.

    The engine composes the same steps from its methods. A trace sees the values between them, and engines for floats
    and for measurements replace single methods. A NumPy version of a step would be that composition a second time,
    and no faster. So only kernels have these functions.
    """

    def levels_and_means(
        self, parameters: WideMap, tables: Tables, limit: int, /
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(SPEC 6.8) Levels of the scales, and means.

        Parameters
        ----------
        parameters : np.ndarray [h + 4, w / 2 + 4, 2 C], int32
            Scales in Q10, then means in Q6.
        tables : Tables
            For the thresholds.
        limit : int
            Clamp of the means.

        Returns
        -------
        levels, means : np.ndarray [h, w / 2, C], int32
        """

    def place(
        self,
        symbols: NDArray[np.int32],
        means: NDArray[np.int32],
        parity: int,
        frac: int,
        limit: int,
        y_hat: Map,
        layer: Rescale,
        current: Map,
        /,
    ) -> None:
        """(SPEC 6.9) clamp(symbol * 2^frac + mean) into one half of y_hat, and its context copy into current.

        Parameters
        ----------
        symbols, means : np.ndarray [h, w / 2, C], int32
        parity : int
            ANCHOR or NONANCHOR.
        frac, limit : int
            Fraction bits and clamp of y_hat.
        y_hat : map [h + 4, w + 4, C], int16
            Changed in place.
        layer : Rescale
            Of the context copy.
        current : map [h + 4, w + 4, C], int16
            Receives the context copy.
        """

    def refine(
        self,
        residual: Map,
        table: NDArray[np.int16],
        parity: int,
        limit: int,
        y_hat: Map,
        layer: Rescale,
        current: Map,
        /,
    ) -> None:
        """(SPEC 6.9) Add 0.5 tanh of a packed map to one half of y_hat, and write its context copy again.

        Parameters
        ----------
        residual : map [h + 4, w / 2 + 4, C], int16
        table : np.ndarray, int16
            0.5 tanh in Q6 by magnitude.
        parity : int
            ANCHOR or NONANCHOR.
        limit : int
            Clamp of y_hat.
        y_hat : map [h + 4, w + 4, C], int16
            Changed in place.
        layer : Rescale
            Of the context copy.
        current : map [h + 4, w + 4, C], int16
            Receives the context copy.
        """
