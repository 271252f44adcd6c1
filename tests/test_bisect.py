"""Traces of strangers, and where they part from the reference: planted faults are found at their stage and element."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refcodec.codec
from conformance.bisect import unit_vectors
from conformance.clauses import LIST_PATH
from conformance.cli import main
from conformance.divergence import describe, first_divergence
from conformance.generators.writer import random_stream
from conformance.stages import ANCHOR, CLAUSES, NONANCHOR, Key, keyed, network, way_back
from conformance.symptoms import symptoms
from conformance.traces import Stage, Trace, TraceError, digest, parse_trace, read_npy, read_trace, stage_of
from refcodec.architecture import PROFILES, layer_table
from refcodec.arith.engine import Engine
from refcodec.arith.maps import interior
from refcodec.codec import decode_stream
from refcodec.errors import RefcodecError
from refcodec.image import crop_samples
from refcodec.model import Model
from refcodec.procedural import procedural_model
from refcodec.trace import Recorder, npy_bytes


@cache
def model() -> Model:
    """The tiny procedural model."""
    return procedural_model("tiny", 7)


@cache
def stream(channels: int = 3) -> bytes:
    """A stream of random symbols, some of them extreme, so that clamps are met."""
    return random_stream(model(), 3, 40, 70, channels, 60, "mixed", digest=False)


def traced(data: bytes, used: Model | None = None, engine: type[Engine] = Engine,
           crop: Callable[..., np.ndarray] = crop_samples) -> Trace:
    """The trace of a decoder that is refcodec but for the given parts; it may end early."""
    stages: list[Stage] = []
    kept: list[np.ndarray] = []

    def see(name: str, values: np.ndarray) -> None:
        stages.append(stage_of(name, values, len(stages)))
        kept.append(values.copy())

    with mock.patch.object(refcodec.codec, "Engine", engine), mock.patch.object(refcodec.codec, "crop_samples", crop):
        try:
            see("samples", decode_stream(data, model=used or model(), threads=1, backend="numpy", trace=see)[0])
        except RefcodecError:
            pass
    return Trace(tuple(stages), "the tested", lambda stage: kept[stage.index or 0])


@cache
def reference(channels: int = 3) -> Trace:
    """The right trace."""
    return traced(stream(channels))


# ------------------------------------------------------------------------------------------------------------ stages


@pytest.mark.parametrize("profile", PROFILES)
def test_stages_are_those_of_the_layer_table(profile):
    config = PROFILES[profile]
    ops = {op.name: op for op in layer_table(config)}
    decoding = [op for op in ops.values() if op.name.split("/")[0] not in ("g_a", "y", "h_a", "z", "ctx")]
    stages = network([*ops, *(f"y_hat/{i}" for i in range(config.slices))])
    names = {op.name for op in decoding}
    assert {k.name for k in stages} == names | {"z_hat", "samples"} | {
        f"{kind}/{i}" for kind in ("ctx", "y_hat") for i in range(config.slices)}
    for op in decoding:
        node, kinds = stages[Key(op.name)], {"igdn", "gain", "sum", "norm", "local_attention", "linear_attention"}
        assert node.operations[0] == (op.kind if op.kind in kinds else "conv")
        flags = {"gelu": op.gelu, "depthwise": op.depthwise, "shuffle": op.shuffle, "wide": op.wide,
                 "branch": bool(op.add)}
        assert {name for name, holds in flags.items() if holds} == set(node.operations) & set(flags)
        tensors = [{"hyper_means": "h_s/4", "y_hat": "y_hat/0"}.get(name, name) for name in op.inputs]
        tensors += [op.add] if op.add else []
        if op.name.endswith("norm1"):
            tensors = [f"ctx/{op.name.split('/')[1]}"]
        if op.name == "g_s/input":
            tensors = [f"y_hat/{i}" for i in range(config.slices)]
        assert [k.name for k in node.inputs] == tensors, op.name


def test_stages_are_in_the_order_of_a_trace_and_read_what_came_before():
    names = [stage.name for stage in reference().stages]
    stages = network(names)
    assert list(stages) == keyed(names)
    place = {key: n for n, key in enumerate(stages)}
    assert all(place[read] < place[key] for key, node in stages.items() for read in node.inputs)
    for key, node in stages.items():
        shape = reference().stages[place[key]].shape
        assert (key.name != "samples" and shape[:2] == (8, 2)) == node.packed, key


def test_clauses_of_stages_exist():
    known = {clause["id"] for clause in json.loads(LIST_PATH.read_text())}
    stages = network(stage.name for stage in reference().stages)
    cited = {c for node in stages.values() for c in node.clauses}
    assert cited <= known
    assert {operation for node in stages.values() for operation in node.operations} == set(CLAUSES)


# ------------------------------------------------------------------------------------------------------------ faults


class ParityFlip(Engine):
    """Symbols of slice 1 go to the other half."""

    def place(self, name, symbols, means, parity, y_hat, current):
        """Place them wrongly."""
        super().place(name, symbols, means, 1 - parity if name == "ctx/1" else parity, y_hat, current)


class StaleCopy(Engine):
    """The context copy is not renewed after the residual."""

    def add_residual(self, name, residual, x, parity, y_hat, current):
        """Leave the copy as it is."""
        before = interior(current).copy()
        trace, self.trace = self.trace, lambda name, values: None
        super().add_residual(name, residual, x, parity, y_hat, current)
        self.trace = trace
        interior(current)[...] = before
        self.show(name, before)


class SliceOrder(Engine):
    """The channel context of slice 2 reads the last slice first."""

    def conv(self, name, x, **more):
        """Exchange slices."""
        if name == "chan/2/0":
            x = np.ascontiguousarray(np.roll(x, x.shape[2] // 2, axis=2))
        return super().conv(name, x, **more)


class LevelOffByOne(Engine):
    """Scales get the level below theirs."""

    def levels_and_means(self, parameters):
        """One level less."""
        levels, means = super().levels_and_means(parameters)
        return np.maximum(levels - 1, 0).astype(np.int32), means


class UnsignedTanh(Engine):
    """Half tanh forgets the sign."""

    def half_tanh(self, name, x):
        """Its magnitude."""
        return np.abs(super().half_tanh(name, x))


class NoMask(Engine):
    """The intra context's inputs are not masked."""

    def masked(self, x, parity):
        """As it is."""
        return x


class MeanOfOtherSign(Engine):
    """The median or mean is subtracted."""

    @staticmethod
    def reconstruct(symbols, mean):
        """With the wrong sign."""
        return Engine.reconstruct(symbols, -mean)


def changed(name: str, **more: object) -> Callable[[], Model]:
    """The model with another layer."""
    def make() -> Model:
        layer = model().layers[name]
        values = {k: v(layer) if callable(v) else v for k, v in more.items()}
        return replace(model(), layers={**model().layers, name: replace(layer, **values)})

    return make


def shifted_crop(planes, height, width, channels):
    """The crop begins a row too low."""
    return crop_samples(np.concatenate([planes[1:], planes[-1:]]), height, width, channels)


def unrounded_grey(planes, height, width, channels):
    """Grey without the rounding term."""
    r, g, b = (planes[:height, :width, c].astype(int) for c in range(3))
    return (r + 2 * g + b >> 2).astype(np.uint8)


@dataclass(frozen=True)
class Fault:
    """A planted fault and where it must be found."""

    stage: str
    turn: int = 0
    slice: int | None = None
    half: int | None = None
    looks: str = ""
    same_as: str = ""
    engine: type[Engine] = Engine
    model: Callable[[], Model] = model
    crop: Callable[..., np.ndarray] = crop_samples
    channels: int = 3


FAULTS = {
    "no rounding term": Fault("chan/1/2", slice=1, looks="less by 1", model=changed(
        "chan/1/2", bias=lambda layer: layer.bias - (1 << layer.shift >> 1).astype(np.int32))),
    "parity flip": Fault("ctx/1", 0, 1, ANCHOR, "another parity", engine=ParityFlip),
    "stale copy": Fault("ctx/0", 1, 0, ANCHOR, "only anchors differ", "ctx/0#0", engine=StaleCopy),
    "slice order": Fault("chan/2/0", slice=2, engine=SliceOrder),
    "crop": Fault("samples", looks="shifted up by 1", crop=shifted_crop),
    "grey": Fault("samples", looks="less by 1", crop=unrounded_grey, channels=1),
    "clamp": Fault("g_s/5/conv", looks="the clamp is missing or wider", model=changed("g_s/5/conv", limit=32767)),
    "narrow clamp": Fault("h_s/4", looks="the clamp is narrower", model=changed("h_s/4", limit=1000)),
    "scale level": Fault("ctx/0", 0, 0, ANCHOR, engine=LevelOffByOne),
    "sign of tanh": Fault("ctx/0", 1, 0, ANCHOR, "only anchors differ", engine=UnsignedTanh),
    "mask": Fault("intra/1/queries0", slice=1, half=NONANCHOR, engine=NoMask),
    "median": Fault("z_hat", engine=MeanOfOtherSign),
    "gain of another step": Fault("g_s/input", model=changed(
        "g_s/input", multiplier=lambda layer: np.roll(layer.multiplier, 1, axis=0))),
    "shift": Fault("g_s/3/igdn", model=changed("g_s/3/igdn", shift=lambda layer: layer.shift - 1)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_at_its_stage_and_element(name):
    fault = FAULTS[name]
    right, wrong = reference(fault.channels), traced(stream(fault.channels), fault.model(), fault.engine, fault.crop)
    found = first_divergence(right, wrong)
    assert found is not None and found.kind == "values"
    assert (found.key, found.node.slice, found.node.half) == (Key(fault.stage, fault.turn), fault.slice, fault.half)
    expected, got = right.values(found.expected), wrong.values(found.got)
    places = np.argwhere(expected != got)
    assert found.element.place == tuple(places[0]) and found.differing == len(places)
    assert (found.element.expected, found.element.got) == (expected[tuple(places[0])], got[tuple(places[0])])
    assert fault.looks in "; ".join(found.symptoms)
    assert not fault.same_as or fault.same_as in map(str, found.same_as)
    assert found.equal == found.expected.index and not found.unseen
    assert set(found.clauses) >= set(CLAUSES[found.node.operations[0]])
    text = "\n".join(describe(found))
    assert fault.stage in text and f"got {found.element.got}" in text
    json.dumps(found.as_dict())


def test_equal_traces_have_no_divergence():
    assert first_divergence(reference(), traced(stream())) is None


def altered(trace: Trace, at: int) -> Trace:
    """The trace with other values at one stage."""
    values = trace.values(trace.stages[at]).copy()
    values.flat[-1] ^= 1
    stages = list(trace.stages)
    stages[at] = stage_of(stages[at].name, values, at)
    return Trace(tuple(stages), "altered", lambda s: values if s.index == at else trace.values(s))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_subset_of_stages_names_the_first_difference_and_what_was_not_seen(data):
    whole = reference()
    at = data.draw(st.integers(0, len(whole.stages) - 1))
    kept = data.draw(st.sets(st.integers(0, len(whole.stages) - 1), min_size=1))
    order = data.draw(st.permutations(sorted(kept)))
    wrong = altered(whole, at)
    found = first_divergence(whole, Trace(tuple(wrong.stages[n] for n in order), "a subset", wrong.values))
    if at not in kept:
        assert found is None
        return
    keys = keyed(stage.name for stage in whole.stages)
    assert found.key == keys[at] and found.element.got == found.element.expected ^ 1
    seen = {keys[n] for n in kept if n < at}
    assert found.equal == len(seen) and not seen & set(found.unseen) and set(found.known) <= seen
    assert set(found.unseen) >= set(found.node.inputs) - seen


def test_stages_without_index_are_found_by_name_and_turn():
    whole = reference()
    wrong = altered(whole, 32)
    nameless = [replace(stage, index=None) for stage in wrong.stages if stage.name in ("ctx/0", "h_s/4")]
    found = first_divergence(whole, Trace(tuple(nameless), "nameless"))
    assert (found.key, found.element, found.expected.index) == (Key("ctx/0", 3), None, 32)
    assert "values of ctx/0#3 would name the element" in found.advice
    with pytest.raises(TraceError, match="5 times, but is computed 4 times"):
        first_divergence(whole, Trace((*nameless, nameless[-1]), "nameless"))


def test_another_type_is_compared_as_numbers():
    whole = reference()
    wide = [stage_of(s.name, whole.values(s).astype(np.int64), s.index) for s in whole.stages]
    assert first_divergence(whole, Trace(tuple(wide), "wide")) is None
    assert first_divergence(Trace(whole.stages, "digests"), Trace(tuple(wide), "wide")).kind == "dtype"
    narrow = replace(wide[0], sha256=digest(np.zeros(wide[0].shape, np.int64)))
    assert first_divergence(whole, Trace((narrow,), "wide")).kind == "values"


def test_shape_order_and_strange_stages():
    whole = reference()
    turned = replace(whole.stages[10], shape=whole.stages[10].shape[::-1])
    assert first_divergence(whole, Trace((turned,), "turned")).kind == "shape"
    early = Trace((whole.stages[0], replace(whole.stages[33], index=20)), "early")
    found = first_divergence(whole, early)
    assert (found.kind, found.expected.index, found.got.name) == ("order", 20, "y_hat/0")
    assert "expected local/0/proj at index 20, got y_hat/0" in "\n".join(describe(found))
    with pytest.raises(TraceError, match="index 500"):
        first_divergence(whole, Trace((replace(whole.stages[0], index=500),), "late"))
    with pytest.raises(TraceError, match="no stage is named 'g_t/0'"):
        first_divergence(whole, Trace((replace(whole.stages[0], name="g_t/0"),), "strange"))
    with pytest.raises(TraceError, match="not the whole trace"):
        first_divergence(Trace(whole.stages[:-1], "part"), whole)


def test_the_way_back_ends_at_what_was_seen():
    stages = network(stage.name for stage in reference().stages)
    unseen, known = way_back(stages, Key("chan/1/2"), [Key("ctx/0", 1), Key("h_s/4")])
    assert Key("chan/1/0") in unseen and Key("ctx/0", 3) in unseen and Key("ep_nonanchor/0/3") in unseen
    assert set(known) == {Key("ctx/0", 1), Key("h_s/4")}


# ---------------------------------------------------------------------------------------------------------- symptoms

BASE = np.random.default_rng(1).integers(-900, 900, (8, 6, 4))


def with_clamp(limit: int) -> np.ndarray:
    """The numbers within a clamp."""
    return np.clip(BASE, -limit, limit)


@pytest.mark.parametrize(("expected", "got", "text"), [
    (BASE, BASE - 1, "less by 1"), (BASE, BASE + 1, "greater by 1"), (BASE, BASE + 5, "differ by the same number"),
    (BASE, -BASE, "signs"), (BASE, 0 * BASE, "all that differ are 0"), (BASE, BASE + (BASE < 0), "towards 0"),
    (BASE, BASE + np.sign(BASE), "another rounding"), (BASE * 200, (BASE * 200).astype(np.int16), "2^16"),
    (BASE, BASE.astype(np.int8), "2^8"), (with_clamp(500), BASE, "missing or wider"),
    (BASE, with_clamp(500), "narrower"), (BASE, np.maximum(BASE, 0), "unsigned"), (BASE, BASE[::-1], "upside down"),
    (BASE, BASE[:, ::-1], "right to left"), (BASE, BASE[:, :, ::-1], "channels stand in reverse"),
    (BASE, np.roll(BASE, 2, 2), "second half of the channels"), (BASE[:6], BASE[:6].swapaxes(0, 1), "rows and columns"),
    (BASE, np.moveaxis(BASE, 2, 0).reshape(BASE.shape), "channel after channel"),
    (BASE, np.random.default_rng(2).permuted(BASE, axis=0), "in other places"),
    (BASE, np.concatenate([BASE[:1], BASE[:-1]]), "shifted down"),
    (BASE, np.concatenate([BASE[:, 1:], BASE[:, -1:]], 1), "shifted left"),
    (BASE, BASE + 7 * (np.arange(4) == 2), "only channel 2"),
    (BASE, BASE + 7 * (np.arange(8) > 5)[:, None, None], "rows from 6"),
    (BASE, BASE + 7 * (np.arange(6) > 4)[None, :, None], "columns from 5"),
    (BASE, BASE + 7 * (np.arange(6) < 1)[None, :, None], "columns up to 0"),
    (BASE, BASE + 7 * np.pad(np.zeros((6, 4), int), 1, constant_values=1)[:, :, None], "at the border"),
    (BASE, BASE + 7 * (np.add.outer(np.arange(8), np.arange(6)) % 2)[:, :, None], "only anchors"),
])
def test_symptoms(expected, got, text):
    assert text in "; ".join(symptoms(expected, got, latent=True))


# ------------------------------------------------------------------------------------------------------------- files

LINE = {"index": 0, "name": "z_hat", "shape": [1, 1, 6], "dtype": "int16", "sha256": "0" * 64}


def test_a_trace_of_refcodec_is_read(tmp_path):
    recorder = Recorder(save=lambda stage, values: (tmp_path / stage.file_name).write_bytes(npy_bytes(values)) and None)
    decode_stream(stream(), model=model(), backend="numpy", trace=recorder)
    (tmp_path / "t").write_text("".join(stage.line() + "\n" for stage in reversed(recorder.stages)))
    trace = read_trace(tmp_path / "t", tmp_path)
    assert trace.stages == reference().stages[:-1]
    assert all(np.array_equal(trace.values(s), reference().values(s)) for s in trace.stages)


@pytest.mark.parametrize(("text", "says"), [
    (b"", "no stage"), (b"\n \n", "no stage"), (b"nonsense", "line 1: not JSON"), (b"[1]", "an object is expected"),
    (b"\xff\xfe", "line 1: not JSON"), (b"[" * 100000, "not JSON"), (b'{"name": 1, "name": 2}', "occurs twice"),
    ({"name": "../etc"}, "'name'"), ({"name": "A"}, "'name'"), ({"name": "a/" * 150 + "a"}, "'name'"),
    ({"shape": [1]}, "'shape'"), ({"shape": [1, 0]}, "'shape'"), ({"shape": [1, True]}, "'shape'"),
    ({"shape": [1, 1.5]}, "'shape'"), ({"shape": [1 << 23, 1 << 23]}, "'shape'"), ({"shape": "1"}, "'shape'"),
    ({"dtype": "float32"}, "'dtype'"), ({"dtype": "object"}, "'dtype'"), ({"sha256": "0" * 63}, "'sha256'"),
    ({"sha256": "G" * 64}, "'sha256'"), ({"index": -1}, "'index'"), ({"index": 1 << 21}, "'index'"),
    ({"index": True}, "'index'"),
    ({"index": "3"}, "'index'"), ({"index": None}, "'index'"), ({"file": "../x.npy"}, "'file'"),
    ({"file": "/x.npy"}, "'file'"), ({"file": "x.pkl"}, "'file'"), ({"sha": 1}, "unknown field 'sha'"),
])
def test_malformed_lines_are_clear_errors(text, says):
    data = text if isinstance(text, bytes) else json.dumps({**LINE, **text}).encode()
    with pytest.raises(TraceError, match=says) as caught:
        parse_trace(data, "theirs.jsonl")
    assert "theirs.jsonl" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_trace_of_endless_length_is_refused(tmp_path):
    (tmp_path / "t").write_bytes(json.dumps(LINE).encode() + b"\n" * (5 << 20))
    with pytest.raises(TraceError, match="longer than"):
        read_trace(tmp_path / "t")


def test_indices_are_on_all_lines_or_none_and_differ():
    def lines(*indices):
        return b"\n".join(json.dumps({k: v for k, v in {**LINE, "index": i}.items() if v is not None}).encode()
                          for i in indices)

    assert [s.index for s in parse_trace(lines(4, 0, 2), "t").stages] == [0, 2, 4]
    assert [s.index for s in parse_trace(lines(None, None), "t").stages] == [None, None]
    with pytest.raises(TraceError, match="some lines have an 'index' and some have none"):
        parse_trace(lines(1, None), "t")
    with pytest.raises(TraceError, match="2 lines have the index 3"):
        parse_trace(lines(3, 1, 3), "t")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_trace_or_a_trace_error(data):
    for text in (data, json.dumps(LINE).encode()[:40] + data):
        with pytest.raises(TraceError):
            parse_trace(text, "t")


def test_values_are_checked_against_their_line(tmp_path):
    values = np.arange(12, dtype=np.int16).reshape(2, 2, 3)
    stage = stage_of("z_hat", values, 0)
    path = tmp_path / "00000.z_hat.npy"

    def read(**more):
        line = {**LINE, "shape": [2, 2, 3], "sha256": stage.sha256, **more}
        (tmp_path / "t").write_text(json.dumps({k: v for k, v in line.items() if v is not None}))
        trace = read_trace(tmp_path / "t", tmp_path)
        return trace.values(trace.stages[0])

    assert read() is None
    path.write_bytes(npy_bytes(values))
    assert np.array_equal(read(), values)
    assert read(index=None) is None and np.array_equal(read(index=None, file="00000.z_hat.npy"), values)
    with pytest.raises(TraceError, match="no such file"):
        read(file="other.npy")
    with pytest.raises(TraceError, match="int16"):
        read(dtype="int32")
    with pytest.raises(TraceError, match="expected are"):
        read(shape=[2, 3, 2])
    with pytest.raises(TraceError, match="not those of its line"):
        read(sha256="0" * 64)
    with pytest.raises(TraceError, match="no such folder"):
        read_trace(tmp_path / "t", tmp_path / "nowhere")
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path)


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda data: data[:-1], "the file holds"), (lambda data: data + b"\0", "the file holds"),
    (lambda data: b"", "not the NPY file"), (lambda data: b"\x93NUMPY\x02\x00" + data[8:], "version 2.0"),
    (lambda data: data.replace(b"<i2", b"|O8"), "the type is object"),
    (lambda data: data.replace(b"<i2", b"<f4"), "float32"),
    (lambda data: data.replace(b"(2, 2, 3)", b"(9e9,2,3)"), "not the NPY file"),
    (lambda data: data.replace(b"(2, 2, 3), ", b"(-2,-2,3), "), "not the NPY file|the file holds"),
    (lambda data: data.replace(b"{'descr'", b"{'__im__'"), "not the NPY file"),
])
def test_files_of_values_are_read_strictly(tmp_path, spoil, says):
    path = tmp_path / "x.npy"
    path.write_bytes(spoil(npy_bytes(np.zeros((2, 2, 3), np.int16))))
    with pytest.raises(TraceError, match=says):
        read_npy(path)


def test_values_of_any_byte_order_are_read(tmp_path):
    values = np.arange(12).reshape(3, 4)
    for array in (values.astype(">i4"), np.asfortranarray(values.astype("<i8"))):
        np.save(tmp_path / "x.npy", array)
        read = read_npy(tmp_path / "x.npy")
        assert np.array_equal(read, values) and read.dtype.isnative and read.flags.c_contiguous


# ----------------------------------------------------------------------------------------------------------- command


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a stream, its model, and the right trace with values."""
    folder = tmp_path_factory.mktemp("bisect")
    (folder / "s.loclic").write_bytes(stream())
    assert subprocess.run([sys.executable, "-m", "refcodec", "model", "procedural", "--profile", "tiny", "--seed", "7",
                           str(folder / "m.h5")], capture_output=True).returncode == 0
    (folder / "values").mkdir()
    write_trace(folder / "right.jsonl", folder / "values", reference())
    return folder


def write_trace(path, folder, trace):
    """Write a trace as a third party may."""
    with path.open("w") as file:
        for stage in trace.stages:
            name = f"{stage.index}.npy"
            file.write(json.dumps({"index": stage.index, "name": stage.name, "shape": stage.shape,
                                   "dtype": stage.dtype, "sha256": stage.sha256, "file": name}) + "\n")
            np.save(folder / name, trace.values(stage))


def bisect(place, *more):
    """Run the command."""
    return main(["bisect", "--stream", str(place / "s.loclic"), "--model", str(place / "m.h5"), *more])


def test_the_command_says_that_all_is_equal(place, capsys):
    assert bisect(place, "--trace", str(place / "right.jsonl")) == 0
    assert "all 165 stages" in capsys.readouterr().out


def test_the_command_says_where_an_equal_trace_ends(place, tmp_path, capsys):
    lines = (place / "right.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "early.jsonl").write_text("".join(lines[3:11]))
    assert bisect(place, "--trace", str(tmp_path / "early.jsonl")) == 0
    assert "it ends before ctx/0#0 (slice 0, anchors): if the decoder stopped there, look at SPEC 7.2-1" in (
        capsys.readouterr().out)
    assert bisect(place, "--trace", str(tmp_path / "early.jsonl"), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"equal": True, "stages": 8, "next": "ctx/0#0"}


def test_the_command_names_stage_and_element(place, tmp_path, capsys):
    wrong = traced(stream(), FAULTS["no rounding term"].model())
    write_trace(tmp_path / "wrong.jsonl", tmp_path, wrong)
    assert bisect(place, "--trace", str(tmp_path / "wrong.jsonl"), "--values", str(tmp_path)) == 1
    text = capsys.readouterr().out
    assert "element:" in text and "less by 1" in text and "inject chan/1/2 --stream" in text
    assert bisect(place, "--trace", str(tmp_path / "wrong.jsonl"), "--values", str(tmp_path), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["stage"] == "chan/1/2" and found["element"]["got"] == found["element"]["expected"] - 1
    assert found["units"] == [v.id for v in unit_vectors(["conv"])]


@pytest.mark.parametrize(("arguments", "code", "says"), [
    (["--trace", "absent.jsonl"], 65, "cannot be read"),
    (["--trace", "{place}/s.loclic"], 65, "line 1: not JSON"),
    (["--trace", "{place}/right.jsonl", "--values", "{place}/nowhere"], 65, "no such folder"),
    (["--trace", "{place}/right.jsonl", "--vector", "core/x"], 2, "either --stream or --vector"),
    (["--trace", "{place}/right.jsonl", "--reference", "none"], 2, "needs a --vector"),
    (["--trace", "{place}/right.jsonl", "--reference", "'"], 2, "not a command"),
    (["--trace", "{place}/right.jsonl", "--reference", "/no/such/program"], 70, "cannot be run"),
    (["--trace", "{place}/right.jsonl", "--reference", "{python} -c 'import sys; sys.exit(3)'"], 70, "exit code 3"),
    (["--trace", "{place}/right.jsonl", "--reference", "{python} -c 'import time; time.sleep(99)'", "--timeout", "0.5"],
     70, "more than 0.5 s"),
])
def test_errors_are_one_line(place, capsys, arguments, code, says):
    assert bisect(place, *(a.format(place=place, python=sys.executable) for a in arguments)) == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and "Traceback" not in error


def test_the_reference_may_be_another_command(place, tmp_path, capsys):
    """One that copies a trace; it has digests alone, so no element can be named."""
    script = tmp_path / "reference.py"
    script.write_text(f"import shutil, sys\nshutil.copy({str(place / 'right.jsonl')!r}, sys.argv[2])\n")
    command = f"{sys.executable} {script}"
    assert bisect(place, "--trace", str(place / "right.jsonl"), "--reference", command) == 0
    assert "all 165 stages" in capsys.readouterr().out
    write_trace(tmp_path / "wrong.jsonl", tmp_path, altered(reference(), 40))
    assert bisect(place, "--trace", str(tmp_path / "wrong.jsonl"), "--reference", command) == 1
    text = capsys.readouterr().out
    assert "digests:" in text and "the tested decoder's values of inter/1/attention would name the element" in text
