"""Trees and heaps of HDF5 files (SPEC B.1-21, B.1-22, B.1-24), walked without recursion and within bounds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct

from ..errors import InvalidModel
from .hdf5_bytes import FileBytes

NOWHERE = (1 << 64) - 1
"""The address of what is not stored."""

MAX_ENTRIES = 64
"""Most entries of a node of version 1, which HDF5 fixes."""

_MAX_LEVEL, _MAX_ROWS, _MAX_COLUMNS = 8, 64, 1024
"""Trees of 2^14 objects or 2^12 chunks have fewer levels; a heap has at most 2^64 bytes."""

_MAX_BLOCKS, _MAX_PART = 1 << 14, 1 << 16
"""Most blocks of a heap, and bytes of one of its objects or of a node of version 2 (SPEC B.1-21).

The library's nodes have 512 bytes, and it stores objects of more than 4096 bytes elsewhere.
"""

_OLD_NODE, _NEW_TREE = Struct("<4sBBH16x"), Struct("<4sBBIHH2xQHQ")
_HEAP = Struct("<4sBHH101xHQQHHQH")


def old_tree(file: FileBytes, at: int, kind: int, key: int, counted: bool = False) -> Iterator[tuple[bytes, int]]:
    """Walk over the leaves of a B-tree of version 1.

    Parameters
    ----------
    file : FileBytes
    at : int
        Address of the root.
    kind : int
        0 for nodes of symbols, 1 for chunks.
    key : int
        Bytes per key.
    counted : bool
        The tree has been walked before and counts no more.

    Yields
    ------
    (bytes, int)
        Key and address of each entry.
    """
    waiting: list[tuple[int, int | None]] = [(at, None)]
    while waiting:
        at, level = waiting.pop()
        magic, found, found_level, count = _OLD_NODE.unpack(file.take(at, 24))
        file.known(magic == b"TREE" and found == kind and count <= MAX_ENTRIES, "another B-tree of version 1")
        file.known(found_level == (found_level if level is None else level) < _MAX_LEVEL, "a tree of other levels")
        size, below = (key + 8) * count + key, list[tuple[int, int | None]]()
        data = file.take(at + 24, size)
        if not counted:
            file.count(at, 24 + size)
        for place in range(0, size - key, key + 8):
            address = int.from_bytes(data[place + key : place + key + 8], "little")
            if found_level:
                below.append((address, found_level - 1))
            else:
                yield data[place : place + key], address
        waiting += reversed(below)


LINK_NAMES, ATTRIBUTE_NAMES = (5, 11, 4, 7), (8, 17, 0, 8)
"""Trees by names' hashes: their type, bytes of a record, where in it the identifier in the heap is, and its bytes."""


def heap_objects(file: FileBytes, heap: int, names: int, by: tuple[int, int, int, int]) -> Iterator[bytes]:
    """(SPEC B.1-21, B.1-25) The managed objects of a fractal heap, which a B-tree of version 2 lists.

    Parameters
    ----------
    file : FileBytes
    heap, names : int
        Addresses of the heap and the tree.
    by : tuple
        `LINK_NAMES` or `ATTRIBUTE_NAMES`.

    Yields
    ------
    bytes
        Each object, in the order of the tree.

    Raises
    ------
    InvalidModel
        An object lies outside its heap, or a structure is not one that SPEC B.1 names.
    """
    kind, record_bytes, id_at, id_size = by
    magic, version, id_bytes, filters, columns, start, largest, bits, _, root, rows = _HEAP.unpack(
        file.block(heap, _HEAP.size)
    )
    file.known(magic == b"FRHP" and version == 0 and id_bytes == id_size and filters == 0, "another fractal heap")
    file.known(
        1 <= columns <= _MAX_COLUMNS
        and 1 <= start <= largest < 1 << 32
        and start & start - 1 == 0
        and bits <= 64
        and rows <= _MAX_ROWS,
        "another fractal heap",
    )
    offset_bytes = (bits + 7) // 8
    blocks = _direct_blocks(file, root, rows, columns, start, largest, offset_bytes) if rows else [(0, root, start)]
    blocks.sort()
    for _, address, size in blocks:
        file.known(file.take(address, 5) == b"FHDB\0", "another direct block")
        file.inside(address, size)
        file.count(address, size)
    begins, left = [begin for begin, _, _ in blocks], sum(size for _, _, size in blocks)
    for record in _records(file, names, kind, record_bytes):
        identifier = record[id_at : id_at + id_size]
        if identifier[0] >> 4:  # a long attribute, which is stored elsewhere
            file.known(by == ATTRIBUTE_NAMES, "an object of a fractal heap that is not managed")
            continue
        offset = int.from_bytes(identifier[1 : 1 + offset_bytes], "little")
        length = int.from_bytes(identifier[1 + offset_bytes :], "little")
        begin, address, size = blocks[bisect_right(begins, offset) - 1] if begins else (0, 0, 0)
        if not begin <= offset <= offset + length <= begin + size:
            raise InvalidModel("an object lies outside its heap", where=file.where)
        file.known(length <= _MAX_PART, "a long object in a fractal heap")
        left -= length  # objects that do not overlap fit into the blocks together
        file.known(left >= 0, "objects of a heap that overlap")
        yield file.take(address + offset - begin, length)


def _direct_blocks(
    file: FileBytes, root: int, rows: int, columns: int, start: int, largest: int, offset_bytes: int
) -> list[tuple[int, int, int]]:
    """Offset in the heap, address and size of the direct blocks below an indirect block."""
    found, waiting, head = list[tuple[int, int, int]](), [(root, rows, 0)], 13 + offset_bytes
    while waiting:
        at, rows, offset = waiting.pop()
        data = file.block(at, head + 8 * rows * columns)
        file.known(data[:5] == b"FHIB\0", "another indirect block")
        for n in range(rows * columns):
            size = start << max(n // columns - 1, 0)
            address = int.from_bytes(data[head + 8 * n : head + 8 * n + 8], "little")
            if address != NOWHERE and size <= largest:
                found.append((offset, address, size))
            elif address != NOWHERE:  # it has fewer rows than this one, so that this ends
                waiting.append((address, (size // (start * columns)).bit_length(), offset))
            offset += size
        file.known(len(found) + len(waiting) <= _MAX_BLOCKS, "a fractal heap of too many blocks")
    return found


def _records(file: FileBytes, at: int, kind: int, record: int) -> Iterator[bytes]:
    """The records of a B-tree of version 2, each of so many bytes."""
    magic, version, found, size, found_record, depth, root, count, _ = _NEW_TREE.unpack(file.block(at, _NEW_TREE.size))
    file.known(
        magic == b"BTHD"
        and version == 0
        and found == kind
        and found_record == record
        and 10 < size <= _MAX_PART
        and depth < _MAX_LEVEL,
        "another B-tree of version 2",
    )
    most = total = (size - 10) // record
    count_bytes, pointers = (most.bit_length() + 7) // 8, [0]  # sizes of pointers to children by depth
    for level in range(depth):
        pointers.append(8 + count_bytes + ((total.bit_length() + 7) // 8 if level else 0))
        most = (size - 10 - pointers[-1]) // (record + pointers[-1])
        total = (most + 1) * total + most
    waiting = [(root, count, depth)] if count else []
    while waiting:
        at, count, depth = waiting.pop()
        pointer, head = pointers[depth], 6 + record * count
        file.known(head + pointer * (count + 1) <= size, "another node of a B-tree of version 2")
        data = file.block(at, size)
        magic = b"BTIN" if depth else b"BTLF"
        file.known(data[:6] == magic + bytes((0, kind)), "another node of a B-tree of version 2")
        yield from (data[n : n + record] for n in range(6, head, record))
        waiting += [
            (
                int.from_bytes(data[n : n + 8], "little"),
                int.from_bytes(data[n + 8 : n + 8 + count_bytes], "little"),
                depth - 1,
            )
            for n in (range(head, head + pointer * (count + 1), pointer) if depth else ())
        ]


__all__ = ["ATTRIBUTE_NAMES", "LINK_NAMES", "MAX_ENTRIES", "NOWHERE", "heap_objects", "old_tree"]
