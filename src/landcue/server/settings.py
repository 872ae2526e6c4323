"""What an operator chooses: limits, tokens, where feedback goes."""

from __future__ import annotations

import hmac
import ipaddress
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from landcue.errors import UsageError
from landcue.server.shared import Shared

Scope = Literal["read", "feedback"]

SHORTEST_TOKEN = 20

_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost, and how many may run.

    Attributes:
        upload_bytes: Body of a request with images.
        json_bytes: Any other body, and the JSON part of an upload.
        images: Image parts of an upload.
        body_seconds: Until the whole body is there.
        pixels: Of an uploaded image.
        decode_seconds: To decode one image.
        decode_bytes: Address space of a process that decodes.
        decoders: Processes that decode.
        encoders: Image searches at a time.
        encoders_waiting: Image searches that may wait; further ones get 429.
        searches: Other searches at a time.
        searches_waiting: Likewise.
        insights_waiting: Requests about a model that wait while one is computed.
        requests: Requests of any kind under way.
        per_second: Requests of one client in the long run; ``None`` for any number.
        feedback_bytes: Most that the feedback file may grow to.
    """

    upload_bytes: int = 32 << 20
    json_bytes: int = 256 << 10
    images: int = 8
    body_seconds: float = 30.0
    pixels: int = 32_000_000
    decode_seconds: float = 15.0
    decode_bytes: int = 2 << 30
    decoders: int = 2
    encoders: int = 2
    encoders_waiting: int = 16
    searches: int = 4
    searches_waiting: int = 256
    insights_waiting: int = 32
    requests: int = 512
    per_second: float | None = None
    feedback_bytes: int = 100 << 20


@dataclass(frozen=True, slots=True)
class Tokens:
    """Secrets by scope. Whoever may give feedback may read."""

    read: tuple[str, ...] = ()
    feedback: tuple[str, ...] = ()

    def allows(self, token: str, scope: Scope) -> bool:
        """Tell whether a token has a scope, in a time that does not depend on where it differs."""
        good = self.feedback if scope == "feedback" else (*self.read, *self.feedback)
        found = False
        for known in good:
            found |= hmac.compare_digest(known.encode(), token.encode())
        return found


@dataclass(frozen=True, slots=True)
class Settings:
    """How a service runs.

    Attributes:
        hosts: Names that a request may call the service by; any when empty.
        tokens: ``None`` lets every request in.
        origins: Web origins whose pages may read answers (CORS); none by default.
        basemap: Address template of map tiles that the page shows; ``None`` shows none.
        basemap_credit: Whom the map names for its tiles; their host without it.
        feedback_file: Where feedback is kept, a JSON object per line; ``None`` refuses it.
        limits: See :class:`Limits`; of each process.
        shared: Where this process meets others that serve the same; ``None`` when it is alone.
    """

    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    tokens: Tokens | None = None
    origins: tuple[str, ...] = ()
    basemap: str | None = None
    basemap_credit: str | None = None
    feedback_file: Path | None = None
    limits: Limits = field(default_factory=Limits)
    shared: Shared | None = None


def read_tokens(path: Path) -> Tokens:
    """Read a token file: on each line ``read`` or ``feedback`` and a token; ``#`` comments.

    Raises:
        UsageError: It cannot be read, others than its owner may read it, or a line is wrong; no
            message shows a token.
    """
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"--token-file {path}: cannot be read ({reason})") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"--token-file {path}: others may read it; run chmod 600 {path}")
    found: dict[str, list[str]] = {"read": [], "feedback": []}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in found:
            raise UsageError(f"{path}, line {number}: write 'read TOKEN' or 'feedback TOKEN'")
        if len(words[1]) < SHORTEST_TOKEN or not words[1].isascii():
            raise UsageError(
                f"{path}, line {number}: the token needs {SHORTEST_TOKEN} ASCII characters or "
                "more; make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        found[words[0]].append(words[1])
    if not any(found.values()):
        raise UsageError(f"--token-file {path}: holds no token")
    return Tokens(tuple(found["read"]), tuple(found["feedback"]))


def check_origin(origin: str) -> str:
    """Return a web origin as browsers send it: scheme, host and port alone, in lower case.

    Raises:
        UsageError: It is none, and would never match or match every page.
    """
    if not _ORIGIN.fullmatch(origin):
        raise UsageError(
            f"--allow-origin {origin[:200]!r}: give one origin as browsers send it, such as "
            "https://maps.example.org, in lower case and without a path"
        )
    return origin


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_host(host: str, tokens: Tokens | None) -> None:
    """Refuse to open a service to others without a token.

    Raises:
        UsageError: Says what to do.
    """
    if not is_loopback(host) and tokens is None:
        raise UsageError(
            f"--host {host} can be reached from other machines: give --token-file, or serve on "
            "127.0.0.1"
        )
