"""The slice walk (SPEC 6.3): z, then every slice's anchors and non-anchors; written once, for both directions.

A port (refcodec/entropy/ports.py) either writes the symbols it chooses or reads those the stream holds; nothing here
knows which. The walk therefore is the decoder, and the encoder that runs it cannot drift from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .arith.checkerboard import ANCHOR, NONANCHOR
from .arith.maps import interior
from .arith.protocols import NetworkOps
from .entropy.ports import Port, SlicePort
from .model.config import Config
from .nets import contexts
from .nets.heads import entropy_parameters, latent_residual
from .nets.hyperprior import hyper_synthesis
from .tiles import Z_STRIDE, Tile, TileGrid


def walk(engine: NetworkOps, config: Config, medians: np.ndarray, port: Port, height: int, width: int) -> np.ndarray:
    """(SPEC 6.3) Code a picture of one tile through the port: z, then every slice.

    Parameters
    ----------
    engine : NetworkOps
    config : Config
    medians : np.ndarray [hyper], int32, Q6
        Medians of the factorized prior.
    port : Port
        Chooses or reads the symbols.
    height, width : int
        Latent size: padded picture / 16, multiples of 4.

    Returns
    -------
    map [height + 4, width + 4, M], int16, Q6
        y_hat, every slice finished.
    """
    z_hat = engine.map(height // 4, width // 4, config.hyper)
    symbols = port.z(medians, (height // 4, width // 4, config.hyper))
    interior(z_hat)[...] = engine.reconstruct(symbols, medians)
    engine.show("z_hat", interior(z_hat))
    return walk_slices(engine, config, hyper_synthesis(engine, z_hat), port)


def walk_tiles(
    engine: NetworkOps, config: Config, medians: np.ndarray, grid: TileGrid, ports: Sequence[Port]
) -> Iterator[tuple[Tile, np.ndarray]]:
    """(SPEC 4.4, 6.3) Code a picture in tiles through their ports: z of all tiles first, then tile after tile.

    It holds the hyper parameters of the whole picture. `refcodec.flow` does the same for pictures of any size.

    Parameters
    ----------
    engine : NetworkOps
    config : Config
    medians : np.ndarray [hyper], int32, Q6
        Medians of the factorized prior.
    grid : TileGrid
    ports : sequence of Port
        One for each tile.

    Yields
    ------
    Tile and its y_hat, a map [height + 4, width + 4, M], int16, Q6
    """
    z_hat = engine.map(grid.height // Z_STRIDE, grid.width // Z_STRIDE, config.hyper)
    for tile, port in zip(map(grid.tile, range(grid.count)), ports, strict=True):
        top, left, height, width = (n // Z_STRIDE for n in (tile.top, tile.left, tile.height, tile.width))
        symbols = port.z(medians, (height, width, config.hyper))
        interior(z_hat)[top : top + height, left : left + width] = engine.reconstruct(symbols, medians)
    engine.show("z_hat", interior(z_hat))
    hyper = interior(hyper_synthesis(engine, z_hat))
    for tile, port in zip(map(grid.tile, range(grid.count)), ports, strict=True):
        part = engine.map(tile.height, tile.width, 2 * config.M)
        interior(part)[...] = hyper[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        yield tile, walk_slices(engine, config, part, port)


def walk_slices(engine: NetworkOps, config: Config, hyper: np.ndarray, port: SlicePort) -> np.ndarray:
    """(SPEC 6.3) Code every slice of a picture or of a tile through the port.

    Parameters
    ----------
    engine : NetworkOps
    config : Config
    hyper : map [height + 4, width + 4, 2 M], int16
        Hyper parameters of the picture or of the tile's part of it. They are freed when they have been copied, if the
        caller keeps no reference.
    port : SlicePort
        Chooses or reads the symbols.

    Returns
    -------
    map [height + 4, width + 4, M], int16, Q6
        y_hat, every slice finished.
    """
    M, ch = config.M, config.ch
    height, width = interior(hyper).shape[:2]
    # One map holds what residuals and later slices read: hyper means, then the context copies of the slices in order.
    known = engine.map(height, width, 2 * M)
    interior(known)[:, :, :M] = interior(hyper)[:, :, M:]
    interior(known)[:, :, M:] = 0
    # One packed map for each half of the checkerboard holds what entropy parameters read, with all of hyper last, so
    # that it is gathered once: local 2 C, intra 2 C, inter 2 C, channel 4 C, hyper 2 M.
    halves = {parity: engine.map(height, width // 2, 10 * ch + 2 * M) for parity in (ANCHOR, NONANCHOR)}
    for parity, half in halves.items():
        engine.half(hyper, parity, half[:, :, 10 * ch :])
    del hyper
    y_hat = engine.map(height, width, M)
    interior(y_hat)[...] = 0

    for i in range(config.slices):
        first, end = M + i * ch, M + (i + 1) * ch
        previous, current = known[:, :, M:first], known[:, :, first:end]
        y_i = y_hat[:, :, i * ch : (i + 1) * ch]
        if i:
            contexts.global_inter_context(engine, i, previous, {p: h[:, :, 4 * ch : 6 * ch] for p, h in halves.items()})
            contexts.channel_context(engine, i, previous, {p: h[:, :, 6 * ch : 10 * ch] for p, h in halves.items()})
        for parity, half in halves.items():
            if parity == ANCHOR:
                references = half[:, :, (4 if i else 10) * ch :]
            else:
                references = half[:, :, (0 if i else 8) * ch :]  # of the first slice's only local, in addition to hyper
                contexts.local_context(engine, i, y_i, references[:, :, : 2 * ch])
                if i:
                    contexts.global_intra_context(engine, i, previous[:, :, -ch:], current, half[:, :, 2 * ch : 4 * ch])
            levels, means = entropy_parameters(engine, i, parity, references)
            engine.place(f"ctx/{i}", port.y(i, parity, levels, means), means, parity, y_i, current)
            layer, residual = latent_residual(engine, i, parity, known[:, :, :end])
            engine.add_residual(f"ctx/{i}", layer, residual, parity, y_i, current)
        engine.show(f"y_hat/{i}", interior(y_i))
    return y_hat
