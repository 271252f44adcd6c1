"""Compiled kernels by name: linked from a file of machine code, or compiled by Numba and stored in one.

The kernels are 200 KiB of machine code. Numba's own cache brings them back too, but must first load Numba, its
registries and with them parts of SciPy: 1.9 s of the 3.1 s that a warm process took to decode a picture. LLVM alone
links the same code within 0.1 s.

Whether from a file or compiled, kernels are used after each has computed one small item right (canary.py). A file that
fails is compiled again; if that fails too, the default backend is NumPy. Either is one warning.

Loading happens on a separate thread. An exception raised by a signal handler only ever reaches the main thread. So
any exception while kernels load is a failure of loading, and a caller that is interrupted while it waits leaves
nothing half-done: loading goes on, and the next caller finds its result.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from ....errors import UsageError
from . import cache
from .link import Linked

LIBRARIES = {
    "codec": ("team", "conv", "winograd", "norms", "attention", "local_attention", "walk", "rans"),
    "peak": ("peak",),
}
"""Modules of kernels by the library that they are compiled into."""

_NUMBER = ctypes.c_int64

_libraries: dict[str, Any] = {}
"""Kernels by library, or a text that says why there are none."""

_messages: list[str] = []
"""Warnings of the loading thread that a caller has yet to pass on."""

_loading = threading.RLock()
"""Held while a library is loaded, and while the process forks: a child then meets no module that is half imported."""

_tried = threading.local()
"""``library``: kernels that this thread checks before others may use them."""


def _renew() -> None:
    global _loading
    _loading = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _loading.acquire(), after_in_parent=lambda: _loading.release(), after_in_child=_renew
    )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]


def _checked(name: str, kernels: Any) -> Any:
    """Kernels that computed the canary's items right; they stay in memory until the process ends.

    A helper thread may be in their code even while the interpreter takes its modules apart.

    Raises
    ------
    Exception
        Of any kind: they did not.
    """
    _tried.library = kernels
    try:
        import_module(".canary", __package__).check(name)
    finally:
        del _tried.library
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kernels))
    return kernels


def _from_file(name: str, key: str) -> Any:
    """The kernels of the first file that holds them, or None."""
    for path, data in cache.stored(key):
        try:
            return _checked(name, Linked(cache.unpack(data)))
        except Exception as error:
            message = f"the kernels of {path} are not used and compiled again: {_reason(error)}"
            if message not in _messages:
                _messages.append(message)
    return None


def _compiled(name: str, key: str) -> Any:
    """The kernels compiled here and stored, or why they cannot be."""
    try:
        build = import_module(".build", __package__)
        built = _checked(
            name, build.Built([import_module(f"..kernels.{module}", __package__) for module in LIBRARIES[name]])
        )
    except Exception as error:
        return _reason(error)
    if key:
        try:
            data = cache.pack(built.objects())
            _checked(name, Linked(cache.unpack(data)))
            reason = cache.store(key, data)
        except Exception as error:
            reason = _reason(error)
        if reason:
            _messages.append(
                f"compiled kernels cannot be kept, so that every process compiles them ({reason}); name a "
                "folder of the user's in NUMBA_CACHE_DIR and run `python -m refcodec warmup`"
            )
    return built


def _load(name: str, notice: Callable[[], None], gate: Any) -> None:
    try:
        with _loading:
            if name in _libraries:
                return
            key = cache.key(name) if cache.enabled() else ""
            found = _from_file(name, key) if key else None
            if found is None:
                notice()
                with cache.alone(key):  # another process may have stored them meanwhile
                    found = (_from_file(name, key) if key else None) or _compiled(name, key)
            if isinstance(found, str):
                _messages[:] = [f"NumPy computes instead of kernels, several times slower: {found}"]
            _libraries[name] = found
    except Exception as error:
        _libraries[name] = _reason(error)
    finally:
        gate.release()


def library(name: str, notice: Callable[[], None] = lambda: None) -> Any:
    """The kernels of a library, with ``addresses`` and ``assembly``: loaded, or compiled after a call of ``notice``.

    Raises
    ------
    UsageError
        They can be neither loaded nor compiled, or ``REFCODEC_KERNEL_CACHE`` is not "on" or "off".
    """
    if name not in _libraries:
        cache.enabled()
        gate = _thread.allocate_lock()
        gate.acquire()
        try:
            threading.Thread(target=_load, args=(name, notice, gate), name="refcodec-load", daemon=True).start()
        except RuntimeError:  # no thread to be had, as at the end of the interpreter
            _load(name, notice, gate)
        with gate:
            pass
    with suppress(IndexError):
        while True:
            warnings.warn(_messages.pop(0), RuntimeWarning, stacklevel=3)
    found = _libraries[name]
    if isinstance(found, str):
        raise UsageError("this process cannot use the kernels of the numba backend", cause=found)
    return found


def usable(notice: Callable[[], None] = lambda: None) -> bool:
    """Whether the codec's kernels work; as `load`, and a RuntimeWarning once if they do not.

    Raises
    ------
    UsageError
        ``REFCODEC_KERNEL_CACHE`` is not "on" or "off".
    """
    cache.enabled()
    try:
        load(notice)
    except UsageError:
        return False
    return True


def load(notice: Callable[[], None] = lambda: None) -> None:
    """Load the codec's kernels ahead; ``notice`` is called before they are compiled, which takes a while.

    Raises
    ------
    UsageError
        As `library`.
    """
    library("codec", notice)


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

    address: int
    call: Callable[..., int]

    def __init__(self, name: str, parameters: int = 3) -> None:
        self.name, self._parameters = name, parameters

    def __getattr__(self, name: str) -> Any:
        """``address`` or ``call`` on first use; not kept while this thread only tries kernels."""
        value: Any
        if name == "address":
            module = self.name.partition(".")[0]
            owner = next(name for name, modules in LIBRARIES.items() if module in modules)
            value = int((getattr(_tried, "library", None) or library(owner)).addresses[self.name])
        elif name == "call":
            value = ctypes.CFUNCTYPE(_NUMBER, *[_NUMBER] * self._parameters)(self.address)
        else:
            raise AttributeError(name)
        if not hasattr(_tried, "library"):
            setattr(self, name, value)
        return value
