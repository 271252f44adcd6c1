"""Rate and distortion of refcodec compared with JPEG, JPEG 2000, WebP and AVIF, in one run over one folder of pictures.

Every point is a real file: its rate is the number of bytes that would lie on the disk, headers included and metadata
left out, and its distortion is measured on what those bytes decode to.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import features

from ..errors import Unsupported, UsageError
from ..io.console import note, result, result_json
from ..io.files import check_target, detail_of, read_bytes, write_bytes
from ..io.options import add_json, add_limits, add_save_json, file_name, limits_of, positive
from ..limits import Limits
from ..machine import machine
from . import metrics
from .bd_rate import bd_rate
from .folder import pictures_in
from .other_codecs import OTHERS, decode_other, encode_other

EncodeFunction = Callable[[np.ndarray, int], bytes]
DecodeFunction = Callable[[bytes], np.ndarray]

DEFAULT_QUALITIES = (1, 15, 30, 45, 60, 75, 90, 100)
MIDDLE_RATES = (0.2, 0.8)
"""Bits per pixel between which BD-rates are given as well: the range of most published curves."""

MAX_DRAWN_RATE = 2.1
"""Bits per pixel at which plots end."""

OWN = "refcodec"


@dataclass(frozen=True)
class Point:
    """One picture, coded once.

    Attributes
    ----------
    picture, codec : str
        File name and codec.
    setting : float
        The codec's quality, or the rate asked of JPEG 2000.
    bytes : int
        Length of the file.
    bpp, psnr, ms_ssim : float
        Bits per pixel, RGB PSNR in dB, MS-SSIM.
    encode_seconds, decode_seconds : float
        Wall time, from samples to bytes and back.
    """

    picture: str
    codec: str
    setting: float
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float
    encode_seconds: float
    decode_seconds: float


def _point(
    name: str, codec: str, setting: float, samples: np.ndarray, encode: Callable[[], bytes], decode: DecodeFunction
) -> Point:
    start = time.perf_counter()
    data = encode()
    middle = time.perf_counter()
    decoded = decode(data)
    end = time.perf_counter()
    bpp = 8 * len(data) / (samples.shape[0] * samples.shape[1])
    return Point(
        name,
        codec,
        setting,
        len(data),
        bpp,
        metrics.psnr(samples, decoded),
        metrics.ms_ssim(samples, decoded),
        middle - start,
        end - middle,
    )


def measure(
    folder: str,
    encode: EncodeFunction,
    decode: DecodeFunction,
    *,
    qualities: Sequence[int] = DEFAULT_QUALITIES,
    others: bool = True,
    refined: tuple[str, EncodeFunction] | None = None,
    limits: Limits = Limits(),
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure every picture of a folder at every setting of every codec.

    Parameters
    ----------
    folder : str
        Its picture files are read in the order of their names; files of other kinds are passed over.
    encode : callable (samples, quality) -> bytes
        refcodec's encoder.
    decode : callable (bytes) -> samples
        refcodec's decoder.
    qualities : sequence of int
        Qualities for refcodec.
    others : bool
        Measure the other codecs as well, those that this Pillow carries.
    refined : (str, callable) or None
        Name and encoder of refcodec with refinement, which is measured in addition.
    limits : Limits
        For reading the pictures.
    progress : callable
        Told a line before every picture.

    Returns
    -------
    dict
        JSON-serialisable: ``pictures``, ``points`` (one per picture and setting), ``curves`` (means over the pictures,
        by codec), ``bd_rates``, ``codecs`` (version and settings), ``versions``, ``machine``.

    Raises
    ------
    MissingInput
        There is no such folder, or no picture in it.
    UsageError
        A quality outside 1..100.
    """
    if not qualities or any(not 1 <= quality <= 100 for quality in qualities):
        raise UsageError("qualities are 1..100", qualities=list(qualities))
    codecs = [codec for codec in OTHERS if others and features.check(codec.feature)]
    own = {OWN: encode} | dict([refined] if refined else [])
    points: list[Point] = []
    names: list[str] = []
    for name, samples in pictures_in(folder, limits, progress):
        names.append(name)
        points += [
            _point(name, codec, quality, samples, partial(coder, samples, quality), decode)
            for codec, coder in own.items()
            for quality in qualities
        ]
        mode = "L" if samples.ndim == 2 else "RGB"
        points += [
            _point(
                name,
                codec.name,
                setting,
                samples,
                partial(encode_other, codec, setting, samples),
                partial(decode_other, mode=mode),
            )
            for codec in codecs
            for setting in codec.settings
        ]
    curves = {
        codec: _curve([point for point in points if point.codec == codec])
        for codec in (*own, *(codec.name for codec in codecs))
    }
    return {
        "folder": os.path.basename(os.path.normpath(folder)),
        "pictures": names,
        "curves": curves,
        "bd_rates": bd_rates(curves),
        "points": [_finite(asdict(point)) for point in points],
        "codecs": {
            codec.name: {"version": features.version(codec.feature), "remarks": codec.remarks} for codec in codecs
        },
        "versions": _versions(),
        "machine": machine(),
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def _curve(points: list[Point]) -> list[dict[str, Any]]:
    """Means over the pictures for every setting; a setting at which a picture is exact has no mean PSNR."""
    names = ("bpp", "psnr", "ms_ssim", "encode_seconds", "decode_seconds")
    curve = []
    for setting in dict.fromkeys(point.setting for point in points):
        here = [point for point in points if point.setting == setting]
        means = {name: float(np.mean([getattr(point, name) for point in here])) for name in names}
        curve.append({"setting": setting, **_finite(means)})
    return curve


def bd_rates(curves: dict[str, list[dict[str, Any]]], anchor: str = OWN) -> dict[str, dict[str, float | None]]:
    """BD-rates in per cent between one codec and each other, over all common PSNRs and between MIDDLE_RATES.

    Parameters
    ----------
    curves : dict
        Lists of points with ``bpp`` and ``psnr``, by codec.
    anchor : str
        The codec that the others are compared with.

    Returns
    -------
    dict
        By codec: ``codec_to_anchor`` is the codec's rate relative to the anchor's (positive: it needs more),
        ``anchor_to_codec`` the reverse, and both again with ``_middle``. None where the curves have nothing in common.
    """

    def columns(name: str) -> tuple[list[float], list[float]]:
        points = [point for point in curves[name] if point["psnr"] is not None]
        return [point["bpp"] for point in points], [point["psnr"] for point in points]

    return {
        name: _finite(
            {
                "codec_to_anchor": bd_rate(*columns(anchor), *columns(name)),
                "anchor_to_codec": bd_rate(*columns(name), *columns(anchor)),
                "codec_to_anchor_middle": bd_rate(*columns(anchor), *columns(name), MIDDLE_RATES),
                "anchor_to_codec_middle": bd_rate(*columns(name), *columns(anchor), MIDDLE_RATES),
            }
        )
        for name in curves
        if name != anchor
    }


def _versions() -> dict[str, str | None]:
    package = sys.modules[OWN]
    known = {
        name: features.version(name)
        for name in ("jpg", "libjpeg_turbo", "jpg_2000", "webp", "avif")
        if features.check(name)
    }
    return {OWN: getattr(package, "__version__", None), "pillow": PIL.__version__, "numpy": np.__version__, **known}


# ----------------------------------------------------------------------------------------------------------- output


def table(result: dict[str, Any]) -> str:
    """Curves and BD-rates of a `measure` result as text."""
    lines = [
        f"{len(result['pictures'])} pictures of {result['folder']}, means; bits per pixel, RGB PSNR in dB",
        f"{'codec':<24}{'setting':>8}{'bpp':>9}{'PSNR':>8}{'MS-SSIM':>9}{'enc s':>8}{'dec s':>8}",
    ]
    for codec, curve in result["curves"].items():
        for point in curve:
            quality = "exact" if point["psnr"] is None else f"{point['psnr']:.2f}"
            lines.append(
                f"{codec:<24}{point['setting']:>8g}{point['bpp']:>9.4f}{quality:>8}{point['ms_ssim']:>9.4f}"
                f"{point['encode_seconds']:>8.2f}{point['decode_seconds']:>8.2f}"
            )
    if result["bd_rates"] or result.get("published_bd_rates"):
        lower, upper = MIDDLE_RATES
        lines += [
            "",
            "BD-rate in per cent (negative: refcodec needs fewer bytes)",
            f"{'refcodec against':<36}{'all':>10}{f'{lower}..{upper} bpp':>16}{'reverse':>10}"
            f"{f'{lower}..{upper} bpp':>16}",
        ]
        lines += [_bd_line(name, rates) for name, rates in result["bd_rates"].items()]
        lines += [
            _bd_line(f"{name} (published)", rates) for name, rates in result.get("published_bd_rates", {}).items()
        ]
    return "\n".join(lines)


def _bd_line(name: str, rates: dict[str, float | None]) -> str:
    line = f"{name:<36}"
    for key, width in (
        ("anchor_to_codec", 10),
        ("anchor_to_codec_middle", 16),
        ("codec_to_anchor", 10),
        ("codec_to_anchor_middle", 16),
    ):
        value = rates[key]
        line += f"{'-' if value is None else f'{value:+.1f}':>{width}}"
    return line


class _Measure(NamedTuple):
    """Measure of a plot: the label of its axis, and the function from a value to the drawn one."""

    label: str
    scale: Callable[[float], float]


_MEASURES = {
    "psnr": _Measure("RGB PSNR [dB]", lambda psnr: psnr),
    "ms_ssim": _Measure("RGB MS-SSIM [dB]", lambda share: -10 * math.log10(max(1e-9, 1 - share))),
}


def plot(result: dict[str, Any], extension: str = ".png", measure: str = "psnr") -> bytes:
    """Draw the curves over bits per pixel; published ones dashed. The same points give the same SVG.

    Parameters
    ----------
    result : dict
        Of the function `measure`.
    extension : str
        Of a file of the wanted format.
    measure : "psnr" or "ms_ssim"
        MS-SSIM is drawn in dB, -10 log10(1 - MS-SSIM); published curves have none.

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    Unsupported
        Matplotlib is not installed, or it does not draw this format.
    """
    try:
        from matplotlib import colormaps, rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unsupported("plots need Matplotlib", cause='install "refcodec[plot]"') from error
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=[colormaps["tab20"](i) for i in (*range(0, 20, 2), *range(1, 20, 2))])
    drawn = _MEASURES[measure]
    for curves, style, remark in ((result["curves"], "-", ""), (result.get("published", {}), "--", " (published)")):
        for name, points in curves.items():
            shown = sorted(
                (point["bpp"], drawn.scale(point[measure]))
                for point in points
                if point["psnr"] is not None and measure in point and point["bpp"] <= MAX_DRAWN_RATE
            )
            if not shown:
                continue
            axes.plot(
                *zip(*shown, strict=True),
                style,
                marker=".",
                linewidth=2.5 if name == OWN else 1,
                label=name + remark,
            )
    axes.set(
        xlabel="bits per pixel",
        ylabel=drawn.label,
        xlim=(0, MAX_DRAWN_RATE),
        title=f"{len(result['pictures'])} pictures of {result['folder']}",
    )
    axes.grid(alpha=0.3)
    if axes.lines:
        figure.legend(loc="outside right upper", fontsize=8)
    file = io.BytesIO()
    same_bytes: dict[str, Any] = {"metadata": {"Date": None}} if extension == ".svg" else {}
    try:
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": OWN}):
            figure.savefig(file, format=extension.removeprefix("."), dpi=150, **same_bytes)
    except ValueError as error:
        raise Unsupported("no format of plots has this extension", extension=extension) from error
    return file.getvalue()


def read_published(path: str) -> dict[str, list[dict[str, float]]]:
    """Read published points: ``{"codecs": {name: {"points": [{"bpp": ..., "psnr": ...}, ...]}}}``.

    Raises
    ------
    MissingInput, TransferError
        As `refcodec.io.files.read_bytes`.
    UsageError
        The file has another form.
    """
    try:
        codecs = json.loads(read_bytes(path))["codecs"]
        return {
            str(name): [{"bpp": float(point["bpp"]), "psnr": float(point["psnr"])} for point in codec["points"]]
            for name, codec in codecs.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError("not a file of published points", where=str(path), detail=detail_of(error)) from error


# ---------------------------------------------------------------------------------------------------------- command


def _qualities(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``refcodec rd``."""
    parser.add_argument("folder", metavar="FOLDER", help="folder of pictures")
    parser.add_argument(
        "--qualities",
        type=_qualities,
        default=DEFAULT_QUALITIES,
        metavar="Q,Q,...",
        help=f"refcodec's qualities, 1..100 (default: {','.join(map(str, DEFAULT_QUALITIES))})",
    )
    parser.add_argument("--model", metavar="M", help="name or path of the model")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of refcodec")
    parser.add_argument(
        "--refine", type=positive, metavar="N", help="measure refcodec with N steps of refinement, too (PyTorch)"
    )
    parser.add_argument("--no-others", action="store_true", help="measure refcodec alone")
    parser.add_argument("--anchors", metavar="F.json", help="published points to compare with and draw")
    add_json(parser)
    add_save_json(parser, "every point, versions and machine")
    parser.add_argument("--plot", metavar="F.png", help="draw the curves (needs Matplotlib)")
    parser.add_argument(
        "--html",
        type=file_name,
        metavar="F.html",
        help="write a page: curves, tables, crops at equal bytes (Matplotlib)",
    )
    parser.add_argument(
        "--crops", type=positive, default=6, metavar="N", help="pictures of which the page has crops, 6 by default"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the outputs")
    add_limits(parser)


def run(
    args: argparse.Namespace, encode: EncodeFunction, decode: DecodeFunction, refined: EncodeFunction | None = None
) -> int:
    """Run the command: measure, print the table, write JSON, plot and page.

    Parameters
    ----------
    args : Namespace
        From a parser with `add_arguments`.
    encode, decode : callable
        As for `measure`; the caller has chosen model and threads.
    refined : callable or None
        The encoder with refinement, which is measured if that is asked for.

    Returns
    -------
    int
        0, the exit code.

    Raises
    ------
    RefcodecError
        Any error of the run.
    """
    for target in (args.save_json, args.plot, args.html):
        if target:
            check_target(target, args.force)
    published = read_published(args.anchors) if args.anchors else {}
    if args.plot or args.html:  # refuse before the long run
        plot({"curves": {}, "pictures": [], "folder": ""}, _plot_extension(args.plot or ""))
    found = measure(
        args.folder,
        encode,
        decode,
        qualities=args.qualities,
        others=not args.no_others,
        refined=(f"{OWN} --refine {args.refine}", refined) if args.refine and refined else None,
        limits=limits_of(args),
        progress=note,
    )
    if published:
        found["published"] = published
        found["published_bd_rates"] = bd_rates({OWN: found["curves"][OWN], **published})
    if args.json:
        result_json(found)
    else:
        for line in table(found).splitlines():
            result(line)
    if args.save_json:
        write_bytes(args.save_json, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode(), args.force)
    if args.plot:
        write_bytes(args.plot, plot(found, _plot_extension(args.plot)), args.force)
    if args.html:
        from .rate_distortion_page import page

        codecs = [codec for codec in OTHERS if codec.name in found["codecs"]]
        write_bytes(args.html, page(args, found, codecs, encode, decode, note), args.force)
    return 0


def _plot_extension(path: str) -> str:
    return os.path.splitext(path)[1].lower() or ".png"
