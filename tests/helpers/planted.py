"""A decoder with faults planted, its traces, and a stream that shows them."""

import json
from collections.abc import Callable
from functools import cache
from unittest import mock

import numpy as np

import refcodec.flow
from conformance.locate.traces import Stage, Trace, stage_of
from conformance.synthetic.writer import random_stream
from refcodec.arith.engine import Engine
from refcodec.codec import decode_stream
from refcodec.errors import RefcodecError
from refcodec.flow import Parts
from refcodec.model.integer_model import Model
from refcodec.model.procedural import procedural_model
from refcodec.planes import crop_samples


@cache
def model() -> Model:
    """The tiny procedural model."""
    return procedural_model("tiny", 7)


@cache
def stream(channels: int = 3) -> bytes:
    """A stream of random symbols, some of them extreme, so that clamps are met."""
    return random_stream(model(), 3, 40, 70, channels, 60, "mixed", digest=False)


@cache
def tiled() -> bytes:
    """A stream of four tiles, the last ones smaller than 64x64 samples before padding."""
    return random_stream(model(), 3, 100, 70, 3, 60, "mixed", digest=False, tile=(1, 1))


def traced(
    data: bytes,
    used: Model | None = None,
    engine: type[Engine] = Engine,
    crop: Callable[..., np.ndarray] = crop_samples,
) -> Trace:
    """The trace of a decoder that is refcodec but for the given parts; it may end early."""
    stages: list[Stage] = []
    kept: list[np.ndarray] = []

    def see(name: str, values: np.ndarray) -> None:
        stages.append(stage_of(name, values, len(stages)))
        kept.append(values.copy())

    options = {"model": used or model(), "threads": 1, "backend": "numpy", "parts": Parts(engine=engine)}
    with mock.patch.object(refcodec.flow, "crop_samples", crop):
        try:
            see("samples", decode_stream(data, trace=see, **options)[0])
        except RefcodecError:
            pass
    return Trace(tuple(stages), "the tested", lambda stage: kept[stage.index or 0])


@cache
def reference(channels: int = 3) -> Trace:
    """The right trace."""
    return traced(stream(channels))


@cache
def tiled_reference() -> Trace:
    """The right trace of the stream of four tiles."""
    return traced(tiled())


def altered(trace: Trace, at: int) -> Trace:
    """The trace with other values at one stage."""
    values = trace.values(trace.stages[at]).copy()
    values.flat[-1] ^= 1
    stages = list(trace.stages)
    stages[at] = stage_of(stages[at].name, values, at)
    return Trace(tuple(stages), "altered", lambda s: values if s.index == at else trace.values(s))


def write_trace(path, folder, trace):
    """Write a trace as a third party may."""
    with path.open("w") as file:
        for stage in trace.stages:
            name = f"{stage.index}.npy"
            file.write(
                json.dumps(
                    {
                        "index": stage.index,
                        "name": stage.name,
                        "shape": stage.shape,
                        "dtype": stage.dtype,
                        "sha256": stage.sha256,
                        "file": name,
                    }
                )
                + "\n"
            )
            np.save(folder / name, trace.values(stage))
