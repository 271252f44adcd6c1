"""Rows of one task shared out to threads without the interpreter (SPEC 5.1: sums are exact, no split changes a byte).

A decode is several hundred tasks of 20 to 2000 microseconds. Handing one to a pool of Python threads costs 60 to 70:
the helper sleeps, wakes, and then waits for the GIL. Here helpers wait in compiled code that needs no GIL, and look
for work in a few shared words for a short while before they sleep.

A task is a C function (refcodec/arith/jit/kernels) of an array of int64: addresses and sizes. Its rows are cut into
chunks; the word LEFT counts those nobody has claimed, PENDING those that are not done. Every thread, the caller's first
of all, claims chunks by compare-and-swap until none is left. So a helper that sleeps or is late costs nothing but its
help. A claim can never meet a stale task: the task's words change only while LEFT and PENDING are zero, and are read
after a claim.

A signal handler may raise an exception between any two instructions of Python. A task therefore is one call of one C
function, ``lead``: it takes the board, publishes the task, works, waits until no chunk is pending, and gives the board
back. Between two instructions of Python no task is on the board, no helper computes for this thread, and no address of
an array is in use. What remains in Python wakes helpers, and may stop after any instruction or run twice.

Numba's own parallel layers are not used: "workqueue" aborts when two Python threads enter it at once, and OpenMP does
not survive a fork. Each process has one team; a forked child makes a new one. A caller that finds the team at work
computes alone, so several decodes at once do not take more threads than there are cores and decodes.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from queue import SimpleQueue

import numpy as np

from ...threads import Worker
from .kernels.constants import BOARD, FREE, PAUSE, SPINS
from .native.loader import Kernel

CHUNKS_A_THREAD = 4
"""Finer chunks even out late helpers, coarser ones read the weights less often."""

serve, lead = Kernel("team.serve", 2), Kernel("team.lead", 5)


def address(array: np.ndarray) -> int:
    """Where an array's first element lies."""
    return int(array.__array_interface__["data"][0])


def _pause() -> int:
    """Address of a C function of one number that lets another thread have the core if the number is 0; 0 without."""
    with suppress(OSError, AttributeError):
        function = ctypes.CDLL("kernel32").Sleep if sys.platform == "win32" else ctypes.CDLL(None).usleep
        return int(ctypes.cast(function, ctypes.c_void_p).value or 0)
    return 0


class _Helper(Worker):
    """A thread that serves the board, and sleeps when there is nothing for a while."""

    def __init__(self, board: np.ndarray) -> None:
        super().__init__(self._serve)
        self._board = board  # the thread reads it until the very end of the process, when the team may be gone
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self.idle = True

    def _serve(self) -> None:
        board = address(self._board)
        while True:
            self.idle = False
            serve.call(board, SPINS)
            self.idle = True
            self._wakes.get()

    def wake(self) -> None:
        """Start the idle thread or end its sleep; may be interrupted anywhere, and called by several threads at once.

        Every state changes by one call into C. A wake too many costs ``SPINS`` looks. Without threads to be had the
        callers compute alone.
        """
        if self.start() and self._wakes.empty():
            self._wakes.put(None)


class _Team:
    """The helpers of a process and their board."""

    def __init__(self) -> None:
        store = np.zeros(BOARD + 8, np.int64)
        self._board = store[-address(store) % 64 // 8 :][:BOARD]  # from a cache line's start on
        self._board[FREE], self._board[PAUSE] = 1, _pause()
        self._at = address(self._board)
        self._helpers: list[_Helper] = []

    def run(self, function: int, arguments: int, rows: int, threads: int) -> None:
        """Share a task out, or compute it on this thread alone if the team is at work."""
        while len(self._helpers) < threads - 1:
            self._helpers.append(_Helper(self._board))
        for helper in self._helpers[: threads - 1]:
            if helper.idle:
                helper.wake()
        lead.call(self._at, function, arguments, rows, min(rows, CHUNKS_A_THREAD * threads))


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
        What the task reads; the caller keeps every array whose address it holds alive until this returns or raises.
    rows, threads : int
    """
    if threads < 2 or rows < 2:
        work.call(address(arguments), 0, rows)
    else:
        _team.run(work.address, address(arguments), rows, threads)
