"""Vectors of several suites for what mutants of the decoder showed to be missing (conformance/mutants)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refcodec.arith.checkerboard import ANCHOR
from refcodec.model.proof import INT16_MAX
from refcodec.model.registry import load_model

from ...synthetic.models import broken_files, broken_models
from ...synthetic.models.procedural import edited_file, manifest_entry, model
from ...synthetic.streams import sealed
from ...synthetic.writer import random_stream, stream_of
from ...synthetic.z_tables import Z_EXOTIC
from ..registry import Case, Reject, generator


def _naming(data: bytes, fingerprint: bytes) -> bytes:
    """(SPEC 8.1) A stream that names another model."""
    return sealed(data[:16] + fingerprint + data[32:-4])


@generator("invalid", "models")
def models() -> Iterator[Case]:
    """Models with one fault each: every number out of its range, every rule of configurations, symbol tables and proofs
    broken by the least amount, every structure of model files that readers refuse. The stream is valid but for the
    model it names, whose file is that of nano-7 after some edits.
    """
    data = random_stream(model(broken_models.BASE), 1, 24, 16)
    for fault in (*broken_models.FAULTS, *broken_files.FAULTS):
        named = bytes.fromhex(manifest_entry(fault.model)["fingerprint"])
        yield Case(
            f"invalid/model-{fault.name}",
            _naming(data, named),
            fault.model,
            fault.clauses,
            f"A model is loaded that has {fault.says}; a decoder that checks models refuses it as a whole.",
            f"nano-7 with {fault.says}",
            Reject("InvalidModel", phase="model"),
        )


@generator("core", "model-files")
def model_files() -> Iterator[Case]:
    """One model in files that are written in other ways: compact, in chunks, with and without filters, with more
    attributes, groups and provenance.
    """
    data = random_stream(model(broken_models.BASE), 2, 40, 24)
    for sound in broken_files.SOUND:
        yield Case(
            f"core/model-{sound.name}",
            data,
            sound.model,
            ("10.1-1", "B.1-1", *sound.clauses),
            f"A model file with {sound.says} is not read, or not to the same numbers.",
            f"nano-7 with {sound.says}",
        )


@generator("extremes", "models")
def limits_of_models() -> Iterator[Case]:
    """Models that reach a bound of the proof exactly, and one whose shifts, clamps and formats are at their limits."""
    for n, sound in enumerate(broken_models.SOUND):
        yield Case(
            f"extremes/model-{sound.name}",
            random_stream(load_model(edited_file(sound.model)), 10 + n, 40, 70),
            sound.model,
            sound.clauses,
            f"A model with {sound.says} is refused, or such shifts and clamps are computed otherwise.",
            f"nano-7 with {sound.says}, random symbols, seed {10 + n}",
        )


@generator("extremes", "norm-ties")
def norm_ties() -> Iterator[Case]:
    """Normalisations whose quotients are -15/2, -1/2, 1/2 and 15/2 exactly: each rounding rule but halves up gives
    another number for one of them.
    """

    def choose_y(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        symbols = np.zeros(levels.shape, np.int32)
        if (i, parity) == (0, ANCHOR):
            for n, (row, column) in enumerate(np.ndindex(levels.shape[:2])):
                symbols[row, column, n % levels.shape[2]] = 1 - 2 * ((row + column) % 2)
        return symbols

    yield Case(
        "extremes/norm-ties",
        stream_of(model("attentions"), 64, 64, choose_y=choose_y),
        "attentions",
        ("5.2-3", "5.6-1", "5.6-3"),
        "A quotient of the normalisation is rounded to even or away from zero.",
        "one symbol 1 or -1 among zeros at every anchor of slice 0",
        definition=True,
    )


@generator("extremes", "mean-ends")
def mean_ends() -> Iterator[Case]:
    """Means that saturate at either end, and symbols that bring y_hat from there back to 1 and -1."""

    def choose_z(medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        symbols = np.zeros(shape, np.int32)
        symbols[:, :, list(Z_EXOTIC)] = [512 * (-1) ** n for n in range(len(Z_EXOTIC))]
        return symbols

    def choose_y(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        return np.where(np.abs(means) == INT16_MAX, -512 * np.sign(means), 0)

    yield Case(
        "extremes/mean-ends",
        stream_of(model("wires"), 64, 64, choose_z=choose_z, choose_y=choose_y),
        "wires",
        ("5.1-2", "6.8-5", "6.9-1"),
        "Means saturate at another number than 32767 and -32767.",
        "symbols 512 and -512 of z, and of y those of the other sign",
    )


@generator("geometry", "tall")
def tall() -> Iterator[Case]:
    """Thousands of rows: decoders that work strip by strip or block by block have more than one of them, and sums over
    all positions exceed 32 bits.
    """
    for name, height, seed in (("wide-7", 8200, 1), ("slices-7", 11300, 3)):
        data = random_stream(model(name), seed, 64, height, style="plain")
        yield Case(
            f"geometry/tall-{name.removesuffix('-7')}-{height}",
            data,
            name,
            ("1.3-4", "4.1-1", "5.9-2", "5.9-3", "9.1-1"),
            "Strips or blocks are not joined rightly, or sums over positions wrap in 32 bits.",
            f"64x{height}, random symbols, seed {seed}",
        )
