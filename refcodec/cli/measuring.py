"""The commands that measure or check; commands.py says what all commands share."""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import asdict
from typing import Any

import numpy as np

from ..arith.backend import prepare
from ..codec import decode_stream, encode_picture
from ..io.console import note, result, result_json
from ..io.options import limits_of
from ..model.registry import load_model


def rate_distortion(args: Namespace) -> int:
    """``rd FOLDER``."""
    from ..measure import rate_distortion as rd

    model = load_model(args.model)
    prepare(args.threads, note)
    common: dict[str, Any] = {"model": model, "threads": args.threads, "limits": limits_of(args)}
    return rd.run(
        args,
        lambda samples, quality: encode_picture(samples, quality, **common).data,
        lambda data: decode_stream(data, **common)[0],
        lambda samples, quality: encode_picture(samples, quality, refine=args.refine, **common).data,
    )


def tile_cost(args: Namespace) -> int:
    """``tiles FOLDER``."""
    from ..measure import tile_cost as cost

    model = load_model(args.model)
    prepare(args.threads, note)
    common: dict[str, Any] = {"model": model, "threads": args.threads, "limits": limits_of(args), "rectangles": False}
    return cost.run(args, lambda samples, quality, tile: encode_picture(samples, quality, tile=tile, **common))


def agreement(args: Namespace) -> int:
    """``matrix FOLDER``."""
    from ..agreement import pictures as matrix

    prepare(None, note)
    return matrix.main(args)


def selftest(args: Namespace) -> int:
    """``selftest``."""
    from ..agreement import selftest as self_test

    prepare(None, note)
    report = self_test.run()
    if not args.json:
        for difference in report.differences:
            result(difference.line())
    self_test.check(report, whole=args.json)
    if args.json:
        result_json(asdict(report))
    else:
        result(
            f"this machine computes the right bits: {report.items} of {report.items} items, backend "
            f"{report.backend}, {report.threads} threads, {report.seconds:.1f} s"
        )
    return 0


def doctor(args: Namespace) -> int:
    """``doctor``."""
    from .doctor import doctor as examine

    return examine(args)


def machines(args: Namespace) -> int:
    """``machines``."""
    from ..agreement.machines import main

    return main(args)


def batch(args: Namespace) -> int:
    """``batch IN... -o OUT``."""
    from .batch import main

    return main(args)


def bench(args: Namespace) -> int:
    """``bench``."""
    from ..bench.command import main

    return main(args)


def warmup(args: Namespace) -> int:
    """``warmup``: compile and cache every kernel, by loading them and coding a small picture."""
    prepare(None, note)
    start = time.perf_counter()
    samples = np.zeros((8, 8, 3), np.uint8)
    decode_stream(encode_picture(samples, 1, rectangles=False).data, verify=True)
    note(f"ready; a picture of 8x8 was coded and decoded in {time.perf_counter() - start:.2f} s")
    return 0
