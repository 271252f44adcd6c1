"""refcodec.reduced: means of squares, by definition, from strips of any height; the API and the command."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_models import random_picture, tiny_model

import refcodec
from refcodec.cli import main
from refcodec.errors import UsageError
from refcodec.reduced import Reduced


def mean(square: np.ndarray) -> list[int]:
    """By definition, in fractions."""
    pixels = square.reshape(-1, square.shape[-1]).tolist()
    half_up = lambda value: floor(value + Fraction(1, 2))  # noqa: E731
    if square.shape[-1] not in (2, 4):
        return [half_up(Fraction(sum(column), len(pixels))) for column in zip(*pixels, strict=True)]
    opacity = sum(pixel[-1] for pixel in pixels)
    weights = [pixel[-1] for pixel in pixels] if opacity else [1] * len(pixels)
    colours = [
        half_up(Fraction(sum(w * pixel[c] for w, pixel in zip(weights, pixels, strict=True)), sum(weights)))
        for c in range(square.shape[-1] - 1)
    ]
    return [*colours, half_up(Fraction(opacity, len(pixels)))]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 19), st.integers(1, 19), st.sampled_from([1, 2, 3, 4]), st.sampled_from([2, 4, 8, 64]))
def test_means_are_those_of_the_definition(data, height, width, channels, step):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    samples = rng.integers(0, 256, (height, width, channels)).astype(np.uint8)
    if channels in (2, 4):
        samples[..., -1] *= rng.integers(0, 2, (height, width)).astype(np.uint8)
    reduced, at = Reduced(height, width, step), 0
    while at < height:
        rows = data.draw(st.integers(1, height - at))
        reduced(at, samples[at : at + rows])
        at += rows
    wanted = [
        [mean(samples[y : y + step, x : x + step]) for x in range(0, width, step)] for y in range(0, height, step)
    ]
    assert reduced.samples.tolist() == wanted


@pytest.mark.parametrize("tile", [0, 64])
def test_the_api(tile):
    samples = random_picture(130, 90)
    data = refcodec.encode(samples, 60, model=tiny_model(), tile=tile)
    whole = refcodec.decode(data, model=tiny_model())
    small = refcodec.decode(data, model=tiny_model(), reduce=4)
    assert small.shape == (33, 23, 3) and small[0, 0].tolist() == mean(whole[:4, :4])
    part = refcodec.decode(data, model=tiny_model(), reduce=8, region=(5, 6, 40, 30))
    assert part.shape == (4, 5, 3) and part[3, 4].tolist() == mean(whole[30:36, 37:45])
    grey = refcodec.decode(refcodec.encode(samples[..., 0], lossless=True), reduce=2)
    assert grey.shape == (65, 45) and grey[0, 0] == mean(samples[:2, :2, :1])[0]
    for wrong in (0, 3, 128, 2.0, True, "2"):
        with pytest.raises(UsageError, match="power of two"):
            refcodec.decode(data, model=tiny_model(), reduce=wrong)


def test_the_command(tmp_path, capsys):
    samples = random_picture(20, 30)
    Image.fromarray(samples).save(tmp_path / "a.png")
    stream = str(tmp_path / "a.loclic")
    assert main(["encode", "--lossless", str(tmp_path / "a.png"), stream]) == 0
    assert main(["decode", "--reduce", "4", stream, str(tmp_path / "b.png"), "--verify"]) == 0
    small = np.asarray(Image.open(tmp_path / "b.png"))
    assert small.shape == (5, 8, 3) and small[0, 0].tolist() == mean(samples[:4, :4])
    assert main(["decode", "--reduce", "3", stream, str(tmp_path / "c.png")]) == 2
