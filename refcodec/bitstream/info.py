"""Facts about a stream that need no model (SPEC 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ..errors import within_resources
from ..lossless.rectangles import Rectangles
from .container import ALPHA, LOSSLESS, Stream, parse, read_fields
from .fields import FIELDS, Buffer, as_view, shown


class Metadata(NamedTuple):
    r"""The metadata of a stream.

    Attributes
    ----------
    exif : bytes or None
        The EXIF block from its TIFF header on, without the ``Exif\0\0`` that JPEG puts before it.
    icc_profile, xmp : bytes or None
    """

    exif: bytes | None = None
    icc_profile: bytes | None = None
    xmp: bytes | None = None


METADATA_TAGS = {"exif": "exif", "icc_profile": "iccp", "xmp": "xmp "}
"""(SPEC 8.4) The chunk of each."""


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
        Colour samples per pixel.
    quality : int
        Quality, 1..100; 0 if the picture is stored losslessly.
    fingerprint : str
        Fingerprint of the model that decodes the stream, 32 hexadecimal digits.
    depth : int
        Bits per sample.
    alpha : bool
        There is an alpha channel in addition to the colour samples.
    lossless : bool
        The whole picture is stored losslessly.
    rectangles : int
        Rectangles that are stored losslessly; 0 if the whole picture is.
    tile_width, tile_height, tiles : int
        Size of a tile in samples, 0 if the picture is one tile, and the number of tiles.
    digest : str or None
        Digest of the decoded samples, 32 hexadecimal digits.
    total_bytes, header_bytes, index_bytes, z_bytes, y_bytes, chunk_bytes, checksum_bytes : int
        Size of the stream and of its parts, which sum to it; segments of all tiles, chunks with tags and lengths.
    bits_per_pixel : float
        Eight times ``total_bytes`` over the number of pixels.
    chunks : tuple of (str, int)
        Tag and payload size in bytes of each chunk.
    fields : tuple of (int, str, int or str, str)
        Offset, name, value and meaning of each header field; byte fields as hexadecimal digits.
    """

    version: int
    width: int
    height: int
    channels: int
    quality: int
    fingerprint: str
    depth: int
    alpha: bool
    lossless: bool
    rectangles: int
    tile_width: int
    tile_height: int
    tiles: int
    digest: str | None
    total_bytes: int
    header_bytes: int
    index_bytes: int
    z_bytes: int
    y_bytes: int
    chunk_bytes: int
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
    segments = stream.segment_bytes
    return StreamInfo(
        version=header.version,
        width=header.width,
        height=header.height,
        channels=header.channels,
        quality=header.quality,
        fingerprint=header.fingerprint.hex(),
        depth=header.depth,
        alpha=stream.chunk(ALPHA) is not None,
        lossless=header.lossless,
        rectangles=_rectangles(stream),
        tile_width=header.tile_width,
        tile_height=header.tile_height,
        tiles=header.tiles,
        digest=None if header.digest is None else header.digest.hex(),
        total_bytes=total,
        header_bytes=header.size,
        index_bytes=header.index_size,
        z_bytes=sum(entry.z_length for entry in stream.index),
        y_bytes=sum(entry.y_length for entry in stream.index),
        chunk_bytes=total - header.size - header.index_size - segments - checksum,
        checksum_bytes=checksum,
        bits_per_pixel=8 * total / (header.width * header.height),
        chunks=tuple((tag, len(payload)) for tag, payload in stream.chunks),
        fields=tuple(
            (field.offset, field.name, shown(values[field.name]), field.meaning)
            for field in FIELDS
            if field.name in values
        ),
    )


@within_resources("reading the stream")
def metadata(data: Buffer) -> Metadata:
    """(SPEC 8.4) The metadata of a stream, without a model and without decoding.

    Parameters
    ----------
    data : bytes-like
        The whole stream.

    Returns
    -------
    Metadata

    Raises
    ------
    InvalidStream, Unsupported, UsageError
        As `refcodec.bitstream.container.parse`.
    """
    return metadata_of(dict(parse(data, ()).chunks))


def metadata_of(chunks: Mapping[str, bytes | None]) -> Metadata:
    """The metadata among the chunks of a stream."""
    return Metadata(**{name: chunks.get(tag) for name, tag in METADATA_TAGS.items()})


def _rectangles(stream: Stream) -> int:
    header, payload = stream.header, stream.chunk(LOSSLESS)
    if payload is None or header.lossless:
        return 0
    return len(Rectangles(payload, header.width, header.height, header.channels).places)
