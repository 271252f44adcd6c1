"""Rows of one task shared out to threads without the interpreter (SPEC 5.1: sums are exact, no split changes a byte).

A decode is several hundred tasks of 20 to 2000 microseconds. Handing one to a pool of Python threads costs 60 to 70:
the helper sleeps, wakes, and then waits for the GIL. Here helpers wait in compiled code that needs no GIL, and look
for work in a few shared words for a short while before they sleep.

A task is a C function (``task``) of an array of int64: addresses and sizes. Its rows are cut into chunks; the word
LEFT counts those nobody has claimed, PENDING those that are not done. Every thread, the caller's first of all, claims
chunks by compare-and-swap until none is left. So a helper that sleeps or is late costs nothing but its help. A claim
can never meet a stale task: the task's words change only while LEFT and PENDING are zero, and are read after a claim.

Numba's own parallel layers are not used: "workqueue" aborts when two Python threads enter it at once, and OpenMP does
not survive a fork. There is one team a process, made anew in a forked child. Whoever finds it at work computes alone,
so several decodes at once do not take more threads than there are cores and decodes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from .backend import kernel, writes

LEFT, PENDING, TASK, ARGUMENTS, ROWS, CHUNKS = 0, 8, 16, 17, 18, 19
"""Words of the board; those that threads write are on cache lines of their own."""

_SPINS = 1 << 14
"""Looks at the board before a helper sleeps: 0.1 to 0.3 ms, longer than the interpreter takes between two tasks."""

CHUNKS_A_THREAD = 4
"""Finer chunks even out late helpers, coarser ones read the weights less often."""

_BOARD = writes(types.int64, 1, "C")


def _word(context, builder, signature, args):
    """Address of the word that the first two arguments name."""
    return builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])


@intrinsic
def _read(typing, board, at):
    """A word, and all that was written before it."""
    def codegen(context, builder, signature, args):
        if builder.module.triple.startswith(("x86_64", "i686")):  # tells the core that this is a wait
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return builder.load_atomic(_word(context, builder, signature, args), "seq_cst", 8)

    return types.int64(board, types.int64), codegen


@intrinsic
def _publish(typing, board, at, value):
    """Write a word after all that was written before."""
    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], _word(context, builder, signature, args), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(board, types.int64, types.int64), codegen


@intrinsic
def _claim(typing, board, at, seen):
    """Make a word one less if it still is ``seen``; whether it was."""
    def codegen(context, builder, signature, args):
        less = builder.sub(args[2], ir.Constant(ir.IntType(64), 1))
        result = builder.cmpxchg(_word(context, builder, signature, args), args[2], less, "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(board, types.int64, types.int64), codegen


@intrinsic
def _done(typing, board, at):
    """Make a word one less."""
    def codegen(context, builder, signature, args):
        builder.atomic_rmw("sub", _word(context, builder, signature, args), ir.Constant(ir.IntType(64), 1), "seq_cst")
        return context.get_dummy_value()

    return types.void(board, types.int64), codegen


@intrinsic
def _call(typing, function, arguments, y0, y1):
    """Call the task at an address."""
    def codegen(context, builder, signature, args):
        i64 = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [i64.as_pointer(), i64, i64])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()),
                     [builder.inttoptr(args[1], i64.as_pointer()), args[2], args[3]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def memory(typing, address, dtype):
    """The memory at an address as a contiguous 1-D array of dtype without an end."""
    result = types.Array(dtype.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        target = context.make_array(result)(context, builder)
        element = context.get_data_type(result.dtype).as_pointer()
        size = context.get_constant(types.intp, result.dtype.bitwidth // 8)
        end = context.get_constant(types.intp, 1 << 60)
        populate_array(target, data=builder.inttoptr(args[0], element), shape=[end], strides=[size], itemsize=size,
                       meminfo=None)
        return target._getvalue()

    return result(types.int64, dtype), codegen


@intrinsic(prefer_literal=True)
def scratch(typing, dtype, size):
    """A 1-D array of a constant size on the stack, not set."""
    length = size.literal_value
    result = types.Array(dtype.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        target = context.make_array(result)(context, builder)
        element = context.get_data_type(result.dtype)
        block = cgutils.alloca_once(builder, ir.ArrayType(element, length))
        block.align = 64
        width = context.get_constant(types.intp, result.dtype.bitwidth // 8)
        populate_array(target, data=builder.bitcast(block, element.as_pointer()),
                       shape=[context.get_constant(types.intp, length)], strides=[width], itemsize=width, meminfo=None)
        return target._getvalue()

    return result(dtype, size), codegen


@kernel(_BOARD)
def _work(board):
    """Claim and compute chunks until none is left."""
    left = _read(board, LEFT)
    while left > 0:
        if _claim(board, LEFT, left):
            rows, chunks = board[ROWS], board[CHUNKS]
            n = chunks - left
            _call(board[TASK], board[ARGUMENTS], rows * n // chunks, rows * (n + 1) // chunks)
            _done(board, PENDING)
        left = _read(board, LEFT)


@kernel(_BOARD, types.int64)
def _serve(board, spins):
    """Work as long as there is some; back after ``spins`` looks without."""
    idle = 0
    while idle < spins:
        idle += 1
        if _read(board, LEFT) > 0:
            _work(board)
            idle = 0


@kernel(_BOARD, types.int64)
def _finish(board, spins):
    """Wait for the others' chunks; how many are pending after ``spins`` looks."""
    for _ in range(spins):
        if _read(board, PENDING) == 0:
            return 0
    return _read(board, PENDING)


@kernel(_BOARD, types.int64, types.int64, types.int64, types.int64)
def _lead(board, function, arguments, rows, chunks):
    """Put a task on the board and work on it; how many chunks others still compute after a while."""
    board[TASK], board[ARGUMENTS], board[ROWS], board[CHUNKS] = function, arguments, rows, chunks
    _publish(board, PENDING, chunks)
    _publish(board, LEFT, chunks)
    _work(board)
    return _finish(board, _SPINS)


@kernel(types.int64, types.int64, types.int64, types.int64)
def _alone(function, arguments, y0, y1):
    """Run a task on this thread."""
    _call(function, arguments, y0, y1)


def task(function: Callable[[int, int, int], None]) -> Any:
    """Compile function(arguments, y0, y1), which computes rows y0..y1 of a task, for ``share``.

    ``arguments`` is the address of int64 words, see ``memory``. Cached as kernels are (refcodec/arith/backend.py); a
    task neither allocates nor raises.
    """
    signature = types.void(types.int64, types.int64, types.int64)
    try:
        return cfunc(signature, cache=True)(function)
    except RuntimeError:  # no place to keep the cache: compile in every process
        return cfunc(signature)(function)


class _Helper:
    """A thread that serves the board, and sleeps when there is nothing for a while."""

    def __init__(self, board: np.ndarray) -> None:
        self._board = board
        self._bed = threading.Lock()
        self._bed.acquire()
        self.asleep = False
        threading.Thread(target=self._live, name="refcodec", daemon=True).start()

    def _live(self) -> None:
        while True:
            _serve(self._board, _SPINS)
            self.asleep = True
            self._bed.acquire()

    def wake(self) -> None:
        """Called by the one thread that leads."""
        self.asleep = False
        self._bed.release()


class _Team:
    """The helpers of a process and their board."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        store = np.zeros(32, np.int64)  # 24 words from a cache line's start on
        skip = -store.ctypes.data % 64 // 8
        self._board = store[skip:skip + 24]
        self._helpers: list[_Helper] = []

    def run(self, function: int, arguments: int, rows: int, threads: int) -> None:
        """Share a task out; ``free`` is held."""
        while len(self._helpers) < threads - 1:
            self._helpers.append(_Helper(self._board))
        for helper in self._helpers[:threads - 1]:
            if helper.asleep:
                helper.wake()
        if _lead(self._board, function, arguments, rows, min(rows, CHUNKS_A_THREAD * threads)):
            while _finish(self._board, _SPINS):  # a helper has lost its core: give it ours
                time.sleep(0)


_team = _Team()


def _renew() -> None:
    global _team
    _team = _Team()


os.register_at_fork(after_in_child=_renew) if hasattr(os, "register_at_fork") else None


def address(array: np.ndarray) -> int:
    """Where an array's first element lies."""
    return int(array.__array_interface__["data"][0])


def share(work: Any, arguments: np.ndarray, rows: int, threads: int) -> None:
    """Run a task over range(rows), every row once.

    Parameters
    ----------
    work : compiled function
        From ``task``.
    arguments : np.ndarray, int64
        What the task reads; the caller keeps every array whose address it holds alive.
    rows, threads : int
    """
    team = _team
    words = address(arguments)
    if threads < 2 or rows < 2 or not team.free.acquire(blocking=False):
        _alone(work.address, words, 0, rows)
        return
    try:
        team.run(work.address, words, rows, threads)
    finally:
        team.free.release()
