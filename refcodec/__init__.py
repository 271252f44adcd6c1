"""refcodec: the LoC-LIC learned image codec in exact integer arithmetic.

The same bytes and the same pixels on every machine. SPEC.md defines the codec; the folders follow its flow:

====================  =========================================================
``codec``             encode and decode, end to end (SPEC 1)
``image``             samples and pictures (SPEC 4)
``arith``             integer operations, Numba and NumPy (SPEC 5)
``nets``, ``slices``  the networks and the slice walk (SPEC 6)
``entropy``           range coder, tables, ports (SPEC 7)
``bitstream``         container (SPEC 8)
``limits``            limits, and ``bounds`` the proof of no overflow (SPEC 9)
``model``             integer models and their files (SPEC 10)
====================  =========================================================
"""

from .bitstream.info import StreamInfo
from .bitstream.info import describe as info
from .codec import decode, encode
from .errors import RefcodecError
from .limits import Limits
from .model import Model
from .model_registry import load_model

__version__ = "0.1.0"

__all__ = ["Limits", "Model", "RefcodecError", "StreamInfo", "__version__", "decode", "encode", "info", "load_model"]
