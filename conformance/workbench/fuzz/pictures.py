"""Hostile pictures: damaged files of every format that is read (SPEC 11 leaves them to implementations)."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from random import Random
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from .streams import damaged

_PNG = b"\x89PNG\r\n\x1a\n"


@cache
def picture_corpus() -> tuple[bytes, ...]:
    """Small files of every format that this Pillow writes and refcodec reads, with metadata, frames and palettes."""
    samples = np.random.default_rng(1).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    picture, exif, texts = Image.fromarray(samples), Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x010F], exif[0x0112], exif[0x8769] = "maker", 6, {0x9003: "2020:01:01 00:00:00"}
    texts.add_text("Raw profile type exif", "\nexif\n 4\n45786966\n", zip=True)
    texts.add_itxt("XML:com.adobe.xmp", "<x/>", zip=True)
    texts.add(b"gAMA", struct.pack(">I", 45455))
    texts.add(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
    texts.add(b"cICP", bytes([12, 13, 0, 1]))
    rich: dict[str, Any] = {
        "exif": exif.tobytes(),
        "icc_profile": bytes(range(200)),
        "xmp": b"<x/>",
        "dpi": (300, 300),
        "comment": b"words",
        "pnginfo": texts,
    }
    lossless, lzw = {"lossless": True}, {"compression": "tiff_lzw", "icc_profile": bytes(200)}
    kinds: list[tuple[str, str, dict[str, Any]]] = [  # a mode that ends in "..." has a second frame
        ("RGB", "PNG", {}),
        ("L", "PNG", {}),
        ("P", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("I;16", "PNG", {}),
        ("RGB", "PPM", {}),
        ("L", "PPM", {}),
        ("RGB", "JPEG", {}),
        ("RGB", "TIFF", {}),
        ("RGB", "WEBP", {}),
        ("P", "GIF", {}),
        ("RGB", "BMP", {}),
        ("RGB", "PNG", rich),
        ("P", "PNG", {"transparency": 3}),
        ("RGB...", "PNG", {}),
        ("RGB", "JPEG", rich | {"progressive": True}),
        ("RGB...", "MPO", rich),
        ("RGB", "TIFF", lzw),
        ("L...", "TIFF", {}),
        ("1", "TIFF", {}),
        ("RGB", "TIFF", rich),
        ("RGB", "TIFF", rich | {"big_tiff": True}),
        ("PA", "TIFF", {}),
        ("RGB", "WEBP", rich | lossless),
        ("RGB...", "WEBP", {}),
        ("RGB", "AVIF", rich),
        ("RGB", "JPEG2000", rich),
        ("RGBA", "JPEG2000", {"no_jp2": True}),
        ("RGB...", "GIF", {}),
        ("P", "BMP", {}),
        ("RGB", "TGA", {}),
        ("P", "TGA", {"compression": "tga_rle"}),
        ("P", "PCX", {}),
        ("RGB", "PCX", {}),
        ("RGBA", "QOI", {}),
    ]
    Image.init()
    files = []
    for mode, name, options in kinds:
        if name in Image.SAVE:
            file = io.BytesIO()
            if mode.endswith("..."):
                mode, options = mode[:-3], options | {"save_all": True, "append_images": [picture.convert("L")]}
            by_way_of = {"PA": "P", "I;16": "L"}.get(mode, mode)
            try:
                picture.convert(by_way_of).convert(mode).save(file, name, **options)
            except (OSError, KeyError):  # this Pillow was built without the format
                continue
            files.append(file.getvalue())
    for array in (samples, samples[:, :, 0]):
        file = io.BytesIO()
        np.save(file, array)
        files.append(file.getvalue())
    return tuple(files)


def hostile_picture(source: tuple[bytes, ...], seed: int, index: int) -> bytes:
    """The file of a case: a function of seed and index.

    Parameters
    ----------
    source : tuple of bytes
        Valid files.
    seed, index : int

    Returns
    -------
    bytes
    """
    random = Random(f"{seed}/{index}")
    data = random.choice(source)
    if random.random() < 0.3:  # headers hold the sizes
        cut = random.randrange(8, 64)
        data = damaged(random, data[:cut]) + data[cut:]
    else:
        data = damaged(random, data)
    return _checksums(data) if data.startswith(_PNG) and random.random() < 0.7 else data


def _checksums(data: bytes) -> bytes:
    """Right checksums for the chunks of a PNG, so that damage gets past them."""
    out, at = bytearray(data), len(_PNG)
    while at + 12 <= len(out):
        (length,) = struct.unpack(">I", out[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)
