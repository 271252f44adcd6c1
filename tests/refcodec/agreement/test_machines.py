"""The table of machines: real ways agree, and no wrong, missing or crashed way ever passes."""

import json
import sys
from pathlib import Path

import pytest

from refcodec.agreement import machines, selftest
from refcodec.agreement.machines import Outcome, Way
from refcodec.cli import main

ANSWER = {
    "facts": {"python": "3.99", "numpy": "9.9", "architecture": "abacus"},
    "hashes": {"sum": "a" * 64, "default stream": "b" * 64, "tiny stream": "c" * 64},
}


def way(tmp_path, name, code):
    """A way whose worker is a few lines of Python."""
    script = tmp_path / f"{name}.py"
    script.write_text(f"import json, os, sys\nanswer = {ANSWER!r}\n{code}\n")
    return Way(name, (sys.executable, str(script)))


PRINT = "print(json.dumps(answer))"


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """Return a function that makes workers of these names and code this host's ways."""

    def offer(**codes):
        ways = tuple(way(tmp_path, name, code) for name, code in codes.items())
        monkeypatch.setattr(machines, "host_ways", lambda machine=None: ways)

    return offer


@pytest.mark.slow
def test_quick_agrees_with_the_committed_hashes(monkeypatch, capsys):
    """Two real processes: the user's kernels, and NumPy alone."""
    monkeypatch.setattr(machines, "QUICK", ("host", "numpy"))
    monkeypatch.setenv("REFCODEC_BACKEND", "no steering from outside")
    assert main(["machines", "--quick", "--json"]) == 0
    shown = capsys.readouterr()
    ways = json.loads(shown.out)["ways"]
    assert [w["way"] for w in ways] == ["host", "numpy"] and "machines: numpy" in shown.err
    for w in ways:
        assert w["status"] == "agrees" and w["hashes"] == selftest.golden()
    assert ways[0]["all"] == ways[1]["all"] and "numba" in ways[0]["facts"] and "cpu" not in ways[1]["facts"]


def test_ways_that_agree_are_shown(offered, capsys):
    offered(one=PRINT, two=PRINT)
    assert main(["machines"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[-1] == "2 of 2 ways ran and agree on all 3 items"
    for line in lines[1:3]:
        assert line.split()[1:3] == ["agrees", "abacus"] and line.split()[-2:] == ["b" * 16, "c" * 16]


def test_one_wrong_item_fails_and_is_named(offered, capsys):
    offered(one=PRINT, two=f"answer['hashes']['sum'] = 'd' * 64; {PRINT}", three=PRINT)
    assert main(["machines"]) == 1
    shown = capsys.readouterr()
    assert "two differs from one in: sum" in shown.out and "three differs" not in shown.out and "sum" in shown.err
    assert main(["machines", "--json"]) == 1
    values = json.loads(capsys.readouterr().out)["values"]
    assert values["items"] == ["sum"]
    assert [w["differing"] for w in values["ways"]] == [[], ["sum"], []]


@pytest.mark.parametrize("change", ["answer['hashes'].pop('sum')", "answer['hashes']['more'] = 'e' * 64"])
def test_missing_and_added_items_are_differences(offered, change):
    offered(one=PRINT, two=f"{change}; {PRINT}")
    assert main(["machines"]) == 1


def test_an_error_that_all_ways_share_is_no_agreement(offered, capsys):
    offered(one=f"answer['hashes']['sum'] = 'error: x'; {PRINT}", two=f"answer['hashes']['sum'] = 'error: x'; {PRINT}")
    assert main(["machines"]) == 1
    assert "sum" in capsys.readouterr().err


NOT_RUN = {
    "signal": "os.kill(os.getpid(), 4)",
    "shell": "sys.exit(132)",
    "unknown": f"sys.stderr.write(\"'x' is not a recognized processor for this target\"); {PRINT}",
    "missing": "sys.exit('ModuleNotFoundError: No module named \\'numba\\'')",
}


@pytest.mark.parametrize("code", NOT_RUN.values(), ids=NOT_RUN)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal; its code is in ILLEGAL_INSTRUCTION")
def test_what_cannot_run_is_neither_agreement_nor_failure(offered, capsys, code):
    offered(one=PRINT, two=code, three=PRINT)
    assert main(["machines"]) == 0
    shown = capsys.readouterr().out
    assert "2 of 3 ways ran" in shown
    assert next(line for line in shown.splitlines() if line.startswith("two")).split()[1:3] == ["not", "run"]
    assert main(["machines", "--ways", "one,two"]) == 1  # nothing was compared
    assert "nothing was compared" in capsys.readouterr().err


@pytest.mark.parametrize(
    "code",
    ["sys.exit(3)", "print('no JSON')", "raise ZeroDivisionError", "print('{}')", "print('[]')", f"{PRINT}; {PRINT}"],
)
def test_a_worker_that_fails_is_a_failure(offered, capsys, code):
    offered(one=PRINT, two=PRINT, three=code)
    assert main(["machines"]) == 1
    assert "three  failed" in capsys.readouterr().out


def test_a_worker_that_hangs_is_a_failure(offered, monkeypatch, capsys):
    monkeypatch.setattr(machines, "TIMEOUT", 1)
    offered(one=PRINT, two="import time; time.sleep(60)")
    assert main(["machines"]) == 1
    assert "timed out" in capsys.readouterr().out


def test_another_interpreter_computes_with_a_copy_of_this_package_alone(tmp_path, monkeypatch):
    (tmp_path / "inherited").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "inherited"))
    code = (
        "import refcodec\nanswer['facts'] = {'file': refcodec.__file__, 'path': os.environ['PYTHONPATH']}\n"
        f"answer['hashes'] = dict(enumerate(sys.argv[1:]))\n{PRINT}"
    )
    way(tmp_path, "other", code)
    first, second = machines.foreign_ways(f'"{sys.executable}" "{tmp_path / "other.py"}"')
    seen = machines.run_way(first, tmp_path)
    assert seen.status == "agrees", seen.reason
    assert seen.facts["path"] == str(tmp_path / "copy")
    assert Path(seen.facts["file"]).parent == tmp_path / "copy" / "refcodec"
    assert list(seen.hashes.values()) == ["-m", "refcodec.agreement.items", "--json", "--backend", "numba"]
    assert list(machines.run_way(second, tmp_path).hashes.values())[-1] == "numpy"
    assert not list((tmp_path / "copy").glob("**/*.nbc"))


def test_the_environment_holds_what_a_way_says_and_nothing_else_that_steers(tmp_path, monkeypatch):
    for name in ("NUMBA_CPU_NAME", "NUMBA_DISABLE_JIT", "REFCODEC_THREADS", "PYTHONHOME"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    monkeypatch.setenv("LANG", "C")
    ways = {w.name: machines._environment(w, tmp_path) for w in machines.host_ways("x86_64")}
    for name, values in ways.items():
        assert "REFCODEC_THREADS" not in values and "NUMBA_DISABLE_JIT" not in values and values["LANG"] == "C"
        assert values["PYTHONPATH"].startswith(str(machines.PACKAGE.parent))
        cached = name == "host" or name.startswith("threads")
        assert (values["NUMBA_CACHE_DIR"] == "mine") == cached
    named = {name: values["NUMBA_CPU_NAME"] for name, values in ways.items() if "NUMBA_CPU_NAME" in values}
    assert named["avx2"] == "haswell" and named["generic"] == "generic"
    assert all(ways[name]["NUMBA_CPU_FEATURES"] == "" for name in named)
    folders = [v["NUMBA_CACHE_DIR"] for name, v in ways.items() if v["NUMBA_CACHE_DIR"] != "mine"]
    assert len(set(folders)) == len(folders)


def test_processors_of_one_architecture_are_not_asked_of_another():
    names = {w.name for w in machines.host_ways("aarch64")}
    assert not any(name.startswith("avx") for name in names) and {"host", "generic", "numpy"} <= names
    assert {"avx2", "avx512", "avx512-vnni"} <= {w.name for w in machines.host_ways("AMD64")}


def test_without_numba_only_numpy_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(machines, "find_spec", lambda name: None)
    assert machines.run_way(machines.host_ways()[0], tmp_path).status == "not run"


def test_wrong_arguments_are_refused(capsys):
    for argv in (["--ways", "host,abacus"], ["--python", "no/such/python"], ["--python", ""], ["--python", "'"]):
        assert main(["machines", *argv]) == 2
        assert "refcodec: error" in capsys.readouterr().err


def test_comparison_starts_from_the_first_that_ran():
    ran = {"sum": "a"}
    judged = machines.compare(
        [
            Outcome("x", "not run"),
            Outcome("y", "agrees", hashes=ran),
            Outcome("z", "agrees", hashes={"sum": "b"}),
            Outcome("w", "failed"),
        ]
    )
    assert [o.status for o in judged] == ["not run", "agrees", "differs", "failed"]
