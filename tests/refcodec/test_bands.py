"""Bands of a picture, each decoded apart, give the samples of the whole."""

import numpy as np
import pytest
from tiny_models import TINY, TINY_OLD, random_picture, tiny_model

from refcodec.arith.engine import Engine
from refcodec.arith.maps import interior
from refcodec.arith.strips import Rows
from refcodec.bands import around, latents_of, samples_of, tops_of
from refcodec.bitstream.container import parse_header
from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import ChecksumError, LimitExceeded, ModelError, UsageError
from refcodec.limits import Limits
from refcodec.nets.synthesis import REACH, synthesis_strips
from refcodec.tile_rows import and_a_row
from refcodec.tiles import TileGrid

MODEL = tiny_model()


def coded(height, width, channels=3, tile=64, **options):
    return encode_picture(random_picture(height, width, channels=channels), 50, model=MODEL, tile=tile, **options)


def joined(data, **options):
    """All bands of a stream, decoded one by one."""
    header, whole = parse_header(data), []
    latents = [latents_of(data, band, model=MODEL, **options) for band in range(len(tops_of(header.grid)))]
    for band in range(len(latents)):
        near = [latents[n] for n in around(header.grid, band)]
        whole.append(samples_of(header, band, near, model=MODEL, **options))
    return whole


@pytest.mark.parametrize(
    "height, width, channels, tile, bands",
    [(1300, 130, 3, 64, 3), (1030, 200, 1, 192, 2), (1025, 70, 3, 512, 3), (70, 300, 3, 64, 1), (1100, 90, 3, 1024, 2)],
)
def test_bands_are_the_rows_of_the_whole(height, width, channels, tile, bands):
    made = coded(height, width, channels, tile)
    found = joined(made.data)
    assert len(found) == bands and all(len(rows) >= 512 for rows in found[:-1])
    assert np.array_equal(np.concatenate(found), made.reconstruction)


@pytest.mark.parametrize("config", [TINY, TINY_OLD])
@pytest.mark.parametrize("rows", [8, 9, 13, 40])
def test_no_rows_are_computed_that_depend_on_what_follows(config, rows):
    model = tiny_model(config)
    engine = Engine(model.layers, model.tables, 0, 1)
    y_hat = engine.map(rows, 5, config.M)
    interior(y_hat)[...] = np.random.default_rng(rows).integers(-300, 300, (rows, 5, config.M))

    def fill(first, out):
        out[...] = interior(y_hat)[first : first + out.shape[0]]

    given = and_a_row(Rows(rows, 5, config.M, fill))
    whole = np.concatenate([strip.copy() for _, strip in synthesis_strips(engine, config, y_hat)])
    part = np.concatenate([strip.copy() for _, strip in synthesis_strips(engine, config, given, False, 3)])
    assert 16 * (rows - REACH) <= len(part) < 16 * (rows - REACH) + 16
    assert np.array_equal(part[: 16 * (rows - REACH)], whole[: 16 * (rows - REACH)])


@pytest.mark.parametrize("tile_height", [4, 8, 12, 32, 36, 64, 1020])
@pytest.mark.parametrize("height", [4, 28, 32, 36, 64, 2048, 2052])
def test_a_band_is_whole_rows_of_tiles_and_more_than_g_s_reaches(height, tile_height):
    tops = tops_of(TileGrid(height, 8, tile_height, 8))
    assert tops.step >= 32 and tops.step % tile_height == 0 and tops[-1] < height <= tops[-1] + tops.step


def test_a_band_needs_the_tiles_of_its_z_alone():
    data = bytearray(coded(2100, 70, tile=64).data)
    data[-200] ^= 1  # of the last tiles
    latents_of(bytes(data), 0, model=MODEL)
    with pytest.raises(ChecksumError):
        latents_of(bytes(data), 4, model=MODEL)


def test_limits_and_models_are_checked():
    data = coded(1100, 70).data
    with pytest.raises(LimitExceeded):
        latents_of(data, 0, model=MODEL, limits=Limits(max_memory=1000))
    with pytest.raises(LimitExceeded):
        samples_of(parse_header(data), 0, [], model=MODEL, limits=Limits(max_memory=1000))
    with pytest.raises(ModelError):
        latents_of(data, 0, model=None)


def test_only_a_whole_picture_is_decoded_elsewhere():
    made = coded(1100, 70)
    rows = [(0, made.reconstruction[:600].copy()), (600, made.reconstruction[600:].copy())]
    samples, _ = decode_stream(made.data, model=MODEL, colours=lambda stream: rows, verify=True)
    assert np.array_equal(samples, made.reconstruction)
    with pytest.raises(UsageError, match="only a whole picture can be decoded elsewhere"):
        decode_stream(made.data, model=MODEL, colours=lambda stream: rows, region=(0, 0, 8, 8))
