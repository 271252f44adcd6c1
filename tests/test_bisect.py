"""Traces of strangers, and where they part from the reference: planted faults are found at their stage and element."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import altered, model, reference, stream, traced

from conformance.bisect import unit_vectors
from conformance.clauses import LIST_PATH
from conformance.divergence import describe, first_divergence
from conformance.stages import ANCHOR, CLAUSES, NONANCHOR, Key, keyed, network, way_back
from conformance.symptoms import symptoms
from conformance.traces import Trace, TraceError, digest, stage_of
from refcodec.architecture import PROFILES, layer_table
from refcodec.arith.engine import Engine
from refcodec.arith.maps import interior
from refcodec.image import crop_samples
from refcodec.model import Model

# ------------------------------------------------------------------------------------------------------------ stages


@pytest.mark.parametrize("profile", PROFILES)
def test_stages_are_those_of_the_layer_table(profile):
    config = PROFILES[profile]
    ops = {op.name: op for op in layer_table(config)}
    decoding = [op for op in ops.values() if op.name.split("/")[0] not in ("g_a", "y", "h_a", "z", "ctx")]
    stages = network([*ops, *(f"y_hat/{i}" for i in range(config.slices))])
    names = {op.name for op in decoding}
    assert {k.name for k in stages} == names | {"z_hat", "samples"} | {
        f"{kind}/{i}" for kind in ("ctx", "y_hat") for i in range(config.slices)
    }
    for op in decoding:
        node, kinds = stages[Key(op.name)], {"igdn", "gain", "sum", "norm", "local_attention", "linear_attention"}
        assert node.operations[0] == (op.kind if op.kind in kinds else "conv")
        flags = {
            "gelu": op.gelu,
            "depthwise": op.depthwise,
            "shuffle": op.shuffle,
            "wide": op.wide,
            "branch": bool(op.add),
        }
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


def test_every_operation_has_unit_vectors():
    assert all(unit_vectors([operation]) for operation in CLAUSES)
    assert [v.id for v in unit_vectors(["norm"])] == ["units/norm"]
    assert {v.id for v in unit_vectors(["linear_attention", "gelu"])} >= {"units/linear-attention", "units/gelu"}


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
    "no rounding term": Fault(
        "chan/1/2",
        slice=1,
        looks="less by 1",
        model=changed("chan/1/2", bias=lambda layer: layer.bias - (1 << layer.shift >> 1).astype(np.int32)),
    ),
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
    "gain of another step": Fault(
        "g_s/input", model=changed("g_s/input", multiplier=lambda layer: np.roll(layer.multiplier, 1, axis=0))
    ),
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


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        (BASE, BASE - 1, "less by 1"),
        (BASE, BASE + 1, "greater by 1"),
        (BASE, BASE + 5, "differ by the same number"),
        (BASE, -BASE, "signs"),
        (BASE, 0 * BASE, "all that differ are 0"),
        (BASE, BASE + (BASE < 0), "towards 0"),
        (BASE, BASE + np.sign(BASE), "another rounding"),
        (BASE * 200, (BASE * 200).astype(np.int16), "2^16"),
        (BASE, BASE.astype(np.int8), "2^8"),
        (with_clamp(500), BASE, "missing or wider"),
        (BASE, with_clamp(500), "narrower"),
        (BASE, np.maximum(BASE, 0), "unsigned"),
        (BASE, BASE[::-1], "upside down"),
        (BASE, BASE[:, ::-1], "right to left"),
        (BASE, BASE[:, :, ::-1], "channels stand in reverse"),
        (BASE, np.roll(BASE, 2, 2), "second half of the channels"),
        (BASE[:6], BASE[:6].swapaxes(0, 1), "rows and columns"),
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
    ],
)
def test_symptoms(expected, got, text):
    assert text in "; ".join(symptoms(expected, got, latent=True))
