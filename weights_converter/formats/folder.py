"""Checkpoint folders of this project: ``meta.json``, and float16 parts small enough for size-limited channels."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from refcodec.errors import InvalidModel, MissingInput, TransferError
from refcodec.io.strict_json import json_object

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
"""Most parts of a checkpoint folder: 15 GiB, since parts are written in 15 MiB."""

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
