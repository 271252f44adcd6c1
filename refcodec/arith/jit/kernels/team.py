"""The compiled half of the team (refcodec/arith/jit/team.py): tasks, claims of chunks, and waiting for them.

Interpreted, no step is atomic: one thread runs.
"""

from __future__ import annotations

import ctypes

from llvmlite import ir
from numba import types

from ..native.blocks import I32, I64, block
from ..native.build import helper, kernel, memory
from .constants import ARGUMENTS, CHUNKS, FREE, LEFT, PAUSE, PENDING, ROWS, SPINS, TASK

_I64 = types.int64

_VOID = ir.VoidType()


def _call_at(w, address, *values):
    """IR that calls the C function at an address, which returns nothing."""
    kind = ir.FunctionType(_VOID, [v.type for v in values])
    w.b.call(w.b.inttoptr(address, kind.as_pointer()), values)


def _write_read(w, board, at):
    if w.b.module.triple.startswith(("x86_64", "i686")):  # informs the core that this is a wait
        w.call("llvm.x86.sse2.pause", _VOID)
    return w.b.load_atomic(board.behind(at).data, "seq_cst", 8)


@block(_write_read, types.int64)
def _read(board, at):
    """A word, and all that was written before it."""
    return board[at]


def _write_publish(w, board, at, value):
    w.b.store_atomic(value, board.behind(at).data, "seq_cst", 8)


@block(_write_publish)
def publish(board, at, value):
    """Write a word after all that was written before.

    Parameters
    ----------
    board : array of int64
    at : int
        Place of the word.
    value : int
    """
    board[at] = value


def _write_claim(w, board, at, seen):
    less = w.b.sub(seen, w.number(1))
    return w.b.extract_value(w.b.cmpxchg(board.behind(at).data, seen, less, "seq_cst", "seq_cst"), 1)


@block(_write_claim, types.boolean)
def claim(board, at, seen):
    """Make a word one less if it still is ``seen``; whether it was.

    Parameters
    ----------
    board : array of int64
    at : int
        Place of the word.
    seen : int

    Returns
    -------
    bool
    """
    found = board[at] == seen
    if found:
        board[at] = seen - 1
    return found


def _write_done(w, board, at):
    w.b.atomic_rmw("sub", board.behind(at).data, w.number(1), "seq_cst")


@block(_write_done)
def _done(board, at):
    """Make a word one less."""
    board[at] -= 1


def _write_call(w, function, arguments, y0, y1):
    _call_at(w, function, w.b.inttoptr(arguments, I64.as_pointer()), y0, y1)


@block(_write_call)
def _call(function, arguments, y0, y1):
    """Call the task at an address."""
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(function)(arguments, y0, y1)


@block(lambda w, function: _call_at(w, function, ir.Constant(I32, 0)))
def _give_way(function):
    """Call the C function at an address that lets another thread have the core."""
    ctypes.CFUNCTYPE(None, ctypes.c_int32)(function)(0)


@helper
def _work(board):
    """Claim and compute chunks until none is left."""
    left = _read(board, LEFT)
    while left > 0:
        if claim(board, LEFT, left):
            rows, chunks = board[ROWS], board[CHUNKS]
            n = chunks - left
            _call(board[TASK], board[ARGUMENTS], rows * n // chunks, rows * (n + 1) // chunks)
            _done(board, PENDING)
        left = _read(board, LEFT)


@kernel
def serve(board, spins):
    """Work as long as there is some; back after ``spins`` looks without."""
    board, idle = memory(board, _I64), 0
    while idle < spins:
        idle += 1
        if _read(board, LEFT) > 0:
            _work(board)
            idle = 0
    return 0


@kernel
def lead(board, function, arguments, rows, chunks):
    """Compute a task with the others, or alone while somebody else leads; nothing of it is pending afterwards.

    A helper that was descheduled in the middle of a chunk is given this thread's core.

    Parameters
    ----------
    board : int
        Address of the board.
    function : int
        Address of the kernel.
    arguments : int
        Address of its words.
    rows : int
    chunks : int
        Parts into which the rows are cut.
    """
    board = memory(board, _I64)
    if not claim(board, FREE, 1):
        _call(function, arguments, 0, rows)
        return 0
    board[TASK], board[ARGUMENTS], board[ROWS], board[CHUNKS] = function, arguments, rows, chunks
    publish(board, PENDING, chunks)
    publish(board, LEFT, chunks)
    _work(board)
    looks = 0
    while _read(board, PENDING) != 0:
        looks += 1
        if looks % SPINS == 0 and board[PAUSE] != 0:
            _give_way(board[PAUSE])
    publish(board, FREE, 1)
    return 1
