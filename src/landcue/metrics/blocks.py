"""Rank the gallery for a few queries at a time, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics.annotations import Annotations, same_group
from landcue.metrics.distances import Distances
from landcue.metrics.protocol import Protocol
from landcue.metrics.ranking import Keys, Mask, distance_keys, hide, sort_by
from landcue.metrics.relevance import PairTable
from landcue.metrics.scoring import Bound, Census, Codes, Ranked

_DISTANCES_AT_ONCE = 2**22  # one large matrix product is faster than many small ones
_PAIRS_AT_ONCE = 2**18  # per thread: about 30 MiB while being ranked and measured


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
    """

    census: Census
    ranked: Ranked
    keys: Keys
    codes: Codes

    def bound(self, *, best: bool) -> Bound:
        """Return the ranking with its ties in the best or the worst order."""
        return Bound(self.ranked, self.keys, self.codes, falling=best)


class Ranker:
    """Queries and a gallery, ready to be ranked."""

    def __init__(
        self,
        query: Annotations,
        gallery: Annotations,
        distances: Distances,
        protocol: Protocol,
        pairs: PairTable,
    ) -> None:
        """Sort the gallery by id and find each query in it."""
        self._query, self._gallery = query, gallery
        self._distances, self._protocol, self._pairs = distances, protocol, pairs
        n = len(gallery)
        by_id = np.array(sorted(range(n), key=gallery.ids.__getitem__), np.int64)
        column = {gallery.ids[row]: place for place, row in enumerate(by_id)}
        self._by_id = None if np.array_equal(by_id, np.arange(n)) else by_id
        self._own = np.array([column.get(name, -1) for name in query.ids])
        self._theirs = pairs.pack(gallery.labels[by_id])
        self._ours = pairs.pack(query.labels)

    def parts(self) -> Generator[list[Part]]:
        """Compute distances of many queries at once, and cut them into parts to rank.

        Raises:
            UsageError: The distances have another shape.
        """
        n_query, n = len(self._query), len(self._gallery)
        step = max(1, _PAIRS_AT_ONCE // max(n, self._pairs.n_codes))
        stride = max(step, _DISTANCES_AT_ONCE // n // step * step)
        for first in range(0, n_query, stride):
            last = min(first + stride, n_query)
            block = self._distances.rows(slice(first, last))
            if block.shape != (last - first, n):
                raise UsageError(
                    f"distances of queries {first}..{last - 1} have shape {list(block.shape)}: "
                    f"give {[last - first, n]}"
                )
            cuts = [slice(i, min(i + step, last)) for i in range(first, last, step)]
            yield [Part(rows, block[rows.start - first : rows.stop - first]) for rows in cuts]

    def rank(self, part: Part) -> Block:
        """Rank the gallery for the queries of a part.

        Raises:
            UsageError: A distance is NaN.
        """
        rows = part.rows
        keys = distance_keys(part.distances)
        if self._by_id is not None:
            keys = np.take(keys, self._by_id, axis=1)
        return rank_rows(
            keys,
            self._ours[rows].codes(self._theirs),
            self._hidden(rows),
            self._pairs.n_codes,
            ties=self._protocol.ties == "expectation",
        )

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


def rank_rows(keys: Keys, codes: Codes, hidden: Mask, n_codes: int, *, ties: bool) -> Block:
    """Rank items by their keys; ``keys`` and ``codes`` are changed in place.

    Args:
        keys: Distance keys ``[q, n]``.
        codes: What is known of each item, ``[q, n]``: 0 for one that is relevant in no sense.
        hidden: bool ``[q, n]``, true for items that must not be found.
        n_codes: One more than the largest code.
        ties: Whether equal keys form a group; otherwise they keep the order of their columns.
    """
    hide(keys, hidden)
    codes[hidden] = 0
    census = _count(codes, hidden, n_codes)
    if ties:  # the order within a group is of no account, so the codes themselves are carried
        ranked = sort_by(keys, codes, n_codes)
        carried = ranked.carried().astype(codes.dtype, copy=False)
        return Block(census, Ranked(carried, ranked.starts()), keys, codes)
    n = codes.shape[1]
    order = sort_by(keys, np.arange(n), n).carried().astype(np.int64)
    order += np.arange(len(codes))[:, None] * n
    return Block(census, Ranked(np.take(codes, order), np.ones(order.shape, np.bool_)), keys, codes)


def _count(codes: Codes, hidden: Mask, n_codes: int) -> Census:
    n_query = len(codes)
    flat = codes + np.arange(n_query)[:, None] * n_codes
    counts = np.bincount(flat.ravel(), minlength=n_query * n_codes).reshape(n_query, n_codes)
    size = codes.shape[1] - np.count_nonzero(hidden, axis=1)
    return Census(counts, size.astype(np.int64))
