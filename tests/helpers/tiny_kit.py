"""A kit in a temporary folder, its codec, and decoders that behave and misbehave: tests of the runner need no refcodec.

The codec: a stream is JSON with width, height, channels and a first value; sample n is (value + 7 n) % 256. Streams
that are no such JSON are invalid, "ChecksumError" if they say so. Pictures of 2 and 4 channels have alpha.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
"""The folder of the packages."""

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
"""Variables for a process that runs in another folder."""

DECODER = r"""
import json, os, signal, sys, time

behaviour, stream, output = sys.argv[1:4]
data, header = open(stream, "rb").read(), {}


def refuse(name, code=65):
    print(json.dumps({"error": name}))
    sys.exit(code)


try:
    header = json.loads(data)
    width, height, channels, value = (header[n] for n in ("width", "height", "channels", "value"))
except ValueError:
    if behaviour == "accepts-all":
        width, height, channels, value = 1, 1, 1, 0
    elif behaviour == "wrong-class":
        refuse("BadMagic")
    elif behaviour == "class-on-stderr":
        sys.exit("ValueError: ChecksumError at byte 4")
    elif behaviour == "no-class":
        sys.exit(65)
    elif behaviour == "refuses-and-writes":
        open(output, "wb").write(b"P5 1 1 255\n0")
        refuse("ChecksumError")
    elif behaviour == "crashes-on-invalid":
        os.abort()
    else:
        refuse("ChecksumError")

samples = bytearray((value + 7 * n) % 256 for n in range(width * height * channels))
picture = b"P%d %d %d 255\n" % (5 if channels == 1 else 6, width, height)
if channels in (2, 4):
    kind = b"GRAYSCALE_ALPHA" if channels == 2 else b"RGB_ALPHA"
    head = b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH %d\nMAXVAL 255\nTUPLTYPE %s\nENDHDR\n"
    picture = head % (width, height, channels, kind)

if behaviour == "exits-early":
    sys.exit(0)
if behaviour == "prints-success":
    print("decoded", output), sys.exit(0)
if behaviour == "refuses-all":
    refuse("CoderError")
if behaviour == "limit":
    refuse("LimitExceeded", 77)
if behaviour == "unsupported":
    sys.exit(69)
if behaviour == "aborts":
    os.abort()
if behaviour == "segfault":
    os.kill(os.getpid(), signal.SIGSEGV)
if behaviour == "traceback":
    raise IndexError("list index out of range")
if behaviour == "internal":
    sys.stderr.write("internal error while raising ChecksumError\n"), sys.exit(70)
if behaviour == "hangs":
    time.sleep(600)
if behaviour == "ignores-term":
    signal.signal(signal.SIGTERM, signal.SIG_IGN), time.sleep(600)
if behaviour == "busy":
    while True:
        pass
if behaviour == "memory":
    hoard = []
    while True:
        hoard.append(b"x" * (8 << 20))
if behaviour == "memory-of-children":
    for _ in range(4):
        if not os.fork():
            hoard = b"x" * (60 << 20)
            time.sleep(600)
    time.sleep(600)
if behaviour == "child-writes-later":
    if not os.fork():
        time.sleep(1.5)
        open(header["witness"], "wb").write(b"late")
        os._exit(0)
if behaviour == "floods":
    while True:
        os.write(1, b"x" * (1 << 20))
if behaviour == "another-picture":
    samples[5] ^= 4
if behaviour == "black":
    samples = bytearray(len(samples))
if behaviour == "shifted":
    samples = samples[1:] + samples[:1]
if behaviour == "truncated":
    samples = samples[:-1]
if behaviour == "extra":
    samples += b"\0"
if behaviour == "two-pictures":
    samples += picture + samples
if behaviour == "grey":
    samples, picture = samples[::3], b"P5 %d %d 255\n" % (width, height)
if behaviour == "transposed":
    picture = b"P6 %d %d 255\n" % (height, width)
if behaviour == "sixteen-bits":
    picture = b"P6 %d %d 65535\n" % (width, height)
if behaviour == "link":
    os.symlink("/dev/zero", output), sys.exit(0)
if behaviour == "link-to-picture":
    open(output + ".file", "wb").write(picture + samples), os.symlink(output + ".file", output), sys.exit(0)
if behaviour == "folder":
    os.mkdir(output), sys.exit(0)
if behaviour == "pipe":
    os.mkfifo(output), sys.exit(0)
if behaviour == "empty":
    samples = picture = b""
if behaviour == "huge":
    picture = picture + bytes(4 << 20)
if behaviour == "damages-stream":
    open(stream, "wb").write(b"")
time.sleep(header.get("wait", 0))
if "--trace" in sys.argv:
    open(sys.argv[sys.argv.index("--trace") + 1], "w").write(header.get("trace", ""))
if behaviour == "late-crash":
    open(output, "wb").write(picture + samples), os.abort()
open(output, "wb").write(picture + samples)
"""
"""The program; its first argument is how it behaves, "good" or a lie."""


def samples(width: int, height: int, channels: int, value: int) -> bytes:
    """Decoded samples of a stream."""
    return bytes((value + 7 * n) % 256 for n in range(width * height * channels))


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def valid(
    name: str, width: int, height: int, channels: int, value: int, model: str | None = "toy", **more: Any
) -> tuple[dict[str, Any], bytes]:
    """A vector that is accepted, and its stream; without a model, as a picture that is stored without loss."""
    stream = json.dumps({"width": width, "height": height, "channels": channels, "value": value, **more}).encode()
    expect = {
        "outcome": "accept",
        "width": width,
        "height": height,
        "channels": channels,
        "samples": sha256(samples(width, height, channels, value)),
    }
    return _vector(name, stream, model, expect), stream


def invalid(name: str, error: str = "ChecksumError", **more: Any) -> tuple[dict[str, Any], bytes]:
    """A vector that is refused, and its stream."""
    stream = f"not JSON, {name}".encode()
    return _vector(name, stream, None, {"outcome": "reject", "class": error, "phase": "container", **more}), stream


def _vector(name: str, stream: bytes, model: str | None, expect: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": name,
        "stream": f"streams/{name.split('/')[1]}.bin",
        "sha256": sha256(stream),
        "model": model,
        "expect": expect,
        "clauses": ["5.3-2"],
        "suggests": "that the toy is broken",
        "origin": "by hand",
        "licence": "Apache-2.0",
    }


MODEL = b"a model"


def toy_model() -> dict[str, Any]:
    """The manifest's entry for the model."""
    return {"fingerprint": "0" * 32, "file": "../../models/toy.h5", "sha256": sha256(MODEL)}


def write_suite(kit: Path, name: str, vectors: list[tuple[dict[str, Any], bytes]], /, **more: Any) -> Path:
    """Write a suite; returns its manifest."""
    folder = kit / "suites" / name
    (folder / "streams").mkdir(parents=True)
    (kit / "models").mkdir(exist_ok=True)
    (kit / "models" / "toy.h5").write_bytes(MODEL)
    for vector, stream in vectors:
        (folder / vector["stream"]).write_bytes(stream)
    manifest = {
        "format": 2,
        "suite": name,
        "version": 1,
        "description": "A toy.",
        "licence": "Apache-2.0",
        "models": {"toy": toy_model()},
        "files": {},
        "vectors": [v for v, _ in vectors],
    } | more
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder / "manifest.json"


def tiny_kit(folder: Path) -> Path:
    """Two suites with three valid and two invalid streams."""
    write_suite(
        folder,
        "core",
        [valid("core/colour", 5, 4, 3, 9), valid("core/grey", 3, 2, 1, 200), valid("core/dot", 1, 1, 3, 0)],
    )
    write_suite(
        folder, "invalid", [invalid("invalid/crc"), invalid("invalid/two", "HeaderError", also=["ChecksumError"])]
    )
    return folder


def command(folder: Path, behaviour: str) -> str:
    """The template of a decoder that behaves so."""
    program = folder / "decoder.py"
    if not program.exists():
        program.write_text(DECODER)
    return f"{shlex.quote(sys.executable)} -S -E {shlex.quote(str(program))} {behaviour} {{stream}} {{output}}"


def run_words(kit: Path | str, decoder: str, *more: str | Path) -> list[str]:
    """The command line of a run in a separate process, with `ENVIRONMENT`."""
    words = ["-m", "conformance", "run", "--kit", kit, "--decoder", decoder, *more]
    return [sys.executable, *map(str, words)]


# Callables for the runner's worker processes.


def good(stream: bytes, model: str | None) -> np.ndarray:
    """Decode as the program does."""
    try:
        header = json.loads(stream)
    except ValueError as error:
        raise ValueError("ChecksumError") from error
    width, height, channels = header["width"], header["height"], header["channels"]
    array = np.frombuffer(samples(width, height, channels, header["value"]), np.uint8)
    return array.reshape((height, width) if channels == 1 else (height, width, channels))


class ChecksumError(Exception):
    """Named as SPEC names it."""


class CrcMismatch(ChecksumError):
    """Known by its base."""
