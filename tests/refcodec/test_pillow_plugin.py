"""refcodec.pillow_plugin: Image.open and Image.save of .loclic files."""

from __future__ import annotations

import io
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import refcodec
from refcodec import codec, pillow_plugin, targets
from refcodec.bitstream.container import ALPHA, Header, parse, serialise
from refcodec.errors import ModelError
from refcodec.limits import Limits
from refcodec.pillow_plugin import FORMAT
from refcodec.planes import ArrayRows
from refcodec.stored import code_alpha

EXIF = b"MM\0*\0\0\0\x08\0\0"


def stream(channels: int = 3, chunks=(), **more) -> bytes:
    header = Header(width=7, height=5, channels=channels, quality=42, fingerprint=bytes(16), **more)
    return serialise(header, [(b"zz", b"yyyy")], chunks)


def alpha_chunk(channels: int) -> list[tuple[str, bytes]]:
    return [(ALPHA, code_alpha(ArrayRows(np.full((5, 7, channels), 9, np.uint8))))]


def recorded(seen: dict):
    """Stands for `encode_strips`, and notes what it is given."""

    def encode(source, quality=None, **options):
        seen.clear()
        samples = source.rows(0, source.height)
        seen.update(options, quality=quality, samples=samples if samples.shape[2] > 1 else samples[:, :, 0])
        return SimpleNamespace(data=stream())

    return encode


def test_opening_reads_header_and_metadata_and_decodes_nothing(monkeypatch):
    def never(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr(codec, "decode_stream", never)
    chunks = [("exif", EXIF), ("iccp", b"profile"), ("xmp ", b"<x/>"), ("note", b"?")]
    with Image.open(io.BytesIO(stream(chunks=chunks))) as image:
        assert (image.format, image.mode, image.size) == (FORMAT, "RGB", (7, 5))
        assert image.info == {"exif": b"Exif\0\0" + EXIF, "icc_profile": b"profile", "xmp": b"<x/>", "quality": 42}
        assert image.get_format_mimetype() == "image/x-loclic"
    for channels, chunks, mode in ((1, (), "L"), (1, alpha_chunk(2), "LA"), (3, alpha_chunk(4), "RGBA")):
        with Image.open(io.BytesIO(stream(channels, chunks))) as image:
            assert image.mode == mode


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_are_decoded_once_and_arrive_unchanged(monkeypatch, tmp_path, channels):
    samples = np.arange(35 * channels, dtype=np.uint8).reshape((5, 7) if channels == 1 else (5, 7, channels))
    calls = []
    monkeypatch.setattr(codec, "decode_stream", lambda data, limits: calls.append(data) or (samples, None))
    path = tmp_path / "x.loclic"
    path.write_bytes(stream(channels - 1, alpha_chunk(channels)) if channels in (2, 4) else stream(channels))
    image = Image.open(path)
    for _ in range(2):
        assert np.array_equal(np.asarray(image), samples)
    assert calls == [path.read_bytes()]
    assert image.copy().crop((1, 1, 3, 3)).size == (2, 2)


def test_errors_are_those_of_pillow(monkeypatch):
    damaged = bytearray(stream())
    damaged[46] ^= 1
    with pytest.raises(OSError, match="checksum"):
        Image.open(io.BytesIO(bytes(damaged)))
    with pytest.raises(OSError, match="version"):
        Image.open(io.BytesIO(stream()[:4] + b"\xff" + stream()[5:]))
    with pytest.raises(OSError):
        Image.open(io.BytesIO(stream()[:20]))

    def missing(_, limits):
        raise ModelError("no such model")

    monkeypatch.setattr(codec, "decode_stream", missing)
    image = Image.open(io.BytesIO(stream()))
    for _ in range(2):
        with pytest.raises(OSError, match="no such model"):
            image.load()


def test_saving_passes_quality_and_metadata(monkeypatch, tmp_path):
    seen = {}

    monkeypatch.setattr(targets, "encode_strips", recorded(seen))
    source = Image.fromarray(np.arange(105, dtype=np.uint8).reshape(5, 7, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    source.info["icc_profile"] = b"own"
    source.save(tmp_path / "x.loclic", quality=33, exif=exif, xmp="<x/>")
    assert np.array_equal(seen["samples"], np.asarray(source))
    tags = exif.tobytes()[6:]
    assert seen["quality"] == 33 and seen["chunks"] == (("exif", tags), ("iccp", b"own"), ("xmp ", b"<x/>"))
    source.save(tmp_path / "y.loclic", tile=64, exact=True)
    assert seen["chunks"] == (("iccp", b"own"),) and (seen["tile"], seen["exact"]) == (64, True)
    assert seen["quality"] == 60
    source.save(tmp_path / "z.loclic", lossless=True)
    assert seen["lossless"]
    with pytest.raises(OSError, match="only one of"):
        source.save(tmp_path / "no.loclic", lossless=True, quality=50)
    assert not (tmp_path / "no.loclic").exists()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("options", [{"lossless": True}, {"exact": True, "tile": 64}])
def test_alpha_survives_the_real_codec(tmp_path, mode, options):
    source = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 70, 4), dtype=np.uint8)).convert(mode)
    source.putalpha(source.getchannel("A").point(lambda v: v // 2))
    source.save(tmp_path / "x.loclic", **options)
    with Image.open(tmp_path / "x.loclic") as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image.getchannel("A")), np.asarray(source.getchannel("A")))
        if "lossless" in options:
            assert np.array_equal(np.asarray(image), np.asarray(source))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_picture_survives_the_real_codec(tmp_path, mode):
    rows, columns = np.mgrid[0:24, 0:40]
    source = Image.fromarray((90 + 2 * rows + columns).astype(np.uint8)).convert(mode)
    source.save(tmp_path / "x.loclic", quality=100, exif=EXIF, icc_profile=b"p", xmp=b"<x/>")
    data = (tmp_path / "x.loclic").read_bytes()
    assert dict(parse(data).chunks) == {"exif": EXIF, "iccp": b"p", "xmp ": b"<x/>"}
    with Image.open(tmp_path / "x.loclic") as image:
        assert (image.mode, image.size, image.info["icc_profile"]) == (mode, (40, 24), b"p")
        assert np.array_equal(np.asarray(image), refcodec.decode(data))


def test_saving_converts_modes_as_the_command_line_does(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(targets, "encode_strips", recorded(seen))
    rows = np.arange(105, dtype=np.uint8).reshape(5, 7, 3)
    colour, grey = Image.fromarray(rows), Image.fromarray(np.ascontiguousarray(rows[:, :, 0]))
    for source, plain in (
        (grey.convert("1"), "L"),
        (colour.convert("P"), "RGB"),
        (colour.convert("RGBA"), "RGB"),
        (grey.convert("LA"), "L"),
        (colour.convert("RGBA").convert("RGBa"), "RGB"),
        (colour.convert("P").convert("PA"), "RGB"),
    ):
        source.save(tmp_path / "x.loclic")
        expected = source.convert("RGBA").convert(plain) if source.mode == "RGBa" else source.convert(plain)
        assert np.array_equal(seen["samples"], np.asarray(expected)), source.mode


def test_saving_keeps_transparency_of_every_mode(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(targets, "encode_strips", recorded(seen))
    rows = np.arange(140, dtype=np.uint8).reshape(5, 7, 4)
    rgba = Image.fromarray(rows)
    keyed = rgba.convert("L")
    keyed.info["transparency"] = keyed.getpixel((2, 3))
    palette = rgba.convert("RGB").convert("P")
    palette.info["transparency"] = palette.getpixel((2, 3))
    both = palette.copy().convert("PA")
    both.putalpha(rgba.getchannel("A"))
    for source in (rgba, rgba.convert("LA"), both, palette, keyed):
        source.save(tmp_path / "x.loclic")
        mode = "LA" if source.mode[0] == "L" else "RGBA"
        assert np.array_equal(seen["samples"], np.asarray(source.convert(mode))), source.mode


def test_saving_refuses_what_is_no_grey_or_rgb(tmp_path):
    with pytest.raises(OSError, match="CMYK"):
        Image.new("CMYK", (3, 3)).save(tmp_path / "x.loclic")
    assert not (tmp_path / "x.loclic").exists()


def test_saving_warns_of_what_it_leaves_out(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "encode_strips", recorded({}))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    source = Image.fromarray(np.zeros((5, 7, 3), np.uint8))
    for name in ("JPEG", "PNG", "TIFF"):
        file = io.BytesIO()
        source.save(file, name, exif=exif.tobytes(), xmp=b"<x/>", comment="words")
        opened = Image.open(file)
        with pytest.warns(UserWarning) as told:
            opened.save(tmp_path / "x.loclic")
        words = " ".join(str(w.message) for w in told)
        assert "exif=image.getexif" in words
        assert ("comment" in words) == (name == "JPEG") and ("XMP" in words) == ("xmp" in opened.info)
    frames = io.BytesIO()
    source.save(frames, "GIF", save_all=True, append_images=[Image.fromarray(np.full((5, 7, 3), 255, np.uint8))])
    with pytest.warns(UserWarning, match="other frames"):
        Image.open(frames).save(tmp_path / "x.loclic")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source.info = {"exif": exif.tobytes(), "xmp": b"<x/>"}
        source.save(tmp_path / "x.loclic", exif=exif, xmp=None)


@pytest.mark.parametrize("options", [{"exif": "text"}, {"exif": 5}, {"icc_profile": "text"}, {"xmp": 3}, {"exif": {}}])
def test_metadata_of_a_wrong_type_is_named(tmp_path, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is bytes"):
        Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "x.loclic", **options)
    assert not (tmp_path / "x.loclic").exists()


def test_limits_hold_on_opening(monkeypatch):
    monkeypatch.setattr(pillow_plugin, "limits", Limits(max_pixels=34))
    with pytest.raises(OSError, match="pixels"):
        Image.open(io.BytesIO(stream()))
