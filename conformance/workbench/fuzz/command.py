"""Fuzzing of the decoder: every input is decoded or refused, within limits (SPEC 11).

    python -m conformance fuzz --cases 100000 --seed 1 [--target stream|model|picture] [--jobs 2] [--keep FOLDER]

Workers are processes of bounded address space; one that dies, hangs or takes too long is a finding, and so is every
exception but refcodec's own. A finding is reported with the index that makes it again (``--case``) and kept as a file.
``--dask ADDRESS`` has the cases done by the workers of a cluster.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing as mp
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from refcodec.codec import decode_stream
from refcodec.errors import RefcodecError
from refcodec.io.pictures import read_picture
from refcodec.limits import Limits
from refcodec.model.file import read_content
from refcodec.model.integer_model import Model, build_model
from refcodec.model.procedural import procedural_model

from .models import hostile_model, model_corpus
from .pictures import hostile_picture, picture_corpus
from .report import Report
from .streams import corpus, hostile_stream

LIMITS = Limits(max_pixels=1 << 22, max_memory=16 << 20)
"""Largest cost of a case; streams of larger pictures are refused."""

SLACK = 96 << 20
"""Bytes of address space beyond the limit on memory: compiled code, arenas, one copy of the input."""

SLOW, HUNG = 2.0, 120.0
"""Seconds of processor time that are too long for a case, and of no progress after which a worker is given up."""

BLOCK = 256

Block = tuple[int, int]
Target = tuple[Callable[[int], bytes], Callable[[bytes], str]]


def _outcome(act: Callable[[], str]) -> str:
    try:
        return act()
    except RefcodecError as e:
        if isinstance(e.__cause__, MemoryError):  # refused too late
            raise e.__cause__ from None
        return type(e).__name__


def _stream_target(seed: int) -> Target:
    source = corpus(procedural_model("tiny", 7))

    return lambda index: hostile_stream(source, seed, index), lambda data: decoded(data, source.model)


def decoded(data: bytes, model: Model) -> str:
    """Decode a stream, and a region of it, which must be that of the whole picture.

    A region of a stream that is refused may decode, if the fault lies elsewhere.

    Raises
    ------
    RefcodecError
        The whole stream is refused.
    AssertionError
        The region is refused or has other samples, though the whole decodes.
    """
    options: dict[str, Any] = {"model": model, "threads": 1, "limits": LIMITS}
    try:
        samples, _ = decode_stream(data, **options)
    except RefcodecError:
        with suppress(RefcodecError):
            decode_stream(data, region=(0, 0, 1, 1), **options)
        raise
    random = Random(data)
    y, x = (random.randrange(side) for side in samples.shape[:2])
    height, width = (random.randint(1, side - at) for side, at in zip(samples.shape[:2], (y, x), strict=True))
    try:
        part, _ = decode_stream(data, region=(x, y, width, height), **options)
    except RefcodecError as error:
        raise AssertionError(f"the region {x, y, width, height} is refused: {error}") from error
    assert np.array_equal(part, samples[y : y + height, x : x + width]), f"the region {x, y, width, height} differs"
    return "decoded"


def _model_target(seed: int) -> Target:
    source = model_corpus()

    def load(data: bytes) -> str:
        with tempfile.NamedTemporaryFile(suffix=".h5") as file:
            file.write(data)
            file.flush()
            content, provenance = read_content(Path(file.name))
            build_model(content, "model", provenance)
        return "loaded"

    return lambda index: hostile_model(source, seed, index), load


def _picture_target(seed: int) -> Target:
    source = picture_corpus()

    def read(data: bytes) -> str:
        read_picture(data, LIMITS)
        return "read"

    return lambda index: hostile_picture(source, seed, index), read


TARGETS: dict[str, Callable[[int], Target]] = {
    "stream": _stream_target,
    "model": _model_target,
    "picture": _picture_target,
}


def _address_space() -> int:
    """Bytes of address space this process holds, 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _most_resident() -> int:
    """Most bytes of memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _bound_memory() -> None:
    held = _address_space()
    if held:
        most = held + (LIMITS.max_memory or 0) + SLACK
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def run_case(target: Target, index: int) -> tuple[str, str]:
    """One case's outcome class, and what is wrong with it, "" for nothing."""
    make, act = target
    data = make(index)
    started = time.process_time()
    try:
        outcome, wrong = _outcome(lambda: act(data)), ""
    except Exception as e:
        place = traceback.extract_tb(e.__traceback__)[-1]
        outcome, wrong = "finding", f"{type(e).__name__}: {e} at {Path(place.filename).name}:{place.lineno}"
    if not wrong and (took := time.process_time() - started) > SLOW:
        return "finding", f"{outcome} after {took:.1f} s"
    return outcome, wrong


def _work(name: str, seed: int, pipe: Connection, progress: Any) -> None:
    """Answer blocks of indices with their outcomes; ``progress`` says which case is at work."""
    faulthandler.enable()
    target = TARGETS[name](seed)
    for index in range(50):  # compile and fill caches before memory is bounded
        run_case(target, index)
    _bound_memory()
    before = _most_resident()
    pipe.send(Report())
    while (block := pipe.recv()) is not None:
        report = Report()
        for index in range(*block):
            progress.value = index
            outcome, wrong = run_case(target, index)
            report.outcomes[outcome] += 1
            if wrong:
                report.findings.append((index, wrong))
        report.memory = _most_resident() - before
        pipe.send(report)


class _Worker:
    """A worker process and the block it has."""

    def __init__(self, name: str, seed: int) -> None:
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.progress = context.Value("q", -1, lock=False)
        self.process = context.Process(target=_work, args=(name, seed, theirs, self.progress), daemon=True)
        self.process.start()
        theirs.close()
        self.block: Block | None = None
        self.seen, self.since = -1, time.monotonic()

    def give(self, block: Block) -> None:
        self.block, self.seen, self.since = block, -1, time.monotonic()
        self.progress.value = -1
        self.pipe.send(block)

    def hangs(self) -> bool:
        """No case has ended for long."""
        if self.block is None or self.progress.value != self.seen:
            self.seen, self.since = self.progress.value, time.monotonic()
        return time.monotonic() - self.since > HUNG

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _blocks(first: int, end: int) -> Iterator[Block]:
    return ((at, min(at + BLOCK, end)) for at in range(first, end, BLOCK))


def run(
    name: str,
    cases: int,
    seed: int,
    jobs: int = 1,
    seconds: float | None = None,
    total: Report | None = None,
    first: int = 0,
) -> Report:
    """Run cases first..first + cases - 1 in worker processes; findings are told on standard error as they come.

    Parameters
    ----------
    name : str
        A key of ``TARGETS``.
    cases : int
        Number of cases.
    seed : int
    jobs : int
        Worker processes.
    first : int
        Index of the first case.
    seconds : float or None
        Give out no more blocks after this time.
    total : Report or None
        Where to count, for callers that are interrupted.

    Returns
    -------
    Report

    Raises
    ------
    RuntimeError
        A worker ended before its first case.
    """
    total = Report() if total is None else total
    waiting, again = _blocks(first, first + cases), list[Block]()
    deadline = time.monotonic() + seconds if seconds else float("inf")
    workers = [_Worker(name, seed) for _ in range(jobs)]

    def next_block() -> Block | None:
        if again:
            return again.pop()
        return next(waiting, None) if time.monotonic() < deadline else None

    while workers:
        ready = wait([w.pipe for w in workers], timeout=1)
        for worker in list(workers):
            died = f"no answer in {HUNG:.0f} s" if worker.hangs() else ""
            if worker.pipe in ready:
                try:
                    total.add(worker.pipe.recv())
                    worker.block, died = next_block(), ""
                except EOFError:
                    worker.process.join()
                    died = f"the worker died, exit code {worker.process.exitcode}"
            elif not died:
                continue
            if died:
                if worker.block is None:
                    raise RuntimeError(f"before its first case: {died}")
                index = max(worker.progress.value, worker.block[0])
                total.add(Report(Counter(finding=1), [(index, died)]))
                again += [b for b in ((worker.block[0], index), (index + 1, worker.block[1])) if b[0] < b[1]]
                workers.append(_Worker(name, seed))
            elif worker.block is not None:
                worker.give(worker.block)
                continue
            worker.end()
            workers.remove(worker)
    return total


def _keep(target: Target, name: str, seed: int, report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, wrong in report.findings:
        stem = folder / f"{name}_{seed}_{index}"
        stem.with_suffix(".bin").write_bytes(target[0](index))
        stem.with_suffix(".txt").write_text(wrong + "\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m conformance fuzz``."""
    parser.add_argument("--target", choices=TARGETS, default="stream")
    parser.add_argument("--cases", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--first", type=int, default=0, help="the first one's index, 0 by default")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--dask", metavar="ADDRESS", help="use the threads of a running dask.distributed cluster")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object on standard output")
    parser.add_argument("--keep", type=Path, help="folder for inputs that broke a rule")
    parser.add_argument("--case", type=int, help="run this case alone, in this process")


def main(args: argparse.Namespace) -> int:
    """Run the cases; returns 1 if anything was found."""
    if args.case is not None:
        target = TARGETS[args.target](args.seed)
        outcome, wrong = run_case(target, args.case)
        if args.keep:
            _keep(target, args.target, args.seed, Report(findings=[(args.case, wrong or outcome)]), args.keep)
        print(f"case {args.case}: {outcome} {wrong}".rstrip())
        return 1 if wrong else 0
    started = time.monotonic()
    report, interrupted = Report(), False
    try:
        if args.dask is not None:
            from .cluster import run_on

            run_on(args.dask, args.target, args.seed, args.first, args.cases, args.seconds, report)
        else:
            run(args.target, args.cases, args.seed, args.jobs, args.seconds, report, args.first)
    except KeyboardInterrupt:
        interrupted = True
    took = time.monotonic() - started
    done = report.outcomes.total()
    if args.json:
        print(json.dumps(vars(report)))
    else:
        for outcome, count in report.outcomes.most_common():
            print(f"{count:10d}  {100 * count / done:6.2f} %  {outcome}")
        print(
            f"{done:10d}  cases in {took:.1f} s, {done / took:.0f} a second, {len(report.findings)} findings, "
            f"at most {report.memory / (1 << 20):.1f} MiB of memory more than before"
        )
    if args.keep and report.findings:
        _keep(TARGETS[args.target](args.seed), args.target, args.seed, report, args.keep)
    return 1 if report.findings else 130 if interrupted else 0
