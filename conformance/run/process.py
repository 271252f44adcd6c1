"""A program in a separate session, under limits of time, memory and file size; POSIX only.

Two watches guard memory: the system refuses allocations beyond the limit (`RLIMIT_DATA`, each process for itself), and
the sum over all processes of the program is sampled. When the program ends or is ended, all of them are killed, so that
nothing that it started runs on.

A process belongs to the program if it is in its session, inherited its environment (a variable marks it), or is a child
of one that belongs; what belonged once belongs for good. So a daemon that leaves the session is found, too. This needs
``/proc``, which Linux has. Elsewhere the process group alone is killed, and memory is not sampled.

A process that has left the session and its environment, and whose parents ended between two looks, belongs to nothing
that is known. With `adopt_orphans` it becomes a child of the runner, and is killed as soon as no program runs.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..kit.errors import UsageError

TIMEOUT, MEMORY, INTERRUPTED = "timeout", "memory", "interrupted"
"""Why the runner ended a program."""

KEPT = 64 << 10
"""Bytes of each output that are kept, from its end."""

SHORTEST, LONGEST = 0.002, 0.05
"""Seconds between two looks at a program: the first, and the most."""

MARK = "CONFORMANCE_PROGRAM"
"""Variable of the environment whose value is different for each program that is started."""

_PATIENCE = 5.0
"""Seconds for killing what a program left: the system may need some to end a process that waits for a disk."""

_SHELL = "/bin/sh"
_WRAP = 'ulimit -c 0; ulimit -d "$1" && ulimit -f "$2" || exit 126; shift 2; exec "$@"'
"""Sets limits and becomes the program: no code of ours runs in a forked child of a threaded process."""

_NAME = "conformance-start"
"""Name under which the shell speaks: messages that begin with it are its own, the program has another name."""

_NOT_STARTED = (126, 127)
"""Exit codes of a shell that could not set the limits or become the program."""


_SUBREAPER = 36
"""Linux's PR_SET_CHILD_SUBREAPER: orphans among this process's descendants become its children."""


class NotStarted(UsageError):
    """The program cannot be started at all."""


@dataclass(frozen=True)
class Limits:
    """Resources that a program may use.

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
    """The command with the full path of its program.

    Raises
    ------
    UsageError
        There is none of this name, or the system cannot execute it.
    """
    program = shutil.which(command[0]) if command else None
    if program is None:
        if command and os.path.isfile(command[0]):
            raise UsageError(f"{command[0]!r} is not executable")
        raise UsageError(f"no program {command[0]!r}" if command else "an empty command")
    _check_format(program)
    return (os.path.abspath(program), *command[1:])


def _kind(path: str) -> bytes:
    """The beginning of a file; of an ELF file its class, byte order and machine."""
    with open(path, "rb") as file:
        head = file.read(20)
    return head[:6] + head[18:20] if head.startswith(b"\x7fELF") else head


def _check_format(program: str) -> None:
    """Refuse a program of another machine; raises NotStarted.

    The shell treats such a file as a shell script, and the run would fail vector by vector. Only a file that is
    empty, or binary and of another kind than this Python's own, is started here, for a moment and without arguments.
    """
    try:
        kind = _kind(program)
        if kind and ((b"\0" not in kind and b"\x7f" not in kind) or kind == _kind(os.path.realpath(sys.executable))):
            return
    except OSError:  # an executable need not be readable
        return
    try:
        tried = subprocess.Popen(
            [program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise NotStarted(f"{program} cannot be started: {error.strerror}") from error
    kill_group(tried.pid)
    tried.wait()


def wrapped(command: Sequence[str], limits: Limits) -> list[str]:
    """The command behind a shell that sets the limits and then becomes it; raises UsageError where there is none."""
    if not os.path.exists(_SHELL):
        raise UsageError(f"the runner needs {_SHELL}, which POSIX systems have")
    blocks = -(-limits.file // 512)
    return [_SHELL, "-c", _WRAP, _NAME, str(limits.memory >> 10), str(blocks), *command]


def environment(folder: Path, mark: str) -> dict[str, str]:
    """The environment of a program: ours, with a separate folder for temporary files and its mark."""
    return {**os.environ, "TMPDIR": str(folder), MARK: mark}


def new_mark() -> str:
    """A value for `MARK` that no other program has."""
    return secrets.token_hex(16)


def start(
    command: Sequence[str],
    limits: Limits,
    folder: Path,
    mark: str,
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a separate session.

    Parameters
    ----------
    command : sequence of str
    limits : Limits
        Of memory and file size; the caller watches the time.
    folder : Path
        Working folder, and the parent of the program's temporary files.
    mark : str
        Value of the environment variable that identifies its processes.
    stdin, stdout, stderr : int
        File descriptors, or constants of `subprocess`.
    variables : mapping of str to str or None
        Further environment variables.

    Returns
    -------
    subprocess.Popen

    Raises
    ------
    NotStarted
        The system refuses: the command is too long, or there are too many processes.
    """
    _orphanage.enter()
    try:
        return subprocess.Popen(
            wrapped(command, limits),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            env={**environment(folder, mark), **(variables or {})},
        )
    except (OSError, ValueError) as error:
        _orphanage.leave()
        raise NotStarted(f"{command[0]} cannot be started: {getattr(error, 'strerror', error)}") from error


def check_started(program: str, exit_code: int, stderr: bytes) -> None:
    """Check that the shell could set the limits and start the program.

    Parameters
    ----------
    program : str
        Name for messages.
    exit_code : int
    stderr : bytes
        Standard error of the process.

    Raises
    ------
    NotStarted
        It could not.
    """
    line = stderr.split(b"\n")[0].decode("utf-8", "replace")
    if line.startswith(f"{_NAME}:") and (exit_code in _NOT_STARTED or ": ulimit:" in line):
        raise NotStarted(f"{program} cannot be started: {line.partition(': ')[2]}")


class _Process(NamedTuple):
    """A line of the system's table of processes; ``key`` is its number and its start, ``ended`` a zombie's state."""

    key: tuple[int, int]
    parent: int
    session: int
    resident: int
    ended: bool


def _read(number: str) -> _Process | None:
    """A process by its number; None if it has ended, or where there is no /proc."""
    try:
        with open(f"/proc/{number}/stat", "rb") as file:
            # the name in parentheses may hold anything; state is the first field behind it
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 22:
        return None
    return _Process(
        (int(number), int(fields[19])),
        int(fields[1]),
        int(fields[3]),
        int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        fields[0] in (b"Z", b"X"),
    )


def _table() -> list[_Process]:
    """All processes; none where there is no /proc."""
    try:
        numbers = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    return [process for process in map(_read, numbers) if process]


class _Orphanage:
    """Knows how many programs run, and ends what they left when none does."""

    def __init__(self) -> None:
        self.open = False
        self._lock, self._programs, self._leaders = threading.Lock(), 0, set[tuple[int, int]]()

    def enter(self) -> None:
        """A program is about to start."""
        with self._lock:
            self._programs += 1

    def leave(self, leader: tuple[int, int] | None = None) -> None:
        """A program has ended, or did not start. Its first process is not an orphan: who started it waits for it."""
        with self._lock:
            self._programs -= 1
            if self.open:
                self._leaders |= {leader} if leader else set()
                if not self._programs:
                    self._end_orphans()

    def _end_orphans(self) -> None:
        """Kill the children of this process that lead or joined other sessions: its own helpers share its session."""
        own, session, until = os.getpid(), os.getsid(0), time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            table = _table()
            self._leaders &= {process.key for process in table}
            orphans = [p for p in table if p.parent == own and p.session != session and p.key not in self._leaders]
            if not orphans:
                return
            for orphan in orphans:
                try:
                    os.kill(orphan.key[0], signal.SIGKILL)
                    os.waitpid(orphan.key[0], os.WNOHANG)
                except (ProcessLookupError, PermissionError, ChildProcessError):
                    continue
            time.sleep(SHORTEST)


_orphanage = _Orphanage()


def adopt_orphans() -> None:
    """Have Linux give this process the orphans among its descendants; elsewhere nothing changes.

    Only for a process that starts no children but through this module, or in its own session: it kills the others.
    """
    try:
        _orphanage.open = ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return


class Family:
    """The processes that belong to a program.

    Parameters
    ----------
    leader : int
        Number of its first process, which leads its session.
    mark : str
        Value of `MARK` in its environment.
    """

    def __init__(self, leader: int, mark: str) -> None:
        self._leader, self._mark = leader, f"{MARK}={mark}".encode()
        first = _read(str(leader))  # not reaped yet, so it is there
        self._start, self._first = first.key[1] if first else 0, first and first.key
        self._ended = False
        self._ours = {first.key} if first else set[tuple[int, int]]()

    def _belongs(self, process: _Process) -> bool:
        """Whether it is in the session or has the mark; what is older than the program has neither."""
        if process.key in self._ours or process.key[1] < self._start:
            return False
        if process.session == self._leader:
            return True
        try:
            with open(f"/proc/{process.key[0]}/environ", "rb") as file:
                return self._mark in file.read()
        except OSError:  # it has ended, or belongs to another user
            return False

    def members(self) -> list[_Process]:
        """Those that run now."""
        table = {process.key[0]: process for process in _table()}
        self._ours |= {process.key for process in table.values() if self._belongs(process)}
        self._add_children(table)
        return [process for process in table.values() if process.key in self._ours and not process.ended]

    def _add_children(self, table: Mapping[int, _Process]) -> None:
        """Add what members started, and what that started, though its environment was changed."""
        while True:
            numbers = {key[0] for key in self._ours if key[0] in table and table[key[0]].key == key}
            fresh = {p.key for p in table.values() if p.parent in numbers} - self._ours
            if not fresh:
                return
            self._ours |= fresh

    def resident(self) -> int:
        """Bytes resident of all members; 0 where the system does not say."""
        return sum(process.resident for process in self.members())

    def end(self) -> None:
        """Kill all members, and what they start meanwhile; returns when none is left, or after a few seconds."""
        kill_group(self._leader)
        until = time.monotonic() + _PATIENCE
        while (left := self.members()) and time.monotonic() < until:
            for process in left:
                try:
                    os.kill(process.key[0], signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
            time.sleep(SHORTEST)
        if not self._ended:
            self._ended = True
            _orphanage.leave(self._first)


def kill_group(pid: int) -> None:
    """End every process of a group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


class Watch:
    """Looks after one program: time since `restart`, memory, and whether the runner was interrupted."""

    def __init__(self, family: Family, limits: Limits, stop: threading.Event) -> None:
        self._family, self._limits, self._stop = family, limits, stop
        self.restart()

    def restart(self) -> None:
        """Begin to count again."""
        self.started, self.peak, self._pause = time.monotonic(), 0, SHORTEST

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def look(self) -> str:
        """Why the program must be ended now, or ""."""
        now = self._family.resident()
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


def tail(file: BinaryIO, start: int = 0) -> bytes:
    """The last bytes of a file that is open, not before ``start``: its name may be gone."""
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

    Raises
    ------
    NotStarted
    """
    mark = new_mark()
    with open(folder / "stdout", "w+b") as out, open(folder / "stderr", "w+b") as err:
        process = start(
            command, limits, folder, mark, stdin=subprocess.DEVNULL, stdout=out.fileno(), stderr=err.fileno()
        )
        family = Family(process.pid, mark)
        watch, stopped = Watch(family, limits, stop or threading.Event()), ""
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
            family.end()
            code = process.wait()
        ended = Ended(code, stopped, seconds, watch.peak, tail(out), tail(err))
    if not stopped:
        check_started(command[0], ended.exit_code, ended.stderr)
    return ended
