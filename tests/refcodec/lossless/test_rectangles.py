"""Rectangles without loss (SPEC 8.11): strips, regions, lists that are refused and what a refusal costs."""

import struct
import time
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refcodec.errors import ChunkError, UsageError
from refcodec.lossless import rectangles as module
from refcodec.lossless.rectangles import (
    MAX_ABREAST,
    Rectangle,
    Rectangles,
    fault,
    longest_rectangles,
    most_rectangles,
    pack_rectangles,
)

same = settings(derandomize=True, deadline=None, max_examples=25)


def source(samples):
    return lambda first, count: samples[first : first + count]


@dataclass
class Case:
    """A picture, rectangles in it, and what decoding gives."""

    stored: np.ndarray
    decoded: np.ndarray
    rectangles: list[Rectangle]

    @property
    def payload(self) -> bytes:
        """The payload of LOSS."""
        height, width, channels = self.stored.shape
        return pack_rectangles(self.rectangles, source(self.stored), width, height, channels)

    @property
    def expected(self) -> np.ndarray:
        """The samples after decoding."""
        result = self.decoded.copy()
        for y, x, w, h in self.rectangles:
            result[y : y + h, x : x + w] = self.stored[y : y + h, x : x + w]
        return result

    def reader(self) -> Rectangles:
        """A reader of the payload."""
        height, width, channels = self.stored.shape
        return Rectangles(self.payload, width, height, channels)


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


@st.composite
def cases(draw) -> Case:
    height, width, channels = draw(st.integers(1, 200)), draw(st.integers(1, 200)), draw(st.sampled_from((1, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    stored, decoded = rng.integers(0, 256, (2, height, width, channels), np.uint8)
    found: list[Rectangle] = []
    for _ in range(10):
        y, x = int(rng.integers(height)), int(rng.integers(width))
        new = Rectangle(y, x, int(rng.integers(1, width - x + 1)), int(rng.integers(1, height - y + 1)))
        if len(found) < most_rectangles(height, width) and not any(overlap(new, old) for old in found):
            found.append(new)
    return Case(stored >> 6, decoded, sorted(found))


@same
@given(cases(), st.integers(1, 210))
def test_strips_of_any_height_give_the_stored_samples(case, rows):
    result = case.decoded.copy()
    reader = case.reader()
    for first in range(0, len(result), rows):
        reader.apply(result[first : first + rows], first)
    assert np.array_equal(result, case.expected)
    height, width, channels = result.shape
    assert len(case.payload) <= longest_rectangles(height, width, channels)


@same
@given(cases(), st.integers(1, 210), st.data())
def test_a_region_is_the_crop_of_the_whole(case, rows, data):
    height, width, _ = case.stored.shape
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    h, w = data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x))
    region, reader = case.decoded[y : y + h, x : x + w].copy(), case.reader()
    for first in range(0, h, rows):
        reader.apply(region[first : first + rows], y + first, x)
    assert np.array_equal(region, case.expected[y : y + h, x : x + w])


def test_grey_samples_may_have_two_dimensions():
    stored = np.full((70, 70, 1), 9, np.uint8)
    reader = Case(stored, stored, [Rectangle(1, 2, 3, 4)]).reader()
    samples = np.zeros((70, 70), np.uint8)
    reader.apply(samples, 0)
    assert samples.sum() == 9 * 12


def test_a_region_does_not_inflate_rectangles_that_it_does_not_meet():
    stored = np.random.default_rng(0).integers(0, 256, (128, 128, 1), np.uint8)
    case = Case(
        stored, np.zeros_like(stored), [Rectangle(0, 0, 64, 64), Rectangle(0, 64, 64, 128), Rectangle(64, 0, 64, 64)]
    )
    payload = bytearray(case.payload)
    payload[100:2000] = bytes(1900)  # in the first
    region = np.zeros((128, 64, 1), np.uint8)
    Rectangles(payload, 128, 128, 1).apply(region, 0, 64)
    assert np.array_equal(region, stored[:, 64:])
    with pytest.raises(ChunkError):
        Rectangles(payload, 128, 128, 1).apply(np.zeros((128, 128, 1), np.uint8), 0)


@same
@given(st.lists(st.tuples(*[st.integers(0, 12)] * 4), min_size=1, max_size=9))
def test_the_sweep_finds_the_first_fault(entries):
    rectangles = [Rectangle(*entry) for entry in entries]

    def plain(i: int) -> str | None:
        y, x, w, h = rectangles[i]
        if not w or not h or x + w > 14 or y + h > 14:
            return "inside"
        if i and (y, x) <= rectangles[i - 1][:2]:
            return "order"
        return "overlap" if any(overlap(rectangles[i], rectangles[j]) for j in range(i)) else None

    expected = next(((i, found) for i in range(len(rectangles)) if (found := plain(i))), None)
    found = fault(rectangles, 14, 14)
    assert (found is None) == (expected is None)
    if found and expected:
        assert found[0] == expected[0] and expected[1] in found[1]


def packed_list(*entries: tuple[int, ...], count: int | None = None, rest: bytes = b"") -> bytes:
    """A list of (x, y, width, height, length)."""
    number = len(entries) if count is None else count
    return struct.pack("<I", number) + b"".join(struct.pack("<5I", *entry) for entry in entries) + rest


FAULTS = {
    "empty": (b"", "cut short", 0),
    "half a count": (b"\1\0", "cut short", 0),
    "no rectangle": (packed_list(), "too few or too many", 0),
    "more than blocks": (packed_list(count=7), "too few or too many", 0),
    "2^32 - 1": (packed_list(count=2**32 - 1), "too few or too many", 0),
    "list cut short": (packed_list((0, 0, 1, 1, 9), count=2), "cut short", 0),
    "no width": (packed_list((0, 0, 0, 1, 0)), "empty or not inside", 4),
    "no height": (packed_list((0, 0, 1, 0, 0)), "empty or not inside", 4),
    "beyond the right": (packed_list((100, 0, 51, 1, 0)), "empty or not inside", 4),
    "beyond the bottom": (packed_list((0, 99, 1, 2, 0)), "empty or not inside", 4),
    "2^32 wraps": (packed_list((2**32 - 1, 0, 2, 1, 0)), "empty or not inside", 4),
    "order of rows": (packed_list((0, 5, 1, 1, 0), (0, 4, 1, 1, 0)), "raster order", 24),
    "order of columns": (packed_list((5, 5, 1, 1, 0), (4, 5, 1, 1, 0)), "raster order", 24),
    "twice": (packed_list((5, 5, 1, 1, 0), (5, 5, 1, 1, 0)), "raster order", 24),
    "overlap left": (packed_list((0, 0, 10, 10, 0), (9, 9, 1, 1, 0)), "overlap", 24),
    "overlap right": (packed_list((50, 0, 10, 10, 0), (40, 5, 11, 1, 0)), "overlap", 24),
    "overlap all": (packed_list((50, 0, 10, 10, 0), (40, 5, 110, 1, 0)), "overlap", 24),
    "samples missing": (packed_list((0, 0, 1, 1, 9), rest=bytes(8)), "too early or too late", 24),
    "samples left over": (packed_list((0, 0, 1, 1, 9), rest=bytes(10)), "too early or too late", 24),
    "lengths wrap": (
        packed_list((0, 0, 1, 1, 2**32 - 1), (3, 0, 1, 1, 10), rest=bytes(9)),
        "too early or too late",
        44,
    ),
}


@pytest.mark.parametrize(("payload", "what", "place"), FAULTS.values(), ids=FAULTS)
def test_damaged_lists_are_refused_with_their_place(payload, what, place):
    with pytest.raises(ChunkError, match=what) as caught:
        Rectangles(payload, 150, 100, 1, at=500)
    assert caught.value.where == f"byte {500 + place} (SPEC 8.11)"


def test_damage_of_samples_names_the_byte_in_the_stream():
    payload = packed_list((0, 0, 2, 2, 3), rest=b"\x09\0\0")
    with pytest.raises(ChunkError, match="unknown kind") as caught:
        Rectangles(payload, 150, 100, 1, at=500).apply(np.zeros((100, 150), np.uint8), 0)
    assert caught.value.where.startswith("byte 524 ")


def test_rectangles_that_share_a_row_are_bounded():
    wide = [Rectangle(0, 2 * i, 1, 1) for i in range(MAX_ABREAST + 1)]
    assert fault(wide[:-1], 1 << 20, 1) is None
    assert fault(wide, 1 << 20, 1) == (MAX_ABREAST, f"more than {MAX_ABREAST} rectangles share a row")
    assert fault([*wide[:-1], Rectangle(1, 0, 1, 1)], 1 << 20, 2) is None


@pytest.mark.parametrize("columns", [1, 64, MAX_ABREAST])
def test_long_lists_are_judged_in_little_time_and_memory(columns):
    count = 1 << 16
    entries = [(2 * (i % columns), i // columns, 1, 1, 0) for i in range(count)]
    payload = packed_list(*entries[:-1], (*entries[-1][:4], 1))
    begin = time.process_time()
    with pytest.raises(ChunkError, match="too early"):
        Rectangles(payload, 1 << 15, 1 << 17, 3)
    assert time.process_time() - begin < 5
    tracemalloc.start()
    with pytest.raises(ChunkError, match="too few or too many"):
        Rectangles(payload, 64, 64, 3)
    assert tracemalloc.get_traced_memory()[1] < 1 << 16
    tracemalloc.stop()


@pytest.mark.parametrize(
    "rectangles",
    [
        [],
        [Rectangle(0, 0, 65, 1)],
        [Rectangle(0, 0, 9, 9), Rectangle(1, 1, 1, 1)],
        [Rectangle(1, 0, 1, 1), Rectangle(0, 0, 1, 1)],
    ],
)
def test_the_encoder_refuses_what_a_decoder_would(rectangles):
    samples = np.zeros((128, 64, 1), np.uint8)
    with pytest.raises(UsageError):
        pack_rectangles(rectangles, source(samples), 64, 128, 1)


def test_as_many_rectangles_as_there_are_blocks():
    assert [most_rectangles(*size) for size in ((1, 1), (64, 65), (1 << 20, 1 << 12))] == [1, 2, 1 << 16]
    assert module.BLOCK == 64
