"""Pictures in and out: files, samples, and the padded planes that the networks read (SPEC 4).

Reading never damages silently: whatever is not eight bits of grey or RGB a sample is either converted without loss, by
the rules of `read_picture`, or refused. Samples are not rotated: an EXIF orientation travels with the picture as
metadata. TIFF alone states the order of its rows in the file, so its samples are delivered upright and without EXIF.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, PngImagePlugin

from .errors import (
    InvalidImage,
    LimitExceeded,
    RefcodecError,
    Unsupported,
    UsageError,
)
from .files import check_target, detail_of, opened, transfer_error, write_bytes
from .files import read_bytes as read_bytes
from .limits import MAX_LATENT_POSITIONS, MAX_METADATA_BYTES, MAX_SIDE, PAD, Limits, check_pixels
from .sample_depth import check_depth

READABLE = ("PNG", "PPM", "JPEG", "MPO", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA", "PCX", "QOI")
"""Pillow formats that are read: those whose sample depth is known, and that run no external program."""

EXIF_PREFIX = b"Exif\0\0"

_EXTENSIONS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    # extension: format, options, the metadata it holds. Lossless wherever the format can be.
    ".png": ("PNG", {}, ("exif", "icc_profile", "xmp")),
    ".ppm": ("PNM", {}, ()), ".pgm": ("PNM", {}, ()), ".pnm": ("PNM", {}, ()),
    ".npy": ("NPY", {}, ()),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}, ("exif", "icc_profile", "xmp")),
    ".webp": ("WEBP", {"lossless": True}, ("exif", "icc_profile", "xmp")),
    ".avif": ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, ("exif", "icc_profile", "xmp")),
    ".tif": ("TIFF", {}, ("exif", "icc_profile")),
    ".jp2": ("JPEG2000", {}, ()), ".j2k": ("JPEG2000", {}, ()),
    ".bmp": ("BMP", {}, ()), ".tga": ("TGA", {}, ()), ".qoi": ("QOI", {}, ()),
}
_EXTENSIONS |= {".jpeg": _EXTENSIONS[".jpg"], ".tiff": _EXTENSIONS[".tif"]}

_pillow_lock = threading.Lock()


@dataclass(frozen=True)
class Picture:
    r"""Samples and the metadata that travels with them.

    Attributes
    ----------
    samples : [H, W, 3] or [H, W] uint8
        RGB or grey, row-major.
    exif : bytes or None
        The EXIF block from its TIFF header on, without the ``Exif\0\0`` that JPEG puts before it.
    icc_profile, xmp : bytes or None
        The ICC profile and the XMP packet.
    """

    samples: np.ndarray
    exif: bytes | None = None
    icc_profile: bytes | None = None
    xmp: bytes | None = None


def check_size(width: int, height: int, limits: Limits, where: str = "") -> None:
    """Refuse a picture by its size alone, before memory is taken.

    Raises
    ------
    InvalidImage
        A side is zero.
    LimitExceeded
        A side exceeds MAX_SIDE, the pixels exceed ``max_pixels`` or the format's MAX_LATENT_POSITIONS, or eight bytes
        a pixel (what reading takes at most) exceed ``max_memory``.
    """
    if width < 1 or height < 1:
        raise InvalidImage("the picture is empty", where=where, width=width, height=height)
    padded = -(-width // PAD) * -(-height // PAD) * (PAD // 16) ** 2
    check_pixels(width, height, limits, where)
    for name, value, allowed in (("side", max(width, height), MAX_SIDE),
                                 ("latent positions", padded, MAX_LATENT_POSITIONS),
                                 ("bytes", 8 * width * height, limits.max_memory)):
        if allowed is not None and value > allowed:
            raise LimitExceeded(f"the picture is too large in {name}", where=where, width=width, height=height,
                                value=value, allowed=allowed)


# ---------------------------------------------------------------------------------------------------------- reading

def read_picture(source: str | os.PathLike[str] | bytes, limits: Limits = Limits()) -> Picture:
    """Read a picture from a file, from standard input (``-``) or from bytes. The content names the format.

    Defined conversions, all lossless: one bit becomes 0 or 255; a palette becomes RGB; alpha that is 255 everywhere is
    dropped. PNG, PPM, PGM and NPY (uint8 [H, W] or [H, W, 3]) are exact; what a lossy format such as JPEG decodes to is
    decided by the library that Pillow carries.

    Parameters
    ----------
    source : str, path or bytes
        File name, ``-``, or the bytes of a file.
    limits : Limits
        Checked on the header, before samples are decoded.

    Returns
    -------
    Picture
        Samples not rotated, and the metadata.

    Raises
    ------
    MissingInput, TransferError
        As `read_bytes`.
    InvalidImage
        Not a picture in a known format, or a damaged one.
    Unsupported
        Transparency, more than eight bits a sample, several frames, or a colour space other than grey and RGB.
    LimitExceeded
        See `check_size`.
    """
    where = "the given bytes" if isinstance(source, bytes) else str(source)
    with opened(source) as file:
        try:
            if not file.seekable():
                file = io.BytesIO(file.read())
            head = file.read(8)
            file.seek(0)
            if not head:
                raise InvalidImage("the file is empty", where=where)
            if head.startswith(b"\x93NUMPY"):
                return Picture(_read_npy(file, limits, where))
            if head[:1] == b"P" and head[1:2] in (b"2", b"3", b"5", b"6"):
                binary = _read_pnm(file, limits, where)
                if binary is not None:
                    return Picture(binary)
                file.seek(0)
            return _read_pillow(file, limits, where)
        except RefcodecError:
            raise
        except MemoryError as error:
            raise LimitExceeded("the picture does not fit into memory", where=where) from error
        except Image.DecompressionBombError as error:
            raise LimitExceeded("the picture has too many pixels", where=where, allowed=limits.max_pixels) from error
        except Exception as error:  # Pillow's readers raise nearly every type on damaged files
            if isinstance(error, OSError) and error.errno is not None:
                raise transfer_error("reading", where, error) from error
            raise InvalidImage("the picture cannot be decoded", where=where, detail=detail_of(error),
                               cause="the file is damaged or cut short") from error


def _exact_rest(file: IO[bytes], size: int, where: str) -> bytes:
    data = file.read(size + 1)
    if len(data) != size:
        raise InvalidImage("the file ends early" if len(data) < size else "bytes follow the last sample", where=where,
                           expected=size, cause="the file is cut short, or holds more than one picture")
    return data


def _read_npy(file: IO[bytes], limits: Limits, where: str) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise Unsupported("NPY version", where=where, version=version)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = reader(file)
    if dtype != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        raise Unsupported("an array is read as a picture if it is uint8 [H, W] or [H, W, 3]", where=where,
                          dtype=str(dtype), shape=list(shape))
    check_size(shape[1], shape[0], limits, where)
    flat = np.frombuffer(_exact_rest(file, shape[0] * shape[1] * (shape[2] if len(shape) == 3 else 1), where), np.uint8)
    return np.array(flat.reshape(shape, order="F" if fortran_order else "C"), order="C")


def _pnm_numbers(file: IO[bytes], where: str) -> list[int]:
    """Width, height and maxval; the position is left on the first sample of a binary file."""
    numbers, token, comment = [], b"", False
    for _ in range(4096):  # a header is a few lines; this bounds its comments
        byte = file.read(1)
        comment = (comment or (byte == b"#" and not token)) and byte not in (b"\n", b"\r")
        if comment:
            continue
        if byte.isdigit() and len(token) < 10:
            token += byte
        elif not byte.isspace():
            break
        elif token:
            numbers.append(int(token))
            token = b""
            if len(numbers) == 3:
                return numbers
    raise InvalidImage("the PNM header is damaged", where=where, byte=file.tell())


def _read_pnm(file: IO[bytes], limits: Limits, where: str) -> np.ndarray | None:
    """Read P5 and P6; return None for P2 and P3, which Pillow reads once the header is accepted."""
    magic = file.read(2)
    width, height, maxval = _pnm_numbers(file, where)
    check_size(width, height, limits, where)
    if maxval != 255:
        raise Unsupported("samples are not eight bits", where=where, maxval=maxval, cause="scale the picture to 255")
    if magic not in (b"P5", b"P6"):
        return None
    shape = (height, width) if magic == b"P5" else (height, width, 3)
    return np.frombuffer(_exact_rest(file, int(np.prod(shape)), where), np.uint8).reshape(shape).copy()


@contextmanager
def _pillow(max_pixels: int) -> Iterator[None]:
    """Quiet Pillow's warnings, and set its bound on pixels to ours: WebP allocates its canvas while being opened."""
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = bound


def _read_pillow(file: IO[bytes], limits: Limits, where: str) -> Picture:
    with _pillow(limits.max_pixels):
        Image.init()
        try:
            image = Image.open(file, formats=[name for name in READABLE if name in Image.OPEN])
        except Image.UnidentifiedImageError as error:
            raise InvalidImage("not a picture in a known format", where=where, cause="read are NPY and "
                               + ", ".join(READABLE)) from error
        with image:
            check_size(*image.size, limits, where)
            check_depth(image, file, where)
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise Unsupported("the file holds several frames", where=where, frames=frames,
                                  cause="extract one of them first")
            image.load()
            samples = _samples(image, where)
            return Picture(samples, *(_metadata(image, name, where) for name in ("exif", "icc_profile", "xmp")))


def _samples(image: Image.Image, where: str) -> np.ndarray:
    if image.mode not in ("L", "RGB", "1", "P", "PA", "LA", "RGBA"):
        raise Unsupported("only eight-bit grey and RGB are coded", where=where, mode=image.mode,
                          cause="convert the picture first; the right way depends on its meaning")
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return np.array(image)
    if image.mode == "1" and "transparency" not in image.info:
        return np.array(image, dtype=np.uint8) * np.uint8(255)
    grey = image.mode in ("1", "L", "LA")
    with_alpha = np.asarray(image.convert("LA" if grey else "RGBA"))
    if with_alpha[:, :, -1].min() < 255:
        raise Unsupported("the picture is transparent", where=where, mode=image.mode,
                          cause="alpha is not coded; flatten the picture onto a background first")
    return np.ascontiguousarray(with_alpha[:, :, 0] if grey else with_alpha[:, :, :3])


def _metadata(image: Image.Image, name: str, where: str) -> bytes | None:
    data = image.info.get(name)
    if image.format == "TIFF" and name == "exif":
        return None
    data = data.encode() if isinstance(data, str) else data
    if not isinstance(data, bytes) or not data:
        return None
    if len(data) > MAX_METADATA_BYTES:
        raise LimitExceeded("the metadata is too long", where=where, kind=name, bytes=len(data),
                            allowed=MAX_METADATA_BYTES)
    return data.removeprefix(EXIF_PREFIX) if name == "exif" else data


# ---------------------------------------------------------------------------------------------------------- writing

def check_format(path: str | os.PathLike[str]) -> None:
    """Refuse a name whose extension names no picture format that is written; ``-`` is PNG.

    Raises
    ------
    Unsupported
        The extension is unknown.
    """
    _extension(path)


def _extension(path: str | os.PathLike[str]) -> str:
    extension = ".png" if os.fspath(path) == "-" else Path(path).suffix.lower()
    if extension not in _EXTENSIONS:
        raise Unsupported("no picture format has this extension", where=str(path), extension=extension,
                          cause="written are " + " ".join(sorted(_EXTENSIONS)))
    return extension


def write_picture(path: str | os.PathLike[str], picture: Picture, force: bool = False) -> tuple[str, ...]:
    """Write a picture in the format that the extension names; ``-`` is PNG on standard output.

    PNG, PPM/PGM, NPY, BMP, TIFF, TGA, QOI, WebP and JPEG 2000 are written without loss, JPEG (quality 95) and AVIF
    (quality 100) in 4:4:4. PNM files hold grey as P5 and RGB as P6.

    Parameters
    ----------
    path : str or path
        The target, written as `write_bytes` does.
    picture : Picture
        Samples uint8 [H, W] or [H, W, 3].
    force : bool
        Overwrite an existing file.

    Returns
    -------
    tuple of str
        Names of the metadata that the picture has and the format does not hold.

    Raises
    ------
    Unsupported
        Unknown extension, or the format cannot hold this picture or its metadata.
    UsageError
        The samples are not uint8 [H, W] or [H, W, 3].
    OutputError, TransferError
        As `write_bytes`.
    """
    extension = _extension(path)
    check_target(path, force)
    check_samples(picture.samples)
    name, options, kinds = _EXTENSIONS[extension]
    metadata = {kind: getattr(picture, kind) for kind in ("exif", "icc_profile", "xmp") if getattr(picture, kind)}
    if name == "PNM":
        data = _pnm(picture.samples, extension, str(path))
    elif name == "NPY":
        file = io.BytesIO()
        np.lib.format.write_array(file, np.ascontiguousarray(picture.samples), version=(1, 0), allow_pickle=False)
        data = file.getvalue()
    else:
        held = {kind: value for kind, value in metadata.items() if kind in kinds}
        data = _with_pillow(picture.samples, name, dict(options), held, str(path))
    write_bytes(path, data, force)
    return tuple(kind for kind in metadata if kind not in kinds)


def _pnm(samples: np.ndarray, extension: str, where: str) -> bytes:
    if extension == ".pgm" and samples.ndim == 3:
        raise Unsupported("PGM holds no colour", where=where, cause="name the output .ppm")
    magic = "P5" if samples.ndim == 2 else "P6"
    return f"{magic}\n{samples.shape[1]} {samples.shape[0]}\n255\n".encode() + samples.tobytes()


def _with_pillow(samples: np.ndarray, name: str, options: dict[str, Any], metadata: dict[str, bytes],
                 where: str) -> bytes:
    if "exif" in metadata:
        metadata["exif"] = EXIF_PREFIX + metadata["exif"]
    if name == "PNG" and "xmp" in metadata:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", metadata.pop("xmp"))
    file = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(samples)).save(file, name, **options, **metadata)
    except Exception as error:  # each writer has its own bounds and its own way to say so
        raise Unsupported(f"{name} cannot hold this picture", where=where, detail=detail_of(error),
                          cause="use another format, or strip the metadata") from error
    return file.getvalue()


# ----------------------------------------------------------------------------------------------------------- planes

def check_samples(samples: np.ndarray) -> None:
    """(SPEC 4.1) Refuse anything but uint8 [H, W] or [H, W, 3] with sides of 1..MAX_SIDE.

    Raises
    ------
    UsageError
        Another dtype or shape.
    """
    fits = isinstance(samples, np.ndarray) and samples.dtype == np.uint8 and samples.ndim in (2, 3) \
        and samples.shape[2:] in ((), (3,)) and 1 <= min(samples.shape[:2]) and max(samples.shape[:2]) <= MAX_SIDE
    if not fits:
        raise UsageError("a picture is uint8 [H, W] or [H, W, 3]", shape=list(np.shape(samples)),
                         dtype=str(getattr(samples, "dtype", type(samples).__name__)), max_side=MAX_SIDE)


def pad_samples(samples: np.ndarray) -> np.ndarray:
    """(SPEC 4.2) Samples to planes: grey becomes three equal channels, the last row and column are repeated.

    Parameters
    ----------
    samples : np.ndarray [H, W, 3] or [H, W], uint8
        The picture.

    Returns
    -------
    np.ndarray [Hp, Wp, 4], int16
        Values 0..255; Hp and Wp are the next multiples of 64. The fourth channel is zero: channels come in fours.

    Raises
    ------
    UsageError
        As `check_samples`.
    """
    check_samples(samples)
    height, width = samples.shape[:2]
    planes = np.empty((-(-height // PAD) * PAD, -(-width // PAD) * PAD, 4), np.int16)
    pad_rows(samples, 0, planes)
    return planes


def pad_rows(samples: np.ndarray, first: int, out: np.ndarray) -> None:
    """(SPEC 4.2) Rows ``first`` and on of ``pad_samples`` into out [n, Wp, 4], int16."""
    height, width = samples.shape[:2]
    there = max(0, min(height - first, out.shape[0]))
    source = samples if samples.ndim == 3 else samples[:, :, np.newaxis]
    out[:, :, 3] = 0
    out[:there, :width, :3] = source[first:first + there]
    out[there:, :width, :3] = source[height - 1]
    out[:, width:] = out[:, width - 1:width]


def crop_samples(planes: np.ndarray, height: int, width: int, channels: int) -> np.ndarray:
    """(SPEC 4.3) Planes to samples: the upper left part; grey is (R + 2 G + B + 2) >> 2.

    Parameters
    ----------
    planes : np.ndarray [Hp, Wp, 3], uint8
        The synthesised planes; Hp >= height, Wp >= width.
    height, width : int
        Size of the picture.
    channels : int
        1 or 3.

    Returns
    -------
    np.ndarray [height, width] or [height, width, 3], uint8
        A new array. The weighted sum is at most 4 * 255 + 2, so grey stays in 0..255.
    """
    cropped = planes[:height, :width, :3]
    if channels == 3:
        return np.ascontiguousarray(cropped)
    red, green, blue = (cropped[:, :, c].astype(np.uint16) for c in range(3))
    return ((red + 2 * green + blue + 2) >> 2).astype(np.uint8)
