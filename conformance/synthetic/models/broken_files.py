"""Model files of broken structure (SPEC B.1), and files that hold a sound model in another way.

Most changes are those of structures.py, where tests try them too.
"""

from __future__ import annotations

import zlib
from typing import Any

import h5py
import numpy as np

from refcodec.model.file import MAX_FLOATS, MAX_PROVENANCE
from refcodec.model.integer_model import fingerprint

from .broken_models import BASE, Fault, Sound, configured, replaced
from .procedural import edited_model, source
from .structures import HARMLESS, STRUCTURES, VICTIM

_HDF5 = {  # name in structures.STRUCTURES: own name, clause, what is wrong
    "floats": ("floats", "B.1-2", "weights that are floats"),
    "big-endian": ("big-endian", "B.1-2", "weights that are big-endian"),
    "unsigned": ("unsigned", "B.1-2", "weights that are unsigned"),
    "wider": ("wider", "10.2-22", "weights of 32 bits"),
    "texts": ("texts", "B.1-11", "a text in place of weights"),
    "compounds": ("compounds", "B.1-11", "compounds in place of weights"),
    "references": ("references", "B.1-11", "a reference in place of weights"),
    "bit field": ("bit-field", "B.1-11", "a bit field in place of weights"),
    "vlen": ("vlen", "B.1-11", "arrays of variable length in place of weights"),
    "null dataspace": ("null-dataspace", "B.1-11", "an array without a dataspace"),
    "named datatype": ("named-datatype", "B.1-7", "a datatype with a name, which is neither group nor dataset"),
    "reshaped": ("reshaped", "10.2-22", "weights of one dimension"),
    "missing array": ("missing-array", "10.2-22", "no weights of a layer"),
    "unknown array": ("unknown-array", "10.2-22", "an array that no layer has"),
    "control characters": ("control-characters", "B.1-16", "a name with control characters"),
    "long field": ("long-field", "10.2-22", "a field of the configuration of 2^40 numbers"),
    "soft link": ("soft-link", "B.1-5", "a soft link"),
    "external link": ("external-link", "B.1-5", "a link to another file"),
    "virtual": ("virtual", "B.1-8", "weights from another file by virtual storage"),
    "external storage": ("external-storage", "B.1-8", "weights in another file"),
    "two names": ("two-names", "B.1-5", "one array under two names"),
    "cycle": ("cycle", "B.1-5", "a group that is inside itself"),
    "format of variable length": ("format-of-variable-length", "B.1-11", "a format of variable length"),
    "format is a list": ("format-list", "B.1-17", "a list of formats"),
    "version is an array": ("version-array", "B.1-17", "an array of versions"),
    "version is a float": ("version-float", "B.1-17", "a version that is a float"),
    "huge": ("huge", "B.1-14", "weights of 2^40 numbers, none of them there"),
    "huge boundaries": ("huge-boundaries", "B.1-12", "2^34 boundaries of z, none of them there"),
    "huge provenance": ("huge-provenance", "B.1-3", "2^33 bytes of provenance, none of them there"),
    "not stored": ("not-stored", "B.1-8", "weights that are not in the file"),
    "chunk not stored": ("chunk-not-stored", "B.1-15", "a chunk that is not in the file"),
    "large chunk": ("large-chunk", "B.1-10", "a chunk that is larger than its array"),
    "inflates too little": ("chunk-short", "B.1-15", "a chunk that inflates to one byte"),
    "no gzip": ("chunk-no-gzip", "B.1-15", "a chunk that cannot be inflated"),
    "lzf": ("lzf", "B.1-9", "the filter LZF"),
    "fletcher32": ("fletcher32", "B.1-9", "the filter Fletcher32"),
    "scale-offset": ("scale-offset", "B.1-9", "the filter scale-offset"),
    "provenance is no JSON": ("provenance-no-json", "B.1-13", "provenance that is no JSON"),
    "provenance is no object": ("provenance-no-object", "B.1-13", "provenance that is a list"),
    "provenance is no UTF-8": ("provenance-no-utf-8", "B.1-13", "provenance that is no UTF-8"),
}


def _filtered(f: h5py.File, *filters: int, stored: bytes = b"") -> None:
    """Weights through these filters in this order, or bytes that are said to be such."""
    array, properties = f[VICTIM][()], h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(array.shape)
    for code in filters:
        if code == h5py.h5z.FILTER_SHUFFLE:
            properties.set_shuffle()
        else:
            properties.set_deflate(9)
    del f[VICTIM]
    space = h5py.h5s.create_simple(array.shape)
    ident = h5py.h5d.create(f.id, VICTIM.encode(), h5py.h5t.STD_I16LE, space, properties)
    if stored:
        ident.write_direct_chunk((0,) * array.ndim, stored)
    else:
        ident.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(array))


def _attribute(f: h5py.File, name: str, value: Any) -> None:
    if name in f.attrs:
        del f.attrs[name]
    if value is not None:
        f.attrs[name] = value


def _provenance(f: h5py.File, array: np.ndarray) -> None:
    packed = {"compression": "gzip", "chunks": array.shape} if array.size > 256 else {}
    replaced(f, "provenance", array, **packed)


def _declared(f: h5py.File, path: str, shape: tuple[int, ...], dtype: str) -> None:
    """An array of a shape of which nothing is stored."""
    if path in f:
        del f[path]
    f.create_dataset(path, shape, dtype)


def _stored_chunk(f: h5py.File, path: str, stored: bytes) -> None:
    """An array in one chunk of these bytes, which are said to be deflated."""
    shape, dtype = f[path].shape, f[path].dtype
    del f[path]
    dataset = f.create_dataset(path, shape, dtype, chunks=shape, compression="gzip")
    dataset.id.write_direct_chunk((0,) * len(shape), stored)


def _named_window(f: h5py.File) -> None:
    del f["config/window"]
    f["config/window"] = np.dtype("<i4")


def _padded(data: bytes) -> bytes:
    """Deflated bytes with empty stored blocks of five bytes before them, sound but for their length."""
    packed = zlib.compress(data)
    return packed[:2] + b"\0\0\0\xff\xff" * ((2 * len(data) + 64) // 5 + 1) + packed[2:]


def _link(f: h5py.File, target: Any) -> None:
    """One array under the name of another of its shape."""
    assert f[SECOND].shape == f[FIRST].shape
    del f[SECOND]
    f[SECOND] = target


def _typed(f: h5py.File, kind: h5py.h5t.TypeID) -> None:
    """Weights of another type of 16 bits, in memory as in the file."""
    array, space = f[VICTIM][()], h5py.h5s.create_simple(f[VICTIM].shape)
    del f[VICTIM]
    h5py.h5d.create(f.id, VICTIM.encode(), kind, space).write(h5py.h5s.ALL, h5py.h5s.ALL, array, kind)


def _enumeration() -> h5py.h5t.TypeID:
    kind = h5py.h5t.enum_create(h5py.h5t.STD_I16LE)
    kind.enum_insert(b"nothing", 0)
    return kind


def _twelve_bits() -> h5py.h5t.TypeID:
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(12)
    return kind


def _virtual(f: h5py.File) -> None:
    """A field without numbers, which virtual storage holds as well as any other."""
    configured(lrp=())(f)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.VIRTUAL)
    del f["config/lrp"]
    h5py.h5d.create(f.id, b"config/lrp", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((0,)), properties)


def _external(f: h5py.File) -> None:
    """Weights in a file that many systems have, and that holds as many zeros as one reads."""
    shape = f[VICTIM].shape
    del f[VICTIM]
    f.create_dataset(VICTIM, shape, "<i2", external=[("/dev/zero", 0, 2 * int(np.prod(shape)))])


def _attributes(f: h5py.File) -> None:
    f.attrs["more"] = np.arange(3)
    f["layers"].attrs["text"] = "of variable length"
    f[VICTIM].attrs["of an array"] = 1.5


def _many_attributes(f: h5py.File) -> None:
    for n in range(20):
        f.attrs[f"more {n}"] = np.int64(n)


FIRST, SECOND = "layers/g_s/2/conv1/weight", "layers/g_s/2/conv2/weight"
"""Two arrays of one shape."""

_MIB = 1 << 20
_DEEP = "/".join("d" for _ in range(10))
_SHUFFLE, _GZIP = h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE
_FUSION = "layers/local/0/fusion/weight"

FAULTS = [Fault(f"file-{own}", (clause,), says, STRUCTURES[name]) for name, (own, clause, says) in _HDF5.items()]
FAULTS += [
    Fault(f"file-{name}", (clause,), says, change)
    for name, clause, says, change in (
        ("no-format", "B.1-17", "no attribute format", lambda f: _attribute(f, "format", None)),
        ("other-format", "B.1-17", "another format", lambda f: _attribute(f, "format", np.bytes_("refcodec-weight"))),
        ("no-version", "B.1-17", "no attribute version", lambda f: _attribute(f, "version", None)),
        ("version-0", "B.1-17", "version 0", lambda f: _attribute(f, "version", np.int64(0))),
        ("version-2", "B.1-17", "version 2", lambda f: _attribute(f, "version", np.int64(2))),
        (
            "provenance-int16",
            "B.1-3",
            "provenance of 16-bit numbers",
            lambda f: _provenance(f, np.array([0x7D7B], "<i2")),
        ),
        (
            "provenance-of-two-dimensions",
            "B.1-3",
            "provenance of two dimensions",
            lambda f: _provenance(f, np.frombuffer(b"{}", np.uint8).reshape(1, 2)),
        ),
        (
            "provenance-long",
            "B.1-3",
            "provenance of 2^20 + 1 bytes",
            lambda f: _provenance(f, np.frombuffer(b"{}".ljust(MAX_PROVENANCE + 1), np.uint8)),
        ),
        (
            "float-int32",
            "B.1-4",
            "integers in the group float",
            lambda f: f.create_dataset("float/g_a.bias", data=np.zeros(3, np.int32)),
        ),
        ("float-many", "B.1-4", "more than 2^24 floats", lambda f: _declared(f, "float/g_a", (MAX_FLOATS + 1,), "<f4")),
        ("filters-reversed", "B.1-9", "gzip before shuffle", lambda f: _filtered(f, _GZIP, _SHUFFLE)),
        ("filters-twice", "B.1-9", "gzip twice", lambda f: _filtered(f, _GZIP, _GZIP)),
        (
            "chunk-long",
            "B.1-15",
            "a chunk of more bytes than twice its numbers",
            lambda f: _stored_chunk(f, VICTIM, zlib.compress(bytes(_MIB))),
        ),
        (
            "chunk-bomb",
            "B.1-15",
            "a chunk that inflates to 1 MiB, eight times its numbers",
            lambda f: _stored_chunk(f, "tables/gaussian_cdf", zlib.compress(bytes(_MIB))),
        ),
        (
            "filters-said-twice",
            "B.1-9",
            "gzip twice, where weights are deflated once",
            lambda f: _filtered(f, _GZIP, _GZIP, stored=zlib.compress(f[VICTIM][()].tobytes())),
        ),
        (
            "soft-link-that-fits",
            "B.1-5",
            "a soft link to another array of the same shape",
            lambda f: _link(f, h5py.SoftLink(f"/{FIRST}")),
        ),
        ("two-names-that-fit", "B.1-5", "an array that is two of the same shape", lambda f: _link(f, f[FIRST])),
        ("virtual-of-nothing", "B.1-8", "an empty list of widths in virtual storage", _virtual),
        ("external-zeros", "B.1-8", "weights in another file that has enough of them", _external),
        ("enumeration", "B.1-11", "an enumeration in place of weights", lambda f: _typed(f, _enumeration())),
        ("twelve-bits", "B.1-11", "weights of 12 bits in 16", lambda f: _typed(f, _twelve_bits())),
        ("bits", "B.1-11", "bits in place of weights", lambda f: _typed(f, h5py.h5t.STD_B16LE)),
        (
            "chunk-one-byte-more",
            "B.1-15",
            "a chunk that inflates to one byte more than its numbers",
            lambda f: _stored_chunk(f, VICTIM, zlib.compress(f[VICTIM][()].tobytes() + b"\0")),
        ),
        (
            "chunk-without-end",
            "B.1-15",
            "a chunk whose deflated bytes lack the last four",
            lambda f: _stored_chunk(f, VICTIM, zlib.compress(f[VICTIM][()].tobytes())[:-4]),
        ),
        (
            "named-datatype-for-an-array",
            "B.1-7",
            "a datatype with a name in the place of an array of the configuration",
            _named_window,
        ),
        (
            "chunk-with-empty-blocks",
            "B.1-15",
            "a chunk whose deflated bytes begin with empty blocks, more than twice its numbers' bytes and 64",
            lambda f: _stored_chunk(f, VICTIM, _padded(f[VICTIM][()].tobytes())),
        ),
        (
            "chunk-wide",
            "B.1-10",
            "chunks that are larger than their array in one dimension and smaller in another",
            lambda f: replaced(f, VICTIM, f[VICTIM][()], chunks=(6, 3, 3, 8), maxshape=(None,) * 4),
        ),
        (
            "other-fingerprint",
            "B.1-17",
            "a fingerprint that is another model's",
            lambda f: _attribute(f, "fingerprint", np.bytes_("0123456789abcdef" * 2)),
        ),
        (
            "provenance-deep",
            "B.1-13",
            "provenance that is nested 65 levels deep",
            lambda f: _provenance(f, np.frombuffer(b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", np.uint8)),
        ),
        ("path-long", "B.1-16", "a path of 513 bytes", lambda f: f.create_group("n" * 513)),
        ("groups-10", "B.1-6", "an array below ten groups", lambda f: f.create_group(_DEEP)),
        (
            "cdf-int64",
            "10.2-22",
            "boundaries of z in 64 bits",
            lambda f: replaced(f, "z/cdf", f["z/cdf"][()].astype(np.int64)),
        ),
        (
            "cdf-of-two-dimensions",
            "10.2-22",
            "boundaries of z in two dimensions",
            lambda f: replaced(f, "z/cdf", f["z/cdf"][()].reshape(1, -1)),
        ),
    )
]

SOUND = [
    Sound(f"file-{own}", (clause,), says, HARMLESS[name], True)
    for name, own, clause, says in (
        ("other chunks", "chunks", "B.1-9", "weights in chunks that do not fill the array, shuffled and deflated"),
        ("no filters", "no-filters", "B.1-9", "weights in chunks without filters"),
        ("not compressed", "chunk-as-it-is", "B.1-9", "a chunk whose filter mask says that it is not deflated"),
        ("compact", "compact", "B.1-2", "weights in compact storage"),
        ("no provenance", "no-provenance", "B.1-3", "no provenance"),
        ("other provenance", "other-provenance", "B.1-3", "other provenance"),
    )
]
SOUND += [
    Sound(f"file-{name}", (clause,), says, change, True)
    for name, clause, says, change in (
        ("shuffled", "B.1-9", "weights that are shuffled and not deflated", lambda f: _filtered(f, _SHUFFLE)),
        (
            "floats",
            "B.1-4",
            "the group float",
            lambda f: f.create_dataset("float/g_a.bias", data=np.zeros(3, np.float32)),
        ),
        ("attributes", "B.1-18", "more attributes", _attributes),
        ("many-attributes", "B.1-25", "so many attributes that they are stored in a heap", _many_attributes),
        (
            "fingerprint",
            "B.1-27",
            "its fingerprint as an attribute",
            lambda f: _attribute(f, "fingerprint", np.bytes_(fingerprint(source(BASE).content()).hex())),
        ),
        ("empty-groups", "B.1-18", "groups eight deep that hold nothing", lambda f: f.create_group(_DEEP[:15])),
    )
]

HEAVY = Fault(
    "file-many-integers", ("9.1-7", "B.1-14"), "2^28 integers and more, all of them there", configured(hs=(2732, 2))
)
"""Half a megabyte of file for half a gigabyte of numbers, which a decoder refuses before it reads them."""

CHUNKS = Fault(
    "file-many-chunks",
    ("B.1-10",),
    "5000 chunks in an array",
    lambda f: replaced(f, _FUSION, f[_FUSION][()], chunks=(1, 1, 1, 1)),
)

WIDTH = Fault(
    "file-shuffle-width",
    ("B.1-9",),
    "shuffle that says to be of 32 bits for weights of 16",
    lambda f: _filtered(f, _SHUFFLE),
)

UNCOUNTED = Fault(
    "file-two-names-uncounted",
    ("B.1-5",),
    "an array under two names, whose header does not count them",
    lambda f: _link(f, f[FIRST]),
)

FAULTS += [HEAVY, CHUNKS, WIDTH, UNCOUNTED]

PATCHES = {
    WIDTH.name: (b"shuffle\0\2\0\0\0", b"shuffle\0\4\0\0\0"),
    UNCOUNTED.name: (b"\x16\5\0\4\0\2\0\0\0", b"\0\5\0\4\0\2\0\0\0"),  # the count of names becomes a gap
}
"""Bytes that no library writes, by the fault that they make."""

_ALL: list[Fault | Sound] = [*FAULTS, *SOUND]
for _made in _ALL:
    edited_model(
        _made.model,
        BASE,
        _made.change,
        f"nano-7 with {_made.says}",
        isinstance(_made, Sound),
        "v110" if _made is CHUNKS else None,  # indices of older versions take 70 bytes a chunk
        PATCHES.get(_made.name),
    )
