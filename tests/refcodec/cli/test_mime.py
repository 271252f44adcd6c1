"""``mime``: other programs know a stream by what it prints."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refcodec
from refcodec.cli import main
from refcodec.pillow_plugin import MIME

SAMPLES = np.zeros((5, 300), np.uint8)


def printed(capsys, *words: str) -> str:
    assert main(["mime", *words]) == 0
    return capsys.readouterr().out


@pytest.fixture
def streams(tmp_path) -> dict[str, Path]:
    found = {"grey.loclic": refcodec.encode(SAMPLES, lossless=True), "named.bin": refcodec.encode(SAMPLES, 40)}
    found["other.loclic"] = b"\x89PNG\r\n\x1a\n" + bytes(40)
    for name, data in found.items():
        (tmp_path / name).write_bytes(data)
    return {name: tmp_path / name for name in found}


@pytest.mark.skipif(shutil.which("file") is None, reason="there is no file(1)")
def test_file_knows_a_stream(tmp_path, streams, capsys):
    (tmp_path / "magic").write_text(printed(capsys, "--magic"))

    def told(name, *words):
        run = ["file", "-b", "-m", str(tmp_path / "magic"), *words, str(streams[name])]
        return subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()

    assert told("grey.loclic", "--mime-type") == told("named.bin", "--mime-type") == MIME
    assert told("grey.loclic") == "LoC-LIC coded image, version 1, 300x5, grey, without loss"
    quality = refcodec.info(streams["named.bin"].read_bytes()).quality
    assert told("named.bin").endswith("without loss" if quality == 0 else f", quality {quality}")
    assert "LoC-LIC" not in told("other.loclic")


@pytest.mark.skipif(shutil.which("update-mime-database") is None, reason="there is no shared-mime-info")
def test_desktops_know_a_stream(tmp_path, streams, capsys):
    (tmp_path / "mime" / "packages").mkdir(parents=True)
    (tmp_path / "mime" / "packages" / "refcodec.xml").write_text(printed(capsys))
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    run = ["update-mime-database", str(tmp_path / "mime")]
    assert subprocess.run(run, env=env, capture_output=True, text=True, check=True).stderr == ""
    assert f"{MIME}:*.loclic" in (tmp_path / "mime" / "globs2").read_text()
    assert b"\x89LIC" in (tmp_path / "mime" / "magic").read_bytes()
    if shutil.which("gio"):
        run = ["gio", "info", "-a", "standard::content-type", str(streams["named.bin"])]
        assert MIME in subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout


def test_the_thumbnailer_makes_a_png(tmp_path, streams, capsys):
    entry = dict(line.split("=", 1) for line in printed(capsys, "--thumbnailer").splitlines() if "=" in line)
    assert entry["MimeType"] == f"{MIME};"
    (tmp_path / "thumb").write_bytes(b"")  # as desktops do: an empty file with any name
    given = {"%i": str(streams["grey.loclic"]), "%o": str(tmp_path / "thumb")}
    words = [given.get(word, word) for word in entry["Exec"].split()]
    assert words[0] == entry["TryExec"] == "refcodec" and main(words[1:]) == 0 and capsys.readouterr().err == ""
    with Image.open(tmp_path / "thumb") as image:
        assert (image.format, image.size) == ("PNG", (75, 2))
