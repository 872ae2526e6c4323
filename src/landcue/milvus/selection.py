"""The records that a filter allows: the server's expression, and the conditions checked here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from landcue.milvus.conditions import Expressions
from landcue.milvus.expressions import both
from landcue.milvus.found import Found, Rows
from landcue.milvus.link import LARGEST
from landcue.search.filters import Filter, why_empty
from landcue.search.place import inside


class ServerFilter:
    """The records that the server lets through a filter.

    Attributes:
        found: What the search knows of the records it met.
        where: As an expression; of a polygon, the box around it.
        allowed: Records; of a polygon whose box holds too many to look at, those in the box.
        polygon: To be compared with exact footprints, if there is one.
    """

    def __init__(self, found: Found, where: Filter | None) -> None:
        """Count the records that a filter allows on the server.

        Raises:
            UsageError: As :meth:`landcue.search.filters.Filter.conditions`.
        """
        self.found = found
        self.polygon = None if where is None else where.polygon
        terms = Expressions(found.pushed)
        self._parts = [] if where is None else list(where.conditions(terms))
        self.where = both(*(part for _, part in self._parts))
        self.allowed = found.count(self.where) if self._parts else found.pushed.records
        self._inside = self._rows_inside(self.where, self.allowed)
        if self._inside is not None:
            self.allowed = len(self._inside)

    def keep(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return bool ``[m]``: which rows of those the server returned are allowed."""
        if self._inside is not None:
            return np.isin(rows, self._inside)
        return self._touching(rows)

    def why_empty(self) -> str:
        """Return one line with the conditions and how many records each one allows by itself."""
        counts: list[tuple[str, int]] = []
        for name, part in self._parts:
            count = self.found.count(part)
            if name == "polygon":
                rows = self._rows_inside(part, count)
                count = count if rows is None else len(rows)
            counts.append((name, count))
        return why_empty(counts, self.found.pushed.records)

    def _rows_inside(self, where: str, count: int) -> Rows | None:
        """Return the rows in the polygon, if there is one and its box holds few enough to check."""
        if self.polygon is None or not 0 < count <= LARGEST:
            return None
        rows = self.found.ask(where, ["record"])
        return rows[self._touching(rows)]

    def _touching(self, rows: Rows) -> npt.NDArray[np.bool_]:
        if self.polygon is None or not len(rows):
            return np.ones(len(rows), np.bool_)
        records = self.found.records(rows)
        return inside(self.polygon, records.bounds, records.outlines)
