"""Checkpoint -> calibrated, quantised, proved integer model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from refcodec import __version__
from refcodec.errors import MissingInput
from refcodec.io.files import list_pictures
from refcodec.io.pictures import read_picture
from refcodec.limits import Limits
from refcodec.model.config import Config
from refcodec.model.file import write_model
from refcodec.model.integer_model import Model, build_model

from ..formats.checkpoint import Checkpoint
from .calibrate import Record, calibrate, choose_formats, record_content
from .code_length import Bottleneck
from .export import kept_floats
from .folding import float_layers
from .quantise import quantise
from .recognise import recognise

Progress = Callable[[float], None]
"""Takes the share of the work that is done, 0 to 1."""

CALIBRATION_CROP = 256
CALIBRATION_PICTURES = 16
"""Pictures that calibration takes, spread evenly over those there are."""


def calibration_steps(config: Config) -> tuple[int, ...]:
    """Qualities that calibration runs: latents grow with quality, so the last step sets most ranges."""
    return (1, 30, 60, 80, 100) if config.steps > 1 else (1,)


def read_colour(path: str | Path) -> np.ndarray:
    """Samples [H, W, 3] uint8 of a picture; a grey one gets three equal channels.

    Raises
    ------
    MissingInput, InvalidImage, Unsupported, LimitExceeded
        As `read_picture`.
    """
    samples = read_picture(path, Limits(), alpha=False).samples
    return np.repeat(samples[:, :, None], 3, axis=2) if samples.ndim == 2 else samples


def centre_crop(samples: np.ndarray, crop: int) -> np.ndarray:
    """The middle [<= crop, <= crop, 3] of a picture [H, W, 3]."""
    y, x = (max(0, (side - crop) // 2) for side in samples.shape[:2])
    return np.ascontiguousarray(samples[y : y + crop, x : x + crop])


def load_pictures(folder: Path, crop: int, most: int | None = None) -> list[tuple[str, np.ndarray]]:
    """Load centre crops of the pictures in a folder, grey ones in three channels, sorted by name.

    Parameters
    ----------
    folder : Path
    crop : int
        Largest side of a crop, in samples.
    most : int or None
        Most pictures, taken at equal distances; None for all.

    Returns
    -------
    list of (str, np.ndarray [<= crop, <= crop, 3] uint8)

    Raises
    ------
    MissingInput
        The folder holds no picture.
    """
    paths = list_pictures(folder)
    if most is not None and len(paths) > most:
        paths = [paths[n * len(paths) // most] for n in range(most)]
    return [(path.name, centre_crop(read_colour(path), crop)) for path in paths]


def default_pictures() -> Path:
    """The folder of the project's own pictures, which are installed with the package.

    Raises
    ------
    MissingInput
        It is not there.
    """
    try:
        folder = Path(str(resources.files("conformance") / "data" / "pictures"))
    except ModuleNotFoundError:
        folder = Path("conformance") / "data" / "pictures"
    if not folder.is_dir():
        raise MissingInput(
            "the project's own pictures are not installed",
            where=str(folder),
            cause="name a folder of photographs with --images",
        )
    return folder


def own_pictures() -> list[np.ndarray]:
    """Crops of the project's own pictures, part of every calibration: charts reach further than photographs do.

    Raises
    ------
    MissingInput
        They are not installed.
    """
    return [samples for _, samples in load_pictures(default_pictures(), CALIBRATION_CROP)]


def record_pictures(
    config: Config, state: Mapping[str, np.ndarray], pictures: Sequence[np.ndarray], progress: Progress | None = None
) -> Record:
    """Calibrate a network of published tensors on pictures at the steps of ``calibration_steps``.

    Parameters
    ----------
    config : Config
    state : mapping of str to np.ndarray
        Published tensors by name.
    pictures : sequence of np.ndarray [H, W, 3], uint8
    progress : callable(share) or None

    Returns
    -------
    Record
    """
    return calibrate(
        config, float_layers(config, state), Bottleneck(state), pictures, calibration_steps(config), progress
    )


def make_content(checkpoint: Checkpoint, record: Record, progress: Progress | None = None) -> dict[str, np.ndarray]:
    """The normative content of the integer model.

    Parameters
    ----------
    checkpoint : Checkpoint
    record : Record
        The calibration.
    progress : callable(share) or None

    Returns
    -------
    dict of str to np.ndarray
        As in SPEC 10.2.

    Raises
    ------
    InvalidModel
        The checkpoint does not fit, or a layer cannot be proved.
    """
    config = recognise(checkpoint.tensors, checkpoint.config, checkpoint.where)
    return quantise(
        config,
        float_layers(config, checkpoint.tensors, checkpoint.where),
        choose_formats(config, record),
        Bottleneck(checkpoint.tensors),
        progress,
    )


def convert(
    checkpoint: Checkpoint, record: Record, out: Path, more: dict[str, Any], progress: Progress | None = None
) -> Model:
    """Make, prove and write a model.

    Parameters
    ----------
    checkpoint : Checkpoint
    record : Record
        The calibration.
    out : Path
        The model file.
    more : dict
        Further provenance: what the calibration pictures were.
    progress : callable(share) or None

    Returns
    -------
    Model

    Raises
    ------
    InvalidModel
        The checkpoint does not fit, or a layer cannot be proved.
    """
    content = make_content(checkpoint, record, progress)
    text = repr(sorted(record_content(record).items())).encode()
    provenance = {
        "source_sha256": checkpoint.source_sha256,
        "tool": f"refcodec {__version__}",
        "source": checkpoint.meta,
        "calibration_sha256": hashlib.sha256(text).hexdigest(),
        **more,
    }
    model = build_model(content, out.name, provenance)
    write_model(out, content, provenance, kept_floats(model.config, checkpoint.tensors))
    return model
