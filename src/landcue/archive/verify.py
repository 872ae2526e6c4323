"""Is an archive what was written? Every file and every row against its checksum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from landcue.archive.archive import ArchiveFolder
from landcue.archive.checksums import (
    CHECKSUMS,
    Checksums,
    archive_files,
    damaged_files,
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
from landcue.archive.salvage import salvage
from landcue.archive.table import HINT, TABLE_FOLDER, RecordTable, is_hint_sound, newest_version
from landcue.errors import ArchiveError
from landcue.types import Problem


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found.

    Attributes:
        records: Records without a fault.
        files: What is wrong with files; ``where`` is a path below the archive.
        rows: What is wrong with records; ``where`` is an id.
    """

    records: int
    files: tuple[Problem, ...]
    rows: tuple[Problem, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All of them, files first."""
        return self.files + self.rows


def verify_archive(folder: Path) -> VerifyReport:
    """Read every file and every record of an archive.

    Raises:
        ArchiveError: There is none, or neither its manifest nor the copy of it can be read.
    """
    mark = ReaderMark(folder)
    found = verify_files(folder)
    report = verify_rows(folder, found)
    mark.release()
    return report


@dataclass(frozen=True, slots=True)
class Files:
    """What was found out about the files of an archive.

    Attributes:
        manifest: Of the archive, or the copy of it.
        checksums: The checksums.
        problems: What is wrong with files.
    """

    manifest: Manifest
    checksums: Checksums | None
    problems: tuple[Problem, ...]

    @property
    def table(self) -> str:
        """Path of the table that serves, below the archive."""
        return (Path(self.manifest.base) / TABLE_FOLDER).as_posix()

    @property
    def table_damaged(self) -> bool:
        """Whether a file of the table is, other than one that is not needed."""
        names = [problem.where for problem in self.problems]
        return any(name.startswith(self.table) and not name.endswith(HINT) for name in names)


def verify_files(folder: Path) -> Files:
    """Read every file of an archive that has a checksum.

    Raises:
        ArchiveError: There is none, or neither its manifest nor the copy of it can be read.
    """
    manifest, checksums, problems = _read_small_files(folder)
    if checksums is not None:
        problems += damaged_files(folder, checksums, manifest.base)
    problems += _check_hint(folder, folder / manifest.base)
    return Files(manifest, checksums, tuple(problems))


def verify_rows(folder: Path, files: Files) -> VerifyReport:
    """Read every record of an archive whose files were read."""
    manifest, base = files.manifest, folder / files.manifest.base
    problems = list(files.problems)
    records, rows = 0, list[Problem]()
    try:
        # Broken bytes can crash the reader: files not known to be sound are left to a child.
        if not files.table_damaged and _all_known(folder, manifest, files.checksums):
            opened = ArchiveFolder(folder, manifest, RecordTable.open(base, pinned=True))
            rows = list(opened.verify())
            records = opened.count - len({problem.where for problem in rows})
        elif newest_version(base) is not None:
            found = salvage(base, manifest)
            records, rows = found.kept, found.problems
        elif manifest.records:
            problems.append(Problem(files.table, "is missing"))
    except ArchiveError as error:
        if not files.table_damaged:
            problems.append(Problem(files.table, str(error)))
    return VerifyReport(records, tuple(problems), tuple(rows))


def _read_small_files(folder: Path) -> tuple[Manifest, Checksums | None, list[Problem]]:
    problems: list[Problem] = []
    checksums = None
    try:
        checksums = read_checksums(folder)
    except ArchiveError as error:
        problems.append(_named(folder / CHECKSUMS, CHECKSUMS, error))
    file = folder / MANIFEST
    try:
        manifest = read_manifest(folder)
        if file.read_bytes() != manifest_text(manifest).encode():
            problems.append(Problem(MANIFEST, "was changed: it is not what LandCue wrote"))
    except ArchiveError as error:
        if checksums is None:
            raise
        manifest = parse_manifest(checksums.manifest, folder / CHECKSUMS)
        problems.append(_named(file, MANIFEST, error))
    return manifest, checksums, problems


def _named(file: Path, name: str, error: ArchiveError) -> Problem:
    return Problem(name, str(error).split(";")[0].removeprefix(f"{file} "))


def _all_known(folder: Path, manifest: Manifest, checksums: Checksums | None) -> bool:
    names = {path.relative_to(folder).as_posix() for path in archive_files(folder, manifest.base)}
    return checksums is not None and names <= checksums.files.keys()


def _check_hint(folder: Path, base: Path) -> list[Problem]:
    if is_hint_sound(base):
        return []
    file = base / TABLE_FOLDER / "_versions" / HINT
    return [Problem(file.relative_to(folder).as_posix(), "is damaged: it names no version")]
