"""All that a decoder under test writes, prints, starts or leaves is its result; it never ends the run or outlives
it.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_kit
from parts import one_in
from tiny_kit import ENVIRONMENT, command, run_words, samples, valid, write_suite

from conformance import cli
from conformance.kit import suites
from conformance.kit.errors import UsageError
from conformance.kit.npy import read_header
from conformance.kit.reading import NotPlain, TooLarge, read_plain
from conformance.locate.traces import TraceError, read_npy, read_trace
from conformance.run import decoders, files, process
from conformance.run.engine import Options, run_all
from conformance.run.pictures import FORMATS, OutputWrong, read_picture
from conformance.run.process import Limits
from conformance.workbench.fuzz.outputs import CORPUS, EXPECT, damaged, fuzz

QUICK = Limits(seconds=20.0, memory=1 << 30, file=4 << 20)
LINUX = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


@pytest.fixture
def kit(tmp_path):
    return tiny_kit.tiny_kit(tmp_path / "kit")


def vectors_of(kit, *ids):
    return suites.select(suites.load_all(kit), suites.Selection(ids=ids))


def program(tmp_path, body):
    """The template of a decoder with this body, which has ``stream``, ``output`` and ``folder``."""
    path = tmp_path / "hostile.py"
    path.write_text(
        "import os, subprocess, sys, time\nstream, output = sys.argv[1:3]\n"
        "folder = os.path.dirname(output)\n" + textwrap.dedent(body)
    )
    return f"{shlex.quote(sys.executable)} -S -E {shlex.quote(str(path))} {{stream}} {{output}}"


def results(kit, text, *ids, limits=QUICK, **options):
    return run_all(vectors_of(kit, *ids), decoders.parse(text), Options(limits=limits, **options))


# What it writes


HEADERS = [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }",
    '{"shape":(2,3,),"fortran_order":False,"descr":"|u1"}  \n',
]
WRONG_HEADERS = [
    ("(" * 3000, "not a dictionary"),
    ("{" + "[" * 3000 + "}", "as it should"),
    ("{'descr': '|u1'}", "lacks"),
    ("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), 'shape': (2, 3)}", "as it should"),
    ("{'descr': '|u1', 'fortran_order': False, 'shape': (__import__('os'),)}", "as it should"),
    ("{'descr': '|u1', 'fortran_order': 0, 'shape': (2,)}", "as it should"),
    ("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}", "as it should"),
    ("{'descr': '|u1', 'fortran_order': False, 'shape': (2)}", "not a tuple"),
    ("{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999999999,)}", "larger than any file"),
    ("{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296, 0)}", "larger than any file"),
    ("{'descr': '|u1', 'fortran_order': False, 'shape': (" + "1," * 40 + ")}", "larger than any file"),
    ("{'descr': '|i3', 'fortran_order': False, 'shape': (2,)}", "unknown type"),
    ("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (2,)}", "as it should"),
]


def npy_of(header, version=1):
    text = header.encode()
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


@pytest.mark.parametrize("text", HEADERS)
def test_headers_of_npy_files_are_read(text):
    header = read_header(npy_of(text) + bytes(6))
    assert (header.shape, header.by_columns, header.dtype, header.bytes) == ((2, 3), False, np.uint8, 6)
    assert header.start == 10 + len(text) == read_header(npy_of(text, 2), (1, 2)).start - 2


@pytest.mark.parametrize(
    ("text", "says"), WRONG_HEADERS, ids=[says + f"-{n}" for n, (_, says) in enumerate(WRONG_HEADERS)]
)
def test_hostile_headers_of_npy_files_are_refused(tmp_path, text, says):
    with pytest.raises(ValueError, match=says):
        read_header(npy_of(text))
    path = tmp_path / "x.npy"
    path.write_bytes(npy_of(text) + bytes(60))
    with pytest.raises(OutputWrong, match="not a NPY file"):
        read_picture(path, "npy", EXPECT)
    with pytest.raises(TraceError):
        read_npy(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x93NUMPY\x01\x00", "does not begin"),
        (npy_of(HEADERS[0])[:-1], "cut short"),
        (b"\x93NUMPY\x01\x01" + npy_of(HEADERS[0])[8:], "version 1.1"),
        (npy_of(HEADERS[0], 2), "version 2.0, expected 1.0"),
        (b"\x93NUMPY\x01\x00\xff\xff" + bytes(70000), "at most 10000 are read"),
    ],
)
def test_beginnings_of_npy_files_are_checked(data, says):
    with pytest.raises(ValueError, match=says):
        read_header(data)


@pytest.mark.parametrize("kind", ["NULL", "|u1", "<i2", ">i4", "<i8", "fortran"])
def test_numpy_s_files_are_read_as_numpy_reads_them(tmp_path, kind):
    array = np.arange(24).reshape(2, 3, 4).astype("<i8" if kind in ("NULL", "fortran") else kind)
    array = np.asfortranarray(array) if kind == "fortran" else array
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(read_npy(tmp_path / "a.npy"), array)


def test_structured_damage_of_outputs_gives_no_other_exception():
    found = fuzz(800, seed=5)
    assert not found.wrong and sum(found.outcomes.values()) == 800
    assert all(found.outcomes[f"{kind}, refused"] > 20 for kind in CORPUS), "each kind is damaged and noticed"


def test_fuzzed_outputs_are_the_same_every_time():
    assert [damaged("png", random.Random(n)) for n in range(20)] == [
        damaged("png", random.Random(n)) for n in range(20)
    ]


@pytest.mark.parametrize("name", ["pipe", "folder", "socket", "link"])
def test_only_plain_files_are_read(tmp_path, name):
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    elif name == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(NotPlain):
        read_plain(path, 10)
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read_plain(tmp_path / "file", 10) == b"0123456789"
    with pytest.raises(TooLarge, match="10 bytes, allowed are 9"):
        read_plain(tmp_path / "file", 9)
    (tmp_path / "to-file").symlink_to("file")
    assert read_plain(tmp_path / "to-file", 10) == b"0123456789"
    with pytest.raises(NotPlain):
        read_plain(tmp_path / "to-file", 10, links=False)


def test_a_huge_sparse_output_takes_no_memory(kit, tmp_path):
    text = program(tmp_path, "os.truncate(os.open(output, os.O_CREAT | os.O_WRONLY), 1 << 40)")
    [result] = results(kit, text, "core/colour", limits=Limits(20.0, 1 << 30, 2 << 40))
    assert result.outcome == "fail" and "too large for 60 samples" in result.detail


# What it does to its folder


LEAVES = {
    "no-folder": "import shutil; shutil.rmtree(folder)",
    "no-folders": "import shutil; shutil.rmtree(os.path.dirname(os.path.dirname(folder)))",
    "no-modes": "open(output, 'wb').write(b'x'); os.chmod(folder, 0)",
    "deep": "for n in range(1500):\n    os.mkdir('d'), os.chdir('d')",
    "link-for-folder": "import shutil; shutil.rmtree(folder); os.symlink('/etc', folder)",
    "file-for-folder": "import shutil; shutil.rmtree(folder); open(folder, 'w').close()",
    "pipes": "[os.mkfifo(os.path.join(folder, n)) for n in ('a', 'b')]; os.remove(stream); os.mkfifo(stream)",
    "no-outputs": "os.remove(os.path.join(folder, 'stdout')); os.mkfifo(os.path.join(folder, 'stdout'))",
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_spoilt_folder_is_a_failure_and_leaves_nothing(kit, tmp_path, name, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    body = "os.chdir(folder)\n" + LEAVES[name]
    found = results(kit, program(tmp_path, body), *(["core/colour"] if name == "deep" else ["core/dot", "core/grey"]))
    assert {r.outcome for r in found} == {"fail"} and all(r.detail for r in found)
    assert not list(place.iterdir()) and Path("/etc/passwd").exists()


@pytest.mark.parametrize("name", ["folder", "pipe", "link", "no-modes"])
def test_a_trace_that_is_no_file_is_missing(tmp_path, name):
    make = {
        "folder": "os.mkdir(trace)",
        "pipe": "os.mkfifo(trace)",
        "link": "os.symlink('/dev/zero', trace)",
        "no-modes": "open(trace, 'w').write('{}'); os.chmod(trace, 0)",
    }[name]
    vector, stream = valid("core/a", 5, 4, 3, 9)
    path = write_suite(
        tmp_path, "core", [(vector | {"trace": "a.jsonl"}, stream)], files={"a.jsonl": tiny_kit.sha256(b"{}")}
    )
    (path.parent / "a.jsonl").write_bytes(b"{}")
    body = f"trace = sys.argv[3] if len(sys.argv) > 3 else sys.exit(0)\n{make}"
    spec = decoders.parse(program(tmp_path, body), "", "{trace}")
    [result] = run_all(suites.load(path).vectors, spec, Options(limits=QUICK, traces=True))
    assert (result.outcome, result.trace) == ("fail", "missing")


@pytest.mark.parametrize("data", [b"\n" * 200_000, b'{"a":' * 60_000, b"[" * 4096, b"1" * 5000, b'"\\ud800"'])
def test_hostile_traces_are_refused(tmp_path, data):
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(TraceError):
        read_trace(tmp_path / "t")


def test_a_folder_is_removed_in_any_state(tmp_path):
    with files.scratch(tmp_path / "absent") as folder:
        assert folder.parent == tmp_path / "absent"
        (folder / "inner" / "deep").mkdir(parents=True)
        (folder / "inner" / "deep").chmod(0)
        (folder / "inner").chmod(0)
    assert not folder.exists()
    with files.scratch(tmp_path) as folder:
        folder.rmdir()
        folder.symlink_to(tmp_path / "absent")
    assert not folder.is_symlink() and (tmp_path / "absent").is_dir()


# What it starts


def alive(marker):
    """Whether a process with this word in its command runs."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
                if state != b"Z" and marker.encode() in (entry / "cmdline").read_bytes():
                    return True
            except OSError:
                continue
    return False


STARTS = {
    "session": "subprocess.Popen(sleep, start_new_session=True)",
    "daemon": "if not os.fork():\n    os.setsid()\n    if not os.fork():\n"
    "        os.execv(sleep[0], sleep)\n    os._exit(0)",
    "no-variables": "subprocess.Popen(sleep, start_new_session=True, env={}); time.sleep(0.3)",
    "many": "[subprocess.Popen(sleep, start_new_session=True) for _ in range(20)]",
    "stopped": "import signal\nos.kill(subprocess.Popen(sleep, start_new_session=True).pid, signal.SIGSTOP)",
}


@LINUX
@pytest.mark.parametrize("ends", [True, False], ids=["ends", "hangs"])
@pytest.mark.parametrize("name", one_in(3, STARTS))
def test_nothing_that_it_started_outlives_it(kit, tmp_path, name, ends):
    marker = f"3{os.getpid()}{time.monotonic_ns()}"[:15]
    body = f"sleep = ['/bin/sleep', {marker!r}]\n{STARTS[name]}\n" + ("" if ends else "time.sleep(600)\n")
    [result] = results(kit, program(tmp_path, body), "core/colour", limits=Limits(20.0 if ends else 1.0))
    assert result.outcome == ("fail" if ends else "timeout")
    assert not alive(marker)


@LINUX
def test_memory_of_processes_that_left_the_session_counts(kit, tmp_path):
    body = """
    for _ in range(4):
        if not os.fork():
            os.setsid()
            hoard = b"x" * (60 << 20)
            time.sleep(600)
    time.sleep(600)
    """
    [result] = results(kit, program(tmp_path, body), "core/colour", limits=Limits(20.0, 200 << 20))
    assert result.outcome == "out-of-memory" and "ended at" in result.detail


CALLABLE = """
import os, subprocess, sys, time
import numpy as np
def leaves(stream, model):
    subprocess.Popen(["/bin/sleep", {marker!r}], start_new_session=True)
    return np.zeros((4, 5, 3), np.uint8)
def closes(stream, model):
    os.closerange(0, 100)
    time.sleep(600)
"""


@LINUX
@pytest.mark.parametrize(("function", "outcome"), [("leaves", "fail"), ("closes", "crash")])
def test_a_callable_leaves_nothing_either(kit, tmp_path, monkeypatch, function, outcome):
    marker = f"4{os.getpid()}{time.monotonic_ns()}"[:15]
    (tmp_path / "leaver.py").write_text(CALLABLE.format(marker=marker))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(decoders, "_ENDING_SECONDS", 0.5)
    [result] = results(kit, f"python:leaver:{function}", "core/colour")
    assert result.outcome == outcome and not alive(marker)


ORPHANS = """
import os
for n in range(20):
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.setsid()
            os.execve("/bin/sleep", ["/bin/sleep", "{}"], dict())
        os._exit(0)
"""


@LINUX
@pytest.mark.parametrize("jobs", [1, 2])
def test_orphans_without_a_trace_do_not_outlive_the_run(kit, tmp_path, jobs):
    """Their parents end at once, and their session and environment are new: the runner's process adopts them."""
    marker = f"5{os.getpid()}{time.monotonic_ns()}"[:15]
    body = f"os.execve(sys.executable, [sys.executable, '-S', '-E', '-c', {ORPHANS.format(marker)!r}], {{}})"
    words = run_words(kit, program(tmp_path, body), "--id", "core/*", "-j", str(jobs))
    run = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=60)
    assert run.returncode == 1, run.stderr
    assert not alive(marker)


# Whether it starts


def test_a_decoder_that_cannot_be_started_ends_the_run_at_once(kit, tmp_path, capsys):
    def made(name, data, mode=0o755):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(mode)
        return str(tmp_path / name)

    elf = bytearray(Path(os.path.realpath(sys.executable)).read_bytes()[:4096])
    elf[18:20] = b"\xfe\xca"
    report = tmp_path / "report.json"
    for text, says in [
        (made("no-interpreter", b"#!/no/such/interpreter\n"), "cannot be started"),
        (made("other-machine", bytes(elf)), "Exec format error"),
        (made("empty", b""), "Exec format error"),
        (made("plain", b"#!/bin/sh\n", 0o644), "not executable"),
        (str(tmp_path / "absent"), "no program"),
    ]:
        code = cli.main(["run", "--kit", str(kit), "--decoder", f"{text} {{stream}} {{output}}", "--json", str(report)])
        out = capsys.readouterr()
        assert code == 2 and out.err.count("\n") == 1 and not out.out and not report.exists()
        assert says in out.err


def test_a_decoder_that_fails_on_every_vector_is_reported(kit, tmp_path):
    report = tmp_path / "report.json"
    for body in ("sys.exit(127)", "sys.stderr.write('conformance-star: x'); sys.exit(126)"):
        assert cli.main(["run", "--kit", str(kit), "--decoder", program(tmp_path, body), "--json", str(report)]) == 1
        assert json.loads(report.read_text())["summary"]["all"]["crash"] == 5


def test_a_decoder_that_removes_itself_has_crashed(kit, tmp_path):
    (tmp_path / "once").write_text('#!/bin/sh\nrm "$0"\n')
    (tmp_path / "once").chmod(0o755)
    found = results(kit, f"{tmp_path / 'once'} {{stream}} {{output}}", "core/*")
    assert {r.vector.id: r.outcome for r in found} == {
        "core/dot": "fail",  # the cheapest, which is run first
        "core/grey": "crash",
        "core/colour": "crash",
    }
    assert "cannot be started" in found[0].detail


# How the run ends


@pytest.mark.parametrize("again", [0, 1, 20], ids=["once", "twice", "often"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_writes_its_reports(tmp_path, number, again):
    write_suite(tmp_path / "kit", "core", [valid(f"core/{n}", 2, 2, 3, n) for n in range(4)])
    witness = tmp_path / "witness"
    witness.touch()
    body = f"open({str(witness)!r}, 'a').write('x')\nif os.path.getsize({str(witness)!r}) == 3:\n    time.sleep(600)"
    names = [tmp_path / f"report.{kind}" for kind in ("json", "html", "junit")]
    words = run_words(tmp_path / "kit", program(tmp_path, body), "--write-baseline", tmp_path / "baseline")
    for name in names:
        words += [f"--{name.suffix[1:]}", str(name)]
    run = subprocess.Popen(
        words,
        cwd=tmp_path,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while witness.stat().st_size < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(run.pid, number)
    for _ in range(again):
        time.sleep(0.01)
        os.kill(run.pid, number)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 130 and "interrupted: 2 of 4 vectors ran" in out
    assert all(name.exists() for name in names) and not (tmp_path / "baseline").exists()
    report = json.loads(names[0].read_text())
    assert report["exit_code"] == 130 and [e["outcome"] for e in report["vectors"]] == [
        "fail",
        "fail",
        "skipped",
        "skipped",
    ]
    assert not alive(str(tmp_path / "hostile.py")) and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ('"$@" >&-', 1),
        ('"$@" >&- 2>&-', 1),
        ('"$@" >/dev/full', 73),
        ('("$@"; echo $? >code) | true; exit $(cat code)', 74),
    ],
    ids=["closed", "both-closed", "full", "left"],
)
@LINUX
def test_an_output_that_takes_nothing_costs_no_report(kit, tmp_path, shell, code):
    words = run_words(kit, program(tmp_path, "pass"), "--id", "core/*", "--json", "report.json")
    done = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", *words],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["exit_code"] == 1
    assert "Traceback" not in done.stderr and "internal" not in done.stderr


def test_reports_hold_any_text(kit, tmp_path):
    """A command with bytes that are no UTF-8, a decoder that prints escapes, and a terminal of ASCII."""
    names = [tmp_path / f"report.{kind}" for kind in ("json", "html", "junit")]
    prints = program(tmp_path, "sys.stderr.buffer.write(b'\\x1b[31m\\xff\\xe2\\x80\\xae\\n'); sys.exit(3)")
    words = run_words(kit, prints + " \udcff")
    for name in names:
        words += [f"--{name.suffix[1:]}", str(name)]
    ascii_only = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    run = subprocess.run(words, cwd=tmp_path, env=ascii_only, capture_output=True)
    assert run.returncode == 1, run.stderr
    for data in (run.stdout, *(name.read_bytes() for name in names)):
        text = data.decode("utf-8")
        assert "\\x1b[31m" in text.replace("\\\\", "\\") and not set(text) & set("\x1b\u202e\udcff")
    assert not list(tmp_path.glob("*.part"))


def test_a_report_that_fails_leaves_nothing(tmp_path, monkeypatch):
    files.write(tmp_path / "r", "a\ud800b")
    assert (tmp_path / "r").read_bytes() == b"a\\ud800b"

    def refuse(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "r", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_an_error_of_the_runner_is_a_failure_of_its_vector(kit, tmp_path, monkeypatch):
    def broken(path, form, expect):
        raise RuntimeError("a bug\x1b")

    monkeypatch.setattr("conformance.run.engine.read_picture", broken)
    found = results(kit, command(tmp_path, "good"))
    assert [r.outcome for r in found] == ["fail", "fail", "fail", "pass", "pass"]
    assert found[0].detail == "no verdict, the runner met RuntimeError: a bug\\x1b"


def test_programs_that_were_not_found_are_told(tmp_path):
    with pytest.raises(UsageError, match="no program"):
        process.resolve(["no-such-program"])
    with pytest.raises(process.NotStarted, match="cannot be started"):
        process.run(["/no/such/program"], QUICK, tmp_path)
    with pytest.raises(process.NotStarted, match="Argument list too long"):
        process.run(["/bin/true", "x" * 200_000], QUICK, tmp_path)


def test_expected_samples_are_those_of_the_corpus():
    assert EXPECT.count == len(samples(EXPECT.width, EXPECT.height, EXPECT.channels, 0))
    assert set(CORPUS) > set(FORMATS)
