"""SPEC.md as a module: its ``python`` blocks in order, line numbers kept, and its ``pycon`` examples."""

import re
from functools import cache
from pathlib import Path
from types import ModuleType

PATH = Path(__file__).parents[1] / "SPEC.md"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{2,3} (?:Annex )?(\d+(?:\.\d+)?|[A-Z](?:\.\d+)?) (.+)$", re.MULTILINE)


@cache
def text() -> str:
    """SPEC.md."""
    return PATH.read_text(encoding="utf-8")


def blocks(language: str) -> list[tuple[int, str]]:
    """Fenced blocks of a language with the number of lines before their first."""
    return [(text()[:match.start(2)].count("\n"), match[2]) for match in FENCE.finditer(text()) if match[1] == language]


def sections() -> dict[str, str]:
    """Titles by number, annexes and their sections included; headings inside blocks do not count."""
    return {match[1]: match[2] for match in HEADING.finditer(FENCE.sub("", text()))}


@cache
def spec_module() -> ModuleType:
    """All ``python`` blocks as one module; tracebacks point into SPEC.md."""
    module = ModuleType("spec_blocks", "The definition of the codec.")
    for line, code in blocks("python"):
        exec(compile("\n" * line + code, str(PATH), "exec"), module.__dict__)
    return module
