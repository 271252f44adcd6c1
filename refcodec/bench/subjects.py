"""Subjects of ``refcodec bench``: models by name, and pictures of any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import MissingInput
from ..io.pictures import read_picture
from ..io.sizes import check_size
from ..limits import Limits
from ..model.config import PROFILES
from ..model.integer_model import Model
from ..model.procedural import procedural_model, write_procedural
from ..model.registry import load_model, model_path

SEED = 1  # of procedural models


@dataclass(frozen=True)
class Subject:
    """A model to measure; ``path`` is None for one that exists in memory only."""

    name: str
    model: Model
    path: Path | None

    def file(self, folder: Path) -> Path:
        """Its file, written into the folder if there is none."""
        if self.path is not None:
            return self.path
        target = folder / f"{self.name}.h5"
        if not target.exists():
            write_procedural(self.name, SEED, target)
        return target


def subject(name: str) -> Subject:
    """The default model, the procedural one of a profile, or a model by path or installed name.

    Raises
    ------
    ModelError
        There is no such model.
    """
    if name in PROFILES and name != "default":
        return Subject(name, procedural_model(name, SEED), None)
    wanted = None if name == "default" else name
    return Subject(name, load_model(wanted), model_path(wanted))


def picture(path: str | None, limits: Limits = Limits()) -> np.ndarray:
    """Samples [H, W, 3] or [H, W] of a picture, of the project's own without a path.

    Raises
    ------
    MissingInput, InvalidImage, Unsupported, LimitExceeded
    """
    if path is None:
        own = Path(__file__).parents[2] / "conformance" / "data" / "pictures" / "scene_large.png"
        if not own.is_file():
            raise MissingInput(
                "the project's own pictures are not installed", where=str(own), cause="name a picture with --picture"
            )
        path = str(own)
    return read_picture(path, limits, alpha=False).samples


def fitted(samples: np.ndarray, width: int, height: int, limits: Limits = Limits()) -> np.ndarray:
    """Fit a picture to a size: its middle, or the picture and its mirror images side by side.

    Parameters
    ----------
    samples : np.ndarray [H, W] or [H, W, C], uint8
    width, height : int
        The new size.
    limits : Limits

    Returns
    -------
    np.ndarray [height, width] or [height, width, C], uint8

    Raises
    ------
    LimitExceeded
        The size is beyond the limits.
    """

    def places(size: int, have: int) -> np.ndarray:
        place = (np.arange(size) + max(0, have - size) // 2) % (2 * have)
        return np.minimum(place, 2 * have - 1 - place)

    check_size(width, height, limits, "--sizes")
    rows, columns = places(height, samples.shape[0]), places(width, samples.shape[1])
    return np.ascontiguousarray(samples[rows[:, None], columns])
