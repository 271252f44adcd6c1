"""Headers of NPY files, read strictly: type, order and shape, by a pattern; nothing of it is evaluated.

NumPy's own reader gives a header to Python's tokenizer and parser, which raise many kinds of errors for hostile ones.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000
"""Bytes of a header: NumPy's own limit."""

MAX_SIZE = 1 << 62
"""Numbers in an array: beyond every file, so that larger shapes need no arithmetic."""

_DIMENSION = r"\d{1,19}"
_FIELD = re.compile(
    rf"""\s*(['"])(descr|fortran_order|shape)\1\s*:\s*
    (?: (['"])(?P<descr>[<>|=]?[?biufcmMOSUV]\d{{0,4}})\3 | (?P<order>True|False)
      | \(\s*(?P<shape>(?:{_DIMENSION}\s*,\s*)*(?:{_DIMENSION})?)\s*\) )\s*(?:,|(?=\}}))""",
    re.VERBOSE,
)
_KINDS = {"descr": "descr", "fortran_order": "order", "shape": "shape"}


@dataclass(frozen=True)
class Header:
    """Header of a NPY file.

    Attributes
    ----------
    shape : tuple of int
    by_columns : bool
        The first index changes fastest.
    dtype : np.dtype
    start : int
        Where the numbers begin, in bytes.
    """

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype
    start: int

    @property
    def bytes(self) -> int:
        """Bytes that the numbers take."""
        return math.prod(self.shape) * self.dtype.itemsize


def _dtype(text: str) -> np.dtype:
    try:
        return np.dtype(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"unknown type {text!r}") from error


def _fields(text: str) -> dict[str, str]:
    """The three fields of a header; raises ValueError."""
    body = text.strip()
    if not (body.startswith("{") and body.endswith("}")):
        raise ValueError("the header is not a dictionary")
    at, found = 1, dict[str, str]()
    while body[at:].strip() != "}":
        match = _FIELD.match(body, at)
        if match is None or match[2] in found or match[_KINDS[match[2]]] is None:
            raise ValueError("the header does not hold 'descr', 'fortran_order' and 'shape' as it should")
        found[match[2]] = match[_KINDS[match[2]]]
        at = match.end()
    if found.keys() != _KINDS.keys():
        raise ValueError("the header lacks 'descr', 'fortran_order' or 'shape'")
    return found


def read_header(data: bytes, versions: tuple[int, ...] = (1,)) -> Header:
    """Read the header of a NPY file.

    Parameters
    ----------
    data : bytes
        The file, or at least its first `MAX_HEADER` + 12 bytes.
    versions : tuple of int
        Versions of the format that are read, 1 and 2 of them.

    Raises
    ------
    ValueError
        It is no NPY file of these versions; the text says why.
    """
    if data[:6] != MAGIC or len(data) < 12:
        raise ValueError("it does not begin as a NPY file")
    version, minor = data[6], data[7]
    if version not in versions or minor:
        raise ValueError(f"version {version}.{minor}, expected {' or '.join(f'{v}.0' for v in versions)}")
    first = 10 if version == 1 else 12
    size = int.from_bytes(data[8:first], "little")
    if size > MAX_HEADER:
        raise ValueError(f"the header has {size} bytes, at most {MAX_HEADER} are read")
    if len(data) < first + size:
        raise ValueError("the header is cut short")
    fields = _fields(data[first : first + size].decode("latin-1"))
    text = fields["shape"]
    shape = tuple(int(part) for part in text.split(",") if part.strip())
    if len(shape) == 1 and "," not in text:
        raise ValueError("'shape' is not a tuple")
    if math.prod(max(n, 1) for n in shape) > MAX_SIZE or len(shape) > 32:
        raise ValueError("the shape is larger than any file")
    return Header(shape, fields["fortran_order"] == "True", _dtype(fields["descr"]), first + size)
