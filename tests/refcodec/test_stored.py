"""Alpha, rectangles and whole pictures without loss in the codec (SPEC 8.10, 8.11)."""

from dataclasses import replace

import numpy as np
import pytest
from spec import spec_module
from tiny_models import random_picture, spec_model, tiny_model

import refcodec
from refcodec.bitstream.container import ALPHA, LOSSLESS, parse, serialise
from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import ChunkError, HeaderError, ModelError, UsageError
from refcodec.lossless.rectangles import Rectangle

SPEC = spec_module()


def with_alpha(samples: np.ndarray, seed: int = 0) -> np.ndarray:
    """The picture with transparent, opaque and half-transparent parts."""
    rng = np.random.default_rng(seed)
    alpha = np.zeros((*samples.shape[:2], 1), np.uint8)
    alpha[3:-2, 5:-1] = 255
    alpha[4:9] = rng.integers(0, 256, alpha[4:9].shape)
    return np.concatenate((samples.reshape(*alpha.shape[:2], -1), alpha), axis=2)


def page(height: int = 128, width: int = 192) -> np.ndarray:
    """A picture whose left part is letters of two colours, and whose right part is noise."""
    rng = np.random.default_rng(5)
    samples = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
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
    coded = encode_picture(samples, 60, model=tiny_model())
    assert coded.stored and all(r.x + r.width <= 64 for r in coded.stored)
    decoded, _ = decode_stream(coded.data, model=tiny_model(), verify=True)
    assert np.array_equal(decoded, coded.reconstruction) and np.array_equal(decoded[:, :64], samples[:, :64])
    for x, y, w, h in regions(128, 192):
        part, _ = decode_stream(coded.data, model=tiny_model(), region=(x, y, w, h))
        assert np.array_equal(part, decoded[y : y + h, x : x + w])
    plain = encode_picture(samples, 60, model=tiny_model(), rectangles=False)
    assert not plain.stored and parse(plain.data).chunk(LOSSLESS) is None
    noise = random_picture(128, 192)
    assert encode_picture(noise, 60, model=tiny_model()).data == (
        encode_picture(noise, 60, model=tiny_model(), rectangles=False).data
    )


def test_a_drawing_is_stored_as_a_whole():
    samples = page()[:, :64]
    coded = encode_picture(samples, 60, model=tiny_model())
    assert coded.stored == () and refcodec.info(coded.data).lossless
    assert np.array_equal(refcodec.decode(coded.data), samples)


@pytest.mark.parametrize("kind", ["alpha", "rectangles", "whole"])
def test_the_document_decodes_what_is_stored(kind):
    model, defined = tiny_model(), spec_model()
    if kind == "alpha":
        coded = encode_picture(with_alpha(random_picture(11, 13)), 60, model=model)
    elif kind == "rectangles":
        coded = encode_picture(page(64, 128), 60, model=model)
        assert coded.stored
    else:
        coded = encode_picture(with_alpha(page(20, 64)), lossless=True)
    samples = SPEC.decode_picture(coded.data, None if kind == "whole" else defined)
    assert samples == coded.reconstruction.tolist()


def test_damage_is_told():
    coded = encode_picture(with_alpha(random_picture(20, 30)), 60, model=tiny_model(), digest=False)
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
