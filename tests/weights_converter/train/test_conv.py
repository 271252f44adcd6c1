"""Winograd's convolution beside PyTorch's: values, gradients, where it is used. Skipped without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from weights_converter.network import torch_conv
from weights_converter.network.torch_conv import allow_winograd, conv3x3


@pytest.fixture(autouse=True)
def _choice() -> Iterator[None]:
    yield
    allow_winograd(False)


def results(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, seen: torch.Tensor) -> list[torch.Tensor]:
    """The convolution, and the gradients of its product with `seen`."""
    leaves = [t for t in (x, weight, bias) if t is not None]
    y = conv3x3(x, weight, bias)
    return [y, *torch.autograd.grad((y * seen).sum(), leaves)]


@pytest.mark.parametrize(
    ("shape", "outputs"), [((1, 16, 32, 32), 32), ((3, 32, 4, 12), 16), ((2, 48, 8, 64), 16), ((5, 16, 4, 4), 16)]
)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("band", [1, 7, 10**6])
def test_values_and_gradients_are_those_of_the_direct_sum(
    shape: tuple[int, ...], outputs: int, with_bias: bool, band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_conv, "LEAST_TILES", 1)
    monkeypatch.setattr(torch_conv, "BAND_TILES", band)
    torch.manual_seed(band)
    x = torch.randn(shape, requires_grad=True)
    weight = torch.randn(outputs, shape[1], 3, 3, requires_grad=True)
    bias = torch.randn(outputs, requires_grad=True) if with_bias else None
    seen = torch.randn(shape[0], outputs, *shape[2:])
    allow_winograd(True)
    found = results(x, weight, bias, seen)
    allow_winograd(False)
    precise = [None if t is None else t.detach().double().requires_grad_() for t in (x, weight, bias)]
    assert precise[0] is not None and precise[1] is not None
    exact = results(precise[0], precise[1], precise[2], seen.double())
    for ours, wanted in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32 and ours.shape == wanted.shape
        assert (ours - wanted).abs().max() < 3e-5 * wanted.abs().max()


def test_it_is_used_only_in_training_and_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def apply(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        calls.append(x.shape)
        return F.conv2d(x, weight, bias, padding=1)

    monkeypatch.setattr(torch_conv._Winograd, "apply", apply)
    x, weight = torch.randn(1, 16, 32, 32), torch.randn(16, 16, 3, 3)

    def used(x: torch.Tensor, weight: torch.Tensor) -> bool:
        calls.clear()
        conv3x3(x, weight)
        return bool(calls)

    assert not used(x, weight)
    allow_winograd(True)
    assert used(x, weight)
    assert not used(x[:, :, :30], weight) and not used(x[..., :28, :28], weight)  # no tiles; too few
    assert not used(x, weight[:12]) and not used(x[:, :8], weight[:, :8])  # no whole vectors
    assert not used(x.double(), weight.double())
    with torch.no_grad():
        assert not used(x, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not used(x, weight)


def test_inputs_need_not_be_contiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_conv, "LEAST_TILES", 1)
    torch.manual_seed(1)
    x = torch.randn(2, 8, 8, 16).permute(0, 3, 1, 2).requires_grad_()
    weight = torch.randn(16, 16, 3, 3, requires_grad=True)
    allow_winograd(True)
    y = conv3x3(x, weight)
    (dx,) = torch.autograd.grad(y.transpose(2, 3).sum(), [x])
    wanted = F.conv2d(x, weight, padding=1)
    torch.testing.assert_close(y, wanted, atol=1e-3, rtol=0)
    torch.testing.assert_close(dx, torch.autograd.grad(wanted.sum(), [x])[0], atol=1e-3, rtol=0)
