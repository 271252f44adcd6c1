"""The pictures of a folder that a command measures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidImage, MissingInput
from ..io.pictures import read_picture
from ..limits import Limits


def pictures_in(folder: str, limits: Limits, tell: Callable[[str], None]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Read the pictures of a folder, in the order of their names; hidden files and folders do not count.

    Parameters
    ----------
    folder : str
    limits : Limits
    tell : callable
        Is given a line for every file: its place among all, or that it is passed over because it is no picture.

    Yields
    ------
    name : str
        Of the file.
    samples : np.ndarray [H, W] or [H, W, 3], uint8

    Raises
    ------
    MissingInput
        There is no such folder, or no picture in it.
    Unsupported, LimitExceeded, TransferError
        As `read_picture`; pictures with alpha are refused.
    """
    try:
        names = sorted(e.name for e in os.scandir(folder) if e.is_file() and not e.name.startswith("."))
    except OSError as error:
        raise MissingInput("the folder cannot be read", where=folder, cause=error.strerror or "") from error
    none = True
    for place, name in enumerate(names, 1):
        try:
            samples = read_picture(os.path.join(folder, name), limits, alpha=False).samples
        except InvalidImage:
            tell(f"{name}: passed over, not a picture")
            continue
        tell(f"{name}: {place} of {len(names)}")
        none = False
        yield name, samples
    if none:
        raise MissingInput("no picture in the folder", where=folder)
