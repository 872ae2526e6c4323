"""One self-contained HTML page: inline style, images as data URIs, nothing from a network.

Text is escaped unless it already is :class:`Html`, so a name such as ``<script>`` in a folder of
images can never become markup. The page's own policy forbids scripts and any outside address.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from landcue.types import ByteArray

# Okabe and Ito's palette: apart for the color-blind, and in gray by their lightness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f5f6f7; --text: #1b1f23;
  --muted: #57606a; --line: #d0d7de; --accent: #0072b2; --error: #b3261e; --warning: #8a5a00;
  --note: #57606a; --bar: #0072b2; --bar-2: #d55e00; }
@media screen and (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1e2226;
  --text: #e6e8ea; --muted: #a4acb4; --line: #3a4148; --accent: #56b4e9; --error: #ff8a80;
  --warning: #f0b84b; --note: #a4acb4; --bar: #56b4e9; --bar-2: #e69f00; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 76rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.25rem 0 .25rem; }
.muted, figcaption, caption { color: var(--muted); font-size: .9rem; text-align: left; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .92rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th { background: var(--card); overflow-wrap: normal; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; }
figure { margin: .75rem 0; }
figure img { max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line); }
.grid { display: flex; flex-wrap: wrap; gap: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .6rem; }
.card img { display: inline-block; image-rendering: auto; border: 1px solid var(--line); }
.badge { display: inline-block; padding: 0 .45rem; border: 1px solid currentColor;
  border-radius: 4px; font-size: .85rem; font-weight: 600; white-space: nowrap; }
.error { color: var(--error); } .warning { color: var(--warning); } .note { color: var(--note); }
@media print { body { max-width: none; padding: 0; font-size: 10pt; }
  h2, h3 { break-after: avoid; } figure, tr, .card { break-inside: avoid; }
  .scroll { overflow: visible; } }
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Return ``value`` as text safe in an element or a quoted attribute; Html stays as it is."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def join(parts: Iterable[object], separator: str = "\n") -> Html:
    """Return the parts, each escaped unless it is Html, one after the other."""
    return Html(separator.join(escape(part) for part in parts))


def page(title: str, body: str, style: str = "") -> str:
    """Return a whole page: ``title`` is escaped; ``body`` is markup and ``style`` further CSS."""
    head = escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{head}</title>\n<style>{_STYLE}{style}</style>\n</head>\n"
        f"<body>\n<h1>{head}</h1>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, *parts: object, anchor: str = "") -> Html:
    """Return one part of a page below a heading of the second level; ``anchor`` is its id."""
    attribute = f' id="{escape(anchor)}"' if anchor else ""
    return Html(f"<section{attribute}>\n<h2>{escape(title)}</h2>\n{join(parts)}\n</section>")


def paragraph(*parts: object, kind: str = "") -> Html:
    """Return a paragraph; ``kind`` is a class of the style, such as ``muted``."""
    attribute = f' class="{escape(kind)}"' if kind else ""
    return Html(f"<p{attribute}>{join(parts, '')}</p>")


def badge(text: str, kind: str) -> Html:
    """Return a short word in a frame; ``kind`` is ``error``, ``warning`` or ``note``."""
    return Html(f'<span class="badge {escape(kind)}">{escape(text)}</span>')


def table(head: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "") -> Html:
    """Return a table whose numbers stand to the right; floats have four digits, NaN is a dash."""

    def cell(tag: str, value: object) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        kind = ' class="number"' if number else ""
        shown = value
        if isinstance(value, float):
            shown = f"{value:.4f}" if math.isfinite(value) else "–"
        return f"<{tag}{kind}>{escape(shown)}</{tag}>"

    lines = ["<tr>" + "".join(cell("td", value) for value in row) + "</tr>" for row in rows]
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    titles = "".join(cell("th", value) for value in head)
    return Html(
        f'<div class="scroll"><table>{above}<thead><tr>{titles}</tr></thead>\n'
        "<tbody>" + "\n".join(lines) + "</tbody></table></div>"
    )


def data_uri(content: bytes, kind: str) -> Html:
    """Return bytes as a ``data:`` address of the media type ``kind``."""
    return Html(f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}")


def image_png(pixels: ByteArray, text: str, width: int | None = None) -> Html:
    """Return an ``<img>`` of uint8 ``[h, w, 3]`` (or ``[h, w]``) pixels, stored without loss.

    ``text`` is what a reader without the picture gets; ``width`` is its width in CSS pixels.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    size = "" if width is None else f' width="{width}"'
    uri = data_uri(buffer.getvalue(), "image/png")
    return Html(f'<img src="{uri}" alt="{escape(text)}"{size}>')


def figure_svg(svg: str, text: str, caption: str = "") -> Html:
    """Return a figure of an SVG document (such as matplotlib's), on white in every color scheme.

    It is embedded as an image, so identifiers of several figures cannot meet.
    """
    image = f'<img src="{data_uri(svg.encode(), "image/svg+xml")}" alt="{escape(text)}">'
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Html(f"<figure>{image}{below}</figure>")
