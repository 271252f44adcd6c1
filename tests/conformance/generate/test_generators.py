"""Generators of the suites: cases are checked, streams are what was chosen, expectations agreed on, files kept."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module

from conformance.generate import expectation, generate, registry
from conformance.generate.registry import Case, Unit, reject
from conformance.kit import suites
from conformance.kit.blocks import digests
from conformance.kit.errors import KitError
from conformance.kit.vectors import Accept, edited
from conformance.reach import census
from conformance.synthetic import writer
from conformance.synthetic.models import procedural as models
from conformance.synthetic.models.edits import as_json, edits_between, from_json
from refcodec.bitstream.container import parse
from refcodec.codec import decode_stream
from refcodec.errors import InvalidModel, ModelError, SymbolError
from refcodec.model.integer_model import build_model
from refcodec.model.registry import load_model
from refcodec.model.symbol_tables import intervals

MODEL = "tiny-7"


@pytest.fixture(scope="module")
def stream():
    return writer.random_stream(models.model(MODEL), 1, 20, 30)


@pytest.fixture
def case(stream):
    return Case("core/one", stream, MODEL, ("7.2-1",), "a reason", "a seed")


@pytest.fixture
def registered(monkeypatch):
    """An empty registry whose suites need no module."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(registry, "MODULES", {})
    return registry.generator


def test_chosen_symbols_are_what_the_stream_decodes_to(stream):
    found = census.Census()
    census.count(stream, models.model(MODEL), found)
    chosen = {"z": [], "y": []}
    made = models.model(MODEL)

    def choose_z(medians, shape):
        symbols = np.arange(np.prod(shape), dtype=np.int32).reshape(shape) - 3
        chosen["z"] += zip(
            np.broadcast_to(np.arange(shape[2]), shape).reshape(-1).tolist(), symbols.reshape(-1).tolist(), strict=True
        )
        return symbols

    def choose_y(i, parity, levels, means):
        symbols = np.arange(levels.size, dtype=np.int32).reshape(levels.shape) * 40 - 900
        chosen["y"] += zip(levels.reshape(-1).tolist(), symbols.reshape(-1).tolist(), strict=True)
        return symbols

    found = census.Census()
    census.count(writer.stream_of(made, 64, 64, choose_z=choose_z, choose_y=choose_y), made, found)
    for segment, pairs in chosen.items():
        assert sorted(pairs) == sorted(
            (t, s) for (name, t, s), n in found.symbols.items() if name == segment for _ in range(n)
        )


def test_streams_carry_what_was_asked_for():
    made = models.model(MODEL)
    data = writer.stream_of(made, 5, 70, channels=1, quality=33, chunks=(("exif", b"II*\0"),))
    samples, found = decode_stream(data, model=made, threads=1, verify=True)
    assert samples.shape == (70, 5) and found.header.quality == 33 and found.chunks == (("exif", b"II*\0"),)
    assert parse(writer.stream_of(made, 5, 70, digest=False)).header.digest is None


def test_a_symbol_out_of_range_is_refused():
    with pytest.raises(SymbolError):
        writer.stream_of(models.model(MODEL), 1, 1, choose_z=lambda medians, shape: np.full(shape, 32768))


@pytest.mark.parametrize("style", writer.STYLES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), low=st.integers(-32767, 32767), count=st.integers(1, 3000))
def test_shaped_symbols_are_valid_and_a_function_of_the_seed(style, seed, low, count):
    first, last = np.full((7, 9), low), np.full((7, 9), min(low + count - 1, 32767))
    symbols = writer.shaped_symbols(seed, "s", style, first, last)
    assert symbols.dtype == np.int32 and symbols.shape == (7, 9) and np.abs(symbols).max() <= 32767
    assert (symbols == writer.shaped_symbols(seed, "s", style, first, last)).all()


def test_styles_are_what_they_say():
    low, high = np.full(2000, -5), np.full(2000, 4)
    made = {style: writer.shaped_symbols(3, "s", style, low, high) for style in writer.STYLES}
    assert set(made["extremes"].tolist()) == {-32767, 32767}
    assert {-6, -5, 4, 5} <= set(made["edges"].tolist()) <= {*range(-6, 6)}
    assert set(made["plain"].tolist()) <= {*range(-5, 5)}
    lengths = {int(abs(s)).bit_length() for s in made["escapes"].tolist()}
    assert lengths >= set(range(1, 16))
    assert {0, 32767, -32767} <= set(made["sparse"].tolist()) and 32767 in made["mixed"]


@settings(max_examples=40, deadline=None)
@given(first=st.integers(-32767, 32767), data=st.data())
def test_escapes_of_a_table_are_those_of_every_sign_and_length(first, data):
    regular = data.draw(st.integers(1, 32768 - first))
    symbols = census.escape_symbols(first, regular)
    assert len(symbols) == len(set(symbols)) and all(abs(s) <= 32767 for s in symbols)
    assert not any(first <= s < first + regular for s in symbols)
    spec, table = spec_module(), (first, [*range(regular + 1), 65536])
    found = {(below, n) for below, n, _ in (_escape(spec.coder_intervals(s, table)) for s in symbols)}
    ends = (32767 - (first + regular), first - 1 + 32767)  # the greatest v above and below
    assert found == {(below, n) for below in (0, 1) for n in range(16) if 2**n - 1 <= ends[below]}


def _escape(parts):
    """Sign, n and r of an escape's intervals."""
    sign, n = parts[1][0] >> 15, parts[2][0] >> 12
    return sign, n, parts[3][0] >> (16 - n) if n else 0


def test_the_census_counts_the_intervals_that_the_coder_writes(stream):
    made, found = models.model("wires"), census.Census()
    data = writer.random_stream(made, 5, 64, 64, style="escapes")
    census.count(data, made, found)
    total = 0
    for segment, tables in (("z", made.factorized), ("y", made.tables.gaussian)):
        pairs = [(t, s) for (name, t, s), n in found.symbols.items() if name == segment for _ in range(n)]
        index, symbols = np.array(pairs, np.int64).T
        total += len(intervals(symbols, index, tables)[0])
    assert sum(found.steps.values()) == sum(found.states.values()) == total


def test_expectations_are_those_of_the_reference(case):
    outcome, trace = expectation.expectation(replace(case, definition=True, trace=True))
    assert (outcome.width, outcome.height, outcome.channels) == (20, 30, 3)
    lines = [json.loads(line) for line in trace.splitlines()]
    assert lines[-1]["name"] == "samples" and lines[-1]["sha256"] == outcome.samples
    cut = case.data[:-1]
    assert expectation.expectation(replace(case, data=cut))[0] == reject("TruncatedStream")
    assert expectation.expectation(replace(case, data=b"abc", model=None))[0] == reject("BadMagic")
    other = replace(case, model="wires", definition=True)
    assert expectation.expectation(other)[0] == reject("ModelError")


def test_wrong_pictures_can_be_located_by_what_is_stored(case, monkeypatch):
    """Digests of blocks of every picture, and the samples of small ones that come with a trace."""
    expected, files = decode_stream(case.data, model=models.model(MODEL))[0], {}
    entry = generate._vector(replace(case, trace=True), "x", files)
    assert entry["expect"]["blocks"] == digests(expected)
    assert files[entry["picture"]] == expected.tobytes() and entry["picture"] == "pictures/one.raw"
    assert "picture" not in generate._vector(case, "x", files)
    monkeypatch.setattr(generate, "PICTURE", expected.size - 1)
    assert "picture" not in generate._vector(replace(case, trace=True), "x", files)


def test_what_a_generator_says_wrongly_is_noticed(case):
    right, _ = expectation.expectation(case)
    assert expectation.expectation(replace(case, expect=right))[0] == right
    said = reject("TruncatedStream", "ChecksumError")
    assert expectation.expectation(replace(case, data=case.data[:-1], expect=said))[0].also == ("ChecksumError",)
    for wrong in (replace(right, samples="0" * 64), reject("BadMagic")):
        with pytest.raises(expectation.Disagreement):
            expectation.expectation(replace(case, expect=wrong))
    with pytest.raises(expectation.Disagreement):  # nobody can tell the samples without a model
        expectation.expectation(replace(case, model=None, expect=right))


def test_backends_that_disagree_are_noticed(case, monkeypatch):
    def decoded(data, model, backend, trace=None):
        return Accept(1, 1, 3, ("0" if backend == "numpy" else "1") * 64)

    monkeypatch.setattr(expectation, "decoded", decoded)
    with pytest.raises(expectation.Disagreement, match="numpy"):
        expectation.expectation(case)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "other/one"},
        {"id": "core/One"},
        {"clauses": ()},
        {"clauses": ("x",)},
        {"clauses": ("7.2-1", "7.2-1")},
        {"suggests": " "},
        {"origin": ""},
    ],
)
def test_cases_that_break_a_rule_are_refused(case, change, registered):
    @registered("core", "one")
    def one():
        """One."""
        yield replace(case, **change)

    with pytest.raises(ValueError, match="core/one"):
        registry.generators("core")[0].cases()


def test_generators_need_a_suite_a_name_of_their_own_and_a_docstring(registered):
    def described():
        """Something."""

    registered("core", "one")(described)
    for suite, name, function in (("other", "one", described), ("core", "one", described), ("core", "two", lambda: ())):
        with pytest.raises(ValueError, match=name):
            registered(suite, name)(function)
    assert [g.description for g in registry.generators("core")] == ["Something."]


@pytest.fixture
def kit(tmp_path, monkeypatch, case, registered):
    """A kit of one suite with a stream and a unit, in a separate folder."""
    monkeypatch.setattr(generate, "KIT", tmp_path)
    monkeypatch.setattr(models, "FOLDER", tmp_path / "models")
    models._file_hash.cache_clear()
    made = [replace(case, trace=True), Unit("core/two", {"operation": "x", "cases": []}, ("5.2-1",), "a", "b")]

    @registered("core", "all")
    def everything():
        """All."""
        yield from made

    yield tmp_path, made
    models._file_hash.cache_clear()


def command(*arguments):
    from conformance.cli import run_command

    return run_command("generate", arguments)


def test_suites_are_written_checked_and_rebuilt_as_they_were(kit, capsys):
    root, _ = kit
    folder = root / "suites" / "core"
    assert command("core") == 0 and command("core", "--check") == 0
    loaded = suites.load(folder / "manifest.json")
    suites.check_files([loaded])
    assert [v.id for v in loaded.vectors] == ["core/one", "core/two"]
    assert loaded.models[MODEL].fingerprint == load_model(root / "models" / f"{MODEL}.h5").fingerprint.hex()
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    (folder / "streams" / "one.loclic").write_bytes(b"")
    (folder / "streams" / "left.loclic").write_bytes(b"")
    (folder / "manifest.json").unlink()
    assert command("core", "--check") == 1 and "left.loclic" in capsys.readouterr().out
    assert command("core") == 0
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


def test_streams_with_a_base_are_stored_as_edits_of_it(kit, case, monkeypatch):
    root, made = kit
    monkeypatch.setattr(registry, "SOUND", {})
    registry.sound("whole")(lambda: case.data)
    with pytest.raises(ValueError, match="two sound streams"):
        registry.sound("whole")(lambda: b"")
    cut = case.data[:7] + b"??" + case.data[9:-3]
    made += [
        replace(case, id="core/cut", data=cut, base="whole", model=None),
        replace(case, id="core/same", base="whole"),
    ]
    monkeypatch.setattr(generate, "SOUND", registry.SOUND)
    assert command("core") == 0 and command("core", "--check") == 0
    loaded = suites.load(root / "suites" / "core" / "manifest.json")
    suites.check_files([loaded])
    _, _, refused, same = loaded.vectors
    assert refused.read() == cut and refused.edits == ((7, 2, b"??"), (len(cut), 3, b""))
    assert same.read() == case.data and not same.edits and same.file == refused.file
    assert [p.name for p in (root / "suites" / "core" / "bases").iterdir()] == ["whole.loclic"]


@given(old=st.binary(max_size=60), parts=st.lists(st.binary(max_size=20), max_size=3), data=st.data())
def test_edits_between_give_the_other_file(old, parts, data):
    new = old
    for part in parts:
        at = data.draw(st.integers(0, len(new)))
        new = new[:at] + part + new[data.draw(st.integers(at, len(new))) :]
    edits = edits_between(old, new)
    assert edited(old, edits) == new and bool(edits) == (old != new)
    assert all(a[0] + a[1] < b[0] for a, b in pairwise(edits))


@given(old=st.binary(max_size=20), parts=st.lists(st.tuples(st.binary(max_size=3), st.integers(0, 200)), max_size=4))
def test_edits_are_written_with_their_runs(old, parts):
    new = b"".join(part * times for part, times in parts)
    edits = edits_between(old, new)
    stored = as_json(edits)
    assert edited(old, from_json(stored)) == new
    assert sum(len(edit[2]) for edit in stored) <= sum(2 * len(part) for _, _, part in edits)


def test_a_long_run_takes_a_few_bytes():
    assert as_json(edits_between(b"ab", b"a" + b"x" + bytes(2**20) + b"y" + b"b")) == [
        [1, 0, "78"],
        [1, 0, "00", 2**20],
        [1, 0, "79"],
    ]


@pytest.mark.parametrize(
    ("old", "new", "edits"),
    [
        (b"a" * 50, b"a" * 20 + b"b" + b"a" * 29, ((20, 1, b"b"),)),
        (bytes(range(50)), bytes(range(20)) + b"!!" + bytes(range(20, 50)), ((20, 0, b"!!"),)),
        (
            bytes(range(80)),
            b"!" + bytes(range(1, 30)) + bytes(range(35, 79)) + b"!",
            ((0, 1, b"!"), (30, 5, b""), (79, 1, b"!")),
        ),
    ],
    ids=["replaced", "put in", "all of these"],
)
def test_edits_are_few(old, new, edits):
    assert edits_between(old, new) == edits


def test_a_model_file_that_is_missing_or_damaged_is_noticed_and_made_again(kit):
    path = kit[0] / "models" / f"{MODEL}.h5"
    assert command("core", "--check") == 1 and not path.exists()
    models._file_hash.cache_clear()
    assert command("core") == 0
    path.write_bytes(b"damaged")
    models._file_hash.cache_clear()
    assert command("core", "--check") == 1 and path.read_bytes() == b"damaged"


def test_a_vector_that_changes_under_its_id_is_refused(kit, case):
    _, made = kit
    assert command("core") == 0
    made[0] = replace(case, data=writer.random_stream(models.model(MODEL), 2, 20, 30))
    with pytest.raises(KitError, match="core/one"):
        command("core")
    assert command("core", "--renew") == 0
    made.pop()
    with pytest.raises(KitError, match="core/two"):
        command("core")
    made.append(replace(case, id="core/one"))
    with pytest.raises(ValueError, match="core/one"):
        command("core", "--renew")


def test_an_unknown_suite_is_refused():
    with pytest.raises(KitError, match="other"):
        command("other")


def test_an_unknown_model_is_refused():
    with pytest.raises(ModelError):
        models.model("other")


@pytest.mark.parametrize("name", sorted(path.stem for path in models.FOLDER.glob("*.h5")))
def test_shipped_models_load_are_proved_and_are_what_their_sources_make(name):
    assert load_model(models.source(name).path).fingerprint == models.model(name).fingerprint


def test_blank_layers_of_a_constructed_model_are_checked_like_any():
    content = dict(models.source("wires").content())
    content["layers/h_s/0/weight"] = np.full_like(content["layers/h_s/0/weight"], 32767)
    with pytest.raises(InvalidModel):
        build_model(content)
