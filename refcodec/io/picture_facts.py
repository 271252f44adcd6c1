"""Facts about a picture file that Pillow does not report, read before Pillow opens the file.

The walks below visit the elements of a file (chunks, segments, boxes, directories) once, keep little of each and stop
at fixed counts. So a file of very many elements is refused before Pillow, whose work and memory may grow with the
square of their number, sees it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import IO

from ..errors import InvalidImage, LimitExceeded, Unsupported, UsageError
from ..limits import MAX_METADATA_BYTES
from .tiff_tags import Damaged, tiff_facts

MAX_ELEMENTS = 4096
"""Largest number of PNG chunks other than IDAT, of JPEG segments, or of boxes. Real files have fewer than 1000."""

MAX_EXIF_SEGMENTS = 256
"""Largest number of EXIF segments of a JPEG (16 MiB): Pillow appends one to the other, copying all each time."""

MAX_SCANS = 128
"""Largest number of scans of a JPEG. Each may cost a pass over all samples; encoders write up to about twenty."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KNOWN = {
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"iCCP",
    b"cICP",
    b"eXIf",
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"pHYs",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"bKGD",
    b"hIST",
    b"sPLT",
    b"sBIT",
    b"iDOT",
}
"""Chunks that Pillow reports, or that say nothing of a picture's samples."""

_JPEG_KNOWN = (
    b"JFIF\0",
    b"JFXX\0",
    b"Exif\0",
    b"http://ns.adobe.com/xap/1.0/\0",
    b"ICC_PROFILE\0",
    b"MPF\0",
    b"Adobe",
    b"Photoshop 3.0\0",
    b"FPXR\0",
)
"""Beginnings of the segments that Pillow reports; JFXX is a thumbnail."""

_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_JP2_SPACES = (12, 16, 17, 18)
"""Colour spaces of JPEG 2000 that Pillow distinguishes: CMYK, sRGB, grey, sYCC. It reads all others as RGB."""
XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF_BOX = b"JpgTiffExif->JP2"

_TIFF_COMPRESSIONS = (0, 1, 2, 3, 4, 5, 7, 8, 32773, 32946)
"""Compressions that every libtiff reads; 0 means that the tag is absent."""


@dataclass
class Facts:
    """Results of the walks.

    Attributes
    ----------
    bits : int
        Largest depth of a sample, 0 where Pillow reports the depth.
    points : (int, int) or None
        H.273 coding points of primaries and transfer.
    exif, icc_profile, xmp : bytes or None
        Metadata that Pillow does not report.
    lost : list of str
        What is in the file and is neither reported by Pillow nor carried.
    rare : str
        A feature that Pillow may lack, so that a failure does not mean damage.
    multiplied : bool
        Colours are multiplied by alpha in the file. The format's library divides them by it, and rounds.
    undivided : bool
        Colours are multiplied by alpha in the file, and the library gives them so.
    """

    bits: int = 0
    points: tuple[int, int] | None = None
    exif: bytes | None = None
    icc_profile: bytes | None = None
    xmp: bytes | None = None
    lost: list[str] = field(default_factory=list)
    rare: str = ""
    multiplied: bool = False
    undivided: bool = False


def facts_of(file: IO[bytes], where: str, frame: int | None = None) -> Facts:
    """Walk over a file of any format.

    Parameters
    ----------
    file : binary file
        Seekable; the position is the beginning, before and after.
    where : str
        The place that errors name.
    frame : int or None
        The page of a TIFF that is wanted, from 0; None allows one page alone.

    Returns
    -------
    Facts
        Empty where the format is unknown or the file is damaged: Pillow's reader reports that.

    Raises
    ------
    UsageError
        A TIFF has no such page.
    Unsupported
        Several pictures, transparency masks, samples in video range, a colour space that Pillow would take for RGB.
    InvalidImage
        A PNG whose header is not its first chunk.
    LimitExceeded
        Too many elements, or too much metadata.
    """
    head = file.read(12)
    facts = Facts()
    try:
        if head.startswith(_PNG):
            _walk_png(file, facts, where)
        elif head.startswith(b"\xff\xd8\xff"):
            _walk_jpeg(file, facts, where)
        elif head.startswith(b"\xff\x4f\xff\x51"):
            facts.bits = _codestream_bits(file, 0)
        elif head == _JP2 or head[4:8] == b"ftyp":
            _walk_boxes(file, facts, where)
        elif head.startswith(b"qoif"):
            if file.read(2)[1]:  # informative in QOI, and programs set it by mistake
                facts.lost.append("the header's statement that samples are linear")
        elif head.startswith(b"BM"):
            _walk_bmp(file, facts)
        elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            _walk_tiff(file, facts, where, frame)
    except (struct.error, IndexError, Damaged):
        pass  # cut short or damaged: Pillow's reader says how
    file.seek(0)
    return facts


def _bounded(count: int, what: str, where: str, allowed: int = MAX_ELEMENTS) -> int:
    if count > allowed:
        raise LimitExceeded(f"the file has too many {what}", where=where, allowed=allowed)
    return count


# -------------------------------------------------------------------------------------------------------------- PNG


def _walk_png(file: IO[bytes], facts: Facts, where: str) -> None:
    size, at, others, unknown = file.seek(0, os.SEEK_END), 8, 0, set()
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if (kind == b"IHDR") != (at == 8):  # Pillow takes the last, wherever it is
            raise InvalidImage("the PNG header is not the first chunk, or there are two", where=where, byte=at)
        if kind == b"IHDR":
            facts.bits = file.read(9)[8]
        elif kind == b"cICP":
            primaries, transfer, _, full_range = file.read(4)
            _full_range(full_range, where)
            facts.points = primaries, transfer
        if kind not in _PNG_KNOWN and kind.isalpha():
            unknown.add(kind.decode("ascii"))
        others = _bounded(others + (kind != b"IDAT"), "chunks", where)
        at += 12 + length
        if kind == b"IEND":
            break
    if unknown:
        facts.lost.append("PNG chunks " + ", ".join(sorted(unknown)[:8]))


def _full_range(full: int, where: str) -> None:
    if not full:
        raise Unsupported("samples are in video range", where=where, cause="convert the picture to full range first")


# ------------------------------------------------------------------------------------------------------------- JPEG


def _walk_jpeg(file: IO[bytes], facts: Facts, where: str) -> None:
    """Visit the segments up to the first scan, as Pillow does, then count the scans."""
    file.seek(2)
    segments = exif = 0
    while byte := file.read(1):
        if byte != b"\xff":
            continue
        while (byte := file.read(1)) == b"\xff":
            pass
        if byte == b"\0":
            continue
        if not byte or byte[0] < 0xC0:
            return
        code = byte[0]
        if code == 0xDA:
            break
        if code == 0xC8 or 0xD0 <= code <= 0xD9 or 0xF0 <= code <= 0xFD:
            continue
        if 0xC3 <= code <= 0xCF and code not in (0xC4, 0xCC):  # lossless, hierarchical, arithmetic
            facts.rare = f"JPEG process {code & 15}"
        segments = _bounded(segments + 1, "segments", where)
        end = file.tell() + struct.unpack(">H", file.read(2))[0]
        if 0xE0 <= code <= 0xEF:
            head = file.read(min(36, end - file.tell()))
            exif = _bounded(exif + head.startswith(b"Exif\0"), "EXIF segments", where, MAX_EXIF_SEGMENTS)
            name = head.split(b"\0")[0].decode("ascii", "replace")
            if not head.startswith(_JPEG_KNOWN) and (told := f"segment APP{code & 15} {name!r}") not in facts.lost:
                facts.lost.append(told)
        file.seek(end)
    if len(facts.lost) > 8:
        facts.lost[8:] = ["other segments"]
    scans = 1
    tail = b""
    while block := file.read(1 << 20):  # the marker cannot occur within coded samples
        scans = _bounded(scans + (tail + block).count(b"\xff\xda"), "scans", where, MAX_SCANS)
        tail = block[-1:] if block[-1:] == b"\xff" else b""


# ------------------------------------------------------------------------------------------------ JPEG 2000 and AVIF


def _walk_boxes(file: IO[bytes], facts: Facts, where: str) -> None:
    size = file.seek(0, os.SEEK_END)
    stack, boxes, codestreams = [(0, size)], 0, 0
    while stack:
        at, end = stack.pop()
        while at + 8 <= end:
            boxes = _bounded(boxes + 1, "boxes", where)
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            head = 8
            if length == 1:
                length, head = struct.unpack(">Q", file.read(8))[0], 16
            length = end - at if length == 0 else length
            if length < head:
                break  # damaged: Pillow's reader says how
            if kind in (b"meta", b"iref", b"iprp", b"ipco", b"jp2h"):
                stack.append((at + head + 4 * (kind in (b"meta", b"iref")), min(at + length, end)))
            elif kind == b"jp2c":
                if not codestreams:
                    facts.bits = max(facts.bits, _codestream_bits(file, at + head))
                codestreams += 1
                break  # nothing behind the samples is read
            else:
                _read_box(kind, file, min(length, end - at) - head, facts, where)  # boxes may not overlap
            at += length


def _read_box(kind: bytes, file: IO[bytes], length: int, facts: Facts, where: str) -> None:
    if kind == b"av1C":
        facts.bits = max(facts.bits, 10 if file.read(3)[2] & 0x40 else 8)  # high_bitdepth: ten or twelve
    elif kind == b"pclr":
        _, columns = struct.unpack(">HB", file.read(3))
        facts.bits = max([facts.bits, *((bits & 0x7F) + 1 for bits in file.read(columns))])
    elif kind == b"colr":
        head = file.read(4)
        if head == b"nclx" and facts.points is None:
            primaries, transfer, _, _ = struct.unpack(">HHHB", file.read(7))
            facts.points = primaries, transfer
        elif head[:1] == b"\1":
            (space,) = struct.unpack(">I", head[3:] + file.read(3))
            if space not in _JP2_SPACES and facts.icc_profile is None:
                raise Unsupported(
                    "the colour space is not supported",
                    where=where,
                    enumerated=space,
                    cause="Lab, ROMM or rare; convert the picture to sRGB first",
                )
        elif head[:1] in (b"\2", b"\3") and length > 3:  # JPEG 2000: method, precedence, approximation, profile
            facts.icc_profile = head[3:] + _payload(file, length - 4, "icc_profile", where)
    elif kind == b"prem":
        facts.multiplied = True
    elif kind == b"cdef":  # JPEG 2000: channel, type (2 is alpha that colours are multiplied by), association
        (count,) = struct.unpack(">H", file.read(2))
        facts.undivided |= 2 in struct.unpack(f">{3 * count}H", file.read(6 * count))[1::3]
    elif kind == b"uuid":
        name = file.read(16)
        if name == XMP_BOX:
            facts.xmp = _payload(file, length - 16, "xmp", where)
        elif name == _EXIF_BOX:
            facts.exif = _payload(file, length - 16, "exif", where)
        else:
            facts.lost.append("a UUID box")
    elif kind == b"xml ":
        facts.lost.append("an XML box")
    elif kind == b"clap":
        facts.lost.append("the clean aperture, which would crop the picture")
    elif kind == b"pasp" and len(set(struct.unpack(">II", file.read(8)))) > 1:
        facts.lost.append("the shape of its pixels, which are not square")


def _payload(file: IO[bytes], length: int, kind: str, where: str) -> bytes:
    if length > MAX_METADATA_BYTES:
        raise LimitExceeded(
            "the metadata is too long", where=where, kind=kind, bytes=length, allowed=MAX_METADATA_BYTES
        )
    return file.read(max(length, 0))


def _codestream_bits(file: IO[bytes], start: int) -> int:
    file.seek(start + 40)  # SOC, then SIZ: marker, length, capabilities, eight 32-bit sizes, and the component count
    (count,) = struct.unpack(">H", file.read(2))
    return max(((precision & 0x7F) + 1 for precision in file.read(3 * count)[::3]), default=0)


# --------------------------------------------------------------------------------------------------------- BMP, TIFF


def _walk_bmp(file: IO[bytes], facts: Facts) -> None:
    """Versions 4 and 5 of the header describe colours, from its byte 56 on, or embed a profile."""
    file.seek(14)
    (size,) = struct.unpack("<I", file.read(4))
    if size in (108, 124):
        file.seek(14 + 56)
        kind, endpoints = file.read(4)[::-1], file.read(48)
        if kind not in (b"sRGB", b"Win ") and (kind != bytes(4) or any(endpoints)):
            facts.lost.append("the colour space of its BMP header")


def _walk_tiff(file: IO[bytes], facts: Facts, where: str, frame: int | None) -> None:
    found = tiff_facts(file, frame)
    if found is None:
        raise no_such_frame(where, frame)
    if found.compression not in _TIFF_COMPRESSIONS:
        facts.rare = f"TIFF compression {found.compression}"
    if found.preview:
        raise Unsupported(
            "the first picture of the file is a preview",
            where=where,
            cause="camera raw files keep their picture elsewhere; develop it first",
        )
    if found.pages:
        raise several_frames(where)
    if found.masks:
        raise Unsupported(
            "a page of the file holds a mask",
            where=where,
            cause="turn it into an alpha channel, or flatten the picture first",
        )
    facts.multiplied = found.multiplied
    facts.exif = found.exif
    facts.lost += found.lost
    if found.reduced:
        facts.lost.append(f"{found.reduced} smaller versions of the picture")


def several_frames(where: str) -> Unsupported:
    """Build the refusal of animations and documents of several pages."""
    cause = "--frame N (in Python frame=N) reads one of them, the first is 0"
    return Unsupported("the file holds several frames", where=where, cause=cause)


def no_such_frame(where: str, frame: int | None) -> UsageError:
    """Build the refusal of a frame that a file does not have."""
    return UsageError("the file has no such frame", where=where, frame=frame, cause="frames count from 0")
