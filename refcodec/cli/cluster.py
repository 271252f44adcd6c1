"""``batch --dask ADDRESS``: the same files by the workers of a running dask.distributed cluster.

Paths travel, not pictures: workers read and write the same folders under the same paths, so that a picture of any size
costs the network nothing more. A worker does one file at a time, with as many threads as the cluster gives it.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from .. import __version__
from ..errors import TransferError, Unsupported, UsageError
from ..io.console import note
from ..limits import MEMORY_SHARE
from ..model.registry import load_model
from .batch import Job, do
from .batch_report import Row

CONNECT_SECONDS = 10
"""How long to wait for the scheduler, and for its first worker."""

LOST_SECONDS = 60
"""How long a cluster may be without any worker before the batch gives up."""

_ALONE = threading.Lock()
"""In a worker: held while a file is done. A worker may run several tasks at once, which would share its threads."""


def _facts(folder: str, model: str | None, coded: bool) -> tuple[str, bool, str]:
    """In a worker: its version, whether it sees the folder of outputs, and the fingerprint of the model."""
    return __version__, os.path.isdir(folder), load_model(model).fingerprint.hex() if coded else ""


def _do(args: argparse.Namespace, job: Job) -> Row:
    """In a worker: do one file."""
    from distributed import get_worker

    with _ALONE:
        worker = get_worker()
        words = dict(vars(args))
        words["threads"] = args.threads or worker.state.nthreads
        if args.max_memory is None and worker.memory_manager.memory_limit:
            words["max_memory"] = max(64, int(MEMORY_SHARE * worker.memory_manager.memory_limit) >> 20)
        return do(argparse.Namespace(**words), job)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of the cluster that has a worker."""
    try:
        from distributed import Client
        from distributed import TimeoutError as TooLate
    except ImportError as error:
        raise Unsupported("clusters need dask.distributed", where="--dask", cause='install "refcodec[dask]"') from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TooLate, ValueError, TypeError) as error:
        raise UsageError(
            "no scheduler of dask answers",
            where=address,
            detail=str(error),
            cause="name the address that `dask scheduler` prints, such as tcp://10.0.0.1:8786",
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TooLate as error:
            raise UsageError(
                "the cluster has no workers", where=address, cause="start `dask worker ADDRESS`"
            ) from error
        yield client


def _check(client: Any, args: argparse.Namespace, fingerprint: str) -> None:
    """Refuse a cluster whose workers would write other bytes, or elsewhere."""
    try:
        found = client.run(_facts, args.out, args.model, bool(fingerprint))
    except Exception as error:  # as the worker raised it: whatever its installation lacks
        raise UsageError(
            "a worker cannot run refcodec",
            where="--dask",
            detail=f"{type(error).__name__}: {error}",
            cause="install the same refcodec, with its models, on every worker",
        ) from error
    for worker, (version, sees, model) in found.items():
        if version != __version__ or model != fingerprint:
            raise UsageError(
                "a worker has another refcodec or model",
                where=worker,
                version=version,
                expected=__version__,
                fingerprint=model,
                cause="install the same refcodec, with its models, on every worker",
            )
        if not sees:
            raise UsageError(
                "a worker does not see the folder of outputs",
                where=worker,
                folder=args.out,
                cause="workers need the same files under the same paths, for instance by NFS",
            )


def rows_on(address: str, args: argparse.Namespace, jobs: Sequence[Job], fingerprint: str) -> Iterator[Row]:
    """Do all files on a cluster, and yield the result of each as it is done.

    An interrupt lets the workers finish the files that they have, so that the journal knows these.

    Parameters
    ----------
    address : str
        Of the scheduler.
    args : Namespace
        Arguments of the batch; without threads and limits of memory a worker chooses them by what it has.
    jobs : sequence of Job
    fingerprint : str
        Of the model that codes, "" if none does.

    Yields
    ------
    Row

    Raises
    ------
    Unsupported
        dask.distributed is not installed.
    UsageError
        There is no such cluster, or its workers have another refcodec, another model or other files.
    TransferError
        The cluster was lost on the way.
    """
    paths = {"out": os.path.abspath(args.out), "run": None}
    if args.model and os.path.exists(args.model):
        paths["model"] = os.path.abspath(args.model)
    args = argparse.Namespace(**{**vars(args), **paths})
    with _connected(address) as client:
        _check(client, args, fingerprint)
        left, active = list(reversed(jobs)), dict[Any, Job]()
        with _noticed_interrupt() as interrupted:
            try:
                while active or (left and not interrupted()):
                    if not interrupted():
                        _submit(client, args, left, active)
                    yield from _done(client, active)
            except (OSError, CancelledError) as error:  # of the connection, or of all tasks without one
                raise _lost(str(error)) from error
            if interrupted():
                raise KeyboardInterrupt


@contextmanager
def _noticed_interrupt() -> Iterator[Callable[[], bool]]:
    """Whether the user has interrupted: the first time it is only noticed, the second one ends the command."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def notice(number: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        note("interrupted: the workers finish the files that they have; a second interrupt does not wait for them")

    before = signal.signal(signal.SIGINT, notice)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


def _workers(client: Any) -> int:
    """Workers of the cluster now; none where the scheduler is gone."""
    try:
        return len(client.nthreads())
    except Exception:  # errors of its transport, which differ by protocol
        return 0


def _submit(client: Any, args: argparse.Namespace, left: list[Job], active: dict[Any, Job]) -> None:
    """Give every worker a file."""
    while left and len(active) < max(1, _workers(client)):
        job = left.pop()
        # Dask repeats a task whose worker died: an output that was not there before is then the batch's.
        there = replace(job, source=os.path.abspath(job.source), target=os.path.abspath(job.target), again=True)
        active[client.submit(_do, args, there, pure=False)] = job


def _done(client: Any, active: dict[Any, Job]) -> Iterator[Row]:
    """Wait for a file, and take all that are done out of ``active``."""
    from distributed import TimeoutError as NotYet
    from distributed import wait

    end = time.monotonic() + LOST_SECONDS
    while True:
        try:
            with client.as_current():
                done = wait(list(active), timeout=2, return_when="FIRST_COMPLETED").done
            break
        except NotYet:
            if _workers(client):
                end = time.monotonic() + LOST_SECONDS
            elif client.status != "running" or time.monotonic() > end:
                raise _lost("no worker is left") from None
    for future in done:
        yield _row(future, active.pop(future))


def _lost(detail: str) -> TransferError:
    cause = "start it again and repeat the command: what is done is kept"
    return TransferError("the cluster was lost", where="--dask", detail=detail, cause=cause)


def _row(future: Any, job: Job) -> Row:
    """Result of a file, with the paths of this machine."""
    from distributed import KilledWorker

    if future.status == "finished":
        return replace(future.result(), source=job.source, target=job.target)
    if future.cancelled():
        raise _lost("a task was cancelled")
    error = future.exception()
    died = isinstance(error, KilledWorker)
    message = "the workers ended that had this file" if died else f"on a worker: {error}"
    return Row(job.source, job.target, "failed", "ProcessDied" if died else type(error).__name__, message)


__all__ = ["rows_on"]
