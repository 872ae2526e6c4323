"""The page of a comparison: two models side by side on the same queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from landcue.metrics.curves import compute_curves
from landcue.metrics.report import Report
from landcue.report import parts
from landcue.report.charts import curve_figures, difference_figure
from landcue.report.comparison import (
    Contest,
    column_names,
    label_cells,
    metric_cells,
)
from landcue.report.grids import asked_tile, hit_tiles, wanted_pictures
from landcue.report.html import Html, escape, join, page, paragraph, section, table
from landcue.report.queries import deciding_metric, retrieve
from landcue.report.subject import Subject
from landcue.report.tables import (
    Cells,
    latex,
    latex_escape,
    markdown,
    number,
    signed,
)

_EXAMPLES = 3
_HITS = 8
_NOTE = (
    "Differences are first minus second. Interval: bootstrap over queries; p: permutation test "
    "that exchanges the two models query by query. Both speak of other queries for these trained "
    "models, not of other trainings. p (Holm) is corrected for the number of labels."
)
_SECTIONS = (
    ("scores", "Scores"),
    ("curves", "Curves"),
    ("labels", "Labels"),
    ("queries", "Queries that differ most"),
    ("protocol", "Protocol"),
    ("provenance", "Provenance"),
)


def comparison_page(first: Subject, second: Subject, contests: Sequence[Contest], made: str) -> str:
    """Return a self-contained HTML page.

    Args:
        first: A model's evaluation.
        second: Another one's.
        contests: What :func:`landcue.report.comparison.compare_subjects` found.
        made: The day of the evaluation, ISO 8601.
    """
    names = column_names(first, second)
    body = join(
        [
            _summary(first, contests[0], names),
            parts.contents(_SECTIONS),
            _scores(contests, names),
            _curves(first, second, names),
            _labels(contests[0], names),
            _queries(first, second, names),
            parts.protocol_section(first.main.scores.protocol, first),
            parts.provenance_section(list(zip(names, (first, second), strict=True)), made),
        ]
    )
    return page(f"Comparison: {names[0]} and {names[1]}", body, parts.STYLE)


def comparison_markdown(
    facts: Sequence[str], contests: Sequence[Contest], names: tuple[str, str]
) -> str:
    """Return the tables of a comparison as Markdown."""
    lines = [f"# {names[0]} and {names[1]}", "", *(f"* {fact}" for fact in facts), "", _NOTE]
    for contest in contests:
        lines += ["", f"## {contest.title}", "", *markdown(metric_cells(contest, *names))]
        lines += ["", "Mean AP by label, rare labels first:", ""]
        lines += markdown(label_cells(contest, *names))
    return "\n".join(lines) + "\n"


def comparison_latex(
    facts: Sequence[str], contests: Sequence[Contest], names: tuple[str, str]
) -> str:
    """Return the tables of a comparison as LaTeX ``tabular`` blocks."""
    blocks: list[str] = []
    for contest in contests:
        for cells in (metric_cells(contest, *names), label_cells(contest, *names)):
            escaped: Cells = [[latex_escape(cell) for cell in line] for line in cells]
            blocks.append(latex(escaped, 1, [*facts, contest.title]))
    return "\n".join(blocks)


def verdict(contest: Contest, metric: str, names: tuple[str, str]) -> str:
    """Say in a sentence which model is better by a metric, or that the queries cannot tell."""
    line = contest.metrics[metric]
    if line.test is None:
        return f"Fewer than two queries define {metric}, so nothing can be compared."
    low, high = line.test.interval
    found = (
        f"{metric} {number(line.first)} against {number(line.second)}: "
        f"{signed(line.test.difference)}, 95 % interval {signed(low)} .. {signed(high)}, "
        f"p = {number(line.test.p_value)}."
    )
    if low <= 0 <= high:
        return f"These queries cannot tell the two apart. {found}"
    first = (line.test.difference > 0) != (metric in contest.falling)
    better = names[0] if first else names[1]
    return f"{better} is better. {found}"


def _summary(first: Subject, contest: Contest, names: tuple[str, str]) -> Html:
    metric = deciding_metric(first.main.scores.protocol)
    said = verdict(contest, metric.name, names)
    about = ", ".join(str(first.about[key]) for key in ("dataset", "split") if key in first.about)
    where = f"{about}; " if about else ""
    facts = f"{where}part {first.about['part']}; protocol {first.main.scores.protocol.name}."
    return join([paragraph(facts, kind="muted"), Html(f"<p><strong>{escape(said)}</strong></p>")])


def _scores(contests: Sequence[Contest], names: tuple[str, str]) -> Html:
    tables: list[Html] = []
    for contest in contests:
        header, *rows = metric_cells(contest, *names)
        tables.append(table(header, rows, contest.title))
    return section("Scores", paragraph(_NOTE, kind="muted"), *tables, anchor="scores")


def _curves(first: Subject, second: Subject, names: tuple[str, str]) -> Html:
    found = {
        f"{name}, {subject.searched}": compute_curves(
            subject.query,
            subject.gallery,
            subject.main.distances,
            subject.main.scores.protocol,
        )
        for name, subject in zip(names, (first, second), strict=True)
    }
    scores: Report = first.main.scores
    return section("Curves", curve_figures(found, scores), anchor="curves")


def _labels(contest: Contest, names: tuple[str, str]) -> Html:
    tests = {name: line.test for name, line in contest.labels.items() if line.test is not None}
    header, *rows = label_cells(contest, *names)
    return section(
        "Labels",
        difference_figure(tests, *names),
        table(header, rows, "Mean AP of the queries with each label, rare labels first."),
        anchor="labels",
    )


def _queries(first: Subject, second: Subject, names: tuple[str, str]) -> Html:
    metric = deciding_metric(first.main.scores.protocol)
    row_of = {name: row for row, name in enumerate(second.query.ids)}
    rows = np.array([row_of[name] for name in first.query.ids])
    ours = first.main.scores.per_query[metric.name]
    theirs = second.main.scores.per_query[metric.name]
    gains = (ours - theirs[rows]) * (-1 if metric.family.falling else 1)
    shown: list[Html] = []
    for title, sign in ((f"{names[0]} is better", 1), (f"{names[1]} is better", -1)):
        some = [int(row) for row in np.flatnonzero(sign * gains > 0)]
        some.sort(key=lambda row: (-sign * gains[row], first.query.ids[row]))
        shown.append(Html(f"<h3>{escape(title)} ({len(some):,} queries)</h3>"))
        for row in some[:_EXAMPLES]:
            pair = ((names[0], first, row, ours), (names[1], second, int(rows[row]), theirs))
            for name, subject, place, values in pair:
                space = subject.main
                (found,) = retrieve(subject, space, [place], _HITS, values)
                pictures = wanted_pictures(subject, [found])
                head = f"{first.query.ids[row]} · {name} · {metric.name} {number(found.value)}"
                tiles = join(
                    [
                        asked_tile(subject, place, pictures),
                        hit_tiles(subject, space, found, pictures),
                    ]
                )
                shown.append(
                    Html(
                        f'<div class="query"><h4>{escape(head)}</h4>'
                        f'<div class="tiles">{tiles}</div></div>'
                    )
                )
    return section(
        "Queries that differ most",
        paragraph(
            f"By {metric.name} in the searched spaces: the query (double frame) and its first "
            f"{_HITS} hits for each model. Labels shared with the query are checked and "
            "underlined; a hit that is not relevant has a dashed frame.",
            kind="muted",
        ),
        *shown,
        anchor="queries",
    )
