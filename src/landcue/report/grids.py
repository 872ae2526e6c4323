"""Queries with what they found, as pictures in a page.

Whether a hit shares labels with its query shows in words, in the frame (solid or dashed) and in
the labels' type, never in color alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from landcue.metrics.relevance import relevant
from landcue.report.html import Html, data_uri, escape, join
from landcue.report.queries import Found
from landcue.report.subject import Space, Subject
from landcue.report.tables import number

STYLE = """
.query { margin: 1rem 0 1.5rem; break-inside: avoid; }
.query h4 { margin: .25rem 0; font-size: .95rem; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: .4rem; align-items: flex-start; }
.tile { width: 6.2rem; margin: 0; padding: .25rem; border: 2px solid var(--line);
  border-radius: 6px; background: var(--card); font-size: .76rem; line-height: 1.3;
  overflow-wrap: anywhere; }
.tile img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; }
.tile .nothing { display: grid; place-items: center; aspect-ratio: 1; color: var(--muted); }
.tile.asked { border: 3px double var(--text); }
.tile.hit { border-color: var(--accent); }
.tile.miss { border: 2px dashed var(--error); }
.tile b { font-weight: 700; text-decoration: underline; }
.tile .rank { display: flex; justify-content: space-between; gap: .3rem; }
"""


def query_grids(subject: Subject, space: Space, found: Sequence[Found], metric: str) -> Html:
    """Return each query with its hits, ranked, and the labels they share.

    Args:
        subject: Queries, gallery and pictures.
        space: How they are compared.
        found: What to show.
        metric: Name of the score in ``found``.
    """
    pictures = wanted_pictures(subject, found)
    return join(_query_grid(subject, space, one, metric, pictures) for one in found)


def wanted_pictures(subject: Subject, found: Sequence[Found]) -> dict[str, bytes]:
    """Return the thumbnails of some queries and their hits by id."""
    wanted = dict.fromkeys(subject.query.ids[one.row] for one in found)
    wanted |= dict.fromkeys(subject.gallery.ids[row] for one in found for row in one.hits)
    return subject.pictures(list(wanted))


def hit_tiles(subject: Subject, space: Space, found: Found, pictures: dict[str, bytes]) -> Html:
    """Return the tiles of a query's hits, nearest first."""
    asked = _labels(subject, found.row, query=True)
    hits = list(found.hits)
    if not hits:
        return Html('<p class="muted">Nothing may be found: the gallery is empty for it.</p>')
    related = relevant(
        subject.query.labels[found.row : found.row + 1],
        subject.gallery.labels[hits],
        space.scores.protocol.relevance,
    )[0]
    tiles: list[Html] = []
    for rank, (row, distance) in enumerate(zip(hits, found.distances, strict=True), start=1):
        labels = _labels(subject, row)
        shared = sum(name in asked for name in labels)
        kind = "hit" if related[rank - 1] else "miss"
        shown = f"{distance:.0f}" if space.n_bits else f"{distance:.3f}"
        said = f"{shared} shared" if shared else "✗ none shared"
        name = subject.gallery.ids[row]
        tiles.append(
            Html(
                f'<div class="tile {kind}">{picture(name, pictures)}<div class="rank">'
                f"<span>{rank}.</span><span>{shown}</span></div><div>{said}</div>"
                f"<div>{_named(labels, asked)}</div></div>"
            )
        )
    return join(tiles)


def asked_tile(subject: Subject, row: int, pictures: dict[str, bytes]) -> Html:
    """Return the tile of a query."""
    name, labels = subject.query.ids[row], _labels(subject, row, query=True)
    shown = escape(", ".join(labels) or "no label")
    return Html(
        f'<div class="tile asked">{picture(name, pictures)}<div class="rank"><span>query</span>'
        f"</div><div>{shown}</div></div>"
    )


def picture(name: str, pictures: dict[str, bytes]) -> Html:
    """Return the thumbnail of an image, or words where there is none."""
    if name not in pictures:
        return Html(f'<span class="nothing" title="{escape(name)}">no picture</span>')
    uri = data_uri(pictures[name], "image/jpeg")
    return Html(f'<img src="{uri}" alt="{escape(name)}" title="{escape(name)}">')


def _query_grid(
    subject: Subject, space: Space, found: Found, metric: str, pictures: dict[str, bytes]
) -> Html:
    name = escape(subject.query.ids[found.row])
    asked, hits = (
        asked_tile(subject, found.row, pictures),
        hit_tiles(subject, space, found, pictures),
    )
    return Html(
        f'<div class="query"><h4>{name} · {escape(metric)} {number(found.value)}</h4>'
        f'<div class="tiles">{asked}\n{hits}</div></div>'
    )


def _labels(subject: Subject, row: int, *, query: bool = False) -> list[str]:
    images = subject.query if query else subject.gallery
    return [name for name, on in zip(images.label_names, images.labels[row], strict=True) if on]


def _named(labels: list[str], asked: list[str]) -> Html:
    """Return label names, those of the query with a check mark, bold and underlined."""
    shown = [
        Html(f"<b>✓\u00a0{escape(name)}</b>") if name in asked else escape(name) for name in labels
    ]
    return join(shown, ", ") if shown else escape("no label")
