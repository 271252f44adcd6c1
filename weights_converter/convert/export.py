"""Integer model -> other files: its content as safetensors, or a PyTorch checkpoint of the published layout.

Weights come from the integers and their shifts. What integers and shifts do not determine, because it was folded or is
not linear in them, a model file carries in addition to its content: biases, norms, GDN, gains, the bottleneck and the
tables of relative positions, as the checkpoint had them (SPEC B.1). So a round trip returns every such tensor as it
was, and every weight within half a quantisation step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from refcodec.errors import InvalidModel
from refcodec.io.files import check_target, write_bytes
from refcodec.model.config import Config
from refcodec.model.file import read_content, read_floats
from refcodec.model.integer_model import Model
from refcodec.model.layers import Conv
from refcodec.model.proof import tensor_channels
from refcodec.model.registry import load_model, model_path

from ..formats.safetensors import safetensors
from ..formats.spelling import current_name
from ..formats.torch_writer import torch_zip
from .folding import published_weights
from .names import State, published_buffers, published_shapes
from .quantise import conv_fracs


def _kept_shapes(config: Config, gained: bool) -> dict[str, tuple[int, ...]]:
    """Published tensors that a model file carries as floats: all but the weights of convolutions and linear layers."""
    norms = {f"local_context.{i}.norm{n}.weight" for i in range(config.slices) for n in (1, 2)}
    return {
        name: shape
        for name, shape in published_shapes(config, gained).items()
        if not name.endswith(".weight") or name in norms
    }


def kept_floats(config: Config, state: State) -> dict[str, np.ndarray]:
    """The floats of a checkpoint to write in addition to the model's integers."""
    return {name: state[name] for name in _kept_shapes(config, "gain" in state)}


def published_state(model: Model, floats: Mapping[str, np.ndarray], where: str = "model") -> dict[str, np.ndarray]:
    """The state dict of published checkpoints, float32, in the order of their names.

    Parameters
    ----------
    model : Model
    floats : mapping of str to np.ndarray
        Result of ``kept_floats``.
    where : str
        Names the model in errors.

    Returns
    -------
    dict of str to np.ndarray

    Raises
    ------
    InvalidModel
        The floats are not those of the model's configuration.
    """
    gained = "gain" in floats
    expected = _kept_shapes(model.config, gained)
    if not floats:
        raise InvalidModel("the model carries no floats", where=where, cause="convert its checkpoint again")
    if wrong := sorted(
        name
        for name in expected.keys() | floats.keys()
        if name not in floats or floats[name].shape != expected.get(name)
    ):
        raise InvalidModel(
            "floats are missing, unknown or misshapen", where=f"{where}:float", count=len(wrong), first=wrong[:5]
        )
    state = dict(floats)
    channels = tensor_channels(model.ops)
    for op in model.ops:
        layer = model.layers[op.name]
        if isinstance(layer, Conv):
            inputs, outputs = conv_fracs(op, model.layers, channels)
            scale = np.exp2(-(outputs + layer.shift).astype(np.float64))[:, None, None, None] * np.exp2(inputs)
            state |= published_weights(op, layer.weight * scale, floats)
    shapes = published_shapes(model.config, gained)
    return {
        name: np.ascontiguousarray(state[name], np.float32).reshape(shape) for name, shape in sorted(shapes.items())
    }


SPELLINGS = ("current", "old")
"""How the bottleneck's parameters may be spelled: as CompressAI 1.2.8 does (``matrices.0``), or as older releases and
the published checkpoints do (``_matrix0``)."""


def export_float(model_name: str, out: str, force: bool = False, spelling: str = "current") -> int:
    """Write a PyTorch checkpoint with ``state_dict`` and ``config``.

    The state dict has every key of the published class, buffers included, so that the class loads it strictly. A model
    of several qualities adds the four quality gains, which only this project's classes have.

    Parameters
    ----------
    model_name : str
        Path or installed name.
    out : str
    force : bool
        Replace an existing file.
    spelling : str
        One of ``SPELLINGS``.

    Returns
    -------
    int
        Count of parameters.

    Raises
    ------
    ModelError, InvalidModel
        There is no such model, or it carries no floats.
    OutputError, TransferError
    """
    check_target(out, force)
    path = model_path(model_name)
    model = load_model(path)
    state = published_state(model, read_floats(path), path.name)
    spelled = {current_name(name) if spelling == "current" else name: array for name, array in state.items()}
    write_bytes(out, torch_zip(spelled | published_buffers(model.config), model.config.as_dict()), force)
    return sum(math.prod(a.shape) for a in state.values())


def export_flat(model_name: str, out: str, force: bool = False) -> int:
    """Write the normative content as safetensors: names of SPEC 10.2, and the fingerprint as metadata.

    Parameters
    ----------
    model_name : str
        Name or path.
    out : str
        The file to write.
    force : bool
        Replace an existing file.

    Returns
    -------
    int
        Count of arrays.

    Raises
    ------
    ModelError, InvalidModel
        There is no such model.
    OutputError, TransferError
    """
    check_target(out, force)
    path: Path = model_path(model_name)
    model = load_model(path)
    content, _ = read_content(path)
    metadata = {
        "format": "refcodec-model",
        "fingerprint": model.fingerprint.hex(),
        "config": json.dumps(model.config.as_dict(), sort_keys=True),
    }
    write_bytes(out, safetensors(content, metadata), force)
    return len(content)
