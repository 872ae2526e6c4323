"""Exports go to a file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from landcue.archive.archive import Archive
from landcue.archive.schema import METADATA_NAMES
from landcue.errors import LandcueError

Progress = Callable[[int, int], object]
"""Called with (records done, records)."""

ROWS_AT_ONCE = 1024


@contextlib.contextmanager
def whole_file(out: Path) -> Generator[Path]:
    """Give a temporary path to write; it replaces ``out`` when the block ends well.

    Raises:
        LandcueError: The file cannot be written; an older one stays.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LandcueError(f"cannot write {out}: {reason}; free space or choose another") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def exported_rows(
    archive: Archive, *, vectors: bool, progress: Progress | None
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
