"""Model files of structures that no library writes (SPEC B.1-19 to B.1-26), sound and not.

Sound files use what the format allows and writers seldom do. In the others one field, length, address or type is wrong,
or two structures share bytes, where a careless reader still finds the model.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import h5py

from refcodec.model.file import MAX_FLOATS

from . import raw_hdf5 as raw
from .broken_models import BASE, configured, kind, several
from .edits import Change, Edited, Patch
from .procedural import edited_model
from .raw_hdf5 import NOWHERE
from .raw_parts import (
    FORMATS,
    PACKED,
    WIDTH,
    array,
    at_the_end,
    bytes_at,
    chunk_in_header,
    compact,
    continued,
    continued_again,
    continued_in,
    deep_tree,
    dense_attributes,
    doubled,
    empty,
    entries_of_65,
    first_bytes,
    first_in,
    float_of,
    floats,
    formats,
    groups,
    in_block,
    in_indirect,
    in_superblock,
    large_weights,
    last_node,
    linked,
    long_attribute,
    long_provenance,
    long_tables,
    more_attributes,
    node_tree,
    of_depth_1,
    of_messages,
    one_chunk,
    plain_formats,
    root_header,
    rooted,
    several_bytes,
    shared_block,
    shared_signature,
    stored_as,
    table_and_info,
    timed,
    two_links,
    usual,
    with_group,
    with_heap,
    with_object,
    with_symbols,
    z_first_at,
)


def _nothing(f: h5py.File) -> None:
    """No change but that of the file's bytes."""


def _same(name: str, clauses: str, says: str, patch: Patch | None, change: Change = _nothing) -> Edited:
    return replace(kind("file-", "", sound=True, same=True)(name, clauses, says, change), patch=patch)


def _fault(name: str, clauses: str, says: str, patch: Patch) -> Edited:
    return replace(kind("file-", "")(name, clauses, says, _nothing), same=True, patch=patch)


_VERSION = raw.model_attributes()[1]
_ATTRIBUTES_V1 = rooted(lambda file: [*raw.links(file.children()), *raw.model_attributes(1)])

_own = kind("file-", "", sound=True)

LARGE = [
    _own(
        "shuffled-2-21",
        "B.1-9",
        "2^20 and more shuffled numbers of int16 in one chunk",
        several(configured(hs=(176, 2)), large_weights),
    ),
    _own("chunks-2-21", "B.1-10", "two chunks of more than 2^21 bytes", long_tables(8)),
    _own("chunk-2-22", "B.1-10", "more than 2^22 bytes in one chunk", long_tables(16)),
]
"""Sound files of other content: arrays so large that their storage has other bounds."""

SOUND = [
    _same("header-times", "B.1-20", "times in its root's header", root_header(0x21, bytes(16))),
    _same(
        "header-phase-change", "B.1-20", "phase change values in the root's header", root_header(0x11, b"\x08\0\6\0")
    ),
    _same("header-attribute-order", "B.1-20", "attributes of the root in an order that is tracked", root_header(0x05)),
    _same("header-length-of-4-bytes", "B.1-20", "a length of 4 bytes in the root's header", root_header(0x02)),
    _same("continuations-4096", "B.1-20 B.1-26", "a header of 4096 continuation blocks without bytes", continued(4096)),
    _same("continuation-anew", "B.1-20", "a header of version 2 with a continuation block", continued_again(b"OCHK")),
    _same("link-with-type", "B.1-21", "a link message that states its type", linked(flags=8)),
    _same("link-with-character-set", "B.1-21", "a link message with a character set", linked(flags=16)),
    _same(
        "link-with-both", "B.1-21", "a link message with type, character set and a length of 8 bytes", linked(flags=27)
    ),
    _same("name-of-512-bytes", "B.1-16", "a group in the root with a name of 512 bytes", with_object(empty, "n" * 512)),
    _same("tree-2-of-depth-7", "B.1-21", "a tree of version 2 of depth 7", with_group(deep_tree(False))),
    _same(
        "symbols-in-9-nodes",
        "B.1-22",
        "a symbol table of nine nodes of symbols",
        with_object(lambda file: file.put(raw.header(raw.symbol_table(file, groups(file, 9), in_node=1)))),
    ),
    _same(
        "symbols-of-two-levels",
        "B.1-22",
        "a symbol table whose tree has two levels",
        with_object(lambda file: file.put(raw.header(raw.symbol_table(file, groups(file, 7), in_node=1, levels=2)))),
    ),
    _same(
        "symbols-of-level-7",
        "B.1-22",
        "a symbol table whose tree begins at level 7",
        with_object(lambda file: file.put(raw.header(raw.symbol_table(file, groups(file, 1), levels=8)))),
    ),
    _same("symbols-none-at-the-end", "B.1-22", "a node without symbols at the end of the file", with_object(last_node)),
    _same("heap-of-1-column", "B.1-21", "a fractal heap of one column", with_heap(heap=bytes_at(110, b"\1\0"))),
    _same("heap-of-1024-columns", "B.1-21", "a fractal heap of 1024 columns", with_heap(heap=bytes_at(110, b"\0\4"))),
    _same(
        "heap-of-large-blocks",
        "B.1-21",
        "a fractal heap whose blocks may have 2^31 bytes",
        with_heap(heap=bytes_at(120, struct.pack("<Q", 1 << 31))),
    ),
    _same(
        "heap-of-33-bits",
        "B.1-21",
        "a fractal heap whose offsets have 33 bits",
        with_heap(heap=bytes_at(128, b"\x21\0"), leaf=bytes_at(15, b"\0\x0c")),
    ),
    _same("heap-indirect", "B.1-21", "a heap that uses the last entry of an indirect block", in_indirect(False)),
    _same("heap-nested", "B.1-21", "a heap that uses two indirect blocks below another", in_indirect(True)),
    _same(
        "tree-2-nodes-of-64",
        "B.1-21",
        "depth 1, nodes of 64 bytes",
        with_group(of_depth_1(64)),
    ),
    _same(
        "tree-2-nodes-of-1024",
        "B.1-21",
        "depth 1, nodes of 1024 bytes",
        with_group(of_depth_1(1024)),
    ),
    _same(
        "tree-2-nodes-of-2825",
        "B.1-21",
        "depth 1, nodes of 2825 bytes",
        with_group(of_depth_1(2825)),
    ),
    _same("dimensions-32", "B.1-23", "floats of 32 dimensions", floats((1,) * 32)),
    _same(
        "floats-2-24",
        "B.1-4 B.1-28",
        "2^24 floats, none of them there",
        None,
        lambda f: f.create_dataset("float/a", (MAX_FLOATS,), "<f4"),
    ),
    _same("provenance-2-20", "B.1-3", "provenance of 2^20 bytes", None, long_provenance),
    _same("chunks-2", "B.1-10 B.1-24", "an array in two chunks", None, stored_as("tables/gelu_q4", chunks=(19,))),
    _same(
        "chunks-64",
        "B.1-22 B.1-24",
        "64 chunks in one node of a tree",
        None,
        stored_as("tables/scale_thresholds", chunks=(2,)),
    ),
    _same(
        "chunks-79", "B.1-24", "79 chunks in a tree of two levels", None, stored_as("tables/half_tanh_q5", chunks=(1,))
    ),
    _same("compact-4964-bytes", "B.1-24", "4964 bytes in compact storage", None, compact("tables/half_tanh_q10")),
    _same(
        "filters-with-names",
        "B.1-24",
        "filters of version 1 with a name of 16 bytes",
        formats(raw.filters((2, [WIDTH]), (1, [6]), version=1, name=16)),
    ),
    _same(
        "filters-of-256-bytes",
        "B.1-24",
        "filters of version 1 that end with byte 256 of their message",
        formats(raw.filters((2, [WIDTH]), (1, [6]), version=1, name=216)),
    ),
    _same(
        "filters-none-1",
        "B.1-24",
        "a filter message of version 1 that lists none",
        plain_formats(raw.filters(version=1)),
    ),
    _same("filters-none-2", "B.1-24", "a filter message of version 2 that lists none", plain_formats(raw.filters())),
    _same("attributes-1", "B.1-25", "attributes in messages of version 1", _ATTRIBUTES_V1),
    _same("attributes-ordered", "B.1-25", "attributes in a heap that keeps their order", dense_attributes(True)),
    _same("attribute-2-16", "B.1-21 B.1-25", "an attribute of 2^16 bytes in a heap", long_attribute(1 << 16)),
    _same(
        "attribute-info-ordered",
        "B.1-25",
        "an attribute info message with a creation index and without a heap",
        rooted(lambda file: [*usual(file), raw.attribute_info(ordered=True)]),
    ),
]

FAULTS = [
    _fault("signature", "B.1-19", "another signature in one bit", lambda data: data[:4] + b"\n" + data[5:]),
    _fault("cut-in-superblock", "B.1-19", "the first 47 bytes of a file", lambda data: data[:47]),
    _fault(
        "header-flag-6",
        "B.1-20",
        "a group whose header has a reserved flag",
        with_object(lambda file: file.put(raw.header(raw.link_info(), flags=0x40))),
    ),
    _fault(
        "header-version-0",
        "B.1-20",
        "a group whose header has version 0",
        with_object(lambda file: file.put(b"\0" + raw.old_header(raw.link_info())[1:])),
    ),
    _fault(
        "header-version-3",
        "B.1-20",
        "a group whose header has version 3",
        with_object(lambda file: file.put(raw.sealed(raw.header(raw.link_info())[:-4].replace(b"OHDR\2", b"OHDR\3")))),
    ),
    _fault("continuations-4097", "B.1-20", "a header of 4097 continuation blocks without bytes", continued(4097)),
    _fault(
        "continuation-of-8-bytes",
        "B.1-20",
        "a continuation message of 8 bytes",
        of_messages((raw.CONTINUATION, bytes(8)), raw.link_info()),
    ),
    _fault("continuation-unsigned", "B.1-20", "a continuation block without its signature", continued_again(b"OCHX")),
    _fault(
        "continuation-outside",
        "B.1-20",
        "a continuation block of 4 bytes behind the end of the file",
        continued_in(lambda file: (2 * len(file.data) + 65536, 4)),
    ),
    _fault("continuation-shared", "B.1-26", "two headers that continue in one block", with_object(shared_block)),
    _fault(
        "continuation-empty-shared",
        "B.1-26",
        "two headers that continue in one block without messages",
        with_object(shared_signature),
    ),
    _fault("link-flag-5", "B.1-21", "a link message with a reserved flag", linked(lambda body: b"\1\x20" + body[2:])),
    _fault("link-version-2", "B.1-21", "a link message of version 2", linked(lambda body: b"\2" + body[1:])),
    _fault("link-soft-to-an-address", "B.1-5", "a soft link that ends like a hard one", linked(flags=8, kind=1)),
    _fault("link-of-type-64", "B.1-5", "an external link that ends like a hard one", linked(flags=8, kind=64)),
    _fault(
        "link-short",
        "B.1-21",
        "a link message that lacks the last byte of its address",
        linked(lambda body: body[:-1]),
    ),
    _fault("links-of-one-name", "B.1-16", "two groups under one name", with_object(two_links)),
    _fault("tables-two", "B.1-7", "a group with two link info messages", of_messages(raw.link_info(), raw.link_info())),
    _fault(
        "tables-of-two-kinds",
        "B.1-7",
        "a group with a link info and a symbol table message",
        with_object(table_and_info),
    ),
    _fault(
        "link-info-version-1",
        "B.1-21",
        "a link info message of version 1",
        of_messages((raw.LINK_INFO, b"\1" + raw.link_info()[1][1:])),
    ),
    _fault(
        "link-info-short",
        "B.1-21",
        "a link info message of 17 bytes",
        of_messages((raw.LINK_INFO, raw.link_info()[1][:17])),
    ),
    _fault("dimensions-2-60", "B.1-23", "floats of the dimensions 0 and 2^60", floats((0, 1 << 60))),
    _fault("dimensions-33", "B.1-23", "floats of 33 dimensions", floats((1,) * 33)),
    _fault("dimensions-8", "B.1-4", "2^25 floats, the last of eight dimensions", floats((1,) * 7 + (1 << 25,))),
    _fault(
        "dataspace-cut",
        "B.1-23",
        "a dataspace message of 4 bytes that has one dimension",
        float_of(
            (raw.SPACE, raw.dataspace((3,))[:4]),
            (0, bytes(8)),
            (raw.LAYOUT, raw.contiguous(NOWHERE, 0)),
            (raw.TYPE, raw.datatype("float32")),
        ),
    ),
    _fault(
        "datatypes-alike",
        "B.1-7",
        "an array with its datatype message twice",
        float_of(*array((3,), raw.contiguous(NOWHERE, 0)), (raw.TYPE, raw.datatype("float32"))),
    ),
    _fault("compact-3-bytes", "B.1-24", "a compact layout message of 3 bytes", floats((0,), b"\3\0\0")),
    _fault(
        "contiguous-17-bytes",
        "B.1-24",
        "a contiguous layout message of 17 bytes",
        floats((3,), raw.contiguous(0, 12)[:17]),
    ),
    _fault("symbols-15-bytes", "B.1-22", "a symbol table message of 15 bytes", with_symbols(message=first_bytes(15))),
    _fault(
        "symbols-soft",
        "B.1-5",
        "a symbol of a soft link with the address of a group",
        with_symbols(node=bytes_at(24, b"\2")),
    ),
    _fault(
        "symbols-256-more",
        "B.1-22",
        "a node of symbols that counts 256 too many",
        with_symbols(node=bytes_at(7, b"\1")),
    ),
    _fault("symbols-version-2", "B.1-22", "a node of symbols of version 2", with_symbols(node=bytes_at(4, b"\2"))),
    _fault("names-far", "B.1-22", "an address of names that is 2^56 too great", with_symbols(heap=bytes_at(31, b"\1"))),
    _fault(
        "names-beyond-the-end",
        "B.1-22 B.1-26",
        "a heap of names that ends behind the file",
        with_symbols("node tree heap", room=600, heap=bytes_at(8, struct.pack("<Q", 624))),
    ),
    _fault(
        "name-without-end",
        "B.1-22",
        "a name that ends behind its heap",
        with_symbols(heap=bytes_at(8, struct.pack("<Q", 9))),
    ),
    _fault("names-version-1", "B.1-22", "a heap of names of version 1", with_symbols(heap=bytes_at(4, b"\1"))),
    _fault(
        "tree-of-chunks-for-symbols",
        "B.1-22",
        "a tree of chunks in place of one of symbols",
        with_symbols(tree=bytes_at(4, b"\1")),
    ),
    _fault(
        "tree-level-8",
        "B.1-22",
        "a symbol table whose tree begins at level 8",
        with_object(lambda file: file.put(raw.header(raw.symbol_table(file, groups(file, 1), levels=9)))),
    ),
    _fault("tree-unsigned", "B.1-22", "a node of a tree without its signature", with_symbols(tree=bytes_at(3, b"X"))),
    _fault("tree-of-65", "B.1-22", "a node of a tree that counts 65 entries", with_group(entries_of_65)),
    _fault("trees-to-one-node", "B.1-26", "two pointers of a tree to one node below it", with_group(node_tree(2, 2))),
    _fault(
        "nodes-shared", "B.1-26", "two pointers of a tree to one empty node of symbols", with_group(node_tree(1, 2))
    ),
    _fault("tree-without-end", "B.1-26", "a tree of 64^7 ways to one node of symbols", with_group(node_tree(7, 64))),
    _fault("tree-2-shared", "B.1-26", "two pointers of a tree of version 2 to one node", with_group(deep_tree(True))),
    _fault(
        "tree-2-of-links-for-attributes",
        "B.1-21",
        "a tree of attributes in place of one of links",
        with_heap(tree=bytes_at(5, b"\x08")),
    ),
    _fault(
        "tree-2-node-long",
        "B.1-21",
        "nodes of 2^16 + 1 bytes in a tree of version 2",
        with_heap(tree=bytes_at(6, struct.pack("<I", 65537))),
    ),
    _fault("heap-filters", "B.1-21", "a fractal heap with filters", with_heap(heap=bytes_at(7, b"\1"))),
    _fault("heap-without-columns", "B.1-21", "a fractal heap without columns", with_heap(heap=bytes_at(110, b"\0\0"))),
    _fault("heap-of-1025-columns", "B.1-21", "a fractal heap of 1025 columns", with_heap(heap=bytes_at(110, b"\1\4"))),
    _fault(
        "heap-of-larger-blocks",
        "B.1-21",
        "a fractal heap whose blocks may have 2^32 bytes",
        with_heap(heap=bytes_at(120, struct.pack("<Q", 1 << 32))),
    ),
    _fault(
        "heap-objects-of-one-place",
        "B.1-26",
        "two objects of a heap that have the same bytes",
        more_attributes(300, tree=bytes_at(24, b"\2\0"), leaf=lambda part: part.extend(part[6:23])),
    ),
    _fault(
        "tree-2-of-depth-8",
        "B.1-21",
        "a tree of version 2 without records that states depth 8",
        more_attributes(300, tree=several_bytes((12, b"\x08"), (24, b"\0\0"))),
    ),
    _fault("heap-block-unsigned", "B.1-21", "a direct block without its signature", with_heap(block=bytes_at(3, b"X"))),
    _fault(
        "heap-object-outside",
        "B.1-21",
        "a link that ends behind its heap",
        with_heap(leaf=bytes_at(6 + 4 + 5, b"\0\2")),
    ),
    _fault("attribute-2-16-and-1", "B.1-21", "an attribute of 2^16 + 1 bytes in a heap", long_attribute((1 << 16) + 1)),
    _fault(
        "attribute-info-18-bytes",
        "B.1-25",
        "an attribute info message of 18 bytes with a creation index",
        rooted(lambda file: [*usual(file), (raw.ATTRIBUTE_INFO, raw.attribute_info(ordered=True)[1][:18])]),
    ),
    _fault("versions-alike", "B.1-17", "two attributes version of 1", rooted(lambda file: [*usual(file), _VERSION])),
    _fault(
        "chunks-short",
        "B.1-24",
        "a layout message of chunks that lacks its last byte",
        formats(layout=lambda tree: raw.chunked(tree, FORMATS, WIDTH)[:-1]),
    ),
    _fault(
        "chunks-far",
        "B.1-24",
        "an address of a tree of chunks that is 2^56 too great",
        formats(layout=lambda tree: raw.chunked(tree + (1 << 56), FORMATS, WIDTH)),
    ),
    _fault("chunk-behind", "B.1-15", "a second chunk behind the array's end", formats(tree=doubled((FORMATS[0], 0)))),
    _fault(
        "chunk-off-the-grid",
        "B.1-15",
        "a second chunk between the places of chunks",
        formats(tree=doubled((1, 0))),
    ),
    _fault("chunk-again", "B.1-15", "a second chunk at the place of the first", formats(tree=doubled((0, 0)))),
    _fault(
        "chunk-two-bytes-more",
        "B.1-15",
        "a chunk without gzip and two bytes behind its numbers",
        plain_formats(None, 2),
    ),
    _fault(
        "tree-of-symbols-for-chunks",
        "B.1-24",
        "a tree of symbols in place of one of chunks",
        formats(tree=lambda file, at, size: one_chunk(at, size, kind=0)),
    ),
    _fault(
        "chunks-level-1",
        "B.1-24",
        "a chunk in a node of level 1",
        formats(tree=lambda file, at, size: one_chunk(at, size, level=1)),
    ),
    _fault("filters-version-3", "B.1-24", "filters of version 3", formats(b"\3" + PACKED[1:])),
    _fault("filters-version-0", "B.1-24", "filters of version 0", formats(b"\0" + PACKED[1:])),
    _fault("filters-cut", "B.1-24", "a filter message that ends in its second filter", formats(PACKED[:-7])),
    _fault(
        "filters-without-values",
        "B.1-24",
        "a filter message that ends before the value of gzip",
        formats(PACKED[:-4]),
    ),
    _fault(
        "filters-7-bytes",
        "B.1-24",
        "a filter message of version 1 of 7 bytes that lists none",
        plain_formats(raw.filters(version=1)[:7]),
    ),
    _fault(
        "filters-late",
        "B.1-24",
        "filters that end behind byte 256 of their message",
        formats(raw.filters((2, [WIDTH]), (1, [6]), version=1, name=224)),
    ),
    _fault(
        "numbers-far",
        "B.1-8",
        "numbers at an address of 2^63",
        with_object(lambda file: z_first_at(file, 1 << 63), "z"),
    ),
    _fault("shared-with-superblock", "B.1-26", "numbers inside the superblock", in_superblock),
    _fault("shared-with-times", "B.1-26", "numbers inside the times of an object header", first_in(timed)),
    _fault("shared-with-message", "B.1-26", "numbers inside a message of an object header", first_in(in_block)),
    _fault("shared-with-names", "B.1-26", "numbers inside a heap of names", with_symbols(numbers=("heap", 32))),
    _fault(
        "shared-with-heap-of-names",
        "B.1-26",
        "numbers inside the head of a heap of names",
        with_symbols(numbers=("heap", 16)),
    ),
    _fault("shared-with-tree", "B.1-26", "numbers inside a node of a tree", with_symbols(numbers=("tree", 24))),
    _fault(
        "shared-with-last-key",
        "B.1-26",
        "numbers that begin in the last byte of a node of a tree",
        with_object(at_the_end),
    ),
    _fault("shared-with-symbols", "B.1-26", "numbers inside a node of symbols", with_symbols(numbers=("node", 32))),
    _fault(
        "shared-with-fractal-heap",
        "B.1-26",
        "numbers inside the header of a fractal heap",
        with_heap(numbers=("heap", 14)),
    ),
    _fault(
        "shared-with-block", "B.1-26", "numbers inside a block of a fractal heap", with_heap(numbers=("block", 480))
    ),
    _fault("shared-with-indirect", "B.1-26", "numbers inside an indirect block", in_indirect(False, numbers=True)),
    _fault("shared-chunk", "B.1-26", "a chunk inside an object header", with_object(chunk_in_header, "formats")),
    _fault(
        "shared-with-tree-2",
        "B.1-26",
        "numbers inside the node of a tree of version 2",
        with_heap(numbers=("leaf", 480)),
    ),
    _fault("cut-in-header", "B.1-20", "a file that ends in an object header", with_object(empty, cut=14)),
    _fault(
        "cut-in-old-header",
        "B.1-20",
        "a file that ends in an object header of version 1",
        with_object(lambda file: file.put(raw.old_header(raw.link_info())), cut=36),
    ),
    _fault("cut-in-names", "B.1-22", "a file that ends in a heap of names", with_symbols("node tree heap", cut=24)),
    _fault(
        "cut-in-symbols",
        "B.1-22",
        "a file that ends in a node of symbols",
        with_symbols("heap tree node", cut=raw.SYMBOL_ROOM - 40),
    ),
    _fault(
        "cut-in-symbols-head",
        "B.1-22",
        "a file that ends in the head of a node of symbols",
        with_symbols("heap tree node", cut=raw.SYMBOL_ROOM - 5),
    ),
    _fault(
        "cut-in-tree", "B.1-22", "a file that ends in a node of a tree", with_symbols(cut=raw.SYMBOL_TREE_ROOM - 40)
    ),
    _fault(
        "cut-in-fractal-heap",
        "B.1-21",
        "a file that ends in a fractal heap's header",
        with_heap("block tree leaf heap", cut=20),
    ),
    _fault("cut-in-block", "B.1-21", "a file that ends in a direct block", with_heap("heap tree leaf block", cut=20)),
    _fault(
        "cut-in-tree-2",
        "B.1-21",
        "a file that ends in the header of a tree of version 2",
        with_heap("heap block leaf tree", cut=20),
    ),
    _fault("cut-in-leaf", "B.1-21", "a file that ends in a leaf of a tree of version 2", with_heap(cut=20)),
]

for _each in (*FAULTS, *SOUND, *LARGE):
    edited_model(_each, BASE)
