"""One search of a collection: its filter on the server, and rankings in the order of a folder.

The server proposes candidates by its own distances; those are computed again as a folder computes
them and sorted by (distance, id). The server leaves equal distances in any order, so more is
fetched than needed, until what was not fetched is known to be farther than the last hit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from landcue.codes.packing import unpack_bits
from landcue.data.names import clean_id
from landcue.errors import UsageError, did_you_mean
from landcue.milvus.link import LARGEST, both, carries, joined, one_of, quoted, starts
from landcue.milvus.manifest import LABEL_SCALE
from landcue.milvus.rows import NO_TIME
from landcue.search.backend import Ranking, Target
from landcue.search.exact import distances_of
from landcue.search.filters import Filter, check_carried, check_ids, check_sources, why_empty
from landcue.search.pages import Distances, Rows, others
from landcue.search.place import HALFWAY_KM, box_of, center, inside, kilometers
from landcue.types import Bounds, FloatArray

if TYPE_CHECKING:
    from landcue.milvus.view import MilvusView

_TURNS = (-360, 0, 360)
_SPARE = 16
_PATTERNS_AT_ONCE = 1_000


class MilvusSelection:
    """The records of a collection that a filter lets through, and their rankings.

    Attributes:
        allowed: Number of records; of a polygon whose box holds too many to look at, those in the
            box.
    """

    def __init__(self, view: MilvusView, where: Filter | None) -> None:
        """Count the records that a filter allows on the server."""
        self._view, self._pushed = view, view.pushed
        self._n_bits, self._n_labels = view.manifest.n_bits, len(view.manifest.label_names)
        if where is not None and where.cql2 is not None:
            raise UsageError("CQL2 filters need an archive folder: filter a Milvus collection by "
                             "labels, scores, place and time")  # fmt: skip
        self._polygon = None if where is None else where.polygon
        self._parts = [] if where is None else list(where.conditions(_Expressions(view)))
        self._where = both(*(part for _, part in self._parts))
        self.allowed = self._count(self._where) if self._parts else len(view)
        self._inside = self._rows_inside(self._where, self.allowed)
        if self._inside is not None:
            self.allowed = len(self._inside)

    def why_empty(self) -> str:
        counts: list[tuple[str, int]] = []
        for name, part in self._parts:
            count = self._count(part)
            rows = self._rows_inside(part, count) if name == "polygon" else None
            counts.append((name, count if rows is None else len(rows)))
        return why_empty(counts, len(self._view))

    def by_embedding(self, target: Target) -> Ranking:
        query, exact = self._joined(target, 0.0), functools.partial(self._exact, target)
        return Ranking(functools.partial(self._products, query, exact), 1.0, self.allowed)

    def fused_candidates(self, target: Target, weight: float, shortlist: int) -> Rows:
        plain = np.concatenate([target.embedding[0], weight * target.scores[0]]).astype(np.float32)

        def exact(rows: Rows) -> Distances:
            joined = self._view.read_vectors("joined", rows)
            return distances_of(joined, plain, np.arange(len(rows))).astype(np.float64)

        query = self._joined(target, weight / LABEL_SCALE)
        _, rows = self._products(query, exact, shortlist + len(target.own))
        return rows[others(rows, target.own)][:shortlist]

    def by_fused_code(self, target: Target, weight: float) -> Ranking:
        """Refuse: a collection ranks on the server, which cannot decode codes."""
        del target, weight
        raise UsageError(
            "mode fused-code is for archive folders, and this is a Milvus collection: search with "
            "mode fused"
        )

    def _joined(self, target: Target, weight: float) -> FloatArray:
        """Return a query of the stored vectors: embeddings followed by label probabilities."""
        scores = weight * target.scores[0] if weight else np.zeros(self._n_labels)
        return np.concatenate([target.embedding[0], scores]).astype(np.float32)

    def _products(
        self, query: FloatArray, exact: Callable[[Rows], Distances], k: int
    ) -> tuple[Distances, Rows]:
        """Return the k largest inner products with the stored vectors."""
        norm = float(np.linalg.norm(query.astype(np.float64)))
        # As FloatIndex bounds the error of a float32 product: embeddings have norm 1 to a
        # thousandth, and label probabilities are 1 or less.
        stored = 1.001 * (1 + self._n_labels * LABEL_SCALE**2) ** 0.5
        error = 2.0**-23 * ((len(query) + 2) * stored * norm + 1)
        name, lists = self._pushed.name, self._pushed.lists
        return self._nearest(name, query, k, lists=lists, exact=exact, error=error)

    def by_code(
        self, mode: str, targets: Sequence[Target], weight: int, first: int = 0
    ) -> list[Ranking]:
        """Rank by Hamming distance of codes, mode ``cue`` adds that of predicted labels.

        The server has no scan for several targets: ``first`` changes nothing.
        """
        if mode == "code" or (not weight and self._n_bits):
            nearest = functools.partial(self._nearest, self._pushed.code)
            fetches = [functools.partial(nearest, target.code[0].tobytes()) for target in targets]
        else:
            fetches = [functools.partial(self._cue, target, weight) for target in targets]
        worst = float(self._n_bits + (weight * self._n_labels if mode == "cue" else 0))
        return [Ranking(fetch, worst, self.allowed) for fetch in fetches]

    def two_stage(self, target: Target, shortlist: int) -> Ranking:
        sketch = self._pushed.sketcher.encode(target.embedding)[0].tobytes()
        # The query records themselves are excluded and must not use up the shortlist.
        _, rows = self._nearest(self._pushed.sketch, sketch, shortlist + len(target.own))
        return self._reranked(target, rows[others(rows, target.own)][:shortlist], self.allowed)

    def by_regions(self, target: Target) -> Ranking:
        """Refuse: regions are not pushed."""
        raise UsageError(
            "a collection holds no regions: search the archive folder in mode regions, or use mode "
            "embedding"
        )

    def by_ann(self, target: Target, shortlist: int, recall: float, lists: int | None) -> Ranking:
        facts, most = self._pushed.ann, self._pushed.lists
        if facts is None:
            raise UsageError(
                "the collection has no approximate index: push into another one with --index ivf, "
                "or search with mode embedding"
            )
        lists = min(lists or facts.lists_for(recall) or max(facts.recall), most)
        wanted = min(shortlist + len(target.own), self._view.largest)
        while True:
            query = self._joined(target, 0.0)
            raw, _, rows = self._hits(self._pushed.name, query, wanted, lists=lists)
            if len(raw) >= min(wanted, self.allowed) or lists == most:
                break
            lists = min(2 * lists, most)
        rows = rows[others(rows, target.own)]
        found = self._reranked(target, rows, round(self.allowed * lists / most))
        return replace(found, recall=None if self._where else facts.recall.get(lists), lists=lists)

    def by_id(self) -> Ranking:
        def fetch(k: int) -> tuple[Distances, Rows]:
            rows = self._first(k)
            return np.zeros(len(rows)), rows

        return Ranking(fetch, 1.0, self.allowed)

    def by_place(self, box: Bounds) -> Ranking:
        most = self._view.largest
        if self.allowed > most:
            raise UsageError(
                f"{self.allowed:,} records are there, and at most {most:,} can be sorted "
                "by distance: use a smaller box, or add a filter"
            )
        rows = self._first(most)
        away = kilometers(self._view.table(rows).bounds, center(box))
        known = ~np.isnan(away)
        return _listed(*self._view.nearest(away[known], rows[known]), float(HALFWAY_KM))

    def _cue(self, target: Target, weight: int, k: int) -> tuple[Distances, Rows]:
        """Return the k first by ``weight * Hamming(predicted labels) + Hamming(codes)``.

        The sets of predicted labels that occur are known, so rings of equal label distance are
        searched from the nearest outwards, until the next one cannot hold a hit.
        """
        known = self._pushed.patterns
        if not known:
            raise UsageError(
                "mode cue needs the sets of predicted labels, and the collection holds too many: "
                "search with mode code or embedding"
            )
        patterns = np.frombuffer(bytes.fromhex("".join(known)), np.uint8).reshape(len(known), -1)
        apart = unpack_bits(patterns ^ target.cue, self._n_labels).sum(axis=1)
        distances, rows = np.empty(0), np.empty(0, np.int64)
        for ring in np.unique(apart).tolist():
            if len(rows) >= k and weight * ring > distances[k - 1]:
                break
            places = np.flatnonzero(apart == ring).tolist()
            for first in range(0, len(places), _PATTERNS_AT_ONCE):
                some = [known[place] for place in places[first : first + _PATTERNS_AT_ONCE]]
                more = one_of("cue", some)
                if self._n_bits:
                    code = target.code[0].tobytes()
                    near, found = self._nearest(self._pushed.code, code, k, more=more)
                else:
                    found = self._first(k, more)
                    near = np.zeros(len(found))
                distances = np.concatenate([distances, near + weight * ring])
                rows = np.concatenate([rows, found])
            distances, rows = self._view.nearest(distances, rows, k)
        return distances, rows

    def _nearest(
        self,
        name: str,
        vector: Any,
        k: int,
        *,
        more: str = "",
        lists: int = 0,
        exact: Callable[[Rows], Distances] | None = None,
        error: float = 0.0,
    ) -> tuple[Distances, Rows]:
        """Return the k nearest in the order (distance, id).

        Args:
            name: Name of the collection.
            vector: The query.
            k: Most rows to return.
            more: A further condition.
            lists: Lists of an approximate index that are visited.
            exact: Returns the exact distances of rows; by default the server's are exact.
            error: Bound of the difference between the two.
        """
        limit, most = k + _SPARE, self._view.largest
        while True:
            limit = min(limit, most)
            raw, kept, rows = self._hits(name, vector, limit, more, lists)
            distances = raw[kept] if exact is None else exact(rows)
            distances, rows = self._view.nearest(distances, rows, k)
            if len(raw) < limit or (len(rows) >= k and distances[k - 1] < raw[-1] - error):
                return distances, rows
            if limit == most:
                raise self._too_many(k, int(np.count_nonzero(kept)))
            limit *= 4

    def _hits(
        self, name: str, vector: Any, limit: int, more: str = "", lists: int = 0
    ) -> tuple[Distances, npt.NDArray[np.bool_], Rows]:
        """Return the server's distances ``[limit]``, which of them are allowed, and those rows."""
        where = both(self._where, more)
        parameters = {"nprobe": lists} if lists else {}
        (hits,) = self._view.link.search(name, [vector], limit, where, **parameters)
        rows, raw = self._view.rows(hits), np.array([hit["distance"] for hit in hits], np.float64)
        kept = np.isin(rows, self._inside) if self._inside is not None else self._touching(rows)
        return (1 - raw if name == self._pushed.name else raw), kept, rows[kept]

    def _first(self, k: int, more: str = "") -> Rows:
        """Return the first k in the order of ids."""
        rows, where = np.empty(0, np.int64), both(self._where, more)
        name, start = self._pushed.name, 'id >= ""'
        while len(rows) < k:
            limit = self._view.largest if self._polygon is not None else min(LARGEST, k - len(rows))
            page = self._view.link.query(name, both(where, start), ["id", "record"], limit=limit)
            given = self._view.rows(page)
            rows = np.concatenate([rows, given[self._touching(given)]])
            if len(page) < limit:
                break
            start = f"id > {quoted(str(page[-1]['id']))}"
        return rows[:k]

    def _count(self, where: str) -> int:
        return self._view.link.count(self._pushed.name, where)

    def _rows_inside(self, where: str, count: int) -> Rows | None:
        """Return the rows in the polygon, if there is one and its box holds few enough to check."""
        if self._polygon is None or not 0 < count <= self._view.outlines:
            return None
        fields = ["id", "record"]
        rows = self._view.rows(self._view.link.query(self._pushed.name, where, fields))
        return rows[self._touching(rows)]

    def _touching(self, rows: Rows) -> npt.NDArray[np.bool_]:
        if self._polygon is None or not len(rows):
            return np.ones(len(rows), np.bool_)
        records = self._view.table(rows)
        return inside(self._polygon, records.bounds, records.outlines)

    def _exact(self, target: Target, rows: Rows) -> Distances:
        """Return the same distances as a search of the archive folder."""
        embeddings = self._view.read_vectors("embedding", rows)
        found = distances_of(embeddings, target.embedding[0], np.arange(len(rows)))
        return np.maximum(found.astype(np.float64), 0.0)

    def _reranked(self, target: Target, rows: Rows, scanned: int) -> Ranking:
        distances, rows = self._view.nearest(self._exact(target, rows), rows)
        return replace(_listed(distances, rows, 1.0), scanned=scanned, reranked=len(rows))

    def _too_many(self, k: int, kept: int) -> UsageError:
        most = f"Milvus returns at most {self._view.largest:,} records per request"
        if self._polygon is not None and kept < k:
            return UsageError(
                f"{most}, and the polygon lets {kept} of the nearest through: draw it smaller or "
                "closer to the box around it"
            )
        if k + 1 >= self._view.largest:
            return UsageError(f"{most}: ask for fewer hits or pages")
        return UsageError(
            f"{most}, and more than that are as near as the last hit: narrow the search with a "
            "filter, or ask for fewer hits"
        )


def _listed(distances: Distances, rows: Rows, worst: float) -> Ranking:
    return Ranking(lambda k: (distances[:k], rows[:k]), worst, len(rows))


class _Expressions:
    """Builds expressions of Milvus from the conditions of a filter."""

    def __init__(self, view: MilvusView) -> None:
        self._view, self._pushed = view, view.pushed
        self._scored = view.pushed.manifest.label_names

    def label(self, name: str) -> str:
        return carries(self._pushed.names.index(check_carried(name, self._pushed.carried)))

    def score(self, name: str, least: float) -> str:
        if name not in self._scored:
            near = did_you_mean(name, self._scored)
            raise UsageError(f"the model has no scores for label {name!r}{near}")
        # Scores are kept in single precision, and compared in it.
        return f"scores[{self._scored.index(name)}] >= {float(np.float32(least))!r}"

    def touching(self, box: Bounds) -> str:
        """As :func:`landcue.search.place.touches`; ``east`` is kept beyond 180."""
        box_east = box.east + 360 if box.west > box.east else box.east
        turns = [
            f"west <= {float(box_east + turn)!r} and east >= {float(box.west + turn)!r}"
            for turn in _TURNS
        ]
        upright = f"south <= {float(box.north)!r} and north >= {float(box.south)!r}"
        return both(upright, joined("or", turns))

    def inside(self, shape: BaseGeometry) -> str:
        """Require the bounding box of a polygon: Milvus has no polygons."""
        return self.touching(box_of(shape))

    def after(self, time: np.datetime64) -> str:
        return f"time >= {int(time.astype(np.int64))}"

    def before(self, time: np.datetime64) -> str:
        return f"time > {NO_TIME} and time < {int(time.astype(np.int64))}"

    def below(self, prefix: str) -> str:
        return starts("path", prefix)

    def among(self, column: str, values: Sequence[str]) -> str:
        if column == "source":
            check_sources(values, self._pushed.manifest.sources)
        some = [value for value in values if value]  # "" means none
        return one_of(column, some) if some else 'id == ""'

    def with_ids(self, ids: Sequence[str]) -> str:
        # As in a folder, names are matched composed, too.
        spelled = {id_: dict.fromkeys((id_, clean_id(id_))) for id_ in ids}
        where = one_of("id", dict.fromkeys(name for names in spelled.values() for name in names))
        pages = self._view.link.pages(self._pushed.name, where, ["id"])
        there = {str(row["id"]) for page in pages for row in page}
        check_ids([one for one in ids if there.isdisjoint(spelled[one])], len(ids), self._near)
        return one_of("id", sorted(there))

    def _near(self, id_: str) -> str:
        return did_you_mean(id_, self._view.near_ids(id_))

    def negated(self, part: str) -> str:
        return f"not ({part})"

    def joined(self, word: str, parts: Sequence[str]) -> str:
        return joined(word, parts)
