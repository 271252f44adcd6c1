"""The configuration of a checkpoint, read from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refcodec.architecture import Config, config_from
from refcodec.errors import InvalidModel


def recognise(tensors: Mapping[str, np.ndarray], stored: Mapping[str, Any] | None = None,
              where: str = "checkpoint") -> Config:
    """The configuration whose layer table these tensors fill.

    LoC-LIC and MLIC++, in their newer and older forms, differ in widths, in the number of convolutions of latent
    residual prediction and in the first block of g_s; all of it shows in shapes. Heads of the global attentions do not:
    they are taken from a configuration stored beside the tensors, else they are the published ones.

    Parameters
    ----------
    stored : mapping or None
        The configuration that the checkpoint carries.

    Raises
    ------
    InvalidModel
        A tensor that tells a width is missing, or the widths are not a configuration (SPEC 6.1).
    """

    def rows(name: str) -> int:
        if f"{name}.weight" not in tensors:
            raise InvalidModel("not a checkpoint of LoC-LIC or MLIC++", where=where, missing=f"{name}.weight")
        return int(tensors[f"{name}.weight"].shape[0])

    def count(prefix: str, suffix: str) -> int:
        return sum(1 for name in tensors if name.startswith(prefix) and name.endswith(suffix))

    M = rows("g_a.analysis_transform.6")
    slices = count("local_context.", ".qkv_proj.weight")
    position = tensors.get("local_context.0.relative_position_table")
    if position is None or position.ndim != 2:
        raise InvalidModel("not a checkpoint of LoC-LIC or MLIC++", where=where,
                           missing="local_context.0.relative_position_table")
    heads = {name: stored[name] for name in ("intra_heads", "inter_head_width") if stored and name in stored}
    old_lrp = "lrp_anchor.0.lrp_transform.6.weight" in tensors
    return config_from({
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
        "qualities": int(tensors["gain"].shape[0]) if "gain" in tensors else 1,
        "old_synthesis": rows("g_s.synthesis_transform.0.conv1") != M,
        **heads,
    }, where)
