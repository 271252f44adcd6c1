"""Rows of one task shared out to threads without the interpreter (SPEC 5.1: sums are exact, no split changes a byte).

A decode is several hundred tasks of 20 to 2000 microseconds. Handing one to a pool of Python threads costs 60 to 70:
the helper sleeps, wakes, and then waits for the GIL. Here helpers wait in compiled code that needs no GIL, and look
for work in a few shared words for a short while before they sleep.

A task is a C function (refcodec/arith/kernels) of an array of int64: addresses and sizes. Its rows are cut into
chunks; the word LEFT counts those nobody has claimed, PENDING those that are not done. Every thread, the caller's first
of all, claims chunks by compare-and-swap until none is left. So a helper that sleeps or is late costs nothing but its
help. A claim can never meet a stale task: the task's words change only while LEFT and PENDING are zero, and are read
after a claim.

Numba's own parallel layers are not used: "workqueue" aborts when two Python threads enter it at once, and OpenMP does
not survive a fork. There is one team a process, made anew in a forked child. Whoever finds it at work computes alone,
so several decodes at once do not take more threads than there are cores and decodes.
"""

from __future__ import annotations

import os
import threading
import time

import numpy as np

from .kernels.library import Kernel

LEFT, PENDING, TASK, ARGUMENTS, ROWS, CHUNKS = 0, 8, 16, 17, 18, 19
"""Words of the board; those that threads write are on cache lines of their own."""

SPINS = 1 << 14
"""Looks at the board before a helper sleeps: 0.1 to 0.3 ms, longer than the interpreter takes between two tasks."""

CHUNKS_A_THREAD = 4
"""Finer chunks even out late helpers, coarser ones read the weights less often."""

_serve, _finish, _lead = Kernel("team.serve", 2), Kernel("team.finish", 2), Kernel("team.lead", 5)


def address(array: np.ndarray) -> int:
    """Where an array's first element lies."""
    return int(array.__array_interface__["data"][0])


class _Helper:
    """A thread that serves the board, and sleeps when there is nothing for a while."""

    def __init__(self, board: int) -> None:
        self._board = board
        self._bed = threading.Lock()
        self._bed.acquire()
        self.asleep = False
        threading.Thread(target=self._live, name="refcodec", daemon=True).start()

    def _live(self) -> None:
        while True:
            _serve.call(self._board, SPINS)
            self.asleep = True
            self._bed.acquire()

    def wake(self) -> None:
        """Called by the one thread that leads."""
        self.asleep = False
        self._bed.release()


class _Team:
    """The helpers of a process and their board."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        self._store = np.zeros(32, np.int64)  # 24 words from a cache line's start on
        self._board = address(self._store) + -address(self._store) % 64
        self._helpers: list[_Helper] = []

    def run(self, function: int, arguments: int, rows: int, threads: int) -> None:
        """Share a task out; ``free`` is held."""
        while len(self._helpers) < threads - 1:
            self._helpers.append(_Helper(self._board))
        for helper in self._helpers[:threads - 1]:
            if helper.asleep:
                helper.wake()
        if _lead.call(self._board, function, arguments, rows, min(rows, CHUNKS_A_THREAD * threads)):
            while _finish.call(self._board, SPINS):  # a helper has lost its core: give it ours
                time.sleep(0)


_team = _Team()


def _renew() -> None:
    global _team
    _team = _Team()


os.register_at_fork(after_in_child=_renew) if hasattr(os, "register_at_fork") else None


def share(work: Kernel, arguments: np.ndarray, rows: int, threads: int) -> None:
    """Run a task over range(rows), every row once.

    Parameters
    ----------
    work : Kernel
        A task.
    arguments : np.ndarray, int64
        What the task reads; the caller keeps every array whose address it holds alive.
    rows, threads : int
    """
    team = _team
    words = address(arguments)
    if threads < 2 or rows < 2 or not team.free.acquire(blocking=False):
        work.call(words, 0, rows)
        return
    try:
        team.run(work.address, words, rows, threads)
    finally:
        team.free.release()
