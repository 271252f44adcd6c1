"""Models of configurations at the edges of what SPEC 6.1 allows: procedural ones, small enough to be shipped."""

from __future__ import annotations

from collections.abc import Callable

from refcodec.model.config import Config
from refcodec.model.procedural import build

from .procedural import Content, model_source

CONFIGURATIONS = {
    "single-7": Config(
        N=(4, 6, 10),
        M=10,
        slices=1,
        hyper=2,
        hs=(6, 2),
        chan=(2, 4),
        ent=(6, 10, 4),
        lrp=(4, 6),
        local_heads=5,
        intra_heads=1,
        inter_head_width=1,
        qualities=2,
        old_synthesis=True,
    ),
    "heads-7": Config(
        N=(6, 4, 8),
        M=12,
        slices=3,
        hyper=6,
        hs=(4, 10),
        chan=(6, 4),
        ent=(8, 6, 4),
        lrp=(),
        local_heads=4,
        intra_heads=2,
        inter_head_width=1,
        qualities=1,
    ),
    "slices-7": Config(
        N=(2, 4, 6),
        M=16,
        slices=8,
        hyper=4,
        hs=(4, 6),
        chan=(4, 6),
        ent=(4, 6, 8),
        lrp=(4, 6),
        local_heads=1,
        intra_heads=2,
        inter_head_width=4096,
        qualities=1,
    ),
    "wide-7": Config(
        N=(34, 10, 18),
        M=20,
        slices=2,
        hyper=18,
        hs=(18, 10),
        chan=(34, 18),
        ent=(34, 66, 18),
        lrp=(18, 10),
        local_heads=5,
        intra_heads=2,
        inter_head_width=5,
        qualities=1,
    ),
}
"""One slice, with gains and the older g_s but two widths of LRP; as many heads as channels, and derived widths of LRP;
eight slices of two channels, of which the inter attention is one head; widths just above multiples of 16, 32 and 64."""


FLOORED = {
    "floored-7": Config(
        N=(2, 4, 2),
        M=24,
        slices=3,
        hyper=2,
        hs=(2, 4),
        chan=(4, 2),
        ent=(4, 2, 2),
        lrp=(2, 4),
        local_heads=2,
        intra_heads=4,
        inter_head_width=6,
        qualities=1,
    ),
}
"""Eight channels a slice and heads of six: one head and two heads of eight channels, where quotients are not exact."""


def _registered(name: str, config: Config) -> None:
    def content() -> Content:
        return build(config, 7)

    content.__doc__ = f"procedural, a configuration of its own ({name.partition('-')[0]}), seed 7 (SPEC B.3)"
    source: Callable[[], Content] = model_source(name)(content)
    assert source is content


for _name, _config in {**CONFIGURATIONS, **FLOORED}.items():
    _registered(_name, _config)
