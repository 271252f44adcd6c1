"""The size of a picture that is read, checked before memory is taken."""

from __future__ import annotations

from ..errors import InvalidImage, LimitExceeded
from ..limits import MAX_SIDE, Limits, check_memory, check_pixels


def check_size(
    width: int, height: int, limits: Limits, where: str = "", bytes_per_pixel: int = 8, more_bytes: int = 0
) -> None:
    """Refuse a picture by its size alone, before memory is taken.

    Parameters
    ----------
    width, height : int
    limits : Limits
    where : str
        The place that errors name.
    bytes_per_pixel, more_bytes : int
        What reading its format takes at most.

    Raises
    ------
    InvalidImage
        A side is zero.
    LimitExceeded
        A side exceeds MAX_SIDE, the pixels exceed ``max_pixels``, or the bytes that reading takes exceed
        ``max_memory``.
    """
    if width < 1 or height < 1:
        raise InvalidImage("the picture is empty", where=where, width=width, height=height)
    check_pixels(width, height, limits, where)
    if max(width, height) > MAX_SIDE:
        raise LimitExceeded(
            "the picture is too large in side",
            where=where,
            width=width,
            height=height,
            value=max(width, height),
            allowed=MAX_SIDE,
        )
    check_memory(
        bytes_per_pixel * width * height + more_bytes, limits, "reading the picture", where, width=width, height=height
    )
