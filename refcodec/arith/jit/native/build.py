"""Compiles kernels with Numba, and what they are written with: memory by address, scratch on the stack."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numba
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

from . import private as native

_MARK = "refcodec_kernel"


def kernel(function: Callable[..., int]) -> Callable[..., int]:
    """Mark a function of int64 that returns an int64 (or nothing, see ``task``) as a kernel of its module.

    Kernels neither allocate nor raise. int64 inside: a narrow load is widened before arithmetic, no uint64 and no
    rounding float occurs.
    """
    setattr(function, _MARK, types.int64)
    return function


def task(function: Callable[[int, int, int], None]) -> Callable[[int, int, int], None]:
    """Mark function(words, y0, y1), which computes rows y0..y1 of a task, as a kernel of its module."""
    setattr(function, _MARK, types.void)
    return function


helper = numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""A function that kernels call; compiled with the first that does."""


def compiled(function: Callable[..., Any]) -> Any:
    """A marked function as a C function, with its ``address``.

    A division by zero has no exception ("numpy"): the callers prove that there is none.
    """
    signature = getattr(function, _MARK)(*[types.int64] * len(inspect.signature(function).parameters))
    return cfunc(signature, error_model="numpy")(function)


class Built:
    """Kernels that this process compiled.

    Attributes
    ----------
    addresses : dict of str to int
        By "MODULE.FUNCTION".
    """

    def __init__(self, modules: Sequence[ModuleType]) -> None:
        self._functions = {
            f"{module.__name__.rpartition('.')[2]}.{name}": compiled(function)
            for module in modules
            for name, function in vars(module).items()
            if hasattr(function, _MARK) and function.__module__ == module.__name__
        }
        self.addresses = {name: int(function.address) for name, function in self._functions.items()}

    def assembly(self, name: str) -> str | None:
        """Compiled form of a kernel."""
        return native.assembly(self._functions[name])

    def objects(self) -> dict[str, tuple[str, bytes]]:
        """Symbol and object file of every kernel."""
        return {name: native.object_file(function) for name, function in self._functions.items()}


@intrinsic
def memory(typing, address, dtype):
    """The memory at an address as a contiguous 1-D array of dtype without an end.

    Parameters
    ----------
    typing : object
        Numba's.
    address : int64
    dtype : type of the elements
    """
    result = types.Array(dtype.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        element = context.get_data_type(result.dtype).as_pointer()
        return native.array_at(context, builder, result, builder.inttoptr(args[0], element), 1 << 60)

    return result(types.int64, dtype), codegen


@intrinsic(prefer_literal=True)
def scratch(typing, dtype, size):
    """A 1-D array of a constant size on the stack, not set.

    Parameters
    ----------
    typing : object
        Numba's.
    dtype : type of the elements
    size : int
        A constant.
    """
    length = size.literal_value
    result = types.Array(dtype.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        element = context.get_data_type(result.dtype)
        with builder.goto_entry_block():  # Numba's own function sets every element, which takes LLVM seconds
            block = builder.alloca(ir.ArrayType(element, length))
        block.align = 64
        return native.array_at(context, builder, result, builder.bitcast(block, element.as_pointer()), length)

    return result(dtype, size), codegen
