"""Write streams, unit files and models as files, for those who use the suites without this package.

    python -m conformance export OUT [--suite NAME] [--id GLOB]

OUT must not exist. Most invalid streams and broken models are stored as edits of sound ones; here all are whole files:
OUT/SUITE/NAME.loclic, OUT/units/NAME.json, OUT/models/NAME.h5. OUT/vectors.json lists them with what is expected.
Vectors whose model is absent are left out and counted.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..kit.errors import NothingToDo, OutputFailed
from ..kit.suites import check_files, load_all, select
from ..kit.text import say
from ..kit.vectors import Vector
from .listing import OUTCOMES
from .models import ENDING, locate
from .run import add_selection, selection_of

MODELS = "models"


def file_name(vector: Vector) -> str:
    """The name of a vector's file."""
    return vector.id.partition("/")[2] + (".json" if vector.expect is None else ".loclic")


def present(vectors: Sequence[Vector], folders: Sequence[Path]) -> dict[Vector, Path | None]:
    """Vectors that need no model or whose model is there, each with its model's file; raises NothingToDo if none."""
    found = {v: locate(v.model, folders) if v.model else None for v in vectors}
    kept = {v: path for v, path in found.items() if path or v.model is None}
    if not kept:
        raise NothingToDo("no vector is left whose model is present")
    return kept


def write_files(kept: dict[Vector, Path | None], out: Path, prefix: str = "") -> None:
    """Write every vector's file and model below a folder, in folders of the suites' names and of models.

    Parameters
    ----------
    kept : dict of Vector to Path or None
        As `present` gives it.
    out : Path
    prefix : str
        Comes before the names of the folders.

    Raises
    ------
    OSError
    """
    for vector, model in kept.items():
        folder = out / (prefix + vector.suite)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file_name(vector)).write_bytes(vector.read())
        if vector.model and model:
            target = out / (prefix + MODELS) / (vector.model.name + ENDING)
            target.parent.mkdir(exist_ok=True)
            if not target.exists():
                shutil.copyfile(model, target)


def entry(vector: Vector) -> dict[str, Any]:
    """A vector's entry in vectors.json."""
    return {
        "id": vector.id,
        "file": f"{vector.suite}/{file_name(vector)}",
        "sha256": vector.sha256,
        "model": vector.model and f"{MODELS}/{vector.model.name}{ENDING}",
        "outcome": vector.outcome,
        **(asdict(vector.expect) if vector.expect else {}),
        "clauses": vector.clauses,
        "suggests": vector.suggests,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``export``, and of ``fluster``."""
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist")
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="more models, NAME.h5")
    add_selection(parser)


def main(args: argparse.Namespace) -> int:
    """``export``."""
    suites = load_all(args.kit, args.suite)
    check_files(suites)
    vectors = select(suites, selection_of(args, OUTCOMES))
    kept = present(vectors, args.models)
    try:
        args.out.mkdir()
        write_files(kept, args.out)
        rows = ",\n".join(json.dumps(entry(v)) for v in kept)
        (args.out / "vectors.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    except OSError as error:
        raise OutputFailed(f"{args.out}: {error.strerror}") from error
    say(f"{args.out}: {len(kept)} vectors{left_out(vectors, kept)}")
    return 0


def left_out(vectors: Sequence[Vector], kept: dict[Vector, Path | None]) -> str:
    """How many vectors are not there, "" if all are."""
    absent = len(vectors) - len(kept)
    return f"; left out for want of a model: {absent}" if absent else ""
