"""``batch --dask``: a real cluster of processes writes the bytes of one machine and reports what failed."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import random_picture, tiny_content

from refcodec.cli import main
from refcodec.model.file import write_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes, each with two threads and 1 GiB."""
    distributed = pytest.importorskip("distributed")
    try:
        socket.create_server(("127.0.0.1", 0)).close()
    except OSError:
        pytest.skip("there is no loopback network, which schedulers need")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, memory_limit="1GiB", dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for n in range(5):
        Image.fromarray(random_picture(70, 90, n)).save(folder / "deep" / f"{n}.png")
    write_model(tmp_path / "tiny.h5", tiny_content(), {})
    return folder


def run(capsys, *words, code=0):
    assert main(["batch", *map(str, words), "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_the_bytes_are_those_of_one_machine(cluster, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # relative paths mean those of this process
    words = ["in", "-q", "70", "--model", "tiny.h5"]
    run(capsys, *words, "-o", "one", "-j", "1")
    found, _ = run(capsys, *words, "-o", "many", "--dask", cluster.scheduler_address)
    assert found["done"] == 5 and {row["source"] for row in found["files"]} == {f"in/deep/{n}.png" for n in range(5)}
    for n in range(5):
        assert Path(f"many/deep/{n}.loclic").read_bytes() == Path(f"one/deep/{n}.loclic").read_bytes()
    again, _ = run(capsys, *words, "-o", "many", "--dask", cluster.scheduler_address)
    assert (again["done"], again["skipped"]) == (0, 5)
    back, _ = run(capsys, "many", "-o", "back", "--verify", "--model", "tiny.h5", "--dask", cluster.scheduler_address)
    assert back["done"] == 5 and all(row["facts"]["verified"] for row in back["files"])


def test_failures_and_limits_are_those_of_single_files(cluster, pictures, tmp_path, capsys):
    (pictures / "broken.png").write_bytes(b"no picture")
    side = 5000  # a worker may take three quarters of its 1 GiB
    (pictures / "large.ppm").write_bytes(b"P6 %d %d 255\n" % (side, side) + bytes(3 * side * side))
    words = [pictures, "-o", tmp_path / "out", "--tile", "none", "--rectangles", "none"]
    found, err = run(capsys, *words, "--dask", cluster.scheduler_address, code=1)
    states = {Path(row["source"]).name: (row["state"], row["error"]) for row in found["files"]}
    assert states.pop("broken.png") == ("failed", "InvalidImage")
    assert states.pop("large.ppm") == ("failed", "LimitExceeded") and "failed: " in err
    assert set(states.values()) == {("done", "")}


def test_a_large_picture_in_tiles(cluster, pictures, tmp_path, capsys):
    samples = np.tile(random_picture(256, 256), (12, 12, 1))
    Image.fromarray(samples).save(tmp_path / "large.ppm")
    words = [tmp_path / "large.ppm", "--lossless"]
    run(capsys, *words, "-o", tmp_path / "one", "-j", "1")
    run(capsys, *words, "-o", tmp_path / "many", "--dask", cluster.scheduler_address)
    assert (tmp_path / "one" / "large.loclic").read_bytes() == (tmp_path / "many" / "large.loclic").read_bytes()


def test_other_workers_are_refused(cluster, pictures, tmp_path, capsys, monkeypatch):
    words = ["batch", str(pictures), "-o", str(tmp_path / "out"), "--dask", cluster.scheduler_address]
    monkeypatch.setattr("refcodec.cli.cluster.__version__", "0.0.0")
    assert main(words) == 2
    assert "another refcodec or model" in capsys.readouterr().err
    assert main([*words, "-j", "2"]) == 2


def test_an_interrupt_lets_the_workers_finish(cluster, pictures, tmp_path):
    for n in range(5, 40):
        Image.fromarray(random_picture(300, 400, n)).save(pictures / f"{n}.png")
    words = ["batch", str(pictures), "-o", str(tmp_path / "out"), "--dask", cluster.scheduler_address]
    process = subprocess.Popen([sys.executable, "-m", "refcodec", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not list((tmp_path / "out").rglob("*.loclic")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "the workers finish" in err
    time.sleep(1)
    made = {path.name for path in (tmp_path / "out").rglob("*.loclic")}
    known = {
        json.loads(line)["target"]
        for path in (tmp_path / "out").rglob(".refcodec-batch.jsonl")
        for line in path.read_text().splitlines()
    }
    assert made == known and 0 < len(made) < 40


def test_a_cluster_that_is_not_there(pictures, tmp_path, capsys, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("refcodec.cli.cluster.CONNECT_SECONDS", 1)
    words = ["batch", str(pictures), "-o", str(tmp_path / "out"), "--lossless", "--dask"]
    assert main([*words, "tcp://127.0.0.1:9"]) == 2
    assert "no scheduler" in capsys.readouterr().err
    for address in ("nonsense://", "x", "tcp://10.0.0.1", "", "http://localhost:8787"):
        start = time.monotonic()
        assert main([*words, address]) == 2
        gc.collect()
        assert "no scheduler" in capsys.readouterr().err and time.monotonic() - start < 5


def test_a_worker_that_dies_costs_no_file(cluster, pictures, tmp_path, capsys):
    """Its nanny starts another, and dask repeats the file."""
    from distributed import Client

    with Client(cluster.scheduler_address, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())
    for n in range(5, 20):
        Image.fromarray(random_picture(300, 400, n)).save(pictures / f"{n}.png")
    words = ["batch", str(pictures), "-o", str(tmp_path / "out"), "--dask", cluster.scheduler_address, "--json"]
    process = subprocess.Popen([sys.executable, "-m", "refcodec", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not list((tmp_path / "out").rglob("*.loclic")) and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(pids[0], signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and json.loads(out)["done"] == 20


def test_a_cluster_that_is_lost_ends_the_batch_in_order(pictures, tmp_path):
    distributed = pytest.importorskip("distributed")
    for n in range(5, 60):
        Image.fromarray(random_picture(300, 400, n)).save(pictures / f"{n}.png")
    program = (
        "import distributed, time\n"
        "if __name__ == '__main__':\n"
        "    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)\n"
        "    print(cluster.scheduler_address, flush=True)\n"
        "    time.sleep(600)\n"
    )
    assert distributed
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert server.stdout
    words = ["batch", str(pictures), "-o", str(tmp_path / "out"), "--dask", server.stdout.readline().strip()]
    process = subprocess.Popen([sys.executable, "-m", "refcodec", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not list((tmp_path / "out").rglob("*.loclic")) and time.monotonic() < end:
        time.sleep(0.05)
    server.kill()
    _, err = process.communicate(timeout=200)
    server.communicate()
    assert process.returncode == 74 and "the cluster was lost" in err, err


def test_the_extra_is_named_where_it_is_missing(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["batch", str(pictures), "-o", str(tmp_path / "out"), "--lossless", "--dask", "tcp://x:1"]) == 69
    assert "refcodec[dask]" in capsys.readouterr().err
