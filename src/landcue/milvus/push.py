"""Make a collection equal to an archive, and compare the two record by record."""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.archive.archive import ArchiveFolder
from landcue.archive.manifest import Manifest, manifest_text
from landcue.data.objects import absolute, shown
from landcue.errors import ArchiveError, EmptyArchiveError, UsageError, did_you_mean
from landcue.milvus.link import Address, Link, one_of
from landcue.milvus.manifest import (
    COMPLETE,
    PUSHING,
    ROWS,
    Part,
    Pushed,
    find_pushed,
    make_collection,
    parts,
    read_pushed,
    write_pushed,
)
from landcue.search.exact import (
    MEASURED_K,
    SHORTLIST,
    AnnFacts,
    held_out,
    list_count,
    recall_by_lists,
)
from landcue.search.fusion import measure_fusion
from landcue.search.local import LocalBackend

INDEXES = ("flat", "ivf")
"""Indexes of embeddings: compare all, or the embeddings of some lists (mode ``ann``)."""

MOST_PATTERNS = 50_000
"""Most sets of predicted labels; with more, mode ``cue`` is not available."""

_AT_ONCE = 4
_BYTES_AT_ONCE = 16 << 20

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class DiffReport:
    """How a collection differs from an archive, or from some of its records.

    Attributes:
        records: Of the archive.
        complete: Whether the last push ended.
        missing: Ids that some collection lacks.
        extra: Ids that only a collection has.
        different: Ids that a collection holds with other values.
    """

    records: int
    complete: bool
    missing: list[str] = field(default_factory=list[str])
    extra: list[str] = field(default_factory=list[str])
    different: list[str] = field(default_factory=list[str])

    @property
    def same(self) -> bool:
        """Whether they hold the same, and the push ended."""
        return self.complete and not (self.missing or self.extra or self.different)


def diff(
    archive: ArchiveFolder,
    address: Address,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> DiffReport:
    """Compare all records of an archive with those of a collection, by checksum."""
    with contextlib.closing(Link(address)) as link:
        pushed = read_pushed(link)
        check_model(archive.manifest, pushed.manifest, address)
        source = LocalBackend(archive)
        report = DiffReport(len(source.records), pushed.state == COMPLETE)
        there = _catch_up(link, pushed)
        for part in parts(source, ROWS):
            found = _compare(link, pushed, there, part)
            report.missing += found.missing
            report.extra += found.extra
            report.different += found.different
            progress(part.last, len(source.records))
        return report


def _compare(link: Link, pushed: Pushed, there: Sequence[str], part: Part) -> DiffReport:
    """Compare the checksums of some records of an archive with those of all collections."""
    missing, extra, different = set[str](), set[str](), set[str]()
    for name in pushed.collections:
        pages = link.pages(name, part.where, ["stamp"]) if name in there else ()
        stamps = {str(row["id"]): row["stamp"] for page in pages for row in page}
        missing |= part.facts.keys() - stamps.keys()
        extra |= stamps.keys() - part.facts.keys()
        both = stamps.keys() & part.facts.keys()
        different |= {id_ for id_ in both if stamps[id_] != part.stamps[id_]}
    lists = sorted(missing), sorted(extra), sorted(different - missing)
    return DiffReport(len(part.facts), True, *lists)


def _catch_up(link: Link, pushed: Pushed) -> list[str]:
    """Load and return the collections that exist; what follows sees all that was written before."""
    there = [name for name in pushed.collections if link.has(name)]
    for name in there:
        link.load(name)
        link.count(name, now=True)
    return there


@dataclass(slots=True)
class PushReport:
    """What a push did.

    Attributes:
        records: Records of the archive; the collection now holds all of them.
        added: Records that it did not hold, or not in whole.
        changed: Records that it held with other values.
        removed: Records that the archive does not hold any more.
        same: Records that it already held.
    """

    records: int
    added: int = 0
    changed: int = 0
    removed: int = 0
    same: int = 0


def push(
    archive: ArchiveFolder,
    address: Address,
    *,
    index: str | None = None,
    rows: int = ROWS,
    progress: Progress = lambda _stage, _done, _total: None,
) -> PushReport:
    """Make a collection equal to an archive, and wait until it can be searched.

    It may be interrupted at any moment, ``kill -9`` included: the same call resumes, and no record
    is lost or duplicated. Only one push at a time may write a collection.

    Args:
        archive: The source.
        address: The collection.
        index: Index of the embeddings of a new collection: ``flat`` (the default) or ``ivf``.
        rows: Records per batch.
        progress: Called with the stage, the number of finished records and their total.

    Raises:
        ArchiveError: The archive is empty; the server cannot be used; the collection holds
            embeddings of another model, or a record is too long for Milvus.
        UsageError: An unknown index, another than the collection has, or batches too large.
    """
    if index is not None and index not in INDEXES:
        raise UsageError(f"unknown index {index!r}{did_you_mean(index, INDEXES)}")
    if not 1 <= rows <= ROWS:
        raise UsageError(f"{rows} records per batch: use 1 to {ROWS:,}")
    if not archive.count:
        raise EmptyArchiveError(f"{archive.folder} holds no records; index images into it first")
    with contextlib.closing(Link(address)) as link:
        source, known = LocalBackend(archive), find_pushed(link)
        pushed = describe(source, address, known, index)
        return _Push(source, link, known, pushed).run(rows, progress)


class _Push:
    def __init__(
        self, source: LocalBackend, link: Link, known: Pushed | None, pushed: Pushed
    ) -> None:
        self._source, self._link, self._known, self._pushed = source, link, known, pushed
        self._there: Sequence[str] = ()  # the collections that may hold records already
        self._started, self._starting = False, threading.Lock()

    def run(self, rows: int, progress: Progress) -> PushReport:
        link, known, pushed, n = self._link, self._known, self._pushed, len(self._source.records)
        report = PushReport(n)
        if known is None or known.state != COMPLETE:
            self._start()
        if known is not None:
            self._there = _catch_up(link, pushed)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for found in pool.map(self._bring, parts(self._source, rows)):
                report.added += len(found.missing)
                report.changed += len(found.different)
                report.removed += len(found.extra)
                report.same += found.records - len(found.missing) - len(found.different)
                progress("pushing", report.added + report.changed + report.same, n)
            if self._started:
                progress("indexing", 0, n)
                list(pool.map(self._finalize, pushed.collections))
                progress("indexing", n, n)
        if self._started and pushed.lists:
            pushed = replace(pushed, ann=measure_lists(link, self._source, pushed))
        pushed = replace(pushed, state=COMPLETE)
        if self._started or pushed != known:
            write_pushed(link, pushed)
        return report

    def _start(self) -> None:
        """Mark the collection as incomplete before anything in it changes."""
        with self._starting:
            if not self._started:
                write_pushed(self._link, self._pushed)
                for name in self._pushed.collections:
                    make_collection(self._link, self._pushed, name)
                self._started = True

    def _bring(self, part: Part) -> DiffReport:
        """Write what differs of a part to all collections, that of embeddings last."""
        link, pushed = self._link, self._pushed
        found = _compare(link, pushed, self._there, part)
        if not found.same:
            self._start()
        ids, row = [*found.missing, *found.different], 4 * pushed.width + max(map(len, part.texts))
        for some in _divided(ids, max(1, _BYTES_AT_ONCE // row)):
            for name, columns in part.columns(pushed, frozenset(some)):
                link.write(name, columns)
        for some in _divided(found.extra, ROWS):
            for name in pushed.collections:
                link.delete(name, one_of("id", some))
        return found

    def _finalize(self, name: str) -> None:
        """Wait until a collection is indexed and loaded, and count its records."""
        link, pushed, n = self._link, self._pushed, len(self._source.records)
        make_collection(link, pushed, name, wait=True)
        # Rows in segments that were growing when they were loaded use another index until a reload.
        link.load(name, again=bool(self._there and pushed.lists) and name == pushed.name)
        found = link.count(name, now=True)
        if found != n:
            raise ArchiveError(
                f"{link.address}: {name} holds {found} records instead of {n}: run the same "
                "command again, it compares them all"
            )


def _divided(ids: Sequence[str], step: int) -> Iterator[Sequence[str]]:
    return (ids[first : first + step] for first in range(0, len(ids), step))


def describe(
    source: LocalBackend, address: Address, known: Pushed | None = None, index: str | None = None
) -> Pushed:
    """Return the description that a push of an archive stores.

    Args:
        source: The archive.
        address: The collection.
        known: Its present description, if anything was pushed before.
        index: Index of embeddings; by default the present one, or the first of :data:`INDEXES`.

    Raises:
        ArchiveError: There are embeddings of another model.
        UsageError: The collection has another index.
    """
    manifest = source.archive.manifest
    about: dict[str, Any] = {
        "archive": manifest_text(manifest),
        "state": PUSHING,
        "source": shown(absolute(source.archive.folder)),
        "records": len(source.records),
        "version": source.archive.version,
        "carried": tuple(sorted(source.records.label_names)),
        "patterns": _patterns(source),
        "summary": source.summary(),
    }
    if manifest.label_names:
        about["fusion"] = measure_fusion(source.records, source.vectors, manifest.label_names)
    if known is not None:
        check_model(manifest, known.manifest, address)
        if index not in (None, known.index):
            raise UsageError(
                f"{address} has index {known.index}: push into another collection, as {address}_2"
            )
        return replace(known, **about)
    lists = list_count(len(source.records)) if index == "ivf" else 0
    hasher: Any = source.indexes.sketches.fitted()
    matrix = np.column_stack([hasher.mean, hasher.projection]).astype("<f8")
    projection = base64.b64encode(matrix.tobytes()).decode()
    return Pushed(name=address.collection, projection=projection, lists=lists, **about)


def check_model(ours: Manifest, theirs: Manifest, address: Address) -> None:
    """Check that a collection holds embeddings of an archive's model."""
    model = (ours.fingerprint, ours.dim, ours.n_bits, ours.label_names)
    if model != (theirs.fingerprint, theirs.dim, theirs.n_bits, theirs.label_names):
        raise ArchiveError(
            f"{address} holds embeddings of model {theirs.fingerprint[:12]} (dim {theirs.dim}, "
            f"{theirs.n_bits} bits, {len(theirs.label_names)} labels), the archive those of "
            f"{ours.fingerprint[:12]} (dim {ours.dim}, {ours.n_bits} bits, "
            f"{len(ours.label_names)} labels): push into another collection, as {address}_2"
        )


def _patterns(source: LocalBackend) -> tuple[str, ...]:
    """Return the sets of predicted labels that occur, or none if they are too many to visit."""
    if not source.archive.manifest.label_names:
        return ()
    found = np.unique(source.vectors.cue, axis=0)
    return tuple(one.tobytes().hex() for one in found) if len(found) <= MOST_PATTERNS else ()


def measure_lists(link: Link, source: LocalBackend, pushed: Pushed) -> AnnFacts:
    """Measure recall like an archive's own index, but the query records are part of the index."""
    embeddings, queries = source.vectors.embedding, held_out(len(source.records))
    vectors = np.pad(embeddings[queries], ((0, 0), (0, pushed.width - embeddings.shape[1])))

    def candidates(lists: int) -> list[npt.NDArray[np.int64]]:
        found = link.search(pushed.name, list(vectors), SHORTLIST + 1, nprobe=lists)
        rows = [[source.records.find(hit["id"]) for hit in hits] for hits in found]
        return [np.array([row for row in some if row is not None], np.int64) for some in rows]

    recall = recall_by_lists(embeddings, queries, MEASURED_K, pushed.lists, candidates)
    kind = f"IVF_FLAT,{pushed.lists}"
    return AnnFacts(kind, MEASURED_K, SHORTLIST, tuple(queries.tolist()), recall)
