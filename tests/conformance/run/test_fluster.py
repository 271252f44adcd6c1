"""The export for Fluster, and its decoder class with stand-ins for Fluster's classes."""

from __future__ import annotations

import importlib.util
import json
import sys
from enum import Enum
from pathlib import Path
from subprocess import TimeoutExpired
from types import ModuleType

import pytest
import tiny_kit
from tiny_kit import command, sha256, valid, write_suite

from conformance import cli
from conformance.run import fluster, outcomes

VECTOR_FIELDS = {"name", "source", "source_checksum", "input_file", "output_format", "result", "optional_params"}
"""Fluster's loader hands them to a constructor: an unknown one fails the suite."""


@pytest.fixture
def out(tmp_path):
    """The export of a tiny kit."""
    kit = tiny_kit.tiny_kit(tmp_path / "kit")
    assert cli.main(["fluster", str(tmp_path / "out"), "--kit", str(kit)]) == 0
    return tmp_path / "out"


def test_suites_are_what_fluster_reads(out):
    suite = json.loads((out / "test_suites" / "LOCLIC-core.json").read_text())
    assert set(suite) == {"name", "codec", "description", "test_method", "test_vectors"}
    assert (suite["name"], suite["codec"], suite["test_method"]) == ("LOCLIC-core", "Dummy", "md5")
    for vector in suite["test_vectors"]:
        assert set(vector) == VECTOR_FIELDS and "/" not in vector["name"]
        stream = out / "resources" / "LOCLIC-core" / vector["input_file"]
        assert stream.is_file()
        assert (stream.parent / vector["optional_params"]["model"]).read_bytes() == tiny_kit.MODEL
    assert suite["test_vectors"][0]["result"] == sha256(tiny_kit.samples(5, 4, 3, 9))
    refused = json.loads((out / "test_suites" / "LOCLIC-invalid.json").read_text())["test_vectors"]
    assert [v["result"] for v in refused] == ["refused ChecksumError", "refused HeaderError"]
    assert refused[1]["optional_params"]["classes"] == ["HeaderError", "ChecksumError"]


def test_vectors_without_a_model_are_left_out(tmp_path, capsys):
    made = {"fingerprint": "1" * 32, "procedural": {"profile": "tiny", "seed": 3}}
    kit, (vector, stream) = tmp_path / "kit", valid("core/a", 2, 2, 3, 1)
    write_suite(kit, "core", [(vector | {"model": "made"}, stream)], models={"made": made})
    assert cli.main(["fluster", str(tmp_path / "out"), "--kit", str(kit)]) == 4
    write_suite(kit, "other", [valid("other/a", 2, 2, 3, 1)])
    assert cli.main(["fluster", str(tmp_path / "out"), "--kit", str(kit)]) == 0
    assert "1 vectors in LOCLIC-other; left out for want of a model: 1" in capsys.readouterr().out


def test_export_writes_whole_files(tmp_path, capsys):
    kit = tiny_kit.tiny_kit(tmp_path / "kit")
    (vector, stream), toy = valid("more/a", 2, 2, 3, 1), tiny_kit.toy_model()
    vector |= {"base": "bases/x", "edits": [[0, 1, "7b"]], "model": "edited"}
    del vector["stream"]
    edited = toy | {"edits": [[0, 1, "41"]], "edited": sha256(b"A model")}
    files = {"bases/x": sha256(b"?" + stream[1:])}
    path = write_suite(kit, "more", [], models={"toy": toy, "edited": edited}, vectors=[vector], files=files)
    (path.parent / "bases").mkdir()
    (path.parent / "bases" / "x").write_bytes(b"?" + stream[1:])
    out = tmp_path / "out"
    assert cli.main(["export", str(out), "--kit", str(kit)]) == 0 and "6 vectors" in capsys.readouterr().out
    listed = {row["id"]: row for row in json.loads((out / "vectors.json").read_text())}
    assert all(sha256((out / row["file"]).read_bytes()) == row["sha256"] for row in listed.values())
    assert listed["more/a"]["outcome"] == "accept" and listed["more/a"]["samples"] == vector["expect"]["samples"]
    assert (out / listed["more/a"]["model"]).read_bytes() == b"A model"
    assert listed["invalid/two"]["error"] == "HeaderError" and listed["invalid/two"]["also"] == ["ChecksumError"]
    assert listed["invalid/two"]["model"] is None
    assert cli.main(["export", str(out), "--kit", str(kit)]) == 73 and "File exists" in capsys.readouterr().err


@pytest.mark.slow
def test_nothing_is_overwritten(out, capsys):
    assert cli.main(["fluster", str(out)]) == 73
    assert "File exists" in capsys.readouterr().err


@pytest.fixture
def plugin(monkeypatch):
    """The decoder's module, loaded with stand-ins for Fluster; ``given(decoder)`` sets its command."""
    codec, decoder = ModuleType("fluster.codec"), ModuleType("fluster.decoder")
    codec.Codec = Enum("Codec", {"DUMMY": "Dummy"})
    codec.OutputFormat = Enum("OutputFormat", {"NONE": "None"})
    decoder.Decoder = type("Decoder", (), {})
    decoder.NotSupportedError = type("NotSupportedError", (Exception,), {})
    decoder.register_decoder = lambda cls: cls
    for module in (ModuleType("fluster"), codec, decoder):
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def given(text, model_arg=""):
        monkeypatch.setenv("LOCLIC_DECODER", text)
        monkeypatch.setenv("LOCLIC_MODEL_ARG", model_arg)
        spec = importlib.util.spec_from_file_location("loclic", fluster.DECODER)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return given


def decode(module, out, suite, number, tmp_path, timeout=20):
    vector = json.loads((out / "test_suites" / f"LOCLIC-{suite}.json").read_text())["test_vectors"][number]
    stream = out / "resources" / f"LOCLIC-{suite}" / vector["input_file"]
    (tmp_path / "output").mkdir(exist_ok=True)
    answer = module.LocLic().decode(
        str(stream), str(tmp_path / "output" / "x.out"), None, timeout, False, False, vector["optional_params"]
    )
    assert not list((tmp_path / "output").iterdir())
    return answer, vector["result"]


def test_a_good_decoder_gives_the_results(out, plugin, tmp_path):
    module = plugin(command(tmp_path, "good"))
    for suite, number in [("core", 0), ("core", 1), ("core", 2), ("invalid", 0), ("invalid", 1)]:
        answer, result = decode(module, out, suite, number, tmp_path)
        assert answer == result
    assert (module.LocLic.name, module.LocLic.codec.value) == ("loclic", "Dummy")


@pytest.mark.parametrize(
    ("behaviour", "suite", "answer"),
    [
        ("black", "core", sha256(bytes(60))),
        ("refuses-all", "core", "fail: refused: CoderError"),
        ("accepts-all", "invalid", "accepted-invalid: expected ChecksumError"),
        ("wrong-class", "invalid", "wrong-class: expected ChecksumError, got BadMagic"),
        ("no-class", "invalid", "refused ChecksumError"),
        ("refuses-and-writes", "invalid", "fail: refused, but left an output"),
    ],
)
def test_liars_give_other_results(out, plugin, tmp_path, behaviour, suite, answer):
    found, result = decode(plugin(command(tmp_path, behaviour)), out, suite, 0, tmp_path)
    assert found == answer and (found == result) == (behaviour == "no-class")


def test_what_is_no_result_is_raised(out, plugin, tmp_path):
    module = plugin(command(tmp_path, "traceback"))
    with pytest.raises(RuntimeError, match="crash: exit code 1; IndexError"):
        decode(module, out, "core", 0, tmp_path)
    with pytest.raises(TimeoutExpired):
        decode(plugin(command(tmp_path, "hangs")), out, "core", 0, tmp_path, 1)
    module = plugin(command(tmp_path, "unsupported"))
    with pytest.raises(module.NotSupportedError):
        decode(module, out, "core", 0, tmp_path)
    with pytest.raises(ValueError, match="the output is empty"):
        decode(plugin(command(tmp_path, "empty")), out, "core", 0, tmp_path)


def test_models_are_given(out, plugin, tmp_path):
    told = tmp_path / "told"
    module = plugin(f"sh -c 'echo $* > {told}; exit 65' sh {{stream}} {{output}}", "--model {model}")
    decode(module, out, "core", 0, tmp_path)
    assert f"--model {out.resolve() / 'resources' / 'LOCLIC-models' / 'toy.h5'}" in told.read_text()
    decode(module, out, "invalid", 0, tmp_path)
    assert "--model" not in told.read_text()
    module = plugin(f"sh -c 'echo $* > {told}; exit 65' sh {{stream}} {{output}} <{{model}}>")
    decode(module, out, "invalid", 0, tmp_path)
    spare = out.resolve() / "resources" / "LOCLIC-models" / "spare.h5"
    assert f"<{spare}>" in told.read_text() and spare.read_bytes() == b"a model"


def test_later_versions_may_be_called_unsupported(plugin, tmp_path):
    module = plugin(command(tmp_path, "good"))
    seen = outcomes.Seen("not-supported", "UnknownVersion")
    facts = {"classes": ["UnknownVersion"]}
    assert module.answer(seen, Path("absent"), facts) == "refused UnknownVersion"
    with pytest.raises(module.NotSupportedError):
        module.answer(outcomes.Seen("not-supported"), Path("absent"), {"classes": ["ChecksumError"]})
    with pytest.raises(module.NotSupportedError):
        module.answer(
            outcomes.Seen("refused", "LimitExceeded"), Path("absent"), {"width": 1, "height": 1, "channels": 3}
        )
