"""CRC-32C (SPEC 8.2): standard values, the bitwise definition, and the lanes of large inputs."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module

from refcodec.bitstream.crc32c import crc32c
from refcodec.errors import UsageError

SPEC = spec_module()
LANES_FROM = 1 << 14  # input size from which lanes are used
PIECE = 1 << 20

same = settings(derandomize=True, deadline=None, max_examples=60)


def random_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@cache
def table() -> list[int]:
    """It comes from the bitwise definition's linearity."""
    return [SPEC.crc32c(bytes([byte])) ^ SPEC.crc32c(b"\0") for byte in range(256)]


def plain(data: bytes) -> int:
    """One table look-up per byte, eight times as fast as the definition."""
    entries, register = table(), 0xFFFFFFFF
    for byte in data:
        register = entries[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data, expected):
    assert crc32c(data) == SPEC.crc32c(data) == plain(data) == expected


@same
@given(st.binary(max_size=300))
def test_small_inputs_follow_the_definition(data):
    assert crc32c(data) == plain(data) == SPEC.crc32c(data)


@same
@given(st.integers(LANES_FROM - 3, LANES_FROM + 1500), st.integers(0, 1 << 16))
def test_lanes_follow_the_table_loop(size, seed):
    data = random_bytes(size, seed)
    assert crc32c(data) == plain(data)


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, PIECE + LANES_FROM - 1, PIECE + LANES_FROM + 77])
def test_several_pieces_follow_the_table_loop(size):
    data = random_bytes(size)
    assert crc32c(data) == plain(data)


@pytest.mark.parametrize("size", [0, 1, 100, LANES_FROM, 3 * PIECE + 5])
def test_a_message_followed_by_its_checksum_leaves_the_residue(size):
    data = random_bytes(size)
    assert crc32c(data + crc32c(data).to_bytes(4, "little")) == 0x48674BC7


@pytest.mark.parametrize("size", [64, LANES_FROM + 300])
def test_every_kind_of_buffer_is_read_alike(size):
    data = random_bytes(size)
    expected = crc32c(data)
    assert crc32c(bytearray(data)) == crc32c(memoryview(data)) == expected
    assert crc32c(np.frombuffer(data, np.uint16).data) == expected


@pytest.mark.parametrize("data", ["text", 7, None, memoryview(bytes(8))[::2]])
def test_other_arguments_are_refused(data):
    with pytest.raises(UsageError):
        crc32c(data)
