"""The collections that hold one archive, and their fields.

Milvus holds one vector a row until version 2.4, so the embeddings, the hash codes and the sketches
of an archive lie in collections of their own, each with the fields that filters need:

* ``NAME``: embeddings, and all that is told of a record;
* ``NAME_code``: hash codes, if the model makes them;
* ``NAME_sketch``: short binary sketches of the embeddings, for two-stage searches;
* ``NAME_manifest``: what the archive is, and how far a push came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from landcue.errors import ArchiveError

INDEXES = ("flat", "ivf")
"""Of embeddings: all compared, or a part of them chosen by lists (mode ``ann``)."""

MOST_BYTES = 65_535
"""Of one string; also why thumbnails stay out."""

NO_TIME = -(2**62)
"""A time where none is known, before all others."""

NOWHERE = 999.0
"""A latitude where no footprint is known, north of everything."""

_MOST_ITEMS = 4_096


@dataclass(frozen=True, slots=True)
class Room:
    """How large the values of a collection may be; Milvus plans its segments by this.

    Attributes:
        id: Bytes of an id.
        path: Bytes of a path.
        text: Bytes of a group or sensor.
        record: Bytes of all that is told of a record.
        labels: Labels of a record.
    """

    id: int
    path: int
    text: int
    record: int
    labels: int

    @classmethod
    def of(cls, longest: Mapping[str, int]) -> Room:
        """Leave room beyond the longest values there are.

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
                    f"the longest {name} has {size:,} {what}, Milvus holds {most:,}: shorten it"
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
        name: Of the collection of embeddings.
        dim: Length of an embedding.
        n_bits: Of a code; 0 without.
        n_labels: Scores of a record.
        sketch_bits: Of a sketch.
        index: One of :data:`INDEXES`.
        lists: Of the index ``ivf``; 0 of ``flat``.
        room: How large values may be.
    """

    name: str
    dim: int
    n_bits: int
    n_labels: int
    sketch_bits: int
    index: str
    lists: int
    room: Room

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
        """Read what ``asdict`` gave."""
        known: dict[str, Any] = {**value, "room": Room(**value["room"])}
        return cls(**known)
