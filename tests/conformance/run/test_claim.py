"""Claims are made from reports and hold only for what was run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny_kit
from own_kit import tiny_trace
from tiny_kit import command, invalid, toy_model, valid, write_suite

from conformance import cli
from conformance.kit import suites
from conformance.kit.vectors import Accept, Reject, Vector
from conformance.locate.traces import Trace, read_trace
from conformance.run import claim, trace_check

FACTS = ("--name", "toydec", "--version", "1.0", "--vendor", "Us")


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit with small and large streams of a model of level B."""
    folder = tmp_path_factory.mktemp("kit")
    entry = toy_model() | {"profiles": ["main", "full"], "level": "B"}
    write_suite(
        folder, "core", [valid("core/small", 5, 4, 3, 9), valid("core/wide", 4097, 1, 1, 9)], models={"toy": entry}
    )
    write_suite(folder, "invalid", [invalid("invalid/crc")], models={"toy": entry})
    return folder


@pytest.fixture
def report(kit, tmp_path, capsys):
    """The path of a report for a decoder that behaves so."""

    def make(behaviour, *more):
        path = tmp_path / f"{behaviour}.json"
        cli.main(["run", "--kit", str(kit), "--decoder", command(tmp_path, behaviour), "--json", str(path), *more])
        capsys.readouterr()
        return path

    return make


def make(kit, path, out, *more):
    return cli.main(["claim", str(path), "--kit", str(kit), "-o", str(out), *FACTS, *more])


def check(kit, path):
    return cli.main(["claim", "--check", str(path), "--kit", str(kit)])


def test_a_claim_is_made_and_holds(kit, report, tmp_path, capsys):
    out = tmp_path / "claim.json"
    assert make(kit, report("good"), out) == 0
    value = json.loads(out.read_text())
    assert value["points"] == "PDR" and value["profile"] == "full" and value["level"] == "8D"
    assert value["implementation"] == {"name": "toydec", "version": "1.0", "vendor": "Us"}
    assert set(value["results"]) == {"core/small", "core/wide", "invalid/crc"}
    assert value["machine"]["python"] and value["suites"]["core"]["version"] == 1 and value["specification"] == 1
    assert value["kit"] == suites.kit_hash(suites.load_all(kit))
    assert check(kit, out) == 0
    assert capsys.readouterr().out == "holds: Us toydec 1.0, profile full, level 8D, points P, D, R; 3 results\n"


def test_points_may_be_left_out_but_not_added(kit, report, tmp_path, capsys):
    out = tmp_path / "claim.json"
    assert make(kit, report("good"), out, "--points", "R") == 0
    assert json.loads(out.read_text())["points"] == "R" and check(kit, out) == 0
    capsys.readouterr()
    assert make(kit, report("good"), out, "--points", "DT") == 1
    assert "the points T are not reached; reached are P, D, R" in capsys.readouterr().err
    assert make(kit, report("black"), out) == 0
    assert json.loads(out.read_text())["points"] == "PR"
    assert make(kit, report("traceback"), out) == 1
    assert "no point is reached" in capsys.readouterr().err


def test_a_level_says_what_belongs(kit, report, tmp_path, capsys):
    out, part = tmp_path / "claim.json", report("good", "--id", "core/small", "--id", "invalid/*")
    assert make(kit, part, out, "--profile", "main", "--level", "1B") == 0 and check(kit, out) == 0
    assert set(json.loads(out.read_text())["results"]) == {"core/small", "invalid/crc"}
    capsys.readouterr()
    assert make(kit, part, out, "--level", "2B") == 1
    assert "1 of 3 vectors did not run, such as core/wide" in capsys.readouterr().err
    assert make(kit, part, out, "--level", "9Z") == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(points="PEDR"), "changed after it was made"),
        (lambda c: c["results"]["core/small"].update(exact=False), "changed after it was made"),
        (lambda c: c.pop("machine"), "'machine' is missing"),
        (lambda c: c.update(extra=1), "unknown field 'extra'"),
        (lambda c: c.update(points="X"), "'points' holds other letters"),
        (lambda c: c["results"]["core/small"].update(outcome="great"), "'outcome' is \"great\""),
        (lambda c: c["results"]["core/small"].pop("seen"), "'seen' is missing"),
        (lambda c: c["implementation"].update(vendor=""), "'vendor' is empty"),
        (lambda c: c.update(format=2), "'format' is 2"),
        (lambda c: c.update(kind="x"), "'kind' is \"x\""),
    ],
)
def test_what_is_wrong_with_a_claim_is_said(kit, report, tmp_path, capsys, change, says):
    out = tmp_path / "claim.json"
    make(kit, report("good"), out)
    value = json.loads(out.read_text())
    change(value)
    out.write_text(json.dumps(value))
    assert check(kit, out) == 1 and says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(points="PEDR"), "it claims E, which its results do not reach"),
        (lambda c: c["results"]["core/small"].update(exact=False), "it claims D"),
        (lambda c: c["results"]["core/small"].update(seen="crash"), "it claims P, D, R"),
        (lambda c: c["results"]["invalid/crc"].update(outcome="accepted-invalid", seen="accepted"), "it claims P, D"),
        (lambda c: c["results"].pop("core/wide"), "its results are not those of the vectors"),
        (lambda c: c["results"].update({"core/more": c["results"]["core/small"]}), "its results are not those"),
        (lambda c: c["suites"]["core"].update(version=2), "suite 'core' is another than the kit's"),
        (lambda c: c["suites"]["core"].update(sha256="0" * 64), "suite 'core' is another than the kit's"),
        (lambda c: c["suites"].pop("core"), "'kit' is not the hash of its suites"),
        (lambda c: c["suites"].update(x={}), "no suite 'x'"),
        (lambda c: c["suites"].clear(), "'kit' is not the hash of its suites"),
        (lambda c: c.update(level="0A"), "level '0A'"),
        (lambda c: c["run"].update(kind="encoder", command=""), "it claims P, D, R"),
        (lambda c: c["run"].update(kind="x"), "'kind' is \"x\""),
    ],
)
def test_a_forged_claim_does_not_hold(kit, report, tmp_path, capsys, change, says):
    """With a digest that fits."""
    out = tmp_path / "claim.json"
    make(kit, report("good"), out)
    value = json.loads(out.read_text())
    change(value)
    out.write_text(json.dumps(value | {"sha256": claim.digest(value)}))
    assert check(kit, out) != 0 and says in capsys.readouterr().err


def test_other_suites_make_no_claim(kit, report, tmp_path, capsys):
    other = tiny_kit.tiny_kit(tmp_path / "other")
    out = tmp_path / "claim.json"
    assert make(other, report("good"), out) == 1 and "other suites than these" in capsys.readouterr().err
    make(kit, report("good"), out)
    assert check(other, out) == 1 and "is another than the kit's" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a", "--check", "b"], ["/no/such/report"], ["--check", "/no/such/claim"]])
def test_claims_need_their_arguments(kit, arguments):
    facts = [] if "--check" in arguments else FACTS
    assert cli.main(["claim", "--kit", str(kit), *arguments, *facts]) == 2


def test_a_claim_needs_a_name_and_a_report(kit, report, tmp_path, capsys):
    assert cli.main(["claim", str(report("good")), "--kit", str(kit), "--name", "x"]) == 2
    assert "--version is missing" in capsys.readouterr().err
    for text in ("{}", "[]", "{", '{"kit": {"suites": {"core": {}}}, "kind": "decoder", "vectors": 1}'):
        (tmp_path / "no.json").write_text(text)
        assert make(kit, tmp_path / "no.json", tmp_path / "out") == 2
        assert "not a report of this version" in capsys.readouterr().err


# Points


def vector(expect, trace=None):
    return Vector("core/x", None, "", None, expect, (), "", "", "", trace)


VALID, INVALID = Accept(1, 1, 3, ""), Reject("ChecksumError", "container")
GOOD = {"outcome": "pass", "seen": "accepted", "exact": True, "wrote": True, "trace": ""}
REFUSED = {"outcome": "pass", "seen": "refused", "exact": False, "wrote": False, "trace": ""}


@pytest.mark.parametrize(
    ("expect", "change", "points"),
    [
        (VALID, {}, "PDR"),
        (VALID, {"exact": False, "outcome": "fail"}, "PR"),
        (VALID, {"seen": "refused", "exact": False, "outcome": "fail", "wrote": False}, "R"),
        (VALID, {"seen": "refused", "exact": False, "outcome": "fail"}, ""),
        (VALID, {"seen": "not-supported", "exact": False, "outcome": "not-supported", "wrote": False}, "R"),
        (VALID, {"seen": "crash", "exact": False, "outcome": "crash"}, ""),
        (VALID, {"seen": "timeout", "exact": False, "outcome": "timeout"}, ""),
        (VALID, {"seen": "", "exact": False, "outcome": "skipped"}, ""),
        (INVALID, {}, "PDR"),
        (INVALID, {"outcome": "wrong-class"}, "R"),
        (INVALID, {"outcome": "fail", "wrote": True}, ""),
        (INVALID, {"outcome": "accepted-invalid", "seen": "accepted", "wrote": True}, "R"),
        (INVALID, {"outcome": "crash", "seen": "crash"}, ""),
        (Reject("CoderError", "entropy"), {"outcome": "wrong-class"}, "PR"),
        (Reject("CoderError", "entropy"), {}, "PDR"),
    ],
)
def test_points_follow_from_results(expect, change, points):
    base = GOOD if expect is VALID else REFUSED
    assert claim.points_of([vector(expect)], {"core/x": base | change}) == points


@pytest.mark.parametrize(
    ("trace", "points"),
    [("whole", "PEDTR"), ("part", "PDR"), ("entropy", "PEDR"), ("differs", "PDR"), ("missing", "PDR"), ("", "PDR")],
)
def test_traces_give_points(tmp_path, trace, points):
    traced = vector(VALID, tmp_path)
    assert claim.points_of([traced], {"core/x": GOOD | {"trace": trace}}) == points


def test_a_stream_that_is_not_decoded_takes_the_trace_s_point(tmp_path):
    vectors = [vector(VALID, tmp_path), replace(vector(VALID), id="core/y")]
    for seen, points in (("accepted", "PEDTR"), ("not-supported", "R"), ("timeout", "")):
        late = GOOD | {"seen": seen, "exact": seen == "accepted", "wrote": False}
        assert claim.points_of(vectors, {"core/x": GOOD | {"trace": "whole"}, "core/y": late}) == points


def test_no_result_gives_no_point():
    assert claim.points_of([], {}) == claim.points_of([vector(VALID)], {}) == ""


# Grades of traces


@pytest.fixture(scope="module")
def whole():
    """The trace of a decoder with three slices, as the suites hold it."""
    return read_trace(tiny_trace())


def changed(trace, keep=lambda s: True, spoil=lambda s: False):
    stages = [replace(s, sha256="0" * 64) if spoil(s) else s for s in trace.stages if keep(s)]
    return Trace(tuple(stages), "tested")


def test_traces_are_graded(whole):
    needed = {s.name for s in whole.stages if trace_check._NEEDED.fullmatch(s.name)}
    assert len(needed) == 1 + 3 + 6 + 1
    assert trace_check.grade(whole, whole).grade == "whole"
    assert trace_check.grade(whole, changed(whole, lambda s: s.name in needed)).grade == "whole"
    for missing in needed:
        assert trace_check.grade(whole, changed(whole, lambda s, m=missing: s.name != m)).grade == "part"
    spoilt = trace_check.grade(whole, changed(whole, spoil=lambda s: s.name == "g_s/7"))
    assert spoilt.grade == "entropy" and spoilt.lines and not spoilt.acceptable
    spoilt = trace_check.grade(whole, changed(whole, spoil=lambda s: s.name == "y_hat/1"))
    assert spoilt.grade == "differs" and "y_hat/1" in spoilt.lines[0]


def test_trace_files_are_graded(whole, tmp_path):
    assert trace_check.check(tmp_path / "a", tmp_path / "absent").grade == "missing"
    for text in ("", "not JSON\n"):
        (tmp_path / "bad").write_text(text)
        found = trace_check.check(tmp_path / "bad", tmp_path / "bad")
        assert found.grade == "missing" and not found.acceptable


def test_acceptable_grades():
    grades = {g: trace_check.Found(g).acceptable for g in ("whole", "part", "entropy", "differs", "missing")}
    assert [g for g, good in grades.items() if good] == ["whole", "part"]
