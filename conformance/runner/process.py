"""A program in a process group of its own, under limits of time, memory and file size; POSIX only.

Two watches guard memory: the system refuses allocations beyond the limit (`RLIMIT_DATA`, each process for itself), and
the sum over all processes of the session is sampled. When the program ends or is ended, its group is killed, so that
nothing it left behind runs on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError

TIMEOUT, MEMORY, INTERRUPTED = "timeout", "memory", "interrupted"
"""Why the runner ended a program."""

KEPT = 64 << 10
"""Bytes of each output that are kept, from its end."""

SHORTEST, LONGEST = 0.002, 0.05
"""Seconds between two looks at a program: the first, and the most."""

_SHELL = "/bin/sh"
_WRAP = 'ulimit -c 0; ulimit -d "$1"; ulimit -f "$2"; shift 2; exec "$@"'
"""Sets limits and becomes the program: no code of ours runs in a forked child of a threaded process."""


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes
    ----------
    seconds : float
    memory : int
        Bytes.
    file : int
        Bytes of each file that it writes.
    """

    seconds: float = 120.0
    memory: int = 4 << 30
    file: int = 256 << 20


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes
    ----------
    exit_code : int
        Below 0 the number of the signal that ended it.
    stopped : str
        "timeout", "memory" or "interrupted" if the runner ended it, else "".
    seconds : float
    peak : int
        Most bytes resident at once, over all its processes, sampled; 0 where the system does not tell.
    stdout, stderr : bytes
        The last 64 KiB.
    """

    exit_code: int
    stopped: str = ""
    seconds: float = 0.0
    peak: int = 0
    stdout: bytes = b""
    stderr: bytes = b""


def resolve(command: Sequence[str]) -> tuple[str, ...]:
    """The command with the full path of its program; raises UsageError if there is none."""
    program = shutil.which(command[0])
    if program is None:
        raise UsageError(f"no program {command[0]!r}")
    return (os.path.abspath(program), *command[1:])


def wrapped(command: Sequence[str], limits: Limits) -> list[str]:
    """The command behind a shell that sets the limits and then becomes it; raises UsageError where there is none."""
    if not os.path.exists(_SHELL):
        raise UsageError(f"the runner needs {_SHELL}, which POSIX systems have")
    blocks = -(-limits.file // 512)
    return [_SHELL, "-c", _WRAP, "sh", str(limits.memory >> 10), str(blocks), *command]


def environment(folder: Path) -> dict[str, str]:
    """The environment of a program: ours, with a folder of its own for temporary files."""
    return {**os.environ, "TMPDIR": str(folder)}


def resident(session: int) -> int:
    """Bytes resident of all processes of a session; 0 where there is no /proc."""
    total = 0
    try:
        numbers = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return 0
    for number in numbers:
        try:
            with open(f"/proc/{number}/stat", "rb") as file:
                # the name in parentheses may hold anything; state is the first field behind it
                fields = file.read().rpartition(b")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total


def kill_group(pid: int) -> None:
    """End every process of a group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


class Watch:
    """Looks after one process group: time since `restart`, memory, and whether the runner was interrupted."""

    def __init__(self, pid: int, limits: Limits, stop: threading.Event) -> None:
        self._pid, self._limits, self._stop = pid, limits, stop
        self.restart()

    def restart(self) -> None:
        """Begin to count anew."""
        self.started, self.peak, self._pause = time.monotonic(), 0, SHORTEST

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def look(self) -> str:
        """Why the group must be ended now, or ""."""
        now = resident(self._pid)
        self.peak = max(self.peak, now)
        if self._stop.is_set():
            return INTERRUPTED
        if self.seconds > self._limits.seconds:
            return TIMEOUT
        return MEMORY if now > self._limits.memory else ""

    def pause(self) -> float:
        """Seconds until the next look: short for short programs."""
        pause, self._pause = self._pause, min(1.5 * self._pause, LONGEST)
        return pause


def tail(path: Path, start: int = 0) -> bytes:
    """The last bytes of a file, not before ``start``."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - KEPT))
        return file.read(KEPT)


def run(command: Sequence[str], limits: Limits, folder: Path, stop: threading.Event | None = None) -> Ended:
    """Run a program to its end or to its limits.

    Parameters
    ----------
    command : sequence of str
        As `resolve` gives it.
    limits : Limits
    folder : Path
        Holds what it prints, and is its folder for temporary files.
    stop : threading.Event or None
        Ends it early when set.

    Returns
    -------
    Ended
    """
    out, err = folder / "stdout", folder / "stderr"
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = subprocess.Popen(wrapped(command, limits), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                                   start_new_session=True, env=environment(folder))
    watch, stopped = Watch(process.pid, limits, stop or threading.Event()), ""
    try:
        while not stopped and process.poll() is None:
            stopped = watch.look()
            if not stopped:
                try:
                    process.wait(watch.pause())
                except subprocess.TimeoutExpired:
                    pass
        seconds = watch.seconds
    finally:
        kill_group(process.pid)
        code = process.wait()
    return Ended(code, stopped, seconds, watch.peak, tail(out), tail(err))
