"""The converter: recognition, the float engine compared with PyTorch, calibration, quantisation, fidelity."""

import dataclasses
import json
import math

import numpy as np
import pytest
from checkpoint_folder import save_checkpoint_folder
from PIL import Image
from published_state import TINY, picture, published_state

from refcodec.arith.maps import interior
from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import InvalidModel
from refcodec.model.config import PROFILES
from refcodec.model.integer_model import build_model, fingerprint
from refcodec.model.layer_table import layer_table, parameter_count
from refcodec.model.registry import load_model
from weights_converter.__main__ import main
from weights_converter.convert.calibrate import (
    LEAST,
    MOST,
    Format,
    Seen,
    calibrate,
    choose_formats,
    record_content,
    record_from,
    run_float,
)
from weights_converter.convert.code_length import Bottleneck, EstimatingPort, gaussian_likelihood
from weights_converter.convert.float_engine import FloatEngine
from weights_converter.convert.folding import float_layers
from weights_converter.convert.names import published_key, published_shapes
from weights_converter.convert.pipeline import convert, make_content, own_pictures, record_pictures
from weights_converter.convert.quantise import quantise, z_content
from weights_converter.convert.recognise import recognise
from weights_converter.formats.checkpoint import Checkpoint, read_checkpoint
from weights_converter.report.evaluate import evaluate


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
    return build_model(make_content(Checkpoint(state, TINY.as_dict(), "0" * 64), record))


def test_the_tiny_configuration_is_recognised_from_shapes(state):
    # Heads of the global attentions leave no trace in shapes: recognised checkpoints have the published 2 and 32.
    assert recognise(state) == dataclasses.replace(TINY, inter_head_width=32)
    assert recognise(state, TINY.as_dict()) == TINY


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


def test_missing_unknown_and_misshapen_tensors_are_named_at_once(state):
    damaged = dict(state)
    del damaged["h_a.reduction.4.weight"]
    del damaged["g_s.synthesis_transform.2.skip.bias"]
    del damaged["entropy_bottleneck.quantiles"]
    damaged["channel_context.1.fushion.0.weight"] = np.zeros((12, 8, 5, 5), np.float32)
    damaged["local_context.0.norm1.weight"] = np.zeros(9, np.float32)
    damaged["g_s.attention.weight"] = np.zeros((2, 2), np.float32)
    with pytest.raises(InvalidModel) as caught:
        float_layers(TINY, damaged)
    assert caught.value.values == {
        "missing": ["entropy_bottleneck.quantiles", "g_s.synthesis_transform.2.skip.bias", "h_a.reduction.4.weight"],
        "unknown": ["g_s.attention.weight"],
        "misshapen": [
            "channel_context.1.fushion.0.weight: [12, 8, 5, 5] instead of [12, 8, 3, 3]",
            "local_context.0.norm1.weight: [9] instead of [8]",
        ],
    }


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_published_shapes_hold_every_parameter(name):
    config = PROFILES[name]
    shapes = published_shapes(config, gained=config.qualities > 1)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == parameter_count(config)


def test_published_shapes_are_those_of_the_random_state(state):
    assert published_shapes(TINY, gained=True) == {name: array.shape for name, array in state.items()}


def test_a_network_of_one_quality_may_have_gains(state):
    single = dataclasses.replace(TINY, qualities=1)
    bare = {name: array for name, array in state.items() if "gain" not in name}
    ones = float_layers(single, bare)["y"].log_gain
    assert np.array_equal(ones, np.zeros((1, TINY.M)))
    gained = bare | {name: state[name][:1] for name in ("gain", "inv_gain", "hyper_gain", "hyper_inv_gain")}
    assert np.array_equal(float_layers(single, gained)["y"].log_gain, state["gain"][:1])
    with pytest.raises(InvalidModel):  # all four or none
        float_layers(single, {name: array for name, array in gained.items() if name != "hyper_gain"})


def test_the_float_engine_equals_the_pytorch_twin(state, floats):
    torch = pytest.importorskip("torch")
    from weights_converter.network.model import LoCLIC, analyse, synthesise

    twin = LoCLIC(TINY).eval()
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

            part = y_symbols[0].permute(1, 2, 0).numpy()[:, :, i * TINY.ch : (i + 1) * TINY.ch]
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


@pytest.mark.parametrize("reach", [-3, 0, 5, 14])
@pytest.mark.parametrize("tail", [0.0, 1e-12, 1e6])
def test_a_format_has_14_bits_and_the_least_error(record, reach, tail):
    """Clamps below 2^reach cost much, that at 2^reach costs the tail, those above nothing; rounding step^2 / 12."""
    costs = np.array([1e9 if e < reach else tail if e == reach else 0.0 for e in range(LEAST, MOST + 1)])
    formats = choose_formats(TINY, record | {"g_s/0/sum": Seen(1, 2.0**reach, costs)})
    clamp = reach + (tail == 1e6)
    assert formats["g_s/0/sum"] == Format(max(0, min(14 - clamp, 15)), 2**14 - 1)


def test_a_record_of_another_network_is_refused(state, record):
    with pytest.raises(InvalidModel, match="another network"):
        make_content(Checkpoint(state, None, ""), {name: seen for name, seen in record.items() if name != "chan/1/0"})


def test_clamp_errors_are_those_of_the_definition():
    values = np.random.default_rng(5).normal(0, 3, 1000).astype(np.float32)
    values[:3] = 0, 4, -4096
    seen = Seen()
    seen.add(values[:600])
    seen.add(values[600:])
    limits = 2.0 ** np.arange(LEAST, MOST + 1)
    expected = [np.square(np.maximum(np.abs(values.astype(np.float64)) - t, 0)).sum() for t in limits]
    assert seen.count == 1000 and seen.largest == 4096
    assert np.allclose(seen.clamp_error, expected, rtol=1e-9, atol=1e-6)


def test_threads_do_not_change_a_record(state, floats, record, monkeypatch):
    monkeypatch.setenv("REFCODEC_THREADS", "1")
    alone = calibrate(TINY, floats, Bottleneck(state), [picture(), picture(4)], (1, 50, 100))
    assert record_content(alone) == record_content(record)


def test_a_network_that_overflows_is_refused(state):
    wild = state | {"g_a.analysis_transform.6.weight": np.full((TINY.M, 12, 3, 3), 3e38, np.float32)}
    with pytest.raises(InvalidModel, match="leaves the range"):
        calibrate(TINY, float_layers(TINY, wild), Bottleneck(wild), [picture()], (1,))


def extreme(state, **factors):
    """The state with weights of some modules multiplied; later modules are as they were."""
    return state | {name: state[name] * np.float32(factor) for name, factor in factors.items()}


@pytest.mark.parametrize(
    "factors",
    [
        {"g_a.analysis_transform.1.conv2.weight": 1e-5, "g_a.analysis_transform.2.skip.weight": 3e4},
        {"g_a.analysis_transform.2.gdn.beta": 3e3, "g_a.analysis_transform.2.skip.weight": 1e5},
        {"h_a.reduction.0.weight": 1e4, "h_a.reduction.2.weight": 1e-8},
        {"local_context.1.proj.weight": 1e-6, "local_context.1.mlp.fc2.weight": 1e6},
        {"gain": 10.0, "inv_gain": 12.0},
    ],
    ids=["large skip", "small branch", "saturated", "small residual", "gains"],
)
def test_networks_of_extreme_ranges_are_converted_and_proved(state, factors):
    wild = extreme(state, **factors)
    record = calibrate(TINY, float_layers(TINY, wild), Bottleneck(wild), [picture()], (1, 100))
    model = build_model(make_content(Checkpoint(wild, TINY.as_dict(), ""), record))
    assert min(model.margins.values()) >= 0
    samples, _ = decode_stream(encode_picture(picture(5), 100, model=model).data, model=model, verify=True)
    assert samples.shape == (64, 64, 3)


def test_a_branch_with_more_bits_than_its_accumulator_loses_them(state, record):
    """The skip convolution's weights leave its accumulator few fraction bits; the branch joins it unrounded."""
    formats = choose_formats(TINY, record)
    wild = extreme(state, **{"g_a.analysis_transform.0.skip.weight": 3e4})
    content = quantise(TINY, float_layers(TINY, wild), formats, Bottleneck(wild))
    names = [op.name for op in layer_table(TINY)]
    assert content["formats"][names.index("g_a/0/gdn"), 0] < formats["g_a/0/gdn"].frac
    assert int(content["layers/g_a/0/skip/constants"][:, 2].min()) == 0
    build_model(content)


def test_what_no_format_proves_is_refused(state, record):
    wild = extreme(state, **{"entropy_parameters_anchor.0.fusion.6.weight": 1e9})
    with pytest.raises(InvalidModel, match="no format proves"):
        quantise(TINY, float_layers(TINY, wild), choose_formats(TINY, record), Bottleneck(wild))


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
        assert abs(a - b) < 0.05
    assert all(rate < 0.01 for rate in result["clip_rates"].values())
    assert result["bd_rate"].keys() == {"total", "entropy", "synthesis", "tables"}
    for a, b in zip(result["tables_bpp"], result["integer_bpp"], strict=True):
        assert a * 0.995 < b < a * 1.005 + overhead


def published_likelihood(distance: float, scale: float) -> float:
    """GaussianConditional of CompressAI: ``_likelihood``, then ``likelihood_lower_bound``."""

    def standardised(t: float) -> float:
        return 0.5 * math.erfc(-(2**-0.5) * t)

    value = abs(distance)
    return max(standardised((0.5 - value) / scale) - standardised((-0.5 - value) / scale), 1e-9)


def test_likelihoods_are_those_of_the_published_formula():
    """The first two by CompressAI 1.2.8; a symbol of 1 at the smallest scale costs 18.5 bits, not the bound's 29.9."""
    assert np.allclose(
        gaussian_likelihood(np.array([1, -1]), np.array([0.11, 0.16])), [2.7408414e-06, 8.8902530e-04], rtol=1e-6
    )
    symbols = np.concatenate([np.arange(-40, 41), [-8191, 8191]])
    for scale in (0.11, 0.12, 0.16, 0.25, 0.5, 1, 3, 17, 64, 256, 1000):
        expected = [published_likelihood(s, scale) for s in symbols.tolist()]
        found = gaussian_likelihood(symbols.astype(np.float32), np.full(symbols.size, scale))
        assert np.allclose(np.log2(found), np.log2(expected), rtol=0, atol=1e-9), scale


@pytest.mark.parametrize("bias", [-3.0, 0.0, 3.0])
def test_estimated_bits_are_those_of_the_published_formula(state, floats, monkeypatch, bias):
    """Whatever the scales: every symbol, with the scale and the mean that the network gives it, and z."""
    wanted = 0.0

    class Port(EstimatingPort):
        def y(self, i, parity, levels, means):
            nonlocal wanted
            symbols = super().y(i, parity, levels, means)
            wanted -= sum(
                math.log2(published_likelihood(s, scale))
                for s, scale in zip(symbols.reshape(-1).tolist(), levels.reshape(-1).tolist(), strict=True)
            )
            return symbols

    monkeypatch.setattr("weights_converter.convert.calibrate.EstimatingPort", Port)
    changed = dict(state)
    for name in state:
        if name.startswith("entropy_parameters") and name.endswith(".6.bias"):
            changed[name] = state[name] - np.float32([3 - bias] * TINY.ch + [0] * TINY.ch)
    result = run_float(TINY, float_layers(TINY, changed), Bottleneck(changed), picture(3), 100)
    assert result.bits_y == pytest.approx(wanted, rel=1e-9)


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
        boundaries = cdf[start[c] : start[c + 1]]
        symbols = np.arange(first[c], first[c] + boundaries.size - 2)
        p = Bottleneck(state).probabilities(np.broadcast_to(symbols, (TINY.hyper, symbols.size)).astype(float))[c]
        assert np.abs(np.diff(boundaries)[:-1] / 65536 - p).max() < 2e-3
        assert 1 - p.sum() < 2**-15


@pytest.mark.slow
def test_the_command_converts_a_folder(tmp_path, state, capsys):
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(picture()).save(images / "a.png")
    checkpoint, out, record = tmp_path / "checkpoint", tmp_path / "model.h5", tmp_path / "record.json"
    published = published_state(dataclasses.replace(TINY, inter_head_width=32))
    save_checkpoint_folder(checkpoint, published, {"step": 7})
    assert main(["convert", str(checkpoint), str(out), "--images", str(images), "--calibration", str(record)]) == 0
    first = load_model(out)
    assert first.provenance["source"]["step"] == 7
    assert first.provenance["calibration_pictures"]["count"] == 1 + len(own_pictures())
    for name in "bc":
        Image.fromarray(picture()).save(images / f"{name}.png")
    assert main(["convert", str(checkpoint), str(out), "--images", str(images), "--most", "2", "--force"]) == 0
    assert load_model(out).provenance["calibration_pictures"]["count"] == 2 + len(own_pictures())
    assert main(["convert", str(checkpoint), str(out)]) == 73  # exists
    assert main(["convert", str(checkpoint), str(out), "--calibration", str(record), "--force"]) == 0
    assert load_model(out).fingerprint == first.fingerprint
    assert main(["inspect", str(checkpoint)]) == 0
    assert '"kmac_per_pixel"' in capsys.readouterr().out
    assert main(["convert", str(checkpoint), str(tmp_path / "other.h5"), "--images", str(tmp_path / "none")]) == 66
    assert not (tmp_path / "other.h5").exists()


@pytest.mark.slow
def test_without_pictures_the_projects_own_are_taken_with_a_warning(tmp_path, state, capsys, monkeypatch):
    checkpoint = tmp_path / "checkpoint"
    single = {name: array for name, array in state.items() if "gain" not in name}
    save_checkpoint_folder(checkpoint, single, {"config": dataclasses.replace(TINY, qualities=1).as_dict()})
    assert main(["convert", str(checkpoint), str(tmp_path / "model.h5")]) == 0
    assert "warning" in (said := capsys.readouterr().err) and "calibrating 0" not in said and "\r" not in said
    model = load_model(tmp_path / "model.h5")
    assert model.provenance["calibration_pictures"]["count"] == len(own_pictures()) > 5
    assert model.config.inter_head_width == TINY.inter_head_width
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    assert main(["convert", str(checkpoint), str(tmp_path / "other.h5")]) == 66


def test_progress_is_a_share_of_the_work_on_one_line_that_goes_away(tmp_path, state, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("weights_converter.commands.own_pictures", lambda: [picture()])
    single = {name: array for name, array in state.items() if "gain" not in name}
    save_checkpoint_folder(tmp_path / "c", single, {"config": dataclasses.replace(TINY, qualities=1).as_dict()})
    assert main(["convert", str(tmp_path / "c"), str(tmp_path / "model.h5")]) == 0
    said = capsys.readouterr().err
    for action in ("calibrating", "quantising"):
        assert f"\r{action}   0 %" in said and f"\r{action} 100 %" in said
    assert said.endswith("\r\x1b[K")


@pytest.mark.slow
def test_evaluate_refuses_a_model_of_another_checkpoint(tmp_path, state, record, capsys):
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(picture()).save(images / "a.png")
    single = dataclasses.replace(TINY, qualities=1)
    bare = {name: array for name, array in state.items() if "gain" not in name}
    checkpoints = {
        "one": (bare, single),
        "again": (dict(reversed(bare.items())), single),
        "gains": (state, TINY),
        "other": (bare | {"h_a.reduction.0.bias": bare["h_a.reduction.0.bias"] + 1}, single),
    }
    for name, (tensors, config) in checkpoints.items():
        save_checkpoint_folder(tmp_path / name, tensors, {"config": config.as_dict()})
    model = tmp_path / "model.h5"
    one = read_checkpoint(tmp_path / "one")
    convert(one, record_pictures(single, one.tensors, [picture()]), model, {})

    def run(name: str, *more: str) -> int:
        return main(["evaluate", str(tmp_path / name), "--model", str(model), "--images", str(images), *more])

    assert run("gains") == 78 and "another network" in (said := capsys.readouterr().err) and "qualities" in said
    assert run("other") == 78 and "another checkpoint" in (said := capsys.readouterr().err) and "model.h5" in said
    for name in ("one", "again"):  # the same weights in another file are the same
        assert run(name, "--save-json", str(tmp_path / "result.json")) == 0
        assert "needs more than one quality" in (said := capsys.readouterr().out) and "nan" not in said
        assert json.loads((tmp_path / "result.json").read_text())["bd_rate"]["total"] is None
    assert main(["evaluate", str(tmp_path / "one"), "--model", str(model), "--images", str(tmp_path / "nodir")]) == 66
    assert "no such folder" in capsys.readouterr().err
