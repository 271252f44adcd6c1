"""Files of pictures to files of streams and back, with everything that travels or is asked for on the way.

`encode_file` and `decode_file` are what the commands ``encode`` and ``decode`` do. Outputs are checked before the work
starts, and renamed into place when it is done.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isfinite, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .arith.backend import prepare
from .bitstream.container import ALPHA, Header, Stream, parse, parse_header
from .bitstream.info import Metadata, metadata_of
from .codec import ModelArgument, decode_reduced, decode_stream, decode_strips, metadata_chunks
from .errors import OutputError, RefcodecError, UsageError, within_resources
from .io.changes import Colour, Flattened, colour_of, flattened, upright
from .io.files import PICTURE_SUFFIXES, check_target, detail_of, mapped_stream, read_stream, write_bytes
from .io.metadata import marked_upright, stripped, words_of
from .io.picture_output import check_format, in_rows, shows_orientation, write_picture, writing_rows
from .io.pictures import STRIPS_FROM, opened_rows, read_picture
from .io.properties import Picture
from .io.tiff_tags import exif_facts
from .limits import Limits, check_memory
from .model.integer_model import Model
from .model.registry import load_model
from .planes import ArrayRows, SampleRows
from .reduced import check_step
from .targets import Shown, Target, code
from .tiles import Region, check_region

Told = Callable[[str], None]
"""Is given a line for a person."""


@dataclass(frozen=True)
class EncodedFile:
    """What became of a picture file.

    Attributes
    ----------
    width, height, channels : int
        Of the picture; channels of its colours.
    alpha, lossless : bool
    rectangles : int
        Parts that are stored without loss.
    quality : int
        Quality step, 0 for a picture without loss.
    bytes : int
        Length of the stream.
    bits_per_pixel : float
    z_bytes, y_bytes : int
        Coded segments.
    model, fingerprint : str or None
    reconstruction_sha256 : str
        Of the samples that decoders show.
    psnr : float or None
        Of the colours in dB, None if nothing differs.
    seconds : float
    notes : tuple of str
        What was left out or converted, and what a search found.
    """

    width: int
    height: int
    channels: int
    alpha: bool
    lossless: bool
    rectangles: int
    quality: int
    bytes: int
    bits_per_pixel: float
    z_bytes: int
    y_bytes: int
    model: str | None
    fingerprint: str | None
    reconstruction_sha256: str
    psnr: float | None
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DecodedFile:
    """What became of a stream file.

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


class _Notes(list[str]):
    """Notes of a file, which are told as they arise."""

    def __init__(self, tell: Told | None) -> None:
        super().__init__()
        self._tell = tell

    def say(self, text: str) -> None:
        """Note a line."""
        self.append(text)
        if self._tell:
            self._tell(text)


class _Original(NamedTuple):
    """A picture that is coded, its metadata, and notes on how it was read."""

    source: SampleRows
    metadata: Metadata
    notes: tuple[str, ...]


@contextmanager
def _opened(
    source: str | os.PathLike[str], limits: Limits, background: Colour | None, **reading: Any
) -> Iterator[_Original]:
    """Open a picture for coding, in strips if it is large and its format allows it; raises as `read_picture`."""
    with opened_rows(source, limits) as rows:
        if rows is not None and not reading["frame"]:
            found = _Original(rows, Metadata(), ())
        else:
            picture = read_picture(source, limits, **reading)
            metadata = Metadata(picture.exif, picture.icc_profile, picture.xmp)
            found = _Original(ArrayRows(picture.samples), metadata, picture.notes)
        yield found if background is None else _on_background(found, background)


def _on_background(original: _Original, background: Colour) -> _Original:
    source, flat = original.source, Flattened(original.source, background)
    if source.channels in (1, 3):
        return original
    metadata, notes = original.metadata, [*original.notes, f"its alpha was put on the background {background}"]
    if flat.channels == 3 and source.channels == 2 and metadata.icc_profile:
        metadata = metadata._replace(icc_profile=None)
        notes.append("its ICC profile, which is for grey, is left out")
    return _Original(flat, metadata, tuple(notes))


@within_resources("encoding")
def encode_file(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    quality: int | None = None,
    bpp: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    lossless: bool = False,
    model: ModelArgument = None,
    threads: int | None = None,
    limits: Limits | None = None,
    tile: int | None = None,
    exact: bool = False,
    rectangles: bool = True,
    depth: int | None = None,
    frame: int | None = None,
    background: str | Sequence[int] | None = None,
    cmyk_to_srgb: bool = False,
    strip: str | Iterable[str] = (),
    keep_times: bool = False,
    force: bool = False,
    progress: Shown | None = None,
    tell: Told | None = None,
) -> EncodedFile:
    """Code a picture file.

    Parameters
    ----------
    source : str or path
        PNG, JPEG, TIFF, WebP, AVIF and others; ``-`` is standard input.
    out : str or path
        The stream; ``-`` is standard output.
    quality, bpp, size, psnr, lossless
        What is asked for, at most one of them; see `refcodec.targets.Target`. Quality 60 if nothing is.
    model, threads, limits, tile, exact, rectangles
        As in `refcodec.encode`.
    depth, frame, cmyk_to_srgb
        As in `refcodec.io.pictures.read_picture`.
    background : str, three numbers, or None
        A colour, for instance ``"white"`` or ``"#ff8000"``, below transparent pixels; the stream has no alpha.
    strip : str or iterable of str
        Metadata to leave out: exif, icc, xmp, all, or gps, the place alone.
    keep_times : bool
        The stream gets the times of access and change of the picture.
    force : bool
        Overwrite an existing file.
    progress : callable(what, share) or None
        Is given the share of all work that is done, 0 to 1.
    tell : callable(line) or None
        Is given notes as they arise.

    Returns
    -------
    EncodedFile

    Raises
    ------
    RefcodecError
        A subclass that says what is wrong. Nothing is then written.
    """
    target, limits, notes = Target(quality, bpp, size, psnr, lossless), limits or Limits(), _Notes(tell)
    words, colour = words_of(strip), None if background is None else colour_of(background)
    check_target(out, force, source)
    times = _times(source, out) if keep_times else None
    if (suffix := Path(out).suffix.lower()) in PICTURE_SUFFIXES:
        raise UsageError(
            "the output is a stream, its name is that of a picture",
            where=str(out),
            suffix=suffix,
            cause="name it .loclic; decode writes pictures",
        )
    if lossless and (model is not None or tile is not None or not rectangles):
        raise UsageError("--lossless takes no model, tiles or rectangles", where="--lossless")
    reading = {"depth": depth, "frame": frame, "cmyk_to_srgb": cmyk_to_srgb}
    with _opened(source, limits, colour, **reading) as (rows, found, told):
        metadata, more = stripped(found, words)
        for text in (*told, *more, *_not_upright(found, metadata)):
            notes.say(f"{source}: {text}")
        loaded = None if lossless else model if isinstance(model, Model) else load_model(model)
        if loaded is not None:
            prepare(threads, notes.say)
        start = time.perf_counter()
        options: dict[str, Any] = {"threads": threads, "limits": limits, "tile": tile, "exact": exact}
        options |= {"rectangles": rectangles, "chunks": metadata_chunks(*metadata)}
        step, trial, searched = code(rows, target, loaded, progress, **options)
        if searched:
            notes.say(searched)
        seconds = time.perf_counter() - start
        coded, fidelity = trial
        write_bytes(out, coded.data, force)
    if times:
        _set_times(out, times)
    return EncodedFile(
        width=rows.width,
        height=rows.height,
        channels=rows.channels - (rows.channels in (2, 4)),
        alpha=rows.channels in (2, 4),
        lossless=coded.model is None,
        rectangles=len(coded.stored),
        quality=step,
        bytes=len(coded.data),
        bits_per_pixel=8 * len(coded.data) / (rows.width * rows.height),
        z_bytes=coded.z_bytes,
        y_bytes=coded.y_bytes,
        model=coded.model.name if coded.model else None,
        fingerprint=coded.model.fingerprint.hex() if coded.model else None,
        reconstruction_sha256=fidelity.sha256,
        psnr=fidelity.psnr if isfinite(fidelity.psnr) else None,
        seconds=seconds,
        notes=tuple(notes),
    )


def _not_upright(before: Metadata, after: Metadata) -> Iterator[str]:
    if before.exif and not after.exif and (orientation := exif_facts(before.exif)[0]) != 1:
        yield f"the picture is not upright: its orientation ({orientation}) was in the EXIF that is left out"


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
    form: str | None = None,
    autorotate: bool | None = None,
    background: str | Sequence[int] | None = None,
    strip: str | Iterable[str] = (),
    keep_times: bool = False,
    force: bool = False,
    progress: Shown | None = None,
    tell: Told | None = None,
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
        Compare the samples with the encoder's digest before the picture is in its place.
    form : str or None
        One of `refcodec.io.picture_output.FORMATS`, for a pipe or a name without an extension. A pipe gets PNG.
    autorotate : bool or None
        Turn the samples as the EXIF orientation says. None turns them where the picture written carries no EXIF.
    background : str, three numbers, or None
        A colour below transparent pixels; the picture has no alpha.
    strip, keep_times, force, progress, tell
        As in `encode_file`.

    Returns
    -------
    DecodedFile

    Raises
    ------
    RefcodecError
        A subclass that says what is wrong. Nothing is then written.
    """
    limits, notes = limits or Limits(), _Notes(tell)
    words, colour = words_of(strip), None if background is None else colour_of(background)
    check_target(out, force, source)
    check_format(out, form=form)
    times = _times(source, out) if keep_times else None
    read = read_stream if region is None else mapped_stream  # of a region's stream not all need be read
    data = read(source, limits)
    header, (found, stored_alpha) = parse_header(data), _beside_samples(data)
    alpha = stored_alpha and colour is None
    check_format(out, alpha, form)
    wanted = None if region is None else check_region(region, header.width, header.height)
    if not header.lossless:
        prepare(threads, notes.say)
    shape = _decoded_shape(header, wanted, stored_alpha, check_step(reduce))
    metadata, told = stripped(found, words)
    turn = _turn(found, metadata, autorotate, shows_orientation(out, form))
    if turn != 1:
        metadata = marked_upright(metadata)
        told.append(f"turned upright, its orientation was {turn}")
    write = _Writing(out, metadata, turn, colour, force, form)
    ways: dict[str, Any] = {"model": model, "threads": threads, "limits": limits, "region": wanted, "verify": verify}
    ways["progress"] = None if progress is None else partial(progress, "decoding")
    if ways["progress"]:
        ways["progress"](0.0)
    start = time.perf_counter()
    if prod(shape) > STRIPS_FROM and in_rows(out, form) and reduce == 1 and turn == 1:
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
        _set_times(out, times)
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
    return metadata_of(stream), stream.chunk(ALPHA) is not None


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


def _times(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Times of access and change of a file in nanoseconds; None if it is not there, for which reading has the error."""
    if "-" in (os.fspath(source), os.fspath(out)):
        raise UsageError("a pipe has no times to keep", where="--keep-times")
    try:
        found = os.stat(source)
    except (OSError, ValueError):
        return None
    return found.st_atime_ns, found.st_mtime_ns


def _set_times(out: str | os.PathLike[str], times: tuple[int, int]) -> None:
    try:
        os.utime(out, ns=times)
    except OSError as error:
        raise OutputError("the times cannot be kept", where=str(out), detail=detail_of(error)) from error


__all__ = ["DecodedFile", "EncodedFile", "decode_file", "encode_file"]
