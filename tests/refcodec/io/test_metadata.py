"""refcodec.io.metadata: what is left out by name, the place alone, and blocks that say a picture is upright."""

import struct

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from refcodec.bitstream.info import Metadata
from refcodec.errors import UsageError
from refcodec.io.metadata import marked_upright, stripped, without_place, words_of
from refcodec.io.tiff_tags import exif_facts

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="r"><rdf:Description xmlns:exif="e" xmlns:tiff="t" '
    b'exif:GPSLatitude="48,8.1N" exif:GPSLongitude = \'11,3E\' tiff:Orientation="6" dc:title="GPS for hikers">'
    b"<exif:GPSAltitude>5/1</exif:GPSAltitude><exif:GPSMapDatum/><tiff:Orientation>8</tiff:Orientation>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def exif(order: str = "MM") -> bytes:
    found = Image.Exif()
    found.endian = "<" if order == "II" else ">"
    found[0x010F], found[0x0112], found[0x0132] = "a maker", 6, "2026:01:02 03:04:05"
    found.get_ifd(0x8769).update({0x9003: "2026:01:02 03:04:05", 0x927C: b"a camera's own notes"})
    found.get_ifd(0x8825).update(
        {1: "N", 2: (IFDRational(48), IFDRational(8), IFDRational(6)), 3: "E", 29: "2026:01:02", 27: b"secret method"}
    )
    return found.tobytes()[6:]


def tags(block: bytes) -> Image.Exif:
    found = Image.Exif()
    found.load(block)
    return found


@pytest.mark.parametrize("order", ["II", "MM"])
def test_the_place_alone_is_left_out(order):
    block = exif(order)
    assert tags(block).get_ifd(0x8825)[1] == "N" and b"secret method" in block
    left = without_place(block)
    assert len(left) == len(block) and b"secret" not in left and b"2026:01:02\0" not in left
    before, after = tags(block), tags(left)
    assert 0x8825 not in after and dict(after) == {k: v for k, v in before.items() if k != 0x8825}
    assert after.get_ifd(0x8769) == before.get_ifd(0x8769)
    assert left.index(b"a camera's own notes") == block.index(b"a camera's own notes")  # its offsets stay right
    assert without_place(left) == left


def test_the_place_in_xmp_is_left_out():
    kept, notes = stripped(Metadata(exif(), b"icc", XMP), frozenset({"gps"}))
    assert notes == [] and kept.icc_profile == b"icc" and 0x8825 not in tags(kept.exif)
    assert (
        b":GPS" not in kept.xmp and b"48,8.1N" not in kept.xmp and b"11,3E" not in kept.xmp and b"5/1" not in kept.xmp
    )
    assert b"GPS for hikers" in kept.xmp and kept.xmp.endswith(b"</x:xmpmeta>")


@pytest.mark.parametrize(
    "xmp",
    [
        XMP.decode().encode("utf-16"),
        b"<a exif:GPSLatitude=48,8N>",
        b"<exif:GPSLatitude>48",
        b"<my:GPSPosition/>",
        b'<a drone-dji:GpsLatitude="+48.1"/>',
        b'<GPSLatitude xmlns="http://ns.adobe.com/exif/1.0/">48,1N</GPSLatitude>',
    ],
)
def test_where_a_place_cannot_be_taken_out_all_is_left_out(xmp):
    kept, notes = stripped(Metadata(None, None, xmp), frozenset({"gps"}))
    assert kept.xmp is None and len(notes) == 1 and "XMP" in notes[0]


def test_damaged_exif_is_left_out_where_the_place_is_to_be():
    block = exif()
    at = block.index(struct.pack(">H", 0x8825)) + 8
    circle = block[:at] + struct.pack(">I", 1 << 30) + block[at + 4 :]
    for damaged in (b"", b"MM", b"MM\0*\0\0\xff\0", block[:60], circle, b"MM\0+" + block[4:]):
        kept, notes = stripped(Metadata(damaged), frozenset({"gps"}))
        assert kept.exif is None and len(notes) == 1
    endless = b"MM\0*" + struct.pack(">I", 8) + struct.pack(">HHHIII", 1, 0x8769, 4, 1, 8, 8)
    assert without_place(endless) == endless  # directories in a circle hold no place


def test_words():
    whole = Metadata(exif(), b"icc", XMP)
    assert stripped(whole, words_of(None)) == stripped(whole, words_of("")) == (whole, [])
    assert stripped(whole, words_of("exif,xmp"))[0] == Metadata(None, b"icc", None)
    assert stripped(whole, words_of(["icc"]))[0] == whole._replace(icc_profile=None)
    assert stripped(whole, words_of("all,gps"))[0] == Metadata()
    with pytest.raises(UsageError, match="not metadata"):
        words_of("exif,place")


@pytest.mark.parametrize("order", ["II", "MM"])
def test_a_turned_picture_is_marked_upright(order):
    block = exif(order)
    marked = marked_upright(Metadata(block, None, XMP))
    assert tags(marked.exif)[0x0112] == 1 and len(marked.exif) == len(block)
    assert marked.xmp == XMP.replace(b'Orientation="6"', b'Orientation="1"').replace(b">8<", b">1<")
    assert marked_upright(Metadata(b"no exif")).exif == b"no exif" and marked_upright(Metadata()) == Metadata()


def test_no_exif_block_is_too_odd():
    """Changed bytes and cuts: a block of the same length or none, and no exception."""
    rng = np.random.default_rng(1)
    for _ in range(400):
        block = bytearray(exif("II" if rng.integers(2) else "MM"))
        for _ in range(rng.integers(1, 6)):
            block[rng.integers(8, len(block))] = rng.choice([0, 1, 127, 255, rng.integers(256)])
        odd = bytes(block[: rng.integers(8, len(block) + 1)] if rng.integers(4) == 0 else block)
        left, marked = without_place(odd), marked_upright(Metadata(odd)).exif
        assert (left is None or len(left) == len(odd)) and len(marked) == len(odd)
        assert exif_facts(odd)[0] == 1 or exif_facts(marked)[0] == 1
