"""The command ``bench``: its arguments and what it runs.

Procedural (untrained) models are as fast as trained models of the same configuration, except in entropy coding, where
they produce more bits.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..arith.backend import default_backend, prepare
from ..codec import encode_picture
from ..errors import UsageError
from ..io.console import note, result, result_json
from ..io.files import write_bytes
from ..io.options import add_json, add_limits, limits_of
from ..io.picture_output import write_picture
from ..io.properties import Picture
from ..io.sizes import check_size
from ..limits import MAX_SIDE
from ..machine import machine, version
from ..memory import memory_estimate
from ..model.config import PROFILES
from ..threads import thread_count
from .measure import measure
from .memory import LONG, shapes
from .memory import line as estimate_line
from .memory import table as estimate_table
from .processes import Twin, peak_memory, start_times
from .stopwatch import STAGES
from .subjects import Subject, fitted, picture, subject
from .table import lines

DEFAULT_MODELS = ("default", "paper")
SIZES = ((256, 256), (768, 512), (1920, 1080), (3840, 2160))
FEW_SIZES = 2
"""Sizes measured unless all are asked for."""


def _sizes(text: str) -> list[tuple[int, int]]:
    found = []
    for word in text.split(","):
        width, by, height = word.partition("x")
        if not (by and width.isdecimal() and height.isdecimal() and len(word) < 20 and int(width) and int(height)):
            raise ValueError
        found.append((int(width), int(height)))
    return found


def _counts(text: str) -> list[int]:
    return [_count(word) for word in text.split(",")]


def _long(text: str) -> int:
    if not 256 <= int(text) <= MAX_SIDE:
        raise ValueError
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10000:
        raise ValueError
    return int(text)


_sizes.__name__, _counts.__name__, _count.__name__ = "list of sizes", "list of thread counts", "positive number"
_long.__name__ = f"side of 256..{MAX_SIDE}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``bench``."""
    few = ",".join(f"{w}x{h}" for w, h in SIZES[:FEW_SIZES])
    parser.add_argument(
        "--model",
        action="append",
        metavar="M",
        help="default, a profile of procedural models "
        f"({', '.join(name for name in PROFILES if name != 'default')}), or a model by name or path; "
        f"may be repeated; without it {' and '.join(DEFAULT_MODELS)}",
    )
    parser.add_argument(
        "--sizes", type=_sizes, metavar="WxH,...", help=f"sizes of pictures, default {few}, or the size of --picture"
    )
    parser.add_argument("--threads", type=_counts, metavar="N,...", help="default 1 and all cores")
    parser.add_argument("--quality", type=_count, default=60, metavar="Q", help="quality, default 60")
    parser.add_argument("--repeats", type=_count, default=5, metavar="N", help="runs of which medians are taken")
    parser.add_argument("--picture", metavar="FILE", help="picture to code, cropped or tiled to the sizes")
    parser.add_argument("--ops", action="store_true", help="every operation as well")
    parser.add_argument("--memory", action="store_true", help="peak memory of a fresh process that decodes")
    parser.add_argument(
        "--estimates",
        action="store_true",
        help="instead of all else: estimated against measured "
        "memory of pictures of all shapes, both backends, both directions",
    )
    parser.add_argument(
        "--long",
        type=_long,
        default=LONG,
        metavar="N",
        help=f"long side of the narrowest of those pictures, default {LONG}",
    )
    parser.add_argument(
        "--start", action="store_true", help="time of a fresh process that decodes, with and without compiled kernels"
    )
    parser.add_argument("--full", action="store_true", help="all sizes, memory and start")
    parser.add_argument("--twin", action="store_true", help="in alternation with the float network in PyTorch")
    parser.add_argument("--checkpoint", metavar="C", help="weights of the twin; random ones without it")
    add_json(parser)
    add_limits(parser)


def run(args: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure what the arguments name; ``report`` is given the head and every result as soon as it is there.

    Raises
    ------
    UsageError
        Quality or threads are out of range, or a checkpoint comes without the one model it is for.
    RefcodecError
        Any other error.
    """
    if args.quality > 100:
        raise UsageError("quality is not a step", where="--quality", value=args.quality, allowed="1..100")
    if args.checkpoint and (not args.twin or len(args.model or ()) > 1):
        raise UsageError("a checkpoint is for --twin and one model", where="--checkpoint")
    names = args.model or (DEFAULT_MODELS[:1] if args.checkpoint else DEFAULT_MODELS)
    threads = list(dict.fromkeys(map(thread_count, args.threads or [1, None])))
    limits = limits_of(args)
    source = picture(args.picture, limits)
    sizes = args.sizes or ([source.shape[1::-1]] if args.picture else SIZES if args.full else SIZES[:FEW_SIZES])
    pictures = {(width, height): fitted(source, width, height, limits) for width, height in sizes}
    subjects = [subject(name) for name in names]
    prepare(max(threads), note)
    head = {"machine": _facts(), "repeats": args.repeats}
    report(head)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="refcodec-") as name:
        for each in subjects:
            for size, samples in pictures.items():
                for count in threads:
                    place = f"{len(results) + 1} of {len(subjects) * len(pictures) * len(threads)}"
                    results.append(_result(args, each, samples, count, Path(name), place))
                    if count == threads[-1]:
                        results[-1].update(_processes(args, each, samples, count, Path(name), size == sizes[0]))
                    report(results[-1])
    return {**head, "results": results}


def _result(
    args: argparse.Namespace, each: Subject, samples: np.ndarray, threads: int, folder: Path, place: str
) -> dict[str, Any]:
    quality = min(args.quality, each.model.config.steps)
    size = f"{samples.shape[1]}x{samples.shape[0]}"
    note(f"bench: {each.name}, {size}, threads {threads}: {place}")
    with ExitStack() as stack:
        twin = None
        if args.twin:
            write_picture(folder / "twin.png", Picture(samples), force=True)
            twin = stack.enter_context(Twin(each.model.config, args.checkpoint, folder / "twin.png", quality, threads))
        found = measure(each.model, samples, quality, threads, args.repeats, twin, limits_of(args))
    if not args.ops:
        for direction in STAGES:
            del found[direction]["operations"]
    return {"model": each.name, "fingerprint": each.model.fingerprint.hex(), **found}


def _processes(
    args: argparse.Namespace, each: Subject, samples: np.ndarray, threads: int, folder: Path, first: bool
) -> dict[str, Any]:
    """Memory, and start for the first size."""
    memory, start = args.memory or args.full, (args.start or args.full) and first
    if not memory and not start:
        return {}
    note(f"bench: processes that decode {samples.shape[1]}x{samples.shape[0]}")
    quality = min(args.quality, each.model.config.steps)
    stream, found = folder / "stream.loclic", dict[str, Any]()
    data = encode_picture(samples, quality, model=each.model, rectangles=False, limits=limits_of(args)).data
    write_bytes(stream, data, force=True)
    command = [
        "decode",
        str(stream),
        str(folder / "out.png"),
        "--force",
        "--model",
        str(each.file(folder)),
        "--threads",
        str(threads),
        "--max-pixels",
        str(1 << 31),
    ]
    if memory:
        found["memory"] = {
            "peak_bytes": peak_memory(command),
            "estimate_bytes": memory_estimate(samples.shape[1], samples.shape[0], each.model),
        }
    if start:
        found["start_seconds"] = start_times(command, args.repeats, default_backend())
    return found


def estimates(args: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure what ``--estimates`` asks for; ``report`` is given every row as soon as it is there."""
    sizes = args.sizes or shapes(args.long)
    for width, height in sizes:
        check_size(width, height, limits_of(args), "--sizes")
    with tempfile.TemporaryDirectory(prefix="refcodec-") as folder:
        models = [(name, subject(name).file(Path(folder))) for name in args.model or DEFAULT_MODELS]
        return {
            "machine": _facts(),
            "rows": estimate_table(models, sizes, thread_count((args.threads or [None])[-1]), report),
        }


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    RefcodecError
        Any error of the run.
    """

    def report(part: dict[str, Any]) -> None:
        if not args.json:
            for line in [estimate_line(part)] if args.estimates else lines(part):
                result(line)

    found = estimates(args, report) if args.estimates else run(args, report)
    if args.json:
        result_json(found)
    return 0


def _facts() -> dict[str, Any]:
    """The computing environment."""
    versions = {"numpy": np.__version__, "numba": version("numba"), "refcodec": __version__}
    return {**machine(), **versions, "backend": default_backend()}
