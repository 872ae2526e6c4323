"""Convert errors of a server or its library to one line that says what to do."""

from __future__ import annotations

import re

from landcue.errors import ArchiveError
from landcue.milvus.address import PASSWORD, TOKEN, USER, Address

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
