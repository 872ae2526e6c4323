"""The connection to a Milvus server: every touch of pymilvus, with its failures in one line."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from landcue.errors import ArchiveError, LandcueError, UsageError
from landcue.milvus.address import CERTIFICATE, PASSWORD, TOKEN, USER, Address, credentials

LARGEST = 16_384
"""Hits or rows that the server gives at a time."""

OLDEST = (2, 3, 2)
"""The first version with arrays."""

_SECONDS = 10.0
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


class Link:
    """One server, as one collection's address names it. Several threads may use it."""

    def __init__(self, address: Address) -> None:
        """Connect.

        Raises:
            ArchiveError: The server cannot be reached, is too old, or wants other credentials.
            UsageError: pymilvus is not installed, or half of the credentials is missing.
        """
        self.address = address
        self._milvus = load_pymilvus()
        self._fields: dict[str, list[dict[str, Any]]] = {}
        known = credentials()
        certificate = os.environ.get(CERTIFICATE)
        if address.secure and certificate:
            known["server_pem_path"] = certificate
        with self.talking("connecting"):
            self.client: Any = self._milvus.MilvusClient(uri=address.uri, timeout=_SECONDS, **known)
            version = str(self.client.get_server_version(timeout=_SECONDS))
        check_version(version, address.server)

    @contextlib.contextmanager
    def talking(self, doing: str) -> Generator[None]:
        """Turn the library's errors into one line that names the server and what was done."""
        try:
            yield
        except LandcueError:
            raise
        except self._milvus.MilvusException as error:
            raise self._explained(error, doing) from None
        except Exception as error:  # gRPC and the library's own helpers raise all kinds
            if type(error).__module__.partition(".")[0] not in ("grpc", "pymilvus"):
                raise
            raise self._explained(error, doing) from None

    def has(self, name: str) -> bool:
        """Tell whether a collection exists."""
        with self.talking("looking for the collection"):
            return bool(self.client.has_collection(name))

    def load(self, name: str, *, again: bool = False) -> None:
        """Bring a collection into the server's memory, and wait for it.

        ``again`` takes up segments that were sealed since.
        """
        with self.talking(f"loading {name}"):
            self.client.load_collection(name)
            if again:
                self.client.refresh_load(name)

    def count(self, name: str, where: str = "", *, now: bool = False) -> int:
        """Return how many rows an expression lets through.

        Args:
            name: Of the collection.
            where: Expression; empty for all.
            now: Wait for everything written before; without it, what is known is enough.
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
        """Return rows that an expression lets through, those of the smallest ids first."""
        more: dict[str, Any] = {} if limit is None else {"limit": limit}
        with self.talking(f"reading {name}"):
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
        """Yield ``most`` rows, or all, in the order of their keys, in pieces the server gives."""
        from landcue.milvus.expressions import both, quoted

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
        with self.talking(f"searching {name}"):
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
        # The client's own calls take a dictionary a row, which costs several times as much.
        with self.talking(f"writing {name}"):
            fields = self._fields.get(name)
            if fields is None:
                fields = self._fields[name] = self.client.describe_collection(name)["fields"]
            values = [
                {"name": f["name"], "type": f["type"], "values": columns[f["name"]]} for f in fields
            ]
            getattr(self.client._get_connection(), how)(name, values, schema={"fields": fields})

    def delete(self, name: str, keys: Sequence[str], key: str = "id") -> None:
        """Remove rows by their keys."""
        from landcue.milvus.expressions import one_of

        with self.talking(f"writing {name}"):
            for first in range(0, len(keys), LARGEST // 4):
                part = keys[first : first + LARGEST // 4]
                self.client.delete(name, filter=one_of(key, part))

    def settle(self, name: str, tick: Any = None, seconds: float = 3600.0) -> None:
        """Seal what was written and wait until it is indexed.

        Raises:
            ArchiveError: It takes longer than ``seconds``.
        """
        with self.talking(f"indexing {name}"):
            self.client.flush(name)
            (index,) = self.client.list_indexes(name)
            started = time.monotonic()
            while True:
                found = self.client.describe_index(name, index)
                total, done = int(found["total_rows"]), int(found["indexed_rows"])
                if found["state"] != "InProgress" and not int(found["pending_index_rows"]):
                    return
                if tick is not None:
                    tick(done, total)
                if time.monotonic() - started > seconds:
                    raise ArchiveError(
                        f"Milvus at {self.address.server} indexed {done} of {total} rows of {name} "
                        f"in {seconds:.0f} s: look at the server, then run the same command again"
                    )
                time.sleep(0.2)

    def close(self) -> None:
        """Let go of the server."""
        with contextlib.suppress(Exception):
            self.client.close()

    def _explained(self, error: Exception, doing: str) -> LandcueError:
        server = self.address.server
        text = " ".join(str(getattr(error, "message", "") or error).split())
        low = f"{text} {_causes(error)}".lower()
        if any(mark in low for mark in _REFUSED):
            return ArchiveError(
                f"Milvus at {server} refuses these credentials: set {USER} and {PASSWORD}, or "
                f"{TOKEN}"
            )
        if getattr(error, "code", None) == _NO_COLLECTION or "collection not found" in low:
            return missing(self.address)
        if any(mark in low for mark in _FULL):
            return ArchiveError(
                f"Milvus at {server} has no room left while {doing}: give its nodes more memory or "
                "disk, or drop a collection that nobody asks, then run the same command again"
            )
        if any(mark in low for mark in _UNREACHABLE) or "connect" in type(error).__name__.lower():
            return ArchiveError(
                f"Milvus at {server} cannot be reached: start it, or check host, port and TLS "
                "(milvuss://)"
            )
        return ArchiveError(f"Milvus at {server} failed while {doing}: {text[:300]}")


def _causes(error: BaseException) -> str:
    """Return what lies behind an error, which the library hides; it is its own cause at times."""
    texts: list[str] = []
    seen = {id(error)}
    cause = error.__cause__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        texts.append(str(cause))
        cause = cause.__cause__
    return " ".join(texts)


def missing(address: Address) -> ArchiveError:
    """Return the error for a collection that does not exist."""
    return ArchiveError(
        f"{address} does not exist: make it with 'landcue archive push ARCHIVE {address}'"
    )


def check_version(version: str, server: str) -> None:
    """Refuse a server that lacks what is needed.

    Raises:
        ArchiveError: Names its version and the one that is needed.
    """
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise ArchiveError(
            f"Milvus at {server} has version {version or 'unknown'}, LandCue needs {needed} or "
            "newer: update the server"
        )


def load_pymilvus() -> Any:
    """Return the pymilvus module, which then keeps its tracebacks to itself.

    Raises:
        UsageError: It is not installed.
    """
    try:
        module = importlib.import_module("pymilvus")
    except ImportError:
        raise UsageError("milvus:// needs pymilvus: run pip install 'landcue[milvus]'") from None
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)
    return module
