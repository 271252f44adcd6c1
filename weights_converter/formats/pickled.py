"""Names that a checkpoint's pickle may use, and what the reader of pickles makes of its objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STORAGE_TYPES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}

INERT = frozenset(
    [
        "collections.Counter",
        "collections.defaultdict",
        "collections.deque",
        "torch.device",
        "_codecs.encode",
        "numpy.dtype",
        "numpy.ndarray",
        "datetime.date",
        "datetime.datetime",
    ]
    + [f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")]
    + [f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")]
    + [f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "float", "int", "list")]
    + [f"torch.{name}" for name in ("float16", "float32", "float64", "bfloat16", "int32", "int64")]
)
"""Names met next to weights, in states of optimizers, metrics and arguments; each value becomes an `Inert`."""

INERT_OBJECTS = frozenset(
    ["argparse.Namespace", "types.SimpleNamespace"]
    + [
        f"{package}.utilities.{module}.AttributeDict"
        for package, module in (
            ("pytorch_lightning", "parsing"),
            ("lightning.pytorch", "parsing"),
            ("lightning.fabric", "data"),
        )
    ]
)
"""Classes whose objects are written by the opcode NEWOBJ or by a call; each becomes an `Inert`."""

RESAVE = (
    "only tensors and plain values are read, nothing is executed; in PyTorch, save the weights alone: "
    "torch.save({'state_dict': net.state_dict()}, path)"
)
"""Advice about a file with objects."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name on the allow-list, as met in the pickle."""

    name: str


@dataclass(frozen=True, slots=True)
class Inert:
    """An object of a harmless class, without its content."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `count` elements of type `dtype` that the file keeps under `key`."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as a view of a storage: offset, shape and strides in elements, proved to lie inside it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pickled:
    """Contents of one pickle, where it ended, and every storage it named."""

    value: Any
    end: int
    storages: dict[str, Storage]
