"""Retrieval metrics as expectations over ties, in closed form.

Each function takes :class:`~landcue.metrics.ranking.Groups` and returns one float64 per query,
``[q]``: the mean of the metric over all permutations within the groups of equal distance. Without
ties that is the metric itself; with a single group it is its chance level.

Within a group of n items that follows s others and has P relevant ones, the item at rank r is
relevant with probability P/n, and another given item too with (P-1)/(n-1). Queries without a
relevant item have no group and get 0; whether they count is the caller's choice.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from landcue.metrics.ranking import Groups
from landcue.metrics.relevance import Floats, Integers


def average_precision(
    groups: Groups, n_relevant: Integers, k: int | None = None, by: str = "min(k,R)"
) -> Floats:
    """``AP@k = sum_{r<=k} rel_r * Prec@r / min(k, R)``; without k over the whole ranking.

    Other tools divide the same sum by R, by k, or by the relevant items among the first k
    (``hits``; 0 if there is none), where the expectation is that of the quotient.

    Args:
        groups: Groups with gain 1 per relevant item.
        n_relevant: R, relevant items of each query in the whole gallery, ``[q]``.
        k: Cut-off.
        by: The denominator: ``min(k,R)``, ``R``, ``k`` or ``hits``.
    """
    if by == "hits":
        return weighted_mean_gain(groups, k)  # with gains of 1, ACG@r is Prec@r
    if k is not None:
        groups = groups.keep(groups.start < k)
    summed = groups.total(_running_mean(groups, k))
    if by == "k" and k is not None:
        return summed / k
    found = n_relevant if k is None or by == "R" else np.minimum(n_relevant, k)
    return summed / np.maximum(found, 1)


def precision(groups: Groups, k: int) -> Floats:
    """``P@k`` = relevant items in the first k, divided by k (also if the gallery is smaller)."""
    return groups.total(groups.count * _share(groups, k)) / k


def r_precision(groups: Groups, n_relevant: Integers) -> Floats:
    """P@R with R the number of relevant items of the query."""
    return groups.total(groups.count * _share(groups, n_relevant[groups.query])) / np.maximum(
        n_relevant, 1
    )


def recall(groups: Groups, n_relevant: Integers, k: int) -> Floats:
    """Share of the relevant items that are in the first k."""
    return groups.total(groups.count * _share(groups, k)) / np.maximum(n_relevant, 1)


def hit_rate(groups: Groups, k: int) -> Floats:
    """Probability that a relevant item is in the first k: 0 or 1 without ties."""
    first = groups.first()
    drawn = np.clip(k - first.start, 0, first.size)
    return first.total(1 - _no_positive(first.size, first.count, drawn))


def reciprocal_rank(groups: Groups) -> Floats:
    """One over the rank of the first relevant item."""
    first = groups.first()
    values = 1 / (first.start + 1)
    size, count = first.size, first.count
    # All n items tie from rank 1 on: E[1/rank] = P / (n-P+1) * (H_n - H_(P-1)).
    harmonic = _harmonic(_table_size(size))
    top = (first.start == 0) & (size > 1)
    n, p = size[top], count[top]
    values[top] = p / (n - p + 1) * (harmonic[n] - harmonic[p - 1])
    for i in np.flatnonzero((first.start > 0) & (size > count)):
        s, n, p = int(first.start[i]), int(size[i]), int(count[i])
        # The first relevant item is the j-th with probability P/(n-j+1) after j-1 others.
        j = np.arange(n - p + 1)
        none_yet = np.concatenate(([1.0], np.cumprod((n - p - j[:-1]) / (n - j[:-1]))))
        values[i] = np.sum(none_yet * p / (n - j) / (s + 1 + j))
    return first.total(values)


def nmrr(groups: Groups, n_relevant: Integers) -> Floats:
    """Normalized modified retrieval rank (MPEG-7) with ``K = 2 R``; 0 is best, 1 worst.

    The rank of a relevant item beyond K, or of one that is not in the ranking, counts as
    ``1.25 K``; with the mean ``a`` of these ranks,
    ``NMRR = (a - (1 + R) / 2) / (1.25 K - (1 + R) / 2)``.
    """
    limit = 2 * n_relevant[groups.query]
    rank = groups.start + 1
    costs = np.where(rank <= limit, rank, 1.25 * limit)  # right for single items
    if groups.tied:
        many = groups.size > 1
        size, limit = groups.size[many], limit[many]

        def cost(rank: Integers) -> Floats:
            """Sum of the counted ranks 1..rank."""
            near = np.minimum(rank, limit)
            return near * (near + 1) / 2 + 1.25 * limit * (rank - near)

        summed = cost(groups.start[many] + size) - cost(groups.start[many])
        costs[many] = groups.count[many] / size * summed
    missed = n_relevant - groups.total(groups.count)  # not in the ranking at all
    mean = (groups.total(costs) + 2.5 * n_relevant * missed) / np.maximum(n_relevant, 1)
    best = (1 + n_relevant) / 2
    return np.where(n_relevant > 0, (mean - best) / np.maximum(2.5 * n_relevant - best, 0.5), 0.0)


def mean_gain(groups: Groups, k: int) -> Floats:
    """``ACG@k`` = sum of the gains of the first k, divided by k (also in a smaller gallery)."""
    return groups.total(groups.gain * _share(groups, k)) / k


def dcg(groups: Groups, k: int | None) -> Floats:
    """``DCG@k = sum_{r<=k} gain_r / log2(1 + r)``: pass groups of ``2**g - 1`` as gains."""
    end = groups.start + groups.size
    discount = _discount(_table_size(end))
    cut = end if k is None else np.minimum(end, k)
    spent = discount[cut] - discount[np.minimum(groups.start, cut)]
    return groups.total(groups.gain / groups.size * spent)


def ideal_dcg(levels: Floats, counts: Integers, k: int | None) -> Floats:
    """DCG@k of the best order of a whole gallery, ``[q]``.

    Args:
        levels: The different gains ``2**g - 1``, falling, ``[v]``.
        counts: Gallery items of each query with each gain, ``[q, v]``.
        k: Cut-off.
    """
    ends = np.cumsum(counts, axis=1)
    discount = _discount(_table_size(ends))
    ends = ends if k is None else np.minimum(ends, k)
    return np.diff(discount[ends], axis=1, prepend=0.0) @ levels


def weighted_mean_gain(groups: Groups, k: int | None) -> Floats:
    """``WAP@k = sum_{r<=k} 1[g_r>0] ACG@r / sum_{r<=k} 1[g_r>0]`` (0 without any).

    A group that the cut-off divides makes the denominator random: the expectation is then taken
    for every number m of relevant items that it may put into the first k, which follows the
    hypergeometric distribution.
    """
    if k is not None:
        groups = groups.keep(groups.start < k)
    end = groups.start + groups.size
    divided = np.zeros(end.shape, np.bool_) if k is None else end > k
    whole = groups.keep(~divided)
    summed = whole.total(_running_mean(whole, None))
    counted = whole.total(whole.count)
    result = summed / np.maximum(counted, 1)
    if k is None or not divided.any():
        return result

    cut = groups.keep(divided)  # at most one group per query
    drawn = k - cut.start
    m = np.arange(int(np.minimum(drawn, cut.count).max()) + 1)
    chances = _hypergeometric(cut.size, cut.count, drawn, m)
    harmonic = _harmonic(k)
    h1 = harmonic[k] - harmonic[cut.start]
    h2 = drawn - (cut.start + 1) * h1  # sum of (j-1)/(s+j) for j = 1..t
    gain = cut.gain / cut.count
    single = (cut.gain_before + gain) * h1 / drawn
    double = gain * h2 / (drawn * np.maximum(drawn - 1, 1))
    sums = summed[cut.query, None] + m * single[:, None] + m * (m - 1) * double[:, None]
    values = sums / np.maximum(cut.before[:, None] + m, 1)
    values[(cut.before[:, None] + m) == 0] = 0.0
    result[cut.query] = np.sum(chances * values, axis=1)
    return result


def _running_mean(groups: Groups, k: int | None) -> Floats:
    """Expect ``sum over ranks r of a group, r <= k, of 1[rel_r] * (gains of the first r) / r``.

    With the gain sum G of the group and Gb before it: at rank r,
    ``(Gb*P/n + G/n + (r-s-1) * (P-1)*G / (n(n-1))) / r``. Groups must start before k.
    """
    values = (groups.gain_before + groups.gain) / (groups.start + 1)  # right for single items
    if not groups.tied:
        return values
    many = groups.size > 1
    groups = groups.keep(many)
    start, size, count = groups.start, groups.size, groups.count
    end = start + size
    harmonic = _harmonic(_table_size(end))
    cut = end if k is None else np.minimum(end, k)
    h = harmonic[cut] - harmonic[start]
    own = (groups.gain_before * count + groups.gain) / size * h
    others = (count - 1) * groups.gain / (size * (size - 1))
    values[many] = own + others * (cut - start - (start + 1) * h)  # sum of (r-s-1)/r
    return values


def _share(groups: Groups, k: int | Integers) -> Floats:
    """Return the expected share of each group's items that is in the first k, ``[g]``."""
    return np.clip(k - groups.start, 0, groups.size) / groups.size


def _no_positive(size: Integers, count: Integers, drawn: Integers) -> Floats:
    """Probability that ``drawn`` of ``size`` items hold none of the ``count`` relevant ones."""
    return _hypergeometric(size, count, drawn, np.zeros(1, np.int64))[:, 0]


def _hypergeometric(size: Integers, count: Integers, drawn: Integers, m: Integers) -> Floats:
    """Probability of m relevant items among the drawn ones, ``[g, len(m)]``."""
    log = _log_factorial(_table_size(size))

    def log_choose(n: Integers, k: Integers) -> Floats:
        return log[n] - log[np.clip(k, 0, n)] - log[np.clip(n - k, 0, n)]

    n, p, t = size[:, None], count[:, None], drawn[:, None]
    possible = (m <= p) & (m <= t) & (t - m <= n - p)
    chances = np.exp(log_choose(p, m) + log_choose(n - p, t - m) - log_choose(n, t))
    return np.where(possible, chances, 0.0)


def _table_size(ranks: Integers) -> int:
    """Return a table length for these ranks: powers of two, so that few are ever built."""
    return 1 << int(ranks.max(initial=1)).bit_length()


@functools.lru_cache(maxsize=8)
def _harmonic(n: int) -> Floats:
    """Return H_0 .. H_n."""
    return np.concatenate(([0.0], np.cumsum(1 / np.arange(1, n + 1))))


@functools.lru_cache(maxsize=8)
def _discount(n: int) -> Floats:
    """Return the sums of the first 0 .. n discounts ``1 / log2(1 + r)``."""
    return np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, n + 2)))))


@functools.lru_cache(maxsize=8)
def _log_factorial(n: int) -> Floats:
    """Return log(0!) .. log(n!)."""
    return np.array([math.lgamma(i + 1) for i in range(n + 1)])
