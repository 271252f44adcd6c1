"""Unit cases (suite "units") against refcodec: operations alone, each through the engine as decoders call it.

Only operations that streams do not reach (GDN is the encoder's), or reach in one of two ways (sums that are traced),
or whose last bit seldom shows in a picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Input = Mapping[str, Any]


def _engine(layer: Any, step: int = 0) -> Any:
    from refcodec.arith.engine import Engine
    from refcodec.data import load_tables

    return Engine({"op": layer}, load_tables(), step, 1, "numpy")


def _map(engine: Any, values: Any) -> Any:
    from refcodec.arith.maps import interior

    array = np.array(values)
    out = engine.map(*array.shape)
    interior(out)[...] = array
    return out


def _same(layer: Any, method: str, *maps: Any, step: int = 0) -> Any:
    """The result of an operation that leaves the size."""
    from refcodec.arith.maps import interior

    engine = _engine(layer, step)
    return interior(getattr(engine, method)("op", *(_map(engine, m) for m in maps))).tolist()


def _gdn(given: Input) -> Any:
    from refcodec.arith.layers import Gdn

    layer = given["layer"]
    made = Gdn("op", np.array(layer["gamma"], np.int64), np.array(layer["beta"], np.int64), layer["constants"][0], 10,
               layer["limit"])
    return _same(made, "igdn" if given["inverse"] else "gdn", given["x"])


def _sum(given: Input) -> Any:
    from refcodec.arith.layers import Sum

    shift_a, shift_b, shift = given["layer"]["constants"]
    return _same(Sum("op", shift_a, shift_b, shift, 10, given["layer"]["limit"]), "sum", given["a"], given["b"])


def _gain(given: Input) -> Any:
    from refcodec.arith.layers import Gain

    layer = given["layer"]
    made = Gain("op", np.array(layer["multiplier"], np.int32), np.array(layer["shift"], np.int32), 6, layer["limit"])
    return _same(made, "gain", given["x"], step=given["step"])


def _rescale(given: Input) -> Any:
    from refcodec.arith.layers import Rescale

    return _same(Rescale("op", given["layer"]["constants"][0], 6, given["layer"]["limit"]), "rescale", given["x"])


def _norm(given: Input) -> Any:
    from refcodec.arith.layers import Norm

    return _same(Norm("op", given["layer"]["constants"][0], 10, given["layer"]["limit"]), "norm", given["x"])


def _exp2(given: Input) -> Any:
    from refcodec.arith.numpy_ops import exp2_negative
    from refcodec.data import load_tables

    return int(exp2_negative(np.array([given["t"]], np.int64), load_tables().exp2)[0])


FUNCTIONS: Mapping[str, Callable[[Input], Any]] = {"gdn": _gdn, "residual_sum": _sum, "gain": _gain,
                                                   "rescale": _rescale, "layer_norm": _norm, "exp2_negative": _exp2}
"""How refcodec computes what these blocks of SPEC.md define."""

NAMES = ("gdn", "igdn", "sum", "gain", "rescale", "norm", "exp2")
"""Vectors of the suite whose function is among these."""


def wrong_case(path: Path) -> str:
    """The first case of a file that refcodec computes otherwise, "" if there is none."""
    document = json.loads(path.read_text(encoding="utf-8"))
    function = FUNCTIONS[document["function"]]
    return next((case["id"] for case in document["cases"] if function(case["input"]) != case["expect"]), "")
