"""refcodec.io.rows: pictures that are read and written from the top down."""

from __future__ import annotations

import io
import os
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageCms

from refcodec.errors import InvalidImage, LimitExceeded, OutputError, TransferError, Unsupported
from refcodec.io import pictures
from refcodec.io.files import writing
from refcodec.io.picture_output import write_picture, writing_rows
from refcodec.io.pictures import opened_rows, read_picture
from refcodec.io.properties import Picture
from refcodec.limits import Limits

SAMPLES = np.random.default_rng(7).integers(0, 256, (37, 29, 4), dtype=np.uint8)
SAMPLES[:, :, :3] //= 4
SHAPES = {"grey": SAMPLES[:, :, 0], "grey, alpha": SAMPLES[:, :, 2:], "rgb": SAMPLES[:, :, :3], "rgb, alpha": SAMPLES}
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def small_strips(monkeypatch):
    monkeypatch.setattr(pictures, "STRIPS_FROM", 99)


def stored(path, samples: np.ndarray):
    samples = np.ascontiguousarray(samples)
    if path.suffix == ".npy":
        np.save(path, samples)
    else:
        write_picture(path, Picture(samples))
    return path


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("extension", [".ppm", ".pam", ".npy"])
def test_rows_of_a_file_are_those_of_the_picture(tmp_path, small_strips, kind, extension):
    samples = SHAPES[kind]
    if extension == ".ppm" and "alpha" in kind:
        pytest.skip("PPM holds no alpha")
    path = stored(tmp_path / f"a{extension}", samples)
    with opened_rows(path, Limits(max_memory=1)) as rows:
        assert (rows.height, rows.width, rows.channels) == (37, 29, samples.shape[2] if samples.ndim == 3 else 1)
        for first, count in ((0, 37), (0, 1), (20, 5), (3, 100), (36, 1), (37, 4), (99, 1)):
            expected = samples.reshape(37, 29, -1)[first : first + count]
            assert np.array_equal(rows.rows(first, count), expected)


def test_opaque_alpha_of_an_array_is_dropped_in_rows(tmp_path, small_strips, monkeypatch):
    monkeypatch.setattr("refcodec.io.rows._SCAN", 500)
    for channels in (2, 4):
        samples = SAMPLES[:, :, -channels:].copy()
        samples[:, :, -1] = 255
        with opened_rows(stored(tmp_path / "a.npy", samples), Limits()) as rows:
            assert rows.channels == channels - 1
            assert np.array_equal(rows.rows(0, 37), samples[:, :, :-1])
        samples[36, 28, -1] = 254
        with opened_rows(stored(tmp_path / "a.npy", samples), Limits()) as rows:
            assert rows.channels == channels


def test_what_is_not_read_in_rows(tmp_path, monkeypatch):
    path = stored(tmp_path / "a.npy", SAMPLES)
    with opened_rows(path, Limits()) as rows:
        assert rows is None  # small
    monkeypatch.setattr(pictures, "STRIPS_FROM", 99)
    for samples in (np.asfortranarray(SAMPLES), SAMPLES.astype(np.uint16)):
        np.save(path, samples)
        with opened_rows(path, Limits()) as rows:
            assert rows is None
    with opened_rows(stored(tmp_path / "a.png", SAMPLES), Limits()) as rows:
        assert rows is None
    pipe = io.BytesIO(b"P5 1 1 255\n#")
    pipe.seekable = lambda: False
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
    with opened_rows("-", Limits()) as rows:
        assert rows is None and pipe.tell() == 0


def test_damaged_files_are_refused_when_they_are_opened_or_read(tmp_path, small_strips):
    path = tmp_path / "a.ppm"
    data = stored(path, SAMPLES[:, :, :3]).read_bytes()
    for damaged in (data[:-1], data + b"x", data[:9]):
        path.write_bytes(damaged)
        with pytest.raises(InvalidImage), opened_rows(path, Limits()):
            pass
    path.write_bytes(data)
    with pytest.raises(LimitExceeded), opened_rows(path, Limits(max_pixels=4095)):
        pass
    with opened_rows(path, Limits()) as rows:
        path.write_bytes(data[:1000])
        with pytest.raises(InvalidImage, match="changed"):
            rows.rows(0, 37)


# ---------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("extension", [".png", ".ppm", ".pam", ".npy"])
def test_a_picture_written_in_rows_is_the_same_file(tmp_path, kind, extension, monkeypatch):
    samples = np.ascontiguousarray(SHAPES[kind])
    if extension == ".ppm" and "alpha" in kind:
        pytest.skip("PPM holds no alpha")
    monkeypatch.setattr("refcodec.io.rows.IDAT", 300)
    metadata = {"exif": b"MM\0*\0\0\0\x08\0\0", "icc_profile": ICC, "xmp": b"<x/>"}
    whole, parts = tmp_path / f"whole{extension}", tmp_path / f"parts{extension}"
    told = write_picture(whole, Picture(samples, **metadata))
    for band in (1 << 18, 200):  # chunks are written in different pieces
        monkeypatch.setattr("refcodec.io.rows.BAND", band)
        with writing_rows(parts, samples.shape, metadata, force=True) as (writer, notes):
            assert notes == told
            for first, end in ((0, 1), (1, 20), (20, 37)):
                writer.write(samples[first:end])
        assert parts.read_bytes() == whole.read_bytes()
    assert np.array_equal(read_picture(parts).samples, samples)


def test_a_png_has_its_metadata_and_whole_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("refcodec.io.rows.IDAT", 100)
    monkeypatch.setattr("refcodec.io.rows.BAND", 1)
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    samples = np.random.default_rng(8).integers(0, 256, (90, 80, 4), dtype=np.uint8)
    write_picture(path, Picture(samples, block, ICC, "<é/>".encode()))
    with Image.open(path) as opened:
        opened.load()
        assert opened.mode == "RGBA" and opened.info["icc_profile"] == ICC
        assert opened.getexif()[0x0112] == 6 and opened.text["XML:com.adobe.xmp"] == "<é/>"
        assert np.array_equal(np.asarray(opened), samples)
    data, at, kinds = path.read_bytes(), 8, []
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        kinds.append((kind, length))
        at += 12 + length
    assert [kind for kind, _ in kinds[:4]] == [b"IHDR", b"iCCP", b"iTXt", b"eXIf"] and kinds[-1] == (b"IEND", 0)
    idat = [length for kind, length in kinds if kind == b"IDAT"]
    assert set(idat[:-1]) == {100} and 0 < idat[-1] <= 100


def test_a_picture_that_fails_half_way_leaves_nothing(tmp_path):
    path = tmp_path / "a.png"
    for fault in (RuntimeError, KeyboardInterrupt, MemoryError, BrokenPipeError):
        with pytest.raises(fault), writing_rows(path, SAMPLES.shape, {}) as (writer, _):
            writer.write(SAMPLES[:5])
            raise fault
        assert os.listdir(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="--force"), writing_rows(path, SAMPLES.shape, {}):
        pass
    with pytest.raises(ValueError), writing(path, force=True) as out:
        out.write(b"new")
        raise ValueError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.png"]
    with pytest.raises(Unsupported), writing_rows(tmp_path / "a.pgm", SAMPLES[:, :, :3].shape, {}):
        pass
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_a_transfer_error():
    with pytest.raises(TransferError, match="space"), writing("/dev/full") as out:
        for _ in range(100):
            out.write(bytes(10000))
