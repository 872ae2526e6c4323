"""Several evaluations of the same images in one table: the spaces of a model, or models."""

from __future__ import annotations

import math
from collections.abc import Mapping

from landcue.metrics.evaluate import Scores
from landcue.metrics.report import aligned, label_rows


def side_by_side(spaces: Mapping[str, Scores], main: str) -> str:
    """Return one table of all metrics, then the labels, rules and definitions of ``main``.

    Args:
        spaces: Scores of the same protocol and images, by column name.
        main: The column whose intervals, labels and tie bands are shown in full.
    """
    chosen = spaces[main]
    order = [main, *(name for name in spaces if name != main)]
    header = ["metric", *order, f"95 % interval ({main})", "chance"]
    table = [header if chosen.intervals else [*header[:-2], "chance"]]
    for metric in chosen.protocol.metrics():
        name = metric.name
        arrow = " (lower is better)" if metric.family.falling else ""
        line = [name + arrow, *(_number(spaces[space].metrics[name]) for space in order)]
        if chosen.intervals:
            low, high = chosen.intervals[name]
            line.append(f"{_number(low)}..{_number(high)}")
        table.append([*line, _number(chosen.chance[name])])
    counts = chosen.counts
    facts = [
        *chosen.protocol.describe(),
        f"{counts['n_query']} queries, {counts['n_gallery']} gallery images",
        *(
            f"{number} queries have no relevant image{name.removeprefix('n_without_relevant')}"
            for name, number in counts.items()
            if name.startswith("n_without_relevant") and number
        ),
    ]
    definitions = [f"{name}: {text}" for name, text in chosen.protocol.definitions().items()]
    parts = [facts, aligned(table), aligned(label_rows(chosen)), definitions]
    return "\n\n".join("\n".join(part) for part in parts)


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"
