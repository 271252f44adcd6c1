"""Contents of suites: models, vectors and what they expect. Never imports refcodec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ERROR_CLASSES = (
    "BadMagic",
    "UnknownVersion",
    "TruncatedStream",
    "HeaderError",
    "ChecksumError",
    "ChunkError",
    "TrailingBytes",
    "UnknownRequiredChunk",
    "CoderError",
    "SymbolError",
    "ModelError",
    "InvalidModel",
    "LimitExceeded",
)
"""The classes by which SPEC 7.6, 8.5, 9 and 10 refuse."""

UNSUPPORTED_CLASSES = ("UnknownVersion", "UnknownRequiredChunk")
"""Refusals of streams that a later version may allow: a decoder may call them "not supported"."""

PHASES = ("container", "model", "entropy", "limits")
"""Phases in which a decoder refuses: SPEC 8.5; 10; 7; 9.1."""

PROFILES = ("tiny", "default", "paper", "mlicpp", "mlicpp-old", "main", "full")
"""(SPEC 12.1)"""

MODEL_LEVELS = ("A", "B", "C", "D")
"""(SPEC 12.2)"""

SPEC_VERSION = 1
"""(SPEC 8.1) The version of streams that the suites test."""


Edits = tuple[tuple[int, int, bytes], ...]
"""Changes of a file: offset in it, bytes that are removed there, bytes that take their place. They do not overlap, and
their offsets ascend."""


def edited(data: bytes, edits: Edits) -> bytes:
    """The bytes of a file after its edits."""
    parts, at = [], 0
    for offset, removed, new in edits:
        parts += [data[at:offset], new]
        at = offset + removed
    return b"".join([*parts, data[at:]])


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
    edits : Edits
        Changes of the file, so that a model that must be refused costs a few bytes.
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
    edits: Edits = ()
    edited: str = ""


@dataclass(frozen=True)
class Accept:
    """The stream is valid.

    Attributes
    ----------
    width, height : int
    channels : int
        1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
    samples : str
        SHA-256 of the decoded samples, one byte each, rows from the top, channels interleaved (SPEC 8.1).
    blocks : str
        Digests of blocks (blocks.py), by which a wrong picture shows where it differs; "" if there are none.
    """

    width: int
    height: int
    channels: int
    samples: str
    blocks: str = field(default="", compare=False)

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
        The stream, the JSON file of unit cases, or the sound stream that `edits` change.
    sha256 : str
        Of the stream after its edits, or of the file of unit cases.
    model : Model or None
        None for a stream that is refused before its model is looked for, and for a picture without loss (SPEC 6.10-5).
    expect : Accept, Reject or None
        None for unit cases, whose file holds what is expected.
    clauses : tuple of str
        Clauses of SPEC.md that it exercises.
    suggests : str
        What a failure suggests.
    origin, licence : str
    trace, picture : Path or None
        Digests of every stage; the decoded picture, as PNG or, if the name ends in ``.raw``, samples alone.
    edits : Edits
        Changes of the file that make the stream, none for a stream that is a file.
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
    edits: Edits = ()

    def read(self) -> bytes:
        """The bytes of the stream or of the unit file; raises OSError."""
        return edited(self.file.read_bytes(), self.edits)

    @property
    def suite(self) -> str:
        """The first part of the id."""
        return self.id.split("/", 1)[0]

    @property
    def outcome(self) -> str:
        """The expected outcome: "accept", "reject" or "unit"."""
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
