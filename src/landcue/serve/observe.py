"""Around every request: an id, one log line, counters, security headers, and no trace."""

from __future__ import annotations

import bisect
import json
import logging
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landcue.serve.problems import problem

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

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

PROBES = ("/healthz", "/readyz")
"""Asked every few seconds: not logged, and never refused."""

_METHODS = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"}
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("landcue.serve")


class Metrics:
    """Counters of requests, by route and status."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._seconds: dict[str, float] = defaultdict(float)
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests[method, route, status] += 1
        self._seconds[route] += seconds
        self._buckets[route][bisect.bisect_left(BUCKETS, seconds)] += 1

    def text(self, gauges: Iterable[tuple[str, dict[str, str], float]]) -> str:
        """Return all counters and some gauges as Prometheus reads them."""
        lines = ["# TYPE landcue_requests_total counter"]
        for (method, route, status), count in sorted(self._requests.items()):
            labels = {"method": method, "route": route, "status": str(status)}
            lines.append(_line("landcue_requests_total", labels, count))
        name = "landcue_request_seconds"
        lines.append(f"# TYPE {name} histogram")
        for route, counts in sorted(self._buckets.items()):
            total = 0
            for edge, count in zip((*BUCKETS, "+Inf"), counts, strict=True):
                total += count
                lines.append(_line(f"{name}_bucket", {"route": route, "le": str(edge)}, total))
            lines.append(_line(f"{name}_sum", {"route": route}, self._seconds[route]))
            lines.append(_line(f"{name}_count", {"route": route}, total))
        named: set[str] = set()
        for gauge, labels, value in gauges:
            if gauge not in named:
                lines.append(f"# TYPE {gauge} gauge")
                named.add(gauge)
            lines.append(_line(gauge, labels, value))
        return "\n".join(lines) + "\n"


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
        given = Headers(scope=scope).get("x-request-id", "")
        id_ = given if _ID.fullmatch(given) else f"{random.getrandbits(128):032x}"  # no secret
        scope.setdefault("state", {})["request_id"] = id_
        started, status = time.perf_counter(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-ID"] = id_
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
            _log.log(level, "request", extra={"facts": facts})


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


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
