"""Make a collection equal to an archive, and compare the two record by record."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.archive.archive import ArchiveFolder
from landcue.archive.manifest import Manifest
from landcue.data.objects import absolute, shown
from landcue.errors import ArchiveError, UsageError, did_you_mean
from landcue.milvus.link import Address, Link
from landcue.milvus.manifest import (
    COMPLETE,
    INDEXES,
    MOST_BYTES,
    PUSHING,
    ManifestStore,
    Pushed,
    read_pushed,
)
from landcue.milvus.rows import ROWS, SIDES, TEXTS, Part, Source
from landcue.search.exact import (
    MEASURED_K,
    SHORTLIST,
    AnnFacts,
    held_out,
    list_count,
    recall_by_lists,
)
from landcue.search.fusion import measure_fusion
from landcue.search.records import summarize
from landcue.search.vectors import Sketches

MOST_PATTERNS = 50_000
"""Most sets of predicted labels; with more, mode ``cue`` is not available."""

_AT_ONCE = 4
_MOST_LABELS = 4_096  # as many as an array of Milvus holds
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
    missing: list[str] = field(default_factory=lambda: list[str]())
    extra: list[str] = field(default_factory=lambda: list[str]())
    different: list[str] = field(default_factory=lambda: list[str]())

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
        source = Source(archive)
        report = DiffReport(len(source), pushed.state == COMPLETE)
        there = [name for name in pushed.collections if link.has(name)]
        _catch_up(link, there)
        for part in source.parts(ROWS):
            found = [_compare(link, name, part) for name in there]
            lacking = {id_ for one in found for id_ in one.missing}
            if len(there) < len(pushed.collections):
                lacking = set(part.stamps)
            report.missing += sorted(lacking)
            report.different += sorted({id_ for one in found for id_ in one.different} - lacking)
            report.extra += sorted({id_ for one in found for id_ in one.extra})
            progress(part.last, len(source))
        return report


def _compare(link: Link, name: str, part: Part) -> DiffReport:
    """Compare the checksums of some records of an archive with those of one collection."""
    stamps = part.stamps
    there = {r["id"]: r["stamp"] for page in link.pages(name, part.where, ["stamp"]) for r in page}
    return DiffReport(
        len(stamps),
        complete=True,
        missing=[id_ for id_ in stamps if id_ not in there],
        extra=[id_ for id_ in there if id_ not in stamps],
        different=[id_ for id_, stamp in stamps.items() if there.get(id_, stamp) != stamp],
    )


def _catch_up(link: Link, names: Sequence[str]) -> None:
    """Load collections so that what follows sees all that was written to them before."""
    for name in names:
        link.load(name)
        link.count(name, now=True)


@dataclass(slots=True)
class PushReport:
    """What a push did.

    Attributes:
        records: Records of the archive; the collection now holds all of them.
        added: Records that it did not hold.
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
        raise ArchiveError(f"{archive.folder} holds no records; index images into it first")
    with contextlib.closing(Link(address)) as link:
        return _Push(Source(archive), link, index, progress).run(rows)


class _Push:
    def __init__(self, source: Source, link: Link, index: str | None, progress: Progress) -> None:
        self._source, self._link, self._progress = source, link, progress
        self._store = ManifestStore(link)
        self._known = self._store.read()
        self._pushed = describe(source, link.address, self._known, index)
        self._there: Sequence[str] = ()  # the collections that may hold records already
        self._started, self._starting = False, threading.Lock()

    def run(self, rows: int) -> PushReport:
        total = Counter[str]()
        parts = self._source.parts(rows)
        if self._known is not None:
            self._there = [name for name in self._pushed.collections if self._link.has(name)]
            _catch_up(self._link, self._there)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                for last, found in pool.map(self._bring, parts):
                    total += found
                    self._progress("pushing", last, len(self._source))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self._finish()
        return PushReport(len(self._source), **total)

    def _bring(self, part: Part) -> tuple[int, Counter[str]]:
        """Write a part to all collections, the searched one last; count its records."""
        link, pushed = self._link, self._pushed
        row = 4 * pushed.width + max(map(len, part.texts))
        step = max(1, _BYTES_AT_ONCE // row)
        found = DiffReport(len(part.stamps), complete=True, missing=list(part.stamps))
        for name in pushed.collections:
            if name in self._there:
                found = _compare(link, name, part)
            if not found.same:
                self._start()
            for ids, new in ((found.missing, True), (found.different, False)):
                for first in range(0, len(ids), step):
                    some = ids[first : first + step]
                    link.write(name, part.entities(pushed, name, some), new=new)
            link.delete(name, found.extra)
        added, changed = len(found.missing), len(found.different)
        same = len(part.stamps) - added - changed
        counts = Counter(added=added, changed=changed, removed=len(found.extra), same=same)
        return part.last, counts

    def _start(self) -> None:
        """Mark the collection as incomplete before anything in it changes."""
        with self._starting:
            if not self._started:
                self._store.write(self._pushed)
                make_collections(self._link, self._pushed)
                if self._known is not None:
                    _catch_up(self._link, self._pushed.collections)
                    self._there = self._pushed.collections
                self._started = True

    def _finish(self) -> None:
        """Wait until the server has indexed everything, compare the counts, mark it as complete."""
        known, link, n, ann = self._known, self._link, len(self._source), self._pushed.ann
        if self._started or known is None or known.state != COMPLETE:
            self._start()
            names = self._pushed.collections
            with ThreadPoolExecutor(len(names)) as pool:
                counts = list(pool.map(self._finalize, names))
            for name, found in zip(names, counts, strict=True):
                if found != n:
                    raise ArchiveError(
                        f"{link.address}: {name} holds {found} records instead of {n}: run the "
                        "same command again, it compares them all"
                    )
            if self._pushed.index == "ivf":
                ann = measure_lists(link, self._source, self._pushed)
        elif replace(self._pushed, state=COMPLETE, revision=known.revision) == known:
            return
        self._store.write(self._pushed.renewed(state=COMPLETE, ann=ann))

    def _finalize(self, name: str) -> int:
        """Wait until a collection is indexed and loaded; return its records."""
        main, link = name == self._pushed.name, self._link

        def progress(done: int, total: int) -> None:
            if main:
                self._progress("indexing", done, total)

        link.finalize(name, progress)
        # Rows in segments that were growing when they were loaded use another index until a reload.
        link.load(name, again=main and self._pushed.index == "ivf" and self._known is not None)
        return link.count(name, now=True)


def describe(
    source: Source, address: Address, known: Pushed | None = None, index: str | None = None
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
    if known is not None:
        check_model(manifest, known.manifest, address)
    carried = sorted(source.records.label_names)
    before = known.names if known else ()
    about: dict[str, Any] = {
        "manifest": manifest,
        "state": PUSHING,
        "source": shown(absolute(source.archive.folder)),
        "records": len(source),
        "version": source.archive.version,
        # numbers that were assigned stay
        "names": tuple(dict.fromkeys((*before, *manifest.label_names, *carried))),
        "carried": tuple(carried),
        "patterns": _patterns(source),
        "summary": summarize(source.records),
    }
    if manifest.label_names:
        about["fusion"] = measure_fusion(source.records, source.vectors, manifest.label_names)
    if known is None:
        return Pushed(
            name=address.collection,
            sketcher=Sketches(source.vectors, manifest.dim).fitted(),
            index=index or INDEXES[0],
            lists=list_count(len(source)) if index == "ivf" else 0,
            **about,
        )
    if index not in (None, known.index):
        raise UsageError(
            f"{address} has index {known.index}: push into another collection, as {address}_2"
        )
    return known.renewed(**about)


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


def _patterns(source: Source) -> tuple[str, ...]:
    """Return the sets of predicted labels that occur, or none if they are too many to visit."""
    if not source.archive.manifest.label_names:
        return ()
    cue = np.ascontiguousarray(source.vectors.cue)
    found = np.unique(cue.view(f"V{cue.shape[1]}").ravel())
    return tuple(one.tobytes().hex() for one in found) if len(found) <= MOST_PATTERNS else ()


def make_collections(link: Link, pushed: Pushed) -> None:
    """Create the missing collections of records."""
    types, manifest = link.types, pushed.manifest
    width = len(manifest.label_names)

    def text(name: str, most: int = MOST_BYTES, **more: Any) -> dict[str, Any]:
        return {"field_name": name, "datatype": types.VARCHAR, "max_length": most, **more}

    def array(name: str, kind: Any, most: int) -> dict[str, Any]:
        about = {"datatype": types.ARRAY, "element_type": kind, "max_capacity": most}
        return {"field_name": name, **about}

    shared = [
        text("id", is_primary=True),
        text("stamp", 64),
        {"field_name": "known", "datatype": types.BOOL},
        array("labels", types.INT64, _MOST_LABELS),
        {"field_name": "time", "datatype": types.INT64},
        text("path"),
        *(text(name) for name in TEXTS),
        *({"field_name": side, "datatype": types.DOUBLE} for side in SIDES),
    ]
    if width:
        shared += [array("scores", types.FLOAT, width), text("cue", 2 * -(-width // 8))]
    for name in pushed.collections:
        if link.has(name):
            continue
        if name == pushed.name:
            vector: dict[str, Any] = {"datatype": types.FLOAT_VECTOR, "dim": pushed.width}
            fields = [
                *shared,
                text("record"),
                {"field_name": "embedding"} | vector,
            ]
            kind, parameters = "FLAT", dict[str, int]()
            if pushed.index == "ivf":
                kind, parameters = "IVF_FLAT", {"nlist": pushed.lists}
            link.create(name, fields, index_type=kind, metric_type="IP", params=parameters)
        else:
            is_code = name == pushed.code
            bits = manifest.n_bits if is_code else pushed.sketcher.n_bits
            vector = {"datatype": types.BINARY_VECTOR, "dim": -(-bits // 8) * 8}
            fields = [*shared, {"field_name": "code" if is_code else "sketch"} | vector]
            link.create(name, fields, index_type="BIN_FLAT", metric_type="HAMMING", params={})


def measure_lists(link: Link, source: Source, pushed: Pushed) -> AnnFacts:
    """Measure recall like an archive's own index, but the query records are part of the index."""
    embeddings, queries = source.vectors.embedding, held_out(len(source))
    nothing = np.zeros(pushed.width - embeddings.shape[1], np.float32)
    vectors = [np.concatenate([embeddings[row], nothing]) for row in queries]

    def candidates(lists: int) -> list[npt.NDArray[np.int64]]:
        found = link.search(pushed.name, vectors, SHORTLIST + 1, nprobe=lists)
        rows = [[source.records.find(hit["id"]) for hit in hits] for hits in found]
        return [np.array([row for row in some if row is not None], np.int64) for some in rows]

    recall = recall_by_lists(embeddings, queries, MEASURED_K, pushed.lists, candidates)
    kind = f"IVF_FLAT,{pushed.lists}"
    return AnnFacts(kind, MEASURED_K, SHORTLIST, tuple(queries.tolist()), recall)
