"""The picture of README: what the repository holds is what refcodec makes of the scene today."""

import numpy as np
from PIL import Image

from conformance.generate import before_and_after as drawn


def test_the_panels_of_the_stored_picture_are_the_codec_s():
    samples, own = drawn.coded_by_refcodec()
    with Image.open(drawn.TARGET) as image:
        stored = np.array(image.convert("RGB"))
    fresh = np.array(drawn.panels(samples, own))
    assert np.array_equal(fresh[drawn.CAPTION :], stored[drawn.CAPTION :, : fresh.shape[1]])
    left, upper, right, lower = drawn.CROP
    assert np.array_equal(stored[drawn.CAPTION :, : right - left], samples[upper:lower, left:right])
    assert stored.shape[1] == 3 * (right - left) + 2 * drawn.GAP
    assert drawn.TARGET.stat().st_size <= 200_000
