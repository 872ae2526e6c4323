"""The filter of a search, as an expression for the server and as checks of what it returns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from landcue.errors import UsageError, did_you_mean
from landcue.milvus.expressions import both, carries, joined, one_of, starts
from landcue.milvus.layout import NO_TIME
from landcue.milvus.link import LARGEST
from landcue.milvus.manifest import Pushed
from landcue.milvus.records import RecordCache, Rows
from landcue.search.expression import Word
from landcue.search.filters import Filter, check_carried, why_empty
from landcue.search.place import box_of, inside
from landcue.types import Bounds

_NONE = 'id == ""'
_TURNS = (-360, 0, 360)


class Expressions:
    """Builds Milvus expressions from conditions; implements ``landcue.search.terms.Terms``."""

    def __init__(self, pushed: Pushed) -> None:
        """Read the label names of a collection."""
        self._numbers = {name: number for number, name in enumerate(pushed.names)}
        self._carried, self._scored = pushed.carried, pushed.manifest.label_names

    def label(self, name: str) -> str:
        """Require that a record carries a label."""
        check_carried(name, self._carried)
        return carries(self._numbers[name])

    def score(self, name: str, least: float) -> str:
        """Require that the predicted score of a label is at least ``least``."""
        if name not in self._scored:
            near = did_you_mean(name, self._scored)
            raise UsageError(f"the model has no scores for label {name!r}{near}")
        # Scores are kept in single precision, and compared in it.
        return f"scores[{self._scored.index(name)}] >= {float(np.float32(least))!r}"

    def touching(self, box: Bounds) -> str:
        """Require that a footprint touches a box.

        As :func:`landcue.search.place.touches`: ``east`` is kept beyond 180 where a footprint
        crosses the antimeridian, and the box is seen from one turn around the Earth on either side.
        """
        box_east = box.east + 360 if box.west > box.east else box.east
        turns = [
            f"west <= {float(box_east + turn)!r} and east >= {float(box.west + turn)!r}"
            for turn in _TURNS
        ]
        upright = f"south <= {float(box.north)!r} and north >= {float(box.south)!r}"
        return both(upright, joined("or", turns))

    def inside(self, shape: BaseGeometry) -> str:
        """Require that a footprint touches the bounding box of a polygon (Milvus has none)."""
        return self.touching(box_of(shape))

    def after(self, time: np.datetime64) -> str:
        """Require that the time is known and not before ``time``."""
        return f"time >= {int(time.astype(np.int64))}"

    def before(self, time: np.datetime64) -> str:
        """Require that the time is known and before ``time``."""
        return f"time > {NO_TIME} and time < {int(time.astype(np.int64))}"

    def below(self, prefix: str) -> str:
        """Require that a path starts with ``prefix``."""
        return starts("path", prefix)

    def among(self, column: str, values: Sequence[str]) -> str:
        """Require that ``group``, ``part`` or ``sensor`` is one of the values."""
        some = [value for value in values if value]  # "" means none
        return one_of(column, some) if some else _NONE

    def negated(self, part: str) -> str:
        """Negate an expression."""
        return f"not ({part})"

    def joined(self, word: Word, parts: Sequence[str]) -> str:
        """Require all parts, or any of them."""
        return joined(word, parts)


class ServerFilter:
    """The records that the server lets through a filter.

    Attributes:
        cache: The records that the search has read.
        where: As an expression; of a polygon, the box around it.
        allowed: Records; of a polygon whose box holds too many to look at, those in the box.
        polygon: To be compared with exact footprints, if there is one.
    """

    def __init__(self, cache: RecordCache, where: Filter | None) -> None:
        """Count the records that a filter allows on the server.

        Raises:
            UsageError: As :meth:`landcue.search.filters.Filter.conditions`.
        """
        self.cache = cache
        self.polygon = None if where is None else where.polygon
        terms = Expressions(cache.pushed)
        self._parts = [] if where is None else list(where.conditions(terms))
        self.where = both(*(part for _, part in self._parts))
        self.allowed = cache.count(self.where) if self._parts else cache.pushed.records
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
            count = self.cache.count(part)
            if name == "polygon":
                rows = self._rows_inside(part, count)
                count = count if rows is None else len(rows)
            counts.append((name, count))
        return why_empty(counts, self.cache.pushed.records)

    def _rows_inside(self, where: str, count: int) -> Rows | None:
        """Return the rows in the polygon, if there is one and its box holds few enough to check."""
        if self.polygon is None or not 0 < count <= LARGEST:
            return None
        rows = self.cache.ask(where, ["record"])
        return rows[self._touching(rows)]

    def _touching(self, rows: Rows) -> npt.NDArray[np.bool_]:
        if self.polygon is None or not len(rows):
            return np.ones(len(rows), np.bool_)
        records = self.cache.records(rows)
        return inside(self.polygon, records.bounds, records.outlines)
