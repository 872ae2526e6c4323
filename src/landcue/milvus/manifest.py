"""The description of a collection, and where it is stored.

Milvus before version 2.4 holds one vector per row, so an archive is several collections, each with
the fields that filters need: ``NAME`` with the embeddings, each followed by its label probabilities
so that one collection ranks by both, and each record as JSON, ``NAME_code``
with hash codes, ``NAME_sketch`` with sketches for two-stage searches. ``NAME_manifest`` holds pairs
of a name and a text: ``head`` names the current revision, ``REVISION/…`` are the parts of its JSON.
"""

from __future__ import annotations

import base64
import functools
import json
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from landcue.archive.manifest import Manifest, parse_manifest
from landcue.codes.hashers import Hasher
from landcue.errors import ArchiveError
from landcue.milvus.link import Address, Link, missing, one_of, starts
from landcue.search.exact import AnnFacts
from landcue.search.fusion import Fusion
from landcue.search.records import Summary

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
