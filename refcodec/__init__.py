"""refcodec: the LoC-LIC learned image codec in exact integer arithmetic.

The same bytes and the same pixels on every machine. SPEC.md defines the codec; the folders follow its flow:

====================  =========================================================
``codec``             encode and decode, end to end (SPEC 1)
``io``                samples and pictures, files (SPEC 4)
``arith``             integer operations, Numba and NumPy (SPEC 5)
``nets``, ``slices``  the networks and the slice walk (SPEC 6)
``entropy``           range coder, tables, ports (SPEC 7)
``bitstream``         container (SPEC 8)
``limits``            limits (SPEC 9.1)
``model``             integer models, their proof of no overflow, their files (SPEC 9.2, 10)
====================  =========================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bitstream.info import StreamInfo
    from .bitstream.info import describe as info
    from .codec import decode, encode
    from .errors import RefcodecError
    from .limits import Limits
    from .model.integer_model import Model
    from .model.registry import load_model

__version__ = "0.1.0"

__all__ = ["Limits", "Model", "RefcodecError", "StreamInfo", "__version__", "decode", "encode", "info", "load_model"]

_HOMES = {
    "StreamInfo": ("bitstream.info", "StreamInfo"),
    "info": ("bitstream.info", "describe"),
    "decode": ("codec", "decode"),
    "encode": ("codec", "encode"),
    "RefcodecError": ("errors", "RefcodecError"),
    "Limits": ("limits", "Limits"),
    "Model": ("model.integer_model", "Model"),
    "load_model": ("model.registry", "load_model"),
}
"""Module and name of what the package offers. It is imported on first use, so that the command line can start to watch
for interrupts before NumPy and Pillow are imported, and errors are at hand where one of them is missing."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, inner = _HOMES[name]
    value = globals()[name] = getattr(import_module(f".{home}", __name__), inner)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
