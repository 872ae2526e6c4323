"""What the pages of evaluations and of comparisons have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from landcue import __version__
from landcue.metrics.annotations import Annotations
from landcue.metrics.protocol import Protocol
from landcue.report import grids
from landcue.report.html import Html, escape, paragraph, section, table
from landcue.report.subject import Subject

STYLE = (
    grids.STYLE
    + """
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; margin: .75rem 0;
  list-style: none; }
nav a { color: var(--accent); }
.facts { font-size: 1rem; display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; }
.fact { background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .5rem .9rem; }
.fact strong { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.fact span { color: var(--muted); font-size: .85rem; display: block; }
figure.chart { overflow-x: auto; max-width: 100%; }
figure.chart svg { display: block; height: auto; max-width: 100%; min-width: 36rem; }
.charts figure.chart svg { min-width: 0; }
td.number, #scores td, #labels td { white-space: nowrap; }
.charts figure { flex: 1 1 27rem; max-width: 34rem; margin: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .92rem; }
dt { font-weight: 600; } dd { margin: 0; }
@media (max-width: 40rem) { body { padding: .75rem; } dl { grid-template-columns: 1fr; }
  dd { margin: 0 0 .4rem; } }
@media print { nav { display: none; } figure.chart svg { min-width: 0; }
  .tile { width: 5.6rem; font-size: 7pt; } table { font-size: 8.5pt; }
  .charts figure { flex-basis: 45%; } a { color: inherit; } }
"""
)

_WORDS = {
    "run": "run",
    "archive": "archive",
    "dataset": "dataset",
    "split": "split",
    "part": "queries: part",
    "gallery": "gallery: part",
    "model": "model (SHA-256)",
    "searched": "space searched",
    "skipped": "images skipped (undecodable)",
}


def contents(titles: Sequence[tuple[str, str]]) -> Html:
    """Return links to sections, given as (anchor, title)."""
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title in titles)
    return Html(f"<nav><ul>{links}</ul></nav>")


def protocol_section(protocol: Protocol, subject: Subject) -> Html:
    """Return the rules, the definition of every metric, and how many images took part."""
    counts = subject.main.scores.counts
    rules = [*protocol.describe(), *size_facts(counts)]
    listed = "".join(f"<li>{escape(rule)}</li>" for rule in rules)
    terms = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
        for name, text in protocol.definitions().items()
    )
    return section(
        "Protocol",
        Html(f"<ul>{listed}</ul>"),
        Html("<h3>Definitions</h3>"),
        Html(f"<dl>{terms}</dl>"),
        anchor="protocol",
    )


def size_facts(counts: dict[str, int]) -> list[str]:
    """Return how many images took part, and how many queries have nothing to find."""
    facts = [f"{counts['n_query']:,} queries, {counts['n_gallery']:,} gallery images"]
    for name, count in counts.items():
        if name.startswith("n_without_relevant") and count:
            what = name.removeprefix("n_without_relevant")
            facts.append(f"{count:,} queries have no relevant image {what}".rstrip())
    return facts


def provenance_section(subjects: Sequence[tuple[str, Subject]], made: str) -> Html:
    """Return where the scores come from, a column per subject.

    Args:
        subjects: With the names of their columns.
        made: The day of the evaluation.
    """
    keys = list(dict.fromkeys(key for _, subject in subjects for key in subject.about))
    rows = [
        [_WORDS.get(key, key), *(str(subject.about.get(key, "–")) for _, subject in subjects)]
        for key in keys
    ]
    rows.append(["queries (digest)", *(digest(subject.query) for _, subject in subjects)])
    rows.append(["evaluated", *(made for _ in subjects)])
    rows.append(["LandCue", *(__version__ for _ in subjects)])
    return section(
        "Provenance",
        table(["", *(name for name, _ in subjects)], rows),
        paragraph(
            "The digest is over ids and labels: equal digests mean equal queries.", kind="muted"
        ),
        anchor="provenance",
    )


def digest(images: Annotations) -> str:
    """Return 16 hexadecimal digits over ids, label names and labels."""
    text = hashlib.sha256(repr((images.ids, images.label_names)).encode())
    text.update(images.labels.tobytes())
    return text.hexdigest()[:16]


def facts_box(facts: Sequence[tuple[str, str, str]]) -> Html:
    """Return a row of boxes, given as (what, value, remark)."""
    boxes = (
        f'<div class="fact">{escape(what)}<strong>{escape(value)}</strong>'
        f"<span>{escape(remark)}</span></div>"
        for what, value, remark in facts
    )
    return Html(f'<div class="facts">{"".join(boxes)}</div>')
