"""The universal tables against SPEC annex A and against their generator."""

from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module, universal_tables

from refcodec.errors import InvalidModel, UsageError
from refcodec.model import tables as data
from refcodec.model.symbol_tables import SymbolTables
from weights_converter.convert import tables as generator

SPEC = spec_module()
TABLES = data.load_tables()
LEVEL_STARTS = list(pairwise(TABLES.gaussian.start.tolist()))


def test_the_pins_are_those_of_spec():
    assert data.PINS == SPEC.TABLE_PINS


@pytest.mark.slow
def test_the_blocks_of_the_document_compute_the_tables():
    assert SPEC.universal_tables() == universal_tables()


def test_the_file_holds_the_pinned_integers_and_nothing_else():
    with h5py.File(data.PATH) as file:
        assert set(file) == set(data.PINS)
        for name, (dtype, size, pin) in data.PINS.items():
            array = file[name][:]
            assert (str(array.dtype), array.shape, data.digest(array)) == (dtype, (size,), pin)
    arrays = TABLES.arrays()
    assert {name: data.digest(array) for name, array in arrays.items()} == {n: p[2] for n, p in data.PINS.items()}
    assert not any(array.flags.writeable for array in arrays.values())


def test_digests_do_not_depend_on_the_byte_order_in_memory():
    table = TABLES.exp2
    assert data.digest(table.astype(">i4")) == data.digest(table.astype("<i4")) == data.PINS["exp2"][2]


@pytest.mark.parametrize("damage", ["value", "missing", "shape", "type", "group", "no file", "no HDF5"])
def test_a_damaged_file_is_refused(damage, tmp_path):
    path = tmp_path / "tables.h5"
    if damage != "no file":
        path.write_bytes(data.PATH.read_bytes() if damage != "no HDF5" else b"other bytes")
    if damage in ("value", "missing", "shape", "type", "group"):
        with h5py.File(path, "r+") as file:
            array = file["exp2"][:]
            if damage == "value":
                array[100] += 1
            del file["exp2"]
            if damage == "group":
                file.create_group("exp2")
            elif damage != "missing":
                file["exp2"] = {"value": array, "shape": array[:-1], "type": array.astype(np.int64)}[damage]
    with pytest.raises(InvalidModel, match="package's data is damaged"):
        data.load_tables(path)


@pytest.mark.parametrize("f", data.FRACTION_BITS)
def test_activation_tables_match_generator_and_spec_and_end_where_they_must(f):
    for table, generated, defined, last in (
        (TABLES.gelu[f], generator.gelu_entry, SPEC.table_gelu, 0),
        (TABLES.half_tanh[f], generator.half_tanh_entry, SPEC.table_half_tanh, 32),
    ):
        assert table.dtype == np.int16 and table[-1] == last and table[-2] != last
        for i in {*range(0, len(table), 97), 1, len(table) - 2, len(table) - 1}:
            assert table[i] == generated(f, i) == defined(f, i)
        for beyond in (len(table), 2 * len(table)):  # what clamping the index relies on
            assert generated(f, beyond) == defined(f, beyond) == last
    assert (np.diff(TABLES.half_tanh[f]) >= 0).all() and TABLES.half_tanh[f][0] == 0
    peak = int(TABLES.gelu[f].argmax())
    assert (np.diff(TABLES.gelu[f][: peak + 1]) >= 0).all() and (np.diff(TABLES.gelu[f][peak:]) <= 0).all()
    assert TABLES.gelu[f].min() == 0 and TABLES.gelu[f].max() == round(0.16997 * 2**f)


def test_exponentials_match_generator_and_spec():
    table = TABLES.exp2
    assert table.dtype == np.int32 and table.shape == (257,) and table[0] == 2**24 and table[256] == 2**23
    assert (np.diff(table) < 0).all()
    for i in {*range(0, 257, 16), 1, 255}:
        assert table[i] == generator.exp2_entry(i) == SPEC.table_exp2(i)


def test_scale_thresholds_match_generator_and_spec():
    table = TABLES.thresholds
    assert table.dtype == np.int32 and table.shape == (127,) and (np.diff(table) > 0).all()
    for k in {*range(0, 127, 9), 126}:
        assert table[k] == generator.scale_threshold(k) == SPEC.table_scale_threshold(k)
    scales = 0.11 * (256 / 0.11) ** (np.arange(128) / 127)
    levels = np.searchsorted(table, np.rint(scales * 1024).astype(np.int32), side="right")
    assert levels.tolist() == list(range(128))  # every level is reached by its own scale


@pytest.mark.parametrize("level", [0, 25, 50])
def test_whole_gaussian_levels_match_generator_and_spec(level):
    begin, end = LEVEL_STARTS[level]
    stored = int(TABLES.gaussian.first[level]), TABLES.gaussian.cdf[begin:end].tolist()
    assert stored == generator.gaussian_table(level) == SPEC.table_gaussian(level)


def test_gaussian_tables_are_symmetric_unimodal_and_cost_little():
    from scipy.special import ndtr

    excess = []
    for level, (begin, end) in enumerate(LEVEL_STARTS):
        frequency = np.diff(TABLES.gaussian.cdf[begin:end])
        regular, bound = frequency[:-1], -int(TABLES.gaussian.first[level])
        assert len(regular) == 2 * bound + 1 and bound >= 1
        assert np.array_equal(regular, regular[::-1]) and (np.diff(regular[bound:]) <= 0).all()
        scale = 0.11 * (256 / 0.11) ** (level / 127)
        i = np.arange(bound + 1 + int(12 * scale) + 50)
        p = ndtr(-(i - 0.5) / scale) - ndtr(-(i + 0.5) / scale)  # of one sign
        bits = -np.log2(np.append(regular[bound:], np.full(len(i) - bound - 1, frequency[-1])) / 65536)
        bits[bound + 1 :] += 5 + np.floor(np.log2(i[bound + 1 :] - bound))
        both = np.where(i == 0, 1, 2) * p
        entropy = -(both * np.log2(np.maximum(p, 1e-300))).sum()
        excess.append((both * bits).sum() - entropy)
        assert 0 < excess[-1] < max(5e-4 * entropy, 5e-5)
    assert np.mean(excess) < 0.00024 and np.max(excess) < 0.00175


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2**48), min_size=2, max_size=50).filter(any))
def test_frequencies_follow_spec_and_stay_within_their_bounds(weights):
    result = generator.weight_frequencies(weights)
    assert result == SPEC.table_frequencies(weights)
    assert sum(result) == 65536 and min(result) >= 1
    largest = weights.index(max(weights))
    others = sorted((w, f) for i, (w, f) in enumerate(zip(weights, result, strict=True)) if i != largest)
    assert all(a[1] <= b[1] for a, b in pairwise(others)) and result[largest] == max(result)


@pytest.mark.slow
def test_frequencies_of_many_equal_symbols_still_sum():
    for count in (2, 3, 6000, 65536):
        result = generator.frequencies(np.full(count, 1 / count))
        assert result.dtype == np.int32 and result.sum() == 65536 and result.min() >= 1


def test_boundaries_from_probabilities_make_a_table():
    pmf = np.array([0.05, 0.3, 0.5, 0.1, 1e-9])
    boundaries = generator.cdf_from_pmf(pmf, 0.0)
    assert boundaries.dtype == np.int32 and boundaries.shape == (7,)
    SymbolTables.from_lists([(-2, boundaries.tolist())])
    frequency = np.diff(boundaries)
    assert frequency[4] == frequency[5] == 1 and np.abs(frequency[:4] / 65536 - pmf[:4] / pmf.sum()).max() < 5e-5


@pytest.mark.parametrize(
    "probabilities",
    [[], [1.0], [0.0, 0.0], [0.5, -0.1], [0.5, np.nan], [np.inf, 1.0], np.full(65537, 1.0), [[0.5, 0.5]]],
)
def test_what_is_no_distribution_is_refused(probabilities):
    with pytest.raises(UsageError):
        generator.frequencies(np.array(probabilities, np.float64))


def test_a_rounding_too_close_to_a_tie_is_refused():
    mpf = generator._mp().mpf
    assert [generator.round_half_up(mpf(v)) for v in ("0.4", "0.6", "-0.4", "-0.6", "2", "-3")] == [0, 1, 0, -1, 2, -3]
    with pytest.raises(ArithmeticError):
        generator.round_half_up(mpf("1.5") + mpf(10) ** -40)
