"""Counters of requests, and gauges, as Prometheus reads them."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Families = dict[str, tuple[str, dict[str, float]]]
"""By name: the kind of a metric, and its samples by their names with labels."""


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

    def counters(self) -> Families:
        """Return all counters."""
        name = "landcue_requests_total"
        requests: dict[str, float] = {}
        for (method, route, status), count in sorted(self._requests.items()):
            labels = {"method": method, "route": route, "status": str(status)}
            requests[_sample(name, labels)] = count
        found: Families = {name: ("counter", requests)}
        name = "landcue_request_seconds"
        seconds: dict[str, float] = {}
        for route, counts in sorted(self._buckets.items()):
            total = 0
            for edge, count in zip((*BUCKETS, "+Inf"), counts, strict=True):
                total += count
                seconds[_sample(f"{name}_bucket", {"route": route, "le": str(edge)})] = total
            seconds[_sample(f"{name}_sum", {"route": route})] = self._seconds[route]
            seconds[_sample(f"{name}_count", {"route": route})] = total
        return {**found, name: ("histogram", seconds)}


def families(kind: str, values: Iterable[tuple[str, dict[str, str], float]]) -> Families:
    """Return metrics of one kind from names, labels and values."""
    found: Families = {}
    for name, labels, value in values:
        found.setdefault(name, (kind, {}))[1][_sample(name, labels)] = value
    return found


def added(parts: Iterable[Families]) -> Families:
    """Return the sums of the samples that have one name."""
    found: Families = {}
    for part in parts:
        for name, (kind, samples) in part.items():
            sums = found.setdefault(name, (kind, {}))[1]
            for sample, value in samples.items():
                sums[sample] = sums.get(sample, 0) + value
    return found


def text(metrics: Families) -> str:
    """Return metrics as Prometheus reads them."""
    lines: list[str] = []
    for name, (kind, samples) in metrics.items():
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{sample} {value:.15g}" for sample, value in samples.items()]
    return "\n".join(lines) + "\n"


def _sample(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
    return f"{name}{{{inside}}}" if inside else name


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
