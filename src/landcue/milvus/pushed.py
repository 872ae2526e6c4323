"""The stored description of a collection: the manifest of its archive, and facts of the push."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, cast

import numpy as np

from landcue.archive.manifest import Manifest, manifest_text, parse_manifest
from landcue.codes.hashers import Hasher
from landcue.errors import ArchiveError
from landcue.milvus.layout import Layout
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
