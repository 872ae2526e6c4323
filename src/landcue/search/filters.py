"""Which records may be found: by label, footprint and time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from landcue.archive.columns import Columns
from landcue.errors import UsageError, did_you_mean
from landcue.types import Bounds


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that must all hold.

    Attributes:
        labels: The record carries all of them: as annotated, or as predicted where nobody
            annotated it.
        bbox: The record's footprint touches this box; without a footprint it does not match.
        after: The record's time is this or later; without a time it does not match.
        before: The record's time is earlier. Times without a zone are taken as UTC.
    """

    labels: tuple[str, ...] = ()
    bbox: Bounds | None = None
    after: datetime | None = None
    before: datetime | None = None

    def mask(self, columns: Columns) -> npt.NDArray[np.bool_]:
        """Return bool ``[n]``: true where a record matches.

        Raises:
            UsageError: A label that no record carries, or a span of time that is empty.
        """
        mask = np.ones(len(columns), np.bool_)
        known = {*columns.labels.names, *columns.predicted.names}
        for name in self.labels:
            if name not in known:
                raise UsageError(f"no record has the label {name!r}{did_you_mean(name, known)}")
            annotated = columns.labels.known
            mask &= np.where(annotated, columns.labels.having(name), columns.predicted.having(name))
        if self.bbox is not None:
            mask &= touches(columns.bounds, self.bbox)
        after, before = _instant(self.after), _instant(self.before)
        if after is not None and before is not None and after >= before:
            raise UsageError(f"no time is after {after} and before {before}: swap them")
        if after is not None:
            mask &= columns.time >= after  # false for NaT
        if before is not None:
            mask &= columns.time < before
        return mask


def touches(footprints: npt.NDArray[np.float64], box: Bounds) -> npt.NDArray[np.bool_]:
    """Return bool ``[n]``: true where a footprint and ``box`` share a point.

    Args:
        footprints: ``[n, 4]``, west, south, east, north in degrees; ``west > east`` crosses the
            antimeridian, NaN is no footprint and touches nothing.
        box: Likewise.
    """
    west, south, east, north = footprints.T
    east = np.where(west > east, east + 360, east)
    box_east = box.east + 360 if box.west > box.east else box.east
    overlap = np.zeros(len(footprints), np.bool_)
    for turn in (-360, 0, 360):  # the same box, seen from one turn around the Earth
        overlap |= (west <= box_east + turn) & (east >= box.west + turn)
    return overlap & (south <= box.north) & (north >= box.south)


def _instant(time: datetime | None) -> np.datetime64 | None:
    if time is None:
        return None
    if time.tzinfo is not None:
        time = time.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(time, "us")
