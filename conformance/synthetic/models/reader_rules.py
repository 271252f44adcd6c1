"""Model files on which readers could differ: what B.1 says of JSON, attributes, names, chunks, floats, superblocks."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from refcodec.model.file import FORMAT, VERSION

from .broken_files import INDICES, VICTIM
from .broken_models import BASE, configured, kind, plain, replaced, several
from .edits import Change, Edited, Patch, swapped
from .procedural import edited_model, model

FIRST, SECOND = "layers/g_s/6/conv1/weight", "layers/g_s/6/conv2/weight"
"""Two arrays of one shape."""

_XYZZY = "float/xyzzy"
"""An array whose name is in a file once."""

_PAD, _TERM, _SPACE = h5py.h5t.STR_NULLPAD, h5py.h5t.STR_NULLTERM, h5py.h5t.STR_SPACEPAD

_ANY_JSON = (
    b' \t\r\n{"a": {"a": 1}, "b": [{"a": 1}], "c": [1e999, -0, 1E+2, -%b, 0.%b], "\\udc00": "\\udc00\\ud800\\u0000", '
    b'"d": %b}\n '
) % (b"9" * 5000, b"1" * 5000, b"[" * 63 + b"]" * 63)


def _provenance(text: bytes) -> Change:
    return lambda f: replaced(f, "provenance", np.frombuffer(text, np.uint8))


def _attribute(name: str, value: Any, dtype: str | None = None) -> Change:
    def change(f: h5py.File) -> None:
        f.attrs.pop(name, None)
        f.attrs.create(name, value, dtype=dtype)

    return change


def _text(value: bytes, padding: int) -> Change:
    """A format of fixed length with a padding that h5py's high level does not write."""

    def change(f: h5py.File) -> None:
        f.attrs.pop("format", None)
        form = h5py.h5t.C_S1.copy()
        form.set_size(len(value))
        form.set_strpad(padding)
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(f.id, b"format", form, space).write(np.array(value, f"S{len(value)}"))

    return change


def _twelve_bits(f: h5py.File) -> None:
    form = h5py.h5t.STD_I16LE.copy()
    form.set_precision(12)
    f.attrs.pop("version")
    h5py.h5a.create(f.id, b"version", form, h5py.h5s.create(h5py.h5s.SCALAR)).write(np.array(VERSION, np.int16))


def _floats(shape: tuple[int, ...] = (20_000,), **storage: Any) -> Change:
    return lambda f: f.create_dataset("float/a", shape, "<f4", **storage)


def _zeros(path: str) -> Change:
    return lambda f: f.create_dataset(path, data=np.zeros(3, np.float32))


def _one_chunk(length: Callable[[int, int], int]) -> Change:
    """Weights in one deflated chunk of another length, from those of its zlib stream and of its numbers."""

    def change(f: h5py.File) -> None:
        array = f[VICTIM][()]
        packed = zlib.compress(array.astype("<i2").tobytes())
        replaced(f, VICTIM, shape=array.shape, dtype="<i2", chunks=array.shape, compression="gzip")
        stored = packed.ljust(length(len(packed), array.nbytes), b"\xee")
        f[VICTIM].id.write_direct_chunk((0,) * array.ndim, stored)

    return change


def _contiguous(f: h5py.File) -> None:
    """Two arrays without chunks, and room that nothing else takes."""
    for name in (FIRST, SECOND):
        replaced(f, name, f[name][()])
    f.create_dataset("float/a", data=np.zeros(5000, np.float32))


def _shared(data: bytes) -> bytes:
    """The second array's numbers are said to be where the first one's are."""
    with h5py.File(io.BytesIO(data), "r") as f:
        first, second = (b"\3\1" + struct.pack("<Q", f[name].id.get_offset()) for name in (FIRST, SECOND))
    return data.replace(second, first)


def _wrong_checksum(data: bytes) -> bytes:
    return data[:44] + bytes(byte ^ 0xFF for byte in data[44:48]) + data[48:]


def _old_superblock(data: bytes) -> bytes:
    """A superblock of version 0 whose base address is where the file began, so that all addresses are right."""
    root = struct.unpack_from("<Q", data, 36)[0]
    head = data[:8] + bytes((0, 0, 0, 0, 0, 8, 8, 0)) + struct.pack("<HHI", 4, 16, 0)
    none = 2**64 - 1
    addresses = struct.pack("<QQQQ", 96, none, 96 + len(data), none)
    return head + addresses + struct.pack("<QQII16x", 0, root, 0, 0) + data


def _new_superblock(data: bytes) -> bytes:
    """The superblock's version is 3, whose fields are those of version 2."""
    return data[:8] + b"\3" + data[9:]


def _large_chunks(f: h5py.File) -> None:
    """The longest tables of z in two chunks."""
    boundaries = np.tile(np.arange(65537, dtype=np.int32), 64)
    replaced(f, "z/cdf", boundaries, chunks=(32 * 65537,), compression="gzip", compression_opts=9, shuffle=True)
    replaced(f, "z/start", np.arange(65, dtype=np.int32) * 65537)
    replaced(f, "z/first", np.full(64, -32767, np.int32))


def _base_address(data: bytes) -> bytes:
    return data[:12] + struct.pack("<Q", 8) + data[20:]


def _message(kind: int, body: bytes, change: Callable[[bytearray], None]) -> Patch:
    """Change the first message of a kind with a body that begins so: kind, size, flags and body."""

    def patch(data: bytes) -> bytes:
        found = re.search(bytes([kind]) + rb".\0." + re.escape(body), data, re.DOTALL)
        assert found is not None
        message = bytearray(found[0])
        change(message)
        return data[: found.start()] + message + data[found.end() :]

    return patch


def _nothing(f: h5py.File) -> None:
    """No change but that of the file's bytes."""


def _patched(name: str, clauses: str, says: str, patch: Patch, change: Change = _nothing) -> Edited:
    return replace(_file(name, clauses, says, change), patch=patch)


_file = kind("file-", "")
_same = kind("file-", "", sound=True, same=True)

_TEXT = FORMAT.encode()

SOUND = [
    replace(
        _same("bytes-behind", "B.1-19", "bytes behind the end that its superblock names", _nothing),
        patch=lambda data: data + b"behind",
    ),
    _same(
        "provenance-json",
        "B.1-13",
        "provenance of every sort of JSON: white space around it, one name in two objects, 64 levels, numbers of 5000 "
        "digits and beyond doubles, halves of surrogate pairs",
        _provenance(_ANY_JSON),
    ),
    _same(
        "format-of-64-bytes",
        "B.1-17 B.1-25",
        "a format of 64 bytes, zeros behind it",
        _text(_TEXT.ljust(64, b"\0"), _PAD),
    ),
    _same(
        "format-space-padded", "B.1-25", "a format whose type says space-padded, without spaces", _text(_TEXT, _SPACE)
    ),
    _same("format-null-terminated", "B.1-25", "a null-terminated format of 16 bytes", _text(_TEXT + b"\0\0", _TERM)),
    _same(
        "version-of-one-byte", "B.1-17 B.1-25", "an unsigned version of one byte", _attribute("version", VERSION, "u1")
    ),
    _same(
        "version-big-endian", "B.1-17 B.1-25", "a big-endian version of 32 bits", _attribute("version", VERSION, ">i4")
    ),
    _same(
        "names-of-ascii",
        "B.1-16",
        "floats named `..` and with all sorts of printable characters",
        several(_zeros("float/.."), _zeros("float/~ !\"#'\\:*?")),
    ),
    _same("path-of-512-bytes", "B.1-16", "a path of 512 bytes", _zeros("float/" + "n" * 506)),
    _same("groups-8", "B.1-6", "an array in a group at depth 8", _zeros("float/" + "d/" * 7 + "a")),
    _same("float-lzf", "B.1-4 B.1-28", "floats packed by LZF", _floats(compression="lzf", chunks=(20_000,))),
    _same("float-not-stored", "B.1-4 B.1-28", "floats that are not stored", _floats()),
    _same("float-many-chunks", "B.1-4 B.1-28", "floats in 5000 chunks, none of them there", _floats(chunks=(4,))),
    _same(
        "chunk-with-more",
        "B.1-15",
        "a chunk with bytes behind its zlib stream",
        _one_chunk(lambda packed, n: packed + 3),
    ),
    _same(
        "chunk-as-long-as-may-be",
        "B.1-15",
        "a chunk of 2 n + 64 stored bytes",
        _one_chunk(lambda packed, n: 2 * n + 64),
    ),
    replace(_same("checksum-wrong", "B.1-28", "another checksum of the superblock", _nothing), patch=_wrong_checksum),
]

FAULTS = [
    _file(
        "provenance-name-twice",
        "B.1-13",
        "a name twice in the provenance, once escaped",
        _provenance(b'{"a": [{"b": 1, "\\u0062": 1}]}'),
    ),
    _file("provenance-bom", "B.1-13", "provenance with a byte order mark", _provenance(b"\xef\xbb\xbf{}")),
    _file("provenance-utf-16", "B.1-13", "provenance in UTF-16", _provenance("{}".encode("utf-16-le"))),
    _file("provenance-nan", "B.1-13", "provenance with NaN", _provenance(b'{"a": NaN}')),
    _file("provenance-infinity", "B.1-13", "provenance with an infinity", _provenance(b'{"a": -Infinity}')),
    _file("provenance-zero-byte", "B.1-13", "provenance with a zero behind the object", _provenance(b"{}\0")),
    _file("provenance-comma", "B.1-13", "provenance with a comma too many", _provenance(b'{"a": 1,}')),
    _file("provenance-none", "B.1-3 B.1-13", "provenance of no bytes", _provenance(b"")),
    _file("format-with-space", "B.1-17 B.1-25", "a format padded with a space", _text(_TEXT + b" ", _SPACE)),
    _file("format-of-65-bytes", "B.1-25", "a format of 65 bytes", _text(_TEXT.ljust(65, b"\0"), _PAD)),
    _file(
        "format-and-more",
        "B.1-17 B.1-25",
        "a format with a zero and more text behind it",
        _text(_TEXT + b"\0more", _PAD),
    ),
    _file(
        "version-one-element",
        "B.1-17 B.1-25",
        "a version that is a list of one",
        _attribute("version", np.array([VERSION], "<i4")),
    ),
    _file("version-of-12-bits", "B.1-25", "a version of 12 bits in 16", _twelve_bits),
    _file(
        "fingerprint-of-variable-length",
        "B.1-17 B.1-25",
        "a fingerprint of variable length",
        _attribute("fingerprint", "0" * 32),
    ),
    _file(
        "fingerprint-one-element",
        "B.1-17 B.1-25",
        "a fingerprint that is a list of one",
        _attribute("fingerprint", np.array([b"0" * 32])),
    ),
    _file(
        "fingerprint-in-capitals",
        "B.1-17 B.1-27",
        "a fingerprint in capital letters",
        lambda f: _attribute("fingerprint", np.bytes_(model(BASE).fingerprint.hex().upper()))(f),
    ),
    _file(
        "soft-link-without-need",
        "B.1-5",
        "a soft link where no array is needed",
        lambda f: f.__setitem__("float/a", h5py.SoftLink("/tables/exp2")),
    ),
    _file(
        "soft-link-in-a-message",
        "B.1-5",
        "a soft link where no array is needed, in a link message",
        lambda f: f.__setitem__("layers/g_s/6/conv1/more", h5py.SoftLink("/tables/exp2")),
    ),
    _file(
        "external-link-without-need",
        "B.1-5",
        "a link to another file where no array is needed",
        lambda f: f.__setitem__("float/a", h5py.ExternalLink("outside.h5", "/a")),
    ),
    _patched(
        "group-with-dataspace",
        "B.1-7",
        "a group that has a message of a dataset",
        _message(10, b"\0\0", lambda message: message.__setitem__(0, 1)),
    ),
    _patched(
        "two-datatypes",
        "B.1-7",
        "a dataset with a second datatype message",
        _message(5, b"\3\n", lambda message: message.__setitem__(0, 3)),
    ),
    _patched(
        "version-twice",
        "B.1-17",
        "a second version, which is 2",
        swapped(b"versiom\0", b"version\0"),
        _attribute("versiom", np.int64(2)),
    ),
    _patched(
        "format-with-flags",
        "B.1-25",
        "a format whose attribute message has a flag",
        swapped(b"\3\0\7\0\x08\0\4\0\0format\0", b"\3\1\7\0\x08\0\4\0\0format\0"),
    ),
    _file(
        "path-of-two-long-names",
        "B.1-16",
        "a path of 513 bytes, none of its names so long",
        _zeros("float/" + "n" * 253 + "/" + "m" * 253),
    ),
    _patched(
        "name-with-slash", "B.1-16", "a float whose name has a slash", swapped(b"xyzzy", b"xy/zy"), _zeros(_XYZZY)
    ),
    _patched("name-full-stop", "B.1-16", "a float named by a full stop", swapped(b"xyzzy", b".\0zzy"), _zeros(_XYZZY)),
    _patched(
        "name-of-no-bytes", "B.1-16", "a float with a name of no bytes", swapped(b"xyzzy", bytes(5)), _zeros(_XYZZY)
    ),
    _file(
        "provenance-in-4097-chunks",
        "B.1-10",
        "provenance in 4097 chunks of a byte",
        lambda f: replaced(f, "provenance", np.frombuffer(b"{}".ljust(4097), np.uint8), chunks=(1,)),
    ),
    # 16 MB of numbers in 60 KB of file, which a decoder refuses before it reads them.
    _file(
        "chunk-beyond-2-22",
        "B.1-10",
        "two chunks of more than 2^22 bytes",
        several(configured(hyper=64), _large_chunks),
    ),
    _file("name-not-ascii", "B.1-16", "a float whose name is not ASCII", _zeros("float/\u00e9")),
    _file("name-delete", "B.1-16", "a float with the character 0x7F in its name", _zeros("float/a\x7f")),
    _file(
        "group-9-empty", "B.1-6", "a group at depth 9 that holds nothing", lambda f: f.create_group("/".join("d" * 9))
    ),
    _file(
        "chunk-longer-by-one",
        "B.1-15",
        "a chunk of 2 n + 65 stored bytes, sound but for bytes behind its zlib stream",
        _one_chunk(lambda packed, n: 2 * n + 65),
    ),
    _file(
        "order-tracked",
        "B.1-21",
        "a group that tracks the order of its links",
        lambda f: f.create_group("more", track_order=True).create_group("a"),
    ),
    _file("comment", "B.1-20", "a group with a comment", lambda f: h5py.h5o.set_comment(f["layers"].id, b"a comment")),
    replace(
        _file("layout-4", "B.1-24", "weights in a data layout of version 4", INDICES["single chunk"]), library="v110"
    ),
    _file("float-dimensions", "B.1-23", "floats of the dimensions 0 and 2^61", _floats((0, 1 << 61))),
    _file("float-external", "B.1-8 B.1-28", "floats in another file", _floats(external=[("outside.raw", 0, 80_000)])),
    _patched("shared-bytes", "B.1-26", "two arrays of one shape with the same bytes", _shared, _contiguous),
    _file("channels-66", "6.1-2", "a configuration of 66 channels per slice", configured(M=66, slices=1)),
    # Half a megabyte of file; tables of z, which a configuration does not bound, exceed 2^28 by themselves.
    _file(
        "large-boundaries",
        "9.1-7 B.1-14",
        "2^28 integers and more by the boundaries of z alone, all of them there",
        several(configured(hs=(2720, 2), hyper=64), lambda f: plain(f, "z/cdf", (64 * 65537,), "int32")),
    ),
    _patched(
        "shared-message",
        "B.1-20",
        "a datatype message with the flag of shared ones",
        _message(3, b"\x10\x08\0\0\2\0\0\0", lambda message: message.__setitem__(3, message[3] | 2)),
    ),
    _patched(
        "scalar-without-elements",
        "B.1-23",
        "a null dataspace where numbers are stored for a scalar one",
        _message(1, b"\2\0\0\0", lambda message: message.__setitem__(7, 2)),
    ),
    _patched("base-address", "B.1-19", "a base address of 8", _base_address),
    _patched("superblock-0", "B.1-19", "a superblock of version 0", _old_superblock),
    _patched("superblock-3", "B.1-19", "a superblock of version 3", _new_superblock),
    _patched("no-hdf5", "B.1-19", "a text in place of a file", lambda data: b"refcodec-model\n"),
    _patched("empty", "B.1-19", "no bytes in place of a file", lambda data: b""),
    _patched("user-block", "B.1-19", "512 bytes before the superblock", lambda data: bytes(512) + data),
]

for _made in (*FAULTS, *SOUND):
    edited_model(_made, BASE)
