"""Documents refer to what there is: links lead to files and headings, and commands have the options that are shown."""

import contextlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from conformance.cli import main as conformance
from refcodec.cli import main as refcodec
from weights_converter.__main__ import main as converter

ROOT = Path(__file__).parents[1]
FOLDERS = ("refcodec", "weights_converter", "conformance", "tests")
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob(".github/*.md"),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")),
    ]
)
MAINS = {"refcodec": refcodec, "weights_converter": converter, "conformance": conformance}
COMMAND = re.compile(r"^(?:\$ )?python -m (refcodec|weights_converter|conformance) ([a-z]\S*) ?((?:.*\\\n)*.*)$", re.M)


def name(path):
    return path.relative_to(ROOT).as_posix()


def headings(path):
    """Anchors of a document, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
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


COMMANDS = [(name(path), *found) for path in DOCUMENTS for found in COMMAND.findall(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("where", "package", "command", "rest"), COMMANDS, ids=lambda value: None)
def test_commands_have_the_options_that_are_shown(where, package, command, rest):
    words = shlex.split(rest.replace("\\\n", " "), comments=True)
    options = [word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)]
    text = described(package, command, *words[: command == "model"])  # it has subcommands
    assert "usage" in text.lower(), f"{where}: no command {command}"
    for option in options:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), f"{where}: {command} has no {option}"


def test_there_are_commands():
    assert len(COMMANDS) > 60
