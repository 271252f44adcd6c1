"""refcodec.measure.bit_map: every symbol at its place, the sizes of all parts, stored samples, the page."""

import re
from pathlib import Path

import numpy as np
import pytest
from browser import needs_browser, opened
from PIL import Image
from tiny_models import random_picture, tiny_content

import refcodec
from refcodec import codec
from refcodec.arith.engine import Engine
from refcodec.bitstream.container import parse
from refcodec.cli import main
from refcodec.entropy.costs import BlockBits, symbol_bits
from refcodec.entropy.ports import Reader
from refcodec.errors import LimitExceeded
from refcodec.flow import Parts
from refcodec.lossless.rectangles import Rectangle
from refcodec.measure import bit_map as bits
from refcodec.measure.bit_map_page import bit_map_page
from refcodec.model.file import write_model
from refcodec.planes import ArrayRows

PICTURES = Path(__file__).parents[3] / "conformance" / "data" / "pictures"


def by_block(found, height, width):
    return found.reshape(height // 4, 4, width // 4, 4).sum(axis=(1, 3))


@pytest.mark.parametrize("tile", [0, 64])
def test_every_symbol_is_counted_where_the_encoder_counts_it(model, tile):
    samples = random_picture(150, 200)
    data = refcodec.encode(samples, 70, model=model, tile=tile, rectangles=False)
    found, grid = bits.bit_map(data, model=model), parse(data).header.grid
    costs = BlockBits(model.tables.gaussian, model.factorized, grid.height, grid.width)
    engine = Engine(model.layers, model.tables, 69, 1, "numpy")
    encoder = codec._Encoder(engine, model, parse(data).header, None, Parts())
    encoder.code(ArrayRows(samples), lambda first, rows: None, costs)
    np.testing.assert_allclose(by_block(found.layers["everything"], grid.height, grid.width), costs.bits, rtol=1e-4)
    assert len(found.slices) == model.config.slices and all(part.any() for part in found.slices)
    assert np.array_equal(found.picture, refcodec.decode(data, model=model)) and found.step == 1


def test_every_half_of_a_slice_comes_to_its_positions(model):
    """Anchors are where row and column have an odd sum (SPEC 6.3)."""
    data, read = refcodec.encode(random_picture(70, 130), 90, model=model, rectangles=False, tile=64), []

    class Recording(Reader):
        def y(self, i, parity, levels, means):
            symbols = super().y(i, parity, levels, means)
            read.append((i, parity, symbol_bits(symbols, levels, self._gaussian).sum(axis=2)))
            return symbols

    codec.decode_stream(data, model=model, parts=Parts(reader=Recording))
    found, grid = bits.bit_map(data, model=model), parse(data).header.grid
    for index in range(grid.count):
        tile = grid.tile(index)
        for i, parity, half in read[: 2 * model.config.slices]:
            for row, column in np.ndindex(half.shape):
                place = tile.top + row, tile.left + 2 * column + (row + parity) % 2
                assert sum(place) % 2 == parity
                assert found.slices[i][place] == pytest.approx(half[row, column], rel=1e-6)
        del read[: 2 * model.config.slices]
    assert grid.count == 6 and not read


def test_the_parts_are_all_of_the_stream(model):
    data = refcodec.encode(
        np.dstack([random_picture(100, 90), np.full((100, 90), 7, np.uint8)]), 50, model=model, exif=b"MM", tile=64
    )
    parts = dict(bits.parts_of(bits.bit_map(data, model=model)))
    assert sum(parts.values()) == pytest.approx(len(data), abs=1e-6)
    assert parts["chunk exif"] == 2 and parts["alpha"] == len(parse(data).chunk("ALPH"))
    segments = parse(data).segment_bytes
    assert 0 < parts["ends of the coder's segments"] < 18 * 2 * 4 and parts["z"] + parts["slice 0"] < segments


def test_stored_samples_share_the_bits_of_their_rectangle():
    noise = np.random.default_rng(1).integers(0, 256, (100, 150, 3), np.uint8)
    noise[:, :64] = 9
    data = refcodec.encode(noise, lossless=True)
    found = bits.bit_map(data)
    payload = 8 * len(parse(data).chunk("LOSS"))
    assert found.layers.keys() == {"everything", "stored without loss"}
    assert found.stored.sum() == pytest.approx(payload, rel=1e-5)
    assert found.stored[:, 4:].sum() > 0.98 * payload
    assert not found.stored[7:].any() and not found.stored[:, 10:].any()  # the padding has none
    assert found.stored[5, 9] / found.stored[5, 5] == pytest.approx(6 / 16, rel=0.05)  # 6 columns are in the picture


def test_rectangles_that_begin_anywhere():
    weights = np.ones((2, 3))
    found = bits._stored(weights, [(Rectangle(y=8, x=24, width=16, height=16), 32)])
    assert found.sum() == pytest.approx(256) and np.count_nonzero(found) == 4
    assert np.allclose(found[0:2, 1:3], 64)


def test_a_picture_with_text_names_its_rectangles():
    samples = np.asarray(Image.open(PICTURES / "chart.png"))
    data = refcodec.encode(samples, 50)
    found, payload = bits.bit_map(data), parse(data).chunk("LOSS")
    assert found.rectangles and sum(size for _, size in found.rectangles) < len(payload)
    assert not found.stored[:4].any() and found.stored[4:10].any() and found.slices[0].any()


def test_large_pictures_are_shown_smaller(monkeypatch):
    monkeypatch.setattr(bits, "SHOWN", 1000)
    found = bits.bit_map(refcodec.encode(random_picture(70, 90), lossless=True))
    assert found.step == 4 and found.picture.shape == (18, 23, 3)


def test_limits_come_first(model):
    data = refcodec.encode(random_picture(70, 90), 30, model=model)
    with pytest.raises(LimitExceeded):
        bits.bit_map(data, model=model, limits=refcodec.Limits(max_pixels=100))
    with pytest.raises(LimitExceeded, match="map of bits"):
        bits.bit_map(data, model=model, limits=refcodec.Limits(max_memory=100))


def test_the_command(tmp_path, capsys):
    write_model(tmp_path / "tiny.h5", tiny_content(), {})
    Image.fromarray(random_picture(20, 24)).save(tmp_path / "a.png")
    stream, page, model = (str(tmp_path / name) for name in ("<b>.loclic", "page.html", "tiny.h5"))
    assert main(["encode", str(tmp_path / "a.png"), stream, "--model", model]) == 0
    assert main(["info", stream, "--html", page, "--model", model]) == 0
    assert "bits per pixel" in capsys.readouterr().out
    text = (tmp_path / "page.html").read_text()
    assert "<b>.loclic" not in text and "http" not in text and len(re.findall("<option>", text)) >= 3
    assert main(["info", stream, "--html", page, "--model", model]) == 73
    assert main(["info", stream, "--html", page, "--model", model, "--force"]) == 0
    assert main(["info", stream]) == 0  # needs no model


@needs_browser
def test_a_browser_shows_the_map(tmp_path, model):
    data = refcodec.encode(random_picture(40, 80), 60, model=model, rectangles=False)
    found = bits.bit_map(data, model=model)
    path = tmp_path / "page.html"
    path.write_bytes(bit_map_page(found, "a.loclic"))
    with opened(path) as page:
        colour = "[...document.getElementById('map').getContext('2d').getImageData({}, {}, 1, 1).data]"
        bits_of = found.layers["everything"]
        row, column = np.unravel_index(bits_of.argmax(), bits_of.shape)
        assert page.evaluate(colour.format(column, row)) == [255, 255, 255, 255]
        page.locator("#zoom").fill("2")
        box = page.locator("#stage").bounding_box()
        page.mouse.move(box["x"] + 33 + 32 * 2, box["y"] + 3)
        read = page.locator("#read").inner_text()
        assert read.startswith("samples 48, 0: everything")
        assert abs(float(read.split("everything ")[1].split(",")[0]) - bits_of[0, 3]) < 0.2
        page.locator("#layer").select_option("slice 1")
        layer = found.slices[1]
        row, column = np.unravel_index(layer.argmax(), layer.shape)
        assert page.evaluate(colour.format(column, row)) == [255, 255, 255, 255]
        page.locator("#opacity").fill("0")
        assert page.evaluate("document.getElementById('map').style.opacity") == "0"
