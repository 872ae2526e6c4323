"""Where a collection is: ``milvus://host:port/collection``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from landcue.errors import UsageError

PORT = 19530
USER, PASSWORD, TOKEN, CERTIFICATE = (
    f"LANDCUE_MILVUS_{name}" for name in ("USER", "PASSWORD", "TOKEN", "CERTIFICATE")
)
"""Environment variables: credentials are not part of an address, which others could read."""

# pathlib drops one of the two slashes.
_SCHEME = re.compile(r"(milvuss?):/{1,2}(?!/)")
_REST = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"/(?P<collection>[A-Za-z_][A-Za-z0-9_]{0,199})"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A collection on a server.

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
        return f"milvus{'s' * self.secure}://{self.host}:{self.port}/{self.collection}"

    @property
    def server(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"

    @property
    def uri(self) -> str:
        """The server as pymilvus wants it."""
        return f"http{'s' * self.secure}://{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str | Path) -> Address:
        """Parse an address.

        Raises:
            UsageError: It is not valid, or holds credentials.
        """
        scheme = _SCHEME.match(str(text))
        if scheme is None:
            raise UsageError(f"{text} is not an address: write milvus://host:port/collection")
        rest = str(text)[scheme.end() :]
        if "@" in rest:
            raise UsageError(
                f"the address holds credentials that others could read: set {USER} and {PASSWORD}, "
                f"or {TOKEN}, and write milvus://host:port/collection"
            )
        found = _REST.fullmatch(rest)
        port = PORT if found is None else int(found["port"] or PORT)
        if found is None or not 0 < port < 65_536:
            raise UsageError(
                f"{text} is not an address: write milvus://host:port/collection, the collection in "
                "letters, digits and _"
            )
        return cls(found["host"], port, found["collection"], scheme[1] == "milvuss")


def is_address(path: str | Path) -> bool:
    """Return whether an archive's path names a collection on a server."""
    return _SCHEME.match(str(path)) is not None


def credentials() -> dict[str, str]:
    """Return the credentials in the environment, as arguments of pymilvus.

    Raises:
        UsageError: A user without a password, or a password without a user.
    """
    user, password, token = (os.environ.get(name, "") for name in (USER, PASSWORD, TOKEN))
    if token:
        return {"token": token}
    if bool(user) != bool(password):
        raise UsageError(f"set both {USER} and {PASSWORD}, or only {TOKEN}")
    return {"user": user, "password": password} if user else {}
