"""The names of Numba and llvmlite that their documentation does not promise. No other module uses any (tests hold it).

If a version of Numba lacks one, this raises ImportError or AttributeError, and loader.py falls back to NumPy. Only
compiling needs this module: link.py, which every process needs, keeps to documented names of llvmlite.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.np.arrayobj import populate_array


def declare(module: Any, kind: Any, name: str) -> Any:
    """A function of LLVM, such as "llvm.floor.v8f64", in a module of IR.

    Parameters
    ----------
    module : ir.Module
    kind : ir.FunctionType
    name : str

    Returns
    -------
    ir.Function
    """
    return cgutils.get_or_insert_function(module, kind, name)


def elements(context: Any, builder: Any, array: Any, value: Any) -> Any:
    """Where the elements of a value of an array type start.

    Parameters
    ----------
    context, builder : object
        Numba's.
    array : types.Array
    value : ir.Value

    Returns
    -------
    ir.Value
        A pointer.
    """
    return context.make_array(array)(context, builder, value).data


def array_at(context: Any, builder: Any, array: Any, data: Any, length: int) -> Any:
    """A value of a contiguous 1-D array type: ``length`` elements from ``data`` on, owned by nobody.

    Parameters
    ----------
    context, builder : object
        Numba's.
    array : types.Array
    data : ir.Value
        A pointer to the first element.
    length : int

    Returns
    -------
    ir.Value
    """
    target = context.make_array(array)(context, builder)
    width = context.get_constant(types.intp, array.dtype.bitwidth // 8)
    populate_array(
        target,
        data=data,
        shape=[context.get_constant(types.intp, length)],
        strides=[width],
        itemsize=width,
        meminfo=None,
    )
    return target._getvalue()


def named_tuple(context: Any, builder: Any, kind: Any, values: Any) -> Any:
    """A value of a type of named tuples.

    Parameters
    ----------
    context, builder : object
        Numba's.
    kind : types.NamedTuple
    values : sequence of ir.Value

    Returns
    -------
    ir.Value
    """
    return context.make_tuple(builder, kind, values)


def object_file(function: Any) -> tuple[str, bytes]:
    """The symbol and the object file of a C function that Numba compiled."""
    return function.native_name, function._library._get_compiled_object()


def assembly(function: Any) -> str:
    """The assembly of a C function that Numba compiled."""
    return str(function._library.get_asm_str())
