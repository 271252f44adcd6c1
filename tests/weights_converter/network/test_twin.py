"""The PyTorch twin: its state dict, its two halves against the whole, and the benchmark. Skipped without PyTorch."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from checkpoint_folder import save_checkpoint_folder
from PIL import Image
from published_state import TINY, published_state

from refcodec.errors import InvalidModel, MissingInput, UsageError
from refcodec.model.config import PROFILES, Config
from weights_converter.__main__ import main
from weights_converter.convert.calibrate import run_float
from weights_converter.convert.code_length import Bottleneck
from weights_converter.convert.folding import float_layers, step_quality
from weights_converter.convert.names import GAINS, published_shapes
from weights_converter.formats.checkpoint import Checkpoint, read_checkpoint
from weights_converter.formats.spelling import IGNORED
from weights_converter.network import bench as torch_bench
from weights_converter.network.contexts import LocalContext, anchors_alone, merge, nonanchors_alone, split
from weights_converter.network.layers import GDN, EntropyBottleneck
from weights_converter.network.model import LoCLIC, analyse, from_checkpoint, synthesise
from weights_converter.network.walk import walk

pytestmark = pytest.mark.usefixtures("torch_modes")


@pytest.fixture(scope="module")
def model() -> LoCLIC:
    """Make a tiny network whose latents and medians are far from trivial."""
    torch.manual_seed(1)
    network = LoCLIC(TINY).eval()
    with torch.no_grad():
        for last in (network.g_a.analysis_transform[-1], network.h_a.reduction[-1]):
            last.get_parameter("weight").mul_(30)
        network.entropy_bottleneck.quantiles[:, 0, 1] = torch.linspace(-1.3, 1.7, TINY.hyper)
        for name in GAINS.values():
            getattr(network, name).add_(0.1 * torch.randn_like(getattr(network, name)))
    return network


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return torch_bench.network_input(torch_bench.synthetic_picture(64, 128))


def folder(path: Path, network: LoCLIC) -> Path:
    arrays = {name: value.detach().numpy() for name, value in network.state_dict().items() if value.is_floating_point()}
    save_checkpoint_folder(path, arrays, {"step": 5, "config": network.config.as_dict()})
    return path


@cache
def shapes_on_meta(config: Config) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in LoCLIC(config).state_dict().items()}


def test_state_dict_and_folder_have_the_same_names(model: LoCLIC, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(folder(tmp_path / "c", model))
    assert checkpoint.config == TINY.as_dict() and checkpoint.meta == {"step": 5}
    state = model.state_dict()
    assert list(checkpoint.tensors) == [name for name in state if not IGNORED.fullmatch(name)]
    assert checkpoint.ignored == ("entropy_bottleneck.target",)
    rebuilt = from_checkpoint(checkpoint)
    assert not rebuilt.training
    for name, value in rebuilt.state_dict().items():
        wanted = state[name] if IGNORED.fullmatch(name) else state[name].half().float()
        assert torch.equal(value, wanted), name


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save_give_the_same_network(model: LoCLIC, tmp_path: Path, zipped: bool) -> None:
    state = {"module." + name: value for name, value in model.state_dict().items()}
    torch.save(
        {"epoch": 2, "state_dict": state, "config": TINY.as_dict()},
        tmp_path / "c",
        _use_new_zipfile_serialization=zipped,
    )
    checkpoint = read_checkpoint(tmp_path / "c")
    assert checkpoint.form == ("torch-zip" if zipped else "torch-legacy") and checkpoint.config == TINY.as_dict()
    assert len(checkpoint.ignored) == 1 + TINY.slices
    rebuilt = from_checkpoint(checkpoint).state_dict()
    assert all(torch.equal(value, rebuilt[name]) for name, value in model.state_dict().items())


def test_forward_is_finite_with_and_without_noise(model: LoCLIC, picture: torch.Tensor) -> None:
    q = torch.tensor([1.4])
    for noise in (model.noise(1, 128, 64, torch.Generator()), None):
        x_hat, y_likelihoods, z_likelihoods = model(picture, q, noise)
        assert x_hat.shape == picture.shape and len(y_likelihoods) == 2
        for values in (x_hat, z_likelihoods, *y_likelihoods):
            assert torch.isfinite(values).all()
        for values in (z_likelihoods, *y_likelihoods):
            assert values.min() > 0 and values.max() <= 1
    x_hat.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("level", [0.0, 0.5, 2.0])
def test_the_two_halves_make_the_whole(model: LoCLIC, picture: torch.Tensor, level: float) -> None:
    q = torch.tensor([level])
    with torch.inference_mode():
        whole, _, _ = model(picture, q)
        z, y, reconstructed = analyse(model, picture, q)
        again = analyse(model, picture, q, reconstruct=False)
        decoded = synthesise(model, z, y, q)
    assert z.shape == (1, TINY.hyper, 2, 1) and y.shape == (1, TINY.M, 8, 4)
    assert torch.equal(z, z.round()) and torch.equal(y, y.round())
    assert z.abs().max() > 0 and y.abs().max() > 1
    assert torch.equal(again[0], z) and torch.equal(again[1], y) and again[2] is None
    torch.testing.assert_close(reconstructed, whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(decoded, whole, atol=1e-4, rtol=0)


def test_every_symbol_matters_to_the_decoder(model: LoCLIC, picture: torch.Tensor) -> None:
    q = torch.tensor([1.0])
    with torch.inference_mode():
        z, y, _ = analyse(model, picture, q, reconstruct=False)
        decoded = synthesise(model, z, y, q)
        for at in ((0, 0, 0, 0), (0, 0, 0, 1), (0, 23, 7, 3), (0, 23, 7, 2)):
            changed = y.clone()
            changed[at] += 1
            assert not torch.equal(synthesise(model, z, changed, q), decoded)
        assert not torch.equal(synthesise(model, z + 1, y, q), decoded)


def test_published_sizes() -> None:
    """Parameters of the paper's and MLIC++'s networks, gains and the auxiliary buffers not counted."""
    for config, count in ((PROFILES["paper"], 69_920_128), (PROFILES["mlicpp"], 83_501_408)):
        parameters = {
            name: shape
            for name, shape in shapes_on_meta(config).items()
            if name not in GAINS.values() and not IGNORED.fullmatch(name)
        }
        assert sum(map(math.prod, parameters.values())) == count
    old, new = shapes_on_meta(PROFILES["mlicpp-old"]), shapes_on_meta(PROFILES["mlicpp"])
    assert {name.split(".")[0] for name in old if old[name] != new.get(name)} == {"g_s", "lrp_anchor", "lrp_nonanchor"}
    assert old["g_s.synthesis_transform.0.conv1.weight"] == (192, 320, 3, 3)


@pytest.mark.parametrize(
    "config",
    [*PROFILES.values(), replace(PROFILES["paper"], old_synthesis=True), replace(TINY, qualities=12)],
)
def test_the_twin_has_the_names_and_shapes_that_the_layer_table_gives(config: Config) -> None:
    wanted = published_shapes(config, gained=True)
    assert wanted == {name: shape for name, shape in shapes_on_meta(config).items() if not IGNORED.fullmatch(name)}


def test_checkpoints_without_configuration_are_recognised() -> None:
    config = PROFILES["default"]
    shapes = published_shapes(config, gained=True)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    assert from_checkpoint(Checkpoint(arrays, None, "")).config == config
    arrays.pop("gain")
    for known in (None, config):
        with pytest.raises(InvalidModel, match="do not fit") as caught:
            from_checkpoint(Checkpoint(arrays, None, ""), known)
        assert "gain" in caught.value.values["missing"]
    with pytest.raises(InvalidModel, match="not a checkpoint of LoC-LIC"):
        from_checkpoint(Checkpoint({"a": np.zeros(1, np.float32)}, None, ""))


def test_published_checkpoints_have_gains_of_one() -> None:
    config = replace(TINY, qualities=1)
    network = LoCLIC(config)
    arrays = {
        name: value.numpy()
        for name, value in network.state_dict().items()
        if name not in GAINS.values() and not IGNORED.fullmatch(name)
    }
    rebuilt = from_checkpoint(Checkpoint(arrays, config.as_dict(), ""))
    assert all(not getattr(rebuilt, name).any() for name in GAINS.values())


def test_gdn_and_its_inverse_against_their_definition() -> None:
    torch.manual_seed(2)
    x = torch.randn(1, 3, 2, 2)
    for inverse in (False, True):
        gdn = GDN(3, inverse)
        gdn.gamma.data = torch.rand(3, 3)
        gamma, beta = gdn.gamma.double() ** 2 - 2.0**-36, gdn.beta.double() ** 2 - 2.0**-36
        norm = torch.sqrt(beta[:, None, None] + torch.einsum("ij,bjhw->bihw", gamma, x.double() ** 2))
        wanted = x * norm if inverse else x / norm
        torch.testing.assert_close(gdn(x).double(), wanted, atol=1e-5, rtol=1e-5)


def test_halves_and_maps_are_a_permutation_apart() -> None:
    x = torch.arange(2 * 3 * 4 * 8).view(2, 3, 4, 8).float()
    anchors, nonanchors = split(x)
    assert anchors.shape == nonanchors.shape == (2, 3, 4, 4)
    assert torch.equal(merge(anchors, nonanchors), x)
    odd = (torch.arange(4)[:, None] + torch.arange(8)) % 2 == 1
    assert set(anchors[0, 0].flatten().tolist()) == set(x[0, 0][odd].tolist())
    assert torch.equal(anchors_alone(anchors), x * odd) and torch.equal(nonanchors_alone(nonanchors), x * ~odd)


def test_local_context_sees_only_its_window() -> None:
    torch.manual_seed(3)
    context = LocalContext(8, 5, 2)
    x = torch.randn(1, 8, 8, 8)
    before = nonanchors_alone(context(split(x)[0]))
    x[0, :, 4, 3] += 1  # an anchor
    x[0, :, 4, 4] += 1  # no anchor: never seen
    changed = (nonanchors_alone(context(split(x)[0])) != before).any(1)[0]
    near = torch.zeros(8, 8, dtype=torch.bool)
    near[2:7, 1:6] = True
    near &= (torch.arange(8)[:, None] + torch.arange(8)) % 2 == 0
    assert torch.equal(changed, near)


def test_every_stage_agrees_with_the_float_forward_of_the_converter() -> None:
    """Latents, parameters, slices and samples compared with those of NumPy, which follows the published arrangement."""
    state = published_state(TINY)
    network = from_checkpoint(Checkpoint(state, None, ""), TINY)
    samples = torch_bench.synthetic_picture(128, 64)
    step = 40
    stages: dict[str, np.ndarray] = {}
    run_float(
        TINY,
        float_layers(TINY, state),
        Bottleneck(state),
        samples,
        step,
        lambda name, values: stages.update({name: np.array(values)}),
    )

    def of(name: str) -> torch.Tensor:
        return torch.from_numpy(stages[name]).permute(2, 0, 1)[None]

    q = torch.tensor([step_quality(TINY, step)])
    x = torch_bench.network_input(samples)
    with torch.inference_mode():
        y, z = network.latents(x, q)
        median = network.entropy_bottleneck.medians()
        hyper = network.hyper((z - median).round() + median, q)
        parts = [half.chunk(TINY.slices, 1) for half in split(y)]
        done = walk(network, hyper, lambda i, kind, mean: (parts[kind][i] - mean).round() + mean)
        x_hat = network.picture(done.y_hat, q)
    close = partial(torch.testing.assert_close, atol=2e-4, rtol=2e-4)
    close(y, of("y"))
    close(z, of("z"))
    close(hyper, of("h_s/4"))
    for i, part in enumerate(done.y_hat.chunk(TINY.slices, 1)):
        close(part, of(f"y_hat/{i}"))
    for kind, name in enumerate(("anchor", "nonanchor")):
        scales, means = (values[kind].chunk(TINY.slices, 1) for values in (done.scales, done.means))
        for i in range(TINY.slices):
            half = torch.cat((scales[i], means[i]), 1)
            board = nonanchors_alone(half) if kind else anchors_alone(half)
            rows = [board[..., r, (r + 1 - kind) % 2 :: 2] for r in range(board.size(2))]
            close(torch.stack(rows, 2), of(f"ep_{name}/{i}/3"))  # NumPy packs along columns
    close(x_hat * 255, of("g_s/7"), atol=0.05)


@pytest.mark.parametrize("lower", [0.0, 2.5, 6.0])
def test_estimated_bits_are_those_of_the_converter(lower: float) -> None:
    """Scales above the smallest, around it and below it: both estimates are the published formula."""
    state = published_state(TINY)
    for name in state:
        if name.startswith("entropy_parameters") and name.endswith(".6.bias"):
            state[name][: TINY.ch] -= lower
    network = from_checkpoint(Checkpoint(state, None, ""), TINY)
    samples = torch_bench.synthetic_picture(128, 64)
    found = run_float(TINY, float_layers(TINY, state), Bottleneck(state), samples, 100)
    with torch.inference_mode():
        _, y_likelihoods, z_likelihoods = network(torch_bench.network_input(samples), torch.tensor([2.0]))
    assert found.bits_y == pytest.approx(-sum(float(p.log2().sum()) for p in y_likelihoods), rel=2e-4)
    assert found.bits_z == pytest.approx(-float(z_likelihoods.log2().sum()), rel=2e-4)


def test_bottleneck_likelihoods_sum_to_one() -> None:
    torch.manual_seed(4)
    bottleneck = EntropyBottleneck(2)
    z = torch.arange(-400.0, 401.0).view(1, 1, 1, -1).repeat(1, 2, 1, 1)
    torch.testing.assert_close(bottleneck.likelihood(z).sum(-1), torch.ones(1, 2, 1), atol=1e-4, rtol=0)


# The benchmark.


def test_benchmark_reports_and_serves(
    model: LoCLIC, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(tmp_path / "c", model)
    monkeypatch.setattr("sys.stdin", io.StringIO("encode\ndecode\nsleep\n"))
    code = main(["bench", str(path), "--size", "70x64", "--repeats", "1", "--threads", "1", "--serve"])
    first, *answers = capsys.readouterr().out.splitlines()
    report = json.loads(first)
    assert code == 0 and report["size"] == [70, 64] and report["threads"] == 1
    for direction in ("encode", "decode"):
        row = report[direction]
        assert row["seconds"] == row[row["best"]] == min(row["contiguous"], row["channels_last"]) > 0
    assert len(answers) == 3 and float(answers[0]) > 0 and float(answers[1]) > 0 and answers[2].startswith("error")


def test_both_layouts_compute_the_same(model: LoCLIC, picture: torch.Tensor) -> None:
    with torch.inference_mode():
        runs = torch_bench.work(model, picture, torch.tensor([1.0]))
        a, b = (runs["decode"][layout]() for layout in torch_bench.LAYOUTS)
        encoded = runs["encode"]["contiguous"]()
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    torch.testing.assert_close(encoded[2], a, atol=1e-4, rtol=0)


def test_benchmark_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic = torch_bench.synthetic_picture(90, 70)
    assert synthetic.shape == (70, 90, 3) and synthetic.dtype == np.uint8 and synthetic.std() > 20
    np.testing.assert_array_equal(synthetic, torch_bench.synthetic_picture(90, 70))
    steps = np.abs(np.diff(synthetic.astype(int), axis=1)).mean()
    assert steps < synthetic.std() / 2  # neighbours resemble each other, as in photographs
    Image.fromarray(synthetic).save(tmp_path / "a.png")
    np.testing.assert_array_equal(torch_bench.load_picture(str(tmp_path / "a.png"), None), synthetic)
    np.testing.assert_array_equal(torch_bench.load_picture(str(tmp_path / "a.png"), "20x10"), synthetic[:10, :20])
    x = torch_bench.network_input(synthetic)
    assert x.shape == (1, 3, 128, 128) and torch.equal(x[0, :, 127, 127], x[0, :, 69, 89])
    for size in ("0x4", "4", "4x", "axb", "99999x4", "4x4x4", "-4x4"):
        with pytest.raises(UsageError):
            torch_bench.parse_size(size)
    with pytest.raises(UsageError):
        torch_bench.load_picture(str(tmp_path / "a.png"), "91x70")
    with pytest.raises(MissingInput):
        torch_bench.load_picture(str(tmp_path / "b.png"), None)
    assert main(["bench", str(tmp_path / "nothing")]) == 66
    assert main(["bench", str(tmp_path), "--quality", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
