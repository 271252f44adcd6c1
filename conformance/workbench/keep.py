"""Failing streams as vectors: a separate kit, with the models they need and the traces of the reference."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.codec import decode_stream
from refcodec.io.files import write_bytes
from refcodec.model.file import read_content, write_model
from refcodec.model.integer_model import Model, build_model, read_config
from refcodec.model.procedural import build
from refcodec.trace import Recorder

from ..kit.blocks import digests
from ..kit.errors import OutputFailed
from ..kit.manifest import FORMAT
from ..kit.suites import file_hash, load
from ..kit.text import as_name
from ..kit.vectors import Accept, Vector
from ..kit.vectors import Model as ModelEntry
from ..synthetic.models import procedural as sources

SUITE, LICENCE = "differential", "Apache-2.0"

DECODING = "6.10-3"
"""The clause that such a vector exercises: the samples of a valid stream."""

SUGGESTS = "A decoder differed here; python -m conformance bisect names the stage."

Content = Mapping[str, np.ndarray]


@dataclass
class Family:
    """A model, and if it is procedural the like of it with fewer slices.

    Attributes
    ----------
    name : str
    content : mapping of str to np.ndarray
        Its arrays (SPEC 10.2).
    seed : int
        Of a procedural model (SPEC B.3), 0 for others.
    """

    name: str
    content: Content
    seed: int = 0
    _models: dict[int, Model] = field(default_factory=dict)

    @property
    def procedural(self) -> bool:
        """Whether there are models of fewer slices."""
        return self.seed != 0

    @property
    def slices(self) -> int:
        """Slices of the model itself."""
        return int(self.content["config/slices"])

    def contents(self, slices: int) -> Content:
        """The arrays of the model with so many slices of the same width."""
        if slices == self.slices:
            return self.content
        config = read_config(self.content, self.name)
        return build(replace(config, slices=slices, M=slices * config.ch), self.seed)

    def model(self, slices: int) -> Model:
        """The model with so many slices, proved."""
        if slices not in self._models:
            self._models[slices] = build_model(self.contents(slices), self.label(slices))
        return self._models[slices]

    def label(self, slices: int) -> str:
        """Name of the model with so many slices."""
        return self.name if slices == self.slices else f"{self.name}-slices-{slices}"

    def entry(self, slices: int, folder: Path) -> ModelEntry:
        """The model as a suite's, its file written to a folder where it is not there yet."""
        model, path = self.model(slices), folder / f"{self.label(slices)}.h5"
        if not path.is_file():
            write_model(path, self.contents(slices), {"source": f"conformance, {self.label(slices)}"})
        return ModelEntry(self.label(slices), model.fingerprint.hex(), path, file_hash(path))


def family_of(name: str) -> Family:
    """A model of the suites by name, or any by path.

    Raises
    ------
    ModelError, InvalidModel
    """
    if name in sources.sources():
        source = sources.source(name)
        return Family(name, source.content(), source.seed)
    path = Path(name)
    return Family(as_name(path.stem), read_content(path)[0])


def accepted(samples: np.ndarray) -> Accept:
    """Expected outcome: these samples."""
    height, width = samples.shape[:2]
    return Accept(
        width,
        height,
        1 if samples.ndim == 2 else samples.shape[2],
        hashlib.sha256(samples.tobytes()).hexdigest(),
        digests(samples),
    )


def pinned(data: bytes, samples: np.ndarray, path: Path, model: ModelEntry, origin: str = SUITE) -> Vector:
    """A valid stream and the samples it decodes to, as a vector.

    Parameters
    ----------
    data : bytes
        The stream.
    samples : np.ndarray [H, W] or [H, W, C], uint8
    path : Path
        Its file.
    model : ModelEntry
    origin : str

    Returns
    -------
    Vector
    """
    sha256 = hashlib.sha256(data).hexdigest()
    return Vector(
        f"{SUITE}/{sha256[:12]}", path, sha256, model, accepted(samples), (DECODING,), SUGGESTS, origin, LICENCE
    )


def keep(kit: Path, data: bytes, family: Family, slices: int, origin: str) -> str:
    """Add a valid stream to a kit, with its model and the reference's trace.

    Parameters
    ----------
    kit : Path
        Folder of ``suites/`` and ``models/``; made if it does not exist.
    data : bytes
        The stream.
    family : Family
        Of its model.
    slices : int
        Slices of its model.
    origin : str
        How the stream came about.

    Returns
    -------
    str
        The vector's id. A stream that is there already keeps its entry.

    Raises
    ------
    OutputFailed
    SuiteDamaged
        The folder's manifest is not right.
    """
    folder = kit / "suites" / SUITE
    recorder = Recorder()
    samples, _ = decode_stream(data, model=family.model(slices), threads=1, trace=recorder)
    recorder("samples", samples)
    trace = "".join(stage.line() + "\n" for stage in recorder.stages).encode()
    try:
        for part in (kit / "models", folder / "streams", folder / "traces"):
            part.mkdir(parents=True, exist_ok=True)
        model = family.entry(slices, kit / "models")
        vector = pinned(data, samples, folder / "streams" / "x", model, origin)
        name = vector.id.split("/")[1]
        manifest = _with_vector(folder / "manifest.json", vector, hashlib.sha256(trace).hexdigest())
        (folder / f"streams/{name}.loclic").write_bytes(data)
        (folder / f"traces/{name}.jsonl").write_bytes(trace)
        write_bytes(folder / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode(), force=True)
    except OSError as error:
        raise OutputFailed(f"{error.filename}: cannot be written: {error.strerror}") from error
    load(folder / "manifest.json")
    return vector.id


def _with_vector(path: Path, vector: Vector, trace_hash: str) -> dict[str, Any]:
    """A manifest with one more vector."""
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "suite": SUITE,
        "version": 1,
        "licence": LICENCE,
        "models": {},
        "description": "Streams on which a decoder differed, made small.",
        "files": {},
        "vectors": [],
    }
    if path.is_file():
        load(path)
        manifest = json.loads(path.read_bytes())
    name, model, expect = vector.id.split("/")[1], vector.model, vector.expect
    assert model is not None and model.file is not None and isinstance(expect, Accept)
    if any(v["id"] == vector.id for v in manifest["vectors"]):
        return manifest
    manifest["models"][model.name] = {
        "fingerprint": model.fingerprint,
        "file": f"../../models/{model.file.name}",
        "sha256": model.sha256,
    }
    manifest["files"][f"traces/{name}.jsonl"] = trace_hash
    manifest["vectors"].append(
        {
            "id": vector.id,
            "stream": f"streams/{name}.loclic",
            "sha256": vector.sha256,
            "model": model.name,
            "expect": {"outcome": "accept", **asdict(expect)},
            "clauses": list(vector.clauses),
            "suggests": vector.suggests,
            "origin": vector.origin,
            "licence": vector.licence,
            "trace": f"traces/{name}.jsonl",
        }
    )
    return manifest
