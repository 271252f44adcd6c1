"""Decoders that serve many streams with one process: the protocol, and what is left over from earlier streams."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny_kit
from parts import one_in
from tiny_kit import sha256, valid, write_suite
from toy_server import server

from conformance import cli
from conformance.kit import suites
from conformance.kit.errors import UsageError
from conformance.run import decoders
from conformance.run.engine import Options, gather, run_all
from conformance.run.process import Limits

LIMITS = Limits(20.0, 1 << 30, 4 << 20)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit with two suites: three valid and two invalid streams."""
    return tiny_kit.tiny_kit(tmp_path_factory.mktemp("kit"))


def run(kit, folder, behaviour, threads=None, **options):
    """Results of a server that behaves so, by id."""
    vectors = suites.select(suites.load_all(kit), suites.Selection())
    options.setdefault("limits", LIMITS)
    found = run_all(vectors, decoders.parse_server(server(folder, behaviour), threads), Options(**options))
    assert [r.vector.id for r in found] == [v.id for v in vectors]
    return {r.vector.id: r for r in found}


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_a_good_server_passes(kit, tmp_path, jobs):
    found = run(kit, tmp_path, "good", jobs=jobs)
    assert {r.outcome for r in found.values()} == {"pass"}
    assert found["core/colour"].exact and found["invalid/crc"].error == "ChecksumError"


def requests(kit, folder, monkeypatch, **options):
    """Requests that a good server received, in order."""
    told = folder / "told"
    told.unlink(missing_ok=True)
    monkeypatch.setenv("TOLD", str(told))
    run(kit, folder, "good", **options)
    return [json.loads(line) for line in told.read_text().splitlines()]


def test_one_process_gets_all_streams_in_an_order_that_the_seed_mixes(kit, tmp_path, monkeypatch):
    asked = requests(kit, tmp_path, monkeypatch, threads=3)
    assert [r["id"] for r in asked] == [1, 2, 3, 4, 5] and {r["threads"] for r in asked} == {3}
    assert sum(r["model"] is None for r in asked) == 2 and {r["trace"] for r in asked} == {None}
    assert all(set(r) == {"id", "stream", "model", "output", "trace", "threads"} for r in asked)
    kinds = {
        tuple(bool(r["model"]) for r in requests(kit, tmp_path, monkeypatch, seed=seed)) for seed in (1, 1, 2, 3, 4)
    }
    assert len(kinds) > 1
    again = requests(kit, tmp_path, monkeypatch)
    assert [bool(r["model"]) for r in again] == [bool(r["model"]) for r in asked]


def test_streams_are_dealt_to_processes_so_that_a_run_can_be_repeated():
    threads: dict[int, set[int]] = {}

    def work(item):
        time.sleep(0.1 * (item == 0))  # meanwhile the other threads are free
        threads.setdefault(threading.get_ident(), set()).add(item)
        return item

    assert gather(range(9), work, 3, threading.Event(), lambda result: None, str, dealt=True) == list(range(9))
    assert sorted(map(sorted, threads.values())) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


# What is left over


def several(folder, **more):
    """A kit with pictures of many sizes and two models."""
    made = [valid(f"core/{n}", 2 + n % 3, 2 + n % 4, 3, 9 * n, model=("toy", "other")[n % 2]) for n in range(12)]
    entry = tiny_kit.toy_model()
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "other.h5").write_bytes(b"another model")
    other = entry | {"file": "../../models/other.h5", "sha256": sha256(b"another model")}
    write_suite(folder, "core", made, models={"toy": entry, "other": other})
    write_suite(folder, "invalid", [tiny_kit.invalid(f"invalid/{n}") for n in range(4)])
    return folder


@pytest.mark.parametrize("behaviour", ["keeps-buffer", "keeps-model", "keeps-refusal", "keeps-size"])
def test_what_is_left_over_from_earlier_streams_fails(tmp_path, behaviour):
    found = run(several(tmp_path / "kit"), tmp_path, behaviour)
    failed = [r for r in found.values() if r.outcome != "pass"]
    assert failed and {r.outcome for r in failed} == {"fail"}
    for result in failed:
        says = re.search(
            r"; a new process decodes it rightly, so something was left over; the stream before was (.+)$",
            result.detail,
        )
        assert says and says[1] in found and says[1] != result.vector.id
    assert {r.outcome for r in run(tmp_path / "kit", tmp_path, "good").values()} == {"pass"}


def test_a_fault_that_needs_no_earlier_stream_is_not_blamed_on_one(kit, tmp_path, monkeypatch):
    """Nor is the first stream of a process decoded twice: there is nothing that could be left over."""
    program, told = server(tmp_path, "good"), tmp_path / "told"
    (tmp_path / "server.py").write_text((tmp_path / "server.py").read_text().replace("7 * n", "8 * n"))
    spec = decoders.parse_server(program)
    found = run_all(suites.select(suites.load_all(kit), suites.Selection()), spec, Options(limits=LIMITS))
    assert [r.detail for r in found if r.outcome == "fail"] == ["another picture"] * 3
    monkeypatch.setenv("TOLD", str(told))
    found = run_all(suites.load_all(kit, ["core"])[0].vectors, spec, Options(limits=LIMITS))
    assert [r.outcome for r in found] == ["fail"] * 3 and told.read_text().count("\n") == 3


def test_a_trace_that_is_left_over_fails_a_run_that_checks_traces(tmp_path):
    [traced] = {v.trace for v in suites.load_all(names=["core"])[0].vectors if v.id == TRACED}
    text = traced.read_text()
    made = []
    for n in range(2):
        vector, stream = valid(f"core/{n}", 5, 4, 3, n, trace=text)
        made.append((vector | {"trace": "a.jsonl"}, stream))
    kit = tmp_path / "kit"
    path = write_suite(kit, "core", made, files={"a.jsonl": sha256(text.encode())})
    (path.parent / "a.jsonl").write_text(text)
    assert {r.outcome for r in run(kit, tmp_path, "good", traces=True).values()} == {"pass"}
    found = run(kit, tmp_path, "keeps-trace", traces=True)
    [failed] = [r for r in found.values() if r.outcome != "pass"]
    assert failed.detail.startswith("the picture is right, but ") and "something was left over" in failed.detail
    assert {r.outcome for r in run(kit, tmp_path, "keeps-trace").values()} == {"pass"}


TRACED = "core/coded-tiny-7-scene-q060"


# Servers that break


def brief(behaviour):
    """Limits that what never ends runs into soon, and nothing else on a busy machine."""
    return Limits(3.0 if behaviour in ("hangs", "silent") else 60.0, 1 << 30, 4 << 20)


@pytest.mark.parametrize(
    ("behaviour", "outcome", "says"),
    [
        ("dies", "crash", "exit code 9; the decoder ended without an answer"),
        ("leaves", "crash", "exit code 70; the decoder ended without an answer"),
        pytest.param("hangs", "timeout", "ended after", marks=pytest.mark.slow),
        ("mumbles", "crash", 'no answer: expected a line such as {"id": 3, "exit_code": 0}, got \'done\''),
        ("answers-twice", "crash", "no answer: expected a line such as"),
        ("other-id", "crash", "the answer is for request 2, asked was 3"),
        ("internal", "crash", "exit code 70; an index is out of range"),
    ],
)
def test_a_server_that_breaks_fails_one_vector_and_is_restarted(tmp_path, behaviour, outcome, says):
    write_suite(tmp_path / "kit", "core", [valid(f"core/{n}", 2, 3, 3, n) for n in range(4)])
    found = run(tmp_path / "kit", tmp_path, behaviour, limits=brief(behaviour))
    [failed] = [r for r in found.values() if r.outcome != "pass"]
    assert failed.outcome == outcome and says in failed.detail and "something was left over" in failed.detail


@pytest.mark.parametrize("behaviour", one_in(2, ["mumbles", "hangs", "dies", "other-id"]))
def test_a_process_that_answers_wrongly_is_ended_at_once(kit, tmp_path, behaviour):
    [vector] = suites.select(suites.load_all(kit), suites.Selection(ids=("core/dot",)))
    decoder = decoders.parse_server(server(tmp_path, behaviour)).open(tmp_path)
    job = decoders.Job(vector.file, tmp_path / "output", tmp_path, limits=brief(behaviour))
    codes = [(decoder.run(job, threading.Event()).exit_code, decoder.runs) for _ in range(4)]
    assert codes[:2] == [(0, True)] * 2 and codes[2][0] != 0 and not codes[2][1] and codes[3] == (0, True)
    decoder.close()
    assert not decoder.runs


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("ends-at-once", "toy: unknown option --serve"),
        ("silent", 'it did not begin within 3 s with the line {"serves": 1}'),
        ("another-greeting", "begins with the line {\"serves\": 1}, this one with 'ready'"),
    ],
)
def test_a_server_that_does_not_greet_cannot_be_started(kit, tmp_path, behaviour, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        run(kit, tmp_path, behaviour, limits=brief(behaviour))


def test_a_server_has_no_placeholders(kit, tmp_path, capsys):
    for command in ("no-such-program --serve", "sh {stream}"):
        assert cli.main(["run", "--kit", str(kit), "--serve", command]) == 2
    says = capsys.readouterr().err
    assert "no program 'no-such-program'" in says and "unknown {stream}" in says
    assert cli.main(["run", "--kit", str(kit), "--serve", server(tmp_path, "good"), "--seed", "7"]) == 0
    with pytest.raises(SystemExit):
        cli.main(["run", "--serve", "x", "--decoder", "y"])


def test_refcodec_serves(monkeypatch):
    """The adapter, which is asked for pictures, refusals, traces and threads."""
    monkeypatch.setenv("REFCODEC_BACKEND", "numpy")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    )
    wanted = (TRACED, "core/coded-tiny-7-stone-q060", "invalid/magic-*", "invalid/cut-*")
    vectors = suites.select(suites.load_all(), suites.Selection(ids=wanted))[:12]
    spec = decoders.parse_server(shlex.join([sys.executable, "-m", "conformance.adapters"]), 1)
    found = run_all(vectors, spec, Options("npy", traces=True))
    assert {r.outcome for r in found} == {"pass"}
    assert [r.trace for r in found if r.vector.id == TRACED] == ["whole"] and {r.vector.outcome for r in found} == {
        "accept",
        "reject",
    }
