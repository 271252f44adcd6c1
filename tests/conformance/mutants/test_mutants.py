"""The mutants fit the code they change, none is there twice, and a sample of them is noticed."""

import argparse
import json

import pytest

from conformance.kit.clauses import load as load_clauses
from conformance.kit.errors import UsageError
from conformance.kit.suites import KIT, Selection, load_all, select
from conformance.mutants import annex_a, command, runner_hunt
from conformance.mutants.coverage import read_exempt
from conformance.mutants.judge import Task
from conformance.mutants.mutant import DECODER, ROOT, RUNNER, Mutant, check, declared, read, spans
from refcodec.model.tables import load_arrays

MUTANTS = declared(*DECODER)
FILES = {"decoder": DECODER, "runner": RUNNER}
SOURCE = "def f(x):\n    return x + 1\n\n\nclass A:\n    def f(self):\n        return 1 + 1\n"


@pytest.mark.slow
def test_every_mutant_fits_the_code():
    assert check([*MUTANTS, *declared(*RUNNER)]) == []


def test_there_are_mutants_of_every_operation_and_of_the_runner():
    assert sum(not m.equivalent for m in MUTANTS) >= 150
    assert {m.operation for m in MUTANTS} >= {
        "conv",
        "branch",
        "shuffle",
        "gelu",
        "depthwise",
        "sum",
        "gain",
        "rescale",
        "gdn",
        "igdn",
        "norm",
        "exp2",
        "softmax",
        "local",
        "linear",
        "half-tanh",
        "levels",
        "quantiser",
        "checkerboard",
        "walk",
        "contexts",
        "heads",
        "coder",
        "escape",
        "segment",
        "tables",
        "header",
        "checksum",
        "chunks",
        "output",
        "digest",
        "config",
        "layout",
        "values",
        "fingerprint",
        "proof",
        "file",
        "hdf5",
    }
    assert sum(not m.equivalent for m in declared(*RUNNER)) >= 30


def test_a_change_is_made_in_the_named_function_only():
    mutant = Mutant("a/b", "m", "A.f", "1 + 1", "2", "")
    assert mutant.apply(SOURCE) == SOURCE.replace("1 + 1", "2")
    assert mutant.operation == "a"


@pytest.mark.parametrize(("function", "find"), [("A.f", "1"), ("A.f", "x + 1"), ("g", "1"), ("", "+ 1")])
def test_a_fragment_that_does_not_fit_is_an_error(function, find):
    with pytest.raises(ValueError):
        Mutant("a/b", "m", function, find, "2", "").apply(SOURCE)


def test_declarations_are_checked():
    def declared(name, find, replace):
        return Mutant(name, "refcodec.limits", "", find, replace, "")

    fine = declared("a/fine", "MAX_SIDE = 1 << 20", "MAX_SIDE = 1 << 21")
    problems = check(
        [
            fine,
            fine,
            declared("a/gone", "MAX_SIDES", "x"),
            declared("a/same", "1 << 20", "(1 << 20)"),
            declared("a/broken", "1 << 20", "1 <<"),
        ]
    )
    assert [p.split(":")[0] for p in problems] == ["mutant a/fine", "mutant a/gone", "mutant a/same", "mutant a/broken"]


def test_declarations_are_read(tmp_path):
    file = tmp_path / "x.mutants"
    file.write_text(
        "# about\n\nmodule a.b\n\nx/one in f\n  says\n  this\n@ 3-2, 5.3-12\n@ A.2-2\n- 1\n-     2\n+ 3\n= for\n"
        "= that\n\nx/two\n  y\n- z\n"
    )
    assert read(file) == [
        Mutant("x/one", "a.b", "f", "1\n    2", "3", "says this", "for that", ("3-2", "5.3-12", "A.2-2")),
        Mutant("x/two", "a.b", "", "z", "", "y"),
    ]


@pytest.mark.parametrize(
    "text",
    ["x/one\n  y\n- z\n", "module a\n\nx/one\n- z\n", "module a\n\nx/one\n  y\n", "module a\n\nx/one\n  y\n- z\nz\n"],
)
def test_other_declarations_are_errors(tmp_path, text):
    file = tmp_path / "x.mutants"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"no declaration"):
        read(file)


def test_functions_are_found_by_their_qualified_names():
    assert spans(SOURCE) == {"": (1, 7), "f": (1, 2), "A": (5, 7), "A.f": (6, 7)}


def test_every_clause_that_is_not_exempt_is_misread_by_a_mutant_that_is_not_equivalent():
    exempt = read_exempt()
    misread = {clause for clause, mutants in command.misread(MUTANTS).items() if not all(m.equivalent for m in mutants)}
    assert not set(exempt.clauses) & set(exempt.misreadings)
    assert set(load_clauses()) - misread == {*exempt.clauses, *exempt.misreadings} - misread
    assert set(exempt.misreadings) <= set(load_clauses()) - misread
    assert all(exempt.misreadings.values())


def test_a_clause_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match=r"no clause 5\.3-99"):
        command.misread([Mutant("a/b", "m", "", "1", "2", "", clauses=("5.3-99",))])


def test_mutants_are_printed_by_clause(capsys):
    mutants = [
        Mutant("a/b", "m", "", "1", "2", "", "always", clauses=("5.3-1", "5.3-2")),
        Mutant("a/c", "m", "", "1", "2", "", clauses=("5.3-1",)),
    ]
    assert command._clauses(mutants) == 1
    lines = {line.split()[0]: line[9:] for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == list(load_clauses())
    assert lines["5.3-1"] == "a/b (equivalent), a/c" and lines["3-2"] == "NONE"
    assert lines["3-6"] == f"none: {read_exempt().clauses['3-6']}"


def stored(path):
    return json.loads(path.read_text(encoding="utf-8"))


def vectors():
    return {v.id for v in select(load_all(KIT), Selection())}


@pytest.mark.parametrize("what", FILES)
def test_all_mutants_that_are_not_equivalent_were_noticed(what):
    mutants, results = declared(*FILES[what]), stored(command.RESULTS[what])
    assert set(results["killers"]) == {m.id for m in mutants if not m.equivalent}
    assert (results["mutants"], results["score"]) == (len(mutants), 1.0)


def test_what_noticed_mutants_is_still_there():
    assert set(stored(command.RESULTS["decoder"])["killers"].values()) <= vectors()
    tests = {name.partition("::")[0] for name in stored(command.RESULTS["runner"])["killers"].values()}
    assert all((KIT.parents[1] / name).is_file() for name in tests - {"timeout"})


def test_the_quickest_vectors_are_taken_up_to_a_time_but_one_at_least():
    tasks = [Task(name, b"", None, ()) for name in "abc"]
    seconds = {"a": 3.0, "b": 1.0, "c": 1.5}
    assert [[t.id for t in command.quickest(tasks, seconds, enough)] for enough in (0.5, 2.6, 9)] == [
        ["b"],
        ["b", "c"],
        ["b", "c", "a"],
    ]


def test_vectors_of_every_way_through_a_module_come_in_rounds():
    lines = {1: ["a", "b", "c", "d"], 2: ["b", "d"], 3: ["c"]}
    ways = command.ways_through(lines)
    assert ways["b"] == ways["d"] and len({ways[name] for name in "abc"}) == 3
    tasks = [Task(name, b"", None, ()) for name in "abcd"]
    seconds = {"a": 3.0, "b": 1.0, "c": 4.0, "d": 2.0}
    assert [task.id for task in command.spread(tasks, seconds, ways)] == ["b", "a", "c", "d"]


def test_only_mutants_that_nothing_noticed_are_tried_again(tmp_path, monkeypatch, capsys):
    true = [m.id for m in MUTANTS if not m.equivalent]
    path = tmp_path / "decoder.json"
    command.write_json(path, {"killers": dict.fromkeys(true[2:], "core/any") | {"gone": "core/any"}})
    monkeypatch.setitem(command.RESULTS, "decoder", path)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.main(parser.parse_args(["--open", "--list"])) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == true[:2]


@pytest.mark.parametrize(
    "options",
    [
        ["--write", "gelu/*"],
        ["--clauses", "--open"],
        ["--write", "--sample", "3"],
        ["--write", "--suite", "core"],
        ["--jobs", "0"],
        ["--clauses", "gelu/*"],
        ["--clauses", "--runner"],
    ],
)
def test_options_that_do_not_go_together_are_refused(options):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(UsageError):
        command.main(parser.parse_args(options))


@pytest.mark.slow
def test_tables_of_mutants_are_those_of_annex_a_but_for_what_is_misread():
    known = {name: array.tolist() for name, array in load_arrays().items() if name.startswith("gaussian_")}
    assert {name: array.tolist() for name, array in annex_a.gaussian().items()} == known
    for misreading in ({"before": 0.0}, {"least": 2**32}, {"half": 0}, {"rest_to_escape": True}):
        assert {name: array.tolist() for name, array in annex_a.gaussian(**misreading).items()} != known


def test_slow_tests_count_against_mutants_of_the_runner(tmp_path):
    (tmp_path / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    (tmp_path / "test_one.py").write_text("import pytest\n\n@pytest.mark.slow\ndef test_slow():\n    assert False\n")
    assert runner_hunt._failing(tmp_path, ["test_one.py"]) == "test_one.py::test_slow"
