"""Working memory of one picture, estimated from its size and the model's configuration alone (SPEC 8.5, 11).

No formula describes the maps: the estimate runs the networks themselves (refcodec/nets, the slice walk, the strips) on
maps that have a shape and no content, and adds up what they would hold. So borders of two positions, windows of strips,
halves of the checkerboard, blocks that lie idle in the pool, and the moments when maps die are those of the real run,
for every shape of picture. Four kinds of memory are counted:

- maps: blocks of the pool, which are up to an eighth larger than the maps in them (arith/maps.py);
- arrays outside the pool that live on: wide results, levels, means and symbols of half a slice, the encoder's
  intervals, the picture;
- scratch, which an operation takes and gives back: NumPy's temporaries, and in the NumPy backend a band of float64 for
  every thread, whose rows are as wide as the picture (`_NumpyScratch`), of which the allocator keeps a part (`KEPT`);
- segments: the copies that the decoder makes of them.

Weights are counted apart (`model_bytes`). Not counted are the interpreter with its libraries, about 100 MiB, the stream
itself, metadata, and what the caller does with the samples.

``python -m refcodec bench --estimates`` compares estimates with measured peaks for a table of shapes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import tee
from operator import mul
from types import SimpleNamespace
from typing import Any

from .arith.backend import default_backend
from .arith.engine import Engine
from .arith.maps import BORDER, IDLE, IDLE_WITH_TILES, Pool, interior
from .arith.numpy_ops import bands
from .arith.strips import Rows, strip_rows
from .model.config import Config
from .model.integer_model import Model
from .model.layer_table import Op, layer_table
from .nets.analysis import ANALYSIS_WIDEST, analysis_strips
from .nets.hyperprior import REACH as HYPER_REACH
from .nets.hyperprior import hyper_analysis, hyper_analysis_strips, hyper_synthesis_strips
from .nets.synthesis import SYNTHESIS_LAG, SYNTHESIS_WIDEST, synthesis_strips
from .side_by_side import tiles_at_once
from .slices import walk, walk_slices
from .threads import thread_count
from .tile_rows import TileRows, rows_of, y_hat_rows
from .tiles import STRIDE, Z_STRIDE, Tile, TileGrid, Window

SEGMENT_COPIES = {"numba": 4, "numpy": 13}
"""Bytes that decoding holds for a byte of the segments: the segment twice, and its words of four bytes as int64 or as a
list of Python integers (eight bytes for the pointer, an eighth more while the list grows, 32 for the number)."""

MOST_INTERVALS = 4
"""Intervals of one symbol at most, four bytes each: the escape, its sign, its length and its remainder (SPEC 7.2)."""

WRITER_SCRATCH = 100
"""Bytes for a symbol while the encoder turns half a slice into intervals: some ten arrays of 4 and 8 bytes."""

CODER_SCRATCH = {"numba": 0, "numpy": 80}
"""Bytes for a symbol in the range coder's Python lists: two pointers, and two numbers of 32 bytes."""

STRIPS = 4
"""Strips after which every later one holds what the one before it held; the estimate leaves out those between."""

BASE = 3 << 17
"""Bytes of what does not grow with the picture: plans of convolutions, tables, Python objects."""

KEPT = 6 << 20
"""Bytes of freed scratch that the C library's allocator keeps, at most, with the NumPy backend. Measured: nothing for
97x61, 3.9 MiB for 1x16384 on two threads, which is less than a third of the largest scratch; 3 MiB on eight threads."""


class _Phantom:
    """An array with a shape and no content. Views share its owner, whose end gives the memory back."""

    __slots__ = ("owner", "shape")

    def __init__(self, shape: tuple[int, ...], owner: object) -> None:
        self.shape, self.owner = shape, owner

    def __getitem__(self, key: Any) -> _Phantom:
        cuts = () if key is Ellipsis else key if isinstance(key, tuple) else (key,)
        cut = tuple(len(range(*at.indices(size))) for at, size in zip(cuts, self.shape, strict=False))
        return _Phantom(cut + self.shape[len(cuts) :], self.owner)

    def __setitem__(self, key: object, value: object) -> None:
        """Nothing is stored."""

    @property
    def size(self) -> int:
        """Number of elements."""
        total = 1
        for n in self.shape:
            total *= n
        return total


class _Block:
    """A block of the pool, which counts from its making to its end: its length in int16."""

    def __init__(self, ledger: _Ledger, length: int) -> None:
        self._ledger, self._length = ledger, length
        ledger.take(2 * length)

    def __len__(self) -> int:
        return self._length

    def __del__(self) -> None:
        self._ledger.take(-2 * self._length)


class _Held:
    """Calls a function when the last view of a phantom is gone."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    def __del__(self) -> None:
        self._end()


class _Ledger(Pool):
    """The pool's policy over blocks without memory: the largest sum that was held at once, and the largest scratch."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = self.scratch = 0

    def take(self, size: int) -> None:
        """Count bytes that stay."""
        self.held += size
        self.peak = max(self.peak, self.held)

    def use(self, size: int) -> None:
        """Count bytes that are given back at once."""
        self.scratch = max(self.scratch, size)
        self.peak = max(self.peak, self.held + size)

    def _new(self, length: int) -> Any:
        return _Block(self, length)

    def map(self, height: int, width: int, channels: int, clear: object = None) -> Any:
        shape = (height + 2 * BORDER, width + 2 * BORDER, channels)
        size = shape[0] * shape[1] * shape[2]
        block: Any = self._take(size)
        return _Phantom(shape, _Held(partial(insort, self._free, block, key=len)))

    def array(self, shape: tuple[int, ...], itemsize: int) -> Any:
        """An array outside the pool."""
        out = _Phantom(shape, None)
        self.take(itemsize * out.size)
        out.owner = _Held(partial(self.take, -itemsize * out.size))
        return out


# ---------------------------------------------------------------------------------------------------------- scratch


class _NumbaScratch:
    """The functions of arith/jit: most kernels compute in registers and on the stack."""

    def __init__(self, ledger: _Ledger) -> None:
        self._use, self._numpy = ledger.use, _NumpyScratch(ledger)

    def conv(self, *arguments: object) -> None:
        """Nothing."""

    conv_sum = gdn = igdn = layer_norm = half = clear_border = conv

    def local_attention(self, qkv: Any, layer: Any, table: object, out: Any, threads: int) -> None:
        """Pairs of queries and keys in the kernel's order. NumPy's block of 10 MB is not counted: hardly any map has
        products that are too large for the kernel.
        """
        self._use(4 * qkv.shape[0] * qkv.shape[1] * (qkv.shape[2] // 3 + layer.heads + 1))

    def linear_attention(
        self,
        queries: Any,
        keys: Any,
        values: Any,
        layer: Any,
        table: object,
        out: Any,
        keys_at: int,
        queries_at: int,
        threads: int,
    ) -> None:
        """Heads too wide for the kernel are left to NumPy."""
        if keys.shape[2] // layer.heads > 32:
            self._numpy.linear_attention(queries, keys, values, layer, table, out, keys_at, queries_at, 1)


class _NumpyScratch:
    """The functions of arith/numpy_ops: their temporaries in bytes, counted for all threads at once.

    Every function works on bands of rows, as many as the size of a row allows (numpy_ops/bands.py). A band has at least
    one row, and a row is as wide as the picture: for wide pictures that is most of what is counted here.
    """

    def __init__(self, ledger: _Ledger) -> None:
        self._use = ledger.use

    def _share(self, threads: int, height: int, size: int, row: int, band: Callable[[int], int]) -> None:
        """Count ``band(rows)`` bytes for every thread, for the rows of a band of rows of ``row`` float64 elements."""
        threads = min(threads, height) if size > 1 << 14 else 1
        rows = max(1, min(-(-height // threads), bands.BAND // row))
        self._use(threads * band(rows))

    def half(self, *arguments: object) -> None:
        """Nothing."""

    clear_border = half

    def conv(self, x: Any, layer: Any, out: Any, add: Any, parity: int, threads: int) -> None:
        """Weights in float64; a band laid out for its windows, their sums, and their results."""
        height, width = (n - 2 * BORDER for n in out.shape[:2])
        outputs, k, _, inputs = layer.shape
        if layer.depthwise:
            self._depthwise(height, width, outputs, k, threads)
            return
        stride = layer.stride
        if layer.shuffle:
            height, width = height // 2, width // 2
        if parity >= 0:
            height, stride = -(-height // 2), 2
        across = -(-outputs // 32)
        columns = across * -(-outputs // (8 * across)) * 8
        weights = k * k * inputs
        block = -(-weights // -(-weights // 576)) * (columns // across)
        windows = -(-width // k)
        parts = -(-windows // max(1, bands.ONE_THREAD // block))
        windows = parts * -(-windows // parts)
        pitch = windows * stride * k + stride * (k - 1)
        threads = min(threads, height) if height * width * columns > 1 << 14 else 1
        rows = max(
            1, min(bands.BAND // (pitch * k * inputs + windows * (k + 1) * columns), -(-height // (threads * k)))
        )
        lines, sums = 8 * rows * pitch * k * inputs, 8 * rows * windows * (k + 1) * columns
        result = (10 + 10 * (add is not None)) * rows * width * columns
        self._use(8 * weights * columns + 16 * width * columns + threads * (lines + sums + result))

    def conv_sum(self, x: Any, layer: Any, out: Any, skip: Any, total: object, threads: int) -> None:
        """As a convolution with a branch."""
        self.conv(x, layer, out, skip, -1, threads)

    def _depthwise(self, height: int, width: int, channels: int, k: int, threads: int) -> None:
        """Weights and scales of a row; int32 of a band and its neighbours, sums, products and results."""
        row = width * channels
        self._share(
            threads,
            height,
            height * row,
            2 * row,
            lambda rows: (4 * k * k + 8) * row + 26 * rows * row + 4 * (rows + k - 1) * (width + k - 1) * channels,
        )

    def _rowwise(self, x: Any, threads: int) -> None:
        """Five arrays of float64 for a band."""
        height, row = x.shape[0] - 2 * BORDER, (x.shape[1] - 2 * BORDER) * x.shape[2]
        self._share(threads, height, height * row, 4 * row, lambda rows: 40 * rows * row)

    def gdn(self, x: Any, layer: object, out: object, threads: int) -> None:
        """See `_rowwise`."""
        self._rowwise(x, threads)

    igdn = layer_norm = gdn

    def local_attention(self, qkv: Any, layer: Any, table: object, out: Any, threads: int) -> None:
        """Windows of a band in int16 and float64, six arrays of their logits, three of the result."""
        height, width, channels = out.shape[0] - 2 * BORDER, out.shape[1] - 2 * BORDER, qkv.shape[2] // 3
        logits = 625 * layer.heads
        each = 25 * 3 * channels * 10 + logits * 46 + 25 * channels * 24
        self._share(
            threads,
            height,
            height * width * 25 * channels,
            2 * width * logits,
            lambda rows: (
                qkv.shape[0] * qkv.shape[1] + rows * min(width, max(1, bands.BAND // (2 * logits * rows))) * each
            ),
        )

    def linear_attention(
        self,
        queries: Any,
        keys: Any,
        values: object,
        layer: object,
        table: object,
        out: object,
        keys_at: int,
        queries_at: int,
        threads: int,
    ) -> None:
        """Rows of a band in int16 and six arrays of their weights."""
        for x in (keys, queries):
            height, row = x.shape[0] - 2 * BORDER, (x.shape[1] - 2 * BORDER) * x.shape[2]
            self._share(threads, height, height * row, 2 * row, partial(mul, 54 * row))


# ----------------------------------------------------------------------------------------------------------- engine


@dataclass(frozen=True)
class _Layer:
    """As much of a layer as shapes depend on."""

    shape: tuple[int, ...]
    limit: int
    stride: int
    shuffle: bool
    depthwise: bool
    heads: int

    @property
    def kernel(self) -> int:
        return self.shape[1]


@lru_cache(maxsize=4)
def _layers(config: Config) -> dict[str, Any]:
    return {
        op.name: _Layer(
            (op.channels, op.kernel, op.kernel, 1 if op.depthwise else op.in_channels),
            0 if op.wide else 1,
            op.stride,
            op.shuffle,
            op.depthwise,
            op.heads,
        )
        for op in layer_table(config)
    }


class _Shadow(Engine):
    """An engine that computes nothing: it takes the maps that the real one takes, and counts scratch.

    What the engine computes by NumPy itself, in both backends, is overridden here: temporaries of int32 and int64.
    """

    conv, conv_sum, conv_halves = Engine.conv, Engine.conv_sum, Engine.conv_halves
    """Bound here, so that an estimate does not run what a test has put in their place to damage values."""

    def __init__(self, config: Config, backend: str, threads: int, trace: bool, ledger: _Ledger) -> None:
        self.layers, self.step, self.threads, self.backend = _layers(config), 0, threads, backend
        self._pool = ledger
        self.tables: Any = SimpleNamespace(exp2=None)
        self._ops: Any = _NumbaScratch(ledger) if backend == "numba" else _NumpyScratch(ledger)
        self._fused: Any = self._ops
        self._ledger = ledger
        self.trace = self._shown if trace else None

    def _shown(self, name: str, values: Any) -> None:
        self._ledger.use(4 * values.size)  # a trace that hashes makes the values contiguous, and bytes of them

    def _done(self, name: str, out: Any) -> Any:
        return super()._done(name, out) if self.trace else out

    def wide_map(self, height: int, width: int, channels: int) -> Any:
        return self._ledger.array((height + 2 * BORDER, width + 2 * BORDER, channels), 4)

    def _by_numpy(self, name: str, x: Any, out: Any, size: int) -> Any:
        out = self._like(x, out)
        self._ledger.use(size * interior(x).size)
        return self._done(name, out)

    def sum(self, name: str, a: Any, b: Any, out: Any = None) -> Any:
        return self._by_numpy(name, a, out, 8)

    def gain(self, name: str, x: Any, out: Any = None) -> Any:
        return self._by_numpy(name, x, out, 4)

    def rescale(self, name: str, x: Any, out: Any = None) -> Any:
        return self._by_numpy(name, x, out, 8)

    def masked(self, x: Any, parity: int) -> Any:
        return self._by_numpy("", x, None, 1)

    def levels_and_means(self, parameters: Any) -> Any:
        height, width, channels = interior(parameters).shape
        shape = height, width, channels // 2
        levels, means = self._ledger.array(shape, 4), self._ledger.array(shape, 4)
        if self.backend == "numpy":
            self._ledger.use(8 * levels.size)
        return levels, means

    def place(self, name: str, symbols: Any, means: Any, parity: int, y_hat: Any, current: Any) -> None:
        self._half_slice(name, symbols.size, y_hat, current, 24)

    def add_residual(self, name: str, residual: str, x: Any, parity: int, y_hat: Any, current: Any) -> None:
        self._half_slice(name, interior(x).size, y_hat, current, 48)

    def _half_slice(self, name: str, size: int, y_hat: Any, current: Any, each: int) -> None:
        if self.backend == "numpy" or self.trace:
            self._ledger.use(each * size)
            self.rescale(name, y_hat, out=current)

    def reconstruct(self, symbols: Any, mean: object) -> Any:  # type: ignore[override]
        self._ledger.use(24 * symbols.size)
        return symbols


class _Port:
    """As much of a reader or writer of symbols as memory depends on."""

    def __init__(self, ledger: _Ledger, backend: str, encoding: bool) -> None:
        self._ledger, self._encoding, self._coder = ledger, encoding, CODER_SCRATCH[backend]
        self._kept: list[Any] = []

    def z(self, medians: object, shape: tuple[int, ...]) -> Any:
        """Symbols of z."""
        return self._symbols(shape)

    def y(self, i: int, parity: int, levels: Any, means: object) -> Any:
        """Symbols of half a slice."""
        return self._symbols(levels.shape)

    def _symbols(self, shape: tuple[int, ...]) -> Any:
        symbols = self._ledger.array(shape, 4)
        if self._encoding:
            self._ledger.use(WRITER_SCRATCH * symbols.size)
            self._kept.append(self._ledger.array(shape, 4 * MOST_INTERVALS))
        else:
            self._ledger.use((4 + self._coder) * symbols.size)
        return symbols

    def finish(self) -> None:
        """The encoder's words, twice: at most one for an interval, and half as many bytes in sum."""
        if self._encoding:
            largest = max(kept.size for kept in self._kept)
            self._ledger.use(
                sum(kept.size for kept in self._kept) * 2 * MOST_INTERVALS
                + largest * MOST_INTERVALS * (4 + 2 * self._coder)
            )


# --------------------------------------------------------------------------------------------------------- estimate


def _few_strips(height: int, width: int, widest: float, lag: int = 0) -> int:
    """Rows of a picture that has the same width and the same last strip, and no more strips than STRIPS say."""
    strip = strip_rows(width, widest)
    return height - max(0, (height - lag - STRIPS * strip) // strip) * strip


class _Tiles:
    """Codes tiles as `refcodec.flow` does. Of each row of tiles only the first is walked, for none is larger.

    Where threads decode tiles side by side, each has its own memory from the first row on.

    Parameters
    ----------
    latents, hyper : TileRows or None
        y of an encoder; the hyper parameters of a picture in tiles.
    """

    def __init__(
        self, engine: Any, config: Config, ledger: _Ledger, latents: TileRows | None, hyper: TileRows | None
    ) -> None:
        self._engine, self._config, self._ledger, self._latents, self._hyper = engine, config, ledger, latents, hyper
        self._beside = 0

    def row(self, tiles: list[Tile]) -> Iterator[tuple[Tile, Any]]:
        """The tiles with their y_hat."""
        parts: list[Any] = self._hyper.row(tiles) if self._hyper else []
        maps: list[Any] = self._latents.row(tiles) if self._latents else []
        largest = max(tile.height * tile.width for tile in tiles)
        at_once = tiles_at_once(self._engine.backend, self._engine.threads, len(tiles))
        if at_once > 1 and not (self._latents or self._engine.trace):
            self._take_beside(tiles[0], at_once)
            largest = 0
        for tile in tiles:
            y = maps.pop(0) if maps else None
            hyper = [parts.pop(0)] if parts else []
            if tile.height * tile.width == largest:
                largest = 0
                yield tile, self._walk(tile, y, hyper)
            else:
                yield tile, _Phantom((tile.height + 2 * BORDER, tile.width + 2 * BORDER, self._config.M), None)

    def _take_beside(self, tile: Tile, at_once: int) -> None:
        """Count once what so many walks over a tile take."""
        if not self._beside:
            alone = _Ledger()
            engine: Any = _Shadow(self._config, self._engine.backend, 1, False, alone)
            walks = _Tiles(engine, self._config, alone, None, None)
            y_hat = walks._walk(tile, None, [engine.map(tile.height, tile.width, 2 * self._config.M)])
            del y_hat
            self._beside = at_once * alone.peak
            self._ledger.take(self._beside)

    def _walk(self, tile: Tile, y: Any, hyper: list[Any]) -> Any:
        engine, config = self._engine, self._config
        port = _Port(self._ledger, engine.backend, y is not None)
        if hyper:
            y_hat: Any = walk_slices(engine, config, hyper.pop(), port)
        else:
            z = hyper_analysis(engine, y) if y is not None else None
            y_hat = walk(engine, config, None, port, tile.height, tile.width)  # type: ignore[arg-type]
            del z
        port.finish()
        return y_hat


def _hyper_rows(
    engine: Any, config: Config, ledger: _Ledger, ahead: Iterator[tuple[int, Any]] | None, grid: TileGrid, part: Window
) -> TileRows:
    """Hyper parameters of a picture in tiles, whose z is held as a whole; an encoder makes it from y."""
    height, width = part.bottom - part.top, part.right - part.left
    held = engine.map(height, width, config.hyper)

    def z_hat() -> Iterator[tuple[int, Any]]:
        if ahead is None:
            yield 0, interior(held)
            return
        for first, rows in hyper_analysis_strips(engine, config, rows_of(ahead, grid.height, grid.width, config.M)):
            ledger.use(32 * rows.size)
            yield first, interior(held)[first : first + rows.shape[0]]

    strips = hyper_synthesis_strips(engine, config, rows_of(z_hat(), height, width, config.hyper))
    return TileRows(engine, strips, 2 * config.M, Z_STRIDE * part.top, Z_STRIDE * part.left)


def _few_rows(config: Config, grid: TileGrid, part: Window) -> tuple[TileGrid, Window]:
    """The same cut with fewer rows of tiles, where later ones hold what earlier ones held."""
    width = part.right - part.left
    synthesis = _few_strips(part.bottom - part.top, width, SYNTHESIS_WIDEST * config.N[0], SYNTHESIS_LAG)
    analysis = _few_strips(STRIDE * grid.height, STRIDE * grid.width, ANALYSIS_WIDEST * config.N[0])
    most = max(synthesis, -(-analysis // STRIDE))
    gone = max(0, (part.bottom - part.top - most) // grid.tile_height - 2) * grid.tile_height
    return replace(grid, height=grid.height - gone), part._replace(bottom=part.bottom - gone)


@lru_cache(maxsize=64)
def _maps(
    config: Config,
    grid: TileGrid,
    part: Window,
    backend: str,
    threads: int,
    encoding: bool,
    trace: bool,
    lines: int,
    row: int,
) -> int:
    """Peak of maps, arrays and scratch; rows of samples that are held, and the bytes of one of them."""
    ledger = _Ledger()
    ledger.idle = IDLE if grid.count == 1 else IDLE_WITH_TILES
    engine = _Shadow(config, backend, threads, trace, ledger)
    whole = grid.count == 1 and part == grid.whole
    if not (trace or whole):
        grid, part = _few_rows(config, grid, part)
    latents, hyper, ahead = None, None, None
    if encoding:
        height = STRIDE * grid.height
        if whole and not trace:  # no strip of g_a waits for another row of tiles, so few are enough
            height = _few_strips(height, STRIDE * grid.width, ANALYSIS_WIDEST * config.N[0])
        rows = Rows(height, STRIDE * grid.width, 4, lambda first, out: None)
        strips = analysis_strips(engine, config, rows, grid.count > 1)
        if whole:
            strips = _repeated(strips, grid.height)
        elif grid.count > 1:
            strips, ahead = tee((first, ledger.array(rows.shape, 2)) for first, rows in strips)
        latents = TileRows(engine, strips, config.M)
    if grid.count > 1:
        of_z = grid.whole_z if encoding else grid.z_window(grid.needed(part), HYPER_REACH)
        hyper = _hyper_rows(engine, config, ledger, ahead, grid, of_z)
    y_hat: Any = y_hat_rows(engine, grid, part, config.M, _Tiles(engine, config, ledger, latents, hyper).row)
    ledger.take(lines * row)
    if whole and not trace:
        y_hat = y_hat[
            : _few_strips(grid.height, grid.width, SYNTHESIS_WIDEST * config.N[0], SYNTHESIS_LAG) + 2 * BORDER
        ]
    for _, planes in synthesis_strips(engine, config, y_hat, grid.count > 1):
        ledger.use(min(planes.shape[0], lines or planes.shape[0]) * (9 * planes.shape[1] + 5 * row))
    return ledger.peak + (min(ledger.scratch // 3, KEPT) if backend == "numpy" else 0)


def _repeated(strips: Iterator[tuple[int, Any]], height: int) -> Iterator[tuple[int, Any]]:
    """Strips of the first rows, then the last one again and again up to a height."""
    end = 0
    for first, rows in strips:
        end = first + rows.shape[0]
        yield first, rows
    while end < height:
        yield end, _Phantom((height - end, *rows.shape[1:]), None)
        end = height


def _in_tiles(op: Op) -> bool:
    """Whether a layer may be computed by tiles (arith/jit/winograd.py)."""
    return op.kind == "conv" and op.kernel == 3 and op.stride == 1 and not op.depthwise and op.half is None


def model_bytes(model: Model) -> int:
    """Bytes of a model's weights in memory: as stored and as packed for the kernels, int16 each.

    Tiles take 16 numbers for the 9 of a filter, and 2 for bounds. What is packed is no longer stored, but a process may
    use both backends.
    """
    return 2 * sum(op.parameters * (3 if _in_tiles(op) else 2) for op in model.ops)


def _tile_scratch(config: Config, threads: int) -> int:
    """Bytes of transformed tiles and their sums, twice for inputs in two parts."""
    return threads * 1600 * max(op.in_channels + 64 for op in layer_table(config) if _in_tiles(op))


def memory_estimate(
    width: int,
    height: int,
    model: Model,
    backend: str | None = None,
    *,
    channels: int = 3,
    threads: int | None = None,
    encoding: bool = False,
    trace: bool = False,
    segments: int = 0,
    grid: TileGrid | None = None,
    part: Window | None = None,
    held: bool = True,
) -> int:
    """(SPEC 8.5) Bytes of working memory for one picture and its model: an upper bound, at most twice what is taken.

    Parameters
    ----------
    width, height : int
        Size of the picture, before it is padded to multiples of 64.
    model : Model
    backend : "numba", "numpy" or None for ``REFCODEC_BACKEND``
    channels : int
        Samples per pixel, 1 or 3.
    threads : int or None for all cores
        The scratch of the NumPy backend grows with them.
    encoding : bool
        Estimate encoding instead of decoding.
    trace : bool
        A trace sees every result, so the networks run over the whole picture instead of strips.
    segments : int
        Bytes of the largest tile's segments, of which a decoder makes copies.
    grid : TileGrid or None
        How the picture is cut, None for one tile.
    part : Window or None
        The part of y_hat that a region needs, None for all.
    held : bool
        The samples are an array in memory; else they are handed over in strips.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    UsageError
        The backend or the number of threads.
    """
    backend = backend or default_backend()
    grid = grid or TileGrid.of(width, height)
    part = part or grid.whole
    rows = min(height, STRIDE * (part.bottom - part.top)) if held else 0
    row = min(width, STRIDE * (part.right - part.left)) * channels
    return (
        _maps(model.config, grid, part, backend, thread_count(threads), encoding, trace, rows, row)
        + SEGMENT_COPIES[backend] * segments
        + model_bytes(model)
        + (_tile_scratch(model.config, thread_count(threads)) if backend == "numba" else 0)
        + BASE
    )


__all__ = ["memory_estimate", "model_bytes"]
