"""Blocks: parts of a kernel that are written as LLVM IR, because Numba's own code for them is slow or impossible.

A block is a Python function, which says what is computed and is what an interpreted kernel runs (interpreted.py), and
a function that writes IR for the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .private import declare, elements, named_tuple

I16, I32, I64, F64 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.DoubleType()

_GATHERS = {(16, 32): "llvm.masked.gather.v16i32.v16p0", (8, 64): "llvm.masked.gather.v8i64.v8p0"}
"""LLVM's functions that gather, by the number of lanes and the bits of one."""


class Array:
    """An argument that is an array: memory of numbers of one type."""

    def __init__(self, builder: Any, data: Any, element: Any, size: int) -> None:
        self._b, self.data, self.element, self._size = builder, data, element, size

    def _pointer(self, at: Any, kind: Any) -> Any:
        return self._b.bitcast(self._b.gep(self.data, [at]), kind.as_pointer())

    def behind(self, at: Any) -> Array:
        """The same memory from element ``at`` on."""
        return Array(self._b, self._b.gep(self.data, [at]), self.element, self._size)

    def load(self, at: Any, kind: Any) -> Any:
        """The value of a type of IR, such as a vector, that begins with element ``at``."""
        value = self._b.load(self._pointer(at, kind))
        value.align = self._size
        return value

    def store(self, value: Any, at: Any) -> None:
        """Write a value from element ``at`` on."""
        self._b.store(value, self._pointer(at, value.type)).align = self._size


class Writer:
    """Writes the IR of a block.

    Attributes
    ----------
    b : llvmlite.ir.IRBuilder
    """

    def __init__(self, context: Any, builder: Any) -> None:
        self._context, self.b = context, builder

    def argument(self, kind: Any, value: Any) -> Any:
        """An array as ``Array``, a number as it is."""
        if not isinstance(kind, types.Array):
            return value
        data = elements(self._context, self.b, kind, value)
        return Array(self.b, data, data.type.pointee, kind.dtype.bitwidth // 8)

    def number(self, value: int) -> Any:
        """A constant of 64 bits."""
        return ir.Constant(I64, value)

    def every(self, kind: Any, value: float) -> Any:
        """A constant in every lane of a vector."""
        return ir.Constant(kind, [value] * kind.count)

    def splat(self, kind: Any, value: Any) -> Any:
        """A value in every lane of a vector."""
        undefined, first = ir.Constant(kind, ir.Undefined), ir.Constant(I32, 0)
        one = self.b.insert_element(undefined, value, first)
        return self.b.shuffle_vector(one, undefined, self.every(ir.VectorType(I32, kind.count), 0))

    def lanes(self, vector: Any, chosen: Sequence[int]) -> Any:
        """The chosen lanes of a vector."""
        mask = ir.Constant(ir.VectorType(I32, len(chosen)), list(chosen))
        return self.b.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

    def smaller(self, v: Any, w: Any) -> Any:
        """The smaller one in every lane."""
        return self.b.select(self._compare("<", v, w), v, w)

    def larger(self, v: Any, w: Any) -> Any:
        """The larger one in every lane."""
        return self.b.select(self._compare(">", v, w), v, w)

    def _compare(self, relation: str, v: Any, w: Any) -> Any:
        real = isinstance(v.type.element, ir.DoubleType)
        return self.b.fcmp_ordered(relation, v, w) if real else self.b.icmp_signed(relation, v, w)

    def call(self, name: str, result: Any, *values: Any) -> Any:
        """The result of one of LLVM's own functions.

        Parameters
        ----------
        name : str
            Such as "llvm.floor.v8f64".
        result : ir.Type
        *values : ir.Value

        Returns
        -------
        ir.Value
        """
        kind = ir.FunctionType(result, [v.type for v in values])
        return self.b.call(declare(self.b.module, kind, name), values)

    def gather(self, array: Array, index: Any, element: Any) -> Any:
        """Values of type ``element`` that begin with the array's elements at an index in every lane.

        A value may be wider than an element: it then holds the elements behind it too, the first in its lowest bits on
        every little-endian machine, which are all that Numba knows.

        Parameters
        ----------
        array : Array
        index : vector of int32
        element : ir.IntType

        Returns
        -------
        ir.Value
            A vector of as many lanes as the index.
        """
        count, bits = index.type.count, element.width
        long, kind = ir.VectorType(I64, count), ir.VectorType(element, count)
        pointers, flags = ir.VectorType(element.as_pointer(), count), ir.VectorType(ir.IntType(1), count)
        scale = self.every(long, array._size.bit_length() - 1)
        base = self.splat(long, self.b.ptrtoint(array.data, I64))
        places = self.b.inttoptr(self.b.add(base, self.b.shl(self.b.zext(index, long), scale)), pointers)
        return self.call(
            _GATHERS[count, bits],
            kind,
            places,
            ir.Constant(I32, array._size),
            self.every(flags, True),
            self.every(kind, 0),
        )

    def loop(self, count: Any, values: Sequence[Any], body: Callable[[Any, list[Any]], Sequence[Any]]) -> list[Any]:
        """Values after ``count`` turns of a loop, at least one; ``body`` makes the next ones from a turn's number.

        Parameters
        ----------
        count : ir.Value
        values : sequence of ir.Value
            What the first turn begins with.
        body : callable(turn, values)
            Gives the values of the next turn.

        Returns
        -------
        list of ir.Value
        """
        entry, head, done = self.b.block, self.b.append_basic_block("loop"), self.b.append_basic_block("done")
        self.b.branch(head)
        self.b.position_at_end(head)
        turn, carried = self.b.phi(I64), [self.b.phi(v.type) for v in values]
        following = [self.b.add(turn, self.number(1)), *body(turn, carried)]
        for phi, first, later in zip([turn, *carried], [self.number(0), *values], following, strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, self.b.block)
        self.b.cbranch(self.b.icmp_signed("<", following[0], count), head, done)
        self.b.position_at_end(done)
        return following[1:]


_OPTIONS: dict[str, Any] = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

inlined = numba.njit(**_OPTIONS, inline="always")
"""A part of a kernel in a function by itself, which costs no call."""


def block(write: Callable[..., Any], result: Any = types.void) -> Callable[[Callable[..., Any]], Any]:
    """Compile a Python function as IR.

    Parameters
    ----------
    write : callable
        Writes the IR: takes a ``Writer`` and the function's arguments as values of IR, arrays as ``Array``. Integers
        have 64 bits. Returns the result, None for ``types.void``.
    result : numba type
    """

    def replace(python: Callable[..., Any]) -> Any:
        def typed(context: Any, *arguments: Any) -> Any:
            kinds = [types.int64 if isinstance(kind, types.Integer) else kind for kind in arguments]

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                writer = Writer(context, builder)
                given = map(writer.argument, signature.args, values)
                found = write(writer, *given)
                return context.get_dummy_value() if result == types.void else found

            return result(*kinds), generate

        names = [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        typed.__signature__ = inspect.signature(python).replace(  # type: ignore[attr-defined]
            parameters=[*names, *inspect.signature(python).parameters.values()]
        )
        typed.__name__ = python.__name__
        made: Any = intrinsic(typed)
        made.python = python
        return made

    return replace


@intrinsic
def words_at(typing: Any, address: Any, names: Any) -> Any:
    """The words at an address as the named tuple of their kind, such as ``words.CONV``."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = builder.inttoptr(values[0], I64.as_pointer())
        found = [builder.load(builder.gep(data, [ir.Constant(I64, n)])) for n in range(len(names))]
        return named_tuple(context, builder, names, found)

    return names(types.int64, names), generate
