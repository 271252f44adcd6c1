"""Required outcome of a stream: computed by the reference with both backends, which must agree."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from refcodec.bitstream.container import parse
from refcodec.codec import decode_stream
from refcodec.errors import RefcodecError
from refcodec.model.file import read_content
from refcodec.model.integer_model import Model
from refcodec.trace import Recorder

from ..kit.blocks import digests
from ..kit.specification import definition, plain_content
from ..kit.vectors import ERROR_CLASSES, Accept, Reject
from ..synthetic.models import procedural as models
from .registry import Case, reject

BACKENDS = ("numba", "numpy")


class Disagreement(Exception):
    """Two computations of one expectation differ, or differ from what the generator says."""


def _accept(samples: np.ndarray) -> Accept:
    channels = samples.shape[2] if samples.ndim == 3 else 1
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    return Accept(samples.shape[1], samples.shape[0], channels, digest, digests(samples))


def _reject(error: str) -> Reject:
    if error not in ERROR_CLASSES:
        raise Disagreement(f"{error} is no class by which streams are refused")
    return reject(error)


def decoded(data: bytes, model: Model | Path | None, backend: str, trace: Recorder | None = None) -> Accept | Reject:
    """(SPEC 1.4-1) Outcome of refcodec for a stream, by one backend.

    Parameters
    ----------
    data : bytes
        The stream.
    model : Model, Path or None
        None for a stream that needs no model.
    backend : "numba" or "numpy"
    trace : Recorder or None
        Records the stages, the samples last.

    Returns
    -------
    Accept or Reject
    """
    try:
        samples, _ = decode_stream(data, model=model, threads=1, backend=backend, trace=trace)
    except RefcodecError as error:
        return _reject(type(error).__name__)
    if trace:
        trace("samples", samples)
    return _accept(samples)


@cache
def _defined_model(name: str) -> Any:
    made = models.source(name)
    content = read_content(models.edited_file(name))[0] if made.edited else made.content()
    return definition().build_model(plain_content(dict(content)))


def defined(data: bytes, name: str | None, spec: ModuleType | None = None) -> Accept | Reject:
    """(SPEC 6.10-3, 8.5) Outcome of SPEC.md's blocks for a stream.

    Parameters
    ----------
    data : bytes
        The stream.
    name : str or None
        Name of its model, None for a stream that needs no model.
    spec : module or None
        Blocks that replace those of SPEC.md.

    Returns
    -------
    Accept or Reject
    """
    spec = spec or definition()
    try:
        header = spec.parse_stream(data)
    except ValueError as error:
        return _reject(str(error))
    if name is None and not header["lossless"]:
        return _reject("ModelError")
    try:
        samples = np.array(spec.decode_picture(data, _defined_model(name) if name else None), np.uint8)
    except ValueError as error:
        return _reject(
            str(error)
            if str(error) in ERROR_CLASSES
            else "SymbolError"
            if "symbol" in str(error).split()[0]
            else "CoderError"
        )
    return _accept(samples)


def expectation(case: Case) -> tuple[Accept | Reject, bytes]:
    """Required outcome of a case, and its trace: lines of JSON, empty where none is requested.

    Raises
    ------
    Disagreement
        The backends, SPEC.md's executable blocks and the generator's stated expectation disagree.
    """
    model = models.argument(case.model) if case.model else None
    found: list[tuple[str, Accept | Reject, bytes]] = []
    for backend in BACKENDS:
        recorder = Recorder() if case.trace else None
        outcome = decoded(case.data, model, backend, recorder)
        lines = "".join(stage.line() + "\n" for stage in recorder.stages) if recorder else ""
        found.append((backend, outcome, lines.encode()))
    if case.definition or model is None:
        found.append(("SPEC.md", defined(case.data, case.model), found[0][2]))
    _, outcome, trace = found[0]
    if any((other, lines) != (outcome, trace) for _, other, lines in found):
        raise Disagreement(f"{case.id}: " + "; ".join(f"{who}: {what}" for who, what, _ in found))
    if isinstance(outcome, Accept) and model is None and not parse(case.data).header.lossless:
        raise Disagreement(f"{case.id}: a valid stream needs a model")
    return _as_said(case, outcome), trace


def picture(case: Case) -> bytes:
    """The samples of a valid stream, one byte each (SPEC 8.1)."""
    model = models.argument(case.model) if case.model else None
    return decode_stream(case.data, model=model, threads=1)[0].tobytes()


def _as_said(case: Case, outcome: Accept | Reject) -> Accept | Reject:
    """The outcome as the generator says it, if that is the same."""
    said = case.expect
    if said is None:
        return outcome
    if isinstance(said, Reject) and isinstance(outcome, Reject) and said.error == outcome.error:
        return said
    if said != outcome:
        raise Disagreement(f"{case.id}: the generator says {said}, the reference {outcome}")
    return outcome
