"""What stands before every request: who may ask, from where, how often and how much."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landcue.server.observe import PROBES
from landcue.server.problems import ProblemError, problem
from landcue.server.rate import Rate
from landcue.server.settings import Scope as TokenScope
from landcue.server.settings import Settings

UPLOADS = "/v1/search"
UPLOADS_TOO = "/regions"
"""How the paths end that compare a record with an uploaded image."""
FEEDBACK = "/v1/feedback"


class Guard:
    """ASGI middleware that refuses before anything is parsed."""

    def __init__(self, app: ASGIApp, settings: Settings, public: Iterable[str] = ()) -> None:
        self._app = app
        self._public = frozenset({*PROBES, *public})
        self._settings = settings
        self._running = 0
        shared = settings.shared
        self._rate = Rate(settings.limits.per_second, shared and shared.rates)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_origin(scope["method"], headers)
            if scope["path"] in self._public:
                await self._app(scope, receive, send)
                return
            self._check_token(scope["path"], headers)
            client = scope.get("client")
            self._rate.check(client[0] if client else "")
            most = self._most_bytes(scope["path"])
            _check_length(headers, most)
            if self._running >= self._settings.limits.requests:
                raise ProblemError(429, "too many requests are under way", {"Retry-After": "1"})
        except ProblemError as error:
            answer = problem(error.status_code, error.detail, headers=error.headers)
            await answer(scope, receive, send)
            return
        self._running += 1
        try:
            limited = _Limited(receive, most, self._settings.limits.body_seconds)
            await self._app(scope, limited, send)
        finally:
            self._running -= 1

    def _most_bytes(self, path: str) -> int:
        limits = self._settings.limits
        uploads = path == UPLOADS or path.endswith(UPLOADS_TOO)
        return limits.upload_bytes if uploads else limits.json_bytes

    def _check_origin(self, method: str, headers: Headers) -> None:
        """Refuse other names of this host, and what pages of other sites send.

        A page elsewhere could otherwise point a name of its own at this machine, or post a form.
        """
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self._settings.hosts and name.lower() not in self._settings.hosts:
            raise ProblemError(421, "the service does not go by this host name")
        origin = headers.get("origin")
        if origin is None or method in ("GET", "HEAD") or origin in self._settings.origins:
            return
        if urlsplit(origin).netloc != host:
            raise ProblemError(403, "pages of other sites may not send requests")

    def _check_token(self, path: str, headers: Headers) -> None:
        tokens = self._settings.tokens
        if tokens is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        needed: TokenScope = "feedback" if path == FEEDBACK else "read"
        if scheme.lower() == "bearer":
            if tokens.allows(given.strip(), needed):
                return
            if tokens.allows(given.strip(), "read"):
                raise ProblemError(403, f"the token lacks the scope {needed!r}")
        raise ProblemError(
            401, "send a valid token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"}
        )


class _Limited:
    """Receives a body up to a size and within a time; afterwards it only passes on."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive, self._most = receive, most
        self._until = asyncio.get_running_loop().time() + seconds
        self._bytes = 0
        self._done = False

    async def __call__(self) -> Message:
        if self._done:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise ProblemError(
                408, "the body took too long to arrive", {"Connection": "close"}
            ) from None
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            if self._bytes > self._most:
                raise _too_large(self._most)
            self._done = not message.get("more_body", False)
        return message


def _check_length(headers: Headers, most: int) -> None:
    text = headers.get("content-length", "0")
    if not text.isdecimal():
        raise ProblemError(400, "Content-Length is no number")
    if len(text) > 20 or int(text) > most:
        raise _too_large(most)


def _too_large(most: int) -> ProblemError:
    return ProblemError(
        413, f"the body is larger than the limit of {most:,} bytes", {"Connection": "close"}
    )
