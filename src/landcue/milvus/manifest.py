"""The manifest of a collection: what it holds, and how far a push has come.

It lies in a second collection of pairs of a name and a text: ``head`` names the current revision,
``piece/…`` are the parts of its description, ``tile/…`` the id ranges that were written completely.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, cast

import numpy as np

from landcue.archive.manifest import Manifest, manifest_text, parse_manifest
from landcue.codes.hashers import Hasher
from landcue.errors import ArchiveError
from landcue.milvus.expressions import one_of, starts
from landcue.milvus.layout import MOST_BYTES, Layout
from landcue.milvus.link import Link, missing
from landcue.milvus.tiling import Tile, digest
from landcue.search.ann import AnnFacts
from landcue.search.summary import Summary

COMPLETE, PUSHING = "complete", "pushing"


@dataclass(frozen=True, slots=True)
class Pushed:
    """The stored description of a collection.

    Attributes:
        manifest: Manifest of the archive.
        layout: Names and sizes of the collections.
        state: ``complete``, or ``pushing`` when the last push has not ended.
        source: The archive folder that was pushed.
        records: Number of records of the complete collection.
        version: Version of the archive that was pushed.
        names: Label names, in the order of their numbers.
        carried: The names that at least one record carries.
        patterns: The sets of predicted labels that occur, as packed bits in hex.
        sketcher: Makes sketches of embeddings.
        summary: Summary of all records.
        ann: Measurements of the approximate index.
        revision: Random identifier, new with every push that changed something.
    """

    manifest: Manifest
    layout: Layout
    state: str
    source: str
    records: int
    version: int
    names: tuple[str, ...]
    carried: tuple[str, ...]
    patterns: tuple[str, ...]
    sketcher: Hasher
    summary: Summary
    ann: AnnFacts | None = None
    revision: str = field(default_factory=lambda: secrets.token_hex(6))

    @property
    def mark(self) -> str:
        """A word for the content; a cursor belongs to one mark."""
        return f"{self.layout.name}-{self.revision}"

    def renewed(self, **changes: Any) -> Pushed:
        """Return a copy with changes and a new revision."""
        return replace(self, revision=secrets.token_hex(6), **changes)

    def to_text(self) -> str:
        """Return all of it as JSON in ASCII."""
        projection = self.sketcher.projection
        matrix = np.concatenate([self.sketcher.mean[:, None], cast("Any", projection)], axis=1)
        value = {one.name: getattr(self, one.name) for one in fields(self)}
        value["manifest"] = manifest_text(self.manifest)
        value["layout"] = asdict(self.layout)
        value["sketcher"] = base64.b64encode(matrix.astype("<f8").tobytes()).decode()
        value["summary"] = asdict(self.summary)
        value["ann"] = None if self.ann is None else self.ann.to_json()
        return json.dumps(value)

    @classmethod
    def from_text(cls, text: str, where: str) -> Pushed:
        """Parse the result of :meth:`to_text`; errors name ``where``.

        Raises:
            ArchiveError: It is broken.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            value = {one.name: found[one.name] for one in fields(cls)}
            layout = value["layout"] = Layout.from_json(value["layout"])
            shape = layout.dim, 1 + layout.sketch_bits
            matrix = np.frombuffer(base64.b64decode(value["sketcher"]), "<f8").reshape(shape)
            value["sketcher"] = Hasher("sketch", matrix[:, 0], matrix[:, 1:])
            value["manifest"] = parse_manifest(value["manifest"], cast("Any", where))
            value["summary"] = Summary.from_json(value["summary"])
            value["ann"] = None if value["ann"] is None else AnnFacts.from_json(value["ann"])
            for name in ("names", "carried", "patterns"):
                value[name] = tuple(value[name])
            return cls(**value)
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(
                f"{where} is damaged ({error}): drop the collection and push the archive again"
            ) from None


FORMAT = 1

_KEY, _VALUE, _NOTHING = "name", "value", "nothing"
_HEAD = "head"
_PIECE = 60_000


class ManifestStore:
    """The manifest collection of an address."""

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
        pieces = self._texts(starts(_KEY, f"piece/{head['revision']}/"))
        text = "".join(pieces[name] for name in sorted(pieces))
        if digest(text) != head["checksum"]:
            raise ArchiveError(
                f"{link.address}: its manifest is damaged (its checksum differs): drop the "
                "collection and push the archive again"
            )
        return Pushed.from_text(text, str(link.address))

    def head(self, *, now: bool) -> dict[str, Any] | None:
        """Return the current format, revision and checksum, if there are any.

        Without ``now``, a very recent change may be missed.
        """
        rows = self._link.query(self.name, one_of(_KEY, [_HEAD]), [_VALUE], now=now)
        return json.loads(rows[0][_VALUE]) if rows else None

    def write(self, pushed: Pushed) -> None:
        """Replace the description atomically."""
        new = not self._link.has(self.name)
        if new:
            self._make()
        text = pushed.to_text()
        mine = f"piece/{pushed.revision}/"
        for number, at in enumerate(range(0, len(text), _PIECE)):
            self._put(f"{mine}{number:06}", text[at : at + _PIECE])
        head = {"format": FORMAT, "revision": pushed.revision, "checksum": digest(text)}
        self._put(_HEAD, json.dumps(head))
        if new:
            return
        self._link.load(self.name)
        old = [name for name in self._texts(starts(_KEY, "piece/")) if not name.startswith(mine)]
        self._link.delete(self.name, old, _KEY)

    def tiles(self) -> dict[str, Tile]:
        """Return the id ranges that were written completely, by their first ids."""
        self._link.load(self.name)
        noted = self._texts(starts(_KEY, "tile/")).values()
        return {tile.first: tile for tile in (Tile(**json.loads(text)) for text in noted)}

    def put_tile(self, tile: Tile) -> None:
        """Record that an id range was written completely."""
        self._put(_tile_key(tile.first), json.dumps(asdict(tile)))

    def forget_checksums(self, firsts: Sequence[str]) -> None:
        """Remove the records of id ranges."""
        self._link.delete(self.name, [_tile_key(first) for first in firsts], _KEY)

    def _make(self) -> None:
        link, kinds = self._link, self._link.kinds
        schema = link.new_schema()
        schema.add_field(_KEY, kinds.VARCHAR, is_primary=True, max_length=512)
        schema.add_field(_VALUE, kinds.VARCHAR, max_length=MOST_BYTES)
        schema.add_field(_NOTHING, kinds.FLOAT_VECTOR, dim=2)  # a collection must have a vector
        link.create(self.name, schema, _NOTHING, index_type="FLAT", metric_type="L2", params={})
        link.load(self.name, wait=False)

    def _put(self, name: str, text: str) -> None:
        row = {_KEY: [name], _VALUE: [text], _NOTHING: [[0.0, 0.0]]}
        self._link.upsert(self.name, row)

    def _texts(self, where: str) -> dict[str, str]:
        pages = self._link.pages(self.name, where, [_VALUE], key=_KEY, now=True)
        return {str(row[_KEY]): str(row[_VALUE]) for page in pages for row in page}


def read_pushed(link: Link, *, complete: bool = False) -> Pushed:
    """Return the description of a collection.

    Raises:
        ArchiveError: There is none; or its push has not ended and ``complete`` is set.
    """
    found = ManifestStore(link).read()
    if found is None:
        raise missing(link.address)
    if complete and found.state != COMPLETE:
        raise ArchiveError(
            f"{link.address} is pushed in part: run 'landcue archive push {found.source} "
            f"{link.address}' to continue"
        )
    return found


def _tile_key(first: str) -> str:
    return f"tile/{digest(first)}"
