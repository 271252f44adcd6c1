"""Runs mutants: each in a forked process that loads the changed source and decodes vector after vector.

The process that runs the mutants must not have imported the package that the mutants change; what they need in addition
is loaded once before the first fork, so that a mutant costs little more than the import of the package. A process that
crashes or takes too long is ended, the vector at work counts as killing, and the rest goes on in a new process.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from .judge import Task, judge
from .mutant import Mutant, install

Limits = Callable[[Task], float]

MEMORY = 11 << 26
"""Bytes of address space that a mutant's process may take beyond what it begins with: what the kit's vectors need, so
that a bound that is lost shows. What it begins with differs, for NumPy's library takes some for every core."""

PATIENCE = 10.0
"""A vector may take this many times the processor's time that the original takes; and ``LEAST`` seconds at all
events. Time on a clock would count what other programs do."""

LEAST = 3.0

WAIT = 1800.0
"""Seconds on a clock after which a process that does nothing is ended."""

_NEEDED = ("numpy", "h5py", "PIL.Image", "json", "hashlib", "concurrent.futures")


@dataclass
class Hunt:
    """One mutant at work.

    Attributes
    ----------
    mutant : Mutant or None
        None for the original.
    tasks : sequence of Task
        In the order in which they are tried.
    source : str
        The changed source of the mutant's module.
    verdicts : dict of str to str
        "" or what was noticed, by vector.
    seconds : dict of str to float
        What each vector took.
    """

    mutant: Mutant | None
    tasks: Sequence[Task]
    source: str = ""
    verdicts: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    at: int = 0
    began: float = 0.0
    child: int = 0
    pipe: Connection | None = None

    @property
    def killers(self) -> list[str]:
        """Vectors that notice the mutant, in the order of trial."""
        return [name for name, verdict in self.verdicts.items() if verdict]


def preload() -> None:
    """Import what mutants need in addition to the package they change."""
    for name in _NEEDED:
        import_module(name)


def _address_space() -> int:
    """Bytes of address space that this process holds; 4 GiB where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 4 << 30


def _work(hunt: Hunt, pipe: Connection, limits: Limits) -> None:
    """The forked process, which uses NumPy alone: verdicts go up the pipe one by one."""
    os.environ["REFCODEC_BACKEND"] = "numpy"  # here, for the process above may have other work
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_DFL)
    most = _address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    if hunt.mutant:
        install(hunt.mutant.module, hunt.source)
    for task in hunt.tasks[hunt.at :]:
        signal.setitimer(signal.ITIMER_PROF, limits(task))  # its signal ends the process
        began = time.process_time()
        try:
            verdict = judge(task)
        except BaseException as error:
            verdict = f"crash {type(error).__name__}"
        pipe.send((verdict, time.process_time() - began))


def _start(hunt: Hunt, limits: Limits) -> None:
    up, down = Pipe(duplex=False)
    hunt.began = time.monotonic()
    hunt.child = os.fork()
    if hunt.child == 0:
        code = 1
        try:
            up.close()
            _work(hunt, down, limits)
            code = 0
        finally:
            os._exit(code)
    down.close()
    hunt.pipe = up


def _end(hunt: Hunt) -> int:
    """End the process; the signal that had ended it before, or 0 or SIGKILL."""
    with suppress(ProcessLookupError):
        os.kill(hunt.child, signal.SIGKILL)
    status = os.waitpid(hunt.child, 0)[1]
    if hunt.pipe:
        hunt.pipe.close()
    hunt.pipe = None
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _message(hunt: Hunt) -> tuple[str, float] | None:
    """A verdict and its seconds, or "" and -1 for a process that is lost; None while there is nothing to say."""
    assert hunt.pipe is not None
    if hunt.pipe.poll():
        try:
            verdict, seconds = hunt.pipe.recv()
            return str(verdict), float(seconds)
        except EOFError:
            return "", -1.0
    return ("", -1.0) if time.monotonic() - hunt.began > WAIT else None


def _advance(hunt: Hunt, limits: Limits, whole: bool) -> bool:
    """Read the process's results, and restart it if it is lost; True if the mutation run is over."""
    message = _message(hunt)
    if message is None:
        return False
    task, (verdict, seconds) = hunt.tasks[hunt.at], message
    if lost := seconds < 0:
        verdict = "timeout" if _end(hunt) in (signal.SIGPROF, signal.SIGKILL) else "crash of the process"
    hunt.verdicts[task.id], hunt.seconds[task.id] = verdict, seconds
    hunt.at, hunt.began = hunt.at + 1, time.monotonic()
    over = hunt.at == len(hunt.tasks) or (bool(verdict) and not whole)
    if over and not lost:
        _end(hunt)
    if lost and not over:
        _start(hunt, limits)
    return over


def run(hunts: Sequence[Hunt], jobs: int, limits: Limits, whole: bool = False) -> Iterator[Hunt]:
    """Run mutation runs in parallel and yield each when it is over.

    Parameters
    ----------
    hunts : sequence of Hunt
        Each with at least one task.
    jobs : int
        Processes at a time.
    limits : callable(task) -> float
        Seconds of processor time that a vector may take.
    whole : bool
        Try every vector; else a mutant's run ends with the first that kills it.

    Yields
    ------
    Hunt
        In the order in which they end.
    """
    waiting, active = list(reversed(hunts)), list[Hunt]()
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                active.append(waiting.pop())
                _start(active[-1], limits)
            wait([hunt.pipe for hunt in active if hunt.pipe], timeout=0.5)
            for hunt in tuple(active):
                if _advance(hunt, limits, whole):
                    active.remove(hunt)
                    yield hunt
    finally:
        for hunt in active:
            if hunt.pipe:
                _end(hunt)


def baseline(tasks: Sequence[Task], jobs: int) -> dict[str, float]:
    """Seconds of processor time that the original takes for each vector.

    Raises
    ------
    ValueError
        The original itself fails a vector.
    """
    parts = [Hunt(None, tasks[n::jobs]) for n in range(jobs) if tasks[n::jobs]]
    seconds: dict[str, float] = {}
    for hunt in run(parts, jobs, lambda task: 300.0, whole=True):
        for name in hunt.killers:
            raise ValueError(f"the decoder without a change fails {name}: {hunt.verdicts[name]}")
        seconds |= hunt.seconds
    return seconds
