"""What an audit found, as a list to read: how bad, what, how many, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from landcue.audit.audit import Audit
from landcue.audit.labels import LabelFacts

Severity = Literal["error", "warning", "note"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_NAMED = 10


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


def findings(audit: Audit) -> list[Finding]:
    """List all that an audit found, the worst first."""
    every = [*_copies(audit), *_files(audit)]
    if audit.labels is None:
        every.append(Finding("note", "no-annotation", len(audit.parts), "no image has labels"))
    else:
        every += _annotations(audit.labels)
    return sorted(every, key=lambda finding: _ORDER.index(finding.severity))


def _copies(audit: Audit) -> Iterator[Finding]:
    names = {
        "identical": ("of identical pixels", "identical-across-parts", "identical"),
        "near": ("of near-duplicates", "near-across-parts", "near-duplicates"),
        "overlap": ("of overlapping crops", "overlap-across-parts", "overlapping-crops"),
    }
    for kind, (what, across, within) in names.items():
        counts = audit.counts[kind]
        if counts.crossing:
            where = ", ".join(f"{n} {pair}" for pair, n in counts.across.items())
            text = (
                f"{_n(counts.crossing, 'pair')} {what} {_lie(counts.crossing)} in different parts "
                f"({where}): keep each pair in one part, or leave one of the two out"
            )
            yield Finding("error", across, counts.crossing, text)
        inside = counts.total - counts.crossing
        if inside:
            place = ", both in one part" if audit.split else ""
            text = f"{_n(inside, 'pair')} {what}{place}"
            yield Finding("warning", within, inside, text)
    wrong = len(audit.conflicts["identical"])
    if wrong:
        text = f"{_n(wrong, 'group')} of identical images with different labels or classes"
        yield Finding("error", "contradictory-identical", wrong, text)
    wrong = len(audit.conflicts["near"])
    if wrong:
        text = f"{_n(wrong, 'pair')} of near-duplicates with different labels or classes"
        yield Finding("warning", "contradictory-near", wrong, text)
    alike = audit.counts["alike"]
    if alike.total:
        text = (
            f"{_n(alike.total, 'pair')} of nearly equal embeddings, {alike.crossing} across parts: "
            "look at them, most are different images of one kind of place"
        )
        yield Finding("note", "look-alikes", alike.total, text)
    for kind in audit.cut:
        text = f"more pairs exist than are counted for {kind}: an image has over 256 of them"
        yield Finding("warning", f"{kind}-cut", 1, text)


def _files(audit: Audit) -> Iterator[Finding]:
    if audit.unreadable:
        n = len(audit.unreadable)
        yield Finding("error", "undecodable", n, f"{_n(n, 'file')} cannot be decoded")
    if audit.images.problems:
        n = len(audit.images.problems)
        yield Finding("warning", "source-problems", n, f"the source has {_n(n, 'problem')}")
    if audit.odd_sizes:
        n = len(audit.odd_sizes)
        height, width = next(iter(audit.sizes))
        text = f"{_n(n, 'image')} {_have(n)} another size than {width} x {height} pixels"
        yield Finding("warning", "odd-sizes", n, text)
    if audit.odd_kinds:
        n = len(audit.odd_kinds)
        mode, bands = next(iter(audit.kinds))
        text = f"{_n(n, 'image')} {_have(n)} other bands than {mode} ({bands}); all are read as RGB"
        yield Finding("warning", "other-bands", n, text)
    if audit.blank:
        n = len(audit.blank)
        text = f"{_n(n, 'image')} {_have(n)} hardly any content; copies of them are not looked for"
        yield Finding("note", "blank", n, text)


def _annotations(labels: LabelFacts) -> Iterator[Finding]:
    if labels.unlabeled:
        n = len(labels.unlabeled)
        yield Finding("warning", "unlabeled", n, f"{_n(n, 'image')} {_have(n)} no annotation")
    if labels.empty:
        n = len(labels.empty)
        text = f"{_n(n, 'image')} {_have(n)} an annotation without any label"
        yield Finding("note", "no-label", n, text)
    if labels.never:
        n = len(labels.never)
        text = f"{_n(n, 'label')} never occur{'s' if n == 1 else ''}: {_some(labels.never)}"
        yield Finding("warning", "never-occurring", n, text)
    for part, names in labels.absent.items():
        if names:
            text = f"{_n(len(names), 'label')} without an image in {part}: {_some(names)}"
            yield Finding("warning", "absent-labels", len(names), text)
    for part, names in labels.rare.items():
        if names:
            text = f"{_n(len(names), 'label')} with very few images in {part}: {_some(names)}"
            yield Finding("note", "rare-labels", len(names), text)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _lie(count: int) -> str:
    return "lies" if count == 1 else "lie"
