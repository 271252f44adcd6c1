"""The mutants fit the code they change, none is there twice, and a sample of them is noticed."""

import pytest

from conformance.mutants.coverage import read_exempt
from conformance.mutants.mutant import DECODER, RUNNER, Mutant, check, declared, module_path, read, spans

MUTANTS = declared(*DECODER)
SOURCE = "def f(x):\n    return x + 1\n\n\nclass A:\n    def f(self):\n        return 1 + 1\n"


def test_every_mutant_fits_the_code():
    assert check([*MUTANTS, *declared(*RUNNER)]) == []


def test_there_are_mutants_of_every_operation_and_of_the_runner():
    assert sum(not m.equivalent for m in MUTANTS) >= 150
    assert {m.operation for m in MUTANTS} >= {
        "conv", "branch", "shuffle", "gelu", "depthwise", "sum", "gain", "rescale", "gdn", "igdn", "norm", "exp2",
        "softmax", "local", "linear", "half-tanh", "levels", "quantiser", "checkerboard", "walk", "contexts", "heads",
        "coder", "escape", "segment", "tables", "header", "checksum", "chunks", "output", "digest", "config", "layout",
        "values", "fingerprint", "proof", "file", "hdf5"}
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
    problems = check([fine, fine, declared("a/gone", "MAX_SIDES", "x"), declared("a/same", "1 << 20", "(1 << 20)"),
                      declared("a/broken", "1 << 20", "1 <<")])
    assert [p.split(":")[0] for p in problems] == ["mutant a/fine", "mutant a/gone", "mutant a/same", "mutant a/broken"]


def test_declarations_are_read(tmp_path):
    file = tmp_path / "x.mutants"
    file.write_text("# about\n\nmodule a.b\n\nx/one in f\n  says\n  this\n- 1\n-     2\n+ 3\n= for\n= that\n\n"
                    "x/two\n  y\n- z\n")
    assert read(file) == [Mutant("x/one", "a.b", "f", "1\n    2", "3", "says this", "for that"),
                          Mutant("x/two", "a.b", "", "z", "", "y")]


@pytest.mark.parametrize("text", ["x/one\n  y\n- z\n", "module a\n\nx/one\n- z\n", "module a\n\nx/one\n  y\n",
                                  "module a\n\nx/one\n  y\n- z\nz\n"])
def test_other_declarations_are_errors(tmp_path, text):
    file = tmp_path / "x.mutants"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"no declaration"):
        read(file)


def test_functions_are_found_by_their_qualified_names():
    assert spans(SOURCE) == {"": (1, 7), "f": (1, 2), "A": (5, 7), "A.f": (6, 7)}


def test_exemptions_name_modules_and_functions_that_exist():
    exempt = read_exempt()
    for module, functions in (*exempt.modules.items(), *exempt.functions.items()):
        assert set(functions) <= set(spans(module_path(module).read_text(encoding="utf-8"))), module
    assert all(reason.strip() for *_, reason in exempt.lines) and all(exempt.clauses.values())
