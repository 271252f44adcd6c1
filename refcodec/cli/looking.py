"""Pages of commands that decode for them alone."""

from __future__ import annotations

from argparse import Namespace

from ..arith.backend import prepare
from ..bitstream.container import parse_header
from ..io.console import note, progress
from ..io.files import check_target, write_bytes
from ..io.options import limits_of
from ..measure.bit_map import bit_map
from ..measure.bit_map_page import bit_map_page


def info_page(args: Namespace, data: bytes | memoryview) -> None:
    """``info FILE --html PAGE``: decode the stream and write the map of its bits; raises as ``decode``."""
    check_target(args.html, args.force, args.input)
    if not parse_header(data).lossless:
        prepare(args.threads, note)
    with progress("decoding") as share:
        found = bit_map(data, model=args.model, threads=args.threads, limits=limits_of(args), progress=share)
    write_bytes(args.html, bit_map_page(found, args.input), args.force)


__all__ = ["info_page"]
