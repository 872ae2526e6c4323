"""A collection's address, the connection to its server, and expressions with safe quoting."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
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
"""The first version with arrays and with deletions by any expression."""

_SECONDS = 10.0
_INDEXING_SECONDS = 3600
# pathlib drops one of the two slashes.
_ADDRESS = re.compile(
    r"milvus(?P<secure>s?):/{1,2}(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?/(?P<collection>[A-Za-z_][A-Za-z0-9_]{0,199})"
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
        """Parse an address.

        Raises:
            UsageError: It is none, or it holds credentials.
        """
        wanted = "write milvus://host:port/collection"
        if "@" in str(text):
            raise UsageError(
                f"the address holds credentials that others could read: set {USER} and {PASSWORD}, "
                f"or {TOKEN}, and {wanted}"
            )
        found = _ADDRESS.fullmatch(str(text))
        port = PORT if found is None else int(found["port"] or PORT)
        if found is None or not 0 < port < 65_536:
            raise UsageError(
                f"{text} is not an address: {wanted}, the collection in letters, digits and _"
            )
        return cls(found["host"], port, found["collection"], bool(found["secure"]))


def credentials() -> dict[str, str]:
    """Return the credentials in the environment, as arguments of pymilvus."""
    user, password, token = (os.environ.get(name, "") for name in (USER, PASSWORD, TOKEN))
    if token:
        return {"token": token}
    if bool(user) != bool(password):
        raise UsageError(f"set both {USER} and {PASSWORD}, or only {TOKEN}")
    return {"user": user, "password": password} if user else {}


def check_version(version: str, server: str) -> None:
    """Check that a server is not older than :data:`OLDEST`."""
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

    def make(
        self, name: str, fields: Mapping[str, Any], *, wait: bool = False, **index: Any
    ) -> None:
        """Create a collection with an index of its last field, its vector, unless they exist.

        With ``wait`` its rows are flushed, and the index holds all of them when this returns.
        """
        wanted = self.client.prepare_index_params()
        wanted.add_index([*fields][-1], **index)
        with self.doing(f"{'indexing' if wait else 'making'} {name}"):
            if not self.client.has_collection(name):
                schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
                for field, about in fields.items():
                    schema.add_field(field, **about)
                self.client.create_collection(name, schema=schema)
            if wait:
                self.client.flush(name)
            self.client.create_index(name, wanted, sync=wait, timeout=_INDEXING_SECONDS)

    def load(self, name: str, *, again: bool = False) -> None:
        """Load a collection into the server's memory; ``again`` adds segments sealed since."""
        with self.doing(f"loading {name}"):
            self.client.load_collection(name)
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
        options: dict[str, Any] = {} if limit is None else {"limit": limit}
        options["consistency_level"] = "Strong" if now else "Eventually"
        with self.doing(f"reading {name}"):
            return list(self.client.query(name, where, output_fields=list(fields), **options))

    def pages(
        self, name: str, where: str, fields: Sequence[str], size: int = LARGEST
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield all rows by ascending id, one response at a time.

        The client's own iterator does not quote the ids of its expressions.
        """
        start = 'id >= ""'
        while True:
            rows = self.query(name, both(where, start), ["id", *fields], limit=size)
            yield rows
            if len(rows) < size:
                return
            start = f"id > {quoted(str(rows[-1]['id']))}"

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

    def write(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows, or replace those with the same keys; other columns are left out."""
        # The client's own calls take a dictionary per row, and are several times slower.
        with self.doing(f"writing {name}"):
            if name not in self._fields:
                self._fields[name] = self.client.describe_collection(name)["fields"]
            fields = self._fields[name]
            values = [
                {"name": field["name"], "type": field["type"], "values": columns[field["name"]]}
                for field in fields
            ]
            self.client._get_connection().upsert(name, values, schema={"fields": fields})

    def delete(self, name: str, where: str) -> None:
        """Remove the rows that match an expression."""
        with self.doing(f"writing {name}"):
            self.client.delete(name, filter=where)

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
    text = " ".join(str(getattr(error, "message", "") or error).split())
    causes, cause = [text], error.__cause__
    while cause is not None and str(cause) not in causes:  # it can be its own cause
        causes.append(str(cause))
        cause = cause.__cause__
    low = " ".join(causes).lower()
    what = f"failed while {doing}: {text[:300]}"
    if any(mark in low for mark in _REFUSED):
        what = f"refuses these credentials: set {USER} and {PASSWORD}, or {TOKEN}"
    elif getattr(error, "code", None) == 100 or "collection not found" in low:
        return missing(address)
    elif any(mark in low for mark in _FULL):
        what = (
            f"has no memory or disk left while {doing}: add memory or disk to its nodes, or drop "
            "an unused collection, then run the same command again"
        )
    elif any(mark in low for mark in _UNREACHABLE) or "connect" in type(error).__name__.lower():
        what = "cannot be reached: start it, or check host, port and TLS (milvuss://)"
    return ArchiveError(f"Milvus at {address.server} {what}")


def quoted(text: str) -> str:
    r"""Return a string literal: every character but letters, digits and a few marks is escaped.

    >>> print(quoted('a"b'))
    "a\U00000022b"
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is not valid Unicode") from None
    return '"' + "".join(c if c in _PLAIN else f"\\U{ord(c):08x}" for c in text) + '"'


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


def joined(word: str, parts: Iterable[str]) -> str:
    """Return an expression that all parts hold (``and``), or any (``or``); empty ones do not count.

    >>> joined("or", ["time > 1", "", "known == true"])
    '(time > 1) or (known == true)'
    """
    said = [part for part in parts if part]
    return said[0] if len(said) == 1 else f" {word} ".join(f"({part})" for part in said)


def both(*parts: str) -> str:
    """Return an expression that all parts hold; empty parts are ignored."""
    return joined("and", parts)
