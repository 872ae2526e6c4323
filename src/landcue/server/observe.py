"""Around every request: an id, one log line, counters, security headers, and no trace."""

from __future__ import annotations

import json
import logging
import random
import re
import time
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landcue.server.metrics import Metrics
from landcue.server.problems import problem

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
"""Asked every few seconds: not logged, and never refused."""

_METHODS = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"}
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("landcue.server")


class Observe:
    """ASGI middleware; the outermost one."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and tell about it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = _header(scope, b"x-request-id").decode("latin-1")
        id_ = given if _ID.fullmatch(given) else f"{random.getrandbits(128):032x}"  # no secret
        scope.setdefault("state", {})["request_id"] = id_
        started, status = time.perf_counter(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
                set_ = {name for name, _ in own}
                ours = [pair for pair in _HEADERS if pair[0] not in set_]
                message["headers"] = [*own, *ours, (b"x-request-id", id_.encode())]
            await send(message)

        try:
            await self._app(scope, receive, told)
        except Exception:
            _log.exception("request failed", extra={"facts": {"request_id": id_}})
            if status:
                raise  # half an answer went out: the server must cut the connection
            answer = problem(500, "something went wrong here; the log tells more by request id")
            await answer(scope, receive, told)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.add(method, route, status, seconds)
            client = scope.get("client")
            facts = {
                "request_id": id_,
                "client": client[0] if client else None,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "milliseconds": round(seconds * 1000, 2),
            }
            level = logging.DEBUG if scope["path"] in PROBES else logging.INFO
            if _log.isEnabledFor(level):  # a record made here: logging would look for its caller
                record = logging.LogRecord(_log.name, level, "", 0, "request", None, None)
                record.facts = facts
                _log.handle(record)


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")


class JsonLines(logging.Formatter):
    """A log record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        value: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            value["trace"] = self.formatException(record.exc_info)
        try:
            line = orjson.dumps(value, default=str)
        except TypeError:  # such as half a surrogate pair
            line = b"\xff"
        # What a terminal might take for a command is escaped, which only the slower one does.
        return line.decode() if line.isascii() else json.dumps(value, default=str)
