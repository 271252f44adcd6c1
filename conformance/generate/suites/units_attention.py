"""Unit cases of exponentials, softmax and both attentions (SPEC 5.7 to 5.9, 6.7)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from refcodec.agreement.operations import numbers

from ...kit.clauses import cited
from ...synthetic.models.attentions import near_tie
from ..unit_writer import Input, case, unit

MAX = 32767
Cases = Iterator[tuple[str, Input]]
EXP2 = {"table": "exp2"}


@unit(
    "exp2",
    "exp2_negative",
    ("5.7-1", "5.7-2", "A.4-1"),
    "Interpolation is rounded by itself, the shift is rounded wrongly, or far arguments wrap instead of giving 0.",
)
def exp2() -> Cases:
    """Arguments around every octave 0..41, around entries of the table, and far beyond 40 octaves."""
    near = {max(0, (n << 16) + d) for n in range(42) for d in (-257, -256, -1, 0, 1, 255, 256, 32768)}
    near |= {256 * n + d for n in (1, 127, 128, 255) for d in (-1, 0, 1, 128)} | {2**22, 2**31, 2**38 - 1, 2**39, 2**40}
    for t in sorted(near):
        yield str(t), {"t": t, "table": EXP2}


@unit(
    "softmax",
    "softmax_weights",
    ("5.7-3", "5.7-4", "5.7-1", "9.2-7"),
    "The greatest logit is not taken off, masked logits take part in it, the reciprocal is rounded instead of "
    "floored, or weights are normalised once more.",
)
def softmax() -> Cases:
    """Equal logits of 1 to 32, logits far apart, masked ones, logits near 2^38, random ones."""
    for count in (1, 2, 3, 7, 25, 32):
        yield f"{count} equal", {"logits": [-5] * count, "table": EXP2}
        for bits in (4, 16, 20):
            logits = numbers(f"softmax/{count}/{bits}", -(1 << bits), 1 << bits, count).tolist()
            yield f"{count} random of {bits} bits", {"logits": logits, "table": EXP2}
            if count > 2:
                masked = [None if n % 3 == 1 else v for n, v in enumerate(logits)]
                yield f"{count} masked of {bits} bits", {"logits": masked, "table": EXP2}
    yield "one of many", {"logits": [None] * 12 + [-(10**9)] + [None] * 12, "table": EXP2}
    yield "the greatest is masked", {"logits": [0, None, 1 << 16], "table": EXP2}
    for top in (2**38 - 1, -(2**38) + 1):
        yield f"around {top}", {"logits": [top, top - 65536, top - 1], "table": EXP2}
    yield "whole range", {"logits": [2**38 - 1, 1 - 2**38], "table": EXP2}
    yield "octaves", {"logits": [-65536 * n for n in range(30)], "table": EXP2}


def _local(name: str, height: int, width: int, heads: int, d: int, top: int, shift: int, **layer: int) -> Input:
    """A case of random queries, keys and values of magnitude top."""
    return {
        "qkv": numbers(f"local/{name}", -top, top, height, width, 3 * heads * d),
        "op": {"heads": heads},
        "layer": {
            "constants": [shift],
            "bias": numbers("local/bias", -(2**17), 2**17, 81, heads),
            "limit": MAX,
            **layer,
        },
    }


@unit(
    "local-attention",
    "local_attention",
    cited("5.8-1..7 9.2-5 10.2-13..14"),
    "Positions outside the picture are left out or are masked for anchors only in part, the bias is that of the key "
    "less the query, anchors see non-anchors, or heads and window positions are ordered otherwise in the result.",
)
def local_attention() -> Cases:
    """Maps whose every window crosses a border, one and several heads, greatest logits, narrow clamps, biases that tell
    their places.
    """
    for height, width in ((1, 2), (1, 4), (2, 2), (3, 2), (4, 4), (5, 6)):
        yield f"{height}x{width}", _local(f"{height}{width}", height, width, 2, 1, 3000, 6)
    yield "heads of three channels", _local("three", 2, 4, 2, 3, 800, 4)
    yield "one head", _local("one", 3, 4, 1, 2, 800, 3)
    yield "clamp", _local("clamp", 2, 4, 1, 2, MAX, 14, limit=1000)
    for sign in (-1, 1):
        qkv = np.full((2, 4, 12), MAX)
        qkv[..., 4:8] *= sign
        qkv[0, 1::2, :4] *= -1
        qkv[..., 8:] *= sign
        bias = [[(2**31 - 1) * (-1) ** n, -(2**31) + n] for n in range(81)]
        yield case(
            f"greatest logits, sign {sign}",
            qkv=qkv,
            op={"heads": 2},
            layer={"constants": [0], "bias": bias, "limit": MAX},
        )
    places = {"constants": [30], "bias": [[n << 14] for n in range(81)], "limit": MAX}
    values = np.zeros((3, 4, 3), np.int64)
    values[..., 2] = np.arange(12).reshape(3, 4) * 100
    yield "biases alone", {"qkv": values, "op": {"heads": 1}, "layer": places}


def _near_ties(shift: int, end: int) -> Input:
    """Products of 2^(shift-1) and of its negative, less or more 0 to 3 or some hundreds; values of the whole range."""
    qkv = numbers(f"local/ties/{shift}", -MAX, MAX, 2, 4, 12)
    for n, below in enumerate((1, 0, 2, 300, 3, -1, 1, -200)):
        for head, sign in enumerate((1, -1)):
            query, key = near_tie(shift, below)
            qkv[n // 4, n % 4, 2 * head : 2 * head + 2] = query
            qkv[n // 4, n % 4, 4 + 2 * head : 6 + 2 * head] = sign * key[0], sign * key[1]
    inwards = -1 if end > 0 else 1
    bias = end + inwards * numbers(f"local/ties/bias/{shift}", 0, 4095, 81, 2)
    return {"qkv": qkv, "op": {"heads": 2}, "layer": {"constants": [shift], "bias": bias, "limit": MAX}}


@unit(
    "local-attention-ties",
    "local_attention",
    ("5.8-4", "5.2-2", "9.2-5", "10.2-13", "10.2-14"),
    "The position bias is added before the shift's floor in floating point: product, 1/2 and bias need up to 61 "
    "bits, a double has 53. Or the product is shifted without its rounding.",
)
def local_attention_ties() -> Cases:
    """Products at and around 2^(shift-1) and its negative, position biases near 2^31, -2^31 and 2^30."""
    for shift, end in product((24, 26, 28, 30), (2**31 - 1, -(2**31), 2**30)):
        yield f"shift {shift}, biases near {end}", _near_ties(shift, end)


def _linear(
    name: str, queries: int, keys: int, heads: int, d: int, top: int, constants: list[int], limit: int = MAX
) -> Input:
    """A case of random queries, keys and values of magnitude top."""
    q, k, v = (
        numbers(f"linear/{name}/{part}", -top, top, count, heads * d)
        for part, count in (("q", queries), ("k", keys), ("v", keys))
    )
    return {
        "queries": q,
        "keys": k,
        "values": v,
        "op": {"heads": heads},
        "layer": {"constants": constants, "limit": limit},
    }


@unit(
    "linear-attention",
    "linear_attention",
    ("5.9-1", "5.9-2", "5.9-3", "5.9-4", "5.9-5", "9.2-6", "10.2-15"),
    "Softmax of the keys runs over channels or is normalised per key, sums are rounded before the quotient, the "
    "context is not clamped, or context_shift is taken off again.",
)
def linear_attention() -> Cases:
    """Few and many positions, heads of one and more channels, shifts at both ends, quotients that are ties of both
    signs, contexts at the clamp, keys far apart.
    """
    for heads, d in ((1, 1), (1, 4), (3, 1), (2, 3)):
        for count in (1, 2, 9):
            yield (
                f"{heads} heads of {d}, {count} positions",
                _linear(f"{heads}{d}{count}", min(3, count), count, heads, d, 4095, [6, 7, 1]),
            )
    for constants in product((0, 16), (0, 16), (0, 12)):
        yield f"shifts {constants}", _linear("shifts", 2, 4, 1, 2, 2000, list(constants))
    yield "clamp", _linear("clamp", 2, 4, 1, 2, MAX, [4, 4, 2], limit=700)
    plain = {"constants": [0, 0, 0], "limit": MAX}
    for pair in ((1, 2), (-1, -2), (0, 1), (0, -1), (3, 4), (-3, -4)):
        yield case(
            f"tie of {pair}", queries=[[0]], keys=[[0], [0]], values=[[v] for v in pair], op={"heads": 1}, layer=plain
        )
    for v in (-MAX, MAX):
        yield case(
            f"contexts clamped at {v}",
            queries=[[0, 0]],
            keys=[[7, 7]] * 3,
            values=[[v, v // 2]] * 3,
            op={"heads": 1},
            layer={"constants": [16, 16, 12], "limit": MAX},
        )
        yield case(
            f"one position of {v}",
            queries=[[v, v]],
            keys=[[v, v]],
            values=[[v, v]],
            op={"heads": 1},
            layer={"constants": [16, 16, 0], "limit": MAX},
        )
    yield case(
        "keys far apart",
        queries=[[0, 0]],
        keys=[[MAX, -MAX], [-MAX, MAX], [0, 0]],
        values=[[1, 2], [30, 40], [500, 600]],
        op={"heads": 1},
        layer={"constants": [16, 0, 4], "limit": MAX},
    )


@unit(
    "linear-attention-halves",
    "global_attention",
    ("5.9-6", "6.7-2", "6.7-5"),
    "Keys and values of the intra attention are taken everywhere or at non-anchors, or it is not 0 at anchors.",
)
def linear_attention_halves() -> Cases:
    """Attention over maps: everywhere for the inter context; keys and values at anchors, results at non-anchors for the
    intra context.
    """
    for (name, split), (height, width) in product((("inter", False), ("intra", True)), ((1, 2), (2, 2), (3, 4))):
        maps = [numbers(f"halves/{part}/{height}", -4095, 4095, height, width, 4) for part in "qkv"]
        yield case(
            f"{name}, {height}x{width}",
            maps=maps,
            op={"split": split, "heads": 2, "channels": 4},
            layer={"constants": [6, 7, 1], "limit": 4095},
        )


@unit(
    "linear-attention-mask",
    "masked",
    ("6.7-4", "6.1-10", "6.3-1"),
    "Inputs of the intra context's first query and key layers are masked at the wrong half.",
)
def linear_attention_mask() -> Cases:
    """Inputs with one half alone; which operations have which mask, the layer table says."""
    x = np.arange(1, 25).reshape(3, 4, 2)
    for name, parity in (("anchors", 1), ("non-anchors", 0)):
        yield name, {"x": x, "parity": parity}
