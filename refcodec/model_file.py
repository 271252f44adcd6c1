"""HDF5 files of integer models, and where they are found (SPEC 10, annex B).

Reading trusts nothing: refcodec/hdf5_reader.py follows nothing out of the file and believes no size, and every array
but the configuration's is compared with what the configuration asks for before memory is taken.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InvalidModel, ModelError
from .hdf5_reader import Stored, attribute, read_all, stored
from .model import Content, Model, build_model, check_layout, fingerprint, read_config

FORMAT = "refcodec-model"
VERSION = 0
"""Version of the schema (SPEC B.1-1); 0 until the format is declared frozen."""

MAX_NUMBERS = 1 << 28
"""Largest count of integers in a model (SPEC 9.1-7): twice the largest published configuration."""

MAX_PROVENANCE = 1 << 20
"""Largest provenance text in bytes (SPEC B.1-3)."""

MAX_FLOATS = 1 << 24
"""Largest count of floats (SPEC B.1-4) beside a model's integers; they are not read for coding."""

DEFAULT = Path(__file__).parent / "data" / "default.h5"


def write_model(path: Path, content: Content, provenance: Mapping[str, Any],
                floats: Content | None = None) -> None:
    """(SPEC B.1) Write content, provenance and floats for exporters to an HDF5 file beside ``path`` and rename it.

    The versions of HDF5 are those whose structures every reader knows (SPEC B.1-19 to B.1-25).
    """
    import h5py

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "w", libver=("v108", "v110")) as f:
            f.attrs["format"] = np.bytes_(FORMAT)
            f.attrs["version"] = np.int64(VERSION)
            arrays = {**content, **{f"float/{name}": a.astype(np.float32) for name, a in (floats or {}).items()}}
            for name in sorted(arrays):
                array = arrays[name].astype(arrays[name].dtype.newbyteorder("<"))
                if array.size > 256:
                    dataset = f.create_dataset(name, array.shape, array.dtype, chunks=array.shape, compression="gzip",
                                               shuffle=True)
                    dataset.id.write_direct_chunk((0,) * array.ndim, _packed(array))
                else:
                    f.create_dataset(name, data=array)
            text = json.dumps(dict(provenance), sort_keys=True).encode()
            f.create_dataset("provenance", data=np.frombuffer(text, np.uint8))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _packed(array: np.ndarray) -> bytes:
    """(SPEC B.1) Shuffled and deflated as HDF5's filters do.

    Weights are noise to a dictionary: Huffman codes alone are shorter, and fifty times as fast as HDF5's level 9.
    """
    shuffled = np.frombuffer(array.tobytes(), np.uint8).reshape(-1, array.itemsize).T.tobytes()
    strategy = zlib.Z_HUFFMAN_ONLY if array.dtype == np.int16 else zlib.Z_DEFAULT_STRATEGY
    packer = zlib.compressobj(9, strategy=strategy)
    return packer.compress(shuffled) + packer.flush()


_DAMAGE = (OSError, LookupError, RuntimeError, ValueError, TypeError, MemoryError, ArithmeticError, zlib.error)
"""What h5py, zlib and json raise on damaged files."""


def read_content(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(SPEC B.1) Normative arrays and provenance of a model file.

    The configuration is read first. It says how large every other array is, so what the file declares beside is
    refused before memory is taken for it.

    Raises
    ------
    ModelError
        The file does not exist or cannot be read.
    InvalidModel
        It is not a model of this version, or holds something a model may not hold.
    """
    import h5py

    where = path.name
    if not path.is_file():
        raise ModelError("model not found", where=str(path), cause="give a path or the name of an installed model")
    try:
        with h5py.File(path, "r") as f:
            content, provenance = _read(f, where)
    except _DAMAGE as e:
        raise _damaged(e, where) from e
    for array in content.values():
        array.flags.writeable = False
    return content, provenance


def _read(file: Any, where: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if attribute(file, "format") != FORMAT:
        raise InvalidModel("not a refcodec model", where=where, cause="convert the checkpoint with weights_converter")
    if (version := attribute(file, "version")) != VERSION:
        raise InvalidModel("unknown model version", where=where, version=str(version), known=VERSION)
    found = stored(file, where)
    _take_floats(found, where)
    text = found.pop("provenance", None)
    if text is not None and (text.dtype != "uint8" or len(text.shape) != 1 or text.size > MAX_PROVENANCE):
        raise InvalidModel("the provenance is no short text", where=text.where, type=text.dtype,
                           shape=list(text.shape), allowed=f"uint8, at most {MAX_PROVENANCE}")
    content: dict[str, np.ndarray] = {}
    for name, dataset in found.items():
        if name.startswith("config/"):
            if dataset.size > 8:
                raise InvalidModel("configuration field has a wrong shape", where=dataset.where,
                                   shape=list(dataset.shape))
            content[name] = dataset.read()
    check_layout(read_config(content, where), {name: (d.dtype, d.shape) for name, d in found.items()}, where)
    if (total := sum(d.size for d in found.values())) > MAX_NUMBERS:
        raise InvalidModel("the model is too large", where=where, numbers=total, allowed=MAX_NUMBERS)
    content |= read_all({name: d for name, d in found.items() if name not in content})
    provenance = {} if text is None else json.loads(text.read().tobytes())
    if not isinstance(provenance, dict):
        raise InvalidModel("the provenance is no JSON object", where=f"{where}:provenance")
    return content, provenance


def _take_floats(found: dict[str, Stored], where: str) -> dict[str, Stored]:
    """(SPEC B.1) Remove from ``found`` what takes no part in decoding: the datasets of the group ``float``, unread."""
    floats = {name[6:]: found.pop(name) for name in list(found) if name.startswith("float/")}
    if any(d.dtype != "float32" for d in floats.values()) or sum(d.size for d in floats.values()) > MAX_FLOATS:
        raise InvalidModel("floats beside the model are too many or of another type", where=f"{where}:float",
                           allowed=f"float32, at most {MAX_FLOATS}")
    return floats


def read_floats(path: Path) -> dict[str, np.ndarray]:
    """(SPEC B.1) The floats that a model file carries beside its content, for exporters; by published names.

    Raises
    ------
    ModelError
        The file does not exist.
    InvalidModel
        It cannot be read, or the floats are too many, of another type, or not finite.
    """
    import h5py

    if not path.is_file():
        raise ModelError("model not found", where=str(path), cause="give a path or the name of an installed model")
    try:
        with h5py.File(path, "r") as f:
            found = stored(f, path.name)
            floats = {name: d.read() for name, d in _take_floats(found, path.name).items()}
    except _DAMAGE as e:
        raise _damaged(e, path.name) from e
    if wrong := sorted(name for name, array in floats.items() if not np.isfinite(array).all()):
        raise InvalidModel("a float is not finite", where=f"{path.name}:float", names=wrong[:5])
    return floats


def _damaged(error: Exception, where: str) -> InvalidModel:
    detail = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return InvalidModel("the model file cannot be read", where=where, detail=detail,
                        cause="it is damaged or not HDF5")


def _folders() -> Iterator[Path]:
    for entry in os.environ.get("REFCODEC_MODELS", "").split(os.pathsep):
        if entry:
            yield Path(entry)
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refcodec" / "models"


def installed() -> list[Path]:
    """Model files that are found by name or fingerprint: the package's, ``$REFCODEC_MODELS``, the user's cache."""
    paths = sorted(DEFAULT.parent.glob("*.h5"))
    for folder in _folders():
        paths += sorted(folder.glob("*.h5")) if folder.is_dir() else [folder] if folder.suffix == ".h5" else []
    return [p for p in paths if p.name != "tables.h5"]


@lru_cache(maxsize=4)
def _load(path: Path, stamp: tuple[int, int]) -> Model:
    content, provenance = read_content(path)
    return build_model(content, path.name, provenance)


def model_path(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """The file of a model by path or by installed name; of the default model without an argument.

    Raises
    ------
    ModelError
        No such model.
    """
    path = DEFAULT if name_or_path is None else Path(name_or_path)
    if path.is_file():
        return path
    if matches := [p for p in installed() if str(name_or_path) in (p.name, p.stem)]:
        return matches[0]
    raise ModelError("model not found", where=str(name_or_path),
                     cause="give a path, or put the file into a folder of $REFCODEC_MODELS")


def load_model(name_or_path: str | os.PathLike[str] | None = None) -> Model:
    """A model by path or by installed name; the default model without an argument.

    Raises
    ------
    ModelError
        No such model.
    InvalidModel
        The file is not a model that can be proved.
    """
    path = model_path(name_or_path)
    stat = path.stat()
    return _load(path.resolve(), (stat.st_mtime_ns, stat.st_size))


def find_model(wanted: bytes) -> Model:
    """The installed model with a fingerprint.

    Raises
    ------
    ModelError
        None has it; the fingerprints that were seen are named.
    """
    seen = {}
    for path in installed():
        try:
            model = load_model(path)
        except ModelError:
            continue
        if model.fingerprint == wanted:
            return model
        seen[path.name] = model.fingerprint.hex()
    raise ModelError("no installed model has the fingerprint that the stream names",
                     where="header offset 16 (SPEC 8.1)", wanted=wanted.hex(), installed=seen,
                     cause="get the model it was coded with and put it into a folder of $REFCODEC_MODELS")


__all__ = ["DEFAULT", "find_model", "fingerprint", "installed", "load_model", "model_path", "read_content",
           "read_floats", "write_model"]
