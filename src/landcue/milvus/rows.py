"""Records of an archive as rows of the collections, and back."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from landcue.archive.archive import Archive
from landcue.archive.manifest import Manifest
from landcue.codes.unlearned import Hasher
from landcue.milvus.layout import NO_TIME, NOWHERE, Layout
from landcue.search.records import COLUMNS, Records, read_records
from landcue.search.searcher import CACHE_FROM
from landcue.search.sketch import Sketches
from landcue.search.store import Store
from landcue.search.vectors import Vectors

pc: Any = pyarrow.compute

_START = datetime(1970, 1, 1, tzinfo=UTC)
_SIDES = ("west", "south", "east", "north")
_WIDE = ("id", "path")
_NAMED = ("group", "part", "sensor")
_TOLD = ("path", "labels", "predicted_labels", *_SIDES, *_NAMED, "pixel_bbox")
_to_json = json.JSONEncoder(separators=(",", ":")).encode


class Local:
    """The records of an archive folder in the order of their ids, read where they are needed."""

    def __init__(self, archive: Archive) -> None:
        """Open the files that searches derive from an archive, or make them."""
        self.archive = archive
        self.manifest = archive.manifest
        store = Store(archive, on_disk=archive.count >= CACHE_FROM)
        self.table = store.table("records", functools.partial(read_records, archive))
        self.records = Records(self.table)
        self.vectors = Vectors(archive, store)

    def __len__(self) -> int:
        return len(self.table)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """All label names that the model scores or a record carries."""
        model = self.manifest.label_names
        return (*model, *sorted(self.records.label_names - set(model)))

    def sketcher(self) -> Hasher:
        """Return what makes sketches, as searches of the folder fitted it or else fitted now."""
        return Sketches(self.vectors, self.manifest.dim).fitted()

    def longest(self) -> dict[str, int]:
        """Return the sizes of the largest values, by the names of :class:`Room`."""
        if not len(self):
            return {"id": 0, "path": 0, "text": 0, "record": 256, "labels": len(self.names)}
        labels = [pc.max(pc.list_value_length(self.table[n])).as_py() for n in _TOLD[1:3]]
        return {
            "id": _longest(self.table["id"]),
            "path": _longest(self.table["path"]),
            "text": max(_longest(self.table[name]) for name in _NAMED),
            "record": self._longest_record(),
            "labels": max(len(self.names), *(size or 0 for size in labels)),
        }

    def facts(self, first: int, last: int) -> list[dict[str, Any]]:
        """Return what is told of rows ``first`` to ``last``."""
        return self.table.slice(first, last - first).to_pylist()

    def _longest_record(self) -> int:
        """Bound the bytes of the largest record: names, numbers and texts at their longest."""
        lists = 0
        for name in ("labels", "predicted_labels"):
            column = self.table[name]
            size = pc.max(pc.list_value_length(column)).as_py() or 0
            lists += size * (6 * _longest(pc.list_flatten(column)) + 4)
        texts = sum(6 * _longest(self.table[name]) for name in ("path", *_NAMED))
        geometry = 2 * (pc.max(pc.binary_length(self.table["geometry"])).as_py() or 0)
        loose = 400 + lists + texts + geometry
        if loose <= 4_096:
            return loose
        # Escapes are rare: look at the records themselves before a bound says too much.
        step = 8_192
        return max(
            len(told(fact))
            for first in range(0, len(self), step)
            for fact in self.facts(first, min(first + step, len(self)))
        )


def told(fact: Mapping[str, Any]) -> str:
    """Return all that is told of a record but its id, as JSON in ASCII."""
    value: dict[str, Any] = {name: fact[name] for name in _TOLD if fact[name] is not None}
    if fact["time"] is not None:
        value["time"] = _microseconds(fact["time"])
    if fact["geometry"] is not None:
        value["geometry"] = fact["geometry"].hex()
    return _to_json(value)


def told_values(ids: Sequence[str], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return the values of records whose :func:`told` texts are given; absent ones are null."""
    rows: list[dict[str, Any]] = []
    for id_, text in zip(ids, texts, strict=True):
        value = json.loads(text)
        if "time" in value:
            value["time"] = _START + timedelta(microseconds=value["time"])
        if "geometry" in value:
            value["geometry"] = bytes.fromhex(value["geometry"])
        rows.append({"id": id_, **value})
    return rows


def to_records(ids: Sequence[str], texts: Sequence[str], manifest: Manifest) -> Records:
    """Return the records of ids whose :func:`told` texts are given, in that order."""
    schema = pa.schema(
        pa.field(n, pa.large_string() if n in _WIDE else manifest.schema.field(n).type)
        for n in COLUMNS
    )
    return Records(pa.Table.from_pylist(told_values(ids, texts), schema).combine_chunks())


@dataclass(slots=True)
class Part:
    """Some rows of an archive, read once.

    Attributes:
        first: First row.
        last: One behind the last.
        facts: Of each record.
        texts: What is told of each.
        stamps: A checksum of all that is known of each.
        fields: The columns that all collections have, once they are made.
    """

    first: int
    last: int
    facts: list[dict[str, Any]]
    texts: list[str]
    stamps: list[str]
    fields: dict[str, list[Any]] | None = None

    @property
    def ids(self) -> list[str]:
        """Of the records, ascending."""
        return [fact["id"] for fact in self.facts]


class Writer:
    """Makes the columns of all collections from an archive's records."""

    def __init__(
        self, local: Local, layout: Layout, names: Sequence[str], sketcher: Hasher
    ) -> None:
        self.local, self.layout = local, layout
        self._numbers = {name: number for number, name in enumerate(names)}
        self._sketcher = sketcher

    def part(self, first: int, last: int) -> Part:
        """Read rows ``first`` to ``last`` of the archive."""
        vectors, layout = self.local.vectors, self.layout
        facts = self.local.facts(first, last)
        texts = [told(fact) for fact in facts]
        columns: list[npt.NDArray[Any]] = [vectors.embedding[first:last]]
        if layout.n_bits:
            columns.append(vectors.code[first:last])
        if layout.n_labels:
            columns.append(vectors.scores[first:last])
        stamps: list[str] = []
        for text, *values in zip(texts, *columns, strict=True):
            digest = hashlib.blake2b(text.encode(), digest_size=12)
            for value in values:
                digest.update(np.ascontiguousarray(value).data)
            stamps.append(digest.hexdigest())
        return Part(first, last, facts, texts, stamps)

    def columns(self, part: Part, name: str, chosen: Sequence[int]) -> dict[str, list[Any]]:
        """Return some rows of a part for one of the collections, by field.

        Args:
            part: What was read.
            name: Of the collection.
            chosen: Positions in the part, ascending.
        """
        if part.fields is None:
            part.fields = self._fields(part)
        fields, rows = part.fields, np.array(chosen, np.int64) + part.first
        if len(rows) < len(part.facts):
            fields = {field: [values[i] for i in chosen] for field, values in fields.items()}
        vectors = self.local.vectors
        if name == self.layout.code:
            return {**fields, "code": [code.tobytes() for code in vectors.code[rows]]}
        embedding = vectors.embedding[rows]
        if name == self.layout.sketch:
            sketches = self._sketcher.encode(embedding)
            return {**fields, "sketch": [sketch.tobytes() for sketch in sketches]}
        texts = [part.texts[i] for i in chosen]
        return {**fields, "embedding": embedding.tolist(), "record": texts}

    def _fields(self, part: Part) -> dict[str, list[Any]]:
        """Return the columns that all collections have."""
        facts, numbers = part.facts, self._numbers
        fields: dict[str, list[Any]] = {
            "id": part.ids,
            "stamp": part.stamps,
            "known": [fact["labels"] is not None for fact in facts],
            "labels": [[numbers[name] for name in _labels(fact)] for fact in facts],
            "time": [_time(fact) for fact in facts],
            "path": [fact["path"] for fact in facts],
        }
        for name in _NAMED:
            fields[name] = [fact[name] or "" for fact in facts]
        boxes = np.array([_box(fact) for fact in facts], np.float64).reshape(-1, 4)
        fields |= zip(_SIDES, boxes.T.tolist(), strict=True)
        if self.layout.n_labels:
            vectors, rows = self.local.vectors, slice(part.first, part.last)
            fields["scores"] = vectors.scores[rows].tolist()
            fields["cue"] = [cue.tobytes().hex() for cue in vectors.cue[rows]]
        return fields


def _labels(fact: Mapping[str, Any]) -> Sequence[str]:
    """Return the annotated labels where there are any known, else the predicted ones."""
    return fact["predicted_labels"] or () if fact["labels"] is None else fact["labels"]


def _time(fact: Mapping[str, Any]) -> int:
    return NO_TIME if fact["time"] is None else _microseconds(fact["time"])


def _box(fact: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return west, south, east, north; ``east`` beyond 180 across the antimeridian."""
    if fact["west"] is None:
        return 0.0, NOWHERE, 0.0, -NOWHERE
    west, south, east, north = (fact[side] for side in _SIDES)
    return west, south, east + 360 if west > east else east, north


def _longest(column: Any) -> int:
    return int(pc.max(pc.binary_length(column)).as_py() or 0)


def _microseconds(time: datetime) -> int:
    return (time - _START) // timedelta(microseconds=1)
