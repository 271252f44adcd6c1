"""Where two traces part first: the stage, its slice and pass, the element, and what feeds it. Pure functions.

"First" is meant in the order of computation (SPEC 6.3), so that everything the stage reads was compared before and is
equal, or is not in the tested trace and then named as equally suspect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .stages import HALVES, Key, Network, Node, in_tile, keyed, network, way_back
from .symptoms import symptoms
from .traces import Stage, Trace, TraceError, digest


@dataclass(frozen=True)
class Element:
    """The first number that differs, in the order row, column, channel.

    Attributes
    ----------
    place : tuple of int
        Row, column and channel in the stage's array.
    expected, got : int
    """

    place: tuple[int, ...]
    expected: int
    got: int


class Area(NamedTuple):
    """(SPEC 4.4) The padded picture or a tile of it, in samples: its first row and column, and its size."""

    top: int
    left: int
    rows: int
    columns: int

    def holds(self, row: int, column: int) -> bool:
        """Whether a sample lies in it."""
        return 0 <= row - self.top < self.rows and 0 <= column - self.left < self.columns


@dataclass(frozen=True)
class Divergence:
    """The first stage at which a tested trace differs from the reference.

    Attributes
    ----------
    key : Key
    node : Node
        What the stage is; of z_hat in a tiled stream with the tile that the element lies in.
    kind : str
        "values", "shape", "dtype" (another type, and no values to compare), or "order" (another stage has this index).
    expected, got : Stage
    element : Element or None
        None where values are missing on either side, or shapes differ.
    differing : int or None
        How many numbers differ.
    symptoms : tuple of str
        What the differences look like.
    same_as : tuple of Key
        Stages of the reference whose values the tested decoder has here.
    equal : int
        Stages before it that were compared and are equal.
    unseen : tuple of Key
        Stages that feed it and are not in the tested trace: the fault may lie in any of them.
    known : tuple of Key
        Stages that feed these and are equal: the inputs of the suspects.
    area : Area or None
        The part of the picture that the stage is of.
    advice : str
        What would tell more; "" if nothing.
    """

    key: Key
    node: Node
    kind: str
    expected: Stage
    got: Stage
    element: Element | None = None
    differing: int | None = None
    symptoms: tuple[str, ...] = ()
    same_as: tuple[Key, ...] = ()
    equal: int = 0
    unseen: tuple[Key, ...] = ()
    known: tuple[Key, ...] = ()
    area: Area | None = None
    advice: str = ""

    @property
    def clauses(self) -> tuple[str, ...]:
        """Clauses of SPEC.md that define the stage."""
        return self.node.clauses

    def as_dict(self) -> dict[str, Any]:
        """For reports in JSON."""
        element = self.element
        return {
            "stage": self.key.name,
            "turn": self.key.turn,
            "index": self.expected.index,
            "kind": self.kind,
            "tile": self.node.tile,
            "slice": self.node.slice,
            "pass": HALVES.get(-1 if self.node.half is None else self.node.half),
            "operations": list(self.node.operations),
            "clauses": list(self.clauses),
            "expected": {
                "shape": list(self.expected.shape),
                "dtype": self.expected.dtype,
                "sha256": self.expected.sha256,
            },
            "got": {
                "name": self.got.name,
                "shape": list(self.got.shape),
                "dtype": self.got.dtype,
                "sha256": self.got.sha256,
            },
            "element": element
            and {
                "place": list(element.place),
                "expected": element.expected,
                "got": element.got,
                "position": list(self.position or ()),
            },
            "differing": self.differing,
            "symptoms": list(self.symptoms),
            "same_as": [str(k) for k in self.same_as],
            "equal": self.equal,
            "unseen": [str(k) for k in self.unseen],
            "known": [str(k) for k in self.known],
            "reads": self.node.reads,
            "advice": self.advice,
        }

    @property
    def position(self) -> tuple[int, int] | None:
        """Row and column of the element in the whole map: columns of a packed half are spread."""
        if self.element is None:
            return None
        row, column = self.element.place[:2]
        if self.node.packed and self.node.half is not None:
            column = 2 * column + (row + self.node.half) % 2
        return row, column


def first_divergence(reference: Trace, tested: Trace) -> Divergence | None:
    """The first stage at which two traces differ; None if all that both have are equal.

    Parameters
    ----------
    reference : Trace
        Whole: every stage of a decoder.
    tested : Trace
        Any subset of the stages. Values of either are asked for at the first difference only, and at stages that the
        tested trace has in another type.

    Raises
    ------
    TraceError
        The reference is not a whole trace, a stage of the tested one is unknown, or its values are damaged.
    """
    stages, wanted = _whole(reference)
    found, stray = _matched(reference, tested, wanted)
    equal: list[Key] = []
    for key in stages:
        if stray and key == stray[0]:
            return Divergence(key, stages[key], "order", wanted[key], stray[1], equal=len(equal), advice=_ORDER)
        if key in found:
            kind = _difference(wanted[key], found[key], reference)
            if kind is None:
                equal.append(key)
                continue
            return _divergence(key, kind, stages, wanted, found[key], equal, reference, tested)
    return None


def next_stage(reference: Trace, tested: Trace) -> tuple[Key, Node] | None:
    """The stage behind the last one of an equal trace: where a decoder went wrong that stopped there; None at the end.

    Raises
    ------
    TraceError
        As `first_divergence`.
    """
    stages, wanted = _whole(reference)
    found, _ = _matched(reference, tested, wanted)
    keys = list(stages)
    at = max(map(keys.index, found)) + 1
    return (keys[at], stages[keys[at]]) if at < len(keys) else None


def _whole(reference: Trace) -> tuple[Network, dict[Key, Stage]]:
    """Descriptions of the stages of a reference, and its lines."""
    stages = network(stage.name for stage in reference.stages)
    wanted = dict(zip(keyed(stage.name for stage in reference.stages), reference.stages, strict=True))
    if wanted.keys() != stages.keys():
        raise TraceError(
            f"{reference.source}: not the whole trace of a decoder, lacks "
            f"{', '.join(map(str, [k for k in stages if k not in wanted][:3])) or 'nothing'}"
        )
    return stages, wanted


_ORDER = (
    "an index counts all stages in the order of SPEC 6.3, written to the trace or not; without any index, stages "
    "are found by their names"
)


def _matched(
    reference: Trace, tested: Trace, wanted: dict[Key, Stage]
) -> tuple[dict[Key, Stage], tuple[Key, Stage] | None]:
    """The tested stages by the reference's, and the first place in the order where the tested trace has another."""
    keys, names = list(wanted), {key.name for key in wanted}
    if unknown := [stage.name for stage in tested.stages if stage.name not in names]:
        raise TraceError(
            f"{tested.source}: no stage is named {unknown[0]!r}; names are those of the layer table "
            f"(SPEC 6.1) and z_hat, y_hat/i, samples, in tiled streams those of a walk behind tiles/k/ (SPEC 13.1-8)"
        )
    if tested.stages[0].index is None:
        found = dict(zip(keyed(stage.name for stage in tested.stages), tested.stages, strict=True))
        if extra := [key for key in found if key not in wanted]:
            raise TraceError(
                f"{tested.source}: {extra[0].name} is there {extra[0].turn + 1} times, but is computed "
                f"{extra[0].turn} times"
            )
        return found, None
    found = {}
    for stage in sorted(tested.stages, key=lambda stage: stage.index or 0):
        at = stage.index or 0
        if at >= len(keys):
            raise TraceError(f"{tested.source}: index {at} ({stage.name}) is beyond the {len(keys)} stages; {_ORDER}")
        if keys[at].name != stage.name:
            return found, (keys[at], stage)
        found[keys[at]] = stage
    return found, None


def _difference(expected: Stage, got: Stage, reference: Trace) -> str | None:
    if expected.shape != got.shape:
        return "shape"
    if expected.dtype == got.dtype:
        return None if expected.sha256 == got.sha256 else "values"
    values = reference.values(expected)
    if values is None:
        return "dtype"
    return None if _as_type(values, got.dtype) == got.sha256 else "values"


def _as_type(values: np.ndarray, dtype: str) -> str | None:
    """Digest of values in another type; None if they do not fit it."""
    cast = values.astype(dtype)
    return digest(cast) if np.array_equal(cast.astype(np.int64), values) else None


def _divergence(
    key: Key,
    kind: str,
    stages: Network,
    wanted: dict[Key, Stage],
    got: Stage,
    equal: list[Key],
    reference: Trace,
    tested: Trace,
) -> Divergence:
    expected, node = wanted[key], stages[key]
    unseen, known = way_back(stages, key, equal)
    same_as = tuple(k for k, stage in wanted.items() if k != key and stage.sha256 == got.sha256)
    areas = _areas(wanted)
    area = areas[node.tile]
    common: dict[str, Any] = {
        "same_as": same_as,
        "equal": len(equal),
        "unseen": tuple(unseen),
        "known": tuple(known),
        "area": area,
    }
    if kind != "values":
        advice = f"write {key} as {expected.dtype}, or give the reference's values" if kind == "dtype" else ""
        return Divergence(key, node, kind, expected, got, **common, advice=advice)
    theirs = tested.values(got)
    ours = None if theirs is None else reference.values(expected)
    if theirs is None or ours is None:
        whose = "the tested decoder's" if theirs is None else "the reference's"
        return Divergence(
            key,
            node,
            kind,
            expected,
            got,
            **common,
            advice=f"{whose} values of {key} would name the element: there are digests alone",
        )
    differs = ours.astype(np.int64) != theirs.astype(np.int64)
    place = tuple(int(n) for n in np.argwhere(differs)[0])
    if key.name == "z_hat":
        row, column = (64 * n for n in place[:2])
        node = replace(node, tile=next((k for k in areas if k is not None and areas[k].holds(row, column)), None))
    latent = not node.packed and ours.shape[0] * 16 == area.rows
    return Divergence(
        key,
        node,
        kind,
        expected,
        got,
        Element(place, int(ours[place]), int(theirs[place])),
        int(differs.sum()),
        tuple(symptoms(ours, theirs, latent)),
        **common,
    )


def _areas(wanted: dict[Key, Stage]) -> dict[int | None, Area]:
    """The picture and its tiles by number. Sizes of tiles follow from y_hat/0, which has a row for 16 samples."""
    height, width = (-(-n // 64) * 64 for n in wanted[Key("samples")].shape[:2])
    found: dict[int | None, Area] = {None: Area(0, 0, height, width)}
    top = left = 0
    while (of_tile := Key(in_tile(len(found) - 1, "y_hat/0"))) in wanted:
        rows, columns = (16 * n for n in wanted[of_tile].shape[:2])
        found[len(found) - 1] = Area(top, left, rows, columns)
        left += columns
        if left >= width:
            top, left = top + rows, 0
    return found


def describe(found: Divergence) -> list[str]:
    """A divergence in lines for people."""
    key, node, expected, got = found.key, found.node, found.expected, found.got
    name = key.name + (f", computation {key.turn + 1} of {key.turns}" if key.turns > 1 else "")
    lines = [f"first difference: {name} (stage {expected.index})", f"  operation:  {', '.join(node.operations)}"]
    if node.pass_name:
        lines.append(f"  where:      {node.pass_name}")
    lines += [f"  {line}" for line in _what(found)]
    lines += [f"  looks like: {text}" for text in found.symptoms]
    if found.same_as:
        lines.append(f"  looks like: these are the right values of {', '.join(map(str, found.same_as[:4]))}")
    inputs = [f"{k} ({'not in your trace' if k in found.unseen else 'equal'})" for k in node.inputs]
    lines.append(f"  inputs:     {'; '.join([*inputs, *([node.reads] if node.reads else [])])}")
    if found.unseen:
        lines.append(
            f"  suspects:   {len(found.unseen)} stages before it are not in your trace: "
            f"{', '.join(map(str, found.unseen[:6]))}{' ...' if len(found.unseen) > 6 else ''}"
        )
        lines.append(
            f"              they start from {', '.join(map(str, found.known)) or 'the stream alone'}, "
            "compared and equal"
            if found.known
            else "              none of their inputs was compared"
        )
    lines.append(f"  before it:  {found.equal} stages compared, all equal")
    lines.append(f"  definition: SPEC {', '.join(found.clauses)}")
    if found.advice:
        lines.append(f"  more:       {found.advice}")
    if got.dtype != expected.dtype and found.kind == "values":
        lines.append(f"  type:       {got.dtype} in your trace, {expected.dtype} in the reference; compared as numbers")
    return lines


def _what(found: Divergence) -> list[str]:
    expected, got, element = found.expected, found.got, found.element
    if found.kind == "order":
        return [f"order:      expected {expected.name} at index {expected.index}, got {got.name}"]
    if found.kind == "shape":
        return [f"shape:      expected {list(expected.shape)}, got {list(got.shape)}"]
    if found.kind == "dtype":
        return [f"type:       expected {expected.dtype}, got {got.dtype}"]
    if element is None:
        return [f"digests:    expected {expected.sha256[:16]}..., got {got.sha256[:16]}..."]
    parts = ", ".join(f"{axis} {n}" for axis, n in zip(("row", "column", "channel"), element.place, strict=False))
    lines = [
        f"element:    {parts}: expected {element.expected}, got {element.got}",
        f"            {found.differing} of {expected.size} numbers differ",
    ]
    if found.position and found.area:
        row, column = found.position
        top, left, rows, _ = found.area
        step = max(1, rows // expected.shape[0]) if found.key.name != "samples" else 1
        if found.node.packed:
            lines.append(f"            a packed half: position ({row}, {column}) of the whole map")
        if step > 1:
            begin = f"row {top + row * step}, column {left + column * step}"
            lines.append(f"            the samples below it begin at {begin}")
    return lines
