"""The codec from end to end (SPEC 1.2): samples -> stream and back, each in one short function.

    encode:  samples -> pad -> g_a -> y -> h_a -> z -> slice walk (writes z and y) -> container
                                                           |
    decode:  container -> slice walk (reads z and y) -> y_hat -> g_s -> crop -> samples

The encoder runs the decoder's slice walk and synthesis, so what it reports is what every decoder will show.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .arith.engine import Engine
from .arith.maps import borrowed_pool, interior
from .arith.strips import Rows
from .bitstream.container import (
    Header,
    Stream,
    check_limits,
    pack_chunks,
    parse,
    parse_header,
    reconstruction_digest,
    serialise,
)
from .bitstream.fields import Buffer, as_view
from .entropy.ports import Port, Reader, Writer
from .entropy.rans import STATE_BYTES, WORD_BYTES
from .errors import CheckFailed, CoderError, ModelError, UsageError, within_resources
from .limits import Limits, check_memory, check_pixels
from .memory import MOST_INTERVALS, memory_estimate
from .model.config import Config
from .model.integer_model import Model
from .model.registry import find_model, load_model
from .nets.analysis import analysis_strips
from .nets.hyperprior import hyper_analysis
from .nets.synthesis import synthesis_strips
from .planes import check_samples, crop_samples, pad_rows
from .slices import walk

ModelArgument = Model | str | os.PathLike[str] | None
Trace = Callable[[str, np.ndarray], None]
Progress = Callable[[float], None]
"""Is given the share of the work that is done, 0 to 1."""


class Parts(NamedTuple):
    """What coding is built from. Measurements (refcodec/bench/stopwatch.py) and tests exchange parts; no user does."""

    engine: type[Engine] = Engine
    reader: type[Reader] = Reader
    writer: type[Writer] = Writer
    pad_rows: Callable[[np.ndarray, int, np.ndarray], None] = pad_rows
    serialise: Callable[..., bytes] = serialise


@dataclass(frozen=True)
class Encoded:
    """A stream and what its encoder knows of it.

    Attributes
    ----------
    data : bytes
    reconstruction : np.ndarray [H, W, 3] or [H, W], uint8
        What every decoder returns for these bytes.
    model : Model
    z_bytes, y_bytes : int
        Sizes of the coded segments.
    """

    data: bytes
    reconstruction: np.ndarray
    model: Model
    z_bytes: int
    y_bytes: int

    @property
    def sha256(self) -> str:
        """SHA-256 of the reconstruction's samples, row by row, channels interleaved."""
        return hashlib.sha256(self.reconstruction.tobytes()).hexdigest()


def _resolve(model: ModelArgument) -> Model:
    return model if isinstance(model, Model) else load_model(model)


def _check_arguments(threads: object, limits: object, trace: object) -> None:
    """Refuse arguments of a wrong type before they fail somewhere else."""
    if threads is not None and not isinstance(threads, (int, np.integer)):
        raise UsageError("the number of threads is an integer or None", value=repr(threads))
    if limits is not None and not isinstance(limits, Limits):
        raise UsageError(
            "limits are a refcodec.Limits or None",
            type=type(limits).__name__,
            cause="for instance refcodec.Limits(max_pixels=1 << 24)",
        )
    if trace is not None and not callable(trace):
        raise UsageError("a trace is a function of a name and an array", type=type(trace).__name__)


def _latent_size(height: int, width: int) -> tuple[int, int]:
    """(SPEC 4) Rows and columns of y: the picture is padded to multiples of 64, y has one position for 16x16."""
    return -(-height // 64) * 4, -(-width // 64) * 4


class _Work:
    """Reports the share of the work that is done, weighed by the layer table's multiply-accumulates.

    Parameters
    ----------
    model : Model
    encoding : bool
        The work begins with g_a; decoding has none.
    report : callable or None
    """

    def __init__(self, model: Model, encoding: bool, report: Progress | None) -> None:
        self._report, self._done = report, 0.0
        self._weights = dict.fromkeys(("analysis", "walk", "synthesis"), 0.0)
        for op in model.ops:
            part = {"g_a": "analysis", "g_s": "synthesis"}.get(op.name.split("/")[0], "walk")
            if encoding or part != "analysis":
                self._weights[part] += op.macs
        self._total = sum(self._weights.values())

    def step(self, part: str, share: float) -> None:
        """A share of a part is done, beyond what was reported before."""
        if self._report:
            self._done += share * self._weights[part] / self._total
            self._report(min(self._done, 1.0))


class _Watched:
    """A port that reports every half of a slice."""

    def __init__(self, port: Port, work: _Work, slices: int) -> None:
        self._port, self._work, self._steps = port, work, 2 * slices

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """As the port's."""
        return self._port.z(medians, shape)

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """As the port's."""
        symbols = self._port.y(i, parity, levels, means)
        self._work.step("walk", 1 / self._steps)
        return symbols


def _reconstruct(
    engine: Engine, config: Config, y_hat: np.ndarray, width: int, height: int, channels: int, work: _Work
) -> np.ndarray:
    """(SPEC 4.3) y_hat -> samples: synthesis, clamp to 0..255, crop; strip by strip."""
    samples = np.empty((height, width, 3) if channels == 3 else (height, width), np.uint8)
    for first, planes in synthesis_strips(engine, config, y_hat):
        rows = min(height - first, planes.shape[0])  # one or more: the last strip is higher than the padding
        clamped = np.clip(planes[:rows], 0, 255).astype(np.uint8)
        samples[first : first + rows] = crop_samples(clamped, rows, width, channels)
        work.step("synthesis", rows / height)
    return samples


@within_resources("encoding")
def encode_picture(
    samples: np.ndarray,
    quality: int = 60,
    *,
    model: ModelArgument = None,
    threads: int | None = None,
    chunks: tuple[tuple[str, bytes], ...] = (),
    limits: Limits | None = None,
    backend: str | None = None,
    trace: Trace | None = None,
    digest: bool = True,
    progress: Progress | None = None,
    parts: Parts = Parts(),
) -> Encoded:
    """(SPEC 6.10-4) Code a picture.

    Parameters
    ----------
    samples : np.ndarray [H, W, 3] or [H, W], uint8
    quality : int in 1..100
        Step of the model's gains; a model without gains has one quality and takes no other than 1.
    model : Model, name, path or None for the default
    threads : int or None for all cores
    chunks : tuple of (tag, payload)
        Metadata to carry.
    limits : Limits or None for the defaults
        Checked before memory is taken.
    backend : "numba", "numpy" or None for ``REFCODEC_BACKEND``
    trace : callable(name, array) or None
        Sees every result; the networks then run over the whole picture, which takes more memory.
    digest : bool
        Store the digest of the reconstruction.
    progress : callable(share) or None
        Is given the share of the work that is done, 0 to 1, after every strip and half slice.
    parts : Parts
        Other classes and functions to code with, for measurements and tests.

    Raises
    ------
    UsageError, LimitExceeded, ModelError
    """
    check_samples(samples)
    _check_arguments(threads, limits, trace)
    limits = limits or Limits()
    check_pixels(samples.shape[1], samples.shape[0], limits)
    chunks = tuple(chunks)
    for _ in pack_chunks(chunks):
        pass  # refuses what no stream may carry before the picture is coded
    model = _resolve(model)
    if not isinstance(quality, (int, np.integer)) or not 1 <= quality <= 100:
        raise UsageError("quality is not a step", value=quality, allowed="1..100")
    if quality > model.config.steps:
        raise UsageError("the model has one quality", value=int(quality), allowed="1", cause="leave the quality out")
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else 3
    if limits.max_memory is not None:
        check_memory(
            memory_estimate(
                width,
                height,
                model,
                backend,
                channels=channels,
                threads=threads,
                encoding=True,
                trace=trace is not None,
            ),
            limits,
            "encoding",
            width=width,
            height=height,
        )
    latent_height, latent_width = _latent_size(height, width)
    work = _Work(model, True, progress)
    with borrowed_pool() as pool:
        engine = parts.engine(model.layers, model.tables, int(quality) - 1, threads, backend, trace, pool)
        y = engine.map(latent_height, latent_width, model.config.M)
        x = Rows(16 * latent_height, 16 * latent_width, 4, lambda first, out: parts.pad_rows(samples, first, out))
        for first, rows in analysis_strips(engine, model.config, x):
            interior(y)[first : first + rows.shape[0]] = rows
            work.step("analysis", rows.shape[0] / latent_height)
        z = hyper_analysis(engine, y)
        port = parts.writer(engine, y, z, model.tables.gaussian, model.factorized)
        y_hat = walk(
            engine, model.config, model.medians, _Watched(port, work, model.config.slices), latent_height, latent_width
        )
        z_segment, y_segment = port.finish()
        reconstruction = _reconstruct(engine, model.config, y_hat, width, height, channels, work)
    data = parts.serialise(
        width=width,
        height=height,
        channels=channels,
        quality=int(quality),
        fingerprint=model.fingerprint,
        z=z_segment,
        y=y_segment,
        chunks=chunks,
        digest=reconstruction_digest(reconstruction) if digest else None,
    )
    return Encoded(data, reconstruction, model, len(z_segment), len(y_segment))


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
            "the stream's quality step is not one of the model's",
            where="header offset 7 (SPEC 8.1)",
            step=header.quality,
            steps=model.config.steps,
        )
    return model


def check_segments(header: Header, config: Config) -> None:
    """(SPEC 7.6-4) Refuse segments with more words than their symbols can take, before memory is taken for them.

    A symbol has at most four intervals, and an interval takes at most one word (SPEC 7.2, 7.3): what is longer would
    leave words after the last symbol.

    Raises
    ------
    CoderError
    """
    rows, columns = _latent_size(header.height, header.width)
    for name, length, symbols in (
        ("z", header.z_length, rows * columns // 16 * config.hyper),
        ("y", header.y_length, rows * columns * config.M),
    ):
        if length > (longest := STATE_BYTES + MOST_INTERVALS * WORD_BYTES * symbols):
            raise CoderError(
                "words are left after the last symbol",
                where=f"the {name} segment (SPEC 7.6)",
                bytes=length,
                longest=longest,
                symbols=symbols,
                cause="the segment is damaged, or of another model",
            )


@within_resources("decoding")
def decode_stream(
    data: Buffer,
    *,
    model: ModelArgument = None,
    threads: int | None = None,
    limits: Limits | None = None,
    backend: str | None = None,
    trace: Trace | None = None,
    verify: bool = False,
    progress: Progress | None = None,
    parts: Parts = Parts(),
) -> tuple[np.ndarray, Stream]:
    """(SPEC 6.10-3) Decode a stream to samples and its parsed container.

    Parameters
    ----------
    data : bytes-like
    verify : bool
        Compare the reconstruction with the digest the stream carries.
    model, threads, limits, backend, trace, progress, parts
        As in ``encode_picture``; limits are checked on the header, before memory is taken.

    Returns
    -------
    samples : np.ndarray [H, W, 3] or [H, W], uint8
    stream : Stream

    Raises
    ------
    InvalidStream, Unsupported, LimitExceeded, ModelError
    UsageError
        An argument has a wrong type.
    CheckFailed
        ``verify`` was asked for and the digest is absent or another.
    """
    _check_arguments(threads, limits, trace)
    limits = limits or Limits()
    header = parse_header(data)
    check_limits(header, limits)
    stream = parse(data)
    found = stream_model(header, model)
    check_segments(header, found.config)
    if limits.max_memory is not None:
        check_limits(
            header,
            limits,
            memory_estimate(
                header.width,
                header.height,
                found,
                backend,
                channels=header.channels,
                threads=threads,
                trace=trace is not None,
                segments=header.z_length + header.y_length,
            ),
        )
    work = _Work(found, False, progress)
    with borrowed_pool() as pool:
        engine = parts.engine(found.layers, found.tables, header.quality - 1, threads, backend, trace, pool)
        port = parts.reader(engine.backend, stream.z, stream.y, found.tables.gaussian, found.factorized)
        y_hat = walk(
            engine,
            found.config,
            found.medians,
            _Watched(port, work, found.config.slices),
            *_latent_size(header.height, header.width),
        )
        port.finish()
        samples = _reconstruct(engine, found.config, y_hat, header.width, header.height, header.channels, work)
    if verify:
        _check_digest(header, samples)
    return samples, stream


def _check_digest(header: Header, samples: np.ndarray) -> None:
    if header.digest is None:
        raise CheckFailed("the stream carries no digest of its reconstruction", where="header flags (SPEC 8.1)")
    if (computed := reconstruction_digest(samples)) != header.digest:
        raise CheckFailed(
            "the reconstruction differs from the encoder's",
            where="header offset 44 (SPEC 8.1)",
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
) -> bytes:
    """Code a picture.

    Parameters
    ----------
    image : np.ndarray [H, W, 3] or [H, W], uint8
        RGB or grey samples.
    quality : int in 1..100
    model : Model, name, path or None for the default
    threads : int or None for all cores
    limits : Limits or None for the defaults
    exif, icc_profile, xmp : bytes or None
        Metadata to carry.

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
        image, quality, model=model, threads=threads, limits=limits, chunks=metadata_chunks(exif, icc_profile, xmp)
    ).data


def metadata_chunks(exif: bytes | None, icc_profile: bytes | None, xmp: bytes | None) -> tuple[tuple[str, bytes], ...]:
    """(SPEC 8.4) Metadata as chunks, absent and empty ones left out; UsageError for what is not bytes-like."""
    kinds = (("exif", "exif", exif), ("iccp", "icc_profile", icc_profile), ("xmp ", "xmp", xmp))
    return tuple((tag, data) for tag, name, data in kinds if data is not None and len(as_view(data, name)))


def decode(
    data: Buffer,
    *,
    model: ModelArgument = None,
    threads: int | None = None,
    limits: Limits | None = None,
    trace: Trace | None = None,
) -> np.ndarray:
    """Decode a stream.

    Parameters
    ----------
    data : bytes-like
        The stream itself; of a file, its content.
    model : Model, name, path or None to find it by the fingerprint in the stream
    threads : int or None for all cores
    limits : Limits or None for the defaults
    trace : callable(name, array) or None
        Sees every named intermediate result [H, W, C].

    Returns
    -------
    np.ndarray [H, W, 3] or [H, W], uint8

    Raises
    ------
    RefcodecError
        A subclass that says what is wrong.
    """
    return decode_stream(data, model=model, threads=threads, limits=limits, trace=trace)[0]
