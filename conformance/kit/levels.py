"""Profiles and levels of vectors (SPEC 12). Never imports refcodec."""

from __future__ import annotations

import re

from .errors import UsageError
from .vectors import MODEL_LEVELS, PROFILES, Accept, Vector

PICTURE_LEVELS = (
    (1, 2**10, 2**12),
    (2, 2**12, 2**13),
    (3, 2**14, 2**14),
    (4, 2**15, 2**15),
    (5, 2**17, 2**16),
    (6, 2**19, 2**17),
    (7, 2**23, 2**20),
    (8, 2**32, 2**20),
)
"""(SPEC 12.2) Level, most latent positions, longest side."""

_LEVEL = re.compile(rf"([1-{len(PICTURE_LEVELS)}])([{''.join(MODEL_LEVELS)}])")


def picture_level(width: int, height: int) -> int:
    """(SPEC 12.2) The lowest level that has a picture."""
    positions, side = -(-width // 64) * 4 * (-(-height // 64) * 4), max(width, height)
    return min(level for level, most, longest in PICTURE_LEVELS if positions <= most and side <= longest)


def parse_level(text: str) -> tuple[int, str]:
    """A level such as "4B": of pictures and of models; raises UsageError."""
    found = _LEVEL.fullmatch(text)
    if found is None:
        raise UsageError(f"level {text!r}: a digit 1..{len(PICTURE_LEVELS)} and a letter of {', '.join(MODEL_LEVELS)}")
    return int(found[1]), found[2]


def level_of(vector: Vector) -> str:
    """The level of a valid stream, its digit alone if it needs no model; "-" for vectors that every level has."""
    if not isinstance(vector.expect, Accept):
        return "-"
    return f"{picture_level(vector.expect.width, vector.expect.height)}{vector.model.level if vector.model else ''}"


def belongs(vector: Vector, profile: str, level: str) -> bool:
    """(SPEC 14.2) Whether a decoder of this profile and level must pass a vector.

    Streams that are refused belong wherever their model does; unit cases, which no decoder runs, nowhere.

    Parameters
    ----------
    vector : Vector
    profile : str
        One of SPEC 12.1.
    level : str
        Such as "4B" (SPEC 12.2).

    Returns
    -------
    bool

    Raises
    ------
    UsageError
        The profile or the level does not exist.
    """
    if profile not in PROFILES:
        raise UsageError(f"profile {profile!r}: one of {', '.join(PROFILES)}")
    pictures, models = parse_level(level)
    if vector.expect is None:
        return False
    if vector.model is not None and (profile not in vector.model.profiles or vector.model.level > models):
        return False
    return not isinstance(vector.expect, Accept) or picture_level(vector.expect.width, vector.expect.height) <= pictures
