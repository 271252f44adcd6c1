"""refcodec.io.changes: pictures on a background, and upright."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from refcodec.errors import UsageError
from refcodec.io import changes
from refcodec.io.changes import Flattened, colour_of, flattened, upright
from refcodec.planes import ArrayRows

SAMPLES = np.random.default_rng(5).integers(0, 256, (13, 9, 4), dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_samples_are_turned_as_pillow_does(orientation):
    image = Image.fromarray(SAMPLES)
    image.getexif()[0x0112] = orientation
    assert np.array_equal(upright(SAMPLES, orientation), np.asarray(ImageOps.exif_transpose(image)))
    grey = SAMPLES[:, :, 0]
    assert np.array_equal(upright(grey, orientation), upright(SAMPLES, orientation)[:, :, 0])


@pytest.mark.parametrize("strip", [1, 1 << 18])
@pytest.mark.parametrize("background", [(0, 0, 0), (255, 255, 255), (3, 128, 200)])
def test_colours_on_a_background_are_the_nearest_values(monkeypatch, background, strip):
    monkeypatch.setattr(changes, "STRIP", strip)
    alpha = SAMPLES[:, :, 3:].astype(float) / 255
    exact = SAMPLES[:, :, :3] * alpha + np.array(background) * (1 - alpha)
    assert np.abs(flattened(SAMPLES, background) - exact).max() <= 0.5 + 1e-9
    grey = np.ascontiguousarray(SAMPLES[:, :, [0, 3]])
    found = flattened(grey, background)
    assert found.shape == ((13, 9) if len(set(background)) == 1 else (13, 9, 3))
    assert np.array_equal(
        found.reshape(13, 9, -1)[:, :, -1], flattened(SAMPLES[:, :, [0, 0, 0, 3]], background)[:, :, 2]
    )
    for samples in (SAMPLES, grey, SAMPLES[:, :, :3], SAMPLES[:, :, 0]):
        rows = Flattened(ArrayRows(samples), background)
        whole = flattened(samples, background).reshape(13, 9, -1)
        assert rows.channels == whole.shape[2]
        assert np.array_equal(np.concatenate([rows.rows(0, 5), rows.rows(5, 8)]), whole)


def test_colours_by_name():
    for given, colour in (("white", (255, 255, 255)), ("#ff8000", (255, 128, 0)), ("rgb(1, 2, 3)", (1, 2, 3))):
        assert colour_of(given) == colour
    assert colour_of((1, 2, 3)) == (1, 2, 3) and colour_of("#010203ff") == (1, 2, 3)
    for wrong in ("no colour", "#ff800080", "", (1, 2), (1, 2, 256), (1, 2, -1), (1, 2, 3, 4, 5), ("a", "b", "c"), 5):
        with pytest.raises(UsageError, match="opaque colour"):
            colour_of(wrong)
