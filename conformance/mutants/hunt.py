"""Runs mutants: each in a forked process that loads the changed source and decodes vector after vector.

The process that hunts must not have imported the package that the mutants change; what they need beside it is loaded
once before the first fork, so that a mutant costs little more than the import of the package. A process that crashes
or takes too long is ended, the vector at work counts as killing, and the rest goes on in a new process.
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

from .judge import Task, judge
from .mutant import Mutant, install

MEMORY = 4 << 30
"""Bytes of address space of a mutant's process."""

PATIENCE = 10.0
"""A vector may take this many times as long as the original's; and ``LEAST`` seconds at all events."""

LEAST = 10.0

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
    """Import what mutants need beside the package they change; the NumPy way needs no Numba."""
    os.environ["REFCODEC_BACKEND"] = "numpy"
    for name in _NEEDED:
        import_module(name)


def _work(hunt: Hunt, pipe: Connection) -> None:
    """The forked process: verdicts go up the pipe one by one."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    if hunt.mutant:
        install(hunt.mutant.module, hunt.source)
    for task in hunt.tasks[hunt.at:]:
        began = time.monotonic()
        try:
            verdict = judge(task)
        except BaseException as error:
            verdict = f"crash {type(error).__name__}"
        pipe.send((verdict, time.monotonic() - began))


def _start(hunt: Hunt) -> None:
    up, down = Pipe(duplex=False)
    hunt.began = time.monotonic()
    hunt.child = os.fork()
    if hunt.child == 0:
        code = 1
        try:
            up.close()
            _work(hunt, down)
            code = 0
        finally:
            os._exit(code)
    down.close()
    hunt.pipe = up


def _end(hunt: Hunt) -> None:
    with suppress(ProcessLookupError):
        os.kill(hunt.child, signal.SIGKILL)
    os.waitpid(hunt.child, 0)
    if hunt.pipe:
        hunt.pipe.close()
    hunt.pipe = None


def _message(hunt: Hunt, limits: Callable[[Task], float]) -> tuple[str, float, bool] | None:
    """A verdict, its seconds and whether the process is lost; None while there is nothing to say."""
    assert hunt.pipe is not None
    seconds = time.monotonic() - hunt.began
    if hunt.pipe.poll():
        try:
            return *hunt.pipe.recv(), False
        except EOFError:
            return "crash of the process", seconds, True
    return ("timeout", seconds, True) if seconds > limits(hunt.tasks[hunt.at]) else None


def _advance(hunt: Hunt, limits: Callable[[Task], float], whole: bool) -> bool:
    """Take what the process has to say, and end it if need be; whether the hunt is over."""
    message = _message(hunt, limits)
    if message is None:
        return False
    task, (verdict, seconds, lost) = hunt.tasks[hunt.at], message
    hunt.verdicts[task.id], hunt.seconds[task.id] = verdict, seconds
    hunt.at, hunt.began = hunt.at + 1, time.monotonic()
    over = hunt.at == len(hunt.tasks) or (bool(verdict) and not whole)
    if lost or over:
        _end(hunt)
    if lost and not over:
        _start(hunt)
    return over


def run(hunts: Sequence[Hunt], jobs: int, limits: Callable[[Task], float], whole: bool = False) -> Iterator[Hunt]:
    """Run hunts side by side and give each when it is over.

    Parameters
    ----------
    hunts : sequence of Hunt
        Each with at least one task.
    jobs : int
        Processes at a time.
    limits : callable(task) -> float
        Seconds that a vector may take.
    whole : bool
        Try every vector; else a mutant's hunt ends with the first that notices it.
    """
    waiting, active = list(reversed(hunts)), list[Hunt]()
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                active.append(waiting.pop())
                _start(active[-1])
            wait([hunt.pipe for hunt in active if hunt.pipe], timeout=0.5)
            for hunt in list(active):
                if _advance(hunt, limits, whole):
                    active.remove(hunt)
                    yield hunt
    finally:
        for hunt in active:
            _end(hunt)


def baseline(tasks: Sequence[Task], jobs: int) -> dict[str, float]:
    """Seconds that the original takes for each vector.

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
