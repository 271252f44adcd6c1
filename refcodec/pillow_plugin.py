"""Pillow plug-in: importing this module lets ``Image.open`` and ``Image.save`` handle ``.loclic`` files.

Opening reads header and metadata; pixels are decoded when they are first asked for. Errors are raised as `OSError`,
which is what users of Pillow expect, with the refcodec error as its cause. ``refcodec.pillow_plugin.limits`` holds what
a picture may cost.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import IO, Any

from PIL import Image, ImageFile

from .bitstream.container import ALPHA, parse
from .bitstream.fields import MAGIC
from .errors import RefcodecError, UsageError
from .io.files import stream_from
from .io.pictures import translated
from .io.properties import EXIF_PREFIX, Picture, from_pillow
from .io.tiff_tags import DESCRIPTION
from .limits import Limits, check_pixels

FORMAT = "LOCLIC"

limits = Limits()
"""Limits of opening and decoding; assign others to change them."""

OPTIONS = ("quality", "model", "threads", "tile", "exact", "lossless")
"""Options of ``Image.save`` besides the metadata."""

_INFO = {"exif": "exif", "iccp": "icc_profile", "xmp ": "xmp"}


class LoclicImageFile(ImageFile.ImageFile):
    """A coded image as Pillow sees it: mode L, LA, RGB or RGBA, with its metadata in ``info``."""

    format = FORMAT
    format_description = "LoC-LIC coded image"

    _stream: bytes | None = None

    def _open(self) -> None:
        assert self.fp is not None  # Image.open sets it
        try:
            self._stream = stream_from(self.fp, limits, str(self.filename or "stream"))
            stream = parse(self._stream)
            header, chunks = stream.header, dict(stream.chunks)
            check_pixels(header.width, header.height, limits, "byte 8 (SPEC 8.1)")
            self._size = (header.width, header.height)
            self._mode = ("L" if header.channels == 1 else "RGB") + "A" * (ALPHA in chunks)
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
            The stream is damaged, its model is not at hand, or it exceeds the limits.
        """
        if self._stream is not None:
            from .codec import decode_stream

            try:
                samples = decode_stream(self._stream, limits=limits)[0]
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
    """Save as Pillow's own formats do: the ICC profile of the image is kept, EXIF and XMP are those that are given.

    Options are ``quality``, ``model``, ``threads``, ``tile``, ``exact`` and ``lossless``, as those of
    `refcodec.codec.encode_picture`. Modes are converted or refused as on the command line; transparency is kept. What
    is left out is named in a UserWarning.

    Raises
    ------
    OSError
        The picture has another mode than those of eight-bit grey and RGB, or cannot be coded.
    ValueError
        ``exif``, ``icc_profile`` or ``xmp`` has a wrong type.
    """
    from .codec import encode_picture, metadata_chunks

    given = {name: _given(name, image.encoderinfo[name]) for name in _INFO.values() if name in image.encoderinfo}
    options = {name: image.encoderinfo[name] for name in OPTIONS if name in image.encoderinfo}
    try:
        if options.get("lossless") and "quality" in options:
            raise UsageError("a picture without loss has no quality", quality=options["quality"])
        with translated(f"saving {FORMAT}"):
            picture = from_pillow(image)
        given.setdefault("icc_profile", picture.icc_profile)
        chunks = metadata_chunks(*(given.get(name) for name in _INFO.values()))
        data = encode_picture(picture.samples, chunks=chunks, limits=limits, **options).data
    except RefcodecError as error:
        raise OSError(str(error)) from error
    file.write(data)
    for text in (*picture.notes, *_left_out(image, picture, given)):
        warnings.warn(f"{FORMAT}: {text}", stacklevel=3)


def _given(name: str, value: Any) -> bytes | None:
    if name == "exif" and isinstance(value, Image.Exif):
        value = value.tobytes()
    if name == "xmp" and isinstance(value, str):
        value = value.encode()
    if value is not None and not isinstance(value, (bytes, bytearray, memoryview)):
        kinds = {"exif": "bytes or an Image.Exif", "icc_profile": "bytes", "xmp": "bytes or str"}[name]
        raise ValueError(f"{FORMAT}: {name} is {kinds}, not {type(value).__name__}")
    value = bytes(value or b"")
    return (value.removeprefix(EXIF_PREFIX) if name == "exif" else value) or None


def _left_out(image: Image.Image, picture: Picture, given: dict[str, bytes | None]) -> Iterator[str]:
    tags = picture.exif or DESCRIPTION & set(getattr(image, "tag_v2", ()))
    for name, there, how in (("exif", tags, "exif=image.getexif()"), ("xmp", picture.xmp, "xmp=image.info['xmp']")):
        if there and name not in given:
            yield f"left out: its {name.upper()}; save with {how}"
    if getattr(image, "is_animated", False):
        yield "left out: its other frames"


Image.register_open(FORMAT, LoclicImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".loclic")
Image.register_mime(FORMAT, "image/x-loclic")
