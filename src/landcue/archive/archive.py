"""An archive, opened for reading at one version."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from landcue.archive import storage
from landcue.archive.checksums import HOW_TO_RESTORE, MODEL_FOLDER, check_table_files
from landcue.archive.columns import COLUMNS, Columns, by_id, to_columns
from landcue.archive.layout import ReaderMark
from landcue.archive.manifest import MANIFEST, Manifest, read_manifest
from landcue.archive.schema import from_fixed, row_faults
from landcue.archive.table import (
    TABLE_FOLDER,
    RecordTable,
    reading,
    version_files,
    version_number,
)
from landcue.data.objects import is_object, joined, shown
from landcue.errors import ArchiveError, UsageError, did_you_mean
from landcue.types import FloatArray, Problem

_NEAR = 1000


class ArchiveFolder:
    """A consistent view of an archive: later writes are not visible.

    Attributes:
        folder: Its path.
        manifest: Its manifest.
    """

    def __init__(self, folder: Path, manifest: Manifest, table: RecordTable | None) -> None:
        self.folder = folder
        self.manifest = manifest
        self._table = table
        self._mark: ReaderMark | None = None

    @classmethod
    def open(cls, folder: Path) -> ArchiveFolder:
        """Open an archive for reading, in a folder or in an object store.

        Raises:
            ArchiveError: There is none, or it is broken.
            DataError: The object store cannot be reached, or refuses.
        """
        mark = ReaderMark(folder)  # before opening, so that no writer removes the version
        return cls._open(folder, mark, read_manifest(folder), None)

    @classmethod
    def open_version(cls, folder: Path, manifest: Manifest, version: int) -> ArchiveFolder:
        """Open the version that another process has open, even if it is no longer the latest.

        Args:
            folder: The archive; the other process keeps writers from removing the version.
            manifest: Its manifest in that process.
            version: Its version in that process.

        Raises:
            ArchiveError: It is gone, or broken.
        """
        return cls._open(folder, ReaderMark(folder), manifest, version)

    @classmethod
    def _open(
        cls, folder: Path, mark: ReaderMark, manifest: Manifest, version: int | None
    ) -> ArchiveFolder:
        base = folder / manifest.base
        check_table_files(folder, manifest.base)
        table = None if version == 0 else RecordTable.open(base, pinned=True, version=version)
        if table is None and manifest.records:
            raise ArchiveError(f"{shown(base / TABLE_FOLDER)} is missing; {HOW_TO_RESTORE}")
        if table is not None and not table.schema.equals(manifest.schema):
            raise ArchiveError(
                f"{shown(base / TABLE_FOLDER)} does not fit the manifest beside it (other columns "
                f"or sizes); {HOW_TO_RESTORE}"
            )
        archive = cls(folder, manifest, table)
        archive._mark = mark
        return archive

    @property
    def base(self) -> Path:
        """The folder that holds the table and the model in use."""
        return self.folder / self.manifest.base

    @property
    def model_folder(self) -> Path | None:
        """The copy of the model that made the archive, if it has one; from a store, a local copy.

        Raises:
            LandcueError: The store cannot be reached, or the copy cannot be written.
        """
        return storage.local_copy(self.base / MODEL_FOLDER)

    @property
    def remote(self) -> bool:
        """Whether it is in an object store."""
        return is_object(self.folder)

    @property
    def cache_folder(self) -> Path:
        """The folder for files that are derived from the archive: its own, or a local cache."""
        return storage.cache_folder(self.folder)

    def table_digest(self) -> str:
        """Return a digest of the table's own list of files, which no other content shares."""
        for path in version_files(self.base):
            if version_number(path) == self.version:
                with contextlib.suppress(OSError):
                    content = storage.read(path) or b""
                    return hashlib.blake2b(content, digest_size=8).hexdigest()
        return ""

    @property
    def count(self) -> int:
        """Number of records."""
        return 0 if self._table is None else self._table.count()

    @property
    def version(self) -> int:
        """Version of the opened table: it grows with every commit; 0 without a table."""
        return 0 if self._table is None else self._table.version

    def batches(self, columns: Sequence[str], rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all records in batches, always in the same order.

        Raises:
            ArchiveError: The table is broken.
        """
        if self._table is not None:
            yield from self._table.batches(columns, rows)

    def close(self) -> None:
        """Release the opened version, so that writers may remove it."""
        if self._mark is not None:
            self._mark.release()

    def columns(self) -> Columns:
        """Read the columns for search and evaluation, sorted by id; each call reads them again.

        Raises:
            ArchiveError: The table is broken.
        """
        names = [*COLUMNS, "code"] if self.manifest.n_bits else list(COLUMNS)
        if self._table is None:
            return to_columns(self.manifest.schema.empty_table(), self.manifest)
        with reading(self.folder):
            return to_columns(self._table.read(names), self.manifest)

    def label_scores(self) -> FloatArray:
        """Return float32 ``[n, C]`` in 0..1, rows in the order of :meth:`columns`."""
        width = len(self.manifest.label_names)
        if self._table is None or not width:
            return np.empty((self.count, width), np.float32)
        with reading(self.folder):
            rows = by_id(self._table.read(["id", "label_scores"]))
            return from_fixed(rows["label_scores"], width, np.float32)

    def record(self, id_: str) -> dict[str, Any]:
        """Return all stored values of one record except its vectors and thumbnail.

        Raises:
            UsageError: No record has this id; the message names near matches.
        """
        hidden = {"embedding", "code", "label_scores", "thumbnail", "check", "metadata_check"}
        names = [name for name in self.manifest.schema.names if name not in hidden]
        rows = self._rows([id_], names)
        if not rows:
            raise self.unknown(id_)
        return rows[0]

    def file(self, id_: str) -> Path:
        """Return the path of a record's image at the time of indexing.

        Raises:
            UsageError: No record has this id.
        """
        return joined(Path(self.manifest.source_root), self.record(id_)["path"])

    def thumbnail(self, id_: str) -> bytes:
        """Return the JPEG thumbnail of one record.

        Raises:
            UsageError: No record has this id.
        """
        found = self.thumbnails([id_])
        if not found:
            raise self.unknown(id_)
        return found[id_]

    def thumbnails(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Return the JPEG thumbnails of the records among ``ids``."""
        return {row["id"]: row["thumbnail"] for row in self._rows(ids, ["id", "thumbnail"])}

    def verify(self) -> tuple[Problem, ...]:
        """Read every record and compare all of it with its checksums.

        Raises:
            ArchiveError: The table cannot be read at all.
        """
        if self._table is None:
            return ()
        problems: list[Problem] = []
        seen: set[str] = set()
        with reading(self.folder):
            for batch in self._table.batches(self.manifest.schema.names):
                ids = batch["id"].to_pylist()
                for id_, what in zip(
                    ids, row_faults(batch, self.manifest.label_names), strict=True
                ):
                    if what:
                        problems.append(Problem(id_, what))
                    if id_ in seen:
                        problems.append(Problem(id_, "is stored twice"))
                    seen.add(id_)
        return tuple(problems)

    def unknown(self, id_: str) -> UsageError:
        """Return the error for an id that no record has, naming near matches."""
        ids = [] if self._table is None else sorted(self._table.read(["id"])["id"].to_pylist())
        return unknown_id(id_, ids)

    def _rows(self, ids: Iterable[str], columns: list[str]) -> list[dict[str, Any]]:
        if self._table is None:
            return []
        with reading(self.folder):
            return self._table.rows(ids, columns).to_pylist()


def own_model(folder: Path) -> Path | None:
    """Return the copy of the model in a possibly unfinished archive, or ``None``.

    Raises:
        ArchiveError: Its manifest is broken.
    """
    base = read_manifest(folder).base if storage.exists(folder / MANIFEST) else ""
    return storage.local_copy(folder / base / MODEL_FOLDER)


def unknown_id(id_: str, ids: list[str] | tuple[str, ...]) -> UsageError:
    """Return the error for an id that is not among the sorted ``ids``."""
    if len(ids) > 2 * _NEAR:  # comparing with a million ids would take minutes
        import bisect

        place = bisect.bisect_left(ids, id_)
        ids = ids[max(0, place - _NEAR) : place + _NEAR]
    return UsageError(f"no record has the id {id_!r}{did_you_mean(id_, ids, most=3)}")
