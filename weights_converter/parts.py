"""A large file in parts that fit where files are limited, and back: ``parts split`` and ``parts join``.

The list of parts is written last. It holds the size and SHA-256 of every part and of the file, so a set of parts of two
states, or one of which a part is missing, is refused with the name of the part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refcodec.errors import InvalidModel, MissingInput, OutputError, UsageError
from refcodec.io.files import check_target, read_bytes, write_bytes
from refcodec.io.strict_json import json_object

LIST = "parts.json"


def split_file(source: Path, folder: Path, most: int) -> list[str]:
    """Cut a file into parts.

    Existing parts with the same content are not written again, so their times show which are new.

    Parameters
    ----------
    source : Path
    folder : Path
        Receives the parts and their list.
    most : int
        Bytes of a part, at most.

    Returns
    -------
    list of str
        Names of the parts in their order.

    Raises
    ------
    UsageError, MissingInput, TransferError, OutputError
    """
    if most < 1:
        raise UsageError("a part has one byte at least", where="--mib")
    data = memoryview(read_bytes(source))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("the folder cannot be made", where=str(folder), cause=error.strerror or "") from error
    parts: list[dict[str, Any]] = []
    for n, start in enumerate(range(0, max(1, len(data)), most)):
        part = data[start : start + most]
        name, digest = f"{source.name}.{n:03d}", hashlib.sha256(part).hexdigest()
        path = folder / name
        if not path.is_file() or hashlib.sha256(read_bytes(path)).hexdigest() != digest:
            write_bytes(path, bytes(part), force=True)
        parts.append({"name": name, "bytes": len(part), "sha256": digest})
    whole = {"name": source.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "parts": parts}
    write_bytes(folder / LIST, json.dumps(whole, indent=1).encode(), force=True)
    return [str(part["name"]) for part in parts]


def join_file(folders: Sequence[Path], out: Path, force: bool = False) -> int:
    """Join the parts of a file.

    Parameters
    ----------
    folders : sequence of Path
        Each part is taken from the first folder that has it with the right content.
    out : Path
    force : bool
        Overwrite an existing file.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    MissingInput
        There is no list, or a part is in no folder.
    InvalidModel
        The list is none, or the whole differs from it.
    OutputError, TransferError
    """
    check_target(out, force)
    lists = [folder / LIST for folder in folders if (folder / LIST).is_file()]
    if not lists:
        raise MissingInput("no list of parts", where=", ".join(map(str, folders)), name=LIST)
    known = json_object(read_bytes(lists[0]), str(lists[0]), "the list of parts")
    try:
        pieces = [_part(folders, Path(part["name"]).name, part["sha256"]) for part in known["parts"]]
        wanted = known["sha256"]
    except (KeyError, TypeError) as error:
        raise InvalidModel("not a list of parts", where=str(lists[0]), reason=str(error)[:100]) from error
    data = b"".join(pieces)
    if hashlib.sha256(data).hexdigest() != wanted:
        raise InvalidModel("the parts do not make the file", where=str(lists[0]), bytes=len(data))
    write_bytes(out, data, force)
    return len(data)


def _part(folders: Sequence[Path], name: str, digest: str) -> bytes:
    for folder in folders:
        if (folder / name).is_file() and hashlib.sha256(data := read_bytes(folder / name)).hexdigest() == digest:
            return data
    raise MissingInput(
        "a part is missing, or is of another state",
        where=name,
        folders=[str(folder) for folder in folders],
        sha256=digest,
        cause="fetch it again",
    )


__all__ = ["join_file", "split_file"]
