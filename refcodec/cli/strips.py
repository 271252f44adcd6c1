"""Originals that are coded, in memory or in strips, and outputs that are written while they are decoded."""

from __future__ import annotations

import hashlib
import math
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..bitstream.container import Header, Stream
from ..codec import Coded, decode_strips, encode_picture, encode_strips
from ..io.pictures import Picture, opened_rows, read_picture, writing_rows
from ..io.rows import RawRows
from ..limits import Limits
from ..planes import ArrayRows, SampleRows
from ..tiles import Region

BAND = 1 << 20
"""Samples that are compared at once."""


class Fidelity:
    """SHA-256 and PSNR of a reconstruction that arrives in strips, from the top down.

    The PSNR is that of the colours of all pixels that are not wholly transparent.

    Parameters
    ----------
    source : SampleRows
        The original picture, from its first row on.
    """

    def __init__(self, source: SampleRows) -> None:
        self._source, self._sha256 = source, hashlib.sha256()
        self._error = self._samples = 0

    def __call__(self, first: int, rows: np.ndarray) -> None:
        """Take a strip, [n, W] or [n, W, C] uint8."""
        self._sha256.update(np.ascontiguousarray(rows).data)
        pixels = rows.reshape(*rows.shape[:2], -1)
        count = max(1, BAND // pixels[0].size)
        for top in range(0, rows.shape[0], count):
            band = pixels[top : top + count]
            original = self._source.read(band.shape[0])
            colours = original.shape[2] - (original.shape[2] in (2, 4))
            difference = original[:, :, :colours].astype(np.int32) - band[:, :, :colours]
            if colours < original.shape[2]:
                difference = difference[original[:, :, colours] > 0]
            self._error += int(np.sum(difference * difference, dtype=np.int64))
            self._samples += difference.size

    @property
    def sha256(self) -> str:
        """SHA-256 of the samples, row by row, channels interleaved."""
        return self._sha256.hexdigest()

    @property
    def psnr(self) -> float:
        """PSNR in dB, infinite if nothing differs."""
        return 10 * math.log10(255 * 255 * self._samples / self._error) if self._error else math.inf


@dataclass(frozen=True)
class Trial:
    """A stream and how faithful it is.

    Attributes
    ----------
    coded : Coded
    measured : callable
        Gives the fidelity of its reconstruction.
    """

    coded: Coded
    measured: Callable[[], Fidelity]

    @property
    def data(self) -> bytes:
        """The stream."""
        return self.coded.data


class Original(Protocol):
    """A picture that is to be coded."""

    @property
    def rows(self) -> SampleRows:
        """Its samples from the first row on."""

    @property
    def picture(self) -> Picture | None:
        """The picture with its metadata; None for a file of samples that is read in strips, and has none."""

    def encode(self, *quality: int, **options: Any) -> Trial:
        """Code it; arguments as `encode_picture`."""


class _InMemory:
    """A picture in memory."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    @property
    def rows(self) -> SampleRows:
        return ArrayRows(self.picture.samples)

    def encode(self, *quality: int, **options: Any) -> Trial:
        coded = encode_picture(self.picture.samples, *quality, **options)

        def measured() -> Fidelity:
            fidelity = Fidelity(self.rows)
            fidelity(0, coded.reconstruction)
            return fidelity

        return Trial(coded, measured)


class _InFile:
    """A file of samples that is read in strips."""

    picture = None

    def __init__(self, rows: RawRows) -> None:
        self._rows = rows

    @property
    def rows(self) -> SampleRows:
        return self._rows.fresh()

    def encode(self, *quality: int, **options: Any) -> Trial:
        fidelity = Fidelity(self.rows)
        return Trial(encode_strips(self.rows, *quality, strips=fidelity, **options), lambda: fidelity)


@contextmanager
def opened_original(source: str, limits: Limits, depth: int | None) -> Iterator[Original]:
    """Open a picture for coding, in strips if it is large and its format allows it; raises as `read_picture`."""
    with opened_rows(source, limits) as rows:
        yield _InFile(rows) if rows else _InMemory(read_picture(source, limits, depth))


def sha256_of(data: bytes | memoryview, **options: Any) -> tuple[str, Stream]:
    """Decode a stream: the SHA-256 of its samples, and its container; arguments as `decode_strips`."""
    found = hashlib.sha256()
    stream = decode_strips(data, lambda first, rows: found.update(np.ascontiguousarray(rows).data), **options)
    return found.hexdigest(), stream


def decode_to_rows(
    args: Namespace,
    data: bytes | memoryview,
    shape: tuple[int, ...],
    metadata: dict[str, bytes | None],
    **options: Any,
) -> tuple[str, Stream, tuple[str, ...]]:
    """Decode a stream and write the picture row by row.

    Returns
    -------
    sha256 : str
        Of the samples.
    stream : Stream
    notes : tuple of str
        As `refcodec.io.pictures.write_picture`.
    """
    found = hashlib.sha256()
    with writing_rows(args.out, shape, metadata, args.force) as (writer, notes):

        def place(first: int, rows: np.ndarray) -> None:
            found.update(np.ascontiguousarray(rows).data)
            writer.write(rows)

        stream = decode_strips(data, place, **options)
    return found.hexdigest(), stream, notes


def decoded_shape(header: Header, region: Region | None, alpha: bool) -> tuple[int, ...]:
    """Shape of the samples that a stream or a region of it decodes to: [H, W] or [H, W, C]."""
    height, width = (region.height, region.width) if region else (header.height, header.width)
    channels = header.channels + alpha
    return (height, width) if channels == 1 else (height, width, channels)
