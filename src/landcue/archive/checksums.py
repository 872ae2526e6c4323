"""Checksums of the files of an archive, written after every change.

The table's files never change once they are written, so the checksum of a known file is kept and
not computed again: later damage is always detected. The checksums are stored with copies of the
two small files that are needed to read everything else.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from landcue.archive import storage
from landcue.archive.manifest import Manifest, checksum_of, manifest_text
from landcue.archive.table import HINT, TABLE_FOLDER, is_partial, newest_version
from landcue.data.objects import is_object, shown
from landcue.errors import ArchiveError, LandcueError
from landcue.files import parse_json, read_json, write_atomic
from landcue.types import Problem

CHECKSUMS = "checksums.json"
CHECKED = ".checked.json"
MODEL_FOLDER = "model"
INDEXES = "indexes"
"""Folder of what searches derive from an archive."""
HOW_TO_RESTORE = (
    "run 'landcue archive repair', restore it from a copy, or index the images again into a new "
    "folder"
)


_INSIDE = re.compile(rf"(v[0-9]+/)?({TABLE_FOLDER}|{MODEL_FOLDER})(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")


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
        archive: Id of the archive.
    """

    files: dict[str, str]
    version: str
    version_file: bytes
    manifest: str
    cleaning: bool = False
    archive: str = ""


def read_checksums(folder: Path) -> Checksums | None:
    """Return the checksums of an archive; ``None`` if it has none yet."""
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
            str(value.get("archive", "")),
        )
        if text != _text(checksums).encode():
            raise broken
    except (KeyError, TypeError, ValueError):
        raise broken from None
    for name in (*checksums.files, *filter(None, [checksums.version])):
        if not _INSIDE.fullmatch(name):
            raise ArchiveError(f"{shown(file)} names {name!r}, which is no file of an archive")
    return checksums


def write_checksums(folder: Path, manifest: Manifest) -> None:
    """Store the checksums of all present files of the archive.

    New files are flushed to disk first.
    """
    try:
        old = read_checksums(folder)
    except ArchiveError:
        old = None
    known = old.files if old and old.archive == manifest.id else {}
    files: dict[str, str] = {}
    checked = _read_checked(folder)
    try:
        for name, path in archive_files(folder, manifest.base).items():
            if name not in known:
                checked[name] = storage.identity(path)
            files[name] = known.get(name) or storage.digest(path, sync=True)
        newest = newest_version(folder / manifest.base)
        content = (storage.read(newest) or b"") if newest else b""
    except OSError as error:
        raise ArchiveError(
            f"cannot read {error.filename}: {error.strerror}; {HOW_TO_RESTORE}"
        ) from None
    version = newest.relative_to(folder).as_posix() if newest else ""
    checksums = Checksums(files, version, content, manifest_text(manifest), archive=manifest.id)
    storage.write(folder / CHECKSUMS, _text(checksums))
    _write_checked(folder, {name: checked[name] for name in files if name in checked})


def forget_checksums(folder: Path, name: str) -> None:
    """Drop the checksums of all files below ``name``, before they are replaced."""
    with contextlib.suppress(ArchiveError):
        checksums = read_checksums(folder)
        if checksums is not None:
            kept = {n: d for n, d in checksums.files.items() if not n.startswith(f"{name}/")}
            if kept != checksums.files:
                storage.write(folder / CHECKSUMS, _text(replace(checksums, files=kept)))


def start_cleaning(folder: Path) -> None:
    """Record that files of older versions are about to be removed."""
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
        if path.name != HINT and not is_partial(path.name)
    }


def damaged_files(folder: Path, checksums: Checksums, base: str, below: str = "") -> list[Problem]:
    """Read the listed files and compare them with their checksums."""
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


def check_bound(folder: Path, manifest: Manifest) -> Checksums | None:
    """Return the checksums of an archive, if it has any; check that they are its own."""
    try:
        checksums = read_checksums(folder)
    except ArchiveError:  # the checksums are damaged, not the files: verify reports it
        return None
    if checksums is not None and checksums.archive != manifest.id:
        raise ArchiveError(
            f"{shown(folder)} holds the manifest or the checksums of another archive; "
            f"{HOW_TO_RESTORE}"
        )
    return checksums


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare files with their checksums before an archive is opened.

    The small files that describe the table are read every time, those with the data and the model
    only if they have changed since they were last read: ``.checked.json`` says when that was.
    """
    checksums = check_bound(folder, manifest)
    if checksums is None:
        return
    table = (Path(manifest.base) / TABLE_FOLDER).as_posix() + "/"
    digest_of = _digests(folder)
    checked = _read_checked(folder)
    before = dict(checked)
    for name, known in checksums.files.items():
        if not name.startswith(f"{manifest.base}/" if manifest.base else ""):
            continue
        small = name.startswith(table) and not name.startswith(f"{table}data/")
        with contextlib.suppress(FileNotFoundError):  # removed with older versions
            try:
                mark = storage.identity(folder / name)
                if not small and mark is not None and mark == checked.get(name):
                    continue
                right = digest_of(name) == known
            except FileNotFoundError:
                raise
            except OSError as error:
                raise ArchiveError(
                    f"cannot read {folder / name}: {error.strerror}; {HOW_TO_RESTORE}"
                ) from None
            if not right:
                raise ArchiveError(
                    f"{shown(folder / name)} is damaged: its checksum differs; {HOW_TO_RESTORE}"
                )
            if not small:
                checked[name] = mark
    if checked != before:
        _write_checked(folder, checked)


def _read_checked(folder: Path) -> dict[str, Any]:
    """Return which data files were compared with their checksums, and their identity then."""
    for place in _places_of_checked(folder):
        with contextlib.suppress(ArchiveError, OSError):
            text = storage.read(place)
            if text is not None:
                return parse_json(text, place, ArchiveError, "delete it")
    return {}


def _write_checked(folder: Path, checked: dict[str, Any]) -> None:
    for place in _places_of_checked(folder):
        with contextlib.suppress(LandcueError):  # then they are read again
            write_atomic(place, json.dumps(checked), parents=place.parent != folder)
            return


def _places_of_checked(folder: Path) -> tuple[Path, ...]:
    """Return the file in the archive, and the one in the cache for an archive that is read-only."""
    if is_object(folder):
        return ()
    name = hashlib.blake2b(os.fsencode(folder.absolute()), digest_size=16).hexdigest()
    return folder / CHECKED, storage.cache_root() / "checked" / f"{name}.json"


def _digests(folder: Path) -> Callable[[str], str]:
    """Return what returns the present digest of a file of the archive; a store is listed once."""
    if not is_object(folder):
        return lambda name: _digest_inside(folder, folder / name)
    objects = storage.listed(folder)

    def look(name: str) -> str:
        if name not in objects:
            raise FileNotFoundError(name)
        return storage.digest(objects[name])

    return look


def _digest_inside(folder: Path, path: Path) -> str:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise OSError(0, "it is not a regular file of the archive", str(path))
    return storage.digest(path)


def _text(checksums: Checksums) -> str:
    value: dict[str, Any] = {
        "files": checksums.files,
        "version": checksums.version,
        "version_file": base64.b64encode(checksums.version_file).decode(),
        "manifest": checksums.manifest,
        "cleaning": checksums.cleaning,
    }
    if checksums.archive:
        value["archive"] = checksums.archive
    value["checksum"] = checksum_of(value)
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def damaged_indexes(folder: Path) -> list[Problem]:
    """Compare every file that searches derived from an archive with its checksum.

    Nothing is lost: delete the named files, and the next search builds them again.
    """
    folder = storage.cache_folder(folder)
    problems: list[Problem] = []
    for header in sorted((folder / INDEXES).glob("*/*.json")):
        name = header.relative_to(folder).as_posix()
        try:
            value = read_json(header, ArchiveError, "delete it")
            path = header.with_name(Path(value["file"]).name)
            own = value["file"] == f"{value['checksum'][:16]}-{header.stem}"
            whole = header.read_bytes() == header_text(value).encode()
            if not own or not whole or value.get("header") != header_digest(value):
                problems.append(Problem(name, "is damaged: its checksum differs; delete it"))
            elif path.stat().st_size != value["bytes"] or storage.digest(path) != value["checksum"]:
                where = path.relative_to(folder).as_posix()
                problems.append(Problem(where, "is damaged: its checksum differs; delete it"))
        except (ArchiveError, OSError, KeyError, TypeError, ValueError, AttributeError):
            problems.append(Problem(name, "cannot be read, or its file is missing; delete it"))
    return problems


def header_text(header: Mapping[str, Any]) -> str:
    """Return the description of a derived file as its own file holds it."""
    return json.dumps(header, indent=2) + "\n"


def header_digest(header: Mapping[str, Any]) -> str:
    """Return the checksum of such a description without the checksum in it."""
    facts = {key: value for key, value in header.items() if key != "header"}
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
