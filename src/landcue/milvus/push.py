"""The recall of an approximate index on the server, measured at the push."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.archive.archive import ArchiveFolder
from landcue.archive.manifest import Manifest
from landcue.errors import ArchiveError, UsageError, did_you_mean
from landcue.milvus.address import Address
from landcue.milvus.layout import INDEXES, FieldLimits, Layout
from landcue.milvus.link import Link
from landcue.milvus.manifest import COMPLETE, PUSHING, ManifestStore, Pushed
from landcue.milvus.rows import Writer, make_collections
from landcue.milvus.source import PushSource
from landcue.milvus.tiling import Differences, Range, Tile, compare, tiling
from landcue.search.ann import (
    MEASURED_K,
    SHORTLIST,
    AnnFacts,
    held_out,
    list_count,
    recall_by_lists,
)
from landcue.search.sketch import Sketches
from landcue.search.summary import summarize


def measure_lists(link: Link, local: PushSource, layout: Layout) -> AnnFacts:
    """Measure recall like an archive's own index, but the query records are part of the index."""
    embeddings, queries = local.vectors.embedding, held_out(len(local))
    vectors = [np.array(embeddings[row]) for row in queries]

    def candidates(lists: int) -> list[npt.NDArray[np.int64]]:
        found = link.search(layout.name, vectors, SHORTLIST + 1, parameters={"nprobe": lists})
        rows = [[local.records.find(hit["id"]) for hit in hits] for hits in found]
        return [np.array([row for row in some if row is not None], np.int64) for some in rows]

    recall = recall_by_lists(embeddings, queries, MEASURED_K, layout.lists, candidates)
    kind = f"IVF_FLAT,{layout.lists}"
    return AnnFacts(kind, MEASURED_K, SHORTLIST, tuple(queries.tolist()), recall)


MOST_PATTERNS = 50_000
"""Most sets of predicted labels; with more, mode ``cue`` is not available."""


def planned(
    local: PushSource, address: Address, known: Pushed | None = None, index: str | None = None
) -> Pushed:
    """Return the description that a push of an archive stores.

    Args:
        local: The archive.
        address: The collection.
        known: Its present description, if anything was pushed before.
        index: Index of embeddings; by default the present one, or the first of :data:`INDEXES`.

    Raises:
        ArchiveError: There are embeddings of another model, or a value is too long for the
            collection or for Milvus.
        UsageError: The collection has another index.
    """
    manifest, longest = local.manifest, local.longest()
    if known is not None:
        check_model(manifest, known.manifest, address)
        _check_layout(known.layout, address, index, longest)
    names = known.names if known else ()
    ours = (*manifest.label_names, *sorted(local.records.label_names))
    about: dict[str, Any] = {
        "manifest": manifest,
        "state": PUSHING,
        "source": str(local.archive.folder.resolve()),
        "records": len(local),
        "version": local.archive.version,
        "names": tuple(dict.fromkeys((*names, *ours))),  # numbers that were assigned stay
        "carried": tuple(sorted(local.records.label_names)),
        "patterns": _patterns(local),
        "summary": summarize(local.records),
    }
    if known is not None:
        return known.renewed(**about)
    sketcher = Sketches(local.vectors, manifest.dim).fitted()
    layout = Layout(
        name=address.collection,
        dim=manifest.dim,
        n_bits=manifest.n_bits,
        n_labels=len(manifest.label_names),
        sketch_bits=sketcher.n_bits,
        index=index or INDEXES[0],
        lists=list_count(len(local)) if index == "ivf" else 0,
        room=FieldLimits.of(longest),
    )
    return Pushed(layout=layout, sketcher=sketcher, **about)


def check_model(ours: Manifest, theirs: Manifest, address: Address) -> None:
    """Check that a collection holds embeddings of an archive's model.

    Raises:
        ArchiveError: Fingerprint, dimensions, bits or label names differ.
    """
    model = (ours.fingerprint, ours.dim, ours.n_bits, ours.label_names)
    if model != (theirs.fingerprint, theirs.dim, theirs.n_bits, theirs.label_names):
        raise ArchiveError(
            f"{address} holds embeddings of model {theirs.fingerprint[:12]} (dim {theirs.dim}, "
            f"{theirs.n_bits} bits, {len(theirs.label_names)} labels), the archive those of "
            f"{ours.fingerprint[:12]} (dim {ours.dim}, {ours.n_bits} bits, "
            f"{len(ours.label_names)} labels): push into another collection, as {address}_2"
        )


def _check_layout(
    layout: Layout, address: Address, index: str | None, longest: dict[str, int]
) -> None:
    another = f"push into another collection, as {address}_2"
    if index not in (None, layout.index):
        raise UsageError(f"{address} has index {layout.index}: {another}")
    tight = layout.room.fits(longest)
    if tight is not None:
        raise ArchiveError(
            f"the longest {tight} takes {longest[tight]:,}, {address} was made for "
            f"{getattr(layout.room, tight):,}: {another}"
        )


def _patterns(local: PushSource) -> tuple[str, ...]:
    """Return the sets of predicted labels that occur, as packed bits in hex.

    Returns none if there are more than a search in mode cue can visit.
    """
    if not local.manifest.label_names:
        return ()
    cue = np.ascontiguousarray(local.vectors.cue)
    found = np.unique(cue.view(f"V{cue.shape[1]}").ravel())
    if len(found) > MOST_PATTERNS:
        return ()
    return tuple(value.tobytes().hex() for value in found)


ROWS = 4_096
"""Records that are written and marked as written at a time."""

_AT_ONCE = 4
_BYTES_AT_ONCE = 16 << 20

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class PushReport:
    """What a push did.

    Attributes:
        records: Records of the archive; the collection now holds all of them.
        added: Records that it did not hold.
        changed: Records that it held with other values.
        removed: Records that the archive does not hold any more.
        same: Records in ranges of ids that were known to be equal.
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
            embeddings of another model, or a value is too long for its fields.
        UsageError: An unknown index, another than the collection has, or batches too large.
    """
    if index is not None and index not in INDEXES:
        raise UsageError(f"unknown index {index!r}{did_you_mean(index, INDEXES)}")
    if not 1 <= rows <= ROWS:
        raise UsageError(f"{rows} records per batch: use 1 to {ROWS:,}")
    if not archive.count:
        raise ArchiveError(f"{archive.folder} holds no records; index images into it first")
    with contextlib.closing(Link(address)) as link:
        return _Push(PushSource(archive), link, index, progress).run(rows)


class _Push:
    def __init__(
        self, local: PushSource, link: Link, index: str | None, progress: Progress
    ) -> None:
        self._local, self._link, self._progress = local, link, progress
        self._store = ManifestStore(link)
        self._known = self._store.read()
        self._pushed = planned(local, link.address, self._known, index)
        self._tiles = {} if self._known is None else self._store.tiles()
        self._layout = self._pushed.layout
        self._writer = Writer(local, self._pushed)
        self._at_once = max(1, _BYTES_AT_ONCE // (4 * self._layout.dim + self._layout.room.record))
        self._ready, self._starting = False, threading.Lock()

    def run(self, rows: int) -> PushReport:
        ranges = tiling(self._local.records.ids(), self._tiles, rows)
        total, done = Counter[str](), 0
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                for where, found in zip(ranges, pool.map(self._bring, ranges), strict=True):
                    total += found
                    done += where.last - where.first
                    self._progress("pushing", done, len(self._local))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self._finish([low for low in self._tiles if low not in {where.low for where in ranges}])
        return PushReport(len(self._local), **total)

    def _bring(self, where: Range) -> Counter[str]:
        """Write a range to all collections, the searched one last; count its records."""
        layout, link = self._layout, self._link
        part = self._local.part(where)
        tile = Tile.of(where.low, part.stamps)
        if self._tiles.get(where.low) == tile:
            return Counter(same=tile.rows)
        self._begin()
        differ = Differences(missing=tuple(part.stamps))
        for name in layout.names:
            if self._known is not None:
                differ = compare(link, name, where, part.stamps)
            for write, ids in ((link.insert, differ.missing), (link.upsert, differ.different)):
                for first in range(0, len(ids), self._at_once):
                    some = ids[first : first + self._at_once]
                    write(name, self._writer.columns(part, name, some))
            if differ.extra:
                link.delete(name, differ.extra)
        if tile.rows:
            self._store.put_tile(tile)
        return Counter(
            added=len(differ.missing), changed=len(differ.different), removed=len(differ.extra)
        )

    def _begin(self) -> None:
        """Mark the collection as incomplete before anything in it changes."""
        with self._starting:
            if not self._ready:
                self._store.write(self._pushed)
                make_collections(self._link, self._layout)
                if self._known is not None:
                    self._link.catch_up(self._layout.names)
                self._ready = True

    def _finish(self, gone: list[str]) -> None:
        """Wait until the server has indexed everything, compare the counts, mark it as complete."""
        known, layout, link, n = self._known, self._layout, self._link, len(self._local)
        ann = self._pushed.ann
        if self._ready or known is None or known.state != COMPLETE:
            self._begin()
            with ThreadPoolExecutor(len(layout.names)) as pool:
                counts = list(pool.map(self._finalize, layout.names))
            for name, found in zip(layout.names, counts, strict=True):
                if found != n:
                    self._store.forget_checksums(list(self._store.tiles()))
                    raise ArchiveError(
                        f"{link.address}: {name} holds {found} records instead of {n}: run the "
                        "same command again, it compares them all"
                    )
            self._store.forget_checksums(gone)
            if layout.index == "ivf":
                ann = measure_lists(link, self._local, layout)
        elif replace(self._pushed, state=COMPLETE, revision=known.revision) == known:
            return
        self._store.write(self._pushed.renewed(state=COMPLETE, ann=ann))

    def _finalize(self, name: str) -> int:
        """Wait until a collection is indexed and loaded; return its records."""
        link, main = self._link, name == self._layout.name

        def progress(done: int, total: int) -> None:
            if main:
                self._progress("indexing", done, total)

        link.finalize(name, progress)
        # Rows in segments that were growing when they were loaded use another index until a reload.
        link.load(name, again=main and self._layout.index == "ivf" and self._known is not None)
        return link.count(name, now=True)
