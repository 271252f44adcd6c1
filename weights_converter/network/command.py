"""Arguments of ``python -m weights_converter bench``; PyTorch is imported only when it runs."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from refcodec.errors import Unsupported, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``bench``."""
    parser.add_argument("checkpoint", nargs="?", help="file of torch.save or safetensors, or a checkpoint folder")
    parser.add_argument("--config", help="configuration as JSON; needed without a checkpoint, whose own it overrides")
    parser.add_argument("--picture", help="time this picture instead of a synthetic one")
    parser.add_argument("--size", help="WIDTHxHEIGHT, default 768x512 or the whole picture")
    parser.add_argument("--quality", type=int, default=60, help="1 to 100")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="default: as PyTorch chooses")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--serve", action="store_true", help="then answer lines on standard input with seconds")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Time the network.

    Raises
    ------
    RefcodecError
    """
    if find_spec("torch") is None:
        raise Unsupported("the float network needs PyTorch", cause='pip install "refcodec[train]"')
    if args.checkpoint is None and args.config is None:
        raise UsageError("give a checkpoint or a configuration")
    if not 1 <= args.quality <= 100 or args.repeats < 1 or (args.threads is not None and args.threads < 1):
        raise UsageError(
            "quality is 1 to 100, repeats and threads at least 1",
            quality=args.quality,
            repeats=args.repeats,
            threads=args.threads,
        )
    from .bench import measure

    measure(args)
