"""Open an archive folder or a collection by what stands on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from landcue.archive.archive import ArchiveFolder
from landcue.errors import UsageError
from landcue.milvus.address import Address, is_address
from landcue.search.searcher import Searcher
from landcue.types import Encoder


def open_archive(path: Path, model: Path | None = None) -> ArchiveFolder:
    """Open an archive folder, or a collection ``milvus://host:port/collection``.

    Args:
        path: Folder or address.
        model: Of a collection: folder of the model that made its embeddings.

    Raises:
        ArchiveError: There is none, or it is broken, or its server cannot be used.
        UsageError: The address cannot be read, or a model was given for a folder, which has one.
    """
    if is_address(path):
        from landcue.milvus.archive import MilvusArchive

        return MilvusArchive(Address.parse(path), model)
    if model is not None:
        raise UsageError("--model belongs to milvus:// collections: a folder holds its own model")
    return ArchiveFolder.open(path)


def open_searcher(
    archive: ArchiveFolder, encoder: Encoder | Callable[[], Encoder] | None = None
) -> Searcher:
    """Return what searches an archive that :func:`open_archive` opened."""
    from landcue.milvus.archive import MilvusArchive

    if isinstance(archive, MilvusArchive):
        from landcue.milvus.searcher import MilvusSearcher

        return MilvusSearcher(archive, encoder)
    return Searcher(archive, encoder)
