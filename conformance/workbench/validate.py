"""Validate streams of any encoder: the first rule that each breaks, or what a decoder needs for it.

    python -m conformance validate STREAM ... [--model M] [--json]

Of a stream that is refused the clause is named, the byte, and below the container the tile, segment, slice, pass and
symbol. Of a valid one the level, the profiles of its model, its tiles, chunks and what is stored without loss are
named. A digest that is there is compared. `encoder` uses this command for the streams of an encoder.

Exit codes: 0 all are valid, 1 one is not, 2 usage or a model that cannot be had.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.arith.checkerboard import ANCHOR
from refcodec.bitstream.container import parse, parse_header, parse_index
from refcodec.bitstream.fields import FIELDS, HEADER_SIZE
from refcodec.bitstream.info import describe
from refcodec.codec import decode_strips, stream_model
from refcodec.entropy.ports import Reader
from refcodec.errors import (
    CheckFailed,
    InvalidStream,
    ModelError,
    RefcodecError,
    TrailingBytes,
    TruncatedStream,
    Unsupported,
)
from refcodec.flow import Parts
from refcodec.limits import Limits
from refcodec.model.integer_model import Model
from refcodec.model.registry import find_model, load_model

from ..kit.errors import FAILED, PASSED, UsageError
from ..kit.levels import picture_level
from ..kit.text import say
from ..kit.vectors import PROFILES
from ..synthetic.models.procedural import model_level, profiles

_CLAUSES = {
    "the stream ends inside its index": "8.5-8",
    "the stream ends inside its segments": "8.5-8",
    "the stream ends inside its checksum": "8.5-8",
    "the checksum does not match": "8.2-2",
    "a chunk occurs twice": "8.4-8",
    "the stream requires a chunk that this version does not know": "8.4-4",
    "the samples of a picture without loss are missing": "8.4-11",
    "the list of rectangles is cut short": "8.11-2",
    "there are too few or too many rectangles": "8.11-2",
    "samples of rectangles end too early or too late": "8.11-2",
    "a rectangle is empty or not inside the picture": "8.11-3",
    "rectangles are not in raster order": "8.11-4",
    "rectangles overlap": "8.11-5",
    "samples are cut short": "8.10-1",
    "samples have an unknown kind": "8.10-4",
    "a palette is cut short": "8.10-5",
    "a sample is not in the palette": "8.10-5",
    "a zlib stream is damaged": "8.10-6",
    "a zlib stream is cut short": "8.10-6",
    "a zlib stream ends before its samples do": "8.10-6",
    "a zlib stream inflates to more than its samples": "8.10-6",
    "bytes follow a zlib stream": "8.10-6",
    "a zlib stream is too long for its samples": "8.10-7",
    "a row has an unknown filter": "8.10-10",
    "codes have a form that is not allowed": "8.10-16",
    "codes are longer than their samples": "8.10-16",
    "a code has no meaning": "8.10-16",
    "the segment is empty where symbols are due": "7.6-1",
    "the length of a segment is impossible": "7.6-1",
    "the initial state is out of range": "7.6-2",
    "the words run out": "7.6-3",
    "words are left after the last symbol": "7.6-4",
    "the final state is wrong": "7.6-4",
    "a symbol is out of range": "7.2-6",
    "the reconstruction differs from the encoder's": "8.1-20",
    "the model is not the one the stream was coded with": "6.10-2",
    "the stream's quality is not one of the model's": "6.9-5",
}
"""Clause by message of refcodec. A test holds that every refusal of the suites is here or in the tables below."""

_PATTERNS = (
    (r"the checksum of tile \d+ does not match", "8.3-5"),
    (r"the [zy] segment of tile \d+ is longer than allowed", "8.3-2"),
    (r"there are more than \d+ chunks", "8.4-10"),
    (r"a chunk is longer than \d+ bytes", "8.4-9"),
    (r"more than \d+ rectangles share a row", "8.11-6"),
)
"""The same for messages with numbers in them."""

_FIELDS = {field.name: f"8.1-{number}" for number, field in enumerate(FIELDS, 1)}
"""Clause by field of the header: the table of SPEC 8.1 numbers its rows."""

_TOGETHER = {
    "a picture without loss has a quality or a model": ("8.1-14", 7),
    "the quality is 0": ("8.1-15", 7),
    "a picture without loss has tiles": ("8.1-16", 32),
    "a tile has a width or a height, and not the other": ("8.1-17", 32),
    "the picture has too many tiles": ("8.1-18", 32),
    "a tile has too many latent positions": ("8.1-19", 32),
}
"""Clause and byte of rules over several fields: the byte is that of the first field that can mend it."""

_PLACE = re.compile(r"(?:byte|header offset) (\d+)")
_WHOLE = re.compile(r"the ([zy]) segment of tile (\d+)")
_TAG = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")
_CHECKSUM = 4
"""Bytes of the checksum that ends a stream."""


@dataclass(frozen=True)
class Finding:
    """The first rule that a stream breaks.

    Attributes
    ----------
    error : str
        Class of SPEC 8.9, "CheckFailed" for a digest of other samples.
    clause : str
        Of SPEC.md.
    byte : int
        Offset in the stream where it was noticed.
    says : str
        One line for people.
    tile : int or None
        Of a fault in a segment.
    segment : str
        "z" or "y"; "" outside segments.
    slice : int or None
        Of the y segment.
    of_pass : str
        "anchors" or "non-anchors" of that slice; "" elsewhere.
    symbol : int or None
        Number of the symbol in the segment.
    row, column, channel : int or None
        Place of that symbol: in z, or in the latents of its slice.
    """

    error: str
    clause: str
    byte: int
    says: str
    tile: int | None = None
    segment: str = ""
    slice: int | None = None
    of_pass: str = ""
    symbol: int | None = None
    row: int | None = None
    column: int | None = None
    channel: int | None = None


@dataclass
class _Watch:
    """Where the range decoder is; the error itself says in which tile."""

    segment: str = ""
    slice: int | None = None
    parity: int = ANCHOR
    shape: tuple[int, ...] = ()
    before: int = 0
    count: int = 0

    def begin(self, segment: str, shape: tuple[int, ...], number: int | None = None, parity: int = ANCHOR) -> None:
        """The next symbols are of this segment and shape."""
        if not (number or parity != ANCHOR):  # z, or the first half of y
            self.count = 0
        self.before, self.count = self.count, self.count + int(np.prod(shape))
        self.segment, self.shape, self.slice, self.parity = segment, shape, number, parity

    def place(self, symbol: int) -> dict[str, Any]:
        """Where a symbol is, by its number in the segment; nothing if it is not one of these symbols."""
        if not self.shape or not self.before <= symbol < self.count:
            return {}
        row, column, channel = (int(n) for n in np.unravel_index(symbol - self.before, self.shape))
        if self.slice is None:
            return {"row": row, "column": column, "channel": channel}
        of_pass = "anchors" if self.parity == ANCHOR else "non-anchors"
        column = 2 * column + (row + self.parity) % 2
        return {"slice": self.slice, "of_pass": of_pass, "row": row, "column": column, "channel": channel}


def _watched(watch: _Watch) -> type[Reader]:
    """A reader that keeps a watch up to date."""

    class Watched(Reader):
        def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
            watch.begin("z", shape)
            return super().z(medians, shape)

        def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
            watch.begin("y", levels.shape, i, parity)
            return super().y(i, parity, levels, means)

    return Watched


def _clause(data: bytes, error: RefcodecError) -> tuple[str, int | None]:
    """Clause of an error, and the byte if the rule names it."""
    if error.what in _TOGETHER:
        return _TOGETHER[error.what]
    if error.what in _CLAUSES:
        return _CLAUSES[error.what], None
    if (name := error.values.get("field")) in _FIELDS:
        return _FIELDS[name], None
    if isinstance(error, TrailingBytes):
        left = data[-_CHECKSUM - error.values["bytes"] : -_CHECKSUM]
        return "8.4-12" if len(left) < 8 else "8.4-14" if _TAG.match(left) else "8.4-13", None
    if isinstance(error, TruncatedStream):  # inside the header
        return {5: "8.5-2", HEADER_SIZE: "8.5-5"}.get(error.values["needed"], "8.5-3"), None
    return next(clause for pattern, clause in _PATTERNS if re.fullmatch(pattern, error.what)), None


def _segment_fault(data: bytes, error: RefcodecError, clause: str, watch: _Watch) -> Finding:
    """A fault that the range decoder noticed, or that the length of a segment shows."""
    segment, tile = watch.segment, int(error.values.get("tile", 0))
    if whole := _WHOLE.match(error.where):
        segment, tile = whole[1], int(whole[2])
    entry = parse_index(data, parse_header(data))[tile]
    start = entry.start + (entry.z_length if segment == "y" else 0)
    inside = _PLACE.match(error.where)
    byte = start + (int(inside[1]) if inside else error.values.get("longest", 0))
    symbol = error.values.get("symbol")
    where = {} if symbol is None else watch.place(symbol)
    return Finding(type(error).__name__, clause, byte, str(error), tile, segment, symbol=symbol, **where)


def validate(data: bytes, model: Model | None = None, backend: str | None = None) -> Finding | None:
    """(SPEC 8.5, 7.6) The first rule that a stream breaks; None if it is valid.

    Parameters
    ----------
    data : bytes
    model : Model or None
        Its model; None finds an installed one by the fingerprint.
    backend : str or None

    Returns
    -------
    Finding or None

    Raises
    ------
    RefcodecError
        The model is not installed, or the memory does not suffice: both say nothing about the stream.
    """
    watch = _Watch()
    try:
        header = parse(data).header
        if model is None and not header.lossless:
            model = find_model(header.fingerprint)
    except (InvalidStream, Unsupported) as error:
        return _finding(data, error, watch)
    try:
        decode_strips(
            data,
            lambda first, rows: None,
            model=model,
            backend=backend,
            limits=Limits(max_pixels=1 << 40),
            verify=header.digest is not None,
            parts=Parts(reader=_watched(watch)),
        )
    except (InvalidStream, ModelError, CheckFailed) as error:
        return _finding(data, error, watch)
    return None


def _finding(data: bytes, error: RefcodecError, watch: _Watch) -> Finding:
    clause, byte = _clause(data, error)
    if clause.startswith("7."):
        return _segment_fault(data, error, clause, watch)
    if byte is None:
        found = _PLACE.search(error.where)
        assert found is not None  # every other message has a place
        byte = int(found[1])
    return Finding(type(error).__name__, clause, byte, str(error))


def described(finding: Finding) -> str:
    """A finding in one line."""
    parts = [f"{finding.error} at byte {finding.byte} (SPEC {finding.clause})"]
    if finding.segment:
        parts.append(f"tile {finding.tile}, segment {finding.segment}")
    if finding.slice is not None:
        parts.append(f"slice {finding.slice}, {finding.of_pass}")
    if finding.symbol is not None:
        parts.append(f"symbol {finding.symbol} of the segment")
    if finding.row is not None:
        parts.append(f"at row {finding.row}, column {finding.column}, channel {finding.channel}")
    return f"{', '.join(parts)}: {finding.says}"


@dataclass(frozen=True)
class Needs:
    """Requirements of a valid stream on a decoder.

    Attributes
    ----------
    level : str
        (SPEC 12.2) The lowest, its digit alone for a picture without loss.
    profiles : tuple of str
        (SPEC 12.1) Those that have the model's configuration; all for a picture without loss.
    """

    level: str
    profiles: tuple[str, ...]


def needs(data: bytes, model: Model | None = None) -> Needs:
    """(SPEC 12) The level and the profiles of a valid stream; parameters as of `validate`."""
    header = parse_header(data)
    level = str(picture_level(header.width, header.height))
    if header.lossless:
        return Needs(level, PROFILES)
    config = stream_model(header, model).config
    return Needs(level + model_level(config), tuple(profiles(config)))


def _facts(data: bytes) -> dict[str, Any]:
    """Summary of a valid stream."""
    facts = describe(data).as_dict()
    names = ("width", "height", "channels", "alpha", "quality", "tiles", "lossless", "rectangles", "digest")
    return {name: facts[name] for name in names}


def report(path: Path, model: Model | None = None) -> dict[str, Any]:
    """One stream as JSON: "stream", "valid", "finding" or "needs" and "facts", and "says", a line for people.

    Raises
    ------
    UsageError
        The stream cannot be read.
    RefcodecError
        As by `validate`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    finding = validate(data, model)
    if finding:
        return {"stream": str(path), "valid": False, "finding": asdict(finding), "says": described(finding)}
    wanted, facts = needs(data, model), _facts(data)
    says = f"valid; level {wanted.level}, profiles {', '.join(wanted.profiles)}; " + _in_words(facts)
    return {"stream": str(path), "valid": True, "needs": asdict(wanted), "facts": facts, "says": says}


def _in_words(facts: Mapping[str, Any]) -> str:
    kind = ("grey" if facts["channels"] == 1 else "RGB") + (" and alpha" if facts["alpha"] else "")
    parts = [f"{facts['width']}x{facts['height']} {kind}"]
    if facts["lossless"]:
        parts.append("stored without loss")
    else:
        tiles, stored = facts["tiles"], facts["rectangles"]
        parts += [f"quality {facts['quality']}", f"{tiles} tile{'s' * (tiles != 1)}"]
        parts += [f"{stored} rectangles without loss"] if stored else []
    return ", ".join([*parts, "the digest is right" if facts["digest"] else "no digest"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``validate``."""
    parser.add_argument("streams", nargs="+", type=Path, metavar="STREAM")
    parser.add_argument(
        "--model", type=Path, metavar="M", help="the model's file; found by the fingerprint if not given"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each stream")


def main(args: argparse.Namespace) -> int:
    """``validate``."""
    code, model = PASSED, load_model(args.model) if args.model else None
    for path in args.streams:
        found = report(path, model)
        say(json.dumps(found) if args.json else f"{path}: {found['says']}")
        code = code if found["valid"] else FAILED
    return code
