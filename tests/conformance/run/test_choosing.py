"""Which vectors run, in which order, and when a run stops; what the reports say about the command."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import jsonschema
import pytest
import tiny_kit
from tiny_kit import command, invalid, valid, write_suite
from toy_server import server

from conformance import cli
from conformance.kit import suites
from conformance.run import decoders, order, report_html, report_text
from conformance.run.engine import Options, Result, run_all
from conformance.run.process import Limits, NotStarted
from conformance.run.report import Run, alike, build, nearest_traced
from conformance.run.system import system_facts

SCHEMA = json.loads((Path(cli.__file__).parent / "run" / "report.schema.json").read_text())
LIMITS = Limits(20.0, 1 << 30, 4 << 20)
PYTHON = f"{shlex.quote(sys.executable)} -S -E"


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit with two suites: three valid and two invalid streams."""
    return tiny_kit.tiny_kit(tmp_path_factory.mktemp("kit"))


def run(kit, tmp_path, behaviour, *more):
    """Exit code and JSON report of a run."""
    path = tmp_path / "report.json"
    words = ["run", "--kit", str(kit), "--decoder", command(tmp_path, behaviour), "--json", str(path), *more]
    code = cli.main(words)
    report = json.loads(path.read_text())
    jsonschema.validate(report, SCHEMA)
    return code, report


def outcomes(report):
    return {v["id"]: v["outcome"] for v in report["vectors"]}


# Order


def test_the_cheapest_run_first_and_kinds_by_turns(tmp_path):
    made = [valid(f"core/{n}", n, 1, 3, 1) for n in (90, 20, 50)]
    made += [invalid(f"core/{'x' * n}") for n in (40, 1)]
    made += [valid("core/none", 30, 1, 3, 1, model=None)]
    vectors = suites.load(write_suite(tmp_path, "core", made)).vectors
    (tmp_path / "models" / "toy.h5").write_bytes(bytes(1000))
    places = order.cheapest_first(vectors)
    assert [vectors[n].id for n in places] == [
        *("core/none", "core/x", "core/20", f"core/{'x' * 40}"),
        *("core/50", "core/90"),
    ]
    assert order.cost(vectors[0]) == len(vectors[0].read()) + 270 + 1000


def test_absent_models_are_the_dearest(tmp_path):
    made = {"fingerprint": "1" * 32, "procedural": {"profile": "tiny", "seed": 3}}
    vectors = [valid("core/made", 1, 1, 1, 0), valid("core/none", 900, 900, 3, 1, model=None)]
    vectors = suites.load(write_suite(tmp_path, "core", vectors, models={"toy": made})).vectors
    assert order.cheapest_first(vectors) == [1, 0]


def test_mixed_orders_depend_on_ids_and_seed_alone(kit):
    vectors = suites.select(suites.load_all(kit), suites.Selection())
    orders = {seed: [vectors[n].id for n in order.mixed(vectors, seed)] for seed in range(9)}
    turned = vectors[::-1]
    assert all(orders[seed] == [turned[n].id for n in order.mixed(turned, seed)] for seed in orders)
    assert all(sorted(ids) == sorted(v.id for v in vectors) for ids in orders.values())
    assert len(set(map(tuple, orders.values()))) > 4


# Stopping


def test_a_run_stops_after_enough_failures(kit, tmp_path, capsys):
    code, report = run(kit, tmp_path, "black", "-x")
    assert code == 1 and list(outcomes(report).values()).count("fail") == 1
    assert outcomes(report)["core/dot"] == "fail" and report["vectors"][0]["detail"] == order.ENOUGH
    assert f"core/colour and 1 more: skipped: {order.ENOUGH}" in capsys.readouterr().out
    code, report = run(kit, tmp_path, "black", "--max-failures", "2")
    assert code == 1 and list(outcomes(report).values()).count("fail") == 2
    code, report = run(kit, tmp_path, "black", "--max-failures", "4")
    assert list(outcomes(report).values()).count("fail") == 3 and outcomes(report)["invalid/two"] == "pass"


def test_known_failures_are_not_enough(kit, tmp_path, capsys):
    base = tmp_path / "base.txt"
    base.write_text("fail core/dot\ncrash core/grey\n")
    code, report = run(kit, tmp_path, "black", "-x", "--baseline", str(base))
    assert code == 1 and outcomes(report)["core/dot"] == "fail" == outcomes(report)["core/grey"]
    assert outcomes(report)["core/colour"] == "skipped"
    assert cli.main(["run", "--decoder", "x", "-x", "--write-baseline", str(base)]) == 2
    assert "would know too few failures" in capsys.readouterr().err


# What failed, and what is left out


def test_what_failed_runs_again(kit, tmp_path, capsys):
    before = tmp_path / "before.json"
    _, report = run(kit, tmp_path, "another-picture")
    before.write_text(json.dumps(report))
    code, report = run(kit, tmp_path, "good", "--failed", str(before))
    assert code == 0 and list(outcomes(report)) == ["core/colour", "core/grey", "core/dot"]
    before.write_text(json.dumps(report))
    assert cli.main(["run", "--kit", str(kit), "--decoder", "true {stream} {output}", "--failed", str(before)]) == 4
    assert "and --failed" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"vectors": [{}]}', '{"vectors": [1]}', '{"vectors": [{"id": 1}]}'])
def test_only_reports_say_what_failed(kit, tmp_path, capsys, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    assert cli.main(["run", "--kit", str(kit), "--decoder", "true {stream} {output}", "--failed", str(path)]) == 2
    assert capsys.readouterr().err == f"conformance: error: {path}: not a report of run --json\n"
    words = ["run", "--kit", str(kit), "--decoder", "true {stream} {output}", "--failed", str(tmp_path / "none")]
    assert cli.main(words) == 2 and "No such file" in capsys.readouterr().err


def test_vectors_may_be_excluded(kit, tmp_path, capsys):
    _, report = run(kit, tmp_path, "good", "--exclude", "core/g*", "--exclude", "*/two")
    assert list(outcomes(report)) == ["core/colour", "core/dot", "invalid/crc"]
    assert cli.main(["list", "--kit", str(kit), "--vectors", "--exclude", "core/*"]) == 0
    listed = capsys.readouterr().out
    assert "invalid/crc" in listed and "core/grey" not in listed


# Decoders that cannot be started


def many(folder):
    """A kit with ten valid and ten invalid streams."""
    write_suite(folder, "core", [valid(f"core/{n}", 2, 2, 3, n) for n in range(10)])
    write_suite(folder, "invalid", [invalid(f"invalid/{n}") for n in range(10)])
    return folder


def test_a_wrong_command_is_one_message(tmp_path, capsys):
    """Not twenty crashes; a temporary name in the message does not make them different."""
    kit, told = many(tmp_path / "kit"), tmp_path / "told"
    words = f"sh -c 'echo >> {told}; echo usage: mydec INPUT, not $0 >&2; exit 2' {{stream}} {{output}}"
    assert cli.main(["run", "--kit", str(kit), "--decoder", words]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == (
        "conformance: error: the decoder ended 8 of 8 times with exit code 2; usage: mydec INPUT, not "
        "FOLDER/stream.loclic; it did nothing else, so the command is taken to be wrong\n"
    )
    assert told.read_text().count("\n") < 12


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo $0 >&2; kill -9 $$", "crash"),  # a signal is a crash
        ("echo CoderError >&2; exit 65", "fail"),
        ("exit 69", "not-supported"),
        ("grep -q JSON $0 && exit 65; echo usage >&2; exit 2", "crash"),  # it refuses what is invalid
        ("wc -c < $0 >&2; exit 2", "crash"),  # its messages differ
    ],
)
def test_decoders_that_were_started_are_judged_vector_by_vector(tmp_path, script, found):
    vectors = suites.select(suites.load_all(many(tmp_path / "kit")), suites.Selection())
    script = script.replace("wc -c", "cat")
    results = run_all(vectors, decoders.parse(f"sh -c '{script}' {{stream}} {{output}}"), Options(limits=LIMITS))
    assert found in {r.outcome for r in results} and len(results) == 20


def test_a_few_equal_crashes_are_crashes(tmp_path):
    kit = many(tmp_path / "kit")
    wanted = suites.Selection(ids=("core/[0-6]",))
    vectors = suites.select(suites.load_all(kit), wanted)
    spec = decoders.parse("sh -c 'exit 2' {stream} {output}")
    assert {r.outcome for r in run_all(vectors, spec, Options(limits=LIMITS))} == {"crash"} and len(vectors) == 7
    vectors = suites.select(suites.load_all(kit), suites.Selection(ids=("core/*",)))
    with pytest.raises(NotStarted, match="8 of 8 times with exit code 2"):
        run_all(vectors, spec, Options(limits=LIMITS))


def test_a_decoder_is_tried_on_every_kind_before_its_command_is_called_wrong(kit):
    vectors = suites.select(suites.load_all(kit), suites.Selection())
    good, bad = vectors[0], vectors[-1]
    watcher = order.Watcher(vectors, None, lambda name, outcome: False)
    for _ in range(20):
        watcher.look(bad, "crash", "exit code 2")
        watcher.look(good, "skipped", "its model is absent")
    with pytest.raises(NotStarted, match="21 of 21 times with exit code 2"):
        watcher.look(good, "crash", "exit code 2")
    watcher = order.Watcher(vectors, None, lambda name, outcome: False)
    watcher.look(good, "pass", "")
    for _ in range(20):
        watcher.look(bad, "crash", "exit code 2")


# Threads


@pytest.mark.parametrize(
    ("decoder", "more", "words"),
    [
        ("{stream} {output}", ("--threads", "3", "--threads-arg", "--jobs {threads}"), "--jobs 3"),
        ("{stream} {output} --jobs={threads}", ("--threads", "5"), "--jobs=5"),
        ("{stream} {output}", ("--threads-arg=-j {threads}",), ""),
    ],
)
def test_the_number_of_threads_is_passed_on(kit, tmp_path, decoder, more, words):
    told = tmp_path / "told"
    cli.main(["run", "--kit", str(kit), "--decoder", f"sh -c 'echo $3 $4 >> {told}' sh {decoder}", *more])
    assert set(told.read_text().splitlines()) == {words}


@pytest.mark.parametrize(
    ("decoder", "more"),
    [
        ("true {stream} {output}", ("--threads", "3")),
        ("true {stream} {output} {threads}", ()),
        ("true {stream} {output}", ("--threads", "3", "--threads-arg=-j 3")),
    ],
)
def test_threads_need_a_place(kit, capsys, decoder, more):
    assert cli.main(["run", "--kit", str(kit), "--decoder", decoder, *more]) == 2
    assert "--threads and {threads} need each other" in capsys.readouterr().err


def test_callables_get_the_number_of_threads(kit, tmp_path, monkeypatch):
    text = "def decode(stream, model, threads=1):\n    raise NotImplementedError(str(threads))\n"
    (tmp_path / "threaded.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    vectors = suites.select(suites.load_all(kit), suites.Selection(ids=("core/dot",)))
    for threads in (None, 3):
        spec = decoders.parse("python:threaded:decode", threads=threads)
        [result] = run_all(vectors, spec, Options(limits=Limits(20.0, 2 << 30)))
        assert result.detail == f"NotImplementedError: {threads}"


# Models


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("kind", ["template", "callable", "server"])
def test_a_decoder_may_always_get_a_model(kit, tmp_path, monkeypatch, kind, always):
    told = tmp_path / "told"
    monkeypatch.setenv("TOLD", str(told))
    (tmp_path / "telling.py").write_text(
        "import os\n\n\ndef decode(stream, model):\n"
        "    open(os.environ['TOLD'], 'a').write(f'{model}\\n')\n    raise NotImplementedError\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command_of = {
        "template": ("--decoder", f"sh -c 'echo $3 >> {told}' sh {{stream}} {{output}}", "--model-arg", "{model}"),
        "callable": ("--decoder", "python:telling:decode"),
        "server": ("--serve", server(tmp_path, "good")),
    }
    words = ["run", "--kit", str(kit), *command_of[kind], *(["--always-model"] if always else [])]
    assert cli.main(words) in (0, 1, 4)
    assert told.read_text().count("toy.h5") == (5 if always else 3) and told.read_text().count("\n") == 5


# What reports say


def a_run(results, **more):
    """A report of results."""
    return build(Run("decoder", "mydec", (), results, Options(), {}, "2026-01-01", 1.0, system_facts(), **more))


def vectors_of(folder, made):
    return suites.load(write_suite(folder, "core", made)).vectors


def test_the_command_line_repeats_the_run(kit, tmp_path, capsys):
    _, report = run(kit, tmp_path, "good", "--id", "core/d*", "--exclude", "a b")
    first, *words = shlex.split(report["command_line"])
    assert first == "python" and words[:3] == ["-m", "conformance", "run"] and words[-1] == "a b"
    before = (tmp_path / "report.json").read_text()
    assert cli.main(words[2:]) == 0
    again = json.loads((tmp_path / "report.json").read_text())
    assert outcomes(again) == outcomes(json.loads(before)) == {"core/dot": "pass"}


def test_a_decoder_that_always_wants_a_model_is_told_how(tmp_path):
    made = [invalid(f"core/{n}") for n in range(3)] + [valid("core/a", 1, 1, 3, 0)]
    vectors = vectors_of(tmp_path, made)
    ends = [Result(v, "crash", "exit code 2; --model is missing", seen="crash") for v in vectors[:3]]
    report = a_run([*ends, Result(vectors[3], "pass", seen="accepted")], some_models=True)
    [line] = report["advice"]
    assert line.startswith("all 3 vectors without a model ended with exit code 2; --model is missing; a decoder that")
    assert line in report_text.render(report) and "--always-model" in report_html.render(report)
    assert a_run(ends)["advice"] == [] == a_run(ends[:2], some_models=True)["advice"]
    other = [*ends, Result(vectors[0], "pass", seen="refused")]
    assert a_run(other, some_models=True)["advice"] == []
    passes = [Result(v, "pass", seen="refused") for v in vectors[:3]]
    assert a_run(passes, some_models=True)["advice"] == []


def test_failures_without_a_trace_are_referred_to_one_with_a_trace(tmp_path):
    entry = tiny_kit.toy_model()
    models = {"toy": entry, "like": entry | {"profiles": ["tiny"]}, "far": entry | {"profiles": ["tiny", "full"]}}
    made = [valid(f"core/{n}", 2 + n, 2, 3, n, model=m) for n, m in enumerate(("toy", "toy", "toy", "like", "far"))]
    made.append(invalid("core/x"))
    for vector, _ in made[1:5]:
        vector["trace"] = "t.jsonl"
    made[2][0]["clauses"] = ["5.3-2", "5.3-3"]
    made[0][0]["clauses"] = ["5.3-3"]
    path = write_suite(tmp_path, "core", made, models=models, files={"t.jsonl": tiny_kit.sha256(b"")})
    a, b, c, like, far, refused = suites.load(path).vectors
    assert nearest_traced(a, [b, c, like, far]) == "core/2"  # more clauses
    assert nearest_traced(a, [far, like]) == "core/3"  # the cheaper one; neither has its model or profiles
    assert nearest_traced(a, [like, b]) == "core/1"  # its model
    assert [nearest_traced(v, [c]) for v in (b, refused)] == ["core/1", ""] and nearest_traced(a, []) == ""
    report = a_run([Result(a, "fail", "another picture")], traced=[b, c])
    assert report["vectors"][0]["try_trace_of"] == "core/2"
    says = "python -m conformance bisect --vector core/2"
    assert f"    with a trace: {says}\n" in report_text.render(report) and says in report_html.render(report)
    for result in (Result(a, "pass"), Result(a, "skipped"), Result(a, "fail", divergence=("first difference: g_s/1",))):
        assert a_run([result], traced=[b])["vectors"][0]["try_trace_of"] == ""


def test_equal_failures_are_one_line_and_equal_hints_are_said_once(tmp_path):
    vectors = vectors_of(tmp_path, [valid(f"core/{n}", 2, 2, 3, n) for n in range(6)])
    details = ["one", "two", "one", "three", "one"]
    results = [Result(v, "fail", d) for v, d in zip(vectors, details, strict=False)] + [
        Result(vectors[5], "crash", "one")
    ]
    text = report_text.render(a_run(results))
    assert text.startswith(
        "core/0 and 2 more: fail: one\ncore/1: fail: two\ncore/3: fail: three\ncore/5: crash: one\n"
        "    suggests: that the toy is broken\n\n"
    )
    page = report_html.render(a_run(results))
    assert page.count("<tr data-") == 4 and 'data-count="3"' in page and page.count("A failure suggests") == 4
    assert '<span class="id">core/0</span> and 2 more' in page and 'Also <span class="id">core/2</span>' in page
    passes = [Result(v, "pass") for v in vectors]
    assert [len(group) for group in alike(a_run(passes)["vectors"])] == [1] * 6


def test_clause_numbers_are_not_broken():
    text = report_html.marked("see SPEC 5.7-1, B.1-2..4 & 12.2, not 2026-01-01 <x>")
    assert text == (
        'see SPEC <span class="clause">5.7-1</span>, <span class="clause">B.1-2..4</span> &amp; 12.2, not '
        "2026-01-01 &lt;x&gt;"
    )
