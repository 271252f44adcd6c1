"""BD-rate: how far two codecs are apart, from points of rate and PSNR. SciPy is imported where it is used."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import UsageError


def bd_rate(rate_a: Any, psnr_a: Any, rate_b: Any, psnr_b: Any, rates: tuple[float, float] | None = None) -> float:
    """Bjontegaard's mean difference of rate: what curve b needs more than curve a for the same PSNR.

    The logarithm of the rate is interpolated over PSNR by monotone piecewise cubics (PCHIP), and the difference
    averaged over the PSNR interval that both curves cover. Points that cost more than another without a better PSNR
    are left out.

    Parameters
    ----------
    rate_a, psnr_a, rate_b, psnr_b : array_like [n]
        Points of the curves in any order: bits per pixel and dB.
    rates : (float, float), optional
        Count only the PSNR interval that both curves reach at rates between these two.

    Returns
    -------
    float
        Per cent; negative where b is better. NaN if the curves have no PSNR interval in common.

    Raises
    ------
    UsageError
        Rates are not positive, or the numbers of rates and PSNRs differ.
    """
    from scipy.interpolate import PchipInterpolator

    a, b = _curve(rate_a, psnr_a), _curve(rate_b, psnr_b)
    if a is None or b is None:
        return math.nan
    intervals = [_psnr_interval(curve, rates) for curve in (a, b)]
    low, high = max(start for start, _ in intervals), min(end for _, end in intervals)
    if not low < high:
        return math.nan
    integral_a, integral_b = (
        float(PchipInterpolator(quality, log_rate).integrate(low, high)) for log_rate, quality in (a, b)
    )
    return 100 * math.expm1((integral_b - integral_a) / (high - low))


def _curve(rate: Any, quality: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Log-rate and PSNR of the points that no other point betters, rising; None if fewer than two."""
    rate, quality = np.asarray(rate, np.float64), np.asarray(quality, np.float64)
    if rate.shape != quality.shape or rate.ndim != 1 or not np.all(rate > 0):
        raise UsageError(
            "a curve is as many positive rates as PSNRs", rates=list(rate.shape), psnrs=list(quality.shape)
        )
    points: list[tuple[float, float]] = []
    pairs = zip(np.log(rate).tolist(), quality.tolist(), strict=True)
    for log_rate, value in sorted(pairs, key=lambda pair: (pair[0], -pair[1])):
        if math.isfinite(value) and (not points or value > points[-1][1]):
            points.append((log_rate, value))
    if len(points) < 2:
        return None
    log_rates, values = zip(*points, strict=True)
    return np.array(log_rates), np.array(values)


def _psnr_interval(curve: tuple[np.ndarray, np.ndarray], rates: tuple[float, float] | None) -> tuple[float, float]:
    """PSNR at the ends of the curve, or where its interpolation passes the bounds of the rates."""
    from scipy.interpolate import PchipInterpolator

    log_rate, quality = curve
    ends = [float(quality[0]), float(quality[-1])]
    if rates is not None:
        interpolated = PchipInterpolator(quality, log_rate)
        bounds = [math.log(bound) for bound in rates]
        ends = [_solve(interpolated, bound, float(quality[0]), float(quality[-1])) for bound in bounds]
    return ends[0], ends[1]


def _solve(rising: Callable[[float], Any], value: float, low: float, high: float) -> float:
    """Where a rising function takes a value, or the end of low..high that comes closest."""
    from scipy.optimize import brentq

    if value <= float(rising(low)):
        return low
    if value >= float(rising(high)):
        return high
    return float(brentq(lambda at: float(rising(at)) - value, low, high))
