"""What decoding a picture takes, estimated from its size and the model alone (SPEC 8.5, 11)."""

from __future__ import annotations

from functools import cache

from .architecture import Config, layer_table
from .arith.backend import default_backend
from .arith.strips import STRIP
from .model import Model

_NUMPY = 128 << 20

SPARE = 1.4
"""Blocks of the pool are up to an eighth larger than the maps in them, some lie idle, and a growing window is there
twice. Measured with the default model: the estimate is 1.1 to 1.9 times the peak from 64x64 to 1920x1080."""


@cache
def _walk_bytes(config: Config) -> float:
    """Bytes for a position of y_hat: what the walk holds throughout, and what its largest context adds."""
    M, ch = config.M, config.ch
    held = 5 * M + 10 * ch
    inter = 6 * (config.slices - 1) * ch  # queries, keys and values, each before and after its second convolution
    local = (3 + config.window ** 2 / 2 + 6) * ch
    hyper = 2 * M + 2 * max(config.hs)
    return 2 * (held + max(inter, local, hyper, 2 * M))


@cache
def _synthesis_bytes(config: Config) -> float:
    """Bytes for a position of the picture that is in the strip: every map of g_s, int16."""
    total = last = config.M / 256  # of the gain
    for op in layer_table(config):
        if op.name.startswith("g_s/") and op.kind in ("conv", "igdn"):  # a sum takes the place of its convolution
            last = op.channels * op.positions or last
            total += last
    return 2 * total


def model_bytes(model: Model) -> int:
    """Bytes of a model's weights in memory: as stored and as packed for the kernels, int16 each."""
    return 4 * sum(op.parameters for op in model.ops)


def memory_estimate(width: int, height: int, model: Model, backend: str | None = None) -> int:
    """(SPEC 8.5) Bytes of working memory for one picture: an upper bound, less than twice what is taken.

    Counted are the maps that the walk holds and one context's beside them, all maps of g_s for one strip, the picture,
    and the weights; NumPy's convolutions hold up to 128 MiB of float64 more. Not counted are the interpreter with its
    libraries, about 100 MiB, and the stream.

    Parameters
    ----------
    width, height : int
        Size of the picture, before it is padded to multiples of 64.
    model : Model
    backend : "numba", "numpy" or None for ``REFCODEC_BACKEND``
    """
    columns, rows = (-(-n // 64) * 64 for n in (width, height))
    config = model.config
    area = rows * columns
    strip = min(area, 256 * max(STRIP // (64 * config.N[0]), 4 * columns // 16))
    walk, synthesis = area / 256 * _walk_bytes(config), strip * _synthesis_bytes(config)
    if (backend or default_backend()) == "numpy":
        synthesis += min(_NUMPY, 2400 * area)
    picture = 6 * area + 9 * strip  # samples and what the caller makes of them; clamped planes of a strip
    return int(SPARE * (walk + synthesis) + picture) + model_bytes(model)


__all__ = ["memory_estimate", "model_bytes"]
