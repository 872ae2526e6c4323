"""Archives: a Lance table of records, a manifest, checksums, and operations on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.archive.archive import ArchiveFolder
    from landcue.archive.changes import DeleteReport, compact, delete, describe, size_of
    from landcue.archive.export import write_geojson, write_geoparquet, write_stac
    from landcue.archive.import_columns import ImportColumns
    from landcue.archive.importing import ImportReport, import_table
    from landcue.archive.indexing import (
        IndexOptions,
        index_source,
        reembed_archive,
        repair_archive,
    )
    from landcue.archive.ingest import IngestReport
    from landcue.archive.sources import Source
    from landcue.archive.verify import VerifyReport, verify_archive

__all__ = [
    "ArchiveFolder",
    "DeleteReport",
    "ImportColumns",
    "ImportReport",
    "IndexOptions",
    "IngestReport",
    "Source",
    "VerifyReport",
    "compact",
    "delete",
    "describe",
    "import_table",
    "index_source",
    "reembed_archive",
    "repair_archive",
    "size_of",
    "verify_archive",
    "write_geojson",
    "write_geoparquet",
    "write_stac",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.archive.archive": ("ArchiveFolder",),
        "landcue.archive.changes": ("DeleteReport", "compact", "delete", "describe", "size_of"),
        "landcue.archive.export": ("write_geojson", "write_geoparquet", "write_stac"),
        "landcue.archive.import_columns": ("ImportColumns",),
        "landcue.archive.importing": ("ImportReport", "import_table"),
        "landcue.archive.indexing": (
            "IndexOptions",
            "index_source",
            "reembed_archive",
            "repair_archive",
        ),
        "landcue.archive.ingest": ("IngestReport",),
        "landcue.archive.sources": ("Source",),
        "landcue.archive.verify": ("VerifyReport", "verify_archive"),
    },
)
