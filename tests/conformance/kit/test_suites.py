"""Suites are read strictly: each defect of a manifest or a file is one clear error."""

from __future__ import annotations

import json
import os
import subprocess
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_kit import ENVIRONMENT, invalid, run_words, sha256, tiny_kit, toy_model, valid, write_suite

from conformance.kit import suites
from conformance.kit.errors import SuiteDamaged, UsageError
from conformance.kit.levels import belongs, level_of, parse_level, picture_level
from conformance.kit.strict_json import read_json
from conformance.kit.suites import Selection
from conformance.kit.text import as_name, is_name
from conformance.kit.vectors import Accept, Reject, edited


def changed(kit, change, suite="core"):
    """Apply a change to a manifest and read it."""
    path = kit / "suites" / suite / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    return suites.load(path)


def test_a_suite_is_read_whole(tmp_path):
    core, refused = suites.load_all(tiny_kit(tmp_path))
    assert (core.name, core.version, core.licence, len(core.vectors)) == ("core", 1, "Apache-2.0", 3)
    vector = core.vectors[0]
    assert vector.id == "core/colour" and vector.suite == "core" and vector.outcome == "accept"
    assert vector.model is not None and vector.model.name == "toy" and vector.model.file.read_bytes() == b"a model"
    assert isinstance(vector.expect, Accept) and vector.expect.count == 60
    assert vector.clauses == ("5.3-2",) and vector.origin == "by hand"
    refusal = refused.vectors[1].expect
    assert refusal == Reject("HeaderError", "container", ("ChecksumError",))
    assert refusal.classes == ("HeaderError", "ChecksumError") and refused.vectors[1].outcome == "reject"
    suites.check_files([core, refused])


def replace(name, value):
    return lambda manifest: manifest.update({name: value})


def first(name, value):
    return lambda manifest: manifest["vectors"][0].update({name: value})


def expect(**fields):
    return lambda manifest: manifest["vectors"][0]["expect"].update(fields)


def model(**fields):
    return lambda manifest: manifest["models"]["toy"].update(fields)


def without(*path):
    def change(manifest):
        for step in path[:-1]:
            manifest = manifest[step]
        del manifest[path[-1]]

    return change


def named(name):
    """The model under another name."""

    def change(manifest):
        manifest["models"][name] = manifest["models"].pop("toy")

    return change


def package(place):
    """The model from an installed package."""

    def change(manifest):
        del manifest["models"]["toy"]["file"]
        manifest["models"]["toy"]["package"] = place

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (replace("format", 1), "'format' is 1, allowed are 2..2"),
        (replace("format", True), "'format' is true, expected an integer"),
        (replace("suite", "other"), "'suite' is \"other\", but the folder is 'core'"),
        (replace("version", 0), "'version' is 0"),
        (replace("version", "1"), "expected an integer"),
        (replace("description", " "), "'description' is empty"),
        (replace("vectors", []), "'vectors' is empty"),
        (replace("vectors", {}), "expected a list"),
        (replace("extra", 1), "unknown field 'extra'"),
        (replace("files", {"a": "x"}), "expected 64 lower-case hexadecimal digits"),
        (replace("files", {"idle.txt": "0" * 64}), "'files' pins 'idle.txt', which no vector names"),
        (without("models"), "'models' is missing"),
        (without("vectors", 0, "sha256"), "vector 'core/colour': 'sha256' is missing"),
        (without("vectors", 0, "stream"), "'stream' is missing"),
        (without("vectors", 0, "suggests"), "'suggests' is missing"),
        (first("id", "core/grey"), "the id 'core/grey' occurs twice"),
        (first("id", "other/colour"), "an id is the suite's name"),
        (first("id", "core/../x"), "an id is the suite's name"),
        (first("id", "core/a b"), "an id is the suite's name"),
        (first("id", 5), "'id' is 5, expected a text"),
        (first("unknown", 0), "unknown field 'unknown'"),
        (first("stream", "/etc/passwd"), "not a relative path"),
        (first("stream", "..\\x"), "not a relative path"),
        (first("stream", "c:x"), "not a relative path"),
        (first("stream", "a\0b"), "not a relative path"),
        (first("stream", "../../../x"), "leaves the kit"),
        (first("sha256", "0" * 63), "expected 64 lower-case"),
        (first("sha256", "A" * 64), "expected 64 lower-case"),
        (first("model", "absent"), "is not in the manifest's 'models'"),
        (first("trace", "t.jsonl"), "which the manifest's 'files' does not pin"),
        (first("picture", "p.png"), "which the manifest's 'files' does not pin"),
        (first("clauses", []), "expected ids such as 5.3-2"),
        (first("clauses", ["5.3-2", "5.3-2"]), "expected different texts"),
        (first("clauses", ["five"]), "expected ids such as 5.3-2"),
        (first("clauses", "5.3"), "expected a list"),
        (first("expect", []), "expected an object"),
        (expect(outcome="maybe"), "allowed are accept, reject"),
        (expect(width=0), "'width' is 0, allowed are 1..1048576"),
        (expect(height=2**20 + 1), "allowed are 1..1048576"),
        (expect(channels=0), "allowed are 1..4"),
        (expect(channels=5), "allowed are 1..4"),
        (expect(samples="00"), "expected 64 lower-case"),
        (expect(more=1), "unknown field 'more'"),
        (model(fingerprint="0"), "expected 32 lower-case"),
        (model(file="../../../toy.h5"), "leaves the kit"),
        (model(package="refcodec/x"), "one of 'file', 'package' and 'procedural'"),
        (model(procedural={"profile": "tiny", "seed": -1}), "'seed' is -1"),
        (model(procedural={"profile": "tiny", "seed": 1, "x": 1}), "unknown field 'x'"),
        (model(profiles=["huge"]), "which SPEC 12.1 does not"),
        (model(level="E"), "allowed are A, B, C, D"),
        (without("models", "toy", "file"), "unknown field 'sha256'"),
        (named("../../../victim/planted"), "a model's name has at most 100 letters"),
        (named("a/b"), "a model's name"),
        (named(".."), "a model's name"),
        (named(""), "a model's name"),
        (named("-x"), "a model's name"),
        (named("a\nb"), "a model's name"),
        (named("a" * 101), "a model's name"),
        (package("kitmod.x/f.h5"), "a package without dots"),
        (package("../x"), "a package without dots"),
        (package("/etc/passwd"), "a package without dots"),
        (package("kitmod"), "a package without dots"),
        (package("kitmod/../x"), "a package without dots"),
        (package("kitmod//x"), "a package without dots"),
        (
            replace("models", {"toy": {"fingerprint": "0" * 32, "procedural": {"profile": "--help", "seed": 1}}}),
            "expected a name",
        ),
        (first("id", "core/" + "a" * 101), "an id is the suite's name"),
        (first("stream", "a/./b"), "not a relative path"),
        (first("stream", "-x"), "not a relative path"),
        (first("stream", "a/" * 600 + "b"), "not a relative path"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said(tmp_path, change, says):
    with pytest.raises(SuiteDamaged) as error:
        changed(tiny_kit(tmp_path), change)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (expect(**{"class": "Oops"}), "'class' is \"Oops\", allowed are BadMagic"),
        (expect(phase="dream"), "'phase' is \"dream\""),
        (expect(also=["Oops"]), "'also' names 'Oops'"),
        (expect(also=["ChecksumError"]), "unknown or the class itself"),
        (expect(width=1), "unknown field 'width'"),
        (without("vectors", 0, "expect", "phase"), "'phase' is missing"),
    ],
)
def test_what_is_wrong_with_a_refusal_is_said(tmp_path, change, says):
    with pytest.raises(SuiteDamaged) as error:
        changed(tiny_kit(tmp_path), change, "invalid")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "Expecting property name"),
        (b"[1, 2", "Expecting"),
        (b"\xff", "utf-8"),
        (b'{"format": 1, "format": 1}', "'format' occurs twice"),
        (b'{"format": NaN}', "NaN is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 33 + b"]" * 33, "nested too deeply"),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        (b'{"\\udfff": 1}', "half of a surrogate pair"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": %s}' % (b"1" * 41), "a number of 41 characters"),
        (b"3", "an object is expected, got 3"),
        (b"1" * 5000, ""),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, data, says):
    path = tmp_path / "suites" / "core" / "manifest.json"
    with pytest.raises(SuiteDamaged) as error:
        suites.parse(data, path)
    assert says in str(error.value)


def test_a_manifest_that_is_absent_or_too_large_is_refused(tmp_path, monkeypatch):
    path = tiny_kit(tmp_path) / "suites" / "core" / "manifest.json"
    monkeypatch.setattr(suites, "MAX_MANIFEST", path.stat().st_size)
    suites.load(path)
    monkeypatch.setattr(suites, "MAX_MANIFEST", path.stat().st_size - 1)
    with pytest.raises(SuiteDamaged, match="larger than"):
        suites.load(path)
    with pytest.raises(SuiteDamaged, match="No such file"):
        suites.load(path.parent / "absent.json")


def test_costs_of_a_manifest_are_a_small_factor_of_its_size():
    """Names that occur twice are found in one pass; the memory of the densest texts is bounded."""
    many = b",".join(b'"%d":0' % n for n in range(50_000))
    before = time.process_time()
    with pytest.raises(ValueError, match="'49999' occurs twice"):
        read_json(b"{" + many + b',"49999":1}')
    assert time.process_time() - before < 5.0
    for part in (b"[]", b"{}", b'{"":0}', b'""', b"0"):
        data = b"[" + b",".join([part] * 10_000) + b"]"
        tracemalloc.start()
        read_json(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * len(data)
    assert read_json(b'["\\ud83d\\ude00", "\\\\ud800"]') == ["\U0001f600", "\\ud800"]
    with pytest.raises(ValueError, match="at most 3 are read"):
        read_json(b"[1, 2]", 3)


def test_edits_do_not_multiply_a_file(tmp_path, monkeypatch):
    entry = toy_model() | {"edits": [[0, 1, "41"]], "edited": sha256(b"A model")}
    path = write_suite(tmp_path, "core", [valid("core/a", 2, 2, 3, 1)], models={"toy": entry, "more": entry})
    suites.check_files([suites.load(path)])
    monkeypatch.setattr(suites, "MAX_EDITED", 15)
    with pytest.raises(SuiteDamaged, match="its edited files have 16 bytes, at most 15"):
        suites.check_files([suites.load(path)])


def test_a_pipe_in_a_kit_is_not_waited_for(tmp_path):
    path = write_suite(tmp_path, "core", [valid("core/a", 2, 2, 3, 1)])
    stream = path.parent / "streams" / "a.bin"
    stream.unlink()
    os.mkfifo(stream)
    with pytest.raises(SuiteDamaged, match="not a plain file"):
        suites.check_files([suites.load(path)])
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SuiteDamaged, match="not a plain file"):
        suites.load(path)


def test_no_module_of_the_current_folder_is_imported(tmp_path):
    """Neither for a model of a package, nor by the command line itself."""
    for name in ("kitmod", "numpy", "refcodec", "json", "runpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})")
    made = {"fingerprint": "1" * 32, "procedural": {"profile": "tiny", "seed": 3}}
    entries = {"toy": made, "other": {"fingerprint": "0" * 32, "package": "kitmod/x.h5", "sha256": "0" * 64}}
    write_suite(tmp_path, "core", [valid("core/a", 2, 2, 3, 1)], models=entries)
    words = run_words(".", "true {stream} {output}", "--make-models", "--models", "made")
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 5 and "the suite says 1111" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_names_are_made_to_fit():
    assert [as_name(text) for text in ("a b", "../x", "", "é", "ok-1.h5")] == ["a-b", "x..-x", "x", "x-", "ok-1.h5"]
    assert all(is_name(as_name(text)) for text in ("", "/", "." * 300, "\ud800", "x" * 300))


def test_links_do_not_lead_out_of_the_kit(tmp_path):
    kit = tiny_kit(tmp_path / "kit")
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    (kit / "suites" / "core" / "streams" / "link").symlink_to(outside)
    with pytest.raises(SuiteDamaged, match="leaves the kit"):
        changed(kit, first("stream", "streams/link"))


def test_every_file_is_compared_with_its_hash(tmp_path):
    kit = tiny_kit(tmp_path)
    loaded = suites.load_all(kit)
    for path in [p for suite in loaded for p in suite.files]:
        data = path.read_bytes()
        path.write_bytes(data + b"\0")
        with pytest.raises(SuiteDamaged, match="the manifest says"):
            suites.check_files(loaded)
        path.unlink()
        with pytest.raises(SuiteDamaged, match="No such file"):
            suites.check_files(loaded)
        path.write_bytes(data)
    suites.check_files(loaded)
    assert len(loaded[0].files) == 4, "three streams and a model"


def test_traces_pictures_and_unit_files_are_pinned_too(tmp_path):
    vector, stream = valid("core/a", 2, 2, 3, 1)
    vector |= {"trace": "traces/a.jsonl", "picture": "a.png"}
    unit = {name: vector[name] for name in ("clauses", "suggests", "origin", "licence")}
    unit |= {"id": "core/unit", "unit": "u.json", "sha256": sha256(b"{}")}
    files = {"traces/a.jsonl": sha256(b"trace"), "a.png": sha256(b"picture")}
    path = write_suite(tmp_path, "core", [(vector, stream)], vectors=[vector, unit], files=files)
    for name, data in (("traces/a.jsonl", b"trace"), ("a.png", b"picture"), ("u.json", b"{}")):
        (path.parent / name).parent.mkdir(exist_ok=True)
        (path.parent / name).write_bytes(data)
    suite = suites.load(path)
    suites.check_files([suite])
    assert suite.vectors[0].trace == path.parent / "traces/a.jsonl" and suite.vectors[0].picture is not None
    assert suite.vectors[1].outcome == "unit" and suite.vectors[1].expect is None and suite.vectors[1].model is None
    assert len(suite.files) == 5
    (path.parent / "u.json").write_bytes(b"{ }")
    with pytest.raises(SuiteDamaged):
        suites.check_files([suite])


def test_one_file_has_one_hash(tmp_path):
    vectors = [valid("core/a", 2, 2, 3, 1), valid("core/b", 2, 2, 3, 2)]
    vectors[1][0]["stream"] = vectors[0][0]["stream"]
    with pytest.raises(SuiteDamaged, match="two different SHA-256"):
        suites.load(write_suite(tmp_path, "core", vectors))


def test_models_may_be_edits_of_a_file(tmp_path):
    edits = [[2, 2, "6f6f"], [7, 0, "21"]]
    entry = toy_model() | {"edits": edits, "edited": sha256(b"a oodel!")}
    path = write_suite(tmp_path, "core", [valid("core/a", 2, 2, 3, 1)], models={"toy": entry})
    suite = suites.load(path)
    suites.check_files([suite])
    model = suite.models["toy"]
    assert model.edits == ((2, 2, b"oo"), (7, 0, b"!")) and edited(b"a model", model.edits) == b"a oodel!"
    changed(tmp_path, lambda m: m["models"]["toy"].update(edited="0" * 64))
    with pytest.raises(SuiteDamaged, match="the edits do not give 0000"):
        suites.check_files([suites.load(path)])
    for wrong in (
        *([[2]], [[2, 0]], ["2"], [[2, 0, 5]], [[True, 0, "00"]], [[2, 1.0, "00"]], [[2, 0, "0"]], [[2, 0, "0G"]]),
        *([[2, 0, "00", "2"]], [[2, 0, "00", -1]], [[2, 0, "00", 2**25 + 1]], [[2, 0, "0000", 2**24 + 1]]),
        *([[2, 0, "00", 2, 3]], [[2, 0, "00", True]]),
        *([[-1, 0, "00"]], [[2, -1, "00"]], [[2**28, 1, "00"]], [[2, 2, "00"], [3, 0, "00"]], [[2, 0, ""], [1, 0, ""]]),
    ):
        with pytest.raises(SuiteDamaged, match="'edits' holds"):
            changed(tmp_path, lambda m, w=wrong: m["models"]["toy"].update(edits=w))


def test_an_edit_may_repeat_its_bytes(tmp_path):
    entry = toy_model() | {
        "edits": [[2, 2, "6f", 3], [7, 0, "2122", 2], [7, 0, "", 5]],
        "edited": sha256(b'a ooodel!"!"'),
    }
    path = write_suite(tmp_path, "core", [valid("core/a", 2, 2, 3, 1)], models={"toy": entry})
    suite = suites.load(path)
    suites.check_files([suite])
    assert suite.models["toy"].edits == ((2, 2, b"ooo"), (7, 0, b'!"!"'), (7, 0, b""))


def edited_suite(folder, data=b"a cut, and more", **more):
    """A suite with one stream that is an edit of a sound one."""
    vector, _ = invalid("core/a")
    del vector["stream"]
    vector |= {"base": "bases/sound", "edits": [[2, 5, "637574"], [13, 3, "6d6f7265"]], "sha256": sha256(data)} | more
    path = write_suite(folder, "core", [], vectors=[vector], files={"bases/sound": sha256(b"a sound, and not")})
    (path.parent / "bases").mkdir()
    (path.parent / "bases" / "sound").write_bytes(b"a sound, and not")
    return path


def test_streams_may_be_edits_of_a_file(tmp_path):
    path = edited_suite(tmp_path)
    suite = suites.load(path)
    suites.check_files([suite])
    assert suite.vectors[0].read() == b"a cut, and more" and suite.vectors[0].sha256 == sha256(b"a cut, and more")
    assert edited(b"abc", ()) == b"abc" and edited(b"abc", ((0, 3, b""),)) == b"" == edited(b"", ((0, 9, b""),))
    (path.parent / "bases" / "sound").write_bytes(b"another")
    with pytest.raises(SuiteDamaged, match="bases/sound: SHA-256 is"):
        suites.check_files([suite])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"edits": []}, "a 'base' needs 'edits'"),
        ({"base": "bases/other"}, "'files' does not pin"),
        ({"stream": "streams/a"}, "unknown field 'stream'"),
        ({"unit": "u.json"}, "unknown field 'base'"),
        ({"base": None}, "'stream' is missing"),
    ],
)
def test_a_base_needs_edits_and_nothing_else(tmp_path, more, says):
    with pytest.raises(SuiteDamaged, match=says):
        suites.load(edited_suite(tmp_path, **more))


def test_edits_that_give_another_stream_are_noticed(tmp_path, monkeypatch):
    suite = suites.load(edited_suite(tmp_path, b"something else"))
    with pytest.raises(SuiteDamaged, match="vector 'core/a': the edits do not give"):
        suites.check_files([suite])
    monkeypatch.setattr(suites, "MAX_EDITED", 20)
    with pytest.raises(SuiteDamaged, match="its edited files have 23 bytes, at most 20"):
        suites.check_files([suite])


def test_suites_are_found_by_name(tmp_path):
    kit = tiny_kit(tmp_path)
    assert [s.name for s in suites.load_all(kit)] == ["core", "invalid"]
    assert [s.name for s in suites.load_all(kit, ["invalid", "invalid"])] == ["invalid"]
    with pytest.raises(UsageError, match=r"no suite 'x'; there are core, invalid"):
        suites.load_all(kit, ["x"])
    with pytest.raises(UsageError, match="no suites/NAME"):
        suites.load_all(tmp_path / "nowhere")


def test_a_name_stands_for_one_model(tmp_path):
    kit = tiny_kit(tmp_path)
    other = toy_model() | {"fingerprint": "1" * 32}
    write_suite(kit, "more", [valid("more/a", 2, 2, 3, 1)], models={"toy": other})
    suites.load_all(kit, ["more"])
    with pytest.raises(SuiteDamaged, match="model 'toy' is another than in an earlier suite"):
        suites.load_all(kit)


def test_the_hash_of_a_kit_is_that_of_its_manifests(tmp_path):
    core, refused = suites.load_all(tiny_kit(tmp_path))
    whole = suites.kit_hash([core, refused])
    assert whole == suites.kit_hash([refused, core])
    assert whole == sha256(f"core {core.sha256}\ninvalid {refused.sha256}\n".encode())
    assert core.sha256 == sha256(core.path.read_bytes())


@pytest.mark.parametrize(
    ("selection", "ids"),
    [
        (Selection(), ["core/colour", "core/grey", "core/dot", "invalid/crc", "invalid/two"]),
        (Selection(ids=("core/*",)), ["core/colour", "core/grey", "core/dot"]),
        (Selection(ids=("*/d?t", "invalid/crc")), ["core/dot", "invalid/crc"]),
        (Selection(ids=("CORE/*",)), []),
        (Selection(models=("toy",)), ["core/colour", "core/grey", "core/dot"]),
        (Selection(models=("none",)), ["invalid/crc", "invalid/two"]),
        (Selection(outcomes=("reject",)), ["invalid/crc", "invalid/two"]),
        (Selection(outcomes=("reject",), ids=("core/*",)), []),
        (Selection(clauses=("5.3-2",)), ["core/colour", "core/grey", "core/dot", "invalid/crc", "invalid/two"]),
        (Selection(clauses=("5.3",), ids=("core/dot",)), ["core/dot"]),
        (Selection(clauses=("5",), ids=("core/dot",)), ["core/dot"]),
        (Selection(clauses=("5.3-20", "5.30", "5.3-")), []),
    ],
)
def test_vectors_are_selected(tmp_path, selection, ids):
    assert [v.id for v in suites.select(suites.load_all(tiny_kit(tmp_path)), selection)] == ids


def test_levels_are_those_of_spec():
    from spec import spec_module

    spec = spec_module()
    for side in [
        (1, 1),
        (512, 512),
        (513, 512),
        (4096, 64),
        (4097, 1),
        (1, 8193),
        (1920, 1080),
        (3840, 2160),
        (7680, 4320),
        (16384, 8192),
        (131073, 1),
        (2**20, 512),
        (2**20, 2**11 + 1),
        (2**20, 2**20),
    ]:
        assert picture_level(*side) == spec.picture_level(*side)
    assert parse_level("4B") == (4, "B")
    for text in ("9A", "0A", "4", "B4", "4E", "4b", "44"):
        with pytest.raises(UsageError):
            parse_level(text)


def test_manifests_tell_profiles_and_levels_as_spec_does():
    from dataclasses import replace

    from spec import spec_module

    from conformance.synthetic.models import procedural
    from refcodec.model.config import PROFILES

    spec = spec_module()
    paper = PROFILES["paper"]
    for config in [
        *PROFILES.values(),
        replace(paper, qualities=2),
        replace(paper, N=(768, 768, 768)),
        replace(PROFILES["tiny"], lrp=()),
        replace(PROFILES["default"], chan=(768, 768)),
    ]:
        values = config.as_dict()
        assert procedural.profiles(config) == spec.profiles(values)
        assert procedural.model_level(config) == spec.model_level(values)


def test_vectors_belong_to_profiles_and_levels(tmp_path):
    small = valid("core/a", 64, 64, 3, 1)
    large = valid("core/b", 4097, 1, 1, 1)
    refused = invalid("core/c")
    stored = valid("core/d", 64, 64, 4, 1, model=None)
    entry = toy_model() | {"profiles": ["main", "full"], "level": "B"}
    suite = suites.load(write_suite(tmp_path, "core", [small, large, refused, stored], models={"toy": entry}))
    assert [level_of(v) for v in suite.vectors] == ["1B", "2B", "-", "1"]

    def belonging(profile, level):
        return [v.id[-1] for v in suite.vectors if belongs(v, profile, level)]

    assert belonging("main", "2B") == ["a", "b", "c", "d"] == belonging("full", "7D")
    assert belonging("main", "1C") == ["a", "c", "d"]
    assert belonging("main", "7A") == ["c", "d"] == belonging("tiny", "7D")
    with pytest.raises(UsageError, match="profile 'x'"):
        belonging("x", "1A")


# Without subnormal floats: PyTorch, where another test has loaded it, may have switched them off for the process.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_manifest_gives_another_error(tmp_path, data):
    if not (tmp_path / "suites").exists():
        tiny_kit(tmp_path)
    path = tmp_path / "suites" / "invalid" / "manifest.json"
    value = json.loads(path.read_text())
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(JSON)
    try:
        suites.parse(json.dumps(value).encode(), Path(path))
    except SuiteDamaged as error:
        assert str(error).isprintable()
