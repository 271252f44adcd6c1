"""Which of the two implementations of the arithmetic runs: Numba kernels, or NumPy alone.

Both compute the integers that SPEC.md defines, so the choice can never change a byte. NumPy is the default where Numba
is missing or switched off, or its kernels can be neither loaded nor compiled. Modules with ``numba`` in their names are
imported only when the Numba way is used, so that the NumPy way needs neither the package nor a compilation.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from ..errors import UsageError
from ..threads import thread_count

BACKENDS = ("numba", "numpy")


@cache
def _installed() -> bool:
    return all(map(importlib.util.find_spec, ("numba", "llvmlite")))


@cache
def _library() -> Any:
    """The module that loads kernels; None, after a RuntimeWarning, where LLVM's own library cannot be loaded."""
    try:
        return importlib.import_module(".jit.native.loader", __package__)
    except (ImportError, OSError) as error:  # damaged, of another machine, or too little memory to map it
        reason = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        warnings.warn(
            f"NumPy computes instead of kernels, several times slower: {reason}", RuntimeWarning, stacklevel=3
        )
        return None


def default_backend(notice: Callable[[], None] = lambda: None) -> str:
    """The backend this process uses unless a caller names one: ``"numba"`` or ``"numpy"``.

    ``REFCODEC_BACKEND`` names one. Else it is Numba if its kernels work, which loads them. If they should and do not,
    a RuntimeWarning says why.

    Parameters
    ----------
    notice : callable
        Called before kernels are compiled, which takes a while.

    Raises
    ------
    UsageError
        ``REFCODEC_BACKEND`` or ``REFCODEC_KERNEL_CACHE`` holds another word.
    """
    wanted = os.environ.get("REFCODEC_BACKEND", "")
    if wanted and wanted not in BACKENDS:
        raise UsageError("unknown backend", where="REFCODEC_BACKEND", value=wanted, known=list(BACKENDS))
    if wanted:
        return wanted
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "numpy"
    return "numba" if _installed() and (library := _library()) and library.usable(notice) else "numpy"


def prepare(threads: int | None, note: Callable[[str], None]) -> None:
    """Check the number of threads and load the kernels, before a command does anything that takes a while.

    Parameters
    ----------
    threads : int or None
        As `thread_count` takes it.
    note : callable
        Called with one line for a person: that the kernels are compiled first, or what went wrong.

    Raises
    ------
    UsageError
        The threads, ``REFCODEC_BACKEND`` or ``REFCODEC_KERNEL_CACHE``; or the backend is named and cannot be used.
    """
    thread_count(threads)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")

        def notice() -> None:
            note("compiling the kernels, which takes a while: the cache has none for this version and processor")

        if default_backend(notice) == "numba":
            from .jit.native import loader as library

            library.load(notice)
    for warning in found:
        note(str(warning.message))
