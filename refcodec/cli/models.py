"""The commands ``model list``, ``info``, ``verify`` and ``procedural``; commands.py says what all share."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from ..errors import RefcodecError
from ..io.console import note, result, result_json
from ..model.integer_model import Model
from ..model.layer_table import parameter_count
from ..model.proof import bound_table
from ..model.registry import DEFAULT, RELEASED, installed, load_model, model_path


def _model_facts(model: Model, path: Path) -> dict[str, Any]:
    parts: dict[str, float] = {}
    for op in model.ops:
        part = op.name.split("/")[0]
        parts[part] = parts.get(part, 0) + op.macs / 1000
    return {
        "path": str(path),
        "fingerprint": model.fingerprint.hex(),
        "configuration": model.config.as_dict(),
        "parameters": parameter_count(model.config),
        "kmac_per_pixel": round(sum(parts.values()), 2),
        "kmac_by_part": {k: round(v, 2) for k, v in parts.items() if v},
        "provenance": dict(model.provenance),
    }


def model_list(args: Namespace) -> int:
    """``model list``: what is installed and what it costs; a file that holds no model is listed with the reason."""
    released = {entry.fingerprint for entry in RELEASED}
    rows = []
    for path in installed():
        row: dict[str, Any] = {"name": path.stem, "fingerprint": None, "path": str(path)}
        try:
            model = load_model(path)
            row |= {
                "fingerprint": model.fingerprint.hex(),
                "released": model.fingerprint.hex() in released,
                "default": path == DEFAULT,
                "bytes": path.stat().st_size,
                "kmac_per_pixel": round(sum(op.macs for op in model.ops) / 1000, 2),
            }
        except RefcodecError as e:
            row["error"] = str(e)
        rows.append(row)
    if args.json:
        result_json({"models": rows})
    else:
        for row in rows:
            result(f"{row['name']:20s} {row['fingerprint'] or 'no model':32s}  {row['path']}")
            if "error" in row:
                note(f"{row['path']}: {row['error']}")
                continue
            kind = "the default, released" if row["default"] else "released" if row["released"] else "not released"
            result(f"{'':20s} {row['bytes'] / 1e6:.1f} MB, {row['kmac_per_pixel']} kMAC per pixel, {kind}")
    return 0


def model_info(args: Namespace) -> int:
    """``model info M``."""
    facts = _model_facts(load_model(args.name), model_path(args.name))
    if args.json:
        result_json(facts)
        return 0
    card = facts["provenance"].get("card")
    if isinstance(card, str):
        del facts["provenance"]["card"]
    for name, value in facts.items():
        result(f"{name:15s} {value}")
    for line in card.splitlines() if isinstance(card, str) else ():
        result(line)
    return 0


def model_verify(args: Namespace) -> int:
    """``model verify M``: loading proves it; the table shows how close each kind of bound is."""
    model = load_model(args.name)
    bounds = bound_table(model.ops, model.layers)
    if args.json:
        result_json(
            {
                "fingerprint": model.fingerprint.hex(),
                "bounds": [
                    {"name": b.name, "quantity": b.quantity, "worst": b.worst, "allowed": b.allowed, "bits": b.bits}
                    for b in bounds
                ],
            }
        )
        return 0
    tightest: dict[str, Any] = {}
    for b in sorted(bounds, key=lambda b: b.worst / b.allowed):  # the last of a kind is the tightest
        tightest[b.quantity] = b
    result(f"{model.name}: fingerprint {model.fingerprint.hex()}, {len(bounds)} bounds hold (SPEC 9.2); the tightest:")
    for b in tightest.values():
        result(f"{b.quantity:28s} {b.name:24s} {b.worst} of {b.allowed}, {b.bits} bits")
    return 0


def model_procedural(args: Namespace) -> int:
    """``model procedural --profile P --seed S OUT.h5``."""
    from ..model.procedural import write_procedural

    model = write_procedural(args.profile, args.seed, args.out, args.force)
    if args.json:
        result_json({"fingerprint": model.fingerprint.hex(), "profile": args.profile, "seed": args.seed})
    else:
        result(f"{args.out}: {args.profile}, seed {args.seed}, fingerprint {model.fingerprint.hex()}")
    return 0
