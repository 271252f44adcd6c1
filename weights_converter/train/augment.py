"""Crops that photographs lack: colours of other strength and hue, grey pictures, and rendered graphics.

A codec that was trained on photographs alone shifts flat saturated colours and gives grey pictures a tint. All that is
done here follows from the generator that is given, so a step trains on the same crops wherever it runs.
"""

from __future__ import annotations

import numpy as np

from .plan import Schedule

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

SATURATION = (0.3, 1.8)
"""Factors of the distance from grey, drawn evenly in logarithms."""

WEB_SAFE = np.arange(0, 256, 51)
"""Levels of a channel of the 216 web-safe colours."""


def augmented(samples: np.ndarray, kinds: Schedule, rng: np.random.Generator) -> np.ndarray:
    """A crop after every kind of augmentation that chance picks for it.

    Parameters
    ----------
    samples : np.ndarray [h, w, 3], uint8
    kinds : sequence of (str, float)
        Kinds, and the share of crops that each changes.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [h, w, 3], uint8
    """
    for kind, share in kinds:
        if rng.random() < share:
            samples = _KINDS[kind](samples, rng)
    return samples


def _saturation(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    factor = np.exp(rng.uniform(*np.log(SATURATION)))
    return _mixed(samples, factor * np.eye(3) + (1 - factor) * LUMA)


def _hue(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn colours around the grey axis."""
    angle = rng.uniform(-np.pi, np.pi)
    axis = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return _mixed(samples, np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) * axis + np.sin(angle) * cross)


def _grey(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _mixed(samples, np.tile(LUMA, (3, 1)))


def _mixed(samples: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.rint(samples @ matrix.T.astype(np.float32)).clip(0, 255).astype(np.uint8)


def _graphics(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rendered(samples.shape[0], samples.shape[1], rng)


def rendered(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Render a gradient or a flat colour, with rectangles, discs and lines of flat colours.

    Parameters
    ----------
    height, width : int
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [height, width, 3], uint8
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x / width + np.sin(angle) * y / height
    along = (along - along.min()) / np.ptp(along)
    first, last = colour(rng), colour(rng)
    last = first if rng.random() < 0.5 else last
    picture = first + along[:, :, None] * (last - first).astype(np.float32)
    for _ in range(rng.integers(0, 12)):
        top, left = rng.integers(0, height), rng.integers(0, width)
        h, w = (1 + np.floor(size * rng.random() ** 2 / 2) for size in (height, width))
        shape = rng.integers(0, 3)
        inside = (abs(y - top) < h) & (abs(x - left) < w)
        if shape == 1:
            inside = ((y - top) / h) ** 2 + ((x - left) / w) ** 2 < 1
        elif shape == 2:
            inside = abs((y - top) * w - (x - left) * h) < 1.5 * np.hypot(w, h)
        picture[inside] = colour(rng)
    return np.rint(picture).clip(0, 255).astype(np.uint8)


def colour(rng: np.random.Generator) -> np.ndarray:
    """A web-safe colour, any colour, or a grey, [3] of 0..255."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(WEB_SAFE, 3)
    return rng.integers(0, 256, 3) if kind < 0.85 else np.full(3, rng.integers(0, 256))


_KINDS = {"saturation": _saturation, "hue": _hue, "grey": _grey, "graphics": _graphics}

__all__ = ["augmented", "colour", "rendered"]
