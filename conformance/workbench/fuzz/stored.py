"""Payloads of ALPH and LOSS in any coding of samples and with any rectangles, right or faulty (SPEC 8.10, 8.11).

A faulty payload has one of the faults that its form allows, and what surrounds it is right: heads, lengths, zlib
streams and their check values.
"""

from __future__ import annotations

import struct
import zlib
from random import Random

ROW_CODES, TABLE = 1, 3
"""Bit of a kind that says codes instead of rows, and kind // 2 of those with a table of colours (SPEC 8.10)."""

BOMB = 1 << 22
"""Bytes of a zlib stream that inflates to far more than its pixels need."""


def _rows(random: Random, height: int, width: int, size: int, values: int = 256) -> bytes:
    """(SPEC 8.10-9) Rows of random pixels with random filters."""
    flat = random.random() < 0.5
    parts = []
    for _ in range(height):
        own = bytes([random.randrange(values)]) * (width * size) if flat else random.randbytes(width * size)
        if values < 256 and not flat:
            own = bytes(v % values for v in own)
        parts.append(bytes([random.randrange(5) if values == 256 else 0]) + own)
    return b"".join(parts)


def _codes(random: Random, height: int, width: int, size: int) -> tuple[bytes, bytes, bytes]:
    """(SPEC 8.10-13) Form and number of listed colours, the codes and the colours."""
    shift, neighbours = random.randrange(4), random.randrange(16)
    bits = 1 << shift
    while neighbours.bit_count() > 1 << bits:
        neighbours &= neighbours - 1
    listed = random.randrange(min(255, (1 << bits) - neighbours.bit_count()) + 1)
    new = listed + neighbours.bit_count()
    most = min(new, (1 << bits) - 1)
    rows, taken = bytearray(), 0
    for _ in range(height):
        row = 0
        codes = [random.randint(0, most) for _ in range(width)]
        taken += codes.count(new)
        for code in codes:
            row = row << bits | code
        count = -(-width * bits // 8)
        rows += b"\0" + (row << 8 * count - width * bits).to_bytes(count, "big")
    return bytes([shift << 4 | neighbours, listed]), bytes(rows), random.randbytes((listed + taken) * size)


def _packed(random: Random, data: bytes, fault: str) -> bytes:
    """A zlib stream of bytes, with a fault in it."""
    if fault == "inflated" and data:
        at = random.randrange(len(data))
        data = data[:at] + bytes([random.choice((5, 255, random.randrange(256)))]) + data[at + 1 :]
    elif fault == "longer":
        data += random.randbytes(random.choice((1, 3, 300)))
    elif fault == "shorter":
        data = data[: random.randrange(len(data) + 1)]
    elif fault == "bomb":
        data += bytes(BOMB)
    stream = zlib.compress(data, random.choice((0, 1, 9)))
    if fault == "zlib":
        at = random.randrange(len(stream))
        stream = stream[:at] + bytes([stream[at] ^ 1 << random.randrange(8)]) + stream[at + 1 :]
    elif fault == "cut":
        stream = stream[: random.randrange(len(stream))]
    elif fault == "behind":
        stream += random.randbytes(random.choice((1, 4, 40)))
    elif fault == "empty blocks":
        stream = stream[:2] + b"\0\0\0\xff\xff" * random.choice((1, 20, 2000)) + stream[2:]
    return stream


FAULTS = ("inflated", "longer", "shorter", "bomb", "zlib", "cut", "behind", "empty blocks", "kind", "head", "rest")
"""Possible faults of a payload of samples."""


def samples_payload(random: Random, height: int, width: int, channels: int, share: float = 0.5) -> bytes:
    """(SPEC 8.10) A payload of random samples in a random coding.

    Parameters
    ----------
    random : Random
    height, width, channels : int
        Of the samples; sides beyond 300 are cut to 300, which is a separate fault.
    share : float
        Of the payloads that get a fault, 0 to 1.

    Returns
    -------
    bytes
    """
    height, width = min(height, 300), min(width, 300)
    fault = random.choice(FAULTS) if random.random() < share else ""
    kind = random.randrange(8 if channels == 3 else 2)
    size = 1 if kind // 2 > 1 else channels
    head, entries = bytearray([kind]), 256
    if kind // 2 == TABLE:
        entries = random.choice((1, 2, 5, 256))
        head += bytes([entries - 1]) + random.randbytes(3 * entries)
    streams: list[bytes] = []
    if kind & ROW_CODES:
        form, codes, colours = _codes(random, height, width, size)
        if kind // 2 == TABLE:
            colours = bytes(v % entries for v in colours)
        faulty = random.randrange(2)
        streams = [_packed(random, data, fault if n == faulty else "") for n, data in enumerate((codes, colours))]
        head += form + struct.pack("<I", len(streams[0]))
    else:
        streams = [_packed(random, _rows(random, height, width, size, entries), fault)]
    if fault == "kind":
        head[0] = random.choice((kind ^ 1, kind ^ 2, 8, 255, random.randrange(256)))
    elif fault == "head":
        at = random.randrange(len(head))
        head[at] = random.choice((0, 255, random.randrange(256)))
    payload = bytes(head) + b"".join(streams)
    return payload[: random.randrange(len(payload))] if fault == "rest" else payload


def rectangle_list(random: Random, height: int, width: int, channels: int, share: float = 0.5) -> bytes:
    """(SPEC 8.11) A list of a few rectangles for LOSS.

    Parameters
    ----------
    random : Random
    height, width, channels : int
        Of the picture.
    share : float
        Of the lists, and of their payloads, that get a fault, 0 to 1.

    Returns
    -------
    bytes
    """
    rectangles: list[list[int]] = []
    top = 0
    while top < min(height, 1000) and len(rectangles) < 6:
        rows = random.randint(1, min(40, height - top))
        left = random.randrange(width)
        rectangles.append([left, top, random.randint(1, min(40, width - left)), rows])
        top += rows + random.randrange(30)
    most = -(-width // 64) * -(-height // 64)
    rectangles = rectangles[: max(1, min(most, random.randint(1, 6)))] if rectangles else []
    payloads = [samples_payload(random, h, w, channels, share) for _, _, w, h in rectangles]
    entries = [[*place, len(payload)] for place, payload in zip(rectangles, payloads, strict=True)]
    count = len(entries)
    if random.random() < share:
        kind = random.randrange(5)
        if kind == 0:
            count = random.choice((0, count + 1, count - 1, 65536, 65537, (1 << 32) - 1))
        elif kind == 1:
            entry = random.choice(entries)
            entry[random.randrange(5)] = random.choice((0, 1, 64, width, height, (1 << 31), (1 << 32) - 1))
        elif kind == 2:
            random.shuffle(entries)
        elif kind == 3:
            entries[-1] = list(entries[0])
        else:
            payloads[-1] += random.randbytes(random.choice((1, 20)))
    head = struct.pack("<I", count % (1 << 32))
    return head + b"".join(struct.pack("<5I", *entry) for entry in entries) + b"".join(payloads)
