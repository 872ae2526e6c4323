"""An archive's records as the rows of collections, and the fields of these."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

import numpy as np

from landcue.errors import ArchiveError
from landcue.milvus.link import Link, both, quoted
from landcue.milvus.manifest import LABEL_SCALE, MOST_BYTES, Pushed
from landcue.search.local import LocalBackend
from landcue.search.records import COLUMNS

ROWS = 4_096
"""Records that are compared and written at a time."""

NO_TIME = -(2**62)
"""The stored time of a record without one; earlier than all others."""

NOWHERE = 999.0
"""The stored latitude of a record without a footprint; north of everything."""

_SIDES = ("west", "south", "east", "north")
_TEXTS = ("group", "part", "sensor", "source")
_MOST_LABELS = 4_096  # as many as an array of Milvus holds


def _to_text(value: datetime | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else value.isoformat()


_to_json = json.JSONEncoder(separators=(",", ":"), default=_to_text).encode


def parse_record(id_: str, text: str) -> dict[str, Any]:
    """Return the columns of a record from their JSON, which leaves out the id and empty ones."""
    value = dict.fromkeys(COLUMNS) | {"id": id_} | json.loads(text)
    if value["time"] is not None:
        value["time"] = datetime.fromisoformat(value["time"])
    if value["geometry"] is not None:
        value["geometry"] = bytes.fromhex(value["geometry"])
    return value


def parts(source: LocalBackend, rows: int) -> list[Part]:
    """Divide all ids into ranges of at most ``rows`` records of an archive."""
    return [Part(source, first, rows) for first in range(0, len(source.records) or 1, rows)]


class Part:
    """Some records of an archive in the order of their ids, and the range of ids that they fill.

    Attributes:
        first: First row of the archive.
        last: One behind the last.
        where: The range as an expression.
    """

    def __init__(self, source: LocalBackend, first: int, rows: int) -> None:
        self._records, self._vectors, n = source.records, source.vectors, len(source.records)
        self.first, self.last = first, min(first + rows, n)
        self.where = f"id >= {quoted(self._records.id(first) if first else '')}"
        if self.last < n:
            self.where = both(self.where, f"id < {quoted(self._records.id(self.last))}")

    @functools.cached_property
    def facts(self) -> dict[str, dict[str, Any]]:
        """The columns of each record except its vectors, by id."""
        facts = self._records.facts(np.arange(self.first, self.last))
        return {fact[0]: dict(zip(COLUMNS, fact, strict=True)) for fact in facts}

    @functools.cached_property
    def texts(self) -> list[str]:
        """The same without the ids as JSON."""
        texts: list[str] = []
        for id_, fact in self.facts.items():
            said = {name: fact[name] for name in COLUMNS[1:] if fact[name] is not None}
            texts.append(_to_json(said))
            if max(len(texts[-1]), len(id_.encode())) > MOST_BYTES:
                raise ArchiveError(
                    f"the record {id_[:80]!r} takes {len(texts[-1]):,} bytes as JSON, Milvus "
                    f"allows {MOST_BYTES:,}: shorten its id, path, labels or footprint"
                )
        return texts

    @functools.cached_property
    def stamps(self) -> dict[str, str]:
        """A checksum of each record, by id."""
        rows, vectors = slice(self.first, self.last), self._vectors
        arrays = (vectors.embedding[rows], vectors.code[rows], vectors.scores[rows])
        data = np.hstack([np.ascontiguousarray(one).view(np.uint8) for one in arrays])
        return {
            id_: hashlib.blake2b(text.encode() + values.tobytes(), digest_size=12).hexdigest()
            for id_, text, values in zip(self.facts, self.texts, data, strict=True)
        }

    def columns(
        self, pushed: Pushed, ids: Collection[str]
    ) -> Iterator[tuple[str, dict[str, list[Any]]]]:
        """Yield the name of each collection, and the values of some of the records in its rows."""
        at = np.flatnonzero([id_ in ids for id_ in self.facts])
        rows, vectors = self.first + at, self._vectors
        facts = [fact for id_, fact in self.facts.items() if id_ in ids]
        west, south, east, north = self._records.bounds[rows].T
        # East is beyond 180 where a footprint crosses the antimeridian.
        sides = (west, south, np.where(west > east, east + 360, east), north)
        nowhere = (0.0, NOWHERE, 0.0, -NOWHERE)
        embedding, scores = vectors.embedding[rows], vectors.scores[rows]
        columns: dict[str, list[Any]] = {
            "id": [fact["id"] for fact in facts],
            "stamp": [self.stamps[fact["id"]] for fact in facts],
            "record": [self.texts[number] for number in at],
            "known": [fact["labels"] is not None for fact in facts],
            "labels": [
                (fact["predicted_labels"] if fact["labels"] is None else fact["labels"]) or []
                for fact in facts
            ],
            "time": np.maximum(self._records.time[rows].astype(np.int64), NO_TIME).tolist(),
            "path": [fact["path"] for fact in facts],
            "scores": scores.tolist(),
            "cue": [one.tobytes().hex() for one in vectors.cue[rows]],
        }
        columns |= {name: [fact[name] or "" for fact in facts] for name in _TEXTS}
        for name, side, other in zip(_SIDES, sides, nowhere, strict=True):
            columns[name] = np.where(np.isnan(west), other, side).tolist()
        for name in pushed.collections:
            if name == pushed.name:
                scaled = scores * np.float32(LABEL_SCALE)
                vector = np.concatenate([embedding, scaled], axis=1).tolist()
            else:
                is_code = name == pushed.code
                packed = vectors.code[rows] if is_code else pushed.sketcher.encode(embedding)
                vector = [one.tobytes() for one in packed]
            yield name, columns | {"vector": vector}


def make_collection(link: Link, pushed: Pushed, name: str, *, wait: bool = False) -> None:
    """Create a collection of records unless it exists; ``wait`` as in :meth:`Link.make`."""
    types, width = link.types, len(pushed.manifest.label_names)
    text = {"datatype": types.VARCHAR, "max_length": MOST_BYTES}
    array = {"datatype": types.ARRAY, "max_capacity": _MOST_LABELS}
    fields: dict[str, dict[str, Any]] = {
        "id": text | {"is_primary": True},
        "known": {"datatype": types.BOOL},
        "labels": array | {"element_type": types.VARCHAR, "max_length": MOST_BYTES},
        "time": {"datatype": types.INT64},
        **{name: text for name in ("stamp", "path", *_TEXTS)},
        **{side: {"datatype": types.DOUBLE} for side in _SIDES},
    }
    if width:
        fields["scores"] = array | {"element_type": types.FLOAT, "max_capacity": width}
        fields["cue"] = text
    if name == pushed.name:
        fields["record"] = text
        fields["vector"] = {"datatype": types.FLOAT_VECTOR, "dim": pushed.width}
        index: dict[str, Any] = {"index_type": "FLAT", "metric_type": "IP", "params": {}}
        if pushed.lists:
            index |= {"index_type": "IVF_FLAT", "params": {"nlist": pushed.lists}}
    else:
        bits = pushed.manifest.n_bits if name == pushed.code else pushed.sketcher.n_bits
        fields["vector"] = {"datatype": types.BINARY_VECTOR, "dim": -(-bits // 8) * 8}
        index = {"index_type": "BIN_FLAT", "metric_type": "HAMMING", "params": {}}
    link.make(name, fields, wait=wait, **index)
