"""``encode --refine``: fewer bits at the same errors, never worse, decoded by the ordinary decoder. Needs PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch

import refcodec
from refcodec.codec import encode_picture
from refcodec.errors import InvalidModel, LimitExceeded
from refcodec.limits import Limits, padded
from refcodec.measure.metrics import psnr
from refcodec.model.registry import load_model
from refcodec.refinement import SLOPE_SPAN, slope
from refcodec.targets import Target, code
from weights_converter.network import refine
from weights_converter.network.refine import refining_memory, spans

pytestmark = pytest.mark.usefixtures("torch_modes")

SCENE = np.asarray(Image.open(Path(__file__).parents[3] / "conformance/data/pictures/scene.png").convert("RGB"))
STEPS = 8
WAYS = {"refine": STEPS, "threads": 1, "rectangles": False}


def bits_and_errors(samples, coded):
    """Of an `Encoded`; wholly transparent pixels have no errors."""
    shown, meant, seen = coded.reconstruction.astype(int), samples, np.ones(samples.shape[:2], np.bool_)
    if samples.ndim == 3 and samples.shape[2] == 4:
        assert (shown[:, :, 3] == samples[:, :, 3]).all()
        shown, meant, seen = shown[:, :, :3], samples[:, :, :3], samples[:, :, 3] > 0
    return 8 * (coded.z_bytes + coded.y_bytes), int(np.square(shown - meant)[seen].sum())


def costs(samples, quality, *coded):
    """Costs that the encoder compares: bits, and errors by the picture's own slope."""
    around = (encode_picture(samples, q, rectangles=False) for q in (quality - SLOPE_SPAN, quality + SLOPE_SPAN))
    weight = slope(*(bits_and_errors(samples, one) for one in around), quality)
    return [bits + weight * errors for bits, errors in (bits_and_errors(samples, one) for one in coded)]


@pytest.mark.parametrize("quality", [45, 90])
def test_a_refined_stream_costs_less_and_is_decoded_as_any_other(quality):
    samples = SCENE[20:84, 30:94]
    own = encode_picture(samples, quality, rectangles=False)
    coded = encode_picture(samples, quality, **WAYS)
    assert (refcodec.decode(coded.data) == coded.reconstruction).all()
    before, after = costs(samples, quality, own, coded)
    assert after < 0.998 * before
    assert encode_picture(samples, quality, **WAYS).data == coded.data  # one seed


@pytest.mark.parametrize(
    "samples",
    [
        SCENE[5:24, 9:80],
        SCENE[5:24, 9:80, 1],
        np.dstack([SCENE[5:74, 9:40], SCENE[5:74, 9:40, 0] // 128 * 255]),
        SCENE[:1, :1],
    ],
    ids=["odd", "grey", "alpha", "one pixel"],
)
def test_every_kind_of_picture_is_refined_and_none_gets_worse(samples):
    own, coded = (encode_picture(samples, 40, refine=n, rectangles=False, threads=1) for n in (0, 3))
    assert (refcodec.decode(coded.data) == coded.reconstruction).all()
    before, after = costs(samples, 40, own, coded)
    assert after <= before and (after < before or coded.data == own.data)


@pytest.mark.slow
def test_tiles_and_stored_rectangles_stay(tmp_path):
    samples = SCENE[:128, :128].copy()
    samples[:64, :64] = np.where(np.indices((64, 64)).sum(0)[:, :, None] % 8 < 4, 250, 20)
    coded = encode_picture(samples, 40, tile=64, refine=2, threads=1)
    assert coded.stored and (coded.reconstruction[:64, :64] == samples[:64, :64]).all()
    assert (refcodec.decode(coded.data) == coded.reconstruction).all()


@pytest.mark.slow
def test_windows_cover_a_large_picture_and_meet_in_their_margins(monkeypatch):
    monkeypatch.setattr(refine, "WINDOW", 64)
    assert [span.start for span in spans(320)] == [0, 64, 128, 192, 256]
    assert spans(128)[0] == (0, 128, 0, 128)
    samples = SCENE[:64, :130]
    coded, again = (encode_picture(samples, 90, **{**WAYS, "threads": n}) for n in (1, 2))
    own = encode_picture(samples, 90, rectangles=False)
    assert coded.data == again.data
    assert coded.data != own.data and (refcodec.decode(coded.data) == coded.reconstruction).all()


def test_without_a_gain_the_encoders_own_latents_are_kept(monkeypatch):
    monkeypatch.setattr(refine, "RATE", 3.0)
    samples = SCENE[20:84, 30:94]
    assert encode_picture(samples, 60, **WAYS).data == encode_picture(samples, 60, rectangles=False).data


def test_noise_of_two_steps_cancels():
    v, noise, steps = torch.zeros(3, 5), refine._Noise(), []
    for _ in range(4):
        noise.next_step()
        steps.append([noise.like(v), noise.like(v[:2])])
    for first, second in (steps[:2], steps[2:]):
        assert all(((a + b) == 1).all() for a, b in zip(first, second, strict=True))
    assert (steps[0][0] != steps[2][0]).all()
    # Mirrored numbers round the other way: the two values of a pair lie around the value itself.
    halves = torch.full((3, 5), 0.5)
    pair = [refine.annealed(halves, 0.2, step[0]) for step in steps[:2]]
    assert torch.allclose(pair[0] + pair[1], 2 * halves, atol=1e-5) and (pair[0] != pair[1]).all()


def test_progress_rises_to_one():
    seen: list[float] = []
    encode_picture(SCENE[:64, :64], 60, **WAYS, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1) and len(seen) > STEPS


@pytest.mark.slow
def test_a_size_and_a_psnr_are_kept_and_bettered(tmp_path):
    samples = refcodec.planes.ArrayRows(SCENE[20:84, 30:94])
    for target in (Target(size=700), Target(psnr=32)):
        plain, refined = (code(samples, target, load_model(), refine=n, threads=1) for n in (0, STEPS))
        sizes = [len(reached.trial.coded.data) for reached in (plain, refined)]
        if target.size:
            assert sizes[1] <= target.size and refined.trial.fidelity.psnr > plain.trial.fidelity.psnr
        else:
            assert refined.trial.fidelity.psnr >= 32 and sizes[1] < sizes[0]
        assert "refined" in refined.note


def test_memory_is_refused_before_it_is_taken():
    model = load_model()
    needed = refining_memory(model.config, 3000, 2000)
    assert needed < 1.1 * refining_memory(model.config, padded(3000) * 4, 2000)  # windows
    with pytest.raises(LimitExceeded, match="refinement"):
        encode_picture(SCENE[:64, :64], 60, refine=1, limits=Limits(max_memory=300 << 20))


def test_a_model_without_floats_is_refused(model):
    with pytest.raises(InvalidModel, match="file"):
        encode_picture(SCENE[:64, :64], 60, model=model, refine=1)


def test_the_command_refines(tmp_path):
    Image.fromarray(SCENE[:64, :64]).save(tmp_path / "p.png")
    done = refcodec.encode_file(tmp_path / "p.png", tmp_path / "p.loclic", quality=50, refine=STEPS, threads=1)
    assert done.psnr == pytest.approx(psnr(SCENE[:64, :64], refcodec.decode((tmp_path / "p.loclic").read_bytes())))
