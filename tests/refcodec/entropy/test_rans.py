"""The range coder against SPEC 7, in both backends, and against damaged segments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module

from refcodec.entropy.rans import RangeDecoder, RangeEncoder
from refcodec.errors import CoderError, InvalidModel, SymbolError, UsageError
from refcodec.model.symbol_tables import SymbolTables

SPEC = spec_module()
BACKENDS = ("numba", "numpy")
quick = settings(derandomize=True, deadline=None, max_examples=60)

TABLES = [
    (-1, [0, 8192, 57344, 65535, 65536]),
    (0, [0, 30000, 65000, 65536]),
    (5, [0, 1, 65536]),
    (-3, [0, 1, 2, 3, 65533, 65534, 65535, 65536]),
    (-32767, [0, 65535, 65536]),
    (32767, [0, 65535, 65536]),
    (-150, [0, *range(1, 301), 40000, 65536]),  # 300 frequencies of 1: the longest scans of the lookup
]
BUILT = SymbolTables.from_lists(TABLES)


def encode(symbols, numbers, tables=BUILT, backend="numba"):
    encoder = RangeEncoder(backend)
    encoder.put(np.array(symbols, np.int32), np.array(numbers, np.int32), tables)
    return encoder.finish()


def decode(data, numbers, tables=BUILT, backend="numba"):
    decoder = RangeDecoder(data, backend)
    symbols = decoder.get(np.array(numbers, np.int32), tables)
    decoder.finish()
    return symbols.tolist()


def outcome(function, *arguments):
    """Return the symbols, or that the segment was refused with an error of the right kind."""
    try:
        return function(*arguments)
    except (ValueError, CoderError, SymbolError):
        return "refused"


coded = st.lists(
    st.tuples(
        st.one_of(
            st.integers(-4, 8),
            st.integers(-200, 200),
            st.integers(-32767, 32767),
            st.sampled_from([-32767, -32766, 32766, 32767]),
        ),
        st.integers(0, len(TABLES) - 1),
    ),
    max_size=60,
).map(lambda pairs: ([s for s, _ in pairs], [t for _, t in pairs]))


@st.composite
def any_tables(draw):
    """Draw lists of (first, boundaries) that satisfy SPEC 7.1."""
    tables = []
    for _ in range(draw(st.integers(1, 4))):
        inner = sorted(draw(st.sets(st.integers(1, 65535), min_size=1, max_size=40)))
        tables.append((draw(st.integers(-32767, 32768 - len(inner))), [0, *inner, 65536]))
    return tables


@pytest.mark.parametrize(
    "symbols, numbers, segment",
    [
        ([], [], ""),
        ([0], [0], "00a0aaaa00000000"),
        ([1, 2], [1, 1], "f87bca154f0e0000"),
        (
            [0, 1, -1, 0, 0, 2, -2, 0, 1, 7, -40, 0, 0, 1, 1, 32767, -32767, 0, 1, 0],
            [0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1],
            "b7aab409d1db3e00ffff958bf22d76d6fffffb6facfe8db3",
        ),
    ],
)
def test_golden_segments_of_0_1_2_and_20_symbols(symbols, numbers, segment):
    assert SPEC.range_encode(symbols, numbers, TABLES).hex() == segment
    for backend in BACKENDS:
        assert encode(symbols, numbers, backend=backend).hex() == segment
        assert decode(bytes.fromhex(segment), numbers, backend=backend) == symbols


@quick
@given(coded)
def test_segments_equal_those_of_spec_and_decode(case):
    symbols, numbers = case
    expected = SPEC.range_encode(symbols, numbers, TABLES)
    assert SPEC.range_decode(expected, numbers, TABLES) == symbols
    for backend in BACKENDS:
        assert encode(symbols, numbers, backend=backend) == expected
        assert decode(expected, numbers, backend=backend) == symbols


@quick
@given(any_tables(), st.data())
def test_round_trip_with_any_tables(tables, data):
    size = data.draw(st.integers(0, 40))
    numbers = data.draw(st.lists(st.integers(0, len(tables) - 1), min_size=size, max_size=size))
    symbols = [
        data.draw(st.integers(max(-32767, tables[t][0] - 9), min(32767, tables[t][0] + len(tables[t][1]) + 9)))
        for t in numbers
    ]
    built = SymbolTables.from_lists(tables)
    expected = SPEC.range_encode(symbols, numbers, tables)
    for backend in BACKENDS:
        assert encode(symbols, numbers, built, backend) == expected
        assert decode(expected, numbers, built, backend) == symbols


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("t", range(len(TABLES)))
def test_every_symbol_of_a_table_and_its_neighbours(t, backend):
    first, boundaries = TABLES[t]
    around = range(max(-32767, first - 40), min(32767, first + len(boundaries) + 40) + 1)
    symbols = [*around, -32767, 32767]
    segment = encode(symbols, [t] * len(symbols), backend=backend)
    assert segment == SPEC.range_encode(symbols, [t] * len(symbols), TABLES)
    assert decode(segment, [t] * len(symbols), backend=backend) == symbols


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_escape_length_up_to_the_bound(backend):
    values = [-1 + 2**n + r for n in range(16) for r in (0, 2**n - 1)]
    symbols = [v + 1 for v in values if v + 1 <= 32767] + [-2 - v for v in values if -2 - v >= -32767]
    tables = SymbolTables.from_lists([(-1, [0, 1, 2, 65536])])
    segment = encode(symbols, [0] * len(symbols), tables, backend)
    assert decode(segment, [0] * len(symbols), tables, backend) == symbols


@pytest.mark.parametrize("backend", BACKENDS)
def test_calls_of_any_shape_and_type_join_in_c_order(backend):
    rng = np.random.default_rng(7)
    index = rng.integers(0, len(TABLES), (3, 4, 5))
    symbols = rng.integers(-9, 9, (3, 4, 5)).astype(np.int16)
    other = SymbolTables.from_lists([(0, [0, 20000, 65536])])
    encoder = RangeEncoder(backend)
    encoder.put(symbols.transpose(2, 0, 1), index.transpose(2, 0, 1).astype(np.uint8), BUILT)
    encoder.put(np.zeros(0, np.int16), np.zeros(0, np.int64), BUILT)
    encoder.put(np.zeros((2, 2), np.int8), np.zeros((2, 2), np.int64), other)
    segment = encoder.finish()
    decoder = RangeDecoder(segment, backend)
    halves = np.split(index.transpose(2, 0, 1), [2])
    out = np.concatenate([decoder.get(half, BUILT) for half in halves])
    last = decoder.get(np.zeros((2, 2), np.int64), other)
    decoder.finish()
    assert out.dtype == np.int32 and last.dtype == np.int32 and last.shape == (2, 2)
    assert np.array_equal(out, symbols.transpose(2, 0, 1)) and not last.any()


def test_put_keeps_no_reference_to_its_arrays():
    symbols, numbers = np.array([1, 0, -1], np.int32), np.zeros(3, np.int32)
    encoder = RangeEncoder("numpy")
    encoder.put(symbols, numbers, BUILT)
    symbols[:], numbers[:] = 9, 1
    assert encoder.finish() == encode([1, 0, -1], [0, 0, 0])


def test_long_segments_are_equal_in_both_backends_and_near_the_entropy():
    rng = np.random.default_rng(1)
    table = [(-1, [0, 8192, 57344, 65535, 65536])]
    tables, numbers = SymbolTables.from_lists(table), np.zeros(40000, np.int32)
    symbols = rng.choice([-1, 0, 1], 40000, p=[0.125, 0.75, 0.125])
    segment = encode(symbols, numbers, tables)
    assert segment == encode(symbols, numbers, tables, "numpy")
    assert decode(segment, numbers, tables) == decode(segment, numbers, tables, "numpy") == symbols.tolist()
    frequency = {-1: 8192, 0: 49152, 1: 8191}
    bits = -sum(np.log2(frequency[s] / 65536) for s in symbols.tolist())
    assert 0 <= 8 * len(segment) - bits < 0.0002 * bits + 64


@pytest.mark.parametrize("backend", BACKENDS)
@quick
@given(coded.filter(lambda case: case[0]), st.data())
def test_damaged_segments_are_refused_or_decode_as_spec_says(backend, case, data):
    symbols, numbers = case
    segment = bytearray(encode(symbols, numbers))
    kind = data.draw(st.sampled_from(["cut", "extended", "flipped", "random"]))
    if kind == "cut":
        del segment[data.draw(st.integers(0, len(segment) - 1)) :]
    elif kind == "extended":
        segment += data.draw(st.binary(min_size=1, max_size=12))
    elif kind == "flipped":
        bit = data.draw(st.integers(0, 8 * len(segment) - 1))
        segment[bit // 8] ^= 1 << bit % 8
    else:
        segment = bytearray(data.draw(st.binary(max_size=80)))
    damaged = bytes(segment)
    result = outcome(lambda: decode(damaged, numbers, backend=backend))
    assert result == outcome(SPEC.range_decode, damaged, numbers, TABLES)
    if damaged != encode(symbols, numbers):
        assert result != symbols  # one segment for one sequence


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_bytes_decode_within_bounds_or_are_refused(backend):
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(200):
        words = rng.integers(0, 256, 4 * int(rng.integers(0, 40)), dtype=np.uint8).tobytes()
        data = int(rng.integers(1 << 31, (1 << 63) - 1)).to_bytes(8, "little") + words
        try:
            symbols = decode(data, rng.integers(0, len(TABLES), 200), backend=backend)
            assert max(map(abs, symbols)) <= 32767
        except (CoderError, SymbolError):
            refused += 1
    assert refused > 190


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "data, what",
    [
        (b"", "empty"),
        (b"\0" * 4, "length"),
        (b"\0" * 7 + b"\x10\0", "length"),
        (b"\xff" * 3 + b"\x7f" + b"\0" * 4, "initial state"),
        (b"\0" * 7 + b"\x80", "initial state"),
        (b"\xff" * 8, "initial state"),
        (bytes.fromhex("00a0aaaa00000000") + b"\0" * 4, "words are left"),
        (bytes.fromhex("01a0aaaa00000000"), "final state"),
        (bytes.fromhex("0000008000000000"), "words run out"),
    ],
)
def test_refusals_say_why(data, what, backend):
    with pytest.raises(CoderError, match=what) as error:
        decode(data, [0], backend=backend)
    assert "SPEC 7" in str(error.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_cut_segment_names_the_offset_and_the_symbol(backend):
    symbols, numbers = [32767] * 9, [0] * 9
    segment = encode(symbols, numbers)[:-4]
    with pytest.raises(CoderError, match=f"byte {len(segment)} of the segment.*symbol=8"):
        decode(segment, numbers, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bytes_without_symbols_are_refused_and_no_bytes_accepted(backend):
    assert decode(b"", [], backend=backend) == []
    assert RangeEncoder(backend).finish() == encode([], [], backend=backend) == b""
    with pytest.raises(CoderError, match="without symbols"):
        decode(bytes.fromhex("0000008000000000"), [], backend=backend)


def oversize_segment(symbol):
    """Write what an encoder without the bound of SPEC 7.2 would for one symbol of the table (0, [0, 1, 65536])."""
    below = symbol < 0
    v = -1 - symbol if below else symbol - 1
    n = (v + 1).bit_length() - 1
    x = 1 << 31
    for cum, freq in reversed(
        [(1, 65535), *SPEC.coder_raw(int(below), 1), *SPEC.coder_raw(n, 4), *SPEC.coder_raw(v + 1 - 2**n, n)]
    ):
        assert x < freq << 47  # one symbol, no word
        x = x // freq * 65536 + x % freq + cum
    return x.to_bytes(8, "little")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("symbol", [32768, -32768, 65535, -65535])
def test_symbols_beyond_the_bound_are_refused_when_decoding(symbol, backend):
    tables = [(0, [0, 1, 65536])]
    built = SymbolTables.from_lists(tables)
    inside = 32767 if symbol > 0 else -32767
    assert oversize_segment(inside) == encode([inside], [0], built)
    with pytest.raises(SymbolError, match="symbol=0"):
        decode(oversize_segment(symbol), [0], built, backend)
    with pytest.raises(ValueError):
        SPEC.range_decode(oversize_segment(symbol), [0], tables)


@pytest.mark.parametrize("symbol", [32768, -32768, 1 << 40])
def test_symbols_beyond_the_bound_are_refused_when_encoding(symbol):
    with pytest.raises(SymbolError):
        RangeEncoder().put(np.array([0, symbol]), np.array([0, 0]), BUILT)


def test_misuse_is_a_usage_error():
    one = np.zeros(1, np.int32)
    for symbols, index in (
        (one, np.array([len(TABLES)])),
        (one, np.array([-1])),
        (one, np.zeros(2, np.int32)),
        (np.zeros(1), one),
        (one, np.zeros(1)),
        (np.zeros(0), np.zeros(1)),
    ):
        with pytest.raises(UsageError):
            RangeEncoder().put(symbols, index, BUILT)
    for index in (np.array([len(TABLES)]), np.array([1 << 32]), np.zeros(1)):
        with pytest.raises(UsageError):
            RangeDecoder(encode([0], [0])).get(index, BUILT)
    with pytest.raises(UsageError):
        RangeEncoder("other")
    with pytest.raises(UsageError):
        RangeDecoder(b"", "other")


@pytest.mark.parametrize(
    "tables, what",
    [
        ([], "partition"),
        ([(0, [0, 65536])], "lacks"),
        ([(0, [1, 2, 65536])], "start at 0"),
        ([(0, [0, 2, 65535])], "end at 65536"),
        ([(0, [0, 5, 5, 65536])], "strictly"),
        ([(0, [0, 0, 65536])], "strictly"),
        ([(0, [0, 7, 5, 65536])], "strictly"),
        ([(32767, [0, 1, 2, 65536])], "magnitude"),
        ([(-32768, [0, 1, 65536])], "magnitude"),
    ],
)
def test_tables_that_break_a_rule_are_refused(tables, what):
    with pytest.raises(InvalidModel, match=what):
        SymbolTables.from_lists(tables)
    if tables:
        with pytest.raises(InvalidModel, match=rf"{what}.*table 2 "):
            SymbolTables.from_lists([TABLES[0], TABLES[1], *tables, TABLES[2]])


def test_arrays_that_are_no_tables_are_refused():
    cdf, first = np.array([0, 1, 65536]), np.array([0])
    for start in ([0, 4], [1, 3], [0], [0, 2, 3]):
        with pytest.raises(InvalidModel):
            SymbolTables(cdf, np.array(start), first)
    with pytest.raises(InvalidModel, match="integers"):
        SymbolTables(cdf.astype(float), np.array([0, 3]), first)
    with pytest.raises(InvalidModel):  # a table that would run backwards
        SymbolTables(np.array([0, 1, 65536] * 2), np.array([0, 7, 6]), np.array([0, 0]))


def test_tables_are_read_only_copies_with_an_exact_lookup():
    cdf = np.array([0, 256, 300, 65536])
    tables = SymbolTables(cdf, np.array([0, 4]), np.array([0]))
    cdf[:] = 0
    assert tables.cdf.tolist() == [0, 256, 300, 65536] and len(tables) == 1
    assert not any(getattr(tables, name).flags.writeable for name in ("cdf", "start", "first", "lookup"))
    for table, (_, boundaries) in enumerate(TABLES):
        expected = [max(i for i, bound in enumerate(boundaries) if bound <= 256 * high) for high in range(256)]
        assert BUILT.lookup[table].tolist() == expected


@pytest.mark.slow
def test_kernels_compute_in_int64():
    from numba import types

    from refcodec.arith.jit.kernels import rans
    from refcodec.arith.jit.native import build

    for kernel in (rans.encode, rans.decode):
        build.compiled(kernel)
    for function in (rans.encoded, rans.decoded, rans.refill, rans.raw_bits):
        results = [set(compiled.signature.return_type) for compiled in function.overloads.values()]
        assert results and all(result == {types.int64} for result in results)
