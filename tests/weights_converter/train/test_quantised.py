"""The quantised stage: it simulates the integer model bit for bit and trains through it. Skipped without PyTorch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from small_training import CPU, quick_plan, run, save_pictures
from torch import Tensor

from refcodec.codec import decode_stream, encode_picture
from refcodec.model.integer_model import Model, build_model
from refcodec.model.registry import load_model
from weights_converter.__main__ import main
from weights_converter.convert.calibrate import Record, calibrate, choose_formats
from weights_converter.convert.code_length import Bottleneck
from weights_converter.convert.folding import float_layers
from weights_converter.convert.pipeline import own_pictures
from weights_converter.convert.quantise import quantise
from weights_converter.network.bench import synthetic_picture
from weights_converter.network.contexts import merge
from weights_converter.network.integer import TorchEngine, instead, nearest, take
from weights_converter.network.model import LoCLIC, Noise
from weights_converter.network.simulate import (
    Simulated,
    code,
    integer_layers,
    nearest_step,
    published,
    simulate,
    torch_layers,
)
from weights_converter.train.loop import Run, begin
from weights_converter.train.pictures import Picture, list_pictures, split
from weights_converter.train.state import CALIBRATION, CHECKPOINT, State, read_state, start_fresh
from weights_converter.train.validation import mean_loss, measure

PICTURES = [synthetic_picture(64, 128, 1), synthetic_picture(64, 128, 2)]
STEPS = (1, 71)
"""Qualities of the two pictures, from 1."""


@pytest.fixture(autouse=True)
def _modes(torch_modes: None) -> None:
    """One thread, and no denormals."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@pytest.fixture(scope="module")
def net() -> LoCLIC:
    """A tiny network whose latents, medians and gains are far from trivial."""
    network = start_fresh("tiny", 4)[0]
    with torch.no_grad():
        for last in (network.g_a.analysis_transform[-1], network.h_a.reduction[-1]):
            last.get_parameter("weight").mul_(60)
        network.entropy_bottleneck.quantiles[:, 0, 1] = torch.linspace(-1.3, 1.7, network.config.hyper)
        network.hyper_gain.add_(0.1)
    return network


CONFIG = start_fresh("tiny", 0)[1]


@pytest.fixture(scope="module")
def record(net: LoCLIC) -> Record:
    state = published(net)
    return calibrate(CONFIG, float_layers(CONFIG, state), Bottleneck(state), PICTURES, (1, 100))


def converted(net: LoCLIC, record: Record) -> Model:
    state = published(net)
    floats = float_layers(CONFIG, state)
    return build_model(quantise(CONFIG, floats, choose_formats(CONFIG, record), Bottleneck(state)))


def batch() -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(np.stack(PICTURES).transpose(0, 3, 1, 2).copy()).float() / 255
    return x, torch.tensor([(CONFIG.qualities - 1) * (step - 1) / 99 for step in STEPS])


def simulated(net: LoCLIC, record: Record, noise: Noise | None = None) -> Simulated:
    x, q = batch()
    return simulate(net, integer_layers(net, record), x, q, noise)


def loss_of(coded: Simulated, x: Tensor) -> Tensor:
    distortion = 255**2 * 0.01 * (coded.x_hat - x).square().mean()
    return distortion + (coded.bits_y().sum() - torch.log2(coded.z_likelihoods).sum()) / (x.numel() / 3)


def as_picture(x: Tensor) -> np.ndarray:
    return x.detach().permute(1, 2, 0).numpy()


def assert_codec_agrees(model: Model, coded: Simulated, n: int, samples: np.ndarray, step: int) -> None:
    """Symbols, y_hat and samples of the integer codec are those of picture n of the simulation."""
    traced: dict[str, np.ndarray] = {}
    stream = encode_picture(samples, step, model=model)
    decoded, _ = decode_stream(
        stream.data, model=model, verify=True, trace=lambda name, values: traced.__setitem__(name, values.copy())
    )
    y_hat = np.concatenate([traced[f"y_hat/{i}"] for i in range(CONFIG.slices)], axis=2)
    np.testing.assert_array_equal(as_picture(coded.y_hat[n]) * 64, y_hat)
    np.testing.assert_array_equal(as_picture(coded.z_symbols[n]) * 64 + model.medians, traced["z_hat"])
    out = (as_picture(coded.x_hat[n]) * 255).round().clip(0, 255)
    np.testing.assert_array_equal(out, decoded)


# The simulation.


def test_the_simulation_is_the_integer_codec(net: LoCLIC, record: Record) -> None:
    model = converted(net, record)
    with torch.no_grad():
        coded = simulated(net, record)
    assert len(coded.z_symbols.unique()) > 4 and len((coded.y_hat * 64).unique()) > 100
    for n, step in enumerate(STEPS):
        assert_codec_agrees(model, coded, n, PICTURES[n], step)


def test_without_integers_the_engine_is_the_twin(net: LoCLIC) -> None:
    """Values and gradients of the codec's own networks in tensors, against the twin's arrangement of them."""
    x, q = batch()
    noise = net.noise(2, *x.shape[2:], torch.Generator().manual_seed(5))
    medians = net.entropy_bottleneck.medians().flatten()
    mine = code(net, TorchEngine(torch_layers(net), q), x * 255, medians, noise)
    x_hat, y_likelihoods, z_likelihoods = net(x, q, noise)
    torch.testing.assert_close(mine.x_hat, x_hat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mine.z_likelihoods, z_likelihoods, rtol=1e-4, atol=1e-6)
    bits = -sum(torch.log2(p).flatten(1).sum(1) for p in y_likelihoods)
    torch.testing.assert_close(mine.bits_y(), bits, rtol=1e-4, atol=1e-3)
    theirs = 255**2 * 0.01 * (x_hat - x).square().mean() + (bits.sum() - torch.log2(z_likelihoods).sum()) / (
        x.numel() / 3
    )
    names = [name for name, _ in net.named_parameters()]
    a, b = (
        torch.autograd.grad(loss, list(net.parameters()), allow_unused=True, materialize_grads=True)
        for loss in (loss_of(mine, x), theirs)
    )
    for name, mine_, theirs_ in zip(names, a, b, strict=True):
        scale = float(theirs_.abs().max())
        assert float((mine_ - theirs_).abs().max()) <= 2e-3 * scale + 1e-7, name


def test_gradients_reach_every_weight(net: LoCLIC, record: Record) -> None:
    x, _ = batch()
    coded = simulated(net, record, net.noise(2, *x.shape[2:], torch.Generator().manual_seed(6)))
    gradients = torch.autograd.grad(loss_of(coded, x), list(net.parameters()), allow_unused=True)
    for (name, _), gradient in zip(net.named_parameters(), gradients, strict=True):
        if name == "entropy_bottleneck.quantiles":  # they have a separate loss
            continue
        assert gradient is not None and torch.isfinite(gradient).all(), name
        if "gain" in name:
            assert gradient.abs().sum(1).count_nonzero() == 3, name  # 0 and 1.4 lie at and between all three levels
        else:
            assert gradient.count_nonzero() > 0, name


def test_values_in_place_of_others_pass_gradients_back_into_the_range() -> None:
    x = torch.tensor([-7.0, -7.0, 0.4, 7.0, 7.0], requires_grad=True)
    y = instead(x, x.detach().round().clamp(-5, 5), 5.0)
    assert y.tolist() == [-5, -5, 0, 5, 5]
    y.backward(torch.tensor([1.0, -1.0, 3.0, 1.0, -1.0]))  # a descent moves against them
    assert x.grad is not None and x.grad.tolist() == [0, -1, 3, 1, 0]
    assert nearest(torch.tensor([-0.5, 0.5, 1.49, 1e6])).tolist() == [0, 1, 1, 32767]


def test_steps_and_halves() -> None:
    assert nearest_step(CONFIG, torch.tensor([0.0, 0.01, 0.011, 1.0, 2.0])).tolist() == [0, 0, 1, 50, 99]
    x = torch.arange(2 * 4 * 8.0).view(1, 2, 4, 8)
    anchors, others = (take(x, parity, 2) for parity in (1, 0))
    assert anchors[0, 0, :2].tolist() == [[1, 3, 5, 7], [8, 10, 12, 14]]
    torch.testing.assert_close(take(x.permute(2, 3, 1, 0), 0).permute(3, 2, 0, 1), others)

    def by_rows(half: Tensor) -> Tensor:  # the twin's half maps hold even rows, then odd ones
        return torch.cat((half[:, :, 0::2], half[:, :, 1::2]), 2)

    torch.testing.assert_close(merge(by_rows(anchors), by_rows(others)), x)


# Training.


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    return list_pictures([save_pictures(tmp_path_factory.mktemp("pictures"), side=64)])


def planned(net: LoCLIC, **values: Any) -> State:
    stages = (("all", 0.0), ("quantised", 0.5))
    few = {"steps": 4, "warmup": 1, "average": 0.5, "stages": stages, "transform_rate": 1.0, "clip": 1.0}
    return begin(net, CONFIG, quick_plan(**{**few, **values}), {})


@pytest.mark.parametrize("optimiser", ["adamw", "soap"])
def test_a_run_in_pieces_becomes_the_model_it_simulated(
    optimiser: str, net: LoCLIC, tmp_path: Path, pictures: list[Picture]
) -> None:
    whole = run(tmp_path / "whole", planned(net, optimiser=optimiser), pictures)
    assert whole.go()
    calibrated = json.loads((tmp_path / "whole" / CALIBRATION).read_text())["pictures"]["count"]
    assert calibrated == len(own_pictures()) + len(split(pictures)[0])
    assert not run(tmp_path / "split", planned(net, optimiser=optimiser), pictures, pause_steps=3).go()
    paused = read_state(tmp_path / "split")
    assert paused is not None and paused.progress.stage == "quantised" and paused.record is not None
    assert run(tmp_path / "split", paused, pictures).go()
    for name in (CHECKPOINT, CALIBRATION):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "split" / name).read_bytes()
    ends = [read_state(tmp_path / name) for name in ("whole", "split")]
    for kind in ("weights", "average", "moments"):
        first, second = (getattr(end, kind) for end in ends)
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)

    model_path = tmp_path / "model.h5"
    assert (
        main(
            [
                "convert",
                str(tmp_path / "split" / CHECKPOINT),
                str(model_path),
                "--calibration",
                str(tmp_path / "split" / CALIBRATION),
            ]
        )
        == 0
    )
    x, q = batch()
    average = whole.average
    with torch.no_grad():
        average.prepare("quantised")
        assert average.record is not None
        coded = simulated(average.net, average.record)
        estimate = average(x, q, None, "quantised")
    model = load_model(model_path)
    for n, step in enumerate(STEPS):
        assert_codec_agrees(model, coded, n, PICTURES[n], step)
    torch.testing.assert_close(estimate.x_hat, coded.x_hat, rtol=0, atol=0)


def test_the_stage_lowers_the_loss_of_conversion(tmp_path: Path, pictures: list[Picture]) -> None:
    """A clamp that the network outgrows as it learns: training in float pays for it afterwards, the stage does not."""
    network = start_fresh("tiny", 1)[0]
    state = published(network)
    record = calibrate(CONFIG, float_layers(CONFIG, state), Bottleneck(state), PICTURES[:1], (1,))
    record["g_s/6/sum"].clamp_error[:] = 0  # so the finest format is the best: its clamp is 1/2
    samples = [picture.samples() for picture in pictures[:1]]

    def losses(job: Run, stage: str) -> float:
        points = measure(job.average, samples, range(CONFIG.qualities), stage, CPU, 1)
        return mean_loss(points, job.plan.lambda_levels(CONFIG.qualities))

    cost, integer = {}, {}
    for stage in ("all", "quantised"):
        begun = planned(
            network, steps=12, stages=((stage, 0.0),), rate=4e-3, hold=0.9, average=0.0, lambdas=(0.05, 0.05)
        )
        job = run(tmp_path / stage, replace(begun, record=record), pictures, threads=1)
        before = losses(job, "quantised")
        job.go()
        integer[stage] = losses(job, "quantised")
        cost[stage] = integer[stage] - losses(job, "all")
        assert integer[stage] < before - 1
    assert cost["all"] > 0.05 and cost["quantised"] < 0.3 * cost["all"]
    assert integer["quantised"] < integer["all"]
