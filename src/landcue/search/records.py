"""All records of an archive without their vectors: read, summarized and looked up by id."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import shapely

from landcue.archive.archive import ArchiveFolder, LabelLists
from landcue.data.names import clean_id, stored_name

_STEP = 1024


class SortedIds:
    """Ascending strings of a column, which may be mapped: a look-up reads few of its pages."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        """Look into a ``large_string`` column without gaps; more chunks than one are copied."""
        array: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        self._rows = range(len(array))
        if len(array):
            _, edges, text = array.buffers()
            self._edges = memoryview(edges).cast("q")[array.offset :]
            self._text = memoryview(text)
        self._marks = [self._bytes(row) for row in self._rows[::_STEP]]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> str:
        return self._bytes(self._rows[row]).decode()

    def place(self, id_: str) -> int:
        """Return how many ids come before this one; UTF-8 sorts as strings do."""
        wanted = id_.encode(errors="surrogatepass")
        first = max(0, bisect.bisect_left(self._marks, wanted) - 1) * _STEP
        nearby = self._rows[first : first + _STEP]
        return first + bisect.bisect_left(nearby, wanted, key=self._bytes)

    def _bytes(self, row: int) -> bytes:
        return bytes(self._text[self._edges[row] : self._edges[row + 1]])


pc: Any = pyarrow.compute

COLUMNS = (
    *("id", "path", "labels", "predicted_labels", "west", "south", "east", "north", "time"),
    *("group", "part", "sensor", "pixel_bbox", "geometry", "source"),
)
"""The columns of a record besides its vectors."""
_BOX = ("west", "south", "east", "north")
_POSITION = "position"
"""Column of the place in the archive's table: :meth:`ArchiveFolder.batches` yields it there."""


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
        for name in dict.fromkeys((id_, clean_id(id_))):
            row = self._ids.place(name)
            if row < len(self) and self.id(row) == name:
                return row
        return None

    def positions(self, ids: Iterable[str]) -> list[int]:
        """Return the places in the archive's table of those ids that a record has."""
        rows: list[int] = []
        for id_ in ids:
            row = self._ids.place(id_)
            if row < len(self) and self.id(row) == id_:
                rows.append(row)
        return self._table[_POSITION].take(pa.array(rows, pa.int64())).to_pylist()

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
        """Return the exact footprints of some rows as geometries, object ``[m]``.

        ``None`` where only the bounds are known.
        """
        shapes: Any = shapely.from_wkb(self._table["geometry"].take(rows).to_numpy())
        return shapes

    def among(self, column: str, values: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return bool ``[n]``: where a column of strings is one of the values."""
        known = pa.array(map(stored_name, values), pa.string())
        return pc.is_in(self._table[column], value_set=known).to_numpy()

    def values(self, column: str) -> list[str]:
        """Return the values of one of these columns that occur, sorted."""
        return sorted(value for value in pc.unique(self._table[column]).to_pylist() if value)

    def counts(self, column: str) -> dict[str, int]:
        """Return how many records have each value of one of these columns."""
        found = pc.value_counts(self._table[column].drop_null()).to_pylist()
        return {one["values"]: one["counts"] for one in found}

    def below(self, prefix: str) -> npt.NDArray[np.bool_]:
        """Return bool ``[n]``: where the path starts with ``prefix``."""
        return pc.starts_with(self._table["path"], pattern=stored_name(prefix)).to_numpy()

    def labels_of(self, row: int) -> tuple[str, ...]:
        """Return the annotated labels where there are any known, else the predicted ones."""
        annotated = self.annotated(row)
        if annotated is not None:
            return annotated
        return self.predicted_of(row)

    def predicted_of(self, row: int) -> tuple[str, ...]:
        """Return the predicted labels of a record."""
        return tuple(self._predicted[row].as_py() or ())

    def annotated(self, row: int) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` if it is not annotated."""
        found = self._annotated[row].as_py()
        return None if found is None else tuple(found)

    def column(self, name: str, rows: npt.NDArray[np.int64]) -> pa.ChunkedArray:
        """Return a column of :data:`COLUMNS` of some rows."""
        return self._table[name].take(pa.array(rows))

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
    """Read the columns of :data:`COLUMNS` and the positions, sorted by id, in one chunk."""
    schema = pa.schema([_wide(archive.manifest.schema.field(name)) for name in COLUMNS])
    batches = [batch.cast(schema) for batch in archive.batches(COLUMNS)]
    table = pa.Table.from_batches(batches, schema)
    order = pc.sort_indices(table["id"])
    return table.take(order).combine_chunks().append_column(_POSITION, order)


def _wide(field: Any) -> Any:
    """Widen ids and paths, which may exceed 2 GiB in total."""
    return field.with_type(pa.large_string()) if field.name in ("id", "path") else field


MOST_VALUES = 500
"""Most values of a column in a summary, the most frequent first."""

EXAMPLES = 24
"""Number of example ids, evenly spaced over all ids."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of all records.

    Attributes:
        counts: The values of ``group``, ``sensor``, ``part`` and ``source`` with the numbers of
            records that have them.
        times: The first and the last time, ISO 8601 in UTC without a zone; empty without any.
        bounds: West, south, east, north of all footprints; empty without any. West > east where
            one crosses the antimeridian: the widest gap between footprints is left out.
        examples: Some rows with their ids.
    """

    counts: dict[str, dict[str, int]]
    times: tuple[str, ...]
    bounds: tuple[float, ...]
    examples: dict[int, str]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Summary:
        """Read what ``asdict`` gave."""
        examples = {int(row): str(id_) for row, id_ in value["examples"].items()}
        return cls(value["counts"], tuple(value["times"]), tuple(value["bounds"]), examples)


def _crossing(west: npt.NDArray[np.float64], east: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the sides of all boxes, of which one crosses the antimeridian."""
    order = np.argsort(west)
    starts = west[order]
    reach = np.maximum.accumulate(np.where(west > east, east + 360, east)[order])
    # Where the boxes before each one end; what crosses covers the first longitudes, too.
    ends = np.maximum(np.append(-np.inf, reach[:-1]), reach[-1] - 360)
    widest = int(np.argmax(starts - ends))
    if starts[widest] <= ends[widest]:
        return -180.0, 180.0
    return float(starts[widest]), float(ends[widest])


def summarize(records: Records) -> Summary:
    """Summarize all records."""
    counts: dict[str, dict[str, int]] = {}
    for column in ("group", "sensor", "part", "source"):
        found = sorted(records.counts(column).items(), key=lambda item: (-item[1], item[0]))
        counts[column] = dict(found[:MOST_VALUES])
    known = records.time[~np.isnat(records.time)]
    times = [str(time) for time in (known.min(), known.max())] if len(known) else []
    bounds: tuple[float, ...] = ()
    boxes = records.bounds[~np.isnan(records.bounds).any(axis=1)]
    if len(boxes):
        west, south, east, north = boxes.T
        sides = _crossing(west, east) if (west > east).any() else (west.min(), east.max())
        bounds = (float(sides[0]), float(south.min()), float(sides[1]), float(north.max()))
    rows = np.unique(np.linspace(0, max(0, len(records) - 1), EXAMPLES).round().astype(np.int64))
    examples = {row: records.id(row) for row in rows.tolist()} if len(records) else {}
    return Summary(counts, tuple(times), bounds, examples)
