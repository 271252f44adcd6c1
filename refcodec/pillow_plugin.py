"""Pillow plug-in: importing this module lets ``Image.open`` and ``Image.save`` handle ``.loclic`` files.

Opening reads header and metadata; pixels are decoded when they are first asked for. Errors are raised as `OSError`,
which is what users of Pillow expect, with the refcodec error as its cause.
"""

from __future__ import annotations

import io
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from .bitstream.container import parse, parse_header
from .bitstream.fields import MAGIC
from .errors import RefcodecError
from .image import EXIF_PREFIX

FORMAT = "LOCLIC"

_INFO = {"exif": "exif", "iccp": "icc_profile", "xmp ": "xmp"}
_HEADER_BYTES = 60


class LoclicImageFile(ImageFile.ImageFile):
    """A coded image as Pillow sees it: mode L or RGB, with ``exif``, ``icc_profile`` and ``xmp`` in ``info``."""

    format = FORMAT
    format_description = "LoC-LIC coded image"

    _stream: bytes | None = None

    def _open(self) -> None:
        assert self.fp is not None  # Image.open sets it
        head = self.fp.read(_HEADER_BYTES)
        try:
            header = parse_header(head)
            self._size = (header.width, header.height)
            self._mode = "L" if header.channels == 1 else "RGB"
            self._stream = head + self.fp.read()
            chunks = dict(parse(self._stream).chunks)
        except RefcodecError as error:
            raise OSError(str(error)) from error
        for tag, name in _INFO.items():
            if tag in chunks:
                self.info[name] = EXIF_PREFIX + chunks[tag] if tag == "exif" else chunks[tag]
        self.info["quality"] = header.quality

    def load(self) -> Any:
        """Decode on the first call.

        Raises
        ------
        OSError
            The stream is damaged, or its model is not at hand.
        """
        if self._stream is not None:
            from . import decode

            try:
                samples = decode(self._stream)
            except RefcodecError as error:
                raise OSError(str(error)) from error
            if self.fp and getattr(self, "_exclusive_fp", False):
                self.fp.close()
            self.fp = io.BytesIO(samples.tobytes())
            self.tile = [("raw", (0, 0, *self.size), 0, self.mode)]  # type: ignore[list-item]
            self._stream = None
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Stay at the first decoded byte; that this method exists keeps Pillow from mapping the file itself instead."""


def _accept(head: bytes) -> bool:
    return head.startswith(MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    from . import encode

    if image.mode not in ("L", "RGB"):
        raise OSError(f"cannot write mode {image.mode} as {FORMAT}")
    options: dict[str, Any] = dict(image.encoderinfo)  # type: ignore[attr-defined]
    exif = options.get("exif")
    exif = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    xmp = options.get("xmp")
    try:
        data = encode(np.array(image), quality=options.get("quality", 60), model=options.get("model"),
                      threads=options.get("threads"), exif=exif.removeprefix(EXIF_PREFIX) if exif else None,
                      icc_profile=options.get("icc_profile", image.info.get("icc_profile")) or None,
                      xmp=(xmp.encode() if isinstance(xmp, str) else xmp) or None)
    except RefcodecError as error:
        raise OSError(str(error)) from error
    file.write(data)


Image.register_open(FORMAT, LoclicImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".loclic")
Image.register_mime(FORMAT, "image/x-loclic")
