"""JPEG, JPEG 2000, WebP and AVIF as Pillow carries them: with which settings they are measured."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import Unsupported
from ..io.files import detail_of


@dataclass(frozen=True)
class OtherCodec:
    """A codec that Pillow carries, with its settings.

    Attributes
    ----------
    name, pillow_format, feature : str
        Its name in tables, for ``Image.save``, and for ``PIL.features``.
    settings : tuple
        One value per point of the curve.
    fine : sequence
        Settings from the smallest file to the largest, among which one is searched that gives a number of bytes.
    options : callable
        From a setting and the number of channels to the options of ``Image.save``.
    remarks : str
        What is fixed.
    """

    name: str
    pillow_format: str
    feature: str
    settings: tuple[float, ...]
    fine: Sequence[float]
    options: Callable[[float, int], dict[str, Any]]
    remarks: str


OTHERS = (
    OtherCodec(
        "JPEG",
        "JPEG",
        "jpg",
        (5, 8, 12, 16, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95),
        range(1, 96),
        lambda quality, channels: {"quality": quality, "optimize": True},
        "setting: quality; optimised, 4:2:0",
    ),
    OtherCodec(
        "JPEG 2000",
        "JPEG2000",
        "jpg_2000",
        (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.0),
        tuple(n / 100 for n in range(2, 600)),
        lambda bpp, channels: {
            "quality_mode": "rates",
            "quality_layers": [8 * channels / bpp],
            "irreversible": True,
            "mct": int(channels == 3),
        },
        "setting: bits per pixel; 9/7 wavelet, colour transform, one layer",
    ),
    OtherCodec(
        "WebP",
        "WEBP",
        "webp",
        (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 87, 93, 97),
        range(101),
        lambda quality, channels: {"quality": quality, "method": 4},
        "setting: quality; lossy, method 4 (the default)",
    ),
    OtherCodec(
        "AVIF",
        "AVIF",
        "avif",
        (10, 20, 30, 38, 45, 52, 60, 67, 75, 83, 90, 95),
        range(101),
        lambda quality, channels: {"quality": quality, "speed": 6},
        "setting: quality; speed 6 and 4:2:0 (the defaults)",
    ),
)


def encode_other(codec: OtherCodec, setting: float, samples: np.ndarray) -> bytes:
    """Encode a picture with another codec.

    Parameters
    ----------
    codec : OtherCodec
    setting : float
        One of its settings.
    samples : np.ndarray [H, W] or [H, W, 3], uint8

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    Unsupported
        The codec cannot encode this picture.
    """
    file = io.BytesIO()
    channels = 1 if samples.ndim == 2 else 3
    try:
        Image.fromarray(samples).save(file, codec.pillow_format, **codec.options(setting, channels))
    except Exception as error:
        raise Unsupported(
            f"{codec.name} cannot encode this picture",
            detail=detail_of(error),
            setting=setting,
            shape=list(samples.shape),
            cause="leave the other codecs out with --no-others",
        ) from error
    return file.getvalue()


def decode_other(data: bytes, mode: str) -> np.ndarray:
    """The samples of such a file, mode "L" or "RGB"."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert(mode))


__all__ = ["OTHERS", "OtherCodec", "decode_other", "encode_other"]
