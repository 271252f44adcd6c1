"""The files of a run: ``state.pt`` to go on from, ``checkpoint.pt`` in the published layout, ``log.jsonl``.

The checkpoint holds the moving average and is what ``convert`` takes; with ``calibration.json``, which the stage
``quantised`` leaves, it gives the integer model that was trained. All files are written next to their target and
renamed, so an interruption leaves the last whole ones. A state is read without executing anything in it.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refcodec.errors import InvalidModel, MissingInput, OutputError, RefcodecError, TransferError, UsageError
from refcodec.io.files import transfer_error, write_bytes
from refcodec.model.config import PROFILES, Config, config_from
from refcodec.model.integer_model import check_size
from refcodec.model.registry import load_model, model_path

from ..convert.calibrate import Record, record_content, record_from
from ..convert.names import GAINS
from ..formats.checkpoint import read_checkpoint
from ..formats.torch_writer import torch_zip
from ..network.model import LoCLIC, from_checkpoint, from_model
from ..network.simulate import published
from .plan import Plan, plan_from

STATE, CHECKPOINT, CALIBRATION, LOG = "state.pt", "checkpoint.pt", "calibration.json", "log.jsonl"

FORMAT = "refcodec training state 3"


@dataclass
class Progress:
    """How far a run has come: everything that its next step depends on except tensors and plan.

    Attributes
    ----------
    step : int
        Steps done, those that changed nothing included.
    seconds : float
        Spent in steps.
    stage_start : int
        Step at which the stage began.
    stage : str
    faults : int
        Steps that changed nothing.
    recent : list of int
        Their numbers, the latest.
    typical : float
        Moving average of the loss; 0 before the first step.
    """

    step: int = 0
    seconds: float = 0.0
    stage_start: int = 0
    stage: str = ""
    faults: int = 0
    recent: list[int] = field(default_factory=list)
    typical: float = 0.0


@dataclass(frozen=True)
class State:
    """A run at rest.

    Attributes
    ----------
    config : Config
    plan : Plan
    progress : Progress
    weights, average, moments : dict of str to Tensor
        Of the trainee, of its moving average, of the optimiser.
    origin : dict
        What training began from, plain values.
    record : dict or None
        The calibration that the stage ``quantised`` began with.
    """

    config: Config
    plan: Plan
    progress: Progress
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    moments: dict[str, Tensor]
    origin: dict[str, Any]
    record: Record | None = None


def write_state(folder: Path, state: State) -> None:
    """Write ``state.pt``."""
    file = io.BytesIO()
    plain = {
        "config": state.config.as_dict(),
        "plan": state.plan.as_dict(),
        "progress": state.progress.__dict__,
        "origin": state.origin,
        "record": state.record and record_content(state.record),
    }
    torch.save(
        {
            "format": FORMAT,
            "weights": state.weights,
            "average": state.average,
            "moments": state.moments,
            **{name: json.dumps(value) for name, value in plain.items()},
        },
        file,
    )
    write_bytes(folder / STATE, file.getvalue(), force=True)


def read_state(folder: Path) -> State | None:
    """Read ``state.pt``; None where there is none.

    Raises
    ------
    InvalidModel
        It is damaged, or no state of a training.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # compares CRCs, which torch.load does not
        if damaged is not None:
            raise ValueError(f"member {damaged} does not match its CRC-32")
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"it is not of the format {FORMAT}")
        tensors = {key: _tensors(found[key]) for key in ("weights", "average", "moments")}
        plain = {key: json.loads(found[key]) for key in ("config", "plan", "progress", "origin", "record")}
        record = plain["record"] and record_from(plain["record"], str(path))
        return State(
            config_from(plain["config"], str(path)),
            plan_from(plain["plan"], str(path)),
            Progress(**plain["progress"]),
            **tensors,
            origin=plain["origin"],
            record=record,
        )
    except RefcodecError:
        raise
    except Exception as error:  # torch's reader lets errors of every type through
        raise InvalidModel(
            "the training state cannot be read",
            where=str(path),
            reason=str(error).split("\n")[0][:200],
            cause="it is damaged, or of another version",
        ) from error


def _tensors(values: Any) -> dict[str, Tensor]:
    if not isinstance(values, dict) or not all(isinstance(v, Tensor) for v in values.values()):
        raise ValueError("tensors are missing")
    return values


def write_checkpoint(path: Path, net: LoCLIC) -> None:
    """Write a network as torch.save would: ``state_dict`` and ``config``.

    Raises
    ------
    InvalidModel
        A weight is not finite.
    """
    arrays = published(net)
    if wrong := sorted(name for name, array in arrays.items() if not np.isfinite(array).all()):
        raise InvalidModel("weights are not finite", where=str(path), names=wrong[:5])
    write_bytes(path, torch_zip(arrays, net.config.as_dict()), force=True)


def start_from(source: str) -> tuple[LoCLIC, Config, dict[str, Any]]:
    """The network of a checkpoint of any known form, or of an integer model (a path that ends in .h5, or its name).

    Returns
    -------
    tuple
        Network, configuration, and where it is from, plain values.

    Raises
    ------
    MissingInput, InvalidModel, ModelError
    """
    path = Path(source)
    if path.suffix == ".h5" or not path.exists():
        try:
            place = model_path(source)
        except RefcodecError as error:
            raise MissingInput("no such checkpoint or model to start from", where=source) from error
        model = load_model(place)
        net, origin = from_model(model), {"form": "model", "sha256": model.fingerprint.hex(), "meta": {}}
    else:
        checkpoint = read_checkpoint(path)
        net = from_checkpoint(checkpoint)
        origin = {"form": checkpoint.form, "sha256": checkpoint.source_sha256, "meta": checkpoint.meta}
    return net, net.config, {"from": path.name, **origin}


def with_levels(net: LoCLIC, qualities: int) -> LoCLIC:
    """The same network with more levels of quality, whose gains go on as the last two of each row do.

    Raises
    ------
    UsageError
        There are fewer levels than before, or only one to go on from.
    """
    values, last = net.config.as_dict(), net.config.qualities
    if not 1 < last <= qualities:
        raise UsageError("levels can only be added to two or more", where="--qualities", value=qualities, levels=last)
    more = LoCLIC(config_from({**values, "qualities": qualities}, "--qualities"))
    state = net.state_dict()
    beyond = torch.arange(1, qualities - last + 1)[:, None]
    for name in GAINS.values():
        rows = state[name]
        state[name] = torch.cat((rows, rows[-1:] + beyond * (rows[-1:] - rows[-2:-1])))
    more.load_state_dict(state)
    return more.eval()


LATENTS = ("g_a.", "g_s.", "h_a.", "h_s.", "entropy_bottleneck.", *GAINS.values())
"""Beginnings of the names of parameters that make latents, and pictures of them; the rest predicts y."""


def take_latents(net: LoCLIC, source: str) -> dict[str, Any]:
    """Give a network the transforms, hyperprior and gains of another, so that both have the same latents.

    Parameters
    ----------
    net : LoCLIC
        Changed in place. What predicts y keeps its weights.
    source : str
        As in `start_from`.

    Returns
    -------
    dict
        Where they are from, plain values.

    Raises
    ------
    UsageError
        The two have different widths there.
    MissingInput, InvalidModel, ModelError
    """
    other, _, origin = start_from(source)
    state, taken = net.state_dict(), other.state_dict()
    names = [name for name in state if name.startswith(LATENTS)]
    if wrong := [name for name in names if name not in taken or taken[name].shape != state[name].shape]:
        raise UsageError(
            "the latents are those of another configuration", where="--latents-of", value=source, names=wrong[:5]
        )
    net.load_state_dict({**state, **{name: taken[name] for name in names}})
    return origin


def start_fresh(
    profile: str, seed: int, fields: Mapping[str, Any] | None = None
) -> tuple[LoCLIC, Config, dict[str, Any]]:
    """An untrained network.

    Parameters
    ----------
    profile : str
        A key of `PROFILES`.
    seed : int
        Of the weights.
    fields : mapping or None
        Plain values of the configuration that replace those of the profile.

    Returns
    -------
    net : LoCLIC
    config : Config
    origin : dict
        For provenance.

    Raises
    ------
    UsageError
        The profile does not exist.
    InvalidModel
        No configuration has these fields, or a network of it would be too large.
    """
    if profile not in PROFILES:
        raise UsageError("unknown profile", where="--profile", value=profile, known=sorted(PROFILES))
    config = config_from({**PROFILES[profile].as_dict(), **(fields or {})}, "the configuration of a fresh start")
    check_size(config, "the configuration of a fresh start")
    torch.manual_seed(seed)
    return LoCLIC(config), config, {"from": profile, "form": "fresh", "seed": seed}


class Log:
    """Lines of JSON that are appended to ``log.jsonl`` and survive an interruption.

    Parameters
    ----------
    folder : Path
        It is made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                "the run's folder cannot be made", where=str(folder), cause=error.strerror or ""
            ) from error
        self.path = folder / LOG

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        """Append one line.

        Raises
        ------
        TransferError
        """
        line = json.dumps({"event": event, "time": round(time.time(), 1), **values}, allow_nan=False)
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise transfer_error("writing", self.path, error) from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of a log; a last line that an interruption cut is left out.

    Raises
    ------
    MissingInput, TransferError, InvalidModel
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise MissingInput("no log of a training", where=str(path)) from error
    except OSError as error:
        raise TransferError("the log cannot be read", where=str(path), cause=error.strerror or "") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
            rows.append(row)
        except ValueError as error:
            if number < len(lines):
                raise InvalidModel(
                    "not a log of a training", where=f"{path}, line {number}", reason=str(error)[:100]
                ) from error
    return rows
