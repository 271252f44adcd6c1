"""``batch IN... -o OUT``: encode and decode many files in a few processes that load models and kernels once.

Files whose names end in ``.loclic`` are decoded, all others encoded, each as by ``encode`` or ``decode``. A journal in
the folder of outputs lets a later run pass over what is done: the input, the options and the output are the same, by
SHA-256. Files are written whole or not at all, so a run may be interrupted at any moment.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import hashlib
import io
import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..codec import Elsewhere
from ..errors import CheckFailed, MissingInput, OutputError, RefcodecError, UsageError, within_resources
from ..io.changes import colour_of
from ..io.console import note, progress_line, result, result_json
from ..io.files import PICTURE_SUFFIXES, check_target
from ..io.metadata import words_of
from ..io.options import add_json, add_limits, limits_of, positive
from ..io.picture_output import FORMATS, check_format
from ..limits import default_memory
from ..model.registry import load_model
from ..picture_files import check_lossless
from ..threads import thread_count
from . import commands
from .batch_report import Row, report, save
from .encode_options import DECODING, ENCODING, SHARED, add_decode_options, add_encode_options
from .journal import JOURNAL, Journals, digest_of

STREAM = ".loclic"
_OPTIONS = (*ENCODING, *DECODING, *SHARED, "rectangles", "format")
"""Arguments that decide what an output holds."""


@dataclass(frozen=True)
class Job:
    """A file to do.

    Attributes
    ----------
    source, target : str
        Paths of input and output.
    options : str
        SHA-256 of what decides the output, but for the input.
    known : tuple of str
        SHA-256 of input and output when it was done the last time with these options, or nothing.
    fresh : bool
        There was no output when the batch began: if a process dies and one is there, the batch made it.
    again : bool
        This is a second trial.
    """

    source: str
    target: str
    options: str
    known: tuple[str, ...] = ()
    fresh: bool = False
    again: bool = False

    @property
    def decodes(self) -> bool:
        """Whether the input is a stream."""
        return self.source.lower().endswith(STREAM)


# ------------------------------------------------------------------------------------------------------------- inputs


def found(inputs: Iterable[str], out: str, journals: Journals) -> list[tuple[str, str]]:
    """Files that are meant, each with its place below the folder of outputs, in the order of names.

    Parameters
    ----------
    inputs : iterable of str
        Files, folders (with all that is in them, but hidden files) and patterns such as ``a/**/*.png``. In folders,
        files count whose names end as those of pictures or streams, and that no earlier batch has made in ``out``.
    out : str
        The folder of outputs.
    journals : Journals
        Those of its folders.

    Returns
    -------
    list of (str, str)
        Path, and place below the folder of outputs.

    Raises
    ------
    MissingInput
        A name or pattern means no file.
    """
    files: dict[str, str] = {}
    for name in inputs:
        if os.path.isdir(name):
            listed = [(path, os.path.relpath(path, name)) for path in _below(name, out, journals)]
        elif os.path.exists(name):
            listed = [(name, os.path.basename(name))]
        else:
            base = os.path.dirname(glob.escape(name).partition("[")[0])
            matches = [m for m in glob.glob(name, recursive=True) if os.path.isfile(m)]
            listed = [(m, os.path.relpath(m, base or ".")) for m in matches]
        if not listed:
            cause = "encode and decode read standard input, batch does not" if name == "-" else ""
            raise MissingInput("no picture and no stream", where=name, cause=cause)
        for path, place in listed:
            files.setdefault(path, place)
    return sorted(files.items())


def _below(folder: str, out: str, journals: Journals) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(os.path.realpath(place)).is_relative_to(os.path.realpath(out))
        made = journals.of(place).made if inside and JOURNAL in names else frozenset[str]()
        for name in names:
            known = Path(name).suffix.lower() in {*PICTURE_SUFFIXES, STREAM}
            if known and not name.startswith(".") and name not in made:
                yield os.path.join(place, name)


def targets(files: Sequence[tuple[str, str]], out: str, suffix: str) -> list[str]:
    """Name the outputs: inputs with another suffix; where two inputs would meet, names with both suffixes.

    Parameters
    ----------
    files : sequence of (str, str)
        As `found` returns them.
    out : str
        The folder of outputs.
    suffix : str
        Of decoded pictures.

    Returns
    -------
    list of str
        Paths, in the order of ``files``.

    Raises
    ------
    UsageError
        Two inputs would still have one output.
    """

    def renamed(path: str, place: str) -> str:
        return str(Path(place).with_suffix(suffix if path.lower().endswith(STREAM) else STREAM))

    names = [renamed(*file) for file in files]
    shared = {name for name, count in Counter(names).items() if count > 1}
    both = [
        f"{place}{Path(name).suffix}" if name in shared else name for name, (_, place) in zip(names, files, strict=True)
    ]
    twice = [name for name, count in Counter(both).items() if count > 1]
    if twice:
        raise UsageError("two inputs would have one output", where=os.path.join(out, twice[0]))
    return [os.path.join(out, name) for name in both]


# --------------------------------------------------------------------------------------------------------------- work


def do(args: argparse.Namespace, job: Job, colours: Elsewhere | None = None) -> Row:
    """Do one file in this process, or decode its colours elsewhere; never raises except for an interrupt.

    Parameters
    ----------
    args : Namespace
        Arguments of the batch.
    job : Job
    colours : callable or None
        Decodes the colours of a stream, on other machines for instance; None decodes them here.

    Returns
    -------
    Row
        Done, skipped or failed, with its notes.
    """
    row, notes = Row(job.source, job.target), io.StringIO()
    try:
        with within_resources("a file of the batch"), contextlib.redirect_stderr(notes):
            source = digest_of(job.source)
            if job.known and job.known[0] == source and os.path.isfile(job.target) and not args.force:
                if digest_of(job.target) == job.known[1]:
                    row.state, row.sha256 = "skipped", job.known
                    return row
            os.makedirs(os.path.dirname(job.target) or ".", exist_ok=True)
            work = partial(commands.decode_file, colours=colours) if job.decodes else commands.encode_file
            ours = (job.known or (job.fresh and job.again)) and os.path.isfile(job.target)
            words = {
                **vars(args),
                "input": job.source,
                "out": job.target,
                "force": bool(args.force or ours),
                "json": False,
            }
            row.facts = work(argparse.Namespace(**words))
            row.sha256 = source, digest_of(job.target)
    except RefcodecError as error:
        row.state, row.error, row.message = "failed", type(error).__name__, str(error)
    except OSError as error:
        row.state, row.error, row.message = "failed", "TransferError", f"{error.filename}: {error.strerror}"
    except Exception as error:  # one file is no reason to lose the others
        row.state, row.error, row.message = "failed", type(error).__name__, f"internal error: {error}"
    row.notes = [line.removeprefix("refcodec: ") for line in notes.getvalue().splitlines()]
    return row


_arguments: argparse.Namespace


def _begin(args: argparse.Namespace) -> None:
    """In a new process: interrupts are the business of the first one, which then ends this one by SIGTERM."""
    global _arguments
    _arguments = args

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt  # so that no part of a file is left

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)


def _do(job: Job) -> Row:
    return do(_arguments, job)


def _pool(args: argparse.Namespace, processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(args,))


def _alone(args: argparse.Namespace, job: Job) -> Row:
    """Do one file in a process that may die."""
    with _pool(args, 1) as pool:
        try:
            return pool.submit(_do, job).result()
        except BrokenProcessPool:
            return Row(job.source, job.target, "failed", "ProcessDied", "the process ended while it had this file")


def rows_of(args: argparse.Namespace, jobs: Sequence[Job], processes: int) -> Iterator[Row]:
    """Do all files, and yield the result of each as it is done.

    With one process it is this one. If a process dies, the files that it may have had are tried once more, each in a
    separate process.

    Parameters
    ----------
    args : Namespace
        Arguments of the batch.
    jobs : sequence of Job
    processes : int

    Yields
    ------
    Row
    """
    if processes == 1:
        for job in jobs:
            yield do(args, job)
        return
    left = list(jobs)
    while left:
        pool = _pool(args, processes)
        active: dict[Future[Row], Job] = {}
        try:
            while left or active:
                while left and len(active) < 2 * processes:
                    active[pool.submit(_do, left[0])] = left[0]
                    left.pop(0)
                for future in wait(active, return_when=FIRST_COMPLETED).done:
                    row = future.result()
                    del active[future]
                    yield row
        except BrokenProcessPool:
            suspects = list(active.values())
            active.clear()
            yield from (_alone(args, replace(job, again=True)) for job in suspects)
        finally:
            if left or active:  # interrupted, or a process has died
                for process in multiprocessing.active_children():
                    process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


# ------------------------------------------------------------------------------------------------------------ command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``refcodec batch``."""
    parser.add_argument(
        "inputs", nargs="+", metavar="IN", help="pictures, streams, folders, patterns such as 'a/**/*.png'"
    )
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="folder of outputs, made if it is not there")
    add_encode_options(parser)
    parser.add_argument("--format", choices=FORMATS, default="png", help="of decoded pictures, png by default")
    add_decode_options(parser, shared=False)
    parser.add_argument("--model", metavar="M", help="name or path of the model")
    parser.add_argument("-j", "--jobs", type=positive, metavar="N", help="processes, one for each core by default")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of each process")
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="work on a running dask.distributed cluster that sees the same files, one file per worker. Of N files on "
        "W workers the N modulo W largest tiled streams are decoded one after another, each by rows of tiles on all "
        "workers. Pictures are always encoded whole, each on one worker",
    )
    parser.add_argument("--report", metavar="FILE", help="write what became of every file: .json, .csv or .html")
    parser.add_argument("--force", action="store_true", help="do everything again and overwrite outputs")
    add_json(parser)
    add_limits(parser)


def _options(args: argparse.Namespace, fingerprint: str) -> str:
    """SHA-256 of what decides outputs."""
    words = {name: getattr(args, name) for name in _OPTIONS} | {"fingerprint": fingerprint}
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


def _shares(args: argparse.Namespace, count: int) -> tuple[argparse.Namespace, int]:
    """Arguments for each process, and how many processes: cores and memory are shared out."""
    cores = thread_count(None)
    processes = min(args.jobs or cores, count)
    shared = argparse.Namespace(**vars(args))
    shared.region = None
    shared.threads = args.threads or max(1, cores // processes)
    if args.max_memory is None:
        shared.max_memory = max(64, (default_memory() >> 20) // processes)
    return shared, processes


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 if every file is done, 1 if some failed.

    Raises
    ------
    MissingInput
        An input means no file.
    UsageError
        Two inputs would have one output, an output would replace an input, or a report has no known suffix.
    OutputError
        Outputs, journal or report cannot be written.
    Unsupported, TransferError
        As `refcodec.cli.cluster.rows_on`.
    ModelError
        The model is not there.
    """
    if args.out == "-":
        raise UsageError("outputs go to a folder", where="--out -", cause="encode and decode write to standard output")
    thread_count(args.threads)
    if args.dask is not None and args.jobs:
        raise UsageError("the cluster decides how many processes work", where="--jobs", cause="leave -j out")
    if args.report:
        check_target(args.report, force=True)
        if Path(args.report).suffix.lower() not in (".json", ".csv", ".html"):
            raise UsageError("a report is .json, .csv or .html", where=args.report)
    suffix = f".{args.format}"
    check_format(f"x{suffix}")
    journals = Journals()
    files = found(args.inputs, args.out, journals)
    out = targets(files, args.out, suffix)
    limits_of(args)
    words_of(args.strip)
    if args.background is not None:
        colour_of(args.background)
    encodes = any(not path.lower().endswith(STREAM) for path, _ in files)
    if encodes and args.lossless:
        check_lossless(args.model, args.tile, args.rectangles == "auto", args.refine)
    fingerprint = load_model(args.model).fingerprint.hex() if encodes and not args.lossless else args.model or ""
    sources = {os.path.realpath(path) for path, _ in files}
    if lost := [target for target in out if os.path.realpath(target) in sources]:
        raise UsageError("an output would take the place of an input", where=lost[0], cause="choose another folder")
    try:
        os.makedirs(args.out, exist_ok=True)
    except OSError as error:
        raise OutputError("the folder cannot be made", where=args.out, detail=str(error.strerror)) from error
    options = _options(args, fingerprint)
    jobs = []
    for (source, _), target in zip(files, out, strict=True):
        known = journals.of(os.path.dirname(target)).known(target, options)
        jobs.append(Job(source, target, options, known, not os.path.exists(target)))
    shared, processes = _shares(args, len(jobs))
    made = rows_of(shared, jobs, processes)
    if args.dask is not None:
        from .cluster import rows_on

        theirs = {"threads": args.threads, "max_memory": args.max_memory}  # a worker shares out what it has
        coded = fingerprint if encodes and not args.lossless else ""
        made = rows_on(args.dask, argparse.Namespace(**{**vars(shared), **theirs}), jobs, coded)
    rows, started = [], time.monotonic()
    place = {job.target: job for job in jobs}
    try:
        with progress_line() as show:
            for row in made:
                rows.append(row)
                if row.state == "done":
                    journals.of(os.path.dirname(row.target)).add(row.target, options, row.sha256)
                show(_state(rows, len(jobs), time.monotonic() - started))
    finally:
        seconds = time.monotonic() - started
        order = {target: n for n, target in enumerate(place)}
        rows.sort(key=lambda row: order[row.target])
        if args.report:
            save(args.report, rows, seconds, force=True)
    return _told(args, rows, seconds)


def _state(rows: Sequence[Row], count: int, seconds: float) -> str:
    """The line that is shown while files are done."""
    worked = sum(row.state != "skipped" for row in rows)
    rate = worked / seconds if seconds else 0.0
    left = (count - len(rows)) / rate if rate else 0.0
    failed = sum(row.state == "failed" for row in rows)
    return f"{len(rows)} of {count} files, {rate:.1f} per second, {int(left) // 60}:{int(left) % 60:02} left" + (
        f", {failed} failed" if failed else ""
    )


def _told(args: argparse.Namespace, rows: Sequence[Row], seconds: float) -> int:
    """Say what became of all files, failures last; the exit code."""
    whole = report(rows, seconds)
    failed = [row for row in rows if row.state == "failed"]
    for row in rows:
        for text in row.notes:
            note(f"{row.source}: {text}")
    for row in failed:
        note(f"failed: {row.source}: {row.message}")
    if args.json:
        result_json(whole)
    else:
        result(f"{whole['done']} done, {whole['skipped']} were done before, {whole['failed']} failed, {seconds:.1f} s")
    return CheckFailed.exit_code if failed else 0


__all__ = ["Job", "add_arguments", "do", "found", "main", "rows_of", "targets"]
