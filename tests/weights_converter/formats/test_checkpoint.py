"""Checkpoints: every form reads to the same tensors, and nothing in a file is ever executed or believed unchecked."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
from checkpoint_folder import save_checkpoint_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from published_state import TINY, published_state

from refcodec.errors import InvalidModel, MissingInput, RefcodecError
from refcodec.io.strict_json import json_object
from weights_converter.__main__ import main
from weights_converter.formats import pickles as pickle_reader
from weights_converter.formats.checkpoint import read_checkpoint
from weights_converter.formats.pickled import Inert
from weights_converter.formats.pickles import read_pickle
from weights_converter.formats.spelling import normalised_name

MEMORY = 50 << 20
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
TYPES = {
    "<f4": "Float",
    "<f2": "Half",
    "<f8": "Double",
    "bf16": "BFloat16",
    "<i8": "Long",
    "<i4": "Int",
    "|u1": "Byte",
    "|b1": "Bool",
    "<i2": "Short",
    "|i1": "Char",
}
SAFETENSORS = {"<f4": "F32", "<f2": "F16", "<f8": "F64", "bf16": "BF16", "<i8": "I64", "<i4": "I32", "|u1": "U8"}


# An assembler of pickles: each function gives the opcodes of one value.


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def group(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def numbers(values: tuple[int, ...]) -> bytes:
    return group(*map(number, values))


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + group(*arguments) + b"R"


def mapping(entries: dict[str, bytes], start: bytes = b"}") -> bytes:
    return start + b"(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def storage(kind: str = "FloatStorage", key: str = "0", count: int = 6, *more: bytes) -> bytes:
    return group(text("storage"), name("torch", kind), text(key), text("cpu"), number(count), *more) + b"Q"


def tensor(place: bytes, offset: int = 0, shape: tuple[int, ...] = (2, 3), strides: tuple[int, ...] = (3, 1)) -> bytes:
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        place,
        number(offset),
        numbers(shape),
        numbers(strides),
        b"\x89",
        name("collections", "OrderedDict") + b")R",
    )


def program(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


# Builders of files.


def zip_file(pickled: bytes, storages: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("weights/data.pkl", pickled)
        archive.writestr("weights/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"weights/data/{key}", data)
        archive.writestr("weights/version", "3\n")
    return out.getvalue()


def legacy_file(pickled: bytes, storages: dict[str, bytes], item: int = 4) -> bytes:
    machine = mapping({"protocol_version": number(1001), "little_endian": b"\x88"})
    keys = b"](" + b"".join(map(text, storages)) + b"e"
    head = [program(number(LEGACY_MAGIC)), program(number(1001)), program(machine), pickled, program(keys)]
    return b"".join(head) + b"".join(struct.pack("<q", len(data) // item) + data for data in storages.values())


def safetensors_file(header: dict[str, object], data: bytes) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def as_bfloat16(array: np.ndarray) -> bytes:
    return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


def stored(array: np.ndarray, code: str) -> bytes:
    return as_bfloat16(array) if code == "bf16" else array.astype(code).tobytes()


def state_program(arrays: dict[str, np.ndarray], code: str = "<f4") -> tuple[bytes, dict[str, bytes]]:
    """Write a state dict with one storage a tensor: its opcodes and the storages."""
    entries, storages = {}, {}
    for key, (label, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
        entries[label] = tensor(storage(f"{TYPES[code]}Storage", str(key), array.size), 0, array.shape, strides)
        storages[str(key)] = stored(array, code)
    return mapping(entries, name("collections", "OrderedDict") + b")R"), storages


def sample(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = {
        "g_a.analysis_transform.0.conv1.weight": (4, 3, 3, 3),
        "g_a.analysis_transform.0.conv1.bias": (4,),
        "entropy_bottleneck._matrix0": (2, 3, 1),
        "gain": (1, 8),
    }
    # Halves of small integers are exact in every format, bfloat16 included.
    return {key: rng.integers(-60, 60, shape).astype(np.float32) / 2 for key, shape in values.items()}


def write(folder: Path, data: bytes) -> Path:
    path = folder / "checkpoint.bin"
    path.write_bytes(data)
    return path


def refuse(path: Path, *words: str) -> InvalidModel:
    """Read a file that must be refused in bounded memory; the message names what was found."""
    tracemalloc.start()
    try:
        with pytest.raises(InvalidModel) as caught:
            read_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    for word in words:
        assert word in message
    assert len(message) < 1000 and message.isprintable()
    json.dumps(caught.value.fields())
    return caught.value


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for key, array in wanted.items():
        assert found[key].dtype == np.float32 and found[key].flags.c_contiguous and found[key].flags.owndata
        np.testing.assert_array_equal(found[key], array)


# Reading.


@pytest.mark.parametrize("code", ["<f4", "<f2", "<f8", "bf16"])
@pytest.mark.parametrize("form", ["torch-zip", "torch-legacy", "safetensors"])
def test_every_float_type_in_every_form(tmp_path: Path, form: str, code: str) -> None:
    arrays = sample()
    pickled, storages = state_program(arrays, code)
    if form == "torch-zip":
        data = zip_file(program(pickled), storages)
    elif form == "torch-legacy":
        data = legacy_file(program(pickled), storages, 2 if code == "bf16" else np.dtype(code).itemsize)
    else:
        data = b""
        header: dict[str, object] = {}
        for label, array in arrays.items():
            raw = stored(array, code)
            header[label] = {
                "dtype": SAFETENSORS[code],
                "shape": array.shape,
                "data_offsets": [len(data), len(data) + len(raw)],
            }
            data += raw
        data = safetensors_file(header, data)
    found = read_checkpoint(write(tmp_path, data))
    same(found.tensors, arrays)
    assert found.form == form and found.config is None and found.ignored == ()
    assert found.source_sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("key", ["state_dict", "net", "model", "model_state_dict"])
def test_nested_state_dicts_keep_the_plain_values_beside_them(tmp_path: Path, key: str) -> None:
    pickled, storages = state_program(sample())
    loss = tensor(storage("FloatStorage", "9", 1), 0, (), ())
    config = mapping({"N": numbers((32, 64)), "M": number(8)})
    outer = mapping(
        {
            "epoch": number(7),
            "loss": loss,
            key: pickled,
            "best": b"\x88",
            "optimizer": b"}",
            "note": text("a note"),
            "config": config,
        }
    )
    found = read_checkpoint(write(tmp_path, zip_file(program(outer), storages | {"9": b"\0" * 4})))
    same(found.tensors, sample())
    assert found.meta == {"epoch": 7, "best": True, "note": "a note"}
    assert found.config == {"N": [32, 64], "M": 8}


def test_prefix_and_spellings_become_one(tmp_path: Path) -> None:
    array = np.ones((2, 3, 1), np.float32)
    spelled = {
        "module.entropy_bottleneck.matrices.0": "_matrix0",
        "module.entropy_bottleneck.biases.4": "_bias4",
        "module.entropy_bottleneck.factors.3": "_factor3",
        "module.entropy_bottleneck._matrix1": "_matrix1",
    }
    pickled, storages = state_program(dict.fromkeys(spelled, array))
    found = read_checkpoint(write(tmp_path, zip_file(program(pickled), storages)))
    assert list(found.tensors) == [f"entropy_bottleneck.{short}" for short in spelled.values()]
    assert normalised_name("module.g_a.x") == "g_a.x" and normalised_name("h_a.matrices.0") == "h_a.matrices.0"
    pickled, storages = state_program({"entropy_bottleneck._bias0": array, "entropy_bottleneck.biases.0": array})
    refuse(write(tmp_path, zip_file(program(pickled), storages)), "two tensors of one name", "_bias0")


def test_known_buffers_and_integers_are_left_out_by_name(tmp_path: Path) -> None:
    buffers = [
        "g_a.analysis_transform.0.gdn.beta_reparam.pedestal",
        "gaussian_conditional.scale_table",
        "g_s.synthesis_transform.1.igdn.gamma_reparam.lower_bound.bound",
        "entropy_bottleneck.target",
        "entropy_bottleneck.likelihood_lower_bound.bound",
        "gaussian_conditional.lower_bound_scale.bound",
        "gaussian_conditional._quantized_cdf",
        "entropy_bottleneck._offset",
        "entropy_bottleneck._cdf_length",
        "local_context.11.relative_position_index",
        "gaussian_conditional.scale_bound",
    ]
    entries = {key: tensor(storage("FloatStorage", "0", 6)) for key in buffers[:1]}
    entries |= {key: tensor(storage("FloatStorage", "1", 0), 0, (0,), (1,)) for key in buffers[1:]}
    entries |= {
        "some.counter": tensor(storage("LongStorage", "2", 1), 0, (), ()),
        "gain": tensor(storage("FloatStorage", "3", 2), 0, (1, 2), (2, 1)),
    }
    storages = {"0": b"\xff" * 24, "1": b"", "2": b"\0" * 8, "3": struct.pack("<2f", 1, 2)}
    found = read_checkpoint(write(tmp_path, zip_file(program(mapping(entries)), storages)))
    assert list(found.tensors) == ["gain"]
    assert found.ignored == (*buffers, "some.counter")


def test_views_with_offsets_and_strides(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32)
    place = storage("FloatStorage", "0", 24)
    parameter = call("torch._utils", "_rebuild_parameter", tensor(place, 12, (3, 4), (1, 3)), b"\x88", b"}")
    entries = {
        "a": tensor(place, 0, (2, 3), (6, 2)),
        "b": parameter,
        "c": tensor(place, 11, (), ()),
        "e": tensor(place, 24, (0, 5), (5, 1)),
    }
    found = read_checkpoint(write(tmp_path, zip_file(program(mapping(entries)), {"0": base.tobytes()}))).tensors
    np.testing.assert_array_equal(found["a"], base[:12].reshape(2, 3, 2)[:, :, 0])
    np.testing.assert_array_equal(found["b"], base[12:].reshape(4, 3).T)
    assert found["c"] == 11 and found["e"].shape == (0, 5)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=4), st.integers(0, 5), st.integers(0, 40))
def test_a_view_is_read_as_numpy_sees_it_or_refused(
    tmp_path_factory: pytest.TempPathFactory, axes: list[tuple[int, int]], offset: int, count: int
) -> None:
    shape, strides = tuple(size for size, _ in axes), tuple(stride for _, stride in axes)
    base = np.arange(count, dtype=np.float32)
    pickled = program(mapping({"a": tensor(storage("FloatStorage", "0", count), offset, shape, strides)}))
    path = write(tmp_path_factory.mktemp("view"), zip_file(pickled, {"0": base.tobytes()}))
    elements = int(np.prod(shape))
    last = offset + sum((size - 1) * stride for size, stride in axes) if elements else offset - 1
    if elements > count or last >= count or offset > count:
        refuse(path, "byte")
        return
    found = read_checkpoint(path).tensors["a"]
    for index in np.ndindex(*shape):
        assert found[index] == offset + sum(i * stride for i, stride in zip(index, strides, strict=True))


def test_optimizer_and_scheduler_states_are_skipped(tmp_path: Path) -> None:
    pickled, storages = state_program({"gain": np.ones((1, 8), np.float32)})
    counter = call("collections", "Counter", mapping({}) + number(30) + number(1) + b"s")
    default = call("collections", "defaultdict", name("__builtin__", "dict")) + b"(" + text("k") + number(1) + b"u"
    device = call("torch", "device", text("cuda"), number(0))
    size = call("torch", "Size", numbers((2, 3)))
    group_of = mapping(
        {
            "lr": b"G" + struct.pack(">d", 1e-4),
            "betas": numbers((0, 1)),
            "params": b"](K\0K\1e",
            "dtype": name("torch", "float32"),
            "shape": size,
            "device": device,
        }
    )
    outer = mapping(
        {
            "state_dict": pickled,
            "optimizer": mapping({"param_groups": b"]" + group_of + b"a"}),
            "lr_scheduler": mapping({"milestones": counter, "state": default}),
        }
    )
    found = read_checkpoint(write(tmp_path, legacy_file(program(outer), storages)))
    assert list(found.tensors) == ["gain"] and found.meta == {}


def test_newer_pickle_protocols_are_understood() -> None:
    body = b"}\x94(\x8c\x05alpha\x94K\x01\x8c\x0bcollections\x94\x8c\x07Counter\x94\x93\x94}\x85Ru."
    # The last key has no value: three values between the mark and SETITEMS.
    with pytest.raises(InvalidModel, match="without a value"):
        read_pickle(b"\x80\x04\x95" + struct.pack("<Q", len(body)) + body, "test")
    body = b"}\x94(\x8c\x05alpha\x94K\x01\x8c\x04beta\x94\x8c\x0bcollections\x94\x8c\x07Counter\x94\x93\x94}\x85Ru."
    result = read_pickle(b"\x80\x04\x95" + struct.pack("<Q", len(body)) + body, "test")
    assert result.value == {"alpha": 1, "beta": Inert("collections.Counter")}


# Wrappers, prefixes, several networks, objects next to weights.


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "module.model.",
        "model.model._orig_mod.",
        "net.codec.",
    ],
)
def test_any_prefix_before_the_network_is_removed(tmp_path: Path, prefix: str) -> None:
    pickled, storages = state_program({prefix + label: array for label, array in sample().items()})
    found = read_checkpoint(write(tmp_path, zip_file(program(mapping({"state_dict": pickled})), storages)))
    same(found.tensors, sample())
    assert found.left == ()


def test_wrappers_inside_a_name_are_removed() -> None:
    assert normalised_name("module.g_a._orig_mod.analysis_transform.0.bias") == "g_a.analysis_transform.0.bias"
    assert normalised_name("model.entropy_bottleneck.matrices.0") == "entropy_bottleneck._matrix0"


def two_networks(first: str, second: str) -> bytes:
    """A training dictionary with two networks, the second half the first."""
    outer, storages = {"epoch": number(3)}, {}
    for n, (key, factor) in enumerate(((first, 1), (second, 0.5))):
        entries = {}
        for m, (label, array) in enumerate(sample().items()):
            place = f"{n}_{m}"
            strides = tuple(stride // 4 for stride in array.strides)
            entries[label] = tensor(storage("FloatStorage", place, array.size), 0, array.shape, strides)
            storages[place] = (array * np.float32(factor)).tobytes()
        outside, _, inside = key.partition("/")
        outer[outside] = mapping({inside: mapping(entries)}) if inside else mapping(entries)
    return zip_file(program(mapping(outer)), storages)


@pytest.mark.parametrize("second", ["ema", "ema_state_dict", "averaged/shadow"])
def test_a_second_network_is_named_and_taken_by_its_key(tmp_path: Path, second: str) -> None:
    path = write(tmp_path, two_networks("state_dict", second))
    found = read_checkpoint(path)
    same(found.tensors, sample())
    assert (found.taken, found.left) == ("state_dict", (second,))
    averaged = read_checkpoint(path, second)
    same(averaged.tensors, {label: array / 2 for label, array in sample().items()})
    assert (averaged.taken, averaged.left) == (second, ("state_dict",))
    with pytest.raises(InvalidModel, match="no such key"):
        read_checkpoint(path, "nothing")


def test_without_a_usual_key_the_message_names_what_there_is(tmp_path: Path) -> None:
    path = write(tmp_path, two_networks("params", "params_ema"))
    error = refuse(path, "--key", "params_ema", "checkpoint.bin")
    assert error.values["networks"] == ["params", "params_ema"]
    same(read_checkpoint(path, "params").tensors, sample())


def test_one_of_two_prefixes_is_chosen_by_its_key(tmp_path: Path) -> None:
    arrays = {
        f"{part}.{label}": array * factor
        for part, factor in (("model", 1), ("ema_model", 2))
        for label, array in sample().items()
    }
    pickled, storages = state_program(arrays)
    path = write(tmp_path, zip_file(program(pickled), storages))
    refuse(path, "several networks", "ema_model.", "--key")
    found = read_checkpoint(path, "ema_model")
    same(found.tensors, {label: array * 2 for label, array in sample().items()})
    assert found.left == (f"{len(sample())} tensors outside ema_model.*",)


NAMESPACE = name("argparse", "Namespace") + b")\x81" + mapping({"lr": number(1)}) + b"b"
NUMPY_SCALAR = (
    name("numpy._core.multiarray", "scalar")
    + b"("
    + name("numpy", "dtype")
    + group(text("f8"), b"\x89", b"\x88")
    + b"R"
    + group(b"K\3", text("<"), b"N", b"N", b"N", number(-1), number(-1), b"K\0")
    + b"b"
    + call("_codecs", "encode", text("abcdefgh"), text("latin1"))
    + b"tR"
)


@pytest.mark.parametrize(
    "extra",
    [
        NAMESPACE,
        NUMPY_SCALAR,
        NUMPY_SCALAR.replace(b"_core", b"core"),
        b"C\3abc",
        call("pathlib", "PosixPath", text("/"), text("data")),
        call("collections", "deque", b"]"),
        name("lightning.fabric.utilities.data", "AttributeDict") + b")\x81" + mapping({"a": number(1)}) + b"b",
    ],
    ids=["namespace", "numpy scalar", "older numpy", "bytes", "path", "deque", "lightning"],
)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_objects_next_to_weights_are_inert(tmp_path: Path, extra: bytes, form: str) -> None:
    pickled, storages = state_program(sample())
    outer = program(mapping({"args": extra, "state_dict": pickled, "epoch": number(7)}))
    found = read_checkpoint(write(tmp_path, (zip_file if form == "zip" else legacy_file)(outer, storages)))
    same(found.tensors, sample())
    assert found.meta == {"epoch": 7}


def test_an_object_of_another_class_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for value in (name("argparse", "ArgumentParser") + b")\x81", name("numpy", "load") + b")R"):
        refuse(write(tmp_path, hostile(program(mapping({"args": value})))), "allow-list", "torch.save({'state_dict'")


@pytest.mark.parametrize(
    "data, kind, advice",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page", "raw"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "HDF5", "converted already"),
        (b"\x1f\x8b\x08" + bytes(9), "gzip", "unpack"),
        (bytes(257) + b"ustar" + bytes(300), "tar", "unpack"),
        (b"", "empty", "again"),
        (b"weights of a network", "text", "file of weights"),
        (bytes(20), "unknown bytes", "torch.save"),
    ],
)
def test_what_is_no_checkpoint_is_told_apart(tmp_path: Path, data: bytes, kind: str, advice: str) -> None:
    refuse(write(tmp_path, data), kind, advice, "checkpoint.bin")


def test_a_folder_without_meta_names_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(MissingInput, match=r"weights\.pth"):
        read_checkpoint(tmp_path)


def test_an_empty_shape_hides_no_impossible_one(tmp_path: Path) -> None:
    save_checkpoint_folder(tmp_path / "c", {"a": np.ones((2, 3))}, {})
    (tmp_path / "c" / "meta.json").write_text(json.dumps({"tensors": [["a", [0, 1 << 40, 1 << 40]]]}))
    refuse(tmp_path / "c", "malformed tensor entry")
    huge = safetensors_file({"a": {"dtype": "F32", "shape": [0, 1 << 40, 1 << 40], "data_offsets": [0, 0]}}, b"")
    refuse(write(tmp_path, huge), "impossible shape")
    place = tensor(storage("FloatStorage", "0", 0), 0, (0, 1 << 40, 1 << 40), (1, 1, 1))
    refuse(write(tmp_path, zip_file(program(mapping({"a": place})), {"0": b""})), "outside its storage")


def test_strided_views_do_not_multiply_reading(tmp_path: Path) -> None:
    entries = {f"t{n}": tensor(storage("FloatStorage", "0", 1000), 0, (2,), (999,)) for n in range(9)}
    refuse(write(tmp_path, zip_file(program(mapping(entries)), {"0": bytes(4000)})), "too often")


def test_scalars_and_other_networks_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n, arrays in enumerate(({"g_a.analysis_transform.6.weight": np.ones(())}, {"fc.weight": np.ones((2, 2))})):
        path = tmp_path / f"c{n}"
        save_checkpoint_folder(path, arrays, {})
        assert main(["inspect", str(path)]) == 78
        assert "not a checkpoint of LoC-LIC" in (said := capsys.readouterr().err) and str(path) in said


def test_what_a_terminal_obeys_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = published_state(TINY)
    save_checkpoint_folder(tmp_path / "c", state, {"config": {"intra_heads": "\x1b]0;title\x07"}})
    assert main(["inspect", str(tmp_path / "c")]) == 78
    assert "\\x1b" in (said := capsys.readouterr().err) and "\x1b" not in said


# Refusing.


def hostile(body: bytes) -> bytes:
    return zip_file(body, {"0": b"\0" * 24})


ATTACKS = {
    "os.system": (program(call("posix", "system", text("touch TARGET"))), "posix.system"),
    "eval": (program(call("builtins", "eval", text("open('TARGET', 'w')"))), "builtins.eval"),
    "builtins of Python 2": (program(call("__builtin__", "exec", text("open('TARGET', 'w')"))), "__builtin__.exec"),
    "without protocol": (b"cos\nsystem\n(X\x0c\0\0\0touch TARGETtR.", "os.system"),
    "stack name": (program(b"\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch TARGET\x85R"), "os.system"),
    "nested pickle": (program(call("_pickle", "loads", text("cos"))), "_pickle.loads"),
    "nested torch pickle": (program(call("torch.storage", "_load_from_bytes", text("x"))), "_load_from_bytes"),
    "attribute of a name": (program(call("builtins", "getattr", name("torch", "FloatStorage"), text("x"))), "getattr"),
    "path in a name": (program(name("torch", "FloatStorage.__init__")), "torch.FloatStorage.__init__"),
    "named tuple of a name": (program(name("collections", "OrderedDict.fromkeys")), "OrderedDict.fromkeys"),
    "control characters": (program(name("o\x1b[31ms", "system")), "\\x1b"),
    "name without end": (program(b"c" + b"a" * 5000), "name without end"),
    "name of numbers": (program(b"K\1K\2\x93"), "does not consist of strings"),
    "call of a string": (program(text("os.system") + b")R"), "call of something other"),
    "call of a storage type": (program(name("torch", "FloatStorage") + b")R"), "cannot be called"),
    "call without tuple": (program(name("collections", "Counter") + b"]R"), "call of something other"),
    "INST": (program(b"(ios\nsystem\n"), "INST"),
    "OBJ": (program(b"(cos\nsystem\no"), "os.system"),
    "NEWOBJ": (program(name("collections", "Counter") + b")\x81"), "NEWOBJ"),
    "EXT1": (program(b"\x82\x01"), "EXT1"),
    "PERSID": (program(b"Pstorage\n"), "PERSID"),
    "unknown opcode": (program(b"\xff"), "0xff"),
    "LONG4": (program(b"\x8b\xff\xff\xff\x7f"), "LONG4"),
    "LONG1 too long": (program(b"\x8a\xff" + b"\1" * 255), "integer too long"),
    "BINUNICODE too long": (program(text("a" * 65_537)), "string too long"),
    "BINUNICODE longer than the pickle": (program(b"X\xff\xff\xff\xff"), "truncated"),
    "surrogate": (program(b"X\3\0\0\0\xed\xa0\x80"), "not UTF-8"),
    "escapes in a name": (program(b"ccoll\\x65ctions\nOrderedDict\n)R"), "allow-list"),
    "BINUNICODE truncated": (program(b"X\xff\xff\0\0abc"), "truncated"),
    "BINUNICODE8": (program(b"\x8d" + b"\xff" * 8), "BINUNICODE8"),
    "BINBYTES": (program(b"B\xff\xff\xff\xff"), "BINBYTES"),
    "not UTF-8": (program(b"X\2\0\0\0\xff\xfe"), "not UTF-8"),
    "frame too long": (b"\x80\x04\x95" + b"\xff" * 8 + b"}.", "FRAME"),
    "protocol 9": (b"\x80\x09}.", "protocol=9"),
    "protocol twice": (b"\x80\x02}\x80\x02.", "PROTO"),
    "memo far away": (program(b"}r\xff\xff\xff\xff"), "memo index"),
    "memo twice": (program(b"}q\0q\0"), "memo index"),
    "memo never set": (program(b"h\5"), "never set"),
    "memo beyond the limit": (program(b"}r" + struct.pack("<I", pickle_reader.MAX_MEMO)), "memo index"),
    "mark flood": (program(b"(" * 200_000), "nested too deep"),
    "stack flood": (program(b"}" * 70_000), "stack too deep"),
    "list flood": (program(b"]" + b"}a" * 300_000), "too many opcodes"),
    "deep tuple": (program(b")" + b"\x85" * 50_000), "not a dictionary"),
    "deep list": (program(b"]q\0" + b"]h\0a" * 20_000 + b"h\0"), "left over"),
    "deep key": (program(b"})" + b"\x85" * 30_000 + b"Ns"), "dictionary key"),
    "list that holds itself": (program(b"]q\0h\0a"), "not a dictionary"),
    "huge integer key": (program(b"}" + number(1 << 61) + b"Ns"), "dictionary key"),
    "key twice": (program(b"}" + (text("a") + b"Ns") * 2), "duplicate dictionary key"),
    "empty stack": (program(b""), "stack is empty"),
    "pop below a mark": (program(b"](a"), "stack is empty"),
    "group without mark": (program(b"t"), "no open group"),
    "append to a number": (program(b"K\1Na"), "append"),
    "item of a list": (program(b"]NNs"), "items without a dictionary"),
    "attributes of a list": (program(b"]}b"), "attributes"),
    "values left over": (program(b"}}"), "left over"),
    "bytes left over": (program(b"}") + b"x", "bytes follow the pickle"),
    "no STOP": (b"\x80\x02}", "truncated"),
    "empty pickle": (b"", "truncated"),
    "persistent id a number": (program(b"K\1Q"), "persistent id"),
    "persistent id a string": (program(text("storage") + b"Q"), "persistent id"),
    "persistent id of a module": (program(group(text("module"), b"N", b"N", b"N", b"N") + b"Q"), "module"),
    "persistent id nonsense": (program(group(b"}", b"]", b"N", b")", b"N") + b"Q"), "persistent id"),
    "storage of no type": (program(group(text("storage"), text("x"), text("0"), text("cpu"), b"K\1") + b"Q"), "type"),
    "storage key a path": (program(storage(key="../../etc/passwd")), "../../etc/passwd"),
    "storage view": (program(storage("FloatStorage", "0", 6, group(text("1"), b"K\0", b"K\2"))), "persistent id"),
    "negative storage": (program(storage(count=-1)), "impossible storage size"),
    "huge storage": (program(storage(count=1 << 62)), "impossible storage size"),
    "storage twice": (program(group(storage(), storage("HalfStorage"))), "described twice"),
    "storage not in the file": (program(mapping({"a": tensor(storage(key="77"))})), "data/77"),
    "storage larger than its member": (program(mapping({"a": tensor(storage(count=7))})), "does not fit"),
    "storage smaller than its member": (
        program(mapping({"a": tensor(storage(count=5), 0, (5,), (1,))})),
        "does not fit",
    ),
    "quantised storage": (program(storage("QInt8Storage")), "torch.QInt8Storage"),
    "negative offset": (program(tensor(storage(), -1)), "impossible offset"),
    "offset outside": (program(tensor(storage(), 7, (0,), (1,))), "impossible offset"),
    "tensor outside": (program(tensor(storage(), 1)), "outside its storage"),
    "negative size": (program(tensor(storage(), 0, (-2, -3))), "impossible offset"),
    "huge size": (program(tensor(storage(), 0, (1 << 40, 1 << 40))), "outside its storage"),
    "size that wraps": (program(tensor(storage(), 0, (1 << 33, 1 << 31), (0, 0))), "outside its storage"),
    "negative stride": (program(tensor(storage(), 5, (2, 3), (-3, -1))), "impossible offset"),
    "stride outside": (program(tensor(storage(), 0, (2, 3), (4, 1))), "outside its storage"),
    "huge stride": (program(tensor(storage(), 0, (2, 3), (1 << 63, 1))), "impossible offset"),
    "sizes without strides": (program(tensor(storage(), 0, (2, 3), (1,))), "impossible offset"),
    "too many dimensions": (program(tensor(storage(), 0, (1,) * 9, (1,) * 9)), "impossible offset"),
    "size of booleans": (
        program(
            call("torch._utils", "_rebuild_tensor_v2", storage(), b"K\0", group(b"\x88"), group(b"\x88"), b"\x89", b"}")
        ),
        "impossible offset",
    ),
    "tensor without storage": (program(call("torch._utils", "_rebuild_tensor_v2", *[b"N"] * 6)), "without a storage"),
    "tensor with metadata": (
        program(
            call(
                "torch._utils",
                "_rebuild_tensor_v2",
                storage(),
                b"K\0",
                numbers((6,)),
                numbers((1,)),
                b"\x89",
                b"}",
                mapping({"conj": b"\x88"}),
            )
        ),
        "metadata",
    ),
    "parameter without tensor": (program(call("torch._utils", "_rebuild_parameter", b"N", b"N", b"N")), "parameter"),
    "repeated views": (program(mapping({key: tensor(storage()) for key in "abc"})), "repeatedly"),
    "no state dict": (program(b"K\1"), "not a dictionary"),
    "empty state dict": (program(b"}"), "empty"),
    "entry not a tensor": (program(mapping({"a": b"K\1"})), "not a named tensor"),
    "name not a string": (program(b"}K\1" + tensor(storage()) + b"s"), "not a named tensor"),
    "two state dicts": (
        program(mapping({key: mapping({"a": tensor(storage())}) for key in ("net", "model")})),
        "several state dicts",
    ),
    "name with a slash": (program(mapping({"a/b": tensor(storage())})), "impossible tensor name"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_by_name_and_without_effect(
    tmp_path: Path, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body, word = ATTACKS[attack]
    path = write(tmp_path, hostile(body))
    modules = set(sys.modules)
    refuse(path, word, "checkpoint.bin")
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.bin"]
    assert set(sys.modules) == modules


def test_the_same_attack_is_refused_in_the_legacy_format(tmp_path: Path) -> None:
    refuse(write(tmp_path, legacy_file(ATTACKS["os.system"][0], {})), "posix.system", "objects")
    refuse(write(tmp_path, ATTACKS["os.system"][0]), "posix.system", "magic number")


def test_a_pickle_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    long = program(b"]" + b"N" * pickle_reader.MAX_PICKLE_BYTES)
    refuse(write(tmp_path, hostile(long)), "pickle too long", "data.pkl")
    with pytest.raises(InvalidModel, match="pickle too long"):
        read_pickle(long, "test")


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    for code, bad in (("<f4", np.nan), ("<f4", np.inf), ("<f2", -np.inf), ("bf16", np.inf), ("<f8", 1e39)):
        pickled, storages = state_program({"fine": np.ones(3), "broken": np.array([1, bad, 2])}, code)
        refuse(write(tmp_path, zip_file(program(pickled), storages)), "infinities or NaN", "broken")


# The zip container.


def valid_zip() -> bytes:
    pickled, storages = state_program(sample())
    return zip_file(program(pickled), storages)


def patched(data: bytes, member: int, offset: int, value: bytes) -> bytes:
    """Change a field in the directory record of the member with this number."""
    at = -1
    for _ in range(member + 1):
        at = data.index(b"PK\1\2", at + 1)
    return data[: at + offset] + value + data[at + offset + len(value) :]


def test_zip_members_must_be_plain(tmp_path: Path) -> None:
    pickled, storages = state_program(sample())
    refuse(write(tmp_path, zip_file(program(pickled), storages, zipfile.ZIP_DEFLATED)), "compressed", "data.pkl")
    bomb = zip_file(program(pickled), {"0": bytes(40 << 20)}, zipfile.ZIP_DEFLATED)
    refuse(write(tmp_path, bomb), "compressed")
    data = valid_zip()
    refuse(write(tmp_path, patched(data, 2, 8, b"\1\0")), "encrypted", "data/0")
    refuse(write(tmp_path, patched(data, 2, 20, b"\xff\xff\xff\xff" * 2)), "outside the file")
    refuse(write(tmp_path, patched(data, 2, 24, b"\xff\xff\xff\x7f")), "unpacked=2147483647")
    refuse(write(tmp_path, patched(data, 2, 42, b"\0\0\0\0")), "own header differs")
    refuse(write(tmp_path, patched(data, 2, 42, b"\xff\xff\xff\xff")), "outside the file")
    refuse(write(tmp_path, patched(data, 2, 28, b"\xff\xff")), "name")
    refuse(write(tmp_path, patched(data, 2, 30, b"\xff\xff")), "directory")


def test_zip_names_occur_once(tmp_path: Path) -> None:
    out = io.BytesIO(valid_zip())
    with warnings.catch_warnings(), zipfile.ZipFile(out, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("weights/data/1", b"\0" * 16)
    refuse(write(tmp_path, out.getvalue()), "two zip members", "weights/data/1")
    with zipfile.ZipFile(out := io.BytesIO(), "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("b/data.pkl", b"")
    refuse(write(tmp_path, out.getvalue()), "one data.pkl", "found=2")


def test_zip_members_do_not_overlap(tmp_path: Path) -> None:
    inner = b"PK\3\4" + struct.pack("<5H3I2H", 10, 0, 0, 0, 0, 0, 4, 4, 5, 0) + b"inner" + b"data"
    with zipfile.ZipFile(out := io.BytesIO(), "w") as archive:
        archive.writestr("r/data.pkl", b"}.")
        archive.writestr("outer", inner)
        archive.writestr("other", b"data")
    data = out.getvalue()
    start = data.index(inner)
    data = patched(data, 2, 42, struct.pack("<I", start))
    data = data[: data.rindex(b"other")] + b"inner" + data[data.rindex(b"other") + 5 :]
    refuse(write(tmp_path, data), "overlap")


def test_zip_directory_is_bounded_and_complete(tmp_path: Path) -> None:
    data = valid_zip()
    ending = bytearray(data[-22:])
    ending[8:12] = struct.pack("<2H", 60_000, 60_000)
    refuse(write(tmp_path, data[:-22] + bytes(ending)), "too large")
    ending[8:12] = struct.pack("<2H", 5, 5)
    refuse(write(tmp_path, data[:-22] + bytes(ending)), "left over")
    refuse(write(tmp_path, data + b"\0"), "no zip directory")
    refuse(write(tmp_path, data.replace(b"little", b"big---")), "little-endian")


def test_damaged_storages_do_not_match_their_checksum(tmp_path: Path) -> None:
    data = bytearray(valid_zip())
    at = data.index(sample()["gain"].tobytes())
    data[at] ^= 1
    refuse(write(tmp_path, bytes(data)), "CRC-32", "data/3")


# The other containers.


def valid_legacy() -> bytes:
    pickled, storages = state_program(sample())
    return legacy_file(program(pickled), storages)


def valid_safetensors() -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for label, array in sample().items():
        header[label] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    return safetensors_file(header, data)


@pytest.mark.parametrize("make", [valid_zip, valid_legacy, valid_safetensors])
def test_no_prefix_of_a_file_is_taken_for_the_file(tmp_path: Path, make: object) -> None:
    data = make()  # type: ignore[operator]
    same(read_checkpoint(write(tmp_path, data)).tensors, sample())
    for length in [*range(0, len(data), 23), len(data) - 1]:
        with pytest.raises(InvalidModel):
            read_checkpoint(write(tmp_path, data[:length]))


@pytest.mark.parametrize("make", [valid_legacy, valid_safetensors])
def test_bytes_behind_the_tensors_are_refused(tmp_path: Path, make: object) -> None:
    refuse(write(tmp_path, make() + b"\0"), "bytes=")  # type: ignore[operator]


def test_legacy_storages_must_be_those_described(tmp_path: Path) -> None:
    pickled, storages = state_program({"a": np.ones((2, 3), np.float32)})
    fine = legacy_file(program(pickled), storages)
    assert read_checkpoint(write(tmp_path, fine)).tensors["a"].shape == (2, 3)
    refuse(write(tmp_path, legacy_file(program(pickled), {"1": storages["0"]})), "storage keys")
    refuse(write(tmp_path, legacy_file(program(pickled), storages | {"1": b""})), "storage keys")
    refuse(write(tmp_path, legacy_file(program(pickled), {"0": b"\0" * 28})), "described=6")
    refuse(write(tmp_path, fine[: -24 - 8] + struct.pack("<q", -6) + fine[-24:]), "elements=-6")
    refuse(write(tmp_path, program(number(LEGACY_MAGIC)) + program(number(1002)) + program(b"}")), "version")
    refuse(write(tmp_path, fine.replace(b"little_endian\x88", b"little_endian\x89")), "little-endian")


SAFE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ({"a": SAFE | {"dtype": "F33"}}, "F33"),
        ({"a": SAFE | {"dtype": [[1]]}}, "dtype=list"),
        ({"a": SAFE | {"shape": [-2]}}, "impossible shape"),
        ({"a": SAFE | {"shape": [2.0]}}, "impossible shape"),
        ({"a": SAFE | {"shape": [1 << 62]}}, "impossible shape"),
        ({"a": SAFE | {"shape": [3]}}, "do not fit"),
        ({"a": SAFE | {"shape": [1] * 9}}, "impossible shape"),
        ({"a": SAFE | {"data_offsets": [8, 0]}}, "do not fit"),
        ({"a": SAFE | {"data_offsets": [4, 12]}}, "gap or overlap"),
        ({"a": SAFE, "b": SAFE}, "gap or overlap"),
        ({"a": SAFE | {"data_offsets": [0, 8, 8]}}, "offsets"),
        ({"a": SAFE | {"more": 1}}, "malformed"),
        ({"a": [1, 2]}, "malformed"),
        ({}, "no tensors"),
        ({"__metadata__": {"a": 1}, "a": SAFE}, "metadata"),
        ({"__metadata__": {}}, "no tensors"),
        ({"a b": SAFE}, "impossible tensor name"),
        ({"a": SAFE | {"shape": [1], "data_offsets": [0, 4]}}, "do not fill"),
    ],
)
def test_safetensors_headers_are_checked(tmp_path: Path, header: dict[str, object], word: str) -> None:
    refuse(write(tmp_path, safetensors_file(header, b"\0" * 8)), word)


def test_safetensors_lengths_are_checked(tmp_path: Path) -> None:
    for length in (1 << 63, 1 << 30, 100):
        refuse(write(tmp_path, struct.pack("<Q", length) + b'{"a": 1}'), "header too long")
    refuse(write(tmp_path, struct.pack("<Q", 8) + b'{"a": 1}'), "malformed tensor entry")
    flood = b'{"a": [' + b"{}," * 300_000 + b"{}]}"
    refuse(write(tmp_path, struct.pack("<Q", len(flood)) + flood), "malformed tensor entry")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b"[]",
        b"{",
        b'{"a": "\xff"}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
        b"{} x",
    ],
)
def test_json_is_strict(raw: bytes) -> None:
    with pytest.raises(InvalidModel):
        json_object(raw, "test", "the header")


# Folders.


def test_folder_round_trip(tmp_path: Path) -> None:
    meta = {"step": 12, "config": {"N": [2, 4], "M": 8, "old_lrp": False}, "note": "x"}
    save_checkpoint_folder(tmp_path / "c", sample(), meta)
    found = read_checkpoint(tmp_path / "c")
    same(found.tensors, sample())
    assert found.config == meta["config"] and found.meta == {"step": 12, "note": "x"} and found.form == "folder"
    files = [(tmp_path / "c" / part).read_bytes() for part in ("meta.json", "weights.part0")]
    assert found.source_sha256 == hashlib.sha256(b"".join(files)).hexdigest()
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_folder_of_several_parts(tmp_path: Path) -> None:
    save_checkpoint_folder(tmp_path / "c", sample(), {"step": 1}, part_bytes=50)
    assert len(list((tmp_path / "c").glob("weights.part*"))) == 6  # 126 numbers of 2 bytes
    same(read_checkpoint(tmp_path / "c").tensors, sample())
    (tmp_path / "c" / "weights.part2").rename(tmp_path / "c" / "weights.part7")
    refuse(tmp_path / "c", "parts missing", "7")
    (tmp_path / "c" / "weights.part7").rename(tmp_path / "c" / "weights.part02")
    refuse(tmp_path / "c", "impossible number", "part02")


def test_numbers_of_a_folder_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    for n, bad in enumerate((np.nan, -np.inf)):
        save_checkpoint_folder(tmp_path / f"{n}", {"fine": np.ones(2), "broken": np.array([bad])}, {})
        refuse(tmp_path / f"{n}", "infinities or NaN", "broken")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"tensors": [["a", [2, 4]]]}, "exactly"),
        ({"tensors": [["a", [2, 2]]]}, "exactly"),
        ({"tensors": []}, "no tensors"),
        ({"tensors": {"a": [6]}}, "no tensors"),
        ({"tensors": [["a", [-6]]]}, "malformed"),
        ({"tensors": [["a", [3]], ["a", [3]]]}, "one name"),
        ({"tensors": [["a", [1 << 50]]]}, "malformed"),
        ({"tensors": [["a", [1 << 39, 1 << 39]]]}, "exactly"),
        ({"tensors": [[1, [6]]]}, "malformed"),
        ({"tensors": [["a", [6], 1]]}, "malformed"),
        ({"tensors": [["a", [True, 6]]]}, "malformed"),
        ({"config": {"N": {"deep": 1}}}, "configuration"),
        ({"config": [1]}, "configuration"),
        ({"config": {"N": [[1]]}}, "configuration"),
        ({"pad": "x" * (1 << 20)}, "too long"),
    ],
)
def test_folder_descriptions_are_checked(tmp_path: Path, change: dict[str, object], word: str) -> None:
    save_checkpoint_folder(tmp_path / "c", {"a": np.ones((2, 3))}, {})
    (tmp_path / "c" / "meta.json").write_text(json.dumps({"tensors": [["a", [2, 3]]], **change}))
    refuse(tmp_path / "c", word)


def test_missing_inputs_are_told_apart_from_damaged_ones(tmp_path: Path) -> None:
    with pytest.raises(MissingInput):
        read_checkpoint(tmp_path / "nothing")
    with pytest.raises(MissingInput):
        read_checkpoint(tmp_path)
    with pytest.raises(MissingInput):
        read_checkpoint("/dev/null")
    for data in (b"", b"PK\3\4", b"\x80", b"hello, world", b"\x89HDF\r\n\x1a\n" + bytes(64)):
        refuse(write(tmp_path, data))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "meta.json").write_text("{}")
    refuse(tmp_path / "empty", "parts missing")


# Any bytes at all.


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data())
def test_any_change_of_a_file_reads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    make = data.draw(st.sampled_from([valid_zip, valid_legacy, valid_safetensors]))
    raw = bytearray(make())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    path = write(tmp_path_factory.getbasetemp(), bytes(raw))
    try:
        found = read_checkpoint(path)
    except InvalidModel:
        return
    assert sum(array.size for array in found.tensors.values()) <= len(raw)


OPCODES = [bytes([code]) for code in b"(N.0})]tuaeQRbq\x85\x86\x87\x88\x93\x94K"] + [
    text("storage"),
    text("0"),
    text("cpu"),
    b"K\1",
    b"K\0",
    number(6),
    name("torch", "FloatStorage"),
    storage(),
    name("torch._utils", "_rebuild_tensor_v2"),
    name("collections", "OrderedDict"),
    name("collections", "Counter"),
    name("torch", "Size"),
    name("os", "system"),
    tensor(storage()),
    numbers((2, 3)),
    b"h\0",
    b"q\0",
]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(OPCODES), max_size=25))
def test_any_program_of_opcodes_ends_in_a_value_or_a_refusal(opcodes: list[bytes]) -> None:
    try:
        result = read_pickle(program(b"".join(opcodes)), "test")
    except RefcodecError as error:
        assert isinstance(error, InvalidModel) and "test" in error.where
        return
    assert result.end <= len(b"".join(opcodes)) + 3


def test_the_reader_needs_neither_torch_nor_pickle_loads() -> None:
    """A fresh interpreter in which pickle cannot load reads a zip checkpoint, and torch is never imported."""
    code = (
        "import sys, pickle, tempfile, pathlib; pickle.loads = pickle.load = pickle.Unpickler = None;"
        "from weights_converter.formats.checkpoint import read_checkpoint;"
        "path = pathlib.Path(tempfile.mkdtemp()) / 'c'; path.write_bytes(sys.stdin.buffer.read());"
        "print(len(read_checkpoint(path).tensors), 'torch' in sys.modules); path.unlink(); path.parent.rmdir()"
    )
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run([sys.executable, "-c", code], input=valid_zip(), capture_output=True, cwd=root, check=True)
    assert result.stdout.split() == [b"4", b"False"]


# Files of PyTorch itself.


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_files_of_torch_save(tmp_path: Path, zipped: bool, protocol: int) -> None:
    torch = pytest.importorskip("torch")
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 4))
    optimizer = torch.optim.Adam(layers.parameters(), lr=1e-3)
    layers(torch.zeros(1, 3, 3, 6)).sum().backward()
    optimizer.step()
    schedulers = [
        torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5]),
        torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
        torch.optim.lr_scheduler.StepLR(optimizer, 3),
    ]
    state = OrderedDict(("module." + key, value) for key, value in layers.state_dict().items())
    state["transposed"] = torch.arange(6.0).view(2, 3).T
    state["narrow"] = torch.arange(12.0).view(3, 4)[1:, 1:3]
    state["brain"] = torch.tensor([1.5, -2.25]).bfloat16()
    state["half"], state["double"] = torch.tensor([0.5]).half(), torch.tensor([0.125]).double()
    state["parameter"] = torch.nn.Parameter(torch.ones(2))
    state["count"] = torch.tensor([1, 2])
    saved = {
        "epoch": 3,
        "state_dict": state,
        "loss": torch.tensor(2.0),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": [scheduler.state_dict() for scheduler in schedulers],
        "more": [Counter([1, 1]), defaultdict(list, a=[1]), torch.Size([2]), torch.device("cpu"), torch.float32],
    }
    path = tmp_path / "c.pth.tar"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found = read_checkpoint(path)
    assert found.meta == {"epoch": 3} and found.ignored == ("count",)
    same(
        found.tensors,
        {
            key.removeprefix("module."): value.detach().float().contiguous().numpy()
            for key, value in state.items()
            if key != "count"
        },
    )
