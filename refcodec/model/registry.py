"""Installed models: found by name or fingerprint, loaded once (SPEC 10.3)."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..errors import InvalidModel, LimitExceeded, ModelError, UsageError
from ..io.files import user_cache
from .file import read_claim, read_file
from .integer_model import Model, build_model

_DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Released:
    """A model that a version of refcodec was released with.

    Attributes
    ----------
    name : str
        Its name for good, and that of its file.
    fingerprint : str
        32 hexadecimal digits, as streams carry it (SPEC 8.1).
    sha256 : str
        Of its file.
    """

    name: str
    fingerprint: str
    sha256: str

    @property
    def path(self) -> Path:
        """Its file in the package."""
        return _DATA / f"{self.name}.h5"


RELEASED = (
    Released(
        "refcodec-default-2",
        "c77143be6f9b98f61747078b4229b330",
        "afceaab9afd1b9b6961c907a5028c964ad17b870bf9924e0832ae4dc3be817d1",
    ),
)
"""Models that every later version contains, oldest first. Streams need them, so rows are added and never removed."""

DEFAULT = RELEASED[-1].path
"""File of the default model, which is the newest released one."""

_KEPT, _NAMED = 4, 1024
"""Models that stay in memory, and files whose fingerprints are remembered."""

T = TypeVar("T")
Stamp = tuple[str, int, int, int]
"""Path, time of change, size and inode: the same file as before."""

_models: OrderedDict[Stamp, Model] = OrderedDict()
_fingerprints: OrderedDict[Stamp, bytes] = OrderedDict()
"""Of the files that were used last; a fingerprint is claimed until the file's arrays are read."""

_NO_MODEL = b""
"""In place of the fingerprint of a file that was refused: it is not read again for each stream."""

_lock = threading.Lock()


def _renew() -> None:
    """A thread that a fork did not copy may have held the lock."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew) if hasattr(os, "register_at_fork") else None


def _folders() -> Iterator[str]:
    yield from filter(None, os.environ.get("REFCODEC_MODELS", "").split(os.pathsep))
    if cache := user_cache():
        yield str(cache / "models")


def installed() -> list[Path]:
    """Model files that are found by name or fingerprint: the package's, ``$REFCODEC_MODELS``, the user's cache.

    Folders that are not there or cannot be read hold none.
    """
    paths = [path for path in _model_files(str(DEFAULT.parent)) if path.name != "tables.h5"]
    for folder in _folders():
        paths += _model_files(folder) if not folder.endswith(".h5") or os.path.isdir(folder) else [Path(folder)]
    return paths


def _model_files(folder: str) -> list[Path]:
    try:
        names = os.listdir(folder)
    except (OSError, ValueError):
        return []
    return [Path(folder, name) for name in sorted(names) if name.endswith(".h5")]


def model_path(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """The file of a model by path or by installed name; of the default model without an argument or as "default".

    Raises
    ------
    ModelError
        No such model.
    """
    path = DEFAULT if name_or_path is None else Path(name_or_path)
    if os.path.isfile(path):
        return path
    if str(name_or_path) == "default":
        return DEFAULT
    if matches := [p for p in installed() if str(name_or_path) in (p.name, p.stem)]:
        return matches[0]
    raise ModelError(
        "model not found",
        where=str(name_or_path),
        cause="give a path, or put the file into a folder of $REFCODEC_MODELS",
    )


def _stamp(path: Path) -> Stamp:
    try:
        stat = os.stat(path)
    except (OSError, ValueError) as e:
        raise ModelError("model not found", where=str(path), detail=getattr(e, "strerror", None) or str(e)) from e
    return os.path.realpath(path), stat.st_mtime_ns, stat.st_size, stat.st_ino


def _keep(cache: OrderedDict[Stamp, T], stamp: Stamp, value: T, most: int) -> None:
    """Note a value as the last one used, and forget the first ones beyond so many."""
    with _lock:
        cache[stamp] = value
        cache.move_to_end(stamp)
        while len(cache) > most:
            cache.popitem(last=False)


def load_model(name_or_path: str | os.PathLike[str] | None = None) -> Model:
    """Load a model by path or by installed name.

    Parameters
    ----------
    name_or_path : str, path or None
        None for the default model.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        No such model, or its file cannot be read.
    InvalidModel
        The file is not a model that can be proved.
    LimitExceeded
        There is too little memory.
    UsageError
        The argument has another type.
    """
    if name_or_path is not None and not isinstance(name_or_path, (str, os.PathLike)):
        raise UsageError("a model is a Model, a name, a path or None", type=type(name_or_path).__name__)
    path = model_path(name_or_path)
    model = _load(path, None)
    assert model is not None
    return model


def _load(path: Path, wanted: bytes | None) -> Model | None:
    """The model of a file; None if another fingerprint is wanted, which is found out before the model is proved."""
    stamp = _stamp(path)
    if (model := _models.get(stamp)) is None:
        try:
            file = read_file(path)
            file.check_claim(path.name)
            _keep(_fingerprints, stamp, file.fingerprint, _NAMED)
            if wanted not in (None, file.fingerprint):
                return None
            model = replace(build_model(file.content, path.name, file.provenance, file.fingerprint), path=path)
        except InvalidModel:
            _keep(_fingerprints, stamp, _NO_MODEL, _NAMED)
            raise
        except MemoryError as e:
            raise LimitExceeded("too little memory to load the model", where=str(path)) from e
    _keep(_models, stamp, model, _KEPT)
    return model if wanted in (None, model.fingerprint) else None


def find_model(wanted: bytes) -> Model:
    """The installed model with a fingerprint.

    Files that claim another are not read. Those that claim this one are loaded first, then those that claim none: what
    they hold is remembered. Files that are refused are passed over, and not read again until they change.

    Raises
    ------
    ModelError
        None has it; the fingerprints that were seen are named.
    LimitExceeded
        There is too little memory.
    """
    candidates, unnamed, seen, short = list[Path](), list[Path](), dict[str, str](), list[LimitExceeded]()
    for path in installed():
        try:
            named = _named(path)
        except ModelError:
            continue
        if named is None:
            unnamed.append(path)
        elif named == wanted:
            candidates.append(path)
        elif named != _NO_MODEL:
            seen[path.name] = named.hex()
    for path in (*candidates, *unnamed):
        try:
            if model := _load(path, wanted):
                return model
            seen[path.name] = (_named(path) or b"").hex()
        except ModelError:
            continue
        except LimitExceeded as e:  # another file may do
            short.append(e)
    if short:
        raise short[0]
    raise ModelError(
        "no installed model has the fingerprint that the stream names",
        where="header offset 16 (SPEC 8.1)",
        wanted=wanted.hex(),
        installed=seen,
        cause="get the model it was coded with and put it into a folder of $REFCODEC_MODELS",
    )


def _named(path: Path) -> bytes | None:
    """The fingerprint that a file is known to have, or claims to have; None if it claims none, `_NO_MODEL` if refused.

    Raises
    ------
    ModelError
        The file cannot be read.
    """
    stamp = _stamp(path)
    if (known := _fingerprints.get(stamp)) is not None:
        return known
    try:
        claim = read_claim(path)
    except InvalidModel:
        claim = _NO_MODEL
    if claim is not None:
        _keep(_fingerprints, stamp, claim, _NAMED)
    return claim


__all__ = ["DEFAULT", "RELEASED", "Released", "find_model", "installed", "load_model", "model_path"]
