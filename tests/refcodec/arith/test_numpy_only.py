"""The optimisations of the NumPy backend change no integer: bands, blocks, threads, tables, floors of float64
quotients.
"""

import tracemalloc
import warnings
from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import one_in
from spec import spec_module

from refcodec.arith import backend, numpy_ops
from refcodec.arith.engine import Engine
from refcodec.arith.maps import BORDER, interior
from refcodec.arith.numpy_ops import attention, bands, convolution, exact, normalisation
from refcodec.model.layers import Conv, Gdn, LinearAttention, LocalAttention, Norm, Sum
from refcodec.model.tables import load_tables

SPEC = spec_module()
TABLES = load_tables()
MAX = 32767
quick = settings(derandomize=True, deadline=None, max_examples=60)


def random_map(rng, h, w, c, top=4095):
    """A map of random integers in -top..top."""
    x = np.zeros((h + 2 * BORDER, w + 2 * BORDER, c), np.int16)
    interior(x)[...] = rng.integers(-top, top, (h, w, c), endpoint=True)
    return x


def random_conv(rng, kernel, ci, co, **more):
    """A layer whose accumulator fits int32 for inputs up to 4095."""
    largest = min(MAX, (1 << 30) // (4095 * kernel * kernel * ci))
    shape = (co, kernel, kernel, 1 if more.get("depthwise") else ci)
    weight = rng.integers(-largest, largest, shape, np.int16, endpoint=True)
    return Conv(
        "layer", weight, rng.integers(-(2**20), 2**20, co, np.int32), rng.integers(8, 20, co, np.int32), 8, 4095, **more
    )


def direct(x, layer):
    """The convolution tap by tap on int64, every position; no GELU, branch or shuffle."""
    k, s = layer.kernel, layer.stride
    h, w = (-(-n // s) for n in interior(x).shape[:2])
    total = np.tile(layer.bias.astype(np.int64), (h, w, 1))
    for ky in range(k):
        for kx in range(k):
            y, z = BORDER - k // 2 + ky, BORDER - k // 2 + kx
            tap = x[y : y + s * (h - 1) + 1 : s, z : z + s * (w - 1) + 1 : s].astype(np.int64)
            weight = layer.weight[:, ky, kx].astype(np.int64)
            total += tap * weight[:, 0] if layer.depthwise else tap @ weight.T
    return np.clip(total >> layer.shift, -layer.limit, layer.limit)


def convolved(x, layer, threads=1):
    """The interior of ``numpy_ops.conv``."""
    h, w = (-(-n // layer.stride) for n in interior(x).shape[:2])
    out = np.zeros((h + 2 * BORDER, w + 2 * BORDER, layer.weight.shape[0]), np.int16)
    numpy_ops.conv(x, layer, out, None, -1, threads)
    return interior(out)


# ------------------------------------------------------------------------------------------ rounding in float64


@quick
@given(st.integers(-(2**52) + 1, 2**52 - 1), st.integers(0, 52))
def test_shifts_of_floats_are_exact(a, s):
    assert int(exact.shifted(np.array([a], np.float64), s)[0]) == SPEC.round_shift(a, s)


@pytest.mark.parametrize("s", [0, 1, 2, 23, 51, 52])
def test_shifts_of_floats_at_ties_and_at_the_bound(s):
    values = {(k << s) + ((1 << s) >> 1) + d for k in (-2, -1, 0, 1) for d in (-1, 0, 1)} | {2**52 - 1, 1 - 2**52}
    values = sorted(v for v in values if abs(v) < 2**52)
    found = exact.shifted(np.array(values, np.float64), s)
    assert found.tolist() == [SPEC.round_shift(v, s) for v in values]


@quick
@given(st.integers(1, 2**44), st.integers(-(2**52), 2**52), st.integers(-2, 2))
def test_quotients_of_floats_are_exact_floors(b, near, d):
    a = near // b * b + d  # about a multiple of b, where rounding could pass an integer
    if abs(a) + b >= 2**53:
        a = d
    assert int(exact.quotient(np.array([a], np.float64), np.array([b], np.float64))[0]) == a // b


def test_quotients_of_floats_up_to_the_bound():
    b = np.array([1, 2, 3, 2**26 - 1, 2**26, 2**26 + 1, 94906265, 2**33 + 1], np.int64)
    for sign in (-1, 1):
        for off in (-1, 0, 1):
            a = sign * ((2**53 - 2 * b) // b * b) + off
            found = exact.quotient(a.astype(np.float64), b.astype(np.float64))
            assert found.astype(np.int64).tolist() == (a // b).tolist()


def test_exponentials_in_float64_are_those_of_the_table():
    t = np.concatenate([np.arange(0, 1 << 18, 7), np.arange(0, 41 << 16, 4099), [attention._NEVER, 2**41]])
    n, i, j = np.minimum(t >> 16, 40), (t >> 8) & 255, t & 255
    table = TABLES.exp2.astype(np.int64)
    expected = numpy_ops.round_shift(table[i] * (256 - j) + table[i + 1] * j, n + 8)
    found = numpy_ops.exp2_negative(t, TABLES.exp2)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(attention._exp2(t.astype(np.float64), TABLES.exp2), expected)


# ------------------------------------------------------------------------------------------------ convolutions


@pytest.mark.parametrize("limit", [1, 60, 4095, MAX])
@pytest.mark.parametrize("frac", [4, 8, 12])
def test_the_table_of_an_activation_holds_every_result(frac, limit):
    layer = Conv(
        "layer",
        np.zeros((1, 1, 1, 2), np.int16),
        np.zeros(1, np.int32),
        np.zeros(1, np.int32),
        frac,
        limit,
        gelu=TABLES.gelu[frac],
    )
    v = np.concatenate([np.arange(-70000, 70000), [-(2**32), -(2**31), 2**31, 2**32]])
    expected = np.clip(convolution.gelu(v, TABLES.gelu[frac]), -limit, limit)
    for fraction in (0.0, 0.5, 1 - 2.0**-20):  # what a shift leaves of a sum is cut off
        sums = (v + fraction + convolution._pack(layer).zero)[None, :, None]
        np.testing.assert_array_equal(convolution._finish(sums, layer)[0, :, 0], expected)


@pytest.mark.parametrize(("kernel", "ci", "co"), [(1, 6, 12), (1, 1200, 70), (3, 66, 33), (3, 200, 8), (5, 24, 130)])
@pytest.mark.parametrize("variant", [{}, {"stride": 2}])
def test_blocks_of_inputs_and_outputs(kernel, ci, co, variant):
    rng = np.random.default_rng(ci)
    layer, x = random_conv(rng, kernel, ci, co, **variant), random_map(rng, 13, 22, ci)
    blocks = convolution._pack(layer).blocks
    assert sum(b.shape[3] for b in blocks) == kernel * kernel * ci and blocks[0].shape[0] * blocks[0].shape[4] >= co
    assert all(b.shape[3] <= 576 and b.shape[4] <= 32 for b in blocks)
    np.testing.assert_array_equal(convolved(x, layer), direct(x, layer))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("variant", [{}, {"stride": 2}, {"depthwise": True}])
@pytest.mark.parametrize("band", [1, 3000, 1 << 18])
def test_bands_and_threads_change_no_convolution(band, variant, kernel, monkeypatch):
    if variant.get("depthwise") and kernel != 3:
        return
    rng = np.random.default_rng(kernel)
    layer, x = random_conv(rng, kernel, 8, 8, **variant), random_map(rng, 61, 50, 8)
    expected = direct(x, layer)
    monkeypatch.setattr(bands, "BAND", band)
    for threads in (1, 2, 5, 64):
        np.testing.assert_array_equal(convolved(x, layer, threads), expected)


@pytest.mark.parametrize("size", [1, 40, 1000, 1 << 30])
def test_the_size_of_products_changes_nothing(size, monkeypatch):
    rng = np.random.default_rng(2)
    layer, x = random_conv(rng, 3, 10, 40), random_map(rng, 9, 31, 10)
    expected = direct(x, layer)
    monkeypatch.setattr(bands, "ONE_THREAD", size)
    np.testing.assert_array_equal(convolved(x, layer), expected)


@pytest.mark.parametrize("limit", [1, 100, MAX])
@pytest.mark.parametrize("shifts", [(0, 0, 0), (0, 3, 2), (15, 0, 15), (2, 14, 1)])
@pytest.mark.parametrize("gelu", [None, TABLES.gelu[8]])
def test_a_convolution_with_its_residual_sum_is_both_in_turn(gelu, shifts, limit):
    rng = np.random.default_rng(limit)
    layer = random_conv(rng, 3, 12, 12, gelu=gelu)
    total = Sum("total", *shifts, 0, limit)
    x, skip = random_map(rng, 40, 70, 12), random_map(rng, 40, 70, 12, MAX)
    engine = Engine({"layer": layer, "total": total}, TABLES, 0, 2, "numpy")
    expected = engine.sum("total", skip, engine.conv("layer", x))
    np.testing.assert_array_equal(engine.conv_sum("layer", x, "total", skip), expected)


def test_a_depthwise_sum_may_wrap_on_its_way():
    """Two products of 2^30 - 2^16 and more add up past 2^31, the rest brings the sum back."""
    weight = np.full((2, 3, 3, 1), MAX, np.int16)
    weight[:, 1:] = -MAX
    layer = Conv("layer", weight, np.zeros(2, np.int32), np.zeros(2, np.int32), 8, 0, depthwise=True)
    x = np.zeros((7, 7, 2), np.int16)
    interior(x)[...] = MAX
    interior(x)[2, 0] = 0
    out = np.zeros((7, 7, 2), np.int32)
    numpy_ops.conv(x, layer, out, None, -1)
    assert interior(out)[1, 1].tolist() == [(3 - 5) * MAX * MAX] * 2


# -------------------------------------------------------------------------------------------------- other operations


def run(name, layer, inputs, threads, out_channels=None, halves=False):
    """The interior of the result of one of the module's functions on maps."""
    h, w, c = interior(inputs[0]).shape
    if name == "local_attention":
        out = np.zeros((h + 2 * BORDER, w // 2 + 2 * BORDER, out_channels), np.int16)
        numpy_ops.local_attention(*inputs, layer, TABLES.exp2, out, threads)
    else:
        out = np.zeros((h + 2 * BORDER, w + 2 * BORDER, c), np.int16)
        if name == "linear_attention":
            numpy_ops.linear_attention(*inputs, layer, TABLES.exp2, out, *((1, 0) if halves else (-1, -1)), threads)
        else:
            getattr(numpy_ops, name)(*inputs, layer, out, threads)
    return interior(out)


def operations(rng, h, w):
    """Every operation but convolutions: (name, layer, inputs, more arguments of ``run``)."""
    gdn = Gdn("layer", rng.integers(0, 2**20, (24, 24)), rng.integers(1, 2**40, 24), 20, 8, 4095)
    maps = [random_map(rng, h, w, 24) for _ in range(3)]
    local = LocalAttention("layer", 6, rng.integers(-(2**17), 2**17, (81, 2)).astype(np.int32), 2, 8, 4095)
    linear = LinearAttention("layer", 6, 5, 4, 3, 8, 4095)
    return [
        ("gdn", gdn, maps[:1], {}),
        ("igdn", gdn, maps[:1], {}),
        ("layer_norm", Norm("layer", 99, 10, MAX), maps[:1], {}),
        ("local_attention", local, maps[:1], {"out_channels": 25 * 8}),
        ("linear_attention", linear, maps, {}),
        ("linear_attention", linear, maps, {"halves": True}),
    ]


@pytest.mark.parametrize("n", range(6))
def test_bands_and_threads_change_no_operation(n, monkeypatch):
    name, layer, inputs, more = operations(np.random.default_rng(n), 33, 26)[n]
    expected = run(name, layer, inputs, 1, **more).copy()
    assert np.unique(expected).size > 100
    for band, product in ((1, 1), (20000, 300), (1 << 30, 1 << 30)):
        monkeypatch.setattr(bands, "BAND", band)
        monkeypatch.setattr(bands, "ONE_THREAD", product)
        for threads in (1, 2, 5, 64):
            np.testing.assert_array_equal(run(name, layer, inputs, threads, **more), expected)


@pytest.mark.parametrize("n", range(6))
def test_every_product_is_left_to_one_thread(n, monkeypatch):
    """BLAS shares out larger ones, to threads that then compete with ours."""
    sizes = []

    def matmul(a, b, out=None):
        sizes.append(a.shape[-2] * a.shape[-1] * b.shape[-1])
        return np.matmul(a, b, out=out)

    class Spy:
        def __getattr__(self, name):
            return matmul if name == "matmul" else getattr(np, name)

    rng = np.random.default_rng(n)
    name, layer, inputs, more = operations(rng, 40, 96)[n]
    for module in (attention, bands, convolution, normalisation):
        monkeypatch.setattr(module, "np", Spy())
    run(name, layer, inputs, 1, **more)
    for kernel, ci, co in ((3, 96, 96), (1, 640, 256), (5, 64, 30)):
        convolved(random_map(rng, 8, 96, ci), random_conv(rng, kernel, ci, co))
    assert sizes and max(sizes) <= bands.ONE_THREAD


def test_roots_next_to_squares():
    """Sums of beta alone, r^2 - 1, r^2 and r^2 + 1 up to 2^52: a rounded root must not reach the next integer."""
    r = np.array([1, 2, 3, 1000, 2**13, 2**20 - 1, 2**25, 2**25 + 1, 2**26 - 1], np.int64)
    for d in (-1, 0, 1):
        beta = np.maximum(r * r + d, 1)
        layer = Gdn("layer", np.zeros((9, 9), np.int64), beta, 0, 0, MAX)
        found = normalisation._norm_root(np.ones((1, 1, 9)), layer)[0, 0]
        assert found.tolist() == [isqrt(int(b)) for b in beta]


@pytest.mark.parametrize("n", one_in(6, range(6)))
def test_memory_does_not_grow_with_the_picture(n):
    """Besides maps, which the caller holds, an operation takes bands: no float64 copy of all positions."""
    rng = np.random.default_rng(n)
    peaks = []
    for h in (64, 256):
        name, layer, inputs, more = operations(rng, h, 256)[n]
        run(name, layer, inputs, 1, **more)  # tables are made
        out_bytes = 2 * (h + 4) * 260 * 24 if name != "local_attention" else 2 * (h + 4) * 132 * 200
        tracemalloc.start()
        run(name, layer, inputs, 1, **more)
        peaks.append(tracemalloc.get_traced_memory()[1] - out_bytes)
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 19)  # a float64 copy of the further positions would take 9 MiB


@pytest.mark.parametrize("kernel", [1, 3])
def test_memory_of_a_convolution_does_not_grow_with_the_picture(kernel):
    rng = np.random.default_rng(kernel)
    layer, peaks = random_conv(rng, kernel, 32, 32), []
    for h in (64, 256):
        x = random_map(rng, h, 256, 32)
        out = np.zeros_like(x)
        numpy_ops.conv(x, layer, out, None, -1)
        tracemalloc.start()
        numpy_ops.conv(x, layer, out, None, -1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 16) and peaks[1] < 16 << 20


def test_a_library_of_llvm_that_cannot_be_loaded_means_numpy(monkeypatch):
    """It needs 130 MiB of address space, is built for one kind of processor, and may be damaged."""

    def fail(name, package):
        raise OSError("libllvmlite.so: failed to map segment from shared object")

    monkeypatch.delenv("REFCODEC_BACKEND", raising=False)
    backend._library.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(backend.importlib, "import_module", fail)
        with pytest.warns(RuntimeWarning, match="NumPy computes instead of kernels.*failed to map"):
            assert backend.default_backend() == "numpy"
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it is said once
            assert backend.default_backend() == "numpy"
    backend._library.cache_clear()
