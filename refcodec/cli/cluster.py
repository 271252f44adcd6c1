"""``batch --dask ADDRESS``: the same files by the workers of a running dask.distributed cluster.

Workers read and write the same folders under the same paths. A worker does one file at a time, with as many threads
as the cluster gives it. While files are left for every worker, paths travel alone.

Where some workers would have no file, large streams are decoded by all of them: each band of a picture (bands.py) is
walked on one worker and synthesised on one, and this process writes the picture strip by strip. Workers hold two bands
each at most, this process one. What cannot be decoded so is left to one worker, whose answer then counts.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from .. import __version__
from ..bands import around, latents_of, samples_of, tops_of
from ..bitstream.container import Header, Stream, parse_header
from ..bitstream.fields import HEADER_SIZE
from ..errors import RefcodecError, TransferError, Unsupported, UsageError
from ..io.console import note
from ..io.files import mapped_stream, opened
from ..io.options import limits_of
from ..limits import MEMORY_SHARE, padded_pixels
from ..model.registry import load_model
from .batch import Job, do
from .batch_report import Row

CONNECT_SECONDS = 10
"""How long to wait for the scheduler, and for its first worker."""

LOST_SECONDS = 60
"""How long a cluster may be without any worker before the batch gives up."""

BANDS_HELD = 2
"""Bands that are asked of every worker: while it sends one, it works on the next."""

_ALONE = threading.Lock()
"""In a worker: held while a file is done. A worker may run several tasks at once, which would share its threads."""


def _facts(folder: str, model: str | None, coded: bool) -> tuple[str, bool, str]:
    """In a worker: its version, whether it sees the folder of outputs, and the fingerprint of the model."""
    return __version__, os.path.isdir(folder), load_model(model).fingerprint.hex() if coded else ""


@contextmanager
def _alone(args: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """In a worker: the arguments with what the worker has, for one task at a time."""
    from distributed import get_worker

    with _ALONE:
        worker = get_worker()
        words = dict(vars(args))
        words["threads"] = args.threads or worker.state.nthreads
        if args.max_memory is None and worker.memory_manager.memory_limit:
            words["max_memory"] = max(64, int(MEMORY_SHARE * worker.memory_manager.memory_limit) >> 20)
        yield argparse.Namespace(**words)


def _do(args: argparse.Namespace, job: Job) -> Row:
    """In a worker: do one file."""
    with _alone(args) as own:
        return do(own, job)


def _walk(args: argparse.Namespace, path: str, band: int) -> np.ndarray:
    """In a worker: y_hat of a band."""
    with _alone(args) as own:
        limits = limits_of(own)
        return latents_of(mapped_stream(path, limits), band, model=own.model, threads=own.threads, limits=limits)


def _synthesise(args: argparse.Namespace, header: Header, band: int, latents: list[np.ndarray]) -> np.ndarray:
    """In a worker: samples of a band."""
    with _alone(args) as own:
        return samples_of(header, band, latents, model=own.model, threads=own.threads, limits=limits_of(own))


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of a cluster that has a worker.

    Raises
    ------
    Unsupported
        dask.distributed is not installed.
    UsageError
        There is no such cluster, or it has no worker.
    """
    try:
        from distributed import Client
        from distributed import TimeoutError as TooLate
        from distributed.comm.addressing import get_address_host_port
    except ImportError as error:
        raise Unsupported("clusters need dask.distributed", where="--dask", cause='install "refcodec[dask]"') from error
    try:
        get_address_host_port(address)  # a client that fails by its address waits 20 s when it is freed
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TooLate, ValueError, TypeError) as error:
        raise UsageError(
            "no scheduler of dask answers",
            where=f"--dask {address or repr(address)}",
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
    with connected(address) as client:
        _check(client, args, fingerprint)
        large = _large(client, args, jobs)
        left, active = [job for job in reversed(jobs) if job not in large], dict[Any, Job]()
        with _noticed_interrupt() as interrupted:
            try:
                for job in large:
                    row = do(args, job, _by_bands(client, args, os.path.abspath(job.source), interrupted))
                    if row.state == "failed" and row.error != ProcessDied.__name__:
                        left.append(job)
                    else:
                        yield row
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
    for future in _waited(client, list(active)):
        yield _row(future, active.pop(future))


def _waited(client: Any, futures: list[Any], interrupted: Callable[[], bool] = lambda: False) -> set[Any]:
    """Wait until some are done: these."""
    from distributed import TimeoutError as NotYet
    from distributed import wait

    end = time.monotonic() + LOST_SECONDS
    while not interrupted():
        try:
            with client.as_current():
                return set(wait(futures, timeout=2, return_when="FIRST_COMPLETED").done)
        except NotYet:
            if _workers(client):
                end = time.monotonic() + LOST_SECONDS
            elif client.status != "running" or time.monotonic() > end:
                raise _lost("no worker is left") from None
    raise KeyboardInterrupt


def _lost(detail: str) -> TransferError:
    cause = "start it again and repeat the command: what is done is kept"
    return TransferError("the cluster was lost", where="--dask", detail=detail, cause=cause)


def _row(future: Any, job: Job) -> Row:
    """Result of a file, with the paths of this machine."""
    if future.status == "finished":
        return replace(future.result(), source=job.source, target=job.target)
    error = _error(future)
    message = str(error) if isinstance(error, ProcessDied) else f"on a worker: {error}"
    return Row(job.source, job.target, "failed", type(error).__name__, message)


class ProcessDied(RefcodecError):
    """Several workers ended, one after another, with the same task."""


def _error(future: Any) -> Exception:
    """Why a task failed."""
    from distributed import KilledWorker

    if future.cancelled():
        raise _lost("a task was cancelled")
    error: Exception = future.exception()
    return ProcessDied("the workers ended that had this file") if isinstance(error, KilledWorker) else error


# -------------------------------------------------------------------------------------------------------------- bands


def _large(client: Any, args: argparse.Namespace, jobs: Sequence[Job]) -> list[Job]:
    """Jobs for which not every worker would have one: the largest streams of several bands."""
    new = [job for job in jobs if args.force or not job.known]
    sizes = {job: _pixels(job) for job in new}
    largest = sorted((job for job in new if sizes[job]), key=lambda job: sizes[job], reverse=True)
    return largest[: len(new) % max(1, _workers(client))]


def _pixels(job: Job) -> int:
    """Pixels of a stream of several bands; 0 of any other file, among them those that cannot be read."""
    if not job.decodes:
        return 0
    try:
        with opened(job.source) as file:
            header = parse_header(file.read(HEADER_SIZE))
    except (RefcodecError, OSError):
        return 0
    several = not header.lossless and len(tops_of(header.grid)) > 1
    return padded_pixels(header.width, header.height) if several else 0


def _by_bands(
    client: Any, args: argparse.Namespace, path: str, interrupted: Callable[[], bool]
) -> Callable[[Stream], Iterator[tuple[int, np.ndarray]]]:
    """A function that decodes the colours of a stream band by band on all workers; an interrupt ends it."""

    def synthesised(stream: Stream) -> Iterator[Any]:
        """Tasks for the bands, from the top down."""
        grid, walked = stream.header.grid, dict[int, Any]()
        for band in range(len(tops_of(grid))):
            for n in around(grid, band):
                if n not in walked:
                    walked[n] = client.submit(_walk, args, path, n, pure=False)
            latents = [walked[n] for n in around(grid, band)]
            walked.pop(band - 1, None)  # the cluster keeps what its tasks need
            yield client.submit(_synthesise, args, stream.header, band, latents, pure=False)

    def colours(stream: Stream) -> Iterator[tuple[int, np.ndarray]]:
        tasks, first = synthesised(stream), 0
        drawn = deque(islice(tasks, BANDS_HELD * max(1, _workers(client))))
        while drawn:
            (future,) = _waited(client, [drawn.popleft()], interrupted)
            if future.status != "finished":
                raise _error(future)
            rows = future.result()
            drawn.extend(islice(tasks, 1))
            yield first, rows if rows.flags.writeable else rows.copy()
            first += rows.shape[0]

    return colours


__all__ = ["connected", "rows_on"]
