"""How an archive is stored: the description of its collections, their fields and rows.

Milvus before version 2.4 holds one vector per row, so an archive is several collections, each with
the fields that filters need: ``NAME`` with the embeddings, each followed by its label probabilities
so that one collection ranks by both, and each record as JSON, ``NAME_code``
with hash codes, ``NAME_sketch`` with sketches for two-stage searches. ``NAME_manifest`` holds pairs
of a name and a text: ``head`` names the current revision, ``REVISION/…`` are the parts of its JSON.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from landcue.archive.manifest import Manifest, parse_manifest
from landcue.codes.hashers import Hasher
from landcue.errors import ArchiveError
from landcue.milvus.link import Address, Link, both, missing, one_of, quoted, starts
from landcue.search.exact import AnnFacts
from landcue.search.fusion import Fusion
from landcue.search.local import LocalBackend
from landcue.search.records import COLUMNS, Summary

COMPLETE, PUSHING = "complete", "pushing"
FORMAT = 5

LABEL_SCALE = 1 / 64
"""Factor of stored label probabilities, so that the lists of an index follow the embeddings.

A power of two: it rounds nothing.
"""

MOST_BYTES = 65_535
"""Longest string in bytes; thumbnails would not fit."""

_PIECE = 60_000


@dataclass(frozen=True)
class Pushed:
    """The stored description of a collection.

    Attributes:
        name: Name of the collection of embeddings.
        archive: Manifest of the archive, as its file holds it.
        state: ``complete``, or ``pushing`` when the last push has not ended.
        source: The archive folder that was pushed.
        records: Number of records of the complete collection.
        version: Version of the archive that was pushed.
        carried: The labels that at least one record carries.
        patterns: The sets of predicted labels that occur, as packed bits in hex.
        projection: What makes sketches of embeddings, float64 ``[d, 1 + bits]`` in base 64: the
            mean, then the projection.
        summary: Summary of all records.
        lists: Number of lists of index ``ivf``; 0 for ``flat``.
        ann: Measurements of the approximate index.
        fusion: Measured weight of labels in mode ``fused``; ``None`` without a label head.
        revision: Random identifier, new with every push that changed something.
    """

    name: str
    archive: str
    state: str
    source: str
    records: int
    version: int
    carried: tuple[str, ...]
    patterns: tuple[str, ...]
    projection: str
    summary: Summary
    lists: int = 0
    ann: AnnFacts | None = None
    fusion: Fusion | None = None
    revision: str = ""

    @functools.cached_property
    def manifest(self) -> Manifest:
        """Manifest of the archive."""
        return parse_manifest(self.archive, Path(self.name))

    @functools.cached_property
    def sketcher(self) -> Hasher:
        """Makes sketches of embeddings."""
        numbers = np.frombuffer(base64.b64decode(self.projection), "<f8")
        matrix = numbers.reshape(self.manifest.dim, -1)
        return Hasher("sketch", matrix[:, 0], matrix[:, 1:])

    @property
    def index(self) -> str:
        """Index of the embeddings: ``flat``, or ``ivf`` for mode ``ann``."""
        return "ivf" if self.lists else "flat"

    @property
    def mark(self) -> str:
        """Identifier of the content; a cursor belongs to one mark."""
        return f"{self.name}-{self.revision}"

    @property
    def width(self) -> int:
        """Values of a stored vector: those of the embedding, and the label probabilities."""
        return self.manifest.dim + len(self.manifest.label_names)

    @property
    def code(self) -> str:
        """Name of the collection of codes."""
        return f"{self.name}_code"

    @property
    def sketch(self) -> str:
        """Name of the collection of sketches."""
        return f"{self.name}_sketch"

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections that hold records, in the order they are written."""
        return (self.sketch, *((self.code,) if self.manifest.n_bits else ()), self.name)


_PUSHED = TypeAdapter(Pushed)


def notes_name(address: Address) -> str:
    """Return the name of the collection that holds the description of an address."""
    return f"{address.collection}_manifest"


def read_head(link: Link, *, now: bool = False) -> dict[str, Any]:
    """Return the current format and revision; empty if nothing was pushed.

    Without ``now``, a very recent change may be missed.
    """
    rows = link.query(notes_name(link.address), one_of("name", ["head"]), ["value"], now=now)
    return json.loads(rows[0]["value"]) if rows else {}


def find_pushed(link: Link) -> Pushed | None:
    """Return the description of a collection; ``None`` if nothing was ever pushed there.

    Raises:
        ArchiveError: It is damaged, of another format, or there is a collection of this name
            that LandCue did not make.
    """
    where, name = link.address, notes_name(link.address)
    if not link.has(name):
        if link.has(where.collection):
            raise ArchiveError(
                f"{where} was not made by LandCue (it has no {name}): choose another name"
            )
        return None
    link.load(name)
    head = read_head(link, now=True)
    if not head:
        return None
    if head.get("format") != FORMAT:
        raise ArchiveError(
            f"{where} has format {head.get('format')!r}, this LandCue reads {FORMAT}: "
            "use the LandCue version that pushed it, or push into another collection"
        )
    pieces = link.query(name, starts("name", f"{head['revision']}/"), ["name", "value"], now=True)
    texts = {str(piece["name"]): str(piece["value"]) for piece in pieces}
    try:
        return _PUSHED.validate_json("".join(texts[name] for name in sorted(texts)))
    except ValueError:
        raise ArchiveError(
            f"the manifest of {where} is damaged: drop the collection and push the archive again"
        ) from None


def read_pushed(link: Link, *, complete: bool = False) -> Pushed:
    """Return the description of a collection.

    Raises:
        ArchiveError: There is none, or it cannot be read, or its push must be ``complete`` and is
            not.
    """
    found = find_pushed(link)
    if found is None:
        raise missing(link.address)
    if complete and found.state != COMPLETE:
        raise ArchiveError(
            f"{link.address} is pushed in part: run 'landcue archive push {found.source} "
            f"{link.address}' to continue"
        )
    return found


def describe_collection(url: str | Path) -> dict[str, Any]:
    """Return what is in a collection, also while it is pushed: JSON values by name.

    >>> describe_collection("milvus://localhost/chips")["state"]               # doctest: +SKIP
    'complete'

    Raises:
        UsageError: It is no address.
        ArchiveError: There is no such collection, or its server cannot be used.
    """
    address = Address.parse(url)
    with contextlib.closing(Link(address)) as link:
        pushed = read_pushed(link)
    return {
        "archive": str(address),
        "format": FORMAT,
        "state": pushed.state,
        "records": pushed.records,
        **pushed.manifest.facts(),
        "version": pushed.version,
        "pushed from": pushed.source,
        "index": pushed.index,
        "collections": [*pushed.collections, notes_name(address)],
    }


def write_pushed(link: Link, pushed: Pushed) -> None:
    """Replace the description of a collection atomically, under a new revision."""
    name, revision = notes_name(link.address), secrets.token_hex(6)
    text = {"datatype": link.types.VARCHAR}
    fields = {
        "name": text | {"is_primary": True, "max_length": 512},
        "value": text | {"max_length": MOST_BYTES},
        "nothing": {"datatype": link.types.FLOAT_VECTOR, "dim": 2},  # there must be a vector
    }
    link.make(name, fields, index_type="FLAT", metric_type="L2", params={})
    link.load(name)

    def put(texts: dict[str, str]) -> None:
        nothing = [[0.0, 0.0]] * len(texts)
        link.write(name, {"name": list(texts), "value": list(texts.values()), "nothing": nothing})

    value = json.dumps(_PUSHED.dump_python(replace(pushed, revision=revision), mode="json"))
    starts_at = range(0, len(value), _PIECE)
    put({f"{revision}/{at:09}": value[at : at + _PIECE] for at in starts_at})
    put({"head": json.dumps({"format": FORMAT, "revision": revision})})
    link.delete(name, f'name != "head" and not ({starts("name", f"{revision}/")})')


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
