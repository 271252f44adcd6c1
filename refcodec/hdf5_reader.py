"""Integer datasets of an HDF5 file, read with distrust (SPEC annex B).

Nothing is followed that leads outside the file, no size is believed before it is checked, and filters run here rather
than in the HDF5 library, whose inflation grows without a bound and whose unknown filters load code.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InvalidModel

MAX_DEPTH = 8
"""Deepest nesting of groups (SPEC B.1)."""

MAX_DATASETS = 1 << 14
"""Most datasets of a file: three times what 32 slices need."""

MAX_CHUNKS = 1 << 12
"""Most chunks of a dataset."""

_ATTRIBUTE_BYTES = 64


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
    ident : h5py.h5d.DatasetID
    """

    where: str
    dtype: str
    shape: tuple[int, ...]
    ident: Any

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
        import h5py

        properties = self.ident.get_create_plist()
        layout = properties.get_layout()
        self._require(layout in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT)
                      and not properties.get_external_count(), "external or virtual storage",
                      "models hold their numbers themselves")
        if layout == h5py.h5d.CHUNKED:
            return self._chunks(properties)
        self._require(self.ident.get_storage_size() == self.nbytes, "the numbers are not in the file")
        return np.asarray(h5py.Dataset(self.ident)[()])

    def _require(self, holds: bool, what: str, cause: str = "") -> None:
        if not holds:
            raise InvalidModel(what, where=self.where, cause=cause)

    def _chunks(self, properties: Any) -> np.ndarray:
        chunk = properties.get_chunk()
        fits = len(chunk) == len(self.shape) and all(1 <= c <= n for c, n in zip(chunk, self.shape, strict=True))
        self._require(fits, "a chunk is larger than its array")
        grid = [range(0, n, c) for n, c in zip(self.shape, chunk, strict=True)]
        self._require(math.prod(map(len, grid)) <= MAX_CHUNKS, "too many chunks")
        filters = self._filters(properties)
        pieces = [(place, self._chunk(place, chunk, filters)) for place in itertools.product(*grid)]
        if len(pieces) == 1:
            return pieces[0][1]
        out = np.empty(self.shape, self.dtype)  # the file held as much
        for place, piece in pieces:
            target = out[tuple(slice(at, at + c) for at, c in zip(place, chunk, strict=True))]
            target[...] = piece[tuple(slice(n) for n in target.shape)]
        return out

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

    def _chunk(self, place: tuple[int, ...], shape: tuple[int, ...], filters: list[int]) -> np.ndarray:
        """One chunk: stored bytes, inflated to its size and no further, unshuffled."""
        import h5py

        size = math.prod(shape) * np.dtype(self.dtype).itemsize
        info = self.ident.get_chunk_info_by_coord(place)
        self._require(info.byte_offset is not None and 0 < info.size <= 2 * size + 64,
                      "a chunk is missing or longer than its numbers")
        mask, data = self.ident.read_direct_chunk(place)
        for n, code in reversed(list(enumerate(filters))):
            if mask >> n & 1:  # left out for this chunk: it would not have become shorter
                continue
            if code == h5py.h5z.FILTER_DEFLATE:
                inflater = zlib.decompressobj()
                data = inflater.decompress(data, size + 1)
                self._require(inflater.eof, "a chunk is cut short, or inflates to more than its size")
            elif len(data) == size:
                data = np.frombuffer(data, np.uint8).reshape(np.dtype(self.dtype).itemsize, -1).T.tobytes()
        self._require(len(data) == size, "a chunk has a wrong size")
        return np.frombuffer(data, np.dtype(self.dtype).newbyteorder("<")).astype(self.dtype).reshape(shape)


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


def _hard_links(group: Any, where: str, prefix: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Datasets below a group by path; every object is met once, so that cycles end and nothing multiplies."""
    import h5py

    if depth > MAX_DEPTH:
        raise InvalidModel("groups are nested too deeply", where=where, group=prefix)
    for key in group:
        path, link = prefix + key.decode("ascii", "backslashreplace"), group.links.get_info(key)
        place = f"{where}:{path}"
        if not path.isprintable():  # it would reach a terminal in messages
            raise InvalidModel("a name holds control characters", where=ascii(place))
        if link.type != h5py.h5l.TYPE_HARD:
            raise InvalidModel("a soft or external link", where=place, cause="models hold hard links only")
        if link.u in seen or len(seen) > MAX_DATASETS:
            raise InvalidModel("an object has two names" if link.u in seen else "too many objects", where=place)
        seen.add(link.u)
        item = h5py.h5o.open(group, key)
        if isinstance(item, h5py.h5g.GroupID):
            yield from _hard_links(item, where, f"{path}/", depth + 1, seen)
        elif isinstance(item, h5py.h5d.DatasetID):
            yield path, item
        else:
            raise InvalidModel("neither a group nor a dataset", where=place)


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

    types = {"int16": h5py.h5t.STD_I16LE, "int32": h5py.h5t.STD_I32LE, "int64": h5py.h5t.STD_I64LE,
             "uint8": h5py.h5t.STD_U8LE, "float32": h5py.h5t.IEEE_F32LE}
    root = h5py.h5g.open(file.id, b"/")
    found = {}
    for path, ident in _hard_links(root, where, "", 0, {h5py.h5o.get_info(root).addr}):
        space, kind = ident.get_space(), ident.get_type()
        dtype = next((name for name, known in types.items() if kind.equal(known)), None)
        if dtype is None or space.get_simple_extent_type() not in (h5py.h5s.SCALAR, h5py.h5s.SIMPLE):
            raise InvalidModel("not an array of a known type", where=f"{where}:{path}")
        found[path] = Stored(f"{where}:{path}", dtype, tuple(space.get_simple_extent_dims()), ident)
    return found


__all__ = ["MAX_CHUNKS", "MAX_DATASETS", "MAX_DEPTH", "Stored", "attribute", "stored"]
