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
from dataclasses import asdict, dataclass
from typing import Any

from landcue.errors import ArchiveError
from landcue.milvus.link import Link

INDEXES = ("flat", "ivf")
"""Of embeddings: all compared, or a part of them chosen by lists (mode ``ann``)."""

MOST_BYTES = 65_535
"""Of one string; also why thumbnails stay out."""

NO_TIME = -(2**62)
"""A time where none is known, before all others."""

NOWHERE = 999.0
"""A latitude where no footprint is known, north of everything."""

MANIFEST_KEY = "name"
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
        for name, size in longest.items():
            most = _MOST_ITEMS if name == "labels" else MOST_BYTES
            if size > most:
                what = "labels" if name == "labels" else "bytes"
                raise ArchiveError(
                    f"the longest {name} has {size:,} {what}, Milvus holds {most:,}: shorten it"
                )
        sizes = {
            name: min(_MOST_ITEMS if name == "labels" else MOST_BYTES, _roomy(size, name))
            for name, size in longest.items()
        }
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

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Layout:
        """Read what :meth:`to_json` gave."""
        known: dict[str, Any] = {**value, "room": Room(**value["room"])}
        return cls(**known)


def manifest_name(collection: str) -> str:
    """Return the collection that says what an archive in ``collection`` is."""
    return f"{collection}_manifest"


def make_manifest(link: Link) -> None:
    """Make the collection of facts, which are pairs of a name and a text."""
    kinds, client = _kinds(), link.client
    with link.talking("making the manifest"):
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(MANIFEST_KEY, kinds.VARCHAR, is_primary=True, max_length=512)
        schema.add_field("value", kinds.VARCHAR, max_length=MOST_BYTES)
        schema.add_field("nothing", kinds.FLOAT_VECTOR, dim=2)  # a collection must have a vector
        _create(link, manifest_name(link.address.collection), schema, "nothing", "FLAT", "L2", {})
        client.load_collection(manifest_name(link.address.collection), _async=True)


def make_collections(link: Link, layout: Layout) -> None:
    """Make the collections of records that are not there yet."""
    binary = {"index": "BIN_FLAT", "metric": "HAMMING"}
    inner: dict[str, Any] = {"index": "FLAT", "metric": "IP"}
    if layout.index == "ivf":
        inner = {"index": "IVF_FLAT", "metric": "IP", "parameters": {"nlist": layout.lists}}
    kinds = _kinds()
    vectors: dict[str, tuple[str, Any, int, dict[str, Any]]] = {
        layout.name: ("embedding", kinds.FLOAT_VECTOR, layout.dim, inner),
        layout.sketch: ("sketch", kinds.BINARY_VECTOR, layout.sketch_bits, binary),
        layout.code: ("code", kinds.BINARY_VECTOR, -(-layout.n_bits // 8) * 8, binary),
    }
    for name in layout.names:
        if link.has(name):
            continue
        field, kind, width, index = vectors[name]
        with link.talking(f"making {name}"):
            schema = _filter_fields(link.client, kinds, layout)
            schema.add_field(field, kind, dim=width)
            if name == layout.name:
                schema.add_field("record", kinds.VARCHAR, max_length=layout.room.record)
            parameters = index.get("parameters", {})
            _create(link, name, schema, field, index["index"], index["metric"], parameters)


def _filter_fields(client: Any, kinds: Any, layout: Layout) -> Any:
    room = layout.room
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=room.id)
    schema.add_field("stamp", kinds.VARCHAR, max_length=64)
    schema.add_field("known", kinds.BOOL)
    schema.add_field("labels", kinds.ARRAY, element_type=kinds.INT64, max_capacity=room.labels)
    if layout.n_labels:
        width = layout.n_labels
        schema.add_field("scores", kinds.ARRAY, element_type=kinds.FLOAT, max_capacity=width)
        schema.add_field("cue", kinds.VARCHAR, max_length=2 * -(-width // 8))
    for side in ("west", "south", "east", "north"):
        schema.add_field(side, kinds.DOUBLE)
    schema.add_field("time", kinds.INT64)
    schema.add_field("path", kinds.VARCHAR, max_length=room.path)
    for text in ("group", "sensor", "part"):
        schema.add_field(text, kinds.VARCHAR, max_length=room.text)
    return schema


def _create(
    link: Link,
    name: str,
    schema: Any,
    field: str,
    index: str,
    metric: str,
    parameters: dict[str, Any],
) -> None:
    wanted = link.client.prepare_index_params()
    wanted.add_index(field, index_type=index, metric_type=metric, params=parameters)
    link.client.create_collection(name, schema=schema)
    link.client.create_index(name, wanted, sync=False)  # there is nothing to wait for yet


def _roomy(size: int, name: str) -> int:
    """Return twice the size, rounded up to a power of two."""
    return max(16 if name == "labels" else 64, 1 << max(0, 2 * size - 1).bit_length())


def _kinds() -> Any:
    from landcue.milvus.link import load_pymilvus

    return load_pymilvus().DataType
