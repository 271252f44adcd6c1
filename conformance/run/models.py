"""Where the models are that vectors need."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from ..kit.errors import SuiteDamaged, UsageError
from ..kit.strict_json import read_json
from ..kit.suites import file_hash
from ..kit.vectors import Accept, Model, Suite, Vector, edited
from . import process
from .files import scratch
from .outcomes import last_line
from .system import python_module

ENDING = ".h5"
_COPYING = threading.Lock()


@cache
def _hash(path: Path) -> str:
    return file_hash(path)


def _in_packages(place: str) -> Path | None:
    """A file below an installed package, which is found and not imported: a name with dots would import its first."""
    package, _, rest = place.partition("/")
    try:
        spec = find_spec(package) if "." not in package else None
    except (ImportError, ValueError, AttributeError):  # what lies there under this name is no package
        spec = None
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () if (path := Path(folder) / rest).is_file()]
    return found[0] if found else None


def candidates(model: Model, folders: Sequence[Path]) -> Iterable[Path]:
    """Places where a model may lie: the kit, an installed package, ``NAME.h5`` in the user's folders."""
    if model.file:
        yield model.file
    if model.package and (path := _in_packages(model.package)):
        yield path
    for folder in folders:
        if (path := folder / (model.name + ENDING)).is_file():
            yield path


def _changed(model: Model, path: Path) -> Path | None:
    """A copy of a model's file with its edits made, for as long as this process lives; None if it is not as pinned.

    One thread at a time: ``functools.cache`` lets two threads that miss together both compute, and the folder of the
    one whose result is dropped would go while its copy is being written.
    """
    with _COPYING:
        return _copy(model, path)


@cache
def _copy(model: Model, path: Path) -> Path | None:
    data = edited(path.read_bytes(), model.edits)
    if hashlib.sha256(data).hexdigest() != model.edited:
        return None
    target = Path(_copies().name) / (model.edited + ENDING)
    target.write_bytes(data)
    return target


@cache
def _copies() -> TemporaryDirectory[str]:
    """A folder that goes when the process ends."""
    return TemporaryDirectory(prefix="conformance-models-")


def locate(model: Model, folders: Sequence[Path] = ()) -> Path | None:
    """The model's file, its edits made; where its SHA-256 is pinned, only a file that has it."""
    for path in candidates(model, folders):
        if not model.sha256 or _hash(path) == model.sha256:
            return _changed(model, path) if model.edits else path
    return None


def _is_sound(vector: Vector) -> bool:
    """Whether a vector says that its model is sound: segments were decoded with it, rightly or up to a fault."""
    return isinstance(vector.expect, Accept) or (vector.expect is not None and vector.expect.phase == "entropy")


def spare(suites: Iterable[Suite], folders: Sequence[Path] = ()) -> Path | None:
    """The smallest sound model of some suites, for decoders that want one for streams that need none."""
    models = {v.model.name: v.model for suite in suites for v in suite.vectors if v.model and _is_sound(v)}
    found = [path for model in models.values() if (path := locate(model, folders))]
    return min(found, key=lambda path: (path.stat().st_size, path), default=None)


def recipe(model: Model, path: Path) -> tuple[str, ...]:
    """The command that makes a procedural model."""
    return (
        *python_module("refcodec"),
        "model",
        "procedural",
        "--profile",
        model.profile,
        "--seed",
        str(model.seed),
        str(path),
        "--json",
    )


def make(model: Model, folder: Path) -> None:
    """Make a procedural model with refcodec, as a separate program.

    Raises
    ------
    UsageError
        It cannot be made.
    SuiteDamaged
        What was made is another model than the suite's.
    """
    with scratch() as place:
        limits = process.Limits(seconds=1800.0, memory=16 << 30, file=4 << 30)
        ended = process.run(recipe(model, folder / (model.name + ENDING)), limits, place)
    if ended.exit_code:
        raise UsageError(f"model {model.name!r} cannot be made: {ended.stopped or last_line(ended.stderr)}")
    try:
        made = dict(read_json(ended.stdout)).get("fingerprint")
    except (ValueError, TypeError) as error:
        raise UsageError(f"model {model.name!r}: what made it did not say its fingerprint") from error
    if made != model.fingerprint:
        raise SuiteDamaged(f"model {model.name!r} was made with fingerprint {made}, the suite says {model.fingerprint}")


def make_absent(vectors: Iterable[Vector], folders: Sequence[Path]) -> None:
    """Make the procedural models that vectors lack, in the first folder, which need not exist; raises as `make`."""
    try:
        folders[0].mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folders[0]}: {error.strerror}") from error
    models = {v.model.name: v.model for v in vectors if v.model}
    for model in models.values():
        if model.profile and locate(model, folders) is None:
            make(model, folders[0])


def absence(model: Model) -> str:
    """Advice about a missing model."""
    if model.profile:
        return f"model {model.name!r} is absent; --models DIR --make-models has refcodec make it there"
    return f"model {model.name!r} is absent: give --models DIR with {model.name}{ENDING} of SHA-256 {model.sha256}"
