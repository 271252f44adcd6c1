"""Tries a decoder on vectors: one at a time in a folder of its own, several at once in threads."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..suites import Accept, Vector
from . import outcomes, process, trace_check, units
from .decoders import Decoder, Job, Spec
from .models import absence, locate
from .pictures import Difference, OutputWrong, difference, heat_map, left_something, read_picture
from .process import Limits


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
        Folders of models beside the kit's.
    reference : Spec or None
        A decoder that gives the expected picture where the suite has none.
    fallback : Path or None
        The model given where a vector names none and the template has ``{model}``.
    traces : bool
        Compare the trace of every vector that has one, not only where the picture is wrong.
    units : tuple of str
        Words of the program that computes unit cases.
    """

    form: str = "pnm"
    limits: Limits = field(default_factory=Limits)
    jobs: int = 1
    models: tuple[Path, ...] = ()
    reference: Spec | None = None
    fallback: Path | None = None
    traces: bool = False
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What came of one vector.

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
    heat_map: bytes = b""
    divergence: tuple[str, ...] = ()


class Interrupted(Exception):
    """The run was stopped."""


def limits_for(vector: Vector, limits: Limits) -> Limits:
    """Limits of a vector: files may be as large as its picture needs, and not much larger."""
    samples = vector.expect.count if isinstance(vector.expect, Accept) else 0
    return replace(limits, file=limits.file + 4 * samples)


def compare(expect: Accept, got: bytes) -> str:
    """What is wrong with samples, "" if they are the expected ones."""
    return "" if hashlib.sha256(got).hexdigest() == expect.samples else "another picture"


def say_difference(found: Difference) -> str:
    """A difference in one line."""
    return (f"another picture: {found.count} of {found.total} samples differ, by at most {found.largest}; first at row "
            f"{found.row}, column {found.column}, channel {found.channel}: expected {found.expected}, got {found.got}")


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
    """

    def __init__(self, spec: Spec, options: Options, folder: Path, stop: threading.Event) -> None:
        self._spec, self._options, self._folder, self._stop = spec, options, folder, stop
        self._decoder = spec.open(folder)  # which starts nothing yet
        self._reference = options.reference.open(folder) if options.reference else None

    def close(self) -> None:
        """End the decoders."""
        self._decoder.close()
        if self._reference:
            self._reference.close()

    def try_vector(self, vector: Vector) -> Result:
        """The result of one vector; raises Interrupted."""
        if vector.expect is None:
            return self._try_unit(vector)
        model = locate(vector.model, self._options.models) if vector.model else None
        if vector.model and model is None:
            return Result(vector, outcomes.SKIPPED, absence(vector.model))
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            return self._try(vector, model, Path(name))

    def _try_unit(self, vector: Vector) -> Result:
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            ended, seen, verdict = units.try_unit(vector, self._options.units, self._options.limits, Path(name),
                                                  self._stop)
        if ended.stopped == process.INTERRUPTED:
            raise Interrupted
        return Result(vector, verdict.outcome, verdict.detail, seen.error, seen.kind,
                      exact=verdict.outcome == outcomes.PASS, seconds=ended.seconds, peak=ended.peak)

    def _form(self, spec: Spec) -> str:
        return "npy" if spec.callable else self._options.form

    def _decode(self, decoder: Decoder, spec: Spec, vector: Vector, model: Path | None, folder: Path,
                trace: bool) -> tuple[process.Ended, Job]:
        folder.mkdir()
        if model is None and spec.always_models:
            model = self._options.fallback
        job = Job(folder / "stream.loclic", folder / f"output.{self._form(spec)}", folder, model,
                  folder / "trace.jsonl" if trace or spec.always_traces else None,
                  limits_for(vector, self._options.limits))
        # a copy, under a name that tells nothing, which a decoder may spoil
        shutil.copyfile(vector.file, job.stream)
        ended = decoder.run(job, self._stop)
        if ended.stopped == process.INTERRUPTED:
            raise Interrupted
        return ended, job

    def _try(self, vector: Vector, model: Path | None, folder: Path) -> Result:
        expect = vector.expect
        assert expect is not None
        ended, job = self._decode(self._decoder, self._spec, vector, model, folder / "tested", False)
        seen, got, trouble = outcomes.observe(ended), b"", ""
        if isinstance(expect, Accept) and seen.kind == "accepted":
            try:
                got = read_picture(job.output, self._form(self._spec), expect)
                trouble = compare(expect, got)
            except OutputWrong as error:
                trouble = str(error)
        wrote = left_something(job.output)
        verdict = outcomes.score(expect, seen, trouble, wrote)
        result = Result(vector, verdict.outcome, verdict.detail, seen.error, seen.kind, exact=bool(got) and not trouble,
                        wrote=wrote, seconds=ended.seconds, peak=ended.peak)
        if got and trouble and isinstance(expect, Accept):
            result = self._with_difference(result, expect, got, model, folder)
        wanted = result.outcome == outcomes.FAIL or (self._options.traces and result.outcome == outcomes.PASS)
        return self._with_trace(result, model, job, folder) if wanted and vector.trace else result

    def _with_difference(self, result: Result, expect: Accept, got: bytes, model: Path | None, folder: Path) -> Result:
        expected = self._expected(result.vector, expect, model, folder)
        found = difference(expected, got, expect) if expected else None
        if found is None:
            return result
        return replace(result, detail=say_difference(found), difference=found, heat_map=heat_map(expected, got, expect))

    def _expected(self, vector: Vector, expect: Accept, model: Path | None, folder: Path) -> bytes:
        """The expected picture, empty if it cannot be had; one with another hash is not taken."""
        path, form = vector.picture, "png"
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


def run_all(vectors: Sequence[Vector], spec: Spec, options: Options,
            tell: Callable[[Result], None] = lambda result: None) -> list[Result]:
    """Results in the order of the vectors.

    Parameters
    ----------
    vectors : sequence of Vector
    spec : Spec
    options : Options
    tell : callable
        Told every result as it comes, from the calling thread.

    Raises
    ------
    KitError
        The decoder cannot be started.
    """
    stop, local, trials = threading.Event(), threading.local(), list[Trial]()
    results: dict[int, Result] = {}
    with tempfile.TemporaryDirectory(prefix="conformance-") as name, closing(trials):

        def work(vector: Vector) -> Result:
            if stop.is_set():
                raise Interrupted
            if not hasattr(local, "trial"):
                local.trial = Trial(spec, options, Path(name), stop)
                trials.append(local.trial)
            done: Result = local.trial.try_vector(vector)
            return done

        with ThreadPoolExecutor(options.jobs) as pool:
            try:
                places = {pool.submit(work, vector): n for n, vector in enumerate(vectors)}
                for future in as_completed(places):
                    results[places[future]] = future.result()
                    tell(results[places[future]])
            finally:
                stop.set()
    return [results[n] for n in range(len(vectors))]


def counts(results: Iterable[Result]) -> dict[str, int]:
    """How many results there are of every outcome."""
    found = [r.outcome for r in results]
    return {outcome: found.count(outcome) for outcome in outcomes.OUTCOMES}
