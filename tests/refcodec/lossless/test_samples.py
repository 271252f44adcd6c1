"""Samples without loss (SPEC 8.10): round trips, strips, and payloads that are refused."""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refcodec.errors import ChunkError, UsageError
from refcodec.lossless import filters, samples
from refcodec.lossless.codes import LEFT, UP, UP_LEFT, UP_RIGHT, Form, packed, unpacked
from refcodec.lossless.filters import Filters, filter_rows, unfilter
from refcodec.lossless.samples import (
    Colour,
    Plan,
    SamplesReader,
    _write,
    encode_samples,
    estimated_bits,
    longest_samples,
    strip_rows,
)

same = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # a patch stays for all examples
)

NEIGHBOURS = (LEFT, UP, UP_LEFT, UP_RIGHT)


def source(picture):
    return lambda first, count: picture[first : first + count]


def decoded(payload: bytes, height: int, width: int, channels: int, rows: int = 1 << 20) -> np.ndarray:
    reader = SamplesReader(payload, height, width, channels)
    parts = []
    while reader.left:
        parts.append(reader.read(min(rows, reader.left)))
    return np.concatenate(parts)


@st.composite
def pictures(draw) -> np.ndarray:
    """Noise, few colours, grey in three channels, and areas of one colour."""
    height, width, channels = draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.sampled_from((1, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(("noise", "few", "grey", "areas", "smooth")))
    if kind == "noise":
        return rng.integers(0, 256, (height, width, channels), np.uint8)
    if kind == "grey":
        return rng.integers(0, 256, (height, width, 1), np.uint8).repeat(channels, axis=2)
    if kind == "smooth":
        ramp = np.add.outer(np.arange(height), 2 * np.arange(width)) + rng.integers(0, 2, (height, width))
        return (ramp[..., np.newaxis] * np.arange(1, channels + 1)).astype(np.uint8)
    colours = rng.integers(0, 256, (draw(st.sampled_from((1, 2, 5, 16, 17, 200, 256, 300))), channels), np.uint8)
    size = (height, width) if kind == "few" else (-(-height // 4), -(-width // 4))
    picture = colours[rng.integers(0, len(colours), size)]
    return picture if kind == "few" else picture.repeat(4, axis=0).repeat(4, axis=1)[:height, :width].copy()


def by_definition(filtered, filters, above):
    """PNG's filters undone byte by byte."""
    n, width, size = filtered.shape
    known = np.zeros((n + 1, width + 1, size), np.int64)
    known[0, 1:] = above
    for r, i, s in np.ndindex(n, width, size):
        a, b, c = (int(v) for v in (known[r + 1, i, s], known[r, i + 1, s], known[r, i, s]))
        p = a + b - c
        nearest = min((a, b, c), key=lambda v: abs(p - v))  # the first of equals
        prediction = (0, a, b, (a + b) // 2, nearest)[filters[r]]
        known[r + 1, i + 1, s] = (int(filtered[r, i, s]) + prediction) % 256
    return known[1:, 1:]


@same
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32), st.sampled_from((3, 5)))
@pytest.mark.parametrize("least", [0, 1 << 20], ids=["diagonals", "bytes"])
def test_filters_are_undone_as_defined(monkeypatch, least, rows, width, size, seed, kinds):
    monkeypatch.setattr(filters, "_LEAST_ABREAST", least)
    rng = np.random.default_rng(seed)
    filtered = rng.integers(0, 256, (rows, width, size), np.uint8)
    numbers, above = rng.integers(0, kinds, rows, np.uint8), rng.integers(0, 256, (width, size), np.uint8)
    expected = by_definition(filtered, numbers, above)
    unfilter(filtered, numbers, above)
    assert np.array_equal(filtered, expected)


@pytest.mark.parametrize("shape", [(1, 1 << 17, 3), (1 << 14, 1, 1), (30, 4096, 1)], ids=str)
def test_short_diagonals_take_no_longer_than_bytes(monkeypatch, shape):
    """By diagonals the first two took 3.5 s and 0.6 s."""
    monkeypatch.setattr(filters, "_by_diagonals", None)  # fails if it is called
    rows, above = np.random.default_rng(0).integers(0, 256, shape, np.uint8), np.zeros(shape[1:], np.uint8)
    unfilter(rows, np.full(shape[0], Filters.PAETH, np.uint8), above)


def test_tall_narrow_rows_are_undone_block_by_block(monkeypatch):
    monkeypatch.setattr(filters, "_LEAST_ABREAST", 0)
    rng = np.random.default_rng(0)
    filtered, above = rng.integers(0, 256, (700, 3, 1), np.uint8), np.zeros((3, 1), np.uint8)
    numbers = rng.integers(0, 5, 700, np.uint8)
    expected = by_definition(filtered, numbers, above)
    tracemalloc.start()
    unfilter(filtered, numbers, above)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert np.array_equal(filtered, expected)


@same
@given(pictures(), st.sampled_from(Filters), st.integers(0, 2**32))
def test_every_choice_of_filters_comes_back(picture, choice, seed):
    above = np.random.default_rng(seed).integers(0, 256, picture.shape[1:], np.uint8)
    rows = filter_rows(picture, above, choice)
    numbers, filtered = rows[:, 0].copy(), rows[:, 1:].reshape(picture.shape).copy()
    if choice <= Filters.PAETH:
        assert (numbers == choice).all()
    unfilter(filtered, numbers, above)
    assert np.array_equal(filtered, picture)


@pytest.mark.parametrize(("few", "channels"), [(2, 3), (4, 1), (16, 3)])
def test_a_colour_that_only_rows_without_a_trial_have(few, channels):
    """As many colours as codes in the rows that plans are tried on, and one more in another row."""
    rng = np.random.default_rng(few)
    colours = rng.permutation(256)[: few + 1].astype(np.uint8)
    picture = np.repeat(colours[rng.integers(0, few, (600, 500))][..., np.newaxis], channels, axis=2)
    picture[..., -1] ^= np.uint8(few)
    picture[70, 30] = colours[few]
    assert np.array_equal(decoded(encode_samples(source(picture), *picture.shape), *picture.shape), picture)


def test_plans_for_very_wide_pictures_are_tried_on_a_part(monkeypatch):
    """Eight whole rows of 2^20 pixels are a hundred times as many samples as a trial is meant for."""
    tried = []
    monkeypatch.setattr(
        samples, "_plans", lambda few, colours: tried.append(few.size) or [Plan(Colour.GREEN, Filters.SUB)]
    )
    picture = np.zeros((9, 1 << 18, 3), np.uint8)
    picture[::2, -1] = 5
    assert np.array_equal(decoded(encode_samples(source(picture), *picture.shape), *picture.shape), picture)
    assert tried and tried[0] <= 1 << 18


def test_a_picture_that_changes_while_it_is_coded_is_refused():
    """The list of colours is complete when it is made, and lacks one when it is used."""
    checks = (np.indices((600, 500, 1)).sum(axis=0) % 2).astype(np.uint8)
    calls: list[int] = []

    def changing(first, count):
        calls.append(count)
        return checks[first : first + count] * np.uint8(1 + (len(calls) > 9))  # the colours, then rows for trials

    with pytest.raises(UsageError, match="changed"):
        encode_samples(changing, 600, 500, 1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("width", [1, 7, 8, 9])
def test_codes_are_packed_from_the_highest_bits(bits, width):
    codes = np.random.default_rng(width).integers(0, 1 << bits, (3, width), np.uint8)
    rows = packed(codes, bits)
    assert rows.shape == (3, -(-width * bits // 8))
    assert np.array_equal(unpacked(rows, bits, width), codes)
    assert rows[0, 0] >> (8 - bits) == codes[0, 0]


@same
@given(pictures(), st.integers(1, 50))
def test_the_encoder_s_payload_comes_back_strip_by_strip(picture, rows):
    payload = encode_samples(source(picture), *picture.shape)
    assert len(payload) <= longest_samples(*picture.shape)
    assert np.array_equal(decoded(payload, *picture.shape, rows), picture)


@same
@given(pictures(), st.sampled_from((1, 2, 4, 8)), st.sets(st.sampled_from(NEIGHBOURS)), st.integers(0, 255), st.data())
def test_every_form_of_codes_comes_back(picture, bits, neighbours, colours, data):
    chosen = sum(neighbours) if len(neighbours) <= 1 << bits else LEFT
    form = Form(bits, chosen, min(colours, (1 << bits) - chosen.bit_count()))
    flat = picture.reshape(-1, picture.shape[2])
    listed = np.unique(flat, axis=0)[: form.colours]
    if len(listed) < form.colours or form.next == 1 << bits:
        form = Form(bits, chosen, min(len(listed), form.colours, max(0, (1 << bits) - 1 - chosen.bit_count())))
        if form.next == 1 << bits:
            form = Form(bits, 0, min(len(listed), (1 << bits) - 1))
    plan = Plan(Colour.SAME, data.draw(st.sampled_from(Filters)), form=form, colours=listed[: form.colours])
    payload = _write(plan, source(picture), *picture.shape)
    assert payload[0] == 1
    for rows in (1, 7, 100):
        assert np.array_equal(decoded(payload, *picture.shape, rows), picture)


def test_a_picture_of_several_strips_is_the_same_in_strips_of_any_height(monkeypatch):
    monkeypatch.setattr(samples, "STRIP_BYTES", 1 << 12)
    monkeypatch.setattr(samples, "_FEW", 1 << 12)
    monkeypatch.setattr(samples, "_MANY", 1 << 13)
    rng = np.random.default_rng(3)
    picture = (rng.integers(0, 3, (140, 110, 1)) * 100).astype(np.uint8).repeat(3, axis=2)
    picture[:, 50:, 0] += 1
    payload = encode_samples(source(picture), *picture.shape)
    assert strip_rows(110, 3) == 12
    assert np.array_equal(decoded(payload, *picture.shape, 37), picture)


@pytest.mark.parametrize(
    ("picture", "most"),
    [
        (np.zeros((300, 400, 3), np.uint8), 90),
        ((np.indices((555, 777)).sum(0) % 2 * 255).astype(np.uint8)[..., np.newaxis], 270),
        (np.add.outer(np.arange(256), np.arange(256)).astype(np.uint8)[..., np.newaxis], 320),
    ],
    ids=["flat", "checkerboard", "ramp"],
)
def test_simple_pictures_take_few_bytes(picture, most):
    assert len(encode_samples(source(picture), *picture.shape)) <= most


def test_the_estimate_is_near_the_payload_for_noise_and_small_for_flat_blocks():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert estimated_bits(noise) == pytest.approx(8 * noise.size, rel=0.05)
    assert estimated_bits(np.zeros((64, 64, 3), np.uint8)) < 600


# Payloads that are refused. A picture of 4 rows of 5 pixels, unless a test says otherwise.


def rows_payload(rows: bytes, kind: int = 0, level: int = 6) -> bytes:
    return bytes([kind]) + zlib.compress(rows, level)


def codes_payload(form: int, colours: int, rows: bytes, stream: bytes, length: int | None = None) -> bytes:
    codes = zlib.compress(rows)
    return (
        bytes([1, form, colours])
        + (len(codes) if length is None else length).to_bytes(4, "little")
        + codes
        + zlib.compress(stream)
    )


GREY = bytes(6) * 4
"""Four rows of five grey pixels, each after its filter."""

FAULTS = {
    "empty": (b"", 1, "cut short"),
    "unknown kind": (rows_payload(GREY, 8), 1, "unknown kind"),
    "colours of three channels for one": (rows_payload(GREY, 2), 1, "unknown kind"),
    "no zlib stream": (b"\0" + bytes(20), 1, "damaged"),
    "no bytes": (b"\0", 1, "cut short"),
    "cut": (rows_payload(GREY)[:-1], 1, "cut short"),
    "cut inside": (rows_payload(np.random.default_rng(0).bytes(24))[:20], 1, "."),
    "check value": (rows_payload(GREY)[:-1] + b"\xff", 1, "damaged"),
    "a byte behind": (rows_payload(GREY) + b"\0", 1, "bytes follow"),
    "a stream behind": (rows_payload(GREY) + zlib.compress(b""), 1, "bytes follow"),
    "too few bytes": (rows_payload(GREY[:-1]), 1, "ends before"),
    "too many bytes": (rows_payload(GREY + b"\0"), 1, "inflates to more"),
    "far too many bytes": (rows_payload(bytes(1 << 15)), 1, "inflates to more"),
    "filter 5": (rows_payload(bytes(18) + b"\5" + bytes(5)), 1, "unknown filter"),
    "filter 255": (rows_payload(b"\xff" + bytes(23)), 1, "unknown filter"),
    "too long": (rows_payload(GREY) + bytes(200), 1, "too long"),
    "palette without colours": (b"\6", 3, "palette is cut short"),
    "palette cut short": (b"\6\1\0\0\0\0\0", 3, "palette is cut short"),
    "not in the palette": (b"\6\0\1\2\3" + rows_payload(bytes(23) + b"\1")[1:], 3, "not in the palette"),
    "codes without head": (b"\1\0\0\0\0\0", 1, "cut short"),
    "form with a high bit": (codes_payload(0x41, 0, bytes(8), b""), 1, "form"),
    "more meanings than codes": (codes_payload(0x0F, 0, bytes(8), b""), 1, "form"),
    "more colours than codes": (codes_payload(0x10, 5, bytes(12), bytes(5)), 1, "form"),
    "codes longer than all": (codes_payload(1, 0, bytes(8), b"", 1 << 31), 1, "longer than their samples"),
    "codes cut by their length": (codes_payload(1, 0, bytes(8), b"", 5), 1, "."),
    "code without meaning": (codes_payload(0x31, 0, b"\0\0\0\2\0\0" + bytes(18), b""), 1, "no meaning"),
    "colours missing": (codes_payload(1, 0, b"\0\xff" + bytes(6), bytes(4)), 1, "ends before"),
    "listed colours missing": (codes_payload(0x10, 3, bytes(12), b"\1\2"), 1, "ends before"),
    "colours left over": (codes_payload(1, 0, b"\0\x80" + bytes(6), bytes(2)), 1, "inflates to more"),
    "bytes behind the colours": (codes_payload(1, 0, bytes(8), b"") + b"\0", 1, "bytes follow"),
}


@pytest.mark.parametrize(("payload", "channels", "what"), FAULTS.values(), ids=FAULTS)
def test_damaged_payloads_are_refused_with_their_place(payload, channels, what):
    with pytest.raises(ChunkError, match=what) as caught:
        SamplesReader(payload, 4, 5, channels, at=1000).read(4)
    place = int(caught.value.where.split()[1])
    assert 1000 <= place <= 1000 + len(payload)
    assert caught.value.cause


def test_sound_neighbours_of_the_damaged_payloads_are_read():
    assert not SamplesReader(rows_payload(GREY), 4, 5, 1).read(4).any()
    assert not SamplesReader(codes_payload(1, 0, bytes(8), b""), 4, 5, 1).read(4).any()
    palette = b"\6\0\1\2\3" + rows_payload(bytes(24))[1:]
    assert SamplesReader(palette, 4, 5, 3).read(4).reshape(-1, 3).tolist() == [[1, 2, 3]] * 20
    new = SamplesReader(codes_payload(1, 0, b"\0\x80" + bytes(6), b"\7"), 4, 5, 1).read(4)[:, :, 0]
    assert new.tolist() == [[7] * 5, [0] * 5, [0] * 5, [0] * 5]


def test_a_dictionary_is_refused():
    packer = zlib.compressobj(zdict=b"0123456789")
    with pytest.raises(ChunkError, match="damaged"):
        SamplesReader(b"\0" + packer.compress(GREY) + packer.flush(), 4, 5, 1).read(4)


def test_a_bomb_is_refused_before_it_is_inflated():
    bomb = b"\0" + zlib.compress(bytes(1 << 26), 1)  # 300 KB
    with pytest.raises(ChunkError, match="too long"):
        SamplesReader(bomb, 4, 5, 1)
    tracemalloc.start()
    reader = SamplesReader(bomb, 1000, 1000, 1)
    with pytest.raises(ChunkError, match="inflates to more"):
        reader.read(1000)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_few_bytes_cannot_announce_much():
    tracemalloc.start()
    with pytest.raises(ChunkError, match="cut short"):
        SamplesReader(rows_payload(GREY), 1 << 20, 1 << 20, 3)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_stream_of_empty_blocks_is_refused_by_its_length():
    packer = zlib.compressobj(0)
    blocks = packer.compress(GREY) + b"".join(
        packer.flush(zlib.Z_SYNC_FLUSH) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(99)
    )
    with pytest.raises(ChunkError, match="too long"):
        SamplesReader(b"\0" + blocks + packer.flush(), 4, 5, 1)


@settings(derandomize=True, deadline=None, max_examples=120)
@given(pictures(), st.data())
def test_changed_bytes_are_refused_or_read(picture, data):
    payload = bytearray(encode_samples(source(picture), *picture.shape))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    payload = payload[: data.draw(st.one_of(st.just(len(payload)), st.integers(0, len(payload))))]
    try:
        result = decoded(bytes(payload), *picture.shape)
    except ChunkError:
        return
    assert result.shape == picture.shape
