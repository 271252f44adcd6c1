"""Tiles and regions (SPEC 4.4, 4.5): the cut, equality with the document and with the whole, damage, memory."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module
from tiny_models import TINY, TINY_OLD, random_picture, spec_model, tiny_model

import refcodec
from refcodec import codec, memory
from refcodec.bitstream.container import parse, serialise
from refcodec.codec import decode_stream, decode_strips, encode_picture, encode_strips
from refcodec.entropy.ports import Writer
from refcodec.errors import ChecksumError, CoderError, LimitExceeded, UsageError
from refcodec.flow import Parts
from refcodec.limits import Limits
from refcodec.model.config import PROFILES
from refcodec.model.layer_table import layer_table
from refcodec.nets.hyperprior import REACH as HYPER_REACH
from refcodec.nets.synthesis import REACH
from refcodec.planes import ArrayRows
from refcodec.tiles import STRIDE, Needs, Region, TileGrid
from refcodec.trace import Recorder

SPEC = spec_module()
same = settings(derandomize=True, deadline=None, max_examples=100)
sides = st.integers(1, 700)
units = st.integers(1, 5)


# ------------------------------------------------------------------------------------------------------- the cut


@same
@given(sides, sides, units, units)
def test_the_cut_is_that_of_the_document(width, height, wide, high):
    grid = TileGrid.of(width, height, 64 * wide, 64 * high)
    places = SPEC.tile_places(grid.height, grid.width, 4 * high, 4 * wide)
    assert [(t.top, t.left, t.height, t.width) for t in map(grid.tile, range(grid.count))] == places
    seen = np.zeros((grid.height, grid.width), int)
    for top, left, rows, columns in places:
        seen[top : top + rows, left : left + columns] += 1
    assert (seen == 1).all()


@same
@given(st.data(), sides, sides, units, units)
def test_needed_tiles_are_those_of_the_document(data, width, height, wide, high):
    grid = TileGrid.of(width, height, 64 * wide, 64 * high)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    region = Region(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    part = grid.window(region, REACH)
    first, last, left, right = SPEC.region_needs(region, grid.height, grid.width)
    assert part == (first, last + 1, left, right + 1)
    places = SPEC.tile_places(grid.height, grid.width, 4 * high, 4 * wide)
    needed = SPEC.region_tiles(region, grid.height, grid.width, places)
    assert [tile.index for tile in grid.needed(part)] == needed
    needs = Needs.of(grid, region, REACH, HYPER_REACH)
    assert (needs.y, [tile.index for tile in needs.tiles]) == (part, needed)
    assert [tile.index for tile in needs.of_z] == SPEC.region_z_tiles(region, grid.height, grid.width, places)


@pytest.mark.parametrize("name", [*PROFILES, "old"])
def test_the_reach_follows_from_the_layer_table(name):
    config = TINY_OLD if name == "old" else PROFILES[name]
    sixteenths, scale = 0, STRIDE  # after n pixel shuffles a position is 2^-n of one of y_hat
    for op in layer_table(config):
        if op.name.startswith("g_s/") and not op.name.endswith(("/skip", "/upsample")):  # those are next to others
            sixteenths += scale * (op.kernel // 2)
            scale = scale // 2 if op.shuffle else scale
    assert -(-sixteenths // STRIDE) == REACH == SPEC.REACH


def test_the_reach_is_reached():
    """A changed position of y_hat changes samples up to the reach, less the half that rounding up adds."""
    model = tiny_model()
    samples = random_picture(320, 64)
    data = encode_picture(samples, 60, model=model, tile=64).data
    made: list[Writer] = []

    class Changed(Writer):
        def y(self, i, parity, levels, means):
            """Other symbols in the third tile."""
            symbols = super().y(i, parity, levels, means)
            return symbols + 1 if made.index(self) == 2 else symbols

        def z(self, medians, shape):
            made.append(self)
            return super().z(medians, shape)

    before = decode_stream(data, model=model)[0]
    after = encode_picture(samples, 60, model=model, tile=64, parts=Parts(writer=Changed)).reconstruction
    rows = np.flatnonzero((before != after).any(axis=(1, 2)))
    assert 128 - 16 * REACH <= rows.min() <= 128 - 16 * 3 and 192 + 16 * 3 < rows.max() < 192 + 16 * REACH


# ---------------------------------------------------------------------------------------------- bytes and samples


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "quality", "size", "channels"),
    [
        (TINY, 2, (70, 5), 3),
        pytest.param(TINY_OLD, 1, (5, 70), 1, marks=pytest.mark.slow),
        pytest.param(TINY, 2, (65, 70), 3, marks=pytest.mark.slow),
    ],
)
def test_tiled_streams_traces_and_samples_are_those_of_the_document(config, quality, size, channels):
    samples = random_picture(*size, 3, channels)
    model, defined = tiny_model(config), spec_model(config)
    coded = encode_picture(samples, quality, model=model, tile=64)
    listed = samples.reshape(*size, channels).tolist()
    assert coded.data == SPEC.encode_picture(listed, quality, defined, tile=1)
    stages: list = []
    assert SPEC.decode_picture(coded.data, defined, stages) == coded.reconstruction.reshape(*size, channels).tolist()
    for backend in ("numba", "numpy"):
        recorder = Recorder()
        recorder("samples", decode_stream(coded.data, model=model, backend=backend, trace=recorder)[0])
        lines = [
            {"index": s.index, "name": s.name, "shape": list(s.shape), "dtype": s.dtype, "sha256": s.sha256}
            for s in recorder.stages
        ]
        assert lines == SPEC.trace_lines(stages)


@pytest.mark.parametrize("tile", [0, 64, 128])
@pytest.mark.parametrize("size", [(1, 1), (65, 140), (140, 65)], ids=str)
def test_what_the_encoder_saw_is_decoded(size, tile):
    samples = random_picture(*size)
    options = {"model": tiny_model(), "tile": tile, "rectangles": False}
    first = encode_picture(samples, 60, backend="numba", threads=1, **options)
    for backend, threads in (("numba", 3), ("numpy", 1)):
        again = encode_picture(samples, 60, backend=backend, threads=threads, **options)
        assert again.data == first.data
        decoded, stream = decode_stream(first.data, model=tiny_model(), backend=backend, verify=True)
        assert np.array_equal(decoded, first.reconstruction) and stream.header.tile_width == tile


def test_a_tile_as_large_as_the_picture_codes_what_no_tiles_code():
    samples = random_picture(100, 60)
    plain, tiled = (encode_picture(samples, 60, model=tiny_model(), tile=tile) for tile in (0, 128))
    assert parse(plain.data).segments() == parse(tiled.data).segments()
    assert np.array_equal(plain.reconstruction, tiled.reconstruction)


@pytest.mark.parametrize("strip", [1 << 11, 1 << 14, 1 << 22])
def test_strips_of_any_height_give_the_same(monkeypatch, strip):
    samples = random_picture(270, 150)
    wanted = encode_picture(samples, 60, model=tiny_model(), tile=64)
    monkeypatch.setattr("refcodec.arith.strips.STRIP", strip)
    rows: list[np.ndarray] = []
    coded = encode_strips(
        ArrayRows(samples), 60, model=tiny_model(), tile=64, strips=lambda first, part: rows.append(part.copy())
    )
    assert coded.data == wanted.data and np.array_equal(np.concatenate(rows), wanted.reconstruction)
    seen: list[tuple[int, np.ndarray]] = []
    decode_strips(coded.data, lambda first, part: seen.append((first, part.copy())), model=tiny_model(), verify=True)
    assert [first for first, _ in seen] == list(np.cumsum([0, *(part.shape[0] for _, part in seen[:-1])]))
    assert np.array_equal(np.concatenate([part for _, part in seen]), wanted.reconstruction)


# ------------------------------------------------------------------------------------------------------- regions


def regions_are_the_crop(backend, tile, height, width, count):
    """Every corner, side and tile border that matters, and as many regions by chance."""
    samples = random_picture(height, width)
    whole = encode_picture(samples, 60, model=tiny_model(), tile=tile)
    rng = np.random.default_rng(3)
    regions = [
        (0, 0, width, height),
        (0, 0, 1, 1),
        (width - 1, height - 1, 1, 1),
        (0, height - 45, width, 1),
        (63, 0, 2, height),
    ]
    for _ in range(count):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        regions.append((x, y, int(rng.integers(1, width - x + 1)), int(rng.integers(1, height - y + 1))))
    for x, y, w, h in regions:
        found, _ = decode_stream(whole.data, region=(x, y, w, h), model=tiny_model(), backend=backend)
        assert np.array_equal(found, whole.reconstruction[y : y + h, x : x + w]), (x, y, w, h)


@pytest.mark.parametrize(("tile", "backend"), [(0, "numpy"), (64, "numba")])
def test_regions_are_the_crop_of_the_whole(tile, backend):
    regions_are_the_crop(backend, tile, 130, 270, 5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("tile", [0, 64, 192])
def test_many_regions_are_the_crop_of_the_whole(backend, tile):
    regions_are_the_crop(backend, tile, 300, 420, 45)


@pytest.mark.parametrize(
    "region",
    [
        *((0, 0, 0, 1), (0, 0, 1, 0), (-1, 0, 2, 2), (0, -1, 2, 2), (99, 0, 2, 1), (0, 69, 1, 2), (1, 2, 3), "abcd", 5),
        *((float("inf"), 0, 1, 1), (2.7, 0, 1, 1), (True, 0, 1, 1), "1234", itertools.repeat(1)),
    ],
)
def test_what_is_no_region_is_refused(region):
    data = encode_picture(random_picture(70, 100), 60, model=tiny_model()).data
    with pytest.raises(UsageError, match="region"):
        decode_stream(data, region=region, model=tiny_model())


def test_a_region_is_not_verified():
    data = encode_picture(random_picture(70, 100), 60, model=tiny_model()).data
    with pytest.raises(UsageError, match="whole picture"):
        decode_stream(data, region=(0, 0, 5, 5), model=tiny_model(), verify=True)


@pytest.mark.parametrize(
    ("kind", "reached"),
    [
        # Its checksum is tested where its z is needed: by tiles whose part of z is within 4 positions, a tile each.
        ("bytes", range(5 * 64 - 112, 14 * 64 + 112)),
        ("words", range(9 * 64 - 112, 10 * 64 + 112)),
    ],
)
def test_a_damaged_tile_spoils_only_the_regions_that_need_it(kind, reached):
    whole = encode_picture(random_picture(64, 1280), 60, model=tiny_model(), tile=64, digest=False)
    stream = parse(whole.data)
    entry = stream.index[9]
    if kind == "bytes":
        at = entry.start + entry.z_length
        damaged, error = whole.data[:at] + bytes([whole.data[at] ^ 1]) + whole.data[at + 1 :], ChecksumError
    else:  # the checksum is right and the words are wrong
        segments = [stream.segments(n) for n in range(20)]
        segments[9] = (segments[9][0], segments[9][1] + bytes(4))
        damaged, error = serialise(stream.header, segments), CoderError
    with pytest.raises(error, match="tile"):
        decode_stream(damaged, model=tiny_model())
    spoilt = []
    near = [x for end in (reached.start, reached.stop) for x in range(end - 64, end + 64, 16)]
    for x in (0, *near, 640, 1264):
        try:
            found, _ = decode_stream(damaged, region=(x, 0, 16, 64), model=tiny_model())
            assert np.array_equal(found, whole.reconstruction[:, x : x + 16])
        except error:
            spoilt.append(x)
    assert spoilt == [x for x in (0, *near, 640, 1264) if x in reached]


# ---------------------------------------------------------------------------------------------- choices and limits


@pytest.mark.parametrize("tile", [1, 63, 65, -64, 64 * 256, 64.0, "64"])
def test_what_is_no_tile_size_is_refused(tile):
    with pytest.raises(UsageError, match="tile"):
        encode_picture(random_picture(8, 8), 60, model=tiny_model(), tile=tile)


def test_the_encoder_cuts_large_pictures(monkeypatch):
    monkeypatch.setattr(codec, "TILED_FROM", 128 * 128)
    monkeypatch.setattr(codec, "TILE", 64)
    for width, tiles in ((128, 1), (129, 6)):
        header = parse(encode_picture(random_picture(128, width), 60, model=tiny_model()).data).header
        assert header.tiles == tiles
        assert parse(encode_picture(random_picture(128, width), 60, model=tiny_model(), tile=0).data).header.tiles == 1


def test_limits_count_the_tiles_that_a_region_needs():
    data = encode_picture(random_picture(64, 640), 60, model=tiny_model(), tile=64).data
    few = Limits(max_pixels=64 * 64 * 3)
    assert decode_stream(data, region=(0, 0, 16, 16), model=tiny_model(), limits=few)[0].shape == (16, 16, 3)
    for region in (None, (320, 0, 16, 16)):
        with pytest.raises(LimitExceeded):
            decode_stream(data, region=region, model=tiny_model(), limits=few)


@pytest.mark.parametrize("encoding", [True, False])
def test_memory_grows_with_a_row_of_tiles_and_not_with_the_picture(monkeypatch, encoding):
    """Ten times as many rows of tiles take no more, and the estimate bounds what is taken."""
    monkeypatch.setattr("refcodec.arith.strips.STRIP", 1 << 13)
    memory._maps.cache_clear()
    model, peaks = tiny_model(), []
    for height in (192, 448):
        samples = random_picture(height, 128)
        data = encode_picture(samples, 60, model=model, tile=64, threads=1).data
        tracemalloc.start()
        try:
            if encoding:
                encode_strips(ArrayRows(samples), 60, model=model, tile=64, threads=1)
            else:
                decode_strips(data, lambda first, rows: None, model=model, threads=1)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        grid = TileGrid.of(128, height, 64, 64)
        most = memory.memory_estimate(128, height, model, threads=1, encoding=encoding, grid=grid, held=False)
        assert peaks[-1] - len(data) < most - memory.model_bytes(model)
    memory._maps.cache_clear()
    assert peaks[1] - peaks[0] < 100_000  # segments and index: 8 tiles more


def test_the_api_takes_regions_and_tiles():
    samples = random_picture(70, 200)
    data = refcodec.encode(samples, 60, model=tiny_model(), tile=64)
    assert refcodec.info(data).tiles == 8
    whole = refcodec.decode(data, model=tiny_model())
    assert np.array_equal(refcodec.decode(data, model=tiny_model(), region=(5, 6, 70, 8)), whole[6:14, 5:75])
