"""Memory that the system lets this process have: the machine's, or less where a limit is set for the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

UNKNOWN = 4 << 30
"""Bytes assumed where the system reports nothing."""


def memory_allowed(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use at most.

    The smallest of the machine's physical memory, the limits of the process's control groups (Linux, versions 1 and
    2; containers set them), and the resource limits on address space and data (``ulimit -v``, ``ulimit -d``). What
    other processes take is not looked at, so the same machine always gives the same answer.

    Parameters
    ----------
    root : Path
        Root of the file system that holds ``proc`` and ``sys``.
    """
    return min([*_physical(root), *_control_groups(root), *_resource_limits()], default=UNKNOWN)


def _physical(root: Path) -> Iterator[int]:
    for line in _text(root / "proc" / "meminfo").splitlines():
        if line.startswith("MemTotal:"):
            yield int(line.split()[1]) << 10  # in KiB
            return
    try:
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        pass


def _control_groups(root: Path) -> Iterator[int]:
    """Limits of this process's group and of those above it; the group's path may be outside a container's view."""
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, name = root / "sys" / "fs" / "cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys" / "fs" / "cgroup" / "memory", "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            text = _text(top.joinpath(*parts[:depth]) / name).strip()
            if text.isdigit():  # "max" is no limit
                yield int(text)


def _resource_limits() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
