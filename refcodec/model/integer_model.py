"""The integer model: named integer arrays -> checked, frozen layers (SPEC 10.1, 10.2).

The normative content of a model is a mapping from names to integer arrays, independent of its file; its SHA-256 is
the model's fingerprint. HDF5 files also carry provenance, which takes no part in decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidModel
from .config import Config, config_from
from .layer_table import Op, layer_table
from .layers import Conv, Gain, Gdn, Layer, LinearAttention, LocalAttention, Norm, Rescale, Sum
from .proof import INT16_MAX, prove
from .symbol_tables import TOTAL, SymbolTables
from .tables import PINS, Tables, digest, tables_of

Content = Mapping[str, np.ndarray]

MAX_NUMBERS = 1 << 28
"""Largest count of integers in a model (SPEC 9.1-7): twice the largest published configuration."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model ready to code pictures.

    Attributes
    ----------
    name : str
        For people: the file it came from.
    config : Config
    layers : mapping of str to Layer
        By the names of the layer table.
    factorized : SymbolTables
        Of z, one table a channel.
    medians : np.ndarray [hyper], int32, Q6
    fingerprint : bytes
        16 bytes: the first half of the content's SHA-256.
    margins : mapping of str to int
        Distance of every convolution's worst accumulator from 2^31 (SPEC 9.2).
    provenance : mapping
        How the model was made; not normative.
    path : Path or None
        The file it was loaded from.
    """

    name: str
    config: Config
    layers: Mapping[str, Layer]
    tables: Tables
    factorized: SymbolTables
    medians: NDArray[np.int32]
    fingerprint: bytes
    margins: Mapping[str, int]
    provenance: Mapping[str, Any]
    path: Path | None = None

    @property
    def ops(self) -> tuple[Op, ...]:
        """The layer table, made once; without the lock of a cached_property, which outlives a fork."""
        found: tuple[Op, ...] | None = self.__dict__.get("_ops")
        if found is None:
            found = self.__dict__["_ops"] = layer_table(self.config)
        return found


def fingerprint(content: Content) -> bytes:
    """(SPEC 10.3) First 16 bytes of SHA-256 over names, types, shapes and little-endian numbers, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(content):
        array = np.ascontiguousarray(content[name], content[name].dtype.newbyteorder("<"))
        head = f"{name} int{8 * array.itemsize} {' '.join(str(n) for n in array.shape)}\n"
        digest.update(head.encode("ascii"))
        digest.update(array.tobytes())
    return digest.digest()[:16]


def config_content(config: Config) -> dict[str, np.ndarray]:
    """The configuration as integer arrays (SPEC 10.2)."""
    return {f"config/{k}": np.array(v, np.int32) for k, v in config.as_dict().items()}


def read_config(content: Content, where: str) -> Config:
    """(SPEC 10.2) The configuration that the arrays of ``config/`` hold.

    Raises
    ------
    InvalidModel
        A field is missing, unknown, of a wrong type, shape or value.
    """
    values: dict[str, Any] = {}
    for name, array in content.items():
        if name.startswith("config/"):
            _require(
                array.dtype == np.int32 and array.ndim < 2 and array.size <= 8,
                "configuration field has a wrong type or shape",
                f"{where}:{name}",
                shape=list(array.shape),
                dtype=str(array.dtype),
            )
            values[name[7:]] = tuple(int(n) for n in array) if array.ndim else int(array)
    if missing := sorted(set(Config.__dataclass_fields__) - set(values)):
        raise InvalidModel("configuration fields are missing", where=where, fields=missing)
    if (old := values["old_synthesis"]) in (0, 1):  # another value is refused as no bool
        values["old_synthesis"] = bool(old)
    config = config_from(values, where)
    check_size(config, where)
    return config


def check_size(config: Config, where: str = "configuration") -> None:
    """(SPEC 6.1-2) Refuse a configuration whose models are too large, even with the shortest tables of z.

    Raises
    ------
    InvalidModel
        It has more than `MAX_NUMBERS` integers.
    """
    fewest = (
        sum(array.size for array in config_content(config).values())
        + sum(size for _, size, _ in PINS.values())
        + 3 * config.hyper
        + sum(prod(shape) for _, shape in expected_arrays(config).values())
    )
    _require(fewest <= MAX_NUMBERS, "models would be too large", where, numbers=fewest, allowed=MAX_NUMBERS)


def expected_arrays(config: Config) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(SPEC 10.2) Names, types and shapes of every array of a model, except those of ``config/`` and ``z/cdf``."""
    ops = layer_table(config)
    out: dict[str, tuple[str, tuple[int, ...]]] = {"formats": ("int32", (len(ops), 2))}
    for op in ops:
        kinds: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {
            "conv": {
                "weight": ("int16", (op.channels, op.kernel, op.kernel, 1 if op.depthwise else op.in_channels)),
                "constants": ("int32", (op.channels, 3)),
            },
            "gdn": {
                "gamma": ("int64", (op.channels, op.channels)),
                "beta": ("int64", (op.channels,)),
                "constants": ("int32", (1,)),
            },
            "sum": {"constants": ("int32", (3,))},
            "gain": {
                "multiplier": ("int32", (config.steps, op.channels)),
                "shift": ("int32", (config.steps, op.channels)),
            },
            "rescale": {"constants": ("int32", (1,))},
            "norm": {"constants": ("int64", (1,))},
            "local_attention": {"bias": ("int32", (81, op.heads)), "constants": ("int32", (1,))},
            "linear_attention": {"constants": ("int32", (3,))},
        }
        shapes = kinds["gdn" if op.kind == "igdn" else op.kind]
        out.update({f"layers/{op.name}/{k}": v for k, v in shapes.items()})
    out["z/medians"] = ("int32", (config.hyper,))
    out["z/first"] = ("int32", (config.hyper,))
    out["z/start"] = ("int32", (config.hyper + 1,))
    return out


Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape of arrays by name."""


def check_layout(config: Config, layout: Layout, where: str) -> Layout:
    """(SPEC 10.2) Check names, types and shapes of a model's arrays, for which their numbers are not needed.

    Parameters
    ----------
    config : Config
    layout : mapping of str to (dtype, shape)
        Of every array.
    where : str
        The place that errors name.

    Returns
    -------
    mapping of str to (dtype, shape)
        ``expected_arrays`` of the configuration.

    Raises
    ------
    InvalidModel
        An array is missing, unknown, or of a wrong type or shape.
    """
    expected = expected_arrays(config)
    shapes = expected | {f"tables/{name}": (dtype, (size,)) for name, (dtype, size, _) in PINS.items()}
    present = {name for name in layout if not name.startswith("config/")}
    if missing := sorted({*shapes, "z/cdf"} - present):
        raise InvalidModel("arrays are missing", where=where, count=len(missing), first=missing[:5])
    if unknown := sorted(present - {*shapes, "z/cdf"}):
        raise InvalidModel("arrays are unknown", where=where, count=len(unknown), first=unknown[:5])
    for path, wanted in shapes.items():
        (dtype, shape), (got, got_shape) = wanted, layout[path]
        _require(
            wanted == layout[path],
            "array has a wrong type or shape",
            f"{where}:{path}",
            got=f"{got}{list(got_shape)}",
            expected=f"{dtype}{list(shape)}",
        )
    cdf, cdf_shape = layout["z/cdf"]
    longest = config.hyper * (TOTAL + 1)
    _require(
        cdf == "int32" and len(cdf_shape) == 1 and cdf_shape[0] <= longest,
        "array has a wrong type or shape",
        f"{where}:z/cdf",
        got=f"{cdf}{list(cdf_shape)}",
        expected=f"int32, at most {longest} boundaries",
    )
    return expected


def _require(holds: bool, what: str, where: str, **values: Any) -> None:
    if not holds:
        raise InvalidModel(what, where=where, **values)


def _layer(op: Op, arrays: Mapping[str, np.ndarray], frac: int, limit: int, tables: Tables, where: str) -> Layer:
    """One layer from its arrays, every value checked against SPEC 10.2."""
    _require(0 <= frac <= 15, "fraction bits out of range", where, frac=frac, allowed="0..15")
    wide = op.wide
    _require(limit == 0 if wide else 1 <= limit <= INT16_MAX, "clamp out of range", where, limit=limit)
    if op.kind == "conv":
        return _conv(op, arrays, frac, limit, tables, where)
    if op.kind in ("gdn", "igdn"):
        return _gdn(op, arrays, frac, limit, where)
    if op.kind == "gain":
        return _gain(op, arrays, frac, limit, where)
    numbers = [int(n) for n in arrays["constants"]]
    if op.kind == "norm":
        _require(1 <= numbers[0] < 1 << 50, "epsilon out of range", where, epsilon=numbers[0])
        return Norm(op.name, numbers[0], frac, limit)
    top = {"sum": 15, "rescale": 15, "local_attention": 30, "linear_attention": 16}[op.kind]
    _require(all(0 <= n <= top for n in numbers), "shift out of range", where, shifts=numbers, allowed=f"0..{top}")
    if op.kind == "sum":
        return Sum(op.name, numbers[0], numbers[1], numbers[2], frac, limit)
    if op.kind == "rescale":
        return Rescale(op.name, numbers[0], frac, limit)
    if op.kind == "local_attention":
        return LocalAttention(op.name, numbers[0], arrays["bias"], op.heads, frac, limit)
    _require(numbers[2] <= 12, "context shift out of range", where, shift=numbers[2], allowed="0..12")
    return LinearAttention(op.name, numbers[0], numbers[1], numbers[2], op.heads, frac, limit)


def _conv(op: Op, arrays: Mapping[str, np.ndarray], frac: int, limit: int, tables: Tables, where: str) -> Conv:
    weight, constants = arrays["weight"], arrays["constants"]
    bias, shift, add_shift = (np.ascontiguousarray(constants[:, n]) for n in range(3))
    _require(int(weight.min()) > -(1 << 15), "a weight is -32768", where)
    for name, values in (("shift", shift), ("add_shift", add_shift)):
        _require(
            int(values.min()) >= 0 and int(values.max()) <= 30,
            f"{name} out of range",
            where,
            smallest=int(values.min()),
            largest=int(values.max()),
            allowed="0..30",
        )
    table = None
    if op.gelu:
        _require(frac in tables.gelu, "no GELU table for these fraction bits", where, frac=frac)
        table = tables.gelu[frac]
    if op.tanh:
        _require(frac in tables.half_tanh, "no tanh table for these fraction bits", where, frac=frac)
    _require(bool(op.add) or not add_shift.any(), "a branch shift without a branch", where)
    return Conv(
        op.name,
        weight,
        bias,
        shift,
        frac,
        limit,
        add_shift if op.add else None,
        table,
        op.stride,
        op.shuffle,
        op.depthwise,
    )


def _gdn(op: Op, arrays: Mapping[str, np.ndarray], frac: int, limit: int, where: str) -> Gdn:
    gamma, beta, shift = arrays["gamma"], arrays["beta"], int(arrays["constants"][0])
    _require(
        int(gamma.min()) >= 0 and int(gamma.max()) < 1 << 52,
        "gamma out of range",
        where,
        smallest=int(gamma.min()),
        largest=int(gamma.max()),
    )
    _require(int(beta.min()) >= 1 and int(beta.max()) < 1 << 52, "beta out of range", where, smallest=int(beta.min()))
    _require(0 <= shift <= 36, "shift out of range", where, shift=shift, allowed="0..36")
    return Gdn(op.name, gamma, beta, shift, frac, limit)


def _gain(op: Op, arrays: Mapping[str, np.ndarray], frac: int, limit: int, where: str) -> Gain:
    m, s = arrays["multiplier"], arrays["shift"]
    _require(
        int(m.min()) >= 1 << 14 and int(m.max()) < 1 << 15,
        "multiplier out of range",
        where,
        smallest=int(m.min()),
        largest=int(m.max()),
        allowed="2^14..2^15-1",
    )
    _require(int(s.min()) >= 1 and int(s.max()) <= 30, "shift out of range", where, allowed="1..30")
    return Gain(op.name, m, s, frac, limit)


def build_model(
    content: Content, name: str = "model", provenance: Mapping[str, Any] | None = None, known: bytes | None = None
) -> Model:
    """Check content and make a model of it.

    Parameters
    ----------
    content : mapping of str to np.ndarray
        The normative arrays (SPEC 10.2).
    name : str
        For people: the file it came from.
    provenance : mapping or None
        How the model was made.
    known : bytes or None
        The content's fingerprint, if it has been computed.

    Returns
    -------
    Model

    Raises
    ------
    InvalidModel
        An array is missing, unknown, of a wrong type, shape or value, or a bound of SPEC 9.2 does not hold.
    """
    config = read_config(content, name)
    expected = check_layout(config, {n: (str(a.dtype), a.shape) for n, a in content.items()}, name)
    tables = _tables(content, name)
    ops = layer_table(config)
    by_layer: dict[str, dict[str, np.ndarray]] = {}
    for path in expected:
        if path.startswith("layers/"):
            layer, _, array_name = path[7:].rpartition("/")
            by_layer.setdefault(layer, {})[array_name] = content[path]
    layers = {
        op.name: _layer(op, by_layer[op.name], int(frac), int(limit), tables, f"{name}:{op.name}")
        for op, (frac, limit) in zip(ops, content["formats"], strict=True)
    }
    medians = content["z/medians"]
    _require(int(np.abs(medians.astype(np.int64)).max()) <= INT16_MAX, "median out of range", f"{name}:z/medians")
    factorized = SymbolTables(content["z/cdf"], content["z/start"], content["z/first"])
    return Model(
        name,
        config,
        layers,
        tables,
        factorized,
        medians,
        known or fingerprint(content),
        prove(ops, layers),
        provenance or {},
    )


def _tables(content: Content, where: str) -> Tables:
    """(SPEC 10.2) The tables that a model carries; they must be those of annex A."""
    for name, (_, _, pin) in PINS.items():
        _require(digest(content[f"tables/{name}"]) == pin, "table differs from annex A", f"{where}:tables/{name}")
    return tables_of({name: content[f"tables/{name}"] for name in PINS})
