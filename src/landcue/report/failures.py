"""Where an evaluation failed: nothing to find, a wrong first hit, labels taken for others."""

from __future__ import annotations

import numpy as np

from landcue.metrics.relevance import Floats, relevant
from landcue.report.charts import confusion_figure
from landcue.report.confusion import Confusion, confusion
from landcue.report.grids import asked_tile, hit_tiles, wanted_pictures
from landcue.report.html import Html, escape, join, paragraph, section, table
from landcue.report.queries import first_hits, retrieve
from landcue.report.subject import Subject

_TILES = 12
_PAIRS = 8
_LABELS = 12
_RIVALS = 3
_LOOKED_AT = 20


def failure_section(subject: Subject) -> Html:
    """Return the failures in the searched space."""
    space = subject.main
    values = space.scores.per_query[space.scores.protocol.metrics()[0].name]
    return section(
        "Failure cases",
        Html("<h3>Queries without a relevant image</h3>"),
        _nothing_to_find(subject, values),
        Html("<h3>First hit not relevant</h3>"),
        _first_hit_wrong(subject, values),
        Html("<h3>Labels missed, and found instead</h3>"),
        _confused(confusion(subject, space, _LOOKED_AT)),
        anchor="failures",
    )


def wrong_first_hits(subject: Subject, values: Floats) -> list[int]:
    """Return the queries whose first hit is not relevant, the lowest value first.

    Args:
        subject: Queries, gallery and the searched space.
        values: Score of each query, ``[q]``; queries with NaN have nothing to find and are left
            out.
    """
    space, rows = subject.main, list[int]()
    kind = space.scores.protocol.relevance
    for part, hits, real in first_hits(subject, space, 1):
        for row, hit in enumerate(hits[:, 0].tolist(), start=part.start):
            if real[row - part.start, 0] and np.isfinite(values[row]):
                ours = subject.query.labels[row : row + 1]
                theirs = subject.gallery.labels[hit : hit + 1]
                if not relevant(ours, theirs, kind)[0, 0]:
                    rows.append(row)
    return sorted(rows, key=lambda row: (values[row], subject.query.ids[row]))


def _nothing_to_find(subject: Subject, values: Floats) -> Html:
    rows = [int(row) for row in np.flatnonzero(np.isnan(values))]
    if not rows:
        return paragraph("None: every query has something to find.")
    shown = rows[:_TILES]
    pictures = subject.pictures([subject.query.ids[row] for row in shown])
    tiles = join(asked_tile(subject, row, pictures) for row in shown)
    more = f" The first {len(shown)}:" if len(shown) < len(rows) else ""
    said = (
        f"{len(rows):,} of {len(values):,}: no image that they may find is relevant to them, so "
        f"mAP and nDCG leave them out.{more}"
    )
    return join([paragraph(said), Html(f'<div class="tiles">{tiles}</div>')])


def _first_hit_wrong(subject: Subject, values: Floats) -> Html:
    wrong, counted = wrong_first_hits(subject, values), int(np.isfinite(values).sum())
    if not wrong:
        return paragraph("None among the queries that have something to find.")
    found = retrieve(subject, subject.main, wrong[:_PAIRS], 1, values)
    pictures = wanted_pictures(subject, found)
    said = (
        f"{len(wrong):,} of the {counted:,} queries that have something to find "
        f"({100 * len(wrong) / counted:.1f} %). Those with the lowest average precision, each "
        "with its first hit:"
    )
    pairs = join(
        Html(
            f'<div class="tiles pair">{asked_tile(subject, one.row, pictures)}'
            f"{hit_tiles(subject, subject.main, one, pictures)}</div>"
        )
        for one in found
    )
    return join([paragraph(said), Html(f'<div class="grid">{pairs}</div>')])


def _confused(found: Confusion) -> Html:
    labels = found.worst(_LABELS)
    if not labels:
        return paragraph("No query carries a label.")
    rows: list[list[object]] = []
    for c in labels:
        rivals = ", ".join(
            f"{found.names[d]} {_percent(found.instead[c, d])} (chance "
            f"{_percent(found.chance[c, d])})"
            for d in found.rivals(c, _RIVALS)
        )
        rows.append(
            [
                found.names[c],
                int(found.n_query[c]),
                escape(_percent(found.missed[c])),
                escape(_percent(found.chance_missed[c])),
                rivals or "–",
            ]
        )
    head = ["label of the query", "queries", "hits without it", "chance", "instead they carry"]
    caption = (
        f"Of the first {found.k} hits: the share that lacks a label of the query, most missed "
        "first, and the labels that those hits carry and the query does not."
    )
    return join([table(head, rows, caption), confusion_figure(found)])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if np.isfinite(share) else "–"
