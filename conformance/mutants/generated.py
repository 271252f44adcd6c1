"""Mutants that nobody chose: one operator, constant, index, bound or statement of the decoder changed at a time.

The mutants of the ``.mutants`` files were written by people who knew the vectors. These are made from the syntax tree
of every module that takes part in decoding, so their score measures what the authors did not think of. A mutant is
named by its module, its function and the change; a repeated name gets a number. Names stay while the line stays.

What is left out: annotations, docstrings, other strings, and what ``raise`` and ``assert`` say. What only callers or
encoders use is left out by the lines that vectors reach (`lines_reached`).
"""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .mutant import Mutant, module_path

Change = tuple[ast.expr | ast.stmt, str, str]
"""A node of the tree, the source that takes its place, and the kind of the change."""

_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
_BINARY: dict[type[ast.operator], tuple[str, ...]] = {
    ast.Add: ("-",),
    ast.Sub: ("+",),
    ast.Mult: ("+",),
    ast.FloorDiv: ("*",),
    ast.Mod: ("//",),
    ast.LShift: (">>",),
    ast.RShift: ("<<",),
    ast.BitAnd: ("|",),
    ast.BitOr: ("&",),
    ast.BitXor: ("|",),
    ast.MatMult: (),
    ast.Div: ("*",),
    ast.Pow: ("*",),
}
_SYMBOL: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.MatMult: "@",
    ast.Div: "/",
    ast.Pow: "**",
}
_CALLS = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Generated(Mutant):
    """A mutant made from the tree: the source between two places is replaced.

    Attributes
    ----------
    start, end : (int, int)
        Line from 1, and column in bytes of UTF-8 from 0.
    """

    start: tuple[int, int] = (1, 0)
    end: tuple[int, int] = (1, 0)

    @property
    def operation(self) -> str:
        """The kind of the change."""
        return self.models

    def apply(self, source: str) -> str:
        """The changed source, which must be the one that the mutant was made from."""
        lines = source.encode().splitlines(keepends=True)
        before = b"".join(lines[: self.start[0] - 1]) + lines[self.start[0] - 1][: self.start[1]]
        after = lines[self.end[0] - 1][self.end[1] :] + b"".join(lines[self.end[0] :])
        return (before + self.replace.encode() + after).decode()


def _of_comparison(node: ast.Compare) -> Iterator[Change]:
    operands = [node.left, *node.comparators]
    for n, operator in enumerate(node.ops):
        words = [ast.unparse(operands[0])]
        for k, other in enumerate(node.ops):
            sign = _COMPARE[type(operator)] if k == n else _sign(other)
            words += [sign, _operand(operands[k + 1])]
        words[0] = _operand(operands[0])
        yield node, f"({' '.join(words)})", "comparison"


def _sign(operator: ast.cmpop) -> str:
    """How an operator of comparison is written."""
    return ast.unparse(ast.Compare(ast.Name("a"), [operator], [ast.Name("b")]))[2:-2]


def _operand(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"


def _of_binary(node: ast.BinOp) -> Iterator[Change]:
    if isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
        return  # formatting
    for sign in _BINARY[type(node.op)]:
        yield node, f"({_operand(node.left)} {sign} {_operand(node.right)})", "operator"


def _of_assignment(node: ast.AugAssign) -> Iterator[Change]:
    for sign in _BINARY[type(node.op)]:
        yield node, f"{ast.unparse(node.target)} {sign}= {ast.unparse(node.value)}", "operator"
    yield node, "pass", "statement"


def _of_boolean(node: ast.BoolOp) -> Iterator[Change]:
    sign = " and " if isinstance(node.op, ast.Or) else " or "
    yield node, f"({sign.join(map(_operand, node.values))})", "condition"


def _of_unary(node: ast.UnaryOp) -> Iterator[Change]:
    if not isinstance(node.operand, ast.Constant):
        yield node, _operand(node.operand), "condition" if isinstance(node.op, ast.Not) else "operator"


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    if node.value is True or node.value is False:
        yield node, str(not node.value), "constant"
    elif isinstance(node.value, int):
        yield node, str(node.value + 1), "constant"
        yield node, f"({node.value - 1})", "constant"


def _of_subscript(node: ast.Subscript) -> Iterator[Change]:
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for part in parts:
        if isinstance(part, ast.Slice):
            for bound in (part.lower, part.upper):
                if bound is not None and not isinstance(bound, ast.Constant):
                    yield bound, f"({ast.unparse(bound)}) - 1", "bound"
                    yield bound, f"({ast.unparse(bound)}) + 1", "bound"
        elif isinstance(part, ast.Name) and isinstance(node.ctx, ast.Load) and part.id.islower():
            yield part, f"{part.id} - 1", "index"


def _of_call(node: ast.Call) -> Iterator[Change]:
    name = node.func
    word = name.id if isinstance(name, ast.Name) else name.attr if isinstance(name, ast.Attribute) else ""
    if word in _CALLS:
        other = _CALLS[word] if isinstance(name, ast.Name) else f"{ast.unparse(name.value)}.{_CALLS[word]}"  # type: ignore[attr-defined]
        yield name, other, "call"
    if word == "range":
        for bound in node.args:
            if not isinstance(bound, ast.Constant):
                yield bound, f"{_operand(bound)} - 1", "bound"


def _of_condition(node: ast.If | ast.IfExp | ast.While) -> Iterator[Change]:
    if isinstance(node.test, (ast.Name, ast.Attribute, ast.Call, ast.BinOp, ast.Subscript)):
        yield node.test, f"(not {_operand(node.test)})", "condition"


def _of_statement(node: ast.stmt) -> Iterator[Change]:
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield node, "pass", "statement"


_OF: dict[type[ast.AST], Callable[..., Iterator[Change]]] = {
    ast.Compare: _of_comparison,
    ast.BinOp: _of_binary,
    ast.AugAssign: _of_assignment,
    ast.BoolOp: _of_boolean,
    ast.UnaryOp: _of_unary,
    ast.Constant: _of_constant,
    ast.Subscript: _of_subscript,
    ast.Call: _of_call,
    ast.If: _of_condition,
    ast.IfExp: _of_condition,
    ast.While: _of_condition,
    ast.Raise: _of_statement,
    ast.Expr: _of_statement,
}


def _nodes(node: ast.AST, function: str) -> Iterator[tuple[ast.AST, str]]:
    """Every node that may change, in the order of the source, with the function that it belongs to."""
    for name, field in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment", "keywords") and (
            name != "keywords" or isinstance(node, ast.ClassDef)
        ):
            continue
        for child in field if isinstance(field, list) else [field]:
            if not isinstance(child, ast.AST):
                continue
            if isinstance(child, ast.Assert) or _of_types(child):
                continue
            inner = function
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                inner = f"{function}.{child.name}".lstrip(".")
            yield child, inner
            if not isinstance(child, (ast.Raise, ast.JoinedStr)):  # not what a message says
                yield from _nodes(child, inner)


def _of_types(node: ast.AST) -> bool:
    """Whether a statement is for type checkers or readers alone: ``if TYPE_CHECKING``, ``__all__``, an alias."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def of_module(module: str) -> list[Generated]:
    """Every mutant of a module, in the order of the source."""
    source = module_path(module).read_text(encoding="utf-8")
    tree, short = ast.parse(source), module.partition(".")[2]
    names: Counter[str] = Counter()
    found = []
    for node, function in _nodes(tree, ""):
        for place, new, kind in _OF.get(type(node), lambda node: ())(node):
            old = ast.unparse(place)
            if "\n" in new + old:
                continue
            name = f"{short}:{function}: {old} -> {new}"
            names[name] += 1
            label = f"{name} #{names[name]}" if names[name] > 1 else name
            start = place.lineno, place.col_offset
            end = place.end_lineno or place.lineno, place.end_col_offset or 0
            found.append(Generated(label, module, function, old, new, kind, start=start, end=end))
    return found


def chosen(
    modules: Iterable[str], reached: Mapping[str, Mapping[int, Sequence[str]]], count: int, seed: int
) -> list[Generated]:
    """A part of all mutants of lines that vectors reach: one of every line, and by chance as many as are left to take.

    Parameters
    ----------
    modules : iterable of str
    reached : mapping of str to mapping of int to sequence of str
        For each module and line the vectors that reach it.
    count : int
        How many to take; more if there are more lines.
    seed : int
        Of the choice.

    Returns
    -------
    list of Generated
        In the order of modules and lines.
    """
    draw = random.Random(seed)
    by_line: dict[tuple[str, int], list[Generated]] = {}
    for module in sorted(modules):  # the choice is the same in every run
        for mutant in of_module(module):
            if mutant.start[0] in reached.get(module, {}):
                by_line.setdefault((module, mutant.start[0]), []).append(mutant)
    first = [draw.choice(mutants) for mutants in by_line.values()]
    rest = [mutant for mutants in by_line.values() for mutant in mutants if mutant not in first]
    more = draw.sample(rest, max(0, min(len(rest), count - len(first))))
    place = {mutant.id: n for n, mutant in enumerate(m for mutants in by_line.values() for m in mutants)}
    return sorted(first + more, key=lambda mutant: place[mutant.id])


__all__ = ["Generated", "chosen", "of_module"]
