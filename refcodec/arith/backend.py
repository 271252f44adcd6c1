"""Which of the two implementations of the arithmetic runs: Numba kernels, or NumPy alone.

Both compute the integers that SPEC.md defines, so the choice can never change a byte. ``REFCODEC_BACKEND=numpy`` or a
missing Numba selects NumPy; modules whose names end in ``_numba`` are imported only when the Numba way is used, so
that the NumPy way needs neither the package nor a compilation.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

from ..errors import UsageError

BACKENDS = ("numba", "numpy")


def default_backend() -> str:
    """The backend this process uses unless a caller names one: ``"numba"`` or ``"numpy"``.

    Raises
    ------
    UsageError
        ``REFCODEC_BACKEND`` holds another word.
    """
    wanted = os.environ.get("REFCODEC_BACKEND", "")
    if wanted and wanted not in BACKENDS:
        raise UsageError("unknown backend", where="REFCODEC_BACKEND", value=wanted, known=list(BACKENDS))
    if wanted:
        return wanted
    return "numba" if importlib.util.find_spec("numba") else "numpy"


def kernel(*signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile one kernel for one signature: no GIL, cached on disk where the package or the user's cache is writable.

    Kernels neither allocate nor raise. The signature is stated so that a view of another layout is converted or
    refused, never compiled anew. int64 inside: a narrow load is widened before arithmetic, no uint64 and no rounding
    float occurs.

    Parameters
    ----------
    *signature : numba types
        Of the parameters, in order; see ``reads`` and ``writes``. The result's type is inferred.
    """
    import numba

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit([signature], nogil=True, cache=True)(function)
        except RuntimeError:  # no place to keep the cache: compile in every process
            return numba.njit([signature], nogil=True)(function)

    return decorate


def reads(dtype: Any, ndim: int, layout: str = "A") -> Any:
    """Numba type of an array that a kernel only reads; any array of the element type and rank fits layout "A"."""
    from numba import types

    return types.Array(dtype, ndim, layout, readonly=True)  # type: ignore[call-overload]


def writes(dtype: Any, ndim: int, layout: str = "A") -> Any:
    """Numba type of an array that a kernel writes."""
    from numba import types

    return types.Array(dtype, ndim, layout)  # type: ignore[call-overload]
