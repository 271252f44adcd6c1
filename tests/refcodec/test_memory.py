"""Limits of one picture: padded pixels, the machine's memory, and an estimate that bounds what coding takes."""

import json
import os
import resource
import tracemalloc

import pytest
from parts import one_in
from tiny_models import random_picture

import refcodec
from refcodec import errors, limits, memory, system_memory
from refcodec.arith import maps
from refcodec.bench import memory as bench_memory
from refcodec.bitstream.container import parse, serialise
from refcodec.cli import main
from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import CoderError, LimitExceeded, UsageError
from refcodec.limits import Limits
from refcodec.memory import memory_estimate, model_bytes
from refcodec.model.procedural import procedural_model
from refcodec.system_memory import memory_allowed
from refcodec.tiles import TileGrid


@pytest.fixture(scope="module")
def tiny():
    return procedural_model("tiny", 7)


def taken(work) -> int:
    """Peak of what is allocated while ``work`` runs, without what an earlier call left in the pool."""
    maps._idle.clear()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# -------------------------------------------------------------------------------------------------------- estimate


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("size", one_in(2, [(1, 2048), (2048, 1), (65, 500), (128, 128), (5, 3)]), ids=str)
def test_the_estimate_bounds_what_is_taken_within_a_factor_two(tiny, backend, size):
    """Widths and heights of a column, a row, and between, in both directions; one thread: peaks that repeat."""
    width, height = size
    ways = {"model": tiny, "threads": 1, "backend": backend}
    samples = random_picture(height, width)
    data = encode_picture(samples, 60, **ways).data  # packs the weights
    decode_stream(data, **ways)  # imports and tables that a process holds once
    segments = parse(data).segment_bytes
    for encoding, work in (
        (True, lambda: encode_picture(samples, 60, **ways)),
        (False, lambda: decode_stream(data, **ways)),
    ):
        most = memory_estimate(
            width,
            height,
            tiny,
            backend,
            threads=1,
            encoding=encoding,
            segments=0 if encoding else segments,
        ) - model_bytes(tiny)
        peak = taken(work)
        assert peak < most < 2 * peak + memory.BASE, (size, encoding, peak, most)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_the_estimate_knows_strips_borders_and_traces(monkeypatch, tiny, backend):
    """Strips low enough that a small picture has ten; and a trace, for which there are none."""
    monkeypatch.setattr("refcodec.arith.strips.STRIP", 1 << 13)
    memory._maps.cache_clear()
    samples = random_picture(500, 130, channels=1)
    ways = {"model": tiny, "threads": 1, "backend": backend}
    data = encode_picture(samples, 60, **ways).data
    peaks = []
    try:
        for trace in (None, lambda name, values: None):
            most = memory_estimate(
                130, 500, tiny, backend, channels=1, threads=1, trace=trace is not None, segments=len(data)
            ) - model_bytes(tiny)
            peaks.append(taken(lambda trace=trace: decode_stream(data, trace=trace, **ways)))
            assert peaks[-1] < most < 2 * peaks[-1] + memory.BASE
        assert backend == "numpy" or peaks[1] > 1.5 * peaks[0]  # NumPy's scratch is larger than either
    finally:
        memory._maps.cache_clear()


def test_an_estimate_takes_neither_memory_nor_time():
    """The largest pictures of the format, by a model of 193 million weights: nothing is allocated for them."""
    from refcodec.model.config import PROFILES

    for rows, columns in ((4, 65536), (65536, 4), (65536, 128), (128, 65536)):
        found = []
        peak = taken(
            lambda grid=TileGrid(rows, columns, rows, columns), found=found: found.append(
                memory._maps.__wrapped__(PROFILES["mlicpp"], grid, grid.whole, "numba", 1, True, False, 0, 0)
            )
        )
        assert peak < 1 << 21 < 1 << 30 < found[0]


# ---------------------------------------------------------------------------------------------------------- limits


def test_limits_count_padded_pixels(tiny):
    """A picture of one column costs as much as one of 64."""
    assert limits.padded_pixels(1, 1 << 20) == 1 << 26 and limits.padded_pixels(64, 65) == 64 * 128
    samples = random_picture(200, 1, 0, 1)
    data = encode_picture(samples, 60, model=tiny).data
    narrow = Limits(max_pixels=64 * 256 - 1)
    for work in (
        lambda: encode_picture(samples, 60, model=tiny, limits=narrow),
        lambda: decode_stream(data, model=tiny, limits=narrow),
        lambda: refcodec.encode(samples, limits=narrow),
    ):
        with pytest.raises(LimitExceeded, match="padded_pixels=16384"):
            work()
    assert decode_stream(data, model=tiny, limits=Limits(max_pixels=64 * 256))[0].shape == (200, 1)


def test_a_refusal_says_estimate_limit_and_remedy(tiny):
    samples = random_picture(256, 256, 0, 1)
    data = encode_picture(samples, 60, model=tiny).data
    for name, work in (
        ("encoding", lambda limit: encode_picture(samples, 60, model=tiny, limits=limit)),
        ("decoding", lambda limit: decode_stream(data, model=tiny, limits=limit)),
    ):
        with pytest.raises(LimitExceeded, match=f"^{name} takes more memory than allowed") as caught:
            work(Limits(max_memory=1 << 20))
        assert caught.value.values["max_memory"] == 1 << 20 < caught.value.values["estimate"]
        assert "--max-memory" in caught.value.cause
        work(Limits(max_memory=caught.value.values["estimate"]))


@pytest.mark.parametrize(
    "values", [{"max_pixels": 0}, {"max_pixels": None}, {"max_pixels": "9"}, {"max_memory": -1}, {"max_memory": 1.5}]
)
def test_what_is_no_limit_is_refused(values):
    with pytest.raises(UsageError, match=next(iter(values))):
        Limits(**values)


def machine(root, total=None, groups="", files=()):
    """A file system with the machine's memory in KiB and limits of control groups."""
    (root / "proc" / "self").mkdir(parents=True)
    if total is not None:
        (root / "proc" / "meminfo").write_text(f"MemTotal:       {total} kB\nMemFree:   1 kB\n")
    (root / "proc" / "self" / "cgroup").write_text(groups)
    for name, text in files:
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "total, groups, files, allowed",
    [
        (1024, "", (), 1 << 20),
        (1024, "0::/\n", (("memory.max", "max\n"),), 1 << 20),
        (1024, "0::/a/b\n", (("memory.max", "max\n"), ("a/memory.max", "3000\n"), ("a/b/memory.max", "9000\n")), 3000),
        (
            1024,
            "4:memory:/x\n3:cpu:/y\n",
            (("memory/memory.limit_in_bytes", "9223372036854771712\n"), ("memory/x/memory.limit_in_bytes", "70000\n")),
            70000,
        ),
        (1024, "4:cpu,memory:/outside\n", (("memory/memory.limit_in_bytes", "80000\n"),), 80000),
        (1024, "0::/../../memory.max\n", (("memory.max", "50000"),), 50000),
    ],
)
def test_the_machines_memory_is_the_smallest_that_is_allowed(tmp_path, monkeypatch, total, groups, files, allowed):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert memory_allowed(machine(tmp_path, total, groups, files)) == allowed


def test_resource_limits_and_unknown_machines(tmp_path, monkeypatch):
    root = machine(tmp_path, 1 << 30)
    monkeypatch.setattr(
        resource, "getrlimit", lambda kind: (12345 if kind == resource.RLIMIT_AS else resource.RLIM_INFINITY, 99999)
    )
    assert memory_allowed(root) == 12345
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr(system_memory.os, "sysconf", lambda name: 1 << 12 if name == "SC_PAGE_SIZE" else 1 << 8)
    assert memory_allowed(tmp_path / "nothing") == 1 << 20
    monkeypatch.delattr(system_memory.os, "sysconf")
    assert memory_allowed(tmp_path / "nothing") == system_memory.UNKNOWN


def test_limits_fit_the_machine_where_nobody_names_them(monkeypatch, tiny):
    """A machine of 4 MiB: pictures that need more are refused in both directions."""
    samples = random_picture(512, 512)
    data = encode_picture(samples, 60, model=tiny).data
    monkeypatch.setattr(limits, "memory_allowed", lambda: 4 << 20)
    assert Limits().max_memory == 3 << 20
    for work in (lambda: encode_picture(samples, 60, model=tiny), lambda: decode_stream(data, model=tiny)):
        with pytest.raises(LimitExceeded, match="max_memory=3145728"):
            work()


# ------------------------------------------------------------------------------------------------- memory and threads


def test_a_segment_longer_than_its_symbols_need_is_refused_at_once(tiny):
    """Four million words behind a small picture: no array of words is built from them."""
    stream = parse(encode_picture(random_picture(64, 64, 0, 1), 60, model=tiny).data)
    for part in (0, 1):
        segments = list(stream.segments())
        segments[part] += bytes(4 << 22)
        data = serialise(stream.header, [tuple(segments)])

        def refused(data=data):
            with pytest.raises(CoderError, match="words are left"):
                decode_stream(data, model=tiny)

        assert taken(refused) < 3 * len(data)


@pytest.mark.parametrize(
    "error, told",
    [
        (MemoryError(), "more memory than the system gives"),
        (RuntimeError("can't start new thread"), "more threads than the system"),
    ],
)
def test_lack_of_memory_or_threads_is_a_limit(monkeypatch, tiny, error, told):

    data = encode_picture(random_picture(64, 64, 0, 1), 60, model=tiny).data

    def fail(*arguments):
        raise error

    monkeypatch.setattr("refcodec.flow.walk_slices", fail)
    for work in (
        lambda: refcodec.encode(random_picture(64, 64, 0, 1), model=tiny),
        lambda: refcodec.decode(data, model=tiny),
    ):
        with pytest.raises(LimitExceeded, match=told) as caught:
            work()
        assert caught.value.exit_code == 77
    monkeypatch.setattr("refcodec.bitstream.info.parse", fail)
    with pytest.raises(LimitExceeded, match=told):
        refcodec.info(data)


def test_a_missing_package_is_no_foreign_exception():
    with pytest.raises(errors.Unsupported, match="the package llvmlite is missing"), errors.within_resources("testing"):
        raise ModuleNotFoundError("No module named 'llvmlite'", name="llvmlite.binding")
    with pytest.raises(ModuleNotFoundError), errors.within_resources("testing"):
        raise ModuleNotFoundError("No module named 'refcodec.nothing'", name="refcodec.nothing")


def test_other_runtime_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="made for this test"), errors.within_resources("testing"):
        raise RuntimeError("made for this test")


# --------------------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize("data", ["a.loclic", None, 5, 10**12, __import__("pathlib").Path("a.loclic"), [1, 2], {}])
def test_what_is_no_stream_is_refused(data):
    with pytest.raises(UsageError, match="bytes-like"):
        refcodec.decode(data)
    with pytest.raises(UsageError, match="bytes-like"):
        refcodec.info(data)


def test_the_name_of_a_file_gets_advice():
    with pytest.raises(UsageError, match="read_bytes"):
        refcodec.decode("a.loclic")


@pytest.mark.parametrize(
    "more",
    [
        {"threads": "2"},
        {"threads": 2.0},
        {"model": 5},
        {"model": b"m"},
        {"exif": "text"},
        {"icc_profile": 3},
        {"xmp": ["x"]},
        {"limits": {"max_pixels": 5}},
    ],
    ids=str,
)
def test_arguments_of_a_wrong_type_are_refused(more):
    with pytest.raises(UsageError):
        refcodec.encode(random_picture(8, 8, 0, 1), **more)


@pytest.mark.parametrize("more", [{"threads": "2"}, {"model": 5}, {"limits": {}}, {"limits": 5}, {"trace": 5}], ids=str)
def test_arguments_of_a_wrong_type_are_refused_by_the_decoder(tiny, more):
    data = encode_picture(random_picture(8, 8, 0, 1), 60, model=tiny).data
    with pytest.raises(UsageError):
        refcodec.decode(data, **{"model": tiny, **more})


def test_progress_grows_to_one(tiny):
    shares: list[float] = []
    data = encode_picture(random_picture(100, 100), 60, model=tiny, progress=shares.append).data
    assert shares == sorted(shares) and len(shares) >= 8 and shares[-1] == pytest.approx(1)
    shares.clear()
    decode_stream(data, model=tiny, progress=shares.append)
    assert shares == sorted(shares) and len(shares) >= 7 and shares[-1] == pytest.approx(1)


# ---------------------------------------------------------------------------------------------------------- command


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of a process is Linux's")
def test_the_command_measures_what_processes_take(capsys):
    # Linux counts resident pages in parts for each processor and adds them up late, so its figure may be some hundred
    # kilobytes off. The picture takes 50 MiB and more.
    assert main(["bench", "--estimates", "--model", "tiny", "--sizes", "1500x1000", "--threads", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    ratios = {(row["backend"], row["direction"]): row["estimate_bytes"] / row["taken_bytes"] for row in rows}
    assert list(ratios) == [
        (backend, direction) for backend in ("numba", "numpy") for direction in ("encode", "decode")
    ]
    assert all(1 < ratio < 2 for ratio in ratios.values()), str(ratios)


def test_shapes_go_from_a_column_to_a_row():
    for long in (256, 1 << 14, 1 << 20):
        sizes = bench_memory.shapes(long)
        assert sizes[0] == (1, long) and sizes[-1] == (long, 1)
        areas = [limits.padded_pixels(*size) for size in sizes if size != (97, 61)]
        assert max(areas) <= 2 * min(areas)
