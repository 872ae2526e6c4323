"""Checksums of the files of an archive, written after every change.

The table's files never change once they are written, so the checksum of a known file is kept and
not computed again: later damage is always detected. The checksums are stored with copies of the
two small files that are needed to read everything else.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from landcue.archive import storage
from landcue.archive.manifest import Manifest, checksum_of, manifest_text
from landcue.archive.table import HINT, TABLE_FOLDER, newest_version
from landcue.data.objects import is_object, shown
from landcue.errors import ArchiveError
from landcue.files import parse_json
from landcue.types import Problem

CHECKSUMS = "checksums.json"
MODEL_FOLDER = "model"
HOW_TO_RESTORE = (
    "run 'landcue archive repair', restore it from a copy, or index the images again into a new "
    "folder"
)


@dataclass(frozen=True, slots=True)
class Checksums:
    """Checksums of an archive's files at its last change.

    Attributes:
        files: Checksum (BLAKE2b-128, hex) of each file, by its posix path below the archive.
        version: Path of the file that describes the table's newest version; empty without one.
        version_file: Its content.
        manifest: Content of the archive's manifest.
        cleaning: Whether files of older versions are being removed: then a missing file of the
            table is not damage.
    """

    files: dict[str, str]
    version: str
    version_file: bytes
    manifest: str
    cleaning: bool = False


def read_checksums(folder: Path) -> Checksums | None:
    """Return the checksums of an archive; ``None`` if it has none yet.

    Raises:
        ArchiveError: They are damaged themselves.
    """
    file = folder / CHECKSUMS
    try:
        text = storage.read(file)
    except OSError as error:
        raise ArchiveError(f"cannot read {file}: {error.strerror}; {HOW_TO_RESTORE}") from None
    if text is None:
        return None
    value = parse_json(text, file, ArchiveError, HOW_TO_RESTORE)
    broken = ArchiveError(
        f"{shown(file)} was damaged or changed (its checksum differs); {HOW_TO_RESTORE}"
    )
    if value.pop("checksum", None) != checksum_of(value):
        raise broken
    try:
        content = base64.b64decode(value["version_file"])
        checksums = Checksums(
            dict(value["files"]),
            str(value["version"]),
            content,
            str(value["manifest"]),
            bool(value["cleaning"]),
        )
        if text != _text(checksums).encode():
            raise broken
    except (KeyError, TypeError, ValueError):
        raise broken from None
    return checksums


def write_checksums(folder: Path, manifest: Manifest) -> None:
    """Store the checksums of all present files of the archive.

    New files are flushed to disk first.

    Raises:
        LandcueError: The folder cannot be written.
    """
    try:
        old = read_checksums(folder)
    except ArchiveError:
        old = None
    known = old.files if old else {}
    files: dict[str, str] = {}
    try:
        for name, path in archive_files(folder, manifest.base).items():
            files[name] = known.get(name) or storage.digest(path, sync=True)
        newest = newest_version(folder / manifest.base)
        content = (storage.read(newest) or b"") if newest else b""
    except OSError as error:
        raise ArchiveError(
            f"cannot read {error.filename}: {error.strerror}; {HOW_TO_RESTORE}"
        ) from None
    version = newest.relative_to(folder).as_posix() if newest else ""
    checksums = Checksums(files, version, content, manifest_text(manifest))
    storage.write(folder / CHECKSUMS, _text(checksums))


def forget_checksums(folder: Path, name: str) -> None:
    """Drop the checksums of all files below ``name``, before they are replaced.

    Raises:
        LandcueError: The folder cannot be written.
    """
    with contextlib.suppress(ArchiveError):
        checksums = read_checksums(folder)
        if checksums is not None:
            kept = {n: d for n, d in checksums.files.items() if not n.startswith(f"{name}/")}
            if kept != checksums.files:
                storage.write(folder / CHECKSUMS, _text(replace(checksums, files=kept)))


def start_cleaning(folder: Path) -> None:
    """Record that files of older versions are about to be removed.

    Raises:
        LandcueError: The folder cannot be written.
    """
    with contextlib.suppress(ArchiveError):
        checksums = read_checksums(folder)
        if checksums is not None and not checksums.cleaning:
            storage.write(folder / CHECKSUMS, _text(replace(checksums, cleaning=True)))


def archive_files(folder: Path, base: str) -> dict[str, Path]:
    """Return the files of the table and the model in use, by their posix path below the archive."""
    return {
        f"{base}/{part}/{name}" if base else f"{part}/{name}": path
        for part in (TABLE_FOLDER, MODEL_FOLDER)
        for name, path in storage.listed(folder / base / part).items()
        if path.name != HINT and not path.name.startswith(".")
    }


def damaged_files(folder: Path, checksums: Checksums, base: str, below: str = "") -> list[Problem]:
    """Read the listed files and compare them with their checksums.

    Args:
        folder: The archive.
        checksums: The stored checksums.
        base: The folder in use, as named in the manifest.
        below: Check only files whose path starts with this.
    """
    table = (Path(base) / TABLE_FOLDER).as_posix() + "/"
    problems: list[Problem] = []
    digest_of = _digests(folder)
    for name, known in sorted(checksums.files.items()):
        if not name.startswith(below) or not name.startswith(f"{base}/" if base else ""):
            continue
        try:
            if digest_of(name) != known:
                problems.append(Problem(name, "is damaged: its checksum differs"))
        except FileNotFoundError:
            if not (checksums.cleaning and name.startswith(table)):
                problems.append(Problem(name, "is missing"))
        except OSError as error:
            problems.append(Problem(name, f"cannot be read ({error.strerror})"))
    return problems


def check_table_files(folder: Path, base: str) -> None:
    """Compare the small files that describe the table with their checksums, before it is opened.

    Raises:
        ArchiveError: Names one that is damaged.
    """
    try:
        checksums = read_checksums(folder)
    except ArchiveError:  # the checksums are damaged, not the files: verify reports it
        return
    if checksums is None:
        return
    data = (Path(base) / TABLE_FOLDER / "data").as_posix()
    table = (Path(base) / TABLE_FOLDER).as_posix()
    digest_of = _digests(folder)
    for name, known in checksums.files.items():
        # Of an object, the listing has the checksum: it costs nothing to compare the data too.
        small = name.startswith(table + "/") and not name.startswith(data + "/")
        if not (small or is_object(folder)):
            continue
        with contextlib.suppress(OSError):
            if digest_of(name) != known:
                raise ArchiveError(
                    f"{shown(folder / name)} is damaged: its checksum differs; {HOW_TO_RESTORE}"
                )


def _digests(folder: Path) -> Callable[[str], str]:
    """Return what returns the present digest of a file of the archive; a store is listed once."""
    if not is_object(folder):
        return lambda name: storage.digest(folder / name)
    objects = storage.listed(folder)

    def look(name: str) -> str:
        if name not in objects:
            raise FileNotFoundError(name)
        return storage.digest(objects[name])

    return look


def _text(checksums: Checksums) -> str:
    value: dict[str, Any] = {
        "files": checksums.files,
        "version": checksums.version,
        "version_file": base64.b64encode(checksums.version_file).decode(),
        "manifest": checksums.manifest,
        "cleaning": checksums.cleaning,
    }
    value["checksum"] = checksum_of(value)
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
