"""Originals that are coded, in memory or in strips, and outputs that are written while they are decoded."""

from __future__ import annotations

import hashlib
import math
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..bitstream.container import Header, Stream
from ..codec import Coded, decode_strips, encode_strips
from ..io.picture_output import writing_rows
from ..io.pictures import opened_rows, read_picture
from ..io.properties import Picture
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
        The original picture.
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
            original = self._source.rows(first + top, band.shape[0])
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


class Trial(NamedTuple):
    """A stream and how faithful it is."""

    coded: Coded
    fidelity: Fidelity

    @property
    def data(self) -> bytes:
        """The stream."""
        return self.coded.data


class Original(NamedTuple):
    """A picture that is to be coded.

    Attributes
    ----------
    source : SampleRows
    picture : Picture or None
        The picture with its metadata; None for a file of samples that is read in strips, and has none.
    """

    source: SampleRows
    picture: Picture | None

    def encode(self, *quality: int, **options: Any) -> Trial:
        """Code it; arguments as `encode_strips`."""
        fidelity = Fidelity(self.source)
        return Trial(encode_strips(self.source, *quality, strips=fidelity, **options), fidelity)


@contextmanager
def opened_original(source: str, limits: Limits, depth: int | None) -> Iterator[Original]:
    """Open a picture for coding, in strips if it is large and its format allows it; raises as `read_picture`."""
    with opened_rows(source, limits) as rows:
        if rows is not None:
            yield Original(rows, None)
        else:
            picture = read_picture(source, limits, depth)
            yield Original(ArrayRows(picture.samples), picture)


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
        As `refcodec.io.picture_output.write_picture`.
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
