"""Rate and distortion of rounded latents, in estimated bits: on held-out crops during training, on folders after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from refcodec.io.files import list_pictures

from ..convert.pipeline import centre_crop, read_colour
from .loss import Trainee
from .pictures import Picture

CROP = 256
"""Side of the centre crops on which a training validates itself."""


@dataclass(frozen=True)
class Point:
    """Means over pictures at one quality level: bits per pixel, PSNR in dB, mean squared error of samples in [0, 1]."""

    quality: float
    bpp: float
    psnr: float
    mse: float


def centre_crops(pictures: Sequence[Picture]) -> list[np.ndarray]:
    """Centre crops [<= CROP, <= CROP, 3]."""
    return [centre_crop(picture.samples(), CROP) for picture in pictures]


def folder_pictures(folder: str) -> list[np.ndarray]:
    """Whole pictures [H, W, 3] of a folder, by name.

    Raises
    ------
    MissingInput, InvalidImage
    """
    return [read_colour(path) for path in list_pictures(Path(folder))]


def measure(
    trainee: Trainee,
    pictures: Sequence[np.ndarray],
    qualities: Sequence[float],
    stage: str,
    device: torch.device,
    threads: int,
) -> list[Point]:
    """Code pictures one by one at every quality.

    Parameters
    ----------
    trainee : Trainee
    pictures : sequence of np.ndarray [H, W, 3], uint8
    qualities : sequence of float
    stage : str
        One of `STAGES`.
    device : torch.device
    threads : int
        Pictures at a time.

    Returns
    -------
    list of Point
        One per quality. PSNR is that of 8-bit samples, averaged over pictures in dB.
    """
    trainee.eval()
    trainee.prepare(stage)

    def one(job: tuple[float, np.ndarray]) -> tuple[float, float]:
        q, samples = job
        height, width = samples.shape[:2]
        padded = np.pad(samples, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
        x = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))[None].to(device).float() / 255
        with torch.inference_mode():
            coded = trainee(x, torch.tensor([q], device=device), None, stage)
            out = (coded.x_hat.float()[0, :, :height, :width].clamp(0, 1) * 255).round_().cpu().numpy()
        mse = float(np.mean((out.transpose(1, 2, 0) - samples) ** 2)) / 255**2
        return float(coded.bits_y + coded.bits_z) / (height * width), mse

    jobs = [(float(q), samples) for q in qualities for samples in pictures]
    with ThreadPoolExecutor(threads if device.type == "cpu" else 1) as pool:
        rows = list(pool.map(one, jobs))
    points = []
    for n, q in enumerate(qualities):
        part = rows[n * len(pictures) : (n + 1) * len(pictures)]
        points.append(
            Point(
                float(q),
                float(np.mean([bpp for bpp, _ in part])),
                float(np.mean([-10 * math.log10(max(mse, 1e-12)) for _, mse in part])),
                float(np.mean([mse for _, mse in part])),
            )
        )
    return points


def mean_loss(points: Sequence[Point], lambdas: Sequence[float]) -> float:
    """The objective of training, without balance, averaged over qualities in logarithms so that each counts alike."""
    return float(np.mean([math.log(lam * 255**2 * p.mse + p.bpp) for p, lam in zip(points, lambdas, strict=True)]))
