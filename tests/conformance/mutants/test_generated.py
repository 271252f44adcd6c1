"""Mutants made from the syntax tree: every one compiles and changes something, and the choice reaches every line."""

import ast
import json

import pytest
from parts import one_in

from conformance.mutants import command, generated
from conformance.mutants.coverage import read_exempt
from conformance.mutants.generated import chosen, of_module
from conformance.mutants.mutant import module_path

MODULES = ["refcodec.entropy.rans_python", "refcodec.lossless.filters", "refcodec.tiles"]

SOURCE = '''"""A module."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

__all__ = ["f"]
LIMIT: int = 5


def f(x: "list[int]", more: bool = False) -> int:
    """Not a constant: 1."""
    assert x[0] == 1, "a message"
    if not more and 0 <= len(x) < LIMIT:
        raise ValueError(f"{1 + 1} of {LIMIT}")
    total = min(x) << 2
    for n in range(LIMIT):
        total += sum(x[n + 1 : LIMIT]) * x[n]
    print(total)
    return -total
'''


@pytest.fixture
def source(tmp_path, monkeypatch):
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    monkeypatch.setattr(generated, "module_path", lambda name: path)
    return SOURCE


def test_one_operator_constant_index_bound_or_statement_changes_at_a_time(source):
    made = {m.id.split(": ", 1)[1]: m for m in of_module("refcodec.module")}
    expected = {
        "comparison": {
            "0 <= len(x) < LIMIT -> ((0) < (len(x)) < (LIMIT))",
            "0 <= len(x) < LIMIT -> ((0) <= (len(x)) <= (LIMIT))",
        },
        "condition": {
            "not more -> (more)",
            "not more and 0 <= len(x) < LIMIT -> ((not more) or (0 <= len(x) < LIMIT))",
        },
        "operator": {
            "min(x) << 2 -> ((min(x)) >> (2))",
            "total += sum(x[n + 1:LIMIT]) * x[n] -> total -= sum(x[n + 1:LIMIT]) * x[n]",
            "sum(x[n + 1:LIMIT]) * x[n] -> ((sum(x[n + 1:LIMIT])) + (x[n]))",
            "n + 1 -> ((n) - (1))",
            "-total -> (total)",
        },
        "bound": {
            "LIMIT -> (LIMIT) - 1",
            "LIMIT -> (LIMIT) - 1 #2",
            "LIMIT -> (LIMIT) + 1",
            "n + 1 -> (n + 1) - 1",
            "n + 1 -> (n + 1) + 1",
        },
        "index": {"n -> n - 1"},
        "call": {"min -> max"},
        "constant": {
            "5 -> 6",
            "5 -> (4)",
            "False -> True",
            "0 -> 1",
            "0 -> (-1)",
            "2 -> 3",
            "2 -> (1)",
            "1 -> 2",
            "1 -> (0)",
        },
        "statement": {
            "total += sum(x[n + 1:LIMIT]) * x[n] -> pass",
            "print(total) -> pass",
            "raise ValueError(f'{1 + 1} of {LIMIT}') -> pass",
        },
    }
    assert {name: m.operation for name, m in made.items()} == {
        n: kind for kind, names in expected.items() for n in names
    }


@pytest.mark.parametrize("module", one_in(3, MODULES))
def test_every_mutant_compiles_changes_one_place_and_has_a_name_of_its_own(module):
    source = module_path(module).read_text(encoding="utf-8")
    original, mutants = ast.dump(ast.parse(source)), of_module(module)
    assert len({m.id for m in mutants}) == len(mutants) > 20
    for mutant in mutants:
        changed = mutant.apply(source)
        compile(changed, module, "exec")
        assert ast.dump(ast.parse(changed)) != original, mutant.id
        before, after = source.splitlines(), changed.splitlines()
        first, last = mutant.start[0] - 1, mutant.end[0]
        assert before[:first] == after[:first] and before[last:] == after[len(after) - (len(before) - last) :], (
            mutant.id
        )


def test_the_choice_has_every_line_that_vectors_reach_and_no_other():
    all_of = of_module(MODULES[0])
    lines = {m.start[0] for m in all_of}
    reached = {MODULES[0]: {line: ["core/a"] for line in sorted(lines)[::2]}}
    few, many = chosen(reached, reached, 1, 1), chosen(reached, reached, 10**6, 1)
    assert {m.start[0] for m in few} == {m.start[0] for m in many} == set(reached[MODULES[0]])
    assert few == chosen(reached, reached, 1, 1) and len(few) == len(reached[MODULES[0]])
    assert many == [m for m in all_of if m.start[0] in reached[MODULES[0]]]
    both = {name: {m.start[0]: ["core/a"] for m in of_module(name)} for name in MODULES[:2]}
    assert chosen(MODULES[:2], both, 200, 1) == chosen(MODULES[1::-1], both, 200, 1)


def test_reasons_are_of_mutants_that_are_made():
    exempt = read_exempt()
    made = {m.id: m for module in {**exempt.modules, **exempt.functions} for m in of_module(module)}
    reasons = json.loads(command.EQUIVALENT.read_text(encoding="utf-8"))
    assert [name for name in reasons if name not in made] == [] and all(reasons.values())
