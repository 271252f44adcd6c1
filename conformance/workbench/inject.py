"""Run one part of the reference decoder on exact inputs, so that parts are ported and tested in any order.

    python -m conformance inject PART --stream S [--model M] --inputs DIR --out FILE.npy
    python -m conformance inject PART --model M --inputs DIR --out FILE.npy [--quality N]

PART is an operation of the layer table (SPEC 6.1) or all below a name: g_s, g_s/1/igdn, h_s, local/2, lrp_anchor/0;
ctx/0#n, the n-th making of a context copy, 0 to 3; coder/z and coder/y, symbols from the bytes of a segment; walk,
y_hat from h_s/4 and the symbols of y; samples, the output from the planes of g_s, before what is stored without loss
replaces parts of it. Of a tiled stream the parts of coder and walk are those of tile k, as tiles/k/local/2, and read
the tile's part of h_s/4.

With a stream the reference decodes it, DIR gets what the part reads and FILE what it gives. Without one the
reference computes the part from the NPY files in DIR, which may hold any numbers within the ranges of their tensors.

    DIR/part.json   the part, its operations in order with their inputs, the picture, the quality, and of every
                    input and the result name, file, shape, type and SHA-256 (as in a trace)
    DIR/NAME.npy    integers [rows, columns, channels], one file per input, slashes of the name as dots: h_s/4 is
                    h_s.4.npy. Halves of the checkerboard are packed along columns (SPEC 6.3)

Inputs of the special parts: coder/*: segment uint8 [bytes], tables int32 [symbols], the table number of every symbol in
coding order; walk: h_s/4, and y_symbols int32 [slices, 2, rows, columns / 2, channels of a slice], anchors first;
samples: g_s/7. Exit codes: 0, 2 usage, and those of refcodec for a bad stream or model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.io.files import check_target, read_bytes, write_bytes
from refcodec.model.integer_model import Model
from refcodec.model.registry import load_model
from refcodec.trace import npy_bytes

from ..kit.errors import UsageError
from ..kit.reading import read_plain
from ..kit.strict_json import Fields, read_json
from ..kit.suites import KIT
from ..kit.text import say
from ..locate.stages import in_tile, own_name
from ..locate.traces import digest, read_npy
from ..run.bisect import chosen_vector
from ..run.models import absence, locate
from .stage_recorder import Recorded, record
from .stage_runner import Part, part_of, run_part

PART_FILE = "part.json"


def file_of(name: str) -> str:
    """File of an input: slashes as dots."""
    return name.replace("/", ".") + ".npy"


def _facts(name: str, file: str, values: np.ndarray) -> dict[str, Any]:
    return {
        "name": name,
        "file": file,
        "shape": list(values.shape),
        "dtype": values.dtype.name,
        "sha256": digest(values),
    }


def part_facts(found: Recorded, out: str) -> dict[str, Any]:
    """The content of ``part.json``."""
    part, header = found.part, found.header
    name = f"{part.name}#{part.turn}" if part.name.startswith("ctx/") else part.name
    return {
        "part": in_tile(found.tile, name),
        "model": found.model.fingerprint.hex(),
        "quality": header.quality,
        "width": header.width,
        "height": header.height,
        "channels": header.channels,
        "operations": [{"name": op.name, "kind": op.kind, "inputs": list(op.inputs), "add": op.add} for op in part.ops],
        "inputs": [_facts(name, file_of(name), found.values[name]) for name in part.inputs],
        "result": _facts(part.ops[-1].name if part.ops else part.name, out, found.result),
    }


def save(found: Recorded, folder: Path, out: Path, force: bool) -> None:
    """Write a part's inputs and its result.

    Parameters
    ----------
    found : Recorded
    folder : Path
        For the inputs; made if it does not exist.
    out : Path
        For the result.
    force : bool
        Replace existing files.

    Raises
    ------
    UsageError
        The folder cannot be made.
    OutputError, TransferError
        A file exists, or cannot be written.
    """
    files = {folder / file_of(name): npy_bytes(found.values[name]) for name in found.part.inputs}
    facts = json.dumps(part_facts(found, out.name), indent=1) + "\n"
    files |= {folder / PART_FILE: facts.encode(), out: npy_bytes(found.result)}
    if not folder.is_dir():
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UsageError(f"{folder}: the folder cannot be made: {error.strerror}") from None
    for path in files:
        check_target(path, force)
    for path, data in files.items():
        write_bytes(path, data, force)


def load_inputs(part: Part, folder: Path) -> dict[str, np.ndarray]:
    """The inputs of a part from a folder.

    Raises
    ------
    TraceError
        A file is missing or no NPY file of integers.
    """
    return {name: read_npy(folder / file_of(name)) for name in part.inputs}


def _settings(folder: Path, quality: int | None) -> tuple[int, tuple[int, int, int] | None]:
    """Quality, and height, width and channels of the picture, if ``part.json`` has them."""
    path = folder / PART_FILE
    if not path.is_file():
        return 1 if quality is None else quality, None
    try:
        value = read_json(read_plain(path, 1 << 20))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not JSON as it should be: {str(error)[:120]}") from None
    fields = Fields(value, str(path), UsageError)
    step = fields.number("quality", 1, 100)
    crop = fields.number("height", 1, 1 << 20), fields.number("width", 1, 1 << 20), fields.number("channels", 1, 3)
    return step if quality is None else quality, crop


def compute(model: Model, name: str, folder: Path, quality: int | None = None) -> np.ndarray:
    """The reference's result of a part for the inputs in a folder.

    Parameters
    ----------
    model : Model
    name : str
        Of the part.
    folder : Path
        NPY files of the inputs, and perhaps ``part.json``.
    quality : int or None
        None for that of ``part.json``.

    Returns
    -------
    np.ndarray
        As the trace has it.

    Raises
    ------
    UsageError, TraceError
        The part, a file or its numbers.
    """
    part = part_of(model, own_name(name))
    step, crop = _settings(folder, quality)
    if not 1 <= step <= model.config.steps:
        raise UsageError(f"--quality {step}: the model has the steps 1..{model.config.steps}")
    return run_part(model, part, load_inputs(part, folder), step - 1, crop)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("part", metavar="PART")
    parser.add_argument("--stream", type=Path, metavar="S", help="a valid stream; its decoding gives inputs and result")
    parser.add_argument("--vector", metavar="ID", help="a vector of the suites, in place of a stream")
    parser.add_argument("--kit", type=Path, default=KIT, metavar="DIR", help="folder of suites/, for --vector")
    parser.add_argument("--model", type=Path, metavar="M", help="name or path; with a stream found if not given")
    parser.add_argument("--inputs", type=Path, metavar="DIR", required=True, help="folder of the inputs")
    parser.add_argument("--out", type=Path, metavar="FILE", required=True, help="the result as NPY")
    parser.add_argument("--quality", type=int, metavar="N", help="quality for your own inputs")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    UsageError, TraceError, RefcodecError
    """
    if args.stream and args.vector:
        raise UsageError("give either --stream or --vector")
    data, path = read_bytes(args.stream) if args.stream else None, args.model
    if args.vector:
        vector = chosen_vector(args.vector, args.kit)
        data = vector.read()
        if vector.model and path is None and (path := locate(vector.model)) is None:
            raise UsageError(absence(vector.model))
    model = load_model(path) if path or data is None else None
    if data is None:
        result = compute(model or load_model(None), args.part, args.inputs, args.quality)
        write_bytes(args.out, npy_bytes(result), args.force)
        say(f"{args.out}: {args.part} of {args.inputs}, {result.dtype}{list(result.shape)}")
        return 0
    found = record(model, data, args.part)
    save(found, args.inputs, args.out, args.force)
    for name in found.part.inputs:
        say(f"{args.inputs / file_of(name)}: {found.values[name].dtype}{list(found.values[name].shape)}")
    say(f"{args.out}: {args.part}, {found.result.dtype}{list(found.result.shape)}")
    return 0
