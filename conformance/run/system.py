"""Description of the machine, for reports and claims."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("refcodec", "numpy", "numba", "llvmlite", "scipy", "h5py", "pillow")


_RUN = "import sys; sys.path[0] = {!r}; import runpy; runpy.run_module({!r}, run_name='__main__', alter_sys=True)"


def python_module(name: str) -> tuple[str, ...]:
    """Words of a command that run a module by this Python, as ``-m`` does, but never one of the current folder.

    It is looked for in the folder that holds this package, then where Python finds packages.
    """
    return (sys.executable, "-c", _RUN.format(str(Path(__file__).resolve().parents[2]), name))


def processor(cpuinfo: str) -> tuple[str, list[str]]:
    """Name and instruction sets of a processor, from the text of /proc/cpuinfo."""
    fields = dict[str, str]()
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    name = fields.get("model name") or fields.get("hardware") or ""
    return name, sorted((fields.get("flags") or fields.get("features") or "").split())


def versions() -> dict[str, str]:
    """Versions of the packages that matter and are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def system_facts() -> dict[str, object]:
    """System, processor with its instruction sets, cores, memory, Python and packages."""
    try:
        name, flags = processor(Path("/proc/cpuinfo").read_text())
    except OSError:
        name, flags = platform.processor(), []
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": name,
        "flags": flags,
        "cores": os.cpu_count() or 1,
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "python": platform.python_version(),
        "packages": versions(),
    }
