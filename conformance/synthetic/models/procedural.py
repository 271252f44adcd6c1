"""The models that vectors name: procedural ones (SPEC B.3), constructed ones, and the package's default.

Small ones are shipped as HDF5 files in conformance/data/models; full-shape procedural ones are made on demand, which
``python -m refcodec model procedural`` does anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.errors import ModelError
from refcodec.model.config import PROFILES, Config
from refcodec.model.file import read_content, write_model
from refcodec.model.integer_model import Model, build_model, fingerprint, read_config
from refcodec.model.layer_table import layer_table
from refcodec.model.procedural import build
from refcodec.model.registry import DEFAULT

from ...kit.strict_json import read_json
from .edits import Change, Edited, entry_of, made_file

Content = Mapping[str, np.ndarray]

FOLDER = Path(__file__).parents[2] / "data" / "models"

STALE = "0" * 64
"""Stands for the hash of a model's file that is missing or of another content."""

MID = Config(
    N=(12, 16, 24),
    M=40,
    slices=5,
    hyper=12,
    hs=(16, 24),
    chan=(20, 16),
    ent=(24, 20, 16),
    lrp=(16, 12),
    inter_head_width=8,
    qualities=5,
)
"""Between tiny and the default: five slices, up to four heads of the inter attention."""

TINY_OLD = Config(
    N=(4, 6, 8),
    M=12,
    slices=2,
    hyper=4,
    hs=(4, 6),
    chan=(6, 4),
    ent=(8, 6, 4),
    lrp=(),
    local_heads=3,
    intra_heads=1,
    old_synthesis=True,
)
"""The older g_s and LRP, one quality, and other numbers of heads."""

NANO = Config(
    N=(2, 2, 2),
    M=20,
    slices=2,
    hyper=2,
    hs=(2, 2),
    chan=(2, 2),
    ent=(2, 2, 2),
    lrp=(2, 2),
    local_heads=1,
    intra_heads=1,
)
"""The smallest that has every operation: broken models are made of it."""


@dataclass(frozen=True)
class Source:
    """How a model is had.

    Attributes
    ----------
    name : str
    content : callable() -> mapping of str to np.ndarray
        Its normative arrays (SPEC 10.2).
    description : str
    profile : str
        Of a procedural model that anyone can make by name; "" for others.
    seed : int
    shipped : bool
        Whether the kit has it as a file.
    edited : Edited or None
        The file of another model with some bytes changed; such a model may be broken.
    """

    name: str
    content: Callable[[], Content]
    description: str
    profile: str = ""
    seed: int = 0
    shipped: bool = True
    edited: Edited | None = None

    @property
    def path(self) -> Path:
        """Its file in the kit."""
        return FOLDER / f"{self.name}.h5"


def _procedural(profile: str, seed: int, shipped: bool = False) -> Source:
    return Source(
        f"{profile}-{seed}",
        cache(lambda: build(PROFILES[profile], seed)),
        f"procedural, profile {profile}, seed {seed} (SPEC B.3)",
        profile,
        seed,
        shipped,
    )


def _configured(name: str, config: Config, seed: int) -> Source:
    return Source(
        f"{name}-{seed}",
        cache(lambda: build(config, seed)),
        f"procedural, a configuration of its own, seed {seed} (SPEC B.3)",
        seed=seed,
    )


_SOURCES = {
    source.name: source
    for source in (
        _procedural("tiny", 7, shipped=True),
        _configured("tiny-old", TINY_OLD, 7),
        _configured("mid", MID, 7),
        _configured("nano", NANO, 7),
        _procedural("default", 7),
        _procedural("paper", 7),
        _procedural("mlicpp", 7),
        _procedural("mlicpp-old", 7),
        Source("default", cache(lambda: read_content(DEFAULT)[0]), "the default model of the package", shipped=False),
    )
}

CONSTRUCTED = ("configurations", "wires", "limits", "narrow", "attentions", "broken_models", "broken_files")
"""Modules of this package that register constructed models."""


def model_source(name: str) -> Callable[[Callable[[], Content]], Callable[[], Content]]:
    """Register a function that constructs the content of a model; its docstring describes it.

    Raises
    ------
    ValueError
        The name is taken.
    """

    def register(function: Callable[[], Content]) -> Callable[[], Content]:
        if name in _SOURCES:
            raise ValueError(f"two models are named {name!r}")
        _SOURCES[name] = Source(name, cache(function), " ".join((function.__doc__ or "").split()))
        return function

    return register


def edited_model(
    name: str,
    base: str,
    change: Change,
    description: str,
    same: bool = False,
    library: str | None = None,
    patch: tuple[bytes, bytes] | None = None,
) -> None:
    """Register a model file made of another model's by a change that need not leave a valid one, as of an `Edited`.

    Raises
    ------
    ValueError
        The name is taken.
    """
    if name in _SOURCES:
        raise ValueError(f"two models are named {name!r}")
    below = _SOURCES[base]
    _SOURCES[name] = Source(name, below.content, description, edited=Edited(below.path, change, same, library, patch))


def sources() -> dict[str, Source]:
    """All models by name, constructed ones included."""
    for module in CONSTRUCTED:
        import_module(f"{__package__}.{module}")
    return dict(_SOURCES)


def source(name: str) -> Source:
    """A model's source.

    Raises
    ------
    ModelError
        No model has this name.
    """
    known = sources()
    if name not in known:
        raise ModelError("unknown model of the suites", where=name, known=sorted(known))
    return known[name]


@cache
def model(name: str) -> Model:
    """(SPEC 10.2) A named model, checked and proved by the loader.

    Raises
    ------
    ModelError
        No model has this name.
    InvalidModel
        The loader refuses it.
    """
    return build_model(source(name).content(), name)


def argument(name: str) -> Model | Path:
    """What a decoder is given: the checked model, or the file of one that may be broken.

    Raises
    ------
    ModelError, InvalidModel
        As `model`.
    """
    return edited_file(name) if source(name).edited else model(name)


def edited_file(name: str) -> Path:
    """The file of an edited model, for as long as this process lives; raises ModelError."""
    made = source(name)
    assert made.edited is not None
    return made_file(made.edited, _edited_entry(made))


MODEL_LEVELS = (("A", 2**20, 2**13), ("B", 2**24, 2**17), ("C", 2**27, 2**21))
"""(SPEC 12.2) Level, most parameters, most multiply-accumulates a sample."""


def profiles(config: Config) -> list[str]:
    """(SPEC 12.1) Names of the profiles that have a configuration."""
    names = [name for name, known in PROFILES.items() if known == config]
    main = len(config.lrp) == 2 and not config.old_synthesis
    return [*names, *(["main"] if main else []), "full"]


def model_level(config: Config) -> str:
    """(SPEC 12.2) The lowest level that has the models of a configuration."""
    table = layer_table(config)
    parameters, macs = sum(op.parameters for op in table), sum(op.macs for op in table)
    return next((level for level, most, heaviest in MODEL_LEVELS if parameters <= most and macs <= heaviest), "D")


def standing(config: Config) -> dict[str, Any]:
    """Both as fields of a manifest's entry."""
    return {"profiles": profiles(config), "level": model_level(config)}


@cache
def _edited_entry(made: Source) -> dict[str, Any]:
    """The entry of an edited model: the one of a manifest, if there is one and the base is still the same."""
    assert made.edited is not None
    base = next(s for s in _SOURCES.values() if s.path == made.edited.base)
    _file_hash(base, False)
    return entry_of(made.edited, _written().get(made.name)) | standing(read_config(base.content(), base.name))


@cache
def _written() -> dict[str, Any]:
    """Entries of models in the manifests that are there, by name."""
    return {
        name: entry
        for path in FOLDER.parent.glob("suites/*/manifest.json")
        for name, entry in read_json(path.read_bytes())["models"].items()
    }


@cache
def _file_hash(made: Source, check: bool) -> str:
    """SHA-256 of a shipped model's file, which is of the wanted content.

    It is written anew only if its content is another, for versions of HDF5 differ in their bytes. With ``check`` it is
    never written, and a wrong file's hash is ``STALE``.
    """
    wanted = fingerprint(made.content())
    try:
        current = fingerprint(read_content(made.path)[0]) == wanted
    except ModelError:
        current = False
    if not current and check:
        return STALE
    if not current:
        made.path.parent.mkdir(exist_ok=True)
        write_model(made.path, made.content(), {"source": made.description})
    return hashlib.sha256(made.path.read_bytes()).hexdigest()


def manifest_entry(name: str, check: bool = False) -> dict[str, Any]:
    """A model's entry in a manifest; the file of a shipped one is brought up to date, or with ``check`` only looked at.

    Paths are relative to a suite's folder.
    """
    made = source(name)
    if made.edited:
        return _edited_entry(made)
    content = made.content()
    entry: dict[str, Any] = {"fingerprint": fingerprint(content).hex(), **standing(read_config(content, name))}
    if made.shipped:
        entry |= {"file": f"../../models/{made.path.name}", "sha256": _file_hash(made, check)}
    if name == "default":
        entry |= {
            "package": f"refcodec/data/{DEFAULT.name}",
            "sha256": hashlib.sha256(DEFAULT.read_bytes()).hexdigest(),
        }
    if made.profile:
        entry["procedural"] = {"profile": made.profile, "seed": made.seed}
    return entry


__all__ = [
    "FOLDER",
    "MID",
    "NANO",
    "TINY_OLD",
    "Source",
    "argument",
    "edited_file",
    "edited_model",
    "manifest_entry",
    "model",
    "model_level",
    "model_source",
    "profiles",
    "source",
    "sources",
]
