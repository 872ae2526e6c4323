"""The settings of a service: archives, limits, tokens, where collections are kept.

Each setting may come from the environment: ``LANDCUE_SERVE_ARCHIVES='["archives/main"]'``,
``LANDCUE_SERVE_LIMITS__SEARCHES=8``. That is how uvicorn's workers get them.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
import re
import stat
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from landcue.data.scenes import MAX_PIXELS
from landcue.errors import UsageError, refusal
from landcue.server.page import check_basemap

Scope = Literal["read", "feedback"]

SHORTEST_TOKEN = 20
STARTUP_FAILURE = 3
"""Exit status of a worker that uvicorn does not start again."""

_PREFIX = "LANDCUE_SERVE_"
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


COLLECTIONS_BYTES = 100 << 20
"""Default of the largest size of a file of collections."""

_Workers = Annotated[int, Field(ge=1)]
_Waiting = Annotated[int, Field(ge=0)]


class Limits(BaseModel):
    """What one request may cost, and how many may run; of each worker.

    Attributes:
        upload_bytes: Body of a request with images.
        json_bytes: Any other body, and the JSON part of an upload.
        import_bytes: An exported collection, or exported saved searches.
        images: Image parts of an upload.
        bodies_bytes: Bodies of all requests under way.
        body_seconds: Until the whole body has arrived.
        pixels: Of an image; by default as many as when indexing.
        decode_seconds: To decode one image.
        decode_bytes: Address space of a process that decodes.
        decoders: Processes that decode.
        encoders: Image searches at a time.
        encoders_waiting: Image searches that may wait; further ones get 429.
        searches: Other searches at a time.
        searches_waiting: Likewise.
        surveys: Searches of all records at a time: maps, counts of scores, whole exports.
        surveys_waiting: Likewise.
        files: Files of results that are being downloaded.
        insights_waiting: Requests about a model that wait while one is computed.
        requests: Requests of any kind under way.
        per_second: Mean requests per second of one client; ``None`` for any.
        rate_seconds: Its requests are counted over so many seconds, which allows bursts.
        collections_bytes: Largest size of the file of collections.

    >>> Limits(images=2, per_second=10).searches
    4
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_bytes: int = 32 << 20
    json_bytes: int = 256 << 10
    import_bytes: int = 8 << 20
    images: int = 8
    bodies_bytes: int = 256 << 20
    body_seconds: float = 30.0
    pixels: int = MAX_PIXELS
    decode_seconds: float = 15.0
    decode_bytes: int = 2 << 30
    decoders: _Workers = 2
    encoders: _Workers = 2
    encoders_waiting: _Waiting = 16
    searches: _Workers = 4
    searches_waiting: _Waiting = 256
    surveys: _Workers = 1
    surveys_waiting: _Waiting = 32
    files: int = 8
    insights_waiting: _Waiting = 32
    requests: int = 512
    per_second: float | None = Field(default=None, gt=0)
    rate_seconds: _Workers = 10
    collections_bytes: int = COLLECTIONS_BYTES


class Tokens(BaseModel):
    """Secrets by scope; the scope feedback, which may change collections, includes read.

    >>> Tokens(read=("a" * 24,)).feedback
    ()
    """

    model_config = ConfigDict(frozen=True)

    read: tuple[str, ...] = ()
    feedback: tuple[str, ...] = ()

    def allows(self, token: str, scope: Scope) -> bool:
        """Return whether a token has a scope, in a time that does not depend on the difference."""
        good = self.feedback if scope == "feedback" else (*self.read, *self.feedback)
        allowed = False
        for known in good:
            allowed |= hmac.compare_digest(known.encode(), token.encode())
        return allowed


class Settings(BaseSettings):
    """How a service runs.

    Attributes:
        archives: Folders or addresses to serve; :func:`landcue.server.create_app` may get others.
        model: Of milvus:// collections among them: their model, for images.
        hosts: Names that a request may call the service by; any when empty.
        tokens: ``None`` lets every request in; never taken from the environment.
        token_file: They are read from here; see :func:`read_tokens`.
        proxies: Addresses or networks of proxies whose ``X-Forwarded-For`` names the client.
        origins: Web origins whose pages may read answers (CORS); none by default.
        basemap: Address template of map tiles that the page shows; ``None`` shows none.
        basemap_credit: Attribution of the tiles; their host without it.
        collections_file: SQLite file that collections are kept in; ``None`` refuses them.
        follow_seconds: Seconds between checks for changed archives; 0 for no checks.
        quiet: Log only errors, not every request.
        limits: See :class:`Limits`.

    Raises:
        UsageError: A value cannot be used.

    >>> Settings(archives=["archives/photos"], limits={"images": 2}).limits.images
    2
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    archives: tuple[str, ...] = ()
    model: str | None = None
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    tokens: Tokens | None = None
    token_file: Path | None = None
    proxies: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    basemap: str | None = None
    basemap_credit: str | None = None
    collections_file: Path | None = None
    follow_seconds: float = 2.0
    quiet: bool = False
    limits: Limits = Limits()

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            at = ".".join(map(str, first["loc"]))
            raise UsageError(f"setting {at}: {refusal(first['msg'])}") from None
        except SettingsError as error:  # of an environment variable
            raise UsageError(f"{error}: write JSON, such as {_PREFIX}HOSTS='[\"a\"]'") from None

    @field_validator("origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_origin, value))

    @field_validator("proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            try:
                ipaddress.ip_network(one, strict=False)
            except ValueError:
                raise UsageError(
                    f"--trusted-proxy {one[:80]!r}: use an address or a network such as 10.0.0.0/8"
                ) from None
        return value

    @field_validator("basemap")
    @classmethod
    def _check_basemap(cls, value: str | None) -> str | None:
        return None if value is None else check_basemap(value)

    @model_validator(mode="before")
    @classmethod
    def _read_tokens(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("token_file") and not values.get("tokens"):
            return {**values, "tokens": read_tokens(Path(values["token_file"]))}
        return values

    def export(self) -> None:
        """Put the settings into this process's environment, for workers; tokens stay in their file.

        Raises:
            UsageError: There are tokens that came from no file.
        """
        if self.tokens is not None and self.token_file is None:
            raise UsageError("several workers read tokens from a file: set token_file")
        for name, value in self.model_dump(mode="json", exclude={"tokens"}).items():
            if value is None:
                os.environ.pop(f"{_PREFIX}{name.upper()}", None)
            else:
                text = value if isinstance(value, str) else json.dumps(value)
                os.environ[f"{_PREFIX}{name.upper()}"] = text


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
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"--token-file {path}: others may read it; run chmod 600 {path}")
    tokens: dict[str, list[str]] = {"read": [], "feedback": []}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in tokens:
            raise UsageError(f"{path}, line {number}: write 'read TOKEN' or 'feedback TOKEN'")
        if len(words[1]) < SHORTEST_TOKEN or not words[1].isascii():
            raise UsageError(
                f"{path}, line {number}: the token needs {SHORTEST_TOKEN} ASCII characters or "
                "more; make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        tokens[words[0]].append(words[1])
    if not any(tokens.values()):
        raise UsageError(f"--token-file {path}: holds no token")
    return Tokens(read=tuple(tokens["read"]), feedback=tuple(tokens["feedback"]))


def check_origin(origin: str) -> str:
    """Return a web origin as browsers send it: scheme, host and port alone, in lower case.

    Raises:
        UsageError: It is none, and would never match or match every page.
    """
    if not _ORIGIN.fullmatch(origin):
        raise UsageError(
            f"--allow-origin {origin[:200]!r}: use one origin as browsers send it, such as "
            "https://maps.example.org, in lower case and without a path"
        )
    return origin


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_host(host: str, tokens: Tokens | None) -> None:
    """Refuse to open a service to others without a token.

    Raises:
        UsageError: Names the option that is missing.
    """
    if not is_loopback(host) and tokens is None:
        raise UsageError(
            f"--host {host} can be reached from other machines: use --token-file, or serve on "
            "127.0.0.1"
        )
