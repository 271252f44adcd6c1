"""Samples of Pillow's images: eight bits of grey or RGB, and alpha where the picture is transparent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from ..errors import InvalidImage, Unsupported

_GREY = ("1", "L", "LA", "La")
_COLOUR = ("RGB", "P", "PA", "RGBA", "RGBa")
_OPAQUE = ("1", "L", "RGB")
"""Modes without alpha where the image names no transparent colour."""

STRIP = 1 << 16
"""Pixels that are converted at once: Pillow's conversions take several times the picture."""


def pillow_samples(image: Image.Image, where: str) -> np.ndarray:
    """Convert an image to samples.

    One bit becomes 0 or 255, a palette becomes RGB, a transparent colour or palette entry becomes alpha. Alpha that is
    255 everywhere is dropped. Colours that were multiplied by alpha (modes La and RGBa) are divided by it.

    Parameters
    ----------
    image : PIL.Image.Image
    where : str
        The place that errors name.

    Returns
    -------
    np.ndarray [H, W] or [H, W, C], uint8
        C is 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).

    Raises
    ------
    Unsupported
        Another mode than those of eight-bit grey and RGB.
    InvalidImage
        A side is zero, or a colour of La or RGBa exceeds its alpha.
    """
    if image.mode not in _GREY + _COLOUR:
        raise Unsupported(
            "only eight-bit grey and RGB are coded",
            where=where,
            mode=image.mode,
            cause="convert the picture first; the right way depends on its meaning",
        )
    width, height = image.size
    if not width or not height:
        raise InvalidImage("the picture is empty", where=where, width=width, height=height)
    colours = 1 if image.mode in _GREY else 3
    alpha = image.mode not in _OPAQUE or "transparency" in image.info
    if alpha and all((rows[:, :, colours] == 255).all() for _, rows in _strips(image, where)):
        alpha = False
    out = np.empty((height, width, colours + alpha), np.uint8)
    for top, rows in _strips(image, where):
        out[top : top + rows.shape[0]] = rows[:, :, : colours + alpha]
    return out if out.shape[2] > 1 else out[:, :, 0]


def opaque_dropped(samples: np.ndarray) -> np.ndarray:
    """The same samples, [H, W] or [H, W, C], without alpha that is 255 everywhere."""
    if samples.shape[2:] not in ((2,), (4,)) or (samples[:, :, -1] != 255).any():
        return samples
    return np.ascontiguousarray(samples[:, :, 0] if samples.shape[2] == 2 else samples[:, :, :3])


def premultiplied(image: Image.Image) -> bool:
    """Whether the colours of an image in memory are multiplied by alpha."""
    return image.mode in ("La", "RGBa")


def _strips(image: Image.Image, where: str) -> Iterator[tuple[int, np.ndarray]]:
    """First row and samples [n, W, C] of strips, with alpha unless the image can have none."""
    width, height = image.size
    count = max(1, STRIP // width)
    for top in range(0, height, count):
        strip = image if count >= height else image.crop((0, top, width, min(height, top + count)))
        if premultiplied(image):
            rows = _divided(np.asarray(strip), where)
        elif image.mode in _OPAQUE and "transparency" not in image.info:
            rows = np.asarray(strip.convert("L") if image.mode == "1" else strip)
        else:
            rows = np.asarray(strip.convert("LA" if image.mode in _GREY else "RGBA"))
        yield top, rows if rows.ndim == 3 else rows[:, :, np.newaxis]


def _divided(rows: np.ndarray, where: str) -> np.ndarray:
    """Colours divided by alpha, rounded to the nearest value: multiplied and rounded again they are the same.

    The quotient is at most a half off. Times alpha / 255 < 1 that is less than a half, so rounding gives the colour.
    """
    alpha = rows[:, :, -1:].astype(np.uint32)
    if (rows[:, :, :-1] > alpha).any():
        raise InvalidImage("a colour exceeds the alpha that it is multiplied by", where=where)
    out = np.array(rows)
    out[:, :, :-1] = (510 * rows[:, :, :-1].astype(np.uint32) + alpha) // np.maximum(2 * alpha, 1)
    return out
