"""HDF5 files of integer models (SPEC 10, annex B).

They are read by refcodec/model/hdf5.py, which believes nothing that a file says. Every array but the configuration's is
compared with what the configuration asks for before memory is taken. Only writing uses the HDF5 library.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidModel, LimitExceeded, ModelError
from ..io.files import write_bytes
from ..io.strict_json import json_object
from .hdf5 import Hdf5
from .hdf5_arrays import Stored, read_all
from .integer_model import MAX_NUMBERS, Content, check_layout, fingerprint, read_config

FORMAT = "refcodec-model"
VERSION = 1
"""Version of the schema (SPEC B.1-1)."""

MAX_PROVENANCE = 1 << 20
"""Largest provenance text in bytes (SPEC B.1-3)."""

MAX_NESTING = 64
"""Deepest nesting of the provenance (SPEC B.1-13): printing it takes as many levels of recursion."""

MAX_DIGITS = 1000
"""Characters of the longest integer of the provenance that is read as a number."""

MAX_FLOATS = 1 << 24
"""Largest count of floats (SPEC B.1-4) in addition to a model's integers; they are not read for coding."""


@dataclass(eq=False)
class ModelFile:
    """Contents of a model file.

    Attributes
    ----------
    content : mapping of str to np.ndarray
        The normative arrays, read-only.
    provenance : dict
        How the model was made, from JSON; any values.
    claim : bytes or None
        The fingerprint that the file says it has.
    """

    content: dict[str, np.ndarray]
    provenance: dict[str, Any]
    claim: bytes | None

    @cached_property
    def fingerprint(self) -> bytes:
        """The content's fingerprint (SPEC 10.3)."""
        return fingerprint(self.content)

    def check_claim(self, where: str) -> None:
        """(SPEC B.1-17) Refuse a file that claims another fingerprint than its content's."""
        if self.claim is not None and self.claim != self.fingerprint:
            raise InvalidModel(
                "the model file claims another fingerprint",
                where=where,
                claimed=self.claim.hex(),
                right=self.fingerprint.hex(),
                cause="the file was damaged or changed after its making",
            )


def write_hdf5(
    path: str | os.PathLike[str], attributes: Mapping[str, Any], arrays: Content, force: bool = False
) -> None:
    """(SPEC B.1) Write attributes of the root and arrays as datasets, whole or not at all.

    The versions of HDF5 are those whose structures every reader knows (SPEC B.1-19 to B.1-25).

    Parameters
    ----------
    path : path
    attributes : mapping
        Attributes of the root.
    arrays : mapping of str to np.ndarray
        Datasets by path; they are stored little-endian.
    force : bool
        Replace an existing file.

    Raises
    ------
    OutputError, TransferError
        As ``files.write_bytes``.
    """
    import h5py

    data = io.BytesIO()
    with h5py.File(data, "w", libver=("v108", "v110")) as f:
        for name, value in attributes.items():
            f.attrs[name] = value
        for name in sorted(arrays):
            array = arrays[name].astype(arrays[name].dtype.newbyteorder("<"))
            if array.size > 256:
                dataset = f.create_dataset(
                    name, array.shape, array.dtype, chunks=array.shape, compression="gzip", shuffle=True
                )
                dataset.id.write_direct_chunk((0,) * array.ndim, _packed(array))
            else:
                f.create_dataset(name, data=array)
    write_bytes(path, data.getvalue(), force)


def write_model(
    path: str | os.PathLike[str],
    content: Content,
    provenance: Mapping[str, Any],
    floats: Content | None = None,
    force: bool = True,
) -> None:
    """(SPEC B.1) Write content, its fingerprint, provenance and floats for exporters to an HDF5 file.

    Parameters
    ----------
    path : path
    content : mapping of str to np.ndarray
        The normative arrays (SPEC 10.2).
    provenance : mapping
        Any values that JSON can hold.
    floats : mapping of str to np.ndarray, or None
        By published names; written as float32.
    force : bool
        Overwrite an existing file.

    Raises
    ------
    InvalidModel
        The provenance is too long, or nested too deeply, to be read back.
    OutputError, TransferError
        As ``files.write_bytes``.
    """
    plain = json.loads(json.dumps(dict(provenance)), parse_constant=str)  # JSON has no NaN and no infinities
    text = json.dumps(plain, sort_keys=True).encode()
    if len(text) > MAX_PROVENANCE:
        raise InvalidModel("the provenance is no short text", where=str(path), bytes=len(text), allowed=MAX_PROVENANCE)
    _provenance(text, str(path))
    arrays = {
        **content,
        **{f"float/{name}": a.astype(np.float32) for name, a in (floats or {}).items()},
        "provenance": np.frombuffer(text, np.uint8),
    }
    write_hdf5(
        path,
        {
            "format": np.bytes_(FORMAT),
            "version": np.int64(VERSION),
            "fingerprint": np.bytes_(fingerprint(content).hex()),
        },
        arrays,
        force,
    )


def _packed(array: np.ndarray) -> bytes:
    """(SPEC B.1) Shuffled and deflated as HDF5's filters do.

    Weights are noise to a dictionary: Huffman codes alone are shorter, and fifty times as fast as HDF5's level 9.
    """
    shuffled = np.frombuffer(array.tobytes(), np.uint8).reshape(-1, array.itemsize).T.tobytes()
    strategy = zlib.Z_HUFFMAN_ONLY if array.dtype == np.int16 else zlib.Z_DEFAULT_STRATEGY
    packer = zlib.compressobj(9, strategy=strategy)
    return packer.compress(shuffled) + packer.flush()


@contextmanager
def _opened(path: Path) -> Iterator[Hdf5]:
    """Open a model file; lack of memory until it is closed is a limit, not damage."""
    if not os.path.isfile(path):
        raise ModelError("model not found", where=str(path), cause="give a path or the name of an installed model")
    try:
        with open(path, "rb", buffering=0) as file:
            yield Hdf5(file, path.name)
    except OSError as e:
        raise ModelError("the model file cannot be opened", where=str(path), detail=e.strerror or str(e)) from e
    except MemoryError as e:
        raise LimitExceeded("too little memory to read the model", where=str(path)) from e


def read_claim(path: Path) -> bytes | None:
    """(SPEC B.1-27) The fingerprint that a model file says it has, for which its arrays are not needed.

    Raises
    ------
    ModelError
        The file does not exist or cannot be read.
    InvalidModel
        It is no model file of this version.
    LimitExceeded
        There is too little memory.
    """
    with _opened(path) as file:
        return _check_kind(file)


def read_file(path: Path) -> ModelFile:
    """(SPEC B.1) A model file: normative arrays, provenance, claim.

    The configuration is read first. It says how large every other array is, so all else that the file declares is
    refused before memory is taken for it.

    Raises
    ------
    ModelError
        The file does not exist or cannot be read.
    InvalidModel
        It is not a model of this version, or holds something a model may not hold.
    LimitExceeded
        There is too little memory.
    """
    with _opened(path) as file:
        found = _read(file, path.name)
    for array in found.content.values():
        array.flags.writeable = False
    return found


def read_content(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(SPEC B.1) Normative arrays and provenance of a model file, its claim checked; raises as `read_file`."""
    found = read_file(path)
    found.check_claim(path.name)
    return found.content, found.provenance


def _check_kind(file: Hdf5) -> bytes | None:
    """Check the attributes (SPEC B.1-17), and give the fingerprint that is claimed."""
    if file.attributes.get("format") != FORMAT:
        raise InvalidModel(
            "not a refcodec model", where=file.where, cause="convert the checkpoint with weights_converter"
        )
    if (version := file.attributes.get("version")) != VERSION:
        raise InvalidModel(
            "unknown model version",
            where=file.where,
            version=str(version),
            known=VERSION,
            cause="convert the checkpoint again: version 0 was the schema before the format" if version == 0 else "",
        )
    if "fingerprint" not in file.attributes:
        return None
    claim = file.attributes["fingerprint"]
    if not isinstance(claim, str) or len(claim) != 32 or set(claim) - set("0123456789abcdef"):
        raise InvalidModel(
            "the claimed fingerprint is none",
            where=file.where,
            claimed=str(claim),
            allowed="text of fixed length, 32 hexadecimal digits",
        )
    return bytes.fromhex(claim)


def _read(file: Hdf5, where: str) -> ModelFile:
    claim = _check_kind(file)
    found = file.datasets()
    _take_floats(found, where)
    text = found.pop("provenance", None)
    if text is not None and (text.dtype != "uint8" or len(text.shape) != 1 or text.size > MAX_PROVENANCE):
        raise InvalidModel(
            "the provenance is no short text",
            where=text.where,
            type=text.dtype,
            shape=list(text.shape),
            allowed=f"uint8, at most {MAX_PROVENANCE}",
        )
    content: dict[str, np.ndarray] = {}
    for name, dataset in found.items():
        if name.startswith("config/"):
            if dataset.size > 8:
                raise InvalidModel(
                    "configuration field has a wrong shape", where=dataset.where, shape=list(dataset.shape)
                )
            content[name] = dataset.read()
    check_layout(read_config(content, where), {name: (d.dtype, d.shape) for name, d in found.items()}, where)
    if (total := sum(d.size for d in found.values())) > MAX_NUMBERS:
        raise InvalidModel("the model is too large", where=where, numbers=total, allowed=MAX_NUMBERS)
    content |= read_all({name: d for name, d in found.items() if name not in content})
    provenance = {} if text is None else _provenance(text.read().tobytes(), text.where)
    file.check_apart()
    return ModelFile(content, provenance, claim)


def _provenance(text: bytes, where: str) -> dict[str, Any]:
    """(SPEC B.1-13) The provenance: one JSON object, which prints without an exception.

    Numbers that Python does not hold are kept as text.
    """

    def number(digits: str) -> float | str:
        return float(digits) if isfinite(float(digits)) else digits

    def integer(digits: str) -> int | str:
        return int(digits) if len(digits) <= MAX_DIGITS else digits

    found = json_object(text, where, "the provenance", number, integer)
    level: list[Any] = [found]
    for _ in range(MAX_NESTING):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
    if level:
        raise InvalidModel("the provenance is nested too deeply", where=where, allowed=MAX_NESTING)
    return found


def _take_floats(found: dict[str, Stored], where: str) -> dict[str, Stored]:
    """(SPEC B.1) Remove from ``found`` what takes no part in decoding: the datasets of the group ``float``, unread."""
    floats = {name[6:]: found.pop(name) for name in list(found) if name.startswith("float/")}
    if any(d.dtype != "float32" for d in floats.values()) or sum(d.size for d in floats.values()) > MAX_FLOATS:
        raise InvalidModel(
            "floats are too many or of another type", where=f"{where}:float", allowed=f"float32, at most {MAX_FLOATS}"
        )
    return floats


def read_floats(path: Path) -> dict[str, np.ndarray]:
    """(SPEC B.1) The floats that a model file carries in addition to its content, for exporters; by published names.

    Raises
    ------
    ModelError
        The file does not exist or cannot be read.
    InvalidModel
        It is no HDF5 file of models, or the floats are too many, of another type, or not finite.
    LimitExceeded
        There is too little memory.
    """
    with _opened(path) as file:
        floats = read_all(_take_floats(file.datasets(), path.name))
    if wrong := sorted(name for name, array in floats.items() if not np.isfinite(array).all()):
        raise InvalidModel("a float is not finite", where=f"{path.name}:float", names=wrong[:5])
    return floats


__all__ = [
    "FORMAT",
    "MAX_DIGITS",
    "MAX_FLOATS",
    "MAX_NESTING",
    "MAX_NUMBERS",
    "MAX_PROVENANCE",
    "VERSION",
    "ModelFile",
    "read_claim",
    "read_content",
    "read_file",
    "read_floats",
    "write_hdf5",
    "write_model",
]
