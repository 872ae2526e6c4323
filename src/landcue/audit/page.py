"""The page of an audit: findings, pairs with their pictures, labels, sizes, broken files."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from landcue.audit.counts import LabelFacts, part_order
from landcue.audit.images import FORMS
from landcue.audit.pairs import Frame, shared_frames
from landcue.data.images import read_image
from landcue.errors import DataError
from landcue.report.tables import data_uri, render

if TYPE_CHECKING:
    from landcue.audit.report import AuditReport

SHOWN = 48
"""Pairs of one kind that are shown with pictures."""
LISTED = 200
"""Rows of a list; the rest is in the JSON."""
MATRIX = 40
"""Most labels in the co-occurrence tables; the JSON has them all."""

_SIDE = 112
_RED = (230, 30, 30)
_ABOUT = {
    "identical": ("Identical images", "The same pixels once decoded, whatever the file."),
    "near": (
        "Near-duplicates",
        "Perceptual hashes (64 bits) that differ in at most {max_distance} bits, upright, or "
        "{max_distance_turned}, turned or flipped, and gray values that correlate by at least "
        "{min_correlation}.",
    ),
    "overlap": (
        "Overlapping crops",
        "Crops of one larger image: after a shift, the fine detail of the shared area (framed) "
        "correlates by at least {min_overlap_correlation}. Looked for among the "
        "{overlap_neighbors} nearest embeddings of every image, for shifts of up to half an image.",
    ),
    "alike": (
        "Look-alikes",
        "Embeddings whose cosine is at least {min_cosine}. Candidates to look at: an encoder "
        "trained on labels draws different images of one kind of place together.",
    ),
}


@dataclass(frozen=True, slots=True)
class _Listed:
    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str
    rest: int


@dataclass(frozen=True, slots=True)
class _Picture:
    """An image of a card; ``picture`` is ``None`` where the file is no longer readable."""

    id: str
    about: str
    picture: str | None
    width: int = 0
    height: int = 0


_Group = tuple[tuple[int, ...], str, Sequence[Frame | None]]
"""Rows of images, what they have in common, and the shared area in each."""


def audit_page(report: AuditReport, title: str) -> str:
    """Return the whole page."""
    return render(
        "audit.html",
        title=f"Audit of {title}",
        summary=_summary(report),
        findings=report.findings(),
        leaks=_leaks(report) if report.split else [],
        copies=list(_copies(report)),
        card_width=2 * _SIDE + 40,
        labels=_labels(report.labels) if report.labels else None,
        sizes=_sizes(report),
        broken=_broken(report),
    )


def _summary(report: AuditReport) -> str:
    parts = ", ".join(f"{report.parts.count(p):,} {p}" for p in part_order(report.parts))
    split = f"split {report.split}: {parts}" if report.split else "no split"
    encoder = f"encoder {report.encoder[:12]}" if report.encoder else "no encoder"
    return f"{len(report.parts):,} images, {split}; {encoder}."


def _leaks(report: AuditReport) -> list[tuple[object, ...]]:
    return [
        (part, report.parts.count(part), n["identical"], n["near"], n["overlap"], n["any"])
        for part, n in report.leaks.items()
    ]


def _copies(report: AuditReport) -> Iterator[dict[str, Any]]:
    groups: dict[str, list[_Group]] = {
        "identical": [
            (group.rows, "same bytes" if group.same_bytes else "same pixels, other bytes", ())
            for group in report.identical
        ],
        "near": [
            ((p.first, p.second), f"{p.distance} bits, {FORMS[p.form]}, r {p.correlation:.3f}", ())
            for p in report.near
        ],
        "overlap": [
            (
                (p.first, p.second),
                f"shares {p.shared:.0%}, shifted by {p.right}, {p.down} px, r {p.correlation:.3f}",
                _frames(report, p.first, p.second, p.down, p.right),
            )
            for p in report.overlap
        ],
        "alike": [((p.first, p.second), f"cosine {p.cosine:.5f}", ()) for p in report.alike],
    }
    thumbnail = _thumbnails(report)
    for kind, found in groups.items():
        if kind in ("overlap", "alike") and report.encoder is None:
            continue
        title, about = _ABOUT[kind]
        counts = report.counts[kind]
        yield {
            "title": title,
            "about": about.format(**asdict(report.limits)),
            "severity": "note" if kind == "alike" else "error",
            "counts": [(f"within {part}", n) for part, n in counts.within.items()]
            + [(f"across {parts}", n) for parts, n in counts.across.items()],
            "cards": [_card(report, thumbnail, *group) for group in found[:SHOWN]],
            "rest": max(0, len(found) - SHOWN),
        }


def _card(
    report: AuditReport,
    thumbnail: Callable[[int, Frame | None], tuple[str | None, int, int]],
    rows: tuple[int, ...],
    text: str,
    frames: Sequence[Frame | None],
) -> dict[str, Any]:
    """Return up to four images of a group with their names, parts and labels."""
    images: list[_Picture] = []
    for place, row in enumerate(rows[:4]):
        record = report.images.records[row]
        about = f" ({report.parts[row]})" if report.split else ""
        if record.labels is not None:
            about += ": " + (", ".join(record.labels) or "no label")
        picture = thumbnail(row, frames[place] if frames else None)
        images.append(_Picture(record.id, about, *picture))
    crossing = len({report.parts[row] for row in rows}) > 1
    return {"images": images, "text": text, "crossing": crossing, "rest": max(0, len(rows) - 4)}


def _frames(
    report: AuditReport, first: int, second: int, down: int, right: int
) -> list[Frame | None]:
    """Return the shared area in both images."""
    usual = next(iter(report.sizes))
    sizes = [report.odd_sizes.get(row, usual) for row in (first, second)]
    return list(shared_frames(sizes[0], sizes[1], down, right))


def _thumbnails(
    report: AuditReport,
) -> Callable[[int, Frame | None], tuple[str | None, int, int]]:
    @functools.lru_cache(256)
    def thumbnail(row: int, frame: Frame | None) -> tuple[str | None, int, int]:
        """Return a data URI of a JPEG, its width and its height."""
        record = report.images.records[row]
        try:
            pixels = read_image(record.path, name=record.id)
        except DataError:  # removed or changed while the audit ran
            return None, 0, 0
        image = Image.fromarray(np.ascontiguousarray(pixels))
        scale = _SIDE / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX if scale < 1 else None)
        if frame is not None:
            left, top, right, bottom = (round(edge * scale) for edge in frame)
            box = (left, top, min(right, width) - 1, min(bottom, height) - 1)
            ImageDraw.Draw(image).rectangle(box, outline=_RED, width=2)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=80)
        return data_uri(out.getvalue()), width, height

    return thumbnail


def _labels(labels: LabelFacts) -> dict[str, Any]:
    """Return images per label and part, and which labels go together."""
    parts = list(labels.by_part) if len(labels.by_part) > 1 else []
    order = sorted(range(len(labels.names)), key=lambda c: (-labels.counts[c], labels.names[c]))
    shown = [c for c in order if labels.counts[c]][:MATRIX]
    matrices: list[tuple[str, list[list[tuple[str, int]]]]] = []
    if shown and labels.per_image > 1:
        most = max(labels.together[a][b] for a in shown for b in shown)
        together = [
            [(f"{labels.together[a][b]}", round(55 * labels.together[a][b] / most)) for b in shown]
            for a in shown
        ]
        lift = "Lift: how many times as often two labels come together as by chance"
        matrices = [
            ("Images with both labels", together),
            (lift, [[_lift(labels, a, b) for b in shown] for a in shown]),
        ]
    lists = (
        ("Images without annotation", labels.unlabeled),
        ("Images annotated with no label", labels.empty),
    )
    return {
        "per_image": labels.per_image,
        "head": ["label", "images", *parts],
        "rows": [
            (labels.names[c], labels.counts[c], *(labels.by_part[part][c] for part in parts))
            for c in order
        ],
        "names": [labels.names[c] for c in shown],
        "matrices": matrices,
        "cut": bool(matrices) and len(order) > len(shown),
        "lists": [_listed(("id",), [(i,) for i in ids], caption) for caption, ids in lists if ids],
    }


def _lift(labels: LabelFacts, a: int, b: int) -> tuple[str, int]:
    """Return a lift as text, and the percentage of color of its cell: none up to 1."""
    value = labels.lift[a][b]
    if a == b or value is None:
        return "", 0
    return f"{value:.2f}", round(55 * min(max(value - 1, 0) / 4, 1))


def _sizes(report: AuditReport) -> list[_Listed]:
    ids = [record.id for record in report.images.records]
    sizes = [(f"{w} x {h}", n) for (h, w), n in report.sizes.items()]
    bands = [(mode, count, n) for (mode, count), n in report.kinds.items()]
    odd = [(ids[row], f"{w} x {h}") for row, (h, w) in report.odd_sizes.items()]
    others = [(ids[row], mode, count) for row, (mode, count) in report.odd_kinds.items()]
    found = [
        _listed(("width x height", "images"), sizes),
        _listed(("pixels", "bands", "images"), bands),
    ]
    if odd:
        found.append(_listed(("id", "width x height"), odd, "Images of an odd size"))
    if others:
        found.append(_listed(("id", "pixels", "bands"), others, "Images of other bands"))
    return found


def _broken(report: AuditReport) -> list[_Listed]:
    ids = [record.id for record in report.images.records]
    root = f"{report.images.root}/"
    files = [(ids[row], why) for row, why in report.unreadable.items()]
    problems = [(p.where.removeprefix(root), p.what) for p in report.images.problems]
    blank = [(ids[row],) for row in report.blank]
    lists = (
        (("id", "why"), files, "Files that cannot be decoded"),
        (("where", "what"), problems, "Problems of the source"),
        (("id",), blank, "Images with hardly any content"),
    )
    return [_listed(head, rows, caption) for head, rows, caption in lists if rows]


def _listed(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> _Listed:
    return _Listed(head, rows[:LISTED], caption, max(0, len(rows) - LISTED))
