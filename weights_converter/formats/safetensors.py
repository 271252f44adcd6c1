"""Safetensors files: read without trust, and written byte by byte, so that the same tensors give the same bytes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from refcodec.errors import InvalidModel
from refcodec.io.strict_json import json_object

from .stored_tensors import (
    MAX_JSON_BYTES,
    MAX_TENSORS,
    ByteSource,
    Contents,
    TensorView,
    contiguous_strides,
    is_shape,
    is_sizes,
    item_bytes,
    shortened,
)

TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Type of `stored_tensors.DTYPES` by its code in the header."""

_CODES = {name: code for code, name in TYPES.items()}


def read_safetensors(source: ByteSource, where: str) -> Contents:
    """Describe a safetensors file: header length, JSON header, tensors that fill the rest without gaps."""
    where = f"{where}, header"
    (length,) = struct.unpack("<Q", source.read(0, 8, where))
    if length > MAX_JSON_BYTES or 8 + length > source.size:
        raise InvalidModel("safetensors header too long or truncated", where=where, bytes=length, limit=MAX_JSON_BYTES)
    header = json_object(source.read(8, length, where), where, "the safetensors header")
    meta = header.pop("__metadata__", {})
    if not isinstance(meta, dict) or not all(type(value) is str for value in meta.values()):
        raise InvalidModel("safetensors metadata does not consist of strings", where=where)
    if not 0 < len(header) <= MAX_TENSORS:
        raise InvalidModel("no tensors or too many", where=where, tensors=len(header), limit=MAX_TENSORS)
    tensors = {}
    places = []
    for name, entry in header.items():
        place = f"{where}, tensor {shortened(name)}"
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise InvalidModel("malformed tensor entry", where=place)
        code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        dtype = TYPES.get(code) if type(code) is str else None
        if dtype is None or not is_shape(shape) or not is_sizes(offsets) or len(offsets) != 2:
            raise InvalidModel(
                "unknown type, or impossible shape or offsets",
                where=place,
                dtype=shortened(code) if type(code) is str else type(code).__name__,
            )
        begin, end = offsets
        if end - begin != math.prod(shape) * item_bytes(dtype):
            raise InvalidModel("offsets do not fit the shape", where=place, begin=begin, end=end, shape=shape)
        places.append((begin, end, place))
        tensors[name] = TensorView(dtype, tuple(shape), contiguous_strides(shape), 8 + length + begin)
    reached = 0
    for begin, end, place in sorted(places):
        if begin != reached:
            raise InvalidModel("gap or overlap before a tensor", where=place, begin=begin, expected=reached)
        reached = end
    if 8 + length + reached != source.size:
        raise InvalidModel("tensors do not fill the file", where=where, end=8 + length + reached, bytes=source.size)
    return Contents(tensors, meta)


def safetensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file: header length, JSON header padded to 8 bytes, numbers in little-endian order.

    Arrays of wider types come first, so that every array lies at a multiple of its width.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    parts, at = [], 0
    for name in sorted(arrays, key=lambda n: (-arrays[n].itemsize, n)):
        array = arrays[name]
        parts.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
        header[name] = {
            "dtype": _CODES[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])
