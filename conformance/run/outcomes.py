"""Classification: from the way a decoder ended to its result for one vector. Pure functions.

A decoder's exit code says what it did:

0             it accepted the stream and wrote the picture
65, 77, 78    it refused: the stream (65), by a limit (77), for want of the right model (78)
69            it does not support the stream
below 0, or 128 + the number of a signal, 70: it crashed
other         it refused if it names an error class of SPEC, else it crashed; out of memory if it says so

The class of a refusal is the value of "error" in a JSON object on a line of standard output, or else the last name of a
class on standard error. A decoder that names none is still scored on refusing.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from ..kit.strict_json import read_json
from ..kit.text import printable
from ..kit.vectors import ERROR_CLASSES, UNSUPPORTED_CLASSES, Accept, Reject
from . import process
from .process import Ended

PASS, FAIL, ACCEPTED, WRONG_CLASS = "pass", "fail", "accepted-invalid", "wrong-class"
CRASH, TIMEOUT, MEMORY, UNSUPPORTED, SKIPPED = "crash", "timeout", "out-of-memory", "not-supported", "skipped"

FAILURES = (FAIL, ACCEPTED, WRONG_CLASS, CRASH, TIMEOUT, MEMORY)
"""Results that fail a run."""

OPEN = (UNSUPPORTED, SKIPPED)
"""Results that neither pass nor fail."""

OUTCOMES = (PASS, *FAILURES, *OPEN)

MEANING = {
    PASS: "the samples are equal, or the stream was refused as it must be",
    FAIL: "another picture, no picture, or a valid stream refused",
    ACCEPTED: "a stream that must be refused was accepted",
    WRONG_CLASS: "refused, but with another class than SPEC's",
    CRASH: "ended by a signal or an internal error",
    TIMEOUT: "not done within the time limit",
    MEMORY: "used more memory than the limit",
    UNSUPPORTED: "the decoder says that it does not support this (exit code 69, or 77 for a valid stream)",
    SKIPPED: "not run, for want of its model",
}

REFUSING, REFUSED_BY_LIMIT, NOT_SUPPORTED, INTERNAL = (65, 77, 78), 77, 69, 70

_SIGNALS = {s.value: s.name for s in signal.Signals}
_NO_MEMORY = re.compile(
    r"MemoryError|bad_alloc|out of memory|cannot allocate memory|memory allocation of \d+ bytes", re.IGNORECASE
)
_CLASSES = re.compile(rf"\b({'|'.join(ERROR_CLASSES)})\b")


@dataclass(frozen=True)
class Seen:
    """Reaction of a decoder to a stream.

    Attributes
    ----------
    kind : str
        "accepted", "refused", or one of CRASH, TIMEOUT, MEMORY, UNSUPPORTED.
    error : str
        The class it named, "" for none that SPEC knows.
    detail : str
        One line.
    """

    kind: str
    error: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """Result of a vector, and why."""

    outcome: str
    detail: str = ""


def reported_class(stdout: bytes, stderr: bytes) -> str:
    """The error class that a decoder names, "" for none."""
    for line in stdout.split(b"\n"):
        if line.lstrip().startswith(b"{"):
            try:
                name = read_json(line).get("error")
            except ValueError:
                continue
            if isinstance(name, str):
                return name if name in ERROR_CLASSES else ""
    names = _CLASSES.findall(stderr.decode("utf-8", "replace"))
    return names[-1] if names else ""


def last_line(text: bytes) -> str:
    """The last line that is not empty, shortened, safe to print."""
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    line = printable(lines[-1].strip()[:201]) if lines else ""
    return line if len(line) <= 200 else f"{line[:197]}..."


def signal_of(exit_code: int) -> str:
    """The name of the signal that an exit code means, "" for none."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    return _SIGNALS.get(number, f"signal {number}" if exit_code < 0 else "")


def observe(ended: Ended) -> Seen:
    """Reaction of a decoder, from the way it ended; the rules are at the top."""
    if ended.stopped == process.TIMEOUT:
        return Seen(TIMEOUT, detail=f"ended after {ended.seconds:.1f} s")
    if ended.stopped == process.MEMORY:
        return Seen(MEMORY, detail=f"ended at {ended.peak >> 20} MiB")
    code, says = ended.exit_code, last_line(ended.stderr)
    if code == 0:
        return Seen("accepted")
    error = reported_class(ended.stdout, ended.stderr)
    if code == NOT_SUPPORTED:
        return Seen(UNSUPPORTED, error, says)
    if code in REFUSING:
        return Seen("refused", error or ("LimitExceeded" if code == REFUSED_BY_LIMIT else ""), says)
    if _NO_MEMORY.search(ended.stderr.decode("utf-8", "replace")):
        return Seen(MEMORY, detail=says)
    if name := signal_of(code):
        return Seen(CRASH, detail=f"{name}; {says}" if says else name)
    if error and code != INTERNAL:
        return Seen("refused", error, says)
    return Seen(CRASH, detail=f"exit code {code}; {says}" if says else f"exit code {code}")


def score(expect: Accept | Reject, seen: Seen, trouble: str, wrote: bool) -> Verdict:
    """The result of a vector.

    Parameters
    ----------
    expect : Accept or Reject
    seen : Seen
    trouble : str
        What is wrong with the picture, "" if it is the expected one; for Accept only.
    wrote : bool
        Whether there is an output.

    Returns
    -------
    Verdict
    """
    if isinstance(expect, Accept):
        return _score_valid(seen, trouble)
    return _score_invalid(expect, seen, wrote)


def _score_valid(seen: Seen, trouble: str) -> Verdict:
    if seen.kind == "accepted":
        return Verdict(FAIL, trouble) if trouble else Verdict(PASS)
    if seen.kind == "refused":
        if seen.error == "LimitExceeded":
            return Verdict(UNSUPPORTED, seen.detail or "refused by a limit of the decoder")
        return Verdict(FAIL, f"refused: {seen.detail or seen.error or 'no reason given'}")
    return Verdict(seen.kind, seen.detail)


def _score_invalid(expect: Reject, seen: Seen, wrote: bool) -> Verdict:
    if seen.kind == "accepted":
        return Verdict(ACCEPTED, f"expected {expect.error}")
    later = seen.kind == UNSUPPORTED and (set(expect.classes) & set(UNSUPPORTED_CLASSES) or seen.error)
    if seen.kind != "refused" and not later:
        return Verdict(seen.kind, seen.detail)
    if wrote:
        return Verdict(FAIL, "refused, but left an output")
    if not seen.error:
        return Verdict(PASS, "no class named")
    if seen.error not in expect.classes:
        return Verdict(WRONG_CLASS, f"expected {' or '.join(expect.classes)}, got {seen.error}")
    return Verdict(PASS)
