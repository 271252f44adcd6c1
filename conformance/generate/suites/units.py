"""The units suite: each operation of SPEC.md alone, with values at the ends of every range.

Its generators are in units_arithmetic.py (SPEC 5.2 to 5.6), units_attention.py (SPEC 5.7 to 5.9), units_codec.py
(SPEC 4, 6, 9, 10, 12, annexes) and units_coder.py (SPEC 7, 8).
"""

from __future__ import annotations

from . import units_arithmetic, units_attention, units_codec, units_coder

__all__ = ["units_arithmetic", "units_attention", "units_codec", "units_coder"]
