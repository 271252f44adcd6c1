"""Every kernel run by the interpreter computes what NumPy does, and what it would write outside its memory is an error.

The compiled kernels are compared with SPEC.md elsewhere; here the same source runs as Python, so that coverage sees it.
"""

import ctypes

import numpy as np
import pytest

from refcodec.agreement.operations import VECTORS, Way, numbers
from refcodec.arith.engine import Engine
from refcodec.arith.jit import attention, conv, local_attention, norms, peak, rans, walk, winograd
from refcodec.arith.jit.kernels import attention as attention_kernels
from refcodec.arith.jit.kernels import conv as conv_kernels
from refcodec.arith.jit.kernels import local_attention as local_kernels
from refcodec.arith.jit.kernels import norms as norms_kernels
from refcodec.arith.jit.kernels import peak as peak_kernels
from refcodec.arith.jit.kernels import rans as rans_kernels
from refcodec.arith.jit.kernels import team as team_kernels
from refcodec.arith.jit.kernels import walk as walk_kernels
from refcodec.arith.jit.kernels import winograd as winograd_kernels
from refcodec.arith.jit.kernels.constants import BOARD, FREE, LEFT, PAUSE, PEAK_BLOCKS, PENDING, TASK
from refcodec.arith.jit.native.interpreted import Memory, interpreted
from refcodec.arith.jit.native.loader import Kernel
from refcodec.arith.jit.team import address
from refcodec.arith.maps import interior
from refcodec.entropy import rans_python
from refcodec.entropy.rans import RangeEncoder
from refcodec.model.layers import Conv, Gdn, LinearAttention, Rescale, Sum
from refcodec.model.symbol_tables import DONE, EXHAUSTED, OVERSIZE
from refcodec.model.tables import load_tables

TABLES = load_tables()
MODULES = (
    (attention, attention_kernels),
    (conv, conv_kernels),
    (local_attention, local_kernels),
    (norms, norms_kernels),
    (peak, peak_kernels),
    (rans, rans_kernels),
    (walk, walk_kernels),
    (winograd, winograd_kernels),
)
BACKENDS = ("numba", "numpy")
OPERATIONS = [
    name
    for name in VECTORS
    if name.startswith("conv") or name in ("gelu", "gdn", "igdn", "layer norm", "exp2", "softmax", "range encoder")
] + ["local attention", "linear attention"]


@pytest.fixture(autouse=True)
def run_interpreted(monkeypatch):
    """Callers run every kernel by the interpreter."""
    for caller, kernels in MODULES:
        for kernel in (value for value in vars(caller).values() if isinstance(value, Kernel)):
            function = interpreted(getattr(kernels, kernel.name.partition(".")[2]))
            monkeypatch.setitem(vars(kernel), "call", function)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    found, expected = (list(VECTORS[name](Way(backend, 1))) for backend in BACKENDS)
    assert len(found) == len(expected) > 0
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def as_map(engine, values):
    out = engine.map(*values.shape)
    interior(out)[...] = values
    return out


@pytest.mark.parametrize("outputs", [16, 21])
@pytest.mark.parametrize("width", [1, 3, 30])
def test_a_residual_sum_in_one_pass(outputs, width):
    weight = numbers("weight", -63, 63, outputs, 3, 3, 4).astype(np.int16)
    bias = numbers("bias", -9999, 9999, outputs).astype(np.int32)
    layer = Conv("conv", weight, bias, np.full(outputs, 9, np.int32), 8, 4095, gelu=TABLES.gelu[8])
    results = []
    for backend in BACKENDS:
        engine = Engine({"conv": layer, "sum": Sum("sum", 3, 1, 2, 8, 2000)}, TABLES, 0, 1, backend)
        x = as_map(engine, numbers("x", -4095, 4095, 2, width, 4))
        skip = as_map(engine, numbers("skip", -4095, 4095, 2, width, outputs))
        results.append(interior(engine.conv_sum("conv", x, "sum", skip)).copy())
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("largest", [8191, 8192])
@pytest.mark.parametrize("outputs", [16, 21])
def test_tiles(outputs, largest):
    """Inputs that fit, and inputs in two parts; a weight that does not."""
    weight = numbers("weight", -63, 63, outputs, 3, 3, 34).astype(np.int16)
    weight[:, 1, 1, 5] = 20000
    bias = numbers("bias", -9999, 9999, outputs).astype(np.int32)
    layer = Conv("conv", weight, bias, np.full(outputs, 9, np.int32), 8, 4095, gelu=TABLES.gelu[8])
    results = []
    for backend in BACKENDS:
        engine = Engine({"conv": layer, "sum": Sum("sum", 3, 1, 2, 8, 2000)}, TABLES, 0, 1, backend)
        x = as_map(engine, numbers("x", -largest, largest, 3, 5, 34))
        skip = as_map(engine, numbers("skip", -4095, 4095, 3, 5, outputs))
        results.append(interior(engine.conv_sum("conv", x, "sum", skip)).copy())
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_maps_narrower_than_every_block(width):
    weight = numbers("weight", -63, 63, 48, 1, 1, 2).astype(np.int16)
    taps = numbers("taps", -63, 63, 48, 3, 3, 1).astype(np.int16)
    bias, shift = numbers("bias", -9999, 9999, 48).astype(np.int32), np.full(48, 7, np.int32)
    layers = {
        "conv": Conv("conv", weight, bias, shift, 8, 4095),
        "depthwise": Conv("depthwise", taps, bias, shift, 8, 4095, gelu=TABLES.gelu[8], depthwise=True),
        "gdn": Gdn("gdn", numbers("gamma", 0, 999, 48, 48), numbers("beta", 1, 2**40, 48), 14, 0, 32767),
    }
    results = []
    for backend in BACKENDS:
        engine = Engine(layers, TABLES, 0, 1, backend)
        x = engine.conv("conv", as_map(engine, numbers("x", -4095, 4095, 2, width, 2)))
        results.append([x, engine.conv("depthwise", x), engine.gdn("gdn", x), engine.igdn("gdn", x)])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_linear_attention_beyond_one_block_of_sums():
    results = []
    for backend in BACKENDS:
        engine = Engine({"layer": LinearAttention("layer", 5, 4, 3, 1, 0, 32767)}, TABLES, 0, 1, backend)
        q, k, v = (as_map(engine, numbers(part, -200, 200, 1, 8300, 1)) for part in "qkv")
        results.append(engine.linear_attention("layer", q, k, v))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("parity", [0, 1])
def test_steps_of_the_walk(parity):
    height, half, channels = 3, 4, 5
    symbols = numbers("symbols", -600, 600, height, half, channels).astype(np.int32)
    means = numbers("means", -32767, 32767, height, half, channels).astype(np.int32)
    parameters = numbers("parameters", -(2**31), 2**31 - 1, height + 4, half + 4, 2 * channels).astype(np.int32)
    residual = Conv("last", np.zeros((1, 1, 1, 2), np.int16), np.zeros(1, np.int32), np.zeros(1, np.int32), 9, 32767)
    results = []
    for backend in BACKENDS:
        engine = Engine({"copy": Rescale("copy", 2, 6, 5000), "last": residual}, TABLES, 0, 1, backend)
        y_hat = as_map(engine, numbers("y_hat", -32767, 32767, height, 2 * half, channels))
        current = engine.map(height, 2 * half, channels)
        engine.rescale("copy", y_hat, out=current)
        engine.place("copy", symbols, means, parity, y_hat, current)
        bend = as_map(engine, numbers("bend", -32767, 32767, height, half, channels))
        engine.add_residual("copy", "last", bend, parity, y_hat, current)
        packed = engine.half(y_hat, parity)
        results.append([y_hat, current, packed, *engine.levels_and_means(parameters)])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("kept", "limit"), [(1.0, 32767), (1.0, 900), (0.5, 32767), (0.0, 32767)])
def test_decoding_to_every_end(kept, limit):
    """All symbols, a symbol that is too large, words that end too soon: the outcome is that of plain Python."""
    small = numbers("symbols", -2, 2, 60)
    symbols = np.concatenate([small, [s * ((1 << n) + 5) for n in range(15) for s in (1, -1)], small]).astype(np.int32)
    index = numbers("levels", 0, 127, symbols.size).astype(np.int32)
    writer = RangeEncoder("numpy")
    writer.put(symbols, index, TABLES.gaussian)
    data = np.frombuffer(writer.finish(), "<u4")
    x = int(data[0]) | int(data[1]) << 32
    words = data[2 : 2 + int(kept * (data.size - 2))]
    ends = []
    for module in (rans, rans_python):
        out = np.zeros(symbols.size, np.int32)
        state, position, done, status = module.decode(module.as_words(words), x, 0, index, TABLES.gaussian, out, limit)
        ends.append((done, status, out[:done].tolist(), (state, position) if status == DONE else None))
    assert ends[0] == ends[1]
    assert ends[0][1] == (EXHAUSTED if kept < 1 else OVERSIZE if limit < 32767 else DONE)


@pytest.mark.parametrize("block", PEAK_BLOCKS)
def test_the_bare_dot_product(block):
    held, read = (
        numbers(name, -(1 << 15), (1 << 15) - 1, n, 32).astype(np.int16) for name, n in (("held", block), ("read", 64))
    )
    sums = sum(held.astype(np.int64) * read[k % 64] for k in range(70)).reshape(block, 16, 2).sum(axis=2)
    assert (peak.accumulate(held, read, 70, 2, 1) == sums.astype(np.int32)).all()


class Board:
    """A board for one thread, and the chunks of a task that were computed."""

    def __init__(self):
        self.words, self.chunks, self.pauses = np.zeros(BOARD, np.int64), [], 0
        self._task = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(lambda _, y0, y1: self.chunks.append((y0, y1)))
        self._pause = ctypes.CFUNCTYPE(None, ctypes.c_int32)(self._give_way)
        self.words[FREE], self.words[PAUSE] = 1, ctypes.cast(self._pause, ctypes.c_void_p).value

    def _give_way(self, milliseconds):
        self.pauses += 1 + milliseconds
        self.words[PENDING] = 0  # the other thread is done

    def lead(self, rows, chunks):
        """Whether the board was free."""
        task = ctypes.cast(self._task, ctypes.c_void_p).value
        return interpreted(team_kernels.lead)(address(self.words), task, 0, rows, chunks)

    def serve(self, spins):
        """As the kernel."""
        return interpreted(team_kernels.serve)(address(self.words), spins)


def test_a_task_that_one_thread_leads():
    board = Board()
    assert board.lead(10, 3) == 1
    assert board.chunks == [(0, 3), (3, 6), (6, 10)] and board.words[[LEFT, PENDING, FREE]].tolist() == [0, 0, 1]


def test_a_board_that_is_taken():
    board = Board()
    board.words[FREE] = 0
    assert board.lead(10, 3) == 0
    assert board.chunks == [(0, 10)] and not board.words[[LEFT, PENDING, FREE, TASK]].any()


def test_a_helper_serves_what_is_left():
    board = Board()
    board.lead(10, 3)
    board.chunks.clear()
    board.words[LEFT], board.words[PENDING] = 2, 3
    assert board.serve(5) == 0
    assert board.chunks == [(3, 6), (6, 10)] and board.words[[LEFT, PENDING]].tolist() == [0, 1]


def test_a_leader_that_waits_gives_way(monkeypatch):
    """A helper claims the first chunk and loses its core before it is done."""
    board = Board()
    claim = team_kernels.claim.python

    def late(words, at, seen):
        if at == LEFT and seen == 3:
            words[LEFT] = 2
            return False
        return claim(words, at, seen)

    monkeypatch.setitem(interpreted(team_kernels.lead).__globals__["_work"].__globals__, "claim", late)
    assert board.lead(10, 3) == 1
    assert board.chunks == [(3, 6), (6, 10)] and board.pauses == 1 and board.words[FREE] == 1


def test_memory_is_checked():
    cells = np.zeros(4, np.int16)
    memory = Memory(cells)
    memory[1], memory[2:4] = 32767, [-32768, 5]
    assert cells.tolist() == [0, 32767, -32768, 5] and memory[1] + memory[1] == 65534
    assert (memory[1:2] + memory[1:2]).tolist() == [65534]
    for at in (-1, 4):
        with pytest.raises(IndexError):
            memory[at]
        with pytest.raises(IndexError):
            memory[at] = 0
    with pytest.raises(IndexError, match="-2"):
        memory[-2:1] = 0
    with pytest.raises(ValueError):
        memory[0] = 32768
    with pytest.raises(OverflowError, match="int16"):
        memory[0:1] = [-32769]


def test_a_compiled_function_is_no_kernel():
    with pytest.raises(TypeError, match="Python function"):
        interpreted(rans_kernels.encoded)
