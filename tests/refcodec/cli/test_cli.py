"""The command line: what it prints, what it returns, and that it leaves nothing behind."""

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conformance.kit.suites import KIT
from refcodec.cli import main
from refcodec.errors import RefcodecError
from refcodec.model.registry import DEFAULT

SCENE = Path(__file__).parents[3] / "conformance" / "data" / "pictures" / "scene.png"


@pytest.fixture
def small(tmp_path) -> Path:
    path = tmp_path / "small.png"
    Image.open(SCENE).convert("RGB").crop((60, 60, 108, 100)).save(path)
    return path


@pytest.fixture
def stream(tmp_path, small) -> Path:
    path = tmp_path / "small.loclic"
    assert main(["encode", str(small), str(path), "-q", "50"]) == 0
    return path


def output(capsys, *argv: str) -> dict:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, code: int, *argv: str) -> str:
    """The error line of a command that must fail with this code, without a traceback."""
    capsys.readouterr()
    try:
        got = main(list(argv))
    except SystemExit as e:  # argparse
        got = e.code
    captured = capsys.readouterr()
    assert got == code, captured.err
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("suffix", ["png", "ppm", "npy", "bmp", "tif", "jpg", "webp"])
def test_round_trip_through_every_format(tmp_path, small, capsys, suffix):
    source = tmp_path / f"in.{suffix}"
    samples = np.asarray(Image.open(small))
    np.save(source, samples) if suffix == "npy" else Image.fromarray(samples).save(source)
    coded, back = tmp_path / "a.loclic", tmp_path / f"out.{'png' if suffix in ('jpg', 'webp') else suffix}"
    facts = output(capsys, "encode", str(source), str(coded))
    decoded = output(capsys, "decode", str(coded), str(back), "--verify")
    assert decoded["sha256"] == facts["reconstruction_sha256"] and decoded["verified"]
    pixels = np.load(back) if suffix == "npy" else np.asarray(Image.open(back))
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == decoded["sha256"]
    assert facts["bytes"] == coded.stat().st_size and facts["quality"] == 60


def test_grey_pictures_stay_grey(tmp_path, capsys):
    source = tmp_path / "grey.pgm"
    Image.open(SCENE).convert("L").crop((0, 0, 33, 21)).save(source)
    assert output(capsys, "encode", str(source), str(tmp_path / "g.loclic"))["channels"] == 1
    assert main(["decode", str(tmp_path / "g.loclic"), str(tmp_path / "g.pgm")]) == 0
    assert Image.open(tmp_path / "g.pgm").mode == "L"


@pytest.fixture
def logo(tmp_path) -> Path:
    """RGBA with every alpha, and colours under alpha 0."""
    samples = np.dstack([np.asarray(Image.open(SCENE).convert("RGB"))[60:100, 60:200], np.zeros((40, 140), np.uint8)])
    samples[:, :, 3] = np.add.outer(np.arange(40) * 9, np.arange(140) // 20 * 40) % 256
    samples[:10, :, 3] = 0
    path = tmp_path / "logo.png"
    Image.fromarray(samples).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_kept_and_formats_without_it_refused(tmp_path, logo, capsys, mode):
    source = tmp_path / f"{mode}.png"
    Image.open(logo).convert(mode).save(source)
    alpha = np.asarray(Image.open(source).getchannel("A"))
    coded, back = str(tmp_path / "a.loclic"), tmp_path / "a.png"
    facts = output(capsys, "encode", str(source), coded, "-q", "40")
    assert facts["alpha"] and facts["channels"] == (3 if mode == "RGBA" else 1) and facts["psnr"] > 25
    decoded = output(capsys, "decode", coded, str(back), "--verify")
    assert decoded["alpha"] and decoded["sha256"] == facts["reconstruction_sha256"]
    assert Image.open(back).mode == mode and np.array_equal(np.asarray(Image.open(back).getchannel("A")), alpha)
    for name in ("a.jpg", "a.ppm", "a.bmp"):
        assert "alpha" in refused(capsys, 69, "decode", coded, str(tmp_path / name))
    assert main(["info", coded]) == 0
    shown = capsys.readouterr().out
    assert "alpha          yes" in shown and "lossless       no" in shown and "tiles          1" in shown
    same = output(capsys, "compare", coded, str(back), "--exact")
    assert same["bit_exact"] and same["channels"] == len(mode)
    assert main(["trace", coded, str(tmp_path / "t.jsonl"), "--stage", "samples"]) == 0
    stage = json.loads((tmp_path / "t.jsonl").read_text())
    assert stage["shape"] == [40, 140, len(mode)] and stage["sha256"] == decoded["sha256"]


def test_lossless_needs_no_model(tmp_path, logo, capsys, monkeypatch):
    for name in ("load_model", "find_model"):
        monkeypatch.setattr(f"refcodec.codec.{name}", None)
    monkeypatch.setattr("refcodec.picture_files.encoding.load_model", None)
    for name in ("encoding", "decoding"):
        monkeypatch.setattr(f"refcodec.picture_files.{name}.prepare", None)
    coded = str(tmp_path / "a.loclic")
    facts = output(capsys, "encode", str(logo), coded, "--lossless")
    assert (facts["lossless"], facts["model"], facts["psnr"], facts["quality"]) == (True, None, None, 0)
    assert output(capsys, "verify", coded)["sha256"] == facts["reconstruction_sha256"]
    assert output(capsys, "info", coded)["lossless"]
    assert main(["decode", coded, str(tmp_path / "a.png")]) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(Image.open(logo)))
    assert output(capsys, "compare", str(logo), coded, "--exact")["bit_exact"]
    assert main(["decode", coded, str(tmp_path / "r.png"), "--region", "100,3,40,30"]) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "r.png")), np.asarray(Image.open(logo))[3:33, 100:140])
    assert main(["trace", coded, str(tmp_path / "t.jsonl")]) == 0


def test_a_region_is_the_crop_of_the_picture(tmp_path, logo, capsys):
    coded, whole = str(tmp_path / "a.loclic"), tmp_path / "a.npy"
    assert main(["encode", str(logo), coded, "--tile", "64", "-q", "30"]) == 0
    assert output(capsys, "info", coded)["tiles"] == 3
    assert main(["decode", coded, str(whole)]) == 0
    for x, y, w, h in ((0, 0, 140, 40), (139, 39, 1, 1), (60, 5, 9, 20)):
        out = tmp_path / f"{x}.npy"
        facts = output(capsys, "decode", coded, str(out), "--region", f"{x},{y},{w},{h}")
        assert (facts["width"], facts["height"]) == (w, h)
        assert np.array_equal(np.load(out), np.load(whole)[y : y + h, x : x + w])


def test_a_damaged_tile_spoils_only_what_needs_it(tmp_path, capsys):
    source, coded = tmp_path / "a.png", tmp_path / "a.loclic"
    Image.open(SCENE).convert("RGB").resize((640, 64)).save(source)
    assert main(["encode", str(source), str(coded), "--tile", "64", "-q", "20"]) == 0
    assert main(["decode", str(coded), str(tmp_path / "whole.npy")]) == 0
    data = bytearray(coded.read_bytes())
    data[-10] ^= 1  # of the last tile
    coded.write_bytes(data)
    assert "tile 9" in refused(capsys, 65, "decode", str(coded), str(tmp_path / "b.png"))
    assert main(["decode", str(coded), str(tmp_path / "r.npy"), "--region", "0,0,100,64"]) == 0
    assert np.array_equal(np.load(tmp_path / "r.npy"), np.load(tmp_path / "whole.npy")[:, :100])
    assert main(["decode", "-", str(tmp_path / "s.npy"), "--region", "0,0,100,64"]) != 0  # nothing on standard input


def test_16_bits_are_reduced_on_request_and_announced(tmp_path, capsys):
    source = tmp_path / "deep.png"
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16).save(source)
    assert "--depth 8" in refused(capsys, 69, "encode", str(source), str(tmp_path / "a.loclic"))
    capsys.readouterr()
    assert main(["encode", str(source), str(tmp_path / "a.loclic"), "--depth", "8", "--lossless"]) == 0
    assert "scaled from 0..65535 to 0..255" in capsys.readouterr().err
    assert main(["decode", str(tmp_path / "a.loclic"), str(tmp_path / "a.npy")]) == 0
    deep = np.arange(64 * 64).reshape(64, 64) * 16
    assert np.array_equal(np.load(tmp_path / "a.npy"), (deep * 255 + 32767) // 65535)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["npy", "ppm"])
def test_pictures_in_strips_give_the_same_files(tmp_path, capsys, monkeypatch, suffix):
    """As those in memory: the stream, what is said of it, and the decoded picture in every format of rows."""
    source = tmp_path / f"a.{suffix}"
    samples = np.asarray(Image.open(SCENE).convert("RGB"))
    np.save(source, samples) if suffix == "npy" else Image.fromarray(samples).save(source)
    found = []
    for limit in (1 << 26, 1 << 10):
        monkeypatch.setattr("refcodec.io.pictures.STRIPS_FROM", limit)
        monkeypatch.setattr("refcodec.picture_files.decoding.STRIPS_FROM", limit)
        coded = tmp_path / "a.loclic"
        facts = output(capsys, "encode", str(source), str(coded), "-q", "20", "--tile", "128", "--force")
        files = [coded.read_bytes()]
        for name in ("o.png", "o.ppm", "o.npy"):
            told = output(capsys, "decode", str(coded), str(tmp_path / name), "--force", "--verify")
            assert told["sha256"] == facts["reconstruction_sha256"] and told["verified"]
            files.append((tmp_path / name).read_bytes())
        found.append(({**facts, "seconds": 0}, files))
    assert found[0] == found[1]
    damaged = bytearray(files[0])
    damaged[-200] ^= 1
    (tmp_path / "d.loclic").write_bytes(damaged)
    before = sorted(tmp_path.iterdir())
    refused(capsys, 65, "decode", str(tmp_path / "d.loclic"), str(tmp_path / "d.png"))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_size_and_rate_are_kept(tmp_path, small, capsys):
    for option, value, budget in (("--size", "900", 900), ("--bpp", "2.5", 2.5 * 48 * 40 / 8)):
        out = tmp_path / f"{option}.loclic"
        facts = output(capsys, "encode", str(small), str(out), option, value)
        assert out.stat().st_size <= budget
        better = output(
            capsys,
            "encode",
            str(small),
            str(tmp_path / "b.loclic"),
            "-q",
            str(min(facts["quality"] + 1, 100)),
            "--force",
        )
        assert facts["quality"] == 100 or better["bytes"] > budget
    assert "no quality fits" in refused(capsys, 2, "encode", str(small), str(tmp_path / "c"), "--size", "10")
    assert not (tmp_path / "c").exists()


def test_a_size_is_kept_by_pictures_that_are_stored(tmp_path, capsys):
    """Without loss if that fits; blurred if it does not, though every quality would store it."""
    rng = np.random.default_rng(0)
    letters = np.where(rng.integers(0, 2, (48, 64)), 170, 90).astype(np.uint8)
    Image.fromarray(letters).save(source := tmp_path / "text.png")
    out = tmp_path / "text.loclic"
    exact = output(capsys, "encode", str(source), str(out), "-q", "1")
    assert exact["lossless"]
    fits = output(capsys, "encode", str(source), str(out), "--size", str(exact["bytes"]), "--force")
    assert fits["lossless"] and fits["quality"] == 0 and fits["bytes"] == out.stat().st_size == exact["bytes"]
    smaller = output(capsys, "encode", str(source), str(tmp_path / "c"), "-q", "1", "--rectangles", "none")["bytes"]
    assert smaller < exact["bytes"]
    budget = str(exact["bytes"] - 1)
    fits = output(capsys, "encode", str(source), str(out), "--size", budget, "--force")
    assert not fits["lossless"] and not fits["rectangles"] and fits["bytes"] < exact["bytes"]
    error = refused(capsys, 2, "encode", str(source), str(out), "--size", str(smaller - 1), "--force")
    assert "no quality fits" in error and f"smallest={smaller}" in error


def test_metadata_is_carried_or_stripped(tmp_path, small, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    source = tmp_path / "with.jpg"
    Image.open(small).save(source, exif=exif, icc_profile=b"icc" * 50)
    assert main(["encode", str(source), str(tmp_path / "a.loclic")]) == 0
    assert main(["decode", str(tmp_path / "a.loclic"), str(tmp_path / "a.png")]) == 0
    back = Image.open(tmp_path / "a.png")
    assert back.getexif()[0x0112] == 6 and back.info["icc_profile"] == b"icc" * 50
    assert back.size == (48, 40)  # samples are not rotated
    for strip, left in (("exif", ["iccp"]), ("exif,icc", []), ("all", [])):
        assert main(["encode", str(source), str(tmp_path / "s.loclic"), "--strip", strip, "--force"]) == 0
        assert [c["tag"] for c in output(capsys, "info", str(tmp_path / "s.loclic"))["chunks"]] == left
    refused(capsys, 2, "encode", str(source), str(tmp_path / "t.loclic"), "--strip", "gps,place")


def test_info_compare_verify_trace(tmp_path, small, stream, capsys):
    assert output(capsys, "info", str(stream))["quality"] == 50
    same = output(capsys, "compare", str(stream), str(stream), "--exact")
    assert same["bit_exact"]
    assert "differ" in refused(capsys, 1, "compare", str(small), str(stream), "--exact")
    assert main(["compare", str(small), str(stream), "--heatmap", str(tmp_path / "h.png")]) == 0
    assert Image.open(tmp_path / "h.png").size == (48, 40)
    assert output(capsys, "verify", str(stream))["verified"]
    lines = tmp_path / "t.jsonl"
    assert main(["trace", str(stream), str(lines), "--values", str(tmp_path / "v"), "--stage", "y_hat"]) == 0
    stages = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [s["name"] for s in stages] == [f"y_hat/{i}" for i in range(6)]
    for stage, path in zip(stages, sorted((tmp_path / "v").iterdir()), strict=True):
        values = np.load(path)
        assert list(values.shape) == stage["shape"]
        assert hashlib.sha256(values.tobytes()).hexdigest() == stage["sha256"]
    refused(capsys, 2, "trace", str(stream), str(tmp_path / "u.jsonl"), "--stage", "nothing")


def test_models(capsys):
    listed = output(capsys, "model", "list")["models"]
    (default,) = (m for m in listed if m.get("default"))
    assert default["released"] and default["name"] == DEFAULT.stem and default["bytes"] == DEFAULT.stat().st_size
    assert output(capsys, "model", "info")["fingerprint"] == default["fingerprint"]
    facts = output(capsys, "model", "info", "refcodec-default-2")
    assert facts["parameters"] == 14_627_304 and facts["kmac_per_pixel"] == 91.83
    assert "training" in facts["provenance"]["card"].lower()
    bounds = output(capsys, "model", "verify", "default")["bounds"]
    assert all(b["worst"] <= b["allowed"] for b in bounds) and len(bounds) > 300
    refused(capsys, 78, "model", "info", "nobody")


def test_a_procedural_model_is_built_and_codes(tmp_path, small, capsys):
    model = tmp_path / "tiny.h5"
    facts = output(capsys, "model", "procedural", "--profile", "tiny", "--seed", "7", str(model))
    assert facts["fingerprint"] == "89e423ec7c5d54faf9ca4ce9599c8220"
    assert main(["encode", str(small), str(tmp_path / "t.loclic"), "--model", str(model)]) == 0
    assert main(["decode", str(tmp_path / "t.loclic"), str(tmp_path / "t.png"), "--model", str(model), "--verify"]) == 0
    refused(capsys, 78, "decode", str(tmp_path / "t.loclic"), str(tmp_path / "u.png"))
    refused(capsys, 73, "model", "procedural", "--profile", "tiny", "--seed", "7", str(model))
    refused(capsys, 2, "model", "procedural", "--profile", "tiny", "--seed", "-1", str(tmp_path / "v.h5"))


def test_standard_input_and_output(tmp_path, small):
    run = [sys.executable, "-m", "refcodec"]
    coded = subprocess.run([*run, "encode", "-", "-"], input=small.read_bytes(), capture_output=True, check=True).stdout
    shown = subprocess.run([*run, "decode", "-", "-"], input=coded, capture_output=True, check=True).stdout
    assert Image.open(io.BytesIO(shown)).size == (48, 40)


def test_existing_outputs_need_force(tmp_path, small, stream, capsys):
    before = stream.read_bytes()
    refused(capsys, 73, "encode", str(small), str(stream), "-q", "10")
    assert stream.read_bytes() == before
    assert main(["encode", str(small), str(stream), "-q", "10", "--force"]) == 0
    assert stream.read_bytes() != before


def test_every_refusal_has_its_code_and_writes_nothing(tmp_path, small, stream, capsys):
    def file(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    good = stream.read_bytes()
    deep, cmyk = tmp_path / "deep.png", tmp_path / "cmyk.jpg"
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(deep)
    Image.new("CMYK", (4, 4)).save(cmyk)
    version = bytearray(good)
    version[4] = 9
    out, coded = str(tmp_path / "out.png"), str(tmp_path / "out.loclic")
    cases = [
        (65, "decode", file("empty.loclic", b""), out),
        (65, "decode", file("text.loclic", b"no stream"), out),
        (65, "decode", file("short.loclic", good[:-5]), out),
        (65, "decode", file("long.loclic", good + b"x"), out),
        (69, "decode", file("version.loclic", bytes(version)), out),
        (66, "decode", str(tmp_path / "absent.loclic"), out),
        (66, "encode", str(tmp_path / "absent.png"), coded),
        (65, "encode", file("empty.png", b""), coded),
        (65, "encode", file("text.png", b"no picture at all"), coded),
        (65, "encode", file("cut.png", small.read_bytes()[:200]), coded),
        (69, "encode", str(deep), coded),
        (69, "encode", str(cmyk), coded),
        (77, "decode", str(stream), out, "--max-pixels", "100"),
        (77, "decode", str(stream), out, "--max-memory", "1"),
        (77, "encode", str(small), coded, "--max-pixels", "100"),
        (78, "decode", str(stream), out, "--model", str(tmp_path / "absent.h5")),
        (78, "decode", str(stream), out, "--model", file("junk.h5", b"junk")),
        (78, "encode", str(small), coded, "--model", "nobody"),
        (69, "decode", str(stream), str(tmp_path / "out.xyz")),
        (73, "decode", str(stream), str(tmp_path / "no" / "out.png")),
        (73, "decode", str(stream), str(tmp_path)),
        (2, "encode", str(small), coded, "-q", "101"),
        (2, "encode", str(small), coded, "-q", "0"),
        (2, "encode", str(small), coded, "--frame", "-1"),
        (2, "encode", str(small), coded, "--psnr", "1e9", "--rectangles", "none"),
        (2, "encode", str(small), coded, "--tile", "16384"),
        (2, "encode", str(small), coded, "-q", "5", "--size", "5"),
        (2, "encode", str(small), coded, "--threads", "1000"),
        (2, "encode", str(small), coded, "-q", "5", "--lossless"),
        (2, "encode", str(small), coded, "--size", "5", "--lossless"),
        (2, "encode", str(small), coded, "--lossless", "--model", "default"),
        (2, "encode", str(small), coded, "--lossless", "--tile", "64"),
        (2, "encode", str(small), coded, "--lossless", "--rectangles", "none"),
        (2, "encode", str(small), coded, "--tile", "100"),
        (2, "encode", str(small), coded, "--tile", "-64"),
        (2, "encode", str(small), coded, "--tile", "some"),
        (2, "encode", str(small), coded, "--rectangles", "many"),
        (2, "encode", str(small), coded, "--depth", "10"),
        (2, "decode", str(stream), out, "--region", "0,0,49,40"),
        (2, "decode", str(stream), out, "--region", "0,0,0,1"),
        (2, "decode", str(stream), out, "--region", "1,2,3"),
        (2, "decode", str(stream), out, "--region", "a,b,c,d"),
        (2, "decode", str(stream), out, "--region", "0,0,9,9", "--verify"),
        (2, "encode", str(small)),
        (2, "nothing"),
    ]
    before = {p.name for p in tmp_path.iterdir()}
    for code, *argv in cases:
        line = refused(capsys, code, *argv)
        assert line.startswith("refcodec: error: ") and line.count("\n") == 1, line
    assert {p.name for p in tmp_path.iterdir()} == before


def test_json_errors_have_fields(tmp_path, capsys):
    capsys.readouterr()
    assert main(["decode", str(tmp_path / "absent"), str(tmp_path / "a.png"), "--json"]) == 66
    fields = json.loads(capsys.readouterr().out)
    assert fields["error"] == "MissingInput" and fields["exit_code"] == 66


def test_a_bug_is_one_line(monkeypatch, tmp_path, small, capsys):
    def broken(*args, **more):
        raise ZeroDivisionError("made for this test")

    monkeypatch.setattr("refcodec.targets.encode_strips", broken)
    line = refused(capsys, 70, "encode", str(small), str(tmp_path / "o.loclic"))
    assert "ZeroDivisionError" in line and line.count("\n") == 1
    assert not (tmp_path / "o.loclic").exists()


@pytest.mark.slow
def test_processes(tmp_path, small):
    """As a user runs it: the exit codes, and the NumPy backend's bytes."""
    run = [sys.executable, "-m", "refcodec"]
    import os

    for backend in ("numba", "numpy"):
        env = {**os.environ, "REFCODEC_BACKEND": backend}
        subprocess.run(
            [*run, "encode", str(small), str(tmp_path / f"{backend}.loclic")], env=env, check=True, capture_output=True
        )
    assert (tmp_path / "numba.loclic").read_bytes() == (tmp_path / "numpy.loclic").read_bytes()
    bad = subprocess.run([*run, "decode", str(small), str(tmp_path / "x.png")], capture_output=True, text=True)
    assert bad.returncode == 65 and "Traceback" not in bad.stderr
    unknown = subprocess.run(
        [*run, "info", str(tmp_path / "numba.loclic")],
        capture_output=True,
        text=True,
        env={**os.environ, "REFCODEC_BACKEND": "fortran"},
    )
    assert unknown.returncode == 0  # info computes nothing
    unknown = subprocess.run(
        [*run, "verify", str(tmp_path / "numba.loclic")],
        capture_output=True,
        text=True,
        env={**os.environ, "REFCODEC_BACKEND": "fortran"},
    )
    assert unknown.returncode == 2 and "REFCODEC_BACKEND" in unknown.stderr


@pytest.mark.slow
def test_the_matrix_agrees_and_says_so(tmp_path, small, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    small.rename(folder / "a.png")
    words = ["matrix", str(folder), "--qualities", "30", "--save-json", str(tmp_path / "m.json")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "numpy 1" in shown and "1 of 1" in shown
    saved = json.loads((tmp_path / "m.json").read_text())
    assert all(all(r["encoded"]) and all(r["decoded"]) for r in saved["rows"])
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == saved


def test_json_is_a_flag_of_every_command_and_files_have_names(tmp_path, capsys):
    for words in (["rd", str(tmp_path)], ["matrix", str(tmp_path)]):
        assert "--save-json" in refused(capsys, 2, *words, "--save-json", "-")
        capsys.readouterr()
        assert main([*words, "--json"]) == 66
        assert json.loads(capsys.readouterr().out)["error"] == "MissingInput"


def test_help_names_the_commands_of_developers(capsys):
    for words in (["--help"], ["-h"]):
        with pytest.raises(SystemExit):
            main(words)
        shown = capsys.readouterr().out
        assert "refcodec.agreement.selftest --write" in shown and "refcodec.agreement.items" in shown


def test_every_error_class_has_a_documented_code():
    def below(cls):
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    documented = {1, 2, 65, 66, 69, 70, 73, 74, 77, 78}
    assert all(cls.exit_code in documented and cls.__doc__ for cls in below(RefcodecError))


def test_json_and_a_stream_do_not_share_standard_output(tmp_path, small, stream, capsys):
    for words in (["encode", str(small), "-"], ["decode", str(stream), "-"]):
        assert "standard output" in refused(capsys, 2, *words, "--json")
        assert main([*words, "--json"]) == 2 and capsys.readouterr().out == ""


def test_json_is_one_object(tmp_path, small, stream, capsys):
    """Of a comparison that fails, too, and of every command that takes ``--json``."""
    capsys.readouterr()
    assert main(["compare", str(small), str(stream), "--exact", "--json"]) == 1
    failed = json.loads(capsys.readouterr().out)
    assert failed["error"] == "CheckFailed" and failed["values"]["bit_exact"] is False
    found = output(capsys, "trace", str(stream), str(tmp_path / "t.jsonl"))
    assert found["stages"] == len((tmp_path / "t.jsonl").read_text().splitlines())
    assert found["sha256"] == output(capsys, "verify", str(stream))["sha256"]


def test_a_heatmap_and_the_result_do_not_share_standard_output(small, capsys):
    assert "standard output" in refused(capsys, 2, "compare", str(small), str(small), "--heatmap", "-")


def test_usage_errors_have_one_style(tmp_path, small, capsys):
    """Those that argparse finds and those that a command finds: one line, and fields with ``--json``."""
    for words in (["-q", "0"], ["-q", "101"], ["--size", "x"], ["--nothing"], ["--max-memory", "0"]):
        capsys.readouterr()
        assert main(["encode", str(small), str(tmp_path / "a"), *words, "--json"]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("refcodec: error: ") and captured.err.count("\n") == 1
        fields = json.loads(captured.out)
        assert fields["error"] == "UsageError" and fields["exit_code"] == 2


def test_every_command_that_codes_takes_limits(tmp_path, small, stream, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(small.read_bytes())
    commands = [
        ["encode", str(small), str(tmp_path / "a")],
        ["decode", str(stream), str(tmp_path / "a.png")],
        ["verify", str(stream)],
        ["compare", str(small), str(stream)],
        ["compare", str(stream), str(small)],
        ["trace", str(stream), str(tmp_path / "a.jsonl")],
        ["matrix", str(folder), "--qualities", "50"],
        ["rd", str(folder), "--qualities", "50", "--no-others"],
        ["bench", "--picture", str(small), "--repeats", "1", "--model", "tiny", "--threads", "1"],
    ]
    for words in commands:
        assert "max_memory=1048576" in refused(capsys, 77, *words, "--max-memory", "1")
        assert "max_pixels=4095" in refused(capsys, 77, *words, "--max-pixels", "4095")


def test_a_stream_larger_than_its_source_is_announced(tmp_path, small, capsys):
    flat = tmp_path / "flat.png"
    Image.new("RGB", (64, 64), (0, 255, 0)).save(flat)
    for source, told in ((flat, True), (small, False)):
        capsys.readouterr()
        words = ["-q", "30", "--force", "--rectangles", "none"]
        assert main(["encode", str(source), str(tmp_path / "s.loclic"), *words]) == 0
        err = capsys.readouterr().err
        assert ("larger than the source" in err) == ("try --lossless" in err) == told
        assert "keep its file" not in err  # a released model stays
    own = str(KIT / "models" / "tiny-7.h5")
    assert main(["encode", str(small), str(tmp_path / "s.loclic"), "--force", "--model", own]) == 0
    assert "not a released one: keep its file" in capsys.readouterr().err
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png", optimize=True)
    assert main(["encode", str(tmp_path / "noise.png"), str(tmp_path / "n.loclic"), "--lossless"]) == 0
    assert "try --lossless" not in capsys.readouterr().err


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def test_progress_is_a_percentage_of_the_work(tmp_path, small, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert main(["encode", str(small), str(tmp_path / "p.loclic"), "--size", "900"]) == 0
    text = terminal.getvalue()
    shown = [int(share) for share in re.findall(r", trial \d+ of at most 10 +(\d+) %", text)]
    assert shown[0] == 0 and shown == sorted(shown) and shown[-1] <= 100 and len(set(shown)) > 20
    assert " trial 1 of at most 10 " in text and " trial 2 of at most 10 " in text
    terminal.truncate(0)
    assert main(["decode", str(tmp_path / "p.loclic"), str(tmp_path / "p.png")]) == 0
    assert "decoding   0 %" in terminal.getvalue() and "decoding 100 %" in terminal.getvalue()


@pytest.mark.parametrize("words", [("--lossless",), ("-q", "30", "--tile", "64"), ("--size", "3000"), ("--psnr", "20")])
def test_progress_never_goes_back(tmp_path, small, monkeypatch, words):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    if "--lossless" in words:
        Image.fromarray(np.tile(np.asarray(Image.open(small)), (30, 4, 1))).save(small)
    assert main(["encode", str(small), str(tmp_path / "p.loclic"), *words]) == 0
    shown = [int(share) for share in re.findall(r" (\d+) %", terminal.getvalue())]
    assert shown[0] == 0 and shown == sorted(shown) and max(shown) <= 100 and len(set(shown)) > 4
    if len(words) != 2 or "-q" in words:
        assert shown[-1] == 100


@pytest.mark.parametrize(
    "module, package",
    [
        *(("scipy", "refcodec[measure]"), ("llvmlite", "numba"), ("h5py.h5f", "refcodec[models]")),
        ("matplotlib", "refcodec[plot]"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, tmp_path, small, capsys, module, package):
    def lacking(*args, **more):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("refcodec.picture_files.encoding.read_picture", lacking)
    line = refused(capsys, 69, "encode", str(small), str(tmp_path / "o.loclic"))
    assert f'pip install "{package}"' in line and line.count("\n") == 1


def test_a_missing_package_says_nothing_about_the_machine(monkeypatch, capsys):
    from refcodec.agreement import items as hashes

    def lacking(way):
        raise ModuleNotFoundError("No module named 'h5py'", name="h5py")

    monkeypatch.setattr(hashes, "VECTORS", {"lacking": lacking})
    assert 'pip install "refcodec[models]"' in refused(capsys, 69, "selftest")


def test_an_interrupt_while_starting_is_in_order():
    """The signal arrives while a module is imported: where an exception could become any other."""
    code = (
        "import sys, os, signal, refcodec.__main__ as start\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'refcodec.cli.commands': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['refcodec', 'warmup']\n"
        "sys.exit(start.main())\n"
    )
    signals = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    ended = subprocess.run([sys.executable, "-c", signals + code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "refcodec: error: interrupted\n")


def test_the_package_imports_nothing_heavy_by_itself():
    """So the command line watches for interrupts early; every name is there when it is asked for."""
    code = (
        "import sys, refcodec; heavy = {'numpy', 'PIL', 'numba'} & set(sys.modules); print(sorted(heavy)); "
        "print(all(getattr(refcodec, name) for name in refcodec.__all__))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["[]", "True"]


def test_lack_of_memory_while_starting_is_a_limit(monkeypatch, capsys):
    import refcodec.__main__ as start

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "refcodec.cli":
                raise MemoryError

    monkeypatch.delitem(sys.modules, "refcodec.cli")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert start.main() == 77
    assert capsys.readouterr().err == "refcodec: error: too little memory to start\n"
