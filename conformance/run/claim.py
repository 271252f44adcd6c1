"""Make a claim of conformance (SPEC 14) from a report, or check one against the suites.

    python -m conformance run --decoder CMD --json report.json
    python -m conformance claim report.json --name mydec --version 1.2 --vendor Us --level 4B -o claim.json
    python -m conformance claim --check claim.json

Points are found from the results: P streams are accepted and refused rightly, E entropy exact and T trace exact (from
traces, so the run needs --check-traces), D samples exact, R robust; N from the report of an encoder. A claim holds the
result of every vector of its profile and level; --check computes its points again and compares.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..kit.errors import FAILED, PASSED, KitError, UsageError
from ..kit.levels import belongs, parse_level
from ..kit.reading import read_plain
from ..kit.strict_json import Fields, read_json
from ..kit.suites import KIT, check_files, kit_hash, load_all
from ..kit.text import say
from ..kit.vectors import PROFILES, SPEC_VERSION, Accept, Reject, Suite, Vector
from . import trace_check
from .files import check_target, write
from .outcomes import OUTCOMES, PASS, UNSUPPORTED
from .report import MAX_REPORT

FORMAT = 1
KIND = "claim of conformance"
POINTS = ("P", "E", "D", "T", "R", "N")
_KEPT = ("outcome", "seen", "exact", "wrote", "trace")
"""The fields of each result that a claim stores: points follow from them."""

Results = Mapping[str, Mapping[str, Any]]


class ClaimFails(KitError):
    """A claim does not hold, or cannot be made."""

    exit_code = FAILED


def parsed(vector: Vector, result: Mapping[str, Any]) -> bool:
    """(SPEC 14.1) P: a valid stream is accepted, one with a wrong container refused for the right reason."""
    if isinstance(vector.expect, Accept):
        return bool(result["seen"] == "accepted")
    return not isinstance(vector.expect, Reject) or vector.expect.phase != "container" or result["outcome"] == PASS


def decoded(vector: Vector, result: Mapping[str, Any]) -> bool:
    """(SPEC 14.1) D: the samples are equal, and an invalid stream gives none."""
    return bool(result["exact"] if isinstance(vector.expect, Accept) else result["outcome"] == PASS)


def robust(result: Mapping[str, Any]) -> bool:
    """(SPEC 14.1) R: it ended by itself, and a refusal left no output."""
    return result["seen"] in ("accepted", "refused", UNSUPPORTED) and not (
        result["wrote"] and result["seen"] != "accepted"
    )


def points_of(vectors: Sequence[Vector], results: Results) -> str:
    """The points that results reach; none at all if a vector did not run.

    Parameters
    ----------
    vectors : sequence of Vector
        All of a profile and level.
    results : mapping
        By id of vector; with "outcome", "seen", "exact", "wrote" and "trace".
    """
    if not vectors or any(v.id not in results or not results[v.id]["seen"] for v in vectors):
        return ""
    pairs = [(v, results[v.id]) for v in vectors]
    traces = [r["trace"] for v, r in pairs if v.trace and isinstance(v.expect, Accept)]
    whole = all(parsed(v, r) for v, r in pairs)
    decodes = all(r["seen"] == "accepted" for v, r in pairs if isinstance(v.expect, Accept))
    reached = {
        "P": whole,
        "E": whole and bool(traces) and all(t in (trace_check.WHOLE, trace_check.ENTROPY) for t in traces),
        "D": whole and all(decoded(v, r) for v, r in pairs),
        "T": decodes and bool(traces) and all(t == trace_check.WHOLE for t in traces),
        "R": all(robust(r) for _, r in pairs),
    }
    return "".join(point for point, holds in reached.items() if holds)


def _reached(kind: str, vectors: Sequence[Vector], results: Results) -> str:
    if kind == "decoder":
        return points_of(vectors, results)
    return "N" if results and all(r["outcome"] == PASS for r in results.values()) else ""


def digest(claim: Mapping[str, Any]) -> str:
    """SHA-256 of a claim without its own "sha256": of JSON with sorted names and no spaces."""
    rest = {name: value for name, value in claim.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _suites(kit: Path, names: Iterable[str]) -> tuple[Suite, ...]:
    """The named suites; none for an encoder, which has none."""
    return load_all(kit, names) if list(names) else ()


def _belonging(suites: Iterable[Suite], profile: str, level: str) -> list[Vector]:
    return [v for suite in suites for v in suite.vectors if belongs(v, profile, level)]


def make(
    report: Mapping[str, Any],
    suites: Sequence[Suite],
    facts: Mapping[str, str],
    profile: str,
    level: str,
    wanted: str = "",
) -> dict[str, Any]:
    """A claim from a report.

    Parameters
    ----------
    report : mapping
        As ``run --json`` or ``encoder --json`` wrote it.
    suites : sequence of Suite
        Those of the report.
    facts : mapping of str to str
        "name", "version" and "vendor" of the implementation.
    profile, level : str
    wanted : str
        Points to claim; all that are reached if empty.

    Returns
    -------
    dict
        The claim, with its digest.

    Raises
    ------
    ClaimFails
        The suites are others, a vector was not run, or a wanted point is not reached.
    """
    if {name: s["sha256"] for name, s in report["kit"]["suites"].items()} != {s.name: s.sha256 for s in suites}:
        raise ClaimFails("the report was made with other suites than these")
    entries = {e["id"]: e for e in report["vectors"]}
    vectors = _belonging(suites, profile, level)
    chosen = [v.id for v in vectors] if report["kind"] == "decoder" else list(entries)
    if absent := [name for name in chosen if name not in entries or not entries[name]["seen"]]:
        raise ClaimFails(f"{len(absent)} of {len(chosen)} vectors did not run, such as {absent[0]}")
    results = {name: {field: entries[name][field] for field in _KEPT} for name in chosen}
    reached = _reached(report["kind"], vectors, results)
    if lacking := [p for p in wanted if p not in reached]:
        raise ClaimFails(f"the points {', '.join(lacking)} are not reached; reached are {', '.join(reached) or 'none'}")
    if not reached:
        raise ClaimFails("no point is reached")
    claim = {
        "format": FORMAT,
        "kind": KIND,
        "specification": SPEC_VERSION,
        "implementation": dict(facts),
        "profile": profile,
        "level": level,
        "points": wanted or reached,
        "kit": kit_hash(suites),
        "suites": {s.name: {"version": s.version, "sha256": s.sha256} for s in suites},
        "machine": report["system"],
        "run": {n: report[n] for n in ("kind", "command", "started", "seconds", "limits")},
        "results": results,
    }
    return {**claim, "sha256": digest(claim)}


def _read(data: bytes, source: str) -> dict[str, Any]:
    """A claim with its fields checked; raises ClaimFails."""
    try:
        value = read_json(data, MAX_REPORT)
    except ValueError as error:
        raise ClaimFails(f"{source}: not JSON as it should be: {error}") from error
    fields = Fields(value, source, ClaimFails)
    fields.number("format", FORMAT, FORMAT)
    fields.one_of("kind", (KIND,))
    fields.number("specification", 0, 255)
    about = Fields(fields.take("implementation", dict), f"{source}, implementation", ClaimFails)
    for name in ("name", "version", "vendor"):
        about.text(name)
    about.end()
    fields.one_of("profile", PROFILES)
    fields.text("level")
    if not set(fields.text("points")) <= set(POINTS):
        raise fields.wrong("'points' holds other letters than P, E, D, T, R and N")
    fields.hexadecimal("kit", 64)
    for name in ("suites", "machine"):
        fields.take(name, dict)
    run = Fields(fields.take("run", dict), f"{source}, run", ClaimFails)
    run.one_of("kind", ("decoder", "encoder"))
    for name, result in fields.take("results", dict).items():
        entry = Fields(result, f"{source}, result of {name[:60]!r}", ClaimFails)
        entry.one_of("outcome", OUTCOMES)
        for text in ("seen", "trace"):
            entry.take(text, str)
        for flag in ("exact", "wrote"):
            entry.take(flag, bool)
        entry.end()
    fields.hexadecimal("sha256", 64)
    fields.end()
    return dict(value)


def check(data: bytes, source: str, kit: Path) -> dict[str, Any]:
    """Check a claim against the suites of a kit.

    Parameters
    ----------
    data : bytes
        JSON.
    source : str
        Name for messages.
    kit : Path
        Folder of the kit.

    Returns
    -------
    dict
        The claim.

    Raises
    ------
    ClaimFails
        It is malformed, was changed, names other suites, lacks a vector, or claims more than its results say.
    """
    claim = _read(data, source)
    if digest(claim) != claim["sha256"]:
        raise ClaimFails(f"{source}: it was changed after it was made: its digest is another")
    parse_level(claim["level"])
    suites = _suites(kit, claim["suites"])
    check_files(suites)
    for suite in suites:
        if claim["suites"][suite.name] != {"version": suite.version, "sha256": suite.sha256}:
            raise ClaimFails(f"{source}: suite {suite.name!r} is another than the kit's: {suite.sha256}")
    if claim["kit"] != kit_hash(suites):
        raise ClaimFails(f"{source}: 'kit' is not the hash of its suites")
    vectors = _belonging(suites, claim["profile"], claim["level"])
    if claim["run"]["kind"] == "decoder" and {v.id for v in vectors} != set(claim["results"]):
        raise ClaimFails(f"{source}: its results are not those of the vectors of its profile and level")
    reached = _reached(claim["run"]["kind"], vectors, claim["results"])
    if beyond := [p for p in claim["points"] if p not in reached]:
        raise ClaimFails(f"{source}: it claims {', '.join(beyond)}, which its results do not reach")
    return claim


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``claim``."""
    parser.add_argument("report", nargs="?", type=Path, metavar="REPORT.json", help="of run --json or encoder --json")
    parser.add_argument("--check", type=Path, metavar="CLAIM.json", help="check this claim instead of making one")
    parser.add_argument("--name", help="of the implementation")
    parser.add_argument("--version", help="of the implementation")
    parser.add_argument("--vendor", help="who claims")
    parser.add_argument("--profile", choices=PROFILES, default="full", help="SPEC 12.1, default full")
    parser.add_argument("--level", default="8D", help="SPEC 12.2, default 8D: everything")
    parser.add_argument("--points", default="", help="claim these points only, such as PDR")
    parser.add_argument("-o", "--output", type=Path, default=Path("-"), metavar="FILE", help="default standard output")
    parser.add_argument("--kit", type=Path, default=KIT, metavar="DIR", help="folder of suites/ and models/")


def _bytes(path: Path) -> bytes:
    try:
        return read_plain(path, MAX_REPORT)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def main(args: argparse.Namespace) -> int:
    """``claim``."""
    if (args.report is None) == (args.check is None):
        raise UsageError("give either a report or --check")
    if args.check:
        claim = check(_bytes(args.check), str(args.check), args.kit)
        about = claim["implementation"]
        say(
            f"holds: {about['vendor']} {about['name']} {about['version']}, profile {claim['profile']}, level "
            f"{claim['level']}, points {', '.join(claim['points'])}; {len(claim['results'])} results"
        )
        return PASSED
    facts = {name: getattr(args, name) for name in ("name", "version", "vendor")}
    if lacking := [name for name, value in facts.items() if not value]:
        raise UsageError(f"--{lacking[0]} is missing")
    check_target(args.output)
    try:
        report = read_json(_bytes(args.report), MAX_REPORT)
        suites = _suites(args.kit, report["kit"]["suites"])
        claim = make(report, suites, facts, args.profile, args.level, args.points)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{args.report}: not a report of this version: {error!r}") from error
    write(args.output, json.dumps(claim, indent=1, allow_nan=False) + "\n")
    return PASSED
