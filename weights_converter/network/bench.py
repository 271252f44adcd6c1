"""Time the network side of LoC-LIC in PyTorch, to hold refcodec's times against.

    python -m weights_converter bench CHECKPOINT --size 768x512 --repeats 5 --threads 2 --json
    python -m weights_converter bench --config JSON --picture FILE --serve

Encoding is timed with the reconstruction, decoding from given symbols, both without the entropy coder, in inference
mode with denormals flushed, for contiguous and for channels-last tensors; the better of the two counts. A
configuration without a checkpoint gets random weights. With ``--serve`` the process prints one line of JSON when it is
ready, then answers every line ``encode`` or ``decode`` on standard input with the seconds of one run, so that a parent
(``python -m refcodec bench --twin``) can alternate its own runs with these on the same cores. A line
``conv INPUTS OUTPUTS KERNEL STRIDE GROUPS HEIGHT WIDTH`` is answered with the seconds of one such convolution.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor

from refcodec.errors import UsageError
from refcodec.io.strict_json import json_object
from refcodec.model.config import config_from

from ..convert.pipeline import read_colour
from ..formats.checkpoint import read_checkpoint
from .model import LoCLIC, analyse, from_checkpoint, synthesise

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

MAX_SIDE = 1 << 14
"""Largest side timed; larger pictures would take more memory than they tell."""

MULTIPLE = 64
"""Sides of the network's pictures are multiples of this."""

Run = Callable[[], Any]


def synthetic_picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Make a picture with the falling spectrum of photographs.

    Parameters
    ----------
    width, height : int
        In samples.
    seed : int

    Returns
    -------
    np.ndarray
        [height, width, 3] uint8, the same for the same seed.
    """
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    weight = np.maximum(frequency, 1 / max(width, height)) ** -1.5
    luma, *chroma = (
        np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * weight, (height, width)) for _ in range(3)
    )
    planes = np.stack([luma + 0.3 * chroma[0], luma - 0.15 * (chroma[0] + chroma[1]), luma + 0.3 * chroma[1]], -1)
    planes = (planes - planes.mean()) / max(float(planes.std()), 1e-9)
    return np.clip(128 + 50 * planes, 0, 255).astype(np.uint8)


def network_input(samples: np.ndarray) -> Tensor:
    """Pad a picture [H, W, 3] uint8 by edge replication and scale it: [1, 3, H', W'] float32 in [0, 1]."""
    bottom, right = (-side % MULTIPLE for side in samples.shape[:2])
    padded = np.pad(samples, ((0, bottom), (0, right), (0, 0)), mode="edge")
    return torch.from_numpy(padded).permute(2, 0, 1)[None].float().contiguous() / 255


def work(model: LoCLIC, x: Tensor, q: Tensor) -> dict[str, dict[str, Run]]:
    """Prepare what is timed: ``work["encode"]["contiguous"]()`` runs once.

    Parameters
    ----------
    model : LoCLIC
        Copied for each layout.
    x : Tensor
        [1, 3, H, W] in [0, 1].
    q : Tensor
        [1] quality.

    Returns
    -------
    dict of str to dict of str to callable
        By direction and memory layout.
    """
    runs: dict[str, dict[str, Run]] = {"encode": {}, "decode": {}}
    with torch.inference_mode():
        z_symbols, y_symbols, _ = analyse(model, x, q, reconstruct=False)
    for name, layout in LAYOUTS.items():
        laid = LoCLIC(model.config).eval()
        laid.load_state_dict(model.state_dict())
        laid = laid.to(memory_format=layout)  # type: ignore[call-overload]
        inputs = [t.clone().contiguous(memory_format=layout) for t in (x, z_symbols, y_symbols)]
        runs["encode"][name] = partial(analyse, laid, inputs[0], q)
        runs["decode"][name] = partial(synthesise, laid, inputs[1], inputs[2], q)
    return runs


def seconds(run: Run) -> float:
    """Seconds of one run in inference mode."""
    with torch.inference_mode():
        start = time.perf_counter()
        run()
        return time.perf_counter() - start


def medians(runs: dict[str, dict[str, Run]], repeats: int) -> dict[str, dict[str, Any]]:
    """Median seconds of every direction and layout after one warm-up, the layouts taken in turn.

    Returns
    -------
    dict
        ``{"encode": {"contiguous": s, "channels_last": s, "best": layout, "seconds": s}, "decode": ...}``.
    """
    result: dict[str, dict[str, Any]] = {}
    for direction, layouts in runs.items():
        for run in layouts.values():
            seconds(run)
        rounds = [{name: seconds(run) for name, run in layouts.items()} for _ in range(repeats)]
        typical = {name: statistics.median(times[name] for times in rounds) for name in layouts}
        best = min(typical, key=lambda name: typical[name])
        result[direction] = {**typical, "best": best, "seconds": typical[best]}
    return result


def convolution(shape: Sequence[int]) -> dict[str, Run]:
    """Prepare one convolution with bias in every layout.

    Parameters
    ----------
    shape : sequence of 7 int
        Inputs, outputs, kernel, stride, groups, and height and width of the input.
    """
    inputs, outputs, kernel, stride, groups, height, width = shape
    layer = torch.nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups).eval()
    x = torch.rand(1, inputs, height, width)
    runs: dict[str, Run] = {}
    for name, layout in LAYOUTS.items():
        laid = torch.nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups).eval()
        laid.load_state_dict(layer.state_dict())
        laid = laid.to(memory_format=layout)  # type: ignore[call-overload]
        runs[name] = partial(laid, x.clone().contiguous(memory_format=layout))
    return runs


def serve(runs: dict[str, dict[str, Run]], best: dict[str, str], lines: TextIO, out: TextIO) -> None:
    """Answer every line with the seconds of one run in its better layout, until the end.

    A line is ``encode``, ``decode``, or ``conv`` and the seven numbers of `convolution`; any other is answered with
    ``error``.

    Parameters
    ----------
    runs : dict of str to dict of str to callable
        By direction and memory layout, as `work` returns them.
    best : dict of str to str
        The better layout of each direction.
    lines, out : text file
        Requests and answers.
    """
    for line in lines:
        request = line.strip()
        if request not in runs and (shape := _shape(request)):
            for old in [name for name in runs if name.startswith("conv")]:  # one at a time: they hold tensors
                del runs[old]
            runs[request] = convolution(shape)
            best[request] = medians({request: runs[request]}, 3)[request]["best"]
        known = request in runs
        answer = f"{seconds(runs[request][best[request]]):.9f}" if known else "error: say encode, decode or conv"
        print(answer, file=out, flush=True)


def _shape(request: str) -> list[int] | None:
    """The numbers of a line ``conv ...`` that names a possible convolution, else None."""
    word, *rest = request.split()[:9] or [""]
    if word != "conv" or len(rest) != 7 or not all(n.isdecimal() and 0 < int(n) <= MAX_SIDE for n in rest):
        return None
    shape = [int(n) for n in rest]
    return shape if shape[0] % shape[4] == 0 and shape[1] % shape[4] == 0 else None


def parse_size(text: str) -> tuple[int, int]:
    """Read ``WIDTHxHEIGHT``.

    Raises
    ------
    UsageError
        Not two numbers from 1 to `MAX_SIDE`.
    """
    width, _, height = text.partition("x")
    if not (
        width.isdecimal()
        and height.isdecimal()
        and len(text) <= 11
        and 0 < int(width) <= MAX_SIDE
        and 0 < int(height) <= MAX_SIDE
    ):
        raise UsageError("size is not WIDTHxHEIGHT", where="--size", value=text[:40], largest=MAX_SIDE)
    return int(width), int(height)


def load_picture(path: str | None, size: str | None) -> np.ndarray:
    """Take the picture of a file, cut to `size` from the top left; without a file a synthetic one.

    Returns
    -------
    np.ndarray
        [H, W, 3] uint8.

    Raises
    ------
    UsageError
        The size is malformed or larger than the picture.
    MissingInput, InvalidImage
        There is no such file, or it is not a picture.
    """
    if path is None:
        return synthetic_picture(*parse_size(size or "768x512"))
    samples = read_colour(path)
    if size is None:
        return samples
    width, height = parse_size(size)
    if height > samples.shape[0] or width > samples.shape[1]:
        raise UsageError(
            "size larger than the picture", where="--size", value=size, picture=f"{samples.shape[1]}x{samples.shape[0]}"
        )
    return samples[:height, :width]


def measure(chosen: argparse.Namespace) -> None:
    """Load, time, print; with ``--serve`` go on answering."""
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    samples = load_picture(chosen.picture, chosen.size)
    config = None
    if chosen.config is not None:
        config = config_from(json_object(chosen.config.encode(), "--config", "the configuration"), "--config")
    if chosen.checkpoint is not None:
        model = from_checkpoint(read_checkpoint(chosen.checkpoint), config)
    else:
        assert config is not None  # one of the two is given
        torch.manual_seed(0)
        model = LoCLIC(config).eval()
    q = torch.tensor([(model.config.qualities - 1) * (chosen.quality - 1) / 99])
    runs = work(model, network_input(samples), q)
    times = medians(runs, chosen.repeats)
    report = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "repeats": chosen.repeats,
        "size": [samples.shape[1], samples.shape[0]],
        "quality": chosen.quality,
        **times,
    }
    if chosen.json or chosen.serve:
        print(json.dumps(report), flush=True)
    else:
        print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {samples.shape[1]}x{samples.shape[0]}")
        for direction, row in times.items():
            print(f"{direction}: {row['seconds']:.3f} s ({row['best']})")
    if chosen.serve:
        serve(runs, {direction: row["best"] for direction, row in times.items()}, sys.stdin, sys.stdout)
