"""Counters of requests, and gauges, as Prometheus reads them."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


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


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
