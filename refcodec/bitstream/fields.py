"""The header's field table (SPEC 8.1): one tuple drives writing, reading and ``info``."""

from __future__ import annotations

import operator
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, TypeAlias

from ..errors import BadMagic, HeaderError, RefcodecError, UnknownVersion, UsageError
from ..limits import MAX_SIDE

Buffer: TypeAlias = bytes | bytearray | memoryview

MAGIC = b"\x89LIC"
VERSION = 1
DIGEST_FLAG = 1
LOSSLESS_FLAG = 2
FINGERPRINT_BYTES = 16
DIGEST_BYTES = 16


@dataclass(frozen=True)
class Field:
    """One header field.

    Attributes
    ----------
    name : str
        Its name, in the table of SPEC 8.1 and in messages.
    offset : int
        Its first byte.
    code : str
        Its ``struct`` code, read as little-endian.
    allowed : range, tuple or None
        The values SPEC 8.1 allows, None for any.
    meaning : str
        What it says, with its unit.
    error : type
        What another value raises when reading.
    cause : str
        The likely cause of another value.
    causes : dict
        Likely causes of particular values, where they are known better.
    flag : int
        The bit of ``flags`` that announces the field, 0 where it is always there.
    """

    name: str
    offset: int
    code: str
    allowed: range | tuple[int | bytes, ...] | None
    meaning: str
    error: type[RefcodecError] = HeaderError
    cause: str = "the stream is damaged or its writer is faulty"
    causes: Mapping[int, str] = dataclass_field(default_factory=dict)
    flag: int = 0

    @property
    def end(self) -> int:
        """The offset of the first byte after the field."""
        return self.offset + struct.calcsize("<" + self.code)

    @property
    def allowed_text(self) -> str:
        """The allowed values in words."""
        if isinstance(self.allowed, range):
            return f"{self.allowed.start}..{self.allowed.stop - 1}"
        if isinstance(self.allowed, tuple):
            return " or ".join(str(shown(value)) for value in self.allowed)
        return f"any {self.end - self.offset} bytes"


FIELDS = (
    Field(
        "magic", 0, "4s", (MAGIC,), "marks a refcodec stream", BadMagic, "this is another kind of file, or an empty one"
    ),
    Field(
        "version",
        4,
        "B",
        (VERSION,),
        "format version",
        UnknownVersion,
        "a later version of refcodec wrote it, or the byte is damaged",
        {0: "it was written before the format's version 1; encode the original picture again"},
    ),
    Field(
        "flags",
        5,
        "B",
        range(4),
        "bit 0: the digest is present; bit 1: the whole picture is stored without loss; the others are reserved",
    ),
    Field("channels", 6, "B", (1, 3), "colour samples per pixel: grey or RGB"),
    Field("quality", 7, "B", range(101), "quality 1..100; 0 if the picture is stored without loss"),
    Field("width", 8, "I", range(1, MAX_SIDE + 1), "width in pixels"),
    Field("height", 12, "I", range(1, MAX_SIDE + 1), "height in pixels"),
    Field(
        "fingerprint",
        16,
        f"{FINGERPRINT_BYTES}s",
        None,
        "fingerprint of the model that decodes the stream; zero if it is stored without loss",
    ),
    Field("tile_width", 32, "B", range(256), "width of a tile in units of 64 samples; 0: the picture is one tile"),
    Field("tile_height", 33, "B", range(256), "height of a tile in units of 64 samples; 0: the picture is one tile"),
    Field("depth", 34, "B", (8,), "bits per sample", cause="the stream is damaged, or a later version wrote it"),
    Field("reserved", 35, "B", (0,), "reserved"),
    Field("digest", 36, f"{DIGEST_BYTES}s", None, "digest of the decoded samples", flag=DIGEST_FLAG),
)
"""The header's fields in the order of their bytes and of their checks (SPEC 8.1)."""

MAGIC_FIELD, VERSION_FIELD = FIELDS[:2]

FIXED_SIZE = max(field.end for field in FIELDS if not field.flag)
"""Bytes of the header without the digest: 36."""

HEADER_SIZE = max(field.end for field in FIELDS)
"""Bytes of the longest header: 52."""


def as_view(data: Buffer, what: str = "a stream") -> memoryview:
    """(SPEC 8) View ``data`` as flat bytes; UsageError if it is not bytes-like and contiguous."""
    try:
        return memoryview(data).cast("B")
    except (TypeError, ValueError):  # not a buffer, or one whose items are no plain numbers
        is_path = isinstance(data, (str, os.PathLike))
        raise UsageError(
            f"{what} is a bytes-like object",
            type=type(data).__name__,
            cause="read the file first: pathlib.Path(name).read_bytes()" if is_path else "",
        ) from None


def shown(value: int | bytes) -> int | str:
    """(SPEC 8.1) Put a field's value into the form for messages and JSON: bytes as hexadecimal digits."""
    return value.hex() if isinstance(value, bytes) else value


def check(field: Field, value: int | bytes) -> None:
    """(SPEC 8.1) Raise ``field.error`` unless the field table allows ``value``."""
    if field.allowed is not None and value not in field.allowed:
        raise field.error(
            f"the header field {field.name} has a value that is not allowed",
            where=f"byte {field.offset} (SPEC 8.1)",
            cause=field.causes.get(value, field.cause) if isinstance(value, int) else field.cause,
            field=field.name,
            value=shown(value),
            allowed=field.allowed_text,
        )


def unpack(field: Field, view: memoryview) -> Any:
    """(SPEC 8.1) Read the field's value, an int or bytes, unchecked; ``view`` holds the whole field."""
    return struct.unpack_from("<" + field.code, view, field.offset)[0]


def pack(field: Field, value: Any) -> bytes:
    """(SPEC 8.1) Write the field's bytes; UsageError if ``value`` has a wrong type or is not allowed."""
    is_bytes = field.code.endswith("s")
    try:
        value = bytes(memoryview(value)) if is_bytes else operator.index(value)
    except TypeError:
        raise UsageError(
            f"{field.name} has a wrong type", type=type(value).__name__, allowed=field.allowed_text
        ) from None
    if is_bytes and len(value) != field.end - field.offset:
        raise UsageError(f"{field.name} has a wrong length", bytes=len(value), allowed=field.allowed_text)
    if field.allowed is not None and value not in field.allowed:
        raise UsageError(f"{field.name} is out of range", value=shown(value), allowed=field.allowed_text)
    return struct.pack("<" + field.code, value)
