"""Figures of an experiment: scores by code length, gain by label, training curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landcue.experiments.spec import cells
from landcue.experiments.tables import part_of, rivals, scores_of
from landcue.metrics.intervals import mean_over_runs
from landcue.report.tables import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from landcue.experiments.runner import Results, Row

_MARKERS = "os^Dv<>ph*X+"
_DASHES = ("-", "--", ":", "-.")
_THIRD_COLORS = {"rare": "#D55E00", "medium": "#E69F00", "frequent": "#0072B2"}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figures that the results allow as PNG files and return them."""
    made = [
        _by_bits(results, folder / "by_bits.png"),
        _by_label(results, folder / "by_label.png"),
        _by_seed(results, folder / "by_seed.png"),
        _curves(results, folder / "training.png"),
    ]
    return [file for file in made if file is not None]


def _by_bits(results: Results, file: Path) -> Path | None:
    part, metric = part_of(results), results.spec.metrics[0]
    lengths = sorted({row.bits for row in results.rows if row.bits})
    if len(lengths) < 2:
        return None
    figure, axes = _figure(7.5, 4.5)
    for number, method in enumerate(dict.fromkeys(row.method for row in results.rows)):
        rows = [row for row in results.rows if row.method == method]
        values = [_spread(row, part, metric) for row in rows]
        stored: list[int | None] = [_facts(row, part)["bits"] for row in rows]
        if None in stored:
            if len(set(values)) > 1:
                axes.plot([float(row.bits or 0) for row in rows], [mean for mean, _ in values],
                          label=f"{method} (floats)", **_style(number))  # fmt: skip
                continue
            axes.axhline(values[0][0], label=f"{method} (floats)", **_style(number, marker=False))
            continue
        axes.errorbar(
            [float(bits) for bits in stored if bits is not None],
            [mean for mean, _ in values],
            yerr=[np.nan_to_num(half) for _, half in values],
            capsize=2,
            label=method,
            **_style(number),
        )
    axes.set_xticks(lengths)
    axes.set_xlabel("stored bits")
    axes.set_ylabel(metric)
    return _save(figure, axes, file)


def _by_seed(results: Results, file: Path) -> Path | None:
    """Every seed as a point, methods side by side, for the first metric and the last."""
    part, metrics = part_of(results), results.spec.metrics
    rows = [row for row in results.rows if scores_of(row, part)]
    if not rows or len(results.spec.seeds) < 2:
        return None
    figure, axes = _figure(1.5 + 0.8 * len(rows), 4.5)
    for number, metric in enumerate(dict.fromkeys((metrics[0], metrics[-1]))):
        for place, row in enumerate(rows):
            values = [m.metrics[metric] for m in scores_of(row, part).values()]
            at = [place + 0.12 * (number - 0.5)] * len(values)
            style: dict[str, Any] = _style(number) | {"linestyle": "none"}
            axes.plot(at, values, label=metric if not place else None, **style)
    axes.set_xticks(range(len(rows)))
    names = [row.method + (f", {row.bits}" if row.bits else "") for row in rows]
    axes.set_xticklabels(names, rotation=60, ha="right", fontsize=8)
    axes.set_ylabel(f"{part} part, one point for each seed")
    return _save(figure, axes, file)


def _by_label(results: Results, file: Path) -> Path | None:
    """Difference of own-label AP in the longest codes' first comparison, rare labels left."""
    part, pairs = part_of(results), rivals(results, results.spec.metrics[0])
    if not pairs:
        return None
    row, rival = max(pairs, key=lambda pair: pair[0].bits or 0)
    ours, theirs = scores_of(row, part), scores_of(rival, part)
    names = [n for n in _any_labels(row, part) if all(n in m.per_label for m in ours.values())]
    gains = {
        name: [ours[s].per_label[name]["AP"] - theirs[s].per_label[name]["AP"] for s in ours]
        for name in names
    }
    count = {n: np.mean([m.per_label[n]["n_gallery"] for m in ours.values()]) for n in names}
    ordered = sorted(names, key=lambda name: (float(count[name]), name))
    thirds = {name: _any_labels(row, part)[name]["third"] for name in names}
    figure, axes = _figure(9, 4.5)
    for third, color in _THIRD_COLORS.items():
        places = [i for i, name in enumerate(ordered) if thirds[name] == third]
        heights = [float(np.mean(gains[ordered[i]])) for i in places]
        axes.bar(places, heights, color=color, label=f"{third} labels")
    for place, name in enumerate(ordered):
        axes.plot([place] * len(gains[name]), gains[name], "k.", markersize=3)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(ordered)))
    labels = [f"{name} ({count[name]:.0f})" for name in ordered]
    axes.set_xticklabels(labels, rotation=60, ha="right", fontsize=8)
    at = f" at {row.bits} bits" if row.bits else ""
    axes.set_ylabel(f"own-label AP: {row.method} - {rival.method}{at}")
    return _save(figure, axes, file)


def _curves(results: Results, file: Path) -> Path | None:
    curves: dict[str, list[list[float]]] = {}
    for cell in cells(results.spec):
        config = results.spec.training(cell.method, cell.seed, cell.bits)
        key = f"val/{config.choose_by}"
        values = [line[key] for line in results.histories.get(cell.name, []) if key in line]
        if values:
            name = cell.method + (f", {cell.bits} bits" if cell.bits else "")
            curves.setdefault(name, []).append(values)
    if not curves:
        return None
    figure, axes = _figure(7.5, 5)
    for number, (name, runs) in enumerate(curves.items()):
        length = min(len(run) for run in runs)
        mean = np.mean([run[:length] for run in runs], axis=0)
        axes.plot(range(1, length + 1), mean, label=name, **_style(number))
    axes.set_xlabel("epoch")
    axes.set_ylabel("score that chooses the epoch, validation part")
    return _save(figure, axes, file)


def _figure(width: float, height: float) -> tuple[Any, Axes]:
    # A figure of its own, without pyplot: no window system and no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    return figure, axes


def _style(number: int, *, marker: bool = True) -> dict[str, Any]:
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": _DASHES[number // len(PALETTE) % len(_DASHES)],
        "marker": _MARKERS[number % len(_MARKERS)] if marker else None,
        "markersize": 4,
        "linewidth": 1.3,
    }


def _save(figure: Any, axes: Axes, file: Path) -> Path:
    handles, _ = axes.get_legend_handles_labels()
    axes.legend(fontsize=8, ncols=2 if len(handles) > 6 else 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=140)
    return file


def _spread(row: Row, part: str, metric: str) -> tuple[float, float]:
    return mean_over_runs([m.metrics[metric] for m in scores_of(row, part).values()])


def _facts(row: Row, part: str) -> dict[str, Any]:
    return next(iter(scores_of(row, part).values())).facts


def _any_labels(row: Row, part: str) -> dict[str, dict[str, Any]]:
    return next(iter(scores_of(row, part).values())).per_label
