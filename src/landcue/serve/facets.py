"""What the records of an archive can be told apart by: groups, sensors, times, places."""

from __future__ import annotations

from typing import Any

import numpy as np

from landcue.search.records import Records
from landcue.serve.served import Served

MOST_VALUES = 500
"""Groups or sensors told, those of most records first."""

EXAMPLES = 24
"""Ids told, spread evenly over all of them."""


def facets(served: Served) -> dict[str, Any]:
    """Return values to filter by, with the records that have them, and some ids to begin with."""
    records = served.searcher.records
    rows = np.unique(np.linspace(0, max(0, len(records) - 1), EXAMPLES).round().astype(np.int64))
    return {
        "archive": served.name,
        "groups": _counts(records, "group"),
        "sensors": _counts(records, "sensor"),
        "parts": _counts(records, "part"),
        "time": _span(records),
        "bounds": _extent(records),
        "examples": [records.id(row) for row in rows.tolist()] if len(records) else [],
    }


def _counts(records: Records, column: str) -> list[dict[str, Any]]:
    found = sorted(records.counts(column).items(), key=lambda item: (-item[1], item[0]))
    return [{"name": name, "records": count} for name, count in found[:MOST_VALUES]]


def _span(records: Records) -> list[str] | None:
    """Return the first and the last time, ISO 8601 in UTC."""
    known = records.time[~np.isnat(records.time)]
    if not len(known):
        return None
    return [f"{np.datetime_as_string(one, unit='s')}Z" for one in (known.min(), known.max())]


def _extent(records: Records) -> list[float] | None:
    """Return west, south, east, north of all footprints; the whole round where one crosses 180."""
    bounds = records.bounds[~np.isnan(records.bounds).any(axis=1)]
    if not len(bounds):
        return None
    west, south, east, north = bounds.T
    if (west > east).any():
        return [-180.0, float(south.min()), 180.0, float(north.max())]
    return [float(west.min()), float(south.min()), float(east.max()), float(north.max())]
