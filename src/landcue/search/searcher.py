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
from landcue.search.modes import Modes, Ranking
from landcue.search.pages import Cursor, Page, take_page
from landcue.search.plan import ASKED, MODES, NEEDS, Plan, SearchOptions, check_mode, choose
from landcue.search.query import Query, QueryEncoder, Target
from landcue.search.records import Records, read_records
from landcue.search.result import Found, Picture, Result
from landcue.search.store import Store
from landcue.search.summary import Summary, summarize
from landcue.search.vectors import Vectors
from landcue.types import Encoder, FloatArray

_DEFAULT = SearchOptions()

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
        self._query_encoder = QueryEncoder(self.records, self.vectors, sizes, load)

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
        self._check(mode)
        after = None if options.cursor is None else self._cursor(options.cursor, mode)
        shortlist = options.shortlist
        if after is not None:
            mode, shortlist = after.mode, after.shortlist
        shortlist = max(shortlist, k)
        if where is not None and where.empty:
            where = None
        mask, allowed = self._select(where)
        chosen, why = self._choose(query, mode, where, allowed, options.recall)
        target = None if query is None else self._query_encoder.encode(query, self._needs(chosen))
        name, labels = query.title if query else "all", target.labels if target else ()
        if where is not None and not allowed:
            note = self._why_empty(where, mask)
            plan = Plan(chosen, why, len(self.records), 0, milliseconds=_since(started))
            return Result(name, chosen, None, labels, None, note, plan, self._picture(target))

        ranking = self._ranking(
            chosen,
            target,
            where,
            mask,
            allowed,
            int(options.label_weight),
            shortlist,
            options.recall,
            None if after is None else after.lists,
        )
        farthest = None
        if options.min_score is not None:  # some tolerance: scores are themselves rounded
            farthest = (1 - options.min_score) * ranking.worst + 1e-9
        page = take_page(
            ranking.fetch,
            0 if after is None else after.seen,
            k,
            own=target.own if target else frozenset(),
            farthest=farthest,
            collapse=options.collapse,
            embeddings=lambda: self.vectors.embedding,
        )
        self._check_before(page, after)
        facts = functools.partial(self.records.facts, page.rows)
        found = Found(page, ranking.worst, facts, self.records.id)
        end = self._end(page, chosen, 0 if after is None else after.seen, shortlist, ranking.lists)
        note = None
        if not len(page.rows):
            note = "there are no further hits" if after else _why_none(options.min_score)
        plan = _done(Plan(chosen, why, len(self.records), allowed), ranking, started)
        return Result(name, chosen, found, labels, end, note, plan, self._picture(target))

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
        self._check(mode)
        targets = [self._query_encoder.encode(query, self._needs(mode)) for query in queries]
        n = len(self.records)
        own = max((len(target.own) for target in targets), default=0)
        weight = int(options.label_weight)
        rankings = self._modes.codes(mode, targets, None, n, weight, first=k + 1 + own)
        plan = Plan(mode, ASKED, n, n)
        pages = [
            take_page(ranking.fetch, 0, k, own=target.own)
            for ranking, target in zip(rankings, targets, strict=True)
        ]
        read = _ReadTogether(self.records, pages)
        results: list[Result] = []
        for number, (page, target, ranking) in enumerate(
            zip(pages, targets, rankings, strict=True)
        ):
            facts = functools.partial(read.facts_of, number)
            found = Found(page, ranking.worst, facts, self.records.id)
            end = self._end(page, mode, 0, max(SHORTLIST, k), None)
            note = None if len(page.rows) else _why_none(None)
            done = _done(plan, ranking, started)
            picture = self._picture(target)
            name = queries[number].title
            results.append(Result(name, mode, found, target.labels, end, note, done, picture))
        return results

    def _picture(self, target: Target | None) -> Picture:
        pixels = None if target is None or target.pixels is None else target.pixels
        if pixels is not None and pixels.shape[2] != 3:
            pixels = None
        id_ = None if target is None else target.id
        return Picture(id_, pixels, self.archive.thumbnails, self.labels_of)

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
        return self._query_encoder.encode(query, frozenset({"embedding"})).embedding

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


class _ReadTogether:
    """What is known of the hits of several pages, read in one step at the first look at one."""

    def __init__(self, records: Records, pages: Sequence[Page]) -> None:
        self._records, self._pages = records, pages

    @functools.cached_property
    def _facts(self) -> list[tuple[Any, ...]]:
        return self._records.facts(np.concatenate([page.rows for page in self._pages]))

    def facts_of(self, number: int) -> list[tuple[Any, ...]]:
        first = sum(len(page.rows) for page in self._pages[:number])
        return self._facts[first : first + len(self._pages[number].rows)]


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
