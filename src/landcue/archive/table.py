"""The table of records on disk: every use of LanceDB, with one-line errors."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import itertools
import os
import re
import sys
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import pyarrow as pa

from landcue.archive import storage
from landcue.data.objects import is_object, shown
from landcue.errors import ArchiveError, first_line

TABLE_FOLDER = "records.lance"


@contextlib.contextmanager
def reading(folder: Path) -> Generator[None]:
    """Convert errors of reading the table to :class:`ArchiveError`."""
    try:
        yield
    except BaseException as error:
        if not _from_library(error):
            raise
        raise ArchiveError(
            f"{shown(folder / TABLE_FOLDER)} cannot be read ({_short(error)}); run 'landcue "
            "archive repair', restore it from a copy, or index the images again into a new folder"
        ) from None


@contextlib.contextmanager
def writing(folder: Path, safe: int | None) -> Generator[None]:
    """Convert errors of writing to an :class:`ArchiveError` that names the safe records."""
    storage.check_locked(folder)
    try:
        yield
    except BaseException as error:
        if not _from_library(error):
            raise
        kept = "the records committed so far" if safe is None else f"{safe} records"
        full = f"os error {errno.ENOSPC}" in str(error) or f"os error {errno.EDQUOT}" in str(error)
        why, fix = ("no space left", "free space") if full else (_short(error), "fix that")
        raise ArchiveError(
            f"cannot write {shown(folder)}: {why}; {kept} are safe, {fix} and run the same command "
            "again"
        ) from None


def _from_library(error: BaseException) -> bool:
    """Return whether an error is from LanceDB or Arrow, not from our code or an interrupt."""
    # A panic on damaged bytes raises a class that neither library exports.
    panicked = type(error).__name__ in {"RustPanic", "PanicException"}
    return panicked or isinstance(error, RuntimeError | OSError | ValueError | pa.ArrowException)


def _short(error: BaseException) -> str:
    """Return the first line of a message, without the library's own source positions."""
    line = first_line(error)
    line = re.sub(r",?\s*/\S+\.rs:\d+:\d+.*$", "", line)
    return line if len(line) <= 300 else line[:299] + "…"


TABLE = "records"
HINT = "latest_version_hint.json"

_IDS_AT_ONCE = 500
_LAST_VERSION = 2**64 - 1
_FOREVER = timedelta(days=36_500)
_GRACE = timedelta(hours=1)
"""How long the versions of a table in an object store are kept: nothing knows its readers."""


class RecordTable:
    """The rows of one archive, at one version for readers, at the latest for a writer."""

    def __init__(self, folder: Path, table: Any, pinned: int | None = None) -> None:
        self.folder = folder
        self._table = table
        self._pinned = pinned  # LanceDB takes a millisecond to say which version it reads

    @classmethod
    def open(cls, folder: Path, *, pinned: bool) -> RecordTable | None:
        """Open the table of an archive, or return ``None`` when it has none yet.

        Args:
            pinned: Stay at the opened version when a writer commits.

        Raises:
            ArchiveError: The table is broken.
        """
        # A writer that was killed while it created the table leaves a folder without a version.
        if newest_version(folder) is None:
            return None
        with reading(folder):
            table = _open(folder)
            if not pinned:
                return cls(folder, table)
            version = int(table.version)
            table.checkout(version)
            return cls(folder, table, version)

    @classmethod
    def create(cls, folder: Path, schema: pa.Schema) -> RecordTable:
        """Make an empty table."""
        with writing(folder, 0):
            return cls(folder, _connect(folder).create_table(TABLE, schema=schema))

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        with reading(self.folder):
            return self._table.schema

    @property
    def version(self) -> int:
        """The opened version: it grows with every commit."""
        if self._pinned is not None:
            return self._pinned
        with reading(self.folder):
            return int(self._table.version)

    def count(self) -> int:
        """Return the number of rows."""
        with reading(self.folder):
            return int(self._table.count_rows())

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns of all rows, in no particular order."""
        with reading(self.folder):
            return self._table.search().select(list(columns)).to_arrow()

    def batches(self, columns: Sequence[str], rows: int = 1024) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows in batches."""
        with reading(self.folder):
            yield from self._table.search().select(list(columns)).to_batches(rows)

    def slice(self, start: int, n: int, columns: Sequence[str] | None = None) -> pa.RecordBatch:
        """Return rows by their position, which is fixed within a version."""
        with reading(self.folder):
            query = self._table.search().offset(start).limit(n)
            rows = (query.select(list(columns)) if columns else query).to_arrow().combine_chunks()
            batches = rows.to_batches()
            return batches[0] if batches else pa.RecordBatch.from_pylist([], rows.schema)

    def at(self, positions: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Return rows by their places in :meth:`batches`, in no particular order."""
        with reading(self.folder):
            return self._table.take_offsets(list(positions)).select(list(columns)).to_arrow()

    def rows(self, ids: Iterable[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows with these ids, all columns by default, in no particular order."""
        with reading(self.folder):
            parts: list[pa.Table] = []
            for where in _id_filters(ids):
                found = self._table.search().where(where)
                parts.append((found.select(list(columns)) if columns else found).to_arrow())
            return pa.concat_tables(parts)

    def add(self, rows: pa.Table) -> None:
        """Append new rows, all or none."""
        with self._committing():
            self._table.add(rows)

    def replace(self, rows: pa.Table) -> None:
        """Replace the rows with the same ids, all or none.

        Columns that ``rows`` does not have keep their values.
        """
        with self._committing():
            self._table.merge_insert("id").when_matched_update_all().execute(rows)

    def delete(self, ids: Iterable[str]) -> None:
        """Remove the rows with these ids, all or none; older versions keep them."""
        with self._committing():
            for where in _id_filters(ids, at_once=None):
                self._table.delete(where)

    def has_one_version(self) -> bool:
        """Return whether no older version is kept."""
        with reading(self.folder):
            return len(self._table.list_versions()) <= 1

    def compact(self) -> None:
        """Merge small files into a new version."""
        with self._committing():
            far = is_object(self.folder)
            self._table.optimize(cleanup_older_than=_GRACE if far else _FOREVER)

    def drop_older(self) -> None:
        """Remove every older version; only if no other process reads it or writes the archive."""
        with writing(self.folder, self._safe()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns about removing versions, which is intended
            if not is_object(self.folder):
                # The new files must be on disk before the old ones are removed.
                sync_folder(self.folder / TABLE_FOLDER)
            for name, part in storage.listed(self.folder / TABLE_FOLDER).items():
                if is_partial(name.rpartition("/")[2]):
                    storage.remove(part)  # left by a writer that was killed
            self._table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    def rewrite_deleted(self) -> None:
        """Write all rows into new files if the present ones hold deleted rows.

        LanceDB only marks rows as deleted, and merging files keeps a file of which few are.
        """
        if storage.listed(self.folder / TABLE_FOLDER / "_deletions"):
            with self._committing():
                self._table.update(where="true", values_sql={"id": "id"})

    @contextlib.contextmanager
    def _committing(self) -> Generator[None]:
        """Commit in a with block; take the commit back when a file of it is not whole.

        LanceDB does not notice when the last write to a file fails, and commits a version that
        cannot be read.
        """
        with writing(self.folder, self._safe()):
            if is_object(self.folder):  # objects are stored whole or not at all
                yield
                return
            versions, files = set(version_files(self.folder)), self._data_files()
            broken = None
            try:
                yield
            finally:
                broken = self._cut_file(self._data_files() - files)
                if broken:
                    for path in set(version_files(self.folder)) - versions:
                        path.unlink()
                    drop_hint(self.folder)
                    self._table = _open(self.folder)
            if broken:
                raise OSError(errno.EIO, f"{broken.name} was not written in full")

    def _cut_file(self, new: set[Path]) -> Path | None:
        """Return one of these new files of which the end is missing, if there is one."""
        for path in new:
            end = _ENDS.get(path.suffix)
            if end and _tail(path, len(end)) != end:
                return path
            if path.suffix == ".bin":  # a bitmap of deleted rows has no mark at its end
                try:
                    _open(self.folder).search().select(["id"]).to_arrow()
                except (RuntimeError, OSError, ValueError):
                    return path
        return None

    def _data_files(self) -> set[Path]:
        table = self.folder / TABLE_FOLDER
        return {path for part in ("data", "_deletions") for path in table.glob(f"{part}/*")}

    def _safe(self) -> int | None:
        try:
            return int(self._table.count_rows())
        except (RuntimeError, OSError, ValueError):
            return None


# How whole files of LanceDB end.
_ENDS = {".lance": b"LANC", ".arrow": b"ARROW1"}


def _tail(path: Path, n: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - n))
        return file.read()


def is_partial(name: str) -> bool:
    """Return whether a name in the table's folder is that of a file that was never finished."""
    return name.startswith(".") or "#" in name  # LanceDB's temporary names


def newest_version(folder: Path) -> Path | None:
    """Return the file that describes the newest version of an archive's table, if it has one."""
    return max(version_files(folder), key=version_number, default=None)


def version_files(folder: Path) -> list[Path]:
    """Return the files that describe the versions of an archive's table, in no order."""
    found = storage.listed(folder / TABLE_FOLDER / "_versions").values()
    return [path for path in found if path.suffix == ".manifest" and path.stem.isdecimal()]


def version_number(path: Path) -> int:
    """Return the version that such a file describes; newer ones have smaller names."""
    name = int(path.stem)
    return _LAST_VERSION - name if name > _LAST_VERSION // 2 else name


def drop_hint(folder: Path) -> None:
    """Remove the hint of the newest version: LanceDB works without it."""
    if not is_object(folder):
        with contextlib.suppress(OSError):
            (folder / TABLE_FOLDER / "_versions" / HINT).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush all files below a folder, and if the system can their directory entries, to disk."""
    for path in (folder, *folder.rglob("*")):
        # Opening a pipe would wait forever.
        if not path.is_file() and (os.name == "nt" or not path.is_dir()):
            continue
        handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _open(folder: Path) -> Any:
    """Open a table that is there; unlike a connection to its folder, this never creates one."""
    if is_object(folder):
        return _connect(folder).open_table(TABLE)
    connection = _lancedb().connect("memory://")
    return _lancedb().table.LanceTable.open(
        connection, TABLE, location=str((folder / TABLE_FOLDER).absolute())
    )


def _connect(folder: Path) -> Any:
    """Connect to the folder of a table, which LanceDB creates if it is missing."""
    address, options = storage.lance_address(folder)
    return _lancedb().connect(address, storage_options=options)


def _lancedb() -> Any:
    # Read once when the library loads: its messages about ordinary events are not for users.
    os.environ.setdefault("LANCEDB_LOG", "error")
    return _import_lancedb()


@functools.cache
def _import_lancedb() -> Any:
    """Import LanceDB without the HTTP client of REST catalogs, which takes 0.3 s and is not used.

    LanceDB needs only the client's models. The client itself is imported when something asks the
    package for it.
    """
    name = "lance_namespace_urllib3_client"
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return importlib.import_module("lancedb")
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def load(attribute: str) -> Any:
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = load
    sys.modules[name] = package
    return importlib.import_module("lancedb")


def _id_filters(ids: Iterable[str], at_once: int | None = _IDS_AT_ONCE) -> Iterator[str]:
    quoted = ["'" + id_.replace("'", "''") + "'" for id_ in ids]
    step = at_once or max(1, len(quoted))
    for first in range(0, max(1, len(quoted)), step):
        part = ", ".join(quoted[first : first + step])
        yield f"id IN ({part})" if part else "false"


Kind = Literal["add", "replace", "refresh"]

_COMMITS_WAITING = 2


class Writer:
    """Collects rows and commits them in a separate thread; use it in a with block.

    Leaving the block commits the remaining rows, even after an error: finished work is kept.
    """

    def __init__(self, table: RecordTable, commit_every: int) -> None:
        self._table, self._commit_every = table, commit_every
        self._rows: dict[Kind, list[pa.Table]] = {"add": [], "replace": [], "refresh": []}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="archive writer")
        self._commits: deque[Future[None]] = deque()
        self._failed = False

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._thread:
            self._submit()
        while kind is None and self._commits:
            self._commits.popleft().result()

    def put(self, kind: Kind, rows: pa.Table) -> None:
        """Queue rows; waits while the queue is full."""
        if len(rows):
            self._rows[kind].append(rows)
        if sum(map(len, itertools.chain(*self._rows.values()))) >= self._commit_every:
            self._submit()
            while len(self._commits) > _COMMITS_WAITING or self._failed:
                self._commits.popleft().result()

    def _submit(self) -> None:
        rows: dict[Kind, pa.Table] = {
            kind: pa.concat_tables(tables) for kind, tables in self._rows.items() if tables
        }
        self._rows = {kind: [] for kind in self._rows}
        self._commits.append(self._thread.submit(self._commit, rows))

    def _commit(self, rows: Mapping[Kind, pa.Table]) -> None:
        if self._failed:  # earlier rows are missing: the next run encodes both again
            return
        try:
            for kind, part in rows.items():
                (self._table.add if kind == "add" else self._table.replace)(part)
        except BaseException:
            self._failed = True
            raise
