"""All records of an archive as NumPy arrays, one row per record in the order of their ids."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from landcue.archive.manifest import Manifest
from landcue.archive.schema import from_fixed
from landcue.codes.packing import code_width
from landcue.types import ByteArray, FloatArray

pc: Any = pyarrow.compute

COLUMNS = (
    *("id", "path", "labels", "predicted_labels", "embedding"),
    *("west", "south", "east", "north", "time", "group", "part", "sensor"),
)


@dataclass(frozen=True, slots=True)
class LabelLists:
    """The labels of n records, each a list of its own length.

    Attributes:
        names: All names that occur, sorted.
        values: int32 ``[total]``, positions in ``names``, record after record.
        offsets: int64 ``[n + 1]``, where each record's labels start.
        known: bool ``[n]``, false where the record has no annotation.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    known: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, lists: pa.ChunkedArray) -> LabelLists:
        """Convert a column of lists of names; null means not annotated."""
        flat = pc.list_flatten(lists)
        names: list[str] = sorted(pc.unique(flat).to_pylist())
        values = pc.index_in(flat, value_set=pa.array(names, pa.string())).to_numpy()
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return cls(tuple(names), values.astype(np.int32), offsets, lists.is_valid().to_numpy())

    def __len__(self) -> int:
        return len(self.known)

    def row(self, row: int) -> tuple[str, ...] | None:
        """Return the labels of one record, ``None`` without annotation."""
        if not self.known[row]:
            return None
        part = self.values[self.offsets[row] : self.offsets[row + 1]]
        return tuple(self.names[value] for value in part)

    def having(self, name: str) -> npt.NDArray[np.bool_]:
        """Return bool ``[n]``: true where a record carries the label."""
        found = np.zeros(len(self), np.bool_)
        if name in self.names:
            at = np.flatnonzero(self.values == self.names.index(name))
            found[np.searchsorted(self.offsets, at, side="right") - 1] = True
        return found


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of n records that search and evaluation need, sorted by id.

    Attributes:
        ids: Unique, ascending.
        paths: Posix paths, relative to the source root when below it.
        embedding: float32 ``[n, d]``.
        code: packed uint8 ``[n, ceil(n_bits / 8)]``; ``[n, 0]`` without codes.
        labels: Annotated labels.
        predicted: Predicted labels.
        bounds: float64 ``[n, 4]``, west, south, east, north in degrees; NaN without footprint.
        time: datetime64[us] ``[n]`` in UTC; NaT where unknown.
        group: The scene, product or class of each image, or ``None``.
        part: ``train``, ``val``, ``test`` or ``None``.
        sensor: The sensor of each image, or ``None``.
    """

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    embedding: FloatArray
    code: ByteArray
    labels: LabelLists
    predicted: LabelLists
    bounds: npt.NDArray[np.float64]
    time: npt.NDArray[np.datetime64]
    group: tuple[str | None, ...]
    part: tuple[str | None, ...]
    sensor: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, id_: str) -> int | None:
        """Return the row of an id, or ``None``."""
        row = bisect.bisect_left(self.ids, id_)
        return row if row < len(self.ids) and self.ids[row] == id_ else None

    def labels_of(self, row: int) -> tuple[str, ...]:
        """Return the annotated labels where there are any known, else the predicted ones."""
        annotated = self.labels.row(row)
        return (self.predicted.row(row) or ()) if annotated is None else annotated


def to_columns(table: pa.Table, manifest: Manifest) -> Columns:
    """Sort rows by id and convert their columns to arrays."""
    table = by_id(table)
    n = len(table)
    code = np.empty((n, 0), np.uint8)
    if manifest.n_bits:
        code = from_fixed(table["code"], code_width(manifest.n_bits), np.uint8)
    bounds = [table[name].to_numpy() for name in ("west", "south", "east", "north")]
    return Columns(
        ids=tuple(table["id"].to_pylist()),
        paths=tuple(table["path"].to_pylist()),
        embedding=from_fixed(table["embedding"], manifest.dim, np.float32),
        code=code,
        labels=LabelLists.of(table["labels"]),
        predicted=LabelLists.of(table["predicted_labels"]),
        bounds=np.stack(bounds, axis=1).astype(np.float64),
        time=table["time"].cast(pa.timestamp("us")).to_numpy(),
        group=tuple(table["group"].to_pylist()),
        part=tuple(table["part"].to_pylist()),
        sensor=tuple(table["sensor"].to_pylist()),
    )


def by_id(table: pa.Table) -> pa.Table:
    """Return the rows in the order of their ids."""
    ids = table["id"].to_pylist()
    if all(first < second for first, second in itertools.pairwise(ids)):
        return table.combine_chunks()
    return table.take(pc.sort_indices(table["id"])).combine_chunks()
