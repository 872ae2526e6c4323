"""An archive's records as the rows of a collection."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.archive.archive import ArchiveFolder
from landcue.errors import ArchiveError
from landcue.milvus.link import both, quoted
from landcue.milvus.manifest import (
    LABEL_SCALE,
    MOST_BYTES,
    Pushed,
)
from landcue.search.local import CACHE_FROM
from landcue.search.records import COLUMNS, Records, read_records
from landcue.search.store import Store
from landcue.search.vectors import Vectors

ROWS = 4_096
"""Records that are compared and written at a time."""

NO_TIME = -(2**62)
"""The stored time of a record without one; earlier than all others."""

NOWHERE = 999.0
"""The stored latitude of a record without a footprint; north of everything."""

TEXTS = ("group", "part", "sensor", "source")


SIDES = ("west", "south", "east", "north")


_START = datetime(1970, 1, 1, tzinfo=UTC)


# Checksums depend on the order of the names.
_IN_JSON = tuple(name for name in COLUMNS if name not in ("id", "time", "geometry"))


_to_json = json.JSONEncoder(separators=(",", ":")).encode


def record_to_json(fact: Mapping[str, Any]) -> str:
    """Serialize the columns of a record, except its id, as JSON in ASCII."""
    value: dict[str, Any] = {name: fact[name] for name in _IN_JSON if fact[name] is not None}
    if fact["time"] is not None:
        value["time"] = _microseconds(fact["time"])
    if fact["geometry"] is not None:
        value["geometry"] = fact["geometry"].hex()
    return _to_json(value)


def parse_record(id_: str, text: str) -> dict[str, Any]:
    """Parse the result of :func:`record_to_json`; columns without a value are left out."""
    value = json.loads(text)
    if "time" in value:
        value["time"] = _START + timedelta(microseconds=value["time"])
    if "geometry" in value:
        value["geometry"] = bytes.fromhex(value["geometry"])
    return {"id": id_, **value}


def _microseconds(time: datetime) -> int:
    return (time - _START) // timedelta(microseconds=1)


class Source:
    """The records of an archive folder in the order of their ids.

    Attributes:
        archive: The archive.
        records: Its records without their vectors.
        vectors: Their vectors.
    """

    def __init__(self, archive: ArchiveFolder) -> None:
        """Open the files that searches derive from an archive, or make them."""
        self.archive = archive
        store = Store(archive, on_disk=archive.count >= CACHE_FROM)
        self._table = store.table("records", functools.partial(read_records, archive))
        self.records, self.vectors = Records(self._table), Vectors(archive, store)

    def __len__(self) -> int:
        return len(self._table)

    def parts(self, rows: int) -> list[Part]:
        """Divide all ids into ranges of at most ``rows`` records of the archive."""
        starts = range(0, max(1, len(self)), rows)
        lows = [self.records.id(first) if first else "" for first in starts]
        return [
            Part(self, first, min(first + rows, len(self)), low, high)
            for first, low, high in zip(starts, lows, [*lows[1:], None], strict=True)
        ]

    def facts(self, first: int, last: int) -> list[dict[str, Any]]:
        """Return the columns of some records, except their vectors."""
        return self._table.slice(first, last - first).to_pylist()


class Part:
    """Some records of an archive, and the range of ids that they fill.

    Attributes:
        first: First row.
        last: One behind the last.
        where: The range as an expression.
    """

    def __init__(self, source: Source, first: int, last: int, low: str, high: str | None) -> None:
        self._source, self.first, self.last = source, first, last
        self._shared: list[dict[str, Any]] | None = None
        at_least = f"id >= {quoted(low)}"
        self.where = at_least if high is None else both(at_least, f"id < {quoted(high)}")

    @functools.cached_property
    def facts(self) -> list[dict[str, Any]]:
        """The columns of the records, except their vectors."""
        return self._source.facts(self.first, self.last)

    @functools.cached_property
    def texts(self) -> list[str]:
        """The same as JSON."""
        texts = [record_to_json(fact) for fact in self.facts]
        for fact, text in zip(self.facts, texts, strict=True):
            if max(len(text), len(fact["id"].encode())) > MOST_BYTES:
                raise ArchiveError(
                    f"the record {fact['id'][:80]!r} takes {len(text):,} bytes as JSON, Milvus "
                    f"allows {MOST_BYTES:,}: shorten its id, path, labels or footprint"
                )
        return texts

    @functools.cached_property
    def stamps(self) -> dict[str, str]:
        """A checksum of each record, by id."""
        rows, vectors, manifest = self.rows, self._source.vectors, self._source.archive.manifest
        columns: list[npt.NDArray[Any]] = [vectors.embedding[rows]]
        columns += [vectors.code[rows]] if manifest.n_bits else []
        columns += [vectors.scores[rows]] if manifest.label_names else []
        stamps: dict[str, str] = {}
        for fact, text, *values in zip(self.facts, self.texts, *columns, strict=True):
            digest = hashlib.blake2b(text.encode(), digest_size=12)
            for value in values:
                digest.update(np.ascontiguousarray(value).data)
            stamps[fact["id"]] = digest.hexdigest()
        return stamps

    @property
    def rows(self) -> slice:
        """The rows of the archive."""
        return slice(self.first, self.last)

    def entities(self, pushed: Pushed, name: str, ids: Collection[str]) -> list[dict[str, Any]]:
        """Return some of the records as rows of one of the collections."""
        vectors, wanted = self._source.vectors, frozenset(ids)
        at = [number for number, fact in enumerate(self.facts) if fact["id"] in wanted]
        rows, rest = np.array(at, np.int64) + self.first, list[dict[str, Any]]()
        embedding = vectors.embedding[rows]
        if name == pushed.code:
            rest = [{"code": code.tobytes()} for code in vectors.code[rows]]
        elif name == pushed.sketch:
            sketches = pushed.sketcher.encode(embedding)
            rest = [{"sketch": sketch.tobytes()} for sketch in sketches]
        else:
            scores = vectors.scores[rows] * np.float32(LABEL_SCALE)  # empty without a label head
            pairs = zip(np.concatenate([embedding, scores], axis=1).tolist(), at, strict=True)
            rest = [{"embedding": vector, "record": self.texts[n]} for vector, n in pairs]
        if pushed.manifest.label_names:
            scored = zip(vectors.scores[rows].tolist(), vectors.cue[rows], strict=True)
            labels = [{"scores": scores, "cue": cue.tobytes().hex()} for scores, cue in scored]
            rest = [one | other for one, other in zip(rest, labels, strict=True)]
        if self._shared is None:
            numbers = {name: number for number, name in enumerate(pushed.names)}
            self._shared = [self._fields(fact, numbers) for fact in self.facts]
        return [self._shared[number] | other for number, other in zip(at, rest, strict=True)]

    def _fields(self, fact: Mapping[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
        """Return the fields that all collections have."""
        labels = fact["predicted_labels"] if fact["labels"] is None else fact["labels"]
        west, south, east, north = (fact[side] for side in SIDES)
        if west is None:
            west, south, east, north = 0.0, NOWHERE, 0.0, -NOWHERE
        # East is beyond 180 where a footprint crosses the antimeridian.
        sides = (west, south, east + 360 if west > east else east, north)
        return {
            "id": fact["id"],
            "stamp": self.stamps[fact["id"]],
            "known": fact["labels"] is not None,
            "labels": [numbers[name] for name in labels or ()],
            "time": NO_TIME if fact["time"] is None else _microseconds(fact["time"]),
            "path": fact["path"],
            **{name: fact[name] or "" for name in TEXTS},
            **dict(zip(SIDES, sides, strict=True)),
        }
