"""refcodec.targets: PSNR of a reconstruction that arrives in strips, and searches for a size or a PSNR."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import random_picture

import refcodec
from refcodec import targets
from refcodec.errors import UsageError
from refcodec.measure.metrics import psnr
from refcodec.model.registry import load_model
from refcodec.planes import ArrayRows
from refcodec.targets import NEIGHBOURS, Fidelity, Target, best_fit

SCENE = Path(__file__).parents[2] / "conformance" / "data" / "pictures" / "scene.png"
A, B = np.random.default_rng(9).integers(0, 256, (2, 30, 17, 4), dtype=np.uint8)


@pytest.mark.parametrize("band", [1, 100, 1 << 20])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_fidelity_is_that_of_the_whole_picture(monkeypatch, channels, band):
    monkeypatch.setattr(targets, "BAND", band)
    a, b = (x[:, :, 0] if channels == 1 else np.ascontiguousarray(x[:, :, :channels]) for x in (A, B))
    fidelity = Fidelity(ArrayRows(a))
    for first, end in ((0, 7), (7, 8), (8, 30)):
        fidelity(first, b[first:end])
    assert fidelity.sha256 == hashlib.sha256(b.tobytes()).hexdigest()
    if channels in (2, 4):
        seen = a[:, :, -1] > 0
        a, b = a[seen][:, :-1], b[seen][:, :-1]
        error = np.mean((a.astype(int) - b) ** 2)
        assert math.isclose(fidelity.psnr, 10 * math.log10(255**2 / error))
    else:
        assert math.isclose(fidelity.psnr, psnr(a, b))


def test_equal_and_invisible_pictures_have_no_error():
    equal = Fidelity(ArrayRows(A))
    equal(0, A)
    invisible = A.copy()
    invisible[:, :, 3] = 0
    hidden = Fidelity(ArrayRows(invisible))
    hidden(0, B)
    assert equal.psnr == hidden.psnr == math.inf


@pytest.mark.parametrize("allowed", [0, 1, 50, 99, 100, 1000])
def test_the_highest_quality_that_fits_is_found(allowed):
    coded = []
    quality, found, least = best_fit(lambda q: coded.append(q) or q, 100, lambda value: value - allowed)
    assert (quality, found) == ((min(allowed, 100), min(allowed, 100)) if allowed else (1, None))
    assert least == max(1, min(allowed, 100)) - allowed
    assert len(coded) == len(set(coded)) <= 7 + NEIGHBOURS


def test_a_quality_that_fits_beyond_one_that_does_not_is_found():
    quality, _, _ = best_fit(lambda q: [1, 2, 9, 4, 9, 9, 9, 9][q - 1], 8, lambda value: value - 5)
    assert quality == 4


def test_a_psnr_is_reached_by_the_smallest_stream(model):
    source = ArrayRows(random_picture(40, 56))
    reached = {q: targets.code(source, Target(q), model, rectangles=False).trial for q in (1, 40, 100)}
    dbs = {q: trial.fidelity.psnr for q, trial in reached.items()}
    wanted = dbs[40] - 1e-9
    found = targets.code(source, Target(psnr=wanted), model, rectangles=False)
    assert found.trial.fidelity.psnr >= wanted
    shown = refcodec.decode(found.trial.coded.data, model=model).astype(float)
    assert math.isclose(psnr(source.samples, shown.astype(np.uint8)), found.trial.fidelity.psnr)  # of decoded samples
    with pytest.raises(UsageError, match="no quality has this PSNR") as refused:
        targets.code(source, Target(psnr=90), model, rectangles=False)
    assert refused.value.values["best"] >= round(max(dbs.values()), 2) - 0.5
    assert targets.code(source, Target(lossless=True), None).trial.fidelity.psnr == math.inf


def text_like(height=192, width=256):
    """Black strokes on white, whose shapes repeat."""
    samples = np.full((height, width), 255, np.uint8)
    for top in range(8, height - 8, 12):
        for left in range(8, width - 8, 7):
            samples[top : top + 7, left : left + 1 + (top * left) % 3] = 0
    return samples


def test_a_psnr_of_graphics_is_reached_without_loss_where_that_is_smallest(model):
    source = ArrayRows(text_like())
    exact = targets.code(source, Target(lossless=True), None)
    found = targets.code(source, Target(psnr=30), model)
    assert found.quality == 0 and found.trial.coded.data == exact.trial.coded.data and "without loss" in found.note
    assert targets.code(source, Target(psnr=1e9), model).quality == 0  # no error, and no PSNR is more
    low = targets.code(source, Target(psnr=1), model)
    assert len(low.trial.coded.data) <= len(exact.trial.coded.data)
    with pytest.raises(UsageError, match="reaches up to"):
        targets.code(source, Target(psnr=1e9), model, rectangles=False)


def test_a_psnr_out_of_reach_is_answered_by_what_is_in_reach(model):
    with pytest.raises(UsageError) as refused:
        targets.code(ArrayRows(random_picture(40, 56)), Target(psnr=1e9), model)
    best = refused.value.values["best"]
    assert f"up to {best:g} dB" in str(refused.value) and "--lossless" in str(refused.value)
    assert targets.code(ArrayRows(random_picture(40, 56)), Target(psnr=best - 0.01), model).quality > 0


def test_one_thing_is_asked_for():
    for asked in ({"quality": 5, "lossless": True}, {"size": 9, "bpp": 1.0}, {"psnr": 30, "quality": 5}):
        with pytest.raises(UsageError, match="only one"):
            Target(**asked)
    for asked in ({"quality": "high"}, {"size": 1.5}, {"psnr": -1}, {"bpp": math.inf}, {"psnr": math.nan}):
        with pytest.raises(UsageError, match="positive"):
            Target(**asked)
    assert not Target().searched and not Target(7).searched and Target(psnr=30).searched


@pytest.mark.slow
def test_a_psnr_of_a_photograph_is_reached_by_a_smaller_stream_than_the_next_quality():
    scene = np.asarray(Image.open(SCENE).convert("RGB"))
    source = ArrayRows(scene)
    default = load_model("default")
    found = targets.code(source, Target(psnr=30), default)
    below = targets.code(source, Target(found.quality - 1), default)
    assert below.trial.fidelity.psnr < 30 <= found.trial.fidelity.psnr < 30.3
    assert len(below.trial.coded.data) < len(found.trial.coded.data)
