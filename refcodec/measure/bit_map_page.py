"""The page of ``info STREAM --html``: the map of bits over the picture, and tables of parts, tiles and rectangles."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..tiles import STRIDE
from .bit_map import BitMap, parts_of
from .page import document, picture_source, table

EIGHTHS = 8
"""Maps are in the page as whole eighths of a bit, uint16."""

MOST_ROWS = 200
"""Rows of the tables of tiles and rectangles; the most expensive come first."""

_STYLE = """
#stage { position: relative; display: inline-block; line-height: 0; border: 1px solid #bbb;
  background: repeating-conic-gradient(#ccc 0 25%, #fff 0 50%) 0 0 / 16px 16px }
#stage * { position: absolute; left: 0; top: 0; image-rendering: pixelated }
#picture { outline: 1px solid #08f }
#scale { display: inline-block; width: 12em; height: 1em; vertical-align: middle;
  background: linear-gradient(to right, #000, #f00 33%, #ff0 67%, #fff) }
#read { min-height: 1.3em; font-variant-numeric: tabular-nums }
td { text-align: right } td:first-child { text-align: left }
.bar { text-align: left; width: 16em } .bar i { display: block; height: 1em; background: #48c }
.tables { display: flex; flex-wrap: wrap; gap: 2em; align-items: flex-start }
"""

_SCRIPT = """
const get = (id) => document.getElementById(id);
const layers = {};
for (const [name, text] of Object.entries(facts.layers)) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  layers[name] = Array.from({ length: bytes.length / 2 }, (_, n) => (bytes[2 * n] + 256 * bytes[2 * n + 1]) / 8);
}
const [canvas, stage, picture] = ["map", "stage", "picture"].map(get);
canvas.width = facts.columns; canvas.height = facts.rows;
const context = canvas.getContext("2d");
const shown = (value) => value.toFixed(value < 10 ? 2 : 1);
function draw() {
  const bits = layers[get("layer").value] || [], most = bits.reduce((a, b) => Math.max(a, b), 0);
  const image = context.createImageData(canvas.width, canvas.height);
  bits.forEach((value, n) => {
    const heat = most ? 765 * value / most : 0;
    image.data.set([heat, heat - 255, heat - 510, 255], 4 * n);
  });
  context.putImageData(image, 0, 0);
  canvas.style.opacity = get("opacity").value;
  get("most").textContent = `${shown(most)} bits, ${shown(most / 256)} per pixel`;
}
function size() {
  const zoom = Number(get("zoom").value);
  for (const each of [stage, canvas]) {
    each.style.width = `${16 * zoom * facts.columns}px`; each.style.height = `${16 * zoom * facts.rows}px`;
  }
  picture.style.width = `${zoom * facts.width}px`; picture.style.height = `${zoom * facts.height}px`;
}
stage.addEventListener("pointermove", (event) => {
  const box = stage.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) / box.width * facts.columns);
  const row = Math.floor((event.clientY - box.top) / box.height * facts.rows);
  if (column < 0 || row < 0 || column >= facts.columns || row >= facts.rows) return;
  get("read").textContent = `samples ${16 * column}, ${16 * row}: ` + Object.entries(layers)
    .map(([name, bits]) => `${name} ${shown(bits[row * facts.columns + column])}`).join(", ") + " bits";
});
for (const id of ["layer", "opacity"]) get(id).addEventListener("input", draw);
get("zoom").addEventListener("input", size);
size(); draw();
"""


def _encoded(bits: NDArray[np.float32]) -> str:
    """A map as base64 of little-endian uint16."""
    return base64.b64encode(np.clip(np.rint(bits * EIGHTHS), 0, 65535).astype("<u2").tobytes()).decode()


def _parts_table(found: BitMap) -> str:
    """Bytes of every part of the stream, with bars."""
    parts, total = parts_of(found), len(found.stream.data)
    most = max(size for _, size in parts)
    rows = "".join(
        f"<tr><td>{html.escape(name)}<td>{size:.{0 if size == int(size) else 1}f}<td>{100 * size / total:.1f} %"
        f'<td class=bar><i style="width:{max(0.0, 100 * size / most):.1f}%"></i>'
        for name, size in parts
    )
    return (
        "<table id=parts><caption>Parts of the stream</caption><tr><th>part<th>bytes<th>share<th>"
        f"{rows}<tr><td>stream<td>{total}<td>100 %<td></table>\n"
    )


def _tiles_table(found: BitMap) -> str:
    """Bytes of every tile, the most expensive per pixel first."""
    rows: list[tuple[float, Sequence[object]]] = []
    for tile, entry in zip(map(found.grid.tile, range(found.grid.count)), found.stream.index, strict=True):
        samples, size = STRIDE * STRIDE * tile.height * tile.width, entry.z_length + entry.y_length
        place = f"{STRIDE * tile.left}, {STRIDE * tile.top}"
        shape = f"{STRIDE * tile.width} x {STRIDE * tile.height}"
        row = (tile.index, place, shape, entry.z_length, entry.y_length, f"{8 * size / samples:.3f}")
        rows.append((size / samples, row))
    rows.sort(key=lambda row: -row[0])
    caption = "Tiles, the most expensive first" + (f": {MOST_ROWS} of {len(rows)}" if len(rows) > MOST_ROWS else "")
    head = ("tile", "place", "samples", "bytes of z", "bytes of y", "bits per pixel")
    return table(caption, head, (row for _, row in rows[:MOST_ROWS]))


def _rectangles_table(found: BitMap) -> str:
    """Bytes of every rectangle that is stored without loss, the largest first."""
    ordered = sorted(found.rectangles, key=lambda item: -item[1])
    caption = "Stored without loss" + (f": {MOST_ROWS} of {len(ordered)}" if len(ordered) > MOST_ROWS else "")
    rows = (
        (f"{r.x}, {r.y}", f"{r.width} x {r.height}", size, f"{8 * size / (r.width * r.height):.3f}")
        for r, size in ordered[:MOST_ROWS]
    )
    return table(caption, ("place", "samples", "bytes", "bits per pixel"), rows)


def bit_map_page(found: BitMap, name: str) -> bytes:
    """The page.

    Parameters
    ----------
    found : BitMap
    name : str
        What the stream is called.

    Returns
    -------
    bytes
        HTML in UTF-8.
    """
    header, layers = found.stream.header, found.layers
    size = len(found.stream.data)
    facts = {
        "columns": found.grid.width,
        "rows": found.grid.height,
        "width": header.width,
        "height": header.height,
        "layers": {name: _encoded(bits) for name, bits in layers.items()},
    }
    how = "without loss" if header.lossless else f"quality {header.quality}"
    reduced = f" The picture is shown reduced by {found.step}." if found.step > 1 else ""
    estimate = " Inside a rectangle that is stored without loss, shares are estimates." if found.rectangles else ""
    zoom = 1000 // header.width or max(0.05, round(1000 / header.width, 2))
    body = (
        f"<p><b>{html.escape(name)}</b>: {header.width} x {header.height}, {how}, {size} bytes, "
        f"{8 * size / (header.width * header.height):.4f} bits per pixel.</p>\n"
        f"<p>Bits of every 16 x 16 samples by the coder's tables. The blue frame is the picture; what is outside is "
        f"padding.{estimate}{reduced}</p>\n"
        "<p><label>Bits of <select id=layer>"
        + "".join(f"<option>{html.escape(layer)}</option>" for layer in layers)
        + "</select></label> <label>Opacity <input id=opacity type=range min=0 max=1 step=0.05 value=0.7></label> "
        f"<label>Scale <input id=zoom type=number value={zoom} min=0.05 max=1000 step=0.05></label> "
        "0 <span id=scale></span> <span id=most></span></p>\n"
        f'<div id=stage><img id=picture alt="the picture" src="{picture_source(found.picture)}">'
        "<canvas id=map></canvas></div>\n<p id=read>Move the pointer over the map to read it.</p>\n"
        f"<div class=tables>{_parts_table(found)}"
        + (_tiles_table(found) if found.stream.index else "")
        + (_rectangles_table(found) if found.rectangles else "")
        + "</div>\n"
    )
    return document(f"Bits of {name}", _STYLE, body, f"const facts = {json.dumps(facts)};{_SCRIPT}")


__all__ = ["bit_map_page"]
