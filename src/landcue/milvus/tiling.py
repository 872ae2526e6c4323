"""Ranges of ids that are written, recorded and compared as one unit."""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from landcue.milvus.expressions import both, quoted
from landcue.milvus.link import Link


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

    @property
    def where(self) -> str:
        """As an expression."""
        low = f"id >= {quoted(self.start or '')}"
        return low if self.high is None else both(low, f"id < {quoted(self.high)}")


@dataclass(frozen=True, slots=True)
class Tile:
    """A range of ids whose records were all written.

    Attributes:
        first: No id in it comes before this; it reaches to the next range.
        rows: Records in it.
        digest: Of their ids and stamps.
    """

    first: str
    rows: int
    digest: str

    @classmethod
    def of(cls, first: str, stamps: Mapping[str, str]) -> Tile:
        """Describe the stamps of records, by id, in the order of their ids."""
        text = json.dumps([list(stamps), list(stamps.values())])
        return cls(first, len(stamps), digest(text))


@dataclass(frozen=True, slots=True)
class Differences:
    """How a collection differs from an archive in one range.

    Attributes:
        missing: Ids of records that the collection lacks.
        different: Ids of records that it holds with other values.
        extra: Ids that only the collection has.
    """

    missing: tuple[str, ...]
    different: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def tiling(ids: Sequence[str], known: Mapping[str, Tile], rows: int) -> list[Range]:
    """Divide all ids into ranges, at the borders of known ranges.

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


def compare(link: Link, name: str, where: Range, stamps: Mapping[str, str]) -> Differences:
    """Compare the checksums of an archive's records in a range with those of a collection."""
    pages = link.pages(name, where.where, ["stamp"])
    there: dict[str, str] = {row["id"]: row["stamp"] for page in pages for row in page}
    return Differences(
        missing=tuple(id_ for id_ in stamps if id_ not in there),
        different=tuple(id_ for id_, stamp in stamps.items() if there.get(id_, stamp) != stamp),
        extra=tuple(id_ for id_ in there if id_ not in stamps),
    )


def digest(text: str) -> str:
    """Return a short checksum."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
