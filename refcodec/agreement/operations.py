"""One vector for every operation: small inputs from the integers of SPEC B.3, and what this machine makes of them.

The inputs hold many values at the ends of their ranges, sizes are those at which the kernels change their loops, and
no library's random numbers are asked, so the results are the same wherever SPEC.md is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arith import numpy_ops
from ..arith.engine import Engine
from ..arith.maps import interior
from ..bitstream.container import Header, parse, serialise
from ..bitstream.crc32c import crc32c
from ..entropy.rans import RangeDecoder, RangeEncoder
from ..model.layers import Conv, Gain, Gdn, Layer, LinearAttention, LocalAttention, Norm, Rescale, Sum
from ..model.procedural import draws
from ..model.tables import load_tables
from ..planes import crop_samples, pad_samples

MAX = 32767
Part = np.ndarray | bytes


@dataclass(frozen=True)
class Way:
    """How to compute: the backend and the number of threads."""

    backend: str
    threads: int

    def engine(self, layer: Layer | None = None, step: int = 0) -> Engine:
        """An engine whose only layer has the name "layer"."""
        return Engine({} if layer is None else {"layer": layer}, load_tables(), step, self.threads, self.backend)


Item = Callable[[Way], Iterable[Part]]


def numbers(name: str, low: int, high: int, *shape: int) -> NDArray[np.int64]:
    """(SPEC B.3) Pseudo-random integers, about a tenth of them at each end, where implementations break.

    Parameters
    ----------
    name : str
        Name of the stream of numbers.
    low, high : int
        Smallest and largest value.
    *shape : int

    Returns
    -------
    np.ndarray of the given shape, int64
    """
    margin = (high - low) // 8
    wide = draws(0, name, prod(shape), low - margin, high - low + 2 * margin + 1)
    return np.clip(wide, low, high).reshape(shape)


def _map(engine: Engine, values: np.ndarray) -> np.ndarray:
    out = engine.map(*values.shape)
    interior(out)[...] = values
    return out


# ----------------------------------------------------------------------------------------------------- convolutions

_SIZES = ((5, 26), (3, 2))
"""Pictures wider and narrower than a block of pixels, whose last block overlaps the one before."""


def _conv_layer(
    name: str,
    kernel: int,
    inputs: int,
    outputs: int,
    *,
    gelu: bool = False,
    wide: bool = False,
    add: bool = False,
    depthwise: bool = False,
    shifts: tuple[int, int] = (16, 19),
    **more: Any,
) -> Conv:
    """A layer whose sum stays below 2^30 for inputs within 4095, its bias below 2^28 and its branch below 2^26."""
    each = 1 if depthwise else inputs
    taps = kernel * kernel * each
    reach = min(MAX, 2**30 // (taps * 4095))
    weight = numbers(f"{name}/weight", -reach, reach, outputs, kernel, kernel, each).astype(np.int16)
    bias, shift, add_shift = (
        numbers(f"{name}/{part}", low, high, outputs).astype(np.int32)
        for part, low, high in (("bias", -(2**28), 2**28), ("shift", *shifts), ("add_shift", 0, 14))
    )
    return Conv(
        "layer",
        weight,
        bias,
        shift,
        8,
        0 if wide else 4095,
        add_shift if add else None,
        load_tables().gelu[8] if gelu else None,
        depthwise=depthwise,
        **more,
    )


def _conv(
    way: Way, name: str, kernel: int, inputs: int, outputs: int, *, parities: tuple[int, ...] = (-1,), **more: Any
) -> Iterable[Part]:
    layer = _conv_layer(name, kernel, inputs, outputs, **more)
    engine = way.engine(layer)
    for height, width in _SIZES:
        x = _map(engine, numbers(f"{name}/x", -4095, 4095, height, width, inputs))
        factor, channels = (2, outputs // 4) if layer.shuffle else (1, outputs)
        branch = None
        if layer.add_shift is not None:
            branch = _map(engine, numbers(f"{name}/add", -4095, 4095, factor * height, factor * width, channels))
        for parity in parities:
            yield interior(engine.conv("layer", x, add=branch, parity=parity))


def _bounds(way: Way) -> Iterable[Part]:
    """Accumulators of 2^31 - 1 and -(2^31 - 1), the largest that a proved model attains."""
    sign = np.array([[1, 1], [-1, -1], [1, -1]])
    total = 2 * MAX * MAX
    weight = (MAX * sign).astype(np.int16).reshape(3, 1, 1, 2)
    bias = np.array([2**31 - 1 - total, total - (2**31 - 1), 0], np.int32)
    engine = way.engine(Conv("layer", weight, bias, np.zeros(3, np.int32), 8, 0))
    yield interior(engine.conv("layer", _map(engine, np.full((2, 26, 2), MAX))))


def _edges(last: int) -> np.ndarray:
    """Table indices at both ends, with both signs, [1, n, 1]."""
    near = [n for n in (0, 1, 2, last - 2, last - 1, last, last + 1, last + 2, MAX - 1, MAX) if 0 <= n <= MAX]
    return np.array([s * n for n in near for s in (1, -1)]).reshape(1, -1, 1)


def _gelu(way: Way) -> Iterable[Part]:
    """Every GELU table at its ends, after a 1x1 and after a depthwise convolution that change nothing else."""
    zero = np.zeros(2, np.int32)
    for frac, table in load_tables().gelu.items():
        x = np.repeat(_edges(table.size - 1), 2, axis=2)
        identity = np.eye(2, dtype=np.int16).reshape(2, 1, 1, 2)
        centre = np.zeros((2, 3, 3, 1), np.int16)
        centre[:, 1, 1] = 1
        for weight in (identity, centre):
            engine = way.engine(Conv("layer", weight, zero, zero, frac, MAX, gelu=table, depthwise=weight is centre))
            yield interior(engine.conv("layer", _map(engine, x)))


def _tanh(way: Way) -> Iterable[Part]:
    for frac, table in load_tables().half_tanh.items():
        engine = way.engine(Rescale("layer", 0, frac, MAX))
        yield engine.half_tanh("layer", _map(engine, _edges(table.size - 1)))


# ----------------------------------------------------------------------------------------------- element by element


def _sum(way: Way) -> Iterable[Part]:
    for shifts in ((0, 0, 0), (3, 0, 2), (0, 2, 5)):
        engine = way.engine(Sum("layer", *shifts, 8, 4095))
        a, b = (_map(engine, numbers(f"sum/{part}", -4095, 4095, 3, 9, 5)) for part in "ab")
        yield interior(engine.sum("layer", a, b))


def _gain(way: Way) -> Iterable[Part]:
    multiplier = numbers("gain/multiplier", 2**14, 2**15 - 1, 2, 6).astype(np.int32)
    layer = Gain("layer", multiplier, numbers("gain/shift", 13, 18, 2, 6).astype(np.int32), 6, MAX)
    for step in (0, 1):
        engine = way.engine(layer, step)
        yield interior(engine.gain("layer", _map(engine, numbers("gain/x", -MAX, MAX, 3, 9, 6))))


def _rescale(way: Way) -> Iterable[Part]:
    for shift in (0, 1, 5):
        engine = way.engine(Rescale("layer", shift, 5, 8191))
        yield interior(engine.rescale("layer", _map(engine, numbers("rescale/x", -12000, 12000, 3, 9, 5))))


def _gdn(way: Way, inverse: bool) -> Iterable[Part]:
    """Ten channels: two groups of four and a rest of two."""
    gamma, beta = numbers("gdn/gamma", 0, 2**23 // 10, 10, 10), numbers("gdn/beta", 1, 2**44, 10)
    engine = way.engine(Gdn("layer", gamma, beta, 22, 10, MAX))
    x = _map(engine, numbers("gdn/x", -8191, 8191, 3, 9, 10))
    yield interior((engine.igdn if inverse else engine.gdn)("layer", x))


def _layer_norm(way: Way) -> Iterable[Part]:
    x = numbers("norm/x", -4095, 4095, 4, 9, 18)
    x[0, 0], x[0, 1] = 5, 0  # no variance
    x[0, 2, :17], x[0, 3] = 0, np.arange(18) % 2  # one channel alone, and the least variance
    engine = way.engine(Norm("layer", 18**3, 10, 8191))
    yield interior(engine.norm("layer", _map(engine, x)))


# -------------------------------------------------------------------------------------------------------- attention


def _exp2(way: Way) -> Iterable[Part]:
    t = np.concatenate(
        [np.arange(0, 1 << 17, 509), [n << 16 for n in range(42)], [(n << 16) - 1 for n in range(1, 42)], [1 << 40]]
    )
    table = load_tables().exp2
    if way.backend == "numpy":
        yield numpy_ops.exp2_negative(t, table)
    else:
        from ..arith.jit.attention import exponentials

        yield exponentials(t, table)


def _softmax(way: Way) -> Iterable[Part]:
    """Weights over eight channels: keys so far apart that each sees one value make the results weights in 15 bits."""
    engine = way.engine(LinearAttention("layer", 8, 7, 0, 1, 15, MAX))
    diagonal = np.eye(8, dtype=np.int64)[None]
    keys, values = _map(engine, (2 * diagonal - 1) * MAX), _map(engine, diagonal * MAX)
    x = numbers("softmax/x", -4095, 4095, 3, 9, 8)
    x[0, 0], x[0, 1] = 7, [MAX, *[-MAX] * 7]
    yield interior(engine.linear_attention("layer", _map(engine, x), keys, values))


def _local_attention(way: Way) -> Iterable[Part]:
    bias = numbers("local/bias", -(2**17), 2**17, 81, 2).astype(np.int32)
    engine = way.engine(LocalAttention("layer", 6, bias, 2, 10, 2047))
    for height, width in ((6, 8), (1, 2)):
        qkv = _map(engine, numbers("local/qkv", -2047, 2047, height, width, 3 * 10))  # heads of five channels
        yield interior(engine.local_attention("layer", qkv))


def _linear_attention(way: Way) -> Iterable[Part]:
    engine = way.engine(LinearAttention("layer", 6, 7, 1, 2, 10, 4095))
    q, k, v = (_map(engine, numbers(f"linear/{part}", -4095, 4095, 6, 8, 8)) for part in "qkv")
    for keys_at, queries_at in ((-1, -1), (1, 0)):
        yield interior(engine.linear_attention("layer", q, k, v, keys_at, queries_at))


# --------------------------------------------------------------------------------------------------- symbols, bytes


def _scale_index(way: Way) -> Iterable[Part]:
    thresholds = load_tables().thresholds.astype(np.int64)
    scales = np.concatenate([thresholds - 1, thresholds, thresholds + 1, [-(2**31), -1, 0, 2**31 - 1]])
    yield way.engine().scale_index(scales.astype(np.int32))


def _symbols() -> tuple[np.ndarray, np.ndarray]:
    """Symbols and table numbers: small ones, and escapes of every length in both directions."""
    small = numbers("symbols", -4, 4, 2000)
    far = np.array([s * ((1 << n) + d) for n in range(15) for s in (1, -1) for d in (-1, 0, 5)])
    symbols = np.concatenate([small, far, [MAX, -MAX]]).astype(np.int32)
    return symbols, numbers("levels", 0, 127, symbols.size).astype(np.int32)


def _range_encoder(way: Way) -> Iterable[Part]:
    symbols, levels = _symbols()
    for part in (slice(0), slice(1), slice(None)):
        coder = RangeEncoder(way.backend)
        coder.put(symbols[part], levels[part], load_tables().gaussian)
        yield coder.finish()


def _range_decoder(way: Way) -> Iterable[Part]:
    """The symbols read from a segment that plain Python integers wrote."""
    symbols, levels = _symbols()
    writer = RangeEncoder("numpy")
    writer.put(symbols, levels, load_tables().gaussian)
    reader = RangeDecoder(writer.finish(), way.backend)
    yield reader.get(levels, load_tables().gaussian)
    reader.finish()


def _bytes(name: str, count: int) -> bytes:
    return draws(0, name, count, 0, 256).astype(np.uint8).tobytes()


def _numbers(way: Way) -> Iterable[Part]:
    yield draws(2**64 - 1, "numbers", 70001, -(1 << 16), (1 << 17) + 1)


def _crc(way: Way) -> Iterable[Part]:
    data = _bytes("crc", 70001)
    for length in (0, 1, 9, 5000, 70001):
        yield crc32c(data[:length]).to_bytes(4, "little")


def _container(way: Way) -> Iterable[Part]:
    chunks = (("exif", _bytes("exif", 31)), ("iccp", b""), ("xmp ", b"<x/>"))
    segments = [(_bytes(f"z/{n}", 40 + n), _bytes(f"y/{n}", 52 - n)) for n in range(6)]
    for tile in (0, 512):
        for marks in (None, _bytes("digest", 16)):
            header = Header(1401, 705, 3, 99, _bytes("fingerprint", 16), tile, tile, digest=marks)
            data = serialise(header, segments[: header.tiles], chunks)
            stream = parse(data)
            yield from (data, repr(stream.header).encode(), *(p for _, p in stream.chunks))
            for n in range(header.tiles):
                yield from stream.segments(n)


def _picture(way: Way) -> Iterable[Part]:
    samples = numbers("picture", 0, 255, 5, 67, 3).astype(np.uint8)
    planes = pad_samples(samples)
    yield from (planes, pad_samples(samples[:, :, 1]))
    yield from (crop_samples(planes[:, :, :3].astype(np.uint8), 5, 67, channels) for channels in (1, 3))


VECTORS: dict[str, Item] = {
    "numbers": _numbers,
    "crc-32c": _crc,
    "container": _container,
    "picture": _picture,
    "conv 3x3": partial(_conv, name="3x3", kernel=3, inputs=18, outputs=33, gelu=True, add=True),
    "conv tiles": partial(_conv, name="tiles", kernel=3, inputs=34, outputs=33, gelu=True, add=True),
    "conv strided": partial(_conv, name="strided", kernel=3, inputs=4, outputs=34, stride=2),
    "conv 1x1": partial(_conv, name="1x1", kernel=1, inputs=66, outputs=65, add=True),
    "conv 5x5": partial(_conv, name="5x5", kernel=5, inputs=6, outputs=32, gelu=True),
    "conv depthwise": partial(_conv, name="depthwise", kernel=3, inputs=33, outputs=33, depthwise=True),
    "conv sub-pixel": partial(_conv, name="sub-pixel", kernel=3, inputs=4, outputs=36, shuffle=True, add=True),
    "conv wide": partial(_conv, name="wide", kernel=1, inputs=16, outputs=40, wide=True, shifts=(0, 0)),
    "conv parity": partial(_conv, name="parity", kernel=5, inputs=8, outputs=12, parities=(0, 1)),
    "conv bounds": _bounds,
    "gelu": _gelu,
    "half tanh": _tanh,
    "sum": _sum,
    "gain": _gain,
    "rescale": _rescale,
    "gdn": partial(_gdn, inverse=False),
    "igdn": partial(_gdn, inverse=True),
    "layer norm": _layer_norm,
    "exp2": _exp2,
    "softmax": _softmax,
    "local attention": _local_attention,
    "linear attention": _linear_attention,
    "scale index": _scale_index,
    "range encoder": _range_encoder,
    "range decoder": _range_decoder,
}
"""One vector for each operation: what it computes, before hashing."""
