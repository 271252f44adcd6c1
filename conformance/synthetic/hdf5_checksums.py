"""Checksums of HDF5's metadata (lookup3), so that damaged structures get past readers that compare them."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

_ALL = 0xFFFFFFFF
_SIGNATURES = re.compile(rb"OHDR|OCHK|BTHD|BTIN|BTLF|FRHP|FHIB|FAHD|FADB|EAHD|EAIB|EASB|EADB")
_LONGEST = 700
"""Bytes up to which the length of a block that does not say it itself is searched for."""


def _turned(x: int, bits: int) -> int:
    return (x << bits | x >> 32 - bits) & _ALL


def lookup3(data: bytes) -> int:
    """The 32-bit hash of bytes that HDF5 stores behind its blocks of metadata."""
    a = b = c = (0xDEADBEEF + len(data)) & _ALL
    last = max(0, (len(data) - 1) // 12 * 12)
    for x, y, z in struct.iter_unpack("<III", data[:last]):
        a, b, c = (a + x) & _ALL, (b + y) & _ALL, (c + z) & _ALL
        a, c = (a - c & _ALL) ^ _turned(c, 4), (c + b) & _ALL
        b, a = (b - a & _ALL) ^ _turned(a, 6), (a + c) & _ALL
        c, b = (c - b & _ALL) ^ _turned(b, 8), (b + a) & _ALL
        a, c = (a - c & _ALL) ^ _turned(c, 16), (c + b) & _ALL
        b, a = (b - a & _ALL) ^ _turned(a, 19), (a + c) & _ALL
        c, b = (c - b & _ALL) ^ _turned(b, 4), (b + a) & _ALL
    if not data:
        return c
    x, y, z = map(int, struct.unpack("<III", data[last:].ljust(12, b"\0")))
    a, b, c = (a + x) & _ALL, (b + y) & _ALL, (c + z) & _ALL
    c = (c ^ b) - _turned(b, 14) & _ALL
    a = (a ^ c) - _turned(c, 11) & _ALL
    b = (b ^ a) - _turned(a, 25) & _ALL
    c = (c ^ b) - _turned(b, 16) & _ALL
    a = (a ^ c) - _turned(c, 4) & _ALL
    b = (b ^ a) - _turned(a, 14) & _ALL
    return (c ^ b) - _turned(b, 24) & _ALL


def checked_blocks(data: bytes) -> list[tuple[int, int]]:
    """Offset and length of the blocks of a sound file that a checksum follows."""
    found = [(0, 44)] if data[8] in (2, 3) else []
    for match in _SIGNATURES.finditer(data):
        start = match.start()
        length = next((n for n in _lengths(data, start) if _is_right(data, start, n)), 0)
        if length:
            found.append((start, length))
    return found


def _lengths(data: bytes, start: int) -> Sequence[int]:
    """Lengths that a block may have."""
    kind = data[start : start + 4]
    if kind == b"OHDR":
        flags = data[start + 5]
        head, width = 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1), 1 << (flags & 3)
        return [head + width + int.from_bytes(data[start + head : start + head + width], "little")]
    if kind == b"OCHK":  # a message says where it is and how long
        message = data.find(start.to_bytes(8, "little"))
        return [int.from_bytes(data[message + 8 : message + 16], "little") - 4] if message >= 0 else []
    return {b"BTHD": [34], b"FRHP": [142], b"BTLF": range(6, _LONGEST)}.get(kind, range(10, _LONGEST))


def _is_right(data: bytes, start: int, length: int) -> bool:
    stored = data[start + length : start + length + 4]
    return len(stored) == 4 and lookup3(data[start : start + length]) == int.from_bytes(stored, "little")


def repaired(data: bytes, sound: bytes, blocks: list[tuple[int, int]]) -> bytes:
    """Compute the checksums of damaged blocks again.

    Parameters
    ----------
    data : bytes
        The damaged file.
    sound : bytes
        The file before.
    blocks : list of (int, int)
        Start and length of each block; its checksum of four bytes follows it.

    Returns
    -------
    bytes
        The file with right checksums of the blocks that differ from the sound file's.
    """
    out = bytearray(data)
    for start, length in blocks:
        if start + length + 4 <= len(out) and data[start : start + length] != sound[start : start + length]:
            out[start + length : start + length + 4] = lookup3(bytes(out[start : start + length])).to_bytes(4, "little")
    return bytes(out)
