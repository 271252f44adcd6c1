"""Released models stay: every later version contains them and decodes their streams to the same samples."""

import hashlib
import json
from collections import OrderedDict

import h5py
import numpy as np
import pytest
from tiny_models import tiny_content

from conformance.kit.suites import KIT
from refcodec import cli
from refcodec.codec import decode_stream
from refcodec.model import registry as model_registry
from refcodec.model.file import write_model
from refcodec.model.registry import DEFAULT, RELEASED, find_model, load_model, model_path

PINS = {
    "refcodec-default-2": (
        "c77143be6f9b98f61747078b4229b330",
        "afceaab9afd1b9b6961c907a5028c964ad17b870bf9924e0832ae4dc3be817d1",
        "eb1b7600a92e7c9c08e8c7e881cb6e9a3f73f9309700c1db7525e4bd1f7a6d0c",
    ),
}
"""By name: fingerprint, SHA-256 of the file, and `of_streams`. Lines are only ever added."""


def vectors(fingerprint):
    """The entries of a model's vectors in the suite `default`."""
    listed = json.loads((KIT / "suites" / "default" / "manifest.json").read_text())["vectors"]
    return [row for row in listed if row["id"].startswith(f"default/{fingerprint[:8]}-")]


def of_streams(fingerprint):
    """SHA-256 of what the streams of a model are and decode to."""
    facts = [[row["id"], row["sha256"], row["expect"]["samples"]] for row in vectors(fingerprint)]
    return hashlib.sha256(json.dumps(sorted(facts)).encode()).hexdigest()


def test_every_released_model_is_there_as_it_was():
    found = {entry.name: (entry.fingerprint, entry.sha256, of_streams(entry.fingerprint)) for entry in RELEASED}
    assert found == PINS  # a failure shows the row that a new release adds
    assert list(found) == list(PINS)
    for entry in RELEASED:
        assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256
        assert load_model(entry.name).fingerprint.hex() == entry.fingerprint
    assert model_path() == model_path("default") == DEFAULT == RELEASED[-1].path


def test_files_of_a_user_replace_no_released_model(tmp_path, monkeypatch):
    """Neither one that has a released name, or "default", nor one that claims a released fingerprint."""
    monkeypatch.setenv("REFCODEC_MODELS", str(tmp_path))
    monkeypatch.setattr(model_registry, "_models", OrderedDict())
    for name in ("default", *(entry.name for entry in RELEASED)):
        write_model(tmp_path / f"{name}.h5", tiny_content(), {})
    for entry in RELEASED:
        with h5py.File(tmp_path / f"{entry.name}.h5", "r+") as file:
            file.attrs["fingerprint"] = np.bytes_(entry.fingerprint)
        assert model_path(entry.name) == model_path(f"{entry.name}.h5") == entry.path
        assert find_model(bytes.fromhex(entry.fingerprint)).name == entry.path.name
    assert model_path("default") == DEFAULT


@pytest.mark.parametrize("entry", RELEASED, ids=lambda entry: entry.name)
def test_its_streams_decode_to_the_same_samples(entry):
    rows = vectors(entry.fingerprint)
    assert len(rows) == 21
    for row in rows:
        if max(row["expect"]["width"], row["expect"]["height"]) > 256:
            continue  # the kit's own run decodes the large ones
        data = (KIT / "suites" / "default" / row["stream"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        samples, _ = decode_stream(data)
        assert hashlib.sha256(samples.tobytes()).hexdigest() == row["expect"]["samples"], row["id"]


def test_the_list_of_models_says_what_each_costs(capsys):
    assert cli.main(["model", "list"]) == 0
    printed = capsys.readouterr().out
    for entry in RELEASED:
        assert entry.name in printed and f"{entry.path.stat().st_size / 1e6:.1f} MB" in printed
    assert "the default, released" in printed and "kMAC per pixel" in printed
