"""The universal integer tables of SPEC annex A: activations, exponentials, scale indices and Gaussian frequency tables.

They are data, not computed at run time: libraries of mathematical functions differ in their last digit from machine
to machine, and one differing entry would separate decoders. ``python -m weights_converter tables``
regenerates them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidModel, ModelError
from .hdf5 import Hdf5
from .hdf5_arrays import read_all
from .symbol_tables import SymbolTables

PATH = Path(__file__).parents[1] / "data" / "tables.h5"

FRACTION_BITS = range(4, 13)
"""Formats Q4..Q12 for which activation tables exist (SPEC A.2, A.3)."""

PINS: dict[str, tuple[str, int, str]] = {
    "gelu_q4": ("int16", 37, "ca401412cdc4200491c2c4701ef9c5295fd5f09c63c1c9efb33305b71e22bafc"),
    "gelu_q5": ("int16", 81, "dada996a73f0cbe9282342d662ba3f500d3f6d92b562e6d7573114319eb82a03"),
    "gelu_q6": ("int16", 179, "17f6f40b68770f4c7c2341235488126800feff95aee6e2b02b632069d800e707"),
    "gelu_q7": ("int16", 387, "2aabee4b3e135c5826a9c0dfb620a720a03b1b7ff44232613709b0ea02b5c235"),
    "gelu_q8": ("int16", 830, "d6dff61d086d2613c2820bf2edfb2ba48a5a19b5e2582316689ed349e443e6ed"),
    "gelu_q9": ("int16", 1766, "6aa1c8ce96a3a17e59ae7a6b7ad0c8c485e39d49183de235ae13a0b6420f4947"),
    "gelu_q10": ("int16", 3733, "7e69a334de201c574cfd1510947dd14bea70e2bff7b60eb02cbef20630de6b02"),
    "gelu_q11": ("int16", 7848, "b76f5e4e4d8f12f18e36092665999769407fb75613f2893fb065254296df9d2d"),
    "gelu_q12": ("int16", 16424, "ca4c428e315b1877312357f7a60ef58982931cd9aca3c104c9ee05157a93bf02"),
    "half_tanh_q4": ("int16", 40, "083d348f74c4c923ae2006cf3b08c894d4cee2f0aea8a39f59f2cad805f4257e"),
    "half_tanh_q5": ("int16", 79, "6d71e1fa96a0ea5ff406ff91bb070a4fe8d2dfafb3262576bffaceaf03e6f63e"),
    "half_tanh_q6": ("int16", 157, "1c56c89444c35e0d55d3e7b6722446878a2c418622e8e99067610fdbe93416d4"),
    "half_tanh_q7": ("int16", 312, "2ef8edb7d6d77b5cf437c889edcd4c010df16ace944292f1fff23a53c0655e44"),
    "half_tanh_q8": ("int16", 622, "76985a29f81aba4bcc6e453d96dfc4f4b2458cd19128c195f0c18a03712ad75d"),
    "half_tanh_q9": ("int16", 1242, "e7947b8b644f6a06a67aac702038be92f3ecd3ea1fc910b32c2ebf8cc029a987"),
    "half_tanh_q10": ("int16", 2482, "523c12da8a1ad5a39430bfd2c5d04014736938b07a552518ae8ce0c734632ee0"),
    "half_tanh_q11": ("int16", 4962, "92af4a42ba0c4a793632d32c232fe0ca47e769473772d4b697a1e76ad274b65f"),
    "half_tanh_q12": ("int16", 9922, "afd54949b800118abc63f65c621ab1f8efbde5834689873043f53fa04ddfeb93"),
    "exp2": ("int32", 257, "af5b142bfb62ed2edf05e5a5aa47e6dd3b3aebbba2684d7ff4d7f3f9839cb067"),
    "scale_thresholds": ("int32", 127, "c8147cb80c476ef78f0f2c64883aa5de05a570174e13ec875aba6ae38a4b61c6"),
    "gaussian_cdf": ("int32", 32506, "de8208cfbb05be051e16d8be56a55d8438d7bd6f564fb325eb65bf76f451d77d"),
    "gaussian_start": ("int32", 129, "5e8814c12d14c2398de7634280403ad25c127fcdafca33cde332fd4aca37c033"),
    "gaussian_first": ("int32", 128, "88b76eb44214712d7948564a9fefb0796fccd06981daf810919da8b875591701"),
}
"""Type, size and SHA-256 of the little-endian bytes of each table (SPEC A.8)."""


@dataclass(frozen=True, eq=False)
class Tables:
    """(SPEC A.8) All universal tables, read-only.

    Attributes
    ----------
    gelu : mapping of int to np.ndarray
        By fraction bits f in 4..12, int16, Qf: max(x, 0) - GELU(x) at |x| = i / 2^f. Ends in the first 0
        after the last other entry; the index is clamped to the last.
    half_tanh : mapping of int to np.ndarray
        By fraction bits f in 4..12, int16, Q6: tanh(i / 2^f) / 2. Ends in its only 32; the index is clamped
        to the last.
    exp2 : np.ndarray
        [257] int32, Q24: 2^(-i / 256).
    thresholds : np.ndarray
        [127] int32, Q10, strictly increasing; a scale's level is the number of thresholds <= it.
    gaussian : SymbolTables
        [128] tables, one a level.
    """

    gelu: Mapping[int, NDArray[np.int16]]
    half_tanh: Mapping[int, NDArray[np.int16]]
    exp2: NDArray[np.int32]
    thresholds: NDArray[np.int32]
    gaussian: SymbolTables

    def arrays(self) -> dict[str, np.ndarray]:
        """(SPEC A.8) All tables by name, as the data file holds them."""
        return {
            **{f"gelu_q{f}": table for f, table in self.gelu.items()},
            **{f"half_tanh_q{f}": table for f, table in self.half_tanh.items()},
            "exp2": self.exp2,
            "scale_thresholds": self.thresholds,
            "gaussian_cdf": self.gaussian.cdf,
            "gaussian_start": self.gaussian.start,
            "gaussian_first": self.gaussian.first,
        }


def digest(table: np.ndarray) -> str:
    """(SPEC A.8) SHA-256 of a table's little-endian bytes, in hexadecimal."""
    return hashlib.sha256(table.astype(table.dtype.newbyteorder("<")).tobytes()).hexdigest()


@cache
def load_tables(path: Path = PATH) -> Tables:
    """(SPEC A.8) Read the universal tables and check them against their pins; read once per process.

    Raises
    ------
    InvalidModel
        The file is missing, damaged or of another version.
    """
    return tables_of(load_arrays(path))


def tables_of(arrays: Mapping[str, np.ndarray]) -> Tables:
    """(SPEC A.8) The tables from their arrays by name, which ``PINS`` holds for."""
    return Tables(
        gelu=MappingProxyType({f: arrays[f"gelu_q{f}"] for f in FRACTION_BITS}),
        half_tanh=MappingProxyType({f: arrays[f"half_tanh_q{f}"] for f in FRACTION_BITS}),
        exp2=arrays["exp2"],
        thresholds=arrays["scale_thresholds"],
        gaussian=SymbolTables(arrays["gaussian_cdf"], arrays["gaussian_start"], arrays["gaussian_first"]),
    )


@cache
def load_arrays(path: Path = PATH) -> dict[str, np.ndarray]:
    """(SPEC A) The tables as arrays by the names of annex A; a model file carries them under ``tables/``.

    Raises
    ------
    InvalidModel
        The file is missing, damaged or of another version.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            found = Hdf5(file, path.name).datasets()
            if {name: (d.dtype, d.shape) for name, d in found.items()} != {
                name: (dtype, (size,)) for name, (dtype, size, _) in PINS.items()
            }:
                raise _damaged(path.name)
            arrays = read_all(found)
    except (OSError, ModelError) as error:
        raise _damaged(f"{path.name}: {error}") from error
    for name, (_, _, pin) in PINS.items():
        if digest(arrays[name]) != pin:
            raise _damaged(name)
        arrays[name].flags.writeable = False
    return arrays


def _damaged(where: str) -> InvalidModel:
    return InvalidModel("the package's data is damaged", where=where, cause="install refcodec again")
