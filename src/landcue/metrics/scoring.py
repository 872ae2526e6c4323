"""Rank the gallery for a few queries at a time and compute their metrics.

The same metrics are computed from four kinds of rankings: the ranking itself, the two orders of
its ties that bound it, and the random ranking.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics import measures
from landcue.metrics.annotations import Annotations, same_group
from landcue.metrics.distances import Distances
from landcue.metrics.protocol import Metric, Protocol
from landcue.metrics.ranking import (
    Groups,
    Keys,
    Mask,
    TieRuns,
    distance_keys,
    hide,
    one_group,
    sort_by,
)
from landcue.metrics.relevance import Floats, Integers, PairTable

Table = npt.NDArray[Any]
Codes = npt.NDArray[np.unsignedinteger[Any]]


class CodeTable(typing.Protocol):
    """The properties of a pair of images by its code; 0 for a pair that is not relevant."""

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
        counts: int64 ``[q, n_codes]`` over the items that are ranked.
        size: Items that are ranked, int64 ``[q]``.
        counted: What :meth:`by_level` counted, by the name of the table.
    """

    counts: Integers
    size: Integers
    counted: dict[tuple[str, str], tuple[Floats, Integers]] = field(
        default_factory=dict[tuple[str, str], tuple[Floats, Integers]]
    )

    def count(self, table: Table) -> Integers:
        """Return the items with a positive entry in the table, ``[q]``."""
        return self.counts @ (table > 0).astype(np.int64)

    def groups(self, table: Table, depth: int | None) -> Groups:
        """Return the groups of a random ranking."""
        return one_group(self.size, self.count(table), self.counts @ table.astype(np.float64))

    def by_level(self, name: tuple[str, str], table: Table) -> tuple[Floats, Integers]:
        """Return the positive gains of a table, falling, ``[v]``, and their items ``[q, v]``.

        They are counted once for a table, whose name is what :meth:`Tables.of` takes.
        """
        if name not in self.counted:
            positive = np.flatnonzero(table > 0)
            levels, place = np.unique(-table[positive], return_inverse=True)
            order = np.argsort(place, kind="stable")
            edges = np.searchsorted(place[order], np.arange(len(levels)))
            counts = np.add.reduceat(np.take(self.counts, positive[order], axis=1), edges, axis=1)
            self.counted[name] = -levels, np.ascontiguousarray(counts)
        return self.counted[name]


class Source(typing.Protocol):
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
        return self.tie_runs(width).collect(np.take(table, self.codes[:, :width]))

    def tie_runs(self, width: int | None = None) -> TieRuns:
        """Return the groups of the first ``width`` ranks, by default of all."""
        end = self.codes.shape[1] if width is None else width
        if end not in self.runs:
            self.runs[end] = TieRuns.of(self.starts[:, :end])
        return self.runs[end]

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
        if metric.kind == "MRR":
            return measures.reciprocal_rank(groups)
        whole = {
            "AP": measures.average_precision,
            "R-precision": measures.r_precision,
            "ANMRR": measures.nmrr,
        }
        return whole[metric.kind](groups, n_relevant)
    if metric.kind.startswith("AP@k"):
        return measures.average_precision(groups, n_relevant, k, metric.kind[5:] or "min(k,R)")
    if metric.kind == "recall":
        return measures.recall(groups, n_relevant, k)
    if metric.kind in ("nDCG", "nDCG-linear"):
        if not table.any():
            return np.zeros(len(n_relevant))
        levels, counts = census.by_level((metric.family.needs, metric.relevance), table)
        ideal = measures.ideal_dcg(levels, counts, k)
        return measures.dcg(groups, k) / np.where(ideal > 0, ideal, 1.0)
    cut = {
        "P": measures.precision,
        "hit rate": measures.hit_rate,
        "ACG": measures.mean_gain,
        "WAP": measures.weighted_mean_gain,
    }
    return cut[metric.kind](groups, k)


PAIRS_AT_ONCE = 2**18
"""Pairs that a thread ranks and measures at once: about 30 MiB."""
_PARTS_AT_ONCE = 16  # whose distances are computed in one matrix product


@dataclass(frozen=True, slots=True)
class Part:
    """Distances ``[len, n]`` of a slice of the queries."""

    rows: slice
    distances: npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Block:
    """The ranked gallery of q queries.

    Attributes:
        census: What there is to find.
        ranked: The ranking.
        keys: Distance keys ``[q, n]``; gallery images in the order of ids.
        codes: Pair codes ``[q, n]``; gallery images in the order of ids.
        hidden: bool ``[q, n]``, true for images that are left out.
        places: Column of each image in ranked order, int64 ``[q, n]``, those that are left out
            last; ``None`` where it was not asked for.
    """

    census: Census
    ranked: Ranked
    keys: Keys
    codes: Codes
    hidden: Mask
    places: Integers | None = None

    def bound(self, *, best: bool) -> Bound:
        """Return the ranking with its ties in the best or the worst order."""
        return Bound(self.ranked, self.keys, self.codes, falling=best)

    def ranked_places(self) -> Integers:
        """Return ``places``.

        Raises:
            ValueError: The block was ranked without them.
        """
        if self.places is None:
            raise ValueError("the block was ranked without places")
        return self.places


class Ranker:
    """Queries and a gallery, ready to be ranked."""

    def __init__(
        self,
        query: Annotations,
        gallery: Annotations,
        distances: Distances,
        protocol: Protocol,
        pairs: PairTable,
        exclude_self: bool | None = None,
        block: int = PAIRS_AT_ONCE,
    ) -> None:
        """Sort the gallery by id and find each query in it.

        Args:
            query: Ids and labels of the queries.
            gallery: Ids and labels of the gallery.
            distances: Distances between them.
            protocol: Rules of ties and groups.
            pairs: Codes of pairs of images.
            exclude_self: Whether the gallery image with a query's own id is left out; without it
                where the gallery is the very object ``query``.
            block: Pairs that one thread ranks at once.

        Raises:
            UsageError: The distances are of other numbers of images.
        """
        if (distances.n_query, distances.n_gallery) != (len(query), len(gallery)):
            raise UsageError(
                f"distances are for {distances.n_query} queries and {distances.n_gallery} gallery "
                f"images, labels for {len(query)} and {len(gallery)}: pass the same images for both"
            )
        exclude_self = query is gallery if exclude_self is None else exclude_self
        self._query, self._gallery = query, gallery
        self._distances, self._protocol, self._pairs = distances, protocol, pairs
        self._block = block
        n = len(gallery)
        by_id = np.array(sorted(range(n), key=gallery.ids.__getitem__), np.int64)
        column = {gallery.ids[row]: place for place, row in enumerate(by_id)}
        self._by_id = None if np.array_equal(by_id, np.arange(n)) else by_id
        own = [column.get(name, -1) for name in query.ids] if exclude_self else [-1] * len(query)
        self._own = np.array(own)
        self._theirs = pairs.pack(gallery.labels[by_id])
        self._ours = pairs.pack(query.labels)

    def parts(self) -> Generator[list[Part]]:
        """Compute distances of many queries at once, and cut them into parts to rank.

        Raises:
            UsageError: The distances have another shape.
        """
        n_query, n = len(self._query), len(self._gallery)
        step = max(1, self._block // max(n, self._pairs.n_codes))
        stride = max(step, _PARTS_AT_ONCE * self._block // n // step * step)
        for first in range(0, n_query, stride):
            last = min(first + stride, n_query)
            block = self._distances.rows(slice(first, last))
            if block.shape != (last - first, n):
                raise UsageError(
                    f"distances of queries {first}..{last - 1} have shape {list(block.shape)}: "
                    f"pass {[last - first, n]}"
                )
            cuts = [slice(i, min(i + step, last)) for i in range(first, last, step)]
            yield [Part(rows, block[rows.start - first : rows.stop - first]) for rows in cuts]

    def rank(self, part: Part, *, places: bool = False) -> Block:
        """Rank the gallery for the queries of a part.

        Args:
            part: The queries and their distances.
            places: Whether the block must say which image has which rank; columns are in the
                order of ids.
        """
        rows = part.rows
        return rank_rows(
            self._keys(part),
            self._ours[rows].codes(self._theirs),
            self._hidden(rows),
            self._pairs.n_codes,
            ties=self._protocol.ties == "expectation",
            places=places,
        )

    def by_place(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values of the gallery ``[n]`` in the order of ids."""
        return values if self._by_id is None else values[self._by_id]

    def _keys(self, part: Part) -> Keys:
        keys = distance_keys(part.distances)
        return keys if self._by_id is None else np.take(keys, self._by_id, axis=1)

    def _hidden(self, rows: slice) -> Mask:
        own = self._own[rows]
        if self._protocol.exclude_group:
            hidden = same_group(self._query, self._gallery, rows)
            if self._by_id is not None:
                hidden = hidden[:, self._by_id]
        else:
            hidden = np.zeros((len(own), len(self._gallery)), np.bool_)
        with_self = np.flatnonzero(own >= 0)
        hidden[with_self, own[with_self]] = True
        return hidden


def rank_rows(
    keys: Keys, codes: Codes, hidden: Mask, n_codes: int, *, ties: bool, places: bool = False
) -> Block:
    """Rank items by their keys; ``keys`` and ``codes`` are changed in place.

    Args:
        keys: Distance keys ``[q, n]``.
        codes: Code of each item, ``[q, n]``; 0 for one that is not relevant.
        hidden: bool ``[q, n]``, true for items that are left out.
        n_codes: One more than the largest code.
        ties: Whether equal keys form a group; otherwise they keep the order of their columns.
        places: Whether the block must hold the column of each item in ranked order.
    """
    hide(keys, hidden)
    codes[hidden] = 0
    census = _count(codes, hidden, n_codes)
    if ties and not places:  # the order within a group does not matter: sort the codes themselves
        ranked = sort_by(keys, codes, n_codes)
        carried = ranked.carried().astype(codes.dtype, copy=False)
        return Block(census, Ranked(carried, ranked.starts()), keys, codes, hidden)
    n = codes.shape[1]
    ranked = sort_by(keys, np.arange(n), n)
    order = ranked.carried().astype(np.int64)
    starts = ranked.starts() if ties else np.ones(order.shape, np.bool_)
    in_order = Ranked(np.take_along_axis(codes, order, axis=1), starts)
    return Block(census, in_order, keys, codes, hidden, order if places else None)


def _count(codes: Codes, hidden: Mask, n_codes: int) -> Census:
    n_query = len(codes)
    flat = codes + np.arange(n_query)[:, None] * n_codes
    counts = np.bincount(flat.ravel(), minlength=n_query * n_codes).reshape(n_query, n_codes)
    size = codes.shape[1] - np.count_nonzero(hidden, axis=1)
    return Census(counts, size.astype(np.int64))


_MOST_THREADS = 4


def worker_threads() -> ThreadPoolExecutor:
    """Return the threads that rank and measure parts of the queries."""
    return ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))


PartType = TypeVar("PartType")


def measure(
    batches: Iterable[list[PartType]],
    rank: Callable[[PartType], Block],
    protocol: Protocol,
    tables: Tables,
    n_query: int,
    *,
    band: bool,
    progress: Callable[[int, int], None] | None,
    also: Callable[[PartType, Block], None] | None = None,
) -> Floats:
    """Rank and measure all queries, up to four parts at a time.

    Args:
        batches: Lists of parts; together they hold all queries in order.
        rank: Ranks the queries of a part.
        protocol: What is measured.
        tables: Relevance and gains by code.
        n_query: Number of queries.
        band: Whether to bound the metrics by ordering ties by gain.
        progress: Called with the queries done and their number, after each list.
        also: Called with each part and its ranking, by several threads.

    Returns:
        ``[2 or 4, metrics, n_query]``: values, chance, worst and best order of ties.
    """
    wanted, depth = protocol.metrics(), protocol.depth
    values = np.empty((4 if band else 2, len(wanted), n_query))

    def score(part: PartType) -> Floats:
        block = rank(part)
        if also is not None:
            also(part, block)
        sources: list[Source] = [block.ranked, block.census]
        if band:
            sources += [block.bound(best=False), block.bound(best=True)]
        return np.stack([score_block(wanted, tables, block.census, s, depth) for s in sources])

    done = 0
    with worker_threads() as pool:
        for parts in batches:
            for block in pool.map(score, parts):
                values[:, :, done : done + block.shape[2]] = block
                done += block.shape[2]
            if progress is not None:
                progress(done, n_query)
    return values
