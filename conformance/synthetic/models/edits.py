"""Model files that differ from another in a few bytes: the kit holds what differs, decoders get the whole file.

Most are broken and must be refused; some are written in another way and hold the same model. They are made by the HDF5
library, and versions of it differ in their bytes. So what a manifest says once about such a model is kept.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np

from refcodec.model.integer_model import fingerprint

Change = Callable[[h5py.File], Any]

NEAR = 16
"""Equal bytes between two differences that are not worth a new edit."""

LARGE = 1 << 20
"""Numbers of an array that is not read to name a model."""


@dataclass(frozen=True)
class Edited:
    """A model file made of another's.

    Attributes
    ----------
    base : Path
        The file that is changed.
    change : callable(h5py.File)
        Applied to the open file.
    same : bool
        It holds the same content, so that its fingerprint is the base's.
    library : str or None
        Version of HDF5 whose format new parts have; None for the oldest that can hold them.
    patch : (bytes, bytes) or None
        Bytes of the changed file, which stand there once, and what takes their place: what the library never writes.
    """

    base: Path
    change: Change
    same: bool = False
    library: str | None = None
    patch: tuple[bytes, bytes] | None = None


def changed(data: bytes, made: Edited) -> bytes:
    """A file after its change."""
    file = io.BytesIO(data)
    with h5py.File(file, "r+", libver=made.library and (made.library, made.library)) as f:
        f.attrs.pop("fingerprint", None)  # it would be another model's
        made.change(f)
    new = file.getvalue()
    if made.patch:
        assert new.count(made.patch[0]) == 1
        new = new.replace(*made.patch)
    return new


def edits_between(old: bytes, new: bytes) -> list[tuple[int, bytes]]:
    """What to write where, so that the old file becomes the new one, which is at least as long."""
    short = np.frombuffer(new[: len(old)], np.uint8) != np.frombuffer(old[: len(new)], np.uint8)
    places = np.flatnonzero(short)
    edits = []
    if places.size:
        breaks = np.flatnonzero(np.diff(places) > NEAR)
        for first, last in zip([0, *(breaks + 1)], [*breaks, places.size - 1], strict=True):
            start, end = int(places[first]), int(places[last]) + 1
            edits.append((start, new[start:end]))
    if len(new) > len(old):
        edits.append((len(old), new[len(old) :]))
    return edits


def file_fingerprint(data: bytes) -> bytes | None:
    """(SPEC 10.3) Fingerprint of whatever integers a file holds outside ``provenance`` and ``float``.

    None if a dataset cannot be read, is of another type, is large, or has its numbers elsewhere.
    """
    content: dict[str, np.ndarray] = {}

    def take(name: str, item: Any) -> bool | None:
        if not isinstance(item, h5py.Dataset) or name == "provenance" or name.startswith("float/"):
            return None
        if item.is_virtual or item.external or not item.dtype.isnative or item.size is None or item.size > LARGE:
            return True  # ends the visit
        content[name] = np.asarray(item[()])
        return None

    try:
        with h5py.File(io.BytesIO(data), "r") as f:
            if f.visititems(take):
                return None
    except (OSError, RuntimeError, ValueError, KeyError):
        return None
    if any(array.dtype.kind != "i" for array in content.values()):
        return None
    return fingerprint(content)


def entry_of(made: Edited, stored: dict[str, Any] | None) -> dict[str, Any]:
    """A manifest's entry: fingerprint, base and its SHA-256, edits, SHA-256 of the result.

    What is stored is kept if it is of the same base.
    """
    old = made.base.read_bytes()
    base = hashlib.sha256(old).hexdigest()
    if stored and stored["sha256"] == base:
        return stored
    new = changed(old, made)
    new += old[len(new) :]  # a file that became shorter keeps its end, which nothing reads
    named = file_fingerprint(old if made.same else new) or file_fingerprint(old)
    assert named is not None
    return {
        "fingerprint": named.hex(),
        "file": f"../../models/{made.base.name}",
        "sha256": base,
        "edits": [[at, run.hex()] for at, run in edits_between(old, new)],
        "edited": hashlib.sha256(new).hexdigest(),
    }


@cache
def _copies() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="edited-models-")


def made_file(made: Edited, entry: dict[str, Any]) -> Path:
    """The whole file of an entry, for as long as this process lives."""
    path = Path(_copies().name) / f"{entry['edited']}.h5"
    if not path.is_file():
        data = bytearray(made.base.read_bytes())
        for at, run in entry["edits"]:
            new = bytes.fromhex(run)
            data[at : at + len(new)] = new
        path.write_bytes(data)
    return path


__all__ = ["Change", "Edited", "changed", "edits_between", "entry_of", "file_fingerprint", "made_file"]
