"""In which order vectors are run, and when a run stops early. Pure functions of the vectors and of a seed.

Reports list results in the order of the manifests, whatever the order in which they were found.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from ..kit.vectors import Accept, Vector
from . import outcomes
from .process import NotStarted

MADE_MODEL = 1 << 28
"""Bytes that count for a model that is no file of the kit: those have the shape of full-size networks."""

ALIKE = 8
"""Equal crashes after which a decoder is taken for one that cannot be started, if it never did anything else."""


ENOUGH = "not run, since there were enough failures before it"
"""Detail of vectors that a run did not get to."""


def cost(vector: Vector) -> int:
    """Approximate cost of a vector: bytes of the stream and of the model, and samples."""
    samples = vector.expect.count if isinstance(vector.expect, Accept) else 0
    model = vector.model
    read = 0 if model is None else model.file.stat().st_size if model.file else MADE_MODEL
    return len(vector.read()) + samples + read


def cheapest_first(vectors: Sequence[Vector]) -> list[int]:
    """Places of the vectors: the cheapest first, valid streams, invalid ones and unit cases by turns.

    So a decoder that fails at once is tried on a picture and on a refusal before it has cost anything.
    """
    ranks, turns = dict[int, tuple[int, str]](), Counter[str]()
    for n in sorted(range(len(vectors)), key=lambda n: (cost(vectors[n]), vectors[n].id)):
        ranks[n] = turns[vectors[n].outcome], vectors[n].outcome
        turns[vectors[n].outcome] += 1
    return sorted(ranks, key=ranks.__getitem__)


def mixed(vectors: Sequence[Vector], seed: int) -> list[int]:
    """Places of the vectors, shuffled by a seed: valid streams, invalid ones and models alternate as they come.

    The order depends on the ids alone, so it is the same on every machine.
    """
    places = sorted(range(len(vectors)), key=lambda n: vectors[n].id)
    random.Random(seed).shuffle(places)
    return places


class Watcher:
    """Looks at every result as it comes, from any thread; decides whether the run goes on.

    Parameters
    ----------
    vectors : sequence of Vector
        All that are to run.
    most : int or None
        Failures after which no other vector is run.
    counts : callable(id, outcome) -> bool
        Whether a result is one of these failures.
    """

    def __init__(self, vectors: Sequence[Vector], most: int | None, counts: Callable[[str, str], bool]) -> None:
        self._kinds = {v.outcome for v in vectors} - {"unit"}
        self._most, self._counts, self._failed = most, counts, 0
        self._lock, self._other, self._says = threading.Lock(), False, ""
        self._alike, self._seen = 0, set[str]()

    @property
    def enough(self) -> bool:
        """Whether there were as many failures as are wanted."""
        return self._most is not None and self._failed >= self._most

    def look(self, vector: Vector, outcome: str, detail: str) -> None:
        """Record a result.

        Parameters
        ----------
        vector : Vector
        outcome : str
            One of `OUTCOMES`.
        detail : str
            Its description.

        Raises
        ------
        NotStarted
            The decoder ended with one exit code and one message for valid and for invalid streams, and did nothing
            else: a wrong argument, or a library that is missing.
        """
        with self._lock:
            self._failed += self._counts(vector.id, outcome)
            if outcome == outcomes.SKIPPED or vector.outcome == "unit" or self._other:
                return
            plain = outcome == outcomes.CRASH and detail.startswith("exit code")
            self._other = not plain or self._says not in ("", detail)
            self._says, self._alike = detail, self._alike + 1
            self._seen.add(vector.outcome)
            if not self._other and self._alike >= ALIKE and self._seen == self._kinds:
                raise NotStarted(
                    f"the decoder ended {self._alike} of {self._alike} times with {detail}; it did nothing else, "
                    "so the command is taken to be wrong"
                )
