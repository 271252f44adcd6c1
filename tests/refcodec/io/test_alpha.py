"""Alpha: every kind of transparency that Pillow knows comes in as a channel, and goes out bit for bit."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from refcodec.errors import InvalidImage, Unsupported
from refcodec.io import picture_output
from refcodec.io.picture_output import check_format, write_picture
from refcodec.io.pictures import read_picture
from refcodec.io.properties import Picture, from_pillow

SOURCE = np.random.default_rng(3).integers(0, 256, (14, 22, 4), dtype=np.uint8)
SOURCE[:4, :, 3] = np.array([0, 1, 254, 255], np.uint8)[:, np.newaxis]
RGB, GREY, ALPHA = (np.ascontiguousarray(SOURCE[:, :, c]) for c in ([0, 1, 2], 0, 3))
INDEX = GREY % 7
PALETTE = np.random.default_rng(4).integers(0, 256, (7, 3), dtype=np.uint8)
PALETTE_ALPHA = np.array([0, 128, 255, 7, 255, 254, 1], np.uint8)


def saved(source: Image.Image, name: str, **options) -> bytes:
    file = io.BytesIO()
    source.save(file, name, **options)
    return file.getvalue()


def paletted(**info) -> Image.Image:
    made = Image.fromarray(INDEX, "L").convert("P")
    made.putpalette(PALETTE.tobytes())
    made.info.update(info)
    return made


def with_rgba_palette() -> Image.Image:
    made = Image.fromarray(INDEX, "L").convert("P")
    made.putpalette(np.column_stack([PALETTE, PALETTE_ALPHA]).tobytes(), "RGBA")
    return made


def palette_and_alpha() -> Image.Image:
    return Image.merge("PA", (Image.fromarray(INDEX, "L"), Image.fromarray(ALPHA, "L")))


def keyed(samples: np.ndarray, key) -> Image.Image:
    made = Image.fromarray(samples)
    made.info["transparency"] = key
    return made


ONE_COLOUR = tuple(map(int, RGB[5, 6]))
KEPT = [
    # the image, its colours and its alpha
    ("LA", Image.fromarray(np.dstack([GREY, ALPHA])), GREY, ALPHA),
    ("RGBA", Image.fromarray(SOURCE), RGB, ALPHA),
    ("P, bytes", paletted(transparency=PALETTE_ALPHA.tobytes()), PALETTE[INDEX], PALETTE_ALPHA[INDEX]),
    ("P, few bytes", paletted(transparency=b"\x05\xff"), PALETTE[INDEX], np.where(INDEX == 0, 5, 255)),
    ("P, index", paletted(transparency=3), PALETTE[INDEX], np.where(INDEX == 3, 0, 255)),
    ("P, RGBA palette", with_rgba_palette(), PALETTE[INDEX], PALETTE_ALPHA[INDEX]),
    ("1, key", keyed(GREY > 99, 0), np.where(GREY > 99, 255, 0), np.where(GREY > 99, 255, 0)),
    ("L, key", keyed(GREY, int(GREY[5, 6])), GREY, np.where(GREY[5, 6] == GREY, 0, 255)),
    ("RGB, key", keyed(RGB, ONE_COLOUR), RGB, np.where((RGB == ONE_COLOUR).all(axis=2), 0, 255)),
]


@pytest.mark.parametrize(("name", "source", "colours", "alpha"), KEPT, ids=[row[0] for row in KEPT])
def test_every_mode_of_pillow_becomes_colours_and_alpha(name, source, colours, alpha):
    picture = from_pillow(source.copy())
    assert picture.notes == () and picture.samples.dtype == np.uint8
    assert np.array_equal(picture.samples, np.dstack([colours, alpha]))


def test_palette_with_an_alpha_of_its_own():
    made = palette_and_alpha()
    made.putpalette(PALETTE.tobytes())
    assert np.array_equal(from_pillow(made).samples, np.dstack([PALETTE[INDEX], ALPHA]))


@pytest.mark.parametrize("rows", [1, 7])
def test_conversion_in_strips_gives_the_same(monkeypatch, rows):
    for _, source, colours, alpha in KEPT:
        monkeypatch.setattr("refcodec.io.pillow_samples.STRIP", rows * SOURCE.shape[1])
        assert np.array_equal(from_pillow(source.copy()).samples, np.dstack([colours, alpha]))


FORMATS = {
    # format: options, and modes whose alpha Pillow itself does not write
    "PNG": ({}, ()),
    "GIF": ({}, ("LA", "RGBA", "P, bytes", "P, few bytes", "P, RGBA palette", "1, key", "L, key", "RGB, key")),
    "TIFF": ({}, ("P, bytes", "P, few bytes", "P, index", "P, RGBA palette", "1, key", "L, key", "RGB, key")),
    "WEBP": ({"lossless": True, "exact": True}, ("1, key", "L, key", "RGB, key")),
    "AVIF": ({"quality": 100, "subsampling": "4:4:4"}, ("1, key", "L, key", "RGB, key")),
    "JPEG2000": ({}, ("1, key", "L, key", "RGB, key")),
    "TGA": ({}, ("P, bytes", "P, few bytes", "P, index", "1, key", "L, key", "RGB, key")),
    "QOI": ({}, ("1, key", "L, key", "RGB, key")),
    "BMP": ({}, tuple(row[0] for row in KEPT)),
    "PPM": ({}, tuple(row[0] for row in KEPT)),
    "PCX": ({}, tuple(row[0] for row in KEPT)),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("mode", "source", "colours", "alpha"), KEPT, ids=[row[0] for row in KEPT])
def test_alpha_of_every_mode_in_every_format_is_read(mode, source, colours, alpha, name):
    options, lost = FORMATS[name]
    more = {"transparency": source.info["transparency"]} if "transparency" in source.info and name == "PNG" else {}
    try:
        data = saved(source.copy(), name, **options, **more)
    except (OSError, KeyError, ValueError, TypeError):
        pytest.skip("Pillow does not write this")
    opened = Image.open(io.BytesIO(data))
    there = np.asarray(opened.convert("RGBA"))
    read = read_picture(data).samples
    has_alpha = read.shape[2:] in ((2,), (4,))
    assert np.array_equal(read[:, :, -1] if has_alpha else np.full(ALPHA.shape, 255), there[:, :, 3])
    if mode not in lost:
        assert has_alpha and np.array_equal(read[:, :, -1], alpha)
    if name != "AVIF":
        colour = read[:, :, :-1] if has_alpha else read.reshape(*ALPHA.shape, -1)
        assert np.array_equal(np.broadcast_to(colour, RGB.shape), there[:, :, :3])


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_colours_that_were_multiplied_by_alpha_are_divided_and_can_be_multiplied_again(mode):
    straight = Image.fromarray(np.dstack([GREY, ALPHA]) if mode == "La" else SOURCE)
    multiplied = straight.convert(mode)
    picture = from_pillow(multiplied)
    assert picture.notes == ("its colours were multiplied by alpha and were divided by it",)
    assert np.array_equal(picture.samples[:, :, -1], ALPHA)
    again = (picture.samples[:, :, :-1].astype(int) * ALPHA[:, :, np.newaxis] * 2 + 255) // 510
    assert np.array_equal(again, np.asarray(multiplied)[:, :, :-1])
    damaged = np.array(multiplied)
    damaged[0, 0] = 200, *[9] * (damaged.shape[2] - 1)
    with pytest.raises(InvalidImage, match="exceeds"):
        from_pillow(Image.frombytes(mode, multiplied.size, damaged.tobytes()))


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_opaque_alpha_is_dropped_in_every_mode(mode):
    plain = Image.fromarray(GREY if mode[0] == "L" else RGB)
    source = plain.convert("P").convert("PA") if mode == "PA" else plain.convert("LA" if mode[0] == "L" else "RGBA")
    expected = source.convert("L" if mode[0] == "L" else "RGB")
    picture = from_pillow(source.convert(mode))
    assert np.array_equal(picture.samples, np.asarray(expected)) and picture.notes == ()


@pytest.mark.parametrize(
    ("source", "unused"),
    [
        (Image.fromarray(GREY % 200), 250),
        (paletted(), 250),
        (Image.fromarray(RGB), (1, 1, 1)),
    ],
    ids=["L", "P", "RGB"],
)
def test_a_transparent_colour_that_no_sample_has_is_no_alpha(source, unused):
    picture = read_picture(saved(source, "PNG", transparency=unused))
    assert picture.notes == () and picture.samples.shape[2:] == (() if source.mode == "L" else (3,))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(("bits", "scale"), [(1, 255), (2, 85), (4, 17), (8, 1)])
def test_the_transparent_grey_of_a_png_has_the_depth_of_its_samples(bits, scale):
    """Pillow scales samples of two and four bits to eight, and not the transparent one."""
    values = np.arange(32).reshape(2, 16) % (1 << bits)
    packed = np.zeros((2, 2 * bits), np.uint8)
    each = 8 // bits
    for at in range(16):
        packed[:, at // each] |= (values[:, at] << (8 - bits - bits * (at % each))).astype(np.uint8)
    for key in (0, 1, (1 << bits) - 1):
        data = (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 2, bits, 0, 0, 0, 0))
            + chunk(b"tRNS", struct.pack(">H", key))
            + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed)))
            + chunk(b"IEND", b"")
        )
        expected = np.dstack([values * scale, np.where(values == key, 0, 255)])
        read = read_picture(data).samples
        assert np.array_equal(read, expected if (values == key).any() else expected[:, :, 0]), key


def test_tiff_alpha_that_colours_are_multiplied_by_is_divided_and_announced():
    data = bytearray(saved(Image.fromarray(np.minimum(SOURCE, SOURCE[:, :, 3:])), "TIFF"))
    entry = data.index(struct.pack("<HH", 338, 3))
    assert read_picture(bytes(data)).notes == ()
    data[entry + 8 : entry + 10] = b"\1\0"
    picture = read_picture(bytes(data))
    assert np.array_equal(picture.samples[:, :, 3], ALPHA)
    assert picture.notes == ("its colours were multiplied by alpha and were divided by it, which rounds",)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow lacks JPEG 2000")
def test_jpeg_2000_alpha_that_colours_are_multiplied_by_is_refused():
    data = saved(Image.fromarray(SOURCE), "JPEG2000")
    at = data.index(b"cdef") - 4
    (length,) = struct.unpack(">I", data[at : at + 4])
    entries = np.frombuffer(data[at + 10 : at + length], ">u2").reshape(-1, 3).copy()
    assert read_picture(data).samples.shape == SOURCE.shape
    entries[entries[:, 1] == 1, 1] = 2
    with pytest.raises(Unsupported, match="multiplied by alpha"):
        read_picture(data[: at + 10] + entries.tobytes() + data[at + length :])


@pytest.mark.parametrize("shape", [(14, 22, 2), (14, 22, 4)], ids=["grey", "rgb"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_holds_alpha(shape, order):
    samples = SOURCE[:, :, -shape[2] :].copy()
    file = io.BytesIO()
    np.save(file, np.asarray(samples, order=order))
    assert np.array_equal(read_picture(file.getvalue()).samples, samples)
    samples[:, :, -1] = 255
    file = io.BytesIO()
    np.save(file, np.asarray(samples, order=order))
    expected = samples[:, :, 0] if shape[2] == 2 else samples[:, :, :3]
    read = read_picture(file.getvalue()).samples
    assert np.array_equal(read, expected) and read.flags.c_contiguous


# ---------------------------------------------------------------------------------------------------------- writing

HELD = [".png", ".pam", ".npy", ".webp", ".avif", ".tif", ".tiff", ".jp2", ".j2k", ".tga", ".qoi"]
NOT_HELD = [".jpg", ".jpeg", ".ppm", ".pgm", ".pnm", ".bmp"]


def test_every_extension_is_in_one_of_the_lists():
    assert sorted(HELD + NOT_HELD) == sorted(picture_output._EXTENSIONS)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("extension", HELD)
def test_alpha_is_written_and_read_bit_for_bit(tmp_path, extension, channels):
    if not features.check({".avif": "avif", ".jp2": "jpg_2000", ".j2k": "jpg_2000"}.get(extension, "zlib")):
        pytest.skip("this Pillow lacks the format")
    samples = np.ascontiguousarray(SOURCE[:, :, -channels:])
    path = tmp_path / f"o{extension}"
    assert write_picture(path, Picture(samples)) == ()
    picture = read_picture(path)
    read = picture.samples
    assert picture.notes in ((), ("left out: its comment",))  # OpenJPEG's name
    assert np.array_equal(read[:, :, -1], samples[:, :, -1])
    if extension in (".webp", ".avif", ".qoi") and channels == 2:
        assert read.shape[2] == 4  # these formats know no grey
        samples = np.dstack([samples[:, :, :1]] * 3 + [samples[:, :, 1:]])
    if extension != ".avif":
        assert np.array_equal(read, samples)


@pytest.mark.parametrize("extension", NOT_HELD)
def test_formats_without_alpha_refuse_it_and_name_those_with(tmp_path, extension):
    path = tmp_path / f"o{extension}"
    for refuse in (
        lambda: check_format(path, alpha=True),
        lambda: write_picture(path, Picture(SOURCE)),
        lambda: write_picture(path, Picture(SOURCE[:, :, 2:])),
    ):
        with pytest.raises(Unsupported, match=r"alpha.*\.png.*\.tif.*\.webp"):
            refuse()
    check_format(path)
    assert os.listdir(tmp_path) == []
