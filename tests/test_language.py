"""The project's English: standard terms instead of a private dialect, and sentences of at most 30 words.

Words are looked for in Markdown and in the sources of all packages and tests: docstrings, comments and messages.
Sentences are counted in Markdown, without tables and code.
"""

import io
import re
import tokenize
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, SOURCES, name, without_blocks

THINGS = (
    "call|case|channel|core|file|group|head|input|item|layer|layout|line|number|operation|picture|pixel|point|position|"
    "process|quality|row|sample|second|slice|stage|step|symbol|thread|tile|vector|worker"
)
COUNTED = (
    "bits?|bytes?|calls?|channels?|cycles?|files?|k?MACs?|lines?|multiply-accumulates|numbers|once|operations?|one|processes|products?|rows|"
    "samples|seconds|steps?|symbols|teams?|threads|times|twice|units|values?|vectors|words"
)
WORDS = {
    rf"\b({COUNTED}) an? ({THINGS})\b": "per",
    r"\bbeside\b": "next to, in addition to, compared with",
    r"\b(stands?|stood)\s+(at|behind|by|for|here|in|next|on|there)\b": "is, is stored, represents",
    r"\b(tells|is told)\b": "reports, names, prints",
    r"\bwhoever\b|(?<!, )\bwhatever\b(?! (the|its)\b)": "any, the caller, a noun phrase",
    r"\bof\s+(its|their|his|your|our)\s+own\b|\ban own\b": "separate, its own",
    r"\banew\b": "again",
    r"\bnone such\b": "none",
    r"\bmade of\b": "built from, consists of, derived from",
    r"\b(fell|falls) out\b": "has the result",
    r"\bof one mind\b": "agree",
    r"\blost its core\b": "was descheduled",
    r"\basleep\b": "parked",
    r"\broof\b": "peak throughput",
    r"\b(hunts|judges|judged)\b": "mutation run, verdict",
    r"\bspoil(s|t|ed)?\b": "damage",
    r"\bnormal law\b": "normal distribution",
    r'"""What\b': "a noun phrase: the docstring of a function or value says what it is",
}
"""What no text of the project says, and what it says instead."""

EXEMPT = {
    "tests/test_language.py": "it lists the words",
    "conformance/generate": "descriptions and origins there are written into manifests",
    "conformance/synthetic/models/raw_files.py": "it names vectors, whose identifiers stay",
    "conformance/synthetic/models/procedural.py": "its texts are origins in manifests",
}
"""Files and folders in which words are not looked for, with the reasons."""

MOST_WORDS = 30
LONG = {
    "SPEC.md": {
        "[1.4-1] A decoder conforms if": "a condition of conformance, which stays one sentence",
        "[1.5-1] The following do not change": "an enumeration that a clause holds",
    },
}
"""Sentences that may be longer, by their beginning, with the reasons."""


def without_code(text: str) -> str:
    """Markdown with one word in place of code in a line, and empty lines in place of blocks of code."""
    return re.sub(r"`[^`\n]*`", "CODE", without_blocks(text))


TEXTS = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def texts_of(source: str) -> str:
    """A Python source with its strings and comments alone, on their lines; names of parameters are left out."""
    found = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in TEXTS:
            found += "\n" * (token.start[0] - 1 - found.count("\n")) + f" {token.string}"
    return re.sub(r"(?m)^ *\**\w+(, \**\w+)* : ", "", found)


def sentences(text: str) -> list[str]:
    """The sentences of a Markdown document: those of paragraphs and of items of lists."""
    lines = (line for line in without_code(text).split("\n") if not re.match(r"\s*(\||!\[|#+ )", line))
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)", "\n".join(lines))
    items = (re.sub(r"^([-*]|\d+\.) ", "", " ".join(paragraph.split())) for paragraph in paragraphs)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", item) for item in items)
    return [sentence for item in plain for sentence in re.split(r"(?<=[.?!])[\"')*]*\s+", item) if sentence]


def length(sentence: str) -> int:
    """Words of a sentence; signs, and the identifier of a clause, are none."""
    return sum(bool(re.search(r"\w", word)) for word in re.sub(r"^\[[\w.-]+\] ", "", sentence).split())


def exempt(path: Path) -> bool:
    return any(name(path) == start or name(path).startswith(f"{start}/") for start in EXEMPT)


def test_no_text_uses_the_words_of_the_list():
    found = []
    for path in (*DOCUMENTS, *SOURCES):
        text = path.read_text(encoding="utf-8")
        text = without_code(text) if path.suffix == ".md" else texts_of(text)
        if not exempt(path):
            for word, instead in WORDS.items():
                for match in re.finditer(word, text, re.IGNORECASE):
                    line = text.count("\n", 0, match.start()) + 1
                    found.append(f"{name(path)}:{line}: {' '.join(match[0].split())!r}, write: {instead}")
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_sentences_are_short(path):
    allowed = LONG.get(name(path), {})
    long = [s for s in sentences(path.read_text(encoding="utf-8")) if length(s) > MOST_WORDS]
    found = [f"{length(s)} words: {s}" for s in long if not any(s.startswith(start) for start in allowed)]
    assert not found, "\n".join(["", *found])
    assert all(any(s.startswith(start) for s in long) for start in allowed), "an exception that nothing needs"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_checks_see_what_they_should():
    text = "# A title\n\nOne two. Three `a b c`:\n\n- four five\n  six\n\n| a | b |\n\n```sh\nno\n```\n[Seven](x y z)!"
    assert list(map(length, sentences(f"{text}\n\n  ```\n  no\n  ```"))) == [2, 2, 3, 1]
    assert list(map(length, sentences(text))) == [2, 2, 3, 1]
    for dialect in ("bits a pixel", "it stands\nbehind", "whatever goes wrong", "in a folder of its own", '"""What it'):
        assert any(re.search(word, dialect) for word in WORDS)
    for plain in ("no input overflows, whatever the picture", "understand for", "besides", "its own"):
        assert not any(re.search(word, plain) for word in WORDS)
    source = 'spoil = 1  # a comment\nx = "a text"\n"""What\n\nhunts : int\n    Number.\n"""'
    assert [line.strip() for line in texts_of('x = 1\n\n\'"""\'\ny = """\\\n a\n"""').split("\n")] == [
        *("", "", '\'"""\'', '"""\\', "a", '"""'),
    ]
    assert texts_of(source).split() == ["#", "a", "comment", '"a', 'text"', '"""What', "int", "Number.", '"""']
