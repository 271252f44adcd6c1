"""``python -m conformance generate``: rebuild the suites, or check that they are what their generators make.

Everything is a function of the generators alone, so a rebuild gives the same bytes. Vectors are immutable: one that
changed under its id is refused unless --renew says that the kit was not published with it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..kit.errors import FAILED, PASSED, KitError
from ..kit.manifest import FORMAT
from ..kit.strict_json import read_json
from ..kit.suites import KIT
from ..kit.vectors import Accept, Reject
from ..synthetic.models import procedural as models
from ..synthetic.models.edits import as_json, edits_between
from .expectation import Disagreement, expectation, picture
from .registry import LICENCE, ON_REQUEST, SOUND, SUITES, Case, Unit, generators

VERSION = 1
PICTURE = 4096
"""Samples of the largest picture that is stored for a vector with a trace."""

PINNED_FOLDERS = ("bases", "traces", "pictures")
"""Folders whose files the manifest's table pins."""

MADE_FOLDERS = (*PINNED_FOLDERS, "streams", "units")
"""Folders of a suite whose every file a manifest names; others may hold more."""


class Changed(KitError):
    """A vector changed under its id, or computations of an expectation differ."""

    exit_code = FAILED


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _expect(outcome: Accept | Reject) -> dict[str, Any]:
    if isinstance(outcome, Accept):
        return {"outcome": "accept", **asdict(outcome)}
    also = {"also": list(outcome.also)} if outcome.also else {}
    return {"outcome": "reject", "class": outcome.error, "phase": outcome.phase, **also}


def _vector(case: Case | Unit, source: str, files: dict[str, bytes]) -> dict[str, Any]:
    """A case's entry in the manifest; its files are added to ``files``."""
    name = case.id.split("/")[1]
    rest = {
        "clauses": list(case.clauses),
        "suggests": case.suggests,
        "origin": f"{source}: {case.origin}",
        "licence": case.licence,
    }
    if isinstance(case, Unit):
        path = f"units/{name}.json"
        files[path] = (json.dumps(case.document, separators=(",", ":"), allow_nan=False) + "\n").encode()
        return {"id": case.id, "unit": path, "sha256": _hash(files[path]), **rest}
    outcome, trace = expectation(case)
    stored: dict[str, Any]
    if case.base:
        path, base = f"bases/{case.base}.loclic", SOUND[case.base]()
        files[path] = base
        edits = as_json(edits_between(base, case.data))
        stored = {"base": path, "edits": edits} if edits else {"stream": path}  # sound itself, for a broken model
    else:
        path = f"streams/{name}.loclic"
        files[path] = case.data
        stored = {"stream": path}
    if trace:
        files[f"traces/{name}.jsonl"] = trace
        rest["trace"] = f"traces/{name}.jsonl"
        if isinstance(outcome, Accept) and outcome.count <= PICTURE:
            files[f"pictures/{name}.raw"] = picture(case)
            rest["picture"] = f"pictures/{name}.raw"
    return {
        "id": case.id,
        **stored,
        "sha256": _hash(case.data),
        "model": case.model,
        "expect": _expect(outcome),
        **rest,
    }


def listing(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as text: one line per vector, so that changes show as lines."""
    rows = ",\n".join("  " + json.dumps(v) for v in manifest["vectors"])
    head = {k: v for k, v in manifest.items() if k != "vectors"}
    return (json.dumps(head, indent=1)[:-2] + ',\n "vectors": [\n' + rows + "\n ]\n}\n").encode()


def build(suite: str, check: bool = False) -> dict[str, bytes]:
    """Every file of a suite by its path below the suite's folder, the manifest included.

    Files of models are stored next to the suites: they are updated here, or with ``check`` only compared.

    Raises
    ------
    Changed
        Backends, SPEC.md's blocks and the generator disagree on an expectation.
    ValueError
        Two cases have one id, or a case breaks a rule.
    """
    files: dict[str, bytes] = {}
    vectors: list[dict[str, Any]] = []
    used: set[str] = set()
    for made in generators(suite):
        for case in made.cases():
            if any(case.id == v["id"] for v in vectors):
                raise ValueError(f"{case.id}: two vectors have this id")
            try:
                vectors.append(_vector(case, made.name, files))
            except Disagreement as error:
                raise Changed(str(error)) from error
            if isinstance(case, Case) and case.model:
                used.add(case.model)
    manifest = {
        "format": FORMAT,
        "suite": suite,
        "version": VERSION,
        "description": SUITES[suite],
        "licence": LICENCE,
        "models": {name: models.manifest_entry(name, check) for name in sorted(used)},
        "files": {path: _hash(data) for path, data in files.items() if path.startswith(PINNED_FOLDERS)},
        "vectors": vectors,
    }
    return files | {"manifest.json": listing(manifest)}


def differences(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Files of a suite's folder that are missing, different or left over, by path."""
    found = [
        path for path, data in files.items() if not (folder / path).is_file() or (folder / path).read_bytes() != data
    ]
    return found + [path for path in _present(folder) if path not in files]


def _present(folder: Path) -> list[str]:
    return sorted(f"{name}/{p.name}" for name in MADE_FOLDERS for p in (folder / name).glob("*"))


def _pins(manifest: bytes) -> dict[str, str]:
    """The fields that define a vector, by id."""
    vectors = read_json(manifest)["vectors"]
    expects = [{name: part for name, part in v.get("expect", {}).items() if name != "blocks"} for v in vectors]
    return {v["id"]: f"{v['sha256']} {json.dumps(e)}" for v, e in zip(vectors, expects, strict=True)}


def changed_vectors(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Identifiers of the present manifest that now mean something else, or nothing."""
    if not (folder / "manifest.json").is_file():
        return []
    before, after = _pins((folder / "manifest.json").read_bytes()), _pins(files["manifest.json"])
    return [name for name, pin in before.items() if after.get(name) != pin]


def write(folder: Path, files: Mapping[str, bytes]) -> int:
    """Write what differs, the manifest last, and remove what is left over; the number of files touched."""
    stale = differences(folder, files)
    for path in sorted(stale, key=lambda p: p == "manifest.json"):
        target = folder / path
        if path in files:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files[path])
        else:
            target.unlink()
    return len(stale)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``generate``."""
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all that the kit holds if none is named"
    )
    parser.add_argument("--check", action="store_true", help="write nothing, fail if anything differs")
    parser.add_argument("--renew", action="store_true", help="let vectors change under their ids")


def main(args: argparse.Namespace) -> int:
    """Rebuild or check suites; 0 if all is as it should be, 1 if something differs or changed under its id."""
    if unknown := sorted(set(args.suites) - set(SUITES)):
        raise KitError(f"unknown suite {unknown[0]!r}; one of {', '.join(SUITES)}")
    code = PASSED
    for suite in args.suites or [name for name in SUITES if name not in ON_REQUEST]:
        folder, files = KIT / "suites" / suite, build(suite, args.check)
        size = sum(map(len, files.values()))
        title = f"{suite}: {len(_pins(files['manifest.json']))} vectors, {size} bytes"
        if args.check:
            wrong = differences(folder, files)
            print(f"{title}, {'differs: ' + ', '.join(wrong[:5]) if wrong else 'as made'}")
            code = FAILED if wrong else code
            continue
        if not args.renew and (changed := changed_vectors(folder, files)):
            raise Changed(
                f"{len(changed)} vectors of {suite} changed under their ids, first {changed[0]}; "
                "give them new ids, or --renew if they were never published"
            )
        print(f"{title}, {write(folder, files)} files written")
    return code
