"""Claims of the entropy suite: every symbol of every table, every path of the range coder, exact states."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from own_kit import suite

from conformance.reach.census import LOW, Census, count, escape_symbols
from conformance.synthetic.models import wires
from conformance.synthetic.models.procedural import model
from conformance.synthetic.writer import stream_of
from conformance.synthetic.z_tables import EXACT_TABLES, TABLES
from refcodec.bitstream.container import parse
from refcodec.codec import decode_stream
from refcodec.limits import MAX_SYMBOL


@cache
def census(name: str) -> Census:
    """Counts over the suite's valid streams of a model."""
    found = Census()
    for vector in suite("entropy").vectors:
        if vector.model and vector.model.name == name and vector.outcome == "accept":
            count(vector.read(), model(name), found)
    return found


def table(tables, number):
    """First regular symbol and number of regular symbols."""
    return int(tables.first[number]), int(tables.start[number + 1] - tables.start[number]) - 2


def coded(below, n, r, first, regular):
    """SPEC 7.2: the symbol of an escape."""
    v = 2**n - 1 + r
    return first - 1 - v if below else first + regular + v


@pytest.mark.slow
def test_every_symbol_of_every_gaussian_table_is_decoded():
    tables, found = model("wires").tables.gaussian, census("wires")
    for level in range(128):
        first, regular = table(tables, level)
        missing = [s for s in range(first, first + regular) if not found.symbols["y", level, s]]
        assert not missing, (level, missing)


@pytest.mark.slow
def test_every_escape_that_a_gaussian_table_can_have_is_decoded_at_both_ends():
    tables, found = model("wires").tables.gaussian, census("wires")
    lengths = set()
    for level in range(128):
        first, regular = table(tables, level)
        for below in (0, 1):
            for n in range(16):
                valid = [r for r in (0, 2**n - 1) if abs(coded(below, n, r, first, regular)) <= MAX_SYMBOL]
                assert all(found.escapes["y", level, below, n, r] for r in valid), (level, below, n)
                lengths |= {n} if valid else set()
    assert lengths == set(range(15))  # tables around 0 leave no symbol of length 15; those of z do


@pytest.mark.slow
def test_symbols_of_greatest_magnitude_are_decoded_with_every_gaussian_table():
    found = census("wires")
    assert all(found.symbols["y", level, s] for level in range(128) for s in (-MAX_SYMBOL, MAX_SYMBOL))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wires", "tiny-7"])
def test_every_symbol_of_the_tables_of_z_is_decoded(name):
    tables, found = model(name).factorized, census(name)
    for channel in range(len(tables)):
        first, regular = table(tables, channel)
        wanted = range(first, first + regular) if regular <= 64 else (first, first + 1, first + regular - 1)
        assert all(found.symbols["z", channel, s] for s in (*wanted, *escape_symbols(first, regular))), channel
    assert name == "tiny-7" or {n for segment, _, _, n, _ in found.escapes if segment == "z"} == set(range(16))


@pytest.mark.slow
def test_every_interval_is_decoded_with_and_without_a_word():
    steps = census("wires").steps + census("tiny-7").steps
    assert {bits for kind, bits, _ in steps if kind == "regular"} == set(range(16))
    assert {bits for kind, bits, _ in steps if kind == "raw"} == set(range(1, 16))
    for kind, bits in {(kind, bits) for kind, bits, _ in steps}:
        assert steps[kind, bits, True] and steps[kind, bits, False], (kind, bits)


@pytest.mark.slow
def test_states_stand_exactly_where_comparisons_turn():
    found = census("wires")
    assert found.turns[LOW - 1] and found.turns[LOW]
    assert all(found.states[state] for state in (LOW, 1 << 47, (1 << 63) - LOW - 3))
    assert max(found.states) < 1 << 63 and min(found.states) >= LOW


@pytest.mark.slow
def test_frequencies_of_1_and_65535_are_decoded_at_the_states_that_read_and_that_do_not():
    found = census("wires")
    for channel, symbol in enumerate([1, 1, 1, 1, 0]):  # the first state of the segment is near 2^63
        assert found.symbols["z", channel, symbol]
    alone = EXACT_TABLES.index((0, [0, 65535, 65536]))
    assert found.symbols["z", alone, 0] and found.symbols["z", alone, 1]


def test_tables_of_z_stand_at_the_rules_limits():
    frequencies = [b - a for _, row in TABLES for a, b in pairwise(row)]
    assert min(frequencies) == 1 and max(frequencies) == 65535
    assert {first for first, _ in TABLES} >= {-MAX_SYMBOL, MAX_SYMBOL}
    assert max(first + len(row) - 3 for first, row in TABLES) == MAX_SYMBOL
    assert min(len(row) for _, row in TABLES) == 3 and max(len(row) for _, row in TABLES) == 65537


def test_segments_are_as_short_and_as_long_as_said():
    kit = {v.id: v for v in suite("entropy").vectors}

    def lengths(name):
        (entry,) = parse(kit[name].read()).index
        return entry.z_length, entry.y_length

    assert lengths("entropy/shortest-y")[1] == lengths("entropy/shortest-z")[0] == 8
    assert lengths("entropy/longest-y")[1] * 8 > 35 * 9 * 16 * wires.CONFIG.M - 64
    assert [lengths(f"entropy/empty-{name}")[at] for name, at in (("z", 0), ("y", 1))] == [0, 0]


@pytest.mark.parametrize("symbol", [-511, -383, -129, -128, -1, 0, 1, 126, 127, 128, 382, 510])
def test_the_picture_of_wires_shows_every_symbol(symbol):
    made = model("wires")

    def picture(value):
        def choose(i, parity, levels, means):
            out = np.zeros(levels.shape, np.int32)
            out[1, 1, 5] = value
            return out

        return decode_stream(stream_of(made, 64, 64, choose_y=choose, digest=False), model=made, threads=1)[0]

    assert (picture(symbol) != picture(symbol + 1)).any()
