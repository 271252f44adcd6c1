"""ICC profiles for colour descriptions that streams cannot carry: PNG gAMA and cHRM, and coding points (cICP, nclx).

A stream carries colour as an ICC profile or as none, which means sRGB. A description by primaries and a transfer curve
has an equivalent matrix profile. Its numbers are rounded to 2^-16, far below a step of eight bits.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from ..errors import Unsupported
from .files import detail_of

Curve = tuple[float, ...]
"""Parameters of an ICC parametric curve: (g,) is x^g; (g, a, b, c, d) is (a x + b)^g from d on and c x below."""

SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BT709_CURVE: Curve = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
SRGB_POINTS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""x and y of white, red, green and blue, as in cHRM."""

_POINTS = {
    1: SRGB_POINTS,
    2: SRGB_POINTS,
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
_CURVES = {
    1: _BT709_CURVE,
    2: SRGB_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: _BT709_CURVE,
    8: (1.0,),
    13: SRGB_CURVE,
    14: _BT709_CURVE,
    15: _BT709_CURVE,
}
"""Coding points of ITU-T H.273; 2 is "unspecified". PQ (16) and HLG (18) have no equivalent ICC curve."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB_TOLERANCE = 0.002
"""Distance from sRGB's points and exponent up to which PNG writers mean sRGB: they round to three or four digits."""


def profile_of_points(primaries: int, transfer: int, grey: bool, where: str) -> bytes | None:
    """Build the profile of a pair of H.273 coding points.

    Parameters
    ----------
    primaries, transfer : int
        ColourPrimaries and TransferCharacteristics of H.273.
    grey : bool
        The samples are grey.
    where : str
        The place that the error names.

    Returns
    -------
    bytes or None
        An ICC profile, None for sRGB.

    Raises
    ------
    Unsupported
        The pair has no equivalent profile, for instance PQ and HLG, whose samples need tone mapping.
    """
    if primaries not in _POINTS or transfer not in _CURVES:
        raise Unsupported(
            "the colour space is not supported",
            where=where,
            primaries=primaries,
            transfer=transfer,
            cause="HDR (PQ is transfer 16, HLG 18) or rare; convert the picture to sRGB first",
        )
    points, curve = _POINTS[primaries], _CURVES[transfer]
    return None if (points, curve) == (SRGB_POINTS, SRGB_CURVE) else _profile(points, curve, grey)


def profile_of_png(gamma: float | None, points: tuple[float, ...] | None, grey: bool) -> bytes | None:
    """Build the profile of gAMA and cHRM. Where one of them is absent, sRGB's is meant.

    Parameters
    ----------
    gamma : float or None
        The exponent of gAMA, about 1 / 2.2 for sRGB.
    points : tuple of 8 float or None
        x and y of white, red, green and blue, as in cHRM.
    grey : bool
        The samples are grey.

    Returns
    -------
    bytes or None
        An ICC profile, None for sRGB.

    Raises
    ------
    ValueError
        The values describe no colour space.
    """
    if gamma is not None and not 0.1 <= gamma <= 10:
        raise ValueError(f"gamma {gamma}")
    srgb_points = points is None or max(abs(a - b) for a, b in zip(points, SRGB_POINTS, strict=True)) < _SRGB_TOLERANCE
    if srgb_points and (gamma is None or abs(gamma - 1 / 2.2) < _SRGB_TOLERANCE):
        return None
    return _profile(
        SRGB_POINTS if srgb_points else points or SRGB_POINTS, SRGB_CURVE if gamma is None else (1 / gamma,), grey
    )


def srgb_of(image: Any, profile: bytes | None, where: str) -> Any:
    """Convert a CMYK picture to sRGB through its profile: relative colorimetric, with black point compensation.

    Parameters
    ----------
    image : PIL.Image.Image
        Of mode CMYK.
    profile : bytes or None
        Its ICC profile.
    where : str
        The place that errors name.

    Returns
    -------
    PIL.Image.Image
        Of mode RGB.

    Raises
    ------
    Unsupported
        There is no profile, it is damaged or for other colours, or this Pillow has no LittleCMS.
    """
    cause = "assign the profile of the press it was made for, or convert the picture to sRGB first"
    if not profile:
        what = "the picture has no ICC profile for CMYK, so its colours are not defined"
        raise Unsupported(what, where=where, cause=cause)
    if profile[36:40] != b"acsp":  # the signature of every ICC profile
        raise Unsupported(
            "the picture's ICC profile is damaged, so its CMYK colours are not defined",
            where=where,
            bytes=len(profile),
            begins=profile[:8].hex(),
            cause=f"it is none, or a program has damaged it: {cause}",
        )
    if (space := profile[16:20]) != b"CMYK":
        raise Unsupported(
            "the picture is CMYK, its ICC profile is not",
            where=where,
            space=space.decode("latin-1").strip(),
            cause=cause,
        )
    from PIL import ImageCms

    try:
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        return ImageCms.profileToProfile(image, source, target, intent, "RGB", flags=flags)
    except (ImportError, OSError, ImageCms.PyCMSError) as error:
        raise Unsupported(
            "the picture's ICC profile cannot be used to convert its CMYK colours",
            where=where,
            bytes=len(profile),
            detail=detail_of(error),
            cause=f"the profile is damaged or holds no way from CMYK, or this Pillow has no LittleCMS: {cause}",
        ) from error


def _fixed(values: np.ndarray | Curve) -> bytes:
    """Numbers as ICC's s15Fixed16."""
    rounded = np.rint(np.asarray(values, np.float64).ravel() * 65536)
    if not (np.abs(rounded) < 2**31).all():  # false for NaN, too
        raise ValueError("colour out of range")
    return rounded.astype(">i4").tobytes()


def _columns(points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Adaptation from the white point to D50, and the adapted XYZ of red, green and blue as columns."""
    xy = np.array(points, np.float64).reshape(4, 2)
    if not (xy[:, 1] > 0).all():
        raise ValueError("a chromaticity with y = 0")
    xyz = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(1)) / xy[:, 1]])
    white, primaries = xyz[:, 0], xyz[:, 1:]
    try:
        scaled = primaries * np.linalg.solve(primaries, white)
        cone = _BRADFORD @ white
        adaptation = np.linalg.solve(_BRADFORD, np.diag(_BRADFORD @ _D50 / cone) @ _BRADFORD)
    except np.linalg.LinAlgError as error:
        raise ValueError("primaries on one line") from error
    return adaptation, adaptation @ scaled


def _profile(points: tuple[float, ...], curve: Curve, grey: bool) -> bytes:
    """A version 4.3 display profile of a matrix (RGB) or of a curve alone (grey)."""
    with np.errstate(all="ignore"):  # what is not finite is refused by _fixed
        adaptation, columns = _columns(points)

    def text(words: str) -> bytes:
        head = struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, 2 * len(words), 28)  # one record, en-US
        return b"mluc" + head + words.encode("utf-16-be")

    def xyz(values: np.ndarray) -> bytes:
        return b"XYZ " + bytes(4) + _fixed(values)

    parametric = b"para" + struct.pack(">IHH", 0, 0 if len(curve) == 1 else 3, 0) + _fixed(curve)
    tags = {
        b"desc": text("made by refcodec from a picture's colour description"),
        b"cprt": text("no copyright"),
        b"wtpt": xyz(_D50),
        b"chad": b"sf32" + bytes(4) + _fixed(adaptation),
    }
    if grey:
        tags[b"kTRC"] = parametric
    else:
        tags |= {name: xyz(columns[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), parametric)
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        ">I4xI4s4s4s6H4s",
        at + len(body),
        0x04300000,
        b"mntr",
        b"GRAY" if grey else b"RGB ",
        b"XYZ ",
        2000,
        1,
        1,
        0,
        0,
        0,
        b"acsp",
    )
    head += bytes(24) + struct.pack(">I", 1) + _fixed(_D50)  # relative colorimetric, illuminant D50
    return head.ljust(128, b"\0") + table + body
