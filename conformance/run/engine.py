"""Tries a decoder on vectors: one at a time in a separate folder, several at once in threads."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ..kit.errors import KitError
from ..kit.text import printable
from ..kit.vectors import Accept, Vector
from . import order, outcomes, process, trace_check, units
from .decoders import Decoder, Job, Server, Spec
from .files import scratch
from .models import absence, locate
from .pictures import (
    BlockDifference,
    Difference,
    OutputWrong,
    block_difference,
    block_map,
    difference,
    heat_map,
    left_something,
    read_picture,
)
from .process import Limits, NotStarted


@dataclass(frozen=True)
class Options:
    """How decoders are run.

    Attributes
    ----------
    form : str
        Format of the output that a command is asked for.
    limits : Limits
    jobs : int
        Decoders at once.
    models : tuple of Path
        Folders of models in addition to the kit's.
    reference : Spec or None
        A decoder that gives the expected picture where the suite has none.
    spare : Path or None
        The model given where a vector names none and the template has ``{model}``.
    traces : bool
        Compare the trace of every vector that has one, not only where the picture is wrong.
    units : tuple of str
        Words of the program that computes unit cases.
    seed : int
        Of the order in which a decoder that serves gets the vectors.
    most_failures : int or None
        Failures after which no other vector is run.
    counts : callable(id, outcome) -> bool
        Whether a result is such a failure.
    """

    form: str = "pnm"
    limits: Limits = field(default_factory=Limits)
    jobs: int = 1
    models: tuple[Path, ...] = ()
    reference: Spec | None = None
    spare: Path | None = None
    traces: bool = False
    units: tuple[str, ...] = ()
    seed: int = 1
    most_failures: int | None = None
    counts: Callable[[str, str], bool] = lambda name, outcome: outcome in outcomes.FAILURES


@dataclass(frozen=True)
class Result:
    """Result of one vector.

    Attributes
    ----------
    vector : Vector
    outcome : str
        One of `outcomes.OUTCOMES`.
    detail : str
    error : str
        The error class that the decoder named.
    seen : str
        What the decoder did: "accepted", "refused", "crash" and so on; "" if it did not run.
    exact : bool
        Its samples are the expected ones.
    wrote : bool
        It left an output.
    trace : str
        How much of its trace is right, a grade of trace_check.py; "" if none was wanted.
    seconds : float
    peak : int
        Most bytes resident, sampled.
    difference : Difference or None
    blocks : BlockDifference or None
        Where the picture differs if the expected one cannot be had.
    heat_map : bytes
        PNG file, empty if there is none.
    divergence : tuple of str
        The first stage at which its trace differs, in lines.
    """

    vector: Vector
    outcome: str
    detail: str = ""
    error: str = ""
    seen: str = ""
    exact: bool = False
    wrote: bool = False
    trace: str = ""
    seconds: float = 0.0
    peak: int = 0
    difference: Difference | None = None
    blocks: BlockDifference | None = None
    heat_map: bytes = b""
    divergence: tuple[str, ...] = ()


Item = TypeVar("Item")

MAX_DETAIL = 300
"""Characters of a message that is no message of the decoder."""


class Interrupted(Exception):
    """A vector was not finished, since the run was stopped."""


class Stopped(KeyboardInterrupt):
    """The user stopped the run.

    Attributes
    ----------
    results : list of Result
        Of all vectors; those that did not finish are skipped.
    """

    def __init__(self, results: list[Result]) -> None:
        super().__init__("interrupted")
        self.results = results


def limits_for(vector: Vector, limits: Limits) -> Limits:
    """Limits of a vector: files may be as large as its picture needs, and not much larger."""
    samples = vector.expect.count if isinstance(vector.expect, Accept) else 0
    return replace(limits, file=limits.file + 4 * samples)


def compare(expect: Accept, got: bytes) -> str:
    """Description of wrong samples, "" if they are the expected ones."""
    return "" if hashlib.sha256(got).hexdigest() == expect.samples else "another picture"


def say_difference(found: Difference) -> str:
    """A difference in one line."""
    return (
        f"another picture: {found.count} of {found.total} samples differ, by at most {found.largest}; first at row "
        f"{found.row}, column {found.column}, channel {found.channel}: expected {found.expected}, got {found.got}"
    )


def say_blocks(found: BlockDifference) -> str:
    """A difference of blocks in one line."""
    size = f"{found.side}x{found.side} pixels" if found.side > 1 else "a pixel"
    return (
        f"another picture: {found.count} of {found.total} blocks of {size} differ; the first begins at row "
        f"{found.row}, column {found.column}"
    )


class Trial:
    """One decoder, and the reference if there is one, for one thread.

    Parameters
    ----------
    spec : Spec
    options : Options
    folder : Path
        Temporary; every vector gets a folder in it.
    stop : threading.Event
        Ends the run when set.
    began : set of str
        Programs that were started at least once in this run, by what is done with them; added to.
    """

    def __init__(
        self, spec: Spec, options: Options, folder: Path, stop: threading.Event, began: set[str] | None = None
    ) -> None:
        self._spec, self._options, self._folder, self._stop = spec, options, folder, stop
        self._began = set[str]() if began is None else began
        self._decoder = spec.open(folder)  # which starts nothing yet
        self._before = ""  # the vector that the decoder was given last
        self._reference = options.reference.open(folder) if options.reference else None

    def close(self) -> None:
        """End the decoders."""
        self._decoder.close()
        if self._reference:
            self._reference.close()

    def try_vector(self, vector: Vector) -> Result:
        """The result of one vector, whatever the decoder leaves.

        Raises
        ------
        Interrupted
        KitError
            The decoder cannot be started at all, or the suite is damaged.
        """
        try:
            with scratch(self._folder) as folder:
                return self._try_any(vector, folder)
        except (Interrupted, KitError):
            raise
        except Exception as error:  # the decoder removed a folder, or this is a bug: in both cases no pass
            says = f"no verdict, the runner met {type(error).__name__}: {error}"
            return Result(vector, outcomes.FAIL, printable(says)[:MAX_DETAIL])

    def _try_any(self, vector: Vector, folder: Path) -> Result:
        if vector.expect is None:
            return self._try_unit(vector, folder)
        model = locate(vector.model, self._options.models) if vector.model else None
        if vector.model and model is None:
            return Result(vector, outcomes.SKIPPED, absence(vector.model))
        return self._try(vector, model, folder)

    def _run(self, role: str, run: Callable[[], process.Ended]) -> process.Ended:
        """How a program ended; one that could be started before and cannot any more has crashed.

        Raises
        ------
        NotStarted
            It was never started: that is the user's command, and not what a decoder did.
        Interrupted
        """
        try:
            ended = run()
        except NotStarted as error:
            if role not in self._began:
                raise
            return process.Ended(126, stderr=str(error).encode("utf-8", "replace"))
        if ended.stopped == process.INTERRUPTED:
            raise Interrupted
        self._began.add(role)
        return ended

    def _try_unit(self, vector: Vector, folder: Path) -> Result:
        head, cases = units.read_cases(vector.read(), str(vector.file))
        words = units.asked(head, cases, self._options.units, folder)
        ended = self._run("units", lambda: process.run(words, self._options.limits, folder, self._stop))
        seen, verdict = units.judged(cases, ended, folder)
        return Result(
            vector,
            verdict.outcome,
            verdict.detail,
            seen.error,
            seen.kind,
            exact=verdict.outcome == outcomes.PASS,
            seconds=ended.seconds,
            peak=ended.peak,
        )

    def _form(self, spec: Spec) -> str:
        return "npy" if spec.callable else self._options.form

    def _decode(
        self, decoder: Decoder, spec: Spec, vector: Vector, model: Path | None, folder: Path, trace: bool
    ) -> tuple[process.Ended, Job]:
        folder.mkdir()
        if model is None and spec.always_models:
            model = self._options.spare
        job = Job(
            folder / "stream.loclic",
            folder / f"output.{self._form(spec)}",
            folder,
            model,
            folder / "trace.jsonl" if trace or spec.always_traces else None,
            limits_for(vector, self._options.limits),
        )
        # a copy with a neutral name: the decoder can neither guess the outcome from it nor damage the original
        job.stream.write_bytes(vector.read())
        role = "decoder" if decoder is self._decoder else "reference"
        ended = self._run(role, lambda: decoder.run(job, self._stop))
        # temporary names are no part of a message: equal failures have equal details
        return replace(ended, stderr=ended.stderr.replace(os.fsencode(folder), b"FOLDER")), job

    def _try(self, vector: Vector, model: Path | None, folder: Path) -> Result:
        """The result of one vector; of a decoder that serves also whether it has it from an earlier stream."""
        server = self._decoder if isinstance(self._decoder, Server) and self._spec.serves else None
        before, self._before = self._before if server and server.runs else "", vector.id
        result = self._try_once(vector, model, folder / "first", bool(server) and self._options.traces)
        if server is None or result.outcome not in outcomes.FAILURES:
            return result
        server.close()  # what is left over must not fail the next vectors, too
        if before and self._try_once(vector, model, folder / "alone", self._options.traces).outcome == outcomes.PASS:
            says = f"a new process decodes it rightly, so something was left over; the stream before was {before}"
            return replace(result, detail=f"{result.detail}; {says}" if result.detail else says)
        return result

    def _try_once(self, vector: Vector, model: Path | None, folder: Path, trace: bool) -> Result:
        expect = vector.expect
        assert expect is not None
        folder.mkdir()
        trace = trace and vector.trace is not None
        ended, job = self._decode(self._decoder, self._spec, vector, model, folder / "tested", trace)
        seen, got, trouble = outcomes.observe(ended), b"", ""
        if isinstance(expect, Accept) and seen.kind == "accepted":
            try:
                got = read_picture(job.output, self._form(self._spec), expect)
                trouble = compare(expect, got)
            except OutputWrong as error:
                trouble = str(error)
        wrote = left_something(job.output)
        verdict = outcomes.score(expect, seen, trouble, wrote)
        result = Result(
            vector,
            verdict.outcome,
            verdict.detail,
            seen.error,
            seen.kind,
            exact=bool(got) and not trouble,
            wrote=wrote,
            seconds=ended.seconds,
            peak=ended.peak,
        )
        if got and trouble and isinstance(expect, Accept):
            result = self._with_difference(result, expect, got, model, folder)
        wanted = result.outcome == outcomes.FAIL or (self._options.traces and result.outcome == outcomes.PASS)
        return self._with_trace(result, model, job, folder) if wanted and vector.trace else result

    def _with_difference(self, result: Result, expect: Accept, got: bytes, model: Path | None, folder: Path) -> Result:
        expected = self._expected(result.vector, expect, model, folder)
        found = difference(expected, got, expect) if expected else None
        if found is None:
            return self._with_blocks(result, expect, got)
        return replace(result, detail=say_difference(found), difference=found, heat_map=heat_map(expected, got, expect))

    def _with_blocks(self, result: Result, expect: Accept, got: bytes) -> Result:
        found = block_difference(got, expect)
        if found is None:
            return result
        return replace(result, detail=say_blocks(found), blocks=found, heat_map=block_map(got, expect))

    def _expected(self, vector: Vector, expect: Accept, model: Path | None, folder: Path) -> bytes:
        """The expected picture, empty if it cannot be had; one with another hash is not taken."""
        path, form = vector.picture, "raw" if vector.picture and vector.picture.suffix == ".raw" else "png"
        if path is None and self._reference and self._options.reference:
            _, job = self._decode(self._reference, self._options.reference, vector, model, folder / "reference", False)
            path, form = job.output, self._form(self._options.reference)
        if path is None:
            return b""
        try:
            expected = read_picture(path, form, expect)
        except OutputWrong:
            return b""
        return b"" if compare(expect, expected) else expected

    def _with_trace(self, result: Result, model: Path | None, job: Job, folder: Path) -> Result:
        """Compare the decoder's trace with the vector's; decode once more if it did not trace at first."""
        vector = result.vector
        assert vector.trace is not None
        if not self._spec.traces:
            return replace(result, trace=trace_check.MISSING)
        if job.trace is None:
            _, job = self._decode(self._decoder, self._spec, vector, model, folder / "traced", True)
        assert job.trace is not None
        found = trace_check.check(vector.trace, job.trace)
        result = replace(result, trace=found.grade, divergence=found.lines)
        if result.outcome == outcomes.FAIL and found.acceptable:
            return replace(result, divergence=("no stage of the trace differs",))
        if result.outcome == outcomes.PASS and not found.acceptable:
            return replace(result, outcome=outcomes.FAIL, detail=f"the picture is right, but {found.says}")
        return result


@contextmanager
def closing(trials: Sequence[Trial]) -> Iterator[None]:
    """End the decoders in the end, whatever happens."""
    try:
        yield
    finally:
        for trial in trials:
            trial.close()


def gather(
    todo: Sequence[Item],
    work: Callable[[Item], Result],
    jobs: int,
    stop: threading.Event,
    tell: Callable[[Result], None],
    skipped: Callable[[Item], Result],
    dealt: bool = False,
) -> list[Result]:
    """Do work in threads; results in the order of what is to do.

    Parameters
    ----------
    todo : sequence
    work : callable
        Gives the result of one item; raises Interrupted soon after ``stop`` is set.
    jobs : int
        Threads.
    stop : threading.Event
    tell : callable
        Told every result as it comes, from the calling thread.
    skipped : callable
        Gives the result of an item that was not finished.
    dealt : bool
        Thread k gets items k, k + jobs and so on, so that each thread does the same work in every run. Otherwise the
        next thread that is free takes the next item.

    Returns
    -------
    list
        Results in the order of ``todo``.

    Raises
    ------
    Stopped
        On KeyboardInterrupt, when all threads have ended their work.
    """
    results: dict[int, Result] = {}
    with ExitStack() as open_pools:
        pools = [open_pools.enter_context(ThreadPoolExecutor(threads)) for threads in ([1] * jobs if dealt else [jobs])]
        places: dict[Future[Result], int] = {}
        try:
            places = {pools[n % len(pools)].submit(work, item): n for n, item in enumerate(todo)}
            for future in as_completed(places):
                results[places[future]] = future.result()
                tell(results[places[future]])
        except KeyboardInterrupt:
            stop.set()
            for pool in pools:
                pool.shutdown(cancel_futures=True)
            results |= {
                n: future.result()
                for future, n in places.items()
                if not future.cancelled() and future.exception() is None
            }
            raise Stopped([results.get(n) or skipped(item) for n, item in enumerate(todo)]) from None
        except BaseException:
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            stop.set()
    return [results[n] for n in range(len(todo))]


def run_all(
    vectors: Sequence[Vector], spec: Spec, options: Options, tell: Callable[[Result], None] = lambda result: None
) -> list[Result]:
    """Results in the order of the vectors, which are run the cheapest first, or mixed if the decoder serves.

    Parameters
    ----------
    vectors : sequence of Vector
    spec : Spec
    options : Options
    tell : callable
        Told every result as it comes, from the calling thread.

    Returns
    -------
    list of Result

    Raises
    ------
    KitError
        The decoder cannot be started.
    Stopped
        The user stopped the run.
    """
    stop, local, trials, began = threading.Event(), threading.local(), list[Trial](), set[str]()
    watcher = order.Watcher(vectors, options.most_failures, options.counts)
    places = order.mixed(vectors, options.seed) if spec.serves else order.cheapest_first(vectors)
    with scratch() as folder, closing(trials):

        def work(place: int) -> Result:
            vector = vectors[place]
            if stop.is_set():
                raise Interrupted
            if watcher.enough:
                return Result(vector, outcomes.SKIPPED, order.ENOUGH)
            if not hasattr(local, "trial"):
                local.trial = Trial(spec, options, folder, stop, began)
                trials.append(local.trial)
            done: Result = local.trial.try_vector(vector)
            watcher.look(vector, done.outcome, done.detail)
            return done

        def skipped(place: int) -> Result:
            return Result(vectors[place], outcomes.SKIPPED, "the run was interrupted")

        def in_order(results: Sequence[Result]) -> list[Result]:
            return [result for _, result in sorted(zip(places, results, strict=True), key=lambda pair: pair[0])]

        try:
            return in_order(gather(places, work, options.jobs, stop, tell, skipped, spec.serves))
        except Stopped as stopped:
            raise Stopped(in_order(stopped.results)) from None


def counts(results: Iterable[Result]) -> dict[str, int]:
    """How many results there are of every outcome."""
    found = [r.outcome for r in results]
    return {outcome: found.count(outcome) for outcome in outcomes.OUTCOMES}
