"""Narrowed intermediates: places fit SPEC.md, types narrow as they say, and vectors notice what they did."""

import argparse
import json
import random

import pytest

from conformance.kit.errors import NothingToDo
from conformance.mutants.mutant import ROOT
from conformance.narrowing import command as narrowing
from conformance.narrowing.places import NARROWINGS, PACKED, PLACES, Narrowing

NAMES = {n.name: n for n in NARROWINGS}
SAME = Narrowing("same", 0, 0, int)


def command(*patterns, **more):
    parser = argparse.ArgumentParser()
    narrowing.add_arguments(parser)
    args = parser.parse_args([*patterns])
    vars(args).update(jobs=1, **more)
    return narrowing.main(args)


@pytest.mark.slow
def test_places_fit_the_blocks_and_have_names_of_their_own():
    assert len({place.name for place in PLACES}) == len(PLACES) > 90
    for place in PLACES:
        assert narrowing.narrowed(place, SAME).round_shift(5, 1) == 3
        assert set(", ".join(place.proofs).split(", ")) - {""} <= {*NAMES, PACKED.name}


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("int8", 128, -128),
        ("int16", -32769, 32767),
        ("uint16", 65536, 0),
        ("uint32", 2**32 + 5, 5),
        ("int64", 2**63, -(2**63)),
        ("float32", 2**24 + 1, 2**24),
        ("float32", -(2**25) - 3, -(2**25) - 4),
        ("float64", 2**53 + 1, 2**53),
        ("saturated int16", 40000, 32767),
        ("saturated int32", -(2**40), -(2**31)),
    ],
)
def test_types(name, value, result):
    kind = NAMES[name]
    assert kind.apply(value) == result and not kind.least <= value <= kind.most
    assert all(kind.apply(v) == v for v in (0, 1, kind.most, kind.least))


def test_a_type_that_holds_the_bound_needs_no_vector():
    place = next(p for p in PLACES if p.name == "rescale: with the half")
    assert [n.name for n in place.narrowings() if not place.proof(n)] == ["int8", "int16", "saturated int16"]


def test_every_narrowing_has_a_vector_or_a_proof():
    known = json.loads(narrowing.FOUND.read_text(encoding="utf-8"))
    found = narrowing.trials(known)
    assert [f"{t.place.name}, {t.narrowing.name}" for t in found if not (t.unit or t.stream)] == []
    assert set(known) <= {place.name for place in PLACES}


@pytest.mark.slow
def test_a_decoder_that_is_not_narrowed_passes():
    vectors = narrowing._vectors()
    for function, stream in (("refine", "extremes/attention-border"), ("gdn", "extremes/norm-ties")):
        place = next(p for p in PLACES if p.function == function)
        blocks = narrowing.narrowed(place, SAME)
        assert not narrowing._unit_notices(vectors["units/reconstruction"], blocks)
        assert not narrowing._stream_notices(vectors[stream], narrowing._fast(blocks, function))


@pytest.mark.slow
def test_a_sample_is_noticed(capsys):
    known = json.loads(narrowing.FOUND.read_text(encoding="utf-8"))
    for trial in random.Random(1).sample(narrowing.trials(known), 20):
        assert narrowing.tried(trial, search=False) == trial


@pytest.mark.slow
def test_the_command(capsys, tmp_path, monkeypatch):
    with pytest.raises(NothingToDo):
        command("nothing of this name")
    assert command(table=True) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(PLACES) + 2 and len({row.count("|") for row in rows}) == 1
    known = json.loads(narrowing.FOUND.read_text(encoding="utf-8"))
    shown = (ROOT / "conformance" / "README.md").read_text(encoding="utf-8")
    assert all(row in shown for row in rows)
    known["quantiser: clamp"]["packed"] = ["units/sum", ""]  # which does not notice it
    monkeypatch.setattr(narrowing, "FOUND", tmp_path / "found.json")
    narrowing.FOUND.write_text(json.dumps(known), encoding="utf-8")
    assert command("quantiser: clamp") == 1
    assert capsys.readouterr().out.endswith("0 of 1 narrowings are noticed\n")
