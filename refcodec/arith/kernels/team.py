"""The compiled half of the team (refcodec/arith/numba_team.py): claims of chunks, and waiting for them."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..numba_team import ARGUMENTS, CHUNKS, LEFT, PENDING, ROWS, SPINS, TASK
from .build import helper, kernel, memory

_I64 = types.int64


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


@helper
def _finish(board, spins):
    for _ in range(spins):
        if _read(board, PENDING) == 0:
            return 0
    return _read(board, PENDING)


@kernel
def finish(board, spins):
    """Wait for the others' chunks; how many are pending after ``spins`` looks."""
    return _finish(memory(board, _I64), spins)


@kernel
def lead(board, function, arguments, rows, chunks):
    """Put a task on the board and work on it; how many chunks others still compute after a while."""
    board = memory(board, _I64)
    board[TASK], board[ARGUMENTS], board[ROWS], board[CHUNKS] = function, arguments, rows, chunks
    _publish(board, PENDING, chunks)
    _publish(board, LEFT, chunks)
    _work(board)
    return _finish(board, SPINS)
