"""The tables of ``refcodec bench`` for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

QUIET = 0.8
"""Share of the cores below which times say more about other programs."""


def _number(value: float | None, width: int, digits: int, scale: float = 1.0) -> str:
    return "-".rjust(width) if value is None else f"{value * scale:{width}.{digits}f}"


def _rows(rows: Sequence[Mapping[str, Any]], *names: str) -> Iterator[str]:
    """A table of rows; ``names`` are those of its first columns, which are text."""
    texts = [[str(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]

    def line(words: Sequence[str], rest: str) -> str:
        return "  ".join([*(word.ljust(width) for word, width in zip(words, widths, strict=True)), rest])

    yield line(names, "      ms  share     GMAC   GMAC/s  of peak")
    for row, words in zip(rows, texts, strict=True):
        yield line(
            words,
            f"{_number(row['seconds'], 8, 2, 1e3)} {_number(row['share'], 5, 1, 100)}% "
            f"{_number(row['computed_macs'] / 1e9 if row['computed_macs'] else None, 8, 3)} "
            f"{_number(row['gmac_per_second'], 8, 1)} {_number(row['of_roof'], 7, 1, 100)}"
            f"{'%' if row['of_roof'] is not None else ' '}",
        )


def _head(part: Mapping[str, Any]) -> Iterator[str]:
    m = part["machine"]
    yield (
        f"{m['processor']} ({', '.join(m['vectors'])}), {m['cores']} cores, {m['system']} {m['architecture']}, "
        f"Python {m['python']}, NumPy {m['numpy']}, Numba {m['numba'] or 'not installed'}; "
        f"refcodec {m['refcodec']}, backend {m['backend']}"
    )
    yield (
        f"times are medians of {part['repeats']} runs; GMAC are those computed; the peak is the speed of bare int16 "
        "dot products in registers"
    )


def _direction(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield (
        f"{name}: {part['seconds']:.4f} s (fastest {part['fastest_seconds']:.4f}), "
        f"{part['megapixels_per_second']:.2f} megapixels/s; the network is {part['macs'] / 1e9:.2f} GMAC, of which "
        f"{part['computed_macs'] / 1e9:.2f} are needed and computed"
    )
    yield from _rows(part["stages"], "stage")
    kinds = {row["kind"]: row for row in part["kinds"]}
    conv = kinds["convolution"]
    speed = f" at {conv['gmac_per_second']:.1f} GMAC/s" if conv["gmac_per_second"] else ""
    speed += f", {100 * conv['of_roof']:.0f} % of the peak" if conv["of_roof"] else ""
    yield ", ".join(
        f"{kind} {100 * row['share']:.1f} %{speed if kind == 'convolution' else ''}" for kind, row in kinds.items()
    )
    yield (
        f"watched runs took {part['watched_seconds']:.4f} s; watching takes {1e3 * part['watching_seconds']:.2f} ms "
        "of them"
    )
    if "operations" in part:
        yield from _rows(part["operations"], "stage", "operation", "kind")
    if "twin" in part:
        yield from _twin(name, part)


def _twin(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    twin = part["twin"]
    yield (
        f"{name} in PyTorch {twin['torch']} (float32, {twin['layout']}, without entropy coder): "
        f"{twin['seconds']:.4f} s (fastest {twin['fastest_seconds']:.4f}); refcodec takes "
        f"{twin['time_ratio']:.2f} of it"
    )
    if twin["convolutions"]:
        yield "inputs outputs kernel stride groups       input  layers  share   GMAC/s  PyTorch's  ratio of speeds"
    for row in twin["convolutions"]:
        inputs, outputs, kernel, stride, groups, height, width = row["shape"]
        yield (
            f"{inputs:6d} {outputs:7d} {kernel:6d} {stride:6d} {groups:6d} {f'{width}x{height}':>11s} "
            f"{row['layers']:7d} {100 * row['share']:5.1f}% {row['gmac_per_second']:8.1f} "
            f"{row['pytorch_gmac_per_second']:10.1f} {row['speed_ratio']:16.2f}"
        )


def lines(part: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the head of a report, or of one of its results."""
    if "machine" in part:
        yield from _head(part)
        return
    yield ""
    width, height = part["size"]
    yield (
        f"== model {part['model']} ({part['fingerprint'][:8]}), {width}x{height}, quality {part['quality']}, "
        f"threads {part['threads']}: {part['bytes']} bytes, {part['bits_per_pixel']:.3f} bits per pixel"
    )
    if part["roof_gmac_per_second"] is not None:
        yield f"peak: {part['roof_gmac_per_second']:.1f} GMAC/s"
        if part["cores_given"] < QUIET:
            yield (
                f"THE MACHINE IS BUSY: this process was given {100 * part['cores_given']:.0f} % of the cores it "
                "asked for; measure again when it is quiet"
            )
    for direction in ("encode", "decode"):
        yield from _direction(direction, part[direction])
    if memory := part.get("memory"):
        peak = "unknown" if memory["peak_bytes"] is None else f"{memory['peak_bytes'] / 2**20:.0f} MiB"
        yield (
            f"peak memory of a process that decodes: {peak}; estimate for the picture alone "
            f"{memory['estimate_bytes'] / 2**20:.0f} MiB"
        )
    if start := part.get("start_seconds"):
        cold = "" if start["cold"] is None else f", {start['cold']:.1f} s with every kernel to compile"
        yield f"a process that decodes takes {start['warm']:.3f} s{cold}"
