"""Gaps of coverage are open, or exempt with a reason that fits the code (conformance/mutants/coverage.py)."""

import subprocess
import sys

import pytest
from own_kit import all_suites

from conformance.kit.clauses import load
from conformance.mutants import coverage
from conformance.mutants.coverage import Exempt, Reached, count_clauses, count_lines, place, read_exempt, report
from conformance.mutants.mutant import module_path

SOURCE = """def f(x):
    if x > 1:
        return [1,
                x]
    try:
        return g(x)
    except ValueError:
        return 0


def g(x):
    if x: raise ValueError
    if x > 2:
        return 3
    return 2
"""
PART = {
    "executed_lines": [1, 2, 5, 6, 11, 12, 13, 15],
    "missing_lines": [3, 7, 8, 14],
    "executed_branches": [[2, 5], [12, 13], [13, 15]],
    "missing_branches": [[2, 3], [12, -11], [13, 14]],
}
"""As the library coverage reports of a module."""


def counted(places, functions=None):
    """Findings about SOURCE with these exemptions."""
    found = Reached()
    count_lines("m", SOURCE, PART, Exempt({}, {"m": places}, {"m": functions} if functions else {}), found)
    return found


def test_a_place_is_a_function_or_a_whole_statement():
    assert place(SOURCE, "") == range(1, 16) and place(SOURCE, "g") == range(11, 16)
    assert place(SOURCE, "f: if x > 1") == range(2, 5)
    assert place(SOURCE, "f: return [1") == range(3, 5)
    assert place(SOURCE, "f: except ValueError") == range(7, 9)
    assert place(SOURCE, "g: if x: raise") == range(12, 13)


@pytest.mark.parametrize(
    ("name", "says"),
    [("h", "there is no h"), ("g: if x > 1", "0 statements"), ("g: if x", "2 statements"), ("f: x]", "0 statements")],
)
def test_a_place_that_does_not_fit_is_an_error(name, says):
    with pytest.raises(ValueError, match=says):
        place(SOURCE, name)


def test_gaps_are_open_without_a_reason():
    found = counted({})
    assert found.open == [
        "m:3 is not reached: return [1,",
        "m:7 is not reached: except ValueError:",
        "m:8 is not reached: return 0",
        "m:14 is not reached: return 3",
        "m:2 never goes on to line 3: if x > 1:",
        "m:12 never goes on to the end: if x: raise ValueError",
        "m:13 never goes on to line 14: if x > 2:",
    ]
    assert found.counts == {"lines": (8, 12), "branches": (3, 6)}
    assert not found.exempt and not found.stale


def test_gaps_with_a_reason_are_told_apart():
    found = counted({"f: if x > 1": "because", "g": "encoder"})
    assert [line[:3] for line in found.open] == ["m:7", "m:8"]
    assert found.exempt == {
        "lines": ["m:3 is not reached: return [1,  [because]", "m:14 is not reached: return 3  [encoder]"],
        "branches": [
            "m:2 never goes on to line 3: if x > 1:  [because]",
            "m:12 never goes on to the end: if x: raise ValueError  [encoder]",
            "m:13 never goes on to line 14: if x > 2:  [encoder]",
        ],
    }
    assert found.counts == {"lines": (8, 10), "branches": (3, 3)}


def test_exemptions_of_what_is_reached_or_gone_are_out_of_date():
    found = counted({"f: try": "x", "g: return 2": "y", "h": "z"})
    assert found.stale == ["exempt.json: m: there is no h", "exempt.json: m: 'g: return 2' is reached by now"]
    assert counted({"g: return 2": "by chance: x"}).stale == [], "reached in some runs only"


def test_other_functions_of_a_module_need_not_count():
    found = counted({}, ["g"])
    assert found.counts == {"lines": (4, 5), "branches": (2, 4)}
    assert [line[:4] for line in found.open] == ["m:14", "m:12", "m:13"]


@pytest.mark.parametrize(("open_", "stale", "code"), [([], [], 0), (["m:1"], [], 1), ([], ["m:2"], 1)])
def test_the_exit_code_says_whether_anything_is_open(monkeypatch, capsys, open_, stale, code):
    monkeypatch.setattr(coverage, "load_all", lambda kit: ())
    monkeypatch.setattr(
        coverage,
        "count_clauses",
        lambda suites, exempt, found: (
            found.open.extend(open_),
            found.stale.extend(stale),
            found.counts.update(clauses=(3, 3 + len(open_))),
        ),
    )
    parser = coverage.argparse.ArgumentParser()
    coverage.add_arguments(parser)
    assert coverage.main(parser.parse_args(["--clauses"])) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"clauses: 3 of {3 + len(open_)} reached")


def test_reasons_are_printed_if_they_are_wanted(capsys):
    for reasons in (False, True):
        report(counted({"f": "because", "g": "encoder"}), reasons)
        said = capsys.readouterr().out
        assert ("exempt:\n  m:3 is" in said) == reasons
        assert said.endswith("branches: 3 of 3 reached (100.0 %), 0 open, 3 more exempt with a reason\n")


@pytest.mark.slow
def test_exemptions_fit_the_code_and_have_reasons():
    exempt = read_exempt()
    for module, places in (*exempt.modules.items(), *exempt.functions.items()):
        source = module_path(module).read_text(encoding="utf-8")
        for name in places:
            assert place(source, name), f"{module}: {name}"
    assert set(exempt.clauses) <= set(load())
    assert all(reason.strip() for part in (exempt.clauses, *exempt.modules.values()) for reason in part.values())


def test_every_clause_is_named_by_a_vector_or_exempt():
    found = Reached()
    count_clauses(all_suites(), read_exempt(), found)
    assert (found.open, found.stale) == ([], [])


NO_PART = {
    "refcodec",
    "refcodec.arith",
    "refcodec.bitstream",
    "refcodec.entropy",
    "refcodec.nets",
    "refcodec.model",
    "refcodec.io",
    "refcodec.errors",
    "refcodec.lossless",
    "refcodec.arith.protocols",
    "refcodec.entropy.costs",
    "refcodec.lossless.choose",
    "refcodec.lossless.fill",
    "refcodec.nets.analysis",
    "refcodec.refinement",
    "refcodec.reduced",  # smaller pictures: tests/refcodec/test_reduced.py
    "refcodec.progress",
    "refcodec.io.files",
    "refcodec.io.picture_facts",
    "refcodec.io.tiff_tags",
    "refcodec.io.colour_profile",
    "refcodec.bitstream.info",
    "refcodec.memory",
    "refcodec.model.registry",
    "refcodec.system_memory",
    "refcodec.threads",
    "refcodec.side_by_side",
}
"""Imported with the decoder: packages, classes and numbers, the encoder's transform and choices, files of pictures, a
command and its progress, finding of installed models, limits and threads of one machine, which no stream can see."""


def test_every_module_that_decodes_counts():
    imported = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from refcodec import codec; from refcodec.entropy import rans_python; "
            "print(*(name for name in sys.modules if name.partition('.')[0] == 'refcodec'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    exempt = read_exempt()
    assert set(imported) - NO_PART == {*exempt.modules, *exempt.functions}
