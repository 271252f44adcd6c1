"""Claims of the extremes suite: bounds reached, clamps met on both sides, ties of every rounding, every threshold."""

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest
from own_kit import suite
from spec import spec_module
from tiny_models import spec_content

from conformance.kit import suites
from conformance.reach import backward, bounds, search
from conformance.reach.probe import Reach, probe
from conformance.synthetic.models import attentions, limits
from conformance.synthetic.models import procedural as models
from conformance.synthetic.models.procedural import model
from refcodec.codec import decode_stream
from refcodec.errors import InvalidModel
from refcodec.model.integer_model import build_model
from refcodec.model.proof import INT32_MAX, bound_table

CONSTRUCTED = ("limits", "narrow", "attentions", "wires")


@cache
def vectors():
    """Valid streams of the suite by id, but those of the search."""
    return {
        v.id: v
        for v in suite("extremes").vectors
        if v.outcome == "accept" and not v.id.startswith(("extremes/reach", "extremes/model-"))
    }


@cache
def reach(name):
    """Values that the suite's streams of a model reach."""
    found = Reach()
    for vector in vectors().values():
        if vector.model.name == name:
            probe(vector.read(), model(name), found)
    return found


def decoder_ops(made):
    """Operations that a stream reaches."""
    return [op for op in made.ops if op.name.split("/")[0] not in search.ENCODER_ONLY]


@pytest.mark.parametrize("name", CONSTRUCTED)
def test_constructed_models_are_proved_by_the_loader_and_by_the_document(name):
    margins = dict(model(name).margins)
    spec = spec_module()
    assert spec.prove(spec.build_model(spec_content(models.source(name).content()))) == margins
    assert min(margins.values()) >= 0


def test_the_model_of_limits_has_no_room_left():
    made = model("limits")
    convolutions = [op.name for op in decoder_ops(made) if op.kind == "conv"]
    assert {made.margins[name] for name in convolutions} == {0}
    assert all(b.margin == 0 for b in bound_table(made.ops, made.layers) if b.quantity.startswith("beta"))


@pytest.mark.parametrize("name", ["h_s/0", "ep_nonanchor/1/3", "g_s/6/conv2", "inter/2/mlp2"])
def test_one_more_in_a_bias_of_the_model_of_limits_is_refused(name):
    content = dict(models.source("limits").content())
    constants = content[f"layers/{name}/constants"].copy()
    constants[0, 0] += 1 if limits.signs(model("limits").ops)[name][0] >= 0 else -1
    with pytest.raises(InvalidModel):
        build_model(content | {f"layers/{name}/constants": constants})


def test_accumulators_of_the_model_of_limits_reach_their_bounds_on_both_sides():
    made, found = model("limits"), reach("limits")
    reached = {
        op.name: (found.least[op.name, "accumulator"], found.greatest[op.name, "accumulator"])
        for op in decoder_ops(made)
        if op.kind == "conv"
    }
    exact = [name for name, ends in reached.items() if max(-ends[0], ends[1]) == INT32_MAX]
    below = {name for name in reached if name not in exact}
    assert len(exact) >= 0.8 * len(reached)
    assert all(
        bounds.why_below(b, True) != "search"
        for b in bound_table(made.ops, made.layers)
        if b.name in below and b.quantity == "accumulator" and not b.name.endswith("local/2/fc2")
    )
    assert sum(ends == (-INT32_MAX, INT32_MAX) for ends in reached.values()) >= 50
    assert found.magnitude("g_s/1/igdn", "beta + sum gamma x^2") == 2**52 - 1


@pytest.mark.slow
def test_layers_that_read_the_stream_reach_their_bounds_in_a_procedural_model():
    made, found = model("tiny-7"), reach("tiny-7")
    proved = {b.name: b.worst for b in bound_table(made.ops, made.layers) if b.quantity == "accumulator"}
    names = {name for name, _ in search.direct_patterns(made)}
    assert {"h_s/0", "g_s/0/conv1", "chan/2/0", "inter/2/values1", "intra/1/keys0"} <= names
    for name in names:
        masked = name.startswith("intra/") and name.endswith("1")
        assert found.magnitude(name, "accumulator") == proved[name] or masked, name


def test_every_clamp_of_the_decoder_is_met_on_both_sides():
    found = reach("narrow")
    for op in decoder_ops(model("narrow")):
        if not op.wide and op.kind != "norm":  # a normalised vector's clamp is out of reach: sqrt(128) in Q10 is 11585
            assert found.clamped[op.name, 1] and found.clamped[op.name, -1], op.name
    for name in (
        "means",
        "y_hat",
        "refined y_hat",
        "half tanh",
        "samples",
        "inter/1/attention/context",
        "intra/2/attention/context",
    ):
        assert found.clamped[name, 1] and found.clamped[name, -1], name


@pytest.mark.slow
def test_halves_are_rounded_in_every_kind_of_rounding_on_both_sides_of_zero():
    ties = sum((reach(name).ties for name in ("narrow", "attentions", "tiny-7", "limits")), Counter())
    for rounding in (
        "convolution",
        "gain",
        "rescale",
        "sum",
        "igdn",
        "norm",
        "logit",
        "local attention",
        "context",
        "linear attention",
    ):
        assert ties[rounding, 1] and ties[rounding, -1], rounding
    assert ties["exponential", 1] and ties["softmax", 1] and ties["grey", 1]


def test_weights_of_a_half_are_constructed():
    exponentials = np.array([0 if octaves > 24 else 1 << (24 - octaves) for octaves in attentions.tie_octaves()])
    total = int(exponentials.sum())
    assert total == 1 << 25
    assert [int(e) * (2**47 // total) % 2**31 for e in exponentials].count(2**30) == len(attentions.TIE_KEYS)


def test_scales_lie_at_every_threshold_and_beside_it():
    found = reach("wires").thresholds
    assert all(found[k, difference] for k in range(127) for difference in (-1, 0, 1))


def test_gains_have_shifts_and_multipliers_of_both_ends():
    for name, shifts in (("limits", (1, 14)), ("narrow", (1, 30))):
        steps = [v.read()[7] - 1 for v in vectors().values() if v.model.name == name]
        layer = model(name).layers["g_s/input"]
        assert {int(s) for s in layer.shift[steps].reshape(-1)} >= set(shifts), name
    assert set(model("limits").layers["g_s/input"].multiplier.reshape(-1).tolist()) == {2**14, 2**15 - 1}


def test_bounds_json_is_what_the_streams_reach():
    table = json.loads(bounds.TABLE.read_text(encoding="utf-8"))
    assert table["search"] == {"random": search.RANDOM, "changes": search.STEPS, "seed": search.SEED}
    for name in bounds.MODELS:
        wanted = {"extremes/limits-plus", "extremes/direct-hs.0", *sorted({row["vector"] for row in table[name]})[-6:]}
        for identifier in wanted:
            found = Reach()
            rows = [row for row in table[name] if row["vector"] == identifier]
            path = suites.KIT / "suites" / "extremes" / "streams" / f"{identifier.split('/')[1]}.loclic"
            if rows:
                probe(path.read_bytes(), model(name), found)
            assert all(found.magnitude(row["operation"], row["quantity"]) == row["reached"] for row in rows)


def test_bounds_json_is_of_the_models_as_they_are():
    table = json.loads(bounds.TABLE.read_text(encoding="utf-8"))
    for name in bounds.MODELS:
        made = model(name)
        targets = set(search.targets(made))
        proved = [
            (b.name, b.quantity, b.worst, b.bits)
            for b in bound_table(made.ops, made.layers)
            if (b.name, b.quantity) in targets
        ]
        assert [(r["operation"], r["quantity"], r["proved"], r["bits"]) for r in table[name]] == proved
        for row in table[name]:
            assert row["reached"] <= row["proved"] and row["reached_bits"] == row["reached"].bit_length() + 1
            assert (row["how"] == "exact") == (row["reached"] == row["proved"])


def test_the_search_is_a_function_of_its_seed(monkeypatch):
    made = model("tiny-7")
    monkeypatch.setattr(search, "RANDOM", 4)
    monkeypatch.setattr(search, "STEPS", 2)
    monkeypatch.setattr(search, "decoder_convolutions", lambda model: [op for op in model.ops if op.name == "g_s/7"])
    monkeypatch.setattr(search, "targets", lambda model: [("g_s/7", "accumulator"), ("local/1/fusion", "accumulator")])
    first, second = (search.search(made, lambda text: None) for _ in range(2))
    assert first == second and first
    pattern = search.from_text(made, first[0])
    assert pattern.as_text() | {"best": first[0]["best"]} == first[0]
    found, streamed = Reach(), Reach()
    pattern.measure(made, found)
    probe(pattern.stream(made), made, streamed)
    assert found.greatest == streamed.greatest and found.least == streamed.least


def test_a_probe_that_differs_from_the_engine_is_noticed(monkeypatch):
    vector = vectors()["extremes/norm-halves"]
    monkeypatch.setattr(Reach, "shifted", lambda self, rounding, a, shift: a >> shift)
    with pytest.raises(RuntimeError, match="differ"):
        probe(vector.read(), model("tiny-7"), Reach())


def test_values_at_the_ends_of_their_ranges_are_seen():
    found = Reach()
    found.see_clamp("a", np.array([-6, -5, 5, 6, 7]), 5)
    assert found.clamped == {("a", 1): 2, ("a", -1): 1}
    assert found.shifted("b", np.array([-3, -2, -1, 0, 1, 2, 3]), 1).tolist() == [-1, -1, 0, 0, 1, 1, 2]
    assert found.quotient("c", np.array([-3, -1, 1, 3]), np.array(2)).tolist() == [-1, 0, 1, 2]
    assert found.ties == {("b", 1): 2, ("b", -1): 2, ("c", 1): 2, ("c", -1): 2}


def test_the_picture_shows_what_the_attentions_give():
    made = model("attentions")
    equal = decode_stream(vectors()["extremes/attention-equal"].read(), model=made, threads=1)[0]
    for name in ("large", "alternating", "one-key"):
        other = decode_stream(vectors()[f"extremes/attention-{name}"].read(), model=made, threads=1)[0]
        assert (equal != other).mean() > 0.1


def test_slopes_of_a_layer_that_reads_the_stream_are_its_filter():
    made = model("tiny-7")
    layer, output = made.layers["chan/2/0"], 5
    z, y = backward.symbol_slopes(made, "chan/2/0", output, (3, 4), 2)
    wanted = np.zeros_like(y)
    wanted[2:5, 3:6, :16] = layer.weight[output] * 2.0 ** -int(layer.shift[output])
    assert (y == wanted).all() and not z.any()


@pytest.mark.parametrize("row, column, output", [(0, 0, 0), (5, 2, 3), (14, 15, 7)])
def test_slopes_follow_pixel_shuffles_back(row, column, output):
    made = model("wires")
    z, y = backward.symbol_slopes(made, "g_s/3/upsample", output, (row, column), 2)
    channel = 4 * output + 2 * (row % 2) + column % 2  # the wire from y through the shuffle before
    assert not z.any() and y.sum() == y[row // 2, column // 2, channel] == 1
