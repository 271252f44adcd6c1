"""A report as a readable table and as one self-contained HTML page with drawings in SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .evaluate import bd_text

Report = Mapping[str, Any]

_COLUMNS = ("name", "format", "limit", "snr_db", "loss_db", "clip_rate", "weight_bits", "shift", "margin_bits")
_TITLES = ("layer", "format", "clamp", "SNR dB", "loss dB", "clipped", "weight bits", "shift", "margin bits")
_COLOURS = {"g_a": "#2a6f97", "h_a": "#61a5c2", "h_s": "#89c2d9", "g_s": "#bc4749"}
_OTHER = "#7a9e5f"


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key == "clip_rate":
        return f"{value:.1e}" if value else "0"
    if key == "shift":
        return f"{value[0]}..{value[1]}"
    return str(value)


def _summary(report: Report) -> list[str]:
    codec = report["codec"]
    return [
        f"model {report['fingerprint']}",
        f"{len(report['pictures'])} pictures: "
        + ", ".join(f"{p['name']} {p['size'][0]}x{p['size'][1]}" for p in report["pictures"]),
        f"BD-rate against float: {bd_text(codec['bd_rate'])}",
        f"coded bits over estimated bits: {codec['bits_ratio']:.5f}, over bits by tables: {codec['tables_ratio']:.5f}",
        "lowest signal-to-noise ratio: " + ", ".join(report["lowest_snr"]),
        "largest loss against inputs: " + ", ".join(report["largest_loss"]),
        *(f"note: {note}" for note in report["notes"]),
    ]


def as_text(report: Report) -> str:
    """A table of every layer under a summary."""
    rows = [_TITLES, *(tuple(_cell(key, row[key]) for key in _COLUMNS) for row in report["layers"])]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    codec = report["codec"]
    points = [
        f"quality {step}: float {fb:.4f} bpp {fp:.3f} dB, integer {ib:.4f} bpp {ip:.3f} dB"
        for step, fb, fp, ib, ip in zip(
            codec["steps"],
            codec["float_bpp"],
            codec["float_psnr"],
            codec["integer_bpp"],
            codec["integer_psnr"],
            strict=True,
        )
    ]
    return "\n".join([*_summary(report), *points, "", *lines, ""])


def _frame(width: int, height: int, body: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">{"".join(body)}</svg>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _bars(rows: Sequence[Mapping[str, Any]], key: str, unit: str) -> str:
    """One bar a layer in the order of the codec; its title names layer and value."""
    values = [(r["name"], r[key]) for r in rows if r[key] is not None]
    if not any(value for _, value in values):
        return "<p>none</p>"
    top = max((v for _, v in values), default=1.0) or 1.0
    step, height, left = max(2.0, min(12.0, 1100 / max(len(values), 1))), 180.0, 46.0
    body = [
        _text(
            left,
            height + 24,
            f"{unit}; one bar per layer in the order of the codec, names in the table and under the pointer",
        )
    ]
    for n, (part, colour) in enumerate((*_COLOURS.items(), ("entropy model", _OTHER))):
        body.append(f'<g fill="{colour}">{_text(left + 110 * n, height + 42, part)}</g>')
    for n in range(5):
        y = 10 + height * (1 - n / 4)
        body += [
            f'<path d="M{left} {y:.1f}h{step * len(values):.1f}" stroke="#ddd"/>',
            _text(left - 4, y + 4, f"{top * n / 4:.3g}", "end"),
        ]
    for n, (name, value) in enumerate(values):
        tall = max(0.0, height * value / top)
        colour = _COLOURS.get(name.split("/")[0], _OTHER)
        body.append(
            f'<rect x="{left + n * step:.1f}" y="{10 + height - tall:.1f}" width="{step * 0.8:.1f}" '
            f'height="{tall:.1f}" fill="{colour}"><title>{escape(name)}: {value:.4g} {unit}</title></rect>'
        )
    return _frame(max(620, int(left + step * len(values) + 10)), int(height + 48), body)


def _curves(codec: Mapping[str, Any]) -> str:
    """Rate and distortion of both codecs."""
    names = (("float", _COLOURS["g_a"]), ("integer", _COLOURS["g_s"]))
    rates = [r for name, _ in names for r in codec[f"{name}_bpp"]]
    values = [v for name, _ in names for v in codec[f"{name}_psnr"]]
    low, high = min(values) - 0.5, max(values) + 0.5

    def place(rate: float, value: float) -> tuple[float, float]:
        return 46 + 440 * rate / max(rates), 10 + 220 * (high - value) / (high - low)

    body = [
        '<path d="M46 10v220h440" fill="none" stroke="#888"/>',
        _text(266, 262, "bits per pixel", "middle"),
        _text(42, 16, f"{high:.1f} dB", "end"),
        _text(42, 230, f"{low:.1f}", "end"),
        _text(486, 246, f"{max(rates):.3f}", "end"),
    ]
    for n, (name, colour) in enumerate(names):
        points = [place(r, v) for r, v in zip(codec[f"{name}_bpp"], codec[f"{name}_psnr"], strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        body += [
            f'<polyline points="{path}" fill="none" stroke="{colour}"/>',
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points),
            f'<g fill="{colour}">{_text(400, 190 + 16 * n, name)}</g>',
        ]
    return _frame(520, 270, body)


def as_html(report: Report) -> str:
    """One page without anything from elsewhere: summary, drawings, table."""
    head = "".join(f"<th>{escape(t)}</th>" for t in _TITLES)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(k, row[k]))}</td>" for k in _COLUMNS) + "</tr>" for row in report["layers"]
    )
    drawings = "".join(
        f"<h2>{escape(title)}</h2>{_bars(report['layers'], key, unit)}"
        for title, key, unit in (
            ("Signal-to-noise ratio against float", "snr_db", "dB"),
            ("Results on their clamp", "clip_rate", "of all"),
            ("Accumulators: bits below 2^31", "margin_bits", "bits"),
        )
    )
    summary = "".join(f"<li>{escape(line)}</li>" for line in _summary(report))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Conversion report</title><style>'
        "body{font:14px sans-serif;margin:2em;max-width:1200px}svg text{font:11px sans-serif}"
        "table{border-collapse:collapse}td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #ddd}"
        "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}</style>"
        f"<h1>Conversion report</h1><ul>{summary}</ul>{drawings}"
        f"<h2>Rate and distortion</h2>{_curves(report['codec'])}"
        f"<h2>Layers</h2><table><tr>{head}</tr>{body}</table></html>\n"
    )
