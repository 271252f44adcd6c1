"""Model files of broken structure (SPEC B.1), and files that hold a sound model in another way.

Changes of the suites' model files are made here, and those that fuzzing and tests make of a smaller file: the means
that HDF5 offers for leading a reader astray, and harmless ones.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import h5py
import numpy as np

from refcodec.model.config import Config
from refcodec.model.file import FORMAT, MAX_FLOATS, MAX_PROVENANCE, VERSION
from refcodec.model.integer_model import expected_arrays, fingerprint

from .broken_models import BASE, configured, kind, replaced
from .edits import Change, swapped
from .procedural import edited_model, source

SMALL = Config(
    N=(2, 2, 2), M=2, slices=1, hyper=2, hs=(2, 2), chan=(2, 2), ent=(2, 2, 2), lrp=(2, 2), local_heads=1, intra_heads=1
)
"""The smallest configuration: few arrays, so that a case of the fuzzer is cheap."""

BOMB = 64 << 20
"""Bytes that a small chunk inflates to."""

VICTIM = "layers/g_s/7/weight"
"""An array that changes replace."""

OUTSIDE, OUTSIDE_RAW = "outside.h5", "outside.raw"
"""Names of other files that changes refer to."""

FIRST, SECOND = "layers/g_s/2/conv1/weight", "layers/g_s/2/conv2/weight"
"""Two arrays of one shape."""

MIB = 1 << 20
_DEEP = "/".join("d" for _ in range(10))
_SHUFFLE, _GZIP = h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE
_FUSION = "layers/local/0/fusion/weight"


def write_file(content: dict[str, np.ndarray], provenance: bytes = b"{}", libver: str = "v108") -> bytes:
    """A model file of any content, valid or not.

    Parameters
    ----------
    content : dict of str to np.ndarray
    provenance : bytes
        JSON.
    libver : str
        Version of the HDF5 library whose format it has.

    Returns
    -------
    bytes
    """
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


def rebuilt(data: bytes, *changes: Change, libver: str | None = None) -> bytes:
    """A model file after changes.

    Parameters
    ----------
    data : bytes
        The file before.
    *changes : Change
    libver : str or None
        Version of the HDF5 library whose structures are used; None for the oldest that can hold the content.

    Returns
    -------
    bytes
    """
    file = io.BytesIO(data)
    with h5py.File(file, "r+", libver=libver and (libver, libver)) as f:
        for change in changes:
            change(f)
    return file.getvalue()


def _weights(**storage: Any) -> Change:
    """The same weights, stored in another way."""
    return lambda f: replaced(f, VICTIM, f[VICTIM][()], **storage)


def _typed(dtype: Any) -> Change:
    """Weights of another type."""
    return lambda f: replaced(f, VICTIM, f[VICTIM][()].astype(dtype))


def _absent(path: str, shape: tuple[int, ...] | None, dtype: str, **storage: Any) -> Change:
    """An array of a shape, None for its own, of which nothing is stored."""
    return lambda f: replaced(f, path, shape=shape or f[path].shape, dtype=dtype, **storage)


def _chunk(pack: Callable[[bytes], bytes], path: str = VICTIM, mask: int = 0) -> Change:
    """An array in one chunk made from its bytes, which is said to be deflated unless the mask denies it."""

    def change(f: h5py.File) -> None:
        array = f[path][()]
        replaced(f, path, shape=array.shape, dtype=array.dtype, chunks=array.shape, compression="gzip")
        f[path].id.write_direct_chunk((0,) * array.ndim, pack(array.tobytes()), filter_mask=mask)

    return change


@cache
def _bomb(size: int = BOMB) -> bytes:
    return zlib.compress(bytes(size), 9)


def _created(
    prepare: Callable[[h5py.h5p.PropDCID, tuple[int, ...]], Any] = lambda properties, shape: None,
    made: Callable[[], h5py.h5t.TypeID] = lambda: h5py.h5t.STD_I16LE,
    stored: bool = True,
) -> Change:
    """Weights of another type of 16 bits, or of properties that only the library's own interface sets."""

    def change(f: h5py.File) -> None:
        array, properties, dtype = f[VICTIM][()], h5py.h5p.create(h5py.h5p.DATASET_CREATE), made()
        prepare(properties, array.shape)
        del f[VICTIM]
        ident = h5py.h5d.create(f.id, VICTIM.encode(), dtype, h5py.h5s.create_simple(array.shape), properties)
        if stored:
            ident.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(array), dtype)

    return change


def _filtered(*filters: int) -> Callable[[h5py.h5p.PropDCID, tuple[int, ...]], None]:
    """One chunk through these filters in this order."""

    def prepare(properties: h5py.h5p.PropDCID, shape: tuple[int, ...]) -> None:
        properties.set_chunk(shape)
        for code in filters:
            if code == _SHUFFLE:
                properties.set_shuffle()
            else:
                properties.set_deflate(9)

    return prepare


def _said_twice(f: h5py.File) -> None:
    stored = zlib.compress(f[VICTIM][()].tobytes())
    _created(_filtered(_GZIP, _GZIP), stored=False)(f)
    f[VICTIM].id.write_direct_chunk((0,) * f[VICTIM].ndim, stored)


def _early(properties: h5py.h5p.PropDCID, shape: tuple[int, ...]) -> None:
    """Chunks that are stored from the beginning and need no index."""
    properties.set_chunk((4, 3, 3, 2))
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)


def _enumeration() -> h5py.h5t.TypeID:
    made = h5py.h5t.enum_create(h5py.h5t.STD_I16LE)
    made.enum_insert(b"nothing", 0)
    return made


def _twelve_bits() -> h5py.h5t.TypeID:
    made = h5py.h5t.STD_I16LE.copy()
    made.set_precision(12)
    return made


def _padded(data: bytes) -> bytes:
    """Deflated bytes with empty stored blocks of five bytes before them, sound but for their length."""
    packed = zlib.compress(data)
    return packed[:2] + b"\0\0\0\xff\xff" * ((2 * len(data) + 64) // 5 + 1) + packed[2:]


def _link(target: Any, path: str = VICTIM) -> Change:
    """A link, or what stands under another name, in the place of an array."""

    def change(f: h5py.File) -> None:
        del f[path]
        f[path] = f[target] if isinstance(target, str) else target

    return change


def _virtual(f: h5py.File) -> None:
    shape = f[VICTIM].shape
    layout = h5py.VirtualLayout(shape, "<i2")
    layout[...] = h5py.VirtualSource(OUTSIDE, VICTIM, shape)
    del f[VICTIM]
    f.create_virtual_dataset(VICTIM, layout)


def _virtual_of_nothing(f: h5py.File) -> None:
    """A field without numbers, which virtual storage holds as well as any other."""
    configured(lrp=())(f)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.VIRTUAL)
    del f["config/lrp"]
    h5py.h5d.create(f.id, b"config/lrp", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((0,)), properties)


def _external(file: str) -> Change:
    """Weights in another file."""
    return lambda f: _absent(VICTIM, None, "<i2", external=[(file, 0, 2 * int(np.prod(f[VICTIM].shape)))])(f)


def _declared(width: int, **storage: Any) -> Change:
    """Arrays of great widths, none of them stored, in the smallest configuration."""

    def change(f: h5py.File) -> None:
        f["config/N"][...] = width
        for name, (dtype, shape) in expected_arrays(replace(SMALL, N=(width, width, width))).items():
            if f[name].shape != shape:
                replaced(f, name, shape=shape, dtype=dtype, **storage)

    return change


def _cycles(names: int) -> Change:
    return lambda f: [f["layers"].__setitem__(f"again{n}", f["layers"]) for n in range(names)]


def _multiplied(f: h5py.File) -> None:
    """Seven groups, each under thirty names in the one before: 30^7 paths without a cycle."""
    below = f.create_group("more")
    for n in range(7):
        group = f.create_group(f"more{n}")
        for name in range(30):
            below[str(name)] = group
        below = group


def _attribute(name: str, value: Any) -> Change:
    """Another attribute in the place of one, or none."""

    def change(f: h5py.File) -> None:
        if name in f.attrs:
            del f.attrs[name]
        if value is not None:
            f.attrs[name] = value

    return change


def _attributes(count: int, value: Callable[[int], Any]) -> Change:
    """So many more attributes."""
    return lambda f: [f.attrs.__setitem__(f"more {n}", value(n)) for n in range(count)]


def _attributes_everywhere(f: h5py.File) -> None:
    f.attrs["more"] = np.arange(3)
    f["layers"].attrs["text"] = "of variable length"
    f[VICTIM].attrs["of an array"] = 1.5


def _vlen(f: h5py.File) -> None:
    replaced(f, VICTIM, shape=f[VICTIM].shape, dtype=h5py.vlen_dtype(np.int16))
    f[VICTIM][(0,) * f[VICTIM].ndim] = [1, 2, 3]


def _provenance(data: bytes | np.ndarray) -> Change:
    array = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    packed = {"compression": "gzip", "chunks": array.shape} if array.size > 256 else {}
    return lambda f: replaced(f, "provenance", array, **packed)


def _named_window(f: h5py.File) -> None:
    del f["config/window"]
    f["config/window"] = np.dtype("<i4")


_file = kind("file-", "")

FAULTS = [
    _file("floats", "B.1-2", "weights that are floats", _typed("<f4")),
    _file("big-endian", "B.1-2", "weights that are big-endian", _typed(">i2")),
    _file("unsigned", "B.1-2", "weights that are unsigned", _typed("<u2")),
    _file("wider", "10.2-22", "weights of 32 bits", _typed("<i4")),
    _file("texts", "B.1-11", "a text in place of weights", lambda f: replaced(f, VICTIM, "text")),
    _file("compounds", "B.1-11", "compounds in place of weights", lambda f: replaced(f, VICTIM, np.zeros(3, "i2,i2"))),
    _file(
        "references",
        "B.1-11",
        "a reference in place of weights",
        lambda f: replaced(f, VICTIM, f.ref, dtype=h5py.ref_dtype),
    ),
    _file(
        "bit-field",
        "B.1-11",
        "a bit field in place of weights",
        _created(made=lambda: h5py.h5t.STD_B16LE, stored=False),
    ),
    _file("vlen", "B.1-11", "arrays of variable length in place of weights", _vlen),
    _file(
        "null-dataspace",
        "B.1-11",
        "an array without a dataspace",
        lambda f: replaced(f, VICTIM, h5py.Empty("<i2"), dtype=h5py.Empty("<i2").dtype),
    ),
    _file(
        "named-datatype",
        "B.1-7",
        "a datatype with a name, which is neither group nor dataset",
        lambda f: f.__setitem__("layers/type", np.dtype("<i2")),
    ),
    _file("reshaped", "10.2-22", "weights of one dimension", lambda f: replaced(f, VICTIM, f[VICTIM][()].reshape(-1))),
    _file("missing-array", "10.2-22", "no weights of a layer", lambda f: f.__delitem__(VICTIM)),
    _file(
        "unknown-array",
        "10.2-22",
        "an array that no layer has",
        lambda f: f.create_dataset("layers/more", data=np.zeros(3, np.int16)),
    ),
    _file(
        "control-characters",
        "B.1-16",
        "a name with control characters",
        lambda f: f.create_dataset("layers/\x1b[2J\n", data=np.zeros(3, np.int16)),
    ),
    _file(
        "long-field",
        "10.2-22",
        "a field of the configuration of 2^40 numbers",
        _absent("config/lrp", (1 << 40,), "<i4"),
    ),
    _file("soft-link", "B.1-5", "a soft link", _link(h5py.SoftLink("/tables/exp2"))),
    _file("external-link", "B.1-5", "a link to another file", _link(h5py.ExternalLink(OUTSIDE, VICTIM))),
    _file("virtual", "B.1-8", "weights from another file by virtual storage", _virtual),
    _file("external-storage", "B.1-8", "weights in another file", _external(OUTSIDE_RAW)),
    _file("two-names", "B.1-5", "one array under two names", _link("layers/g_s/6/conv1/weight")),
    _file("cycle", "B.1-5", "a group that is inside itself", _cycles(1)),
    _file("format-of-variable-length", "B.1-11", "a format of variable length", _attribute("format", FORMAT)),
    _file("format-list", "B.1-17 B.1-25", "a list of formats", _attribute("format", np.array([FORMAT.encode()]))),
    _file("version-array", "B.1-17", "an array of versions", _attribute("version", np.zeros((2, 2), np.int64))),
    _file("version-float", "B.1-17", "a version that is a float", _attribute("version", 0.0)),
    _file("huge", "B.1-14", "weights of 2^40 numbers, none of them there", _absent(VICTIM, (1 << 40,), "<i8")),
    _file("huge-boundaries", "B.1-12", "2^34 boundaries of z, none of them there", _absent("z/cdf", (1 << 34,), "<i4")),
    _file(
        "huge-provenance",
        "B.1-3",
        "2^33 bytes of provenance, none of them there",
        _absent("provenance", (1 << 33,), "u1"),
    ),
    _file("not-stored", "B.1-8", "weights that are not in the file", _absent(VICTIM, None, "<i2")),
    _file(
        "chunk-not-stored",
        "B.1-15",
        "a chunk that is not in the file",
        lambda f: _absent(VICTIM, None, "<i2", chunks=f[VICTIM].shape)(f),
    ),
    _file(
        "large-chunk",
        "B.1-10",
        "a chunk that is larger than its array",
        _weights(maxshape=(None,) * 4, chunks=(1 << 6, 1 << 6, 1 << 6, 1 << 5), compression="gzip"),
    ),
    _file("chunk-short", "B.1-15", "a chunk that inflates to one byte", _chunk(lambda data: zlib.compress(b"1"))),
    _file("chunk-no-gzip", "B.1-15", "a chunk that cannot be inflated", _chunk(lambda data: b"\xff" * 40)),
    _file("lzf", "B.1-9", "the filter LZF", _weights(compression="lzf")),
    _file("fletcher32", "B.1-9", "the filter Fletcher32", _weights(fletcher32=True)),
    _file("scale-offset", "B.1-9", "the filter scale-offset", _weights(scaleoffset=8)),
    _file("provenance-no-json", "B.1-13", "provenance that is no JSON", _provenance(b"{")),
    _file("provenance-no-object", "B.1-13", "provenance that is a list", _provenance(b"[1, 2]")),
    _file("provenance-no-utf-8", "B.1-13", "provenance that is no UTF-8", _provenance(b'{"a": "\xff\xfe"}')),
    _file("no-format", "B.1-17", "no attribute format", _attribute("format", None)),
    _file("other-format", "B.1-17", "another format", _attribute("format", np.bytes_("refcodec-weight"))),
    _file("no-version", "B.1-17", "no attribute version", _attribute("version", None)),
    _file("version-0", "B.1-17", "version 0", _attribute("version", np.int64(0))),
    _file("version-2", "B.1-17", "version 2", _attribute("version", np.int64(2))),
    _file("provenance-int16", "B.1-3", "provenance of 16-bit numbers", _provenance(np.array([0x7D7B], "<i2"))),
    _file(
        "provenance-of-two-dimensions",
        "B.1-3",
        "provenance of two dimensions",
        _provenance(np.frombuffer(b"{}", np.uint8).reshape(1, 2)),
    ),
    _file("provenance-long", "B.1-3", "provenance of 2^20 + 1 bytes", _provenance(b"{}".ljust(MAX_PROVENANCE + 1))),
    _file(
        "float-int32",
        "B.1-4",
        "integers in the group float",
        lambda f: f.create_dataset("float/g_a.bias", data=np.zeros(3, np.int32)),
    ),
    _file("float-many", "B.1-4", "more than 2^24 floats", _absent("float/g_a", (MAX_FLOATS + 1,), "<f4")),
    _file("filters-reversed", "B.1-9", "gzip before shuffle", _created(_filtered(_GZIP, _SHUFFLE))),
    _file("filters-twice", "B.1-9", "gzip twice", _created(_filtered(_GZIP, _GZIP))),
    _file(
        "chunk-long",
        "B.1-15",
        "a chunk of more bytes than twice its numbers",
        _chunk(lambda data: zlib.compress(bytes(MIB))),
    ),
    _file(
        "chunk-bomb",
        "B.1-15",
        "a chunk that inflates to 1 MiB, eight times its numbers",
        _chunk(lambda data: zlib.compress(bytes(MIB)), "tables/gaussian_cdf"),
    ),
    _file("filters-said-twice", "B.1-9", "gzip twice, where weights are deflated once", _said_twice),
    _file(
        "soft-link-that-fits",
        "B.1-5",
        "a soft link to another array of the same shape",
        _link(h5py.SoftLink(f"/{FIRST}"), SECOND),
    ),
    _file("two-names-that-fit", "B.1-5", "an array that is two of the same shape", _link(FIRST, SECOND)),
    _file("virtual-of-nothing", "B.1-8", "an empty list of widths in virtual storage", _virtual_of_nothing),
    _file("external-zeros", "B.1-8", "weights in another file that has enough of them", _external("/dev/zero")),
    _file("enumeration", "B.1-11", "an enumeration in place of weights", _created(made=_enumeration)),
    _file("twelve-bits", "B.1-11", "weights of 12 bits in 16", _created(made=_twelve_bits)),
    _file("bits", "B.1-11", "bits in place of weights", _created(made=lambda: h5py.h5t.STD_B16LE)),
    _file(
        "chunk-one-byte-more",
        "B.1-15",
        "a chunk that inflates to one byte more than its numbers",
        _chunk(lambda data: zlib.compress(data + b"\0")),
    ),
    _file(
        "chunk-without-end",
        "B.1-15",
        "a chunk whose deflated bytes lack the last four",
        _chunk(lambda data: zlib.compress(data)[:-4]),
    ),
    _file(
        "named-datatype-for-an-array",
        "B.1-7",
        "a datatype with a name in the place of an array of the configuration",
        _named_window,
    ),
    _file(
        "chunk-with-empty-blocks",
        "B.1-15",
        "a chunk whose deflated bytes begin with empty blocks, more than twice its numbers' bytes and 64",
        _chunk(_padded),
    ),
    _file(
        "chunk-wide",
        "B.1-10",
        "chunks that are larger than their array in one dimension and smaller in another",
        _weights(chunks=(6, 3, 3, 8), maxshape=(None,) * 4),
    ),
    _file(
        "other-fingerprint",
        "B.1-17",
        "a fingerprint that is another model's",
        _attribute("fingerprint", np.bytes_("0123456789abcdef" * 2)),
    ),
    _file(
        "provenance-deep",
        "B.1-13",
        "provenance that is nested 65 levels deep",
        _provenance(b'{"a":' + b"[" * 64 + b"]" * 64 + b"}"),
    ),
    _file("path-long", "B.1-16", "a path of 513 bytes", lambda f: f.create_group("n" * 513)),
    _file("groups-10", "B.1-6", "an array below ten groups", lambda f: f.create_group(_DEEP)),
    _file(
        "cdf-int64",
        "10.2-22",
        "boundaries of z in 64 bits",
        lambda f: replaced(f, "z/cdf", f["z/cdf"][()].astype(np.int64)),
    ),
    _file(
        "cdf-of-two-dimensions",
        "10.2-22",
        "boundaries of z in two dimensions",
        lambda f: replaced(f, "z/cdf", f["z/cdf"][()].reshape(1, -1)),
    ),
    # Half a megabyte of file for half a gigabyte of numbers, which a decoder refuses before it reads them.
    _file("many-integers", "6.1-2 9.1-7", "2^28 integers and more, all of them there", configured(hs=(2732, 2))),
    replace(  # indices of older versions take 70 bytes a chunk
        _file(
            "many-chunks",
            "B.1-10",
            "5000 chunks in an array",
            lambda f: replaced(f, _FUSION, f[_FUSION][()], chunks=(1, 1, 1, 1)),
        ),
        library="v110",
    ),
    replace(
        _file(
            "shuffle-width",
            "B.1-9",
            "shuffle that says to be of 32 bits for weights of 16",
            _created(_filtered(_SHUFFLE)),
        ),
        patch=swapped(b"shuffle\0\2\0\0\0", b"shuffle\0\4\0\0\0"),
    ),
    replace(
        _file(
            "two-names-uncounted",
            "B.1-5",
            "an array under two names, whose header does not count them",
            _link(FIRST, SECOND),
        ),
        patch=swapped(b"\x16\5\0\4\0\2\0\0\0", b"\0\5\0\4\0\2\0\0\0"),  # the count of names becomes a gap
    ),
]

_same = kind("file-", "", sound=True, same=True)

SOUND = [
    _same(
        "chunks",
        "B.1-9",
        "weights in chunks that do not fill the array, shuffled and deflated",
        _weights(chunks=(5, 2, 3, 1), compression="gzip", shuffle=True),
    ),
    _same("no-filters", "B.1-9", "weights in chunks without filters", _weights(chunks=(4, 3, 3, 2))),
    # The writer left it as it is, since gzip would not have made it shorter.
    _same(
        "chunk-as-it-is",
        "B.1-9",
        "a chunk whose filter mask says that it is not deflated",
        _chunk(lambda data: data, mask=1),
    ),
    _same(
        "compact",
        "B.1-2",
        "weights in compact storage",
        _created(lambda properties, shape: properties.set_layout(h5py.h5d.COMPACT)),
    ),
    _same("no-provenance", "B.1-3", "no provenance", lambda f: f.__delitem__("provenance")),
    _same("other-provenance", "B.1-3", "other provenance", _provenance(json.dumps({"made": "up"}).encode())),
    _same("shuffled", "B.1-9", "weights that are shuffled and not deflated", _created(_filtered(_SHUFFLE))),
    _same(
        "floats", "B.1-4", "the group float", lambda f: f.create_dataset("float/g_a.bias", data=np.zeros(3, np.float32))
    ),
    _same("attributes", "B.1-18", "more attributes", _attributes_everywhere),
    _same("many-attributes", "B.1-25", "so many attributes that they are stored in a heap", _attributes(20, np.int64)),
    _same(
        "fingerprint",
        "B.1-27",
        "its fingerprint as an attribute",
        lambda f: _attribute("fingerprint", np.bytes_(fingerprint(source(BASE).content()).hex()))(f),
    ),
    _same("empty-groups", "B.1-18", "groups eight deep that hold nothing", lambda f: f.create_group(_DEEP[:15])),
]

for _made in (*FAULTS, *SOUND):
    edited_model(_made, BASE)

STRUCTURES: dict[str, Change] = {
    "not a number": lambda f: replaced(f, VICTIM, np.full(f[VICTIM].shape, np.nan)),
    "bools": _typed("?"),
    "missing field": lambda f: f.__delitem__("config/window"),
    "unknown field": lambda f: f.create_dataset("config/more", data=np.int32(1)),
    "vector for a scalar": lambda f: replaced(f, "config/old_synthesis", np.ones(1, np.int32)),
    "no bool": lambda f: f["config/old_synthesis"].__setitem__((), 2),
    "many cycles": _cycles(40),
    "multiplied groups": _multiplied,
    "deep groups": lambda f: f.create_group("/".join(["deeper"] * 60)),
    "format is huge": _attribute("format", np.bytes_(FORMAT * 1000)),
    "version is empty": _attribute("version", h5py.Empty("i8")),
    "huge chunked": _absent(VICTIM, (1 << 20, 1 << 20), "<i8", chunks=(1 << 10, 1 << 10)),
    "declares too much": _declared(4096),
    "declared and not stored": _declared(512),
    "declared and not stored in chunks": _declared(512, compression="gzip"),
    "longer than its numbers": _chunk(lambda data: _bomb()),
    "inflates without end": _chunk(lambda data: _bomb(), "tables/gaussian_cdf"),
    "provenance is deep": _provenance(b"[" * 100_000),
}
"""More changes by name, each of which a reader has to refuse."""

_NANO = ("file-many-integers", "file-virtual-of-nothing", "file-fingerprint")
"""Models whose change fits the file that the suites change, and no other."""

STRUCTURES |= {made.model: made.change for made in FAULTS if not (made.library or made.patch or made.name in _NANO)}

HARMLESS: dict[str, Change] = {made.model: made.change for made in SOUND if made.name not in _NANO} | {
    "large attributes": _attributes(200, lambda n: np.arange(1000)),
    "provenance of a large number": _provenance(b'{"a": ' + b"9" * 10_000 + b"}"),
}
"""Changes by name that leave the same model."""

INDICES: dict[str, Change] = {
    "single chunk": lambda f: _weights(chunks=f[VICTIM].shape, compression="gzip")(f),
    "implicit": _created(_early),
    "fixed array": _weights(chunks=(2, 3, 3, 1), compression="gzip"),
    "extensible array": lambda f: _weights(chunks=(1, 2, 3, 1), maxshape=(None, *f[VICTIM].shape[1:]))(f),
    "tree of version 2": _weights(chunks=(2, 3, 3, 1), maxshape=(None,) * 4),
}
"""Changes by name that give an array the chunk indices of HDF5 1.10, which no model file has (SPEC B.1-24)."""
