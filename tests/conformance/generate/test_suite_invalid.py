"""Claims of the suite invalid: every rule of the container, of segments and of models, each by its error class."""

import time
import tracemalloc

import numpy as np
import pytest
from own_kit import suite
from spec import spec_module

from conformance.generate import registry
from conformance.generate.suites import invalid, invalid_tiles, stored
from conformance.generate.suites.invalid_segments import escape
from conformance.kit import clauses
from conformance.kit import vectors as kit_vectors
from conformance.run.models import locate
from conformance.synthetic.models.procedural import model
from refcodec.bitstream.container import parse
from refcodec.bitstream.fields import FIELDS
from refcodec.codec import decode_stream
from refcodec.errors import RefcodecError
from refcodec.lossless.rectangles import Rectangles
from refcodec.model.symbol_tables import intervals

SPEC = spec_module()
PATIENCE, BYTES = 3.0, 64 << 20
"""Largest cost of a refusal: seconds of processor time, and bytes while a model is at hand."""


VECTORS = suite("invalid").vectors


def refusal(act):
    """The class that is raised, "" for none."""
    try:
        act()
    except RefcodecError as error:
        return type(error).__name__
    return ""


def decoded(vector, backend):
    """How a vector is refused."""
    data, path = vector.read(), str(locate(vector.model))
    return refusal(lambda: decode_stream(data, model=path, threads=1, backend=backend))


def test_every_class_of_refusal_is_wanted_and_nothing_else():
    assert {v.outcome for v in VECTORS} == {"reject"}
    assert {v.expect.error for v in VECTORS} == set(kit_vectors.ERROR_CLASSES)


def test_faults_of_the_container_are_named_alike_by_refcodec_and_the_specification():
    found = [v for v in VECTORS if v.model is None]
    assert len(found) > 400
    for vector in found:
        data = vector.read()
        with pytest.raises(ValueError, match=f"^{vector.expect.error}$"):
            SPEC.decode_picture(data, None)  # samples without loss need no model
        assert refusal(lambda data=data: decode_stream(data, threads=1)) == vector.expect.error, vector.id


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_faults_behind_the_container_are_refused_by_both_backends_quickly(backend):
    found = [v for v in VECTORS if v.model and not v.model.edits]
    assert len(found) > 80
    for vector in found:
        started = time.process_time()
        assert decoded(vector, backend) in vector.expect.classes
        assert time.process_time() - started < PATIENCE, vector.id


@pytest.mark.slow
def test_broken_models_are_refused():
    found = [v for v in VECTORS if v.model and v.model.edits]
    assert len(found) > 100
    for vector in found[::3]:  # the runner tries them all
        assert decoded(vector, "numpy") == "InvalidModel"


def test_bombs_take_no_memory():
    bombs = [v for v in VECTORS if v.id.startswith("invalid/bomb-")]
    made = model("tiny-7")
    for vector in bombs:
        data = vector.read()
        assert len(data) < 200
        tracemalloc.start()
        try:
            assert refusal(lambda data=data: decode_stream(data, model=made, threads=1)) in vector.expect.classes
            assert tracemalloc.get_traced_memory()[1] < BYTES, vector.id
        finally:
            tracemalloc.stop()


def test_every_field_has_every_kind_of_wrong_value():
    for field in FIELDS:
        if field.name in ("magic", "fingerprint", "digest"):
            continue
        most = (1 << 8 * (field.end - field.offset)) - 1
        if len(field.allowed) > most:
            continue
        wrong = set(invalid.WRONG[field.name][0])
        allowed = sorted(field.allowed) if len(field.allowed) < 200 else [field.allowed[0], field.allowed[-1]]
        assert most in wrong and not wrong & set(allowed)
        assert {allowed[0] - 1, allowed[-1] + 1} - {-1} <= wrong | set(allowed), field.name


def test_streams_are_cut_at_every_boundary():
    data = invalid.whole()
    stored = {v.read() for v in VECTORS if "/cut-" in v.id or "/magic-" in v.id}
    places = {place for place in invalid.boundaries(data).values() if 4 <= place < len(data)}
    assert len(places) > 20
    assert all(data[:place] in stored for place in places)


def test_bases_of_damage_are_valid():
    assert parse(invalid.whole()).chunks == invalid.CHUNKS and not parse(invalid.bare()).chunks
    assert parse(invalid_tiles.tiled()).header.tiles == 4
    assert len(Rectangles(parse(stored.rectangles_stream()).chunk("LOSS"), 100, 70, 3).places) == 3
    assert decode_stream(stored.lossless())[0].shape == (3, 5, 3)


def test_rules_over_several_fields_are_broken_one_by_one():
    named = {c for v in VECTORS if "/rule-" in v.id for c in v.clauses}
    assert named >= set(clauses.cited("8.1-14..18")) and any("8.1-19" in v.clauses for v in VECTORS)


def test_every_tile_of_a_stream_is_damaged_in_turn():
    damaged = {v.id.split("-")[1] for v in VECTORS if v.id.split("/")[1][:6] in {f"tile-{n}" for n in range(4)}}
    assert damaged == {"0", "1", "2", "3"}


def test_samples_without_loss_are_refused_at_every_stage():
    named = {c for v in VECTORS for c in v.clauses}
    assert {c for c in clauses.load() if c.startswith(("8.10-", "8.11-"))} - named <= {
        *clauses.cited("8.10-3 8.10-8 8.10-11..12 8.10-19..20 8.11-9")
    }


def test_clauses_about_refusals_are_named():
    named = {c for v in VECTORS for c in v.clauses}
    wanted = {c for c in clauses.load() if c.startswith(("8.4-", "8.5-", "7.6-"))}
    assert wanted - named <= {"8.4-3", "8.4-5", "8.4-7"}  # of valid streams


@pytest.mark.parametrize("number", [0, 40, 127])
@pytest.mark.parametrize("symbol", [-32767, -3000, 3000, 32767])
def test_escapes_in_range_are_those_of_the_encoder(number, symbol):
    tables = model("tiny-7").tables.gaussian
    cum, freq = intervals(np.array([symbol]), np.array([number]), tables)
    if cum.size > 1:
        assert escape(symbol, number, tables) == list(zip(cum.tolist(), freq.tolist(), strict=True))


@pytest.mark.slow
def test_generators_make_the_streams_that_are_stored():
    stored = {v.id: v.read() for v in VECTORS}
    for made in registry.generators("invalid"):
        if made.name != "models":
            for case in made.function():
                assert stored[case.id] == case.data, case.id
