"""Do all ways of computing agree? Every picture of a folder through both backends and several thread counts.

The first row of the table is what the others are held to: the stream of the Numba encoder on one thread and that
encoder's reconstruction. A cell counts the streams or pictures that equal it bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..codec import decode_stream, encode_picture
from ..errors import CheckFailed
from ..io.console import note, result, result_json
from ..io.files import list_pictures, write_bytes
from ..io.options import add_json, add_limits, add_save_json, limits_of
from ..io.pictures import read_picture
from ..limits import Limits
from ..model.integer_model import Model
from ..model.registry import load_model

Way = tuple[str, int]
"""Backend and number of threads."""

WAYS: tuple[Way, ...] = (("numba", 1), ("numba", 2), ("numpy", 1))


def agreement(
    model: Model,
    path: Path,
    quality: int,
    ways: Sequence[Way] = WAYS,
    decode_only: bool = False,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Code one picture in every way.

    Parameters
    ----------
    model : Model
    path : Path
        The picture.
    quality : int
        1..100.
    ways : sequence of Way
        Backend and number of threads of each.
    decode_only : bool
        The first way encodes, and all decode.
    limits : Limits or None
        None for the defaults.

    Returns
    -------
    dict
        ``stream`` and ``samples``: SHA-256 of the first way's stream and reconstruction; ``encoded`` and ``decoded``:
        whether each way's equal them, for the ways that encode and for all.
    """
    limits = limits or Limits()
    samples = read_picture(path, limits).samples
    encoders = ways[:1] if decode_only else ways
    streams = [encode_picture(samples, quality, model=model, backend=b, threads=t, limits=limits) for b, t in encoders]
    first = streams[0]
    pictures = [decode_stream(first.data, model=model, backend=b, threads=t, limits=limits)[0] for b, t in ways]
    encoded = [coded.data == first.data for coded in streams]
    decoded = [picture.tobytes() == first.reconstruction.tobytes() for picture in pictures]
    return {
        "picture": path.name,
        "quality": quality,
        "stream": hashlib.sha256(first.data).hexdigest(),
        "samples": first.sha256,
        "encoded": encoded,
        "decoded": decoded,
    }


def run(
    folder: Path,
    model: Model,
    qualities: Sequence[int],
    progress: Callable[[str], None],
    ways: Sequence[Way] = WAYS,
    decode_only: bool = False,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Agreement on every picture of a folder at every quality.

    Parameters
    ----------
    folder : Path
    model : Model
    qualities : sequence of int
    progress : callable
        Receives one line per picture.
    ways, decode_only, limits
        As for `agreement`.

    Returns
    -------
    dict
        ``model``: fingerprint; ``ways``: their names; ``rows``: the results of `agreement`.

    Raises
    ------
    MissingInput
        The folder holds no picture.
    """
    paths = list_pictures(folder)
    rows: list[dict[str, Any]] = []
    total = len(qualities) * len(paths)
    for quality in qualities:
        for path in paths:
            progress(f"{path.name} at quality {quality}: {len(rows) + 1} of {total}")
            rows.append(agreement(model, path, quality, ways, decode_only, limits))
    return {"model": model.fingerprint.hex(), "ways": [f"{b} {t}" for b, t in ways], "rows": rows}


def table(result: dict[str, Any]) -> str:
    """One line a way."""
    rows = result["rows"]
    lines = ["backend, threads   streams equal   pictures equal"]
    for n, way in enumerate(result["ways"]):
        streams = [r["encoded"][n] for r in rows if n < len(r["encoded"])]
        pictures = [r["decoded"][n] for r in rows]
        lines.append(f"{way:18s} {sum(streams):6d} of {len(streams):<5d} {sum(pictures):6d} of {len(pictures)}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``matrix``."""
    parser.add_argument("folder", help="folder of pictures")
    parser.add_argument("--qualities", default="1,25,50,75,100", help="comma-separated steps")
    parser.add_argument("--decode-only", action="store_true", help="encode in the first way only, decode in all")
    parser.add_argument("--model", help="model name or path")
    add_json(parser)
    add_save_json(parser, "every row, with hashes,")
    add_limits(parser)


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    CheckFailed
        Some way gave other bytes or pixels.
    """
    model = load_model(args.model)
    qualities = [int(q) for q in args.qualities.split(",")] if model.config.steps > 1 else [1]
    found = run(Path(args.folder), model, qualities, note, decode_only=args.decode_only, limits=limits_of(args))
    if args.save_json:
        write_bytes(args.save_json, json.dumps(found, indent=1).encode(), force=True)
    if not args.json:
        for line in table(found).splitlines():
            result(line)
    bad = [r for r in found["rows"] if not all(r["encoded"] + r["decoded"])]
    if bad:
        raise CheckFailed(
            "some ways of computing disagree",
            where=bad[0]["picture"],
            cause="a fault of refcodec, of Numba or of this machine: please report it",
            **(found if args.json else {"rows": len(bad)}),  # one object holds the result and the failure
        )
    if args.json:
        result_json(found)
    return 0
