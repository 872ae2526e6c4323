"""Derived files of one version of an archive: built at first use, kept below ``indexes/``.

Every file can be deleted and is built again from the table. A file is named by its checksum; a
small JSON header, replaced atomically, points to it. If two processes need the same file at once,
one builds it for both. If the folder cannot be written, the data is kept in memory.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landcue.archive.archive import ArchiveFolder
from landcue.archive.checksums import INDEXES, header_digest, header_text
from landcue.archive.storage import digest, identity
from landcue.codes.codefile import want_large_pages
from landcue.errors import ArchiveError, LandcueError
from landcue.files import locked_file, read_json, reserve, write_atomic

FORMAT = 2

_HINT = "delete the folder; it is built again at the next search"

Facts = dict[str, Any]


class Store:
    """The derived files of an opened archive.

    Attributes:
        folder: Their folder.
        on_disk: Whether to write files; ``False`` keeps everything in memory.
    """

    def __init__(self, archive: ArchiveFolder, *, on_disk: bool = True) -> None:
        self.on_disk = on_disk
        manifest = archive.manifest
        self._origin: Facts = {
            "format": FORMAT,
            "fingerprint": manifest.fingerprint,
            "version": archive.version,
            "table": archive.table_digest(),
        }
        mark = hashlib.blake2b(json.dumps(self._origin, sort_keys=True).encode(), digest_size=6)
        prefix = f"{manifest.base}-" if manifest.base else ""
        name = f"{prefix}v{archive.version:08}-{mark.hexdigest()}"
        self.folder = archive.cache_folder / INDEXES / name
        self._cached = archive.remote

    def array(
        self,
        name: str,
        dtype: npt.DTypeLike,
        shape: tuple[int, ...],
        fill: Callable[[npt.NDArray[Any]], None],
    ) -> npt.NDArray[Any]:
        """Return a read-only array that ``fill`` writes, mapped from disk where possible."""

        def write(path: Path) -> Facts:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            reserve(path, size)
            mapped = np.memmap(path, dtype, "r+", shape=shape)
            want_large_pages(mapped)
            fill(mapped)
            mapped.flush()
            return {"dtype": np.dtype(dtype).str, "shape": list(shape)}

        expected = {"dtype": np.dtype(dtype).str, "shape": list(shape)}
        found = self.file(f"{name}.bin", write, expected.__eq__) if np.prod(shape) else None
        if found is not None:
            # A plain view: slicing a memmap is slower.
            return np.asarray(np.memmap(found[0], dtype, "r", shape=shape))
        array = np.empty(shape, dtype)
        fill(array)
        array.flags.writeable = False
        return array

    def table(self, name: str, make: Callable[[], pa.Table]) -> pa.Table:
        """Return a table of one chunk, mapped from disk where possible."""
        made: list[pa.Table] = []

        def write(path: Path) -> Facts:
            made.append(make())
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, made[0].schema) as out:
                out.write_table(made[0])
            return {"rows": len(made[0])}

        found = self.file(f"{name}.arrow", write)
        if found is not None:
            with contextlib.suppress(pa.ArrowException, OSError):
                table = pa.ipc.open_file(pa.memory_map(str(found[0]))).read_all()
                table.validate()
                if len(table) == found[1].get("rows"):
                    return table
        return made[0] if made else make()

    def existing(self, name: str) -> tuple[Path, Facts] | None:
        """Return a derived file and its facts, if it was built for this version."""
        header = self._header(name)
        if header is None:
            return None
        return self.folder / str(header["file"]), dict(header["facts"])

    def file(
        self,
        name: str,
        write: Callable[[Path], Facts],
        fits: Callable[[Facts], bool] = lambda _: True,
    ) -> tuple[Path, Facts] | None:
        """Return a derived file and its facts; build it if it is missing or damaged.

        Args:
            name: Name of the file.
            write: Writes the file at a path, and returns facts to store.
            fits: Returns whether the facts of a present file are as expected.

        Returns:
            ``None`` if nothing may or can be written: the caller keeps it in memory.
        """
        if not self.on_disk:
            return None
        found = self.existing(name)
        if found is not None and fits(found[1]):
            return found
        try:
            with self._alone(name):  # another thread or process built it meanwhile
                found = self.existing(name)
                return found if found and fits(found[1]) else self._build(name, write)
        except (OSError, LandcueError) as error:
            if isinstance(error, ArchiveError):
                raise
            return None

    @contextlib.contextmanager
    def _alone(self, name: str) -> Generator[None]:
        """Allow one thread of one process to build a file at a time."""
        for folder in (self.folder.parent, self.folder):  # not the archive, if it was deleted
            folder.mkdir(parents=self._cached, exist_ok=True)
        path = self.folder / f".{name}.lock"
        with locked_file(path, wait=True):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # Windows cannot delete it while it is locked
                    path.unlink(missing_ok=True)

    def _build(self, name: str, write: Callable[[Path], Facts]) -> tuple[Path, Facts]:
        for left in self.folder.glob(f".{glob.escape(name)}*.tmp"):  # of processes that were killed
            left.unlink(missing_ok=True)
        temporary = self.folder / f".{name}.{os.getpid()}.{threading.get_ident()}.tmp"
        try:
            facts = write(temporary)
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            checksum = digest(temporary)
            path = self.folder / f"{checksum[:16]}-{name}"
            size = temporary.stat().st_size
            temporary.replace(path)
            self._note_checked(name, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        header = {**self._origin, "file": path.name, "bytes": size, "checksum": checksum}
        header["facts"] = facts
        header["header"] = header_digest(header)
        write_atomic(self.folder / f"{name}.json", header_text(header), parents=False)
        _remove_older(self.folder)
        return path, facts

    def _header(self, name: str) -> Facts | None:
        """Return a header for this version whose file is as it was built.

        The file is read and compared with its checksum when it has changed since the last time:
        compiled code trusts its content.
        """
        path = self.folder / f"{name}.json"
        if not self.on_disk or not path.is_file():
            return None
        try:
            header = read_json(path, ArchiveError, _HINT)
            fits = all(header.get(key) == value for key, value in self._origin.items())
            fits = fits and header.get("header") == header_digest(header)
            if not fits or header["file"] != f"{header['checksum'][:16]}-{name}":
                return None
            file = self.folder / header["file"]
            if identity(file) != self._checked(name):
                if digest(file) != header["checksum"]:
                    return None
                self._note_checked(name, file)
            return header if isinstance(header["facts"], dict) else None
        except (ArchiveError, OSError, KeyError, TypeError):
            return None  # what is damaged counts as missing: build again

    def _checked(self, name: str) -> Any:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.folder / f".{name}.checked").read_text())
        return None

    def _note_checked(self, name: str, file: Path) -> None:
        with contextlib.suppress(OSError, LandcueError):  # then it is compared again
            path = self.folder / f".{name}.checked"
            write_atomic(path, json.dumps(identity(file)), parents=False)


def _remove_older(folder: Path) -> None:
    """Remove the files of earlier versions of the same table.

    Processes that have mapped such a file keep it.
    """
    with contextlib.suppress(OSError):
        table, version = _table_and_version(folder)
        for other in folder.parent.iterdir():
            other_table, other_version = _table_and_version(other)
            if other_table == table and other_version < version:
                shutil.rmtree(other, ignore_errors=True)


def _table_and_version(folder: Path) -> tuple[str, int]:
    table, _, rest = folder.name.rpartition("v")
    number = rest.partition("-")[0]
    return table, int(number) if number.isdecimal() else sys.maxsize
