"""Networks in strips give what one pass gives (refcodec/arith/strips.py), whatever the strips and the picture."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refcodec.arith import maps, strips
from refcodec.arith.engine import Engine
from refcodec.arith.jit import walk as numba_walk
from refcodec.arith.maps import interior
from refcodec.arith.strips import Rows, in_strips
from refcodec.model.procedural import procedural_model
from refcodec.nets.analysis import analysis
from refcodec.nets.synthesis import synthesis

MODEL = procedural_model("tiny", 7)


def pieces(engine, network, x, monkeypatched, widest, lag):
    """All rows in order, and in how many pieces they came."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "STRIP", monkeypatched)
        found, at = [], 0
        for first, rows in in_strips(engine, network, x, widest, lag):
            assert first == at and len(rows)
            at += len(rows)
            found.append(rows.copy())
    return np.concatenate(found), len(found)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 8),
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(0, 8),
    st.sampled_from(["numba", "numpy"]),
)
def test_synthesis_in_strips(seed, high, wide, strip, lag, backend):
    engine = Engine(MODEL.layers, MODEL.tables, 0, 2, backend)
    y_hat = engine.map(4 * high, 4 * wide, MODEL.config.M)
    interior(y_hat)[...] = np.random.default_rng(seed).integers(-2000, 2000, interior(y_hat).shape)
    whole = interior(synthesis(engine, y_hat)).copy()
    found, count = pieces(engine, synthesis, y_hat, 4 * wide * strip, 1, lag)
    assert np.array_equal(found, whole)
    if 4 * high > 2 * max(strip, 4) + lag + 8:
        assert count > 1


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(4, 150),
    st.sampled_from(["numba", "numpy"]),
)
@example(0, 1, 1, 8, "numba")  # only the last strip has rows of y
def test_analysis_in_strips_of_an_input_made_as_needed(seed, high, wide, strip, backend):
    engine = Engine(MODEL.layers, MODEL.tables, 0, 2, backend)
    picture = np.random.default_rng(seed).integers(0, 256, (64 * high, 64 * wide, 4)).astype(np.int16)
    picture[:, :, 3] = 0
    x = engine.map(*picture.shape)
    interior(x)[...] = picture
    whole = interior(analysis(engine, x)).copy()
    asked = []

    def fill(first, out):
        asked.append((first, len(out)))
        out[...] = picture[first : first + len(out)]

    found, _ = pieces(engine, analysis, Rows(*picture.shape, fill), 64 * wide * strip, 1, 0)
    assert np.array_equal(found, whole)
    assert [first for first, _ in asked] == [sum(n for _, n in asked[:k]) for k in range(len(asked))]


@pytest.mark.parametrize("height", [5, 6, 9])
@pytest.mark.parametrize("width", [5, 6, 7, 30])
def test_borders_are_cleared_alike(height, width):
    one, other = np.full((2, height, width, 3), 7, np.int16)
    maps.clear_border(one)
    numba_walk.clear_border(other)
    assert (one == other).all() and (interior(one) == 7).all() and one.sum() == 7 * interior(one).size


def test_a_window_that_has_lost_its_rows_is_noticed():
    window = strips.Window(np.zeros((10, 8, 2), np.int16), 6, 12, 40)
    assert window.rows(6, 6).shape == (10, 8, 2)
    with pytest.raises(AssertionError, match="gone"):
        window.rows(5, 2)
