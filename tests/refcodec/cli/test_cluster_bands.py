"""``batch --dask`` decodes a large stream on all workers: the bytes, notes and failures of one machine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import random_picture, tiny_content, tiny_model

from refcodec.bitstream.container import parse, serialise
from refcodec.cli import main
from refcodec.codec import encode_picture
from refcodec.model.file import write_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of one thread each."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit="1GiB", dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "tiny.h5", tiny_content(), {})
    return tmp_path


def photograph(height=2200, width=700, channels=3, **options):
    samples = np.tile(random_picture(200, 100), (height // 200 + 1, width // 100 + 1, 1))[:height, :width]
    samples = np.ascontiguousarray(samples if channels == 3 else samples[:, :, 1])
    return encode_picture(samples, 60, model=tiny_model(), **{"tile": 128, **options})


def drawn(height=1500, width=600):
    """Colours with a flat rectangle, below alpha."""
    samples = np.dstack((random_picture(height, width), np.full((height, width), 255, np.uint8)))
    samples[300:900, 100:500, :3] = (250, 10, 20)
    samples[310:890:9, 110:490, :3] = 0
    samples[1000:1300, :90, 3] = 128
    return encode_picture(samples, 60, model=tiny_model(), tile=128)


def batch(capsys, *words, code=0):
    assert main(["batch", *map(str, words), "--model", "tiny.h5", "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err


def failures(report):
    return [(row["state"], row["error"], row["message"], row["notes"]) for row in report["files"]]


def banded(monkeypatch):
    """Count the strips that come from workers."""
    from refcodec.cli import cluster

    counts, before = [], cluster._by_bands

    def counted(*given):
        colours = before(*given)

        def watched(stream):
            for first, rows in colours(stream):
                counts.append(first)
                yield first, rows

        return watched

    monkeypatch.setattr(cluster, "_by_bands", counted)
    return counts


@pytest.mark.parametrize("form, more", [("png", ()), ("ppm", ("--verify",)), ("tif", ()), ("png", ("--reduce", "4"))])
def test_the_file_is_that_of_one_machine(cluster, place, capsys, monkeypatch, form, more):
    counts = banded(monkeypatch)
    for name, data in {"colour": photograph(), "grey": photograph(1100, 300, 1), "drawn": drawn()}.items():
        if name == "drawn" and form == "ppm":
            continue
        Path(f"{name}.loclic").write_bytes(data.data)
        words = [f"{name}.loclic", "--format", form, *more]
        one, _ = batch(capsys, *words, "-o", "one", "-j", "1")
        many, _ = batch(capsys, *words, "-o", "many", "--dask", cluster.scheduler_address)
        assert Path(f"many/{name}.{form}").read_bytes() == Path(f"one/{name}.{form}").read_bytes()
        (a,), (b,) = one["files"], many["files"]
        assert a["facts"] | {"seconds": 0} == b["facts"] | {"seconds": 0} and a["notes"] == b["notes"]
        again, _ = batch(capsys, *words, "-o", "many", "--dask", cluster.scheduler_address)
        assert again["skipped"] == 1
    assert len(parse(drawn().data).chunks) == 2
    assert counts[:5] == [0, 512, 1024, 1536, 2048] and counts.count(0) >= 2


def test_strips_are_written_as_they_come(cluster, place, capsys, monkeypatch):
    """As for a picture that does not fit into memory."""
    monkeypatch.setattr("refcodec.picture_files.decoding.STRIPS_FROM", 1000)
    Path("a.loclic").write_bytes(drawn().data)
    for form in ("png", "pam", "npy"):
        batch(capsys, "a.loclic", "--format", form, "-o", "one", "-j", "1")
        batch(capsys, "a.loclic", "--format", form, "-o", "many", "--dask", cluster.scheduler_address)
        assert Path(f"many/a.{form}").read_bytes() == Path(f"one/a.{form}").read_bytes()


def test_every_worker_first_gets_whole_files(cluster, place, capsys, monkeypatch):
    counts = banded(monkeypatch)
    Path("in").mkdir()
    for n, height in enumerate((600, 1100, 1700)):
        Path(f"in/{n}.loclic").write_bytes(photograph(height, 130).data)
    Image.fromarray(random_picture(70, 90)).save("in/3.png")
    found, _ = batch(capsys, "in", "-o", "even", "--dask", cluster.scheduler_address)
    assert found["done"] == 4 and not counts
    Path("in/3.png").unlink()
    found, _ = batch(capsys, "in", "-o", "odd", "--dask", cluster.scheduler_address)
    assert found["done"] == 3 and counts == [0, 512, 1024, 1536]  # the largest one by bands


@pytest.mark.parametrize("damage", ["checksum", "z", "y", "end", "digest", "chunk"])
def test_a_damaged_stream_fails_as_on_one_machine(cluster, place, capsys, damage):
    made = photograph()
    stream = parse(made.data)
    header, count = stream.header, stream.header.grid.count
    segments = [tuple(map(bytes, stream.segments(n))) for n in range(count)]
    words = ["--verify"]
    if damage == "checksum":
        data = bytearray(made.data)
        data[-30] ^= 1
    elif damage == "end":
        data = made.data[:-1000]
    elif damage == "digest":
        from dataclasses import replace

        data = serialise(replace(header, digest=bytes(len(header.digest))), segments, stream.chunks)
    elif damage == "chunk":
        data = serialise(header, segments, [("ALPH", b"\0nothing")])
    else:
        z, y = segments[70]
        segments[70] = (z[:-8] + bytes(8), y) if damage == "z" else (z, y[:40] + bytes(40) + y[80:])
        data = serialise(header, segments, stream.chunks)
    Path("a.loclic").write_bytes(bytes(data))
    one, _ = batch(capsys, "a.loclic", "-o", "one", "-j", "1", *words, code=1)
    many, err = batch(capsys, "a.loclic", "-o", "many", "--dask", cluster.scheduler_address, *words, code=1)
    assert failures(one) == failures(many) and "failed: a.loclic" in err
    assert not list(Path("many").glob("*.p*"))


def started(cluster, *words):
    words = ["batch", "a.loclic", "-o", "out", "--model", "tiny.h5", "--dask", cluster.scheduler_address, *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "refcodec", *words, "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while not [file for file in Path("out").glob(".*.part") if file.stat().st_size] and time.monotonic() < end:
        time.sleep(0.02)
    return process


def large(place):
    """A stream that takes some seconds, and is written in strips."""
    made = photograph(20000, 1200, tile=512)
    Path("a.loclic").write_bytes(made.data)
    return made


def test_an_interrupt_leaves_no_file(cluster, place):
    large(place)
    process = started(cluster, "--format", "ppm")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not list(Path("out").glob("*.p*")) and not list(Path("out").glob(".*.part"))


def test_a_worker_that_dies_costs_nothing(cluster, place):
    from distributed import Client

    made = large(place)
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())
    process = started(cluster, "--format", "ppm", "--verify")
    os.kill(pids[0], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    (row,) = json.loads(out)["files"]
    assert row["facts"]["sha256"] == made.sha256 and row["facts"]["verified"]
