"""A codec for numcodecs, and so a compressor for arrays of Zarr's format 2 (extra ``zarr``)::

    zarr.create_array("a.zarr", shape=(9000, 9000, 3), chunks=(512, 512, 3), dtype="uint8", zarr_format=2,
                      compressors=Refcodec(quality=60))

It encodes arrays that say their shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes, ensure_contiguous_ndarray, ndarray_copy
from numcodecs.registry import register_codec

from .. import info
from ..errors import UsageError
from . import NAME, Settings, decode_chunk, encode_chunk


class Refcodec(Codec):
    """Arrays [y, x] or [y, x, channels] of uint8 as streams.

    Parameters
    ----------
    **settings
        Those of `refcodec.arrays.Settings`, by name: quality, lossless, model, threads.

    Raises
    ------
    UsageError
        A setting is unknown or outside its range.
    """

    codec_id = NAME

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings.of(settings)

    def encode(self, buf: Any) -> bytes:
        """Encode an array that says its shape; raises as `encode_chunk`."""
        chunk = np.asarray(buf)
        if chunk.ndim < 2:
            raise UsageError("the codec needs the shape of a picture, and gets a row of bytes", shape=list(chunk.shape))
        return encode_chunk(chunk, self.settings)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a stream, into ``out`` if it is given; raises as `decode_chunk`."""
        data = ensure_bytes(buf)
        if out is not None:
            target = ensure_contiguous_ndarray(out).view(np.uint8)
            shape = np.asarray(out).shape
            if len(shape) < 2:
                shape = self._shape(data)
            return ndarray_copy(decode_chunk(data, shape, self.settings.threads), target)
        return decode_chunk(data, self._shape(data), self.settings.threads)

    @staticmethod
    def _shape(data: bytes) -> tuple[int, ...]:
        facts = info(data)
        channels = facts.channels + facts.alpha
        return (facts.height, facts.width, channels)[: 3 if channels > 1 else 2]

    def get_config(self) -> dict[str, Any]:
        """For the metadata of an array."""
        return {"id": NAME, **self.settings.as_dict()}


register_codec(Refcodec)

__all__ = ["Refcodec"]
