"""Parts of the decoder run alone: on what they read in a stream, and on anyone's inputs, as SPEC's blocks compute."""

import json
from functools import cache
from random import Random

import numpy as np
import pytest
from spec import spec_module
from tiny_models import spec_content

from conformance.cli import main
from conformance.kit.errors import UsageError
from conformance.locate.traces import digest
from conformance.synthetic.writer import random_stream
from conformance.workbench.differential import Recipe
from conformance.workbench.fuzz.stored import rectangle_list, samples_payload
from conformance.workbench.stage_recorder import record
from conformance.workbench.stage_runner import SPECIAL, part_of, run_part
from refcodec.codec import decode_stream, encode_picture
from refcodec.model.config import PROFILES
from refcodec.model.integer_model import Model, build_model
from refcodec.model.procedural import build, write_procedural

SPEC = spec_module()
BACKENDS = ("numba", "numpy")
STEP = 60


@cache
def model() -> Model:
    """The tiny procedural model."""
    return build_model(build(PROFILES["tiny"], 7), "tiny")


@cache
def spec_model():
    """The same for SPEC's blocks."""
    return SPEC.build_model(spec_content(build(PROFILES["tiny"], 7)))


@cache
def stream() -> bytes:
    """A stream of random symbols."""
    return random_stream(model(), 5, 30, 80, 1, STEP, "mixed")


GROUPS = [
    "h_s",
    "g_s",
    *(
        f"{kind}/{i}"
        for i in range(3)
        for kind in ("local", "ep_anchor", "ep_nonanchor", "lrp_anchor", "lrp_nonanchor")
    ),
    *(f"{kind}/{i}" for i in (1, 2) for kind in ("inter", "intra", "chan")),
]
SINGLE = [
    "h_s/input",
    "h_s/1",
    "inter/2/keys1",
    "inter/2/mlp2",
    "intra/1/queries0",
    "intra/1/keys0",
    "intra/2/attention",
    "intra/2/mlp2",
    "local/1/norm1",
    "local/1/attention",
    "local/0/fc2",
    "ep_nonanchor/2/0",
    "ep_anchor/1/3",
    "lrp_anchor/1/2",
    "g_s/0",
    "g_s/1",
    "g_s/1/igdn",
    "g_s/1/upsample",
    "g_s/7",
]
COPIES = [f"ctx/1#{turn}" for turn in range(4)]


@pytest.mark.parametrize("name", [*GROUPS, *SINGLE, *COPIES, *SPECIAL])
def test_a_part_gives_from_its_inputs_what_it_gave_in_the_decoding(name):
    found = record(model(), stream(), name)
    header = found.header
    assert set(found.values) == set(found.part.inputs)
    for backend in BACKENDS:
        result = run_part(
            model(), found.part, found.values, STEP - 1, (header.height, header.width, header.channels), backend
        )
        assert np.array_equal(result, found.result) and result.shape == found.result.shape


@cache
def tiled() -> bytes:
    """A stream of six tiles, with alpha and a rectangle without loss."""
    chunks = (("ALPH", samples_payload(Random(1), 80, 130, 1, 0)), ("LOSS", rectangle_list(Random(1), 80, 130, 3, 0)))
    return random_stream(model(), 5, 130, 80, 3, STEP, "mixed", chunks=chunks, tile=(1, 1))


def lossless() -> bytes:
    """A stream without networks."""
    return Recipe(1, 3, 2, 1, 0, "", stored=("LOSS",), lossless=True).stream(model())


PARTS_OF_TILES = [
    f"tiles/{k}/{part}" for k, part in enumerate(["ep_anchor/1", "local/1", "coder/y", "walk", "ctx/2#3", "coder/z"])
] + ["tiles/4/lrp_anchor/2"]


@pytest.mark.parametrize("name", [*PARTS_OF_TILES, "h_s", "g_s", "g_s/input", "samples"])
def test_a_part_of_a_tile_gives_what_it_gave_in_the_decoding(name):
    found = record(model(), tiled(), name)
    header = found.header
    assert found.tile == (int(name.split("/")[1]) if name.startswith("tiles") else None)
    crop = (header.height, header.width, header.channels)
    assert np.array_equal(run_part(model(), found.part, found.values, STEP - 1, crop), found.result)
    stages = {}
    decode_stream(tiled(), model=model(), trace=lambda stage, values: stages.update({stage: values.copy()}))
    prefix = ""
    if found.tile is not None:
        prefix, tile = f"tiles/{found.tile}/", header.grid.tile(found.tile)
        place = slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width)
        means = stages["h_s/4"][:, :, model().config.M :]
        stages |= {f"{prefix}h_s/4": stages["h_s/4"][place], f"{prefix}hyper_means": means[place]}
    for tensor, values in found.values.items():
        if prefix + tensor in stages and not tensor.startswith(("ctx", "y_hat")):  # which were not finished then
            assert np.array_equal(values, stages[prefix + tensor])
    if found.part.ops and found.part.turn in (0, 3):
        assert np.array_equal(found.result, stages[prefix + found.part.ops[-1].name])


@pytest.mark.parametrize(
    ("data", "name", "says"),
    [
        (tiled, "local/1", "the tiles 0..5, write tiles/k/local/1"),
        (tiled, "tiles/6/walk", "the tiles 0..5, write tiles/k/walk"),
        (tiled, "tiles/0/g_s", "of the whole picture, write g_s"),
        (tiled, "tiles/0/h_s", "of the whole picture, write h_s"),
        (stream, "tiles/0/walk", "no tiles, write walk"),
        (lossless, "h_s", "no part"),
    ],
)
def test_parts_of_other_tiles_are_refused(data, name, says):
    with pytest.raises(UsageError, match=says):
        record(model(), data(), name)


def test_the_parts_together_are_the_decoder():
    samples, _ = decode_stream(stream(), model=model())
    step, values = STEP - 1, {}
    for coder in ("coder/z", "coder/y"):
        values[coder] = run_part(model(), part_of(model(), coder), record(model(), stream(), coder).values)
    z_hat = np.clip(64 * values["coder/z"].reshape(2, 1, 6) + model().medians, -32767, 32767)
    hyper = run_part(model(), part_of(model(), "h_s"), {"z_hat": z_hat}, step)
    given = {"h_s/4": hyper, "y_symbols": values["coder/y"].reshape(3, 2, 8, 2, 8)}
    y_hat = run_part(model(), part_of(model(), "walk"), given, step)
    planes = run_part(model(), part_of(model(), "g_s"), {"y_hat": y_hat}, step)
    assert np.array_equal(run_part(model(), part_of(model(), "samples"), {"g_s/7": planes}, step, (80, 30, 1)), samples)


OWN = {
    "local/1": ["y_hat/1"],
    "intra/1": ["ctx/0", "ctx/1"],
    "inter/2": ["ctx/0", "ctx/1"],
    "chan/2": ["ctx/0", "ctx/1"],
    "lrp_nonanchor/1": ["hyper_means", "ctx/0", "ctx/1"],
    "ep_anchor/1": ["inter/1/mlp2", "chan/1/2", "h_s/4"],
    "h_s": ["z_hat"],
    "g_s/0": ["g_s/input"],
    "ctx/2#1": ["y_hat/2"],
    "h_a": ["y"],
}
"""Parts and what they read."""


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("backend", BACKENDS)
def test_own_inputs_give_what_the_definition_gives(name, backend):
    part, rng, values = part_of(model(), name), np.random.default_rng(3), {}
    assert sorted(part.inputs) == sorted(OWN[name])
    codec = SPEC.new_codec(spec_model(), STEP)
    codec["width"] = 4
    for tensor in part.inputs:
        channels = SPEC.tensor_widths(spec_model())[tensor]
        low, high = SPEC.tensor_range(tensor, spec_model())
        wide = rng.integers(low * 5 // 4, high * 5 // 4, (4, 4, channels))
        values[tensor] = np.clip(wide, low, high).astype(np.int16)
        codec["values"][tensor] = values[tensor].tolist()
    SPEC.evaluate(codec, part.name)
    expected = codec["values"][part.ops[-1].name]
    result = run_part(model(), part, values, STEP - 1, backend=backend)
    assert result.tolist() == expected


def test_the_encoder_runs_on_own_inputs(tmp_path):
    picture, seen = np.random.default_rng(4).integers(0, 256, (64, 64, 3), dtype=np.uint8), {}
    encode_picture(picture, STEP, model=model(), trace=lambda name, v: seen.setdefault(name, v.copy()))
    g_a = run_part(model(), part_of(model(), "g_a"), {"x": picture.astype(np.int16)})
    assert np.array_equal(g_a, seen["g_a/6"])
    assert np.array_equal(run_part(model(), part_of(model(), "y"), {"g_a/6": g_a}, STEP - 1), seen["y"])


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "name",
    ["", "g", "local", "lrp_anchor", "g_s/9", "ctx/0", "ctx/0#4", "ctx/0#x", "g_s#1", "y_hat/0", "coder", "../g_s"],
)
def test_unknown_parts_are_refused(name):
    with pytest.raises(UsageError, match=r"no part|made four times"):
        part_of(model(), name)


def whole(name: str, *shape: int, value: int = 0) -> dict:
    """One input."""
    return {name: np.full(shape, value, np.int16)}


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("g_s", {}, "no value of y_hat"),
        ("g_s", whole("y_hat", 4, 4, 23), "expected"),
        ("g_s", whole("y_hat", 4, 24), "shape"),
        ("g_s", whole("y_hat", 0, 4, 24), "shape"),
        ("g_s/0", whole("g_s/input", 4, 4, 24, value=32767), "beyond its range"),
        ("chan/2", whole("ctx/0", 4, 4, 8) | whole("ctx/1", 4, 8, 8), "different sizes"),
        ("local/0", whole("y_hat/0", 4, 5, 8), "no halves"),
        ("intra/1/queries0", whole("ctx/0", 4, 3, 8), "no halves"),
        ("lrp_anchor/0/2", whole("lrp_anchor/0/1", 4, 3, 8), "no halves"),
        ("g_s/1/upsample", whole("g_s/0/sum", 4, 4, 24) | whole("g_s/1/igdn", 4, 4, 12), "adds it"),
        ("ep_nonanchor/0/0", whole("local/0/fc2", 4, 3, 16) | whole("h_s/4", 4, 4, 48), "different sizes"),
        ("coder/z", {"segment": np.zeros(4, np.int16), "tables": np.zeros(1, np.int32)}, "segment"),
        ("coder/z", {"segment": np.zeros(8, np.uint8), "tables": np.full(1, 6, np.int32)}, "tables"),
        ("coder/y", {"segment": np.zeros(8, np.uint8), "tables": np.full(1, -1, np.int32)}, "tables"),
        ("walk", whole("h_s/4", 4, 4, 48) | {"y_symbols": np.zeros((3, 2, 4, 4, 8))}, "y_symbols"),
        ("walk", whole("h_s/4", 4, 4, 48) | {"y_symbols": np.zeros(6)}, "y_symbols"),
        ("walk", whole("h_s/4", 4, 4, 47) | {"y_symbols": np.zeros((3, 2, 4, 2, 8))}, "h_s/4"),
        ("walk", whole("h_s/4", 4, 48) | {"y_symbols": np.zeros((3, 2, 4, 2, 8))}, "h_s/4"),
        ("walk", whole("h_s/4", 4, 6, 48) | {"y_symbols": np.zeros((3, 2, 4, 3, 8))}, "multiples of 4"),
        ("walk", whole("h_s/4", 4, 4, 48) | {"y_symbols": np.full((3, 2, 4, 2, 8), 32768)}, "exceeds 32767"),
    ],
)
def test_values_that_do_not_fit_are_refused(name, values, says):
    with pytest.raises(UsageError, match=says):
        run_part(model(), part_of(model(), name), values)


# ------------------------------------------------------------------------------------------------------------ command


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a stream and its model."""
    folder = tmp_path_factory.mktemp("inject")
    (folder / "s.loclic").write_bytes(stream())
    write_procedural("tiny", 7, folder / "m.h5")
    return folder


def inject(*arguments):
    """Run the command."""
    return main(["inject", *map(str, arguments)])


@pytest.mark.parametrize("name", ["g_s", "lrp_anchor/1", "ctx/1#2", "coder/y", "walk", "samples"])
def test_the_command_writes_what_it_reads(place, tmp_path, capsys, name):
    from_stream = (
        name,
        "--stream",
        place / "s.loclic",
        "--model",
        place / "m.h5",
        "--inputs",
        tmp_path / "in",
        "--out",
        tmp_path / "out.npy",
    )
    assert inject(*from_stream) == 0
    facts = json.loads((tmp_path / "in" / "part.json").read_text())
    assert facts["part"] == name and facts["quality"] == STEP and facts["model"] == model().fingerprint.hex()
    assert (facts["width"], facts["height"], facts["channels"]) == (30, 80, 1)
    for tensor in facts["inputs"]:
        values = np.load(tmp_path / "in" / tensor["file"])
        assert (digest(values), list(values.shape), values.dtype.name) == (
            tensor["sha256"],
            tensor["shape"],
            tensor["dtype"],
        )
    assert digest(np.load(tmp_path / "out.npy")) == facts["result"]["sha256"]
    assert {p.name for p in (tmp_path / "in").iterdir()} == {"part.json", *(t["file"] for t in facts["inputs"])}

    assert inject(name, "--model", place / "m.h5", "--inputs", tmp_path / "in", "--out", tmp_path / "again.npy") == 0
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "out.npy").read_bytes()
    assert inject(*from_stream) == 73 and "--force" in capsys.readouterr().err
    assert inject(*from_stream, "--force") == 0


def test_other_inputs_give_another_result(place, tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "z_hat.npy", np.full((2, 2, 6), 64, np.int64))
    common = ("h_s/input", "--model", place / "m.h5", "--inputs", tmp_path / "in")
    results = []
    for quality in (1, 100):
        assert inject(*common, "--quality", quality, "--out", tmp_path / f"{quality}.npy") == 0
        results.append(np.load(tmp_path / f"{quality}.npy"))
        layer = model().layers["h_s/input"]
        m, s = layer.multiplier[quality - 1].astype(np.int64), layer.shift[quality - 1]
        assert np.array_equal(results[-1], np.broadcast_to((64 * m + (1 << s - 1)) >> s, (2, 2, 6)))
    assert not np.array_equal(*results)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nothing", "--model", "m.h5"], 2, "no part"),
        (["g_s", "--model", "m.h5"], 65, "y_hat.npy"),
        (["g_s", "--model", "m.h5", "--quality", "101"], 2, "steps 1..100"),
        (["g_s", "--model", "absent.h5"], 78, "absent.h5"),
        (["g_s", "--stream", "absent"], 66, "no such input"),
        (["g_s", "--stream", "m.h5", "--model", "m.h5"], 65, "magic"),
        (["g_a", "--stream", "s.loclic", "--model", "m.h5"], 2, "the encoder's"),
        (["g_s", "--stream", "s.loclic", "--vector", "core/x"], 2, "either"),
    ],
)
def test_errors_are_one_line(place, tmp_path, monkeypatch, capsys, arguments, code, says):
    monkeypatch.chdir(place)
    assert inject(*arguments, "--inputs", tmp_path, "--out", tmp_path / "out.npy") == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_damaged_part_file_is_a_clear_error(place, tmp_path, capsys):
    np.save(tmp_path / "z_hat.npy", np.zeros((1, 1, 6), np.int16))
    for text, says in (("{", "not JSON"), ('{"quality": 0}', "'quality'"), ("[]", "an object")):
        (tmp_path / "part.json").write_text(text)
        assert inject("h_s", "--model", place / "m.h5", "--inputs", tmp_path, "--out", tmp_path / "o.npy") == 2
        assert says in capsys.readouterr().err
