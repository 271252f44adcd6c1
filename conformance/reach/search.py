"""Symbols of the greatest magnitude by which a model's accumulators come close to their bounds: known, or searched.

Where a layer reads what the stream holds, the symbols follow from the signs of one filter. Deeper, patterns of signs
are tried: those that slopes suggest, random ones, and from the best of a layer on random changes that are kept if they
raise it. Every trial counts for all layers. The search is a function of its seed; what it found is stored, for it takes
minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.arith.checkerboard import take
from refcodec.limits import MAX_SYMBOL
from refcodec.model.integer_model import Model
from refcodec.model.layer_table import Op
from refcodec.model.layers import Conv
from refcodec.model.procedural import draws
from refcodec.model.proof import bound_table, conv_extremes, tensor_channels

from ..synthetic.writer import ChosenSymbols, stream_of
from .backward import side_of, symbol_slopes
from .probe import Reach, measure

FOUND = Path(__file__).with_name("found.json")

SEED = 20

RANDOM, STEPS = 200, 20
"""The budget in addition to two suggested patterns per convolution: random patterns, and changes tried for every
bounded quantity of every operation of the decoder."""

LARGE = 8
"""One random pattern in so many has 2x2 blocks: windows of 5x5 positions of y and of several positions of z fit in."""

ENCODER_ONLY = ("g_a", "h_a", "y", "z")
"""Parts whose operations no stream reaches."""

Text = dict[str, Any]
"""A pattern as found.json holds it."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Signs of all symbols of a stream.

    Attributes
    ----------
    z : np.ndarray [h / 4, w / 4, hyper], -1, 0 or 1
    y : np.ndarray [h, w, M], -1, 0 or 1
    quality : int
    """

    z: np.ndarray
    y: np.ndarray
    quality: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return 16 * self.y.shape[1], 16 * self.y.shape[0]

    def _choose_z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        return MAX_SYMBOL * self.z

    def _choose_y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        ch = levels.shape[2]
        return MAX_SYMBOL * take(self.y[:, :, i * ch : (i + 1) * ch], parity)

    def stream(self, model: Model) -> bytes:
        """(SPEC 7.2-6) The stream whose symbols are these signs times 32767."""
        return stream_of(model, *self.size, quality=self.quality, choose_z=self._choose_z, choose_y=self._choose_y)

    def measure(self, model: Model, reach: Reach) -> None:
        """Take in what the stream reaches, without making it."""
        port = ChosenSymbols(model, self._choose_z, self._choose_y, "numpy")
        measure(model, port, *self.size, 3, self.quality, reach)

    def as_text(self) -> Text:
        """Signs as characters, row by row."""
        signs = {name: "".join("-0+"[s + 1] for s in getattr(self, name).reshape(-1).tolist()) for name in ("z", "y")}
        return {**signs, "quality": self.quality}


def shapes(model: Model, blocks: int) -> dict[str, tuple[int, int, int]]:
    """Shapes of the signs of z and y for a square of blocks."""
    return {"z": (blocks, blocks, model.config.hyper), "y": (4 * blocks, 4 * blocks, model.config.M)}


def from_text(model: Model, text: Text) -> Pattern:
    """The inverse of ``Pattern.as_text``, for squares."""
    signs = {
        name: np.array(["-0+".index(c) - 1 for c in text[name]]).reshape(shape)
        for name, shape in shapes(model, isqrt(len(text["z"]) // model.config.hyper)).items()
    }
    return Pattern(signs["z"], signs["y"], text["quality"])


def aligned(model: Model, op: Op, at: tuple[int, int], blocks: int) -> Pattern:
    """Signs that raise the accumulator of the output with the greatest bound.

    Parameters
    ----------
    model : Model
    op : Op
        A convolution.
    at : (row, column)
        Position in its result, before a shuffle.
    blocks : int
        Side of the picture in blocks.

    Returns
    -------
    Pattern
        Signs of the symbols of z and y.
    """
    layer = model.layers[op.name]
    assert isinstance(layer, Conv)
    low, high = conv_extremes(op, layer, model.layers, tensor_channels(model.ops))
    output = int(np.argmax(np.maximum(high, -low)))
    sign = 1 if high[output] >= -low[output] else -1
    z, y = (np.sign(sign * part).astype(int) for part in symbol_slopes(model, op.name, output, at, blocks))
    return Pattern(z, y)


def is_direct(op: Op, ops: dict[str, Op]) -> bool:
    """Whether gains and narrower copies alone lie between the stream and a convolution, or one 1x1 layer as well if it
    is depthwise.
    """
    sources = ops[op.inputs[0]].inputs if op.depthwise else op.inputs
    return all(name in ops and ops[name].kind in ("gain", "rescale") for name in sources)


def decoder_convolutions(model: Model) -> list[Op]:
    """Convolutions that a stream has a say in."""
    return [op for op in model.ops if op.kind == "conv" and op.name.split("/")[0] not in ENCODER_ONLY]


def direct_patterns(model: Model) -> Iterator[tuple[str, Pattern]]:
    """Name of an operation that reads what the stream holds, and the signs of its filter with the greatest bound.

    They are placed at a non-anchor, or at an anchor if only these are read, and at both where a mask lets half of them
    pass.
    """
    ops = {op.name: op for op in model.ops}
    for op in decoder_convolutions(model):
        if is_direct(op, ops):
            part, leaf = op.name.split("/")[0], op.name.split("/")[-1]
            columns = {"queries0": (1,), "keys0": (2,), "values0": (2,)}.get(leaf, (1, 2)) if part == "intra" else (1,)
            for column in columns:
                yield op.name, aligned(model, op, (1, column), 3 if part == "h_s" else 1)


def aligned_patterns(model: Model) -> Iterator[Pattern]:
    """Patterns that slopes suggest for every convolution, at two neighbours, an anchor and a non-anchor."""
    for op in decoder_convolutions(model):
        middle = side_of(op)  # of two blocks
        yield aligned(model, op, (middle, middle), 2)
        yield aligned(model, op, (middle - 1, middle), 2)


def random_patterns(model: Model) -> Iterator[Pattern]:
    """Random signs: of every symbol, of every channel, of a few symbols; at all qualities in turn."""
    for n in range(RANDOM):
        density = (100, 100, 40, 8)[n // LARGE % 4]
        parts = []
        for name, shape in shapes(model, 2 if n % LARGE == 0 else 1).items():
            kept = draws(SEED, f"{n}/{name}/kept", int(np.prod(shape)), 0, 100).reshape(shape) < density
            drawn = 1 - 2 * draws(SEED, f"{n}/{name}/sign", int(np.prod(shape)), 0, 2).reshape(shape)
            parts.append((drawn[:1, :1] if n // LARGE % 4 == 1 else drawn) * kept)
        yield Pattern(parts[0], parts[1], 1 + n * 7 % model.config.steps)


def changed(pattern: Pattern, key: str) -> Pattern:
    """A pattern with a random part turned: a channel, a position, some single symbols, or all of z."""
    kind, at, channel = (int(v) for v in draws(SEED, key, 3, 0, np.array([1 << 16] * 3)))
    z, y = pattern.z.copy(), pattern.y.copy()
    rows, columns, channels = y.shape
    if kind % 4 == 0:
        y[:, :, channel % channels] *= -1
    elif kind % 4 == 1:
        y[at % rows, at // rows % columns] *= -1
    elif kind % 4 == 2:
        chosen = draws(SEED, f"{key}/chosen", y.size, 0, 32).reshape(y.shape) == 0
        y[chosen] = 1 - 2 * draws(SEED, f"{key}/sign", int(chosen.sum()), 0, 2)
    else:
        z[:, :, channel % z.shape[2]] *= -1
    return replace(pattern, z=z, y=y)


Target = tuple[str, str]
"""Operation and quantity of SPEC 9.2."""


def targets(model: Model) -> list[Target]:
    """(SPEC 9.2) Every bounded quantity that a stream has a say in."""
    return [
        (b.name, b.quantity)
        for b in bound_table(model.ops, model.layers)
        if b.name.split("/")[0] not in ENCODER_ONLY and b.quantity != "channels"
    ]


def search(model: Model, say: Callable[[str], None]) -> list[Text]:
    """The best of the stated budget: patterns as text, each with the operations in which it is the best.

    Parameters
    ----------
    model : Model
        Small: every trial decodes one block and measures it.
    say : callable(str)
        Told how far it is.
    """
    best: dict[Target, tuple[int, Pattern]] = {}
    wanted = targets(model)

    def trial(pattern: Pattern) -> Reach:
        reach = Reach()
        pattern.measure(model, reach)
        for target in wanted:
            value = reach.magnitude(*target)
            if value > best.get(target, (0, pattern))[0]:
                best[target] = value, pattern
        return reach

    for pattern in (*aligned_patterns(model), *random_patterns(model)):
        trial(pattern)
    exact = {name for name, _ in direct_patterns(model) if not name.startswith("intra/")}
    deep = [target for target in wanted if target[0] not in exact]
    for n, target in enumerate(deep):
        say(f"{n + 1} of {len(deep)}: {target[0]}, {target[1]}")
        for step in range(STEPS):
            trial(changed(best[target][1], f"{target}/{step}"))
    kept: dict[Pattern, dict[str, None]] = {}
    for name, quantity in deep:
        kept.setdefault(best[name, quantity][1], {})[name] = None
    return [pattern.as_text() | {"best": list(names)} for pattern, names in kept.items()]


def stored_patterns(model: Model) -> Iterator[tuple[Pattern, list[str]]]:
    """Results of the search: patterns, and the operations in which each is the best."""
    for text in json.loads(FOUND.read_text(encoding="utf-8")):
        yield from_text(model, text), text["best"]
