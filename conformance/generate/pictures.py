"""Pictures to code: the project's own, and cuts of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from refcodec.io.pictures import read_picture

FOLDER = Path(__file__).parents[1] / "data" / "pictures"


@cache
def picture(name: str) -> np.ndarray:
    """Samples of a picture of conformance/data/pictures: [H, W, 3] or [H, W] uint8."""
    samples = read_picture(FOLDER / f"{name}.png").samples
    samples.flags.writeable = False
    return samples


def cut(name: str, width: int, height: int, channels: int = 3, left: int = 0, top: int = 0) -> np.ndarray:
    """A part of a picture, continued by its mirror image beyond the edges; of colour, grey is the green channel.

    Returns
    -------
    np.ndarray
        [height, width, 3] or [height, width] uint8.
    """
    whole = picture(name)
    rows, columns = (
        _mirrored(first, count, size)
        for first, count, size in ((top, height, whole.shape[0]), (left, width, whole.shape[1]))
    )
    part = whole[rows][:, columns]
    return np.ascontiguousarray(part if part.ndim == 2 or channels == 3 else part[:, :, 1])


def _mirrored(first: int, count: int, size: int) -> np.ndarray:
    """Indices first..first + count - 1 brought into 0..size - 1 by mirrors at the edges."""
    at = np.arange(first, first + count) % (2 * size)
    return np.minimum(at, 2 * size - 1 - at)
