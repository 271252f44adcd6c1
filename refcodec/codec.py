"""The codec from end to end (SPEC 1.2): samples -> stream and back.

    encode:  samples -> pad -> g_a -> y -> every tile: h_a -> z -> slice walk (writes z and y) -> container
                                                                      |
    decode:  container -> every tile: slice walk (reads z and y) -> y_hat -> g_s -> crop -> samples

The encoder runs the decoder's slice walk and synthesis, so what it reports is what every decoder will show. Transforms
work in strips and tiles row by row (tile_rows.py): the last step asks for rows of samples, and that pulls the work.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .arith.engine import Engine
from .arith.maps import borrowed_pool
from .bitstream.container import (
    ALPHA,
    LOSSLESS,
    Header,
    Stream,
    pack_chunks,
    pack_header,
    parse,
    parse_header,
    serialise,
)
from .bitstream.fields import DIGEST_BYTES, FINGERPRINT_BYTES, Buffer, as_view
from .entropy.costs import BlockBits
from .entropy.rans import STATE_BYTES, WORD_BYTES
from .errors import CheckFailed, CoderError, ModelError, UsageError, check_flags, within_resources
from .flow import Flow, Parts, Trace, needed_for
from .limits import Limits, check_memory, check_padded, check_pixels, padded_pixels
from .lossless.rectangles import Rectangle
from .memory import MOST_INTERVALS, memory_estimate
from .model.config import Config
from .model.integer_model import Model
from .model.registry import find_model, load_model
from .planes import ArrayRows, CheckedRows, SampleRows, check_samples
from .progress import Progress, Work
from .reduced import Reduced, check_step
from .refinement import SLOPE_SPAN, STEP_PASSES, Latents, Seen, SeenErrors, Task, check_steps, refiner, slope
from .stored import (
    WRITTEN,
    BlockErrors,
    Choice,
    Colours,
    Overlay,
    Plain,
    Replaced,
    Visible,
    chosen,
    code_alpha,
    code_whole,
    filling_memory,
    may_gain,
    storing_memory,
    whole_strips,
)
from .threads import thread_count
from .tiles import STRIDE, UNIT, Z_STRIDE, Needs, Region, Window, check_region

ModelArgument = Model | str | os.PathLike[str] | None
Strips = Callable[[int, np.ndarray], None]
"""Is given the first row and the samples [n, W] or [n, W, C] of a strip, from the top down."""

Elsewhere = Callable[[Stream], Iterable[tuple[int, np.ndarray]]]
"""Gives the first row and the colours [n, W] or [n, W, 3] of strips of a picture that is decoded somewhere else."""

TILE = 512
"""Side of the tiles that the encoder chooses for large pictures, in samples: the smallest of 512, 1024 and 2048 whose
cost in rate at equal quality is below half a per cent (0.41 % on a mosaic of photographs)."""

TILED_FROM = 1 << 24
"""Padded pixels from which on the encoder chooses tiles."""


@dataclass(frozen=True)
class Coded:
    """Result of encoding: the stream and its statistics.

    Attributes
    ----------
    data : bytes
    model : Model or None
        None if the whole picture is stored without loss.
    z_bytes, y_bytes : int
        Sizes of the coded segments of all tiles.
    stored : tuple of Rectangle
        Rectangles that are stored without loss.
    """

    data: bytes
    model: Model | None
    z_bytes: int = 0
    y_bytes: int = 0
    stored: tuple[Rectangle, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Encoded(Coded):
    """A stream of a picture in memory.

    Attributes
    ----------
    reconstruction : np.ndarray [H, W] or [H, W, C], uint8
        What every decoder returns for these bytes.
    """

    reconstruction: np.ndarray

    @property
    def sha256(self) -> str:
        """SHA-256 of the reconstruction's samples, row by row, channels interleaved."""
        return hashlib.sha256(self.reconstruction.tobytes()).hexdigest()


def _resolve(model: ModelArgument) -> Model:
    return model if isinstance(model, Model) else load_model(model)


def check_arguments(
    threads: object,
    limits: object,
    trace: object = None,
    model: object = None,
    functions: tuple[object, ...] = (),
    **flags: object,
) -> None:
    """Refuse arguments of a wrong type before they fail somewhere else.

    Parameters
    ----------
    threads : int or None
    limits : Limits or None
    trace : callable or None
    model : Model, str, path or None
    functions : tuple of callable or None
        Other arguments that are called.
    **flags : bool

    Raises
    ------
    UsageError
    """
    check_flags(**flags)
    if model is not None and not isinstance(model, (Model, str, os.PathLike)):
        raise UsageError("a model is a Model, a name, a path or None", type=type(model).__name__)
    for function in functions:
        if function is not None and not callable(function):
            raise UsageError("progress, strips and the like are functions", type=type(function).__name__)
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, (int, np.integer))):
        raise UsageError("the number of threads is an integer or None", value=repr(threads))
    thread_count(threads if threads is None else int(threads))
    if limits is not None and not isinstance(limits, Limits):
        raise UsageError(
            "limits are a refcodec.Limits or None",
            type=type(limits).__name__,
            cause="for instance refcodec.Limits(max_pixels=1 << 24)",
        )
    if trace is not None and not callable(trace):
        raise UsageError("a trace is a function of a name and an array", type=type(trace).__name__)


def _tile_side(tile: int | None, width: int, height: int) -> int:
    """(SPEC 4.4-1) Side of the tiles in samples, 0 for none; None lets the encoder choose."""
    if tile is None:
        return TILE if padded_pixels(width, height) > TILED_FROM else 0
    if not isinstance(tile, (int, np.integer)) or tile % UNIT or not 0 <= tile <= 255 * UNIT:
        raise UsageError("the side of a tile is a multiple of 64", value=repr(tile), allowed=f"0, 64..{255 * UNIT}")
    return int(tile)


@within_resources("encoding")
def encode_strips(
    source: SampleRows,
    quality: int = 60,
    *,
    model: ModelArgument = None,
    threads: int | None = None,
    chunks: Iterable[tuple[str, bytes]] = (),
    limits: Limits | None = None,
    backend: str | None = None,
    trace: Trace | None = None,
    digest: bool = True,
    progress: Progress | None = None,
    tile: int | None = None,
    exact: bool = False,
    lossless: bool = False,
    rectangles: bool = True,
    refine: int = 0,
    strips: Strips | None = None,
    held: bool = False,
    parts: Parts = Parts(),
) -> Coded:
    """(SPEC 6.10-4) Encode a picture that is read in strips and need not fit into memory.

    Parameters
    ----------
    source : SampleRows
    quality : int in 1..100
        Step of the model's gains; a model without gains has one quality and takes no other than 1.
    model : Model, name, path or None for the default
    threads : int or None for all cores
    chunks : iterable of (tag, payload)
        Metadata to carry.
    limits : Limits or None for the defaults
        Checked before memory is taken.
    backend : "numba", "numpy" or None for ``REFCODEC_BACKEND``
    trace : callable(name, array) or None
        Sees every result; the networks then run over the whole picture, which takes more memory.
    digest : bool
        Store the digest of the reconstruction.
    progress : callable(share) or None
        Called after every strip and half slice with the share of the work that is done, 0 to 1.
    tile : int or None
        Side of the tiles in samples, a multiple of 64; 0 for none. None lets the encoder choose: tiles of ``TILE`` for
        pictures of more than ``TILED_FROM`` padded pixels.
    exact : bool
        Keep the colours of fully transparent pixels; otherwise they are replaced by colours that are cheap to code.
    lossless : bool
        Store the whole picture losslessly. Quality and model are not used.
    rectangles : bool
        Store parts losslessly where that costs less than coding them: text, drawings, flat colours. Photographs have
        none, which a quick test finds; other pictures are coded twice.
    refine : int
        Steps by which gradients improve the latents for this picture (refinement.py); 0 for none. The picture is coded
        with and without refinement, and the result with the lower sum of bits and weighted squared errors is kept. An
        error is weighted by this picture's exchange between neighbouring qualities. Needs PyTorch.
    strips : callable(first row, samples) or None
        Receives the reconstruction in strips, from the top down.
    held : bool
        The caller keeps the reconstruction, so it counts in the estimate of memory.
    parts : Parts
        Other classes and functions to code with, for measurements and tests.

    Returns
    -------
    Coded
        The stream, the model, the bytes of z and y, and the rectangles that are stored losslessly.

    Raises
    ------
    UsageError, LimitExceeded, ModelError
    Unsupported
        Refinement is asked for, and PyTorch is missing, or the model has one quality.
    """
    flags = {"digest": digest, "exact": exact, "lossless": lossless, "rectangles": rectangles, "held": held}
    check_arguments(threads, limits, trace, model, (progress, strips), **flags)
    source, limits, chunks = CheckedRows(source), limits or Limits(), tuple(chunks)
    check_pixels(source.width, source.height, limits)
    colours: SampleRows = Colours(source)
    header = Header(colours.width, colours.height, colours.channels, 0, bytes(FINGERPRINT_BYTES), lossless=True)
    if not lossless:
        model = _resolve(model)
        side = _tile_side(tile, source.width, source.height)
        header = Header(
            colours.width, colours.height, colours.channels, _step(quality, model), model.fingerprint, side, side
        )
    refine = check_steps(refine, model if isinstance(model, Model) and not lossless else None)
    pack_header(header)  # refuses what no stream may carry before the picture is coded
    for tag, _ in zip((tag for tag, _ in chunks), pack_chunks(chunks, header), strict=True):
        if tag in (ALPHA, LOSSLESS):
            raise UsageError("the encoder alone stores samples without loss", tag=tag)
    if channels := colours.channels if lossless else source.channels - colours.channels:
        memory = storing_memory(source.height, source.width, channels)
        check_memory(memory, limits, "encoding", width=source.width, height=source.height)
    original, kept = colours, colours  # what errors are counted against, and what may be stored without loss
    if source.channels != colours.channels:
        chunks = (*chunks, (ALPHA, code_alpha(source)))
        if not (exact or lossless):
            original, kept, colours = source, Plain(source), Visible(source)
    outlet = _Outlet(digest, strips)
    if not isinstance(model, Model) or lossless:
        return _encode_whole(header, code_whole(colours, progress), chunks, outlet, progress)
    _check_memory(
        *("encoding", header, model, limits, backend, threads, trace is not None),
        encoding=True,
        held=held,
        more=filling_memory(source) + sum(len(payload) for _, payload in chunks),
    )
    if refine:
        memory = refiner().refining_memory(model.config, header.width, header.height)
        check_memory(memory, limits, "refinement", width=source.width, height=source.height)
    with borrowed_pool(header.tiled) as pool:
        engine = parts.engine(model.layers, model.tables, header.quality - 1, threads, backend, trace, pool)
        coder = _Encoder(engine, model, header, progress, parts, refine)
        stored = coder.worth_storing(colours, original, kept) if rectangles and may_gain(kept) else Choice()
        if stored.whole:
            header = Header(header.width, header.height, header.channels, 0, bytes(FINGERPRINT_BYTES), lossless=True)
            return _encode_whole(header, stored.payload, chunks, outlet, progress)
        if stored.rectangles:
            chunks = (*chunks, (LOSSLESS, stored.payload))
            colours = Replaced(colours, stored.rectangles)
        seen = Seen(colours, original, stored.rectangles)
        latents = coder.refined(colours, seen, limits.max_memory) if refine else None
        segments = coder.code(colours, outlet.through(header, chunks), refined=latents)
    z_bytes, y_bytes = (sum(len(pair[part]) for pair in segments) for part in (0, 1))
    return Coded(parts.serialise(outlet.sealed(header), segments, chunks), model, z_bytes, y_bytes, stored.rectangles)


class _Outlet:
    """Where the reconstruction goes: to the digest and to the caller."""

    def __init__(self, digest: bool, strips: Strips | None) -> None:
        self._digest, self._strips = hashlib.sha256() if digest else None, strips

    def __call__(self, first: int, samples: np.ndarray) -> None:
        if self._digest:
            self._digest.update(np.ascontiguousarray(samples).data)
        if self._strips:
            self._strips(first, samples)

    def through(self, header: Header, chunks: tuple[tuple[str, bytes], ...]) -> Strips:
        """Strips of decoded colours, which get what is stored for them as in a decoder."""
        whole = Region(0, 0, header.width, header.height)
        overlay = Overlay(Stream(header, (), memoryview(b""), chunks), whole)
        return lambda first, rows: self(first, overlay.finished(first, rows))

    def sealed(self, header: Header) -> Header:
        """The header with the digest."""
        return replace(header, digest=self._digest.digest()[:DIGEST_BYTES]) if self._digest else header


def _encode_whole(
    header: Header,
    payload: bytes,
    chunks: tuple[tuple[str, bytes], ...],
    outlet: _Outlet,
    progress: Progress | None,
) -> Coded:
    """(SPEC 8.11) A picture that is stored without loss as a whole."""
    chunks = (*chunks, (LOSSLESS, payload))
    place, whole = outlet.through(header, chunks), Region(0, 0, header.width, header.height)
    for first, rows in whole_strips(Stream(header, (), memoryview(b""), chunks), whole):
        place(first, rows)
        if progress:
            progress(WRITTEN + (1 - WRITTEN) * (first + rows.shape[0]) / header.height)
    return Coded(serialise(outlet.sealed(header), (), chunks), None)


class _Encoder:
    """Codes colours by the networks, once or several times."""

    def __init__(
        self, engine: Engine, model: Model, header: Header, progress: Progress | None, parts: Parts, refine: int = 0
    ) -> None:
        self._engine, self._model, self._header, self._progress = engine, model, header, progress
        self._parts, self._steps = parts, refine
        self._passes, self._done = 1.0 + (4 + STEP_PASSES * refine if refine else 0), 0.0

    def code(
        self,
        colours: SampleRows,
        place: Strips,
        costs: BlockBits | None = None,
        refined: Latents | None = None,
    ) -> list[tuple[bytes, bytes]]:
        """The segments of every tile; ``place`` gets strips of the reconstruction."""
        segments: list[tuple[bytes, bytes]] = []
        grid = self._header.grid
        needs = needed_for(grid, Region(0, 0, self._header.width, self._header.height))
        work = Work(self._model, True, needs.tiles, self._share)
        flow = Flow(self._engine, self._model, self._header, needs, work, self._parts)
        for first, rows in flow.samples(flow.encoder(colours, segments, costs, refined)):
            place(first, rows)
        self._done += 1
        return segments

    def worth_storing(self, colours: SampleRows, original: SampleRows, kept: SampleRows) -> Choice:
        """Choose the parts that cost less stored than coded; the cost of coding is found by coding."""
        self._passes += 1
        grid, errors = self._header.grid, BlockErrors(original)
        costs = BlockBits(self._model.tables.gaussian, self._model.factorized, grid.height, grid.width)
        with self._untraced():
            self.code(colours, errors.add, costs)
        return chosen(kept, costs.bits, errors.errors, self._header.quality)

    def refined(self, colours: SampleRows, seen: Seen, memory: int | None) -> Latents | None:
        """Latents for which bits and weighted squared errors cost less than for the encoder's own; None without."""
        step, header = self._engine.step, self._header

        def coded(at: int, latents: Latents | None = None) -> tuple[int, int]:
            """Bits and squared errors at a step of the gains."""
            errors = SeenErrors(seen)
            self._engine.step = at
            segments = self.code(colours, errors.add, refined=latents)
            return 8 * sum(len(z) + len(y) for z, y in segments), errors.total

        def share(part: float) -> None:
            self._done = done + part * STEP_PASSES * self._steps
            self._share(0)

        with self._untraced():
            around = max(0, step - SLOPE_SPAN), min(self._model.config.steps - 1, step + SLOPE_SPAN)
            weight = slope(coded(around[0]), coded(around[1]), header.quality)
            own, done = coded(step), self._done
            task = Task(self._model, seen, header.quality, weight, self._steps, self._engine.threads, memory, share)
            latents: Latents = refiner().refine(task)
            found = coded(step, latents)
        return latents if found[0] + weight * found[1] < own[0] + weight * own[1] else None

    @contextmanager
    def _untraced(self) -> Iterator[None]:
        trace, self._engine.trace = self._engine.trace, None
        yield
        self._engine.trace = trace

    def _share(self, share: float) -> None:
        if self._progress:
            self._progress((self._done + share) / self._passes)


def encode_picture(samples: np.ndarray, quality: int = 60, **options: Any) -> Encoded:
    """(SPEC 6.10-4) Encode a picture in memory.

    Parameters
    ----------
    samples : np.ndarray [H, W], or [H, W, C] with 2 (grey, alpha), 3 or 4 (RGB, alpha) channels, uint8
    quality : int in 1..100
    **options
        As in `encode_strips`.

    Returns
    -------
    Encoded
        As `encode_strips`, and ``reconstruction``: the decoded samples, uint8, same shape as ``samples``.

    Raises
    ------
    UsageError, LimitExceeded, ModelError
    """
    check_samples(samples)
    reconstruction = np.empty_like(samples)

    def place(first: int, rows: np.ndarray) -> None:
        reconstruction[first : first + rows.shape[0]] = rows

    coded = encode_strips(ArrayRows(samples), quality, strips=place, held=True, **options)
    return Encoded(**vars(coded), reconstruction=reconstruction)


def _step(quality: int, model: Model) -> int:
    """(SPEC 6.9-4) The quality, one that the model has."""
    if not isinstance(quality, (int, np.integer)) or isinstance(quality, bool) or not 1 <= quality <= 100:
        raise UsageError("quality is not a step", value=quality, allowed="1..100")
    if quality > model.config.steps:
        raise UsageError("the model has one quality", value=int(quality), allowed="1", cause="leave the quality out")
    return int(quality)


def _check_memory(
    what: str,
    header: Header,
    model: Model,
    limits: Limits,
    backend: str | None,
    threads: int | None,
    trace: bool,
    *,
    encoding: bool = False,
    part: Window | None = None,
    segments: int = 0,
    held: bool = False,
    more: int = 0,
) -> None:
    """(SPEC 8.5-12, 9.1-10) Refuse what takes more memory than the limits allow; ``more`` bytes come on top."""
    if limits.max_memory is None:
        return
    estimate = memory_estimate(
        header.width,
        header.height,
        model,
        backend,
        channels=header.channels,
        threads=threads,
        encoding=encoding,
        trace=trace,
        segments=segments,
        grid=header.grid,
        part=part,
        held=held,
    )
    check_memory(estimate + more, limits, what, "byte 8 (SPEC 8.1)", width=header.width, height=header.height)


def stream_model(header: Header, model: ModelArgument) -> Model:
    """(SPEC 6.10-2, 6.9-5) The model a stream names: the one given if it is that one, else the installed one.

    Raises
    ------
    ModelError
        The given model is another, or none that is installed has the fingerprint.
    """
    model = find_model(header.fingerprint) if model is None else _resolve(model)
    if model.fingerprint != header.fingerprint:
        raise ModelError(
            "the model is not the one the stream was coded with",
            where="header offset 16 (SPEC 8.1)",
            wanted=header.fingerprint.hex(),
            given=model.fingerprint.hex(),
            name=model.name,
        )
    if header.quality > model.config.steps:
        raise ModelError(
            "the stream's quality is not one of the model's",
            where="header offset 7 (SPEC 8.1)",
            step=header.quality,
            steps=model.config.steps,
        )
    return model


def check_segments(stream: Stream, config: Config, needs: Needs) -> None:
    """(SPEC 7.6-4) Refuse segments with more words than their symbols can take, before memory is taken for them.

    A symbol has at most four intervals, and an interval takes at most one word (SPEC 7.2, 7.3): what is longer would
    leave words after the last symbol.

    Parameters
    ----------
    stream : Stream
    config : Config
    needs : Needs
        Tiles whose y is decoded, and tiles whose z is.

    Raises
    ------
    CoderError
    """
    wanted = [
        *(
            ("z", t, stream.index[t.index].z_length, config.hyper * t.height * t.width // Z_STRIDE**2)
            for t in needs.of_z
        ),
        *(("y", t, stream.index[t.index].y_length, config.M * t.height * t.width) for t in needs.tiles),
    ]
    for name, tile, length, symbols in wanted:
        if length > (longest := STATE_BYTES + MOST_INTERVALS * WORD_BYTES * symbols):
            raise CoderError(
                "words are left after the last symbol",
                where=f"the {name} segment of tile {tile.index} (SPEC 7.6)",
                bytes=length,
                longest=longest,
                symbols=symbols,
                cause="the segment is damaged, or of another model",
            )


@within_resources("decoding")
def decode_strips(
    data: Buffer,
    strips: Strips,
    *,
    model: ModelArgument = None,
    threads: int | None = None,
    limits: Limits | None = None,
    backend: str | None = None,
    trace: Trace | None = None,
    verify: bool = False,
    progress: Progress | None = None,
    region: Iterable[int] | None = None,
    held: bool = False,
    colours: Elsewhere | None = None,
    parts: Parts = Parts(),
) -> Stream:
    """(SPEC 6.10-3, 4.5) Decode a stream, or a region of it, to strips of samples.

    Parameters
    ----------
    data : bytes-like
    strips : callable(first row, samples)
        Gets the samples, [n, W, 3] or [n, W] uint8, from the top down.
    verify : bool
        Compare the reconstruction with the digest the stream carries.
    model, threads, limits, backend, trace, progress, parts
        As in ``encode_strips``; limits are checked on the header, before memory is taken.
    region : x, y, width and height, or None
        Decode exactly this part of the picture, in samples. Only the tiles that
        it needs are decoded and checked.
    held : bool
        The caller keeps the samples, so they count in the estimate of memory.
    colours : callable(stream) or None
        Gives strips of the colours of the whole picture in place of the networks, from other machines for instance
        (bands.py). Everything else, the checks among it, stays the same.

    Returns
    -------
    Stream
        The parsed container.

    Raises
    ------
    InvalidStream, Unsupported, LimitExceeded, ModelError
    UsageError
        An argument has a wrong type, or the region is not inside the picture.
    CheckFailed
        ``verify`` was asked for and the digest is absent or another.
    """
    check_arguments(threads, limits, trace, model, (progress, strips, colours), verify=verify, held=held)
    limits = limits or Limits()
    header = parse_header(data)
    wanted = Region(0, 0, header.width, header.height)
    if region is not None:
        wanted = check_region(region, header.width, header.height)
        if verify or colours:
            what = "verified" if verify else "decoded elsewhere"
            raise UsageError(f"only a whole picture can be {what}", region=list(wanted))
    needs = needed_for(header.grid, wanted)
    pixels = STRIDE * STRIDE * sum(tile.height * tile.width for tile in needs.tiles)
    if header.lossless:
        pixels = padded_pixels(header.width, wanted.y + wanted.height)
    check_padded(pixels, limits, "byte 8 (SPEC 8.1)", width=header.width, height=header.height)
    of_z = [] if header.lossless else [tile.index for tile in needs.of_z]
    stream = parse(data, None if region is None else of_z)
    overlay, outlet = Overlay(stream, wanted), _Outlet(verify, strips)
    check_padded(overlay.pixels, limits, "its chunks ALPH and LOSS (SPEC 8.11)", region=list(wanted))
    alpha = ALPHA in dict(stream.chunks)
    if not header.lossless:
        found = stream_model(header, model)
        check_segments(stream, found.config, needs)
    if header.lossless or colours:
        memory = overlay.memory + held * wanted.width * wanted.height * (header.channels + alpha)
        check_memory(memory, limits, "decoding", "byte 8 (SPEC 8.1)", width=header.width, height=header.height)
        for first, rows in colours(stream) if colours and not header.lossless else whole_strips(stream, wanted):
            outlet(first, overlay.finished(first, rows))
            if progress:
                progress((first + rows.shape[0]) / wanted.height)
    else:
        longest = max(stream.index[n].z_length + stream.index[n].y_length for n in of_z)
        _check_memory(
            *("decoding", header, found, limits, backend, threads, trace is not None),
            part=needs.y,
            segments=longest,
            held=held,
            more=overlay.memory + held * alpha * wanted.width * wanted.height,
        )
        work = Work(found, False, needs.tiles, progress)
        with borrowed_pool(header.tiled) as pool:
            engine = parts.engine(found.layers, found.tables, header.quality - 1, threads, backend, trace, pool)
            flow = Flow(engine, found, header, needs, work, parts)
            for first, rows in flow.samples(flow.decoder(stream)):
                outlet(first, overlay.finished(first, rows))
    if verify:
        _check_digest(header, outlet.sealed(header).digest)
    return stream


def decode_stream(data: Buffer, *, region: Iterable[int] | None = None, **options: Any) -> tuple[np.ndarray, Stream]:
    """(SPEC 6.10-3, 4.5) Decode a stream, or a region of it, to samples and its parsed container.

    Parameters
    ----------
    data : bytes-like
    region, **options
        As in `decode_strips`.

    Returns
    -------
    samples : np.ndarray [H, W, 3] or [H, W], uint8
    stream : Stream

    Raises
    ------
    InvalidStream, Unsupported, LimitExceeded, ModelError, UsageError, CheckFailed
        As `decode_strips`.
    """
    header = parse_header(data)
    wanted = check_region(region, header.width, header.height) if region is not None else None
    samples: list[np.ndarray] = []

    def place(first: int, rows: np.ndarray) -> None:
        if not samples:  # memory is taken when all checks have passed
            height = wanted.height if wanted else header.height
            samples.append(np.empty((height, *rows.shape[1:]), np.uint8))
        samples[0][first : first + rows.shape[0]] = rows

    stream = decode_strips(data, place, region=wanted, held=True, **options)
    return samples[0], stream


def _check_digest(header: Header, computed: bytes | None) -> None:
    if header.digest is None:
        raise CheckFailed("the stream carries no digest of its reconstruction", where="header flags (SPEC 8.1)")
    if computed is not None and computed != header.digest:
        raise CheckFailed(
            "the reconstruction differs from the encoder's",
            where="header offset 36 (SPEC 8.1)",
            stored=header.digest.hex(),
            computed=computed.hex(),
            cause="this decoder or the encoder does not compute what SPEC.md defines",
        )


def encode(
    image: np.ndarray,
    quality: int = 60,
    *,
    model: ModelArgument = None,
    threads: int | None = None,
    limits: Limits | None = None,
    exif: bytes | None = None,
    icc_profile: bytes | None = None,
    xmp: bytes | None = None,
    tile: int | None = None,
    exact: bool = False,
    lossless: bool = False,
    rectangles: bool = True,
    refine: int = 0,
) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    image : np.ndarray [H, W], or [H, W, C] with 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha) channels, uint8
        Colours are not multiplied by alpha.
    quality : int in 1..100
    model : Model, name, path or None for the default
    threads : int or None for all cores
    limits : Limits or None for the defaults
    exif, icc_profile, xmp : bytes or None
        Metadata to carry.
    tile : int or None
        Side of the tiles in samples, a multiple of 64; 0 for none, None to let the encoder choose.
    exact : bool
        Keep the colours of fully transparent pixels; otherwise they are replaced by colours that are cheap to code.
    lossless : bool
        Store the whole picture losslessly. Quality and model are not used.
    rectangles : bool
        Store parts losslessly where that costs less than coding them.
    refine : int
        Steps by which gradients improve the latents for this picture, 0 for none: fewer bits for more time. Needs
        PyTorch (extra ``train``).

    Returns
    -------
    bytes
        The stream (SPEC 8).

    Raises
    ------
    RefcodecError
        A subclass that says what is wrong.
    """
    return encode_picture(
        image,
        quality,
        model=model,
        threads=threads,
        limits=limits,
        chunks=metadata_chunks(exif, icc_profile, xmp),
        tile=tile,
        exact=exact,
        lossless=lossless,
        rectangles=rectangles,
        refine=refine,
    ).data


def metadata_chunks(exif: bytes | None, icc_profile: bytes | None, xmp: bytes | None) -> tuple[tuple[str, bytes], ...]:
    """(SPEC 8.4) Metadata as chunks; absent and empty ones are left out.

    Parameters
    ----------
    exif, icc_profile, xmp : bytes-like or None
        The payloads of the chunks "exif", "iccp" and "xmp ".

    Returns
    -------
    tuple of (str, bytes)
        Tag and payload of each chunk.

    Raises
    ------
    UsageError
        A payload is not bytes-like.
    """
    kinds = (("exif", "exif", exif), ("iccp", "icc_profile", icc_profile), ("xmp ", "xmp", xmp))
    return tuple((tag, data) for tag, name, data in kinds if data is not None and len(as_view(data, name)))


def decode(
    data: Buffer,
    *,
    model: ModelArgument = None,
    threads: int | None = None,
    limits: Limits | None = None,
    trace: Trace | None = None,
    region: Iterable[int] | None = None,
    reduce: int = 1,
) -> np.ndarray:
    """Decode a stream.

    Parameters
    ----------
    data : bytes-like
        The stream. For a file, pass its content, not its name.
    model : Model, name, path or None to find it by the fingerprint in the stream
    threads : int or None for all cores
    limits : Limits or None for the defaults
    trace : callable(name, array) or None
        Sees every named intermediate result [H, W, C].
    region : x, y, width and height, or None
        Decode exactly this part of the picture, in samples.
    reduce : 1, 2, 4, 8, 16, 32 or 64
        Return a smaller picture: the means of squares with this side, in samples. It takes the same time and less
        memory.

    Returns
    -------
    np.ndarray [H, W], or [H, W, C] with 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha) channels, uint8

    Raises
    ------
    RefcodecError
        A subclass that says what is wrong.
    """
    ways: dict[str, Any] = {"model": model, "threads": threads, "limits": limits, "trace": trace, "region": region}
    if check_step(reduce) == 1:
        return decode_stream(data, **ways)[0]
    return decode_reduced(data, reduce, **ways)[0]


def decode_reduced(data: Buffer, step: int, **options: Any) -> tuple[np.ndarray, Stream]:
    """Decode a stream, or a region of it, to the means of squares of ``step`` samples a side.

    Parameters
    ----------
    data : bytes-like
    step : int
        One of `refcodec.reduced.STEPS`.
    **options
        As in `decode_strips`.

    Returns
    -------
    samples : np.ndarray [ceil(H / step), ceil(W / step)] or [.., .., C], uint8
    stream : Stream

    Raises
    ------
    InvalidStream, Unsupported, LimitExceeded, ModelError, UsageError, CheckFailed
        As `decode_strips`.
    """
    header, region = parse_header(data), options.get("region")
    if region is not None:
        options["region"] = region = check_region(region, header.width, header.height)
    width, height = region[2:] if region else (header.width, header.height)
    reduced = Reduced(height, width, check_step(step))
    stream = decode_strips(data, reduced, **options)
    return reduced.samples, stream
