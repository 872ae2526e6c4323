"""Where records and model lie: the archive's own folder at first, then ``v2``, ``v3`` and so on.

A new base is made beside the one that serves. One atomic change of the manifest lets it serve;
the old one goes when nobody reads it any more.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from landcue.archive.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from landcue.archive.readers import READERS, unread
from landcue.archive.seal import MODEL_FOLDER, SEAL, write_seal
from landcue.archive.table import TABLE_FOLDER, RecordTable, sync_folder
from landcue.errors import ArchiveError

_INDEXES = "indexes"


def number(base: str) -> int:
    """Return 1 for the archive's own folder, n for ``vn``."""
    return int(base[1:]) if base else 1


def next_base(base: str) -> str:
    """Return the name of the folder that is filled while ``base`` serves."""
    return f"v{number(base) + 1}"


def unfinished(folder: Path, manifest: Manifest) -> str | None:
    """Say what is being made beside what serves, or was interrupted."""
    stage = folder / next_base(manifest.base)
    if not stage.is_dir():
        return None
    if not (stage / MANIFEST).exists():
        return "a repair or the start of another model's embeddings"
    try:
        mark = read_manifest(stage).fingerprint
    except ArchiveError:
        return "embeddings of another model"
    table = RecordTable.open(stage, pinned=True)
    return f"embeddings of model {mark[:12]}: {0 if table is None else table.count()} records"


def switch(folder: Path, manifest: Manifest, base: str) -> Manifest:
    """Let a finished base serve, and remove the older ones unless somebody reads them.

    Args:
        folder: The archive, locked.
        manifest: Of what shall serve.
        base: The folder that holds it.

    Raises:
        LandcueError: The folder cannot be written; what served before still does.
    """
    try:
        sync_folder(folder / base)
    except OSError as error:
        raise ArchiveError(f"cannot write {folder / base}: {error.strerror}; free space") from None
    manifest = replace(manifest, base=base)
    write_manifest(folder, manifest)
    write_seal(folder, manifest)
    sweep(folder, base)
    return manifest


def sweep(folder: Path, base: str) -> None:
    """Remove what bases before this one left, if nobody reads the archive."""
    left = list(_leftovers(folder, base))
    if not left:
        return
    with unread(folder) as nobody:
        if not nobody:
            return
        for path in left:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # the next change tries again
                    path.unlink(missing_ok=True)


def _leftovers(folder: Path, base: str) -> Iterator[Path]:
    if not base:
        return
    older = [folder / TABLE_FOLDER, folder / MODEL_FOLDER]
    older += [path for path in folder.glob("v*") if 1 < _number(path) < number(base)]
    older = [path for path in older if path.exists()]
    yield from older
    if older and (folder / _INDEXES).exists():  # built for them; searches build them again
        yield folder / _INDEXES
    for name in (MANIFEST, SEAL, READERS, ".lock"):  # from when it was made like an archive
        if (folder / base / name).exists():
            yield folder / base / name


def _number(path: Path) -> int:
    return int(path.name[1:]) if re.fullmatch(r"v[0-9]+", path.name) else 0
