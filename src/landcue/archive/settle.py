"""The end of every change: few files, one version, a true count, checksums of all files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from landcue import __version__
from landcue.archive.bases import sweep
from landcue.archive.manifest import Manifest, manifest_text, now, write_manifest
from landcue.archive.readers import unread
from landcue.archive.seal import MEND, Seal, damaged_files, read_seal, start_cleaning, write_seal
from landcue.archive.table import TABLE_FOLDER, RecordTable, drop_bad_hint
from landcue.errors import ArchiveError


def settle(folder: Path, manifest: Manifest, table: RecordTable, *, changed: bool) -> int:
    """Leave one version behind if nobody reads an older one; note counts and checksums.

    Args:
        folder: The archive, locked.
        manifest: Of the archive.
        table: Its table.
        changed: Whether rows were written or removed.

    Returns:
        The number of records.

    Raises:
        ArchiveError: A file is damaged, or the folder cannot be written. The rows are safe.
    """
    seal = _known(folder)
    compacted = changed or not table.is_tidy()
    if compacted:
        if seal is not None:
            check_table(folder, seal, manifest.base)
        with unread(folder) as nobody:
            if nobody:
                start_cleaning(folder)
            table.compact(drop_old=nobody)
    drop_bad_hint(folder / manifest.base)
    count = table.count()
    if changed or count != manifest.records:
        manifest = replace(manifest, records=count, updated=now(), landcue=__version__)
        write_manifest(folder, manifest)
    if compacted or seal is None or seal.manifest != manifest_text(manifest):
        write_seal(folder, manifest)
    sweep(folder, manifest.base)
    return count


def check_table(folder: Path, seal: Seal, base: str) -> None:
    """Refuse to rewrite damaged rows: their new file would look sound.

    Raises:
        ArchiveError: Names the first damaged file.
    """
    below = (Path(base) / TABLE_FOLDER).as_posix()
    for problem in damaged_files(folder, seal, base, below):
        raise ArchiveError(f"{folder / problem.where} {problem.what}; {MEND}")


def _known(folder: Path) -> Seal | None:
    try:
        return read_seal(folder)
    except ArchiveError:
        return None
