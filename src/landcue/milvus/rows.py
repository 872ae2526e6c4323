"""The rows of the collections: the types of their fields and the values of a record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from landcue.milvus.layout import NO_TIME, NOWHERE, Layout
from landcue.milvus.link import Link
from landcue.milvus.manifest import Pushed
from landcue.milvus.record_json import microseconds
from landcue.milvus.source import NAMED, Part, PushSource

_SIDES = ("west", "south", "east", "north")


def make_collections(link: Link, layout: Layout) -> None:
    """Create the missing collections of records."""
    for name in layout.names:
        if not link.has(name):
            with link.errors_named(f"making {name}"):
                _make(link, name, layout)


def _make(link: Link, name: str, layout: Layout) -> None:
    kinds, room, schema = link.kinds, layout.room, link.new_schema()
    schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=room.id)
    schema.add_field("stamp", kinds.VARCHAR, max_length=64)
    schema.add_field("known", kinds.BOOL)
    schema.add_field("labels", kinds.ARRAY, element_type=kinds.INT64, max_capacity=room.labels)
    if layout.n_labels:
        width = layout.n_labels
        schema.add_field("scores", kinds.ARRAY, element_type=kinds.FLOAT, max_capacity=width)
        schema.add_field("cue", kinds.VARCHAR, max_length=2 * -(-width // 8))
    for side in _SIDES:
        schema.add_field(side, kinds.DOUBLE)
    schema.add_field("time", kinds.INT64)
    schema.add_field("path", kinds.VARCHAR, max_length=room.path)
    for text in NAMED:
        schema.add_field(text, kinds.VARCHAR, max_length=room.text)
    if name == layout.name:
        field, index, metric = "embedding", "FLAT", "IP"
        parameters: dict[str, Any] = {}
        if layout.index == "ivf":
            index, parameters = "IVF_FLAT", {"nlist": layout.lists}
        schema.add_field(field, kinds.FLOAT_VECTOR, dim=layout.dim)
        schema.add_field("record", kinds.VARCHAR, max_length=room.record)
    else:
        is_code = name == layout.code
        field, bits = ("code", layout.n_bits) if is_code else ("sketch", layout.sketch_bits)
        index, metric, parameters = "BIN_FLAT", "HAMMING", {}
        schema.add_field(field, kinds.BINARY_VECTOR, dim=-(-bits // 8) * 8)
    link.create(name, schema, field, index_type=index, metric_type=metric, params=parameters)


class Writer:
    """Builds the columns of all collections from an archive's records."""

    def __init__(self, local: PushSource, pushed: Pushed) -> None:
        self._vectors, self._layout = local.vectors, pushed.layout
        self._numbers = {name: number for number, name in enumerate(pushed.names)}
        self._sketcher = pushed.sketcher

    def columns(self, part: Part, name: str, ids: Collection[str]) -> dict[str, list[Any]]:
        """Return some records of a part as columns of one of the collections, by field."""
        if part.shared is None:
            part.shared = self._shared(part)
        columns, chosen = part.shared, list(range(len(part.facts)))
        if len(ids) < len(chosen):
            wanted = frozenset(ids)
            chosen = [at for at, id_ in enumerate(part.stamps) if id_ in wanted]
            columns = {field: [values[at] for at in chosen] for field, values in columns.items()}
        rows = np.array(chosen, np.int64) + part.where.first
        if name == self._layout.code:
            return {**columns, "code": [code.tobytes() for code in self._vectors.code[rows]]}
        embedding = self._vectors.embedding[rows]
        if name == self._layout.sketch:
            sketches = self._sketcher.encode(embedding)
            return {**columns, "sketch": [sketch.tobytes() for sketch in sketches]}
        texts = [part.texts[at] for at in chosen]
        return {**columns, "embedding": embedding.tolist(), "record": texts}

    def _shared(self, part: Part) -> dict[str, list[Any]]:
        """Return the columns that all collections have."""
        facts, numbers = part.facts, self._numbers
        columns: dict[str, list[Any]] = {
            "id": list(part.stamps),
            "stamp": list(part.stamps.values()),
            "known": [fact["labels"] is not None for fact in facts],
            "labels": [[numbers[name] for name in _labels(fact)] for fact in facts],
            "time": [_time(fact) for fact in facts],
            "path": [fact["path"] for fact in facts],
        }
        for name in NAMED:
            columns[name] = [fact[name] or "" for fact in facts]
        boxes = [_box(fact) for fact in facts]
        columns |= zip(_SIDES, (list(edge) for edge in zip(*boxes, strict=True)), strict=True)
        if self._layout.n_labels:
            rows = slice(part.where.first, part.where.last)
            columns["scores"] = self._vectors.scores[rows].tolist()
            columns["cue"] = [cue.tobytes().hex() for cue in self._vectors.cue[rows]]
        return columns


def _labels(fact: Mapping[str, Any]) -> Sequence[str]:
    """Return the annotated labels where there are any known, else the predicted ones."""
    return fact["predicted_labels"] or () if fact["labels"] is None else fact["labels"]


def _time(fact: Mapping[str, Any]) -> int:
    return NO_TIME if fact["time"] is None else microseconds(fact["time"])


def _box(fact: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return west, south, east, north; ``east`` beyond 180 across the antimeridian."""
    if fact["west"] is None:
        return 0.0, NOWHERE, 0.0, -NOWHERE
    west, south, east, north = (fact[side] for side in _SIDES)
    return west, south, east + 360 if west > east else east, north
