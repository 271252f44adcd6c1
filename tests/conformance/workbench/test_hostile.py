"""Hostile input: whatever the bytes, a stream is decoded or refused and a model is loaded or refused, within limits."""

import io
import json
import time
import tracemalloc
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module
from tiny_models import TINY, spec_content, tiny_content

import refcodec
from conformance.cli import main, run_command
from conformance.synthetic.models.broken_files import HARMLESS, OUTSIDE, OUTSIDE_RAW, STRUCTURES, VICTIM
from conformance.synthetic.streams import Parts, chunk
from conformance.workbench.fuzz import command as fuzz
from conformance.workbench.fuzz.models import hostile_model, model_corpus
from conformance.workbench.fuzz.pictures import hostile_picture, picture_corpus
from conformance.workbench.fuzz.stored import rectangle_list, samples_payload
from conformance.workbench.fuzz.streams import RECIPES, STATES, corpus, hostile_stream
from refcodec import errors
from refcodec.bitstream.container import Header, pack_header
from refcodec.bitstream.fields import FIELDS
from refcodec.codec import decode_stream
from refcodec.errors import CoderError, InvalidModel, InvalidStream, LimitExceeded, RefcodecError
from refcodec.io.pictures import read_picture
from refcodec.limits import Limits
from refcodec.lossless.rectangles import Rectangles
from refcodec.model import hdf5, hdf5_arrays
from refcodec.model.file import read_content
from refcodec.model.integer_model import build_model
from refcodec.model.procedural import procedural_model
from refcodec.model.registry import load_model
from refcodec.nets.hyperprior import REACH as HYPER_REACH
from refcodec.nets.synthesis import REACH
from refcodec.tiles import Region

SPEC = spec_module()
REGRESSIONS = sorted(p for p in (Path(__file__).parents[2] / "regressions").iterdir() if p.suffix != ".md")
hostile = settings(derandomize=True, deadline=None, max_examples=100)

TAGS = st.one_of(st.binary(min_size=4, max_size=4), st.sampled_from([b"exif", b"zz 9", b"Need"]))
U32 = st.one_of(st.sampled_from([0, 1, 255, 1 << 20, (1 << 20) + 1, 1 << 31, (1 << 32) - 1]), st.integers(0, 1 << 32))


@pytest.fixture(scope="module")
def streams():
    return corpus(procedural_model("tiny", 7))


def outcome(data: bytes, model) -> str:
    """The class of a refusal, or "decoded"; any other exception fails the test."""
    try:
        samples, stream = decode_stream(data, model=model, threads=1, limits=fuzz.LIMITS)
        assert refcodec.info(data).total_bytes == len(data)
    except RefcodecError as e:
        assert len(str(e).splitlines()) == 1
        return type(e).__name__
    header = stream.header
    channels = header.channels + (stream.chunk("ALPH") is not None)
    shape = (header.height, header.width)
    assert samples.shape == (shape if channels == 1 else (*shape, channels)) and samples.dtype == np.uint8
    return "decoded"


# --------------------------------------------------------------------------------------------------------- streams


@hostile
@given(st.integers(0, 22), st.dictionaries(st.sampled_from([f.name for f in FIELDS[1:12]]), U32, max_size=3))
def test_any_header_fields(streams, n, fields):
    parts = streams.streams[n].copy()
    for name, value in fields.items():
        parts.put(name, value)
    outcome(parts.sealed(), streams.model)


@hostile
@given(st.integers(0, 19), st.integers(0, 3), st.lists(U32, min_size=3, max_size=3), st.binary(max_size=40))
def test_any_entry_of_the_index(streams, n, tile, numbers, more):
    """Lengths and checksums that do not fit what is there are refused; so is what is left over."""
    parts = streams.coded[n].copy()
    parts.index = parts.entries()
    tile %= len(parts.index)
    numbers = numbers[: len(parts.index[tile])]
    honest = numbers == parts.index[tile] and not more
    parts.index[tile] = numbers
    parts.chunks.append(more)
    assert outcome(parts.sealed(), streams.model) != "decoded" or honest


@pytest.mark.slow
@settings(hostile, max_examples=30)
@given(st.integers(15, 19), st.data())
def test_a_damaged_tile_is_named_and_does_not_harm_regions_elsewhere(streams, n, data):
    """(SPEC 4.5-4, 4.5-5) Every region that does not need the tile is that of the whole picture."""
    parts = streams.coded[n].copy()
    whole, stream = decode_stream(parts.sealed(), model=streams.model, threads=1)
    grid = stream.header.grid
    tile = data.draw(st.integers(0, grid.count - 1))
    z, y = parts.segments[tile]
    parts.index = parts.entries()
    parts.segments[tile] = (z, y[:-1] + bytes([y[-1] ^ 1]))
    damaged = parts.sealed()
    with pytest.raises(errors.ChecksumError, match=f"tile {tile} "):
        decode_stream(damaged, model=streams.model, threads=1)
    height, width = whole.shape[:2]
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    region = (x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    of_y = grid.needed(grid.window(Region(*region), REACH))
    needed = [k.index for k in grid.needed_z(grid.z_window(of_y, HYPER_REACH))]
    try:
        part, _ = decode_stream(damaged, model=streams.model, threads=1, region=region)
    except errors.ChecksumError:
        assert tile in needed
    else:
        assert tile not in needed
        assert np.array_equal(part, whole[y : y + region[3], x : x + region[2]])


@hostile
@given(
    st.lists(
        st.tuples(TAGS, st.binary(max_size=12), st.sampled_from([0, 0, 0, 1, -1, 1 << 24, (1 << 31) - 1])), max_size=5
    )
)
def test_any_chunks(streams, chunks):
    """Refused or decoded exactly as SPEC 8.4 says."""
    parts = streams.streams[0].copy()
    parts.chunks = [tag + max(0, len(data) + more).to_bytes(4, "little") + data for tag, data, more in chunks]
    data = parts.sealed()
    try:
        SPEC.parse_stream(data)
        expected = "decoded"
    except ValueError as e:
        expected = str(e)
    assert outcome(data, streams.model) == expected


@hostile
@given(
    st.integers(2, 19),
    st.integers(0, 1),
    st.integers(0, 3),
    st.integers(0, 200),
    st.one_of(st.sampled_from(STATES).map(lambda x: x.to_bytes(8, "little")), st.binary(min_size=1, max_size=12)),
)
def test_any_coder_words(streams, n, place, kind, at, run):
    """Words of the last tile changed, inserted, cut and appended under right checksums."""
    parts = streams.coded[n].copy()
    pair = list(parts.segments[-1])
    segment = pair[place]
    at %= len(segment) + 1
    segment = (
        segment[:at] + run + segment[at + len(run) :],
        segment[:at] + run + segment[at:],
        segment[:at],
        segment + run,
    )[kind]
    changed = segment != pair[place]
    pair[place] = segment
    parts.segments[-1] = tuple(pair)
    result = outcome(parts.sealed(), streams.model)
    assert result in ("CoderError", "SymbolError") or (result == "decoded" and (not changed or kind == 0))


@pytest.mark.slow
def test_cases_of_the_fuzzer_reach_every_depth(streams):
    results = [outcome(hostile_stream(streams, 3, index), streams.model) for index in range(400)]
    deep = sum(r in ("CoderError", "SymbolError", "decoded") for r in results)
    assert {"HeaderError", "TruncatedStream", "ChecksumError", "TrailingBytes", "CoderError"} <= set(results)
    assert {"ChunkError", "decoded"} <= set(results)
    assert 0.1 < deep / len(results) < 0.4


@pytest.mark.parametrize("recipe", [recipe for recipe, _ in RECIPES], ids=lambda recipe: recipe.__name__)
def test_every_recipe_makes_cases_that_decode_or_are_refused(streams, recipe):
    """Of every stream, those without tiles, with tiles and without segments."""
    for n, parts in enumerate(streams.streams):
        assert outcome(recipe(Random(n), parts.copy(), streams), streams.model)


SIZES = st.tuples(st.integers(1, 140), st.integers(1, 140), st.sampled_from([1, 3]))


@pytest.mark.slow
@hostile
@given(st.integers(0, 10**6), SIZES, st.booleans())
def test_any_stored_samples(seed, size, faulty):
    """Refused or decoded exactly as SPEC 8.10 and 8.11 say, and without a fault decoded."""
    height, width, channels = size
    header = Header(width, height, channels, 0, bytes(16), lossless=True)
    chunks = [("LOSS", samples_payload(Random(seed), *size, faulty / 2))]
    chunks += [("ALPH", samples_payload(Random(~seed), height, width, 1, faulty / 2))] if seed % 3 == 0 else []
    parts = Parts(bytearray(pack_header(header)), [], [chunk(tag.encode(), payload) for tag, payload in chunks])
    data = parts.sealed()
    try:
        expected = np.array(SPEC.decode_picture(data, None), np.uint8)
    except ValueError as error:
        assert str(error) == outcome(data, None) == "ChunkError" and faulty
    else:
        samples, _ = decode_stream(data)
        assert np.array_equal(samples.reshape(expected.shape), expected)


@hostile
@given(st.integers(0, 10**6), SIZES, st.booleans())
def test_any_rectangles(seed, size, faulty):
    """Their list is refused or read exactly as SPEC 8.11 says."""
    height, width, channels = size
    payload = rectangle_list(Random(seed), height, width, channels, faulty / 2)
    try:
        expected = [place[:4] for place in SPEC.lossless_rectangles(payload, height, width)]
    except ValueError:
        assert faulty
        with pytest.raises(errors.ChunkError):
            Rectangles(payload, width, height, channels)
    else:
        found = Rectangles(payload, width, height, channels).places
        assert [(place.x, place.y, place.width, place.height) for place in found] == expected


def test_symbols_that_no_encoder_chooses_decode_alike_in_both_backends(streams):
    """Extremes in every layer: what the bounds of SPEC 9.2 are for."""
    for parts in streams.coded[7:]:
        data = parts.sealed()
        numba, numpy = (decode_stream(data, model=streams.model, threads=1, backend=b)[0] for b in ("numba", "numpy"))
        assert np.array_equal(numba, numpy)


def measured(act) -> tuple[float, int]:
    """Seconds, and bytes at most allocated by Python and NumPy, of a call; being watched makes it slower."""
    tracemalloc.start()
    started = time.perf_counter()
    try:
        act()
        return time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "width, height",
    [(1 << 20, 1 << 7), (11_586, 11_586), (1 << 14, (1 << 13) + 1), (1 << 20, 1 << 20), ((1 << 32) - 1, (1 << 32) - 1)],
)
def test_a_header_beyond_the_limits_costs_nothing(streams, width, height):
    """A kilobyte that claims 2^27 pixels or more: well below 50 ms and 1 MB, by the header alone."""
    parts = streams.streams[2].copy()
    parts.put("width", width)
    parts.put("height", height)
    parts.chunks.append(bytes(600))
    data = parts.sealed()
    limits = Limits(max_pixels=(1 << 27) - 1)

    def refuse() -> None:
        with pytest.raises((LimitExceeded, errors.HeaderError)):
            decode_stream(data, model=streams.model, limits=limits)

    took, memory = measured(refuse)
    assert took < 0.5 and memory < 1 << 20


@pytest.mark.parametrize("width, height", [(1 << 14, 1 << 13), (1 << 20, 1), (1, 1 << 20)])
def test_a_small_stream_of_a_large_picture_ends_with_its_words(streams, width, height):
    """2^27 pixels are within the default limits; the coder runs dry long before their maps are made."""
    parts = streams.streams[2].copy()
    parts.put("width", width)
    parts.put("height", height)
    data = parts.sealed()

    def refuse() -> None:
        with pytest.raises(CoderError):
            decode_stream(data, model=streams.model, threads=1)

    took, memory = measured(refuse)
    assert took < 2 and memory < 32 << 20
    with pytest.raises(LimitExceeded, match="memory"):
        decode_stream(data, model=streams.model, threads=1, limits=Limits(max_memory=64 << 20))


# ---------------------------------------------------------------------------------------------------------- models


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder with files that hold the very numbers a model lacks: a reader of them can load the model."""
    monkeypatch.chdir(tmp_path)
    with h5py.File(io.BytesIO(model_corpus().data), "r") as f:
        array = f[VICTIM][()]
    with h5py.File(OUTSIDE, "w") as f:
        f[VICTIM] = array
    Path(OUTSIDE_RAW).write_bytes(array.tobytes())
    return tmp_path


def loaded(data: bytes, folder: Path):
    path = folder / "model.h5"
    path.write_bytes(data)
    return load_model(path)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (n % 3 > 0)) for n, name in enumerate(STRUCTURES)]
)
def test_hostile_models_are_refused(name, outside):
    data = model_corpus().rebuilt[name]
    path = outside / "model.h5"
    path.write_bytes(data)

    def refuse() -> None:
        with pytest.raises(InvalidModel) as caught:
            build_model(*read_content(path)[:1])
        assert str(caught.value).isprintable()

    took, memory = measured(refuse)
    assert took < 5 and memory < 4 << 20


@pytest.mark.parametrize("name", ["broken-file-virtual", "broken-file-external-storage", "broken-file-external-link"])
def test_the_outside_files_would_have_made_it_whole(name, outside):
    """The three tests above mean something: HDF5 itself follows these references."""
    data = model_corpus().rebuilt[name]
    (outside / "model.h5").write_bytes(data)
    with h5py.File(outside / "model.h5", "r") as f, h5py.File(io.BytesIO(model_corpus().data), "r") as whole:
        assert np.array_equal(f[VICTIM][()], whole[VICTIM][()])


@pytest.mark.parametrize("name", HARMLESS)
def test_files_of_other_makers_are_the_same_model(name, tmp_path):
    plain, other = (loaded(data, tmp_path).fingerprint for data in (model_corpus().data, model_corpus().rebuilt[name]))
    assert plain == other


def test_loading_takes_a_small_multiple_of_the_numbers(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(model_corpus().data)
    content, _ = read_content(path)
    _, memory = measured(lambda: build_model(*read_content(path)[:1]))
    assert memory < 4 * sum(array.nbytes for array in content.values()) + (1 << 20)


def test_objects_and_chunks_are_counted(tmp_path, monkeypatch):
    data = model_corpus().rebuilt["sound-file-chunks"]
    monkeypatch.setattr(hdf5_arrays, "MAX_CHUNKS", 10)
    with pytest.raises(InvalidModel, match="too many or too large chunks"):
        loaded(data, tmp_path)
    monkeypatch.setattr(hdf5, "MAX_DATASETS", 100)
    with pytest.raises(InvalidModel, match="too many objects"):
        loaded(model_corpus().data + b"\0", tmp_path)


@pytest.mark.parametrize(
    "name, change",
    [
        ("no window", lambda c: c.pop("config/window")),
        ("two for a bool", lambda c: c.update({"config/old_synthesis": np.array(2, np.int32)})),
        ("vector for a bool", lambda c: c.update({"config/old_synthesis": np.array([1], np.int32)})),
        ("vector for a number", lambda c: c.update({"config/M": np.array([24], np.int32)})),
        ("wide field", lambda c: c.update({"config/M": np.array(24, np.int64)})),
        ("matrix of boundaries", lambda c: c.update({"z/cdf": c["z/cdf"].reshape(1, -1)})),
    ],
)
def test_content_is_refused_by_code_and_document_alike(name, change):
    content = dict(tiny_content(TINY))
    change(content)
    with pytest.raises(InvalidModel):
        build_model(content)
    with pytest.raises(ValueError, match="InvalidModel"):
        SPEC.build_model(spec_content(content))


def test_damaged_models_are_refused_or_loaded(tmp_path):
    results = set()
    for index in range(40):
        path = tmp_path / "model.h5"
        path.write_bytes(hostile_model(model_corpus(), 3, index))
        try:
            build_model(read_content(path)[0])
            results.add("loaded")
        except RefcodecError as e:
            results.add(type(e).__name__)
            assert str(e).isprintable()
    assert results == {"loaded", "InvalidModel"}


def test_numbers_out_of_range_are_refused():
    with h5py.File(io.BytesIO(model_corpus().data), "r") as f:
        content = {name: f[name][()] for name in model_corpus().names}
    for name, at, value in (
        ("layers/g_s/7/weight", 0, -(1 << 15)),
        ("layers/g_s/1/igdn/beta", 0, 0),
        ("layers/g_s/1/igdn/gamma", 0, 1 << 62),
        ("z/cdf", -1, 70_000),
        ("z/start", -1, -5),
        ("z/medians", 0, 1 << 20),
        ("formats", 0, 77),
        ("formats", 1, 0),
        ("tables/exp2", 3, 1),
        ("layers/g_s/7/constants", 0, (1 << 31) - 1),
        ("layers/g_s/7/constants", 1, -1),
    ):
        array = np.array(content[name])
        array.reshape(-1)[at] = value
        with pytest.raises(InvalidModel):
            build_model({**content, name: array})


# ----------------------------------------------------------------------------------------------- pictures, the fuzzer


def test_damaged_pictures_are_refused_or_read():
    for index in range(150):
        try:
            assert read_picture(hostile_picture(picture_corpus(), 3, index), fuzz.LIMITS).samples.dtype == np.uint8
        except RefcodecError as e:
            assert e.exit_code in (65, 69, 77)


def test_a_case_runs_alone_and_again_the_same(streams, capsys):
    assert run_command("fuzz", ["--case", "5", "--seed", "3"]) == 0
    assert capsys.readouterr().out == f"case 5: {outcome(hostile_stream(streams, 3, 5), streams.model)}\n"


def test_another_exception_and_slowness_are_findings(monkeypatch, tmp_path):
    def fail(data: bytes) -> str:
        raise KeyError(data)

    monkeypatch.setitem(fuzz.TARGETS, "stream", lambda seed: (lambda index: b"xyz", fail))
    assert run_command("fuzz", ["--case", "1", "--keep", str(tmp_path)]) == 1
    assert (tmp_path / "stream_0_1.bin").read_bytes() == b"xyz"
    assert "KeyError" in (tmp_path / "stream_0_1.txt").read_text()
    monkeypatch.setattr(fuzz, "SLOW", -1.0)
    assert fuzz.run_case((lambda index: b"", lambda data: "decoded"), 0)[1].startswith("decoded after")


def test_workers_share_the_cases():
    report = fuzz.run("picture", 600, 2, jobs=2)
    assert report.outcomes.total() == 600 and not report.findings


@pytest.mark.slow
def test_a_cluster_shares_the_cases(capsys, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("conformance.workbench.fuzz.cluster.SHARE", 200)
    words = ["--target", "picture", "--cases", "500", "--first", "40", "--seed", "2"]
    assert main(["fuzz", *words, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert main(["fuzz", *words, "--json", "--dask", cluster.scheduler_address]) == 0
        shared = json.loads(capsys.readouterr().out)
        assert sum(shared["outcomes"].values()) == 500 and shared["outcomes"] == alone["outcomes"]
        broken = RuntimeError("no such module")
        monkeypatch.setattr("conformance.workbench.fuzz.cluster._share", lambda *words: (_ for _ in ()).throw(broken))
        assert main(["fuzz", *words, "--dask", cluster.scheduler_address]) == 70
        assert "a worker cannot run the fuzzer: no such module" in capsys.readouterr().err
    assert main(["fuzz", *words, "--dask", "nowhere"]) == 2


# ----------------------------------------------------------------------------------------------------- regressions


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda p: p.name)
def test_regressions_are_refused(path, streams, tmp_path):
    """The file's name says which refusal is due."""
    due = getattr(errors, path.name.split(".")[1])
    with pytest.raises(due) as caught:
        if path.suffix == ".h5":
            build_model(read_content(path)[0])
        else:
            decode_stream(path.read_bytes(), model=streams.model, limits=fuzz.LIMITS)
    assert isinstance(caught.value, InvalidModel | InvalidStream | LimitExceeded)


def test_a_name_with_a_slash_is_no_path(tmp_path):
    """The library writes none; it would open the other object of the same path."""
    data = io.BytesIO()
    with h5py.File(data, "w", libver=("v108", "v110")) as f:
        f["abcdefg"], f["abc/efg"] = np.int32(1), np.int32(2)
    assert data.getvalue().count(b"abcdefg") == 1
    with pytest.raises(InvalidModel, match="a name that may denote another object"):
        hdf5.Hdf5(io.BytesIO(data.getvalue().replace(b"abcdefg", b"abc/efg")), "x").datasets()
