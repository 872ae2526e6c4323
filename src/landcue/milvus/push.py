"""Write an archive into a collection: all of it, the rest of it, or what changed in it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from landcue.archive.archive import ArchiveFolder
from landcue.errors import ArchiveError, UsageError, did_you_mean
from landcue.milvus.address import Address
from landcue.milvus.layout import INDEXES
from landcue.milvus.link import Link
from landcue.milvus.lists import measure_lists
from landcue.milvus.local import Local
from landcue.milvus.notes import Notes
from landcue.milvus.planning import planned
from landcue.milvus.pushed import COMPLETE
from landcue.milvus.rows import Writer, make_collections
from landcue.milvus.tiling import Differences, Range, Tile, compare, tiling

ROWS = 4_096
"""Records written and noted at a time."""

_AT_ONCE = 4
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
    archive: ArchiveFolder,
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
    with contextlib.closing(Link(address)) as link:
        return _Push(Local(archive), link, index, tick).run(rows)


class _Push:
    def __init__(self, local: Local, link: Link, index: str | None, tick: Tick) -> None:
        self._local, self._link, self._tick = local, link, tick
        self._notes = Notes(link)
        self._known = self._notes.read()
        self._pushed = planned(local, link.address, self._known, index)
        self._tiles = {} if self._known is None else self._notes.tiles()
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
                    self._tick("pushing", done, len(self._local))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self._finish([low for low in self._tiles if low not in {where.low for where in ranges}])
        return PushReport(len(self._local), **total)

    def _bring(self, where: Range) -> Counter[str]:
        """Make all collections hold a range, the one that searches look at last; count records."""
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
            self._notes.note(tile)
        return Counter(
            added=len(differ.missing), changed=len(differ.different), removed=len(differ.extra)
        )

    def _begin(self) -> None:
        """Note that the collection is in between, before anything in it changes."""
        with self._starting:
            if not self._ready:
                self._notes.write(self._pushed)
                make_collections(self._link, self._layout)
                if self._known is not None:
                    self._link.catch_up(self._layout.names)
                self._ready = True

    def _finish(self, gone: list[str]) -> None:
        """Wait until the server has indexed everything, compare the counts, and say so."""
        known, layout, link, n = self._known, self._layout, self._link, len(self._local)
        ann = self._pushed.ann
        if self._ready or known is None or known.state != COMPLETE:
            self._begin()
            with ThreadPoolExecutor(len(layout.names)) as pool:
                counts = list(pool.map(self._settle, layout.names))
            for name, found in zip(layout.names, counts, strict=True):
                if found != n:
                    self._notes.forget_checksums(list(self._notes.tiles()))
                    raise ArchiveError(
                        f"{link.address}: {name} holds {found} records instead of {n}: run the "
                        "same command again, it compares them all"
                    )
            self._notes.forget_checksums(gone)
            if layout.index == "ivf":
                ann = measure_lists(link, self._local, layout)
        elif replace(self._pushed, state=COMPLETE, revision=known.revision) == known:
            return
        self._notes.write(self._pushed.renewed(state=COMPLETE, ann=ann))

    def _settle(self, name: str) -> int:
        """Wait until a collection is indexed and loaded; return its records."""
        link, main = self._link, name == self._layout.name

        def tick(done: int, total: int) -> None:
            if main:
                self._tick("indexing", done, total)

        link.finalize(name, tick)
        # Rows that were not sealed when they were loaded are looked at through another index.
        link.load(name, again=main and self._layout.index == "ivf" and self._known is not None)
        return link.count(name, now=True)
