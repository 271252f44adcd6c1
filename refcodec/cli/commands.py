"""The commands on pictures and streams; `refcodec.cli` holds the arguments and exit codes of all commands.

Every function takes the parsed arguments, writes results to standard output and returns an exit code; whatever goes
wrong is a RefcodecError. Outputs are checked before the work starts and renamed into place when it is done. What one
command alone needs is imported when it runs: a process that decodes has a second for everything.
"""

from __future__ import annotations

import hashlib
import time
from argparse import Namespace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..arith.backend import prepare
from ..bitstream.container import ALPHA, Stream, parse, parse_header
from ..bitstream.fields import MAGIC, VERSION
from ..bitstream.info import describe
from ..codec import decode_reduced, decode_stream, metadata_chunks
from ..errors import CheckFailed, OutputError, RefcodecError, UsageError
from ..io.console import note, progress, result, result_json
from ..io.files import (
    PICTURE_SUFFIXES,
    check_target,
    mapped_stream,
    opened,
    read_stream,
    stream_from,
    write_bytes,
)
from ..io.options import limits_of
from ..io.pictures import (
    STRIPS_FROM,
    Picture,
    check_format,
    in_rows,
    picture_from,
    seekable,
    translated,
    write_picture,
)
from ..limits import Limits
from ..measure.metrics import compare as compare_samples
from ..measure.metrics import heatmap
from ..model.integer_model import Model
from ..model.registry import load_model
from ..stored import may_gain, storable
from ..tiles import check_region
from ..trace import Recorder, Stage, npy_bytes
from .rate_search import best_fit
from .strips import Original, Trial, decode_to_rows, decoded_shape, opened_original, sha256_of

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


def _stripped(picture: Picture | None, strip: str | None) -> dict[str, bytes | None]:
    words = set((strip or "").split(",")) - {""}
    if unknown := sorted(words - {*METADATA, "all"}):
        raise UsageError("not metadata", where="--strip", words=unknown, known=[*METADATA, "all"])
    if picture is None:
        return dict.fromkeys(METADATA)
    kept = {"exif": picture.exif, "icc": picture.icc_profile, "xmp": picture.xmp}
    return {name: None if name in words or "all" in words else data for name, data in kept.items()}


def _coded(args: Namespace, original: Original, model: Model | None) -> tuple[int, Trial]:
    """Code a picture: the quality step that was asked for, 0 for none, and the stream."""
    kept = _stripped(original.picture, args.strip)
    options: dict[str, Any] = {
        "tile": args.tile,
        "exact": args.exact,
        "lossless": args.lossless,
        "rectangles": args.rectangles == "auto",
        "model": model,
        "threads": args.threads,
        "chunks": metadata_chunks(kept["exif"], kept["icc"], kept["xmp"]),
        "limits": limits_of(args),
    }
    trials = 0

    def encode(quality: int) -> Trial:
        nonlocal trials
        trials += 1
        with progress(f"encoding at quality {quality}" + (f", trial {trials}" if searched else "")) as share:
            return original.encode(quality, progress=share, **options)

    searched = args.bpp is not None or args.size is not None
    if model is None:
        with progress("encoding") as share:
            return 0, original.encode(progress=share, **options)
    steps = model.config.steps
    if not searched:
        quality = args.quality if args.quality is not None else min(DEFAULT_QUALITY, steps)
        return quality, encode(quality)
    pixels = original.source.height * original.source.width
    budget = args.size if args.size is not None else int(args.bpp * pixels / 8)
    if options["rectangles"] and may_gain(storable(original.source)):
        with progress("encoding without loss") as share:
            exact = original.encode(progress=share, **{**options, "lossless": True})
        if len(exact.data) <= budget:
            note(f"the whole picture fits without loss: {len(exact.data)} of {budget} bytes")
            return 0, exact
    quality, trial = best_fit(encode, steps, budget)
    if trial is None and options["rectangles"]:
        options["rectangles"] = False  # text blurs, where it costs more bytes than there are
        quality, trial = best_fit(encode, steps, budget)
    if trial is None:
        smallest = len(encode(quality).data)
        raise UsageError(
            "no quality fits",
            budget=budget,
            smallest=smallest,
            quality=quality,
            cause="allow more bytes or a higher rate, or scale the picture down",
        )
    note(f"quality {quality} is the highest that fits: {len(trial.data)} of {budget} bytes")
    return quality, trial


def encode_file(args: Namespace) -> dict[str, Any]:
    """Encode as ``encode IN OUT`` does; what ``--json`` says."""
    _check_output(args)
    if (suffix := Path(args.out).suffix.lower()) in PICTURE_SUFFIXES:
        raise UsageError(
            "the output is a stream, its name is that of a picture",
            where=str(args.out),
            suffix=suffix,
            cause="name it .loclic; decode writes pictures",
        )
    if args.lossless and (args.model is not None or args.tile is not None or args.rectangles != "auto"):
        raise UsageError("--lossless takes no model, tiles or rectangles", where="--lossless")
    with opened_original(args.input, limits_of(args), args.depth) as original:
        for text in original.picture.notes if original.picture else ():
            note(f"{args.input}: {text}")
        model = None if args.lossless else load_model(args.model)
        if model is not None:
            prepare(args.threads, note)
        start = time.perf_counter()
        quality, trial = _coded(args, original, model)
        seconds = time.perf_counter() - start
        write_bytes(args.out, trial.data, args.force)
    (source, _), (coded, fidelity) = original, trial
    size = len(coded.data)
    return {
        "width": source.width,
        "height": source.height,
        "channels": source.channels - (source.channels in (2, 4)),
        "alpha": source.channels in (2, 4),
        "lossless": coded.model is None,
        "rectangles": len(coded.stored),
        "quality": quality,
        "bytes": size,
        "bits_per_pixel": 8 * size / (source.width * source.height),
        "z_bytes": coded.z_bytes,
        "y_bytes": coded.y_bytes,
        "model": coded.model.name if coded.model else None,
        "fingerprint": coded.model.fingerprint.hex() if coded.model else None,
        "reconstruction_sha256": fidelity.sha256,
        "psnr": _finite(fidelity.psnr),
        "seconds": seconds,
    }


def encode(args: Namespace) -> int:
    """``encode IN OUT``."""
    facts = encode_file(args)
    if args.json:
        result_json(facts)
    elif str(args.out) != "-":
        how = "without loss" if facts["lossless"] else f"at quality {facts['quality']}"
        psnr = "" if facts["psnr"] is None else f"{facts['psnr']:.2f} dB, "
        note(
            f"{facts['width']}x{facts['height']} {how}: {facts['bytes']} bytes, {facts['bits_per_pixel']:.4f} bits "
            f"per pixel, {psnr}{facts['seconds']:.2f} s"
        )
    _advise(args.input, facts["bytes"], facts["lossless"])
    return 0


def _advise(source: str, size: int, lossless: bool) -> None:
    """Say what a user may not expect: a stream larger than its source, and the format's state."""
    file = Path(source)
    if source != "-" and file.is_file() and size > (before := file.stat().st_size):
        note(
            f"the stream is larger than the source of {before} bytes"
            + (
                ""
                if lossless
                else ": the codec is made for photographs; for text, graphics and flat colours try --lossless"
            )
        )
    note(f"format version {VERSION} is not frozen, a later refcodec may not decode this stream: keep the source")


def decode_file(args: Namespace) -> dict[str, Any]:
    """Decode as ``decode IN OUT`` does; what ``--json`` says."""
    _check_output(args)
    check_format(args.out)
    read = read_stream if args.region is None else mapped_stream  # of a region's stream not all need be read
    data = read(args.input, limits_of(args))
    header, chunks = parse_header(data), _chunks_of(data)
    check_format(args.out, ALPHA in chunks)
    region = None if args.region is None else check_region(args.region, header.width, header.height)
    if not header.lossless:
        prepare(args.threads, note)
    shape = decoded_shape(header, region, ALPHA in chunks)
    if reduced := args.reduce > 1:
        shape = (-(-shape[0] // args.reduce), -(-shape[1] // args.reduce), *shape[2:])
    exif, icc_profile, xmp = (chunks.get(tag) for tag in ("exif", "iccp", "xmp "))
    start = time.perf_counter()
    if prod(shape) > STRIPS_FROM and in_rows(args.out) and not reduced:
        metadata = {"exif": exif, "icc_profile": icc_profile, "xmp": xmp}
        options = {**_ways(args), "verify": args.verify, "region": region}
        with progress("decoding") as share:
            sha256, stream, notes = decode_to_rows(args, data, shape, metadata, **options, progress=share)
        seconds = time.perf_counter() - start
    else:
        samples, stream = _decoded(data, args, verify=args.verify, region=region, reduce=args.reduce)
        seconds = time.perf_counter() - start
        sha256 = hashlib.sha256(samples.data).hexdigest()
        notes = write_picture(args.out, Picture(samples, exif, icc_profile, xmp), args.force)
    for text in notes:
        note(f"{args.out}: {text}")
    return {
        "width": shape[1],
        "height": shape[0],
        "channels": header.channels,
        "alpha": ALPHA in chunks,
        "quality": stream.header.quality,
        "fingerprint": stream.header.fingerprint.hex(),
        "sha256": sha256,
        "verified": bool(args.verify),
        "seconds": seconds,
    }


def decode(args: Namespace) -> int:
    """``decode IN OUT``."""
    facts = decode_file(args)
    if args.json:
        result_json(facts)
    return 0


def _chunks_of(data: bytes | memoryview) -> dict[str, bytes]:
    """Chunks of a stream, before it is decoded; none if it is damaged, for which decoding has the error."""
    try:
        return dict(parse(data, ()).chunks)
    except RefcodecError:
        return {}


def _ways(args: Namespace) -> dict[str, Any]:
    """How a command decodes."""
    return {"model": args.model, "threads": args.threads, "limits": limits_of(args)}


def _decoded(data: bytes | memoryview, args: Namespace, **options: Any) -> tuple[np.ndarray, Stream]:
    with progress("decoding") as share:
        if (step := options.pop("reduce", 1)) > 1:
            return decode_reduced(data, step, **_ways(args), progress=share, **options)
        return decode_stream(data, **_ways(args), progress=share, **options)


def info(args: Namespace) -> int:
    """``info FILE``."""
    data = read_stream(args.input, Limits())
    facts = describe(data)
    if args.html:
        from .looking import info_page

        info_page(args, data)
    if args.json:
        result_json(facts.as_dict())
        return 0
    for _, name, value, meaning in facts.fields:
        result(f"{name:14s} {value!s:34s} {meaning}")
    for name in ("alpha", "lossless"):
        result(f"{name:14s} {'yes' if getattr(facts, name) else 'no'}")
    for name in ("tiles", "rectangles"):
        result(f"{name:14s} {getattr(facts, name)}")
    for name in ("total", "header", "index", "z", "y", "chunk", "checksum"):
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
    if args.html:
        check_target(args.html, args.force, args.a, args.b)
    a, b = _samples(args.a, args), _samples(args.b, args)
    found = compare_samples(a, b)
    if args.html:
        from ..measure.page import comparison_page

        write_bytes(args.html, comparison_page(a, b, (args.a, args.b), found.as_dict()), args.force)
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
    if not parse_header(data).lossless:
        prepare(args.threads, note)
    with progress("decoding") as share:
        sha256, stream = sha256_of(data, **_ways(args), verify=True, progress=share)
    assert stream.header.digest is not None  # verify=True refuses a stream without one
    if args.json:
        result_json(
            {
                "verified": True,
                "digest": stream.header.digest.hex(),
                "sha256": sha256,
            }
        )
    else:
        result(f"{args.input}: this machine reproduces the encoder's pixels, digest {stream.header.digest.hex()}")
    return 0


def trace(args: Namespace) -> int:
    """``trace FILE OUT.jsonl``."""
    _check_output(args)
    data = read_stream(args.input, limits_of(args))
    if not parse_header(data).lossless:
        prepare(args.threads, note)
    folder = Path(args.values) if args.values else None

    def save(stage: Stage, values: np.ndarray) -> None:
        assert folder is not None
        write_bytes(folder / stage.file_name, npy_bytes(values), args.force)

    if folder is not None and not folder.is_dir():
        _make_folder(folder)
    recorder = Recorder(args.stage, save if folder else None)
    samples, _ = decode_stream(data, **_ways(args), trace=recorder)
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
