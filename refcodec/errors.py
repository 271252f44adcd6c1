"""The error taxonomy (SPEC 8.9): one class per kind of refusal, each with the exit code of the command line.

Every error says what was wrong, where (byte offset, file, SPEC section), with which values, and the likely cause, so
that one line is enough to act on. Public functions raise nothing else: a Python exception of another type that reaches
a caller is a bug of refcodec (exit code 70).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130
"""Exit code of a command that the user interrupts (SIGINT)."""

BUG = 70
"""Exit code of a fault of refcodec itself."""


class RefcodecError(Exception):
    """Base of all errors.

    Parameters
    ----------
    what : str
        What was wrong, one sentence without a full stop.
    where : str
        The place: a path, a byte offset, a SPEC section, a tensor name.
    cause : str
        The likely cause, or what to do.
    **values : Any
        The offending values by name, JSON-serialisable.
    """

    exit_code = BUG

    def __init__(self, what: str, *, where: str = "", cause: str = "", **values: Any) -> None:
        self.what, self.where, self.cause, self.values = what, where, cause, values
        super().__init__(what)

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"at {self.where}")
        if self.values:
            parts.append("(" + ", ".join(f"{name}={value}" for name, value in self.values.items()) + ")")
        line = " ".join(parts)
        return f"{line}; {self.cause}" if self.cause else line

    def fields(self) -> dict[str, Any]:
        """The same as fields, for ``--json``."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "values": self.values,
            "cause": self.cause,
            "exit_code": self.exit_code,
        }


class UsageError(RefcodecError):
    """An argument is missing, unknown or out of range."""

    exit_code = 2


class CheckFailed(RefcodecError):
    """A requested check (verify, compare --exact) failed."""

    exit_code = 1


class InvalidStream(RefcodecError):
    """The bytes are not a valid refcodec stream."""

    exit_code = 65


class BadMagic(InvalidStream):
    """The first bytes are not those of a refcodec stream."""


class HeaderError(InvalidStream):
    """A header field holds a value that SPEC 8.1 does not allow."""


class TruncatedStream(InvalidStream):
    """The stream is shorter than its header announces."""


class TrailingBytes(InvalidStream):
    """Bytes follow the end of the stream."""


class ChecksumError(InvalidStream):
    """The CRC-32C does not match the bytes it covers."""


class ChunkError(InvalidStream):
    """A metadata chunk is malformed, duplicated or too long."""


class CoderError(InvalidStream):
    """The entropy-coded words are impossible: exhausted, left over, or a wrong final state."""


class SymbolError(InvalidStream):
    """A decoded symbol exceeds the bound of SPEC 7.2."""


class InvalidImage(RefcodecError):
    """The input file is not a readable picture."""

    exit_code = 65


class MissingInput(RefcodecError):
    """The input does not exist or is not a file."""

    exit_code = 66


class Unsupported(RefcodecError):
    """Well-formed, but outside what this version handles."""

    exit_code = 69


class UnknownVersion(Unsupported):
    """The stream's version is not one this decoder knows."""


class UnknownRequiredChunk(Unsupported):
    """A chunk marked as required is not known to this decoder."""


class OutputError(RefcodecError):
    """The output cannot be created, or exists and --force was not given."""

    exit_code = 73


class TransferError(RefcodecError):
    """Reading or writing failed half-way."""

    exit_code = 74


class LimitExceeded(RefcodecError):
    """A declared limit refuses this input before memory is taken, or the system gives no more memory or threads."""

    exit_code = 77


class ModelError(RefcodecError):
    """The model is missing, or not the one the stream names."""

    exit_code = 78


class InvalidModel(ModelError):
    """The model file is damaged, has a wrong schema, or cannot be proved free of overflow."""


def check_flags(**flags: object) -> None:
    """Refuse arguments that are neither true nor false, by name: a word such as "no" would count as true.

    Raises
    ------
    UsageError
    """
    for name, value in flags.items():
        if type(value).__name__ not in ("bool", "bool_"):  # NumPy's is no bool
            raise UsageError("an argument is True or False", where=name, value=repr(value))


@contextmanager
def within_resources(action: str) -> Iterator[None]:
    """Report a lack of memory, threads or packages inside the block, or inside a function that this decorates.

    Parameters
    ----------
    action : str
        What is done, as the beginning of the message: "decoding".

    Raises
    ------
    LimitExceeded
        The system gave no more memory, or started no more threads.
    Unsupported
        A package is not installed.
    """
    try:
        yield
    except MemoryError as error:
        raise LimitExceeded(
            f"{action} needs more memory than the system gives",
            detail=str(error) or "MemoryError",
            cause="free memory, raise the limit of the process (ulimit -v, its container), or use a smaller picture",
        ) from error
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        raise LimitExceeded(
            f"{action} needs more threads than the system starts",
            detail=str(error),
            cause="use fewer threads (--threads), or raise the limit of the user or container (ulimit -u)",
        ) from error
    except ModuleNotFoundError as error:
        if (missing := missing_package(error)) is None:
            raise
        raise missing from error


PACKAGES = {
    "numpy": "numpy",
    "PIL": "pillow",
    "h5py": "refcodec[models]",
    "scipy": "refcodec[measure]",
    "numba": "numba",
    "llvmlite": "numba",
    "matplotlib": "refcodec[plot]",
    "imageio": "refcodec[imageio]",
    "mpmath": "refcodec[convert]",
    "torch": "refcodec[train]",
}
"""Packages that refcodec imports, by module, and what to install for each."""


def missing_package(error: BaseException) -> Unsupported | None:
    """The error to report for a module that is not installed; None if ``error`` is no lack of a known package."""
    if not isinstance(error, ModuleNotFoundError) or (name := (error.name or "").split(".")[0]) not in PACKAGES:
        return None
    return Unsupported(f"the package {name} is missing", cause=f'pip install "{PACKAGES[name]}"')
