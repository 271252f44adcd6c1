"""``python -m conformance bounds``: bounds of SPEC 9.2 and what the extremes suite reaches, layer by layer.

For two models: one whose accumulators a stream drives to 2^31 - 1, and a procedural one, for which layers that read the
stream are exact and deeper ones are the best of a search. The table is data, suites/extremes/bounds.json, and is
measured again by every call.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from refcodec.model.proof import Bound, bound_table

from ..kit.errors import FAILED, PASSED
from ..kit.suites import KIT, load
from ..kit.vectors import Accept
from ..synthetic.models.procedural import model
from . import search
from .probe import Reach, probe

MODELS = ("limits", "tiny-7")
TABLE = KIT / "suites" / "extremes" / "bounds.json"


@dataclass(frozen=True)
class Row:
    """One bounded quantity of one operation.

    Attributes
    ----------
    operation, quantity : str
    proved : int
        Greatest magnitude by SPEC 9.2.
    bits : int
        Of a two's complement register that holds it.
    reached : int
        Greatest magnitude in the suite.
    reached_bits : int
    vector : str
        Where it is reached.
    how : str
        "exact" if it is the proved one, else what keeps it below, or "search".
    """

    operation: str
    quantity: str
    proved: int
    bits: int
    reached: int
    reached_bits: int
    vector: str
    how: str


def why_below(bound: Bound, searched: bool) -> str:
    """(SPEC 9.2) Reasons, apart from the pattern of the stream, why a quantity stays below its proved bound."""
    part, leaf = bound.name.split("/")[0], bound.name.split("/")[-1]
    if bound.quantity == "sum D^2":
        return "the bound is four times C^3 x^2, the greatest sum"
    if bound.quantity in ("sum e v", "rest 2^context_shift"):
        return "a small picture has few of the 2^23 positions"
    if bound.quantity in ("sum of weights and values", "sum p c"):
        return "weights sum to little more than 2^16"
    if bound.quantity == "product":
        return "the bound adds half of the greatest shift of all qualities"
    if bound.quantity == "logit" and not searched:
        return "the bound has 1 to spare for the rounding"
    if leaf in ("qkv", "fc1"):
        return "normalised vectors are far from their clamp of 32767"
    if part == "intra" and leaf in ("queries1", "keys1", "values1", "reprojection"):
        return "half of the positions are masked"
    if part == "lrp_anchor" and leaf == "0":
        return "non-anchors are 0 while anchors are coded"
    return "search" if searched else "the layer before stays below its clamp"


def rows(name: str, streams: Iterable[tuple[str, bytes]]) -> list[Row]:
    """(SPEC 9.2) The table of a model.

    Parameters
    ----------
    name : str
        Of the model.
    streams : iterable of (identifier, bytes)
        Valid streams of it.

    Returns
    -------
    list of Row
        In the order of the layer table; operations of the encoder alone are left out.
    """
    made = model(name)
    targets = search.targets(made)
    best: dict[search.Target, tuple[int, str]] = {}
    for identifier, data in streams:
        reach = Reach()
        probe(data, made, reach)
        for target in targets:
            value = reach.magnitude(*target)
            if value > best.get(target, (-1, ""))[0]:
                best[target] = value, identifier
    table = []
    for bound in bound_table(made.ops, made.layers):
        if (target := (bound.name, bound.quantity)) in best:
            reached, vector = best[target]
            how = "exact" if reached == bound.worst else why_below(bound, name != "limits")
            table.append(Row(*target, bound.worst, bound.bits, reached, reached.bit_length() + 1, vector, how))
    return table


def measured() -> dict[str, list[Row]]:
    """The tables of both models over the suite on disk."""
    vectors = load(KIT / "suites" / "extremes" / "manifest.json").vectors
    streams = {
        name: [(v.id, v.read()) for v in vectors if isinstance(v.expect, Accept) and v.model and v.model.name == name]
        for name in MODELS
    }
    return {name: rows(name, streams[name]) for name in MODELS}


def document(tables: dict[str, list[Row]]) -> bytes:
    """bounds.json: the search's budget, and one line per row."""
    budget = {"random": search.RANDOM, "changes": search.STEPS, "seed": search.SEED}
    parts = [
        f' "{name}": [\n' + ",\n".join("  " + json.dumps(asdict(row)) for row in table) + "\n ]"
        for name, table in tables.items()
    ]
    return ("{\n" + f' "search": {json.dumps(budget)},\n' + ",\n".join(parts) + "\n}\n").encode()


def _print(tables: dict[str, list[Row]]) -> None:
    for name, table in tables.items():
        exact = sum(row.how == "exact" for row in table)
        print(f"model {name}: {len(table)} quantities, {exact} reach their bound exactly")
        print(f"{'operation':<24}{'quantity':<26}{'proved':>20}{'bits':>5}{'reached':>20}{'bits':>5}  how")
        for row in table:
            print(
                f"{row.operation:<24}{row.quantity:<26}{row.proved:>20}{row.bits:>5}{row.reached:>20}"
                f"{row.reached_bits:>5}  {row.how}"
            )


def _searched(path: Path) -> None:
    found = search.search(model("tiny-7"), lambda text: print(text, flush=True))
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in found) + "\n]\n", encoding="utf-8")
    print(f"{len(found)} patterns written to {path.name}; rebuild the suite with: generate extremes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``bounds``."""
    parser.add_argument("--write", action="store_true", help="write bounds.json")
    parser.add_argument("--search", action="store_true", help="search again for the procedural model; takes minutes")


def main(args: argparse.Namespace) -> int:
    """Print the tables; 0 if bounds.json holds them, 1 if it holds others."""
    if args.search:
        _searched(search.FOUND)
        return PASSED
    tables = measured()
    _print(tables)
    if args.write:
        TABLE.write_bytes(document(tables))
    current = TABLE.is_file() and TABLE.read_bytes() == document(tables)
    print(f"{TABLE.name} {'holds these tables' if current else 'holds other tables'}")
    return PASSED if current else FAILED
