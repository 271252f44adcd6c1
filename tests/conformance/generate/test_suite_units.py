"""Unit cases are what SPEC.md's blocks and both backends of refcodec compute, and reach the ends of every range."""

import json
from functools import cache

import pytest
from own_kit import suite

from conformance.generate.unit_writer import annex_a, evaluate, refusal
from conformance.kit import suites
from conformance.mutants.unit_cases import WAYS, backends, run
from conformance.run.units import live, plain

FOLDER = suites.KIT / "suites" / "units"

DEFINED_ALONE = {
    "round_quotient",
    "pixel_shuffle",
    "padded_size",
    "container_positions",
    "coder_step_raw",
    "profiles",
    "model_level",
    "table_frequencies",
    "procedural_draw",
}
"""Functions that refcodec does not have separately; other cases cover their work."""


@cache
def documents():
    """Unit files by name."""
    return {v.id.split("/")[1]: json.loads(v.file.read_text()) for v in suite("units").vectors}


NAMES = sorted(p.stem for p in (FOLDER / "units").glob("*.json"))


def test_the_lines_of_the_readme_run(monkeypatch):
    monkeypatch.chdir(FOLDER.parents[3])
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    counted = {"__name__": "readme"}
    exec(lines, counted)
    assert counted["document"]["cases"] == documents()[NAMES[-1]]["cases"]


def test_every_file_is_a_vector():
    assert sorted(documents()) == NAMES and len(NAMES) > 55


@pytest.mark.parametrize("name", NAMES)
def test_cases_are_what_the_specification_computes(name):
    document = documents()[name]
    assert set(document) == {"operation", "section", "function", "about", "cases"} and document["operation"] == name
    assert len({case["id"] for case in document["cases"]}) == len(document["cases"])
    for case in document["cases"]:
        assert set(case) == {"id", "input", "expect"}
        assert evaluate(document["function"], case["input"]) == case["expect"], case["id"]


@pytest.mark.parametrize("name", NAMES)
def test_both_backends_compute_the_same(name):
    document = documents()[name]
    function = document["function"]
    assert (function in WAYS) != (function in DEFINED_ALONE)
    for backend in backends(function):
        for case in document["cases"]:
            assert run(function, case["input"], backend) == case["expect"], (backend, case["id"])


def leaves(value):
    """All numbers of nested lists and objects."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, dict):
        yield from leaves(list(value.values()))
    elif type(value) is int:
        yield value


def results(name):
    return set(leaves([case["expect"] for case in documents()[name]["cases"]]))


@pytest.mark.parametrize(
    "name",
    [
        "conv-1x1",
        "branch",
        "sum",
        "gain",
        "rescale",
        "gdn",
        "igdn",
        "reconstruction",
        "reconstruction-residual",
        "local-attention",
        "linear-attention",
    ],
)
def test_results_meet_both_ends_of_16_bits(name):
    assert {-32767, 32767} <= results(name)


def test_results_meet_the_ends_that_their_operations_have():
    assert {-1024, 1024} <= results("quantiser") and {2**31 - 1, 1 - 2**31} <= results("wide")
    norms = results("norm")
    assert max(norms) > 11500 and min(norms) < -11500  # sqrt(127) in Q10


def test_every_level_and_every_neighbour_of_a_threshold():
    levels = {level for case in documents()["scale-index"]["cases"] for level in leaves(case["expect"][0])}
    assert levels == set(range(128))


def test_every_table_of_gelu_and_half_tanh_is_read_at_its_end():
    for name in ("gelu-table", "half-tanh"):
        tables = {case["input"]["table"]["table"] for case in documents()[name]["cases"]}
        assert len(tables) == 9
    assert {0} < results("gelu-table") and {32, -32} <= results("half-tanh")


def test_quotients_of_layer_norm_are_negative_and_not_whole():
    """A decoder that truncates them differs in these."""
    spec = {case["id"]: case["expect"] for case in documents()["norm"]["cases"]}
    assert any(n < 0 for n in leaves(spec["small numbers"]))


def test_every_length_of_escapes_in_both_directions():
    found = {
        (part[1][0] >> 15, part[2][0] >> 12)
        for case in documents()["coder-intervals"]["cases"]
        if isinstance(part := case["expect"], list) and len(part) > 2
    }
    assert {n for _, n in found} == set(range(16)) and {sign for sign, _ in found} == {0, 1}


def test_kinds_of_refusals():
    found = {
        case["expect"]["error"]
        for document in documents().values()
        for case in document["cases"]
        if isinstance(case["expect"], dict) and "error" in case["expect"]
    }
    assert found >= {
        "CoderError",
        "SymbolError",
        "ChunkError",
        "TrailingBytes",
        "UnknownRequiredChunk",
        "BadMagic",
        "UnknownVersion",
        "TruncatedStream",
        "HeaderError",
        "ChecksumError",
    }
    assert refusal(ValueError("no word is left")) == {"error": "CoderError"}


def test_forms_of_values():
    assert live({"a": {"hex": "00ff"}, "b": {"runs": [["01", 3], ["02", 1]]}}, {}) == {"a": b"\0\xff", "b": b"\1\1\1\2"}
    assert plain(b"\1\2") == {"hex": "0102"} and plain((1, [b""])) == [1, [{"hex": ""}]]
    assert plain(bytes(5000))["length"] == 5000
    assert live({"table": "exp2"}, annex_a())[0] == 1 << 24
