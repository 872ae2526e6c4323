"""Scores at many cut-offs, and precision over recall, as expectations over ties.

Within a group of n items of equal distance with P relevant ones, P/n relevant items are expected
at each of its ranks, whatever the order. So the expected number ``F(k)`` of relevant items in the
first k is a running sum, and the scores that are linear in it follow without further sums over
permutations. A random ranking is one single group: its curves are the chance level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics import measures
from landcue.metrics.annotations import Annotations
from landcue.metrics.distances import Distances
from landcue.metrics.protocol import Protocol
from landcue.metrics.relevance import Floats, Integers, pair_table
from landcue.metrics.scoring import (
    Block,
    Part,
    Ranked,
    Ranker,
    Table,
    Tables,
    worker_threads,
)

KINDS = ("P", "recall", "nDCG")
"""What is drawn over k: kinds of :mod:`landcue.metrics.protocol`."""

_LEVELS = 101
_POINTS = 48


@dataclass(frozen=True, slots=True)
class Curve:
    """A mean over queries at m places, and the same for a random order of the gallery.

    Attributes:
        x: Cut-offs k, or recall in 0..1, rising, ``[m]``.
        mean: ``[m]``; NaN if no query counts.
        chance: ``[m]``; NaN if no query counts.
    """

    x: Floats
    mean: Floats
    chance: Floats


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves of one evaluation.

    Attributes:
        precision_recall: Interpolated precision at 101 levels of recall: the largest expected P@k
            over the cut-offs k whose expected recall reaches the level. Queries without a
            relevant item are left out.
        by_k: ``P``, ``recall`` and ``nDCG`` over k, equal to
            the metrics of these kinds at the same k.
    """

    precision_recall: Curve
    by_k: dict[str, Curve]


def compute_curves(
    query: Annotations,
    gallery: Annotations,
    distances: Distances,
    protocol: Protocol,
    ks: Integers | None = None,
) -> Curves:
    """Rank the gallery for every query and average precision, recall and nDCG at many cut-offs.

    Args:
        query: Ids and labels of the queries.
        gallery: Ids and labels of the gallery; where it is the object ``query``, no image
            retrieves itself.
        distances: Distances between them, in the same order.
        protocol: Relevance, gain and rules; its own cut-offs are among the default ``ks``.
        ks: Cut-offs, rising, 1 to the size of the gallery; about 50 of growing distance without.

    Raises:
        UsageError: Sizes do not fit each other, a cut-off is out of range, or a distance is NaN.

    >>> from landcue.metrics import annotate, given
    >>> query, gallery = annotate(["q"], [[1]]), annotate(["a", "b"], [[1], [0]])
    >>> found = compute_curves(query, gallery, given(np.array([[1, 2]])), Protocol.at((1, 2)))
    >>> found.by_k["P"].mean.tolist()
    [1.0, 0.5]
    """
    n = len(gallery)
    ks = cutoffs(n, protocol) if ks is None else ks
    if not ks.size or ks.min() < 1 or ks.max() > n:
        raise UsageError(f"cut-offs {ks.tolist()} of a gallery of {n} images: pass 1 to {n}")
    pairs = pair_table(query.labels, gallery.labels)
    tables = Tables(pairs)
    ranker = Ranker(query, gallery, distances, protocol, pairs)

    def measure(part: Part) -> tuple[Floats, Floats]:
        block = ranker.rank(part)
        return _by_k(block, tables, protocol, ks), _by_recall(block, tables, protocol)

    # Mean over queries: sums and counts, so that no value per query and k is kept.
    sums = {"k": np.zeros((2, len(KINDS), ks.size)), "recall": np.zeros((2, 1, _LEVELS))}
    counts = {"k": np.zeros((len(KINDS), 1)), "recall": np.zeros((1, 1))}
    with worker_threads() as pool:
        for parts in ranker.parts():
            for over_k, over_recall in pool.map(measure, parts):
                for name, values in (("k", over_k), ("recall", over_recall)):
                    sums[name] += np.nansum(values, axis=2)
                    counts[name] += np.count_nonzero(~np.isnan(values[0, :, :, :1]), axis=1)
    with np.errstate(invalid="ignore"):
        by_k, by_recall = (sums[name] / counts[name] for name in ("k", "recall"))
    levels = np.linspace(0, 1, _LEVELS)
    return Curves(
        precision_recall=Curve(levels, by_recall[0, 0], by_recall[1, 0]),
        by_k={
            kind: Curve(ks.astype(np.float64), by_k[0, row], by_k[1, row])
            for row, kind in enumerate(KINDS)
        },
    )


@dataclass(frozen=True, slots=True)
class RadiusScores:
    """What a search by Hamming radius returns, mean over the queries.

    Attributes:
        precision: Relevant share of the images within the radius; 0 for a query without any.
        recall: Share of the relevant images that are within it, over queries that have some.
        returned: Images within the radius.
        empty: Share of queries without any image within it.
        chance: Precision of a random order: the relevant share of the gallery.
    """

    precision: float
    recall: float
    returned: float
    empty: float
    chance: float


def radius_scores(
    query: Annotations,
    gallery: Annotations,
    distances: Distances,
    protocol: Protocol,
    radius: float = 2,
) -> RadiusScores:
    """Measure the images within a distance, usually Hamming distance 2 of binary codes.

    Args:
        query: Ids and labels of the queries.
        gallery: Ids and labels of the gallery; where it is the object ``query``, no image
            retrieves itself.
        distances: Distances between them, in the same order.
        protocol: Relevance and rules.
        radius: The largest distance that is returned.

    Raises:
        UsageError: Sizes do not fit each other, or a distance is NaN.

    >>> from landcue.metrics import annotate, given
    >>> query, gallery = annotate(["q"], [[1]]), annotate(["a", "b", "c"], [[1], [0], [1]])
    >>> found = radius_scores(query, gallery, given(np.array([[1, 2, 3]])), Protocol.at((1,)))
    >>> found.precision, found.recall
    (0.5, 0.5)
    """
    pairs = pair_table(query.labels, gallery.labels)
    table = Tables(pairs).of("relevance", protocol.relevance)
    ranker = Ranker(query, gallery, distances, protocol, pairs)
    rows: list[Integers] = []
    for parts in ranker.parts():
        for part in parts:
            block = ranker.rank(part)
            within = (
                ranker.by_place((np.asarray(part.distances, np.float64) <= radius).T).T
                & ~block.hidden
            )
            returned = within.sum(axis=1)
            found = (within & (table[block.codes] > 0)).sum(axis=1)
            rows.append(np.stack([found, returned, block.census.count(table), block.census.size]))
    found, returned, relevant, size = np.concatenate(rows, axis=1).astype(np.float64)
    some = relevant > 0
    recall = float((found[some] / relevant[some]).mean()) if some.any() else float("nan")
    return RadiusScores(
        precision=float((found / np.maximum(returned, 1)).mean()),
        recall=recall,
        returned=float(returned.mean()),
        empty=float((returned == 0).mean()),
        chance=float((relevant / np.maximum(size, 1)).mean()),
    )


def cutoffs(n_gallery: int, protocol: Protocol) -> Integers:
    """Return cut-offs of growing distance from 1 to ``n_gallery``, the protocol's among them."""
    spread = np.unique(np.round(np.geomspace(1, n_gallery, _POINTS)).astype(np.int64))
    own = [metric.k for metric in protocol.metrics() if metric.kind in KINDS and metric.k]
    return np.union1d(spread, [k for k in own if k <= n_gallery]).astype(np.int64)


def _expected(ranked: Ranked, table: Table) -> Floats:
    """Return the expected entry of a table at every rank, ``[q, n]``."""
    values = table[ranked.codes].astype(np.float64)
    if ranked.starts.all():
        return values
    first = np.flatnonzero(ranked.starts)
    sizes = np.diff(first, append=values.size)
    means = np.add.reduceat(values.ravel(), first) / sizes
    return np.repeat(means, sizes).reshape(values.shape)


def _by_k(block: Block, tables: Tables, protocol: Protocol, ks: Integers) -> Floats:
    """Return ``[ranking or chance, kind, q, k]``, NaN for a query that does not count."""
    census = block.census
    relevance = tables.of("relevance", protocol.relevance)
    gains = tables.of("exponential", protocol.gain)
    discounts = 1 / np.log2(np.arange(2, block.codes.shape[1] + 2))
    size = np.maximum(census.size, 1)[:, None]

    n_relevant = census.count(relevance)[:, None]
    random = n_relevant * np.minimum(ks, size) / size
    counted = np.stack([np.cumsum(_expected(block.ranked, relevance), axis=1)[:, ks - 1], random])

    gain = (census.counts @ gains)[:, None]
    discounted = np.cumsum(_expected(block.ranked, gains) * discounts, axis=1)[:, ks - 1]
    random = gain / size * np.cumsum(discounts)[np.minimum(ks, size) - 1]
    ideal = np.zeros((len(gain), ks.size))
    if gain.any():
        levels, held = census.by_level(("exponential", protocol.gain), gains)
        ideal = np.stack([measures.ideal_dcg(levels, held, int(k)) for k in ks], axis=1)

    out = np.empty((2, len(KINDS), len(n_relevant), ks.size))
    out[:, 0] = counted / ks
    with np.errstate(invalid="ignore", divide="ignore"):
        out[:, 1] = counted / n_relevant
        out[:, 2] = np.stack([discounted, random]) / ideal
    out[:, 1, n_relevant[:, 0] == 0] = np.nan
    out[:, 2, gain[:, 0] == 0] = np.nan
    return out


def _by_recall(block: Block, tables: Tables, protocol: Protocol) -> Floats:
    """Return interpolated precision ``[ranking or chance, 1, q, level]``."""
    table = tables.of("relevance", protocol.relevance)
    n_relevant = block.census.count(table)
    counted = np.cumsum(_expected(block.ranked, table), axis=1)
    precision = counted / np.arange(1, counted.shape[1] + 1)
    best: npt.NDArray[np.float64] = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    levels = np.linspace(0, 1, _LEVELS)
    out = np.full((2, 1, len(counted), _LEVELS), np.nan)
    for row in np.flatnonzero(n_relevant):
        wanted = levels * n_relevant[row] - 1e-9  # sums of shares fall short by rounding
        out[0, 0, row] = best[row, np.searchsorted(counted[row], wanted)]
        out[1, 0, row] = n_relevant[row] / block.census.size[row]
    return out
