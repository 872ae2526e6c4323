"""The rankings of a collection's records: candidates of the server in the order of a folder.

The server sorts by single-precision distances and leaves equal ones in any order, so more is
fetched than needed: until what was not fetched is known to be farther than the last hit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.codes.packing import unpack_bits
from landcue.errors import UsageError
from landcue.milvus.expressions import both, one_of
from landcue.milvus.link import LARGEST
from landcue.milvus.records import Distances, RecordCache, Rows
from landcue.milvus.selection import ServerFilter
from landcue.search.backend import Ranking, Target
from landcue.search.exact import distances_of
from landcue.search.filters import Filter
from landcue.search.pages import others
from landcue.search.place import HALFWAY_KM, center, kilometers
from landcue.types import Bounds

_SPARE = 16
_TOLD = 256
_VECTOR_BYTES = 2 << 20


class Proposals:
    """Queries the server for candidates among the records that a selection allows."""

    def __init__(self, chosen: ServerFilter) -> None:
        self._chosen, self._cache = chosen, chosen.cache

    def nearest(
        self,
        name: str,
        vector: Any,
        k: int,
        *,
        lists: int = 0,
        more: str = "",
        measured: Callable[[Distances, Rows], Distances] = lambda raw, _: raw,
        least: Callable[[float], float] = lambda raw: raw,
    ) -> tuple[Distances, Rows]:
        """Return the k nearest in the order (distance, id).

        Args:
            name: Of the collection.
            vector: What is asked for.
            k: At most so many.
            lists: Visited of an approximate index.
            more: A further condition.
            measured: Returns the exact distances of what the server proposed.
            least: Returns the distance that all others have at least, by the last one that the
                server gave.

        Raises:
            UsageError: The server gives too few at a time to know.
        """
        limit = k + _SPARE
        while True:
            limit = min(limit, LARGEST)
            raw, kept, rows = self.some(name, vector, limit, lists=lists, more=more)
            distances, rows = self._cache.nearest(measured(raw[kept], rows), rows, k)
            if len(raw) < limit:
                return distances, rows
            if len(rows) >= k and distances[k - 1] < least(float(raw[-1])):
                return distances, rows
            if limit == LARGEST:
                raise self._too_many(k, int(np.count_nonzero(kept)))
            limit *= 4

    def some(
        self, name: str, vector: Any, limit: int, *, lists: int = 0, more: str = ""
    ) -> tuple[Distances, npt.NDArray[np.bool_], Rows]:
        """Return the server's distances ``[limit]``, which of them are allowed, and those rows."""
        layout, fields = self._cache.layout, list[str]()
        if name == layout.name:
            fields += ["embedding"] if 4 * layout.dim * limit <= _VECTOR_BYTES else []
            fields += ["record"] if limit <= _TOLD else []
        parameters = {"nprobe": lists} if lists else {}
        where = both(self._chosen.where, more)
        (hits,) = self._cache.link.search(
            name, [vector], limit, where=where, fields=fields, parameters=parameters
        )
        rows = self._cache.rows(hits)
        kept = self._chosen.keep(rows)
        return np.array([hit["distance"] for hit in hits], np.float64), kept, rows[kept]

    def first(self, k: int, fields: Sequence[str], more: str = "") -> Rows:
        """Return the first k in the order of ids."""
        rows, where = np.empty(0, np.int64), both(self._chosen.where, more)
        # Rows outside a polygon are dropped here, so more than k are fetched.
        most = k if self._chosen.polygon is None else None
        for page in self._cache.link.pages(self._cache.layout.name, where, fields, most=most):
            given = self._cache.rows(page)
            rows = np.concatenate([rows, given[self._chosen.keep(given)]])
            if len(rows) >= k:
                break
        return rows[:k]

    def _too_many(self, k: int, kept: int) -> UsageError:
        most = f"Milvus returns at most {LARGEST:,} records per request"
        if self._chosen.polygon is not None and kept < k:
            return UsageError(
                f"{most}, and the polygon lets {kept} of the nearest through: draw it smaller or "
                "closer to the box around it"
            )
        if k + 1 >= LARGEST:
            return UsageError(f"{most}: ask for fewer hits or pages")
        return UsageError(
            f"{most}, and more than that are as near as the last hit: narrow the search with a "
            "filter, or ask for fewer hits"
        )


_PATTERNS_AT_ONCE = 1_000


class MilvusSelection:
    """The records of a collection that a filter lets through, and their rankings."""

    def __init__(self, cache: RecordCache, where: Filter | None) -> None:
        """Ask the server how many records a filter lets through.

        Raises:
            UsageError: As :meth:`landcue.search.filters.Filter.conditions`.
        """
        self._cache, self._layout = cache, cache.layout
        self._chosen = ServerFilter(cache, where)

    @property
    def allowed(self) -> int:
        """Number of records; of a polygon whose box holds too many to look at, those in the box."""
        return self._chosen.allowed

    def why_empty(self) -> str:
        """Return one line that names the conditions, and how many records each leaves alone."""
        return self._chosen.why_empty()

    def by_embedding(self, target: Target) -> Ranking:
        """Rank by exact float distance."""
        query, layout = target.embedding[0], self._layout
        norm = float(np.linalg.norm(query.astype(np.float64)))
        # As FloatIndex bounds the error of a float32 product; stored norms are 1 to a thousandth.
        error = 2.0**-23 * ((layout.dim + 2) * 1.001 * norm + 1)

        fetch = functools.partial(
            Proposals(self._chosen).nearest,
            layout.name,
            query,
            lists=layout.lists,
            measured=lambda _, rows: self._exact(target, rows),
            least=lambda product: 1 - product - error,
        )
        return Ranking(fetch, 1.0, self.allowed)

    def by_code(
        self, mode: str, targets: Sequence[Target], weight: int, first: int = 0
    ) -> list[Ranking]:
        """Rank by Hamming distance of codes, mode ``cue`` adds that of predicted labels.

        The server has no scan for several targets: ``first`` changes nothing.
        """
        n_labels, n_bits = self._layout.n_labels, self._layout.n_bits
        if mode == "code" or (not weight and n_bits):
            nearest = functools.partial(Proposals(self._chosen).nearest, self._layout.code)
            fetches = [functools.partial(nearest, target.code[0].tobytes()) for target in targets]
        else:
            fetches = [functools.partial(self._cue, target, weight) for target in targets]
        worst = float(n_bits + (weight * n_labels if mode == "cue" else 0))
        return [Ranking(fetch, worst, self.allowed) for fetch in fetches]

    def two_stage(self, target: Target, shortlist: int) -> Ranking:
        """Rank a shortlist of sketches by exact float distance."""
        sketch = self._cache.pushed.sketcher.encode(target.embedding)
        # The query records themselves are excluded and must not use up the shortlist.
        wanted = shortlist + len(target.own)
        _, rows = Proposals(self._chosen).nearest(self._layout.sketch, sketch[0].tobytes(), wanted)
        rows = rows[others(rows, target.own)][:shortlist]
        return self._reranked(target, rows, self.allowed)

    def by_ann(self, target: Target, shortlist: int, recall: float, lists: int | None) -> Ranking:
        """Rank the candidates of the approximate index by exact float distance."""
        facts, most, allowed = self._cache.pushed.ann, self._layout.lists, self.allowed
        if facts is None:
            raise UsageError(
                "the collection has no approximate index: push into another one with --index ivf, "
                "or search with mode embedding"
            )
        lists = min(lists or facts.lists_for(recall) or max(facts.recall), most)
        wanted = min(shortlist + len(target.own), LARGEST)
        while True:
            raw, _, rows = Proposals(self._chosen).some(
                self._layout.name, target.embedding[0], wanted, lists=lists
            )
            if len(raw) >= min(wanted, allowed) or lists == most:
                break
            lists = min(2 * lists, most)
        rows = rows[others(rows, target.own)]
        found = self._reranked(target, rows, round(allowed * lists / most))
        known = None if self._chosen.where else facts.recall.get(lists)
        return replace(found, recall=known, lists=lists)

    def by_id(self) -> Ranking:
        """Rank by id."""

        def fetch(k: int) -> tuple[Distances, Rows]:
            rows = Proposals(self._chosen).first(k, ["record"])
            return np.zeros(len(rows)), rows

        return Ranking(fetch, 1.0, self.allowed)

    def by_place(self, box: Bounds) -> Ranking:
        """Rank by distance in kilometers from the center of a box."""
        if self.allowed > LARGEST:
            raise UsageError(
                f"{self.allowed:,} records are there, and at most {LARGEST:,} can be sorted "
                "by distance: use a smaller box, or add a filter"
            )
        rows = Proposals(self._chosen).first(LARGEST, ["record"])
        away = kilometers(self._cache.records(rows).bounds, center(box))
        known = ~np.isnan(away)
        return _listed(*self._cache.nearest(away[known], rows[known]), float(HALFWAY_KM))

    def _cue(self, target: Target, weight: int, k: int) -> tuple[Distances, Rows]:
        """Return the k first by ``weight * Hamming(predicted labels) + Hamming(codes)``.

        The sets of predicted labels that occur are known, so rings of equal label distance are
        searched from the nearest outwards, until the next one cannot hold a hit.
        """
        known = self._cache.pushed.patterns
        if not known:
            raise UsageError(
                "mode cue needs the sets of predicted labels, and the collection holds too many: "
                "search with mode code or embedding"
            )
        patterns = np.frombuffer(bytes.fromhex("".join(known)), np.uint8).reshape(len(known), -1)
        apart = unpack_bits(patterns ^ target.cue, self._layout.n_labels).sum(axis=1)
        proposals = Proposals(self._chosen)
        distances, rows = np.empty(0), np.empty(0, np.int64)
        for ring in np.unique(apart).tolist():
            if len(rows) >= k and weight * ring > distances[k - 1]:
                break
            places = np.flatnonzero(apart == ring).tolist()
            for first in range(0, len(places), _PATTERNS_AT_ONCE):
                some = places[first : first + _PATTERNS_AT_ONCE]
                more = one_of("cue", [known[place] for place in some])
                if self._layout.n_bits:
                    code = target.code[0].tobytes()
                    near, found = proposals.nearest(self._layout.code, code, k, more=more)
                else:
                    found = proposals.first(k, [], more)
                    near = np.zeros(len(found))
                distances = np.concatenate([distances, near + weight * ring])
                rows = np.concatenate([rows, found])
            distances, rows = self._cache.nearest(distances, rows, k)
        return distances, rows

    def _exact(self, target: Target, rows: Rows) -> Distances:
        """Return the same distances as a search of the archive folder."""
        embeddings = self._cache.vectors("embedding", rows.tolist())
        found = distances_of(embeddings, target.embedding[0], np.arange(len(rows)))
        return np.maximum(found.astype(np.float64), 0.0)

    def _reranked(self, target: Target, rows: Rows, scanned: int) -> Ranking:
        distances, rows = self._cache.nearest(self._exact(target, rows), rows)
        return replace(_listed(distances, rows, 1.0), scanned=scanned, reranked=len(rows))


def _listed(distances: Distances, rows: Rows, worst: float) -> Ranking:
    return Ranking(lambda k: (distances[:k], rows[:k]), worst, len(rows))
