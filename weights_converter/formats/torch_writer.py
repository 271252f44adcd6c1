"""A writer of the zip format of torch.save: a stored zip of a pickle of protocol 2 and one file per tensor.

The few opcodes are written here, and the same tensors give the same bytes.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

_STORAGES = {"float32": "FloatStorage", "int32": "IntStorage", "int64": "LongStorage"}


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _value(value: Any) -> bytes:
    """A pickled bool, integer, text, list or dictionary of these."""
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return b"](" + b"".join(map(_value, value)) + b"e"
    return b"}(" + b"".join(_text(k) + _value(v) for k, v in value.items()) + b"u"


def _tuple(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_value, numbers)) + b"t"


def _tensor(key: str, array: np.ndarray) -> bytes:
    """Storage ``key`` as torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())."""
    strides = tuple(int(np.prod(array.shape[n + 1 :], dtype=np.int64)) for n in range(array.ndim))
    storage = (
        b"("
        + _text("storage")
        + f"ctorch\n{_STORAGES[str(array.dtype)]}\n".encode()
        + _text(key)
        + _text("cpu")
        + _value(array.size)
        + b"tQ"
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + _value(0)
        + _tuple(array.shape)
        + _tuple(strides)
        + _value(False)
        + b"ccollections\nOrderedDict\n)RtR"
    )


def torch_zip(state: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> bytes:
    """The bytes that torch.save writes for {"state_dict": state, "config": config}.

    Parameters
    ----------
    state : mapping of str to np.ndarray, float32, int32 or int64
    config : mapping
        Numbers, texts and lists of these.
    """
    members: dict[str, bytes] = {}
    entries = []
    for n, (name, array) in enumerate(state.items()):
        members[f"data/{n}"] = array.astype(array.dtype.newbyteorder("<")).tobytes()
        entries.append(_text(name) + _tensor(str(n), array))
    pickled = (
        b"\x80\x02}("
        + _text("state_dict")
        + b"}("
        + b"".join(entries)
        + b"u"
        + _text("config")
        + _value(dict(config))
        + b"u."
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {"data.pkl": pickled, "byteorder": b"little", **members, "version": b"3\n"}.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
    return file.getvalue()
