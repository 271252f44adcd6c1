"""The commands on pictures and streams; `refcodec.cli` holds the arguments and exit codes of all commands.

Every function takes the parsed arguments, writes results to standard output and returns an exit code; whatever goes
wrong is a RefcodecError. Outputs are checked before the work starts and renamed into place when it is done. What one
command alone needs is imported when it runs: a process that decodes has a second for everything.
"""

from __future__ import annotations

import hashlib
import time
from argparse import Namespace
from pathlib import Path

import numpy as np

from ..arith.backend import prepare
from ..bitstream.container import Stream
from ..bitstream.fields import MAGIC, VERSION
from ..bitstream.info import describe
from ..codec import Encoded, decode_stream, encode_picture, metadata_chunks
from ..errors import CheckFailed, OutputError, UsageError
from ..io.console import note, progress, result, result_json
from ..io.files import PICTURE_SUFFIXES, check_target, opened, read_stream, stream_from, write_bytes
from ..io.options import limits_of
from ..io.pictures import Picture, check_format, picture_from, read_picture, seekable, translated, write_picture
from ..limits import Limits
from ..measure.metrics import compare as compare_samples
from ..measure.metrics import heatmap, psnr
from ..model.integer_model import Model
from ..model.registry import load_model
from ..trace import Recorder, Stage, npy_bytes
from .rate_search import best_fit

METADATA = ("exif", "icc", "xmp")
DEFAULT_QUALITY = 60


def _check_output(args: Namespace) -> None:
    """Refuse an output that cannot be written, or that would be mixed with other output."""
    check_target(args.out, args.force, args.input)
    if args.json and str(args.out) == "-":
        raise UsageError(
            "--json and the output - would both write to standard output",
            where="--json",
            cause="name a file for the output",
        )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _stripped(picture: Picture, strip: str | None) -> dict[str, bytes | None]:
    words = set((strip or "").split(",")) - {""}
    if unknown := sorted(words - {*METADATA, "all"}):
        raise UsageError("not metadata", where="--strip", words=unknown, known=[*METADATA, "all"])
    kept = {"exif": picture.exif, "icc": picture.icc_profile, "xmp": picture.xmp}
    return {name: None if name in words or "all" in words else data for name, data in kept.items()}


def _coded(args: Namespace, picture: Picture, model: Model) -> tuple[int, Encoded]:
    kept = _stripped(picture, args.strip)
    chunks = metadata_chunks(kept["exif"], kept["icc"], kept["xmp"])

    limits, trials = limits_of(args), 0

    def encode(quality: int) -> Encoded:
        nonlocal trials
        trials += 1
        with progress(f"encoding at quality {quality}" + (f", trial {trials}" if searched else "")) as share:
            return encode_picture(
                picture.samples,
                quality,
                model=model,
                threads=args.threads,
                chunks=chunks,
                limits=limits,
                progress=share,
            )

    steps = model.config.steps
    searched = args.bpp is not None or args.size is not None
    if not searched:
        quality = args.quality if args.quality is not None else min(DEFAULT_QUALITY, steps)
        return quality, encode(quality)
    pixels = picture.samples.shape[0] * picture.samples.shape[1]
    budget = args.size if args.size is not None else int(args.bpp * pixels / 8)
    quality, coded = best_fit(encode, steps, budget)
    if coded is None:
        smallest = len(encode(quality).data)
        raise UsageError(
            "no quality fits",
            budget=budget,
            smallest=smallest,
            quality=quality,
            cause="allow more bytes or a higher rate, or scale the picture down",
        )
    note(f"quality {quality} is the highest that fits: {len(coded.data)} of {budget} bytes")
    return quality, coded


def encode(args: Namespace) -> int:
    """``encode IN OUT``."""
    _check_output(args)
    if (suffix := Path(args.out).suffix.lower()) in PICTURE_SUFFIXES:
        raise UsageError(
            "the output is a stream, its name is that of a picture",
            where=str(args.out),
            suffix=suffix,
            cause="name it .loclic; decode writes pictures",
        )
    picture = read_picture(args.input, limits_of(args))
    for text in picture.notes:
        note(f"{args.input}: {text}")
    model = load_model(args.model)
    prepare(args.threads, note)
    start = time.perf_counter()
    quality, coded = _coded(args, picture, model)
    seconds = time.perf_counter() - start
    write_bytes(args.out, coded.data, args.force)
    height, width = picture.samples.shape[:2]
    if args.json:
        result_json(
            {
                "width": width,
                "height": height,
                "channels": 1 if picture.samples.ndim == 2 else 3,
                "quality": quality,
                "bytes": len(coded.data),
                "bits_per_pixel": 8 * len(coded.data) / (width * height),
                "z_bytes": coded.z_bytes,
                "y_bytes": coded.y_bytes,
                "model": model.name,
                "fingerprint": model.fingerprint.hex(),
                "reconstruction_sha256": coded.sha256,
                "psnr": _finite(psnr(picture.samples, coded.reconstruction)),
                "seconds": seconds,
            }
        )
    elif str(args.out) != "-":
        note(
            f"{width}x{height} at quality {quality}: {len(coded.data)} bytes, "
            f"{8 * len(coded.data) / (width * height):.4f} bits per pixel, "
            f"{psnr(picture.samples, coded.reconstruction):.2f} dB, {seconds:.2f} s"
        )
    _advise(args.input, len(coded.data))
    return 0


def _advise(source: str, size: int) -> None:
    """Say what a user may not expect: a stream larger than its source, and the format's state."""
    file = Path(source)
    if source != "-" and file.is_file() and size > (before := file.stat().st_size):
        note(
            f"the stream is larger than the source of {before} bytes: the codec is made for photographs; of text, "
            "graphics and flat colours a PNG is smaller and lossless"
        )
    note(f"format version {VERSION} is not frozen, a later refcodec may not decode this stream: keep the source")


def decode(args: Namespace) -> int:
    """``decode IN OUT``."""
    _check_output(args)
    check_format(args.out)
    data = read_stream(args.input, limits_of(args))
    prepare(args.threads, note)
    start = time.perf_counter()
    samples, stream = _decoded(data, args, verify=args.verify)
    seconds = time.perf_counter() - start
    chunks = dict(stream.chunks)
    picture = Picture(samples, chunks.get("exif"), chunks.get("iccp"), chunks.get("xmp "))
    for text in write_picture(args.out, picture, args.force):
        note(f"{args.out}: {text}")
    if args.json:
        result_json(
            {
                "width": samples.shape[1],
                "height": samples.shape[0],
                "channels": 1 if samples.ndim == 2 else 3,
                "quality": stream.header.quality,
                "fingerprint": stream.header.fingerprint.hex(),
                "sha256": hashlib.sha256(samples.tobytes()).hexdigest(),
                "verified": bool(args.verify),
                "seconds": seconds,
            }
        )
    return 0


def _decoded(data: bytes, args: Namespace, verify: bool = False) -> tuple[np.ndarray, Stream]:
    with progress("decoding") as share:
        return decode_stream(
            data, model=args.model, threads=args.threads, limits=limits_of(args), verify=verify, progress=share
        )


def info(args: Namespace) -> int:
    """``info FILE``."""
    facts = describe(read_stream(args.input, Limits()))
    if args.json:
        result_json(facts.as_dict())
        return 0
    for _, name, value, meaning in facts.fields:
        result(f"{name:14s} {value!s:34s} {meaning}")
    for name in ("total", "header", "z", "y", "metadata", "checksum"):
        result(f"{name + ' bytes':14s} {getattr(facts, name + '_bytes')}")
    result(f"bits per pixel {facts.bits_per_pixel:.4f}")
    for tag, size in facts.chunks:
        result(f"chunk {tag!r:8s} {size} bytes")
    return 0


def _samples(path: str, args: Namespace) -> np.ndarray:
    """Of a picture or a stream, which is opened once: a pipe gives its bytes once."""
    limits = limits_of(args)
    with opened(path) as file:
        with translated(path):
            file = seekable(file, limits, path)
            coded = file.read(len(MAGIC)) == MAGIC
            file.seek(0)
        if coded:
            return _decoded(stream_from(file, limits, path), args)[0]
        return picture_from(file, limits, path).samples


def compare(args: Namespace) -> int:
    """``compare A B``."""
    if args.heatmap:
        check_target(args.heatmap, args.force, args.a, args.b)
        if args.heatmap == "-":
            raise UsageError(
                "the result and the heatmap would both be written to standard output",
                where="--heatmap",
                cause="name a file for the heatmap",
            )
        check_format(args.heatmap)
    a, b = _samples(args.a, args), _samples(args.b, args)
    found = compare_samples(a, b)
    if args.heatmap:
        write_picture(args.heatmap, Picture(heatmap(a, b)), args.force)
    failed = args.exact and not found.bit_exact
    if args.json and not failed:
        result_json(found.as_dict())
    elif not args.json:
        for name, value in found.as_dict().items():
            result(f"{name:18s} {value}")
    if failed:
        values = found.as_dict() if args.json else {}  # one object holds the result and the failure
        raise CheckFailed("the pictures differ", where=f"{args.a}, {args.b}", **values)
    return 0


def verify(args: Namespace) -> int:
    """``verify FILE``."""
    data = read_stream(args.input, limits_of(args))
    prepare(args.threads, note)
    samples, stream = _decoded(data, args, verify=True)
    assert stream.header.digest is not None  # verify=True refuses a stream without one
    if args.json:
        result_json(
            {
                "verified": True,
                "digest": stream.header.digest.hex(),
                "sha256": hashlib.sha256(samples.tobytes()).hexdigest(),
            }
        )
    else:
        result(f"{args.input}: this machine reproduces the encoder's pixels, digest {stream.header.digest.hex()}")
    return 0


def trace(args: Namespace) -> int:
    """``trace FILE OUT.jsonl``."""
    _check_output(args)
    data = read_stream(args.input, limits_of(args))
    prepare(args.threads, note)
    folder = Path(args.values) if args.values else None

    def save(stage: Stage, values: np.ndarray) -> None:
        assert folder is not None
        write_bytes(folder / stage.file_name, npy_bytes(values), args.force)

    if folder is not None and not folder.is_dir():
        _make_folder(folder)
    recorder = Recorder(args.stage, save if folder else None)
    samples, _ = decode_stream(data, model=args.model, threads=args.threads, limits=limits_of(args), trace=recorder)
    recorder("samples", samples)
    if not recorder.stages:
        raise UsageError("no stage has this name", where="--stage", name=args.stage, known=list(recorder.names)[:12])
    write_bytes(args.out, "".join(stage.line() + "\n" for stage in recorder.stages).encode(), args.force)
    if args.json:
        result_json({"stages": len(recorder.stages), "sha256": recorder.stages[-1].sha256})
    return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as e:
        raise OutputError("the folder cannot be created", where=str(folder), detail=str(e.strerror)) from None
