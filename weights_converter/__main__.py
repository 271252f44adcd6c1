"""``python -m weights_converter``: convert, inspect, evaluate, export, train, time the network, and make the tables."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Matrices of one layer are small: pictures shared out to the cores are faster than threads inside a product, which
# wait for each other. Read when NumPy loads its library.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from refcodec.errors import RefcodecError, within_resources

from .commands import compare, export, hard, inspect, join_parts, make_model, make_tables, note, split_parts
from .convert.export import SPELLINGS
from .convert.pipeline import CALIBRATION_PICTURES
from .formats.torch_zip import WRAPPERS
from .network.command import add_arguments as add_bench_arguments
from .train.command import add_arguments as add_train_arguments

_EPILOG = f"""A checkpoint may be a bare state dict, or one under {", ".join(WRAPPERS)} in a training dictionary.
Names may have a prefix such as module., _orig_mod. or model. Averaged weights (EMA) are taken with --key, for
example --key ema.
Nothing in a file is executed. Published checkpoints have one quality: their models take no -q and have no BD-rate.
Converting the published networks took 0.5 to 1 minute of processor time and 2.1 GB.

examples:
  python -m weights_converter inspect checkpoint.pth.tar
  python -m weights_converter convert checkpoint.pth.tar model.h5 --images PHOTOGRAPHS --report report.json
  python -m weights_converter evaluate checkpoint.pth.tar --model model.h5 --images PICTURES
  python -m weights_converter export model.h5 --float weights.pt

To load an export: net.load_state_dict(torch.load("weights.pt")["state_dict"]); net.update()
"""


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m weights_converter",
        description="PyTorch checkpoint -> integer model.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    commands = p.add_subparsers(required=True, metavar="COMMAND")

    def checkpoint(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("checkpoint", help="file of torch.save, safetensors file, or checkpoint folder")
        parser.add_argument(
            "--key",
            default="",
            help="which weights of several to take, such as averaged ones: "
            "keys of nested dictionaries joined by /, or a prefix of names",
        )

    c = commands.add_parser("convert", help="make an integer model")
    checkpoint(c)
    c.add_argument("out")
    c.add_argument("--images", help="folder of photographs to calibrate on, in addition to the project's own pictures")
    c.add_argument(
        "--most", type=int, default=CALIBRATION_PICTURES, help="largest number of photographs to calibrate on"
    )
    c.add_argument("--calibration", help="calibration record: read if the file exists, else written")
    c.add_argument("--card", help="text file to carry as the model's card")
    c.add_argument("--report", metavar="R.json", help="measure every layer; a table and a page are written next to it")
    c.add_argument("--report-images", metavar="DIR", help="pictures to measure on, by default those of the calibration")
    c.add_argument("--force", action="store_true", help="replace existing files")
    c.set_defaults(run=make_model)
    c = commands.add_parser("export", help="write an integer model in another form")
    c.add_argument("model", help="path or installed name")
    form = c.add_mutually_exclusive_group(required=True)
    form.add_argument("--float", metavar="OUT.pt", help="state dict of the published layout, as torch.save writes it")
    form.add_argument("--flat", metavar="OUT.safetensors", help="the normative integers as safetensors")
    c.add_argument(
        "--spelling",
        choices=SPELLINGS,
        default=SPELLINGS[0],
        help="names of the bottleneck's parameters with --float: current (matrices.0, CompressAI 1.2.8) "
        "or old (_matrix0); default current",
    )
    c.add_argument("--force", action="store_true", help="replace an existing file")
    c.set_defaults(run=export)
    c = commands.add_parser("inspect", help="say what a checkpoint is")
    checkpoint(c)
    c.set_defaults(run=inspect)
    c = commands.add_parser("evaluate", help="integer against float: rate, distortion, clip rates")
    checkpoint(c)
    c.add_argument("--model", help="integer model that was made from the checkpoint; the default model if not given")
    c.add_argument("--images", required=True)
    c.add_argument("--qualities", default="1,25,50,75,100")
    c.add_argument("--crop", type=int, default=1 << 20, help="largest side, cropped at the centre")
    c.add_argument("--most", type=int, help="largest number of pictures")
    c.add_argument("--save-json", metavar="FILE", help="write every row to this file, as one JSON object")
    c.set_defaults(run=compare)
    add_train_arguments(commands.add_parser("train", help="train a network on photographs (PyTorch)"))
    add_bench_arguments(commands.add_parser("bench", help="time the float network (PyTorch)"))
    c = commands.add_parser("parts", help="cut a file into parts, or join them: for places that limit files")
    under = c.add_subparsers(required=True, metavar="ACTION")
    c = under.add_parser("split", help="FILE -> parts and their list in a folder")
    c.add_argument("file", type=Path)
    c.add_argument("folder", type=Path)
    c.add_argument("--mib", type=float, default=15.0, help="largest part (15)")
    c.set_defaults(run=split_parts)
    c = under.add_parser("join", help="folders of parts -> FILE")
    c.add_argument("folders", type=Path, nargs="+")
    c.add_argument("file", type=Path)
    c.add_argument("--force", action="store_true", help="replace an existing file")
    c.set_defaults(run=join_parts)
    c = commands.add_parser("hard", help="flat colours, gradients and grey pictures, rendered: what models do to them")
    c.add_argument("models", nargs="*", default=["default"], help="integer models: paths or installed names")
    c.add_argument("--qualities", default="30,60,90")
    c.add_argument("--json", action="store_true", help="one JSON object per model")
    c.set_defaults(run=hard)
    c = commands.add_parser("tables", help="compute the universal tables of SPEC annex A again (mpmath)")
    c.set_defaults(run=make_tables)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code of ``refcodec.errors``."""
    args = _parser().parse_args(argv)
    try:
        with within_resources("the command"):
            args.run(args)
    except RefcodecError as e:
        note(f"weights_converter: error: {e}")
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
