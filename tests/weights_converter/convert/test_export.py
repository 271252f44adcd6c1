"""Exports: safetensors of the integers, and a state dict of the published layout with its way back."""

import dataclasses
import hashlib
import json
import struct

import h5py
import numpy as np
import pytest
from published_state import PUBLISHED_LAYOUTS, TINY, picture, published_buffer_keys, published_state

from refcodec.errors import InvalidModel
from refcodec.model.config import PROFILES
from refcodec.model.file import read_content, read_floats, write_model
from refcodec.model.integer_model import fingerprint
from refcodec.model.layers import Conv
from refcodec.model.proof import tensor_channels
from refcodec.model.registry import load_model
from weights_converter.__main__ import main
from weights_converter.convert.code_length import Bottleneck
from weights_converter.convert.export import kept_floats
from weights_converter.convert.folding import float_layers
from weights_converter.convert.names import published_buffers, published_shapes
from weights_converter.convert.pipeline import (
    convert,
    default_pictures,
    load_pictures,
    make_content,
    record_pictures,
)
from weights_converter.convert.quantise import conv_fracs
from weights_converter.formats.checkpoint import Checkpoint, read_checkpoint
from weights_converter.formats.spelling import current_name, normalised_name
from weights_converter.report.evaluate import evaluate

OLD = dataclasses.replace(TINY, lrp=(), old_synthesis=True, qualities=1)


@pytest.fixture(scope="module", params=[TINY, OLD], ids=["gains", "old"])
def made(request, tmp_path_factory):
    """A checkpoint, its calibration record and the path of its model."""
    config = request.param
    checkpoint = Checkpoint(published_state(config), config.as_dict(), "0" * 64)
    record = record_pictures(config, checkpoint.tensors, [picture()])
    path = tmp_path_factory.mktemp("export") / "model.h5"
    convert(checkpoint, record, path, {})
    return checkpoint, record, path


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("float") / "out.pt"
    assert main(["export", str(made[2]), "--float", str(out)]) == 0
    return out


@pytest.mark.slow
def test_the_default_model_computes_what_its_floats_do(tmp_path):
    """Against the bits of the coder's tables, without its two final states, 16 bytes; weights are the rounded ones."""
    out = tmp_path / "default.pt"
    assert main(["export", "default", "--float", str(out)]) == 0
    state, model = read_checkpoint(out).tensors, load_model()
    name, samples = next(p for p in load_pictures(default_pictures(), 256) if p[0] == "scene.png")
    floats = float_layers(model.config, state)
    result = evaluate(model.config, floats, Bottleneck(state), model, [(name, samples)], (1, 100))
    for a, b in zip(result["float_psnr"], result["integer_psnr"], strict=True):
        assert abs(a - b) < 0.02
    states = 128 / samples[:, :, 0].size
    for a, b in zip(result["tables_bpp"], result["integer_bpp"], strict=True):
        assert abs(b - states - a) < 0.005 * a


def test_the_integers_as_safetensors(made, tmp_path):
    out = tmp_path / "out.safetensors"
    assert main(["export", str(made[2]), "--flat", str(out)]) == 0
    data = out.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    meta = header.pop("__metadata__")
    content = {}
    for name, entry in header.items():
        begin, end = (8 + length + n for n in entry["data_offsets"])
        assert begin % (int(entry["dtype"][1:]) // 8) == 0
        numbers = np.frombuffer(data[begin:end], {"I16": "<i2", "I32": "<i4", "I64": "<i8"}[entry["dtype"]])
        content[name] = numbers.reshape(entry["shape"])
    expected, _ = read_content(made[2])
    assert content.keys() == expected.keys()
    assert all(np.array_equal(content[n], a) and content[n].dtype == a.dtype for n, a in expected.items())
    assert meta["fingerprint"] == fingerprint(content).hex() == load_model(made[2]).fingerprint.hex()
    assert json.loads(meta["config"]) == made[0].config


def test_an_existing_file_needs_force(made, exported):
    before = exported.read_bytes()
    assert main(["export", str(made[2]), "--float", str(exported)]) == 73
    assert main(["export", str(made[2]), "--flat", str(exported)]) == 73
    assert main(["export", str(made[2]), "--float", str(exported), "--force"]) == 0
    assert exported.read_bytes() == before  # and the same model gives the same bytes
    assert main(["export", "no-such-model", "--float", str(exported), "--force"]) == 78


def test_the_state_dict_is_the_checkpoints_within_half_a_step(made, exported):
    checkpoint, _, path = made
    again = read_checkpoint(exported)
    assert again.form == "torch-zip" and again.config == checkpoint.config
    assert {n: a.shape for n, a in again.tensors.items()} == {n: a.shape for n, a in checkpoint.tensors.items()}
    for name in kept_floats(load_model(path).config, checkpoint.tensors):
        assert np.array_equal(again.tensors[name], checkpoint.tensors[name]), name
    model = load_model(path)
    channels = tensor_channels(model.ops)
    before, after = (float_layers(model.config, c.tensors) for c in (checkpoint, again))
    for op in model.ops:
        if isinstance(layer := model.layers[op.name], Conv):
            inputs, outputs = conv_fracs(op, model.layers, channels)
            step = np.exp2(-(outputs + layer.shift).astype(float))[:, None, None, None] * np.exp2(inputs)
            difference = np.abs(after[op.name].weight - before[op.name].weight)
            assert (difference <= 0.501 * step).all(), op.name


def test_a_round_trip_gives_the_same_integers_but_for_ties(made, exported):
    """Every weight is the centre of its interval, so it rounds to itself.

    Two things may change: a channel may afford one more shift, when rounding made its worst case smaller, and has the
    same weights in finer units then; and the bias behind a norm, since W beta is folded into it with the rounded W.
    """
    checkpoint, record, _ = made
    before = make_content(checkpoint, record)
    after = make_content(read_checkpoint(exported), record)
    assert before.keys() == after.keys()
    moved = 0
    for name, array in before.items():
        if name.startswith("layers/") and name.endswith("/constants") and array.shape[1:] == (3,):
            more = after[name][:, 1] - array[:, 1]
            assert set(np.unique(more)) <= {0, 1}, name
            moved += int(more.sum())
            drift = np.abs(after[name][:, 0].astype(np.float64) / 2.0**more - array[:, 0])
            behind_norm = name.startswith("layers/local/") and ("/qkv/" in name or "/fc1/" in name)
            assert drift.max() <= (0.5 * TINY.ch * 2 * 8192 if behind_norm else 1), name
            weight = f"{name.removesuffix('constants')}weight"
            assert np.array_equal(after[weight], before[weight] << more[:, None, None, None].astype(np.int16)), weight
        elif not name.endswith("/weight"):
            assert np.array_equal(after[name], array), name
    assert moved <= 5


def test_pytorch_loads_the_state_dict_into_the_twin(exported):
    torch = pytest.importorskip("torch")
    from weights_converter.network.model import from_checkpoint

    loaded = torch.load(exported, weights_only=True)
    again = read_checkpoint(exported)
    assert loaded["config"] == again.config
    for name, tensor in loaded["state_dict"].items():
        if (kept := again.tensors.get(normalised_name(name))) is not None:
            assert np.array_equal(tensor.numpy(), kept)
    twin = from_checkpoint(again)
    before = {name: value.clone() for name, value in twin.state_dict().items()}
    twin.load_state_dict(loaded["state_dict"])  # strictly
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
    assert torch.isfinite(twin(torch.full((1, 3, 64, 64), 0.5), torch.zeros(1))[0]).all()


@pytest.mark.parametrize("name", PUBLISHED_LAYOUTS)
def test_keys_shapes_and_types_are_those_of_the_published_class(name):
    config = PROFILES[name]
    lines = [f"{current_name(key)} float32 {list(shape)}" for key, shape in published_shapes(config, False).items()]
    lines += [f"{key} {array.dtype} {list(array.shape)}" for key, array in published_buffers(config).items()]
    assert (len(lines), hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()) == PUBLISHED_LAYOUTS[name]


@pytest.mark.parametrize("spelling", ["current", "old"])
def test_an_export_has_every_key_of_the_published_class(made, tmp_path, spelling):
    """Parameters in the spelling asked for, and every buffer; nothing else but the gains of several qualities."""
    torch = pytest.importorskip("torch")
    from weights_converter.network.model import LoCLIC

    out = tmp_path / "out.pt"
    assert main(["export", str(made[2]), "--float", str(out), "--spelling", spelling]) == 0
    state = torch.load(out, weights_only=True)["state_dict"]
    model = load_model(made[2])
    parameters = {
        current_name(key) if spelling == "current" else key: array.shape for key, array in made[0].tensors.items()
    }
    assert any("matrices" in key for key in parameters) == (spelling == "current")
    buffers = published_buffers(model.config)
    assert buffers.keys() == published_buffer_keys(model.config)
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        **parameters,
        **{key: array.shape for key, array in buffers.items()},
    }
    for key, array in buffers.items():
        assert np.array_equal(state[key].numpy(), array) and str(state[key].numpy().dtype) == str(array.dtype), key
    twin = LoCLIC(model.config)
    index = twin.state_dict()["local_context.0.relative_position_index"].numpy()
    assert np.array_equal(state["local_context.0.relative_position_index"].numpy(), index)
    target = twin.state_dict()["entropy_bottleneck.target"].numpy()
    assert np.array_equal(state["entropy_bottleneck.target"].numpy(), target)
    twin.load_state_dict(state)
    again = read_checkpoint(out)
    assert all(np.array_equal(twin.state_dict()[key].numpy(), array) for key, array in again.tensors.items())
    for damage in ("extra", "missing"):
        wrong = dict(state)
        if damage == "extra":
            wrong["g_a.other"] = torch.zeros(1)
        else:
            del wrong["h_a.reduction.0.bias"]
        with pytest.raises(RuntimeError):
            twin.load_state_dict(wrong)


def test_floats_take_no_part_in_the_content(made, tmp_path):
    content, provenance = read_content(made[2])
    assert not any(name.startswith("float") for name in content)
    write_model(tmp_path / "bare.h5", content, provenance)
    assert load_model(tmp_path / "bare.h5").fingerprint == load_model(made[2]).fingerprint
    assert read_floats(tmp_path / "bare.h5") == {}
    assert main(["export", str(tmp_path / "bare.h5"), "--float", str(tmp_path / "out.pt")]) == 78
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize("damage", ["not finite", "missing", "unknown", "misshapen", "wide"])
def test_damaged_floats_are_refused(made, tmp_path, damage):
    path = tmp_path / "model.h5"
    path.write_bytes(made[2].read_bytes())
    name = "float/entropy_bottleneck._bias0"
    with h5py.File(path, "r+") as f:
        values = f[name][()]
        del f[name]
        if damage == "not finite":
            f[name] = np.full(values.shape, np.inf, np.float32)
        elif damage == "misshapen":
            f[name] = values[:, 0]
        elif damage == "wide":
            f[name] = values.astype(np.float64)
        elif damage == "unknown":
            f[name], f["float/other"] = values, values
    assert main(["export", str(path), "--float", str(tmp_path / "out.pt")]) == 78
    if damage == "wide":
        with pytest.raises(InvalidModel):
            load_model(path)
    else:
        assert load_model(path).fingerprint == load_model(made[2]).fingerprint
