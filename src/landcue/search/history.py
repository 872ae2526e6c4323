"""The history of a place: how unusual a pair is beside the place's other dates.

A field that is harvested every year differs at any two dates; a shore that moved does not move back
the year after. So where a place of a fixed grid was recorded at other dates too, the date before
the earlier record and the one after the later record are used as well: :func:`compare_histories`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from landcue.data.cells import cells_of
from landcue.search.dates import Mask, Rows, Side, same_bands
from landcue.search.unusual import LEAST, ChangeModel, Differences, Floats, compare_pairs, robust
from landcue.types import FloatArray

OWN = 0.5
"""Weight of how much a place differs between dates of one side."""


def other_dates(side: Side, allowed: Mask, *, later: bool) -> Rows:
    """Return for each record of a side the one of its place at the next date away from the other.

    It is of the same cell of a fixed grid, sensor and bands, of the latest day before the record's,
    or with ``later`` the earliest after it.

    Args:
        side: Records of one side of pairs, rows int64 ``[m]``.
        allowed: bool ``[n]``: which records of the archive may be returned; those of the side are
            among them.
        later: Whether it is the later side.

    Returns:
        Rows of the archive, int64 ``[m]``, -1 where there is none.
    """
    sign = -1 if later else 1
    records, none = side.records, np.full(len(side.rows), -1)
    days = sign * records.time.astype("datetime64[D]").astype(np.int64)
    candidates = allowed & ~np.isnat(records.time) & (days < days[side.rows].max())
    if not candidates.any():
        return none
    rows = np.union1d(np.flatnonzero(candidates), side.rows)
    cell = cells_of(records.column("id", rows)).dictionary_encode().indices
    place = cell.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    sensor: Any = records.column("sensor", rows).combine_chunks().dictionary_encode().indices
    kind = sensor.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    place = np.where(place < 0, -1, place * (kind.max() + 2) + kind + 1)
    # In the order of place, day and row, the record sought is the last one before its day begins.
    order = np.lexsort((-rows, days[rows], place))
    place, day = place[order], days[rows[order]]
    fresh = np.append(True, (np.diff(place) != 0) | (np.diff(day) != 0))
    begins = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
    before = np.maximum(begins - 1, 0)
    good = (begins > 0) & (place >= 0) & (place[before] == place)
    found = np.full(len(rows), -1)
    found[order] = np.where(good, rows[order[before]], -1)
    found = found[np.searchsorted(rows, side.rows)]
    known = np.flatnonzero(found >= 0)
    alike = same_bands(side.of(known), Side(side.backend, found[known]))
    none[known[alike]] = found[known[alike]]
    return none


def compare_histories(
    pairs: Differences, others: tuple[Rows, Rows], models: Sequence[ChangeModel | None]
) -> tuple[Floats, Floats]:
    """Return how unusual each pair is for its place, and 1 - cosine, float64 ``[m]`` each.

    The score is the mean of two, each in robust standard deviations: that of the pair
    (:func:`landcue.search.unusual.compare_pairs`), and that of the means of both dates of either
    side; less :data:`OWN` times the mean score of the pairs within a side. Where there is no other
    date the pair's own score counts twice, and a usual place is assumed. All pairs enter alike.

    Args:
        pairs: The pairs. Their scenes should differ where the days of other dates do.
        others: Rows of the other date of the earlier and of the later records, int64 ``[m]`` each,
            -1 where there is none.
        models: As of :func:`landcue.search.unusual.compare_pairs`.
    """
    scores, distances = compare_pairs(pairs, models)
    if max(others[0].max(), others[1].max()) < 0:
        return scores, distances
    sides = (pairs.before, pairs.first, others[0]), (pairs.after, pairs.second, others[1])
    means = [cast(FloatArray, _Means(*side)) for side in sides]
    at = np.arange(len(pairs))
    joint, _ = compare_pairs(Differences(means[0], means[1], at, at, pairs.scene), models)
    own, dates = np.zeros(len(pairs)), np.zeros(len(pairs))
    for number, (vectors, rows, other) in enumerate(sides):
        known = np.flatnonzero(other >= 0)
        if len(known) < LEAST:  # too few to say what is usual
            continue
        ends = (other[known], rows[known]) if number == 0 else (rows[known], other[known])
        within = Differences(vectors, vectors, ends[0], ends[1], pairs.scene[known])
        own[known] += robust(compare_pairs(within, models)[0])
        dates[known] += 1
    own /= np.maximum(dates, 1)
    return (robust(scores) + robust(joint)) / 2 - OWN * own, distances


@dataclass(frozen=True, slots=True, eq=False)
class _Means:
    """Means of the embeddings of two records each ``[m, d]``, or of one, read in parts."""

    embedding: FloatArray
    rows: Rows
    others: Rows

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), self.embedding.shape[1]

    def __getitem__(self, key: Any) -> npt.NDArray[np.float32]:
        found = self.embedding[self.rows[key]]
        other = self.others[key]
        two = np.flatnonzero(other >= 0)
        found[two] = (found[two] + self.embedding[other[two]]) / 2
        return found
