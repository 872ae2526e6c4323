"""The records that a filter lets through, as the server and we know them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landcue.milvus.conditions import Conditions
from landcue.milvus.expressions import both
from landcue.milvus.found import Found, Rows
from landcue.milvus.link import LARGEST
from landcue.search.place import inside


@dataclass(slots=True)
class Selection:
    """What may be found.

    Attributes:
        where: As an expression; of a polygon, the box around it.
        allowed: Records; of a polygon whose box holds too many to look at, those in the box.
        conditions: Of the filter, if there is one.
        inside: Of a polygon: the ids in it, if its box holds few enough to look at.
    """

    where: str
    allowed: int
    conditions: Conditions | None = None
    inside: frozenset[str] | None = None

    @classmethod
    def every(cls, found: Found) -> Selection:
        """Select all records."""
        return cls("", found.pushed.records)

    @classmethod
    def of(cls, conditions: Conditions, found: Found) -> Selection:
        """Ask the server how many records a filter lets through."""
        name = found.pushed.layout.name
        allowed = found.link.count(name, conditions.where)
        selection = cls(conditions.where, allowed, conditions)
        if conditions.polygon is not None and 0 < allowed <= LARGEST:
            rows = found.rows(found.link.query(name, conditions.where, ["id", "record"]))
            kept = selection.keep(found, rows)
            selection.inside = frozenset(found.ids[row] for row in rows[kept].tolist())
            selection.allowed = len(selection.inside)
        return selection

    def keep(self, found: Found, rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return bool ``[m]``: which rows of those the server let through are really allowed."""
        polygon = None if self.conditions is None else self.conditions.polygon
        if polygon is None or not len(rows):
            return np.ones(len(rows), np.bool_)
        if self.inside is not None:
            return np.array([found.ids[row] in self.inside for row in rows.tolist()], np.bool_)
        records = found.told(rows.tolist())
        return inside(polygon, records.bounds, records.outlines)

    def why_empty(self, found: Found) -> str:
        """Return one line that names the conditions, and how many records each leaves alone."""
        name, total = found.pushed.layout.name, found.pushed.records
        counts: list[str] = []
        for part in () if self.conditions is None else self.conditions.parts:
            n = found.link.count(name, part.where)
            if part.name == "polygon" and self.conditions is not None:
                n = self._polygon_count(found, part.where, n)
            counts.append(f"{part.name} ({n} of {total} records)")
        return "no record matches " + (" and ".join(counts) if counts else "the query")

    def _polygon_count(self, found: Found, where: str, n: int) -> int:
        if n > LARGEST:
            return n
        rows = found.rows(found.link.query(found.pushed.layout.name, where, ["id", "record"]))
        alone = Selection(where, n, self.conditions)
        return int(np.count_nonzero(alone.keep(found, rows)))

    def narrowed(self, *more: str) -> str:
        """Return the expression with further conditions."""
        return both(self.where, *more)


def order(distances: Sequence[float] | Any, ids: Sequence[str]) -> Rows:
    """Return positions in the order (distance, id)."""
    pairs = list(zip(np.asarray(distances).tolist(), ids, strict=True))
    return np.array(sorted(range(len(pairs)), key=pairs.__getitem__), np.int64)
