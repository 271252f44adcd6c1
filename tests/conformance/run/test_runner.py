"""The runner, tried with decoders that behave and with liars of every kind."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiny_kit
from own_kit import tiny_trace
from PIL import Image
from tiny_kit import command, invalid, sha256, valid, write_suite

from conformance import cli
from conformance.kit import suites
from conformance.kit import vectors as kit_vectors
from conformance.kit.errors import SuiteDamaged, UsageError
from conformance.run import decoders, models, process
from conformance.run.engine import Options, compare, run_all
from conformance.run.pictures import Difference, OutputWrong, difference, read_picture
from conformance.run.process import Limits

QUICK = Limits(seconds=20.0, memory=1 << 30, file=4 << 20)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit with two suites."""
    return tiny_kit.tiny_kit(tmp_path_factory.mktemp("kit"))


def results(kit, spec, ids=(), **options):
    vectors = suites.select(suites.load_all(kit), suites.Selection(ids=ids))
    options.setdefault("limits", QUICK)
    return run_all(vectors, spec, Options(**options))


def run(kit, tmp_path, behaviour, *ids, **options):
    """Results of a decoder that behaves so, over these vectors or all, and the outcomes by id."""
    found = results(kit, decoders.parse(command(tmp_path, behaviour)), ids, **options)
    return found, {r.vector.id: r.outcome for r in found}


def test_a_good_decoder_passes(kit, tmp_path):
    found, outcomes = run(kit, tmp_path, "good", jobs=2)
    assert set(outcomes.values()) == {"pass"}
    assert [r.vector.id for r in found] == ["core/colour", "core/grey", "core/dot", "invalid/crc", "invalid/two"]
    assert all(r.seen == "accepted" and r.exact and r.wrote for r in found[:3])
    assert all(r.seen == "refused" and r.error == "ChecksumError" and not r.exact and not r.wrote for r in found[3:])
    assert all(r.seconds > 0 for r in found)


def test_results_stand_in_the_order_of_the_vectors(tmp_path):
    vectors = [valid(f"core/{n}", 2, 2, 3, n, wait=wait) for n, wait in enumerate([1.0, 0.0, 0.5, 0.0])]
    loaded, told = suites.load(write_suite(tmp_path, "core", vectors)), []
    found = run_all(
        loaded.vectors,
        decoders.parse(command(tmp_path, "good")),
        Options(limits=QUICK, jobs=4),
        lambda result: told.append(result.vector.id),
    )
    assert [r.vector.id for r in found] == ["core/0", "core/1", "core/2", "core/3"] and told[-1] == "core/0"


def test_every_digit_of_the_hash_counts():
    digest = sha256(SAMPLES)
    assert compare(kit_vectors.Accept(5, 4, 3, digest), SAMPLES) == ""
    for n, digit in enumerate(digest):
        other = digest[:n] + ("1" if digit == "0" else "0") + digest[n + 1 :]
        assert compare(kit_vectors.Accept(5, 4, 3, other), SAMPLES) == "another picture"


LIARS = {
    "exits-early": ("fail", "no output was written"),
    "prints-success": ("fail", "no output was written"),
    "empty": ("fail", "the output is empty"),
    "refuses-all": ("fail", "refused: CoderError"),
    "another-picture": ("fail", "another picture"),
    "black": ("fail", "another picture"),
    "shifted": ("fail", "another picture"),
    "truncated": ("fail", "1 of 60 samples are missing"),
    "extra": ("fail", "1 bytes follow the picture"),
    "two-pictures": ("fail", "bytes follow the picture"),
    "grey": ("fail", "the picture is 5x4 with 1 channels, expected 5x4 with 3"),
    "transposed": ("fail", "the picture is 4x5 with 3 channels, expected 5x4 with 3"),
    "sixteen-bits": ("fail", "the largest sample is given as 65535"),
    "link": ("fail", "the output is not a plain file"),
    "link-to-picture": ("fail", "the output is not a plain file"),
    "folder": ("fail", "the output is not a plain file"),
    "pipe": ("fail", "the output is not a plain file"),
    "huge": ("fail", "too large for 60 samples"),
    "aborts": ("crash", "SIGABRT"),
    "late-crash": ("crash", "SIGABRT"),
    "segfault": ("crash", "SIGSEGV"),
    "traceback": ("crash", "exit code 1; IndexError"),
    "internal": ("crash", "exit code 70; internal error"),
    "unsupported": ("not-supported", ""),
    "limit": ("not-supported", "beyond its limits"),
}


@pytest.mark.parametrize("behaviour", LIARS)
def test_liars_are_found_out(kit, tmp_path, behaviour):
    outcome, says = LIARS[behaviour]
    [result], _ = run(kit, tmp_path, behaviour, "core/colour")
    assert result.outcome == outcome and not result.exact
    if behaviour != "limit":
        assert says in result.detail


@pytest.mark.parametrize(
    ("behaviour", "outcome", "error"),
    [
        ("accepts-all", "accepted-invalid", ""),
        ("wrong-class", "wrong-class", "BadMagic"),
        ("class-on-stderr", "pass", "ChecksumError"),
        ("no-class", "pass", ""),
        ("refuses-and-writes", "fail", "ChecksumError"),
        ("crashes-on-invalid", "crash", ""),
        ("unsupported", "pass", "ChecksumError"),
    ],
)
def test_invalid_streams_need_a_refusal(kit, tmp_path, behaviour, outcome, error):
    [result], _ = run(kit, tmp_path, behaviour, "invalid/crc")
    assert (result.outcome, result.error) == (outcome, error)


def colour_only(kit, tmp_path, behaviour, limits):
    [result], _ = run(kit, tmp_path, behaviour, "core/colour", limits=limits)
    return result


@pytest.mark.parametrize("behaviour", ["hangs", "ignores-term", "busy"])
def test_what_does_not_end_is_ended(kit, tmp_path, behaviour):
    started = time.monotonic()
    result = colour_only(kit, tmp_path, behaviour, Limits(seconds=1.0))
    assert result.outcome == "timeout" and "ended after" in result.detail
    assert time.monotonic() - started < 10


def test_memory_is_limited_by_the_system(kit, tmp_path):
    result = colour_only(kit, tmp_path, "memory", Limits(20.0, 96 << 20))
    assert result.outcome == "out-of-memory"


def test_the_system_refuses_memory_that_is_asked_for_and_not_used(tmp_path):
    ask = process.resolve([sys.executable, "-S", "-E", "-c", "bytearray(1 << 29)"])
    for memory, code in [(1 << 30, 0), (128 << 20, 1)]:
        ended = process.run(ask, Limits(20.0, memory), tmp_path)
        assert (ended.exit_code, ended.stopped) == (code, "") and (code == 0) == (b"MemoryError" not in ended.stderr)


def test_memory_of_all_processes_is_watched(kit, tmp_path):
    result = colour_only(kit, tmp_path, "memory-of-children", Limits(20.0, 200 << 20))
    assert result.outcome == "out-of-memory" and "ended at" in result.detail
    assert result.peak > 200 << 20


def test_output_is_limited(kit, tmp_path):
    result = colour_only(kit, tmp_path, "floods", Limits(20.0, 1 << 30, 2 << 20))
    assert result.outcome == "crash", "it cannot write more than the limit"


def test_a_large_picture_may_be_written(tmp_path):
    vector = valid("core/large", 500, 400, 3, 1)
    loaded = suites.load(write_suite(tmp_path, "core", [vector]))
    spec = decoders.parse(command(tmp_path, "good"))
    [result] = run_all(loaded.vectors, spec, Options(limits=Limits(20.0, 1 << 30, 1 << 10)))
    assert result.outcome == "pass"


def test_children_do_not_outlive_the_decoder(tmp_path):
    witness = tmp_path / "witness"
    loaded = suites.load(write_suite(tmp_path, "core", [valid("core/a", 2, 2, 3, 1, witness=str(witness))]))
    [result] = run_all(loaded.vectors, decoders.parse(command(tmp_path, "child-writes-later")), Options(limits=QUICK))
    assert result.outcome == "pass"
    time.sleep(1.8)
    assert not witness.exists()


def test_the_suite_cannot_be_spoiled(kit, tmp_path):
    assert run(kit, tmp_path, "damages-stream")[1]["core/colour"] == "pass"
    suites.check_files(suites.load_all(kit))


def test_streams_have_names_that_tell_nothing(kit, tmp_path):
    program = tmp_path / "tell.py"
    program.write_text(f"import sys; print(*sys.argv, file=open({str(tmp_path / 'told')!r}, 'a'))")
    results(kit, decoders.parse(f"{sys.executable} -S -E {program} {{stream}} {{output}}"))
    told = (tmp_path / "told").read_text()
    assert told.count("/stream.loclic") == 5 and "crc" not in told and "invalid" not in told


def test_nothing_is_left_behind(kit, tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    run(kit, tmp_path, "good")
    assert not list(place.iterdir())


def test_a_run_can_be_stopped(tmp_path):
    stop, started = threading.Event(), time.monotonic()
    threading.Timer(0.5, stop.set).start()
    ended = process.run(process.resolve(["sleep", "60"]), QUICK, tmp_path, stop)
    assert ended.stopped == "interrupted" and time.monotonic() - started < 20


def test_the_ends_of_outputs_are_kept(tmp_path):
    ended = process.run(
        process.resolve(["sh", "-c", "yes | head -c 300000; echo end; echo err >&2; exit 7"]), QUICK, tmp_path
    )
    assert ended.exit_code == 7 and ended.stdout.endswith(b"y\nend\n") and len(ended.stdout) == process.KEPT
    assert ended.stderr == b"err\n"


def test_programs_have_a_folder_for_temporary_files_and_no_input(tmp_path):
    ended = process.run(process.resolve(["sh", "-c", "cat; echo $TMPDIR"]), QUICK, tmp_path)
    assert ended.stdout.decode().strip() == str(tmp_path)


# Formats of the output

SAMPLES = tiny_kit.samples(5, 4, 3, 9)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def png(mode="RGB", size=(5, 4), samples=SAMPLES, **options):
    file = io.BytesIO()
    Image.frombytes(mode, size, samples).save(file, "PNG", **options)
    return file.getvalue()


def pam(**fields):
    """The header of a PAM file; of a field None for none."""
    fields = {"WIDTH": 5, "HEIGHT": 4, "DEPTH": 3, "MAXVAL": 255, "TUPLTYPE": "RGB"} | fields
    lines = "".join(f"{name} {value}\n" for name, value in fields.items() if value is not None)
    return f"P7\n{lines}ENDHDR\n".encode()


PICTURE = np.frombuffer(SAMPLES, np.uint8).reshape(4, 5, 3)
FILES = [
    ("pnm", b"P6 5 4 255\n" + SAMPLES, ""),
    ("pnm", b"P6\n# by hand\n5 4\n255\n" + SAMPLES, ""),
    ("pnm", b"P3 5 4 255\n" + SAMPLES, "not a binary PGM, PPM or PAM"),
    ("pnm", b"P6 5 4\n" + SAMPLES, "not a binary PGM, PPM or PAM"),
    ("pnm", b"P6 5 -4 255\n" + SAMPLES, "not a binary PGM, PPM or PAM"),
    ("pnm", pam() + SAMPLES, ""),
    ("pnm", pam(DEPTH=4) + SAMPLES, "with 4 channels"),
    ("pnm", pam(TUPLTYPE="RGB_ALPHA") + SAMPLES, "the tuple type is RGB_ALPHA, expected RGB"),
    ("pnm", b"P6 5 4 255\n" + SAMPLES[:-1], "1 of 60 samples are missing"),
    ("pnm", b"P5 5 4 255\n" + SAMPLES, "with 1 channels"),
    ("png", png(), ""),
    ("png", png() + b"\0", "1 bytes follow"),
    ("png", png() + png(), "bytes follow"),
    ("png", png(save_all=True, append_images=[Image.new("RGB", (5, 4))]), "animated"),
    ("png", png()[:-4], "cut short"),
    ("png", png()[:-20], "cut short"),
    ("png", png().replace(b"IHDR", b"IHDS"), "wrong checksum"),
    ("png", png("RGBA", (5, 3), SAMPLES), "with 4 channels"),
    ("png", png("L", (5, 12)), "with 1 channels"),
    ("png", png("I;16", (5, 6)), "holds 16 bits of colour type 0"),
    ("png", png("1", (40, 12)), "holds 1 bits of colour type 0"),
    ("png", png("P", (5, 12)), "of colour type 3, expected 8 bits"),
    ("png", png("RGB", (4, 5)), "the picture is 4x5"),
    ("png", b"P6 5 4 255\n" + SAMPLES, "not a PNG file"),
    ("npy", npy(PICTURE), ""),
    ("npy", npy(PICTURE) + b"\0", "1 bytes follow"),
    ("npy", npy(PICTURE)[:-1], "1 of 60 samples are missing"),
    ("npy", npy(PICTURE.astype(np.int16)), "the array is int16"),
    ("npy", npy(PICTURE.astype(np.float32)), "the array is float32"),
    ("npy", npy(np.asfortranarray(PICTURE)), "by columns"),
    ("npy", npy(PICTURE.ravel()), "has shape (60,)"),
    ("npy", npy(PICTURE[:, :, :1]), "with 1 channels"),
    ("npy", npy(PICTURE.reshape(5, 4, 3)), "the picture is 4x5"),
    ("npy", npy(np.array([{}], object)), "the array is object"),
    ("npy", b"\x93NUMPY\x01\x00", "not a NPY file"),
    ("npy", b"\x93NUMPY\x09\x00" + npy(PICTURE)[8:], "not a NPY file"),
    ("raw", SAMPLES, ""),
    ("raw", SAMPLES + b"\0", "1 bytes follow"),
    ("raw", SAMPLES[1:], "1 of 60 samples are missing"),
]


@pytest.mark.parametrize(
    ("form", "data", "trouble"),
    FILES,
    ids=[f"{form}-{n}-{trouble or 'good'}" for n, (form, _, trouble) in enumerate(FILES)],
)
def test_outputs_are_read_strictly(kit, tmp_path, form, data, trouble):
    (tmp_path / "data").write_bytes(data)
    spec = decoders.parse(f"sh -c 'cp {tmp_path / 'data'} {{output}}' {{stream}}")
    [result] = results(kit, spec, ["core/colour"], form=form)
    assert result.outcome == ("fail" if trouble else "pass")
    assert trouble in result.detail and result.exact == (not trouble)


WITH_ALPHA = tiny_kit.samples(5, 4, 4, 9)
GREY_ALPHA = WITH_ALPHA[:40]
RGBA, LA = {"DEPTH": 4, "TUPLTYPE": "RGB_ALPHA"}, {"DEPTH": 2, "TUPLTYPE": "GRAYSCALE_ALPHA"}
ALPHA_FILES = [
    (4, "pnm", pam(**RGBA) + WITH_ALPHA, ""),
    (2, "pnm", pam(**LA) + GREY_ALPHA, ""),
    (2, "pnm", pam(**LA).replace(b"P7\n", b"P7\n# by hand\n\n").replace(b" 4\n", b"\t4 \n") + GREY_ALPHA, ""),
    (4, "pnm", pam(**RGBA) + WITH_ALPHA[1:], "1 of 80 samples are missing"),
    (4, "pnm", pam(**RGBA) + WITH_ALPHA + b"\0", "1 bytes follow"),
    (4, "pnm", pam() + SAMPLES, "with 3 channels, expected 5x4 with 4"),
    (4, "pnm", pam(**LA) + WITH_ALPHA, "with 2 channels"),
    (4, "pnm", pam(**RGBA, MAXVAL=65535) + WITH_ALPHA, "the largest sample is given as 65535"),
    (4, "pnm", pam(**RGBA | {"TUPLTYPE": "RGB"}) + WITH_ALPHA, "the tuple type is RGB, expected RGB_ALPHA"),
    (4, "pnm", pam(**RGBA | {"TUPLTYPE": None}) + WITH_ALPHA, "the PAM header has no TUPLTYPE"),
    (4, "pnm", pam(**RGBA, WIDTHS=5) + WITH_ALPHA, "unknown or there twice: 'WIDTHS 5'"),
    (4, "pnm", pam(**RGBA).replace(b"WIDTH 5\n", b"WIDTH 5\nWIDTH 5\n") + WITH_ALPHA, "there twice: 'WIDTH 5'"),
    (4, "pnm", pam(**RGBA, WIDTH=-5) + WITH_ALPHA, "unknown or there twice"),
    (4, "pnm", b"P7 5 4 255\n" + WITH_ALPHA, "not a PAM file"),
    (4, "png", png("RGBA", (5, 4), WITH_ALPHA), ""),
    (2, "png", png("LA", (5, 4), GREY_ALPHA), ""),
    (4, "png", png(), "with 3 channels"),
    (4, "npy", npy(np.frombuffer(WITH_ALPHA, np.uint8).reshape(4, 5, 4)), ""),
    (2, "npy", npy(np.frombuffer(GREY_ALPHA, np.uint8).reshape(4, 5, 2)), ""),
    (4, "npy", npy(PICTURE), "with 3 channels"),
    (4, "raw", WITH_ALPHA, ""),
]


@pytest.mark.parametrize(("channels", "form", "data", "trouble"), ALPHA_FILES)
def test_alpha_is_read_strictly(tmp_path, channels, form, data, trouble):
    expect = kit_vectors.Accept(5, 4, channels, "")
    (tmp_path / "file").write_bytes(data)
    if trouble:
        with pytest.raises(OutputWrong, match=re.escape(trouble)):
            read_picture(tmp_path / "file", form, expect)
    else:
        assert read_picture(tmp_path / "file", form, expect) == (WITH_ALPHA if channels == 4 else GREY_ALPHA)


@pytest.mark.parametrize("behaviour", ["good", "another-picture"])
def test_decoders_may_write_alpha(tmp_path, behaviour):
    made = [valid(f"core/{c}", 5, 4, c, 9) for c in (2, 4)]
    suite = suites.load(write_suite(tmp_path, "core", made))
    found = run_all(suite.vectors, decoders.parse(command(tmp_path, behaviour)), Options(limits=QUICK))
    assert [r.outcome for r in found] == ["pass" if behaviour == "good" else "fail"] * 2
    assert behaviour == "good" or "another picture" in found[1].detail


# Templates and models


def test_templates_are_checked(tmp_path):
    for text, says in [
        ("cp {stream}", "{output} is missing"),
        ("cp {output}", "{stream} is missing"),
        ("cp {stream} {output} {x}", "unknown {x}; there are {model}, {output}, {stream}, {threads}, {trace}"),
        ("cp '{stream} {output}", "No closing quotation"),
        ("no-such-program {stream} {output}", "no program 'no-such-program'"),
        ("python:module", "expected python:package.module:function"),
        ("python:module:f(x)", "expected python:package.module:function"),
    ]:
        with pytest.raises(UsageError) as error:
            decoders.parse(text)
        assert says in str(error.value)
    with pytest.raises(UsageError, match=r"unknown \{x\}"):
        decoders.parse("cp {stream} {output}", "--model {x}")
    spec = decoders.parse("cp {stream} {output}", "-m {model}", "-t {trace}")
    assert os.path.isabs(spec.command[0]) and spec.command[1:] == ("{stream}", "{output}")
    assert spec.model_words == ("-m", "{model}") and spec.trace_words == ("-t", "{trace}")
    assert decoders.filled(("a{stream}b{model}", "{model}"), {"stream": Path("/x y"), "model": None}) == ("a/x yb", "")


def test_models_are_given_where_there_are_some(kit, tmp_path):
    told = tmp_path / "told"
    template = f"sh -c 'echo $* >> {told}' sh {{stream}} {{output}}"
    results(kit, decoders.parse(template, "--model {model}"))
    assert told.read_text().count(f"--model {kit.resolve() / 'models/toy.h5'}") == 3
    told.unlink()
    results(kit, decoders.parse(f"{template} <{{model}}>"), spare=Path("/any"))
    assert told.read_text().count("</any>") == 2 and told.read_text().count("toy.h5>") == 3


def test_the_spare_model_is_the_smallest_sound_one(tmp_path):
    """Of models with which segments are decoded; those that must be refused are none."""
    sizes = {"broken": b"x", "small": b"ab", "large": b"abc", "edited": b"abcd"}
    write_suite(tmp_path, "more", [valid("more/a", 1, 1, 1, 1)])
    entries = {}
    for name, data in sizes.items():
        (tmp_path / "models" / f"{name}.h5").write_bytes(data)
        entries[name] = {"fingerprint": "0" * 32, "file": f"../../models/{name}.h5", "sha256": sha256(data)}
    entries["edited"] |= {"edits": [[0, 4, ""]], "edited": sha256(b"")}
    made = [valid("core/l", 2, 2, 3, 1, model="large"), valid("core/n", 2, 2, 3, 1, model=None)]
    for name, phase in (("broken", "model"), ("small", "entropy"), ("edited", "model")):
        vector, stream = invalid(f"core/{name}", "ModelError", phase=phase)
        made.append((vector | {"model": name}, stream))
    path = write_suite(tmp_path, "core", made, models=entries)
    core = suites.load(path)
    assert models.spare([core]) == tmp_path.resolve() / "models/small.h5"
    told = tmp_path / "told"
    words = f"sh -c 'echo $* >> {told}' sh {{stream}} {{output}} <{{model}}>"
    assert cli.main(["run", "--decoder", words, "--kit", str(tmp_path), "--suite", "core", "--id", "core/n"]) == 1
    assert "small.h5>" in told.read_text()
    assert (
        cli.main(["run", "--decoder", words.replace(" <{model}>", ""), "--kit", str(tmp_path), "--id", "core/n"]) == 1
    )
    assert "small.h5>" not in told.read_text().splitlines()[-1]


def test_vectors_without_their_model_are_skipped(tmp_path):
    made = {"fingerprint": "1" * 32, "procedural": {"profile": "tiny", "seed": 3}}
    suite = suites.load(write_suite(tmp_path, "core", [valid("core/a", 2, 2, 3, 1)], models={"toy": made}))
    spec = decoders.parse(command(tmp_path, "good"))
    [result] = run_all(suite.vectors, spec, Options())
    assert result.outcome == "skipped" and result.seen == ""
    assert "model 'toy' is absent; --models DIR --make-models" in result.detail
    (tmp_path / "toy.h5").write_bytes(b"made")
    [result] = run_all(suite.vectors, spec, Options(models=(tmp_path,)))
    assert result.outcome == "pass"


def test_absent_models_are_made(tmp_path, monkeypatch):
    made = {"fingerprint": "1" * 32, "procedural": {"profile": "tiny", "seed": 3}}
    suite = suites.load(write_suite(tmp_path, "core", [valid("core/a", 2, 2, 3, 1)], models={"toy": made}))
    model, path = suite.models["toy"], tmp_path / "toy.h5"
    assert models.recipe(model, path)[-8:] == (
        "model",
        "procedural",
        "--profile",
        "tiny",
        "--seed",
        "3",
        str(path),
        "--json",
    )
    told = '{"fingerprint": "%s"}'
    for script, error, says in [
        (f"echo '{told % ('1' * 32)}'", None, ""),
        ("echo why >&2; exit 69", UsageError, "why"),
        (f"echo '{told % ('2' * 32)}'", SuiteDamaged, "was made with fingerprint 2222"),
    ]:
        monkeypatch.setattr(models, "recipe", lambda model, path, s=script: ("/bin/sh", "-c", f"touch {path}; {s}"))
        path.unlink(missing_ok=True)
        if error:
            with pytest.raises(error, match=says):
                models.make_absent(suite.vectors, [tmp_path])
            continue
        models.make_absent(suite.vectors, [tmp_path])
        assert path.exists()
    monkeypatch.setattr(models, "make", None)
    models.make_absent(suite.vectors, [tmp_path])


def test_only_the_pinned_model_is_taken(tmp_path):
    entry = {"fingerprint": "1" * 32, "package": "conformance/kit/clauses.json", "sha256": sha256(b"model")}
    suite = suites.load(write_suite(tmp_path, "core", [valid("core/a", 2, 2, 3, 1)], models={"toy": entry}))
    model = suite.models["toy"]
    assert models.locate(model) is None
    assert "SHA-256" in models.absence(model)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "toy.h5").write_bytes(b"other")
    assert models.locate(model, [tmp_path / "a"]) is None
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "toy.h5").write_bytes(b"model")
    assert models.locate(model, [tmp_path / "a", tmp_path / "b"]) == tmp_path / "b" / "toy.h5"


def test_models_are_found_in_packages():
    data = suites.KIT.parent / "kit" / "clauses.json"
    model = kit_vectors.Model(
        "clauses", "0" * 32, sha256=suites.file_hash(data), package="conformance/kit/clauses.json"
    )
    assert models.locate(model) == data
    absent = kit_vectors.Model("x", "0" * 32, sha256="0" * 64, package="no_such_package/x.h5")
    assert models.locate(absent) is None


def test_edited_models_are_copied_once_by_many_threads(tmp_path, monkeypatch):
    folders = [tmp_path / str(n) for n in range(8)]
    for folder in folders:
        folder.mkdir()
        (folder / "toy.h5").write_bytes(b"a model")
    made = iter(folders)

    class Slow:  # a folder whose making takes long enough for every thread to miss it
        def __init__(self, prefix):
            time.sleep(0.05)
            self.name = str(next(made))

    monkeypatch.setattr(models, "TemporaryDirectory", Slow)
    monkeypatch.setattr(models, "_copies", cache(models._copies.__wrapped__))  # this process's own folder stays
    entry = {"edits": ((2, 2, b"oo"), (7, 0, b"!")), "edited": sha256(b"a oodel!")}
    model = kit_vectors.Model("toy", "1" * 32, sha256=sha256(b"a model"), **entry)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda folder: models.locate(model, [folder]), folders))
    assert [path.parent for path in found] == folders[:1]
    assert [path.read_bytes() for path in found] == [b"a oodel!"]


# Differences


def test_differences_are_told_and_drawn(tmp_path, kit):
    reference = decoders.parse(command(tmp_path, "good"))
    found, _ = run(kit, tmp_path, "another-picture", reference=reference)
    assert found[0].detail == (
        "another picture: 1 of 60 samples differ, by at most 4; first at row 0, column 1, "
        "channel 2: expected 44, got 40"
    )
    assert found[0].difference is not None and found[0].difference.count == 1
    picture = np.asarray(Image.open(io.BytesIO(found[0].heat_map)))
    assert picture.shape == (4 * 25, 5 * 25, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 2
    assert np.argwhere(picture[::25, ::25].sum(axis=2) > picture.sum(axis=2).min()).tolist() == [[0, 1]]


def test_the_largest_difference_need_not_be_the_first():
    expect = kit_vectors.Accept(3, 1, 1, "")
    assert difference(bytes([7, 10, 250]), bytes([7, 11, 5]), expect) == Difference(2, 3, 245, 0, 1, 0, 10, 11)
    assert difference(b"abc", b"abc", expect) is None


def test_a_reference_that_is_wrong_is_not_believed(tmp_path, kit):
    for behaviour in ("black", "truncated", "refuses-all"):
        reference = decoders.parse(command(tmp_path, behaviour))
        [result], _ = run(kit, tmp_path, "another-picture", "core/colour", reference=reference)
        assert result.difference is None and result.detail == "another picture" and not result.heat_map


@pytest.fixture(scope="module")
def whole():
    """Lines of a whole trace."""
    return tiny_trace().read_text().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("damage", "checked", "outcome", "grade"),
    [(False, True, "pass", "whole"), (True, True, "fail", "differs"), (True, False, "pass", "")],
)
def test_a_wrong_trace_fails_a_run_that_checks_traces(tmp_path, whole, damage, checked, outcome, grade):
    [place] = [n for n, line in enumerate(whole) if '"z_hat"' in line]
    damaged = re.sub(r"[0-9a-f]{64}", "0" * 64, whole[place])
    written = [*whole[:place], damaged, *whole[place + 1 :]] if damage else whole
    vector, stream = valid("core/a", 5, 4, 3, 9, trace="".join(written))
    path = write_suite(
        tmp_path, "core", [(vector | {"trace": "a.jsonl"}, stream)], files={"a.jsonl": sha256("".join(whole).encode())}
    )
    (path.parent / "a.jsonl").write_text("".join(whole))
    spec = decoders.parse(command(tmp_path, "good"), "", "--trace {trace}")
    [result] = run_all(suites.load(path).vectors, spec, Options(limits=QUICK, traces=checked))
    assert (result.outcome, result.exact, result.trace) == (outcome, True, grade)
    assert result.detail == ("the picture is right, but the trace differs" if outcome == "fail" else "")


def test_the_suite_s_own_picture_serves_too(tmp_path):
    vector, stream = valid("core/a", 5, 4, 3, 9)
    vector["picture"] = "a.png"
    path = write_suite(tmp_path, "core", [(vector, stream)], files={"a.png": sha256(png())})
    (path.parent / "a.png").write_bytes(png())
    suite = suites.load(path)
    [result] = run_all(suite.vectors, decoders.parse(command(tmp_path, "another-picture")), Options(limits=QUICK))
    assert result.difference is not None and result.difference.largest == 4
