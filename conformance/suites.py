"""Suites as data: manifests read into frozen dataclasses, strictly. Never imports refcodec.

A kit is a folder with ``suites/NAME/manifest.json`` and the files that the manifests name, all inside the kit's folder.
Every file is pinned by its SHA-256: streams and unit files by their vector's ``sha256``, models by their own, and
everything else that vectors name (traces, pictures) by the manifest's table ``files``, path to SHA-256. Vectors are
immutable: a changed vector gets a new id. README.md of this folder describes the fields.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .errors import SuiteDamaged, UsageError
from .strict_json import Fields, read_json, show

KIT = Path(__file__).resolve().parent
"""The kit that comes with this package."""

FORMAT = 1
MAX_MANIFEST = 64 << 20
"""Bytes; a larger manifest is not read."""

MAX_SIDE = 1 << 20
MAX_OFFSET = 1 << 28
"""Of an edit of a model's file, in bytes."""

ERROR_CLASSES = ("BadMagic", "UnknownVersion", "TruncatedStream", "HeaderError", "ChecksumError", "ChunkError",
                 "TrailingBytes", "UnknownRequiredChunk", "CoderError", "SymbolError", "ModelError", "InvalidModel",
                 "LimitExceeded")
"""The classes by which SPEC 7.6, 8.5, 9 and 10 refuse."""

UNSUPPORTED_CLASSES = ("UnknownVersion", "UnknownRequiredChunk")
"""Refusals of streams that a later version may allow: a decoder may call them "not supported"."""

PHASES = ("container", "model", "entropy", "limits")
"""What a decoder is about to do when it refuses: SPEC 8.5; 10; 7; 9.1."""

PROFILES = ("tiny", "default", "paper", "mlicpp", "mlicpp-old", "main", "full")
"""(SPEC 12.1)"""

MODEL_LEVELS = ("A", "B", "C", "D")
"""(SPEC 12.2)"""

SPEC_VERSION = 0
"""(SPEC 8.1) The version of streams that the suites test."""


@dataclass(frozen=True)
class Model:
    """A model that vectors need.

    Attributes
    ----------
    name : str
    fingerprint : str
        32 hexadecimal digits (SPEC 10.3).
    file : Path or None
        Where it lies in the kit; None if it is made on demand or part of the package.
    sha256 : str
        Of the file; "" for one made on demand.
    package : str
        Path below the folder that holds installed packages, "" if there is none.
    profile : str
        Configuration of a procedural model (SPEC B.3), "" for others.
    seed : int
    profiles : tuple of str
        Profiles that have its configuration (SPEC 12.1).
    level : str
        The letter of its level (SPEC 12.2).
    edits : tuple of (int, bytes)
        Bytes that take the place of others in the file, by offset: so a model that must be refused costs a few bytes.
    edited : str
        SHA-256 of the file after the edits, "" without edits.
    """

    name: str
    fingerprint: str
    file: Path | None = None
    sha256: str = ""
    package: str = ""
    profile: str = ""
    seed: int = 0
    profiles: tuple[str, ...] = ("full",)
    level: str = "D"
    edits: tuple[tuple[int, bytes], ...] = ()
    edited: str = ""

    def apply(self, data: bytes) -> bytes:
        """The file's bytes after the edits; one at the end makes it longer."""
        out = bytearray(data)
        for offset, new in self.edits:
            out[offset:offset + len(new)] = new
        return bytes(out)


@dataclass(frozen=True)
class Accept:
    """The stream is valid.

    Attributes
    ----------
    width, height, channels : int
    samples : str
        SHA-256 of the decoded samples, one byte each, rows from the top, channels interleaved (SPEC 8.1).
    """

    width: int
    height: int
    channels: int
    samples: str

    @property
    def count(self) -> int:
        """Number of samples, which is bytes."""
        return self.width * self.height * self.channels


@dataclass(frozen=True)
class Reject:
    """The stream must be refused.

    Attributes
    ----------
    error : str
        The class of the refusal.
    phase : str
    also : tuple of str
        Classes that are equally right.
    """

    error: str
    phase: str
    also: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes that are right."""
        return (self.error, *self.also)


@dataclass(frozen=True)
class Vector:
    """One test: a stream or, in place of it, a file of unit cases.

    Attributes
    ----------
    id : str
        "suite/name", for good.
    file : Path
        The stream, or the JSON file of unit cases.
    sha256 : str
        Of the file.
    model : Model or None
    expect : Accept, Reject or None
        None for unit cases, whose file holds what is expected.
    clauses : tuple of str
        Clauses of SPEC.md that it exercises.
    suggests : str
        What a failure suggests.
    origin, licence : str
    trace, picture : Path or None
        Digests of every stage; the decoded picture as PNG.
    """

    id: str
    file: Path
    sha256: str
    model: Model | None
    expect: Accept | Reject | None
    clauses: tuple[str, ...]
    suggests: str
    origin: str
    licence: str
    trace: Path | None = None
    picture: Path | None = None

    @property
    def suite(self) -> str:
        """The first part of the id."""
        return self.id.split("/", 1)[0]

    @property
    def outcome(self) -> str:
        """What is expected: "accept", "reject" or "unit"."""
        return "unit" if self.expect is None else "accept" if isinstance(self.expect, Accept) else "reject"


@dataclass(frozen=True)
class Suite:
    """One manifest.

    Attributes
    ----------
    name, description, licence : str
    version : int
    path : Path
        Of the manifest.
    sha256 : str
        Of the manifest's bytes: since these pin every file, of the whole suite.
    models : dict of str to Model
    vectors : tuple of Vector
    files : dict of Path to str
        SHA-256 of every file that the manifest names.
    """

    name: str
    version: int
    description: str
    licence: str
    path: Path
    sha256: str
    models: Mapping[str, Model]
    vectors: tuple[Vector, ...]
    files: Mapping[Path, str]


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]*")
_HEXADECIMAL = re.compile(r"[0-9a-f]+")
_CLAUSE = re.compile(r"[0-9A-Z]+(\.[0-9]+)*(-[0-9]+)?")


def file_hash(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; raises OSError."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _inside(text: str, fields: Fields, folder: Path, root: Path) -> Path:
    """The path that a manifest means, if it lies in the kit."""
    if text.startswith("/") or "\\" in text or ":" in text or not text.isprintable():
        raise fields.wrong(f"{show(text)} is not a relative path with forward slashes")
    path = (folder / text).resolve()
    if not path.is_relative_to(root):
        raise fields.wrong(f"{show(text)} leaves the kit")
    return path


def _edits(fields: Fields) -> tuple[tuple[int, bytes], ...]:
    edits = []
    for edit in fields.take("edits", list, []):
        if not (isinstance(edit, list) and len(edit) == 2 and type(edit[0]) is int and isinstance(edit[1], str)
                and 0 <= edit[0] < MAX_OFFSET and len(edit[1]) % 2 == 0 and _HEXADECIMAL.fullmatch(edit[1])):
            raise fields.wrong(f"'edits' holds {show(edit)}, expected [offset, hexadecimal digits]")
        edits.append((edit[0], bytes.fromhex(edit[1])))
    return tuple(edits)


def _model(name: str, value: Any, folder: Path, root: Path) -> Model:
    fields = Fields(value, f"model {name!r}")
    fingerprint = fields.hexadecimal("fingerprint", 32)
    file, package = fields.optional("file"), fields.optional("package")
    sha256 = fields.hexadecimal("sha256", 64) if file or package else ""
    made = fields.take("procedural", dict, {})
    profiles = fields.texts("profiles", ["full"])
    level = fields.one_of("level", MODEL_LEVELS, "D")
    edits = _edits(fields)
    edited = fields.hexadecimal("edited", 64) if edits else ""
    fields.end()
    if edits and not file:
        raise fields.wrong("'edits' change a 'file' of the kit, and there is none")
    if wrong := [p for p in profiles if p not in PROFILES]:
        raise fields.wrong(f"'profiles' names {wrong[0]!r}, which SPEC 12.1 does not")
    if (file and package) or not (file or package or made):
        raise fields.wrong("one of 'file', 'package' and 'procedural' says where it comes from")
    if package and (".." in Path(package).parts or Path(package).is_absolute()):
        raise fields.wrong(f"{show(package)} leaves the folder of packages")
    profile, seed = "", 0
    if made:
        recipe = Fields(made, f"{fields.where}, procedural")
        profile, seed = recipe.text("profile"), recipe.number("seed", 0, 2**64 - 1)
        recipe.end()
    path = _inside(file, fields, folder, root) if file else None
    return Model(name, fingerprint, path, sha256, package or "", profile, seed, profiles, level, edits, edited)


def _expect(value: Any, where: str) -> Accept | Reject:
    fields = Fields(value, f"{where}, expect")
    expect: Accept | Reject
    if fields.one_of("outcome", ("accept", "reject")) == "accept":
        width, height = fields.number("width", 1, MAX_SIDE), fields.number("height", 1, MAX_SIDE)
        channels = fields.number("channels", 1, 3)
        if channels == 2:
            raise fields.wrong("'channels' is 2, allowed are 1 and 3")
        expect = Accept(width, height, channels, fields.hexadecimal("samples", 64))
    else:
        expect = Reject(fields.one_of("class", ERROR_CLASSES), fields.one_of("phase", PHASES), fields.texts("also", []))
        wrong = [name for name in expect.also if name not in ERROR_CLASSES or name == expect.error]
        if wrong:
            raise fields.wrong(f"'also' names {wrong[0]!r}, which is unknown or the class itself")
    fields.end()
    return expect


class _Reader:
    """Reads the vectors of one manifest and gathers which files they name."""

    def __init__(self, suite: str, folder: Path, root: Path, models: Mapping[str, Model], table: Mapping[str, str]):
        self.suite, self.folder, self.root, self.models, self.table = suite, folder, root, models, table
        self.pinned: dict[Path, str] = {m.file: m.sha256 for m in models.values() if m.file}
        self.used: set[str] = set()

    def _pin(self, text: str, sha256: str, fields: Fields) -> Path:
        path = _inside(text, fields, self.folder, self.root)
        if self.pinned.setdefault(path, sha256) != sha256:
            raise fields.wrong(f"{show(text)} is pinned by two different SHA-256")
        return path

    def _side_file(self, fields: Fields, name: str) -> Path | None:
        text = fields.optional(name)
        if text is None:
            return None
        if text not in self.table:
            raise fields.wrong(f"{name!r} is {show(text)}, which the manifest's 'files' does not pin")
        self.used.add(text)
        return self._pin(text, self.table[text], fields)

    def vector(self, value: Any, number: int) -> Vector:
        """Read the vector of this number."""
        fields = Fields(value, f"suite {self.suite!r}, vector {number}")
        name = fields.text("id")
        fields.where = f"vector {name!r}"
        suite, _, own = name.partition("/")
        if suite != self.suite or not _NAME.fullmatch(own):
            raise fields.wrong("an id is the suite's name, a slash, and letters, digits and ._+=,-")
        unit = fields.optional("unit")
        file = self._pin(unit or fields.text("stream"), fields.hexadecimal("sha256", 64), fields)
        model = fields.optional("model")
        if model is not None and model not in self.models:
            raise fields.wrong(f"model {show(model)} is not in the manifest's 'models'")
        expect = None if unit else _expect(fields.take("expect", dict), fields.where)
        if isinstance(expect, Accept) and model is None:
            raise fields.wrong("a valid stream needs a model")
        clauses = fields.texts("clauses")
        if not clauses or not all(map(_CLAUSE.fullmatch, clauses)):
            raise fields.wrong(f"'clauses' is {show(clauses)}, expected ids such as 5.3-2")
        made = Vector(name, file, self.pinned[file], None if model is None else self.models[model], expect, clauses,
                      fields.text("suggests"), fields.text("origin"), fields.text("licence"),
                      self._side_file(fields, "trace"), self._side_file(fields, "picture"))
        fields.end()
        return made


def _table(value: Mapping[str, Any], where: str) -> dict[str, str]:
    fields = Fields(value, where)
    return {name: fields.hexadecimal(name, 64) for name in value}


def parse(data: bytes, path: Path) -> Suite:
    """A manifest as a `Suite`.

    Parameters
    ----------
    data : bytes
        The manifest.
    path : Path
        Where it lies, ``KIT/suites/NAME/manifest.json``.

    Raises
    ------
    SuiteDamaged
        It breaks a rule; the message names the field.
    """
    try:
        value = read_json(data)
    except ValueError as error:
        raise SuiteDamaged(f"{path}: not JSON as it should be: {error}") from error
    fields = Fields(value, str(path))
    fields.number("format", FORMAT, FORMAT)
    folder = path.resolve().parent
    root, name = folder.parent.parent, fields.text("suite")
    if name != folder.name or not _NAME.fullmatch(name):
        raise fields.wrong(f"'suite' is {show(name)}, but the folder is {folder.name!r}")
    version = fields.number("version", 1, 10**6)
    description, licence = fields.text("description"), fields.text("licence")
    models = {n: _model(n, v, folder, root) for n, v in fields.take("models", dict).items()}
    table = _table(fields.take("files", dict, {}), f"{path}, files")
    reader = _Reader(name, folder, root, models, table)
    vectors = tuple(reader.vector(v, number) for number, v in enumerate(fields.take("vectors", list)))
    fields.end()
    ids = Counter(v.id for v in vectors)
    if len(ids) != len(vectors):
        raise fields.wrong(f"the id {ids.most_common(1)[0][0]!r} occurs twice")
    if not vectors:
        raise fields.wrong("'vectors' is empty")
    if idle := set(table) - reader.used:
        raise fields.wrong(f"'files' pins {min(idle)!r}, which no vector names")
    return Suite(name, version, description, licence, path, hashlib.sha256(data).hexdigest(), models, vectors,
                 reader.pinned)


def load(path: Path) -> Suite:
    """Read one manifest; raises SuiteDamaged."""
    try:
        if path.stat().st_size > MAX_MANIFEST:
            raise SuiteDamaged(f"{path}: larger than {MAX_MANIFEST} bytes")
        data = path.read_bytes()
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
        Clause ids; a section ("5.3") stands for its clauses and subsections.
    models : tuple of str
        Names; "none" for vectors without a model.
    outcomes : tuple of str
        "accept", "reject", "unit".
    """

    ids: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()

    def admits(self, vector: Vector) -> bool:
        """Whether a vector is wanted."""
        return ((not self.ids or any(fnmatchcase(vector.id, pattern) for pattern in self.ids))
                and (not self.clauses or any(_covers(c, own) for c in self.clauses for own in vector.clauses))
                and (not self.models or (vector.model.name if vector.model else "none") in self.models)
                and (not self.outcomes or vector.outcome in self.outcomes))


def _covers(wanted: str, clause: str) -> bool:
    return clause == wanted or clause.startswith((f"{wanted}-", f"{wanted}."))


def select(suites: Iterable[Suite], selection: Selection) -> list[Vector]:
    """The wanted vectors in the order of the manifests."""
    return [v for suite in suites for v in suite.vectors if selection.admits(v)]
