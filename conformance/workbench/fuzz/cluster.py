"""``fuzz --dask ADDRESS``: the same cases, in ranges, by the workers of a running dask.distributed cluster.

A worker runs the command ``fuzz`` for its range: the fuzzer bounds the memory of its processes, and survives their end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from conformance.kit.errors import KitError
from refcodec.cli.cluster import connected

from .report import Report

SHARE = 4096
"""Cases of a task: some seconds of work, for a second in which its process starts."""


def _share(words: list[str], first: int, cases: int) -> dict[str, Any]:
    """In a worker: the report of a range of cases."""
    command = [sys.executable, "-m", "conformance", "fuzz", *words, f"--first={first}", f"--cases={cases}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode not in (0, 1):
        raise RuntimeError("".join(done.stderr.splitlines()[-1:]) or f"exit code {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def run_on(address: str, target: str, seed: int, first: int, cases: int, seconds: float | None, total: Report) -> None:
    """Run cases on a cluster; findings are told on standard error as they come.

    Parameters
    ----------
    address : str
        Of the scheduler.
    target, seed, first, cases, seconds, total
        As `conformance.workbench.fuzz.command.run`.

    Raises
    ------
    RefcodecError
        As `refcodec.cli.cluster.connected`.
    KitError
        A worker cannot run the fuzzer.
    """
    deadline = time.monotonic() + seconds if seconds else float("inf")
    words, end = [f"--target={target}", f"--seed={seed}"], first + cases
    with connected(address) as client, client.as_current():
        from distributed import as_completed

        def tasks() -> Iterator[Any]:
            for at in range(first, end, SHARE):
                yield client.submit(_share, words, at, min(SHARE, end - at), pure=False)

        waiting = tasks()
        active = as_completed(list(islice(waiting, 2 * sum(client.nthreads().values()))))
        for future in active:
            if future.status != "finished":
                raise KitError(f"a worker cannot run the fuzzer: {future.exception()}")
            found = future.result()
            total.add(Report(Counter(found["outcomes"]), [(n, text) for n, text in found["findings"]], found["memory"]))
            if time.monotonic() < deadline:
                active.update(islice(waiting, 1))


__all__ = ["run_on"]
