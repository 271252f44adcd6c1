"""Hostile input: whatever the bytes, a stream is decoded or refused and a model is loaded or refused, within limits."""

import io
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module
from tiny_models import TINY, spec_content, tiny_content

import refcodec
from conformance.cli import run_command
from conformance.synthetic.models.broken_files import HARMLESS, OUTSIDE, OUTSIDE_RAW, STRUCTURES, VICTIM
from conformance.synthetic.streams import STATES, corpus, hostile_stream, sealed
from conformance.workbench.fuzz import command as fuzz
from conformance.workbench.fuzz.models import hostile_model, model_corpus
from conformance.workbench.fuzz.pictures import hostile_picture, picture_corpus
from refcodec import errors
from refcodec.bitstream.fields import FIELDS
from refcodec.codec import decode_stream
from refcodec.errors import CoderError, InvalidModel, InvalidStream, LimitExceeded, RefcodecError
from refcodec.io.pictures import read_picture
from refcodec.limits import Limits
from refcodec.model import hdf5, hdf5_arrays
from refcodec.model.file import read_content
from refcodec.model.integer_model import build_model
from refcodec.model.procedural import procedural_model
from refcodec.model.registry import load_model

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
    shape = (header.height, header.width)
    assert samples.shape == (shape if header.channels == 1 else (*shape, 3)) and samples.dtype == np.uint8
    return "decoded"


# --------------------------------------------------------------------------------------------------------- streams


@hostile
@given(st.integers(0, 14), st.dictionaries(st.sampled_from([f.name for f in FIELDS[1:12]]), U32, max_size=3))
def test_any_header_fields(streams, n, fields):
    parts = streams.streams[n].copy()
    for name, value in fields.items():
        parts.put(name, value)
    outcome(sealed(parts.body), streams.model)


@hostile
@given(st.integers(0, 6), U32, U32, st.binary(max_size=40), st.integers(0, 600))
def test_any_lengths(streams, n, z_length, y_length, more, cut):
    """Lengths that do not fit what is there are refused; so is what is left over."""
    parts = streams.streams[n].copy()
    honest = z_length == len(parts.z) and y_length == len(parts.y) and not more
    parts.put("z_length", z_length)
    parts.put("y_length", y_length)
    body = (parts.body + more)[: max(60, cut)]
    result = outcome(sealed(body), streams.model)
    assert honest or result != "decoded" or len(body) < len(parts.body + more)


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
    data = sealed(parts.body)
    try:
        SPEC.parse_stream(data)
        expected = "decoded"
    except ValueError as e:
        expected = str(e)
    assert outcome(data, streams.model) == expected


@hostile
@given(
    st.integers(2, 14),
    st.sampled_from("zy"),
    st.integers(0, 3),
    st.integers(0, 200),
    st.one_of(st.sampled_from(STATES).map(lambda x: x.to_bytes(8, "little")), st.binary(min_size=1, max_size=12)),
)
def test_any_coder_words(streams, n, name, kind, at, run):
    """Words changed, inserted, cut and appended under a right checksum."""
    parts = streams.streams[n].copy()
    segment = getattr(parts, name)
    at %= len(segment) + 1
    segment = (
        segment[:at] + run + segment[at + len(run) :],
        segment[:at] + run + segment[at:],
        segment[:at],
        segment + run,
    )[kind]
    changed = segment != getattr(parts, name)
    setattr(parts, name, segment)
    parts.put_lengths()
    result = outcome(sealed(parts.body), streams.model)
    assert result in ("CoderError", "SymbolError") or (result == "decoded" and (not changed or kind == 0))


def test_cases_of_the_fuzzer_reach_every_depth(streams):
    results = [outcome(hostile_stream(streams, 3, index), streams.model) for index in range(400)]
    deep = sum(r in ("CoderError", "SymbolError", "decoded") for r in results)
    assert {"HeaderError", "TruncatedStream", "ChecksumError", "TrailingBytes", "CoderError", "decoded"} <= set(results)
    assert 0.1 < deep / len(results) < 0.4
    assert "finding" not in results


def test_symbols_that_no_encoder_chooses_decode_alike_in_both_backends(streams):
    """Extremes in every layer: what the bounds of SPEC 9.2 are for."""
    for parts in streams.streams[7:]:
        data = sealed(parts.body)
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
    data = sealed(parts.body + bytes(600))
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
    data = sealed(parts.body)

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
    """A folder with files that hold the very numbers a model lacks: whoever reads them can load the model."""
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


@pytest.mark.parametrize("name", STRUCTURES)
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
    with pytest.raises(InvalidModel, match="a name that may stand for another object"):
        hdf5.Hdf5(io.BytesIO(data.getvalue().replace(b"abcdefg", b"abc/efg")), "x").datasets()
