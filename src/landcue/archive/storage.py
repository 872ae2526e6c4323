"""The files of an archive, in a folder or below ``s3://bucket/prefix``, and its writer's lock.

In a store, an object changes atomically and its ETag is its checksum. The lock is an object that
only one writer can create, because it is written on the condition that there is none; the writer
renews it while it runs. A lock that was not renewed for two minutes, or whose process has died on
this machine, is taken over, again by a conditional write.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from landcue.data.aws_settings import endpoint
from landcue.data.objects import ObjectPath, address, is_object, store_of, url
from landcue.errors import ArchiveError, StoreError
from landcue.files import exclusive, write_atomic

CACHE = "LANDCUE_CACHE"
"""Names the folder for files derived from remote archives; by default ``~/.cache/landcue``."""

LOCK = ".lock"

_LEASE_SECONDS = 120.0
_RENEW_SECONDS = 20.0


def read(path: Path) -> bytes | None:
    """Return the content of a file or an object, or ``None`` if there is none.

    Raises:
        ArchiveError: It is not a regular file.
        OSError: The file cannot be read.
        StoreError: The store cannot be reached, or denies access.
    """
    if is_object(path):
        return store_of(path).find(address(path))
    if path.exists() and not path.is_file():  # opening a pipe would wait forever
        raise ArchiveError(f"{path} is not a regular file; remove it")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write(path: Path, content: bytes | str, *, parents: bool = False) -> None:
    """Replace a file or an object atomically; create missing folders only if ``parents`` is set.

    Raises:
        LandcueError: It cannot be written.
    """
    if is_object(path):
        data = content.encode() if isinstance(content, str) else content
        store_of(path).upload(data, address(path))
    else:
        write_atomic(path, content, parents=parents)


def remove(path: Path) -> None:
    """Remove a file or an object, or all files or objects below ``path``."""
    if is_object(path):
        store = store_of(path)
        store.delete(address(path))
        for name in listed(path):
            store.delete(f"{address(path)}/{name}")
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def listed(folder: Path) -> dict[str, Path]:
    """Return all files or objects below ``folder`` by their posix path, sorted."""
    if is_object(folder):
        start = len(address(folder)) + 1
        found = store_of(folder).list(f"{address(folder)}/", missing_ok=True)
        return {address(path)[start:]: path for path in found}
    files = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in files}


def names(folder: Path) -> set[str]:
    """Return the names of all files and folders in a folder; none if there is no such folder."""
    if is_object(folder):
        return {name.partition("/")[0] for name in listed(folder)}
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def exists(folder: Path) -> bool:
    """Return whether there is such a file or folder, or any object with such an address."""
    return bool(read(folder) or listed(folder)) if is_object(folder) else folder.exists()


def digest(path: Path, *, sync: bool = False) -> str:
    """Return the BLAKE2b-128 of a file, hex, or that of an object's ETag and size.

    Args:
        path: The file; an object as it was listed.
        sync: Flush the file to disk first.

    Raises:
        OSError: The file is missing, cannot be read, or is not a regular file.
    """
    if isinstance(path, ObjectPath):
        return path.digest
    if path.exists() and not path.is_file():  # opening a pipe would wait forever
        raise OSError(0, "it is not a regular file of the archive", str(path))
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def identity(path: Path) -> list[int] | None:
    """Return what changes whenever a file is written, copied or replaced; ``None`` for an object.

    Raises:
        OSError: There is no such file.
    """
    if is_object(path):
        return None
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def cache_root() -> Path:
    """Return the folder for what this machine keeps about archives elsewhere."""
    root = os.environ.get(CACHE)
    return Path(root) if root else Path.home() / ".cache" / "landcue"


def lance_address(folder: Path) -> tuple[str, dict[str, str] | None]:
    """Return the address of a database of LanceDB, and its options of the object store."""
    if not is_object(folder):
        return str(folder), None
    return url(folder), store_of(folder).lance_options()


def cache_folder(folder: Path) -> Path:
    """Return the folder for files derived from an archive: its own, or a local cache."""
    if not is_object(folder):
        return folder
    where = re.sub(r"[^A-Za-z0-9._-]+", "_", endpoint() or "aws")
    return cache_root().joinpath("s3", where, *address(folder).split("/"))


def local_copy(folder: Path) -> Path | None:
    """Return a local folder with the objects below ``folder``; only new ones are fetched.

    Raises:
        DataError: The store cannot be reached, or an object changed while it was fetched.
        ArchiveError: The cache cannot be written.
    """
    if not is_object(folder):
        return folder if folder.is_dir() else None
    files = listed(folder)
    if not files:
        return None
    names = {name: digest(path) for name, path in files.items()}
    mark = hashlib.blake2b(json.dumps(names).encode(), digest_size=8).hexdigest()
    copy = cache_folder(folder).with_name(f"{folder.name}-{mark}")
    if copy.is_dir():
        return copy
    partial = copy.with_name(f".{copy.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        partial.mkdir(parents=True)
        for name, path in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            store_of(path).download(address(path), partial / name)
        with contextlib.suppress(OSError):  # another process was faster
            partial.rename(copy)
    except OSError as error:
        raise ArchiveError(
            f"cannot write {error.filename}: {error.strerror}; free space, or set {CACHE}"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return copy


@contextlib.contextmanager
def locked(folder: Path, doing: str, *, create: bool = False) -> Generator[None]:
    """Hold the lock of an archive's writer; a second writer is refused at once.

    Args:
        doing: What the writer does, for the message of a second one.

    Raises:
        ArchiveError: Another process holds it, or a file of the folder cannot be written.
        StoreError: The store cannot be reached, or has no conditional writes.
    """
    if not is_object(folder):
        with exclusive(folder, ArchiveError, doing, create=create):
            try:
                yield
            except OSError as error:
                file = Path(os.fsdecode(error.filename or ""))
                if not file.is_relative_to(folder):
                    raise
                raise ArchiveError(
                    f"cannot write {file}: {error.strerror}; committed records are safe, fix that "
                    "and run the same command again"
                ) from None
        return
    lease = _Lease(folder, doing)
    lease.acquire()
    try:
        yield
    finally:
        lease.release()


def check_locked(folder: Path) -> None:
    """Check that this process still holds the lock that it took; folders cannot lose theirs."""
    if is_object(folder):
        for lease in tuple(_held.values()):
            if f"{address(folder)}/".startswith(f"{lease.prefix}/"):
                lease.check()


_held: dict[str, _Lease] = {}
"""The locks that this process holds, by their keys."""


class _Lease:
    """The lock of an archive in a store: an object that this process renews."""

    def __init__(self, folder: Path, doing: str) -> None:
        self.prefix = address(folder)
        self._folder, self._doing = folder, doing
        self._key = f"{self.prefix}/{LOCK}"
        self._store = store_of(folder)
        self._owner = uuid.uuid4().hex
        self._etag: str | None = None
        self._until = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="archive lock", daemon=True)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            ArchiveError: Another process holds it.
        """
        if not self._put(None) and not self._take_over():
            raise ArchiveError(f"another process is writing to {url(self._folder)}; wait for it")
        _held[self._key] = self
        self._thread.start()

    def _take_over(self) -> bool:
        """Take the lock of a writer that has ended; return whether no other one was faster.

        Raises:
            ArchiveError: It has not ended.
        """
        found = self._store.find_with_etag(self._key)
        if found is None:  # it was removed just now
            return self._put(None)
        holder = _parse(found[1])
        if not self._outdated(holder):
            until = datetime.fromtimestamp(float(holder["until"]), UTC)
            raise ArchiveError(
                f"another process is {holder.get('doing', 'writing to')} {url(self._folder)} "
                f"(process {holder['pid']} on {holder['host']}); wait for it; if it was killed, "
                f"its lock ends at {until:%H:%M:%S} UTC"
            )
        return self._put(found[0])

    def release(self) -> None:
        """Remove the lock if it is still this process's."""
        self._stop.set()
        self._thread.join()
        del _held[self._key]
        with contextlib.suppress(StoreError):
            found = self._store.find_with_etag(self._key)
            if found is not None and found[0] == self._etag:
                self._store.delete(self._key)

    def check(self) -> None:
        """Check that the lock has not ended.

        Raises:
            ArchiveError: It has.
        """
        if self._etag is None or time.time() > self._until:
            raise ArchiveError(
                f"this process lost its lock of {url(self._folder)}: it stood still, or the store "
                "could not be reached; committed records are safe: run the same command again"
            )

    def _renew(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS):
            with contextlib.suppress(StoreError):  # try again until the lock ends
                if self._etag is not None and not self._put(self._etag):
                    self._etag = None

    def _put(self, etag: str | None) -> bool:
        until = time.time() + _LEASE_SECONDS
        value = {
            "owner": self._owner,
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "doing": self._doing,
            "until": until,
        }
        new = self._store.put_if(json.dumps(value).encode(), self._key, etag)
        if new is not None:
            self._etag, self._until = new, until
        return new is not None

    def _outdated(self, holder: dict[str, Any]) -> bool:
        try:
            if time.time() > float(holder["until"]):
                return True
            if (holder["host"], holder["machine"]) != (socket.gethostname(), _machine()):
                return False
            pid = int(holder["pid"])
        except (KeyError, TypeError, ValueError):
            return True  # LandCue did not write it
        return self._key not in _held if pid == os.getpid() else not _alive(pid)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _machine() -> str:
    """Return what differs between two machines, and between two starts of one."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{uuid.getnode():x}"


def _alive(pid: int) -> bool:
    if sys.platform == "win32":  # it has no harmless signal: wait until the lock ends
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
