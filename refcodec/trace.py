"""A record of every named stage of decoding (SPEC 13), by which two decoders find the first value where they part.

Stages are numbered in the order of computation. A name may come again: a slice's context copy is built again whenever
half of the slice is finished.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Stage:
    """One stage of decoding: what a line of a trace says (SPEC 13.1, 13.2).

    Attributes
    ----------
    index : int
        Place in the order of computation, counted over all stages, shown or not.
    name : str
        Name in the layer table, "z_hat", "y_hat/i" or "samples".
    shape : tuple of int
        [H, W, C], and [H, W] for grey samples.
    dtype : str
        Type of the values.
    sha256 : str
        SHA-256 of the values, row by row, channels interleaved, little-endian.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str

    @property
    def file_name(self) -> str:
        """(SPEC 13.3-2) Name for the values' file: letters, digits, dots, dashes and underscores only."""
        return f"{self.index:05d}.{re.sub(r'[^A-Za-z0-9_-]+', '.', self.name)}.npy"

    def line(self) -> str:
        """(SPEC 13.2-1) The stage as one line of JSON."""
        return json.dumps(asdict(self))


def little_endian(values: np.ndarray) -> np.ndarray:
    """(SPEC 13.2-2) The same values, contiguous in rows, little-endian on every machine."""
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))


def npy_bytes(values: np.ndarray) -> bytes:
    """(SPEC 13.3-1) A NPY file (version 1.0) of the values."""
    file = io.BytesIO()
    np.lib.format.write_array(file, little_endian(values), version=(1, 0), allow_pickle=False)
    return file.getvalue()


class Recorder:
    """A trace for ``decode_stream`` that keeps a `Stage` for each result.

    Parameters
    ----------
    wanted : str or None
        Keep only the stage of this name and those below it: "g_s/5" keeps "g_s/5" and "g_s/5/igdn", not "g_s/50".
    save : callable(stage, values) or None
        Told every stage that is kept; the values are valid during the call only.

    Attributes
    ----------
    stages : list of Stage
    names : dict
        Every name seen, in order of first appearance.
    """

    def __init__(self, wanted: str | None = None, save: Callable[[Stage, np.ndarray], None] | None = None) -> None:
        self._wanted = None if wanted is None else wanted.rstrip("/")
        self._save = save
        self._index = 0
        self.stages: list[Stage] = []
        self.names: dict[str, None] = {}

    def __call__(self, name: str, values: np.ndarray) -> None:
        """(SPEC 13.2-4) Count a stage and keep it if it is wanted."""
        index, self._index = self._index, self._index + 1
        self.names[name] = None
        if self._wanted is not None and name != self._wanted and not name.startswith(f"{self._wanted}/"):
            return
        plain = little_endian(values)
        stage = Stage(index, name, values.shape, values.dtype.name, hashlib.sha256(plain.tobytes()).hexdigest())
        self.stages.append(stage)
        if self._save:
            self._save(stage, plain)
