"""Samples of more than eight bits, reduced on request (``--depth 8``) by rounding to the nearest value.

A sample v of a picture whose white is m becomes (v * 255 + m // 2) // m. For 16 bits, m is 65535.

Pillow keeps eight bits of most such pictures: its unpackers take the higher byte of each sample. So a file is decoded
twice, and the second time with the order of bytes exchanged, which gives the lower bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import Unsupported

DEPTH = 8
"""Bits per sample of every coded picture."""

WHITE = 65535
"""The largest sample of 16 bits."""

BYTES_PER_PIXEL = 32
"""Memory per pixel while a file of 16 bits is read: two pictures by Pillow, their bytes, and the samples."""

_OTHER_ORDER = {";16L": ";16B", ";16B": ";16L", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
_GREY = ("I;16", "I;16L", "I;16B")


def check_depth(bits: int, depth: int | None, where: str) -> None:
    """Refuse samples of more than eight bits, unless a reduction to eight is requested.

    Parameters
    ----------
    bits : int
        Bits per sample of the file.
    depth : int or None
        8 to reduce deeper samples by rounding.
    where : str
        The place that the error names.

    Raises
    ------
    Unsupported
        The samples have more than eight bits and ``depth`` is not 8.
    """
    if bits > DEPTH and depth != DEPTH:
        raise Unsupported(
            "samples have more than eight bits",
            where=where,
            bits=bits,
            cause="--depth 8 (in Python depth=8) reduces them by rounding",
        )


def reduced(samples: np.ndarray, white: int) -> np.ndarray:
    """Scale samples to 0..255, rounded to the nearest value.

    Parameters
    ----------
    samples : [H, W] or [H, W, C], unsigned
    white : int
        The sample that becomes 255, at most 65535. Larger samples are clipped to it.

    Returns
    -------
    np.ndarray of the same shape, uint8
    """
    out = np.empty(samples.shape, np.uint8)
    for row, values in zip(out, samples, strict=True):  # the wide copy is one row
        row[...] = (np.minimum(values, white).astype(np.uint32) * 255 + white // 2) // white
    return out


def told(white: int) -> str:
    """The note on a picture whose samples were scaled."""
    return f"samples were scaled from 0..{white} to 0..255, rounded to the nearest value"


def deep_samples(image: Any, reopened: Callable[[], Any], bits: int, where: str) -> np.ndarray:
    """Read a PNG or TIFF of more than eight bits per sample.

    Parameters
    ----------
    image : PIL.ImageFile.ImageFile
        Open, and loaded afterwards.
    reopened : callable
        Opens the same file again.
    bits : int
        Its bits per sample.
    where : str
        The place that errors name.

    Returns
    -------
    np.ndarray [H, W] or [H, W, C], uint8
        C is 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).

    Raises
    ------
    Unsupported
        Another format, or a layout whose lower bits Pillow does not give.
    """
    raw = _raw_mode(image)
    known = image.format == "PNG" or (image.format == "TIFF" and image.tag_v2.get(262) in (1, 2))
    if known and bits in (12, 16) and image.mode in _GREY:
        samples: np.ndarray = np.asarray(image).astype(np.uint16)
    elif known and bits == 16 and raw == "LA;16B":  # as two bytes of grey and two of alpha
        samples = _loaded(image, "RGBA").view(">u2")
    elif known and bits == 16 and raw[:-4] in ("RGB", "RGBA") and raw[-4:] in _OTHER_ORDER:
        samples = np.array(image).astype(np.uint16) << 8
        samples = samples | _loaded(reopened(), raw[:-4] + _OTHER_ORDER[raw[-4:]])
    else:
        raise Unsupported(
            "samples of this depth cannot be reduced",
            where=where,
            format=image.format,
            bits=bits,
            cause="only grey and RGB of PNG, TIFF, PNM and NPY can; convert the picture first",
        )
    if (key := image.info.get("transparency")) is not None:  # of PNG: one grey value or colour
        opaque = (samples.reshape(*samples.shape[:2], -1) != np.array(key)).any(axis=2)
        samples = np.dstack([samples, np.where(opaque, WHITE, 0).astype(np.uint16)])
    return reduced(samples, (1 << bits) - 1)


def _raw_mode(image: Any) -> str:
    args = image.tile[0].args if image.tile else ""
    return str(args if isinstance(args, str) else args[0])


def _loaded(image: Any, raw: str) -> np.ndarray:
    """Samples as Pillow unpacks them by another raw mode."""
    image._mode = raw.split(";")[0]
    image.tile = [
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:])) for tile in image.tile
    ]
    return np.array(image)  # loads it
