"""Does a collection hold what an archive holds? Every record compared by its checksum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from landcue.archive.archive import Archive
from landcue.milvus.address import Address
from landcue.milvus.compare import compare, stamps_there
from landcue.milvus.link import Link, missing
from landcue.milvus.push import ROWS, check_model
from landcue.milvus.pushed import COMPLETE, ManifestStore
from landcue.milvus.rows import Local, Writer
from landcue.milvus.tiling import tiling


@dataclass(slots=True)
class DiffReport:
    """How a collection differs from an archive.

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
    archive: Archive,
    address: Address,
    *,
    tick: Callable[[int, int], None] = lambda _done, _total: None,
) -> DiffReport:
    """Compare all records of an archive with those of a collection.

    Args:
        archive: What it should hold.
        address: The collection.
        tick: Told how many records were compared, and of how many.

    Raises:
        ArchiveError: The server cannot be used, there is no collection, or it holds embeddings of
            another model.
    """
    link = Link(address)
    try:
        pushed = ManifestStore(link).read()
        if pushed is None:
            raise missing(address)
        check_model(archive.manifest, pushed.manifest, address)
        local = Local(archive)
        names = (*pushed.names, *(name for name in local.names if name not in pushed.names))
        writer = Writer(local, pushed.layout, names, pushed.sketcher)
        report = DiffReport(len(local), pushed.state == COMPLETE)
        there = [name for name in pushed.layout.names if link.has(name)]
        for name in there:
            link.load(name)
            link.count(name, now=True)  # what follows sees all that was written before
        # Without a record there is still one range: all ids, which are then extra.
        ids = local.records.ids()
        for where in tiling(ids or [""], {}, ROWS):
            part = writer.part(where.first, min(where.last, len(ids)))
            lacking: set[str] = set() if len(there) == len(pushed.layout.names) else set(part.ids)
            extra: set[str] = set()
            other: set[str] = set()
            for name in there:
                found = compare(part, stamps_there(link, name, where))
                lacking.update(part.ids[i] for i in found.missing)
                other.update(part.ids[i] for i in found.different)
                extra.update(found.extra)
            report.missing += sorted(lacking)
            report.different += sorted(other - lacking)
            report.extra += sorted(extra)
            tick(where.last, len(local))
        return report
    finally:
        link.close()
