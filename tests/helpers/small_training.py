"""Training on a few small pictures, on the processor. Needs PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from weights_converter.network.bench import synthetic_picture
from weights_converter.train.loop import Pace, Run
from weights_converter.train.pictures import Picture
from weights_converter.train.plan import Plan
from weights_converter.train.state import State

CPU = torch.device("cpu")


def save_pictures(folder: Path, count: int = 3, side: int = 96) -> Path:
    """Write pictures that are ``side`` high and wider from one to the next; returns the folder."""
    folder.mkdir(exist_ok=True)
    for n in range(count):
        Image.fromarray(synthetic_picture(side + 8 * n, side, n)).save(folder / f"{n}.png")
    return folder


def quick_plan(**values: Any) -> Plan:
    """Six steps of three crops each; values take the place of these."""
    few = {"steps": 6, "batch": 3, "crops": ((64, 0.0),), "warmup": 2, "rate": 1e-3, "stages": (("all", 0.0),)}
    return Plan(**{**few, "optimiser": "adamw", **values})


def run(folder: Path, state: State, pictures: list[Picture], **pace: Any) -> Run:
    """A run that prints nothing."""
    return Run(folder, state, pictures, Pace(CPU, **{"threads": 2, "log_steps": 2, **pace}), lambda text: None)
