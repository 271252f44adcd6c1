"""The compiled half of the team (refcodec/arith/jit/team.py): tasks, claims of chunks, and waiting for them."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..native.build import helper, kernel, memory
from ..native.private import declare, elements
from ..team import ARGUMENTS, CHUNKS, FREE, LEFT, PAUSE, PENDING, ROWS, SPINS, TASK

_I64 = types.int64


def _word(context, builder, signature, args):
    """Address of the word that the first two arguments name."""
    return builder.gep(elements(context, builder, signature.args[0], args[0]), [args[1]])


@intrinsic
def _read(typing, board, at):
    """A word, and all that was written before it."""

    def codegen(context, builder, signature, args):
        if builder.module.triple.startswith(("x86_64", "i686")):  # tells the core that this is a wait
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(declare(builder.module, kind, "llvm.x86.sse2.pause"), [])
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
        builder.call(
            builder.inttoptr(args[0], kind.as_pointer()),
            [builder.inttoptr(args[1], i64.as_pointer()), args[2], args[3]],
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def _give_way(typing, function):
    """Call the C function at an address that lets another thread have the core."""

    def codegen(context, builder, signature, args):
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [number])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [ir.Constant(number, 0)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@helper
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

    A helper that lost its core in the middle of a chunk is given this thread's.
    """
    board = memory(board, _I64)
    if not _claim(board, FREE, 1):
        _call(function, arguments, 0, rows)
        return 0
    board[TASK], board[ARGUMENTS], board[ROWS], board[CHUNKS] = function, arguments, rows, chunks
    _publish(board, PENDING, chunks)
    _publish(board, LEFT, chunks)
    _work(board)
    looks = 0
    while _read(board, PENDING) != 0:
        looks += 1
        if looks % SPINS == 0 and board[PAUSE] != 0:
            _give_way(board[PAUSE])
    _publish(board, FREE, 1)
    return 1
