"""Trained weights as training code leaves them, read safely and without PyTorch.

Four forms are known by their first bytes: torch.save's zip and legacy files, safetensors, and this project's checkpoint
folders (``meta.json`` and float16 parts). All become one `Checkpoint` with one spelling of the names.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.errors import InvalidModel, MissingInput, OutputError, TransferError

from .pickles import printable
from .stored_tensors import (
    MAX_TENSORS,
    ByteSource,
    TensorView,
    contiguous_strides,
    is_shape,
    is_sizes,
    item_bytes,
    load_float32,
)
from .torch_zip import MAX_LISTED, NETWORK, Contents, read_torch_legacy, read_torch_zip

MAX_JSON_BYTES = 1 << 20
"""Longest meta.json or safetensors header: the largest configuration takes 0.2 MB, and a parsed byte costs up to 25."""

MAX_PARTS = 1 << 10
"""Most parts of a checkpoint folder: 15 GiB at the size in which they are written."""

MAX_CONFIG_ENTRIES = 64
"""Most entries of a configuration, and of a list in one."""

PART_BYTES = 15 << 20
"""Size in which parts are written, so that each can be carried through size-limited channels."""

SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}

IGNORED = re.compile(
    r".*\.i?gdn\.(beta|gamma)_reparam\.(pedestal|lower_bound\.bound)"
    r"|(entropy_bottleneck|gaussian_conditional)\.(_offset|_quantized_cdf|_cdf_length|likelihood_lower_bound\.bound)"
    r"|gaussian_conditional\.(scale_table|scale_bound|lower_bound_scale\.bound)"
    r"|entropy_bottleneck\.target"
    r"|local_context\.\d+\.relative_position_index"
)
"""Buffers that follow from the configuration or belong to other entropy coders."""

_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
_BOTTLENECK = re.compile(r"entropy_bottleneck\.(matrices|biases|factors)\.(\d)")
_SINGULAR = {"matrices": "matrix", "biases": "bias", "factors": "factor"}
_OLD_BOTTLENECK = re.compile(r"entropy_bottleneck\._(matrix|bias|factor)(\d)")
_PLURAL = {singular: plural for plural, singular in _SINGULAR.items()}
_PART = re.compile(r"weights\.part(0|[1-9]\d{0,5})")


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
        with ByteSource(_folder_files(path)) as source:
            return _load(source, replace(_read_folder(source, path), prefix=key), str(path), "folder")
    with ByteSource([path]) as source:
        head = source.read(0, min(source.size, 512), str(path))
        if head.startswith(b"PK\3\4"):
            return _load(source, read_torch_zip(source, str(path), key), str(path), "torch-zip")
        if head[8:9] == b"{":
            return _load(source, replace(_read_safetensors(source, str(path)), prefix=key), str(path), "safetensors")
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
    """What a file that is no checkpoint seems to be by its first 512 bytes, and what to do about it."""
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
        raise InvalidModel("configuration is not made of plain numbers and lists", where=f"{where}, meta.json")
    kept: dict[str, TensorView] = {}
    ignored = []
    prefix = _prefix(contents, where)
    outside = 0
    for stored, view in contents.tensors.items():
        bare = _unwrapped(stored)
        if not bare.startswith(prefix):
            outside += 1
            continue
        name = normalised_name(bare[len(prefix) :])
        if not _NAME.fullmatch(name):
            raise InvalidModel("impossible tensor name", where=where, name=printable(stored))
        if IGNORED.fullmatch(name) or not view.is_float:
            ignored.append(name)
        elif name in kept:
            raise InvalidModel(
                "two tensors of one name", where=where, name=name, cause="one parameter is stored in both spellings"
            )
        else:
            kept[name] = view
    tensors = {name: load_float32(source, view, f"{where}, tensor {name}") for name, view in kept.items()}
    left = (*map(printable, contents.left[:MAX_LISTED]), *([f"{outside} tensors outside {prefix}*"] if outside else []))
    taken = " ".join(filter(None, (printable(contents.taken), prefix and f"{prefix}*")))
    return Checkpoint(tensors, config, source.sha256(), contents.meta, tuple(ignored), form, where, taken, left)


def _prefix(contents: Contents, where: str) -> str:
    """What precedes the names of the network: the prefix asked for, else the one before ``g_a``; often empty."""
    names = [_unwrapped(stored) for stored in contents.tensors]
    if contents.prefix:
        prefix = _unwrapped(contents.prefix.removesuffix(".") + ".")
        if not any(name.startswith(prefix) for name in names):
            raise InvalidModel(
                "no such key or prefix in the checkpoint",
                where=where,
                key=printable(contents.prefix),
                names=[printable(name) for name in names[:MAX_LISTED]],
            )
        return prefix
    prefixes = sorted({name[: name.index(NETWORK)] for name in names if f".{NETWORK}" in f".{name}"})
    if len(prefixes) > 1 and "" not in prefixes:
        raise InvalidModel(
            "several networks in one state dict",
            where=where,
            prefixes=[printable(prefix) for prefix in prefixes[:MAX_LISTED]],
            cause="choose one with --key",
        )
    prefix = prefixes[0] if prefixes else ""
    if not re.fullmatch(r"[A-Za-z0-9_.]{0,200}", prefix):
        raise InvalidModel("impossible tensor name", where=where, name=printable(prefix))
    return prefix


def _unwrapped(name: str) -> str:
    """A name without the parts that DataParallel and torch.compile add, wherever they are."""
    return ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))


def normalised_name(name: str) -> str:
    """Spell a parameter's name in the one way: no part ``module`` or ``_orig_mod``, no ``model.`` in front, and the
    bottleneck's ``matrices.0`` written as ``_matrix0``.
    """
    name = _unwrapped(name)
    while name.startswith("model."):
        name = name.removeprefix("model.")
    match = _BOTTLENECK.fullmatch(name)
    return f"entropy_bottleneck._{_SINGULAR[match[1]]}{match[2]}" if match else name


def current_name(name: str) -> str:
    """The bottleneck's parameters as CompressAI 1.2.8 spells them: ``_matrix0`` written as ``matrices.0``."""
    match = _OLD_BOTTLENECK.fullmatch(name)
    return f"entropy_bottleneck.{_PLURAL[match[1]]}.{match[2]}" if match else name


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


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """Strict JSON: one object, no key twice, no NaN or infinity, nesting as deep as Python allows.

    Raises
    ------
    InvalidModel
        Anything else.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(result := dict(items)) != len(items):
            raise ValueError("a key appears twice")
        return result

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is not a number")

    def finite(word: str) -> float:
        return number if math.isfinite(number := float(word)) else refuse(word[:40])

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise InvalidModel("malformed JSON", where=where, reason=printable(str(error))) from error
    if not isinstance(value, dict):
        raise InvalidModel("JSON is not an object", where=where)
    return value


def _read_safetensors(source: ByteSource, where: str) -> Contents:
    """Describe a safetensors file: header length, JSON header, tensors that fill the rest without gaps."""
    where = f"{where}, header"
    (length,) = struct.unpack("<Q", source.read(0, 8, where))
    if length > MAX_JSON_BYTES or 8 + length > source.size:
        raise InvalidModel("safetensors header too long or truncated", where=where, bytes=length, limit=MAX_JSON_BYTES)
    header = parse_json(source.read(8, length, where), where)
    meta = header.pop("__metadata__", {})
    if not isinstance(meta, dict) or not all(type(value) is str for value in meta.values()):
        raise InvalidModel("safetensors metadata is not made of strings", where=where)
    if not 0 < len(header) <= MAX_TENSORS:
        raise InvalidModel("no tensors or too many", where=where, tensors=len(header), limit=MAX_TENSORS)
    tensors = {}
    places = []
    for name, entry in header.items():
        place = f"{where}, tensor {printable(name)}"
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise InvalidModel("malformed tensor entry", where=place)
        code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        dtype = SAFETENSORS_TYPES.get(code) if type(code) is str else None
        if dtype is None or not is_shape(shape) or not is_sizes(offsets) or len(offsets) != 2:
            raise InvalidModel(
                "unknown type, or impossible shape or offsets",
                where=place,
                dtype=printable(code) if type(code) is str else type(code).__name__,
            )
        begin, end = offsets
        if end - begin != math.prod(shape) * item_bytes(dtype):
            raise InvalidModel("offsets do not fit the shape", where=place, begin=begin, end=end, shape=shape)
        places.append((begin, end, place))
        tensors[name] = TensorView(dtype, tuple(shape), contiguous_strides(shape), 8 + length + begin)
    reached = 0
    for begin, end, place in sorted(places):
        if begin != reached:
            raise InvalidModel("gap or overlap before a tensor", where=place, begin=begin, expected=reached)
        reached = end
    if 8 + length + reached != source.size:
        raise InvalidModel("tensors do not fill the file", where=where, end=8 + length + reached, bytes=source.size)
    return Contents(tensors, meta)


# Checkpoint folders.


def _folder_files(folder: Path) -> list[Path]:
    """meta.json and the parts in order; numbers without gaps."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith("weights.part")]
    except OSError as error:
        raise TransferError("cannot list the folder", where=str(folder), reason=error.strerror) from error
    if not (folder / "meta.json").is_file():
        there = sorted(os.listdir(folder))[:MAX_LISTED]
        distributed = any(name.endswith(".distcp") for name in there)
        raise MissingInput(
            "checkpoint folder without meta.json",
            where=str(folder),
            found=[printable(name) for name in there],
            cause=(
                "join it first with torch.distributed.checkpoint.format_utils.dcp_to_torch_save"
                if distributed
                else "give one of the files in it, or a folder that this project wrote"
            ),
        )
    if strange := [name for name in names if not _PART.fullmatch(name)]:
        raise InvalidModel("part with an impossible number", where=str(folder), name=printable(strange[0]))
    numbers = sorted(int(name.removeprefix("weights.part")) for name in names)
    if not numbers or numbers != list(range(len(numbers))) or len(numbers) > MAX_PARTS:
        raise InvalidModel(
            "parts missing, or too many", where=str(folder), found=numbers[:MAX_CONFIG_ENTRIES], limit=MAX_PARTS
        )
    return [folder / "meta.json", *(folder / f"weights.part{number}" for number in numbers)]


def _read_folder(source: ByteSource, folder: Path) -> Contents:
    """Describe a checkpoint folder: float16 tensors in the order of meta.json, one after the other."""
    where = f"{folder}, meta.json"
    length = source.first_size
    if length > MAX_JSON_BYTES:
        raise InvalidModel("meta.json too long", where=where, bytes=length, limit=MAX_JSON_BYTES)
    meta = parse_json(source.read(0, length, where), where)
    listed, config = meta.pop("tensors", None), meta.pop("config", None)
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_TENSORS:
        raise InvalidModel("meta.json lists no tensors or too many", where=where, limit=MAX_TENSORS)
    tensors: dict[str, TensorView] = {}
    at = length
    for index, entry in enumerate(listed):
        if not isinstance(entry, list) or len(entry) != 2 or type(entry[0]) is not str or not is_shape(entry[1]):
            raise InvalidModel("malformed tensor entry", where=f"{where}, tensor {index}")
        name, shape = entry
        if name in tensors:
            raise InvalidModel("two tensors of one name", where=where, name=printable(name))
        tensors[name] = TensorView("float16", tuple(shape), contiguous_strides(shape), at)
        at += math.prod(shape) * item_bytes("float16")
    if at != source.size:
        raise InvalidModel(
            "parts do not hold exactly the listed numbers",
            where=str(folder),
            bytes=source.size - length,
            expected=at - length,
        )
    return Contents(tensors, meta, config)


def save_checkpoint_folder(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any], *, force: bool = False
) -> None:
    """Write a checkpoint folder: written beside the target and renamed, so a failed run leaves nothing behind.

    Parameters
    ----------
    path : path
        The folder to make.
    tensors : mapping of str to np.ndarray
        Floating point; stored as float16, rounded to nearest even.
    meta : mapping
        JSON values, by habit ``step`` and ``config``; ``tensors`` is filled in.
    force : bool
        Replace an existing checkpoint folder.

    Raises
    ------
    InvalidModel
        A tensor is not floating point, does not fit float16, or has an impossible name; meta is not JSON.
    OutputError
        The path exists and `force` is false, or holds other files than those of a checkpoint.
    TransferError
        Writing failed.
    """
    path = Path(path)
    if path.exists() and not (force and path.is_dir() and all(map(_is_ours, os.listdir(path)))):
        raise OutputError("exists", where=str(path), cause="only a folder with nothing but a checkpoint is replaced")
    listed = [[name, list(array.shape)] for name, array in tensors.items()]
    try:
        head = json.dumps({**meta, "tensors": listed}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidModel("meta is not JSON", where=str(path), reason=str(error)) from error
    blob = b"".join(_as_float16(name, array, path) for name, array in tensors.items())
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        beside.mkdir(parents=True)
        try:
            for part, at in enumerate(range(0, max(len(blob), 1), PART_BYTES)):
                (beside / f"weights.part{part}").write_bytes(blob[at : at + PART_BYTES])
            (beside / "meta.json").write_text(head, encoding="utf-8")
            if path.exists():
                _remove(path)
            beside.rename(path)
        finally:
            if beside.exists():
                _remove(beside)
    except OSError as error:
        raise TransferError("cannot write the checkpoint", where=str(path), reason=error.strerror) from error


def _as_float16(name: str, array: np.ndarray, path: Path) -> bytes:
    if not _NAME.fullmatch(name) or array.dtype.kind != "f":
        raise InvalidModel(
            "not a floating point tensor, or an impossible name",
            where=f"{path}, {printable(name)}",
            dtype=str(array.dtype),
        )
    with np.errstate(over="ignore"):  # overflow becomes infinity and is refused below
        half = array.astype("<f2")
    if not np.isfinite(half).all():
        raise InvalidModel("tensor does not fit float16", where=f"{path}, tensor {name}")
    return half.tobytes()


def _is_ours(name: str) -> bool:
    return name == "meta.json" or _PART.fullmatch(name) is not None


def _remove(folder: Path) -> None:
    """Remove a checkpoint folder and nothing else."""
    for name in os.listdir(folder):
        if _is_ours(name):
            (folder / name).unlink()
    folder.rmdir()
