"""The project's reader of HDF5 and the HDF5 library find the same in sound files; what is damaged is refused."""

import io
import struct
import threading
import zlib

import h5py
import numpy as np
import pytest
from own_kit import all_suites
from parts import one_in
from tiny_models import TINY, tiny_content

from conformance.kit.vectors import Accept, edited
from conformance.synthetic.models import raw_hdf5, raw_parts
from conformance.synthetic.models.broken_files import VICTIM, rebuilt, write_file
from conformance.synthetic.models.broken_models import BASE
from conformance.synthetic.models.procedural import source
from conformance.workbench.fuzz.models import model_corpus
from refcodec.errors import InvalidModel, ModelError
from refcodec.model import hdf5_arrays
from refcodec.model.file import VERSION, read_content, write_model
from refcodec.model.hdf5 import MAX_DATASETS, Hdf5
from refcodec.model.hdf5_arrays import read_all
from refcodec.model.hdf5_bytes import FileBytes
from refcodec.model.registry import DEFAULT
from refcodec.model.tables import PATH as TABLES

SOUND = sorted(
    {
        v.model
        for suite in all_suites()
        for v in suite.vectors
        if v.model and v.model.file and isinstance(v.expect, Accept)
    },
    key=lambda model: model.name,
)

BEYOND_THE_LIBRARY = (
    "checksum-wrong",
    "continuations-4096",
    "heap-indirect",
    "heap-nested",
    "heap-of-33-bits",
    "symbols-none-at-the-end",
)
"""The library tests checksums and counts, which no reader need test (SPEC B.1-28), and reads nodes beyond their end."""


def opened(data):
    return Hdf5(io.BytesIO(data), "x.h5")


def assert_the_same(data, floats=True):
    """The reader finds the arrays that the library finds, and the attributes that a model needs.

    The storage of ``float`` is not looked at (SPEC B.1-28), and the library need not read it either.
    """
    file, wanted = opened(data), {}
    arrays = read_all({name: d for name, d in file.datasets().items() if floats or not name.startswith("float/")})

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and (floats or not name.startswith("float/")):
            wanted[name] = item[()]

    with h5py.File(io.BytesIO(data), "r") as f:
        f.visititems(visit)
        for name in {"format", "version", "fingerprint"} & set(f.attrs):
            value = f.attrs[name]
            assert file.attributes[name] == (value.decode() if isinstance(value, bytes) else value)
    assert arrays.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape), name
        assert np.array_equal(arrays[name], array), name


# ----------------------------------------------------------------------------------------------------- sound files


@pytest.mark.parametrize(
    "model",
    one_in(3, (model for model in SOUND if not model.name.endswith(BEYOND_THE_LIBRARY))),
    ids=lambda model: model.name,
)
def test_the_kits_models_read_as_by_the_library(model):
    stored = not any(part in model.name for part in ("-float-", "-floats-2-24", "-dimensions-32"))
    assert_the_same(edited(model.file.read_bytes(), model.edits), floats=stored)


@pytest.mark.parametrize("path", [path for path in (TABLES, DEFAULT) if path.is_file()], ids=lambda path: path.name)
def test_the_packages_files_read_as_by_the_library(path):
    assert_the_same(path.read_bytes())


@pytest.mark.slow
def test_what_is_written_reads_as_by_the_library(tmp_path):
    """With so many and so long names that trees have three levels and indirect blocks lead to others."""
    floats = {f"{n:0200}": np.array([n], np.float32) for n in range(3000)}
    write_model(tmp_path / "written.h5", tiny_content(TINY), {"made": "by a test"}, floats)
    assert_the_same((tmp_path / "written.h5").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize(
    "storage",
    [
        {"chunks": (1, 1, 1, 1), "compression": "gzip", "shuffle": True},
        {"chunks": (5, 2, 3, 1), "compression": "gzip"},
        {"chunks": (2, 3, 3, 2)},
    ],
)
def test_chunks_may_be_so_many_that_their_tree_has_two_levels(storage):
    def cut(file):
        numbers = file[VICTIM][()]
        del file[VICTIM]
        file.create_dataset(VICTIM, data=numbers, **storage)

    assert_the_same(rebuilt(model_corpus().data, cut))


def test_groups_of_the_oldest_format_may_be_so_many_that_their_tree_has_two_levels():
    assert_the_same(rebuilt(write_file({"a": np.arange(3)}), lambda f: [f.create_group(f"g{n}") for n in range(700)]))


def test_chunks_that_the_library_leaves_unfiltered_are_read():
    """Noise does not become shorter by gzip; pieces of more than 1 MiB do not end with a plane."""
    noise = np.random.default_rng(1).integers(-(1 << 15), 1 << 15, 1_500_001).astype("<i2")
    for pack in ({}, {"compression": "gzip"}, {"shuffle": True}, {"compression": "gzip", "shuffle": True}):
        data = io.BytesIO()
        with h5py.File(data, "w", libver=("v108", "v110")) as f:
            f.create_dataset("noise", data=noise, chunks=noise.shape, **pack)
        assert_the_same(data.getvalue())


def test_threads_that_cannot_start_leave_the_work_to_this_one(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(hdf5_arrays, "thread_count", lambda threads: 4)
    assert_the_same(model_corpus().data)


# --------------------------------------------------------------------------------------------------- refused files


@pytest.mark.parametrize("libver, structure", [("earliest", "superblock"), ("latest", "superblock")])
def test_other_formats_of_the_library_are_refused_with_the_way_to_write_one(libver, structure):
    data = io.BytesIO()
    with h5py.File(data, "w", libver=libver) as f:
        f["a"] = np.arange(3)
    with pytest.raises(InvalidModel, match=f"{structure}.*libver v108"):
        opened(data.getvalue())


def test_newer_layouts_are_refused():
    with pytest.raises(InvalidModel, match="storage"):
        opened(write_file(tiny_content(TINY), libver="v110").replace(b"HDF\r\n\x1a\n\3", b"HDF\r\n\x1a\n\2")).datasets()


def small_file(**arrays):
    data = io.BytesIO()
    with h5py.File(data, "w", libver=("v108", "v110")) as f:
        for name, (array, storage) in arrays.items():
            f.create_dataset(name, data=array, **storage)
    return data.getvalue()


NOISE = np.random.default_rng(2).integers(0, 256, 3000).astype(np.uint8)


@pytest.mark.parametrize("storage", [{}, {"chunks": (3000,)}], ids=["contiguous", "chunked"])
def test_storage_that_many_arrays_share_is_refused(storage):
    """A small file would cost a large one's work."""
    data = io.BytesIO()
    with h5py.File(data, "w", libver=("v108", "v110")) as f:
        f.create_dataset("stored", data=NOISE, **storage)
        for n in range(9):
            f.create_dataset(f"{n}", NOISE.shape, "u1", **storage)
    layout = bytes((3, 2 if storage else 1, *((2,) if storage else ())))
    place = data.getvalue().index(layout) + len(layout)
    shared = data.getvalue().replace(layout + b"\xff" * 8, layout + data.getvalue()[place : place + 8])
    datasets = opened(shared).datasets()
    assert len(datasets) == 10 and np.array_equal(datasets["5"].read(), NOISE)
    with pytest.raises(InvalidModel, match="structures overlap"):
        read_all(datasets)


def test_an_array_may_be_read_twice():
    dataset = opened(small_file(a=(NOISE, {"chunks": (3000,)}))).datasets()["a"]
    assert all(np.array_equal(dataset.read(), NOISE) for _ in range(5))


@pytest.mark.parametrize("ratio", [1030, 1034])
def test_a_chunk_that_no_inflation_can_fill_is_refused_before_memory_is_taken(ratio):
    """1032 is the most that deflate reaches."""
    count = 1 << 26
    packed = zlib.compress(bytes(count), 9)[:-6]
    data = io.BytesIO()
    with h5py.File(data, "w", libver=("v108", "v110")) as f:
        f.create_dataset("a", (len(packed) * ratio,), "u1", chunks=(len(packed) * ratio,), compression="gzip")
        f["a"].id.write_direct_chunk((0,), packed)
    with pytest.raises(InvalidModel, match="shorter than" if ratio > 1032 else "cut short|wrong size"):
        opened(data.getvalue()).datasets()["a"].read()


def test_a_file_that_cannot_be_read_is_no_damage():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(ModelError, match="Input/output error") as caught:
        Hdf5(Broken(model_corpus().data), "x.h5")
    assert not isinstance(caught.value, InvalidModel)


def test_a_file_that_becomes_shorter_is_refused():
    data = io.BytesIO(small_file(a=(NOISE, {})))
    datasets = Hdf5(data, "x.h5").datasets()
    data.truncate(data.seek(0, 2) - 100)
    with pytest.raises(InvalidModel, match="became shorter"):
        datasets["a"].read()


@pytest.mark.parametrize("at, size", [(0, 101), (100, 1), (1 << 64, 1), (99, 1 << 64)])
def test_nothing_is_read_outside_the_file(at, size):
    with pytest.raises(InvalidModel, match="outside the file"):
        FileBytes(io.BytesIO(bytes(100)), "x").take(at, size)


# ------------------------------------------------------------------------------- small structures that cost much memory

NONE = (1 << 64) - 1
HEAP_AT, TREE_AT, REST_AT = 200, 400, 600


def hand_made(messages, rest=b""):
    """A file of a root with these messages, and of bytes that begin at `HEAP_AT`."""
    head = b"\x89HDF\r\n\x1a\n\2\x08\x08\0" + bytes(8) + b"\xff" * 8 + struct.pack("<QQ4x", 0, 48)
    root = b"\1\0\0\0" + struct.pack("<II4x", 1, len(messages)) + messages
    return (head + root).ljust(HEAP_AT, b"\0") + rest


def message(kind, data):
    return struct.pack("<HHB3x", kind, len(data), 0) + data


def table_message(kind, heap=HEAP_AT, tree=TREE_AT):
    """A link info message, kind 2, or an attribute info message, 21."""
    return message(kind, b"\0\0" + struct.pack("<QQ", heap, tree))


def heap_file(rest, *, root, start, node=512, kind=21, rows=0, columns=1, depth=0, count=1):
    """A file whose root has a fractal heap and a B-tree of version 2, the leaf of which begins `rest`."""
    id_bytes, record_kind, record = (8, 8, 17) if kind == 21 else (7, 5, 11)
    heap = struct.pack("<4sBHH101xHQQHHQH", b"FRHP", 0, id_bytes, 0, columns, start, start, 32, 0, root, rows)
    tree = struct.pack("<4sBBIHH2xQHQ", b"BTHD", 0, record_kind, node, record, depth, REST_AT, count, 0)
    place = TREE_AT - HEAP_AT
    return hand_made(table_message(kind), (heap.ljust(place, b"\0") + tree).ljust(REST_AT - HEAP_AT, b"\0") + rest)


def attribute_leaf(objects):
    """A leaf of records of managed objects, offset and length in the heap."""
    records = (b"\0" + struct.pack("<I", at) + size.to_bytes(3, "little") + bytes(9) for at, size in objects)
    return b"BTLF\0\x08" + b"".join(records)


def test_objects_of_a_heap_are_read():
    """The hand-made file is sound but for what the tests below change."""
    named = b"\3\0" + struct.pack("<HHHB", 7, 8, 4, 0) + b"format\0" + b"\x13\0\0\0\3\0\0\0" + b"\2\0\0\0" + b"abc"
    leaf = attribute_leaf([(100, len(named))]).ljust(512, b"\0")
    block = (b"FHDB".ljust(100, b"\0") + named).ljust(4096, b"\0")
    file = opened(heap_file(leaf + block, root=REST_AT + 512, start=4096))
    assert file.attributes == {"format": "abc"}


def test_objects_of_a_heap_that_overlap_are_refused():
    """Else a small file would have its largest object read as often as it has records."""
    leaf = attribute_leaf([(n % 2, 4000) for n in range(20)]).ljust(512, b"\0")
    with pytest.raises(InvalidModel, match="overlap"):
        opened(heap_file(leaf + b"FHDB".ljust(4096, b"\0"), root=REST_AT + 512, start=4096, count=20))


def test_long_objects_of_a_heap_are_refused():
    leaf = attribute_leaf([(0, (1 << 16) + 1)]).ljust(512, b"\0")
    with pytest.raises(InvalidModel, match="long object"):
        opened(heap_file(leaf + b"FHDB".ljust(1 << 17, b"\0"), root=REST_AT + 512, start=1 << 17))


def test_long_nodes_of_a_tree_are_refused():
    node = (1 << 16) + 1
    leaf = attribute_leaf([]).ljust(node, b"\0")
    with pytest.raises(InvalidModel, match="B-tree of version 2"):
        opened(heap_file(leaf + b"FHDB".ljust(64, b"\0"), root=REST_AT + node, start=64, node=node))


def test_a_heap_of_many_blocks_is_refused_before_they_are_noted():
    indirect = b"FHIB\0" + bytes(12) + struct.pack("<Q", REST_AT) * (17 * 1024)
    with pytest.raises(InvalidModel, match="too many blocks"):
        opened(heap_file(bytes(512) + indirect, root=REST_AT + 512, start=64, rows=17, columns=1024))


def test_a_group_has_one_table_of_links():
    """Else a header of millions of empty tables would take several times its size."""
    with pytest.raises(InvalidModel, match="two tables"):
        opened(hand_made(table_message(2, NONE, NONE) * 2))


def test_attributes_that_no_model_has_take_no_memory():
    def attribute(name):
        kind = b"\x10\0\0\0\1\0\0\0\0\0\x08\0"
        return b"\3\0" + struct.pack("<HHHB", len(name), len(kind), 4, 0) + name + kind + b"\2\0\0\0" + b"\1"

    names = (b"version\0", *(b"%05d\0" % n for n in range(999)))
    assert opened(hand_made(b"".join(message(12, attribute(name)) for name in names))).attributes == {"version": 1}


# ------------------------------------------------------------------------------------- what every reader decides alike


def changed(*changes, libver=None):
    """The bytes of the small model after changes of its file."""
    return rebuilt(model_corpus().data, *changes, libver=libver)


def outcome(data, folder):
    """The numbers of a model file, or None if it is refused."""
    path = folder / "model.h5"
    path.write_bytes(data)
    try:
        return read_content(path)[0]
    except InvalidModel:
        return None


def provenance(text):
    def change(f):
        del f["provenance"]
        f.create_dataset("provenance", data=np.frombuffer(text, np.uint8))

    return change


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "\\u0061": 1}',
        b'[{"b": {"a": 1, "a": 2}}]'.replace(b"[", b'{"c": [').replace(b"]", b"]}"),
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 01}',
        b'{"a": "\t"}',
        b'{"a": 1}\0',
        b'{"a": 1,}',
        b"\x0b{}",
        b"",
        b'{"a":' + b"[" * 64 + b"]" * 64 + b"}",
    ],
)
def test_provenance_that_is_no_json_object_is_refused(text, tmp_path):
    assert outcome(changed(provenance(text)), tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        b' \t\r\n{"a" : 1 } \n',
        b'{"a": {"a": 1}, "b": [{"a": 2}]}',
        b'{"a": "\\ud83d\\ude00\\u0000", "\\udc00": "\\udc00\\ud800"}',
        b'{"a": [1e999, -0, 1E+2, ' + b"9" * 5000 + b"." + b"9" * 5000 + b"]}",
        b'{"a": -' + b"9" * 100_000 + b"}",
        b'{"a":' + b"[" * 63 + b"]" * 63 + b"}",
    ],
)
def test_provenance_of_any_json_object_is_read(text, tmp_path):
    assert outcome(changed(provenance(text)), tmp_path) is not None


@pytest.mark.parametrize(
    ("name", "accepted"), [("..", True), ("a b~", True), ("é", False), ("a\x7f", False), ("a\x01", False)]
)
def test_names_are_printable_ascii(name, accepted, tmp_path):
    data = changed(lambda f: f.create_dataset(f"float/{name}", data=np.zeros(3, np.float32)))
    assert (outcome(data, tmp_path) is not None) == accepted


@pytest.mark.parametrize(("depth", "accepted"), [(8, True), (9, False), (10, False)])
def test_groups_are_at_most_eight_deep(depth, accepted, tmp_path):
    data = changed(lambda f: f.create_group("/".join(["d"] * depth)))
    assert (outcome(data, tmp_path) is not None) == accepted


def test_a_dataset_may_be_in_the_deepest_group(tmp_path):
    path = "/".join(["float", *["d"] * 7, "a"])
    assert outcome(changed(lambda f: f.create_dataset(path, data=np.zeros(3, np.float32))), tmp_path) is not None


def attribute(name, value, dtype=None, shape=None):
    def change(f):
        if name in f.attrs:
            del f.attrs[name]
        f.attrs.create(name, value, shape, dtype)

    return change


def space_padded(text, padding):
    """A text of fixed length with another padding than h5py's."""

    def change(f):
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(len(text))
        kind.set_strpad(padding)
        del f.attrs["format"]
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(f.id, b"format", kind, space).write(np.array(text, f"S{len(text)}"))

    return change


FORMAT = b"refcodec-model"


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        (space_padded(FORMAT, h5py.h5t.STR_NULLPAD), True),
        (space_padded(FORMAT + b"\0\0", h5py.h5t.STR_NULLTERM), True),
        (space_padded(FORMAT, h5py.h5t.STR_SPACEPAD), True),
        (space_padded(FORMAT + b" ", h5py.h5t.STR_SPACEPAD), False),
        (space_padded(FORMAT + b"\0" * 50, h5py.h5t.STR_NULLPAD), True),
        (space_padded(FORMAT + b"\0" * 51, h5py.h5t.STR_NULLPAD), False),
        (space_padded(FORMAT + b"\0more", h5py.h5t.STR_NULLPAD), False),
        (attribute("format", FORMAT.decode()), False),
        (attribute("format", [FORMAT]), False),
        (attribute("version", VERSION, ">u1"), True),
        (attribute("version", VERSION, ">i8"), True),
        (attribute("version", VERSION, "<u2"), True),
        (attribute("version", [VERSION], "<i4"), False),
        (attribute("version", VERSION, "<f4"), False),
        (attribute("fingerprint", "0" * 32), False),
        (attribute("fingerprint", [b"0" * 32]), False),
        (attribute("fingerprint", b"0" * 31 + b"A"), False),
        (attribute("fingerprint", 0), False),
        (attribute("fingerprints", "0" * 32), True),
    ],
)
def test_attributes_have_one_of_few_forms(change, accepted, tmp_path):
    assert (outcome(changed(change), tmp_path) is not None) == accepted


def test_twelve_bits_are_no_version(tmp_path):
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(12)

    def change(f):
        del f.attrs["version"]
        h5py.h5a.create(f.id, b"version", kind, h5py.h5s.create(h5py.h5s.SCALAR)).write(np.array(VERSION, np.int16))

    assert outcome(changed(change), tmp_path) is None


@pytest.mark.parametrize(
    ("storage", "accepted"),
    [
        ({"compression": "lzf"}, True),
        ({"fletcher32": True}, True),
        ({"chunks": (1,), "maxshape": (None,)}, True),
        ({"external": [("nowhere.raw", 0, 80_000)]}, False),
    ],
)
def test_the_storage_of_floats_is_not_looked_at(storage, accepted, tmp_path):
    data = changed(lambda f: f.create_dataset("float/a", (20_000,), "<f4", **storage))
    assert (outcome(data, tmp_path) is not None) == accepted


def test_bytes_after_a_zlib_stream_are_not_looked_at(tmp_path):
    def change(f):
        array = f[VICTIM][()]
        del f[VICTIM]
        d = f.create_dataset(VICTIM, array.shape, "<i2", chunks=array.shape, compression="gzip")
        d.id.write_direct_chunk((0,) * array.ndim, zlib.compress(array.tobytes()) + b"more")

    sound = outcome(model_corpus().data, tmp_path)
    assert np.array_equal(outcome(changed(change), tmp_path)[VICTIM], sound[VICTIM])


def test_arrays_that_share_bytes_are_refused(tmp_path):
    """Also in a file that is long enough for both."""
    first, second = "layers/g_s/6/conv1/weight", "layers/g_s/6/conv2/weight"

    def contiguous(f):
        for name in (first, second):
            array = f[name][()]
            del f[name]
            f[name] = array
        f.create_dataset("float/a", data=np.zeros(5000, np.float32))  # room that nothing else takes

    data = changed(contiguous)
    with h5py.File(io.BytesIO(data), "r") as f:
        places = [b"\3\1" + struct.pack("<Q", f[name].id.get_offset()) for name in (first, second)]
        assert f[first].nbytes == f[second].nbytes
    assert places[1] in data and outcome(data, tmp_path) is not None
    assert outcome(data.replace(places[1], places[0]), tmp_path) is None


def rebuilt_by_hand(patch):
    """The file of the suites' small model with structures behind it that no library writes."""
    return patch(source(BASE).path.read_bytes())


def test_two_pointers_to_a_node_without_symbols_are_refused(tmp_path):
    """Its head alone is a structure, too."""
    data = rebuilt_by_hand(raw_parts.with_group(raw_parts.node_tree(1, 1)))
    assert outcome(data, tmp_path) is not None
    data = rebuilt_by_hand(raw_parts.with_group(raw_parts.node_tree(1, 2)))
    assert outcome(data, tmp_path) is None


def test_two_headers_that_continue_in_a_block_without_messages_are_refused(tmp_path):
    """Its signature alone is a structure, too."""

    def groups(*names):
        def made(file):
            at = file.put(b"OCHK" + bytes(4))
            return {
                name: file.put(raw_hdf5.header(raw_hdf5.link_info(), raw_hdf5.continuation(at, 8))) for name in names
            }

        return rebuilt_by_hand(raw_parts.with_object(made))

    assert outcome(groups("more"), tmp_path) is not None
    assert outcome(groups("more", "other"), tmp_path) is None


@pytest.mark.parametrize(("name", "accepted"), [(16, True), (216, True), (224, False)])
def test_filters_lie_within_256_bytes_with_their_values(name, accepted, tmp_path):
    listed = raw_hdf5.filters((2, [4]), (1, [6]), version=1, name=name)
    assert len(listed) == 40 + name
    assert (outcome(rebuilt_by_hand(raw_parts.formats(listed)), tmp_path) is not None) == accepted


def test_filters_without_their_values_are_refused(tmp_path):
    listed = raw_hdf5.filters((2, [4]), (1, [6]))
    assert outcome(rebuilt_by_hand(raw_parts.formats(listed)), tmp_path) is not None
    assert outcome(rebuilt_by_hand(raw_parts.formats(listed[:-4])), tmp_path) is None


@pytest.mark.slow
def test_a_file_has_at_most_2_14_objects(tmp_path):
    """One more than its root and that many is refused, by its links alone."""

    def groups(more):
        def made(file):
            names = (f"{n:05}" for n in range(MAX_DATASETS - file.objects - 1 + more))
            links = (raw_hdf5.link(name, raw_parts.empty(file)) for name in names)
            return file.put(raw_hdf5.old_header(raw_hdf5.link_info(), *links))

        return rebuilt_by_hand(raw_parts.with_object(made))

    assert outcome(groups(0), tmp_path) is not None
    assert outcome(groups(1), tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize(("chunks", "accepted"), [(4096, True), (4097, False)])
def test_an_array_has_at_most_4096_chunks(chunks, accepted, tmp_path):
    def change(f):
        del f["provenance"]
        f.create_dataset("provenance", data=np.frombuffer(b"{}".ljust(chunks), np.uint8), chunks=(1,))

    assert (outcome(changed(change), tmp_path) is not None) == accepted
