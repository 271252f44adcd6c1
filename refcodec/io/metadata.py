"""EXIF and XMP changed in place: without the place where a picture was taken, and for samples that were turned.

Nothing else moves in an EXIF block, because the notes of cameras hold offsets into it that only the camera knows.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable

from ..bitstream.info import Metadata
from ..errors import LimitExceeded, UsageError
from .tiff_tags import MAX_PAGES, ORIENTATION, Damaged, Reader

WORDS = {"exif": "exif", "icc": "icc_profile", "xmp": "xmp", "gps": None, "all": None}
"""Names of metadata that can be left out, and the metadata that each means."""

_EXIF, _GPS = 34665, 34853
_NAME_OF_PLACE = re.compile(rb"""<[^\s<>/=]{0,64}gps|gps[^\s<>="']{0,64}\s{0,8}=""", re.IGNORECASE)
"""A name with gps in it, of an element or of an attribute; bounded, so that time grows with the size alone."""

_PLACE_IN_XMP = re.compile(
    rb"""\s+exif:GPS\w+\s*=\s*("[^"]*"|'[^']*')|<exif:GPS(\w+)\b[^>]*?(/>|>.*?</exif:GPS\2\s*>)""", re.S
)
_ORIENTATION_IN_XMP = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>\s*))[2-8]""")


def words_of(text: str | Iterable[str] | None) -> frozenset[str]:
    """The words of ``--strip``: a list with commas, or words.

    Raises
    ------
    UsageError
        One of them is unknown.
    """
    try:
        words = frozenset(text.split(",") if isinstance(text, str) else () if text is None else text) - {""}
    except TypeError:  # no iterable, or what it gives has no hash
        raise UsageError("metadata are named by words", where="--strip", value=repr(text), known=list(WORDS)) from None
    if unknown := sorted(map(str, words - WORDS.keys())):
        raise UsageError("not metadata", where="--strip", words=unknown, known=list(WORDS))
    return words


def stripped(metadata: Metadata, words: frozenset[str]) -> tuple[Metadata, list[str]]:
    """Leave out metadata.

    Parameters
    ----------
    metadata : Metadata
    words : frozenset of str
        Of `words_of`: exif, icc, xmp, all of them, or gps, the place alone. Notes of cameras are not searched for it.

    Returns
    -------
    kept : Metadata
    notes : list of str
        That more was left out than was asked for: in what is damaged the place cannot be found.
    """
    if "all" in words:
        return Metadata(), []
    kept, notes = metadata._replace(**{name: None for word, name in WORDS.items() if name and word in words}), []
    if "gps" in words:
        if kept.exif is not None and (exif := without_place(kept.exif)) != kept.exif:
            kept = kept._replace(exif=exif)
            notes += [] if exif else ["left out: its EXIF, which is damaged, so that a place in it would not be found"]
        if kept.xmp is not None and _names_a_place(kept.xmp):
            xmp = _PLACE_IN_XMP.sub(b"", kept.xmp)
            hidden = _names_a_place(xmp)
            kept = kept._replace(xmp=None if hidden else xmp)
            notes += ["left out: its XMP, which holds a place in a form that cannot be taken out"] if hidden else []
    return kept, notes


def _names_a_place(xmp: bytes) -> bool:
    """Whether an element or an attribute may be a place: drones write GpsLatitude, and a namespace need not show."""
    return _NAME_OF_PLACE.search(xmp.replace(b"\0", b"")) is not None  # of UTF-16 too


def without_place(exif: bytes) -> bytes | None:
    """An EXIF block without its GPS directories, whose bytes become zero; None if the block is damaged."""
    data = bytearray(exif)
    try:
        reader = Reader(io.BytesIO(exif))
        _classic(reader)
        left, seen = [reader.first], set[int]()
        while left:
            at = left.pop()
            if not at or at in seen:
                continue
            seen.add(at)
            if len(seen) > MAX_PAGES:
                raise Damaged("too many directories")
            entries, following = reader.raw(at)
            left.append(following)
            if _EXIF in entries:
                left.append(reader.integer(entries[_EXIF]))
            if _GPS in entries:
                _wipe(data, reader, reader.integer(entries[_GPS]))
                _remove(data, reader, at, _GPS)
        return bytes(data)
    except (Damaged, LimitExceeded):
        return None


def marked_upright(metadata: Metadata) -> Metadata:
    """The metadata of a picture whose samples were turned: EXIF and XMP say that it is upright."""
    exif, xmp = metadata.exif, metadata.xmp
    if exif is not None:
        data = bytearray(exif)
        try:
            reader = Reader(io.BytesIO(exif))
            _classic(reader)
            for place, tag in _places(data, reader, reader.first):
                if tag == ORIENTATION:
                    data[place : place + 12] = struct.pack(reader.order + "HHIHH", ORIENTATION, 3, 1, 1, 0)
            exif = bytes(data)
        except (Damaged, LimitExceeded):
            pass  # then no reader finds an orientation in it
    return metadata._replace(exif=exif, xmp=xmp and _ORIENTATION_IN_XMP.sub(rb"\g<1>1", xmp))


def _classic(reader: Reader) -> None:
    if reader.big:
        raise Damaged("EXIF has no offsets of eight bytes")


def _places(data: bytearray, reader: Reader, at: int) -> list[tuple[int, int]]:
    """Offset and tag of every entry of a directory."""
    reader.raw(at)  # or it is damaged
    (count,) = struct.unpack_from(reader.order + "H", data, at)
    places = range(at + 2, at + 2 + 12 * count, 12)
    return [(place, struct.unpack_from(reader.order + "H", data, place)[0]) for place in places]


def _wipe(data: bytearray, reader: Reader, at: int) -> None:
    """Make a directory and its values zero."""
    entries, _ = reader.raw(at)
    for kind, count, inside in entries.values():
        if (size := len(reader.value((kind, count, inside)))) > 4:
            (start,) = struct.unpack(reader.order + "I", inside)
            data[start : start + size] = bytes(size)
    end = min(len(data), at + 2 + 12 * struct.unpack_from(reader.order + "H", data, at)[0] + 4)
    data[at:end] = bytes(end - at)


def _remove(data: bytearray, reader: Reader, at: int, tag: int) -> None:
    """Take an entry out of a directory: those behind it, and the place of the next directory, move up."""
    places = _places(data, reader, at)
    kept = [bytes(data[place : place + 12]) for place, found in places if found != tag]
    end = at + 2 + 12 * len(places)
    following = data[end : end + 4]  # of a block that is cut short not all
    whole = struct.pack(reader.order + "H", len(kept)) + b"".join(kept) + following
    data[at : end + len(following)] = whole.ljust(end + len(following) - at, b"\0")


__all__ = ["WORDS", "marked_upright", "stripped", "without_place", "words_of"]
