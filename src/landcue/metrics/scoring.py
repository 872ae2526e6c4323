"""Metrics of a block of queries: which tie groups each of them needs.

The same metrics are computed from four kinds of rankings: the ranking itself, the two orders of
its ties that bound it, and the random ranking.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from landcue.metrics import metrics
from landcue.metrics.groups import Groups, TieRuns, one_group
from landcue.metrics.kinds import Metric
from landcue.metrics.ranking import Keys, sort_by
from landcue.metrics.relevance import Floats, Integers

Table = npt.NDArray[Any]
Codes = npt.NDArray[np.unsignedinteger[Any]]


class CodeTable(Protocol):
    """What is known of a pair of images by its code, 0 for what is relevant in no sense."""

    def gain(self, kind: str) -> Floats:
        """Return the graded gain of every code, ``[n_codes]``."""
        ...

    def relevant(self, kind: str) -> npt.NDArray[np.bool_]:
        """Return whether a pair of each code is relevant, ``[n_codes]``."""
        ...


@dataclass(frozen=True, slots=True)
class Tables:
    """Relevance and gains as tables over pair codes, built once per evaluation."""

    pairs: CodeTable
    built: dict[tuple[str, str], Table] = field(default_factory=dict[tuple[str, str], Table])

    def of(self, needs: str, kind: str) -> Table:
        """Return the table ``[n_codes]`` of a metric's ``family.needs`` and ``relevance``."""
        if (needs, kind) not in self.built:
            if needs == "relevance":
                table: Table = self.pairs.relevant(kind)
            else:
                table = self.pairs.gain(kind)
                table = 2.0**table - 1 if needs == "exponential" else table
            self.built[needs, kind] = table
        return self.built[needs, kind]


@dataclass(frozen=True, slots=True)
class Census:
    """The gallery of each query, whatever its order: how many pairs there are of each code.

    Attributes:
        counts: int64 ``[q, n_codes]`` over the items that may be found.
        size: Items that may be found, int64 ``[q]``.
    """

    counts: Integers
    size: Integers

    def count(self, table: Table) -> Integers:
        """Return the items with a positive entry in the table, ``[q]``."""
        return self.counts @ (table > 0).astype(np.int64)

    def groups(self, table: Table, depth: int | None) -> Groups:
        """Return the groups of a random ranking."""
        return one_group(self.size, self.count(table), self.counts @ table.astype(np.float64))


class Source(Protocol):
    """A ranking that can be cut into groups for a table of relevance or gain."""

    def groups(self, table: Table, depth: int | None) -> Groups:
        """Return the groups, at least those which start before rank ``depth`` (all if None)."""
        ...


@dataclass(frozen=True, slots=True)
class Ranked:
    """Pair codes ``[q, n]`` in ranked order, and where groups of equal distance start."""

    codes: Codes
    starts: npt.NDArray[np.bool_]
    runs: dict[int, TieRuns] = field(default_factory=dict[int, TieRuns])

    def groups(self, table: Table, depth: int | None) -> Groups:
        """Return the groups of the ranking."""
        width = self._width(depth)
        if width not in self.runs:
            self.runs[width] = TieRuns.of(self.starts[:, :width])
        return self.runs[width].collect(np.take(table, self.codes[:, :width]))

    def _width(self, depth: int | None) -> int:
        """Return the ranks that hold all groups starting before ``depth`` as a whole."""
        n = self.codes.shape[1]
        if depth is None or depth >= n:
            return n
        later = self.starts[:, depth:]
        return depth + int(np.where(later.any(axis=1), later.argmax(axis=1), n - depth).max())


@dataclass(frozen=True, slots=True)
class Bound:
    """The ranking with ties ordered by gain: falling for the best case, rising for the worst.

    Attributes:
        ranked: The ranking with its ties.
        keys: Distance keys uint32 ``[q, n]`` in the order of the gallery.
        codes: Pair codes ``[q, n]`` in the order of the gallery.
        falling: Whether larger gains come first.
    """

    ranked: Ranked
    keys: Keys
    codes: Codes
    falling: bool

    def groups(self, table: Table, depth: int | None) -> Groups:
        """Return groups of equal distance and equal gain."""
        if table.dtype == np.bool_:
            groups = self.ranked.groups(table, depth)
            return groups.relevant_first() if self.falling else groups.relevant_last()
        levels, level = np.unique(-table if self.falling else table, return_inverse=True)
        ranked = sort_by(self.keys, np.take(level, self.codes), len(levels))
        gains = np.take(np.abs(levels), ranked.carried())
        return TieRuns.of(ranked.starts(carried=True)).collect(gains)


def score_block(
    wanted: tuple[Metric, ...], tables: Tables, census: Census, source: Source, depth: int
) -> Floats:
    """Return the metrics of a block of queries, float64 ``[len(wanted), q]``.

    A query without a relevant item has NaN where it does not count.

    Args:
        wanted: The metrics.
        tables: Relevance and gains by pair code.
        census: The gallery of each query.
        source: The ranking to measure.
        depth: The largest cut-off among the metrics.
    """
    known: dict[tuple[str, str, bool], tuple[Groups, Integers]] = {}
    out = np.empty((len(wanted), len(census.size)))
    for row, metric in enumerate(wanted):
        needs, kind = metric.family.needs, metric.relevance
        table = tables.of(needs, kind)
        key = (needs, kind, metric.k is None)
        if key not in known:
            groups = source.groups(table, None if metric.k is None else depth)
            known[key] = groups, census.count(table)
        groups, n_relevant = known[key]
        out[row] = _values(metric, groups, n_relevant, table, census)
        if not metric.family.zero:
            out[row, n_relevant == 0] = np.nan
    return out


def _values(
    metric: Metric, groups: Groups, n_relevant: Integers, table: Table, census: Census
) -> Floats:
    k = metric.k
    if k is None:
        whole = {
            "AP": metrics.average_precision,
            "R-precision": metrics.r_precision,
            "ANMRR": metrics.nmrr,
        }
        if metric.kind == "MRR":
            return metrics.reciprocal_rank(groups)
        return whole[metric.kind](groups, n_relevant)
    if metric.kind.startswith("AP@k"):
        return metrics.average_precision(groups, n_relevant, k, metric.kind[5:] or "min(k,R)")
    if metric.kind == "found":
        return metrics.found(groups, n_relevant, k)
    if metric.kind in ("nDCG", "nDCG-linear"):
        if not table.any():
            return np.zeros(len(n_relevant))
        levels = -np.unique(-table[table > 0])
        counts = np.stack([census.count(table == level) for level in levels], axis=-1)
        ideal = metrics.ideal_dcg(levels, counts, k)
        return metrics.dcg(groups, k) / np.where(ideal > 0, ideal, 1.0)
    cut = {
        "P": metrics.precision,
        "hit": metrics.hit,
        "ACG": metrics.mean_gain,
        "WAP": metrics.weighted_mean_gain,
    }
    return cut[metric.kind](groups, k)
