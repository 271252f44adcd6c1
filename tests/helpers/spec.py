"""SPEC.md as a module: its ``python`` blocks in order, line numbers kept, and its ``pycon`` examples."""

from functools import cache
from types import ModuleType

from conformance.kit.clauses import FENCE, SPEC_PATH, headings, prose
from conformance.kit.specification import definition, plain_content
from refcodec.model.tables import load_arrays


@cache
def text() -> str:
    """SPEC.md."""
    return SPEC_PATH.read_text(encoding="utf-8")


def words() -> str:
    """SPEC.md without its fenced blocks, lines kept."""
    return "\n".join(prose(text()))


def blocks(language: str) -> list[tuple[int, str]]:
    """Fenced blocks of a language with the number of lines before their first."""
    return [
        (text()[: match.start(2)].count("\n"), match[2]) for match in FENCE.finditer(text()) if match[1] == language
    ]


def sections() -> dict[str, str]:
    """Titles by number, annexes and their sections included; headings inside blocks do not count."""
    return {number: title for _, number, title in headings(text())}


def spec_module() -> ModuleType:
    """All ``python`` blocks as one module; tracebacks point into SPEC.md."""
    return definition()


def universal_tables() -> dict[str, tuple[str, list[int]]]:
    """The tables of annex A as content (SPEC 10.2): what the examples of annex D take from a model file."""
    return plain_content({f"tables/{name}": array for name, array in load_arrays().items()})
