"""Validate the streams of an encoder of any make, and decode them.

    python -m conformance encoder --encoder "myenc {picture} {stream} -q {quality}" --qualities 1,60,100
    python -m conformance encoder --streams FOLDER --model M

The encoder gets every picture as PNG, with alpha where it has alpha. Its stream must be valid: the reference, by
default this Python's refcodec as a separate program, reads its header, refuses what SPEC refuses, decodes it, and
compares the digest if there is one. Size, channels, alpha and quality must be those asked for; a picture that is
stored without loss has no step. --reproducible also compares the stream with refcodec's own (SPEC 1.4). Bits per pixel,
PSNR of the colours, tiles and what is stored without loss are reported; no quality is demanded.

With --streams, streams that are there already are validated: files, or all files NAME.loclic of folders. The validator
names the first rule that a stream breaks, with clause, byte, tile, segment, slice, pass and symbol. Of a valid stream
it names the level and the profiles that a decoder needs.

Exit codes are those of ``run``: 0 every stream is valid, 1 one is not, 3 some were not supported, 4 nothing ran.
"""

from __future__ import annotations

import argparse
import math
import shlex
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..kit.errors import NothingToDo, UsageError
from ..kit.strict_json import read_json
from ..kit.suites import KIT
from ..kit.text import as_name
from ..kit.vectors import Accept, Vector
from . import outcomes, process
from .decoders import filled, template
from .engine import Interrupted, Options, Result, gather
from .files import check_target, scratch
from .outcomes import Seen, Verdict
from .pictures import OutputWrong, read_picture
from .process import Limits
from .report import Run
from .run import RENDERERS, add_reports, add_running, execute, publish
from .system import python_module, system_facts

REFERENCE = shlex.join(python_module("refcodec"))
VALIDATOR = shlex.join((*python_module("conformance"), "validate"))
SUITE = "encoder"
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
"""Channels by Pillow's mode."""


@dataclass(frozen=True)
class Task:
    """A picture to encode at a quality.

    Attributes
    ----------
    picture : Path
    width, height, channels : int
        Alpha is counted as a channel.
    quality : int
    """

    picture: Path
    width: int
    height: int
    channels: int
    quality: int

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels % 2 == 0

    @property
    def colours(self) -> int:
        """Channels that the header counts."""
        return self.channels - self.has_alpha

    def vector(self) -> Vector:
        """The task as a vector, for reports."""
        name = f"{SUITE}/{self.picture.stem}-q{self.quality:03d}"
        expect = Accept(self.width, self.height, self.channels, "")
        return Vector(
            name,
            self.picture,
            "",
            None,
            expect,
            ("1.4", "8.5"),
            "that the encoder writes streams that decoders refuse, or another picture's",
            "a picture",
            "",
        )


@dataclass(frozen=True)
class Tools:
    """The commands of a run, their programs found.

    Attributes
    ----------
    encoder : tuple of str
        With {picture}, {stream} and perhaps {quality} and {model}.
    reference : tuple of str
        What runs refcodec.
    model : str
        Path of the model, "" for the default one.
    reproducible : bool
        Streams must be refcodec's.
    limits : Limits
    validator : tuple of str
        What runs the validator; empty for none.
    """

    encoder: tuple[str, ...]
    reference: tuple[str, ...]
    model: str
    reproducible: bool
    limits: Limits
    validator: tuple[str, ...] = ()

    def refcodec(self, command: str, *arguments: object) -> tuple[str, ...]:
        """A command of the reference."""
        model = ("--model", self.model) if self.model and command != "info" else ()
        return (*self.reference, command, *map(str, arguments), "--json", *model)


def streams(paths: Sequence[Path]) -> list[Path]:
    """Files, and of folders the files whose names end in .loclic, sorted.

    Raises
    ------
    UsageError
        There is no such file or folder, or two files have one name.
    """
    found = list[Path]()
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: there is no such file or folder")
        found += sorted(path.glob("*.loclic")) if path.is_dir() else [path]
    if twice := [name for name, count in Counter(stream_vector(path).id for path in found).items() if count > 1]:
        raise UsageError(f"two streams have the name {twice[0]!r}: validate them one after the other")
    return found


def stream_vector(path: Path, clauses: tuple[str, ...] = ("8.6-1",)) -> Vector:
    """A stream that is there already as a vector, for reports."""
    suggests = "that the encoder writes streams that decoders refuse"
    return Vector(f"{SUITE}/{as_name(path.stem)}", path, "", None, Accept(1, 1, 1, ""), clauses, suggests, "a file", "")


def tasks(folder: Path, qualities: Sequence[int]) -> list[Task]:
    """Every picture of a folder at every quality.

    Raises
    ------
    UsageError
        A picture has other samples than 8 bits of grey or RGB, with or without alpha.
    """
    found = []
    for path in sorted(folder.glob("*.png")):
        try:
            with Image.open(path) as picture:
                mode, (width, height) = picture.mode, picture.size
        except (OSError, SyntaxError) as error:
            raise UsageError(f"{path}: {error}") from error
        if mode not in CHANNELS:
            raise UsageError(f"{path}: {mode} samples, expected 8 bits, grey or RGB, with or without alpha")
        found += [Task(path, width, height, CHANNELS[mode], quality) for quality in qualities]
    return found


def parse_qualities(text: str) -> tuple[int, ...]:
    """Qualities, separated by commas."""
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"qualities {text!r}: expected numbers, separated by commas") from error
    if not all(1 <= step <= 100 for step in steps) or len(set(steps)) != len(steps):
        raise UsageError(f"qualities {text!r}: expected different numbers in 1..100")
    return steps


def wrong_header(facts: dict[str, Any], task: Task) -> str:
    """Difference between a stream's header and the request, "" if none."""
    wanted = {
        "width": task.width,
        "height": task.height,
        "channels": task.colours,
        "alpha": task.has_alpha,
        "quality": 0 if facts.get("lossless") else task.quality,
    }
    wrong = [
        f"{name} is {facts.get(name)}, asked for was {value}"
        for name, value in wanted.items()
        if facts.get(name) != value
    ]
    return "; ".join(wrong)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / float(error))


def described(task: Task, facts: dict[str, Any], size: int, picture: bytes, decoded: bytes) -> str:
    """Size and quality of a valid stream in a line.

    Parameters
    ----------
    task : Task
    facts : dict
        The reference's info.
    size : int
        Bytes of the stream.
    picture, decoded : bytes
        Samples, alpha last.

    Returns
    -------
    str
    """
    a, b = (np.frombuffer(data, np.uint8).reshape(-1, task.channels) for data in (picture, decoded))
    parts = [f"{8 * size / len(a):.4f} bpp", f"PSNR {psnr(a[:, : task.colours], b[:, : task.colours]):.2f} dB"]
    if facts.get("tile_width"):
        parts.append(f"{facts.get('tiles')} tiles")
    if facts.get("lossless"):
        parts.append("stored without loss")
    elif any(chunk["tag"] == "LOSS" for chunk in facts.get("chunks", ())):
        parts.append("parts stored without loss")
    if task.has_alpha:
        parts.append("alpha" if np.array_equal(a[:, -1], b[:, -1]) else "alpha changed")
    return ", ".join(parts if facts.get("digest") else [*parts, "no digest"])


def skipped(task: Task) -> Result:
    """The result of a task that an interrupted run did not finish."""
    return Result(task.vector(), outcomes.SKIPPED, "the run was interrupted")


def unread(path: Path) -> Result:
    """The result of a stream that an interrupted run did not finish."""
    return Result(stream_vector(path), outcomes.SKIPPED, "the run was interrupted")


class Bench:
    """Encodes, validates and decodes one task after another in a folder."""

    def __init__(self, tools: Tools, stop: threading.Event) -> None:
        self._tools, self._stop = tools, stop

    def _run(self, command: tuple[str, ...], folder: Path) -> process.Ended:
        if self._stop.is_set():
            raise Interrupted
        ended = process.run(command, self._tools.limits, folder, self._stop)
        if ended.stopped == process.INTERRUPTED:
            raise Interrupted
        return ended

    def try_task(self, task: Task) -> Result:
        """The result of one task; raises Interrupted, and UsageError where the reference does not run."""
        with scratch() as folder:
            stream, picture = folder / "stream.loclic", folder / "picture.png"
            shutil.copyfile(task.picture, picture)
            values = {"picture": picture, "stream": stream, "quality": task.quality, "model": self._tools.model}
            ended = self._run(filled(self._tools.encoder, values), folder)
            seen = outcomes.observe(ended)
            verdict = self._encoded(seen, stream) or self._validate(task, stream, folder)
        return Result(
            task.vector(),
            verdict.outcome,
            verdict.detail,
            seen.error,
            seen.kind,
            verdict.outcome == outcomes.PASS,
            seconds=ended.seconds,
            peak=ended.peak,
        )

    def try_stream(self, path: Path) -> Result:
        """The result of a stream that is there already; raises as `try_task`."""
        with scratch() as folder:
            found = self._validated(path.resolve(), folder)
        if found["valid"]:
            return Result(stream_vector(path), outcomes.PASS, found["says"], seen="accepted", exact=True)
        finding = found["finding"]
        vector = stream_vector(path, (finding["clause"],))
        return Result(vector, outcomes.FAIL, found["says"], finding["error"], "accepted")

    def _validated(self, stream: Path, folder: Path) -> dict[str, Any]:
        """The validator's result for a stream; raises UsageError where it does not run."""
        model = ("--model", self._tools.model) if self._tools.model else ()
        ended = self._run((*self._tools.validator, str(stream), "--json", *model), folder)
        try:
            found = read_json(ended.stdout)
            if isinstance(found["says"], str) and found["needs" if found["valid"] else "finding"]:
                return dict(found)
        except (ValueError, KeyError, TypeError):
            pass
        says = outcomes.last_line(ended.stderr) or outcomes.observe(ended).detail or "no answer"
        raise UsageError(f"the validator does not run: {says}")

    def _needs(self, stream: Path, folder: Path) -> str:
        """Level and profiles of a valid stream for a line, "" without a validator."""
        if not self._tools.validator:
            return ""
        wanted = self._validated(stream, folder)["needs"]
        return f", level {wanted['level']}, profiles {' '.join(wanted['profiles'])}"

    def _encoded(self, seen: Seen, stream: Path) -> Verdict | None:
        """The result if there is no stream to look at."""
        if seen.kind == "refused":
            return Verdict(outcomes.FAIL, f"the encoder refused: {seen.detail or seen.error}")
        if seen.kind != "accepted":
            return Verdict(seen.kind, seen.detail)
        if stream.is_symlink() or not stream.is_file():
            return Verdict(outcomes.FAIL, "no stream was written")
        return None

    def _validate(self, task: Task, stream: Path, folder: Path) -> Verdict:
        info = self._run(self._tools.refcodec("info", stream), folder)
        if info.exit_code:
            return self._refused("the header", info, stream, folder)
        facts = self._facts(info)
        if wrong := wrong_header(facts, task):
            return Verdict(outcomes.FAIL, wrong)
        verify = ("--verify",) if facts.get("digest") else ()
        decoded = folder / "decoded.npy"
        ended = self._run(self._tools.refcodec("decode", stream, decoded, *verify), folder)
        if ended.exit_code:
            return self._refused("the stream", ended, stream, folder)
        try:
            samples = read_picture(decoded, "npy", Accept(task.width, task.height, task.channels, ""))
        except OutputWrong as error:
            raise UsageError(f"the reference decoded, but {error}") from error
        if self._tools.reproducible and (other := self._other_bytes(task, stream, folder)):
            return Verdict(outcomes.FAIL, other)
        with Image.open(task.picture) as picture:
            says = described(task, facts, stream.stat().st_size, picture.tobytes(), samples)
        return Verdict(outcomes.PASS, says + self._needs(stream, folder))

    def _facts(self, info: process.Ended) -> dict[str, Any]:
        """The reference's description of a header; raises UsageError where that is no object of JSON."""
        try:
            facts = read_json(info.stdout)
        except ValueError as error:
            raise UsageError(f"the reference's info is not JSON: {error}") from error
        if not isinstance(facts, dict):
            raise UsageError("the reference's info is no object of JSON")
        return facts

    def _refused(self, what: str, ended: process.Ended, stream: Path, folder: Path) -> Verdict:
        """Why the reference refuses; raises UsageError where it fails for another reason."""
        seen = outcomes.observe(ended)
        if seen.kind == "refused" or ended.exit_code == 1 or seen.error:
            says = outcomes.last_line(ended.stderr) or seen.error
            if self._tools.validator:
                says = self._validated(stream, folder)["says"]
            return Verdict(outcomes.FAIL, f"{what} is refused: {says}")
        raise UsageError(f"the reference does not run: {seen.kind}, {seen.detail}")

    def _other_bytes(self, task: Task, stream: Path, folder: Path) -> str:
        own = folder / "own.loclic"
        ended = self._run(self._tools.refcodec("encode", task.picture, own, "-q", task.quality), folder)
        if ended.exit_code:
            raise UsageError(f"the reference does not encode: {outcomes.last_line(ended.stderr)}")
        a, b = own.read_bytes(), stream.read_bytes()
        if a == b:
            return ""
        first = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        return f"valid, but not refcodec's: {len(b)} bytes instead of {len(a)}, the first that differs is byte {first}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``encoder``."""
    tested = parser.add_mutually_exclusive_group(required=True)
    tested.add_argument(
        "--encoder", metavar="CMD", help="command with {picture} and {stream}, perhaps {quality} and {model}"
    )
    tested.add_argument(
        "--streams", type=Path, nargs="+", metavar="PATH", help="streams that are there already, files or folders"
    )
    parser.add_argument("--qualities", default="1,30,60,100", metavar="LIST", help="default 1,30,60,100")
    parser.add_argument("--pictures", type=Path, default=KIT / "pictures", metavar="DIR", help="PNG files to encode")
    parser.add_argument("--model", default="", metavar="M", help="path of the model, the default one if not given")
    parser.add_argument("--reproducible", action="store_true", help="streams must be refcodec's, byte by byte")
    parser.add_argument("--reference", default=REFERENCE, metavar="CMD", help="what runs refcodec")
    parser.add_argument("--validator", metavar="CMD", help="what names rules; none by default with another --reference")
    add_running(parser)
    add_reports(parser)


def main(args: argparse.Namespace) -> int:
    """``encoder``."""
    for name in RENDERERS:
        check_target(getattr(args, name))
    encodes = args.encoder is not None
    words = template(args.encoder, "encoder", {"picture", "stream"}, {"quality", "model"}) if encodes else ()
    limits = Limits(args.timeout, args.memory << 20)
    model = str(Path(args.model).resolve()) if Path(args.model).is_file() else args.model
    default = VALIDATOR if args.reference == REFERENCE or not encodes else ""
    reference, validator = shlex.split(args.reference), shlex.split(args.validator or default)
    tools = Tools(
        *(words, process.resolve(reference), model, args.reproducible, limits),
        process.resolve(validator) if validator else (),
    )
    stop = threading.Event()
    bench = Bench(tools, stop)
    if encodes:
        todo = tasks(args.pictures, parse_qualities(args.qualities))
        done = execute(len(todo), lambda tell: gather(todo, bench.try_task, args.jobs, stop, tell, skipped))
    else:
        files = streams(args.streams)
        done = execute(len(files), lambda tell: gather(files, bench.try_stream, args.jobs, stop, tell, unread))
    if not done.results:
        raise NothingToDo("no PNG files to encode" if encodes else "no streams NAME.loclic to validate")
    options = replace(Options(), limits=limits, jobs=args.jobs)
    return publish(
        Run(
            "encoder",
            args.encoder or "streams of an encoder",
            (),
            done.results,
            options,
            {},
            done.started,
            done.seconds,
            system_facts(),
            done.interrupted,
            args.command_line,
        ),
        args,
    )
