"""A picture file becomes a stream file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from ..arith.backend import prepare
from ..bitstream.info import Metadata
from ..codec import ModelArgument, check_arguments, metadata_chunks
from ..errors import UsageError, within_resources
from ..io.changes import Colour, Flattened, colour_of
from ..io.files import PICTURE_SUFFIXES, check_target, write_bytes
from ..io.metadata import stripped, words_of
from ..io.pictures import opened_rows, read_picture
from ..io.tiff_tags import exif_facts
from ..limits import Limits
from ..model.integer_model import Model
from ..model.registry import load_model
from ..planes import ArrayRows, SampleRows
from ..refinement import check_steps
from ..targets import Shown, Target, code
from .shared import Notes, Told, check_files, set_times, times_of


@dataclass(frozen=True)
class EncodedFile:
    """Result of encoding a picture file.

    Attributes
    ----------
    width, height, channels : int
        Of the picture; channels of its colours.
    alpha, lossless : bool
    rectangles : int
        Parts that are stored losslessly.
    quality : int
        Quality, 0 for a lossless picture.
    bytes : int
        Length of the stream.
    bits_per_pixel : float
    z_bytes, y_bytes : int
        Coded segments.
    model, fingerprint : str or None
    reconstruction_sha256 : str
        Of the samples that decoders output.
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


def check_lossless(model: ModelArgument, tile: int | None, rectangles: bool, refine: int = 0) -> None:
    """Refuse options that have no meaning for a picture that is stored losslessly.

    Parameters
    ----------
    model : Model, str, path or None
    tile : int or None
        Side of the tiles.
    rectangles : bool
    refine : int

    Raises
    ------
    UsageError
        One of them is given.
    """
    if model is not None or tile is not None or not rectangles:
        raise UsageError("a lossless picture has no model, tiles or rectangles", where="--lossless")
    check_steps(refine, None)


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
    refine: int = 0,
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
    """Encode a picture file.

    Parameters
    ----------
    source : str or path
        PNG, JPEG, TIFF, WebP, AVIF and others; ``-`` is standard input.
    out : str or path
        The stream; ``-`` is standard output.
    quality, bpp, size, psnr, lossless
        The target; give at most one of them, see `refcodec.targets.Target`. The default is quality 60.
    model, threads, limits, tile, exact, rectangles, refine
        As in `refcodec.encode`.
    depth, frame, cmyk_to_srgb
        As in `refcodec.io.pictures.read_picture`.
    background : str, three numbers, or None
        A colour, for instance ``"white"`` or ``"#ff8000"``, below transparent pixels; the stream has no alpha.
    strip : str or iterable of str
        Metadata to leave out: exif, icc, xmp, all, or gps for the location only.
    keep_times : bool
        Give the stream the access and modification times of the picture.
    force : bool
        Overwrite an existing file.
    progress : callable(what, share) or None
        Called with the share of all work that is done, 0 to 1.
    tell : callable(line) or None
        Called with each note as it arises.

    Returns
    -------
    EncodedFile

    Raises
    ------
    RefcodecError
        A subclass that says what is wrong. Nothing is then written.
    """
    check_files(source, out)
    flags = {"exact": exact, "rectangles": rectangles, "cmyk_to_srgb": cmyk_to_srgb, "keep_times": keep_times}
    check_arguments(threads, limits, None, model, (progress, tell), **flags, force=force)
    target, limits, notes = Target(quality, bpp, size, psnr, lossless), limits or Limits(), Notes(tell)
    words, colour = words_of(strip), None if background is None else colour_of(background)
    check_target(out, force, source)
    times = times_of(source, out) if keep_times else None
    if (suffix := Path(out).suffix.lower()) in PICTURE_SUFFIXES:
        raise UsageError(
            "the output is a stream, its name is that of a picture",
            where=str(out),
            suffix=suffix,
            cause="name it .loclic; decode writes pictures",
        )
    if lossless:
        check_lossless(model, tile, rectangles, refine)
    reading = {"depth": depth, "frame": frame, "cmyk_to_srgb": cmyk_to_srgb}
    with _opened(source, limits, colour, **reading) as (rows, found, told):
        metadata, more = stripped(found, words)
        for text in (*told, *more, *_not_upright(found, metadata)):
            notes.say(f"{source}: {text}")
        loaded = None if lossless else model if isinstance(model, Model) else load_model(model)
        if loaded is not None and tell:
            prepare(threads, tell)
        start = time.perf_counter()
        options: dict[str, Any] = {"threads": threads, "limits": limits, "tile": tile, "exact": exact}
        options |= {"rectangles": rectangles, "refine": refine, "chunks": metadata_chunks(*metadata)}
        step, trial, searched = code(rows, target, loaded, progress, **options)
        if searched:
            notes.say(searched)
        seconds = time.perf_counter() - start
        coded, fidelity = trial
        write_bytes(out, coded.data, force)
    if times:
        set_times(out, times)
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


__all__ = ["EncodedFile", "check_lossless", "encode_file"]
