"""Compare a decoder with the reference on random valid streams, and make every failure small.

    python -m conformance differential --decoder CMD [--model-arg ARGS] --seed 1 --count 100 --keep DIR
    python -m conformance differential --decoder CMD [--model-arg ARGS] --stream S --model M --keep DIR

The streams are functions of model, seed and number alone: any size up to --side, grey and colour, every quality, with
symbols near zero, at the ends of their tables, beyond them and extreme; with and without tiles, alpha and rectangles in
every coding, and pictures that are stored without loss. Bytes of zlib streams depend on the version of zlib. The second
form takes one stream at hand.

A stream on which the decoder does not give the reference's samples is shrunk while it fails in the same way (shrink.py;
procedural models lose slices, too) and kept as a vector with its trace. DIR is a separate kit, so that it is tried
again by ``run --kit DIR``, and ``bisect --kit DIR --vector ID`` finds the stage.
Exit codes: 0 no difference, 1 differences, 2 usage.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np

from refcodec.bitstream.container import ALPHA, LOSSLESS, Header, reconstruction_digest, serialise
from refcodec.bitstream.container import parse as parse_stream
from refcodec.bitstream.fields import FINGERPRINT_BYTES
from refcodec.codec import decode_stream
from refcodec.io.files import read_bytes
from refcodec.model.integer_model import Model
from refcodec.model.procedural import draws
from refcodec.tiles import UNIT, Tile

from ..kit.errors import FAILED, PASSED, UsageError
from ..kit.text import say
from ..locate.stages import tile_of
from ..run.decoders import Spec, parse
from ..run.engine import Options, Result, Trial
from ..run.files import scratch
from ..run.outcomes import FAILURES
from ..run.pictures import FORMATS
from ..run.process import Limits
from ..run.run import positive, seconds
from ..synthetic.writer import STYLES, ChooseY, ChooseZ, chosen_stream, header_of, random_stream
from .fuzz.stored import rectangle_list, samples_payload
from .keep import Family, family_of, keep, pinned
from .shrink import Draft, shrink
from .stage_recorder import read_symbols

STORED: tuple[tuple[str, ...], ...] = ((), (), (), (ALPHA,), (LOSSLESS,), (LOSSLESS, ALPHA))
"""Lossless parts of random streams, by their chunks."""

WHOLE = 10
"""One of so many random streams is a picture without loss."""


@dataclass(frozen=True)
class Recipe:
    """Description of a random stream, apart from its model.

    Attributes
    ----------
    seed, width, height, channels, quality, style
        Arguments of `random_stream`.
    tile : (int, int)
        Width and height of the tiles in units of 64 samples; 0 and 0 for none.
    stored : tuple of str
        Chunks ALPH and LOSS that it has.
    lossless : bool
        The whole picture is stored without loss.
    """

    seed: int
    width: int
    height: int
    channels: int
    quality: int
    style: str
    tile: tuple[int, int] = (0, 0)
    stored: tuple[str, ...] = ()
    lossless: bool = False

    @property
    def text(self) -> str:
        """For the origin of a vector."""
        coded = f"quality {self.quality}, style {self.style}, tile {self.tile[0]}x{self.tile[1]}"
        return (
            f"random_stream seed {self.seed}, {self.width}x{self.height}, {self.channels} channels, "
            f"{'without loss' if self.lossless else coded}{''.join(f', {tag}' for tag in self.stored)}"
        )

    def stream(self, model: Model, digest: bool = True) -> bytes:
        """(SPEC 8.6) The stream, a function of the recipe and the model."""
        chunks = tuple((tag, self._payload(tag)) for tag in self.stored)
        if self.lossless:
            return lossless_stream(self.width, self.height, self.channels, digest, chunks)
        made = (self.seed, self.width, self.height, self.channels, self.quality, self.style)
        return random_stream(model, *made, digest, chunks, self.tile)

    def _payload(self, tag: str) -> bytes:
        random, size = Random(f"{self.seed}/{tag}"), (self.height, self.width)
        if tag == ALPHA:
            return samples_payload(random, *size, 1, 0)
        return (samples_payload if self.lossless else rectangle_list)(random, *size, self.channels, 0)


def lossless_stream(
    width: int, height: int, channels: int, digest: bool, chunks: tuple[tuple[str, bytes], ...]
) -> bytes:
    """(SPEC 8.11) The stream of a losslessly stored picture.

    Parameters
    ----------
    width, height, channels : int
        Of the picture.
    digest : bool
        The header has the digest of the samples.
    chunks : tuple of (str, bytes)
        With LOSS.

    Returns
    -------
    bytes
    """
    header = Header(width, height, channels, 0, bytes(FINGERPRINT_BYTES), lossless=True)
    plain = serialise(header, (), chunks)
    if not digest:
        return plain
    return serialise(replace(header, digest=reconstruction_digest(decode_stream(plain)[0])), (), chunks)


def recipe(seed: int, number: int, side: int, steps: int) -> Recipe:
    """(SPEC B.3) Choose a stream, by seed and number only.

    Parameters
    ----------
    seed, number : int
    side : int
        Largest side of the picture, in samples.
    steps : int
        Qualities of the model.

    Returns
    -------
    Recipe
    """
    choices = np.array([1 << 31, side, side, 2, steps, len(STYLES), 3, 3, 3, len(STORED), WHOLE])
    own, width, height, colour, quality, style, *more = draws(seed, f"differential/{number}", 11, 0, choices).tolist()
    tiled, across, down, stored, whole = more
    made = Recipe(own, 1 + width, 1 + height, 3 if colour else 1, 1 + quality, list(STYLES)[style])
    if whole == 0:
        return replace(made, quality=0, stored=(LOSSLESS, ALPHA) if stored % 2 else (LOSSLESS,), lossless=True)
    return replace(made, tile=(1 + across, 1 + down) if tiled == 0 else (0, 0), stored=STORED[stored])


def random_streams(family: Family, seed: int, count: int, side: int) -> Iterator[tuple[str, bytes]]:
    """Random valid streams, each with its origin.

    Parameters
    ----------
    family : Family
        Of models.
    seed : int
    count : int
        Number of streams.
    side : int
        Largest side of the pictures, in samples.

    Yields
    ------
    (str, bytes)
        Origin and stream.
    """
    model = family.model(family.slices)
    for number in range(count):
        made = recipe(seed, number, side, model.config.steps)
        yield made.text, made.stream(model)


class Comparison:
    """A decoder that is compared with the reference.

    Parameters
    ----------
    spec : Spec
    options : Options
    family : Family
        The model, and what there is of it with fewer slices.
    folder : Path
        Temporary.
    """

    def __init__(self, spec: Spec, options: Options, family: Family, folder: Path) -> None:
        self._family, self._folder = family, folder
        self._trial = Trial(spec, options, folder, threading.Event())

    def close(self) -> None:
        """End the decoder."""
        self._trial.close()

    def __call__(self, data: bytes, slices: int | None = None) -> Result:
        """The decoder's result for a valid stream; raises RefcodecError if the stream is none."""
        slices = slices or self._family.slices
        samples, _ = decode_stream(data, model=self._family.model(slices), threads=1)
        path = self._folder / "compared.loclic"
        path.write_bytes(data)
        return self._trial.try_vector(pinned(data, samples, path, self._family.entry(slices, self._folder)))

    def shrunk(self, data: bytes, outcome: str, trials: int) -> Draft:
        """Find the simplest stream on which the decoder has an outcome.

        Parameters
        ----------
        data : bytes
            A stream with this outcome.
        outcome : str
        trials : int
            Most streams that are tried.

        Returns
        -------
        Draft
        """

        def fails(draft: Draft) -> bool:
            return self(written(draft, self._family), draft.slices).outcome == outcome

        return shrink(draft_of(data, self._family), fails, self._family.procedural, trials)


def draft_of(data: bytes, family: Family) -> Draft:
    """A stream taken apart into what `written` makes it of; raises RefcodecError if it is not valid."""
    stream, model = parse_stream(data), family.model(family.slices)
    header, config = stream.header, model.config
    grid = header.grid
    rows, columns = (0, 0) if header.lossless else (grid.height, grid.width)
    z = np.zeros((rows // 4, columns // 4, config.hyper), np.int32)
    y = np.zeros((config.slices, 2, rows, columns // 2, config.ch), np.int32)
    for tile, symbols in zip(map(grid.tile, range(header.tiles)), read_symbols(model, data), strict=True):
        _of_z(z, tile)[...], _of_y(y, tile)[...] = symbols
    return Draft(
        family.slices,
        header.width,
        header.height,
        header.channels,
        header.quality,
        z,
        y,
        header.digest is not None,
        stream.chunks,
        (header.tile_width // UNIT, header.tile_height // UNIT),
    )


def _of_z(z: np.ndarray, tile: Tile) -> np.ndarray:
    """A tile's part of the symbols of z."""
    return z[tile.top // 4 : (tile.top + tile.height) // 4, tile.left // 4 : (tile.left + tile.width) // 4]


def _of_y(y: np.ndarray, tile: Tile) -> np.ndarray:
    """A tile's part of the symbols of y, whose halves are packed along columns."""
    columns = slice(tile.left // 2, (tile.left + tile.width) // 2)
    return y[:, :, tile.top : tile.top + tile.height, columns]


def written(draft: Draft, family: Family) -> bytes:
    """The stream of a draft."""
    if draft.lossless:
        return lossless_stream(draft.width, draft.height, draft.channels, draft.digest, draft.chunks)
    model = family.model(draft.slices)
    header = header_of(model, draft.width, draft.height, draft.channels, draft.quality, draft.tile)

    def choose(prefix: str) -> tuple[ChooseZ, ChooseY]:
        tile = header.grid.tile(tile_of(prefix) or 0)
        z, y = _of_z(draft.z, tile), _of_y(draft.y, tile)
        return (lambda medians, shape: z), (lambda i, parity, levels, means: y[i, 1 - parity])

    return chosen_stream(model, header, choose, draft.digest, draft.chunks)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--decoder", required=True, metavar="CMD", help="as of run: template or python:module:function")
    parser.add_argument("--model-arg", default="", metavar="ARGS", help='added to the command: "--model {model}"')
    parser.add_argument("--output-format", choices=FORMATS, default="pnm", help="of {output}, default pnm")
    parser.add_argument("--model", default="tiny-7", metavar="M", help="name in the suites or path, default tiny-7")
    parser.add_argument("--stream", type=Path, metavar="S", help="this stream instead of random ones")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the streams, default 0")
    parser.add_argument("--count", type=positive, default=20, metavar="K", help="streams, default 20")
    parser.add_argument("--side", type=positive, default=130, metavar="N", help="longest side, default 130")
    parser.add_argument("--failures", type=positive, default=1, metavar="N", help="stop after so many, default 1")
    parser.add_argument("--trials", type=positive, default=2000, metavar="N", help="steps of shrinking, default 2000")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder that gets the vectors of failures")
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="seconds each may take, default 60")
    parser.add_argument("--memory", type=positive, default=4096, metavar="MIB", help="memory of each, default 4096")


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    UsageError, RefcodecError, OutputFailed
    """
    if not 0 <= args.seed < 1 << 64:
        raise UsageError(f"--seed {args.seed}: allowed are 0..2^64 - 1")
    spec = parse(args.decoder, args.model_arg)
    family = family_of(args.model)
    options = Options(args.output_format, Limits(args.timeout, args.memory << 20))
    if args.stream:
        streams = iter([(str(args.stream), read_bytes(args.stream))])
    else:
        streams = random_streams(family, args.seed, args.count, args.side)
    with scratch() as folder:
        compare = Comparison(spec, options, family, folder)
        try:
            tried, failed = _run(compare, streams, args, family)
        finally:
            compare.close()
    say(f"{tried} streams compared, {failed} failed")
    return FAILED if failed else PASSED


def _run(
    compare: Comparison, streams: Iterator[tuple[str, bytes]], args: argparse.Namespace, family: Family
) -> tuple[int, int]:
    tried = failed = 0
    for origin, data in streams:
        tried += 1
        found = compare(data)
        if found.outcome not in FAILURES:
            continue
        failed += 1
        say(f"stream {tried}: {found.outcome}: {found.detail}")
        say(f"  made by: {origin}")
        small = compare.shrunk(data, found.outcome, args.trials)
        say(f"  shrunk to: {small.describe()}")
        if args.keep:
            say(f"  kept as: {keep(args.keep, written(small, family), family, small.slices, origin)}")
        if failed == args.failures:
            break
    return tried, failed
