"""``python -m refcodec bench --estimates``: estimated against measured memory, for pictures of all shapes.

Every measurement is a fresh process: it loads a model and packs its weights by a small picture, notes what it holds,
and codes one picture. What it takes is its peak over what it held before, and the model's weights, which the estimate
contains. The stream that a process decodes was made by the process that measured encoding.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..codec import decode_stream, encode_picture
from ..errors import Unsupported
from ..io.files import write_bytes
from ..limits import Limits
from ..memory import memory_estimate, model_bytes
from ..model.integer_model import Model
from ..model.registry import load_model
from .processes import environment, own_peak, run_python

LONG = 1 << 14
"""Long side of the narrowest pictures unless another is named: a process takes seconds, and minutes in NumPy."""


def shapes(long: int) -> tuple[tuple[int, int], ...]:
    """Widths and heights from a column of ``long`` samples over squares to a row of them."""
    square = 64 * max(1, int((64 * long) ** 0.5) // 64)  # about as many padded pixels
    return ((1, long), (65, long // 2), (97, 61), (square, square), (long // 2, 65), (long, 1))


def table(
    models: Sequence[tuple[str, Path]],
    sizes: Sequence[tuple[int, int]],
    threads: int,
    report: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Measure every model, size, backend and direction, one process each.

    Parameters
    ----------
    models : sequence of (name, path)
    sizes : sequence of (width, height)
    threads : int
    report : callable
        Is given every row as soon as it is measured.

    Returns
    -------
    list of dict
        ``model``, ``size``, ``backend``, ``direction``, ``estimate_bytes``, ``taken_bytes`` and ``ratio``, the
        estimate over what was taken.

    Raises
    ------
    CheckFailed
        A process failed.
    Unsupported
        The system does not report the peak of a process.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="refcodec-") as folder:
        stream = str(Path(folder) / "stream.loclic")
        for name, path in models:
            for width, height in sizes:
                for backend in ("numba", "numpy"):
                    for direction in ("encode", "decode"):
                        answer = run_python(
                            [
                                "-m",
                                "refcodec.bench.memory",
                                str(path),
                                str(width),
                                str(height),
                                backend,
                                direction,
                                str(threads),
                                stream,
                            ],
                            environment(),
                        )[1]
                        rows.append(
                            {
                                "model": name,
                                "size": [width, height],
                                "backend": backend,
                                "direction": direction,
                                **json.loads(answer),
                            }
                        )
                        report(rows[-1])
    return rows


def line(row: dict[str, Any]) -> str:
    """A row of the table for a person."""
    width, height = row["size"]
    return (
        f"{row['model']:10s} {f'{width}x{height}':>16s} {row['backend']:6s} {row['direction']:7s} estimate "
        f"{row['estimate_bytes'] / 2**20:8.1f} MiB, taken {row['taken_bytes'] / 2**20:8.1f} MiB, ratio "
        f"{row['ratio']:.2f}"
    )


def picture(width: int, height: int) -> np.ndarray:
    """A smooth wave with noise [height, width, 3] uint8, always the same."""
    noise = np.random.default_rng(1).integers(0, 32, (height, width, 3), np.uint8)
    noise += (96 + 64 * np.sin(np.arange(width) / 9)).astype(np.uint8)[:, np.newaxis]
    return noise


def _resident() -> int:
    """Resident bytes now, from where the peak is counted: it is set back to them.

    Raises
    ------
    Unsupported
        Not on Linux.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what loading the model freed would serve the picture
        Path("/proc/self/clear_refs").write_text("5")
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError) as error:
        raise Unsupported("the system does not report the peak of a process", where="/proc/self") from error


def _measured(
    model: Model, width: int, height: int, backend: str, direction: str, threads: int, stream: Path
) -> Iterator[tuple[str, int | float]]:
    ways: dict[str, Any] = {
        "model": model,
        "backend": backend,
        "threads": threads,
        "limits": Limits(max_pixels=1 << 31, max_memory=None),
    }
    decode_stream(encode_picture(np.zeros((64, 64, 3), np.uint8), 1, rectangles=False, **ways).data, **ways)
    if direction == "encode":
        samples, quality = picture(width, height), min(60, model.config.steps)
        before = _resident()
        data, segments = encode_picture(samples, quality, rectangles=False, **ways).data, 0
    else:
        data = stream.read_bytes()
        before = _resident()
        segments = decode_stream(data, **ways)[1].segment_bytes
    taken = (own_peak() or 0) - before + model_bytes(model)
    if direction == "encode":
        write_bytes(stream, data, force=True)
    estimate = memory_estimate(
        width, height, model, backend, threads=threads, encoding=direction == "encode", segments=segments
    )
    yield from (("estimate_bytes", estimate), ("taken_bytes", taken), ("ratio", estimate / taken))


def main(arguments: Sequence[str]) -> int:
    """Measure one picture: path of the model, width, height, backend, direction, threads, stream."""
    path, width, height, backend, direction, threads, stream = arguments
    print(
        json.dumps(
            dict(_measured(load_model(path), int(width), int(height), backend, direction, int(threads), Path(stream)))
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
