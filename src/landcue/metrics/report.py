"""The report of an evaluation: means, chance, intervals and labels, as text and as JSON."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from landcue.errors import UsageError
from landcue.metrics.distances import RetrievalTime
from landcue.metrics.intervals import mean_intervals
from landcue.metrics.own_label import LabelScore
from landcue.metrics.protocol import Metric, Protocol, suffix
from landcue.metrics.relevance import Floats

OWN_LABEL = (
    "mean over the queries that carry a label of AP = sum over ranks r of rel_r * Prec@r / R; "
    "relevant: carries that label; then over labels"
)

RETRIEVAL_TIME = "retrieval time [ms]"


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """The outcome of an evaluation. Means that no query defines are NaN.

    Printed, it is the table of all metrics; :meth:`to_text` adds labels and definitions.

    Attributes:
        protocol: What was measured, and how.
        metrics: Mean over queries of each metric.
        chance: The same for a random order of the gallery, in closed form.
        intervals: 95 % bootstrap interval over queries (low, high); empty if not computed, NaN
            for fewer than two queries.
        bands: Means with ties ordered by gain, (rising, falling): the worst and the best order,
            except that WAP@k and mAP@k(/hits) may pass it where k divides a group; empty if not
            computed.
        per_query: Each metric's values ``[q]`` in the order of the queries; NaN where a query
            has no relevant item and does not count.
        per_label: Own-label AP by label; empty without labels.
        own_label: Own-label AP by query and label, ``[q, C]``; NaN where a query lacks the label or
            no other image has it; ``[0, 0]`` without labels.
        macro: Mean over labels of ``per_label``: ``all``, ``rare``, ``medium``, ``frequent``.
        counts: Queries, gallery images, and queries without a relevant image.
        exclude_self: Whether the item with a query's own id was left out of its ranking.
        retrieval_time: How long a query took, where it was measured.
    """

    protocol: Protocol
    metrics: dict[str, float]
    chance: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    bands: dict[str, tuple[float, float]]
    per_query: dict[str, Floats]
    per_label: dict[str, LabelScore]
    macro: dict[str, float]
    counts: dict[str, int]
    exclude_self: bool = True
    own_label: Floats = field(default_factory=lambda: np.empty((0, 0)))
    retrieval_time: RetrievalTime | None = None

    def __repr__(self) -> str:
        return "\n".join([f"Report of {self.protocol.name}, {self._size()}", *aligned(self.rows())])

    def rules(self) -> list[str]:
        """Return the rules that hold for all metrics, one per line."""
        return self.protocol.describe(exclude_self=self.exclude_self)

    def rows(self) -> list[list[str]]:
        """Return the table as text cells, the header first.

        Columns: metric, value, 95 % interval and tie band if they were computed, chance.
        """
        header = ["metric", "value"]
        header += ["95 % interval"] if self.intervals else []
        header += ["ties worst..best"] if self.bands else []
        table = [[*header, "chance"]]
        for metric in self.protocol.metrics():
            name = metric.name
            line = [_titled(metric), _number(self.metrics[name])]
            if self.intervals:
                line.append(_range(self.intervals[name]))
            if self.bands:
                line.append(_range(self.bands[name]))
            table.append([*line, _number(self.chance[name])])
        if self.retrieval_time:
            line = [RETRIEVAL_TIME, f"{self.retrieval_time.median_ms:.3f}"]
            table.append(line + [""] * (len(table[0]) - len(line)))
        return table

    def label_rows(self) -> list[list[str]]:
        """Return the own-label AP of each label as text cells, rare labels first."""
        table = [["label", "own-label AP", "chance", "queries", "gallery", "third"]]
        for name, score in sorted(self.per_label.items(), key=lambda item: item[1].n_gallery):
            means = [_number(score.mean), _number(score.chance)]
            table.append([name, *means, str(score.n_query), str(score.n_gallery), score.third])
        for third, mean in self.macro.items():
            table.append([f"mean of {third} labels", _number(mean), "", "", "", ""])
        return table

    def to_text(self, table: list[list[str]] | None = None) -> str:
        """Return the table, the scores by label, the rules and all definitions as plain text.

        Args:
            table: Text cells to show instead of :meth:`rows`.
        """
        timed = self.retrieval_time
        left_out = [
            f"{number} queries have no relevant image{name.removeprefix('n_without_relevant')}"
            for name, number in self.counts.items()
            if name.startswith("n_without_relevant") and number
        ]
        parts = [
            [*self.rules(), self._size(), *left_out],
            aligned(table or self.rows()),
            aligned(self.label_rows()) if self.per_label else [],
            [f"{name}: {text}" for name, text in self.protocol.definitions().items()]
            + ([f"own-label AP: {OWN_LABEL}"] if self.per_label else [])
            + ([f"{RETRIEVAL_TIME}: {timed.describe()}"] if timed else []),
        ]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return everything but the values per query as plain JSON types; NaN becomes null."""
        return {
            "protocol": self.protocol.name,
            "protocol_fingerprint": self.protocol.fingerprint,
            "rules": self.rules(),
            "counts": dict(self.counts),
            "metrics": _plain(self.metrics),
            "chance": _plain(self.chance),
            "intervals": {name: list(map(finite, pair)) for name, pair in self.intervals.items()},
            "bands": {name: list(map(finite, pair)) for name, pair in self.bands.items()},
            "per_label": {
                name: {
                    "mAP": finite(score.mean),
                    "chance": finite(score.chance),
                    "n_query": score.n_query,
                    "n_gallery": score.n_gallery,
                    "third": score.third or None,
                }
                for name, score in self.per_label.items()
            },
            "macro": _plain(self.macro),
            "definitions": self.protocol.definitions(),
        } | ({"retrieval_time": asdict(self.retrieval_time)} if self.retrieval_time else {})

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row per metric.

        Columns: ``value``, ``chance``, ``definition``; ``low`` and ``high`` of the 95 % interval,
        ``worst`` and ``best`` of the tie band where they were computed.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UsageError("tables need pandas: pip install pandas, or use to_json()") from None
        columns: dict[str, Any] = {"value": self.metrics}
        for names, pairs in ((("low", "high"), self.intervals), (("worst", "best"), self.bands)):
            for place, name in enumerate(names) if pairs else ():
                columns[name] = {metric: pair[place] for metric, pair in pairs.items()}
        columns |= {"chance": self.chance, "definition": self.protocol.definitions()}
        return pd.DataFrame(columns).rename_axis("metric")

    def _repr_html_(self) -> str:
        head, *body = ([html.escape(cell) for cell in line] for line in self.rows())
        lines = [f"<tr><th>{'</th><th>'.join(head)}</th></tr>"]
        lines += [f"<tr><td>{'</td><td>'.join(line)}</td></tr>" for line in body]
        caption = html.escape(f"{self.protocol.name}, {self._size()}")
        return f"<table><caption>{caption}</caption>{''.join(lines)}</table>"

    def _size(self) -> str:
        return f"{self.counts['n_query']} queries, {self.counts['n_gallery']} gallery images"


def summarize(
    protocol: Protocol,
    sources: Floats,
    n_gallery: int,
    resamples: int,
    seed: int,
    *,
    exclude_self: bool,
) -> Report:
    """Average over queries.

    Args:
        protocol: What was measured.
        sources: Values ``[2 or 4, metrics, q]``: of the ranking, of a random one, and perhaps of
            the worst and the best order of ties.
        n_gallery: Gallery images.
        resamples: Bootstrap resamples; 0 for no intervals.
        seed: Seed of the resamples.
        exclude_self: Whether each query was left out of its own ranking.
    """
    values, chance, *bounds = sources
    wanted = protocol.metrics()
    names = [metric.name for metric in wanted]
    counts = {"n_query": values.shape[1], "n_gallery": n_gallery}
    for metric, row in zip(wanted, values, strict=True):
        if metric.kind == "AP":
            left_out = f"n_without_relevant{suffix(metric.relevance)}"
            counts[left_out] = int(np.isnan(row).sum())
    intervals = mean_intervals(values, resamples, seed) if resamples else np.empty((0, 2))
    lows, highs = (_means(wanted, b) for b in bounds) if bounds else ({}, {})
    return Report(
        protocol=protocol,
        metrics=_means(wanted, values),
        chance=_means(wanted, chance),
        intervals={
            name: (float(low), float(high))
            for name, (low, high) in zip(names, intervals, strict=False)
        },
        bands={name: (lows[name], highs[name]) for name in lows},
        per_query=dict(zip(names, values, strict=True)),
        per_label={},
        macro={},
        counts=counts,
        exclude_self=exclude_self,
    )


def _means(wanted: tuple[Metric, ...], values: Floats) -> dict[str, float]:
    counted = np.count_nonzero(~np.isnan(values), axis=1)
    means = np.divide(
        np.nansum(values, axis=1), counted, out=np.full(len(wanted), np.nan), where=counted > 0
    )
    return {metric.name: float(mean) for metric, mean in zip(wanted, means, strict=True)}


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


def _titled(metric: Metric) -> str:
    return metric.name + (" (lower is better)" if metric.family.falling else "")


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"


def _range(pair: tuple[float, float]) -> str:
    return f"{_number(pair[0])}..{_number(pair[1])}"


def finite(value: float) -> float | None:
    """Return a number for JSON, which has no NaN: ``None`` instead."""
    return value if math.isfinite(value) else None


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: finite(value) for name, value in values.items()}


def side_by_side(spaces: Mapping[str, Report], main: str) -> str:
    """Return one table of all metrics, then the labels, rules and definitions of ``main``.

    Args:
        spaces: Reports of the same protocol and images, by column name.
        main: The column whose intervals, labels and tie bands are shown in full.

    >>> import numpy as np
    >>> from landcue.metrics import evaluate
    >>> vectors, labels = np.eye(2)[[0, 0, 1, 1]], [0, 0, 1, 1]
    >>> both = {"cosine": evaluate(vectors, labels), "reversed": evaluate(vectors[::-1], labels)}
    >>> print(side_by_side(both, "cosine"))                                    # doctest: +ELLIPSIS
    protocol any@20,100 ...
    """
    chosen = spaces[main]
    order = [main, *(name for name in spaces if name != main)]
    header = ["metric", *order, f"95 % interval ({main})", "chance"]
    table = [header if chosen.intervals else [*header[:-2], "chance"]]
    for metric in chosen.protocol.metrics():
        name = metric.name
        line = [_titled(metric), *(_number(spaces[space].metrics[name]) for space in order)]
        if chosen.intervals:
            line.append(_range(chosen.intervals[name]))
        table.append([*line, _number(chosen.chance[name])])
    times = [spaces[space].retrieval_time for space in order]
    if any(times):
        line = [RETRIEVAL_TIME, *(f"{t.median_ms:.3f}" if t else "-" for t in times)]
        table.append(line + [""] * (len(table[0]) - len(line)))
    return chosen.to_text(table).rstrip("\n")
