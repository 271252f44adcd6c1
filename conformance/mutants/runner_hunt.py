"""Runs mutants of the runner: each against the runner's tests, in a copy of the kit in which one file is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ..errors import UsageError
from .mutant import ROOT, Mutant

TESTS = ("test_suites.py", "test_runner_*.py")
"""Test files that must notice, as patterns; the quickest first."""

LIMIT = 600
"""Seconds for all tests together; beyond, a mutant is noticed by its delay."""


def copy_kit(folder: Path, mutant: Mutant | None) -> None:
    """Lay the checkout out in a folder: sources of the kit as files, everything else as links to it."""
    for entry in ROOT.iterdir():
        if entry.name not in ("conformance", "tests", ".git"):
            (folder / entry.name).symlink_to(entry)
    for name in ("conformance", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("suites", "models", "__pycache__"))
    for name in ("suites", "models"):
        if (ROOT / "conformance" / name).is_dir():
            (folder / "conformance" / name).symlink_to(ROOT / "conformance" / name)
    if mutant:
        target = folder / mutant.path.relative_to(ROOT)
        target.write_text(mutant.apply(target.read_text(encoding="utf-8")), encoding="utf-8")


def tests_of(folder: Path) -> list[str]:
    """Test files of a checkout, in the order of ``TESTS``."""
    return [f"tests/{path.name}" for pattern in TESTS for path in sorted((folder / "tests").glob(pattern))]


def notice(mutant: Mutant | None) -> str:
    """The first test that fails, "" if all pass.

    Raises
    ------
    UsageError
        pytest could not run them.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        copy_kit(folder, mutant)
        environment = {**os.environ, "PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", *tests_of(folder)]
        try:
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return "timeout"
        if done.returncode == 0:
            return ""
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        if not failed:
            raise UsageError(f"pytest ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}")
        return failed[0].split(" ")[1]


def hunt(mutants: Sequence[Mutant], jobs: int, progress: Callable[[int, int, Mutant, str], None]) -> dict[str, str]:
    """What noticed each mutant, by id; those that nothing noticed are not in it.

    Raises
    ------
    UsageError
        The tests fail without a change.
    """
    if failed := notice(None):
        raise UsageError(f"the runner without a change fails {failed}")
    killers: dict[str, str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        asked = {pool.submit(notice, mutant): mutant for mutant in mutants}
        for done, answer in enumerate(as_completed(asked), 1):
            mutant, how = asked[answer], answer.result()
            progress(done, len(mutants), mutant, how or "NOT NOTICED")
            if how:
                killers[mutant.id] = how
    return killers
