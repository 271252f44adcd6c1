"""Pillow plug-in: importing this module lets ``Image.open`` and ``Image.save`` handle ``.loclic`` files.

Opening a file reads only its header and metadata. The stream is read, checked and decoded when pixels are first needed;
``verify`` checks it without decoding. ``crop`` of a small part of a tiled picture decodes only the tiles of this part.
``thumbnail`` and ``draft`` decode to a smaller picture in less memory. Errors are raised as `OSError`, as users of
Pillow expect, with the refcodec error as their cause. ``refcodec.pillow_plugin.limits`` limits the cost of a picture.
Pillow does not discover plug-ins, so this module must be imported.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from .bitstream.container import ALPHA, Header, parse
from .bitstream.fields import MAGIC
from .bitstream.info import Metadata, metadata_of
from .bitstream.outline import outline
from .errors import RefcodecError, UsageError
from .flow import needed_for
from .io.changes import colour_of, flattened
from .io.files import stream_from
from .io.pictures import translated
from .io.properties import EXIF_PREFIX, Picture, from_pillow
from .io.tiff_tags import DESCRIPTION
from .limits import Limits, check_pixels
from .model.integer_model import Model
from .planes import ArrayRows
from .reduced import STEPS
from .tiles import Region

FORMAT = "LOCLIC"
MIME = "image/x-loclic"

limits = Limits()
"""Limits of opening and decoding; assign others to change them."""

TARGETS = ("quality", "bpp", "size", "psnr", "lossless")
"""Options of ``Image.save`` of which one is given, as those of `refcodec.encode_file`."""

OPTIONS = ("threads", "tile", "exact", "rectangles")
"""Further options, besides ``model``, ``background`` and the metadata."""

KNOWN = frozenset((*TARGETS, *OPTIONS, *Metadata._fields, "model", "background"))
"""Every option of ``Image.save``. Others are ignored with a warning, since programs pass those of other formats."""

ELSEWHERE = frozenset({"limits", "depth", "frame", "cmyk_to_srgb", "strip", "keep_times"})
"""Options of `refcodec.encode_file` that ``save`` refuses: to ignore them would surprise."""

CROPPED = 0.5
"""Share of a picture's tiles that ``crop`` decodes in all before it decodes the whole picture instead."""


_reading = threading.Lock()


class LoclicImageFile(ImageFile.ImageFile):
    """A coded image as Pillow sees it: mode L, LA, RGB or RGBA, with its metadata in ``info``."""

    format = FORMAT
    format_description = "LoC-LIC coded image"

    _header: Header | None = None
    """Until the picture is decoded."""
    _stream: bytes | None = None
    """When it was read."""
    _reduce: int | None = None
    _cropped = 0.0

    def _open(self) -> None:
        assert self.fp is not None  # Image.open sets it
        try:
            self._header, chunks = outline(self.fp)
            header = self._header
            check_pixels(header.width, header.height, limits, "byte 8 (SPEC 8.1)")
            self._size = (header.width, header.height)
            self._mode = ("L" if header.channels == 1 else "RGB") + "A" * (ALPHA in chunks)
        except RefcodecError as error:
            raise OSError(str(error)) from error
        for name, value in metadata_of(chunks)._asdict().items():
            if value is not None:
                self.info[name] = EXIF_PREFIX + value if name == "exif" else value
        self.info["quality"] = header.quality

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Choose a smaller picture to decode to: a half, a quarter and so on down to a 64th, at least of this size.

        The mode stays. A second call changes nothing, as with JPEG.
        """
        if self._header is None or self._reduce is not None or size is None:
            return None
        width, height = self.size
        most = min(width // max(1, size[0]), height // max(1, size[1]))
        self._reduce = step = max((step for step in STEPS if step <= most), default=1)
        self._size = (-(-width // step), -(-height // step))
        return self.mode, (0, 0, width / step, height / step)

    def crop(self, box: tuple[float, float, float, float] | None = None) -> Image.Image:
        """Return a part; of a tiled picture that is not decoded yet, its tiles alone are."""
        if self._header is None or self._reduce is not None or box is None:
            return super().crop(box)
        left, top, right, bottom = (round(side) for side in box)
        if not (0 <= left < right <= self.width and 0 <= top < bottom <= self.height):
            return super().crop(box)
        region, grid = Region(left, top, right - left, bottom - top), self._header.grid
        tiles = needed_for(grid, region).tiles
        share = sum(tile.height * tile.width for tile in tiles) / (grid.height * grid.width)
        if self._cropped + share > CROPPED:
            return super().crop(box)
        self._cropped += share
        return self._new(Image.fromarray(self._decoded(region=region)).im)

    def verify(self) -> None:
        """Read the stream and compare its checksums; nothing is decoded.

        Raises
        ------
        OSError
            The stream is damaged.
        """
        try:
            parse(self._read())
        except RefcodecError as error:
            raise OSError(str(error)) from error
        super().verify()

    def _read(self) -> bytes:
        with _reading:  # threads may load one image
            if self._stream is None:
                if self.fp is None:
                    raise ValueError("Operation on closed image")
                try:
                    self.fp.seek(0)
                    self._stream = stream_from(self.fp, limits, str(self.filename or "stream"))
                except RefcodecError as error:
                    raise OSError(str(error)) from error
            return self._stream

    def _decoded(self, **options: Any) -> np.ndarray:
        from .codec import decode_reduced, decode_stream

        stream = self._read()
        try:
            if (self._reduce or 1) > 1:
                return decode_reduced(stream, self._reduce or 1, limits=limits, **options)[0]
            return decode_stream(stream, limits=limits, **options)[0]
        except RefcodecError as error:
            raise OSError(str(error)) from error

    def load(self) -> Any:
        """Decode on the first call.

        Raises
        ------
        OSError
            The stream is damaged, its model is not at hand, or it exceeds the limits.
        """
        if self._header is not None:
            samples = self._decoded()
            if self.fp and getattr(self, "_exclusive_fp", False):
                self.fp.close()
            self.fp = io.BytesIO(samples.tobytes())
            self.tile = [("raw", (0, 0, *self.size), 0, self.mode)]  # type: ignore[list-item]
            self._header = self._stream = None
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Stay at the first decoded byte; that this method exists keeps Pillow from mapping the file itself instead."""


def _accept(head: bytes) -> bool:
    return head.startswith(MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Save as Pillow's own formats do: the ICC profile of the image is kept, EXIF and XMP are those that are given.

    Options are one of ``quality``, ``bpp``, ``size``, ``psnr`` and ``lossless``, and ``model``, ``threads``, ``tile``,
    ``exact``, ``rectangles`` and ``background``, as those of `refcodec.encode_file`. Modes are converted or refused as
    on the command line; transparency is kept. What is left out is named in a UserWarning.

    Raises
    ------
    OSError
        The picture has another mode than those of eight-bit grey and RGB, or cannot be coded. Or an option has
        a wrong type.
    ValueError
        ``exif``, ``icc_profile`` or ``xmp`` has a wrong type.
    """
    from .codec import metadata_chunks
    from .model.registry import load_model
    from .picture_files import check_lossless
    from .targets import Target, code

    asked = image.encoderinfo
    given = {name: _given(name, asked[name]) for name in Metadata._fields if name in asked}
    options = {name: asked[name] for name in OPTIONS if name in asked}
    try:
        if refused := sorted(asked.keys() & ELSEWHERE):
            raise UsageError(
                "refcodec.encode_file has these options, Image.save has not", where=f"saving {FORMAT}", options=refused
            )
        target, model = Target(**{name: asked[name] for name in TARGETS if name in asked}), asked.get("model")
        if target.lossless:
            check_lossless(model, options.get("tile"), options.get("rectangles", True))
        elif not isinstance(model, Model):
            model = load_model(model)
        with translated(f"saving {FORMAT}"):
            picture = from_pillow(image)
        samples = picture.samples
        if asked.get("background") is not None:
            samples = flattened(samples, colour_of(asked["background"]))
        if samples.ndim == 3 and picture.samples.shape[2:] == (2,) != samples.shape[2:]:
            given.setdefault("icc_profile", None)  # grey became RGB, for which its profile is not
        given.setdefault("icc_profile", picture.icc_profile)
        chunks = metadata_chunks(*(given.get(name) for name in Metadata._fields))
        coded = code(ArrayRows(samples), target, model, chunks=chunks, limits=limits, **options).trial.coded
    except RefcodecError as error:
        raise OSError(str(error)) from error
    file.write(coded.data)
    unknown = [f"ignored: {name}, which is not an option of this format" for name in sorted(asked.keys() - KNOWN)]
    for text in (*picture.notes, *_left_out(image, picture, given), *unknown):
        warnings.warn(f"{FORMAT}: {text}", stacklevel=3)


def _save_all(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Save with ``save_all=True``: a stream holds one picture, so there must be no other frame.

    Raises
    ------
    OSError
        There are several pictures, or as in `_save`.
    """
    more = len(list(image.encoderinfo.pop("append_images", None) or ()))
    if others := more + getattr(image, "n_frames", 1) - 1:
        cause = "save one stream per picture, or leave save_all out for the first one"
        where = f"saving {FORMAT}"
        raise OSError(str(UsageError("a stream holds one picture", where=where, others=others, cause=cause)))
    _save(image, file, filename)


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
Image.register_save_all(FORMAT, _save_all)
Image.register_extension(FORMAT, ".loclic")
Image.register_mime(FORMAT, MIME)

__all__ = ["FORMAT", "MIME", "limits"]
