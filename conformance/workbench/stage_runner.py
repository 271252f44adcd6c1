"""Runs parts of the reference decoder on given values: one operation, a group of them, the coder, the walk, the output.

A part is what an implementer can port on its own:

    NAME            an operation of the layer table (SPEC 6.1), or all below a name: "g_s/1/igdn", "lrp_anchor/0", "g_s"
    ctx/i#n         the n-th making of a context copy, n = 0..3 (anchors: symbols, residual; non-anchors: the same)
    coder/z coder/y the symbols of a segment, from its bytes and the table number of every symbol
    walk            y_hat from hyper parameters and the symbols of y: the slices, without the coder
    samples         the output from the planes of g_s

Values are arrays [H, W, C] by the names of the tensors; halves of the checkerboard are packed as in a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refcodec.arith.checkerboard import ANCHOR, NONANCHOR, take
from refcodec.arith.engine import Engine
from refcodec.arith.maps import interior
from refcodec.entropy.rans import RangeDecoder
from refcodec.limits import MAX_SYMBOL
from refcodec.model.integer_model import Model
from refcodec.model.layer_table import Op
from refcodec.model.proof import tensor_channels, tensor_range
from refcodec.nets.heads import KIND
from refcodec.planes import crop_samples
from refcodec.slices import walk_slices

from ..kit.errors import UsageError

Values = Mapping[str, np.ndarray]

SPECIAL = {
    "coder/z": ("segment", "tables"),
    "coder/y": ("segment", "tables"),
    "walk": ("h_s/4", "y_symbols"),
    "samples": ("g_s/7",),
}
"""Inputs of the parts that are no operations of the layer table."""


@dataclass(frozen=True)
class Part:
    """A part of the decoder.

    Attributes
    ----------
    name : str
        Without the turn of a context copy.
    inputs : tuple of str
        Names of the values it reads.
    ops : tuple of Op
        Its operations in order, none for a special part.
    turn : int
        Of a context copy, else 0.
    """

    name: str
    inputs: tuple[str, ...]
    ops: tuple[Op, ...] = ()
    turn: int = 0


def part_of(model: Model, text: str) -> Part:
    """The part that a text names.

    Raises
    ------
    UsageError
        There is none, or it is not computed in one go.
    """
    if text in SPECIAL:
        return Part(text, SPECIAL[text])
    name, _, number = text.rstrip("/").partition("#")
    ops = tuple(op for op in model.ops if op.name == name or op.name.startswith(f"{name}/"))
    heads = sorted({_once(op.name) for op in model.ops})
    if not ops or len({_once(op.name) for op in ops}) > 1:
        raise UsageError(
            f"{text!r} is no part of this decoder that runs in one go; there are "
            f"{', '.join([*SPECIAL, *heads])} and the operations below these names"
        )
    turn = 0
    if number or name.startswith("ctx/"):
        if number not in ("0", "1", "2", "3") or not name.startswith("ctx/"):
            raise UsageError(f"{text!r}: a context copy is made four times, ctx/0#0 to ctx/0#3, everything else once")
        turn = int(number)
    made = {op.name for op in ops}
    read = [n for op in ops for n in (*op.inputs, *((op.add,) if op.add else ())) if n not in made]
    return Part(name, tuple(dict.fromkeys(read)), ops, turn)


def _once(name: str) -> str:
    """The largest part around an operation whose operations follow each other without a symbol between."""
    first, second = [*name.split("/"), ""][:2]
    return first if first in ("g_a", "y", "h_a", "z", "h_s", "g_s") else f"{first}/{second}"


def run_part(
    model: Model,
    part: Part,
    values: Values,
    step: int = 0,
    crop: tuple[int, int, int] | None = None,
    backend: str | None = None,
) -> np.ndarray:
    """The result of a part on given values.

    Parameters
    ----------
    model : Model
    part : Part
    values : mapping of str to np.ndarray of integers
        Its inputs.
    step : int
        Index of the quality, 0 for the first.
    crop : (height, width, channels) or None
        Of the picture; for "samples" alone, None for all of three planes.
    backend : "numba", "numpy" or None

    Returns
    -------
    np.ndarray
        The last operation's, packed where a trace shows it packed.

    Raises
    ------
    UsageError
        A value is missing, of another shape, or outside its tensor's range.
    CoderError, SymbolError
        The segment does not decode.
    """
    if missing := [name for name in part.inputs if name not in values]:
        raise UsageError(f"{part.name}: no value of {', '.join(missing)}")
    engine = Engine(model.layers, model.tables, step, 1, backend, lambda name, result: None)
    if part.name.startswith("coder/"):
        return _decode(model, part.name, values, engine.backend)
    _check(model, part, values)
    if part.name == "walk":
        return _walk_given(model, engine, values["h_s/4"], values["y_symbols"])
    if part.name == "samples":
        planes = np.clip(values["g_s/7"], 0, 255).astype(np.uint8)
        height, width, channels = crop or planes.shape
        return crop_samples(planes[:height], min(height, len(planes)), min(width, planes.shape[1]), channels)
    known = dict(values)
    for op in part.ops:
        known[op.name] = _operate(engine, op, known)
    return known[part.ops[-1].name]


def _check(model: Model, part: Part, values: Values) -> None:
    widths = tensor_channels(model.ops) | {f"y_hat/{i}": model.config.ch for i in range(model.config.slices)}
    for name in part.inputs:
        if name not in widths:
            continue
        found, channels = values[name], widths[name]
        if found.ndim != 3 or found.shape[2] != channels or not found.size:
            raise UsageError(f"{name}: the shape is {list(found.shape)}, expected [rows, columns, {channels}]")
        low, high = tensor_range(name, model.layers)
        if low > found.min() or found.max() > high:
            raise UsageError(
                f"{name}: its numbers are {found.min()}..{found.max()}, beyond its range {low}..{high}, "
                "for which overflow is excluded (SPEC 9.2)"
            )


def _map(engine: Engine, values: np.ndarray) -> np.ndarray:
    out = engine.map(*values.shape)
    interior(out)[...] = values
    return out


def _copy_of(x: np.ndarray) -> np.ndarray:
    """The interior of a map, which outlives the map's memory."""
    values: np.ndarray = interior(x).copy()
    return values


def _operate(engine: Engine, op: Op, known: Values) -> np.ndarray:
    """One operation of the layer table, as the networks in refcodec/nets call it."""
    family, leaf = op.name.split("/")[0], op.name.rsplit("/", 1)[-1]
    maps = [known[name] for name in op.inputs]
    halved = (family in ("local", "intra") and leaf in ("attention", "queries0", "keys0")) or (
        family.startswith("lrp_") and not op.gelu
    )
    if halved and maps[0].shape[1] % 2:
        raise UsageError(f"{op.inputs[0]}: {maps[0].shape[1]} columns have no halves of equal width (SPEC 6.3)")
    if family.startswith("ep_") and "h_s/4" in op.inputs:
        parity, width = KIND.index(family[3:]), known["h_s/4"].shape[1]
        maps = [take(m, parity) if m.shape[1] == width and width % 2 == 0 else m for m in maps]
    _same_sizes(op, maps)
    if op.kind == "conv":
        return _convolve(engine, op, maps, known)
    given = [_map(engine, m) for m in maps]
    if op.kind == "linear_attention":
        keys_at, queries_at = (ANCHOR, NONANCHOR) if family == "intra" else (-1, -1)
        queries, keys, weighed = given
        return _copy_of(engine.linear_attention(op.name, queries, keys, weighed, keys_at, queries_at))
    return _copy_of(getattr(engine, op.kind)(op.name, *given))


def _convolve(engine: Engine, op: Op, maps: list[np.ndarray], known: Values) -> np.ndarray:
    family, leaf = op.name.split("/")[0], op.name.rsplit("/", 1)[-1]
    if op.inputs == ("x",):
        maps = [*maps, np.zeros_like(maps[0][:, :, :1])]  # the engine reads four planes
    x, branch, parity = _map(engine, np.concatenate(maps, axis=2)), None, -1
    if op.add:
        branch, scale = known[op.add], 2 if op.shuffle else 1
        height, width = (scale * -(-n // op.stride) for n in maps[0].shape[:2])
        if branch.shape[:2] != (height, width):
            raise UsageError(
                f"{op.add}: the size is {list(branch.shape[:2])}, expected {[height, width]}, as {op.name} adds it"
            )
    if family == "intra" and leaf in ("queries0", "keys0"):
        x = engine.masked(x, NONANCHOR if leaf == "queries0" else ANCHOR)
    if family.startswith("lrp_") and not op.gelu:
        parity = KIND.index(family[4:])
    return _copy_of(engine.conv(op.name, x, add=None if branch is None else _map(engine, branch), parity=parity))


def _same_sizes(op: Op, maps: list[np.ndarray]) -> None:
    sizes = [m.shape[:2] for m in maps]
    if len(set(sizes)) > 1:
        raise UsageError(
            f"{op.name}: its inputs {', '.join(op.inputs)} have different sizes: "
            f"{', '.join(str(list(size)) for size in sizes)}"
        )


def _decode(model: Model, name: str, values: Values, backend: str) -> np.ndarray:
    """(SPEC 7) The symbols of a whole segment."""
    segment, numbers = values["segment"], values["tables"]
    tables = model.factorized if name == "coder/z" else model.tables.gaussian
    if segment.dtype != np.uint8 or segment.ndim != 1:
        raise UsageError(f"segment: it is {segment.dtype}{list(segment.shape)}, expected uint8[bytes]")
    if numbers.ndim != 1 or (numbers.size and (numbers.min() < 0 or numbers.max() >= len(tables))):
        raise UsageError(f"tables: expected the numbers of tables, 0..{len(tables) - 1}, one for each symbol")
    coder = RangeDecoder(segment.tobytes(), backend)
    symbols = coder.get(numbers.astype(np.int32), tables)
    coder.finish()
    return symbols


class _Given:
    """A port of the walk with symbols of y that are given."""

    def __init__(self, y: np.ndarray) -> None:
        self._y = y

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Symbols of one half of a slice."""
        half: NDArray[np.int32] = self._y[i, 0 if parity == ANCHOR else 1]
        return half


def _walk_given(model: Model, engine: Engine, hyper: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(SPEC 6.3) y_hat from hyper parameters and symbols."""
    config, (height, width) = model.config, hyper.shape[:2]
    if height % 4 or width % 4:
        raise UsageError(f"h_s/4: {height} rows and {width} columns, expected multiples of 4")
    if y.shape != (shape := (config.slices, 2, height, width // 2, config.ch)):
        raise UsageError(f"y_symbols: the shape is {list(y.shape)}, expected {list(shape)}")
    if np.abs(y.astype(np.int64)).max() > MAX_SYMBOL:
        raise UsageError(f"y_symbols: a symbol exceeds {MAX_SYMBOL} in magnitude (SPEC 7.2)")
    return _copy_of(walk_slices(engine, config, _map(engine, hyper), _Given(y.astype(np.int32))))
