"""refcodec as a decoder under test: ``--decoder python:conformance.adapters:refcodec_decode``.

The only module of the runner's side that imports refcodec, and only when it is called.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from refcodec.model.integer_model import Model


@lru_cache(maxsize=8)
def _model(path: str | None) -> Model:
    import refcodec

    return refcodec.load_model(path)


def refcodec_decode(stream: bytes, model: str | None, trace: str | None = None) -> np.ndarray:
    """Decode a stream.

    Parameters
    ----------
    stream : bytes
    model : str or None
        Path of the model; None finds the one that the stream names.
    trace : str or None
        Where to write SHA-256 of every stage, as ``python -m refcodec trace`` does.

    Returns
    -------
    numpy.ndarray
        [H, W] or [H, W, C] uint8, alpha last.

    Raises
    ------
    refcodec.RefcodecError
    """
    import refcodec
    from refcodec.trace import Recorder

    if trace is None:
        return refcodec.decode(stream, model=_model(model) if model else None)
    recorder = Recorder()
    try:
        return refcodec.decode(stream, model=_model(model) if model else None, trace=recorder)
    finally:
        Path(trace).write_text("".join(f"{stage.line()}\n" for stage in recorder.stages))
