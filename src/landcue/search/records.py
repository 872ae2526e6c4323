"""All records of an archive without their vectors, sorted by id, decoded on access."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import shapely

from landcue.archive.archive import ArchiveFolder, LabelLists
from landcue.archive.schema import from_wkb
from landcue.search.ids import SortedIds
from landcue.search.place import outline

pc: Any = pyarrow.compute

COLUMNS = (
    *("id", "path", "labels", "predicted_labels", "west", "south", "east", "north", "time"),
    *("group", "part", "sensor", "pixel_bbox", "geometry", "source"),
)
"""The columns of a record besides its vectors."""
_BOX = ("west", "south", "east", "north")


class Records:
    """A table of records in the order of their ids: row r is the r-th id.

    The table may be mapped from disk; only the records that are accessed are read.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._ids = SortedIds(table["id"])
        self._annotated, self._predicted = table["labels"], table["predicted_labels"]
        filled = [name for name in COLUMNS if table[name].null_count < len(table)]
        filled_table = table.select(filled)
        batches = filled_table.to_batches()
        # Taking a few rows of one batch is three times as fast.
        self._filled: Any = batches[0] if len(batches) == 1 else filled_table

    def __len__(self) -> int:
        return len(self._table)

    def id(self, row: int) -> str:
        """Return the id of a row."""
        return self._ids[row]

    def ids(self) -> list[str]:
        """Return all ids, ascending."""
        return self._table["id"].to_pylist()

    def find(self, id_: str) -> int | None:
        """Return the row of an id, or ``None``."""
        row = self._ids.place(id_)
        return row if row < len(self) and self.id(row) == id_ else None

    def near_ids(self, id_: str, most: int = 1000) -> list[str]:
        """Return ids that sort next to an unknown one."""
        first = max(0, self._ids.place(id_) - most)
        return self._table["id"].slice(first, 2 * most).to_pylist()

    @functools.cached_property
    def labels(self) -> LabelLists:
        """Annotated labels."""
        return LabelLists.of(self._table["labels"])

    @functools.cached_property
    def predicted(self) -> LabelLists:
        """Predicted labels."""
        return LabelLists.of(self._table["predicted_labels"])

    @functools.cached_property
    def label_names(self) -> frozenset[str]:
        """Names that at least one record carries."""
        return frozenset((*self.labels.names, *self.predicted.names))

    def having(self, name: str) -> npt.NDArray[np.bool_]:
        """Return bool ``[n]``: annotated with the label, or predicted where not annotated."""
        predicted = self.predicted.having(name)
        return np.where(self.labels.known, self.labels.having(name), predicted)

    @functools.cached_property
    def bounds(self) -> npt.NDArray[np.float64]:
        """Footprints ``[n, 4]``: west, south, east, north in degrees, NaN where unknown."""
        return np.stack([self._table[name].to_numpy() for name in _BOX], axis=1).astype(np.float64)

    @functools.cached_property
    def time(self) -> npt.NDArray[np.datetime64]:
        """Times datetime64[us] ``[n]`` in UTC, NaT where unknown."""
        return self._table["time"].cast(pa.timestamp("us")).to_numpy()

    def outlines(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the exact footprints of some rows as polygons, object ``[m]``.

        ``None`` where only the bounds are known.
        """
        column = self._table["geometry"].take(rows)
        shapes: Any = shapely.from_wkb(column.to_numpy())
        west, _, east, _ = self.bounds[rows].T
        for i in np.flatnonzero(west > east).tolist():
            if shapes[i] is not None:
                shapes[i] = outline(from_wkb(column[i].as_py()))
        return shapes

    def among(self, column: str, values: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return bool ``[n]``: where ``group``, ``part`` or ``sensor`` is one of the values."""
        return pc.is_in(self._table[column], value_set=pa.array(values, pa.string())).to_numpy()

    def values(self, column: str) -> list[str]:
        """Return the values of ``group``, ``part`` or ``sensor`` that occur, sorted."""
        return sorted(value for value in pc.unique(self._table[column]).to_pylist() if value)

    def counts(self, column: str) -> dict[str, int]:
        """Return how many records have each value of ``group``, ``part`` or ``sensor``."""
        found = pc.value_counts(self._table[column].drop_null()).to_pylist()
        return {one["values"]: one["counts"] for one in found}

    def below(self, prefix: str) -> npt.NDArray[np.bool_]:
        """Return bool ``[n]``: where the path starts with ``prefix``."""
        return pc.starts_with(self._table["path"], pattern=prefix).to_numpy()

    def labels_of(self, row: int) -> tuple[str, ...]:
        """Return the annotated labels where there are any known, else the predicted ones."""
        annotated = self.annotated(row)
        if annotated is not None:
            return annotated
        return tuple(self._predicted[row].as_py() or ())

    def predicted_of(self, row: int) -> tuple[str, ...]:
        """Return the predicted labels of a record."""
        return tuple(self._table["predicted_labels"][row].as_py() or ())

    def annotated(self, row: int) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` if it is not annotated."""
        found = self._annotated[row].as_py()
        return None if found is None else tuple(found)

    def groups_of(self, rows: npt.NDArray[np.int64]) -> list[str | None]:
        """Return the groups of some rows."""
        return self._table["group"].take(pa.array(rows)).to_pylist()

    def label_counts(self) -> list[dict[str, Any]]:
        """Count the records of each label: annotated, predicted, and matched by a filter."""
        counts: dict[str, dict[str, int]] = {}
        for kind, lists in (("annotated", self.labels), ("predicted", self.predicted)):
            found = np.bincount(lists.values, minlength=len(lists.names))
            for name, count in zip(lists.names, found.tolist(), strict=True):
                counts.setdefault(name, {"annotated": 0, "predicted": 0})[kind] = count
        return [
            {"name": name, **counts[name], "records": int(np.count_nonzero(self.having(name)))}
            for name in sorted(counts)
        ]

    def facts(self, rows: npt.NDArray[np.int64]) -> list[tuple[Any, ...]]:
        """Return the values of :data:`COLUMNS` of some rows, in their order."""
        taken = self._filled.take(pa.array(rows))
        filled = {name: taken.column(name).to_pylist() for name in taken.schema.names}
        nothing = [None] * len(rows)
        return list(zip(*(filled.get(name, nothing) for name in COLUMNS), strict=True))


def read_records(archive: ArchiveFolder) -> pa.Table:
    """Read the columns of :data:`COLUMNS`, sorted by id, in one chunk.

    Raises:
        ArchiveError: The table is broken.
    """
    schema = pa.schema([_wide(archive.manifest.schema.field(name)) for name in COLUMNS])
    batches = [batch.cast(schema) for batch in archive.batches(COLUMNS)]
    table = pa.Table.from_batches(batches, schema)
    return table.take(pc.sort_indices(table["id"])).combine_chunks()


def _wide(field: Any) -> Any:
    """Widen ids and paths, which may exceed 2 GiB in total."""
    return field.with_type(pa.large_string()) if field.name in ("id", "path") else field
