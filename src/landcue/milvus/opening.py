"""Open an archive folder or a collection by its path or address."""

from __future__ import annotations

from pathlib import Path

from landcue.archive.archive import ArchiveFolder
from landcue.errors import UsageError
from landcue.milvus.address import Address, is_address


def open_archive(path: Path, model: Path | None = None) -> ArchiveFolder:
    """Open an archive folder, or a collection ``milvus://host:port/collection``.

    Args:
        path: Folder or address.
        model: Folder of the model that made the embeddings of a collection.

    Raises:
        ArchiveError: There is none, or it is broken, or its server cannot be used.
        UsageError: The address is not valid, or a model is specified for a folder.
    """
    if is_address(path):
        from landcue.milvus.archive import MilvusArchive

        return MilvusArchive(Address.parse(path), model)
    if model is not None:
        raise UsageError(
            "--model is for milvus:// collections only: an archive folder holds its own model"
        )
    return ArchiveFolder.open(path)
