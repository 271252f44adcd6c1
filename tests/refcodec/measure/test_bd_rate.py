"""refcodec.measure.bd_rate against definitions written out directly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refcodec.errors import UsageError
from refcodec.measure.bd_rate import bd_rate

RATES = np.array([0.1, 0.2, 0.4, 0.7, 1.1, 1.8])
PSNRS = np.array([26.0, 28.5, 31.1, 33.0, 35.2, 37.9])


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.floats(0.3, 3), st.permutations(range(6)))
def test_bd_rate_of_a_scaled_curve_is_the_scale(factor, order):
    value = bd_rate(RATES, PSNRS, factor * RATES[list(order)], PSNRS[list(order)])
    assert value == pytest.approx(100 * (factor - 1), abs=1e-9)


def test_bd_rate_of_two_straight_lines():
    # log2(rate): a = (p - 30) / 5, b = (p - 31) / 4; over 25..40 the mean of b - a is the integral below over 15.
    a, b = np.linspace(20, 40, 9), np.linspace(25, 45, 7)
    expected = ((40 - 31) ** 2 - (25 - 31) ** 2) / 8 - ((40 - 30) ** 2 - (25 - 30) ** 2) / 10
    value = bd_rate(2 ** ((a - 30) / 5), a, 2 ** ((b - 31) / 4), b)
    assert value == pytest.approx(100 * (2 ** (expected / 15) - 1), rel=1e-9)


def test_bd_rate_between_rates():
    # Same lines at rates 1/2..2: a covers 25..35, b covers 27..35.
    a, b = np.linspace(15, 45, 9), np.linspace(15, 45, 7)
    expected = ((35 - 31) ** 2 - (27 - 31) ** 2) / 8 - ((35 - 30) ** 2 - (27 - 30) ** 2) / 10
    curves = (2 ** ((a - 30) / 5), a, 2 ** ((b - 31) / 4), b)
    assert bd_rate(*curves, rates=(0.5, 2)) == pytest.approx(100 * (2 ** (expected / 8) - 1), rel=1e-9)
    assert math.isnan(bd_rate(*curves, rates=(1e6, 2e6)))


def test_bd_rate_leaves_out_points_that_others_better():
    rates, psnrs = np.append(RATES, [0.5, 0.4, 3.0]), np.append(PSNRS, [30.0, 31.0, math.inf])
    assert bd_rate(RATES, PSNRS, rates, psnrs) == pytest.approx(0, abs=1e-9)


def test_bd_rate_without_common_interval_is_nan():
    assert math.isnan(bd_rate(RATES, PSNRS, RATES, PSNRS + 40))
    assert math.isnan(bd_rate(RATES, PSNRS, [1.0], [30.0]))
    assert math.isnan(bd_rate([], [], RATES, PSNRS))


def test_bd_rate_refuses_what_is_no_curve():
    with pytest.raises(UsageError):
        bd_rate(RATES, PSNRS[:-1], RATES, PSNRS)
    with pytest.raises(UsageError):
        bd_rate(RATES, PSNRS, [0.0, 1.0], [20.0, 30.0])
