"""Counters of requests, and gauges, as Prometheus reads them; and log lines as JSON.

With ``PROMETHEUS_MULTIPROC_DIR`` in the environment, before this is imported, the values of all
workers are added up in the files of that folder.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
import psutil
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MEDIA_TYPE = CONTENT_TYPE_LATEST
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_LIVE = re.compile(r"gauge_live\w*_(\d+)\.db")
_SUM, _LAST = "livesum", "livemostrecent"


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "landcue_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "landcue_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("route",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self.pool_refused = Counter(
            "landcue_pool_refused",
            "Requests refused because too many wait.",
            ("pool",),
            registry=self._registry,
        )
        self.pool_jobs = self._gauge("landcue_pool_jobs", "Jobs that run or wait.", "pool")
        self.pool_limit = self._gauge("landcue_pool_limit", "Jobs that may run and wait.", "pool")
        self.workers = self._gauge("landcue_processes", "Worker processes.")
        self.ready = self._gauge("landcue_ready", "Whether all workers are ready.", mode="livemin")
        self.records = self._gauge(
            "landcue_archive_records", "Records of an archive.", "archive", mode=_LAST
        )
        self.versions = self._gauge(
            "landcue_archive_version", "Version of an archive shown.", "archive", mode=_LAST
        )
        self.workers.set(1)
        self.ready.set(0)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def render(self) -> bytes:
        """Return all metrics, of all workers if there are several, as Prometheus reads them."""
        folder = os.environ.get(FOLDER)
        if not folder:
            return generate_latest(self._registry)
        for path in Path(folder).iterdir():
            found = _LIVE.fullmatch(path.name)
            if found and not psutil.pid_exists(int(found[1])):
                mark_process_dead(int(found[1]), folder)  # its counters stay
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)
        return generate_latest(registry)

    def _gauge(
        self,
        name: str,
        about: str,
        *labels: str,
        mode: Literal["livesum", "livemin", "livemostrecent"] = _SUM,
    ) -> Gauge:
        return Gauge(name, about, labels, multiprocess_mode=mode, registry=self._registry)


class JsonLines(logging.Formatter):
    """A log record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        value: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "process": record.process,
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


def start_logging(quiet: bool = False) -> None:
    """Log to standard error, one JSON object per line.

    Args:
        quiet: Log only errors, not every request.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("landcue.server", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        requests = name == "landcue.server" and not quiet
        logger.setLevel(logging.INFO if requests else logging.WARNING)
