"""What an ingest has to do: compare the source's records with what the archive knows."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from landcue.archive.schema import Metadata, from_wkb, in_utc, window_of
from landcue.archive.table import RecordTable
from landcue.errors import DataError
from landcue.types import Bounds, Problem, Record

MAX_BYTES = 2**30
"""Largest image file read, 1 GiB."""

_COLUMNS = (
    *("id", "path", "labels", "west", "south", "east", "north", "time", "group", "part"),
    *("pixel_bbox", "sensor", "geometry", "size", "mtime_ns", "content"),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the archive knows of a record: its metadata and the digest of its file."""

    metadata: Metadata
    content: str


@dataclass(frozen=True, slots=True)
class Task:
    """An image file to read; ``stored`` is ``None`` when the record is new."""

    record: Record
    metadata: Metadata
    stored: Stored | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of one ingest.

    Attributes:
        tasks: Files to read: new records, and those whose size or time changed.
        refreshes: Rows whose metadata changed while the file did not.
        unchanged: Number of rows to leave alone.
        vanished: Ids in the archive whose record or file is gone, sorted.
        problems: Records that cannot be read.
    """

    tasks: tuple[Task, ...]
    refreshes: tuple[Metadata, ...]
    unchanged: int
    vanished: tuple[str, ...]
    problems: tuple[Problem, ...]


def check_unique(records: Sequence[Record]) -> None:
    """Refuse two records with one id.

    Raises:
        DataError: Names both files.
    """
    seen: dict[str, Record] = {}
    for record in records:
        if record.id in seen:
            raise DataError(
                f"two records have the id {record.id!r}: {seen[record.id].path} and "
                f"{record.path}; rename one"
            )
        seen[record.id] = record


def read_stored(table: RecordTable | None) -> dict[str, Stored]:
    """Return what an archive knows of each id."""
    if table is None:
        return {}
    return {row["id"]: _stored(row) for row in table.read(_COLUMNS).to_pylist()}


def make_plan(records: Sequence[Record], stored: dict[str, Stored], root: Path) -> Plan:
    """Look at each file's size and time, without opening it, and decide what to do."""
    tasks: list[Task] = []
    refreshes: list[Metadata] = []
    problems: list[Problem] = []
    gone = set(stored)
    unchanged = 0
    for record in records:
        old = stored.get(record.id)
        path = relative(record.path, root)
        try:
            status = os.stat(record.path)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            if not (old and missing):
                gone.discard(record.id)
                problems.append(Problem(path, f"cannot be read ({error.strerror})"))
            continue
        gone.discard(record.id)
        if not stat.S_ISREG(status.st_mode):
            problems.append(Problem(path, "is not a regular file"))
            continue
        if status.st_size > MAX_BYTES:
            problems.append(Problem(path, "is larger than 1 GiB; cut it into chips"))
            continue
        found = _metadata(record, path, status, old)
        if old is None or (found.size, found.mtime_ns) != (
            old.metadata.size,
            old.metadata.mtime_ns,
        ):
            tasks.append(Task(record, found, old))
        elif found != old.metadata:
            refreshes.append(found)
        else:
            unchanged += 1
    return Plan(tuple(tasks), tuple(refreshes), unchanged, tuple(sorted(gone)), tuple(problems))


def with_status(metadata: Metadata, status: os.stat_result) -> Metadata:
    """Return the metadata with the size and time of the file as it was opened."""
    return replace(metadata, size=status.st_size, mtime_ns=status.st_mtime_ns)


def relative(path: Path, root: Path) -> str:
    """Return a posix path relative to ``root`` when below it, else absolute."""
    full = Path(os.path.abspath(path))
    return (full.relative_to(root) if full.is_relative_to(root) else full).as_posix()


def _metadata(record: Record, path: str, status: os.stat_result, old: Stored | None) -> Metadata:
    known = old.metadata.bounds if old else None
    return Metadata(
        id=record.id,
        path=path,
        labels=record.labels,
        bounds=record.bounds or known,
        time=in_utc(record.time),
        group=record.group,
        part=record.part,
        window=record.window,
        sensor=record.sensor,
        footprint=record.footprint,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )


def _stored(row: dict[str, Any]) -> Stored:
    content = row.pop("content")
    box = [row.pop(name) for name in ("west", "south", "east", "north")]
    row["bounds"] = None if box[0] is None else Bounds(*box)
    geometry = row.pop("geometry")
    row["footprint"] = None if geometry is None else from_wkb(geometry)
    row["window"] = window_of(row.pop("pixel_bbox"))
    row["labels"] = None if row["labels"] is None else tuple(row["labels"])
    return Stored(Metadata(**row), content)
