"""Rank the gallery for a few queries at a time, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.evaluation.annotations import Annotations, same_group
from landcue.evaluation.distances import Distances
from landcue.evaluation.protocol import Protocol
from landcue.evaluation.ranking import HIDDEN, Keys, distance_keys, group_starts, low_half, sort_by
from landcue.evaluation.relevance import PairTable
from landcue.evaluation.scoring import Bound, Census, Codes, Ranked

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
        self._by_id = np.array(sorted(range(len(gallery)), key=gallery.ids.__getitem__))
        column = {gallery.ids[row]: place for place, row in enumerate(self._by_id)}
        self._own = np.array([column.get(name, -1) for name in query.ids])
        self._labels = gallery.labels[self._by_id]

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
        hidden = self._hidden(rows)
        keys = distance_keys(part.distances)[:, self._by_id]
        codes = self._pairs.codes(self._query.labels[rows], self._labels)
        keys[hidden] = HIDDEN
        codes[hidden] = 0  # relevant in no sense
        packed = sort_by(keys, np.arange(len(self._gallery)))
        order = low_half(packed) + np.arange(len(codes))[:, None] * len(self._gallery)
        ties = self._protocol.ties == "expectation"
        starts = group_starts(packed) if ties else np.ones(packed.shape, np.bool_)
        census = _count(codes, hidden, self._pairs.n_codes)
        return Block(census, Ranked(np.take(codes, order), starts), keys, codes)

    def _hidden(self, rows: slice) -> npt.NDArray[np.bool_]:
        own = self._own[rows]
        if self._protocol.exclude_group:
            hidden = same_group(self._query, self._gallery, rows)[:, self._by_id]
        else:
            hidden = np.zeros((len(own), len(self._gallery)), np.bool_)
        with_self = np.flatnonzero(own >= 0)
        hidden[with_self, own[with_self]] = True
        return hidden


def _count(codes: Codes, hidden: npt.NDArray[np.bool_], n_codes: int) -> Census:
    n_query = len(codes)
    flat = codes + np.arange(n_query)[:, None] * n_codes
    counts = np.bincount(flat.ravel(), minlength=n_query * n_codes).reshape(n_query, n_codes)
    size = codes.shape[1] - np.count_nonzero(hidden, axis=1)
    return Census(counts, size.astype(np.int64))
