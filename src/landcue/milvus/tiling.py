"""Ranges of ids that are written, noted and compared as one."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from landcue.milvus.pushed import Tile


@dataclass(frozen=True, slots=True)
class Range:
    """Ids from ``low`` until before ``high``, which are some rows of an archive.

    Attributes:
        low: Names the range.
        start: Where it starts: ``low``, or ``None`` for the first range, which has no start.
        high: Where it ends; ``None`` for the last range.
        first: First row of the archive.
        last: One behind the last; equal to ``first`` if the archive has no record in it.
    """

    low: str
    start: str | None
    high: str | None
    first: int
    last: int


def tiling(ids: Sequence[str], known: Mapping[str, Tile], rows: int) -> list[Range]:
    """Cut all ids into ranges, along those that are known.

    Args:
        ids: Of the archive, ascending.
        known: Ranges noted before, by their first ids.
        rows: Of a new range; a range that grew holds up to twice as many.
    """
    lows = sorted(known) or [ids[0]]
    cuts: list[tuple[str, int]] = []
    for low, following in zip(lows, [*lows[1:], None], strict=True):
        first = bisect.bisect_left(ids, low) if cuts else 0
        end = len(ids) if following is None else bisect.bisect_left(ids, following)
        cuts.append((low, first))
        noted = known[low].rows if low in known else rows
        at = first + noted if end - first - noted >= rows else end
        while at < end:
            cuts.append((ids[at], at))
            at = at + rows if end - at > 2 * rows else end
    ends = [*cuts[1:], (None, len(ids))]
    return [
        Range(low, None if number == 0 else low, high, first, last)
        for number, ((low, first), (high, last)) in enumerate(zip(cuts, ends, strict=True))
    ]
