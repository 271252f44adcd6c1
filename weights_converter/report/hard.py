"""Pictures that photographs do not teach: flat colours, smooth gradients, grey. Rendered by code, so there is no file.

Every candidate for a new model is compared on them: ``python -m weights_converter hard MODEL...``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refcodec.codec import encode_picture
from refcodec.measure.metrics import psnr
from refcodec.model.integer_model import Model

SIDE = 192
"""Of the pictures of gradients and grey, in samples."""

FLAT = 32
"""Side of a patch of one colour; the 216 web-safe colours are 18 patches wide and 12 high."""

INSIDE = 8
"""Samples next to a border of a patch that do not count: the colour itself is measured."""


def hard_pictures() -> dict[str, np.ndarray]:
    """Pictures by name: [H, W, 3] uint8, and "grey" [H, W]."""
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(12, 18, 3)
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    sky = np.stack([90 + 100 * y + 10 * x, 140 + 70 * y, 230 - 20 * y], -1)
    wheel = 127.5 + 127.5 * np.cos(2 * np.pi * (x[:, :, None] - np.arange(3) / 3)) * y[:, :, None]
    waves = 127.5 + 90 * np.sin(24 * (x + 0.4 * y) * y) + 20 * np.sin(90 * x * y)
    grey = _samples(waves)
    return {
        "web-safe": np.repeat(np.repeat(colours, FLAT, 0), FLAT, 1),
        "sky": _samples(sky),
        "hues": _samples(wheel),
        "grey": grey,
        "grey as RGB": np.dstack([grey] * 3),
    }


def _samples(values: np.ndarray) -> np.ndarray:
    samples: np.ndarray = np.rint(values).clip(0, 255).astype(np.uint8)
    return samples


def measure(model: Model, pictures: dict[str, np.ndarray], steps: Sequence[int]) -> list[dict[str, Any]]:
    """Code pictures at some qualities, without storing parts losslessly.

    Parameters
    ----------
    model : Model
    pictures : dict of str to np.ndarray
        uint8 [H, W] or [H, W, 3], by name.
    steps : sequence of int
        Qualities.

    Returns
    -------
    list of dict
        ``picture``, ``quality``, ``bpp``, ``psnr``; ``mean_error`` and ``largest_error`` of samples, of patches between
        their borders; ``tint``, how far the mean colour of a picture has moved from its own, in samples.
    """
    rows = []
    for name, samples in pictures.items():
        for step in steps:
            coded = encode_picture(samples, step, model=model, rectangles=False)
            errors = coded.reconstruction.astype(int) - samples
            if name == "web-safe":
                patches = errors.reshape(12, FLAT, 18, FLAT, 3)
                errors = patches[:, INSIDE:-INSIDE, :, INSIDE:-INSIDE]
            drift = errors.reshape(-1, errors.shape[-1] if samples.ndim == 3 else 1).mean(0)
            rows.append(
                {
                    "picture": name,
                    "quality": step,
                    "bpp": round(8 * len(coded.data) / (samples.shape[0] * samples.shape[1]), 4),
                    "psnr": round(psnr(samples, coded.reconstruction), 3),
                    "mean_error": round(float(abs(errors).mean()), 3),
                    "largest_error": int(abs(errors).max()),
                    "tint": round(float(abs(drift).max()), 3),
                }
            )
    return rows


__all__ = ["hard_pictures", "measure"]
