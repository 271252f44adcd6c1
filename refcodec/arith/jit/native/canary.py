"""One small item for every kernel, against constants: run when kernels were loaded or compiled, before they are used.

It catches code of other sources, a processor that is not what it says, and a broken compiler. The constants are what
the NumPy backend computes from the same items (tests/refcodec/arith/jit/test_native.py).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from types import MappingProxyType, ModuleType

import numpy as np

from ....model.layers import Conv, Gdn, LinearAttention, LocalAttention, Norm, Rescale, Sum
from ....model.symbol_tables import SymbolTables
from ....model.tables import Tables
from ...engine import Engine
from ...maps import interior

EXPECTED = {
    "conv.rows": 0xE66EA15F,
    "conv.rows, a wide half": 0x8335699E,
    "conv.rows, a sum": 0x0F4A81F2,
    "winograd.rows": 0xD3CC466F,
    "winograd.rows, inputs in two parts": 0x4C63C0C4,
    "conv.depthwise_rows": 0x297F28A8,
    "norms.gdn_rows": 0x96CD8AB7,
    "norms.gdn_rows, inverse": 0x5AD521B9,
    "norms.layer_norm_rows": 0x95C805C8,
    "local_attention.rows": 0x6D8491EE,
    "attention.key_sums": 0x64EA7365,
    "attention.attend_rows": 0x5A0FD3FF,
    "walk.split": 0xE6FDC9F1,
    "walk.place": 0xC20055EE,
    "walk.refine": 0x3884B48B,
    "walk.half": 0x74BB7A99,
    "walk.clear_border": 0xEB1F5777,
    "rans.encode": 0xE63134C2,
    "rans.decode": 0xEF801ADC,
}
"""CRC-32 of every item's result as little-endian int64."""


def _numbers(largest: int, *shape: int) -> np.ndarray:
    """int64 in [-largest, largest] that follow no simple pattern."""
    n = np.arange(int(np.prod(shape)))
    return (n * (7919 + n % 11) % (2 * largest + 1) - largest).reshape(shape)


def _conv(outputs: int, kernel: int, inputs: int, **options: object) -> Conv:
    values: dict[str, object] = {
        "name": "",
        "weight": _numbers(90, outputs, kernel, kernel, inputs).astype(np.int16),
        "bias": _numbers(9000, outputs).astype(np.int32),
        "shift": 5 + np.arange(outputs, dtype=np.int32) % 4,
        "frac": 6,
        "limit": 8000,
    }
    return Conv(**values | options)  # type: ignore[arg-type]


def _setting() -> tuple[dict[str, object], Tables]:
    """Layers and tables of the items."""
    gelu = (200 - np.arange(200)).astype(np.int16)
    layers = {
        "conv": _conv(40, 3, 6, gelu=gelu),
        "wide": _conv(18, 1, 40, limit=0, add_shift=np.full(18, 2, np.int32)),
        "branch": _conv(20, 3, 20),
        "sum": Sum("", 1, 0, 1, 6, 9000),
        "tiles": _conv(40, 3, 34, gelu=gelu),
        "depthwise": _conv(20, 3, 1, gelu=gelu, depthwise=True),
        "norm": Norm("", 77, 10, 8000),
        "gdn": Gdn("", abs(_numbers(50, 20, 20)), 1 + abs(_numbers(10**6, 20)), 12, 6, 8000),
        "igdn": Gdn("", abs(_numbers(50, 20, 20)), 1 + abs(_numbers(10**6, 20)), 9, 6, 8000),
        "local": LocalAttention("", 3, _numbers(1 << 17, 81, 2).astype(np.int32), 2, 6, 8000),
        "linear": LinearAttention("", 8, 8, 3, 2, 6, 8000),
        "copy": Rescale("", 2, 4, 5000),
        "residual": _conv(8, 1, 8),
    }
    exp2 = ((1 << 24) - (1 << 15) * np.arange(257)).astype(np.int32)
    coded = SymbolTables.from_lists([(-1, [0, 9000, 40000, 60000, 65536]), (0, [0, 1, 65536])])
    return layers, Tables(
        gelu=MappingProxyType({6: gelu}),
        exp2=exp2,
        gaussian=coded,
        half_tanh=MappingProxyType({6: (np.arange(300) // 9).astype(np.int16)}),
        thresholds=np.array([50, 200, 450], np.int32),
    )


def results(backend: str, coder: ModuleType) -> Iterator[tuple[str, np.ndarray]]:
    """Name and result of every item, by a backend of `Engine` and one of the range coder's modules."""
    layers, tables = _setting()
    engine = Engine(layers, tables, 0, threads=1, backend=backend)

    def filled(largest: int, *shape: int) -> np.ndarray:
        x = engine.map(*shape)
        interior(x)[...] = _numbers(largest, *shape)
        return x

    x = engine.conv("conv", filled(900, 3, 18, 6))
    yield "conv.rows", interior(x)
    yield "conv.rows, a wide half", interior(engine.conv("wide", x, add=filled(90, 3, 9, 18), parity=1))
    x = filled(900, 3, 7, 20)
    yield "conv.rows, a sum", interior(engine.conv_sum("branch", x, "sum", filled(700, 3, 7, 20)))
    yield "winograd.rows", interior(engine.conv("tiles", filled(900, 3, 15, 34)))
    yield "winograd.rows, inputs in two parts", interior(engine.conv("tiles", filled(9000, 3, 15, 34)))
    yield "conv.depthwise_rows", interior(engine.conv("depthwise", x))
    yield "norms.gdn_rows", interior(engine.gdn("gdn", x))
    yield "norms.gdn_rows, inverse", interior(engine.igdn("igdn", x))
    yield "norms.layer_norm_rows", interior(engine.norm("norm", x))
    yield "local_attention.rows", interior(engine.local_attention("local", filled(600, 4, 8, 48)))
    queries, keys, values = (filled(largest, 4, 8, 16) for largest in (600, 700, 800))
    yield "attention.key_sums", interior(engine.linear_attention("linear", queries, keys, values))
    yield "attention.attend_rows", interior(engine.linear_attention("linear", queries, keys, values, 0, 1))
    wide = np.zeros((7, 8, 16), np.int32)
    interior(wide)[...] = _numbers(600, 3, 4, 16)
    levels, means = engine.levels_and_means(wide)
    yield "walk.split", np.stack([levels, means])
    y_hat, current = filled(0, 3, 8, 8), filled(0, 3, 8, 8)
    engine.place("copy", levels, means, 0, y_hat, current)
    yield "walk.place", np.stack([y_hat, current])
    engine.add_residual("copy", "residual", filled(400, 3, 4, 8), 1, y_hat, current)
    yield "walk.refine", np.stack([y_hat, current])
    yield "walk.half", engine.half(y_hat, 1)
    dirty = np.full((6, 7, 3), 5, np.int16)
    engine._ops.clear_border(dirty)
    yield "walk.clear_border", dirty
    n = abs(_numbers(300, 90))
    cum, freq, words = n.astype(np.uint16), (1 + 5 * n).astype(np.uint16), np.zeros(90, np.uint32)
    state, count = coder.encode(cum, freq, 1 << 31, words)
    yield "rans.encode", np.array([state, count, *words[:count]])
    index, out = (n % 2).astype(np.int32), np.zeros(90, np.int32)
    numbers = abs(_numbers((1 << 31) - 1, 60)).astype(np.uint32)
    ended = coder.decode(coder.as_words(numbers), 1 << 40, 0, index, tables.gaussian, out, 1 << 17)
    yield "rans.decode", np.array([*ended, *out[: ended[2]]])


def crc(result: np.ndarray) -> int:
    """CRC-32 of an array as little-endian int64."""
    return zlib.crc32(result.astype("<i8").tobytes())


def _team() -> None:
    """A task led and a task served: both compute what one call does."""
    from .. import team
    from ..kernels.constants import ARGUMENTS, BOARD, FREE, LEFT, PENDING, POSITIONS
    from ..kernels.words import ExponentialsWords, filled
    from .loader import Kernel

    work = Kernel("attention.exponentials")
    groups, near = 5, abs(_numbers(20 << 16, 5 * POSITIONS)).astype(np.int32)
    table = _setting()[1].exp2
    outs = [np.zeros(near.size) for _ in range(3)]
    at = team.address
    words = [filled(ExponentialsWords(near=at(near), table=at(table), out=at(out))) for out in outs]
    work.call(at(words[0]), 0, groups)
    board = np.zeros(BOARD, np.int64)
    board[FREE] = 1
    team.lead.call(at(board), work.address, at(words[1]), groups, 3)
    board[[LEFT, PENDING, ARGUMENTS]] = 3, 3, at(words[2])
    team.serve.call(at(board), 1)
    if not (outs[0] == outs[1]).all() or not (outs[0] == outs[2]).all() or board[PENDING] or not outs[0].any():
        raise ArithmeticError("the kernel team.lead or team.serve computes something else")


def _roof() -> None:
    from .. import peak as numba_roof

    held, read = (_numbers(1 << 12, n, 32).astype(np.int16) for n in (2, 64))
    right = 2 * (held.astype(np.int64)[:, None] * read).reshape(2, 64, 16, 2).sum(axis=(1, 3))
    if (numba_roof.accumulate(held, read, 128, 2, 1) != right).any():
        raise ArithmeticError("the kernel peak.rows computes something else")


def check(library: str) -> None:
    """Run the items of a library (native/loader.py) with the kernels of this thread.

    Raises
    ------
    ArithmeticError
        A result is wrong.
    """
    if library == "peak":
        _roof()
        return
    from .. import rans as rans_numba

    for name, result in results("numba", rans_numba):
        if crc(result) != EXPECTED[name]:
            raise ArithmeticError(f"the kernel {name} computes something else")
    _team()
