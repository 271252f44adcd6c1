"""Hostile pictures: damaged files of every format that is read (SPEC 11 leaves them to implementations)."""

from __future__ import annotations

import io
from functools import cache
from random import Random

import numpy as np
from PIL import Image

from .hostile_streams import damaged


@cache
def picture_corpus() -> tuple[bytes, ...]:
    """Small files: PNG of several modes, PPM, PGM, NPY, JPEG, TIFF, WebP, GIF and BMP."""
    samples = np.random.default_rng(1).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    picture = Image.fromarray(samples)
    files = []
    for mode, format_name in (("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"),
                              ("RGB", "PPM"), ("L", "PPM"), ("RGB", "JPEG"), ("RGB", "TIFF"), ("RGB", "WEBP"),
                              ("P", "GIF"), ("RGB", "BMP")):
        file = io.BytesIO()
        (picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)).save(file, format_name)
        files.append(file.getvalue())
    for array in (samples, samples[:, :, 0]):
        file = io.BytesIO()
        np.save(file, array)
        files.append(file.getvalue())
    return tuple(files)


def hostile_picture(source: tuple[bytes, ...], seed: int, index: int) -> bytes:
    """The file of a case: a function of seed and index."""
    random = Random(f"{seed}/{index}")
    data = random.choice(source)
    if random.random() < 0.3:  # headers hold the sizes
        cut = random.randrange(8, 64)
        return damaged(random, data[:cut]) + data[cut:]
    return damaged(random, data)


__all__ = ["hostile_picture", "picture_corpus"]
