"""The collections that hold one archive, and their fields.

Milvus before version 2.4 holds one vector per row, so the embeddings, the hash codes and the
sketches of an archive are in separate collections, each with the fields that filters need:

* ``NAME``: embeddings, and each record as JSON;
* ``NAME_code``: hash codes, if the model makes them;
* ``NAME_sketch``: short binary sketches of the embeddings, for two-stage searches;
* ``NAME_manifest``: the manifest of the archive, and the progress of a push.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from landcue.errors import ArchiveError

INDEXES = ("flat", "ivf")
"""Indexes of embeddings: compare all, or the embeddings of some lists (mode ``ann``)."""

MOST_BYTES = 65_535
"""Longest string in bytes; thumbnails would not fit."""

NO_TIME = -(2**62)
"""The stored time of a record without one; earlier than all others."""

NOWHERE = 999.0
"""The stored latitude of a record without a footprint; north of everything."""

_MOST_ITEMS = 4_096


@dataclass(frozen=True, slots=True)
class FieldLimits:
    """Maximum sizes of the values of a collection; Milvus plans its segments by them.

    Attributes:
        id: Bytes of an id.
        path: Bytes of a path.
        text: Bytes of a group or sensor.
        record: Bytes of a record as JSON.
        labels: Labels of a record.
    """

    id: int
    path: int
    text: int
    record: int
    labels: int

    @classmethod
    def of(cls, longest: Mapping[str, int]) -> FieldLimits:
        """Return limits above the sizes of the longest values.

        Raises:
            ArchiveError: A value is longer than Milvus allows.
        """
        sizes: dict[str, int] = {}
        for name, size in longest.items():
            least, most, what = 64, MOST_BYTES, "bytes"
            if name == "labels":
                least, most, what = 16, _MOST_ITEMS, "labels"
            if size > most:
                raise ArchiveError(
                    f"the longest {name} has {size:,} {what}, Milvus allows {most:,}: shorten it"
                )
            twice = 1 << max(0, 2 * size - 1).bit_length()  # rounded up to a power of two
            sizes[name] = min(most, max(least, twice))
        return cls(**sizes)

    def fits(self, longest: Mapping[str, int]) -> str | None:
        """Return the name of a value that is too large, or ``None``."""
        return next((name for name, size in longest.items() if size > getattr(self, name)), None)


@dataclass(frozen=True, slots=True)
class Layout:
    """The collections of one archive.

    Attributes:
        name: Name of the collection of embeddings.
        dim: Length of an embedding.
        n_bits: Bits of a code; 0 without codes.
        n_labels: Number of scores of a record.
        sketch_bits: Bits of a sketch.
        index: One of :data:`INDEXES`.
        lists: Number of lists of index ``ivf``; 0 for ``flat``.
        room: Maximum sizes of values.
    """

    name: str
    dim: int
    n_bits: int
    n_labels: int
    sketch_bits: int
    index: str
    lists: int
    room: FieldLimits

    @property
    def code(self) -> str:
        """Name of the collection of codes."""
        return f"{self.name}_code"

    @property
    def sketch(self) -> str:
        """Name of the collection of sketches."""
        return f"{self.name}_sketch"

    @property
    def names(self) -> tuple[str, ...]:
        """The collections that hold records, in the order they are written."""
        return (self.sketch, *((self.code,) if self.n_bits else ()), self.name)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Layout:
        """Parse the result of ``asdict``."""
        known: dict[str, Any] = {**value, "room": FieldLimits(**value["room"])}
        return cls(**known)
