"""Traces (SPEC 13): which values a decoder computed on the way, stage by stage; anyone's are read here, strictly.

A trace is JSON lines in UTF-8, one per stage, in any order and of any subset of the stages:

    {"index": 12, "name": "lrp_anchor/0/0", "shape": [4, 4, 12], "dtype": "int16", "sha256": "c492..."}

``index`` is the stage's place in the order of computation, counted over all stages from 0; it is given on every line
or on none. Without it the n-th line of a name is the n-th time that this stage is computed. ``sha256`` is that of the
values row by row, channels interleaved, little-endian, in the type ``dtype``. The values themselves may lie in a
folder as NPY files, named by ``file``, or else ``00012.lrp_anchor.0.0.npy`` as by ``python -m refcodec trace``.

One thing is read that SPEC does not allow: values of another integer type, for decoders that keep, say, all in int32.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..kit.errors import KitError
from ..kit.npy import MAX_HEADER, read_header
from ..kit.reading import TooLarge, open_plain, read_plain
from ..kit.strict_json import Fields, read_json, show

MAX_BYTES = 24 << 20
"""Size of a trace: room for the lines that are read."""

MAX_LINES, MAX_LINE = 100_000, 4096
"""Lines of a trace, empty ones included, and bytes of a line: a name and a file have at most 200 characters each. The
walk of one tile has at most 2,000 stages (SPEC 6.1), so hundreds of tiles of usual models fit."""

MAX_INDEX, MAX_VALUES = 1 << 20, 1 << 45
"""Bounds on the index of a stage and on the numbers in it: beyond every decoder of SPEC 9.1."""

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
"""Types of values; all fit int64."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(/[a-z0-9_]+)*")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.npy")


class TraceError(KitError):
    """A trace, or a file of values, is not what the format says."""

    exit_code = 65


@dataclass(frozen=True)
class Stage:
    """(SPEC 13.2-1) One line of a trace.

    Attributes
    ----------
    name : str
    shape : tuple of int
        [H, W, C], and [H, W] for grey samples.
    dtype : str
        One of `DTYPES`.
    sha256 : str
        Of the values.
    index : int or None
        Place in the order of computation, counted over all stages.
    file : str or None
        Name of the values' NPY file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str
    index: int | None = None
    file: str | None = None

    @property
    def size(self) -> int:
        """Numbers in the stage."""
        return math.prod(self.shape)


Values = Callable[[Stage], "np.ndarray | None"]
"""Gives the values of a stage, None where nobody has them."""


def no_values(stage: Stage) -> np.ndarray | None:
    """Values of a trace that has digests alone."""
    return None


@dataclass(frozen=True)
class Trace:
    """A trace.

    Attributes
    ----------
    stages : tuple of Stage
        In the order of computation.
    source : str
        Where it came from, for messages.
    values : callable(stage) -> np.ndarray or None
    """

    stages: tuple[Stage, ...]
    source: str
    values: Values = no_values


def digest(values: np.ndarray) -> str:
    """(SPEC 13.2-2) SHA-256 of values as a trace holds it: row by row, channels interleaved, little-endian."""
    plain = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return hashlib.sha256(plain.data).hexdigest()


def stage_of(name: str, values: np.ndarray, index: int | None = None) -> Stage:
    """(SPEC 13.2-1) The line that describes values.

    Parameters
    ----------
    name : str
        Of the stage.
    values : np.ndarray of integers
    index : int or None
        Place in the order of the walk.

    Returns
    -------
    Stage
    """
    return Stage(name, values.shape, values.dtype.name, digest(values), index)


def file_name(index: int, name: str) -> str:
    """(SPEC 13.3-2) Name of the values' file where a line gives none."""
    return f"{index:05d}.{re.sub(r'[^A-Za-z0-9_-]+', '.', name)}.npy"


def read_trace(path: Path, values: Path | None = None) -> Trace:
    """(SPEC 13.2) Read a trace and check every line of it.

    Parameters
    ----------
    path : Path
        JSON lines.
    values : Path or None
        Folder of NPY files; they are read when asked for.

    Raises
    ------
    TraceError
        The file cannot be read, is too long, or breaks the format; or there is no such folder.
    """
    try:
        data = read_plain(path, MAX_BYTES)
    except TooLarge:
        raise TraceError(f"{path}: longer than {MAX_BYTES} bytes, which no trace is") from None
    except OSError as error:
        raise TraceError(f"{path}: the trace cannot be read: {error.strerror}") from None
    if values is not None and not values.is_dir():
        raise TraceError(f"{values}: no such folder of values")
    return parse_trace(data, str(path), Folder(values) if values else no_values)


def parse_trace(data: bytes, source: str, values: Values = no_values) -> Trace:
    """Read a trace from bytes.

    Parameters
    ----------
    data : bytes
        JSON lines.
    source : str
        Name for messages.
    values : callable
        Gives the values of a stage, if there are any.

    Returns
    -------
    Trace

    Raises
    ------
    TraceError
        As `read_trace`.
    """
    if data.count(b"\n") > MAX_LINES:
        raise TraceError(f"{source}: more than {MAX_LINES} lines, which no trace has")
    lines = enumerate(data.split(b"\n"), 1)
    stages = [_stage(line, f"{source}, line {number}") for number, line in lines if line.strip()]
    if not stages:
        raise TraceError(f"{source}: no stage in it; the decoder under test wrote an empty trace")
    given = Counter(stage.index for stage in stages)
    if None in given and len(given) > 1:
        raise TraceError(f"{source}: some lines have an 'index' and some have none")
    if None not in given:
        index, count = given.most_common(1)[0]
        if count > 1:
            raise TraceError(f"{source}: {count} lines have the index {index}")
        stages.sort(key=lambda stage: stage.index or 0)
    return Trace(tuple(stages), source, values)


def _stage(line: bytes, where: str) -> Stage:
    try:
        value = read_json(line, MAX_LINE)
    except ValueError as error:
        raise TraceError(f"{where}: not JSON as it should be: {str(error)[:120]}") from None
    fields = Fields(value, where, TraceError)
    name, shape = fields.take("name", str), fields.take("shape", list)
    if len(name) > 200 or not _NAME.fullmatch(name):
        raise fields.wrong(f"'name' is {show(name)}, expected words of a-z, 0-9 and _ joined by slashes")
    if (
        len(shape) not in (2, 3)
        or not all(type(n) is int and 1 <= n <= MAX_VALUES for n in shape)
        or math.prod(shape) > MAX_VALUES
    ):
        raise fields.wrong(f"'shape' is {show(shape)}, expected 2 or 3 integers from 1, their product at most 2^45")
    dtype, sha256 = fields.one_of("dtype", DTYPES), fields.hexadecimal("sha256", 64)
    index = fields.number("index", 0, MAX_INDEX) if "index" in value else None
    file = fields.optional("file")
    if file is not None and (len(file) > 200 or not _FILE.fullmatch(file)):
        raise fields.wrong(f"'file' is {show(file)}, expected a name without folders that ends in .npy")
    fields.end()
    return Stage(name, tuple(shape), dtype, sha256, index, file)


@dataclass(frozen=True)
class Folder:
    """Values in a folder of NPY files; a callable as `Trace.values` wants one.

    Attributes
    ----------
    path : Path
    """

    path: Path

    def __call__(self, stage: Stage) -> np.ndarray | None:
        """The values of a stage, checked against its line; None if there is no file.

        Raises
        ------
        TraceError
            The file is no NPY file of this shape and type, or holds other values than those of the line's digest.
        """
        if stage.file is None and stage.index is None:
            return None
        path = self.path / (stage.file or file_name(stage.index or 0, stage.name))
        if not os.path.lexists(path):
            if stage.file is None:
                return None
            raise TraceError(f"{path}: no such file of values")
        values = read_npy(path, stage.shape, stage.dtype)
        if digest(values) != stage.sha256:
            raise TraceError(
                f"{path}: the values of {stage.name} are not those of its line, whose 'sha256' is "
                f"{stage.sha256[:16]}...; that of these values, little-endian in rows, is "
                f"{digest(values)[:16]}..."
            )
        return values


def read_npy(path: Path, shape: tuple[int, ...] | None = None, dtype: str | None = None) -> np.ndarray:
    """(SPEC 13.3-1) Read a NPY file of integers; its size is checked before memory is taken, nothing in it is executed.

    Parameters
    ----------
    path : Path
    shape : tuple of int or None
        The expected shape, None for any.
    dtype : str or None
        Name of the expected type, None for any of integers.

    Returns
    -------
    np.ndarray
        In rows, of the machine's byte order.

    Raises
    ------
    TraceError
        The file cannot be read or holds something else.
    """
    try:
        with open_plain(path) as file:
            header = read_header(file.read(MAX_HEADER + 12))
            found, kind = header.shape, header.dtype
            room = os.fstat(file.fileno()).st_size - header.start
            if kind.name not in DTYPES:
                raise ValueError(f"the type is {kind}, not one of {', '.join(DTYPES)}")
            if header.bytes != room:
                raise ValueError(f"shape {list(found)} of {kind} takes {header.bytes} bytes, the file holds {room}")
            if (shape or found, dtype or kind.name) != (found, kind.name):
                raise ValueError(f"it holds {kind.name}{list(found)}, expected are {dtype}{list(shape or found)}")
            file.seek(header.start)
            flat = np.frombuffer(file.read(room), kind)
            values = flat.reshape(found[::-1]).T if header.by_columns else flat.reshape(found)
    except (OSError, MemoryError) as error:
        raise TraceError(f"{path}: cannot be read: {getattr(error, 'strerror', 'it is too large')}") from None
    except ValueError as error:
        raise TraceError(f"{path}: not the NPY file that is expected: {str(error)[:200]}") from None
    return np.ascontiguousarray(values, kind.newbyteorder("="))
