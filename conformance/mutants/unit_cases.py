"""Unit cases (suite "units") against refcodec: operations alone, each through the engine as decoders call it.

Only operations that streams do not reach (GDN is the encoder's), or reach in one of two ways (sums that are traced),
or whose last bit seldom shows in a picture; and rules at whose bounds streams or models are too large for the kit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Input = Mapping[str, Any]

LONG = 4096
"""Bytes beyond which unit files tell a result by its length and SHA-256."""


def _engine(layer: Any, step: int = 0) -> Any:
    from refcodec.arith.engine import Engine
    from refcodec.model.tables import load_tables

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
    from refcodec.model.layers import Gdn

    layer = given["layer"]
    made = Gdn(
        "op",
        np.array(layer["gamma"], np.int64),
        np.array(layer["beta"], np.int64),
        layer["constants"][0],
        10,
        layer["limit"],
    )
    return _same(made, "igdn" if given["inverse"] else "gdn", given["x"])


def _sum(given: Input) -> Any:
    from refcodec.model.layers import Sum

    shift_a, shift_b, shift = given["layer"]["constants"]
    return _same(Sum("op", shift_a, shift_b, shift, 10, given["layer"]["limit"]), "sum", given["a"], given["b"])


def _gain(given: Input) -> Any:
    from refcodec.model.layers import Gain

    layer = given["layer"]
    made = Gain("op", np.array(layer["multiplier"], np.int32), np.array(layer["shift"], np.int32), 6, layer["limit"])
    return _same(made, "gain", given["x"], step=given["step"])


def _rescale(given: Input) -> Any:
    from refcodec.model.layers import Rescale

    return _same(Rescale("op", given["layer"]["constants"][0], 6, given["layer"]["limit"]), "rescale", given["x"])


def _norm(given: Input) -> Any:
    from refcodec.model.layers import Norm

    return _same(Norm("op", given["layer"]["constants"][0], 10, given["layer"]["limit"]), "norm", given["x"])


def _exp2(given: Input) -> Any:
    from refcodec.arith.numpy_ops import exp2_negative
    from refcodec.model.tables import load_tables

    return int(exp2_negative(np.array([given["t"]], np.int64), load_tables().exp2)[0])


def _chunks(given: Input) -> Any:
    """In a stream with empty segments."""
    from refcodec.bitstream.container import parse, serialise
    from refcodec.bitstream.crc32c import crc32c

    head = serialise(width=1, height=1, channels=3, quality=1, fingerprint=bytes(16), z=b"", y=b"")[:-4]
    body = head + _bytes(given["body"])[given["start"] :]
    return [[tag, _told(payload)] for tag, payload in parse(body + crc32c(body).to_bytes(4, "little")).chunks]


def _bytes(given: Input) -> bytes:
    """(SPEC 8) Bytes from their form in JSON: hexadecimal digits, or runs of them."""
    runs = given["runs"] if "runs" in given else [[given["hex"], 1]]
    return b"".join(bytes.fromhex(digits) * count for digits, count in runs)


def _told(data: bytes) -> Any:
    """Bytes as unit files tell them: long ones by length and SHA-256."""
    if len(data) <= LONG:
        return {"hex": data.hex()}
    return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _config_is_valid(given: Input) -> bool:
    from refcodec.errors import InvalidModel
    from refcodec.model.config import config_from
    from refcodec.model.integer_model import check_size

    config = dict(given["config"])
    if config["old_synthesis"] in (0, 1):
        config["old_synthesis"] = bool(config["old_synthesis"])
    try:
        check_size(config_from(config))
    except InvalidModel:
        return False
    return True


def _inter_heads(given: Input) -> int:
    from refcodec.model.config import Config

    return Config(**given["config"]).inter_heads(given["i"])


def _fingerprint(given: Input) -> Any:
    from refcodec.model.integer_model import fingerprint

    return {
        "hex": fingerprint({name: np.array(values, dtype) for name, (dtype, values) in given["content"].items()}).hex()
    }


FUNCTIONS: Mapping[str, Callable[[Input], Any]] = {
    "gdn": _gdn,
    "residual_sum": _sum,
    "gain": _gain,
    "rescale": _rescale,
    "layer_norm": _norm,
    "exp2_negative": _exp2,
    "container_chunks": _chunks,
    "config_is_valid": _config_is_valid,
    "inter_heads": _inter_heads,
    "fingerprint": _fingerprint,
}
"""How refcodec computes what these blocks of SPEC.md define."""

NAMES = (
    "gdn",
    "igdn",
    "sum",
    "gain",
    "rescale",
    "norm",
    "exp2",
    "container-chunks",
    "configuration",
    "configuration-bounds",
    "configuration-heads-floored",
    "fingerprint",
)
"""Vectors of the suite whose function is among these."""


def wrong_case(path: Path) -> str:
    """The first case of a file that refcodec computes otherwise, "" if there is none."""
    document = json.loads(path.read_text(encoding="utf-8"))
    function = FUNCTIONS[document["function"]]
    return next((case["id"] for case in document["cases"] if _result(function, case["input"]) != case["expect"]), "")


def _result(function: Callable[[Input], Any], given: Input) -> Any:
    """What a function returns, or the class by which it refuses."""
    from refcodec.errors import RefcodecError

    try:
        return function(given)
    except RefcodecError as error:
        return {"error": type(error).__name__}
