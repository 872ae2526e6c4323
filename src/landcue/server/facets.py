"""What the records of an archive can be told apart by: groups, sensors, times, places."""

from __future__ import annotations

from typing import Any

from landcue.server.served import Served


def facets(served: Served) -> dict[str, Any]:
    """Return values to filter by, with the records that have them, and some ids to begin with."""
    summary = served.searcher.summary()
    groups, sensors, parts = (
        [{"name": name, "records": count} for name, count in summary.counts[column].items()]
        for column in ("group", "sensor", "part")
    )
    return {
        "archive": served.name,
        "groups": groups,
        "sensors": sensors,
        "parts": parts,
        "time": [f"{time[:19]}Z" for time in summary.times] or None,  # to the second
        "bounds": _extent(summary.bounds),
        "examples": list(summary.examples.values()),
    }


def _extent(bounds: tuple[float, ...]) -> list[float] | None:
    """Return west, south, east, north; the whole round where a footprint crosses 180 degrees."""
    if not bounds:
        return None
    west, south, east, north = bounds
    return [west, south, east, north] if west <= east else [-180.0, south, 180.0, north]
