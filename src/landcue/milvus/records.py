"""The records of a collection, as one search asks for them."""

from __future__ import annotations

import numpy as np

from landcue.milvus.expressions import starts
from landcue.milvus.found import Found

_NEAR = 1_000


class CollectionRecords:
    """Reads records as they are needed; a row is the number that a search gave to a record."""

    def __init__(self, found: Found) -> None:
        self._found = found

    def __len__(self) -> int:
        return self._found.pushed.records

    def id(self, row: int) -> str:
        """Return the id of a row."""
        return self._found.ids[row]

    def find(self, id_: str) -> int | None:
        """Return the row of an id, or ``None``."""
        return self._found.find(id_)

    def near_ids(self, id_: str, most: int = _NEAR) -> list[str]:
        """Return ids after an unknown one, ids with the same prefix, and the first ids."""
        link, name = self._found.link, self._found.layout.name
        wheres = (starts("id", id_), starts("id", id_[: 2 * len(id_) // 3]), 'id >= ""')
        found = [link.query(name, where, ["id"], limit=most) for where in wheres]
        return sorted({str(row["id"]) for rows in found for row in rows})

    def labels_of(self, row: int) -> tuple[str, ...]:
        """Return the annotated labels where there are any known, else the predicted ones."""
        return self._found.records(np.array([row])).labels_of(0)

    def annotated(self, row: int) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` where there is no annotation."""
        return self._found.records(np.array([row])).annotated(0)

    def predicted_of(self, row: int) -> tuple[str, ...]:
        """Return the predicted labels of a record."""
        return self._found.records(np.array([row])).predicted_of(0)
