"""Does this machine compute the right bits? The items of items.py against the hashes the package carries.

An item that differs is computed once more in the other backend, which separates a fault of one backend from one of the
package. ``python -m refcodec.agreement.selftest --write`` makes the hashes again, to be run when the arithmetic or a
bundled model changes; it refuses to write what the two backends do not agree on.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from ..arith.backend import BACKENDS, default_backend
from ..errors import CheckFailed, InvalidModel, UsageError
from ..io.files import write_bytes
from ..threads import thread_count
from . import items as hashes

PATH = Path(__file__).parents[1] / "data" / "selftest.json"


@dataclass(frozen=True)
class Difference:
    """An item that is not as it should be.

    Attributes
    ----------
    name : str
    expected, found : str
        SHA-256 in hexadecimal; "absent", or "error: ..." where the item could not be computed.
    cause : str
        The likely cause.
    """

    name: str
    expected: str
    found: str
    cause: str

    def line(self) -> str:
        """One line for a person."""
        return f"{self.name}: expected {self.expected[:16]}, found {self.found[:120]}; {self.cause}"


@dataclass(frozen=True)
class Report:
    """Result of the self-test.

    Attributes
    ----------
    backend : str
    threads : int
    seconds : float
    items : int
        Results that were compared.
    differences : tuple of Difference
        Empty where this machine computes the right bits.
    """

    backend: str
    threads: int
    seconds: float
    items: int
    differences: tuple[Difference, ...]


@cache
def golden(path: Path = PATH) -> Mapping[str, str]:
    """The right hash of every item.

    Raises
    ------
    InvalidModel
        The package's file is missing or damaged.
    """
    try:
        items: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["items"]
        if not all(isinstance(value, str) for value in items.values()):
            raise ValueError("a hash is not text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InvalidModel(
            "the package's data is damaged", where=f"{path.name}: {e}", cause="install refcodec again"
        ) from e
    return items


def _cause(name: str, expected: str, found: str, other: str | None, backend: str) -> str:
    if expected == "absent" or found == "absent":
        return "selftest.json lists other items than this version: install refcodec again"
    if name.endswith(" model"):
        return "the model or the rules that build it are not those of selftest.json: install refcodec again"
    if other is None:
        return "Numba is missing, so a fault of NumPy cannot be distinguished from one of this package's files"
    if other == found:
        return "both backends agree: this package's code or data differs from what selftest.json was made with"
    if other != expected:
        return "both backends differ, each in another way: suspect memory, processor or the installed NumPy"
    if backend == "numba":
        return (
            "NumPy computes it right: Numba, its cached kernels (delete refcodec's __pycache__ folders) or the "
            "processor is at fault; REFCODEC_BACKEND=numpy works"
        )
    return "Numba computes it right: the installed NumPy or its BLAS is at fault; REFCODEC_BACKEND=numba works"


def run(backend: str | None = None, threads: int | None = None, expected: Mapping[str, str] | None = None) -> Report:
    """Compute every item and compare.

    Parameters
    ----------
    backend : "numba", "numpy" or None for ``REFCODEC_BACKEND``
    threads : int or None for all cores
    expected : mapping of str to str or None for the package's hashes

    Returns
    -------
    Report

    Raises
    ------
    UsageError
        The backend or the number of threads.
    InvalidModel
        The package's hashes are damaged.
    """
    backend, threads = backend or default_backend(), thread_count(threads)
    expected = golden() if expected is None else expected
    start = time.perf_counter()
    found = hashes.compute(backend, threads)
    names = [n for n in dict.fromkeys([*expected, *found]) if expected.get(n) != found.get(n)]
    other: Mapping[str, str] = {}
    if names and importlib.util.find_spec("numba"):
        other = hashes.compute(next(b for b in BACKENDS if b != backend), threads, names)
    differences = []
    for name in names:
        pair = expected.get(name, "absent"), found.get(name, "absent")
        differences.append(Difference(name, *pair, _cause(name, *pair, other.get(name), backend)))
    seconds = time.perf_counter() - start
    return Report(backend, threads, seconds, len(set(expected) | set(found)), tuple(differences))


def check(report: Report, *, whole: bool = False) -> None:
    """Refuse a report with differences.

    Parameters
    ----------
    whole : bool
        The error holds hashes and causes, not the names of the items alone.

    Raises
    ------
    CheckFailed
        Its value ``items`` says which differ.
    """
    if report.differences:
        raise CheckFailed(
            "this machine does not compute the right bits",
            backend=report.backend,
            items=[asdict(d) if whole else d.name for d in report.differences],
            cause="do not rely on pictures coded here",
        )


def write(path: Path = PATH) -> int:
    """Make the file of right hashes and return the number of its items.

    Raises
    ------
    UsageError
        The backends disagree, or an item cannot be computed; nothing is written.
    """
    first, second = (hashes.compute(backend, 1) for backend in BACKENDS)
    bad = [name for name in first if first[name] != second[name] or first[name].startswith("error")]
    if bad:
        raise UsageError("the backends disagree, so neither is written", items=bad)
    write_bytes(path, (json.dumps({"items": first}, indent=1) + "\n").encode(), force=True)
    return len(first)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit(
            "usage: python -m refcodec.agreement.selftest --write; to compare: python -m refcodec selftest"
        )
    print(f"{PATH.name}: {write()} items")
