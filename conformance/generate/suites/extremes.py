"""The extremes suite: the largest accumulators, every clamp on both sides, ties of every rounding, every threshold.

What it reaches is measured by probe.py; ``python -m conformance bounds`` prints proved and reached bounds side by side.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refcodec.arith.checkerboard import ANCHOR, take
from refcodec.limits import MAX_SYMBOL
from refcodec.model.procedural import draws
from refcodec.model.proof import INT16_MAX
from refcodec.model.registry import load_model

from ...kit.clauses import cited
from ...reach.search import RANDOM, SEED, STEPS, Pattern, direct_patterns, stored_patterns
from ...synthetic.models import attentions, broken_models, limits
from ...synthetic.models.procedural import edited_file, model
from ...synthetic.writer import ChooseY, fill_y, fill_z, no_y, random_stream, stream_of
from ...synthetic.z_tables import Z_EXOTIC
from ..registry import Case, generator
from .entropy import block_scales

ACCUMULATORS = ("5.3-1", "5.3-3", "5.3-4", "7.2-6", "9.2-1", "9.2-2")


def _signed(sign: int, quality: int) -> Pattern:
    """Every symbol of the model of limits at its channel's sign, or the opposite one."""
    found = limits.signs(model("limits").ops)
    z = np.broadcast_to(sign * found["z_hat"], (3, 3, limits.CONFIG.hyper))
    return Pattern(z, np.broadcast_to(sign * found["y_hat"], (12, 12, limits.CONFIG.M)), quality)


@generator("extremes", "limits")
def at_limits() -> Iterator[Case]:
    """The model of limits: one stream drives the accumulators of nearly all convolutions to 2^31 - 1 or its negative,
    sums to 2^30.6, norms of IGDN to 2^52 - 1, logits to 2^32.6; at qualities with all shifts of gains and both ends
    of their multipliers, and with all signs opposite.
    """
    for name, sign, quality in (
        ("plus", 1, 1),
        ("minus", -1, 1),
        ("plus-q002", 1, 2),
        ("plus-q014", 1, 14),
        ("minus-q100", -1, 100),
    ):
        yield Case(
            f"extremes/limits-{name}",
            _signed(sign, quality).stream(model("limits")),
            "limits",
            (
                *ACCUMULATORS,
                *cited(
                    "5.3-5..6 5.3-8 5.4-1..2 5.5-1 5.5-3 5.8-4 9.2-3 9.2-5 9.2-7 10.2-3..4 10.2-6 10.2-8..9 10.2-14"
                ),
            ),
            "A register is too narrow: an accumulator of 32 bits overflows before its end, pairs of 16-bit products "
            "are summed in 32 bits with saturation, a norm of 52 bits or a logit of 33 bits is cut.",
            f"limits.py, signs {name}, magnitudes 32767",
        )


@generator("extremes", "direct")
def direct() -> Iterator[Case]:
    """A procedural model's layers that read what the stream holds: symbols of the signs of the filter with the greatest
    bound, which they reach exactly; behind masked inputs as far as the mask allows.
    """
    seen: set[str] = set()
    for name, pattern in direct_patterns(model("tiny-7")):
        label = name.replace("/", ".").replace("_", "") + ("-shifted" if name in seen else "")
        seen.add(name)
        yield Case(
            f"extremes/direct-{label}",
            pattern.stream(model("tiny-7")),
            "tiny-7",
            ACCUMULATORS,
            f"The accumulator of {name} is too narrow, or its weights are indexed wrongly: the symbols are the "
            "signs of one filter.",
            f"signs of the filter of {name} with the greatest bound",
        )


@generator("extremes", "reach")
def reach() -> Iterator[Case]:
    """A procedural model's deeper layers: of the patterns of signs that a search has tried, those with the greatest
    value of some bounded quantity.
    """
    for n, (pattern, names) in enumerate(stored_patterns(model("tiny-7"))):
        yield Case(
            f"extremes/reach-{n:03}",
            pattern.stream(model("tiny-7")),
            "tiny-7",
            (*ACCUMULATORS, "9.2-4", "9.2-5", "9.2-6"),
            f"A register is too narrow in {' or '.join(names)}, or sums that no picture reaches are cut on the "
            "way to it.",
            f"found by {RANDOM} random patterns and {STEPS} changes a quantity, seed {SEED}; found.json",
        )


@generator("extremes", "clamps")
def clamps() -> Iterator[Case]:
    """The model of narrow clamps, random symbols: every tensor of the decoder meets its clamp on both sides, behind
    GELU too, and small integers make ties of roundings common.
    """
    for style, quality, channels in (("mixed", 1, 3), ("extremes", 18, 1), ("plain", 50, 3), ("edges", 63, 1)):
        yield Case(
            f"extremes/clamps-{style}-q{quality:03}",
            random_stream(model("narrow"), SEED, 192, 128, channels, quality, style),
            "narrow",
            cited(
                "4.3-1 4.3-3 5.1-1 5.2-1..2 5.3-3 5.3-6 5.3-11 5.4-1..3 5.5-3 5.8-6"
                " 5.9-3 5.9-5 6.8-5 6.8-8 6.9-1..2 10.2-5 10.2-10 10.2-20..21"
            ),
            "A clamp is missing, not symmetric, or applied before GELU; or a shift rounds towards zero.",
            f"style {style}, seed {SEED}, step {quality}",
        )


@generator("extremes", "thresholds")
def thresholds() -> Iterator[Case]:
    """Every threshold of scales and both its neighbours: in each block of a picture of wires the scale of channel c is
    a threshold plus c % 3 - 1. Scales below 0 and of the greatest level stand behind.
    """
    made = model("wires")
    scales = [*made.tables.thresholds.tolist(), -4096, -1, 0, 262142]
    width, height, choose_z = block_scales(scales, columns=12)
    yield Case(
        "extremes/thresholds",
        stream_of(made, width, height, choose_z=choose_z, choose_y=no_y),
        "wires",
        ("6.8-5", "6.8-6", "A.5-2", "5.3-8"),
        "The comparison of a scale with a threshold is strict where it should not be, the search for a level "
        "starts or ends one off, or negative scales have no level.",
        "every threshold - 1, + 0, + 1",
    )


@generator("extremes", "norms")
def norms() -> Iterator[Case]:
    """Layer normalisation of constant vectors, of one value against all others, of halves against halves, at the ends
    of y_hat, where sums of squares are greatest or 0.
    """
    made = model("tiny-7")
    ch = made.config.ch
    halves = 1 - 2 * (np.arange(ch) % 2)
    one = np.where(np.arange(ch) == 3, 1, -1)
    for name, signs in (
        ("constant", np.ones(ch, int)),
        ("constant-negative", -np.ones(ch, int)),
        ("one-high", one),
        ("one-low", -one),
        ("halves", halves),
    ):
        yield Case(
            f"extremes/norm-{name}",
            stream_of(made, 64, 64, choose_y=fill_y(MAX_SYMBOL * signs)),
            "tiny-7",
            ("5.6-1", "5.6-2", "5.6-3", "6.5-2", "9.2-4"),
            "A constant vector divides by 0, the variance overflows, or its root is lifted once too often.",
            f"every position of y has the signs {name} with magnitude 32767",
            definition=name == "one-high",
        )


def _anchors(field: np.ndarray) -> ChooseY:
    """Symbols of slice 0's anchors from a map [h, w, ch]; 0 elsewhere."""

    def choose_y(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        return take(field, ANCHOR) if (i, parity) == (0, ANCHOR) else np.zeros(levels.shape, int)

    return choose_y


def _whole(field: np.ndarray) -> ChooseY:
    """Symbols of slice 0 from a map [h, w, ch]; 0 in slice 1."""

    def choose_y(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        return take(field, parity) if i == 0 else np.zeros(levels.shape, int)

    return choose_y


def tie_field(rows: int, columns: int) -> np.ndarray:
    """Symbols [rows, columns, ch]: equal queries and keys for a head of the linear attentions, small values elsewhere.

    At one anchor a single 1 stands among zeros, for the tie of the normalisation.
    """
    ch, d = attentions.CONFIG.ch, attentions.D
    field = draws(SEED, "ties", rows * columns * ch, -3, 7).reshape(rows, columns, ch)
    field[:, :, : 2 * d] = 0
    field[0, 1], field[0, 1, 2 * d + 1] = 0, 1
    return field


@generator("extremes", "attentions")
def attention_sums() -> Iterator[Case]:
    """Attentions at their extremes: all logits equal; equal and as large or as negative as the clamp allows; one key or
    place that takes everything; windows that are mostly outside; and ties of the weights' and all other roundings.
    """
    made, ch = model("attentions"), attentions.CONFIG.ch
    halves = np.broadcast_to(1 - 2 * (np.arange(ch) % 2), (12, 12, ch))
    single = np.full((12, 12, ch), -500)
    single[5, 6] = 500
    fields = {
        "equal": (_whole(np.zeros((12, 12, ch), int)), "every symbol 0: all logits equal"),
        "large": (_whole(MAX_SYMBOL * halves), "channels 32767 and -32767 in turn: logits equal and far from 0"),
        "alternating": (
            _whole(halves * np.where(np.add.outer(np.arange(12), np.arange(12)) % 4 < 2, 3, -3)[..., None]),
            "channels 3 and -3 in turn, signs by diagonal: logits of both signs",
        ),
        "one-key": (_whole(single), "500 at one position, -500 at the others: one key takes everything"),
        "ties": (_whole(tie_field(4, 4)), f"tie_field, seed {SEED}"),
    }
    for name, (choose_y, origin) in fields.items():
        size = 64 if name == "ties" else 192
        yield Case(
            f"extremes/attention-{name}",
            stream_of(made, size, size, choose_y=choose_y),
            "attentions",
            cited("5.7-1..4 5.8-1 5.8-3..6 5.9-2..6 6.7-3 6.7-5 10.2-13 10.2-15"),
            "A softmax loses its maximum, an exponential is 0 too early, the reciprocal or a quotient is "
            "rounded instead of cut, or keys outside the picture or of another half take part.",
            origin,
        )
    yield Case(
        "extremes/attention-border",
        stream_of(made, 64, 64, choose_y=_anchors(tie_field(4, 4))),
        "attentions",
        ("5.8-3", "5.8-5", "5.8-7", "6.5-2"),
        "Positions outside the picture are left out, or take part where only anchors inside do: every window of "
        "a picture of one block reaches beyond it.",
        f"tie_field at anchors, seed {SEED}",
        definition=True,
    )
    yield Case(
        "extremes/attention-random",
        random_stream(made, SEED, 192, 128, style="escapes"),
        "attentions",
        ("5.7-1", "5.7-4", "5.8-4", "5.9-3", "5.9-4"),
        "As the other vectors of attentions.",
        f"style escapes, seed {SEED}",
    )


@generator("extremes", "logits")
def logits() -> Iterator[Case]:
    """The model of logits: products of queries and keys lie up to some 100 below and above 2^29 or -2^29, the shift is
    30, and position biases are near 2^31, -2^31, 2^30 and -2^29.
    """
    made, ch = model("logits"), attentions.CONFIG.ch
    for name, bound in (("small", 3), ("large", 20)):
        field = draws(SEED, f"logits/{name}", 64 * ch, -bound, 2 * bound + 1).reshape(8, 8, ch)
        yield Case(
            f"extremes/logits-{name}",
            stream_of(made, 128, 128, choose_y=_anchors(field)),
            "logits",
            cited("5.2-2 5.8-4..5 5.7-3 6.5-2 9.2-5 10.2-13..14"),
            "The position bias is added before the shift's floor in floating point: product, 1/2 and bias need "
            "61 bits, a double has 53. Logits are 1 too great then.",
            f"symbols of anchors within {bound}, seed {SEED}",
            definition=name == "small",
            trace=True,
        )


@generator("extremes", "z")
def z_ends() -> Iterator[Case]:
    """All of z at an end of its clamp while y is 0, and the other way round, for a procedural model at both ends of its
    qualities.
    """
    made = model("tiny-7")
    for quality in (1, 100):
        for sign, name in ((1, "high"), (-1, "low")):
            end = sign * MAX_SYMBOL
            yield Case(
                f"extremes/z-{name}-q{quality:03}",
                stream_of(made, 64, 64, quality=quality, choose_z=fill_z(end)),
                "tiny-7",
                ("6.4-2", "6.4-4", "6.9-1", "6.9-4", "5.4-2"),
                "z_hat is not clamped, or the gain of another step is taken.",
                f"every symbol of z is {end}",
            )
            yield Case(
                f"extremes/y-{name}-q{quality:03}",
                stream_of(made, 64, 64, quality=quality, choose_y=fill_y(end)),
                "tiny-7",
                ("6.9-1", "6.9-2", "6.9-4", "6.3-6", "6.3-8", "5.4-2"),
                "y_hat is not clamped before or after its residual, or the gain of another step is taken.",
                f"every symbol of y is {end}",
            )


@generator("extremes", "models")
def limits_of_models() -> Iterator[Case]:
    """Models that reach a bound of the proof exactly, and one whose shifts, clamps and formats are at their limits."""
    for n, sound in enumerate(broken_models.SOUND):
        yield Case(
            f"extremes/model-{sound.name}",
            random_stream(load_model(edited_file(sound.model)), 10 + n, 40, 70),
            sound.model,
            sound.clauses,
            f"A model with {sound.says} is refused, or such shifts and clamps are computed otherwise.",
            f"nano-7 with {sound.says}, random symbols, seed {10 + n}",
        )


@generator("extremes", "norm-ties")
def norm_ties() -> Iterator[Case]:
    """Normalisations whose quotients are -15/2, -1/2, 1/2 and 15/2 exactly: each rounding rule but halves up gives
    another number for one of them.
    """

    def choose_y(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        symbols = np.zeros(levels.shape, np.int32)
        if (i, parity) == (0, ANCHOR):
            for n, (row, column) in enumerate(np.ndindex(levels.shape[:2])):
                symbols[row, column, n % levels.shape[2]] = 1 - 2 * ((row + column) % 2)
        return symbols

    yield Case(
        "extremes/norm-ties",
        stream_of(model("attentions"), 64, 64, choose_y=choose_y),
        "attentions",
        ("5.2-3", "5.6-1", "5.6-3"),
        "A quotient of the normalisation is rounded to even or away from zero.",
        "one symbol 1 or -1 among zeros at every anchor of slice 0",
        definition=True,
    )


@generator("extremes", "mean-ends")
def mean_ends() -> Iterator[Case]:
    """Means that saturate at either end, and symbols that bring y_hat from there back to 1 and -1."""

    def choose_z(medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        symbols = np.zeros(shape, np.int32)
        symbols[:, :, list(Z_EXOTIC)] = [512 * (-1) ** n for n in range(len(Z_EXOTIC))]
        return symbols

    def choose_y(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        return np.where(np.abs(means) == INT16_MAX, -512 * np.sign(means), 0)

    yield Case(
        "extremes/mean-ends",
        stream_of(model("wires"), 64, 64, choose_z=choose_z, choose_y=choose_y),
        "wires",
        ("5.1-2", "6.8-5", "6.9-1"),
        "Means saturate at another number than 32767 and -32767.",
        "symbols 512 and -512 of z, and of y those of the other sign",
    )
