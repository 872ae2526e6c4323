"""Compare a collection with an archive, record by record, by checksum."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from landcue.archive.archive import ArchiveFolder
from landcue.milvus.address import Address
from landcue.milvus.link import Link
from landcue.milvus.manifest import COMPLETE, read_pushed
from landcue.milvus.push import ROWS, check_model
from landcue.milvus.source import PushSource
from landcue.milvus.tiling import compare, tiling


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
    archive: ArchiveFolder,
    address: Address,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> DiffReport:
    """Compare all records of an archive with those of a collection.

    Args:
        archive: The expected content.
        address: The collection.
        progress: Called with the number of compared records and their total.

    Raises:
        ArchiveError: The server cannot be used, there is no collection, or it holds embeddings of
            another model.
    """
    with contextlib.closing(Link(address)) as link:
        pushed = read_pushed(link)
        check_model(archive.manifest, pushed.manifest, address)
        local = PushSource(archive)
        report = DiffReport(len(local), pushed.state == COMPLETE)
        names = [name for name in pushed.layout.names if link.has(name)]
        link.catch_up(names)
        # Without a record there is still one range: all ids, which are then extra.
        ids = local.records.ids()
        for where in tiling(ids or [""], {}, ROWS):
            stamps = local.part(where).stamps
            found = [compare(link, name, where, stamps) for name in names]
            lacking = {id_ for one in found for id_ in one.missing}
            if len(names) < len(pushed.layout.names):
                lacking = set(stamps)
            report.missing += sorted(lacking)
            report.different += sorted({id_ for one in found for id_ in one.different} - lacking)
            report.extra += sorted({id_ for one in found for id_ in one.extra})
            progress(where.last, len(local))
        return report
