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
from refcodec.bitstream.container import Header, parse, parse_header, parse_index, reconstruction_digest, serialise
from refcodec.bitstream.crc32c import crc32c
from refcodec.bitstream.fields import FIELDS, FIXED_SIZE, HEADER_SIZE
from refcodec.bitstream.info import describe
from refcodec.errors import (
    BadMagic,
    ChecksumError,
    ChunkError,
    HeaderError,
    InvalidStream,
    TrailingBytes,
    TruncatedStream,
    UnknownRequiredChunk,
    UnknownVersion,
    Unsupported,
    UsageError,
)

SPEC = spec_module()
FINGERPRINT = bytes(range(16))
DIGEST = bytes(range(100, 116))
CHUNKS = (("exif", b"II*\0"), ("zz 9", b""))

same = settings(derandomize=True, deadline=None, max_examples=150)


SEGMENTS = ((b"\x5a\xa5", b"\x01\x02\x03"),)
TILE_SEGMENTS = ((b"", b"\x00"), (b"\x07", b""), (b"", b""), (b"\x04\x05", b"\x03"))


def small(segments=SEGMENTS, chunks=(), **changes) -> bytes:
    """A small valid stream, but for the changes."""
    values = {"width": 40, "height": 30, "channels": 3, "quality": 60, "fingerprint": FINGERPRINT, **changes}
    return serialise(Header(**values), segments, chunks)


PLAIN = small()
FULL = small(digest=DIGEST, chunks=CHUNKS)
TILED = small(TILE_SEGMENTS, CHUNKS, width=100, height=70, tile_width=64, tile_height=64)
INDEX = 36  # offset of the index in a stream without a digest


def checksum(data: bytes) -> int:
    """Expected value of the last four bytes: segments of a tiled stream are left out."""
    body = data[:-4]
    try:
        header = parse_header(body)
        index = parse_index(body, header)
    except (InvalidStream, Unsupported):
        return crc32c(body)
    start = header.size + header.index_size
    return crc32c(body[:start] + body[index[-1].end :] if header.tiled else body)


def seal(body: bytes) -> bytes:
    """``body`` followed by its right checksum."""
    return body + crc32c(body).to_bytes(4, "little")


def patched(data: bytes, offset: int, replacement: bytes) -> bytes:
    """Replace some bytes of ``data`` and make the checksum right again."""
    damaged = data[:offset] + replacement + data[offset + len(replacement) :]
    return damaged[:-4] + checksum(damaged).to_bytes(4, "little")


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
        for name in ("width", "height", "channels", "quality", "fingerprint", "digest", "version", "depth", "lossless"):
            assert getattr(header, name) == fields[name], name
        assert (header.tile_width, header.tile_height) == (64 * fields["tile_width"], 64 * fields["tile_height"])
        assert [stream.segments(n) for n in range(header.tiles)] == fields["segments"]
        assert list(stream.chunks) == fields["chunks"]
    return ours


# Round trips

tags = st.one_of(st.sampled_from(container.METADATA), st.from_regex(r"\A[a-z][A-Za-z0-9 ]{3}\Z"))
chunk_lists = st.lists(st.tuples(tags, st.binary(max_size=20)), max_size=4, unique_by=lambda item: item[0])
sides = st.integers(1, 300) | st.sampled_from([1 << 20, (1 << 20) - 1, 64 * 255])
tile_sides = st.sampled_from([64, 128, 64 * 255])


@st.composite
def headers(draw) -> Header:
    width, height, tiles = draw(sides), draw(st.integers(1, 300)), (0, 0)
    if draw(st.booleans()):
        tiles = draw(st.sampled_from([64 * 255, 64 * 64]) if width > 300 else tile_sides), draw(tile_sides)
    return Header(
        width,
        height,
        draw(st.sampled_from([1, 3])),
        draw(st.integers(1, 100)),
        draw(st.binary(min_size=16, max_size=16)),
        *tiles,
        digest=draw(st.none() | st.binary(min_size=16, max_size=16)),
    )


@st.composite
def streams(draw) -> tuple[Header, list[tuple[bytes, bytes]], list[tuple[str, bytes]]]:
    header = draw(headers())
    some = draw(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), min_size=1, max_size=5))
    return header, [some[n % len(some)] for n in range(header.tiles)], draw(chunk_lists)


def spec_fields(header: Header) -> dict:
    """The header as the specification's writer takes it."""
    names = ("width", "height", "channels", "quality", "fingerprint", "digest", "lossless")
    fields = {name: getattr(header, name) for name in names}
    return {**fields, "tile_width": header.tile_width // 64, "tile_height": header.tile_height // 64}


@same
@given(streams())
def test_what_is_written_is_read_back(made):
    header, segments, chunks = made
    data = serialise(header, segments, chunks)
    assert data == SPEC.serialise_stream(spec_fields(header), segments, chunks)
    stream = parse(data)
    assert stream.header == header and stream.chunks == tuple(chunks)
    assert [stream.segments(n) for n in range(header.tiles)] == segments
    assert parse_header(data[:52]) == header
    assert stream.segment_bytes == sum(len(z) + len(y) for z, y in segments)
    assert refusal(data) == ""


@same
@given(streams())
def test_the_overhead_is_what_the_format_promises(made):
    header, segments, _ = made
    more = len(serialise(header, segments)) - sum(len(z) + len(y) for z, y in segments)
    assert more == 40 + (12 * len(segments) if header.tiled else 8) + (0 if header.digest is None else 16)


def test_the_bytes_stand_where_the_diagram_says():
    assert FULL[:36] == (
        b"\x89LIC" + bytes([1, 1, 3, 60]) + b"\x28\0\0\0" + b"\x1e\0\0\0" + FINGERPRINT + b"\0\0\x08\0"
    )
    assert FULL[36:60] == DIGEST + b"\x02\0\0\0" + b"\x03\0\0\0"
    assert FULL[60:-4] == b"\x5a\xa5" + b"\x01\x02\x03" + b"exif\x04\0\0\0II*\0" + b"zz 9\0\0\0\0"


def test_a_tiled_stream_has_a_checksum_for_every_tile_and_none_over_all_segments():
    entries = b"".join(
        b"".join(number.to_bytes(4, "little") for number in (len(z), len(y), crc32c(z + y))) for z, y in TILE_SEGMENTS
    )
    body = b"".join(z + y for z, y in TILE_SEGMENTS)
    assert TILED[32:36] == b"\x01\x01\x08\0" and TILED[INDEX:][: len(entries)] == entries
    end = INDEX + len(entries)
    assert TILED[end:][: len(body)] == body
    tail = TILED[end + len(body) : -4]
    assert crc32c(TILED[:end] + tail) == int.from_bytes(TILED[-4:], "little")


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
    assert (FIXED_SIZE, HEADER_SIZE) == (36, 52)


def test_bytes_like_arguments_are_read_alike():
    for kind in (bytearray, memoryview):
        stream = parse(kind(FULL))
        assert (stream.header, stream.segments(0), stream.chunks) == (parse(FULL).header, SEGMENTS[0], CHUNKS)
    segments = ((memoryview(b"\x5a\xa5"), bytearray(b"\x01\x02\x03")),)
    assert small(segments, width=np.uint32(40), height=np.uint8(30)) == PLAIN


# Header fields


@pytest.mark.parametrize(
    ("offset", "value", "error", "field"),
    [
        *[(i, bytes([PLAIN[i] ^ 1]), BadMagic, "magic") for i in range(4)],
        (4, b"\x00", UnknownVersion, "version"),
        (4, b"\x02", UnknownVersion, "version"),
        (4, b"\xff", UnknownVersion, "version"),
        (5, b"\x04", HeaderError, "flags"),
        (5, b"\x80", HeaderError, "flags"),
        (5, b"\x05", HeaderError, "flags"),
        (6, b"\x00", HeaderError, "channels"),
        (6, b"\x02", HeaderError, "channels"),
        (6, b"\x04", HeaderError, "channels"),
        (7, b"\x65", HeaderError, "quality"),
        (8, bytes(4), HeaderError, "width"),
        (8, b"\x01\x00\x10\x00", HeaderError, "width"),
        (12, bytes(4), HeaderError, "height"),
        (12, b"\x01\x00\x10\x00", HeaderError, "height"),
        (34, b"\x00", HeaderError, "depth"),
        (34, b"\x07", HeaderError, "depth"),
        (34, b"\x09", HeaderError, "depth"),
        (34, b"\x10", HeaderError, "depth"),
        (35, b"\x01", HeaderError, "reserved"),
        (35, b"\x80", HeaderError, "reserved"),
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
    ("offset", "value", "words"),
    [
        (5, b"\x02", "without loss has a quality or a model"),
        (5, b"\x02\x03\x00", "without loss has a quality or a model"),  # the fingerprint is left
        (7, b"\x00", "quality is 0"),
        (32, b"\x01\x00", "a width or a height"),
        (32, b"\x00\x01", "a width or a height"),
        (8, b"\0\0\x10\0\x01\x08\0\0", "too many latent positions"),
        (8, b"\0\0\x10\0\x01\x01\0\0" + FINGERPRINT + b"\x01\x01", "too many tiles"),
    ],
)
def test_fields_that_do_not_hold_together_are_refused(offset, value, words):
    data = patched(PLAIN, offset, value)
    assert refusal(data) == "HeaderError"
    with pytest.raises(HeaderError, match=words):
        parse_header(data)


def test_version_0_has_its_own_message():
    with pytest.raises(UnknownVersion, match="before the format's version 1"):
        parse(patched(PLAIN, 4, b"\0"))
    with pytest.raises(UnknownVersion, match="later version"):
        parse(patched(PLAIN, 4, b"\2"))


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


@pytest.mark.slow
def test_the_largest_number_of_tiles_is_accepted():
    data = small([(b"", b"")] * (1 << 16), width=1 << 20, height=256, tile_width=64, tile_height=64)
    assert parse(data).header.tiles == 1 << 16
    with pytest.raises(UsageError, match="too many tiles"):
        small([], width=1 << 20, height=257, tile_width=64, tile_height=64)


def test_lengths_in_the_index():
    longest, longer = b"\xff\xff\xff\x7f", b"\0\0\0\x80"
    data = patched(PLAIN, INDEX, longest + longest)
    (entry,) = parse_index(data, parse_header(data))
    assert entry.z_length == entry.y_length == 2**31 - 1
    assert refusal(data) == "TruncatedStream"
    for at, name in ((INDEX, "z"), (INDEX + 4, "y"), (INDEX + 12, "z"), (INDEX + 40, "y")):
        damaged = patched(TILED if at > INDEX + 4 else PLAIN, at, longer)
        assert refusal(damaged) == "HeaderError"
        with pytest.raises(HeaderError, match=f"the {name} segment of tile {(at - INDEX) // 12}"):
            parse(damaged)


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
        ({"tile_width": 63, "tile_height": 64}, "multiple of 64"),
        ({"tile_width": 64 * 256, "tile_height": 64}, "range"),
        ({"tile_width": 64}, "a width or a height"),
        ({"depth": 10}, "depth"),
        ({"lossless": True}, "a quality or a model"),
        ({"segments": ()}, "two segments"),
        ({"segments": SEGMENTS * 2}, "two segments"),
        ({"segments": [("text", b"")]}, "bytes-like"),
        ({"segments": [(b"", None)]}, "bytes-like"),
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


@pytest.mark.parametrize("data", [PLAIN, FULL, TILED, small(digest=DIGEST), small([(b"", b"")])])
def test_every_truncation_is_refused(data):
    stream = parse(data)
    without_chunks = stream.header.size + stream.header.index_size + stream.segment_bytes + 4
    for size in range(len(data)):
        expected = BadMagic if size < 4 else TruncatedStream if size < without_chunks else ChecksumError
        assert refusal(data[:size]) == expected.__name__, size


@pytest.mark.parametrize("data", [PLAIN, FULL, TILED])
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
    st.sampled_from([PLAIN, FULL, TILED]),
    st.integers(0, 30),
    st.lists(st.tuples(st.integers(0, 43) | st.integers(30, 40), st.integers(0, 255)), max_size=3),
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
    refusal(b"\x89LIC\1" + data)
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
    assert refusal(b"\x89LIC\1" + b"\xff" * 30) == "TruncatedStream"
    assert refusal(b"\x89LIC\1" + b"\xff" * 31) == "HeaderError"
    assert refusal(FULL[:51]) == "TruncatedStream"
    assert refusal(FULL[:8] + bytes(4) + FULL[12:51]) == "HeaderError"
    too_large = FULL[:8] + b"\0\0\x10\0\0\0\x10\0" + FULL[16:]
    assert refusal(too_large[:51]) == "TruncatedStream"
    assert refusal(too_large[:52]) == "HeaderError"
    assert refusal(FULL[:59]) == refusal(FULL[:60]) == "TruncatedStream"
    long = PLAIN[:INDEX] + b"\0\0\0\x80" + PLAIN[INDEX + 4 :]
    assert refusal(long[: INDEX + 7]) == "TruncatedStream"
    assert refusal(long[: INDEX + 8]) == "HeaderError"
    assert refusal(PLAIN[:-4] + b"junk" + PLAIN[-4:]) == "ChecksumError"


# Tiles


@pytest.mark.parametrize("tile", [0, 1, 3])
def test_a_damaged_tile_is_named_and_spoils_no_other(tile):
    entry = parse(TILED).index[tile]
    damaged = TILED[: entry.start] + bytes([TILED[entry.start] ^ 1]) + TILED[entry.start + 1 :]
    assert refusal(damaged) == "ChecksumError"
    with pytest.raises(ChecksumError, match=f"tile {tile} "):
        parse(damaged)
    others = [n for n in range(4) if n != tile]
    stream = parse(damaged, others)
    assert [stream.segments(n) for n in others] == [TILE_SEGMENTS[n] for n in others]
    assert SPEC.parse_stream(damaged, others)["segments"][others[0]] == TILE_SEGMENTS[others[0]]
    with pytest.raises(ChecksumError, match=f"tile {tile} "):
        stream.segments(tile)
    with pytest.raises(ValueError, match="ChecksumError"):
        SPEC.parse_stream(damaged, [tile])


def test_a_wrong_checksum_in_the_index_is_the_tiles():
    data = patched(TILED, INDEX + 12 + 8, b"\x01\x02\x03\x04")
    assert refusal(data) == "ChecksumError"
    with pytest.raises(ChecksumError, match="tile 1 "):
        parse(data)


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
        (chunk(b"ALPh"), UnknownRequiredChunk),
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
    assert (info.header_bytes, info.index_bytes, info.z_bytes, info.y_bytes) == (52, 8, 2, 3)
    assert (info.chunk_bytes, info.checksum_bytes) == (20, 4)
    assert info.total_bytes == len(FULL) == 89
    assert info.bits_per_pixel == pytest.approx(8 * 89 / 1200)
    as_dict = json.loads(json.dumps(info.as_dict()))
    assert as_dict["chunks"] == [{"tag": "exif", "bytes": 4}, {"tag": "zz 9", "bytes": 0}]
    assert [row["name"] for row in as_dict["fields"]] == [field.name for field in FIELDS]
    assert as_dict["fields"][4]["offset"] == 7 and as_dict["fields"][4]["value"] == 60
    assert as_dict["fields"][-1]["value"] == DIGEST.hex() and len(describe(PLAIN).fields) == len(FIELDS) - 1
    assert as_dict["fingerprint"] == FINGERPRINT.hex() and as_dict["digest"] == DIGEST.hex()
    assert (as_dict["version"], as_dict["width"], as_dict["height"], as_dict["channels"], as_dict["quality"]) == (
        1,
        40,
        30,
        3,
        60,
    )
    assert describe(PLAIN).digest is None and describe(PLAIN).chunk_bytes == 0
    tiled = describe(TILED)
    assert (tiled.tiles, tiled.tile_width, tiled.tile_height, tiled.index_bytes) == (4, 64, 64, 48)
    assert (tiled.z_bytes, tiled.y_bytes, tiled.depth, tiled.alpha, tiled.lossless) == (3, 2, 8, False, False)


def test_the_specification_uses_the_limits_of_the_package():
    assert max(next(allowed for name, _, _, allowed in SPEC.CONTAINER_FIELDS if name == "width")) == limits.MAX_SIDE
    assert SPEC.container_positions(1 << 20, 2048) == limits.MAX_LATENT_POSITIONS
