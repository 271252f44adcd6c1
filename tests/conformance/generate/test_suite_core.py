"""Claims of the suites core, geometry and default: configurations, sizes, steps; a sample decodes as they say."""

import hashlib
import json
from functools import cache
from itertools import islice, product

import pytest
from own_kit import suite
from spec import spec_module

from conformance.generate import generate, registry
from conformance.generate.pictures import cut, picture
from conformance.generate.suites import core, geometry
from conformance.generate.suites.default import QUALITIES
from conformance.kit.specification import plain_content
from conformance.run.models import locate
from conformance.synthetic.models import procedural as models
from conformance.synthetic.models.procedural import model
from refcodec.bitstream.container import parse
from refcodec.codec import decode_stream
from refcodec.model.registry import RELEASED
from refcodec.tiles import UNIT


@cache
def streams(name):
    """Parsed streams by id."""
    return {v.id: parse(v.read()) for v in suite(name).vectors}


def sizes(name, channels):
    return {(s.header.width, s.header.height) for s in streams(name).values() if s.header.channels == channels}


def test_every_length_around_a_multiple_of_16_occurs_in_both_axes():
    both = sizes("geometry", 1) | sizes("geometry", 3)
    for axis in (0, 1):
        found = {size[axis] for size in both}
        assert {1, 2, 3} | {16 * n + d for n in range(1, 17) for d in (-1, 0, 1)} <= found


def test_lengths_around_multiples_of_64_meet_each_other():
    both = sizes("geometry", 1) | sizes("geometry", 3)
    assert {(w, h) for w in geometry.CORNERS for h in geometry.CORNERS} <= both
    assert {(1, 1)} <= sizes("geometry", 1) & sizes("geometry", 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_single_rows_and_columns_are_grey_and_in_colour(channels):
    found = sizes("geometry", channels)
    assert sum(w == 1 for w, _ in found) > 10 and sum(h == 1 for _, h in found) > 10
    assert max(w / h for w, h in found) > 200 and max(h / w for w, h in found) > 200


def test_every_quality_step_is_decoded():
    assert {s.header.quality for name, s in streams("geometry").items() if "/quality-" in name} == set(range(1, 101))


def test_configurations_are_those_at_the_edges_of_what_is_allowed():
    configs = [model(name).config for name in ("tiny-7", "mid-7", *core.SPECIAL)]
    assert {c.slices for c in configs} >= {1, 2, 3, 5, 8}
    assert {(len(c.lrp), c.old_synthesis) for c in configs} == set(product((0, 2), (False, True)))
    assert {c.steps for c in configs} == {1, 100}
    assert any(c.local_heads == c.ch for c in configs) and any(c.local_heads == 1 for c in configs)
    assert {c.inter_heads(i) for c in configs for i in range(1, c.slices)} >= {1, 2, 4, 8}
    used = {v.model.name for v in suite("core").vectors if v.model}
    assert used >= {"tiny-7", "mid-7", "paper-7", "mlicpp-7", *core.SPECIAL}


def test_full_shapes_are_made_on_demand_and_pinned():
    for name, fingerprint in (
        ("paper-7", "26b695212b32d360cf53b8a6ab6da1fa"),
        ("mlicpp-7", "a2ca6f4ac0e07ec96d1fcb3b88e85149"),
    ):
        made = suite("core").models[name]
        assert made.file is None and (f"{made.profile}-{made.seed}", made.fingerprint) == (name, fingerprint)


def test_the_default_suite_has_the_projects_pictures_by_every_released_model():
    expected = {f"{name.replace('_', '-')}-q{q:03}" for name, steps in QUALITIES.items() for q in steps}
    for released in RELEASED:
        prefix = f"default/{released.fingerprint[:8]}-"
        assert {name.removeprefix(prefix) for name in streams("default") if name.startswith(prefix)} == expected
    assert len(streams("default")) == len(RELEASED) * len(expected)


def test_chunks_and_digests_of_every_kind():
    found = {name.split("/")[1]: s for name, s in streams("core").items()}
    assert len(found["chunks-64"].chunks) == 64
    assert max(len(payload) for s in found.values() for _, payload in s.chunks) > 1 << 16
    assert found["digest-absent"].header.digest is None and found["bare-1"].header.channels == 1
    assert found["digest-wrong"].header.digest != found["digest-present"].header.digest
    assert found["digest-wrong"].segments() == found["digest-present"].segments()


def test_pictures_are_cut_in_every_way():
    grids = [s.header.grid for s in streams("core").values() if s.header.tiled]
    counts = {(min(g.rows, 2), min(g.columns, 2)) for g in grids}
    assert counts == {(1, 1), (1, 2), (2, 1), (2, 2)}
    last = [(g, g.tile(g.count - 1)) for g in grids]
    assert any(tile.height < g.tile_height and tile.width < g.tile_width for g, tile in last)
    assert any(s.header.tile_width == 255 * UNIT for s in streams("core").values())
    coded = {v.model.name for v in suite("core").vectors if "/tiles-coded-" in v.id}
    assert coded == {"nano-7", "tiny-7", "mid-7", *core.SPECIAL}


def test_what_is_stored_without_loss_has_every_form():
    whole = [s.chunk("LOSS") for s in streams("core").values() if s.header.lossless]
    assert {payload[0] for payload in whole} == set(range(8))
    forms = {payload[1] for payload in whole if payload[0] == 1}
    assert {form >> 4 for form in forms} == {0, 1, 2, 3} and {form & 15 for form in forms} == set(range(16))
    assert {v.expect.channels for v in suite("core").vectors} == {1, 2, 3, 4}
    listed = [s for s in streams("core").values() if s.chunk("LOSS") and not s.header.lossless]
    counts = [int.from_bytes(s.chunk("LOSS")[:4], "little") for s in listed]
    assert min(counts) == 1 and max(counts) == 256
    assert any(s.header.tiled and s.chunk("ALPH") for s in streams("core").values())


def test_traces_are_there_for_every_configuration():
    traced = {v.model.name for v in suite("core").vectors if v.trace}
    names = [v.trace.read_text() for v in suite("core").vectors if v.id == "core/tiles-smaller-edges"]
    assert all(f'"tiles/{n}/y_hat/0"' in names[0] for n in range(4))
    assert all(f'"{name}"' in names[0] and f'"tiles/3/{name}"' not in names[0] for name in ("z_hat", "h_s/4", "g_s/7"))
    assert traced >= {"tiny-7", *core.SPECIAL}


@pytest.mark.parametrize("name", ["core", "geometry"])
def test_a_sample_decodes_to_the_samples_of_the_manifest(name):
    small = [v for v in suite(name).vectors if v.model and v.model.file and v.expect.count < 1 << 16]
    for vector in small[::9]:
        samples, _ = decode_stream(vector.read(), model=str(locate(vector.model)), threads=1)
        assert hashlib.sha256(samples.tobytes()).hexdigest() == vector.expect.samples, vector.id


@pytest.mark.parametrize(
    ("name", "generator", "count"),
    [
        ("core", "container", 13),
        ("core", "symbols", 6),
        ("core", "coded", 4),
        ("core", "tiles", 13),
        ("core", "lossless-rows", 26),
        ("core", "lossless-codes", 100),
        ("core", "lossless-zlib", 9),
        ("core", "alpha", 3),
        ("geometry", "lines", 12),
        ("geometry", "qualities", 8),
        ("default", "pictures", 1),
    ],
)
def test_generators_make_the_streams_that_are_stored(name, generator, count):
    stored = {v.id: v.sha256 for v in suite(name).vectors}
    made = next(g for g in registry.generators(name) if g.name == generator)
    for case in islice(made.function(), count):
        assert hashlib.sha256(case.data).hexdigest() == stored[case.id], case.id


def test_coded_streams_are_those_of_the_specifications_encoder():
    made = models.source("single-7").content()
    samples = cut("stone", 40, 30, 1, left=70, top=20)
    spec = spec_module()
    data = spec.encode_picture(samples[:, :, None].tolist(), 60, spec.build_model(plain_content(dict(made))))
    vector = next(v for v in suite("core").vectors if v.id == "core/configuration-single-7-grey")
    assert data == vector.read()


def test_a_vector_that_changes_or_vanishes_is_noticed(tmp_path):
    def manifest(vectors):
        return json.dumps({"models": {}, "vectors": [{"id": i, "sha256": s} for i, s in vectors]}).encode()

    assert generate.changed_vectors(tmp_path, {"manifest.json": manifest([("s/a", "1")])}) == []
    (tmp_path / "manifest.json").write_bytes(manifest([("s/a", "1"), ("s/b", "2")]))
    for vectors, changed in (
        ([("s/a", "1"), ("s/b", "2"), ("s/c", "3")], []),
        ([("s/a", "9"), ("s/b", "2")], ["s/a"]),
        ([("s/b", "2")], ["s/a"]),
    ):
        assert generate.changed_vectors(tmp_path, {"manifest.json": manifest(vectors)}) == changed


def test_cuts_continue_a_picture_by_its_mirror_image():
    whole = picture("tiny")
    height, width = whole.shape[:2]
    part = cut("tiny", 2 * width, 3, left=1, top=height - 1)
    assert (part[0, : width - 1] == whole[-1, 1:]).all() and (part[0, width - 1 : -1] == whole[-1, ::-1]).all()
    assert (part[1] == part[0]).all() and (part[2, 0] == whole[-2, 1]).all()
    assert (cut("tiny", 4, 2, 1) == whole[:2, :4, 1]).all()
    assert cut("stone", 5, 5, 1).shape == (5, 5)
