"""The words of every task: an array of int64 holds its arguments, one word each.

Each kind of task declares its words once, as a named tuple. A caller fills them by name, as in
``filled(HalfWords(source=..., ...))``: Python refuses a word that is unknown, missing or given twice, and mypy reports
it earlier. Words with a default are set for each call, the others when a layer is packed. Kernels, and callers that set
single words, index the array by ``HALF.source`` and the like, which Numba compiles to constants.

``x``, ``out`` and other names of arrays are addresses; ``..._row``, ``..._column`` and ``..._step`` are strides in
elements; the rest are numbers. A ``parity`` is -1 for whole maps, else that of row 0's first place.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Kind = TypeVar("Kind", bound="tuple[int, ...]")


def filled(task: tuple[int, ...]) -> NDArray[np.int64]:
    """The words of a task as the array that its kernel reads."""
    return np.array(task, np.int64)


def _places(kind: type[Kind]) -> Kind:
    """The index of every word, under the word's name."""
    names: Any = kind
    places: Kind = names(*range(len(names._fields)))
    return places


class ConvWords(NamedTuple):
    """A convolution (SPEC 5.3)."""

    bias: int
    shift: int
    add_shift: int
    table: int  # GELU's, and one element more
    last: int  # index of the table's last element, negative without GELU
    limit: int
    wide: int
    outputs: int  # a multiple of 16
    runs: int  # n_runs offsets of runs of inputs in x
    n_runs: int
    half_run: int  # pairs of inputs of a run
    segments: int  # n_segments times the words of Segment
    n_segments: int
    width: int
    x_row: int
    x_step: int
    x_column: int
    parity: int
    out_row: int
    out_step: int
    add_row: int
    add_step: int
    add_kind: int  # constants.JOIN, constants.RESIDUAL, or 0
    weight: int = 0
    x: int = 0
    add: int = 0  # map that joins the sum, or skip of a residual sum; read if add_kind
    out: int = 0  # int16, int32 if wide
    skip_up: int = 0
    branch_up: int = 0
    half: int = 0
    down: int = 0
    top: int = 0


class WinogradWords(NamedTuple):
    """A 3x3 convolution by tiles of 2x2 (SPEC 5.3). Places in a slot are in bytes."""

    weight: int  # of every block of outputs: [16 places of a tile, pairs of inputs, outputs, 2]
    bias: int  # [outputs] int32, times 4
    bounds: int  # of every 16 outputs: [inputs, 16, 2]
    bias_bound: int  # [outputs] int32
    most: int  # largest bound
    zeros: int  # [outputs] int32
    inputs: int  # even, at least 32
    stride: int  # elements from a tile's place to the same of the next tile
    copied: int  # n_copied channels whose transformed inputs follow the others once more
    n_copied: int  # even
    sums: int  # place of the tiles' sums; the transformed tiles are a slot's first
    reach: int  # place of the extremes of inputs
    pairs: int  # place of magnitudes
    room: int  # bytes of a slot, two halves alike
    conv: int = 0  # the words of Conv; weight and runs are not read
    rows: int = 0
    slots: int = 0  # [n_slots], 1 if free
    n_slots: int = 0
    space: int = 0  # n_slots times ``room`` bytes


class TransformWords(NamedTuple):
    """Filters of a 3x3 convolution, to be transformed (SPEC 5.3)."""

    weight: int  # [outputs, 9, inputs]
    sums: int  # [outputs, inputs, 2] int32: sums of positive weights and of negated negative ones
    out: int  # as WinogradWords.weight
    outputs: int
    inputs: int
    all_inputs: int  # with those that appear once more


class SegmentWords(NamedTuple):
    """Adjacent outputs of a convolution that lie in the same vector of 16, and side by side in a pixel."""

    vector: int
    lane: int  # of the first
    lanes: int
    out: int  # offset in the map
    add: int


class DepthwiseWords(NamedTuple):
    """A depthwise convolution (SPEC 5.3)."""

    weight: int  # [9, stride]
    bias: int
    shift: int
    table: int
    last: int
    limit: int
    channels: int
    stride: int
    x: int = 0
    out: int = 0
    width: int = 0
    x_row: int = 0
    x_column: int = 0
    out_row: int = 0
    out_column: int = 0


class GdnWords(NamedTuple):
    """GDN or IGDN (SPEC 5.5)."""

    gamma: int
    beta: int
    channels: int
    shift: int
    limit: int
    x: int = 0
    out: int = 0
    width: int = 0
    x_row: int = 0
    x_column: int = 0
    out_row: int = 0
    out_column: int = 0
    inverse: int = 0


class LayerNormWords(NamedTuple):
    """Layer normalisation (SPEC 5.6)."""

    x: int
    out: int
    epsilon: int
    gain: int
    limit: int
    channels: int
    width: int
    x_row: int
    x_column: int
    out_row: int
    out_column: int


class LocalWords(NamedTuple):
    """Local attention (SPEC 5.8)."""

    qkv: int
    out: int
    planes: int  # int32 [2, heads, half, stride]: pairs of elements of queries, then of keys, of even and odd columns
    mask: int  # int32 [stride]: VISIBLE inside the picture, HIDDEN outside
    bias: int  # [heads, 25 queries, 25 keys] int32
    place: int  # [25]: places of the window, anchors first
    runs: int  # [13]: where the pairs of a window's weights begin
    zeros: int  # [16] int32
    table: int
    shift: int
    limit: int
    heads: int
    channels: int
    half: int  # pairs of elements per head
    stride: int  # numbers of a plane
    rows: int  # of a plane's even, or odd, columns
    plane_row: int
    width: int
    row: int
    column: int
    out_row: int
    out_column: int


class ExponentialsWords(NamedTuple):
    """Exponentials alone (SPEC 5.7)."""

    near: int
    table: int
    out: int


class KeySumsWords(NamedTuple):
    """Linear attention's sums over keys (SPEC 5.9)."""

    keys: int
    values: int
    top: int  # largest key of each channel
    table: int
    sums: int  # [heads, width, width]
    totals: int
    shift: int
    width: int  # channels per head
    parity: int
    height: int
    columns: int
    row: int
    column: int
    value_row: int
    value_column: int
    block: int  # positions that are summed in float64


class AttendWords(NamedTuple):
    """Linear attention's queries (SPEC 5.9)."""

    queries: int
    out: int
    context: int
    table: int
    shift: int
    limit: int
    heads: int
    width: int  # channels per head
    parity: int
    columns: int
    row: int
    column: int
    out_row: int
    out_column: int


class SplitWords(NamedTuple):
    """Scales and means of entropy parameters (SPEC 6.8)."""

    parameters: int
    row: int
    column: int
    level_of: int  # levels of the scales 0..top
    top: int
    limit: int
    levels: int
    means: int
    width: int
    channels: int


class PlaceWords(NamedTuple):
    """Symbols and means into one half of y_hat and its context copy (SPEC 6.9)."""

    symbols: int
    means: int
    up: int
    parity: int
    limit: int
    shift: int
    top: int
    width: int
    channels: int
    y_hat: int
    row: int
    column: int
    current: int
    current_row: int
    current_column: int


class RefineWords(NamedTuple):
    """A latent residual into one half of y_hat and its context copy (SPEC 6.9)."""

    residual: int
    residual_row: int
    residual_column: int
    table: int
    last: int
    parity: int
    limit: int
    shift: int
    top: int
    width: int
    channels: int
    y_hat: int
    row: int
    column: int
    current: int
    current_row: int
    current_column: int


class HalfWords(NamedTuple):
    """One half of the checkerboard (SPEC 6.3)."""

    source: int
    row: int
    column: int
    parity: int
    out: int
    out_row: int
    out_column: int
    width: int
    channels: int


class CoderWords(NamedTuple):
    """The coder's state, which its kernels read and write (SPEC 7.3)."""

    state: int
    position: int  # words read or written
    done: int  # symbols decoded
    status: int


class EncodeWords(NamedTuple):
    """Symbols to encode (SPEC 7.5)."""

    cum: int
    freq: int
    symbols: int
    words: int
    coder: int


class DecodeWords(NamedTuple):
    """Symbols to decode (SPEC 7.4)."""

    words: int
    word_count: int
    tables: int  # table number of each symbol
    symbols: int
    cdf: int
    start: int
    first: int
    lookup: int
    entries: int
    out: int
    limit: int
    coder: int


class PeakWords(NamedTuple):
    """The bare dot product."""

    out: int
    held: int
    read: int
    steps: int  # per row
    block: int  # one of constants.PEAK_BLOCKS


CONV, WINOGRAD, TRANSFORM, SEGMENT, DEPTHWISE = (
    _places(ConvWords),
    _places(WinogradWords),
    _places(TransformWords),
    _places(SegmentWords),
    _places(DepthwiseWords),
)
GDN, LAYER_NORM = _places(GdnWords), _places(LayerNormWords)
LOCAL, EXPONENTIALS, KEY_SUMS, ATTEND = (
    _places(LocalWords),
    _places(ExponentialsWords),
    _places(KeySumsWords),
    _places(AttendWords),
)
SPLIT, PLACE, REFINE, HALF = _places(SplitWords), _places(PlaceWords), _places(RefineWords), _places(HalfWords)
CODER, ENCODE, DECODE = _places(CoderWords), _places(EncodeWords), _places(DecodeWords)
PEAK = _places(PeakWords)
