"""Model files that differ from another in a few bytes: the kit holds what differs, decoders get the whole file.

Most are broken and must be refused; some are written in another way and hold the same model. They are made by the HDF5
library, and versions of it differ in their bytes. So what a manifest says once about such a model is kept. Streams are
stored as edits of others too, by the same functions.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refcodec.model.integer_model import fingerprint

from ...kit.vectors import Edits

if TYPE_CHECKING:
    import h5py

Change = Callable[["h5py.File"], Any]
Patch = Callable[[bytes], bytes]

NEAR = 16
"""Equal bytes between two differences that are not worth a new edit."""

_RUN = re.compile(rb"(.{1,24}?)\1{63,}", re.DOTALL)
"""A few bytes, and 63 or more times the same."""

LARGE = 1 << 20
"""Numbers of an array that is not read to name a model."""


@dataclass(frozen=True)
class Edited:
    """A model file derived from another one, which must be refused unless it is sound.

    Attributes
    ----------
    name : str
    clauses : tuple of str
        The rule that is broken, and where it is enforced; or what is exercised.
    says : str
        What is wrong with it, or particular about it.
    change : callable(h5py.File)
        Applied to the open file of the other model.
    sound : bool
        A decoder must load it.
    same : bool
        It holds the same content, so that its fingerprint is the other model's.
    library : str or None
        Version of HDF5 whose format new parts have; None for the oldest that can hold them.
    patch : callable(bytes) -> bytes, or None
        Applied to the bytes of the changed file: what the library never writes.
    """

    name: str
    clauses: tuple[str, ...]
    says: str
    change: Change
    sound: bool = False
    same: bool = False
    library: str | None = None
    patch: Patch | None = None

    @property
    def model(self) -> str:
        """Name of the model."""
        return f"{'sound' if self.sound else 'broken'}-{self.name}"


def changed(data: bytes, made: Edited) -> bytes:
    """A file after its change."""
    import h5py  # most commands change no file, and work without it

    file = io.BytesIO(data)
    with h5py.File(file, "r+", libver=made.library and (made.library, made.library)) as f:
        f.attrs.pop("fingerprint", None)  # it would be another model's
        made.change(f)
    new = file.getvalue()
    return made.patch(new) if made.patch else new


def swapped(old: bytes, new: bytes) -> Patch:
    """Other bytes in the place of some that a file has once."""

    def patch(data: bytes) -> bytes:
        assert data.count(old) == 1
        return data.replace(old, new)

    return patch


def edits_between(old: bytes, new: bytes) -> Edits:
    """Edits by which a file becomes another: bytes that differ, and one place where bytes are put in or left out.

    Before that place bytes are compared from the front, behind it from the end, and it is where fewest bytes differ.
    """
    common = min(len(old), len(new))
    a, b = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    front, back = a[:common] != b[:common], a[len(old) - common :] != b[len(new) - common :]
    cost = np.append(0, np.cumsum(front)) + np.append(np.cumsum(back[::-1])[::-1], 0)
    place = common - int(np.argmin(cost[::-1]))
    removed, put = len(old) - common, len(new) - common
    spots = [(n, n + 1, n, n + 1) for n in np.flatnonzero(front[:place]).tolist()]
    spots += [(place, place + removed, place, place + put)] if removed or put else []
    behind = (place + np.flatnonzero(back[place:])).tolist()
    spots += [(removed + n, removed + n + 1, put + n, put + n + 1) for n in behind]
    joined: list[tuple[int, int, int, int]] = []
    for spot in spots:
        if joined and spot[0] - joined[-1][1] < NEAR:
            start, _, new_start, _ = joined.pop()
            spot = start, spot[1], new_start, spot[3]
        joined.append(spot)
    return tuple((start, end - start, new[first:last]) for start, end, first, last in joined)


def as_json(edits: Edits) -> list[list[Any]]:
    """Edits as manifests hold them: a long run of the same few bytes is an edit that repeats them."""
    found: list[list[Any]] = []
    for offset, removed, new in edits:
        at, rest = 0, removed
        for run in _RUN.finditer(new):
            if run.start() > at:
                found.append([offset, rest, new[at : run.start()].hex()])
                offset, rest = offset + rest, 0
            found.append([offset, rest, run[1].hex(), len(run[0]) // len(run[1])])
            offset, rest, at = offset + rest, 0, run.end()
        if at < len(new) or not new:
            found.append([offset, rest, new[at:].hex()])
    return found


def from_json(edits: Iterable[Sequence[Any]]) -> Edits:
    """Edits of a manifest."""
    return tuple((edit[0], edit[1], bytes.fromhex(edit[2]) * (edit[3] if len(edit) > 3 else 1)) for edit in edits)


def file_fingerprint(data: bytes) -> bytes | None:
    """(SPEC 10.3) Fingerprint of all integers that a file holds outside ``provenance`` and ``float``.

    None if a dataset cannot be read, is of another type, is large, or has its numbers elsewhere.
    """
    import h5py

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


def entry_of(path: Path, made: Edited, stored: dict[str, Any] | None) -> dict[str, Any]:
    """A manifest's entry: fingerprint, the file that is changed and its SHA-256, edits, SHA-256 of the result.

    What is stored is kept if it is of the same file: HDF5 writes time stamps. A change that is changed gets a new name.

    Parameters
    ----------
    path : Path
        The file that is changed.
    made : Edited
    stored : dict or None
        The entry that the manifest has.

    Returns
    -------
    dict
    """
    old = path.read_bytes()
    base = hashlib.sha256(old).hexdigest()
    if stored and stored["sha256"] == base:
        return stored | {"edits": as_json(from_json(stored["edits"]))}
    new = changed(old, made)
    named = file_fingerprint(old if made.same else new) or file_fingerprint(old)
    assert named is not None
    return {
        "fingerprint": named.hex(),
        "file": f"../../models/{path.name}",
        "sha256": base,
        "edits": as_json(edits_between(old, new)),
        "edited": hashlib.sha256(new).hexdigest(),
    }
