"""Directories of TIFF files and of EXIF blocks, read and written entry by entry.

Values are copied as bytes, so nothing of a camera's text or numbers changes on the way.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass, field
from typing import IO, Union

import numpy as np

from ..errors import LimitExceeded, Unsupported
from ..limits import MAX_METADATA_BYTES

Entry = tuple[int, int, bytes]
"""Type, count and the bytes of the value."""
Directory = dict[int, Union[Entry, "Directory"]]
"""Entries by tag; a directory below this one is an entry, too."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_BELOW = (34665, 34853, 40965)
"""Tags that point to a directory: EXIF, GPS, interoperability."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

ORIENTATION, X_RESOLUTION, XMP, ICC_PROFILE, SUB_DIRECTORIES, EXTRA_SAMPLES = 274, 282, 700, 34675, 330, 338

DESCRIPTION = {
    270,
    271,
    272,
    282,
    283,
    296,
    301,
    305,
    306,
    315,
    316,
    318,
    319,
    18246,
    18249,
    33432,
    34665,
    34853,
    *range(40091, 40096),
    *range(42080, 42120),
}
"""Tags of a TIFF that EXIF has, too, and that say something of the picture rather than of its storage."""
_STORAGE = {
    254,
    255,
    256,
    257,
    258,
    259,
    262,
    263,
    264,
    265,
    266,
    ORIENTATION,
    273,
    277,
    278,
    279,
    280,
    281,
    284,
    288,
    289,
    290,
    291,
    292,
    293,
    297,
    317,
    320,
    322,
    323,
    324,
    325,
    EXTRA_SAMPLES,
    339,
    340,
    341,
    347,
    512,
    513,
    514,
    515,
    517,
    518,
    519,
    520,
    521,
    529,
    530,
    531,
    532,
    XMP,
    ICC_PROFILE,
    SUB_DIRECTORIES,
}
"""Tags that describe how samples are stored, or that are looked at elsewhere."""

MAX_PAGES = 64
"""Largest number of directories that are looked at. Overviews halve the picture, so twenty are plenty."""


MAX_ENTRIES = 1 << 16
"""Largest number of entries that are looked at in all directories of a file. Real files have fewer than 1000."""

MAX_SHARING = 4
"""Largest sum of the lengths of values, in lengths of the file. Some writers let equal values share their bytes."""


class Damaged(ValueError):
    """A directory that cannot be read."""


@dataclass
class TiffFacts:
    """Contents of a TIFF file apart from the samples of its first directory.

    Attributes
    ----------
    exif : bytes or None
        The descriptive tags as an EXIF block; its orientation is 1.
    lost : list of str
        What the block does not hold.
    reduced, masks, pages : int
        Further directories: smaller versions of the picture, transparency masks, and other pictures.
    preview : bool
        The first directory itself is a smaller version of a picture that is stored elsewhere in the file.
    compression : int
        Of the first directory; 0 where it says none.
    multiplied : bool
        Colours of the first directory are multiplied by alpha.
    """

    exif: bytes | None = None
    lost: list[str] = field(default_factory=list)
    reduced: int = 0
    masks: int = 0
    pages: int = 0
    preview: bool = False
    compression: int = 0
    multiplied: bool = False


class Reader:
    """Reads the directories of a seekable file.

    Parameters
    ----------
    file : binary file
        Starts with a TIFF header.

    Raises
    ------
    Damaged
        There is no TIFF header.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        self.values = 0
        self.entries = MAX_ENTRIES
        file.seek(0)
        head = file.read(16)
        self.order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        if not self.order or len(head) < 8:
            raise Damaged("no TIFF header")
        self.big = head[2:4] in (b"+\0", b"\0+")
        self.first = self._number("Q", head[8:16]) if self.big else self._number("I", head[4:8])

    def _number(self, form: str, data: bytes) -> int:
        try:
            return int(struct.unpack(self.order + form, data)[0])
        except struct.error as error:
            raise Damaged("the file ends early") from error

    def raw(self, at: int) -> tuple[dict[int, tuple[int, int, bytes]], int]:
        """Entries of a directory as (type, count, value or offset), and the place of the next directory."""
        if at >= self.size:
            raise Damaged("a directory lies beyond the end")
        self.file.seek(at)
        count = self._number("Q", self.file.read(8)) if self.big else self._number("H", self.file.read(2))
        length, form = (20, "HHQ8s") if self.big else (12, "HHI4s")
        if count > 65535 or count * length > self.size:
            raise Damaged("a directory is longer than the file")
        self.entries -= count
        if self.entries < 0:
            raise LimitExceeded("the file has too many entries in its directories", allowed=MAX_ENTRIES)
        data = self.file.read(count * length)
        if len(data) < count * length:
            raise Damaged("the file ends early")
        entries = {tag: (kind, n, value) for tag, kind, n, value in struct.iter_unpack(self.order + form, data)}
        following = self.file.read(8 if self.big else 4)
        return entries, self._number("Q" if self.big else "I", following) if any(following) else 0

    def value(self, entry: tuple[int, int, bytes]) -> bytes:
        """The bytes of a value, wherever it is stored."""
        kind, count, inside = entry
        size = _SIZES.get(kind, 0) * count
        if not size:
            raise Damaged("a value of unknown type")
        if size <= len(inside):
            return inside[:size]
        self.values += size
        if self.values > MAX_SHARING * self.size:
            raise Damaged("values lie on one another")
        if self.values > MAX_METADATA_BYTES:
            raise LimitExceeded("the metadata is too long", kind="exif", allowed=MAX_METADATA_BYTES)
        self.file.seek(self._number("Q" if self.big else "I", inside))
        data = self.file.read(size)
        if len(data) < size:
            raise Damaged("the file ends early")
        return data

    def integer(self, entry: tuple[int, int, bytes] | None) -> int:
        """The first number of an integer entry, 0 where it is absent or of another type."""
        form = _INTEGERS.get(entry[0]) if entry else None
        return self._number(form, self.value(entry)[: struct.calcsize("=" + form)]) if entry and form else 0

    def directory(
        self,
        entries: dict[int, tuple[int, int, bytes]],
        tags: set[int] | None = None,
        depth: int = 0,
    ) -> tuple[Directory, list[int]]:
        """Read the values of tags, directories below them included.

        Parameters
        ----------
        entries : dict
            By tag: type, count, and the four bytes of the value or of its offset.
        tags : set of int or None
            The tags to read, None for all.
        depth : int
            Directories above this one; from 2 on, directories below are not read.

        Returns
        -------
        Directory
            Values by tag.
        list of int
            Tags that cannot be read, in ascending order in each directory.
        """
        found: Directory = {}
        lost = []
        for tag in sorted(entries if tags is None else tags & entries.keys()):
            try:
                if tag in _BELOW:
                    if depth > 1:
                        raise Damaged("directories in a circle")
                    below, unread = self.directory(self.raw(self.integer(entries[tag]))[0], depth=depth + 1)
                    found[tag] = below
                    lost += unread
                else:
                    kind, count, _ = entries[tag]
                    if kind > 13:
                        raise Damaged("EXIF has no numbers of eight bytes")
                    found[tag] = (kind, count, self.value(entries[tag]))
            except Damaged:
                lost.append(tag)
        return found, lost


def packed(directory: Directory, order: str, start: int) -> bytes:
    """Serialise a directory and everything below it.

    Parameters
    ----------
    directory : Directory
    order : "<" or ">"
        Byte order, as in `struct`.
    start : int
        Offset of the result in its block.

    Returns
    -------
    bytes
    """
    at = start + 2 + 12 * len(directory) + 4
    table, body = bytearray(struct.pack(order + "H", len(directory))), bytearray()
    for tag, value in sorted(directory.items(), key=lambda item: item[0]):
        body += bytes(len(body) % 2)
        if isinstance(value, dict):
            kind, count, inside = 4, 1, struct.pack(order + "I", at + len(body))
            body += packed(value, order, at + len(body))
        else:
            kind, count, inside = value
            if len(inside) > 4:
                stored, inside = inside, struct.pack(order + "I", at + len(body))
                body += stored
        table += struct.pack(order + "HHI4s", tag, kind, count, inside)
    return bytes(table + bytes(4) + body)


def tiff_facts(file: IO[bytes], page: int | None = None) -> TiffFacts | None:
    """Look at the directories of a TIFF file.

    Parameters
    ----------
    file : binary file
    page : int or None
        The directory that is meant, from 0; the others are then not looked at. None means the first, and looks at them.

    Returns
    -------
    TiffFacts or None
        None if there is no such page.

    Raises
    ------
    Damaged
        The first directory cannot be read.
    LimitExceeded
        The descriptive tags exceed MAX_METADATA_BYTES, or the directories MAX_PAGES or MAX_ENTRIES.
    """
    reader = Reader(file)
    entries, following = reader.raw(reader.first)
    for _ in range(page or 0):
        if not following:
            return None
        entries, following = reader.raw(following)
    facts = TiffFacts(
        compression=reader.integer(entries.get(259)), multiplied=reader.integer(entries.get(EXTRA_SAMPLES)) == 1
    )
    if page is None:
        _count_pages(reader, following, facts)
    facts.preview = (
        page is None and bool(reader.integer(entries.get(254)) & 1) and (SUB_DIRECTORIES in entries or facts.pages > 0)
    )
    found, unread = reader.directory(entries, DESCRIPTION)
    if found:
        found[ORIENTATION] = (3, 1, struct.pack(reader.order + "H", 1))
        facts.exif = struct.pack(reader.order + "2sHI", b"II" if reader.order == "<" else b"MM", 42, 8) + packed(
            found, reader.order, 8
        )
    lost = {*unread, *(entries.keys() - DESCRIPTION - _STORAGE)}
    if lost:
        more = " and others" if len(lost) > 12 else ""
        facts.lost.append("TIFF tags " + ", ".join(map(str, sorted(lost)[:12])) + more)
    if SUB_DIRECTORIES in entries:
        facts.lost.append("the pictures in directories below the first")
    return facts


def _count_pages(reader: Reader, at: int, facts: TiffFacts) -> None:
    """Count further directories up to the first that is another picture: one is enough to refuse the file."""
    seen = {reader.first}
    while at and at not in seen and not facts.pages:
        seen.add(at)
        try:
            entries, at = reader.raw(at)
        except Damaged:
            facts.lost.append("a damaged directory")
            return
        kind, old = reader.integer(entries.get(254)), reader.integer(entries.get(255))
        if kind & 4:
            facts.masks += 1
        elif kind & 1 or old == 2:
            facts.reduced += 1
        else:
            facts.pages += 1
        if len(seen) > MAX_PAGES:
            raise LimitExceeded("the file has too many directories", allowed=MAX_PAGES)


def exif_facts(exif: bytes) -> tuple[int, bool]:
    """Orientation of an EXIF block (1 where it says none), and whether it states a resolution."""
    try:
        reader = Reader(io.BytesIO(exif))
        entries, _ = reader.raw(reader.first)
        return reader.integer(entries.get(ORIENTATION)) or 1, X_RESOLUTION in entries
    except (Damaged, LimitExceeded):  # a stream may carry any block
        return 1, False


def tiff_file(
    samples: np.ndarray, exif: bytes | None, icc_profile: bytes | None, xmp: bytes | None, where: str = ""
) -> tuple[bytes, list[str]]:
    """Write a TIFF file without compression, in one strip.

    Parameters
    ----------
    samples : np.ndarray [H, W] or [H, W, C], uint8
        C is 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).
    exif, icc_profile, xmp : bytes or None
        Metadata. The orientation and the descriptive tags of EXIF become tags of the file.
    where : str
        The place that errors name.

    Returns
    -------
    data : bytes
    lost : list of str
        What of the EXIF block is left out.

    Raises
    ------
    Unsupported
        The file would exceed 4 GiB, which its offsets cannot reach.
    """
    order, lost = "<", []
    found: Directory = {}
    if exif:
        try:
            reader = Reader(io.BytesIO(exif))
            entries, _ = reader.raw(reader.first)
            order = reader.order
            found, unread = reader.directory(entries, DESCRIPTION | {ORIENTATION})
            tags = {*unread, *(entries.keys() - DESCRIPTION - _STORAGE)}
            lost = ["EXIF tags " + ", ".join(map(str, sorted(tags)[:12]))] if tags else []
        except (Damaged, LimitExceeded):  # a stream may carry any block
            found, lost = {}, ["EXIF, which is damaged"]

    def number(form: str, *values: int) -> Entry:
        return {"H": 3, "I": 4}[form], len(values), struct.pack(order + form * len(values), *values)

    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    found |= {
        256: number("I", width),
        257: number("I", height),
        258: number("H", *[8] * channels),
        259: number("H", 1),
        262: number("H", 1 if channels < 3 else 2),
        273: number("I", 0),
        277: number("H", channels),
        278: number("I", height),
        279: number("I", samples.size),
        284: number("H", 1),
    }
    if channels in (2, 4):
        found[EXTRA_SAMPLES] = number("H", 2)  # alpha that colours are not multiplied by
    if xmp:
        found[XMP] = (1, len(xmp), xmp)
    if icc_profile:
        found[ICC_PROFILE] = (7, len(icc_profile), icc_profile)
    start = 8 + len(packed(found, order, 8))
    if start + samples.size >= 1 << 32:
        raise Unsupported(
            "TIFF cannot hold a picture of this size",
            where=where,
            bytes=start + samples.size,
            cause="use another format, for instance PNG",
        )
    found[273] = number("I", start)
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return head + packed(found, order, 8) + samples.tobytes(), lost
