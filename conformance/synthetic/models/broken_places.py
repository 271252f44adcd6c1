"""Faults of models at other than the first place: last, later and random indices, slices, arrays, rows of gains, and
layers that a decoder does not compute.

The numbers of broken_models.py and the structures of broken_files.py stand mostly at index 0. A reader that looks at a
part of an array, or of the layers, finds these not.
"""

from __future__ import annotations

import zlib
from typing import Any

import h5py
import numpy as np

from refcodec.model.layer_table import layer_table
from refcodec.model.proof import INT16_MAX, INT32_MAX

from ...kit.clauses import cited
from .broken_models import BASE, GDN, configured, norms, put, replaced, several, symbol_tables
from .edits import Change, Edited
from .procedural import CONFIGURATIONS, edited_model

GAINS, SLICES = "single-7", "slices-7"
"""Models of two qualities, whose gains have 100 rows, and of eight slices."""

_LINES = [op.name for op in layer_table(CONFIGURATIONS["slices"])]


def _fault(base: str, name: str, clauses: str, says: str, change: Change) -> tuple[str, Edited]:
    return base, Edited(name, cited(f"10.2-25 {clauses}"), says, change)


def _last(path: str, value: int, column: int | None = None) -> Change:
    """Set the last number of an array, or the one of the last row in a column."""

    def change(f: h5py.File) -> None:
        place = [n - 1 for n in f[path].shape]
        if column is not None:
            place[-1] = column
        f[path][tuple(place)] = value

    return change


def _form(op: str, column: int, value: int) -> Change:
    return put("formats", (_LINES.index(op), column), value)


def _row(gain: str, array: str, row: int, value: int) -> Change:
    """Set the last channel of a row."""
    return lambda f: f[f"layers/{gain}/{array}"].__setitem__((row, f[f"layers/{gain}/{array}"].shape[1] - 1), value)


def _overflow(op: str) -> Change:
    """The last output alone can pass 2^31 - 1, by its last weight."""
    return several(_last(f"layers/{op}/weight", INT16_MAX), _last(f"layers/{op}/constants", INT32_MAX, 0))


def _big_endian_zero(f: h5py.File) -> None:
    replaced(f, "config/old_synthesis", np.zeros((), ">i4"))


def _small_chunk(f: h5py.File) -> None:
    """A chunk of 16 bytes in 322 stored ones: empty blocks stand before the deflated numbers."""
    array = f[f"{GDN}/beta"][()]
    replaced(f, f"{GDN}/beta", array, chunks=array.shape, compression="gzip")
    packed = zlib.compress(array.tobytes())
    blocks = b"\0\0\0\xff\xff" * ((322 - len(packed)) // 5)
    f[f"{GDN}/beta"].id.write_direct_chunk((0,), packed[:2] + blocks + packed[2:])


def _provenance(text: bytes) -> Change:
    return lambda f: replaced(f, "provenance", np.frombuffer(text, np.uint8))


def _attribute(name: str, value: Any) -> Change:
    def change(f: h5py.File) -> None:
        del f.attrs[name]
        f.attrs[name] = value

    return change


GAIN_FAULTS = [
    _fault(
        GAINS,
        f"gain-{gain.replace('/', '-').replace('_', '')}-{array}-{row}",
        f"6.9-4 {'10.2-9' if array == 'multiplier' else '10.2-10'}",
        f"a {array} of {value} in row {row} of the gain {gain}",
        _row(gain, array, row, value),
    )
    for gain, array, row, value in (
        ("g_s/input", "multiplier", 1, 2**14 - 1),
        ("g_s/input", "multiplier", 57, 2**15),
        ("g_s/input", "multiplier", 99, 0),
        ("g_s/input", "shift", 42, 0),
        ("g_s/input", "shift", 99, 31),
        ("h_s/input", "multiplier", 63, 2**15),
        ("h_s/input", "shift", 99, -1),
        ("y", "multiplier", 99, 2**15),
        ("y", "shift", 77, 31),
        ("z", "multiplier", 50, 2**14 - 1),
        ("z", "shift", 99, 0),
    )
]

LAST_FAULTS = [
    _fault(SLICES, *fault)
    for fault in (
        ("weight-last", "10.2-23", "a last weight of -32768", _last("layers/g_s/7/weight", -32768)),
        (
            "weight-middle",
            "10.2-23",
            "a weight of -32768 in the middle of a layer of slice 5",
            put("layers/chan/5/1/weight", (3, 1, 2, 1), -32768),
        ),
        ("shift-last", "10.2-4", "a shift of 31 in the last output", _last("layers/g_s/7/constants", 31, 1)),
        (
            "shift-last-slice",
            "10.2-4",
            "a shift of -1 in the last output of a layer of the last slice",
            _last("layers/ep_nonanchor/7/3/constants", -1, 1),
        ),
        (
            "add-shift-last",
            "10.2-4",
            "a branch's shift of 31 in the last output",
            _last("layers/g_s/5/upsample/constants", 31),
        ),
        (
            "add-shift-without-branch-last",
            "10.2-4",
            "a branch's shift of 1 in the last output, where no branch is",
            _last("layers/lrp_nonanchor/7/2/constants", 1),
        ),
        ("gamma-last", "10.2-5", "a last gamma of -1", _last("layers/g_s/5/igdn/gamma", -1)),
        ("beta-last", "10.2-6", "a last beta of 0", _last("layers/g_s/5/igdn/beta", 0)),
        ("igdn-shift-last", "10.2-7", "a shift of 37 in the last IGDN", put("layers/g_s/5/igdn/constants", 0, 37)),
        ("sum-first-shift", "10.2-8", "a shift of 16 of a sum's first input", put("layers/g_s/6/sum/constants", 0, 16)),
        ("sum-second-shift", "10.2-8", "a shift of -1 of the second", put("layers/g_s/6/sum/constants", 1, -1)),
        ("rescale-shift-last-slice", "10.2-11", "a shift of 16 in ctx/7", put("layers/ctx/7/constants", 0, 16)),
        ("epsilon-last-slice", "10.2-12", "an epsilon of 0 in slice 7", put("layers/local/7/norm2/constants", 0, 0)),
        (
            "logit-shift-last-slice",
            "10.2-14",
            "a shift of 31 in the local attention of slice 7",
            put("layers/local/7/attention/constants", 0, 31),
        ),
        (
            "key-shift-last-slice",
            "10.2-15",
            "a key_shift of -1 in the inter attention of slice 7",
            put("layers/inter/7/attention/constants", 0, -1),
        ),
        (
            "query-shift-last-slice",
            "10.2-15",
            "a query_shift of 17 in the inter attention of slice 7",
            put("layers/inter/7/attention/constants", 1, 17),
        ),
        (
            "context-shift-last-slice",
            "10.2-15",
            "a context_shift of 13 in the intra attention of slice 7",
            put("layers/intra/7/attention/constants", 2, 13),
        ),
        ("median-last", "10.2-16", "a last median of -32768", _last("z/medians", -32768)),
        (
            "frac-last-slice",
            "10.2-20",
            "fraction bits of 16 in slice 7",
            _form("intra/7/attention", 0, 16),
        ),
        (
            "gelu-frac-last-slice",
            "10.2-20",
            "a GELU layer of slice 7 in Q13",
            _form("ep_nonanchor/7/2", 0, 13),
        ),
        ("lrp-frac-last-slice", "10.2-20", "the last LRP in Q3", _form("lrp_nonanchor/7/2", 0, 3)),
        ("norm-frac-last-slice", "5.1-2", "the last normalisation in Q9", _form("local/7/norm2", 0, 9)),
        ("norm-clamp-last-slice", "9.2-4", "its clamp 32766", _form("local/7/norm2", 1, 32766)),
        ("wide-limit-last-slice", "10.2-21", "a wide layer of slice 7 with a clamp", _form("ep_nonanchor/7/3", 1, 9)),
        ("limit-0-last-slice", "10.2-21", "a clamp of 0 in slice 7", _form("intra/7/mlp2", 1, 0)),
        ("proof-last", "9.2-2", "a last output beyond 2^31", _overflow("g_s/7")),
        ("proof-last-slice", "9.2-2", "the last output of slice 7 beyond 2^31", _overflow("ep_nonanchor/7/3")),
        (
            "heads-sixth-slice",
            "6.1-2 6.1-4",
            "heads of the inter attention that do not divide in slices 5 and 7 alone",
            put("config/inter_head_width", (), 3),
        ),
        (
            "heads-last-slice",
            "6.1-2 6.1-4",
            "heads of the inter attention that do not divide in the last slice alone",
            put("config/inter_head_width", (), 4),
        ),
    )
]

ENCODER_FAULTS = [
    _fault(SLICES, f"{name}-of-encoder", clauses, f"{says} in a layer of the encoder alone", change)
    for name, clauses, says, change in (
        ("weight", "10.2-23", "a last weight of -32768", _last("layers/g_a/6/weight", -32768)),
        ("shift", "10.2-4", "a shift of 31", _last("layers/h_a/4/constants", 31, 1)),
        ("gamma", "10.2-5", "a last gamma of -1", _last("layers/g_a/4/gdn/gamma", -1)),
        ("sum-shift", "10.2-8", "a shift of 16", put("layers/g_a/5/sum/constants", 2, 16)),
        ("rescale-shift", "10.2-11", "a shift of 16", put("layers/h_a/input/constants", 0, 16)),
        ("gelu-frac", "10.2-20", "fraction bits of 13 with GELU", _form("h_a/3", 0, 13)),
        ("limit-0", "10.2-21", "a clamp of 0", _form("h_a/4", 1, 0)),
        ("proof", "9.2-2", "an accumulator beyond 2^31", _overflow("h_a/4")),
    )
]

SINGLE_FAULTS = [
    _fault(BASE, *fault)
    for fault in (
        (
            "tables-escape-no-frequency",
            "7.1-4 7.1-5",
            "a last table whose escape has no frequency",
            symbol_tables([0, 9, 65536, 0, 65536, 65536], [0, 3, 6], [0, 0]),
        ),
        (
            "tables-last-first-boundary",
            "7.1-4",
            "a last table that begins at 1",
            symbol_tables([0, 9, 65536, 1, 9, 65536], [0, 3, 6], [0, 0]),
        ),
        (
            "tables-last-decreasing",
            "7.1-4 7.1-5",
            "a last table whose last boundary but one is below the one before",
            symbol_tables([0, 9, 65536, 0, 9, 99, 98, 65536], [0, 3, 8], [0, 0]),
        ),
        (
            "tables-last-least",
            "7.1-3 7.1-5",
            "a last table that begins at -32768",
            symbol_tables([0, 9, 65536, 0, 9, 65536], [0, 3, 6], [0, -32768]),
        ),
        (
            "proof-gdn-wraps",
            "9.2-3",
            "a norm of 2^64 and 1, which 64 bits cut to 1",
            norms(1 << 36, 1, 1 << 14),
        ),
        (
            "proof-gdn-wraps-far",
            "9.2-3",
            "a gamma of 2^52 - 1, whose product with 32767^2 is below 2^52 in 64 bits with a sign",
            norms((1 << 52) - 1, 1, INT16_MAX),
        ),
        ("file-big-endian-zeros", "B.1-2", "a big-endian field that is 0", _big_endian_zero),
        ("file-chunk-padded", "B.1-15", "a chunk of 16 bytes stored in some 320, which inflates rightly", _small_chunk),
        (
            "file-format-longer",
            "B.1-17",
            "a format of one letter more",
            _attribute("format", np.bytes_("refcodec-models")),
        ),
        (
            "file-format-shorter",
            "B.1-17",
            "a format of one letter less",
            _attribute("format", np.bytes_("refcodec-mode")),
        ),
        ("file-version-2-32-and-1", "B.1-17", "version 2^32 + 1", _attribute("version", np.int64((1 << 32) + 1))),
        ("file-version-257", "B.1-17", "version 257", _attribute("version", np.int64(257))),
        ("file-provenance-two-objects", "B.1-13", "provenance of two objects", _provenance(b"{} {}")),
        ("file-provenance-object-and-comma", "B.1-13", "provenance with a comma behind", _provenance(b"{},")),
        (
            "file-several-arrays",
            "6.1-2 9.1-7",
            "2^28 integers and more in all arrays together, in none of them alone",
            configured(hs=(2700, 250)),
        ),
    )
]

FAULTS = [*GAIN_FAULTS, *LAST_FAULTS, *ENCODER_FAULTS, *SINGLE_FAULTS]

for _base, _made in FAULTS:
    edited_model(_made, _base)
