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

from ..kit.errors import NothingToDo, OutputFailed
from ..kit.suites import Accept, Suite, Vector, check_files, load_all, select
from ..kit.text import say
from .models import ENDING, locate
from .run import add_selection, selection_of

CODEC = "Dummy"
"""Fluster's list of codecs is closed; this one is for what it does not know."""

MODELS = "LOCLIC-models"
DECODER = Path(__file__).with_name("fluster_decoder.py")


def suite_name(suite: str) -> str:
    """A suite's name in Fluster."""
    return f"LOCLIC-{suite}"


def stream_name(vector: Vector) -> str:
    """The name of a vector's stream."""
    return vector.id.partition("/")[2] + ".loclic"


def as_vector(vector: Vector) -> dict[str, Any]:
    """A vector in Fluster's terms; whatever it has no field for is in "optional_params"."""
    expect = vector.expect
    facts: dict[str, Any] = {"id": vector.id, "clauses": list(vector.clauses)}
    if vector.model is not None:
        facts["model"] = f"../{MODELS}/{vector.model.name}{ENDING}"
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
        "input_file": stream_name(vector),
        "output_format": "None",
        "optional_params": facts,
        "result": result,
    }


def as_suite(suite: Suite, vectors: Sequence[Vector]) -> dict[str, Any]:
    """A suite in Fluster's terms."""
    about = f"{suite.description} Version {suite.version}, manifest {suite.sha256}."
    return {
        "name": suite_name(suite.name),
        "codec": CODEC,
        "description": about,
        "test_method": "md5",
        "test_vectors": list(map(as_vector, vectors)),
    }


def export(suites: Sequence[Suite], vectors: Sequence[Vector], out: Path, folders: Sequence[Path]) -> list[Vector]:
    """Write suites, streams, models and the decoder class below a new folder; returns the vectors left out.

    Raises
    ------
    OutputFailed
        The folder exists, or cannot be written.
    NothingToDo
        No vector has its model.
    """
    models = {v.model.name: locate(v.model, folders) for v in vectors if v.model}
    kept = [v for v in vectors if v.model is None or models[v.model.name]]
    if not kept:
        raise NothingToDo("no vector is left whose model is present")
    try:
        out.mkdir()
        (out / "test_suites").mkdir()
        (out / "resources" / MODELS).mkdir(parents=True)
        for suite in suites:
            own = [v for v in kept if v.suite == suite.name]
            if not own:
                continue
            streams = out / "resources" / suite_name(suite.name)
            streams.mkdir()
            for vector in own:
                shutil.copyfile(vector.file, streams / stream_name(vector))
            text = json.dumps(as_suite(suite, own), indent=4) + "\n"
            (out / "test_suites" / f"{suite_name(suite.name)}.json").write_text(text)
        for name in {v.model.name for v in kept if v.model}:
            path = models[name]
            assert path is not None
            shutil.copyfile(path, out / "resources" / MODELS / (name + ENDING))
        shutil.copyfile(DECODER, out / "loclic.py")
    except OSError as error:
        raise OutputFailed(f"{out}: {error.strerror}") from error
    return [v for v in vectors if v not in kept]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``fluster``."""
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist")
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="more models, NAME.h5")
    add_selection(parser)


def main(args: argparse.Namespace) -> int:
    """``fluster``."""
    suites = load_all(args.kit, args.suite)
    check_files(suites)
    vectors = [v for v in select(suites, selection_of(args)) if v.expect is not None]
    absent = export(suites, vectors, args.out, args.models)
    names = sorted({suite_name(v.suite) for v in vectors if v not in absent})
    say(
        f"{args.out}: {len(vectors) - len(absent)} vectors in {', '.join(names)}"
        f"{f'; left out for want of a model: {len(absent)}' if absent else ''}"
    )
    return 0
