"""Pages to look at: what all of them share, and ``compare A B --html``.

A page needs nothing from elsewhere: pictures are in it as PNG, and it has at most one script of a few lines. The page
of ``compare`` shows two pictures under a slider, where they differ, and the numbers.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .metrics import heatmap

BASE_STYLE = """
body { font: 15px sans-serif; margin: 1em; color: #222; background: #eee }
table { border-collapse: collapse; margin: 1em 0 } td, th { border: 1px solid #bbb; padding: 2px 8px }
caption { font-weight: bold }
"""

_STYLE = """
#stage { position: relative; display: inline-block; line-height: 0; cursor: ew-resize;
  background: repeating-conic-gradient(#ccc 0 25%, #fff 0 50%) 0 0 / 16px 16px }
#stage img { image-rendering: pixelated }
#stage img + img { position: absolute; left: 0; top: 0 }
#line { position: absolute; top: 0; bottom: 0; width: 1px; background: #f00; pointer-events: none }
"""

_SCRIPT = """
const get = (id) => document.getElementById(id);
const [stage, top_, line, zoom] = ["stage", "second", "line", "zoom"].map(get);
let share = 0.5;
function draw() {
  const scale = Number(zoom.value);
  for (const image of stage.querySelectorAll("img")) image.width = image.naturalWidth * scale;
  top_.style.clipPath = `inset(0 0 0 ${100 * share}%)`;
  line.style.left = `${100 * share}%`;
}
stage.addEventListener("pointermove", (event) => {
  const box = stage.getBoundingClientRect();
  share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  draw();
});
addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
  if (step) { share = Math.min(1, Math.max(0, share + step)); draw(); }
});
for (const id of ["zoom", "map"]) get(id).addEventListener("input", draw);
const plain = top_.src;
get("map").addEventListener("input", () => { top_.src = get("map").checked ? get("difference").src : plain; });
addEventListener("load", draw);
"""


def picture_source(samples: NDArray[np.uint8]) -> str:
    """A picture [H, W] or [H, W, C] as the text of a ``data:`` address."""
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def document(title: str, style: str, body: str, script: str = "") -> bytes:
    """A whole page.

    Parameters
    ----------
    title : str
        Plain text; the other parts are code.
    style, body, script : str
        CSS in addition to what all pages share, HTML and JavaScript.

    Returns
    -------
    bytes
        HTML in UTF-8.
    """
    code = f"<script>{script}</script>" if script else ""
    return (
        f"<!DOCTYPE html>\n<html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>\n"
        f"<style>{BASE_STYLE}{style}</style>\n{body}{code}</html>\n"
    ).encode("utf-8", "backslashreplace")  # names of files may hold what is no text


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as HTML. All texts are escaped.

    Parameters
    ----------
    caption : str
    head : sequence of str
        Column heads.
    rows : iterable of sequence
        Cells; ``str`` is applied to each.

    Returns
    -------
    str
        HTML.
    """
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}" for cell in row) for row in rows)
    heads = "".join(f"<th>{html.escape(name)}" for name in head)
    return f"<table><caption>{html.escape(caption)}</caption><tr>{heads}{lines}</table>\n"


def comparison_page(
    a: NDArray[np.uint8], b: NDArray[np.uint8], names: tuple[str, str], numbers: Mapping[str, Any]
) -> bytes:
    """The page.

    Parameters
    ----------
    a, b : uint8 [H, W] or [H, W, C]
        Of one shape.
    names : (str, str)
        What they are called.
    numbers : mapping of str to object
        Rows of the table.

    Returns
    -------
    bytes
        HTML in UTF-8.
    """
    rows = "".join(
        f"<tr><td>{html.escape(name.replace('_', ' '))}<td>{html.escape(str(value))}" for name, value in numbers.items()
    )
    first, second = map(html.escape, names)
    body = (
        f"<p>Left: <b>{first}</b>. Right: <b>{second}</b>. Move the pointer, or press the arrow keys.</p>\n"
        "<p><label>Scale <input id=zoom type=number value=1 min=0.25 max=16 step=0.25></label> "
        "<label><input id=map type=checkbox> Differences on the right, white where a pixel differs most</label></p>\n"
        f'<div id=stage><img id=first alt="{first}" src="{picture_source(a)}">'
        f'<img id=second alt="{second}" src="{picture_source(b)}"><div id=line></div></div>\n'
        f'<img id=difference hidden alt="" src="{picture_source(heatmap(a, b))}">\n'
        f"<table>{rows}</table>\n"
    )
    return document(f"{names[0]} and {names[1]}", _STYLE, body, _SCRIPT)


__all__ = ["comparison_page", "document", "picture_source", "table"]
