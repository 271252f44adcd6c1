"""The search over models at the edges of the proof: what it makes, that all ways agree, and that it notices a fault."""

import json
from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from own_kit import suite
from parts import one_in

from conformance import cli
from conformance.mutants.mutant import declared
from conformance.mutants.unit_cases import run
from conformance.synthetic.models import procedural as models
from conformance.synthetic.models.attentions import near_tie
from conformance.synthetic.models.edges import LOGIT_SHIFTS, edge_content
from conformance.workbench import agree
from conformance.workbench.agree import Key, difference, first_difference, search, trial_of
from refcodec.arith import numpy_ops
from refcodec.arith.numpy_ops import attention
from refcodec.codec import decode_stream
from refcodec.errors import InvalidModel
from refcodec.model.integer_model import build_model, fingerprint
from refcodec.model.layers import Conv, Gain, Gdn, LinearAttention, LocalAttention
from refcodec.model.proof import GDN_MAX, INT32_MAX, bound_table
from refcodec.model.registry import load_model

FAULTY = 1
"""A model of seed 1 whose local attention has logits near ties and large biases."""


@cache
def some_models():
    """The first models of a seed, verified."""
    return [build_model(edge_content(1, number)) for number in range(24)]


def layers(kind):
    """All layers of a kind."""
    return [layer for made in some_models() for layer in made.layers.values() if isinstance(layer, kind)]


@pytest.fixture
def planted(monkeypatch):
    """NumPy's local attention adds position biases before the floor."""
    mutant = next(m for m in declared("attention") if m.id == "local/bias-before-floor")
    names = dict(vars(attention))
    exec(compile(mutant.apply(mutant.path.read_text(encoding="utf-8")), str(mutant.path), "exec"), names)
    monkeypatch.setattr(numpy_ops, "local_attention", names["local_attention"])


def test_a_model_is_a_function_of_seed_and_number():
    made = [fingerprint(edge_content(seed, number)) for seed, number in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert made[0] == made[1] and len(set(made)) == 3


@pytest.mark.slow
def test_bounds_are_pressed_to_their_ends():
    margins = defaultdict(list)
    for made in some_models():
        for bound in bound_table(made.ops, made.layers):
            margins[bound.quantity].append(bound.margin)
    assert all(min(found) >= 0 for found in margins.values())
    assert margins["accumulator"].count(0) > 100 and margins["beta + sum gamma x^2"].count(0) > 10
    assert 0 in margins["channels"] and min(margins["sum D^2"]) < GDN_MAX >> 12
    assert min(margins["sum"]) < 1 << 17


@pytest.mark.slow
def test_ranges_are_used_from_end_to_end():
    convolutions = layers(Conv)
    shifts = np.concatenate([layer.shift for layer in convolutions])
    biases = np.concatenate([layer.bias for layer in convolutions])
    assert (shifts.min(), shifts.max()) == (0, 30) and {*range(31)} == set(shifts.tolist())
    assert max(layer.add_shift.max() for layer in convolutions if layer.add_shift is not None) >= 15
    assert (biases.min(), biases.max()) == (-INT32_MAX, INT32_MAX)
    assert max(int(np.abs(layer.weight.astype(int)).max()) for layer in convolutions) == 32767
    assert {layer.shift for layer in layers(Gdn)} >= {0, 36}
    assert {int(n) for layer in layers(Gain) for n in (layer.shift.min(), layer.shift.max())} >= {1, 30}
    linear = [(layer.key_shift, layer.query_shift, layer.context_shift) for layer in layers(LinearAttention)]
    assert {min(s) for s in zip(*linear, strict=True)} == {0} and max(linear)[0] == 16
    local = layers(LocalAttention)
    assert any(layer.shift == 30 and int(np.abs(layer.bias.astype(int)).min()) > 1 << 30 for layer in local)


@pytest.mark.parametrize("shift", [1, 2, 13, *sorted(set(LOGIT_SHIFTS))])
def test_products_lie_where_they_are_wanted(shift):
    for below in (-1, 0, 1, 77):
        query, key = near_tie(shift, below)
        assert int(np.dot(query, key)) == (1 << shift - 1) - below
        assert max(map(abs, (*query, *key))) <= 32767


@pytest.mark.parametrize("number", one_in(3, range(3)))
def test_backends_and_document_agree(number):
    found, compared = difference(trial_of(1, number), True)
    assert found is None and compared > 200


def test_a_fault_of_one_backend_is_found_and_kept(planted, tmp_path):
    said = []
    found = search(1, range(FAULTY, FAULTY + 3), 3, failures=1, folder=tmp_path, say=said.append)
    assert (found.models, found.differing, found.refused) == (1, 1, 0)
    assert said[0] == (
        f"model {FAULTY} of seed 1: numpy, 1 thread differs from SPEC.md at local/0/attention: 34 of "
        "1200 numbers differ, the first at [0, 0, 75]: 20732 instead of 20731"
    )
    label = f"edges-1-{FAULTY}"
    kept = load_model(tmp_path / f"{label}.h5")
    trial = trial_of(1, FAULTY)
    assert kept.fingerprint == trial.model.fingerprint
    assert (tmp_path / f"{label}.loclic").read_bytes() == trial.stream
    assert np.array_equal(np.load(tmp_path / f"{label}.npy"), trial.picture)


def test_without_the_document_backends_are_compared_with_each_other(planted):
    found, _ = difference(trial_of(1, FAULTY), False)
    assert (found.way, found.reference, found.key) == ("numpy, 1 thread", "numba, 1 thread", Key("local/0/attention"))


def test_a_fault_of_the_encoder_is_found(monkeypatch):
    monkeypatch.setattr(numpy_ops, "gdn", numpy_ops.igdn)
    found, _ = difference(trial_of(1, 2), False)
    assert found.way == "numpy, 1 thread" and found.key == Key("g_a/0/gdn")


def test_a_fault_without_a_trace_is_found(monkeypatch):
    def wrong(x, layer, out, skip, total, threads=1):
        out[...] = 0

    monkeypatch.setattr(numpy_ops, "conv_sum", wrong)
    found, _ = difference(trial_of(1, 2), False)
    assert found.way == "numpy, 3 threads, no trace" and found.key in (Key("stream"), Key("samples"))


def test_shapes_values_and_refusals_differ():
    def told(found, expected):
        return str(first_difference("a", found, "b", expected))

    one, refusal = {Key("x"): np.array([[1, 2]])}, {Key("refusal"): np.frombuffer(b"no", np.uint8)}
    assert first_difference("a", one, "b", dict(one)) is None
    assert told({Key("x"): np.array([[1, 3]])}, one) == (
        "a differs from b at x: 1 of 2 numbers differ, the first at [0, 1]: 3 instead of 2"
    )
    assert told({Key("x"): np.array([1, 2])}, one) == "a differs from b at x: the shape is [2], not [1, 2]"
    assert told(one | refusal, one) == "a differs from b at refusal: a refuses: no"
    assert told(one, one | refusal) == "a differs from b at refusal: b refuses: no"
    assert first_difference("a", one | refusal, "b", one | refusal) is None


def test_models_that_verification_refuses_are_counted(monkeypatch):
    def refused(seed, number):
        if number == 0:
            raise InvalidModel("no", where="here")
        return trial_of(seed, number)

    monkeypatch.setattr(agree, "trial_of", refused)
    monkeypatch.setattr(agree, "difference", lambda trial, definition: (None, 7))
    found = search(1, range(9), 2, every=2)
    assert (found.models, found.refused, found.stages, found.defined) == (2, 1, 14, 1)


@pytest.mark.slow
def test_the_command(capsys):
    assert cli.main(["agree", "--models", "1", "--definition-every", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 models, 0 differ; ")
    assert cli.main(["agree", "--seed", "-1"]) == 2


def test_the_kit_tells_a_bias_before_the_floor(planted):
    vectors = {v.id: v for name in ("units", "extremes") for v in suite(name).vectors}
    cases = json.loads(vectors["units/local-attention-ties"].file.read_text())["cases"]
    wrong = [run("local_attention", case["input"], "numpy") != case["expect"] for case in cases]
    assert sum(wrong) >= len(cases) - 2
    for name in ("small", "large"):
        data = vectors[f"extremes/logits-{name}"].read()
        right, got = (
            decode_stream(data, model=models.model("logits"), backend=backend, threads=1)[0]
            for backend in ("numba", "numpy")
        )
        assert not np.array_equal(right, got)
