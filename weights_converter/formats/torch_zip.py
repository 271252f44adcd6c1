"""Files written by torch.save, in the zip format of PyTorch 1.6 and later and in the older legacy format.

The zip format is a folder: ``data.pkl`` describes the objects, ``data/KEY`` holds one storage each. The legacy format
is a row of pickles (magic number, version, machine, objects, storage keys) followed by the storages.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from refcodec.errors import InvalidModel

from .pickled import RESAVE, Pickled, Storage, StoredTensor
from .pickles import MAX_PICKLE_BYTES, read_pickle
from .stored_tensors import (
    MAX_LISTED,
    MAX_REACH,
    MAX_TENSORS,
    ByteSource,
    Contents,
    TensorView,
    item_bytes,
    shortened,
    span,
)
from .zip_members import TORCHSCRIPT, check_crc, members_of

WRAPPERS = ("state_dict", "net", "model", "model_state_dict")
"""Keys under which training code puts the state dict."""

MAX_WRAPPERS = 4
"""Most dictionaries around a state dict."""

NETWORK = "g_a.analysis_transform."
"""A state dict of this family has names that hold this, perhaps after a prefix."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001


def read_torch_zip(source: ByteSource, where: str, key: str = "") -> Contents:
    """Describe a zip checkpoint; the members of its state dict are checked against their CRC-32.

    Parameters
    ----------
    source : ByteSource
    where : str
        Names the file in errors.
    key : str
        Keys that lead to the state dict, joined by ``/``; empty takes it from one of ``WRAPPERS``.

    Returns
    -------
    Contents

    Raises
    ------
    InvalidModel
        A malformed directory, an impossible pickle, or storages that do not fit their members.
    """
    members = members_of(source, where)
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InvalidModel(
            "zip file is not a checkpoint: it needs one data.pkl",
            where=where,
            found=len(pickles),
            members=[shortened(name) for name in list(members)[:MAX_LISTED]],
            cause="a NumPy archive holds no state dict"
            if any(name.endswith(".npy") for name in members)
            else "if a checkpoint was zipped again, unpack it first",
        )
    root = pickles[0].removesuffix("data.pkl")
    if root + "constants.pkl" in members:
        raise InvalidModel("a TorchScript archive, not a checkpoint", where=where, cause=TORCHSCRIPT)
    order = members.get(root + "byteorder")
    if order is not None and (order.size > 16 or source.read(order.start, order.size, where) != b"little"):
        raise InvalidModel("checkpoint is not little-endian", where=f"{where}, member {root}byteorder")
    name = f"{where}, member {shortened(pickles[0])}"
    member = members[pickles[0]]
    if member.size > MAX_PICKLE_BYTES:
        raise InvalidModel("pickle too long", where=name, bytes=member.size, limit=MAX_PICKLE_BYTES)
    check_crc(source, member, name)
    pickled = read_pickle(source.read(member.start, member.size, name), name)
    if pickled.end != member.size:
        raise InvalidModel("bytes follow the pickle", where=name, end=pickled.end, bytes=member.size)

    starts = {}
    for storage in pickled.storages.values():
        path = f"{root}data/{storage.key}"
        found = members.get(path)
        if found is None or found.size != storage.count * item_bytes(storage.dtype):
            raise InvalidModel(
                "storage does not fit its zip member",
                where=f"{where}, member {shortened(path)}",
                elements=storage.count,
                type=storage.dtype,
                bytes=found.size if found else "missing",
            )
        starts[storage.key] = found.start
    state, contents = _contents(pickled, starts, where, key)
    for key in sorted({tensor.storage.key for tensor in state.values()}):
        check_crc(source, members[f"{root}data/{key}"], f"{where}, member {shortened(root)}data/{key}")
    return contents


def read_torch_legacy(source: ByteSource, where: str, key: str = "") -> Contents:
    """Describe a checkpoint in the format of PyTorch before 1.6; arguments and result are those of `read_torch_zip`.

    Raises
    ------
    InvalidModel
        A wrong magic number or version, an impossible pickle, or storages that do not fill the rest of the file.
    """
    head = source.read(0, min(source.size, MAX_PICKLE_BYTES), where)
    end = 0

    def value(part: str) -> Any:
        nonlocal end
        result = read_pickle(head, f"{where}, {part}", end)
        end = result.end
        return result.value

    magic, version, machine = value("magic number"), value("version"), value("machine description")
    if type(magic) is not int or magic != LEGACY_MAGIC or type(version) is not int or version != LEGACY_VERSION:
        raise InvalidModel("not a checkpoint of torch.save: wrong magic number or version", where=where)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise InvalidModel("checkpoint is not little-endian", where=f"{where}, machine description")
    pickled = read_pickle(head, f"{where}, objects", end)
    end = pickled.end
    keys = value("storage keys")
    if (
        not isinstance(keys, list)
        or not all(type(key) is str for key in keys)
        or Counter(keys) != Counter(list(pickled.storages))
    ):
        raise InvalidModel("storage keys are not those of the objects", where=f"{where}, storage keys")

    starts = {}
    for stored in keys:
        storage = pickled.storages[stored]
        place = f"{where}, storage {stored} at byte {end}"
        (count,) = struct.unpack("<q", source.read(end, 8, place))
        if count != storage.count:
            raise InvalidModel(
                "storage does not have its described size", where=place, elements=count, described=storage.count
            )
        starts[stored] = end + 8
        end += 8 + count * item_bytes(storage.dtype)
        if end > source.size:
            raise InvalidModel("storage truncated", where=place, end=end, bytes=source.size)
    if end != source.size:
        raise InvalidModel("bytes follow the last storage", where=where, end=end, bytes=source.size)
    return _contents(pickled, starts, where, key)[1]


def _contents(
    pickled: Pickled, starts: Mapping[str, int], where: str, key: str
) -> tuple[dict[str, StoredTensor], Contents]:
    """Find the state dict inside the pickled object; also return it with its places in the file."""
    node, config = pickled.value, None
    meta: dict[str, Any] = {}
    networks = _networks(node)
    asked = key.split("/") if isinstance(node, dict) and key.split("/")[0] in node else []
    taken: list[str] = []
    for _ in range(MAX_WRAPPERS + len(asked)):
        if not isinstance(node, dict):
            raise InvalidModel(
                "checkpoint is not a dictionary",
                where=where,
                type=type(node).__name__,
                **({"key": shortened(key)} if asked else {}),
                cause=RESAVE,
            )
        if len(taken) < len(asked):
            inner = [asked[len(taken)]]
            if inner[0] not in node:
                raise InvalidModel(
                    "no such key in the checkpoint", where=where, key=shortened(key), networks=_listed(networks)
                )
        else:
            inner = [name for name in WRAPPERS if _may_be_state_dict(node.get(name))]
        if len(inner) > 1:
            raise InvalidModel(
                "several state dicts in one checkpoint", where=where, keys=inner, cause="choose one with --key"
            )
        if not inner:
            break
        meta.update((name, value) for name, value in node.items() if type(name) is str and _is_plain(value))
        config = node.get("config", config)
        node = node[inner[0]]
        taken.append(inner[0])
    state = _state_dict(node, where, networks)
    views = {
        name: TensorView(
            tensor.storage.dtype,
            tensor.shape,
            tensor.strides,
            starts[tensor.storage.key] + tensor.offset * item_bytes(tensor.storage.dtype),
        )
        for name, tensor in state.items()
    }
    left = tuple(path for path, found in networks.items() if found is not node)
    return state, Contents(views, meta, config, "/".join(taken), left, "" if asked else key)


def _networks(value: Any) -> dict[str, dict[Any, Any]]:
    """Every dictionary of tensors of this family in a pickled object, by the keys that lead to it; each once."""
    found: dict[str, dict[Any, Any]] = {}
    seen: set[int] = set()
    level = [("", value)]
    for _ in range(MAX_WRAPPERS + 1):
        following: list[tuple[str, Any]] = []
        for path, node in level:
            if not isinstance(node, dict) or id(node) in seen:
                continue
            seen.add(id(node))
            if any(
                type(name) is str and NETWORK in name and isinstance(entry, StoredTensor)
                for name, entry in node.items()
            ):
                found[path] = node
            following += [(f"{path}/{name}".lstrip("/"), entry) for name, entry in node.items() if type(name) is str]
        level = following
    return found


def _listed(names: Iterable[Any]) -> list[str]:
    """The first names, fit for a message."""
    return [shortened(str(name)) for name in islice(names, MAX_LISTED)]


def _may_be_state_dict(node: Any) -> bool:
    return isinstance(node, dict) and any(
        isinstance(value, StoredTensor) or (key in WRAPPERS and isinstance(value, dict)) for key, value in node.items()
    )


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (bool, int, str) or (type(value) is float and abs(value) < float("inf"))


def _state_dict(node: Any, where: str, networks: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """Check that a dictionary maps names to tensors which together show no stored element twice.

    The last rule keeps the memory taken within the size of the file; no network of this family shares weights.
    """
    if not isinstance(node, dict):
        raise InvalidModel(
            "the key holds no state dict", where=where, type=type(node).__name__, networks=_listed(networks)
        )
    if not 0 < len(node) <= MAX_TENSORS:
        raise InvalidModel("state dict is empty or too large", where=where, tensors=len(node), limit=MAX_TENSORS)
    if not any(isinstance(tensor, StoredTensor) for tensor in node.values()):
        name, entry = next(iter(node.items()))
        cause = (
            "choose the weights with --key"
            if networks
            else f"weights are looked for under {', '.join(WRAPPERS)}, else under --key"
        )
        raise InvalidModel(
            "no state dict: an entry is not a named tensor",
            where=where,
            name=shortened(str(name)),
            type=type(entry).__name__,
            keys=_listed(node),
            networks=_listed(networks),
            cause=cause,
        )
    shown: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    storages: dict[str, Storage] = {}
    for name, tensor in node.items():
        if type(name) is not str or not isinstance(tensor, StoredTensor):
            raise InvalidModel(
                "entry of the state dict is not a named tensor",
                where=where,
                name=shortened(str(name)),
                type=type(tensor).__name__,
            )
        storages[tensor.storage.key] = tensor.storage
        shown[tensor.storage.key] += math.prod(tensor.shape)
        reached[tensor.storage.key] += span(tensor.shape, tensor.strides)
    for key, count in shown.items():
        if count > storages[key].count:
            raise InvalidModel(
                "tensors share one storage and show its elements repeatedly",
                where=where,
                storage=key,
                shown=count,
                stored=storages[key].count,
            )
        if reached[key] > MAX_REACH * storages[key].count:
            raise InvalidModel(
                "strided tensors reach over one storage too often",
                where=where,
                storage=key,
                reached=reached[key],
                stored=storages[key].count,
                limit=MAX_REACH,
                cause=RESAVE,
            )
    return node
