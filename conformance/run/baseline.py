"""Baselines: which vectors are known to fail, and how exactly. Pure functions.

A baseline is a text, one vector per line, ``RESULT ID``; ``#`` begins a comment. A run is as expected if every vector
has the result in its line and all others pass. What passes in spite of its line is reported too, so that a baseline
never outlives its failures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..kit.errors import FAILED, INCOMPLETE, INTERRUPTED, NOTHING_RAN, PASSED, UsageError
from .outcomes import FAILURES, OPEN, OUTCOMES, PASS

Baseline = Mapping[str, str]

AS_HOPED, EXPECTED, NEW, CHANGED, FIXED, NOT_RUN = (
    "pass",
    "expected",
    "new-failure",
    "changed",
    "unexpected-pass",
    "not-run",
)
"""How a result stands to the baseline: it passes; is what the line says; fails without a line; is another than the
line says; passes in spite of its line; did not run and has no line."""


def parse(text: str, source: str, known: Iterable[str]) -> dict[str, str]:
    """Read a baseline.

    Parameters
    ----------
    text, source : str
        Content, and name for messages.
    known : iterable of str
        Ids of all vectors of the kit.

    Returns
    -------
    dict of str to str
        Result by id.

    Raises
    ------
    UsageError
        A line is malformed, doubled, or names no vector.
    """
    ids, found = set(known), dict[str, str]()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        where = f"{source}, line {number}"
        if len(words) != 2 or words[0] not in OUTCOMES or words[0] == PASS:
            raise UsageError(f"{where}: expected RESULT ID, with one of {', '.join(o for o in OUTCOMES if o != PASS)}")
        if words[1] not in ids:
            raise UsageError(f"{where}: no vector {words[1]!r}")
        if words[1] in found:
            raise UsageError(f"{where}: {words[1]!r} has a line already")
        found[words[1]] = words[0]
    return found


def render(outcomes: Mapping[str, str]) -> str:
    """The baseline by which these results are as expected."""
    return "".join(f"{outcome} {name}\n" for name, outcome in sorted(outcomes.items()) if outcome != PASS)


def judge(name: str, outcome: str, baseline: Baseline) -> str:
    """Compare one result with the baseline.

    Parameters
    ----------
    name : str
        Id of the vector.
    outcome : str
        One of `OUTCOMES`.
    baseline : mapping of str to str
        Known results by id.

    Returns
    -------
    str
        FIXED, EXPECTED, CHANGED, NEW, NOT_RUN or AS_HOPED.
    """
    if name in baseline:
        if outcome == PASS:
            return FIXED
        return EXPECTED if outcome == baseline[name] else CHANGED
    if outcome in FAILURES:
        return NEW
    return NOT_RUN if outcome in OPEN else AS_HOPED


@dataclass(frozen=True)
class Conclusion:
    """Conclusion of a run.

    Attributes
    ----------
    exit_code : int
        As errors.py lists them.
    text : str
    """

    exit_code: int
    text: str


def conclude(outcomes: Mapping[str, str], baseline: Baseline, interrupted: bool = False) -> Conclusion:
    """Conclude a run: skipped vectors, an empty run and an interrupted one are never a pass.

    Parameters
    ----------
    outcomes : mapping of str to str
        Result by id.
    baseline : mapping of str to str
        Known results by id.
    interrupted : bool

    Returns
    -------
    Conclusion
        Exit code and a line of text.
    """
    if interrupted:
        ran = sum(outcome not in OPEN for outcome in outcomes.values())
        return Conclusion(INTERRUPTED, f"interrupted: {ran} of {len(outcomes)} vectors ran")
    judged = {name: judge(name, outcome, baseline) for name, outcome in outcomes.items()}
    wrong = [name for name, j in judged.items() if j in (NEW, CHANGED, FIXED)]
    if wrong:
        return Conclusion(FAILED, f"{len(wrong)} of {len(outcomes)} vectors are not as they must be")
    if all(outcome in OPEN for outcome in outcomes.values()):
        return Conclusion(NOTHING_RAN, "nothing ran")
    idle = [name for name, j in judged.items() if j == NOT_RUN]
    if idle:
        return Conclusion(INCOMPLETE, f"incomplete: {len(idle)} of {len(outcomes)} vectors did not run")
    known = sum(j == EXPECTED for j in judged.values())
    return Conclusion(
        PASSED,
        f"all {len(outcomes)} vectors as expected, {known} of them failing"
        if known
        else f"all {len(outcomes)} vectors passed",
    )
