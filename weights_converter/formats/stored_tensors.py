"""Where a checkpoint keeps its numbers: bytes of one or several files, and tensors as strided views of them.

The file formats only describe tensors; nothing is read until `load_float32` is asked for one, and then exactly the span
that the description covers, which the format has proved to lie inside the file.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from refcodec.errors import InvalidModel, MissingInput, TransferError
from refcodec.io.console import printable

MAX_CHECKPOINT_BYTES = (1 << 32) - 1
"""Largest checkpoint: training states of the largest configuration take 1.0 GB, and plain zip offsets end here."""

MAX_TENSORS = 1 << 13
"""Most tensors a state dict may name: the largest configuration has about 1,500 with all its buffers."""

MAX_JSON_BYTES = 1 << 20
"""Longest meta.json or safetensors header: the largest configuration takes 0.2 MB, and a parsed byte costs up to 25."""

MAX_LISTED = 8
"""Most names listed in a message."""

MAX_DIMENSIONS = 8
"""Most dimensions of a tensor: the network uses at most four."""

MAX_ELEMENTS = 1 << 40
"""Largest count, size or stride read from a file: sums and products stay small enough to check."""

MAX_REACH = 8
"""How many times over the views of a state dict may span their storage. A view is read as one run of bytes from its
first to its last element, so this bounds what is read by the size of the file."""

CHUNK_BYTES = 1 << 20
"""Bytes taken at a time where a whole file or member is hashed."""

DTYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "|i1",
    "uint8": "|u1",
    "bool": "|b1",
}
"""NumPy type in the file by name; bfloat16 is read as its 16 bits, the upper half of a float32."""


@dataclass(frozen=True)
class TensorView:
    """One tensor as a view of the bytes of a checkpoint.

    Attributes
    ----------
    dtype : str
        A key of `DTYPES`.
    shape, strides : tuple of int
        Sizes and steps in elements, all non-negative.
    start : int
        Byte offset of the first element in the source.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating point numbers."""
        return "float" in self.dtype


@dataclass(frozen=True)
class Contents:
    """Description of a checkpoint file, before any tensor is read.

    Attributes
    ----------
    tensors : dict of str to TensorView
        The state dict with the names of the file, in its order.
    meta : dict
        The plain values next to it.
    config : object
        The value of ``config`` next to it, else None.
    taken : str
        Keys that lead to the state dict, joined by ``/``; empty if it is the whole file.
    left : tuple of str
        The same for the other state dicts of this family in the file.
    prefix : str
        The prefix of names that the caller asked for, if no key has that name.
    """

    tensors: dict[str, TensorView]
    meta: dict[str, Any]
    config: Any = None
    taken: str = ""
    left: tuple[str, ...] = ()
    prefix: str = ""


def shortened(text: str) -> str:
    """A string of a file, cut and escaped, fit for a message."""
    return printable(text[:80]) + ("..." if len(text) > 80 else "")


def item_bytes(dtype: str) -> int:
    """Bytes of one element of a type of `DTYPES`."""
    return np.dtype(DTYPES[dtype]).itemsize


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides of a shape, in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def span(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Elements from the first to the last one a view touches, both counted; 0 for an empty view."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def is_shape(value: Any) -> bool:
    """Whether a value read from a file is a shape; of an empty one, a shape that NumPy can make.

    NumPy refuses an array whose sizes other than 0 have a product beyond its limit. Shapes without a 0 are held to the
    bytes that the file has for them.
    """
    return is_sizes(value) and (0 not in value or math.prod(size or 1 for size in value) <= MAX_ELEMENTS)


def is_sizes(value: Any) -> bool:
    """Whether a value read from a file is a tuple or list of a few sizes, strides or offsets within the limits."""
    return (
        isinstance(value, tuple | list)
        and len(value) <= MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size <= MAX_ELEMENTS for size in value)
    )


class ByteSource:
    """The bytes of one or several files in a row, closed with the ``with`` block.

    Parameters
    ----------
    paths : sequence of Path
        Regular files; they are opened once, so what is hashed is what is read.

    Raises
    ------
    MissingInput
        A path does not exist or is not a regular file.
    InvalidModel
        Together the files are larger than `MAX_CHECKPOINT_BYTES`.
    TransferError
        A file cannot be opened.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._stack = ExitStack()
        self._files: list[tuple[int, int, BinaryIO]] = []
        self.size = 0
        try:
            for path in paths:
                handle = self._stack.enter_context(_open_regular(path))
                length = os.fstat(handle.fileno()).st_size
                self._files.append((self.size, length, handle))
                self.size += length
            if self.size > MAX_CHECKPOINT_BYTES:
                raise InvalidModel(
                    "checkpoint too large", where=str(paths[0]), bytes=self.size, limit=MAX_CHECKPOINT_BYTES
                )
        except BaseException:
            self._stack.close()
            raise

    @property
    def first_size(self) -> int:
        """Bytes of the first file."""
        return self._files[0][1]

    def __enter__(self) -> ByteSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, start: int, count: int, where: str) -> bytes:
        """Read exactly `count` bytes from `start`.

        Parameters
        ----------
        start, count : int
        where : str
            Names the bytes in errors.

        Returns
        -------
        bytes

        Raises
        ------
        InvalidModel
            The range leaves the source, or a file shrank under the reader.
        TransferError
            The system refused to read.
        """
        if min(start, count) < 0 or start + count > self.size:
            raise InvalidModel(
                "range outside the file",
                where=where,
                start=start,
                count=count,
                bytes=self.size,
                cause="the checkpoint is truncated or damaged",
            )
        pieces = []
        for first, length, handle in self._files:
            low, high = max(start, first), min(start + count, first + length)
            if low < high:
                try:
                    handle.seek(low - first)
                    pieces.append(handle.read(high - low))
                except OSError as error:
                    raise TransferError("cannot read the checkpoint", where=where, reason=error.strerror) from error
        data = b"".join(pieces) if len(pieces) != 1 else pieces[0]
        if len(data) != count:
            raise InvalidModel("file shrank while it was read", where=where, start=start, count=count)
        return data

    def chunks(self, start: int, count: int, where: str) -> Iterator[bytes]:
        """Yield the bytes that `read` returns, a bounded piece at a time; arguments are those of `ByteSource.read`."""
        for at in range(start, start + count, CHUNK_BYTES):
            yield self.read(at, min(CHUNK_BYTES, start + count - at), where)

    def sha256(self) -> str:
        """SHA-256 of all bytes in order, in hexadecimal."""
        digest = hashlib.sha256()
        for piece in self.chunks(0, self.size, "digest"):
            digest.update(piece)
        return digest.hexdigest()


def _open_regular(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before opening: a pipe would block
            raise MissingInput("not a regular file", where=str(path))
        return path.open("rb")
    except FileNotFoundError as error:
        raise MissingInput("no such file", where=str(path)) from error
    except OSError as error:
        raise TransferError("cannot open the checkpoint", where=str(path), reason=error.strerror) from error


def load_float32(source: ByteSource, view: TensorView, where: str) -> np.ndarray:
    """Read one floating point tensor.

    Parameters
    ----------
    source : ByteSource
    view : TensorView
        Of a floating point type, its span proved to lie inside `source`.
    where : str
        Names the tensor in errors.

    Returns
    -------
    np.ndarray
        [shape] float32, contiguous, own memory; float64 is rounded to nearest even.

    Raises
    ------
    InvalidModel
        A value is infinite or not a number, as stored or after rounding to float32.
    """
    count = span(view.shape, view.strides)
    stored = np.frombuffer(source.read(view.start, count * item_bytes(view.dtype), where), DTYPES[view.dtype])
    if view.dtype == "bfloat16":
        stored = (stored.astype("<u4") << 16).view("<f4")
    if view.strides == contiguous_strides(view.shape) or count == 0:
        stored = stored.reshape(view.shape)
    else:
        steps = tuple(stride * stored.itemsize for stride in view.strides)
        stored = np.lib.stride_tricks.as_strided(stored, view.shape, steps, writeable=False)
    with np.errstate(over="ignore"):  # overflow becomes infinity and is refused below
        values = np.array(stored, dtype=np.float32, order="C")
    if not np.isfinite(values).all():
        raise InvalidModel(
            "tensor holds infinities or NaN",
            where=where,
            count=int(values.size - np.isfinite(values).sum()),
            cause="the training diverged or the file is damaged",
        )
    return values
