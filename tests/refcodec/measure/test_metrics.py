"""refcodec.measure.metrics against definitions written out directly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refcodec.errors import UsageError
from refcodec.measure import metrics


def picture(height: int, width: int, seed: int, channels: int = 3) -> np.ndarray:
    random = np.random.default_rng(seed)
    shape = (height, width, 3) if channels == 3 else (height, width)
    smooth = np.add.outer(np.arange(height), 2 * np.arange(width)) % 200
    noise = random.integers(0, 56, shape)
    return ((smooth if channels == 1 else smooth[:, :, None]) + noise).astype(np.uint8)


def test_psnr_of_a_known_error():
    a = np.zeros((2, 2, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 6  # mse 36 / 12 = 3
    assert metrics.mse(a, b) == 3
    assert metrics.psnr(a, b) == pytest.approx(10 * math.log10(65025 / 3), rel=1e-15)
    assert metrics.psnr(a, a) == math.inf
    assert metrics.psnr(np.zeros((1, 1), np.uint8), np.full((1, 1), 255, np.uint8)) == 0


def test_compare_counts_and_serialises():
    a = picture(20, 30, 1)
    b = a.copy()
    b[3, 4, 1] ^= 64
    b[5, 6, 0] ^= 1
    result = metrics.compare(a, b)
    assert (result.largest_difference, result.differing_samples, result.bit_exact) == (64, 2, False)
    assert result.mse == pytest.approx((64**2 + 1) / 1800)
    same = metrics.compare(a, a).as_dict()
    assert same["bit_exact"] and same["psnr"] is None and same["ms_ssim"] == pytest.approx(1)
    assert (same["width"], same["height"], same["channels"]) == (30, 20, 3)


def direct_ms_ssim(x: np.ndarray, y: np.ndarray, scales: int) -> float:
    """Every window summed by itself."""
    x, y = x.astype(float), y.astype(float)
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    weights /= weights.sum()
    result = 1.0
    for scale in range(scales):
        rows, columns = (min(11, side) for side in x.shape)
        gauss = [np.exp(-((np.arange(n) - (n - 1) / 2) ** 2) / 4.5) for n in (rows, columns)]
        window = np.outer(*gauss)
        window /= window.sum()
        views = [np.lib.stride_tricks.sliding_window_view(p, (rows, columns)) for p in (x, y)]
        mx, my = (np.einsum("ijkl,kl->ij", v, window) for v in views)
        dx, dy = views[0] - mx[..., None, None], views[1] - my[..., None, None]
        vx, vy, cov = (np.einsum("ijkl,ijkl,kl->ij", p, q, window) for p, q in ((dx, dx), (dy, dy), (dx, dy)))
        contrast = (2 * cov + 58.5225) / (vx + vy + 58.5225)
        luminance = (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
        mean = np.mean(contrast * luminance if scale == scales - 1 else contrast)
        result *= max(mean, 0) ** weights[scale]
        if scale < scales - 1:
            x, y = (np.pad(p, [(0, s % 2) for s in p.shape], mode="edge") for p in (x, y))
            x, y = (p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean((1, 3)) for p in (x, y))
    return result


@pytest.mark.parametrize(
    ("height", "width", "scales"),
    [
        (177, 179, 5),
        (175, 181, 4),
        (88, 90, 4),
        (45, 43, 2),
        (44, 60, 3),
        (11, 30, 1),
        (10, 23, 1),
        (1, 7, 1),
        (1, 1, 1),
    ],
)
def test_ms_ssim_equals_its_definition(height, width, scales):
    a, b = picture(height, width, 2), picture(height, width, 3)
    grey, *others = (direct_ms_ssim(a[:, :, c], b[:, :, c], scales) for c in range(3))
    assert metrics.ms_ssim(a, b) == pytest.approx(np.mean([grey, *others]), rel=1e-8)
    assert metrics.ms_ssim(np.ascontiguousarray(a[:, :, 0]), np.ascontiguousarray(b[:, :, 0])) == pytest.approx(
        grey, rel=1e-8
    )


def test_ms_ssim_falls_with_noise():
    a = picture(64, 64, 4, 1)
    noise = np.random.default_rng(5).normal(size=a.shape)
    values = [metrics.ms_ssim(a, np.clip(a + level * noise, 0, 255).astype(np.uint8)) for level in (0, 4, 16, 64)]
    assert values[0] == pytest.approx(1)
    assert values == sorted(values, reverse=True)
    assert values[3] < 0.8
    assert metrics.ms_ssim(a, 255 - a) == 0  # contrast terms are negative


def test_heatmap_marks_the_largest_difference_white():
    a = np.zeros((4, 5, 3), np.uint8)
    b = a.copy()
    b[1, 2] = (3, 30, 0)
    b[2, 2, 0] = 10
    heat = metrics.heatmap(a, b)
    assert heat.shape == (4, 5, 3) and heat.dtype == np.uint8
    assert heat[1, 2].tolist() == [255, 255, 255] and heat[2, 2].tolist() == [255, 0, 0]
    assert np.count_nonzero(heat.any(axis=2)) == 2
    assert not metrics.heatmap(a[:, :, 0].copy(), a[:, :, 0].copy()).any()


@pytest.mark.parametrize("function", [metrics.compare, metrics.psnr, metrics.ms_ssim, metrics.heatmap])
def test_only_pictures_of_one_shape_are_compared(function):
    a = np.zeros((4, 5, 3), np.uint8)
    for b in (np.zeros((5, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.int16)):
        with pytest.raises(UsageError):
            function(a, b)
