"""Arguments of encoding that ``encode`` and ``batch`` share."""

from __future__ import annotations

import argparse

from ..io.options import positive


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError
    return value


_rate.__name__ = "rate"  # argparse names types in its messages


def _tile(text: str) -> int | None:
    """``auto`` is None, which lets the encoder choose; ``none`` is 0."""
    return {"auto": None, "none": 0}[text] if text in ("auto", "none") else positive(text)


_tile.__name__ = "side of a tile"


def add_encode_options(p: argparse.ArgumentParser) -> None:
    """What decides the bytes of a stream, but for model and limits."""
    rate = p.add_mutually_exclusive_group()
    rate.add_argument("-q", "--quality", type=positive, metavar="1..100", help="quality step, default 60")
    rate.add_argument("--bpp", type=_rate, metavar="R", help="best quality of at most R bits per pixel")
    rate.add_argument("--size", type=positive, metavar="BYTES", help="best quality of at most BYTES bytes")
    rate.add_argument("--lossless", action="store_true", help="store every sample exactly; needs no model")
    p.add_argument(
        "--tile",
        type=_tile,
        metavar="N|none|auto",
        help="side of the tiles, a multiple of 64; auto, the default, cuts large pictures",
    )
    p.add_argument(
        "--rectangles", choices=("auto", "none"), default="auto", help="parts to store exactly; default auto"
    )
    p.add_argument("--exact", action="store_true", help="keep the colours of wholly transparent pixels")
    p.add_argument("--depth", type=int, choices=(8,), help="reduce samples of more bits to 8, by rounding")
    p.add_argument("--strip", metavar="LIST", help="metadata to leave out: exif,icc,xmp or all")
