"""The proof of no overflow is tight: inputs exist that attain every bound, and kernels compute them exactly."""

import dataclasses

import numpy as np
import pytest

from refcodec.arith import numpy_ops
from refcodec.arith.jit import backend as numba_backend
from refcodec.arith.maps import BORDER, Pool, interior
from refcodec.errors import InvalidModel
from refcodec.model.layer_table import layer_table
from refcodec.model.layers import Conv, Gdn
from refcodec.model.proof import (
    INT32_MAX,
    Bound,
    accumulator_range,
    bound_table,
    conv_extremes,
    input_groups,
    prove,
    tensor_channels,
    tensor_range,
)
from refcodec.model.registry import load_model

BACKENDS = {"numba": numba_backend, "numpy": numpy_ops}


@pytest.fixture(scope="module")
def model():
    return load_model()


def raw(layer: Conv) -> Conv:
    """The layer without shift, activation and clamp: its result is the accumulator."""
    zeros = np.zeros_like(layer.shift)
    return dataclasses.replace(layer, shift=zeros, limit=0, gelu=None, shuffle=False, stride=1)


def matched(op, layer: Conv, layers, channels, sign: int) -> tuple[int, np.ndarray, int]:
    """The output channel with the extreme accumulator, the window [k, k, Ci] and the branch that attain it."""
    low, high = conv_extremes(op, layer, layers, channels)
    worst = int(np.argmax(high) if sign > 0 else np.argmin(low))
    w = layer.weight[worst].astype(np.int64) * sign
    if op.depthwise:
        lo, hi = tensor_range(op.inputs[0], layers)
        window = np.zeros((*w.shape[:2], op.channels), np.int16)
        window[:, :, worst] = np.where(w > 0, hi, lo)[:, :, 0]
    else:
        ranges = [r for width, r in input_groups(op, layers, channels) for _ in range(width)]
        lo, hi = (np.array([r[n] for r in ranges]) for n in range(2))
        window = np.where(w > 0, hi, lo).astype(np.int16)
    branch = tensor_range(op.add, layers)[1 if sign > 0 else 0] if op.add else 0
    return worst, window, branch


def accumulator(layer: Conv, channel: int, window: np.ndarray, branch: int) -> int:
    """In unbounded integers."""
    w = layer.weight[channel]
    x = window[:, :, channel : channel + 1] if layer.depthwise else window
    total = int(layer.bias[channel]) + sum(int(a) * int(b) for a, b in zip(w.ravel(), x.ravel(), strict=True))
    return total + (branch << int(layer.add_shift[channel]) if layer.add_shift is not None else 0)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("sign", [1, -1], ids=["largest", "smallest"])
def test_every_convolution_of_the_default_model_attains_its_bound(model, backend, sign):
    ops, layers = layer_table(model.config), model.layers
    channels = tensor_channels(ops)
    pool = Pool()
    reached = 0
    for op in ops:
        layer = layers[op.name]
        if not isinstance(layer, Conv):
            continue
        worst, window, branch = matched(op, layer, layers, channels, sign)
        exact = accumulator(layer, worst, window, branch)
        low, high = conv_extremes(op, layer, layers, channels)
        assert exact == int(high[worst] if sign > 0 else low[worst]), op.name
        assert abs(exact) <= INT32_MAX
        k = layer.kernel
        x = pool.map(k, k, window.shape[2] + window.shape[2] % 2)
        interior(x)[...] = 0
        interior(x)[:, :, : window.shape[2]] = window
        bare = raw(layer)
        if op.depthwise:  # the depthwise kernel has no wide result: the top 16 bits say whether it overflowed
            bare = dataclasses.replace(bare, shift=np.full_like(layer.shift, 16), limit=32767)
        out = (
            pool.map(k, k, op.channels)
            if op.depthwise
            else np.zeros((k + 2 * BORDER, k + 2 * BORDER, op.channels), np.int32)
        )
        add = None
        if op.add:
            add = pool.map(k, k, op.channels)
            interior(add)[...] = branch
        BACKENDS[backend].conv(x, bare, out, add, -1, 1)
        got = int(interior(out)[k // 2, k // 2, worst])
        assert got == (exact >> 16 if op.depthwise else exact), op.name
        reached = max(reached, abs(exact))
    assert reached > INT32_MAX * 0.999  # weights are as fine as the proof allows


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_every_gdn_of_the_default_model_attains_its_bound(model, backend):
    from math import isqrt

    pool = Pool()
    table = {(b.name, b.quantity): b for b in bound_table(model.ops, model.layers)}
    for op in model.ops:
        layer = model.layers[op.name]
        if not isinstance(layer, Gdn):
            continue
        limit = tensor_range(op.inputs[0], model.layers)[1]
        x, out = pool.map(1, 1, op.channels), pool.map(1, 1, op.channels)
        interior(x)[...] = limit
        n = [int(b) + limit**2 * sum(int(g) for g in row) for b, row in zip(layer.beta, layer.gamma, strict=True)]
        assert max(n) == table[op.name, "beta + sum gamma x^2"].worst < 1 << 52
        BACKENDS[backend].__dict__[op.kind](x, layer, out, 1)
        for c, value in enumerate(n):
            r = isqrt(value)
            if op.kind == "igdn":
                expected = (limit * r + ((1 << layer.shift) >> 1)) >> layer.shift
            else:
                expected = ((limit << layer.shift) + (r >> 1)) // r
            assert int(interior(out)[0, 0, c]) == min(max(expected, -layer.limit), layer.limit), op.name


def test_margins_are_those_of_the_table(model):
    margins = prove(model.ops, model.layers)
    assert margins == dict(model.margins)
    assert all(b.margin >= 0 for b in bound_table(model.ops, model.layers))


def test_ranges_of_random_filters_equal_a_search_over_all_extreme_inputs():
    rng = np.random.default_rng(5)
    weight = rng.integers(-9, 10, (4, 1, 1, 6)).astype(np.int16)
    groups = [(2, (-3, 7)), (3, (0, 5)), (1, (-4, 0))]
    low, high = accumulator_range(weight, groups)
    ends = [r for width, r in groups for _ in range(width)]
    corners = [[pair[(n >> i) & 1] for i, pair in enumerate(ends)] for n in range(64)]
    sums = np.array(corners) @ weight[:, 0, 0].T.astype(np.int64)
    assert np.array_equal(sums.max(axis=0), high) and np.array_equal(sums.min(axis=0), low)


@pytest.mark.parametrize("name", ["g_s/6/conv1", "lrp_anchor/3/0", "inter/2/mlp2", "local/1/fc2", "intra/1/keys1"])
def test_one_weight_too_many_is_refused(model, name):
    """The smallest change of a bias that leaves the bound refuses the model, and names the layer."""
    layer = model.layers[name]
    op = next(op for op in model.ops if op.name == name)
    high = conv_extremes(op, layer, model.layers, tensor_channels(model.ops))[1]
    c = int(np.argmax(high))
    for extra, holds in ((INT32_MAX - int(high[c]), True), (INT32_MAX - int(high[c]) + 1, False)):
        bias = layer.bias.astype(np.int64)
        bias[c] += extra
        changed = {**model.layers, name: dataclasses.replace(layer, bias=bias)}
        if holds:
            assert prove(model.ops, changed)[name] >= 0
        else:
            with pytest.raises(InvalidModel) as caught:
                prove(model.ops, changed)
            assert name in caught.value.where and caught.value.values["worst"] == INT32_MAX + 1


def test_a_bound_knows_its_register():
    assert Bound("a", "b", INT32_MAX, INT32_MAX).bits == 32
    assert Bound("a", "b", INT32_MAX + 1, INT32_MAX).bits == 33
    assert Bound("a", "b", INT32_MAX + 1, INT32_MAX).margin == -1
