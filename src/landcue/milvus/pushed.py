"""What a collection knows of itself: the archive's manifest, and how far a push came."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import numpy as np

from landcue.archive.manifest import Manifest, manifest_text, parse_manifest
from landcue.codes.unlearned import Hasher
from landcue.errors import ArchiveError
from landcue.milvus.expressions import one_of, quoted, starts
from landcue.milvus.layout import MANIFEST_KEY, Layout, make_manifest, manifest_name
from landcue.milvus.link import Link, missing
from landcue.milvus.summary import Summary
from landcue.search.ann import AnnFacts

FORMAT = 1
COMPLETE, PUSHING = "complete", "pushing"

_HEAD = "head"
_PIECE = 60_000
_NOTHING = [0.0, 0.0]


@dataclass(frozen=True, slots=True)
class Pushed:
    """What is known of a collection.

    Attributes:
        manifest: Of the archive.
        layout: Of the collections.
        state: ``complete``, or ``pushing`` when the last push has not ended.
        source: The archive folder that was pushed.
        records: In the collection when it was complete.
        version: Of the archive that was pushed.
        names: Of labels, in the order of their numbers.
        carried: Of them, those that some record carries.
        patterns: The sets of predicted labels that occur, as packed bits in hex.
        sketcher: Makes sketches of embeddings.
        summary: Of all records.
        ann: What was measured of the approximate index.
        revision: A new word with every push that changed something.
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

    def renewed(self, **changes: Any) -> Pushed:
        """Return this with changes and a new revision."""
        return replace(self, revision=secrets.token_hex(6), **changes)

    def to_text(self) -> str:
        """Return all of it as JSON in ASCII."""
        projection = self.sketcher.projection
        matrix = np.concatenate([self.sketcher.mean[:, None], cast("Any", projection)], axis=1)
        value = {
            "manifest": manifest_text(self.manifest),
            "layout": self.layout.to_json(),
            "state": self.state,
            "source": self.source,
            "records": self.records,
            "version": self.version,
            "names": self.names,
            "carried": self.carried,
            "patterns": self.patterns,
            "sketcher": base64.b64encode(matrix.astype("<f8").tobytes()).decode(),
            "summary": asdict(self.summary),
            "ann": None if self.ann is None else self.ann.to_json(),
            "revision": self.revision,
        }
        return json.dumps(value)

    @classmethod
    def from_text(cls, text: str, where: str) -> Pushed:
        """Read what :meth:`to_text` gave; ``where`` is named in errors.

        Raises:
            ArchiveError: It is broken.
        """
        try:
            value: dict[str, Any] = json.loads(text)
            layout = Layout.from_json(value["layout"])
            data = base64.b64decode(value["sketcher"])
            matrix = np.frombuffer(data, "<f8").reshape(layout.dim, 1 + layout.sketch_bits)
            ann = value["ann"]
            return cls(
                manifest=parse_manifest(value["manifest"], cast("Any", where)),
                layout=layout,
                state=str(value["state"]),
                source=str(value["source"]),
                records=int(value["records"]),
                version=int(value["version"]),
                names=tuple(value["names"]),
                carried=tuple(value["carried"]),
                patterns=tuple(value["patterns"]),
                sketcher=Hasher("sketch", matrix[:, 0], matrix[:, 1:]),
                summary=Summary.from_json(value["summary"]),
                ann=None if ann is None else AnnFacts.from_json(ann),
                revision=str(value["revision"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(
                f"{where} is damaged ({error}): drop the collection and push the archive again"
            ) from None


class ManifestStore:
    """The collection of facts beside the collections of records."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._name = manifest_name(link.address.collection)

    def read(self) -> Pushed | None:
        """Return what is known; ``None`` if nothing was ever pushed here.

        Raises:
            ArchiveError: It is damaged, of another format, or there is a collection of this name
                that LandCue did not make.
        """
        link = self._link
        if not link.has(self._name):
            if link.has(link.address.collection):
                raise ArchiveError(
                    f"{link.address} was not made by LandCue (it has no {self._name}): choose "
                    "another name"
                )
            return None
        link.load(self._name)
        head = self._values(one_of(MANIFEST_KEY, [_HEAD])).get(_HEAD)
        if head is None:
            return None
        known = json.loads(head)
        if known.get("format") != FORMAT:
            raise ArchiveError(
                f"{link.address} has format {known.get('format')!r}, this LandCue reads {FORMAT}: "
                "use the LandCue version that pushed it, or push into another collection"
            )
        pieces = self._values(starts(MANIFEST_KEY, f"piece/{known['revision']}/"))
        text = "".join(pieces[key] for key in sorted(pieces))
        if _digest(text) != known["checksum"]:
            raise ArchiveError(
                f"{link.address}: its manifest is damaged (its checksum differs): drop the "
                "collection and push the archive again"
            )
        return Pushed.from_text(text, str(link.address))

    def write(self, pushed: Pushed) -> None:
        """Replace what is known, all of it at once."""
        new = not self._link.has(self._name)
        if new:
            make_manifest(self._link)
        text = pushed.to_text()
        key = f"piece/{pushed.revision}/"
        pieces = {
            f"{key}{at // _PIECE:06}": text[at : at + _PIECE] for at in range(0, len(text), _PIECE)
        }
        self._put(pieces)
        head = {"format": FORMAT, "revision": pushed.revision, "checksum": _digest(text)}
        self._put({_HEAD: json.dumps(head)})
        if new:
            return
        self._link.load(self._name)
        old = self._values(starts(MANIFEST_KEY, "piece/"), fields=())
        self._link.delete(
            self._name, [name for name in old if not name.startswith(key)], MANIFEST_KEY
        )

    def tiles(self) -> dict[str, Tile]:
        """Return the id ranges that were written whole, by their first ids."""
        self._link.load(self._name)
        found: dict[str, Tile] = {}
        for rows in self._pages(starts(MANIFEST_KEY, "tile/")):
            for row in rows:
                tile = Tile(**json.loads(row["value"]))
                found[tile.first] = tile
        return found

    def note(self, tile: Tile) -> None:
        """Note that an id range was written whole."""
        value = {"first": tile.first, "rows": tile.rows, "digest": tile.digest}
        self._put({_tile_key(tile.first): json.dumps(value)})

    def forget(self, firsts: list[str]) -> None:
        """Forget id ranges."""
        self._link.delete(self._name, [_tile_key(first) for first in firsts], MANIFEST_KEY)

    def _put(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            row = {MANIFEST_KEY: [name], "value": [value], "nothing": [_NOTHING]}
            self._link.upsert(self._name, row)

    def _values(self, where: str, fields: tuple[str, ...] = ("value",)) -> dict[str, str]:
        rows = [row for page in self._pages(where, fields) for row in page]
        return {str(row[MANIFEST_KEY]): str(row.get("value", "")) for row in rows}

    def _pages(
        self, where: str, fields: tuple[str, ...] = ("value",)
    ) -> Iterator[list[dict[str, Any]]]:
        return self._link.pages(self._name, where, fields, key=MANIFEST_KEY, now=True)


@dataclass(frozen=True, slots=True)
class Tile:
    """A range of ids whose records were written whole.

    Attributes:
        first: No id in it comes before this; it reaches to the next range.
        rows: Records in it.
        digest: Of their ids and stamps.
    """

    first: str
    rows: int
    digest: str

    @classmethod
    def of(cls, first: str, ids: list[str], stamps: list[str]) -> Tile:
        """Describe records in the order of their ids."""
        return cls(first, len(ids), _digest(json.dumps([ids, stamps])))


def between(first: str | None, last: str | None) -> str:
    """Return the expression that an id is at least ``first`` and before ``last``."""
    low = 'id >= ""' if first is None else f"id >= {quoted(first)}"
    return low if last is None else f"{low} and id < {quoted(last)}"


def open_pushed(link: Link) -> Pushed:
    """Return what is known of a collection that can be searched.

    Raises:
        ArchiveError: There is none, or its push has not ended.
    """
    found = ManifestStore(link).read()
    if found is None:
        raise missing(link.address)
    if found.state != COMPLETE:
        raise ArchiveError(
            f"{link.address} is pushed in part: run 'landcue archive push {found.source} "
            f"{link.address}' to go on"
        )
    return found


def _tile_key(first: str) -> str:
    return f"tile/{hashlib.blake2b(first.encode(), digest_size=12).hexdigest()}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
