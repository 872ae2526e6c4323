"""Objects of an S3 store, through obstore: list, read and write them, with one-line errors.

Endpoint, region and credentials come from the usual places: ``AWS_ENDPOINT_URL``, ``AWS_REGION``,
``AWS_ACCESS_KEY_ID`` and its kin, ``~/.aws``, or the machine's role. ``AWS_MAX_ATTEMPTS`` is how
often a request is tried.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import re
import socket
import stat
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from landcue.data.aws_settings import attempts, credentials, endpoint
from landcue.data.names import find_stored
from landcue.errors import DataError, StoreError, UsageError

SCHEME = "s3:"
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+:)[/\\](?![/\\])")

CHANGED = "changed while it was read; run the same command again"

_AT_ONCE = 32
_MOST_BYTES = 2**30
_CONNECT_SECONDS = 5.0


def is_object(path: Path) -> bool:
    """Return whether a path is an address of an object store (``s3://bucket/key``)."""
    return path.parts[:1] == (SCHEME,)


def absolute(path: Path) -> Path:
    """Return a file's absolute path; an object's address is one already."""
    return path if is_object(path) else Path(os.path.abspath(path))


class ObjectPath(type(Path())):
    """The address of one object, with size and time as they were when it was listed.

    It takes the place of a file's path in records: only what reading an image needs is there.
    ``etag`` is what the store calls its bytes, or empty if that is not known.
    """

    known: tuple[int, int] = (0, 0)
    etag: str = ""

    @classmethod
    def of(cls, bucket_key: str, size: int, mtime_ns: int, etag: str = "") -> ObjectPath:
        """Describe a listed object, given as ``bucket/key``."""
        path = cls(f"{SCHEME}/{bucket_key}")
        path.known, path.etag = (size, mtime_ns), etag
        return path

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectPath.of, (address(self), *self.known, self.etag)

    @property
    def digest(self) -> str:
        """Digest of what the store calls the object's bytes, 32 hex digits; empty if not known."""
        name = f"{self.etag} {self.known[0]}".encode()
        return hashlib.blake2b(name, digest_size=16).hexdigest() if self.etag else ""

    def read_bytes(self) -> bytes:
        """Read the whole object."""
        if self.known[0] > _MOST_BYTES:
            raise DataError(f"{url(self)}: is larger than 1 GiB; cut it into chips")
        return read_file(self, _MOST_BYTES)[1]

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return what the listing said, without another request."""
        size, mtime_ns = self.known
        plain = (stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, size, 0, mtime_ns // 10**9, 0)
        return os.stat_result(plain, {"st_mtime_ns": mtime_ns})


def address(path: Path) -> str:
    """Return ``bucket/key`` of an object's path.

    Raises:
        UsageError: It names no bucket.
    """
    if len(path.parts) < 2:
        raise UsageError(f"{path}: name a bucket, as in s3://bucket/prefix")
    return "/".join(path.parts[1:])


def url(path: Path) -> str:
    """Return an object's path as people write it."""
    return f"s3://{address(path)}"


def shown(path: Path) -> str:
    """Return a file's path, or an address, as people write it.

    >>> shown(Path("https://a.b/c.tif"))
    'https://a.b/c.tif'
    """
    return url(path) if is_object(path) else _SCHEME.sub(r"\1//", str(path))


def joined(root: Path, stored: str) -> Path:
    """Return the file or object that an archive stored: below ``root``, or with a whole address."""
    path = Path(stored)
    return path if is_object(path) else find_stored(root, stored)


def store_of(path: Path) -> ObjectStore:
    """Return the store of an object; its connections are kept and shared.

    Raises:
        StoreError: It cannot be reached.
        UsageError: There are no credentials, or the endpoint's address is none.
    """
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return _store(address(path).partition("/")[0], settings)


def look_up(path: Path) -> ObjectPath:
    """Ask for an object's size, time and ETag.

    Raises:
        DataError: There is none, or it changed since it was listed.
        StoreError: The store cannot be reached, or refuses.
    """
    found = store_of(path).head(address(path))
    if not isinstance(path, ObjectPath):
        return found
    # Some stores list fractions of a second, but not for a single object.
    same = found.known[0] == path.known[0] and found.known[1] // 10**9 == path.known[1] // 10**9
    if not same or (path.etag and path.etag != found.etag):
        raise DataError(f"{url(path)}: {CHANGED}")
    return ObjectPath.of(address(path), *path.known, found.etag)


def look_up_all(paths: Iterable[Path]) -> dict[Path, ObjectPath | None]:
    """Ask for many objects, several at once; ``None`` where there is none."""
    wanted = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(wanted, pool.map(_look_up, wanted), strict=True))


def _look_up(path: Path) -> ObjectPath | None:
    try:
        return look_up(path)
    except StoreError:
        raise
    except DataError:
        return None


def object_path(path: Path) -> ObjectPath:
    """Return an object with its ETag, which is asked for unless it is known.

    Raises:
        DataError: There is none, or it is not the one that was listed.
        StoreError: The store cannot be reached, or refuses.
    """
    return path if isinstance(path, ObjectPath) and path.etag else look_up(path)


def read_file(path: Path, limit: int) -> tuple[os.stat_result, bytes]:
    """Read a file, or an object, up to ``limit`` bytes.

    Returns:
        Its size and time, and its bytes.
    """
    if isinstance(path, ObjectPath):
        etag, data = store_of(path).read(address(path), limit)
        status = path.stat()
        if len(data) != min(status.st_size, limit) or (path.etag and path.etag != etag):
            raise DataError(CHANGED)
        return status, data
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()), file.read(limit)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None


@functools.lru_cache(maxsize=8)
def _store(bucket: str, _settings: tuple[tuple[str, str], ...]) -> ObjectStore:
    """Keep connections between the many small reads of an ingest; threads share them."""
    return ObjectStore(Path(f"{SCHEME}/{bucket}"))


_PART = 1 << 16


class _Ranges(io.RawIOBase):
    """An object as a file of Python."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        data = bytes(self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)


class ObjectStore:
    """One bucket of an S3 store; keys are given as ``bucket/key``."""

    def __init__(self, path: Path) -> None:
        self.bucket = address(path).partition("/")[0]
        self.endpoint = endpoint()
        self.attempts = attempts()
        self._store = self._connect()

    def list(self, prefix: str, *, missing_ok: bool = False) -> Iterator[ObjectPath]:
        """Yield all objects below ``bucket/prefix``, sorted.

        Raises:
            StoreError: The store cannot be reached, or refuses.
            DataError: There is nothing, unless that is fine.
        """
        import obstore

        found: list[Any] = []
        with self._request(prefix):
            below = self._key(prefix).rstrip("/")
            for part in obstore.list(self._store, prefix=below or None):
                found += part
        if not found and not missing_ok:
            raise DataError(f"s3://{prefix}: there is nothing")
        for meta in sorted(found, key=lambda meta: meta["path"]):
            yield self._path(meta)

    def head(self, key: str) -> ObjectPath:
        """Return an object's size, time and ETag."""
        import obstore

        with self._request(key):
            return self._path(obstore.head(self._store, self._key(key)))

    def read(self, key: str, limit: int = -1) -> tuple[str, bytes]:
        """Return the ETag and the bytes of ``bucket/key``, up to ``limit`` if it is not negative.

        Raises:
            DataError: There is none, or it cannot be read.
        """
        import obstore

        with self._request(key):
            found = obstore.get(self._store, self._key(key))
            etag = (found.meta["e_tag"] or "").strip('"')
            if limit < 0 or found.meta["size"] <= limit:
                return etag, bytes(found.bytes())
            return etag, bytes(obstore.get_range(self._store, self._key(key), start=0, end=limit))

    @contextlib.contextmanager
    def open(self, key: str, size: int) -> Generator[io.BufferedReader]:
        """Open an object of a known size to read parts of it, 64 KiB at once.

        Raises:
            DataError: There is none, or it cannot be read.
        """
        import obstore

        with self._request(key):
            file = obstore.open_reader(self._store, self._key(key), size=size, buffer_size=_PART)
            yield io.BufferedReader(_Ranges(file), _PART)

    def exists(self, key: str) -> bool:
        """Return whether there is an object; one that may not be read counts as missing.

        Stores that refuse listing say so of what is missing, too.

        Raises:
            StoreError: The store cannot be reached.
        """
        import obstore
        from obstore.exceptions import PermissionDeniedError

        with self._request(key):
            try:
                obstore.head(self._store, self._key(key))
            except (FileNotFoundError, PermissionDeniedError):
                return False
        return True

    def find(self, key: str) -> bytes | None:
        """Return the bytes of ``bucket/key``, or ``None`` if there is no such object."""
        found = self.find_with_etag(key)
        return None if found is None else found[1]

    def download(self, key: str, file: Path) -> None:
        """Write an object to a file."""
        import obstore

        with self._request(key):
            found = obstore.get(self._store, self._key(key))
            with file.open("wb") as to:
                for part in found.stream():
                    to.write(part)

    def upload(self, source: Path | bytes, key: str) -> None:
        """Write an object from a file or from bytes; it appears whole or not at all."""
        import obstore

        with self._request(key):
            obstore.put(self._store, self._key(key), source)

    def put_if(self, content: bytes, key: str, etag: str | None) -> str | None:
        """Write an object only if it still has this ETag, or if there is none.

        Args:
            content: Its bytes.
            key: ``bucket/key``.
            etag: The expected ETag; ``None`` if there must be no object.

        Returns:
            The new ETag; ``None`` if nothing was written because the condition does not hold.

        Raises:
            StoreError: The store cannot be reached, refuses, or has no conditional writes.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

        mode: Any = "create" if etag is None else {"e_tag": f'"{etag}"'}
        with self._request(key):
            try:
                found = obstore.put(self._store, self._key(key), content, mode=mode)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return None
            except (NotImplementedError, NotSupportedError):
                raise StoreError(
                    f"s3://{key}: {self.endpoint or 'the store'} has no conditional writes, which "
                    "writing an archive needs; write it in a folder"
                ) from None
        return (found["e_tag"] or "").strip('"')

    def find_with_etag(self, key: str) -> tuple[str, bytes] | None:
        """Return the ETag and the bytes of ``bucket/key``; ``None`` if there is no such object."""
        try:
            return self.read(key)
        except StoreError:
            raise
        except DataError:
            return None

    def lance_options(self) -> dict[str, str]:
        """Return the options with which LanceDB reaches the same store."""
        keys = ("access_key_id", "secret_access_key", "session_token", "region")
        options = {f"aws_{key}": self._options[key] for key in keys if key in self._options}
        if self.endpoint:
            options |= {"aws_endpoint": self.endpoint, "allow_http": "true"}
        options |= {
            "client_max_retries": str(self.attempts - 1),
            "client_retry_timeout": "300",
            "connect_timeout": f"{_CONNECT_SECONDS:.0f}s",
        }
        return options

    def delete(self, key: str) -> None:
        """Remove an object.

        Raises:
            StoreError: The store cannot be reached, or refuses.
        """
        import obstore

        with self._request(key):
            obstore.delete(self._store, self._key(key))

    def _key(self, key: str) -> str:
        return key.removeprefix(self.bucket).removeprefix("/")

    def _path(self, meta: Any) -> ObjectPath:
        modified: datetime = meta["last_modified"]
        mtime_ns = int(modified.timestamp()) * 10**9 + modified.microsecond * 1000
        etag = (meta["e_tag"] or "").strip('"')
        return ObjectPath.of(f"{self.bucket}/{meta['path']}", meta["size"], mtime_ns, etag)

    def _connect(self) -> Any:
        from obstore.store import S3Store

        options: dict[str, Any] = {
            name: value for name, value in credentials(self.bucket).items() if value
        }
        self.region: str = options.setdefault("region", "us-east-1")
        if self.endpoint:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise UsageError(f"AWS_ENDPOINT_URL {self.endpoint!r}: pass http(s)://host:port")
            self._check_endpoint(
                parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
            )
            options["endpoint"] = self.endpoint
        self._options = options
        return S3Store(
            self.bucket,
            client_options={
                "allow_http": bool(self.endpoint),
                "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            },
            retry_config={"max_retries": self.attempts - 1, "retry_timeout": timedelta(minutes=5)},
            **options,
        )

    def _check_endpoint(self, host: str, port: int) -> None:
        """Find out now whether anything answers: the library would try for minutes."""
        try:
            socket.create_connection((host, port), _CONNECT_SECONDS).close()
        except OSError:
            raise StoreError(f"s3://{self.bucket}: {self._unreachable()}") from None

    @contextlib.contextmanager
    def _request(self, key: str) -> Generator[None]:
        """Turn the library's failures into one line."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            missing = isinstance(error, FileNotFoundError)
            kind = DataError if missing and "NoSuchBucket" not in str(error) else StoreError
            raise kind(f"s3://{key}: {self._why(error, kind is DataError)}") from None

    def _why(self, error: Exception, missing: bool) -> str:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        text = str(error)
        where = self.endpoint or "the store"
        if missing:
            return "there is nothing"
        if "NoSuchBucket" in text:
            return f"there is no bucket {self.bucket!r} at {where}"
        if "SlowDown" in text or "503" in text or "429" in text:
            return (
                f"{where} asks to slow down, {self.attempts} times in a row; run the same command "
                "again later: it goes on from here"
            )
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return "access is denied; check AWS_ACCESS_KEY_ID and its kin, or AWS_PROFILE"
        if "error sending request" in text or "onnect" in text:
            return self._unreachable()
        return (text.splitlines() or [type(error).__name__])[0]

    def _unreachable(self) -> str:
        where = self.endpoint or "the store"
        return f"{where} cannot be reached; check AWS_ENDPOINT_URL and the network"
