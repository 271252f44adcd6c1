"""Samples of more than eight bits: refused, or reduced to the nearest value on request."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from refcodec.errors import InvalidImage, Unsupported, UsageError
from refcodec.io.pictures import read_picture
from refcodec.io.sample_depth import reduced

DEEP = np.random.default_rng(5).integers(0, 65536, (6, 11, 4), dtype=np.uint16)
DEEP[0, :, :] = np.array([0, 65535, 128, 129, 257, 256, 65407, 65408, 32767, 32768, 1])[:, np.newaxis]
NOTE = "samples were scaled from 0..65535 to 0..255, rounded to the nearest value"


def by_rule(samples: np.ndarray, white: int = 65535) -> np.ndarray:
    return ((samples.astype(np.int64) * 255 + white // 2) // white).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: np.ndarray, *chunks: tuple[bytes, bytes], interlaced: bool = False) -> bytes:
    """A PNG of 16 bits whose rows use all filters but Paeth, or an interlaced one without filters."""
    height, width, channels = samples.shape
    raw = samples.astype(">u2").view(np.uint8).reshape(height, width, 2 * channels).astype(np.int16)
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        parts = [raw[y::dy, x::dx] for y, x, dy, dx in passes]
        rows = [b"\0" + row.astype(np.uint8).tobytes() for part in parts if part.size for row in part]
    else:
        left, up = np.zeros_like(raw), np.zeros_like(raw)
        left[:, 1:], up[1:] = raw[:, :-1], raw[:-1]
        predicted = (0 * raw, left, up, (left + up) // 2)
        rows = [bytes([y % 4]) + (raw[y] - predicted[y % 4][y]).astype(np.uint8).tobytes() for y in range(height)]
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, interlaced)
    body = b"".join(chunk(*c) for c in chunks)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IDAT", zlib.compress(b"".join(rows)))) + chunk(
        b"IEND", b""
    )


def tiff(samples: np.ndarray, order: str) -> bytes:
    """A TIFF of 16 bits in one strip."""
    height, width, channels = samples.shape
    extra = [(338, 3, 1, 2)] if channels == 4 else []
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, 200),
        (259, 3, 1, 1),
        (262, 3, 1, 2 if channels > 1 else 1),
        (273, 4, 1, 220),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, 2 * samples.size),
        *extra,
    ]
    if channels == 1:
        tags[2] = (258, 3, 1, 16)
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    for tag, kind, count, value in tags:
        inside = struct.pack(order + "HH", value, 0) if kind == 3 and count == 1 else struct.pack(order + "I", value)
        data += struct.pack(order + "HHI", tag, kind, count) + inside
    depths = struct.pack(order + f"{channels}H", *[16] * channels)
    return (data + bytes(4)).ljust(200, b"\0") + depths.ljust(20, b"\0") + samples.astype(order + "u2").tobytes()


def npy(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, samples)
    return file.getvalue()


def of_channels(channels: int) -> np.ndarray:
    return np.ascontiguousarray(DEEP[:, :, :channels])


CASES = [
    *((f"png {c}", png(of_channels(c)), of_channels(c)) for c in (1, 2, 3, 4)),
    *((f"interlaced png {c}", png(of_channels(c), interlaced=True), of_channels(c)) for c in (1, 2, 3, 4)),
    *((f"tiff {order} {c}", tiff(of_channels(c), order), of_channels(c)) for order in "<>" for c in (1, 3, 4)),
    *((f"npy {c}", npy(of_channels(c) if c > 1 else DEEP[:, :, 0]), of_channels(c)) for c in (1, 2, 3, 4)),
    ("npy, big endian", npy(of_channels(3).astype(">u2")), of_channels(3)),
    ("npy, by columns", npy(np.asfortranarray(of_channels(3))), of_channels(3)),
    ("pgm", b"P5 11 6 65535\n" + DEEP[:, :, 0].astype(">u2").tobytes(), of_channels(1)),
    ("ppm", b"P6 11 6 65535\n" + of_channels(3).astype(">u2").tobytes(), of_channels(3)),
]


@pytest.mark.parametrize(("data", "samples"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_16_bits_are_refused_or_reduced_by_the_rule(data, samples):
    with pytest.raises(Unsupported, match="--depth 8"):
        read_picture(data)
    picture = read_picture(data, depth=8)
    expected = by_rule(samples)
    assert np.array_equal(picture.samples, expected if samples.shape[2] > 1 else expected[:, :, 0])
    assert picture.notes == (NOTE,)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_compressed_tiff_of_16_bits_is_reduced(compression):
    file = io.BytesIO()
    Image.fromarray(DEEP[:, :, 0]).save(file, "TIFF", compression=compression)
    assert np.array_equal(read_picture(file.getvalue(), depth=8).samples, by_rule(DEEP[:, :, 0]))


def test_every_sample_is_rounded_to_the_nearest_value():
    every = np.arange(65536, dtype=np.uint16)[np.newaxis]
    assert np.array_equal(reduced(every, 65535), by_rule(every))
    assert np.abs(reduced(every, 65535) - every * (255 / 65535)).max() <= 0.5
    assert np.array_equal(reduced(np.arange(256, dtype=np.uint16)[np.newaxis] * 257, 65535)[0], np.arange(256))


@pytest.mark.parametrize("white", [1, 15, 254, 256, 1023, 4095])
def test_pnm_of_any_largest_sample_is_scaled(white):
    samples = np.random.default_rng(6).integers(0, white + 1, (4, 5, 3))
    data = f"P6 5 4 {white}\n".encode() + samples.astype(">u2" if white > 255 else np.uint8).tobytes()
    with pytest.raises(Unsupported):
        read_picture(data)
    picture = read_picture(data, depth=8)
    assert np.array_equal(picture.samples, by_rule(samples, white)) and f"0..{white}" in picture.notes[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_is_compared_before_the_reduction(channels):
    samples = of_channels(channels).copy()
    samples[2, 3] = samples[1, 2] ^ 1  # equal in eight bits
    key = samples[1, 2].astype(">u2").tobytes()
    read = read_picture(png(samples, (b"tRNS", key)), depth=8).samples
    alpha = np.full(samples.shape[:2], 255, np.uint8)
    alpha[(samples == samples[1, 2]).all(axis=2)] = 0
    assert np.array_equal(read, np.dstack([by_rule(samples), alpha])) and alpha[2, 3] == 255


def test_alpha_that_is_opaque_is_dropped():
    samples = DEEP.copy()
    samples[:, :, 3] = 65535
    assert read_picture(png(samples), depth=8).samples.shape == (6, 11, 3)
    assert read_picture(npy(samples), depth=8).samples.shape == (6, 11, 3)


def test_pictures_of_eight_bits_are_as_without():
    file = io.BytesIO()
    Image.fromarray(by_rule(DEEP)).save(file, "PNG")
    picture = read_picture(file.getvalue(), depth=8)
    assert np.array_equal(picture.samples, by_rule(DEEP)) and picture.notes == ()


def test_what_cannot_be_reduced_exactly_is_refused():
    multiplied = bytearray(tiff(DEEP, "<"))
    at = multiplied.index(struct.pack("<HHI", 338, 3, 1))
    multiplied[at + 8] = 1
    floats = io.BytesIO()
    Image.fromarray(DEEP[:, :, 0].astype(np.float32)).save(floats, "TIFF")
    inverted = bytearray(tiff(of_channels(1), "<"))
    at = inverted.index(struct.pack("<HHI", 262, 3, 1))
    inverted[at + 8] = 0
    plain = b"P3 1 1 1023\n1 2 3\n"
    for data in (bytes(multiplied), floats.getvalue(), bytes(inverted), plain, npy(DEEP.astype(np.uint32))):
        with pytest.raises(Unsupported):
            read_picture(data, depth=8)
    if features.check("jpg_2000"):
        file = io.BytesIO()
        Image.fromarray(by_rule(of_channels(3))).save(file, "JPEG2000")
        twelve = bytearray(file.getvalue())
        siz = twelve.index(b"\xff\x4f\xff\x51")
        twelve[siz + 42 : siz + 51 : 3] = b"\x0b\x0b\x0b"  # Ssiz: 12 bits
        with pytest.raises(Unsupported, match="cannot be reduced"):
            read_picture(bytes(twelve), depth=8)
    with pytest.raises(InvalidImage):
        read_picture(b"P5 1 1 0\n\0", depth=8)
    for depth in (16, 0, "8", True):
        with pytest.raises(UsageError, match="depth"):
            read_picture(plain, depth=depth)
