"""How much a mean over queries owes to the choice of queries."""

from __future__ import annotations

import numpy as np

from landcue.errors import UsageError
from landcue.metrics.relevance import Floats

_WEIGHTS_AT_ONCE = 2**20


def mean_intervals(values: Floats, resamples: int, seed: int, level: float = 0.95) -> Floats:
    """Return percentile bootstrap intervals of means over queries, ``[m, 2]``.

    The same resampled queries serve all metrics. NaN values are left out of their mean; a metric
    with fewer than two values gets NaN, for a single query tells nothing about others.

    Args:
        values: One value per metric and query, ``[m, q]``; NaN where it is not defined.
        resamples: How often the queries are drawn with replacement, at least 1.
        seed: Seed of the draws.
        level: Probability that the interval covers, in 0..1.

    Raises:
        UsageError: ``resamples`` is less than 1 or ``level`` not between 0 and 1.
    """
    if resamples < 1 or not 0 < level < 1:
        raise UsageError(
            f"{resamples} resamples at level {level}: give at least 1 and a level in 0..1"
        )
    n_metric, n_query = values.shape
    counted = ~np.isnan(values)
    known = np.where(counted, values, 0.0).T
    weight = counted.T.astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.full((resamples, n_metric), np.nan)
    step = max(1, _WEIGHTS_AT_ONCE // max(1, n_query))
    for first in range(0, resamples, step):
        n = min(step, resamples - first)
        drawn = rng.integers(0, n_query, (n, n_query)) + np.arange(n)[:, None] * n_query
        times = np.bincount(drawn.ravel(), minlength=n * n_query).reshape(n, n_query)
        times = times.astype(np.float64)
        totals = times @ weight
        np.divide(times @ known, totals, out=means[first : first + n], where=totals > 0)
    intervals = np.full((n_metric, 2), np.nan)
    some = np.flatnonzero(counted.sum(axis=1) > 1)
    tails = [50 * (1 - level), 50 * (1 + level)]
    if some.size:
        intervals[some] = np.nanpercentile(means[:, some], tails, axis=0).T
    return intervals
