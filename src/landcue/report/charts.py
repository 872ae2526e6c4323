"""The charts of an evaluation: curves, bars by label, bits, confusions and the map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landcue.codes.packing import CodeStatistics
from landcue.metrics.curves import Curve, Curves
from landcue.metrics.intervals import Comparison
from landcue.metrics.protocol import suffix
from landcue.metrics.report import Report
from landcue.report.confusion import Confusion
from landcue.report.embedding_map import EmbeddingMap, largest
from landcue.report.figures import (
    COLORS,
    INK,
    LINE,
    MARKERS,
    MUTED,
    PAPER,
    Canvas,
    line_style,
    themed,
)
from landcue.report.html import Html, join

MOST_LABELS = 80
_MOST_IN_HEAT = 40
_MOST_CATEGORIES = 21
_TITLES = {"P": "precision P@k", "recall": "recall@k", "nDCG": "nDCG@k"}
_SAID = {
    "P": "share of relevant images among the first k",
    "recall": "share of all relevant images that are among the first k",
    "nDCG": "graded gain of the first k over the best possible order",
}


@themed
def curve_figures(found: Mapping[str, Curves], scores: Report) -> Html:
    """Return precision over recall, and precision, recall and nDCG over k, one line per space."""
    lines = {name: curves.precision_recall for name, curves in found.items()}
    relevance = suffix(scores.protocol.relevance)
    figures = [
        _curve(lines, "precision-recall", "recall", f"precision{relevance}", log=False).html(
            "precision-recall",
            "Line chart: precision over recall for each space, and chance.",
            "Precision over recall, mean over queries: at each recall the best precision of any "
            "cut-off that reaches it. The nearer to the upper right corner, the better.",
        )
    ]
    for kind, title in _TITLES.items():
        lines = {name: curves.by_k[kind] for name, curves in found.items()}
        what = suffix(scores.protocol.gain if kind == "nDCG" else scores.protocol.relevance)
        canvas = _curve(lines, kind, "k (first images looked at, logarithmic)", title + what)
        said = f"{title}: {_SAID[kind]}, mean over queries."
        text = f"Line chart: {title} over k for each space, and chance."
        figures.append(canvas.html(f"curve-{kind}", text, said))
    return Html(f'<div class="grid charts">{join(figures)}</div>')


def _curve(
    lines: Mapping[str, Curve], name: str, x_label: str, y_label: str, *, log: bool = True
) -> Canvas:
    canvas = Canvas(5.2, 3.7)
    axes = canvas.axes
    for number, (space, curve) in enumerate(lines.items()):
        style = line_style(number)
        style["markevery"] = (number * 2, max(1, len(curve.x) // 8))
        style["clip_on"] = False
        axes.plot(curve.x, curve.mean, label=plain(space), **style)
    chance = next(iter(lines.values()))
    axes.plot(chance.x, chance.chance, color=MUTED, linestyle=(0, (1, 1.5)), label="chance")
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlim(1, max(2.0, float(chance.x[-1])))
    else:
        axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True)
    _legend_below(canvas, len(lines) + 1)
    return canvas


@themed
def label_figure(spaces: Mapping[str, Report]) -> Html:
    """Return bars of the first space's mAP by label, the others' as marks, rare labels on top."""
    main, scores = next(iter(spaces.items()))
    counted = [name for name, score in scores.per_label.items() if score.third]
    names = sorted(counted, key=lambda name: (scores.per_label[name].n_gallery, name))
    shown, left_out = names, ""
    if len(names) > MOST_LABELS:
        shown = names[: MOST_LABELS // 2] + names[-MOST_LABELS // 2 :]
        left_out = f" Of {len(names)} labels the {MOST_LABELS // 2} rarest and most frequent."
    if not shown:
        return Html("")
    canvas = Canvas(7.6, 1.3 + 0.27 * len(shown))
    axes = canvas.axes
    places = np.arange(len(shown))
    means = [scores.per_label[name].mean for name in shown]
    axes.barh(places, means, height=0.62, color=COLORS[0], label=plain(main))
    for number, (space, other) in enumerate(list(spaces.items())[1:], start=1):
        values = [other.per_label[name].mean for name in shown]
        style = line_style(number)
        style.update(linestyle="", markersize=6, markeredgecolor=PAPER)
        axes.plot(values, places, label=plain(space), **style)
    chance = [scores.per_label[name].chance for name in shown]
    axes.plot(
        chance, places, "|", color=INK, markersize=12, markeredgewidth=2.2, label="chance", zorder=4
    )
    counts = [scores.per_label[name].n_gallery for name in shown]
    axes.set_yticks(
        places, [f"{plain(n)}  ({count:,})" for n, count in zip(shown, counts, strict=True)]
    )
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean average precision of the queries with the label")
    axes.grid(visible=True, axis="x")
    _legend_below(canvas, len(spaces) + 1)
    return canvas.html(
        "labels-chart",
        "Bar chart: mean average precision by label, from rare to frequent, with chance.",
        "Mean AP of the queries that carry each label, rare labels on top; in brackets the "
        f"gallery images with the label. The upright stroke is chance.{left_out}",
    )


@themed
def difference_figure(labels: Mapping[str, Comparison], first: str, second: str) -> Html:
    """Return the difference in mAP by label with its interval, in the order given."""
    names = list(labels)
    if len(names) > MOST_LABELS:
        names = names[: MOST_LABELS // 2] + names[-MOST_LABELS // 2 :]
    if not names:
        return Html("")
    canvas = Canvas(7.6, 1.2 + 0.27 * len(names))
    axes = canvas.axes
    places = np.arange(len(names))
    values = np.array([labels[name].difference for name in names])
    ends = np.array([labels[name].interval for name in names])
    colors = [COLORS[0] if value >= 0 else COLORS[1] for value in values]
    hatches = ["" if value >= 0 else "////" for value in values]
    bars = axes.barh(places, values, height=0.62, color=colors, edgecolor=PAPER, linewidth=0)
    for bar, hatch in zip(bars, hatches, strict=True):
        bar.set_hatch(hatch)
    reach = np.abs(np.stack([values - ends[:, 0], ends[:, 1] - values]))
    axes.errorbar(values, places, xerr=reach, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set_yticks(places, [plain(name) for name in names])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("difference in mean average precision")
    axes.grid(visible=True, axis="x")
    return canvas.html(
        "difference-chart",
        f"Bar chart: difference in mean average precision by label, {first} minus {second}.",
        f"{first} minus {second}, rare labels on top: to the right {first} is better (plain bars), "
        f"to the left {second} (hatched bars). Strokes: 95 % interval over queries.",
    )


@themed
def bits_figure(found: CodeStatistics, name: str) -> Html:
    """Return the share of ones of every bit, sorted by bit."""
    from matplotlib.ticker import MaxNLocator

    canvas = Canvas(7.6, 2.5)
    axes = canvas.axes
    axes.bar(np.arange(found.n_bits), found.bit_means, width=0.8, color=COLORS[0])
    axes.axhline(0.5, color=INK, linewidth=1.2, linestyle="--")
    axes.set_xlim(-0.8, found.n_bits - 0.2)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("bit")
    axes.set_ylabel("share of ones")
    axes.grid(visible=True, axis="y")
    return canvas.html(
        name,
        "Bar chart: the share of ones of every bit of the codes.",
        "Share of the images in which each bit is 1. On the dashed line (0.5) a bit is balanced; "
        "at 0 or 1 it says nothing.",
    )


@themed
def confusion_figure(found: Confusion) -> Html:
    """Return what is found instead of each label as a heat map with numbers in percent."""
    labels = found.worst(_MOST_IN_HEAT)
    if len(labels) < 2:
        return Html("")
    values = 100 * np.nan_to_num(found.instead[np.ix_(labels, labels)])
    n = len(labels)
    side = 0.36 if n <= 24 else 0.26
    canvas = Canvas(2.1 + side * n, 1.9 + side * n)
    axes = canvas.axes
    top = max(float(values.max()), 1.0)
    seen = np.ma.masked_less(values, 0.5)  # what rounds to 0 stays empty, as the page is
    mesh = axes.pcolormesh(seen, cmap="Blues", vmin=-0.15 * top, vmax=top, edgecolors="face")
    if n <= 24:
        for row, column in np.ndindex(values.shape):
            if not np.ma.getmaskarray(seen)[row, column]:
                dark = values[row, column] > 0.45 * top
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{max(1.0, float(values[row, column])):.0f}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="#ffffff" if dark else "#000000",
                )
    names = [plain(found.names[c]) for c in labels]
    axes.set_xticks(np.arange(n) + 0.5, names, rotation=90)
    axes.set_yticks(np.arange(n) + 0.5, names)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set_xticks(np.arange(n + 1), minor=True)
    axes.set_yticks(np.arange(n + 1), minor=True)
    axes.grid(visible=True, which="minor")
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("label of a hit, which the query does not have")
    axes.set_ylabel("label of the query, which the hit lacks")
    bar = canvas.figure.colorbar(mesh, ax=axes, shrink=0.6, pad=0.02)
    bar.ax.set_ylim(0, top)
    bar.set_label(f"% of the first {found.k}")
    bar.outline.set_visible(False)
    return canvas.html(
        "confusion-chart",
        "Heat map: which labels the first hits carry instead of a label of the query.",
        f"Of the first {found.k} hits of queries with the label of a row: the share in percent "
        "that lacks this label and carries the column's, which the query does not have.",
    )


@themed
def map_figure(found: EmbeddingMap, names: list[str], what: str) -> Html:
    """Return the map; color and marker together tell the category of a point."""
    shown = [names[int(row)] for row in found.rows.tolist()]
    chosen = largest(shown, _MOST_CATEGORIES)
    others = [i for i, name in enumerate(shown) if name not in set(chosen)]
    canvas = Canvas(7.8, 6.4)
    axes = canvas.axes
    if others:
        label = f"others ({len(set(shown)) - len(chosen)})"
        axes.scatter(*found.points[others].T, s=10, color=LINE, label=label)
    for number, name in enumerate(chosen):
        places = [i for i, other in enumerate(shown) if other == name]
        axes.scatter(
            *found.points[places].T,
            s=24,
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number % len(MARKERS)],  # 6 colors by 7 markers: 42 pairs
            edgecolor=PAPER,
            linewidth=0.5,
            label=plain(name),
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("first axis of the map")
    axes.set_ylabel("second axis of the map")
    _legend_below(canvas, len(chosen) + bool(others), columns=4)
    return canvas.html(
        "map-chart",
        f"Scatter plot: a flat map of {len(shown)} images, colored by {what}.",
        f"{len(shown):,} of the gallery's images by {found.method}. Color and marker: {what}. "
        "Images near each other are alike for the model; a flat map shows only part of that.",
    )


def plain(text: str) -> str:
    """Return text that matplotlib neither sets as mathematics nor leaves out of a legend."""
    text = text.replace("$", r"\$")
    return "\u200b" + text if text.startswith("_") else text


def _legend_below(canvas: Canvas, entries: int, columns: int = 5) -> None:
    from matplotlib.container import BarContainer

    handles, names = canvas.axes.get_legend_handles_labels()
    bars_first = sorted(range(len(names)), key=lambda i: not isinstance(handles[i], BarContainer))
    options: dict[str, Any] = {"loc": "outside lower center", "ncols": min(entries, columns)}
    shown: Any = [handles[i] for i in bars_first]
    canvas.figure.legend(shown, [names[i] for i in bars_first], **options)
