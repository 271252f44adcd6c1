"""Vectors of several suites for what mutants of the decoder showed to be missing (conformance/mutants)."""

from __future__ import annotations

from collections.abc import Iterator

from refcodec.model_file import load_model

from ..hostile_streams import sealed
from . import broken_files, broken_models
from .models import edited_file, manifest_entry, model
from .registry import Case, Reject, generator
from .writer import random_stream


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
        yield Case(f"invalid/model-{fault.name}", _naming(data, named), fault.model, fault.clauses,
                   f"A model is loaded that has {fault.says}; a decoder that checks models refuses it as a whole.",
                   f"nano-7 with {fault.says}", Reject("InvalidModel", phase="model"))


@generator("core", "model-files")
def model_files() -> Iterator[Case]:
    """One model in files that are written in other ways: compact, in chunks, with and without filters, with more
    attributes, groups and provenance.
    """
    data = random_stream(model(broken_models.BASE), 2, 40, 24)
    for sound in broken_files.SOUND:
        yield Case(f"core/model-{sound.name}", data, sound.model, sound.clauses,
                   f"A model file with {sound.says} is not read, or not to the same numbers.",
                   f"nano-7 with {sound.says}")


@generator("extremes", "models")
def limits_of_models() -> Iterator[Case]:
    """Models that reach a bound of the proof exactly, and one whose shifts, clamps and formats are at their limits."""
    for n, sound in enumerate(broken_models.SOUND):
        yield Case(f"extremes/model-{sound.name}", random_stream(load_model(edited_file(sound.model)), 10 + n, 40, 70),
                   sound.model, sound.clauses,
                   f"A model with {sound.says} is refused, or such shifts and clamps are computed otherwise.",
                   f"nano-7 with {sound.says}, random symbols, seed {10 + n}")
