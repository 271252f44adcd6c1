"""A small ICC profile of an imagined press: CMYK to Lab by the sixteen corners of its colours."""

from __future__ import annotations

import itertools
import struct

import numpy as np

_TO_XYZ = np.array([[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
"""sRGB to XYZ of D50."""


def _lab(rgb: np.ndarray) -> list[int]:
    f = np.cbrt(_TO_XYZ @ rgb / [0.9642, 1.0, 0.8249])
    lab = 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
    return [round(max(0, lab[0]) * 255 / 100), round(lab[1] + 128), round(lab[2] + 128)]


def cmyk_profile() -> bytes:
    """The bytes of the profile."""
    corners = itertools.product((0, 1), repeat=4)
    table = [_lab(np.array([(1 - ink) * (1 - k) for ink in (c, m, y)])) for c, m, y, k in corners]
    ramp, matrix = bytes(range(256)), struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + 4 * ramp + bytes(itertools.chain(*table)) + 3 * ramp
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, 6) + b"press\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"no copyright\0",
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        b"A2B0": lut,
    }
    at, index, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        index += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        ">I4xI4s4s4s6H4s", at + len(body), 0x02400000, b"prtr", b"CMYK", b"Lab ", *(2000, 1, 1, 0, 0, 0), b"acsp"
    )
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + index + body


__all__ = ["cmyk_profile"]
