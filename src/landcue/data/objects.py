"""Objects of an S3 store: list, read and write them, with retries and one-line errors.

Endpoint, region and credentials come from the usual places: ``AWS_ENDPOINT_URL``, ``AWS_REGION``,
``AWS_ACCESS_KEY_ID`` and its kin, ``~/.aws``, or the machine's role.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import re
import shutil
import socket
import stat
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from landcue.errors import DataError, StoreError, UsageError

SCHEME = "s3:"
ATTEMPTS = 8
"""Tries of each request before a store that asks to slow down counts as failing."""

CHANGED = "changed while it was read; run the same command again"

_AT_ONCE = 32
_MOST_BYTES = 2**30
_CONNECT_SECONDS = 5.0
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def is_object(path: Path) -> bool:
    """Tell an address of an object store (``s3://bucket/key``) from a file's path."""
    return path.parts[:1] == (SCHEME,)


def to_path(address: str | Path) -> Path:
    """Return a file's path, or an object's address (``s3://bucket/key``), as a path."""
    return Path(address)


def absolute(path: Path) -> Path:
    """Return a file's absolute path; an object's address is one already."""
    return path if is_object(path) else Path(os.path.abspath(path))


class ObjectPath(type(Path())):
    """The address of one object, with size and time as they were when it was listed.

    It takes the place of a file's path in records: only what reading an image needs is there.
    ``etag`` is what the store calls its bytes, or empty: listings do not tell.
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
        """Read the whole object.

        Raises:
            DataError: It is missing, changed since it was listed, or is larger than 1 GiB.
            StoreError: The store cannot be reached, or refuses.
        """
        if self.known[0] > _MOST_BYTES:
            raise DataError(f"{url(self)}: is larger than 1 GiB; cut it into chips")
        return read_file(self, _MOST_BYTES)[1]

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return what the listing said; nothing is asked again."""
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
    """Return a file's path, or an object's address as people write it."""
    return url(path) if is_object(path) else str(path)


def joined(root: Path, stored: str) -> Path:
    """Return the file or object that an archive stored: below ``root``, or with a whole address."""
    path = Path(stored)
    return path if is_object(path) else root / path


def store_of(path: Path) -> ObjectStore:
    """Return the store of an object; its connections are kept and shared.

    Raises:
        StoreError: It cannot be reached.
        UsageError: There are no credentials, or the endpoint's address is none.
    """
    return _store(address(path).partition("/")[0])


def look_up(path: Path) -> ObjectPath:
    """Ask for an object's size, time and ETag.

    Raises:
        DataError: There is none, or it changed since it was listed.
        StoreError: The store cannot be reached, or refuses.
    """
    file, found = store_of(path).open(path)
    file.close()
    return found


def look_up_all(paths: Iterable[Path]) -> dict[Path, ObjectPath | None]:
    """Ask for many objects, several at once; ``None`` where there is none.

    Raises:
        StoreError: The store cannot be reached, or refuses.
    """
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


def read_file(path: Path, limit: int) -> tuple[os.stat_result, bytes]:
    """Read a file, or an object, up to ``limit`` bytes.

    Returns:
        Its size and time, and its bytes.

    Raises:
        DataError: It cannot be read.
        StoreError: The store cannot be reached, or refuses.
    """
    if isinstance(path, ObjectPath):
        data = store_of(path).read(address(path), limit)
        status = path.stat()
        if len(data) != min(status.st_size, limit):
            raise DataError(CHANGED)
        return status, data
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()), file.read(limit)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None


@functools.lru_cache(maxsize=8)
def _store(bucket: str) -> ObjectStore:
    """Keep connections between the many small reads of an ingest; threads share them."""
    return ObjectStore(Path(f"{SCHEME}/{bucket}"))


class ObjectStore:
    """One bucket of an S3 store; made anew where it is needed, also in other processes."""

    def __init__(self, path: Path) -> None:
        self.bucket = address(path).partition("/")[0]
        self.endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        self._files = self._connect()

    def list(self, prefix: str, *, missing_ok: bool = False) -> Iterator[ObjectPath]:
        """Yield all objects below ``bucket/prefix``, sorted.

        Raises:
            StoreError: The store cannot be reached, or refuses.
            DataError: There is nothing, unless that is fine.
        """
        from pyarrow import fs

        with self._asking(prefix):
            chosen = fs.FileSelector(prefix.rstrip("/"), recursive=True, allow_not_found=missing_ok)
            found = self._files.get_file_info(chosen)
        for info in sorted(found, key=lambda info: info.path):
            if info.type == fs.FileType.File:
                yield ObjectPath.of(info.path, info.size, info.mtime_ns or 0)

    def read(self, key: str, limit: int = -1) -> bytes:
        """Return the bytes of ``bucket/key``, up to ``limit`` if it is not negative.

        Raises:
            DataError: There is none, or it cannot be read.
        """
        with self._asking(key), self._files.open_input_file(key) as file:
            return file.read() if limit < 0 else file.read(limit)

    def open(self, path: Path) -> tuple[Any, ObjectPath]:
        """Open an object for reading by range.

        Returns:
            The file (pyarrow), for the caller to close, and the object with its ETag.

        Raises:
            DataError: There is none, or it is not the one that was listed.
            StoreError: The store cannot be reached, or refuses.
        """
        key = address(path)
        with self._asking(key):
            file = self._files.open_input_file(key)
            size, facts = file.size(), {k: v.decode() for k, v in file.metadata().items()}
        time = facts.get("Last-Modified", "")
        etag = facts.get("ETag", "").strip('"') or time
        mtime_ns = int(datetime.fromisoformat(time).timestamp()) * 10**9 if time else 0
        if not isinstance(path, ObjectPath):
            return file, ObjectPath.of(key, size, mtime_ns, etag)
        # Some stores list fractions of a second, but none tells them of one object.
        listed_size, listed_ns = path.known
        same = size == listed_size and mtime_ns // 10**9 == listed_ns // 10**9
        if not same or (path.etag and path.etag != etag):
            file.close()
            raise DataError(f"s3://{key}: {CHANGED}")
        return file, ObjectPath.of(key, *path.known, etag)

    def read_range(self, file: Any, key: str, start: int, size: int) -> bytes:
        """Return bytes of an object that :meth:`open` opened.

        Raises:
            DataError: It is gone.
            StoreError: The store cannot be reached, or refuses.
        """
        with self._asking(key):
            return file.read_at(size, start)

    def exists(self, key: str) -> bool:
        """Tell whether there is an object; one that may not be read counts as missing.

        Stores that refuse listing say so of what is missing, too.

        Raises:
            StoreError: The store cannot be reached.
        """
        with self._asking(key):
            try:
                self._files.open_input_file(key).close()
            except OSError as error:
                if _is_missing(error) or _code(error) == "ACCESS_DENIED":
                    return False
                raise
        return True

    def find(self, key: str) -> bytes | None:
        """Return the bytes of ``bucket/key``, or ``None`` if there is no such object.

        Raises:
            DataError: It cannot be read.
        """
        from pyarrow import fs

        with self._asking(key):
            if self._files.get_file_info(key).type != fs.FileType.File:
                return None
        return self.read(key)

    def download(self, key: str, file: Path) -> None:
        """Write an object to a file.

        Raises:
            DataError: It cannot be read.
        """
        with self._asking(key), self._files.open_input_stream(key) as source, file.open("wb") as to:
            shutil.copyfileobj(source, to, 8 << 20)

    def upload(self, source: Path | bytes, key: str) -> None:
        """Write an object from a file or from bytes; it appears whole or not at all.

        Raises:
            StoreError: The store cannot be reached, or refuses.
        """
        with self._asking(key):
            opened: Any = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
            with opened, self._files.open_output_stream(key) as to:
                shutil.copyfileobj(opened, to, 8 << 20)

    def delete(self, key: str) -> None:
        """Remove an object.

        Raises:
            StoreError: The store cannot be reached, or refuses.
        """
        with self._asking(key):
            self._files.delete_file(key)

    def refuse(self, key: str, error: Exception) -> None:
        """Raise what went wrong with the store, if it was the store.

        Raises:
            DataError: There is no such object.
            StoreError: The store cannot be reached, or refuses.
        """
        text = str(error)
        if isinstance(error, OSError) and ("AWS Error" in text or "curlCode" in text):
            with self._asking(key):
                raise error

    def _connect(self) -> Any:
        from pyarrow import fs

        known = any(os.environ.get(name) for name in _CREDENTIALS)
        shared = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
        known = known or any(Path(p).expanduser().is_file() for p in (shared, "~/.aws/config"))
        if not known and os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            raise UsageError(
                f"no credentials for s3://{self.bucket}: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        options: dict[str, Any] = {}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if self.endpoint:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise UsageError(f"AWS_ENDPOINT_URL {self.endpoint!r}: give http(s)://host:port")
            self._greet(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
            options = {"endpoint_override": parts.netloc, "scheme": parts.scheme}
            region = region or "us-east-1"
        with self._asking(self.bucket):
            return fs.S3FileSystem(
                region=region or fs.resolve_s3_region(self.bucket),
                retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
                connect_timeout=_CONNECT_SECONDS,
                **options,
            )

    def _greet(self, host: str, port: int) -> None:
        """Find out now that nobody answers: the library would try for half a minute."""
        try:
            socket.create_connection((host, port), _CONNECT_SECONDS).close()
        except OSError:
            raise StoreError(f"s3://{self.bucket}: {self._unreachable()}") from None

    @contextlib.contextmanager
    def _asking(self, key: str) -> Generator[None]:
        """Turn the library's failures into one line."""
        try:
            yield
        except OSError as error:
            kind = DataError if _is_missing(error) else StoreError
            raise kind(f"s3://{key}: {self._why(error)}") from None

    def _why(self, error: OSError) -> str:
        text = str(error)
        code = _code(error)
        where = self.endpoint or "the store"
        if _is_missing(error):
            return "there is nothing"
        if code == "NO_SUCH_BUCKET" or ("ucket" in text and "does not exist" in text):
            return f"there is no bucket {self.bucket!r} at {where}"
        if code in ("SLOW_DOWN", "THROTTLING", "SERVICE_UNAVAILABLE") or "HTTP status 503" in text:
            return (
                f"{where} asks to slow down, {ATTEMPTS} times in a row; run the same command "
                "again later: it goes on from here"
            )
        if code in ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH"):
            return "access is denied; check AWS_ACCESS_KEY_ID and its kin, or AWS_PROFILE"
        if code == "NETWORK_CONNECTION" or "curlCode" in text:
            return self._unreachable()
        return (text.splitlines() or [type(error).__name__])[0]

    def _unreachable(self) -> str:
        where = self.endpoint or "the store"
        return f"{where} cannot be reached; check AWS_ENDPOINT_URL and the network"


def _code(error: OSError) -> str:
    return (re.findall(r"AWS Error ([A-Z_]+)", str(error)) or [""])[0]


def _is_missing(error: OSError) -> bool:
    known = _code(error) in ("NO_SUCH_KEY", "RESOURCE_NOT_FOUND")
    return known or isinstance(error, FileNotFoundError)
