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
"""True if the target has 32 registers of 512 bits (AVX-512). Otherwise blocks are sized for 16 registers of 256 bits
(AVX2), which also suits SSE2 and NEON.
"""
