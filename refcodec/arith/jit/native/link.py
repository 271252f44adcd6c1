"""Object files of kernels linked into this process by LLVM, without Numba.

An object file may import what is named here and nothing else. Numba wraps every C function in code that reports an
exception to the interpreter. Kernels never raise, so that code never runs: the interpreter's symbols are bound as they
are, and those of Numba's runtime, which this process may not have, to a function that ends the process.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

from llvmlite import binding

ABI = 4
"""Number of the agreement between object files, kernels' words and callers; code of another number is never linked."""

INTERPRETER = (
    "PyBytes_FromStringAndSize",
    "PyErr_Clear",
    "PyErr_SetNone",
    "PyErr_SetString",
    "PyErr_WriteUnraisable",
    "PyExc_RuntimeError",
    "PyExc_StopIteration",
    "PyExc_SystemError",
    "PyUnicode_FromString",
    "Py_DecRef",
)
RUNTIME = (
    "NRT_Free",
    "NRT_MemInfo_call_dtor",
    "numba_do_raise",
    "numba_gil_ensure",
    "numba_gil_release",
    "numba_runtime_build_excinfo_struct",
    "numba_unpickle",
)
C = ("abort", "floor", "fma", "memcpy", "memmove", "memset")
"""Functions that LLVM calls where a processor has no instruction, and those that kernels must not reach."""


@cache
def imports() -> dict[str, int]:
    """Address by name of every symbol that an object file may import."""
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    found = {name: _address(library, name) for name in C}
    found |= {name: _address(ctypes.pythonapi, name) for name in INTERPRETER}
    return {name: address for name, address in found.items() if address} | dict.fromkeys(RUNTIME, found["abort"])


def _address(library: Any, name: str) -> int:
    try:
        return ctypes.addressof(ctypes.c_char.in_dll(library, name))
    except ValueError:  # an object file that needs it will be refused
        return 0


_ELF = b"\x7fELF\x02\x01"
"""First bytes of an object file of Linux and the BSDs, 64 bits, little-endian."""

_X86_64, _X86_64_RELOCATIONS = 62, {1, 2, 4, 24}
"""R_X86_64_64, PC32, PLT32 and PC64: absolute and relative addresses, all that Numba's code needs. LLVM ends the
process when it meets a kind that it does not know."""

_SYMBOLS, _RELOCATIONS = 2, 4
"""Types of sections, SHT_SYMTAB and SHT_RELA; entries of both have 24 bytes."""


def check(image: bytes) -> None:
    """Refuse an ELF object file that imports more than it may, or has relocations that LLVM might not know.

    Other kinds of object files are left to LLVM.

    Raises
    ------
    ValueError, struct.error
        There is one, or the file is damaged.
    """
    if not image.startswith(_ELF):
        return
    [machine], [table] = struct.unpack_from("<H", image, 18), struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + n * size) for n in range(count)]
    for _, kind, _, _, start, length, link, *_ in sections:
        entries = image[start : start + length // 24 * 24]
        if kind == _SYMBOLS:
            names = sections[link][4]
            needed = {
                image[names + name : image.index(b"\0", names + name)].decode()
                for name, _, _, section, _, _ in struct.iter_unpack("<IBBHQQ", entries)
                if name and not section
            }
            if unknown := needed - imports().keys():
                raise ValueError(f"imports of {sorted(unknown)}")
        elif kind == _RELOCATIONS and machine == _X86_64:
            if other := {kind for _, kind, _, _ in struct.iter_unpack("<QIIq", entries)} - _X86_64_RELOCATIONS:
                raise ValueError(f"relocations of kind {sorted(other)}")


class Linked:
    """Kernels linked from object files.

    Attributes
    ----------
    addresses : dict of str to int
        By "MODULE.FUNCTION".

    Raises
    ------
    ValueError, struct.error, RuntimeError
        An object file is damaged, or imports a symbol that it may not.
    """

    def __init__(self, objects: Iterable[tuple[str, str, bytes]]) -> None:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        self._compiler = binding.create_lljit_compiler()
        self._parts: list[Any] = []
        self.addresses: dict[str, int] = {}
        for name, symbol, image in objects:
            check(image)
            builder = binding.JITLibraryBuilder().add_object_img(image).export_symbol(symbol)
            for needed, address in imports().items():
                builder.import_symbol(needed, address)
            part = builder.link(self._compiler, name)
            self._parts.append(part)  # memory of the code lives as long as this does
            self.addresses[name] = part[symbol]

    def assembly(self, name: str) -> str | None:
        """None: there is only machine code."""
        return None
