"""The backend in NumPy alone (SPEC 5): the operations of `protocols.Ops`, computed by exact integers in float64.

exact.py          shifts and quotients, and why float64 is exact
bands.py          bands of rows, threads, small products
convolution.py    convolutions and residual sums (SPEC 5.3, 5.4)
normalisation.py  GDN, IGDN, layer normalisation (SPEC 5.5, 5.6)
attention.py      exponentials, softmax, both attentions (SPEC 5.7 to 5.9)
"""

from __future__ import annotations

from ..checkerboard import take_into
from ..maps import Map, clear_border, interior
from .attention import (
    RELATIVE,
    SUM_BLOCK,
    contexts,
    exp2_negative,
    linear_attention,
    local_attention,
    query_weights,
    rows_of,
    softmax_weights,
)
from .convolution import conv, conv_sum
from .exact import round_shift
from .normalisation import gdn, igdn, layer_norm, norm_gain


def half(x: Map, parity: int, out: Map) -> None:
    """(SPEC 6.3) Copy one half of the checkerboard of a map into a packed map.

    Parameters
    ----------
    x : map [H + 4, W + 4, C], int16
    parity : int
        ANCHOR or NONANCHOR.
    out : map [H + 4, W / 2 + 4, C], int16
        Its interior is written.
    """
    take_into(interior(x), parity, interior(out))


__all__ = [
    "RELATIVE",
    "SUM_BLOCK",
    "clear_border",
    "contexts",
    "conv",
    "conv_sum",
    "exp2_negative",
    "gdn",
    "half",
    "igdn",
    "layer_norm",
    "linear_attention",
    "local_attention",
    "norm_gain",
    "query_weights",
    "round_shift",
    "rows_of",
    "softmax_weights",
]
