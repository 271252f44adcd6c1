"""Files of compiled kernels: what they are named after, where they lie, and who may have written them.

A file is named after everything that decides the machine code: sources, versions, processor, and the settings that
steer Numba. It is code that this process will run. So a folder or file is used only if it belongs to the user or to
root and nobody else can write it. Nothing of a stream or a model ever comes near it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from llvmlite import binding

from .... import __version__
from ....errors import UsageError
from ....io.files import replacing, user_cache, user_home
from .link import ABI

SWITCH = "REFCODEC_KERNEL_CACHE"

SOURCES = tuple(
    Path(__file__).parents[3] / name
    for name in (
        "model/symbol_tables.py",
        "arith/numpy_ops/attention.py",
        "arith/jit/target.py",
        *(f"arith/jit/native/{name}.py" for name in ("blocks", "build", "private")),
        *(
            f"arith/jit/kernels/{name}.py"
            for name in (
                "attention",
                "constants",
                "conv",
                "local_attention",
                "norms",
                "peak",
                "products",
                "rans",
                "team",
                "walk",
                "winograd",
                "words",
            )
        ),
    )
)
"""Modules of kernels and those that they import."""

HARMLESS = frozenset(
    "NUMBA_" + name
    for name in (
        "CACHE_DIR",
        "CACHE_LOCATOR_CLASSES",
        "CAPTURED_ERRORS",
        "CHROME_TRACE",
        "COLOR_SCHEME",
        "DEBUG_CACHE",
        "DEFAULT_NUM_THREADS",
        "DEVELOPER_MODE",
        "DISABLE_CUDA",
        "DISABLE_ERROR_MESSAGE_HIGHLIGHTING",
        "DISABLE_PERFORMANCE_WARNINGS",
        "ENABLE_CUDASIM",
        "FULL_TRACEBACKS",
        "FUNCTION_CACHE_SIZE",
        "GDB_BINARY",
        "HIGHLIGHT_DUMPS",
        "NUM_THREADS",
        "PARALLEL_DIAGNOSTICS",
        "SHOW_HELP",
        "THREADING_LAYER",
        "THREADING_LAYER_PRIORITY",
        "TRACE",
        "WARNINGS",
    )
)
"""Variables of the environment that do not change machine code; so are those that begin with NUMBA_CUDA."""

KEPT = 16
"""Files kept in a folder: processors, interpreters and versions of one user."""

STALE = 3600
"""Seconds after which a file that was being written is somebody's who crashed."""

PATIENCE = 300
"""Seconds to wait for another process that compiles, at most."""


def enabled() -> bool:
    """Whether files are used: ``REFCODEC_KERNEL_CACHE`` is not "off".

    Raises
    ------
    UsageError
        It holds another word than "on" or "off".
    """
    word = os.environ.get(SWITCH) or "on"
    if word not in ("on", "off"):
        raise UsageError("neither on nor off", where=SWITCH, value=word)
    return word == "on"


def _processor() -> tuple[str, str, str]:
    """Name, features and system that Numba compiles for; of the host as far as no variable names another."""
    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if str(name).lower() == "generic" else binding.get_host_cpu_features().flatten()
    return name or binding.get_host_cpu_name(), features, binding.get_process_triple()


def key(library: str) -> str:
    """Hash of what decides a library's machine code; "" without sources or versions, when nothing may be kept."""
    steering = sorted(
        (name, value)
        for name, value in os.environ.items()
        if name.startswith("NUMBA_") and name not in HARMLESS and not name.startswith("NUMBA_CUDA")
    )
    try:
        versions = [__version__, *(metadata.version(name) for name in ("numba", "llvmlite", "numpy"))]
        facts = library, ABI, _processor(), steering, versions, sys.version, len(SOURCES)
        found = hashlib.sha256(repr(facts).encode())
        for path in SOURCES:
            found.update(hashlib.sha256(path.read_bytes()).digest())
        if os.path.exists(".numba_config.yaml"):  # Numba reads it where the process works
            found.update(Path(".numba_config.yaml").read_bytes())
    except (OSError, ImportError):
        return ""
    return found.hexdigest()


# ---------------------------------------------------------------------------------------------------------- folders


def folders() -> list[Path]:
    """Where files may lie, the first choice first.

    ``NUMBA_CACHE_DIR`` decides alone. Else it is the user's cache and then the package's ``__pycache__``; for root,
    who installs for everybody, in the other order.
    """
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(named) / "refcodec"]
    package, user = Path(__file__).with_name("__pycache__"), user_cache()
    if user is None:
        return [package]
    return [package, user] if _user() == 0 else [user, package]


def _user() -> int | None:
    return os.geteuid() if hasattr(os, "geteuid") else None


def _foreign(found: os.stat_result) -> bool:
    """Whether somebody other than the user and root owns a file or folder or can write it."""
    return _user() is not None and (found.st_uid not in (0, _user()) or bool(found.st_mode & 0o022))


def distrust(folder: Path) -> str:
    """Why another user could have put a file into a folder; "" if none could.

    Neither the folder nor one above it may be writable by others, up to the user's home, as for ssh. Above, folders
    such as /tmp may be, in which nobody can rename what belongs to another.

    Raises
    ------
    OSError
        There is no such folder.
    """
    folder, home = folder.resolve(strict=True), user_home()
    for place in (folder, *folder.parents):
        found = place.stat()
        if _foreign(found) and (
            place == folder or found.st_uid not in (0, _user()) or not found.st_mode & stat.S_ISVTX
        ):
            return f"others than its user can write {place}"
        if place == home:
            break
    return ""


# ------------------------------------------------------------------------------------------------------------ files


def pack(objects: Mapping[str, tuple[str, bytes]]) -> bytes:
    """Symbol and object file by kernel's name -> a file: a line of JSON, then the object files."""
    code = b"".join(image for _, image in objects.values())
    table = [[name, symbol, len(image)] for name, (symbol, image) in objects.items()]
    return json.dumps({"sha256": hashlib.sha256(code).hexdigest(), "kernels": table}).encode() + b"\n" + code


def unpack(data: bytes) -> list[tuple[str, str, bytes]]:
    """Name, symbol and object file of every kernel.

    Raises
    ------
    ValueError, KeyError, TypeError
        The file is damaged.
    """
    head, _, code = data.partition(b"\n")
    content, objects, at = json.loads(head), [], 0
    if hashlib.sha256(code).hexdigest() != content["sha256"]:
        raise ValueError("the code does not have the hash that the file names")
    for name, symbol, size in content["kernels"]:
        objects.append((name, symbol, code[at : at + size]))
        at += size
    return objects


def stored(name: str) -> Iterator[tuple[Path, bytes]]:
    """Path and content of every file of a key that may be trusted; using it makes it the youngest."""
    for folder in folders():
        path = folder / f"{name}.kernels"
        with suppress(OSError):
            if distrust(folder):
                continue
            with open(path, "rb") as file:
                if _foreign(os.fstat(file.fileno())):
                    continue
                data = file.read()
            with suppress(OSError):
                os.utime(path)
            yield path, data


def _writable() -> tuple[Path | None, str]:
    """The first folder that takes files, made if need be; else why there is none."""
    reasons = []
    for folder in folders():
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
            if reason := distrust(folder):
                reasons.append(reason)
                continue
            tempfile.TemporaryFile(dir=folder).close()
            return folder, ""
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror or error}")
    return None, "; ".join(reasons)


def store(name: str, data: bytes) -> str:
    """Keep a library in the first folder that takes it; why none does, or "".

    Files that a crashed process left and the oldest libraries go.
    """
    folder, reason = _writable()
    if folder is None:
        return reason
    try:
        with replacing(folder / f"{name}.kernels", 0o644) as file:
            file.write(data)
    except OSError as error:
        return f"{folder}: {error.strerror or error}"
    _sweep(folder)
    return ""


def _sweep(folder: Path) -> None:
    files: dict[Path, float] = {}
    for path in folder.iterdir():
        with suppress(OSError):  # another process may do the same
            age = path.stat().st_mtime
            if path.suffix == ".kernels":
                files[path] = age
            elif path.suffix in (".part", ".lock") and age < time.time() - STALE:
                path.unlink()
    for path in sorted(files, key=lambda path: files[path])[:-KEPT]:
        with suppress(OSError):
            path.unlink()


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Let one process at a time compile what a key names; the others wait, at most ``PATIENCE``.

    The system drops the lock of a process that ends in any way. Without such locks or a folder nobody waits.
    """
    folder, _ = _writable() if name else (None, "")
    handle = None
    with suppress(OSError, ImportError):
        if folder:
            import fcntl

            handle = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
    try:
        yield
    finally:
        if handle is not None:
            if folder:
                with suppress(OSError):
                    os.unlink(folder / f"{name}.lock")
            os.close(handle)
