"""Encode and decode with the default model: what comes out is what the encoder saw, however it is computed."""

import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refcodec
from refcodec.bitstream.container import parse, serialise
from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import LimitExceeded, ModelError, RefcodecError, UsageError
from refcodec.limits import Limits
from refcodec.measure.metrics import psnr

SIZES = [(1, 1), (1, 7), (7, 1), (63, 64), (64, 65), (65, 17), (130, 66)]


def picture(height: int, width: int, grey: bool = False, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = [
        120 + 60 * np.sin(x / (5 + n)) + 50 * np.cos(y / (7 + n)) + rng.normal(0, 8, (height, width)) for n in range(3)
    ]
    samples = np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)
    return samples[:, :, 0].copy() if grey else samples


@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[1]}x{s[0]}")
def test_any_size_comes_back_as_the_encoder_saw_it(size, grey):
    samples = picture(*size, grey)
    coded = encode_picture(samples, 70, rectangles=False)
    decoded, stream = decode_stream(coded.data, verify=True)
    assert decoded.shape == samples.shape and decoded.dtype == np.uint8
    assert np.array_equal(decoded, coded.reconstruction)
    assert coded.sha256 == hashlib.sha256(decoded.tobytes()).hexdigest()
    assert len(coded.data) - stream.segment_bytes == 64


def test_backends_and_threads_give_the_same_bytes_and_pixels():
    samples = picture(100, 72)
    first = encode_picture(samples, 60, backend="numba", threads=1)
    for backend, threads in (("numba", 2), ("numba", 5), ("numpy", 1)):
        assert encode_picture(samples, 60, backend=backend, threads=threads).data == first.data
        decoded, _ = decode_stream(first.data, backend=backend, threads=threads)
        assert np.array_equal(decoded, first.reconstruction)


def test_every_stage_is_the_same_in_both_backends():
    data = refcodec.encode(picture(64, 64), 80)
    stages: dict[str, list] = {}
    for backend in ("numba", "numpy"):
        seen = stages[backend] = []

        def trace(name: str, v: np.ndarray, seen: list = seen) -> None:
            seen.append((name, v.shape, hashlib.sha256(v.tobytes()).digest()))

        decode_stream(data, backend=backend, trace=trace)
    assert stages["numba"] == stages["numpy"]
    assert len(stages["numba"]) > 200


def test_rate_and_quality_grow_with_the_step():
    scene = Path(__file__).parents[2] / "conformance" / "data" / "pictures" / "scene.png"
    samples = np.asarray(Image.open(scene).convert("RGB"))
    rates, distortions = [], []
    for step in (1, 25, 50, 75, 100):
        coded = encode_picture(samples, step)
        rates.append(len(coded.data))
        distortions.append(psnr(samples, coded.reconstruction))
    assert rates == sorted(rates) and distortions == sorted(distortions)
    assert distortions[0] > 23 and rates[-1] * 8 < 3 * samples.shape[0] * samples.shape[1]


def test_decoding_in_several_python_threads_at_once():
    samples = picture(64, 96)
    coded = encode_picture(samples, 60)
    results: list[np.ndarray] = []

    def work() -> None:
        results.extend(refcodec.decode(coded.data, threads=2) for _ in range(3))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert len(results) == 12 and all(np.array_equal(r, coded.reconstruction) for r in results)


def test_metadata_travels():
    data = refcodec.encode(picture(16, 16), 30, exif=b"MM\0*", icc_profile=b"profile", xmp=b"<x/>")
    assert dict(parse(data).chunks) == {"exif": b"MM\0*", "iccp": b"profile", "xmp ": b"<x/>"}
    assert refcodec.info(data).chunks == (("exif", 4), ("iccp", 7), ("xmp ", 4))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 0), np.uint8),
        np.zeros((5, 5, 5), np.uint8),
        np.zeros((5, 5, 1), np.uint8),
        np.zeros((5, 5), np.uint16),
        np.zeros((5, 5, 3), np.float32),
        np.zeros(5, np.uint8),
        [[1, 2]],
    ],
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(UsageError):
        refcodec.encode(image)


@pytest.mark.parametrize("quality", [0, 101, -1, 2.5, "60", None, True])
def test_what_is_no_quality_is_refused(quality):
    with pytest.raises(UsageError):
        refcodec.encode(picture(8, 8), quality)


@pytest.mark.parametrize("threads", [0, -1, 257, True])
def test_what_is_no_number_of_threads_is_refused(threads):
    with pytest.raises(UsageError):
        refcodec.encode(picture(8, 8), threads=threads)


@pytest.mark.parametrize("model", [5, b"default", ["default"]])
def test_what_is_no_model_is_refused(model):
    for use in (refcodec.load_model, lambda m: refcodec.encode(picture(8, 8), model=m)):
        with pytest.raises(UsageError, match="a model is"):
            use(model)


def test_limits_are_checked_on_the_header():
    data = refcodec.encode(picture(40, 40), 50)
    with pytest.raises(LimitExceeded):
        refcodec.decode(data, limits=Limits(max_pixels=64 * 64 - 1))
    with pytest.raises(LimitExceeded):
        refcodec.decode(data, limits=Limits(max_memory=1 << 20))
    assert refcodec.decode(data, limits=Limits(max_pixels=64 * 64)).shape == (40, 40, 3)


def test_a_stream_of_another_model_is_refused():
    stream = parse(refcodec.encode(picture(8, 8), 50))
    other = serialise(replace(stream.header, fingerprint=bytes(16)), [stream.segments()])
    with pytest.raises(ModelError) as caught:
        refcodec.decode(other)
    assert caught.value.values["wanted"] == "00" * 16
    with pytest.raises(ModelError):
        refcodec.decode(other, model="default")


@pytest.fixture(scope="module")
def small_stream() -> bytes:
    return refcodec.encode(picture(20, 24), 40)


def test_truncation_is_refused_everywhere(small_stream):
    for end in range(0, len(small_stream), 3):
        with pytest.raises(RefcodecError) as caught:
            refcodec.decode(small_stream[:end])
        assert caught.value.exit_code == 65


def test_flipped_bits_are_refused_everywhere(small_stream):
    for at in range(len(small_stream)):
        damaged = bytearray(small_stream)
        damaged[at] ^= 1 << (at % 8)
        with pytest.raises(RefcodecError) as caught:
            refcodec.decode(bytes(damaged))
        assert caught.value.exit_code in (65, 69, 77)


@pytest.mark.slow
def test_damaged_segments_with_a_right_checksum_are_refused_or_decoded(small_stream):
    """The coder detects what the checksum cannot, or it is another valid stream: never anything else."""
    stream = parse(small_stream)
    outcomes = set()
    for n in range(60):
        z, y = map(bytearray, stream.segments())
        part = z if n % 3 == 0 else y
        part[(n * 7) % len(part)] ^= 1 << (n % 8)
        data = serialise(replace(stream.header, digest=None), [(z, y)])
        try:
            refcodec.decode(data)
            outcomes.add("decoded")
        except RefcodecError as e:
            outcomes.add(type(e).__name__)
            assert e.exit_code == 65
    assert "CoderError" in outcomes


def test_a_step_that_the_installed_model_does_not_have_is_refused(monkeypatch):
    import dataclasses

    import refcodec.codec as codec

    data = refcodec.encode(picture(8, 8), 50)
    model = refcodec.load_model()
    one = dataclasses.replace(model, config=dataclasses.replace(model.config, qualities=1))
    monkeypatch.setattr(codec, "find_model", lambda wanted: one)
    for given in (None, one):
        with pytest.raises(ModelError):
            refcodec.decode(data, model=given)
