"""Cost of tiles: rate, and squared error near their borders, against the same picture without tiles (SPEC 4.4).

``python -m refcodec tiles FOLDER`` measures every picture of a folder; ``--sky`` adds a smooth sky, on which
borders are seen first.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codec import Encoded
from ..errors import UsageError
from ..io.console import note, result, result_json
from ..io.options import add_json, add_limits, limits_of
from ..limits import Limits
from .bd_rate import bd_rate
from .folder import pictures_in
from .metrics import psnr

NEAR = 8
"""Samples on both sides of a border that count as near it."""

Encode = Callable[[NDArray[np.uint8], int, int], Encoded]
"""From samples, quality and side of a tile, 0 for none."""


def sky(side: int) -> NDArray[np.uint8]:
    """A smooth sky with soft clouds and fine grain [side, side, 3]; the same on every machine but for rounding."""
    y, x = np.mgrid[:side, :side].astype(float)
    clouds = sum(np.sin(x / (90 + 40 * i) + i) * np.cos(y / (70 + 30 * i) - 2 * i) for i in range(4))
    colour = np.stack([110 + y / 10 + 9 * clouds, 150 + y / 12 + 6 * clouds, 215 + y / 40 + 2 * clouds], axis=2)
    grain = np.random.default_rng(3).normal(0, 1, (side, side, 1))
    samples: NDArray[np.uint8] = np.rint((colour + grain).clip(0, 255)).astype(np.uint8)
    return samples


def near_borders(height: int, width: int, tile: int) -> NDArray[np.bool_]:
    """Samples within ``NEAR`` samples of a border between tiles.

    Parameters
    ----------
    height, width : int
        Of the picture.
    tile : int
        Side of the tiles, in samples.

    Returns
    -------
    np.ndarray [height, width], bool
    """
    near = np.zeros((height, width), np.bool_)
    for at in range(tile, height, tile):
        near[at - NEAR : at + NEAR] = True
    for at in range(tile, width, tile):
        near[:, at - NEAR : at + NEAR] = True
    return near


def tile_cost(
    samples: NDArray[np.uint8], tiles: Iterable[int], qualities: Sequence[int], encode: Encode
) -> Iterator[dict[str, Any]]:
    """Encode a picture with and without tiles, and give a row for each size of tiles.

    Parameters
    ----------
    samples : uint8 [H, W] or [H, W, 3]
    tiles : iterable of int
        Sides of tiles in samples, multiples of 64.
    qualities : sequence of int
        Four or more give a sensible BD-rate.
    encode : callable (samples, quality, tile) -> Encoded

    Yields
    ------
    dict
        ``tile``; ``bd_rate`` in per cent more bytes than without tiles, None without a common range of PSNR;
        ``points``: by quality ``bpp`` and ``psnr``, and mean squared errors ``near`` borders and ``elsewhere`` with
        ``untiled_near`` and ``untiled_elsewhere`` at the same places.
    """
    whole = {q: encode(samples, q, 0) for q in qualities}
    bits = {q: 8 * len(coded.data) / (samples.shape[0] * samples.shape[1]) for q, coded in whole.items()}
    quality_of = {q: psnr(samples, coded.reconstruction) for q, coded in whole.items()}
    for tile in tiles:
        near = near_borders(samples.shape[0], samples.shape[1], tile)
        points = []
        for q in qualities:
            coded = encode(samples, q, tile)
            points.append(
                {
                    "quality": q,
                    "bpp": 8 * len(coded.data) / near.size,
                    "psnr": psnr(samples, coded.reconstruction),
                    **_errors(samples, coded.reconstruction, near, ""),
                    **_errors(samples, whole[q].reconstruction, near, "untiled_"),
                }
            )
        cost = bd_rate(
            [bits[q] for q in qualities],
            [quality_of[q] for q in qualities],
            [p["bpp"] for p in points],
            [p["psnr"] for p in points],
        )
        yield {"tile": tile, "bd_rate": None if math.isnan(cost) else cost, "points": points}


def _errors(
    samples: NDArray[np.uint8], shown: NDArray[np.uint8], near: NDArray[np.bool_], prefix: str
) -> dict[str, float | None]:
    """Mean squared error near borders and elsewhere; None where there is none."""
    squared = (samples.astype(np.int32) - shown) ** 2
    return {
        f"{prefix}{name}": float(squared[where].mean()) if where.any() else None
        for name, where in (("near", near), ("elsewhere", ~near))
    }


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _pictures(folder: str | None, side: int | None, limits: Limits) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    if side:
        yield f"sky {side}x{side}", sky(side)
    if folder is not None:
        yield from pictures_in(folder, limits, note)


def _show(row: dict[str, Any]) -> None:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    cost = row["bd_rate"]
    result(f"{row['picture']}, tiles of {row['tile']}: BD-rate " + ("-" if cost is None else f"{cost:+.2f} %"))
    for p in row["points"]:
        result(
            f"  quality {p['quality']:>3}: {p['bpp']:.4f} bits per pixel, {p['psnr']:.2f} dB; squared error near "
            f"borders {shown(p['near'])}, elsewhere {shown(p['elsewhere'])}; without tiles "
            f"{shown(p['untiled_near'])}, {shown(p['untiled_elsewhere'])}"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``refcodec tiles``."""
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="folder of pictures")
    parser.add_argument("--sky", type=int, metavar="SIDE", help="measure a rendered sky of SIDE x SIDE samples")
    parser.add_argument("--tiles", type=_numbers, default=(512, 1024, 2048), metavar="N,N,...", help="sides of tiles")
    parser.add_argument("--qualities", type=_numbers, default=(10, 40, 70, 100), metavar="Q,Q,...", help="1..100")
    parser.add_argument("--model", metavar="M", help="name or path of the model")
    parser.add_argument("--threads", type=int, metavar="N", help="threads")
    add_json(parser)
    add_limits(parser)


def run(args: argparse.Namespace, encode: Encode) -> int:
    """Run the command; 0, the exit code.

    Parameters
    ----------
    args : Namespace
        From a parser with `add_arguments`.
    encode : callable
        As for `tile_cost`.

    Raises
    ------
    UsageError
        No picture is given, or a quality or side is outside its range.
    MissingInput, Unsupported, LimitExceeded, TransferError
        As `pictures_in`.
    """
    if not args.folder and args.sky is None:
        raise UsageError("nothing to measure", cause="give a folder, or --sky SIDE")
    if args.sky is not None and not 16 <= args.sky <= 1 << 14:
        raise UsageError("the side of a sky is 16..16384", sky=args.sky)
    rows = []
    for name, samples in _pictures(args.folder, args.sky, limits_of(args)):
        for row in tile_cost(samples, args.tiles, args.qualities, encode):
            rows.append({"picture": name, **row})
            if not args.json:
                _show(rows[-1])
    if args.json:
        result_json({"rows": rows})
    return 0
