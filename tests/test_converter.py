"""The converter: recognition, the float engine beside PyTorch, calibration, quantisation, fidelity."""

import dataclasses
import json

import numpy as np
import pytest
from published_state import TINY, published_state

from refcodec.architecture import PROFILES, layer_table
from refcodec.arith.maps import interior
from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import InvalidModel
from refcodec.model import build_model, fingerprint
from refcodec.model_file import load_model
from weights_converter.__main__ import main
from weights_converter.calibrate import calibrate, record_content, record_from, run_float
from weights_converter.checkpoint import Checkpoint, save_checkpoint_folder
from weights_converter.convert import make_content
from weights_converter.evaluate import evaluate
from weights_converter.float_engine import Bottleneck, FloatEngine
from weights_converter.published import float_layers, published_key
from weights_converter.quantise import z_content
from weights_converter.recognise import recognise


def picture(seed: int = 3, height: int = 64, width: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([128 + 80 * np.sin(x / (9 + n) + n) * np.cos(y / (7 - n)) for n in range(3)], axis=2)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def state():
    return published_state(TINY)


@pytest.fixture(scope="module")
def floats(state):
    return float_layers(TINY, state)


@pytest.fixture(scope="module")
def record(state, floats):
    return calibrate(TINY, floats, Bottleneck(state), [picture(), picture(4)], (1, 50, 100))


@pytest.fixture(scope="module")
def model(state, record):
    return build_model(make_content(Checkpoint(state, None, "0" * 64), record))


def test_the_tiny_configuration_is_recognised_from_shapes(state):
    # Heads of the global attentions leave no trace in shapes: recognised checkpoints have the published 2 and 32.
    assert recognise(state) == dataclasses.replace(TINY, inter_head_width=32)


@pytest.mark.parametrize("name", sorted(n for n, c in PROFILES.items() if c.inter_head_width == 32))
def test_every_profile_is_recognised_from_shapes(name):
    config = PROFILES[name]
    shapes = {}
    for op in layer_table(config):
        if op.kind == "conv":
            shapes[f"{published_key(op.name)}.weight"] = np.broadcast_to(np.float32(0), (op.channels, 1))
    shapes["local_context.0.relative_position_table"] = np.zeros((81, 2), np.float32)
    if config.qualities > 1:
        shapes["gain"] = np.zeros((config.qualities, config.M), np.float32)
    assert recognise(shapes) == config


def test_missing_and_misshapen_tensors_are_named_at_once(state):
    damaged = dict(state)
    del damaged["h_a.reduction.4.weight"]
    del damaged["g_s.synthesis_transform.2.skip.bias"]
    damaged["channel_context.1.fushion.0.weight"] = np.zeros((12, 8, 5, 5), np.float32)
    with pytest.raises(InvalidModel) as caught:
        float_layers(TINY, damaged)
    text = str(caught.value.values["tensors"])
    for name in ("h_a.reduction.4.weight", "g_s.synthesis_transform.2.skip.bias", "chan/1/0"):
        assert name in text


def test_the_float_engine_equals_the_pytorch_twin(state, floats):
    torch = pytest.importorskip("torch")
    from weights_converter.torch_model import LoCLIC, analyse, synthesise

    config = {"N": list(TINY.N), "M": TINY.M, "slices": TINY.slices, "hyper": TINY.hyper, "hs": list(TINY.hs),
              "chan": list(TINY.chan), "ent": list(TINY.ent), "lrp": list(TINY.lrp), "window": 5, "qualities": 3,
              "inter_head_width": TINY.inter_head_width, "intra_heads": 2, "local_heads": 2}
    twin = LoCLIC(config).eval()
    missing, unexpected = twin.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    assert not unexpected and all("relative_position_index" in m or "target" in m for m in missing)
    samples = picture()
    x = torch.from_numpy(samples.copy()).permute(2, 0, 1)[None].float() / 255
    q = torch.tensor([1.0])
    with torch.no_grad():
        z_symbols, y_symbols, x_hat = analyse(twin, x, q)
        again = synthesise(twin, z_symbols, y_symbols, q)
    assert torch.allclose(x_hat, again, atol=1e-5)

    class Forced:
        """Answers with the twin's symbols, so that a tie of rounding cannot part the two."""

        def z(self, medians, shape):
            return z_symbols[0].permute(1, 2, 0).numpy()

        def y(self, i, parity, levels, means):
            from refcodec.arith.checkerboard import take

            part = y_symbols[0].permute(1, 2, 0).numpy()[:, :, i * TINY.ch:(i + 1) * TINY.ch]
            return take(part, parity)

    from refcodec.nets.synthesis import synthesis
    from refcodec.slices import walk

    step = 1 + round(99 * 1.0 / 2)  # level 1 of 0..2 lies between steps 50 and 51: compare on the level itself
    engine = FloatEngine(dataclasses.replace(TINY, qualities=3), floats, step - 1)
    for name in ("y", "z", "h_s/input", "g_s/input"):
        level = floats[name].log_gain[1:2]
        engine.layers = {**engine.layers, name: dataclasses.replace(floats[name], log_gain=np.repeat(level, 3, axis=0))}
    y_hat = walk(engine, TINY, Bottleneck(state).medians.astype(np.float32), Forced(), 4, 4)
    ours = interior(synthesis(engine, y_hat)) / 255
    theirs = x_hat[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_same_record_same_fingerprint(state, record):
    again = record_from(json.loads(json.dumps(record_content(record))), "test")
    a, b = (fingerprint(make_content(Checkpoint(state, None, ""), r)) for r in (record, again))
    assert a == b


def test_a_record_that_is_none_is_refused():
    for values in ({"a": 1}, {"a": {"count": 0, "largest": 1, "clamp_error": [0.0] * 21}}, {"a": {"count": 1}}):
        with pytest.raises(InvalidModel):
            record_from(values, "test")


def test_the_model_is_faithful(state, floats, model):
    result = evaluate(TINY, floats, Bottleneck(state), model, [("a", picture(9))], (1, 100))
    # A picture of 16 latents pays for two final states of the coder, 16 bytes; the rest must agree closely.
    pixels = 64 * 64
    overhead = 128 / pixels
    for a, b in zip(result["float_bpp"], result["integer_bpp"], strict=True):
        assert a * 0.98 < b < a * 1.02 + overhead
    for a, b in zip(result["float_psnr"], result["integer_psnr"], strict=True):
        assert abs(a - b) < 0.5
    assert all(rate < 0.01 for rate in result["clip_rates"].values())


def test_what_is_encoded_decodes(model):
    coded = encode_picture(picture(5, 50, 70), 80, model=model)
    samples, _ = decode_stream(coded.data, model=model, verify=True)
    assert np.array_equal(samples, coded.reconstruction)


def test_every_float_stage_is_close_to_its_integer_stage(state, floats, model):
    """The analysis path has no symbols in it, so every stage of it compares directly."""
    seen: dict[str, np.ndarray] = {}
    run_float(TINY, floats, Bottleneck(state), picture(), 50, lambda n, v: seen.setdefault(n, v.copy()))
    whole: dict[str, np.ndarray] = {}
    encode_picture(picture(), 50, model=model, trace=lambda n, v: whole.setdefault(n, v.astype(np.float64)))
    for name in [op.name for op in model.ops if op.name.startswith(("g_a/", "h_a/"))] + ["y"]:
        exact, got = seen[name].astype(np.float64), whole[name] / 2.0 ** model.layers[name].frac
        assert np.abs(got - exact).max() < 0.02 * np.abs(exact).max() + 0.02, name


def test_tables_of_z_hold_the_bottlenecks_probabilities(state):
    content = z_content(Bottleneck(state))
    start, cdf, first = content["z/start"], content["z/cdf"], content["z/first"]
    for c in (0, 5):
        boundaries = cdf[start[c]:start[c + 1]]
        symbols = np.arange(first[c], first[c] + boundaries.size - 2)
        p = Bottleneck(state).probabilities(np.broadcast_to(symbols, (TINY.hyper, symbols.size)).astype(float))[c]
        assert np.abs(np.diff(boundaries)[:-1] / 65536 - p).max() < 2e-3
        assert 1 - p.sum() < 2 ** -15


def test_the_command_converts_a_folder(tmp_path, state, capsys):
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(picture()).save(images / "a.png")
    checkpoint, out, record = tmp_path / "checkpoint", tmp_path / "model.h5", tmp_path / "record.json"
    published = published_state(dataclasses.replace(TINY, inter_head_width=32))
    save_checkpoint_folder(checkpoint, published, {"step": 7})
    assert main(["convert", str(checkpoint), str(out), "--images", str(images), "--calibration", str(record)]) == 0
    first = load_model(out)
    assert first.provenance["source"]["step"] == 7
    assert main(["convert", str(checkpoint), str(out)]) == 73  # exists
    assert main(["convert", str(checkpoint), str(out), "--calibration", str(record), "--force"]) == 0
    assert load_model(out).fingerprint == first.fingerprint
    assert main(["inspect", str(checkpoint)]) == 0
    assert '"kmac_per_pixel"' in capsys.readouterr().out
    assert main(["convert", str(checkpoint), str(tmp_path / "other.h5")]) == 66
    assert not (tmp_path / "other.h5").exists()
