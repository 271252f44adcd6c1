"""A serializer for Zarr 3 (extra ``zarr``)::

    from refcodec.arrays.zarr import RefcodecCodec

    zarr.create_array("a.zarr", shape=(9000, 9000, 3), chunks=(512, 512, 3), dtype="uint8",
                      serializer=RefcodecCodec(quality=60), compressors=None)

Where refcodec is installed, Zarr finds the codec by its name when it opens such an array.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.registry import register_codec

from ..errors import UsageError
from . import NAME, Settings, decode_chunk, encode_chunk, picture_shape


@dataclass(frozen=True, init=False)
class RefcodecCodec(ArrayBytesCodec):
    """Chunks as streams.

    Parameters
    ----------
    **settings
        Those of `refcodec.arrays.Settings`, by name: quality, lossless, model, threads.

    Raises
    ------
    UsageError
        A setting is unknown or outside its range.
    """

    is_fixed_size = False
    settings: Settings

    def __init__(self, **settings: Any) -> None:
        object.__setattr__(self, "settings", Settings.of(settings))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RefcodecCodec:
        """From the metadata of an array; raises UsageError."""
        configuration = data.get("configuration", {})
        if not isinstance(configuration, dict):
            raise UsageError("unknown settings of the codec", configuration=repr(configuration))
        return cls(**configuration)

    def to_dict(self) -> dict[str, Any]:
        """For the metadata of an array."""
        return {"name": NAME, "configuration": self.settings.as_dict()}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse arrays whose chunks are no pictures.

        Parameters
        ----------
        shape : tuple of int
            Of the array.
        dtype : ZDType
            The data type; only uint8 is coded.
        chunk_grid : ChunkGrid
            Its chunk shape must be that of a picture.

        Raises
        ------
        UsageError
            Another data type, or a shape that no picture has.
        """
        if str(dtype.to_native_dtype()) != "uint8":
            raise UsageError("only arrays of uint8 are coded", dtype=str(dtype.to_native_dtype()))
        picture_shape(tuple(getattr(chunk_grid, "chunk_shape", shape)))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        shape, threads = tuple(chunk_spec.shape), self.settings.threads
        samples: Any = await asyncio.to_thread(decode_chunk, chunk_bytes.to_bytes(), shape, threads)
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(samples)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        data = await asyncio.to_thread(encode_chunk, chunk_array.as_numpy_array(), self.settings)
        return chunk_spec.prototype.buffer.from_bytes(data)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before."""
        raise NotImplementedError


register_codec(NAME, RefcodecCodec)

__all__ = ["RefcodecCodec"]
