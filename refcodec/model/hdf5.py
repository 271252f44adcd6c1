"""Integer datasets of HDF5 files, read without the HDF5 library (SPEC annex B).

Only the structures of SPEC B.1-19 to B.1-25 are known; all others are refused. Nothing in a file is believed: every
address, size and count is checked before memory is taken for it, and the same bytes are never read as two structures.
So time grows with the size of the file and of the declared arrays, and memory with the declared arrays alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import BinaryIO

import numpy as np

from ..errors import InvalidModel
from .hdf5_arrays import Stored
from .hdf5_bytes import FileBytes
from .hdf5_trees import ATTRIBUTE_NAMES, LINK_NAMES, MAX_ENTRIES, NOWHERE, heap_objects, old_tree

MAX_DEPTH = 8
"""Deepest nesting of groups (SPEC B.1-6)."""

MAX_DATASETS = 1 << 14
"""Most objects of a file in addition to its root (SPEC B.1-6): three times what 32 slices need."""

MAX_PATH = 512
"""Most bytes of a path (SPEC B.1-16)."""

_SPACE, _LINKS, _TYPE, _LINK, _LAYOUT, _FILTERS, _ATTRIBUTE, _MORE, _TABLE, _ATTRIBUTES = (
    1,
    2,
    3,
    6,
    8,
    11,
    12,
    16,
    17,
    21,
)
_SKIPPED = frozenset((0, 4, 5, 10, 18))
"""Messages that say nothing about a model (SPEC B.1-20)."""

_AHEAD = 1 << 9
"""Bytes of an object header that are taken at once: few headers are longer."""

_MAX_RANK, _MOST_DIMENSIONS, _MOST_FILTERS = 32, 143, 256
"""Dimensions that HDF5 allows, bytes of a layout message that lists them, bytes of two filters with their names."""

_ATTRIBUTE_BYTES = 64
"""Longest attribute that a model needs, in bytes."""

_WANTED = (b"format", b"version", b"fingerprint")
"""Attributes of a model. Others take no part (SPEC B.1-18), and a file may have millions."""

_MAX_CONTINUATIONS = 1 << 12
"""Most continuation blocks of an object header (SPEC B.1-20)."""

Attributes = dict[str, str | int | None]
"""The attributes of a model by name; None is one in a form that SPEC B.1-25 does not allow."""

_TYPES = {
    b"\x10\x00\x00\x00\x01\x00\x00\x00\x00\x00\x08\x00": "uint8",
    b"\x10\x08\x00\x00\x02\x00\x00\x00\x00\x00\x10\x00": "int16",
    b"\x10\x08\x00\x00\x04\x00\x00\x00\x00\x00\x20\x00": "int32",
    b"\x10\x08\x00\x00\x08\x00\x00\x00\x00\x00\x40\x00": "int64",
    b"\x11\x20\x1f\x00\x04\x00\x00\x00\x00\x00\x20\x00\x17\x08\x00\x17\x7f\x00\x00\x00": "float32",
}
"""(SPEC B.1-23) Datatype messages: version and class, bit field, size, bit offset, precision, parts of a float."""

_OLD_MESSAGE, _NEW_MESSAGE = Struct("<HHB3x"), Struct("<BHB")
_PAIR, _SYMBOL = Struct("<QQ"), Struct("<QQI20x")


@dataclass
class _Object:
    """Contents of an object header (SPEC B.1-20): messages of a dataset, or links of a group."""

    parts: dict[int, bytes] = field(default_factory=dict)
    links: list[tuple[bytes, int]] = field(default_factory=list)
    is_group: bool = False


class Hdf5(FileBytes):
    """(SPEC B.1-19 to B.1-25) An open HDF5 file.

    Parameters
    ----------
    file : binary file, unbuffered, that can seek
        Has to stay open while datasets are read.
    where : str
        Name of the file, for messages.

    Attributes
    ----------
    attributes : dict of str to str, int or None
        Those of the root that a model has: short fixed-length ASCII text or integers; None in another form. Others are
        passed over.

    Raises
    ------
    InvalidModel
        No HDF5 file of these structures.
    ModelError
        The system cannot read the file.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        super().__init__(file, where)
        self.attributes: Attributes = {}
        self._objects = 0
        if self.take(0, min(8, self.size)) != b"\x89HDF\r\n\x1a\n":
            raise InvalidModel("the model file cannot be read", where=where, cause="it is damaged or not HDF5")
        head = self.block(0, min(48, self.size))
        self.known(
            len(head) == 48
            and head[8:12] == b"\2\x08\x08\0"
            and head[12:20] == bytes(8)
            and head[20:28] == b"\xff" * 8,
            "another superblock than that of version 2",
        )
        self._root = int.from_bytes(head[36:44], "little")
        self._top = self._object(self._root, where, self.attributes)

    def datasets(self) -> dict[str, Stored]:
        """(SPEC B.1) Every dataset by path, none of them read. Called once.

        Raises
        ------
        InvalidModel
            A link that is not hard, an object of two names or of another kind, groups nested too deeply, a type that
            is not among those of ``Stored``.
        ModelError
            The system cannot read the file.
        """
        found: dict[str, Stored] = {}
        seen, paths, waiting = {self._root}, set[str](), [("", self._top, 0)]
        while waiting:
            prefix, group, depth = waiting.pop()
            if not group.is_group:
                raise InvalidModel("the root is no group", where=self.where)
            for name, address in group.links:
                path = prefix + self._name(name, prefix)
                where = f"{self.where}:{path}"
                if address in seen:
                    raise InvalidModel("an object has two names", where=where)
                if path in paths:
                    raise InvalidModel("a name that may denote another object", where=where)
                seen.add(address)
                paths.add(path)
                item = self._object(address, where)
                if not item.is_group:
                    found[path] = self._dataset(item, path)
                elif depth == MAX_DEPTH:
                    raise InvalidModel("groups are nested too deeply", where=self.where, group=path)
                else:
                    waiting.append((f"{path}/", item, depth + 1))
        return found

    def _name(self, name: bytes, prefix: str) -> str:
        """(SPEC B.1-16) One part of a path, checked."""
        text = name.decode("ascii", "backslashreplace")
        if len(prefix) + len(name) > MAX_PATH:
            raise InvalidModel("a path is too long", where=self.where, allowed=MAX_PATH)
        if not (name.isascii() and text.isprintable()):  # control characters would reach a terminal in messages
            raise InvalidModel("a name holds other characters than ASCII", where=ascii(f"{self.where}:{prefix}{text}"))
        if text in ("", ".") or "/" in text:
            raise InvalidModel("a name that may denote another object", where=f"{self.where}:{prefix}{text}")
        return text

    def _dataset(self, item: _Object, path: str) -> Stored:
        """(SPEC B.1-23) A dataset's description; of its messages only what is needed is kept."""
        where = f"{self.where}:{path}"
        if not item.parts.keys() >= {_SPACE, _TYPE, _LAYOUT}:
            raise InvalidModel("neither a group nor a dataset", where=where)
        dtype = next((known for code, known in _TYPES.items() if item.parts[_TYPE].startswith(code)), None)
        shape, layout = _shape(item.parts[_SPACE]), item.parts[_LAYOUT]
        if dtype is None or shape is None:
            raise InvalidModel("not an array of a known type", where=where)
        if math.prod(n or 1 for n in shape) >> 60:  # NumPy counts bytes in 63 bits, even of arrays without numbers
            raise InvalidModel("an array is too large", where=where, shape=list(shape))
        if len(layout) < 4 or layout[0] != 3 or layout[1] > 2 or (layout[1] and len(layout) < 18):
            raise InvalidModel(
                "external, virtual or unknown storage",
                where=where,
                cause="models hold their numbers themselves, in data layouts of version 3",
            )
        kept = math.prod(shape) * np.dtype(dtype).itemsize if layout[1] == 0 else _MOST_DIMENSIONS
        return Stored(path, dtype, shape, self, layout[: 4 + kept], item.parts.get(_FILTERS, b"")[:_MOST_FILTERS])

    def _object(self, at: int, where: str, attributes: Attributes | None = None) -> _Object:
        """(SPEC B.1-20) An object from its header; ``attributes`` takes the short attributes."""
        item, tables = _Object(), list[tuple[int, bytes]]()
        for kind, data in self._messages(at):
            if kind == _ATTRIBUTE:
                if attributes is not None:
                    _take_attribute(data, attributes, where)
            elif kind == _ATTRIBUTES:
                if attributes is not None:
                    self._dense_attributes(data, attributes, where)
            elif kind == _LINK:
                item.is_group = True
                item.links.append(self._link(data, where))
            elif kind in (_LINKS, _TABLE):
                item.is_group = True
                self.known(not tables, "a group with two tables of links")
                tables.append((kind, data))
            else:
                if kind in item.parts:
                    raise InvalidModel("an object has two descriptions", where=where, message=kind)
                item.parts[kind] = data
        if item.is_group and item.parts:
            raise InvalidModel("an object is both a group and a dataset", where=where)
        for kind, data in tables:
            item.links += self._table(data, where) if kind == _TABLE else self._dense(data, where)
        return item

    def _messages(self, at: int) -> Iterator[tuple[int, bytes]]:
        """(SPEC B.1-20) Kind and data of an object header's messages but those that readers skip."""
        head = self.take(at, min(64, max(16, self.size - at)))
        newer, order = head[:4] == b"OHDR", 0
        if newer:
            flags = head[5]
            self.known(head[4] == 2 and flags < 0x40, "another version of object headers")
            size, width = 6 + 16 * (flags >> 5) + 4 * (flags >> 4 & 1), 1 << (flags & 3)
            length, order = int.from_bytes(head[size : size + width], "little"), flags >> 1 & 2
            size += width
        else:
            self.known(head[0] == 1, "another version of object headers")
            size, length = 16, int.from_bytes(head[8:12], "little")
        shape = _NEW_MESSAGE if newer else _OLD_MESSAGE
        self.inside(at, size + length)
        self.count(at, size)
        blocks = deque([(at + size, length)])
        left = _MAX_CONTINUATIONS
        while blocks:
            place, length = blocks.popleft()
            self.inside(place, length)
            self.count(place, length)
            end, begin, data = place + length, place, b""
            while place + shape.size + order <= end:
                if place + shape.size > begin + len(data):
                    begin, data = place, self.take(place, min(_AHEAD, end - place))
                kind, size, flags = shape.unpack_from(data, place - begin)
                place += shape.size + order
                if place + size > end:
                    raise InvalidModel("a message is longer than its header", where=self.where, offset=place)
                self.known(not flags & 2, "a shared message")
                if kind == _MORE:
                    left -= 1
                    self.known(size >= 16 and left >= 0, "too many parts of an object header")
                    more, length = _PAIR.unpack(self.take(place, 16))
                    if newer:
                        self.known(length >= 8 and self.block(more, 4) == b"OCHK", "another continuation block")
                        more, length = more + 4, length - 8
                    blocks.append((more, length))
                elif kind not in _SKIPPED:
                    self.known(
                        kind in (_SPACE, _LINKS, _TYPE, _LINK, _LAYOUT, _FILTERS, _ATTRIBUTE, _TABLE, _ATTRIBUTES),
                        f"messages of kind 0x{kind:02X}",
                    )
                    if place + size > begin + len(data):
                        begin, data = place, self.take(place, size)
                    yield kind, data[place - begin : place - begin + size]
                place += size

    def _one_more(self, where: str) -> None:
        self._objects += 1
        if self._objects > MAX_DATASETS:
            raise InvalidModel("too many objects", where=where, allowed=MAX_DATASETS)

    def _link(self, data: bytes, where: str) -> tuple[bytes, int]:
        """(SPEC B.1-21) Name and address of a link message."""
        self._one_more(where)
        self.known(len(data) >= 2 and data[0] == 1 and not data[1] & ~0x1B, "another link message")
        flags, at = data[1], 2
        if flags & 8:
            if data[at : at + 1] != b"\0":
                raise InvalidModel("a soft or external link", where=where, cause="models hold hard links only")
            at += 1
        at += flags >> 4 & 1
        width = 1 << (flags & 3)
        size, at = int.from_bytes(data[at : at + width], "little"), at + width
        if size > MAX_PATH:
            raise InvalidModel("a path is too long", where=where, allowed=MAX_PATH)
        self.known(at + size + 8 <= len(data), "another link message")
        return data[at : at + size], int.from_bytes(data[at + size : at + size + 8], "little")

    def _table(self, data: bytes, where: str) -> Iterator[tuple[bytes, int]]:
        """(SPEC B.1-22) Links of a symbol table."""
        self.known(len(data) >= 16, "another symbol table")
        tree, heap_at = _PAIR.unpack(data[:16])
        heap = self.block(heap_at, 32)
        self.known(heap[:5] == b"HEAP\0", "another local heap")
        size, names = int.from_bytes(heap[8:16], "little"), int.from_bytes(heap[24:32], "little")
        self.inside(names, size)
        self.count(names, size)
        for _, node in old_tree(self, tree, 0, 8):
            head = self.take(node, 8)
            count = int.from_bytes(head[6:8], "little")
            self.known(head[:5] == b"SNOD\1" and count <= MAX_ENTRIES, "another node of symbols")
            for name, address, cache in _SYMBOL.iter_unpack(self.block(node, 8 + 40 * count)[8:]):
                self._one_more(where)
                if cache == 2:
                    raise InvalidModel("a soft or external link", where=where, cause="models hold hard links only")
                if name >= size:
                    raise InvalidModel("a name lies outside its heap", where=where)
                text, ended, _ = self.take(names + name, min(size - name, MAX_PATH + 1)).partition(b"\0")
                if not ended:
                    raise InvalidModel("a path is too long", where=where, allowed=MAX_PATH)
                yield text, address

    def _dense(self, data: bytes, where: str) -> Iterator[tuple[bytes, int]]:
        """(SPEC B.1-21) Links of a link info message."""
        self.known(len(data) >= 18 and data[:2] == b"\0\0", "another link info message")
        heap, names = _PAIR.unpack(data[2:18])
        if heap != NOWHERE:
            for message in heap_objects(self, heap, names, LINK_NAMES):
                yield self._link(message, where)

    def _dense_attributes(self, data: bytes, attributes: Attributes, where: str) -> None:
        """(SPEC B.1-25) Attributes of an attribute info message: of a root that has many."""
        self.known(len(data) >= 18 and data[0] == 0, "another attribute info message")
        at = 4 if data[1] & 1 else 2
        self.known(len(data) >= at + 16, "another attribute info message")
        heap, names = _PAIR.unpack_from(data, at)
        if heap != NOWHERE:
            for message in heap_objects(self, heap, names, ATTRIBUTE_NAMES):
                _take_attribute(message, attributes, where)


def _shape(data: bytes) -> tuple[int, ...] | None:
    """(SPEC B.1-23) Shape of a dataspace message; None for one that is neither scalar nor simple."""
    if len(data) < 4 or data[0] not in (1, 2) or data[2] & ~1 or (data[0] == 2 and data[3] > 1):
        return None
    begin, rank = (8, data[1]) if data[0] == 1 else (4, data[1] * data[3])
    if rank > _MAX_RANK or len(data) < begin + 8 * rank:
        return None
    return tuple(int.from_bytes(data[n : n + 8], "little") for n in range(begin, begin + 8 * rank, 8))


def _take_attribute(data: bytes, found: Attributes, where: str) -> None:
    """(SPEC B.1-25) Note an attribute that a model has: one text of fixed length, one integer, or None."""
    version = data[0] if len(data) >= 9 else 0
    if version not in (1, 3) or (version == 3 and data[1]):
        return
    start, pad = (8, 8) if version == 1 else (9, 1)
    sizes = [-(-int.from_bytes(data[at : at + 2], "little") // pad) * pad for at in (2, 4, 6)]
    kind_at, space_at, value_at = (start + sum(sizes[:n]) for n in (1, 2, 3))
    name, kind = data[start:kind_at].partition(b"\0")[0], data[kind_at:space_at]
    if name not in _WANTED:
        return
    if name.decode() in found:
        raise InvalidModel("two attributes have one name", where=where)
    size = int.from_bytes(kind[4:8], "little")
    value = data[value_at : value_at + size]
    found[name.decode()] = None
    if _shape(data[space_at:value_at]) != () or len(value) != size:
        return
    if kind[:1] == b"\x13" and size <= _ATTRIBUTE_BYTES and value.isascii():
        found[name.decode()] = value.rstrip(b"\0").decode()
    elif kind[:1] == b"\x10" and size in (1, 2, 4, 8) and kind[8:12] == bytes((0, 0, 8 * size, 0)):
        found[name.decode()] = int.from_bytes(value, "big" if kind[1] & 1 else "little", signed=bool(kind[1] & 8))


__all__ = ["MAX_DATASETS", "MAX_DEPTH", "MAX_PATH", "Hdf5"]
