"""The pages of an evaluation and of a comparison: everything to trust or doubt a score."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landcue import __version__
from landcue.codes.packing import code_statistics
from landcue.metrics.annotations import Annotations
from landcue.metrics.curves import compute_curves
from landcue.metrics.relevance import Floats, relevant
from landcue.metrics.report import RETRIEVAL_TIME, Report
from landcue.report.charts import (
    bits_figure,
    confusion_figure,
    curve_figures,
    difference_figure,
    label_figure,
    map_figure,
)
from landcue.report.comparison import (
    Contest,
    column_names,
    label_cells,
    metric_cells,
    rows_of,
    verdict,
)
from landcue.report.embedding_map import categories, make_map
from landcue.report.evaluation import Evaluation, Space
from landcue.report.queries import (
    Confusion,
    RankedQuery,
    confusion,
    deciding_metric,
    extremes,
    retrieve,
    wrong_first_hits,
)
from landcue.report.tables import data_uri, milliseconds, number, render, size_facts, span

_BEST, _HITS = 4, 10
_DIFFERING, _COMPARED_HITS = 3, 8
_TILES, _PAIRS, _LABELS, _RIVALS, _FIRST_HITS = 12, 8, 12, 3, 20

NOTE = (
    "Differences are first minus second. Interval: bootstrap over queries; p: permutation test "
    "that exchanges the two models query by query. Both speak of other queries for these trained "
    "models, not of other trainings. p (Holm) is corrected for the number of labels."
)
_ABOUT = {
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


@dataclass(frozen=True, slots=True)
class _Tile:
    """One image of a page: a query (``asked``), or a hit that is relevant (``hit``) or not.

    Attributes:
        labels: With whether the query has them too.
    """

    name: str
    kind: str
    picture: str | None
    labels: list[tuple[str, bool]]
    rank: int = 0
    distance: str = ""
    shared_text: str = ""


@dataclass(frozen=True, slots=True)
class _QueryRow:
    title: str
    asked: _Tile
    hits: list[_Tile]


def evaluation_page(subject: Evaluation, made: str) -> str:
    """Return the page of an evaluation; the same subject and day give the same bytes."""
    scores, spaces = subject.main.scores, subject.scores
    metric = deciding_metric(scores.protocol)
    values = scores.per_query[metric.name]
    best, worst = extremes(values, subject.query, _BEST, falling=metric.family.falling)
    confused = confusion(subject, subject.main, _FIRST_HITS)
    curves = {
        name: compute_curves(
            subject.query, subject.gallery, subject.spaces[name].distances, scores.protocol
        )
        for name in spaces
    }
    flat = make_map(subject.main)
    return render(
        "evaluation.html",
        title=f"Retrieval report: {subject.name}",
        summary=_summary(subject),
        facts=_facts(subject, metric.name),
        sections=[
            ("scores", "Scores"),
            ("curves", "Curves"),
            ("labels", "Labels"),
            ("queries", "Best and worst queries"),
            ("failures", "Failure cases"),
            ("codes", "Codes"),
            ("map", "Map"),
            ("protocol", "Protocol"),
            ("provenance", "Provenance"),
        ],
        scores=[_score_table(subject, name, found) for name, found in spaces.items()],
        curves=curve_figures(curves, scores),
        label_figure=label_figure(spaces),
        label_head=["label", "third", "queries", "in gallery"]
        + [f"mAP, {name}" for name in spaces]
        + ["chance"],
        label_rows=_label_rows(subject),
        metric=metric.name,
        searched=subject.searched,
        n_hits=_HITS,
        distance_name="Hamming distance in bits" if subject.main.n_bits else "cosine distance",
        best=_query_rows(subject, best, _HITS, values, metric.name),
        worst=_query_rows(subject, worst, _HITS, values, metric.name),
        **_failures(subject),
        confused=_confused_rows(confused),
        confusion_k=confused.k,
        confusion_figure=confusion_figure(confused),
        codes=_codes(subject),
        map=None if flat is None else map_figure(flat, *categories(subject.gallery)),
        **_protocol(subject),
        **_provenance([(subject.name, subject)], made),
    )


def comparison_page(
    first: Evaluation, second: Evaluation, contests: Sequence[Contest], made: str
) -> str:
    """Return the page of two models side by side on the same queries."""
    names = column_names(first, second)
    both = list(zip(names, (first, second), strict=True))
    metric = deciding_metric(first.main.scores.protocol)
    tests = {n: line.test for n, line in contests[0].labels.items() if line.test is not None}
    label_head, *label_rows = label_cells(contests[0], *names)
    curves = {
        f"{name}, {one.searched}": compute_curves(
            one.query, one.gallery, one.main.distances, one.main.scores.protocol
        )
        for name, one in both
    }
    tables = [(contest.title, metric_cells(contest, *names)) for contest in contests]
    return render(
        "comparison.html",
        title=f"Comparison: {names[0]} and {names[1]}",
        summary=_summary(first),
        verdict=verdict(contests[0], metric.name, names),
        sections=[
            ("scores", "Scores"),
            ("curves", "Curves"),
            ("labels", "Labels"),
            ("queries", "Queries that differ most"),
            ("protocol", "Protocol"),
            ("provenance", "Provenance"),
        ],
        note=NOTE,
        scores=[(title, cells[0], cells[1:]) for title, cells in tables],
        curves=curve_figures(curves, first.main.scores),
        difference_figure=difference_figure(tests, *names),
        label_head=label_head,
        label_rows=label_rows,
        metric=metric.name,
        n_hits=_COMPARED_HITS,
        differing=_differing(both),
        **_protocol(first),
        **_provenance(both, made),
    )


def digest(images: Annotations) -> str:
    """Return 16 hexadecimal digits over ids, label names and labels."""
    text = hashlib.sha256(repr((images.ids, images.label_names)).encode())
    text.update(images.labels.tobytes())
    return text.hexdigest()[:16]


def _summary(subject: Evaluation) -> str:
    about = [str(subject.about[key]) for key in ("dataset", "split") if key in subject.about]
    where = f"{', '.join(about)}; " if about else ""
    protocol = subject.main.scores.protocol.name
    return f"{where}part {subject.about['part']}; protocol {protocol}."


def _facts(subject: Evaluation, metric: str) -> list[tuple[str, str, str]]:
    """Return the boxes at the top: (what, value, remark)."""
    facts: list[tuple[str, str, str]] = []
    for name, scores in subject.scores.items():
        remark = f"chance {number(scores.chance[metric])}"
        if metric in scores.intervals:
            remark = f"95 % interval {span(scores.intervals[metric])}; {remark}"
        facts.append((f"{metric}, {name}", number(scores.metrics[metric]), remark))
    counts = subject.main.scores.counts
    gallery = f"search {counts['n_gallery']:,} gallery images"
    return [*facts, ("queries", f"{counts['n_query']:,}", gallery)]


def _score_table(
    subject: Evaluation, name: str, scores: Report
) -> tuple[str, list[str], list[list[object]]]:
    head = ["metric", "value"]
    head += ["95 % interval"] if scores.intervals else []
    head += ["ties, worst .. best"] if scores.bands else []
    rows: list[list[object]] = []
    for metric in scores.protocol.metrics():
        remark = " (lower is better)" if metric.family.falling else ""
        line: list[object] = [metric.name + remark, scores.metrics[metric.name]]
        line += [span(scores.intervals[metric.name])] if scores.intervals else []
        line += [span(scores.bands[metric.name])] if scores.bands else []
        rows.append([*line, scores.chance[metric.name]])
    if scores.retrieval_time:
        gap = ["–"] * (len(head) - 1)
        rows.append([RETRIEVAL_TIME, milliseconds(scores), *gap])
    remark = " (searched)" if name == subject.searched and len(subject.spaces) > 1 else ""
    return name + remark, [*head, "chance"], rows


def _label_rows(subject: Evaluation) -> list[list[object]]:
    main, others = subject.main.scores, subject.scores.values()
    ordered = sorted(main.per_label.items(), key=lambda item: (item[1].n_gallery, item[0]))
    rows: list[list[object]] = [
        [
            name,
            label.third or "–",
            label.n_query,
            label.n_gallery,
            *(other.per_label[name].mean for other in others),
            label.chance,
        ]
        for name, label in ordered
    ]
    return rows + [
        [f"mean of {third} labels", "", "", "", *(other.macro[third] for other in others), ""]
        for third in main.macro
    ]


def _failures(subject: Evaluation) -> dict[str, Any]:
    """Return the queries with nothing to find, and those whose first hit is not relevant."""
    scores = subject.main.scores
    values = scores.per_query[scores.protocol.metrics()[0].name]
    nothing = [int(row) for row in np.flatnonzero(np.isnan(values))]
    shown = nothing[:_TILES]
    pictures = subject.pictures([subject.query.ids[row] for row in shown])
    wrong = wrong_first_hits(subject, values)
    return {
        "nothing": {
            "count": len(nothing),
            "total": len(values),
            "tiles": [_query_tile(subject, row, pictures) for row in shown],
        },
        "wrong": {
            "count": len(wrong),
            "counted": int(np.isfinite(values).sum()),
            "queries": _query_rows(subject, wrong[:_PAIRS], 1, values, ""),
        },
    }


def _confused_rows(found: Confusion) -> list[list[object]]:
    return [
        [
            found.names[c],
            int(found.n_query[c]),
            _percent(found.missed[c]),
            _percent(found.chance_missed[c]),
            ", ".join(
                f"{found.names[d]} {_percent(found.instead[c, d])} (chance "
                f"{_percent(found.chance[c, d])})"
                for d in found.rivals(c, _RIVALS)
            )
            or "–",
        ]
        for c in found.worst(_LABELS)
    ]


def _codes(subject: Evaluation) -> list[tuple[str, list[list[str]], object]]:
    shown: list[tuple[str, list[list[str]], object]] = []
    for name, space in subject.spaces.items():
        if space.codes is None:
            continue
        found = code_statistics(space.codes, space.n_bits)
        shared = round(found.collision_rate * found.n_codes)
        rows = [
            ["gallery images", f"{found.n_codes:,}"],
            ["bits of a code", f"{found.n_bits}"],
            ["different codes", f"{found.n_distinct:,}"],
            [
                "images that share their code with another",
                f"{shared:,} ({100 * found.collision_rate:.1f} %)",
            ],
            ["imbalance (0: every bit half 1; 1: constant bits)", f"{found.imbalance:.3f}"],
        ]
        shown.append((name, rows, bits_figure(found)))
    return shown


def _differing(both: Sequence[tuple[str, Evaluation]]) -> list[tuple[str, list[_QueryRow]]]:
    """Return the queries that each of two models does most better than the other."""
    (names, (first, second)) = [name for name, _ in both], [subject for _, subject in both]
    metric = deciding_metric(first.main.scores.protocol)
    rows = rows_of(first.query, second.query)
    ours = first.main.scores.per_query[metric.name]
    theirs = second.main.scores.per_query[metric.name]
    gains = (ours - theirs[rows]) * (-1 if metric.family.falling else 1)
    found: list[tuple[str, list[_QueryRow]]] = []
    for name, sign in zip(names, (1, -1), strict=True):
        some = [int(row) for row in np.flatnonzero(sign * gains > 0)]
        some.sort(key=lambda row: (-sign * gains[row], first.query.ids[row]))
        queries: list[_QueryRow] = []
        for row in some[:_DIFFERING]:
            for model, subject, place, values in (
                (names[0], first, row, ours),
                (names[1], second, rows[row], theirs),
            ):
                title = f"{model} · {metric.name}"
                queries += _query_rows(subject, [place], _COMPARED_HITS, values, title)
        found.append((f"{name} is better ({len(some):,} queries)", queries))
    return found


def _query_rows(
    subject: Evaluation, rows: Iterable[int], k: int, values: Floats, metric: str
) -> list[_QueryRow]:
    """Return queries with their first k hits as tiles."""
    found = retrieve(subject, subject.main, rows, k, values)
    wanted = dict.fromkeys(subject.query.ids[one.row] for one in found)
    wanted |= dict.fromkeys(subject.gallery.ids[row] for one in found for row in one.hits)
    pictures = subject.pictures(list(wanted))
    return [
        _QueryRow(
            f"{subject.query.ids[one.row]} · {metric} {number(one.value)}",
            _query_tile(subject, one.row, pictures),
            _hit_tiles(subject, subject.main, one, pictures),
        )
        for one in found
    ]


def _query_tile(subject: Evaluation, row: int, pictures: dict[str, bytes]) -> _Tile:
    name, labels = subject.query.ids[row], _labels(subject.query, row)
    return _Tile(name, "asked", _picture(name, pictures), [(label, False) for label in labels])


def _hit_tiles(
    subject: Evaluation, space: Space, found: RankedQuery, pictures: dict[str, bytes]
) -> list[_Tile]:
    """Return the tiles of a query's hits, nearest first."""
    hits = list(found.hits)
    if not hits:
        return []
    wanted = set(_labels(subject.query, found.row))
    related = relevant(
        subject.query.labels[found.row : found.row + 1],
        subject.gallery.labels[hits],
        space.scores.protocol.relevance,
    )[0]
    tiles: list[_Tile] = []
    for place, (row, distance) in enumerate(zip(hits, found.distances, strict=True)):
        labels = _labels(subject.gallery, row)
        shared = sum(label in wanted for label in labels)
        name = subject.gallery.ids[row]
        tiles.append(
            _Tile(
                name,
                "hit" if related[place] else "miss",
                _picture(name, pictures),
                [(label, label in wanted) for label in labels],
                place + 1,
                f"{distance:.0f}" if space.n_bits else f"{distance:.3f}",
                f"{shared} shared" if shared else "✗ none shared",
            )
        )
    return tiles


def _labels(images: Annotations, row: int) -> list[str]:
    return [name for name, on in zip(images.label_names, images.labels[row], strict=True) if on]


def _picture(name: str, pictures: dict[str, bytes]) -> str | None:
    return data_uri(pictures[name]) if name in pictures else None


def _protocol(subject: Evaluation) -> dict[str, Any]:
    scores = subject.main.scores
    rules = [*scores.rules(), *size_facts(scores.counts)]
    definitions = list(scores.protocol.definitions().items())
    if scores.retrieval_time:
        definitions.append((RETRIEVAL_TIME, scores.retrieval_time.describe()))
    return {"rules": rules, "definitions": definitions}


def _provenance(subjects: Sequence[tuple[str, Evaluation]], made: str) -> dict[str, Any]:
    """Return where the scores come from, a column per subject."""
    keys = list(dict.fromkeys(key for _, subject in subjects for key in subject.about))
    rows = [
        [_ABOUT.get(key, key), *(str(subject.about.get(key, "–")) for _, subject in subjects)]
        for key in keys
    ]
    rows.append(["queries (digest)", *(digest(subject.query) for _, subject in subjects)])
    rows.append(["evaluated", *(made for _ in subjects)])
    rows.append(["LandCue", *(__version__ for _ in subjects)])
    return {"provenance_head": ["", *(name for name, _ in subjects)], "provenance_rows": rows}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if np.isfinite(share) else "–"
