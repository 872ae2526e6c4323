"""Verify an archive: compare every file and every row with its checksum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from landcue.archive import storage
from landcue.archive.checksums import (
    CHECKSUMS,
    Checksums,
    archive_files,
    damaged_files,
    damaged_indexes,
    read_checksums,
)
from landcue.archive.layout import ReaderMark
from landcue.archive.manifest import (
    MANIFEST,
    Manifest,
    manifest_text,
    parse_manifest,
    read_manifest,
)
from landcue.archive.schema import METADATA_NAMES, first_of_each, metadata_checks, only, row_faults
from landcue.archive.table import TABLE_FOLDER, RecordTable, reading
from landcue.data.objects import is_object, shown
from landcue.errors import ArchiveError
from landcue.types import Problem

ROWS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of a verification.

    Attributes:
        records: Number of valid records.
        files: Problems of files; ``where`` is a path below the archive.
        rows: Problems of records; ``where`` is an id, or the numbers of unreadable rows.
    """

    records: int
    files: tuple[Problem, ...]
    rows: tuple[Problem, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, files first."""
        return self.files + self.rows


@dataclass(frozen=True, slots=True)
class Files:
    """The result of checking the files of an archive.

    Attributes:
        manifest: The manifest, or its copy.
        checksums: As last written; ``None`` if they are missing or damaged.
        problems: Problems of files.
    """

    manifest: Manifest
    checksums: Checksums | None
    problems: tuple[Problem, ...]

    @property
    def table(self) -> str:
        """Path of the table in use, below the archive."""
        return (Path(self.manifest.base) / TABLE_FOLDER).as_posix()

    @property
    def table_damaged(self) -> bool:
        """Whether a file of the table is damaged or missing."""
        return any(problem.where.startswith(self.table) for problem in self.problems)

    @property
    def special(self) -> Problem | None:
        """A pipe, or a link out of the archive: LanceDB must not open it."""
        return next((one for one in self.problems if NOT_A_FILE in one.what), None)


NOT_A_FILE = "not a regular file of the archive"


@dataclass(slots=True)
class RowCheck:
    """The result of checking the rows of a table.

    Attributes:
        sound: Number of valid rows.
        problems: Problems of the others.
        damaged: Ids of damaged rows.
        metadata: Tables of the damaged rows whose metadata is valid.
        lost: Number of rows whose id cannot be read.
    """

    sound: int = 0
    problems: list[Problem] = field(default_factory=lambda: list[Problem]())
    damaged: list[str] = field(default_factory=lambda: list[str]())
    metadata: list[Any] = field(default_factory=lambda: list[Any]())
    lost: int = 0


def verify_archive(folder: str | Path) -> VerifyReport:
    """Read every file and every record of an archive, and what searches derived from it.

    Raises:
        ArchiveError: There is none, or neither its manifest nor the copy of it can be read.

    >>> verify_archive(folder).problems
    ()
    """
    folder = Path(folder)
    mark = ReaderMark(folder)
    found = verify_files(folder)
    report = verify_rows(folder, found)
    mark.release()
    return report


def verify_files(folder: Path) -> Files:
    """Read every file of an archive that has a checksum, and what searches derived from it."""
    manifest, checksums, problems = read_small_files(folder)
    if checksums is not None:
        problems += damaged_files(folder, checksums, manifest.base)
    if not is_object(folder):
        for name, path in archive_files(folder, manifest.base).items():
            if path.exists() and not path.is_file() and name not in {p.where for p in problems}:
                problems.append(Problem(name, f"is {NOT_A_FILE}"))
    problems += damaged_indexes(folder)
    return Files(manifest, checksums, tuple(problems))


def verify_rows(folder: Path, files: Files) -> VerifyReport:
    """Read every record of an archive after its files were checked."""
    problems = list(files.problems)
    check = RowCheck()
    if files.special is not None:
        return VerifyReport(0, tuple(problems), ())
    try:
        table = RecordTable.open(folder / files.manifest.base, pinned=True)
        if table is not None:
            check = check_rows(table, files.manifest)
        elif not files.table_damaged and (
            files.manifest.records or (files.checksums and files.checksums.version)
        ):
            problems.append(Problem(files.table, "is missing"))
    except ArchiveError as error:
        if not files.table_damaged:
            problems.append(Problem(files.table, str(error)))
    return VerifyReport(check.sound, tuple(problems), tuple(check.problems))


def check_rows(table: RecordTable, manifest: Manifest) -> RowCheck:
    """Compare all rows of a table with their checksums."""
    check = RowCheck()
    for _ in _checked(table, manifest, check):
        pass
    return check


def sound_rows(table: RecordTable, manifest: Manifest, check: RowCheck) -> Iterator[pa.Table]:
    """Yield the rows that have the right checksums, and add the others to ``check``."""
    for batch, sound in _checked(table, manifest, check):
        if any(sound):
            yield only(batch, sound)


def _checked(
    table: RecordTable, manifest: Manifest, check: RowCheck
) -> Iterator[tuple[pa.RecordBatch, list[bool]]]:
    """Yield batches of rows, and which of them are sound, and add the others to ``check``."""
    if not table.schema.equals(manifest.schema):
        raise ArchiveError(f"{table.folder} holds a table of other columns or sizes")
    seen: set[str] = set()
    for start in range(0, table.count(), ROWS_AT_ONCE):
        n = min(ROWS_AT_ONCE, table.count() - start)
        try:
            with reading(table.folder):
                batch = table.slice(start, n)
                batch.validate(full=True)
                faults = row_faults(batch, manifest.label_names)
                ids: list[str] = batch["id"].to_pylist()
        except ArchiveError:
            _note_unreadable(table, start, n, seen, check)
            continue
        fresh = first_of_each(ids, seen)
        for id_, what, new in zip(ids, faults, fresh, strict=True):
            if what or not new:
                check.problems.append(Problem(id_, what or "is stored twice"))
        _note_damaged(batch, [bool(what) for what in faults], check)
        sound = [new and not what for new, what in zip(fresh, faults, strict=True)]
        check.sound += sum(sound)
        yield batch, sound


def _note_unreadable(
    table: RecordTable, start: int, n: int, seen: set[str], check: RowCheck
) -> None:
    """Read at least the metadata of rows that cannot be read completely."""
    try:
        with reading(table.folder):
            batch = table.slice(start, n, [*METADATA_NAMES, "metadata_check"])
            batch.validate(full=True)
            ids: list[str] = batch["id"].to_pylist()
            seen.update(ids)
            _note_damaged(batch, [True] * n, check)
            check.problems += [Problem(id_, "cannot be read") for id_ in ids]
    except ArchiveError:
        check.lost += n
        check.problems.append(Problem(f"rows {start} to {start + n - 1}", "cannot be read"))


def _note_damaged(batch: pa.RecordBatch, damaged: list[bool], check: RowCheck) -> None:
    if not any(damaged):
        return
    rows = only(batch, damaged).select([*METADATA_NAMES, "metadata_check"])
    check.damaged += rows["id"].to_pylist()
    right = [a == b for a, b in zip(metadata_checks(rows), rows["metadata_check"].to_pylist(),
                                    strict=True)]  # fmt: skip
    check.metadata.append(rows.filter(pa.array(right, pa.bool_())))


def read_small_files(folder: Path) -> tuple[Manifest, Checksums | None, list[Problem]]:
    """Read the manifest and the checksums of an archive, and name their problems.

    Raises:
        ArchiveError: There is no archive, or neither its manifest nor the copy of it can be read.
    """
    problems: list[Problem] = []
    checksums = None
    try:
        checksums = read_checksums(folder)
    except ArchiveError as error:
        problems.append(_named(folder / CHECKSUMS, CHECKSUMS, error))
    file = folder / MANIFEST
    try:
        manifest = read_manifest(folder)
        if storage.read(file) != manifest_text(manifest).encode():
            problems.append(Problem(MANIFEST, "was changed: it differs from what LandCue wrote"))
    except ArchiveError as error:
        if checksums is None:
            raise
        manifest = parse_manifest(checksums.manifest, folder / CHECKSUMS)
        problems.append(_named(file, MANIFEST, error))
        return manifest, checksums, problems
    if checksums is None:
        if not problems:
            problems.append(Problem(CHECKSUMS, "is missing: the files cannot be checked"))
    elif checksums.archive != manifest.id:
        copy = parse_manifest(checksums.manifest, folder / CHECKSUMS)
        if damaged_files(folder, checksums, copy.base):
            checksums = None
            problems.append(Problem(CHECKSUMS, "is that of another archive"))
        else:
            manifest = copy
            problems.append(Problem(MANIFEST, "is that of another archive"))
    return manifest, checksums, problems


def _named(file: Path, name: str, error: ArchiveError) -> Problem:
    return Problem(name, str(error).split(";")[0].removeprefix(f"{shown(file)} "))
