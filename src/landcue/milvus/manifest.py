"""The description of a collection, and where it is stored.

Milvus before version 2.4 holds one vector per row, so an archive is several collections, each with
the fields that filters need: ``NAME`` with the embeddings, each followed by its label probabilities
so that one collection ranks by both, and each record as JSON, ``NAME_code``
with hash codes, ``NAME_sketch`` with sketches for two-stage searches. ``NAME_manifest`` holds pairs
of a name and a text: ``head`` names the current revision, ``piece/…`` are the parts of its JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, cast

import numpy as np

from landcue.archive.manifest import Manifest, manifest_text, parse_manifest
from landcue.codes.hashers import Hasher
from landcue.errors import ArchiveError
from landcue.milvus.link import Link, missing, one_of, starts
from landcue.search.exact import AnnFacts
from landcue.search.fusion import Fusion
from landcue.search.records import Summary

COMPLETE, PUSHING = "complete", "pushing"
FORMAT = 4

INDEXES = ("flat", "ivf")
"""Indexes of embeddings: compare all, or the embeddings of some lists (mode ``ann``)."""

LABEL_SCALE = 1 / 64
"""Factor of stored label probabilities, so that the lists of an index follow the embeddings.

A power of two: it rounds nothing.
"""

MOST_BYTES = 65_535
"""Longest string in bytes; thumbnails would not fit."""

_PIECE = 60_000


@dataclass(frozen=True, slots=True)
class Pushed:
    """The stored description of a collection.

    Attributes:
        name: Name of the collection of embeddings.
        manifest: Manifest of the archive.
        state: ``complete``, or ``pushing`` when the last push has not ended.
        source: The archive folder that was pushed.
        records: Number of records of the complete collection.
        version: Version of the archive that was pushed.
        names: Label names, in the order of their numbers.
        carried: The names that at least one record carries.
        patterns: The sets of predicted labels that occur, as packed bits in hex.
        sketcher: Makes sketches of embeddings.
        summary: Summary of all records.
        index: One of :data:`INDEXES`.
        lists: Number of lists of index ``ivf``; 0 for ``flat``.
        ann: Measurements of the approximate index.
        fusion: Measured weight of labels in mode ``fused``; ``None`` without a label head.
        revision: Random identifier, new with every push that changed something.
    """

    name: str
    manifest: Manifest
    state: str
    source: str
    records: int
    version: int
    names: tuple[str, ...]
    carried: tuple[str, ...]
    patterns: tuple[str, ...]
    sketcher: Hasher
    summary: Summary
    index: str = INDEXES[0]
    lists: int = 0
    ann: AnnFacts | None = None
    fusion: Fusion | None = None
    revision: str = field(default_factory=lambda: secrets.token_hex(6))

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

    def renewed(self, **changes: Any) -> Pushed:
        """Return a copy with changes and a new revision."""
        return replace(self, revision=secrets.token_hex(6), **changes)

    def to_text(self) -> str:
        """Return all of it as JSON in ASCII."""
        value = {one.name: getattr(self, one.name) for one in fields(self)}
        projection = cast("Any", self.sketcher.projection)
        matrix = np.concatenate([self.sketcher.mean[:, None], projection], axis=1)
        value["sketcher"] = base64.b64encode(matrix.astype("<f8").tobytes()).decode()
        value["manifest"] = manifest_text(self.manifest)
        value["summary"] = asdict(self.summary)
        value["ann"] = None if self.ann is None else self.ann.to_json()
        value["fusion"] = None if self.fusion is None else self.fusion.to_json()
        return json.dumps(value)

    @classmethod
    def from_text(cls, text: str, where: str) -> Pushed:
        """Parse the result of :meth:`to_text`; errors name ``where``."""
        try:
            found: dict[str, Any] = json.loads(text)
            value = {one.name: found[one.name] for one in fields(cls)}
            manifest = value["manifest"] = parse_manifest(value["manifest"], cast("Any", where))
            numbers = np.frombuffer(base64.b64decode(value["sketcher"]), "<f8")
            matrix = numbers.reshape(manifest.dim, -1)
            value["sketcher"] = Hasher("sketch", matrix[:, 0], matrix[:, 1:])
            value["summary"] = Summary.from_json(value["summary"])
            value["ann"] = None if value["ann"] is None else AnnFacts.from_json(value["ann"])
            fusion = value["fusion"]
            value["fusion"] = None if fusion is None else Fusion.from_json(fusion)
            for name in ("names", "carried", "patterns"):
                value[name] = tuple(value[name])
            return cls(**value)
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(
                f"{where} is damaged ({error}): drop the collection and push the archive again"
            ) from None


class ManifestStore:
    """The collection that holds the description of an address."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.name = f"{link.address.collection}_manifest"

    def read(self) -> Pushed | None:
        """Return the description; ``None`` if nothing was ever pushed here.

        Raises:
            ArchiveError: It is damaged, of another format, or there is a collection of this name
                that LandCue did not make.
        """
        link = self._link
        if not link.has(self.name):
            if link.has(link.address.collection):
                raise ArchiveError(
                    f"{link.address} was not made by LandCue (it has no {self.name}): choose "
                    "another name"
                )
            return None
        link.load(self.name)
        head = self.head(now=True)
        if head is None:
            return None
        if head.get("format") != FORMAT:
            raise ArchiveError(
                f"{link.address} has format {head.get('format')!r}, this LandCue reads {FORMAT}: "
                "use the LandCue version that pushed it, or push into another collection"
            )
        pieces = self._texts(starts("name", f"piece/{head['revision']}/"))
        text = "".join(pieces[name] for name in sorted(pieces))
        if _digest(text) != head["checksum"]:
            raise ArchiveError(
                f"{link.address}: its manifest is damaged (its checksum differs): drop the "
                "collection and push the archive again"
            )
        return Pushed.from_text(text, str(link.address))

    def head(self, *, now: bool) -> dict[str, Any] | None:
        """Return the current format, revision and checksum, if there are any.

        Without ``now``, a very recent change may be missed.
        """
        rows = self._link.query(self.name, one_of("name", ["head"]), ["value"], now=now)
        return json.loads(rows[0]["value"]) if rows else None

    def write(self, pushed: Pushed) -> None:
        """Replace the description atomically."""
        link, new = self._link, not self._link.has(self.name)
        if new:
            text = {"datatype": link.types.VARCHAR}
            fields = (
                {"field_name": "name", "is_primary": True, "max_length": 512, **text},
                {"field_name": "value", "max_length": MOST_BYTES, **text},
                # a collection must have a vector
                {"field_name": "nothing", "datatype": link.types.FLOAT_VECTOR, "dim": 2},
            )
            link.create(self.name, fields, index_type="FLAT", metric_type="L2", params={})
            link.load(self.name, wait=False)
        text, mine = pushed.to_text(), f"piece/{pushed.revision}/"
        for number, at in enumerate(range(0, len(text), _PIECE)):
            self._put(f"{mine}{number:06}", text[at : at + _PIECE])
        head = {"format": FORMAT, "revision": pushed.revision, "checksum": _digest(text)}
        self._put("head", json.dumps(head))
        if not new:
            link.load(self.name)
            old = [name for name in self._texts(starts("name", "piece/")) if mine not in name]
            link.delete(self.name, old, "name")

    def _put(self, name: str, text: str) -> None:
        self._link.write(self.name, [{"name": name, "value": text, "nothing": [0.0, 0.0]}])

    def _texts(self, where: str) -> dict[str, str]:
        pages = self._link.pages(self.name, where, ["value"], key="name", now=True)
        return {str(row["name"]): str(row["value"]) for page in pages for row in page}


def read_pushed(link: Link, *, complete: bool = False) -> Pushed:
    """Return the description of a collection."""
    found = ManifestStore(link).read()
    if found is None:
        raise missing(link.address)
    if complete and found.state != COMPLETE:
        raise ArchiveError(
            f"{link.address} is pushed in part: run 'landcue archive push {found.source} "
            f"{link.address}' to continue"
        )
    return found


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
