"""The process in which a Python callable decodes: ``python -m conformance.run.worker package.module:function``.

It serves as conformance/run/README.md describes, writes NPY files, and prints to standard error.
An exception becomes an exit code as outcomes.py reads it: a class that SPEC names, or ValueError, is a refusal;
NotImplementedError or one whose ``exit_code`` is 69 means "not supported".
"""

from __future__ import annotations

import inspect
import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from ..kit.vectors import ERROR_CLASSES

Function = Callable[..., np.ndarray]


def load(name: str) -> Function:
    """The callable of this name."""
    module, _, attribute = name.partition(":")
    function: Function = getattr(import_module(module), attribute)
    return function


def npy_file(samples: np.ndarray) -> bytes:
    """An array as a NPY file; raises TypeError for what is no picture of 8 bits."""
    array = np.asarray(samples)
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and 2 <= array.shape[2] <= 4)):
        raise TypeError(f"the callable returned {array.dtype} {array.shape}, expected uint8 [H, W] or [H, W, 2..4]")
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def classify(error: BaseException) -> dict[str, Any]:
    """A reply for an exception."""
    names = [kind.__name__ for kind in type(error).__mro__]
    known = [name for name in names if name in ERROR_CLASSES]
    if type(error) is ValueError:
        known = [word for word in ERROR_CLASSES if word in str(error)]
    if isinstance(error, NotImplementedError) or getattr(error, "exit_code", None) == 69:
        code = 69
    elif isinstance(error, MemoryError):
        code = 1
    elif "LimitExceeded" in known:
        code = 77
    else:
        code = 65 if known or isinstance(error, ValueError) else 70
    return {"exit_code": code, "error": known[0] if known else type(error).__name__}


def decode(function: Function, request: dict[str, Any]) -> dict[str, Any]:
    """Answer one request."""
    with open(request["stream"], "rb") as file:
        stream = file.read()
    known = inspect.signature(function).parameters
    extra = {name: request[name] for name in ("trace", "threads") if name in known}
    try:
        data = npy_file(function(stream, request["model"], **extra))
    except Exception as error:
        reply = classify(error)
        if reply["exit_code"] in (1, 70):
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return reply
    with open(request["output"], "wb") as file:
        file.write(data)
    return {"exit_code": 0}


def serve(function: Function) -> None:
    """Answer requests until standard input ends."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    out.write(b'{"serves": 1}\n')
    for line in sys.stdin.buffer:
        request = json.loads(line)
        out.write(json.dumps({"id": request["id"], **decode(function, request)}).encode() + b"\n")


if __name__ == "__main__":
    serve(load(sys.argv[1]))
