"""Run a decoder of any make over the suites and report.

    python -m conformance run --decoder "mydec {stream} {output}" --model-arg "--model {model}" -j 2 --html report.html
    python -m conformance run --decoder python:conformance.adapters:refcodec_decode --suite core --suite invalid
    python -m conformance run --serve "mydec --serve" --seed 1
    python -m conformance run --decoder "mydec {stream} {output}" --failed report.json -x

A decoder is a command with {stream} and {output}, perhaps {model}, {trace} and {threads}, or
python:package.module:function. It runs in a separate process group under limits of time and memory. A template with
{model}, or any decoder with --always-model, is given a model even where the stream needs none. With --serve one process
decodes many streams, in an order mixed by --seed; what is left over from an earlier stream shows.

Exit codes of the decoder: 0 accepted, 65, 77, 78 refused, 69 not supported; others refuse if they name an error class
of SPEC 8.9, else they are a crash. With --units a program computes the unit cases: of a JSON file {unit} it writes
results by case id as JSON to {output}.

Exit codes of this command: 0 all as expected, 1 failures (or passes that the baseline denies), 2 usage, or a decoder
that cannot be started at all, 3 nothing failed but something did not run, 4 nothing ran, 5 a suite is damaged, 130
interrupted, with reports of what ran.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ..kit.errors import KitError, NothingToDo, UsageError
from ..kit.suites import KIT, Selection, check_files, load_all, select
from ..kit.text import put
from ..kit.vectors import Suite, Vector
from . import baseline, report_html, report_junit, report_text
from .decoders import Spec, parse, parse_server, template
from .engine import Options, Result, Stopped, run_all
from .files import check_target, write
from .models import make_absent, spare
from .outcomes import FAIL, FAILURES
from .pictures import FORMATS
from .process import Limits
from .report import Report, Run, build
from .rerun import failed
from .system import system_facts


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def seconds(text: str) -> float:
    """A time in seconds, above 0."""
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError
    return value


positive.__name__, seconds.__name__ = "positive number", "number of seconds"  # argparse names types in its messages


def add_selection(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Arguments that choose vectors; gives their group."""
    group = parser.add_argument_group("which vectors")
    group.add_argument("--suite", action="append", default=[], metavar="NAME", help="all suites if not given")
    group.add_argument("--id", action="append", default=[], metavar="GLOB", help="vectors whose id matches")
    group.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="but none whose id matches")
    group.add_argument("--clause", action="append", default=[], metavar="C", help="a clause or section of SPEC.md")
    group.add_argument("--with-model", action="append", default=[], metavar="NAME", help='"none": without a model')
    group.add_argument("--expect", choices=("accept", "reject", "unit"), help="valid streams, invalid ones, unit cases")
    group.add_argument("--kit", type=Path, default=KIT, metavar="DIR", help="folder of suites/ and models/")
    return group


def add_running(parser: argparse.ArgumentParser) -> None:
    """Arguments that bound what is run."""
    group = parser.add_argument_group("how")
    group.add_argument("-j", "--jobs", type=positive, default=1, metavar="N", help="how many at once")
    group.add_argument("--timeout", type=seconds, default=120.0, metavar="S", help="seconds each may take, default 120")
    group.add_argument("--memory", type=positive, default=4096, metavar="MIB", help="memory each may use, default 4096")
    group.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="more models, NAME.h5")


def add_reports(parser: argparse.ArgumentParser) -> None:
    """Arguments that name reports."""
    group = parser.add_argument_group("reports")
    for name in RENDERERS:
        group.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write a {name} report; - for standard output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``run``."""
    tested = parser.add_mutually_exclusive_group()
    tested.add_argument("--decoder", metavar="CMD", help="command template or python:module:function")
    tested.add_argument("--serve", metavar="CMD", help="command that decodes many streams, a line of JSON for each")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="order of the streams of --serve, default 1")
    parser.add_argument("--units", metavar="CMD", help="command with {unit} and {output} that computes unit cases")
    parser.add_argument("--model-arg", default="", metavar="ARGS", help='added where there is a model: "-m {model}"')
    parser.add_argument("--always-model", action="store_true", help="give a model even where the stream needs none")
    parser.add_argument("--trace-arg", default="", metavar="ARGS", help='added to trace a failure: "-t {trace}"')
    parser.add_argument("--threads", type=positive, metavar="N", help="number of threads the decoder is asked for")
    parser.add_argument("--threads-arg", default="", metavar="ARGS", help='added with --threads: "--threads {threads}"')
    parser.add_argument("--check-traces", action="store_true", help="compare traces of pictures that are right, too")
    parser.add_argument("--output-format", choices=FORMATS, default="pnm", help="of {output}, default pnm")
    parser.add_argument("--fresh", action="store_true", help="a new process for every call of a Python callable")
    parser.add_argument(
        "--make-models",
        action="store_true",
        help="have refcodec make absent procedural models, in the first folder of --models",
    )
    parser.add_argument("--reference", metavar="CMD", help="a decoder that gives expected pictures, for heat maps")
    parser.add_argument("--reference-model-arg", default="", metavar="ARGS", help="as --model-arg")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="lines RESULT ID of failures that are known")
    parser.add_argument("--write-baseline", type=Path, metavar="FILE", help="write this run's failures as a baseline")
    parser.add_argument("--max-failures", type=positive, metavar="N", help="run no other vector after N failures")
    parser.add_argument("-x", dest="max_failures", action="store_const", const=1, help="stop at the first failure")
    add_selection(parser).add_argument(
        "--failed", type=Path, metavar="REPORT", help="only vectors that failed in this JSON report"
    )
    add_running(parser)
    add_reports(parser)


RENDERERS: dict[str, Callable[[Report], str]] = {
    "json": lambda report: json.dumps(report, indent=1, allow_nan=False) + "\n",
    "junit": report_junit.render,
    "html": report_html.render,
}
"""Reports by the name of their argument."""


def selection_of(args: argparse.Namespace, outcomes: Sequence[str] = ("accept", "reject")) -> Selection:
    """Selection of `add_selection` among vectors that expect one of these outcomes."""
    return Selection(
        tuple(args.id),
        tuple(args.clause),
        tuple(args.with_model),
        (args.expect,) if args.expect else tuple(outcomes),
        tuple(args.exclude),
    )


NOTHING_LEFT = "no vector is left by --suite, --id, --exclude, --clause, --with-model, --expect and --failed"


def chosen(args: argparse.Namespace, suites: Sequence[Suite]) -> list[Vector]:
    """The vectors that are asked for and that have a program to run them.

    Raises
    ------
    UsageError
        There is no program, or the report of --failed cannot be read or names other vectors.
    NothingToDo
        No vector is left.
    """
    if not (args.decoder or args.serve or args.units):
        raise UsageError("give --decoder, --serve or --units")
    outcomes = ("accept", "reject") * bool(args.decoder or args.serve) + ("unit",) * bool(args.units)
    vectors = [v for v in select(suites, selection_of(args, outcomes)) if v.outcome in outcomes]
    if args.failed:
        names = failed(args.failed)
        vectors = [v for v in vectors if v.id in names]
    if not vectors:
        raise NothingToDo(NOTHING_LEFT)
    return vectors


def tested(args: argparse.Namespace) -> Spec:
    """The decoder under test, an empty one if there is none; raises UsageError."""
    if args.serve:
        return parse_server(args.serve, args.threads, args.always_model)
    if not args.decoder:
        return Spec("")
    return parse(
        args.decoder,
        args.model_arg,
        args.trace_arg,
        args.fresh,
        args.threads_arg,
        args.threads,
        args.always_model,
    )


def traced_vectors(kit: Path) -> list[Vector]:
    """Vectors of a kit that come with a trace: of all suites, also of those that were not chosen."""
    try:
        return [v for suite in load_all(kit) for v in suite.vectors if v.trace]
    except KitError:  # a suite that was not chosen is damaged
        return []


def options_of(
    args: argparse.Namespace, vectors: Sequence[Vector], decoders: Sequence[Spec | None], known: Mapping[str, str]
) -> Options:
    """Settings of `add_running`; known failures do not count towards ``--max-failures``.

    Parameters
    ----------
    args : Namespace
    vectors : sequence of Vector
        Those that run.
    decoders : sequence of Spec or None
        The decoder and the reference.
    known : mapping of str to str
        The baseline.

    Returns
    -------
    Options
    """
    folders = tuple(args.models)
    wanted = any(d and d.always_models for d in decoders) and any(v.expect and not v.model for v in vectors)
    return Options(
        args.output_format,
        Limits(args.timeout, args.memory << 20),
        args.jobs,
        folders,
        decoders[1],
        spare(load_all(args.kit), folders) if wanted else None,
        args.check_traces,
        template(args.units, "units", {"unit", "output"}, set()) if args.units else (),
        args.seed,
        args.max_failures,
        lambda name, outcome: outcome in FAILURES and known.get(name) != outcome,
    )


class Progress:
    """A line on a terminal that counts results; nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._failed = total, 0, 0
        self._shown = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, result: Result) -> None:
        """Count a result."""
        self._done += 1
        self._failed += result.outcome in FAILURES
        if self._shown:
            sys.stderr.write(f"\r\033[K{self._done}/{self._total}, {self._failed} failed, {result.vector.id[:60]}")
            sys.stderr.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._shown:
            sys.stderr.write("\r\033[K")


def read_baseline(path: Path | None, kit: Path) -> dict[str, str]:
    """A baseline file, checked against all vectors of a kit; raises UsageError."""
    if path is None:
        return {}
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    return baseline.parse(text, str(path), (v.id for s in load_all(kit) for v in s.vectors))


@dataclass(frozen=True)
class Done:
    """Result of `execute`.

    Attributes
    ----------
    results : list of Result
    started : str
        Date and time, ISO 8601.
    seconds : float
    interrupted : bool
        The user stopped it; vectors that did not finish are skipped.
    """

    results: list[Result]
    started: str
    seconds: float
    interrupted: bool


def execute(count: int, run: Callable[[Callable[[Result], None]], list[Result]]) -> Done:
    """Run with progress; an interrupted run has results, too.

    Parameters
    ----------
    count : int
        Of results.
    run : callable
        Gives the results; is given what to call with each.
    """
    started, clock = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
    progress, interrupted = Progress(count), False
    try:
        results = run(progress)
    except Stopped as stopped:
        results, interrupted = stopped.results, True
    finally:
        progress.end()
    return Done(results, started, time.monotonic() - clock, interrupted)


def publish(run: Run, args: argparse.Namespace) -> int:
    """Write the reports that were asked for, print the text, and give the exit code; raises KeyboardInterrupt after it
    for a run that was interrupted.

    Files come first: a standard output that is full or that nobody reads does not cost them.
    """
    report = build(run)
    reports = [(path, render) for name, render in RENDERERS.items() if (path := getattr(args, name))]
    to_stdout = any(str(path) == "-" for path, _ in reports)
    for path, render in sorted(reports, key=lambda item: str(item[0]) == "-"):
        write(path, render(report))
    put(report_text.render(report), sys.stderr if to_stdout else sys.stdout)
    if run.interrupted:
        raise KeyboardInterrupt
    return int(report["exit_code"])


def main(args: argparse.Namespace) -> int:
    """``run``."""
    for name in (*RENDERERS, "write_baseline"):
        check_target(getattr(args, name))
    if args.max_failures and args.write_baseline:
        raise UsageError("a baseline of a run that stops early would know too few failures")
    spec = tested(args)
    reference = parse(args.reference, args.reference_model_arg) if args.reference else None
    known = read_baseline(args.baseline, args.kit)
    suites = load_all(args.kit, args.suite)
    vectors = chosen(args, suites)
    check_files(suites)
    if args.make_models:
        if not args.models:
            raise UsageError("--make-models needs --models DIR")
        make_absent(vectors, args.models)
    options = options_of(args, vectors, (spec, reference), known)
    done = execute(len(vectors), lambda tell: run_all(vectors, spec, options, tell))
    names = {v.id for v in vectors}
    known = {name: outcome for name, outcome in known.items() if name in names}
    if args.write_baseline and not done.interrupted:
        write(args.write_baseline, baseline.render({r.vector.id: r.outcome for r in done.results}))
    return publish(
        Run(
            "decoder",
            args.decoder or args.serve or args.units,
            suites,
            done.results,
            options,
            known,
            done.started,
            done.seconds,
            system_facts(),
            done.interrupted,
            args.command_line,
            traced_vectors(args.kit) if any(r.outcome == FAIL for r in done.results) else (),
            bool(args.decoder or args.serve) and not spec.always_models,
        ),
        args,
    )
