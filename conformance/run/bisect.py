"""Find the first value at which a decoder parts from the reference.

    python -m conformance bisect --stream S --model M --trace T [--values DIR] [--reference CMD]
    python -m conformance bisect --vector core/NAME --decoder "mydec {stream} --trace {trace} --values {values}"

The trace T of the decoder under test has one JSON line per stage, of any subset of the stages, with an "index" on every
line or on none; SPEC 13 and traces.py describe it. With its values (NPY files in DIR) the first differing element is
named, too; they are needed for the stage that differs only. Instead of files a command may be given that makes them; it
may end as it likes, and also use {output} and {model}. The reference's trace comes from a command, which is called as

    CMD STREAM TRACE [--model M] [--stage NAME --values DIR]

and by default is this Python's ``-m refcodec trace``; or from the digests that come with a vector of the suites.
Exit codes: 0 all that both traces have is equal, 1 they differ, 2 usage, 65 a trace is malformed, 5 and 70 as always.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..kit.errors import FAILED, PASSED, KitError, UsageError
from ..kit.suites import KIT, check_files, load_all
from ..kit.text import say
from ..kit.vectors import Vector
from ..locate.divergence import Divergence, describe, first_divergence, next_stage
from ..locate.stages import in_tile
from ..locate.traces import Folder, Stage, Trace, TraceError, read_trace
from . import process
from .decoders import filled, template
from .files import scratch
from .models import absence, locate, spare
from .outcomes import observe
from .run import seconds
from .system import python_module

REFERENCE = (*python_module("refcodec"), "trace")


class ReferenceFailed(KitError):
    """The command that gives the reference's trace did not."""


@dataclass
class Reference:
    """Runs the reference: once for the digests, and once more for each name whose values are asked for.

    Attributes
    ----------
    command : sequence of str
    stream : Path
    model : Path or None
    folder : Path
        A temporary one.
    timeout : float
        Seconds a run may take.
    """

    command: Sequence[str]
    stream: Path
    model: Path | None
    folder: Path
    timeout: float
    _fetched: set[str] = field(default_factory=set)

    def trace(self) -> Trace:
        """The digests of every stage; values on demand.

        Raises
        ------
        ReferenceFailed
        """
        path = self.folder / "reference.jsonl"
        self._run(path)
        return Trace(read_trace(path).stages, "the reference", self.values)

    def values(self, stage: Stage) -> np.ndarray | None:
        """The values of a stage; raises ReferenceFailed."""
        folder = self.folder / "values"
        if stage.name not in self._fetched:
            self._run(
                self.folder / f"{len(self._fetched)}.jsonl", "--stage", stage.name, "--values", str(folder), "--force"
            )
            self._fetched.add(stage.name)
        return Folder(folder)(stage)

    def _run(self, path: Path, *more: str) -> None:
        model = [] if self.model is None else ["--model", str(self.model)]
        command = [*self.command, str(self.stream), str(path), *model, *more]
        try:
            done = subprocess.run(command, capture_output=True, timeout=self.timeout, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise ReferenceFailed(f"the reference took more than {self.timeout:g} s: {shlex.join(command)}") from None
        except OSError as error:
            raise ReferenceFailed(f"the reference cannot be run: {error.strerror}: {shlex.join(command)}") from None
        if done.returncode or not path.is_file():
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
            raise ReferenceFailed(f"the reference ended with exit code {done.returncode}: {lines[-1][:300]}")


def unit_vectors(operations: Iterable[str], kit: Path = KIT) -> list[Vector]:
    """Vectors of the suite "units" that test one of these operations alone, in the order of the operations.

    Those of an operation have its name, with dashes, or begin with it: units/norm, units/conv-3x3.
    """
    if not (kit / "suites" / "units" / "manifest.json").is_file():
        return []
    vectors = load_all(kit, ["units"])[0].vectors
    names = [operation.replace("_", "-") for operation in operations]
    return [v for name in names for v in vectors if f"{v.id}-".startswith(f"units/{name}-")]


def report(found: Divergence, units: Sequence[Vector], injection: str) -> list[str]:
    """Output of the command: the divergence, the unit vectors that isolate it, and what to do next.

    Parameters
    ----------
    found : Divergence
    units : sequence of Vector
        Unit vectors of the operation.
    injection : str
        The command that injects the stage.

    Returns
    -------
    list of str
        Lines.
    """
    lines = describe(found)
    if units:
        lines.append(f"  units:      {', '.join(v.id for v in units)}")
    return [*lines, f"  next:       {injection}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--stream", type=Path, metavar="S", help="the stream that both decode")
    parser.add_argument("--model", type=Path, metavar="M", help="its model; found by its fingerprint if not given")
    parser.add_argument("--vector", metavar="ID", help="a vector of the suites, in place of stream and model")
    parser.add_argument("--kit", type=Path, default=KIT, metavar="DIR", help="folder of suites/, for --vector")
    tested = parser.add_mutually_exclusive_group(required=True)
    tested.add_argument("--trace", type=Path, metavar="T", help="trace of the decoder under test")
    tested.add_argument("--decoder", metavar="CMD", help="command that writes {trace}, and perhaps {values}")
    parser.add_argument("--values", type=Path, metavar="DIR", help="folder of its values as NPY files")
    parser.add_argument(
        "--reference",
        metavar="CMD",
        help="command that gives the reference's trace; 'none' compares with the digests of the vector alone",
    )
    parser.add_argument("--timeout", type=seconds, default=600, metavar="S", help="seconds each decoder may take")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    UsageError, TraceError, ReferenceFailed, SuiteDamaged
    """
    if (args.vector is None) == (args.stream is None):
        raise UsageError("give either --stream or --vector")
    vector = chosen_vector(args.vector, args.kit) if args.vector else None
    with scratch() as folder:
        tested = _run_decoder(args, vector, folder) if args.decoder else read_trace(args.trace, args.values)
        reference = _reference(args, vector, folder)
        found = first_divergence(reference, tested)
    if found is None:
        return _equal(args, reference, tested)
    injection = _injection(found, args)
    units = unit_vectors(found.node.operations)
    if args.json:
        print(json.dumps({"equal": False, **found.as_dict(), "units": [v.id for v in units]}))
    else:
        for line in report(found, units, injection):
            say(line)
    return FAILED


def chosen_vector(name: str, kit: Path = KIT) -> Vector:
    """A valid stream of the suites by its id.

    Raises
    ------
    UsageError
        There is none of this id, or it is no valid stream.
    SuiteDamaged
    """
    suites = load_all(kit, [name.split("/")[0]])
    check_files(suites)
    found = [v for suite in suites for v in suite.vectors if v.id == name]
    if not found or found[0].outcome != "accept":
        raise UsageError(f"{name!r} is {'no vector of the suites' if not found else 'not a valid stream'}")
    return found[0]


def _target(args: argparse.Namespace, vector: Vector | None, folder: Path) -> tuple[Path, Path | None]:
    """Stream and model, a vector's stream as a file in a folder; raises UsageError where a vector's model is absent and
    something decodes.
    """
    if vector is None:
        return args.stream, args.model
    model = args.model or (locate(vector.model) if vector.model else None)
    if vector.model and model is None and (args.decoder or args.reference != "none"):
        raise UsageError(absence(vector.model))
    stream = folder / "stream.loclic"
    stream.write_bytes(vector.read())
    return stream, model


def _run_decoder(args: argparse.Namespace, vector: Vector | None, folder: Path) -> Trace:
    """The trace that the command given as decoder writes."""
    (stream, model), folder = _target(args, vector, folder), folder / "tested"
    words = template(args.decoder, "decoder", {"stream", "trace"}, {"output", "model", "values"})
    if model is None and "{model}" in args.decoder:
        model = spare(load_all(args.kit))
    folder.mkdir()
    trace, values = folder / "trace.jsonl", folder / "values"
    values.mkdir()
    ended = process.run(
        filled(
            words, {"stream": stream, "trace": trace, "values": values, "model": model, "output": folder / "output.ppm"}
        ),
        process.Limits(args.timeout),
        folder,
    )
    if not trace.is_file():
        raise TraceError(f"the decoder wrote no trace: {observe(ended).detail or f'exit code {ended.exit_code}'}")
    return read_trace(trace, values)


def _reference(args: argparse.Namespace, vector: Vector | None, folder: Path) -> Trace:
    try:
        command = shlex.split(args.reference) if args.reference else list(REFERENCE)
    except ValueError as error:
        raise UsageError(f"--reference is not a command: {error}") from None
    alone = command == ["none"]
    if alone and (vector is None or vector.trace is None):
        raise UsageError("--reference none needs a --vector that has a trace")
    run = Reference(command, *_target(args, vector, folder), folder, args.timeout)
    if vector is None or vector.trace is None:
        return run.trace()
    shipped = read_trace(vector.trace)
    return shipped if alone else Trace(shipped.stages, vector.id, run.values)


def _injection(found: Divergence, args: argparse.Namespace) -> str:
    """The command that gives the inputs of the part in which a stage is made."""
    key = found.key
    special = {"z_hat": "coder/z", "y_hat": "walk"}.get(key.own.split("/")[0])
    if key.turns > 1 and key.turn in (0, 2):
        special = "coder/y"
    part = in_tile(found.node.tile, special) if special else str(key)
    words = ["python", "-m", "conformance", "inject", part]
    for name in ("kit", "vector", "stream", "model"):
        if (value := getattr(args, name)) and value != KIT:
            words += [f"--{name}", str(value)]
    return shlex.join([*words, "--inputs", "DIR", "--out", "FILE.npy"])


def _equal(args: argparse.Namespace, reference: Trace, tested: Trace) -> int:
    following = next_stage(reference, tested)
    if args.json:
        print(json.dumps({"equal": True, "stages": len(tested.stages), "next": following and str(following[0])}))
        return PASSED
    say(f"all {len(tested.stages)} stages of the trace are equal")
    if following:
        key, node = following
        where = f"{key} ({node.pass_name})" if node.pass_name else str(key)
        say(f"it ends before {where}: if the decoder stopped there, look at SPEC {', '.join(node.clauses)}")
    return PASSED
