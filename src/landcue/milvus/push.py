"""Write an archive into a collection: all of it, the rest of it, or what changed in it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from landcue.archive.archive import Archive
from landcue.archive.manifest import Manifest
from landcue.errors import ArchiveError, UsageError, did_you_mean
from landcue.milvus.address import Address
from landcue.milvus.compare import Differences, compare, stamps_there
from landcue.milvus.layout import INDEXES, Layout, Room, make_collections
from landcue.milvus.link import Link
from landcue.milvus.lists import list_count, measure_lists
from landcue.milvus.pushed import COMPLETE, PUSHING, ManifestStore, Pushed, Tile
from landcue.milvus.rows import Local, Part, Writer
from landcue.milvus.summary import summarize
from landcue.milvus.tiling import Range, tiling
from landcue.search.sketch import MOST_BITS

ROWS = 4_096
"""Records written and noted at a time."""

MOST_PATTERNS = 50_000
"""Sets of predicted labels; with more, mode ``cue`` is refused."""

_AT_ONCE = 3
_BYTES_AT_ONCE = 16 << 20

Tick = Callable[[str, int, int], None]


@dataclass(slots=True)
class PushReport:
    """What a push did.

    Attributes:
        records: Of the archive, all of which the collection now holds.
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
    archive: Archive,
    address: Address,
    *,
    index: str | None = None,
    rows: int = ROWS,
    tick: Tick = lambda _stage, _done, _total: None,
) -> PushReport:
    """Make a collection hold what an archive holds, and wait until it can be searched.

    It may be stopped at any moment, ``kill -9`` included: the same call goes on, and nothing is
    lost or held twice. Only one push at a time may write a collection.

    Args:
        archive: What is written.
        address: Where to.
        index: Of embeddings: ``flat`` (the default) or ``ivf``, when the collection is made.
        rows: Records of a batch.
        tick: Told the stage, what is done, and how much there is.

    Raises:
        ArchiveError: The archive is empty; the server cannot be used; the collection holds
            embeddings of another model, or has too little room for a value.
        UsageError: An unknown index, another than the collection has, or batches too large.
    """
    if index is not None and index not in INDEXES:
        raise UsageError(f"unknown index {index!r}{did_you_mean(index, INDEXES)}")
    if not 1 <= rows <= ROWS:
        raise UsageError(f"{rows} records at a time: give 1 to {ROWS:,}")
    if not archive.count:
        raise ArchiveError(f"{archive.folder} holds no records; index images into it first")
    link = Link(address)
    try:
        return _Push(Local(archive), link, index, tick).run(rows)
    finally:
        link.close()


class _Push:
    def __init__(self, local: Local, link: Link, index: str | None, tick: Tick) -> None:
        self._local, self._link, self._index, self._tick = local, link, index, tick
        self._report = PushReport(len(local))
        self._counting = threading.Lock()
        self._store = ManifestStore(link)
        self._known = self._store.read()
        self._pushed = self._planned()
        layout = self._pushed.layout
        self._writer = Writer(local, layout, self._pushed.names, self._pushed.sketcher)
        self._at_once = max(1, _BYTES_AT_ONCE // (4 * layout.dim + layout.room.record))
        self._ready = False

    def run(self, rows: int) -> PushReport:
        tiles = {} if self._known is None else self._store.tiles()
        ranges = tiling(self._local.records.ids(), tiles, rows)
        done, total = 0, len(self._local)
        waiting: deque[tuple[int, Future[None]]] = deque()

        def wait(most: int) -> int:
            finished = 0
            while len(waiting) > most:
                n, future = waiting.popleft()
                future.result()
                finished += n
            return finished

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                for where in ranges:
                    part = self._writer.part(where.first, where.last)
                    tile = Tile.of(where.low, part.ids, part.stamps)
                    if tiles.get(where.low) == tile:
                        self._report.same += tile.rows
                        done += tile.rows
                    else:
                        self._begin()
                        waiting.append((tile.rows, pool.submit(self._write, part, where, tile)))
                        done += wait(_AT_ONCE)
                    self._tick("pushing", done, total)
                done += wait(0)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self._tick("pushing", done, total)
        self._finish([low for low in tiles if low not in {where.low for where in ranges}])
        return self._report

    def _planned(self) -> Pushed:
        """Return what the collection will know of itself."""
        local, manifest, known = self._local, self._local.manifest, self._known
        if known is not None:
            self._check(known, local.longest())
        names = known.names if known else ()
        about: dict[str, Any] = {
            "manifest": manifest,
            "state": PUSHING,
            "source": str(local.archive.folder.resolve()),
            "records": len(local),
            "version": local.archive.version,
            "names": (*names, *(name for name in local.names if name not in names)),
            "carried": tuple(sorted(local.records.label_names)),
            "patterns": _patterns(local),
            "summary": summarize(local.records),
        }
        if known is not None:
            return known.renewed(**about)
        layout = planned_layout(local, self._link.address.collection, self._index)
        return Pushed(layout=layout, sketcher=local.sketcher(), **about)

    def _check(self, known: Pushed, longest: dict[str, int]) -> None:
        """Refuse another model, another index, and values that have no room."""
        address = self._link.address
        another = f"push into another collection, as {address}_2"
        check_model(self._local.manifest, known.manifest, address)
        if self._index not in (None, known.layout.index):
            raise UsageError(f"{address} has index {known.layout.index}: {another}")
        tight = known.layout.room.fits(longest)
        if tight is not None:
            raise ArchiveError(
                f"the longest {tight} takes {longest[tight]:,}, {address} was made for "
                f"{getattr(known.layout.room, tight):,}: {another}"
            )

    def _begin(self) -> None:
        """Note that the collection is in between, before anything in it changes."""
        if self._ready:
            return
        self._store.write(self._pushed)
        make_collections(self._link, self._pushed.layout)
        if self._known is not None:
            for name in self._pushed.layout.names:
                self._link.load(name)
                self._link.count(name, now=True)  # what follows sees all that was written before
        self._ready = True

    def _write(self, part: Part, where: Range, tile: Tile) -> None:
        """Make all collections hold a range, the one that searches look at last."""
        layout, link = self._pushed.layout, self._link
        for name in layout.names:
            differ = Differences(tuple(range(len(part.ids))), (), ())
            if self._known is not None:
                differ = compare(part, stamps_there(link, name, where))
            for write, chosen in ((link.insert, differ.missing), (link.upsert, differ.different)):
                for first in range(0, len(chosen), self._at_once):
                    some = chosen[first : first + self._at_once]
                    write(name, self._writer.columns(part, name, some))
            link.delete(name, differ.extra)
            if name == layout.name:
                with self._counting:
                    self._report.added += len(differ.missing)
                    self._report.changed += len(differ.different)
                    self._report.removed += len(differ.extra)
        if tile.rows:
            self._store.note(tile)

    def _finish(self, gone: list[str]) -> None:
        """Wait until the server has indexed everything, compare the counts, and say so."""
        known, layout, link = self._known, self._pushed.layout, self._link
        complete = known is not None and known.state == COMPLETE
        ann = self._pushed.ann
        if self._ready or not complete:
            self._begin()
            with ThreadPoolExecutor(len(layout.names)) as pool:
                counts = list(pool.map(self._settle, layout.names))
            for name, found in zip(layout.names, counts, strict=True):
                if found != len(self._local):
                    self._store.forget(list(self._store.tiles()))
                    raise ArchiveError(
                        f"{link.address}: {name} holds {found} records instead of "
                        f"{len(self._local)}: run the same command again, it compares them all"
                    )
            self._store.forget(gone)
            if layout.index == "ivf":
                ann = measure_lists(link, self._local, layout)
        elif not _told_anew(known, self._pushed):
            return
        self._store.write(self._pushed.renewed(state=COMPLETE, ann=ann))

    def _settle(self, name: str) -> int:
        """Wait until a collection is indexed and loaded; return its records."""
        link, layout = self._link, self._pushed.layout
        main = name == layout.name

        def tick(done: int, total: int) -> None:
            if main:
                self._tick("indexing", done, total)

        link.settle(name, tick)
        # Rows that were not sealed when they were loaded are looked at through another index.
        link.load(name, again=main and layout.index == "ivf" and self._known is not None)
        return link.count(name, now=True)


def planned_layout(local: Local, name: str, index: str | None = None) -> Layout:
    """Return the collections that a first push makes for an archive.

    Raises:
        ArchiveError: A value is longer than Milvus allows.
    """
    manifest, index = local.manifest, index or INDEXES[0]
    return Layout(
        name=name,
        dim=manifest.dim,
        n_bits=manifest.n_bits,
        n_labels=len(manifest.label_names),
        sketch_bits=min(MOST_BITS, max(8, manifest.dim // 8 * 8)),
        index=index,
        lists=list_count(len(local)) if index == "ivf" else 0,
        room=Room.of(local.longest()),
    )


def check_model(ours: Manifest, theirs: Manifest, address: Address) -> None:
    """Refuse a collection that holds embeddings of another model than an archive's.

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


def _told_anew(known: Pushed | None, pushed: Pushed) -> bool:
    names = ("manifest", "source", "records", "version", "names", "carried", "patterns", "summary")
    return any(getattr(known, name) != getattr(pushed, name) for name in names)


def _patterns(local: Local) -> tuple[str, ...]:
    """Return the sets of predicted labels that occur, as packed bits in hex.

    None are returned where there are more than a search by cue could look through.
    """
    if not local.manifest.label_names:
        return ()
    cue = np.ascontiguousarray(local.vectors.cue)
    found = np.unique(cue.view(f"V{cue.shape[1]}").ravel())
    if len(found) > MOST_PATTERNS:
        return ()
    return tuple(value.tobytes().hex() for value in found)
