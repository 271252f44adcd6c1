"""A configuration of the codec, its rules, and the well-known configurations (SPEC 6.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidModel

Y_FRAC = 6
"""Fraction bits of y, y_hat, means, z and z_hat (SPEC 5.1-2): the quantiser's step is 64 units, 512 steps fit int16."""

SCALE_FRAC = 10
"""Fraction bits of the scales that entropy parameters predict (SPEC 6.8)."""


@dataclass(frozen=True)
class Config:
    """A configuration of the codec (SPEC 6.1).

    Attributes
    ----------
    N : tuple of 3 int
        Channels at 1/2, 1/4 and 1/8 resolution.
    M : int
        Latent channels.
    slices : int
        Slices of M / slices channels each.
    hyper : int
        Channels of z.
    hs, chan : tuple of 2 int
        Hidden widths of h_s and of the channel context.
    ent : tuple of 3 int
        Hidden widths of the entropy parameters.
    lrp : tuple of int
        Hidden widths of latent residual prediction; empty for the older form, which derives three widths.
    window : int
        Side of the local attention's window, odd.
    local_heads, intra_heads : int
        Heads of the local and of the intra-slice attention.
    inter_head_width : int
        Channels per head of the inter-slice attention.
    qualities : int
        Levels of the quality gains, 1 for a model without gains.
    old_synthesis : bool
        The older g_s whose first block already has the widest N.
    """

    N: tuple[int, ...]
    M: int
    slices: int
    hyper: int
    hs: tuple[int, ...]
    chan: tuple[int, ...]
    ent: tuple[int, ...]
    lrp: tuple[int, ...]
    window: int = 5
    local_heads: int = 2
    intra_heads: int = 2
    inter_head_width: int = 32
    qualities: int = 1
    old_synthesis: bool = False

    @property
    def ch(self) -> int:
        """Channels per slice."""
        return self.M // self.slices

    @property
    def steps(self) -> int:
        """Qualities of the stream: 100 with gains, 1 without."""
        return 100 if self.qualities > 1 else 1

    def inter_heads(self, i: int) -> int:
        """Heads of the inter-slice attention of slice i."""
        return max(1, self.ch * i // self.inter_head_width)

    def lrp_widths(self, i: int) -> tuple[int, ...]:
        """Hidden widths of the latent residual prediction of slice i."""
        if self.lrp:
            return self.lrp
        inputs = self.M + (i + 1) * self.ch
        d = abs(self.ch - inputs)
        return inputs - d // 4, inputs - d // 2, inputs - d * 3 // 4

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values, the inverse of ``config_from``."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in self.__dict__.items()}


_WIDTHS = {"N": 3, "hs": 2, "chan": 2, "ent": 3}


def config_from(values: dict[str, Any], where: str = "configuration") -> Config:
    """Check plain values and make a Config of them (SPEC 6.1), whose models may still be too large (`check_size`).

    Raises
    ------
    InvalidModel
        A field is missing, unknown, of a wrong type or outside the limits of SPEC 6.1 and 9.1.
    """
    known = set(Config.__dataclass_fields__)
    if unknown := sorted(set(values) - known):
        raise InvalidModel("unknown configuration field", where=where, fields=unknown)
    try:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in values.items()}
        c = Config(**fields)
    except TypeError as e:
        raise InvalidModel("configuration field missing", where=where, detail=str(e)) from None
    for name in known:
        value = getattr(c, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if isinstance(value, tuple) != (name in (*_WIDTHS, "lrp")) or not all(
            isinstance(n, bool if name == "old_synthesis" else int) for n in numbers
        ):
            raise InvalidModel("configuration field has a wrong type", where=where, field=name, value=value)
        if name != "old_synthesis" and not all(1 <= n <= 4096 for n in numbers):
            raise InvalidModel(
                "configuration field out of range", where=where, field=name, value=value, allowed="1..4096"
            )
        if name in _WIDTHS and len(value) != _WIDTHS[name]:
            raise InvalidModel("configuration field has a wrong length", where=where, field=name, value=value)
    checks = {
        "M is a multiple of slices": c.M % c.slices == 0,
        "channels per slice are even": c.ch % 2 == 0,
        "channels per slice are at most 64": c.ch <= 64,  # a norm of 2 ch channels is proved up to 128 (SPEC 9.2-4)
        "every width is even": all(n % 2 == 0 for n in (*c.N, c.M, c.hyper, *c.hs, *c.chan, *c.ent, *c.lrp)),
        "slices <= 32": c.slices <= 32,
        "len(lrp) is 0 or 2": len(c.lrp) in (0, 2),
        "the window is 5": c.window == 5,
        "heads divide the channels": c.ch % c.local_heads == 0
        and c.ch % c.intra_heads == 0
        and all(c.ch * i % c.inter_heads(i) == 0 for i in range(1, c.slices)),
        "qualities <= 64": c.qualities <= 64,
    }
    for rule, holds in checks.items():
        if not holds:
            raise InvalidModel("configuration breaks a rule", where=where, rule=rule)
    return c


_PAPER = Config(
    N=(32, 64, 128), M=320, slices=10, hyper=128, hs=(320, 480), chan=(192, 128), ent=(320, 256, 128), lrp=(224, 128)
)

_MLICPP = replace(_PAPER, N=(192, 192, 192), hyper=192)

PROFILES: dict[str, Config] = {
    "paper": _PAPER,
    "mlicpp": _MLICPP,
    "mlicpp-old": replace(_MLICPP, lrp=(), old_synthesis=True),
    "default": Config(
        N=(32, 64, 96),
        M=192,
        slices=6,
        hyper=96,
        hs=(96, 144),
        chan=(96, 64),
        ent=(160, 128, 96),
        lrp=(96, 64),
        qualities=8,
    ),
    "tiny": Config(
        N=(6, 8, 12),
        M=24,
        slices=3,
        hyper=6,
        hs=(8, 12),
        chan=(12, 8),
        ent=(16, 12, 8),
        lrp=(12, 8),
        inter_head_width=4,
        qualities=3,
    ),
}
"""Well-known configurations by name, each a profile of decoders as well (SPEC 6.1-9, 12.1)."""
