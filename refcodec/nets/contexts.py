"""The four references of the entropy model (SPEC 6.5 to 6.7): inside a window, inside a slice, across slices, channels.

``previous`` is a map of the finished slices' context copies, ``current`` the context copy of the slice at work.
Results go where entropy parameters read them: into ranges of channels of one packed map for each half of the
checkerboard, by parity.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..arith.checkerboard import ANCHOR, NONANCHOR
from ..arith.maps import BORDER
from ..arith.protocols import NetworkOps

Halves = Mapping[int, np.ndarray]


def local_context(engine: NetworkOps, i: int, y_hat: np.ndarray, out: np.ndarray) -> None:
    """(SPEC 6.5) Checkerboard attention inside every non-anchor's 5x5 window.

    Parameters
    ----------
    engine : NetworkOps
    i : int
        The slice.
    y_hat : map [h + 4, w + 4, C], int16, Q6
        The slice with its anchors finished and zeros elsewhere.
    out : map [h + 4, w / 2 + 4, 2 C], int16
        Receives the packed non-anchors.
    """
    name = f"local/{i}"
    seen = engine.local_attention(f"{name}/attention", engine.conv(f"{name}/qkv", engine.norm(f"{name}/norm1", y_hat)))
    u = engine.conv(f"{name}/proj", engine.conv(f"{name}/fusion", seen))
    hidden = engine.conv(f"{name}/fc1", engine.norm(f"{name}/norm2", u))
    engine.conv(f"{name}/fc2", hidden, add=u, out=out)


def channel_context(engine: NetworkOps, i: int, previous: np.ndarray, outs: Halves) -> None:
    """(SPEC 6.6) Three convolutions over the finished slices.

    Parameters
    ----------
    engine : NetworkOps
    i : int
        The slice.
    previous : map [h + 4, w + 4, i C], int16
        The slices before it.
    outs : mapping of int to map [h + 4, w / 2 + 4, 4 C], int16
        Receives the packed results by parity.
    """
    x = previous
    for n in range(2):
        x = engine.conv(f"chan/{i}/{n}", x)
    engine.conv_halves(f"chan/{i}/2", x, outs)


def _pointwise_depthwise(engine: NetworkOps, name: str, x: np.ndarray) -> np.ndarray:
    return engine.conv(f"{name}1", engine.conv(f"{name}0", x))


def global_inter_context(engine: NetworkOps, i: int, previous: np.ndarray, outs: Halves) -> None:
    """(SPEC 6.7) Linear attention over all positions of all finished slices.

    Parameters
    ----------
    engine : NetworkOps
    i : int
        The slice.
    previous : map [h + 4, w + 4, i C], int16
        The slices before it.
    outs : mapping of int to map [h + 4, w / 2 + 4, 2 C], int16
        Receives the packed results by parity.
    """
    name = f"inter/{i}"
    q, k, v = (_pointwise_depthwise(engine, f"{name}/{part}", previous) for part in ("queries", "keys", "values"))
    seen = engine.linear_attention(f"{name}/attention", q, k, v)
    del q, k, v  # most of what a large picture's walk would hold
    channels, hidden = (engine.channels(f"{name}/{part}") for part in ("reprojection", "mlp1"))
    both = engine.map(previous.shape[0] - 2 * BORDER, previous.shape[1] - 2 * BORDER, channels + hidden)
    a = engine.conv(f"{name}/reprojection", seen, out=both[:, :, :channels])
    del seen
    engine.conv(f"{name}/mlp1", engine.conv(f"{name}/mlp0", a), out=both[:, :, channels:])
    engine.conv_halves(f"{name}/mlp2", both, outs)


def global_intra_context(engine: NetworkOps, i: int, last: np.ndarray, current: np.ndarray, out: np.ndarray) -> None:
    """(SPEC 6.7) Linear attention from the last slice's similarities to this slice's anchors.

    Keys are the last slice at anchors, queries at non-anchors, values the current anchors; the result is zero at
    anchors before its reprojection.

    Parameters
    ----------
    engine : NetworkOps
    i : int
        The slice.
    last, current : map [h + 4, w + 4, C], int16
        The slice before it, and this one with its anchors.
    out : map [h + 4, w / 2 + 4, 2 C], int16
        Receives the packed non-anchors.
    """
    name = f"intra/{i}"
    q = _pointwise_depthwise(engine, f"{name}/queries", engine.masked(last, NONANCHOR))
    k = _pointwise_depthwise(engine, f"{name}/keys", engine.masked(last, ANCHOR))
    v = _pointwise_depthwise(engine, f"{name}/values", current)
    a = engine.linear_attention(f"{name}/attention", q, k, v, keys_at=ANCHOR, queries_at=NONANCHOR)
    a = engine.conv(f"{name}/reprojection", a)
    m = engine.conv(f"{name}/mlp1", engine.conv(f"{name}/mlp0", a))
    engine.conv_halves(f"{name}/mlp2", m, {NONANCHOR: out}, add=a)
