"""Unit cases through the runner: programs that compute them, and liars."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from own_kit import suite
from tiny_kit import sha256, valid, write_suite

from conformance import cli
from conformance.kit.errors import SuiteDamaged
from conformance.run import units

CASES = [
    {"id": "small", "input": {"x": [1, 2]}, "expect": [3, 4]},
    {"id": "large", "input": {"x": [2**62]}, "expect": {"returns": [2**62 + 2], "ok": True}},
    {"id": "refused", "input": {"x": []}, "expect": {"error": "CoderError"}},
]
DOCUMENT = {"operation": "add", "about": "Adds two.", "cases": CASES}
RIGHT = {case["id"]: case["expect"] for case in CASES}

PROGRAM = r"""
import json, os, sys, time

behaviour, unit, output = sys.argv[1:4]
document = json.load(open(unit))
assert document["operation"] == "add" and not any("expect" in case for case in document["cases"])
answers = {"small": [3, 4], "large": {"returns": [2**62 + 2], "ok": True}, "refused": {"error": "CoderError"}}
assert [case["id"] for case in document["cases"]] == list(answers) and document["cases"][1]["input"] == {"x": [2**62]}
if behaviour == "wrong":
    answers["small"][1] = 5
if behaviour == "float":
    answers["small"] = [3.0, 4]
if behaviour == "missing":
    del answers["large"]
if behaviour == "more":
    answers["else"] = 1
if behaviour == "list":
    answers = []
if behaviour == "unsupported":
    sys.exit(69)
if behaviour == "refuses":
    sys.exit("CoderError")
if behaviour == "crashes":
    os.abort()
if behaviour == "hangs":
    time.sleep(600)
if behaviour == "silent":
    sys.exit(0)
open(output, "w").write("[" if behaviour == "not-json" else json.dumps(answers))
if behaviour == "link":
    os.rename(output, output + ".real"), os.symlink(output + ".real", output)
"""


@pytest.fixture
def kit(tmp_path):
    """A kit with one stream and one unit file."""
    vector, stream = valid("core/a", 2, 2, 3, 1)
    unit = {name: vector[name] for name in ("clauses", "suggests", "origin", "licence")}
    data = json.dumps(DOCUMENT).encode()
    unit |= {"id": "core/add", "unit": "add.json", "sha256": sha256(data)}
    path = write_suite(tmp_path, "core", [(vector, stream)], vectors=[vector, unit])
    (path.parent / "add.json").write_bytes(data)
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def run(kit, behaviour, *more):
    report = kit / "report.json"
    program = f"{sys.executable} -S -E {kit}/program.py {behaviour} {{unit}} {{output}}"
    code = cli.main(["run", "--kit", str(kit), "--units", program, "--json", str(report), *more])
    return code, json.loads(report.read_text()) if report.exists() else {}


def test_right_answers_pass(kit):
    code, report = run(kit, "good")
    assert code == 0 and report["summary"]["all"]["pass"] == 1
    [entry] = report["vectors"]
    assert (entry["id"], entry["expected"], entry["detail"], entry["exact"]) == ("core/add", "unit", "3 cases", True)


@pytest.mark.parametrize(
    ("behaviour", "outcome", "says"),
    [
        ("wrong", "fail", "1 of 3 cases differ; case 'small': [1] is 5, expected 4"),
        ("float", "fail", "case 'small': [0] is 3.0, expected 3"),
        ("missing", "fail", "1 of 3 cases are missing, such as 'large'"),
        ("more", "fail", "there is no case 'else'"),
        ("list", "fail", "the answer is no object of results by id"),
        ("silent", "fail", "no answer was written"),
        ("link", "fail", "no answer was written"),
        ("not-json", "fail", "the answer is not JSON"),
        ("refuses", "fail", "refused: CoderError"),
        ("crashes", "crash", "SIGABRT"),
        pytest.param("hangs", "timeout", "ended after", marks=pytest.mark.slow),
        ("unsupported", "not-supported", ""),
    ],
)
def test_wrong_answers_fail(kit, behaviour, outcome, says):
    code, report = run(kit, behaviour, "--timeout", "2" if behaviour == "hangs" else "20")
    assert code == (4 if outcome == "not-supported" else 1)
    assert report["vectors"][0]["outcome"] == outcome and says in report["vectors"][0]["detail"]


def test_streams_and_units_run_together(kit, capsys):
    decoder = f"{sys.executable} -S -E -c 'import sys; sys.exit(65)' {{stream}} {{output}}"
    code, report = run(kit, "good", "--decoder", decoder)
    assert code == 1 and [v["outcome"] for v in report["vectors"]] == ["fail", "pass"]
    code, report = run(kit, "good", "--decoder", decoder, "--expect", "unit")
    assert code == 0 and [v["id"] for v in report["vectors"]] == ["core/add"]
    capsys.readouterr()
    assert cli.main(["run", "--kit", str(kit), "--decoder", decoder, "--expect", "unit"]) == 4
    assert cli.main(["run", "--kit", str(kit)]) == 2
    assert "give --decoder, --serve or --units" in capsys.readouterr().err
    assert cli.main(["run", "--kit", str(kit), "--units", "true {unit}"]) == 2


@pytest.mark.parametrize(
    ("expected", "got", "says"),
    [
        (1, 1, ""),
        (1, 2, "result is 2, expected 1"),
        (1, 1.0, "result is 1.0, expected 1"),
        (1, True, "result is true, expected 1"),
        (True, 1, "result is 1, expected true"),
        (None, None, ""),
        (None, 0, "result is 0, expected null"),
        ("a", "a", ""),
        ([], [], ""),
        ([], {}, "result is {}, expected []"),
        ([1, [2, 3]], [1, [2, 4]], "[1][1] is 4, expected 3"),
        ([[1], [2]], [[1], 2], "[1] is 2, expected [2]"),
        ([1, 2], [1], "result has 1 parts, expected 2"),
        ([[1, 2]], [[1, 2, 3]], "[0] has 3 parts, expected 2"),
        ({"a": [1]}, {"a": [2]}, ".a[0] is 2, expected 1"),
        ({"a": 1}, {"b": 1}, 'result is {"b": 1}, expected {"a": 1}'),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ""),
        ([2, 1], [3, 4], "[0] is 3, expected 2"),
    ],
)
def test_values_are_compared_exactly(expected, got, says):
    assert units.first_difference(expected, got) == says


def test_all_differences_are_counted():
    wrong = {**RIGHT, "small": [3, 5], "refused": [1]}
    assert units.compare(CASES, wrong).startswith("2 of 3 cases differ; case 'small'")
    assert units.compare(CASES, RIGHT) == ""


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "an object is expected"),
        (b'{"cases": []}', "there are no cases"),
        (b'{"cases": [1]}', "case 0: an object is expected"),
        (b'{"cases": [{"id": "a", "input": {}}]}', "'expect' is missing"),
        (b'{"cases": [{"id": "", "input": {}, "expect": 1}]}', "'id' is empty"),
        (b'{"cases": [{"id": "a", "expect": 1}]}', "'input' is missing"),
        (b"{}", "'cases' is missing"),
        (json.dumps({"cases": [CASES[0], CASES[0]]}).encode(), "two have one id"),
    ],
)
def test_a_damaged_unit_file_is_refused(data, says):
    with pytest.raises(SuiteDamaged) as error:
        units.read_cases(data, "file")
    assert says in str(error.value)


def test_a_huge_answer_is_not_read(tmp_path):
    (tmp_path / "answer").write_text("{}   ")
    assert units.read_answer(tmp_path / "answer", 5) == ({}, "")
    assert units.read_answer(tmp_path / "answer", 4)[1] == "the answer is larger than 4 bytes"
    assert units.longest_answer(CASES) >= len(json.dumps(RIGHT, indent=8)) + 1000


@pytest.mark.slow
def test_the_blocks_of_spec_compute_the_suite_s_own_cases(tmp_path):
    program = tmp_path / "blocks.py"
    checkout = Path(__file__).parents[3]  # an installed kit has no SPEC.md
    program.write_text(
        "import json, sys\n"
        f"sys.path.insert(0, {str(checkout)!r})\n"
        "from conformance.generate.unit_writer import evaluate\n"
        "d = json.load(open(sys.argv[1]))\n"
        "json.dump({c['id']: evaluate(d['function'], c['input']) for c in d['cases']}, "
        "open(sys.argv[2], 'w'))\n"
    )
    names = [v.id for v in suite("units").vectors if "coder" in v.id]
    code = cli.main(
        [
            "run",
            "--units",
            f"{sys.executable} {program} {{unit}} {{output}}",
            "--id",
            "units/coder-*",
            "--json",
            str(tmp_path / "r.json"),
        ]
    )
    assert code == 0 and len(json.loads((tmp_path / "r.json").read_text())["vectors"]) == len(names) >= 5
