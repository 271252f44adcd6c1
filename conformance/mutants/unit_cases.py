"""refcodec's own way to compute what a unit case asks for, by the function of SPEC.md that the case names.

It imports refcodec, so mutants and coverage import it late, when the decoder is changed or watched. Operations run
through the engine, as decoders call them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from inspect import signature
from itertools import pairwise
from typing import Any

import numpy as np

from refcodec.arith import checkerboard, numpy_ops
from refcodec.arith.engine import Engine
from refcodec.arith.maps import interior
from refcodec.bitstream import container
from refcodec.bitstream.crc32c import crc32c
from refcodec.bitstream.fields import FIELDS
from refcodec.entropy.rans import RangeDecoder, RangeEncoder
from refcodec.errors import CoderError, InvalidModel, RefcodecError, SymbolError
from refcodec.limits import MAX_SYMBOL
from refcodec.lossless.rectangles import Rectangles, longest_rectangles
from refcodec.lossless.samples import SamplesReader, longest_samples
from refcodec.model import config as architecture
from refcodec.model import integer_model as model
from refcodec.model import procedural
from refcodec.model.config import Config
from refcodec.model.layer_table import layer_table
from refcodec.model.layers import Conv, Gain, Gdn, LinearAttention, LocalAttention, Norm, Rescale, Sum
from refcodec.model.symbol_tables import DONE, EXHAUSTED, OVERSIZE, SymbolTables, intervals
from refcodec.model.tables import load_arrays, load_tables
from refcodec.nets.hyperprior import REACH as HYPER_REACH
from refcodec.nets.synthesis import REACH
from refcodec.planes import crop_samples, pad_samples
from refcodec.tiles import STRIDE, UNIT, Region, TileGrid
from refcodec.trace import Recorder

from ..kit import levels
from ..run.units import live, plain

Input = Any
Way = Callable[..., Any]

TABLES = load_tables()
ARRAYS = load_arrays()
ANNEX_A = {name: array.tolist() for name, array in ARRAYS.items()}
WAYS: dict[str, Way] = {}
"""By name of the function: (input, backend) -> result; "_" is a backend that makes no difference."""

OPERATION = (
    *("name", "kind", "inputs", "channels", "in_channels", "kernel", "stride"),
    *("shuffle", "depthwise", "gelu", "add", "wide", "heads", "mask", "half", "split", "tanh"),
)
"""(SPEC 6.1) Of an operation, all but its area."""

HIDDEN = -(1 << 40)
"""Marks a masked logit."""


def way(function: str) -> Callable[[Way], Way]:
    """Register the way of a function."""

    def register(compute: Way) -> Way:
        WAYS[function] = compute
        return compute

    return register


def backends(function: str) -> tuple[str, ...]:
    """The backends that a function's way knows, one where they are the same, none where there is no way."""
    if function not in WAYS:
        return ()
    return ("numpy", "numba") if "backend" in signature(WAYS[function]).parameters else ("numpy",)


def run(function: str, given: Input, backend: str) -> Any:
    """Run refcodec on the input of a case.

    Parameters
    ----------
    function : str
        Name of SPEC.md's function.
    given : mapping
        Arguments by name, as JSON has them.
    backend : "numba" or "numpy"

    Returns
    -------
    object
        The result as JSON has it; a refusal by its class.
    """
    try:
        return plain(WAYS[function](live(given, ANNEX_A), backend))
    except RefcodecError as error:
        return {"error": type(error).__name__}


def wrong_case(data: bytes) -> str:
    """The first case of a unit file that the NumPy backend computes otherwise, "" if there is none or no way to it."""
    document = json.loads(data)
    function, cases = document["function"], document["cases"]
    if function not in WAYS:
        return ""
    return next((case["id"] for case in cases if run(function, case["input"], "numpy") != case["expect"]), "")


def engine(layer: Any, backend: str, step: int = 0) -> Engine:
    """An engine with one layer, named "layer".

    Parameters
    ----------
    layer : Layer
    backend : "numba" or "numpy"
    step : int
        Quality - 1.

    Returns
    -------
    Engine
    """
    return Engine({"layer": layer}, TABLES, step, 1, backend)


def as_map(made: Engine, values: Any) -> np.ndarray:
    """Values as a map of an engine."""
    values = np.asarray(values)
    out = made.map(*values.shape)
    interior(out)[...] = values
    return out


def applied(layer: Any, method: str, maps: list[Any], backend: str, step: int = 0, **more: Any) -> np.ndarray:
    """Apply a method of an engine to maps.

    Parameters
    ----------
    layer : Layer
    method : str
        Name of the method.
    maps : list
        Its inputs as nested lists [row][column][channel].
    backend : "numba" or "numpy"
    step : int
        Quality - 1.
    **more
        Further arguments of the method.

    Returns
    -------
    np.ndarray [H, W, C], int16
        The interior of the result.
    """
    made = engine(layer, backend, step)
    return interior(getattr(made, method)("layer", *(as_map(made, x) for x in maps), **more))


def ints(values: Any, dtype: Any = np.int32) -> np.ndarray:
    """An array of integers."""
    return np.array(values, dtype)


# --------------------------------------------------------------------------------------------------- arithmetic (5)


@way("convolution")
def _convolution(given: Input, backend: str) -> Any:
    op, layer, x = given["op"], given["layer"], np.array(given["x"])
    weight, (bias, shift, add_shift) = ints(layer["weight"], np.int16), ints(layer["constants"]).T.copy()
    if x.shape[2] % 2 and not op["depthwise"]:  # channels come in pairs
        x = np.concatenate([x, np.full((*x.shape[:2], 1), 77)], axis=2)
    branch = given.get("branch")
    made = engine(
        Conv(
            "layer",
            weight,
            bias,
            shift,
            layer["frac"],
            layer["limit"],
            add_shift if branch else None,
            TABLES.gelu[layer["frac"]] if op["gelu"] else None,
            op["stride"],
            op["shuffle"],
            op["depthwise"],
        ),
        backend,
    )
    assert bool(op["wide"]) == (layer["limit"] == 0)
    return interior(made.conv("layer", as_map(made, x), add=as_map(made, branch) if branch else None))


@way("gelu")
def _gelu(given: Input, backend: str) -> Any:
    """By a convolution with zero weights, whose bias is the argument; results beyond its clamp are seen to be so."""
    v, frac = given["v"], next(f for f, t in TABLES.gelu.items() if t.tolist() == given["table"])
    zero = np.zeros(1, np.int32)
    layer = Conv("layer", np.zeros((1, 1, 1, 2), np.int16), ints([v]), zero, frac, 32767, gelu=TABLES.gelu[frac])
    found = applied(layer, "conv", [[[[0, 0]]]], backend)[0, 0, 0]
    return v if v > found == 32767 else found


@way("half_tanh")
def _half_tanh(given: Input, backend: str) -> Any:
    frac = next(f for f, t in TABLES.half_tanh.items() if t.tolist() == given["table"])
    made = engine(Rescale("layer", 0, frac, 32767), backend)
    x = np.zeros((5, 5, 1), np.int64)
    x[2, 2, 0] = given["v"]
    return made.half_tanh("layer", x)[0, 0, 0]


@way("residual_sum")
def _sum(given: Input, backend: str) -> Any:
    shift_a, shift_b, shift = given["layer"]["constants"]
    layer = Sum("layer", shift_a, shift_b, shift, 8, given["layer"]["limit"])
    return applied(layer, "sum", [given["a"], given["b"]], backend)


@way("gain")
def _gain(given: Input, backend: str) -> Any:
    layer = given["layer"]
    return applied(
        Gain("layer", ints(layer["multiplier"]), ints(layer["shift"]), 6, layer["limit"]),
        "gain",
        [given["x"]],
        backend,
        given["step"],
    )


@way("rescale")
def _rescale(given: Input, backend: str) -> Any:
    layer = given["layer"]
    return applied(Rescale("layer", layer["constants"][0], 5, layer["limit"]), "rescale", [given["x"]], backend)


@way("gdn")
def _gdn(given: Input, backend: str) -> Any:
    layer = given["layer"]
    made = Gdn(
        "layer",
        ints(layer["gamma"], np.int64),
        ints(layer["beta"], np.int64),
        layer["constants"][0],
        10,
        layer["limit"],
    )
    return applied(made, "igdn" if given["inverse"] else "gdn", [given["x"]], backend)


@way("layer_norm")
def _norm(given: Input, backend: str) -> Any:
    layer = given["layer"]
    return applied(Norm("layer", layer["constants"][0], 10, layer["limit"]), "norm", [given["x"]], backend)


# ---------------------------------------------------------------------------------------------------- attention (5)


@way("exp2_negative")
def _exp2(given: Input, backend: str) -> Any:
    compute = numpy_ops.exp2_negative
    if backend == "numba":
        from refcodec.arith.jit.attention import exponentials as compute
    return compute(ints([given["t"]], np.int64), TABLES.exp2)[0]


@way("softmax_weights")
def _softmax(given: Input, _: str) -> Any:
    logits = ints([HIDDEN if v is None else v for v in given["logits"]], np.int64)
    return numpy_ops.softmax_weights(logits, TABLES.exp2).astype(np.int64)


@way("local_attention")
def _local(given: Input, backend: str) -> Any:
    layer, heads = given["layer"], given["op"]["heads"]
    made = LocalAttention("layer", layer["constants"][0], ints(layer["bias"]), heads, 0, layer["limit"])
    return applied(made, "local_attention", [given["qkv"]], backend)


def _linear_layer(given: Input) -> LinearAttention:
    key, query, context = given["layer"]["constants"]
    return LinearAttention("layer", key, query, context, given["op"]["heads"], 0, given["layer"]["limit"])


@way("linear_attention")
def _linear(given: Input, backend: str) -> Any:
    """Maps have one size: the last query is repeated, and what comes of that left out."""
    queries, keys = given["queries"], given["keys"]
    filled = [*queries, *[queries[-1]] * (len(keys) - len(queries))]
    return applied(_linear_layer(given), "linear_attention", [[filled], [keys], [given["values"]]], backend)[
        0, : len(queries)
    ]


@way("global_attention")
def _global(given: Input, backend: str) -> Any:
    halves = {"keys_at": checkerboard.ANCHOR, "queries_at": checkerboard.NONANCHOR}
    return applied(
        _linear_layer(given),
        "linear_attention",
        given["maps"],
        backend,
        **(halves if given["op"]["split"] else {}),
    )


@way("masked")
def _mask(given: Input, backend: str) -> Any:
    made = engine(None, backend)
    return interior(made.masked(as_map(made, given["x"]), given["parity"]))


# ---------------------------------------------------------------------------------------------- walk, output (4, 6)


@way("split_parameters")
def _split(given: Input, backend: str) -> Any:
    values = np.array(given["parameters"])
    parameters = np.zeros((values.shape[0] + 4, values.shape[1] + 4, values.shape[2]), np.int32)
    parameters[2:-2, 2:-2] = values
    return engine(None, backend).levels_and_means(parameters)


@way("take_half")
def _take(given: Input, backend: str) -> Any:
    made = engine(None, backend)
    return interior(made.half(as_map(made, given["x"]), given["parity"]))


@way("put_half")
def _put(given: Input, _: str) -> Any:
    x = ints(given["x"])
    checkerboard.put(x, given["parity"], ints(given["half"]))
    return {"returns": None, "x": x}


@way("output_samples")
def _output(given: Input, _: str) -> Any:
    planes = np.clip(given["planes"], 0, 255).astype(np.uint8)
    samples = crop_samples(planes, given["height"], given["width"], given["channels"])
    return samples.reshape(given["height"], given["width"], given["channels"])


@way("pad_samples")
def _pad(given: Input, _: str) -> Any:
    samples = ints(given["samples"], np.uint8)
    return pad_samples(samples if samples.shape[2] == 3 else samples[:, :, 0])[:, :, :3]


# ------------------------------------------------------------------------------------ configurations, models (6, 10)


def _config(given: Input) -> Config:
    known = given["config"]
    old = known["old_synthesis"]
    return architecture.config_from({**known, "old_synthesis": bool(old) if old in (0, 1) else old})


@way("layer_table")
def _layer_table(given: Input, _: str) -> Any:
    table = [asdict(op) for op in layer_table(_config(given))]
    return [
        {**{name: op[name] for name in OPERATION}, "area": round(1 / op["positions"]) if op["positions"] else 0}
        for op in table
    ]


@way("config_is_valid")
def _valid(given: Input, _: str) -> Any:
    try:
        model.check_size(_config(given))
        return True
    except InvalidModel:
        return False


def _entry(name: str, place: int) -> Any:
    return ARRAYS[name][place]


@way("table_gaussian")
def _gaussian(given: Input, _: str) -> Any:
    k, start = given["k"], ARRAYS["gaussian_start"]
    return [ARRAYS["gaussian_first"][k], ARRAYS["gaussian_cdf"][start[k] : start[k + 1]]]


@way("trace_lines")
def _trace(given: Input, _: str) -> Any:
    recorder = Recorder()
    for name, values in given["stages"]:
        wide = name.startswith("ep_")
        array = np.array(values, np.uint8 if name == "samples" else np.int32 if wide else np.int16)
        recorder(name, array[:, :, 0] if name == "samples" and array.shape[2] == 1 else array)
    return [asdict(stage) for stage in recorder.stages]


# ------------------------------------------------------------------------------------------ coder, container (7, 8)


@way("coder_intervals")
def _intervals(given: Input, _: str) -> Any:
    tables = SymbolTables.from_lists([given["table"]])
    cum, freq = intervals(ints([given["symbol"]]), ints([0]), tables)
    return np.stack([cum, freq], axis=1)


@way("range_encode")
def _encode(given: Input, backend: str) -> Any:
    coder = RangeEncoder(backend)
    coder.put(ints(given["symbols"]), ints(given["tables_index"]), SymbolTables.from_lists(given["tables"]))
    return coder.finish()


@way("range_decode")
def _decode(given: Input, backend: str) -> Any:
    coder = RangeDecoder(given["data"], backend)
    symbols = coder.get(ints(given["tables_index"]), SymbolTables.from_lists(given["tables"]))
    coder.finish()
    return symbols


@way("coder_symbol")
def _symbol(given: Input, backend: str) -> Any:
    coder = import_module("refcodec.arith.jit.rans" if backend == "numba" else "refcodec.entropy.rans_python")
    (x, words), out = given["coder"], np.empty(1, np.int32)
    x, position, _, status = coder.decode(
        coder.as_words(np.array(words, "<u4")),
        x,
        0,
        ints([0]),
        SymbolTables.from_lists([given["table"]]),
        out,
        MAX_SYMBOL,
    )
    if status != DONE:
        raise {EXHAUSTED: CoderError, OVERSIZE: SymbolError}[status]("refused")
    return {"returns": int(out[0]), "coder": [int(x), words[position:]]}


@way("coder_start")
def _start(given: Input, _: str) -> Any:
    coder = RangeDecoder(given["data"], "numpy")
    if not given["data"]:
        raise CoderError("empty")
    return [coder._state, coder._words]


@way("container_digest")
def _digest(given: Input, _: str) -> Any:
    samples = np.frombuffer(given["samples"], np.uint8)
    assert hashlib.sha256(samples.tobytes()).digest()[:16] == container.reconstruction_digest(samples)
    return container.reconstruction_digest(samples)


@way("parse_stream")
def _parse(given: Input, _: str) -> Any:
    data, tiles = given["data"], given.get("tiles")
    stream = container.parse(data, tiles)
    fields = {field.name: getattr(stream.header, field.name, 0) for field in FIELDS if field.name != "magic"}
    tile = {name: fields[name] // UNIT for name in ("tile_width", "tile_height")}
    segments = [(bytes(data[e.start :][: e.z_length]), bytes(data[e.end - e.y_length : e.end])) for e in stream.index]
    more = {"flags": data[5], "lossless": stream.header.lossless, "segments": segments, "chunks": stream.chunks}
    return {**fields, **tile, **more}


@way("container_chunks")
def _chunks(given: Input, _: str) -> Any:
    """In a stream with empty segments, or without loss."""
    fields = given["fields"]
    lossless = bool(fields["lossless"])
    header = container.Header(
        fields["width"], fields["height"], fields["channels"], 1 - lossless, bytes(16), lossless=lossless
    )
    body = container.pack_header(header) + bytes(header.index_size) + given["body"][given["start"] :]
    return container.parse(body + crc32c(body).to_bytes(4, "little")).chunks


@way("tile_places")
def _places(given: Input, _: str) -> Any:
    grid = _grid(given["rows"], given["columns"], given["tile_rows"], given["tile_columns"])
    return [(t.top, t.left, t.height, t.width) for t in map(grid.tile, range(grid.count))]


def _grid(rows: int, columns: int, high: int, wide: int) -> TileGrid:
    return TileGrid.of(STRIDE * columns, STRIDE * rows, STRIDE * wide, STRIDE * high)


@way("region_needs")
def _needs(given: Input, _: str) -> Any:
    window = _grid(given["rows"], given["columns"], 0, 0).window(Region(*given["region"]), REACH)
    return [window.top, window.bottom - 1, window.left, window.right - 1]


@way("region_tiles")
def _needed(given: Input, _: str) -> Any:
    grid = _grid(given["rows"], given["columns"], *given["places"][0][2:])
    return [tile.index for tile in grid.needed(grid.window(Region(*given["region"]), REACH))]


@way("region_z_tiles")
def _needed_z(given: Input, _: str) -> Any:
    grid = _grid(given["rows"], given["columns"], *given["places"][0][2:])
    needed = grid.needed(grid.window(Region(*given["region"]), REACH))
    return [tile.index for tile in grid.needed_z(grid.z_window(needed, HYPER_REACH))]


@way("lossless_samples")
def _samples(given: Input, _: str) -> Any:
    return SamplesReader(given["payload"], given["height"], given["width"], given["channels"]).read(given["height"])


@way("lossless_rectangles")
def _rectangles(given: Input, _: str) -> Any:
    payload = given["payload"]
    found = Rectangles(payload, given["width"], given["height"], 3)
    ends = pairwise(found._starts)
    return [
        (p.x, p.y, p.width, p.height, payload[first:end]) for p, (first, end) in zip(found.places, ends, strict=True)
    ]


@way("rectangles_limit")
def _longest(given: Input, _: str) -> Any:
    fields = given["fields"]
    longest = longest_samples if fields["lossless"] else longest_rectangles
    return longest(fields["height"], fields["width"], fields["channels"])


WAYS |= {
    "samples_limit": lambda given, _: longest_samples(given["height"], given["width"], given["channels"]),
    "round_shift": lambda given, _: numpy_ops.round_shift(np.int64(given["a"]), given["s"]),
    "clamp": lambda given, _: np.clip(given["v"], -given["limit"], given["limit"]),
    "reconstruct": lambda given, _: Engine.reconstruct(ints(given["symbols"]), ints(given["means"])),
    "refine": lambda given, _: Engine.refine(ints(given["half"]), ints(given["residual"])),
    "nearest_symbols": lambda given, _: Engine.symbols(ints(given["y"]), ints(given["means"])),
    "inter_heads": lambda given, _: _config(given).inter_heads(given["i"]),
    "lrp_widths": lambda given, _: _config(given).lrp_widths(given["i"]),
    "picture_level": lambda given, _: levels.picture_level(given["width"], given["height"]),
    "fingerprint": lambda given, _: model.fingerprint(
        {name: ints(numbers, dtype) for name, (dtype, numbers) in given["content"].items()}
    ),
    "crc32c": lambda given, _: crc32c(given["data"]),
    "table_gelu": lambda given, _: _entry(f"gelu_q{given['f']}", given["i"]),
    "table_half_tanh": lambda given, _: _entry(f"half_tanh_q{given['f']}", given["i"]),
    "table_exp2": lambda given, _: _entry("exp2", given["i"]),
    "table_scale_threshold": lambda given, _: _entry("scale_thresholds", given["k"]),
    "procedural_key": lambda given, _: procedural.stream_key(given["seed"], given["name"]),
}
