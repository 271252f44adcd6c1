"""Decoders under test: a command template, or a Python callable in worker processes.

A template is a command line with ``{stream}`` and ``{output}``, and if the decoder takes them ``{model}`` and
``{trace}``; its words are separated as in a shell, but no shell runs it. ``python:package.module:function`` names a
callable instead: ``function(stream: bytes, model: str | None)`` returns the samples as a uint8 array [H, W] or
[H, W, C], or raises. If it has a parameter ``trace`` it is given a path for its trace, or None.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ..kit.errors import UsageError
from ..kit.strict_json import read_json
from . import process
from .outcomes import last_line
from .process import Ended, Family, Limits, NotStarted, Watch

CALLABLE = "python:"
_PLACE = re.compile(r"\{(\w+)\}")
_IMPORT_SECONDS = 600.0
"""A worker may compile kernels before it is ready."""

_ENDING_SECONDS = 5.0
"""Time from the end of a worker's replies to its own end; a callable may have closed the pipe and run on."""

_MAX_REPLY = 1 << 20


@dataclass(frozen=True)
class Job:
    """One stream to decode.

    Attributes
    ----------
    stream, output : Path
    folder : Path
        For temporary files.
    model, trace : Path or None
    limits : Limits
    """

    stream: Path
    output: Path
    folder: Path
    model: Path | None = None
    trace: Path | None = None
    limits: Limits = field(default_factory=Limits)


class Decoder(Protocol):
    """What the runner drives; each thread of it has one of its own."""

    def run(self, job: Job, stop: threading.Event) -> Ended:
        """Decode one stream."""
        ...

    def close(self) -> None:
        """End what still runs."""
        ...


@dataclass(frozen=True)
class Spec:
    """How to start a decoder.

    Attributes
    ----------
    text : str
        Template or callable, as given by the user.
    command, model_words, trace_words : tuple of str
        Words of the template, and those that are appended where there is a model, or a trace is wanted.
    fresh : bool
        A new worker process for every stream; for callables.
    """

    text: str
    command: tuple[str, ...] = ()
    model_words: tuple[str, ...] = ()
    trace_words: tuple[str, ...] = ()
    fresh: bool = False

    @property
    def callable(self) -> str:
        """The callable's name, "" for a command."""
        return self.text[len(CALLABLE) :] if self.text.startswith(CALLABLE) else ""

    @property
    def always_models(self) -> bool:
        """Whether the decoder cannot be called without a model, not even where the vector names none."""
        return "{model}" in " ".join(self.command)

    @property
    def always_traces(self) -> bool:
        """Whether the template wants a path for a trace every time."""
        return "{trace}" in " ".join(self.command)

    @property
    def traces(self) -> bool:
        """Whether the decoder may write a trace."""
        return bool(self.callable or self.trace_words or self.always_traces)

    def open(self, folder: Path) -> Decoder:
        """A decoder for one thread; the folder is for what a worker process prints."""
        return _Worker(self, folder) if self.callable else _Command(self)


def _words(text: str, name: str, allowed: set[str]) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{name} {text!r}: {error}") from error
    if unknown := set(_PLACE.findall(text)) - allowed:
        raise UsageError(
            f"{name} {text!r}: unknown {{{min(unknown)}}}; there are {', '.join(f'{{{n}}}' for n in sorted(allowed))}"
        )
    return words


def template(text: str, name: str, needed: set[str], allowed: set[str]) -> tuple[str, ...]:
    """The words of a command template, its program found.

    Raises
    ------
    UsageError
        A placeholder is missing or unknown, quotes do not match, or there is no such program.
    """
    words = _words(text, name, needed | allowed)
    if missing := needed - set(_PLACE.findall(text)):
        raise UsageError(f"{name} {text!r}: {{{min(missing)}}} is missing")
    return process.resolve(words)


def filled(words: tuple[str, ...], values: Mapping[str, object]) -> tuple[str, ...]:
    """Words with their placeholders replaced; what is None becomes empty."""
    return tuple(_PLACE.sub(lambda m: "" if values[m[1]] is None else str(values[m[1]]), word) for word in words)


def parse(text: str, model_arg: str = "", trace_arg: str = "", fresh: bool = False) -> Spec:
    """A decoder as the user names it; raises UsageError."""
    if text.startswith(CALLABLE):
        module, _, function = text[len(CALLABLE) :].partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), function]):
            raise UsageError(f"decoder {text!r}: expected python:package.module:function")
        return Spec(text, fresh=fresh)
    return Spec(
        text,
        template(text, "decoder", {"stream", "output"}, {"model", "trace"}),
        _words(model_arg, "model argument", {"model"}),
        _words(trace_arg, "trace argument", {"trace"}),
    )


class _Command:
    """A decoder as a program: a new process for every stream."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def run(self, job: Job, stop: threading.Event) -> Ended:
        words = self._spec.command
        words += self._spec.model_words if job.model else ()
        words += self._spec.trace_words if job.trace else ()
        values = {"stream": job.stream, "output": job.output, "model": job.model, "trace": job.trace}
        return process.run(filled(words, values), job.limits, job.folder, stop)

    def close(self) -> None:
        pass


class _Worker:
    """A callable in a worker process, which is started anew after a crash, a time-out or too much memory."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self._spec, self._folder = spec, folder
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, job: Job, stop: threading.Event) -> Ended:
        if self._process is None:
            self._start(job.limits, stop)
        if self._process is None:
            return Ended(0, process.INTERRUPTED)
        started = self._errors.seek(0, os.SEEK_END)
        request = {
            "stream": str(job.stream),
            "output": str(job.output),
            "model": job.model and str(job.model),
            "trace": job.trace and str(job.trace),
        }
        ended = self._ask(request, self._watch, started)
        if ended.stopped or self._spec.fresh or self._process.poll() is not None:
            self.close()
        return ended

    def _start(self, limits: Limits, stop: threading.Event) -> None:
        command = [sys.executable, "-m", "conformance.run.worker", self._spec.callable]
        paths = [os.getcwd(), str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        mark, path = process.new_mark(), self._folder / f"worker-{threading.get_ident()}.txt"
        with open(path, "wb") as stderr:
            self._errors = open(path, "rb")  # a position of its own, which the worker does not share
            self._process = process.start(
                command,
                limits,
                self._folder,
                mark,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr.fileno(),
                variables={"PYTHONPATH": os.pathsep.join(paths)},
            )
        self._family = Family(self._process.pid, mark)
        self._watch = Watch(self._family, limits, stop)
        ready = self._ask(None, Watch(self._family, replace(limits, seconds=_IMPORT_SECONDS), stop), 0)
        if ready.exit_code or ready.stopped:
            self.close()
            if ready.stopped != process.INTERRUPTED:
                says = last_line(ready.stderr) or "the worker does not start"
                raise NotStarted(f"decoder {self._spec.text!r}: {says}")

    def _ask(self, request: object, watch: Watch, errors_from: int) -> Ended:
        """Send a request, if there is one, and wait for the reply or the end."""
        assert self._process is not None
        watch.restart()
        reply, stopped = b"", ""
        try:
            if request is not None:
                assert self._process.stdin is not None
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            assert self._process.stdout is not None
            pipe = self._process.stdout.fileno()
            while not stopped and not reply.endswith(b"\n") and len(reply) < _MAX_REPLY:
                stopped = watch.look()
                if not stopped and select.select([pipe], [], [], watch.pause())[0]:
                    part = os.read(pipe, 1 << 16)
                    if not part:
                        break
                    reply += part
        except BrokenPipeError:  # it ended between two streams
            pass
        seconds = watch.seconds
        stderr = process.tail(self._errors, errors_from)
        if stopped or not reply.endswith(b"\n"):
            if not stopped and len(reply) < _MAX_REPLY:
                self._wait_for_end(watch)
            self._family.end()
            return Ended(self._process.wait() or 70, stopped, seconds, watch.peak, b"", stderr)
        return Ended(_exit_code(reply), "", seconds, watch.peak, reply, stderr)

    def _wait_for_end(self, watch: Watch) -> None:
        """Give a worker that closed its pipe the time to end by itself, so that its exit code is known."""
        assert self._process is not None
        until = time.monotonic() + _ENDING_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            time.sleep(watch.pause())

    def close(self) -> None:
        if self._process is not None:
            self._family.end()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout, self._errors):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        pass
            self._process = None


def _exit_code(reply: bytes) -> int:
    try:
        value = read_json(reply)
    except ValueError:
        return 70
    code = value.get("exit_code") if isinstance(value, dict) else None
    return code if type(code) is int and 0 <= code < 256 else 70
