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
from refcodec.model.registry import RELEASED, Released

from ...kit import vectors
from ...kit.strict_json import read_json
from ...kit.suites import frozen_suites
from ...run.models import locate
from .edits import Edited, entry_of, from_json

Content = Mapping[str, np.ndarray]

FOLDER = Path(__file__).parents[2] / "data" / "models"

STALE = "0" * 64
"""Placeholder for the hash of a model's file that is missing or of another content."""

# N, M, slices, hyper, hs, chan, ent, lrp, window, local_heads, intra_heads, inter_head_width, qualities, old_synthesis
MID = Config((12, 16, 24), 40, 5, 12, (16, 24), (20, 16), (24, 20, 16), (16, 12), 5, 2, 2, 8, 5)
"""Between tiny and the default: five slices, up to four heads of the inter attention."""

TINY_OLD = Config((4, 6, 8), 12, 2, 4, (4, 6), (6, 4), (8, 6, 4), (), 5, 3, 1, old_synthesis=True)
"""The older g_s and LRP, one quality, and other numbers of heads."""

NANO = Config((2, 2, 2), 20, 2, 2, (2, 2), (2, 2), (2, 2, 2), (2, 2), 5, 1, 1)
"""The smallest that has every operation: broken models are derived from it."""

CONFIGURATIONS = {
    "single": Config((4, 6, 10), 10, 1, 2, (6, 2), (2, 4), (6, 10, 4), (4, 6), 5, 5, 1, 1, 2, True),
    "heads": Config((6, 4, 8), 12, 3, 6, (4, 10), (6, 4), (8, 6, 4), (), 5, 4, 2, 1),
    "slices": Config((2, 4, 6), 16, 8, 4, (4, 6), (4, 6), (4, 6, 8), (4, 6), 5, 1, 2, 4096),
    "wide": Config((34, 10, 18), 20, 2, 18, (18, 10), (34, 18), (34, 66, 18), (18, 10), 5, 5, 2, 5),
}
"""Edges of what SPEC 6.1 allows. One slice, with gains and the older g_s but two widths of LRP; as many heads as
channels, and derived widths of LRP; eight slices of two channels, of which the inter attention is one head; widths just
above multiples of 16, 32 and 64."""

ELEVEN = Config((2, 2, 2), 44, 11, 2, (2, 2), (2, 2), (2, 2, 2), (2, 2), 5, 2, 4, 4)
ALL_SLICES = Config((2, 2, 2), 64, 32, 2, (2, 2), (2, 2), (2, 2, 2), (2, 2), 5, 1, 2, 62)
"""More slices than every published model has, and as many as SPEC 6.1 allows. Their models are mostly zeros."""

KEPT = 61
"""Of a thinned model every so many weights are kept."""

FLOORED = {"floored": Config((2, 4, 2), 24, 3, 2, (2, 4), (4, 2), (4, 2, 2), (2, 4), 5, 2, 4, 6)}
"""Eight channels per slice and heads of six: one head and two heads of eight channels, where quotients are not
exact.
"""


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
    edited, base : Edited or None, str
        How its file differs from that of the model named base; such a model may be broken.
    """

    name: str
    content: Callable[[], Content]
    description: str
    profile: str = ""
    seed: int = 0
    shipped: bool = True
    edited: Edited | None = None
    base: str = ""

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
        f"procedural, a configuration of its own ({name}), seed {seed} (SPEC B.3)",
        seed=seed,
    )


def _thinned(name: str, config: Config, seed: int) -> Source:
    """A procedural model of which few weights are left, so that its file is small."""

    def content() -> Content:
        made = dict(build(config, seed))
        for path, array in made.items():
            if path.endswith("/weight"):
                made[path] = np.where(np.arange(array.size).reshape(array.shape) % KEPT == 0, array, 0).astype(
                    array.dtype
                )
        return made

    says = f"procedural, a configuration of its own ({name}), seed {seed} (SPEC B.3), every {KEPT}st weight of a layer"
    return Source(f"{name}-{seed}", cache(content), says, seed=seed)


def _released(entry: Released) -> Source:
    """A model of the package."""
    content = cache(lambda: read_content(entry.path)[0])
    return Source(entry.name, content, f"the released model {entry.name}", shipped=False)


_SOURCES = {
    source.name: source
    for source in (
        _procedural("tiny", 7, shipped=True),
        _configured("tiny-old", TINY_OLD, 7),
        _configured("mid", MID, 7),
        _configured("nano", NANO, 7),
        *(_configured(name, config, 7) for name, config in {**CONFIGURATIONS, **FLOORED}.items()),
        _thinned("eleven", ELEVEN, 7),
        _thinned("all-slices", ALL_SLICES, 7),
        _procedural("default", 7),
        _procedural("paper", 7),
        _procedural("mlicpp", 7),
        _procedural("mlicpp-old", 7),
        *(_released(entry) for entry in RELEASED),
    )
}

CONSTRUCTED = (
    *("wires", "limits", "narrow", "attentions", "observed"),
    *("broken_models", "broken_places", "broken_files", "reader_rules", "raw_files"),
)
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


def edited_model(made: Edited, base: str) -> None:
    """Register a model file derived from another one; raises ValueError if the name is taken."""
    if made.model in _SOURCES:
        raise ValueError(f"two models are named {made.model!r}")
    says = f"{base} with {made.says}"
    _SOURCES[made.model] = Source(made.model, _SOURCES[base].content, says, edited=made, base=base)


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
    """The model for a decoder: the checked model, or the file of one that may be broken.

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
    entry = _edited_entry(made)
    edits = from_json(entry["edits"])
    pins = entry["fingerprint"], source(made.base).path, entry["sha256"]
    path = locate(vectors.Model(name, *pins, edits=edits, edited=entry["edited"]))
    assert path is not None  # edits give what they were made from
    return path


MODEL_LEVELS = (("A", 2**20, 2**13), ("B", 2**24, 2**17), ("C", 2**27, 2**21))
"""(SPEC 12.2) Level, most parameters, most multiply-accumulates per sample."""


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
    base = source(made.base)
    _file_hash(base, False)
    return entry_of(base.path, made.edited, _written().get(made.name)) | standing(
        read_config(base.content(), base.name)
    )


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

    It is written again only if its content differs, since versions of HDF5 differ in their bytes. With ``check`` it is
    never written, and a wrong file's hash is ``STALE``.

    Raises
    ------
    ValueError
        The content is another, and a frozen suite pins the file.
    """
    wanted = fingerprint(made.content())
    try:
        current = fingerprint(read_content(made.path)[0]) == wanted
    except ModelError:
        current = False
    if not current and check:
        return STALE
    if not current:
        if pinned := [suite.name for suite in frozen_suites() if made.path.resolve() in suite.files]:
            raise ValueError(f"{made.path.name} is pinned by {pinned[0]} for good: the new model needs another name")
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
    for released in RELEASED:
        if name == released.name:
            entry |= {"package": f"refcodec/data/{released.path.name}", "sha256": released.sha256}
    if made.profile:
        entry["procedural"] = {"profile": made.profile, "seed": made.seed}
    return entry
