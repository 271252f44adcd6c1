"""Arguments that several commands share."""

from __future__ import annotations

import argparse

from ..limits import Limits


def positive(text: str) -> int:
    """A positive integer; ValueError for other text."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


positive.__name__ = "positive number"  # argparse names types in its messages


def file_name(text: str) -> str:
    """The name of a file; ValueError for ``-``."""
    if text == "-":
        raise ValueError
    return text


file_name.__name__ = "name of a file"


def add_json(parser: argparse.ArgumentParser) -> None:
    """The argument ``--json``, which means the same for every command."""
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def add_save_json(parser: argparse.ArgumentParser, content: str) -> None:
    """The argument ``--save-json FILE``, for commands whose JSON is worth a file in addition to the table."""
    parser.add_argument("--save-json", type=file_name, metavar="FILE", help=f"write {content} to FILE as JSON")


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Arguments by which a user bounds the cost of a picture."""
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help=f"largest number of pixels, sides padded to multiples of 64; default {Limits.max_pixels}",
    )
    parser.add_argument(
        "--max-memory",
        type=positive,
        metavar="MIB",
        help="largest estimated working memory; by default three quarters of what the system allows",
    )


def limits_of(args: argparse.Namespace) -> Limits:
    """Limits from ``--max-pixels`` and ``--max-memory``, the defaults where they are not given."""
    named = {"max_pixels": args.max_pixels, "max_memory": args.max_memory and args.max_memory << 20}
    return Limits(**{name: value for name, value in named.items() if value is not None})
