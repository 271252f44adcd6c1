"""``python -m refcodec``: arguments, exit codes and error lines.

The commands themselves are in commands.py (pictures and streams), models.py and measuring.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from .. import __version__
from ..errors import BUG, INTERRUPTED, RefcodecError, Unsupported, UsageError, within_resources
from ..io.console import LEVELS, debugging, error_line, flush_results, result_json, set_level
from ..io.options import add_json, add_limits, file_name, positive
from ..io.picture_output import FORMATS
from ..model.config import PROFILES
from . import commands, measuring, models
from .encode_options import add_decode_options, add_encode_options

OWN_ARGUMENTS = {
    "machines": ("agreement.machines", measuring.machines, "do processors, backends, threads and Pythons agree?"),
    "matrix": ("agreement.pictures", measuring.agreement, "code pictures with both backends and many thread counts"),
    "rd": (
        "measure.rate_distortion",
        measuring.rate_distortion,
        "rate-distortion compared with JPEG, JPEG 2000, WebP and AVIF",
    ),
    "tiles": ("measure.tile_cost", measuring.tile_cost, "what tiles cost, and squared errors near their borders"),
    "batch": ("cli.batch", measuring.batch, "encode and decode many files with one command, and resume it"),
    "bench": ("bench.command", measuring.bench, "speed stage by stage, memory, and a comparison with PyTorch"),
}
"""Commands whose modules declare their arguments; they are imported for no other command, which would wait for them."""


EPILOG = """\
environment:
  REFCODEC_THREADS       threads where --threads is not given
  REFCODEC_BACKEND       numba or numpy
  REFCODEC_MODELS        folders in which models are looked for
  REFCODEC_KERNEL_CACHE  off: read and write no compiled kernels
  REFCODEC_DEBUG         if set, errors show where they arose, as with --log-level debug

commands of developers, for .github/CONTRIBUTING.md:
  python -m refcodec.agreement.items             print the hash of every item of the self-test
  python -m refcodec.agreement.selftest --write  make the self-test's hashes again
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are errors like all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, cause=f"{self.prog} --help lists the arguments")


def _region(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) != 4:
        raise ValueError
    return numbers


_region.__name__ = "region X,Y,WIDTH,HEIGHT"


def _common(p: argparse.ArgumentParser, *, out: bool = False) -> None:
    p.add_argument("--model", metavar="M", help="name or path of the model")
    p.add_argument("--threads", type=positive, metavar="N", help="threads, all cores if not given; no byte changes")
    add_json(p)
    if out:
        p.add_argument("--force", action="store_true", help="overwrite an existing output")


def _coding(add: Callable[..., argparse.ArgumentParser]) -> None:
    p = add("encode", commands.encode, "picture -> .loclic")
    p.add_argument("input", metavar="IN", help="picture, - for standard input")
    p.add_argument("out", metavar="OUT", help="stream, - for standard output")
    add_encode_options(p)
    _common(p, out=True)
    add_limits(p)

    p = add("decode", commands.decode, ".loclic -> picture; the format follows the name")
    p.add_argument("input", metavar="IN", help="stream, - for standard input")
    p.add_argument("out", metavar="OUT", help="picture, - for standard output, as PNG or --format")
    p.add_argument("--region", type=_region, metavar="X,Y,W,H", help="only this part of the picture, in samples")
    p.add_argument("--format", choices=FORMATS, metavar="F", help="of a pipe, or of a name without it: ppm, png, ...")
    add_decode_options(p)
    _common(p, out=True)
    add_limits(p)

    p = add("info", commands.info, "header, sizes and metadata of a stream; needs no model but for --html")
    p.add_argument("input", metavar="FILE")
    p.add_argument("--extract", metavar="DIR", help="write EXIF, ICC profile and XMP to files in this folder")
    p.add_argument(
        "--html", type=file_name, metavar="OUT.html", help="decode, and write a page: bits of 16x16 samples, by slice"
    )
    _common(p, out=True)
    add_limits(p)


def _checking(add: Callable[..., argparse.ArgumentParser], words: Sequence[str]) -> None:
    p = add("compare", commands.compare, "PSNR, MS-SSIM and largest difference of two pictures or streams")
    p.add_argument("a", metavar="A")
    p.add_argument("b", metavar="B")
    p.add_argument("--exact", action="store_true", help="exit code 1 unless every sample is equal")
    p.add_argument("--heatmap", metavar="OUT.png", help="write the differences as a picture")
    p.add_argument(
        "--html", type=file_name, metavar="OUT.html", help="write a page: a slider between both, differences"
    )
    _common(p, out=True)
    add_limits(p)

    p = add("verify", commands.verify, "does this machine reproduce the encoder's pixels?")
    p.add_argument("input", metavar="FILE")
    _common(p)
    add_limits(p)

    p = add("trace", commands.trace, "SHA-256 of every named stage of decoding")
    p.add_argument("input", metavar="FILE")
    p.add_argument("out", metavar="OUT.jsonl")
    p.add_argument("--values", metavar="DIR", help="write the values of every stage as NPY files")
    p.add_argument("--stage", metavar="NAME", help="only this stage and those below it")
    _common(p, out=True)
    add_limits(p)

    p = add("selftest", measuring.selftest, "does this machine compute the right bits?")
    add_json(p)
    p = add("doctor", measuring.doctor, "versions, processor, kernels, models, self-test: what a bug report needs")
    add_json(p)
    for name, (module, run, text) in OWN_ARGUMENTS.items():
        p = add(name, run, text)
        if name in words:
            import_module(f"refcodec.{module}").add_arguments(p)
    p = add("mime", commands.mime, "print the MIME type of streams, for file managers and viewers")
    kind = p.add_mutually_exclusive_group()
    for name, text in (("magic", "lines for file(1)"), ("thumbnailer", "a thumbnailer for desktops")):
        kind.add_argument(f"--{name}", action="store_const", const=name, dest="kind", help=f"print {text} instead")
    add("warmup", measuring.warmup, "compile and cache every kernel ahead")


def _models(add: Callable[..., argparse.ArgumentParser]) -> None:
    model = add("model", None, "list, describe and prove models")
    under = model.add_subparsers(required=True, metavar="ACTION")
    for name, run, text in (
        ("list", models.model_list, "installed models"),
        ("info", models.model_info, "configuration, cost and provenance"),
        ("verify", models.model_verify, "prove a model free of overflow"),
    ):
        p = under.add_parser(name, help=text, description=text)
        if name != "list":
            p.add_argument("name", metavar="M", nargs="?", default="default", help="name or path; the default model")
        add_json(p)
        p.set_defaults(run=run)
    text = "build a model from a seed: full shape, proved, without a download"
    p = under.add_parser("procedural", help=text, description=text)
    p.add_argument("out", metavar="OUT.h5")
    p.add_argument("--profile", required=True, choices=sorted(PROFILES), help="configuration")
    p.add_argument("--seed", type=int, required=True, metavar="S", help="0..2^64-1")
    p.add_argument("--force", action="store_true", help="overwrite an existing output")
    add_json(p)
    p.set_defaults(run=models.model_procedural)


def parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands, ready for these words; ``run`` of the result is the command's function."""
    p = _Parser(
        prog="refcodec",
        description="The LoC-LIC image codec in exact integers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("-Q", "--quiet", action="store_const", const="error", dest="log_level", help="say errors alone")
    p.add_argument("--log-level", choices=LEVELS, default="note", help="messages on standard error, default note")
    p.add_argument("--version", action="version", version=f"refcodec {__version__}")
    under = p.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made = under.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    _coding(add)
    _checking(add, words)
    _models(add)
    return p


def _complete() -> None:
    """Answer a shell that asks for completions, and end; needs argcomplete (extra ``completion``)."""
    try:
        import argcomplete
    except ImportError:
        raise Unsupported("completion needs argcomplete", cause='install "refcodec[completion]"') from None
    argcomplete.autocomplete(parser(tuple(OWN_ARGUMENTS)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see refcodec/errors.py); never raises but for a broken interpreter."""
    words = sys.argv[1:] if argv is None else argv
    args = argparse.Namespace(json="--json" in words)  # until they are parsed
    set_level("note")
    try:
        with within_resources("the command"):
            if "_ARGCOMPLETE" in os.environ:
                _complete()
            args = parser(words).parse_args(words)
            set_level(args.log_level)
            code = int(args.run(args))
        flush_results()
        return code
    except RefcodecError as e:
        if debugging():
            traceback.print_exc()
        error_line(str(e))
        if getattr(args, "json", False) is True and getattr(args, "out", None) != "-":
            result_json(e.fields())
        return e.exit_code
    except KeyboardInterrupt:
        error_line("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has left; what Python flushes at its end must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 74
    except Exception as e:
        if debugging():
            traceback.print_exc()
        error_line(f"internal error: {type(e).__name__}: {e}; please report it (--log-level debug shows the traceback)")
        return BUG
