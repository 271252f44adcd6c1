"""Structures of HDF5 files byte by byte (SPEC B.1-19 to B.1-25): those that no library writes, or not in such a file.

They are put behind a sound model file, whose superblock is then led to a new root. What the old root alone used is a
gap, so that a file differs from the sound one in few bytes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import h5py

from refcodec.model.file import FORMAT, VERSION

from ..hdf5_checksums import lookup3

NOWHERE = 2**64 - 1
"""The address of what is not stored."""

SPACE, LINK_INFO, TYPE, LINK, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, SYMBOLS, ATTRIBUTE_INFO = (
    *(1, 2, 3, 6, 8, 11, 12, 16, 17),
    21,
)
"""Kinds of messages (SPEC B.1-20)."""

SYMBOL_ROOM, SYMBOL_TREE_ROOM = 8 + 40 * 8, 24 + 16 * 32 + 8
"""Bytes that the library reads of a node of symbols and of a node of their tree, however few it holds."""

RECORD = {5: 11, 8: 17}
"""Bytes of a record of a B-tree of version 2, by its kind: of links, of attributes (SPEC B.1-21, B.1-25)."""

_SEALED = (b"FRHP", b"BTHD", b"BTLF", b"BTIN")

Message = tuple[int, bytes]
"""Kind and body of a message of an object header."""


@cache
def _places(data: bytes) -> dict[str, tuple[int, int, int]]:
    """Objects of a file by path: address of the header, of the stored numbers or the first chunk, bytes of a chunk."""
    found: dict[str, tuple[int, int, int]] = {}

    def take(path: str, item: h5py.Group | h5py.Dataset) -> None:
        at, stored, size = h5py.h5o.get_info(item.id).addr, NOWHERE, 0
        if isinstance(item, h5py.Dataset) and item.chunks:
            info = item.id.get_chunk_info(0)
            stored, size = info.byte_offset, info.size
        elif isinstance(item, h5py.Dataset) and item.id.get_offset() is not None:
            stored = item.id.get_offset()
        found[path] = at, stored, size

    with h5py.File(io.BytesIO(data), "r") as f:
        f.visititems(take)
    return found


class Appended:
    """A sound model file to which structures are added.

    Attributes
    ----------
    data : bytearray
    """

    def __init__(self, sound: bytes) -> None:
        self._places = _places(sound)
        self.data = bytearray(sound)

    def put(self, structure: bytes) -> int:
        """The address of a structure, which is put at the end."""
        self.data += bytes(-len(self.data) % 8)
        at = len(self.data)
        self.data += structure
        return at

    def write(self, at: int, structure: bytes | bytearray) -> int:
        """Put a structure in the place of bytes that are there; its address."""
        self.data[at : at + len(structure)] = structure
        return at

    def address(self, path: str) -> int:
        """The header of an object of the sound file."""
        return self._places[path][0]

    def numbers(self, path: str) -> int:
        """The numbers, or the first chunk, of an array of the sound file."""
        return self._places[path][1]

    def chunk_bytes(self, path: str) -> int:
        """The stored bytes of an array's first chunk."""
        return self._places[path][2]

    @property
    def objects(self) -> int:
        """Objects of the sound file, without its root."""
        return len(self._places)

    def children(self, group: str = "") -> dict[str, int]:
        """Addresses of the objects of a group by name."""
        below = {path.removeprefix(f"{group}/"): at for path, (at, *_) in self._places.items() if _below(path, group)}
        return {name: at for name, at in below.items() if "/" not in name}

    def finished(self, root: int) -> bytes:
        """The file, with another root."""
        head = self.data[:28] + struct.pack("<QQ", len(self.data), root)
        return sealed(head) + self.data[48:]


def _below(path: str, group: str) -> bool:
    return path.startswith(f"{group}/") if group else True


def sealed(structure: bytes | bytearray) -> bytes:
    """A structure with its checksum."""
    return bytes(structure) + lookup3(bytes(structure)).to_bytes(4, "little")


def header(*messages: Message, flags: int = 1, extra: bytes = b"") -> bytes:
    """(SPEC B.1-20) An object header of version 2.

    Parameters
    ----------
    *messages : Message
    flags : int
    extra : bytes
        The times and phase change values that the flags announce.

    Returns
    -------
    bytes
    """
    order = bytes(2 if flags & 4 else 0)
    body = b"".join(struct.pack("<BHB", kind, len(data), 0) + order + data for kind, data in messages)
    return sealed(b"OHDR\2" + bytes([flags]) + extra + len(body).to_bytes(1 << (flags & 3), "little") + body)


def old_messages(*messages: Message) -> bytes:
    """(SPEC B.1-20) A block of messages of version 1."""
    padded = [(kind, data + bytes(-len(data) % 8)) for kind, data in messages]
    return b"".join(struct.pack("<HHB3x", kind, len(data), 0) + data for kind, data in padded)


def old_header(*messages: Message) -> bytes:
    """(SPEC B.1-20) An object header of version 1."""
    body = old_messages(*messages)
    return struct.pack("<BxHII4x", 1, len(messages), 1, len(body)) + body


def continuation(at: int, size: int) -> Message:
    """(SPEC B.1-20) The place of more messages."""
    return CONTINUATION, struct.pack("<QQ", at, size)


def link(name: str, address: int, flags: int | None = None, kind: int = 0) -> Message:
    """(SPEC B.1-21) A link message.

    Parameters
    ----------
    name : str
    address : int
    flags : int or None
        They say which of type, order and character set there are; None for the shortest form.
    kind : int
        Type of the link.

    Returns
    -------
    Message
    """
    text = name.encode()
    chosen = int(len(text) > 255) if flags is None else flags
    parts = [bytes([kind])] * bool(chosen & 8) + [bytes(8)] * bool(chosen & 4) + [b"\0"] * bool(chosen & 16)
    length = len(text).to_bytes(1 << (chosen & 3), "little")
    return LINK, bytes((1, chosen)) + b"".join(parts) + length + text + struct.pack("<Q", address)


def links(objects: dict[str, int]) -> list[Message]:
    """(SPEC B.1-21) Link messages of objects by name, and the empty table that the library needs with them."""
    return [link_info(), *(link(name, at) for name, at in objects.items())]


def link_info(heap: int = NOWHERE, tree: int = NOWHERE) -> Message:
    """(SPEC B.1-21) A link info message; without addresses that of a group that may have link messages."""
    return LINK_INFO, struct.pack("<BBQQ", 0, 0, heap, tree)


def attribute_info(heap: int = NOWHERE, tree: int = NOWHERE, ordered: bool = False) -> Message:
    """(SPEC B.1-25) An attribute info message.

    Parameters
    ----------
    heap, tree : int
        Addresses.
    ordered : bool
        It has a creation index.

    Returns
    -------
    Message
    """
    return ATTRIBUTE_INFO, bytes((0, ordered)) + bytes(2 * ordered) + struct.pack("<QQ", heap, tree)


def attribute(name: str, kind: bytes, value: bytes, version: int = 3) -> Message:
    """(SPEC B.1-25) An attribute message of a scalar.

    Parameters
    ----------
    name : str
    kind : bytes
        The datatype message.
    value : bytes
    version : int
        1, 2 or 3.

    Returns
    -------
    Message
    """
    parts = [name.encode() + b"\0", kind, dataspace((), version=1 if version == 1 else 2)]
    sizes = struct.pack("<HHH", *(len(part) for part in parts))
    if version == 1:
        return ATTRIBUTE, b"\1\0" + sizes + b"".join(part + bytes(-len(part) % 8) for part in parts) + value
    return ATTRIBUTE, bytes((version, 0)) + sizes + b"\0" + b"".join(parts) + value


def text_type(size: int) -> bytes:
    """(SPEC B.1-25) The datatype of a text of fixed length, padded with zeros."""
    return b"\x13\1\0\0" + struct.pack("<I", size)


def model_attributes(version: int = 3) -> list[Message]:
    """(SPEC B.1-17) The attributes that every model file has, as messages of a version."""
    text = FORMAT.encode()
    return [
        attribute("format", text_type(len(text)), text, version),
        attribute("version", datatype("int64"), struct.pack("<q", VERSION), version),
    ]


def dataspace(shape: Sequence[int], version: int = 2) -> bytes:
    """(SPEC B.1-23) A dataspace message."""
    head = bytes((1, len(shape))) + bytes(6) if version == 1 else bytes((2, len(shape), 0, len(shape) > 0))
    return head + struct.pack(f"<{len(shape)}Q", *shape)


def datatype(name: str) -> bytes:
    """(SPEC B.1-23) A datatype message."""
    if name == "float32":
        return bytes.fromhex("11201f000400000000002000170800177f000000")
    size = int(name.lstrip("uint")) // 8
    return bytes((0x10, 0 if name[0] == "u" else 8, 0, 0)) + struct.pack("<IHH", size, 0, 8 * size)


def compact(numbers: bytes) -> bytes:
    """(SPEC B.1-24) A data layout message that holds the numbers."""
    return b"\3\0" + struct.pack("<H", len(numbers)) + numbers


def contiguous(at: int, size: int) -> bytes:
    """(SPEC B.1-24) A data layout message of numbers in one place."""
    return b"\3\1" + struct.pack("<QQ", at, size)


def chunked(tree: int, chunk: Sequence[int], width: int) -> bytes:
    """(SPEC B.1-24) A data layout message of chunks.

    Parameters
    ----------
    tree : int
        Address.
    chunk : sequence of int
        Shape of a chunk.
    width : int
        Bytes per element.

    Returns
    -------
    bytes
    """
    return b"\3\2" + struct.pack(f"<BQ{len(chunk) + 1}I", len(chunk) + 1, tree, *chunk, width)


def filters(*parts: tuple[int, Sequence[int]], version: int = 2, name: int = 0) -> bytes:
    """(SPEC B.1-24) A filter pipeline message.

    Parameters
    ----------
    *parts : (int, sequence of int)
        Code and values of each filter.
    version : int
        1 or 2.
    name : int
        Length of the name of the first filter, in version 1.

    Returns
    -------
    bytes
    """
    made = bytes((version, len(parts))) + bytes(6 if version == 1 else 0)
    for n, (code, values) in enumerate(parts):
        stored = struct.pack(f"<{len(values)}I", *values)
        if version == 1:
            named = b"\0".rjust(name, b"n") if name and n == 0 else b""
            made += struct.pack("<HHHH", code, len(named), 0, len(values)) + named + bytes(-len(named) % 8)
            made += stored + bytes(4 * (len(values) % 2))
        else:
            made += struct.pack("<HHH", code, 0, len(values)) + stored
    return made


def tree_node(
    kind: int,
    level: int,
    entries: Sequence[tuple[bytes, int]],
    last: bytes,
    room: int = 0,
    count: int | None = None,
) -> bytes:
    """(SPEC B.1-22, B.1-24) A node of a B-tree of version 1.

    Parameters
    ----------
    kind : int
        0 for symbols, 1 for chunks.
    level : int
    entries : sequence of (bytes, int)
        Keys and addresses.
    last : bytes
        The last key.
    room : int
        Least size, filled with zeros.
    count : int or None
        The number that it announces, None for that of its entries.

    Returns
    -------
    bytes
    """
    head = struct.pack("<4sBBHQQ", b"TREE", kind, level, len(entries) if count is None else count, NOWHERE, NOWHERE)
    return (head + b"".join(key + struct.pack("<Q", at) for key, at in entries) + last).ljust(room, b"\0")


def chunk_key(size: int, place: Sequence[int], mask: int = 0) -> bytes:
    """(SPEC B.1-24) The key of a chunk.

    Parameters
    ----------
    size : int
        Its stored bytes.
    place : sequence of int
        Its first element.
    mask : int
        The filters that it leaves out.

    Returns
    -------
    bytes
    """
    return struct.pack(f"<II{len(place) + 1}Q", size, mask, *place, 0)


def symbol_node(entries: Sequence[tuple[int, int]], count: int | None = None, cache_type: int = 0) -> bytes:
    """(SPEC B.1-22) A node of symbols.

    Parameters
    ----------
    entries : sequence of (int, int)
        Offset of the name, and address.
    count : int or None
        The number that it announces, None for that of its entries.
    cache_type : int

    Returns
    -------
    bytes
    """
    head = b"SNOD\1\0" + struct.pack("<H", len(entries) if count is None else count)
    return head + b"".join(struct.pack("<QQI20x", name, at, cache_type) for name, at in entries)


def local_heap(names: Sequence[str], at: int) -> tuple[bytes, list[int]]:
    """(SPEC B.1-22) A local heap at an address, with its names behind it, and the offsets of the names."""
    data, offsets = bytes(8), list[int]()
    for name in names:
        offsets.append(len(data))
        data += (text := name.encode() + b"\0") + bytes(-len(text) % 8)
    return struct.pack("<4sB3xQQQ", b"HEAP", 0, len(data), 1, at + 32) + data, offsets


def symbol_tree(below: Sequence[tuple[int, int]], level: int = 0) -> bytes:
    """(SPEC B.1-22) A node of the tree of a symbol table: the last name and the address of what is below."""
    keys = [struct.pack("<Q", name) for name in (0, *(name for name, _ in below))]
    entries = [(key, at) for key, (_, at) in zip(keys, below, strict=False)]
    return tree_node(0, level, entries, keys[-1], SYMBOL_TREE_ROOM)


def symbol_table(file: Appended, objects: dict[str, int], in_node: int = 8, levels: int = 1) -> Message:
    """(SPEC B.1-22) Append a symbol table.

    Parameters
    ----------
    file : Appended
    objects : dict of str to int
        Addresses by name.
    in_node : int
        Entries per node.
    levels : int
        Of the tree, 1 to 8.

    Returns
    -------
    Message
    """
    heap = file.put(b"")
    names, offsets = local_heap(sorted(objects), heap)
    file.put(names)
    entries = [(offset, objects[name]) for offset, name in zip(offsets, sorted(objects), strict=True)]
    below = [
        (entries[n : n + in_node][-1][0], file.put(symbol_node(entries[n : n + in_node]).ljust(SYMBOL_ROOM, b"\0")))
        for n in range(0, len(entries), in_node)
    ]
    for level in range(levels):
        parts = [below] if level == levels - 1 else [below[n : n + 5] for n in range(0, len(below), 5)]
        below = [(part[-1][0], file.put(symbol_tree(part, level))) for part in parts]
    return SYMBOLS, struct.pack("<QQ", below[0][1], heap)


def heap_header(root: int, attributes: bool, block: int) -> bytes:
    """(SPEC B.1-21) The header of a fractal heap of one direct block, without checksum.

    Parameters
    ----------
    root : int
        Address of the block.
    attributes : bool
        The heap is of attributes, not of links.
    block : int
        Bytes of the block.

    Returns
    -------
    bytes
    """
    id_bytes, most = (8, 1 << 17) if attributes else (7, 4096)
    counts = (0, NOWHERE, 0, NOWHERE, block, block, block, 1, 0, 0, 0, 0)
    head = struct.pack("<4sBHHBI12Q", b"FRHP", 0, id_bytes, 0, 0, most, *counts)
    return head + struct.pack("<HQQHHQH", 4, block, max(block, 1 << 16), 32, 1, root, 0)


def tree_header(kind: int, root: int, count: int, depth: int = 0, node: int = 512, total: int | None = None) -> bytes:
    """(SPEC B.1-21) The header of a B-tree of version 2, without checksum.

    Parameters
    ----------
    kind : int
        5 for links, 8 for attributes.
    root : int
        Address of the root.
    count : int
        Records in the root.
    depth : int
    node : int
        Bytes per node.
    total : int or None
        Records in the tree, None for ``count``.

    Returns
    -------
    bytes
    """
    record = RECORD[kind]
    return struct.pack("<4sBBIHHBBQHQ", b"BTHD", 0, kind, node, record, depth, 100, 40, root, count, total or count)


def heap_object(name: str, at: int, size: int, attributes: bool) -> bytes:
    """(SPEC B.1-21) The record of a managed object in a tree by names.

    Parameters
    ----------
    name : str
    at, size : int
        Offset in the heap, and length.
    attributes : bool
        The heap is of attributes, not of links.

    Returns
    -------
    bytes
    """
    hashed = lookup3(name.encode())
    if attributes:
        return b"\0" + struct.pack("<I", at) + size.to_bytes(3, "little") + struct.pack("<BII", 0, 0, hashed)
    return struct.pack("<I", hashed) + b"\0" + struct.pack("<IH", at, size)


def laid_out(
    file: Appended,
    order: Sequence[str],
    rooms: Mapping[str, int],
    made: Callable[[dict[str, int]], dict[str, bytes]],
    changes: Mapping[str, Callable[[bytearray], Any]],
) -> dict[str, int]:
    """Append structures that refer to each other, and change some of them.

    Parameters
    ----------
    file : Appended
    order : sequence of str
        Of the structures in the file.
    rooms : mapping of str to int
        Bytes of each, with its checksum.
    made : callable
        From addresses by name to the structures.
    changes : mapping of str to callable
        Change a structure in place, before its checksum is computed.

    Returns
    -------
    dict of str to int
        Addresses by name.
    """
    places = {name: file.put(bytes(rooms[name])) for name in order}
    for name, structure in made(places).items():
        part = bytearray(structure)
        if name in changes:
            changes[name](part)
        file.write(places[name], sealed(part) if part[:4] in _SEALED else part)
    return places


def dense(
    file: Appended,
    objects: dict[str, bytes],
    attributes: bool = False,
    size: int = 512,
    order: Sequence[str] = ("heap", "block", "tree", "leaf"),
    **changes: Callable[[bytearray], Any],
) -> dict[str, int]:
    """(SPEC B.1-21, B.1-25) Append a fractal heap of link or attribute messages, and its tree.

    Parameters
    ----------
    file : Appended
    objects : dict of str to bytes
        Messages by name.
    attributes : bool
        They are attributes, not links.
    size : int
        Bytes of the heap's block.
    order : sequence of str
        Of the structures in the file.
    **changes : callable
        As for `laid_out`.

    Returns
    -------
    dict of str to int
        Addresses of the structures.
    """

    def made(places: dict[str, int]) -> dict[str, bytes]:
        data, records = b"FHDB\0" + struct.pack("<QI", places["heap"], 0), list[tuple[int, bytes]]()
        for name, message in objects.items():
            records.append((lookup3(name.encode()), heap_object(name, len(data), len(message), attributes)))
            data += message
        kind = 8 if attributes else 5
        return {
            "heap": heap_header(places["block"], attributes, size),
            "block": data.ljust(size, b"\0"),
            "tree": tree_header(kind, places["leaf"], len(records)),
            "leaf": b"BTLF\0" + bytes([kind]) + b"".join(record for _, record in sorted(records)),
        }

    return laid_out(file, order, {"heap": 146, "block": size, "tree": 38, "leaf": 512}, made, changes)
