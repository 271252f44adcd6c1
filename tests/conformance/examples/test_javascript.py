"""The second reading of SPEC.md: the decoder in JavaScript against a few vectors of the kit.

Node is no requirement of the project. Where it is absent, this module says so and is not run.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conformance.kit import suites
from conformance.run import decoders
from conformance.run.engine import Options, run_all
from conformance.run.process import Limits

NODE = shutil.which("node")
if NODE is None:
    pytest.skip("the decoder in JavaScript needs Node, which is not installed", allow_module_level=True)

KIT = suites.KIT
SCRIPTS = KIT.parent / "examples" / "javascript"
DECODER = SCRIPTS / "decoder.mjs"
STREAM = KIT / "suites" / "core" / "streams" / "coded-tiny-7-scene-q060.loclic"
MODEL = KIT / "models" / "tiny-7.h5"

RIGHT = ("core/coded-tiny-7-scene-q060", "core/configuration-tiny-old-7-colour", "core/model-file-chunks")
WRONG = (
    "invalid/magic-late",
    "invalid/cut-whole-0045",
    "invalid/positions-just",
    "invalid/chunk-twice-apart",
    "invalid/y-word-left",
    "invalid/symbol-z-last-32768",
    "invalid/model-tables-decreasing",
    "invalid/model-proof-least",
    "invalid/model-file-cycle",
)


def results(ids: tuple[str, ...]) -> dict[str, str]:
    """Outcomes of these vectors by id."""
    vectors = suites.select(suites.load_all(names=("core", "invalid")), suites.Selection(ids=ids))
    spec = decoders.parse(f"{NODE} {DECODER} {{stream}} {{output}}", "--model {model}", "--trace {trace}")
    found = run_all(vectors, spec, Options(traces=True, limits=Limits(seconds=60.0)))
    return {r.vector.id: f"{r.outcome} {r.detail}".strip() for r in found}


def decode(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(NODE), str(DECODER), *map(str, words)], capture_output=True, text=True, timeout=60)


def test_it_decodes_pictures_and_traces_exactly():
    assert results(RIGHT) == dict.fromkeys(RIGHT, "pass")


def test_it_refuses_what_must_be_refused_by_the_same_names():
    assert results(WRONG) == dict.fromkeys(WRONG, "pass")


def test_a_refusal_is_one_object_and_leaves_nothing(tmp_path):
    output = tmp_path / "o.ppm"
    ended = decode(STREAM, output, "--model", KIT / "models" / "nano-7.h5")
    assert ended.returncode == 78 and ended.stderr == ""
    assert json.loads(ended.stdout)["error"] == "ModelError"
    assert list(tmp_path.iterdir()) == []


def test_limits_are_judged_on_the_header_alone(tmp_path):
    header = bytearray(STREAM.read_bytes()[:60])
    header[8:12] = (2**15 + 1).to_bytes(4, "little")
    (tmp_path / "wide.loclic").write_bytes(header)
    ended = decode(tmp_path / "wide.loclic", tmp_path / "o.ppm")
    assert (ended.returncode, json.loads(ended.stdout)["error"]) == (77, "LimitExceeded")
    ended = decode(tmp_path / "wide.loclic", tmp_path / "o.ppm", "--level", 5)
    assert (ended.returncode, json.loads(ended.stdout)["error"]) == (65, "TruncatedStream")


@pytest.mark.parametrize("code, words", [(64, [STREAM]), (66, ["absent", "o.ppm"]), (73, [STREAM, "absent/o.ppm"])])
def test_other_trouble_is_one_line(code, words, tmp_path):
    words = [w if isinstance(w, Path) else tmp_path / w for w in words]
    ended = decode(*words, "--model", MODEL)
    assert ended.returncode == code
    assert ended.stdout == "" and ended.stderr.count("\n") == 1


def test_comments_name_clauses_that_are_there():
    known = {clause["id"] for clause in json.loads((KIT.parent / "kit" / "clauses.json").read_text(encoding="utf-8"))}
    cited = {
        clause
        for path in SCRIPTS.glob("*.mjs")
        for clause in re.findall(r"(?<= )\[((?:\d+|[A-D])[.\d]*-\d+)\]", path.read_text(encoding="utf-8"))
    }
    assert cited <= known and len(cited) > 150
