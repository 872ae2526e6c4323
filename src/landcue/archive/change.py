"""Small changes to an archive: delete records, tidy it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from landcue.archive.archive import unknown_id
from landcue.archive.bases import sweep
from landcue.archive.manifest import Manifest, read_manifest
from landcue.archive.seal import MEND
from landcue.archive.settle import settle
from landcue.archive.table import TABLE_FOLDER, RecordTable, version_files
from landcue.errors import ArchiveError
from landcue.files import exclusive


@dataclass(frozen=True, slots=True)
class Size:
    """How an archive lies on disk.

    Attributes:
        files: Of its table.
        bytes: Of its folder, all of it.
        versions: Of its table, that can still be read.
    """

    files: int
    bytes: int
    versions: int


def delete(folder: Path, ids: Sequence[str]) -> int:
    """Remove records. The images stay, and the next ``landcue index`` would add them again.

    Returns:
        How many records are left.

    Raises:
        UsageError: No record has one of the ids; nothing was removed.
        ArchiveError: The archive is missing, locked, broken or cannot be written.
    """
    read_manifest(folder)
    with exclusive(folder, ArchiveError, "writing to"):
        manifest, table = open_for_change(folder)
        _check_known(table, ids)
        table.delete(ids)
        return settle(folder, manifest, table, changed=bool(ids))


def count_known(folder: Path, ids: Sequence[str]) -> int:
    """Return how many records there are, if all ids are among them.

    Raises:
        UsageError: No record has one of the ids.
        ArchiveError: The archive is missing or broken.
    """
    _, table = open_for_change(folder)
    return _check_known(table, ids)


def compact(folder: Path) -> tuple[Size, Size]:
    """Merge small files and drop old versions, unless somebody reads them.

    Returns:
        The size before and after.

    Raises:
        ArchiveError: The archive is missing, locked, broken or cannot be written.
    """
    read_manifest(folder)
    with exclusive(folder, ArchiveError, "writing to"):
        before = size_of(folder)
        manifest, table = open_for_change(folder)
        settle(folder, manifest, table, changed=True)
        sweep(folder, manifest.base)
        return before, size_of(folder)


def size_of(folder: Path) -> Size:
    """Measure an archive."""
    base = folder / read_manifest(folder).base
    files = [path for path in (base / TABLE_FOLDER).rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Size(len(files), total, len(version_files(base)))


def open_for_change(folder: Path) -> tuple[Manifest, RecordTable]:
    """Open the latest version of a locked archive.

    Raises:
        ArchiveError: It has no table.
    """
    manifest = read_manifest(folder)
    table = RecordTable.open(folder / manifest.base, pinned=False)
    if table is None:
        raise ArchiveError(f"{folder / manifest.base / TABLE_FOLDER} is missing; {MEND}")
    return manifest, table


def _check_known(table: RecordTable, ids: Sequence[str]) -> int:
    known = table.read(["id"])["id"].to_pylist()
    unknown = set(ids) - set(known)
    if unknown:
        raise unknown_id(min(unknown), sorted(known))
    return len(known)
