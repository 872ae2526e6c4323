"""The records and vectors of a collection, with the interface of an archive folder's.

Operations that need to read all of them raise a one-line error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from landcue.archive.schema import LABEL_THRESHOLD
from landcue.errors import UsageError
from landcue.milvus.expressions import carries, starts
from landcue.milvus.found import Found, Rows

_NEAR = 1_000


class Unsupported:
    """Raises a usage error for every attribute that a subclass does not define."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise _refused()


class FoundRecords(Unsupported):
    """The records of a collection that a search reads."""

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
        """Return the annotated labels of a record; ``None`` if it is not annotated."""
        return self._found.records(np.array([row])).annotated(0)

    def facts(self, rows: Rows) -> list[tuple[Any, ...]]:
        """Return the values of some rows, as :class:`landcue.search.records.Records` does."""
        return self._found.records(rows).facts(np.arange(len(rows)))

    def label_counts(self) -> list[dict[str, Any]]:
        """Count the records of each label: annotated, predicted, and matched by a filter."""
        found, counts = self._found, list[dict[str, Any]]()
        scored = found.pushed.manifest.label_names
        for label in sorted(found.pushed.carried):
            where, predicted = carries(found.pushed.names.index(label)), 0
            if label in scored:
                least = f"scores[{scored.index(label)}] >= {LABEL_THRESHOLD}"
                predicted = found.count(least)
            annotated, records = found.count(f"known == true and {where}"), found.count(where)
            fact = {"name": label, "annotated": annotated, "predicted": predicted}
            counts.append({**fact, "records": records})
        return counts


class CollectionRecords(FoundRecords):
    """The records of a collection between searches: a row only says that a record exists."""

    def id(self, row: int) -> str:
        """Return the id of one of the example rows stored when the collection was pushed."""
        noted = self._found.pushed.summary.examples
        if row not in noted:
            raise _refused()
        return noted[row]

    def find(self, id_: str) -> int | None:
        """Return a row if there is such a record, else ``None``."""
        return Found(self._found.link, self._found.pushed).find(id_)


class FoundVectors:
    """The vectors of the records that one search returned, by row, read on access.

    Attributes:
        embedding: float32.
        code: Packed uint8.
        cue: Packed uint8.
    """

    def __init__(self, found: Found) -> None:
        self.embedding: Any = _Column(found, "embedding")
        self.code: Any = _Column(found, "code")
        self.cue: Any = _Column(found, "cue")


class _Column:
    """One kind of vector, looked up as in an array ``[n, width]``."""

    def __init__(self, found: Found, kind: str) -> None:
        self._found, self._kind = found, kind
        self._met: Any = ()

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._found), self._found.width(self._kind)

    def __getitem__(self, rows: int | slice) -> Any:
        every = range(len(self._found))
        if isinstance(rows, slice):
            return self._found.vectors(self._kind, every[rows])
        if rows >= len(self._met):  # one lookup is usually followed by lookups of the others
            self._met = self._found.vectors(self._kind, every)
        return self._met[rows]


def _refused() -> UsageError:
    return UsageError(
        "this operation reads every record, which a Milvus collection does not support: use the "
        "archive folder that was pushed"
    )
