"""What the processor has that the kernels are compiled for: how many sums fit its registers at once."""

from __future__ import annotations

import numba
from llvmlite import binding


def _wide() -> bool:
    if numba.config.CPU_NAME or numba.config.CPU_FEATURES:  # compiled for another processor than this one
        return "+avx512bw" in str(numba.config.CPU_FEATURES)
    return bool(binding.get_host_cpu_features().get("avx512bw"))


WIDE = _wide()
"""32 registers of 512 bits (AVX-512); else 16 of 256 bits (AVX2) are reckoned with, which serves SSE2 and NEON too."""
