"""A picture of a query and its hits."""

from __future__ import annotations

import bisect
import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from landcue.data.names import printable
from landcue.files import write_atomic
from landcue.types import ByteArray, Hit

SHARED_COLORS = ("#9AA0A6", "#56B4E9", "#0072B2", "#1B2F6B")
"""Border for 0, 1, 2, 3 and more shared labels: one hue that darkens, apart from gray."""

_PAPER, _INK, _FAINT, _FRAME = "#FFFFFF", "#1F2328", "#5B636D", "#C9CED6"
_TILE, _BORDER, _GAP, _MARGIN = 176, 5, 22, 32
_TITLE, _TEXT, _SMALL = 24, 15, 13
_LABEL_LINES = 3
_DISTANCES = {
    "code": "Hamming distance",
    "cue": "distance of labels and codes",
    "place": "kilometers",
    "list": "id",
    "fused": "distance of embedding and labels",
    "alpha-qe": "cosine distance to the expanded query",
    "k-reciprocal": "distance of shared neighbors",
}
_MOST_COLUMNS = 6
_MOST_HITS = 300
_TEXT_HEIGHT = 8 + 20 + 18 + _LABEL_LINES * 17


def draw_grid(
    out: Path | None,
    hits: Sequence[Hit],
    thumbnails: Mapping[str, bytes],
    *,
    query_title: str,
    query_image: ByteArray | bytes | None = None,
    query_labels: Sequence[str] | None = None,
    mode: str = "embedding",
) -> Image.Image:
    """Draw the query on the left, its hits in ranked rows to the right.

    Each hit shows its rank, distance, id and labels. When the query's labels are known, the
    border shows how many of them the hit shares.

    Args:
        out: Where a PNG is written, whatever its name ends in; ``None`` writes nothing.
        hits: Nearest first; of very many the first 300 are drawn.
        thumbnails: JPEG of each hit's id; a hit without one is shown as an empty tile.
        query_title: What the query is called.
        query_image: uint8 ``[h, w, 3]``, or an image file's bytes; ``None`` for an empty tile.
        query_labels: Labels of the query, if known.
        mode: That answered: it says what the distances are.
    """
    n_found, hits = len(hits), hits[:_MOST_HITS]
    columns = min(_MOST_COLUMNS, max(1, len(hits)))
    rows = max(1, -(-len(hits) // columns))
    cell_width, cell_height = _TILE + _GAP, _TILE + _TEXT_HEIGHT + _GAP
    left = _MARGIN + cell_width + _GAP  # a wider gap sets the query apart
    top = _MARGIN + 56
    legend = 34 if query_labels is not None else 0
    width = left + columns * cell_width - _GAP + _MARGIN
    height = top + rows * cell_height - _GAP + legend + _MARGIN
    canvas = Image.new("RGB", (max(width, 760), height), _PAPER)
    pen = ImageDraw.Draw(canvas)
    distance = _DISTANCES.get(mode, "cosine distance")
    pen.text((_MARGIN, _MARGIN - 6), _fit(pen, query_title, _TITLE, canvas.width - 2 * _MARGIN),
             _INK, _font(_TITLE))  # fmt: skip
    first = f"first {len(hits)} of " if len(hits) < n_found else ""
    found = f"{first}{n_found} nearest by {distance}" if hits else "no record matches"
    pen.text((_MARGIN, _MARGIN + 26), found, _FAINT, _font(_TEXT))

    _draw_tile(canvas, (_MARGIN, top), _open(query_image), _INK)
    _draw_text(pen, (_MARGIN, top + _TILE), "query", "", "", query_labels or ())
    line = left - _GAP - _GAP // 2
    pen.line((line, top, line, top + rows * cell_height - _GAP), _FRAME, 1)
    for rank, hit in enumerate(hits, start=1):
        row, column = divmod(rank - 1, columns)
        x, y = left + column * cell_width, top + row * cell_height
        _draw_tile(canvas, (x, y), _open(thumbnails.get(hit.id)), _color(hit, query_labels))
        shown = f"{hit.distance:.{0 if mode in ('code', 'cue') else 4}f}"
        _draw_text(pen, (x, y + _TILE), f"{rank}", shown, _caption(pen, hit), hit.labels)
    if query_labels is not None:
        _draw_legend(pen, (_MARGIN, height - _MARGIN - 14))
    if out is not None:
        _save(canvas, out)
    return canvas


def _caption(pen: ImageDraw.ImageDraw, hit: Hit) -> str:
    """Return the id of a hit; of a chip its scene, and its first row and column."""
    if hit.window is None or not hit.group:
        return hit.id
    place = f" r{hit.window.row} c{hit.window.col}"
    width = _TILE - 4 - int(pen.textlength(place, _font(_SMALL)))
    return _fit(pen, hit.group, _SMALL, width, keep_end=True) + place


def _color(hit: Hit, query_labels: Sequence[str] | None) -> str:
    if query_labels is None:
        return _FRAME
    shared = len(set(hit.labels) & set(query_labels))
    return SHARED_COLORS[min(shared, len(SHARED_COLORS) - 1)]


def _open(source: ByteArray | bytes | None) -> Image.Image | None:
    if source is None or len(source) == 0:  # embeddings that others made come without pictures
        return None
    if isinstance(source, bytes):
        with Image.open(io.BytesIO(source)) as image:
            return image.convert("RGB")
    return Image.fromarray(source)


def _draw_tile(
    canvas: Image.Image, at: tuple[int, int], image: Image.Image | None, color: str
) -> None:
    pen = ImageDraw.Draw(canvas)
    x, y = at
    pen.rounded_rectangle((x, y, x + _TILE - 1, y + _TILE - 1), 6, color)
    inner = _TILE - 2 * _BORDER
    place = (x + _BORDER, y + _BORDER, x + _BORDER + inner - 1, y + _BORDER + inner - 1)
    pen.rectangle(place, "#EEF0F3")
    if image is None:
        pen.text((x + _TILE / 2, y + _TILE / 2), "no picture", _FAINT, _font(_SMALL), anchor="mm")
        return
    scale = inner / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    shown = image.resize(size, Image.Resampling.LANCZOS)
    canvas.paste(shown, (x + (_TILE - size[0]) // 2, y + (_TILE - size[1]) // 2))


def _draw_text(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    rank: str,
    distance: str,
    id_: str,
    labels: Sequence[str],
) -> None:
    x, y = at[0] + 2, at[1] + 7
    pen.text((x, y), rank, _INK, _font(_TEXT))
    pen.text((x + _TILE - 4, y), distance, _INK, _font(_TEXT), anchor="ra")
    y += 21
    if id_:
        pen.text((x, y), _fit(pen, id_, _SMALL, _TILE - 4, keep_end=True), _FAINT, _font(_SMALL))
        y += 18
    for line in _wrap(pen, ", ".join(labels), _TILE - 4):
        pen.text((x, y), line, _INK, _font(_SMALL))
        y += 17


def _draw_legend(pen: ImageDraw.ImageDraw, at: tuple[float, float]) -> None:
    x, y = at
    texts = ("labels shared with the query:", "0", "1", "2", "3 or more")
    for text, color in zip(texts, (None, *SHARED_COLORS), strict=True):
        if color is not None:
            pen.rounded_rectangle((x, y, x + 15, y + 15), 3, color)
            x += 21
        pen.text((x, y), text, _FAINT, _font(_SMALL))
        x += pen.textlength(text, _font(_SMALL)) + 16


def _fit(
    pen: ImageDraw.ImageDraw, text: str, size: int, width: float, *, keep_end: bool = False
) -> str:
    """Cut a text with an ellipsis until it is at most ``width`` pixels wide."""
    text = printable(text)
    if pen.textlength(text, _font(size)) <= width:
        return text

    def cut(n: int) -> str:
        return "…" + text[len(text) - n :] if keep_end else text[:n] + "…"

    kept = bisect.bisect_right(
        range(len(text)), width, key=lambda n: pen.textlength(cut(n), _font(size))
    )
    return cut(max(0, kept - 1))


def _wrap(pen: ImageDraw.ImageDraw, text: str, width: float) -> list[str]:
    """Break a text at spaces into a few lines, the last one cut."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < _LABEL_LINES:
        taken = 1
        while (
            taken < len(words)
            and pen.textlength(" ".join(words[: taken + 1]), _font(_SMALL)) <= width
        ):
            taken += 1
        if len(lines) == _LABEL_LINES - 1:
            taken = len(words)
        lines.append(_fit(pen, " ".join(words[:taken]), _SMALL, width))
        words = words[taken:]
    return lines


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _save(canvas: Image.Image, out: Path) -> None:
    png = io.BytesIO()
    canvas.save(png, "PNG")
    write_atomic(out, png.getvalue())
