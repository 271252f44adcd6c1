"""Integer datasets of an HDF5 file, read with distrust (SPEC annex B).

Nothing is followed that leads outside the file, no size is believed before it is checked, and filters run here rather
than in the HDF5 library, whose inflation grows without a bound and whose unknown filters load code. The library knows
more structures than a reader has to (SPEC B.1-19 to B.1-25); tests/plain_hdf5.py reads models with those alone.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arith.threads import thread_count
from .errors import InvalidModel

MAX_DEPTH = 8
"""Deepest nesting of groups (SPEC B.1-6)."""

MAX_DATASETS = 1 << 14
"""Most objects of a file beside its root (SPEC B.1-6): three times what 32 slices need."""

MAX_CHUNKS = 1 << 12
"""Most chunks of a dataset (SPEC B.1-10)."""

_ATTRIBUTE_BYTES = 64

_UNPACKERS = 4
"""Threads that unpack at most; beyond, what the interpreter does between two arrays is the longer part."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A dataset whose description is checked and whose numbers are not yet read.

    Attributes
    ----------
    where : str
        File and path.
    dtype : str
        "int16", "int32", "int64", "uint8" or "float32".
    shape : tuple of int
    file : h5py.h5f.FileID
    path : bytes
        The dataset is opened anew to be read: a thousand objects held open cost more than opening each twice.
    """

    where: str
    dtype: str
    shape: tuple[int, ...]
    file: Any
    path: bytes

    @property
    def size(self) -> int:
        """Count of numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers in memory."""
        return self.size * np.dtype(self.dtype).itemsize

    def read(self) -> np.ndarray:
        """(SPEC B.1) The numbers; takes a small multiple of their memory, and only if the file holds them.

        Raises
        ------
        InvalidModel
            Storage lies outside the file, is not there, or uses other filters than gzip and shuffle.
        """
        return self.fetch()()

    def fetch(self) -> Callable[[], np.ndarray]:
        """``read`` in two steps: take the stored bytes from the file, and give what turns them into numbers.

        Only the first step uses the HDF5 library, which serves one thread at a time. The second may run in any thread
        and spends its time without the GIL.
        """
        import h5py

        ident = h5py.h5d.open(self.file, self.path)
        properties = ident.get_create_plist()
        layout = properties.get_layout()
        self._require(layout in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT)
                      and not properties.get_external_count(), "external or virtual storage",
                      "models hold their numbers themselves")
        if layout == h5py.h5d.CHUNKED:
            return self._fetch_chunks(ident, properties)
        self._require(ident.get_storage_size() == self.nbytes, "the numbers are not in the file")
        numbers = np.empty(self.shape, self.dtype)
        ident.read(h5py.h5s.ALL, h5py.h5s.ALL, numbers)
        return lambda: numbers

    def _require(self, holds: bool, what: str, cause: str = "") -> None:
        if not holds:
            raise InvalidModel(what, where=self.where, cause=cause)

    def _fetch_chunks(self, ident: Any, properties: Any) -> Callable[[], np.ndarray]:
        chunk = properties.get_chunk()
        fits = len(chunk) == len(self.shape) and all(1 <= c <= n for c, n in zip(chunk, self.shape, strict=True))
        self._require(fits, "a chunk is larger than its array")
        grid = [range(0, n, c) for n, c in zip(self.shape, chunk, strict=True)]
        self._require(math.prod(map(len, grid)) <= MAX_CHUNKS, "too many chunks")
        filters = self._filters(properties)
        nbytes = math.prod(chunk) * np.dtype(self.dtype).itemsize
        raw = [(place, *self._fetch_chunk(ident, place, nbytes)) for place in itertools.product(*grid)]

        def numbers() -> np.ndarray:
            pieces = [(place, self._unpacked(data, mask, filters, nbytes).reshape(chunk)) for place, mask, data in raw]
            if len(pieces) == 1:
                return pieces[0][1]
            out = np.empty(self.shape, self.dtype)  # the file held as much
            for place, piece in pieces:
                target = out[tuple(slice(at, at + c) for at, c in zip(place, chunk, strict=True))]
                target[...] = piece[tuple(slice(n) for n in target.shape)]
            return out

        return numbers

    def _filters(self, properties: Any) -> list[int]:
        """Filters in the order of writing: of shuffle and gzip, each at most once."""
        import h5py

        allowed = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]
        found = [properties.get_filter(n) for n in range(min(properties.get_nfilters(), 3))]
        codes = [f[0] for f in found]
        plain = codes in ([], allowed, allowed[:1], allowed[1:])
        width = np.dtype(self.dtype).itemsize
        if not plain or any(f[0] == allowed[0] and f[2][:1] != (width,) for f in found):
            raise InvalidModel("an unknown filter", where=self.where, filters=codes, allowed="shuffle, gzip")
        return codes

    def _fetch_chunk(self, ident: Any, place: tuple[int, ...], nbytes: int) -> tuple[int, bytes]:
        """Mask of the filters that were left out for a chunk, since it would not have become shorter; stored bytes."""
        info = ident.get_chunk_info_by_coord(place)
        self._require(info.byte_offset is not None and 0 < info.size <= 2 * nbytes + 64,
                      "a chunk is missing or longer than its numbers")
        mask, data = ident.read_direct_chunk(place)
        return mask, data

    def _unpacked(self, data: bytes, mask: int, filters: list[int], nbytes: int) -> np.ndarray:
        """The numbers of a chunk, 1-D: stored bytes, inflated to its size and no further, unshuffled."""
        import h5py

        used = [code for n, code in enumerate(filters) if not mask >> n & 1]
        if h5py.h5z.FILTER_DEFLATE in used:
            inflater = zlib.decompressobj()
            data = inflater.decompress(data, nbytes + 1)
            self._require(inflater.eof, "a chunk is cut short, or inflates to more than its size")
        self._require(len(data) == nbytes, "a chunk has a wrong size")
        width = np.dtype(self.dtype).itemsize
        numbers = np.empty((nbytes // width, width), np.uint8)
        if h5py.h5z.FILTER_SHUFFLE in used:
            for n, plane in enumerate(np.frombuffer(data, np.uint8).reshape(width, -1)):
                numbers[:, n] = plane
        else:
            numbers[...] = np.frombuffer(data, np.uint8).reshape(-1, width)
        return numbers.view(np.dtype(self.dtype).newbyteorder("<")).astype(self.dtype, copy=False)


def read_all(datasets: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """(SPEC B.1) The numbers of many datasets by name; threads share the unpacking.

    Raises
    ------
    InvalidModel
        As ``Stored.read``.
    """
    fetched = [dataset.fetch() for dataset in datasets.values()]
    with ThreadPoolExecutor(min(thread_count(None), _UNPACKERS)) as pool:
        return dict(zip(datasets, pool.map(lambda numbers: numbers(), fetched), strict=True))


def attribute(file: Any, name: str) -> str | int | None:
    """(SPEC B.1) A short attribute of the root, a fixed-length text or an integer; None if it is no such thing.

    Texts of variable length stand in a global heap, on which the HDF5 library loops for ever if it is damaged.
    """
    import h5py

    if not h5py.h5a.exists(file.id, name.encode()):
        return None
    ident = h5py.h5a.open(file.id, name.encode())
    kind = ident.get_type()
    is_text = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    if ident.get_space().get_simple_extent_type() != h5py.h5s.SCALAR or ident.get_storage_size() > _ATTRIBUTE_BYTES:
        return None
    if not is_text and not isinstance(kind, h5py.h5t.TypeIntegerID):
        return None
    value = file.attrs[name]
    return bytes(value).decode("ascii") if is_text else int(value)


def _hard_links(root: Any, where: str) -> list[tuple[str, bytes]]:
    """Paths of all objects but the groups that hold others, for people and for the library.

    Every object is met once, so that cycles end and nothing multiplies; the library goes down a link only after
    ``visit`` has accepted it.
    """
    import h5py

    seen, parents, found = {h5py.h5o.get_info(root).addr}, set(), {}

    def visit(name: bytes, link: Any) -> InvalidModel | None:
        """What ends the walk: an exception would have to pass through the library."""
        try:
            accept(name, link)
        except InvalidModel as error:
            return error
        return None

    def accept(name: bytes, link: Any) -> None:
        path = name.decode("ascii", "backslashreplace")
        place = f"{where}:{path}"
        if not path.isprintable():  # it would reach a terminal in messages
            raise InvalidModel("a name holds control characters", where=ascii(place))
        if link.type != h5py.h5l.TYPE_HARD:
            raise InvalidModel("a soft or external link", where=place, cause="models hold hard links only")
        if link.u in seen or len(seen) > MAX_DATASETS:
            raise InvalidModel("an object has two names" if link.u in seen else "too many objects", where=place)
        parts = name.split(b"/")
        if path in found or b"." in parts or b"" in parts:
            raise InvalidModel("a name that may stand for another object", where=place)
        if len(parts) > MAX_DEPTH + 1:
            raise InvalidModel("groups are nested too deeply", where=where, group=path)
        seen.add(link.u)
        parents.add(name.rpartition(b"/")[0])
        found[path] = name

    if error := root.links.visit(visit, info=True):
        raise error
    return [(path, name) for path, name in found.items() if name not in parents]


def stored(file: Any, where: str) -> dict[str, Stored]:
    """(SPEC B.1) Every dataset of a file by path, none of them read.

    Parameters
    ----------
    file : h5py.File
    where : str
        Name of the file, for messages.

    Raises
    ------
    InvalidModel
        A link that is not hard, an object of two names or of another kind, groups nested too deeply, a type that is
        not among those of ``Stored``.
    """
    import h5py

    types = {"int32": h5py.h5t.STD_I32LE, "int16": h5py.h5t.STD_I16LE, "float32": h5py.h5t.IEEE_F32LE,
             "int64": h5py.h5t.STD_I64LE, "uint8": h5py.h5t.STD_U8LE}
    root, found = h5py.h5g.open(file.id, b"/"), {}
    for path, name in _hard_links(root, where):
        ident = h5py.h5o.open(root, name)
        if isinstance(ident, h5py.h5g.GroupID):
            continue
        if not isinstance(ident, h5py.h5d.DatasetID):
            raise InvalidModel("neither a group nor a dataset", where=f"{where}:{path}")
        space, kind = ident.get_space(), ident.get_type()
        dtype = next((known for known, code in types.items() if kind.equal(code)), None)
        if dtype is None or space.get_simple_extent_type() not in (h5py.h5s.SCALAR, h5py.h5s.SIMPLE):
            raise InvalidModel("not an array of a known type", where=f"{where}:{path}")
        found[path] = Stored(f"{where}:{path}", dtype, tuple(space.get_simple_extent_dims()), file.id, name)
    return found


__all__ = ["MAX_CHUNKS", "MAX_DATASETS", "MAX_DEPTH", "Stored", "attribute", "read_all", "stored"]
