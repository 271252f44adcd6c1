"""A reader of model files that knows the structures of SPEC B.1-19 to B.1-25 and no others, and uses no library."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from math import prod

import numpy as np

NOWHERE = (1 << 64) - 1
NIL, SPACE, LINKS, TYPE, OLD_FILL, FILL, LINK, LAYOUT, GROUP, FILTERS, ATTRIBUTE, MORE, TABLE, TIME, ATTRIBUTES = (
    0, 1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 16, 17, 18, 21)
SKIPPED = {NIL, OLD_FILL, FILL, GROUP, TIME, ATTRIBUTES}
TYPES = {(0, 0, 1): "uint8", (0, 8, 2): "int16", (0, 8, 4): "int32", (0, 8, 8): "int64", (1, 0x1F20, 4): "float32"}
"""By class, bit field and size."""

Messages = list[tuple[int, int, int]]
"""Kind, offset and size."""


class OtherStructure(ValueError):
    """A structure that SPEC B.1 does not name."""


def require(holds: bool, what: str) -> None:
    """Fail unless a structure is one of those named."""
    if not holds:
        raise OtherStructure(what)


class PlainFile:
    """Attributes of the root and arrays by path."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        require(data[:8] == b"\x89HDF\r\n\x1a\n" and data[8:12] == b"\2\x08\x08\0", "superblock")
        require((self.u(12), self.u(20)) == (0, NOWHERE), "base address or superblock extension")
        root = self.messages(self.u(36))
        self.attributes = dict(self.attribute(at) for kind, at, _ in root if kind == ATTRIBUTE)
        self.arrays = dict(self.walk(root, ""))

    def u(self, at: int, size: int = 8) -> int:
        """An unsigned little-endian number."""
        return int.from_bytes(self.data[at:at + size], "little")

    def sign(self, at: int, signature: bytes) -> int:
        """Where a block goes on behind its signature."""
        require(self.data[at:at + 4] == signature, f"{signature!r}")
        return at + 4

    def messages(self, at: int) -> Messages:
        """(SPEC B.1-20, B.1-25) The messages of an object header but those that readers skip."""
        newer, tracked = self.data[at:at + 4] == b"OHDR", 0
        if newer:
            flags, start = self.data[at + 5], at + 6
            require(self.data[at + 4] == 2 and not flags & ~0x27, "object header")
            start += 16 * (flags >> 5)
            width, tracked = 1 << (flags & 3), flags >> 1 & 2
            blocks = [(start + width, self.u(start, width))]
        else:
            require(self.data[at] == 1, "object header")
            blocks = [(at + 16, self.u(at + 8, 4))]
        found: Messages = []
        for start, length in blocks:
            place = start
            while place + (4 if newer else 8) <= start + length:
                kind, size, flags = ((self.data[place], self.u(place + 1, 2), self.data[place + 3]) if newer else
                                     (self.u(place, 2), self.u(place + 2, 2), self.data[place + 4]))
                place += 4 + tracked if newer else 8
                require(not flags & 2, "shared message")
                if kind == MORE:
                    begin, size_there = self.u(place), self.u(place + 8)
                    blocks.append((self.sign(begin, b"OCHK"), size_there - 8) if newer else (begin, size_there))
                elif kind not in SKIPPED:
                    require(kind in (SPACE, LINKS, TYPE, LINK, LAYOUT, FILTERS, ATTRIBUTE, TABLE), f"message {kind}")
                    found.append((kind, place, size))
                place += size
        return found

    def walk(self, messages: Messages, path: str) -> Iterator[tuple[str, np.ndarray]]:
        """(SPEC B.1-21, B.1-22) The arrays below a group."""
        for name, at in (pair for kind, place, _ in messages for pair in self.members(kind, place)):
            below = self.messages(at)
            if any(kind == LAYOUT for kind, _, _ in below):
                yield path + name, self.array(dict((kind, place) for kind, place, _ in below))
            else:
                yield from self.walk(below, f"{path}{name}/")

    def members(self, kind: int, at: int) -> Iterator[tuple[str, int]]:
        """Names and addresses that a message of a group leads to."""
        if kind == LINK:
            yield self.link(at)
        elif kind == TABLE:
            names = self.u(self.sign(self.u(at + 8), b"HEAP") + 20)
            for node in self.tree(self.u(at), 0, 8, 8):
                entries = self.sign(node, b"SNOD") + 4
                for entry in range(entries, entries + 40 * self.u(entries - 2, 2), 40):
                    name = names + self.u(entry)
                    yield self.data[name:self.data.index(b"\0", name)].decode("ascii"), self.u(entry + 8)
        elif kind == LINKS:
            require(self.data[at] == 0 and self.data[at + 1] == 0, "link info")
            if self.u(at + 2) != NOWHERE:
                yield from self.dense(self.u(at + 2), self.u(at + 10))

    def link(self, at: int) -> tuple[str, int]:
        """(SPEC B.1-21) A link message."""
        flags = self.data[at + 1]
        require(self.data[at] == 1 and flags in (0, 0x10), "link")
        at += 2 + (flags >> 4)
        end = at + 1 + self.data[at]
        return self.data[at + 1:end].decode("ascii"), self.u(end)

    def tree(self, at: int, kind: int, before: int, between: int) -> Iterator[int]:
        """What the leaves of a B-tree of version 1 point to: `before` bytes in front of an address."""
        head = self.sign(at, b"TREE")
        require(self.data[head] == kind, "B-tree of version 1")
        first = at + 24 + before
        for place in range(first, first + (between + 8) * self.u(head + 2, 2), between + 8):
            if self.data[head + 1]:
                yield from self.tree(self.u(place), kind, before, between)
            else:
                yield self.u(place) if kind == 0 else place

    def dense(self, heap: int, names: int) -> Iterator[tuple[str, int]]:
        """(SPEC B.1-22) Links of a fractal heap in the order of a B-tree of version 2."""
        at = self.sign(heap, b"FRHP")
        width, filters = self.u(at + 1, 2), self.u(at + 3, 2)
        require(self.data[at] == 0 and filters == 0, "fractal heap")
        doubling = at + 10 + 12 * 8
        columns, start, largest, bits = (self.u(doubling, 2), self.u(doubling + 2), self.u(doubling + 10),
                                         self.u(doubling + 18, 2))
        offset_bytes, blocks = (bits + 7) // 8, {}

        def indirect(at: int, rows: int, offset: int) -> None:
            place = self.sign(at, b"FHIB") + 9 + offset_bytes
            for row in range(rows):
                size = start << max(row - 1, 0)
                for _ in range(columns):
                    if self.u(place) != NOWHERE and size > largest:
                        indirect(self.u(place), (size // (start * columns)).bit_length(), offset)
                    elif self.u(place) != NOWHERE:
                        blocks[offset] = self.u(place)
                    place, offset = place + 8, offset + size

        root, rows = self.u(doubling + 22), self.u(doubling + 30, 2)
        if rows:
            indirect(root, rows, 0)
        else:
            blocks[0] = root
        for record in self.records(names):
            require(self.data[record + 4] >> 4 == 0 and width == 7, "object of a fractal heap that is not managed")
            offset = self.u(record + 5, offset_bytes)
            block = max(begin for begin in blocks if begin <= offset)
            yield self.link(blocks[block] + offset - block)

    def records(self, at: int) -> Iterator[int]:
        """Where the records of a B-tree of version 2 that orders names by hash stand."""
        head = self.sign(at, b"BTHD")
        require(self.data[head:head + 2] == b"\0\5" and self.u(head + 6, 2) == 11, "B-tree of version 2")
        size, depth = self.u(head + 2, 4) - 10, self.u(head + 8, 2)
        most = total = size // 11
        count_bytes, pointers = (most.bit_length() + 7) // 8, [0]  # sizes of pointers to children by depth
        for _ in range(depth):
            pointers.append(8 + count_bytes + ((total.bit_length() + 7) // 8 if len(pointers) > 1 else 0))
            most = (size - pointers[-1]) // (11 + pointers[-1])
            total = (most + 1) * total + most

        def node(at: int, count: int, depth: int) -> Iterator[int]:
            first = self.sign(at, b"BTIN" if depth else b"BTLF") + 2
            yield from range(first, first + 11 * count, 11)
            for child in range(count + 1 if depth else 0):
                place = first + 11 * count + pointers[depth] * child
                yield from node(self.u(place), self.u(place + 8, count_bytes), depth - 1)

        yield from node(self.u(head + 12), self.u(head + 20, 2), depth)

    def shape(self, at: int) -> tuple[int, ...]:
        """(SPEC B.1-23) A dataspace message."""
        version, rank, more = self.data[at], self.data[at + 1], self.data[at + 2]
        require(version == 1 or (version == 2 and self.data[at + 3] in (0, 1)), "dataspace")
        require(not more & ~1, "dataspace")
        return tuple(self.u(at + (8 if version == 1 else 4) + 8 * n) for n in range(rank))

    def dtype(self, at: int) -> str:
        """(SPEC B.1-23) A datatype message of an array."""
        found = TYPES.get((self.data[at] & 15, self.u(at + 1, 3), self.u(at + 4, 4)))
        require(self.data[at] >> 4 == 1 and found is not None, "datatype")
        assert found
        return found

    def attribute(self, at: int) -> tuple[str, str | int | None]:
        """(SPEC B.1-23) An attribute message; None for a value that is neither text nor integer."""
        version, pad = self.data[at], 8 if self.data[at] == 1 else 1
        require(version in (1, 3), "attribute")
        sizes = [-(-self.u(at + n, 2) // pad) * pad for n in (2, 4, 6)]
        name = at + (8 if version == 1 else 9)
        kind, space = name + sizes[0], name + sizes[0] + sizes[1]
        text, value = self.data[name:kind].rstrip(b"\0").decode("ascii"), space + sizes[2]
        if self.shape(space) or self.data[kind] not in (0x10, 0x13):
            return text, None
        size = self.u(kind + 4, 4)
        return text, self.data[value:value + size].decode("ascii") if self.data[kind] == 0x13 else self.u(value, size)

    def array(self, at: dict[int, int]) -> np.ndarray:
        """(SPEC B.1-24) The numbers of a dataset."""
        shape, dtype, layout = self.shape(at[SPACE]), np.dtype(self.dtype(at[TYPE])), at[LAYOUT]
        require(self.data[layout] == 3, "layout")
        kind, size = self.data[layout + 1], prod(shape) * dtype.itemsize
        if kind == 2:
            return self.chunked(shape, dtype, layout + 2, self.filters(at[FILTERS]) if FILTERS in at else [])
        require(kind in (0, 1), "layout")
        place = layout + 4 if kind == 0 else self.u(layout + 2)
        return np.frombuffer(self.data, dtype, prod(shape), place).reshape(shape) if size else np.zeros(shape, dtype)

    def chunked(self, shape: tuple[int, ...], dtype: np.dtype, at: int, filters: list[int]) -> np.ndarray:
        """(SPEC B.1-24) Chunks by a B-tree of version 1."""
        rank, out = self.data[at] - 1, np.empty(shape, dtype)
        chunk = tuple(self.u(at + 9 + 4 * n, 4) for n in range(rank))
        for place in self.tree(self.u(at + 1), 1, 16 + 8 * rank, 16 + 8 * rank):
            key = place - 16 - 8 * rank
            data = self.data[self.u(place):self.u(place) + self.u(key, 4)]
            used = [code for n, code in enumerate(filters) if not self.u(key + 4, 4) >> n & 1]
            if 1 in used:
                data = zlib.decompress(data)
            if 2 in used:
                data = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1).T.tobytes()
            where = tuple(slice(self.u(key + 8 + 8 * n), self.u(key + 8 + 8 * n) + c) for n, c in enumerate(chunk))
            part = out[where]
            part[...] = np.frombuffer(data, dtype).reshape(chunk)[tuple(slice(n) for n in part.shape)]
        return out

    def filters(self, at: int) -> list[int]:
        """(SPEC B.1-24) A filter pipeline of version 1 or 2."""
        version, count = self.data[at], self.data[at + 1]
        require(version in (1, 2), "filters")
        at, found = at + (8 if version == 1 else 2), []
        for _ in range(count):
            name, values = (self.u(at + 2, 2), self.u(at + 6, 2)) if version == 1 else (0, self.u(at + 4, 2))
            found.append(self.u(at, 2))
            at += 8 + -(-name // 8) * 8 + 8 * -(-values // 2) if version == 1 else 6 + 4 * values
        require(found in ([], [1], [2], [2, 1]), "filters")
        return found


__all__ = ["OtherStructure", "PlainFile"]
