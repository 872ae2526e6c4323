"""The outcome of an evaluation, and how values per query become one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from landcue.metrics.bootstrap import mean_intervals
from landcue.metrics.kinds import Metric, suffix
from landcue.metrics.per_label import LabelScore
from landcue.metrics.protocol import Protocol
from landcue.metrics.relevance import Floats


@dataclass(frozen=True, slots=True)
class Scores:
    """The outcome of an evaluation. Means that no query defines are NaN.

    Attributes:
        protocol: What was measured, and how.
        metrics: Mean over queries of each metric.
        chance: The same for a random order of the gallery, in closed form.
        intervals: 95 % bootstrap interval over queries (low, high); empty if not asked for, NaN
            for fewer than two queries.
        bands: Means with ties ordered by gain, (rising, falling): the worst and the best order,
            except that WAP@k and mAP@k(/hits) may pass it where k divides a group; empty if not
            asked for.
        per_query: Each metric's values ``[q]`` in the order of the queries; NaN where a query
            has no relevant item and does not count.
        per_label: Mean AP of the queries with each label; empty without labels.
        macro: Mean over labels of ``per_label``: ``all``, ``rare``, ``medium``, ``frequent``.
        counts: Queries, gallery images, and queries without a relevant image.
    """

    protocol: Protocol
    metrics: dict[str, float]
    chance: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    bands: dict[str, tuple[float, float]]
    per_query: dict[str, Floats] = field(repr=False)
    per_label: dict[str, LabelScore] = field(repr=False)
    macro: dict[str, float]
    counts: dict[str, int]


def summarize(
    protocol: Protocol, sources: Floats, n_gallery: int, resamples: int, seed: int
) -> Scores:
    """Average over queries.

    Args:
        protocol: What was measured.
        sources: Values ``[2 or 4, metrics, q]``: of the ranking, of a random one, and perhaps of
            the worst and the best order of ties.
        n_gallery: Gallery images.
        resamples: Bootstrap resamples; 0 for no intervals.
        seed: Seed of the resamples.
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
    return Scores(
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
    )


def _means(wanted: tuple[Metric, ...], values: Floats) -> dict[str, float]:
    counted = np.count_nonzero(~np.isnan(values), axis=1)
    means = np.divide(
        np.nansum(values, axis=1), counted, out=np.full(len(wanted), np.nan), where=counted > 0
    )
    return {metric.name: float(mean) for metric, mean in zip(wanted, means, strict=True)}
