"""Rows shared out to threads (SPEC 5.1: sums are exact, so no split can change a byte).

Kernels release the GIL and the caller works too, so T threads need T - 1 helpers. A pool of plain threads is used
rather than Numba's parallel layers: "workqueue" aborts when two Python threads enter it at once and OpenMP does not
survive a fork. The pool is made anew in a forked child.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from ..errors import UsageError

_pool: ThreadPoolExecutor | None = None


def _forget() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget) if hasattr(os, "register_at_fork") else None


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
    """Call work(y0, y1) on bands that cover range(rows) once, on this thread and threads - 1 helpers."""
    global _pool
    parts = min(threads, rows)
    if parts < 2:
        work(0, rows)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=255, thread_name_prefix="refcodec")
    edges = [rows * n // parts for n in range(parts + 1)]
    others: list[Future[None]] = []
    try:
        with suppress(RuntimeError):  # no thread to be had: the last bands are computed here, too
            while len(others) < parts - 1:
                others.append(_pool.submit(work, edges[len(others)], edges[len(others) + 1]))
        work(edges[len(others)], rows)
    finally:
        for other in others:
            other.result()
