"""``python -m refcodec bench``: what encoding and decoding take, stage by stage, on a named machine.

Whole runs are timed alone, for the times that count, in alternation with watched runs (bench/stopwatch.py), which
tell the stages, and with bare int16 dot products (refcodec/arith/jit/peak.py), whose fastest run is the roof that
convolutions stay under. Times are medians. Multiply-accumulates are those of the layer table (SPEC 6.1), beside those
that were computed: many layers are needed at one half of the checkerboard only. Models that were not trained for this,
the procedural ones, are as fast as trained ones of the same configuration but for their coder, which has more bits.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..arith.backend import default_backend, prepare
from ..codec import decode_stream, encode_picture
from ..errors import MissingInput, UsageError
from ..io.console import note, result, result_json
from ..io.files import write_bytes
from ..io.options import add_limits, limits_of
from ..io.pictures import Picture, read_picture, write_picture
from ..io.sizes import check_size
from ..limits import MAX_SIDE, Limits
from ..memory import memory_estimate
from ..model.config import PROFILES, Op
from ..model.integer_model import Model
from ..model.procedural import procedural_model, write_procedural
from ..model.registry import load_model, model_path
from ..threads import thread_count
from .memory import LONG, shapes
from .memory import line as estimate_line
from .memory import table as estimate_table
from .processes import Twin, peak_memory, start_times
from .stopwatch import CONVOLUTION, KINDS, STAGES, Clock, Key, recording_cost, watch
from .table import lines

SEED = 1
"""Of procedural models."""

DEFAULT_MODELS = ("default", "paper")
SIZES = ((256, 256), (768, 512), (1920, 1080), (3840, 2160))
FEW_SIZES = 2
"""Sizes measured unless all are asked for."""

COSTLY = 0.02
"""Share of the time from which a convolution's shape is held against PyTorch's."""

FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
"""Vector extensions worth a mention, as Linux spells them."""


# -------------------------------------------------------------------------------------------------- what is measured


@dataclass(frozen=True)
class Subject:
    """A model to measure; ``path`` is None for one that exists in memory only."""

    name: str
    model: Model
    path: Path | None

    def file(self, folder: Path) -> Path:
        """Its file, written into the folder if there is none."""
        if self.path is not None:
            return self.path
        target = folder / f"{self.name}.h5"
        if not target.exists():
            write_procedural(self.name, SEED, target)
        return target


def subject(name: str) -> Subject:
    """The default model, the procedural one of a profile, or a model by path or installed name.

    Raises
    ------
    ModelError
        There is no such model.
    """
    if name in PROFILES and name != "default":
        return Subject(name, procedural_model(name, SEED), None)
    wanted = None if name == "default" else name
    return Subject(name, load_model(wanted), model_path(wanted))


def picture(path: str | None, limits: Limits = Limits()) -> np.ndarray:
    """Samples [H, W, 3] or [H, W] of a picture, of the project's own without a path.

    Raises
    ------
    MissingInput, InvalidImage, Unsupported, LimitExceeded
    """
    if path is None:
        own = Path(__file__).parents[2] / "conformance" / "data" / "pictures" / "scene_large.png"
        if not own.is_file():
            raise MissingInput(
                "the project's own pictures are not installed", where=str(own), cause="name a picture with --picture"
            )
        path = str(own)
    return read_picture(path, limits, alpha=False).samples


def fitted(samples: np.ndarray, width: int, height: int, limits: Limits = Limits()) -> np.ndarray:
    """The middle of a picture, or the picture and its mirror images side by side, at another size."""

    def places(size: int, have: int) -> np.ndarray:
        place = (np.arange(size) + max(0, have - size) // 2) % (2 * have)
        return np.minimum(place, 2 * have - 1 - place)

    check_size(width, height, limits, "--sizes")
    rows, columns = places(height, samples.shape[0]), places(width, samples.shape[1])
    return np.ascontiguousarray(samples[rows[:, None], columns])


def processor() -> tuple[str, tuple[str, ...]]:
    """The processor's name and the vector extensions that matter, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), ()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = (facts.get("flags") or facts.get("Features", "")).split()
    return facts.get("model name") or platform.machine(), tuple(flag for flag in FLAGS if flag in flags)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """What computes."""
    name, flags = processor()
    return {
        "processor": name,
        "vectors": list(flags),
        "cores": thread_count(None),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": _version("numba"),
        "refcodec": __version__,
        "backend": default_backend(),
    }


# ---------------------------------------------------------------------------------------------------------- measuring


def _row(seconds: float, total: float, network: float, computed: float, roof: float | None) -> dict[str, Any]:
    """Time, its share, multiply-accumulates, and their rate beside the roof's."""
    rate = computed / seconds if computed and seconds > 0 else None
    return {
        "seconds": seconds,
        "share": seconds / total if total else 0.0,
        "macs": round(network),
        "computed_macs": round(computed),
        "gmac_per_second": rate and rate / 1e9,
        "of_roof": rate / roof if rate and roof else None,
    }


def _medians(runs: Sequence[Mapping[Key, float]], group: Callable[[Key], Any]) -> dict[Any, float]:
    """Median over runs of the seconds of every group of operations."""
    sums: list[dict[Any, float]] = []
    for run in runs:
        sums.append({})
        for key, seconds in run.items():
            sums[-1][group(key)] = sums[-1].get(group(key), 0.0) + seconds
    return {name: statistics.median(each.get(name, 0.0) for each in sums) for name in sums[0]}


def breakdown(
    direction: str,
    ops: Mapping[str, Op],
    samples: int,
    watched: Sequence[tuple[Clock, Mapping[Key, float]]],
    roof: float | None,
) -> dict[str, Any]:
    """Stages, kinds and operations of watched runs.

    Parameters
    ----------
    direction : "encode" or "decode"
    ops : mapping of str to Op
        The layer table.
    samples : int
        Positions of the padded picture.
    watched : sequence of (Clock, seconds by operation)
        What ``watch`` gave.
    roof : float or None
        Multiply-accumulates a second at most.

    Returns
    -------
    dict
        ``stages``, ``kinds`` and ``operations``, lists of rows whose shares sum to one.
    """
    runs, clock = [run for _, run in watched], watched[0][0]
    network: dict[Key, float] = {}
    computed: dict[Key, float] = {}
    for key in runs[0]:
        op = ops.get(key[1])
        if op is not None and key[2] == CONVOLUTION:
            network[key] = op.macs * samples
            computed[key] = network[key] * clock.computed[op.name] / (op.channels * op.positions * samples)

    def rows(name: str, group: Callable[[Key], Any], order: Sequence[Any] = ()) -> list[dict[str, Any]]:
        medians = _medians(runs, group)
        total = sum(medians.values())
        macs = [
            {at: sum(n for key, n in counts.items() if group(key) == at) for at in medians}
            for counts in (network, computed)
        ]
        return [
            {name: at, **_row(medians.get(at, 0.0), total, macs[0].get(at, 0), macs[1].get(at, 0), roof)}
            for at in dict.fromkeys([*order, *medians])
        ]

    operations = rows("operation", lambda key: key)
    for row in operations:
        row["stage"], row["operation"], row["kind"] = row["operation"]
    return {
        "stages": rows("stage", lambda key: key[0], STAGES[direction]),
        "kinds": rows("kind", lambda key: key[2], KINDS),
        "operations": operations,
    }


def conv_shape(op: Op, height: int, width: int) -> tuple[int, ...]:
    """Inputs, outputs, kernel, stride, groups, and height and width of the input, for a padded picture."""
    step = isqrt(round(1 / op.positions))
    groups = op.channels if op.depthwise else 1
    inputs = op.channels if op.depthwise else op.in_channels
    return (inputs, op.channels, op.kernel, op.stride, groups, height // step * op.stride, width // step * op.stride)


def against_conv2d(
    operations: Sequence[Mapping[str, Any]], ops: Mapping[str, Op], height: int, width: int, twin: Twin, repeats: int
) -> list[dict[str, Any]]:
    """Rates of every costly shape of convolution here and in PyTorch.

    PyTorch computes all positions, without GELU, residual sum and clamp. The rate here counts what was computed.
    """
    shapes: dict[tuple[int, ...], list[Mapping[str, Any]]] = {}
    for row in operations:
        if row["kind"] == CONVOLUTION and row["operation"] in ops:
            shapes.setdefault(conv_shape(ops[row["operation"]], height, width), []).append(row)
    found = []
    for shape, rows in shapes.items():
        share, seconds = (sum(row[name] for row in rows) for name in ("share", "seconds"))
        if share > COSTLY:
            op = ops[rows[0]["operation"]]
            ours = sum(row["computed_macs"] for row in rows) / seconds
            theirs = op.macs * height * width / twin.convolution(shape, repeats)
            found.append(
                {
                    "shape": list(shape),
                    "layers": len(rows),
                    "share": share,
                    "gmac_per_second": ours / 1e9,
                    "pytorch_gmac_per_second": theirs / 1e9,
                    "speed_ratio": ours / theirs,
                }
            )
    return sorted(found, key=lambda row: -row["share"])


def _roof(threads: int) -> tuple[float, float] | None:
    """Multiply-accumulates a second at most and the cores' share for this process; None where nothing is compiled."""
    if default_backend() != "numba":
        return None
    from ..arith.jit.peak import roof

    return roof(threads)


def measure(
    model: Model,
    samples: np.ndarray,
    quality: int,
    threads: int,
    repeats: int,
    twin: Twin | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Time encoding and decoding of one picture, plain, watched and beside the twin in turn.

    Parameters
    ----------
    samples : np.ndarray [H, W, 3] or [H, W], uint8
    twin : Twin or None
        Of the same configuration, picture, quality and threads.

    Returns
    -------
    dict
        Seconds, throughput, ``breakdown`` and comparison of each direction; everything is plain numbers and text.
    """
    height, width = samples.shape[:2]
    rows, columns = (-(-n // 64) * 64 for n in (height, width))
    ways: dict[str, Any] = {"model": model, "threads": threads, "limits": limits}
    data = encode_picture(samples, quality, **ways).data
    work: dict[str, Callable[[], Any]] = {
        "encode": lambda: encode_picture(samples, quality, **ways),
        "decode": lambda: decode_stream(data, **ways),
    }
    work["decode"]()
    plain: dict[str, list[float]] = {name: [] for name in work}
    theirs: dict[str, list[float]] = {name: [] for name in work}
    watched: dict[str, list[tuple[Clock, Mapping[Key, float]]]] = {name: [] for name in work}
    roofs: list[tuple[float, float]] = []
    for _ in range(repeats):
        if roof := _roof(threads):
            roofs.append(roof)
        for name, run in work.items():
            start = time.perf_counter()
            run()
            plain[name].append(time.perf_counter() - start)
            watched[name].append(watch(run))
            if twin:
                theirs[name].append(twin.seconds(name))
    ops, each = {op.name: op for op in model.ops}, recording_cost()
    best = max((speed for speed, _ in roofs), default=None)
    found: dict[str, Any] = {
        "size": [width, height],
        "threads": threads,
        "quality": quality,
        "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (width * height),
        "roof_gmac_per_second": best and best / 1e9,
        "cores_given": min((given for _, given in roofs), default=None),
    }
    for name in work:
        seconds = statistics.median(plain[name])
        parts = breakdown(name, ops, rows * columns, watched[name], best)
        found[name] = {
            "seconds": seconds,
            "fastest_seconds": min(plain[name]),
            "megapixels_per_second": width * height / seconds / 1e6,
            "macs": sum(row["macs"] for row in parts["stages"]),
            "computed_macs": sum(row["computed_macs"] for row in parts["stages"]),
            "watched_seconds": statistics.median(sum(run.values()) for _, run in watched[name]),
            "watching_seconds": each * len(watched[name][0][0].events),
            **parts,
        }
        if twin:
            other = statistics.median(theirs[name])
            found[name]["twin"] = {
                "seconds": other,
                "fastest_seconds": min(theirs[name]),
                "time_ratio": seconds / other,
                "layout": twin.facts[name]["best"],
                "torch": twin.facts["torch"],
                "convolutions": against_conv2d(parts["operations"], ops, rows, columns, twin, repeats),
            }
    return found


# ------------------------------------------------------------------------------------------------------------ command


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
    parser.add_argument("--quality", type=_count, default=60, metavar="Q", help="quality step, default 60")
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
    parser.add_argument("--twin", action="store_true", help="beside the float network in PyTorch, in alternation")
    parser.add_argument("--checkpoint", metavar="C", help="weights of the twin; random ones without it")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    add_limits(parser)


def run(args: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure what the arguments name; ``report`` is given the head and every result as soon as it is there.

    Raises
    ------
    UsageError
        Quality or threads are out of range, or a checkpoint comes without the one model it is for.
    RefcodecError
        Whatever else stands in the way.
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
    head = {"machine": machine(), "repeats": args.repeats}
    report(head)
    results = []
    with tempfile.TemporaryDirectory(prefix="refcodec-") as name:
        for each in subjects:
            for size, samples in pictures.items():
                for count in threads:
                    results.append(_result(args, each, samples, count, Path(name)))
                    if count == threads[-1]:
                        results[-1].update(_processes(args, each, samples, count, Path(name), size == sizes[0]))
                    report(results[-1])
    return {**head, "results": results}


def _result(args: argparse.Namespace, each: Subject, samples: np.ndarray, threads: int, folder: Path) -> dict[str, Any]:
    quality = min(args.quality, each.model.config.steps)
    size = f"{samples.shape[1]}x{samples.shape[0]}"
    note(f"bench: {each.name}, {size}, threads {threads}")
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
    data = encode_picture(samples, quality, model=each.model, limits=limits_of(args)).data
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
            "machine": machine(),
            "rows": estimate_table(models, sizes, thread_count((args.threads or [None])[-1]), report),
        }


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    RefcodecError
        Whatever stands in the way.
    """

    def report(part: dict[str, Any]) -> None:
        if not args.json:
            for line in [estimate_line(part)] if args.estimates else lines(part):
                result(line)

    found = estimates(args, report) if args.estimates else run(args, report)
    if args.json:
        result_json(found)
    return 0
