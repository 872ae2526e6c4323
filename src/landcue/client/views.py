"""What a service shows of an archive's records: facets, a map, similar regions, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from landcue.client.results import Box, read_box, read_time

Grid = tuple[tuple[float, ...], ...]
"""Numbers by location: rows from the top, columns from the left, over a whole image."""


@dataclass(frozen=True, slots=True)
class ValueCount:
    """How many records have a value.

    Attributes:
        name: The value.
        records: That have it.
    """

    name: str
    records: int

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> ValueCount:
        """Read one of an answer's values."""
        return cls(value["name"], value["records"])


@dataclass(frozen=True, slots=True)
class Facets:
    """What the records of an archive can be filtered by.

    Attributes:
        archive: By name.
        modes: That it answers; ``ann`` only where its index was built.
        groups: Those of most records first, as are the next two.
        sensors: What took the images.
        parts: ``train``, ``val`` and ``test``, where records belong to them.
        time: The first and the last acquisition time, UTC; ``None`` if none is known.
        bounds: Of all footprints; ``None`` if none is known.
        examples: Some ids, spread evenly over all of them.
    """

    archive: str
    modes: tuple[str, ...]
    groups: tuple[ValueCount, ...]
    sensors: tuple[ValueCount, ...]
    parts: tuple[ValueCount, ...]
    time: tuple[datetime, datetime] | None
    bounds: Box | None
    examples: tuple[str, ...]

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Facets:
        """Read an answer."""
        first, last = map(read_time, value["time"] or (None, None))
        return cls(
            archive=value["archive"],
            modes=tuple(value["modes"]),
            groups=tuple(map(ValueCount.read, value["groups"])),
            sensors=tuple(map(ValueCount.read, value["sensors"])),
            parts=tuple(map(ValueCount.read, value["parts"])),
            time=None if first is None or last is None else (first, last),
            bounds=read_box(value["bounds"]),
            examples=tuple(value["examples"]),
        )


@dataclass(frozen=True, slots=True)
class MapPoint:
    """A record on a map of embeddings.

    Attributes:
        id: Of the record.
        x: Along the first principal component.
        y: Along the second.
        kind: What it is colored by.
    """

    id: str
    x: float
    y: float
    kind: str


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """A sample of an archive, laid out by two principal components of its embeddings.

    Attributes:
        archive: By name.
        records: How many it holds.
        shares: Of the variance, 0..1, that each component holds.
        colored_by: What kinds are: groups or labels.
        kinds: All of them, frequent first.
        points: The sample.
    """

    archive: str
    records: int
    shares: tuple[float, float]
    colored_by: str
    kinds: tuple[str, ...]
    points: tuple[MapPoint, ...]

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> EmbeddingMap:
        """Read an answer."""
        first, second = value["shares"]
        kinds = tuple(value["kinds"])
        places = zip(value["ids"], value["x"], value["y"], value["kind"], strict=True)
        return cls(
            archive=value["archive"],
            records=value["records"],
            shares=(first, second),
            colored_by=value["colored_by"],
            kinds=kinds,
            points=tuple(MapPoint(id_, x, y, kinds[kind]) for id_, x, y, kind in places),
        )


@dataclass(frozen=True, slots=True)
class RegionGrid:
    """Values by location of an image.

    Attributes:
        parts: What each location adds to the similarity, which is their mean for models of
            average pooling and linear layers.
        cosines: Of each location by itself, -1..1.
    """

    parts: Grid
    cosines: Grid

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> RegionGrid:
        """Read a part of an answer."""
        return cls(_grid(value["parts"]), _grid(value["cosines"]))


@dataclass(frozen=True, slots=True)
class Regions:
    """Where a record and a query are alike: an aid to explain a hit, not a segmentation.

    Attributes:
        archive: That the record belongs to.
        id: Of the record.
        similarity: Cosine of record and query, -1..1.
        record: Over the record's image.
        query: Over the query's; ``None`` unless it is one image that is at hand.
    """

    archive: str
    id: str
    similarity: float
    record: RegionGrid
    query: RegionGrid | None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Regions:
        """Read an answer."""
        query = value["query"]
        return cls(
            archive=value["archive"],
            id=value["id"],
            similarity=value["similarity"],
            record=RegionGrid.read(value["record"]),
            query=None if query is None else RegionGrid.read(query),
        )


def _grid(rows: Sequence[Sequence[float]]) -> Grid:
    return tuple(tuple(row) for row in rows)
