"""Alpha, rectangles and whole pictures without loss in the codec (SPEC 8.10, 8.11)."""

import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from spec import spec_module
from tiny_models import random_picture, spec_model, tiny_model

import refcodec
from refcodec.bitstream.container import ALPHA, LOSSLESS, Header, parse, serialise
from refcodec.codec import decode_stream, encode_picture, encode_strips
from refcodec.errors import ChunkError, HeaderError, LimitExceeded, ModelError, UsageError
from refcodec.limits import Limits
from refcodec.lossless.rectangles import Rectangle, pack_rectangles
from refcodec.lossless.samples import encode_samples
from refcodec.planes import ArrayRows
from refcodec.stored import STRIPS_HELD, BlockErrors, Choice, Colours, Plain, storing_memory

SPEC = spec_module()


def with_alpha(samples: np.ndarray, seed: int = 0) -> np.ndarray:
    """The picture with transparent, opaque and half-transparent parts."""
    rng = np.random.default_rng(seed)
    alpha = np.zeros((*samples.shape[:2], 1), np.uint8)
    alpha[3:-2, 5:-1] = 255
    alpha[4:9] = rng.integers(0, 256, alpha[4:9].shape)
    return np.concatenate((samples.reshape(*alpha.shape[:2], -1), alpha), axis=2)


def page(height: int = 128, width: int = 192) -> np.ndarray:
    """A picture whose left part is letters of two colours, and whose right part is like a photograph."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:height, :width]
    soft = np.stack([120 + 60 * np.sin(x / (15 + n)) + 50 * np.cos(y / (17 + n)) for n in range(3)], axis=2)
    samples = np.clip(soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)
    letters = np.kron(rng.integers(0, 2, (height // 4, 16)), np.ones((4, 4))).astype(bool)
    samples[:, :64] = np.where(letters[..., np.newaxis], (250, 250, 240), (10, 20, 90))
    return samples


def regions(height: int, width: int):
    yield from ((0, 0, width, height), (0, 0, 1, 1), (width - 1, height - 1, 1, 1), (2, 5, width - 3, 4))


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("options", [{}, {"exact": True}, {"lossless": True}, {"tile": 64}], ids=str)
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_comes_back_bit_for_bit(channels, options, backend):
    samples = with_alpha(random_picture(70, 90, 1, channels - 1))
    coded = encode_picture(samples, 60, model=tiny_model(), backend=backend, **options)
    decoded, stream = decode_stream(coded.data, model=tiny_model(), verify=True, backend=backend)
    assert decoded.shape == samples.shape and np.array_equal(decoded, coded.reconstruction)
    assert np.array_equal(decoded[..., -1], samples[..., -1])
    assert stream.header.channels == channels - 1 and refcodec.info(coded.data).alpha
    if options.get("lossless"):
        assert np.array_equal(decoded, samples) and coded.model is None
    for x, y, w, h in regions(70, 90):
        part, _ = decode_stream(coded.data, model=tiny_model(), region=(x, y, w, h), backend=backend)
        assert np.array_equal(part, decoded[y : y + h, x : x + w])


def test_colours_under_transparent_pixels_are_kept_on_request():
    samples = with_alpha(random_picture(70, 90))
    cheap, exact = (encode_picture(samples, 60, model=tiny_model(), exact=exact) for exact in (False, True))
    colours = encode_picture(samples[..., :3].copy(), 60, model=tiny_model())
    assert np.array_equal(exact.reconstruction[..., :3], colours.reconstruction)
    assert not np.array_equal(cheap.reconstruction[..., :3], colours.reconstruction)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 2), (70, 3, 3), (3, 200, 4)], ids=str)
def test_a_lossless_picture_needs_no_model(monkeypatch, shape):
    def never(*_, **__):
        raise AssertionError("a model is looked for")

    monkeypatch.setattr("refcodec.codec.load_model", never)
    monkeypatch.setattr("refcodec.codec.find_model", never)
    samples = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    data = refcodec.encode(samples, lossless=True)
    assert np.array_equal(refcodec.decode(data), samples)
    info = refcodec.info(data)
    assert (info.lossless, info.quality, info.tiles, info.fingerprint) == (True, 0, 0, "00" * 16)


def test_text_is_stored_and_a_photograph_is_not():
    samples = page()
    coded = encode_picture(samples, 60)
    assert coded.stored and all(r.x + r.width <= 64 for r in coded.stored)
    decoded, _ = decode_stream(coded.data, verify=True)
    assert np.array_equal(decoded, coded.reconstruction) and np.array_equal(decoded[:, :64], samples[:, :64])
    for x, y, w, h in regions(128, 192):
        part, _ = decode_stream(coded.data, region=(x, y, w, h))
        assert np.array_equal(part, decoded[y : y + h, x : x + w])
    plain = encode_picture(samples, 60, rectangles=False)
    assert not plain.stored and parse(plain.data).chunk(LOSSLESS) is None and len(coded.data) < len(plain.data)
    photograph = samples[:, 64:].copy()
    assert encode_picture(photograph, 60).data == encode_picture(photograph, 60, rectangles=False).data


def test_a_drawing_is_stored_as_a_whole():
    samples = page()[:, :64]
    coded = encode_picture(samples, 60, model=tiny_model())
    assert coded.stored == () and refcodec.info(coded.data).lossless
    assert np.array_equal(refcodec.decode(coded.data), samples)


def letters(seed: int, height: int, width: int) -> np.ndarray:
    """Few glyphs of soft edges and many colours, repeated: a block of 64x64 alone says little of what they take."""
    rng = np.random.default_rng(seed)
    glyphs = np.zeros((8, 16, 16))
    glyphs[:, 2:14, 2:14] = np.kron(rng.integers(0, 2, (8, 4, 4)), np.ones((3, 3)))
    glyphs[:, 1:] += glyphs[:, :-1] * rng.integers(1, 30, (8, 15, 16)) / 60
    page = glyphs[rng.integers(0, 8, (height // 16, width // 16))].swapaxes(1, 2).reshape(height, width)
    colour = np.array([200, 90, 30]) * (1 + rng.integers(0, 3, (height // 16, 1, 1)).repeat(16, 0)) / 3
    return (255 - np.minimum(page, 1)[..., np.newaxis] * colour).astype(np.uint8)


@pytest.mark.parametrize("quality", [60, pytest.param(1, marks=pytest.mark.slow)])
def test_text_is_stored_by_what_it_takes_together(quality):
    """Estimates of single blocks were several times too high, and the page was coded at more than its bytes."""
    samples = letters(3, 256, 320)
    lossless = encode_picture(samples, lossless=True)
    coded = encode_picture(samples, quality)
    assert len(coded.data) == len(lossless.data) and np.array_equal(coded.reconstruction, samples)


def test_transparent_pixels_cost_nothing_where_a_picture_is_stored():
    """They were stored with the smooth surface that the networks are given."""
    y, x = np.mgrid[:192, :192]
    disc, bar = (y - 80) ** 2 + (x - 70) ** 2 < 3600, (y > 100) & (x > 110) & (y < 180)
    samples = np.zeros((192, 192, 4), np.uint8)
    samples[disc], samples[bar] = (200, 30, 60, 255), (0, 140, 90, 255)
    coded, lossless = encode_picture(samples, 90), encode_picture(samples, lossless=True)
    assert len(coded.data) <= len(lossless.data)
    seen = samples[..., 3] > 0
    assert np.array_equal(refcodec.decode(coded.data)[seen], samples[seen])


def test_invisible_errors_do_not_count():
    samples = with_alpha(random_picture(70, 90))
    errors, masked = BlockErrors(Colours(ArrayRows(samples))), BlockErrors(ArrayRows(samples))
    wrong = (255 - samples[..., :3]).astype(np.uint8)
    for found in (errors, masked):
        found.add(0, wrong[:40])
        found.add(40, wrong[40:])
    square = np.square(samples[..., :3].astype(int) - wrong).sum(axis=2)
    assert errors.errors.sum() == square.sum() and masked.errors.sum() == square[samples[..., 3] > 0].sum()


def test_plain_pixels_repeat_visible_ones():
    samples = np.arange(1, 25, dtype=np.uint8).reshape(3, 2, 4).reshape(2, 3, 4).copy()
    samples[..., 3] = [[0, 9, 0], [0, 0, 0]]
    expected = samples[:1, 1:2, :3].repeat(3, axis=1)
    plain = Plain(ArrayRows(samples))
    assert (plain.height, plain.width, plain.channels) == (2, 3, 3)
    assert np.array_equal(plain.rows(0, 2), np.concatenate((expected, np.zeros((1, 3, 3)))))


@pytest.mark.parametrize("kind", ["alpha", "whole", pytest.param("rectangles", marks=pytest.mark.slow)])
def test_the_document_decodes_what_is_stored(monkeypatch, kind):
    model, defined = tiny_model(), spec_model()
    if kind == "alpha":
        coded = encode_picture(with_alpha(random_picture(11, 13)), 60, model=model)
    elif kind == "rectangles":
        samples = random_picture(70, 80)
        places = (Rectangle(0, 3, 5, 4), Rectangle(2, 70, 10, 68), Rectangle(60, 0, 1, 10))
        payload = pack_rectangles(places, lambda first, count: samples[first : first + count], 80, 70, 3)
        monkeypatch.setattr("refcodec.codec.may_gain", lambda colours: True)
        monkeypatch.setattr("refcodec.codec.chosen", lambda *_: Choice(places, payload))
        coded = encode_picture(samples, 60, model=model)
        for y, x, w, h in places:
            assert np.array_equal(coded.reconstruction[y : y + h, x : x + w], samples[y : y + h, x : x + w])
    else:
        coded = encode_picture(with_alpha(page(20, 64)), lossless=True)
    samples = SPEC.decode_picture(coded.data, None if kind == "whole" else defined)
    assert samples == coded.reconstruction.tolist()


def test_damage_is_told():
    coded = encode_picture(with_alpha(random_picture(9, 17)), 60, model=tiny_model(), digest=False, rectangles=False)
    stream = parse(coded.data)
    payload = bytearray(stream.chunk(ALPHA) or b"")
    for at in range(len(payload)):
        damaged = bytes(payload[:at]) + bytes([payload[at] ^ 0x55]) + bytes(payload[at + 1 :])
        try:
            data = serialise(stream.header, [stream.segments()], [(ALPHA, damaged)])
            refcodec.decode(data, model=tiny_model())
        except ChunkError as error:
            assert "SPEC 8.10" in error.where
        else:  # a filter or a literal: another valid payload, where zlib's own checksum does not see it
            pytest.fail(f"byte {at} may be damaged")
    for cut in range(0, len(payload), 7):
        with pytest.raises(ChunkError):
            data = serialise(stream.header, [stream.segments()], [(ALPHA, bytes(payload[:cut]))])
            refcodec.decode(data, model=tiny_model())


@pytest.mark.parametrize("kind", ["alpha", "whole", "rectangles"])
def test_places_of_damage_are_offsets_in_the_stream(kind):
    """(SPEC 8.10-8) Of heads, which are checked first, and of what is inflated later."""
    samples = random_picture(20, 30) if kind == "rectangles" else with_alpha(random_picture(20, 30))
    options = {"lossless": kind == "whole", "chunks": (("exif", b"MM"),), "rectangles": False}
    data = encode_picture(samples, 60, model=tiny_model(), **options).data
    if kind == "rectangles":
        place = Rectangle(3, 4, 9, 8)
        stored = (LOSSLESS, pack_rectangles([place], lambda first, n: samples[first : first + n], 30, 20, 3))
        stream = parse(data)
        data = serialise(stream.header, [stream.segments()], [*stream.chunks, stored])
    stream, tag = parse(data), ALPHA if kind == "alpha" else LOSSLESS
    assert stream.chunks[0][0] == "exif"
    payload = stream.chunk(tag)
    start = data.index(payload)
    assert stream.payload_start(tag) == start and stream.payload_start("exif") < start
    first = 4 + 20 if kind == "rectangles" else 0  # behind the list of one rectangle
    for at, value in ((first, 9), (len(payload) - 1, payload[-1] ^ 1)):
        damaged = payload[:at] + bytes([value]) + payload[at + 1 :]
        chunks = [(name, damaged if name == tag else own) for name, own in stream.chunks]
        data = serialise(stream.header, [stream.segments(k) for k in range(stream.header.tiles)], chunks)
        with pytest.raises(ChunkError) as caught:
            refcodec.decode(data, model=tiny_model())
        place = int(caught.value.where.split()[1])
        assert place == start + at if at == first else start + len(payload) // 2 < place <= start + len(payload)


def test_a_lossless_stream_without_its_samples_is_refused():
    stream = parse(refcodec.encode(random_picture(5, 6), lossless=True))
    with pytest.raises(UsageError, match="missing"):
        serialise(stream.header, ())
    with pytest.raises(UsageError, match="two segments"):
        serialise(stream.header, [(b"", b"")], stream.chunks)


def test_a_lossless_stream_is_not_taken_for_another():
    data = refcodec.encode(random_picture(5, 6), lossless=True)
    stream = parse(data)
    for change in ({"quality": 1}, {"fingerprint": bytes(15) + b"\1"}, {"tile_width": 64, "tile_height": 64}):
        with pytest.raises((UsageError, HeaderError)):
            serialise(replace(stream.header, **change), (), stream.chunks)
    assert refcodec.decode(data, model=tiny_model()).shape == (5, 6, 3)  # a model that is given is not needed
    with pytest.raises(ModelError):
        refcodec.decode(encode_picture(random_picture(5, 6), 60, model=tiny_model()).data)


def test_rectangles_are_places_in_the_picture():
    assert Rectangle(1, 2, 3, 4)._asdict() == {"y": 1, "x": 2, "width": 3, "height": 4}


# ------------------------------------------------------------------------------------------------------------ limits


@pytest.mark.slow
def test_regions_do_not_read_what_is_below_and_beside_them():
    """Stored samples of a region take memory for its columns and time for its rows and those above."""
    samples = np.zeros((4096, 4096, 2), np.uint8)
    samples[::8, :, 1] = 7
    data = encode_picture(samples, lossless=True).data
    limits = refcodec.Limits(max_pixels=1 << 20)
    for region, fits in (((4095, 0, 1, 256), True), ((0, 300, 1, 1), False)):
        if fits:
            assert np.array_equal(refcodec.decode(data, region=region, limits=limits)[..., 1], samples[:256, 4095:, 1])
        else:
            with pytest.raises(LimitExceeded):
                refcodec.decode(data, region=region, limits=limits)
    tracemalloc.start()
    decode_stream(data, region=(4095, 0, 1, 4096))
    assert tracemalloc.get_traced_memory()[1] < 3 << 24
    tracemalloc.stop()


@pytest.mark.parametrize("tag", [ALPHA, LOSSLESS])
def test_stored_rows_above_a_region_count_as_pixels(tag):
    """A region of few tiles at the bottom of a picture, whose alpha or rectangle is as high as the picture."""
    samples = np.zeros((1024, 128, 3), np.uint8)
    plain = encode_picture(samples, 60, model=tiny_model(), tile=64, rectangles=False)
    stream = parse(plain.data)
    if tag == ALPHA:
        payload = encode_samples(lambda first, count: samples[first : first + count, :, :1], 1024, 128, 1)
    else:
        rows = ArrayRows(samples).rows
        payload = pack_rectangles([Rectangle(0, 0, 128, 1024)], rows, 128, 1024, 3)
    segments = [stream.segments(n) for n in range(stream.header.tiles)]
    data = serialise(replace(stream.header, digest=None), segments, [(tag, payload)])
    limits = refcodec.Limits(max_pixels=1 << 16)
    refcodec.decode(data, region=(0, 100, 1, 1), model=tiny_model(), limits=limits)
    with pytest.raises(LimitExceeded, match=tag):
        refcodec.decode(data, region=(0, 1000, 1, 1), model=tiny_model(), limits=limits)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_limits_of_memory_hold_for_stored_samples(channels):
    samples = np.zeros((1200, 1000, channels)[: 2 + (channels > 1)], np.uint8)
    data = encode_picture(samples, lossless=True).data
    held, strips = 1_200_000 * channels, 16 * 1_200_000 * channels
    refcodec.decode(data, limits=refcodec.Limits(max_memory=held + strips))
    with pytest.raises(LimitExceeded, match="memory"):
        refcodec.decode(data, limits=refcodec.Limits(max_memory=held + strips // 16))
    tracemalloc.start()
    decode_stream(data)
    assert tracemalloc.get_traced_memory()[1] < held + strips
    tracemalloc.stop()


@pytest.mark.parametrize(("channels", "lossless"), [(2, False), (4, False), (1, True), (3, True)])
def test_limits_of_memory_hold_for_what_the_encoder_stores(channels, lossless):
    """They were not looked at before alpha and lossless pictures were coded."""
    samples = np.random.default_rng(1).integers(0, 256, (600, 700, channels), dtype=np.uint8)
    stored = np.ascontiguousarray(samples[..., -1:] if not lossless else samples)
    tracemalloc.start()
    encode_samples(ArrayRows(stored).rows, 600, 700, stored.shape[2])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= storing_memory(600, 700, stored.shape[2])
    shown = samples if channels > 1 else samples[..., 0]
    with pytest.raises(LimitExceeded, match="encoding takes more memory"):
        encode_picture(shown, 60, model=tiny_model(), lossless=lossless, limits=Limits(max_memory=peak))


def test_limits_of_memory_hold_for_rows_of_codes_with_neighbours():
    """Every pixel is the one to the left; memory was taken that no limit bounded."""
    width = 1 << 18
    codes = zlib.compress(bytes(4 * (1 + width // 8)))
    payload = b"\1\1\0" + len(codes).to_bytes(4, "little") + codes + zlib.compress(b"")
    data = serialise(Header(width, 4, 3, 0, bytes(16), lossless=True), (), [(LOSSLESS, payload)])
    taken = 4 * width * 3 * (1 + STRIPS_HELD)
    with pytest.raises(LimitExceeded, match=str(taken)):
        refcodec.decode(data, limits=refcodec.Limits(max_memory=taken - 1))
    tracemalloc.start()
    assert not refcodec.decode(data, limits=refcodec.Limits(max_memory=taken)).any()
    assert tracemalloc.get_traced_memory()[1] < taken
    tracemalloc.stop()


# ------------------------------------------------------------------------------------------------------- odd sources


class Odd:
    """A picture whose rows are not what it says."""

    height, width, channels = 130, 150, 3

    def __init__(self, **facts):
        self.samples = random_picture(130, 150)
        self.change = facts.pop("change", lambda rows: rows)
        vars(self).update(facts)

    def rows(self, first, count):
        """Rows of the picture, changed."""
        return self.change(self.samples[first : first + count])


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"tile": 64, "rectangles": False}], ids=str)
@pytest.mark.parametrize(
    "odd",
    [
        {"change": lambda rows: rows[:-1]},
        {"change": lambda rows: rows[:0]},
        {"change": lambda rows: rows[:, :5]},
        {"change": lambda rows: rows[..., :1]},
        {"change": lambda rows: rows[..., 0]},
        {"change": lambda rows: rows.astype(np.int16)},
        {"change": lambda rows: rows.tolist()},
        {"change": lambda rows: None},
        {"channels": None},
        {"channels": 5},
        {"channels": 4},
        {"height": 130.0},
        {"height": 131},
    ],
    ids=(
        "rows",
        "no-rows",
        "columns",
        "channels-read",
        "flat",
        "int16",
        "list",
        "none",
        "no-channels",
        "5",
        "4",
        "float",
        "higher",
    ),
)
def test_odd_sources_are_refused(odd, options):
    with pytest.raises(UsageError):
        encode_strips(Odd(**odd), 60, model=tiny_model(), **options)


def test_a_lossless_stream_of_a_changing_source_has_the_digest_of_what_it_holds():
    rng = np.random.default_rng(0)
    source = Odd(change=lambda rows: rng.integers(0, 256, rows.shape).astype(np.uint8))
    data = encode_strips(source, lossless=True).data
    decode_stream(data, verify=True)


@pytest.mark.parametrize("tag", [ALPHA, LOSSLESS])
def test_stored_samples_are_none_of_the_callers_chunks(tag):
    """A payload that a decoder refuses was written."""
    with pytest.raises(UsageError, match=tag):
        encode_picture(random_picture(64, 64), 60, model=tiny_model(), chunks=[(tag, b"\0" + bytes(20))])


@pytest.mark.parametrize("options", [{}, {"lossless": True}], ids=str)
def test_progress_of_a_picture_that_is_stored_as_a_whole_ends(options):
    """It stopped at a half, where the first of two passes ends."""
    shares: list[float] = []
    coded = encode_picture(page()[:, :64], 60, model=tiny_model(), progress=shares.append, **options)
    assert coded.model is None and shares == sorted(shares) and shares[-1] == 1
    shares.clear()
    decode_stream(coded.data, progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1
