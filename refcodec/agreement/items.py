"""Named results and their SHA-256: one vector for every operation, one coded picture for each model.

Machines, backends and numbers of threads that compute what SPEC.md defines give the same hashes;
``python -m refcodec.agreement.items`` prints them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arith.backend import default_backend
from ..codec import decode_stream, encode_picture
from ..errors import missing_package
from ..machine import system, version
from ..model.integer_model import Model
from ..model.procedural import draws, procedural_model
from ..model.registry import DEFAULT, load_model
from ..threads import thread_count
from ..trace import little_endian
from .operations import VECTORS, Part, Way


def digest(parts: Iterable[Part]) -> str:
    """SHA-256 of arrays (type, shape, little-endian values) and byte strings, in hexadecimal."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype.name}{list(part.shape)}".encode())
            total.update(little_endian(part).tobytes())
        else:
            total.update(f"bytes{len(part)}".encode())
            total.update(part)
    return total.hexdigest()


def _scene(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Ramps that wrap, edges and noise, [height, width, 3] or [height, width] uint8."""
    y, x = np.mgrid[:height, :width]
    ramps = [(5 + 2 * c) * x + (7 - 3 * c) * y + 90 * ((x + y) // 50) & 255 for c in range(channels)]
    noise = draws(0, "scene", height * width * channels, 0, 32).reshape(height, width, channels)
    samples = (np.stack(ramps, axis=2) * 7 // 8 + noise).astype(np.uint8)  # at most 223 + 31
    return samples if channels == 3 else samples[:, :, 0]


STREAMS: dict[str, tuple[Callable[[], Model], tuple[int, int, int], int]] = {
    "default": (lambda: load_model(DEFAULT), (48, 60, 3), 60),
    "tiny": (lambda: procedural_model("tiny", 7), (70, 90, 1), 100),
}
"""Model, picture size and quality by name."""

STREAM_PARTS = ("model", "stream", "reconstruction", "stages", "decoded")


def _stream(name: str, way: Way) -> dict[str, str]:
    """The items of one coded picture: stages are every named result of the encoder, which runs the decoder's walk."""
    make, size, quality = STREAMS[name]
    model = make()
    stages = hashlib.sha256()

    def trace(stage: str, values: np.ndarray) -> None:
        stages.update(f"{stage} {digest([values])}\n".encode())

    common: dict[str, Any] = {"model": model, "backend": way.backend, "threads": way.threads}
    coded = encode_picture(_scene(*size), quality, trace=trace, **common)
    decoded, _ = decode_stream(coded.data, **common)
    values = (
        digest([model.fingerprint]),
        digest([coded.data]),
        digest([coded.reconstruction]),
        stages.hexdigest(),
        digest([decoded]),
    )
    return {f"{name} {part}": value for part, value in zip(STREAM_PARTS, values, strict=True)}


NAMES = (*VECTORS, *(f"{name} {part}" for name in STREAMS for part in STREAM_PARTS))
"""Every item, in order."""


def compute(
    backend: str | None = None, threads: int | None = None, wanted: Collection[str] | None = None
) -> dict[str, str]:
    """Compute the items.

    Parameters
    ----------
    backend : "numba", "numpy" or None for ``REFCODEC_BACKEND``
    threads : int or None for all cores
    wanted : collection of names or None for all

    Returns
    -------
    dict of str to str
        SHA-256 in hexadecimal by name, in the order of ``NAMES``; "error: ..." where an item raised.

    Raises
    ------
    UsageError
        The backend or the number of threads.
    """
    way = Way(backend or default_backend(), thread_count(threads))
    found: dict[str, str] = {}
    for name, item in VECTORS.items():
        if wanted is None or name in wanted:
            try:
                found[name] = digest(item(way))
            except Exception as e:  # any failure of a broken machine is that item's result
                found[name] = _failure(e)
    for name in STREAMS:
        names = [f"{name} {part}" for part in STREAM_PARTS]
        if wanted is None or not set(wanted).isdisjoint(names):
            try:
                found |= _stream(name, way)
            except Exception as e:
                found |= dict.fromkeys(names, _failure(e))
    return {name: value for name, value in found.items() if wanted is None or name in wanted}


def _failure(e: Exception) -> str:
    if missing := missing_package(e):  # says nothing about this machine's arithmetic
        raise missing from e
    return f"error: {type(e).__name__}: {e}"


# ------------------------------------------------------------------------------------------------------------ facts

_PRODUCT = re.compile(
    r"^\s+(?:\{vex\}\s+)?(v?pmaddwd|vpdpwssds?|v?pmulld|[su]mlal2?|[su]mull2?|mla)\b"
    r"[^\n]*?([xyz]mm|v\d+\.\w+)",
    re.MULTILINE,
)


def products(assembly: str) -> Counter[str]:
    """Count the vector multiplications in assembly: "vpdpwssd zmm", "smlal 4s" and the like."""
    return Counter(f"{name} {re.sub(r'v[0-9]+[.]', '', register)}" for name, register in _PRODUCT.findall(assembly))


def multiplication() -> str:
    """The instruction by which this process's convolution multiplies; "cached" where it was not compiled here."""
    from ..arith.jit.native import loader as library

    assembly = library.library("codec").assembly("conv.rows")
    if assembly is None:  # of a kernel from the cache there is no assembly
        return "cached"
    counts = products(assembly)
    return counts.most_common(1)[0][0] if counts else "unknown"


def facts(backend: str) -> dict[str, str]:
    """The computing environment: versions, machine, processor as the compiler sees it, instruction."""
    packages = {name: version(name) for name in ("numpy", "numba", "llvmlite")}
    known = {**system(), **{name: text for name, text in packages.items() if text}}
    if backend == "numba":
        from llvmlite import binding

        cpu = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
        known |= {"cpu": cpu, "instruction": multiplication()}
    return known


def main(argv: list[str] | None = None) -> int:
    """Print every item's hash, or one JSON object with ``--json``."""
    parser = argparse.ArgumentParser(prog="python -m refcodec.agreement.items", description=main.__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object: facts and hashes")
    parser.add_argument("--backend", choices=("numba", "numpy"))
    parser.add_argument("--threads", type=int, metavar="N")
    args = parser.parse_args(argv)
    backend = args.backend or default_backend()
    found = compute(backend, args.threads)
    if args.json:
        print(json.dumps({"facts": facts(backend), "hashes": found}))
    else:
        for name, value in found.items():
            print(value, name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
