"""A training in short leases: parts of a state, tails on a copy, the pace of a device, augmentation, interruptions.

Skipped without PyTorch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from small_training import quick_plan, run, save_pictures

from refcodec.errors import UsageError
from weights_converter.__main__ import main
from weights_converter.train.augment import augmented, rendered
from weights_converter.train.loop import begin, tail
from weights_converter.train.pace import Measured, best
from weights_converter.train.pictures import Ahead, Crops, Picture, list_pictures
from weights_converter.train.plan import AUGMENTATIONS, Plan, plan_from, schedule_from, sides_from
from weights_converter.train.state import State, read_state, start_fresh, with_levels

pytestmark = pytest.mark.usefixtures("torch_modes")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    return list_pictures([save_pictures(tmp_path_factory.mktemp("pictures"), side=160)])


def fresh(**values: object) -> State:
    plan = quick_plan(**values)
    net, config, origin = start_fresh("tiny", plan.seed)
    return begin(net, config, plan, origin)


def test_a_constant_rate_has_its_fall_in_a_tail():
    plan = Plan(steps=10, hold=1.0, warmup=0, crops=((128, 0.0), ((384, 512), 0.5)))
    assert {plan.rate_at(n / 9, n) for n in range(10)} == {plan.rate}
    last = plan.tail(20, 0.0, 7)
    rates = [last.rate_at(n / 20, n) for n in range(21)]
    assert rates[0] == plan.rate and rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(plan.rate * plan.floor)
    assert last.stage(0) == "all" and last.shape(0, 1)[1] == 512


def test_a_tail_takes_over_the_state_and_leaves_its_run_alone(tmp_path: Path, pictures: list[Picture]):
    base = run(tmp_path / "run", fresh(steps=50, hold=1.0, optimiser="soap"), pictures, pause_steps=3)
    assert not base.go()
    parent = read_state(tmp_path / "run")
    assert parent is not None
    before = (tmp_path / "run" / "state.pt").read_bytes()
    begun = tail(parent, 4, 0.0)
    assert begun.plan.seed != parent.plan.seed and begun.origin["tail_of"]["step"] == 3
    assert all(torch.equal(begun.average[name], parent.weights[name]) for name in parent.weights)
    end = run(tmp_path / "tail", begun, pictures)
    assert end.go() and end.progress.step == 4
    assert (tmp_path / "run" / "state.pt").read_bytes() == before
    assert not run(tmp_path / "run", parent, pictures, pause_steps=1).go()  # and goes on


def test_sides_take_turns_and_have_as_many_samples(pictures: list[Picture]):
    plan = Plan(steps=1, batch=8, crops=schedule_from("64+128", sides_from, "--crops"))
    assert [plan.shape(0, n) for n in range(3)] == [(8, 64), (2, 128), (8, 64)]
    assert plan_from(json.loads(json.dumps(plan.as_dict())), "x") == plan
    crops = Crops(pictures, 8, 0)
    with Ahead(crops, 3) as ahead:
        for n in range(5):
            batch, alone = ahead.batch(n, lambda step: plan.shape(0, step)), crops.batch(n, *plan.shape(0, n))
            assert (batch.samples == alone.samples).all() and (batch.quality == alone.quality).all()


def test_augmentation_follows_from_the_step_and_changes_what_it_says(pictures: list[Picture]):
    every = tuple((kind, 1.0) for kind in AUGMENTATIONS)
    first, again, without = (Crops(pictures, 8, 5, augment=a).batch(3, 4, 64) for a in (every, every, ()))
    assert (first.samples == again.samples).all() and (first.samples != without.samples).any()
    rng = np.random.default_rng(1)
    photo = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    grey = augmented(photo, (("grey", 1.0),), rng)
    assert np.ptp(grey.astype(int), axis=2).max() == 0
    turned = augmented(photo // 2 + 64, (("hue", 1.0),), rng)
    assert abs(turned.mean(2) - (photo // 2 + 64).mean(2)).max() < 1.5  # the grey axis stays
    strong = augmented(photo, (("saturation", 1.0),), rng)
    assert strong.shape == photo.shape and (strong != photo).any()
    assert augmented(photo, (("grey", 0.0),), rng) is photo
    counts = [len(np.unique(rendered(64, 64, rng).reshape(-1, 3), axis=0)) for _ in range(20)]
    assert min(counts) < 10 and max(counts) > 30  # flat ones, and gradients
    with pytest.raises(UsageError, match="rule"):
        Plan(steps=1, augment=(("blur", 0.1),))


def test_levels_are_added_beyond_the_highest():
    net, config, _ = start_fresh("tiny", 0)
    more = with_levels(net, config.qualities + 2)
    assert more.config.qualities == config.qualities + 2
    assert torch.equal(more.gain[: config.qualities], net.gain)
    assert torch.allclose(more.gain[-1] - more.gain[-2], net.gain[-1] - net.gain[-2], atol=1e-6)
    with pytest.raises(UsageError, match="levels"):
        with_levels(net, 1)


def test_the_pace_chooses_what_trains_most_and_is_exact_where_that_costs_little():
    plan = Plan(steps=1)
    rows = [
        Measured(32, 256, "float32", 10, 20e6, 50),
        Measured(64, 256, "float32", 6, 24e6, 40),
        Measured(64, 256, "bfloat16", 6.1, 24.5e6, 40),
        Measured(128, 256, "bfloat16", 5, 40e6, float("inf")),
    ]
    assert best(rows, plan).startswith("--batch 64 --precision float32 --rate 0.00113 --clip 100")


def test_the_pace_of_this_machine_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = str(save_pictures(tmp_path / "p"))
    words = ["train", "--measure", "1", "--images", folder, "--profile", "tiny", "--crops", "64", "--batches", "1,2"]
    assert main([*words, "--device", "cpu", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[-1].startswith("--batch ") and "megapixels per second" in lines[-1]


WORDS = ["--steps", "1000", "--hold", "1", "--batch", "2", "--crops", "64", "--stages", "all", "--initial", "random"]


def _train(*words: str) -> list[str]:
    return [sys.executable, "-m", "weights_converter", "train", "--device", "cpu", "--threads", "1", *words]


@pytest.mark.slow
def test_leases_from_measuring_to_a_model_with_a_kill_between(tmp_path: Path):
    """The runbook of training.md, with a tiny network on a processor."""
    folder, out, parts, fetched = (tmp_path / name for name in ("pictures", "run", "parts", "fetched"))
    save_pictures(folder, 4)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begin = _train("--images", str(folder), "--out", str(out), "--profile", "tiny", *WORDS, "--save-minutes", "0.02")
    first = subprocess.Popen(begin, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    saved, limit = 0, time.monotonic() + 240
    while saved < 3 and time.monotonic() < limit:  # several states, each in parts as they are fetched
        time.sleep(1)
        if (out / "state.pt").exists():
            assert main(["parts", "split", str(out / "state.pt"), str(parts), "--mib", "0.25"]) == 0
            saved += 1
    assert saved == 3 and first.poll() is None
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    names = [part["name"] for part in json.loads((parts / "parts.json").read_text())["parts"]]
    assert len(names) > 2 and all((parts / name).stat().st_size <= 1 << 18 for name in names)
    for n, lot in enumerate((names[:2], names[2:])):  # in two calls, and the machine is gone
        (fetched / str(n)).mkdir(parents=True)
        for name in (*lot, "parts.json"):
            (fetched / str(n) / name).write_bytes((parts / name).read_bytes())
    again = tmp_path / "again"
    again.mkdir()
    assert main(["parts", "join", str(fetched / "0"), str(fetched / "1"), str(again / "state.pt")]) == 0
    state = read_state(again)
    assert state is not None and state.progress.step > 0
    more = _train("--images", str(folder), "--out", str(again), "--pause-after-steps", "4")
    assert subprocess.run(more, env=environment, capture_output=True, timeout=240).returncode == 0
    resumed = read_state(again)
    assert resumed is not None and resumed.progress.step == state.progress.step + 4
    end = _train("--images", str(folder), "--out", str(tmp_path / "tail"), "--tail-of", str(again), "--steps", "3")
    assert subprocess.run(end, env=environment, capture_output=True, timeout=240).returncode == 0
    made = [sys.executable, "-m", "weights_converter", "convert", str(tmp_path / "tail" / "checkpoint.pt")]
    made += [str(tmp_path / "model.h5"), "--images", str(folder)]
    assert subprocess.run(made, env=environment, capture_output=True, timeout=240).returncode == 0
