"""Properties of pictures: each that Pillow reports is carried, converted, announced or refused, at a bounded cost."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, features

from refcodec.errors import InvalidImage, LimitExceeded, RefcodecError, Unsupported
from refcodec.io import picture_facts as facts
from refcodec.io import pictures as image
from refcodec.io.colour_profile import SRGB_POINTS, profile_of_png
from refcodec.io.picture_output import write_picture
from refcodec.io.pictures import read_picture
from refcodec.io.properties import EXIF_PREFIX, Picture, from_pillow
from refcodec.limits import Limits

RGB = np.random.default_rng(1).integers(0, 256, (13, 21, 3), dtype=np.uint8)
GREY = np.ascontiguousarray(RGB[:, :, 0])
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta/>"


def saved(source: Image.Image, name: str, **options) -> bytes:
    file = io.BytesIO()
    source.save(file, name, **options)
    return file.getvalue()


def exif_of(**tags) -> bytes:
    """An EXIF block with a directory below the first, as in JPEG."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x8769] = {0x9003: "2020:01:01 00:00:00"}
    for tag, value in tags.items():
        exif[int(tag[1:])] = value
    return exif.tobytes()


def png(*chunks: tuple[bytes, bytes], samples: np.ndarray = RGB) -> bytes:
    """A PNG with chunks behind its header."""
    data = saved(Image.fromarray(samples), "PNG")
    made = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:33] + made + data[33:]


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with segments behind its beginning."""
    data = saved(Image.fromarray(RGB), "JPEG")
    return (
        data[:2] + b"".join(struct.pack(">BBH", 255, code, len(body) + 2) + body for code, body in segments) + data[2:]
    )


def notes(data: bytes) -> str:
    return "; ".join(read_picture(data).notes)


# ---------------------------------------------------------------------------------------------------- the whole table

STORED = {
    "compression",
    "interlace",
    "progressive",
    "progression",
    "adobe",
    "adobe_transform",
    "jfif",
    "jfif_version",
    "version",
    "orientation",
    "bbox",
    "blend",
    "disposal",
    "duration",
    "timestamp",
    "loop",
    "background",
}
"""How a file stores its only picture; nothing of the picture's meaning."""
WORDS = {
    "dpi": "resolution",
    "aspect": "resolution",
    "resolution": "resolution",
    "jfif_density": "resolution",
    "comment": "comment",
    "photoshop": "Photoshop",
    "mp": "further pictures",
    "extension": "extension",
    "id_section": "identification",
}
FORMATS = [
    name
    for name in image.READABLE
    if name not in ("AVIF", "JPEG2000") or features.check({"AVIF": "avif", "JPEG2000": "jpg_2000"}[name])
]
MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]


def of_mode(mode: str) -> Image.Image:
    source = Image.fromarray(RGB)
    if mode == "La":
        return source.convert("LA").convert("La")
    if mode in ("RGBa", "PA"):
        return source.convert("RGBA").convert(mode) if mode == "RGBa" else source.convert("P").convert("PA")
    return source.convert("L").convert(mode) if mode in ("I", "I;16", "F") else source.convert(mode)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_nothing_that_pillow_reports_is_dropped_in_silence(mode, name):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "somebody")
    options = {"exif": exif_of(t274=6), "icc_profile": ICC, "xmp": XMP, "dpi": (300, 300), "comment": b"a comment"}
    if name == "PNG":
        options["pnginfo"] = texts
    if name == "TGA":
        options["id_section"] = b"me"
    try:
        data = saved(of_mode(mode), name, **options)
    except (OSError, KeyError, ValueError):
        pytest.skip("Pillow does not write this")
    opened = Image.open(io.BytesIO(data))
    opened.load()
    try:
        picture = read_picture(data)
    except Unsupported:
        assert opened.mode not in ("1", "L", "P", "RGB", "LA", "PA", "RGBA")
        return
    assert opened.mode in ("1", "L", "P", "RGB", "LA", "PA", "RGBA")
    expected = np.asarray(opened.convert("RGB"))
    assert np.array_equal(picture.samples if picture.samples.ndim == 3 else np.dstack([picture.samples] * 3), expected)
    announced = "; ".join(picture.notes)
    for key, value in opened.info.items():
        if key in STORED or (name == "TIFF" and key in ("dpi", "resolution")):  # in the EXIF
            continue
        if key == "transparency":
            assert opened.convert("RGBA").getextrema()[3] == (255, 255)
        elif key == "exif":
            exif = Image.Exif()
            exif.load(picture.exif)
            assert exif[0x010F] == "maker" and exif.get_ifd(0x8769)[0x9003].startswith("2020") and exif[274] == 6
        elif key == "icc_profile":
            assert picture.icc_profile == value or "ICC profile" in announced
        elif key in ("xmp", "XML:com.adobe.xmp"):
            assert picture.xmp == XMP
        elif key in ("jfif_unit", "jfif_density", "dpi", "aspect") and picture.exif and b"\x01\x1a" in picture.exif:
            pass
        elif key != "jfif_unit":
            assert WORDS.get(key, repr(key)) in announced, key
    if name == "TIFF":
        assert picture.xmp == XMP or "xmp" not in opened.info
        exif = Image.Exif()
        exif.load(picture.exif)
        assert exif[0x010F] == "maker" and exif[274] == 1 and exif[282] == 300
        assert exif.get_ifd(0x8769)[0x9003].startswith("2020")


def test_a_property_that_the_table_does_not_know_is_announced():
    source = Image.fromarray(RGB)
    source.info["depth of field"] = 3
    assert from_pillow(source).notes == ("left out: 'depth of field'",)
    many = Image.fromarray(RGB)
    many.info = {"k" * 300 + str(i): i for i in range(100)}
    assert len(from_pillow(many).notes[0]) < 1500 and "others" in from_pillow(many).notes[0]


# ------------------------------------------------------------------------------------------------------- texts of PNG


def test_a_png_text_cannot_hide_transparency():
    for name in (b"transparency", b"icc_profile", b"gamma"):
        with pytest.raises((Unsupported, InvalidImage)):
            read_picture(png((b"tEXt", name + b"\0none")))


@pytest.mark.parametrize("name", [b"exif", b"xmp", b"dpi", b"aspect"])
def test_a_png_text_cannot_take_the_place_of_metadata(name):
    """Pillow keeps texts and properties by name in one dictionary, so the later of the two would hide the other."""
    exif = exif_of(t274=6).removeprefix(EXIF_PREFIX)
    for chunks in (
        [(b"tEXt", name + b"\0words")],
        [(b"eXIf", exif), (b"tEXt", name + b"\0words")],
        [(b"pHYs", struct.pack(">IIB", 1, 2, 0)), (b"tEXt", name + b"\0words")],
    ):
        with pytest.raises(Unsupported, match="a text chunk has the name"):
            read_picture(png(*chunks))


# ----------------------------------------------------------------------------------------------------------- metadata


def raw_profile(kind: str, data: bytes) -> tuple[bytes, bytes]:
    return b"tEXt", f"Raw profile type {kind}\0\n{kind}\n{len(data):8d}\n{data.hex()}\n".encode()


def test_metadata_in_imagemagicks_png_texts_is_carried():
    exif = exif_of(t274=3)
    for kind in ("exif", "APP1"):
        read = read_picture(png(raw_profile(kind, exif)))
        assert read.exif == exif.removeprefix(EXIF_PREFIX) and read.notes == ()
    assert read_picture(png(raw_profile("APP1", b"http://ns.adobe.com/xap/1.0/\0" + XMP))).xmp == XMP
    assert read_picture(png(raw_profile("xmp", XMP))).xmp == XMP
    assert read_picture(png(raw_profile("icc", ICC))).icc_profile == ICC
    assert "Raw profile type iptc" in notes(png(raw_profile("iptc", b"x")))
    assert "damaged" in notes(png((b"tEXt", b"Raw profile type exif\0\nexif\n 4\nno digits\n")))


def test_tiff_tags_become_exif_byte_for_byte():
    source = Image.fromarray(RGB)
    info = exif_of(t274=6, t315="x" * 9, t33432="c", t34853={1: "N"})
    data = bytearray(saved(source, "TIFF", exif=info, dpi=(200, 100)))
    at = data.index(b"x" * 9)
    data[at : at + 9] = "Zoë Müll".encode()[:9]
    picture = read_picture(bytes(data))
    assert np.array_equal(picture.samples, np.rot90(RGB, -1)) and picture.notes == ()
    assert "Zoë Mü".encode() in picture.exif
    exif = Image.Exif()
    exif.load(picture.exif)
    assert (exif[274], exif[282], exif[283], exif[33432], exif.get_ifd(0x8825)[1]) == (1, 200, 100, "c", "N")
    assert "TIFF tags 33723, 65000" in notes(saved(source, "TIFF", tiffinfo={65000: "own", 33723: b"iptc"}))


def test_big_tiff_gives_the_same_exif():
    options = {"exif": exif_of(t315="somebody with a name")}
    small, big = (read_picture(saved(Image.fromarray(RGB), "TIFF", big_tiff=big, **options)) for big in (False, True))
    assert small.exif == big.exif and np.array_equal(big.samples, RGB)


def test_tiff_directories_below_or_damaged_are_announced():
    data = bytearray(saved(Image.fromarray(RGB), "TIFF", exif=exif_of()))
    at = data.index(struct.pack("<HHI", 34665, 4, 1))
    data[at + 8 : at + 12] = struct.pack("<I", 1 << 30)
    assert "TIFF tags 34665" in notes(bytes(data))


def test_a_png_says_what_it_cannot_carry():
    assert notes(png((b"pHYs", struct.pack(">IIB", 3000, 3000, 1)))) == "left out: its resolution"
    assert notes(png((b"pHYs", struct.pack(">IIB", 1, 1, 0)))) == ""
    assert notes(png((b"pHYs", struct.pack(">IIB", 2, 1, 0)))) == "left out: its resolution"
    assert "PNG chunks caBX, oFFs" in notes(png((b"oFFs", bytes(9)), (b"caBX", b"?")))
    assert "'Author'" in notes(png((b"tEXt", b"Author\0me"))) and "'loop'" in notes(png((b"tEXt", b"loop\0me")))
    assert "a damaged ICC profile" in notes(png((b"iCCP", b"p\0\0broken")))


def test_a_jpeg_says_what_it_cannot_carry():
    found = notes(
        jpeg(
            (0xEB, b"JP\0content credentials"),
            (0xE1, b"http://ns.adobe.com/xmp/extension/\0..."),
            (0xFE, b"words"),
            (0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x02ab"),
        )
    )
    for words in ("APP11 'JP'", "xmp/extension", "comment", "Photoshop"):
        assert words in found
    assert notes(saved(Image.fromarray(RGB), "JPEG")) == ""
    assert "resolution" in notes(saved(Image.fromarray(RGB), "JPEG", dpi=(72, 72)))


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow lacks JPEG 2000")
def test_jpeg_2000_boxes_carry_metadata():
    data = saved(Image.fromarray(RGB), "JPEG2000", comment="words")
    head = struct.unpack(">I", data[:4])[0] + struct.unpack(">I", data[12:16])[0]
    uuid = b"".join(
        struct.pack(">I4s", 24 + len(body), b"uuid") + name + body
        for name, body in (
            (bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), XMP),
            (b"JpgTiffExif->JP2", b"II*\0"),
            (b"?" * 16, b""),
        )
    )
    picture = read_picture(data[:head] + uuid + data[head:])
    assert (picture.xmp, picture.exif) == (XMP, b"II*\0")
    assert "UUID" in picture.notes[0] and "comment" in picture.notes[0]


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow lacks JPEG 2000")
@pytest.mark.parametrize("space", [0, 14, 20, 21, 1 << 31])
def test_a_jpeg_2000_of_another_colour_space_is_refused(space):
    """Pillow would give its samples as RGB."""
    data = bytearray(saved(Image.fromarray(RGB), "JPEG2000"))
    at = data.index(b"colr") + 7
    assert data[at : at + 4] == struct.pack(">I", 16)
    data[at : at + 4] = struct.pack(">I", space)
    with pytest.raises(Unsupported, match="colour space"):
        read_picture(bytes(data))


def test_signed_samples_are_refused():
    """Pillow would give them as unsigned."""
    with pytest.raises(Unsupported, match="unsigned"):
        read_picture(saved(Image.fromarray(GREY), "TIFF", tiffinfo={339: 2}))
    assert np.array_equal(read_picture(saved(Image.fromarray(GREY), "TIFF", tiffinfo={339: 1})).samples, GREY)


def test_a_jpeg_of_a_process_that_pillow_lacks_is_unsupported_rather_than_damaged():
    data = bytearray(saved(Image.fromarray(RGB), "JPEG"))
    data[data.index(b"\xff\xc0") + 1] = 0xC3  # lossless
    with pytest.raises(Unsupported, match="JPEG process 3"):
        read_picture(bytes(data))


def test_a_profile_of_another_colour_space_is_announced():
    for samples, space in ((GREY, b"RGB "), (RGB, b"GRAY"), (RGB, b"CMYK")):
        profile = ICC[:16] + space + ICC[20:]
        picture = read_picture(saved(Image.fromarray(samples), "PNG", icc_profile=profile))
        assert picture.icc_profile is None and "ICC profile" in picture.notes[0]


# ------------------------------------------------------------------------------------------------------------- colour

P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


def chunk_of(points) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(100000 * x) for x in points))


def test_png_colours_become_a_profile_unless_they_are_srgb():
    gamma = (b"gAMA", struct.pack(">I", 45455))
    for chunks in (
        (gamma,),
        (gamma, chunk_of(SRGB_POINTS)),
        (chunk_of(SRGB_POINTS),),
        ((b"sRGB", b"\0"), chunk_of(P3)),
        ((b"cICP", bytes([1, 13, 0, 1])),),
    ):
        picture = read_picture(png(*chunks))
        assert (picture.icc_profile, picture.notes) == (None, ())
    for chunks in (
        (gamma, chunk_of(P3)),
        (chunk_of(P3),),
        ((b"gAMA", struct.pack(">I", 100000)),),
        ((b"cICP", bytes([12, 13, 0, 1])),),
    ):
        for samples in (RGB, GREY):
            picture = read_picture(png(*chunks, samples=samples))
            assert picture.icc_profile[16:20] == (b"GRAY" if samples.ndim == 2 else b"RGB ")
            assert "became an ICC profile" in picture.notes[0]
            ImageCms.ImageCmsProfile(io.BytesIO(picture.icc_profile))
    assert "no colours" in notes(png((b"gAMA", bytes(4))))
    assert "no colours" in notes(png(gamma, (b"cHRM", bytes(32))))
    assert "no colours" in notes(png(gamma, chunk_of((0.3, 0.3) * 4)))


@pytest.mark.parametrize("gamma", [1.0, 1 / 2.2, 1 / 1.8])
def test_the_profile_describes_the_colours(gamma):
    profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_of_png(gamma, P3, False)))
    colours = np.random.default_rng(3).integers(90, 160, (1, 40, 3), dtype=np.uint8)  # within sRGB
    got = np.asarray(ImageCms.profileToProfile(Image.fromarray(colours), profile, ImageCms.createProfile("sRGB")))

    def matrix(points):
        xy = np.array(points).reshape(4, 2)
        xyz = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(1)) / xy[:, 1]])
        return xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])

    linear = np.clip((colours / 255) ** (1 / gamma) @ matrix(P3).T @ np.linalg.inv(matrix(SRGB_POINTS)).T, 0, 1)
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    inside = ((linear > 0.001) & (linear < 0.999)).all(-1)
    assert inside.sum() > 20 and np.abs(got - expected)[inside].max() < 2


@pytest.mark.parametrize("points", [(9, 16), (9, 18), (1, 17), (5, 13)])
def test_hdr_and_rare_colours_are_refused(points):
    with pytest.raises(Unsupported, match="colour space"):
        read_picture(png((b"cICP", bytes([*points, 0, 1]))))
    with pytest.raises(Unsupported, match="video range"):
        read_picture(png((b"cICP", bytes([1, 13, 0, 0]))))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow lacks AVIF")
def test_avif_coding_points_are_looked_at():
    data = saved(Image.fromarray(RGB), "AVIF")
    assert notes(data) == ""
    at = data.index(b"nclx") + 4
    p3, pq = (data[:at] + struct.pack(">HH", *points) + data[at + 4 :] for points in ((12, 13), (9, 16)))
    assert read_picture(p3).icc_profile[16:20] == b"RGB "
    with pytest.raises(Unsupported, match="colour space"):
        read_picture(pq)


def test_a_qoi_that_says_linear_is_announced():
    data = bytearray(b"qoif" + struct.pack(">IIBB", 1, 1, 3, 0) + b"\xfe\x01\x02\x03" + bytes(7) + b"\1")
    assert read_picture(bytes(data)).notes == ()
    data[13] = 1
    assert "linear" in notes(bytes(data))


# ------------------------------------------------------------------------------------------------------------- frames


def test_a_camera_jpeg_gives_its_primary_picture():
    other = Image.fromarray(255 - RGB)
    data = saved(Image.fromarray(RGB), "MPO", save_all=True, append_images=[other])
    picture = read_picture(data)
    assert np.array_equal(picture.samples, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert "further pictures" in picture.notes[0]


def tiff_pages(*kinds: int) -> bytes:
    file = io.BytesIO()
    pages = [Image.fromarray(RGB[: 13 - i]) for i in range(len(kinds))]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], tiffinfo={254: 77777})
    data = bytearray(file.getvalue())
    for kind in kinds:
        at = data.index(struct.pack("<I", 77777))
        data[at : at + 4] = struct.pack("<I", kind)
    return bytes(data)


def test_smaller_versions_of_a_tiff_are_announced_and_pages_refused():
    picture = read_picture(tiff_pages(0, 1, 1))
    assert np.array_equal(picture.samples, RGB) and "2 smaller versions" in picture.notes[0]
    for kinds, words in (
        ((0, 0), "several frames"),
        ((0, 1, 2), "several frames"),
        ((0, 4), "mask"),
        ((1, 0), "preview"),
    ):
        with pytest.raises(Unsupported, match=words):
            read_picture(tiff_pages(*kinds))


# --------------------------------------------------------------------------------------------------- what Pillow lacks


def test_files_that_pillow_does_not_know_are_unsupported_rather_than_damaged():
    bmp = bytearray(saved(Image.fromarray(RGB), "BMP"))
    bmp[28] = 2  # two bits per sample
    tiff = bytearray(saved(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"))
    at = tiff.index(struct.pack("<HHIH", 259, 3, 1, 5))
    tiff[at + 8 : at + 10] = struct.pack("<H", 50001)  # WebP
    deep = bytearray(saved(Image.fromarray(RGB), "JPEG"))
    deep[deep.index(b"\xff\xc0") + 4] = 12
    for data in (bmp, tiff, deep):
        with pytest.raises(Unsupported, match="does not read") as caught:
            read_picture(bytes(data))
        assert caught.value.exit_code == 69


def test_no_format_is_opened_that_runs_a_program():
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n%%EndComments\n%%EOF\n"
    assert Image.open(io.BytesIO(data)).format == "EPS"
    for read in (read_picture, lambda data: image.open_picture(io.BytesIO(data))):
        with pytest.raises(InvalidImage, match="known format"):
            read(data)
    assert image.open_picture(io.BytesIO(saved(Image.fromarray(RGB), "PNG"))).size == (21, 13)


def test_a_png_header_that_is_not_first_cannot_hide_a_depth():
    data = png()
    text = b"\0\0\0\4tEXta\0bc" + struct.pack(">I", zlib.crc32(b"tEXta\0bc"))
    for other in (data[:8] + text + data[8:], data[:33] + data[8:33] + data[33:]):
        with pytest.raises(InvalidImage, match="header"):
            read_picture(other)


@pytest.mark.parametrize(
    "error",
    [
        SyntaxError,
        IndexError,
        struct.error,
        zlib.error,
        OverflowError,
        RecursionError,
        UnicodeDecodeError("ascii", b"", 0, 1, "x"),
        KeyError,
        AssertionError,
        EOFError,
    ],
)
def test_no_exception_of_pillow_leaves(monkeypatch, error):
    def fail(*_):
        raise error

    data = saved(Image.fromarray(RGB), "PNG")
    for place in ((PngImagePlugin.PngImageFile, "_open"), (PngImagePlugin.PngImageFile, "load")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, fail)
            with pytest.raises(InvalidImage):
                read_picture(data)


def test_lack_of_memory_is_a_limit(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise MemoryError

    data = saved(Image.fromarray(RGB), "PNG")
    with monkeypatch.context() as patch:
        patch.setattr(PngImagePlugin.PngImageFile, "load", fail)
        with pytest.raises(LimitExceeded):
            read_picture(data)
    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(LimitExceeded):
        write_picture(tmp_path / "o.bmp", Picture(RGB))
    assert os.listdir(tmp_path) == []


# --------------------------------------------------------------------------------------------------------------- cost


def jp2_of_many_boxes(count: int) -> bytes:
    """Each box of ten bytes behind the samples announces 65535 components."""
    data = bytearray(saved(Image.fromarray(RGB), "JPEG2000"))
    at = data.index(b"jp2c") - 4
    data[at : at + 4] = struct.pack(">I", len(data) - at)
    return bytes(data + (struct.pack(">I4s", 10, b"jp2c") + b"\xff\xff") * count + b"\7" * (3 * 65535 + 64))


def tiff_of_many_directories(count: int, kind: int) -> bytes:
    data = bytearray(saved(Image.fromarray(GREY), "TIFF", tiffinfo={254: 0}))
    (first,) = struct.unpack("<I", data[4:8])
    (entries,) = struct.unpack("<H", data[first : first + 2])
    data += bytes(len(data) % 2)
    data[first + 2 + 12 * entries : first + 6 + 12 * entries] = struct.pack("<I", len(data))
    for i in range(count):
        data += struct.pack("<HHHII", 1, 254, 4, 1, kind) + struct.pack("<I", len(data) + 18 if i < count - 1 else 0)
    return bytes(data)


def progressive_of_many_scans(count: int) -> bytes:
    data = saved(Image.fromarray(np.zeros((2000, 2000), np.uint8)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def avif_of_many_boxes(count: int) -> bytes:
    return struct.pack(">I4s4sI", 16, b"ftyp", b"avif", 0) + struct.pack(">I4s", 8, b"free") * count


def gif_of_many_frames(count: int) -> bytes:
    return saved(Image.fromarray(GREY), "GIF")[:-1] + (b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\0") * count


def avif_of_boxes_on_one_another(count: int) -> bytes:
    """Each container announces a box that reaches over all that follow."""
    one = struct.pack(">I4sI", 36, b"meta", 0) + struct.pack(">I4s", 10 << 20, b"uuid") + facts.XMP_BOX
    return struct.pack(">I4s4sI", 16, b"ftyp", b"avif", 0) + one * count + bytes(10 << 20)


def tiff_of_values_on_one_another(count: int, size: int) -> bytes:
    """The EXIF directory has many entries, whose values are the same bytes."""
    data = saved(Image.fromarray(GREY), "TIFF", tiffinfo={34665: 0})
    data += bytes(len(data) % 2)
    at = data.index(struct.pack("<HHI", 34665, 4, 1)) + 8
    values = len(data) + 2 + 12 * count + 4
    entries = b"".join(struct.pack("<HHII", tag, 7, size, values) for tag in range(count))
    data = data[:at] + struct.pack("<I", len(data)) + data[at + 4 :]
    return data + struct.pack("<H", count) + entries + bytes(4 + size)


MEBIBYTE = zlib.compress(bytes(1 << 20))
BOMBS = {
    "jpeg 2000 boxes": lambda: jp2_of_many_boxes(3000),
    "tiff directories": lambda: tiff_of_many_directories(50000, 0),
    "tiff overviews": lambda: tiff_of_many_directories(50000, 1),
    "png chunks": lambda: png(*[(b"prVt", b"")] * 100000),
    "png texts": lambda: png(*[(b"zTXt", b"a%d\0\0" % i + MEBIBYTE) for i in range(200)]),
    "png profile": lambda: png((b"iCCP", b"p\0\0" + zlib.compress(bytes(20 << 20)))),
    "jpeg segments": lambda: jpeg(*[(0xE9, b"")] * 100000),
    "jpeg exif": lambda: jpeg(*[(0xE1, b"Exif\0\0" + bytes(1000))] * 20000),
    "jpeg scans": lambda: progressive_of_many_scans(3000),
    "avif boxes": lambda: avif_of_many_boxes(100000),
    "avif boxes on one another": lambda: avif_of_boxes_on_one_another(4000),
    "tiff values on one another": lambda: tiff_of_values_on_one_another(30000, 500),
    "gif frames": lambda: gif_of_many_frames(100000),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_one_small_element_does_not_multiply_work(kind):
    """Cost before the refusal, or of reading the picture, is far below that of looking at every element twice."""
    if kind == "jpeg 2000 boxes" and not features.check("jpg_2000"):
        pytest.skip("this Pillow lacks JPEG 2000")
    data = BOMBS[kind]()
    read_picture(saved(Image.fromarray(RGB), "PNG"))  # imports
    tracemalloc.start()
    start = time.process_time()
    try:
        read_picture(data, Limits(max_pixels=1 << 23, max_memory=1 << 27))
    except RefcodecError as error:
        assert error.exit_code in (65, 69, 77)
    seconds = time.process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 6 and peak < 3 * len(data) + (100 << 20 if kind == "png texts" else 8 << 20)


def test_a_tile_of_a_tiff_counts_as_a_picture():
    """A decoder takes memory for a whole tile, however small the picture is."""
    entries = [
        (256, 64),
        (257, 64),
        (258, 8),
        (259, 8),
        (262, 1),
        (277, 1),
        (322, 30000),
        (323, 30000),
        (324, 200),
        (325, 40),
    ]
    data = (
        b"II*\0"
        + struct.pack("<IH", 8, len(entries))
        + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    )
    with pytest.raises(LimitExceeded, match="more pixels"):
        read_picture(data.ljust(200, b"\0") + zlib.compress(bytes(900)).ljust(40, b"\0"))


def test_a_pipe_is_read_within_the_limits(monkeypatch):
    class Pipe(io.RawIOBase):
        given = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            self.given += len(buffer)
            return len(buffer)

    pipe = Pipe()
    monkeypatch.setattr(sys, "stdin", type("", (), {"buffer": io.BufferedReader(pipe)}))
    with pytest.raises(LimitExceeded, match="too long"):
        read_picture("-", Limits(max_pixels=1000, max_memory=1 << 20))
    assert pipe.given < 1 << 22


MEMORY = """
import ctypes, io, sys
import numpy as np
from PIL import Image
from refcodec.io import pictures as image
from refcodec.limits import Limits

def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

def saved(source, name, **options):
    file = io.BytesIO()
    source.save(file, name, **options)
    return file.getvalue()

small = np.random.default_rng(1).integers(0, 256, (30, 30, 3), dtype=np.uint8)
for name, mode, options in (("PNG", "P", {}), ("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("PNG", "LA", {}),
                            ("JPEG", "RGB", {"progressive": True, "subsampling": 0}), ("TIFF", "RGBA", {}),
                            ("WEBP", "RGBA", {"lossless": True, "method": 0}), ("GIF", "P", {}), ("BMP", "RGB", {}),
                            ("JPEG2000", "RGBA", {}), ("AVIF", "RGB", {"speed": 10, "subsampling": "4:4:4"})):
    if name not in Image.SAVE:
        Image.init()
        if name not in Image.SAVE:
            continue
    source = Image.fromarray(small).convert(mode)
    if mode in ("RGBA", "LA"):
        source.putalpha(254)
    image.read_picture(saved(source, name, **options))
    data = saved(source.resize((1000, 1000)), name, **options)
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    samples = image.read_picture(data).samples
    allowed = image._BYTES_PER_PIXEL[name] + 2 * len(data) * (name in image._READ_WHOLE) / 1000 ** 2
    taken = (peak() - before) / 1000 ** 2
    print(name, mode, round(taken, 2), allowed, "TOO MUCH" if taken > allowed + 1 else "")
    del samples
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_reading_takes_no_more_than_is_checked():
    out = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    assert out.count("\n") >= 8 and "TOO MUCH" not in out, out


# --------------------------------------------------------------------------------------------------------------- fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_reads_while_a_thread_of_the_parent_was_reading(monkeypatch):
    """The parent's other thread holds the lock at the moment of the fork, with Pillow's bound changed."""
    data = saved(Image.fromarray(RGB), "PNG")
    inside, leave = threading.Event(), threading.Event()
    load = PngImagePlugin.PngImageFile.load

    def slow(self):
        if threading.current_thread().name == "reader":
            inside.set()
            leave.wait(60)
        return load(self)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", slow)
    bound = Image.MAX_IMAGE_PIXELS
    reader = threading.Thread(target=lambda: read_picture(data, Limits(max_pixels=1 << 12)), name="reader")
    reader.start()
    assert inside.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        right = bound == Image.MAX_IMAGE_PIXELS and np.array_equal(read_picture(data).samples, RGB)
        os._exit(0 if right else 3)
    status = os.waitpid(child, 0)[1]
    leave.set()
    reader.join()
    assert status == 0 and bound == Image.MAX_IMAGE_PIXELS


# ------------------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize(
    "extension",
    [
        ".webp",
        pytest.param(".avif", marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow lacks AVIF")),
    ],
)
def test_a_grey_profile_is_not_written_with_rgb_samples(tmp_path, extension):
    grey = Picture(GREY, icc_profile=profile_of_png(1.0, None, True))
    told = write_picture(tmp_path / f"o{extension}", grey)
    assert len(told) == 1 and "for grey" in told[0]
    assert read_picture(tmp_path / f"o{extension}").icc_profile is None
    assert write_picture(tmp_path / "o.png", grey) == ()


def test_a_tiff_carries_exif_and_xmp_and_only_descriptive_tags(tmp_path):
    exif = exif_of(t274=8, t256=5, t262=0, t278=1).removeprefix(EXIF_PREFIX)
    for samples in (RGB, GREY):
        told = write_picture(tmp_path / "o.tif", Picture(samples, exif, ICC, XMP), force=True)
        read = read_picture(tmp_path / "o.tif")
        assert told == () and (read.icc_profile is None) == (samples is GREY) and read.xmp == XMP
        assert np.array_equal(read.samples, np.rot90(samples))  # orientation 8: upright by the file's own tag
        found = Image.Exif()
        found.load(read.exif)
        assert found[0x010F] == "maker" and found.get_ifd(0x8769)[0x9003].startswith("2020")


def test_exif_whose_values_lie_on_one_another_is_no_cost(tmp_path):
    """The block may be 16 MiB long in a stream; writing a TIFF takes it apart."""
    count, size = 30000, 500
    head = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 34665, 4, 1, 26, 0) + struct.pack("<H", count)
    values = len(head) + 12 * count + 4
    exif = head + b"".join(struct.pack("<HHII", tag, 7, size, values) for tag in range(count)) + bytes(4 + size)
    start = time.process_time()
    assert "EXIF tags" in write_picture(tmp_path / "o.tif", Picture(RGB, exif))[0]
    assert time.process_time() - start < 6


def test_metadata_that_jpeg_cannot_hold_names_a_format_that_can(tmp_path):
    for kind, data in (("exif", b"MM\0*" + bytes(65524)), ("xmp", bytes(65505))):
        with pytest.raises(Unsupported, match="PNG, WebP and AVIF can") as caught:
            write_picture(tmp_path / "o.jpg", Picture(RGB, **{kind: data}))
        assert "strip" not in str(caught.value)
        assert os.listdir(tmp_path) == []
        write_picture(tmp_path / "o.jpg", Picture(RGB, **{kind: data[:-1]}))
        assert getattr(read_picture(tmp_path / "o.jpg"), kind) == data[:-1]
        os.unlink(tmp_path / "o.jpg")
