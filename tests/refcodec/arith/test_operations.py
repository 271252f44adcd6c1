"""Every operation three ways: Numba, NumPy, and the blocks of SPEC 5 on unbounded integers; random and worst inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec import spec_module

from conformance.synthetic.models.attentions import near_tie
from refcodec.arith import checkerboard, numpy_ops
from refcodec.arith.engine import Engine
from refcodec.arith.jit import attention as numba_attention
from refcodec.arith.jit import local_attention
from refcodec.arith.maps import interior
from refcodec.arith.numpy_ops import bands
from refcodec.model.layers import Conv, Gain, Gdn, LinearAttention, LocalAttention, Norm, Rescale, Sum
from refcodec.model.proof import INT32_MAX, accumulator_range
from refcodec.model.tables import load_tables

SPEC = spec_module()
TABLES = load_tables()
TABLE_LISTS = {name: array.tolist() for name, array in TABLES.arrays().items()}
BACKENDS = ("numba", "numpy")
MAX = 32767
quick = settings(derandomize=True, deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 7)
clamps = st.sampled_from([1, 100, 4095, MAX])
fractions = st.sampled_from([4, 8, 12])

PLAIN = {
    "kernel": 1,
    "stride": 1,
    "shuffle": False,
    "depthwise": False,
    "gelu": False,
    "wide": False,
    "heads": 1,
    "name": "layer",
}


def integers(rng, low, high, shape):
    """Random integers in low..high, their extremes often."""
    values = rng.integers(low, high, shape, np.int64, endpoint=True)
    at = rng.random(shape)
    return np.where(at < 0.1, low, np.where(at > 0.9, high, values))


def make_engine(layer, backend, threads=1, step=0):
    """Return an engine with one layer, whose pool hands out dirty memory."""
    return Engine({"layer": layer}, TABLES, step, threads, backend)


def as_map(engine, values):
    """Values [h, w, C] inside a map."""
    out = engine.map(*values.shape)
    interior(out)[...] = values
    return out


def dirty(engine, *shape):
    """Leave garbage in the block that the next map of this shape takes."""
    block = engine.map(*shape)
    block[...] = -21846


def checked(out, dtype=np.int16):
    """The interior as lists; the type is as declared and the border still zero."""
    assert out.dtype == dtype
    inner = interior(out).tolist()
    frame = out.copy()
    interior(frame)[...] = 0
    assert not frame.any()
    return inner


def three_ways(layer, method, inputs, expected, threads=1, step=0, **more):
    """Run a method of the engine in both backends and compare with SPEC's result."""
    for backend in BACKENDS:
        engine = make_engine(layer, backend, threads, step)
        dirty(engine, len(expected), len(expected[0]), len(expected[0][0]))
        out = getattr(engine, method)("layer", *(as_map(engine, x) for x in inputs), **more)
        assert checked(out) == expected, backend


# ------------------------------------------------------------------------------------------------- rounding (5.2)


@quick
@given(st.integers(-(2**61), 2**61), st.integers(0, 48))
def test_round_shift(a, s):
    assert int(numpy_ops.round_shift(np.int64(a), s)) == SPEC.round_shift(a, s)


@pytest.mark.parametrize("s", range(31))
def test_round_shift_at_ties(s):
    values = [(k << s) + ((1 << s) >> 1) + d for k in (-3, -2, -1, 0, 1, 2) for d in (-1, 0, 1)]
    assert numpy_ops.round_shift(np.array(values), s).tolist() == [SPEC.round_shift(v, s) for v in values]


@quick
@given(st.integers(-(2**55), 2**55), st.integers(1, 2**40))
def test_rounded_quotient_is_the_nearest_halves_up(a, b):
    q = SPEC.round_quotient(a, b)
    if b % 2 == 0:
        assert -b < 2 * (a - q * b) + 1 <= b  # a / b - q in [-1/2, 1/2)
    else:
        assert abs(2 * (a - q * b)) < b


# ---------------------------------------------------------------------------------------------- convolution (5.3)


def provable(weight, limit, room):
    """Halve the weights of each output until limit * sum |w| leaves room below 2^31."""
    weight = weight.copy()
    while True:
        _, high = accumulator_range(weight, [(weight.shape[3], (-limit, limit))])
        over = high > INT32_MAX - room
        if not over.any():
            return weight.astype(np.int16)
        weight[over] = np.trunc(weight[over] / 2)


def random_conv(
    rng, kernel, ci, co, limit_in, *, add=False, gelu=False, wide=False, depthwise=False, frac=8, limit=4095, **more
):
    """Make a layer with a proved accumulator; half of 2^31 is left to bias and branch."""
    shape = (co, kernel, kernel, 1 if depthwise else ci)
    weight = provable(integers(rng, -MAX, MAX, shape), limit_in, 2**30)
    bias = integers(rng, -(2**29), 2**29, co).astype(np.int32)
    shift = rng.integers(0, 31, co, np.int32)
    add_shift = rng.integers(0, 15, co, np.int32) if add else None
    return Conv(
        "layer",
        weight,
        bias,
        shift,
        frac,
        0 if wide else limit,
        add_shift,
        TABLES.gelu[frac] if gelu else None,
        depthwise=depthwise,
        **more,
    )


def spec_conv(layer, x, branch=None, parity=-1):
    """SPEC's result for a layer on values [h, w, C]."""
    op = {
        **PLAIN,
        "kernel": layer.kernel,
        "stride": layer.stride,
        "shuffle": layer.shuffle,
        "depthwise": layer.depthwise,
        "gelu": layer.gelu is not None,
        "wide": not layer.limit,
    }
    add_shift = np.zeros_like(layer.shift) if layer.add_shift is None else layer.add_shift
    arrays = {
        "weight": layer.weight.tolist(),
        "constants": np.stack([layer.bias, layer.shift, add_shift], 1).tolist(),
        "frac": layer.frac,
        "limit": layer.limit,
    }
    out = SPEC.convolution(x.tolist(), op, arrays, TABLE_LISTS, None if branch is None else branch.tolist())
    return out if parity < 0 else SPEC.take_half(out, parity)


def check_conv(layer, x, branch=None, parity=-1, threads=1):
    """Compare both backends with SPEC, and return SPEC's result."""
    expected = spec_conv(layer, x, branch, parity)
    for backend in BACKENDS:
        engine = make_engine(layer, backend, threads)
        dirty(engine, len(expected), len(expected[0]), len(expected[0][0]))
        add = None if branch is None else as_map(engine, branch)
        out = engine.conv("layer", as_map(engine, x), add=add, parity=parity)
        assert checked(out, np.int16 if layer.limit else np.int32) == expected, backend
    return expected


def branch_of(rng, layer, x, limit=MAX):
    """Random branch of the shape of a layer's result."""
    h, w, co = x.shape[0], x.shape[1], layer.weight.shape[0]
    if layer.stride == 2:
        h, w = (h + 1) // 2, (w + 1) // 2
    return integers(rng, -limit, limit, (2 * h, 2 * w, co // 4) if layer.shuffle else (h, w, co))


@quick
@given(
    seeds,
    sizes,
    st.integers(1, 30),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 6),
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
    clamps,
)
def test_convolution(seed, h, w, kernel, pairs, co, add, gelu, limit):
    rng = np.random.default_rng(seed)
    frac = int(rng.integers(4, 13))
    layer = random_conv(rng, kernel, 2 * pairs, co, 4095, add=add, gelu=gelu, limit=limit, frac=frac)
    x = integers(rng, -4095, 4095, (h, w, 2 * pairs))
    check_conv(layer, x, branch_of(rng, layer, x) if add else None)


@quick
@given(seeds, sizes, st.integers(1, 30), st.sampled_from([1, 3]), st.booleans())
def test_convolution_of_stride_two(seed, h, w, kernel, add):
    rng = np.random.default_rng(seed)
    layer = random_conv(rng, kernel, 4, 34, 4095, add=add, stride=2)
    x = integers(rng, -4095, 4095, (h, w, 4))
    check_conv(layer, x, branch_of(rng, layer, x) if add else None)


@quick
@given(seeds, st.integers(1, 4), st.integers(1, 27), st.integers(1, 20), st.booleans(), st.booleans())
def test_convolution_with_shuffle(seed, h, w, channels, add, gelu):
    rng = np.random.default_rng(seed)
    layer = random_conv(rng, 3, 2, 4 * channels, MAX, add=add, gelu=gelu, shuffle=True, limit=MAX)
    x = integers(rng, -MAX, MAX, (h, w, 2))
    check_conv(layer, x, branch_of(rng, layer, x) if add else None)


@quick
@given(seeds, sizes, st.integers(1, 15), st.sampled_from([1, 3, 5]), st.sampled_from([0, 1]), st.booleans())
def test_convolution_at_one_parity(seed, h, half, kernel, parity, add):
    rng = np.random.default_rng(seed)
    layer = random_conv(rng, kernel, 4, 6, MAX)
    check_conv(layer, integers(rng, -MAX, MAX, (h, 2 * half, 4)), parity=parity)


@quick
@given(seeds, sizes, st.integers(1, 26), st.integers(1, 40), st.booleans())
def test_depthwise_convolution(seed, h, w, channels, gelu):
    rng = np.random.default_rng(seed)
    layer = random_conv(rng, 3, channels, channels, MAX, gelu=gelu, depthwise=True, limit=MAX)
    check_conv(layer, integers(rng, -MAX, MAX, (h, w, channels)))


@quick
@given(seeds, sizes, st.integers(1, 26), st.integers(1, 40))
def test_wide_convolution(seed, h, w, co):
    rng = np.random.default_rng(seed)
    layer = random_conv(rng, 1, 8, co, MAX, wide=True)
    check_conv(layer, integers(rng, -MAX, MAX, (h, w, 8)))


@pytest.mark.parametrize("width", [1, 2, 11, 12, 13, 23, 24, 25, 37])
@pytest.mark.parametrize("outputs", [1, 31, 32, 33, 64, 65])
def test_every_edge_of_the_blocks_of_pixels_and_outputs(width, outputs):
    rng = np.random.default_rng(width * 100 + outputs)
    check_conv(random_conv(rng, 3, 2, outputs, MAX), integers(rng, -MAX, MAX, (2, width, 2)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("variant", [{}, {"stride": 2}, {"shuffle": True}, {"depthwise": True}])
def test_views_on_channel_ranges(variant, kernel, backend):
    if variant.get("depthwise") and kernel != 3:
        return
    rng = np.random.default_rng(kernel)
    add = not variant.get("depthwise")
    layer = random_conv(rng, kernel, 6, 8 if variant.get("shuffle") else 6, 4095, add=add, **variant)
    x = integers(rng, -4095, 4095, (5, 26, 6))
    branch = branch_of(rng, layer, x)
    expected = spec_conv(layer, x, branch if add else None)
    engine = make_engine(layer, backend)
    outer = as_map(engine, integers(rng, -MAX, MAX, (5, 26, 12)))
    interior(outer)[:, :, 4:10] = x
    outer_add = as_map(engine, integers(rng, -MAX, MAX, (*branch.shape[:2], branch.shape[2] + 6)))
    interior(outer_add)[:, :, 2 : 2 + branch.shape[2]] = branch
    target = as_map(engine, np.full((len(expected), len(expected[0]), len(expected[0][0]) + 4), 99))
    co = len(expected[0][0])
    out = engine.conv(
        "layer",
        outer[:, :, 4:10],
        add=outer_add[:, :, 2 : 2 + branch.shape[2]] if add else None,
        out=target[:, :, 2 : 2 + co],
    )
    assert checked(out) == expected
    assert (interior(target)[:, :, :2] == 99).all() and (interior(target)[:, :, 2 + co :] == 99).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_odd_count_of_inputs_ignores_the_channel_that_fills_the_pair(backend):
    rng = np.random.default_rng(3)
    layer = random_conv(rng, 3, 3, 5, MAX)
    x = integers(rng, -MAX, MAX, (4, 15, 4))
    engine = make_engine(layer, backend)
    assert checked(engine.conv("layer", as_map(engine, x))) == spec_conv(layer, x[:, :, :3])


def extreme_layer(weight, target, largest, *, branch=0, **more):
    """Make a layer whose sign-matched input reaches the accumulator ``target`` in every output."""
    total = np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)) * largest
    sign = 1 if target > 0 else -1
    bias = target - sign * (total + branch)
    assert np.abs(bias).max() <= INT32_MAX
    return Conv(
        "layer",
        weight.astype(np.int16),
        bias.astype(np.int32),
        np.zeros(weight.shape[0], np.int32),
        8,
        **{"limit": 0, **more},
    )


@pytest.mark.parametrize("target", [INT32_MAX, -INT32_MAX, INT32_MAX - 1])
@pytest.mark.parametrize(
    ("kernel", "inputs", "largest"), [(1, 2, MAX), (1, 64, 4095), (3, 32, 4095), (5, 18, 2047), (3, 2, MAX)]
)
def test_sign_matched_inputs_attain_the_bound_exactly(kernel, inputs, largest, target):
    rng = np.random.default_rng(kernel * inputs)
    weight = integers(rng, -MAX, MAX, (33, kernel, kernel, inputs)).astype(np.float64)
    magnitude = np.abs(weight).sum(axis=(1, 2, 3), keepdims=True)
    weight = np.clip(np.trunc(weight * (INT32_MAX // largest) / magnitude), -MAX, MAX).astype(np.int64)
    layer = extreme_layer(weight, target, largest)
    low, high = accumulator_range(layer.weight, [(inputs, (-largest, largest))])
    assert ((high if target > 0 else low) + layer.bias == target).all()
    for n in (0, 17, 32):  # the input that matches output n, at the centre of the window
        signs = np.where(weight[n] > 0, 1, -1) * (1 if target > 0 else -1)
        x = np.zeros((kernel, 13, inputs), np.int64)
        x[:, :kernel] = signs * largest
        result = check_conv(layer, x)
        assert result[kernel // 2][kernel // 2][n] == target


@pytest.mark.parametrize("sign", [1, -1])
def test_a_branch_takes_the_accumulator_to_the_bound(sign):
    largest, branch, add_shift = 4095, MAX, 15
    weight = np.full((4, 1, 1, 2), 100) * np.array([1, -1]) * sign
    layer = extreme_layer(
        weight, sign * INT32_MAX, largest, branch=branch << add_shift, add_shift=np.full(4, add_shift, np.int32)
    )
    x = np.full((1, 14, 2), largest) * np.array([1, -1])
    result = check_conv(layer, x, np.full((1, 14, 4), sign * branch))
    assert result[0][0] == [sign * INT32_MAX] * 4


@pytest.mark.parametrize("value", [-MAX, MAX, 0])
@pytest.mark.parametrize("weight", [-MAX, MAX])
def test_constant_inputs_and_weights_at_their_extremes(value, weight):
    layer = Conv(
        "layer", np.full((2, 1, 1, 2), weight, np.int16), np.zeros(2, np.int32), np.array([0, 30], np.int32), 8, limit=0
    )
    check_conv(layer, np.full((3, 13, 2), value))


@pytest.mark.parametrize("limit", [0, 2, MAX])
def test_ties_at_every_shift(limit):
    cases = sorted(
        {
            (s, min(max((k << s) + (1 << s >> 1) + (1 << s >> 1) + d, -INT32_MAX), INT32_MAX))
            for s in range(31)
            for k in (-3, -2, -1, 0, 1, 2)
            for d in (-1, 0, 1)
        }
    )
    shift, bias = (np.array(column, np.int32) for column in zip(*cases, strict=True))
    layer = Conv("layer", np.zeros((len(cases), 1, 1, 2), np.int16), bias, shift, 8, limit)
    result = check_conv(layer, np.zeros((1, 13, 2), np.int64))
    assert max(result[0][0]) == (limit if limit == 2 else 3)


@pytest.mark.parametrize("frac", range(4, 13))
@pytest.mark.parametrize("limit", [40, MAX])
def test_gelu_over_its_table_and_beyond(frac, limit):
    size = TABLES.gelu[frac].size
    near = [
        *range(40),
        int(TABLES.gelu[frac].argmax()),
        size // 2,
        *range(size - 4, size + 4),
        limit - 1,
        limit,
        limit + 1,
        MAX - 1,
        MAX,
    ]
    values = np.array(sorted({s * v for v in near for s in (-1, 1) if v <= MAX}))
    layer = Conv(
        "layer",
        np.array([1, 0], np.int16).reshape(1, 1, 1, 2),
        np.zeros(1, np.int32),
        np.zeros(1, np.int32),
        frac,
        limit,
        gelu=TABLES.gelu[frac],
    )
    result = check_conv(layer, np.stack([values, values], axis=1)[None])
    assert result[0][-1] == [limit]
    assert min(r[0] for r in result[0]) == max(-limit, -int(TABLES.gelu[frac].max()))


def test_gelu_comes_before_the_clamp():
    layer = Conv(
        "layer",
        np.full((1, 1, 1, 2), 1, np.int16),
        np.zeros(1, np.int32),
        np.zeros(1, np.int32),
        8,
        10,
        gelu=TABLES.gelu[8],
    )
    # -60 clamped to -10 first would give GELU(-10); GELU(-60) is lower.
    assert check_conv(layer, np.full((1, 1, 2), -30))[0][0] == [-10]
    assert SPEC.gelu(-10, TABLE_LISTS["gelu_q8"]) > -10


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("variant", [{}, {"stride": 2}, {"shuffle": True}, {"depthwise": True}, {"wide": True}])
def test_threads_change_no_convolution(variant, threads):
    rng = np.random.default_rng(5)
    layer = random_conv(rng, 3, 32, 32, 4095, **variant)
    x = integers(rng, -4095, 4095, (61, 50, 32))
    results = []
    for backend, count in (("numpy", 1), ("numba", 1), ("numba", threads)):
        engine = make_engine(layer, backend, count)
        results.append(interior(engine.conv("layer", as_map(engine, x))).copy())
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[1], results[2])


@pytest.mark.parametrize("frac", range(4, 13))
def test_half_tanh(frac):
    table = TABLES.half_tanh[frac]
    values = np.array([v for a in (*range(50), table.size - 2, table.size - 1, table.size, MAX) for v in (-a, a)])
    layer = Conv("layer", np.zeros((1, 1, 1, 2), np.int16), np.zeros(1, np.int32), np.zeros(1, np.int32), frac, MAX)
    engine = make_engine(layer, "numpy")
    result = engine.half_tanh("layer", as_map(engine, values[None, :, None]))
    assert result.dtype == np.int64
    assert result[0, :, 0].tolist() == [SPEC.half_tanh(v, table.tolist()) for v in values.tolist()]
    assert result.max() == 32 and result.min() == -32


# -------------------------------------------------------------------------------------- sum, gain, rescale (5.4)


@quick
@given(seeds, sizes, sizes, st.integers(0, 15), st.integers(0, 15), st.integers(0, 15), clamps)
def test_sum(seed, h, w, shift_a, shift_b, shift, limit):
    rng = np.random.default_rng(seed)
    a, b = integers(rng, -MAX, MAX, (h, w, 3)), integers(rng, -MAX, MAX, (h, w, 3))
    a.reshape(-1)[0] = b.reshape(-1)[0] = MAX * (1 if seed % 2 else -1)  # both extremes together
    expected = SPEC.residual_sum(a.tolist(), b.tolist(), {"constants": [shift_a, shift_b, shift], "limit": limit})
    three_ways(Sum("layer", shift_a, shift_b, shift, 0, limit), "sum", (a, b), expected)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sum(sign):
    a = np.full((1, 1, 2), sign * MAX)
    layer = {"constants": [15, 15, 15], "limit": MAX}
    three_ways(Sum("layer", 15, 15, 15, 0, MAX), "sum", (a, a), SPEC.residual_sum(a.tolist(), a.tolist(), layer))


@quick
@given(seeds, sizes, sizes, st.integers(0, 2), clamps)
def test_gain(seed, h, w, step, limit):
    rng = np.random.default_rng(seed)
    multiplier, shift = integers(rng, 2**14, 2**15 - 1, (3, 4)), integers(rng, 1, 30, (3, 4))
    x = integers(rng, -MAX, MAX, (h, w, 4))
    expected = SPEC.gain(x.tolist(), {"multiplier": multiplier.tolist(), "shift": shift.tolist(), "limit": limit}, step)
    layer = Gain("layer", multiplier.astype(np.int32), shift.astype(np.int32), 0, limit)
    three_ways(layer, "gain", (x,), expected, step=step)


def test_gain_ties_round_up():
    x = np.arange(-6, 7).reshape(1, 13, 1)
    layer = Gain("layer", np.full((1, 1), 1 << 14, np.int32), np.full((1, 1), 15, np.int32), 0, MAX)
    three_ways(layer, "gain", (x,), [[[-(-(v + 1) // 2) if v % 2 else v // 2] for v in range(-6, 7)]])


@quick
@given(seeds, sizes, sizes, st.integers(0, 15), clamps)
def test_rescale(seed, h, w, shift, limit):
    x = integers(np.random.default_rng(seed), -MAX, MAX, (h, w, 2))
    expected = SPEC.rescale(x.tolist(), {"constants": [shift], "limit": limit})
    three_ways(Rescale("layer", shift, 0, limit), "rescale", (x,), expected)


# ------------------------------------------------------------------------------------------------------- GDN (5.5)


def check_gdn(gamma, beta, shift, limit, x, inverse, threads=1):
    """Compare both backends with SPEC on values [h, w, C]."""
    layer = Gdn("layer", np.array(gamma, np.int64), np.array(beta, np.int64), shift, 0, limit)
    arrays = {"gamma": layer.gamma.tolist(), "beta": layer.beta.tolist(), "constants": [shift], "limit": limit}
    three_ways(layer, "igdn" if inverse else "gdn", (x,), SPEC.gdn(x.tolist(), arrays, inverse), threads)


@quick
@given(seeds, sizes, sizes, st.integers(1, 9), st.integers(0, 36), st.booleans(), clamps, st.integers(4, 51))
def test_gdn(seed, h, w, channels, shift, inverse, limit, bits):
    rng = np.random.default_rng(seed)
    top = max(1, ((1 << bits) - 1) // (MAX * MAX * channels))
    gamma = integers(rng, 0, min(top, (2**51 - 1) // (MAX * MAX * channels)), (channels, channels))
    beta = integers(rng, 1, 2**bits // 2, channels)
    check_gdn(gamma, beta, shift, limit, integers(rng, -MAX, MAX, (h, w, channels)), inverse)


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_at_perfect_squares_up_to_the_bound(inverse):
    roots = [1, 2, 3, 2**13, 2**20 - 1, 2**25 - 1, 2**25, 2**25 + 1, 47453133, 2**26 - 2, 2**26 - 1]
    beta = [n for k in roots for n in (k * k - 1, k * k, k * k + 1, k * k + 2 * k) if 1 <= n < 2**52] + [2**52 - 1]
    assert max(beta) == 2**52 - 1
    x = np.array([0, 1, -1, 2, -2, 1001, -1001, MAX, -MAX])[None, :, None].repeat(len(beta), axis=2)
    for shift in (0, 1, 13, 26, 36):
        check_gdn(np.zeros((len(beta), len(beta))), beta, shift, MAX, x, inverse)


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_whose_sum_of_products_is_the_largest_allowed(inverse):
    """2^52 - 1 = beta + 2 * gamma * 32767^2, and perfect squares reached by products rather than by beta."""
    for n in (2**52 - 1, (2**26 - 1) ** 2, (2**26 - 1) ** 2 - 1, (2**25 + 7) ** 2, (2**25 + 7) ** 2 - 1):
        g = (n - 1) // (2 * MAX * MAX)
        gamma, beta = [[g, g]] * 2, [n - 2 * g * MAX * MAX] * 2
        check_gdn(gamma, beta, 26, MAX, np.array([[[MAX, -MAX], [-MAX, -MAX], [0, MAX]]]), inverse)


def test_gdn_divides_with_halves_up():
    x = np.arange(-9, 10)[None, :, None]
    for root in (1, 2, 3, 4, 6):
        check_gdn([[0]], [root * root], 0, MAX, x, False)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("inverse", [False, True])
def test_threads_change_no_gdn(inverse, threads):
    rng = np.random.default_rng(6)
    layer = Gdn("layer", integers(rng, 0, 1000, (32, 32)), integers(rng, 1, 2**40, 32), 14, 0, MAX)
    x = integers(rng, -MAX, MAX, (37, 60, 32))
    results = []
    for backend, count in (("numpy", 1), ("numba", threads)):
        engine = make_engine(layer, backend, count)
        results.append(interior((engine.igdn if inverse else engine.gdn)("layer", as_map(engine, x))).copy())
    np.testing.assert_array_equal(*results)


# ------------------------------------------------------------------------------------------ normalisation (5.6)


def check_norm(x, epsilon, threads=1):
    """Compare both backends with SPEC on values [h, w, C], and return the result."""
    expected = SPEC.layer_norm(x.tolist(), {"constants": [epsilon], "limit": MAX})
    three_ways(Norm("layer", epsilon, 10, MAX), "norm", (x,), expected, threads)
    return np.array(expected)


@quick
@given(seeds, sizes, sizes, st.integers(1, 64), st.integers(0, 15), st.integers(0, 49))
def test_layer_norm(seed, h, w, channels, bits, epsilon_bits):
    rng = np.random.default_rng(seed)
    top = (1 << bits) - 1
    check_norm(integers(rng, -top, top, (h, w, channels)), int(rng.integers(1 << epsilon_bits, 2 << epsilon_bits)))


@pytest.mark.parametrize("channels", [2, 8, 32, 64])
def test_layer_norm_of_constants_and_extremes(channels):
    constant = np.stack([np.full((1, channels), v) for v in (0, 1, -1, MAX, -MAX)], axis=1)
    for epsilon in (1, 2**50 - 1):
        assert not check_norm(constant, epsilon).any()
    one = np.zeros((1, 1, channels), np.int64)
    one[..., 0] = MAX
    halves = np.where(np.arange(channels) < channels // 2, MAX, -MAX)[None, None]
    single = np.full((1, 1, channels), -MAX)
    single[..., -1] = MAX
    step = np.zeros((1, 1, channels), np.int64)
    step[..., 0] = 1
    for x in (one, -one, halves, -halves, single, -single, step, -step):
        for epsilon in (1, 12345, 2**50 - 1):
            result = check_norm(x, epsilon)
            assert np.abs(result).max() <= np.sqrt(channels) * 1024 + 1


def test_layer_norm_of_128_channels_within_its_bound():
    """(2 * 128 * x)^2 * 128 < 2^52 allows |x| <= 23170."""
    for pattern in (np.arange(128) % 2, np.arange(128) < 64, np.arange(128) < 1):
        check_norm(np.where(pattern, 23170, -23170)[None, None], 2**50 - 1)


def test_layer_norm_lifts_at_every_power_of_two():
    x = np.zeros((1, 1, 2), np.int64)
    for bits in range(50):
        for epsilon in {max(1, 2**bits - 1), 2**bits, min(2**bits + 1, 2**50 - 1)}:
            x[...] = [min(2 ** (bits // 2), MAX), 0]
            check_norm(x, epsilon)


@pytest.mark.parametrize("channels", [*range(1, 129)])
def test_norm_gain_is_the_nearest_integer(channels):
    g = SPEC.norm_gain(channels)
    assert numpy_ops.norm_gain(channels) == g
    assert (2 * g - 1) ** 2 <= 4 * (channels << 36) < (2 * g + 1) ** 2


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_layer_norm(threads):
    check_norm(integers(np.random.default_rng(7), -MAX, MAX, (9, 40, 32)), 77, threads)


# ----------------------------------------------------------------------------------- exponential and softmax (5.7)

EXP2 = TABLE_LISTS["exp2"]


def test_exponential():
    edges = (0, *(n << 16 for n in range(42)), 2**22, 2**30, 2**40, 255 << 8, 256)
    t = sorted(
        {min(max(k + d, 0), 2**41) for k in edges for d in (-257, -256, -1, 0, 1, 127, 128, 255, 256, 32768)}
        | set(range(0, 70000, 17))
    )
    expected = [SPEC.exp2_negative(v, EXP2) for v in t]
    assert numpy_ops.exp2_negative(np.array(t), TABLES.exp2).tolist() == expected
    assert numba_attention.exponentials(np.array(t), TABLES.exp2).tolist() == expected
    assert expected[0] == 2**24 and expected == sorted(expected, reverse=True) and expected[-1] == 0


def check_query_weights(queries, heads, shift):
    """Compare softmax over channels with SPEC."""
    d = queries.shape[1] // heads
    logits = (queries << shift).reshape(queries.shape[0], heads, d).tolist()
    expected = [[w for part in row for w in SPEC.softmax_weights(part, EXP2)] for row in logits]
    queries = queries.astype(np.int16)
    assert numpy_ops.query_weights(queries, heads, shift, TABLES.exp2).tolist() == expected
    return expected


@quick
@given(seeds, st.integers(1, 6), st.integers(1, 3), st.integers(1, 17), st.integers(0, 16), st.integers(0, 15))
def test_softmax_over_channels(seed, rows, heads, d, shift, bits):
    top = (1 << bits) - 1
    check_query_weights(integers(np.random.default_rng(seed), -top, top, (rows, heads * d)), heads, shift)


def test_softmax_of_ties_and_of_large_differences():
    for d in (1, 2, 3, 16, 32):
        weights = check_query_weights(np.full((1, d), -MAX), 1, 16)
        assert len(set(weights[0])) == 1
        x = np.full((2, d), -MAX)
        x[0, d // 2] = MAX
        assert check_query_weights(x, 1, 16)[0][d // 2] == 65536


def test_softmax_ignores_marked_logits():
    weights = SPEC.softmax_weights([None, None, -(10**9), None], EXP2)
    assert weights == [0, 0, 65536, 0]
    marked = np.array([-(1 << 40), -(1 << 40), -(10**9), -(1 << 40)])
    assert numpy_ops.softmax_weights(marked, TABLES.exp2).tolist() == weights


# ------------------------------------------------------------------------------------------- local attention (5.8)


def check_local(qkv, heads, shift, bias, limit, threads=1):
    """Compare both backends with SPEC on values [h, w, 3 C]."""
    layer = LocalAttention("layer", shift, bias.astype(np.int32), heads, 0, limit)
    arrays = {"constants": [shift], "bias": bias.tolist(), "limit": limit}
    expected = SPEC.local_attention(qkv.tolist(), {**PLAIN, "heads": heads}, arrays, TABLE_LISTS)
    three_ways(layer, "local_attention", (qkv,), expected, threads)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(
    seeds,
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 30),
    st.integers(1, 15),
    clamps,
)
def test_local_attention(seed, h, half, heads, d, shift, bits, limit):
    rng = np.random.default_rng(seed)
    top = (1 << bits) - 1
    bias = integers(rng, -(2**18), 2**18, (81, heads))
    check_local(integers(rng, -top, top, (h, 2 * half, 3 * heads * d)), heads, shift, bias, limit)


@pytest.mark.parametrize(("h", "w"), [(1, 2), (1, 4), (2, 2), (3, 2), (4, 4), (6, 6)])
def test_local_attention_at_every_border(h, w):
    """(1, 2): an anchor's row sees one key only, all others are masked."""
    rng = np.random.default_rng(h * 10 + w)
    qkv = integers(rng, -3000, 3000, (h, w, 12))
    check_local(qkv, 2, 6, integers(rng, -(2**17), 2**17, (81, 2)), MAX)


@pytest.mark.parametrize("half", [7, 8, 9, 16, 17])
@pytest.mark.parametrize("d", [1, 15, 16, 17, 33])
def test_local_attention_of_many_windows_and_elements(half, d):
    """Windows go by eight, elements by sixteen; one head's follow another's."""
    rng = np.random.default_rng(half * 100 + d)
    qkv = integers(rng, -1500, 1500, (2, 2 * half, 6 * d))
    check_local(qkv, 2, 7, integers(rng, -(2**17), 2**17, (81, 2)), MAX)


def test_local_attention_of_a_row_that_numpy_cuts():
    rng = np.random.default_rng(9)
    assert bands.BAND // (2 * 625) < 230
    check_local(integers(rng, -1500, 1500, (1, 460, 3)), 1, 7, integers(rng, -(2**17), 2**17, (81, 1)), MAX)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("shift", "last", "bias", "narrow"),
    [(10, 32256, 2**17, True), (10, 32257, 2**17, False), (2, 32766, 0, True), (2, 32766, 1, False)],
)
def test_local_attention_beside_the_largest_sums_of_its_kernel(sign, shift, last, bias, narrow):
    """2^31 - 1 less the half, and logits of 2^29 - 1, are the largest that the kernel takes; NumPy takes more."""
    qkv = np.zeros((4, 18, 12), np.int64)
    qkv[..., :4], qkv[..., 4:8] = [MAX, MAX, 3, 1], [sign * MAX, sign * MAX, sign * MAX, sign * last]
    qkv[::2, 1::2, :4] *= -1
    qkv[..., 8:] = np.arange(4 * 18 * 4).reshape(4, 18, 4) * 110 - 15000
    table = np.full((81, 1), bias)
    table[::2] *= -1
    layer = LocalAttention("layer", shift, table.astype(np.int32), 1, 0, MAX)
    assert local_attention.is_narrow(as_map(make_engine(layer, "numba"), qkv), layer) == narrow
    check_local(qkv, 1, shift, table, MAX)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("bias", [-(2**31), 2**31 - 1])
def test_local_attention_with_the_largest_logits(sign, bias):
    """32767^2 * 8 + 2^31 is below 2^38: far logits must not reach the masked ones."""
    qkv = np.full((2, 4, 48), MAX)
    qkv[..., 16:32] *= sign
    qkv[0, 1::2, :16] *= -1
    table = np.full((81, 2), bias)
    table[::2] = -bias - 1
    check_local(qkv, 2, 0, table, MAX)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    seeds,
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 30),
    st.sampled_from([-(2**31), -(2**30), 2**30, 2**31 - 1]),
)
def test_local_attention_near_ties_with_the_largest_biases(seed, h, half, shift, end):
    """Product, 1/2 and bias together need up to 61 bits, a float64 has 53: the floor comes before the bias."""
    rng = np.random.default_rng(seed)
    qkv = integers(rng, -MAX, MAX, (h, 2 * half, 6))
    for place in np.ndindex(h, 2 * half):
        qkv[place][:4] = np.concatenate(near_tie(shift, int(rng.choice([-300, -1, 0, 1, 2, 3, 300]))))
    check_local(qkv, 1, shift, end - np.sign(end) * integers(rng, 0, 4095, (81, 1)), MAX)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_local_attention(threads):
    rng = np.random.default_rng(8)
    check_local(integers(rng, -500, 500, (7, 4, 6)), 1, 2, integers(rng, -(2**16), 2**16, (81, 1)), MAX, threads)


def test_relative_rows_are_query_minus_key():
    for a in range(25):
        for b in range(25):
            assert numpy_ops.RELATIVE[a, b] == (a // 5 - b // 5 + 4) * 9 + a % 5 - b % 5 + 4


# ------------------------------------------------------------------------------------------ linear attention (5.9)


def check_linear(q, k, v, heads, shifts, limit, intra=False):
    """Compare both backends with SPEC on values [h, w, C]; intra restricts keys and results to halves."""
    key_shift, query_shift, context_shift = shifts
    layer = LinearAttention("layer", key_shift, query_shift, context_shift, heads, 0, limit)
    op = {**PLAIN, "heads": heads, "channels": q.shape[2], "split": intra}
    arrays = {"constants": list(shifts), "limit": limit}
    expected = SPEC.global_attention([q.tolist(), k.tolist(), v.tolist()], op, arrays, TABLE_LISTS)
    halves = {"keys_at": checkerboard.ANCHOR, "queries_at": checkerboard.NONANCHOR} if intra else {}
    three_ways(layer, "linear_attention", (q, k, v), expected, **halves)
    return np.array(expected)


@quick
@given(
    seeds,
    sizes,
    sizes,
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 16),
    st.integers(0, 16),
    st.integers(0, 12),
    clamps,
    st.integers(1, 15),
    st.booleans(),
)
def test_linear_attention(seed, h, half, heads, d, key_shift, query_shift, context_shift, limit, bits, intra):
    rng = np.random.default_rng(seed)
    top = (1 << bits) - 1
    q, k, v = (integers(rng, -top, top, (h, 2 * half, heads * d)) for _ in range(3))
    check_linear(q, k, v, heads, (key_shift, query_shift, context_shift), limit, intra)


def test_linear_attention_with_one_position():
    for value in (-MAX, -1, 0, 1, MAX):
        x = np.full((1, 1, 2), value)
        assert check_linear(x, x, x, 1, (16, 16, 0), MAX).reshape(-1).tolist() == [value, value]


@pytest.mark.parametrize(("h", "w"), [(2, 4096), (1, 8193), (3, 5500)])
def test_linear_attention_beyond_one_block_of_sums(h, w):
    rng = np.random.default_rng(w)
    q, k, v = (integers(rng, -MAX, MAX, (h, w, 2)) for _ in range(3))
    check_linear(q, k // 256, v, 1, (5, 4, 3), MAX)


@pytest.mark.parametrize("sign", [-1, 1])
def test_linear_attention_with_the_largest_sums(sign):
    """Equal keys: every exponential is 2^24, so each block sums to its bound of 2^24 * 32767 * 2^13."""
    q = np.zeros((2, 8200, 2), np.int64)
    result = check_linear(q, q, np.full_like(q, sign * MAX), 1, (16, 16, 12), MAX)
    assert (result == sign * MAX).all()  # the context clamps at +-32767


def test_linear_attention_rounds_its_quotients_half_up():
    q, k = np.zeros((1, 2, 1), np.int64), np.zeros((1, 2, 1), np.int64)
    for pair, expected in (((1, 2), 2), ((-1, -2), -1), ((0, 1), 1), ((0, -1), 0)):
        result = check_linear(q, k, np.array(pair)[None, :, None], 1, (0, 0, 0), MAX)
        assert (result == expected).all()


# ------------------------------------------------------------------------- checkerboard, parameters, symbols (6)


@quick
@given(seeds, sizes, sizes, st.sampled_from([0, 1]))
def test_checkerboard(seed, h, half, parity):
    x = integers(np.random.default_rng(seed), -MAX, MAX, (h, 2 * half, 2)).astype(np.int16)
    packed = checkerboard.take(x, parity)
    assert packed.dtype == np.int16 and packed.tolist() == SPEC.take_half(x.tolist(), parity)
    lists = np.zeros_like(x).tolist()
    SPEC.put_half(lists, parity, packed.tolist())
    out = np.zeros_like(x)
    checkerboard.put(out, parity, packed)
    assert out.tolist() == lists
    engine = make_engine(None, "numpy")
    assert checked(engine.masked(as_map(engine, x), parity)) == SPEC.masked(x.tolist(), parity) == lists


def any_conv(rng, outputs, kernel, inputs, frac=8, join=False):
    """A convolution whose sums fit int32 for any input: products below 2^15 * 2^6 * kernel^2 * inputs."""
    return Conv(
        "layer",
        integers(rng, -63, 63, (outputs, kernel, kernel, inputs)).astype(np.int16),
        integers(rng, -9999, 9999, (outputs,)).astype(np.int32),
        np.full(outputs, 9, np.int32),
        frac,
        MAX,
        np.full(outputs, 3, np.int32) if join else None,
    )


@quick
@given(seeds, sizes, sizes, st.sampled_from([0, 1]))
def test_halves_of_maps_and_of_convolutions(seed, h, half, parity):
    """Halves are taken into a range of channels; those of a convolution are halves of the whole, traced or not."""
    rng = np.random.default_rng(seed)
    x = integers(rng, -MAX, MAX, (h, 2 * half, 3))
    branch = integers(rng, -MAX, MAX, (h, 2 * half, 4))
    layer = any_conv(rng, 4, 3, 3, join=True)
    for backend in BACKENDS:
        engine = make_engine(layer, backend)
        wide = engine.map(h, half, 9)
        wide[...] = 7
        engine.half(as_map(engine, x), parity, wide[:, :, 4:7])
        assert interior(wide)[:, :, 4:7].tolist() == SPEC.take_half(x.tolist(), parity)
        assert (wide[:, :, :4] == 7).all() and (wide[:, :, 7:] == 7).all()
        whole = engine.conv("layer", as_map(engine, x), add=as_map(engine, branch))
        expected = SPEC.take_half(interior(whole).tolist(), parity)
        for engine.trace in (None, lambda name, values: None):
            out = engine.map(h, half, 9)
            out[...] = 7
            engine.conv_halves("layer", as_map(engine, x), {parity: out[:, :, 2:6]}, add=as_map(engine, branch))
            assert interior(out)[:, :, 2:6].tolist() == expected
            assert (out[:, :, :2] == 7).all() and (out[:, :, 6:] == 7).all()


@quick
@given(seeds, sizes, sizes, st.sampled_from([0, 1]), st.integers(0, 4), st.integers(1, MAX))
def test_steps_of_the_walk_fused_and_one_by_one(seed, h, half, parity, shift, limit):
    """Placing symbols and adding residuals: the backends' own and the composition that a trace sees are the same."""
    rng = np.random.default_rng(seed)
    symbols = integers(rng, -600, 600, (h, half, 2)).astype(np.int32)
    means, residual = (integers(rng, -MAX, MAX, (h, half, 2)) for _ in range(2))
    start = integers(rng, -MAX, MAX, (h, 2 * half, 2))
    found = []
    for backend in BACKENDS:
        for trace in (None, lambda name, values: None):
            engine = make_engine(None, backend)
            engine.layers = {"copy": Rescale("copy", shift, 6, limit), "last": any_conv(rng, 2, 1, 1, frac=9)}
            engine.trace = trace
            y_hat, current = as_map(engine, start), engine.map(h, 2 * half, 2)
            engine.rescale("copy", y_hat, out=current)
            engine.place("copy", symbols, means.astype(np.int32), parity, y_hat, current)
            engine.add_residual("copy", "last", as_map(engine, residual), parity, y_hat, current)
            assert (interior(y_hat) != start).any(axis=2).sum() <= h * half
            found.append((interior(y_hat).tolist(), interior(current).tolist()))
    assert all(f == found[0] for f in found)
    expected = SPEC.reconstruct(symbols.tolist(), means.tolist())
    bend = [[[SPEC.half_tanh(v, TABLES.half_tanh[9].tolist()) for v in p] for p in row] for row in residual.tolist()]
    assert SPEC.take_half(found[0][0], parity) == SPEC.refine(expected, bend)
    assert found[0][1] == SPEC.rescale(found[0][0], {"constants": [shift], "limit": limit})


def test_scale_levels_at_every_threshold():
    thresholds = TABLES.thresholds.astype(np.int64)
    scales = np.concatenate([thresholds - 1, thresholds, thresholds + 1, [-INT32_MAX - 1, -1, 0, INT32_MAX]])
    means = np.resize([-INT32_MAX - 1, -MAX - 1, -MAX, 0, MAX, MAX + 1, INT32_MAX], scales.size)
    parameters = np.zeros((5, 5, 2 * scales.size), np.int32)
    parameters[2, 2] = np.concatenate([scales, means])
    expected = SPEC.split_parameters(interior(parameters).tolist(), TABLE_LISTS)
    for backend in BACKENDS:
        levels, split_means = make_engine(None, backend).levels_and_means(parameters)
        assert (levels.dtype, split_means.dtype) == (np.int32, np.int32)
        assert (levels.tolist(), split_means.tolist()) == expected
    assert levels.min() == 0 and levels.max() == 127


@quick
@given(seeds, sizes, sizes)
def test_symbols_and_their_reconstruction(seed, h, w):
    rng = np.random.default_rng(seed)
    y, means, symbols = (integers(rng, -MAX, MAX, (h, w, 2)).astype(t) for t in (np.int16, np.int32, np.int32))
    residual = integers(rng, -32, 32, (h, w, 2))
    chosen = Engine.symbols(y, means)
    assert chosen.dtype == np.int32 and chosen.tolist() == SPEC.nearest_symbols(y.tolist(), means.tolist())
    assert Engine.reconstruct(symbols, means).tolist() == SPEC.reconstruct(symbols.tolist(), means.tolist())
    assert Engine.refine(y, residual).tolist() == SPEC.refine(y.tolist(), residual.tolist())
    near = Engine.reconstruct(chosen, means).astype(np.int64) - y
    assert np.abs(near).max() <= 32  # half a step, saturated or not


def test_symbols_take_ties_up():
    y = np.array([[[-96, -33, -32, -31, 31, 32, 33, 96]]], np.int16)
    assert Engine.symbols(y, np.zeros_like(y, np.int32)).tolist() == [[[-1, -1, 0, 0, 0, 1, 1, 2]]]
