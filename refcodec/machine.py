"""The machine that computes, as reports of measurements and of agreement name it."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from .threads import thread_count

FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
"""Vector extensions worth a mention, as Linux spells them."""


def version(package: str) -> str | None:
    """Version of an installed package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def system() -> dict[str, str]:
    """``python``, its version, ``system`` and ``architecture``."""
    return {"python": platform.python_version(), "system": platform.system(), "architecture": platform.machine()}


def machine() -> dict[str, Any]:
    """``processor``, ``vectors``, its extensions, ``cores`` that this process may use, and all of `system`."""
    name, flags = processor()
    return {"processor": name, "vectors": list(flags), "cores": thread_count(None), **system()}


def processor() -> tuple[str, tuple[str, ...]]:
    """The processor's name and the vector extensions that matter, as far as the system reports them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), ()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = (facts.get("flags") or facts.get("Features", "")).split()
    return facts.get("model name") or platform.machine(), tuple(flag for flag in FLAGS if flag in flags)
