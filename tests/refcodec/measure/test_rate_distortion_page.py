"""refcodec.measure.rate_distortion_page: equal bytes, the place of crops, the page in a file and in a browser."""

import argparse
import re

import numpy as np
import pytest
from browser import needs_browser, opened
from PIL import Image, features
from tiny_models import random_picture

from refcodec.measure import rate_distortion as rd
from refcodec.measure import rate_distortion_page as rd_page
from refcodec.measure.other_codecs import OTHERS, decode_other, encode_other
from refcodec.measure.rate_distortion_page import Coded, at_most, worst_place


@pytest.mark.parametrize("codec", [codec for codec in OTHERS if features.check(codec.feature)])
def test_the_best_that_fits_is_found(codec):
    samples = random_picture(64, 80)
    middle = codec.fine[len(codec.fine) // 3]
    size = len(encode_other(codec, middle, samples))
    found = at_most(codec, samples, size)
    assert 0.9 * size < found.size <= size and found.samples.shape == samples.shape
    smallest = at_most(codec, samples, 10)
    assert smallest.size > 10 and smallest.setting == codec.fine[0]
    assert at_most(codec, samples, 10**6).setting == codec.fine[-1]


def test_the_crop_is_where_the_errors_are():
    samples = np.zeros((500, 700, 3), np.uint8)
    wrong = samples.copy()
    wrong[250:300, 610:640] = 90
    row, column = worst_place(samples, [Coded("a", 1, 1, samples), Coded("b", 1, 1, wrong)])
    assert row <= 250 and row + rd_page.SIDE >= 300 and column <= 610 and column + rd_page.SIDE >= 640
    assert row % 16 == column % 16 == 0
    assert worst_place(samples[:50, :60, 0], [Coded("a", 1, 1, samples[:50, :60, 0])]) == (0, 0)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a folder with three pictures; JPEG replaces refcodec."""
    pytest.importorskip("matplotlib")
    tmp_path = tmp_path_factory.mktemp("page")
    folder, jpeg = tmp_path / "<i>pictures", OTHERS[0]
    folder.mkdir()
    for n in range(3):
        Image.fromarray(random_picture(40 + 8 * n, 56, n)).save(folder / f"<b>{n}.png")
    parser = argparse.ArgumentParser()
    rd.add_arguments(parser)
    words = [str(folder), "--qualities", "20,50,70", "--crops", "2", "--html", str(tmp_path / "page.html")]
    args = parser.parse_args(words)
    assert rd.run(args, lambda s, q: encode_other(jpeg, q, s), lambda data: decode_other(data, "RGB")) == 0
    return tmp_path / "page.html"


def test_the_page_holds_curves_tables_and_crops(page):
    text = page.read_text()
    codecs = sum(features.check(codec.feature) for codec in OTHERS)
    assert text.count("<svg") == 2 and text.count("<table>") == 2
    assert text.count("<figure>") == text.count('src="data:image/png') == 2 * 2 * (2 + codecs)
    assert "&lt;b&gt;0.png" in text and "&lt;b&gt;1.png" in text and "<b>" not in text and "<i>" not in text
    assert text.count("refcodec at 20") == text.count("refcodec at 50") == 2
    sizes = re.findall(r"(refcodec|JPEG) at ([0-9]+)<br>([0-9]+) bytes(?! \()", text)
    assert sizes.count(sizes[0]) >= 1 and ("JPEG", *sizes[0][1:]) in sizes  # the stand-in meets itself


@needs_browser
def test_a_browser_shows_the_page(page):
    with opened(page) as shown:
        assert shown.locator("svg").first.bounding_box()["width"] > 300
        crop = shown.locator("figure img").first
        assert crop.bounding_box()["width"] == 56
        shown.locator("#zoom").fill("3")
        assert crop.bounding_box()["width"] == 168
        shown.locator("summary").click()
        assert shown.locator("details td").first.is_visible()
