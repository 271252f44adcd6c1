"""The numbers that SPEC.md prints, computed again: ``python -m conformance.generate.specification`` renews them.

They are the output of its examples, annex D among them, and the decoding with a released model at the end of annex D,
which the blocks would take hours for: refcodec makes it. Tests fail if they are not current.
"""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Callable

import numpy as np

from refcodec.codec import decode_stream, encode_picture
from refcodec.model.tables import load_arrays
from refcodec.trace import Recorder

from ..kit.clauses import FENCE, SPEC_PATH
from ..kit.specification import definition, plain_content

MODEL, QUALITY = "refcodec-default-2", 30
"""Model and quality of the stream of D.9. A later default model does not replace it."""

_LAST = "### D.9 "
"""Heading of the last section, whose two blocks are the stream and the stages."""


class _Renewer(doctest.DocTestRunner):
    """Runs examples and notes what those print that print something else than the document says."""

    def __init__(self) -> None:
        super().__init__(verbose=False)
        self.printed: dict[int, str] = {}

    def report_failure(
        self, out: Callable[[str], object], test: doctest.DocTest, example: doctest.Example, got: str
    ) -> None:
        self.printed[example.lineno] = got


def names() -> dict[str, object]:
    """Names that examples may use: the blocks, whose tables of annex A are those of the package, which are the same."""
    tables = plain_content({f"tables/{name}": array for name, array in load_arrays().items()})
    return {**vars(definition()), "universal_tables": lambda: tables}


def renewed(text: str) -> str:
    """A document with what every example prints now."""
    runner, known = _Renewer(), names()

    def block(match: re.Match[str]) -> str:
        if match[1] != "pycon":
            return match[0]
        test = doctest.DocTestParser().get_doctest(match[2], {}, SPEC_PATH.name, SPEC_PATH.name, 0)
        test.globs = known
        runner.printed.clear()
        runner.run(test, clear_globs=False)
        lines = match[2].splitlines(keepends=True)
        for example in reversed(test.examples):
            if (got := runner.printed.get(example.lineno)) is not None:
                begin = example.lineno + example.source.count("\n")
                lines[begin : begin + example.want.count("\n")] = [got]
        return f"```pycon\n{''.join(lines)}```"

    return FENCE.sub(block, text)


def picture() -> np.ndarray:
    """(SPEC D.9) The picture that is coded with the released model: [70, 100, 3] uint8."""
    row, column = np.mgrid[:70, :100]
    return np.stack([(2 * column + row) % 256, column * row // 16 % 256, 255 - 2 * row], axis=2).astype(np.uint8)


def default_decoding() -> tuple[str, str]:
    """(SPEC D.9) The stream in hexadecimal digits, and the lines of its stages."""
    data = encode_picture(picture(), QUALITY, model=MODEL, rectangles=False).data
    digits = data.hex()
    return "".join(f"{digits[n : n + 64]}\n" for n in range(0, len(digits), 64)), stage_lines(data)


def stage_lines(data: bytes) -> str:
    """(SPEC D.9) Index, name, shape and the beginning of the digest of every stage of decoding a stream."""
    recorder = Recorder()
    samples, _ = decode_stream(data, trace=recorder)
    recorder("samples", samples)
    lines = (json.loads(stage.line()) for stage in recorder.stages)
    return "".join(
        f"{line['index']} {line['name']} {' '.join(map(str, line['shape']))} {line['sha256'][:16]}\n" for line in lines
    )


def printed_decoding(text: str) -> tuple[str, str]:
    """(SPEC D.9) The same as a document prints it."""
    stream, stages = (match[2] for match in FENCE.finditer(text, text.index(_LAST)))
    return stream, stages


def renewed_decoding(text: str) -> str:
    """A document with the decoding of D.9 as it is now."""
    begin, made = text.index(_LAST), iter(default_decoding())
    return text[:begin] + FENCE.sub(lambda _: f"```\n{next(made)}```", text[begin:])


if __name__ == "__main__":
    SPEC_PATH.write_text(renewed_decoding(renewed(SPEC_PATH.read_text(encoding="utf-8"))), encoding="utf-8")
