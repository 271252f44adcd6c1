"""Every limit of the format and of this implementation, with its reason (SPEC 9.1).

Format limits bind every stream and decoder. Implementation limits are defaults that a caller may change. They are
checked on the size of a picture, before memory is taken, by two functions of this module. Code that reads, codes or
decodes a picture calls `check_pixels` as soon as its size is known and `check_memory` as soon as an estimate is.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field

from .errors import LimitExceeded, UsageError
from .system_memory import memory_allowed

MAX_SIDE = 1 << 20
"""Largest width or height in samples (SPEC 9.1-1): with MAX_LATENT_POSITIONS it keeps every index below 2^31."""

MAX_LATENT_POSITIONS = 1 << 23
"""Largest tile in positions of 16x16 samples (SPEC 9.1-2): sums of global attention stay below 2^62."""

MAX_TILES = 1 << 16
"""Most tiles of a picture (SPEC 9.1-8): the index stays below a megabyte. Tiles of 512x512 reach 17 gigapixels."""

MAX_SEGMENT_BYTES = (1 << 31) - 1
"""Longest segment (SPEC 9.1-4): every length and offset inside one fits a signed 32-bit integer."""

MAX_SYMBOL = (1 << 15) - 1
"""Largest magnitude of a coded symbol (SPEC 9.1-3, 7.2-6): symbol * 64 + mean is below 2^22 before y_hat saturates."""

MAX_METADATA_BYTES = 1 << 24
"""Largest payload of one metadata chunk (SPEC 9.1-5, 8.4-9): ICC profiles and EXIF are far smaller, bombs are not."""

PAD = 64
"""Padded sides are multiples of this: 16 for the latents times 4 for the hyper latents (SPEC 4.2)."""

MEMORY_SHARE = 0.75
"""Share of the memory allowed to the process (system_memory.py) that one picture may take where the caller names no
limit. The rest is for the interpreter and the caller."""


def default_memory() -> int:
    """Bytes of working memory that one picture may take where the caller names no limit."""
    return int(MEMORY_SHARE * memory_allowed())


@dataclass(frozen=True)
class Limits:
    """Largest cost of one picture that a caller accepts (SPEC 9.1-9).

    Attributes
    ----------
    max_pixels : int
        Largest number of pixels after padding to multiples of 64 (SPEC 4.2), which determine time and memory. The
        default accepts every picture of level 6 (SPEC 12.2).
    max_memory : int or None
        Largest estimated working memory in bytes (memory.py), None for no limit; the default is `default_memory`.

    Raises
    ------
    UsageError
        A limit is no positive integer.
    """

    max_pixels: int = 1 << 27
    max_memory: int | None = field(default_factory=default_memory)

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_memory"):
            value = getattr(self, name)
            try:
                fits = operator.index(value) > 0 if value is not None else name == "max_memory"
            except TypeError:
                fits = False
            if not fits:
                raise UsageError(
                    "a limit is a positive integer, that of memory may be None", where=name, value=repr(value)
                )


def padded(size: int) -> int:
    """(SPEC 4.2) A side after padding: the next multiple of 64."""
    return -(-size // PAD) * PAD


def padded_pixels(width: int, height: int) -> int:
    """(SPEC 4.2, 8.1) Pixels after padding, 256 for every latent position."""
    return padded(width) * padded(height)


def check_pixels(width: int, height: int, limits: Limits, where: str = "") -> None:
    """(SPEC 8.5-7) Refuse a picture with too many padded pixels, by its size alone.

    Parameters
    ----------
    width, height : int
        Samples, before padding.
    limits : Limits
    where : str
        The place that the error names.

    Raises
    ------
    LimitExceeded
        As `check_padded`.
    """
    check_padded(padded_pixels(width, height), limits, where, width=width, height=height)


def check_padded(pixels: int, limits: Limits, where: str = "", **values: object) -> None:
    """(SPEC 8.5-7) Refuse too many padded pixels.

    Parameters
    ----------
    pixels : int
        Those of a picture, or of the tiles that a region needs.
    limits : Limits
    where : str
        The place that the error names.
    **values
        More values for the message.

    Raises
    ------
    LimitExceeded
    """
    if pixels > limits.max_pixels:
        raise LimitExceeded(
            "the picture has more pixels than allowed",
            where=where,
            **values,
            padded_pixels=pixels,
            max_pixels=limits.max_pixels,
            cause="sides are padded to multiples of 64; raise max_pixels (--max-pixels) if the source is trusted",
        )


def mebibytes(size: int) -> int:
    """Bytes in MiB, rounded up."""
    return -(-size // (1 << 20))


def check_memory(memory: int, limits: Limits, what: str, where: str = "", **values: object) -> None:
    """(SPEC 8.5-7, 9.1-10) Refuse what takes too much memory, by its estimate.

    Parameters
    ----------
    memory : int
        Estimated bytes.
    limits : Limits
    what : str
        What takes them, as the beginning of the message: "decoding".
    where : str
        The place that the error names.
    **values
        More values for the message.

    Raises
    ------
    LimitExceeded
    """
    if limits.max_memory is not None and memory > limits.max_memory:
        raise LimitExceeded(
            f"{what} takes more memory than allowed",
            where=where,
            **values,
            estimate=memory,
            max_memory=limits.max_memory,
            cause=f"{mebibytes(memory)} MiB are needed: raise max_memory (--max-memory "
            f"{mebibytes(memory)}) if the machine has them",
        )
