"""Record of earlier batches, in a file of every folder of outputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import OutputError

JOURNAL = ".refcodec-batch.jsonl"
"""In the folder of outputs: a line for every file that was done."""


def digest_of(path: str) -> str:
    """SHA-256 of a file; raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Journal:
    """Record of earlier runs, one JSON object per line; any other line is ignored.

    Parameters
    ----------
    folder : str
        The folder of outputs.
    """

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, JOURNAL)
        self._known: dict[tuple[str, str], tuple[str, str]] = {}
        with contextlib.suppress(OSError, UnicodeDecodeError):
            for line in Path(self._path).read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    key = str(entry["target"]), str(entry["options"])
                    self._known[key] = str(entry["input"]), str(entry["output"])

    @property
    def made(self) -> frozenset[str]:
        """Names of files that were done in this folder."""
        return frozenset(name for name, _ in self._known)

    def known(self, target: str, options: str) -> tuple[str, ...]:
        """SHA-256 of input and output of an earlier run with these options."""
        return self._known.get((os.path.basename(target), options), ())

    def add(self, target: str, options: str, sha256: Sequence[str]) -> None:
        """Record a file that is done.

        Parameters
        ----------
        target : str
            The output.
        options : str
            Digest of the options.
        sha256 : sequence of two str
            Of input and output.

        Raises
        ------
        OutputError
            The journal cannot be written.
        """
        entry = {"target": os.path.basename(target), "options": options, "input": sha256[0], "output": sha256[1]}
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OutputError("the journal cannot be written", where=self._path, detail=str(error.strerror)) from error


class Journals:
    """The journals of all folders of outputs; each is read once."""

    def __init__(self) -> None:
        self._found: dict[str, Journal] = {}

    def of(self, folder: str) -> Journal:
        """The journal of a folder, whatever its name."""
        key = os.path.realpath(folder)
        if key not in self._found:
            self._found[key] = Journal(folder)
        return self._found[key]
