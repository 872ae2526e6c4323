"""Fetch candidates from the server among the allowed records, and sort them in LandCue's order.

The server orders by single-precision distances and leaves equal ones in any order, so more is
fetched than asked for: until what was not fetched is known to be farther than the last hit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.milvus.expressions import both
from landcue.milvus.found import Distances, Rows
from landcue.milvus.link import LARGEST
from landcue.milvus.selection import ServerFilter

_SPARE = 16
_TOLD = 256
_VECTOR_BYTES = 2 << 20


class Proposals:
    """Queries the server for candidates among the records that a selection allows."""

    def __init__(self, chosen: ServerFilter) -> None:
        self._chosen, self._found = chosen, chosen.found

    def nearest(
        self,
        name: str,
        vector: Any,
        k: int,
        *,
        lists: int = 0,
        more: str = "",
        measured: Callable[[Distances, Rows], Distances] = lambda raw, _: raw,
        least: Callable[[float], float] = lambda raw: raw,
    ) -> tuple[Distances, Rows]:
        """Return the k nearest in the order (distance, id).

        Args:
            name: Of the collection.
            vector: What is asked for.
            k: At most so many.
            lists: Visited of an approximate index.
            more: A further condition.
            measured: Returns the exact distances of what the server proposed.
            least: Returns the distance that all others have at least, by the last one that the
                server gave.

        Raises:
            UsageError: The server gives too few at a time to know.
        """
        limit = k + _SPARE
        while True:
            limit = min(limit, LARGEST)
            raw, kept, rows = self.some(name, vector, limit, lists=lists, more=more)
            distances, rows = self._found.nearest(measured(raw[kept], rows), rows, k)
            if len(raw) < limit:
                return distances, rows
            if len(rows) >= k and distances[k - 1] < least(float(raw[-1])):
                return distances, rows
            if limit == LARGEST:
                raise self._too_many(k, int(np.count_nonzero(kept)))
            limit *= 4

    def some(
        self, name: str, vector: Any, limit: int, *, lists: int = 0, more: str = ""
    ) -> tuple[Distances, npt.NDArray[np.bool_], Rows]:
        """Return the server's distances ``[limit]``, which of them are allowed, and those rows."""
        layout, fields = self._found.layout, list[str]()
        if name == layout.name:
            fields += ["embedding"] if 4 * layout.dim * limit <= _VECTOR_BYTES else []
            fields += ["record"] if limit <= _TOLD else []
        parameters = {"nprobe": lists} if lists else {}
        where = both(self._chosen.where, more)
        (hits,) = self._found.link.search(
            name, [vector], limit, where=where, fields=fields, parameters=parameters
        )
        rows = self._found.rows(hits)
        kept = self._chosen.keep(rows)
        return np.array([hit["distance"] for hit in hits], np.float64), kept, rows[kept]

    def first(self, k: int, fields: Sequence[str], more: str = "") -> Rows:
        """Return the first k in the order of ids."""
        rows, where = np.empty(0, np.int64), both(self._chosen.where, more)
        # Rows outside a polygon are dropped here, so more than k are fetched.
        most = k if self._chosen.polygon is None else None
        for page in self._found.link.pages(self._found.layout.name, where, fields, most=most):
            given = self._found.rows(page)
            rows = np.concatenate([rows, given[self._chosen.keep(given)]])
            if len(rows) >= k:
                break
        return rows[:k]

    def _too_many(self, k: int, kept: int) -> UsageError:
        most = f"Milvus returns at most {LARGEST:,} records per request"
        if self._chosen.polygon is not None and kept < k:
            return UsageError(
                f"{most}, and the polygon lets {kept} of the nearest through: draw it smaller or "
                "closer to the box around it"
            )
        if k + 1 >= LARGEST:
            return UsageError(f"{most}: ask for fewer hits or pages")
        return UsageError(
            f"{most}, and more than that are as near as the last hit: narrow the search with a "
            "filter, or ask for fewer hits"
        )
