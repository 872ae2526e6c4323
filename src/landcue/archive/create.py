"""A new archive folder: model first, manifest, then the table, so that a crash can go on."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from landcue.archive.manifest import MANIFEST, Manifest, write_manifest
from landcue.archive.readers import READERS
from landcue.archive.seal import MODEL_FOLDER, SEAL
from landcue.archive.table import TABLE_FOLDER, RecordTable
from landcue.errors import ArchiveError
from landcue.files import read_json
from landcue.types import Encoder

MODEL_FILES = ("config.json", "model.safetensors", "README.md")
EXPORTED = "model.onnx"
"""Name of an exported model, which is a single file."""

_OURS = {".lock", READERS, MODEL_FOLDER, f".{MODEL_FOLDER}.tmp", MANIFEST, TABLE_FOLDER, SEAL}


def check_free(folder: Path) -> None:
    """Refuse to make an archive in a folder that holds something else.

    Raises:
        ArchiveError: Names one of the things.
    """
    if not folder.is_dir():
        return
    others = [
        path.name
        for path in folder.iterdir()
        if path.name not in _OURS and not path.name.startswith(f".{MANIFEST}.")
    ]
    if others:
        raise ArchiveError(
            f"{folder} is not an archive and not empty ({min(others)} …); choose a new folder"
        )


def create_table(
    folder: Path,
    encoder: Encoder,
    source_root: Path,
    model_folder: Path | None,
    model: Mapping[str, Any],
    scenes: Mapping[str, Any] | None = None,
) -> tuple[Manifest, RecordTable]:
    """Make an empty archive in a locked folder, or finish making one.

    Raises:
        LandcueError: The folder cannot be written, or the model cannot be copied.
    """
    manifest = replace(Manifest.of(encoder, source_root, model), scenes=dict(scenes or {}))
    if model_folder is not None:
        copy_model(model_folder, folder, encoder)
    try:
        (folder / READERS).touch()
    except OSError as error:
        raise ArchiveError(f"cannot write {folder}: {error.strerror}; free space") from None
    write_manifest(folder, manifest)
    return manifest, RecordTable.create(folder, manifest.schema)


def copy_model(source: Path, folder: Path, encoder: Encoder) -> None:
    """Copy a checkpoint folder, or an exported file, into the archive, complete or not at all.

    Raises:
        ArchiveError: There is no checkpoint, it is another model's, or the copy fails.
    """
    target, temporary = folder / MODEL_FOLDER, folder / f".{MODEL_FOLDER}.tmp"
    if has_model(folder, encoder):
        return
    mark = _fingerprint(source)
    if mark is None:
        raise ArchiveError(f"{source} holds no model; give the folder of the model that encodes")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        files = {name: source / name for name in MODEL_FILES}
        if source.is_file():
            files = {EXPORTED: source}
        for name, file in files.items():
            if file.is_file():
                shutil.copyfile(file, temporary / name)
                _sync(temporary / name)
        mark = _fingerprint(temporary)
        if mark != encoder.fingerprint:
            raise ArchiveError(
                f"{source} holds model {str(mark)[:12]}, but {encoder.fingerprint[:12]} encodes; "
                "wait until its training is over and load it again"
            )
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    except OSError as error:
        raise ArchiveError(
            f"cannot copy {source} to {target}: {error.strerror or error}; free space and run the "
            "same command again"
        ) from None


def has_model(folder: Path, encoder: Encoder) -> bool:
    """Tell whether the folder of table and model holds this model already."""
    return _fingerprint(folder / MODEL_FOLDER) == encoder.fingerprint


def _fingerprint(model: Path) -> str | None:
    """Return the fingerprint of a checkpoint folder or an exported file."""
    if (model / MODEL_FILES[0]).is_file():
        hint = "restore it from a copy of the model"
        return str(read_json(model / MODEL_FILES[0], ArchiveError, hint).get("fingerprint"))
    exported = model / EXPORTED if model.is_dir() else model
    if not exported.is_file():
        return None
    with exported.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
