"""``python -m weights_converter``: convert, inspect and evaluate checkpoints."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refcodec.architecture import layer_table
from refcodec.errors import MissingInput, OutputError, RefcodecError
from refcodec.files import write_bytes
from refcodec.model_file import load_model

from .calibrate import Record, record_content, record_from
from .checkpoint import read_checkpoint
from .convert import convert, load_pictures, record_pictures
from .float_engine import Bottleneck
from .published import float_layers
from .recognise import recognise

CALIBRATION_CROP = 256
CALIBRATION_PICTURES = 40


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _record(args: argparse.Namespace, checkpoint: Any) -> tuple[Record, dict[str, Any]]:
    if args.calibration and Path(args.calibration).exists():
        path = Path(args.calibration)
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            raise MissingInput("the calibration record cannot be read", where=str(path), detail=str(e)) from None
        return record_from(values.get("tensors", values), str(path)), values.get("pictures", {})
    if not args.images:
        raise MissingInput("no pictures to calibrate on", where="--images", cause="name a folder of photographs")
    pictures = load_pictures(Path(args.images), CALIBRATION_CROP, CALIBRATION_PICTURES)
    start = time.monotonic()

    def progress(n: int, of: int) -> None:
        _note(f"calibrating on picture {n + 1} of {of}, {time.monotonic() - start:.0f} s")

    record = record_pictures(checkpoint, [samples for _, samples in pictures], progress)
    about = {"count": len(pictures), "crop": CALIBRATION_CROP}
    if args.calibration:
        text = json.dumps({"pictures": about, "tensors": record_content(record)}, sort_keys=True)
        write_bytes(args.calibration, text.encode(), force=True)
    return record, about


def _convert(args: argparse.Namespace) -> None:
    out = Path(args.out)
    if out.exists() and not args.force:
        raise OutputError("the output exists", where=str(out), cause="give --force to replace it")
    checkpoint = read_checkpoint(args.checkpoint)
    record, about = _record(args, checkpoint)
    more: dict[str, Any] = {"calibration_pictures": about}
    if args.card:
        try:
            more["card"] = Path(args.card).read_text()
        except OSError as e:
            raise MissingInput("the model card cannot be read", where=args.card, detail=str(e)) from None
    model = convert(checkpoint, record, out, more)
    tightest = sorted(model.margins.items(), key=lambda item: item[1])[:3]
    print(f"{out}: fingerprint {model.fingerprint.hex()}, {out.stat().st_size / 1e6:.1f} MB, proved free of overflow; "
          "tightest margins below 2^31: " + ", ".join(f"{n} {m}" for n, m in tightest))


def _inspect(args: argparse.Namespace) -> None:
    checkpoint = read_checkpoint(args.checkpoint)
    config = recognise(checkpoint.tensors, args.checkpoint)
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
    config = recognise(checkpoint.tensors, args.checkpoint)
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
    c.add_argument("--images", help="folder of photographs to calibrate on")
    c.add_argument("--calibration", help="calibration record: read if the file exists, else written")
    c.add_argument("--card", help="text file to carry as the model's card")
    c.add_argument("--force", action="store_true", help="replace an existing file")
    c.set_defaults(run=_convert)
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
