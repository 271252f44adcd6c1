"""Exceptions from a signal handler at random moments of encode and decode; the next call must be right and on time.

``python tests/helpers/interrupts.py --rounds 500`` runs both backends on 1, 2 and 5 threads.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2])]

from refcodec.codec import decode_stream, encode_picture
from refcodec.model.integer_model import Model

LATE = 1.0
"""Seconds that a call after an interrupted one may take longer than usual."""


class Late(Exception):
    """Raised by the handler."""


def _raise(*_: object) -> None:
    raise Late


def interrupted(call: Callable[[], Any], after: float) -> bool:
    """Whether a call ended by the exception of a handler that a timer started ``after`` seconds into it."""
    before = signal.signal(signal.SIGALRM, _raise)
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        call()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return False
    except Late:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def storm(model: Model, size: tuple[int, int], threads: int, rounds: int, backend: str, seed: int = 0) -> int:
    """Interrupt ``rounds`` calls at random moments and check the ones after; how many were interrupted.

    Raises
    ------
    AssertionError
        A call after an interrupted one gave other bytes or samples, or was late.
    """
    draw = random.Random(seed)
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = encode_picture(picture, 1, model=model, threads=threads, backend=backend).data

    def encode() -> bytes:
        return encode_picture(picture, 1, model=model, threads=threads, backend=backend).data

    def decode() -> bytes:
        return decode_stream(data, model=model, threads=threads, backend=backend)[0].tobytes()

    calls, took, right, hits = (encode, decode), {}, {}, 0
    for call in calls:
        start = time.perf_counter()
        right[call] = call()
        took[call] = time.perf_counter() - start
    for n in range(rounds):
        call = draw.choice(calls)
        try:
            hits += interrupted(call, max(1e-6, draw.uniform(0, took[call])))
        except Late:  # between the last instruction and the end of the timer
            hits += 1
        after = draw.choice(calls)
        start = time.perf_counter()
        assert after() == right[after], f"round {n}: {after.__name__} after an interrupted {call.__name__} is wrong"
        late = time.perf_counter() - start - took[after]
        assert late < LATE + 2 * took[after], f"round {n}: {after.__name__} came {late:.2f} s late"
    return hits


def main() -> None:
    """Run the storm on every backend and number of threads, and print a line each."""
    from refcodec.model.procedural import procedural_model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--backends", nargs="+", default=["numba", "numpy"])
    parser.add_argument("--size", type=int, nargs=2, default=[192, 256])
    args = parser.parse_args()
    model = procedural_model("tiny", 7)
    for backend in args.backends:
        for threads in args.threads:
            start = time.perf_counter()
            hits = storm(model, tuple(args.size), threads, args.rounds, backend)
            print(
                f"{backend}, {threads} threads: {args.rounds} rounds, {hits} interrupted, every next call right and "
                f"at most {LATE:.0f} s late ({time.perf_counter() - start:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
