"""The labels of an audit's page: images per label and part, and which labels go together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from landcue.audit.labels import LabelFacts
from landcue.report.html import Html, escape, join, paragraph, section, table

MATRIX = 40
"""Most labels in the co-occurrence tables; the JSON has them all."""

_LISTED = 200


def labels_section(labels: LabelFacts) -> Html:
    """Return the section on annotations."""
    parts = list(labels.by_part) if len(labels.by_part) > 1 else []
    order = sorted(range(len(labels.names)), key=lambda c: (-labels.counts[c], labels.names[c]))
    rows = [
        (labels.names[c], labels.counts[c], *(labels.by_part[part][c] for part in parts))
        for c in order
    ]
    images = table(("label", "images", *parts), rows, "Images of each label")
    shown = [c for c in order if labels.counts[c]][:MATRIX]
    found: list[object] = [
        paragraph(f"{labels.per_image:.3f} labels per annotated image.", kind="muted"),
        images,
    ]
    if shown and labels.per_image > 1:
        most = max(labels.together[a][b] for a in shown for b in shown)
        found += [
            _matrix(
                labels,
                shown,
                "Images with both labels",
                lambda a, b: (f"{labels.together[a][b]}", labels.together[a][b] / most),
            ),
            _matrix(
                labels,
                shown,
                "Lift: how many times as often two labels come together as by chance",
                lambda a, b: _lift(labels, a, b),
            ),
        ]
        if len(order) > len(shown):
            found.append(paragraph("Labels left out here are in the JSON.", kind="muted"))
    for caption, ids in (
        ("Images without annotation", labels.unlabeled),
        ("Images annotated with no label", labels.empty),
    ):
        if ids:
            found.append(table(("id",), [(name,) for name in ids[:_LISTED]], caption))
    return section("Labels", *found)


def _lift(labels: LabelFacts, a: int, b: int) -> tuple[str, float]:
    """Return a lift as text, and how deep its cell is colored: not at all up to 1."""
    value = labels.lift[a][b]
    if a == b or value is None:
        return "", 0.0
    return f"{value:.2f}", min(max(value - 1, 0) / 4, 1)


def _matrix(
    labels: LabelFacts,
    shown: Sequence[int],
    caption: str,
    cell: Callable[[int, int], tuple[str, float]],
) -> Html:
    """Return a square table whose larger values lie on a darker ground."""
    rows: list[str] = []
    for a in shown:
        cells = [f"<th>{escape(labels.names[a])}</th>"]
        for b in shown:
            text, share = cell(a, b)
            ground = f"color-mix(in srgb, var(--bar) {round(55 * share)}%, transparent)"
            cells.append(f'<td class="number" style="background: {ground}">{text}</td>')
        rows.append("<tr>" + "".join(cells) + "</tr>")
    titles = "".join(
        f'<th style="writing-mode: vertical-rl">{escape(labels.names[b])}</th>' for b in shown
    )
    return Html(
        f'<div class="scroll"><table style="font-size: .78rem"><caption>{escape(caption)}</caption>'
        f"<thead><tr><th></th>{titles}</tr></thead>\n<tbody>{join(map(Html, rows))}</tbody>"
        "</table></div>"
    )
