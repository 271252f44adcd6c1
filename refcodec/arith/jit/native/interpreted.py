"""Kernels run by the interpreter: to debug them, and to measure which of their lines tests reach.

Python's own integers and floats compute, so nothing overflows in silence: what does not fit the memory that it is
written to is an error.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from .blocks import words_at
from .build import memory, scratch

_END = 1 << 40
"""Elements of memory whose length nobody knows."""


class Memory:
    """An array as kernels see it: one dimension, no negative index, and Python's numbers, or wide arrays for slices.

    Raises
    ------
    IndexError
        An index is negative, or not in memory whose length is known.
    ValueError, OverflowError
        A value does not fit.
    """

    def __init__(self, cells: np.ndarray) -> None:
        self._cells, self._numbers = cells, cells.data
        self._wide = np.dtype(np.float64 if cells.dtype.kind == "f" else np.int64)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return self._cells[_checked(at)].astype(self._wide)
        return self._numbers[at if at >= 0 else _before(at)]

    def __setitem__(self, at: Any, value: Any) -> None:
        if isinstance(at, slice):
            narrow = np.asarray(value).astype(self._cells.dtype)
            if np.any(narrow != value):
                raise OverflowError(f"{value} does not fit {self._cells.dtype}")
            self._cells[_checked(at)] = narrow
        else:
            self._numbers[at if at >= 0 else _before(at)] = value


def _before(at: int) -> int:
    raise IndexError(f"element {at} is before the memory's first")


def _checked(at: slice) -> slice:
    return at if at.start >= 0 else slice(_before(at.start))


def _memory(address: int, dtype: Any) -> Memory:
    cells = np.dtype(str(dtype))
    if not address:
        return Memory(np.empty(0, cells))
    block: Any = (ctypes.c_char * (_END * cells.itemsize)).from_address(int(address))
    return Memory(np.frombuffer(block, cells))


def _scratch(dtype: Any, size: int) -> Memory:
    return Memory(np.zeros(size, str(dtype)))


def _words_at(address: int, names: Any) -> Any:
    return type(names)(*_memory(address, "int64")[0 : len(names)].tolist())


_PYTHON: dict[Any, Any] = {memory: _memory, scratch: _scratch, words_at: _words_at}

_namespaces: dict[int, dict[str, Any]] = {}
"""Globals for the interpreted functions of a module, by the identity of the module's."""


def _globals(own: dict[str, Any]) -> dict[str, Any]:
    """The globals of a module with Python in place of everything compiled."""
    found = _namespaces.get(id(own))
    if found is None:
        found = _namespaces[id(own)] = dict(own)
        for name, value in own.items():
            if hasattr(value, "py_func"):  # compiled by numba.njit
                found[name] = interpreted(value.py_func)
            elif hasattr(value, "python"):
                found[name] = value.python
            elif callable(value) and value in _PYTHON:
                found[name] = _PYTHON[value]
    return found


def interpreted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel or helper that the interpreter runs, with everything that it calls; same arguments."""
    if not isinstance(function, FunctionType):
        raise TypeError(f"{function!r} is not a Python function")
    copy = FunctionType(
        function.__code__,
        _globals(function.__globals__),
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__doc__ = function.__doc__
    return copy
