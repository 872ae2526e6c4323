"""Plan an ingest: compare the records of the source with those of the archive."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from landcue.archive.schema import Metadata, footprint_of, window_of
from landcue.archive.table import RecordTable
from landcue.data.images import image_version, names_beside
from landcue.data.names import stored_name
from landcue.data.objects import (
    ObjectPath,
    absolute,
    is_object,
    joined,
    look_up_all,
    shown,
)
from landcue.data.places import normalize
from landcue.data.scenes import SceneOptions
from landcue.errors import DataError
from landcue.interval import in_utc
from landcue.types import Bounds, Problem, Record

MAX_BYTES = 2**30
"""Largest image file read, 1 GiB."""

_COLUMNS = (
    *("id", "source", "path", "labels", "west", "south", "east", "north", "time", "group", "part"),
    *("pixel_bbox", "sensor", "geometry", "size", "mtime_ns", "content"),
)


@dataclass(frozen=True, slots=True)
class SourceImages:
    """Images or chips of one source.

    Attributes:
        records: Their records, with the new labels, group, time and part of each.
        root: Folder that stored paths are relative to.
        scenes: How rasters are read; those read with other options are encoded again.
        name: Name of the source in the archive. By default the source that was indexed from this
            location, or that was moved here; for a new one the name of its folder. With the name of
            a source at another location, the source is taken to have moved.
        location: What was indexed: the table, scene or folder; by default ``root``.
        unread: Scenes that could not be cut, and folders that could not be read: their records
            stay, even if others are removed.
        only: The file that alone was read of the source: records of other files cannot vanish.
    """

    records: Sequence[Record]
    root: Path
    scenes: SceneOptions | None = None
    name: str | None = field(default=None, kw_only=True)
    location: Path | None = field(default=None, kw_only=True)
    unread: Collection[Path] = field(default=(), kw_only=True)
    only: Path | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Stored:
    """The metadata and the content digest of a stored record.

    ``content`` is the digest of the file; for a chip, followed by ``-`` and its recipe.
    """

    metadata: Metadata
    content: str

    @property
    def digest(self) -> str:
        """Digest of the file."""
        return self.content.partition("-")[0]

    @property
    def recipe(self) -> str:
        """The recipe of a chip or a raster; empty for other images."""
        return self.content.partition("-")[2]


_NOTHING: Mapping[str, Stored] = {}


@dataclass(frozen=True, slots=True)
class Task:
    """An image or a chip to read.

    Attributes:
        record: The record of the source.
        metadata: The new row's metadata.
        stored: The archive's row of the same id; ``None`` when the record is new.
        digest: Digest of a stored scene whose file has not changed.
    """

    record: Record
    metadata: Metadata
    stored: Stored | None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of one ingest.

    Attributes:
        tasks: Images to read: new records, those whose file has another size or time, and chips
            made with other options.
        refreshes: Rows whose metadata changed while the file did not.
        unchanged: Number of rows that are up to date.
        vanished: Ids of the source in the archive whose record or file no longer exists, sorted.
        problems: Records that cannot be read.
    """

    tasks: tuple[Task, ...]
    refreshes: tuple[Metadata, ...]
    unchanged: int
    vanished: tuple[str, ...]
    problems: tuple[Problem, ...]


def check_unique(records: Sequence[Record]) -> None:
    """Check that ids are unique."""
    seen: dict[str, Record] = {}
    for record in records:
        if record.id in seen:
            raise DataError(
                f"two records have the id {record.id!r}: {shown(seen[record.id].path)} "
                f"and {shown(record.path)}; rename one"
            )
        seen[record.id] = record


def read_stored(table: RecordTable | None) -> dict[str, Stored]:
    """Return the stored record of each id."""
    if table is None:
        return {}
    return {row["id"]: stored_row(row) for row in table.read(_COLUMNS).to_pylist()}


def make_plan(
    images: SourceImages, stored: Mapping[str, Stored] = _NOTHING, source: str = ""
) -> Plan:
    """Plan the work by each file's size and time, without opening files.

    Args:
        images: Images of the source, as :func:`landcue.archive.sources.name_records` named them.
        stored: Records of the archive; only those of the source can vanish.
    """
    root = absolute(images.root)
    recipe = (images.scenes or SceneOptions()).recipe
    tasks: list[Task] = []
    refreshes: list[Metadata] = []
    problems: list[Problem] = []
    gone = {id_ for id_, row in stored.items() if row.metadata.source == source}
    unchanged = 0
    digests = _scene_digests(stored)
    files = _Files(root)
    for record in images.records:
        old = stored.get(record.id)
        path, status, version = files.look(record.path)
        if isinstance(status, OSError):
            missing = isinstance(status, FileNotFoundError | NotADirectoryError)
            if not (old and missing):
                gone.discard(record.id)
                problems.append(Problem(path, f"cannot be read ({status.strerror})"))
            continue
        gone.discard(record.id)
        if fault := _fault(record, status):
            problems.append(Problem(path, fault))
            continue
        try:
            record = _placed(record)
        except DataError as error:
            problems.append(Problem(path, str(error)))
            continue
        found = _metadata(record, path, version, old)
        if old is None or _changed(found, old, recipe, _named(record)):
            digest = digests.get((path, found.size, found.mtime_ns)) if record.window else None
            tasks.append(Task(record, found, old, digest))
        elif found != old.metadata:
            refreshes.append(found)
        else:
            unchanged += 1
    kept = {relative(path, root) for path in images.unread}
    if kept:
        gone = {id_ for id_ in gone if kept.isdisjoint(_around(stored[id_].metadata.path))}
    lost = sorted(gone)
    if images.only is not None:
        lost = [id_ for id_ in lost if stored[id_].metadata.path == relative(images.only, root)]
    return Plan(tuple(tasks), tuple(refreshes), unchanged, tuple(lost), tuple(problems))


def _around(path: str) -> list[str]:
    """Return a stored path and the folders that it is in."""
    file = PurePosixPath(path)
    return [path, *(parent.as_posix() for parent in file.parents)]


class _Files:
    """Path and status of files, read once for consecutive chips of one scene."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._beside: dict[str, frozenset[str] | None] = {}
        self._last: tuple[Path, str, os.stat_result | OSError, tuple[int, int]] | None = None

    def look(self, path: Path) -> tuple[str, os.stat_result | OSError, tuple[int, int]]:
        if self._last is None or self._last[0] != path:
            version = 0, 0
            try:
                status: os.stat_result | OSError = path.stat()
                version = image_version(path, status, self._names(path))
            except OSError as error:
                status = error
            except ValueError as error:  # a null character
                status = FileNotFoundError(0, str(error))
            self._last = path, relative(path, self._root), status, version
        return self._last[1:]

    def _names(self, path: Path) -> frozenset[str] | None:
        """Return what may belong to images of a folder, which is listed once."""
        if is_object(path):
            return None
        folder = os.path.dirname(path)
        if folder not in self._beside:
            self._beside[folder] = names_beside(path.parent)
        return self._beside[folder]


def _fault(record: Record, status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if record.window is None and status.st_size > MAX_BYTES:
        return "is larger than 1 GiB; cut it into chips"
    return None


def _changed(found: Metadata, old: Stored, recipe: str, named: str) -> bool:
    known = old.metadata
    same = (found.size, found.mtime_ns) == (known.size, known.mtime_ns)
    if found.window is None:
        return not same or old.recipe not in ("", recipe)
    return not same or old.recipe != recipe or named not in ("", old.digest)


def _named(record: Record) -> str:
    """Return the digest of a scene from its store, or an empty string."""
    path = record.path
    return path.digest if record.window is not None and isinstance(path, ObjectPath) else ""


def _scene_digests(stored: Mapping[str, Stored]) -> dict[tuple[str, int, int], str]:
    """Return the digests of scenes by path, size and time."""
    rows = (row for row in stored.values() if row.metadata.window is not None)
    return {(m.path, m.size, m.mtime_ns): row.digest for row in rows for m in (row.metadata,)}


def stored_records(stored: Mapping[str, Stored], root: Path) -> list[Record]:
    """Return the records of one source for its stored rows, sorted by id."""
    files = _files_of(root, {row.metadata.path for row in stored.values()})
    return [
        Record(
            id=id_,
            path=files[row.metadata.path],
            labels=row.metadata.labels,
            group=row.metadata.group,
            bbox=row.metadata.bbox,
            datetime=row.metadata.datetime,
            part=row.metadata.part,
            window=row.metadata.window,
            sensor=row.metadata.sensor,
            geometry=row.metadata.geometry,
            source=row.metadata.source,
        )
        for id_, row in sorted(stored.items())
    ]


def _files_of(root: Path, names: Collection[str]) -> dict[str, Path]:
    """Return the paths of an archive's images; a store is listed once."""
    paths = {name: joined(root, name) for name in names}
    objects = look_up_all(path for path in paths.values() if is_object(path))
    return {name: objects.get(path) or path for name, path in paths.items()}


def with_version(metadata: Metadata, version: tuple[int, int]) -> Metadata:
    """Return the metadata with the size and time of the image's files before they were read."""
    size, mtime_ns = version
    return replace(metadata, size=size, mtime_ns=mtime_ns)


def relative(path: Path, root: Path) -> str:
    """Return a posix path relative to ``root`` when below it, else absolute."""
    full = absolute(path)
    if full.is_relative_to(root):
        return stored_name(full.relative_to(root).as_posix())
    return shown(full) if is_object(full) else stored_name(full.as_posix())


def _placed(record: Record) -> Record:
    """Return a record with a normalized footprint and its bounds."""
    if record.geometry is None:
        return record
    west, _, east, _ = record.geometry.bounds
    if record.bbox is not None and west >= -180 and east <= 180 and east - west <= 180:
        return record
    place = normalize(record.geometry)
    return replace(record, bbox=place.bbox, geometry=place.geometry)


def _metadata(record: Record, path: str, version: tuple[int, int], old: Stored | None) -> Metadata:
    known, footprint = record.bbox, record.geometry
    if known is None and old is not None:
        known, footprint = old.metadata.bbox, old.metadata.geometry
    time = record.datetime
    whole = old.metadata if old is not None and record.window is None else None
    return Metadata(
        id=record.id,
        path=path,
        labels=record.labels,
        bbox=known,
        datetime=in_utc(time) if time else whole and whole.datetime,
        group=record.group,
        part=record.part,
        window=record.window,
        sensor=record.sensor or (whole.sensor if whole else None),
        geometry=footprint,
        size=version[0],
        mtime_ns=version[1],
        source=record.source,
    )


def stored_row(row: dict[str, Any]) -> Stored:
    """Return the metadata and content columns of a row of the table as values."""
    content = row.pop("content")
    box = [row.pop(name) for name in ("west", "south", "east", "north")]
    row["bbox"] = None if box[0] is None else Bounds(*box)
    row["geometry"] = footprint_of(row["geometry"])
    row["datetime"] = row.pop("time")
    row["window"] = window_of(row.pop("pixel_bbox"))
    row["labels"] = None if row["labels"] is None else tuple(row["labels"])
    return Stored(Metadata(**row), content)
