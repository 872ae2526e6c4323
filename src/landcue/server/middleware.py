"""Middleware: request ids, one log line, counters, security headers, and access checks.

:class:`Observe` is the outermost; :class:`Guard` refuses requests before anything is parsed, by
token, host, origin, rate and size.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from h11 import LocalProtocolError
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landcue.server.errors import ProblemError, problem
from landcue.server.metrics import Metrics
from landcue.server.settings import Scope as TokenScope
from landcue.server.settings import Settings

CSP = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Set where an answer does not set its own."""

_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

PROBES = ("/healthz", "/readyz")
"""Requested every few seconds: not logged, and never refused."""

UPLOADS = (
    *("/v1/search", "/v1/export", "/v1/map", "/v1/scores"),
    *("/v1/collections", "/v1/picture", "/v1/raster/export"),
)
IMPORTS = ("/v1/collections/import", "/v1/watches/import")
UPLOADS_TOO = "/regions"
"""Path suffixes of the endpoints that compare a record with an uploaded image."""

CHANGING = ("/v1/collections", "/v1/watches")
"""Paths below which requests that do not only read need the scope `feedback`."""
FEED = "/v1/watches/feed"
"""Needs no token: its address holds a secret of its own."""
_READING = ("GET", "HEAD", "OPTIONS")

CLIENT_LEFT = 499
"""Logged and counted where a client leaves before it is answered."""

_CLOSE = {"Connection": "close"}
_METHODS = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"}
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_PATH = 500
_log = logging.getLogger("landcue.server")


class Observe:
    """ASGI middleware that logs, counts, and completes the headers of every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and record it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        id_ = given if _ID.fullmatch(given) else f"{random.getrandbits(128):032x}"  # no secret
        state = scope.setdefault("state", {})
        state["request_id"] = id_
        started, status = time.perf_counter(), 0
        asked = scope["method"]
        if asked == "HEAD":  # answered as GET; the server leaves the body out
            scope = {**scope, "method": "GET"}

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
                names = {name for name, _ in own}
                own += [pair for pair in _HEADERS if pair[0] not in names]
                if "version" in state:
                    own.append((b"x-archive-version", str(state["version"]).encode()))
                message["headers"] = [*own, (b"x-request-id", id_.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except (ClientDisconnect, LocalProtocolError):  # or its connection was closed as invalid
            status = CLIENT_LEFT
        except Exception:
            _log.exception("request failed", extra={"facts": {"request_id": id_}})
            if status:
                raise  # part of the response was sent: the server must close the connection
            answer = problem(500, "something went wrong here; the log has details by request id")
            await answer(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            method = asked if asked in _METHODS else "other"
            self._metrics.count(method, route, status, seconds)
            level = logging.DEBUG if scope["path"] in PROBES else logging.INFO
            if _log.isEnabledFor(level):
                client = scope.get("client")
                facts = {
                    "request_id": id_,
                    "client": client[0] if client else None,
                    "method": asked,
                    "path": scope["path"][:_LONGEST_PATH],
                    "status": status,
                    "milliseconds": round(seconds * 1000, 2),
                }
                _log.log(level, "request", extra={"facts": facts})


class Rate:
    """Requests per second of each client, counted over some seconds; of each worker."""

    def __init__(self, per_second: float | None, over: int = 10) -> None:
        self._limit: RateLimitItemPerSecond | None = None
        if per_second:
            seconds = max(over, math.ceil(1 / per_second))
            self._limit = RateLimitItemPerSecond(max(1, int(per_second * seconds)), seconds)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def check(self, client: str) -> None:
        """Count one request.

        Raises:
            ProblemError: 429.
        """
        if self._limit is None or await self._limiter.hit(self._limit, client):
            return
        window = await self._limiter.get_window_stats(self._limit, client)
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        raise ProblemError(429, "too many requests", {"Retry-After": str(seconds)})


class Guard:
    """ASGI middleware that refuses before anything is parsed."""

    def __init__(self, app: ASGIApp, settings: Settings, public: Iterable[str] = ()) -> None:
        self._app = app
        self._public = frozenset({*PROBES, *public})
        self._settings, self.limits = settings, settings.limits
        self._running = self.held_bytes = 0
        self._rate = Rate(settings.limits.per_second, settings.limits.rate_seconds)

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
            client = scope.get("client")
            await self._rate.check(client[0] if client else "")
            self._check_token(scope["path"], scope["method"], headers)
            most = self._most_bytes(scope["path"], headers)
            _check_length(headers, most)
            if self._running >= self._settings.limits.requests:
                raise ProblemError(429, "too many requests are under way", {"Retry-After": "1"})
        except ProblemError as error:
            answer = problem(error.status_code, error.detail, headers=error.headers)
            await answer(scope, receive, send)
            return
        self._running += 1
        limited = _LimitedBody(self, receive, most)
        try:
            await self._app(scope, limited, send)
        finally:
            self._running -= 1
            self.held_bytes -= limited.bytes

    def _most_bytes(self, path: str, headers: Headers) -> int:
        limits = self.limits
        if path in IMPORTS:
            return limits.import_bytes
        uploads = path in UPLOADS or path.endswith(UPLOADS_TOO)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        form = uploads and kind == "multipart/form-data"
        return limits.upload_bytes if form else limits.json_bytes

    def _check_origin(self, method: str, headers: Headers) -> None:
        """Refuse other host names, and requests from pages of other sites.

        Otherwise another site could point its own host name at this machine, or post a form.
        """
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self._settings.hosts and name.lower() not in self._settings.hosts:
            raise ProblemError(421, "the service does not accept this host name")
        origin = headers.get("origin")
        if origin is None or method in ("GET", "HEAD") or origin in self._settings.origins:
            return
        try:
            same = urlsplit(origin).netloc == host
        except ValueError:  # such as http://[
            same = False
        if not same:
            raise ProblemError(403, "pages of other sites may not send requests")

    def _check_token(self, path: str, method: str, headers: Headers) -> None:
        tokens = self._settings.tokens
        if tokens is None or (path == FEED and method in _READING):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        writes = path.startswith(CHANGING) and method not in _READING
        needed: TokenScope = "feedback" if writes else "read"
        if scheme.lower() == "bearer":
            if tokens.allows(given.strip(), needed):
                return
            if tokens.allows(given.strip(), "read"):
                raise ProblemError(403, f"the token lacks the scope {needed!r}")
        raise ProblemError(
            401, "send a valid token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"}
        )


class _LimitedBody:
    """Receives a body up to a size and within a time; afterwards it only passes on."""

    def __init__(self, guard: Guard, receive: Receive, most: int) -> None:
        self._guard, self._receive, self._most = guard, receive, most
        self._until = asyncio.get_running_loop().time() + guard.limits.body_seconds
        self.bytes = 0
        self._done = False

    async def __call__(self) -> Message:
        if self._done:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise ProblemError(408, "the body took too long to arrive", _CLOSE) from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.bytes += size
            self._guard.held_bytes += size
            if self.bytes > self._most:
                raise _too_large(self._most)
            if self._guard.held_bytes > self._guard.limits.bodies_bytes:
                raise ProblemError(
                    429, "too many uploads are under way", {"Retry-After": "2", **_CLOSE}
                )
            self._done = not message.get("more_body", False)
        return message


def _check_length(headers: Headers, most: int) -> None:
    if "content-length" in headers and "transfer-encoding" in headers:
        # A proxy may use the other one and see different requests than this service.
        raise ProblemError(400, "send Content-Length or chunks, not both", _CLOSE)
    text = headers.get("content-length", "0")
    if not text.isdecimal():
        raise ProblemError(400, "Content-Length is not a number")
    if len(text) > 20 or int(text) > most:
        raise _too_large(most)


def _too_large(most: int) -> ProblemError:
    return ProblemError(413, f"the body is larger than the limit of {most:,} bytes", _CLOSE)
