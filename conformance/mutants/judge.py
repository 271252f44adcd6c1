"""Runs refcodec on a vector, in this process and with the NumPy backend, and compares the result with the expected
one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..kit.vectors import Accept, Vector
from ..run.models import locate

THREADS = 2
"""So that sharing rows is part of what is tested; small pictures are computed by one thread all the same."""

VERIFIED = 1 << 14
"""Samples up to which a stream without a right digest is decoded a second time, to see verification fail."""

Outcome = str
"""How a decoding ended: "64x48x3 SHA-256", the name of an error class, or "crash ..."."""


@dataclass(frozen=True)
class Task:
    """A vector as needed here.

    Attributes
    ----------
    id : str
    data : bytes
        The stream, or the file of unit cases.
    model : Path or None
    expected : tuple of str
        Outcomes that are right; none for unit cases.
    count : int
        Samples of the picture, 0 if it must be refused.
    samples : str
        SHA-256 of the samples, "" if it must be refused.
    trace : Path or None
    """

    id: str
    data: bytes
    model: Path | None
    expected: tuple[Outcome, ...]
    count: int = 0
    samples: str = ""
    trace: Path | None = None


def task_of(vector: Vector) -> Task | None:
    """The task of a vector; None for models that are no file of the kit."""
    if vector.expect is None:
        return Task(vector.id, vector.read(), None, ())
    if vector.model and not vector.model.file:
        return None
    model = locate(vector.model) if vector.model else None
    if isinstance(vector.expect, Accept):
        e = vector.expect
        return Task(
            vector.id,
            vector.read(),
            model,
            (f"{e.width}x{e.height}x{e.channels} {e.samples}",),
            e.count,
            e.samples,
            vector.trace,
        )
    return Task(vector.id, vector.read(), model, vector.expect.classes)


def outcome_of(decode: Callable[[], Any]) -> Outcome:
    """Run a decoding that gives samples, and say how it ended."""
    from refcodec.errors import RefcodecError

    try:
        samples = decode()
    except RefcodecError as error:
        return type(error).__name__
    except Exception as error:  # a mutant may raise anything
        return f"crash {type(error).__name__}"
    height, width, channels = (*samples.shape, 1)[:3]
    return f"{width}x{height}x{channels} {hashlib.sha256(samples.tobytes()).hexdigest()}"


def judge(task: Task) -> str:
    """Decode a vector; "" if all is as expected, else what is not."""
    if not task.expected:
        from .unit_cases import wrong_case

        return f"case {wrong}" if (wrong := wrong_case(task.data)) else ""
    from refcodec.codec import decode_stream

    data = task.data
    model = None if task.model is None else str(task.model)

    def decode(**more: Any) -> Any:
        return decode_stream(data, model=model, threads=THREADS, backend="numpy", **more)[0]

    has_digest = bool(task.samples) and data[5] & 1 == 1 and data[36:52].hex() == task.samples[:32]
    if (outcome := outcome_of(lambda: decode(verify=has_digest))) not in task.expected:
        return outcome
    if task.samples and not has_digest and task.count <= VERIFIED:
        if (outcome := outcome_of(lambda: decode(verify=True))) != "CheckFailed":
            return f"verified {outcome}"
    return _traced(task, decode) if task.trace else ""


def _traced(task: Task, decode: Callable[..., Any]) -> str:
    """Decode while every stage is recorded, and compare with the stored lines."""
    from refcodec.trace import Recorder

    recorder = Recorder()

    def recorded() -> Any:
        samples = decode(trace=recorder)
        recorder("samples", samples)
        return samples

    if (outcome := outcome_of(recorded)) not in task.expected:
        return f"traced {outcome}"
    stored = task.trace.read_text(encoding="utf-8").splitlines() if task.trace else []
    for line, stage in zip(stored, recorder.stages, strict=False):
        if line != stage.line():
            return f"traced {stage.name}"
    return "" if len(stored) == len(recorder.stages) else "traced another number of stages"
