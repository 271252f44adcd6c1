"""``doctor``: what a bug report needs, in one piece: versions, processor, kernels, cache, models, self-test."""

from __future__ import annotations

import importlib.util
import os
import warnings
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import features

from .. import __version__
from ..agreement import selftest
from ..arith.backend import default_backend
from ..errors import RefcodecError, UsageError
from ..io.console import result, result_json
from ..limits import default_memory, mebibytes
from ..machine import machine, version
from ..model.registry import installed, load_model

PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "h5py", "pillow", "torch", "matplotlib")
FORMATS = ("jpg", "jpg_2000", "libtiff", "webp", "avif")
"""Formats that Pillow may lack."""

VARIABLES = ("REFCODEC_", "NUMBA_")
"""How variables begin that change what is computed with."""


def _kernels() -> Iterator[dict[str, Any]]:
    """Every folder where kernels may be kept, in the order of choice."""
    if not (importlib.util.find_spec("numba") and importlib.util.find_spec("llvmlite")):
        return
    from ..arith.jit.native import cache

    for folder in cache.folders():
        row: dict[str, Any] = {"folder": str(folder), "files": 0, "bytes": 0, "trouble": ""}
        try:
            row["trouble"] = cache.distrust(folder)
            sizes = [entry.stat().st_size for entry in os.scandir(folder) if entry.name.endswith(".kernels")]
            row["files"], row["bytes"] = len(sizes), sum(sizes)
        except OSError as error:
            row["trouble"] = error.strerror or "cannot be read"
        yield row


def _models() -> Iterator[dict[str, Any]]:
    for path in installed():
        try:
            model = load_model(path)
            yield {"name": path.stem, "fingerprint": model.fingerprint.hex(), "path": str(path), "trouble": ""}
        except RefcodecError as error:
            yield {"name": path.stem, "fingerprint": None, "path": str(path), "trouble": str(error)}


def examine() -> dict[str, Any]:
    """Everything, as JSON; the self-test last, for it loads kernels."""
    found: dict[str, Any] = {
        "refcodec": __version__,
        "packages": {name: version(name) for name in PACKAGES},
        "pillow_formats": {name: features.check(name) for name in FORMATS},
        "machine": machine(),
        "memory_limit": default_memory(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)},
        "place": str(Path(__file__).parents[1]),
        "warnings": [],
    }
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found["backend"] = default_backend()
            report = selftest.run()
            found["selftest"] = {**asdict(report), "right": not report.differences}
        except UsageError as error:  # a variable holds a wrong word
            found["backend"], found["selftest"] = str(error), None
    found["warnings"] = [str(warning.message) for warning in told]
    found["kernels"], found["models"] = list(_kernels()), list(_models())
    return found


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"refcodec        {found['refcodec']}, {found['place']}"
    yield "packages        " + ", ".join(f"{name} {value or '-'}" for name, value in found["packages"].items())
    missing = [name for name, present in found["pillow_formats"].items() if not present]
    yield "Pillow lacks    " + (", ".join(missing) or "nothing")
    yield "machine         " + ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    yield f"memory limit    {mebibytes(found['memory_limit'])} MiB"
    for name, value in found["variables"].items():
        yield f"variable        {name}={value}"
    yield f"backend         {found['backend']}"
    for row in found["kernels"]:
        trouble = f"; {row['trouble']}" if row["trouble"] else ""
        yield f"kernels         {row['files']} files, {row['bytes']} bytes in {row['folder']}{trouble}"
    for row in found["models"]:
        yield f"model           {row['name']} {row['fingerprint'] or row['trouble']} {row['path']}"
    for text in found["warnings"]:
        yield f"warning         {text}"
    if (test := found["selftest"]) is not None:
        wrong = [difference["name"] for difference in test["differences"]]
        right, seconds = test["items"] - len(wrong), test["seconds"]
        yield f"self-test       {right} of {test['items']} items are right, {seconds:.1f} s"
        for name in wrong:
            yield f"wrong           {name}"


def doctor(args: Namespace) -> int:
    """``doctor``: 0 if this machine computes the right bits with at least one model, else 1."""
    found = examine()
    if args.json:
        result_json(found)
    else:
        for line in _lines(found):
            result(line)
    right = found["selftest"] is not None and found["selftest"]["right"]
    return 0 if right and any(row["fingerprint"] for row in found["models"]) else 1
