"""The written layer table: every operation of a configuration, by name, in the order of the codec (SPEC 6).

One table serves the loader (which layers a model must hold, with which shapes), the proof of no overflow (which
tensors feed which accumulator), the converter (which published tensors become which layer) and the count of
multiply-accumulates. Tensors have the name of the operation that computes them; operations that are not convolutions
(normalisations, attentions, sums, gains) have separate entries, because their outputs have formats too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .config import Config

_ANCHOR, _NONANCHOR = 1, 0


@dataclass(frozen=True)
class Op:
    """One entry of the layer table.

    Attributes
    ----------
    name : str
        Name of the operation and of the tensor it makes.
    kind : str
        "conv", "gdn", "igdn", "sum", "gain", "rescale", "norm", "local_attention" or "linear_attention".
    inputs : tuple of str
        Names of the tensors it reads; those of a convolution are concatenated along channels in this order.
    channels : int
        Channels of the result (of a convolution: before the pixel shuffle).
    in_channels : int
        Channels read.
    kernel, stride : int
        Of a convolution; zeros of kernel // 2 on all sides.
    shuffle, depthwise, gelu : bool
        Pixel shuffle by 2 afterwards; one filter a channel; GELU on the result.
    add : str
        Name of the tensor added into the accumulator before its shift, "" for none.
    wide : bool
        The first half of the outputs are scales in Q10, the second means in Q6, both int32.
    heads : int
        Of an attention.
    positions : float
        Positions of the result a picture sample (1/256 at latent resolution), for counting multiply-accumulates.
    mask, half : int or None
        Parity of the only positions whose inputs are read, the others being 0, and of those that are computed.
    split : bool
        Of a linear attention: keys and values at anchors, queries at non-anchors.
    tanh : bool
        Half tanh is taken of the result.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    channels: int
    in_channels: int = 0
    kernel: int = 1
    stride: int = 1
    shuffle: bool = False
    depthwise: bool = False
    gelu: bool = False
    add: str = ""
    wide: bool = False
    heads: int = 1
    positions: float = 0.0
    mask: int | None = None
    half: int | None = None
    split: bool = False
    tanh: bool = False

    @property
    def macs(self) -> float:
        """Multiply-accumulates per picture sample; convolutions and linear layers only (SPEC 6.1)."""
        if self.kind != "conv":
            return 0.0
        taps = self.kernel**2 * (1 if self.depthwise else self.in_channels)
        return taps * self.channels * self.positions

    @property
    def parameters(self) -> int:
        """Weights and biases of a convolution, gamma and beta of a GDN, 0 otherwise."""
        if self.kind == "conv":
            return self.channels * (self.kernel**2 * (1 if self.depthwise else self.in_channels) + 1)
        return self.channels * (self.channels + 1) if self.kind in ("gdn", "igdn") else 0


@dataclass
class _Table:
    """Collects operations while the walk through the network describes them; knows every tensor's channel count."""

    ops: list[Op] = field(default_factory=list)
    channels: dict[str, int] = field(default_factory=dict)

    def put(self, op: Op) -> str:
        self.ops.append(op)
        self.channels[op.name] = op.channels // 4 if op.shuffle else op.channels
        return op.name

    def conv(
        self, name: str, inputs: str | tuple[str, ...], channels: int, kernel: int, positions: float, **more: Any
    ) -> str:
        inputs = (inputs,) if isinstance(inputs, str) else inputs
        width = sum(self.channels[t] for t in inputs)
        return self.put(Op(name, "conv", inputs, channels, width, kernel, positions=positions, **more))

    def other(self, name: str, kind: str, *inputs: str, channels: int = 0, **more: Any) -> str:
        return self.put(Op(name, kind, inputs, channels or self.channels[inputs[0]], **more))


def _residual_block(t: _Table, name: str, x: str, out: int, at: float) -> str:
    """GELU(conv2(GELU(conv1(x)))) + skip(x): the branch joins the skip convolution's accumulator, or is summed."""
    a = t.conv(f"{name}/conv1", x, out, 3, at, gelu=True)
    b = t.conv(f"{name}/conv2", a, out, 3, at, gelu=True)
    if t.channels[x] != out:
        return t.conv(f"{name}/skip", x, out, 1, at, add=b)
    return t.other(f"{name}/sum", "sum", x, b)


def _residual_block_stride(t: _Table, name: str, x: str, out: int, at: float) -> str:
    a = t.conv(f"{name}/conv1", x, out, 3, at, stride=2, gelu=True)
    b = t.conv(f"{name}/conv2", a, out, 3, at)
    c = t.other(f"{name}/gdn", "gdn", b)
    return t.conv(f"{name}/skip", x, out, 1, at, stride=2, add=c)


def _residual_block_upsample(t: _Table, name: str, x: str, out: int, at: float) -> str:
    a = t.conv(f"{name}/subpel", x, 4 * out, 3, at, shuffle=True, gelu=True)
    b = t.conv(f"{name}/conv", a, out, 3, 4 * at)
    c = t.other(f"{name}/igdn", "igdn", b)
    return t.conv(f"{name}/upsample", x, 4 * out, 3, at, shuffle=True, add=c)


def _transforms(t: _Table, c: Config) -> None:
    x = "x"
    for j, n in enumerate(c.N):
        x = _residual_block_stride(t, f"g_a/{2 * j}", x, n, 0.25 ** (j + 1))
        x = _residual_block(t, f"g_a/{2 * j + 1}", x, n, 0.25 ** (j + 1))
    t.conv("g_a/6", x, c.M, 3, 1 / 256, stride=2)
    t.other("y", "gain", "g_a/6")

    x = t.other("h_a/input", "rescale", "y")
    for j, stride in enumerate((1, 1, 2, 1, 2)):
        at = 1 / 256 * 0.25 ** (0 if j < 2 else 1 if j < 4 else 2)
        x = t.conv(f"h_a/{j}", x, c.hyper, 3, at, stride=stride, gelu=j < 4)
    t.other("z", "gain", x)
    t.channels["z_hat"] = c.hyper

    a, b = c.hs
    x = t.other("h_s/input", "gain", "z_hat")
    x = t.conv("h_s/0", x, a, 3, 1 / 4096, gelu=True)
    x = t.conv("h_s/1", x, 4 * a, 3, 1 / 4096, shuffle=True, gelu=True)
    x = t.conv("h_s/2", x, b, 3, 1 / 1024, gelu=True)
    x = t.conv("h_s/3", x, 4 * b, 3, 1 / 1024, shuffle=True, gelu=True)
    t.conv("h_s/4", x, 2 * c.M, 3, 1 / 256)


def _pointwise_depthwise(t: _Table, name: str, inputs: tuple[str, ...], channels: int, mask: int | None) -> str:
    a = t.conv(f"{name}0", inputs, channels, 1, 1 / 256, mask=mask)
    return t.conv(f"{name}1", a, channels, 3, 1 / 256, depthwise=True)


def _linear_attention(
    t: _Table, name: str, inputs: tuple[tuple[str, ...], ...], width: int, heads: int, split: bool = False
) -> str:
    masks = (_NONANCHOR, _ANCHOR, None) if split else (None, None, None)
    parts = [
        _pointwise_depthwise(t, f"{name}/{part}", x, width, mask)
        for part, x, mask in zip(("queries", "keys", "values"), inputs, masks, strict=True)
    ]
    return t.other(f"{name}/attention", "linear_attention", *parts, channels=width, heads=heads, split=split)


def _contexts(t: _Table, c: Config, i: int) -> None:
    at, ch = 1 / 256, c.ch
    current, previous = f"ctx/{i}", tuple(f"ctx/{j}" for j in range(i))
    n = f"local/{i}"
    norm = t.other(f"{n}/norm1", "norm", f"y_hat/{i}")
    qkv = t.conv(f"{n}/qkv", norm, 3 * ch, 1, at)
    here = {"half": _NONANCHOR}
    seen = t.other(f"{n}/attention", "local_attention", qkv, channels=c.window**2 * ch, heads=c.local_heads, **here)
    fused = t.conv(f"{n}/fusion", seen, 2 * ch, 1, at, **here)
    u = t.conv(f"{n}/proj", fused, 2 * ch, 1, at, **here)
    hidden = t.conv(f"{n}/fc1", t.other(f"{n}/norm2", "norm", u, **here), 4 * ch, 1, at, gelu=True, **here)
    t.conv(f"{n}/fc2", hidden, 2 * ch, 1, at, add=u, **here)
    if i == 0:
        return
    x: str | tuple[str, ...] = previous
    for j, width in enumerate(c.chan):
        x = t.conv(f"chan/{i}/{j}", x, width, 3, at, gelu=True)
    t.conv(f"chan/{i}/2", x, 4 * ch, 3, at)

    n = f"inter/{i}"
    a = _linear_attention(t, n, (previous,) * 3, ch * i, c.inter_heads(i))
    a = t.conv(f"{n}/reprojection", a, 3 * ch, 5, at)
    m = t.conv(f"{n}/mlp0", a, 4 * ch, 1, at, gelu=True)
    m = t.conv(f"{n}/mlp1", m, 4 * ch, 3, at, depthwise=True, gelu=True)
    t.conv(f"{n}/mlp2", (a, m), 2 * ch, 1, at)

    n = f"intra/{i}"
    a = _linear_attention(t, n, (previous[-1:], previous[-1:], (current,)), ch, c.intra_heads, split=True)
    a = t.conv(f"{n}/reprojection", a, 2 * ch, 5, at)
    m = t.conv(f"{n}/mlp0", a, 4 * ch, 1, at, gelu=True)
    m = t.conv(f"{n}/mlp1", m, 4 * ch, 3, at, depthwise=True, gelu=True)
    t.conv(f"{n}/mlp2", m, 2 * ch, 1, at, add=a)


def _heads(t: _Table, c: Config, i: int) -> None:
    at, ch = 1 / 256, c.ch
    shared = (f"inter/{i}/mlp2", f"chan/{i}/2", "h_s/4") if i else ("h_s/4",)
    spatial = (f"local/{i}/fc2", f"intra/{i}/mlp2") if i else (f"local/{i}/fc2",)
    for which, half, x in (("anchor", _ANCHOR, shared), ("nonanchor", _NONANCHOR, spatial + shared)):
        for j, width in enumerate(c.ent):
            x = (t.conv(f"ep_{which}/{i}/{j}", x, width, 1, at, gelu=True, half=half),)
        t.conv(f"ep_{which}/{i}/{len(c.ent)}", x, 2 * ch, 1, at, wide=True, half=half)
    known = ("hyper_means", *(f"ctx/{j}" for j in range(i + 1)))
    for which, half in (("anchor", _ANCHOR), ("nonanchor", _NONANCHOR)):
        x = known
        for j, width in enumerate(c.lrp_widths(i)):
            x = (t.conv(f"lrp_{which}/{i}/{j}", x, width, 3, at, gelu=True),)
        t.conv(f"lrp_{which}/{i}/{len(c.lrp_widths(i))}", x, ch, 3, at, half=half, tanh=True)


def _synthesis(t: _Table, c: Config) -> None:
    t.channels["y_hat"] = c.M
    x = t.other("g_s/input", "gain", "y_hat")
    wide = c.N[::-1]
    x = _residual_block(t, "g_s/0", x, wide[0] if c.old_synthesis else c.M, 1 / 256)
    x = _residual_block_upsample(t, "g_s/1", x, wide[0], 1 / 256)
    for j, narrow in enumerate(wide[1:]):
        at = 0.25 ** (3 - j)
        x = _residual_block(t, f"g_s/{2 * j + 2}", x, narrow, at)
        x = _residual_block_upsample(t, f"g_s/{2 * j + 3}", x, narrow, at)
    x = _residual_block(t, "g_s/6", x, wide[-1], 0.25)
    t.conv("g_s/7", x, 12, 3, 0.25, shuffle=True)


def layer_table(c: Config) -> tuple[Op, ...]:
    """Every operation of a configuration in the order of the codec (SPEC 6.1-6)."""
    t = _Table(channels={"x": 3})
    _transforms(t, c)
    t.channels["hyper_means"] = c.M
    for i in range(c.slices):
        t.channels[f"y_hat/{i}"] = c.ch
        t.other(f"ctx/{i}", "rescale", f"y_hat/{i}")
    for i in range(c.slices):
        _contexts(t, c, i)
        _heads(t, c, i)
    _synthesis(t, c)
    return tuple(t.ops)


def parameter_count(c: Config) -> int:
    """Parameters of the published network of a configuration, gains included (SPEC 6.1).

    In addition to those of the table: the bottleneck's 58 and 3 quantiles per channel, the affine parts of two norms
    and the relative positions of every slice, the skip biases that are folded away, and four gains where there are any.
    """
    table = sum(op.parameters for op in layer_table(c))
    slices = c.slices * (6 * c.ch + (2 * c.window - 1) ** 2 * c.local_heads)
    folded = (c.slices - 1) * 2 * c.ch
    gains = 2 * c.qualities * (c.M + c.hyper) if c.qualities > 1 else 0
    return table + 61 * c.hyper + slices + folded + gains
