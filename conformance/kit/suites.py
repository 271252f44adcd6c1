"""Suites as data: manifests read into frozen dataclasses, strictly. Never imports refcodec.

A kit is a folder with ``suites/NAME/manifest.json`` and the files that the manifests name, all inside the kit's folder.
Every file is pinned by its SHA-256: streams and unit files by their vector's ``sha256``, models by their own, and
everything else that vectors name (traces, pictures, bases) by the manifest's table ``files``, path to SHA-256. Streams
and models may be edits of another file. Vectors are immutable: a changed vector gets a new id.
conformance/run/README.md describes the fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .errors import SuiteDamaged, UsageError
from .manifest import parse
from .reading import TooLarge, open_plain, read_plain
from .vectors import Model, Suite, Vector, edited

KIT = Path(__file__).resolve().parents[1] / "data"
"""The kit that comes with this package."""

MAX_MANIFEST = 16 << 20
"""Bytes; a larger manifest is not read."""

MAX_EDITED = 1 << 30
"""Bytes of all edited models and streams of a suite: an entry of a few bytes makes a file of another one's size."""


def file_hash(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; raises OSError."""
    with open_plain(path) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load(path: Path) -> Suite:
    """Read one manifest; raises SuiteDamaged."""
    try:
        data = read_plain(path, MAX_MANIFEST)
    except TooLarge as error:
        raise SuiteDamaged(f"{path}: larger than {MAX_MANIFEST} bytes") from error
    except OSError as error:
        raise SuiteDamaged(f"{path}: {error.strerror}") from error
    return parse(data, path)


def load_all(kit: Path = KIT, names: Iterable[str] = ()) -> tuple[Suite, ...]:
    """Suites of a kit by name, all if none is named.

    Raises
    ------
    UsageError
        There is no such suite, or none at all.
    SuiteDamaged
    """
    present = sorted(p.parent.name for p in kit.glob("suites/*/manifest.json"))
    wanted = sorted(set(names)) or present
    if not present:
        raise UsageError(f"{kit}: no suites/NAME/manifest.json there")
    if absent := [n for n in wanted if n not in present]:
        raise UsageError(f"no suite {absent[0]!r}; there are {', '.join(present)}")
    suites = tuple(load(kit / "suites" / n / "manifest.json") for n in wanted)
    models = dict[str, Model]()
    for suite in suites:
        for name, model in suite.models.items():
            if models.setdefault(name, model) != model:
                raise SuiteDamaged(f"suite {suite.name!r}: model {name!r} is another than in an earlier suite")
    return suites


def frozen_suites(kit: Path = KIT) -> tuple[Suite, ...]:
    """Suites that versions of the format are frozen with, whose files never change; none before the first."""
    return tuple(load(path) for path in sorted(kit.glob("suites/frozen-*/manifest.json")))


def check_files(suites: Iterable[Suite]) -> None:
    """Compare every file with the SHA-256 that pins it; raises SuiteDamaged for the first that differs."""
    for suite in suites:
        for path, sha256 in suite.files.items():
            try:
                found = file_hash(path)
            except OSError as error:
                raise SuiteDamaged(f"suite {suite.name!r}: {path}: {error.strerror}") from error
            if found != sha256:
                raise SuiteDamaged(f"suite {suite.name!r}: {path}: SHA-256 is {found}, the manifest says {sha256}")
        _check_edits(suite)


def _check_edits(suite: Suite) -> None:
    """Compare every edited model and stream with the SHA-256 that pins it; raises SuiteDamaged."""
    made = [(f"model {m.name!r}", m.file, m.edits, m.edited) for m in suite.models.values() if m.file and m.edits]
    made += [(f"vector {v.id!r}", v.file, v.edits, v.sha256) for v in suite.vectors if v.edits]
    total = sum(file.stat().st_size + sum(len(new) for *_, new in edits) for _, file, edits, _ in made)
    if total > MAX_EDITED:
        raise SuiteDamaged(f"suite {suite.name!r}: its edited files have {total} bytes, at most {MAX_EDITED} are made")
    for what, file, edits, sha256 in made:
        if hashlib.sha256(edited(file.read_bytes(), edits)).hexdigest() != sha256:
            raise SuiteDamaged(f"suite {suite.name!r}: {what}: the edits do not give {sha256}")


def kit_hash(suites: Iterable[Suite]) -> str:
    """One SHA-256 for these suites: over lines "name sha256-of-manifest", by name."""
    lines = sorted(f"{suite.name} {suite.sha256}\n" for suite in suites)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Selection:
    """Which vectors are wanted; an empty condition allows all.

    Attributes
    ----------
    ids : tuple of str
        Patterns as of a shell, any may match.
    clauses : tuple of str
        Clause ids; a section ("5.3") means its clauses and subsections.
    models : tuple of str
        Names; "none" for vectors without a model.
    outcomes : tuple of str
        "accept", "reject", "unit".
    excluded : tuple of str
        Patterns as of ``ids``; a vector that matches any is not wanted.
    """

    ids: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def admits(self, vector: Vector) -> bool:
        """Whether a vector is wanted."""
        return (
            (not self.ids or any(fnmatchcase(vector.id, pattern) for pattern in self.ids))
            and (not self.clauses or any(_covers(c, own) for c in self.clauses for own in vector.clauses))
            and (not self.models or (vector.model.name if vector.model else "none") in self.models)
            and (not self.outcomes or vector.outcome in self.outcomes)
            and not any(fnmatchcase(vector.id, pattern) for pattern in self.excluded)
        )


def _covers(wanted: str, clause: str) -> bool:
    return clause == wanted or clause.startswith((f"{wanted}-", f"{wanted}."))


def select(suites: Iterable[Suite], selection: Selection) -> list[Vector]:
    """The wanted vectors in the order of the manifests."""
    return [v for suite in suites for v in suite.vectors if selection.admits(v)]
