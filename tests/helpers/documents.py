"""The project's documents and sources, for the tests that read all of them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("refcodec", "weights_converter", "conformance")
FOLDERS = (*PACKAGES, "tests")
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob(".github/*.md"),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")),
    ]
)
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    """A path as reports name it."""
    return path.relative_to(ROOT).as_posix()


def without_blocks(text: str) -> str:
    """Markdown with empty lines in place of blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", lambda match: "\n" * match[0].count("\n"), text, flags=re.M | re.S)
