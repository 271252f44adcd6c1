"""refcodec.measure.rate_distortion: points, curves, BD-rates, table, JSON and plot, with a stand-in for the codec."""

from __future__ import annotations

import argparse
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from refcodec.errors import MissingInput, OutputError, Unsupported, UsageError
from refcodec.measure import rate_distortion as rd


def quantise(samples: np.ndarray, quality: int) -> bytes:
    """Stand-in codec: quantises more coarsely at a lower quality and stores a PNG."""
    step = 1 + (100 - quality) // 4
    file = io.BytesIO()
    Image.fromarray((samples // step * step).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def read(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    rows, columns = np.mgrid[0:48, 0:64]
    colour = np.stack([rows * 5, columns * 3, (rows * columns) % 251], axis=2).astype(np.uint8)
    Image.fromarray(colour).save(path / "b.png")
    Image.fromarray(colour[:, :, 2]).save(path / "a.png")
    (path / "notes.txt").write_text("no picture")
    return path


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    rd.add_arguments(parser)
    return parser.parse_args(list(words))


def test_points_are_measured_on_the_bytes_and_their_decoding(folder):
    result = rd.measure(str(folder), quantise, read, qualities=(20, 60, 100), others=False)
    assert result["pictures"] == ["a.png", "b.png"]
    assert len(result["points"]) == 2 * 3
    colour = read((folder / "b.png").read_bytes())
    point = next(p for p in result["points"] if p["picture"] == "b.png" and p["setting"] == 20)
    data = quantise(colour, 20)
    assert point["bytes"] == len(data)
    assert point["bpp"] == 8 * len(data) / (48 * 64)
    error = np.mean((colour.astype(float) - read(data)) ** 2)
    assert point["psnr"] == pytest.approx(10 * np.log10(255**2 / error), rel=1e-12)
    exact = [p for p in result["points"] if p["setting"] == 100]
    assert all(p["psnr"] is None and p["ms_ssim"] == pytest.approx(1) for p in exact)


def test_curves_are_means_over_pictures(folder):
    result = rd.measure(str(folder), quantise, read, qualities=(20, 60), others=False)
    for entry in result["curves"]["refcodec"]:
        here = [p for p in result["points"] if p["setting"] == entry["setting"]]
        for name in ("bpp", "psnr", "ms_ssim"):
            assert entry[name] == pytest.approx(np.mean([p[name] for p in here]), rel=1e-12)


def test_every_other_codec_of_this_pillow_has_a_curve_that_rises(folder):
    result = rd.measure(str(folder), quantise, read, qualities=(20, 60))
    assert list(result["curves"]) == ["refcodec", *result["codecs"]]
    assert "JPEG" in result["codecs"]
    for codec in rd.OTHERS:
        if codec.name in result["codecs"]:
            curve = result["curves"][codec.name]
            assert [p["setting"] for p in curve] == list(codec.settings)
            assert curve[-1]["bpp"] > 1.5 * curve[0]["bpp"]
            assert curve[-1]["psnr"] > curve[0]["psnr"] + 3
    json.dumps(result, allow_nan=False)


def test_bd_rates_both_ways_are_reciprocal():
    own = [{"bpp": r, "psnr": 30 + 5 * np.log2(r)} for r in (0.1, 0.2, 0.5, 1, 2)]
    twice = [{"bpp": 2 * p["bpp"], "psnr": p["psnr"]} for p in own]
    far = [{"bpp": 1.0, "psnr": 90.0}, {"bpp": 2.0, "psnr": 95.0}, {"bpp": 3.0, "psnr": None}]
    rates = rd.bd_rates({"refcodec": own, "twice": twice, "far": far})
    assert rates["twice"]["codec_to_anchor"] == pytest.approx(100)
    assert rates["twice"]["anchor_to_codec"] == pytest.approx(-50)
    assert rates["twice"]["codec_to_anchor_middle"] == pytest.approx(100)
    assert set(rates["far"].values()) == {None}


def test_command_writes_table_json_and_plot(folder, tmp_path, capsys):
    published = tmp_path / "published.json"
    published.write_text(
        json.dumps(
            {"codecs": {"Ideal": {"points": [{"bpp": 0.1, "psnr": 25, "ms_ssim": 0.9}, {"bpp": 9, "psnr": 45}]}}}
        )
    )
    pytest.importorskip("matplotlib")
    args = arguments(
        str(folder),
        "--qualities",
        "10,50,90",
        "--no-others",
        "--anchors",
        str(published),
        "--save-json",
        str(tmp_path / "o.json"),
        "--plot",
        str(tmp_path / "o.png"),
    )
    assert rd.run(args, quantise, read) == 0
    text = capsys.readouterr().out
    assert "refcodec" in text and "Ideal (published)" in text
    stored = json.loads((tmp_path / "o.json").read_text())
    assert stored["published"]["Ideal"][1] == {"bpp": 9.0, "psnr": 45.0}
    assert stored["published_bd_rates"]["Ideal"]["anchor_to_codec"] is not None
    assert stored["versions"]["pillow"] and stored["machine"]["cores"] > 0
    assert Image.open(tmp_path / "o.png").format == "PNG"
    with pytest.raises(OutputError):
        rd.run(args, quantise, read)


def test_the_same_points_draw_the_same_svg():
    pytest.importorskip("matplotlib")
    result = {
        "curves": {rd.OWN: [{"bpp": 0.2, "psnr": 30.0}, {"bpp": 0.9, "psnr": 35.0}]},
        "pictures": ["a"],
        "folder": "f",
    }
    drawn = rd.plot(result, ".svg")
    assert drawn == rd.plot(result, ".svg")
    assert b">bits per pixel<" in drawn and b"dc:date" not in drawn


def test_json_on_standard_output_is_alone(folder, capsysbinary):
    assert rd.run(arguments(str(folder), "--qualities", "50", "--no-others", "--json"), quantise, read) == 0
    assert json.loads(capsysbinary.readouterr().out)["pictures"] == ["a.png", "b.png"]


def test_plot_without_matplotlib_is_refused_before_the_work(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    def never(*_):
        raise AssertionError("encoded first")

    with pytest.raises(Unsupported, match="Matplotlib"):
        rd.run(arguments(str(folder), "--plot", str(tmp_path / "o.png")), never, read)
    assert not (tmp_path / "o.png").exists()


def test_refusals(folder, tmp_path):
    with pytest.raises(MissingInput):
        rd.measure(str(tmp_path / "nowhere"), quantise, read)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInput):
        rd.measure(str(tmp_path / "empty"), quantise, read)
    for qualities in ((), (0,), (101,)):
        with pytest.raises(UsageError):
            rd.measure(str(folder), quantise, read, qualities=qualities)
    broken = tmp_path / "broken.json"
    for text in ("{", "[]", '{"codecs": {"a": {"points": [{"bpp": 1}]}}}'):
        broken.write_text(text)
        with pytest.raises(UsageError):
            rd.read_published(str(broken))


def test_refinement_is_measured_next_to_the_plain_encoder(folder, capsys):
    def refined(samples: np.ndarray, quality: int) -> bytes:
        return quantise(samples, quality)

    words = ("--refine", "7", "--no-others", "--qualities", "20,40,60", "--json")
    assert rd.run(arguments(str(folder), *words), quantise, read, refined) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["curves"]) == {"refcodec", "refcodec --refine 7"}
    assert found["bd_rates"]["refcodec --refine 7"]["codec_to_anchor"] == pytest.approx(0)
