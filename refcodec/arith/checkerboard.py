"""The checkerboard (SPEC 6.3): anchors where row + column is odd, non-anchors where it is even.

A half of a map, packed along columns, is again a map of half the width: latent widths are multiples of 4, so every
row holds width / 2 positions of each kind.
"""

from __future__ import annotations

import numpy as np

ANCHOR, NONANCHOR = 1, 0


def take(x: np.ndarray, parity: int) -> np.ndarray:
    """Positions of one parity: [H, W, C] -> [H, W / 2, C], a new array."""
    out = np.empty((x.shape[0], x.shape[1] // 2, *x.shape[2:]), x.dtype)
    take_into(x, parity, out)
    return out


def take_into(x: np.ndarray, parity: int, out: np.ndarray) -> None:
    """Copy the positions of one parity.

    Parameters
    ----------
    x : np.ndarray [H, W, C]
    parity : int
        ANCHOR or NONANCHOR.
    out : np.ndarray [H, W / 2, C]
        Receives them.
    """
    out[0::2] = x[0::2, parity::2]
    out[1::2] = x[1::2, 1 - parity :: 2]


def put(x: np.ndarray, parity: int, values: np.ndarray) -> None:
    """Write values to the positions of one parity.

    Parameters
    ----------
    x : np.ndarray [H, W, C]
        Changed in place.
    parity : int
        ANCHOR or NONANCHOR.
    values : np.ndarray [H, W / 2, C]
    """
    x[0::2, parity::2] = values[0::2]
    x[1::2, 1 - parity :: 2] = values[1::2]
