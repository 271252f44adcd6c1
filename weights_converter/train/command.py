"""Arguments of ``python -m weights_converter train``; PyTorch is imported only when it runs."""

from __future__ import annotations

import argparse
import ctypes
import math
import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from refcodec.errors import MissingInput, Unsupported, UsageError
from refcodec.io.console import printable
from refcodec.threads import thread_count

from .plan import AUGMENTATIONS, OPTIMISERS, Plan, schedule_from, sides_from

CACHE_GIB = 4.0
"""Memory for decoded pictures where --cache-gib is not given."""

PLANNED = tuple(field.name for field in fields(Plan))
"""Options, one for each field of the plan."""


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Fill the parser of ``train``."""
    d = Plan(steps=1)
    p.add_argument("--images", nargs="+", default=[], metavar="DIR|TAR", help="photographs, JPEG or PNG")
    p.add_argument("--out", metavar="DIR", help="folder of the run; one that holds a run is continued by its own plan")
    p.add_argument("--start", metavar="FILE", help="checkpoint or integer model to start from")
    p.add_argument(
        "--tail-of",
        metavar="RUN",
        help="start from the state of another run, which stays: its rate falls over --steps or --minutes",
    )
    p.add_argument("--profile", help="configuration of a fresh start, default if not given")
    p.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="fields of a fresh start's configuration that differ from the profile's: slices=4 N=28,56,96",
    )
    p.add_argument(
        "--qualities", type=int, help="quality levels of a fresh start, or more than a start has: gains go on"
    )
    p.add_argument(
        "--initial",
        choices=("linear", "random"),
        help="weights of a fresh start: a linear codec for these pictures, or random (linear)",
    )
    p.add_argument(
        "--latents-of",
        metavar="FILE",
        help="fresh start with transforms, hyperprior and gains of a checkpoint or integer model; the rest is random",
    )
    g = p.add_argument_group("plan")
    g.add_argument("--steps", type=int, help="length of the plan")
    g.add_argument("--minutes", type=float, help="length of the plan in minutes of training, all pieces together")
    g.add_argument(
        "--stages",
        help="NAME[,NAME@POSITION...] of transforms, entropy, all, quantised "
        f"({','.join(f'{name}@{place}' if place else name for name, place in d.stages)})",
    )
    g.add_argument("--crops", help=f"SIDE[,SIDE@POSITION...], A+B take turns ({d.crops[0][0]})")
    g.add_argument("--batch", type=int, help=f"crops per step ({d.batch})")
    g.add_argument("--rate", type=float, help=f"peak learning rate ({d.rate})")
    g.add_argument("--transform-rate", type=float, help=f"of g_a and g_s, in units of the rate ({d.transform_rate})")
    g.add_argument("--hold", type=float, help=f"share of the plan at the peak ({d.hold})")
    g.add_argument("--floor", type=float, help=f"last learning rate, in units of the peak ({d.floor})")
    g.add_argument("--optimiser", choices=OPTIMISERS, help=f"({d.optimiser})")
    g.add_argument("--warmup", type=int, help=f"steps to the peak ({d.warmup})")
    g.add_argument("--decay", type=float, help=f"weight decay ({d.decay})")
    g.add_argument("--clip", type=float, help=f"largest norm of a gradient ({d.clip})")
    g.add_argument("--average", type=float, help=f"momentum of the moving average ({d.average})")
    g.add_argument("--lambdas", type=float, nargs=2, metavar=("LOW", "HIGH"), help=f"range of lambda {d.lambdas}")
    g.add_argument("--balance", type=float, help=f"0: high rates dominate, 1: all alike ({d.balance})")
    g.add_argument("--seed", type=int, help=f"({d.seed})")
    g.add_argument("--precision", choices=("float32", "bfloat16"), help=f"({d.precision})")
    g.add_argument(
        "--augment", metavar="KIND@SHARE,...", help=f"share of crops that is changed, of {', '.join(AUGMENTATIONS)}"
    )
    g = p.add_argument_group("piece of a run")
    g.add_argument("--pause-after-minutes", type=float, default=math.inf, help="end this piece; the plan goes on later")
    g.add_argument("--pause-after-steps", type=float, default=math.inf)
    g.add_argument("--save-minutes", type=float, default=10.0, help="how often state and checkpoint are written (10)")
    g.add_argument("--validate-minutes", type=float, default=15.0, help="how often held-out crops are measured (15)")
    g.add_argument("--log-steps", type=int, default=50, help="steps per line of the log (50)")
    g.add_argument("--device", help="cpu, cuda (the GPU if there is one)")
    g.add_argument("--threads", type=int, help="cores to use")
    g.add_argument("--compile", action="store_true", help="torch.compile")
    g.add_argument("--loaders", type=int, default=1, help="threads that make batches (1)")
    g.add_argument("--cache-gib", type=float, default=CACHE_GIB, help=f"decoded pictures kept, GiB ({CACHE_GIB:g})")
    p.add_argument(
        "--measure",
        type=float,
        metavar="SECONDS",
        help="time steps of --batches at both precisions for about so long, print them and the best options, and end",
    )
    p.add_argument("--batches", default="32,64,128", help="for --measure (32,64,128)")
    p.add_argument("--evaluate", metavar="DIR", help="measure pictures at every level, after training or alone")
    p.add_argument("--plot", metavar="PNG", help="draw the run's log, after training or alone")
    p.set_defaults(run=run)


def keep_memory() -> None:
    """Ask the C library to keep freed memory: page faults for large tensors cost half of the time on CPUs."""
    trim, pad, most_maps = -1, -2, -4
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return
    for option, value in ((trim, 1 << 30), (pad, 256 << 20), (most_maps, 0)):
        mallopt(option, value)


def run(args: argparse.Namespace) -> None:
    """Train, evaluate, plot, as the arguments ask.

    Raises
    ------
    RefcodecError
    """
    if find_spec("torch") is None:
        raise Unsupported("training needs PyTorch", cause='pip install "refcodec[train]"')
    if not (args.images or args.evaluate or args.plot):
        raise UsageError("nothing to do", cause="give --images, --evaluate or --plot")
    if not args.out and (args.images or args.plot) and not args.measure:
        raise UsageError("give the folder of the run with --out")
    keep_memory()
    if args.measure:
        _measure(args)
        return
    if args.images:
        _train(args)
    if args.evaluate:
        _evaluate(args)
    if args.plot:
        from .plot import plot
        from .state import LOG

        plot(Path(args.out) / LOG, args.plot)


def note(text: str) -> None:
    """Print one line for people."""
    print(printable(text), file=sys.stderr, flush=True)


def _device(args: argparse.Namespace) -> Any:
    import torch

    name = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise UsageError("no such device here", where="--device", value=name)
    if name == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    return torch.device(name)


def _threads(args: argparse.Namespace) -> int:
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    return thread_count(args.threads)


def _planned(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of the plan that were given."""
    values = {name: getattr(args, name) for name in PLANNED if getattr(args, name) is not None}
    for name, kind in (("stages", str), ("crops", sides_from), ("augment", str)):
        if name in values:
            values[name] = schedule_from(values[name], kind, f"--{name}")
    if "lambdas" in values:
        values["lambdas"] = tuple(values["lambdas"])
    return values


def _train(args: argparse.Namespace) -> None:
    from .linear_start import linear_start, sample
    from .loop import Pace, Run, begin
    from .pictures import list_pictures, split
    from .state import read_state, take_latents

    folder, values = Path(args.out), _planned(args)
    state = read_state(folder)
    pictures = list_pictures(args.images)
    if args.loaders < 1 or not 0 <= args.cache_gib < 1 << 20:
        raise UsageError(
            "loaders are one or more, the cache is not negative", loaders=args.loaders, cache_gib=args.cache_gib
        )
    if args.tail_of:
        state = _tail(args, state, values)
        values = {}
    elif state is None:
        plan = Plan(**values)
        net, config, origin = _network(args, plan.seed)
        if args.latents_of:
            origin["latents"] = take_latents(net, args.latents_of)
        elif not args.start and args.initial != "random":
            linear_start(net, sample(split(pictures)[0], plan.seed))
            origin["initial"] = "linear"
        state = begin(net, config, plan, origin)
    else:
        held = state.plan.as_dict()
        if differs := {name: held[name] for name, value in values.items() if held[name] != value}:
            raise UsageError(
                "the run in this folder has another plan",
                where=str(folder),
                its=differs,
                cause="leave these options out to continue it, or choose another --out",
            )
    pace = Pace(
        _device(args),
        _threads(args),
        args.compile,
        args.pause_after_steps,
        args.pause_after_minutes,
        args.save_minutes,
        args.validate_minutes,
        args.log_steps,
        args.loaders,
        int(args.cache_gib * 2**30),
    )
    done = Run(folder, state, pictures, pace, note).go()
    print(f"{folder}: " + ("the plan is done" if done else "paused; the same command goes on"))


def _network(args: argparse.Namespace, seed: int) -> Any:
    """The network that a run starts from, its configuration and its origin; a fresh one has random weights."""
    from .state import start_fresh, start_from, with_levels

    if not args.start:
        if args.latents_of and args.initial:
            raise UsageError("the latents of another network bring their weights", where="--latents-of, --initial")
        return start_fresh(args.profile or "default", seed, fields_from(args.set, args.qualities))
    if args.profile or args.set or args.initial or args.latents_of:
        options = "--profile, --set, --initial, --latents-of"
        raise UsageError("a start brings its own configuration and weights", where=options)
    net, config, origin = start_from(args.start)
    if args.qualities:
        net = with_levels(net, args.qualities)
        config, origin["levels"] = net.config, config.qualities
    return net, config, origin


def fields_from(words: Sequence[str], qualities: int | None = None) -> dict[str, Any]:
    """Fields of a configuration from ``NAME=VALUE`` words; values are integers, or several with commas between.

    Parameters
    ----------
    words : sequence of str
    qualities : int or None
        Value of the separate option for this field.

    Returns
    -------
    dict
        Plain values, of which only the form was checked.

    Raises
    ------
    UsageError
        A word has another form, or a field is given twice.
    """
    found: dict[str, Any] = {} if qualities is None else {"qualities": qualities}
    for word in words:
        name, _, text = word.partition("=")
        try:
            values = [int(value) for value in text.split(",")]
        except ValueError:
            raise UsageError("a field is NAME=INTEGER[,INTEGER...]", where="--set", value=word[:80]) from None
        if name in found:
            raise UsageError("a field is given twice", where="--set", field=name)
        found[name] = values if len(values) > 1 else values[0]
    return found


def _measure(args: argparse.Namespace) -> None:
    from .pace import best, measured
    from .pictures import list_pictures

    try:
        batches = [int(word) for word in args.batches.split(",")]
    except ValueError:
        raise UsageError("not numbers of crops", where="--batches", value=args.batches[:80]) from None
    values = {"steps": 1, **_planned(args)}
    plan = Plan(**{**values, "minutes": 0.0, "steps": 1})
    net = _network(args, plan.seed)[0]
    pictures = list_pictures(args.images)
    print("batch  precision  crop     steps/s  megapixels/s  norm")
    rows = []
    for row in measured(net, plan, pictures, batches, args.measure, _device(args), _threads(args)):
        rows.append(row)
        speed = f"{row.steps:10.3f}  {row.pixels / 1e6:12.3f}"
        print(f"{row.batch:5d}  {row.precision:9s}  {row.crop:4d}  {speed}  {row.norm:.3g}", flush=True)
    print(best(rows, plan))


def _tail(args: argparse.Namespace, state: Any, values: dict[str, Any]) -> Any:
    """The state of a tail: one that was begun goes on."""
    from .loop import tail
    from .state import read_state

    if state is not None:
        return state
    fresh = args.profile or args.set or args.qualities or args.initial or args.latents_of
    if set(values) - {"steps", "minutes"} or args.start or fresh:
        raise UsageError("a tail takes its plan and weights from its run", where="--tail-of", cause="give its length")
    parent = read_state(Path(args.tail_of))
    if parent is None:
        raise MissingInput("no run to go on from", where=args.tail_of)
    return tail(parent, values.get("steps", 0), values.get("minutes", 0.0))


def _evaluate(args: argparse.Namespace) -> None:
    from .loss import Trainee
    from .state import CHECKPOINT, start_from
    from .validation import folder_pictures, measure

    source = args.start if args.start and not args.out else str(Path(args.out) / CHECKPOINT) if args.out else "default"
    net, config, _ = start_from(source)
    device = _device(args)
    pictures = folder_pictures(args.evaluate)
    points = measure(Trainee(net).to(device), pictures, range(config.qualities), "all", device, _threads(args))
    print(f"{len(pictures)} pictures, estimated bits\nquality     bpp    dB")
    for point in points:
        print(f"{point.quality:7.1f}  {point.bpp:.4f}  {point.psnr:.3f}")
