"""Files written by torch.save, in the zip format of PyTorch 1.6 and later and in the older legacy format.

The zip format is a folder: ``data.pkl`` describes the objects, ``data/KEY`` holds one storage each. The legacy format
is a row of pickles (magic number, version, machine, objects, storage keys) followed by the storages. Zip files are read
here directly, by the narrow rules that torch.save follows: members are stored, never compressed, so nothing expands.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from refcodec.errors import InvalidModel

from .pickles import MAX_PICKLE_BYTES, RESAVE, Pickled, Storage, StoredTensor, printable, read_pickle
from .stored_tensors import MAX_REACH, MAX_TENSORS, ByteSource, TensorView, item_bytes, span

WRAPPERS = ("state_dict", "net", "model", "model_state_dict")
"""Keys under which training code puts the state dict."""

MAX_WRAPPERS = 4
"""Most dictionaries around a state dict."""

NETWORK = "g_a.analysis_transform."
"""A state dict of this family has names that hold this, perhaps after a prefix."""

MAX_LISTED = 8
"""Most names listed in a message."""

MAX_DIRECTORY_BYTES = 1 << 22
"""Longest zip directory: the largest training state takes 0.26 MB."""

MAX_MEMBERS = 1 << 14
"""Most zip members: the largest training state has 3,958."""

MAX_NAME_BYTES = 512
"""Longest zip member name: the stem of the file and a short path."""

_TORCHSCRIPT = "a TorchScript archive is no checkpoint; in PyTorch, save the state dict of the network instead"

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001


@dataclass(frozen=True)
class Contents:
    """What a checkpoint file describes, before any tensor is read.

    Attributes
    ----------
    tensors : dict of str to TensorView
        The state dict with the names of the file, in its order.
    meta : dict
        The plain values beside it.
    config : object
        Whatever stands under ``config`` beside it, else None.
    taken : str
        Keys that lead to the state dict, joined by ``/``; empty if it is the whole file.
    left : tuple of str
        The same for the other state dicts of this family in the file.
    prefix : str
        The prefix of names that the caller asked for, if no key has that name.
    """

    tensors: dict[str, TensorView]
    meta: dict[str, Any]
    config: Any = None
    taken: str = ""
    left: tuple[str, ...] = ()
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """One stored zip member: its data's place in the file and its CRC-32."""

    start: int
    size: int
    crc: int


def read_torch_zip(source: ByteSource, where: str, key: str = "") -> Contents:
    """Describe a zip checkpoint; the members of its state dict are checked against their CRC-32.

    Parameters
    ----------
    source : ByteSource
    where : str
        Names the file in errors.
    key : str
        Keys that lead to the state dict, joined by ``/``; empty takes it from one of ``WRAPPERS``.

    Raises
    ------
    InvalidModel
        A malformed directory, an impossible pickle, or storages that do not fit their members.
    """
    members = _members(source, where)
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InvalidModel(
            "zip file is not a checkpoint: it needs one data.pkl",
            where=where,
            found=len(pickles),
            members=[printable(name) for name in list(members)[:MAX_LISTED]],
            cause="a NumPy archive holds no state dict"
            if any(name.endswith(".npy") for name in members)
            else "if a checkpoint was zipped again, unpack it first",
        )
    root = pickles[0].removesuffix("data.pkl")
    if root + "constants.pkl" in members:
        raise InvalidModel("a TorchScript archive, not a checkpoint", where=where, cause=_TORCHSCRIPT)
    order = members.get(root + "byteorder")
    if order is not None and (order.size > 16 or source.read(order.start, order.size, where) != b"little"):
        raise InvalidModel("checkpoint is not little-endian", where=f"{where}, member {root}byteorder")
    name = f"{where}, member {printable(pickles[0])}"
    member = members[pickles[0]]
    if member.size > MAX_PICKLE_BYTES:
        raise InvalidModel("pickle too long", where=name, bytes=member.size, limit=MAX_PICKLE_BYTES)
    _check_crc(source, member, name)
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
                where=f"{where}, member {printable(path)}",
                elements=storage.count,
                type=storage.dtype,
                bytes=found.size if found else "missing",
            )
        starts[storage.key] = found.start
    state, contents = _contents(pickled, starts, where, key)
    for key in sorted({tensor.storage.key for tensor in state.values()}):
        _check_crc(source, members[f"{root}data/{key}"], f"{where}, member {printable(root)}data/{key}")
    return contents


def read_torch_legacy(source: ByteSource, where: str, key: str = "") -> Contents:
    """Describe a checkpoint in the format of PyTorch before 1.6; parameters as of `read_torch_zip`.

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
                **({"key": printable(key)} if asked else {}),
                cause=RESAVE,
            )
        if len(taken) < len(asked):
            inner = [asked[len(taken)]]
            if inner[0] not in node:
                raise InvalidModel(
                    "no such key in the checkpoint", where=where, key=printable(key), networks=_listed(networks)
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
    return [printable(str(name)) for name in islice(names, MAX_LISTED)]


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
            name=printable(str(name)),
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
                name=printable(str(name)),
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


# The zip container.


def _members(source: ByteSource, where: str) -> dict[str, Member]:
    """Every member of the archive by name.

    Only what torch.save writes is taken: one disk, no comment, members stored without compression or encryption, each
    inside the file and apart from the others. Sizes and places below 2^32 - 1 stand in the plain records even where
    zip64 records repeat them, and `MAX_CHECKPOINT_BYTES` admits no larger ones.
    """
    ending = source.read(source.size - 22, 22, f"{where}, end of directory")
    magic, disk, first, here, count, size, start, comment = struct.unpack("<4s4H2IH", ending)
    if magic != b"PK\5\6" or disk or first or here != count or comment:
        raise InvalidModel("no zip directory at the end of the file", where=where, cause="the checkpoint is truncated")
    if count > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES or start + size > source.size - 22:
        raise InvalidModel(
            "zip directory too large or outside the file", where=where, members=count, bytes=size, start=start
        )
    directory = source.read(start, size, f"{where}, zip directory")
    members: dict[str, Member] = {}
    spans = [(start, start)]  # nothing may reach the directory
    at = 0
    for _ in range(count):
        place = f"{where}, zip directory at byte {start + at}"
        if len(directory) - at < 46 or directory[at : at + 4] != b"PK\1\2":
            raise InvalidModel("zip directory truncated or damaged", where=place)
        flags, method, _, _, crc, packed, unpacked, named, extra, remark, disk, _, _, header = struct.unpack_from(
            "<6H3I5H2I", directory, at + 4
        )[2:]
        raw = directory[at + 46 : at + 46 + named]
        at += 46 + named + extra + remark
        name = _member_name(raw, named, place)
        if name in members:
            raise InvalidModel("two zip members of one name", where=place, name=printable(name))
        place = f"{where}, member {printable(name)}"
        if flags & 0x2041 or method != 0 or packed != unpacked or disk:
            raise InvalidModel(
                "zip member compressed or encrypted",
                where=place,
                method=method,
                flags=flags,
                packed=packed,
                unpacked=unpacked,
                cause=_TORCHSCRIPT
                if "/code/" in name
                else "torch.save stores members as they are; if it was zipped again, unpack it first",
            )
        data = _data_start(source, header, raw, place)
        if data + unpacked > start:
            raise InvalidModel("zip member reaches outside the file", where=place, start=data, bytes=unpacked)
        members[name] = Member(data, unpacked, crc)
        spans.append((header, data + unpacked))
    if at != size:
        raise InvalidModel("zip directory has bytes left over", where=where, used=at, bytes=size)
    spans.sort()
    if any(end > following for (_, end), (following, _) in pairwise(spans)):
        raise InvalidModel("zip members overlap", where=where)
    return members


def _member_name(raw: bytes, length: int, place: str) -> str:
    if len(raw) != length or not 0 < length <= MAX_NAME_BYTES:
        raise InvalidModel("zip member name empty, truncated or too long", where=place, bytes=length)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidModel("zip member name is not UTF-8", where=place) from error


def _data_start(source: ByteSource, header: int, name: bytes, place: str) -> int:
    """First data byte of a member: behind its own header, which must repeat the name."""
    local = source.read(header, 30 + len(name), place)
    named, extra = map(int, struct.unpack_from("<2H", local, 26))
    if local[:4] != b"PK\3\4" or local[30:] != name or named != len(name):
        raise InvalidModel("zip member's own header differs from the directory", where=place, start=header)
    return header + 30 + named + extra


def _check_crc(source: ByteSource, member: Member, place: str) -> None:
    crc = 0
    for piece in source.chunks(member.start, member.size, place):
        crc = zlib.crc32(piece, crc)
    if crc != member.crc:
        raise InvalidModel(
            "zip member does not match its CRC-32",
            where=place,
            crc=f"{crc:08x}",
            stored=f"{member.crc:08x}",
            cause="the checkpoint is damaged",
        )
