"""Fuzzing of what the runner reads: outputs of decoders, traces and answers, damaged by structure.

    python -m conformance fuzz-outputs --cases 100000 --seed 1

Every damaged file is read as the picture, trace, values or answer that it should be. It must be accepted or refused as
each reader says; another exception, more than a second, or more memory than the file explains is a finding. A finding
is printed with its seed and kind, which make it again (``--case SEED --kind KIND``).
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import struct
import tempfile
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...kit.strict_json import read_json
from ...kit.suites import KIT
from ...kit.vectors import Accept
from ...locate.traces import TraceError, read_npy, read_trace
from ...run import outcomes, trace_check, units
from ...run.pictures import OutputWrong, difference, read_picture
from ...run.process import Ended

EXPECT = Accept(5, 4, 3, "")
SLOW = 1.0
"""Seconds of processor time for one case."""

MEMORY = 16 << 20
"""Bytes that reading may take at its peak: the corpus has small files."""

_SAMPLES = bytes((9 + 7 * n) % 256 for n in range(EXPECT.count))
_PICTURE = np.frombuffer(_SAMPLES, np.uint8).reshape(EXPECT.height, EXPECT.width, EXPECT.channels)
_CASES: list[dict[str, Any]] = [
    {"id": "a", "input": {}, "expect": [1, [2, 3], {"b": -4}]},
    {"id": "c", "input": {}, "expect": {"error": "CoderError"}},
]


def _saved(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    return _saved(lambda file: np.save(file, array))


def _png(**options: object) -> bytes:
    return _saved(lambda file: Image.fromarray(_PICTURE).save(file, "PNG", **options))


_TRACE = (KIT / "suites" / "core" / "traces" / "configuration-single-7-colour.jsonl").read_bytes()

CORPUS: dict[str, list[bytes]] = {
    "pnm": [
        b"P6\n# a comment\n5 4\n255\n" + _SAMPLES,
        b"P5 5 4 255\n" + _SAMPLES[:20],
        b"P7\n# a comment\nWIDTH 5\nHEIGHT 4\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + _SAMPLES,
        b"P7\nWIDTH 5\nHEIGHT 3\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + _SAMPLES,
    ],
    "png": [_png(), _png(compress_level=0), _png(icc_profile=bytes(40), dpi=(72, 72))],
    "npy": [
        _npy(_PICTURE),
        _npy(np.asfortranarray(_PICTURE)),
        b"\x93NUMPY\x02\0"
        + struct.pack("<I", 70)
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 5, 3), }".ljust(70)
        + _SAMPLES,
    ],
    "raw": [_SAMPLES],
    "values": [_npy(_PICTURE.astype(kind)) for kind in ("<i2", ">i4", "<i8", "|u1")],
    "trace": [_TRACE, re.sub(rb'"index": \d+, ', b"", _TRACE), _TRACE.replace(b'"name": "', b'"name": "tiles/0/')],
    "answer": [json.dumps({case["id"]: case["expect"] for case in _CASES}).encode()],
    "printed": [b'{"error": "CoderError"}\n', b"Traceback\nModelError: x\n"],
}
"""Right files by what they are; "printed" is standard output and standard error."""

_WORDS = [
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"4294967296",
    b"9" * 30,
    b"9" * 5000,
    b"[" * 2000,
    b'{"a":' * 800,
    b"(" * 900,
    b"\\ud800",
    b"\\u0000",
    b"\xff\xfe",
    b"\0",
    b"\n" * 3000,
    b"'",
    b'"',
    b"{",
    b"}",
    b"None",
    b"True",
    b"lambda: 0",
    b"'shape': (4, 5, 3), ",
    b"'descr': '|O', ",
    b"# \n",
    b"P7",
    b"P7\n",
    b"ENDHDR\n",
    b"WIDTH 5\n",
    b"TUPLTYPE GRAYSCALE_ALPHA\n",
    b"tiles/0/",
    b"\x93NUMPY\x01\0",
    b"IEND",
    b"\x1b[2J",
]
_CHUNKS = [
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"iCCP",
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"eXIf",
    b"pHYs",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"CgBI",
    b"XXXX",
]


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_parts(data: bytes) -> list[tuple[bytes, bytes]]:
    at, parts = 8, []
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def _damage_bytes(data: bytes, rng: random.Random) -> bytes:
    out, at = bytearray(data), rng.randrange(len(data) + 1)
    how = rng.randrange(6)
    if how == 0 and at < len(out):
        out[at] = rng.randrange(256)
    elif how == 1:
        del out[at : at + rng.choice((1, 2, 4, 50, 10**6))]
    elif how == 2:
        out[at:at] = rng.choice(_WORDS)
    elif how == 3:
        out[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 255, 2**31 - 1, 2**31, 2**32 - 1)))
    elif how == 4:
        out += out[at:]
    else:
        word = rng.choice(_WORDS)
        out[at : at + len(word)] = word
    return bytes(out)


def _damage_png(data: bytes, rng: random.Random) -> bytes:
    """Damage inside chunks, with checksums repaired; chunks added, removed, doubled, in another order."""
    parts = _png_parts(data)
    n, how = rng.randrange(len(parts)), rng.randrange(5)
    kind, body = parts[n]
    if how == 0:
        parts[n] = kind, _damage_bytes(body, rng)
    elif how == 1:
        parts.insert(n, (rng.choice(_CHUNKS), rng.randbytes(rng.choice((0, 1, 4, 13, 26, 300)))))
    elif how == 2:
        parts.insert(
            n,
            (
                rng.choice((b"zTXt", b"iCCP", b"iTXt")),
                b"a\0\0" + zlib.compress(bytes(rng.choice((10, 10**5, 3 * 10**6)))),
            ),
        )
    elif how == 3:
        rng.shuffle(parts)
    elif kind == b"IDAT":
        parts[n] = kind, zlib.compress(_damage_bytes(zlib.decompress(body), rng))
    else:
        parts[n] = rng.choice(_CHUNKS), body
    return data[:8] + b"".join(chunk(*part) for part in parts)


def _damage_header(data: bytes, rng: random.Random) -> bytes:
    """Damage in the header of a NPY file, with its length repaired."""
    first = 10 if data[6] == 1 else 12
    size = int.from_bytes(data[8:first], "little")
    text = _damage_bytes(data[first : first + size], rng)[:65535]
    return data[:8] + len(text).to_bytes(first - 8, "little") + text + data[first + size :]


def damaged(kind: str, rng: random.Random) -> bytes:
    """A damaged file of a kind of `CORPUS`; equal for equal states of the generator."""
    data = rng.choice(CORPUS[kind])
    for _ in range(rng.choice((1, 1, 2, 4))):
        try:
            if kind == "png" and rng.random() < 0.8:
                data = _damage_png(data, rng)
            elif kind in ("npy", "values") and rng.random() < 0.7:
                data = _damage_header(data, rng)
            else:
                data = _damage_bytes(data, rng)
        except (ValueError, IndexError, struct.error, zlib.error, OverflowError):  # the last damage left no structure
            data = _damage_bytes(data, rng)
    return data


def _read(kind: str, data: bytes, folder: Path) -> str:
    """Read a file as the runner does: "accepted", "refused"; other exceptions leave."""
    path = folder / "file"
    path.write_bytes(data)
    if kind == "printed":
        seen = outcomes.observe(Ended(65, stdout=data, stderr=data))
        assert seen.detail.isprintable()
        return "accepted" if seen.error else "refused"
    if kind == "answer":
        results, trouble = units.read_answer(path, units.longest_answer(_CASES))
        trouble = trouble or units.compare(_CASES, results)
        return "refused" if trouble else "accepted"
    try:
        if kind == "trace":
            reference = folder / "reference"
            reference.write_bytes(_TRACE)
            trace = read_trace(path, folder)
            trace_check.check(reference, path)
            for stage in trace.stages:
                trace.values(stage)
        elif kind == "values":
            read_npy(path)
        else:
            got = read_picture(path, kind, EXPECT)
            difference(_SAMPLES, got, EXPECT)
    except (OutputWrong, TraceError):
        return "refused"
    return "accepted"


@dataclass
class Found:
    """Result of a run.

    Attributes
    ----------
    outcomes : Counter of str
        Cases by kind and outcome.
    wrong : list of str
        Findings, with what makes them again.
    slowest : float
        Seconds of processor time.
    largest : int
        Bytes taken at the peak of a case, by Python's own allocations.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0


def try_case(seed: int, kind: str, folder: Path, found: Found) -> None:
    """Read one damaged file and count the outcome.

    Parameters
    ----------
    seed : int
    kind : str
        Kind of file.
    folder : Path
        For the file.
    found : Found
        Receives the outcome.
    """
    data = damaged(kind, random.Random(f"{kind} {seed}"))
    tracemalloc.reset_peak()
    before, clock = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        what = _read(kind, data, folder)
    except Exception as error:
        what = "another exception"
        found.wrong.append(f"--case {seed} --kind {kind}: {type(error).__name__}: {str(error)[:100]!r}")
    took, peak = time.process_time() - clock, tracemalloc.get_traced_memory()[1] - before
    if took > SLOW or peak > MEMORY:
        found.wrong.append(f"--case {seed} --kind {kind}: {took:.1f} s, {peak >> 20} MiB for {len(data)} bytes")
    found.outcomes[f"{kind}, {what}"] += 1
    found.slowest, found.largest = max(found.slowest, took), max(found.largest, peak)


def fuzz(cases: int, seed: int, kinds: Sequence[str] = tuple(CORPUS)) -> Found:
    """Read damaged files, all kinds in turn.

    Parameters
    ----------
    cases : int
        Number of files.
    seed : int
    kinds : sequence of str

    Returns
    -------
    Found
    """
    found = Found()
    tracemalloc.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            read_json(b"{}")
            for n in range(cases):
                try_case(seed * 10**9 + n, kinds[n % len(kinds)], Path(folder), found)
    finally:
        tracemalloc.stop()
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m conformance fuzz-outputs``."""
    parser.add_argument("--cases", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--kind", choices=CORPUS, help="one kind only")
    parser.add_argument("--case", type=int, metavar="SEED", help="one case of --kind; an exception is shown")


def main(args: argparse.Namespace) -> int:
    """Run the cases; returns 1 if anything was found."""
    if args.case is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(_read(args.kind, damaged(args.kind, random.Random(f"{args.kind} {args.case}")), Path(folder)))
        return 0
    clock = time.process_time()
    found = fuzz(args.cases, args.seed, [args.kind] if args.kind else tuple(CORPUS))
    for line in (*found.wrong[:100], *(f"{count:8}  {name}" for name, count in sorted(found.outcomes.items()))):
        print(line)
    print(
        f"{args.cases} cases, {len(found.wrong)} findings, {time.process_time() - clock:.0f} s of processor time; "
        f"slowest {found.slowest:.2f} s, most memory {found.largest / 2**20:.1f} MiB"
    )
    return 1 if found.wrong else 0
