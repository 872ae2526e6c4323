"""The records that one search met, numbered as it met them; what they are is read when asked for.

A row here is such a number and means nothing to another search. Everywhere else in LandCue rows
are in the order of ids; what orders rows here looks at the ids themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.milvus.expressions import carries, one_of, starts
from landcue.milvus.link import Link
from landcue.milvus.pushed import Pushed
from landcue.milvus.rows import to_records
from landcue.search.records import Records
from landcue.types import ByteArray, FloatArray

Rows = npt.NDArray[np.int64]

_IDS_AT_ONCE = 1_000
_BYTES_AT_ONCE = 16 << 20
_NEAR = 1_000
_LEAST_SCORE = 0.5


class Found:
    """What one search knows of the records it met."""

    def __init__(self, link: Link, pushed: Pushed) -> None:
        self.link, self.pushed = link, pushed
        self.ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._known: dict[str, dict[int, Any]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, hits: Sequence[dict[str, Any]]) -> Rows:
        """Number what the server gave, and keep what it told."""
        found = np.empty(len(hits), np.int64)
        for i, hit in enumerate(hits):
            id_ = str(hit["id"])
            row = self._rows.get(id_)
            if row is None:
                row = self._rows[id_] = len(self.ids)
                self.ids.append(id_)
            found[i] = row
            for name, value in {**hit, **hit.get("entity", {})}.items():
                if name in ("embedding", "code", "cue", "record"):
                    self._known.setdefault(name, {})[row] = value
        return found

    def find(self, id_: str) -> int | None:
        """Return the row of an id, asking the server if need be; ``None`` if there is none."""
        if id_ not in self._rows:
            names = ["embedding", "record", *(["cue"] if self.pushed.layout.n_labels else [])]
            self.rows(self.link.query(self.pushed.layout.name, one_of("id", [id_]), names))
        return self._rows.get(id_)

    def told(self, rows: Sequence[int]) -> Records:
        """Return what is told of some rows, as records in that order."""
        texts = self._read("record", self.pushed.layout.name, rows)
        return to_records([self.ids[row] for row in rows], texts, self.pushed.manifest)

    def embedding(self, rows: Sequence[int]) -> FloatArray:
        """Return embeddings float32 ``[m, d]``."""
        values = self._read("embedding", self.pushed.layout.name, rows)
        return np.array(values, np.float32).reshape(len(values), self.pushed.layout.dim)

    def code(self, rows: Sequence[int]) -> ByteArray:
        """Return packed codes uint8 ``[m, bytes]``."""
        values = self._read("code", self.pushed.layout.code, rows)
        return _bytes(values, -(-self.pushed.layout.n_bits // 8))

    def cue(self, rows: Sequence[int]) -> ByteArray:
        """Return predicted labels as packed bits uint8 ``[m, bytes]``."""
        values = [bytes.fromhex(v) for v in self._read("cue", self.pushed.layout.name, rows)]
        return _bytes(values, -(-self.pushed.layout.n_labels // 8))

    def _read(self, field: str, name: str, rows: Sequence[int]) -> list[Any]:
        known = self._known.setdefault(field, {})
        lacking = [row for row in dict.fromkeys(rows) if row not in known]
        step = _IDS_AT_ONCE
        if field == "embedding":
            step = max(1, min(step, _BYTES_AT_ONCE // (4 * self.pushed.layout.dim)))
        for first in range(0, len(lacking), step):
            ids = [self.ids[row] for row in lacking[first : first + step]]
            self.rows(self.link.query(name, one_of("id", ids), ["id", field]))
        gone = next((row for row in lacking if row not in known), None)
        if gone is not None:
            raise UsageError(f"the record {self.ids[gone]!r} went while it was read: search again")
        return [known[row] for row in rows]


class FoundRecords:
    """The records of a collection, as a search asks for them.

    It stands in for :class:`landcue.search.records.Records`; what would need to read all records
    is refused in one line.
    """

    def __init__(self, found: Found) -> None:
        self._found = found

    def __getattr__(self, name: str) -> Any:
        raise _refused(name)

    def __len__(self) -> int:
        return self._found.pushed.records

    def id(self, row: int) -> str:
        """Return the id of a row."""
        return self._found.ids[row]

    def find(self, id_: str) -> int | None:
        """Return the row of an id, or ``None``."""
        return self._found.find(id_)

    def near_ids(self, id_: str, most: int = _NEAR) -> list[str]:
        """Return ids that follow an unknown one, that start alike, or that are the first ones."""
        found, names = self._found, set[str]()
        wheres = (f"{starts('id', id_)}", starts("id", id_[: 2 * len(id_) // 3]), 'id >= ""')
        for where in wheres:
            rows = found.link.query(found.pushed.layout.name, where, ["id"], limit=most)
            names.update(str(row["id"]) for row in rows)
        return sorted(names)

    def labels_of(self, row: int) -> tuple[str, ...]:
        """Return the annotated labels where there are any known, else the predicted ones."""
        return self._found.told([row]).labels_of(0)

    def annotated(self, row: int) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` if nobody annotated it."""
        return self._found.told([row]).annotated(0)

    def facts(self, rows: Sequence[int] | Rows) -> list[tuple[Any, ...]]:
        """Return what is known of some rows: see :class:`landcue.search.records.Records`."""
        chosen = [int(row) for row in rows]
        return self._found.told(chosen).facts(np.arange(len(chosen)))

    def label_counts(self) -> list[dict[str, Any]]:
        """Return each label with the records that carry it: annotated, predicted, found by it."""
        link, pushed = self._found.link, self._found.pushed
        name, scored = pushed.layout.name, pushed.manifest.label_names
        counts: list[dict[str, Any]] = []
        for label in sorted(pushed.carried):
            where = carries(pushed.names.index(label))
            predicted = 0
            if label in scored:
                place = scored.index(label)
                predicted = link.count(name, f"scores[{place}] >= {_LEAST_SCORE}")
            annotated = link.count(name, f"known == true and {where}")
            found = link.count(name, where)
            counts.append(
                {"name": label, "annotated": annotated, "predicted": predicted, "records": found}
            )
        return counts


class CollectionRecords(FoundRecords):
    """The records of a collection between searches: a row tells that there is one, and no more."""

    def id(self, row: int) -> str:
        """Return the id of one of the rows that were noted when the collection was pushed."""
        noted = self._found.pushed.summary.examples
        if row not in noted:
            raise _refused("id")
        return noted[row]

    def counts(self, column: str) -> dict[str, int]:
        """Return the values of ``group``, ``part`` or ``sensor`` with the records that have them.

        Of more than were noted when the collection was pushed, those of most records.
        """
        return self._found.pushed.summary.counts[column]

    @property
    def time(self) -> npt.NDArray[np.datetime64]:
        """The first and the last time, datetime64[us] in UTC, if any is known."""
        return np.array(self._found.pushed.summary.times, "datetime64[us]")

    @property
    def bounds(self) -> npt.NDArray[np.float64]:
        """The box around all footprints, ``[1, 4]``, or ``[0, 4]`` without any."""
        return np.array(self._found.pushed.summary.bounds, np.float64).reshape(-1, 4)

    def find(self, id_: str) -> int | None:
        """Return a row if there is such a record, else ``None``."""
        return Found(self._found.link, self._found.pushed).find(id_)


class CollectionVectors:
    """The vectors of a collection between searches: none is at hand."""

    def __init__(self, found: Found) -> None:
        self._found = found

    def __getattr__(self, name: str) -> Any:
        raise _refused(name)


class FoundVectors:
    """The vectors of the records that one search met, read when they are looked at."""

    def __init__(self, found: Found) -> None:
        self._found = found

    @functools.cached_property
    def embedding(self) -> Any:
        """float32, by row."""
        return _Column(self._found.embedding, self._found, self._found.pushed.layout.dim)

    @functools.cached_property
    def code(self) -> Any:
        """Packed uint8, by row."""
        return _Column(self._found.code, self._found, -(-self._found.pushed.layout.n_bits // 8))

    @functools.cached_property
    def cue(self) -> Any:
        """Packed uint8, by row."""
        return _Column(self._found.cue, self._found, -(-self._found.pushed.layout.n_labels // 8))


class _Column:
    """One kind of vector, looked up as in an array ``[n, width]``."""

    def __init__(self, read: Callable[[Sequence[int]], Any], found: Found, width: int) -> None:
        self._read, self._found, self._width = read, found, width

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._found), self._width

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            return self._read(list(range(*rows.indices(len(self._found)))))
        if isinstance(rows, int | np.integer):
            self._read(range(len(self._found)))  # whoever asks for one asks for the others next
            return self._read([int(rows)])[0]
        return self._read([int(row) for row in rows])


def _refused(name: str) -> Exception:
    if name.startswith("_"):
        return AttributeError(name)
    return UsageError(
        "this looks at every record, which a Milvus collection is too large for: use the archive "
        "folder that was pushed"
    )


def _bytes(values: Sequence[Any], width: int) -> ByteArray:
    data = b"".join(v[0] if isinstance(v, list) else v for v in values)
    return np.frombuffer(data, np.uint8).reshape(len(values), width)
