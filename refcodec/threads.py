"""Rows shared out to threads (SPEC 5.1: sums are exact, so no split can change a byte).

Kernels release the GIL and the caller works too, so T threads need T - 1 helpers. Plain threads are used rather than
Numba's parallel layers: "workqueue" aborts when two Python threads enter it at once and OpenMP does not survive a fork.

A signal handler may raise an exception between any two instructions, or share rows itself. So threads meet in queues
of C alone, whose methods are one step and may be called in a handler; there is no lock that could stay held. An
executor of concurrent.futures holds one while it takes a task.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from .errors import UsageError


class Worker:
    """A daemon thread that calls a function once, however often it is started and from wherever."""

    def __init__(self, live: Callable[[], None]) -> None:
        self._live, self._begun = live, _thread.allocate_lock()

    def _run(self) -> None:
        if self._begun.acquire(blocking=False):  # a second thread leaves at once
            self._live()

    def start(self) -> bool:
        """Start the thread if need be; false if there are no threads to be had."""
        if not self._begun.locked():
            try:
                _thread.start_new_thread(self._run, ())
            except RuntimeError:
                return False
        return True


class _Pool:
    """Threads, and what they are asked to take part in."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def _serve(self) -> None:
        while True:
            call = self._calls.get()
            call()
            del call  # and the arrays that it holds

    def ask(self, call: Callable[[], None], helpers: int) -> None:
        """Let up to ``helpers`` threads make a call."""
        while len(self._workers) < helpers:
            self._workers.append(Worker(self._serve))
        for worker in self._workers[:helpers]:
            if worker.start():
                self._calls.put(call)


_pool = _Pool()


def _renew() -> None:
    global _pool
    _pool = _Pool()


os.register_at_fork(after_in_child=_renew) if hasattr(os, "register_at_fork") else None


def thread_count(threads: int | None) -> int:
    """Threads to use: the number given, else ``REFCODEC_THREADS``, else the cores this process may use.

    Raises
    ------
    UsageError
        The number is not in 1..256.
    """
    if threads is None:
        wanted = os.environ.get("REFCODEC_THREADS", "")
        if wanted and not wanted.isdigit():
            raise UsageError("not a number of threads", where="REFCODEC_THREADS", value=wanted, allowed="1..256")
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = int(wanted) if wanted else min(available, 256)
    if not 1 <= threads <= 256:
        raise UsageError("not a number of threads", value=threads, allowed="1..256")
    return threads


def share_rows(work: Callable[[int, int], None], rows: int, threads: int) -> None:
    """Call work(y0, y1) on bands that cover range(rows) once, on this thread and threads - 1 helpers.

    What ``work`` raises is raised here. After an exception on this thread helpers may still be at work for a while:
    ``work`` holds every array that it writes.

    Parameters
    ----------
    work : callable(y0, y1)
        Computes the rows y0..y1 - 1. It runs on several threads at once.
    rows : int
        Number of rows; they are cut into at most ``threads`` bands of nearly equal height.
    threads : int
        Threads that take part, this one included.

    Raises
    ------
    Exception
        What ``work`` raised.
    """
    parts = min(threads, rows)
    if parts < 2:
        work(0, rows)
        return
    bands: SimpleQueue[tuple[int, int]] = SimpleQueue()
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for n in range(parts):
        bands.put((rows * n // parts, rows * (n + 1) // parts))

    def help_out() -> None:
        with suppress(Empty):
            while True:
                band = bands.get_nowait()
                try:
                    work(*band)
                except BaseException as error:
                    done.put(error)
                else:
                    done.put(None)

    try:
        _pool.ask(help_out, parts - 1)
        with suppress(Empty):
            while True:
                work(*bands.get_nowait())
                done.put(None)
        for _ in range(parts):
            if error := done.get():
                raise error
    except BaseException:
        with suppress(Empty):  # nobody begins another band
            while True:
                bands.get_nowait()
        raise
