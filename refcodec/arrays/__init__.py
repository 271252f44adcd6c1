"""Chunks of arrays as streams, for Zarr (`refcodec.arrays.zarr`) and numcodecs (`refcodec.arrays.numcodecs`).

A chunk [y, x] or [y, x, channels] of uint8, or one of these behind axes of length 1, is a picture; so Dask, napari and
xarray read regions of an array chunk by chunk, side by side. The bytes of a chunk are those of `refcodec.encode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import decode, encode
from ..errors import UsageError
from ..limits import Limits, padded_pixels

NAME = "refcodec"

MAX_CHANNELS = 4
"""Of a picture: RGB and alpha."""


@dataclass(frozen=True)
class Settings:
    """How chunks are coded.

    Attributes
    ----------
    quality : int
        Quality, 1..100. A quality is not needed to decode.
    lossless : bool
        Store every sample exactly; no model is needed.
    model : str or None
        Name or path of the model that encodes. A decoder finds the model by the fingerprint in the stream.
    threads : int
        Threads for each chunk. One by default: readers of arrays do several chunks at a time.
    """

    quality: int = 60
    lossless: bool = False
    model: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if type(self.quality) is not int or not 1 <= self.quality <= 100:
            raise UsageError("a quality is 1..100", quality=self.quality)
        if type(self.lossless) is not bool or not (self.model is None or isinstance(self.model, str)):
            raise UsageError("lossless is true or false, a model is a name", lossless=self.lossless, model=self.model)
        if type(self.threads) is not int or self.threads < 1:
            raise UsageError("threads are at least 1", threads=self.threads)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Settings by name; raises UsageError for a name that is none, and for a value outside its range."""
        if unknown := sorted(given.keys() - {field.name for field in fields(cls)}):
            raise UsageError("unknown settings of the codec", names=unknown, known=[f.name for f in fields(cls)])
        return cls(**given)

    def as_dict(self) -> dict[str, Any]:
        """For the metadata of an array: what is not as by default."""
        plain = asdict(Settings())
        return {name: value for name, value in asdict(self).items() if value != plain[name]}


def picture_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The picture [y, x] or [y, x, channels] that a chunk of this shape is.

    Raises
    ------
    UsageError
        It is none.
    """
    while len(shape) > 3 or (len(shape) == 3 and shape[2] > MAX_CHANNELS):
        if shape[0] != 1:
            raise UsageError(
                "a chunk is [y, x] or [y, x, 1 to 4 channels], behind axes of length 1",
                shape=list(shape),
                cause="choose the chunks of the array so",
            )
        shape = shape[1:]
    if len(shape) == 3 and shape[2] == 1:
        shape = shape[:2]
    if len(shape) < 2 or 0 in shape:
        raise UsageError("a chunk has at least two axes, none of them empty", shape=list(shape))
    return shape


def encode_chunk(chunk: NDArray[np.uint8], settings: Settings) -> bytes:
    """A chunk as a stream.

    Raises
    ------
    UsageError
        It is not of uint8, or no picture.
    ModelError, LimitExceeded
        As `refcodec.encode`.
    """
    if chunk.dtype != np.uint8:
        raise UsageError("only arrays of uint8 are coded", dtype=str(chunk.dtype))
    samples = np.ascontiguousarray(chunk.reshape(picture_shape(chunk.shape)))
    if settings.lossless:
        return encode(samples, lossless=True, threads=settings.threads)
    return encode(samples, settings.quality, model=settings.model, threads=settings.threads)


def decode_chunk(data: bytes | memoryview, shape: tuple[int, ...], threads: int = 1) -> NDArray[np.uint8]:
    """The chunk of a stream; a stream of a larger picture is refused on its header.

    Parameters
    ----------
    data : bytes-like
    shape : tuple of int
        Of the chunk.
    threads : int

    Returns
    -------
    np.ndarray of the given shape, uint8

    Raises
    ------
    UsageError
        The picture has another shape than the chunk.
    InvalidStream, ModelError, LimitExceeded
        As `refcodec.decode`.
    """
    wanted = picture_shape(shape)
    samples = decode(data, threads=threads, limits=Limits(max_pixels=padded_pixels(wanted[1], wanted[0])))
    if samples.shape != wanted:
        raise UsageError("the chunk holds another picture", expected=list(wanted), found=list(samples.shape))
    return samples.reshape(shape)


__all__ = ["NAME", "Settings", "decode_chunk", "encode_chunk", "picture_shape"]
