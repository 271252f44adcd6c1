"""Reports, and the command line that writes them."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as Xml

import jsonschema
import pytest
import tiny_kit
from tiny_kit import ROOT, command, run_words

from conformance import cli
from conformance.kit import errors
from conformance.kit.vectors import Vector
from conformance.run import outcomes, pictures, report_html, report_junit, report_text
from conformance.run.engine import Result
from conformance.run.report import brief
from conformance.run.run import Progress
from conformance.run.system import processor, system_facts

SCHEMA = json.loads((Path(cli.__file__).parent / "run" / "report.schema.json").read_text())


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit with two suites."""
    return tiny_kit.tiny_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture
def run(kit, tmp_path, capsys):
    """Run the command line; its exit code, text, and the reports."""

    def call(behaviour, *more):
        names = {name: tmp_path / f"report.{name}" for name in ("json", "junit", "html")}
        reports = [f"--{name}={path}" for name, path in names.items()]
        code = cli.main(["run", "--kit", str(kit), "--decoder", command(tmp_path, behaviour), *reports, *more])
        texts = {name: path.read_text() if path.exists() else "" for name, path in names.items()}
        return code, capsys.readouterr(), texts

    return call


def test_a_pass(run):
    code, printed, texts = run("good", "-j", "2")
    assert code == 0
    assert printed.err == ""
    *table, conclusion = printed.out.splitlines()
    assert table == [
        "suite    vectors  pass",
        "core           3     3",
        "invalid        2     2",
        "all            5     5",
        "",
    ]
    assert re.fullmatch(r"all 5 vectors passed \(\d+\.\d s\)", conclusion)
    report = json.loads(texts["json"])
    jsonschema.validate(report, SCHEMA)
    assert report["exit_code"] == 0 and report["summary"]["all"]["pass"] == 5
    assert report["kit"]["suites"]["core"]["vectors"] == 3
    assert report["limits"] == {"seconds": 120.0, "memory_mib": 4096, "jobs": 2}


@pytest.mark.parametrize(
    ("behaviour", "more", "code"),
    [
        ("good", (), 0),
        ("black", (), 1),
        ("accepts-all", (), 1),
        ("traceback", (), 1),
        ("unsupported", (), 3),
        ("unsupported", ("--suite", "core"), 4),
        ("good", ("--id", "nothing/*"), 4),
        ("good", ("--suite", "x"), 2),
        ("good", ("--clause", "5.3", "--expect", "reject"), 0),
        ("good", ("--with-model", "none"), 0),
        ("good", ("--baseline", "/no/such/file"), 2),
        ("good", ("--json", "/no/such/folder/x.json"), 73),
        ("black", ("--suite", "invalid"), 0),
    ],
)
def test_exit_codes(run, behaviour, more, code):
    found, printed, _ = run(behaviour, *more)
    assert found == code
    assert bool(printed.err) == (found in (2, 73) or "nothing/*" in more)
    if printed.err:
        assert printed.err.count("\n") == 1 and printed.err.startswith("conformance: error: ")


def test_a_damaged_suite_is_exit_code_5(run, kit, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(kit, copy)
    next((copy / "suites" / "core" / "streams").iterdir()).write_bytes(b"damage")
    found, printed, texts = run("good", "--kit", str(copy))
    assert found == 5 and "the manifest says" in printed.err and not texts["json"]


@pytest.mark.slow
def test_a_baseline_from_a_run_makes_the_next_one_pass(run, tmp_path):
    base = tmp_path / "base.txt"
    assert run("black", "--write-baseline", str(base))[0] == 1
    assert base.read_text() == "fail core/colour\nfail core/dot\nfail core/grey\n"
    code, printed, texts = run("black", "--baseline", str(base))
    assert code == 0 and "all 5 vectors as expected, 3 of them failing" in printed.out
    assert json.loads(texts["json"])["baseline"] == dict.fromkeys(("core/colour", "core/dot", "core/grey"), "fail")
    assert Xml.fromstring(texts["junit"]).find("testsuite").get("skipped") == "3"
    code, printed, texts = run("good", "--baseline", str(base))
    assert code == 1 and "core/colour and 2 more: pass (unexpected-pass)" in printed.out
    code, printed, _ = run("traceback", "--baseline", str(base))
    assert code == 1 and "core/colour and 2 more: crash (changed): exit code 1" in printed.out
    assert run("good", "--baseline", str(base), "--suite", "invalid")[0] == 0


def test_failures_are_told(run, tmp_path):
    code, printed, texts = run("another-picture", "--reference", command(tmp_path, "good"))
    assert code == 1
    assert "core/colour: fail: another picture: 1 of 60 samples differ, by at most 4; first at row 0" in printed.out
    assert "    suggests: that the toy is broken" in printed.out
    assert "3 of 5 vectors are not as they must be" in printed.out
    report = json.loads(texts["json"])
    jsonschema.validate(report, SCHEMA)
    first = report["vectors"][0]
    assert first["difference"]["count"] == 1 and first["heat_map"].startswith("data:image/png;base64,")
    assert first["judgement"] == "new-failure" and first["clauses"] == ["5.3-2"]


def test_hints_name_clauses_of_failures_alone(tmp_path, capsys):
    vectors = [tiny_kit.valid(f"core/{name}", 2, 2, 3, value) for name, value in (("a", 0), ("b", 1), ("c", 2))]
    for (vector, _), clauses in zip(
        vectors, (["5.2-1", "7.1-1"], ["5.2-1", "5.2-2", "5.3-1"], ["5.3-1", "9.1"]), strict=True
    ):
        vector["clauses"] = clauses
    tiny_kit.write_suite(tmp_path, "core", vectors)
    program = tmp_path / "fails.py"  # unless the first value is 1
    program.write_text(tiny_kit.DECODER.replace("samples = bytearray(", "samples = bytearray(255 * (value != 1) ^ "))
    code = cli.main(
        [
            "run",
            "--kit",
            str(tmp_path),
            "--json",
            str(tmp_path / "r.json"),
            "--decoder",
            f"{sys.executable} -S -E {program} good {{stream}} {{output}}",
        ]
    )
    report = json.loads((tmp_path / "r.json").read_text())
    assert code == 1 and [v["outcome"] for v in report["vectors"]] == ["fail", "pass", "fail"]
    assert report["suspects"] == ["7.1-1", "9.1"] and report["divergences"] == {}
    assert "clauses of failures and of no pass: 7.1-1, 9.1\n" in capsys.readouterr().out


def test_hints_name_the_first_difference_of_traces(run):
    report = json.loads(run("black")[2]["json"])
    report |= {"divergences": {"first difference: g_s/1": 2}, "suspects": [f"5.{n}" for n in range(30)]}
    assert report_text.hints(report)[0] == "traces: first difference: g_s/1, in 2 vectors"
    assert report_text.hints(report)[1].endswith("5.22, 5.23 and 6 more")
    text = report_html.render(report)
    assert "Where to look first" in text and "first difference: g_s/1, in 2 vectors" in text


def test_clauses_are_shortened():
    assert brief(["5.2-1", "5.2-2", "5.2-3", "5.2-5", "6.1", "6.1-1", "A.1-1", "A.1-2"]) == (
        "5.2-1..3, 5.2-5, 6.1, 6.1-1, A.1-1..2"
    )
    assert brief([]) == ""


def test_every_result_fits_the_schema(run):
    for behaviour in ("accepts-all", "refuses-and-writes", "unsupported"):
        report = json.loads(run(behaviour)[2]["json"])
        jsonschema.validate(report, SCHEMA)
    for wrong in ({"exit_code": 9}, {"kind": "x"}, {"extra": 1}, {"vectors": [{}]}, {"summary": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(report | wrong, SCHEMA)


def test_junit(run):
    _, _, texts = run("traceback", "--id", "core/*", "--id", "invalid/crc")
    root = Xml.fromstring(texts["junit"])
    core, refused = root.findall("testsuite")
    assert (core.get("name"), core.get("tests"), core.get("errors"), core.get("failures")) == ("core", "3", "3", "0")
    assert (refused.get("tests"), refused.get("errors"), refused.get("skipped")) == ("1", "0", "0")
    case = core.find("testcase")
    assert case.get("name") == "core/colour" and case.get("classname") == "core" and float(case.get("time")) > 0
    assert case.find("error").get("type") == "crash" and "IndexError" in case.find("error").get("message")
    assert refused.find("testcase").find("*") is None
    assert {p.get("name") for p in core.find("properties")} >= {"command", "kit", "processor", "packages"}
    root = Xml.fromstring(run("black")[2]["junit"])
    assert root.find("testsuite").get("failures") == "3"
    assert root.find("testsuite/testcase/failure").get("type") == "fail"
    root = Xml.fromstring(run("unsupported")[2]["junit"])
    assert root.find("testsuite").get("skipped") == "3"


def test_junit_holds_no_character_that_xml_does_not(run):
    report = json.loads(run("traceback")[2]["json"])
    report["vectors"][0]["detail"] = "a\x00b\x1b<&\ud800\n"
    message = Xml.fromstring(report_junit.render(report)).find(".//error").get("message")
    assert message.startswith("crash: a?b?<&?")


class Page(HTMLParser):
    """Tags and their attributes; fails on what is closed wrongly."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        """Open a tag that is closed later."""
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close the last tag that is open."""
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(run, tmp_path):
    _, _, texts = run("another-picture", "--reference", command(tmp_path, "good"))
    page = Page(texts["html"])
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object") and not (tag == "script" and "src" in attributes)
        if tag == "img":
            assert attributes["src"].startswith("data:image/png;base64,")
    assert "url(" not in texts["html"] and "@import" not in texts["html"]
    rows = [a for tag, a in page.tags if tag == "tr" and "data-outcome" in a]
    assert [r["data-outcome"] for r in rows] == ["fail", "fail", "crash", "pass", "pass"]
    assert "5.3-2" in rows[0]["data-text"] and rows[3]["data-judgement"] == "pass"
    assert sum(tag == "img" for tag, _ in page.tags) == 2


def test_the_page_escapes_what_decoders_say(run):
    report = json.loads(run("traceback")[2]["json"])
    evil = "<script>alert(1)</script>\"'&"
    for field in ("id", "detail", "suggests", "model", "expected", "suite"):
        report["vectors"][0][field] = evil
    report["vectors"][0]["divergence"] = [evil]
    report["command"] = report["conclusion"] = report["started"] = evil
    report["system"] |= {"processor": evil, "flags": [evil]}
    text = report_html.render(report)
    Page(text)
    assert "alert(1)</script>" not in text and text.count("<script>") == 1


def test_reports_may_go_to_standard_output(kit, tmp_path, capsys):
    code = cli.main(["run", "--kit", str(kit), "--decoder", command(tmp_path, "good"), "--json", "-"])
    printed = capsys.readouterr()
    assert code == 0 and json.loads(printed.out)["exit_code"] == 0 and "all 5 vectors passed" in printed.err


def test_long_reports_are_cut(run):
    report = json.loads(run("black")[2]["json"])
    for number, entry in enumerate(report["vectors"]):
        entry["detail"] = f"another picture: {number}"
    text = report_text.render(report, 1)
    assert "core/grey" not in text and "... and 2 more; --json or --html has them all" in text
    assert "more" not in report_text.render(report, 3)


def test_tables_are_aligned():
    assert report_text.table([["a", "n"], ["long", "5"], ["b", "12"]]) == ["a      n", "long   5", "b     12"]
    assert report_text.printable("a\x1b\nb") == "a\\x1b\\nb"


def test_system_facts():
    name, flags = processor("processor : 0\nmodel name\t: A: B\nflags\t\t: sse avx2\n\nmodel name : other\nodd line\n")
    assert name == "A: B" and flags == ["avx2", "sse"]
    assert processor("Features : neon\n") == ("", ["neon"])
    facts = system_facts()
    assert facts["packages"]["numpy"] and facts["cores"] >= 1


# The command line


def test_the_overview_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.COMMANDS)
    assert cli.main([]) == 2


def test_an_unknown_command_is_a_usage_error(capsys):
    assert cli.main(["oops"]) == 2
    assert "unknown command 'oops'; one of list, run" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: python -m conformance {name}" in text


def test_foreign_errors_are_one_line(monkeypatch, capsys):
    def fails(name, arguments):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(cli, "run_command", fails)
    assert cli.main(["list"]) == 70
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interruption_is_told(monkeypatch, capsys):
    def stops(name, arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_command", stops)
    assert cli.main(["list"]) == 130 and "interrupted" in capsys.readouterr().err


SLOW = """
import os, time


def decode(stream, model):
    open(os.environ["WITNESS"], "w").write(str(os.getpid()))
    time.sleep(600)


if __name__ == "__main__":
    decode(None, None)
"""


def listen():
    """Undo what a shell does to commands in its background: they ignore interrupts, and so does what they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("decoder", ["command", "callable"])
def test_an_interrupted_run_leaves_nothing_running(kit, tmp_path, decoder):
    witness = tmp_path / "witness"
    (tmp_path / "slow.py").write_text(SLOW)
    name = {"command": f"{sys.executable} {tmp_path}/slow.py {{stream}} {{output}}", "callable": "python:slow:decode"}
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "WITNESS": str(witness)}
    run = subprocess.Popen(
        run_words(kit, name[decoder]),
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listen,
    )
    deadline = time.monotonic() + 60
    while not (witness.exists() and witness.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, says = run.communicate(timeout=30)
    assert run.returncode == 130 and says == "conformance: error: interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(witness.read_text()), 0)


def test_progress_is_for_terminals(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    result = Result(Vector("core/a", None, "", None, None, (), "", "", ""), "crash")
    for stream, shown in ((io.StringIO(), ""), (Terminal(), "\r\033[K1/5, 1 failed, core/a\r\033[K")):
        monkeypatch.setattr("sys.stderr", stream)
        progress = Progress(5)
        progress(result)
        progress.end()
        assert stream.getvalue() == shown


HELPS = """
import sys
from conformance.cli import main

for name in ("claim", "list", "encoder", "fluster", "run"):
    try:
        main([name, "--help"])
    except SystemExit as end:
        assert end.code == 0
sys.exit(main(["list", "--kit", sys.argv[1]]))
"""


def test_the_runner_does_not_import_refcodec(kit, tmp_path):
    """In a process where refcodec cannot be imported, everything of the runner's side works."""
    (tmp_path / "refcodec.py").write_text("raise ImportError('absent')")
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['refcodec'] = None")
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}

    def ends(*words):
        return subprocess.run(words, env=environment, capture_output=True, text=True, cwd=tmp_path)

    probe = ends(sys.executable, "-c", "import refcodec")
    assert probe.returncode == 1 and "refcodec" in probe.stderr
    reports = ["--html", "r.html", "--json", "r.json", "--junit", "r.xml"]
    done = ends(*run_words(kit, command(tmp_path, "good"), *reports, "--check-traces"))
    assert (done.returncode, done.stderr) == (0, "")
    done = ends(sys.executable, "-c", HELPS, str(kit))
    assert done.returncode == 0 and done.stdout.count("usage:") == 5, done.stderr


def test_the_runner_s_readme_has_every_result_exit_code_and_field():
    text = (ROOT / "conformance" / "run" / "README.md").read_text()
    tables = [re.findall(r"^\| *([^|]+?) *\|", part, re.M) for part in text.split("\n\n") if part.startswith("|")]
    formats, codes, requests, results, exits, fields = tables
    assert sorted(re.findall(r"`(\w+)`", " ".join(requests))) == ["id", "model", "output", "stream", "threads", "trace"]
    assert [name.strip("`") for name in formats[2:]] == list(pictures.FORMATS)
    assert [name.strip("`") for name in results[2:]] == list(outcomes.OUTCOMES)
    assert list(map(int, exits[2:])) == sorted(
        [
            errors.PASSED,
            errors.FAILED,
            errors.USAGE,
            errors.INCOMPLETE,
            errors.NOTHING_RAN,
            errors.DAMAGED,
            errors.BUG,
            errors.CANNOT_WRITE,
            errors.INTERRUPTED,
        ]
    )
    assert codes[2:4] == ["0", ", ".join(map(str, sorted(outcomes.REFUSING)))]
    assert fields[2].startswith("`format`")
    for name in re.findall(r'fields\.\w+\("(\w+)"', (ROOT / "conformance" / "kit" / "manifest.py").read_text()):
        assert f"`{name}`" in text or f'"{name}"' in text, name


def test_every_folder_of_modules_is_a_package():
    """The wheel takes the packages that are found; a folder without ``__init__.py`` would be left out."""
    for top in ("refcodec", "weights_converter", "conformance"):
        folders = {path.parent for path in (ROOT / top).rglob("*.py") if "data" not in path.relative_to(ROOT).parts}
        assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]
        assert (ROOT / top / "py.typed").is_file()


def test_a_command_of_the_checkout_alone_says_so(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "mutants", ("conformance.absent.command", "not in the wheel"))
    assert cli.main(["mutants"]) == errors.USAGE
    assert "needs a checkout" in capsys.readouterr().err


# list


def test_the_list_counts(kit, capsys):
    assert cli.main(["list", "--kit", str(kit)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["suite", "version", "vectors", "accept", "reject", "unit"],
        ["core", "1", "3", "3", "0", "0"],
        ["invalid", "1", "2", "0", "2", "0"],
        ["all", "5", "3", "2", "0"],
    ]
    assert "1D                            3" in lines and lines[-1].startswith("kit ")
    assert cli.main(["list", "--kit", str(kit), "--vectors", "--id", "invalid/two"]) == 0
    assert re.search(r"invalid/two +reject HeaderError or ChecksumError +- +- +5.3-2\n", capsys.readouterr().out)
    assert cli.main(["list", "--kit", str(kit), "--id", "none"]) == 4


def test_the_list_as_json(kit, capsys):
    assert cli.main(["list", "--kit", str(kit), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [s["counts"] for s in value["suites"]] == [
        {"accept": 3, "reject": 0, "unit": 0},
        {"accept": 0, "reject": 2, "unit": 0},
    ]
    assert value["levels"] == {"-": 2, "1D": 3} and value["classes"] == {"ChecksumError": 1, "HeaderError": 1}
    assert value["vectors"][0]["id"] == "core/colour" and value["vectors"][0]["bytes"] > 0
