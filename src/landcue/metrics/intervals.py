"""Confidence intervals: over the queries of one part, and over several splits."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
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

    Queries are resampled within each run, and runs keep equal weight. Runs must be of different
    queries: of models that answer the same ones, such as training seeds of one split, pass the mean
    of their values as one run, or the interval is too narrow. Interval and p value hold
    for other queries and these trained models, not for other splits or trainings: see
    :func:`landcue.metrics.compare_over_splits`. Queries of one scene class or one scene behave
    alike, which makes intervals over single queries too narrow: pass them as clusters, which are
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
    return mean, round(student_quantile(len(values) - 1), 4) * error  # as in printed tables


@dataclass(frozen=True, slots=True)
class SplitComparison:
    """The difference of a metric between two methods over splits, and the noise of training.

    Attributes:
        difference: First minus second, mean over splits of the mean over training seeds.
        interval: 95 % Student interval over splits, with the variance corrected for the overlap
            of training parts; NaN for one split.
        p_value: Two-sided, of the same test; NaN for one split.
        n_split: Splits.
        n_seed: Training seeds in each split.
        between_splits: Standard deviation of the differences over splits; NaN for one split.
        training_noise: Standard deviation of a difference over the seeds of a split, pooled;
            NaN for one seed.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    n_split: int
    n_seed: int
    between_splits: float
    training_noise: float


def compare_over_splits(
    first: npt.ArrayLike, second: npt.ArrayLike, *, test_share: float = 0.0
) -> SplitComparison:
    """Compare two methods by a corrected resampled t test over splits.

    ``t = mean(d) / sqrt((1/J + n_test/n_train) var(d))`` with J - 1 degrees of freedom and d the
    difference in each of J splits, averaged over training seeds: C. Nadeau and Y. Bengio,
    "Inference for the Generalization Error", Machine Learning 52, 2003. Training parts of random
    splits overlap, so that the plain paired t test finds differences too often.

    Args:
        first: A metric of the first method, ``[splits]`` or ``[splits, seeds]``.
        second: The same of the second one, with the same splits and seeds.
        test_share: ``n_test / n_train``; 0 for splits without common training images (then it
            is the plain paired t test).

    Raises:
        UsageError: Shapes differ, a value is not finite, or ``test_share`` is negative.

    >>> found = compare_over_splits([0.80, 0.82, 0.81], [0.79, 0.80, 0.78], test_share=0.25)
    >>> round(found.difference, 3), round(found.p_value, 3)
    (0.02, 0.12)
    """
    ours, theirs = (np.asarray(v, np.float64) for v in (first, second))
    if ours.shape != theirs.shape or ours.ndim not in (1, 2) or not ours.size:
        raise UsageError(
            f"scores {list(ours.shape)} against {list(theirs.shape)}: pass [splits] or "
            "[splits, seeds] of the same runs for both"
        )
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise UsageError("a score is not finite: leave out runs that failed, of both methods")
    if not test_share >= 0:
        raise UsageError(f"test_share is {test_share}: pass n_test / n_train, 0 or more")
    differences = (ours - theirs).reshape(len(ours), -1)
    n_split, n_seed = differences.shape
    by_split = differences.mean(axis=1)
    mean = float(by_split.mean())
    noise = float("nan")
    if n_seed > 1:
        noise = float(np.sqrt(differences.var(axis=1, ddof=1).mean()))
    if n_split < 2:
        nan = float("nan")
        return SplitComparison(mean, (nan, nan), nan, n_split, n_seed, nan, noise)
    spread = float(by_split.std(ddof=1))
    error = spread * math.sqrt(1 / n_split + test_share)
    half = student_quantile(n_split - 1) * error
    p = student_p(mean / error, n_split - 1) if error else float(mean == 0)
    return SplitComparison(mean, (mean - half, mean + half), p, n_split, n_seed, spread, noise)


def student_p(t: float, freedom: int) -> float:
    """Return the two-sided p value of Student's t.

    >>> round(student_p(2.2281, 10), 4)
    0.05
    """
    # P(|T| < t) is an integral of cos^(freedom - 1) over angles up to arctan(t / sqrt(freedom)).
    nodes, weights = _legendre()
    most = math.atan(abs(t) / math.sqrt(freedom))
    angles = (nodes + 1) / 2 * most
    inside = most / 2 * float(weights @ np.cos(angles) ** (freedom - 1))
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    return max(0.0, 1 - 2 / math.sqrt(math.pi) * scale * inside)


@functools.cache
def _legendre() -> tuple[Floats, Floats]:
    """Return nodes and weights of Gauss-Legendre quadrature."""
    return np.polynomial.legendre.leggauss(200)


@functools.cache
def student_quantile(freedom: int, p: float = 0.05) -> float:
    """Return the t whose two-sided p value is ``p``.

    >>> round(student_quantile(4), 3)
    2.776
    """
    low, high = 0.0, 1.0
    while student_p(high, freedom) > p:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > p else (low, middle)
    return high


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for their number: Holm's step-down method (1979).

    NaN stays NaN and does not count.

    >>> holm({"nDCG": 0.01, "WAP": 0.04, "mAP": 0.03})
    {'nDCG': 0.03, 'WAP': 0.06, 'mAP': 0.06}
    """
    tested = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    adjusted, largest = dict(p_values), 0.0
    for place, (p, name) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - place)))
        adjusted[name] = largest
    return adjusted
