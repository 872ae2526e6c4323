"""Tie groups: what a metric needs to know of a ranking.

A ranking is cut into groups of equal distance. Only groups with a relevant item can add to a
score, so the others are dropped. A ranking without ties has groups of one item; a random ranking
is one single group, which is how chance levels are computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from landcue.metrics.relevance import Floats, Integers

_Number = TypeVar("_Number", np.int64, np.float64)


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of equal distance with at least one relevant item, by query, nearest first.

    Attributes:
        n_query: Queries q; some may have no group.
        tied: False when every group is one item.
        query: Row of the query of each group, int64 ``[g]``, rising.
        start: Items of the query ranked before the group.
        size: Items in the group.
        count: Relevant items in the group, at least 1.
        before: Relevant items of the query before the group.
        gain: Sum of the gains in the group, float64 ``[g]``.
        gain_before: Sum of the gains of the query before the group.
    """

    n_query: int
    tied: bool
    query: Integers
    start: Integers
    size: Integers
    count: Integers
    before: Integers
    gain: Floats
    gain_before: Floats

    def total(self, values: Floats | Integers) -> Floats:
        """Sum one value per group ``[g]`` over each query, ``[q]``."""
        sums = np.zeros(self.n_query)
        edges = np.searchsorted(self.query, np.arange(self.n_query + 1))
        some = edges[1:] > edges[:-1]
        if some.any():  # several times faster than bincount
            sums[some] = np.add.reduceat(values, edges[:-1][some])
        return sums

    def keep(self, chosen: npt.NDArray[np.bool_]) -> Groups:
        """Return only the chosen groups, bool ``[g]``; ``before`` and ``gain_before`` stay."""
        return replace(
            self,
            query=self.query[chosen],
            start=self.start[chosen],
            size=self.size[chosen],
            count=self.count[chosen],
            before=self.before[chosen],
            gain=self.gain[chosen],
            gain_before=self.gain_before[chosen],
        )

    def first(self) -> Groups:
        """Return the first group of each query that has one."""
        return self.keep(self.before == 0)

    def relevant_first(self) -> Groups:
        """Put the relevant items of each group before its others (for binary gains)."""
        return replace(self, size=self.count)

    def relevant_last(self) -> Groups:
        """Put the relevant items of each group after its others (for binary gains)."""
        return replace(self, start=self.start + self.size - self.count, size=self.count)


@dataclass(frozen=True, slots=True)
class TieRuns:
    """Where the groups of q ranked galleries of n items lie; items are numbered row by row.

    Attributes:
        n_query: q.
        n_item: n.
        first: Number of the first item of each group, int64 ``[g]``; empty without ties.
        size: Items of each group, int64 ``[g]``; empty without ties.
        group: Group of each item, int64 ``[q * n]``; empty without ties.
    """

    n_query: int
    n_item: int
    first: Integers
    size: Integers
    group: Integers

    @staticmethod
    def of(starts: npt.NDArray[np.bool_]) -> TieRuns:
        """Number the groups of bool ``[q, n]``, true where one begins, as in every column 0."""
        n_query, n_item = starts.shape
        if starts.all():
            nothing = np.empty(0, np.int64)
            return TieRuns(n_query, n_item, nothing, nothing, nothing)
        first = np.flatnonzero(starts)
        group = np.cumsum(starts.ravel(), dtype=np.int64) - 1
        return TieRuns(n_query, n_item, first, np.diff(first, append=starts.size), group)

    def collect(self, gains: npt.NDArray[Any]) -> Groups:
        """Collect the groups with relevant items.

        Args:
            gains: ``[q, n]`` in ranked order, 0 for an item that is not relevant, else positive.
        """
        binary = gains.dtype == np.bool_
        flat = np.flatnonzero(gains)
        size = count = np.ones(flat.size, np.int64)
        gain = np.ones(flat.size) if binary else gains.ravel()[flat].astype(np.float64)
        tied, merged = bool(self.first.size), False
        if tied and flat.size:
            group = self.group[flat]
            opens = np.flatnonzero(np.concatenate(([True], group[1:] != group[:-1])))
            merged = opens.size < flat.size
            if merged:
                count = np.diff(opens, append=flat.size)
                gain = count.astype(np.float64) if binary else np.add.reduceat(gain, opens)
                group = group[opens]
            flat, size = self.first[group], self.size[group]

        edges = np.searchsorted(flat, np.arange(self.n_query + 1) * self.n_item)
        lengths = np.diff(edges)
        query = np.repeat(np.arange(self.n_query), lengths)
        if merged:
            before = _running(count, edges, lengths)
        else:
            before = np.arange(flat.size) - np.repeat(edges[:-1], lengths)
        gain_before = before.astype(np.float64) if binary else _running(gain, edges, lengths)
        start = flat - query * self.n_item
        return Groups(self.n_query, tied, query, start, size, count, before, gain, gain_before)


def one_group(size: Integers, count: Integers, gain: Floats) -> Groups:
    """Return the groups of a random ranking: for every query, all its items tie.

    Args:
        size: Gallery items that may be found, int64 ``[q]``.
        count: Relevant ones among them.
        gain: Sum of their gains, float64 ``[q]``.
    """
    query = np.flatnonzero(count)
    nothing = np.zeros(query.size, np.int64)
    return Groups(
        n_query=len(size),
        tied=True,
        query=query,
        start=nothing,
        size=size[query],
        count=count[query],
        before=nothing,
        gain=gain[query],
        gain_before=nothing.astype(np.float64),
    )


def _running(
    values: npt.NDArray[_Number], edges: Integers, lengths: Integers
) -> npt.NDArray[_Number]:
    """Return the sum of the earlier values of the same query, ``[g]``."""
    sums = np.zeros(values.size + 1, values.dtype)
    np.cumsum(values, out=sums[1:])
    earlier = sums[:-1] - np.repeat(sums[edges[:-1]], lengths)
    return cast("npt.NDArray[_Number]", earlier)
