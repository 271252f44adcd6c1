"""The core suite: every operation and configuration, on small pictures and on symbols that no encoder would choose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refcodec.model.procedural import draws
from refcodec.model.registry import load_model

from ...kit.clauses import cited
from ...synthetic.models import broken_files, broken_models, raw_files, reader_rules
from ...synthetic.models.procedural import edited_file, model
from ...synthetic.streams import sealed
from ...synthetic.writer import STYLES, random_stream
from ..pictures import coded as coded_picture
from ..pictures import cut
from ..registry import Case, generator

HYPERPRIOR = ("6.4-1", "6.4-2", "6.4-3", "6.4-4", "6.4-5")
WALK = cited("6.3-1..10")
CONTEXTS = cited("6.5-1..3 6.6-1 6.7-1..6")
HEADS = cited("6.8-1..8")
SYNTHESIS = ("6.2-1", "6.2-3", "6.10-1")
NETWORKS = (*HYPERPRIOR, *WALK, *CONTEXTS, *HEADS, *SYNTHESIS)
TRACE = cited("13.1-1..7 13.2-1..2 13.2-4")
CONFIGURATION = ("6.1-1", "6.1-6", "6.1-7", "10.2-1", "10.2-2")

CODED = [  # model, picture, width, height, channels, qualities
    ("tiny-7", "scene", 40, 30, 3, (1, 2, 50, 60, 99, 100)),
    ("tiny-7", "stone", 23, 37, 1, (1, 60, 100)),
    ("tiny-7", "chart", 64, 64, 3, (60,)),
    ("tiny-7", "foliage", 100, 70, 3, (30,)),
    ("mid-7", "scene", 130, 90, 3, (1, 40, 100)),
    ("mid-7", "stone", 97, 61, 1, (60,)),
]

SPECIAL = {  # model: clauses in addition to the networks', what a failure suggests
    "tiny-old-7": (
        ("6.1-3", "6.1-5", "6.1-8", "6.9-5"),
        "Weights of 2023: the first block of g_s changes the width, "
        "LRP has three widths that follow from its inputs, and there is one quality.",
    ),
    "single-7": (
        ("6.1-3", "6.1-8", "6.8-4"),
        "With one slice there is neither channel, inter nor intra context; five "
        "heads of two channels; the older g_s with LRP of two widths.",
    ),
    "heads-7": (
        ("6.1-4", "6.1-5", "5.8-2", "5.9-1"),
        "Heads of one channel in all three attentions, up to eight of "
        "them; derived widths of LRP, some of them odd; no gains.",
    ),
    "slices-7": (
        ("6.1-4", "6.7-3", "6.3-10"),
        "Eight slices of two channels: slices or their contexts are mixed up, "
        "or an inter_head_width above the width does not give one head.",
    ),
    "wide-7": (
        ("6.1-4",),
        "Widths just above multiples of 16 and 32: a vector loop reads or writes past its end or leaves out its rest.",
    ),
    "floored-7": (
        ("6.1-4", "5.9-1"),
        "The number of heads of the inter attention is rounded up or to the nearest, or "
        "heads have the width that the configuration names instead of an equal part of the channels.",
    ),
}


@generator("core", "coded")
def coded() -> Iterator[Case]:
    """Parts of the project's pictures, coded by refcodec's encoder with a tiny and a medium procedural model: colour
    and grey, qualities at both ends and between. A reproducible encoder writes the same bytes.
    """
    for name, picture, width, height, channels, qualities in CODED:
        samples = cut(picture, width, height, channels, left=16, top=8)
        for quality in qualities:
            first = quality == 60 and name == "tiny-7"
            colour = ("4.3-1", "4.3-2") if channels == 3 else ("4.2-2", "4.3-3")
            yield Case(
                f"core/coded-{name}-{picture}-q{quality:03}",
                coded_picture(samples, quality, model(name)),
                name,
                (*cited("1.4-1 1.4-5 4.1-2 6.9-4 6.10-2..4"), *colour, *NETWORKS, *(TRACE if first else ())),
                "Anything between the range coder and the output; bisect the trace. If only some qualities fail, "
                "the gains of h_s/input or g_s/input are taken from a wrong row.",
                f"{width}x{height} samples at (16, 8) of conformance/pictures/{picture}.png, quality {quality}",
                definition=name == "tiny-7" and width <= 64,
                trace=first,
            )


@generator("core", "configurations")
def configurations() -> Iterator[Case]:
    """Configurations at the edges of what SPEC 6.1 allows: the blocks of 2023, one slice and eight, as many heads as
    channels, widths just above multiples of vector lengths, with and without gains; coded colour and grey pictures and
    random symbols of each.
    """
    for name, (clauses, suggests) in SPECIAL.items():
        made, slow = model(name), name == "wide-7"
        quality = 60 if made.config.steps > 1 else 1
        for channels in (3, 1):
            samples = cut("scene" if channels == 3 else "stone", 40, 30, channels, left=70, top=20)
            yield Case(
                f"core/configuration-{name}-{'colour' if channels == 3 else 'grey'}",
                coded_picture(samples, quality, made),
                name,
                (*CONFIGURATION, *clauses, *(TRACE if channels == 3 else ())),
                suggests,
                f"40x30 samples at (70, 20) of a picture, model {name}",
                definition=not slow and channels == 3,
                trace=channels == 3,
            )
        yield Case(
            f"core/configuration-{name}-symbols",
            random_stream(made, 11, 70, 20, quality=quality),
            name,
            (*CONFIGURATION, *clauses),
            suggests,
            f"70x20, random symbols of seed 11, model {name}",
        )


@generator("core", "symbols")
def symbols() -> Iterator[Case]:
    """Valid streams that no encoder would write: random symbols of several shapes, among them escapes of every length
    and the greatest magnitudes, which saturate y_hat and drive every clamp behind it.
    """
    for style in STYLES:
        for name, steps in (("tiny-7", (1, 100)), ("mid-7", (50,))):
            for quality in steps:
                small = name == "tiny-7"
                clauses = cited("1.3-2 6.9-1..2 7.2-1 7.2-6 7.4-1..2 9.1-3")
                yield Case(
                    f"core/symbols-{name}-{style}-q{quality:03}",
                    random_stream(model(name), 12, 64, 48, quality=quality, style=style),
                    name,
                    (*clauses, *WALK, *(TRACE if small and style == "mixed" and quality == 1 else ())),
                    "Saturation: y_hat, its sum with the residual, or a clamp of a layer that pictures never reach.",
                    f"64x48, style {style}, seed 12, quality {quality}",
                    definition=small and quality == 1,
                    trace=small and style == "mixed" and quality == 1,
                )


def _flat(value: int) -> np.ndarray:
    return np.full((20, 24, 3), value, np.uint8)


def _noise() -> np.ndarray:
    return draws(13, "noise", 20 * 24 * 3, 0, 256).astype(np.uint8).reshape(20, 24, 3)


@generator("core", "extreme-pictures")
def extreme_pictures() -> Iterator[Case]:
    """Black, white, a checkerboard of black and white, and noise: outputs far beyond 0..255 before the clamp."""
    rows, columns = np.mgrid[:20, :24]
    board = ((rows + columns) % 2 * 255).astype(np.uint8)
    for name, samples in (("black", _flat(0)), ("white", _flat(255)), ("noise", _noise()), ("board", board)):
        yield Case(
            f"core/picture-{name}",
            coded_picture(samples, 100, model("tiny-7")),
            "tiny-7",
            ("4.1-2", "4.3-1", "6.10-1", "6.10-3"),
            "Planes are converted to samples before they are clamped to 0..255, or the grey formula is applied "
            "before the clamp.",
            f"24x20, {name}, quality 100",
            definition=True,
        )


@generator("core", "full-shape")
def full_shape() -> Iterator[Case]:
    """One procedural model each of the paper's and of MLIC++'s configuration, which anyone makes from a seed: a coded
    picture and random symbols, 64x64.
    """
    procedural = ("B.3-1", "B.3-2", "B.3-3", "B.3-4", "B.3-5", "B.3-6", "B.3-7")
    for name in ("paper-7", "mlicpp-7"):
        made = model(name)
        suggests = (
            "If small models decode well: sums of thousands of products lose bits, a count of channels is no "
            "multiple of what the kernels expect, or the model was not made as SPEC B.3 says."
        )
        for what, data in (
            ("coded", coded_picture(cut("scene", 64, 64, left=60, top=60), 1, made)),
            ("symbols", random_stream(made, 14, 64, 64, style="mixed")),
        ):
            yield Case(
                f"core/full-{name}-{what}",
                data,
                name,
                ("6.1-9", "12.1-1", "12.1-2", "12.2-2", *procedural),
                suggests,
                f"64x64, {what}, model {name}",
            )


CHUNKS: dict[str, tuple[tuple[tuple[str, bytes], ...], tuple[str, ...], str]] = {
    "exif": ((("exif", b"II*\0\x08\0\0\0\0\0\0\0\0\0"),), ("8.4-6",), "one Exif block"),
    "three": (
        (("iccp", bytes(range(128))), ("xmp ", b"<x:xmpmeta/>"), ("exif", b"MM\0*")),
        ("8.4-6", "4.1-3"),
        "an ICC profile, an XMP packet and an Exif block",
    ),
    "empty": ((("exif", b""), ("iccp", b""), ("xmp ", b"")), ("8.4-6",), "known chunks without a payload"),
    "of-another-kind": (
        (("exif", b"no TIFF"), ("iccp", b"no profile"), ("xmp ", b"\xff\xfe<\0x")),
        ("8.4-6", "8.4-7"),
        "known chunks whose payloads are no TIFF stream, no ICC profile and no text in UTF-8",
    ),
    "unknown": (
        (("abcd", b"payload"), ("z9 0", b""), ("qXYZ", bytes(300))),
        ("8.4-2", "8.4-3"),
        "unknown optional chunks; tags with digits, a space, capitals behind the first letter",
    ),
    "like-a-chunk": (
        (("note", b"exif\x04\0\0\0II*\0Need\xff\xff\xff\xff"),),
        ("8.4-7",),
        "a payload that looks like chunks, one of them required",
    ),
    "like-a-stream": (
        (("copy", b"\x89LIC\0\1\3\x64"), ("more", b"\0" * 8)),
        ("8.4-7",),
        "a payload that begins a stream",
    ),
    "64": (tuple((f"n{n:02} ", bytes([n])) for n in range(64)), ("8.4-10", "9.1-5"), "64 chunks, as many as may be"),
    "large": ((("iccp", bytes(70000)),), ("8.4-9", "9.1-5"), "a payload of more than 2^16 bytes"),
    "larger": ((("iccp", bytes(33 << 15)),), ("8.2-1", "8.4-9"), "a payload of more than 2^20 bytes"),
}
"""Chunks by name, the clauses they exercise, and what they are."""


@generator("core", "container")
def container() -> Iterator[Case]:
    """Metadata of every allowed kind and number, streams with and without digest, and with one that is wrong, which a
    decoder may notice only when it is asked to verify.
    """
    made = model("tiny-7")
    layout = ("8-1", "8.3-3", "8.4-1", "8.6-1")
    for name, (chunks, clauses, what) in CHUNKS.items():
        yield Case(
            f"core/chunks-{name}",
            random_stream(made, 15, 5, 3, style="plain", chunks=chunks),
            "tiny-7",
            (*layout, "8.4-5", *clauses),
            "Chunks are read as something else than tag, length and payload, or change what is decoded.",
            f"5x3, seed 15, {what}",
        )
    plain = random_stream(made, 15, 5, 3, style="plain", digest=False)
    marked = random_stream(made, 15, 5, 3, style="plain")
    wrong = sealed(marked[:36] + bytes(16) + marked[52:-4])
    for name, data, clauses, what in (
        ("absent", plain, ("8.1-3", "8.1-22", "8.5-5"), "no digest: the header has 36 bytes"),
        ("present", marked, ("8.1-3", "8.1-13", "8.1-20", "8.1-22"), "a digest: the header has 52 bytes"),
        ("wrong", wrong, ("8.1-21", "8.9-2"), "a digest of other samples, under a right checksum"),
    ):
        yield Case(
            f"core/digest-{name}",
            data,
            "tiny-7",
            (*layout, *clauses),
            "The z segment is looked for at a wrong place, or a wrong digest makes the stream invalid although "
            "no one asked to verify.",
            f"5x3, seed 15, {what}",
        )
    for channels in (1, 3):
        yield Case(
            f"core/bare-{channels}",
            random_stream(made, 16, 1, 1, channels, style="plain", digest=False),
            "tiny-7",
            (*layout, "8.1-4", "8.1-22"),
            "Reading of the shortest header.",
            f"1x1 of {channels} channels, seed 16, no digest, no chunks",
        )


@generator("core", "model-files")
def model_files() -> Iterator[Case]:
    """One model in files that are written in other ways: compact, in chunks, with and without filters, with more
    attributes, groups and provenance.
    """
    data = random_stream(model(broken_models.BASE), 2, 40, 24)
    for sound in (*broken_files.SOUND, *reader_rules.SOUND, *raw_files.SOUND):
        yield Case(
            f"core/model-{sound.name}",
            data,
            sound.model,
            ("10.1-1", "B.1-1", *sound.clauses),
            f"A model file with {sound.says} is not read, or not to the same numbers.",
            f"nano-7 with {sound.says}",
        )


@generator("core", "model-files-large")
def model_files_large() -> Iterator[Case]:
    """Models whose file has an array of more than 2^21 or 2^22 bytes in one chunk or two."""
    for sound in raw_files.LARGE:
        yield Case(
            f"core/model-{sound.name}",
            random_stream(load_model(edited_file(sound.model)), 2, 40, 24),
            sound.model,
            ("10.1-1", "B.1-1", *sound.clauses),
            f"A model file with {sound.says} is not read, or not to the same numbers.",
            f"nano-7 with {sound.says}",
        )
