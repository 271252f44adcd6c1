"""The conversion report: stages compared with the same symbols, and its three forms."""

import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from checkpoint_folder import save_checkpoint_folder
from PIL import Image
from published_state import TINY, picture, published_state

from refcodec.model.integer_model import build_model
from refcodec.model.layers import Conv
from weights_converter.__main__ import main
from weights_converter.convert.code_length import Bottleneck
from weights_converter.convert.folding import float_layers
from weights_converter.convert.pipeline import make_content, record_pictures
from weights_converter.formats.checkpoint import Checkpoint
from weights_converter.report.stages import compare_stages, weight_notes


@pytest.fixture(scope="module")
def parts():
    checkpoint = Checkpoint(published_state(TINY), TINY.as_dict(), "0" * 64)
    content = make_content(checkpoint, record_pictures(TINY, checkpoint.tensors, [picture(), picture(4)]))
    return float_layers(TINY, checkpoint.tensors), Bottleneck(checkpoint.tensors), content


def test_every_operation_is_compared_and_close(parts):
    floats, bottleneck, content = parts
    model = build_model(content)
    stages = compare_stages(TINY, floats, bottleneck, model, [picture(7)], [50, 100])
    for op in model.ops:
        assert stages[op.name].ratio < 1e-2, op.name
    assert stages["g_a/0/conv1"].ratio < 1e-6 < stages["g_s/7"].ratio  # error builds up along the codec


def test_a_damaged_layer_shows_in_its_own_stage_and_not_before(parts):
    floats, bottleneck, content = parts
    name = "layers/g_s/3/conv/weight"
    coarse = np.sign(content[name]) * (np.abs(content[name]) & -256)  # towards zero, so that it can still be proved
    damaged = content | {name: coarse.astype(np.int16)}
    good, bad = (
        compare_stages(TINY, floats, bottleneck, build_model(c), [picture(7)], [50]) for c in (content, damaged)
    )
    before = [op.name for op in build_model(content).ops]
    at = before.index("g_s/3/conv")
    assert all(good[name] == bad[name] for name in before[:at])
    assert bad["g_s/3/conv"].ratio > 1.2 * good["g_s/3/conv"].ratio


def test_results_on_a_clamp_are_counted(parts):
    floats, bottleneck, content = parts
    names = [op.name for op in build_model(content).ops]
    formats = content["formats"].copy()
    formats[names.index("h_a/0"), 1] = 3
    stages = compare_stages(TINY, floats, bottleneck, build_model(content | {"formats": formats}), [picture(7)], [50])
    assert stages["h_a/0"].clipped > stages["h_a/0"].total // 10
    assert stages["g_a/0/conv1"].clipped == 0


def test_weights_that_integers_lose_are_noted(parts):
    floats, _, content = parts
    name, ch = "lrp_anchor/1/0", TINY.ch
    model = build_model(content)
    assert weight_notes(floats, model) == []
    damaged = content[f"layers/{name}/weight"].copy()
    damaged[..., : TINY.M] = 0
    lossy = build_model(content | {f"layers/{name}/weight": damaged})
    reads = next(op for op in model.ops if op.name == name).inputs[0]
    assert weight_notes(floats, lossy) == [f"{name}: 100% of the weights for {reads} are 0 in integers"]
    weight = floats[name].weight.copy()
    weight[..., -ch:] = 0
    last = next(op for op in model.ops if op.name == name).inputs[-1]
    zero = {**floats, name: dataclasses.replace(floats[name], weight=weight)}
    assert weight_notes(zero, model) == [f"{name}: all weights for {last} are 0 in the checkpoint"]


@pytest.mark.slow
@pytest.mark.parametrize("qualities", [1, 3])
def test_the_command_writes_json_a_table_and_a_page(tmp_path, qualities, capsys):
    config = dataclasses.replace(TINY, qualities=qualities)
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(picture()).save(images / "a.png")
    Image.fromarray(picture(8)).save(images / "b<b>.png")
    save_checkpoint_folder(tmp_path / "checkpoint", published_state(config), {"config": config.as_dict()})
    command = ["convert", str(tmp_path / "checkpoint"), str(tmp_path / "model.h5"), "--images", str(images)]
    assert main([*command, "--report", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert [p["name"] for p in report["pictures"]] == ["a.png", "b<b>.png"]
    rows = {row["name"]: row for row in report["layers"]}
    assert len(rows) == len(report["layers"]) == len(build_names(config))
    assert rows["g_a/1/conv1"]["snr_db"] > 30 and rows["g_a/1/conv1"]["margin_bits"] >= 0
    assert rows["g_a/1/sum"]["weight_bits"] is None and 2 <= rows["g_a/1/conv1"]["weight_bits"] <= 16
    ratios = [rows[name]["snr_db"] for name in report["lowest_snr"]]
    assert ratios == sorted(ratios) and ratios[0] == min(r["snr_db"] for r in rows.values() if r["snr_db"] is not None)
    assert (report["codec"]["bd_rate"]["total"] is None) == (qualities == 1)
    table = (tmp_path / "r.txt").read_text()
    assert report["fingerprint"] in table and all(name in table for name in rows)
    page = (tmp_path / "r.html").read_text()
    assert "http" not in page and "b&lt;b&gt;.png" in page and page.count("<svg") + page.count("<p>none</p>") == 4
    for drawing in page.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + drawing.split("</svg>")[0] + "</svg>")
    capsys.readouterr()
    assert main([*command, "--report", str(tmp_path / "r.json")]) == 73
    (tmp_path / "model.h5").unlink()
    (tmp_path / "r.json").unlink()
    assert main([*command, "--report", str(tmp_path / "r.json")]) == 73  # the table is still there
    assert not (tmp_path / "model.h5").exists()


def build_names(config):
    from refcodec.model.layer_table import layer_table

    return [op.name for op in layer_table(config)]


def test_weight_bits_are_those_of_the_integers(parts):
    model = build_model(parts[2])
    for layer in model.layers.values():
        if isinstance(layer, Conv):
            assert np.abs(layer.weight.astype(int)).max() < 1 << 15
