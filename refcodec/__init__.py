"""refcodec: the LoC-LIC learned image codec in exact integer arithmetic.

The same bytes and the same pixels on every machine. SPEC.md defines the codec; the folders follow its flow:

====================  =========================================================
``codec``             encode and decode, end to end (SPEC 1)
``picture_files``     the same for files, with ``targets``: a rate, a PSNR
``planes``, ``io``    samples and padded planes (SPEC 4), pictures and files
``arith``             integer operations, Numba and NumPy (SPEC 5)
``nets``, ``slices``  the networks and the slice walk (SPEC 6)
``entropy``           range coder, tables, ports (SPEC 7)
``bitstream``         container (SPEC 8)
``limits``            limits of pictures and streams (SPEC 9.1)
``model``             integer models, the proof of no overflow, files (SPEC 9.2, 10)
====================  =========================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bitstream.info import Metadata, StreamInfo, metadata
    from .bitstream.info import describe as info
    from .codec import decode, encode
    from .errors import RefcodecError
    from .limits import Limits
    from .model.integer_model import Model
    from .model.registry import load_model
    from .picture_files import decode_file, encode_file

__version__ = "0.1.0"

__all__ = [
    "Limits",
    "Metadata",
    "Model",
    "RefcodecError",
    "StreamInfo",
    "__version__",
    "decode",
    "decode_file",
    "encode",
    "encode_file",
    "info",
    "load_model",
    "metadata",
]

_HOMES = {
    "Metadata": ("bitstream.info", "Metadata"),
    "StreamInfo": ("bitstream.info", "StreamInfo"),
    "info": ("bitstream.info", "describe"),
    "metadata": ("bitstream.info", "metadata"),
    "decode": ("codec", "decode"),
    "encode": ("codec", "encode"),
    "decode_file": ("picture_files", "decode_file"),
    "encode_file": ("picture_files", "encode_file"),
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
