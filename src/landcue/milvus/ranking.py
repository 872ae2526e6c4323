"""The rankings of a collection's records: what the server proposes, put in LandCue's own order.

The server orders by single-precision distances and leaves equal ones in any order, so more is
fetched than asked for: until what was not fetched is known to be farther than the last hit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.codes.packing import unpack_bits
from landcue.errors import UsageError
from landcue.milvus.expressions import one_of
from landcue.milvus.found import Found, Rows
from landcue.milvus.link import LARGEST
from landcue.milvus.selection import Selection, order
from landcue.search.exact import rank
from landcue.search.modes import Ranking
from landcue.search.place import HALFWAY_KM, center, kilometers
from landcue.search.queries import Target
from landcue.types import Bounds, ByteArray

Distances = npt.NDArray[np.float64]

_SPARE = 16
_TOLD = 256
_VECTOR_BYTES = 2 << 20
_PATTERNS_AT_ONCE = 1_000


class Rankings:
    """The ways to rank the records that one search may find."""

    def __init__(self, found: Found, selection: Selection) -> None:
        self._found, self._selection = found, selection
        self._layout = found.pushed.layout

    def embedding(self, target: Target) -> Ranking:
        """Rank by exact float distance."""
        query = target.embedding[0]
        name, lists = self._layout.name, self._layout.lists
        parameters = {"nprobe": lists} if lists else {}
        norm = float(np.linalg.norm(query.astype(np.float64)))
        # As FloatIndex bounds the error of a float32 product; stored norms are 1 to a thousandth.
        error = 2.0**-23 * ((self._layout.dim + 2) * 1.001 * norm + 1)

        def fetch(k: int) -> tuple[Distances, Rows]:
            limit = k + _SPARE
            while True:
                limit = min(limit, LARGEST)
                raw, kept, rows = self._propose(name, query, limit, parameters)
                distances, rows = self._exact(target, rows)
                if len(raw) < limit:
                    return distances[:k], rows[:k]
                unseen = 1 - float(raw[-1]) - error
                if len(rows) >= k and distances[k - 1] < unseen:
                    return distances[:k], rows[:k]
                if limit == LARGEST:
                    raise self._too_many(k, int(np.count_nonzero(kept)))
                limit *= 4

        return Ranking(fetch, 1.0, self._selection.allowed)

    def code(self, target: Target) -> Ranking:
        """Rank by exact Hamming distance of codes."""

        def fetch(k: int) -> tuple[Distances, Rows]:
            return self._hamming(self._layout.code, target.code, k)

        return Ranking(fetch, float(self._layout.n_bits), self._selection.allowed)

    def cue(self, target: Target, weight: int) -> Ranking:
        """Rank by ``weight * Hamming(predicted labels) + Hamming(codes)``.

        The sets of predicted labels that occur are known, so rings of equal label distance are
        searched from the nearest outwards, until the next one cannot hold a hit.
        """
        pushed, n_labels = self._found.pushed, self._layout.n_labels
        worst = float(weight * n_labels + self._layout.n_bits)
        if not weight and self._layout.n_bits:
            return replace(self.code(target), worst=worst)
        if not pushed.patterns:
            raise UsageError(
                "mode cue needs the sets of predicted labels, and the collection holds too many: "
                "search with mode code or embedding"
            )
        patterns = np.array([list(bytes.fromhex(text)) for text in pushed.patterns], np.uint8)
        apart = unpack_bits(patterns ^ target.cue, n_labels).sum(axis=1)

        def fetch(k: int) -> tuple[Distances, Rows]:
            distances, rows = np.empty(0), np.empty(0, np.int64)
            for ring in np.unique(apart).tolist():
                if len(rows) >= k and weight * ring > distances[k - 1]:
                    break
                chosen = np.flatnonzero(apart == ring).tolist()
                for first in range(0, len(chosen), _PATTERNS_AT_ONCE):
                    part = chosen[first : first + _PATTERNS_AT_ONCE]
                    more = one_of("cue", [pushed.patterns[i] for i in part])
                    near, found = self._within(target, k, more)
                    distances = np.concatenate([distances, near + weight * ring])
                    rows = np.concatenate([rows, found])
                at = order(distances, [self._found.ids[row] for row in rows.tolist()])[:k]
                distances, rows = distances[at], rows[at]
            return distances, rows

        return Ranking(fetch, worst, self._selection.allowed)

    def two_stage(self, target: Target, shortlist: int) -> Ranking:
        """Rank a shortlist by sketches by exact float distance."""
        sketch = self._found.pushed.sketcher.encode(target.embedding)
        _, rows = self._hamming(self._layout.sketch, sketch, shortlist + len(target.own))
        return self._shortlisted(target, rows, shortlist, self._selection.allowed)

    def ann(self, target: Target, shortlist: int, recall: float, lists: int | None) -> Ranking:
        """Rank the candidates of the approximate index by exact float distance."""
        facts, most = self._found.pushed.ann, self._layout.lists
        if facts is None:
            raise UsageError(
                "the collection has no approximate index: push into another one with --index ivf, "
                "or search with mode embedding"
            )
        lists = min(lists or facts.lists_for(recall) or max(facts.recall), most)
        wanted = min(shortlist + len(target.own), LARGEST)
        while True:
            raw, _, rows = self._propose(
                self._layout.name, target.embedding[0], wanted, {"nprobe": lists}
            )
            if len(raw) >= min(wanted, self._selection.allowed) or lists == most:
                break
            lists = min(2 * lists, most)
        scanned = round(self._selection.allowed * lists / most)
        found = self._shortlisted(target, rows, len(rows), scanned)
        known = None if self._selection.where else facts.recall.get(lists)
        return replace(found, recall=known, lists=lists)

    def listing(self) -> Ranking:
        """Rank by id alone."""

        def fetch(k: int) -> tuple[Distances, Rows]:
            rows = self._first(k, ["record"])
            return np.zeros(len(rows)), rows

        return Ranking(fetch, 1.0, self._selection.allowed)

    def place(self, box: Bounds) -> Ranking:
        """Rank by distance from the middle of a box."""
        if self._selection.allowed > LARGEST:
            raise UsageError(
                f"{self._selection.allowed:,} records lie there, and {LARGEST:,} can be ordered by "
                "distance: draw the place smaller, or add a filter"
            )
        rows = self._first(LARGEST, ["record"])
        away = kilometers(self._found.told(rows.tolist()).bounds, center(box))
        rows, away = rows[~np.isnan(away)], away[~np.isnan(away)]
        at = order(away, [self._found.ids[row] for row in rows.tolist()])
        rows, away = rows[at], away[at]

        def fetch(k: int) -> tuple[Distances, Rows]:
            return away[:k], rows[:k]

        return Ranking(fetch, float(HALFWAY_KM), len(rows))

    def _propose(
        self, name: str, vector: Any, limit: int, parameters: dict[str, Any], more: str = ""
    ) -> tuple[Distances, npt.NDArray[np.bool_], Rows]:
        """Return the server's distances ``[limit]``, which of them are allowed, and those rows."""
        fields: list[str] = []
        if name == self._layout.name:
            fields += ["embedding"] if 4 * self._layout.dim * limit <= _VECTOR_BYTES else []
            fields += ["record"] if limit <= _TOLD else []
        where = self._selection.narrowed(more)
        (hits,) = self._found.link.search(
            name, [vector], limit, where=where, fields=fields, parameters=parameters
        )
        rows = self._found.rows(hits)
        kept = self._selection.keep(self._found, rows)
        return np.array([hit["distance"] for hit in hits], np.float64), kept, rows[kept]

    def _hamming(
        self, name: str, code: ByteArray, k: int, more: str = ""
    ) -> tuple[Distances, Rows]:
        """Return the k nearest by Hamming distance, in the order (distance, id)."""
        limit = k + _SPARE
        while True:
            limit = min(limit, LARGEST)
            raw, kept, rows = self._propose(name, code[0].tobytes(), limit, {}, more)
            near = raw[kept]
            if len(raw) < limit or (len(near) >= k and raw[-1] > near[k - 1]):
                at = order(near, [self._found.ids[row] for row in rows.tolist()])[:k]
                return near[at], rows[at]
            if limit == LARGEST:
                raise self._too_many(k, len(near))
            limit *= 4

    def _within(self, target: Target, k: int, more: str) -> tuple[Distances, Rows]:
        """Return the k nearest codes among some records; without codes, those of the first ids."""
        if self._layout.n_bits:
            return self._hamming(self._layout.code, target.code, k, more)
        rows = self._first(k, [], more)
        return np.zeros(len(rows)), rows

    def _first(self, k: int, fields: list[str], more: str = "") -> Rows:
        """Return the first k allowed rows in the order of ids."""
        found, rows = self._found, np.empty(0, np.int64)
        where = self._selection.narrowed(more)
        # What a polygon leaves out has to be looked at, so that k are left.
        most = None if self._polygon else k
        for page in found.link.pages(self._layout.name, where, fields, most=most):
            given = found.rows(page)
            rows = np.concatenate([rows, given[self._selection.keep(found, given)]])
            if len(rows) >= k:
                break
        return rows[:k]

    @property
    def _polygon(self) -> bool:
        conditions = self._selection.conditions
        return conditions is not None and conditions.polygon is not None

    def _exact(self, target: Target, rows: Rows) -> tuple[Distances, Rows]:
        """Order rows by their exact distances, as a search of the archive folder does."""
        embeddings = self._found.embedding(rows.tolist())
        found, at = rank(embeddings, target.embedding[0], np.arange(len(rows)), len(rows))
        lifted, rows = np.maximum(found.astype(np.float64), 0.0), rows[at]
        at = order(lifted, [self._found.ids[row] for row in rows.tolist()])
        return lifted[at], rows[at]

    def _shortlisted(self, target: Target, rows: Rows, most: int, scanned: int) -> Ranking:
        # What was asked with is not found, and so takes no place in the shortlist.
        others = np.array([row for row in rows.tolist() if row not in target.own], np.int64)
        distances, rows = self._exact(target, others[:most])

        def fetch(k: int) -> tuple[Distances, Rows]:
            return distances[:k], rows[:k]

        return Ranking(fetch, 1.0, scanned, reranked=len(rows))

    def _too_many(self, k: int, kept: int) -> UsageError:
        most = f"Milvus gives {LARGEST:,} records at a time"
        if self._polygon and kept < k:
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
