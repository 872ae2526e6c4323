"""Search one archive: by image, by record, by several of them, or by place and label alone."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.archive.archive import ArchiveFolder
from landcue.codes.engine import check_k
from landcue.errors import ArchiveError, UsageError
from landcue.search.ann import SHORTLIST
from landcue.search.filters import Filter
from landcue.search.hits import Hits, Told
from landcue.search.modes import Modes, Ranking, check_weight
from landcue.search.pages import Cursor, Page, take_page
from landcue.search.plan import ASKED, MODES, NEEDS, Plan, check_mode, choose
from landcue.search.queries import Asker, ById, ByImage, ByPixels, ByVector, Mix, Query, Target
from landcue.search.records import Records, read_records
from landcue.search.result import SearchResult
from landcue.search.scene import ByScene
from landcue.search.store import Store
from landcue.search.summary import Summary, summarize
from landcue.search.vectors import Vectors
from landcue.types import Encoder, FloatArray

__all__ = [
    "MODES",
    "ById",
    "ByImage",
    "ByPixels",
    "ByScene",
    "ByVector",
    "Mix",
    "SearchResult",
    "Searcher",
]

CACHE_FROM = 20_000
"""From so many records on derived files are kept on disk; smaller archives are quick to read."""


class Searcher:
    """Searches an archive as it was when it was opened. Several threads may use it.

    Attributes:
        archive: What is searched.
        records: Its records without their vectors, sorted by id.
        vectors: Their vectors, read when a mode first needs them.
    """

    def __init__(
        self,
        archive: ArchiveFolder,
        encoder: Encoder | Callable[[], Encoder] | None = None,
        *,
        cache: bool | None = None,
    ) -> None:
        """Read the records, or map the file derived from them.

        Args:
            archive: What is searched.
            encoder: The archive's own model, or what loads it when an image is asked with.
            cache: Keep derived files below ``indexes/`` in the archive; by default from
                :data:`CACHE_FROM` records on. Where that cannot be written they stay in memory.

        Raises:
            ArchiveError: The archive is broken.
        """
        self.archive = archive
        manifest, count = archive.manifest, archive.count
        store = Store(
            archive, on_disk=count >= CACHE_FROM if cache is None else cache and count > 0
        )
        self.records = Records(store.table("records", functools.partial(read_records, archive)))
        self.vectors = Vectors(archive, store)
        self._mark = store.folder.name
        self._modes = Modes(manifest, self.records, self.vectors)
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()
        sizes = (manifest.dim, manifest.n_bits, manifest.label_names)
        load = None if encoder is None else functools.partial(self._load, encoder)
        self._asker = Asker(self.records, self.vectors, sizes, load)

    def search(
        self,
        query: Query | None = None,
        k: int = 20,
        mode: str = "auto",
        where: Filter | None = None,
        *,
        name: str | None = None,
        cursor: str | None = None,
        min_score: float | None = None,
        collapse: float | None = None,
        label_weight: int = 1,
        shortlist: int = SHORTLIST,
        recall: float = 0.95,
    ) -> SearchResult:
        """Return the k nearest records.

        Args:
            query: A record, an image, several of them, or an encoded image; records asked with
                are not found. ``None`` ranks the records that ``where`` lets through by their
                distance from the middle of its box or polygon, or else by id.
            k: Hits wanted; fewer come back when fewer records match.
            mode: One of :data:`MODES`: see :class:`landcue.search.result.SearchResult`.
            where: Which records may be found; all without it. It applies before ranking.
            name: What the result calls the query; by default its id, or ``image``.
            cursor: Of an earlier result of the same search: go on after its hits.
            min_score: Leave out hits below this score.
            collapse: Leave out a hit whose embedding is within this cosine distance of that of an
                earlier hit.
            label_weight: Of mode ``cue``: what a differing label bit costs.
            shortlist: Of modes ``two-stage`` and ``ann``: candidates ranked by exact distance. No
                more than these, or k if that is more, can be found, on all pages together.
            recall: Asked of mode ``ann``, 0..1, and what ``auto`` takes it for.

        Raises:
            UsageError: A value that cannot be used; the message names it.
            ArchiveError: The archive is empty.
            DataError: An image cannot be read.
        """
        started = time.perf_counter()
        k, weight = check_k(k), check_weight(label_weight)
        _check_numbers(min_score, collapse, shortlist, recall)
        self._check(mode)
        after = None if cursor is None else self._cursor(cursor, mode)
        if after is not None:
            mode, shortlist = after.mode, after.shortlist
        shortlist = max(shortlist, k)
        if where is not None and where.empty:
            where = None
        mask, allowed = self._select(where)
        chosen, why = self._choose(query, mode, where, allowed, recall)
        name = name or _name(query)
        target = None if query is None else self._asker.target(query, self._needs(chosen))
        labels = target.labels if target else ()
        if where is not None and not allowed:
            note = self._why_empty(where, mask)
            plan = Plan(chosen, why, len(self.records), 0, milliseconds=_since(started))
            return SearchResult(name, chosen, (), labels, None, note, plan)

        lists = None if after is None else after.lists
        ranking = self._ranking(
            chosen, target, where, mask, allowed, weight, shortlist, recall, lists
        )
        farthest = None
        if min_score is not None:  # a hair of room: scores are themselves rounded
            farthest = (1 - min_score) * ranking.worst + 1e-9
        page = take_page(
            ranking.fetch,
            0 if after is None else after.seen,
            k,
            own=target.own if target else frozenset(),
            farthest=farthest,
            collapse=collapse,
            embeddings=lambda: self.vectors.embedding,
        )
        self._check_before(page, after)
        hits = Hits(self.records, page, ranking.worst, labels)
        end = self._end(page, chosen, 0 if after is None else after.seen, shortlist, ranking.lists)
        note = None
        if not len(hits):
            note = "there are no further hits" if after else _why_none(min_score)
        plan = _done(Plan(chosen, why, len(self.records), allowed), ranking, started)
        return SearchResult(name, chosen, hits, labels, end, note, plan)

    def search_many(
        self,
        queries: Sequence[Query],
        k: int = 20,
        mode: str = "auto",
        *,
        label_weight: int = 1,
    ) -> list[SearchResult]:
        """Return for several queries, without filters, what :meth:`search` returns for each.

        Modes ``code`` and ``cue`` scan the records once for all of them, which costs a fraction of
        as many scans; the others search one after the other.

        Args:
            queries: Any number.
            k: See :meth:`search`, likewise the others.
            mode: Likewise.
            label_weight: Likewise.

        Raises:
            UsageError: As :meth:`search`, for the first query that cannot be used.
            ArchiveError: Likewise.
            DataError: Likewise.
        """
        started = time.perf_counter()
        k, weight = check_k(k), check_weight(label_weight)
        if mode not in ("code", "cue"):
            return [self.search(query, k, mode, label_weight=weight) for query in queries]
        self._check(mode)
        targets = [self._asker.target(query, self._needs(mode)) for query in queries]
        n = len(self.records)
        own = max((len(target.own) for target in targets), default=0)
        rankings = self._modes.codes(mode, targets, None, n, weight, first=k + 1 + own)
        plan = Plan(mode, ASKED, n, n)
        pages = [
            take_page(ranking.fetch, 0, k, own=target.own)
            for ranking, target in zip(rankings, targets, strict=True)
        ]
        told = Told(self.records, pages)
        results: list[SearchResult] = []
        for number, page in enumerate(pages):
            name, labels = _name(queries[number]), targets[number].labels
            ranking, of_page = rankings[number], functools.partial(told.of, number)
            hits = Hits(self.records, page, ranking.worst, labels, of_page)
            end = self._end(page, mode, 0, max(SHORTLIST, k), None)
            note = None if len(hits) else _why_none(None)
            done = _done(plan, ranking, started)
            results.append(SearchResult(name, mode, hits, labels, end, note, done))
        return results

    def _end(
        self, page: Page, mode: str, seen: int, shortlist: int, lists: int | None
    ) -> Cursor | None:
        """Return where a page ends that others follow, ``seen`` hits before it."""
        if not page.more:
            return None
        distance, id_ = float(page.distances[-1]), self.records.id(int(page.rows[-1]))
        return Cursor(self._mark, mode, seen + len(page.rows), distance, id_, shortlist, lists)

    @property
    def modes(self) -> tuple[str, ...]:
        """Modes that this archive answers; ``ann`` only where its index was built."""
        manifest = self.archive.manifest
        lacking = {"code": not manifest.n_bits, "cue": not manifest.label_names}
        lacking["ann"] = self._modes.ann_facts() is None
        return tuple(mode for mode in MODES if not lacking.get(mode, False))

    def embed(self, query: Query) -> FloatArray:
        """Return what a query is in the searched space, float32 ``[1, d]``, unit norm.

        Raises:
            UsageError: It cannot be used; see :meth:`search`.
            DataError: An image cannot be read.
        """
        return self._asker.target(query, frozenset({"embedding"})).embedding

    @property
    def mark(self) -> str:
        """A word for the version that is searched; a cursor belongs to one."""
        return self._mark

    def labels_of(self, id_: str) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` if unknown or not annotated."""
        row = self.records.find(id_)
        return None if row is None else self.records.annotated(row)

    def summary(self) -> Summary:
        """Return what is told of all records."""
        return summarize(self.records)

    def build_ann(self) -> dict[str, object]:
        """Load or build the approximate index; return what was measured of it.

        Raises:
            UsageError: FAISS is not installed.
        """
        return self._modes.ann_index()[1].to_json()

    def _check(self, mode: str) -> None:
        check_mode(mode, self.archive.manifest)
        if not len(self.records):
            raise ArchiveError(
                f"{self.archive.folder} holds no records; index images into it first"
            )

    def _load(self, encoder: Encoder | Callable[[], Encoder]) -> Encoder:
        with self._loading:
            if self._encoder is None:
                self._encoder = encoder if isinstance(encoder, Encoder) else encoder()
                self.archive.manifest.check_encoder(self._encoder, self.archive.folder)
            return self._encoder

    def _select(self, where: Filter | None) -> tuple[npt.NDArray[np.bool_] | None, int]:
        """Return which records may be found, if not all, and how many that are."""
        if where is None or where.empty:
            return None, len(self.records)
        mask = where.mask(self.records, self.vectors)
        return mask, int(np.count_nonzero(mask))

    def _why_empty(self, where: Filter, mask: Any) -> str:
        return where.why_empty(self.records, self.vectors)

    def _cursor(self, word: str, mode: str) -> Cursor:
        found = Cursor.decode(word)
        if found.mark != self._mark:
            raise UsageError(
                f"the cursor belongs to another version of the archive ({found.mark[:40]}, now "
                f"{self._mark}): search again from the first page"
            )
        if mode not in ("auto", found.mode) or found.mode not in NEEDS:
            raise UsageError(
                f"the cursor is one of mode {found.mode[:40]}, not {mode}: keep to one mode"
            )
        return found

    def _check_before(self, page: Page, after: Cursor | None) -> None:
        """Refuse the cursor of another search: the page before would have ended elsewhere."""
        if after is None:
            return
        if page.before is not None:
            distance, row = page.before
            if self.records.id(row) == after.id and abs(distance - after.distance) <= 1e-6:
                return
        raise UsageError("the cursor belongs to another search: give the same query and filters")

    def _choose(
        self, query: Query | None, mode: str, where: Filter | None, allowed: int, recall: float
    ) -> tuple[str, str]:
        if query is None:
            if mode not in ("auto", "place", "list"):
                raise UsageError(f"mode {mode} needs a query: give an image or a record's id")
            if where is not None and where.place() is not None:
                return "place", "no example to compare with: nearest to the middle of the place"
            return "list", "no example to compare with: in the order of ids"
        return choose(
            mode,
            allowed=allowed,
            filtered=where is not None,
            ann_facts=self._modes.ann_facts,
            recall=recall,
        )

    def _needs(self, mode: str) -> frozenset[str]:
        return NEEDS[mode] - (frozenset() if self.archive.manifest.n_bits else {"code"})

    def _ranking(
        self,
        mode: str,
        target: Target | None,
        where: Filter | None,
        mask: npt.NDArray[np.bool_] | None,
        allowed: int,
        weight: int,
        shortlist: int,
        recall: float,
        lists: int | None,
    ) -> Ranking:
        modes = self._modes
        if target is None:
            box = None if where is None else where.place()
            return modes.listing(mask) if box is None else modes.place(box, mask)
        if mode in ("code", "cue"):
            return modes.codes(mode, [target], mask, allowed, weight)[0]
        if mode == "two-stage":
            return modes.two_stage(target, mask, allowed, shortlist)
        if mode == "ann":
            return modes.ann(target, mask, allowed, shortlist, recall, lists)
        return modes.embedding(target, mask, allowed)


def _check_numbers(
    min_score: float | None, collapse: float | None, shortlist: object, recall: float
) -> None:
    if min_score is not None and not min_score <= 1:
        raise UsageError(f"the least score is {min_score}: give 1 or less")
    if collapse is not None and not 0 <= collapse <= 2:
        raise UsageError(f"collapse is {collapse}: give a cosine distance, 0 to 2")
    if isinstance(shortlist, bool) or not isinstance(shortlist, int) or shortlist < 1:
        raise UsageError(f"the shortlist is {shortlist!r}: give a whole number, 1 or more")
    if not 0 <= recall <= 1:
        raise UsageError(f"recall is {recall}: give 0 to 1")


def _name(query: Query | None) -> str:
    if isinstance(query, ById):
        return query.id
    if isinstance(query, ByImage) and not isinstance(query.image, bytes):
        return str(query.image)
    if isinstance(query, ByScene):
        return str(query.path)
    if isinstance(query, Mix):
        parts = [_name(example) for example in query.positives]
        return " ".join([" + ".join(parts), *(f"- {_name(e)}" for e in query.negatives)])
    if isinstance(query, ByVector):
        return "vector"
    return "all" if query is None else "image"


def _done(plan: Plan, ranking: Ranking, started: float) -> Plan:
    return replace(
        plan,
        scanned=ranking.scanned,
        reranked=ranking.reranked,
        recall=ranking.recall,
        lists=ranking.lists,
        milliseconds=_since(started),
    )


def _why_none(min_score: float | None) -> str:
    if min_score is not None:
        return f"no record reaches the score {min_score:g}"
    return "no other record matches"


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
