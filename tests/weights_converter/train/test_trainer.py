"""Training steps against their definitions: gradients, Adam and SOAP, noise, moments. Skipped without PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from refcodec.model.config import PROFILES  # noqa: E402
from weights_converter.network.model import LoCLIC, Noise  # noqa: E402
from weights_converter.train import soap  # noqa: E402
from weights_converter.train.loss import Trainee, interpolated, loss_of  # noqa: E402
from weights_converter.train.optimiser import BETAS, EPSILON, Kind, Optimiser  # noqa: E402
from weights_converter.train.pictures import Batch  # noqa: E402
from weights_converter.train.plan import Plan  # noqa: E402
from weights_converter.train.soap import rotated  # noqa: E402
from weights_converter.train.trainer import QUANTILES, UNUSED, Trainer  # noqa: E402

TINY = PROFILES["tiny"]

pytestmark = pytest.mark.usefixtures("torch_modes")


@pytest.fixture
def trainers() -> Iterator[Any]:
    """Makes trainers of one and the same network; ended with the test."""
    made: list[Trainer] = []

    def make(optimiser: str, threads: int = 1, **values: Any) -> Trainer:
        torch.manual_seed(1)
        trainee = Trainee(LoCLIC(TINY))
        plan = Plan(steps=10, batch=2, optimiser=optimiser, **values)
        made.append(Trainer(trainee, copy.deepcopy(trainee), plan, torch.device("cpu"), threads))
        return made[-1]

    yield make
    for trainer in made:
        trainer.close()


def _batch(seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(rng.integers(0, 256, (2, 3, 64, 64), np.uint8), np.array([0.3, 1.7], np.float32))


@pytest.mark.parametrize("threads", [1, 3])
def test_gradients_are_those_of_the_loss(trainers: Any, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    trainer, batch = trainers("adamw", threads), _batch(1)
    trainee = copy.deepcopy(trainer.trainee)
    monkeypatch.setattr(trainer.optimiser, "step", lambda *_: None)
    noise = Noise(torch.full((2, TINY.M, 4, 4), 0.3), torch.full((2, TINY.hyper, 1, 1), -0.2))
    monkeypatch.setattr(trainer.trainee.net, "noise", lambda *_: noise)
    x, q = torch.from_numpy(batch.samples).float() / 255, torch.from_numpy(batch.quality)
    lambdas = interpolated(trainer.plan.lambda_levels(3), q)
    for stage in ("transforms", "entropy", "all"):
        ours = trainer.step(batch, 1, stage, 1e-3, 0.5)
        parameters = {n: p for n, p in trainee.named_parameters() if not n.startswith(UNUSED[stage])}
        loss = loss_of(trainee(x, q, noise, stage), x, lambdas, trainer.plan.balance)
        objective = loss.total / 2 + trainee.net.entropy_bottleneck.quantile_loss()
        wanted = torch.autograd.grad(objective, list(parameters.values()), materialize_grads=True, allow_unused=True)
        expected = dict(zip(parameters, wanted, strict=True))
        norm = torch.stack([g.square().sum() for name, g in expected.items() if name != QUANTILES]).sum().sqrt()
        assert ours.loss == pytest.approx(loss.total.item() / 2, rel=1e-5)
        assert ours.norm == pytest.approx(norm.item(), rel=1e-4)
        for name, gradient in trainer.optimiser.gradients.items():
            there = expected.get(name, torch.zeros(()))
            assert (gradient - there).abs().max() <= 1e-4 * there.abs().max() + 1e-6, (stage, name)


class Definition:
    """One parameter by the formulas of Adam (Kingma and Ba 2015) and of SOAP (Vyas et al. 2024), with given bases."""

    def __init__(self, value: Any, rotate: bool, factor: float, decay: float, bases: dict[int, Any]) -> None:
        self.value, self.average, self.bases = value.double().clone(), value.double().clone(), bases
        self.rotate, self.factor, self.decay = rotate, factor, decay
        self.mean = self.square = 0.0
        self.count = 0

    def _rotated(self, x: Any, back: bool = False) -> Any:
        for mode, basis in self.bases.items():
            axis = 0 if mode == 0 else 1  # of [out, in, ...]
            x = torch.tensordot(basis.double() if back else basis.double().T, x.movedim(axis, 0), dims=1).movedim(
                0, axis
            )
        return x

    def step(self, gradient: Any, rate: float, momentum: float) -> None:
        """Change the value and its average."""
        first, second = soap.BETAS if self.rotate else BETAS
        seen, self.count = self._rotated(gradient.double()), self.count + 1
        self.mean = first * self.mean + (1 - first) * seen
        self.square = second * self.square + (1 - second) * seen**2
        mean, square = self.mean / (1 - first**self.count), self.square / (1 - second**self.count)
        change = self._rotated(mean / (square**0.5 + EPSILON), back=True)
        self.value = self.value * (1 - rate * self.factor * self.decay) - rate * self.factor * change
        self.average = momentum * self.average + (1 - momentum) * self.value


@pytest.mark.parametrize("optimiser", ["adamw", "soap"])
def test_weights_change_by_the_definition_of_the_optimiser(trainers: Any, optimiser: str) -> None:
    """In bases that are not the identity, with clipping, through a change of the stage."""
    trainer = trainers(optimiser, decay=0.1, transform_rate=0.3)
    generator = torch.Generator().manual_seed(2)
    flat = trainer.optimiser._bases
    for cohort in trainer.optimiser._cohorts:
        cohort.begun = True
    for name, value in trainer.trainee.named_parameters():
        for matrix in flat.of(flat.bases, name).values():
            matrix.copy_(torch.linalg.qr(torch.randn(matrix.shape, generator=generator))[0])
        value.requires_grad_(False)
    definitions = {
        name: Definition(
            value,
            optimiser == "soap" and bool(soap.modes(value)),
            0.3 if name.startswith(("net.g_a.", "net.g_s.")) else 10 if "entropy_bottleneck" in name else 1,
            0.1 if value.ndim > 1 and "entropy_bottleneck" not in name else 0,
            {mode: matrix.clone() for mode, matrix in flat.of(flat.bases, name).items()},
        )
        for name, value in trainer.trainee.named_parameters()
    }
    if optimiser == "soap":
        for definition in definitions.values():
            definition.rotate = True  # SOAP's momenta hold for what it does not rotate, too
    for n, stage in enumerate(("entropy", "entropy", "all", "all", "all"), 1):
        trainer.optimiser.clear()
        for name, definition in definitions.items():
            if not name.startswith(UNUSED[stage]):
                gradient = torch.randn(definition.value.shape, generator=generator) * 0.01
                trainer.optimiser.gradients[name].copy_(gradient)
                definition.step(gradient * (1 if name == QUANTILES else 0.25), 1e-3, 0.6)
        trainer.optimiser.step(stage, n, 1e-3, 0.6, 0.25)
    for module, attribute in ((trainer.trainee, "value"), (trainer.optimiser._averages, "average")):
        found = module if isinstance(module, dict) else dict(module.named_parameters())
        for name, definition in definitions.items():
            torch.testing.assert_close(
                found[name], getattr(definition, attribute).float(), atol=3e-6, rtol=1e-5, msg=lambda m, n=name: n + m
            )


def test_turned_bases_are_eigenvectors_and_keep_the_means(trainers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soap, "EVERY", 4)
    trainer = trainers("soap", clip=0.1)
    optimiser = trainer.optimiser
    trainer.step(_batch(0), 0, "all", 1e-3, 0.5)
    grams = optimiser._bases.grams.clone()
    trainer.step(_batch(1), 1, "all", 1e-3, 0.5)
    turn, means = optimiser._turn, []

    def watched() -> None:
        means.append(_means(optimiser))
        turn()
        means.append(_means(optimiser))

    monkeypatch.setattr(optimiser, "_turn", watched)
    trainer.step(_batch(2), 2, "all", 1e-3, 0.5)
    before, after = means
    for name, mean in before.items():
        torch.testing.assert_close(after[name], mean, atol=1e-5, rtol=1e-3)
    assert len(before) > 50
    for name in before:
        grams_of = optimiser._bases.of(grams, name)
        for mode, basis in optimiser._bases.of(optimiser._bases.bases, name).items():
            inside = basis.T.double() @ grams_of[mode].double() @ basis.double()
            off = inside - inside.diagonal().diag()
            assert off.abs().max() <= 1e-5 * inside.diagonal().max() + 1e-12, name
            torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis)), atol=1e-4, rtol=0)


def _means(optimiser: Optimiser) -> dict[str, Any]:
    return {
        name: rotated(mean, bases, back=True)
        for name, mean in optimiser._mean.items()
        if (bases := optimiser._bases.of(optimiser._bases.bases, name))
    }


def test_moments_are_taken_over_with_bases_that_follow(trainers: Any) -> None:
    trainer, other = trainers("soap"), trainers("soap")
    trainer.step(_batch(0), 0, "entropy", 1e-3, 0.5)
    trainer.step(_batch(1), 1, "all", 1e-3, 0.5)
    trainer.step(_batch(2), soap.EVERY, "all", 1e-3, 0.5)
    kept = {name: value.clone() for name, value in trainer.optimiser.moments().items()}
    other.optimiser.load_moments(kept)
    again = other.optimiser.moments()
    assert set(again) == set(kept) and all(torch.equal(again[name], kept[name]) for name in kept)
    assert kept["net.h_a.reduction.0.weight/step"] == 2 and kept["net.g_a.analysis_transform.0.conv1.weight/step"] == 1
    following, basis = (kept[f"net.h_a.reduction.0.weight/{kind}_0"] for kind in ("following", "basis"))
    assert not torch.equal(following, basis)
    torch.testing.assert_close(following.T @ following, torch.eye(TINY.hyper), atol=1e-5, rtol=0)


def test_noise_follows_from_the_seed_and_the_step_alone(trainers: Any) -> None:
    """Not from earlier steps, which a continued run has not made, nor from the number of threads."""
    one, three, other = trainers("adamw"), trainers("adamw", 3), trainers("adamw", seed=1)
    one.step(_batch(0), 0, "all", 1e-3, 0.5)
    noises = [trainer._filled(_batch(1), 7).rows.noise_y.clone() for trainer in (one, three, other)]
    assert torch.equal(noises[0], noises[1]) and not torch.equal(noises[0], noises[2])
    assert noises[0].abs().max() <= 0.5 and noises[0].std() > 0.25
    assert not torch.equal(one._filled(_batch(1), 8).rows.noise_y, noises[1])


def test_a_faulty_step_changes_nothing(trainers: Any) -> None:
    trainer = trainers("soap")
    before = copy.deepcopy(trainer.trainee.state_dict())
    outcome = trainer.step(_batch(0), 0, "all", 1e-3, 0.5, largest=1e-3)
    assert "above" in outcome.fault and not trainer.optimiser.moments()
    assert all(torch.equal(value, before[name]) for name, value in trainer.trainee.state_dict().items())


@pytest.mark.parametrize("optimiser", ["adamw", "soap"])
def test_it_learns(trainers: Any, monkeypatch: pytest.MonkeyPatch, optimiser: str) -> None:
    trainer = trainers(optimiser, 2)
    noise = Noise(torch.zeros(2, TINY.M, 4, 4), torch.zeros(2, TINY.hyper, 1, 1))
    monkeypatch.setattr(trainer.trainee.net, "noise", lambda *_: noise)
    losses = [trainer.step(_batch(0), n, "all", 2e-3, 0.5).loss for n in range(60)]
    assert losses[-1] < 0.9 * losses[0]


# The optimiser in eigenbases.


@contextmanager
def optimiser_of(value: Any, rotate: bool, **kind: Any) -> Iterator[Optimiser]:
    """The optimiser of one parameter, ``w``."""
    with ThreadPoolExecutor(1) as pool:
        yield Optimiser({"w": value}, {"w": value.clone()}, {"w": Kind(("all",), **kind)}, rotate, pool)


def moved(gradients: list[Any]) -> Any:
    """Where SOAP brings a parameter that began at zero."""
    value = torch.zeros_like(gradients[0])
    with optimiser_of(value, True) as optimiser:
        for n, gradient in enumerate(gradients):
            optimiser.gradients["w"].copy_(gradient)
            optimiser.step("all", n, 0.1, 0.0)
    return value


def moved_by_adam(gradients: list[Any], **options: Any) -> Any:
    """Where PyTorch's Adam brings it."""
    parameter = torch.nn.Parameter(torch.zeros_like(gradients[0]))
    adam = torch.optim.Adam([parameter], lr=0.1, **options)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        adam.step()
    return parameter.detach()


def gradients_of(seed: int, shape: tuple[int, ...], steps: int = 25) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(steps)]


@pytest.mark.parametrize("shape", [(7,), (1, 1), (1, 1, 3, 3), (soap.LARGEST + 1, 1)])
def test_soap_without_a_mode_to_rotate_is_adam(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weights_converter.train.optimiser.EPSILON", 1e-30)  # PyTorch adds it after its correction
    gradients = gradients_of(1, shape)
    adam = moved_by_adam(gradients, betas=soap.BETAS, eps=1e-30)
    assert torch.allclose(moved(gradients), adam, rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 99), shape=st.sampled_from([(5, 5), (4, 6, 3, 3), (3, soap.LARGEST + 1), (6, 1, 3, 3)]))
@settings(max_examples=20, deadline=None)
def test_soap_does_not_care_for_the_axes_of_its_modes(seed: int, shape: tuple[int, ...]) -> None:
    """Where the first gradient has full rank: else the first basis is one of many."""
    gradients = gradients_of(seed, shape)
    turn = torch.linalg.qr(
        torch.randn(shape[0], shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    )[0]

    def turned(values: Any) -> Any:
        return torch.tensordot(turn, values, dims=1)

    rotated_gradients = [turned(g) for g in gradients]
    assert torch.allclose(moved(rotated_gradients), turned(moved(gradients)), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(moved_by_adam(rotated_gradients), turned(moved_by_adam(gradients)), atol=1e-2)


def test_soap_follows_a_narrow_valley_that_adam_does_not() -> None:
    turn = torch.linalg.qr(gradients_of(3, (12, 12), 1)[0])[0]
    curvature = turn @ torch.diag(torch.logspace(0, -4, 12, dtype=torch.float64)) @ turn.T
    left = {}
    for rotate in (False, True):
        value = gradients_of(4, (12, 8), 1)[0]
        with optimiser_of(value, rotate) as optimiser:
            for n in range(300):
                optimiser.gradients["w"].copy_(curvature @ value)
                optimiser.step("all", n, 0.02, 0.0)
        left[rotate] = float(0.5 * (value * (curvature @ value)).sum())
    assert left[True] < left[False] / 3


def test_weights_decay_apart_from_gradients() -> None:
    value = torch.full((3, 2), 2.0)
    with optimiser_of(value, True, factor=2.0, decay=0.25) as optimiser:
        optimiser.step("all", 0, 0.1, 0.0)
        optimiser.step("all", 1, 0.1, 0.0)
    assert torch.allclose(value, torch.full((3, 2), 1.9))
