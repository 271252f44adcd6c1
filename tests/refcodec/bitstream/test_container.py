"""The .loclic container (SPEC 8): round trips, every refusal, and agreement with the executable specification."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module

from refcodec import limits
from refcodec.bitstream import container
from refcodec.bitstream.container import (
    Header,
    Stream,
    check_limits,
    parse,
    parse_header,
    reconstruction_digest,
    serialise,
)
from refcodec.bitstream.crc32c import crc32c
from refcodec.bitstream.fields import FIELDS, FIXED_SIZE, HEADER_SIZE
from refcodec.bitstream.info import describe
from refcodec.errors import (
    BadMagic,
    ChecksumError,
    ChunkError,
    HeaderError,
    InvalidStream,
    LimitExceeded,
    TrailingBytes,
    TruncatedStream,
    UnknownRequiredChunk,
    UnknownVersion,
    Unsupported,
    UsageError,
)
from refcodec.limits import Limits

SPEC = spec_module()
FINGERPRINT = bytes(range(16))
DIGEST = bytes(range(100, 116))
CHUNKS = (("exif", b"II*\0"), ("zz 9", b""))

same = settings(derandomize=True, deadline=None, max_examples=150)


def arguments(**changes):
    """Arguments of a small valid stream."""
    return {
        "width": 40,
        "height": 30,
        "channels": 3,
        "quality": 60,
        "fingerprint": FINGERPRINT,
        "z": b"\x5a\xa5",
        "y": b"\x01\x02\x03",
        "digest": None,
        "chunks": (),
        **changes,
    }


def small(**changes) -> bytes:
    return serialise(**arguments(**changes))


PLAIN = small()
FULL = small(digest=DIGEST, chunks=CHUNKS)


def seal(body: bytes) -> bytes:
    """``body`` followed by its right checksum."""
    return body + crc32c(body).to_bytes(4, "little")


def patched(data: bytes, offset: int, replacement: bytes) -> bytes:
    """Replace some bytes of ``data`` and make the checksum right again."""
    return seal(data[:offset] + replacement + data[offset + len(replacement) : -4])


def chunk(tag: bytes, payload: bytes = b"", length: int | None = None) -> bytes:
    return tag + (len(payload) if length is None else length).to_bytes(4, "little") + payload


def with_tail(tail: bytes) -> bytes:
    """Put ``tail`` into the small stream, between its segments and a right checksum."""
    return seal(PLAIN[:-4] + tail)


def refusal(data: bytes) -> str:
    """Name the error on which implementation and specification agree; empty if both accept."""
    try:
        stream = parse(data)
        ours = ""
    except (InvalidStream, Unsupported) as error:
        json.dumps(error.fields())
        ours = type(error).__name__
    try:
        fields = SPEC.parse_stream(data)
        defined = ""
    except ValueError as error:
        defined = str(error)
    assert ours == defined
    if not ours:
        header = stream.header
        for name in (
            "width",
            "height",
            "channels",
            "quality",
            "fingerprint",
            "digest",
            "z_length",
            "y_length",
            "version",
            "tile_width",
            "tile_height",
        ):
            assert getattr(header, name) == fields[name], name
        assert (stream.z, stream.y, list(stream.chunks)) == (fields["z"], fields["y"], fields["chunks"])
    return ours


# Round trips

tags = st.one_of(st.sampled_from(container.KNOWN_CHUNKS), st.from_regex(r"\A[a-z][A-Za-z0-9 ]{3}\Z"))
streams = st.fixed_dictionaries(
    {
        "width": st.integers(1, 1 << 20),
        "height": st.integers(1, 2048),
        "channels": st.sampled_from([1, 3]),
        "quality": st.integers(1, 100),
        "fingerprint": st.binary(min_size=16, max_size=16),
        "z": st.binary(max_size=20),
        "y": st.binary(max_size=20),
        "digest": st.none() | st.binary(min_size=16, max_size=16),
        "chunks": st.lists(st.tuples(tags, st.binary(max_size=20)), max_size=4, unique_by=lambda item: item[0]),
    }
)


@same
@given(streams)
def test_what_is_written_is_read_back(values):
    data = serialise(**values)
    assert data == SPEC.serialise_stream(**values)
    header = Header(
        values["width"],
        values["height"],
        values["channels"],
        values["quality"],
        values["fingerprint"],
        len(values["z"]),
        len(values["y"]),
        values["digest"],
    )
    assert parse(data) == Stream(header, values["z"], values["y"], tuple(values["chunks"]))
    assert parse_header(data[:60]) == header
    assert refusal(data) == ""


@same
@given(streams)
def test_the_overhead_is_what_the_format_promises(values):
    data = serialise(**{**values, "chunks": ()})
    assert len(data) - len(values["z"]) - len(values["y"]) == (48 if values["digest"] is None else 64)


def test_the_bytes_stand_where_the_diagram_says():
    assert FULL[:44] == (
        b"\x89LIC"
        + bytes([0, 1, 3, 60])
        + b"\x28\0\0\0"
        + b"\x1e\0\0\0"
        + FINGERPRINT
        + bytes(4)
        + b"\x02\0\0\0"
        + b"\x03\0\0\0"
    )
    assert FULL[44:-4] == (DIGEST + b"\x5a\xa5" + b"\x01\x02\x03" + b"exif\x04\0\0\0II*\0" + b"zz 9\0\0\0\0")


def test_the_field_table_is_that_of_the_specification():
    numbers = {
        field.name: (field.offset, field.end - field.offset, list(field.allowed or ()))
        for field in FIELDS
        if not field.code.endswith("s") and field.end - field.offset < 4
    }
    assert numbers == {
        name: (offset, size, list(allowed)) for name, offset, size, allowed in SPEC.CONTAINER_FIELDS if size < 4
    }
    long = {field.name: (field.offset, 4, field.allowed) for field in FIELDS if field.code == "I"}
    assert long == {name: (offset, 4, allowed) for name, offset, size, allowed in SPEC.CONTAINER_FIELDS if size == 4}
    assert [field.offset for field in FIELDS[1:]] == [field.end for field in FIELDS[:-1]]
    assert (FIXED_SIZE, HEADER_SIZE) == (44, 60)


def test_bytes_like_arguments_are_read_alike():
    assert parse(bytearray(FULL)) == parse(memoryview(FULL)) == parse(FULL)
    assert serialise(**arguments(width=np.uint32(40), height=np.uint8(30), z=memoryview(b"\x5a\xa5"))) == PLAIN


# Header fields


@pytest.mark.parametrize(
    ("offset", "value", "error", "field"),
    [
        *[(i, bytes([PLAIN[i] ^ 1]), BadMagic, "magic") for i in range(4)],
        (4, b"\x01", UnknownVersion, "version"),
        (4, b"\xff", UnknownVersion, "version"),
        (5, b"\x02", HeaderError, "flags"),
        (5, b"\x80", HeaderError, "flags"),
        (5, b"\x03", HeaderError, "flags"),
        (6, b"\x00", HeaderError, "channels"),
        (6, b"\x02", HeaderError, "channels"),
        (6, b"\x04", HeaderError, "channels"),
        (7, b"\x00", HeaderError, "quality"),
        (7, b"\x65", HeaderError, "quality"),
        (8, bytes(4), HeaderError, "width"),
        (8, b"\x01\x00\x10\x00", HeaderError, "width"),
        (12, bytes(4), HeaderError, "height"),
        (12, b"\x01\x00\x10\x00", HeaderError, "height"),
        (32, b"\x01\x00", HeaderError, "tile_width"),
        (32, b"\x00\x80", HeaderError, "tile_width"),
        (34, b"\x01\x00", HeaderError, "tile_height"),
        (34, b"\x00\x80", HeaderError, "tile_height"),
        (36, b"\0\0\0\x80", HeaderError, "z_length"),
        (40, b"\0\0\0\x80", HeaderError, "y_length"),
        (8, b"\0\0\x10\0\x01\x08\0\0", HeaderError, "width, height"),
    ],
)
def test_the_first_illegal_values_are_refused_by_name(offset, value, error, field):
    data = patched(PLAIN, offset, value)
    assert refusal(data) == error.__name__
    for read in (parse, parse_header):
        with pytest.raises(error) as caught:
            read(data)
        assert caught.value.values["field"] == field
        assert "allowed" in caught.value.values and "value" in caught.value.values and "SPEC 8.1" in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (6, b"\x01"),
        (7, b"\x01"),
        (7, b"\x64"),
        (8, b"\0\0\x10\0"),
        (12, b"\0\0\x10\0"),
        (8, b"\0\0\x10\0\0\x08\0\0"),
        (8, b"\x01\0\0\0\x01\0\0\0"),
        (16, b"\xff" * 16),
    ],
)
def test_the_last_legal_values_are_accepted(offset, value):
    assert refusal(patched(PLAIN, offset, value)) == ""


def test_lengths_below_the_bound_are_legal_in_the_header():
    data = patched(PLAIN, 36, b"\xff\xff\xff\x7f\xff\xff\xff\x7f")
    header = parse_header(data)
    assert header.z_length == header.y_length == 2**31 - 1
    assert refusal(data) == "TruncatedStream"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"width": 0}, "width"),
        ({"width": (1 << 20) + 1}, "width"),
        ({"height": 0}, "height"),
        ({"height": -1}, "height"),
        ({"height": 1 << 40}, "height"),
        ({"channels": 2}, "channels"),
        ({"quality": 0}, "quality"),
        ({"quality": 101}, "quality"),
        ({"quality": 50.0}, "quality"),
        ({"quality": "60"}, "quality"),
        ({"fingerprint": bytes(15)}, "fingerprint"),
        ({"fingerprint": bytes(17)}, "fingerprint"),
        ({"fingerprint": "0" * 16}, "fingerprint"),
        ({"digest": bytes(20)}, "digest"),
        ({"digest": b""}, "digest"),
        ({"width": 1 << 20, "height": 2049}, "positions"),
        ({"z": "text"}, "bytes-like"),
        ({"y": None}, "bytes-like"),
        ({"chunks": [("exif", b""), ("exif", b"")]}, "twice"),
        ({"chunks": [("EXIF", b"")]}, "requires"),
        ({"chunks": [("xmp", b"")]}, "tag"),
        ({"chunks": [("1abc", b"")]}, "tag"),
        ({"chunks": [("xm\0p", b"")]}, "tag"),
        ({"chunks": [("éxif", b"")]}, "tag"),
        ({"chunks": [(b"exif", b"")]}, "tag"),
        ({"chunks": [("exif", "text")]}, "bytes-like"),
        ({"chunks": [(f"a{i:03}", b"") for i in range(65)]}, "64"),
        ({"chunks": [("iccp", bytes(limits.MAX_METADATA_BYTES + 1))]}, "longer"),
    ],
)
def test_the_writer_refuses_what_a_reader_would(changes, name):
    with pytest.raises(UsageError, match=name):
        small(**changes)


# Damage


@pytest.mark.parametrize("data", [PLAIN, FULL, small(digest=DIGEST), small(z=b"", y=b"")])
def test_every_truncation_is_refused(data):
    stream = parse(data)
    without_chunks = stream.header.size + len(stream.z) + len(stream.y) + 4
    for size in range(len(data)):
        expected = BadMagic if size < 4 else TruncatedStream if size < without_chunks else ChecksumError
        assert refusal(data[:size]) == expected.__name__, size


@pytest.mark.parametrize("data", [PLAIN, FULL])
def test_every_flipped_bit_is_refused(data):
    seen = set()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        name = refusal(bytes(damaged))
        assert name, bit
        seen.add(name)
    assert seen == {"BadMagic", "UnknownVersion", "HeaderError", "TruncatedStream", "ChecksumError"}


@pytest.mark.parametrize("data", [PLAIN, FULL])
@same
@given(tail=st.binary(min_size=1, max_size=24))
def test_appended_bytes_are_refused(data, tail):
    assert refusal(data + tail) in ("TrailingBytes", "ChecksumError")
    assert refusal(seal(data + tail)) == "TrailingBytes"


@same
@given(
    st.sampled_from([PLAIN, FULL]),
    st.integers(0, 30),
    st.lists(st.tuples(st.integers(0, 43), st.integers(0, 255)), max_size=3),
    st.binary(max_size=12),
)
def test_arbitrary_damage_is_judged_as_specified(data, cut, edits, tail):
    body = bytearray(data[:-4])
    for offset, value in edits:
        body[offset] = value
    damaged = bytes(body[: len(body) - cut]) + tail
    refusal(seal(damaged))
    refusal(damaged + data[-4:])


@same
@given(st.binary(max_size=80))
def test_arbitrary_bytes_after_the_magic_and_version_are_judged_as_specified(data):
    refusal(data)
    refusal(b"\x89LIC\0" + data)
    refusal(with_tail(data))


def test_a_wrong_checksum_shows_both_values():
    with pytest.raises(ChecksumError) as caught:
        parse(PLAIN[:-4] + b"\x01\x02\x03\x04")
    assert caught.value.values == {"stored": "04030201", "computed": f"{SPEC.crc32c(PLAIN[:-4]):08x}"}
    assert caught.value.where.startswith(f"byte {len(PLAIN) - 4} ")


@pytest.mark.parametrize("data", ["\x89LIC", None, 3, [1, 2]])
def test_what_is_not_bytes_is_a_usage_error(data):
    for read in (parse, parse_header, describe):
        with pytest.raises(UsageError):
            read(data)


def test_the_order_of_checks():
    everything_wrong = b"\x89LIC\x07" + b"\xff" * 70
    assert refusal(b"\x88" + everything_wrong[1:]) == "BadMagic"
    assert refusal(everything_wrong[:5]) == refusal(everything_wrong) == "UnknownVersion"
    assert refusal(b"\x89LIC\0" + b"\xff" * 38) == "TruncatedStream"
    assert refusal(b"\x89LIC\0" + b"\xff" * 39) == "HeaderError"
    assert refusal(FULL[:59]) == "TruncatedStream"
    assert refusal(FULL[:8] + bytes(4) + FULL[12:59]) == "HeaderError"
    too_large = FULL[:8] + b"\0\0\x10\0\0\0\x10\0" + FULL[16:]
    assert refusal(too_large[:59]) == "TruncatedStream"
    assert refusal(too_large[:60]) == "HeaderError"
    assert refusal(FULL[:60]) == "TruncatedStream"
    assert refusal(PLAIN[:-4] + b"junk" + PLAIN[-4:]) == "ChecksumError"


# Chunks


def test_unknown_optional_chunks_are_kept_in_order():
    assert parse(FULL).chunks == CHUNKS
    many = [(f"a{i:03}", bytes([i])) for i in range(64)]
    assert parse(small(chunks=many)).chunks == tuple(many)


@pytest.mark.parametrize(
    ("tail", "error"),
    [
        *[(b"exif\0\0\0"[:size], TrailingBytes) for size in range(1, 8)],
        (chunk(b"exif", b"abc", 4), TrailingBytes),
        (chunk(b"exif", b"", 0xFFFFFFFF), TrailingBytes),
        (chunk(b"\0\0\0\0"), TrailingBytes),
        (chunk(b"1abc"), TrailingBytes),
        (chunk(b" abc"), TrailingBytes),
        (chunk(b"xm-p"), TrailingBytes),
        (chunk(b"ex\xe9f"), TrailingBytes),
        (chunk(b"\xb5abc"), TrailingBytes),
        (chunk(b"exif", b"ab") + b"c", TrailingBytes),
        (chunk(b"exif") + chunk(b"exif"), ChunkError),
        (chunk(b"abcd") + chunk(b"xmp ") + chunk(b"abcd"), ChunkError),
        (b"".join(chunk(b"a%03d" % i) for i in range(65)), ChunkError),
        (chunk(b"EXIF"), UnknownRequiredChunk),
        (chunk(b"Z   ", b"payload"), UnknownRequiredChunk),
        (chunk(b"exif") + chunk(b"Abcd") + b"x", UnknownRequiredChunk),
        (chunk(b"exif") + chunk(b"exif") + chunk(b"Abcd"), ChunkError),
        (chunk(b"Abcd", b"", 1), TrailingBytes),
    ],
)
def test_chunks_that_break_a_rule_are_refused(tail, error):
    data = with_tail(tail)
    assert refusal(data) == error.__name__
    with pytest.raises(error, match=r"SPEC 8\.4"):
        parse(data)


def test_the_longest_payload_is_accepted_and_the_next_refused():
    payload = bytes(limits.MAX_METADATA_BYTES)
    assert parse(small(chunks=[("iccp", payload)])).chunks == (("iccp", payload),)
    with pytest.raises(ChunkError):
        parse(with_tail(chunk(b"iccp", payload + b"\0")))


# Digest, info, limits


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3)])
def test_the_digest_is_taken_over_the_samples_in_row_major_order(shape):
    samples = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    expected = hashlib.sha256(bytes(range(samples.size))).digest()[:16]
    assert reconstruction_digest(samples) == SPEC.container_digest(samples.tobytes()) == expected
    transposed = np.asfortranarray(samples)
    assert reconstruction_digest(transposed) == expected
    with pytest.raises(UsageError):
        reconstruction_digest(samples.astype(np.int16))


def test_info_accounts_for_every_byte():
    info = describe(FULL)
    assert (info.header_bytes, info.z_bytes, info.y_bytes) == (60, 2, 3)
    assert (info.metadata_bytes, info.checksum_bytes) == (20, 4)
    assert info.total_bytes == len(FULL) == 89
    assert info.bits_per_pixel == pytest.approx(8 * 89 / 1200)
    as_dict = json.loads(json.dumps(info.as_dict()))
    assert as_dict["chunks"] == [{"tag": "exif", "bytes": 4}, {"tag": "zz 9", "bytes": 0}]
    assert [row["name"] for row in as_dict["fields"]] == [field.name for field in FIELDS]
    assert as_dict["fields"][4] == {"offset": 7, "name": "quality", "value": 60, "meaning": "quality step"}
    assert as_dict["fields"][-1]["value"] == DIGEST.hex() and len(describe(PLAIN).fields) == len(FIELDS) - 1
    assert as_dict["fingerprint"] == FINGERPRINT.hex() and as_dict["digest"] == DIGEST.hex()
    assert (as_dict["version"], as_dict["width"], as_dict["height"], as_dict["channels"], as_dict["quality"]) == (
        0,
        40,
        30,
        3,
        60,
    )
    assert describe(PLAIN).digest is None and describe(PLAIN).metadata_bytes == 0


def test_limits_are_tested_on_the_header_alone():
    header = parse_header(FULL[:60])
    check_limits(header, Limits(max_pixels=64 * 64))  # 40 x 30, padded
    check_limits(header, Limits(max_memory=5000), memory=5000)
    check_limits(header, Limits(max_memory=5000))
    check_limits(header, Limits(max_memory=None), memory=1 << 60)
    with pytest.raises(LimitExceeded, match="4096"):
        check_limits(header, Limits(max_pixels=64 * 64 - 1))
    with pytest.raises(LimitExceeded, match="5001"):
        check_limits(header, Limits(max_memory=5000), memory=5001)


def test_the_specification_uses_the_limits_of_the_package():
    assert max(next(allowed for name, _, _, allowed in SPEC.CONTAINER_FIELDS if name == "width")) == limits.MAX_SIDE
    assert SPEC.container_positions(1 << 20, 2048) == limits.MAX_LATENT_POSITIONS
