"""Digests of blocks of a picture: where two pictures differ is seen without the expected one. Never imports refcodec.

A picture is cut into square blocks whose side is the smallest power of two that gives at most `MOST` of them; those at
the right and at the bottom may be smaller. The digest of a block is the first two bytes of SHA-256 over its samples,
row by row, channels interleaved. Digests are in raster order, all together in base64.
"""

from __future__ import annotations

import base64
import hashlib
from binascii import Error

import numpy as np

from .vectors import Accept

MOST = 64
"""Blocks of a picture: more would show more, and take more of the manifests."""

BYTES = 2
"""Of a digest. One block in 65536 that differs looks equal; SHA-256 of all samples decides what passes."""


def side(width: int, height: int) -> int:
    """Rows and columns of a block, in pixels."""
    found = 1
    while -(-width // found) * -(-height // found) > MOST:
        found *= 2
    return found


def _shape(expect: Accept) -> tuple[int, int]:
    """Rows and columns of blocks."""
    block = side(expect.width, expect.height)
    return -(-expect.height // block), -(-expect.width // block)


def digests(samples: np.ndarray) -> str:
    """Digests of all blocks.

    Parameters
    ----------
    samples : [H, W] or [H, W, C] uint8

    Returns
    -------
    str
        In base64.
    """
    block = side(samples.shape[1], samples.shape[0])
    parts = [
        hashlib.sha256(samples[row : row + block, column : column + block].tobytes()).digest()[:BYTES]
        for row in range(0, samples.shape[0], block)
        for column in range(0, samples.shape[1], block)
    ]
    return base64.b64encode(b"".join(parts)).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (Error, ValueError):
        return b""


def are_digests(text: str, expect: Accept) -> bool:
    """Whether a text has the form of the digests of such a picture."""
    rows, columns = _shape(expect)
    return text.isascii() and len(_bytes(text)) == BYTES * rows * columns


def differing(expect: Accept, samples: bytes) -> np.ndarray:
    """Which blocks of a picture differ from the expected ones.

    Parameters
    ----------
    expect : Accept
        With digests of blocks.
    samples : bytes
        As many as are expected.

    Returns
    -------
    [rows, columns] bool
    """
    array = np.frombuffer(samples, np.uint8).reshape(expect.height, expect.width, expect.channels)
    pairs = (np.frombuffer(_bytes(text), np.uint8).reshape(-1, BYTES) for text in (expect.blocks, digests(array)))
    own, got = pairs
    apart: np.ndarray = (own != got).any(axis=1).reshape(_shape(expect))
    return apart
