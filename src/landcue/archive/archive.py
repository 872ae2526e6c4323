"""All records of an archive as NumPy arrays, one row per record in the order of their ids."""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from landcue.archive import storage
from landcue.archive.checksums import HOW_TO_RESTORE, MODEL_FOLDER, check_files
from landcue.archive.layout import ReaderMark
from landcue.archive.manifest import MANIFEST, Manifest, read_manifest
from landcue.archive.plan import Stored, read_stored
from landcue.archive.schema import from_fixed
from landcue.archive.table import (
    TABLE_FOLDER,
    RecordTable,
    reading,
    version_files,
    version_number,
)
from landcue.archive.verify import check_rows
from landcue.codes.packing import code_width
from landcue.data.objects import is_object, shown
from landcue.errors import ArchiveError, UsageError, did_you_mean
from landcue.types import ByteArray, FloatArray, Problem

if TYPE_CHECKING:
    from landcue.models.space import Space

pc: Any = pyarrow.compute

COLUMNS = (
    *("id", "path", "labels", "predicted_labels", "embedding"),
    *("west", "south", "east", "north", "time", "group", "part", "sensor"),
)


@dataclass(frozen=True, slots=True)
class LabelLists:
    """The labels of n records, each a list of its own length.

    Attributes:
        names: All names that occur, sorted.
        values: int32 ``[total]``, positions in ``names``, record after record.
        offsets: int64 ``[n + 1]``, where each record's labels start.
        known: bool ``[n]``, false where the record has no annotation.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    known: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, lists: pa.ChunkedArray) -> LabelLists:
        """Convert a column of lists of names; null means not annotated."""
        flat = pc.list_flatten(lists)
        names: list[str] = sorted(pc.unique(flat).to_pylist())
        values = pc.index_in(flat, value_set=pa.array(names, pa.string())).to_numpy()
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return cls(tuple(names), values.astype(np.int32), offsets, lists.is_valid().to_numpy())

    def __len__(self) -> int:
        return len(self.known)

    def row(self, row: int) -> tuple[str, ...] | None:
        """Return the labels of one record, ``None`` without annotation."""
        if not self.known[row]:
            return None
        part = self.values[self.offsets[row] : self.offsets[row + 1]]
        return tuple(self.names[value] for value in part)

    def having(self, name: str) -> npt.NDArray[np.bool_]:
        """Return bool ``[n]``: true where a record carries the label."""
        found = np.zeros(len(self), np.bool_)
        if name in self.names:
            at = np.flatnonzero(self.values == self.names.index(name))
            found[np.searchsorted(self.offsets, at, side="right") - 1] = True
        return found


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of n records that search and evaluation need, sorted by id.

    Attributes:
        ids: Unique, ascending.
        paths: Posix paths, relative to the source root when below it.
        embedding: float32 ``[n, d]``.
        code: packed uint8 ``[n, ceil(n_bits / 8)]``; ``[n, 0]`` without codes.
        labels: Annotated labels.
        predicted: Predicted labels.
        bounds: float64 ``[n, 4]``, west, south, east, north in degrees; NaN without footprint.
        time: datetime64[us] ``[n]`` in UTC; NaT where unknown.
        group: The scene, product or class of each image, or ``None``.
        part: ``train``, ``val``, ``test`` or ``None``.
        sensor: The sensor of each image, or ``None``.
    """

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    embedding: FloatArray
    code: ByteArray
    labels: LabelLists
    predicted: LabelLists
    bounds: npt.NDArray[np.float64]
    time: npt.NDArray[np.datetime64]
    group: tuple[str | None, ...]
    part: tuple[str | None, ...]
    sensor: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, id_: str) -> int | None:
        """Return the row of an id, or ``None``."""
        row = bisect.bisect_left(self.ids, id_)
        return row if row < len(self.ids) and self.ids[row] == id_ else None

    def labels_of(self, row: int) -> tuple[str, ...]:
        """Return the annotated labels where there are any known, else the predicted ones."""
        annotated = self.labels.row(row)
        return (self.predicted.row(row) or ()) if annotated is None else annotated


def to_columns(table: pa.Table, manifest: Manifest) -> Columns:
    """Sort rows by id and convert their columns to arrays."""
    table = by_id(table)
    n = len(table)
    code = np.empty((n, 0), np.uint8)
    if manifest.n_bits:
        code = from_fixed(table["code"], code_width(manifest.n_bits), np.uint8)
    bounds = [table[name].to_numpy() for name in ("west", "south", "east", "north")]
    return Columns(
        ids=tuple(table["id"].to_pylist()),
        paths=tuple(table["path"].to_pylist()),
        embedding=from_fixed(table["embedding"], manifest.dim, np.float32),
        code=code,
        labels=LabelLists.of(table["labels"]),
        predicted=LabelLists.of(table["predicted_labels"]),
        bounds=np.stack(bounds, axis=1).astype(np.float64),
        time=table["time"].cast(pa.timestamp("us")).to_numpy(),
        group=tuple(table["group"].to_pylist()),
        part=tuple(table["part"].to_pylist()),
        sensor=tuple(table["sensor"].to_pylist()),
    )


def by_id(table: pa.Table) -> pa.Table:
    """Return the rows in the order of their ids."""
    ids = table["id"].to_pylist()
    if all(first < second for first, second in itertools.pairwise(ids)):
        return table.combine_chunks()
    return table.take(pc.sort_indices(table["id"])).combine_chunks()


_NEAR = 1000


class Lookup(Protocol):
    """Finds ids without reading all of them."""

    def positions(self, ids: Iterable[str]) -> list[int]:
        """Return the places of those ids that a record has, in :meth:`ArchiveFolder.batches`."""
        ...

    def near_ids(self, id_: str) -> list[str]:
        """Return ids that sort next to an unknown one."""
        ...


class ArchiveFolder:
    """A consistent view of an archive: later writes are not visible.

    Attributes:
        folder: Its path.
        manifest: Its manifest.
        lookup: Finds ids, if something knows them: then no record needs a scan of all ids.
    """

    def __init__(self, folder: Path, manifest: Manifest, table: RecordTable | None) -> None:
        self.folder = folder
        self.manifest = manifest
        self.lookup: Lookup | None = None
        self._table = table
        self._mark: ReaderMark | None = None

    @classmethod
    def open(cls, folder: str | Path) -> ArchiveFolder:
        """Open an archive for reading, in a folder or in an object store.

        Raises:
            ArchiveError: There is none, or it is broken.
            DataError: The object store cannot be reached, or refuses.
        """
        folder = Path(folder)
        mark = ReaderMark(folder)  # before opening, so that no writer removes the version
        manifest = read_manifest(folder)
        base = folder / manifest.base
        check_files(folder, manifest)
        table = RecordTable.open(base, pinned=True)
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

    @functools.cached_property
    def space(self) -> Space | None:
        """What maps an encoder's own embeddings to the stored ones; ``None`` if they are the same.

        Raises:
            ModelError: Its file is broken.
        """
        from landcue.archive.space import fitted_space

        folder = self.model_folder
        return None if folder is None else fitted_space(folder)

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

    def stored(self) -> dict[str, Stored]:
        """Return the metadata of all records by id."""
        with reading(self.folder):
            return read_stored(self._table)

    def read_records(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return all stored values of some records except their vectors and thumbnails.

        Raises:
            UsageError: No record has one of the ids; the message names near matches.
        """
        hidden = {"embedding", "code", "label_scores", "regions", "thumbnail"}
        hidden |= {"check", "metadata_check"}
        names = [name for name in self.manifest.schema.names if name not in hidden]
        rows = {row["id"]: row for row in self._rows(dict.fromkeys(ids), names)}
        for id_ in ids:
            if id_ not in rows:
                raise self.unknown(id_)
        return [rows[id_] for id_ in ids]

    def file(self, id_: str) -> Path:
        """Return the path of a record's image at the time of indexing.

        Raises:
            UsageError: No record has this id.
        """
        (row,) = self.read_records([id_])
        return self.manifest.file(row["source"], row["path"])

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
        return () if self._table is None else tuple(check_rows(self._table, self.manifest).problems)

    def unknown(self, id_: str) -> UsageError:
        """Return the error for an id that no record has, naming near matches."""
        if self.lookup is not None:
            return unknown_id(id_, self.lookup.near_ids(id_))
        ids = [] if self._table is None else sorted(self._table.read(["id"])["id"].to_pylist())
        return unknown_id(id_, ids)

    def _rows(self, ids: Iterable[str], columns: list[str]) -> list[dict[str, Any]]:
        if self._table is None:
            return []
        wanted = set(ids)
        with reading(self.folder):
            if self.lookup is not None:
                found = self._table.at(self.lookup.positions(wanted), columns).to_pylist()
                if wanted.issuperset(row["id"] for row in found):
                    return found
            return self._table.rows(wanted, columns).to_pylist()


def own_model(folder: Path) -> Path | None:
    """Return the copy of the model in a possibly unfinished archive, or ``None``."""
    base = read_manifest(folder).base if storage.exists(folder / MANIFEST) else ""
    return storage.local_copy(folder / base / MODEL_FOLDER)


def unknown_id(id_: str, ids: list[str] | tuple[str, ...]) -> UsageError:
    """Return the error for an id that is not among the sorted ``ids``."""
    if len(ids) > 2 * _NEAR:  # comparing with a million ids would take minutes
        import bisect

        place = bisect.bisect_left(ids, id_)
        ids = ids[max(0, place - _NEAR) : place + _NEAR]
    return UsageError(f"no record has the id {id_!r}{did_you_mean(id_, ids, most=3)}")
