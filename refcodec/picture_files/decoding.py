"""A stream file becomes a picture file."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arith.backend import prepare
from ..bitstream.container import ALPHA, Header, Stream, parse, parse_header
from ..bitstream.info import Metadata, metadata_of
from ..codec import Elsewhere, ModelArgument, check_arguments, decode_reduced, decode_stream, decode_strips
from ..errors import RefcodecError, within_resources
from ..io.changes import Colour, colour_of, flattened, upright
from ..io.files import check_target, mapped_stream, read_stream
from ..io.metadata import marked_upright, stripped, words_of
from ..io.picture_output import check_format, in_rows, shows_orientation, write_picture, writing_rows
from ..io.pictures import STRIPS_FROM
from ..io.properties import Picture
from ..io.tiff_tags import exif_facts
from ..limits import Limits, check_memory
from ..reduced import check_step
from ..targets import Shown
from ..tiles import Region, check_region
from .shared import Notes, Told, check_files, set_times, times_of


@dataclass(frozen=True)
class DecodedFile:
    """Result of decoding a stream file.

    Attributes
    ----------
    width, height : int
        Of the picture that was written.
    channels : int
        Of the stream's colours.
    alpha : bool
        The picture that was written has alpha.
    quality : int
    fingerprint : str
        Of the model that the stream names.
    sha256 : str
        Of the decoded samples, before they were turned or put on a background.
    verified : bool
    seconds : float
    notes : tuple of str
        What was left out or changed.
    """

    width: int
    height: int
    channels: int
    alpha: bool
    quality: int
    fingerprint: str
    sha256: str
    verified: bool
    seconds: float
    notes: tuple[str, ...]


@within_resources("decoding")
def decode_file(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: ModelArgument = None,
    threads: int | None = None,
    limits: Limits | None = None,
    region: Iterable[int] | None = None,
    reduce: int = 1,
    verify: bool = False,
    format: str | None = None,
    autorotate: bool | None = None,
    background: str | Sequence[int] | None = None,
    strip: str | Iterable[str] = (),
    keep_times: bool = False,
    force: bool = False,
    progress: Shown | None = None,
    tell: Told | None = None,
    colours: Elsewhere | None = None,
) -> DecodedFile:
    """Decode a stream file to a picture file.

    Parameters
    ----------
    source : str or path
        The stream; ``-`` is standard input.
    out : str or path
        The picture, in the format that its extension names; ``-`` is standard output.
    model, threads, limits, region, reduce
        As in `refcodec.decode`.
    verify : bool
        Compare the samples with the encoder's digest before the output is put in place.
    format : str or None
        One of `refcodec.io.picture_output.FORMATS`, for a pipe or a name without an extension. A pipe receives PNG by
        default.
    autorotate : bool or None
        Rotate the samples as the EXIF orientation says. None rotates them if the output carries no EXIF.
    background : str, three numbers, or None
        A colour below transparent pixels; the picture has no alpha.
    strip, keep_times, force, progress, tell
        As in `encode_file`.
    colours
        As in `refcodec.codec.decode_strips`.

    Returns
    -------
    DecodedFile

    Raises
    ------
    RefcodecError
        A subclass that says what is wrong. Nothing is then written.
    """
    check_files(source, out)
    flags = {"verify": verify, "keep_times": keep_times, "force": force}
    if autorotate is not None:
        flags["autorotate"] = autorotate
    check_arguments(threads, limits, None, model, (progress, tell, colours), **flags)
    limits, notes = limits or Limits(), Notes(tell)
    words, colour = words_of(strip), None if background is None else colour_of(background)
    check_target(out, force, source)
    check_format(out, form=format)
    times = times_of(source, out) if keep_times else None
    read = read_stream if region is None else mapped_stream  # of a region's stream not all need be read
    data = read(source, limits)
    header, (found, stored_alpha) = parse_header(data), _beside_samples(data)
    alpha = stored_alpha and colour is None
    check_format(out, alpha, format)
    wanted = None if region is None else check_region(region, header.width, header.height)
    if not header.lossless and tell and not colours:
        prepare(threads, tell)
    shape = _decoded_shape(header, wanted, stored_alpha, check_step(reduce))
    metadata, told = stripped(found, words)
    turn = _turn(found, metadata, autorotate, shows_orientation(out, format))
    if turn != 1:
        metadata = marked_upright(metadata)
        told.append(f"turned upright, its orientation was {turn}")
    write = _Writing(out, metadata, turn, colour, force, format)
    ways: dict[str, Any] = {"model": model, "threads": threads, "limits": limits, "region": wanted, "verify": verify}
    ways["colours"] = colours
    ways["progress"] = None if progress is None else partial(progress, "decoding")
    if ways["progress"]:
        ways["progress"](0.0)
    start = time.perf_counter()
    if prod(shape) > STRIPS_FROM and in_rows(out, format) and reduce == 1 and turn == 1:
        sha256, stream, more = write.decoding(data, shape, ways)
        seconds = time.perf_counter() - start
    else:
        copies = 1 + (turn != 1) + (alpha != stored_alpha)  # when decoding has given back what it takes
        check_memory(copies * prod(shape), limits, "changing the picture", width=header.width, height=header.height)
        samples, stream = decode_reduced(data, reduce, **ways) if reduce > 1 else decode_stream(data, **ways)
        seconds = time.perf_counter() - start
        sha256 = hashlib.sha256(samples.data).hexdigest()
        more = write.whole(samples)
    if times:
        set_times(out, times)
    for text in (*told, *more):
        notes.say(f"{out}: {text}")
    height, width = shape[1::-1] if turn > 4 else shape[:2]
    return DecodedFile(
        width=width,
        height=height,
        channels=header.channels,
        alpha=alpha,
        quality=stream.header.quality,
        fingerprint=stream.header.fingerprint.hex(),
        sha256=sha256,
        verified=verify,
        seconds=seconds,
        notes=tuple(notes),
    )


class _Writing(NamedTuple):
    """How decoded samples become a picture file."""

    out: str | os.PathLike[str]
    metadata: Metadata
    turn: int
    background: Colour | None
    force: bool
    form: str | None

    def whole(self, samples: np.ndarray) -> tuple[str, ...]:
        """Write a picture; notes as `write_picture`."""
        flat = samples if self.background is None else flattened(samples, self.background)
        picture = Picture(np.ascontiguousarray(upright(flat, self.turn)), *self.metadata)
        return write_picture(self.out, picture, self.force, self.form)

    def decoding(
        self, data: bytes | memoryview, shape: tuple[int, ...], ways: dict[str, Any]
    ) -> tuple[str, Stream, tuple[str, ...]]:
        """Decode a stream and write the picture row by row: SHA-256 of the samples, the stream, notes."""
        digest, colour = hashlib.sha256(), self.background
        if colour is not None:
            shape = flattened(np.empty((1, *shape[1:]), np.uint8), colour).shape
            shape = (ways["region"].height if ways["region"] else parse_header(data).height, *shape[1:])
        with writing_rows(self.out, shape, self.metadata._asdict(), self.force, self.form) as (writer, notes):

            def place(first: int, rows: np.ndarray) -> None:
                digest.update(np.ascontiguousarray(rows).data)
                writer.write(rows if colour is None else flattened(rows, colour))

            stream = decode_strips(data, place, **ways)
        return digest.hexdigest(), stream, notes


def _beside_samples(data: bytes | memoryview) -> tuple[Metadata, bool]:
    """Metadata of a stream, and whether it has alpha; none if it is damaged, for which decoding has the error."""
    try:
        stream = parse(data, ())
    except RefcodecError:
        return Metadata(), False
    return metadata_of(dict(stream.chunks)), stream.chunk(ALPHA) is not None


def _decoded_shape(header: Header, region: Region | None, alpha: bool, step: int) -> tuple[int, ...]:
    """Shape of the samples that a stream or a region of it decodes to: [H, W] or [H, W, C]."""
    height, width = (region.height, region.width) if region else (header.height, header.width)
    channels = header.channels + alpha
    return (-(-height // step), -(-width // step), channels)[: 2 if channels == 1 else 3]


def _turn(found: Metadata, kept: Metadata, autorotate: bool | None, shown: bool) -> int:
    """The orientation by which samples are turned, 1 for not at all."""
    orientation = exif_facts(found.exif)[0] if found.exif else 1
    wanted = autorotate if autorotate is not None else not (shown and (kept.exif or not found.exif))
    return orientation if wanted and 1 <= orientation <= 8 else 1


__all__ = ["DecodedFile", "decode_file"]
