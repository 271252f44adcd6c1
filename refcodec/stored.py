"""Samples that a stream stores without loss (SPEC 8.10, 8.11), as the codec uses them.

A decoder combines them with the colours that the networks compute: rectangles and alpha. A picture that is stored
as a whole needs neither networks nor a model. An encoder splits alpha off, and gives the networks something cheap where
their colours are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .bitstream.container import ALPHA, LOSSLESS, Header, Stream
from .lossless.choose import LEAST_GAIN, SAVED, choose_rectangles, graphics, stored_bits
from .lossless.fill import filled, filled_where
from .lossless.rectangles import BLOCK, Rectangle, Rectangles, pack_rectangles
from .lossless.samples import SamplesReader, encode_samples, strip_rows
from .planes import SampleRows
from .refinement import error_weight
from .tiles import Region

SHARED = 0.2
"""Share of their estimated bits that graphics take at least when they are stored together: text repeats its letters and
colours from block to block. Measured: 0.19 to 0.75, 1 for photographs. What is chosen by it is packed, which gives the
true share."""

MOSTLY = 0.5
"""Share of blocks that look like graphics from which on the whole picture is a candidate."""

STRIPS_HELD = 16
"""Times a strip of stored samples is held at most while it is read. Measured: 2 to 5.3, and 12.3 where a strip is a row
of 2^20 pixels, whose neighbours are found by indices of eight bytes."""


STORING_HELD = 32
"""Times a strip is held at most while samples are coded without loss: keys, sorted copies, five filters. Measured: 8 to
28 without the payload."""

FILLING_HELD = 32
"""Times a strip of 64 rows is held while it is filled, compared and looked at, as floats and 64-bit integers."""


def storing_memory(height: int, width: int, channels: int) -> int:
    """Bytes that storing samples losslessly takes at most: strips, and the payload as parts, whole and in a stream.

    Parameters
    ----------
    height, width, channels : int
        Of the samples, uint8.

    Returns
    -------
    int
        Bytes.
    """
    return STORING_HELD * min(height, strip_rows(width, channels)) * width * channels + 3 * height * width * channels


def filling_memory(source: SampleRows) -> int:
    """Bytes that the encoder takes to fill pixels and to choose what is stored."""
    return FILLING_HELD * min(BLOCK, source.height) * source.width * source.channels


class Colours:
    """The colour samples of a picture that may have alpha, as `SampleRows`."""

    def __init__(self, source: SampleRows) -> None:
        self.height, self.width = source.height, source.width
        self.channels = source.channels - 1 + source.channels % 2  # 1 of 1 and 2, 3 of 3 and 4
        self._source = source

    def rows(self, first: int, count: int) -> np.ndarray:
        """As `SampleRows.rows`."""
        return self._source.rows(first, count)[:, :, : self.channels]


class Replaced:
    """A picture some of whose samples are replaced, as `SampleRows`."""

    def __init__(self, colours: SampleRows, rectangles: Sequence[Rectangle]) -> None:
        self.height, self.width, self.channels = colours.height, colours.width, colours.channels
        self._rows = filled(colours.rows, rectangles, self.height, self.width)

    def rows(self, first: int, count: int) -> np.ndarray:
        """As `SampleRows.rows`."""
        return self._rows(first, count)


class Visible:
    """A picture whose transparent pixels have colours that code cheaply, as `SampleRows`."""

    def __init__(self, source: SampleRows) -> None:
        colours = Colours(source)
        self.height, self.width, self.channels = colours.height, colours.width, colours.channels
        self._rows = filled_where(
            colours.rows, lambda first, count: source.rows(first, count)[:, :, -1] == 0, self.height, self.width
        )

    def rows(self, first: int, count: int) -> np.ndarray:
        """As `SampleRows.rows`."""
        return self._rows(first, count)


class Plain:
    """A picture whose transparent pixels have colours that are cheap to store, as `SampleRows`.

    They repeat the pixel to their left; where there is none, the first visible one of their row, or black.
    """

    def __init__(self, source: SampleRows) -> None:
        colours = Colours(source)
        self.height, self.width, self.channels = colours.height, colours.width, colours.channels
        self._source = source

    def rows(self, first: int, count: int) -> np.ndarray:
        """As `SampleRows.rows`."""
        strip = self._source.rows(first, count)
        colours, seen = strip[:, :, : self.channels], strip[:, :, -1] > 0
        places = np.where(seen, np.arange(self.width), -1)
        np.maximum.accumulate(places, axis=1, out=places)
        places = np.where(places < 0, seen.argmax(axis=1)[:, np.newaxis], places)
        shown = np.take_along_axis(colours, places[:, :, np.newaxis], axis=1)
        shown[~seen.any(axis=1)] = 0
        return shown


def storable(source: SampleRows) -> SampleRows:
    """The colours of a picture as they are cheap to store without loss."""
    return Plain(source) if source.channels in (2, 4) else source


def code_alpha(source: SampleRows) -> bytes:
    """(SPEC 8.10) The payload of ALPH: the last channel."""

    def alpha(first: int, count: int) -> np.ndarray:
        return source.rows(first, count)[:, :, -1:]

    return encode_samples(alpha, source.height, source.width, 1)


SCANNED, WRITTEN = 0.1, 0.7
"""Shares of the work when the colours of a picture are known, and when it is stored; then what is stored is read."""


def code_whole(colours: SampleRows, progress: Callable[[float], None] | None = None) -> bytes:
    """(SPEC 8.11) The payload of LOSS that stores a whole picture; ``progress`` is given shares up to ``WRITTEN``."""
    done = 0

    def rows(first: int, count: int) -> np.ndarray:
        nonlocal done
        found = colours.rows(first, count)
        if progress:
            done += found.shape[0]
            scanned, written = min(1.0, done / colours.height), min(1.0, max(0.0, done / colours.height - 1))
            progress(SCANNED * scanned + (WRITTEN - SCANNED) * written)
        return found

    return encode_samples(rows, colours.height, colours.width, colours.channels)


def may_gain(colours: SampleRows) -> bool:
    """Whether a part of a picture looks as if storing it costs less; no for photographs, and that is found quickly."""
    return bool(graphics(colours.rows, colours.height, colours.width).any())


class Choice(NamedTuple):
    """Losslessly stored parts: rectangles, their payload of LOSS, and whether that is the whole picture."""

    rectangles: tuple[Rectangle, ...] = ()
    payload: bytes = b""
    whole: bool = False


def chosen(colours: SampleRows, bits: np.ndarray, errors: np.ndarray, step: int) -> Choice:
    """Choose the parts that cost less stored than coded, by bits and lambda times squared error.

    Graphics that are stored together share colours and repetitions, which an estimate of each block does not know. So
    choices are packed, and the cheapest one is taken: rectangles by optimistic estimates, rectangles by estimates that
    are scaled to the size of those, the whole picture, or nothing.

    Parameters
    ----------
    colours : SampleRows
        The samples that may be stored.
    bits, errors : np.ndarray [ceil(H / 64), ceil(W / 64)], float64
        Bits and squared error of every block of 64x64 samples, as coded.
    step : int
        Quality, 1..100.

    Returns
    -------
    Choice
        Empty if nothing costs less stored.
    """
    weight = error_weight(step)
    height, width, source = colours.height, colours.width, colours.rows
    coded, total = SAVED * bits + weight * errors, float((bits + weight * errors).sum())
    estimates, shared = stored_bits(source, height, width, coded), graphics(source, height, width)
    best, least, scale = Choice(), (1 - LEAST_GAIN) * total, SHARED
    tried: list[list[Rectangle]] = []
    for _ in range(2):
        found = choose_rectangles(np.where(shared, scale * estimates, estimates), coded, height, width)
        if not found or found in tried:
            break
        tried.append(found)
        payload, inside = (
            pack_rectangles(found, source, width, height, colours.channels),
            np.zeros(bits.shape, np.bool_),
        )
        for y, x, w, h in found:
            inside[y // 64 : -(-(y + h) // 64), x // 64 : -(-(x + w) // 64)] = True
        if (cost := 8 * len(payload) + total - float(coded[inside].sum())) < least:
            best, least = Choice(tuple(found), payload), cost
        alone = float(estimates[inside & ~shared].sum())
        scale = min(1, max(SHARED, (8 * len(payload) - alone) / max(1, float(estimates[inside & shared].sum()))))
    if shared.mean() >= MOSTLY and 8 * len(whole := code_whole(colours)) <= least:
        return Choice((Rectangle(0, 0, width, height),), whole, True)
    return best


class BlockErrors:
    """Adds up the squared error of every block of 64x64 samples, strip by strip.

    Parameters
    ----------
    original : SampleRows
        The colours that are meant. If it has alpha, transparent pixels have no error.
    """

    def __init__(self, original: SampleRows) -> None:
        self._original, self._colours = original, Colours(original).channels
        self.errors = np.zeros((-(-original.height // 64), -(-original.width // 64)))

    def add(self, first: int, rows: np.ndarray) -> None:
        """Count a strip of the reconstruction, [n, W, C] or [n, W] uint8."""
        original = self._original.rows(first, rows.shape[0])
        wanted = original[:, :, : self._colours].astype(np.int32)
        error = np.square(wanted - rows.reshape(wanted.shape)).sum(axis=2)
        if self._original.channels != self._colours:
            error[original[:, :, -1] == 0] = 0
        across = np.add.reduceat(error, np.arange(0, error.shape[1], 64), axis=1)
        np.add.at(self.errors, np.arange(first, first + rows.shape[0]) // 64, across)


class Overlay:
    """Puts stored rectangles over decoded colours, and adds alpha, strip by strip from the top down.

    Parameters
    ----------
    stream : Stream
    region : Region
        The part of the picture that the strips are of.

    Attributes
    ----------
    pixels : int
        Stored pixels that are read for the region: those above and at its sides, too.

    memory : int
        Bytes that reading takes at most, without the samples that are given.

    Raises
    ------
    ChunkError
        By every method: a payload is damaged.
    """

    def __init__(self, stream: Stream, region: Region) -> None:
        header, payloads = stream.header, dict(stream.chunks)
        self._region = region
        self.pixels = 0
        self.memory = _strips_memory(header, header.channels) if LOSSLESS in payloads else 0
        self._rectangles: Rectangles | None = None
        if LOSSLESS in payloads and not header.lossless:
            at = stream.payload_start(LOSSLESS)
            self._rectangles = Rectangles(payloads[LOSSLESS], header.width, header.height, header.channels, at)
            self.pixels += self._rectangles.pixels(*region)
        self._alpha: SamplesReader | None = None
        if ALPHA in payloads:
            self._alpha = SamplesReader(payloads[ALPHA], header.height, header.width, 1, stream.payload_start(ALPHA))
            self._each = strip_rows(header.width, 1)
            self._next = 0  # the row that is read next
            self.pixels += header.width * (region.y + region.height)
            self.memory += _strips_memory(header, 1)

    def finished(self, first: int, rows: np.ndarray) -> np.ndarray:
        """The samples of a strip, [n, w], or [n, w, C] with 2 to 4 channels; ``rows`` may be changed."""
        if self._rectangles:
            self._rectangles.apply(rows, self._region.y + first, self._region.x)
        if self._alpha is None:
            return rows
        colours = rows.reshape(*rows.shape[:2], -1)
        samples = np.empty((*colours.shape[:2], colours.shape[2] + 1), np.uint8)
        samples[:, :, :-1] = colours
        skip(self._alpha, self._region.y + first - self._next, self._each)
        self._next = self._region.y + first + rows.shape[0]
        done, columns = 0, slice(self._region.x, self._region.x + self._region.width)
        for alpha in _read(self._alpha, rows.shape[0], self._each):
            samples[done : done + alpha.shape[0], :, -1:] = alpha[:, columns]
            done += alpha.shape[0]
        return samples


def _strips_memory(header: Header, channels: int) -> int:
    """Bytes for strips while they are read: inflated, unfiltered by diagonals of int16, with their colours."""
    return STRIPS_HELD * min(header.height, strip_rows(header.width, channels)) * header.width * channels


def _read(reader: SamplesReader, count: int, each: int) -> Iterator[np.ndarray]:
    while count:
        rows = reader.read(min(count, each))
        count -= rows.shape[0]
        yield rows


def skip(reader: SamplesReader, count: int, each: int) -> None:
    """Read rows and drop them.

    Parameters
    ----------
    reader : SamplesReader
    count : int
        Rows to skip.
    each : int
        Largest number of rows that is read at once.

    Raises
    ------
    ChunkError
        The payload is damaged.
    """
    for _ in _read(reader, count, each):
        pass


def whole_strips(stream: Stream, region: Region) -> Iterator[tuple[int, np.ndarray]]:
    """(SPEC 8.11) Strips of a region of a picture that is stored as a whole: first row, samples [n, w, 3] or [n, w]."""
    header = stream.header
    payload = stream.chunk(LOSSLESS)
    assert payload is not None  # parse refuses a lossless stream without it, and the encoder writes none
    at = stream.payload_start(LOSSLESS)
    reader = SamplesReader(payload, header.height, header.width, header.channels, at)
    each = strip_rows(header.width, header.channels)
    skip(reader, region.y, each)
    first = 0
    for rows in _read(reader, region.height, each):
        rows = rows[:, region.x : region.x + region.width]
        yield first, np.ascontiguousarray(rows if header.channels > 1 else rows[:, :, 0])
        first += rows.shape[0]


__all__ = [
    "WRITTEN",
    "BlockErrors",
    "Choice",
    "Colours",
    "Overlay",
    "Plain",
    "Replaced",
    "Visible",
    "chosen",
    "code_alpha",
    "code_whole",
    "filling_memory",
    "may_gain",
    "storable",
    "storing_memory",
    "whole_strips",
]
