"""Runs mutants of the runner: each against the runner's tests, in a copy of the kit in which one file is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ..kit.errors import UsageError
from ..run.files import remove
from .mutant import ROOT, Mutant

FOLDERS = "kit", "run"
"""Folders of tests/conformance whose tests must notice."""

FIRST = {
    "outcomes": "outcomes",
    "baseline": "outcomes",
    "pictures": "outcomes",
    "claim": "claim",
    "suites": "suites",
    "report": "reports",
    "report_junit": "reports",
    "run": "reports",
    "order": "choosing",
    "rerun": "choosing",
    "decoders": "serving",
    "blocks": "blocks",
}
"""The file that is tried first, by the last part of a mutant's module; for others it is that of the runner."""

LIMIT = 600
"""Seconds for all tests together; beyond, a mutant is noticed by its delay."""


def copy_kit(folder: Path, mutant: Mutant | None) -> None:
    """Lay the checkout out in a folder: sources of the kit as files, everything else as links to it."""
    for entry in ROOT.iterdir():
        if entry.name not in ("conformance", "tests", ".git"):
            (folder / entry.name).symlink_to(entry)
    for name in ("conformance", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("data", "__pycache__"))
    if (ROOT / "conformance" / "data").is_dir():
        (folder / "conformance" / "data").symlink_to(ROOT / "conformance" / "data")
    if mutant:
        target = folder / mutant.path.relative_to(ROOT)
        target.write_text(mutant.apply(target.read_text(encoding="utf-8")), encoding="utf-8")


def tests_of(mutant: Mutant | None) -> list[str]:
    """Test files in the order in which they are tried."""
    top = ROOT / "tests" / "conformance"
    found = [path for name in FOLDERS for path in sorted((top / name).glob("test_*.py"))]
    first = FIRST.get(mutant.module.rpartition(".")[2], "runner") if mutant else ""
    return [
        path.relative_to(ROOT).as_posix() for path in sorted(found, key=lambda path: path.name != f"test_{first}.py")
    ]


def _failing(folder: Path, tests: Sequence[str]) -> str:
    """The first of some tests that fails, "" if all pass; raises UsageError if pytest cannot run them."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    every = ["-m", "slow or not slow"]  # pytest leaves slow tests out unless told
    own = ["--basetemp", str(folder / "tests-temporary")]  # what a mutant leaves must not meet the next pytest
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", *every, *own, *tests]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return "timeout"
    if done.returncode == 0:
        return ""
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if not failed:
        raise UsageError(f"pytest ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}")
    return failed[0].partition(" ")[2].partition(" - ")[0]


def notice(mutant: Mutant | None, known: str = "") -> str:
    """The first test that fails, "" if all pass.

    Parameters
    ----------
    mutant : Mutant or None
        None for no change.
    known : str
        The test that noticed it the last time, tried before all others.

    Raises
    ------
    UsageError
        pytest could not run the tests.
    """
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    try:
        copy_kit(folder, mutant)
        if known.startswith("tests/") and (folder / known.partition("::")[0]).is_file():
            try:
                if failed := _failing(folder, [known]):
                    return failed
            except UsageError:  # there is no such test any more
                pass
        return _failing(folder, tests_of(mutant))
    finally:
        remove(folder)  # deeper folders than Python's recursion may be in it


def hunt(
    mutants: Sequence[Mutant], jobs: int, known: Mapping[str, str], progress: Callable[[int, int, Mutant, str], None]
) -> dict[str, str]:
    """Find the test that kills each mutant.

    Parameters
    ----------
    mutants : sequence of Mutant
    jobs : int
        Mutants at a time.
    known : mapping of str to str
        What noticed them the last time.
    progress : callable(done, count, mutant, how)

    Returns
    -------
    dict of str to str
        The test by mutant; survivors are not in it.

    Raises
    ------
    UsageError
        The tests fail without a change.
    """
    if failed := notice(None):
        raise UsageError(f"the runner without a change fails {failed}")
    killers: dict[str, str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        asked = {pool.submit(notice, mutant, known.get(mutant.id, "")): mutant for mutant in mutants}
        for done, answer in enumerate(as_completed(asked), 1):
            mutant, how = asked[answer], answer.result()
            progress(done, len(mutants), mutant, how or "NOT NOTICED")
            if how:
                killers[mutant.id] = how
    return killers
