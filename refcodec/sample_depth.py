"""How many bits a sample of a picture file has: Pillow cuts deeper samples to eight bits without a word."""

from __future__ import annotations

import os
import struct
from typing import IO, Any

from .errors import Unsupported


def check_depth(image: Any, file: IO[bytes], where: str) -> None:
    """Refuse samples of more than eight bits a channel, and TIFF samples that are no colour.

    Parameters
    ----------
    image : PIL.Image.Image
        Opened, not yet loaded.
    file : binary file
        The seekable file it was opened from; its position is kept.
    where : str
        The place that errors name.

    Raises
    ------
    Unsupported
        The file holds more than eight bits a sample, or more channels than its mode.
    """
    position = file.tell()
    depths: list[int] = []
    if image.format == "PNG":
        file.seek(24)
        depths = list(file.read(1))
    elif image.format == "TIFF":
        depths = list(image.tag_v2.get(258, (1,)))
        if len(depths) > len(image.getbands()):
            raise Unsupported("samples that are not colours", where=where, channels=len(depths), mode=image.mode)
    elif image.format in ("JPEG2000", "AVIF"):
        depths = _boxed_depths(file)
    file.seek(position)
    if any(depth > 8 for depth in depths):
        raise Unsupported("samples have more than eight bits", where=where, bits=max(depths),
                          cause="reduce the picture to eight bits first")


def _boxed_depths(file: IO[bytes]) -> list[int]:
    """Bit depths in a JPEG 2000 codestream or in the AV1 configurations of an AVIF file."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    if file.read(2) == b"\xff\x4f":
        return _codestream_depths(file, 0)
    depths = []
    stack = [(0, size)]
    while stack:
        at, end = stack.pop()
        while at + 8 <= end:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            head = 8
            if length == 1:
                length, head = struct.unpack(">Q", file.read(8))[0], 16
            length = end - at if length == 0 else length
            if length < head:
                break  # damaged: Pillow's reader says how
            if kind in (b"meta", b"iprp", b"ipco"):
                stack.append((at + head + 4 * (kind == b"meta"), min(at + length, end)))
            elif kind == b"jp2c":
                depths += _codestream_depths(file, at + head)
            elif kind == b"av1C":
                file.seek(at + head + 2)
                depths.append(10 if file.read(1)[0] & 0x40 else 8)  # high_bitdepth: ten or twelve
            at += length
    return depths


def _codestream_depths(file: IO[bytes], start: int) -> list[int]:
    file.seek(start + 40)  # SOC, then SIZ: marker, length, capabilities, eight 32-bit sizes, and the component count
    count, = struct.unpack(">H", file.read(2))
    return [(precision & 0x7F) + 1 for precision in file.read(3 * count)[::3]]
