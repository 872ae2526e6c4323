"""Archives: a Lance table of records, a manifest, checksums, and the changes that keep them so."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landcue.archive.archive import ArchiveFolder
    from landcue.archive.changes import compact, delete, describe, size_of
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
    from landcue.archive.verify import VerifyReport, verify_archive

_MODULES = {
    "ArchiveFolder": "archive",
    "ImportColumns": "import_columns",
    "ImportReport": "importing",
    "IndexOptions": "indexing",
    "IngestReport": "ingest",
    "VerifyReport": "verify",
    "compact": "changes",
    "delete": "changes",
    "describe": "changes",
    "import_table": "importing",
    "index_source": "indexing",
    "reembed_archive": "indexing",
    "repair_archive": "indexing",
    "size_of": "changes",
    "verify_archive": "verify",
    "write_geojson": "export",
    "write_geoparquet": "export",
    "write_stac": "export",
}

__all__ = [
    "ArchiveFolder",
    "ImportColumns",
    "ImportReport",
    "IndexOptions",
    "IngestReport",
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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
