"""Training on tiny data: plans, pictures, steps, pieces of a run, bad input. Skipped without PyTorch."""

from __future__ import annotations

import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_training import CPU, quick_plan, run, save_pictures

from refcodec.errors import CheckFailed, InvalidImage, InvalidModel, MissingInput, RefcodecError, UsageError
from weights_converter.__main__ import main
from weights_converter.formats.checkpoint import read_checkpoint
from weights_converter.train import soap
from weights_converter.train.loop import MOST_FAULTS, begin
from weights_converter.train.loss import Trainee, interpolated
from weights_converter.train.pictures import Crops, Picture, decode, list_pictures, split
from weights_converter.train.plan import STAGES, Plan, plan_from, schedule_from
from weights_converter.train.state import Log, State, read_log, read_state, start_fresh, start_from, write_state
from weights_converter.train.trainer import UNUSED, Trainer

pytestmark = pytest.mark.usefixtures("torch_modes")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    return list_pictures([save_pictures(tmp_path_factory.mktemp("pictures"))])


def fresh(**values: Any) -> State:
    chosen = quick_plan(**values)
    net, config, origin = start_fresh("tiny", chosen.seed)
    return begin(net, config, chosen, origin)


def weights(state: State | None) -> dict[str, torch.Tensor]:
    assert state is not None
    return {
        **{f"w/{k}": v for k, v in state.weights.items()},
        **{f"a/{k}": v for k, v in state.average.items()},
        **{f"m/{k}": v for k, v in state.moments.items()},
    }


def same(a: State | None, b: State | None) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# Plans.


@given(
    steps=st.integers(1, 10**6),
    hold=st.floats(0, 0.9),
    warmup=st.integers(0, 500),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_a_plan_survives_its_file_and_never_leaves_its_peak(steps: int, hold: float, warmup: int, seed: int) -> None:
    plan = Plan(steps=steps, hold=hold, warmup=warmup, seed=seed, stages=(("transforms", 0.0), ("all", 0.25)))
    assert plan_from(json.loads(json.dumps(plan.as_dict())), "x") == plan
    rates = [plan.rate_at(p, 10**6) for p in np.linspace(0, 1, 50)]
    assert rates[0] == pytest.approx(plan.rate) and rates[-1] == pytest.approx(plan.floor * plan.rate)
    assert rates == sorted(rates, reverse=True)
    assert [plan.stage(p) for p in (0, 0.2499, 0.25, 1)] == ["transforms", "transforms", "all", "all"]
    assert 0 < plan.rate_at(0, 0) <= plan.rate


def test_a_plan_of_minutes_counts_time_in_steps() -> None:
    plan = Plan(minutes=2, crops=((64, 0.0), (128, 0.5)))
    assert [plan.position(99, s) for s in (0, 60, 500)] == [0, 0.5, 1]
    assert [plan.shape(p, 0)[1] for p in (0, 0.49, 0.5)] == [64, 64, 128]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"steps": 1, "minutes": 1.0},
        {"minutes": math.inf},
        {"stages": (("some", 0.0),)},
        {"crops": ((100, 0.0),)},
        {"crops": ((64, 0.1),)},
        {"crops": ((64, 0.0), (128, 1.0))},
        {"batch": 0},
        {"rate": math.nan},
        {"hold": 1.1},
        {"lambdas": (0.1, 0.01)},
        {"balance": 2.0},
        {"precision": "float16"},
        {"clip": 0.0},
        {"average": 1.0},
        {"optimiser": "adam"},
    ],
)
def test_impossible_plans_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Plan(**(values if not values or "minutes" in values else {"steps": 5, **values}))


def test_schedules_are_read_and_refused() -> None:
    assert schedule_from("128,256@0.7", int, "--crops") == ((128, 0.0), (256, 0.7))
    assert schedule_from("transforms,all@0.5", str, "--stages") == (("transforms", 0.0), ("all", 0.5))
    for text in ("", "a", "64@x", "64@0.5@1"):
        with pytest.raises(UsageError):
            schedule_from(text, int, "--crops")
    with pytest.raises(UsageError):
        plan_from({**Plan(steps=1).as_dict(), "more": 1}, "x")
    with pytest.raises(UsageError):
        plan_from({**Plan(steps=1).as_dict(), "rate": "much"}, "x")


# Pictures.


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_folders_and_tars_give_the_same_pictures(tmp_path: Path) -> None:
    folder = save_pictures(tmp_path / "a")
    (folder / "notes.txt").write_text("no picture")
    members = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    members["kodim07.png"] = (folder / "1.png").read_bytes() + b" "
    from_tar = list_pictures([tar_of(tmp_path / "a.tar", members)])
    from_folder = list_pictures([folder])
    assert [(p.digest, p.height, p.width) for p in from_tar] == [(p.digest, p.height, p.width) for p in from_folder]
    assert len(from_tar) == 3 == len(list_pictures([folder, tmp_path / "a.tar"]))
    for a, b in zip(from_tar, from_folder, strict=True):
        np.testing.assert_array_equal(a.samples(), b.samples())
        np.testing.assert_array_equal(a.samples(), np.asarray(Image.open(b.path)))


def test_held_out_pictures_stay_held_out_whatever_joins(pictures: list[Picture]) -> None:
    many = [Picture(str(n), Path(), 0, 0, f"{(n * 2654435761) % (1 << 32):08x}{n:056x}", 64, 64) for n in range(1000)]
    for count in (200, 500, 1000):
        trained, held = split(many[:count])
        assert len(trained) + len(held) == count and not set(trained) & set(held)
        assert set(held) <= set(split(many)[1]) and count / 128 < len(held) < count / 32
    assert split(pictures[:1]) == (pictures[:1], pictures[:1])
    assert len(split(pictures)[1]) == 1


def test_batches_follow_from_seed_and_step(pictures: list[Picture]) -> None:
    crops = [Crops(pictures, 3, seed, cache) for seed, cache in ((1, 1 << 30), (1, 0), (2, 1 << 30))]
    a, b, c = (row.batch(7, 4, 64) for row in crops)
    np.testing.assert_array_equal(a.samples, b.samples)
    np.testing.assert_array_equal(a.quality, b.quality)
    assert (a.samples != c.samples).any() and (a.samples != crops[0].batch(8, 4, 64).samples).any()
    assert sorted(np.floor(a.quality * 4 / 2)) == [0, 1, 2, 3]  # one from each quarter of 0..2


def test_a_crop_is_a_piece_of_its_picture(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([np.add.outer(np.arange(64), np.arange(64)) % 251] * 3).astype(np.uint8)).save(
        tmp_path / "a.png"
    )
    whole = np.asarray(Image.open(tmp_path / "a.png"))
    turns = [np.rot90(t, n) for t in (whole, whole[:, ::-1]) for n in range(4)]
    for sample in Crops(list_pictures([tmp_path]), 1, 0).batch(0, 8, 64).samples:
        assert any(np.array_equal(sample.transpose(1, 2, 0), turn) for turn in turns)


def test_bad_sources_of_pictures_are_named(tmp_path: Path) -> None:
    folder = save_pictures(tmp_path / "a")
    good = (folder / "0.png").read_bytes()
    with pytest.raises(MissingInput, match="no pictures"):
        (tmp_path / "empty").mkdir()
        list_pictures([tmp_path / "empty"])
    with pytest.raises(MissingInput, match="no such"):
        list_pictures([tmp_path / "nothing"])
    with pytest.raises(InvalidImage, match="tar") as caught:
        (tmp_path / "b.tar").write_bytes(b"no tar" * 1000)
        list_pictures([tmp_path / "b.tar"])
    with pytest.raises(InvalidImage) as caught:
        list_pictures([tar_of(tmp_path / "c.tar", {"good.png": good, "bad.jpg": b"nothing"})])
    assert "c.tar:bad.jpg" in caught.value.where
    cut = list_pictures([tar_of(tmp_path / "d.tar", {"cut.png": good[: len(good) // 2]})])
    with pytest.raises(InvalidImage, match="decoded") as caught:
        Crops(cut, 1, 0).batch(0, 1, 64)
    assert "cut.png" in caught.value.where
    (tmp_path / "e.tar").write_bytes((tmp_path / "c.tar").read_bytes()[:700])
    with pytest.raises(InvalidImage):
        list_pictures([tmp_path / "e.tar"])
    with pytest.raises(MissingInput, match="as large as a crop"):
        Crops(list_pictures([folder]), 1, 0).batch(0, 1, 128)


# Steps.


def test_lambdas_are_geometric_between_levels() -> None:
    levels = Plan(steps=1).lambda_levels(8)
    assert levels[0] == pytest.approx(0.0018) and levels[-1] == pytest.approx(0.18)
    middle = interpolated(levels, torch.tensor([0.0, 2.5, 7.0]))
    wanted = [levels[0], math.sqrt(levels[2] * levels[3]), levels[7]]
    torch.testing.assert_close(middle, torch.tensor(wanted))
    assert interpolated([0.013], torch.tensor([0.0])).item() == pytest.approx(0.013)


@pytest.mark.parametrize("stage", ["transforms", "entropy", "all"])
def test_a_stage_trains_its_own_parameters_and_no_others(stage: str, pictures: list[Picture]) -> None:
    state = fresh()
    for last in ("h_a.reduction.8", "g_a.analysis_transform.6"):
        state.weights[f"net.{last}.weight"].mul_(100)  # symbols that are not all zero
    trainee, average = (Trainee(start_fresh("tiny", 0)[0]) for _ in range(2))
    for t in (trainee, average):
        t.load_state_dict(state.weights)
    trainer = Trainer(trainee, average, state.plan, CPU, 2)
    batch = Crops(pictures, 3, 0).batch(0, 3, 64)
    outcome = trainer.step(batch, 0, stage, 1e-3, 0.5)
    trainer.close()
    assert not outcome.fault and outcome.norm > 0
    for name, value in trainee.named_parameters():
        changed = not torch.equal(value, state.weights[name])
        if name.startswith(UNUSED[stage]):
            assert not changed, name
        elif not name.endswith("keys.1.bias"):  # a softmax over positions does not see it
            assert changed, name
        torch.testing.assert_close(average.get_parameter(name), (value + state.weights[name]) / 2)


def test_parts_of_a_batch_add_up_to_the_whole(pictures: list[Picture]) -> None:
    """One core and three give the same gradients up to rounding, hence the same first moments."""
    batch = Crops(pictures, 3, 0).batch(0, 3, 64)
    moments = []
    for threads in (1, 3):
        trainee, average = (Trainee(start_fresh("tiny", 0)[0]) for _ in range(2))
        for t in (trainee, average):
            t.net.noise = lambda batch, height, width, generator: Silence(batch, height, width)  # type: ignore
        trainer = Trainer(trainee, average, fresh(clip=1e9).plan, CPU, threads)
        trainer.step(batch, 0, "all", 1e-3, 0.9)
        trainer.close()
        moments.append({k: v for k, v in trainer.optimiser.moments().items() if k.endswith("exp_avg")})
    scale = math.sqrt(sum(float(v.square().sum()) for v in moments[0].values()))
    difference = math.sqrt(sum(float((moments[0][k] - moments[1][k]).square().sum()) for k in moments[0]))
    assert difference < 1e-3 * scale


def test_transforms_and_the_density_of_z_have_rates_of_their_own(pictures: list[Picture]) -> None:
    """Adam's first step is the rate in every weight whose gradient is not about zero."""
    state = fresh(transform_rate=0.25)
    trainee, average = (Trainee(start_fresh("tiny", 0)[0]) for _ in range(2))
    trainer = Trainer(trainee, average, state.plan, CPU, 1)
    before = {name: value.detach().clone() for name, value in trainee.named_parameters()}
    trainer.step(Crops(pictures, 2, 0).batch(0, 2, 64), 0, "all", 1e-4, 0.9)
    trainer.close()
    for part, factor in (("g_a.", 0.25), ("g_s.", 0.25), ("h_s.", 1), ("gain", 1), ("entropy_bottleneck.", 10)):
        steps = [
            (value - before[name]).abs().max().item()
            for name, value in trainee.named_parameters()
            if name.startswith(f"net.{part}")
        ]
        assert max(steps) == pytest.approx(1e-4 * factor, rel=0.02), part


def Silence(batch: int, height: int, width: int) -> Any:
    from weights_converter.network.model import Noise

    return Noise(torch.zeros(batch, 24, height // 16, width // 16), torch.zeros(batch, 6, height // 64, width // 64))


def test_training_overfits_one_crop(tmp_path: Path) -> None:
    pictures = list_pictures([save_pictures(tmp_path / "one", 1, 64)])
    state = fresh(steps=70, batch=2, rate=4e-3, lambdas=(0.05, 0.05), hold=0.6, average=0.9)
    job = run(tmp_path / "run", state, pictures, log_steps=10)
    before = job.validate()
    assert job.go()
    after = job.validate()
    assert all(b.psnr > a.psnr + 5 for a, b in zip(before, after, strict=True))
    losses = [row["loss"] for row in read_log(tmp_path / "run" / "log.jsonl") if row["event"] == "train"]
    assert losses[-1] < losses[0] / 4


# Pieces.


@pytest.mark.parametrize(("cut", "optimiser"), [(1, "adamw"), (4, "adamw"), (1, "soap"), (4, "soap")])
def test_a_run_in_pieces_equals_a_run_at_once(
    cut: int, optimiser: str, tmp_path: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soap, "EVERY", 4)  # after the first step, bases are being found
    stages = (("transforms", 0.0), ("entropy", 0.3), ("all", 0.6))
    assert run(tmp_path / "whole", fresh(stages=stages, optimiser=optimiser), pictures).go()
    assert not run(tmp_path / "split", fresh(stages=stages, optimiser=optimiser), pictures, pause_steps=cut).go()
    paused = read_state(tmp_path / "split")
    assert paused is not None and paused.progress.step == cut
    assert run(tmp_path / "split", paused, pictures).go()
    assert same(read_state(tmp_path / "whole"), read_state(tmp_path / "split"))
    assert (tmp_path / "whole" / "checkpoint.pt").read_bytes() == (tmp_path / "split" / "checkpoint.pt").read_bytes()


def test_a_state_survives_its_file(tmp_path: Path, pictures: list[Picture]) -> None:
    job = run(tmp_path, fresh(), pictures, pause_steps=2)
    job.go()
    state, again = job.state(), read_state(tmp_path)
    assert again is not None and same(state, again)
    assert (again.plan, again.config, again.progress, again.origin) == (
        state.plan,
        state.config,
        state.progress,
        state.origin,
    )


def test_damaged_states_are_refused(tmp_path: Path) -> None:
    write_state(tmp_path, fresh())
    whole = (tmp_path / "state.pt").read_bytes()
    assert read_state(tmp_path / "other") is None
    for damaged in (whole[: len(whole) // 2], b"", b"text", whole[:-9999] + bytes(64) + whole[-9935:]):
        (tmp_path / "state.pt").write_bytes(damaged)
        with pytest.raises(InvalidModel):
            read_state(tmp_path)
    torch.save({"format": "another"}, tmp_path / "state.pt")
    with pytest.raises(InvalidModel):
        read_state(tmp_path)


def test_checkpoints_of_a_run_are_published_ones(tmp_path: Path, pictures: list[Picture]) -> None:
    job = run(tmp_path, fresh(), pictures, pause_steps=1)
    job.go()
    checkpoint = read_checkpoint(tmp_path / "checkpoint.pt")
    assert checkpoint.config == job.config.as_dict()
    net, config, origin = start_from(str(tmp_path / "checkpoint.pt"))
    assert config == job.config and origin["sha256"] == checkpoint.source_sha256
    for name, value in net.state_dict().items():
        assert torch.equal(value, job.average.net.state_dict()[name]), name


# Faults.


def test_faults_change_nothing_and_end_a_run_when_many(
    tmp_path: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = fresh(steps=100)
    job = run(tmp_path, state, pictures)
    job.trainee.get_parameter("net.g_s.synthesis_transform.0.conv1.weight").data[0, 0, 0, 0] = math.nan
    before = {name: value.clone() for name, value in job.trainee.state_dict().items()}
    with pytest.raises(CheckFailed, match="too many steps"):
        job.go()
    for name, value in job.trainee.state_dict().items():
        assert torch.equal(value.nan_to_num(7), before[name].nan_to_num(7)), name
    faults = [row for row in read_log(tmp_path / "log.jsonl") if row["event"] == "fault"]
    assert len(faults) == MOST_FAULTS == faults[-1]["faults"] and faults[0]["fault"] == "loss not finite"
    assert not (tmp_path / "state.pt").exists()  # weights that are not finite are never saved


def test_a_loss_out_of_range_is_left_out(pictures: list[Picture]) -> None:
    state = fresh()
    trainee, average = (Trainee(start_fresh("tiny", 0)[0]) for _ in range(2))
    trainer = Trainer(trainee, average, state.plan, CPU, 1)
    before = {name: value.clone() for name, value in trainee.state_dict().items()}
    outcome = trainer.step(Crops(pictures, 3, 0).batch(0, 2, 64), 0, "all", 1e-3, 0.9, largest=1e-6)
    trainer.close()
    assert "above" in outcome.fault and math.isfinite(outcome.loss)
    assert all(torch.equal(value, before[name]) for name, value in trainee.state_dict().items())
    assert not trainer.optimiser.moments()


# The command.


def test_the_command_trains_continues_evaluates_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = save_pictures(tmp_path / "pictures"), tmp_path / "run"
    common = ["train", "--images", str(folder), "--out", str(out), "--threads", "2", "--log-steps", "1"]
    plan = ["--steps", "3", "--crops", "64", "--batch", "2"]
    assert main([*common, "--profile", "tiny", *plan, "--pause-after-steps", "1"]) == 0
    assert "paused" in capsys.readouterr().out
    assert main([*common, "--steps", "4"]) == 2  # another plan
    assert "another plan" in capsys.readouterr().err
    assert main([*common, "--evaluate", str(folder), "--plot", str(tmp_path / "plot.png")]) == 0
    printed = capsys.readouterr().out
    assert "done" in printed and len(printed.splitlines()) == 1 + 2 + 3
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 1000
    events = [row["event"] for row in read_log(out / "log.jsonl")]
    assert events == ["start", "train", "start", "train", "train", "validation"]
    assert main(["train", "--start", str(out / "checkpoint.pt"), "--evaluate", str(folder)]) == 0
    assert capsys.readouterr().out == "\n".join(printed.splitlines()[1:]) + "\n"


def test_the_command_trains_another_configuration_over_the_same_latents(tmp_path: Path) -> None:
    folder = str(save_pictures(tmp_path / "pictures"))
    first, other = tmp_path / "first", tmp_path / "other"
    common = ["train", "--images", folder, "--threads", "1", "--crops", "64", "--batch", "2", "--profile", "tiny"]
    assert main([*common, "--out", str(first), "--steps", "1"]) == 0
    start = str(first / "checkpoint.pt")
    options = ["--set", "slices=2", "ent=14,12,8", "--latents-of", start, "--stages", "entropy"]
    assert main([*common, "--out", str(other), "--steps", "2", *options]) == 0
    before, after = (start_from(str(run / "checkpoint.pt"))[0] for run in (first, other))
    assert (before.config.slices, after.config.slices, after.config.ent) == (3, 2, (14, 12, 8))
    own, taken = before.state_dict(), after.state_dict()
    assert all(torch.equal(own[name], taken[name]) for name in own if name.startswith(("g_a.", "g_s.", "gain")))
    assert any(not torch.equal(own[name], taken[name]) for name in own if name.startswith("h_s."))  # those train
    origin = read_log(other / "log.jsonl")[0]["origin"]
    assert origin["latents"]["from"] == "checkpoint.pt" and origin["form"] == "fresh"


def test_the_command_refuses_what_makes_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = str(save_pictures(tmp_path / "pictures")), str(tmp_path / "run")
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    tiny = ["--images", folder, "--out", out, "--steps", "1", "--profile", "tiny"]
    for arguments, code in (
        ([], 2),
        (["--images", folder], 2),
        (["--plot", "x.png"], 2),
        (["--images", folder, "--out", out], 2),
        (["--images", folder, "--out", out, "--steps", "1", "--profile", "huge"], 2),
        ([*tiny, "--qualities", "65"], 78),
        ([*tiny, "--start", "x"], 2),
        ([*tiny, "--start", "x", "--set", "slices=2"], 2),
        ([*tiny, "--set", "slices=x"], 2),
        ([*tiny, "--set", "slices"], 2),
        ([*tiny, "--set", "slices=2", "slices=3"], 2),
        ([*tiny, "--set", "qualities=4", "--qualities", "5"], 2),
        ([*tiny, "--set", "slices=5"], 78),
        ([*tiny, "--set", "depth=5"], 78),
        ([*tiny, "--set", "N=4,6"], 78),
        ([*tiny, "--set", "N=4096,4096,4096"], 78),
        ([*tiny, "--latents-of", "default"], 2),
        ([*tiny, "--latents-of", "default", "--initial", "linear"], 2),
        ([*tiny, "--latents-of", str(tmp_path / "no.pt")], 66),
        (["--images", folder, "--out", out, "--steps", "1", "--start", str(tmp_path / "no.pt")], 66),
        (["--images", folder, "--out", out, "--steps", "1", "--start", str(tmp_path / "bad.pt")], 78),
        (["--images", str(tmp_path / "no"), "--out", out, "--steps", "1", "--profile", "tiny"], 66),
        (["--out", out, "--plot", str(tmp_path / "p.png")], 66),
    ):
        assert main(["train", *arguments]) == code, arguments
        assert capsys.readouterr().err.count("\n") == 1, arguments
    assert not Path(out, "state.pt").exists()


def test_logs_are_appended_and_read_back(tmp_path: Path) -> None:
    log = Log(tmp_path / "a" / "b")
    log.write("x", {"n": 1})
    log.write("y", {"n": 2})
    assert [(row["event"], row["n"]) for row in read_log(log.path)] == [("x", 1), ("y", 2)]
    log.path.write_text(log.path.read_text() + '{"event": "cu')
    assert len(read_log(log.path)) == 2
    log.path.write_text("nonsense\n" + log.path.read_text())
    with pytest.raises(RefcodecError, match="line 1"):
        read_log(log.path)


def test_every_stage_has_its_list() -> None:
    assert set(UNUSED) == set(STAGES)


def test_no_picture_starts_a_program_and_no_exception_leaves(tmp_path, monkeypatch):
    """PostScript under the name of a JPEG, a tar file of nested long names, and sizes that a header only claims."""

    def started(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    header = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n%%EndComments\n%%EOF\n"
    (tmp_path / "eps").mkdir()
    (tmp_path / "eps" / "a.jpg").write_bytes(header)
    with pytest.raises(InvalidImage, match="cannot be read"):
        list_pictures([tmp_path / "eps"])
    with pytest.raises(InvalidImage, match="cannot be decoded"):
        decode(header, "a.jpg")
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 2
    (tmp_path / "deep.tar").write_bytes((name.tobuf() + b"a\0" + bytes(510)) * 1500 + bytes(1024))
    with pytest.raises(InvalidImage, match="not an uncompressed tar"):
        list_pictures([tmp_path / "deep.tar"])
    (tmp_path / "short.jpg").write_bytes(b"1234")
    with pytest.raises(InvalidImage, match="truncated"):
        Picture("short", tmp_path / "short.jpg", 0, 1 << 62, "", 1, 1).samples()


@pytest.mark.parametrize("error", [IndexError, RecursionError, RuntimeError, SystemError])
def test_any_exception_of_a_picture_decoder_is_an_error_of_this_project(monkeypatch, error):
    def fail(*_, **__):
        raise error("inside Pillow")

    monkeypatch.setattr("PIL.Image.open", fail)
    with pytest.raises(InvalidImage, match="inside Pillow"):
        decode(b"", "a.jpg")
