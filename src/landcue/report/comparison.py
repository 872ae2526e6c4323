"""Two models on the same queries: what differs, and whether chance could have done it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from landcue.errors import UsageError
from landcue.metrics.annotations import Annotations
from landcue.metrics.intervals import Comparison, compare, holm
from landcue.metrics.relevance import Floats
from landcue.metrics.report import aligned, finite
from landcue.report.evaluation import Evaluation
from landcue.report.queries import deciding_metric
from landcue.report.tables import Cells, number, signed

_SAME = ("dataset", "split", "part", "gallery")


@dataclass(frozen=True, slots=True)
class Line:
    """One score of two models on the same queries.

    Attributes:
        first: The first model's mean; NaN if no query counts.
        second: The second model's.
        test: First minus second, with interval and p value; ``None`` if fewer than two queries
            count.
        adjusted: The p value, corrected by Holm's method for the lines of its table; NaN without
            a test, and for metrics, which are not corrected.
    """

    first: float
    second: float
    test: Comparison | None
    adjusted: float = math.nan


@dataclass(frozen=True, slots=True)
class Contest:
    """Two spaces, one of each model, compared query by query.

    Attributes:
        spaces: Name of the first model's space and of the second's.
        metrics: By metric, in the protocol's order.
        labels: Own-label AP of each label, rare labels first.
        falling: Metrics of which less is better.
    """

    spaces: tuple[str, str]
    metrics: dict[str, Line]
    labels: dict[str, Line]
    falling: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """The spaces in words."""
        first, second = self.spaces
        return first if first == second else f"{first} against {second}"


def compare_evaluations(
    first: Evaluation, second: Evaluation, *, resamples: int = 10_000, seed: int = 0
) -> list[Contest]:
    """Compare two models, the spaces they are searched in first, then others of the same name.

    >>> import landcue
    >>> first = landcue.evaluate(folder)
    >>> compare_evaluations(first, first)[0].metrics["mAP"].test.difference
    0.0
    """
    check_same(first, second)
    pairs = [(first.searched, second.searched)]
    pairs += [
        (name, name) for name in first.scores if name in second.spaces and (name, name) not in pairs
    ]
    return [_contest(first, second, pair, resamples, seed) for pair in pairs]


def check_same(first: Evaluation, second: Evaluation) -> None:
    """Refuse to compare evaluations of different things."""
    ours, theirs = first.main.scores.protocol, second.main.scores.protocol
    names = f"{first.name} and {second.name}"
    if ours != theirs:
        raise UsageError(
            f"{names} were measured by different protocols ({ours.name} {ours.fingerprint} and "
            f"{theirs.name} {theirs.fingerprint}): evaluate both by one"
        )
    for key in _SAME:
        one, other = first.about.get(key), second.about.get(key)
        if None not in (one, other) and one != other:
            raise UsageError(
                f"{names} differ in {key} ({one} and {other}): compare models on the same images"
            )
    _check_images("queries", names, first.query, second.query)
    _check_images("gallery images", names, first.gallery, second.gallery)


def to_json(contests: list[Contest]) -> list[dict[str, Any]]:
    """Return plain JSON types; NaN becomes null."""
    return [
        {
            "spaces": list(contest.spaces),
            "metrics": {name: _line_json(line) for name, line in contest.metrics.items()},
            "per_label": {name: _line_json(line) for name, line in contest.labels.items()},
        }
        for contest in contests
    ]


def to_text(first: Evaluation, second: Evaluation, contests: Sequence[Contest]) -> str:
    """Return the verdict and the tables as text."""
    names = column_names(first, second)
    metric = deciding_metric(first.main.scores.protocol).name
    blocks = [[verdict(contests[0], metric, names)]]
    for contest in contests:
        blocks.append([contest.title, *aligned(metric_cells(contest, *names))])
    blocks.append(["own-label AP", *aligned(label_cells(contests[0], *names))])
    blocks.append(first.main.scores.rules())
    return "\n\n".join("\n".join(block) for block in blocks)


def metric_cells(contest: Contest, first: str, second: str) -> Cells:
    """Return the metrics as text cells, the header first."""
    header = ["metric", first, second, "difference", "95 % interval", "p"]
    falling = " (lower is better)"
    return [
        header,
        *(
            _cells(name + falling * (name in contest.falling), line)
            for name, line in contest.metrics.items()
        ),
    ]


def label_cells(contest: Contest, first: str, second: str) -> Cells:
    """Return the own-label AP as text cells, the header first."""
    header = ["label", first, second, "difference", "95 % interval", "p", "p (Holm)"]
    lines = contest.labels.items()
    return [header, *([*_cells(name, line), number(line.adjusted)] for name, line in lines)]


def column_names(first: Evaluation, second: Evaluation) -> tuple[str, str]:
    """Return what tables call the two models: their names, made unique if they are equal."""
    if first.name != second.name:
        return first.name, second.name
    return f"{first.name} (first)", f"{second.name} (second)"


def verdict(contest: Contest, metric: str, names: tuple[str, str]) -> str:
    """Return a sentence on which model is better by a metric, or that neither is."""
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


def _contest(
    first: Evaluation, second: Evaluation, pair: tuple[str, str], resamples: int, seed: int
) -> Contest:
    ours, theirs = first.spaces[pair[0]].scores, second.spaces[pair[1]].scores
    rows = rows_of(first.query, second.query)

    def line(mine: Floats, other: Floats) -> Line:
        counted = ~np.isnan(mine - other)
        if not counted.any():
            return Line(math.nan, math.nan, None)
        means = float(mine[counted].mean()), float(other[counted].mean())
        if counted.sum() < 2:
            return Line(*means, None)
        return Line(*means, compare([mine], [other], resamples=resamples, seed=seed))

    metrics = {
        metric.name: line(ours.per_query[metric.name], theirs.per_query[metric.name][rows])
        for metric in ours.protocol.metrics()
    }
    columns = [second.query.label_names.index(name) for name in first.query.label_names]
    values = ours.own_label, theirs.own_label[rows][:, columns]
    ordered = sorted(ours.per_label.items(), key=lambda item: (item[1].n_gallery, item[0]))
    labels: dict[str, Line] = {}
    for name, _ in ordered:
        column = first.query.label_names.index(name)
        if first.query.labels[:, column].any():
            labels[name] = line(values[0][:, column], values[1][:, column])
    falling = frozenset(m.name for m in ours.protocol.metrics() if m.family.falling)
    return Contest(pair, metrics, _holm(labels), falling)


def _holm(lines: Mapping[str, Line]) -> dict[str, Line]:
    """Correct p values for their number."""
    tested = {n: line.test.p_value for n, line in lines.items() if line.test is not None}
    adjusted = holm(tested)
    return {
        name: Line(line.first, line.second, line.test, adjusted.get(name, math.nan))
        for name, line in lines.items()
    }


def rows_of(ours: Annotations, theirs: Annotations) -> list[int]:
    """Return the rows of ``theirs`` in the order of ``ours``."""
    row = {name: place for place, name in enumerate(theirs.ids)}
    return [row[name] for name in ours.ids]


def _check_images(what: str, names: str, ours: Annotations, theirs: Annotations) -> None:
    missing = sorted(set(ours.ids) ^ set(theirs.ids))
    if missing:
        where = "first" if missing[0] in set(ours.ids) else "second"
        raise UsageError(
            f"{names} have different {what} ({len(ours):,} and {len(theirs):,}; {missing[0]!r} is "
            f"only among the {where}'s): compare models on the same images"
        )
    if sorted(ours.label_names) != sorted(theirs.label_names):
        raise UsageError(f"{names} use different labels: compare models on the same annotation")
    columns = [theirs.label_names.index(name) for name in ours.label_names]
    differ = ours.labels != theirs.labels[rows_of(ours, theirs)][:, columns]
    wrong = np.flatnonzero(differ.any(axis=1))
    if wrong.size:
        raise UsageError(
            f"{names} disagree on the labels of {ours.ids[int(wrong[0])]!r} and {wrong.size - 1:,} "
            f"other {what}: compare models on the same annotation"
        )


def _cells(name: str, line: Line) -> list[str]:
    values = [name, number(line.first), number(line.second)]
    if line.test is None:
        return [*values, "–", "–", "–"]
    low, high = line.test.interval
    return [
        *values,
        signed(line.test.difference),
        f"{signed(low)} .. {signed(high)}",
        number(line.test.p_value),
    ]


def _line_json(line: Line) -> dict[str, Any]:
    values: dict[str, Any] = {"first": finite(line.first), "second": finite(line.second)}
    if line.test is not None:
        values |= asdict(line.test)
    if math.isfinite(line.adjusted):
        values["p_value_holm"] = line.adjusted
    return values
