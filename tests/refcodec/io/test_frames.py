"""Frames of files that hold several, and CMYK: read on request, refused otherwise."""

import io

import numpy as np
import pytest
from cmyk_profile import cmyk_profile
from PIL import Image, features

from refcodec.errors import InvalidImage, LimitExceeded, RefcodecError, Unsupported, UsageError
from refcodec.io.pictures import read_picture
from refcodec.limits import Limits

FRAMES = [np.random.default_rng(n).integers(0, 2, (12, 16, 3), dtype=np.uint8) * 255 for n in range(3)]


def several(form: str, **options) -> bytes:
    first, *more = (Image.fromarray(frame) for frame in FRAMES)
    file = io.BytesIO()
    first.save(file, form, save_all=True, append_images=more, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("GIF", {}),
        ("GIF", {"disposal": 2}),
        ("PNG", {}),
        ("PNG", {"default_image": True}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ("TIFF", {}),
        ("MPO", {"quality": 100, "subsampling": 0}),
    ],
)
def test_a_frame_is_read_as_viewers_show_it(form, options):
    if form in ("WEBP", "AVIF") and not features.check(form.lower()):
        pytest.skip(f"this Pillow has no {form}")
    data = several(form, **options)
    if form != "MPO":  # of which the primary picture is read
        with pytest.raises(Unsupported, match="--frame N"):
            read_picture(data)
    for number, frame in enumerate(FRAMES):
        found = read_picture(data, frame=number)
        error = np.abs(found.samples.astype(int) - frame)
        assert error.mean() <= {"AVIF": 12, "MPO": 3}.get(form, 0), form
        assert f"frame {number} alone is read, the others are left out" in found.notes or (form == "MPO" and number)
    with pytest.raises(UsageError, match="no such frame"):
        read_picture(data, frame=3)
    for wrong in (-1, 4096, True, "1", 1.0):
        with pytest.raises(UsageError, match="count from 0"):
            read_picture(data, frame=wrong)


def test_pages_have_their_own_sizes_metadata_and_depths():
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "first"
    wide = Image.fromarray(np.zeros((4, 40), np.uint8))
    turned = Image.Exif()
    turned[0x0112], turned[0x010F] = 6, "second"
    wide.encoderinfo = {"exif": turned}
    deep = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    Image.fromarray(FRAMES[0]).save(file, "TIFF", exif=exif, save_all=True, append_images=[wide, deep])
    data = file.getvalue()
    assert b"first" in read_picture(data, frame=0).exif
    second = read_picture(data, frame=1)
    assert second.samples.shape == (40, 4) and b"second" in second.exif and b"first" not in second.exif
    with pytest.raises(Unsupported, match="--depth 8"):
        read_picture(data, frame=2)
    expected = (np.arange(64).reshape(8, 8) * 1000 * 255 + 32767) // 65535
    assert np.array_equal(read_picture(data, depth=8, frame=2).samples, expected)
    with pytest.raises(LimitExceeded):
        read_picture(data, Limits(max_memory=2000), frame=1)


def test_later_pictures_of_an_mpo_have_their_own_metadata():
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "first"
    Image.fromarray(FRAMES[0]).save(file, "MPO", exif=exif, save_all=True, append_images=[Image.fromarray(FRAMES[1])])
    data = bytearray(file.getvalue())
    at = data.rindex(b"first")
    data[at : at + 5] = b"other"  # Pillow writes the same block for both
    assert b"first" in read_picture(bytes(data), frame=0).exif and b"other" in read_picture(bytes(data), frame=1).exif
    with pytest.raises(InvalidImage):
        read_picture(bytes(data[:-300]), frame=1)


def test_files_of_one_picture_have_frame_0_alone(tmp_path):
    np.save(tmp_path / "a.npy", FRAMES[0])
    for form in ("PNG", "JPEG", "PPM", "TIFF", "BMP"):
        Image.fromarray(FRAMES[0]).save(tmp_path / f"a.{form}", form)
    for path in tmp_path.iterdir():
        whole = read_picture(path)
        assert np.array_equal(read_picture(path, frame=0).samples, whole.samples)
        assert not any("frame" in note for note in read_picture(path, frame=0).notes)
        with pytest.raises(UsageError, match="no such frame"):
            read_picture(path, frame=1)


def test_damaged_animations_are_refused():
    """Every cut, and changed bytes: an error of refcodec or a picture, nothing else."""
    rng = np.random.default_rng(8)
    for form in ("GIF", "PNG", "TIFF", "MPO", "WEBP"):
        data = several(form)
        for _ in range(40):
            damaged = bytearray(data[: rng.integers(20, len(data))])
            damaged[rng.integers(8, len(damaged))] ^= 1 << rng.integers(8)
            try:
                read_picture(bytes(damaged), frame=2)
            except RefcodecError:
                pass


INKS = np.random.default_rng(4).integers(0, 256, (12, 16, 4), dtype=np.uint8)


def cmyk(form: str = "TIFF", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(INKS, "CMYK").save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk_is_converted_by_its_profile(form):
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    data = cmyk(form, icc_profile=cmyk_profile(), **options)
    with pytest.raises(Unsupported, match="--cmyk-to-srgb"):
        read_picture(data)
    found = read_picture(data, cmyk_to_srgb=True)
    assert found.icc_profile is None and "converted from CMYK to sRGB by its ICC profile" in found.notes
    assert not any("left out" in note for note in found.notes)
    inks = INKS.astype(float) / 255
    meant = 255 * (1 - inks[:, :, :3]) * (1 - inks[:, :, 3:])
    corners = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]], np.uint8)
    file = io.BytesIO()
    Image.fromarray(corners[np.newaxis], "CMYK").save(file, "TIFF", icc_profile=cmyk_profile())
    white, cyan, magenta, yellow, black = read_picture(file.getvalue(), cmyk_to_srgb=True).samples[0].astype(int)
    assert white.min() > 250 and black.max() < 6
    assert (cyan.argmin(), magenta.argmin(), yellow.argmin()) == (0, 1, 2)
    assert np.corrcoef(found.samples.ravel(), meant.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("profile", [None, b"x" * 200, cmyk_profile()[:400], Image.core and b"RGB " * 50])
def test_cmyk_without_a_profile_is_refused(profile):
    with pytest.raises(Unsupported, match="profile"):
        read_picture(cmyk(icc_profile=profile), cmyk_to_srgb=True)


def test_other_modes_stay_as_they_are():
    file = io.BytesIO()
    Image.fromarray(FRAMES[0]).save(file, "PNG")
    assert np.array_equal(read_picture(file.getvalue(), cmyk_to_srgb=True).samples, FRAMES[0])


def test_files_of_very_many_elements_are_refused_before_pillow_sees_them(monkeypatch):
    monkeypatch.setattr("refcodec.io.pictures._open_readable", None)
    png = several("PNG")
    many = png[:33] + 5000 * (b"\0\0\0\0qqQq" + b"\0\0\0\0") + png[33:]
    jpeg = b"\xff\xd8" + 300 * b"\xff\xe1\x00\x08Exif\0\0" + several("MPO")[2:]
    for data in (many, jpeg):
        with pytest.raises(LimitExceeded, match="too many"):
            read_picture(data, frame=1)
