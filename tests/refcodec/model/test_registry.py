"""Models are found, listed, loaded and written: what strangers put into a folder costs others nothing."""

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny_models import TINY, tiny_content, tiny_model

import refcodec
from conformance.synthetic.models.broken_files import SMALL
from conformance.workbench.fuzz.models import hostile_model, model_corpus
from refcodec import cli
from refcodec.errors import InvalidModel, LimitExceeded, ModelError
from refcodec.model import file as model_file
from refcodec.model import registry as model_registry
from refcodec.model.file import read_claim, read_content, read_file, write_model
from refcodec.model.hdf5 import Hdf5
from refcodec.model.integer_model import fingerprint
from refcodec.model.procedural import build
from refcodec.model.registry import DEFAULT, find_model, installed, load_model, model_path


@cache
def contents():
    """Four small models."""
    return [build(SMALL, seed) for seed in range(4)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of models and no others but the package's; nothing is remembered."""
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setenv("REFCODEC_MODELS", str(models))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(model_registry, "DEFAULT", tmp_path / "package" / "default.h5")
    model_registry._models.clear()
    model_registry._fingerprints.clear()
    return models


def put(folder, name, content, claim=None):
    """A model in a folder, with a claim that may be wrong; "" for none."""
    path = folder / f"{name}.h5"
    write_model(path, content, {})
    if claim is not None:
        with h5py.File(path, "r+") as f:
            del f.attrs["fingerprint"]
            if claim:
                f.attrs["fingerprint"] = np.bytes_(claim)
    return path


@pytest.fixture
def read(monkeypatch):
    """Names of the files whose arrays are read."""
    names = []

    def noted(path):
        names.append(path.stem)
        return read_file(path)

    monkeypatch.setattr(model_registry, "read_file", noted)
    return names


# ------------------------------------------------------------------------------------------------ the HDF5 library

READS = """
import sys
from refcodec import cli, decode, load_model
from refcodec.model.file import read_content, read_floats
from refcodec.model.registry import find_model, installed
decode(open(sys.argv[1], "rb").read())
for path in installed():
    try:
        read_content(path), read_floats(path)
    except Exception as e:
        assert type(e).__name__ == "InvalidModel"
for arguments in (["list"], ["info", "sound"], ["verify", "sound"]):
    assert cli.main(["model", *arguments]) == 0
assert "h5py" not in sys.modules
"""


def test_nothing_that_reads_models_loads_the_hdf5_library(folder):
    put(folder, "sound", tiny_content(TINY))
    (folder / "hostile.h5").write_bytes(hostile_model(model_corpus(), 1, 0))
    stream = folder / "stream.loclic"
    stream.write_bytes(refcodec.encode(np.zeros((16, 16, 3), np.uint8), 1, model=tiny_model(TINY)))
    done = subprocess.run([sys.executable, "-c", READS, str(stream)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------------------------------------- finding


def test_of_ten_installed_models_one_is_read(folder, read):
    for n in range(9):
        put(folder, f"a{n}", contents()[n % 3])
    put(folder, "wanted", contents()[3])
    wanted = fingerprint(contents()[3])
    assert find_model(wanted) is find_model(wanted)
    assert read == ["wanted"]


def test_models_that_claim_nothing_are_read_once(folder, read):
    for n in range(4):
        put(folder, f"a{n}", contents()[n], claim="")
    wanted = fingerprint(contents()[3])
    for _ in range(3):
        assert find_model(wanted).fingerprint == wanted
    assert read == ["a0", "a1", "a2", "a3"]
    with pytest.raises(ModelError) as caught:
        find_model(bytes(16))
    assert read == ["a0", "a1", "a2", "a3"]
    assert caught.value.values["installed"] == {f"a{n}.h5": fingerprint(contents()[n]).hex() for n in range(4)}


def test_a_wrong_claim_is_passed_over_and_refused(folder):
    wanted = fingerprint(contents()[1])
    liar = put(folder, "a liar", contents()[0], claim=wanted.hex())
    put(folder, "b", contents()[1])
    assert read_claim(liar) == wanted
    assert find_model(wanted).name == "b.h5"
    for act in (load_model, read_content):
        with pytest.raises(InvalidModel, match="claims another fingerprint"):
            act(liar)


def test_files_that_are_refused_are_read_once(folder, read, monkeypatch):
    """Until they change: else each would cost every decode of another model."""
    wanted = fingerprint(contents()[1])
    liar = put(folder, "a liar", contents()[0], claim=wanted.hex())
    (folder / "b damaged.h5").write_bytes(b"no model")
    put(folder, "c", contents()[1])
    claims = []
    monkeypatch.setattr(model_registry, "read_claim", lambda path: claims.append(path.stem) or read_claim(path))
    for _ in range(3):
        assert find_model(wanted).name == "c.h5"
    assert read == ["a liar", "c"] and claims == ["a liar", "b damaged", "c"]
    with pytest.raises(InvalidModel, match="claims another fingerprint"):
        load_model(liar)
    put(folder, "a liar", contents()[2])
    assert find_model(fingerprint(contents()[2])).name == "a liar.h5"
    with pytest.raises(ModelError) as caught:
        find_model(bytes(16))
    assert caught.value.values["installed"].keys() == {"a liar.h5", "c.h5"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_while_another_thread_notes_a_model_leaves_models_usable(folder):
    put(folder, "a", contents()[0])
    with model_registry._lock:  # held by a thread that the child does not have
        child = os.fork()
        if not child:
            signal.alarm(60)
            load_model("a")
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("claim", ["0" * 31, "0" * 33, "G" * 32, "A" * 32, "é" * 16])
def test_a_claim_that_is_no_fingerprint_is_refused(folder, claim):
    path = put(folder, "x", contents()[0], claim=claim.encode())
    with pytest.raises(InvalidModel, match="claimed fingerprint is none"):
        read_claim(path)


def test_a_changed_file_is_another_model(folder):
    path = put(folder, "x", contents()[0])
    first = load_model(path)
    put(folder, "y", contents()[1]).replace(path)
    assert load_model(path).fingerprint != first.fingerprint
    with pytest.raises(ModelError):
        find_model(first.fingerprint)


def test_hostile_files_are_passed_over_and_listed_as_such(folder, capsys):
    for n in range(12):
        (folder / f"a{n}.h5").write_bytes(hostile_model(model_corpus(), 4, n))
    (folder / "b.h5").mkdir()
    (folder / "c.h5").symlink_to(folder / "c.h5")
    (folder / "d.h5").symlink_to(folder / "nowhere")
    put(folder, "sound", contents()[2])
    wanted = fingerprint(contents()[2])
    assert find_model(wanted).name == "sound.h5"
    assert cli.main(["model", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert len(rows) == 16 and rows["sound"]["fingerprint"] == wanted.hex() and "error" not in rows["sound"]
    assert all("model not found" in rows[name]["error"] for name in "bcd")
    assert all((row["fingerprint"] is None) == ("error" in row) for row in rows.values())
    assert sum("error" in row for row in rows.values()) > 6
    assert cli.main(["model", "list"]) == 0
    shown = capsys.readouterr()
    assert "no model" in shown.out and wanted.hex() in shown.out and "b.h5: model not found" in shown.err


@pytest.mark.parametrize("name", ["n" * 5000, "n/" * 3000, "a\0b", "", "/", "~", "."], ids=lambda name: repr(name[:5]))
def test_names_that_are_no_files_are_no_models(name, folder, monkeypatch, capsys):
    with pytest.raises(ModelError, match="model not found"):
        load_model(name)
    with pytest.raises(ModelError):
        read_content(Path(name))
    if "\0" not in name:
        monkeypatch.setenv("REFCODEC_MODELS", os.pathsep.join((name, name + ".h5", str(folder))))
        put(folder, "sound", contents()[2])
        assert find_model(fingerprint(contents()[2])).name == "sound.h5"
        assert cli.main(["model", "info", name]) == 78


def test_a_user_without_a_home_has_the_other_models(folder, monkeypatch):
    put(folder, "sound", contents()[2])
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert [path.name for path in installed()] == ["sound.h5"]
    assert model_path("sound") == folder / "sound.h5"


def test_the_packages_tables_are_no_model():
    assert model_path() == DEFAULT and "tables.h5" not in {path.name for path in installed()}


# ----------------------------------------------------------------------------------------------------------- limits


def test_lack_of_memory_is_a_limit_and_not_damage(folder, monkeypatch, capsys):
    put(folder, "a", contents()[0], claim="")
    put(folder, "b", contents()[1], claim="")
    wanted = [fingerprint(content) for content in contents()[:2]]
    datasets = Hdf5.datasets

    def short(file):
        if file.where == "a.h5":
            raise MemoryError
        return datasets(file)

    monkeypatch.setattr(Hdf5, "datasets", short)
    assert find_model(wanted[1]).name == "b.h5"
    for act in (
        lambda: find_model(wanted[0]),
        lambda: load_model("a"),
        lambda: read_content(folder / "a.h5"),
        lambda: model_file.read_floats(folder / "a.h5"),
    ):
        with pytest.raises(LimitExceeded, match="too little memory"):
            act()
    assert cli.main(["model", "info", "a"]) == 77
    assert cli.main(["model", "list"]) == 0 and "too little memory" in capsys.readouterr().err


def test_lack_of_memory_while_a_model_is_proved_is_a_limit(folder, monkeypatch):
    def short(*arguments):
        raise MemoryError

    put(folder, "a", contents()[0])
    monkeypatch.setattr(model_registry, "build_model", short)
    with pytest.raises(LimitExceeded, match="too little memory"):
        load_model("a")


def test_a_file_that_may_not_be_read_says_so(folder, monkeypatch):
    def refuse(*arguments, **more):
        raise PermissionError(13, "Permission denied")

    path = put(folder, "a", contents()[0])
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ModelError, match=r"cannot be opened.*Permission denied"):
        load_model(path)


# ------------------------------------------------------------------------------------------------------- provenance


def with_provenance(folder, text):
    path = put(folder, "x", contents()[0])
    with h5py.File(path, "r+") as f:
        del f["provenance"]
        f["provenance"] = np.frombuffer(text, np.uint8)
    return path


@pytest.mark.parametrize(
    "text",
    [
        b'{"card": 5}',
        b'{"card": null}',
        b'{"card": ["a"]}',
        b'{"card": {"a": 1e999}}',
        b'{"x": 1e999, "y": -1e999}',
        b'{"x": "\\ud800 \\u001b[2J"}',
        b'{"x": ' + b"9" * 5000 + b"}",
        b'{"a":' * 64 + b"1" + b"}" * 64,
    ],
)
def test_any_provenance_that_is_json_is_shown(text, folder, capsys):
    path = with_provenance(folder, text)
    for more in ([], ["--json"]):
        assert cli.main(["model", "info", str(path), *more]) == 0
        shown = capsys.readouterr().out
        assert all(line.isprintable() for line in shown.splitlines())
    assert json.loads(shown)["provenance"].keys() == json.loads(text, parse_int=str).keys()


@pytest.mark.parametrize(
    "text",
    [
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": Infinity}',
        b"5",
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"x": 1, "x": 1}',
    ],
)
def test_other_provenance_is_refused(text, folder):
    with pytest.raises(InvalidModel, match="the provenance is"):
        load_model(with_provenance(folder, text))


def test_what_is_written_as_provenance_can_be_read_back(folder):
    path = folder / "x.h5"
    write_model(path, contents()[0], {"loss": float("nan"), "best": [float("-inf")], "card": "text"})
    assert load_model(path).provenance == {"loss": "NaN", "best": ["-Infinity"], "card": "text"}
    deep = []
    for _ in range(64):
        deep = [deep]
    for provenance in ({"x": "x" * model_file.MAX_PROVENANCE}, {"x": deep}):
        with pytest.raises(InvalidModel, match="provenance"):
            write_model(path, contents()[0], provenance)
    assert load_model(path).provenance["card"] == "text"


# ---------------------------------------------------------------------------------------------------------- writing


def test_no_link_of_a_name_that_can_be_guessed_is_followed(folder):
    victim = folder / "precious"
    victim.write_text("kept")
    (folder / f".x.h5.{os.getpid()}.tmp").symlink_to(victim)
    path = put(folder, "x", contents()[0])
    assert victim.read_text() == "kept" and not path.is_symlink()
    assert sorted(p.name for p in folder.glob("[!.]*")) == ["precious", "x.h5"]


def test_models_say_their_fingerprint(folder):
    assert read_claim(put(folder, "x", contents()[0])) == fingerprint(contents()[0])
