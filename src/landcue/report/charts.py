"""The charts of an evaluation: curves, bars by label, bits, confusions and the map."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from landcue.codes.packing import CodeStatistics
from landcue.metrics.curves import Curve, Curves
from landcue.metrics.intervals import Comparison
from landcue.metrics.protocol import suffix
from landcue.metrics.report import Report
from landcue.report.embedding_map import EmbeddingMap, largest
from landcue.report.figures import (
    COLORS,
    INK,
    LINE,
    MARKERS,
    MUTED,
    Figure,
    style_of,
    text_width,
)
from landcue.report.queries import Confusion

MOST_LABELS = 80
_MOST_IN_HEAT = 40
_MOST_CATEGORIES = 21
_SHARES = [(v / 5, f"{v / 5:g}") for v in range(6)]
_CURVES = {
    "P": ("precision P@k", "share of relevant images among the first k"),
    "recall": ("recall@k", "share of all relevant images that are among the first k"),
    "nDCG": ("nDCG@k", "graded gain of the first k over the best possible order"),
}


def curve_figures(found: Mapping[str, Curves], scores: Report) -> Markup:
    """Return precision over recall, and precision, recall and nDCG over k, one line per space."""
    lines = {name: curves.precision_recall for name, curves in found.items()}
    relevance = suffix(scores.protocol.relevance)
    figures = [
        _curve(lines, "recall", f"precision{relevance}", log=False).to_html(
            "Line chart: precision over recall for each space, and chance.",
            "Precision over recall, mean over queries: at each recall the best precision of any "
            "cut-off that reaches it. The nearer to the upper right corner, the better.",
        )
    ]
    for kind, (title, meaning) in _CURVES.items():
        lines = {name: curves.by_k[kind] for name, curves in found.items()}
        what = suffix(scores.protocol.gain if kind == "nDCG" else scores.protocol.relevance)
        figures.append(
            _curve(lines, "k (first images looked at, logarithmic)", title + what).to_html(
                f"Line chart: {title} over k for each space, and chance.",
                f"{title}: {meaning}, mean over queries.",
            )
        )
    return Markup('<div class="grid charts">{}</div>').format(Markup("\n").join(figures))


def _curve(lines: Mapping[str, Curve], x_label: str, y_label: str, *, log: bool = True) -> Figure:
    first = next(iter(lines.values()))
    end = max(2.0, float(first.x[-1])) if log else 1.0
    figure = Figure((500, 340), (54, 10, 14, 44), (1.0 if log else 0.0, end), (0, 1.02), log_x=log)
    if log:
        decades = [10**n for n in range(int(math.log10(end)) + 1)]
        figure.ticks_x([(k, f"{k:g}") for k in decades], x_label)
    else:
        figure.ticks_x(_SHARES, x_label)
    figure.ticks_y(_SHARES, y_label)
    for number, (space, curve) in enumerate(lines.items()):
        color, dash, marker = style_of(number)
        points = _points(figure, curve.x, curve.mean)
        figure.line(points, color, dash=dash)
        for point in points[number * 2 :: max(1, len(points) // 8)]:
            figure.marker(point, marker, color)
        figure.legend_line(space, color, dash, marker)
    figure.line(_points(figure, first.x, first.chance), MUTED, dash="2 3")
    figure.legend_line("chance", MUTED, "2 3")
    return figure


def _points(
    figure: Figure,
    x: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    y: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
) -> list[tuple[float, float]]:
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    return [(figure.x(a), figure.y(b)) for a, b in pairs if math.isfinite(b)]


def label_figure(spaces: Mapping[str, Report]) -> Markup:
    """Return bars of the first space's own-label AP, the others' as marks, rare labels on top."""
    main, scores = next(iter(spaces.items()))
    counted = [name for name, score in scores.per_label.items() if score.third]
    names = sorted(counted, key=lambda name: (scores.per_label[name].n_gallery, name))
    shown, left_out = _extremes(names), ""
    if len(names) > MOST_LABELS:
        left_out = f" Of {len(names)} labels the {MOST_LABELS // 2} rarest and most frequent."
    if not shown:
        return Markup("")
    labels = [f"{name}  ({scores.per_label[name].n_gallery:,})" for name in shown]
    figure = _rows(labels, (0.0, 1.0))
    figure.ticks_x(_SHARES, "own-label AP: queries with the label find the others with it")
    figure.legend_bar(main, COLORS[0])
    for row, name in enumerate(shown):
        mean = scores.per_label[name].mean
        if math.isfinite(mean):
            figure.bar(
                (figure.left, figure.y(row) - 8), (figure.x(mean) - figure.left, 16), COLORS[0]
            )
    for number, (space, other) in enumerate(list(spaces.items())[1:], start=1):
        color, _, marker = style_of(number)
        figure.legend_marker(space, marker, color)
        for row, name in enumerate(shown):
            if math.isfinite(other.per_label[name].mean):
                at = (figure.x(other.per_label[name].mean), figure.y(row))
                figure.marker(at, marker, color)
    figure.legend_line("chance", INK)
    for row, name in enumerate(shown):
        chance = scores.per_label[name].chance
        if math.isfinite(chance):
            x, y = figure.x(chance), figure.y(row)
            figure.line([(x, y - 8), (x, y + 8)], INK, width=2.2)
    figure.ticks_y([(row, label) for row, label in enumerate(labels)], grid=False)
    return figure.to_html(
        "Bar chart: own-label average precision, from rare to frequent, with chance.",
        "Mean AP of the queries that carry each label; relevant: carries it too. Rare labels on "
        f"top; in brackets the gallery images with the label. The stroke is chance.{left_out}",
    )


def difference_figure(labels: Mapping[str, Comparison], first: str, second: str) -> Markup:
    """Return the difference in own-label AP with its interval, in the order given."""
    names = _extremes(list(labels))
    if not names:
        return Markup("")
    ends = [value for name in names for value in (*labels[name].interval, labels[name].difference)]
    reach = 1.05 * max([abs(value) for value in ends] + [0.01])
    figure = _rows(names, (-reach, reach))
    step = 10 ** math.floor(math.log10(reach))
    step *= 1 if reach < 3 * step else 2 if reach < 6 * step else 4
    ticks = [n * step for n in range(-int(reach / step), int(reach / step) + 1)]
    figure.ticks_x([(v, f"{v:.6g}") for v in ticks], "difference in mean average precision")
    figure.add(
        '<defs><pattern id="difference-hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="5" height="5" style="fill:{}"/>'
        '<path d="M0,0V5" style="stroke:{};stroke-width:2"/></pattern></defs>',
        *(COLORS[1], "var(--page)"),
    )
    zero = figure.x(0)
    for row, name in enumerate(names):
        value, (low, high) = labels[name].difference, labels[name].interval
        x, y = figure.x(value), figure.y(row)
        fill = COLORS[0] if value >= 0 else "url(#difference-hatch)"
        figure.bar((min(x, zero), y - 8), (abs(x - zero), 16), fill)
        figure.line([(figure.x(low), y), (figure.x(high), y)], INK, width=1.2)
        for end in (low, high):
            figure.line([(figure.x(end), y - 4), (figure.x(end), y + 4)], INK, width=1.2)
    figure.line([(zero, figure.top), (zero, figure.bottom)], MUTED, width=1)
    figure.ticks_y(list(enumerate(names)), grid=False)
    return figure.to_html(
        f"Bar chart: difference in own-label average precision, {first} minus {second}.",
        f"{first} minus {second}, rare labels on top: to the right {first} is better (plain bars), "
        f"to the left {second} (hatched bars). Strokes: 95 % interval over queries.",
    )


def _extremes(names: list[str]) -> list[str]:
    """Return the first and the last names where there are very many."""
    if len(names) <= MOST_LABELS:
        return names
    return names[: MOST_LABELS // 2] + names[-MOST_LABELS // 2 :]


def _rows(labels: list[str], x_range: tuple[float, float]) -> Figure:
    """Return a figure with a row of 26 pixels for each label, the first on top."""
    left = min(320.0, 16 + text_width(labels))
    n = len(labels)
    return Figure((730, 60 + 26 * n), (left, 10, 14, 44), x_range, (n - 0.5, -0.5))


def bits_figure(found: CodeStatistics) -> Markup:
    """Return the share of ones of every bit, sorted by bit."""
    n = found.n_bits
    figure = Figure((730, 240), (54, 10, 14, 44), (-0.8, n - 0.2), (0, 1))
    step = max(1, 2 ** math.ceil(math.log2(n / 16))) if n > 16 else 1
    figure.ticks_x([(bit, str(bit)) for bit in range(0, n, step)], "bit", grid=False)
    figure.ticks_y(_SHARES, "share of ones")
    wide = 0.8 * (figure.x(1) - figure.x(0))
    for bit, mean in enumerate(found.bit_means):
        top = figure.y(float(mean))
        figure.bar((figure.x(bit) - wide / 2, top), (wide, figure.bottom - top), COLORS[0])
    middle = figure.y(0.5)
    figure.line([(figure.left, middle), (figure.right, middle)], INK, width=1.2, dash="6 4")
    return figure.to_html(
        "Bar chart: the share of ones of every bit of the codes.",
        "Share of the images in which each bit is 1. On the dashed line (0.5) a bit is balanced; "
        "at 0 or 1 it says nothing.",
    )


def confusion_figure(found: Confusion) -> Markup:
    """Return what is found instead of each label as a heat map with numbers in percent."""
    labels = found.worst(_MOST_IN_HEAT)
    n = len(labels)
    if n < 2:
        return Markup("")
    values = 100 * np.nan_to_num(found.instead[np.ix_(labels, labels)])
    names = [found.names[c] for c in labels]
    side = 34 if n <= 24 else 24
    label_width = min(240.0, 10 + text_width(names))
    wide = max(580.0, label_width + side * n + 50)
    left = label_width + 30
    figure = Figure(
        (wide, side * n + label_width + 40),
        (left, 10, wide - left - side * n, label_width + 30),
        (0, n),
        (n, 0),
    )
    top = max(float(values.max()), 1.0)
    for row, column in np.ndindex(values.shape):
        value = float(values[row, column])
        x, y = figure.x(column), figure.y(row)
        share = 0.0 if value < 0.5 else min(1.0, 0.1 + 0.9 * value / top)
        ground = f"color-mix(in srgb, {COLORS[0]} {100 * share:.0f}%, transparent)"
        figure.bar((x, y), (figure.x(1) - figure.x(0) - 1, figure.y(1) - figure.y(0) - 1), ground)
        if n <= 24 and value >= 0.5:
            color = "#ffffff" if value > 0.45 * top else INK
            figure.text((x + side / 2, y + side / 2 + 4), f"{value:.0f}", color=color)
    at = [i + 0.5 for i in range(n)]
    ticks = list(zip(at, names, strict=True))
    figure.ticks_x(ticks, "label of the hit", grid=False, turned=True)
    figure.ticks_y(ticks, grid=False)
    figure.text(
        (12, figure.y(n / 2)),
        "label of the query",
        size=12,
        turned=True,
    )
    return figure.to_html(
        "Heat map: which labels the first hits carry instead of a label of the query.",
        f"Of the first {found.k} hits of queries with the label of a row: the share in percent "
        "that lacks this label and carries the column's, which the query does not have.",
    )


def map_figure(found: EmbeddingMap, names: list[str], what: str) -> Markup:
    """Return the map; color and marker together show the category of a point."""
    shown = [names[int(row)] for row in found.rows.tolist()]
    chosen = largest(shown, _MOST_CATEGORIES)
    low, high = found.points.min(axis=0), found.points.max(axis=0)
    pad = 0.04 * np.maximum(high - low, 1e-9)
    (left, bottom), (right, top) = (low - pad).tolist(), (high + pad).tolist()
    figure = Figure((750, 560), (28, 10, 14, 28), (left, right), (bottom, top))
    others = [i for i, name in enumerate(shown) if name not in set(chosen)]
    points = [(figure.x(x), figure.y(y)) for x, y in found.points.tolist()]
    for i in others:
        figure.marker(points[i], MARKERS[0], LINE)
    for number, name in enumerate(chosen):
        # 6 colors by 7 markers: 42 pairs
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        for i, other in enumerate(shown):
            if other == name:
                figure.marker(points[i], marker, color)
        figure.legend_marker(name, marker, color)
    if others:
        figure.legend_marker(f"others ({len(set(shown)) - len(chosen)})", MARKERS[0], LINE)
    figure.ticks_x([], "first axis of the map")
    figure.ticks_y([], "second axis of the map")
    return figure.to_html(
        f"Scatter plot: a flat map of {len(shown)} images, colored by {what}.",
        f"{len(shown):,} of the gallery's images by {found.method}. Color and marker: {what}. "
        "Images near each other are alike for the model; a flat map shows only part of that.",
    )
