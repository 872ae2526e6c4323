"""The folder of an archive: its creation, its readers, and the paths of its parts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from landcue.archive import storage
from landcue.archive.checksums import (
    CHECKED,
    CHECKSUMS,
    INDEXES,
    MODEL_FOLDER,
    write_checksums,
)
from landcue.archive.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from landcue.archive.sources import Source
from landcue.archive.table import TABLE_FOLDER, RecordTable, sync_folder
from landcue.data.objects import is_object, shown
from landcue.errors import ArchiveError
from landcue.files import read_json
from landcue.types import Encoder

READERS = ".readers"


_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_READER_WAITS = 2.0
"""Seconds; a writer looks for readers in far less time."""

if sys.platform == "win32":

    def _lock_shared(handle: int) -> bool:
        """Do nothing: Windows does not rename a file that a process has open."""
        return True

    def _nobody_has_open(file: Path) -> bool:
        aside = file.with_name(f"{file.name}.tmp")
        try:
            file.rename(aside)
        except OSError:
            return False
        aside.rename(file)
        return True

else:
    import fcntl

    def _lock_shared(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _nobody_has_open(file: Path) -> bool:
        try:
            with file.open("a+b") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # also when nothing can be written: then nothing must be removed either
            return False
        return True


class ReaderMark:
    """Marks an archive as being read until it is released, collected, or the process ends."""

    def __init__(self, folder: Path) -> None:
        self.release = lambda: None
        if is_object(folder):
            return
        with contextlib.suppress(OSError):  # an archive that cannot be written has no writer either
            handle = os.open(folder / READERS, _READ)
            self.release = weakref.finalize(self, os.close, handle)
            # A writer that was stopped while it looked for readers must not keep them out.
            until = time.monotonic() + _READER_WAITS
            while not _lock_shared(handle) and time.monotonic() < until:
                time.sleep(0.01)


def is_unread(folder: Path) -> bool:
    """Return whether no process reads an older version of the archive than its newest.

    Call it after the newest version was written: who opens the archive later reads that one.
    """
    return not is_object(folder) and _nobody_has_open(folder / READERS)


MODEL_FILES = ("config.json", "model.safetensors", "README.md")
EXPORTED = "model.onnx"
"""Name of an exported model, which is a single file."""
CODES = "codes.safetensors"
"""Codes that were fitted to an archive, beside the files of an encoder of ours."""
TOWER = "tower"
"""Folder of the files of an encoder of another library, inside a model folder."""

_OURS = {
    ".lock",
    READERS,
    MODEL_FOLDER,
    f".{MODEL_FOLDER}.tmp",
    MANIFEST,
    TABLE_FOLDER,
    CHECKSUMS,
    CHECKED,
}


def check_free(folder: Path) -> None:
    """Check that a folder holds nothing but an archive."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ArchiveError(
            f"{shown(folder)}: the name is not UTF-8, which the table of an archive needs; choose "
            "another folder"
        ) from None
    others = [
        name for name in storage.names(folder) - _OURS if not name.startswith(f".{MANIFEST}.")
    ]
    if others:
        raise ArchiveError(
            f"{shown(folder)} is not an archive and not empty ({min(others)} …); choose a new "
            "folder"
        )


def create_table(
    folder: Path,
    encoder: Encoder,
    sources: Mapping[str, Source],
    model_folder: Path | None,
    model: Mapping[str, Any],
) -> tuple[Manifest, RecordTable]:
    """Create an empty archive in a locked folder, or complete its creation.

    Raises:
        LandcueError: The folder cannot be written, or the model cannot be copied.
    """
    manifest = Manifest.of(encoder, sources, model)
    if model_folder is not None:
        copy_model(model_folder, folder, encoder)
    return manifest, start_table(folder, manifest)


def start_table(folder: Path, manifest: Manifest) -> RecordTable:
    """Write the manifest of a new archive and create its empty table."""
    if not is_object(folder):
        try:
            (folder / READERS).touch()
        except OSError as error:
            raise ArchiveError(f"cannot write {folder}: {error.strerror}; free space") from None
    write_manifest(folder, manifest)
    return RecordTable.create(folder, manifest.schema)


def copy_model(source: Path, folder: Path, encoder: Encoder) -> None:
    """Copy a checkpoint folder, or an exported file, into the archive atomically."""
    if has_model(folder, encoder):
        return
    if model_fingerprint(source) is None:
        raise ArchiveError(f"{source} holds no model; use the folder of the encoder's model")
    target = folder / MODEL_FOLDER
    try:
        if is_object(folder):
            with tempfile.TemporaryDirectory(prefix="landcue-model-") as temporary:
                _gather_model(source, Path(temporary), encoder)
                storage.remove(target)
                names = sorted(storage.listed(Path(temporary)), key=MODEL_FILES[0].__eq__)
                for name in names:  # the one that makes it a model last
                    storage.write(target / name, (Path(temporary) / name).read_bytes())
            return
        temporary = folder / f".{MODEL_FOLDER}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _gather_model(source, temporary, encoder)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    except OSError as error:
        raise ArchiveError(
            f"cannot copy {source} to {shown(target)}: {error.strerror or error}; free space and "
            "run the same command again"
        ) from None


def _gather_model(source: Path, folder: Path, encoder: Encoder) -> None:
    for name, file in model_files(source).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
        _sync(folder / name)
    mark = model_fingerprint(folder)
    if mark != encoder.fingerprint:
        raise ArchiveError(
            f"{source} holds model {str(mark)[:12]}, but {encoder.fingerprint[:12]} encodes; "
            "wait until its training has finished and load it again"
        )


def model_files(source: Path) -> dict[str, Path]:
    """Return the files of a run folder, a model folder or an exported file, by relative name."""
    if source.is_file():
        return {EXPORTED: source}
    if (source / TOWER).is_dir():  # an encoder of another library
        found = [path for path in sorted(source.rglob("*")) if path.is_file()]
        return {path.relative_to(source).as_posix(): path for path in found}
    names = [name for name in (*MODEL_FILES, CODES) if (source / name).is_file()]
    if MODEL_FILES[1] not in names and (source / EXPORTED).is_file():
        names.append(EXPORTED)
    return {name: source / name for name in names}


def has_model(folder: Path, encoder: Encoder) -> bool:
    """Return whether the folder of table and model holds this model already."""
    model = storage.local_copy(folder / MODEL_FOLDER)
    return model is not None and model_fingerprint(model) == encoder.fingerprint


def model_fingerprint(model: Path) -> str | None:
    """Return the fingerprint of a model folder or an exported file; ``None`` if it holds none."""
    own = embedding_fingerprint(model)
    codes = model / CODES
    if own is None or not codes.is_file():
        return own
    # As landcue.models.fitted_codes.FittedCodes has it.
    return hashlib.sha256(f"{own} {_sha256(codes)}".encode()).hexdigest()


def embedding_fingerprint(model: Path) -> str | None:
    """Return the fingerprint of what makes a model's embeddings: it, without fitted codes."""
    if (model / MODEL_FILES[0]).is_file():
        hint = "restore it from a copy of the model"
        return str(read_json(model / MODEL_FILES[0], ArchiveError, hint).get("fingerprint"))
    exported = model / EXPORTED if model.is_dir() else model
    return _sha256(exported) if exported.is_file() else None


def has_text(model: Path) -> bool:
    """Return whether a model folder says that the model has a text tower; it is not loaded."""
    file = model / MODEL_FILES[0]
    if not file.is_file():  # an exported model
        return False
    config = read_json(file, ArchiveError, "restore it from a copy of the model")
    return config.get("model", {}).get("text") is True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def number(base: str) -> int:
    """Return 1 for the archive's own folder, n for ``vn``."""
    return int(base[1:]) if base else 1


def next_base(base: str) -> str:
    """Return the name of the folder that is built while ``base`` is in use."""
    return f"v{number(base) + 1}"


def unfinished(folder: Path, manifest: Manifest) -> str | None:
    """Describe the folder that is being built, or whose build was interrupted."""
    stage = folder / next_base(manifest.base)
    if not storage.exists(stage):
        return None
    if storage.read(stage / MANIFEST) is None:
        return "a repair or the start of another model's embeddings"
    try:
        mark = read_manifest(stage).fingerprint
    except ArchiveError:
        return "embeddings of another model"
    table = RecordTable.open(stage, pinned=True)
    return f"embeddings of model {mark[:12]}: {0 if table is None else table.count()} records"


def switch(folder: Path, manifest: Manifest, base: str) -> Manifest:
    """Switch to a finished base, and remove the older ones unless a process reads them.

    Raises:
        LandcueError: The folder cannot be written; the former base stays in use.
    """
    try:
        if not is_object(folder):
            sync_folder(folder / base)
    except OSError as error:
        raise ArchiveError(f"cannot write {folder / base}: {error.strerror}; free space") from None
    manifest = replace(manifest, base=base)
    write_manifest(folder, manifest)
    write_checksums(folder, manifest)
    sweep(folder, base)
    return manifest


def sweep(folder: Path, base: str, *, readers_end: bool = False) -> None:
    """Remove the files of earlier bases, and what writers that were killed left behind.

    Args:
        base: The folder in use.
        readers_end: Whether readers of earlier versions may fail; else nothing is removed while
            a process reads the archive, or might read it from a store.
    """
    present = storage.names(folder)
    _remove(folder / name for name in present if _TEMPORARY.fullmatch(name))
    left = list(_leftovers(folder, base, present))
    if left and (readers_end or is_unread(folder)):
        _remove(left)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # the next change tries again
            storage.remove(path)


def remove_indexes(folder: Path) -> None:
    """Remove what searches derived from earlier versions: it holds deleted records, too."""
    indexes = storage.cache_folder(folder) / INDEXES
    try:
        if indexes.exists():
            shutil.rmtree(indexes)
    except OSError as error:
        raise ArchiveError(
            f"cannot remove {indexes}: {error.strerror}; run the same command again"
        ) from None


def _leftovers(folder: Path, base: str, present: set[str]) -> Iterator[Path]:
    if not base:
        return
    own = {TABLE_FOLDER, MODEL_FOLDER}
    older = [name for name in present if name in own or 1 < _number(name) < number(base)]
    yield from (folder / name for name in older)
    if older and INDEXES in present:  # built for them; searches build them again
        yield folder / INDEXES
    # From when it was a new archive:
    ended = {MANIFEST, CHECKSUMS, CHECKED, READERS, storage.LOCK} & storage.names(folder / base)
    yield from (folder / base / name for name in ended)


_TEMPORARY = re.compile(
    rf"\.(({MANIFEST}|{CHECKSUMS}|{CHECKED})\.[0-9]+\.[0-9]+|{MODEL_FOLDER})\.tmp"
)


def _number(name: str) -> int:
    return int(name[1:]) if re.fullmatch(r"v[0-9]+", name) else 0
