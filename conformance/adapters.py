"""refcodec as a decoder under test, by a call or by a server.

    python -m conformance run --decoder python:conformance.adapters:refcodec_decode
    python -m conformance run --serve "python -m conformance.adapters" --output-format npy

The only module of the runner's side that imports refcodec, and only when it is called.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .run.worker import serve

if TYPE_CHECKING:
    from refcodec.model.integer_model import Model


@lru_cache(maxsize=8)
def _model(path: str | None) -> Model:
    import refcodec

    return refcodec.load_model(path)


def refcodec_decode(
    stream: bytes, model: str | None, trace: str | None = None, threads: int | None = None
) -> np.ndarray:
    """Decode a stream.

    Parameters
    ----------
    stream : bytes
    model : str or None
        Path of the model; None finds the one that the stream names.
    trace : str or None
        Where to write SHA-256 of every stage, as ``python -m refcodec trace`` does.
    threads : int or None
        None uses what the machine has.

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

    found = _model(model) if model else None
    if trace is None:
        return refcodec.decode(stream, model=found, threads=threads)
    recorder = Recorder()
    try:
        return refcodec.decode(stream, model=found, threads=threads, trace=recorder)
    finally:
        Path(trace).write_text("".join(f"{stage.line()}\n" for stage in recorder.stages))


if __name__ == "__main__":
    serve(refcodec_decode)
