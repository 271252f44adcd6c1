"""The convolution by tiles against NumPy: random layers; inputs, weights and sums at the ends of what is allowed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refcodec.arith.engine import Engine
from refcodec.arith.jit.backend import pack
from refcodec.arith.jit.conv import Packed
from refcodec.arith.jit.kernels.words import WINOGRAD
from refcodec.arith.jit.winograd import Tiles, transformed
from refcodec.arith.maps import interior
from refcodec.model.layers import Conv, Sum
from refcodec.model.tables import load_tables

TABLES = load_tables()
MAX, LARGEST, SUM_MAX = 32767, 8191, (1 << 29) - 1
quick = settings(derandomize=True, deadline=None, max_examples=60)


def as_map(engine, values):
    out = engine.map(*values.shape)
    out[...] = -21846
    out[:2] = out[-2:] = out[:, :2] = out[:, -2:] = 0
    interior(out)[...] = values
    return out


def made(weight, bias=0, shift=0, limit=0, **more):
    """A layer; results are whole accumulators without a limit."""
    count = weight.shape[0]
    bias = np.broadcast_to(np.asarray(bias, np.int32), count).copy()
    return Conv("conv", weight.astype(np.int16), bias, np.full(count, shift, np.int32), 8, limit, **more)


def check(layer, x, branch=None, threads=(1, 2, 3)):
    """Compare with NumPy; the layer is one that tiles serve."""
    assert isinstance(pack(layer)._tiles, Tiles)
    expected = None
    for backend, counts in (("numpy", (1,)), ("numba", threads)):
        for count in counts:
            engine = Engine({"conv": layer}, TABLES, 0, count, backend)
            add = None if branch is None else as_map(engine, branch)
            out = engine.conv("conv", as_map(engine, x), add=add)
            frame = out.copy()
            interior(frame)[...] = 0
            assert not frame.any()
            expected = interior(out).copy() if expected is None else expected
            np.testing.assert_array_equal(interior(out), expected)
    return expected


def spread(rng, largest, shape):
    """Random integers, their extremes often."""
    values, at = rng.integers(-largest, largest, shape, endpoint=True), rng.random(shape)
    return np.where(at < 0.2, largest, np.where(at > 0.8, -largest, values))


def test_the_identity():
    """A^T [(2 G) g (2 G)^T * (B^T d B)] A is four times the convolution."""
    rng = np.random.default_rng(1)
    g, d = rng.integers(-MAX, MAX, (5, 3, 3, 7)).astype(np.int16), rng.integers(-MAX, MAX, (4, 4, 7))
    left = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    last = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
    taps = np.moveaxis(transformed(g.transpose(1, 2, 0, 3)), 2, 0)
    places = (taps.astype(np.int64) * np.einsum("ai,ijc,bj->abc", left, d, left)).sum(axis=3)
    direct = [[(g.astype(np.int64) * d[y : y + 3, x : x + 3]).sum(axis=(1, 2, 3)) for x in (0, 1)] for y in (0, 1)]
    np.testing.assert_array_equal(np.einsum("ai,oij,bj->abo", last, places, last), 4 * np.array(direct))


@quick
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 60),
    st.sampled_from([32, 34, 48, 64, 96]),
    st.integers(1, 70),
    st.sampled_from([50, 2000, LARGEST, LARGEST + 1, 16383, MAX]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_random_layers(seed, height, width, inputs, outputs, largest, gelu, add, shuffle):
    rng = np.random.default_rng(seed)
    outputs = 4 * -(-outputs // 4) if shuffle else outputs
    weight = spread(rng, (2**31 - 2**29) // (9 * inputs * largest) or 1, (outputs, 3, 3, inputs)).clip(-MAX, MAX)
    while np.abs(transformed(weight.transpose(1, 2, 0, 3))).max() > MAX:
        weight //= 2
    add_shift = rng.integers(0, 10, outputs, np.int32) if add else None
    layer = made(
        weight,
        rng.integers(-(2**27), 2**27, outputs),
        12,
        4095,
        gelu=TABLES.gelu[8] if gelu else None,
        add_shift=add_shift,
        shuffle=shuffle,
    )
    shape = (2 * height, 2 * width, outputs // 4) if shuffle else (height, width, outputs)
    branch = spread(rng, MAX, shape) if add else None
    check(layer, spread(rng, largest, (height, width, inputs)), branch)


@pytest.mark.parametrize("largest", [LARGEST, LARGEST + 1, 16383, 16384, MAX])
@pytest.mark.parametrize("rows", [(1, 1, 1, 1), (1, -1, -1, 1), (1, 1, -1, -1), (-1, 1, 1, -1), (1, -1, 1, -1)])
def test_largest_transformed_inputs(largest, rows):
    """Tiles of which every sum of four inputs is as large as can be, with both signs."""
    sign = np.tile(rows, 5)[:17, None] * np.tile(rows, 13)[:51]
    x = largest * np.repeat(sign[:, :, None], 32, 2)
    weight = np.zeros((17, 3, 3, 32), np.int64)
    weight[:, :, :, ::2] = 60
    weight[:8, 1] = -70
    check(made(weight), x)
    check(made(weight), -x)


@pytest.mark.parametrize("top", [8191, 8192, 32767])
def test_weights_that_just_fit_and_do_not(top):
    """A corner's weight counts four times, so 8191 becomes 32764 and 8192 the first that is no int16."""
    weight = np.zeros((3, 3, 3, 32), np.int64)
    weight[0, 0, 0, 3], weight[1, 2, 2, 3], weight[2, 1, 1, 7] = top, -top, top
    layer = made(weight)
    assert pack(layer)._tiles._words[WINOGRAD.n_copied] == (0 if top == 8191 else 4 if top == 32767 else 2)
    x = spread(np.random.default_rng(2), 8191, (5, 9, 32))
    check(layer, x)


@pytest.mark.parametrize(("value", "exact"), [(3640, 32760), (3641, 32769)])
def test_sums_of_nine_weights(value, exact):
    weight = np.full((16, 3, 3, 32), value)
    assert transformed(weight.transpose(1, 2, 0, 3)).max() == exact
    layer = made(weight)
    if exact > MAX:  # every input would be needed twice
        assert pack(layer)._tiles is None
    else:
        check(layer, np.full((4, 6, 32), 2))
        check(layer, np.full((4, 6, 32), -2040))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("over", [-1, 0, 1, 2])
def test_sums_at_the_bound(sign, over):
    """Sums of 2^29 - 2 to 2^29 + 1, and of their negatives, in a layer whose weights are all of one sign."""
    x, weight = np.zeros((6, 50, 32), np.int64), np.zeros((5, 3, 3, 32), np.int64)
    x[2:5, 20:23, :10] = 8191
    weight[:, :, :, :10] = sign * 728
    total = 9 * 10 * 8191 * 728
    bias = sign * (SUM_MAX + over - total)
    found = check(made(weight, bias), x)
    assert sign * int(found[3, 21, 0]) == SUM_MAX + over


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_accumulators(sign):
    """Sums of 2^31 - 1 and its negative, bias and all, from inputs in two parts."""
    weight = np.full((16, 3, 3, 32), sign * 227)
    total = 9 * 32 * 227 * 32767
    check(made(weight, sign * (2**31 - 1 - total)), np.full((5, 7, 32), 32767))
    check(made(weight, -sign * (2**31 - 1)), np.full((5, 7, 32), 32767))


@pytest.mark.parametrize("bias", [2**31 - 1, 2**29, 2**29 - 1, -(2**29) + 1, -(2**31) + 1])
def test_small_weights_and_a_large_bias(bias):
    weight = spread(np.random.default_rng(5), 3, (16, 3, 3, 32))
    check(made(np.minimum(weight, 0) if bias > 0 else np.maximum(weight, 0), bias), np.full((5, 7, 32), 200))


def test_a_layer_that_is_also_computed_by_halves():
    rng = np.random.default_rng(3)
    layer = made(spread(rng, 20, (36, 3, 3, 32)), 5, 6, 4095)
    x = spread(rng, 4095, (6, 12, 32))
    results = []
    for backend in ("numpy", "numba"):
        engine = Engine({"conv": layer}, TABLES, 0, 2, backend)
        source = as_map(engine, x)
        whole = engine.conv("conv", source)
        one = engine.conv("conv", source, parity=1)
        both = {p: engine.map(6, 6, 36) for p in (0, 1)}
        engine.conv_halves("conv", source, both)
        results.append([interior(whole).copy(), interior(one).copy(), *(interior(b).copy() for b in both.values())])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(results[0][1], results[0][3])


@pytest.mark.parametrize("width", [1, 2, 5, 48, 49])
def test_a_residual_sum_and_views(width):
    """A map that is a view on some channels of another, and a result that is one."""
    rng = np.random.default_rng(4)
    layer = made(spread(rng, 20, (40, 3, 3, 64)), 5, 6, 4095)
    x, skip = spread(rng, 9000, (7, width, 96)), spread(rng, 4095, (7, width, 40))
    results = []
    for backend in ("numpy", "numba"):
        engine = Engine({"conv": layer, "sum": Sum("sum", 3, 1, 2, 8, 2000)}, TABLES, 0, 2, backend)
        out = engine.map(7, width, 56)
        engine.conv_sum("conv", as_map(engine, x)[:, :, 32:], "sum", as_map(engine, skip), out[:, :, 16:])
        results.append(interior(out)[:, :, 16:].copy())
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("shape", "more"),
    [((16, 3, 3, 30), {}), ((16, 3, 3, 33), {}), ((16, 5, 5, 32), {}), ((16, 3, 3, 32), {"stride": 2})],
)
def test_what_tiles_do_not_serve(shape, more):
    assert pack(made(np.ones(shape), **more))._tiles is None


def test_depthwise_layers_have_no_tiles():
    assert not hasattr(pack(made(np.ones((32, 3, 3, 1)), depthwise=True)), "_tiles")


@quick
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([60, 8191, MAX]),
    st.booleans(),
)
def test_released_weights_are_made_again(seed, outputs, inputs, kernel, largest, shuffle):
    """From tiles, with inputs that are copied, and from the order of the direct kernel."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-20, 20, (4 * outputs if shuffle else outputs, kernel, kernel, inputs))
    weight[tuple(rng.integers(n) for n in weight.shape)] = largest
    weight = weight.astype(np.int16)
    layer = made(weight.copy(), shuffle=shuffle)
    packed = pack(layer)
    assert "weight" not in vars(layer) and layer.shape == weight.shape and layer.kernel == kernel
    np.testing.assert_array_equal(layer.weight, weight)
    assert not layer.weight.flags.writeable and pack(layer) is packed
    np.testing.assert_array_equal(packed._direct(), type(packed)(layer)._direct())


def test_threads_that_pack_at_once_pack_the_same():
    """Memory that a kernel reads is held until it returns, whatever other threads allocate meanwhile."""
    rng = np.random.default_rng(4)
    layers = [made(rng.integers(-90, 90, (40, 3, 3, 34))) for _ in range(12)]
    expected = [layer.weight.copy() for layer in layers]

    def work(_: int) -> bool:
        packed = [Packed(layer) for layer in layers for _ in range(5)]
        return all(np.array_equal(p.stored(), expected[n // 5]) for n, p in enumerate(packed))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
