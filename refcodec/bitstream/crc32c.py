"""CRC-32C, the checksum that ends every stream (SPEC 8.2).

The register is a linear function over GF(2) of its start value and of the bytes, which gives three identities:

* leading zero bytes leave a zero register at zero, so bytes may be padded at the front;
* starting from a register r equals starting from zero with r added (XOR) to the first four bytes;
* register(A + B) = extension(register(A), zero bytes as many as B has) XOR register(B), both begun at zero.

A large input is therefore cut into equal lanes that advance together, one byte per step, and neighbouring lanes are
then joined in a binary tree whose level doubles the number of zero bytes of the extension.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .fields import Buffer, as_view

POLYNOMIAL = 0x82F63B78
"""The Castagnoli polynomial 0x1EDC6F41 with its bits reflected."""

_ALL_ONES = 0xFFFFFFFF
_LANE_LEVEL = 8
_LANE = 1 << _LANE_LEVEL  # bytes per lane: long enough that the tree costs little compared with the lanes
_PIECE = 1 << 20  # bytes taken at once: bounds the copies this module makes
_SMALL = 1 << 14  # below this the plain loop is faster than NumPy's calls


def _byte_table() -> NDArray[np.uint32]:
    """Tabulate the register after one zero byte for each of the registers 0..255; [256] uint32."""
    state = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        state = (state >> 1) ^ ((state & 1) * np.uint32(POLYNOMIAL))
    return state


_TABLE = _byte_table()
_TABLE_INTS: list[int] = _TABLE.tolist()


def _transform(columns: NDArray[np.uint32], states: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Apply the GF(2) matrix whose column i is the image of bit i to every register in ``states``."""
    images = np.zeros_like(states)
    for bit in range(32):
        images ^= ((states >> bit) & 1) * columns[bit]
    return images


@cache
def _extension(level: int) -> NDArray[np.uint32]:
    """Return the columns of the extension by 2^level zero bytes, [32] uint32."""
    if level == 0:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        moved: NDArray[np.uint32] = _TABLE[bits & 0xFF] ^ (bits >> 8)
        return moved
    half = _extension(level - 1)
    return _transform(half, half)


def _advance_lanes(piece: memoryview, register: int) -> int:
    """Return the register after ``piece`` of at least four bytes, its lanes advanced side by side."""
    lanes = -(-len(piece) // _LANE)
    padded = np.zeros(lanes * _LANE, np.uint8)
    body = padded[padded.size - len(piece) :]
    body[:] = piece
    body[:4] ^= np.frombuffer(register.to_bytes(4, "little"), np.uint8)
    states = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(padded.reshape(lanes, _LANE).T):
        states = _TABLE[(states ^ column) & 0xFF] ^ (states >> 8)
    level = _LANE_LEVEL
    while states.size > 1:
        if states.size % 2:
            states = np.concatenate([np.zeros(1, np.uint32), states])
        states = _transform(_extension(level), states[0::2]) ^ states[1::2]
        level += 1
    return int(states[0])


def crc32c(data: Buffer) -> int:
    """(SPEC 8.2) CRC-32C of ``data``: Castagnoli polynomial, reflected, begun and ended with all ones.

    Parameters
    ----------
    data : bytes-like
        Any number of bytes.

    Returns
    -------
    int
        The checksum, 0..2^32 - 1.

    Raises
    ------
    UsageError
        ``data`` is not bytes-like.
    """
    view = as_view(data)
    register = _ALL_ONES
    for start in range(0, len(view), _PIECE):
        piece = view[start : start + _PIECE]
        if len(piece) >= _SMALL:
            register = _advance_lanes(piece, register)
        else:
            for byte in piece:
                register = _TABLE_INTS[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ _ALL_ONES
