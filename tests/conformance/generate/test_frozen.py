"""Suites that versions of the format are frozen with: how one is chosen, made once and never changed."""

import json
import shutil

import pytest

from conformance.generate import frozen
from conformance.kit.errors import UsageError
from conformance.kit.suites import KIT, check_files, frozen_suites, load, load_all
from conformance.kit.vectors import Accept
from conformance.synthetic.models import procedural

MANIFESTS: dict[str, str] = {
    "frozen-1": "c20b35114d01659b6fcc371498760cae6edef69630dacaefd7611a14503a3273",
}
"""SHA-256 of every frozen suite's manifest, which pins every file of it. No line is ever changed."""


def test_frozen_suites_are_what_they_were():
    assert {suite.name: suite.sha256 for suite in frozen_suites()} == MANIFESTS
    check_files(frozen_suites())


def test_every_model_file_of_the_kit_and_every_clause_that_streams_show_are_chosen():
    vectors = frozen.candidates()
    taken = frozen.chosen(vectors)
    assert {c for v in taken for c in v.clauses} == {c for v in vectors for c in v.clauses}
    models = {v.model.file.name for v in taken if v.model}
    assert models == {path.name for path in (KIT / "models").glob("*.h5")}
    assert len({v.id for v in taken}) == len(taken) < 100
    assert all(isinstance(v.expect, Accept) for v in taken)


def test_it_is_made_once(tmp_path, monkeypatch, capsys):
    kit = tmp_path / "kit"
    for name in frozen.SUITES:
        (kit / "suites" / name).mkdir(parents=True)
        shutil.copyfile(KIT / "suites" / name / "manifest.json", kit / "suites" / name / "manifest.json")
    shutil.copytree(KIT / "models", kit / "models")
    folder = frozen.make(7, kit)
    suite = load(folder / "manifest.json")
    taken = {f"frozen-7/{v.id.replace('/', '-')}": v for v in frozen.chosen(frozen.candidates())}
    assert [v.id for v in suite.vectors] == list(taken)
    for vector in suite.vectors:
        source = taken[vector.id]
        assert vector.read() == source.read() and vector.expect == source.expect
        assert vector.trace is None
    assert load_all(kit, ["frozen-7"]) and json.loads((folder / "manifest.json").read_text())["suite"] == "frozen-7"
    with pytest.raises(UsageError, match="made once"):
        frozen.make(7, kit)


def test_a_pinned_model_is_never_written(monkeypatch):
    suite = next(s for s in load_all(names=["core"]))
    made = procedural.source("nano-7")
    monkeypatch.setattr(procedural, "frozen_suites", lambda: (suite,))
    monkeypatch.setattr(procedural, "fingerprint", lambda content: bytes(16) if content is made.content() else b"")
    before = made.path.read_bytes()
    with pytest.raises(ValueError, match="pinned by core for good"):
        procedural.manifest_entry("nano-7")
    assert made.path.read_bytes() == before
