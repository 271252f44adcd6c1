"""``batch``: what is meant, both directions, resuming, failures, interrupts, reports, several processes."""

import csv
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
from tiny_models import random_picture, tiny_content

import refcodec
from refcodec.cli import batch, journal, main
from refcodec.cli.journal import JOURNAL, Journal, Journals
from refcodec.errors import MissingInput, UsageError
from refcodec.model.file import write_model
from refcodec.model.registry import load_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.h5"
    write_model(path, tiny_content(), {})
    return path


@pytest.fixture
def pictures(tmp_path):
    """Three pictures in two folders, and what is not meant."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for n, name in enumerate(("a.png", "deep/b.png", "deep/c.ppm", ".hidden/d.png")):
        Image.fromarray(random_picture(20, 24 + n)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def run(capsys, *words, code=0):
    assert main(["batch", *map(str, words), "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err


def states(found):
    return {Path(row["target"]).name: row["state"] for row in found["files"]}


def test_both_ways_and_again(pictures, tmp_path, model, capsys):
    out, back = tmp_path / "out", tmp_path / "back"
    words = [pictures, "-o", out, "-q", "60", "--model", model, "-j", "1"]
    found, _ = run(capsys, *words)
    assert states(found) == {"a.loclic": "done", "b.loclic": "done", "c.loclic": "done"}
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.loclic")) == [
        *("a.loclic", "deep/b.loclic", "deep/c.loclic")
    ]
    assert main(["encode", str(pictures / "a.png"), str(tmp_path / "a.loclic"), "-q", "60", "--model", str(model)]) == 0
    assert (out / "a.loclic").read_bytes() == (tmp_path / "a.loclic").read_bytes()
    capsys.readouterr()
    found, _ = run(capsys, *words)
    assert set(states(found).values()) == {"skipped"} and found["done"] == 0

    (out / "a.loclic").write_bytes(b"damaged")  # neither right ...
    Image.fromarray(random_picture(9, 9)).save(pictures / "deep" / "b.png")  # ... nor of this input
    found, _ = run(capsys, *words)
    assert states(found) == {"a.loclic": "done", "b.loclic": "done", "c.loclic": "skipped"}
    assert refcodec.info((out / "deep" / "b.loclic").read_bytes()).width == 9

    found, _ = run(capsys, out, "-o", back, "--format", "ppm", "--verify", "--model", model, "-j", "1")
    assert states(found) == {"a.ppm": "done", "b.ppm": "done", "c.ppm": "done"}
    shown = refcodec.decode((out / "a.loclic").read_bytes(), model=load_model(str(model)))
    assert np.array_equal(np.asarray(Image.open(back / "a.ppm")), shown)


def test_other_options_do_it_again_only_by_force(pictures, tmp_path, model, capsys):
    words = [pictures / "a.png", "-o", tmp_path / "out", "--model", model, "-j", "1"]
    run(capsys, *words, "-q", "60")
    found, err = run(capsys, *words, "-q", "1", code=1)
    assert found["files"][0]["error"] == "OutputError" and "failed: " in err
    before = (tmp_path / "out" / "a.loclic").read_bytes()
    run(capsys, *words, "-q", "1", "--force")
    assert (tmp_path / "out" / "a.loclic").read_bytes() != before


def test_failures_are_listed_and_stop_nothing(pictures, tmp_path, model, capsys):
    (pictures / "b.png").write_bytes(b"\x89PNG damaged")
    (pictures / "x.loclic").write_bytes(b"LOCL")
    found, err = run(capsys, pictures, "-o", tmp_path / "out", "--model", model, "-j", "2", code=1)
    rows = {Path(row["source"]).name: row for row in found["files"]}
    assert rows["x.loclic"]["state"] == "failed" and rows["x.loclic"]["error"] in ("TruncatedStream", "BadMagic")
    assert found["failed"] == 2 and found["done"] == 3 and err.count("failed: ") == 2
    assert not list((tmp_path / "out").rglob("*.tmp*"))


def test_several_processes_write_the_same(pictures, tmp_path, model, capsys):
    for jobs in ("1", "3"):
        run(capsys, pictures, "-o", tmp_path / jobs, "--model", model, "-j", jobs)
    for name in ("a.loclic", "deep/b.loclic", "deep/c.loclic"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_names_that_meet_keep_both_suffixes(tmp_path, model, capsys):
    for name in ("a.png", "a.bmp"):
        Image.fromarray(random_picture(8, 8)).save(tmp_path / name)
    found, _ = run(capsys, tmp_path / "a.*", "-o", tmp_path / "out", "--lossless", "-j", "1")
    assert set(states(found)) == {"a.bmp.loclic", "a.png.loclic"}
    with pytest.raises(UsageError, match="one output"):
        batch.targets([("x/a.png", "a.png"), ("y/a.png", "a.png")], "out", ".png")


def test_outputs_among_inputs_are_no_inputs(pictures, capsys):
    """Neither in a folder of outputs below that of inputs, nor where both are one."""
    for out, count in ((pictures / "out", 3), (pictures, 3)):
        for state in ("done", "skipped"):
            found, _ = run(capsys, pictures, "-o", out, "--lossless", "-j", "1")
            assert found[state] == len(found["files"]) == count


def test_an_output_never_replaces_an_input(pictures, tmp_path, capsys):
    assert main(["encode", "--lossless", str(pictures / "a.png"), str(pictures / "a.loclic")]) == 0
    before = (pictures / "a.png").read_bytes()
    assert main(["batch", str(pictures), "-o", str(pictures), "--lossless", "--force", "-j", "1"]) == 2
    assert "take the place of an input" in capsys.readouterr().err and (pictures / "a.png").read_bytes() == before


def test_patterns_keep_folders_below_them(pictures, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    assert batch.found(["in/**/*.png"], "out", Journals()) == [("in/a.png", "a.png"), ("in/deep/b.png", "deep/b.png")]
    assert [place for _, place in batch.found(["in", "in/a.png"], "out", Journals())] == [
        "a.png",
        "deep/b.png",
        "deep/c.ppm",
    ]
    with pytest.raises(MissingInput, match="no picture"):
        batch.found(["in/*.jpg"], "out", Journals())


@pytest.mark.parametrize("suffix", ["json", "csv", "html"])
def test_reports(pictures, tmp_path, model, capsys, suffix):
    (pictures / "<b>.png").write_bytes(b"junk")
    path = tmp_path / f"r.{suffix}"
    run(capsys, pictures, "-o", tmp_path / "out", "--lossless", "--report", path, "-j", "1", code=1)
    text = path.read_text()
    if suffix == "json":
        assert json.loads(text)["failed"] == 1
    elif suffix == "csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert len(rows) == 4 and sum(row["state"] == "done" for row in rows) == 3
        assert all(int(row["bytes"]) > 48 for row in rows if row["state"] == "done")
    else:
        assert "&lt;b&gt;.png" in text and "<b>.png" not in text and "http" not in text
        assert text.count("<tr class=done>") == 3


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["none"], 66),
        (["{in}", "--report", "r.txt"], 2),
        (["{in}", "--model", "no such"], 78),
        (["{in}", "--strip", "place"], 2),
        (["{in}", "--background", "none"], 2),
        (["{in}", "--lossless", "--tile", "64"], 2),
        (["{in}", "--lossless", "--model", "no such"], 2),
        (["{in}", "--threads", "1000"], 2),
        (["{in}", "--tile", "65"], 2),
        (["{in}", "-q", "101"], 2),
        (["{in}", "--frame", "-1"], 2),
        (["{in}", "--psnr", "inf"], 2),
        (["-"], 66),
    ],
)
def test_what_is_wrong_is_said_before_the_work(pictures, tmp_path, capsys, words, code):
    assert main(["batch", *(w.replace("{in}", str(pictures)) for w in words), "-o", str(tmp_path / "out")]) == code
    assert not (tmp_path / "out").exists()


def test_outputs_go_to_no_pipe(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["batch", str(pictures), "-o", "-"]) == 2
    assert "encode and decode write to standard output" in capsys.readouterr().err and not Path("-").exists()


def test_a_damaged_journal_is_passed_over(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / JOURNAL).write_bytes(b'{"target": 1}\n[]\nno json\n\xff')
    found, _ = run(capsys, pictures / "a.png", "-o", out, "--lossless", "-j", "1")
    assert found["done"] == 1


@pytest.mark.slow
def test_a_process_that_dies_costs_its_files_alone(pictures, tmp_path, model):
    """In a separate process, in which one input kills every reader."""
    script = tmp_path / "run.py"
    script.write_text(
        "import os, sys\n"
        "from refcodec.cli import batch, main\n"
        "digest = batch.digest_of\n"
        "batch.digest_of = lambda path: os._exit(9) if path.endswith('a.png') else digest(path)\n"
        f"words = ['batch', {str(pictures)!r}, '-o', {str(tmp_path / 'out')!r}, '--lossless', '-j', '2', '--json']\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(main(words))\n"
    )
    path = os.pathsep.join(filter(None, (str(Path(refcodec.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    words = [sys.executable, str(script)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path})
    found = json.loads(ended.stdout)
    rows = {Path(row["source"]).name: (row["state"], row["error"]) for row in found["files"]}
    assert ended.returncode == 1
    assert rows == {"a.png": ("failed", "ProcessDied"), "b.png": ("done", ""), "c.ppm": ("done", "")}


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_an_interrupt_leaves_whole_files(tmp_path, jobs):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for n in range(400):
        Image.fromarray(random_picture(64, 64, n)).save(folder / f"{n:03}.png")
    words = [sys.executable, "-m", "refcodec", "batch", str(folder), "-o", str(out), "--lossless", "-j", jobs]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.loclic")) if out.exists() else []) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    made = list(out.iterdir())
    assert {p.suffix for p in made} <= {".loclic", ".jsonl"}
    for path in made:
        if path.suffix == ".loclic":
            assert refcodec.decode(path.read_bytes()).shape == (64, 64, 3)


def test_every_journal_is_read_once(pictures, tmp_path, capsys, monkeypatch):
    """The batch writes next to its inputs, so it meets the journals while it walks, and again for its files."""
    run(capsys, pictures, "-o", pictures, "--lossless", "-j", "1")
    read = []
    monkeypatch.setattr(journal, "Journal", lambda folder: read.append(os.path.realpath(folder)) or Journal(folder))
    found, _ = run(capsys, pictures, "-o", pictures, "--lossless", "-j", "1")
    assert found["skipped"] == 3 and sorted(read) == sorted(map(str, (pictures, pictures / "deep")))


def test_options_of_both_commands_are_passed_on(tmp_path, capsys):
    """Of a picture with two frames, alpha, an orientation and a place."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[27] = b"secret method"
    first, second = (Image.fromarray(np.full((5, 9, 4), value, np.uint8)) for value in (60, 90))
    (tmp_path / "in").mkdir()
    first.save(tmp_path / "in" / "a.png", exif=exif, save_all=True, append_images=[second])
    os.utime(tmp_path / "in" / "a.png", (10**9, 10**9))
    words = ("--lossless", "--keep-times", "--frame", "1", "--background", "white", "--strip", "gps", "-j", "1")
    found, err = run(capsys, tmp_path / "in", "-o", tmp_path / "coded", *words)
    stream = tmp_path / "coded" / "a.loclic"
    assert found["done"] == 1 and stream.stat().st_mtime == 10**9 and "frame 1 alone" in err and "background" in err
    data = stream.read_bytes()
    assert not refcodec.info(data).alpha and b"secret" not in data and refcodec.metadata(data).exif
    assert run(capsys, tmp_path / "in", "-o", tmp_path / "coded", *words)[0]["skipped"] == 1
    again = ("--lossless", "--frame", "0", "-j", "1", "--force")  # what decides the output is another
    assert run(capsys, tmp_path / "in", "-o", tmp_path / "coded", *again)[0]["done"] == 1
    words = ("--format", "qoi", "--reduce", "2", "--background", "white", "--strip", "all", "--keep-times", "-j", "1")
    found, err = run(capsys, tmp_path / "coded", "-o", tmp_path / "back", *words)
    assert "turned upright" in err and Image.open(tmp_path / "back" / "a.qoi").size == (3, 5)
    turned = ("--format", "png", "--no-autorotate", "-j", "1")
    run(capsys, tmp_path / "coded", "-o", tmp_path / "png", *turned)
    assert Image.open(tmp_path / "png" / "a.png").size == (9, 5)
    assert run(capsys, tmp_path / "in", "-o", tmp_path / "p", "--psnr", "40", "--size", "9", code=2)
