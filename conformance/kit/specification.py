"""SPEC.md's ``python`` blocks as a module: the definition of the codec, run as it stands (SPEC 1.3-3)."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from .clauses import FENCE, SPEC_PATH
from .errors import UsageError


@cache
def source() -> str:
    """(SPEC 1.3-3) All blocks in the order of the document, each at its line of SPEC.md; raises UsageError."""
    if not SPEC_PATH.is_file():
        raise UsageError(f"no SPEC.md at {SPEC_PATH}: generators need a checkout of the project, not an installed kit")
    text, code = SPEC_PATH.read_text(encoding="utf-8"), ""
    for match in FENCE.finditer(text):
        if match[1] == "python":
            code += "\n" * (text.count("\n", 0, match.start(2)) - code.count("\n")) + match[2]
    return code


@cache
def definition() -> ModuleType:
    """(SPEC 1.3-3) All blocks in the order of the document; tracebacks point into SPEC.md.

    Raises
    ------
    UsageError
        SPEC.md is not next to the package, as in an installed kit.
    """
    module = ModuleType("spec_blocks", "The definition of the codec.")
    exec(compile(source(), str(SPEC_PATH), "exec"), module.__dict__)
    return module


def plain_content(content: dict[str, np.ndarray]) -> dict[str, tuple[str, Any]]:
    """(SPEC 10.2) A model's arrays as the blocks take them: pairs of type and nested lists."""
    return {name: (str(array.dtype), array.tolist()) for name, array in content.items()}
