"""Numbers that kernels and their callers share: sizes of blocks, and what they hold in which order."""

from __future__ import annotations

from ..target import WIDE

# ----------------------------------------------------------------------------------------------- convolution (5.3)

LANES = 16
"""Outputs in a vector of int32, and in a task's table of segments."""

PIXELS, VECTORS = (12, 2) if WIDE else (6, 1)
"""Pixels and vectors of 16 outputs of the block whose sums fit the registers.

AVX-512 has 32 registers of 16 sums: 12 x 2. AVX2 has 16 of 8 sums: 6 x 1 vectors take 12 and leave room for two of
weights, the pair of inputs and a product. With 3 x 2 the weights came from memory again for every pixel, which kept the
multipliers waiting for half of the time (37 GMAC/s per thread instead of 56).
"""

OUTPUTS = VECTORS * LANES

FEW = 4 if VECTORS == 2 else 2
"""Pixels of the block that covers what is left of a row: 8 accumulators still hide most of the latency."""

TILES = 2 * PIXELS
"""Tiles of 2x2 results whose inputs are transformed at once. Their 16 sums each for one block of outputs: 48 KiB."""

PLACES = 16
"""Places of a transformed tile, 4 x 4."""

JOIN, RESIDUAL = 1, 2
"""Role of a second map: it joins the accumulator, or is the skip of a residual sum after the clamp."""

# ----------------------------------------------------------------------------------- GDN and normalisation (5.5, 5.6)

DOUBLES = 8
"""Numbers in a vector of float64."""

GDN_PIXELS, GDN_OUTPUTS = 6, 32
"""Block of sums of GDN: 6 x 4 vectors of 8 sums fill 32 registers of AVX-512, 6 x 1 of them the 16 of AVX2."""

MAX_CHANNELS = 512
"""The stack holds no scratch for more: NumPy takes them. No configuration in use has more than 320."""

# ------------------------------------------------------------------------------------------- attention (5.7 to 5.9)

UNSEEN = -float(1 << 40)
"""The logit of a channel that is not there: its weight becomes exactly zero."""

ANCHORS, WINDOW_PAIRS = 12, 13
"""Anchors of a 5x5 window around a non-anchor, and pairs of its places. Anchors come first, then non-anchors."""

VISIBLE, HIDDEN = 2**31 - 1, -(1 << 30)
"""Caps of a logit. Logits are below 2^29, so that a hidden one's weight is exactly zero."""

FARTHEST = 26 << 16
"""From this difference on the exponential is zero (SPEC 5.7): 2^24 / 2^26 rounds to 0."""

MAX_WIDTH = STEP = 32
"""Largest number of channels per head that the kernels support. Wider heads fall back to NumPy; no configuration in
use has any. Scratch is in rows of as many numbers: lanes of a window, or channels of a head padded with zeros."""

GROUP = 8
"""Channels of keys that one unit of work sums: 8 x 16 sums stay in registers."""

POSITIONS = 64
"""Positions whose weights are computed at once."""

# ------------------------------------------------------------------------------------------------ range coder (7.4)

DIRECT = 48
"""Bit of a decoder's entry that says that a symbol has all 256 slots of the bucket and is no escape."""

# ------------------------------------------------------------------------------------------------------ thread team

LEFT, PENDING, FREE, TASK, ARGUMENTS, ROWS, CHUNKS, PAUSE = 0, 8, 16, 24, 25, 26, 27, 28
"""Words of the board; those that threads write are on separate cache lines. FREE is 1 while nobody leads."""

BOARD = 32
"""Number of the board's words."""

SPINS = 1 << 14
"""Looks at the board before a helper sleeps: 0.1 to 0.3 ms, longer than the interpreter takes between two tasks."""

# ------------------------------------------------------------------------------------------------ bare dot product

PEAK_BLOCKS = (2, 5, 12)
"""Products per step, each of 16 lanes: what fits the registers of SSE2, of AVX2, and of AVX-512. The best counts."""

PAIRS = 2 * LANES
"""Numbers of int16 whose products fill a vector of int32."""

PEAK_VECTORS = 64
"""Vectors of ``PAIRS`` int16 that the second factor runs through: 4 KiB."""
