"""Do all machines agree? The items of items.py computed in every way this host offers, each in a separate process.

Ways differ in the processor the compiler writes for, the backend, the number of threads, bounds checking, and the
Python and packages. A way that this host cannot run is shown as not run and never counts as agreement. Interpreters
named by the user compute with a copy of this package: any command that runs Python with refcodec's packages will do,
such as the Python of a virtual environment, or of another architecture under an emulator. For arm64 on Debian that is
``qemu-user``, an unpacked arm64 Python (``apt-get download python3.11:arm64`` and what it depends on, ``dpkg-deb -x``),
its wheels (``pip download --platform manylinux_2_28_aarch64 --only-binary=:all:``, unzipped), and a script with

    PYTHONPATH=$PYTHONPATH:$WHEELS PYTHONHOME=$ROOT/usr exec qemu-aarch64 -L $ROOT $ROOT/usr/bin/python3.11 "$@"
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import CheckFailed, UsageError
from ..io.console import note, result, result_json
from ..io.options import add_json

PACKAGE = Path(__file__).parents[1]

TIMEOUT = 3600
"""Seconds a way may take: an emulator compiles for many minutes."""

OWN = (sys.executable,)

ILLEGAL_INSTRUCTION = (-4, 132, 0xC000001D, 0xC000001D - (1 << 32))
"""Return codes of a process that met an instruction its processor lacks: signal 4, of a shell's child, Windows."""


@dataclass(frozen=True)
class Way:
    """One way of computing.

    Attributes
    ----------
    name : str
    command : tuple of str
        What runs Python.
    arguments : tuple of str
        Of ``refcodec.agreement.items``.
    variables : mapping of str to str
        Of the environment, besides what is inherited.
    cached : bool
        Use the user's compiled kernels; otherwise all are compiled again, which takes most of a way's time.
    """

    name: str
    command: tuple[str, ...] = OWN
    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    cached: bool = False


@dataclass(frozen=True)
class Outcome:
    """Result of one way of computing.

    Attributes
    ----------
    way : str
    status : str
        "agrees", "differs", "not run" where this host cannot, "failed" where it should have run.
    reason : str
        Why it was not run or failed.
    hashes, facts : dict
        As ``refcodec.agreement.items --json`` prints them; empty where there are none.
    differing : tuple of str
        Items unlike the first way's.
    seconds : float
    """

    way: str
    status: str
    reason: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    differing: tuple[str, ...] = ()
    seconds: float = 0.0

    def total(self) -> str:
        """One hash over all items, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.hashes, sort_keys=True).encode()).hexdigest()


def _processor(name: str) -> dict[str, str]:
    # Without the second variable Numba adds this host's instructions to the named processor's.
    return {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""}


def host_ways(machine: str | None = None) -> tuple[Way, ...]:
    """The ways of this host and interpreter, by the architecture; the first is what users run."""
    numba = ("--backend", "numba")
    ways = [
        Way("host", arguments=numba, cached=True),
        *(Way(f"threads-{n}", arguments=(*numba, "--threads", str(n)), cached=True) for n in (1, 2, 5)),
        Way("compiled", arguments=numba),
        Way("generic", arguments=numba, variables=_processor("generic")),
    ]
    if (machine or platform.machine()).lower() in ("x86_64", "amd64"):
        ways += [
            Way(name, arguments=numba, variables=_processor(cpu))
            for name, cpu in (
                ("avx2", "haswell"),
                ("avx512", "skylake-avx512"),
                ("avx512-vnni", "icelake-server"),
                ("avx-vnni", "alderlake"),
            )
        ]
    return (*ways, Way("numpy", arguments=("--backend", "numpy")))


QUICK = ("host", "generic", "avx2", "numpy")
"""Names for ``--quick``: the user's kernels, the least and the commonest processor, NumPy."""


def foreign_ways(command: str) -> list[Way]:
    """Both backends of another interpreter."""
    try:
        words = tuple(shlex.split(command, posix=os.name == "posix"))
    except ValueError as e:
        raise UsageError("not a command", where="--python", value=command, detail=str(e)) from None
    if not words or not shutil.which(words[0]):
        raise UsageError("no such program", where="--python", value=command)
    words = (str(Path(shutil.which(words[0]) or words[0]).absolute()), *words[1:])
    return [Way(f"{command} {backend}", words, ("--backend", backend)) for backend in ("numba", "numpy")]


def _environment(way: Way, folder: Path) -> dict[str, str]:
    """The inherited environment without what steers Numba or refcodec, and the way's own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NUMBA_", "REFCODEC_", "PYTHONPATH", "PYTHONHOME"))
    }
    if way.command == OWN:
        path = [str(PACKAGE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    else:
        path = [str(folder / "copy")]
    kept["PYTHONPATH"] = os.pathsep.join(p for p in path if p)
    if not way.cached:
        kept["NUMBA_CACHE_DIR"] = str(folder / hashlib.sha256(repr(way).encode()).hexdigest()[:16])
    elif "NUMBA_CACHE_DIR" in os.environ:
        kept["NUMBA_CACHE_DIR"] = os.environ["NUMBA_CACHE_DIR"]
    return {**kept, **way.variables}


def _copy_package(folder: Path) -> None:
    """Copy the package alone: next to it are this interpreter's packages, which another one cannot load."""
    if not (folder / "copy").exists():
        shutil.copytree(PACKAGE, folder / "copy" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))


def run_way(way: Way, folder: Path) -> Outcome:
    """Run one way; ``folder`` is a temporary one for its caches.

    Returns
    -------
    Outcome
        With the status "agrees": nothing is compared yet.
    """
    if way.command == OWN and "numba" in way.arguments and find_spec("numba") is None:
        return Outcome(way.name, "not run", "Numba is not installed")
    if way.command != OWN:
        _copy_package(folder)
    start = time.perf_counter()
    command = [*way.command, "-m", "refcodec.agreement.items", "--json", *way.arguments]
    try:
        done = subprocess.run(
            command, env=_environment(way, folder), cwd=folder, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return Outcome(way.name, "failed", str(e), seconds=time.perf_counter() - start)
    seconds = time.perf_counter() - start
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode in ILLEGAL_INSTRUCTION:
        return Outcome(way.name, "not run", "this processor lacks its instructions", seconds=seconds)
    if "not a recognized processor" in done.stderr:
        return Outcome(way.name, "not run", "this compiler does not know the processor", seconds=seconds)
    if way.command != OWN and "No module named 'numba'" in last:
        return Outcome(way.name, "not run", "Numba is not installed there", seconds=seconds)
    try:
        answer = json.loads(done.stdout)
        return Outcome(way.name, "agrees", "", answer["hashes"], answer["facts"], seconds=seconds)
    except (ValueError, KeyError, TypeError):
        return Outcome(way.name, "failed", f"exit code {done.returncode}: {last[:200]}", seconds=seconds)


def compare(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Give every way that ran its status: "agrees" or "differs" from the first that ran.

    An item that could not be computed ("error: ...") is a difference even where all ways share it.
    """
    ran = [o for o in outcomes if o.status == "agrees"]
    first: Mapping[str, str] = ran[0].hashes if ran else {}
    judged = []
    for o in outcomes:
        if o.status == "agrees":
            names = tuple(
                name
                for name in dict.fromkeys([*first, *o.hashes])
                if first.get(name) != o.hashes.get(name) or o.hashes[name].startswith("error")
            )
            o = Outcome(o.way, "differs" if names else "agrees", o.reason, o.hashes, o.facts, names, o.seconds)
        judged.append(o)
    return judged


def run(ways: Sequence[Way], progress: Callable[[str], None]) -> list[Outcome]:
    """Run the ways one after the other and compare them."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="refcodec-") as folder:
        for way in ways:
            progress(f"{way.name}: {len(outcomes) + 1} of {len(ways)}")
            outcomes.append(run_way(way, Path(folder)))
    return compare(outcomes)


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """One line a way: what computed, and the hashes of all items together and of the two coded pictures."""
    width = max(len(o.way) for o in outcomes)
    lines = [
        f"{'way':{width}s}  {'status':8s} {'processor':15s} {'multiplies by':14s} {'Python':8s} {'NumPy':7s} "
        f"{'Numba':7s} {'seconds':>7s}  {'all items':16s} {'default stream':16s} {'tiny stream':16s}"
    ]
    for o in outcomes:
        if not o.hashes:
            lines.append(f"{o.way:{width}s}  {o.status:8s} {o.reason}")
            continue
        f = o.facts
        numba = "cpu" in f
        values = (
            f["cpu"] if numba else f["architecture"],
            f.get("instruction", "-"),
            f["python"],
            f["numpy"],
            f.get("numba", "-") if numba else "-",
        )
        shown = [o.total()[:16], *(o.hashes.get(f"{name} stream", "-")[:16] for name in ("default", "tiny"))]
        lines.append(
            f"{o.way:{width}s}  {o.status:8s} {values[0]:15s} {values[1]:14s} {values[2]:8s} {values[3]:7s} "
            f"{values[4]:7s} {o.seconds:7.1f}  {' '.join(shown)}"
        )
    return lines


def chosen(args: argparse.Namespace) -> list[Way]:
    """The ways the arguments name.

    Raises
    ------
    UsageError
        A way or an interpreter is unknown.
    """
    known = {way.name: way for way in host_ways()}
    names = args.ways.split(",") if args.ways else [n for n in QUICK if n in known] if args.quick else list(known)
    if unknown := [name for name in names if name not in known]:
        raise UsageError("unknown ways", where="--ways", words=unknown, known=list(known))
    return [*(known[name] for name in names), *(way for command in args.python for way in foreign_ways(command))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``machines``."""
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--quick", action="store_true", help="only " + ", ".join(QUICK))
    some.add_argument(
        "--ways", metavar="NAMES", help="only these, separated by commas; " + ", ".join(way.name for way in host_ways())
    )
    parser.add_argument(
        "--python",
        metavar="COMMAND",
        action="append",
        default=[],
        help="another interpreter with refcodec's packages; may be repeated",
    )
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    UsageError
        A way or an interpreter is unknown.
    CheckFailed
        Some way gave other hashes or failed, or fewer than two ways ran.
    """
    outcomes = run(chosen(args), lambda name: note(f"machines: {name}"))
    bad = [o for o in outcomes if o.status in ("differs", "failed")]
    ran = [o for o in outcomes if o.hashes]
    facts: dict[str, Any] = {
        "ways": [
            {
                "way": o.way,
                "status": o.status,
                "reason": o.reason,
                "differing": list(o.differing),
                "facts": dict(o.facts),
                "all": o.total() if o.hashes else None,
                "hashes": dict(o.hashes),
                "seconds": o.seconds,
            }
            for o in outcomes
        ]
    }
    if not args.json:
        for line in table(outcomes):
            result(line)
        for o in bad:
            if o.differing:
                result(f"{o.way} differs from {ran[0].way} in: {', '.join(o.differing)}")
    if bad:
        raise CheckFailed(
            "some ways of computing disagree or failed",
            where=bad[0].way,
            items=sorted({name for o in bad for name in o.differing}),
            cause="a fault of refcodec, of Numba, of NumPy or of this machine: please report it",
            **(facts if args.json else {}),
        )
    if len(ran) < 2:
        raise CheckFailed("fewer than two ways ran, so nothing was compared", ways=[o.way for o in ran])
    if args.json:
        result_json(facts)
    else:
        result(f"{len(ran)} of {len(outcomes)} ways ran and agree on all {len(ran[0].hashes)} items")
    return 0
