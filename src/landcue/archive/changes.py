"""Small changes to an archive: delete records, merge files; and the final step of every change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from landcue import __version__
from landcue.archive import storage
from landcue.archive.archive import ArchiveFolder, unknown_id
from landcue.archive.checksums import (
    HOW_TO_RESTORE,
    Checksums,
    damaged_files,
    read_checksums,
    start_cleaning,
    write_checksums,
)
from landcue.archive.layout import sweep, unfinished, unread
from landcue.archive.manifest import (
    FORMAT,
    Manifest,
    manifest_text,
    now,
    read_manifest,
    write_manifest,
)
from landcue.archive.table import TABLE_FOLDER, RecordTable, drop_hint, version_files
from landcue.data.objects import is_object, shown
from landcue.errors import ArchiveError


def finalize(
    folder: Path,
    manifest: Manifest,
    table: RecordTable,
    *,
    changed: bool,
    readers_end: bool = False,
) -> int:
    """Remove older versions unless a process reads them; store counts and checksums.

    Args:
        folder: The archive, locked.
        manifest: Of the archive.
        table: Its table.
        changed: Whether rows were written or removed.
        readers_end: Whether to remove older versions in any case: readers of them fail.

    Returns:
        The number of records.

    Raises:
        ArchiveError: A file is damaged, or the folder cannot be written. The rows are safe.
    """
    checksums = _known(folder)
    compacted = changed or not table.has_one_version()
    if compacted:
        if checksums is not None:
            check_table(folder, checksums, manifest.base)
        with unread(folder) as alone:
            if alone or readers_end:
                start_cleaning(folder)
            table.compact(drop_old=alone or readers_end)
    drop_hint(folder / manifest.base)
    count = table.count()
    if changed or count != manifest.records:
        manifest = replace(manifest, records=count, updated=now(), landcue=__version__)
        write_manifest(folder, manifest)
    if compacted or checksums is None or checksums.manifest != manifest_text(manifest):
        write_checksums(folder, manifest)
    sweep(folder, manifest.base, readers_end=readers_end)
    return count


def check_table(folder: Path, checksums: Checksums, base: str) -> None:
    """Check the files before rows are rewritten: copies of damaged rows would look valid.

    Raises:
        ArchiveError: Names the first damaged file.
    """
    below = (Path(base) / TABLE_FOLDER).as_posix()
    for problem in damaged_files(folder, checksums, base, below):
        raise ArchiveError(f"{shown(folder / problem.where)} {problem.what}; {HOW_TO_RESTORE}")


def _known(folder: Path) -> Checksums | None:
    try:
        return read_checksums(folder)
    except ArchiveError:
        return None


@dataclass(frozen=True, slots=True)
class Size:
    """Size of an archive on disk.

    Attributes:
        files: Number of files of its table.
        bytes: Size of its folder in bytes.
        versions: Number of readable versions of its table.
    """

    files: int
    bytes: int
    versions: int


def describe(folder: Path) -> dict[str, Any]:
    """Return the content, the model and the size of an archive as JSON values.

    Raises:
        ArchiveError: There is none, or it is broken.
    """
    opened, size = ArchiveFolder.open(folder), size_of(folder)
    return {
        "archive": shown(folder),
        "format": FORMAT,
        "records": opened.count,
        **opened.manifest.facts(),
        "version": opened.version,
        "versions": size.versions,
        "files": size.files,
        "bytes": size.bytes,
        "unfinished": unfinished(folder, opened.manifest),
    }


def delete(folder: Path, ids: Sequence[str]) -> int:
    """Remove records. The images stay, and the next ``landcue index`` would add them again.

    Returns:
        The number of remaining records.

    Raises:
        UsageError: No record has one of the ids; nothing was removed.
        ArchiveError: The archive is missing, locked, broken or cannot be written.
    """
    read_manifest(folder)
    with storage.locked(folder, "writing to"):
        manifest, table = open_for_change(folder)
        _check_known(table, ids)
        table.delete(ids)
        return finalize(folder, manifest, table, changed=bool(ids))


def count_known(folder: Path, ids: Sequence[str]) -> int:
    """Return the number of records; check that all ids exist.

    Raises:
        UsageError: No record has one of the ids.
        ArchiveError: The archive is missing or broken.
    """
    _, table = open_for_change(folder)
    return _check_known(table, ids)


def compact(folder: Path) -> tuple[Size, Size]:
    """Merge small files and drop old versions, unless a process reads them.

    In an object store they are dropped in any case: who opened an older version must open again.

    Returns:
        The size before and after.

    Raises:
        ArchiveError: The archive is missing, locked, broken or cannot be written.
    """
    read_manifest(folder)
    with storage.locked(folder, "writing to"):
        before = size_of(folder)
        manifest, table = open_for_change(folder)
        finalize(folder, manifest, table, changed=True, readers_end=is_object(folder))
        return before, size_of(folder)


def size_of(folder: Path) -> Size:
    """Measure an archive."""
    base = folder / read_manifest(folder).base
    files = storage.listed(base / TABLE_FOLDER)
    total = sum(path.stat().st_size for path in storage.listed(folder).values())
    return Size(len(files), total, len(version_files(base)))


def open_for_change(folder: Path) -> tuple[Manifest, RecordTable]:
    """Open the latest version of a locked archive.

    Raises:
        ArchiveError: It has no table.
    """
    manifest = read_manifest(folder)
    table = RecordTable.open(folder / manifest.base, pinned=False)
    if table is None:
        raise ArchiveError(
            f"{shown(folder / manifest.base / TABLE_FOLDER)} is missing; {HOW_TO_RESTORE}"
        )
    return manifest, table


def _check_known(table: RecordTable, ids: Sequence[str]) -> int:
    known = table.read(["id"])["id"].to_pylist()
    unknown = set(ids) - set(known)
    if unknown:
        raise unknown_id(min(unknown), sorted(known))
    return len(known)
