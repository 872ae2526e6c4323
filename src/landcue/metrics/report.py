"""An evaluation for people and for programs."""

from __future__ import annotations

import math
from typing import Any

from landcue.metrics.evaluate import Scores


def rows(scores: Scores) -> list[list[str]]:
    """Return the table as text cells, the header first.

    Columns: metric, value, 95 % interval and tie band if they were computed, chance.
    """
    header = ["metric", "value"]
    header += ["95 % interval"] if scores.intervals else []
    header += ["ties worst..best"] if scores.bands else []
    table = [[*header, "chance"]]
    for metric in scores.protocol.metrics():
        name = metric.name
        line = [name + (" (lower is better)" if metric.family.falling else "")]
        line.append(_number(scores.metrics[name]))
        if scores.intervals:
            line.append(_range(scores.intervals[name]))
        if scores.bands:
            line.append(_range(scores.bands[name]))
        table.append([*line, _number(scores.chance[name])])
    return table


def label_rows(scores: Scores) -> list[list[str]]:
    """Return the mean AP of the queries with each label as text cells, rare labels first."""
    table = [["label", "mAP", "chance", "queries", "gallery", "third"]]
    for name, score in sorted(scores.per_label.items(), key=lambda item: item[1].n_gallery):
        means = [_number(score.mean), _number(score.chance)]
        table.append([name, *means, str(score.n_query), str(score.n_gallery), score.third])
    for third, mean in scores.macro.items():
        table.append([f"mean of {third} labels", _number(mean), "", "", "", ""])
    return table


def to_text(scores: Scores) -> str:
    """Return the table, the scores by label, the rules and all definitions as plain text."""
    left_out = [
        f"{number} queries have no relevant image{name.removeprefix('n_without_relevant')}"
        for name, number in scores.counts.items()
        if name.startswith("n_without_relevant")
    ]
    definitions = [f"{name}: {text}" for name, text in scores.protocol.definitions().items()]
    size = f"{scores.counts['n_query']} queries, {scores.counts['n_gallery']} gallery images"
    parts = [
        [*scores.protocol.describe(), size, *left_out],
        aligned(rows(scores)),
        aligned(label_rows(scores)) if scores.per_label else [],
        definitions,
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def to_json(scores: Scores) -> dict[str, Any]:
    """Return everything but the values per query as plain JSON types; NaN becomes null."""
    return {
        "protocol": scores.protocol.name,
        "protocol_fingerprint": scores.protocol.fingerprint,
        "rules": scores.protocol.describe(),
        "counts": dict(scores.counts),
        "metrics": _plain(scores.metrics),
        "chance": _plain(scores.chance),
        "intervals": {name: [_finite(v) for v in pair] for name, pair in scores.intervals.items()},
        "bands": {name: [_finite(v) for v in pair] for name, pair in scores.bands.items()},
        "per_label": {
            name: {
                "mAP": _finite(score.mean),
                "chance": _finite(score.chance),
                "n_query": score.n_query,
                "n_gallery": score.n_gallery,
                "third": score.third or None,
            }
            for name, score in scores.per_label.items()
        },
        "macro": _plain(scores.macro),
        "definitions": scores.protocol.definitions(),
    }


def aligned(table: list[list[str]]) -> list[str]:
    """Return the lines of a table of text cells, the first column to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"


def _range(pair: tuple[float, float]) -> str:
    return f"{_number(pair[0])}..{_number(pair[1])}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in values.items()}
