"""Plan and run the searches of one archive, wherever its records lie."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from landcue.archive.space import ArchiveSpace
from landcue.codes.engine import check_k
from landcue.errors import EmptyArchiveError, UsageError
from landcue.search.backend import Backend, Facts, Ranking, RecordReader, Selection, Target, View
from landcue.search.exact import SHORTLIST, distances_of
from landcue.search.filters import Filter
from landcue.search.pages import (
    BEST,
    MOST_COLLAPSED,
    Cursor,
    Distances,
    Page,
    Rows,
    others,
    take_page,
)
from landcue.search.plan import (
    ASKED,
    FUSED,
    LOCAL,
    MODES,
    NEEDS,
    RESCORED,
    Plan,
    SearchOptions,
    check_mode,
)
from landcue.search.query import Query, QueryEncoder, has_scores, only_texts
from landcue.search.rerank import alpha_qe, k_reciprocal, log_gain
from landcue.search.result import Found, Picture, Result
from landcue.types import Encoder, FloatArray

if TYPE_CHECKING:
    from landcue.search.typical import Typical

_DEFAULT = SearchOptions()
_OTHER_SEARCH = "the cursor is for another search: use the same query and filters"


class Planner:
    """Searches a backend: chooses modes, takes pages, explains. Several threads may use it.

    Attributes:
        space: The space of its embeddings.
    """

    def __init__(self, backend: Backend, encoder: Callable[[], Encoder] | None = None) -> None:
        """Take what is searched, and what loads its model when an image is the query."""
        self._backend, self._encoder = backend, encoder
        self.space = ArchiveSpace(backend.archive)

    def search(
        self,
        query: Query | None,
        k: int = 20,
        mode: str = "auto",
        where: Filter | None = None,
        options: SearchOptions = _DEFAULT,
    ) -> Result:
        """Return the k nearest records: see :meth:`landcue.Archive.search`."""
        started = time.perf_counter()
        k = check_k(k)
        options.check()
        view = self._backend.view()
        self._check(view, mode, options.rerank)
        n = len(view.records)
        k = min(k, n)
        after = None if options.cursor is None else _cursor(view, options.cursor, mode, query)
        shortlist = options.shortlist
        if after is not None:
            mode, shortlist = after.mode, after.shortlist
        options.check_pairs("the shortlist" if shortlist > k else "k", min(max(shortlist, k), n))
        shortlist = max(shortlist, k)
        if where is not None and where.empty:
            where = None
        selection = view.select(where)
        allowed = selection.allowed
        chosen, why = _choose(view, query, mode, where, allowed, options)
        slopes = None
        if chosen in FUSED:
            slopes, why = self._slopes(view, options, why)
        target = None if query is None else self._encode(view, query, chosen)
        name, labels = query.title if query else "all", target.labels if target else ()
        if where is not None and not allowed:
            note = selection.why_empty()
            plan = Plan(chosen, why, n, 0, milliseconds=_since(started))
            return Result(name, chosen, None, labels, None, note, plan, self._picture(target))

        lists = None if after is None else after.lists
        ranking = _ranking(selection, chosen, target, where, options, shortlist, lists, slopes)
        if target is not None and (chosen in RESCORED or options.rerank != "none"):
            # The query records themselves are excluded and must not use up the shortlist.
            _, rows = ranking.fetch(shortlist + len(target.own))
            rows = rows[others(rows, target.own)][:shortlist]
            slope = 0.0 if slopes is None else slopes[0]
            ranking = rescored(view, target, ranking, rows, slope, options.rerank)
        farthest = None
        if options.min_score is not None:  # some tolerance: scores are themselves rounded
            farthest = (1 - options.min_score) * ranking.worst + 1e-9
        typical = functools.partial(self._typical, chosen, options, query, target, where)
        if options.min_percentile:
            known = None if slopes is not None else typical()
            if known is None:
                other = "" if chosen == "embedding" else ", or search with mode embedding"
                raise UsageError(
                    f"percentiles of this search in mode {chosen} are not known: leave the minimum "
                    f"percentile out{other}"
                )
            least = known.farthest(options.min_percentile) + 1e-9
            farthest = least if farthest is None else min(farthest, least)
        page = take_page(
            ranking.fetch,
            0 if after is None else after.seen,
            k,
            own=target.own if target else frozenset(),
            farthest=farthest,
            collapse=options.collapse,
            embeddings=functools.partial(view.read_vectors, "embedding"),
        )
        _check_before(view, page, after)
        parts = None if ranking.parts is None else ranking.parts(page.rows)
        regions = None if ranking.regions is None else ranking.regions(page.rows)
        facts = view.read_facts(page.rows)
        found = Found(page, ranking.worst, facts, view, parts, options.rerank, regions)
        end = _end(view, page, chosen, 0 if after is None else after.seen, shortlist, ranking.lists)
        note = None
        if not len(page.rows):
            note = "there are no further hits" if after else _why_none(options)
        plan = _done(Plan(chosen, why, n, allowed), ranking, started)
        picture = self._picture(target)
        return Result(name, chosen, found, labels, end, note, plan, picture, typical)

    def search_all(
        self,
        query: Query | None,
        mode: str = "auto",
        where: Filter | None = None,
        options: SearchOptions = _DEFAULT,
    ) -> Result:
        """Return all records that pass: see :meth:`landcue.Archive.search_all`."""
        if options.cursor is not None:
            raise UsageError("all records are returned at once: leave the cursor out")
        if options.rerank != "none":
            raise UsageError("re-ranking orders a shortlist, not all records: leave it out")
        n = max(1, len(self._backend.view().records))
        options = replace(options, exact_rows=n)
        if mode in ("two-stage", "ann"):  # the same distances, of all records
            mode = "embedding"
        if options.collapse is not None:
            every = self.search(query, n, mode, where, replace(options, collapse=None))
            n = max(1, len(every))
            if n > MOST_COLLAPSED:
                raise UsageError(
                    f"{n:,} records pass, and near duplicates are looked for among at most "
                    f"{MOST_COLLAPSED:,}: raise min_score, or leave collapse out"
                )
        return self.search(query, n, mode, where, options)

    def search_many(
        self,
        queries: Sequence[Query],
        k: int = 20,
        mode: str = "auto",
        options: SearchOptions = _DEFAULT,
    ) -> list[Result]:
        """Return a result per query: see :meth:`landcue.Archive.search_many`."""
        started = time.perf_counter()
        k = check_k(k)
        options.check()
        if mode not in ("code", "cue") or options != SearchOptions(
            label_weight=options.label_weight
        ):
            return [self.search(query, k, mode, options=options) for query in queries]
        view = self._backend.view()
        self._check(view, mode)
        if not queries:
            return []
        targets = [self._encode(view, query, mode) for query in queries]
        n = len(view.records)
        own = max(len(target.own) for target in targets)
        weight = int(options.label_weight)
        rankings = view.select(None).by_code(mode, targets, weight, first=max(k + 1, BEST) + own)
        plan = Plan(mode, ASKED, n, n)
        pages = [
            take_page(ranking.fetch, 0, k, own=target.own)
            for ranking, target in zip(rankings, targets, strict=True)
        ]
        results: list[Result] = []
        for query, page, target, ranking, facts in zip(
            queries, pages, targets, rankings, _read_together(view, pages), strict=True
        ):
            found = Found(page, ranking.worst, facts, view)
            end = _end(view, page, mode, 0, max(SHORTLIST, k), None)
            note = None if len(page.rows) else _why_none(options)
            done = _done(plan, ranking, started)
            picture = self._picture(target)
            typical = functools.partial(self._typical, mode, options, query, target)
            results.append(
                Result(query.title, mode, found, target.labels, end, note, done, picture, typical)
            )
        return results

    def _typical(
        self,
        mode: str,
        options: SearchOptions,
        query: Query | None,
        target: Target | None,
        where: Filter | None = None,
    ) -> Typical | None:
        other = options.rerank != "none" or (mode == "cue" and options.label_weight != 1)
        if query is None or target is None or other:
            return None  # distances of another kind than those that are measured
        if not only_texts(query):
            found = self._backend.typical(mode)
            outside = not target.own and where is None
            if found is None:
                return None
            embedding = target.embedding
            several = len(query.positives) > 1 or bool(query.negatives)
            if mode in ("code", "cue") and (several or not embedding.size):
                embedding = self.embed(query)  # its codes alone were read or combined
            return replace(found, query=embedding, outside=outside)
        texts = getattr(self._encoder(), "general_encoding", None) if self._encoder else None
        return None if texts is None else self._backend.typical(mode, texts)

    def _picture(self, target: Target | None) -> Picture:
        pixels = None if target is None or target.pixels is None else target.pixels
        if pixels is not None and pixels.shape[2] != 3:
            pixels = None
        id_ = None if target is None else target.id
        return Picture(id_, pixels, self._backend.archive.thumbnails, self.labels_of)

    @property
    def modes(self) -> tuple[str, ...]:
        """Search modes of this archive; ``ann`` and the fused ones only once built and measured."""
        manifest = self._backend.archive.manifest
        lacking = {"code": not manifest.n_bits, "cue": not manifest.label_names}
        lacking["regions"] = not manifest.regions or self._backend.remote
        lacking["fused"] = self._backend.fusion() is None
        lacking["fused-code"] = lacking["fused"] or lacking["code"] or self._backend.remote
        lacking["ann"] = self._backend.ann_facts() is None
        return tuple(mode for mode in MODES if not lacking.get(mode, False))

    def embed(self, query: Query) -> FloatArray:
        """Return the embedding of a query, float32 ``[1, d]``, unit norm."""
        return self._encode(self._backend.view(), query, "embedding").embedding

    def labels_of(self, id_: str) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` if unknown or not annotated."""
        records = self._backend.view().records
        row = records.find(id_)
        return None if row is None else records.annotated(row)

    def _slopes(
        self, view: View, options: SearchOptions, why: str
    ) -> tuple[tuple[float, float], str]:
        """Return what multiplies log gains and expected shared labels beside a cosine, and why."""
        fusion = view.fusion() or self._backend.measure_fusion()
        weight = options.fused_weight
        if weight is None:
            weight = fusion.weight
            why = fusion.why if why == ASKED else why
        return (weight * fusion.scale, weight * fusion.linear), why

    def _check(self, view: View, mode: str, rerank: str = "none") -> None:
        check_mode(mode, view.manifest, rerank)
        if mode in LOCAL and self._backend.remote:
            raise UsageError(
                f"mode {mode} is for archive folders, and this is a Milvus collection: search with "
                f"mode {'fused' if mode in FUSED else 'embedding'}"
            )
        if not len(view.records):
            raise EmptyArchiveError(
                f"{self._backend.archive.folder} holds no records; index images into it first"
            )

    def _encode(self, view: View, query: Query, mode: str) -> Target:
        needs = NEEDS[mode] - (frozenset() if view.manifest.n_bits else {"code"})
        return QueryEncoder(view, self._encoder, self.space).encode(query, needs)


def _cursor(view: View, word: str, mode: str, query: Query | None) -> Cursor:
    found = Cursor.decode(word)
    if found.mark != view.mark:
        raise UsageError(
            f"the cursor belongs to another version of the archive ({found.mark[:40]}, now "
            f"{view.mark}): search again from the first page"
        )
    if mode not in ("auto", found.mode) or found.mode not in NEEDS:
        raise UsageError(f"the cursor is for mode {found.mode[:40]}, not {mode}: use the same mode")
    without = found.mode in ("place", "list")
    if found.seen > len(view.records) or (without and query is not None):
        raise UsageError(_OTHER_SEARCH)
    return found


def _check_before(view: View, page: Page, after: Cursor | None) -> None:
    """Check that the cursor is of the same search: the page before must end at its hit."""
    if after is None:
        return
    if page.before is not None:
        distance, row = page.before
        if view.records.id(row) == after.id and abs(distance - after.distance) <= 1e-6:
            return
    raise UsageError(_OTHER_SEARCH)


def _choose(
    view: View,
    query: Query | None,
    mode: str,
    where: Filter | None,
    allowed: int,
    options: SearchOptions,
) -> tuple[str, str]:
    """Return the mode, and why."""
    if query is None:
        if mode not in ("auto", "place", "list"):
            raise UsageError(f"mode {mode} needs a query: specify an image or a record's id")
        if where is not None and where.place() is not None:
            return "place", "no example to compare with: nearest to the middle of the place"
        return "list", "no example to compare with: in the order of ids"
    if mode != "auto":
        return mode, ASKED
    if allowed <= options.exact_rows:
        # Fused distances have no percentiles.
        labels = view.manifest.label_names and has_scores(query) and not options.min_percentile
        fusion = view.fusion() if labels else None
        if fusion is not None and fusion.weight > 0:
            return "fused", fusion.why
        return "embedding", f"{allowed} records are few enough to compare exactly"
    ann = view.ann_facts()
    if ann is None:
        return "embedding", "no approximate index was built (a search with mode ann builds it)"
    if where is not None:
        return "embedding", "recall under a filter is not known, so compared exactly"
    if ann.lists_for(options.recall) is None:
        best = max(ann.recall.values())
        return (
            "embedding",
            f"the approximate index reaches recall {best:.3f}, not {options.recall:g}",
        )
    return "ann", f"measured recall reaches {options.recall:g}"


def _end(
    view: View, page: Page, mode: str, seen: int, shortlist: int, lists: int | None
) -> Cursor | None:
    """Return the end of a page that is followed by others, after ``seen`` earlier hits."""
    if not page.more:
        return None
    distance, id_ = float(page.distances[-1]), view.records.id(int(page.rows[-1]))
    return Cursor(view.mark, mode, seen + len(page.rows), distance, id_, shortlist, lists)


def _ranking(
    selection: Selection,
    mode: str,
    target: Target | None,
    where: Filter | None,
    options: SearchOptions,
    shortlist: int,
    lists: int | None,
    slopes: tuple[float, float] | None,
) -> Ranking:
    if target is None:
        box = None if where is None else where.place()
        return selection.by_id() if box is None else selection.by_place(box)
    if mode in ("code", "cue"):
        return selection.by_code(mode, [target], int(options.label_weight))[0]
    if mode == "two-stage":
        return selection.by_sketch(target)
    if mode == "ann":
        wanted = min(shortlist + len(target.own), selection.allowed)
        return selection.by_ann(target, wanted, options.recall, lists)
    if mode == "fused-code" and slopes is not None:
        return selection.by_fused_code(target, slopes[0])
    if mode == "regions":
        return selection.by_regions(target)
    if slopes is not None:
        return selection.by_fused(target, slopes[1])
    return selection.by_embedding(target)


def rescored(
    view: View, target: Target, ranking: Ranking, rows: Rows, slope: float, rerank: str
) -> Ranking:
    """Rank some rows by their exact embeddings, re-ranked, and their label probabilities.

    The distance is ``1 - cosine`` plus ``slope`` times what the log gain lacks of the largest that
    the query can have; the score is the share of the largest score.

    Args:
        view: The archive.
        target: The query.
        ranking: How the rows were found.
        rows: Distinct rows ``[m]``.
        slope: Weight of the log gain; 0 for none.
        rerank: One of :data:`landcue.search.plan.RERANKERS`.
    """
    embeddings = view.read_vectors("embedding", rows)
    apart = _apart(embeddings, target.embedding[0])
    # In one order on every backend, so that re-ranking sums alike.
    order = by_distance(view.records, apart, rows)
    rows, embeddings, apart = rows[order], embeddings[order], apart[order]
    if rerank == "alpha-qe" and len(rows):
        expanded = alpha_qe(target.embedding, embeddings)[0].astype(np.float32)
        apart = _apart(embeddings, expanded)
    elif rerank == "k-reciprocal" and len(rows):
        vectors = np.concatenate([target.embedding, embeddings]).astype(np.float64)
        pairs = np.maximum(1 - vectors @ vectors.T, 0.0)
        apart = k_reciprocal((pairs + pairs.T) / 2, queries=1)[0, 1:]
    labels, most = np.zeros(len(rows)), 0.0
    if slope:
        most = slope * float(np.log1p(target.scores.astype(np.float64)).sum())
        labels = slope * log_gain(target.scores, view.read_vectors("scores", rows))[0]
    worst = 1.0 + most
    distances = apart + np.maximum(most - labels, 0.0)
    order = by_distance(view.records, distances, rows)
    distances, rows = distances[order], rows[order]
    split = np.stack([1 - apart, labels], axis=1)[order] / worst
    by_row = np.argsort(rows)

    def fetch(k: int) -> tuple[Distances, Rows]:
        return distances[:k], rows[:k]

    def parts(some: Rows) -> npt.NDArray[np.float64]:
        return split[by_row[np.searchsorted(rows, some, sorter=by_row)]]

    return replace(
        ranking,
        fetch=fetch,
        worst=worst,
        reranked=len(rows),
        parts=parts if slope else None,
    )


def _apart(embeddings: FloatArray, query: FloatArray) -> npt.NDArray[np.float64]:
    found = distances_of(embeddings, query, np.arange(len(embeddings)))
    return np.maximum(found.astype(np.float64), 0.0)


def by_distance(records: RecordReader, distances: npt.NDArray[np.float64], rows: Rows) -> Rows:
    """Return the order int64 ``[m]`` of rows by (distance, id)."""
    order = np.argsort(distances, kind="stable")
    equal = np.diff(distances[order]) == 0
    starts = np.flatnonzero(equal & ~np.append(False, equal[:-1]))
    ends = np.flatnonzero(equal & ~np.append(equal[1:], False)) + 2
    for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
        tied = order[first:last].tolist()
        order[first:last] = sorted(tied, key=lambda place: records.id(int(rows[place])))
    return order


def _read_together(view: View, pages: Sequence[Page]) -> Iterator[Callable[[], list[Facts]]]:
    """Yield what gives the facts of each page; all are read in one step when one is needed."""
    read = functools.cache(view.read_facts(np.concatenate([page.rows for page in pages])))
    first = 0
    for page in pages:
        part = slice(first, first + len(page.rows))
        yield lambda part=part: read()[part]
        first = part.stop


def _done(plan: Plan, ranking: Ranking, started: float) -> Plan:
    return replace(
        plan,
        scanned=ranking.scanned,
        reranked=ranking.reranked,
        recall=ranking.recall,
        lists=ranking.lists,
        milliseconds=_since(started),
    )


def _why_none(options: SearchOptions) -> str:
    if options.min_score is not None:
        return f"no record reaches the score {options.min_score:g}"
    if options.min_percentile:
        return f"no record reaches the percentile {options.min_percentile:g}"
    return "no other record matches"


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
