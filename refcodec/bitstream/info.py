"""What a stream says about itself, without a model (SPEC 8)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import within_resources
from .container import parse, read_fields
from .fields import FIELDS, Buffer, as_view, shown


@dataclass(frozen=True)
class StreamInfo:
    """The facts of one stream.

    Attributes
    ----------
    version : int
        Format version.
    width, height : int
        Picture size in pixels.
    channels : int
        Samples a pixel.
    quality : int
        Quality step, 1..100.
    fingerprint : str
        Fingerprint of the model that decodes the stream, 32 hexadecimal digits.
    digest : str or None
        Digest of the decoded samples, 32 hexadecimal digits.
    total_bytes, header_bytes, z_bytes, y_bytes, metadata_bytes, checksum_bytes : int
        Size of the stream and of its parts, which sum to it; metadata with tags and lengths.
    bits_per_pixel : float
        Eight times ``total_bytes`` over the number of pixels.
    chunks : tuple of (str, int)
        Tag and payload size in bytes of each metadata chunk.
    fields : tuple of (int, str, int or str, str)
        Offset, name, value and meaning of each header field there is; byte fields as hexadecimal digits.
    """

    version: int
    width: int
    height: int
    channels: int
    quality: int
    fingerprint: str
    digest: str | None
    total_bytes: int
    header_bytes: int
    z_bytes: int
    y_bytes: int
    metadata_bytes: int
    checksum_bytes: int
    bits_per_pixel: float
    chunks: tuple[tuple[str, int], ...]
    fields: tuple[tuple[int, str, int | str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the same for JSON, each chunk and each header field as an object."""
        return {
            **asdict(self),
            "chunks": [{"tag": tag, "bytes": size} for tag, size in self.chunks],
            "fields": [
                {"offset": offset, "name": name, "value": value, "meaning": meaning}
                for offset, name, value, meaning in self.fields
            ],
        }


@within_resources("reading the stream")
def describe(data: Buffer) -> StreamInfo:
    """(SPEC 8.5) Read a stream's facts; everything that needs no model is checked.

    Parameters
    ----------
    data : bytes-like
        The whole stream.

    Returns
    -------
    StreamInfo
        Its facts.

    Raises
    ------
    InvalidStream, Unsupported, UsageError
        As `refcodec.bitstream.container.parse`.
    """
    stream = parse(data)
    header = stream.header
    values = read_fields(data)
    total = len(as_view(data))
    checksum = 4
    segments = header.z_length + header.y_length
    return StreamInfo(
        version=header.version,
        width=header.width,
        height=header.height,
        channels=header.channels,
        quality=header.quality,
        fingerprint=header.fingerprint.hex(),
        digest=None if header.digest is None else header.digest.hex(),
        total_bytes=total,
        header_bytes=header.size,
        z_bytes=header.z_length,
        y_bytes=header.y_length,
        metadata_bytes=total - header.size - segments - checksum,
        checksum_bytes=checksum,
        bits_per_pixel=8 * total / (header.width * header.height),
        chunks=tuple((tag, len(payload)) for tag, payload in stream.chunks),
        fields=tuple(
            (field.offset, field.name, shown(values[field.name]), field.meaning)
            for field in FIELDS
            if field.name in values
        ),
    )
