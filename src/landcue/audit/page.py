"""The page of an audit: findings, pairs with their pictures, labels, sizes, broken files."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from landcue.audit.counts import LabelFacts, PairCounts, part_order
from landcue.audit.images import FORMS
from landcue.audit.pairs import Frame, shared_frames
from landcue.audit.report import AuditReport
from landcue.data.images import read_image
from landcue.errors import DataError
from landcue.report.html import (
    Html,
    badge,
    data_uri,
    escape,
    join,
    page,
    paragraph,
    section,
    table,
)
from landcue.types import ByteArray

SHOWN = 48
"""Pairs of one kind that are shown with pictures."""
LISTED = 200
"""Rows of a list; the rest is in the JSON."""

_SIDE = 112
_RED = (230, 30, 30)

_TITLES = {
    "identical": "Identical images",
    "near": "Near-duplicates",
    "overlap": "Overlapping crops",
    "alike": "Look-alikes",
}
_ABOUT = {
    "identical": "The same pixels once decoded, whatever the file.",
    "near": (
        "Perceptual hashes (64 bits) that differ in at most {max_distance} bits, upright, or "
        "{max_distance_turned}, turned or flipped, and gray values that correlate by at least "
        "{min_correlation}."
    ),
    "overlap": (
        "Crops of one larger image: after a shift, the fine detail of the shared area (framed) "
        "correlates by at least {min_overlap_correlation}. Looked for among the "
        "{overlap_neighbors} nearest embeddings of every image, for shifts of up to half an image."
    ),
    "alike": (
        "Embeddings whose cosine is at least {min_cosine}. Candidates to look at: an encoder "
        "trained on labels draws different images of one kind of place together."
    ),
}


def audit_page(audit: AuditReport, title: str) -> str:
    """Return the whole page."""
    parts = [
        paragraph(_summary(audit), kind="muted"),
        _findings(audit),
        *([_leaks(audit)] if audit.split else []),
        *_copies(audit),
        *([labels_section(audit.labels)] if audit.labels else []),
        _sizes(audit),
        _broken(audit),
    ]
    return page(f"Audit of {title}", join(parts))


def _summary(audit: AuditReport) -> str:
    parts = ", ".join(f"{audit.parts.count(p):,} {p}" for p in part_order(audit.parts))
    split = f"split {audit.split}: {parts}" if audit.split else "no split"
    encoder = f"encoder {audit.encoder[:12]}" if audit.encoder else "no encoder"
    return f"{len(audit.parts):,} images, {split}; {encoder}."


def _findings(audit: AuditReport) -> Html:
    found = audit.findings()
    if not found:
        return section("Findings", paragraph("Nothing stands out."))
    rows = [(badge(f.severity, f.severity), f.count, f.text) for f in found]
    return section("Findings", table(("severity", "count", "what"), rows))


def _leaks(audit: AuditReport) -> Html:
    sizes = {part: audit.parts.count(part) for part in audit.leaks}
    rows = [
        (part, sizes[part], n["identical"], n["near"], n["overlap"], n["any"])
        for part, n in audit.leaks.items()
    ]
    head = ("part", "images", "identical", "near-duplicate", "overlapping", "any of these")
    about = "Images with a copy in another part of the split."
    return section("Leakage", table(head, rows, about))


def _copies(audit: AuditReport) -> Iterable[Html]:
    cards: dict[str, Sequence[tuple[tuple[int, ...], str, Sequence[Frame | None]]]] = {
        "identical": [
            (group.rows, "same bytes" if group.same_bytes else "same pixels, other bytes", ())
            for group in audit.identical
        ],
        "near": [
            ((p.first, p.second), f"{p.distance} bits, {FORMS[p.form]}, r {p.correlation:.3f}", ())
            for p in audit.near
        ],
        "overlap": [
            (
                (p.first, p.second),
                f"shares {p.shared:.0%}, shifted by {p.right}, {p.down} px, r {p.correlation:.3f}",
                _frames(audit, p.first, p.second, p.down, p.right),
            )
            for p in audit.overlap
        ],
        "alike": [((p.first, p.second), f"cosine {p.cosine:.5f}", ()) for p in audit.alike],
    }
    thumbnail = _thumbnails(audit)
    for kind, found in cards.items():
        if kind in ("overlap", "alike") and audit.encoder is None:
            continue
        about = paragraph(_about(audit, kind), kind="muted")
        if not found:
            yield section(_TITLES[kind], about, paragraph("None."))
            continue
        severity = "note" if kind == "alike" else "error"
        shown = [_card(audit, thumbnail, severity, *card) for card in found[:SHOWN]]
        rest = len(found) - len(shown)
        more = [paragraph(f"{rest:,} more are in the JSON.", kind="muted")] if rest else []
        grid = Html(f'<div class="grid">{join(shown)}</div>')
        yield section(_TITLES[kind], about, _counts(audit.counts[kind]), grid, *more)


def _about(audit: AuditReport, kind: str) -> str:
    limits = audit.limits
    return _ABOUT[kind].format(
        max_distance=limits.max_distance,
        max_distance_turned=limits.max_distance_turned,
        min_correlation=limits.min_correlation,
        min_overlap_correlation=limits.min_overlap_correlation,
        overlap_neighbors=limits.overlap_neighbors,
        min_cosine=limits.min_cosine,
    )


def _counts(counts: PairCounts) -> Html:
    rows = [(f"within {part}", n) for part, n in counts.within.items()]
    rows += [(f"across {parts}", n) for parts, n in counts.across.items()]
    return table(("pairs", "count"), rows)


def _card(
    audit: AuditReport,
    thumbnail: Callable[[int, Frame | None], Html],
    severity: str,
    rows: tuple[int, ...],
    text: str,
    frames: Sequence[Frame | None],
) -> Html:
    """Show up to four images of a group, their names, parts and labels."""
    lines: list[object] = []
    for row in rows[:4]:
        record = audit.images.records[row]
        part = f" ({audit.parts[row]})" if audit.split else ""
        labels = "" if record.labels is None else ": " + (", ".join(record.labels) or "no label")
        lines.append(Html(f"<br><b>{escape(record.id)}</b>{escape(part + labels)}"))
    more = f"<br>and {len(rows) - 4:,} more" if len(rows) > 4 else ""
    pictures = join(
        (thumbnail(row, frames[i] if frames else None) for i, row in enumerate(rows[:4])), " "
    )
    crossing = len({audit.parts[row] for row in rows}) > 1
    mark = join((" ", badge("across parts", severity)), "") if crossing else ""
    return Html(
        f'<div class="card" style="max-width: {2 * _SIDE + 40}px">{pictures}'
        f"<br>{escape(text)}{mark}{join(lines, '')}{more}</div>"
    )


def _frames(
    audit: AuditReport, first: int, second: int, down: int, right: int
) -> list[Frame | None]:
    """Return the shared area in both images."""
    usual = next(iter(audit.sizes))
    sizes = [audit.odd_sizes.get(row, usual) for row in (first, second)]
    return list(shared_frames(sizes[0], sizes[1], down, right))


def _thumbnails(audit: AuditReport) -> Callable[[int, Frame | None], Html]:
    @functools.lru_cache(256)
    def thumbnail(row: int, frame: Frame | None) -> Html:
        record = audit.images.records[row]
        try:
            pixels = read_image(record.path, name=record.id)
        except DataError:  # it went while the audit ran
            return Html("<span>gone</span>")
        return _picture(pixels, record.id, frame)

    return thumbnail


def _picture(pixels: ByteArray, name: str, frame: Frame | None) -> Html:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = _SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    image = image.resize((size[0], size[1]), Image.Resampling.BOX if scale < 1 else None)
    if frame is not None:
        left, top, right, bottom = (round(edge * scale) for edge in frame)
        box = (left, top, min(right, size[0]) - 1, min(bottom, size[1]) - 1)
        ImageDraw.Draw(image).rectangle(box, outline=_RED, width=2)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    uri = data_uri(out.getvalue(), "image/jpeg")
    return Html(f'<img src="{uri}" alt="{escape(name)}" width="{size[0]}" height="{size[1]}">')


def _sizes(audit: AuditReport) -> Html:
    sizes = [(f"{w} x {h}", n) for (h, w), n in audit.sizes.items()]
    bands = [(mode, count, n) for (mode, count), n in audit.kinds.items()]
    odd = [(audit.images.records[row].id, f"{w} x {h}") for row, (h, w) in audit.odd_sizes.items()]
    others = [
        (audit.images.records[row].id, mode, count)
        for row, (mode, count) in audit.odd_kinds.items()
    ]
    found = [
        table(("width x height", "images"), sizes[:LISTED]),
        table(("pixels", "bands", "images"), bands),
    ]
    if odd:
        found.append(_listed(("id", "width x height"), odd, "Images of an odd size"))
    if others:
        found.append(_listed(("id", "pixels", "bands"), others, "Images of other bands"))
    return section("Sizes and bands", *found)


def _broken(audit: AuditReport) -> Html:
    records = audit.images.records
    files = [(records[row].id, why) for row, why in audit.unreadable.items()]
    root = f"{audit.images.root}/"
    problems = [(p.where.removeprefix(root), p.what) for p in audit.images.problems]
    blank = [(records[row].id,) for row in audit.blank]
    found: list[Html] = []
    if files:
        found.append(_listed(("id", "why"), files, "Files that cannot be decoded"))
    if problems:
        found.append(_listed(("where", "what"), problems, "Problems of the source"))
    if blank:
        found.append(_listed(("id",), blank, "Images with hardly any content"))
    return section("Broken and blank files", *(found or [paragraph("None.")]))


def _listed(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> Html:
    rest = len(rows) - LISTED
    more = paragraph(f"{rest:,} more are in the JSON.", kind="muted") if rest > 0 else Html("")
    return join((table(head, rows[:LISTED], caption), more))


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
