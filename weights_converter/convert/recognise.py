"""The configuration of a checkpoint, read from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from refcodec.errors import InvalidModel
from refcodec.model.config import Config, config_from

_PARTS = frozenset({"g_a", "h_a", "h_s", "local_context", "channel_context", "entropy_parameters_anchor"})
"""Modules that LoC-LIC and MLIC++ have, and other networks of the field have not all of."""


def recognise(
    tensors: Mapping[str, np.ndarray], stored: Mapping[str, Any] | None = None, where: str = "checkpoint"
) -> Config:
    """The configuration whose layer table these tensors fill.

    LoC-LIC and MLIC++, in their newer and older forms, differ in widths, in the number of convolutions of latent
    residual prediction and in the first block of g_s; all of it shows in shapes. Heads of the global attentions do not:
    they are taken from a configuration stored with the tensors, else they are the published ones.

    Parameters
    ----------
    tensors : mapping of str to array
        Published tensors by name.
    stored : mapping or None
        The configuration that the checkpoint carries.
    where : str
        Names the checkpoint in errors.

    Returns
    -------
    Config

    Raises
    ------
    InvalidModel
        A tensor that gives a width is missing, or the widths are not a configuration (SPEC 6.1).
    """

    def refuse(name: str) -> NoReturn:
        found = sorted({stored.split(".")[0] for stored in tensors})
        same = set(found) >= _PARTS
        raise InvalidModel(
            "not a checkpoint of LoC-LIC or MLIC++",
            where=where,
            missing=name,
            found=[part[:40] for part in found[:12]],
            cause="it has the parts of LoC-LIC, so it lost tensors or has another number of layers or slices"
            if same
            else "it is another network, or only a part of one",
        )

    def rows(name: str) -> int:
        array = tensors.get(f"{name}.weight")
        if array is None or array.ndim == 0:
            refuse(f"{name}.weight")
        return int(array.shape[0])

    def count(prefix: str, suffix: str) -> int:
        return sum(1 for name in tensors if name.startswith(prefix) and name.endswith(suffix))

    M = rows("g_a.analysis_transform.6")
    slices = count("local_context.", ".qkv_proj.weight")
    position = tensors.get("local_context.0.relative_position_table")
    if position is None or position.ndim != 2:
        refuse("local_context.0.relative_position_table")
    gain = tensors.get("gain")
    if gain is not None and gain.ndim == 0:
        refuse("gain")
    heads = {name: stored[name] for name in ("intra_heads", "inter_head_width") if stored and name in stored}
    old_lrp = "lrp_anchor.0.lrp_transform.6.weight" in tensors
    return config_from(
        {
            "N": [rows(f"g_a.analysis_transform.{n}.conv1") for n in (0, 2, 4)],
            "M": M,
            "slices": slices,
            "hyper": rows("h_a.reduction.0"),
            "hs": [rows("h_s.increase.0"), rows("h_s.increase.4")],
            "chan": [rows(f"channel_context.1.fushion.{n}") for n in (0, 2)],
            "ent": [rows(f"entropy_parameters_anchor.0.fusion.{n}") for n in (0, 2, 4)],
            "lrp": [] if old_lrp else [rows(f"lrp_anchor.0.lrp_transform.{n}") for n in (0, 2)],
            "window": (round(position.shape[0] ** 0.5) + 1) // 2,
            "local_heads": int(position.shape[1]),
            "qualities": 1 if gain is None else int(gain.shape[0]),
            "old_synthesis": rows("g_s.synthesis_transform.0.conv1") != M,
            **heads,
        },
        where,
    )
