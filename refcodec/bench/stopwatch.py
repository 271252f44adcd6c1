"""Where the time of a call goes: every operation of the engine and the ports, by stage.

The codec is given parts (``codec.Parts``) that note when they begin and end: an engine and ports with timed public
methods, and timed functions. The outermost call counts, so an operation that consists of others is one. The time
between operations is counted too, and so the stages of a run sum to its time. The layer table's name of an operation
identifies its stage.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arith.maps import interior
from ..flow import Parts

CONTAINER, INPUT, CODER, WALK, OUTPUT, BETWEEN = (
    "container",
    "input",
    "coder",
    "slice walk",
    "output",
    "between operations",
)

_PARTS = {
    "y": "g_a/6",
    "z": "h_a",
    "h_a": "h_a",
    "h_s": "h_s",
    "local": "local context",
    "chan": "channel context",
    "inter": "inter-slice context",
    "intra": "intra-slice context",
    "ep_anchor": "entropy parameters",
    "ep_nonanchor": "entropy parameters",
    "lrp_anchor": "latent residual",
    "lrp_nonanchor": "latent residual",
}
"""Stages by the first part of an operation's name; g_a and g_s have one a block."""

_METHODS = {
    "levels_and_means": "entropy parameters",
    "half": "entropy parameters",
    "masked": "intra-slice context",
    "symbols": CODER,
}
"""Stages of operations without a name."""

STAGES = {
    "encode": (
        CONTAINER,
        INPUT,
        *(f"g_a/{n}" for n in range(7)),
        "h_a",
        CODER,
        "h_s",
        "local context",
        "channel context",
        "inter-slice context",
        "intra-slice context",
        "entropy parameters",
        "latent residual",
        WALK,
        *(f"g_s/{n}" for n in range(8)),
        OUTPUT,
        BETWEEN,
    )
}
"""Stages of each direction in the order of the codec: container is checks, header and checksum; input is padding;
slice walk places symbols and residuals; output is clamp, crop and digest."""
STAGES["decode"] = tuple(s for s in STAGES["encode"] if s not in (INPUT, "h_a") and not s.startswith("g_a/"))

CONVOLUTION, OTHER, CODING = KINDS = ("convolution", "other", "coding")

_NO_OPERATIONS = ("map", "show", "channels")
"""Public methods of the engine that compute nothing."""

Key = tuple[str, str, str]
"""Stage, operation and kind."""


def stage_of(method: str, name: str) -> str:
    """The stage of an engine's operation by its name, or its method where it has none."""
    part, _, rest = name.partition("/")
    if part in ("g_a", "g_s"):
        block = rest.split("/")[0]
        return f"{part}/{0 if block == 'input' else block}"
    return _PARTS.get(part) or _METHODS.get(method, WALK)


@dataclass
class Clock:
    """Notes what operations take.

    Attributes
    ----------
    events : list of (Key, float, float)
        Beginning and end of every outermost operation.
    computed : Counter of str
        Numbers of every convolution's result that were computed; half of the map's where only one half of the
        checkerboard is.
    """

    events: list[tuple[Key, float, float]] = field(default_factory=list)
    computed: Counter[str] = field(default_factory=Counter)
    _busy: bool = False
    _inner: bool = False

    def call(self, key: Key, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a function, and record its times unless it is part of another operation.

        Parameters
        ----------
        key : Key
            Stage, operation and kind.
        name : str
            Name in the layer table.
        function : callable
        args, kwargs
            Its arguments.

        Returns
        -------
        object
            The result of the function.
        """
        counts = key[2] == CONVOLUTION
        if self._busy:
            result = function(*args, **kwargs)
            if counts:
                self._count(name, result)
                self._inner = True
            return result
        self._busy, self._inner = True, False
        start = time.perf_counter()
        try:
            result = function(*args, **kwargs)
        finally:
            self.events.append((key, start, time.perf_counter()))
            self._busy = False
        if counts and not self._inner:  # one that consists of convolutions has counted them
            self._count(name, result)
        return result

    def _count(self, name: str, result: Any) -> None:
        if isinstance(result, np.ndarray):
            self.computed[name] += interior(result).size

    def seconds(self, start: float, end: float) -> dict[Key, float]:
        """Seconds from start to end by operation, the time before, between and after operations included."""
        found: dict[Key, float] = {}
        at, stage = start, CONTAINER
        for key, began, ended in [*self.events, ((BETWEEN, "", OTHER), end, end)]:
            rest = {"g_s/7": OUTPUT, CONTAINER: CONTAINER}.get(stage, BETWEEN)
            for each, time_ in (((rest, "", OTHER), began - at), (key, ended - began)):
                found[each] = found.get(each, 0.0) + time_
            at, stage = ended, key[0]
        return found


def _timed_method(method: str, member: Any, clock: Clock, stage: str | None) -> Callable[..., Any]:
    static = isinstance(member, staticmethod)
    function = member.__func__ if static else member

    @functools.wraps(function)
    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        name = args[0] if args and isinstance(args[0], str) else ""
        kind = CODING if stage else CONVOLUTION if method.startswith("conv") else OTHER
        key = (stage or stage_of(method, name), name or method, kind)
        return clock.call(key, name, function, args if static else (self, *args), kwargs)

    return timed


def timed_class(cls: type, clock: Clock, stage: str | None = None) -> type:
    """A subclass whose public methods are operations: of ``stage``, or of the stage that their first argument names."""
    members = {name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")}
    methods = {
        name: _timed_method(name, member, clock, stage)
        for name, member in members.items()
        if name not in _NO_OPERATIONS and (inspect.isfunction(member) or isinstance(member, staticmethod))
    }
    return type(f"Timed{cls.__name__}", (cls,), methods)


def _timed_function(function: Callable[..., Any], clock: Clock, stage: str) -> Callable[..., Any]:
    key = (stage, function.__name__, OTHER)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        return clock.call(key, "", function, args, kwargs)

    return timed


def timed_parts(clock: Clock) -> Parts:
    """The codec's parts, each of which notes its operations on the clock; for one thread at a time.

    Checks and parsing need no timed part: they come before the first operation, so they count as container.
    """
    parts = Parts()
    return Parts(
        engine=timed_class(parts.engine, clock),
        reader=timed_class(parts.reader, clock, CODER),
        writer=timed_class(parts.writer, clock, CODER),
        pad_rows=_timed_function(parts.pad_rows, clock, INPUT),
        serialise=_timed_function(parts.serialise, clock, CONTAINER),
    )


def watch(run: Callable[[Parts], Any]) -> tuple[Clock, dict[Key, float]]:
    """Call the function once with timed parts, with which it codes: the clock, and the seconds of every operation."""
    clock = Clock()
    parts = timed_parts(clock)
    start = time.perf_counter()
    run(parts)
    end = time.perf_counter()
    return clock, clock.seconds(start, end)


def recording_cost(calls: int = 1000, batches: int = 20) -> float:
    """Seconds that noting one operation takes, in the best of some batches."""

    class Nothing:
        def nothing(self, name: str) -> None:
            pass

    def best(cls: type) -> float:
        nothing, times = cls().nothing, []
        for _ in range(batches):
            start = time.perf_counter()
            for _ in range(calls):
                nothing("g_s/0/conv1")
            times.append(time.perf_counter() - start)
        return min(times) / calls

    return best(timed_class(Nothing, Clock())) - best(Nothing)
