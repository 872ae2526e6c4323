"""Intervals of a mean over queries, and whether one ranking beats another on the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics.relevance import Floats, Integers


def mean_intervals(
    values: Floats, resamples: int, seed: int, level: float = 0.95, block: int = 2**20
) -> Floats:
    """Return percentile bootstrap intervals of means over queries, ``[m, 2]``.

    The same resampled queries serve all metrics. NaN values are left out of their mean; a metric
    with fewer than two values gets NaN, since a single query says nothing about others.

    Args:
        values: One value per metric and query, ``[m, q]``; NaN where it is not defined.
        resamples: Number of bootstrap resamples of the queries, at least 1.
        seed: Seed of the draws.
        level: Probability that the interval covers, in 0..1.
        block: Resampled weights that are held at once; part of what a seed stands for.

    Raises:
        UsageError: ``resamples`` is less than 1 or ``level`` not between 0 and 1.

    >>> mean_intervals(np.array([[0.5, 0.5, 0.5]]), resamples=100, seed=0).tolist()
    [[0.5, 0.5]]
    """
    if resamples < 1 or not 0 < level < 1:
        raise UsageError(
            f"{resamples} resamples at level {level}: pass at least 1 and a level in 0..1"
        )
    n_metric, n_query = values.shape
    counted = ~np.isnan(values)
    known = np.where(counted, values, 0.0).T
    weight = counted.T.astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.full((resamples, n_metric), np.nan)
    step = max(1, block // max(1, n_query))
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


_VALUES_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class Comparison:
    """The mean difference of a metric between two rankings of the same queries.

    Attributes:
        difference: First minus second, mean over runs of the mean over queries.
        interval: 95 % percentile bootstrap interval of it over queries.
        p_value: Two-sided, of a permutation test that exchanges the two rankings query by query.
        n_query: Queries that count, over all runs.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    n_query: int


def compare(
    first: Sequence[Floats],
    second: Sequence[Floats],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    clusters: Sequence[npt.ArrayLike] | None = None,
) -> Comparison:
    """Compare two rankings query by query, in one run or in several.

    Queries are resampled within each run, and runs keep equal weight. Interval and p value hold
    for other queries and these trained models, not for other splits or trainings: see
    :func:`landcue.metrics.compare_over_splits`. Queries of one scene class or one scene behave
    alike, which makes intervals over single queries too narrow: give them as clusters, which are
    then resampled and exchanged as a whole.

    Args:
        first: Values of a metric, one array ``[q]`` per run; NaN where a query does not count.
        second: The other ranking's values, of the same queries in the same order.
        resamples: Resamples and permutations.
        seed: Seed of both.
        clusters: What each query belongs to, such as its scene class, one array ``[q]`` per run.

    Raises:
        UsageError: The runs, their queries or clusters differ in number, or fewer than two
            queries (or clusters) of a run count.

    >>> better, worse = np.array([0.9, 0.8, 0.7, 0.9]), np.array([0.8, 0.7, 0.6, 0.8])
    >>> round(compare([better], [worse], resamples=1000).difference, 6)
    0.1
    """
    if len(first) != len(second) or not first:
        raise UsageError(f"{len(first)} runs against {len(second)}: pass the same runs of both")
    if resamples < 1:
        raise UsageError(f"{resamples} resamples: pass at least 1")
    if clusters is not None and len(clusters) != len(first):
        raise UsageError(f"clusters of {len(clusters)} runs for {len(first)}: pass those of each")
    runs: list[Floats] = []
    members: list[Integers] = []
    for number, (ours, theirs) in enumerate(zip(first, second, strict=True)):
        if ours.shape != theirs.shape or ours.ndim != 1:
            raise UsageError(
                f"queries {list(ours.shape)} against {list(theirs.shape)}: pass the same queries"
            )
        difference = ours - theirs
        counted = ~np.isnan(difference)
        runs.append(difference[counted])
        if clusters is not None:
            names = np.asarray(clusters[number])
            if names.shape != ours.shape:
                raise UsageError(f"{names.size} clusters for {ours.size} queries: pass one of each")
            members.append(np.unique(names[counted], return_inverse=True)[1])
    fewest = min(len(run) for run in runs)
    if fewest < 2:
        raise UsageError(
            f"{fewest} queries of a run count for both rankings: a paired test needs 2 or more"
        )
    observed = float(np.mean([run.mean() for run in runs]))
    rng = np.random.default_rng(seed)
    drawn, flipped = np.zeros(resamples), np.zeros(resamples)
    for run, of in zip(runs, members, strict=False):
        sums, sizes = np.bincount(of, run), np.bincount(of).astype(np.float64)
        if len(sums) < 2:
            raise UsageError("all queries are of one cluster: a paired test needs 2 or more")
        chosen = rng.integers(0, len(sums), (resamples, len(sums)))
        drawn += sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
        flipped += rng.choice([-1.0, 1.0], (resamples, len(sums))) @ sums / len(run)
    for run in runs if clusters is None else ():
        step = max(1, _VALUES_AT_ONCE // len(run))
        for start in range(0, resamples, step):
            rows = slice(start, min(start + step, resamples))
            shape = (rows.stop - rows.start, len(run))
            drawn[rows] += run[rng.integers(0, len(run), shape)].mean(axis=1)
            flipped[rows] += (rng.integers(0, 2, shape, np.int8) * 2 - 1) @ run / len(run)
    low, high = np.percentile(drawn / len(runs), [2.5, 97.5])
    # Equal up to rounding counts as reached: the observed order is one of the permutations.
    reached = np.abs(flipped / len(runs)) >= abs(observed) - 1e-12
    p = (1 + int(reached.sum())) / (1 + resamples)
    return Comparison(observed, (float(low), float(high)), p, sum(len(run) for run in runs))


def mean_over_runs(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % Student interval; NaN for a single value.

    >>> [round(value, 3) for value in mean_over_runs([0.5, 0.6])]
    [0.55, 0.635]
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan")
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean, _T975[min(len(values) - 1, len(_T975)) - 1] * error


# 97.5 % quantiles of Student's t with 1 to 30 degrees of freedom; the last one serves for more.
_T975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
