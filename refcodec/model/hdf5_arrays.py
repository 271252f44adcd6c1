"""Arrays of HDF5 files: where their numbers are stored, and how they are packed (SPEC B.1-24)."""

from __future__ import annotations

import math
import mmap
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from struct import Struct

import numpy as np

from ..errors import InvalidModel
from ..threads import thread_count
from .hdf5_bytes import FileBytes
from .hdf5_trees import NOWHERE, old_tree

MAX_CHUNKS = 1 << 12
"""Most chunks of a dataset (SPEC B.1-10)."""

MAX_PART = 1 << 22
"""Most bytes of a chunk that is not its whole array (SPEC B.1-10); such chunks are unpacked outside the array."""

_PIECE = 1 << 20
"""Most bytes that are inflated at once."""

_LARGE = 1 << 15
"""Bytes of an array from which on its memory comes from the system."""

_DEFLATE_MOST = 1032
"""Most bytes that one byte of a zlib stream inflates to."""

_UNPACKERS = 4
"""Maximum number of decompression threads. With more, the Python code between two arrays dominates."""

_DEFLATE, _SHUFFLE = 1, 2
"""Codes of filters."""

_PAIR, _NUMBER, _CHUNK_KEY, _OFFSET = Struct("<QQ"), Struct("<I"), Struct("<II"), Struct("<Q")
_OLD_FILTER, _NEW_FILTER = Struct("<HHHH"), Struct("<HHH")


@dataclass(eq=False)
class Stored:
    """A dataset whose description is checked and whose numbers are not yet read.

    Attributes
    ----------
    path : str
    dtype : str
        "int16", "int32", "int64", "uint8" or "float32".
    shape : tuple of int
    file : FileBytes
        The open file that holds the numbers.
    layout, filters : bytes
        The messages that say where and how they are stored; a compact layout holds the numbers.
    counted : bool
        The storage has been counted; a dataset may be read more than once.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    file: FileBytes
    layout: bytes
    filters: bytes
    counted: bool = False

    @property
    def where(self) -> str:
        """File and path, for messages."""
        return f"{self.file.where}:{self.path}"

    @property
    def size(self) -> int:
        """Count of numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers in memory."""
        return self.size * np.dtype(self.dtype).itemsize

    def read(self) -> np.ndarray:
        """(SPEC B.1-24) The numbers; takes their memory and a few MiB, and only if the file can hold them.

        Any number of threads may read datasets of one file.

        Raises
        ------
        InvalidModel
            Storage lies outside the file, is not there, or uses other filters than gzip and shuffle.
        ModelError
            The system cannot read the file.
        """
        kind, size = self.layout[1], self.nbytes
        if kind == 2:
            return self._chunked()
        place, stored = _PAIR.unpack(self.layout[2:18]) if kind else (0, int.from_bytes(self.layout[2:4], "little"))
        self._require(stored == size and (place != NOWHERE or not size), "the numbers are not in the file")
        if kind and size:
            self._count([(place, size)])
        numbers = np.empty(self.shape, np.dtype(self.dtype).newbyteorder("<"))
        if size:
            pieces = self.file.pieces(place, size) if kind else iter([self.layout[4:]])
            self._fill(numbers.reshape(-1).view(np.uint8), pieces, 1)
        return numbers.astype(self.dtype, copy=False)

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise InvalidModel(what, where=self.where)

    def _count(self, blocks: list[tuple[int, int]]) -> None:
        """Check that stored blocks lie inside the file, and count them once."""
        for place, size in blocks:
            self.file.inside(place, size)
            if not self.counted:
                self.file.count(place, size)
        self.counted = True

    def _chunked(self) -> np.ndarray:
        rank, width = len(self.shape), np.dtype(self.dtype).itemsize
        self._require(self.layout[2] == rank + 1 and len(self.layout) >= 15 + 4 * rank, "chunks of another rank")
        root = int.from_bytes(self.layout[3:11], "little")
        *chunk, element = (n for (n,) in _NUMBER.iter_unpack(self.layout[11 : 15 + 4 * rank]))
        self._require(
            element == width and all(1 <= c <= n for c, n in zip(chunk, self.shape, strict=True)),
            "a chunk is larger than its array, or has another width",
        )
        grid, nbytes = math.prod(-(-n // c) for n, c in zip(self.shape, chunk, strict=True)), math.prod(chunk) * width
        self._require(grid <= MAX_CHUNKS and (grid == 1 or nbytes <= MAX_PART), "too many or too large chunks")
        filters, chunks = self._filters(), dict[tuple[int, ...], tuple[int, int, int]]()
        for size, mask, place, address in self._leaves(root, rank):
            fits = place[-1] == 0 and all(
                at % c == 0 and at < n for at, c, n in zip(place[:-1], chunk, self.shape, strict=True)
            )
            self._require(fits and place not in chunks, "a chunk lies outside its array, or on another")
            chunks[place] = mask, size, address
            self._require(
                0 < size <= 2 * nbytes + 64 and size * _DEFLATE_MOST >= nbytes,
                "a chunk is longer or shorter than its numbers can be",
            )
        self._require(len(chunks) == grid, "a chunk is missing")
        self._count([(address, size) for _, size, address in chunks.values()])
        out = _room(self.shape, np.dtype(self.dtype).newbyteorder("<"))
        part = out if grid == 1 else np.empty(chunk, out.dtype)
        flat = part.reshape(-1).view(np.uint8)
        for place, (mask, size, address) in chunks.items():
            self._unpack(flat, address, size, [code for n, code in enumerate(filters) if not mask >> n & 1])
            if part is not out:
                target = out[tuple(slice(at, at + c) for at, c in zip(place[:-1], chunk, strict=True))]
                target[...] = part[tuple(slice(n) for n in target.shape)]
        return out.astype(self.dtype, copy=False)

    def _leaves(self, root: int, rank: int) -> list[tuple[int, int, tuple[int, ...], int]]:
        """Bytes, mask, place (rank + 1 numbers) and address of the chunks, one more than `MAX_CHUNKS` at most."""
        if root == NOWHERE:
            return []
        with self.file.walking:
            leaves = list(islice(old_tree(self.file, root, 1, 16 + 8 * rank, self.counted), MAX_CHUNKS + 1))
        return [
            (*_CHUNK_KEY.unpack(key[:8]), tuple(n for (n,) in _OFFSET.iter_unpack(key[8:])), address)
            for key, address in leaves
        ]

    def _filters(self) -> list[int]:
        """(SPEC B.1-9) Filters in the order of writing: of shuffle and gzip, each at most once."""
        data, found = self.filters, list[int]()
        if not data:
            return found
        self._require(len(data) >= (8 if data[0] == 1 else 2), "filters are cut short")
        version, at = data[0], 8 if data[0] == 1 else 2
        self._require(version in (1, 2) and data[1] <= 2, "an unknown filter")
        shape = _OLD_FILTER if version == 1 else _NEW_FILTER
        for _ in range(data[1]):
            self._require(at + shape.size <= len(data), "filters are cut short")
            code, name, count = (shape.unpack_from(data, at)[n] for n in ((0, 1, 3) if version == 1 else (0, 0, 2)))
            at += shape.size + (-(-name // 8) * 8 if version == 1 else 0)
            width = int.from_bytes(data[at : at + 4], "little") if count else 0
            if code not in (_SHUFFLE, _DEFLATE) or (code == _SHUFFLE and width != np.dtype(self.dtype).itemsize):
                raise InvalidModel("an unknown filter", where=self.where, filter=code, allowed="shuffle (2), gzip (1)")
            found.append(code)
            at += 4 * count + (4 * (count % 2) if version == 1 else 0)
            self._require(at <= len(data), "filters are cut short")
        self._require(found != [_DEFLATE, _SHUFFLE] and len(set(found)) == len(found), "filters in another order")
        return found

    def _unpack(self, out: np.ndarray, address: int, size: int, filters: list[int]) -> None:
        """Fill bytes [n], uint8, with a chunk's numbers: inflated to their size and no further, unshuffled."""
        pieces = self._inflated(address, size, out.size) if _DEFLATE in filters else self.file.pieces(address, size)
        self._fill(out, pieces, np.dtype(self.dtype).itemsize if _SHUFFLE in filters else 1)

    def _fill(self, out: np.ndarray, pieces: Iterator[bytes], width: int) -> None:
        """Fill bytes [n], uint8, from pieces: of numbers of this width first all first bytes, then all second ones."""
        planes, done = out.reshape(-1, width), 0
        for piece in pieces:
            data = np.frombuffer(piece, np.uint8)
            self._require(done + data.size <= out.size, "a chunk has a wrong size")
            while data.size:
                plane, at = divmod(done, len(planes))
                taken = min(data.size, len(planes) - at)
                planes[at : at + taken, plane] = data[:taken]
                data, done = data[taken:], done + taken
        self._require(done == out.size, "a chunk has a wrong size")

    def _inflated(self, address: int, size: int, nbytes: int) -> Iterator[bytes]:
        """The bytes of a zlib stream piece by piece, at most nbytes of them."""
        inflater, left = zlib.decompressobj(), nbytes
        try:
            for piece in self.file.pieces(address, size):
                while piece and not inflater.eof:
                    data = inflater.decompress(piece, min(left + 1, _PIECE))
                    left -= len(data)
                    self._require(left >= 0, "a chunk inflates to more than its size")
                    yield data
                    piece = inflater.unconsumed_tail
        except zlib.error as e:
            raise InvalidModel("a chunk cannot be inflated", where=self.where, detail=str(e)) from e
        self._require(inflater.eof, "a chunk is cut short, or inflates to more than its size")


def _room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that is not set. The system gets a large one's memory back when it ends, whichever thread made it.

    Weights end when they have been packed. What a helper thread allocates otherwise serves no other thread again.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    try:
        return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)
    except OSError as e:
        raise MemoryError(f"{size} bytes for numbers of a model") from e


def read_all(datasets: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """(SPEC B.1) The numbers of many datasets by name; threads share the unpacking.

    Raises
    ------
    InvalidModel, ModelError
        As ``Stored.read``.
    """
    waiting, numbers, failed = deque(datasets.items()), dict[str, np.ndarray](), list[BaseException]()

    def work() -> None:
        try:
            while waiting:
                name, dataset = waiting.popleft()
                numbers[name] = dataset.read()
        except IndexError:  # another thread took the last one
            pass
        except BaseException as e:
            failed.append(e)
            waiting.clear()

    helpers = [threading.Thread(target=work, daemon=True) for _ in range(min(thread_count(None), _UNPACKERS) - 1)]
    try:
        for helper in helpers:
            helper.start()
    except RuntimeError:  # the system has no more threads: those there are share the work
        pass
    work()
    for helper in helpers:
        if helper.ident is not None:
            helper.join()
    if failed:
        raise failed[0]
    return {name: numbers[name] for name in datasets}


__all__ = ["MAX_CHUNKS", "MAX_PART", "Stored", "read_all"]
