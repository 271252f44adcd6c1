"""The commands of ``python -m weights_converter``; each function takes the parsed arguments."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from refcodec.io.console import printable, progress
from refcodec.io.files import check_target, read_bytes, write_bytes
from refcodec.io.strict_json import json_object
from refcodec.model.file import read_floats
from refcodec.model.integer_model import Model
from refcodec.model.layer_table import layer_table
from refcodec.model.registry import load_model, model_path
from refcodec.model.tables import PATH

from .convert.calibrate import Record, record_from, record_text
from .convert.code_length import Bottleneck
from .convert.export import export_flat, export_float
from .convert.folding import float_layers
from .convert.pipeline import (
    CALIBRATION_CROP,
    convert,
    default_pictures,
    load_pictures,
    own_pictures,
    record_pictures,
)
from .convert.recognise import recognise
from .formats.checkpoint import Checkpoint, read_checkpoint
from .parts import join_file, split_file

REPORT_PICTURES = 3


def note(text: str) -> None:
    """One line on standard error; names come from files and folders, so what a terminal would obey is escaped."""
    print(printable(text), file=sys.stderr, flush=True)


def say(text: str) -> None:
    """One line of results."""
    print(printable(text))


def _read(args: argparse.Namespace) -> Checkpoint:
    """The checkpoint of a command; what was taken of several networks is said."""
    checkpoint = read_checkpoint(args.checkpoint, args.key)
    if checkpoint.left:
        note(
            f"weights_converter: weights taken from {checkpoint.taken or 'the whole file'}; left out: "
            f"{', '.join(checkpoint.left)}; --key takes others"
        )
    return checkpoint


def _record(args: argparse.Namespace, checkpoint: Checkpoint) -> tuple[Record, dict[str, Any]]:
    if args.calibration and Path(args.calibration).exists():
        values = json_object(read_bytes(args.calibration), args.calibration, "the calibration record")
        return record_from(values.get("tensors", values), args.calibration), values.get("pictures", {})
    if not args.images:
        note(
            "weights_converter: warning: calibrating on the project's own few pictures; --images with a folder of "
            "photographs makes a better model"
        )
    pictures = own_pictures()
    if args.images:
        pictures += [samples for _, samples in load_pictures(Path(args.images), CALIBRATION_CROP, args.most)]
    config = recognise(checkpoint.tensors, checkpoint.config, checkpoint.where)
    float_layers(config, checkpoint.tensors, checkpoint.where)  # names are checked before pictures are run
    with progress("calibrating") as share:
        record = record_pictures(config, checkpoint.tensors, pictures, share)
    about = {"count": len(pictures), "crop": CALIBRATION_CROP}
    if args.calibration:
        write_bytes(args.calibration, record_text(record, len(pictures), CALIBRATION_CROP).encode(), force=True)
    return record, about


def make_model(args: argparse.Namespace) -> None:
    """Make an integer model of a checkpoint."""
    from .report.stages import report_paths

    out = Path(args.out)
    for target in (out, *(report_paths(args.report) if args.report else ())):
        check_target(target, args.force)
    checkpoint = _read(args)
    record, about = _record(args, checkpoint)
    more: dict[str, Any] = {"calibration_pictures": about}
    if args.card:
        more["card"] = read_bytes(args.card).decode(errors="replace")
    with progress("quantising") as share:
        model = convert(checkpoint, record, out, more, share)
    tightest = sorted(model.margins.items(), key=lambda item: item[1])[:3]
    say(
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
    say(f"{args.report}: lowest signal-to-noise ratio {', '.join(report['lowest_snr'][:3])}")


def export(args: argparse.Namespace) -> None:
    """Write an integer model in another form."""
    if args.float:
        say(f"{args.float}: {export_float(args.model, args.float, args.force, args.spelling)} parameters")
    else:
        say(f"{args.flat}: {export_flat(args.model, args.flat, args.force)} arrays")


def inspect(args: argparse.Namespace) -> None:
    """Print what a checkpoint is, one JSON object."""
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


def compare(args: argparse.Namespace) -> None:
    """Compare an integer model with the float network that it was made from."""
    from .report.evaluate import bd_text, check_same, evaluate

    checkpoint = _read(args)
    config = recognise(checkpoint.tensors, checkpoint.config, checkpoint.where)
    floats = float_layers(config, checkpoint.tensors, checkpoint.where)
    path = model_path(args.model)
    model = load_model(path)
    check_same(checkpoint, config, model, read_floats(path), str(path))
    pictures = load_pictures(Path(args.images), args.crop, args.most)
    steps = [int(s) for s in args.qualities.split(",")] if config.steps > 1 else [1]
    result = evaluate(config, floats, Bottleneck(checkpoint.tensors), model, pictures, steps, note)
    if args.save_json:
        write_bytes(args.save_json, json.dumps(result, indent=1, allow_nan=False).encode(), force=True)
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


def split_parts(args: argparse.Namespace) -> None:
    """Cut a file into parts."""
    names = split_file(args.file, args.folder, int(args.mib * 2**20))
    say(f"{args.folder}: {len(names)} parts")


def join_parts(args: argparse.Namespace) -> None:
    """Join parts."""
    say(f"{args.file}: {join_file(args.folders, args.file, args.force)} bytes")


def hard(args: argparse.Namespace) -> None:
    """Print what models do to rendered pictures."""
    from .report.hard import hard_pictures, measure

    steps = [int(step) for step in args.qualities.split(",")]
    for name in args.models:
        model = load_model(model_path(None if name == "default" else name))
        rows = measure(model, hard_pictures(), steps if model.config.steps > 1 else [1])
        if args.json:
            print(json.dumps({"model": model.fingerprint.hex(), "rows": rows}, allow_nan=False))
            continue
        say(f"{name}, fingerprint {model.fingerprint.hex()}")
        say("picture        quality     bpp      dB  mean error  largest  tint")
        for row in rows:
            say(
                f"{row['picture']:12s}  {row['quality']:8d}  {row['bpp']:6.3f}  {row['psnr']:6.2f}  "
                f"{row['mean_error']:10.2f}  {row['largest_error']:7d}  {row['tint']:4.2f}"
            )


def make_tables(args: argparse.Namespace) -> None:
    """Compute the universal tables, write the package's file of them, and print their pins."""
    from .convert.tables import generate, pins, write

    tables = generate()
    write(tables, PATH)
    print(pins(tables))
