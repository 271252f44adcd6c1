"""``python -m conformance bisect``, and the worked example that README.md shows."""

import json
import sys

import numpy as np
import pytest
from planted import altered, reference, stream, tiled, tiled_reference, traced, write_trace
from stage_faults import FAULTS

from conformance.cli import main
from conformance.examples import broken_decoder
from conformance.generate.worked_example import README, ROOT, commands, renewed, settled
from conformance.run.bisect import unit_vectors
from refcodec.arith import numpy_ops
from refcodec.model.procedural import write_procedural


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a stream, its model, and the right trace with values."""
    folder = tmp_path_factory.mktemp("bisect")
    (folder / "s.loclic").write_bytes(stream())
    write_procedural("tiny", 7, folder / "m.h5")
    (folder / "values").mkdir()
    write_trace(folder / "right.jsonl", folder / "values", reference())
    return folder


def bisect(place, *more):
    """Run the command."""
    return main(["bisect", "--stream", str(place / "s.loclic"), "--model", str(place / "m.h5"), *more])


def test_the_command_says_that_all_is_equal(place, capsys):
    assert bisect(place, "--trace", str(place / "right.jsonl")) == 0
    assert "all 165 stages" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_says_where_an_equal_trace_ends(place, tmp_path, capsys):
    lines = (place / "right.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "early.jsonl").write_text("".join(lines[3:11]))
    assert bisect(place, "--trace", str(tmp_path / "early.jsonl")) == 0
    assert "it ends before ctx/0#0 (slice 0, anchors): if the decoder stopped there, look at SPEC 7.2-1" in (
        capsys.readouterr().out
    )
    assert bisect(place, "--trace", str(tmp_path / "early.jsonl"), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"equal": True, "stages": 8, "next": "ctx/0#0"}


@pytest.mark.slow
def test_the_command_names_stage_and_element(place, tmp_path, capsys):
    wrong = traced(stream(), FAULTS["no rounding term"].model())
    write_trace(tmp_path / "wrong.jsonl", tmp_path, wrong)
    assert bisect(place, "--trace", str(tmp_path / "wrong.jsonl"), "--values", str(tmp_path)) == 1
    text = capsys.readouterr().out
    assert "element:" in text and "less by 1" in text and "inject chan/1/2 --stream" in text
    assert bisect(place, "--trace", str(tmp_path / "wrong.jsonl"), "--values", str(tmp_path), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["stage"] == "chan/1/2" and found["element"]["got"] == found["element"]["expected"] - 1
    assert found["units"] == [v.id for v in unit_vectors(["conv"])]


@pytest.mark.parametrize(
    ("stage", "part"),
    [
        ("tiles/3/y_hat/0", "tiles/3/walk"),
        pytest.param("tiles/2/local/1/fc1", "tiles/2/local/1/fc1", marks=pytest.mark.slow),
        pytest.param("z_hat", "tiles/3/coder/z", marks=pytest.mark.slow),
        pytest.param("g_s/7", "g_s/7", marks=pytest.mark.slow),
    ],
)
def test_the_command_names_the_tile_and_how_to_inject_it(place, tmp_path, capsys, stage, part):
    (tmp_path / "s.loclic").write_bytes(tiled())
    names = [stage.name for stage in tiled_reference().stages]
    common = ["--stream", str(tmp_path / "s.loclic"), "--model", str(place / "m.h5")]
    write_trace(tmp_path / "t.jsonl", tmp_path, altered(tiled_reference(), names.index(stage)))
    assert main(["bisect", *common, "--trace", str(tmp_path / "t.jsonl"), "--values", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert f"first difference: {stage} " in text and f"inject {part} --stream" in text
    files = ["--inputs", str(tmp_path / "in"), "--out", str(tmp_path / "out.npy")]
    assert main(["inject", part, *common, *files]) == 0
    assert json.loads((tmp_path / "in" / "part.json").read_text())["part"] == part
    assert main(["inject", part, *common[2:], *files, "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--trace", "absent.jsonl"], 65, "cannot be read"),
        (["--trace", "{place}/s.loclic"], 65, "line 1: not JSON"),
        (["--trace", "{place}/right.jsonl", "--values", "{place}/nowhere"], 65, "no such folder"),
        (["--trace", "{place}/right.jsonl", "--vector", "core/x"], 2, "either --stream or --vector"),
        (["--trace", "{place}/right.jsonl", "--reference", "none"], 2, "needs a --vector"),
        (["--trace", "{place}/right.jsonl", "--reference", "'"], 2, "not a command"),
        (["--trace", "{place}/right.jsonl", "--reference", "/no/such/program"], 70, "cannot be run"),
        (["--trace", "{place}/right.jsonl", "--reference", "{python} -c 'import sys; sys.exit(3)'"], 70, "exit code 3"),
        (
            [
                "--trace",
                "{place}/right.jsonl",
                "--reference",
                "{python} -c 'import time; time.sleep(99)'",
                "--timeout",
                "0.5",
            ],
            70,
            "more than 0.5 s",
        ),
    ],
)
def test_errors_are_one_line(place, capsys, arguments, code, says):
    assert bisect(place, *(a.format(place=place, python=sys.executable) for a in arguments)) == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and "Traceback" not in error


EXAMPLE = f"{sys.executable} -m conformance.examples.broken_decoder {{stream}} {{output}}"


@pytest.mark.slow
def test_a_decoder_is_run_for_its_trace(place, capsys):
    """It refuses the stream, but had written a trace."""
    command = EXAMPLE + " --model {model} --trace {trace} --values {values}"
    assert bisect(place, "--decoder", command, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["stage"] == "local/0/norm1" and found["units"] == ["units/norm", "units/norm-sums"]
    assert found["element"]["got"] == found["element"]["expected"] + 1 and "towards 0" in found["symptoms"][0]
    for command, says in (
        (f"{sys.executable} -c exit(3) {{stream}} {{trace}}", "wrote no trace: exit code 3"),
        ("true {stream}", "{trace} is missing"),
    ):
        assert bisect(place, "--decoder", command) in (2, 65) and says in capsys.readouterr().err


@pytest.mark.slow
def test_the_worked_example_of_the_readme_is_real():
    text = README.read_text(encoding="utf-8").split("## A worked example")[1]
    assert [command.split()[2:4] for command in commands(text)] == [
        ["conformance", "run"],
        ["conformance", "bisect"],
        ["conformance", "run"],
    ]
    assert settled(renewed(text)) == settled(text)
    assert "expected -6, got -5" in text and text.count("fail: refused") == 3


def test_the_example_has_one_mistake(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(broken_decoder, "c_division", lambda a, b: a // b)
    monkeypatch.setattr(numpy_ops, "layer_norm", numpy_ops.layer_norm)  # so that it is put back
    unit = ROOT / "conformance/data/suites/units/units/norm.json"
    decoding = [
        str(place / "s.loclic"),
        str(tmp_path / "o.npy"),
        "--model",
        str(place / "m.h5"),
        "--trace",
        str(tmp_path / "t.jsonl"),
        "--values",
        str(tmp_path / "v"),
    ]
    for arguments in (["--unit", str(unit), str(tmp_path / "answer.json")], decoding):
        monkeypatch.setattr(sys, "argv", ["broken_decoder", *arguments])
        assert broken_decoder.main() == 0
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer == {case["id"]: case["expect"] for case in json.loads(unit.read_text())["cases"]}
    assert np.array_equal(np.load(tmp_path / "o.npy"), reference().values(reference().stages[-1]))
    assert bisect(place, "--trace", str(tmp_path / "t.jsonl"), "--values", str(tmp_path / "v")) == 0


def test_the_reference_may_be_another_command(place, tmp_path, capsys):
    """One that copies a trace; it has digests alone, so no element can be named."""
    script = tmp_path / "reference.py"
    script.write_text(f"import shutil, sys\nshutil.copy({str(place / 'right.jsonl')!r}, sys.argv[2])\n")
    command = f"{sys.executable} {script}"
    assert bisect(place, "--trace", str(place / "right.jsonl"), "--reference", command) == 0
    assert "all 165 stages" in capsys.readouterr().out
    write_trace(tmp_path / "wrong.jsonl", tmp_path, altered(reference(), 40))
    assert bisect(place, "--trace", str(tmp_path / "wrong.jsonl"), "--reference", command) == 1
    text = capsys.readouterr().out
    assert "digests:" in text and "the tested decoder's values of inter/1/attention would name the element" in text
