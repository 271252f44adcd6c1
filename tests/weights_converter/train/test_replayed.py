"""Training for GPUs (weights_converter/train/replayed.py) without one: the same steps as on cores, without graphs."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from weights_converter.network.bench import synthetic_picture  # noqa: E402
from weights_converter.network.model import LoCLIC  # noqa: E402
from weights_converter.train.loop import Pace, Run, begin  # noqa: E402
from weights_converter.train.loss import Trainee  # noqa: E402
from weights_converter.train.pictures import Batch, list_pictures  # noqa: E402
from weights_converter.train.plan import Plan  # noqa: E402
from weights_converter.train.replayed import Replayed  # noqa: E402
from weights_converter.train.state import CALIBRATION, read_state, start_fresh  # noqa: E402
from weights_converter.train.workers import UNUSED, Workers  # noqa: E402

TINY = {
    "N": [8, 8, 8],
    "M": 24,
    "slices": 2,
    "hyper": 8,
    "hs": [8, 8],
    "chan": [8, 8],
    "ent": [16, 8, 8],
    "lrp": [8, 8],
    "window": 3,
    "qualities": 3,
}


def _pair(optimiser: str) -> tuple[Replayed, Workers]:
    torch.manual_seed(1)
    trainee = Trainee(LoCLIC(TINY))
    plan = Plan(steps=10, batch=2, optimiser=optimiser, clip=0.1)
    cpu = torch.device("cpu")
    return (
        Replayed(copy.deepcopy(trainee), copy.deepcopy(trainee), plan, cpu),
        Workers(copy.deepcopy(trainee), copy.deepcopy(trainee), plan, cpu),
    )


def _batch(seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(rng.integers(0, 256, (2, 3, 64, 64), np.uint8), np.array([0.3, 1.7], np.float32))


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both draw noise from generators of their own."""

    def half(*shape: Any, **_: Any) -> Any:
        return torch.full(shape[0] if isinstance(shape[0], tuple) else shape, 0.5)

    monkeypatch.setattr(torch, "rand", half)


def test_gradients_are_those_of_the_cores(no_noise: None, monkeypatch: pytest.MonkeyPatch):
    replayed, workers = _pair("adamw")
    found: dict[str, Any] = {}
    monkeypatch.setattr(
        workers,
        "_update",
        lambda *_: found.update(
            {name: parameter.grad for name, parameter in workers._parameters.items() if parameter.grad is not None}
        ),
    )
    monkeypatch.setattr(replayed, "_update", lambda *_: None)
    for stage in ("transforms", "entropy", "all"):
        found.clear()
        ours, theirs = (trainer.step(_batch(1), 1, stage, 1e-3, 0.5) for trainer in (replayed, workers))
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5) and ours.norm == pytest.approx(theirs.norm, rel=1e-5)
        for name, gradient in replayed._gradients.items():
            expected = found.get(name, torch.zeros(()))
            assert (gradient - expected).abs().max() <= 1e-4 * expected.abs().max() + 1e-6, (stage, name)
    replayed.close()
    workers.close()


@pytest.mark.parametrize("optimiser", ["adamw", "soap"])
def test_the_same_gradients_change_the_weights_as_on_the_cores(optimiser: str):
    replayed, workers = _pair(optimiser)
    generator = torch.Generator().manual_seed(2)
    for n, stage in enumerate(("entropy", "entropy", "all", "all", "all")):
        norm, shared = 0.3, [name for name in workers.names if not name.startswith(UNUSED[stage])]
        for name in shared:
            gradient = torch.randn(workers._parameters[name].shape, generator=generator) * 0.01
            workers._parameters[name].grad = gradient.clone()
            replayed._gradients[name].copy_(gradient)
        workers._update(0, shared, 1e-3, 0.1 / (norm + 1e-6), 0.6)
        if n == 0 or (n == 2 and optimiser == "soap"):  # the bases come from the first gradients there
            replayed.load_moments(workers.moments())
            for module in ("trainee", "average"):
                getattr(replayed, module).load_state_dict(getattr(workers, module).state_dict())
        else:
            replayed._update(stage, 1e-3, norm, 0.6)
        for module in ("trainee", "average"):
            theirs = dict(getattr(workers, module).named_parameters())
            for name, parameter in getattr(replayed, module).named_parameters():
                torch.testing.assert_close(parameter, theirs[name], atol=2e-6, rtol=1e-5)
    replayed.close()
    workers.close()


def test_turned_bases_are_eigenvectors_and_keep_the_means(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("weights_converter.train.replayed.EVERY", 4)
    replayed, workers = _pair("soap")
    workers.close()
    replayed.step(_batch(0), 0, "all", 1e-3, 0.5)
    grams = replayed._bases.grams.clone()
    replayed.step(_batch(1), 1, "all", 1e-3, 0.5)
    turn, means = replayed._turn_all, []

    def watched() -> None:
        means.append(_means(replayed))
        turn()
        means.append(_means(replayed))

    monkeypatch.setattr(replayed, "_turn_all", watched)
    replayed.step(_batch(2), 2, "all", 1e-3, 0.5)
    before, after = means
    for name, mean in before.items():
        torch.testing.assert_close(after[name], mean, atol=1e-5, rtol=1e-3)
    assert len(before) > 50
    for name in before:
        grams_of = replayed._bases.of(grams, name)
        for mode, basis in replayed._bases.of(replayed._bases.bases, name).items():
            inside = basis.T.double() @ grams_of[mode].double() @ basis.double()
            off = inside - inside.diagonal().diag()
            assert off.abs().max() <= 1e-5 * inside.diagonal().max() + 1e-12, name
            torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis)), atol=1e-4, rtol=0)
    replayed.close()


def _means(replayed: Replayed) -> dict[str, Any]:
    from weights_converter.train.soap import rotated

    return {
        name: rotated(mean, bases, back=True)
        for name, mean in replayed._mean.items()
        if (bases := replayed._bases.of(replayed._bases.bases, name))
    }


def test_moments_are_taken_over():
    replayed, workers = _pair("soap")
    workers.close()
    replayed.step(_batch(0), 0, "entropy", 1e-3, 0.5)
    replayed.step(_batch(1), 1, "all", 1e-3, 0.5)
    kept = {name: value.clone() for name, value in replayed.moments().items()}
    other, workers = _pair("soap")
    workers.close()
    other.load_moments(kept)
    again = other.moments()
    assert set(again) == set(kept) and all(torch.equal(again[name], kept[name]) for name in kept)
    assert kept["net.h_a.reduction.0.weight/step"] == 2 and kept["net.g_a.analysis_transform.0.conv1.weight/step"] == 1
    replayed.close()
    other.close()


def test_a_faulty_step_changes_nothing():
    replayed, workers = _pair("soap")
    workers.close()
    before = copy.deepcopy(replayed.trainee.state_dict())
    outcome = replayed.step(_batch(0), 0, "all", 1e-3, 0.5, largest=1e-3)
    assert "above" in outcome.fault
    assert all(torch.equal(value, before[name]) for name, value in replayed.trainee.state_dict().items())
    replayed.close()


def test_it_learns(no_noise: None):
    replayed, workers = _pair("soap")
    workers.close()
    losses = [replayed.step(_batch(0), n, "all", 2e-3, 0.5).loss for n in range(60)]
    assert losses[-1] < 0.9 * losses[0]
    replayed.close()


def test_a_run_goes_on_from_its_file_through_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[Replayed] = []

    def replayed(trainee: Trainee, average: Trainee, plan: Plan, pace: Pace) -> Replayed:
        made.append(Replayed(trainee, average, plan, pace.device, pace.threads))
        return made[-1]

    monkeypatch.setattr("weights_converter.train.loop._workers", replayed)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(3):
        Image.fromarray(synthetic_picture(80, 96, n)).save(folder / f"{n}.png")
    pictures = list_pictures([folder])
    stages = (("transforms", 0.0), ("entropy", 0.25), ("all", 0.5), ("quantised", 0.75))
    plan = Plan(steps=8, batch=2, optimiser="soap", stages=stages, crops=((64, 0.0),))
    net, config, origin = start_fresh("tiny", 1)
    state = begin(net, config, plan, origin)
    for pause in (3, math.inf):
        done = Run(tmp_path, state, pictures, Pace(torch.device("cpu"), pause_steps=pause), lambda _: None).go()
        state = read_state(tmp_path)
        assert state is not None
    assert done and state.progress.step == 8 and state.progress.faults == 0 and len(made) == 2
    for name, moment in made[1].moments().items():
        assert torch.equal(state.moments[name], moment), name
    assert (tmp_path / CALIBRATION).exists()
