"""Target processor of the kernels: how many sums fit its registers at once."""

from __future__ import annotations

import os

from llvmlite import binding


def _wide() -> bool:
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if os.environ.get("NUMBA_CPU_NAME") or features:  # compiled for another processor than this one
        return "+avx512bw" in str(features)
    return bool(binding.get_host_cpu_features().get("avx512bw"))


WIDE = _wide()
"""32 registers of 512 bits (AVX-512); else 16 of 256 bits (AVX2) are reckoned with, which serves SSE2 and NEON too."""
