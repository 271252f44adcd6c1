"""What decoding a picture takes, estimated from its size and the model alone (SPEC 8.5, 11)."""

from __future__ import annotations

from math import isqrt

from .architecture import Config, layer_table
from .arith.backend import default_backend
from .arith.maps import BORDER
from .model import Model

WALK_LIVES, SYNTHESIS_LIVES = 4, 3
"""Maps of one size that the slice walk and synthesis hold at once: input, branch, result, and one kept for later."""


def _map_sizes(config: Config) -> set[tuple[int, int, bool, int]]:
    """Sizes of maps that decoding makes: picture samples a position and side, channels, packed, lives.

    The pool gives a block of each size back to maps of this size only, so what counts are the different sizes.
    """
    M, ch = config.M, config.ch
    fixed = {(16, 3 * M, False, 1), (16, M, False, 2), (64, config.hyper, False, 2)}
    gathered = {(16, 2 * M + n * ch, True, 1) for n in (0, 2, 6, 10)}
    windows = {(16, config.window ** 2 * ch, True, 1)}
    sizes = fixed | gathered | windows
    for op in layer_table(config):
        if op.name.startswith(("g_a/", "h_a/")) or op.kind != "conv":
            continue
        step = isqrt(round(1 / op.positions))
        step, channels = (step // 2, op.channels // 4) if op.shuffle else (step, op.channels)
        packed = op.name.startswith("ep_") or (op.name.startswith("local/") and not op.name.endswith("/qkv"))
        sizes.add((step, channels, packed, SYNTHESIS_LIVES if op.name.startswith("g_s/") else WALK_LIVES))
    return sizes


def model_bytes(model: Model) -> int:
    """Bytes of a model's weights in memory: as stored and as packed for the kernels, int16 each."""
    return 4 * sum(op.parameters for op in model.ops)


def memory_estimate(width: int, height: int, model: Model, backend: str | None = None) -> int:
    """(SPEC 8.5) Bytes of working memory for one picture: an upper bound, less than twice what is taken.

    Counted are the maps that the pool holds in the end, the sums that layers make beside them (two int32 maps of the
    widest residual sum, at half resolution; int64 copies of y_hat; NumPy's convolutions take three times as much), the
    picture, and the weights. Not counted are the interpreter with its libraries, about 200 MiB with Numba, and the
    stream.

    Parameters
    ----------
    width, height : int
        Size of the picture, before it is padded to multiples of 64.
    model : Model
    backend : "numba", "numpy" or None for ``REFCODEC_BACKEND``
    """
    columns, rows = (-(-n // 64) * 64 for n in (width, height))
    config, maps = model.config, 0
    for step, channels, packed, lives in _map_sizes(config):
        across = columns // step // (2 if packed else 1)
        maps += 2 * lives * channels * (rows // step + 2 * BORDER) * (across + 2 * BORDER)
    beside = rows * columns * (2 * config.N[0] + 32 * config.M // 256 + 24)
    if (backend or default_backend()) == "numpy":
        beside *= 3
    return maps + beside + model_bytes(model)


__all__ = ["memory_estimate", "model_bytes"]
