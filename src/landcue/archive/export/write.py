"""Exports go to a file that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from landcue.archive.archive import ArchiveFolder
from landcue.archive.schema import METADATA_NAMES

Progress = Callable[[int, int], object]
"""Called with (records done, records)."""

ROWS_AT_ONCE = 1024


def exported_rows(
    archive: ArchiveFolder, *, vectors: bool, progress: Progress | None
) -> Iterator[list[dict[str, Any]]]:
    """Yield rows piece by piece, in the table's order.

    Args:
        archive: Whose rows.
        vectors: Whether embeddings and codes are wanted too.
        progress: Called after each piece.
    """
    present = archive.manifest.schema.names
    names = [*METADATA_NAMES, "predicted_labels"]
    names += [name for name in ("embedding", "code") if vectors and name in present]
    total, rows = archive.count, 0
    for batch in archive.batches(names, ROWS_AT_ONCE):
        yield batch.to_pylist()
        rows += len(batch)
        if progress is not None:
            progress(rows, total)
