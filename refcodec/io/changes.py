"""Changes of samples that a user asks for: a background below transparent pixels, and an upright picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import ImageColor

from ..errors import UsageError
from ..planes import SampleRows

Colour = tuple[int, int, int]

STRIP = 1 << 18
"""Samples that are flattened at once: sums take four times their memory."""


def colour_of(given: str | Sequence[int]) -> Colour:
    """A colour by its name in CSS, as ``#rrggbb`` or ``rgb(r, g, b)``, or as three numbers of 0..255.

    Raises
    ------
    UsageError
        It is no colour, or not an opaque one.
    """
    try:
        parts = ImageColor.getrgb(given) if isinstance(given, str) else tuple(given)
        red, green, blue = (int(part) for part in parts[:3])
        if (len(parts) > 3 and parts[3] != 255) or len(parts) > 4 or not all(0 <= p <= 255 for p in parts[:3]):
            raise ValueError
    except (TypeError, ValueError):
        raise UsageError(
            "not an opaque colour",
            where="--background",
            value=repr(given),
            cause="for instance white, '#ff8000' or 'rgb(255, 128, 0)'",
        ) from None
    return red, green, blue


def flattened(samples: np.ndarray, background: Colour) -> np.ndarray:
    """Samples on a background: every colour becomes (c a + b (255 - a)) / 255, rounded to the nearest value.

    Parameters
    ----------
    samples : np.ndarray [H, W] or [H, W, C], uint8
        Without alpha (one or three channels) they stay as they are.
    background : Colour
        Where it is not grey, grey samples with alpha become RGB.

    Returns
    -------
    np.ndarray [H, W] or [H, W, 3], uint8
    """
    if samples.shape[2:] not in ((2,), (4,)):
        return samples
    channels = 1 if samples.shape[2] == 2 and len(set(background)) == 1 else 3
    out = np.empty((*samples.shape[:2], channels), np.uint8)
    below = np.array(background[:channels], np.uint32)
    count = max(1, STRIP // samples[0].size)
    for top in range(0, samples.shape[0], count):
        strip = samples[top : top + count].astype(np.uint32)
        colours, alpha = strip[:, :, :-1], strip[:, :, -1:]
        out[top : top + count] = (colours * alpha + below * (255 - alpha) + 127) // 255
    return out if channels == 3 else out[:, :, 0]


class Flattened:
    """A picture on a background, as `SampleRows`."""

    def __init__(self, source: SampleRows, background: Colour) -> None:
        self._source, self._background = source, background
        self.height, self.width = source.height, source.width
        grey = source.channels == 1 or (source.channels == 2 and len(set(background)) == 1)
        self.channels = 1 if grey else 3

    def rows(self, first: int, count: int) -> np.ndarray:
        """As `SampleRows.rows`."""
        rows = flattened(self._source.rows(first, count), self._background)
        return rows.reshape(*rows.shape[:2], self.channels)


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror samples as an EXIF orientation says.

    Parameters
    ----------
    samples : np.ndarray [H, W] or [H, W, C]
    orientation : int
        1 to 8; any other means 1.

    Returns
    -------
    np.ndarray [H, W] or [W, H], and channels
        A view.
    """
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


__all__ = ["Colour", "Flattened", "colour_of", "flattened", "upright"]
