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

from refcodec.architecture import layer_table
from refcodec.errors import MissingInput, RefcodecError
from refcodec.files import check_target, write_bytes
from refcodec.model import Model
from refcodec.model_registry import load_model

from .calibrate import Record, record_from, record_text
from .checkpoint import Checkpoint, read_checkpoint
from .convert import (
    CALIBRATION_CROP,
    CALIBRATION_PICTURES,
    Progress,
    convert,
    default_pictures,
    load_pictures,
    own_pictures,
    record_pictures,
)
from .export import export_flat, export_float
from .float_engine import Bottleneck
from .published import float_layers
from .recognise import recognise
from .train.command import add_arguments

REPORT_PICTURES = 3


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
        _note("weights_converter: warning: calibrating on the project's own few pictures; --images with a folder of "
              "photographs makes a better model")
    pictures = own_pictures()
    if args.images:
        pictures += [samples for _, samples in load_pictures(Path(args.images), CALIBRATION_CROP, args.most)]
    config = recognise(checkpoint.tensors, checkpoint.config)
    record = record_pictures(config, checkpoint.tensors, pictures, _bar("calibrating"))
    about = {"count": len(pictures), "crop": CALIBRATION_CROP}
    if args.calibration:
        write_bytes(args.calibration, record_text(record, len(pictures), CALIBRATION_CROP).encode(), force=True)
    return record, about


def _convert(args: argparse.Namespace) -> None:
    from .report import report_paths

    out = Path(args.out)
    for target in (out, *(report_paths(args.report) if args.report else ())):
        check_target(target, args.force)
    checkpoint = read_checkpoint(args.checkpoint)
    record, about = _record(args, checkpoint)
    more: dict[str, Any] = {"calibration_pictures": about}
    if args.card:
        try:
            more["card"] = Path(args.card).read_text()
        except OSError as e:
            raise MissingInput("the model card cannot be read", where=args.card, detail=str(e)) from None
    model = convert(checkpoint, record, out, more, _bar("quantising"))
    tightest = sorted(model.margins.items(), key=lambda item: item[1])[:3]
    print(f"{out}: fingerprint {model.fingerprint.hex()}, {out.stat().st_size / 1e6:.1f} MB, proved free of overflow; "
          "tightest margins below 2^31: " + ", ".join(f"{n} {m}" for n, m in tightest))
    if args.report:
        _report(args, checkpoint, model)


def _report(args: argparse.Namespace, checkpoint: Checkpoint, model: Model) -> None:
    from .report import make_report, report_paths
    from .report_page import as_html, as_text

    folder = args.report_images or args.images or default_pictures()
    pictures = load_pictures(Path(folder), CALIBRATION_CROP, REPORT_PICTURES)
    floats = float_layers(model.config, checkpoint.tensors)
    report = make_report(floats, Bottleneck(checkpoint.tensors), model, pictures)
    texts = (json.dumps(report, indent=1, allow_nan=False), as_text(report), as_html(report))
    for path, text in zip(report_paths(args.report), texts, strict=True):
        write_bytes(path, text.encode(), force=args.force)
    print(f"{args.report}: lowest signal-to-noise ratio {', '.join(report['lowest_snr'][:3])}")


def _export(args: argparse.Namespace) -> None:
    if args.float:
        print(f"{args.float}: {export_float(args.model, args.float, args.force)} parameters")
    else:
        print(f"{args.flat}: {export_flat(args.model, args.flat, args.force)} arrays")


def _inspect(args: argparse.Namespace) -> None:
    checkpoint = read_checkpoint(args.checkpoint)
    config = recognise(checkpoint.tensors, checkpoint.config, args.checkpoint)
    float_layers(config, checkpoint.tensors)
    parts: dict[str, float] = {}
    for op in layer_table(config):
        parts[op.name.split("/")[0]] = parts.get(op.name.split("/")[0], 0) + op.macs / 1000
    parameters = sum(t.size for t in checkpoint.tensors.values())
    print(json.dumps({"form": checkpoint.form, "sha256": checkpoint.source_sha256, "configuration": config.as_dict(),
                      "parameters": parameters, "kmac_per_pixel": round(sum(parts.values()), 2),
                      "kmac_by_part": {k: round(v, 2) for k, v in parts.items() if v}, "meta": checkpoint.meta,
                      "ignored": len(checkpoint.ignored)}, indent=2))


def _evaluate(args: argparse.Namespace) -> None:
    from .evaluate import evaluate

    checkpoint = read_checkpoint(args.checkpoint)
    config = recognise(checkpoint.tensors, checkpoint.config, args.checkpoint)
    model = load_model(args.model)
    pictures = load_pictures(Path(args.images), args.crop, args.most)
    steps = [int(s) for s in args.qualities.split(",")] if config.steps > 1 else [1]
    result = evaluate(config, float_layers(config, checkpoint.tensors), Bottleneck(checkpoint.tensors), model, pictures,
                      steps, _note)
    if args.json:
        write_bytes(args.json, json.dumps(result, indent=1).encode(), force=True)
    print(f"{len(pictures)} pictures, model {model.fingerprint.hex()}")
    print("quality   float bpp      dB   integer bpp      dB   mixed dB   bits ratio   by tables")
    for n, step in enumerate(steps):
        columns = {"float_bpp": "11.4f", "float_psnr": "7.3f", "integer_bpp": "13.4f", "integer_psnr": "7.3f",
                   "mixed_psnr": "10.3f", "bits_ratio_by_step": "12.5f", "tables_ratio_by_step": "11.5f"}
        print(f"{step:7d}", *(format(result[key][n], width) for key, width in columns.items()))
    print(f"coded segments over estimated bits, summed: {result['bits_ratio']:.5f}; over the bits of the "
          f"coder's tables for the float network's symbols: {result['tables_ratio']:.5f}")
    print("BD-rate against float: " + ", ".join(f"{k} {v:+.3f} %" for k, v in result["bd_rate"].items()))
    largest = [f"{name} {rate:.1e}" for name, rate in list(result["clip_rates"].items())[:12]]
    print(f"clip rates at quality {max(steps)}: " + (", ".join(largest) or "none"))


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m weights_converter", description="PyTorch checkpoint -> integer model.")
    commands = p.add_subparsers(required=True, metavar="COMMAND")
    c = commands.add_parser("convert", help="make an integer model")
    c.add_argument("checkpoint")
    c.add_argument("out")
    c.add_argument("--images", help="folder of photographs to calibrate on, beside the project's own pictures")
    c.add_argument("--most", type=int, default=CALIBRATION_PICTURES,
                   help="largest number of photographs to calibrate on")
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
    c.add_argument("--force", action="store_true", help="replace an existing file")
    c.set_defaults(run=_export)
    c = commands.add_parser("inspect", help="say what a checkpoint is")
    c.add_argument("checkpoint")
    c.set_defaults(run=_inspect)
    c = commands.add_parser("evaluate", help="integer against float: rate, distortion, clip rates")
    c.add_argument("checkpoint")
    c.add_argument("--model", help="integer model, the default model if not given")
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
        print(f"weights_converter: error: {e}", file=sys.stderr)
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
