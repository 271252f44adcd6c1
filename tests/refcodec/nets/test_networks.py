"""The networks and the slice walk: Numba, NumPy and SPEC's blocks give the same integers at every stage."""

from functools import cache

import numpy as np
import pytest
from spec import spec_module
from tiny_models import TINY, TINY_OLD, random_picture, spec_model, tiny_model

from refcodec.arith.engine import Engine
from refcodec.arith.maps import interior
from refcodec.bitstream.container import parse
from refcodec.codec import decode_stream, encode_picture
from refcodec.entropy.ports import Reader
from refcodec.errors import CoderError, SymbolError
from refcodec.slices import walk

SPEC = spec_module()
BACKENDS = ("numba", "numpy")
CASES = [
    pytest.param(config, quality, id=f"{name}-{quality}")
    for name, config, qualities in (("tiny", TINY, (1, 70)), ("tiny-old", TINY_OLD, (1,)))
    for quality in qualities
]


class Tape:
    """A trace that keeps a copy of every result in order."""

    def __init__(self):
        self.results = []

    def __call__(self, name, values):
        """Take one result."""
        assert values.dtype in (np.int16, np.int32), name
        self.results.append((name, values.copy()))

    def by_name(self):
        """Lists of results by name: the order of independent stages is free."""
        found: dict[str, list] = {}
        for name, values in self.results:
            found.setdefault(name, []).append(values.tolist())
        return found


def spec_trace(codec):
    """SPEC's results by name."""
    found: dict[str, list] = {}
    for name, values in codec["trace"]:
        found.setdefault(name, []).append(values)
    return found


class RandomPort:
    """Symbols from a seed, up to the format's bound: more than any encoder would ask of the walk."""

    def __init__(self, seed, largest):
        self.rng, self.largest, self.seen = np.random.default_rng(seed), largest, []

    def z(self, medians, shape):
        """Symbols of z."""
        return self.rng.integers(-self.largest, self.largest, shape, np.int32, endpoint=True)

    def y(self, i, parity, levels, means):
        """Symbols of one half; levels and means are kept."""
        assert levels.dtype == np.int32 and means.dtype == np.int32 and levels.shape == means.shape
        assert levels.min() >= 0 and levels.max() <= 127 and np.abs(means).max() <= 32767
        self.seen.append((i, parity, levels.tolist(), means.tolist()))
        return self.rng.integers(-self.largest, self.largest, levels.shape, np.int32, endpoint=True)


@cache
def spec_walk(config, quality, height, width, seed, largest):
    """SPEC's walk with random symbols: its results by name, what the port saw, and y_hat."""
    port, codec = RandomPort(seed, largest), SPEC.new_codec(spec_model(config), quality)

    def code_y(i, parity, levels, means):
        return port.y(i, parity, np.array(levels, np.int32), np.array(means, np.int32)).tolist()

    z_symbols = port.z(None, (height // 4, width // 4, config.hyper)).tolist()
    y_hat = SPEC.walk(codec, SPEC.hyper_parameters(codec, z_symbols), code_y)
    return spec_trace(codec), port.seen, y_hat


def check_walk(config, quality, height, width, seed, largest, backend):
    """Compare our walk with SPEC's at every stage, and return y_hat."""
    model, tape, port = tiny_model(config), Tape(), RandomPort(seed, largest)
    engine = Engine(model.layers, model.tables, quality - 1, 1, backend, tape)
    y_hat = interior(walk(engine, config, model.medians, port, height, width)).copy()
    expected, seen, expected_y_hat = spec_walk(config, quality, height, width, seed, largest)
    found = tape.by_name()
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == values, name
    assert port.seen == seen
    assert y_hat.tolist() == expected_y_hat
    return y_hat


# ------------------------------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize(
    ("config", "quality"), [CASES[0], pytest.param(*CASES[1].values, marks=pytest.mark.slow), CASES[2]]
)
def test_streams_and_pictures_are_the_same_three_ways(config, quality):
    model, picture = tiny_model(config), random_picture(64, 64)
    coded = {backend: encode_picture(picture, quality, model=model, backend=backend) for backend in BACKENDS}
    data = coded["numba"].data
    assert coded["numpy"].data == data
    assert SPEC.encode_picture(picture.tolist(), quality, spec_model(config)) == data
    shown = coded["numba"].reconstruction
    assert np.unique(shown).size > 100  # a picture, not a constant
    assert SPEC.decode_picture(data, spec_model(config)) == shown.tolist()
    for backend in BACKENDS:
        decoded, _ = decode_stream(data, model=model, backend=backend, verify=True)
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, shown)


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 1), (37, 65, 1), (70, 20, 3), (128, 63, 3)])
def test_sizes_and_grey(height, width, channels):
    model, picture = tiny_model(), random_picture(height, width, 3, channels)
    coded = [encode_picture(picture, 30, model=model, backend=backend) for backend in BACKENDS]
    assert coded[0].data == coded[1].data
    decoded, _ = decode_stream(coded[0].data, model=model, verify=True)
    assert decoded.shape == picture.shape
    np.testing.assert_array_equal(decoded, coded[1].reconstruction)


def test_a_grey_picture_decodes_by_the_document():
    picture = random_picture(20, 30, 4, 1)
    coded = encode_picture(picture, 80, model=tiny_model())
    assert SPEC.decode_picture(coded.data, spec_model()) == coded.reconstruction[:, :, None].tolist()
    assert SPEC.encode_picture(picture[:, :, None].tolist(), 80, spec_model()) == coded.data


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_change_nothing(backend, threads):
    model, picture, tapes = tiny_model(), random_picture(128, 192, 5), [Tape(), Tape()]
    alone = encode_picture(picture, 50, model=model, threads=1, backend="numba", trace=tapes[0])
    shared = encode_picture(picture, 50, model=model, threads=threads, backend=backend, trace=tapes[1])
    assert alone.data == shared.data
    for (name, one), (other_name, other) in zip(tapes[0].results, tapes[1].results, strict=True):
        assert name == other_name
        np.testing.assert_array_equal(one, other, name)


# ------------------------------------------------------------------------------------------------- stage by stage


@pytest.mark.parametrize(("config", "quality"), CASES)
def test_every_stage_of_the_encoder_is_the_same(config, quality):
    model, picture, tapes = tiny_model(config), random_picture(64, 64, 7), {}
    for backend in BACKENDS:
        tapes[backend] = Tape()
        encode_picture(picture, quality, model=model, backend=backend, trace=tapes[backend])
    assert tapes["numba"].by_name() == tapes["numpy"].by_name()
    codec = SPEC.new_codec(spec_model(config), quality)
    codec["values"]["x"] = SPEC.pad_samples(picture.tolist())
    for part in ("g_a", "y", "h_a", "z"):
        SPEC.evaluate(codec, part)
    found = tapes["numba"].by_name()
    for name, values in codec["trace"]:
        assert found[name] == [values], name
    SPEC.synthesis(codec, SPEC.concatenate([found[f"y_hat/{i}"][0] for i in range(config.slices)]))
    names = [name for name, _ in codec["trace"] if name.startswith("g_s/")]
    assert "g_s/7" in names
    for name in names:
        assert found[name] == [codec["values"][name]], name
    assert {op.name for op in model.ops} == {name for name in found if name in model.layers}  # nothing is left out


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("config", "quality", "height", "width"), [(TINY, 40, 4, 8), (TINY_OLD, 1, 8, 4)], ids=["tiny", "tiny-old"]
)
def test_the_walk_is_the_same_at_every_stage(config, quality, height, width, backend):
    check_walk(config, quality, height, width, 11, 40, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_walk_saturates_alike_under_the_greatest_symbols(backend):
    y_hat = check_walk(TINY, 100, 4, 4, 12, 32767, backend)
    assert y_hat.min() == -32767 and y_hat.max() == 32767


@pytest.mark.parametrize(("height", "width"), [(4, 4), (12, 20), (16, 12)])
def test_backends_agree_on_larger_walks(height, width):
    results = []
    for backend in BACKENDS:
        model, port, tape = tiny_model(), RandomPort(13, 200), Tape()
        engine = Engine(model.layers, model.tables, 99, 2, backend, tape)
        walk(engine, TINY, model.medians, port, height, width)
        results.append((tape.by_name(), port.seen))
    assert results[0] == results[1]


def test_the_walk_reads_nothing_that_is_not_decoded_yet():
    """Later slices and halves may change without changing what was predicted before them."""

    class Altered(RandomPort):
        def y(self, i, parity, levels, means):
            symbols = super().y(i, parity, levels, means)
            return symbols + 3 if (i, parity) == (1, 0) else symbols

    seen = []
    for kind in (RandomPort, Altered):
        model, port = tiny_model(), kind(14, 20)
        walk(Engine(model.layers, model.tables, 0, 1, "numba"), TINY, model.medians, port, 4, 4)
        seen.append(port.seen)
    assert seen[0][:4] == seen[1][:4] and seen[0][4] != seen[1][4]


# --------------------------------------------------------------------------------------------------- damaged segments


def outcome_of(model, z, y, backend):
    """Latents as lists, or the name of the refusal."""
    try:
        port = Reader(backend, z, y, model.tables.gaussian, model.factorized)
        y_hat = walk(Engine(model.layers, model.tables, 59, 1, backend), TINY, model.medians, port, 4, 4)
        port.finish()
        return interior(y_hat).tolist()
    except (CoderError, SymbolError) as error:
        return type(error).__name__


def test_damaged_segments_are_refused_alike():
    model = tiny_model()
    stream = parse(encode_picture(random_picture(64, 64), 60, model=model).data)
    whole = [outcome_of(model, *stream.segments(), backend) for backend in BACKENDS]
    assert whole[0] == whole[1] and not isinstance(whole[0], str)
    rng = np.random.default_rng(15)
    for n in range(20):
        segments = [*map(bytearray, stream.segments())]
        damaged = segments[n % 4 > 0]
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        z, y = map(bytes, segments)
        outcomes = [outcome_of(model, z, y, backend) for backend in BACKENDS]
        # Each sequence of symbols has one segment (SPEC 7.5): what is not refused holds other symbols.
        assert outcomes[0] == outcomes[1] != whole[0]


def test_the_document_refuses_what_the_code_refuses():
    coded = encode_picture(random_picture(64, 64), 60, model=tiny_model())
    for model in (spec_model(TINY_OLD), {**spec_model(), "config": {**spec_model()["config"], "qualities": 1}}):
        with pytest.raises(ValueError, match="ModelError"):
            SPEC.decode_picture(coded.data, model)
