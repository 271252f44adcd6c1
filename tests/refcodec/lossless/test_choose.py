"""The encoder's choice of rectangles and what it puts under them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refcodec.lossless.choose import RECTANGLE_BITS, choose_rectangles, graphics, merged, stored_bits
from refcodec.lossless.fill import completed, filled
from refcodec.lossless.rectangles import Rectangle, fault


def source(samples):
    return lambda first, count: samples[first : first + count]


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth shapes with the noise of a camera."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:height, :width]
    smooth = 128 + 60 * np.sin(y / 37)[..., np.newaxis] * np.cos(x / 53 + np.arange(3)[:, None, None]).transpose(
        1, 2, 0
    )
    return np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)


def text(height: int, width: int) -> np.ndarray:
    """Dark strokes on white."""
    rng = np.random.default_rng(2)
    strokes = rng.random((height // 4, width // 4)) < 0.3
    grey = np.where(strokes, 20, 255).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    return grey[..., np.newaxis].repeat(3, axis=2)


def mixed() -> np.ndarray:
    """A photograph of 3x2 blocks in a page of text of 6x5 blocks."""
    page = text(320, 384)
    page[128:256, 64:256] = photograph(128, 192)
    return page


def rectangles(samples: np.ndarray, coded: np.ndarray) -> list[Rectangle]:
    """The choice if each block is coded for so many bits."""
    height, width = samples.shape[:2]
    return choose_rectangles(stored_bits(source(samples), height, width, coded), coded, height, width)


PHOTO = np.zeros((5, 6), bool)
PHOTO[2:4, 1:4] = True


def test_the_quick_look_tells_a_photograph_from_text():
    assert np.array_equal(graphics(source(mixed()), 320, 384), ~PHOTO)
    grey = photograph(100, 130)[..., :1]
    assert not graphics(source(grey), 100, 130).any()


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 1), (1, 130), (63, 129)])
def test_the_quick_look_takes_pictures_of_any_size(size):
    blocks = graphics(source(np.zeros((*size, 3), np.uint8)), *size)
    assert blocks.shape == (-(-size[0] // 64), -(-size[1] // 64))
    assert blocks.all()


def test_text_becomes_rectangles_and_a_photograph_does_not():
    coded = np.full((5, 6), 12e3)
    found = rectangles(mixed(), coded)
    covered = np.zeros((5, 6), int)
    for y, x, w, h in found:
        covered[y // 64 : (y + h) // 64, x // 64 : (x + w) // 64] += 1
    assert np.array_equal(covered, ~PHOTO)
    assert fault(found, 384, 320) is None
    assert rectangles(photograph(320, 384), coded) == []


def test_a_picture_that_is_all_text_becomes_one_rectangle():
    assert rectangles(text(300, 400), np.full((5, 7), 12e3)) == [Rectangle(0, 0, 400, 300)]


def test_what_the_codec_does_well_stays_with_it():
    page = text(320, 384)
    assert rectangles(page, np.full((5, 6), 45.0)) == []
    assert np.isinf(stored_bits(source(page), 320, 384, np.zeros((5, 6)))).all()


def test_a_caption_in_a_large_photograph_is_not_worth_a_second_encoding():
    picture, coded = photograph(640, 640), np.full((10, 10), 9e3)
    picture[576:, :64] = text(64, 64)
    assert np.argwhere(stored_bits(source(picture), 640, 640, coded) < coded).tolist() == [[9, 0]]
    assert rectangles(picture, coded) == []


def test_a_dear_block_beside_graphics_is_looked_at_although_it_looks_like_a_photograph():
    picture = text(64, 128)
    picture[:, 64:104] = photograph(64, 40)
    assert graphics(source(picture), 64, 128).tolist() == [[True, False]]
    assert np.isinf(stored_bits(source(picture), 64, 128, np.full((1, 2), 9e3)))[0, 1]
    assert stored_bits(source(picture), 64, 128, np.full((1, 2), 9e4))[0, 1] < 9e4
    alone = picture[:, 64:]
    assert np.isinf(stored_bits(source(alone), 64, 64, np.full((1, 1), 9e4)))[0, 0]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_merged_blocks_never_overlap_and_always_gain(rows, columns, seed):
    rng = np.random.default_rng(seed)
    costs = rng.normal(0, 800, (rows, columns))
    costs[rng.random(costs.shape) < 0.2] = np.inf
    covered = np.zeros(costs.shape, int)
    found = merged(costs)
    for y, x, h, w in found:
        covered[y : y + h, x : x + w] += 1
        assert costs[y : y + h, x : x + w].sum() + RECTANGLE_BITS < 0
    assert covered.max(initial=0) <= 1
    assert found == sorted(found)


def test_a_block_between_two_that_gain_is_taken_along():
    costs = np.array([[-5000.0, 50.0, -5000.0]])
    assert merged(costs) == [(0, 0, 1, 3)]
    costs[0, 1] = 5000.0
    assert merged(costs) == [(0, 0, 1, 1), (0, 2, 1, 1)]


def test_the_fill_continues_what_is_around():
    picture = np.full((192, 256, 3), (250, 240, 230), np.uint8)
    picture[64:128, 64:192] = text(64, 128)
    strips = filled(source(picture), [Rectangle(64, 64, 128, 64)], 192, 256)
    assert (strips(0, 192) == (250, 240, 230)).all()
    assert np.array_equal(strips(70, 9), strips(0, 192)[70:79])


def test_the_fill_lies_between_the_values_around_and_is_smooth():
    picture = np.zeros((128, 200, 1), np.uint8)
    picture[:, 100:] = 200
    place = Rectangle(0, 64, 128, 128)
    result = filled(source(picture), [place], 128, 200)(0, 128).astype(int)
    assert np.array_equal(result[:, :64], picture[:, :64]) and np.array_equal(result[:, 192:], picture[:, 192:])
    assert result.min() >= 0 and result.max() <= 200
    assert np.abs(np.diff(result[:, 64:192, 0], axis=1)).max() <= 30


def test_without_anything_around_the_fill_is_grey():
    picture = np.zeros((10, 20, 3), np.uint8)
    assert (filled(source(picture), [Rectangle(0, 0, 20, 10)], 10, 20)(0, 10) == 128).all()
    assert (completed(np.zeros((3, 5, 1)), np.zeros((3, 5))) == 128).all()


def test_without_rectangles_the_source_stays():
    same = source(np.zeros((1, 1, 3), np.uint8))
    assert filled(same, [], 1, 1) is same
