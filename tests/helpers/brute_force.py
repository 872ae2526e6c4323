"""Plain loops over one query: the definitions, written the long way."""

from __future__ import annotations

import itertools
import math


def average_precision(gains, k, n_relevant):
    total = found = 0.0
    for rank, gain in enumerate(gains[:k], start=1):
        if gain > 0:
            found += 1
            total += found / rank
    return total / min(len(gains) if k is None else k, n_relevant) if n_relevant else 0.0


def summed_precision(gains, k):
    return sum(precision(gains, r) for r in range(1, min(k, len(gains)) + 1) if gains[r - 1] > 0)


def over_hits(gains, k):
    hits = sum(g > 0 for g in gains[:k])
    return summed_precision(gains, k) / hits if hits else 0.0


def linear_ndcg(gains, k):
    def dcg(ranked):
        return sum(g / math.log2(1 + r) for r, g in enumerate(ranked[:k], start=1))

    ideal = dcg(sorted(gains, reverse=True))
    return dcg(gains) / ideal if ideal else 0.0


def precision(gains, k):
    return sum(g > 0 for g in gains[:k]) / k


def hit(gains, k):
    return float(any(g > 0 for g in gains[:k]))


def recall(gains, k, n_relevant):
    return sum(g > 0 for g in gains[:k]) / n_relevant if n_relevant else 0.0


def reciprocal_rank(gains):
    return next((1 / rank for rank, g in enumerate(gains, start=1) if g > 0), 0.0)


def nmrr(gains, n_relevant):
    if not n_relevant:
        return 0.0
    limit = 2 * n_relevant
    ranks = [rank if rank <= limit else 1.25 * limit for rank, g in enumerate(gains, 1) if g > 0]
    best = (1 + n_relevant) / 2
    return (sum(ranks) / n_relevant - best) / (1.25 * limit - best)


def mean_gain(gains, k):
    return sum(gains[:k]) / k


def dcg(gains, k):
    return sum((2**g - 1) / math.log2(1 + r) for r, g in enumerate(gains[:k], start=1))


def ndcg(gains, k):
    ideal = dcg(sorted(gains, reverse=True), k)
    return dcg(gains, k) / ideal if ideal else 0.0


def weighted_mean_gain(gains, k):
    total = found = 0.0
    for rank, gain in enumerate(gains[:k], start=1):
        if gain > 0:
            found += 1
            total += sum(gains[:rank]) / rank
    return total / found if found else 0.0


def by_name(gains, n_relevant, ks):
    """Return all metrics of one ranking, by (name, k); n_relevant = relevant items of all."""
    every = {
        ("AP", None): average_precision(gains, None, n_relevant),
        ("R-precision", None): recall(gains, n_relevant, n_relevant),
        ("MRR", None): reciprocal_rank(gains),
        ("ANMRR", None): nmrr(gains, n_relevant),
        ("WAP", None): weighted_mean_gain(gains, None),
    }
    for k in ks:
        every |= {
            ("AP@k", k): average_precision(gains, k, n_relevant),
            ("AP@k/R", k): summed_precision(gains, k) / max(n_relevant, 1),
            ("AP@k/hits", k): over_hits(gains, k),
            ("AP@k/k", k): summed_precision(gains, k) / k,
            ("P", k): precision(gains, k),
            ("hit rate", k): hit(gains, k),
            ("recall", k): recall(gains, k, n_relevant),
            ("ACG", k): mean_gain(gains, k),
            ("nDCG", k): ndcg(gains, k),
            ("nDCG-linear", k): linear_ndcg(gains, k),
            ("WAP", k): weighted_mean_gain(gains, k),
        }
    return every


def orders(groups):
    """Return all rankings of a list of tie groups, each a list of gains."""
    for chosen in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [gain for group in chosen for gain in group]


def expectation(groups, ks):
    """Return the mean of all metrics over all orders within the groups."""
    n_relevant = sum(gain > 0 for group in groups for gain in group)
    rankings = [by_name(gains, n_relevant, ks) for gains in orders(groups)]
    return {key: math.fsum(r[key] for r in rankings) / len(rankings) for key in rankings[0]}
