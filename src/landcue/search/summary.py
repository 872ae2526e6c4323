"""A summary of all records of an archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from landcue.search.records import Records

MOST_VALUES = 500
"""Most groups or sensors in a summary, the most frequent first."""

EXAMPLES = 24
"""Number of example ids, evenly spaced over all ids."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of all records.

    Attributes:
        counts: The values of ``group``, ``sensor`` and ``part`` with the records that have them.
        times: The first and the last time, ISO 8601 in UTC without a zone; empty without any.
        bounds: West, south, east, north of all footprints; empty without any. West > east where
            one crosses the antimeridian.
        examples: Some rows with their ids.
    """

    counts: dict[str, dict[str, int]]
    times: tuple[str, ...]
    bounds: tuple[float, ...]
    examples: dict[int, str]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Summary:
        """Read what ``asdict`` gave."""
        examples = {int(row): str(id_) for row, id_ in value["examples"].items()}
        return cls(value["counts"], tuple(value["times"]), tuple(value["bounds"]), examples)


def summarize(records: Records) -> Summary:
    """Summarize all records."""
    counts: dict[str, dict[str, int]] = {}
    for column in ("group", "sensor", "part"):
        found = sorted(records.counts(column).items(), key=lambda item: (-item[1], item[0]))
        counts[column] = dict(found[:MOST_VALUES])
    known = records.time[~np.isnat(records.time)]
    times = [str(time) for time in (known.min(), known.max())] if len(known) else []
    bounds: tuple[float, ...] = ()
    boxes = records.bounds[~np.isnan(records.bounds).any(axis=1)]
    if len(boxes):
        west, south, east, north = boxes.T
        sides = (180.0, -180.0) if (west > east).any() else (west.min(), east.max())
        bounds = (float(sides[0]), float(south.min()), float(sides[1]), float(north.max()))
    rows = np.unique(np.linspace(0, max(0, len(records) - 1), EXAMPLES).round().astype(np.int64))
    examples = {row: records.id(row) for row in rows.tolist()} if len(records) else {}
    return Summary(counts, tuple(times), bounds, examples)
