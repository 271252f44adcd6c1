"""``python -m weights_converter``: convert, inspect, evaluate, export and train."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Matrices of one layer are small: pictures shared out to the cores are faster than threads inside a product, which
# wait for each other. Read when NumPy loads its library.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from refcodec.errors import MissingInput, RefcodecError
from refcodec.io.console import printable
from refcodec.io.files import check_target, write_bytes
from refcodec.model.file import read_floats
from refcodec.model.integer_model import Model
from refcodec.model.layer_table import layer_table
from refcodec.model.registry import load_model, model_path

from .convert.calibrate import Record, record_from, record_text
from .convert.export import SPELLINGS, export_flat, export_float
from .convert.float_engine import Bottleneck
from .convert.pipeline import (
    CALIBRATION_CROP,
    CALIBRATION_PICTURES,
    Progress,
    convert,
    default_pictures,
    load_pictures,
    own_pictures,
    record_pictures,
)
from .convert.published import float_layers
from .convert.recognise import recognise
from .formats.checkpoint import Checkpoint, read_checkpoint
from .formats.torch_zip import WRAPPERS
from .train.command import add_arguments

REPORT_PICTURES = 3


def _note(text: str) -> None:
    """One line on standard error; names come from files and folders, so what a terminal would obey is escaped."""
    print(printable(text), file=sys.stderr, flush=True)


def _say(text: str) -> None:
    print(printable(text))


def _read(args: argparse.Namespace) -> Checkpoint:
    """The checkpoint of a command; what was taken of several networks is said."""
    checkpoint = read_checkpoint(args.checkpoint, args.key)
    if checkpoint.left:
        _note(
            f"weights_converter: weights taken from {checkpoint.taken or 'the whole file'}; left out: "
            f"{', '.join(checkpoint.left)}; --key takes others"
        )
    return checkpoint


def _bar(action: str) -> Progress | None:
    """One line that fills up on a terminal; None where standard error is none."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        filled = 30 * done // of
        line = f"\r{action} {'#' * filled}{'.' * (30 - filled)} {done}/{of}"
        print(line if done < of else "\r\033[K", end="", file=sys.stderr, flush=True)

    return show


def _record(args: argparse.Namespace, checkpoint: Checkpoint) -> tuple[Record, dict[str, Any]]:
    if args.calibration and Path(args.calibration).exists():
        path = Path(args.calibration)
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            raise MissingInput("the calibration record cannot be read", where=str(path), detail=str(e)) from None
        return record_from(values.get("tensors", values), str(path)), values.get("pictures", {})
    if not args.images:
        _note(
            "weights_converter: warning: calibrating on the project's own few pictures; --images with a folder of "
            "photographs makes a better model"
        )
    pictures = own_pictures()
    if args.images:
        pictures += [samples for _, samples in load_pictures(Path(args.images), CALIBRATION_CROP, args.most)]
    config = recognise(checkpoint.tensors, checkpoint.config, checkpoint.where)
    float_layers(config, checkpoint.tensors, checkpoint.where)  # names are checked before pictures are run
    record = record_pictures(config, checkpoint.tensors, pictures, _bar("calibrating"))
    about = {"count": len(pictures), "crop": CALIBRATION_CROP}
    if args.calibration:
        write_bytes(args.calibration, record_text(record, len(pictures), CALIBRATION_CROP).encode(), force=True)
    return record, about


def _convert(args: argparse.Namespace) -> None:
    from .report.stages import report_paths

    out = Path(args.out)
    for target in (out, *(report_paths(args.report) if args.report else ())):
        check_target(target, args.force)
    checkpoint = _read(args)
    record, about = _record(args, checkpoint)
    more: dict[str, Any] = {"calibration_pictures": about}
    if args.card:
        try:
            more["card"] = Path(args.card).read_text()
        except OSError as e:
            raise MissingInput("the model card cannot be read", where=args.card, detail=str(e)) from None
    model = convert(checkpoint, record, out, more, _bar("quantising"))
    tightest = sorted(model.margins.items(), key=lambda item: item[1])[:3]
    _say(
        f"{out}: fingerprint {model.fingerprint.hex()}, {out.stat().st_size / 1e6:.1f} MB, proved free of overflow; "
        "tightest margins below 2^31: " + ", ".join(f"{n} {m}" for n, m in tightest)
    )
    if args.report:
        _report(args, checkpoint, model)


def _report(args: argparse.Namespace, checkpoint: Checkpoint, model: Model) -> None:
    from .report.page import as_html, as_text
    from .report.stages import make_report, report_paths

    folder = args.report_images or args.images or default_pictures()
    pictures = load_pictures(Path(folder), CALIBRATION_CROP, REPORT_PICTURES)
    floats = float_layers(model.config, checkpoint.tensors)
    report = make_report(floats, Bottleneck(checkpoint.tensors), model, pictures)
    texts = (json.dumps(report, indent=1, allow_nan=False), as_text(report), as_html(report))
    for path, text in zip(report_paths(args.report), texts, strict=True):
        write_bytes(path, text.encode(), force=args.force)
    _say(f"{args.report}: lowest signal-to-noise ratio {', '.join(report['lowest_snr'][:3])}")


def _export(args: argparse.Namespace) -> None:
    if args.float:
        _say(f"{args.float}: {export_float(args.model, args.float, args.force, args.spelling)} parameters")
    else:
        _say(f"{args.flat}: {export_flat(args.model, args.flat, args.force)} arrays")


def _inspect(args: argparse.Namespace) -> None:
    checkpoint = _read(args)
    config = recognise(checkpoint.tensors, checkpoint.config, checkpoint.where)
    float_layers(config, checkpoint.tensors, checkpoint.where)
    parts: dict[str, float] = {}
    for op in layer_table(config):
        parts[op.name.split("/")[0]] = parts.get(op.name.split("/")[0], 0) + op.macs / 1000
    parameters = sum(t.size for t in checkpoint.tensors.values())
    print(
        json.dumps(
            {
                "form": checkpoint.form,
                "sha256": checkpoint.source_sha256,
                "configuration": config.as_dict(),
                "parameters": parameters,
                "kmac_per_pixel": round(sum(parts.values()), 2),
                "kmac_by_part": {k: round(v, 2) for k, v in parts.items() if v},
                "meta": checkpoint.meta,
                "taken": checkpoint.taken,
                "left": list(checkpoint.left),
                "ignored": list(checkpoint.ignored),
            },
            indent=2,
        )
    )


def _evaluate(args: argparse.Namespace) -> None:
    from .report.evaluate import bd_text, check_same, evaluate

    checkpoint = _read(args)
    config = recognise(checkpoint.tensors, checkpoint.config, checkpoint.where)
    floats = float_layers(config, checkpoint.tensors, checkpoint.where)
    path = model_path(args.model)
    model = load_model(path)
    check_same(checkpoint, config, model, read_floats(path), str(path))
    pictures = load_pictures(Path(args.images), args.crop, args.most)
    steps = [int(s) for s in args.qualities.split(",")] if config.steps > 1 else [1]
    result = evaluate(config, floats, Bottleneck(checkpoint.tensors), model, pictures, steps, _note)
    if args.json:
        write_bytes(args.json, json.dumps(result, indent=1, allow_nan=False).encode(), force=True)
    print(f"{len(pictures)} pictures, model {model.fingerprint.hex()}")
    print("quality   float bpp      dB   integer bpp      dB   mixed dB   bits ratio   by tables")
    for n, step in enumerate(steps):
        columns = {
            "float_bpp": "11.4f",
            "float_psnr": "7.3f",
            "integer_bpp": "13.4f",
            "integer_psnr": "7.3f",
            "mixed_psnr": "10.3f",
            "bits_ratio_by_step": "12.5f",
            "tables_ratio_by_step": "11.5f",
        }
        print(f"{step:7d}", *(format(result[key][n], width) for key, width in columns.items()))
    print(
        f"coded segments over estimated bits, summed: {result['bits_ratio']:.5f}; over the bits of the "
        f"coder's tables for the float network's symbols: {result['tables_ratio']:.5f}"
    )
    print(f"BD-rate against float: {bd_text(result['bd_rate'])}")
    largest = [f"{name} {rate:.1e}" for name, rate in list(result["clip_rates"].items())[:12]]
    print(f"clip rates at quality {max(steps)}: " + (", ".join(largest) or "none"))


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
    c.add_argument("--images", help="folder of photographs to calibrate on, beside the project's own pictures")
    c.add_argument(
        "--most", type=int, default=CALIBRATION_PICTURES, help="largest number of photographs to calibrate on"
    )
    c.add_argument("--calibration", help="calibration record: read if the file exists, else written")
    c.add_argument("--card", help="text file to carry as the model's card")
    c.add_argument("--report", metavar="R.json", help="measure every layer; a table and a page are written beside")
    c.add_argument("--report-images", metavar="DIR", help="pictures to measure on, by default those of the calibration")
    c.add_argument("--force", action="store_true", help="replace existing files")
    c.set_defaults(run=_convert)
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
    c.set_defaults(run=_export)
    c = commands.add_parser("inspect", help="say what a checkpoint is")
    checkpoint(c)
    c.set_defaults(run=_inspect)
    c = commands.add_parser("evaluate", help="integer against float: rate, distortion, clip rates")
    checkpoint(c)
    c.add_argument("--model", help="integer model that was made from the checkpoint; the default model if not given")
    c.add_argument("--images", required=True)
    c.add_argument("--qualities", default="1,25,50,75,100")
    c.add_argument("--crop", type=int, default=1 << 20, help="largest side, cropped at the centre")
    c.add_argument("--most", type=int, help="largest number of pictures")
    c.add_argument("--json", help="write every row to this file")
    c.set_defaults(run=_evaluate)
    add_arguments(commands.add_parser("train", help="train a network on photographs (PyTorch)"))
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code of ``refcodec.errors``."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except RefcodecError as e:
        _note(f"weights_converter: error: {e}")
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
