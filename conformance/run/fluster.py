"""Export the suites for Fluster (package fluster-conformance), with a decoder class.

    python -m conformance fluster OUT
    cp OUT/loclic.py $(python -c "import fluster.decoders as d; print(d.__path__[0])")
    fluster -tsd OUT/test_suites -r OUT/resources run -ts LOCLIC-core -d loclic

OUT must not exist. A suite of Fluster compares one text a vector: here the SHA-256 of the samples, or "refused" and a
class, so that invalid streams keep their required outcome, which Fluster's own negative suites lose. Vectors whose
model is absent are left out and counted.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..kit.errors import OutputFailed
from ..kit.suites import check_files, load_all, select
from ..kit.text import say
from ..kit.vectors import Accept, Suite, Vector
from .export import MODELS, add_arguments, file_name, left_out, present, write_files
from .models import ENDING, spare
from .run import selection_of

__all__ = ["add_arguments", "main"]

CODEC = "Dummy"
"""Fluster's list of codecs is closed; this one is for what it does not know."""

PREFIX = "LOCLIC-"
SPARE = f"spare{ENDING}"
"""Name of the model for vectors that have none."""

DECODER = Path(__file__).with_name("fluster_decoder.py")


def as_vector(vector: Vector) -> dict[str, Any]:
    """A vector in Fluster's terms; what Fluster has no field for is in "optional_params".

    "model" is the vector's own; "spare" one for decoders that cannot be called without, where the vector has none.
    """
    expect = vector.expect
    facts: dict[str, Any] = {"id": vector.id, "clauses": list(vector.clauses)}
    if vector.model is not None:
        facts["model"] = f"../{PREFIX}{MODELS}/{vector.model.name}{ENDING}"
    else:
        facts["spare"] = f"../{PREFIX}{MODELS}/{SPARE}"
    if isinstance(expect, Accept):
        facts.update(width=expect.width, height=expect.height, channels=expect.channels)
        result = expect.samples
    else:
        assert expect is not None  # unit cases are not selected
        facts["classes"] = list(expect.classes)
        result = f"refused {expect.error}"
    return {
        "name": vector.id.partition("/")[2],
        "source": "",
        "source_checksum": "__skip__",
        "input_file": file_name(vector),
        "output_format": "None",
        "optional_params": facts,
        "result": result,
    }


def as_suite(suite: Suite, vectors: Sequence[Vector]) -> dict[str, Any]:
    """A suite in Fluster's terms."""
    about = f"{suite.description} Version {suite.version}, manifest {suite.sha256}."
    return {
        "name": PREFIX + suite.name,
        "codec": CODEC,
        "description": about,
        "test_method": "md5",
        "test_vectors": list(map(as_vector, vectors)),
    }


def export(suites: Sequence[Suite], kept: dict[Vector, Path | None], out: Path, unneeded: Path | None = None) -> None:
    """Write suites, streams, models and the decoder class below a new folder.

    Parameters
    ----------
    suites : sequence of Suite
    kept : dict of Vector to Path or None
        As `present` gives it.
    out : Path
    unneeded : Path or None
        The model that goes with vectors that need none.

    Raises
    ------
    OutputFailed
        The folder exists, or cannot be written.
    """
    try:
        out.mkdir()
        write_files(kept, out / "resources", PREFIX)
        if unneeded:
            (out / "resources" / (PREFIX + MODELS)).mkdir(exist_ok=True)
            shutil.copyfile(unneeded, out / "resources" / (PREFIX + MODELS) / SPARE)
        (out / "test_suites").mkdir()
        for suite in suites:
            if own := [v for v in kept if v.suite == suite.name]:
                text = json.dumps(as_suite(suite, own), indent=4) + "\n"
                (out / "test_suites" / f"{PREFIX}{suite.name}.json").write_text(text)
        shutil.copyfile(DECODER, out / "loclic.py")
    except OSError as error:
        raise OutputFailed(f"{out}: {error.strerror}") from error


def main(args: argparse.Namespace) -> int:
    """``fluster``."""
    suites = load_all(args.kit, args.suite)
    check_files(suites)
    vectors = [v for v in select(suites, selection_of(args)) if v.expect is not None]
    kept = present(vectors, args.models)
    export(suites, kept, args.out, spare(load_all(args.kit), args.models))
    names = sorted({PREFIX + v.suite for v in kept})
    say(f"{args.out}: {len(kept)} vectors in {', '.join(names)}{left_out(vectors, kept)}")
    return 0
