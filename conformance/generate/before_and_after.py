"""README's picture of a crop before and after coding: ``python -m conformance.generate.before_and_after`` draws it.

The pixels of refcodec's panel are the same on every machine. Those of AVIF depend on the version of its encoder.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import refcodec
from refcodec.measure.metrics import psnr
from refcodec.measure.other_codecs import OTHERS
from refcodec.measure.rate_distortion import OWN
from refcodec.measure.rate_distortion_page import Coded, at_most

from .worked_example import ROOT

SOURCE = ROOT / "conformance" / "data" / "pictures" / "scene_large.png"
TARGET = ROOT / "weights_converter" / "default" / "before_and_after.webp"

QUALITY = 15
"""Low enough for differences that an eye finds at 1:1."""

CROP = (56, 236, 336, 452)
"""Left, upper, right and lower edge of what is shown."""

GAP, CAPTION = 6, 22
"""Samples between panels, and above them for the captions."""


def coded_by_refcodec() -> tuple[NDArray[np.uint8], Coded]:
    """The original, uint8 [H, W, 3], and refcodec's version of it."""
    with Image.open(SOURCE) as image:
        samples = np.array(image.convert("RGB"))
    stream = refcodec.encode(samples, quality=QUALITY)
    return samples, Coded(OWN, QUALITY, len(stream), refcodec.decode(stream))


def panels(samples: NDArray[np.uint8], *coded: Coded) -> Image.Image:
    """Draw the crops of the original and of its coded versions in one row, each below its caption.

    The PSNR in a caption is that of the crop; bytes and bits per pixel are those of the whole file.
    """
    left, upper, right, lower = CROP
    width, height = right - left, lower - upper
    count = 1 + len(coded)
    sheet = Image.new("RGB", (count * width + (count - 1) * GAP, height + CAPTION), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    area = samples.shape[0] * samples.shape[1]
    shown = [("original", samples)]
    for each in coded:
        error = psnr(samples[upper:lower, left:right], each.samples[upper:lower, left:right])
        quality = "exact" if math.isinf(error) else f"{error:.2f} dB"
        bpp = 8 * each.size / area
        shown.append((f"{each.codec}: {each.size:,} bytes, {bpp:.3f} bpp, {quality}", each.samples))
    for place, (caption, each_samples) in enumerate(shown):
        x = place * (width + GAP)
        draw.text((x + 2, 2), caption, fill="black", font=font)
        sheet.paste(Image.fromarray(each_samples[upper:lower, left:right]), (x, CAPTION))
    return sheet


def main() -> None:
    """Write the picture."""
    samples, own = coded_by_refcodec()
    avif = next(codec for codec in OTHERS if codec.name == "AVIF")
    file = io.BytesIO()
    panels(samples, own, at_most(avif, samples, own.size)).save(file, "WEBP", lossless=True, quality=100, method=6)
    TARGET.write_bytes(file.getvalue())
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
