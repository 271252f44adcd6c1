"""Run NumPy, Numba and SPEC.md's blocks against each other on random models at the edges of the proof, stage by stage.

    python -m conformance agree --models 2000 --seed 1 [--keep DIR]

Each model (synthetic/models/edges.py) passes verification, so every bound of SPEC 9.2 holds and all ways must compute
the same. A random picture is encoded and a random stream decoded by each backend, with one and with several threads,
with a trace and without one, as operations are fused only without. Every fourth stream and picture has tiles. SPEC.md's
blocks compute the encoder's transforms and the whole decoding. The first stage that differs is named with its first
differing number.

A model that differs is kept in DIR: its file, the stream and the picture. `bisect` and `differential` take them.
Exit codes: 0 no difference, 1 differences, 2 usage.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import InvalidModel, RefcodecError
from refcodec.io.files import write_bytes
from refcodec.model.file import write_model
from refcodec.model.integer_model import Model, build_model
from refcodec.model.procedural import draws
from refcodec.tiles import UNIT
from refcodec.trace import npy_bytes

from ..kit.errors import FAILED, PASSED, UsageError
from ..kit.specification import definition, plain_content
from ..locate.stages import Key, keyed
from ..run.run import positive
from ..synthetic.models.edges import Numbers, edge_content
from ..synthetic.writer import STYLES
from .differential import Recipe

DEFINITION = "SPEC.md"

ENCODER = ("g_a", "y", "h_a", "z")
"""Networks of the encoder before its walk, which is the decoder's."""

WAYS = (("numba", 1, True), ("numba", 3, True), ("numba", 3, False), ("numpy", 1, True), ("numpy", 3, False))
"""Backend, threads, and whether stages are traced; the first is the reference where SPEC.md's blocks do not run."""

PAUSE = 10.0
"""Seconds between two lines of progress."""

Stages = dict[Key, np.ndarray]


@dataclass(frozen=True)
class Trial:
    """A model, a stream of it and a picture."""

    label: str
    content: dict[str, np.ndarray]
    model: Model
    stream: bytes
    picture: np.ndarray
    quality: int
    tile: int


@dataclass(frozen=True)
class Difference:
    """The first stage at which two ways differ.

    Attributes
    ----------
    way, reference : str
    key : Key
    detail : str
        Which number, or what else differs.
    """

    way: str
    reference: str
    key: Key
    detail: str

    def __str__(self) -> str:
        return f"{self.way} differs from {self.reference} at {self.key}: {self.detail}"


def stream_recipe(seed: int, number: int, steps: int) -> Recipe:
    """The stream of a model: a picture of one block of 64x64, or two for some models, perhaps as two tiles.

    Parameters
    ----------
    seed, number : int
        Of the model.
    steps : int
        Qualities of the model.

    Returns
    -------
    Recipe
    """
    own, width, height, colour, quality, style = Numbers(seed, number).many("stream", 6, 0, 1 << 16).tolist()
    return Recipe(
        own,
        1 + width % (64 if width % 8 else 128),
        1 + height % 64,
        3 if colour % 2 else 1,
        1 + quality % steps,
        list(STYLES)[style % len(STYLES)],
        (1, 1) if number % 4 == 3 else (0, 0),
    )


def trial_of(seed: int, number: int) -> Trial:
    """The model of a number with its stream and picture.

    Raises
    ------
    InvalidModel
        The model is refused.
    """
    content = edge_content(seed, number)
    label = f"edges-{seed}-{number}"
    model = build_model(content, label)
    made = stream_recipe(seed, number, model.config.steps)
    shape = (made.height, made.width, 3)[: 2 if made.channels == 1 else 3]
    picture = draws(made.seed, "picture", int(np.prod(shape)), 0, 256).astype(np.uint8).reshape(shape)
    return Trial(label, content, model, made.stream(model, digest=False), picture, made.quality, made.tile[0])


class _Kept:
    """A trace that keeps copies."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.values: list[np.ndarray] = []

    def __call__(self, name: str, values: np.ndarray) -> None:
        """Take a stage."""
        self.names.append(name)
        self.values.append(np.array(values))

    def stages(self, wanted: Callable[[str], bool]) -> Stages:
        """Stages by name and turn."""
        return {key: values for key, values in zip(keyed(self.names), self.values, strict=True) if wanted(key.name)}


def _of_encoder(name: str) -> bool:
    return name.split("/")[0] in ENCODER


def _any(name: str) -> bool:
    return True


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def computed(trial: Trial, backend: str, threads: int, traced: bool) -> Stages:
    """Compute everything with one backend.

    Parameters
    ----------
    trial : Trial
        Model, picture and quality.
    backend : "numba" or "numpy"
    threads : int
    traced : bool
        Record every stage; otherwise only the encoder's stream and the samples.

    Returns
    -------
    Stages
        Of the encoder, its stream, of the decoder, and samples. A refusal is a stage, too, its text in bytes.
    """
    found: Stages = {}
    kept = _Kept()
    try:
        coded = encode_picture(
            trial.picture,
            trial.quality,
            model=trial.model,
            threads=threads,
            backend=backend,
            trace=kept if traced else None,
            tile=UNIT * trial.tile,
        )
        found |= kept.stages(_of_encoder) | {Key("stream"): _bytes(coded.data)}
        kept = _Kept()
        samples, _ = decode_stream(
            trial.stream, model=trial.model, threads=threads, backend=backend, trace=kept if traced else None
        )
        found |= kept.stages(_any) | {Key("samples"): samples}
    except RefcodecError as error:
        found |= kept.stages(_any) | {Key("refusal"): _bytes(f"{type(error).__name__}: {error}".encode())}
    return found


def defined(trial: Trial) -> Stages:
    """(SPEC 6.2, 6.10-3) What SPEC.md's blocks compute: stages of the encoder's transforms and of the decoder."""
    spec = definition()
    model = spec.build_model(plain_content(trial.content))
    codec = spec.new_codec(model, trial.quality)
    picture = trial.picture if trial.picture.ndim == 3 else trial.picture[:, :, None]
    codec["values"]["x"] = spec.pad_samples(picture.tolist())
    for prefix in ENCODER:
        spec.evaluate(codec, prefix)
    stages: list[tuple[str, Any]] = list(codec["trace"])
    spec.decode_picture(trial.stream, model, stages)
    keys = keyed(name for name, _ in stages)
    found = {key: np.array(values) for key, (_, values) in zip(keys, stages, strict=True)}
    samples = found[Key("samples")]
    return found | {Key("samples"): samples if samples.shape[2] > 1 else samples[:, :, 0]}


def first_difference(way: str, found: Stages, reference: str, expected: Stages) -> Difference | None:
    """Find the first stage that both have and that differs, or a refusal of one of them.

    Parameters
    ----------
    way : str
        Name of the compared way.
    found : Stages
    reference : str
        Name of the way of reference.
    expected : Stages
        Its order counts.

    Returns
    -------
    Difference or None
    """
    for key, wanted in expected.items():
        if key not in found:
            continue
        got = found[key]
        if got.shape != wanted.shape:
            return Difference(way, reference, key, f"the shape is {list(got.shape)}, not {list(wanted.shape)}")
        if not np.array_equal(got, wanted):
            places = np.argwhere(got != wanted)
            at = tuple(int(n) for n in places[0])
            return Difference(
                way,
                reference,
                key,
                f"{len(places)} of {got.size} numbers differ, the first at "
                f"{list(at)}: {got[at]} instead of {wanted[at]}",
            )
    refusal = Key("refusal")
    for who, has, other in ((way, found, expected), (reference, expected, found)):
        if refusal in has and refusal not in other:
            return Difference(way, reference, refusal, f"{who} refuses: {has[refusal].tobytes().decode()}")
    return None


def difference(trial: Trial, with_definition: bool) -> tuple[Difference | None, int]:
    """The first difference between all ways on a trial, and how many stages were compared."""
    reference, expected, compared = "", Stages(), 0
    if with_definition:
        reference, expected = DEFINITION, defined(trial)
    for backend, threads, traced in WAYS:
        way = f"{backend}, {threads} thread{'s' * (threads > 1)}{'' if traced else ', no trace'}"
        found = computed(trial, backend, threads, traced)
        if reference:
            compared += len(found.keys() & expected.keys())
            if differs := first_difference(way, found, reference, expected):
                return differs, compared
        for key, values in found.items():  # the stream is the backends' alone
            expected.setdefault(key, values)
        reference = reference or way
    return None, compared


def keep(folder: Path, trial: Trial) -> None:
    """Write a trial's model, stream and picture.

    Raises
    ------
    OutputError
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / f"{trial.label}.h5", trial.content, {"source": f"conformance agree, {trial.label}"})
    write_bytes(folder / f"{trial.label}.loclic", trial.stream)
    write_bytes(folder / f"{trial.label}.npy", npy_bytes(trial.picture))


@dataclass
class Summary:
    """Result of a search: models compared and refused, stages compared, models that differ."""

    models: int = 0
    refused: int = 0
    stages: int = 0
    defined: int = 0
    differing: int = 0

    def __str__(self) -> str:
        return (
            f"{self.models} models, {self.differing} differ; {self.stages} stages compared, SPEC.md's blocks on "
            f"{self.defined} models; {self.refused} more models refused by verification"
        )


def search(
    seed: int,
    numbers: Iterable[int],
    models: int,
    every: int = 1,
    failures: int = 1,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
) -> Summary:
    """Compare all ways on models until so many are verified.

    Parameters
    ----------
    seed : int
    numbers : iterable of int
        Of the models of the seed.
    models : int
        Verified models to compare.
    every : int
        SPEC.md's blocks run on every n-th of them.
    failures : int
        Models that differ after which the search ends.
    folder : Path or None
        Gets the models that differ.
    say : callable(str)
        Told about progress and differences.

    Returns
    -------
    Summary

    Raises
    ------
    OutputError
        A model that differs cannot be kept.
    """
    total, begun = Summary(), time.monotonic()
    told = begun
    for number in numbers:
        if total.models == models or total.differing == failures:
            break
        try:
            trial = trial_of(seed, number)
        except InvalidModel:
            total.refused += 1
            continue
        with_definition = total.models % every == 0
        found, compared = difference(trial, with_definition)
        total.models += 1
        total.defined += with_definition
        total.stages += compared
        if found:
            total.differing += 1
            say(f"model {number} of seed {seed}: {found}")
            if folder:
                keep(folder, trial)
        if time.monotonic() - told > PAUSE:
            told = time.monotonic()
            say(f"{total.models} of {models} models, {total.differing} differ ({told - begun:.0f} s)")
    return total


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--models", type=positive, default=100, metavar="N", help="verified models, default 100")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the models, default 1")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="number of the first model, default 0")
    parser.add_argument(
        "--definition-every",
        type=positive,
        default=1,
        metavar="N",
        help="SPEC.md's blocks run on every N-th model, default 1",
    )
    parser.add_argument("--failures", type=positive, default=1, metavar="N", help="stop after so many, default 1")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder that gets the models that differ")


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Raises
    ------
    UsageError, OutputError
    """
    if not 0 <= args.seed < 1 << 64 or args.first < 0:
        raise UsageError(f"--seed {args.seed} --first {args.first}: allowed are 0..2^64 - 1 and 0 or more")
    numbers = iter(range(args.first, args.first + 2 * args.models))
    found = search(
        args.seed,
        numbers,
        args.models,
        args.definition_every,
        args.failures,
        args.keep,
        lambda line: print(line, flush=True),
    )
    print(found)
    if not found.differing and found.models < args.models:
        raise UsageError(f"only {found.models} of {2 * args.models} models were verified")
    return FAILED if found.differing else PASSED
