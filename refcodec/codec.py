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

import numpy as np

from .architecture import Config
from .arith.engine import Engine
from .arith.maps import borrowed_pool, interior
from .arith.strips import Rows, in_strips
from .bitstream.container import Header, Stream, check_limits, parse, parse_header, reconstruction_digest, serialise
from .entropy.ports import Reader, Writer
from .errors import CheckFailed, ModelError, UsageError
from .image import check_samples, crop_samples, pad_rows
from .limits import Limits
from .memory import memory_estimate
from .model import Model
from .model_registry import find_model, load_model
from .nets.analysis import analysis
from .nets.hyperprior import hyper_analysis
from .nets.synthesis import synthesis
from .slices import walk

ModelArgument = Model | str | os.PathLike[str] | None
Trace = Callable[[str, np.ndarray], None]


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


def _latent_size(height: int, width: int) -> tuple[int, int]:
    """(SPEC 4) Rows and columns of y: the picture is padded to multiples of 64, y has one position for 16x16."""
    return -(-height // 64) * 4, -(-width // 64) * 4


def _reconstruct(engine: Engine, config: Config, y_hat: np.ndarray, width: int, height: int,
                 channels: int) -> np.ndarray:
    """(SPEC 4.3) y_hat -> samples: synthesis, clamp to 0..255, crop; strip by strip."""
    samples = np.empty((height, width, 3) if channels == 3 else (height, width), np.uint8)
    for first, planes in in_strips(engine, synthesis, y_hat, 64 * config.N[0], lag=7):
        rows = min(height - first, planes.shape[0])  # one or more: the last strip is higher than the padding
        clamped = np.clip(planes[:rows], 0, 255).astype(np.uint8)
        samples[first:first + rows] = crop_samples(clamped, rows, width, channels)
    return samples


def encode_picture(samples: np.ndarray, quality: int = 60, *, model: ModelArgument = None, threads: int | None = None,
                   chunks: tuple[tuple[str, bytes], ...] = (), backend: str | None = None,
                   trace: Trace | None = None, digest: bool = True) -> Encoded:
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
    backend : "numba", "numpy" or None for ``REFCODEC_BACKEND``
    trace : callable(name, array) or None
    digest : bool
        Store the digest of the reconstruction.

    Raises
    ------
    UsageError, LimitExceeded, ModelError
    """
    check_samples(samples)
    model = _resolve(model)
    if not isinstance(quality, (int, np.integer)) or not 1 <= quality <= 100:
        raise UsageError("quality is not a step", value=quality, allowed="1..100")
    if quality > model.config.steps:
        raise UsageError("the model has one quality", value=int(quality), allowed="1", cause="leave the quality out")
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else 3
    latent_height, latent_width = _latent_size(height, width)
    with borrowed_pool() as pool:
        engine = Engine(model.layers, model.tables, int(quality) - 1, threads, backend, trace, pool)
        y = engine.map(latent_height, latent_width, model.config.M)
        x = Rows(16 * latent_height, 16 * latent_width, 4, lambda first, out: pad_rows(samples, first, out))
        for first, rows in in_strips(engine, analysis, x, model.config.N[0] / 4):
            interior(y)[first:first + rows.shape[0]] = rows
        z = hyper_analysis(engine, y)
        port = Writer(engine, y, z, model.tables.gaussian, model.factorized)
        y_hat = walk(engine, model.config, model.medians, port, latent_height, latent_width)
        z_segment, y_segment = port.finish()
        reconstruction = _reconstruct(engine, model.config, y_hat, width, height, channels)
    data = serialise(width=width, height=height, channels=channels, quality=int(quality), fingerprint=model.fingerprint,
                     z=z_segment, y=y_segment, chunks=chunks,
                     digest=reconstruction_digest(reconstruction) if digest else None)
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
        raise ModelError("the model is not the one the stream was coded with", where="header offset 16 (SPEC 8.1)",
                         wanted=header.fingerprint.hex(), given=model.fingerprint.hex(), name=model.name)
    if header.quality > model.config.steps:
        raise ModelError("the stream's quality step is not one of the model's", where="header offset 7 (SPEC 8.1)",
                         step=header.quality, steps=model.config.steps)
    return model


def decode_stream(data: bytes, *, model: ModelArgument = None, threads: int | None = None,
                  limits: Limits | None = None, backend: str | None = None, trace: Trace | None = None,
                  verify: bool = False) -> tuple[np.ndarray, Stream]:
    """(SPEC 6.10-3) Decode a stream to samples and its parsed container.

    Parameters
    ----------
    data : bytes
    verify : bool
        Compare the reconstruction with the digest the stream carries.
    model, threads, limits, backend, trace
        As in ``encode_picture``; limits are checked on the header, before memory is taken.

    Returns
    -------
    samples : np.ndarray [H, W, 3] or [H, W], uint8
    stream : Stream

    Raises
    ------
    InvalidStream, Unsupported, LimitExceeded, ModelError
    CheckFailed
        ``verify`` was asked for and the digest is absent or another.
    """
    limits = limits or Limits()
    header = parse_header(data)
    check_limits(header, limits)
    stream = parse(data)
    found = stream_model(header, model)
    check_limits(header, limits, memory_estimate(header.width, header.height, found, backend))
    with borrowed_pool() as pool:
        engine = Engine(found.layers, found.tables, header.quality - 1, threads, backend, trace, pool)
        port = Reader(engine.backend, stream.z, stream.y, found.tables.gaussian, found.factorized)
        y_hat = walk(engine, found.config, found.medians, port, *_latent_size(header.height, header.width))
        port.finish()
        samples = _reconstruct(engine, found.config, y_hat, header.width, header.height, header.channels)
    if verify:
        _check_digest(header, samples)
    return samples, stream


def _check_digest(header: Header, samples: np.ndarray) -> None:
    if header.digest is None:
        raise CheckFailed("the stream carries no digest of its reconstruction", where="header flags (SPEC 8.1)")
    if (computed := reconstruction_digest(samples)) != header.digest:
        raise CheckFailed("the reconstruction differs from the encoder's", where="header offset 44 (SPEC 8.1)",
                          stored=header.digest.hex(), computed=computed.hex(),
                          cause="this decoder or the encoder does not compute what SPEC.md defines")


def encode(image: np.ndarray, quality: int = 60, *, model: ModelArgument = None, threads: int | None = None,
           exif: bytes | None = None, icc_profile: bytes | None = None, xmp: bytes | None = None) -> bytes:
    """Code a picture.

    Parameters
    ----------
    image : np.ndarray [H, W, 3] or [H, W], uint8
        RGB or grey samples.
    quality : int in 1..100
    model : Model, name, path or None for the default
    threads : int or None for all cores
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
    return encode_picture(image, quality, model=model, threads=threads,
                          chunks=metadata_chunks(exif, icc_profile, xmp)).data


def metadata_chunks(exif: bytes | None, icc_profile: bytes | None, xmp: bytes | None) -> tuple[tuple[str, bytes], ...]:
    """(SPEC 8.4) Metadata as chunks, absent ones left out."""
    return tuple((tag, data) for tag, data in (("exif", exif), ("iccp", icc_profile), ("xmp ", xmp)) if data)


def decode(data: bytes, *, model: ModelArgument = None, threads: int | None = None, limits: Limits | None = None,
           trace: Trace | None = None) -> np.ndarray:
    """Decode a stream.

    Parameters
    ----------
    data : bytes
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
    return decode_stream(bytes(data), model=model, threads=threads, limits=limits, trace=trace)[0]
