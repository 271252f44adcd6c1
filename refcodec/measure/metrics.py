"""How far two pictures are apart: measurements in floating point, on which no coded byte depends."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..planes import check_samples

# SciPy is imported where it is used: half a second that decoding need not spend.

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang, Simoncelli, Bovik 2003)."""

WINDOW = 11
SIGMA = 1.5


@dataclass(frozen=True)
class Comparison:
    """How two pictures of one shape differ.

    Attributes
    ----------
    width, height, channels : int
        Their shape.
    bit_exact : bool
        Every sample is equal.
    mse, psnr : float
        Mean squared error over all samples, and 10 log10(255^2 / mse) in dB, infinite where the pictures are equal.
    ms_ssim : float
        See `ms_ssim`.
    largest_difference : int
        Largest absolute difference of two samples, 0..255.
    differing_samples : int
        Number of samples that differ.
    """

    width: int
    height: int
    channels: int
    bit_exact: bool
    mse: float
    psnr: float
    ms_ssim: float
    largest_difference: int
    differing_samples: int

    def as_dict(self) -> dict[str, Any]:
        """Give the fields for JSON, where an infinite PSNR is None."""
        return asdict(self) | {"psnr": self.psnr if math.isfinite(self.psnr) else None}


def _check_pair(a: np.ndarray, b: np.ndarray) -> None:
    check_samples(a)
    check_samples(b)
    if a.shape != b.shape:
        raise UsageError(
            "only pictures of one size and number of channels can be compared",
            first=list(a.shape),
            second=list(b.shape),
        )


def compare(a: np.ndarray, b: np.ndarray) -> Comparison:
    """Measure everything there is to say about two pictures.

    Parameters
    ----------
    a, b : np.ndarray [H, W] or [H, W, C], uint8
        The pictures, of one shape.

    Raises
    ------
    UsageError
        The shapes differ, or an array is not a picture.
    """
    _check_pair(a, b)
    difference = np.abs(a.astype(np.int16) - b)
    largest = int(difference.max())
    return Comparison(
        a.shape[1],
        a.shape[0],
        1 if a.ndim == 2 else a.shape[2],
        largest == 0,
        mse(a, b),
        psnr(a, b),
        ms_ssim(a, b),
        largest,
        int(np.count_nonzero(difference)),
    )


def mse(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared error over all samples of all channels; raises as `compare`."""
    _check_pair(a, b)
    difference = a.astype(np.int32) - b
    return int(np.sum(difference * difference, dtype=np.int64)) / a.size


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255^2 / mse); infinite for equal pictures. Raises as `compare`."""
    error = mse(a, b)
    return 10 * math.log10(255 * 255 / error) if error else math.inf


def heatmap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Picture where two pictures differ: black where equal, over red and yellow to white at the largest difference.

    Parameters
    ----------
    a, b : np.ndarray [H, W] or [H, W, C], uint8
        The pictures, of one shape; of three channels the largest difference counts.

    Returns
    -------
    np.ndarray [H, W, 3], uint8
        Red, green and blue rise one after the other, each over a third of the range.
    """
    _check_pair(a, b)
    difference = np.abs(a.astype(np.int32) - b)
    if difference.ndim == 3:
        difference = difference.max(axis=2)
    heat = difference * 765 // max(1, int(difference.max()))
    return np.stack([np.clip(heat - offset, 0, 255) for offset in (0, 255, 510)], axis=2).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------- MS-SSIM


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Multi-scale structural similarity of Wang, Simoncelli and Bovik (2003), the mean over channels.

    An 11x11 Gaussian window of sigma 1.5 at every position where it lies inside the picture, data range 255,
    K = (0.01, 0.03). Between scales means of 2x2 samples are taken, the last row or column of an odd side repeated.
    Negative contrast terms count as zero. Where a side is below 176, the window does not fit at all five scales: as
    many scales as fit are used, with weights renormalised to the sum 1; a side below 11 narrows the window to it.

    Parameters
    ----------
    a, b : np.ndarray [H, W] or [H, W, C], uint8
        The pictures, of one shape.

    Returns
    -------
    float
        1 for equal pictures.
    """
    _check_pair(a, b)
    scales = 1
    while scales < len(MS_SSIM_WEIGHTS) and min(a.shape[:2]) >= WINDOW << scales:
        scales += 1
    weights = np.array(MS_SSIM_WEIGHTS[:scales]) / sum(MS_SSIM_WEIGHTS[:scales])
    channels = [(a, b)] if a.ndim == 2 else [(a[:, :, c], b[:, :, c]) for c in range(a.shape[2])]
    return float(np.mean([_ms_ssim_channel(x.astype(np.float64), y.astype(np.float64), weights) for x, y in channels]))


def _ms_ssim_channel(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    result = 1.0
    for scale, weight in enumerate(weights):
        luminance, contrast = _ssim_maps(x, y)
        last = scale == len(weights) - 1
        result *= max(0.0, float(np.mean(luminance * contrast if last else contrast))) ** weight
        if not last:
            x, y = _halve(x), _halve(y)
    return result


def _ssim_maps(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = _window(x), _window(y)
    variances = _window(x * x) + _window(y * y) - mean_x**2 - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _window(plane: np.ndarray) -> np.ndarray:
    """Gaussian means of the windows that lie inside the plane."""
    from scipy import ndimage

    for axis in (0, 1):
        taps = min(WINDOW, plane.shape[axis])
        offsets = np.arange(taps) - (taps - 1) / 2
        gaussian = np.exp(-(offsets**2) / (2 * SIGMA**2))
        whole = ndimage.correlate1d(plane, gaussian / gaussian.sum(), axis=axis, mode="nearest")
        inside = slice(taps // 2, plane.shape[axis] - (taps - 1) // 2)
        plane = whole[inside] if axis == 0 else whole[:, inside]
    return plane


def _halve(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    plane = np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge")
    return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4
