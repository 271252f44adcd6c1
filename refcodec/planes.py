"""Samples of a picture and the padded planes that the networks read (SPEC 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from .errors import UsageError
from .limits import MAX_SIDE, padded


class SampleRows(Protocol):
    """A picture that is read in strips of rows, so that it need not fit into memory.

    Attributes
    ----------
    height, width : int
    channels : int
        1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).
    """

    height: int
    width: int
    channels: int

    def rows(self, first: int, count: int) -> np.ndarray:
        """Rows ``first`` and on, [n, width, channels] uint8: ``count``, or what is left of the picture.

        The encoder asks for all rows from the top down; where it stores samples without loss, several times.
        """


class ArrayRows:
    """A picture in memory as `SampleRows`: samples [H, W] or [H, W, C], uint8."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples if samples.ndim == 3 else samples[:, :, np.newaxis]
        self.height, self.width, self.channels = self.samples.shape

    def rows(self, first: int, count: int) -> np.ndarray:
        """As `SampleRows.rows`; a view."""
        return self.samples[first : first + count]


class CheckedRows:
    """A picture that is read in strips, each compared with what the picture says of itself, as `SampleRows`.

    Raises
    ------
    UsageError
        Height, width or channels are none of a picture; by `rows`, a strip is no array of such samples.
    """

    def __init__(self, source: SampleRows) -> None:
        sizes = []
        for name, most in (("height", MAX_SIDE), ("width", MAX_SIDE), ("channels", 4)):
            value = getattr(source, name, None)
            if not isinstance(value, (int, np.integer)) or not 1 <= value <= most:
                raise UsageError(f"{name} is out of range", value=repr(value), allowed=f"1..{most}")
            sizes.append(int(value))
        self.height, self.width, self.channels = sizes
        self._source = source

    def rows(self, first: int, count: int) -> np.ndarray:
        """As `SampleRows.rows`."""
        rows = self._source.rows(first, count)
        shape = max(0, min(count, self.height - first)), self.width, self.channels
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape != shape:
            raise UsageError(
                "rows of a picture are not as many uint8 samples as it says",
                first=first,
                shape=list(np.shape(rows)),
                dtype=str(getattr(rows, "dtype", type(rows).__name__)),
                expected=list(shape),
            )
        return rows


def check_samples(samples: np.ndarray) -> None:
    """(SPEC 4.1) Refuse anything but uint8 [H, W] or [H, W, 2..4] with sides of 1..MAX_SIDE.

    Raises
    ------
    UsageError
        Another dtype or shape.
    """
    fits = (
        isinstance(samples, np.ndarray)
        and samples.dtype == np.uint8
        and samples.ndim in (2, 3)
        and samples.shape[2:] in ((), (2,), (3,), (4,))
        and min(samples.shape[:2]) >= 1
        and max(samples.shape[:2]) <= MAX_SIDE
    )
    if not fits:
        raise UsageError(
            "a picture is uint8 [H, W], or [H, W, C] with 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha) channels",
            shape=list(np.shape(samples)),
            dtype=str(getattr(samples, "dtype", type(samples).__name__)),
            max_side=MAX_SIDE,
        )


def pad_samples(samples: np.ndarray) -> np.ndarray:
    """(SPEC 4.2) Samples to planes: grey becomes three equal channels, the last row and column are repeated.

    Parameters
    ----------
    samples : np.ndarray [H, W, 3] or [H, W], uint8
        The picture.

    Returns
    -------
    np.ndarray [Hp, Wp, 4], int16
        Values 0..255; Hp and Wp are the next multiples of 64. The fourth channel is zero: channels come in fours.

    Raises
    ------
    UsageError
        As `check_samples`.
    """
    check_samples(samples)
    height, width = samples.shape[:2]
    planes = np.empty((padded(height), padded(width), 4), np.int16)
    pad_rows(samples, 0, planes)
    return planes


def pad_rows(samples: np.ndarray, first: int, out: np.ndarray) -> None:
    """(SPEC 4.2) Pad consecutive rows of a picture: a part of `pad_samples`.

    Parameters
    ----------
    samples : np.ndarray [H, W], [H, W, 1] or [H, W, 3], uint8
    first : int
        The first row of the result; rows beyond H - 1 repeat that row.
    out : np.ndarray [n, Wp, 4], int16
        Receives the rows. The fourth channel is set to zero.
    """
    height, width = samples.shape[:2]
    there = max(0, min(height - first, out.shape[0]))
    source = samples if samples.ndim == 3 else samples[:, :, np.newaxis]
    out[:, :, 3] = 0
    out[:there, :width, :3] = source[first : first + there]
    out[there:, :width, :3] = source[height - 1]
    out[:, width:] = out[:, width - 1 : width]


def padding(
    rows: Callable[[int, int], np.ndarray], height: int, pad: Callable[[np.ndarray, int, np.ndarray], None] = pad_rows
) -> Callable[[int, np.ndarray], None]:
    """(SPEC 4.2-3) A function (first row, out [n, Wp, 4]) that pads rows of colour samples.

    Parameters
    ----------
    rows : callable(first, count)
        Gives rows [n, W, 1 or 3] uint8.
    height : int
        Rows of the picture.
    pad : callable
        `pad_rows`, or one that is measured.

    Returns
    -------
    callable(first, out)
        Writes padded rows ``first`` and on into ``out`` [n, Wp, 4], int16.
    """

    def fill(first: int, out: np.ndarray) -> None:
        start = min(first, height - 1)
        pad(rows(start, min(out.shape[0], height - start)), 0, out)

    return fill


def crop_samples(planes: np.ndarray, height: int, width: int, channels: int) -> np.ndarray:
    """(SPEC 4.3) Planes to samples: the upper left part; grey is (R + 2 G + B + 2) >> 2.

    Parameters
    ----------
    planes : np.ndarray [Hp, Wp, 3], uint8
        The synthesised planes; Hp >= height, Wp >= width.
    height, width : int
        Size of the picture.
    channels : int
        1 or 3.

    Returns
    -------
    np.ndarray [height, width] or [height, width, 3], uint8
        A new array. The weighted sum is at most 4 * 255 + 2, so grey stays in 0..255.
    """
    cropped = planes[:height, :width, :3]
    if channels == 3:
        return np.ascontiguousarray(cropped)
    red, green, blue = (cropped[:, :, c].astype(np.uint16) for c in range(3))
    return ((red + 2 * green + blue + 2) >> 2).astype(np.uint8)


__all__ = [
    "ArrayRows",
    "CheckedRows",
    "SampleRows",
    "check_samples",
    "crop_samples",
    "pad_rows",
    "pad_samples",
    "padding",
]
