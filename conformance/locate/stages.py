"""Description of each stage of a trace: its operation, what it reads, its slice and half, and the clauses that define
it.

The stages of a decoder and their order follow from the names in its trace alone (SPEC 6), so this module needs no
model. A name may come again: the context copy ctx/i of slice i is made four times, whenever half of the slice gets
its symbols or its residual. A stage is therefore a name and a turn, 0 for the first. In a tiled stream the names of the
slice walk of tile k begin with tiles/k/. A picture that is stored without loss has the stage samples alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

ANCHOR, NONANCHOR = 1, 0
HALVES = {ANCHOR: "anchors", NONANCHOR: "non-anchors"}


CLAUSES = {
    "conv": ("5.3-1", "5.3-3", "5.3-4", "6.1-7"),
    "depthwise": ("5.3-7",),
    "shuffle": ("5.3-9",),
    "branch": ("5.3-5",),
    "wide": ("5.3-8",),
    "gelu": ("5.3-6", "5.3-11", "5.3-12"),
    "sum": ("5.4-1", "5.2-2"),
    "gain": ("5.4-2", "5.2-2", "6.9-4"),
    "rescale": ("5.4-3", "5.2-2"),
    "igdn": ("5.5-1", "5.5-3", "5.2-2"),
    "norm": ("5.6-1", "5.6-2", "5.6-3", "5.2-3"),
    "softmax": ("5.7-1", "5.7-2", "5.7-3", "5.7-4"),
    "local_attention": ("5.8-1", "5.8-2", "5.8-3", "5.8-4", "5.8-5", "5.8-6", "5.8-7"),
    "linear_attention": ("5.9-1", "5.9-2", "5.9-3", "5.9-4", "5.9-5", "5.9-6"),
    "half_tanh": ("5.3-11", "5.3-13", "6.8-8"),
    "scale_index": ("6.8-5", "6.8-6"),
    "reconstruction": ("6.9-1", "6.9-2"),
    "coder": ("7.2-1", "7.2-2", "7.2-3", "7.2-4", "7.3-3", "7.4-1", "7.4-2"),
    "output": ("4.3-1", "4.3-2", "4.3-3"),
    "stored": ("8.10-1", "8.11-8", "8.11-10"),
}
"""Clauses of SPEC.md that define an operation alone."""

_TILE = re.compile(r"tiles/(0|[1-9]\d*)/")


def tile_of(name: str) -> int | None:
    """(SPEC 13.1-8) The tile that a name of a stage or part is of, None for none."""
    found = _TILE.match(name)
    return int(found[1]) if found else None


def in_tile(tile: int | None, name: str) -> str:
    """(SPEC 13.1-8) The name of a stage of a tile; as it is for None."""
    return name if tile is None else f"tiles/{tile}/{name}"


def of_picture(name: str) -> bool:
    """(SPEC 13.1-8) Whether a stage or part is of the whole picture, in streams with tiles too."""
    return name.split("/")[0] in ("z_hat", "h_s", "g_s", "samples")


def own_name(name: str) -> str:
    """A stage's name in the layer table (SPEC 6.1), without that of its tile."""
    return _TILE.sub("", name, count=1)


class Key(NamedTuple):
    """A stage: its name, and how often the name came before."""

    name: str
    turn: int = 0

    @property
    def tile(self) -> int | None:
        """The tile whose walk it belongs to, None in a stream without tiles and for stages of the whole picture."""
        return tile_of(self.name)

    @property
    def own(self) -> str:
        """Its name without that of the tile."""
        return own_name(self.name)

    @property
    def turns(self) -> int:
        """How often it is computed."""
        return 4 if self.own.startswith("ctx/") else 1

    def __str__(self) -> str:
        return f"{self.name}#{self.turn}" if self.turns > 1 else self.name


@dataclass(frozen=True)
class Node:
    """Description of a stage.

    Attributes
    ----------
    operations : tuple of str
        What it computes, most important first; the names that unit vectors have.
    inputs : tuple of Key
        Stages it reads, in the order of the layer table (SPEC 6.1), a branch last.
    network : tuple of str
        Clauses of SPEC.md that say where the operation stands; those of the operations are `CLAUSES`.
    tile : int or None
        None in a stream without tiles and for stages of the whole picture.
    slice : int or None
    half : int or None
        Parity of the pass it belongs to: 1 anchors, 0 non-anchors, None both or no pass.
    packed : bool
        Only that half is computed, packed along columns.
    reads : str
        What it reads that is no stage: symbols, a part of a stage.
    """

    operations: tuple[str, ...]
    inputs: tuple[Key, ...]
    network: tuple[str, ...]
    tile: int | None = None
    slice: int | None = None
    half: int | None = None
    packed: bool = False
    reads: str = ""

    @property
    def clauses(self) -> tuple[str, ...]:
        """Clauses of SPEC.md that define it, the operation's own first."""
        return tuple(dict.fromkeys([c for o in self.operations for c in CLAUSES[o]] + list(self.network)))

    @property
    def pass_name(self) -> str:
        """Tile, slice and pass in words; empty outside the walk of a tile and of a slice."""
        words = [] if self.tile is None else [f"tile {self.tile}"]
        if self.slice is not None:
            words += [f"slice {self.slice}", "both passes" if self.half is None else HALVES[self.half]]
        return ", ".join(words)


Network = dict[Key, Node]


def network(names: Iterable[str]) -> Network:
    """(SPEC 6) Every stage of decoding, in the order of computation.

    Parameters
    ----------
    names : iterable of str
        Names of a whole trace. How many tiles and slices there are, how many layers the latent residual prediction has
        and which residual blocks change their width is read from them.
    """
    known = set(names)
    if known == {"samples"}:
        return {Key("samples"): Node(("stored",), (), ("6.10-5", "8.11-1"), reads="the chunks LOSS and ALPH")}
    table = _Table()
    named = sorted({tile for name in known if (tile := tile_of(name)) is not None})
    tiles: list[int | None] = [*named] or [None]
    first = in_tile(tiles[0], "")
    walked = {name.removeprefix(first) for name in known if name.startswith(first)}
    slices = range(sum(name.startswith("y_hat/") for name in walked))
    _hyperprior(table)
    for tile in tiles:
        table.tile = tile
        _walk(table, slices, walked)
    table.tile = None
    _synthesis(table, [in_tile(tile, f"y_hat/{i}") for tile in tiles for i in slices], known)
    return table.stages


def _walk(table: _Table, slices: Iterable[int], known: set[str]) -> None:
    """(SPEC 6.3) The slices of one tile."""
    for i in slices:
        layers = sum(name.startswith(f"lrp_anchor/{i}/") for name in known)
        table.slice, shared = i, _keys("h_s/4")
        if i:
            shared = (*_inter(table, i), *_channel(table, i), *shared)
        table.half = ANCHOR
        _entropy_parameters(table, i, shared, ("6.8-2",))
        _latent_residual(table, i, layers)
        table.half = NONANCHOR
        spatial = _local(table, i)
        if i:
            spatial += _intra(table, i)
        _entropy_parameters(table, i, spatial + shared, ("6.8-3",))
        _latent_residual(table, i, layers)
        table.half = None
        table.put(f"y_hat/{i}", ("reconstruction",), (_finished(i),), ("6.3-7", "6.3-10"), reads=_slice_of(i))
    table.slice = None


def _keys(*names: str) -> tuple[Key, ...]:
    return tuple(map(Key, names))


def _finished(i: int) -> Key:
    return Key(f"ctx/{i}", 3)


def _slice_of(i: int) -> str:
    return f"y_hat/{i}, of which ctx/{i} is the copy"


@dataclass
class _Table:
    """Collects stages; tile, slice and half are those of the part that is being described.

    Names and inputs are given, and results returned, as in a stream without tiles. A tile reads its part of h_s/4.
    """

    stages: Network = field(default_factory=dict)
    tile: int | None = None
    slice: int | None = None
    half: int | None = None

    def put(
        self,
        name: str,
        operations: tuple[str, ...],
        inputs: tuple[Key, ...],
        where: tuple[str, ...],
        *,
        turn: int = 0,
        packed: bool = False,
        reads: str = "",
    ) -> tuple[Key, ...]:
        named = tuple(
            read if of_picture(read.name) else Key(in_tile(self.tile, read.name), read.turn) for read in inputs
        )
        self.stages[Key(in_tile(self.tile, name), turn)] = Node(
            operations, named, where, self.tile, self.slice, self.half, packed, reads
        )
        return (Key(name, turn),)

    def conv(
        self,
        name: str,
        inputs: tuple[Key, ...],
        where: tuple[str, ...],
        *kinds: str,
        branch: tuple[Key, ...] = (),
        packed: bool = False,
        reads: str = "",
    ) -> tuple[Key, ...]:
        operations = ("conv", *(("branch",) if branch else ()), *kinds)
        return self.put(name, operations, inputs + branch, where, packed=packed, reads=reads)


def _hyperprior(t: _Table) -> None:
    """(SPEC 6.4) z_hat and h_s."""
    x = t.put("z_hat", ("coder", "reconstruction"), (), ("6.4-3", "6.4-4", "6.4-5", "4.4-6"), reads="the z segment")
    x = t.put("h_s/input", ("gain",), x, ("6.4-2", "4.4-5"))
    for n, kinds in enumerate((("gelu",), ("shuffle", "gelu"), ("gelu",), ("shuffle", "gelu"), ())):
        x = t.conv(f"h_s/{n}", x, ("6.4-2",), *kinds)


def _inter(t: _Table, i: int) -> tuple[Key, ...]:
    """(SPEC 6.7) From all finished slices to themselves."""
    previous = tuple(_finished(n) for n in range(i))
    parts = [_projected(t, f"inter/{i}/{part}", previous, ("6.7-1",)) for part in ("queries", "keys", "values")]
    x, mixed = _behind_attention(t, f"inter/{i}", parts, ("6.7-2",))
    return t.conv(f"inter/{i}/mlp2", x + mixed, ("6.7-6",))


def _intra(t: _Table, i: int) -> tuple[Key, ...]:
    """(SPEC 6.7) From the last slice's similarities to this slice's anchors."""
    before, masked = (_finished(i - 1),), ("6.7-1", "6.7-4")
    parts = [
        _projected(t, f"intra/{i}/queries", before, masked, "only non-anchors, 0 elsewhere"),
        _projected(t, f"intra/{i}/keys", before, masked, "only anchors, 0 elsewhere"),
        _projected(t, f"intra/{i}/values", (Key(f"ctx/{i}", 1),), ("6.7-1",)),
    ]
    x, mixed = _behind_attention(t, f"intra/{i}", parts, ("6.7-3", "6.7-5"))
    return t.conv(f"intra/{i}/mlp2", mixed, ("6.7-6",), branch=x)


def _projected(t: _Table, name: str, x: tuple[Key, ...], where: tuple[str, ...], reads: str = "") -> tuple[Key, ...]:
    return t.conv(f"{name}1", t.conv(f"{name}0", x, where, reads=reads), ("6.7-1",), "depthwise")


def _behind_attention(
    t: _Table, name: str, parts: list[tuple[Key, ...]], where: tuple[str, ...]
) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
    a = t.put(f"{name}/attention", ("linear_attention", "softmax"), sum(parts, ()), where)
    a = t.conv(f"{name}/reprojection", a, ("6.7-6",))
    m = t.conv(f"{name}/mlp0", a, ("6.7-6",), "gelu")
    return a, t.conv(f"{name}/mlp1", m, ("6.7-6",), "depthwise", "gelu")


def _channel(t: _Table, i: int) -> tuple[Key, ...]:
    """(SPEC 6.6) Three convolutions over the finished slices."""
    x = tuple(_finished(n) for n in range(i))
    for n, kinds in enumerate((("gelu",), ("gelu",), ())):
        x = t.conv(f"chan/{i}/{n}", x, ("6.6-1",), *kinds)
    return x


def _local(t: _Table, i: int) -> tuple[Key, ...]:
    """(SPEC 6.5) Attention in the window of every non-anchor; from there on all is packed."""
    name, where = f"local/{i}", ("6.5-1", "6.5-3")
    x = t.put(f"{name}/norm1", ("norm",), (Key(f"ctx/{i}", 1),), ("6.5-2",), reads=_slice_of(i) + ": anchors, else 0")
    x = t.conv(f"{name}/qkv", x, ("6.5-1",))
    x = t.put(f"{name}/attention", ("local_attention", "softmax"), x, where, packed=True)
    u = t.conv(f"{name}/proj", t.conv(f"{name}/fusion", x, where, packed=True), where, packed=True)
    x = t.put(f"{name}/norm2", ("norm",), u, where, packed=True)
    x = t.conv(f"{name}/fc1", x, where, "gelu", packed=True)
    return t.conv(f"{name}/fc2", x, where, branch=u, packed=True)


def _entropy_parameters(t: _Table, i: int, x: tuple[Key, ...], where: tuple[str, ...]) -> None:
    """(SPEC 6.8, 6.3) Scales and means of a half, its symbols, and the context copy that holds them."""
    kind, turn = ("anchor", 0) if t.half == ANCHOR else ("nonanchor", 2)
    where += ("6.8-1",) if i else ("6.8-1", "6.8-4")
    for n, kinds in enumerate((("gelu",), ("gelu",), ("gelu",), ("wide",))):
        x = t.conv(f"ep_{kind}/{i}/{n}", x, where if n == 0 else ("6.8-1",), *kinds, packed=True)
    before = (Key(f"ctx/{i}", turn - 1),) if turn else ()
    t.put(
        f"ctx/{i}",
        ("coder", "scale_index", "reconstruction", "rescale"),
        before + x,
        ("6.9-6", "6.3-1", "6.3-2", "6.3-5", "6.3-6", "6.3-9"),
        turn=turn,
        reads="the y segment",
    )


def _latent_residual(t: _Table, i: int, layers: int) -> None:
    """(SPEC 6.8, 6.3) The correction of a half, and the context copy that holds it."""
    kind, turn = ("anchor", 0) if t.half == ANCHOR else ("nonanchor", 2)
    x = (Key("h_s/4"), *(_finished(n) for n in range(i)), Key(f"ctx/{i}", turn))
    for n in range(layers):
        last = n == layers - 1
        x = t.conv(
            f"lrp_{kind}/{i}/{n}",
            x,
            ("6.8-7",),
            *(() if last else ("gelu",)),
            packed=last,
            reads="" if n else "of h_s/4 the second half, the hyper means",
        )
    t.put(
        f"ctx/{i}",
        ("half_tanh", "reconstruction", "rescale"),
        (Key(f"ctx/{i}", turn), *x),
        ("6.3-7", "6.3-8"),
        turn=turn + 1,
        reads=_slice_of(i),
    )


def _synthesis(t: _Table, y_hat: Iterable[str], known: set[str]) -> None:
    """(SPEC 6.10, 4.3) g_s and the output, from the slices of all tiles."""
    x = t.put("g_s/input", ("gain",), _keys(*y_hat), ("6.10-1", "6.3-10", "4.4-4"))
    for n in range(0, 7, 2):
        name, where = f"g_s/{n}", ("6.2-1", "6.10-1")
        b = t.conv(f"{name}/conv2", t.conv(f"{name}/conv1", x, where, "gelu"), where, "gelu")
        if f"{name}/skip" in known:
            x = t.conv(f"{name}/skip", x, where, branch=b)
        else:
            x = t.put(f"{name}/sum", ("sum",), x + b, where)
        if n < 6:
            name, where = f"g_s/{n + 1}", ("6.2-3", "6.10-1")
            b = t.conv(f"{name}/conv", t.conv(f"{name}/subpel", x, where, "shuffle", "gelu"), where)
            b = t.put(f"{name}/igdn", ("igdn",), b, where)
            x = t.conv(f"{name}/upsample", x, ("5.3-10", *where), "shuffle", branch=b)
    x = t.conv("g_s/7", x, ("6.10-1",), "shuffle")
    t.put("samples", ("output", "stored"), x, (), reads="the chunks LOSS and ALPH, if there are any")


def keyed(names: Iterable[str]) -> list[Key]:
    """Names in order of computation as stages: the n-th of a name has the turn n."""
    seen: dict[str, int] = {}
    keys = []
    for name in names:
        keys.append(Key(name, seen.get(name, 0)))
        seen[name] = keys[-1].turn + 1
    return keys


def way_back(stages: Network, key: Key, seen: Iterable[Key]) -> tuple[list[Key], list[Key]]:
    """Find the stages that feed a stage.

    Parameters
    ----------
    stages : Network
    key : Key
        The stage.
    seen : iterable of Key
        Stages whose values are known to be right.

    Returns
    -------
    inner : list of Key
        Stages that are not seen, and may hold the fault too, in the order of computation.
    ends : list of Key
        Seen stages from which they start, in the order of computation.
    """
    have, inner, ends, queue = set(seen), set(), set(), list(stages[key].inputs)
    while queue:
        at = queue.pop()
        if at in have:
            ends.add(at)
        elif at not in inner:
            inner.add(at)
            queue += stages[at].inputs
    return [k for k in stages if k in inner], [k for k in stages if k in ends]
