"""Changes of a small model file: the means that HDF5 offers for leading a reader astray, and harmless ones.

Broken models of the suites are made of them (broken_files.py), and hostile ones of tests (workbench/fuzz/models.py).
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import h5py
import numpy as np

from refcodec.model.config import Config
from refcodec.model.file import FORMAT, VERSION
from refcodec.model.integer_model import expected_arrays

SMALL = Config(
    N=(2, 2, 2), M=2, slices=1, hyper=2, hs=(2, 2), chan=(2, 2), ent=(2, 2, 2), lrp=(2, 2), local_heads=1, intra_heads=1
)
"""The smallest configuration: few arrays, so that a case is cheap."""

BOMB = 64 << 20
"""Bytes that a small chunk inflates to."""

VICTIM = "layers/g_s/7/weight"
OUTSIDE, OUTSIDE_RAW = "outside.h5", "outside.raw"
"""An array that structures replace, and names of other files that they refer to."""


def write_file(content: dict[str, np.ndarray], provenance: bytes = b"{}", libver: str = "v108") -> bytes:
    """Bytes of a model file of any content, valid or not, in the format of an HDF5 library's version."""
    file = io.BytesIO()
    with h5py.File(file, "w", libver=(libver, "v110")) as f:
        f.attrs["format"] = np.bytes_(FORMAT)
        f.attrs["version"] = np.int64(VERSION)
        for name, array in content.items():
            large = array.size > 256
            f.create_dataset(
                name, data=array, **({"compression": "gzip", "shuffle": True, "chunks": array.shape} if large else {})
            )
        f.create_dataset("provenance", data=np.frombuffer(provenance, np.uint8))
    return file.getvalue()


def _replace(f: h5py.File, name: str, **arguments: Any) -> Any:
    del f[name]
    return f.create_dataset(name, **arguments)


def _raw_chunk(f: h5py.File, name: str, stored: bytes, **arguments: Any) -> None:
    shape = f[name].shape
    d = _replace(f, name, **{"shape": shape, "chunks": shape, "dtype": "<i2", "compression": "gzip", **arguments})
    d.id.write_direct_chunk((0,) * len(shape), stored)


@cache
def _bomb(size: int = BOMB) -> bytes:
    return zlib.compress(bytes(size), 9)


def _retyped(f: h5py.File, dtype: Any) -> None:
    _replace(f, VICTIM, data=f[VICTIM][()].astype(dtype))


def _virtual(f: h5py.File) -> None:
    shape = f[VICTIM].shape
    layout = h5py.VirtualLayout(shape, "<i2")
    layout[...] = h5py.VirtualSource(OUTSIDE, VICTIM, shape)
    del f[VICTIM]
    f.create_virtual_dataset(VICTIM, layout)


def _external_storage(f: h5py.File) -> None:
    shape = f[VICTIM].shape
    _replace(f, VICTIM, shape=shape, dtype="<i2", external=[(OUTSIDE_RAW, 0, 2 * int(np.prod(shape)))])


def _link(f: h5py.File, target: Any) -> None:
    del f[VICTIM]
    f[VICTIM] = target


def _declared(f: h5py.File, width: int = 512, **storage: Any) -> None:
    """Arrays of great widths, none of them stored."""
    config = Config(**{**SMALL.__dict__, "N": (width, width, width)})
    f["config/N"][...] = width
    for name, (dtype, shape) in expected_arrays(config).items():
        if f[name].shape != shape:
            _replace(f, name, shape=shape, dtype=dtype, **storage)


def _cycle(f: h5py.File, names: int) -> None:
    for n in range(names):
        f[f"layers/again{n}"] = f["layers"]


def _multiplied(f: h5py.File) -> None:
    """Seven groups, each under thirty names in the one before: 30^7 paths without a cycle."""
    below = f.create_group("more")
    for n in range(7):
        group = f.create_group(f"more{n}")
        for name in range(30):
            below[str(name)] = group
        below = group


def _deep(f: h5py.File) -> None:
    f.create_group("/".join(["deeper"] * 60))


def _attributes(f: h5py.File) -> None:
    for n in range(200):
        f.attrs[f"a{n}"] = np.arange(1000)


def _attribute(f: h5py.File, name: str, value: Any) -> None:
    del f.attrs[name]
    f.attrs[name] = value


def _vlen(f: h5py.File) -> None:
    d = _replace(f, VICTIM, shape=f[VICTIM].shape, dtype=h5py.vlen_dtype(np.int16))
    d[(0,) * len(d.shape)] = [1, 2, 3]


def _bit_field(f: h5py.File) -> None:
    space = h5py.h5s.create_simple(f[VICTIM].shape)
    del f[VICTIM]
    h5py.h5d.create(f.id, VICTIM.encode(), h5py.h5t.STD_B16LE, space)


def _provenance(f: h5py.File, text: bytes) -> None:
    _replace(f, "provenance", data=np.frombuffer(text, np.uint8))


STRUCTURES: dict[str, Callable[[h5py.File], Any]] = {
    "floats": lambda f: _retyped(f, "<f4"),
    "not a number": lambda f: _replace(f, VICTIM, data=np.full(f[VICTIM].shape, np.nan)),
    "big-endian": lambda f: _retyped(f, ">i2"),
    "unsigned": lambda f: _retyped(f, "<u2"),
    "wider": lambda f: _retyped(f, "<i4"),
    "bools": lambda f: _retyped(f, "?"),
    "texts": lambda f: _replace(f, VICTIM, data="text"),
    "compounds": lambda f: _replace(f, VICTIM, data=np.zeros(3, "i2,i2")),
    "references": lambda f: _replace(f, VICTIM, data=f.ref, dtype=h5py.ref_dtype),
    "bit field": _bit_field,
    "vlen": _vlen,
    "null dataspace": lambda f: _replace(f, VICTIM, dtype=h5py.Empty("<i2").dtype, data=h5py.Empty("<i2")),
    "named datatype": lambda f: f.__setitem__("layers/type", np.dtype("<i2")),
    "reshaped": lambda f: _replace(f, VICTIM, data=f[VICTIM][()].reshape(-1)),
    "missing array": lambda f: f.__delitem__(VICTIM),
    "unknown array": lambda f: f.create_dataset("layers/more", data=np.zeros(3, np.int16)),
    "control characters": lambda f: f.create_dataset("layers/\x1b[2J\n", data=np.zeros(3, np.int16)),
    "missing field": lambda f: f.__delitem__("config/window"),
    "unknown field": lambda f: f.create_dataset("config/more", data=np.int32(1)),
    "vector for a scalar": lambda f: _replace(f, "config/old_synthesis", data=np.ones(1, np.int32)),
    "no bool": lambda f: f["config/old_synthesis"].__setitem__((), 2),
    "long field": lambda f: _replace(f, "config/lrp", shape=(1 << 40,), dtype="<i4"),
    "soft link": lambda f: _link(f, h5py.SoftLink("/tables/exp2")),
    "external link": lambda f: _link(f, h5py.ExternalLink(OUTSIDE, VICTIM)),
    "virtual": _virtual,
    "external storage": _external_storage,
    "two names": lambda f: _link(f, f["layers/g_s/6/conv1/weight"]),
    "cycle": lambda f: _cycle(f, 1),
    "many cycles": lambda f: _cycle(f, 40),
    "multiplied groups": _multiplied,
    "deep groups": _deep,
    "format of variable length": lambda f: _attribute(f, "format", FORMAT),
    "format is a list": lambda f: _attribute(f, "format", np.array([FORMAT.encode()])),
    "format is huge": lambda f: _attribute(f, "format", np.bytes_(FORMAT * 1000)),
    "version is an array": lambda f: _attribute(f, "version", np.zeros((2, 2), np.int64)),
    "version is empty": lambda f: _attribute(f, "version", h5py.Empty("i8")),
    "version is a float": lambda f: _attribute(f, "version", 0.0),
    "huge": lambda f: _replace(f, VICTIM, shape=(1 << 40,), dtype="<i8"),
    "huge chunked": lambda f: _replace(f, VICTIM, shape=(1 << 20, 1 << 20), dtype="<i8", chunks=(1 << 10, 1 << 10)),
    "huge boundaries": lambda f: _replace(f, "z/cdf", shape=(1 << 34,), dtype="<i4"),
    "huge provenance": lambda f: _replace(f, "provenance", shape=(1 << 33,), dtype="u1"),
    "not stored": lambda f: _replace(f, VICTIM, shape=f[VICTIM].shape, dtype="<i2"),
    "chunk not stored": lambda f: _replace(f, VICTIM, shape=f[VICTIM].shape, dtype="<i2", chunks=f[VICTIM].shape),
    "large chunk": lambda f: _replace(
        f, VICTIM, data=f[VICTIM][()], maxshape=(None,) * 4, chunks=(1 << 6, 1 << 6, 1 << 6, 1 << 5), compression="gzip"
    ),
    "declares too much": lambda f: _declared(f, 4096),
    "declared and not stored": _declared,
    "declared and not stored in chunks": lambda f: _declared(f, compression="gzip"),
    "longer than its numbers": lambda f: _raw_chunk(f, VICTIM, _bomb()),
    "inflates without end": lambda f: _raw_chunk(f, "tables/gaussian_cdf", _bomb(), dtype="<i4"),
    "inflates too little": lambda f: _raw_chunk(f, VICTIM, zlib.compress(b"1")),
    "no gzip": lambda f: _raw_chunk(f, VICTIM, b"\xff" * 40),
    "lzf": lambda f: _replace(f, VICTIM, data=f[VICTIM][()], compression="lzf"),
    "fletcher32": lambda f: _replace(f, VICTIM, data=f[VICTIM][()], fletcher32=True),
    "scale-offset": lambda f: _replace(f, VICTIM, data=f[VICTIM][()], scaleoffset=8),
    "provenance is no JSON": lambda f: _provenance(f, b"{"),
    "provenance is no object": lambda f: _provenance(f, b"[1, 2]"),
    "provenance is deep": lambda f: _provenance(f, b"[" * 100_000),
    "provenance is no UTF-8": lambda f: _provenance(f, b'{"a": "\xff\xfe"}'),
}
"""Changes of a valid file by name, each of which a reader has to refuse."""


def _shuffled_chunks(f: h5py.File) -> None:
    _replace(f, VICTIM, data=f[VICTIM][()], chunks=(5, 2, 3, 1), compression="gzip", shuffle=True)


def _compact(f: h5py.File) -> None:
    array, properties = f[VICTIM][()], h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    del f[VICTIM]
    ident = h5py.h5d.create(f.id, VICTIM.encode(), h5py.h5t.STD_I16LE, h5py.h5s.create_simple(array.shape), properties)
    ident.write(h5py.h5s.ALL, h5py.h5s.ALL, array)


HARMLESS: dict[str, Callable[[h5py.File], Any]] = {
    "other chunks": _shuffled_chunks,
    "no filters": lambda f: _replace(f, VICTIM, data=f[VICTIM][()], chunks=(4, 3, 3, 2)),
    "not compressed": lambda f: _raw_plain(f),
    "compact": _compact,
    "attributes": _attributes,
    "no provenance": lambda f: f.__delitem__("provenance"),
    "other provenance": lambda f: _provenance(f, json.dumps({"made": "up"}).encode()),
    "provenance of a large number": lambda f: _provenance(f, b'{"a": ' + b"9" * 10_000 + b"}"),
}
"""Changes by name that leave the same model."""


def _early(f: h5py.File) -> None:
    """Chunks that are stored from the beginning and need no index."""
    array, properties = f[VICTIM][()], h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4, 3, 3, 2))
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    del f[VICTIM]
    ident = h5py.h5d.create(f.id, VICTIM.encode(), h5py.h5t.STD_I16LE, h5py.h5s.create_simple(array.shape), properties)
    ident.write(h5py.h5s.ALL, h5py.h5s.ALL, array)


INDICES: dict[str, Callable[[h5py.File], Any]] = {
    "single chunk": lambda f: _replace(f, VICTIM, data=f[VICTIM][()], chunks=f[VICTIM].shape, compression="gzip"),
    "implicit": _early,
    "fixed array": lambda f: _replace(f, VICTIM, data=f[VICTIM][()], chunks=(2, 3, 3, 1), compression="gzip"),
    "extensible array": lambda f: _replace(
        f, VICTIM, data=f[VICTIM][()], chunks=(1, 2, 3, 1), maxshape=(None, *f[VICTIM].shape[1:])
    ),
    "tree of version 2": lambda f: _replace(f, VICTIM, data=f[VICTIM][()], chunks=(2, 3, 3, 1), maxshape=(None,) * 4),
}
"""Changes by name that give an array the chunk indices of HDF5 1.10, which no model file has (SPEC B.1-24)."""


def _raw_plain(f: h5py.File) -> None:
    """A chunk that the writer left as it is, since gzip would not have made it shorter."""
    array = f[VICTIM][()]
    d = _replace(f, VICTIM, shape=array.shape, chunks=array.shape, dtype="<i2", compression="gzip")
    d.id.write_direct_chunk((0,) * array.ndim, array.astype("<i2").tobytes(), filter_mask=1)


def rebuilt(data: bytes, *changes: Callable[[h5py.File], Any], libver: str | None = None) -> bytes:
    """A model file after some changes, in the oldest structures that can hold them or in those of a version."""
    file = io.BytesIO(data)
    with h5py.File(file, "r+", libver=libver and (libver, libver)) as f:
        for change in changes:
            change(f)
    return file.getvalue()


__all__ = [
    "HARMLESS",
    "INDICES",
    "OUTSIDE",
    "OUTSIDE_RAW",
    "SMALL",
    "STRUCTURES",
    "VICTIM",
    "rebuilt",
    "write_file",
]
