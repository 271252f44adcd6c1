"""Output of every generator, from its docstring, with the vectors of the manifests."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator

from ..kit.suites import load_all
from ..kit.vectors import Suite
from .registry import SUITES, generators


def entries(suite: Suite) -> Iterator[tuple[str, str, int]]:
    """Name, description and number of vectors of every generator of a suite.

    A vector's origin begins with its generator's name.
    """
    made = Counter(v.origin.partition(":")[0] for v in suite.vectors)
    for generator in generators(suite.name):
        yield generator.name, generator.description, made[generator.name]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``catalogue``."""
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all if none is named")


def main(args: argparse.Namespace) -> int:
    """Print the catalogue as Markdown."""
    for suite in load_all(names=args.suites):
        print(f"## {suite.name}: {len(suite.vectors)} vectors\n\n{suite.description}\n")
        for name, description, count in entries(suite):
            print(f"### {name}: {count}\n\n{description}\n")
    return 0
