"""refcodec.pillow_plugin: Image.open and Image.save of .loclic files."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_content, tiny_model

import refcodec
from refcodec import codec, pillow_plugin, targets
from refcodec.bitstream.container import ALPHA, Header, parse, serialise
from refcodec.errors import ModelError
from refcodec.limits import Limits
from refcodec.measure.metrics import psnr
from refcodec.model.file import write_model
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
    """Replaces `encode_strips`, and records its arguments."""

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
    image = Image.open(io.BytesIO(bytes(damaged)))
    for _ in range(2):
        with pytest.raises(OSError, match="checksum"):
            image.load()
    with pytest.raises(OSError, match="checksum"):
        Image.open(io.BytesIO(bytes(damaged))).verify()
    Image.open(io.BytesIO(stream())).verify()
    for chunks in ((), [("xmp ", b"<x/>")]):
        for length in (
            20,
            len(stream(chunks=chunks)) - 6,
            len(stream(chunks=chunks)) - 1,
        ):  # what is cut short is found on opening
            with pytest.raises(OSError):
                Image.open(io.BytesIO(stream(chunks=chunks)[:length]))
    with pytest.raises(OSError, match="version"):
        Image.open(io.BytesIO(stream()[:4] + b"\xff" + stream()[5:]))

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


@pytest.mark.parametrize(
    "options, said",
    [
        ({"strip": "gps"}, "refcodec.encode_file has these options.*strip"),
        ({"lossless": "no"}, "True or False"),
        ({"exact": 1}, "True or False"),
        ({"rectangles": "none"}, "True or False"),
        ({"threads": "2"}, "integer or None"),
        ({"model": 5}, "a model is"),
        ({"lossless": True, "model": "default"}, "a lossless picture has no model"),
        ({"lossless": True, "tile": 64}, "a lossless picture has no model, tiles"),
        ({"quality": True}, "quality is a positive number"),
    ],
)
def test_saving_refuses_options_that_it_cannot_follow(tmp_path, options, said):
    source = Image.fromarray(np.zeros((5, 7, 3), np.uint8))
    with pytest.raises(OSError, match=said):
        source.save(tmp_path / "x.loclic", **options)
    assert not (tmp_path / "x.loclic").exists()


def test_saving_warns_of_options_of_other_formats(tmp_path):
    source = Image.fromarray(np.zeros((5, 7, 3), np.uint8))
    with pytest.warns(UserWarning, match="ignored: optimize"):
        source.save(tmp_path / "x.loclic", optimize=True, lossless=True)
    assert Image.open(tmp_path / "x.loclic").size == (7, 5)


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


def test_save_all_takes_one_picture(tmp_path):
    one = Image.fromarray(np.zeros((5, 7, 3), np.uint8))
    one.save(tmp_path / "x.loclic", save_all=True, append_images=[])
    one.save(tmp_path / "y.loclic", save_all=True, append_images=None)
    one.save(tmp_path / "y.loclic")
    assert (tmp_path / "x.loclic").read_bytes() == (tmp_path / "y.loclic").read_bytes()
    with pytest.raises(OSError, match=r"holds one picture.*others=1"):
        one.save(tmp_path / "z.loclic", save_all=True, append_images=[one])
    frames = io.BytesIO()
    one.save(frames, "GIF", save_all=True, append_images=[Image.fromarray(np.full((5, 7, 3), 255, np.uint8))] * 2)
    with pytest.raises(OSError, match="holds one picture"):
        Image.open(frames).save(tmp_path / "z.loclic", save_all=True)
    assert not (tmp_path / "z.loclic").exists()


@pytest.mark.parametrize("options", [{"exif": "text"}, {"exif": 5}, {"icc_profile": "text"}, {"xmp": 3}, {"exif": {}}])
def test_metadata_of_a_wrong_type_is_named(tmp_path, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is bytes"):
        Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "x.loclic", **options)
    assert not (tmp_path / "x.loclic").exists()


def test_limits_hold_on_opening(monkeypatch):
    monkeypatch.setattr(pillow_plugin, "limits", Limits(max_pixels=34))
    with pytest.raises(OSError, match="pixels"):
        Image.open(io.BytesIO(stream()))


GRADIENT = np.add.outer(np.arange(192, dtype=np.int64), np.arange(200)).astype(np.uint8)


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    """A real stream in tiles of 64, of the tiny model, and its samples."""
    model = tiny_model()
    place = tmp_path_factory.mktemp("plugin")
    write_model(place / "tiny.h5", tiny_content(), {})
    samples = np.dstack([GRADIENT, GRADIENT.T[:192, :192].repeat(2, 1)[:, :200], GRADIENT])
    data = refcodec.encode(samples, model=model, tile=64, exif=EXIF, rectangles=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFCODEC_MODELS", str(place))
        yield data, refcodec.decode(data, model=model)


def test_a_thumbnail_is_decoded_to_a_smaller_picture(tiled, monkeypatch):
    data, samples = tiled
    steps = []
    decode = codec.decode_reduced
    monkeypatch.setattr(codec, "decode_reduced", lambda *args, **more: steps.append(args[1]) or decode(*args, **more))
    with Image.open(io.BytesIO(data)) as image:
        assert image.draft("RGB", (50, 48)) == ("RGB", (0, 0, 50, 48)) and image.size == (50, 48)
        assert image.draft("RGB", (20, 20)) is None  # a second call changes nothing, as with JPEG
        assert np.array_equal(np.asarray(image), refcodec.decode(data, reduce=4))
        assert image.draft("RGB", (20, 20)) is None
    with Image.open(io.BytesIO(data)) as image:
        image.thumbnail((24, 24))
        assert image.size == (24, 23) and image.info["exif"] == b"Exif\0\0" + EXIF
        fair = Image.fromarray(samples).resize(image.size, Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(fair)).mean() < 6
    assert steps == [4, 4, 4]  # one is that of refcodec.decode
    with Image.open(io.BytesIO(data)) as image:
        assert image.draft("L", (150, 150)) == ("RGB", (0, 0, 200, 192))  # nothing smaller is large enough
        assert np.array_equal(np.asarray(image), samples)
    with Image.open(io.BytesIO(data)) as image:
        assert image.draft(None, None) is None and image.draft(None, (0, 0))[1] == (0, 0, 200 / 64, 3)
        assert image.size == (4, 3) and image.copy().size == (4, 3)


def test_parts_are_decoded_alone_until_the_whole_costs_less(tiled, monkeypatch):
    data, samples = tiled
    regions = []
    decode = codec.decode_stream

    def decoding(data, **options):
        regions.append(options.get("region"))
        return decode(data, **options)

    monkeypatch.setattr(codec, "decode_stream", decoding)
    monkeypatch.setattr(pillow_plugin, "CROPPED", 0.8)
    with Image.open(io.BytesIO(data)) as image:
        for box in ((0, 0, 9, 7), (0.4, 0.6, 9.4, 7), (190, 180, 200, 192), (3, 5, 4, 6), (0, 0, 200, 192)):
            left, top, right, bottom = map(round, box)
            part = image.crop(box)
            assert np.array_equal(np.asarray(part), samples[top:bottom, left:right])
            assert part.mode == "RGB" and part.info == image.info
    assert None not in regions[:1] and regions[-1] is None and regions.count(None) == 1
    with Image.open(io.BytesIO(data)) as image:
        outside = image.crop((-3, -2, 5, 6))  # as Pillow does it: what is outside is black
        assert np.array_equal(np.asarray(outside)[2:, 3:], samples[:6, :5]) and not np.asarray(outside)[:2].any()
        with pytest.raises(ValueError, match="less than"):
            image.crop((5, 5, 4, 9))
    missing = Image.open(io.BytesIO(data))
    monkeypatch.delenv("REFCODEC_MODELS")
    with pytest.raises(OSError, match="model"):
        missing.crop((0, 0, 5, 5))


def test_saving_reaches_what_is_asked_for(tmp_path, monkeypatch, tiled):
    source = Image.fromarray(tiled[1])
    for options in ({"size": 14_000}, {"bpp": 3}, {"psnr": 7.0}, {"quality": 20}):
        source.save(tmp_path / "x.loclic", model="tiny", tile=0, rectangles=False, **options)
        data = (tmp_path / "x.loclic").read_bytes()
        assert len(data) <= options.get("size", 3 * 192 * 200 / 8 if "bpp" in options else 1 << 20)
        if "psnr" in options:
            assert psnr(tiled[1], refcodec.decode(data)) >= 7
    with pytest.raises(OSError, match="no quality fits"):
        source.save(tmp_path / "y.loclic", model="tiny", size=60, rectangles=False)
    for wrong in ({"quality": "web_low"}, {"size": 5, "bpp": 1}, {"model": "no such"}, {"background": "none"}):
        with pytest.raises(OSError):
            source.save(tmp_path / "y.loclic", **wrong)
    assert not (tmp_path / "y.loclic").exists()
    source.putalpha(100)
    source.save(tmp_path / "z.loclic", lossless=True, background="white")
    with Image.open(tmp_path / "z.loclic") as image:
        expected = Image.alpha_composite(Image.new("RGBA", source.size, "white"), source).convert("RGB")
        assert image.mode == "RGB" and np.abs(np.asarray(image).astype(int) - np.asarray(expected)).max() <= 1


def test_a_grey_picture_on_a_coloured_background_loses_its_profile_for_grey(tmp_path):
    source = Image.fromarray(np.full((5, 7, 2), 90, np.uint8))
    profile = b"\0" * 16 + b"GRAY" + b"\0" * 20
    for background, kept in (("white", profile), ("red", None)):
        source.info["icc_profile"] = profile
        source.save(tmp_path / "x.loclic", lossless=True, background=background)
        assert refcodec.metadata((tmp_path / "x.loclic").read_bytes()).icc_profile == kept


def test_pillow_lists_the_format():
    code = "import refcodec.pillow_plugin, PIL.features; PIL.features.pilinfo()"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    entry = told.split("\nLOCLIC ", 1)[1].split("-----")[0]
    assert ".loclic" in entry and "image/x-loclic" in entry and "open, save" in entry


def test_imageio_reads_and_writes(tmp_path):
    iio = pytest.importorskip("imageio.v3")
    import refcodec.imageio_plugin  # noqa: F401

    for channels in (1, 3, 4):
        samples = np.random.default_rng(3).integers(0, 256, (12, 17, 4), dtype=np.uint8)[:, :, :channels].squeeze()
        iio.imwrite(tmp_path / "a.loclic", samples, lossless=True)
        assert np.array_equal(iio.imread(tmp_path / "a.loclic"), samples)
        assert iio.improps(tmp_path / "a.loclic").shape == samples.shape
        data = iio.imwrite("<bytes>", samples, extension=".loclic", lossless=True)
        assert data == (tmp_path / "a.loclic").read_bytes()
        assert np.array_equal(iio.imread(data, extension=".loclic"), samples)
    assert iio.immeta(tmp_path / "a.loclic")["quality"] == 0
    (tmp_path / "b.loclic").write_bytes(b"no stream")
    with pytest.raises(OSError):
        iio.imread(tmp_path / "b.loclic")


class Counted(io.BytesIO):
    """A file that counts what is read of it."""

    count = 0

    def read(self, size=-1):
        """As any file."""
        found = super().read(size)
        self.count += len(found)
        return found


def test_opening_reads_the_head_and_the_metadata_alone(tiled):
    samples = np.random.default_rng(2).integers(0, 256, (300, 300, 4), dtype=np.uint8)
    stored = refcodec.encode(samples, lossless=True, exif=EXIF, xmp=b"<x/>")
    for data in (stored, tiled[0]):
        file = Counted(data)
        with Image.open(file) as image:
            assert file.count < 700 < len(data) / 10 and image.info["exif"] == b"Exif\0\0" + EXIF
            image.load()
            assert file.count >= len(data)


def test_one_image_is_loaded_by_many_threads(tiled):
    with Image.open(io.BytesIO(tiled[0])) as image, ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda n: np.asarray(image.crop((n, 0, n + 9, 9))), range(16)))
    assert all(np.array_equal(part, tiled[1][:9, n : n + 9]) for n, part in enumerate(parts))


def test_a_closed_image_is_not_loaded(tmp_path, tiled):
    (tmp_path / "x.loclic").write_bytes(tiled[0])
    with Image.open(tmp_path / "x.loclic") as image:
        pass
    with pytest.raises(ValueError, match="closed"):
        image.load()
