"""One spelling for the names of tensors, which training code and releases of CompressAI write in several ways."""

from __future__ import annotations

import re

IGNORED = re.compile(
    r".*\.i?gdn\.(beta|gamma)_reparam\.(pedestal|lower_bound\.bound)"
    r"|(entropy_bottleneck|gaussian_conditional)\.(_offset|_quantized_cdf|_cdf_length|likelihood_lower_bound\.bound)"
    r"|gaussian_conditional\.(scale_table|scale_bound|lower_bound_scale\.bound)"
    r"|entropy_bottleneck\.target"
    r"|local_context\.\d+\.relative_position_index"
)
"""Buffers that follow from the configuration or belong to other entropy coders."""

NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
"""Possible names of a tensor."""

_BOTTLENECK = re.compile(r"entropy_bottleneck\.(matrices|biases|factors)\.(\d)")
_SINGULAR = {"matrices": "matrix", "biases": "bias", "factors": "factor"}
_OLD_BOTTLENECK = re.compile(r"entropy_bottleneck\._(matrix|bias|factor)(\d)")
_PLURAL = {singular: plural for plural, singular in _SINGULAR.items()}


def unwrapped(name: str) -> str:
    """A name without the parts that DataParallel and torch.compile add, wherever they are."""
    return ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))


def normalised_name(name: str) -> str:
    """Spell a parameter's name in the one way: no part ``module`` or ``_orig_mod``, no ``model.`` in front, and the
    bottleneck's ``matrices.0`` written as ``_matrix0``.
    """
    name = unwrapped(name)
    while name.startswith("model."):
        name = name.removeprefix("model.")
    match = _BOTTLENECK.fullmatch(name)
    return f"entropy_bottleneck._{_SINGULAR[match[1]]}{match[2]}" if match else name


def current_name(name: str) -> str:
    """The bottleneck's parameters as CompressAI 1.2.8 spells them: ``_matrix0`` written as ``matrices.0``."""
    match = _OLD_BOTTLENECK.fullmatch(name)
    return f"entropy_bottleneck.{_PLURAL[match[1]]}.{match[2]}" if match else name
