"""Where the models are that vectors need."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from ..suites import Model, file_hash

ENDING = ".h5"


@cache
def _hash(path: Path) -> str:
    return file_hash(path)


def _in_packages(place: str) -> Path | None:
    package, _, rest = place.partition("/")
    spec = find_spec(package)
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


@cache
def _changed(model: Model, path: Path) -> Path | None:
    """A copy of a model's file with its edits made, for as long as this process lives; None if it is not as pinned."""
    data = model.apply(path.read_bytes())
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


def absence(model: Model) -> str:
    """What to do about a model that is not there."""
    if model.profile:
        command = f"python -m refcodec model procedural --profile {model.profile} --seed {model.seed}"
        return f"model {model.name!r} is absent; make it: {command} DIR/{model.name}{ENDING}, and give --models DIR"
    return f"model {model.name!r} is absent: give --models DIR with {model.name}{ENDING} of SHA-256 {model.sha256}"
