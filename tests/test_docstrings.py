"""Docstrings of public functions have the sections of numpydoc, and the sections name what the code has."""

import ast
import re
import warnings
from collections import Counter
from functools import cache

import pytest
from documents import PACKAGES, ROOT

import refcodec

docscrape = pytest.importorskip("numpydoc.docscrape")
validate = pytest.importorskip("numpydoc.validate")

MANY = 3
"""From so many parameters on a function has sections."""

LATER = {
    "conformance/data": 12,  # a script that draws the pictures, kept as it was run
}
"""Folders with functions that still lack sections, and how many. Lower a number with the work; it never rises."""

KERNELS = "refcodec/arith/jit/kernels"
"""Functions there that begin with ``arguments`` are kernels: the package's docstring describes their parameters."""

DELEGATES = re.compile(r"\b(?:those of|as|as in|as for)\s+``?[\w.]+`", re.IGNORECASE)
"""The beginning of a docstring may refer to another function for arguments and result."""


def functions(path):
    """Public functions and methods of a module, with their names."""

    def walk(body, prefix):
        for node in body:
            if getattr(node, "name", "_").startswith("_"):
                continue
            if isinstance(node, ast.ClassDef):
                yield from walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
                if not decorators & {"overload", "setter"}:
                    yield f"{prefix}{node.name}", node

    return walk(ast.parse(path.read_text(encoding="utf-8")).body, "")


def parameters(node):
    """Names of a function's parameters as numpydoc writes them, without ``self``."""
    given = node.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [f"*{given.vararg.arg}"] if given.vararg else []
    names += [f"**{given.kwarg.arg}"] if given.kwarg else []
    return [name for name in names if name not in ("self", "cls")]


def raised(node):
    """Classes of exceptions that a function raises itself."""
    found, waiting = set(), list(node.body)
    while waiting:
        at = waiting.pop()
        if isinstance(at, ast.Raise) and isinstance(at.exc, ast.Call):
            name = ast.unparse(at.exc.func)
            found |= {name} if name[0].isupper() else set()
        if isinstance(at, ast.Try) and at.handlers:  # what is raised in it may be caught
            waiting += [*at.handlers, *at.orelse, *at.finalbody]
        elif not isinstance(at, (ast.FunctionDef, ast.ClassDef)):
            waiting += ast.iter_child_nodes(at)
    return found


def returns(node):
    return node.returns is not None and ast.unparse(node.returns) not in ("None", "NoReturn", "Never")


def lacking(node):
    """Sections of a function's docstring that are missing or wrong."""
    text = ast.get_docstring(node) or ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unknown section, or one that occurs twice
        found = docscrape.NumpyDocString(text)
    if DELEGATES.search(text.partition("\n---")[0]) and not found["Parameters"]:
        return []
    names = [name for entry in found["Parameters"] for name in re.split(r",\s*", entry.name)]
    errors = {name for entry in found["Raises"] for name in re.split(r",\s*", entry.name or entry.type)}
    lacks = [f"parameter {name}" for name in parameters(node) if name not in names]
    lacks += [f"no parameter {name}" for name in names if name not in parameters(node)]
    if returns(node) and not (found["Returns"] or found["Yields"]):
        lacks.append("Returns")
    text_of_errors = " ".join(errors)
    if not re.search(r"\b(RefcodecError|Exception)\b", text_of_errors):
        lacks += [f"Raises {name}" for name in sorted(raised(node) - errors)]
    return lacks


def folder(path):
    """Package and first folder of a module."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def is_kernel(path, node):
    return path.is_relative_to(ROOT / KERNELS) and parameters(node)[:1] == ["arguments"]


@cache
def checked():
    """Functions of many parameters: package, folder, place and what each lacks."""
    return [
        (package, folder(path), f"{path.relative_to(ROOT)}:{node.lineno} {name}", lacking(node))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for name, node in functions(path)
        if len(parameters(node)) >= MANY and not is_kernel(path, node)
    ]


def test_functions_of_many_parameters_have_their_sections():
    missing = [f"{place}: {', '.join(lacks)}" for _, at, place, lacks in checked() if lacks and at not in LATER]
    assert not missing, "\n".join(["", *missing])


def test_folders_that_wait_get_no_worse():
    assert Counter(at for _, at, _, lacks in checked() if lacks and at in LATER) == LATER


def test_every_package_is_read():
    counts = Counter(package for package, *_ in checked())
    assert all(counts[package] > 50 for package in PACKAGES)


def test_the_documented_api_is_complete():
    """As numpydoc's own validation sees it: parameters, results, a summary. Data classes list attributes instead."""
    codes = {"GL05", "GL06", "GL07", "GL08", "PR01", "PR02", "PR10", "RT01", "SS01", "YD01"}
    names = [name for name in refcodec.__all__ if callable(getattr(refcodec, name))]
    wrong = []
    for name in names:
        given = codes - ({"PR01"} if isinstance(getattr(refcodec, name), type) else set())
        wrong += [f"{name}: {text}" for code, text in validate.validate(f"refcodec.{name}")["errors"] if code in given]
    assert len(names) >= 12 and not wrong, "\n".join(["", *wrong])


def test_the_check_sees_what_is_missing():
    good = '''
def f(a, b, *c) -> int:
    """Add.

    Parameters
    ----------
    a, b : int
    *c : int

    Returns
    -------
    int

    Raises
    ------
    ValueError
        Always.
    """
    raise ValueError("x")
'''
    [node] = ast.parse(good).body
    assert lacking(node) == []
    for old, new, lacks in (
        ("a, b :", "a :", ["parameter b"]),
        ("*c : int", "*c : int\n    d : int", ["no parameter d"]),
        ("Returns\n    -------\n    int\n", "", ["Returns"]),
        ("    ValueError\n        Always.", "    TypeError\n        Always.", ["Raises ValueError"]),
    ):
        [node] = ast.parse(good.replace(old, new)).body
        assert lacking(node) == lacks
