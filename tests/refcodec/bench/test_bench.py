"""The benchmark: what it counts, what it says, and that watching changes nothing. Times themselves are not checked."""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tiny_models import random_picture

from refcodec.arith import strips
from refcodec.bench import command, measure, stopwatch, subjects
from refcodec.bench import processes as bench_processes
from refcodec.bench import table as bench_table
from refcodec.bench.processes import Twin
from refcodec.bench.stopwatch import (
    BETWEEN,
    CODER,
    CODING,
    CONTAINER,
    CONVOLUTION,
    OTHER,
    OUTPUT,
    STAGES,
    Clock,
)
from refcodec.cli import main
from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import CheckFailed, LimitExceeded, MissingInput, Unsupported
from refcodec.model.config import PROFILES
from refcodec.model.layer_table import layer_table

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="without Numba nothing is compiled")
TINY = {op.name: op for op in layer_table(PROFILES["tiny"])}
ENCODER_ONLY = ("g_a/", "h_a/")


@pytest.fixture(scope="module")
def tiny():
    return subjects.subject("tiny").model


def counted(model, direction: str, samples: np.ndarray) -> dict:
    """The breakdown of one watched run, and its clock's count of computed results."""
    data = encode_picture(samples, 50, model=model).data

    def work(parts):
        if direction == "encode":
            encode_picture(samples, 50, model=model, parts=parts)
        else:
            decode_stream(data, model=model, parts=parts)

    watched = [stopwatch.watch(work) for _ in range(2)]
    height, width = (-(-n // 64) * 64 for n in samples.shape[:2])
    return measure.breakdown(direction, TINY, height * width, watched, 1e9)


# Watching.


@pytest.mark.parametrize("backend", [pytest.param("numba", marks=needs_numba), "numpy"])
@pytest.mark.parametrize("direction", STAGES)
def test_every_stage_and_every_multiplication_is_there(tiny, direction, backend, monkeypatch):
    monkeypatch.setenv("REFCODEC_BACKEND", backend)
    found = counted(tiny, direction, random_picture(60, 100))
    assert tuple(row["stage"] for row in found["stages"]) == STAGES[direction]
    assert all(row["seconds"] > 0 for row in found["stages"])
    for rows in found.values():
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert all(0 <= row["share"] <= 1 for row in rows)
    wanted = {
        name: round(op.macs * 64 * 128)
        for name, op in TINY.items()
        if op.kind == "conv" and (direction == "encode" or not name.startswith(ENCODER_ONLY))
    }
    convolutions = [row for row in found["operations"] if row["kind"] == CONVOLUTION]
    assert {row["operation"]: row["macs"] for row in convolutions} == wanted
    for row in convolutions:
        packed = row["operation"].startswith("ep_")
        whole = row["operation"].startswith(("g_a", "h_a", "h_s", "g_s"))
        computed = row["computed_macs"] / row["macs"]
        assert computed == (0.5 if packed else 1) if packed or whole else computed in (0.5, 1)
        assert row["gmac_per_second"] == pytest.approx(row["computed_macs"] / row["seconds"] / 1e9)
        assert row["of_roof"] == pytest.approx(row["gmac_per_second"])  # of a peak of 1 GMAC/s
    kinds = {row["kind"]: row for row in found["kinds"]}
    assert kinds[CONVOLUTION]["macs"] == sum(wanted.values()) and kinds[CODING]["seconds"] > 0
    assert kinds[OTHER]["macs"] == kinds[CODING]["macs"] == 0 and kinds[OTHER]["gmac_per_second"] is None


@pytest.mark.parametrize("direction", STAGES)
def test_strips_are_counted_once(tiny, direction, monkeypatch):
    samples = random_picture(300, 70)
    whole = counted(tiny, direction, samples)
    monkeypatch.setattr(strips, "STRIP", 1)
    many = counted(tiny, direction, samples)

    def macs(found: dict) -> dict:
        return {row["operation"]: row["computed_macs"] for row in found["operations"]}

    assert macs(whole) == macs(many)


def test_watching_changes_nothing_and_watches_nothing_else(tiny):
    samples = random_picture(70, 90)
    coded = encode_picture(samples, 50, model=tiny)
    watched = []
    clock, seconds = stopwatch.watch(lambda parts: watched.append(encode_picture(samples, 50, model=tiny, parts=parts)))
    assert watched[0].data == coded.data and len(clock.events) > 50 and min(seconds.values()) >= 0
    known = len(clock.events)
    assert encode_picture(samples, 50, model=tiny).data == coded.data and len(clock.events) == known


def test_only_the_outermost_operation_counts():
    class Nested:
        def conv(self, name):
            return np.zeros((6, 7, 2))

        def conv_pair(self, name, other):
            self.conv(name)
            return self.conv(other)

        @staticmethod
        def plain(x):
            return x + 1

        def refuse(self, name):
            raise KeyError(name)

    clock = Clock()
    nested = stopwatch.timed_class(Nested, clock)()
    assert nested.plain(3) == 4
    nested.conv_pair("g_s/1/conv1", "g_s/1/conv2")
    nested.conv("g_s/7")
    with pytest.raises(KeyError):
        nested.refuse("ctx/0")
    assert [key for key, _, _ in clock.events] == [
        (stopwatch.WALK, "plain", OTHER),
        ("g_s/1", "g_s/1/conv1", CONVOLUTION),
        ("g_s/7", "g_s/7", CONVOLUTION),
        (stopwatch.WALK, "ctx/0", OTHER),
    ]
    assert clock.computed == {"g_s/1/conv1": 12, "g_s/1/conv2": 12, "g_s/7": 12}


def test_time_between_operations_is_counted():
    clock = Clock(
        [
            ((CONTAINER, "parse", OTHER), 1, 2),
            ((CODER, "y", CODING), 4, 5),
            (("g_s/7", "g_s/7", CONVOLUTION), 8, 12),
            (("g_s/7", "g_s/7", CONVOLUTION), 13, 14),
        ]
    )
    assert clock.seconds(0, 16) == {
        (CONTAINER, "", OTHER): 3,
        (CONTAINER, "parse", OTHER): 1,
        (CODER, "y", CODING): 1,
        (BETWEEN, "", OTHER): 3,
        ("g_s/7", "g_s/7", CONVOLUTION): 5,
        (OUTPUT, "", OTHER): 3,
    }


def test_stages_of_names():
    names = {
        "g_s/input": "g_s/0",
        "g_a/5/conv1": "g_a/5",
        "y": "g_a/6",
        "z": "h_a",
        "inter/3/attention": "inter-slice context",
        "ep_nonanchor/2/0": "entropy parameters",
        "lrp_anchor/0/1": "latent residual",
        "ctx/3": "slice walk",
        "h_s/4": "h_s",
        "chan/1/0": "channel context",
        "local/0/qkv": "local context",
    }
    assert {name: stopwatch.stage_of("conv", name) for name in names} == names
    assert stopwatch.stage_of("levels_and_means", "") == "entropy parameters"
    assert 0 <= stopwatch.recording_cost(100, 3) < 1e-3


# The peak throughput.


@needs_numba
def test_the_roof_computes_what_it_says():
    from refcodec.arith.jit import peak as numba_roof

    rng = np.random.default_rng(3)
    read = rng.integers(-1 << 15, 1 << 15, (64, 32), np.int16)
    for block in numba_roof.PEAK_BLOCKS:
        held = rng.integers(-1 << 15, 1 << 15, (block, 32), np.int16)
        products = sum(held.astype(np.int64) * read[k % 64] for k in range(70))
        wanted = products.reshape(block, 16, 2).sum(axis=2).astype(np.int32)
        for threads in (1, 2):
            got = numba_roof.accumulate(held, read, 70, 5, threads)
            assert got.shape == (5, block, 16) and (got == wanted).all()
    speed, given = numba_roof.measured_peak(1, 1 << 10, 1)
    assert speed > 1e6 and 0 <= given <= 1


# The command.


@pytest.mark.slow
def test_report_as_json_and_as_a_table(capsys):
    argv = ["bench", "--model", "tiny", "--sizes", "64x48,20x70", "--threads", "1,2", "--repeats", "1", "--ops"]
    assert main([*argv, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(tuple(r["size"]), r["threads"]) for r in report["results"]] == [
        ((64, 48), 1),
        ((64, 48), 2),
        ((20, 70), 1),
        ((20, 70), 2),
    ]
    assert report["machine"]["cores"] >= 1 and report["machine"]["processor"] and report["repeats"] == 1
    for r in report["results"]:
        assert r["bytes"] > 0 and r["encode"]["macs"] > r["decode"]["macs"] > r["decode"]["computed_macs"]
        assert r["decode"]["seconds"] >= r["decode"]["fastest_seconds"] > 0 < r["decode"]["watching_seconds"] < 0.1
        assert r["decode"]["operations"]
    assert [report["results"][n]["encode"]["macs"] for n in (0, 2)] == [
        samples * sum(op.macs for op in TINY.values()) for samples in (64 * 64, 64 * 128)
    ]

    assert main(argv[:-1]) == 0
    text = capsys.readouterr().out
    for stage in STAGES["encode"]:
        assert text.count(f"\n{stage} ") == (4 if stage.startswith(("g_a", "h_a", "input")) else 8)
    assert "convolution" in text and "slice walk" in text and "g_s/6/conv1" not in text
    shown = [line for result in report["results"] for line in bench_table.lines(result)]
    assert any(" g_s/6/conv1 " in line for line in shown)


def test_a_busy_machine_is_named(capsys):
    assert main(["bench", "--model", "tiny", "--sizes", "8x8", "--threads", "1", "--repeats", "1", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["results"]
    assert "operations" not in found["encode"]

    def text(**values):
        return "\n".join(bench_table.lines({**found, **values}))

    assert "BUSY" in text(roof_gmac_per_second=1.0, cores_given=0.5)
    assert "BUSY" not in text(roof_gmac_per_second=1.0, cores_given=1.0)
    assert "\npeak: " in text(roof_gmac_per_second=1.0, cores_given=1.0)
    assert "peak: " not in text(roof_gmac_per_second=None, cores_given=None)


@pytest.mark.parametrize(
    ("code", "argv"),
    [
        (2, ["--sizes", "64"]),
        (2, ["--sizes", "0x4"]),
        (2, ["--sizes", "4x"]),
        (2, ["--sizes", "4x-4"]),
        (2, ["--threads", "0"]),
        (2, ["--threads", "1,x"]),
        (2, ["--threads", "300"]),
        (2, ["--repeats", "0"]),
        (2, ["--quality", "x"]),
        (2, ["--checkpoint", "c"]),
        (2, ["--quality", "101", "--sizes", "8x8"]),
        (2, ["--twin", "--checkpoint", "c", "--model", "paper"]),
        (78, ["--model", "nothing"]),
        (66, ["--picture", "nothing.png"]),
        (77, ["--sizes", "1000000x1000000"]),
        (2, ["--sizes", "8x8,"]),
    ],
)
def test_what_cannot_be_measured_is_refused(capsys, code, argv):
    try:
        got = main(["bench", "--model", "tiny", *argv])
    except SystemExit as e:  # argparse
        got = e.code
    captured = capsys.readouterr()
    assert got == code and "error: " in captured.err and "Traceback" not in captured.err


def test_pictures_are_cropped_in_the_middle_and_mirrored():
    samples = random_picture(20, 30)
    assert (subjects.fitted(samples, 10, 8) == samples[6:14, 10:20]).all()
    large = subjects.fitted(samples, 100, 50)
    assert large.shape == (50, 100, 3) and (large[:20, :30] == samples).all()
    assert (large[20:40, :30] == samples[::-1]).all() and (large[:20, 30:60] == samples[:, ::-1]).all()
    assert (large[40:, 60:90] == samples[:10]).all()
    assert subjects.fitted(samples[:, :, 0], 64, 7).shape == (7, 64)
    with pytest.raises(LimitExceeded):
        subjects.fitted(samples, 1 << 21, 1)
    assert subjects.picture(None).shape == (512, 768, 3)
    with pytest.raises(MissingInput):
        subjects.picture("nothing.png")


def test_models_by_name(tmp_path, tiny):
    default = subjects.subject("default")
    assert default.model.config == PROFILES["default"] and default.file(tmp_path) == default.path
    procedural = subjects.subject("tiny")
    assert procedural.path is None and procedural.model.fingerprint == tiny.fingerprint
    path = procedural.file(tmp_path)
    assert subjects.subject(str(path)).model.fingerprint == tiny.fingerprint


# Other processes.


def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(["--model", "tiny", "--threads", "1", "--repeats", "2", *argv])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="elsewhere a parent's memory counts as well")
def test_peak_memory_of_a_fresh_process():
    held = np.ones(1 << 26)  # half a GiB that must not be counted
    (result,) = command.run(arguments("--sizes", "64x64", "--memory"), lambda part: None)["results"]
    assert 1 << 24 < result["memory"]["peak_bytes"] < held.nbytes and result["memory"]["estimate_bytes"] > 1 << 16
    assert bench_processes.own_peak() > held.nbytes
    assert any("MiB" in line for line in bench_table.lines(result))


def test_start_is_warm_and_cold(monkeypatch):
    runs = []

    def run(words, variables):
        runs.append((words, variables.get("NUMBA_CACHE_DIR")))
        assert len(runs) < 4 or not list(Path(runs[-1][1]).iterdir())
        return float(len(runs)), ""

    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(bench_processes, "run_python", run)
    assert bench_processes.start_times(["decode"], 2, "numba") == {"warm": 2.5, "cold": 4.0}
    assert [cache is None for _, cache in runs] == [True, True, True, False]
    assert all(words == ["-m", "refcodec", "decode"] for words, _ in runs)
    runs.clear()
    assert bench_processes.start_times(["decode"], 1, "numpy") == {"warm": 2.0, "cold": None}
    monkeypatch.undo()
    with pytest.raises(CheckFailed) as caught:
        bench_processes.peak_memory(["info", "nothing.loclic"])
    assert caught.value.values["exit_code"] == 66


def test_a_twin_needs_pytorch(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_processes, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match="PyTorch"):
        Twin(PROFILES["tiny"], None, tmp_path / "a.png", 50, 1)


def test_beside_the_twin():
    pytest.importorskip("torch")
    (result,) = command.run(arguments("--sizes", "64x64", "--twin"), lambda part: None)["results"]
    for direction in STAGES:
        twin = result[direction]["twin"]
        assert twin["time_ratio"] == pytest.approx(result[direction]["seconds"] / twin["seconds"])
        assert twin["layout"] in ("contiguous", "channels_last") and twin["convolutions"]
        for row in twin["convolutions"]:
            assert row["share"] > measure.COSTLY
            assert row["speed_ratio"] == pytest.approx(row["gmac_per_second"] / row["pytorch_gmac_per_second"])
    assert any("in PyTorch" in line for line in bench_table.lines(result))


def test_a_twin_that_ends_is_reported(tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(Unsupported, match="ended"):
        Twin(PROFILES["tiny"], str(tmp_path / "nothing"), tmp_path / "nothing.png", 50, 1)


def test_shapes_of_convolutions():
    assert measure.conv_shape(TINY["g_a/0/conv1"], 64, 128) == (3, 6, 3, 2, 1, 64, 128)
    assert measure.conv_shape(TINY["g_s/7"], 64, 128) == (6, 12, 3, 1, 1, 32, 64)
    assert measure.conv_shape(TINY["inter/1/keys1"], 64, 128) == (8, 8, 3, 1, 8, 4, 8)
    assert measure.conv_shape(TINY["h_a/2"], 64, 128) == (6, 6, 3, 2, 1, 4, 8)


def test_single_convolutions_in_pytorch(capsys):
    torch = pytest.importorskip("torch")
    from weights_converter.__main__ import main as converter
    from weights_converter.network import bench as torch_bench

    runs = torch_bench.convolution((4, 6, 3, 2, 2, 8, 10))
    with torch.inference_mode():
        a, b = (run() for run in runs.values())
    assert a.shape == (1, 6, 4, 5)
    torch.testing.assert_close(a, b)
    for line in (
        "conv 4 6 3 2 2 8",
        "conv 4 6 3 2 4 8 8",
        "conv 4 6 3 2 0 8 8",
        "conv a 6 3 2 1 8 8",
        "gemm 1 1 1 1 1 1 1",
        "conv 4 6 3 2 2 8 8 8",
        "",
    ):
        assert torch_bench._shape(line) is None
    assert converter(["bench", "--size", "64x64"]) == 2 and converter(["bench", "--config", "{}"]) == 78
    assert len(capsys.readouterr().err.splitlines()) == 2
