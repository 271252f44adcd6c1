"""Unit cases of the walk's steps, pictures, configurations, models and tables (SPEC 4, 6, 10, 12, 13, annexes)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from refcodec.agreement.operations import numbers
from refcodec.model.config import PROFILES, Config

from ...kit.clauses import cited
from ...synthetic.models.procedural import CONFIGURATIONS, FLOORED
from ..unit_writer import Input, annex_a, case, unit

MAX = 32767
Cases = Iterator[tuple[str, Input]]


@unit(
    "scale-index",
    "split_parameters",
    ("6.8-5", "6.8-6", "A.5-1", "A.5-2"),
    "A scale that equals a threshold stays below it, negative scales wrap, or means are not clamped.",
)
def scale_index() -> Cases:
    """Scales at every threshold and its neighbours, at both ends of 32 bits, and means around their clamp."""
    thresholds = annex_a()["scale_thresholds"]
    scales = [t + d for t in thresholds for d in (-1, 0, 1)] + [-(2**31), -1, 0, 1, 2**31 - 1]
    means = [-(2**31), -MAX - 2, -MAX - 1, -MAX, 0, 1, MAX, MAX + 1, MAX + 2, 2**31 - 1]
    for n in range(0, len(scales), 64):
        part = scales[n : n + 64]
        yield f"scales from {n}", {"parameters": [[[*part, *(means[k % len(means)] for k in range(len(part)))]]]}
    yield "two positions", {"parameters": [[[5, 500, 50000, -7, 8, 9], [1 << 20, 116, 115, 40000, -40000, 0]]]}


@unit("reconstruction", "reconstruct", ("6.9-1", "6.4-4", "5.2-1"), "symbol * 64 + mean wraps instead of saturating.")
def reconstruction() -> Cases:
    """Symbols and means at both ends, sums at and around the clamp."""
    yield "random", {"symbols": numbers("symbols", -600, 600, 2, 3, 2), "means": numbers("means", -MAX, MAX, 2, 3, 2)}
    pairs = list(product((-MAX, -513, -512, -511, -1, 0, 1, 511, 512, MAX), (-MAX, -65, -1, 0, 62, 63, 64, MAX)))
    yield "ends", {"symbols": [[[s for s, _ in pairs]]], "means": [[[m for _, m in pairs]]]}


@unit("reconstruction-residual", "refine", ("6.9-2", "5.2-1"), "y_hat + residual wraps instead of saturating.")
def reconstruction_residual() -> Cases:
    """Residuals of -32..32 around both ends of y_hat."""
    pairs = list(product((-MAX, -MAX + 31, -MAX + 33, -1, 0, 1, MAX - 33, MAX - 31, MAX), (-32, -1, 0, 1, 32)))
    yield "ends", {"half": [[[y for y, _ in pairs]]], "residual": [[[r for _, r in pairs]]]}


@unit(
    "quantiser",
    "nearest_symbols",
    ("6.9-3", "7.2-7"),
    "An encoder rounds halves away from zero, or does not bring symbols into their range.",
)
def quantiser() -> Cases:
    """The encoder's choice: ties of both signs, and differences at both ends."""
    ties = [64 * k + d for k in (-3, -2, -1, 0, 1, 2) for d in (-33, -32, -31, 0, 31, 32, 33)]
    yield "ties", {"y": [[ties]], "means": [[[0] * len(ties)]]}
    yield "ends", {"y": [[[-MAX, MAX, MAX, -MAX]]], "means": [[[MAX, -MAX, MAX, -MAX]]]}
    yield "random", {"y": numbers("q/y", -MAX, MAX, 2, 2, 3), "means": numbers("q/m", -MAX, MAX, 2, 2, 3)}


@unit(
    "checkerboard",
    "take_half",
    ("6.3-1", "6.3-2", "3-1"),
    "Anchors are where row + column is even, or halves lie by columns.",
)
def checkerboard() -> Cases:
    """Both halves of maps whose numbers tell where they stand."""
    for parity in (0, 1):
        for height, width in ((1, 2), (2, 2), (3, 4)):
            yield case(
                f"parity {parity} of {height}x{width}",
                x=np.arange(2 * height * width).reshape(height, width, 2),
                parity=parity,
            )


@unit("checkerboard-put", "put_half", ("6.3-1", "6.3-9"), "The other half is overwritten, or rows are not alternated.")
def checkerboard_put() -> Cases:
    """A half written into a map that holds something else."""
    for parity in (0, 1):
        yield case(f"parity {parity}", x=np.full((3, 4, 1), 7), parity=parity, half=np.arange(6).reshape(3, 2, 1) + 100)


@unit(
    "output",
    "output_samples",
    ("4.3-1", "4.3-2", "4.3-3", "4.1-2"),
    "Planes are cropped at the wrong side, not clamped before grey is formed, or weights of grey are others.",
)
def output() -> Cases:
    """Clamps and crops of colour and grey, roundings of the grey formula."""
    planes = numbers("planes", -300, 600, 4, 5, 3)
    for channels in (1, 3):
        for height, width in ((1, 1), (4, 5), (3, 2)):
            yield case(f"{height}x{width} of {channels}", planes=planes, height=height, width=width, channels=channels)
    near = [[[r, g, b] for r in (0, 1) for g in (0, 1, 2) for b in (0, 1, 255)]]
    yield "grey roundings", {"planes": near, "height": 1, "width": len(near[0]), "channels": 1}
    ends = [[[-MAX, MAX, 256], [-1, 0, 255], [255, 256, -5]]]
    for channels in (1, 3):
        yield f"ends of {channels}", {"planes": ends, "height": 1, "width": 3, "channels": channels}


@unit("padding", "pad_samples", ("4.2-1", "4.2-2", "4.2-3"), "An encoder pads with zeros, or to multiples of 16.")
def padding() -> Cases:
    """What refcodec's encoder shows to the networks: one pixel, a grey one, few rows and columns."""
    yield "1x1", {"samples": [[[7, 8, 9]]]}
    yield "grey", {"samples": [[[3]], [[4]]]}
    yield "2x3", {"samples": numbers("padding", 0, 255, 2, 3, 3)}


@unit("padding-size", "padded_size", ("4.2-1",), "Multiples of 64 are padded once more, or sizes are multiples of 16.")
def padding_size() -> Cases:
    """Lengths around multiples of 64 and the largest."""
    for n in (1, 2, 63, 64, 65, 127, 128, 129, 2**20 - 64, 2**20 - 1, 2**20):
        yield str(n), {"n": n}


def _fields(config: Config, **changes: Any) -> Input:
    return {**config.as_dict(), **changes}


CONFIGS = {name: config for name, config in PROFILES.items() if name != "default"}
CONFIGS |= {f"{name}-7": config for name, config in CONFIGURATIONS.items()}
TINY = PROFILES["tiny"]


@unit(
    "layer-table",
    "layer_table",
    cited("6.1-6..8 6.1-10..11 6.2-1..4 10.2-2"),
    "Operations, their order, or what they read is another: every format and every name in a trace is shifted.",
)
def layer_table() -> Cases:
    """The layer tables of small configurations with each of the variations."""
    for name in ("tiny", "single-7", "heads-7"):
        yield name, {"config": _fields(CONFIGS[name])}


@unit("configuration", "config_is_valid", ("6.1-1", "6.1-2", "9.1-6"), "A configuration outside the rules is accepted.")
def configuration() -> Cases:
    """Valid configurations, and one change each that makes one invalid."""
    for name, config in CONFIGS.items():
        yield name, {"config": _fields(config)}
    wrong: dict[str, tuple[Any, ...]] = {
        "M": (25, 0, 4098),
        "slices": (5, 24),
        "hyper": (7,),
        "N": ([6, 8], [6, 8, 13]),
        "hs": ([8],),
        "chan": ([12, 8, 4],),
        "ent": ([16, 12],),
        "lrp": ([12], [12, 8, 4], [0, 2]),
        "window": (3, 7),
        "local_heads": (3,),
        "intra_heads": (0, 16),
        "inter_head_width": (3, 0),
        "qualities": (0, 65),
        "old_synthesis": (2, -1),
    }
    for name, value in ((name, value) for name, values in wrong.items() for value in values):
        yield f"{name} {value}", {"config": _fields(TINY, **{name: value})}


@unit("configuration-heads", "inter_heads", ("6.1-4",), "The number of heads is rounded up, or may be 0.")
def configuration_heads() -> Cases:
    """Heads of the inter attention of every slice."""
    for name in ("tiny", "heads-7", "slices-7", "wide-7", "paper"):
        for i in range(1, CONFIGS[name].slices):
            yield f"{name}, slice {i}", {"config": _fields(CONFIGS[name]), "i": i}


@unit(
    "configuration-bounds",
    "config_is_valid",
    ("6.1-1", "6.1-2", "6.1-4", "9.1-6"),
    "A bound is missing, too strict or too loose, or the number of heads is not the floor of a quotient.",
)
def configuration_bounds() -> Cases:
    """Slices, qualities and widths at their bounds and beyond; heads that divide the channels once they are floored."""
    for name, config in FLOORED.items():
        yield f"{name}-7", {"config": _fields(config)}
    for change in (
        {"M": 64, "slices": 32},
        {"M": 66, "slices": 33},
        {"qualities": 64},
        {"qualities": 65},
        {"M": 64, "slices": 1},
        {"M": 66, "slices": 1},
        {"ent": [4096, 2, 4096]},
        {"ent": [16, 4098, 8]},
        {"chan": [4096, 2]},
        {"chan": [2, 4098]},
        {"hyper": 2718},
        {"hyper": 2720},
        {"hyper": 2706, "ent": [4090, *TINY.ent[1:]]},
        {"hyper": 4096},
        {"N": [6, 8, 4098]},
        {"hs": [2, 4098]},
    ):
        single = {"local_heads": 1, "intra_heads": 1, "inter_head_width": 2} if "M" in change else {}
        yield case(
            ", ".join(f"{name} {value}" for name, value in change.items()), config=_fields(TINY, **change, **single)
        )


@unit("configuration-heads-floored", "inter_heads", ("6.1-4",), "The number of heads is rounded up or to the nearest.")
def configuration_heads_floored() -> Cases:
    """Heads of the inter attention where their width does not divide the channels."""
    for name, config in FLOORED.items():
        for i in range(1, config.slices):
            yield f"{name}-7, slice {i}", {"config": _fields(config), "i": i}


@unit("configuration-lrp", "lrp_widths", ("6.1-5",), "A quotient of the derived widths is floored at another place.")
def configuration_lrp() -> Cases:
    """Hidden widths of LRP, given and derived."""
    for name in ("tiny", "heads-7", "mlicpp-old"):
        for i in range(CONFIGS[name].slices):
            yield f"{name}, slice {i}", {"config": _fields(CONFIGS[name]), "i": i}


@unit("profiles", "profiles", ("12.1-1", "6.1-9"), "A decoder takes itself for able to decode another profile.")
def profiles() -> Cases:
    """Profiles of named and other configurations."""
    for name, config in CONFIGS.items():
        yield name, {"config": _fields(config)}


@unit("levels-of-pictures", "picture_level", ("12.2-1",), "A level is taken from pixels instead of padded positions.")
def levels_of_pictures() -> Cases:
    """Pictures at the bounds of every level."""
    for size in (
        (1, 1),
        (512, 512),
        (513, 512),
        (4096, 1),
        (4097, 1),
        (1024, 1024),
        (1088, 1024),
        (1, 8193),
        (2048, 2048),
        (3840, 2160),
        (7680, 4320),
        (16384, 8192),
        (16385, 8192),
        (1, 2**17),
        (2**17 + 1, 1),
        (2**20, 2048),
    ):
        yield f"{size[0]}x{size[1]}", {"width": size[0], "height": size[1]}


@unit("levels-of-models", "model_level", ("12.2-2",), "Parameters or products are counted otherwise.")
def levels_of_models() -> Cases:
    """Levels of named and other configurations."""
    for name in ("tiny", "paper", "mlicpp", "single-7", "wide-7"):
        yield name, {"config": _fields(CONFIGS[name])}


@unit(
    "fingerprint",
    "fingerprint",
    ("10.3-1", "10.3-2", "10.3-3"),
    "Names are sorted otherwise, a scalar or an empty array has another line, or numbers are not little-endian.",
)
def fingerprint() -> Cases:
    """Scalars, empty arrays, all three types with their ends, names whose order depends on how they are compared."""
    yield "example", {"content": {"b": ["int16", [[1, -2]]], "a": ["int32", 7]}}
    yield "nothing", {"content": {}}
    yield "empty", {"content": {"config/lrp": ["int32", []]}}
    yield case(
        "types",
        content={
            "a": ["int16", [-32768, 32767]],
            "b": ["int32", [-(2**31), 2**31 - 1]],
            "c": ["int64", [-(2**63), 2**63 - 1]],
        },
    )
    names = ("a/b", "a-b", "a.b", "ab", "A", "a/B", "a")
    yield "order", {"content": {name: ["int32", n] for n, name in enumerate(names)}}
    yield "shapes", {"content": {"a": ["int16", [[[[1, 2]], [[3, 4]]]]], "b": ["int64", [[5], [6]]]}}


@unit(
    "tables-gelu", "table_gelu", ("A.2-1", "A.1-1"), "Tables are made by floating point or the approximation by tanh."
)
def tables_gelu() -> Cases:
    """Entries of annex A.2: first ones, around the greatest, and the last ones of every format."""
    for f in range(4, 13):
        table = annex_a()[f"gelu_q{f}"]
        for i in sorted({0, 1, 2, table.index(max(table)), len(table) // 2, len(table) - 2, len(table) - 1}):
            yield f"q{f}, {i}", {"f": f, "i": i}


@unit("tables-half-tanh", "table_half_tanh", ("A.3-1", "A.1-1"), "Tables are made by floating point.")
def tables_half_tanh() -> Cases:
    """Entries of annex A.3."""
    for f in range(4, 13):
        last = len(annex_a()[f"half_tanh_q{f}"]) - 1
        for i in sorted({0, 1, 2, last // 8, last // 2, last - 1, last}):
            yield f"q{f}, {i}", {"f": f, "i": i}


@unit("tables-exp2", "table_exp2", ("A.4-1", "A.1-1"), "Tables are made by floating point.")
def tables_exp2() -> Cases:
    """Entries of annex A.4."""
    for i in (0, 1, 2, 63, 127, 128, 129, 254, 255, 256):
        yield str(i), {"i": i}


@unit("tables-thresholds", "table_scale_threshold", ("A.5-1", "A.5-2", "A.1-1"), "Means of levels are arithmetic ones.")
def tables_thresholds() -> Cases:
    """Entries of annex A.5."""
    for k in (0, 1, 2, 50, 63, 64, 125, 126):
        yield str(k), {"k": k}


@unit("tables-frequencies", "table_frequencies", ("A.6-1", "A.6-2"), "What is missing to 65536 goes to another symbol.")
def tables_frequencies() -> Cases:
    """Weights that are equal, 0, or leave a rest."""
    for weights in (
        [1, 1],
        [1, 1, 1],
        [0, 1, 0],
        [5, 9, 9, 5],
        [2**48, 0, 0],
        [3] * 7,
        [2**47, 2**46, 2**46 - 1, 1],
        list(range(1, 40)),
    ):
        yield str(weights), {"weights": weights}


@unit("tables-gaussian", "table_gaussian", ("A.7-1", "A.7-2", "A.8-1"), "Bounds or frequencies of a level are others.")
def tables_gaussian() -> Cases:
    """Tables of narrow and medium levels."""
    for k in (0, 1, 10, 30, 50):
        yield str(k), {"k": k}


@unit("traces", "trace_lines", ("13.1-7", "13.2-1", "13.2-2", "13.2-4"), "Digests are of other types or byte orders.")
def traces() -> Cases:
    """Lines of stages of every type, grey and colour samples."""
    yield case(
        "types",
        stages=[
            ["z_hat", [[[1, -2]]]],
            ["ep_anchor/0/3", [[[70000, -5]]]],
            ["g_s/7", [[[300, -3, 0]]]],
            ["samples", [[[255, 0, 7]]]],
        ],
    )
    yield "grey", {"stages": [["samples", [[[7], [8]]]]]}


@unit(
    "procedural-draws",
    "procedural_draw",
    ("B.3-2",),
    "Products wrap at another width, or parts of a word are reversed.",
)
def procedural_draws() -> Cases:
    """Numbers of a stream at its first places, and of extreme keys and ranges."""
    for key in (0, 1, 2**64 - 1, 0x29C4F0FF009D7FE1):
        for n in (0, 1, 2, 3, 4, 1000):
            yield f"key {key}, place {n}", {"key": key, "n": n, "low": -100, "count": 201}
    yield "all of 32 bits", {"key": 7, "n": 5, "low": -(2**31), "count": 2**32}


@unit(
    "procedural-keys", "procedural_key", ("B.3-2",), "Bytes of a name are taken in another order, or sums do not wrap."
)
def procedural_keys() -> Cases:
    """Keys of names for seeds at both ends."""
    for seed in (0, 7, 2**64 - 1):
        for name in ("formats", "layers/g_a/0/conv1/weight", "z/medians"):
            yield f"{seed} {name}", {"seed": seed, "name": name}
