"""Which of the two implementations of the arithmetic runs: Numba kernels, or NumPy alone.

Both compute the integers that SPEC.md defines, so the choice can never change a byte. ``REFCODEC_BACKEND=numpy`` or a
missing Numba selects NumPy; modules with ``numba`` in their names are imported only when the Numba way is used, so that
the NumPy way needs neither the package nor a compilation.
"""

from __future__ import annotations

import importlib.util
import os

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
