"""Traces of strangers, and where they part from the reference: planted faults are found at their stage and element."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import altered, reference, stream, tiled, tiled_reference, traced

# ------------------------------------------------------------------------------------------------------------ stages
from stage_faults import FAULTS

from conformance.locate.divergence import describe, first_divergence
from conformance.locate.stages import CLAUSES, Key, keyed, network, way_back
from conformance.locate.symptoms import symptoms
from conformance.locate.traces import Trace, TraceError, digest, stage_of
from conformance.run.trace_check import grade


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


def test_a_difference_in_a_tile_is_named_with_its_place_in_the_picture():
    whole = tiled_reference()
    assert first_divergence(whole, traced(tiled())) is None
    names = [stage.name for stage in whole.stages]
    # the last number of a map of 4x4 positions, which is 16 samples high and wide
    for name, place, says in (
        ("tiles/0/inter/1/mlp2", "row 48, column 48", "tile 0, slice 1"),
        ("tiles/1/y_hat/2", "row 48, column 112", "tile 1, slice 2, both passes"),
        ("tiles/3/chan/1/0", "row 112, column 112", "tile 3, slice 1"),
        ("tiles/3/local/0/fc2", "row 112, column 112", "tile 3, slice 0, non-anchors"),
    ):
        wrong = altered(whole, names.index(name))
        found = first_divergence(whole, wrong)
        assert str(found.key) == name and found.as_dict()["tile"] == int(name.split("/")[1])
        text = "\n".join(describe(found))
        assert f"begin at {place}" in text and says in text
    # the last number of a map of the whole picture
    for name, place, tile in (
        ("z_hat", "row 64, column 64", 3),
        ("h_s/4", "row 112, column 112", None),
        ("g_s/1/igdn", "row 120, column 120", None),
    ):
        found = first_divergence(whole, altered(whole, names.index(name)))
        assert found.as_dict()["tile"] == tile and f"begin at {place}" in "\n".join(describe(found))


def test_z_hat_that_differs_is_in_a_tile():
    whole = tiled_reference()
    places = {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (1, 1)}
    for tile, place in places.items():
        values = whole.values(whole.stages[0]).copy()
        values[place] ^= 1
        wrong = stage_of("z_hat", values, 0)
        found = first_divergence(whole, Trace((wrong,), "wrong", lambda stage, values=values: values))
        assert found.as_dict()["tile"] == tile and f"tile {tile}" in "\n".join(describe(found))
    assert first_divergence(whole, Trace((wrong,), "without values")).as_dict()["tile"] is None


def test_the_suspects_of_g_s_are_in_all_tiles():
    whole = tiled_reference()
    last = altered(whole, len(whole.stages) - 1)
    found = first_divergence(whole, Trace(last.stages[-1:], "the end", last.values))
    assert {key.tile for key in found.unseen} == {None, 0, 1, 2, 3} and not found.known
    kept = [s for s in last.stages if "/y_hat/" in s.name] + [last.stages[-1]]
    found = first_divergence(whole, Trace(tuple(kept), "its inputs", last.values))
    assert {key.tile for key in found.unseen} == {None} and len(found.known) == 12


def test_names_of_tiles_are_those_of_the_stream():
    whole = tiled_reference()
    for name in ("tiles/0/z_hat", "tiles/0/h_s/4", "tiles/4/y_hat/0", "tiles/00/y_hat/0", "tiles/0/g_s/7", "y_hat/0"):
        with pytest.raises(TraceError, match=rf"no stage is named '{name}'.*tiles/k/"):
            first_divergence(whole, Trace((replace(whole.stages[0], name=name),), "strange"))


def test_traces_of_tiles_are_graded():
    whole = tiled_reference()
    assert grade(whole, whole).grade == "whole"
    needed = [s for s in whole.stages if re.search(r"z_hat|y_hat|ep_(non)?anchor/./3|g_s/7", s.name)]
    assert grade(whole, Trace(tuple(needed), "needed")).grade == "whole"
    part = [s for s in needed if s.name != "tiles/2/ep_anchor/1/3"]
    assert grade(whole, Trace(tuple(part), "part")).grade == "part"
    names = [stage.name for stage in whole.stages]
    assert grade(whole, altered(whole, names.index("h_s/2"))).grade == "entropy"
    assert grade(whole, altered(whole, names.index("tiles/1/y_hat/2"))).grade == "differs"
    samples = Trace((replace(whole.stages[-1], index=0),), "without loss")
    assert grade(samples, samples).grade == "whole"


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
        (BASE, BASE[:, :, ::-1], "channels are in reverse order"),
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
