"""The order of a gallery by distance, and the groups of equal distance in it.

Only groups with a relevant item can add to a score, so the others are dropped. A ranking without
ties has groups of one item; a random ranking is one single group, which is how chance levels are
computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics.relevance import Floats, Integers

Keys = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]

HIDDEN = np.uint32(2**32 - 1)  # after every distance, infinity included


def distance_keys(distances: npt.NDArray[Any]) -> Keys:
    """Return keys uint32 ``[q, n]`` that order and tie within a row as the distances do.

    float32 and whole numbers below ``2**32 - 1`` keep one key for a distance in all rows. float64
    is not rounded: its keys are the places of the distinct distances of a row, which costs a
    slower sort.
    """
    if distances.dtype.kind in "iu":
        if distances.size and (int(distances.min()) < 0 or int(distances.max()) >= int(HIDDEN)):
            raise UsageError(
                "whole-number distances must lie in 0..2**32 - 2: use float32 otherwise"
            )
        return distances.astype(np.uint32)
    if distances.dtype.kind != "f":
        raise UsageError(f"distances are {distances.dtype}: pass float32 or whole numbers")
    broken = np.isnan(distances)
    if broken.any():
        row, column = (int(i) for i in np.argwhere(broken)[0])
        raise UsageError(
            f"the distance of query {row} and gallery item {column} is NaN: "
            "check the embeddings they come from"
        )
    if distances.dtype.itemsize > 4:
        return _places(distances)
    bits = (distances.astype(np.float32) + np.float32(0)).view(np.uint32)  # -0 becomes 0
    signs = (bits.view(np.int32) >> 31).view(np.uint32)  # all ones for a negative number
    return bits ^ (signs | np.uint32(2**31))


@dataclass(frozen=True, slots=True)
class Sorted:
    """Rows ``[q, n]`` sorted by key; equal keys by the number that each item carries.

    Attributes:
        packed: Unsigned integers ``[q, n]``, rising: the key above the carried number.
        bits: Bits of the carried number.
    """

    packed: npt.NDArray[np.unsignedinteger[Any]]
    bits: int

    def carried(self) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the carried numbers in ranked order, ``[q, n]``."""
        return self.packed & self._mask

    def starts(self, *, carried: bool = False) -> Mask:
        """Return bool ``[q, n]``: true where a key differs from the one before it.

        Args:
            carried: Whether the carried number must be equal too for two items to tie.
        """
        starts = np.ones(self.packed.shape, np.bool_)
        changed = self.packed[:, 1:] ^ self.packed[:, :-1]
        np.greater(changed, 0 if carried else self._mask, out=starts[:, 1:])
        return starts

    @property
    def _mask(self) -> np.unsignedinteger[Any]:
        return self.packed.dtype.type(2**self.bits - 1)


def sort_by(keys: Keys, low: npt.NDArray[np.integer[Any]], n_low: int) -> Sorted:
    """Sort every row by (key, low), in the narrowest type that holds both.

    Args:
        keys: uint32 ``[q, n]``.
        low: What orders equal keys and is carried along: 0 to ``n_low - 1``, ``[n]`` or
            ``[q, n]``.
        n_low: At most ``2**32``.
    """
    bits = max(1, (n_low - 1).bit_length())
    width = int(keys.max(initial=0)).bit_length() + bits
    kind = np.uint16 if width <= 16 else np.uint32 if width <= 32 else np.uint64
    packed = keys.astype(kind)
    packed <<= kind(bits)
    packed |= low.astype(kind, copy=False)
    packed.sort(axis=1, kind="stable" if kind is np.uint16 else None)  # stable: a radix sort
    return Sorted(packed, bits)


def hide(keys: Keys, hidden: Mask) -> None:
    """Put hidden items after all others: in place, as one group."""
    keys[hidden] = min(int(keys.max(initial=0)) + 1, int(HIDDEN))


def order(
    distances: npt.NDArray[Any], *, hidden: Mask | None = None
) -> tuple[npt.NDArray[np.int64], Mask]:
    """Order a gallery for each query by (distance, row).

    Args:
        distances: ``[q, n]``, float or whole numbers; rows of the gallery sorted by id make the
            tie rule independent of how the gallery was listed.
        hidden: bool ``[q, n]``, true for items that are left out; they come last.

    Returns:
        Rows int64 ``[q, n]``, nearest first, and bool ``[q, n]``, true where a group of equal
        distances begins.
    """
    if distances.ndim != 2:
        raise UsageError(f"distances have shape {list(distances.shape)}: pass [queries, gallery]")
    keys = distance_keys(distances)
    if hidden is not None:
        hide(keys, hidden)
    n = distances.shape[1]
    ranked = sort_by(keys, np.arange(n), n)
    return ranked.carried().astype(np.int64), ranked.starts()


def _places(distances: npt.NDArray[np.floating[Any]]) -> Keys:
    rows = np.argsort(distances, axis=1, kind="stable")
    ordered = np.take_along_axis(distances, rows, axis=1)
    places = np.zeros(distances.shape, np.uint32)
    np.cumsum(ordered[:, 1:] != ordered[:, :-1], axis=1, out=places[:, 1:])
    keys = np.empty_like(places)
    np.put_along_axis(keys, rows, places, axis=1)
    return keys


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

    def collect(self, gains: npt.NDArray[Any], rows: Integers | None = None) -> Groups:
        """Collect the groups with relevant items.

        Args:
            gains: ``[q, n]`` in ranked order, 0 for an item that is not relevant, else positive.
            rows: Which of the q rankings each row of ``gains`` ``[p, n]`` belongs to; the groups
                then count as those of p queries.
        """
        binary = gains.dtype == np.bool_
        n_query = len(gains)
        flat = np.flatnonzero(gains)
        size = count = np.ones(flat.size, np.int64)
        gain = np.ones(flat.size) if binary else gains.ravel()[flat].astype(np.float64)
        tied, merged = bool(self.first.size), False
        row_starts = np.arange(n_query + 1) * self.n_item
        if tied and flat.size:
            if rows is None:
                group = self.group[flat]
                first = self.first[group]
            else:
                shift = np.repeat(
                    rows * self.n_item - row_starts[:-1],
                    np.diff(np.searchsorted(flat, row_starts)),
                )
                group = self.group[flat + shift]
                first = self.first[group] - shift
            opens = np.flatnonzero(np.concatenate(([True], first[1:] != first[:-1])))
            merged = opens.size < flat.size
            if merged:
                count = np.diff(opens, append=flat.size)
                gain = count.astype(np.float64) if binary else np.add.reduceat(gain, opens)
                group, first = group[opens], first[opens]
            flat, size = first, self.size[group]

        edges = np.searchsorted(flat, row_starts)
        lengths = np.diff(edges)
        query = np.repeat(np.arange(n_query), lengths)
        if merged:
            before = _running(count, edges, lengths)
        else:
            before = np.arange(flat.size) - np.repeat(edges[:-1], lengths)
        gain_before = before.astype(np.float64) if binary else _running(gain, edges, lengths)
        start = flat - query * self.n_item
        return Groups(n_query, tied, query, start, size, count, before, gain, gain_before)


def one_group(size: Integers, count: Integers, gain: Floats) -> Groups:
    """Return the groups of a random ranking: for every query, all its items tie.

    Args:
        size: Gallery items that are ranked, int64 ``[q]``.
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
