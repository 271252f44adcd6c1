"""Zip archives by the rules that torch.save follows: members are stored, never compressed, so nothing expands."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise

from refcodec.errors import InvalidModel

from .stored_tensors import ByteSource, shortened

MAX_DIRECTORY_BYTES = 1 << 22
"""Longest zip directory: the largest training state takes 0.26 MB."""

MAX_MEMBERS = 1 << 14
"""Most zip members: the largest training state has 3,958."""

MAX_NAME_BYTES = 512
"""Longest zip member name: the stem of the file and a short path."""

TORCHSCRIPT = "a TorchScript archive is no checkpoint; in PyTorch, save the state dict of the network instead"


@dataclass(frozen=True, slots=True)
class Member:
    """One stored zip member: its data's place in the file and its CRC-32."""

    start: int
    size: int
    crc: int


def members_of(source: ByteSource, where: str) -> dict[str, Member]:
    """Every member of the archive by name.

    Only what torch.save writes is taken: one disk, no comment, members stored without compression or encryption, each
    inside the file and apart from the others. Sizes and places below 2^32 - 1 are in the plain records even where
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
            raise InvalidModel("two zip members of one name", where=place, name=shortened(name))
        place = f"{where}, member {shortened(name)}"
        if flags & 0x2041 or method != 0 or packed != unpacked or disk:
            raise InvalidModel(
                "zip member compressed or encrypted",
                where=place,
                method=method,
                flags=flags,
                packed=packed,
                unpacked=unpacked,
                cause=TORCHSCRIPT
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


def check_crc(source: ByteSource, member: Member, place: str) -> None:
    """Compare the bytes of a member with its CRC-32.

    Parameters
    ----------
    source : ByteSource
    member : Member
        Its place in the source, and the stored CRC-32.
    place : str
        Names it in errors.

    Raises
    ------
    InvalidModel
    """
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
