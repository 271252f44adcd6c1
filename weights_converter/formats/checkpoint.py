"""Trained weights as training code leaves them, read safely and without PyTorch.

Four forms are known by their first bytes: torch.save's zip and legacy files, safetensors, and this project's checkpoint
folders (``meta.json`` and float16 parts). All become one `Checkpoint` with one spelling of the names.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.errors import InvalidModel

from .folder import folder_files, read_folder
from .safetensors import read_safetensors
from .spelling import IGNORED, NAME, normalised_name, unwrapped
from .stored_tensors import MAX_LISTED, ByteSource, Contents, TensorView, load_float32, shortened
from .torch_zip import NETWORK, read_torch_legacy, read_torch_zip

MAX_CONFIG_ENTRIES = 64
"""Most entries of a configuration, and of a list in one."""


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one training, independent of the file they came from.

    Attributes
    ----------
    tensors : dict of str to np.ndarray
        float32, contiguous, finite; names without ``module.``, the bottleneck's spelled ``_matrix0``, ``_bias0``,
        ``_factor0``.
    config : dict or None
        The configuration stored with them, if any: plain numbers and lists of integers.
    source_sha256 : str
        SHA-256 of the file, or of meta.json followed by the parts.
    meta : dict
        Plain values stored with them, such as ``step`` or ``epoch``.
    ignored : tuple of str
        Tensors of the file that were left out: known buffers, and everything that is not floating point.
    form : str
        ``torch-zip``, ``torch-legacy``, ``safetensors`` or ``folder``.
    where : str
        Names the file in errors.
    taken : str
        Where the weights are in the file: keys joined by ``/``, and a prefix of names that was removed; may be empty.
    left : tuple of str
        Other networks in the file, and the count of tensors outside the prefix.
    """

    tensors: dict[str, np.ndarray]
    config: dict[str, Any] | None
    source_sha256: str
    meta: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    form: str = ""
    where: str = "checkpoint"
    taken: str = ""
    left: tuple[str, ...] = ()


def read_checkpoint(path: str | os.PathLike[str], key: str = "") -> Checkpoint:
    """Read a checkpoint of any known form; nothing in it is ever executed.

    Parameters
    ----------
    path : path
        A file of torch.save (zip or legacy), a safetensors file, or a checkpoint folder.
    key : str
        Which weights of several to take, such as averaged ones: keys of nested dictionaries joined by ``/``, or a
        prefix of names.

    Returns
    -------
    Checkpoint

    Raises
    ------
    MissingInput
        The path, or a folder's meta.json, does not exist or is not a regular file.
    InvalidModel
        The file is of no known form, damaged, hostile or beyond a limit; the place is named.
    TransferError
        Reading failed.
    """
    path = Path(path)
    if path.is_dir():
        with ByteSource(folder_files(path)) as source:
            return _load(source, replace(read_folder(source, path), prefix=key), str(path), "folder")
    with ByteSource([path]) as source:
        head = source.read(0, min(source.size, 512), str(path))
        if head.startswith(b"PK\3\4"):
            return _load(source, read_torch_zip(source, str(path), key), str(path), "torch-zip")
        if head[8:9] == b"{":
            return _load(source, replace(read_safetensors(source, str(path)), prefix=key), str(path), "safetensors")
        if head[:1] == b"\x80":
            return _load(source, read_torch_legacy(source, str(path), key), str(path), "torch-legacy")
    found, cause = _kind_of(head)
    raise InvalidModel(
        "not a checkpoint: neither torch.save nor safetensors",
        where=str(path),
        found=found,
        begins=head[:9].hex(),
        cause=cause,
    )


_UNPACK = "unpack it first"
_BEGINNINGS = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "fetch the file itself with git lfs pull"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "if it is a refcodec model, it is converted already"),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x93NUMPY", "a NumPy array", "a checkpoint has named tensors"),
    (b"GGUF", "a GGUF file", "give the checkpoint that it was made from"),
)


def _kind_of(head: bytes) -> tuple[str, str]:
    """Apparent kind of a file that is no checkpoint, by its first 512 bytes, with advice."""
    for beginning, kind, cause in _BEGINNINGS:
        if head.startswith(beginning):
            return kind, cause
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if not head:
        return "an empty file", "fetch it again"
    if head.lstrip()[:5].lower() in (b"<!doc", b"<html", b"<?xml"):
        return "a web page", "the download gave a page instead of the file; use the link of the raw file"
    if not any(byte < 9 or 13 < byte < 32 for byte in head):
        return "text", "give the file of weights"
    return "unknown bytes", "give a file of torch.save or safetensors, or a checkpoint folder"


def _load(source: ByteSource, contents: Contents, where: str, form: str) -> Checkpoint:
    """Give the tensors their names, leave out what is not needed, read the rest."""
    config = _plain_config(contents.config)
    if contents.config is not None and config is None and form == "folder":
        raise InvalidModel("configuration does not consist of plain numbers and lists", where=f"{where}, meta.json")
    kept: dict[str, TensorView] = {}
    ignored = []
    prefix = _prefix(contents, where)
    outside = 0
    for stored, view in contents.tensors.items():
        bare = unwrapped(stored)
        if not bare.startswith(prefix):
            outside += 1
            continue
        name = normalised_name(bare[len(prefix) :])
        if not NAME.fullmatch(name):
            raise InvalidModel("impossible tensor name", where=where, name=shortened(stored))
        if IGNORED.fullmatch(name) or not view.is_float:
            ignored.append(name)
        elif name in kept:
            raise InvalidModel(
                "two tensors of one name", where=where, name=name, cause="one parameter is stored in both spellings"
            )
        else:
            kept[name] = view
    tensors = {name: load_float32(source, view, f"{where}, tensor {name}") for name, view in kept.items()}
    left = (*map(shortened, contents.left[:MAX_LISTED]), *([f"{outside} tensors outside {prefix}*"] if outside else []))
    taken = " ".join(filter(None, (shortened(contents.taken), prefix and f"{prefix}*")))
    return Checkpoint(tensors, config, source.sha256(), contents.meta, tuple(ignored), form, where, taken, left)


def _prefix(contents: Contents, where: str) -> str:
    """Prefix of the names of the network: the prefix asked for, else the one before ``g_a``; often empty."""
    names = [unwrapped(stored) for stored in contents.tensors]
    if contents.prefix:
        prefix = unwrapped(contents.prefix.removesuffix(".") + ".")
        if not any(name.startswith(prefix) for name in names):
            raise InvalidModel(
                "no such key or prefix in the checkpoint",
                where=where,
                key=shortened(contents.prefix),
                names=[shortened(name) for name in names[:MAX_LISTED]],
            )
        return prefix
    prefixes = sorted({name[: name.index(NETWORK)] for name in names if f".{NETWORK}" in f".{name}"})
    if len(prefixes) > 1 and "" not in prefixes:
        raise InvalidModel(
            "several networks in one state dict",
            where=where,
            prefixes=[shortened(prefix) for prefix in prefixes[:MAX_LISTED]],
            cause="choose one with --key",
        )
    prefix = prefixes[0] if prefixes else ""
    if not re.fullmatch(r"[A-Za-z0-9_.]{0,200}", prefix):
        raise InvalidModel("impossible tensor name", where=where, name=shortened(prefix))
    return prefix


def _plain_config(value: Any) -> dict[str, Any] | None:
    """Take a configuration of plain values, tuples as lists; None if it is anything else."""

    def plain(entry: Any) -> bool:
        return type(entry) in (int, bool, str) or (type(entry) is float and math.isfinite(entry))

    if not isinstance(value, dict) or len(value) > MAX_CONFIG_ENTRIES:
        return None
    config = {}
    for key, entry in value.items():
        if isinstance(entry, list | tuple) and len(entry) <= MAX_CONFIG_ENTRIES and all(map(plain, entry)):
            config[key] = list(entry)
        elif type(key) is str and (entry is None or plain(entry)):
            config[key] = entry
        else:
            return None
    return config
