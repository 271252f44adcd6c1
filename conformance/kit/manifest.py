"""Reads manifests, strictly: each broken rule is one clear error. Never imports refcodec."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .blocks import are_digests
from .errors import SuiteDamaged
from .strict_json import Fields, read_json, show
from .text import MAX_NAME, is_name
from .vectors import ERROR_CLASSES, MODEL_LEVELS, PHASES, PROFILES, Accept, Edits, Model, Reject, Suite, Vector

FORMAT = 2
MAX_SIDE = 1 << 20
MAX_PATH = 1000
"""Characters of a path."""

MAX_OFFSET = 1 << 28
"""Of the end of an edit, in bytes."""

MAX_REPEATED = 1 << 25
"""Bytes that an edit repeats, at most."""

_BYTES = re.compile(r"([0-9a-f]{2})*")
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CLAUSE = re.compile(r"[0-9A-Z]+(\.[0-9]+)*(-[0-9]+)?")


def _inside(text: str, fields: Fields, folder: Path, root: Path) -> Path:
    """The path that a manifest means, if it lies in the kit."""
    if not all(part == ".." or is_name(part) for part in text.split("/")) or len(text) > MAX_PATH:
        raise fields.wrong(f"{show(text)} is not a relative path of names with forward slashes")
    try:
        path = (folder / text).resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise fields.wrong(f"{show(text)} cannot be followed") from error
    if not path.is_relative_to(root):
        raise fields.wrong(f"{show(text)} leaves the kit")
    return path


def _edits(fields: Fields) -> Edits:
    edits, end = [], 0
    for edit in fields.take("edits", list, []):
        kinds = list(map(type, edit)) if isinstance(edit, list) else []
        if kinds not in ([int, int, str], [int, int, str, int]) or not _BYTES.fullmatch(edit[2]):
            raise fields.wrong(f"'edits' holds {show(edit)}, expected [offset, removed, hexadecimal digits, times]")
        offset, removed, digits, times = (*edit, 1)[:4]
        if not (end <= offset <= MAX_OFFSET and 0 <= removed <= MAX_OFFSET - offset):
            raise fields.wrong(f"'edits' holds {show(edit)}, which overlaps the one before or ends beyond {MAX_OFFSET}")
        if not 0 <= times <= MAX_REPEATED or len(digits) // 2 * times > max(MAX_REPEATED, len(digits)):
            raise fields.wrong(f"'edits' holds {show(edit)}, which repeats to more than {MAX_REPEATED} bytes")
        edits.append((offset, removed, bytes.fromhex(digits) * times))
        end = offset + removed
    return tuple(edits)


def _package(text: str, fields: Fields) -> str:
    """A path below the folder of packages: a package without dots, which could import another, and names."""
    first, *rest = text.split("/")
    if not rest or not _PACKAGE.fullmatch(first) or not all(map(is_name, rest)) or len(text) > MAX_PATH:
        raise fields.wrong(f"{show(text)} is not PACKAGE/FILE: a package without dots, then names")
    return text


def _model(name: str, value: Any, folder: Path, root: Path) -> Model:
    fields = Fields(value, f"suite {folder.name!r}, model {name[:60]!r}")
    if not is_name(name):
        raise fields.wrong(f"a model's name has at most {MAX_NAME} letters, digits and ._+=,-, a letter or digit first")
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
        raise fields.wrong(f"'profiles' names {wrong[0][:60]!r}, which SPEC 12.1 does not")
    if (file and package) or not (file or package or made):
        raise fields.wrong("one of 'file', 'package' and 'procedural' says where it comes from")
    package = _package(package, fields) if package else ""
    profile, seed = "", 0
    if made:
        recipe = Fields(made, f"{fields.where}, procedural")
        profile, seed = recipe.text("profile"), recipe.number("seed", 0, 2**64 - 1)
        if not is_name(profile):  # it becomes a word of a command
            raise recipe.wrong(f"'profile' is {show(profile)}, expected a name")
        recipe.end()
    path = _inside(file, fields, folder, root) if file else None
    return Model(name, fingerprint, path, sha256, package, profile, seed, profiles, level, edits, edited)


def _expect(value: Any, where: str) -> Accept | Reject:
    fields = Fields(value, f"{where}, expect")
    expect: Accept | Reject
    if fields.one_of("outcome", ("accept", "reject")) == "accept":
        width, height = fields.number("width", 1, MAX_SIDE), fields.number("height", 1, MAX_SIDE)
        channels, samples = fields.number("channels", 1, 4), fields.hexadecimal("samples", 64)
        expect = Accept(width, height, channels, samples, fields.optional("blocks") or "")
        if expect.blocks and not are_digests(expect.blocks, expect):
            raise fields.wrong(f"'blocks' is {show(expect.blocks)}, which are no digests of such a picture's blocks")
    else:
        expect = Reject(fields.one_of("class", ERROR_CLASSES), fields.one_of("phase", PHASES), fields.texts("also", []))
        wrong = [name for name in expect.also if name not in ERROR_CLASSES or name == expect.error]
        if wrong:
            raise fields.wrong(f"'also' names {wrong[0][:60]!r}, which is unknown or the class itself")
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
        fields.where = f"vector {name[:60]!r}"
        suite, _, own = name.partition("/")
        if suite != self.suite or not is_name(own):
            raise fields.wrong("an id is the suite's name, a slash, and letters, digits and ._+=,-")
        unit, sha256 = fields.optional("unit"), fields.hexadecimal("sha256", 64)
        base = None if unit else self._side_file(fields, "base")
        file = base or self._pin(unit or fields.text("stream"), sha256, fields)
        edits = _edits(fields) if base else ()
        if base and not edits:
            raise fields.wrong("a 'base' needs 'edits' that make it the stream")
        model = fields.optional("model")
        if model is not None and model not in self.models:
            raise fields.wrong(f"model {show(model)} is not in the manifest's 'models'")
        expect = None if unit else _expect(fields.take("expect", dict), fields.where)
        clauses = fields.texts("clauses")
        if not clauses or not all(map(CLAUSE.fullmatch, clauses)):
            raise fields.wrong(f"'clauses' is {show(clauses)}, expected ids such as 5.3-2")
        made = Vector(
            name,
            file,
            sha256,
            None if model is None else self.models[model],
            expect,
            clauses,
            fields.text("suggests"),
            fields.text("origin"),
            fields.text("licence"),
            self._side_file(fields, "trace"),
            self._side_file(fields, "picture"),
            edits,
        )
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
    if name != folder.name or not is_name(name):
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
        raise fields.wrong(f"'files' pins {min(idle)[:60]!r}, which no vector names")
    return Suite(
        name, version, description, licence, path, hashlib.sha256(data).hexdigest(), models, vectors, reader.pinned
    )
