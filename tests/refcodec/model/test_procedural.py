"""Procedural models: the document's numbers, proved for every seed, healthy through depth, coded alike everywhere."""

import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module
from tiny_models import random_picture

from refcodec.codec import decode_stream, encode_picture
from refcodec.entropy.ports import Writer
from refcodec.errors import OutputError, UsageError
from refcodec.flow import Parts
from refcodec.model import procedural
from refcodec.model.config import PROFILES, Config
from refcodec.model.integer_model import build_model, expected_arrays, fingerprint
from refcodec.model.layer_table import layer_table
from refcodec.model.layers import Conv
from refcodec.model.procedural import (
    build,
    draws,
    formats,
    layer_arrays,
    procedural_model,
    stream_key,
    write_procedural,
)
from refcodec.model.registry import load_model

SPEC = spec_module()
BACKENDS = ("numba", "numpy")
KEYS = st.integers(0, 2**64 - 1)
DETERMINISTIC = settings(derandomize=True, deadline=None)

tiny_model = cache(lambda: procedural_model("tiny", 7))


def plain(config):
    """A Config as the integers of SPEC 6.1."""
    return {name: int(value) if isinstance(value, bool) else value for name, value in config.as_dict().items()}


def run(picture, quality=60, model=None):
    """Encode; levels, symbols and whether each was written as an escape, and clamp and zero counts by tensor."""
    model, seen, tensors = model or tiny_model(), [], {}

    class Spy(Writer):
        def y(self, i, parity, levels, means):
            symbols = super().y(i, parity, levels, means)
            seen.append((levels.ravel(), symbols.ravel()))
            return symbols

    def trace(name, values):
        if name in model.layers and (limit := model.layers[name].limit):
            clipped, zero, count = tensors.get(name, (0, 0, 0))
            tensors[name] = (
                clipped + np.count_nonzero(np.abs(values.astype(np.int32)) >= limit),
                zero + np.count_nonzero(values == 0),
                count + values.size,
            )

    coded = encode_picture(picture, quality, model=model, trace=trace, parts=Parts(writer=Spy))
    levels, symbols = (np.concatenate(part) for part in zip(*seen, strict=True))
    table = model.tables.gaussian
    first, count = table.first[levels], (np.diff(table.start) - 2)[levels]
    return coded, levels, symbols, (symbols < first) | (symbols >= first + count), tensors


# --------------------------------------------------------------------------------------------------- the document


@DETERMINISTIC
@given(KEYS, st.text("abc/019_", max_size=40), st.integers(0, 99), st.integers(-(2**31), 2**31), st.integers(1, 2**32))
def test_numbers_are_those_of_the_document(seed, name, n, low, choices):
    assert procedural.mix(seed) == SPEC.procedural_mix(seed)
    key = stream_key(seed, name)
    assert key == SPEC.procedural_key(seed, name)
    numbers = draws(seed, name, n + 1, low, choices)
    assert numbers.dtype == np.int64 and numbers[n] == SPEC.procedural_draw(key, n, low, choices)


def test_numbers_are_those_of_the_document_across_blocks():
    numbers, key = draws(5, "layers/far", 300_003, 0, 1 << 16), stream_key(5, "layers/far")
    for n in (0, 131_071, 131_072, 131_073, 262_144, 299_999, 300_002):
        assert numbers[n] == SPEC.procedural_draw(key, n, 0, 1 << 16)
    assert abs(numbers.mean() - 32767.5) < 5 * 65536 / (12 * numbers.size) ** 0.5


@pytest.mark.parametrize("seed", [7, 2**64 - 1])
def test_the_tiny_model_is_that_of_the_document(seed):
    content, expected = build(PROFILES["tiny"], seed), SPEC.procedural_content(plain(PROFILES["tiny"]), seed)
    assert {name for name in content if not name.startswith("tables/")} == expected.keys()
    for name, (dtype, numbers) in expected.items():
        assert content[name].dtype == dtype, name
        assert content[name].tolist() == numbers, name


@pytest.mark.parametrize("profile", ["paper", "mlicpp-old", "default"])
def test_large_models_are_those_of_the_document_layer_by_layer(profile):
    config, seed = PROFILES[profile], 11
    ours, theirs = formats(config, seed), SPEC.procedural_formats(plain(config), seed)
    for name, tensor in theirs.items():
        assert tensor == {field: getattr(ours[name], field) for field in tensor}, name
    samples, shapes = {}, expected_arrays(config)
    for n, op in enumerate(layer_table(config)):  # the smallest layer of each sort
        sort = (op.kind, op.wide, bool(op.add), op.depthwise, op.shuffle, op.name[:3])
        if op.parameters < 200_000 and op.parameters <= samples.get(sort, (n, op))[1].parameters:
            samples[sort] = (n, op)
    assert {op.kind for _, op in samples.values()} == {op.kind for op in layer_table(config)}
    table = SPEC.layer_table(plain(config))
    widths = SPEC.tensor_widths({"config": plain(config), "ops": table})
    for n, op in samples.values():
        if op.parameters > 40_000:
            continue
        arrays = layer_arrays(config, seed, op, ours)
        expected = SPEC.procedural_layer(plain(config), seed, n, table[n], theirs, widths)
        assert arrays.keys() == expected.keys()
        for name, array in arrays.items():
            assert (str(array.dtype), array.shape) == shapes[f"layers/{op.name}/{name}"]
            assert array.tolist() == expected[name], (op.name, name)


# ------------------------------------------------------------------------------------------------ models and proofs


@pytest.mark.parametrize(
    ("profile", "pin"), [("tiny", "89e423ec7c5d54faf9ca4ce9599c8220"), ("default", "f8a1a8749ec7676412d2aa4dff9826d2")]
)
def test_fingerprints_are_pinned(profile, pin):
    model = procedural_model(profile, 7)
    assert model.fingerprint.hex() == pin
    assert min(model.margins.values()) > 2**29  # what SPEC B.3 keeps for biases and branches is never used up
    assert model.provenance == {"source": "procedural (SPEC B.3)", "profile": profile, "seed": 7}


@pytest.mark.slow
@settings(DETERMINISTIC, max_examples=15)
@given(KEYS)
def test_every_seed_is_proved_and_makes_another_model(seed):
    content = build(PROFILES["tiny"], seed)
    model = build_model(content)
    assert min(model.margins.values()) > 2**28
    assert model.fingerprint == fingerprint(build(PROFILES["tiny"], seed))
    assert model.fingerprint != fingerprint(build(PROFILES["tiny"], seed ^ 1))


WIDTH = st.integers(1, 9).map(lambda n: 2 * n)


@pytest.mark.slow
@settings(DETERMINISTIC, max_examples=25)
@given(
    st.tuples(WIDTH, WIDTH, WIDTH),
    WIDTH,
    st.integers(1, 4),
    WIDTH,
    st.tuples(WIDTH, WIDTH),
    st.tuples(WIDTH, WIDTH, WIDTH),
    st.sampled_from([(), (2, 4), (6, 2)]),
    st.sampled_from([1, 5]),
    st.booleans(),
    KEYS,
)
def test_every_configuration_is_proved(N, ch, slices, hyper, hs, ent, lrp, qualities, old, seed):
    build_model(
        build(
            Config(
                N=N,
                M=ch * slices,
                slices=slices,
                hyper=hyper,
                hs=hs,
                chan=hs,
                ent=ent,
                lrp=lrp,
                local_heads=2,
                intra_heads=1,
                inter_head_width=4096,
                qualities=qualities,
                old_synthesis=old,
            ),
            seed,
        )
    )


def test_the_tiny_profile_has_every_part():
    config, ops = PROFILES["tiny"], layer_table(PROFILES["tiny"])
    assert {op.kind for op in ops} == {op.kind for op in layer_table(PROFILES["paper"])}
    assert config.slices >= 3 and config.qualities >= 3
    assert min(op.heads for op in ops if op.kind == "local_attention") > 1
    assert {op.heads for op in ops if op.kind == "linear_attention"} >= {2, 4}
    names = {op.name for op in ops}
    assert "g_s/2/skip" in names and "g_s/0/sum" in names


def test_shifts_and_formats_differ():
    layers = tiny_model().layers.values()
    convolutions = [layer for layer in layers if isinstance(layer, Conv)]
    assert all(np.unique(layer.shift).size > 1 for layer in convolutions if layer.shift.size > 8)
    assert {layer.frac for layer in convolutions if layer.gelu is not None} == set(range(4, 13))
    assert len({layer.limit for layer in layers}) > 50


def test_a_large_model_is_built_from_the_same_layers():
    config, seed = PROFILES["default"], 3
    content, seen = build(config, seed), formats(config, seed)
    for op in layer_table(config)[::20]:
        for name, array in layer_arrays(config, seed, op, seen).items():
            np.testing.assert_array_equal(content[f"layers/{op.name}/{name}"], array)


def test_another_process_builds_the_same():
    code = (
        "from refcodec.model.procedural import build; from refcodec.model.integer_model import fingerprint;"
        "from refcodec.model.config import PROFILES; print(fingerprint(build(PROFILES['tiny'], 7)).hex())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=procedural.__file__.rsplit("refcodec", 1)[0],
    )
    assert found.stdout.strip() == tiny_model().fingerprint.hex()


# ------------------------------------------------------------------------------------------------------------ coding


@pytest.mark.parametrize(
    ("height", "width", "channels", "quality"),
    [(1, 1, 3, 1), (64, 64, 3, 60), (65, 20, 1, 100), (70, 130, 3, 33), (128, 64, 1, 2)],
)
def test_streams_decode_exactly_in_both_backends(height, width, channels, quality):
    picture = random_picture(height, width, 5, channels)
    coded = [encode_picture(picture, quality, model=tiny_model(), backend=backend) for backend in BACKENDS]
    assert coded[0].data == coded[1].data
    for backend in BACKENDS:
        samples, _ = decode_stream(coded[0].data, model=tiny_model(), backend=backend, verify=True)
        np.testing.assert_array_equal(samples, coded[0].reconstruction)


def test_the_document_decodes_a_stream():
    coded = encode_picture(random_picture(10, 12, 6), 80, model=tiny_model())
    content = {name: (str(array.dtype), array.tolist()) for name, array in build(PROFILES["tiny"], 7).items()}
    assert SPEC.decode_picture(coded.data, SPEC.build_model(content)) == coded.reconstruction.tolist()


@pytest.mark.parametrize("quality", [1, 60, 100])
def test_every_level_escapes_and_clamps_occur_and_nothing_dies(quality):
    coded, levels, symbols, escapes, tensors = run(random_picture(192, 192, 8), quality)
    assert np.unique(levels).size == 128
    assert 0.001 < escapes.mean() < 0.5 and np.abs(symbols).max() > 30
    assert coded.reconstruction.std() > 20
    assert np.isin(coded.reconstruction, (0, 255)).mean() < 0.1
    clipped = {name: c / count for name, (c, _, count) in tensors.items()}
    assert max(clipped.values()) < 0.25 and np.mean(list(clipped.values())) < 0.03
    assert sum(rate > 0 for rate in clipped.values()) > 10
    for name, (_, zero, count) in tensors.items():
        assert zero < 0.85 * count, name


def test_quality_steps_differ_and_grow():
    picture = random_picture(128, 128, 9)
    sizes = [len(encode_picture(picture, q, model=tiny_model(), digest=False).data) for q in (1, 51, 100)]
    assert sizes[0] < sizes[1] < sizes[2]
    layer = tiny_model().layers["y"]
    factor = layer.multiplier / 2.0**layer.shift
    assert factor.shape[0] == 100 and (np.diff(factor, axis=0) > 0).all()
    assert (factor[99] / factor[0] == 8).all()


def test_content_of_the_picture_matters_to_the_last_slice():
    pictures = [random_picture(128, 128, seed) for seed in (1, 2)]
    ends = [run(picture)[2][-500:] for picture in pictures]
    assert (ends[0] != ends[1]).mean() > 0.3


# ------------------------------------------------------------------------------------------------------------- files


def test_a_written_model_is_read_back(tmp_path):
    path = tmp_path / "tiny7.h5"
    model = write_procedural("tiny", 7, path)
    assert load_model(path).fingerprint == model.fingerprint == tiny_model().fingerprint
    assert load_model(path).provenance == model.provenance
    assert [p.name for p in tmp_path.iterdir()] == ["tiny7.h5"]


def test_targets_are_refused_before_the_work(tmp_path):
    path = tmp_path / "there.h5"
    path.write_bytes(b"kept")
    for bad in (path, tmp_path, tmp_path / "no" / "folder.h5", "-"):
        with pytest.raises(OutputError):
            write_procedural("tiny", 7, bad)
    assert path.read_bytes() == b"kept"
    write_procedural("tiny", 7, path, force=True)
    assert load_model(path).fingerprint == tiny_model().fingerprint


@pytest.mark.parametrize(("profile", "seed"), [("huge", 7), ("tiny", -1), ("tiny", 2**64)])
def test_unknown_profiles_and_seeds_are_refused(tmp_path, profile, seed):
    with pytest.raises(UsageError):
        write_procedural(profile, seed, tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())


def test_one_quality_makes_one_step():
    content = build(replace(PROFILES["tiny"], qualities=1), 7)
    assert content["layers/y/multiplier"].shape == (1, 24)
    build_model(content)
