"""``python -m conformance``: which module holds which command, and what becomes of errors.

A command's module has ``add_arguments(parser)`` and ``main(args) -> exit code``, and is imported only when its command
is given. So commands of the runner work where refcodec is absent.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from .kit.errors import BUG, INTERRUPTED, USAGE, OutputFailed, UsageError
from .kit.text import printable, put

COMMANDS = {
    "list": ("conformance.run.listing", "the vectors, with counts by suite, level and expected outcome"),
    "run": ("conformance.run.run", "run a decoder over the suites and report"),
    "encoder": ("conformance.run.encoder", "validate and decode the streams of an encoder"),
    "validate": ("conformance.workbench.validate", "the first rule that a stream breaks, or what it needs"),
    "claim": ("conformance.run.claim", "make a claim file from a report, or check one"),
    "export": ("conformance.run.export", "write streams and models as files, those stored as edits too"),
    "fluster": ("conformance.run.fluster", "export the suites for Fluster"),
    "bisect": ("conformance.run.bisect", "find the first value where a decoder's trace parts from the reference"),
    "inject": ("conformance.workbench.inject", "run one stage of decoding on given inputs"),
    "differential": (
        "conformance.workbench.differential",
        "compare a decoder with the reference on random valid streams",
    ),
    "agree": (
        "conformance.workbench.agree",
        "compare backends and SPEC.md's blocks on models at the edges of the proof",
    ),
    "generate": ("conformance.generate.generate", "rebuild the suites, or check that they are what generators make"),
    "bounds": ("conformance.reach.bounds", "proved and reached bounds of accumulators, layer by layer"),
    "narrowing": ("conformance.narrowing.command", "which vector notices an intermediate result of another type"),
    "catalogue": ("conformance.generate.catalogue", "what every generator makes, from its docstring"),
    "mutants": ("conformance.mutants.command", "mutation score of the suites and of the runner"),
    "clauses": ("conformance.kit.clauses", "list the clauses of SPEC.md, or check the list"),
    "fuzz": ("conformance.workbench.fuzz.command", "hostile streams, models and pictures against the decoder"),
    "fuzz-outputs": ("conformance.workbench.fuzz.outputs", "hostile outputs of decoders against the runner"),
    "coverage": ("conformance.mutants.coverage", "which clauses and which lines of the decoder the suites reach"),
}
"""Module and summary by name of command."""


_PACKAGE = re.compile(r"(?!(?:refcodec|conformance|weights_converter)\.).+")
"""Modules that a user can install; a missing module of the project is a bug."""


def _overview() -> str:
    lines = [f"  {name:<14}{text}" for name, (_, text) in COMMANDS.items()]
    head, foot = "usage: python -m conformance COMMAND [...]", "COMMAND --help lists the arguments."
    return "\n".join([head, "", *lines, "", foot])


def _say(text: str) -> None:
    try:
        put(f"conformance: error: {printable(text)}\n", sys.stderr)
    except (OSError, ValueError, OutputFailed):  # nobody reads the messages any more
        pass


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Import a command's module, parse its arguments and run it; raises what the command raises."""
    place, text = COMMANDS[name]
    try:
        module = import_module(place)
    except ModuleNotFoundError as error:
        if not place.startswith(str(error.name)):
            raise
        raise UsageError(f"{name} needs a checkout of the project: it is no part of the installed package") from None
    parser = argparse.ArgumentParser(
        prog=f"python -m conformance {name}",
        description=module.__doc__ or text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    args = parser.parse_args(arguments)
    args.command_line = shlex.join(["python", "-m", "conformance", name, *arguments])  # reports repeat it
    return int(module.main(args))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see errors.py)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        _say(f"unknown command {arguments[0]!r}; one of {', '.join(COMMANDS)}")
        return 2
    try:
        return run_command(arguments[0], arguments[1:])
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # What Python flushes at its end must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 74
    except Exception as error:
        code = getattr(error, "exit_code", None)  # errors of the kit and of refcodec carry one
        if isinstance(code, int):
            _say(str(error))
            return code
        if isinstance(error, ModuleNotFoundError) and error.name and _PACKAGE.fullmatch(error.name):
            _say(f'the package {error.name.split(".")[0]} is missing; pip install "refcodec[test]"')
            return USAGE
        if os.environ.get("REFCODEC_DEBUG"):
            traceback.print_exc()
        _say(f"internal error: {type(error).__name__}: {error}; REFCODEC_DEBUG=1 shows the traceback")
        return BUG
