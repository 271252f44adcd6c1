"""Samples and rectangles without loss against SPEC 8.10 and 8.11: the same samples, and the same refusals."""

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module

from refcodec.errors import ChunkError
from refcodec.lossless.codes import LEFT, UP, UP_LEFT, UP_RIGHT, Form
from refcodec.lossless.filters import Filters
from refcodec.lossless.rectangles import Rectangle, Rectangles, pack_rectangles
from refcodec.lossless.samples import Colour, Plan, SamplesReader, _write, encode_samples

SPEC = spec_module()
many = settings(derandomize=True, deadline=None, max_examples=100)


def source(samples):
    return lambda first, count: samples[first : first + count]


def ours(payload, height, width, channels):
    try:
        return SamplesReader(payload, height, width, channels).read(height).tolist()
    except ChunkError:
        return "ChunkError"


def defined(payload, height, width, channels):
    try:
        return SPEC.lossless_samples(payload, height, width, channels)
    except ValueError as error:
        return str(error)


@st.composite
def payloads(draw):
    """A picture's size and a payload of any kind, form and filter."""
    height, width, channels = draw(st.integers(1, 12)), draw(st.integers(1, 20)), draw(st.sampled_from((1, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    colours = np.unique(rng.integers(0, 256, (draw(st.integers(1, 20)), channels), np.uint8), axis=0)
    if draw(st.booleans()):
        colours[:] = colours[:, :1]
        colours = np.unique(colours, axis=0)
    picture = colours[rng.integers(0, len(colours), (height, width))]
    filters = draw(st.sampled_from(Filters))
    bits = draw(st.sampled_from((1, 2, 4, 8)))
    neighbours = draw(st.sampled_from((0, LEFT, UP, LEFT | UP, UP_LEFT, UP_RIGHT | LEFT, 15)))
    neighbours = neighbours if neighbours.bit_count() < 1 << bits else 0
    grey = channels == 3 and bool((picture == picture[:, :, :1]).all())
    kinds = [Colour.SAME] + [Colour.GREEN, Colour.PALETTE] * (channels == 3) + [Colour.GREY] * grey
    colour = draw(st.sampled_from(kinds))
    plan = Plan(colour, filters, table=colours if colour is Colour.PALETTE else None)
    if draw(st.booleans()):
        listed = (
            colours if colour is Colour.SAME else np.unique(colours[:, :1], axis=0) if colour is Colour.GREY else None
        )
        if colour is Colour.PALETTE:
            listed = np.arange(len(colours), dtype=np.uint8)[:, None]
        if listed is None:
            listed = np.empty((0, channels), np.uint8)
        listed = listed[: draw(st.integers(0, (1 << bits) - 1 - neighbours.bit_count()))]
        plan = Plan(colour, filters, form=Form(bits, neighbours, len(listed)), colours=listed, table=plan.table)
    return (height, width, channels), picture, _write(plan, source(picture), height, width, channels)


@many
@given(payloads())
def test_every_kind_decodes_as_defined(case):
    size, picture, payload = case
    assert ours(payload, *size) == defined(payload, *size) == picture.tolist()


@many
@given(payloads(), st.data())
def test_changed_payloads_are_judged_as_defined(case, data):
    size, _, payload = case
    changed = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, min(12, len(changed) - 1)), st.integers(0, len(changed) - 1)))
        changed[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))
    payload = bytes(changed[:cut]) + data.draw(st.sampled_from((b"", b"", b"\0")))
    assert ours(payload, *size) == defined(payload, *size)


@many
@given(payloads(), st.data())
def test_changed_pixels_are_judged_as_defined(case, data):
    """The zlib streams are sound, their content is not."""
    import zlib

    size, _, payload = case
    start = 1 if payload[0] < 6 else 2 + 3 * (1 + payload[1])
    head, rest = payload[:start], payload[start:]
    if payload[0] & 1:
        length = int.from_bytes(rest[2:6], "little")
        codes, colours = bytearray(zlib.decompress(rest[6 : 6 + length])), zlib.decompress(rest[6 + length :])
        codes[data.draw(st.integers(0, len(codes) - 1))] = data.draw(st.integers(0, 255))
        colours = (
            colours[: data.draw(st.integers(0, len(colours)))] if data.draw(st.booleans()) else colours + b"\1\2\3"
        )
        packed = zlib.compress(bytes(codes))
        payload = head + rest[:2] + len(packed).to_bytes(4, "little") + packed + zlib.compress(colours)
    else:
        rows = bytearray(zlib.decompress(rest))
        rows[data.draw(st.integers(0, len(rows) - 1))] = data.draw(st.integers(0, 255))
        payload = head + zlib.compress(bytes(rows[: data.draw(st.integers(len(rows) - 1, len(rows)))]))
    assert ours(payload, *size) == defined(payload, *size)


@many
@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.lists(st.tuples(*[st.integers(0, 130)] * 4), min_size=1, max_size=4),
    st.data(),
)
def test_lists_are_judged_as_defined(height, width, entries, data):
    if data.draw(st.booleans()):
        entries = sorted(entries, key=lambda entry: entry[1::-1])
    body = encode_samples(source(np.zeros((1, 1, 1), np.uint8)), 1, 1, 1)
    payload = struct.pack("<I", len(entries)) + b"".join(struct.pack("<5I", *e, len(body)) for e in entries)
    payload += body * (len(entries) - data.draw(st.integers(0, 1)) * data.draw(st.integers(0, 1)))
    try:
        expected = [entry[:4] for entry in SPEC.lossless_rectangles(payload, height, width)]
    except ValueError:
        expected = None
    try:
        found = [(r.x, r.y, r.width, r.height) for r in Rectangles(payload, width, height, 1).places]
    except ChunkError:
        found = None
    assert found == expected


def test_rectangles_are_written_over_as_defined():
    rng = np.random.default_rng(0)
    stored, output = rng.integers(0, 256, (2, 70, 80, 3), np.uint8)
    rectangles = [Rectangle(0, 3, 20, 30), Rectangle(5, 40, 40, 65), Rectangle(40, 0, 39, 3)]
    payload = pack_rectangles(rectangles, source(stored), 80, 70, 3)
    result = output.copy()
    Rectangles(payload, 80, 70, 3).apply(result, 0)
    samples = output.tolist()
    stream = {"height": 70, "width": 80, "channels": 3, "lossless": False, "chunks": [("LOSS", payload)]}
    SPEC.put_rectangles(samples, stream)
    assert result.tolist() == samples
