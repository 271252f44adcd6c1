"""Model files with one fault each (SPEC 6.1, 7.1, 9.2, 10, B.1), and files that are written otherwise and have none.

All are derived from the file of nano-7. Each has one fault only: where a width is wrong, all arrays have it, so that no
other rule refuses the model.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from refcodec.model.integer_model import expected_arrays
from refcodec.model.layer_table import layer_table
from refcodec.model.proof import INT16_MAX, INT32_MAX
from refcodec.model.tables import load_arrays

from ...kit.clauses import cited
from .edits import Change, Edited
from .procedural import NANO, edited_model

BASE = "nano-7"

LINE = {op.name: n for n, op in enumerate(layer_table(NANO))}
"""Row of ``formats`` by operation."""


def put(path: str, place: Any, value: int) -> Change:
    """Set one number of an array.

    Parameters
    ----------
    path : str
        Of the array.
    place : index
    value : int

    Returns
    -------
    Change
    """
    return lambda f: f[path].__setitem__(place, value)


def form(op: str, column: int, value: int) -> Change:
    """Set the format of an operation's result.

    Parameters
    ----------
    op : str
    column : int
        0 for fraction bits, 1 for the clamp.
    value : int

    Returns
    -------
    Change
    """
    return put("formats", (LINE[op], column), value)


def replaced(f: h5py.File, path: str, array: Any = None, **storage: Any) -> None:
    """Replace a dataset, if there is one, or add it.

    Parameters
    ----------
    f : h5py.File
    path : str
    array : array or None
    **storage
        Further arguments of ``create_dataset``.
    """
    if path in f:
        del f[path]
    f.create_dataset(path, data=array, **storage)


def several(*changes: Change) -> Change:
    """One change after the other."""

    def change(f: h5py.File) -> None:
        for part in changes:
            part(f)

    return change


def configured(**fields: Any) -> Change:
    """Another configuration, valid or not, with arrays of its shapes: plain ones where they are others."""

    def change(f: h5py.File) -> None:
        config = replace(NANO, **fields)
        for name, value in fields.items():
            replaced(f, f"config/{name}", np.array(value, np.int32))
        rows = {
            op.name: f["formats"][LINE[op.name]] if op.name in LINE else (8, 0 if op.wide else INT16_MAX)
            for op in layer_table(config)
        }
        if list(rows) != list(LINE):
            replaced(f, "formats", np.array(list(rows.values()), np.int32))
        expected = expected_arrays(config)
        for path in sorted(set(_paths(f, "layers")) - set(expected)):
            del f[path]
        for path, (dtype, shape) in expected.items():
            if path not in f or f[path].shape != shape:
                plain(f, path, shape, dtype)
        if config.hyper != NANO.hyper:
            tables = range(config.hyper)
            symbol_tables([0, 9, 65536] * len(tables), [3 * n for n in (*tables, len(tables))], [0 for _ in tables])(f)

    return change


def plain(f: h5py.File, path: str, shape: tuple[int, ...], dtype: str) -> None:
    """An array of one value; a large one is deflated block by block, for it may take more memory than there is.

    Parameters
    ----------
    f : h5py.File
    path : str
    shape : tuple of int
    dtype : str
    """
    value, size = _PLAIN.get(path.rpartition("/")[2], 0), int(np.prod(shape))
    if size <= 256:
        replaced(f, path, np.full(shape, value, dtype))
        return
    if path in f:
        del f[path]
    dataset = f.create_dataset(path, shape, dtype, chunks=shape, compression="gzip")
    packer, block = zlib.compressobj(9), np.full(min(size, 1 << 19), value, dtype)
    parts = [packer.compress(block[: size - at].tobytes()) for at in range(0, size, block.size)]
    dataset.id.write_direct_chunk((0,) * len(shape), b"".join(parts) + packer.flush())


_PLAIN = {"beta": 1, "multiplier": 1 << 14, "shift": 14}
"""Contents of arrays that may not be zero."""


def _paths(f: h5py.File, group: str) -> list[str]:
    found: list[str] = []
    f[group].visititems(lambda name, item: found.append(f"{group}/{name}") if isinstance(item, h5py.Dataset) else None)
    return found


def symbol_tables(cdf: list[int], start: list[int], first: list[int]) -> Change:
    """Replace the tables of z.

    Parameters
    ----------
    cdf, start, first : list of int
        Boundaries, first boundary of each table, first symbol of each table.

    Returns
    -------
    Change
    """

    def change(f: h5py.File) -> None:
        for name, numbers in (("cdf", cdf), ("start", start), ("first", first)):
            replaced(f, f"z/{name}", np.array(numbers, np.int32))

    return change


def weighted(op: str, inputs: dict[int, int], bias: int = 0, channel: int = 0) -> Change:
    """One output channel with these weights at the centre of its windows and all others 0, and a bias.

    Parameters
    ----------
    op : str
        The convolution.
    inputs : dict of int to int
        Weight by input channel.
    bias : int
    channel : int
        The output channel.

    Returns
    -------
    Change
    """

    def change(f: h5py.File) -> None:
        weight = f[f"layers/{op}/weight"][()]
        centre = weight.shape[1] // 2
        weight[channel] = 0
        for n, w in inputs.items():
            weight[channel, centre, centre, n] = w
        f[f"layers/{op}/weight"][...] = weight
        f[f"layers/{op}/constants"][channel, 0] = bias

    return change


def norms(gamma: int, beta: int, limit: int) -> Change:
    """An IGDN of one gamma and one beta, its input within a clamp (SPEC 9.2-3).

    Parameters
    ----------
    gamma, beta, limit : int

    Returns
    -------
    Change
    """
    return several(
        lambda f: f[f"{GDN}/gamma"].__setitem__(..., 0),
        put(f"{GDN}/gamma", (1, 0), gamma),
        put(f"{GDN}/beta", 1, beta),
        form("g_s/1/conv", 1, limit),
    )


def wide_norm(channels: int, limit: int) -> Change:
    """One slice whose second normalisation has so many channels, within a clamp (SPEC 9.2-4)."""
    fields: dict[str, Any] = {"M": channels // 2, "slices": 1}
    line = [op.name for op in layer_table(replace(NANO, **fields))].index("local/0/proj")
    return several(configured(**fields), put("formats", (line, 1), limit))


CONV, BRANCHED, WIDE = "layers/g_s/7", "layers/g_s/1/upsample", "ep_anchor/0/3"
GDN, SUM, GAIN = "layers/g_s/1/igdn", "layers/g_s/0/sum", "layers/g_s/input"
RESCALE, NORM, LOCAL, LINEAR = (
    "layers/ctx/0",
    "layers/local/0/norm1",
    "layers/local/0/attention",
    "layers/inter/1/attention",
)


def kind(
    prefix: str, common: str, sound: bool = False, same: bool = False
) -> Callable[[str, str, str, Change], Edited]:
    """Make models of a kind from name, clauses, what they have, and change: with a common prefix and common clauses.

    Parameters
    ----------
    prefix, common : str
        Before every name; clauses of all.
    sound : bool
        The models are valid.
    same : bool
        The fingerprint stays that of the file before.

    Returns
    -------
    callable
    """
    return lambda name, clauses, says, change: Edited(
        prefix + name, cited(f"{common} {clauses}"), says, change, sound, same
    )


value, config, proof = kind("", "10.2-25"), kind("config-", "6.1-2 10.2-1"), kind("proof-", "9.2-1")
sound = kind("", "", sound=True)


def tables(name: str, clauses: str, says: str, *arrays: list[int]) -> Edited:
    """A model with these tables of z.

    Parameters
    ----------
    name, clauses, says : str
        As for `kind`.
    *arrays : list of int
        As for `symbol_tables`.

    Returns
    -------
    Edited
    """
    return kind("tables-", "7.1-5 10.2-17..18")(name, clauses, says, symbol_tables(*arrays))


VALUES = [
    value("frac-16", "10.2-20", "fraction bits of 16", form("ctx/0", 0, 16)),
    value("frac-minus-1", "10.2-20", "fraction bits of -1", form("ctx/0", 0, -1)),
    value("gelu-frac-3", "10.2-20", "a GELU layer in Q3, which has no table", form("g_s/1/subpel", 0, 3)),
    value("gelu-frac-13", "10.2-20", "a GELU layer in Q13, which has no table", form("g_s/1/subpel", 0, 13)),
    value("lrp-frac-3", "10.2-20", "the last layer of an LRP in Q3, which has no table", form("lrp_anchor/0/2", 0, 3)),
    value(
        "lrp-frac-13",
        "10.2-20",
        "the last layer of an LRP in Q13, which has no table",
        form("lrp_nonanchor/1/2", 0, 13),
    ),
    value("limit-0", "10.2-21", "a clamp of 0", form("ctx/0", 1, 0)),
    value("limit-minus-1", "10.2-21", "a clamp of -1", form("ctx/0", 1, -1)),
    value("limit-32768", "10.2-21", "a clamp of 32768", form("ctx/0", 1, 32768)),
    value("limit-32768-last", "10.2-21", "a clamp of 32768 in the last layer", form("g_s/7", 1, 32768)),
    value("wide-limit-1", "10.2-21", "a wide layer with a clamp", form(WIDE, 1, 1)),
    value("weight-minus-32768", "10.2-3 10.2-23", "a weight of -32768", put(f"{CONV}/weight", (0, 0, 0, 0), -32768)),
    value("shift-31", "10.2-4", "a convolution's shift of 31", put(f"{CONV}/constants", (0, 1), 31)),
    value("shift-minus-1", "10.2-4", "a convolution's shift of -1", put(f"{CONV}/constants", (1, 1), -1)),
    value("add-shift-31", "10.2-4", "a branch's shift of 31", put(f"{BRANCHED}/constants", (0, 2), 31)),
    value("add-shift-minus-1", "10.2-4", "a branch's shift of -1", put(f"{BRANCHED}/constants", (1, 2), -1)),
    value(
        "branch-shift-without-branch",
        "10.2-4",
        "a branch's shift where no branch is",
        put(f"{CONV}/constants", (0, 2), 1),
    ),
    value("gamma-minus-1", "10.2-5", "a gamma of -1", put(f"{GDN}/gamma", (0, 1), -1)),
    value("gamma-2-52", "10.2-5", "a gamma of 2^52", put(f"{GDN}/gamma", (0, 1), 1 << 52)),
    value("beta-0", "10.2-6", "a beta of 0", put(f"{GDN}/beta", 0, 0)),
    value("beta-2-52", "10.2-6", "a beta of 2^52", put(f"{GDN}/beta", 0, 1 << 52)),
    value("igdn-shift-37", "10.2-7", "an IGDN's shift of 37", put(f"{GDN}/constants", 0, 37)),
    value("igdn-shift-minus-1", "10.2-7", "an IGDN's shift of -1", put(f"{GDN}/constants", 0, -1)),
    value("sum-shift-16", "10.2-8", "a sum's shift of 16", put(f"{SUM}/constants", 2, 16)),
    value("sum-shift-minus-1", "10.2-8", "a sum's shift of -1", put(f"{SUM}/constants", 2, -1)),
    value("multiplier-low", "10.2-9", "a gain's multiplier of 2^14 - 1", put(f"{GAIN}/multiplier", (0, 0), 2**14 - 1)),
    value("multiplier-high", "10.2-9", "a gain's multiplier of 2^15", put(f"{GAIN}/multiplier", (0, 0), 2**15)),
    value("gain-shift-0", "10.2-10", "a gain's shift of 0", put(f"{GAIN}/shift", (0, 0), 0)),
    value("gain-shift-31", "10.2-10", "a gain's shift of 31", put(f"{GAIN}/shift", (0, 0), 31)),
    value("rescale-shift-16", "10.2-11", "a rescale's shift of 16", put(f"{RESCALE}/constants", 0, 16)),
    value("rescale-shift-minus-1", "10.2-11", "a rescale's shift of -1", put(f"{RESCALE}/constants", 0, -1)),
    value("epsilon-0", "10.2-12", "an epsilon of 0", put(f"{NORM}/constants", 0, 0)),
    value("epsilon-2-50", "10.2-12", "an epsilon of 2^50", put(f"{NORM}/constants", 0, 1 << 50)),
    value("logit-shift-31", "10.2-14", "a local attention's shift of 31", put(f"{LOCAL}/constants", 0, 31)),
    value("logit-shift-minus-1", "10.2-14", "a local attention's shift of -1", put(f"{LOCAL}/constants", 0, -1)),
    value("key-shift-17", "10.2-15", "a key_shift of 17", put(f"{LINEAR}/constants", 0, 17)),
    value("query-shift-17", "10.2-15", "a query_shift of 17", put(f"{LINEAR}/constants", 1, 17)),
    value("context-shift-13", "10.2-15", "a context_shift of 13", put(f"{LINEAR}/constants", 2, 13)),
    value("context-shift-minus-1", "10.2-15", "a context_shift of -1", put(f"{LINEAR}/constants", 2, -1)),
    value("median-32768", "10.2-16", "a median of 32768", put("z/medians", 0, 32768)),
    value("median-minus-32768", "10.2-16", "a median of -32768", put("z/medians", 1, -32768)),
    value(
        "other-table",
        "10.2-19 10.2-24 A.8-2",
        "an entry of GELU's table that is one more",
        lambda f: f["tables/gelu_q4"].__setitem__(1, f["tables/gelu_q4"][1] + 1),
    ),
]

TABLES = [
    tables(
        "begin-late",
        "7.1-1",
        "a first table that begins at 1 in z/cdf",
        [-5, 0, 9, 65536, 0, 9, 65536],
        [1, 4, 7],
        [0, 0],
    ),
    tables(
        "end-early",
        "7.1-1",
        "a last table that ends before z/cdf",
        [0, 9, 65536, 0, 9, 65536, 70000],
        [0, 3, 6],
        [0, 0],
    ),
    tables("escape-alone", "7.1-3", "a table without a regular symbol", [0, 65536, 0, 9, 65536], [0, 2, 5], [0, 0]),
    tables("first-boundary", "7.1-4", "a first boundary of 1", [1, 9, 65536, 0, 9, 65536], [0, 3, 6], [0, 0]),
    tables("total-short", "7.1-4", "a last boundary of 65535", [0, 9, 65536, 0, 9, 65535], [0, 3, 6], [0, 0]),
    tables("total-long", "7.1-4", "a last boundary of 65537", [0, 9, 65537, 0, 9, 65536], [0, 3, 6], [0, 0]),
    tables("decreasing", "7.1-4", "a boundary below the one before", [0, 9, 8, 65536, 0, 9, 65536], [0, 4, 7], [0, 0]),
    tables("no-frequency", "7.1-4", "two equal boundaries", [0, 9, 9, 65536, 0, 9, 65536], [0, 4, 7], [0, 0]),
    tables("least", "7.1-3", "a first symbol of -32768", [0, 9, 65536, 0, 9, 65536], [0, 3, 6], [-32768, 0]),
    tables("greatest", "7.1-3", "a last symbol of 32768", [0, 9, 65536, 0, 9, 99, 65536], [0, 3, 7], [0, 32767]),
    tables("greatest-far", "7.1-3", "a first symbol of 40000", [0, 9, 65536, 0, 9, 65536], [0, 3, 6], [0, 40000]),
]

CONFIGS = [
    config("zero", "9.1-6", "an inter_head_width of 0", put("config/inter_head_width", (), 0)),
    config("too-wide", "9.1-6", "a width of 4098", configured(ent=(4098, 2, 2))),
    config("qualities-65", "9.1-6", "65 qualities", configured(qualities=65)),
    config("four-widths", "", "four widths where three belong", configured(ent=(2, 2, 2, 2))),
    config("lrp-of-one", "", "one hidden width of LRP", configured(lrp=(2,))),
    config("lrp-of-three", "", "three hidden widths of LRP", configured(lrp=(2, 2, 2))),
    config("window-7", "", "a window of 7", configured(window=7)),
    config("slices-do-not-divide", "", "three slices of eight channels", configured(M=8, slices=3)),
    config("odd-slices", "", "slices of three channels", configured(M=6)),
    config("odd-width", "", "a width of 3", configured(ent=(3, 2, 2))),
    config("odd-lrp", "", "an LRP of width 3", configured(lrp=(3, 2))),
    config("odd-hyper", "", "three channels of z", configured(hyper=3)),
    config("local-heads", "", "a number of local heads that does not divide", configured(local_heads=3)),
    config("intra-heads", "", "a number of intra heads that does not divide", put("config/intra_heads", (), 3)),
    config(
        "inter-heads", "6.1-4", "a number of inter heads that does not divide", put("config/inter_head_width", (), 3)
    ),
    config(
        "old-synthesis-2",
        "6.1-8",
        "old_synthesis of 2",
        several(configured(old_synthesis=1), put("config/old_synthesis", (), 2)),
    ),
    config("missing-field", "10.2-22", "no field qualities", lambda f: f.__delitem__("config/qualities")),
    config(
        "unknown-field",
        "10.2-22",
        "a field that 6.1 does not have",
        lambda f: f.create_dataset("config/more", data=np.int32(1)),
    ),
    config("field-int64", "10.2-22", "a field of int64", lambda f: replaced(f, "config/slices", np.int64(2))),
    config(
        "field-of-two-dimensions",
        "10.2-22",
        "a list of widths with two dimensions",
        lambda f: replaced(f, "config/hs", np.array([[2], [2]], np.int32)),
    ),
    config(
        "field-of-no-rows",
        "10.2-22",
        "an empty list of widths with two dimensions",
        several(configured(lrp=()), lambda f: replaced(f, "config/lrp", np.zeros((0, 2), np.int32))),
    ),
    config(
        "vector-for-a-number",
        "10.2-22",
        "a list where one number belongs",
        lambda f: replaced(f, "config/M", np.array([20], np.int32)),
    ),
]

GELU_MOST = int(load_arrays()["gelu_q8"].max())
"""GELU in Q8 is nowhere below minus this."""

_INPUT = several(form("g_s/0/conv1", 0, 8), form("g_s/0/conv1", 1, INT16_MAX))
_LEAST = GELU_MOST * INT16_MAX - INT32_MAX  # bias for which the least accumulator is -(2^31 - 1)

_BESIDE = INT32_MAX - INT16_MAX * INT16_MAX  # what a product of the greatest factors leaves

PROOF = [
    proof(
        "greatest",
        "9.2-2",
        "an accumulator that can reach 2^31",
        weighted("g_a/0/conv1", {0: INT16_MAX}, INT32_MAX + 1 - 255 * INT16_MAX, channel=1),
    ),
    proof(
        "least",
        "9.2-2 9.2-8",
        "an accumulator that can reach -2^31, by GELU's negative values",
        several(_INPUT, weighted("g_s/0/conv2", {0: INT16_MAX}, _LEAST - 1, channel=1)),
    ),
    proof(
        "signs",
        "9.2-2",
        "weights of opposite signs that sum to 0, and an accumulator beyond 2^31",
        several(_INPUT, weighted("g_s/0/conv2", {n: INT16_MAX * (-1) ** n for n in range(8)})),
    ),
    proof(
        "second-input",
        "9.2-2",
        "an accumulator beyond 2^31 by the second of two inputs",
        several(form("inter/1/mlp1", 1, INT16_MAX), weighted("inter/1/mlp2", dict.fromkeys((67, 68, 69), INT16_MAX))),
    ),
    proof(
        "first-input",
        "9.2-2",
        "an accumulator that can reach 2^31, by the first channel of the first of two inputs alone",
        several(form("inter/1/reprojection", 1, INT16_MAX), weighted("inter/1/mlp2", {0: INT16_MAX}, _BESIDE + 1)),
    ),
    proof(
        "branch",
        "9.2-2",
        "an accumulator beyond 2^31 by its branch alone",
        several(weighted("g_s/1/upsample", {}), put(f"{BRANCHED}/constants", (0, 2), 20)),
    ),
    proof(
        "gdn", "9.2-3", "a norm that can reach 2^52, half of it beta", norms(1 << 31, (1 << 52) - (10**6 << 31), 1000)
    ),
    proof("gdn-gamma", "9.2-3", "a norm beyond 2^52 by the low bits of gamma", norms((1 << 26) - 1, 1, INT16_MAX)),
    proof("norm-frac", "5.1-2", "a normalisation in Q9", form("local/0/norm1", 0, 9)),
    proof("norm-clamp", "9.2-4", "a normalisation with a clamp of 32766", form("local/0/norm1", 1, INT16_MAX - 1)),
    proof("norm-sum", "9.2-4", "a normalisation of 104 channels whose sum can exceed 2^52", wide_norm(104, INT16_MAX)),
    proof("norm-channels", "9.2-4", "a normalisation of 132 channels", wide_norm(132, 1000)),
]


def _longest_tables(f: h5py.File) -> None:
    for name, numbers in (("start", [0, 65537, 131074]), ("first", [-INT16_MAX, -INT16_MAX])):
        replaced(f, f"z/{name}", np.array(numbers, np.int32))
    boundaries = np.tile(np.arange(65537, dtype=np.int32), 2)
    replaced(f, "z/cdf", boundaries, chunks=boundaries.shape, compression="gzip", shuffle=True)


SOUND = [
    sound(
        "greatest",
        "9.2-2",
        "an accumulator that can reach 2^31 - 1 exactly",
        weighted("g_a/0/conv1", {0: INT16_MAX}, INT32_MAX - 255 * INT16_MAX),
    ),
    sound(
        "least",
        "9.2-2 9.2-8",
        "an accumulator that can reach -(2^31 - 1) exactly, by GELU's negative values",
        several(_INPUT, weighted("g_s/0/conv2", {0: INT16_MAX}, _LEAST)),
    ),
    sound(
        "two-inputs",
        "9.2-2",
        "an accumulator that can reach 2^31 - 1 exactly, by the first channels of both inputs",
        several(
            form("inter/1/reprojection", 1, INT16_MAX),
            form("inter/1/mlp1", 1, 1),
            weighted("inter/1/mlp2", {0: INT16_MAX, 30: 1}, _BESIDE - 1),
        ),
    ),
    sound(
        "gdn", "9.2-3", "a norm that can reach 2^52 - 1 exactly", norms(1 << 31, (1 << 52) - (10**6 << 31) - 1, 1000)
    ),
    sound(
        "values",
        "10.2-3..4 10.2-7..8 10.2-10..12 10.2-14..16 10.2-20..21",
        "the greatest shifts, clamps and fraction bits that are allowed",
        several(
            form("ctx/0", 0, 15),
            form("ctx/1", 0, 0),
            form("ctx/1", 1, 1),
            form("g_s/0/conv1", 0, 12),
            form("g_s/0/conv2", 0, 4),
            form("lrp_anchor/0/2", 0, 12),
            form("lrp_nonanchor/0/2", 0, 4),
            form("g_s/6/sum", 1, INT16_MAX),
            weighted("g_s/7", {0: INT16_MAX, 1: -INT16_MAX}, channel=2),
            put(f"{CONV}/constants", (3, 1), 30),
            put(f"{CONV}/constants", (4, 1), 0),
            weighted("g_s/1/upsample", {0: 5}, 9),
            put(f"{BRANCHED}/constants", (0, 2), 16),
            form("g_s/1/igdn", 1, INT16_MAX),
            put(f"{GDN}/constants", 0, 36),
            put(f"{SUM}/constants", ..., 15),
            put("layers/y/multiplier", (0, 0), 2**15 - 1),
            put("layers/y/shift", (0, 0), 30),
            put("layers/y/shift", (0, 1), 1),
            put("layers/ctx/1/constants", 0, 15),
            put("layers/local/1/norm1/constants", 0, 2**50 - 1),
            put("layers/local/1/attention/constants", 0, 30),
            put(f"{LINEAR}/constants", 0, 16),
            put(f"{LINEAR}/constants", 1, 16),
            put(f"{LINEAR}/constants", 2, 12),
            put("z/medians", 0, INT16_MAX),
            put("z/medians", 1, -INT16_MAX),
            symbol_tables([0, 9, 65536, 0, 9, 99, 65536], [0, 3, 7], [-32767, 32766]),
        ),
    ),
    sound(
        "sum-shifts",
        "5.4-1",
        "a sum whose two summands both lose bits in its shift",
        several(*(put(SUM + "/constants", n, shift) for n, shift in enumerate((0, 1, 3)))),
    ),
    sound(
        "longest-tables",
        "7.1-3..4 10.2-17..18 B.1-12",
        "tables of z with 65537 boundaries each, whose frequencies are all 1",
        _longest_tables,
    ),
]

FAULTS = [*VALUES, *TABLES, *CONFIGS, *PROOF]

for _made in (*FAULTS, *SOUND):
    edited_model(_made, BASE)
