"""The slice walk (SPEC 6.3): z, then every slice's anchors and non-anchors; written once, for both directions.

A port (refcodec/entropy/ports.py) either writes the symbols it chooses or reads those the stream holds; nothing here
knows which. The walk therefore is the decoder, and the encoder that runs it cannot drift from it.
"""

from __future__ import annotations

import numpy as np

from .architecture import Config
from .arith.checkerboard import ANCHOR, NONANCHOR, put
from .arith.engine import Engine
from .arith.maps import interior
from .entropy.ports import Port
from .nets import contexts
from .nets.heads import entropy_parameters, latent_residual
from .nets.hyperprior import hyper_synthesis


def walk(engine: Engine, config: Config, medians: np.ndarray, port: Port, height: int, width: int) -> np.ndarray:
    """(SPEC 6.3) Code z and every slice through the port.

    Parameters
    ----------
    medians : np.ndarray [hyper], int32, Q6
        Medians of the factorized prior.
    height, width : int
        Latent size: padded picture / 16, multiples of 4.

    Returns
    -------
    map [height + 4, width + 4, M], int16, Q6
        y_hat, every slice finished.
    """
    M, ch = config.M, config.ch
    z_hat = engine.map(height // 4, width // 4, config.hyper)
    symbols = port.z(medians, (height // 4, width // 4, config.hyper))
    interior(z_hat)[...] = engine.reconstruct(symbols, medians)
    engine.show("z_hat", interior(z_hat))

    # One map holds all that later steps read: hyper scales, hyper means, context copies of the slices in order.
    known = engine.map(height, width, 3 * M)
    hyper = known[:, :, :2 * M]
    hyper_synthesis(engine, z_hat, out=hyper)
    interior(known)[:, :, 2 * M:] = 0
    y_hat = engine.map(height, width, M)
    interior(y_hat)[...] = 0

    for i in range(config.slices):
        first, end = 2 * M + i * ch, 2 * M + (i + 1) * ch
        previous, current = known[:, :, 2 * M:first], known[:, :, first:end]
        y_i = y_hat[:, :, i * ch:(i + 1) * ch]
        references = [hyper]
        if i:
            references = [contexts.global_inter_context(engine, i, previous),
                          contexts.channel_context(engine, i, previous), hyper]
        spatial: list[np.ndarray] = []
        local: list[np.ndarray] = []
        for parity in (ANCHOR, NONANCHOR):
            if parity == NONANCHOR:
                local = [contexts.local_context(engine, i, y_i)]
                if i:
                    spatial = [contexts.global_intra_context(engine, i, previous[:, :, -ch:], current)]
            levels, means = entropy_parameters(engine, i, parity,
                                               engine.gather([*spatial, *references], parity, packed=local))
            symbols = port.y(i, parity, levels, means)
            values = engine.reconstruct(symbols, means)
            put(interior(y_i), parity, values)
            engine.rescale(f"ctx/{i}", y_i, out=current)
            residual = latent_residual(engine, i, parity, known[:, :, M:end])
            put(interior(y_i), parity, engine.refine(values, residual))
            engine.rescale(f"ctx/{i}", y_i, out=current)
        engine.show(f"y_hat/{i}", interior(y_i))
    return y_hat

