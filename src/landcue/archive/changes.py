"""Small changes to an archive: delete records, merge files; and the final step of every change."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from landcue import __version__
from landcue.archive import storage
from landcue.archive.archive import ArchiveFolder
from landcue.archive.checksums import (
    HOW_TO_RESTORE,
    Checksums,
    check_bound,
    damaged_files,
    start_cleaning,
    write_checksums,
)
from landcue.archive.layout import is_unread, remove_indexes, sweep, unfinished
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
    purge: bool = False,
) -> int:
    """Remove older versions unless a process reads them; store counts and checksums.

    Args:
        changed: Whether rows were written or removed.
        purge: Whether to write files again that still hold deleted rows, and to drop older
            versions in an object store, whose readers then fail.

    Returns:
        The number of records.
    """
    checksums = check_bound(folder, manifest)
    compacted = changed or not table.has_one_version()
    if compacted:
        if checksums is not None:
            check_table(folder, checksums, manifest.base)
        table.compact()
        if purge and _may_drop_older(folder, purge):
            table.rewrite_deleted()
        if _may_drop_older(folder, purge):
            start_cleaning(folder)
            table.drop_older()
            remove_indexes(folder)
    drop_hint(folder / manifest.base)
    count = table.count()
    if changed or count != manifest.records:
        manifest = replace(manifest, records=count, updated=now(), landcue=__version__)
        write_manifest(folder, manifest)
    if compacted or checksums is None or checksums.manifest != manifest_text(manifest):
        write_checksums(folder, manifest)
    sweep(folder, manifest.base, readers_end=purge and is_object(folder))
    return count


def _may_drop_older(folder: Path, purge: bool) -> bool:
    return is_unread(folder) or (purge and is_object(folder))


def check_table(folder: Path, checksums: Checksums, base: str) -> None:
    """Check the files before rows are rewritten: copies of damaged rows would look valid."""
    below = (Path(base) / TABLE_FOLDER).as_posix()
    for problem in damaged_files(folder, checksums, base, below):
        raise ArchiveError(f"{shown(folder / problem.where)} {problem.what}; {HOW_TO_RESTORE}")


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


def describe(folder: str | Path) -> dict[str, Any]:
    """Return the content, the model and the size of an archive as JSON values.

    Raises:
        ArchiveError: There is none, or it is broken.

    >>> describe(folder)["records"]
    4
    """
    folder = Path(folder)
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


@dataclass(frozen=True, slots=True)
class DeleteReport:
    """The result of a deletion, or its plan.

    Attributes:
        deleted: Number of removed records.
        missing: The ids that no record has: they are wrong, or were removed before.
        records: Number of remaining records.
    """

    deleted: int
    missing: tuple[str, ...]
    records: int


def delete(folder: str | Path, ids: Sequence[str], *, apply: bool = True) -> DeleteReport:
    """Remove records in one commit; after a crash all of them are gone, or none.

    The images stay, and the next ``landcue index`` would add them again. :func:`compact` removes
    the records from the disk.

    Args:
        ids: Ids of records. To remove them again is no error.
        apply: Whether to change anything; else only report.

    Raises:
        ArchiveError: The archive is missing, locked, broken or cannot be written.

    >>> delete(folder, ["a.png", "x.png"], apply=False).missing
    ('x.png',)
    """
    folder = Path(folder)
    read_manifest(folder)
    with storage.locked(folder, "writing to") if apply else contextlib.nullcontext():
        manifest, table = open_for_change(folder)
        known = set(table.read(["id"])["id"].to_pylist())
        wanted = dict.fromkeys(ids)
        missing = tuple(id_ for id_ in wanted if id_ not in known)
        chosen = [id_ for id_ in wanted if id_ in known]
        if apply:
            if chosen:
                table.delete(chosen)
            finalize(folder, manifest, table, changed=bool(chosen))
        return DeleteReport(len(chosen), missing, len(known) - len(chosen))


def compact(folder: str | Path) -> tuple[Size, Size]:
    """Merge small files, drop old versions, and remove deleted records from the disk.

    While a process reads an older version, it stays. In an object store they are dropped in any
    case: who opened an older version must open again.

    Returns:
        The size before and after.

    Raises:
        ArchiveError: The archive is missing, locked, broken or cannot be written.

    >>> before, after = compact(folder)
    >>> after.versions
    1
    """
    folder = Path(folder)
    read_manifest(folder)
    with storage.locked(folder, "writing to"):
        before = size_of(folder)
        manifest, table = open_for_change(folder)
        finalize(folder, manifest, table, changed=True, purge=True)
        return before, size_of(folder)


def size_of(folder: str | Path) -> Size:
    """Measure an archive.

    >>> size_of(folder).bytes > 0
    True
    """
    folder = Path(folder)
    base = folder / read_manifest(folder).base
    files = storage.listed(base / TABLE_FOLDER)
    total = sum(path.stat().st_size for path in storage.listed(folder).values())
    return Size(len(files), total, len(version_files(base)))


def open_for_change(folder: Path) -> tuple[Manifest, RecordTable]:
    """Open the latest version of a locked archive."""
    manifest = read_manifest(folder)
    check_bound(folder, manifest)
    table = RecordTable.open(folder / manifest.base, pinned=False)
    if table is None:
        raise ArchiveError(
            f"{shown(folder / manifest.base / TABLE_FOLDER)} is missing; {HOW_TO_RESTORE}"
        )
    return manifest, table
