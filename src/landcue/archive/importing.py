"""Import a Parquet table of embeddings as an archive."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from landcue import __version__
from landcue.archive import storage
from landcue.archive.changes import finalize
from landcue.archive.import_columns import ImportColumns, TableReader
from landcue.archive.layout import check_free, start_table
from landcue.archive.manifest import IMPORTED, MANIFEST, Manifest, read_manifest
from landcue.archive.schema import encoded_rows, first_of_each
from landcue.archive.sources import Source, new_name
from landcue.archive.table import RecordTable, Writer
from landcue.errors import ArchiveError, DataError
from landcue.types import Problem

Progress = Callable[[int, int], object]
"""Called with (rows done, rows)."""


@dataclass(slots=True)
class ImportReport:
    """The result of an import.

    Attributes:
        added: Records added now.
        present: Records that an earlier run of the same import had added.
        skipped: Rows that were left out, with the reasons.
        records: Records in the archive now.
        dim: Length of an embedding.
        n_bits: Bits of a code.
        least_norm: Smallest norm of an embedding in the table.
        largest_norm: Largest norm. Embeddings are stored with norm 1.
    """

    dim: int
    n_bits: int
    added: int = 0
    present: int = 0
    records: int = 0
    least_norm: float = float("inf")
    largest_norm: float = 0.0
    skipped: list[Problem] = field(default_factory=lambda: list[Problem]())

    @property
    def normalized(self) -> bool:
        """Whether the embeddings did not all have length 1 and were scaled."""
        return self.added > 0 and not (
            abs(self.least_norm - 1) <= 1e-3 and abs(self.largest_norm - 1) <= 1e-3
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        value = asdict(self)
        if not self.added:
            value["least_norm"] = value["largest_norm"] = None
        return value | {"normalized": self.normalized}


def import_table(
    file: str | Path,
    folder: str | Path,
    columns: ImportColumns,
    *,
    commit_every: int = 8192,
    progress: Progress | None = None,
) -> ImportReport:
    """Create an archive from a Parquet table; after a crash the same call resumes.

    The archive has no images, no thumbnails and no model: it is searched by record and by vector.
    Embeddings are scaled to length 1. A table that LandCue exported says of which space they are.

    Args:
        folder: The archive to make.

    Raises:
        UsageError: The table has no such column, or one of the wrong type.
        DataError: The table cannot be read, or none of its rows can be used.
        ArchiveError: The folder holds another archive or something else, or cannot be written.

    >>> import pyarrow, pyarrow.parquet
    >>> table = pyarrow.table({"id": ["a", "b"], "vector": [[1.0, 0.0], [0.6, 0.8]]})
    >>> pyarrow.parquet.write_table(table, "table.parquet")
    >>> import_table("table.parquet", "imported", ImportColumns("vector")).records
    2
    """
    file = Path(file)
    folder = Path(folder)
    name = new_name({}, file, {})
    reader = TableReader(file, columns)
    manifest = Manifest(
        fingerprint=_fingerprint(file, columns),
        dim=reader.dim,
        n_bits=reader.n_bits,
        label_names=(),
        sources={name: Source.at(file.absolute(), file.absolute().parent)},
        model={
            "name": IMPORTED,
            "table": file.name,
            "columns": asdict(columns),
            **reader.model_facts,
        },
        landcue=__version__,
    )
    report = ImportReport(reader.dim, reader.n_bits)
    with storage.locked(folder, "importing into", create=True):
        manifest, table = _open(folder, manifest, file)
        known = set(table.read(["id"])["id"].to_pylist())
        before = len(known)
        with Writer(table, commit_every) as writer:
            for done, piece in reader.pieces():
                report.skipped += piece.problems
                new = first_of_each([row.id for row in piece.metadata], known)
                fresh = list(itertools.compress(range(len(new)), new))
                report.present += len(new) - len(fresh)
                if fresh:
                    report.least_norm = min(report.least_norm, float(piece.norms[fresh].min()))
                    report.largest_norm = max(report.largest_norm, float(piece.norms[fresh].max()))
                    writer.put("add", _rows(piece, fresh, name, manifest.schema))
                report.added += len(fresh)
                if progress is not None:
                    progress(done, reader.rows)
        if not known:
            first = f" (first: {report.skipped[0]})" if report.skipped else ""
            raise DataError(f"{file} has no usable row{first}")
        repeated = report.present - before
        if repeated > 0:
            report.present = before
            report.skipped.append(
                Problem(file.name, f"{repeated} rows with a repeated id were left out")
            )
        report.records = finalize(folder, manifest, table, changed=report.added > 0)
    return report


def _rows(piece: Any, wanted: list[int], source: str, schema: pa.Schema) -> pa.Table:
    return encoded_rows(
        [replace(piece.metadata[i], source=source) for i in wanted],
        [""] * len(wanted),
        [b""] * len(wanted),
        piece.encoding(wanted),
        (),
        schema,
    )


def _open(folder: Path, manifest: Manifest, file: Path) -> tuple[Manifest, RecordTable]:
    """Create the archive, or resume the same import."""
    if storage.exists(folder / MANIFEST):
        found = read_manifest(folder)
        if found.fingerprint != manifest.fingerprint:
            raise ArchiveError(
                f"{folder} holds another archive, not an import of {file}; choose a new folder"
            )
        table = RecordTable.open(folder / found.base, pinned=False)
        if table is not None:
            return found, table
    else:
        check_free(folder)
    return manifest, start_table(folder, manifest)


def _fingerprint(file: Path, columns: ImportColumns) -> str:
    """Return SHA-256 (hex) of the table and the choice of columns, as the model's fingerprint."""
    try:
        with file.open("rb") as data:
            content = hashlib.file_digest(data, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    return hashlib.sha256(f"{content} {asdict(columns)}".encode()).hexdigest()
