"""What an audit found: findings to read, text, and one JSON document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from landcue import __version__
from landcue.audit.counts import LabelFacts, PairCounts, part_order
from landcue.audit.images import FORMS, DuplicateGroup
from landcue.audit.pairs import Limits, LookAlike, NearDuplicate, Overlap
from landcue.data.imageset import ImageSet
from landcue.data.splits import data_id
from landcue.errors import counted

FORMAT = 1
"""Version of the JSON document."""
Severity = Literal["error", "warning", "note"]
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_NAMED_LABELS = 10
_NAMED_PAIRS = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the list.

    Attributes:
        severity: ``error``: scores or training on this data would be wrong; ``warning``: look at
            it; ``note``: good to know.
        kind: A stable word for programs.
        count: How many (pairs, images, labels …: the text says).
        text: One sentence for people.
    """

    severity: Severity
    kind: str
    count: int
    text: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was found. Rows number the records of ``images``.

    Attributes:
        images: The records, with their parts if a split was applied.
        split: Id of the split, if any.
        parts: Part of each record; ``all`` without a split.
        limits: The thresholds.
        encoder: Fingerprint of the encoder; ``None`` when none was used: then there are neither
            look-alikes nor overlaps.
        sizes: Images of each (height, width), most frequent first.
        kinds: Images of each (mode, bands), most frequent first.
        odd_sizes: Rows of another size than the most frequent, and that size of theirs.
        odd_kinds: Rows of other bands than the most frequent, and theirs.
        unreadable: Rows of files that do not decode, and why.
        blank: Rows of pictures without content, which no near-duplicate is looked for.
        identical: Groups of the same pixels.
        near: Near-duplicates by perceptual hash, identical images left out.
        overlap: Overlapping crops, identical images left out.
        alike: Pairs of nearly equal embeddings, identical images left out.
        counts: Pairs of each kind within and across parts. Near-duplicates, overlaps and
            look-alikes count one image of identical ones per part.
        conflicts: Of each kind, the positions in its list whose annotations differ.
        leaks: Images of each part with a copy in another part, by kind and ``any``.
        cut: Kinds of which more pairs exist than are listed.
        labels: Facts on annotations; ``None`` when no image is annotated.
    """

    images: ImageSet
    split: str | None
    parts: tuple[str, ...]
    limits: Limits
    encoder: str | None
    sizes: dict[tuple[int, int], int]
    kinds: dict[tuple[str, int], int]
    odd_sizes: dict[int, tuple[int, int]]
    odd_kinds: dict[int, tuple[str, int]]
    unreadable: dict[int, str]
    blank: tuple[int, ...]
    identical: tuple[DuplicateGroup, ...]
    near: tuple[NearDuplicate, ...]
    overlap: tuple[Overlap, ...]
    alike: tuple[LookAlike, ...]
    counts: dict[str, PairCounts]
    conflicts: dict[str, list[int]]
    leaks: dict[str, dict[str, int]]
    cut: tuple[str, ...]
    labels: LabelFacts | None

    @property
    def title(self) -> str:
        """The data set's name, or that of its folder."""
        own = self.images.name not in ("folder", "table")
        return self.images.name if own else self.images.root.resolve().name

    def findings(self) -> list[Finding]:
        """List what was found, the worst first."""
        every = [*_copies(self), *_files(self)]
        if self.labels is None:
            every.append(Finding("note", "no-annotation", len(self.parts), "no image has labels"))
        else:
            every += _annotations(self.labels)
        return sorted(every, key=lambda finding: _SEVERITIES.index(finding.severity))

    def to_text(self) -> str:
        """Return the findings and the first twenty pairs as lines of text."""
        lines = [f"{len(self.parts):,} images, {self.split or 'no split'}"]
        lines += [f"{f.severity + ':':<9}{f.text}" for f in self.findings()]
        named = [(group.rows, "identical") for group in self.identical]
        named += [((pair.first, pair.second), "near-duplicate") for pair in self.near]
        named += [((pair.first, pair.second), "overlap") for pair in self.overlap]
        for rows, what in named[:_NAMED_PAIRS]:
            ids = ", ".join(f"{self.images.records[r].id} ({self.parts[r]})" for r in rows[:5])
            lines.append(f"  {what:<16}{ids}")
        if len(named) > _NAMED_PAIRS:
            lines.append(f"  and {len(named) - _NAMED_PAIRS:,} more: see --out or --report")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON types: ids, counts and thresholds, no paths."""
        ids = [record.id for record in self.images.records]
        root = f"{self.images.root}/"

        def pairs(kind: str, found: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
            counts = self.counts[kind]
            head = {"count": counts.total, "within": counts.within, "across": counts.across}
            return {**head, **more, "pairs": found}

        def pair(two: NearDuplicate | Overlap | LookAlike, **more: Any) -> dict[str, Any]:
            rows = (two.first, two.second)
            both = {"ids": [ids[row] for row in rows], "parts": [self.parts[row] for row in rows]}
            return {**both, **more}

        identical = pairs("identical", [])
        del identical["pairs"]
        identical["groups"] = [
            {
                "ids": [ids[row] for row in group.rows],
                "parts": dict(Counter(self.parts[row] for row in group.rows)),
                "same_bytes": group.same_bytes,
                "contradictory": place in self.conflicts["identical"],
            }
            for place, group in enumerate(self.identical)
        ]
        near = [
            pair(
                two,
                distance=two.distance,
                form=FORMS[two.form],
                correlation=round(two.correlation, 4),
                contradictory=place in self.conflicts["near"],
            )
            for place, two in enumerate(self.near)
        ]
        overlap = [
            pair(
                two,
                down=two.down,
                right=two.right,
                shared=round(two.shared, 4),
                correlation=round(two.correlation, 4),
            )
            for two in self.overlap
        ]
        alike = [pair(two, cosine=round(two.cosine, 6)) for two in self.alike]
        encoded = self.encoder is not None
        return {
            "format": FORMAT,
            "landcue": __version__,
            "dataset": self.images.name,
            "data_id": data_id(self.images),
            "split": self.split,
            "images": len(self.parts),
            "parts": {part: self.parts.count(part) for part in part_order(self.parts)},
            "encoder": self.encoder,
            "limits": asdict(self.limits),
            "findings": [asdict(finding) for finding in self.findings()],
            "leaks": self.leaks,
            "identical": identical,
            "near": pairs("near", near, complete="near" not in self.cut),
            "overlap": pairs("overlap", overlap) if encoded else None,
            "alike": pairs("alike", alike, complete="alike" not in self.cut) if encoded else None,
            "labels": None if self.labels is None else asdict(self.labels),
            "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in self.sizes.items()],
            "odd_sizes": [
                {"id": ids[row], "height": h, "width": w} for row, (h, w) in self.odd_sizes.items()
            ],
            "bands": [{"mode": m, "bands": b, "images": n} for (m, b), n in self.kinds.items()],
            "odd_bands": [
                {"id": ids[row], "mode": m, "bands": b} for row, (m, b) in self.odd_kinds.items()
            ],
            "undecodable": [
                {"id": ids[row], "reason": why} for row, why in self.unreadable.items()
            ],
            "blank": [ids[row] for row in self.blank],
            "problems": [
                {"where": p.where.removeprefix(root), "what": p.what} for p in self.images.problems
            ],
        }

    def to_html(self, title: str | None = None) -> str:
        """Return one self-contained HTML page; ``title`` names the data set in its heading."""
        from landcue.audit.page import audit_page

        return audit_page(self, title or self.title)


def _copies(report: AuditReport) -> Iterator[Finding]:
    names = {
        "identical": ("of identical pixels", "identical-across-parts", "identical"),
        "near": ("of near-duplicates", "near-across-parts", "near-duplicates"),
        "overlap": ("of overlapping crops", "overlap-across-parts", "overlapping-crops"),
    }
    for kind, (what, across, within) in names.items():
        counts = report.counts[kind]
        if counts.crossing:
            where = ", ".join(f"{n} {pair}" for pair, n in counts.across.items())
            text = (
                f"{counted(counts.crossing, 'pair')} {what} {_lie(counts.crossing)} in different "
                f"parts ({where}): keep each pair in one part, or leave one of the two out"
            )
            yield Finding("error", across, counts.crossing, text)
        inside = counts.total - counts.crossing
        if inside:
            place = ", both in one part" if report.split else ""
            text = f"{counted(inside, 'pair')} {what}{place}"
            yield Finding("warning", within, inside, text)
    wrong = len(report.conflicts["identical"])
    if wrong:
        text = f"{counted(wrong, 'group')} of identical images with different labels or classes"
        yield Finding("error", "contradictory-identical", wrong, text)
    wrong = len(report.conflicts["near"])
    if wrong:
        text = f"{counted(wrong, 'pair')} of near-duplicates with different labels or classes"
        yield Finding("warning", "contradictory-near", wrong, text)
    alike = report.counts["alike"]
    if alike.total:
        text = (
            f"{counted(alike.total, 'pair')} of nearly equal embeddings, {alike.crossing} across "
            "parts: look at them, most are different images of one kind of place"
        )
        yield Finding("note", "look-alikes", alike.total, text)
    for kind in report.cut:
        text = f"more pairs exist than are counted for {kind}: an image has over 256 of them"
        yield Finding("warning", f"{kind}-cut", 1, text)


def _files(report: AuditReport) -> Iterator[Finding]:
    if report.unreadable:
        n = len(report.unreadable)
        yield Finding("error", "undecodable", n, f"{counted(n, 'file')} cannot be decoded")
    if report.images.problems:
        n = len(report.images.problems)
        yield Finding("warning", "source-problems", n, f"the source has {counted(n, 'problem')}")
    if report.odd_sizes:
        n = len(report.odd_sizes)
        height, width = next(iter(report.sizes))
        text = f"{counted(n, 'image')} {_have(n)} another size than {width} x {height} pixels"
        yield Finding("warning", "odd-sizes", n, text)
    if report.odd_kinds:
        n = len(report.odd_kinds)
        mode, bands = next(iter(report.kinds))
        what = f"{counted(n, 'image')} {_have(n)} other bands than {mode} ({bands})"
        text = f"{what}; all are read as RGB"
        yield Finding("warning", "other-bands", n, text)
    if report.blank:
        n = len(report.blank)
        what = f"{counted(n, 'image')} {_have(n)} hardly any content"
        text = f"{what}; copies of them are not looked for"
        yield Finding("note", "blank", n, text)


def _annotations(labels: LabelFacts) -> Iterator[Finding]:
    if labels.unlabeled:
        n = len(labels.unlabeled)
        yield Finding("warning", "unlabeled", n, f"{counted(n, 'image')} {_have(n)} no annotation")
    if labels.empty:
        n = len(labels.empty)
        text = f"{counted(n, 'image')} {_have(n)} an annotation without any label"
        yield Finding("note", "no-label", n, text)
    if labels.never:
        n = len(labels.never)
        text = f"{counted(n, 'label')} never occur{'s' if n == 1 else ''}: {_some(labels.never)}"
        yield Finding("warning", "never-occurring", n, text)
    for part, names in labels.absent.items():
        if names:
            text = f"{counted(len(names), 'label')} without an image in {part}: {_some(names)}"
            yield Finding("warning", "absent-labels", len(names), text)
    for part, names in labels.rare.items():
        if names:
            text = f"{counted(len(names), 'label')} with very few images in {part}: {_some(names)}"
            yield Finding("note", "rare-labels", len(names), text)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED_LABELS} more" if len(names) > _NAMED_LABELS else ""
    return ", ".join(names[:_NAMED_LABELS]) + more


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _lie(count: int) -> str:
    return "lies" if count == 1 else "lie"
