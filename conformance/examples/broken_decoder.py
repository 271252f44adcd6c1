"""A decoder with one mistake, for README.md: how the kit finds it.

It is refcodec's NumPy backend except for layer normalisation, which was rewritten with the division of C: that one
drops the fraction, so negative quotients come out one too great unless they are whole; SPEC 5.2-3 wants the floor.

    python -m conformance.examples.broken_decoder STREAM OUTPUT [--model M] [--trace T] [--values DIR]
    python -m conformance.examples.broken_decoder --unit UNIT OUTPUT
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.arith import numpy_ops
from refcodec.arith.maps import interior
from refcodec.codec import decode_stream
from refcodec.errors import RefcodecError
from refcodec.io.files import read_bytes
from refcodec.io.picture_output import write_picture
from refcodec.io.properties import Picture
from refcodec.model.registry import load_model
from refcodec.trace import Recorder, Stage, npy_bytes


def c_division(a: int, b: int) -> int:
    """Divide as C does: the fraction is dropped."""
    return abs(a) // b if a >= 0 else -(abs(a) // b)


def normalise(position: list[int], epsilon: int) -> list[int]:
    """Layer normalisation of one position over its channels, as in SPEC 5.6, but for the division."""
    channels, total = len(position), sum(position)
    d = [channels * v - total for v in position]
    variance, h = sum(a * a for a in d) + epsilon, 0
    while variance << (2 * h) < 2**50:
        h += 1
    root = math.isqrt(variance << (2 * h))
    gain = (math.isqrt(channels << 38) + 1) >> 1
    return [c_division((a << h) * gain + (root << 7), root << 8) for a in d]


def layer_norm(x: np.ndarray, layer: Any, out: np.ndarray, threads: int = 1) -> None:
    """Layer normalisation that replaces refcodec's.

    Parameters
    ----------
    x : map [H + 4, W + 4, C], int16
    layer : Norm
        Its epsilon and limit.
    out : map [H + 4, W + 4, C], int16
        Receives the result.
    threads : int
        Not used.
    """
    for row, target in zip(interior(x).tolist(), interior(out), strict=True):
        target[:] = np.clip([normalise(position, layer.epsilon) for position in row], -layer.limit, layer.limit)


def decode(args: argparse.Namespace) -> int:
    """Decode as refcodec does; the trace is written even if decoding ends early."""
    numpy_ops.layer_norm = layer_norm

    def save(stage: Stage, values: np.ndarray) -> None:
        if args.values:
            args.values.mkdir(exist_ok=True)
            (args.values / stage.file_name).write_bytes(npy_bytes(values))

    recorder = Recorder(save=save) if args.trace else None
    try:
        model = load_model(args.model) if args.model else None
        samples, _ = decode_stream(read_bytes(args.stream), model=model, backend="numpy", trace=recorder)
        write_picture(args.output, Picture(samples), force=True)
    except RefcodecError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        if recorder:
            args.trace.write_text("".join(stage.line() + "\n" for stage in recorder.stages))
    return 0


def compute_unit(unit: Path, output: Path) -> int:
    """Compute the unit cases of layer normalisation; 69, not supported, for other operations."""
    document = json.loads(unit.read_text())
    if document["function"] != "layer_norm":
        return 69
    results = {}
    for case in document["cases"]:
        layer = case["input"]["layer"]
        limit, epsilon = layer["limit"], layer["constants"][0]
        results[case["id"]] = [
            [[max(-limit, min(limit, v)) for v in normalise(position, epsilon)] for position in row]
            for row in case["input"]["x"]
        ]
    output.write_text(json.dumps(results))
    return 0


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stream", nargs="?")
    parser.add_argument("output", nargs="?")
    parser.add_argument("--model")
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--values", type=Path)
    parser.add_argument("--unit", type=Path, nargs=2, metavar=("UNIT", "OUTPUT"), help="instead of a stream")
    args = parser.parse_args()
    return compute_unit(*args.unit) if args.unit else decode(args)


if __name__ == "__main__":
    sys.exit(main())
