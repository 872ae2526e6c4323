"""One search of a collection: its filter on the server, and rankings in the order of a folder.

The server proposes candidates by its own distances; those are computed again as a folder computes
them and sorted by (distance, id). The server leaves equal distances in any order, so more is
fetched than needed, until what was not fetched is known to be farther than the last hit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from landcue.codes.packing import unpack_bits
from landcue.data.names import clean_id
from landcue.errors import UsageError, did_you_mean
from landcue.milvus.link import LARGEST, both, joined, one_of, quoted, starts
from landcue.milvus.manifest import LABEL_SCALE, NO_TIME
from landcue.search.backend import Ranking, Target
from landcue.search.exact import distances_of
from landcue.search.filters import Filter, check_carried, check_ids, check_sources, why_empty
from landcue.search.pages import Distances, Fetch, Rows
from landcue.search.place import HALFWAY_KM, box_of, center, inside, kilometers
from landcue.search.planner import by_distance
from landcue.types import Bounds, FloatArray

if TYPE_CHECKING:
    from landcue.milvus.backend import MilvusView

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
        if where is not None and where.cql2 is not None:
            raise UsageError(
                "CQL2 filters need an archive folder: filter a Milvus collection by labels, "
                "scores, place and time"
            )
        self._view, self._pushed = view, view.pushed
        self._n_bits, self._n_labels = view.manifest.n_bits, len(view.manifest.label_names)
        self._polygon = None if where is None else where.polygon
        self._parts = [] if where is None else list(where.conditions(_Expressions(view)))
        self._where = both(*(part for _, part in self._parts))
        self.allowed = self._count(self._where) if self._parts else len(view)

    def why_empty(self) -> str:
        counts = [(name, self._count(part, name == "polygon")) for name, part in self._parts]
        return why_empty(counts, len(self._view))

    def by_embedding(self, target: Target) -> Ranking:
        fetch = functools.partial(self._products, target.embedding[0], least=0.0)
        return Ranking(fetch, 1.0, self.allowed)

    def by_fused(self, target: Target, weight: float) -> Ranking:
        scores = np.float32(weight / LABEL_SCALE) * target.scores[0]
        query = np.concatenate([target.embedding[0], scores]).astype(np.float32)
        return Ranking(functools.partial(self._products, query), 1.0, self.allowed)

    def by_code(
        self, mode: str, targets: Sequence[Target], weight: int, first: int = 0
    ) -> list[Ranking]:
        """Rank by Hamming distance of codes, mode ``cue`` adds that of predicted labels.

        The server has no scan for several targets: ``first`` changes nothing.
        """
        plain = mode == "code" or (not weight and self._n_bits)
        worst = float(self._n_bits + (weight * self._n_labels if mode == "cue" else 0))

        def fetch(target: Target, k: int) -> tuple[Distances, Rows]:
            if plain:
                return self._nearest(self._pushed.code, target.code[0].tobytes(), k)
            return self._cue(target, weight, k)

        return [Ranking(functools.partial(fetch, one), worst, self.allowed) for one in targets]

    def by_sketch(self, target: Target) -> Ranking:
        sketch = self._pushed.sketcher.encode(target.embedding)[0].tobytes()
        fetch = functools.partial(self._nearest, self._pushed.sketch, sketch)
        return Ranking(fetch, 1.0, self.allowed)

    def by_ann(self, target: Target, wanted: int, recall: float, lists: int | None) -> Ranking:
        facts, most = self._pushed.ann, self._pushed.lists
        if facts is None:
            raise UsageError(
                "the collection has no approximate index: push into another one with --index ivf, "
                "or search with mode embedding"
            )
        lists = min(lists or facts.lists_for(recall) or max(facts.recall), most)
        name, query = self._pushed.name, self._padded(target.embedding[0])
        wanted = min(wanted, self._view.largest)
        while True:
            raw, kept, rows = self._hits(name, query, wanted, lists=lists)
            if len(raw) >= min(wanted, self.allowed) or lists == most:
                break
            lists = min(2 * lists, most)
        known = None if self._where else facts.recall.get(lists)
        scanned = round(self.allowed * lists / most)
        fetch = _listed(raw[kept], rows)
        return Ranking(fetch, 1.0, scanned, recall=known, lists=lists)

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
        fetch = _listed(*self._sorted(away[known], rows[known]))
        return Ranking(fetch, float(HALFWAY_KM), int(np.count_nonzero(known)))

    def _sorted(
        self, distances: Distances, rows: Rows, k: int | None = None
    ) -> tuple[Distances, Rows]:
        """Return the first k, or all, in the order (distance, id)."""
        order = by_distance(self._view.records, distances, rows)[:k]
        return distances[order], rows[order]

    def _padded(self, query: FloatArray) -> FloatArray:
        return np.pad(query, (0, self._pushed.width - len(query)))

    def _products(
        self, query: FloatArray, k: int, least: float = -np.inf
    ) -> tuple[Distances, Rows]:
        """Return the k largest inner products with the first values of the stored vectors."""
        norm = float(np.linalg.norm(query.astype(np.float64)))
        # As FloatIndex bounds the error of a float32 product: embeddings have norm 1 to a
        # thousandth, and label probabilities are 1 or less.
        stored = 1.001 * (1 + self._n_labels * LABEL_SCALE**2) ** 0.5
        error = 2.0**-23 * ((self._pushed.width + 2) * stored * norm + 1)

        def exact(rows: Rows) -> Distances:  # as a folder computes them
            vectors = np.ascontiguousarray(self._view.stored(rows)[:, : len(query)])
            found = distances_of(vectors, query, np.arange(len(rows)))
            return np.maximum(found.astype(np.float64), least)

        return self._nearest(self._pushed.name, self._padded(query), k, exact=exact, error=error)

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
                    near, found = self._nearest(self._pushed.code, code, k, more)
                else:
                    found = self._first(k, more)
                    near = np.zeros(len(found))
                distances = np.concatenate([distances, near + weight * ring])
                rows = np.concatenate([rows, found])
            distances, rows = self._sorted(distances, rows, k)
        return distances, rows

    def _nearest(
        self,
        name: str,
        vector: Any,
        k: int,
        more: str = "",
        exact: Callable[[Rows], Distances] | None = None,
        error: float = 0.0,
    ) -> tuple[Distances, Rows]:
        """Return the k nearest in a collection that also fit ``more``, by (distance, id).

        ``exact`` returns the distances of rows, from which the server's differ by ``error`` at
        most; by default they are the server's.
        """
        limit, most = k + _SPARE, self._view.largest
        while True:
            limit = min(limit, most)
            raw, kept, rows = self._hits(name, vector, limit, more)
            distances, rows = self._sorted(raw[kept] if exact is None else exact(rows), rows, k)
            if len(raw) < limit or (len(rows) >= k and distances[k - 1] < raw[-1] - error):
                return distances, rows
            if limit == most:
                raise self._too_many(k, int(np.count_nonzero(kept)))
            limit *= 4

    def _hits(
        self, name: str, vector: Any, limit: int, more: str = "", lists: int = 0
    ) -> tuple[Distances, npt.NDArray[np.bool_], Rows]:
        """Return the server's distances ``[limit]``, which of them are allowed, and those rows."""
        main, where = name == self._pushed.name, both(self._where, more)
        parameters = {"nprobe": lists or self._pushed.lists} if main and self._pushed.lists else {}
        (hits,) = self._view.link.search(name, [vector], limit, where, **parameters)
        rows, raw = self._view.rows(hits), np.array([hit["distance"] for hit in hits], np.float64)
        kept = self._touching(rows)
        return 1 - raw if main else raw, kept, rows[kept]

    def _first(self, k: int, more: str = "") -> Rows:
        """Return the first k in the order of ids."""
        rows, where = np.empty(0, np.int64), both(self._where, more)
        size = self._view.largest if self._polygon is not None else min(LARGEST, k)
        for page in self._view.link.pages(self._pushed.name, where, ["record"], size):
            given = self._view.rows(page)
            rows = np.concatenate([rows, given[self._touching(given)]])
            if len(rows) >= k:
                break
        return rows[:k]

    def _count(self, where: str, looks: bool = True) -> int:
        """Count records; those in the polygon, too, where its box holds few enough to look at."""
        name, link = self._pushed.name, self._view.link
        count = link.count(name, where)
        if self._polygon is None or not looks or not 0 < count <= self._view.outlines:
            return count
        rows = self._view.rows(link.query(name, where, ["id", "record"]))
        return int(np.count_nonzero(self._touching(rows)))

    def _touching(self, rows: Rows) -> npt.NDArray[np.bool_]:
        if self._polygon is None or not len(rows):
            return np.ones(len(rows), np.bool_)
        records = self._view.table(rows)
        return inside(self._polygon, records.bounds, records.outlines)

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


def _listed(distances: Distances, rows: Rows) -> Fetch:
    return lambda k: (distances[:k], rows[:k])


class _Expressions:
    """Builds expressions of Milvus from the conditions of a filter."""

    def __init__(self, view: MilvusView) -> None:
        self._view, self._pushed = view, view.pushed
        self._scored = view.manifest.label_names

    def label(self, name: str) -> str:
        return f"array_contains(labels, {quoted(check_carried(name, self._pushed.carried))})"

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
        pages = self._view.link.pages(self._pushed.name, where, [])
        there = {str(row["id"]) for page in pages for row in page}
        check_ids([one for one in ids if there.isdisjoint(spelled[one])], len(ids), self._near)
        return one_of("id", sorted(there))

    def _near(self, id_: str) -> str:
        return did_you_mean(id_, self._view.near_ids(id_))

    def negated(self, part: str) -> str:
        return f"not ({part})"

    def joined(self, word: str, parts: Sequence[str]) -> str:
        return joined(word, parts)
