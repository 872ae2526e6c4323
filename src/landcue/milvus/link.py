"""A collection's address, the connection to its server, and expressions with safe quoting."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landcue.errors import ArchiveError, UsageError

PORT = 19530
USER, PASSWORD, TOKEN, CERTIFICATE = (
    f"LANDCUE_MILVUS_{name}" for name in ("USER", "PASSWORD", "TOKEN", "CERTIFICATE")
)
"""Environment variables: credentials are not part of an address, which others could read."""

LARGEST = 16_384
"""Most hits or rows per response of the server."""

OLDEST = (2, 3, 2)
"""The first version with arrays."""

_SECONDS = 10.0
# pathlib drops one of the two slashes.
_SCHEME = re.compile(r"(milvuss?):/{1,2}(?!/)")
_REST = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"/(?P<collection>[A-Za-z_][A-Za-z0-9_]{0,199})"
)
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ./-:+,=@")
_REFUSED = (
    *("auth check failure", "unauthenticated", "missing authorization"),
    *("permission deny", "invalid token"),
)
_FULL = (
    *("oom if load", "out of memory", "insufficient memory", "insufficientmemory"),
    *("memory limit exceeded", "memory quota", "disk quota", "disk limit", "disk space is not"),
)
_UNREACHABLE = ("fail connecting", "unavailable", "deadline exceeded", "failed to connect")


@dataclass(frozen=True, slots=True)
class Address:
    """A collection on a server.

    >>> Address.parse("milvus://localhost/chips")
    Address(host='localhost', port=19530, collection='chips', secure=False)

    Attributes:
        host: Host name or IP address.
        port: Port of the server's gRPC service.
        collection: Letters, digits and ``_``.
        secure: Whether to use TLS.
    """

    host: str
    port: int
    collection: str
    secure: bool = False

    def __str__(self) -> str:
        return f"milvus{'s' * self.secure}://{self.server}/{self.collection}"

    @property
    def server(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str | Path) -> Address:
        """Parse an address."""
        wanted = "write milvus://host:port/collection"
        scheme = _SCHEME.match(str(text))
        if scheme is None:
            raise UsageError(f"{text} is not an address: {wanted}")
        rest = str(text)[scheme.end() :]
        if "@" in rest:
            raise UsageError(
                f"the address holds credentials that others could read: set {USER} and {PASSWORD}, "
                f"or {TOKEN}, and {wanted}"
            )
        found = _REST.fullmatch(rest)
        port = PORT if found is None else int(found["port"] or PORT)
        if found is None or not 0 < port < 65_536:
            raise UsageError(
                f"{text} is not an address: {wanted}, the collection in letters, digits and _"
            )
        return cls(found["host"], port, found["collection"], scheme[1] == "milvuss")


def credentials() -> dict[str, str]:
    """Return the credentials in the environment, as arguments of pymilvus."""
    user, password, token = (os.environ.get(name, "") for name in (USER, PASSWORD, TOKEN))
    if token:
        return {"token": token}
    if bool(user) != bool(password):
        raise UsageError(f"set both {USER} and {PASSWORD}, or only {TOKEN}")
    return {"user": user, "password": password} if user else {}


def check_version(version: str, server: str) -> None:
    """Check the version of a server."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise ArchiveError(
            f"Milvus at {server} has version {version or 'unknown'}, LandCue needs {needed} or "
            "newer: update the server"
        )


class Link:
    """A connection whose failures are errors of one line. Several threads may use it.

    Attributes:
        client: A ``pymilvus.MilvusClient``.
        types: ``pymilvus.DataType``.
    """

    def __init__(self, address: Address) -> None:
        """Connect."""
        try:
            pymilvus = importlib.import_module("pymilvus")
        except ImportError:
            raise UsageError(
                "milvus:// needs pymilvus: run pip install 'landcue[milvus]'"
            ) from None
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)  # it logs tracebacks
        self.address, self.types = address, pymilvus.DataType
        self._fields: dict[str, list[dict[str, Any]]] = {}
        known = credentials()
        certificate = os.environ.get(CERTIFICATE)
        if address.secure and certificate:
            known["server_pem_path"] = certificate
        uri = f"http{'s' * address.secure}://{address.server}"
        with self.doing("connecting"):
            self.client: Any = pymilvus.MilvusClient(uri=uri, timeout=_SECONDS, **known)
            version = str(self.client.get_server_version(timeout=_SECONDS))
        check_version(version, address.server)

    @contextlib.contextmanager
    def doing(self, what: str) -> Generator[None]:
        """Convert the library's errors to one line that names the server and the operation."""
        try:
            yield
        except Exception as error:  # gRPC and the library raise all kinds
            if type(error).__module__.partition(".")[0] not in ("grpc", "pymilvus"):
                raise
            raise _explained(error, what, self.address) from None

    def has(self, name: str) -> bool:
        """Return whether a collection exists."""
        with self.doing("looking for the collection"):
            return bool(self.client.has_collection(name))

    def create(self, name: str, fields: Sequence[dict[str, Any]], **index: Any) -> None:
        """Create a collection and the index of its only vector field, the last one."""
        with self.doing(f"making {name}"):
            schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
            for field in fields:
                schema.add_field(**field)
            wanted = self.client.prepare_index_params()
            wanted.add_index(fields[-1]["field_name"], **index)
            self.client.create_collection(name, schema=schema)
            self.client.create_index(name, wanted, sync=False)  # there is nothing to wait for yet

    def load(self, name: str, *, wait: bool = True, again: bool = False) -> None:
        """Load a collection into the server's memory; ``again`` adds segments sealed since."""
        with self.doing(f"loading {name}"):
            self.client.load_collection(name, _async=not wait)
            if again:
                self.client.refresh_load(name)

    def count(self, name: str, where: str = "", *, now: bool = False) -> int:
        """Count the rows that match an expression; ``now`` includes the most recent writes."""
        return int(self.query(name, where, ["count(*)"], now=now, limit=None)[0]["count(*)"])

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
        level = "Strong" if now else "Eventually"
        more = {} if limit is None else {"limit": limit}
        with self.doing(f"reading {name}"):
            return list(
                self.client.query(
                    name, where, output_fields=list(fields), consistency_level=level, **more
                )
            )

    def pages(
        self, name: str, where: str, fields: Sequence[str], *, key: str = "id", now: bool = False
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield all rows, sorted by key, one response of the server at a time."""
        start = f'{key} >= ""'
        while True:
            rows = self.query(name, both(where, start), [key, *fields], now=now)
            yield rows
            if len(rows) < LARGEST:
                return
            start = f"{key} > {quoted(str(rows[-1][key]))}"

    def search(
        self, name: str, vectors: Sequence[Any], limit: int, where: str = "", **parameters: Any
    ) -> list[list[dict[str, Any]]]:
        """Return the ids and distances of the nearest rows of each vector, nearest first."""
        with self.doing(f"searching {name}"):
            found = self.client.search(
                name,
                list(vectors),
                where,
                limit,
                output_fields=["id"],
                search_params={"params": parameters},
                consistency_level="Eventually",
            )
            return [list(hits) for hits in found]

    def write(self, name: str, rows: Sequence[dict[str, Any]], *, new: bool = False) -> None:
        """Add rows, or replace those with the same keys; ``new`` promises that there are none."""
        # The client's own calls take a dictionary per row, and are several times slower.
        with self.doing(f"writing {name}"):
            if name not in self._fields:
                self._fields[name] = self.client.describe_collection(name)["fields"]
            fields = self._fields[name]
            columns = [
                {"name": f["name"], "type": f["type"], "values": [row[f["name"]] for row in rows]}
                for f in fields
            ]
            connection = self.client._get_connection()
            write = connection.batch_insert if new else connection.upsert
            write(name, columns, schema={"fields": fields})

    def delete(self, name: str, keys: Sequence[str], key: str = "id") -> None:
        """Remove rows by their keys."""
        with self.doing(f"writing {name}"):
            for first in range(0, len(keys), LARGEST // 4):
                self.client.delete(name, filter=one_of(key, keys[first : first + LARGEST // 4]))

    def finalize(
        self, name: str, progress: Callable[[int, int], None], seconds: float = 3600.0
    ) -> None:
        """Flush a collection and wait until it is indexed."""
        with self.doing(f"indexing {name}"):
            self.client.flush(name)
            (index,) = self.client.list_indexes(name)
            started = time.monotonic()
            while True:
                found = self.client.describe_index(name, index)
                total, done = int(found["total_rows"]), int(found["indexed_rows"])
                if found["state"] != "InProgress" and not int(found["pending_index_rows"]):
                    return
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


def missing(address: Address) -> ArchiveError:
    """Return the error for a collection that does not exist."""
    return ArchiveError(
        f"{address} does not exist: create it with 'landcue archive push ARCHIVE {address}'"
    )


def _explained(error: Exception, doing: str, address: Address) -> ArchiveError:
    server = address.server
    text = " ".join(str(getattr(error, "message", "") or error).split())
    causes, cause = [text], error.__cause__
    while cause is not None and str(cause) not in causes:  # it can be its own cause
        causes.append(str(cause))
        cause = cause.__cause__
    low = " ".join(causes).lower()
    if any(mark in low for mark in _REFUSED):
        return ArchiveError(
            f"Milvus at {server} refuses these credentials: set {USER} and {PASSWORD}, or {TOKEN}"
        )
    if getattr(error, "code", None) == 100 or "collection not found" in low:
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


def quoted(text: str) -> str:
    r"""Return a string literal: every character but letters, digits and a few marks is escaped.

    >>> print(quoted('a"b'))
    "a\u0022b"
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is not valid Unicode") from None
    return '"' + "".join(c if c in _PLAIN else _escaped(ord(c)) for c in text) + '"'


def _escaped(point: int) -> str:
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def one_of(field: str, values: Iterable[str]) -> str:
    """Return an expression that a field equals one of the strings."""
    return f"{field} in [{', '.join(map(quoted, values))}]"


def starts(field: str, prefix: str) -> str:
    """Return an expression that a field starts with a prefix; ``%`` and ``_`` are literal."""
    after = after_prefix(prefix)
    least = f"{field} >= {quoted(prefix)}"
    return least if after is None else f"{least} and {field} < {quoted(after)}"


def after_prefix(prefix: str) -> str | None:
    """Return the least string greater than all with this prefix; ``None`` if there is none.

    >>> after_prefix("scene1/")
    'scene10'
    """
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    point = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if 0xD800 <= point <= 0xDFFF else point)


def both(*parts: str) -> str:
    """Return an expression that all parts hold; empty parts are ignored."""
    said = [part for part in parts if part]
    return said[0] if len(said) == 1 else joined("and", said)


def joined(word: str, parts: Sequence[str]) -> str:
    """Return an expression that all parts hold (``and``), or any of them (``or``)."""
    return f" {word} ".join(f"({part})" for part in parts)


def carries(number: int) -> str:
    """Return an expression that a record has the label with this number."""
    return f"array_contains(labels, {number})"
