"""Errors of the kit, each with the exit code of the command line. Nothing here imports refcodec."""

from __future__ import annotations

PASSED, FAILED, USAGE, INCOMPLETE, NOTHING_RAN, DAMAGED, CANNOT_WRITE, BUG, INTERRUPTED = 0, 1, 2, 3, 4, 5, 73, 70, 130
"""Exit codes of the runner's commands:

0    every vector that was asked for passed, or had exactly the result in the baseline
1    something failed, or passed although the baseline says that it fails
2    the command is wrong, or the decoder cannot be started at all
3    nothing failed, but some vectors were skipped or are not supported
4    nothing ran
5    a suite is damaged
70   a bug of the kit
73   the output cannot be written
130  interrupted
"""


class KitError(Exception):
    """Base of the kit's errors: one line that says what, where and why."""

    exit_code = BUG


class UsageError(KitError):
    """An argument is wrong."""

    exit_code = USAGE


class SuiteDamaged(KitError):
    """A manifest breaks its rules, or a file is not the one that it pins."""

    exit_code = DAMAGED


class NothingToDo(KitError):
    """No vector is left to run."""

    exit_code = NOTHING_RAN


class OutputFailed(KitError):
    """A report cannot be written."""

    exit_code = CANNOT_WRITE
