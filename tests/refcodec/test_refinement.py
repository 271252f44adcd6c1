"""Refinement as far as refcodec goes: what is refused, what counts. The gradients are tested next to the twin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refcodec
from conformance.kit.suites import KIT
from refcodec.errors import Unsupported, UsageError
from refcodec.lossless.rectangles import Rectangle
from refcodec.model.registry import load_model
from refcodec.planes import ArrayRows
from refcodec.refinement import MOST_STEPS, Seen, SeenErrors, check_steps, error_weight, slope
from refcodec.stored import Colours

WITHOUT = "import sys; sys.modules[{name!r}] = None; from refcodec.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("name", ["torch", "weights_converter"])
def test_without_pytorch_or_the_converter_refinement_is_refused_and_nothing_is_written(tmp_path: Path, name: str):
    picture, out = tmp_path / "p.png", tmp_path / "p.loclic"
    Image.fromarray(np.full((9, 7, 3), 90, np.uint8)).save(picture)
    command = [sys.executable, "-c", WITHOUT.format(name=name), "encode", str(picture), str(out)]
    done = subprocess.run([*command, "--refine", "2", "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == Unsupported.exit_code, done.stderr
    assert "refcodec[train]" in json.loads(done.stdout)["cause"] and not out.exists()
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0  # and coding needs neither


@pytest.mark.parametrize("steps", [-1, MOST_STEPS + 1, 1.5, True, "10", None])
def test_what_is_no_number_of_steps_is_refused(steps):
    with pytest.raises(UsageError):
        check_steps(steps, load_model())


def test_a_picture_without_loss_has_nothing_to_refine(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match="without loss"):
        refcodec.encode(picture, lossless=True, refine=1)
    Image.fromarray(picture).save(tmp_path / "p.png")
    with pytest.raises(UsageError, match="lossless"):
        refcodec.encode_file(tmp_path / "p.png", tmp_path / "p.loclic", lossless=True, refine=1)
    assert check_steps(0, None) == 0


def test_a_model_of_one_quality_is_refused():
    with pytest.raises(Unsupported, match="several qualities"):
        check_steps(1, refcodec.load_model(KIT / "models" / "nano-7.h5"))


def test_errors_count_where_the_picture_is_seen():
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 256, (20, 10, 4), np.uint8)
    samples[:, :, 3] = np.where(rng.random((20, 10)) < 0.5, 0, 255)
    source = ArrayRows(samples)
    seen = Seen(Colours(source), source, [Rectangle(4, 2, 3, 9)])
    counted = samples[:, :, 3] > 0
    counted[4:13, 2:5] = False
    for each in (1, 7, 20):
        errors, rows = SeenErrors(seen), []
        for first in range(0, 20, each):
            rows.append(seen.rows(first, each))
            errors.add(first, np.zeros_like(rows[-1][:, :, :3]))
        whole = np.concatenate(rows)
        assert (whole[:, :, :3] == samples[:, :, :3]).all() and ((whole[:, :, 3] > 0) == counted).all()
        assert errors.total == np.square(samples[counted][:, :3].astype(int)).sum()


def test_the_slope_is_the_pictures_own_within_bounds():
    trained = error_weight(60)
    assert slope((1000, 90_000), (1500, 50_000), 60) == pytest.approx(500 / 40_000)
    assert slope((1000, 90_000), (1500, 89_999), 60) == 4 * trained
    assert slope((1000, 90_000), (1001, 10_000), 60) == trained / 4
    assert slope((1000, 90_000), (900, 10_000), 60) == slope((1000, 1), (1100, 2), 60) == trained


def test_an_error_is_worth_more_at_a_higher_quality():
    assert error_weight(1) == pytest.approx(0.0006) and error_weight(100) == pytest.approx(0.06)
    assert all(error_weight(step) < error_weight(step + 1) for step in range(1, 100))
