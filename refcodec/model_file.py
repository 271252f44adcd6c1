"""HDF5 files of integer models, and where they are found (SPEC 10, annex B).

Reading trusts nothing: only hard links, groups and datasets of fixed-size integers in contiguous or chunked storage
inside the file, with gzip and shuffle as the only filters; every size is checked before memory is taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InvalidModel, ModelError
from .model import Content, Model, build_model, fingerprint

FORMAT = "refcodec-model"
VERSION = 0
"""Version of the schema; 0 until the format is declared frozen."""

MAX_NUMBERS = 1 << 28
"""Largest count of integers in a model: twice the largest published configuration."""

MAX_PROVENANCE = 1 << 20
"""Largest provenance text in bytes."""

DEFAULT = Path(__file__).parent / "data" / "default.h5"


def write_model(path: Path, content: Content, provenance: Mapping[str, Any]) -> None:
    """Write content and provenance to an HDF5 file beside ``path`` and rename it (SPEC annex B)."""
    import h5py

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "w", libver=("v108", "v110")) as f:
            f.attrs["format"] = FORMAT
            f.attrs["version"] = np.int64(VERSION)
            for name in sorted(content):
                array = content[name].astype(content[name].dtype.newbyteorder("<"))
                if array.size > 256:
                    f.create_dataset(name, data=array, compression="gzip", compression_opts=9, shuffle=True,
                                     chunks=array.shape)
                else:
                    f.create_dataset(name, data=array)
            text = json.dumps(dict(provenance), sort_keys=True).encode()
            f.create_dataset("provenance", data=np.frombuffer(text, np.uint8))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _datasets(group: Any, where: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Datasets by path; refuses every kind of link and object that could lead outside the file."""
    import h5py

    if depth > 8:
        raise InvalidModel("groups are nested too deeply", where=where, group=prefix)
    for name in group:
        path = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InvalidModel("a soft or external link", where=f"{where}:{path}", cause="models hold hard links only")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, where, f"{path}/", depth + 1)
        elif isinstance(item, h5py.Dataset):
            yield path, item
        else:
            raise InvalidModel("neither a group nor a dataset", where=f"{where}:{path}")


def _check_storage(path: str, dataset: Any, where: str) -> None:
    import h5py

    place = f"{where}:{path}"
    properties = dataset.id.get_create_plist()
    inside = (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT)
    if properties.get_layout() not in inside or properties.get_external_count():
        raise InvalidModel("external or virtual storage", where=place, cause="models hold their numbers themselves")
    filters = {properties.get_filter(n)[0] for n in range(properties.get_nfilters())}
    if not filters <= {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}:
        raise InvalidModel("an unknown filter", where=place, filters=sorted(filters), allowed="gzip, shuffle")
    if dataset.dtype not in [np.dtype(t) for t in ("<i2", "<i4", "<i8", "u1")] or dataset.shape is None:
        raise InvalidModel("not an array of int16, int32 or int64", where=place, dtype=str(dataset.dtype))


def read_content(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Normative arrays and provenance of a model file.

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
            if f.attrs.get("format") != FORMAT:
                raise InvalidModel("not a refcodec model", where=where,
                                   cause="convert the checkpoint with weights_converter")
            if f.attrs.get("version") != VERSION:
                raise InvalidModel("unknown model version", where=where, version=str(f.attrs.get("version")),
                                   known=VERSION)
            found = dict(_datasets(f, where))
            total = 0
            for name, dataset in found.items():
                _check_storage(name, dataset, where)
                total += dataset.size
            if total > MAX_NUMBERS:
                raise InvalidModel("the model is too large", where=where, numbers=total, allowed=MAX_NUMBERS)
            provenance: dict[str, Any] = {}
            if (text := found.pop("provenance", None)) is not None:
                if text.size > MAX_PROVENANCE:
                    raise InvalidModel("the provenance is too long", where=where, bytes=text.size,
                                       allowed=MAX_PROVENANCE)
                provenance = json.loads(text[:].tobytes())
            content = {name: np.asarray(dataset[()]) for name, dataset in found.items()}
    except (OSError, KeyError, RuntimeError, ValueError) as e:
        raise InvalidModel("the model file cannot be read", where=where, detail=str(e).splitlines()[0][:200],
                           cause="it is damaged or not HDF5") from e
    for array in content.values():
        array.flags.writeable = False
    return content, provenance


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


def load_model(name_or_path: str | os.PathLike[str] | None = None) -> Model:
    """A model by path or by installed name; the default model without an argument.

    Raises
    ------
    ModelError
        No such model.
    InvalidModel
        The file is not a model that can be proved.
    """
    path = DEFAULT if name_or_path is None else Path(name_or_path)
    if not path.is_file():
        matches = [p for p in installed() if str(name_or_path) in (p.name, p.stem)]
        if not matches:
            raise ModelError("model not found", where=str(name_or_path),
                             cause="give a path, or put the file into a folder of $REFCODEC_MODELS")
        path = matches[0]
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


__all__ = ["DEFAULT", "find_model", "fingerprint", "installed", "load_model", "read_content", "write_model"]
