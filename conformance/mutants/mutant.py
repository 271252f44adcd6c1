"""A mutant: one small wrong change of a source file, declared as data.

A mutant names a module, a function of it and a fragment of that function's source, which must occur there exactly
once. So a mutant that no longer fits the code is found by a test instead of silently testing nothing. Files on disk
are never touched: `Mutant.apply` gives the changed source, and `imported` loads it in a separate process.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: packages are folders in it."""


@dataclass(frozen=True)
class Mutant:
    """One wrong change.

    Attributes
    ----------
    id : str
        Operation and name, "gelu/tail-cut".
    module : str
        Dotted name.
    function : str
        Qualified name of a function or class in the module, "" for the whole module.
    find, replace : str
        Fragment of the function's source, and what takes its place.
    models : str
        The mistake that it models, one sentence.
    equivalent : str
        Why no input can distinguish it from the original; "" for all others.
    clauses : tuple of str
        Clauses of SPEC.md that it misreads; none for a mistake in an implementation.
    """

    id: str
    module: str
    function: str
    find: str
    replace: str
    models: str
    equivalent: str = ""
    clauses: tuple[str, ...] = ()

    @property
    def operation(self) -> str:
        """The class of operations it belongs to."""
        return self.id.partition("/")[0]

    @property
    def path(self) -> Path:
        """The source file."""
        return module_path(self.module)

    def apply(self, source: str) -> str:
        """Give the changed source.

        Raises
        ------
        ValueError
            The function is not there, or the fragment does not occur in it exactly once.
        """
        first, last = span(source, self.function)
        lines = source.splitlines(keepends=True)
        text = "".join(lines[first - 1 : last])
        places = list(re.finditer(_pattern(self.find), text))
        if len(places) != 1:
            raise ValueError(
                f"mutant {self.id}: {self.find!r} occurs {len(places)} times in "
                f"{self.module}:{self.function or 'module'}; bring the mutant up to date"
            )
        start, end = places[0].span()
        return "".join(lines[: first - 1]) + text[:start] + self.replace + text[end:] + "".join(lines[last:])


def _pattern(fragment: str) -> str:
    """An expression that finds a fragment of source in any layout: white space and trailing commas do not count."""
    pattern, before = "", ""
    for token in re.findall(r"\w+|[^\w\s]", fragment):
        gap = r"\s+" if before[-1:].isalnum() and token[0].isalnum() else r"\s*"
        comma = r"(?:,\s*)?" if token in ")]}" and before not in ",([{" else ""
        pattern += (gap if pattern else "") + comma + re.escape(token)
        before = token
    return pattern


def module_path(module: str) -> Path:
    """The source file of a module in the checkout."""
    base = ROOT.joinpath(*module.split("."))
    file = base.with_name(f"{base.name}.py")
    return file if file.is_file() else base / "__init__.py"


@cache
def spans(source: str) -> dict[str, tuple[int, int]]:
    """First and last line of every function and class by qualified name, and of the module as "".

    Decorators belong to what they decorate.
    """
    found = {"": (1, max(1, len(source.splitlines())))}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = f"{prefix}{child.name}"
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                found[name] = (first, child.end_lineno or first)
                visit(child, f"{name}.")
            else:
                visit(child, prefix)

    visit(ast.parse(source), "")
    return found


def span(source: str, function: str) -> tuple[int, int]:
    """First and last line of one function; ValueError if it is not there."""
    found = spans(source)
    if function not in found:
        raise ValueError(f"there is no {function} in the module")
    return found[function]


class _Patched(MetaPathFinder, Loader):
    """Finds one module and gives it another source."""

    def __init__(self, module: str, source: str) -> None:
        self.module, self.source = module, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answer for the one module only."""
        if fullname != self.module:
            return None
        file = module_path(self.module)
        spec = ModuleSpec(fullname, self, origin=str(file), is_package=file.name == "__init__.py")
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(str(file.parent))
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed source; nothing is cached on disk."""
        exec(compile(self.source, module_path(self.module), "exec"), module.__dict__)


def install(module: str, source: str) -> None:
    """Let this process import a module with another source; no module of its package may be loaded yet.

    Raises
    ------
    ValueError
        The package is loaded already.
    """
    package = module.partition(".")[0]
    if any(name == package or name.startswith(f"{package}.") for name in sys.modules):
        raise ValueError(f"{package} is imported already")
    sys.meta_path.insert(0, _Patched(module, source))


def read(path: Path) -> list[Mutant]:
    """Mutants declared in a text file.

    A line ``module NAME`` says which module is meant from there on. A mutant is a paragraph::

        gelu/tail-cut in gelu
          the last entry before the end, which is not 0, holds beyond the end
        @ 5.3-12, A.2-2
        - table.size - 1
        + table.size - 2

    its id and function (none for the whole module), what it models, after ``@`` the clauses of SPEC.md that it
    misreads (if any), the fragment, what takes its place, and after ``=`` the reason if it is equivalent. Lines that
    begin with ``#`` are comments.

    Raises
    ------
    ValueError
        A paragraph is none of these.
    """
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if not line.startswith("#")]
    module, mutants = "", []
    for paragraph in filter(None, "\n".join(lines).split("\n\n")):
        head, *body = paragraph.strip("\n").split("\n")
        if head.startswith("module ") and not body:
            module = head[7:]
            continue
        name, _, function = head.partition(" in ")
        parts = {mark: [line[2:] for line in body if line.startswith(mark)] for mark in ("  ", "@ ", "- ", "+ ", "= ")}
        if not module or not name or not parts["  "] or not parts["- "] or sum(map(len, parts.values())) != len(body):
            raise ValueError(f"{path.name}: {head!r} is no declaration of a mutant")
        mutants.append(
            Mutant(
                name,
                module,
                function,
                "\n".join(parts["- "]),
                "\n".join(parts["+ "]),
                " ".join(parts["  "]),
                " ".join(parts["= "]),
                tuple(clause for line in parts["@ "] for clause in line.split(", ")),
            )
        )
    return mutants


def declared(*names: str) -> tuple[Mutant, ...]:
    """Mutants of files next to this module, by the files' names without suffix."""
    return tuple(m for name in names for m in read(Path(__file__).with_name(f"{name}.mutants")))


DECODER = ("arithmetic", "attention", "walk", "coder", "container", "tiles", "stored", "models", "files")
RUNNER = ("runner",)
"""Files that declare the mutants of the decoder, and those of the runner."""


def check(mutants: Iterable[Mutant]) -> list[str]:
    """Defects of declarations: fragments that do not fit, sources that do not compile, ids that repeat."""
    problems: list[str] = []
    ids: set[str] = set()
    dumped = cache(lambda source: ast.dump(ast.parse(source)))
    for mutant in mutants:
        if mutant.id in ids:
            problems.append(f"mutant {mutant.id}: the name occurs twice")
        ids.add(mutant.id)
        try:
            source = mutant.path.read_text(encoding="utf-8")
            tree = ast.parse(mutant.apply(source))
            compile(tree, str(mutant.path), "exec")
            if ast.dump(tree) == dumped(source):
                problems.append(f"mutant {mutant.id}: nothing changes")
        except (ValueError, SyntaxError, OSError) as error:
            problems.append(f"mutant {mutant.id}: {error}")
    return problems
