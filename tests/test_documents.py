"""Documents refer to what there is: links lead to files and headings, and commands have the options that are shown."""

import contextlib
import importlib.util
import io
import re
import shlex
from functools import cache

import pytest
from documents import DOCUMENTS, FOLDERS, ROOT, SOURCES, name, without_blocks

from conformance.cli import main as conformance
from conformance.kit.suites import load_all
from refcodec.cli import main as refcodec
from weights_converter.__main__ import main as converter

MAINS = {"refcodec": refcodec, "weights_converter": converter, "conformance": conformance}
COMMAND = re.compile(
    r"(?:\$ )?(?:[A-Z_]+=\S* )*(?:(?:\S*/)?python3? -m (?=refcodec|weights_converter|conformance)|(?=refcodec ))"
    r"([\w.]+)(?: ([a-z][\w-]*))?(.*)"
)
"""A command: its module, the word after it, and the rest."""


def test_every_text_is_read():
    """The checks of this file and of test_language.py would pass on empty lists."""
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(FOLDERS) and len(SOURCES) > 400
    assert {name(path) for path in DOCUMENTS} >= {
        *("README.md", "SPEC.md", "CHANGELOG.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md"),
        *("refcodec/USAGE.md", "refcodec/EMBEDDING.md", "refcodec/FEATURES.md"),
        *("conformance/README.md", "conformance/run/README.md", "tests/regressions/README.md"),
        *(f"weights_converter/{path}" for path in ("training.md", "default/card.md", "default/results.md")),
    }


def headings(path):
    """Anchors of a document, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(path.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    text = re.sub(r"`[^`\n]*`", "", without_blocks(path.read_text(encoding="utf-8")))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in link:
            target, _, anchor = link.partition("#")
            file = (path.parent / target).resolve() if target else path
            assert file.exists(), link
            assert not anchor or anchor in headings(file), link


@cache
def described(package, *command):
    """The help of a command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        MAINS[package]([*command, "--help"])
    return out.getvalue()


def commands(text):
    """Commands of a document, in blocks and in code in a line: module, command and the rest of each."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.M | re.S)
    inline = re.findall(r"`([^`]+)`", without_blocks(text))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").split("\n")]
    for line in (*lines, *(" ".join(code.split()) for code in inline)):
        for part in re.split(r" && | \| ", line):
            if match := COMMAND.match(part.strip()):
                yield match.groups(default="")


COMMANDS = [(name(path), *found) for path in DOCUMENTS for found in commands(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("where", "module", "command", "rest"), COMMANDS, ids=lambda value: None)
def test_commands_have_the_options_that_are_shown(where, module, command, rest):
    assert importlib.util.find_spec(module), f"{where}: no module {module}"
    if module not in MAINS:
        return
    words = shlex.split(rest, comments=True)
    options = [word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)]
    text = described(module, *filter(None, [command]), *words[: command == "model"])  # it has subcommands
    assert "usage" in text.lower(), f"{where}: no command {command}"
    for option in options:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), f"{where}: {command} has no {option}"


def test_the_kit_says_how_many_vectors_its_suites_have():
    text = (ROOT / "conformance" / "README.md").read_text(encoding="utf-8")
    printed = dict(re.findall(r"^\| ([\w-]+) \| (\d+) \| ", text, re.M))
    assert printed.items() >= {suite.name: str(len(suite.vectors)) for suite in load_all()}.items()


def test_extras_are_those_of_the_package():
    known = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M))
    for path in DOCUMENTS:
        for extras in re.findall(r"pip install \"?[\w.]+\[([\w,]+)\]", path.read_text(encoding="utf-8")):
            assert set(extras.split(",")) <= known, name(path)


def test_there_are_commands():
    assert len(COMMANDS) > 110
    text = "```sh\nA=1 b/python3 -m refcodec x \\\n  --y && refcodec z\n```\n(`python -m conformance.a\nb`)"
    assert list(commands(text)) == [("refcodec", "x", "    --y"), ("refcodec", "z", ""), ("conformance.a", "b", "")]
