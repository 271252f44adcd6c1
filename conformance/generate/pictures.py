"""Pictures to code: the project's own, and cuts of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from refcodec.codec import encode_picture
from refcodec.io.pictures import read_picture
from refcodec.model.integer_model import Model

FOLDER = Path(__file__).parents[1] / "data" / "pictures"


@cache
def picture(name: str) -> np.ndarray:
    """Samples of a picture of conformance/data/pictures: [H, W, 3] or [H, W] uint8."""
    samples = read_picture(FOLDER / f"{name}.png").samples
    samples.flags.writeable = False
    return samples


def cut(name: str, width: int, height: int, channels: int = 3, left: int = 0, top: int = 0) -> np.ndarray:
    """A part of a picture, continued by its mirror image beyond the edges; of colour, grey is the green channel.

    Parameters
    ----------
    name : str
        One of the project's pictures.
    width, height : int
        Size of the result, in samples.
    channels : int
        1 or 3; a grey picture stays grey.
    left, top : int
        The first column and row.

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


def coded(samples: np.ndarray, quality: int, model: Model, tile: int = 0) -> bytes:
    """(SPEC 6.10-4) The stream of refcodec's encoder, with nothing stored losslessly.

    Parameters
    ----------
    samples : np.ndarray [H, W] or [H, W, 3], uint8
    quality : int
        1..100.
    model : Model
    tile : int
        Side of the tiles in samples, 0 for none.

    Returns
    -------
    bytes
    """
    return encode_picture(samples, quality, model=model, threads=1, tile=tile, rectangles=False).data
