"""Changes of a sound model file by structures of `raw_hdf5`: another root, another object, other links or storage."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from refcodec.model.file import MAX_PROVENANCE

from . import raw_hdf5 as raw
from .broken_models import BASE, configured, replaced, several
from .edits import Change, Patch
from .procedural import source
from .raw_hdf5 import NOWHERE, Appended, Message

Made = Callable[[Appended], int | dict[str, int]]
"""Puts structures into a file; the address of an object's header, or several by name."""

FORMATS, WIDTH = (133, 2), 4
"""Shape of `formats`, an array in one chunk in the root, and bytes of its numbers."""

PACKED = raw.filters((2, [WIDTH]), (1, [6]))
"""How `formats` is packed: shuffle and gzip."""

FIRST = 8
"""Bytes of `z/first`: two numbers, which are put where other structures have something that nobody looks at."""


def rooted(made: Callable[[Appended], bytes | list[Message]]) -> Patch:
    """Another root, from its header or its messages."""

    def patch(data: bytes) -> bytes:
        file = Appended(data)
        root = made(file)
        return file.finished(file.put(raw.header(*root) if isinstance(root, list) else root))

    return patch


def usual(file: Appended, **objects: int) -> list[Message]:
    """Messages of a root with the model's objects, of which some may be others."""
    return [*raw.links(file.children() | objects), *raw.model_attributes()]


def with_object(made: Made, name: str = "more", cut: int = 0) -> Patch:
    """One more object in the root, or another in the place of one.

    Parameters
    ----------
    made : callable
        Appends the object; returns its address, or addresses by name.
    name : str
    cut : int
        Bytes that are cut off the end of the file, where the object is.

    Returns
    -------
    Patch
    """

    def patch(data: bytes) -> bytes:
        file = Appended(data)
        root = file.put(bytes(1024))
        found = made(file)
        file.write(root, raw.header(*usual(file, **({name: found} if isinstance(found, int) else found))))
        whole = file.finished(root)
        return whole[: len(whole) - cut]

    return patch


def of_messages(*messages: Message) -> Patch:
    """One more object, of these messages."""
    return with_object(lambda file: file.put(raw.header(*messages)))


def root_header(flags: int, extra: bytes = b"") -> Patch:
    """A root whose header has these flags, and what they announce."""
    return rooted(lambda file: raw.header(*usual(file), flags=flags, extra=extra))


def array(shape: tuple[int, ...], layout: bytes, dtype: str = "float32") -> list[Message]:
    """The messages of an array.

    Parameters
    ----------
    shape : tuple of int
    layout : bytes
        The data layout message.
    dtype : str

    Returns
    -------
    list of Message
    """
    return [(raw.SPACE, raw.dataspace(shape)), (raw.TYPE, raw.datatype(dtype)), (raw.LAYOUT, layout)]


def float_of(*messages: Message) -> Patch:
    """An array `float/a` of these messages."""
    return with_object(lambda file: file.put(raw.header(*raw.links({"a": file.put(raw.header(*messages))}))), "float")


def floats(shape: tuple[int, ...], layout: bytes = raw.contiguous(NOWHERE, 0)) -> Patch:
    """Floats of a shape, which are not stored."""
    return float_of(*array(shape, layout))


def formats(
    packed: bytes | None = PACKED,
    tree: Callable[[Appended, int, int], bytes] | None = None,
    layout: Callable[[int], bytes] = lambda tree: raw.chunked(tree, FORMATS, WIDTH),
) -> Patch:
    """`formats` with other filters, node of its tree (from address and length of its chunk) or layout.

    Parameters
    ----------
    packed : bytes or None
        Its filter pipeline message, None for none.
    tree : callable or None
        Makes the node of its tree from address and length of its chunk.
    layout : callable
        Makes the data layout message from the address of the tree.

    Returns
    -------
    Patch
    """

    def made(file: Appended) -> int:
        at, size = file.numbers("formats"), file.chunk_bytes("formats")
        node = tree(file, at, size) if tree else one_chunk(at, size)
        more = [] if packed is None else [(raw.FILTERS, packed)]
        return file.put(raw.header(*array(FORMATS, layout(file.put(node)), "int32"), *more))

    return with_object(made, "formats")


def _room(node: bytes) -> bytes:
    """A node of chunks in two dimensions, as long as the library reads it."""
    return node.ljust(24 + 64 * (8 + 32) + 32, b"\0")


def one_chunk(at: int, size: int, kind: int = 1, level: int = 0) -> bytes:
    """The node of one chunk of `formats`.

    Parameters
    ----------
    at, size : int
        Address and stored bytes of the chunk.
    kind, level : int
        Of the node.

    Returns
    -------
    bytes
    """
    return _room(raw.tree_node(kind, level, [(raw.chunk_key(size, (0, 0)), at)], raw.chunk_key(0, (FORMATS[0], 0))))


def _unpacked(file: Appended, more: int) -> bytes:
    """The node of a chunk as it is, with more bytes than its numbers have."""
    numbers = np.asarray(source(BASE).content()["formats"], "<i4").tobytes() + bytes(more)
    return one_chunk(file.put(numbers), len(numbers))


def plain_formats(listed: bytes | None, more: int = 0) -> Patch:
    """`formats` without filters."""
    return formats(listed, lambda file, at, size: _unpacked(file, more))


def entries_of_65(file: Appended) -> Message:
    """A symbol table whose tree has 65 empty nodes."""
    heap = file.put(raw.local_heap([], file.put(b""))[0])
    nodes = [file.put(raw.symbol_node([])) for _ in range(65)]
    tree = file.put(raw.tree_node(0, 0, [(bytes(8), at) for at in nodes], bytes(8)))
    return raw.SYMBOLS, struct.pack("<QQ", tree, heap)


def bytes_at(at: int, new: bytes) -> Callable[[bytearray], Any]:
    """Other bytes in a structure, from this place."""
    return lambda part: part.__setitem__(slice(at, at + len(new)), new)


def several_bytes(*places: tuple[int, bytes]) -> Callable[[bytearray], Any]:
    """Other bytes in several places of a structure."""

    def change(part: bytearray) -> None:
        for at, new in places:
            part[at : at + len(new)] = new

    return change


def first_bytes(length: int) -> Callable[[bytearray], Any]:
    """A structure of its first bytes."""
    return lambda part: part.__delitem__(slice(length, None))


def empty(file: Appended) -> int:
    """A group without links."""
    return file.put(raw.header(raw.link_info()))


def groups(file: Appended, count: int) -> dict[str, int]:
    """So many empty groups by name."""
    return {f"{n:02}": empty(file) for n in range(count)}


def with_group(message: Callable[[Appended], Message], cut: int = 0) -> Patch:
    """A group whose header stands before what its message refers to."""

    def made(file: Appended) -> int:
        at = file.put(bytes(96))
        return file.write(at, raw.header(message(file)))

    return with_object(made, cut=cut)


def with_symbols(
    order: str = "heap node tree", cut: int = 0, room: int = 0, numbers: tuple[str, int] | None = None, **changes: Any
) -> Patch:
    """A group of one empty group in a symbol table, of which heap, node, tree or message is changed.

    The numbers of `z/first` may be said to be in one of these, at an offset.

    Parameters
    ----------
    order : str
        Of the structures in the file.
    cut : int
        Bytes that are cut off the end of the file.
    room : int
        Least size of the node.
    numbers : (str, int) or None
        Structure and offset at which the numbers of `z/first` are said to be.
    **changes : callable
        Change a structure in place.

    Returns
    -------
    Patch
    """

    def made(file: Appended) -> int | dict[str, int]:
        at, below = file.put(bytes(96)), empty(file)
        message = bytearray()

        def parts(places: dict[str, int]) -> dict[str, bytes]:
            heap, offsets = raw.local_heap(["a"], places["heap"])
            message.extend(struct.pack("<QQ", places["tree"], places["heap"]))
            return {
                "heap": heap,
                "node": raw.symbol_node([(offsets[0], below)]),
                "tree": raw.symbol_tree([(offsets[0], places["node"])]),
            }

        rooms = {"heap": 48 + room, "node": raw.SYMBOL_ROOM, "tree": raw.SYMBOL_TREE_ROOM}
        places = raw.laid_out(file, order.split(), rooms, parts, changes)
        changes.get("message", bytes_at(0, b""))(message)
        file.write(at, raw.header((raw.SYMBOLS, bytes(message))))
        return _first_at(file, at, places[numbers[0]] + numbers[1]) if numbers else at

    return with_object(made, cut=cut)


def with_heap(
    order: str = "heap block tree leaf", cut: int = 0, numbers: tuple[str, int] | None = None, **changes: Any
) -> Patch:
    """A group of one empty group in a fractal heap, of which heap, block, tree, leaf or message is changed.

    Parameters
    ----------
    order : str
        Of the structures in the file.
    cut : int
        Bytes that are cut off the end of the file.
    numbers : (str, int) or None
        Structure and offset at which the numbers of `z/first` are said to be.
    **changes : callable
        Change a structure in place.

    Returns
    -------
    Patch
    """

    def made(file: Appended) -> int | dict[str, int]:
        at = file.put(bytes(96))
        link = raw.link("a", empty(file))[1]
        places = raw.dense(file, {"a": link}, order=order.split(), **changes)
        kind, body = raw.link_info(places["heap"], places["tree"])
        message = bytearray(body)
        changes.get("message", bytes_at(0, b""))(message)
        file.write(at, raw.header((kind, bytes(message))))
        return _first_at(file, at, places[numbers[0]] + numbers[1]) if numbers else at

    return with_object(made, cut=cut)


def _first_at(file: Appended, more: int, at: int) -> dict[str, int]:
    """Objects of the root: `more`, and `z` whose `z/first` is where another structure is."""
    start = file.numbers("z/first")
    file.write(at, bytes(file.data[start : start + FIRST]))
    return {"more": more, "z": z_first_at(file, at)}


def z_first_at(file: Appended, at: int) -> int:
    """The group `z` whose `z/first` is at an address."""
    first = file.put(raw.header(*array((2,), raw.contiguous(at, FIRST), "int32")))
    return file.put(raw.header(*raw.links(file.children("z") | {"first": first})))


def first_in(more: Callable[[Appended], tuple[int, int]]) -> Patch:
    """The numbers of `z/first` inside another object, from the address of its header and theirs."""
    return with_object(lambda file: _first_at(file, *more(file)))


def timed(file: Appended) -> tuple[int, int]:
    """An empty group, and the times in its header."""
    at = file.put(raw.header(raw.link_info(), flags=0x21, extra=bytes(16)))
    return at, at + 6


def in_block(file: Appended) -> tuple[int, int]:
    """A message of nothing that has room for them."""
    at = file.put(raw.old_header(raw.link_info(), (0, bytes(8))))
    return at, at + 16 + 8 + 24 + 8


def in_superblock(data: bytes) -> bytes:
    """The end of the file that the superblock states, which nobody looks at, becomes the numbers."""
    file = Appended(data)
    objects = _first_at(file, empty(file), 28)
    numbers = bytes(file.data[28 : 28 + FIRST])
    whole = file.finished(file.put(raw.header(*usual(file, **objects))))
    return raw.sealed(whole[:28] + numbers + whole[36:44]) + whole[48:]


def at_the_end(file: Appended) -> dict[str, int]:
    """The numbers begin with the last filled byte of a node of a tree, which belongs to a key."""
    heap, offsets = raw.local_heap(["a"], file.put(b""))
    heap_at, below = file.put(heap), empty(file)
    node = file.put(raw.symbol_node([(offsets[0], below)]).ljust(raw.SYMBOL_ROOM, b"\0"))
    tree = file.put(raw.symbol_tree([(offsets[0], node)]))
    more = file.put(raw.header((raw.SYMBOLS, struct.pack("<QQ", tree, heap_at))))
    return _first_at(file, more, tree + 24 + 8 + 8 + 8 - 1)


def continued(count: int) -> Patch:
    """A group whose header has so many continuation blocks of no bytes, and a file that has as many bytes to spare."""

    def made(file: Appended) -> int:
        file.put(bytes(8192))
        return file.put(raw.old_header(*[raw.continuation(64, 0)] * count, raw.link_info()))

    return with_object(made)


def continued_in(make: Callable[[Appended], tuple[int, int]]) -> Patch:
    """A group whose header of version 1 continues elsewhere."""

    def made(file: Appended) -> int:
        at = file.put(bytes(96))
        return file.write(at, raw.old_header(raw.link_info(), raw.continuation(*make(file))))

    return with_object(made)


def continued_again(signature: bytes) -> Patch:
    """A group whose header of version 2 continues in a block with this signature."""

    def made(file: Appended) -> int:
        body = raw.link_info()[1]
        block = signature + struct.pack("<BHB", raw.LINK_INFO, len(body), 0) + body
        place = file.put(raw.sealed(block))
        return file.put(raw.header(raw.continuation(place, len(block) + 4)))

    return with_object(made)


def shared_block(file: Appended) -> dict[str, int]:
    """Two groups whose headers continue in one block."""
    block = raw.old_messages(raw.link_info())
    at = file.put(block)
    return {name: file.put(raw.old_header(raw.continuation(at, len(block)))) for name in ("more", "other")}


def shared_signature(file: Appended) -> dict[str, int]:
    """Two groups whose headers continue in one block, which has a signature and no messages."""
    at = file.put(raw.sealed(b"OCHK"))
    return {name: file.put(raw.header(raw.link_info(), raw.continuation(at, 8))) for name in ("more", "other")}


def linked(change: Callable[[bytes], bytes] = lambda body: body, **how: int) -> Patch:
    """A group with a link message to an empty group, written in some way."""

    def made(file: Appended) -> int:
        kind, body = raw.link("a", empty(file), **how)
        return file.put(raw.header(raw.link_info(), (kind, change(body))))

    return with_object(made)


def two_links(file: Appended) -> int:
    """Two groups under one name."""
    return file.put(raw.header(raw.link_info(), raw.link("a", empty(file)), raw.link("a", empty(file))))


def table_and_info(file: Appended) -> int:
    """A group with tables of links of two kinds."""
    message = raw.symbol_table(file, {"a": empty(file)})
    return file.put(raw.header(raw.link_info(), message))


def dense_attributes(ordered: bool = False, more: dict[str, bytes] | None = None, size: int = 512) -> Patch:
    """A root whose attributes are in a fractal heap.

    Parameters
    ----------
    ordered : bool
        There is a creation index.
    more : dict of str to bytes or None
        Further attributes.
    size : int
        Bytes of the heap's block.

    Returns
    -------
    Patch
    """

    def made(file: Appended) -> list[Message]:
        objects = {n: m for n, (_, m) in zip(("format", "version"), raw.model_attributes(), strict=True)}
        places = raw.dense(file, objects | (more or {}), attributes=True, size=size)
        return [*raw.links(file.children()), raw.attribute_info(places["heap"], places["tree"], ordered)]

    return rooted(made)


def long_attribute(size: int) -> Patch:
    """A root with an attribute message of so many bytes in a heap."""
    head = raw.attribute("more", raw.text_type(0), b"")[1]
    value = bytes(size - len(head))
    return dense_attributes(more={"more": raw.attribute("more", raw.text_type(len(value)), value)[1]}, size=1 << 17)


_NODE, _POINTERS = 64, (9, 10, 10, 10, 11, 11, 11)
"""Bytes of a node of a deep tree of version 2, and of its pointers at depths 1 to 7."""


def deep_tree(shared: bool) -> Callable[[Appended], Message]:
    """A link info message of a tree of version 2 of depth 7, whose root may have one node below it twice."""

    def node(depth: int, below: list[int], records: bytes = b"") -> bytes:
        pointers = b"".join(struct.pack("<Q", at).ljust(_POINTERS[depth - 1], b"\0") for at in below)
        return raw.sealed(b"BTIN\0\5" + records + pointers).ljust(_NODE, b"\0")

    def chain(file: Appended) -> int:
        at = file.put(raw.sealed(b"BTLF\0\5").ljust(_NODE, b"\0"))
        for depth in range(1, 7):
            at = file.put(node(depth, [at]))
        return at

    def made(file: Appended) -> Message:
        link = raw.link("a", empty(file))[1]
        heap = raw.dense(file, {"a": link})["heap"]
        first = chain(file)
        below = [first, first if shared else chain(file)]
        root = file.put(node(7, below, raw.heap_object("a", 17, len(link), False)))
        return raw.link_info(heap, file.put(raw.sealed(raw.tree_header(5, root, 1, 7, _NODE))))

    return made


def node_tree(levels: int, below: int) -> Callable[[Appended], Message]:
    """A symbol table whose tree has so many levels, and in each node so many pointers to one node."""

    def made(file: Appended) -> Message:
        heap = file.put(raw.local_heap([], file.put(b""))[0])
        at = file.put(raw.symbol_node([]).ljust(raw.SYMBOL_ROOM, b"\0"))
        for level in range(levels):
            at = file.put(raw.tree_node(0, level, [(bytes(8), at)] * below, bytes(8)))
        return raw.SYMBOLS, struct.pack("<QQ", at, heap)

    return made


def last_node(file: Appended) -> int:
    """A symbol table whose node is the end of the file, without symbols."""
    at, tree = file.put(bytes(96)), file.put(bytes(raw.SYMBOL_TREE_ROOM))
    heap = file.put(raw.local_heap([], file.put(b""))[0])
    file.write(tree, raw.symbol_tree([(0, file.put(raw.symbol_node([])))]))
    return file.write(at, raw.header((raw.SYMBOLS, struct.pack("<QQ", tree, heap))))


def doubled(other: tuple[int, int]) -> Callable[[Appended, int, int], bytes]:
    """A tree with the chunk and another entry, which is at a place where there is none."""

    def node(file: Appended, at: int, size: int) -> bytes:
        more = file.put(bytes(file.data[at : at + size]))
        entries = [(raw.chunk_key(size, place), address) for place, address in (((0, 0), at), (other, more))]
        return _room(raw.tree_node(1, 0, entries, raw.chunk_key(0, (2 * FORMATS[0], 0))))

    return node


def in_indirect(nested: bool, numbers: bool = False) -> Patch:
    """A group whose fractal heap has indirect blocks: a link in the last block, or two in nested ones."""

    def made(file: Appended) -> int | dict[str, int]:
        at, names = file.put(bytes(96)), ("a", "b") if nested else ("a",)
        links = [raw.link(name, empty(file))[1] for name in names]
        size, heap = 64 if nested else 512, file.put(bytes(146))
        blocks = [file.put((b"FHDB\0" + struct.pack("<QI", heap, 0) + link).ljust(size, b"\0")) for link in links]

        def indirect(*below: int) -> int:
            return file.put(raw.sealed(b"FHIB\0" + struct.pack(f"<QI{len(below)}Q", heap, 0, *below)))

        if nested:  # one column, whose rows have 64, 64, 128 and 256 bytes
            root = indirect(NOWHERE, NOWHERE, indirect(blocks[0], NOWHERE), indirect(NOWHERE, blocks[1], NOWHERE))
            columns, rows = 1, 4
        else:
            root, columns, rows = indirect(NOWHERE, NOWHERE, NOWHERE, blocks[0]), 4, 1
        begins = (128, 256 + 64) if nested else (3 * 512,)
        head = bytearray(raw.heap_header(root, False, size))
        head[110:] = struct.pack("<HQQHHQH", columns, size, size, 32, rows, root, rows)
        file.write(heap, raw.sealed(head))
        records = [
            raw.heap_object(name, begin + 17, len(link), False)
            for name, begin, link in zip(names, begins, links, strict=True)
        ]
        leaf = file.put(raw.sealed(b"BTLF\0\5" + b"".join(sorted(records))).ljust(512, b"\0"))
        tree = file.put(raw.sealed(raw.tree_header(5, leaf, len(records))))
        file.write(at, raw.header(raw.link_info(heap, tree)))
        return _first_at(file, at, root + 5) if numbers else at

    return with_object(made)


def of_depth_1(node: int) -> Callable[[Appended], Message]:
    """A link info message of three links, whose tree of version 2 has nodes of so many bytes and depth 1."""

    def made(file: Appended) -> Message:
        links = {name: raw.link(name, empty(file))[1] for name in "abc"}
        heap = raw.dense(file, links)["heap"]
        low, middle, high = sorted(
            raw.heap_object(name, 17 + n * len(link), len(link), False) for n, (name, link) in enumerate(links.items())
        )
        leaves = [file.put(raw.sealed(b"BTLF\0\5" + record).ljust(node, b"\0")) for record in (low, high)]
        inner = b"BTIN\0\5" + middle + b"".join(struct.pack("<QB", at, 1) for at in leaves)
        root = file.put(raw.sealed(inner).ljust(node, b"\0"))
        return raw.link_info(heap, file.put(raw.sealed(raw.tree_header(5, root, 1, 1, node, 3))))

    return made


def more_attributes(size: int, **changes: Any) -> Patch:
    """A root with one more attribute, in a heap, of which a structure is changed."""

    def made(file: Appended) -> list[Message]:
        value = raw.attribute("more", raw.text_type(size), bytes(size))[1]
        places = raw.dense(file, {"more": value}, attributes=True, **changes)
        return [*usual(file), raw.attribute_info(places["heap"], places["tree"])]

    return rooted(made)


def chunk_in_header(file: Appended) -> int:
    """`formats` whose chunk is inside an empty message of the same header."""
    start, size = file.numbers("formats"), file.chunk_bytes("formats")
    node = file.put(one_chunk(0, size))
    at = file.put(b"")
    file.write(node, one_chunk(at + 12, size))
    nothing = (0, bytes(file.data[start : start + size]))
    layout = raw.chunked(node, FORMATS, WIDTH)
    return file.put(raw.header(nothing, *array(FORMATS, layout, "int32"), (raw.FILTERS, PACKED)))


_LARGE = "layers/h_s/1/weight"
"""An array of two bytes per number, which may be large."""


def stored_as(path: str, **how: Any) -> Change:
    """An array stored in another way."""
    return lambda f: replaced(f, path, f[path][()], **how)


def compact(path: str) -> Change:
    """An array of int16 in compact storage."""

    def change(f: h5py.File) -> None:
        array, properties = f[path][()], h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        del f[path]
        space, dtype = h5py.h5s.create_simple(array.shape), h5py.h5t.STD_I16LE
        h5py.h5d.create(f.id, path.encode(), dtype, space, properties).write(h5py.h5s.ALL, h5py.h5s.ALL, array)

    return change


def long_provenance(f: h5py.File) -> None:
    """The longest provenance, deflated."""
    text = np.frombuffer(b"{}".ljust(MAX_PROVENANCE), np.uint8)
    replaced(f, "provenance", text, chunks=text.shape, compression="gzip", compression_opts=9)


def _deflated(f: h5py.File, path: str, array: np.ndarray, chunk: int) -> None:
    """An array in chunks of so many of its first dimension."""
    replaced(f, path, array, chunks=(chunk, *array.shape[1:]), compression="gzip", compression_opts=9, shuffle=True)


def long_tables(tables: int) -> Change:
    """The longest tables of z for 16 channels, in chunks of so many tables."""

    def change(f: h5py.File) -> None:
        _deflated(f, "z/cdf", np.tile(np.arange(65537, dtype=np.int32), 16), 65537 * tables)
        replaced(f, "z/start", np.arange(17, dtype=np.int32) * 65537)
        replaced(f, "z/first", np.full(16, -32767, np.int32))

    return several(configured(hyper=16), change)


def large_weights(f: h5py.File) -> None:
    """Weights of 0 and 1, shuffled, in one chunk."""
    shape = f[_LARGE].shape
    _deflated(f, _LARGE, (np.arange(np.prod(shape)) % 2).reshape(shape).astype(np.int16), shape[0])
