"""The commands of README.md's worked example, run again: ``python -m conformance.generate.worked_example`` renews it.

Seconds and the list of clauses that the failures have in common are no part of a comparison: they change from run to
run and with the suites.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "conformance" / "README.md"

_BLOCK = re.compile(
    r"""(?<=^```console\n\$\ )  (?P<command>([^\n]*\\\n)*[^\n]*\n)  (?P<output>.*?)  (?=^```$)""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


def run(command: str) -> str:
    """Output of a command, with this Python."""
    words = shlex.split(re.sub(r"\bpython -m", f"{sys.executable} -m", command.replace("\\\n", "")))
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout


def renewed(text: str) -> str:
    """A document with the output of every command as it is now."""
    return _BLOCK.sub(lambda match: match["command"] + run(match["command"]), text)


def settled(text: str) -> str:
    """A text without what may change."""
    return re.sub(r"[\d.]+ s\)", "s)", re.sub(r"(?<=of no pass: ).*", "", text))


def commands(text: str) -> list[str]:
    """The commands whose output a document shows."""
    return [match["command"] for match in _BLOCK.finditer(text)]


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
