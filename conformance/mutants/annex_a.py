"""The Gaussian tables of SPEC annex A in float64, also as a reader may misread them: mutants import this.

With the default arguments the tables are exactly those of annex A, so a mutant differs by its misreading alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import erfc, sqrt

import numpy as np


def _frequencies(weights: Sequence[int], half: int, rest_to_escape: bool) -> list[int]:
    """(SPEC A.6) Frequencies of weights; ``half`` is what is added before the floor."""

    def scaled(multiplier: int) -> list[int]:
        return [max(1, (w * multiplier + half) // 2**96) for w in weights]

    fits, exceeds = 0, 2**112 // max(weights) + 1
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        fits, exceeds = (middle, exceeds) if sum(scaled(middle)) <= 65536 else (fits, middle)
    found = scaled(fits)
    found[-1 if rest_to_escape else weights.index(max(weights))] += 65536 - sum(found)
    return found


def gaussian(
    before: float = 0.5, least: int = 2**30, half: int = 2**95, rest_to_escape: bool = False
) -> dict[str, np.ndarray]:
    """(SPEC A.6 to A.8) ``gaussian_cdf``, ``gaussian_start`` and ``gaussian_first``, int32.

    Parameters
    ----------
    before : float
        Symbol i has the probability of the interval from i - before to i + 1 - before, for i >= 0; others alike.
    least : int
        Weight that a regular symbol has at least.
    half : int
        What is added before a frequency is floored.
    rest_to_escape : bool
        What is missing to 65536 is the escape's, and not the likeliest symbol's.

    Returns
    -------
    dict of str to np.ndarray
    """
    tables = []
    for level in range(128):
        sigma = 0.11 * (256 / 0.11) ** (level / 127)
        tail = [erfc((i - before) / sigma / sqrt(2)) / 2 for i in range(2048)]
        weights = [round(2**48 * (1 - 2 * tail[1]))]
        while len(weights) < 2 or round(2**48 * (tail[len(weights)] - tail[len(weights) + 1])) >= least:
            weights.append(round(2**48 * (tail[len(weights)] - tail[len(weights) + 1])))
        both = [*weights[:0:-1], *weights, round(2**49 * tail[len(weights)])]
        tables.append([0, *accumulate(_frequencies(both, half, rest_to_escape))])
    start = [0, *accumulate(map(len, tables))]
    arrays = {
        "gaussian_cdf": [n for table in tables for n in table],
        "gaussian_start": start,
        "gaussian_first": [-(len(table) - 3) // 2 for table in tables],
    }
    return {name: np.array(numbers, np.int32) for name, numbers in arrays.items()}
