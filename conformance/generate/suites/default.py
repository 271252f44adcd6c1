"""The default suite: streams of every released model. A new release adds its own, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

from refcodec.model.registry import RELEASED

from ...kit.clauses import cited
from ...synthetic.models.procedural import model
from ..pictures import coded, picture
from ..registry import Case, generator

QUALITIES = {
    "scene": (1, 25, 50, 60, 75, 100),
    "scene_large": (10, 60),
    "chart": (1, 60, 100),
    "foliage": (1, 60, 100),
    "stone": (1, 60, 100),
    "tiny": (60,),
    "dot": (1, 60, 100),
}
"""Quality steps by picture."""

CLAUSES = cited("1.4-1 4.1-2 4.3-1..2 6.1-9 6.9-4 6.10-1..4 8.1-20 12.1-2")


@generator("default", "pictures")
def pictures() -> Iterator[Case]:
    """The project's pictures, coded by refcodec's encoder with every released model at several qualities: colour
    and grey, from 1x1 to 768x512. Identifiers begin with the model's fingerprint, so that every model has other ones.
    """
    for released in RELEASED:
        made = model(released.name)
        for name, qualities in QUALITIES.items():
            samples = picture(name)
            for quality in qualities:
                grey = ("4.3-3",) if samples.ndim == 2 else ()
                yield Case(
                    f"default/{released.fingerprint[:8]}-{name.replace('_', '-')}-q{quality:03}",
                    coded(samples, quality, made),
                    released.name,
                    CLAUSES + grey,
                    "If smaller models decode well, sums of many channels overflow, or sizes beyond a cache's or a "
                    "thread's share are cut wrongly.",
                    f"conformance/pictures/{name}.png at quality {quality}",
                    trace=name == "tiny",
                )
