"""Random streams find what a decoder does wrong, and shrinking ends at a minimal stream that is kept as a vector."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.cli import main
from conformance.kit.suites import KIT, check_files, load_all
from conformance.synthetic.writer import STYLES, random_stream
from conformance.workbench.differential import STORED, Recipe, draft_of, random_streams, recipe, written
from conformance.workbench.keep import Family, family_of, keep
from conformance.workbench.shrink import Draft, cropped, shrink
from refcodec.bitstream.container import parse
from refcodec.codec import decode_stream
from refcodec.errors import ModelError
from refcodec.lossless.rectangles import Rectangles

SLICES = 3


@cache
def tiny() -> Family:
    """The tiny procedural model, and what there is of it with fewer slices."""
    return family_of("tiny-7")


# ----------------------------------------------------------------------------------------------------------- streams


def test_random_streams_are_functions_of_seed_and_number():
    made = [recipe(1, n, 130, 100) for n in range(60)]
    assert made == [recipe(1, n, 130, 100) for n in range(60)] != [recipe(2, n, 130, 100) for n in range(60)]
    assert len({r.seed for r in made}) == 60 and {r.style for r in made} == set(STYLES)
    assert {r.channels for r in made} == {1, 3}
    for name in ("width", "height"):
        sizes = [getattr(r, name) for r in made]
        assert 1 <= min(sizes) < 20 and 110 < max(sizes) <= 130
    assert all(r.lossless if r.quality == 0 else 1 <= r.quality <= 100 for r in made)
    assert {recipe(1, n, 9, 1).quality for n in range(60)} == {0, 1}
    assert {r.lossless for r in made} == {False, True} and {r.stored for r in made} == {*STORED}
    assert {(0, 0), (1, 1), (3, 2)} < {r.tile for r in made if not r.lossless}


def test_random_streams_are_valid():
    for _, data in random_streams(tiny(), 4, 12, 100):
        decode_stream(data, model=tiny().model(SLICES), verify=True)


@pytest.mark.parametrize(
    ("style", "chunks", "digest"),
    [("mixed", (("abcd", b"payload"),), True), ("escapes", (), False), ("extremes", (), True)],
)
def test_a_stream_and_its_draft_are_the_same(style, chunks, digest):
    data = random_stream(tiny().model(SLICES), 8, 66, 9, 1, 42, style, digest, chunks)
    assert written(draft_of(data, tiny()), tiny()) == data


STREAMS = [n for n in range(60) if recipe(2, n, 150, 100).stored or recipe(2, n, 150, 100).tile != (0, 0)][:12]


@pytest.mark.parametrize("number", STREAMS)
def test_streams_with_tiles_and_stored_samples_and_their_drafts_are_the_same(number):
    data = recipe(2, number, 150, 100).stream(tiny().model(SLICES))
    assert written(draft_of(data, tiny()), tiny()) == data


@pytest.mark.parametrize("number", STREAMS)
def test_smaller_pictures_keep_what_is_stored(number):
    """Alpha and rectangles of the part that is left, coded again, in a valid stream."""
    made = draft_of(recipe(2, number, 150, 100).stream(tiny().model(SLICES)), tiny())
    small = cropped(made, SLICES, -(-made.width // 2), -(-made.height // 3))
    before, after = (decode_stream(written(d, tiny()), model=tiny().model(SLICES))[0] for d in (made, small))
    assert {tag for tag, _ in small.chunks} | {"LOSS"} == {tag for tag, _ in made.chunks} | {"LOSS"}
    kept = before[: small.height, : small.width]
    if made.lossless:
        assert np.array_equal(kept, after)
    elif "ALPH" in dict(made.chunks):
        assert np.array_equal(kept[:, :, -1], after[:, :, -1])
    if "LOSS" in dict(small.chunks) and not made.lossless:
        for y, x, w, h in Rectangles(dict(small.chunks)["LOSS"], small.width, small.height, small.channels).places:
            colours = kept.reshape(*kept.shape[:2], -1)[y : y + h, x : x + w, : made.channels]
            assert np.array_equal(colours, after.reshape(*kept.shape[:2], -1)[y : y + h, x : x + w, : made.channels])


# --------------------------------------------------------------------------------------------------------- shrinking


def draft(seed: int, width: int, height: int, largest: int = 2000) -> Draft:
    """A draft of random symbols."""
    rng, rows, columns = np.random.default_rng(seed), -(-height // 64), -(-width // 64)
    return Draft(
        SLICES,
        width,
        height,
        1,
        77,
        rng.integers(-largest, largest, (rows, columns, 6), np.int32),
        rng.integers(-largest, largest, (SLICES, 2, 4 * rows, 2 * columns, 8), np.int32),
        True,
        (("abcd", b"x"),),
    )


def neighbours(d: Draft):
    """Every draft that is one step simpler."""
    for name in ("width", "height"):
        if getattr(d, name) > 1:
            yield cropped(d, d.slices, d.width - (name == "width"), d.height - (name == "height"))
    if d.slices > 1:
        yield cropped(d, d.slices - 1, d.width, d.height)
    if d.quality > 1:
        yield replace(d, quality=d.quality - 1)
    for part in ("z", "y"):
        symbols = getattr(d, part)
        for place in np.argwhere(symbols):
            for value in {0, symbols[tuple(place)] - np.sign(symbols[tuple(place)])}:
                changed = symbols.copy()
                changed[tuple(place)] = value
                yield replace(d, **{part: changed})


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(0, 2),
    st.integers(0, 1),
    st.integers(1, 1900),
    st.integers(1, 70),
    st.integers(1, 77),
)
def test_shrinking_ends_at_a_minimal_draft(seed, width, height, i, half, threshold, rows, quality):
    def fails(d: Draft) -> bool:
        """Like a decoder that reads large symbols of one half wrongly, from a height and a quality on."""
        return (
            d.slices > i
            and d.height >= min(rows, height)
            and d.quality >= quality
            and bool((np.abs(d.y[i, half]) >= threshold).any())
        )

    start = draft(seed, width, height)
    if not fails(start):
        return
    small = shrink(start, fails, fewer_slices=True, trials=20_000)
    assert fails(small) and not any(fails(d) for d in neighbours(small))
    assert (small.slices, small.width, small.height, small.channels, small.quality) == (
        i + 1,
        1,
        min(rows, height),
        3,
        quality,
    )
    assert small.nonzero == 1 and np.abs(small.y).max() == threshold and not small.digest and not small.chunks
    assert small.y.shape == (i + 1, 2, 4 * -(-small.height // 64), 2, 8)


def with_chunks(number: int) -> Draft:
    """A draft of a random stream that has alpha and rectangles, in tiles."""
    made = replace(recipe(1, number, 100, 100), tile=(1, 1), stored=("LOSS", "ALPH"), lossless=False, quality=9)
    return draft_of(made.stream(tiny().model(SLICES)), tiny())


@pytest.mark.parametrize("tag", ["ALPH", "LOSS"])
def test_chunks_stay_if_they_matter_and_pictures_shrink_with_them(tag):
    start = with_chunks(4)
    small = shrink(start, lambda d: tag in dict(d.chunks) and bool(written(d, tiny())), trials=300)
    assert [name for name, _ in small.chunks] == [tag] and small.tile == (0, 0) and not small.digest
    assert small.describe().endswith(f", {tag}") and "tiles of 64x64" in start.describe()
    if tag == "ALPH":
        assert (small.width, small.height) == (1, 1)


def test_tiles_stay_if_they_matter():
    small = shrink(with_chunks(4), lambda d: d.tile != (0, 0), trials=2000)
    assert small.tile == (1, 1) and not small.chunks and (small.width, small.height, small.nonzero) == (1, 1, 0)


def test_a_picture_without_loss_shrinks():
    made = Recipe(3, 40, 30, 3, 0, "plain", stored=("LOSS", "ALPH"), lossless=True)
    start = draft_of(made.stream(tiny().model(SLICES)), tiny())
    small = shrink(start, lambda d: d.height > 6 and bool(written(d, tiny())), trials=300)
    assert (small.width, small.height, [tag for tag, _ in small.chunks]) == (1, 7, ["LOSS"])
    assert small.describe() == "1x7, colour, without loss, LOSS"


def test_two_symbols_that_only_fail_together_both_stay():
    def fails(d: Draft) -> bool:
        return bool((d.z[0, 0, 0] > 3) and (np.abs(d.y) > 50).sum() >= 1)

    start = draft(5, 64, 64)
    start.z[0, 0, 0] = 1500
    small = shrink(start, fails, fewer_slices=True, trials=20_000)
    assert small.nonzero == 2 and small.z[0, 0, 0] == 4 and np.abs(small.y).max() == 51 and small.slices == 1


def test_shrinking_keeps_to_its_trials_and_always_gives_a_failing_draft():
    asked = 0

    def fails(d: Draft) -> bool:
        nonlocal asked
        asked += 1
        return d.nonzero > 7

    small = shrink(draft(1, 64, 64), fails, trials=25)
    assert asked == 25 and small.nonzero > 7
    assert shrink(draft(1, 64, 64), lambda d: False, trials=9).describe() == draft(1, 64, 64).describe()


def test_models_of_fewer_slices_have_the_same_width():
    for slices in (1, 2, 3):
        config = tiny().model(slices).config
        assert (config.slices, config.ch) == (slices, 8)
    assert tiny().procedural and tiny().model(3).fingerprint.hex() == "89e423ec7c5d54faf9ca4ce9599c8220"
    assert len({tiny().model(n).fingerprint for n in (1, 2, 3)}) == 3
    with pytest.raises(ModelError, match="nowhere"):
        family_of("nowhere.h5")


# ----------------------------------------------------------------------------------------------------------- command

DECODERS = '''
"""Decoders under test: refcodec with a fault planted."""

from functools import cache

import numpy as np

import refcodec
from refcodec.arith.engine import Engine
from refcodec.entropy import rans

model = cache(refcodec.load_model)
get, place, gain = rans.RangeDecoder.get, Engine.place, Engine.gain


def right(stream, path):
    return refcodec.decode(stream, model=model(path))


def large_symbols(stream, path):
    """Symbols of 300 and more are read as 0."""
    def read(self, *more):
        symbols = get(self, *more)
        return np.where(np.abs(symbols) < 300, symbols, 0).astype(np.int32)

    rans.RangeDecoder.get = read
    try:
        return right(stream, path)
    finally:
        rans.RangeDecoder.get = get


def tall(stream, path):
    """Crashes on pictures of 10 rows and more, says that it supports no grey."""
    if stream[6] == 1:
        raise NotImplementedError("grey")
    if int.from_bytes(stream[12:16], "little") >= 10:
        raise RuntimeError("too tall")
    return right(stream, path)
'''


@pytest.fixture
def decoders(tmp_path, monkeypatch):
    """A folder with decoders to import, as the current one."""
    (tmp_path / "planted.py").write_text(DECODERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFCODEC_BACKEND", "numpy")
    return tmp_path


def differential(name, *more):
    """Run the command."""
    return main(["differential", "--decoder", f"python:planted:{name}", *more])


def test_a_right_decoder_does_not_differ(decoders, capsys):
    assert differential("right", "--count", "3", "--seed", "9", "--side", "64") == 0
    assert capsys.readouterr().out == "3 streams compared, 0 failed\n"


@pytest.mark.slow
def test_a_failure_is_shrunk_and_kept_as_a_vector(decoders, capsys):
    kit = decoders / "kept"
    assert differential("large_symbols", "--seed", "1", "--side", "64", "--keep", str(kit)) == 1
    text = capsys.readouterr().out
    assert "1 failed" in text and "fail: " in text and "made by: random_stream seed" in text
    (suite,) = load_all(kit)
    check_files([suite])
    (vector,) = suite.vectors
    assert vector.id in text and vector.model.name == "tiny-7-slices-1"
    small = draft_of(vector.read(), Family(vector.model.name, tiny().contents(1), 7))
    assert (small.width, small.height, small.quality, small.channels, small.digest) == (1, 1, 1, 3, False)
    assert small.nonzero == 1 and max(np.abs(small.z).max(), np.abs(small.y).max()) == 300

    for decoder, code in (("large_symbols", 1), ("right", 0)):
        assert main(["run", "--kit", str(kit), "--decoder", f"python:planted:{decoder}"]) == code
    trace = kit / "suites/differential/traces" / (vector.id.split("/")[1] + ".jsonl")
    lines = trace.read_text().replace(json.loads(trace.read_text().split("\n")[4])["sha256"], "0" * 64)
    (decoders / "wrong.jsonl").write_text(lines)
    common = ["bisect", "--kit", str(kit), "--vector", vector.id, "--reference", "none", "--trace"]
    assert main([*common, str(trace)]) == 0
    alone = "import sys; sys.modules['refcodec'] = None; from conformance.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", alone, *common, "wrong.jsonl"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(KIT.parents[1])},
    )
    assert done.returncode == 1 and "first difference: h_s/2" in done.stdout


@pytest.mark.slow
def test_a_stream_at_hand_is_shrunk_in_the_same_way_of_failing(decoders, capsys):
    data = random_stream(tiny().model(SLICES), 2, 9, 30, 3, 12, "sparse")
    (decoders / "s.loclic").write_bytes(data)
    assert differential("tall", "--stream", "s.loclic", "--keep", "kept") == 1
    text = capsys.readouterr().out
    assert "crash" in text and "shrunk to: 1x10, colour, quality 1, 1 slices, 0 of" in text
    assert parse((next((decoders / "kept").glob("suites/*/streams/*"))).read_bytes()).header.height == 10


def test_what_is_not_supported_is_no_failure(decoders, capsys):
    (decoders / "s.loclic").write_bytes(random_stream(tiny().model(SLICES), 2, 9, 9, 1, 12))
    assert differential("tall", "--stream", "s.loclic") == 0


def test_vectors_are_added_to_a_kit_once(tmp_path):
    data = [random_stream(tiny().model(n), 3, 5, 5, digest=False) for n in (3, 2)]
    ids = [keep(tmp_path, stream, tiny(), n, "a test") for stream, n in zip([*data, data[0]], (3, 2, 3), strict=True)]
    (suite,) = load_all(tmp_path)
    check_files([suite])
    assert ids[0] == ids[2] != ids[1] and [v.id for v in suite.vectors] == ids[:2]
    assert sorted(suite.models) == ["tiny-7", "tiny-7-slices-2"]
    (tmp_path / "suites/differential/manifest.json").write_text("{}")
    with pytest.raises(Exception, match="'format' is missing"):
        keep(tmp_path, data[0], tiny(), 3, "a test")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--seed", "-1"], 2, "--seed -1"),
        (["--model", "none.h5"], 78, "none.h5"),
        (["--stream", "absent"], 66, "no such input"),
        (["--stream", "planted.py"], 65, "magic"),
        (["--decoder", "python:planted:none"], 2, "none"),
        (["--decoder", "nothing {stream}"], 2, "{output} is missing"),
    ],
)
def test_errors_are_one_line(decoders, capsys, arguments, code, says):
    assert differential("right", "--count", "1", *arguments) == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and "Traceback" not in error
