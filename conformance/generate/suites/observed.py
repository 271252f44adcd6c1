"""Streams of the extremes suite in which a quantity passes a machine type and the picture changes if it does not fit.

``python -m conformance narrowing`` proves it, type by type.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refcodec.arith.checkerboard import NONANCHOR, take
from refcodec.model.procedural import draws
from refcodec.model.registry import load_model

from ...kit.clauses import cited
from ...synthetic.models import attentions, observed
from ...synthetic.models.edits import Edited
from ...synthetic.models.procedural import edited_file, model
from ...synthetic.streams import chunk, take_apart
from ...synthetic.writer import ChooseY, fill_z, random_stream, stream_of
from ...synthetic.z_tables import TABLES, Z_EXOTIC
from ..registry import Case, generator, sound

CH, D = attentions.CONFIG.ch, attentions.D
SEED = 20


def _fields(field: np.ndarray, half: bool = False) -> ChooseY:
    """Let y_hat be 64 times a map [h, w, ch] in slice 0, and in slice 1 near 0, where the picture shows every unit.

    With ``half`` slice 0 is near 0 at non-anchors, too.
    """

    def choose_y(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        wanted = 0 if i or (half and parity == NONANCHOR) else take(field, parity)
        return wanted - (means.astype(int) + 32 >> 6)

    return choose_y


def _drawn(name: str, side: int, bound: int) -> np.ndarray:
    """Symbols [side, side, ch] within a bound."""
    return draws(SEED, f"observed/{name}", side * side * CH, -bound, 2 * bound + 1).reshape(side, side, CH)


def _case(name: str, made: Edited, clauses: str, suggests: str, origin: str, data: bytes) -> Case:
    return Case(f"extremes/observed-{name}", data, made.model, cited(clauses), suggests, origin)


def _stream(made: Edited, width: int, height: int, **symbols: Any) -> bytes:
    """The stream of chosen symbols for a model."""
    return stream_of(load_model(edited_file(made.model)), width, height, **symbols)


@generator("extremes", "observed")
def sums() -> Iterator[Case]:
    """Sums of attentions, of products and of branches beyond 2^31 and 2^63: the picture shows each that wraps,
    saturates or is rounded.
    """
    yield _case(
        "logits",
        observed.WIDE_LOGITS,
        "5.8-4 5.7-3 5.9-2 5.9-4 9.2-5 9.2-6",
        "Products of queries and keys are summed in 32 bits, or differences of logits or keys have 32: sums of "
        "four products pass 2^31, differences 2^32.",
        f"symbols of slice 0 within 500, seed {SEED}",
        _stream(observed.WIDE_LOGITS, 64, 64, choose_y=_fields(_drawn("logits", 4, 500), True)),
    )
    yield _case(
        "weight-sums",
        observed.WEIGHT_SUMS,
        "5.7-4 5.8-6 9.2-5",
        "Weights times values are summed in signed 32 bits, or their sum is cut to 16 before its clamp: 24 equal "
        "weights sum to 65544.",
        f"symbols of slice 0 within 3, seed {SEED}",
        _stream(observed.WEIGHT_SUMS, 128, 128, choose_y=_fields(_drawn("weights", 8, 3), True)),
    )
    yield _case(
        "contexts",
        observed.CONTEXTS,
        "5.7-4 5.9-3 5.9-5 9.2-6",
        "Weights times contexts are summed in signed 32 bits, or their sum is cut to 16 before its clamp: the "
        "weights of 16 channels sum to more than 65538.",
        f"symbols of slice 0 within 500, seed {SEED}",
        _stream(observed.CONTEXTS, 192, 192, choose_y=_fields(_drawn("contexts", 12, 500))),
    )
    yield _case(
        "dividend",
        observed.CONTEXTS,
        "5.9-3 9.2-6",
        "A sum of exponentials times values is shifted by context_shift in 64 bits: it passes 2^63. Shift the "
        "remainder of the division instead, as 9.2-6 says.",
        "4352 positions, no symbols",
        _stream(observed.CONTEXTS, 1024, 1088),
    )
    yield _case(
        "partial-sums",
        observed.PARTIAL_SUMS,
        "5.3-3 5.3-5 9.2-2",
        "Accumulators saturate, or an overflow of a partial sum ends the decoder: sums without their bias reach 2^31.8 "
        "and are allowed to wrap.",
        f"symbols within 300, seed {SEED}",
        _stream(observed.PARTIAL_SUMS, 64, 64, choose_y=_fields(_drawn("partial sums", 4, 300))),
    )


@generator("extremes", "observed-clamps")
def clamps() -> Iterator[Case]:
    """Tensors at -32767 that a saturating instruction makes -32768, and half of it or its sum with 32767 behind."""
    suggests = "A clamp to -32767..32767 is a saturation to 16 bits, such as packs of SSE or a narrowing of NEON gives."
    symbols = np.zeros(len(TABLES), int)
    symbols[Z_EXOTIC[0]] = -512
    yield _case(
        "z-low",
        observed.Z_LOW,
        "5.2-1 6.4-4 6.9-1",
        suggests,
        "-512 in one channel of z",
        _stream(observed.Z_LOW, 64, 64, choose_z=fill_z(symbols)),
    )
    field = np.zeros((4, 4, CH), int)
    field[..., [observed.PACKS[name] for name in ("y_hat", "refined", "sum")]] = -512
    field[..., observed.PACKS["gain"]] = -256
    yield _case(
        "packs",
        observed.PACKED,
        "5.2-1 5.3-3 5.4-1..2 5.5-3 6.9-1..2",
        suggests,
        f"-512 or -256 in channels {', '.join(map(str, observed.PACKS.values()))} of y",
        _stream(observed.PACKED, 64, 64, choose_y=_fields(field)),
    )


TOP, LOW, FAR = 0, -24, -500
"""Keys in octaves: exponentials are 2^24, 1 and 0."""


def near_ties() -> np.ndarray:
    """Symbols [4, 4, ch] of slice 0: quotients of the inter attention lie on a tie, or 2^-25 below, by the channel.

    The first head reads channel 0 alone. Its keys are channel 4: at three anchors 2^24, 2^24 and 1. Values are
    channels 8 to 11: there k, k + 1 and k or k + 1. With k + 1 the quotient is k + 1/2, and it is k + 1/2 only if the
    last product counts; with k it is below, unless the last exponential is lost.
    """
    field = np.zeros((4, 4, CH), int)
    field[..., 0], field[..., D] = 400, FAR
    for place, key, more in (((0, 1), TOP, 0), ((0, 3), TOP, 1), ((1, 0), LOW, None)):
        field[place][D] = key
        for c, k in enumerate((480, 485, 300, -491)):
            field[place][2 * D + c] = k + (c % 2 if more is None else more)
    return field


@generator("extremes", "observed-ties")
def ties() -> Iterator[Case]:
    """Quotients of the linear attention a little below and above a tie: rounding to a float32 moves them across."""
    yield Case(
        "extremes/observed-near-ties",
        stream_of(model("attentions"), 64, 64, choose_y=_fields(near_ties())),
        "attentions",
        cited("5.9-3 5.2-3 9.2-6"),
        "Sums of exponentials or of their products with values are float32, which has 24 bits.",
        "values k, k + 1 and k or k + 1 with weights 2^24, 2^24 and 1",
        definition=True,
    )


@sound("plain")
def plain() -> bytes:
    """A valid stream without metadata."""
    return random_stream(model("single-7"), 24, 2, 1, 1, style="plain", digest=False)


@generator("extremes", "long-payload")
def long_payload() -> Iterator[Case]:
    """A payload of 2^24 bytes, the longest that is allowed."""
    parts = take_apart(plain())
    parts.chunks = [chunk(b"note", bytes(2**24))]
    yield Case(
        "extremes/payload-2-24",
        parts.sealed(),
        "single-7",
        cited("8.4-9 9.1-5"),
        "A payload of 2^24 bytes is refused, or its length is read with 24 bits.",
        "a chunk of 2^24 zeros",
        base="plain",
    )


@generator("extremes", "slices")
def slices() -> Iterator[Case]:
    """A model of eleven slices."""
    yield Case(
        "extremes/slices-11",
        random_stream(model("eleven-7"), 11, 64, 64),
        "eleven-7",
        cited("6.1-2 6.3-3 6.3-10 6.9-6 9.1-6"),
        "Slices are counted in a list of ten, as of the published models, or their order is that of names as text.",
        "random symbols, seed 11",
    )
