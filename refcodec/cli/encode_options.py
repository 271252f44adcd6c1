"""Arguments of encoding and decoding that ``encode``, ``decode`` and ``batch`` share, and their values."""

from __future__ import annotations

import argparse
from typing import Any

from ..io.options import limits_of, positive
from ..reduced import STEPS
from ..tiles import UNIT


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1 << 62:  # more is refused by what a picture can have; this, infinity and NaN by themselves
        raise ValueError
    return value


_rate.__name__ = "positive number"  # argparse names types in its messages


def _tile(text: str) -> int | None:
    """``auto`` is None, which lets the encoder choose; ``none`` is 0."""
    if text in ("auto", "none"):
        return {"auto": None, "none": 0}[text]
    if (side := positive(text)) % UNIT or side > 255 * UNIT:
        raise ValueError
    return side


_tile.__name__ = f"multiple of {UNIT} up to {255 * UNIT}"  # argparse names types in its messages


def _quality(text: str) -> int:
    if (value := positive(text)) > 100:
        raise ValueError
    return value


_quality.__name__ = "quality of 1 to 100"


def _frame(text: str) -> int:
    if (value := int(text)) < 0:
        raise ValueError
    return value


_frame.__name__ = "number of a frame, from 0"


def add_encode_options(p: argparse.ArgumentParser) -> None:
    """Options that determine the bytes of a stream, except model and limits."""
    rate = p.add_mutually_exclusive_group()
    rate.add_argument("-q", "--quality", type=_quality, metavar="1..100", help="quality, default 60")
    rate.add_argument("--bpp", type=_rate, metavar="R", help="best quality of at most R bits per pixel")
    rate.add_argument("--size", type=positive, metavar="BYTES", help="best quality of at most BYTES bytes")
    rate.add_argument(
        "--psnr",
        type=_rate,
        metavar="DB",
        help="lowest quality of at least this PSNR, measured on decoded samples; graphics without loss if smaller",
    )
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
    p.add_argument(
        "--refine",
        type=positive,
        default=0,
        metavar="N",
        help="improve the latents for this picture by N steps, for instance 100: slow, needs PyTorch; never worse: the "
        "picture is coded with and without, and the one kept with the lower sum of bits and weighted squared errors, "
        "an error weighing what it costs between neighbouring qualities of this picture",
    )
    p.add_argument("--exact", action="store_true", help="keep the colours of wholly transparent pixels")
    p.add_argument("--depth", type=int, choices=(8,), help="reduce samples of more bits to 8, by rounding")
    p.add_argument("--frame", type=_frame, metavar="N", help="frame or page to code, from 0, of a file with several")
    p.add_argument("--cmyk-to-srgb", action="store_true", help="convert CMYK to sRGB through the picture's ICC profile")
    _add_shared(p)


def _add_shared(p: argparse.ArgumentParser) -> None:
    p.add_argument("--background", metavar="COLOUR", help="put transparent pixels on a colour: white, '#ff8000'")
    p.add_argument("--strip", metavar="LIST", help="metadata to leave out: exif,icc,xmp or all; gps, the place alone")
    p.add_argument("--keep-times", action="store_true", help="give the output the times of the input")


def add_decode_options(p: argparse.ArgumentParser, shared: bool = True) -> None:
    """Options that determine a decoded picture; ``shared`` adds the options that `add_encode_options` adds, too."""
    p.add_argument("--verify", action="store_true", help="check the encoder's digest before the picture is in place")
    p.add_argument(
        "--reduce", type=int, choices=STEPS, default=1, metavar="N", help="means of NxN samples: a thumbnail"
    )
    p.add_argument(
        "--autorotate",
        action=argparse.BooleanOptionalAction,
        help="turn the picture as its EXIF says; by default where the output carries no EXIF",
    )
    if shared:
        _add_shared(p)


ENCODING = ("quality", "bpp", "size", "psnr", "lossless", "tile", "refine", "exact", "depth", "frame", "cmyk_to_srgb")
"""Arguments of `refcodec.encode_file` by the same names, besides ``rectangles``."""
DECODING = ("verify", "reduce", "autorotate")
"""Those of `refcodec.decode_file`."""
SHARED = ("background", "strip")
"""Those of both."""


def shared_options(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of `refcodec.encode_file` or `refcodec.decode_file` from those of a command."""
    given = {name: getattr(args, name) for name in (*names, *SHARED, "model", "threads", "keep_times", "force")}
    return {**given, "strip": args.strip or (), "limits": limits_of(args)}
