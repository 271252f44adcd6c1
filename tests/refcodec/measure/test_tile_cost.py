"""refcodec.measure.tile_cost: borders, rows and the command, with the tiny model."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_models import random_picture, tiny_content

from refcodec.cli import main
from refcodec.codec import encode_picture
from refcodec.errors import UsageError
from refcodec.measure.tile_cost import near_borders, sky, tile_cost
from refcodec.model.file import write_model


def test_places_near_borders():
    near = near_borders(130, 70, 64)
    assert near[:, 0].tolist() == [56 <= y < 72 or y >= 120 for y in range(130)]
    assert near[0].tolist() == [56 <= x < 72 for x in range(70)]
    assert not near_borders(64, 64, 64).any()


def test_rows_are_those_of_real_streams(model):
    samples = random_picture(70, 90)

    def encode(samples, quality, tile):
        return encode_picture(samples, quality, model=model, tile=tile, rectangles=False)

    small, large = tile_cost(samples, (64, 128), (1, 60), encode)
    assert (small["tile"], large["tile"]) == (64, 128) and [p["quality"] for p in small["points"]] == [1, 60]
    coded = encode(samples, 60, 64)
    squared = (coded.reconstruction.astype(float) - samples) ** 2
    near = near_borders(70, 90, 64)
    point = small["points"][1]
    assert point["bpp"] == 8 * len(coded.data) / (70 * 90)
    assert point["near"] == pytest.approx(squared[near].mean()) and point["elsewhere"] == pytest.approx(
        squared[~near].mean()
    )
    assert large["points"][0]["near"] is None  # there is no border


def test_the_sky_is_smooth():
    picture = sky(64)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert np.abs(np.diff(picture.astype(int), axis=0)).mean() < 2


def test_the_command(tmp_path, capsys):
    write_model(tmp_path / "m.h5", tiny_content(), {})
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(random_picture(70, 90)).save(folder / "a.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture")
    words = ["tiles", str(folder), "--sky", "80", "--tiles", "64", "--qualities", "1,60", "--model", f"{tmp_path}/m.h5"]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["picture"] for row in rows] == ["sky 80x80", "a.png"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.count("squared error near borders") == 4
    assert "notes.txt: passed over" in err and "hidden" not in err
    assert main(["tiles"]) == 2 and main(["tiles", "--sky", "5"]) == 2
    assert main(["tiles", str(tmp_path / "none"), "--model", f"{tmp_path}/m.h5"]) == 66


def test_what_is_no_tile_is_refused(model):
    with pytest.raises(UsageError, match="tile"):
        list(tile_cost(random_picture(8, 8), (65,), (60,), lambda s, q, t: encode_picture(s, q, model=model, tile=t)))
