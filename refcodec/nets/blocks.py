"""Residual blocks shared by analysis and synthesis (SPEC 6.2). Maps in and out, see refcodec/arith/maps.py."""

from __future__ import annotations

from ..arith.protocols import M, PictureOps


def residual_block(engine: PictureOps[M], name: str, x: M) -> M:
    """(SPEC 6.2) GELU(conv2(GELU(conv1(x)))) + x, or + conv1x1(x) where the channel count changes.

    Parameters
    ----------
    engine : PictureOps
    name : str
        Of the block in the layer table.
    x : map [H + 4, W + 4, C], int16

    Returns
    -------
    map [H + 4, W + 4, C'], int16
    """
    hidden = engine.conv(f"{name}/conv1", x)
    if f"{name}/skip" in engine.layers:
        return engine.conv(f"{name}/skip", x, add=engine.conv(f"{name}/conv2", hidden))
    return engine.conv_sum(f"{name}/conv2", hidden, f"{name}/sum", x)


def residual_block_with_stride(engine: PictureOps[M], name: str, x: M) -> M:
    """(SPEC 6.2) GDN(conv2(GELU(conv1 stride 2 (x)))) + conv1x1 stride 2 (x): half the resolution.

    Parameters
    ----------
    engine : PictureOps
    name : str
        Of the block in the layer table.
    x : map [H + 4, W + 4, C], int16

    Returns
    -------
    map [H / 2 + 4, W / 2 + 4, C'], int16
    """
    branch = engine.gdn(f"{name}/gdn", engine.conv(f"{name}/conv2", engine.conv(f"{name}/conv1", x)))
    return engine.conv(f"{name}/skip", x, add=branch)


def residual_block_upsample(engine: PictureOps[M], name: str, x: M) -> M:
    """(SPEC 6.2) IGDN(conv(GELU(subpel x2 (x)))) + subpel x2 (x): twice the resolution.

    Parameters
    ----------
    engine : PictureOps
    name : str
        Of the block in the layer table.
    x : map [H + 4, W + 4, C], int16

    Returns
    -------
    map [2 H + 4, 2 W + 4, C'], int16
    """
    branch = engine.igdn(f"{name}/igdn", engine.conv(f"{name}/conv", engine.conv(f"{name}/subpel", x)))
    return engine.conv(f"{name}/upsample", x, add=branch)
