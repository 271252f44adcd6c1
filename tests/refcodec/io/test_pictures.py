"""refcodec.io.pictures and refcodec.io.files: what is read, converted, refused and written, and the padded planes."""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from refcodec.errors import (
    InvalidImage,
    LimitExceeded,
    MissingInput,
    OutputError,
    RefcodecError,
    TransferError,
    Unsupported,
    UsageError,
)
from refcodec.io import files
from refcodec.io.picture_output import check_format, write_picture
from refcodec.io.pictures import read_picture
from refcodec.io.properties import EXIF_PREFIX, Picture, from_pillow
from refcodec.limits import MAX_SIDE, Limits
from refcodec.planes import crop_samples, pad_samples

PICTURES = Path(__file__).parents[3] / "conformance" / "data" / "pictures"
RGB = np.random.default_rng(1).integers(0, 256, (13, 21, 3), dtype=np.uint8)
GREY = np.ascontiguousarray(RGB[:, :, 0])


def saved(source: Image.Image, name: str, **options) -> bytes:
    file = io.BytesIO()
    source.save(file, name, **options)
    return file.getvalue()


def exif_block(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    return exif.tobytes().removeprefix(EXIF_PREFIX)


needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow lacks AVIF")
needs_j2k = pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow lacks JPEG 2000")


# ---------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("samples", [RGB, GREY], ids=["rgb", "grey"])
@pytest.mark.parametrize("name", ["PNG", "PPM", "BMP", "TIFF", "TGA"])
def test_eight_bit_grey_and_rgb_are_read_exactly(samples, name):
    read = read_picture(saved(Image.fromarray(samples), name)).samples
    assert read.dtype == np.uint8 and np.array_equal(read, samples)


@pytest.mark.parametrize("name", ["PNG", "PPM", "TIFF"])
def test_one_bit_becomes_0_and_255(name):
    bits = GREY > 99
    read = read_picture(saved(Image.fromarray(bits), name)).samples
    assert np.array_equal(read, np.where(bits, 255, 0)) and read.dtype == np.uint8


@pytest.mark.parametrize("name", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_becomes_rgb(name):
    palette = Image.fromarray(GREY % 5, "L").convert("P")
    palette.putpalette([200, 10, 20, 30, 140, 50, 60, 70, 80, 9, 8, 207, 255, 1, 0])
    colours = np.array([[200, 10, 20], [30, 140, 50], [60, 70, 80], [9, 8, 207], [255, 1, 0]], np.uint8)
    assert np.array_equal(read_picture(saved(palette, name)).samples, colours[GREY % 5])


def png_16_bit(colour_type: int, channels: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(8 * channels)) for _ in range(4))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, colour_type, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff_16_bit_rgb() -> bytes:
    tags = [
        (256, 3, 1, 2),
        (257, 3, 1, 2),
        (258, 3, 3, 200),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 220),
        (277, 3, 1, 3),
        (278, 3, 1, 2),
        (279, 4, 1, 24),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return head.ljust(200, b"\0") + struct.pack("<3H", 16, 16, 16).ljust(20, b"\0") + bytes(range(24))


@pytest.mark.parametrize(
    "data",
    [
        png_16_bit(0, 1),
        png_16_bit(2, 3),
        png_16_bit(4, 2),
        png_16_bit(6, 4),
        tiff_16_bit_rgb(),
        b"P5 1 1 65535\n\0\0",
        b"P6 1 1 15\n\0\0\0",
        b"P3 1 1 1023\n1 2 3\n",
        saved(Image.fromarray(GREY.astype(np.uint16)), "TIFF"),
    ],
)
def test_samples_of_another_depth_are_refused(data):
    with pytest.raises(Unsupported):
        read_picture(data)


@needs_j2k
def test_jpeg_2000_of_eight_bits_is_read_and_of_more_refused():
    for options in ({}, {"no_jp2": True}):
        data = saved(Image.fromarray(RGB), "JPEG2000", **options)
        assert np.array_equal(read_picture(data).samples, RGB)
        siz = data.index(b"\xff\x4f\xff\x51")
        twelve = bytearray(data)
        twelve[siz + 42 : siz + 51 : 3] = b"\x0b\x0b\x0b"  # Ssiz: 12 bits
        with pytest.raises(Unsupported, match="eight bits"):
            read_picture(bytes(twelve))


@needs_avif
def test_avif_of_eight_bits_is_read_and_of_more_refused():
    data = saved(Image.fromarray(RGB), "AVIF", quality=100, subsampling="4:4:4")
    assert read_picture(data).samples.shape == RGB.shape
    deep = bytearray(data)
    deep[data.index(b"av1C") + 6] |= 0x40  # high_bitdepth
    with pytest.raises(Unsupported, match="eight bits"):
        read_picture(bytes(deep))


@pytest.mark.parametrize(
    "source",
    [
        Image.fromarray(RGB).convert("CMYK"),
        Image.fromarray(RGB).convert("LAB"),
        Image.fromarray(GREY.astype(np.float32)),
        Image.fromarray(GREY.astype(np.int32)),
    ],
)
def test_other_colour_spaces_are_refused(source):
    with pytest.raises(Unsupported):
        read_picture(saved(source, "TIFF"))


def test_cmyk_jpeg_is_refused_and_ycbcr_jpeg_is_rgb():
    with pytest.raises(Unsupported, match="mode=CMYK"):
        read_picture(saved(Image.fromarray(RGB).convert("CMYK"), "JPEG"))
    data = saved(Image.fromarray(RGB), "JPEG")
    assert np.array_equal(read_picture(data).samples, np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(name):
    other = Image.fromarray(255 - RGB)
    data = saved(Image.fromarray(RGB), name, save_all=True, append_images=[other])
    with pytest.raises(Unsupported, match="several frames"):
        read_picture(data)


def test_tiff_samples_that_are_no_colour_are_refused():
    data = bytearray(saved(Image.fromarray(np.dstack([RGB, GREY])), "TIFF"))
    entry = data.index(struct.pack("<HH", 338, 3))  # ExtraSamples: from alpha to unspecified
    data[entry + 8 : entry + 12] = b"\0" * 4
    with pytest.raises(Unsupported, match="not colours"):
        read_picture(bytes(data))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("samples", [RGB, GREY], ids=["rgb", "grey"])
def test_npy_is_read_in_both_orders(samples, order):
    file = io.BytesIO()
    np.save(file, np.asarray(samples, order=order))
    read = read_picture(file.getvalue()).samples
    assert np.array_equal(read, samples) and read.flags.c_contiguous and read.flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        RGB.astype(np.int16),
        RGB.astype(np.uint16),
        RGB[None],
        RGB[:, :, :1],
        np.dstack([RGB, RGB]),
        np.array([{}], object),
        np.zeros(5, np.uint8),
    ],
)
def test_npy_that_is_no_picture_is_refused(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    with pytest.raises(Unsupported):
        read_picture(file.getvalue())


def pam(fields: bytes, samples: bytes = b"AB") -> bytes:
    return b"P7\n" + fields + b"ENDHDR\n" + samples


PAM = b"WIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\n"


def test_pam_is_read_by_its_fields():
    assert read_picture(pam(PAM + b"TUPLTYPE GRAYSCALE_ALPHA\n")).samples.tolist() == [[[65, 66]]]
    assert read_picture(pam(b"# alpha\nDEPTH 2\n\n MAXVAL 255 \nHEIGHT 1\nWIDTH 1\n")).samples.tolist() == [[[65, 66]]]
    one = b"WIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 1\nTUPLTYPE BLACKANDWHITE\n"
    assert read_picture(pam(one, b"\0\1"), depth=8).samples.tolist() == [[0, 255]]
    with pytest.raises(Unsupported, match="depth"):
        read_picture(pam(one, b"\0\1"))
    deep = b"WIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 65535\n"
    assert read_picture(pam(deep, b"\1\1\2\2"), depth=8).samples.tolist() == [[[1, 2]]]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (pam(PAM)[:-10], InvalidImage),
        (pam(PAM.replace(b"WIDTH 1\n", b"")), InvalidImage),
        (pam(PAM.replace(b"WIDTH 1\n", b"WIDTH\n")), InvalidImage),
        (pam(PAM.replace(b"WIDTH 1", b"WIDTH -1")), InvalidImage),
        (pam(PAM.replace(b"WIDTH 1", b"WIDTH x")), InvalidImage),
        (pam(PAM.replace(b"WIDTH 1", b"WIDTH " + b"1" * 5000)), InvalidImage),
        (pam(PAM.replace(b"WIDTH 1", b"WIDTH 1" + b"0" * 11)), InvalidImage),
        (pam(PAM.replace(b"255", b"0")), InvalidImage),
        (pam(PAM, b"ABC"), InvalidImage),
        (pam(PAM, b"A"), InvalidImage),
        (pam(b"#" * 5000 + b"\n" + PAM), InvalidImage),
        (b"P7 332\n#xv thumbnail\n", InvalidImage),
        (pam(PAM + b"TUPLTYPE CMYK\n"), Unsupported),
        (pam(PAM + b"TUPLTYPE RGB\n"), Unsupported),
        (pam(PAM.replace(b"DEPTH 2", b"DEPTH 5"), b"ABCDE"), Unsupported),
    ],
)
def test_pam_that_is_no_picture_is_refused(data, error):
    with pytest.raises(error):
        read_picture(data)


def test_pam_is_written_with_its_type(tmp_path):
    for samples, kind in ((GREY, b"GRAYSCALE"), (RGB, b"RGB"), (np.dstack([RGB, GREY]), b"RGB_ALPHA")):
        write_picture(tmp_path / "o.pam", Picture(samples), force=True)
        depth = samples.size // GREY.size
        head = b"P7\nWIDTH 21\nHEIGHT 13\nDEPTH %d\nMAXVAL 255\nTUPLTYPE %s\nENDHDR\n" % (depth, kind)
        assert (tmp_path / "o.pam").read_bytes() == head + samples.tobytes()


def test_pnm_headers_may_hold_comments():
    assert read_picture(b"P5 # grey\n#\n 2\t1 # size\r255\nAB").samples.tolist() == [[65, 66]]
    assert read_picture(b"P3\n1 1\n255\n1 2 3\n").samples.tolist() == [[[1, 2, 3]]]
    assert read_picture(b"P5\n1 1\n255\n#").samples.tolist() == [[35]]


def whole_files() -> list[bytes]:
    npy = io.BytesIO()
    np.save(npy, RGB)
    return [saved(Image.fromarray(RGB), name) for name in ("PNG", "PPM", "JPEG", "BMP", "WEBP")] + [npy.getvalue()]


@pytest.mark.parametrize("data", whole_files(), ids=["png", "ppm", "jpeg", "bmp", "webp", "npy"])
def test_truncated_files_are_refused(data):
    for length in sorted({0, 1, 2, 8, 9, 20, 40, len(data) // 2, len(data) - 30}):
        with pytest.raises(InvalidImage):
            read_picture(data[:length])


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.sampled_from(whole_files()),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4),
    st.integers(0, 2000),
)
def test_damaged_files_raise_only_our_errors_and_no_warning(data, changes, length):
    damaged = bytearray(data[:length] if length < 1500 else data)
    for place, value in changes:
        if place < len(damaged):
            damaged[place] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            picture = read_picture(bytes(damaged), Limits(max_pixels=1 << 16))
        except RefcodecError:
            return
    assert picture.samples.dtype == np.uint8 and picture.samples.ndim in (2, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"hello, no picture at all",
        b"P6\n",
        b"P5 x",
        b"P5 0 1 255\n",
        b"P5 1 1 255\nAB",
        b"P6 2 2 255\n0123456789",
        b"\x93NUMPY\x01\0\x10\0garbage garbage!",
    ],
)
def test_what_is_no_picture_is_invalid(data):
    with pytest.raises(InvalidImage):
        read_picture(data)


def test_an_image_without_samples_is_no_picture():
    with pytest.raises(InvalidImage, match="empty"):
        from_pillow(Image.new("RGB", (0, 5)))


def test_limits_hold_on_the_header_alone():
    bomb = bytearray(saved(Image.new("L", (8, 8)), "PNG"))
    bomb[16:24] = struct.pack(">II", 60000, 60000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 60000), }"
    huge = b"\x93NUMPY\x01\0v\0" + header.ljust(117) + b"\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in (bytes(bomb), b"P5 60000 60000 255\n", huge):
            with pytest.raises(LimitExceeded):
                read_picture(data)
        with pytest.raises(LimitExceeded):
            read_picture(f"P5 {MAX_SIDE + 1} 1 255\n".encode())
    before = Image.MAX_IMAGE_PIXELS
    data = saved(Image.fromarray(RGB), "PNG")
    assert read_picture(data, Limits(max_pixels=64 * 64, max_memory=9 * 13 * 21)).samples.shape == RGB.shape
    for limits in (Limits(max_pixels=64 * 64 - 1), Limits(max_memory=9 * 13 * 21 - 1), Limits(max_pixels=1)):
        with pytest.raises(LimitExceeded):
            read_picture(data, limits)
    assert before == Image.MAX_IMAGE_PIXELS


def test_missing_inputs(tmp_path):
    for path in (tmp_path / "nothing.png", tmp_path, tmp_path / "a" / "b.png", "", "zero\0byte"):
        with pytest.raises(MissingInput):
            read_picture(path)
        with pytest.raises(MissingInput):
            files.read_bytes(path)


def test_a_failed_read_is_a_transfer_error(monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=fail, seekable=lambda: False)))
    for read in (read_picture, files.read_bytes):
        with pytest.raises(TransferError, match="Input/output"):
            read("-")


def test_standard_input_and_output(monkeypatch):
    data = saved(Image.fromarray(RGB), "PNG")
    pipe = io.BytesIO(data)
    pipe.seekable = lambda: False  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
    assert np.array_equal(read_picture("-").samples, RGB)
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=output))
    write_picture("-", Picture(GREY))
    assert output.getvalue().startswith(b"\x89PNG") and np.array_equal(read_picture(output.getvalue()).samples, GREY)


# --------------------------------------------------------------------------------------------------------- metadata


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", pytest.param(".avif", marks=needs_avif)])
def test_metadata_travels_and_samples_are_not_rotated(tmp_path, extension):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = Picture(RGB, exif_block(6), profile, b"<x:xmpmeta/>")
    path = tmp_path / f"o{extension}"
    assert write_picture(path, source) == ()
    read = read_picture(path)
    assert read.samples.shape == RGB.shape
    assert (read.icc_profile, read.xmp) == (profile, b"<x:xmpmeta/>")
    exif = Image.Exif()
    exif.load(read.exif)
    assert (exif[0x0112], exif[0x010F]) == (6, "maker")
    if extension != ".avif":  # AVIF keeps the orientation apart, Pillow puts it back
        assert read.exif == source.exif


def test_metadata_that_a_format_does_not_hold_is_named(tmp_path):
    assert write_picture(tmp_path / "o.ppm", Picture(RGB, b"a", None, b"c")) == (
        "the format does not carry EXIF; it is left out",
        "the format does not carry XMP; it is left out",
    )
    assert write_picture(tmp_path / "o.bmp", Picture(RGB, exif_block(6)))[1] == (
        "the picture is not upright: its orientation (6) was in the EXIF"
    )
    assert write_picture(tmp_path / "o.tif", Picture(RGB, b"damaged", b"b" * 200, b"c")) == (
        "left out: EXIF, which is damaged",
    )
    read = read_picture(tmp_path / "o.tif")
    assert (read.icc_profile, read.xmp, read.exif) == (b"b" * 200, b"c", None)


def test_metadata_too_long_for_a_format_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(Unsupported):
        write_picture(tmp_path / "o.jpg", Picture(RGB, b"MM\0*" + bytes(70000)))
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------------------- writing

LOSSLESS = [
    ".png",
    ".PNG",
    ".ppm",
    ".pnm",
    ".pam",
    ".npy",
    ".tif",
    ".tiff",
    ".bmp",
    ".tga",
    ".webp",
    ".qoi",
    pytest.param(".jp2", marks=needs_j2k),
    pytest.param(".j2k", marks=needs_j2k),
]


@pytest.mark.parametrize("extension", LOSSLESS)
def test_lossless_formats_return_the_samples(tmp_path, extension):
    path = tmp_path / f"o{extension}"
    write_picture(path, Picture(RGB))
    assert np.array_equal(read_picture(path).samples, RGB)
    write_picture(path, Picture(GREY), force=True)
    read = read_picture(path).samples
    expected = np.dstack([GREY] * 3) if extension in (".webp", ".qoi") else GREY  # these know no grey
    assert np.array_equal(read, expected)
    assert os.listdir(tmp_path) == [path.name]


def test_lossy_formats_come_close(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(50))[:, :, None] * np.array([1, 2, 2]) % 256
    smooth = np.minimum(smooth, 250).astype(np.uint8)[:, :, :3]
    for extension in (".jpg", ".jpeg", *([".avif"] if features.check("avif") else [])):
        write_picture(tmp_path / f"o{extension}", Picture(smooth[:24, :24]))
        read = read_picture(tmp_path / f"o{extension}").samples
        assert np.abs(read.astype(int) - smooth[:24, :24]).max() < 12


def test_pgm_refuses_colour_and_pnm_bytes_are_plain(tmp_path):
    with pytest.raises(Unsupported, match="colour"):
        write_picture(tmp_path / "o.pgm", Picture(RGB))
    write_picture(tmp_path / "o.pgm", Picture(GREY))
    assert (tmp_path / "o.pgm").read_bytes() == b"P5\n21 13\n255\n" + GREY.tobytes()
    assert os.listdir(tmp_path) == ["o.pgm"]


@pytest.mark.parametrize("name", ["o", "o.gif", "o.xyz", "o.loclic", ".png"])
def test_unknown_extensions_are_refused(tmp_path, name):
    for refuse in (check_format, lambda path: write_picture(path, Picture(RGB))):
        with pytest.raises(Unsupported, match="extension"):
            refuse(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_existing_files_need_force(tmp_path):
    path = tmp_path / "o.png"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="--force"):
        write_picture(path, Picture(RGB))
    assert path.read_bytes() == b"old"
    write_picture(path, Picture(RGB), force=True)
    assert np.array_equal(read_picture(path).samples, RGB)


def test_outputs_that_cannot_be_created(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "o.png", tmp_path / ("n" * 300)):
        with pytest.raises(OutputError):
            files.write_bytes(path, b"x", force=True)
    assert os.listdir(tmp_path) == []


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "o.bin"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OutputError):
            files.write_bytes(path, b"new", force=True)
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        files.write_bytes(path, b"new", force=True)
    assert os.listdir(tmp_path) == ["o.bin"] and path.read_bytes() == b"old"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_device_is_a_transfer_error():
    with pytest.raises(TransferError, match="space"):
        files.write_bytes("/dev/full", b"x" * 100000)


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write_bytes(tmp_path / "link", b"new", force=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize(
    "samples",
    [RGB.astype(np.int16), RGB[:0], RGB[None], RGB[:, :, :1], [[1]], np.broadcast_to(np.uint8(0), (1, MAX_SIDE + 1))],
)
def test_only_pictures_are_written_and_padded(tmp_path, samples):
    with pytest.raises(UsageError):
        write_picture(tmp_path / "o.png", Picture(samples))
    with pytest.raises(UsageError):
        pad_samples(samples)


# ----------------------------------------------------------------------------------------------------------- planes


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(1, 130), st.integers(1, 130), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_planes_are_padded_by_their_edge_and_crop_back(height, width, channels, seed):
    shape = (height, width) if channels == 1 else (height, width, 3)
    samples = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    planes = pad_samples(samples)
    assert planes.dtype == np.int16 and planes.flags.c_contiguous
    assert planes.shape == ((height + 63) // 64 * 64, (width + 63) // 64 * 64, 4)
    assert not planes[:, :, 3].any()
    rows = np.minimum(np.arange(planes.shape[0]), height - 1)
    columns = np.minimum(np.arange(planes.shape[1]), width - 1)
    rgb = samples if channels == 3 else np.repeat(samples[:, :, None], 3, axis=2)
    assert np.array_equal(planes[:, :, :3], rgb[np.ix_(rows, columns)])
    cropped = crop_samples(planes[:, :, :3].astype(np.uint8), height, width, channels)
    assert np.array_equal(cropped, samples) and cropped.dtype == np.uint8


def test_grey_is_the_weighted_mean_rounded_half_up():
    samples = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    samples[0, :2] = [[0], [255]]
    wanted = [[(red + 2 * green + blue + 2) // 4 for red, green, blue in row] for row in samples.tolist()]
    assert crop_samples(samples, 64, 64, 1).tolist() == wanted


# --------------------------------------------------------------------------------------------------------- pictures


def test_rendered_pictures_are_those_that_are_stored():
    spec = importlib.util.spec_from_file_location("render", PICTURES / "render.py")
    render = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render)
    assert sorted(render.PICTURES) == sorted(path.name for path in PICTURES.glob("*.png"))
    for name, draw in render.PICTURES.items():
        stored = read_picture(PICTURES / name).samples
        if stored.size < 100_000:  # the scenes take seconds
            assert np.array_equal(np.asarray(draw()), stored), name
    assert read_picture(PICTURES / "stone.png").samples.shape == (61, 97)
