"""Results of a batch by file: as JSON, as a table, as a page."""

from __future__ import annotations

import csv
import html
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..io.files import write_bytes


@dataclass
class Row:
    """Result of a file.

    Attributes
    ----------
    source, target : str
    state : str
        "done", "skipped" (it was done before and is right) or "failed".
    error, message : str
        Class and line of the failure, "" for none.
    notes : list of str
        Messages on the way, for instance what a format cannot hold.
    facts : dict
        What ``encode --json`` or ``decode --json`` says.
    sha256 : tuple of str
        Of input and output.
    """

    source: str
    target: str
    state: str = "done"
    error: str = ""
    message: str = ""
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    sha256: tuple[str, ...] = ()


def report(rows: Sequence[Row], seconds: float) -> dict[str, Any]:
    """Everything as JSON: counts by state, totals, and a row for every file."""
    count = Counter(row.state for row in rows)
    return {
        "version": __version__,
        **{state: count[state] for state in ("done", "skipped", "failed")},
        "seconds": seconds,
        "per_second": (count["done"] + count["failed"]) / seconds if seconds else None,
        "files": [asdict(row) for row in rows],
    }


_COLUMNS = ("source", "target", "state", "error", "message")
_FACTS = ("width", "height", "quality", "bytes", "bits_per_pixel", "psnr", "verified", "seconds")


def as_csv(rows: Sequence[Row]) -> str:
    """A line for every file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*_COLUMNS, *_FACTS))
    for row in rows:
        writer.writerow([getattr(row, name) for name in _COLUMNS] + [row.facts.get(name, "") for name in _FACTS])
    return text.getvalue()


def as_html(rows: Sequence[Row], seconds: float) -> str:
    """One page without anything from elsewhere: counts, failures, a table of all files."""
    whole = report(rows, seconds)

    def cell(value: object) -> str:
        shown = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        return f"<td>{html.escape(shown)}</td>"

    lines = [
        f"<tr class={row.state}>"
        + "".join(cell(getattr(row, name)) for name in _COLUMNS)
        + "".join(cell(row.facts.get(name)) for name in _FACTS)
        + "</tr>"
        for row in rows
    ]
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in (*_COLUMNS, *_FACTS))
    return (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>refcodec batch</title><style>"
        "body{font:14px sans-serif}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:2px 6px}"
        ".failed{background:#fdd}.skipped{color:#777}</style>"
        f"<p>{whole['done']} done, {whole['skipped']} were done before, {whole['failed']} failed, {seconds:.1f} s</p>"
        f"<table><tr>{head}</tr>{''.join(lines)}</table></html>\n"
    )


def save(path: str, rows: Sequence[Row], seconds: float, force: bool) -> None:
    """Write a report in the format that the name's suffix names.

    Parameters
    ----------
    path : str
        Ends in .json, .csv or .html.
    rows : sequence of Row
    seconds : float
        Of the whole batch.
    force : bool
        Replace an existing file.

    Raises
    ------
    OutputError, TransferError
        As `write_bytes`.
    """
    text = {
        ".json": lambda: json.dumps(report(rows, seconds), indent=1, allow_nan=False) + "\n",
        ".csv": lambda: as_csv(rows),
        ".html": lambda: as_html(rows, seconds),
    }[Path(path).suffix.lower()]()
    write_bytes(path, text.encode(), force)
