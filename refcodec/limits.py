"""Every limit of the format and of this implementation, with its reason (SPEC 9.1).

Format limits bind every stream and decoder. Implementation limits are defaults a caller may change; they are checked
on the header, before memory is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_SIDE = 1 << 20
"""Largest width or height in samples (SPEC 9.1-1): with MAX_LATENT_POSITIONS it keeps every index below 2^31."""

MAX_LATENT_POSITIONS = 1 << 23
"""Largest padded picture in positions of 16x16 samples (SPEC 9.1-2): sums of global attention stay below 2^62."""

MAX_SYMBOL = (1 << 15) - 1
"""Largest magnitude of a coded symbol (SPEC 9.1-3, 7.2-6): symbol * 64 + mean is below 2^22 before y_hat saturates."""

MAX_METADATA_BYTES = 1 << 24
"""Largest payload of one metadata chunk (SPEC 9.1-5, 8.4-9): ICC profiles and EXIF are far smaller, bombs are not."""


@dataclass(frozen=True)
class Limits:
    """What a caller lets one picture cost (SPEC 9.1-8).

    Attributes
    ----------
    max_pixels : int
        Largest width * height accepted; by default every picture of level 6 is (SPEC 12.2).
    max_memory : int or None
        Largest estimated working memory in bytes, None for no bound.
    """

    max_pixels: int = 1 << 27
    max_memory: int | None = None
