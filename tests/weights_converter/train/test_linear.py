"""A fresh network as a linear codec: what it keeps of pictures, against projections in NumPy. Skipped without torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from PIL import Image

from refcodec.errors import MissingInput
from refcodec.model.config import PROFILES
from weights_converter.network.bench import synthetic_picture
from weights_converter.network.model import LoCLIC
from weights_converter.train.linear_start import SIDES, linear_start, sample
from weights_converter.train.pictures import Picture, list_pictures
from weights_converter.train.state import start_fresh

WIDTHS, LATENT = (12, 16, 24), 48


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for n in range(6):
        noisy = synthetic_picture(200, 160, n) + rng.normal(0, 4, (160, 200, 3))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{n}.png")
    return list_pictures([folder])


@pytest.fixture(scope="module")
def crops(pictures: list[Picture]) -> torch.Tensor:
    return sample(pictures, 0)[:64]


@pytest.fixture(scope="module")
def net(crops: torch.Tensor) -> LoCLIC:
    torch.manual_seed(0)
    net = LoCLIC(replace(PROFILES["tiny"], N=WIDTHS, M=LATENT))
    linear_start(net, crops)
    return net.eval()


def blocks(x: np.ndarray) -> np.ndarray:
    """[B, H, W, C] -> [B, H / 2, W / 2, 4 C]."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def whole(x: np.ndarray) -> np.ndarray:
    """The inverse of blocks."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


def projected(x: np.ndarray) -> np.ndarray:
    """Pictures [B, H, W, 3] whose levels of g_a and g_s keep as many principal directions as they have channels."""
    found, values = [], x
    for width in (*WIDTHS, LATENT):
        rows = blocks(values).reshape(-1, 4 * values.shape[-1])
        mean = rows.mean(0)
        basis = np.linalg.svd(np.cov((rows - mean).T))[0][:, :width]
        values = (blocks(values) - mean) @ basis
        found.append((mean, basis))
    for (mean, basis), kept in zip(reversed(found), (WIDTHS[1], WIDTHS[0], WIDTHS[0], 3), strict=True):
        values = whole(values @ basis[:, : values.shape[-1]].T + mean)[..., :kept]
    return values


def test_a_fresh_start_keeps_what_projections_keep(net: LoCLIC, crops: torch.Tensor) -> None:
    """But for what GELU and GDN bend, and for an inverse that is fitted to rounded latents."""
    some = crops[:24]
    wanted = some.permute(0, 2, 3, 1).double().numpy()
    with torch.no_grad():
        got = net.g_s(net.g_a(some)).permute(0, 2, 3, 1).double().numpy()
    error, least = np.mean((got - wanted) ** 2), np.mean((projected(wanted) - wanted) ** 2)
    assert least < 1e-3 < np.var(wanted)
    assert error < 1.25 * least


def test_every_latent_is_alive_and_expected_where_it_is(net: LoCLIC, crops: torch.Tensor) -> None:
    with torch.no_grad():
        y, z = net.latents(crops[:16], torch.full((16,), float(net.config.qualities - 1)))
        hyper = net.hyper(torch.round(z), torch.full((16,), float(net.config.qualities - 1)))
    deviation = y.std((0, 2, 3))
    assert deviation.min() > 0.2 and (deviation[1:] > 0.5 * deviation[:-1]).all()
    assert (hyper.mean((0, 2, 3))[LATENT:] - y.mean((0, 2, 3))).abs().max() < 3


def test_z_survives_rounding_and_its_density_fits(net: LoCLIC, crops: torch.Tensor) -> None:
    for level in range(net.config.qualities):
        with torch.no_grad():
            _, z = net.latents(crops[:32], torch.full((32,), float(level)))
            z_hat, likelihoods = net.coded_z(z, None)
        assert 0.3 < z.square().mean((0, 2, 3)).sqrt().median() < 0.8 and (z_hat != 0).float().mean() > 0.1
        assert -likelihoods.log2().mean() < 2  # of a normal with this deviation, 1.2


def test_every_profile_can_begin(pictures: list[Picture]) -> None:
    crops = sample(pictures, 0)[:8, :, :96, :96].contiguous()
    for profile in ("tiny", "default"):
        net, *_ = start_fresh(profile, 0)
        linear_start(net, crops)
        assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    net = LoCLIC(replace(PROFILES["tiny"], old_synthesis=True, qualities=1))
    linear_start(net, crops)
    with torch.no_grad():
        assert (net.g_s(net.g_a(crops)) - crops).square().mean() < 0.1 * crops.var()


def test_a_sample_has_the_largest_crops_there_are(tmp_path: Path) -> None:
    Image.fromarray(synthetic_picture(200, 130, 0)).save(tmp_path / "a.png")
    found = sample(list_pictures([tmp_path]), 0)
    assert found.shape == (128, 3, 128, 128) and 0 <= found.min() < found.max() <= 1
    assert (found == sample(list_pictures([tmp_path]), 0)).all()
    Image.fromarray(synthetic_picture(200, 63, 0)).save(tmp_path / "a.png")
    with pytest.raises(MissingInput, match=f"crop={SIDES[-1]}"):
        sample(list_pictures([tmp_path]), 0)
