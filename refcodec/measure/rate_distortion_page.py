"""The page of ``rd --html``: curves, tables, and crops of every codec at the bytes of refcodec's stream."""

from __future__ import annotations

import argparse
import html
import math
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io.options import limits_of
from ..io.pictures import read_picture
from .metrics import psnr
from .other_codecs import OtherCodec, decode_other, encode_other
from .page import document, picture_source, table
from .rate_distortion import MIDDLE_RATES, OWN, DecodeFunction, EncodeFunction, plot

SIDE = 192
"""Side of a crop in samples."""

SHOWN_QUALITIES = (15, 60)
"""Crops are shown at those of the measured qualities that are nearest to these."""

_STEP = 16
"""Crops begin at multiples of this."""

_STYLE = """
svg { max-width: 100%; height: auto; background: #fff; margin: 0 1em 1em 0 }
td { text-align: right } td:first-child { text-align: left }
.row { display: flex; gap: 6px; overflow-x: auto; margin-bottom: 1em }
figure { margin: 0; flex: none } figure img { image-rendering: pixelated; display: block }
figcaption { font-size: 12px; line-height: 1.35; margin-top: 2px } h2 { font-size: 17px } h3 { font-size: 15px }
"""

_SCRIPT = """
const zoom = document.getElementById("zoom");
function draw() {
  for (const image of document.querySelectorAll("figure img")) image.width = image.naturalWidth * zoom.value;
}
zoom.addEventListener("input", draw);
addEventListener("load", draw);
"""


@dataclass(frozen=True)
class Coded:
    """A picture by one codec.

    Attributes
    ----------
    codec : str
    setting : float
    size : int
        Bytes of the file.
    samples : [H, W] or [H, W, 3] uint8
        What it decodes to.
    """

    codec: str
    setting: float
    size: int
    samples: NDArray[np.uint8]


def at_most(codec: OtherCodec, samples: NDArray[np.uint8], size: int) -> Coded:
    """The best picture of a codec in a number of bytes; if no setting takes so few, its smallest file.

    Parameters
    ----------
    codec : OtherCodec
    samples : [H, W] or [H, W, 3] uint8
    size : int
        Bytes.

    Returns
    -------
    Coded

    Raises
    ------
    Unsupported
        The codec cannot code this picture.
    """

    def size_at(setting: float) -> int:
        return len(encode_other(codec, setting, samples))

    fitting = bisect_right(codec.fine, size, key=size_at)
    setting = codec.fine[max(0, fitting - 1)]
    data = encode_other(codec, setting, samples)
    return Coded(codec.name, setting, len(data), decode_other(data, "L" if samples.ndim == 2 else "RGB"))


def worst_place(samples: NDArray[np.uint8], coded: Sequence[Coded]) -> tuple[int, int]:
    """Row and column of the crop in which the squared errors of all codecs together are largest.

    Parameters
    ----------
    samples : [H, W] or [H, W, 3] uint8
        The original.
    coded : sequence of Coded
    """
    errors = np.zeros(samples.shape[:2])
    for each in coded:
        errors += ((samples.astype(np.float64) - each.samples) ** 2).reshape(*errors.shape, -1).sum(axis=2)
    sums = np.pad(errors.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    height, width = min(SIDE, samples.shape[0]), min(SIDE, samples.shape[1])
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    row, column = np.unravel_index(inside[::_STEP, ::_STEP].argmax(), inside[::_STEP, ::_STEP].shape)
    return _STEP * int(row), _STEP * int(column)


def _figure(samples: NDArray[np.uint8], place: tuple[int, int], lines: Sequence[str]) -> str:
    row, column = place
    crop = np.ascontiguousarray(samples[row : row + SIDE, column : column + SIDE])
    caption = "<br>".join(map(html.escape, lines))
    return f'<figure><img alt="" src="{picture_source(crop)}"><figcaption>{caption}</figcaption></figure>'


def _captions(samples: NDArray[np.uint8], coded: Coded, size: int) -> list[str]:
    found = psnr(samples, coded.samples)
    more = "" if coded.size == size else f" ({100 * (coded.size / size - 1):+.1f} %)"
    quality = "exact" if math.isinf(found) else f"{found:.2f} dB"
    return [f"{coded.codec} at {coded.setting:g}", f"{coded.size} bytes{more}", quality]


def _rows(
    name: str,
    samples: NDArray[np.uint8],
    qualities: Sequence[int],
    codecs: Sequence[OtherCodec],
    encode: EncodeFunction,
    decode: DecodeFunction,
) -> str:
    """Crops of one picture, a row for each quality."""
    rows, place = [], None
    for quality in qualities:
        data = encode(samples, quality)
        own = Coded(OWN, quality, len(data), decode(data))
        coded = [own, *(at_most(codec, samples, own.size) for codec in codecs)]
        place = place or worst_place(samples, coded)  # the same place at every quality
        bpp = 8 * own.size / (samples.shape[0] * samples.shape[1])
        figures = [_figure(samples, place, ["original"])]
        figures += [_figure(each.samples, place, _captions(samples, each, own.size)) for each in coded]
        rows.append(
            f"<h3>{html.escape(name)}, {bpp:.3f} bits per pixel, crop at {place[1]}, {place[0]}</h3>"
            f"<div class=row>{''.join(figures)}</div>\n"
        )
    return "".join(rows)


def _evenly(names: Sequence[str], count: int) -> list[str]:
    """At most ``count`` names, spread over all."""
    count = min(count, len(names))
    return [names[n * len(names) // count] for n in range(count)]


def _svg(result: dict[str, Any], measure: str) -> str:
    """A plot as an element of the page."""
    text = plot(result, ".svg", measure).decode()
    return text[text.index("<svg") :]


def _curves_table(result: dict[str, Any]) -> str:
    rows = [
        (
            codec,
            f"{point['setting']:g}",
            f"{point['bpp']:.4f}",
            "exact" if point["psnr"] is None else f"{point['psnr']:.2f}",
            f"{point['ms_ssim']:.4f}",
            f"{point['encode_seconds']:.2f}",
            f"{point['decode_seconds']:.2f}",
        )
        for codec, curve in result["curves"].items()
        for point in curve
    ]
    head = ("codec", "setting", "bits per pixel", "PSNR [dB]", "MS-SSIM", "encode [s]", "decode [s]")
    return table("Means over the pictures", head, rows)


def _bd_table(result: dict[str, Any]) -> str:
    published = {f"{name} (published)": rates for name, rates in result.get("published_bd_rates", {}).items()}
    rows = [
        (name, *("-" if rates[key] is None else f"{rates[key]:+.1f} %" for key in _BD_KEYS))
        for name, rates in (result["bd_rates"] | published).items()
    ]
    if not rows:
        return ""
    middle = "{} to {} bpp".format(*MIDDLE_RATES)
    return table("BD-rate: negative where refcodec needs fewer bytes", ("refcodec against", "all rates", middle), rows)


_BD_KEYS = ("anchor_to_codec", "anchor_to_codec_middle")


def page(
    args: argparse.Namespace,
    result: dict[str, Any],
    codecs: Sequence[OtherCodec],
    encode: EncodeFunction,
    decode: DecodeFunction,
    progress: Callable[[str], None] = lambda line: None,
) -> bytes:
    """The page.

    Parameters
    ----------
    args : Namespace
        Of ``rd``: the folder, qualities, number of crops and limits.
    result : dict
        Of `refcodec.measure.rate_distortion.measure` for the folder.
    codecs : sequence of OtherCodec
        Those that have crops.
    encode, decode : callable
        As for `measure`.
    progress : callable
        Told a line before every picture with crops.

    Returns
    -------
    bytes
        HTML in UTF-8.

    Raises
    ------
    InvalidImage, Unsupported
        A picture has changed since it was measured, or Matplotlib is missing.
    """
    qualities = sorted({min(args.qualities, key=lambda q: abs(q - shown)) for shown in SHOWN_QUALITIES})
    crops = []
    for name in _evenly(result["pictures"], args.crops):
        progress(f"crops of {name}")
        samples = read_picture(os.path.join(args.folder, name), limits_of(args), alpha=False).samples
        crops.append(_rows(name, samples, qualities, codecs, encode, decode))
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    remarks = "; ".join(f"{name} {codec['version']}, {codec['remarks']}" for name, codec in result["codecs"].items())
    title = f"Rate and distortion, {len(result['pictures'])} pictures of {result['folder']}"
    body = (
        f"<h2>{html.escape(title)}</h2>\n<p>{html.escape(versions)}. {html.escape(remarks)}</p>\n"
        f"{_svg(result, 'psnr')}{_svg(result, 'ms_ssim')}\n{_bd_table(result)}"
        f"<details><summary>All points of the curves</summary>{_curves_table(result)}</details>\n"
        "<h2>Crops at equal bytes</h2>\n"
        "<p>Every other codec has the setting with the largest file that is not larger than refcodec's. Where even its "
        "smallest file is larger, that one is shown. A crop is where the squared errors of all codecs together are "
        "largest at the lower rate. PSNR is of the whole picture. "
        "<label>Scale <input id=zoom type=number value=1 min=0.5 max=8 step=0.5></label></p>\n" + "".join(crops)
    )
    return document(title, _STYLE, body, _SCRIPT)


__all__ = ["Coded", "at_most", "page", "worst_place"]
