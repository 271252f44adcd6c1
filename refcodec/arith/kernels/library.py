"""Compiled kernels by name: loaded from a file of machine code, or compiled by Numba and stored in one.

The kernels are 200 KiB of machine code. Numba's own cache brings them back too, but must first load Numba, its
registries and with them parts of SciPy: 1.9 s of the 3.1 s that a warm process took to decode a picture. LLVM alone
links the same code within 0.1 s.

A file is named after everything that decides what the compiler makes: sources, versions, processor, the variables of
the environment that steer Numba. It lies where Python keeps compiled modules if that can be written, else in the
user's cache; ``NUMBA_CACHE_DIR`` names another place. Like those modules it is code, so whoever may write there may run
programs as the user: nothing of a stream or a model ever comes near it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, cached_property
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from llvmlite import binding

LIBRARIES = {"codec": ("team", "conv", "norms", "attention", "walk", "rans"), "roof": ("roof",)}
"""Modules of kernels by the library that they are compiled into."""

_SOURCES = Path(__file__).parents[1], Path(__file__).parents[2] / "entropy"
_KEPT = 16
"""Files kept in a folder: processors, interpreters and versions of one user."""

_NUMBER = ctypes.c_int64
_compiling = threading.RLock()


def _key(library: str) -> str:
    """Hash of what decides a library's machine code."""
    host = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(), binding.get_process_triple()
    steering = sorted((name, value) for name, value in os.environ.items() if name.startswith("NUMBA_")
                      and name != "NUMBA_CACHE_DIR")
    versions = [metadata.version(name) for name in ("numba", "llvmlite", "numpy")]
    found = hashlib.sha256(repr((library, host, steering, versions, sys.version)).encode())
    for folder in _SOURCES:
        for path in sorted(folder.rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def _folders() -> list[Path]:
    """Where a library may lie, the first choice first."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(named) / "refcodec"]
    if sys.platform == "win32":
        user = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        user = Path.home() / "Library" / "Caches"
    else:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(__file__).with_name("__pycache__"), user / "refcodec"]


def _pack(objects: Mapping[str, tuple[str, bytes, list[str]]]) -> bytes:
    """Objects by kernel's name, (symbol, code, imports) each -> a file: a line of JSON, then the code."""
    code = b"".join(data for _, data, _ in objects.values())
    table = [[name, symbol, len(data), imports] for name, (symbol, data, imports) in objects.items()]
    head = {"sha256": hashlib.sha256(code).hexdigest(), "kernels": table}
    return json.dumps(head).encode() + b"\n" + code


class _Loaded:
    """Kernels from a file.

    Raises
    ------
    ValueError, RuntimeError
        The file is damaged, or needs what this process does not have.
    """

    def __init__(self, data: bytes) -> None:
        head, _, code = data.partition(b"\n")
        content = json.loads(head)
        if hashlib.sha256(code).hexdigest() != content["sha256"]:
            raise ValueError("the code does not have the hash that stands before it")
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        self._compiler = binding.create_lljit_compiler()
        self._parts: list[Any] = []
        self.addresses: dict[str, int] = {}
        at = 0
        for name, symbol, size, imports in content["kernels"]:
            builder = binding.JITLibraryBuilder().add_current_process()
            builder.add_object_img(code[at:at + size])
            for needed in imports:
                builder.import_symbol(needed, _outside(needed))
            part = builder.export_symbol(symbol).link(self._compiler, name)
            self._parts.append(part)  # memory of the code lives as long as this does
            self.addresses[name] = part[symbol]
            at += size

    def assembly(self, name: str) -> str | None:
        """None: there is only machine code."""
        return None


def _outside(symbol: str) -> int:
    """Address of what a kernel names but does not define: the interpreter, on paths that no kernel takes.

    Around each kernel Numba puts what would report an exception. Kernels raise none, so nothing of it ever runs; what
    is Numba's own there stands for the end of the process.

    Raises
    ------
    ValueError
        It is something else.
    """
    if symbol.startswith(("numba_", "NRT_")):
        symbol = "Py_FatalError"
    try:
        return ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, symbol))
    except ValueError:
        raise ValueError(f"a kernel needs {symbol}, which this interpreter does not have") from None


def _find(key: str) -> _Loaded | None:
    for folder in _folders():
        with suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):  # absent or damaged: compile
            return _Loaded((folder / f"{key}.kernels").read_bytes())
    return None


def _store(key: str, data: bytes) -> None:
    """Keep a library in the first folder that can be written, and drop the oldest there."""
    for folder in _folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=folder, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.chmod(part, 0o644)
                os.replace(part, folder / f"{key}.kernels")
            except BaseException:
                os.unlink(part)
                raise
            with suppress(OSError):  # another process may do the same
                for old in sorted(folder.glob("*.kernels"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
                    old.unlink()
            return


_notice: Callable[[], None] = lambda: None  # noqa: E731  nobody asked to be told


@cache
def _library(name: str) -> Any:
    """The kernels of a library, with ``addresses`` and ``assembly``."""
    try:
        key = _key(name)
    except (OSError, ImportError):  # sources or versions are not to be found: nothing tells whether code is theirs
        key = ""
    if key and (found := _find(key)):
        return found
    _notice()
    build = import_module(".build", __package__)
    built = build.Built([import_module(f".{module}", __package__) for module in LIBRARIES[name]])
    if key:
        with suppress(ValueError, RuntimeError):  # code that cannot be linked anew serves this process alone
            data = _pack(built.objects())
            _Loaded(data)
            _store(key, data)
    return built


def library(name: str) -> Any:
    """The library, compiled if need be; by one thread at a time."""
    with _compiling:
        return _library(name)


def load(notice: Callable[[], None] = lambda: None) -> None:
    """Load the codec's kernels ahead; ``notice`` is called before they are compiled, which takes a while."""
    global _notice
    with _compiling:
        _notice = notice
        try:
            _library("codec")
        finally:
            _notice = lambda: None  # noqa: E731


class Kernel:
    """A kernel by name, loaded or compiled on first use.

    Parameters
    ----------
    name : str
        "MODULE.FUNCTION" of this folder.
    parameters : int
        How many int64 it takes; a task three: address of its words, first row, row behind the last.

    Attributes
    ----------
    address : int
        Of the C function.
    call : callable of int -> int
        Runs without the GIL; the result of a task means nothing.
    """

    def __init__(self, name: str, parameters: int = 3) -> None:
        self.name, self._parameters = name, parameters

    @cached_property
    def address(self) -> int:
        """See above."""
        module = self.name.partition(".")[0]
        owner = next(name for name, modules in LIBRARIES.items() if module in modules)
        return int(library(owner).addresses[self.name])

    @cached_property
    def call(self) -> Callable[..., int]:
        """See above."""
        return ctypes.CFUNCTYPE(_NUMBER, *[_NUMBER] * self._parameters)(self.address)
