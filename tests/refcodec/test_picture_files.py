"""refcodec.encode_file and decode_file, and the same by the commands: every option with real files."""

import inspect
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cmyk_profile import cmyk_profile
from PIL import Image, ImageOps
from tiny_models import random_picture, tiny_content

import refcodec
from refcodec.cli import main
from refcodec.errors import OutputError, RefcodecError, Unsupported, UsageError
from refcodec.io.properties import EXIF_PREFIX
from refcodec.model.file import write_model

RGBA = np.random.default_rng(6).integers(0, 256, (20, 30, 4), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.h5"
    write_model(path, tiny_content(), {})
    return str(path)


@pytest.fixture
def photo(tmp_path) -> Path:
    """A JPEG as a phone writes it: on its side, with a place, an ICC profile and XMP."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    exif.get_ifd(0x8825).update({1: "N", 27: b"secret method"})
    path = tmp_path / "photo.jpg"
    xmp = b'<x exif:GPSLatitude="48N" dc:title="t"/>'
    Image.fromarray(random_picture(20, 30)).save(path, exif=exif, icc_profile=b"icc" * 50, xmp=xmp, quality=95)
    return path


@pytest.fixture
def stream(photo, tmp_path) -> str:
    refcodec.encode_file(photo, tmp_path / "photo.loclic", lossless=True)
    return str(tmp_path / "photo.loclic")


def test_files_there_and_back(tmp_path, photo, model):
    coded = refcodec.encode_file(photo, tmp_path / "a.loclic", quality=30, model=model)
    assert (coded.width, coded.height, coded.channels, coded.quality, coded.alpha) == (30, 20, 3, 30, False)
    assert coded.bytes == (tmp_path / "a.loclic").stat().st_size and coded.psnr > 5 and coded.notes == ()
    found = refcodec.decode_file(tmp_path / "a.loclic", tmp_path / "a.png", model=model, verify=True)
    assert found.verified and found.sha256 == coded.reconstruction_sha256 and (found.width, found.height) == (30, 20)
    data = (tmp_path / "a.loclic").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), refcodec.decode(data, model=model))
        metadata = refcodec.metadata(data)
        assert image.info["exif"] == EXIF_PREFIX + metadata.exif or image.info["exif"] == metadata.exif
        assert image.info["icc_profile"] == metadata.icc_profile == b"icc" * 50 and b"title" in metadata.xmp
    assert refcodec.metadata(refcodec.encode(RGBA, lossless=True)) == (None, None, None)
    with pytest.raises(OutputError, match="exists"):
        refcodec.encode_file(photo, tmp_path / "a.loclic")
    with pytest.raises(UsageError, match="name is that of a picture"):
        refcodec.encode_file(photo, tmp_path / "b.png")
    for wrong in ({"quality": 3, "bpp": 1}, {"size": 0}, {"psnr": "40"}, {"bpp": float("nan")}, {"quality": 0.5}):
        with pytest.raises(UsageError):
            refcodec.encode_file(photo, tmp_path / "b.loclic", **wrong)
    assert not (tmp_path / "b.loclic").exists()


def test_what_happens_is_told(tmp_path, photo, model):
    told, shown = [], []
    coded = refcodec.encode_file(
        photo,
        tmp_path / "a.loclic",
        size=2000,
        model=model,
        strip="gps,exif",
        tell=told.append,
        progress=lambda what, share: shown.append((what, share)),
    )
    assert coded.bytes <= 2000 and tuple(told) == coded.notes and "highest that fits" in told[-1]
    assert any("not upright: its orientation (6)" in text for text in told)
    shares = [share for _, share in shown]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1 and "of at most" in shown[0][0]


@pytest.mark.parametrize(("name", "turned"), [("a.bmp", True), ("a.ppm", True), ("a.npy", False), ("a.png", False)])
def test_pictures_are_upright_where_the_format_carries_no_orientation(tmp_path, stream, photo, name, turned):
    with Image.open(photo) as image:
        stored, upright = np.asarray(image), np.asarray(ImageOps.exif_transpose(image))

    def decoded(**options):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}{name}"
        facts = refcodec.decode_file(stream, out, **options)
        samples = np.load(out) if name.endswith("npy") else np.asarray(Image.open(out))
        assert samples.shape[:2] == (facts.height, facts.width)
        return samples, facts, out

    samples, facts, _ = decoded()
    assert np.array_equal(samples, upright if turned else stored)
    assert any("turned upright" in text for text in facts.notes) == turned
    assert np.array_equal(decoded(autorotate=False)[0], stored)
    samples, again, out = decoded(autorotate=True)
    assert np.array_equal(samples, upright) and again.sha256 == facts.sha256
    if name == "a.png":
        assert Image.open(out).getexif()[0x0112] == 1  # and nobody turns it twice
        assert np.array_equal(decoded(strip="exif")[0], upright)
    part, _, _ = decoded(autorotate=True, region=(3, 4, 10, 5))
    assert np.array_equal(part, np.rot90(stored[4:9, 3:13], 3))


def test_turned_copies_count_in_the_memory(tmp_path, stream, monkeypatch):
    """Decoding takes more than the copies of a small picture, so what is checked is looked at."""
    checked = []
    monkeypatch.setattr("refcodec.picture_files.decoding.check_memory", lambda memory, *_, **__: checked.append(memory))
    for turned, copies in ((False, 1), (True, 2)):
        refcodec.decode_file(stream, tmp_path / "a.bmp", autorotate=turned, force=True)
        assert checked.pop() == copies * 20 * 30 * 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_on_a_background(tmp_path, mode, capsys):
    source = Image.fromarray(RGBA).convert(mode)
    source.save(tmp_path / "a.png")
    samples = np.asarray(source).astype(int)
    flat = (samples[:, :, :-1] * samples[:, :, -1:] + 255 * (255 - samples[:, :, -1:]) + 127) // 255
    words = ["--lossless", "--background", "white", "--json"]
    assert main(["encode", str(tmp_path / "a.png"), str(tmp_path / "a.loclic"), *words]) == 0
    out, err = capsys.readouterr()
    assert not json.loads(out)["alpha"] and "background" in err
    assert np.array_equal(refcodec.decode((tmp_path / "a.loclic").read_bytes()), np.squeeze(flat))
    assert main(["encode", str(tmp_path / "a.png"), str(tmp_path / "b.loclic"), "--lossless"]) == 0
    assert main(["decode", str(tmp_path / "b.loclic"), str(tmp_path / "b.bmp")]) == 69
    assert main(["decode", str(tmp_path / "b.loclic"), str(tmp_path / "b.bmp"), "--background", "#ffffff"]) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.bmp")), np.squeeze(flat))
    assert main(["decode", str(tmp_path / "b.loclic"), str(tmp_path / "c.bmp"), "--background", "none"]) == 2
    assert main(["decode", str(tmp_path / "b.loclic"), str(tmp_path / "c.ppm"), "--background", "red"]) == 0
    assert Image.open(tmp_path / "c.ppm").mode == "RGB"


def test_large_pictures_get_their_background_in_strips(tmp_path, monkeypatch):
    """As those in memory, in both directions."""
    Path(tmp_path / "a.pam").write_bytes(
        b"P7\nWIDTH 30\nHEIGHT 20\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + RGBA.tobytes()
    )
    refcodec.encode_file(tmp_path / "a.pam", tmp_path / "alpha.loclic", lossless=True)
    found = []
    for limit in (1 << 26, 10):
        monkeypatch.setattr("refcodec.io.pictures.STRIPS_FROM", limit)
        monkeypatch.setattr("refcodec.picture_files.decoding.STRIPS_FROM", limit)
        options = {"background": "teal", "force": True}
        refcodec.encode_file(tmp_path / "a.pam", tmp_path / "a.loclic", lossless=True, **options)
        files = [(tmp_path / "a.loclic").read_bytes()]
        for region in (None, (2, 3, 11, 9)):
            refcodec.decode_file(tmp_path / "alpha.loclic", tmp_path / "a.png", region=region, **options)
            files.append((tmp_path / "a.png").read_bytes())
        found.append(files)
    assert found[0] == found[1]


def test_metadata_is_stripped_and_extracted(tmp_path, stream, capsys):
    out = tmp_path / "a.png"
    assert main(["decode", stream, str(out), "--strip", "exif,icc"]) == 0
    with Image.open(out) as image:
        assert "exif" not in image.info and "icc_profile" not in image.info and b"title" in image.info["xmp"]
    assert main(["decode", stream, str(tmp_path / "b.jpg"), "--strip", "gps"]) == 0
    data = (tmp_path / "b.jpg").read_bytes()
    assert b"secret" not in data and b"GPSLatitude" not in data and b"a maker" in data and b"title" in data
    assert main(["decode", stream, str(tmp_path / "c.png"), "--strip", "place"]) == 2
    capsys.readouterr()
    assert main(["info", stream, "--extract", str(tmp_path / "deep" / "x"), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["extracted"]
    found = refcodec.metadata(Path(stream).read_bytes())
    assert {kind: Path(file).read_bytes() for kind, file in files.items()} == found._asdict()
    assert sorted(os.listdir(tmp_path / "deep" / "x")) == ["photo.exif", "photo.icc", "photo.xmp"]
    assert main(["info", stream, "--extract", str(tmp_path / "deep" / "x")]) == 73
    assert main(["info", stream, "--extract", str(tmp_path / "deep" / "x"), "--force"]) == 0
    assert "icc_profile written" in capsys.readouterr().out


def test_frames_and_cmyk_of_the_command(tmp_path, capsys):
    first, second = (Image.fromarray(random_picture(8, 9)) for _ in range(2))
    second = ImageOps.invert(second)
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    words = ["encode", str(tmp_path / "a.tif"), str(tmp_path / "a.loclic"), "--lossless"]
    assert main(words) == 69 and "--frame" in capsys.readouterr().err
    assert main([*words, "--frame", "2"]) == 2
    assert main([*words, "--frame", "1"]) == 0 and "others are left out" in capsys.readouterr().err
    assert np.array_equal(refcodec.decode((tmp_path / "a.loclic").read_bytes()), np.asarray(second))
    first.convert("CMYK").save(tmp_path / "c.jpg")
    words = ["encode", str(tmp_path / "c.jpg"), str(tmp_path / "c.loclic"), "--lossless"]
    assert main(words) == 69 and "--cmyk-to-srgb" in capsys.readouterr().err
    assert main([*words, "--cmyk-to-srgb"]) == 69 and "ICC profile" in capsys.readouterr().err


def test_times_are_kept_on_request(tmp_path, photo):
    os.utime(photo, ns=(1_000_000_000_123_456_789, 1_100_000_000_987_654_321))
    for keep in (False, True):
        coded, back = tmp_path / f"{keep}.loclic", tmp_path / f"{keep}.png"
        refcodec.encode_file(photo, coded, lossless=True, keep_times=keep)
        assert (coded.stat().st_mtime_ns == 1_100_000_000_987_654_321) == keep
        refcodec.decode_file(coded, back, keep_times=keep)
        assert (back.stat().st_mtime_ns == 1_100_000_000_987_654_321) == keep
    with pytest.raises(UsageError, match="pipe"):
        refcodec.decode_file("-", tmp_path / "x.png", keep_times=True)


def test_a_pipe_gets_the_format_that_is_named(tmp_path, stream):
    run = [sys.executable, "-m", "refcodec", "decode", stream, "-"]
    for words, form in (([], "PNG"), (["--format", "ppm"], "PPM"), (["--format", "webp"], "WEBP")):
        data = subprocess.run([*run, *words], check=True, capture_output=True).stdout
        assert Image.open(io.BytesIO(data)).format == form
    refcodec.decode_file(stream, tmp_path / "no suffix", format="qoi")
    assert Image.open(tmp_path / "no suffix").format == "QOI"
    with pytest.raises(UsageError, match="two formats"):
        refcodec.decode_file(stream, tmp_path / "a.png", format="jpg")
    with pytest.raises(Unsupported, match="extension"):
        refcodec.decode_file(stream, tmp_path / "no other suffix")
    refcodec.decode_file(stream, tmp_path / "a.jpeg", format="jpg")


WRONG = [5, -1, 1.5, "no", [1], object(), b"x", 10**30, np.array([1, 2])]
RIGHT = {"threads": (5,), "bpp": (5,), "psnr": (5, 1.5), "quality": (5,), "out": ("no",), "model": ("no",)}
"""Values of it that the arguments accept; a name of a model is not looked for where none is needed."""


@pytest.mark.parametrize("function", [refcodec.encode_file, refcodec.decode_file])
def test_arguments_of_a_wrong_type_are_refused(tmp_path, photo, stream, function, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = list(inspect.signature(function).parameters)
    assert "format" in names or function is refcodec.encode_file
    for name in names:
        for wrong in WRONG:
            if any(wrong is right for right in RIGHT.get(name, ())):
                continue
            words = {"source": photo, "out": "x.loclic", "force": True}
            if function is refcodec.decode_file:
                words |= {"source": stream, "out": "x.png"}
            elif name not in ("quality", "bpp", "size", "psnr", "model", "tile", "rectangles"):
                words["lossless"] = True
            with pytest.raises(RefcodecError) as caught:
                function(**{**words, name: wrong})
            assert str(caught.value) and not os.path.exists("x.png"), (name, wrong)
    for words in (
        {"quality": True},
        {"lossless": np.int64(1)},
        {"lossless": True, "strip": 0},
        {"tile": True},
        {"threads": True},
    ):
        with pytest.raises(UsageError):
            refcodec.encode_file(photo, "x.loclic", **words)
    refcodec.encode_file(photo, "x.loclic", lossless=np.True_, force=np.False_)


def test_the_folder_of_metadata_is_made_for_metadata_alone(tmp_path, photo, capsys):
    refcodec.encode_file(photo, tmp_path / "bare.loclic", lossless=True, strip="all")
    assert main(["info", str(tmp_path / "bare.loclic"), "--extract", str(tmp_path / "x")]) == 0
    assert not (tmp_path / "x").exists() and "nothing to extract" in capsys.readouterr().err


def test_a_profile_of_cmyk_that_is_none_is_named(tmp_path, capsys):
    words = ["encode", str(tmp_path / "c.tif"), str(tmp_path / "c.loclic"), "--lossless", "--cmyk-to-srgb"]
    good = cmyk_profile()
    for profile, said in (
        (b"garbage" * 40, "ICC profile is damaged"),
        (good[:20], "ICC profile is damaged"),
        (good[:300], "cannot be used"),
        (good[:16] + b"RGB " + good[20:], "its ICC profile is not"),
    ):
        Image.fromarray(RGBA, "CMYK").save(tmp_path / "c.tif", icc_profile=profile)
        assert main(words) == 69
        err = capsys.readouterr().err
        assert said in err and "c.tif" in err and "assign the profile of the press" in err
