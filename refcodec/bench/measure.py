"""Times of encoding and decoding one picture, whole and stage by stage.

Whole runs are timed alone, for the times that count, in alternation with watched runs (stopwatch.py), which give the
stages, and with bare int16 dot products (refcodec/arith/jit/peak.py), whose fastest run is the peak that convolutions
stay under. Times are medians. Multiply-accumulates are those of the layer table (SPEC 6.1), next to those that were
computed: many layers are needed at one half of the checkerboard only.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

from ..arith.backend import default_backend
from ..codec import decode_stream, encode_picture
from ..flow import Parts
from ..limits import Limits
from ..model.integer_model import Model
from ..model.layer_table import Op
from .processes import Twin
from .stopwatch import CONVOLUTION, KINDS, STAGES, Clock, Key, recording_cost, watch

COSTLY = 0.02
"""Share of the time from which a convolution's shape is compared with PyTorch's."""


def _row(seconds: float, total: float, network: float, computed: float, roof: float | None) -> dict[str, Any]:
    """Time, its share, multiply-accumulates, and their rate relative to the peak's."""
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
        Result of ``watch``.
    roof : float or None
        Peak throughput: multiply-accumulates per second at most.

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
    """Shape of a convolution in a padded picture.

    Parameters
    ----------
    op : Op
    height, width : int
        Samples of the padded picture.

    Returns
    -------
    tuple of int
        Inputs, outputs, kernel, stride, groups, and height and width of the input.
    """
    step = isqrt(round(1 / op.positions))
    groups = op.channels if op.depthwise else 1
    inputs = op.channels if op.depthwise else op.in_channels
    return (inputs, op.channels, op.kernel, op.stride, groups, height // step * op.stride, width // step * op.stride)


def against_conv2d(
    operations: Sequence[Mapping[str, Any]], ops: Mapping[str, Op], height: int, width: int, twin: Twin, repeats: int
) -> list[dict[str, Any]]:
    """Rates of every costly shape of convolution here and in PyTorch.

    PyTorch computes all positions, without GELU, residual sum and clamp. The rate here counts what was computed.

    Parameters
    ----------
    operations : sequence of mapping
        Rows of the measured operations, with ``share``, ``seconds`` and ``computed_macs``.
    ops : mapping of str to Op
        The layer table by name.
    height, width : int
        Samples of the padded picture.
    twin : Twin
        Runs PyTorch.
    repeats : int
        Runs of each convolution in PyTorch.

    Returns
    -------
    list of dict
        One row per shape, those with the largest share of the time first.
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
    """Multiply-accumulates per second at most and the cores' share for this process; None where nothing is compiled."""
    if default_backend() != "numba":
        return None
    from ..arith.jit.peak import measured_peak

    return measured_peak(threads)


@dataclass
class _Runs:
    """Runs of both directions in alternation: seconds, results of watched runs, the twin's seconds, and the peak's."""

    plain: dict[str, list[float]]
    watched: dict[str, list[tuple[Clock, Mapping[Key, float]]]]
    theirs: dict[str, list[float]]
    roofs: list[tuple[float, float]]


def _alternate(work: Mapping[str, Callable[[Parts], Any]], threads: int, repeats: int, twin: Twin | None) -> _Runs:
    runs = _Runs({name: [] for name in work}, {name: [] for name in work}, {name: [] for name in work}, [])
    for _ in range(repeats):
        if roof := _roof(threads):
            runs.roofs.append(roof)
        for name, run in work.items():
            start = time.perf_counter()
            run(Parts())
            runs.plain[name].append(time.perf_counter() - start)
            runs.watched[name].append(watch(run))
            if twin:
                runs.theirs[name].append(twin.seconds(name))
    return runs


def measure(
    model: Model,
    samples: np.ndarray,
    quality: int,
    threads: int,
    repeats: int,
    twin: Twin | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Time encoding and decoding of one picture, plain, watched and in alternation with the twin.

    Parameters
    ----------
    model : Model
    samples : np.ndarray [H, W, 3] or [H, W], uint8
    quality : int
        1..100.
    threads : int
    repeats : int
        Runs of each kind.
    twin : Twin or None
        Of the same configuration, picture, quality and threads.
    limits : Limits or None
        None for the defaults.

    Returns
    -------
    dict
        Seconds, throughput, ``breakdown`` and comparison of each direction; everything is plain numbers and text.
    """
    height, width = samples.shape[:2]
    rows, columns = (-(-n // 64) * 64 for n in (height, width))
    ways: dict[str, Any] = {"model": model, "threads": threads, "limits": limits}
    data = encode_picture(samples, quality, rectangles=False, **ways).data
    work: dict[str, Callable[[Parts], Any]] = {
        "encode": lambda parts: encode_picture(samples, quality, rectangles=False, parts=parts, **ways),
        "decode": lambda parts: decode_stream(data, parts=parts, **ways),
    }
    work["decode"](Parts())
    runs = _alternate(work, threads, repeats, twin)
    ops, each = {op.name: op for op in model.ops}, recording_cost()
    best = max((speed for speed, _ in runs.roofs), default=None)
    found: dict[str, Any] = {
        "size": [width, height],
        "threads": threads,
        "quality": quality,
        "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (width * height),
        "roof_gmac_per_second": best and best / 1e9,
        "cores_given": min((given for _, given in runs.roofs), default=None),
    }
    for name in work:
        seconds = statistics.median(runs.plain[name])
        parts = breakdown(name, ops, rows * columns, runs.watched[name], best)
        found[name] = {
            "seconds": seconds,
            "fastest_seconds": min(runs.plain[name]),
            "megapixels_per_second": width * height / seconds / 1e6,
            "macs": sum(row["macs"] for row in parts["stages"]),
            "computed_macs": sum(row["computed_macs"] for row in parts["stages"]),
            "watched_seconds": statistics.median(sum(run.values()) for _, run in runs.watched[name]),
            "watching_seconds": each * len(runs.watched[name][0][0].events),
            **parts,
        }
        if twin:
            other = statistics.median(runs.theirs[name])
            found[name]["twin"] = {
                "seconds": other,
                "fastest_seconds": min(runs.theirs[name]),
                "time_ratio": seconds / other,
                "layout": twin.facts[name]["best"],
                "torch": twin.facts["torch"],
                "convolutions": against_conv2d(parts["operations"], ops, rows, columns, twin, repeats),
            }
    return found
