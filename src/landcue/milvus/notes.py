"""The manifest collection: describes the collections of records and the progress of a push.

It holds pairs of a name and a string: ``head`` names the current revision, ``piece/…`` are the
parts of its description, ``tile/…`` the ranges of ids that were written completely.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from landcue.errors import ArchiveError
from landcue.milvus.expressions import one_of, starts
from landcue.milvus.failures import missing
from landcue.milvus.layout import MOST_BYTES
from landcue.milvus.link import Link
from landcue.milvus.pushed import COMPLETE, Pushed
from landcue.milvus.tiling import Tile, digest

FORMAT = 1

_KEY, _VALUE, _NOTHING = "name", "value", "nothing"
_HEAD = "head"
_PIECE = 60_000


class Notes:
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

    def note(self, tile: Tile) -> None:
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
    found = Notes(link).read()
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
