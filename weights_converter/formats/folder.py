"""Checkpoint folders of this project: ``meta.json``, and float16 parts small enough for size-limited channels."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.errors import InvalidModel, MissingInput, OutputError, TransferError
from refcodec.io.strict_json import json_object

from .spelling import NAME
from .stored_tensors import (
    MAX_JSON_BYTES,
    MAX_LISTED,
    MAX_TENSORS,
    ByteSource,
    Contents,
    TensorView,
    contiguous_strides,
    is_shape,
    item_bytes,
    shortened,
)

MAX_PARTS = 1 << 10
"""Most parts of a checkpoint folder: 15 GiB at the size in which they are written."""

PART_BYTES = 15 << 20
"""Size in which parts are written, so that each can be carried through size-limited channels."""

_PART = re.compile(r"weights\.part(0|[1-9]\d{0,5})")


def folder_files(folder: Path) -> list[Path]:
    """meta.json and the parts in order; numbers without gaps."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith("weights.part")]
    except OSError as error:
        raise TransferError("cannot list the folder", where=str(folder), reason=error.strerror) from error
    if not (folder / "meta.json").is_file():
        there = sorted(os.listdir(folder))[:MAX_LISTED]
        distributed = any(name.endswith(".distcp") for name in there)
        raise MissingInput(
            "checkpoint folder without meta.json",
            where=str(folder),
            found=[shortened(name) for name in there],
            cause=(
                "join it first with torch.distributed.checkpoint.format_utils.dcp_to_torch_save"
                if distributed
                else "give one of the files in it, or a folder that this project wrote"
            ),
        )
    if strange := [name for name in names if not _PART.fullmatch(name)]:
        raise InvalidModel("part with an impossible number", where=str(folder), name=shortened(strange[0]))
    numbers = sorted(int(name.removeprefix("weights.part")) for name in names)
    if not numbers or numbers != list(range(len(numbers))) or len(numbers) > MAX_PARTS:
        raise InvalidModel("parts missing, or too many", where=str(folder), found=numbers[:MAX_LISTED], limit=MAX_PARTS)
    return [folder / "meta.json", *(folder / f"weights.part{number}" for number in numbers)]


def read_folder(source: ByteSource, folder: Path) -> Contents:
    """Describe a checkpoint folder: float16 tensors in the order of meta.json, one after the other."""
    where = f"{folder}, meta.json"
    length = source.first_size
    if length > MAX_JSON_BYTES:
        raise InvalidModel("meta.json too long", where=where, bytes=length, limit=MAX_JSON_BYTES)
    meta = json_object(source.read(0, length, where), where, "meta.json")
    listed, config = meta.pop("tensors", None), meta.pop("config", None)
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_TENSORS:
        raise InvalidModel("meta.json lists no tensors or too many", where=where, limit=MAX_TENSORS)
    tensors: dict[str, TensorView] = {}
    at = length
    for index, entry in enumerate(listed):
        if not isinstance(entry, list) or len(entry) != 2 or type(entry[0]) is not str or not is_shape(entry[1]):
            raise InvalidModel("malformed tensor entry", where=f"{where}, tensor {index}")
        name, shape = entry
        if name in tensors:
            raise InvalidModel("two tensors of one name", where=where, name=shortened(name))
        tensors[name] = TensorView("float16", tuple(shape), contiguous_strides(shape), at)
        at += math.prod(shape) * item_bytes("float16")
    if at != source.size:
        raise InvalidModel(
            "parts do not hold exactly the listed numbers",
            where=str(folder),
            bytes=source.size - length,
            expected=at - length,
        )
    return Contents(tensors, meta, config)


def save_checkpoint_folder(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any], *, force: bool = False
) -> None:
    """Write a checkpoint folder: written beside the target and renamed, so a failed run leaves nothing behind.

    Parameters
    ----------
    path : path
        The folder to make.
    tensors : mapping of str to np.ndarray
        Floating point; stored as float16, rounded to nearest even.
    meta : mapping
        JSON values, by habit ``step`` and ``config``; ``tensors`` is filled in.
    force : bool
        Replace an existing checkpoint folder.

    Raises
    ------
    InvalidModel
        A tensor is not floating point, does not fit float16, or has an impossible name; meta is not JSON.
    OutputError
        The path exists and `force` is false, or holds other files than those of a checkpoint.
    TransferError
        Writing failed.
    """
    path = Path(path)
    if path.exists() and not (force and path.is_dir() and all(map(_is_ours, os.listdir(path)))):
        raise OutputError("exists", where=str(path), cause="only a folder with nothing but a checkpoint is replaced")
    listed = [[name, list(array.shape)] for name, array in tensors.items()]
    try:
        head = json.dumps({**meta, "tensors": listed}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidModel("meta is not JSON", where=str(path), reason=str(error)) from error
    blob = b"".join(_as_float16(name, array, path) for name, array in tensors.items())
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        beside.mkdir(parents=True)
        try:
            for part, at in enumerate(range(0, max(len(blob), 1), PART_BYTES)):
                (beside / f"weights.part{part}").write_bytes(blob[at : at + PART_BYTES])
            (beside / "meta.json").write_text(head, encoding="utf-8")
            if path.exists():
                _remove(path)
            beside.rename(path)
        finally:
            if beside.exists():
                _remove(beside)
    except OSError as error:
        raise TransferError("cannot write the checkpoint", where=str(path), reason=error.strerror) from error


def _as_float16(name: str, array: np.ndarray, path: Path) -> bytes:
    if not NAME.fullmatch(name) or array.dtype.kind != "f":
        raise InvalidModel(
            "not a floating point tensor, or an impossible name",
            where=f"{path}, {shortened(name)}",
            dtype=str(array.dtype),
        )
    with np.errstate(over="ignore"):  # overflow becomes infinity and is refused below
        half = array.astype("<f2")
    if not np.isfinite(half).all():
        raise InvalidModel("tensor does not fit float16", where=f"{path}, tensor {name}")
    return half.tobytes()


def _is_ours(name: str) -> bool:
    return name == "meta.json" or _PART.fullmatch(name) is not None


def _remove(folder: Path) -> None:
    """Remove a checkpoint folder and nothing else."""
    for name in os.listdir(folder):
        if _is_ours(name):
            (folder / name).unlink()
    folder.rmdir()
