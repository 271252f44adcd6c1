"""Decoders under test: a command template, a Python callable in worker processes, or a command that serves.

A template is a command line with ``{stream}`` and ``{output}``, and if the decoder takes them ``{model}``, ``{trace}``
and ``{threads}``; its words are separated as in a shell, but no shell runs it. ``python:package.module:function`` names
a callable instead: ``function(stream: bytes, model: str | None)`` returns the samples as a uint8 array [H, W] or
[H, W, C], or raises. If it has a parameter ``trace`` it is given a path for its trace, or None; if it has a parameter
``threads``, the number of threads or None.

A command that serves decodes many streams in one process. It writes the line ``{"serves": 1}``, then answers every line
of JSON on standard input with one on standard output. conformance/run/README.md describes both; a worker process that
runs a callable speaks the same protocol.
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
"""A module with a callable may compile kernels when it is imported."""

_ENDING_SECONDS = 5.0
"""Time from the end of a server's answers to its own end; it may have closed the pipe and run on."""

_MAX_REPLY = 1 << 20

_GREETING = {"serves": 1}
"""First line of a server: it is ready, and speaks version 1 of the protocol."""


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
    """Interface between the runner and a decoder; each thread of the runner has a separate one."""

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
    threads : int or None
        Number of threads that the decoder is asked for; None leaves it to the decoder.
    serves : bool
        The command serves many streams.
    always : bool
        The decoder is given a model for every stream.
    """

    text: str
    command: tuple[str, ...] = ()
    model_words: tuple[str, ...] = ()
    trace_words: tuple[str, ...] = ()
    fresh: bool = False
    threads: int | None = None
    serves: bool = False
    always: bool = False

    @property
    def callable(self) -> str:
        """The callable's name, "" for a command."""
        return self.text[len(CALLABLE) :] if self.text.startswith(CALLABLE) else ""

    @property
    def always_models(self) -> bool:
        """Whether the decoder is given a model even where the vector names none."""
        return self.always or "{model}" in " ".join(self.command)

    @property
    def always_traces(self) -> bool:
        """Whether the template wants a path for a trace every time."""
        return "{trace}" in " ".join(self.command)

    @property
    def traces(self) -> bool:
        """Whether the decoder may write a trace."""
        return bool(self.callable or self.serves or self.trace_words or self.always_traces)

    def open(self, folder: Path) -> Decoder:
        """A decoder for one thread; the folder is for what a worker process prints."""
        return Server(self, folder) if self.callable or self.serves else _Command(self)


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
    """Split a command template into words, and find its program.

    Parameters
    ----------
    text : str
        The template.
    name : str
        Of the option, for messages.
    needed, allowed : set of str
        Placeholders that must and that may occur.

    Returns
    -------
    tuple of str

    Raises
    ------
    UsageError
        A placeholder is missing or unknown, quotes do not match, or the program does not exist.
    """
    words = _words(text, name, needed | allowed)
    if missing := needed - set(_PLACE.findall(text)):
        raise UsageError(f"{name} {text!r}: {{{min(missing)}}} is missing")
    return process.resolve(words)


def filled(words: tuple[str, ...], values: Mapping[str, object]) -> tuple[str, ...]:
    """Words with their placeholders replaced; what is None becomes empty."""
    return tuple(_PLACE.sub(lambda m: "" if values[m[1]] is None else str(values[m[1]]), word) for word in words)


def parse(
    text: str,
    model_arg: str = "",
    trace_arg: str = "",
    fresh: bool = False,
    threads_arg: str = "",
    threads: int | None = None,
    always: bool = False,
) -> Spec:
    """A decoder as the user names it, run once for every stream.

    Parameters
    ----------
    text : str
        Template or callable.
    model_arg, trace_arg, threads_arg : str
        Words that are added where there is a model, where a trace is wanted, and where ``threads`` is given.
    fresh : bool
        A new process for every call of a callable.
    threads : int or None
    always : bool
        Give a model for every stream.

    Returns
    -------
    Spec

    Raises
    ------
    UsageError
        A placeholder is missing or unknown, the program is missing, or nothing takes the number of threads.
    """
    if text.startswith(CALLABLE):
        module, _, function = text[len(CALLABLE) :].partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), function]):
            raise UsageError(f"decoder {text!r}: expected python:package.module:function")
        return Spec(text, fresh=fresh, threads=threads, always=always)
    command = template(text, "decoder", {"stream", "output"}, {"model", "trace", "threads"})
    more = _words(threads_arg, "threads argument", {"threads"}) if threads is not None else ()
    if ("{threads}" in " ".join((*command, *more))) != (threads is not None):
        raise UsageError("--threads and {threads} need each other: the latter in --decoder or in --threads-arg")
    return Spec(
        text,
        (*command, *more),
        _words(model_arg, "model argument", {"model"}),
        _words(trace_arg, "trace argument", {"trace"}),
        threads=threads,
        always=always,
    )


def parse_server(text: str, threads: int | None = None, always: bool = False) -> Spec:
    """Parse the command of a server.

    Parameters
    ----------
    text : str
        The command.
    threads : int or None
        For the field ``threads`` of requests.
    always : bool
        Every stream comes with a model.

    Returns
    -------
    Spec

    Raises
    ------
    UsageError
        As `template`.
    """
    return Spec(text, template(text, "server", set(), set()), threads=threads, serves=True, always=always)


class _Command:
    """A decoder as a program: a new process for every stream."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def run(self, job: Job, stop: threading.Event) -> Ended:
        words = self._spec.command
        words += self._spec.model_words if job.model else ()
        words += self._spec.trace_words if job.trace else ()
        values = {
            "stream": job.stream,
            "output": job.output,
            "model": job.model,
            "trace": job.trace,
            "threads": self._spec.threads,
        }
        return process.run(filled(words, values), job.limits, job.folder, stop)

    def close(self) -> None:
        pass


class Server:
    """A process that serves many streams, restarted after a crash, a time-out, too much memory or a wrong answer."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self._spec, self._folder = spec, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0

    @property
    def runs(self) -> bool:
        """Whether there is a process, which has decoded something."""
        return self._process is not None

    def run(self, job: Job, stop: threading.Event) -> Ended:
        """Decode one stream; raises NotStarted if the process does not greet."""
        if self._process is None:
            self._start(job.limits, stop)
        if self._process is None:
            return Ended(0, process.INTERRUPTED)
        started = self._errors.seek(0, os.SEEK_END)
        self._number += 1
        request = {
            "id": self._number,
            "stream": str(job.stream),
            "output": str(job.output),
            "model": job.model and str(job.model),
            "trace": job.trace and str(job.trace),
            "threads": self._spec.threads,
        }
        ended, answered = self._ask(request, self._watch, started)
        if not answered or self._spec.fresh or self._process.poll() is not None:
            self.close()
        return ended

    def _command(self) -> tuple[list[str], dict[str, str]]:
        """The command, and variables of its environment."""
        if self._spec.serves:
            return list(self._spec.command), {}
        paths = [os.getcwd(), str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-m", "conformance.run.worker", self._spec.callable]
        return command, {"PYTHONPATH": os.pathsep.join(paths)}

    def _start(self, limits: Limits, stop: threading.Event) -> None:
        (command, variables), mark = self._command(), process.new_mark()
        path = self._folder / f"server-{threading.get_ident()}.txt"
        with open(path, "wb") as stderr:
            self._errors = open(path, "rb")  # a separate position, which the server does not share
            self._process = process.start(
                command,
                limits,
                self._folder,
                mark,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr.fileno(),
                variables=variables,
            )
        self._family = Family(self._process.pid, mark)
        self._watch = Watch(self._family, limits, stop)
        seconds = limits.seconds if self._spec.serves else _IMPORT_SECONDS
        ready, greeted = self._ask(None, Watch(self._family, replace(limits, seconds=seconds), stop), 0)
        if not greeted:
            self.close()
            if ready.stopped != process.INTERRUPTED:
                late = f"it did not begin within {seconds:g} s with the line {json.dumps(_GREETING)}"
                says = late if ready.stopped == process.TIMEOUT else last_line(ready.stderr) or ready.stopped
                raise NotStarted(f"decoder {self._spec.text!r}: {says}")

    def _ask(self, request: Mapping[str, object] | None, watch: Watch, errors_from: int) -> tuple[Ended, bool]:
        """Send a request, or wait for the greeting if it is None; how it ended, and whether the answer is one."""
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
            while not stopped and b"\n" not in reply and len(reply) < _MAX_REPLY:
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
        if b"\n" in reply:
            code, says = answer(reply, request and request["id"])
            stderr += f"\n{says}".encode("utf-8", "replace")
            return Ended(70 if code is None else code, "", seconds, watch.peak, reply, stderr), code is not None
        if not stopped and len(reply) < _MAX_REPLY:
            self._wait_for_end(watch)
        self._family.end()
        code = self._process.wait() or 70
        if not stopped and not last_line(stderr):
            stderr = b"the decoder ended without an answer"
        return Ended(code, stopped, seconds, watch.peak, b"", stderr), False

    def _wait_for_end(self, watch: Watch) -> None:
        """Give a server that closed its pipe the time to end by itself, so that its exit code is known."""
        assert self._process is not None
        until = time.monotonic() + _ENDING_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            time.sleep(watch.pause())

    def close(self) -> None:
        """End the process; the next stream starts another."""
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


def answer(reply: bytes, number: object) -> tuple[int | None, str]:
    """Exit code and message of a server's answer; None and what is wrong for anything else.

    Parameters
    ----------
    reply : bytes
        All that was read, at least one line.
    number : int or None
        The id of the request; None for the greeting.
    """
    try:
        value = read_json(reply)
    except ValueError:
        value = None
    if number is None:
        if value == _GREETING:
            return 0, ""
        return None, f"a server begins with the line {json.dumps(_GREETING)}, this one with {_shown(reply)}"
    code = value.get("exit_code") if isinstance(value, dict) else None
    if not isinstance(value, dict) or type(code) is not int or not 0 <= code < 256:
        return None, f'no answer: expected a line such as {{"id": {number}, "exit_code": 0}}, got {_shown(reply)}'
    if type(value.get("id")) is not int or value["id"] != number:
        return None, f"the answer is for request {value.get('id')!r}, asked was {number}"
    message = value.get("message")
    return code, message if isinstance(message, str) else ""


def _shown(reply: bytes) -> str:
    """The beginning of an answer, for messages."""
    text = reply.decode("utf-8", "replace").strip()
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
