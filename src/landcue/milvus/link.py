"""A connection to a Milvus server, with its failures as one-line errors."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from landcue.errors import ArchiveError, UsageError
from landcue.milvus.address import CERTIFICATE, PASSWORD, TOKEN, USER, Address, credentials
from landcue.milvus.expressions import both, one_of, quoted

OLDEST = (2, 3, 2)
"""The first version with arrays."""

_NO_COLLECTION = 100
_REFUSED = (
    *("auth check failure", "unauthenticated", "missing authorization"),
    *("permission deny", "invalid token"),
)
_FULL = (
    *("oom if load", "out of memory", "insufficient memory", "insufficientmemory"),
    *("memory limit exceeded", "memory quota", "disk quota", "disk limit", "disk space is not"),
)
_UNREACHABLE = ("fail connecting", "unavailable", "deadline exceeded", "failed to connect")


def explain(error: Exception, doing: str, address: Address) -> ArchiveError:
    """Return an error of the library as one line that names the server and the operation."""
    server = address.server
    text = " ".join(str(getattr(error, "message", "") or error).split())
    low = f"{text} {_causes(error)}".lower()
    if any(mark in low for mark in _REFUSED):
        return ArchiveError(
            f"Milvus at {server} refuses these credentials: set {USER} and {PASSWORD}, or {TOKEN}"
        )
    if getattr(error, "code", None) == _NO_COLLECTION or "collection not found" in low:
        return missing(address)
    if any(mark in low for mark in _FULL):
        return ArchiveError(
            f"Milvus at {server} has no memory or disk left while {doing}: add memory or disk "
            "to its nodes, or drop an unused collection, then run the same command again"
        )
    if any(mark in low for mark in _UNREACHABLE) or "connect" in type(error).__name__.lower():
        return ArchiveError(
            f"Milvus at {server} cannot be reached: start it, or check host, port and TLS "
            "(milvuss://)"
        )
    return ArchiveError(f"Milvus at {server} failed while {doing}: {text[:300]}")


def missing(address: Address) -> ArchiveError:
    """Return the error for a collection that does not exist."""
    return ArchiveError(
        f"{address} does not exist: create it with 'landcue archive push ARCHIVE {address}'"
    )


def check_version(version: str, server: str) -> None:
    """Check the version of a server.

    Raises:
        ArchiveError: It is too old; names its version and the one that is needed.
    """
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise ArchiveError(
            f"Milvus at {server} has version {version or 'unknown'}, LandCue needs {needed} or "
            "newer: update the server"
        )


def _causes(error: BaseException) -> str:
    """Return the messages of an error's causes; in pymilvus an error can be its own cause."""
    texts: list[str] = []
    seen = {id(error)}
    cause = error.__cause__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        texts.append(str(cause))
        cause = cause.__cause__
    return " ".join(texts)


LARGEST = 16_384
"""Most hits or rows per response of the server."""

_SECONDS = 10.0


class Link:
    """One server, as one collection's address names it. Several threads may use it."""

    def __init__(self, address: Address) -> None:
        """Connect.

        Raises:
            ArchiveError: The server cannot be reached, is too old, or refuses the credentials.
            UsageError: pymilvus is not installed, or half of the credentials is missing.
        """
        self.address = address
        self._milvus = load_pymilvus()
        self._fields: dict[str, list[dict[str, Any]]] = {}
        known = credentials()
        certificate = os.environ.get(CERTIFICATE)
        if address.secure and certificate:
            known["server_pem_path"] = certificate
        with self.errors_named("connecting"):
            self.client: Any = self._milvus.MilvusClient(uri=address.uri, timeout=_SECONDS, **known)
            version = str(self.client.get_server_version(timeout=_SECONDS))
        check_version(version, address.server)

    @property
    def kinds(self) -> Any:
        """The kinds of fields."""
        return self._milvus.DataType

    @contextlib.contextmanager
    def errors_named(self, doing: str) -> Generator[None]:
        """Convert the library's errors to one line that names the server and the operation."""
        try:
            yield
        except Exception as error:  # gRPC and the library raise all kinds
            if type(error).__module__.partition(".")[0] not in ("grpc", "pymilvus"):
                raise
            raise explain(error, doing, self.address) from None

    def has(self, name: str) -> bool:
        """Return whether a collection exists."""
        with self.errors_named("looking for the collection"):
            return bool(self.client.has_collection(name))

    def new_schema(self) -> Any:
        """Return a schema without fields."""
        return self.client.create_schema(auto_id=False, enable_dynamic_field=False)

    def create(self, name: str, schema: Any, field: str, **index: Any) -> None:
        """Create a collection and the index of its only vector field."""
        with self.errors_named(f"making {name}"):
            wanted = self.client.prepare_index_params()
            wanted.add_index(field, **index)
            self.client.create_collection(name, schema=schema)
            self.client.create_index(name, wanted, sync=False)  # there is nothing to wait for yet

    def load(self, name: str, *, wait: bool = True, again: bool = False) -> None:
        """Load a collection into the server's memory, and wait for it.

        ``again`` also loads segments that were sealed since the last load.
        """
        with self.errors_named(f"loading {name}"):
            self.client.load_collection(name, _async=not wait)
            if again:
                self.client.refresh_load(name)

    def catch_up(self, names: Iterable[str]) -> None:
        """Load collections so that what follows sees all that was written to them before."""
        for name in names:
            self.load(name)
            self.count(name, now=True)

    def count(self, name: str, where: str = "", *, now: bool = False) -> int:
        """Count the rows that match an expression.

        Args:
            name: Name of the collection.
            where: Expression; empty for all.
            now: Read with strong consistency; otherwise recent writes may be missed.
        """
        rows = self.query(name, where, ["count(*)"], now=now, limit=None)
        return int(rows[0]["count(*)"])

    def query(
        self,
        name: str,
        where: str,
        fields: Sequence[str],
        *,
        now: bool = False,
        limit: int | None = LARGEST,
    ) -> list[dict[str, Any]]:
        """Return the rows that match an expression, those with the smallest ids first."""
        more: dict[str, Any] = {} if limit is None else {"limit": limit}
        with self.errors_named(f"reading {name}"):
            return list(
                self.client.query(
                    name,
                    filter=where,
                    output_fields=list(fields),
                    consistency_level="Strong" if now else "Eventually",
                    **more,
                )
            )

    def pages(
        self,
        name: str,
        where: str,
        fields: Sequence[str],
        *,
        key: str = "id",
        now: bool = False,
        most: int | None = None,
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield ``most`` rows, or all, sorted by key, one response of the server at a time."""
        start, left = f'{key} >= ""', most
        while True:
            limit = LARGEST if left is None else min(LARGEST, left)
            rows = self.query(name, both(where, start), [key, *fields], now=now, limit=limit)
            yield rows
            left = None if left is None else left - len(rows)
            if len(rows) < limit or left == 0:
                return
            start = f"{key} > {quoted(str(rows[-1][key]))}"

    def search(
        self,
        name: str,
        vectors: Sequence[Any],
        limit: int,
        *,
        where: str = "",
        fields: Sequence[str] = (),
        parameters: dict[str, Any] | None = None,
    ) -> list[list[dict[str, Any]]]:
        """Return the nearest rows of each vector, nearest first."""
        with self.errors_named(f"searching {name}"):
            found = self.client.search(
                name,
                data=list(vectors),
                limit=limit,
                filter=where,
                output_fields=["id", *fields],
                search_params={"params": parameters or {}},
                consistency_level="Eventually",
            )
            return [list(hits) for hits in found]

    def insert(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows whose keys are new, given by field."""
        self._write("batch_insert", name, columns)

    def upsert(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows, or replace those with the same keys, given by field."""
        self._write("upsert", name, columns)

    def _write(self, how: str, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        # The client's own calls take a dictionary per row, which is several times slower.
        with self.errors_named(f"writing {name}"):
            fields = self._fields.get(name)
            if fields is None:
                fields = self._fields[name] = self.client.describe_collection(name)["fields"]
            values = [
                {"name": f["name"], "type": f["type"], "values": columns[f["name"]]} for f in fields
            ]
            getattr(self.client._get_connection(), how)(name, values, schema={"fields": fields})

    def delete(self, name: str, keys: Sequence[str], key: str = "id") -> None:
        """Remove rows by their keys."""
        with self.errors_named(f"writing {name}"):
            for first in range(0, len(keys), LARGEST // 4):
                part = keys[first : first + LARGEST // 4]
                self.client.delete(name, filter=one_of(key, part))

    def finalize(self, name: str, progress: Any = None, seconds: float = 3600.0) -> None:
        """Flush a collection and wait until it is indexed.

        Raises:
            ArchiveError: It takes longer than ``seconds``.
        """
        with self.errors_named(f"indexing {name}"):
            self.client.flush(name)
            (index,) = self.client.list_indexes(name)
            started = time.monotonic()
            while True:
                found = self.client.describe_index(name, index)
                total, done = int(found["total_rows"]), int(found["indexed_rows"])
                if found["state"] != "InProgress" and not int(found["pending_index_rows"]):
                    return
                if progress is not None:
                    progress(done, total)
                if time.monotonic() - started > seconds:
                    raise ArchiveError(
                        f"Milvus at {self.address.server} indexed {done} of {total} rows of {name} "
                        f"in {seconds:.0f} s: check the server, then run the same command again"
                    )
                time.sleep(0.2)

    def close(self) -> None:
        """Close the connection to the server."""
        with contextlib.suppress(Exception):
            self.client.close()


def load_pymilvus() -> Any:
    """Return the pymilvus module, with its logging of tracebacks turned off.

    Raises:
        UsageError: It is not installed.
    """
    try:
        module = importlib.import_module("pymilvus")
    except ImportError:
        raise UsageError("milvus:// needs pymilvus: run pip install 'landcue[milvus]'") from None
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)
    return module
