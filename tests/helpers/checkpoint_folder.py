"""A writer of checkpoint folders: ``meta.json``, and the numbers in float16, in parts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def save_checkpoint_folder(
    folder: Path, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any], part_bytes: int = 15 << 20
) -> None:
    """Write floating point tensors in their order; ``meta`` are JSON values, ``tensors`` is filled in."""
    numbers = b"".join(array.astype("<f2").tobytes() for array in tensors.values())
    folder.mkdir()
    for part, at in enumerate(range(0, max(len(numbers), 1), part_bytes)):
        (folder / f"weights.part{part}").write_bytes(numbers[at : at + part_bytes])
    listed = [[name, list(array.shape)] for name, array in tensors.items()]
    (folder / "meta.json").write_text(json.dumps({**meta, "tensors": listed}), encoding="utf-8")
