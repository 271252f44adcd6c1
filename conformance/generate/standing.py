"""Which profiles have a configuration, and its level: what a manifest tells of a model."""

from __future__ import annotations

from typing import Any

from refcodec.model.config import PROFILES, Config, layer_table

MODEL_LEVELS = (("A", 2**20, 2**13), ("B", 2**24, 2**17), ("C", 2**27, 2**21))
"""(SPEC 12.2) Level, most parameters, most multiply-accumulates a sample."""


def profiles(config: Config) -> list[str]:
    """(SPEC 12.1) Names of the profiles that have a configuration."""
    names = [name for name, known in PROFILES.items() if known == config]
    main = len(config.lrp) == 2 and not config.old_synthesis
    return [*names, *(["main"] if main else []), "full"]


def model_level(config: Config) -> str:
    """(SPEC 12.2) The lowest level that has the models of a configuration."""
    table = layer_table(config)
    parameters, macs = sum(op.parameters for op in table), sum(op.macs for op in table)
    return next((level for level, most, heaviest in MODEL_LEVELS if parameters <= most and macs <= heaviest), "D")


def standing(config: Config) -> dict[str, Any]:
    """Both as fields of a manifest's entry."""
    return {"profiles": profiles(config), "level": model_level(config)}
