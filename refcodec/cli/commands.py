"""The commands on pictures and streams; `refcodec.cli` holds the arguments and exit codes of all commands.

Every function takes the parsed arguments, writes results to standard output and returns an exit code; any
failure is a RefcodecError. Outputs are checked before the work starts and renamed into place when it is done. What one
command alone needs is imported when it runs: a process that decodes has a second for everything.
"""

from __future__ import annotations

import hashlib
import os
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import picture_files
from ..arith.backend import prepare
from ..bitstream.container import parse_header
from ..bitstream.fields import MAGIC
from ..bitstream.info import describe, metadata
from ..codec import Elsewhere, decode_stream, decode_strips
from ..errors import CheckFailed, OutputError, UsageError
from ..io.console import activity, note, progress, result, result_json
from ..io.files import check_target, opened, read_stream, stream_from, write_bytes
from ..io.options import limits_of
from ..io.picture_output import check_format, write_picture
from ..io.pictures import picture_from, seekable, translated
from ..io.properties import Picture
from ..limits import Limits
from ..measure.metrics import compare as compare_samples
from ..measure.metrics import heatmap
from ..model.registry import RELEASED
from ..trace import Recorder, Stage, npy_bytes
from .encode_options import DECODING, ENCODING, shared_options

SUFFIXES = {"exif": ".exif", "icc_profile": ".icc", "xmp": ".xmp"}
"""Of files of metadata, by kind."""


def _check_output(args: Namespace) -> None:
    """Refuse an output that cannot be written, or that would be mixed with other output."""
    check_target(args.out, args.force, args.input)
    if args.json and str(args.out) == "-":
        raise UsageError(
            "--json and the output - would both write to standard output",
            where="--json",
            cause="name a file for the output",
        )


def encode_file(args: Namespace) -> dict[str, Any]:
    """Encode as ``encode IN OUT`` does; what ``--json`` says."""
    _check_output(args)
    options = {**shared_options(args, ENCODING), "rectangles": args.rectangles == "auto"}
    with activity() as show:
        done = picture_files.encode_file(args.input, args.out, **options, progress=show, tell=note)
    return _facts(done)


def _facts(done: picture_files.EncodedFile | picture_files.DecodedFile) -> dict[str, Any]:
    """For ``--json``; notes are on standard error."""
    return {name: value for name, value in asdict(done).items() if name != "notes"}


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
    _advise(args.input, facts["bytes"], facts["fingerprint"])
    return 0


def _advise(source: str, size: int, fingerprint: str | None) -> None:
    """Say what a user may not expect: a stream larger than its source, or one that needs a model of the user's own.

    ``fingerprint`` is that of the model, None for a lossless stream.
    """
    file = Path(source)
    if source != "-" and file.is_file() and size > (before := file.stat().st_size):
        hint = ": the codec is made for photographs; for text, graphics and flat colours try --lossless"
        note(f"the stream is larger than the source of {before} bytes{hint if fingerprint else ''}")
    if fingerprint and all(fingerprint != released.fingerprint for released in RELEASED):
        note("decoding needs this model, which is not a released one: keep its file")


def decode_file(args: Namespace, colours: Elsewhere | None = None) -> dict[str, Any]:
    """Decode as ``decode IN OUT`` does, here or elsewhere; what ``--json`` says."""
    _check_output(args)
    options = {**shared_options(args, DECODING), "region": args.region, "format": args.format, "colours": colours}
    with activity() as show:
        done = picture_files.decode_file(args.input, args.out, **options, progress=show, tell=note)
    return _facts(done)


def decode(args: Namespace) -> int:
    """``decode IN OUT``."""
    facts = decode_file(args)
    if args.json:
        result_json(facts)
    return 0


def _ways(args: Namespace) -> dict[str, Any]:
    """How a command decodes."""
    return {"model": args.model, "threads": args.threads, "limits": limits_of(args)}


def _decoded(data: bytes | memoryview, args: Namespace) -> np.ndarray:
    with progress("decoding") as share:
        return decode_stream(data, **_ways(args), progress=share)[0]


def _extract(args: Namespace, data: bytes) -> dict[str, str]:
    """Write the metadata of a stream to files; their names by kind."""
    name = "stream" if args.input == "-" else Path(args.input).stem
    found = {kind: payload for kind, payload in zip(SUFFIXES, metadata(data), strict=True) if payload}
    files = {kind: os.path.join(args.extract, name + SUFFIXES[kind]) for kind in found}
    if not files:
        note(f"{args.input}: nothing to extract: the stream has no metadata")
    elif not os.path.isdir(args.extract):
        _make_folder(Path(args.extract))
    for file in files.values():
        check_target(file, args.force, args.input)
    for kind, payload in found.items():
        write_bytes(files[kind], payload, args.force)
    return files


def info(args: Namespace) -> int:
    """``info FILE``."""
    data = read_stream(args.input, Limits())
    facts = describe(data)
    files = _extract(args, data) if args.extract else {}
    if args.html:
        from .looking import info_page

        info_page(args, data)
    if args.json:
        result_json({**facts.as_dict(), "extracted": files})
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
    for kind, file in files.items():
        result(f"{kind + ' written':14s} {file}")
    return 0


def mime(args: Namespace) -> int:
    """``mime``: how other programs know a stream."""
    name = f"loclic.{args.kind or 'xml'}"
    for line in (Path(__file__).parents[1] / "data" / name).read_text(encoding="utf-8").splitlines():
        result(line)
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
            return _decoded(stream_from(file, limits, path), args)
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
        found = hashlib.sha256()

        def place(_: int, rows: np.ndarray) -> None:
            found.update(np.ascontiguousarray(rows).data)

        stream = decode_strips(data, place, **_ways(args), verify=True, progress=share)
    assert stream.header.digest is not None  # verify=True refuses a stream without one
    if args.json:
        result_json(
            {
                "verified": True,
                "digest": stream.header.digest.hex(),
                "sha256": found.hexdigest(),
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
