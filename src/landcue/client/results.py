"""What a service answers, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees; west > east crosses 180."""

Window = tuple[int, int, int, int]
"""Column, row, width, height in pixels of a scene."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that was found.

    Attributes:
        id: Of the record.
        distance: Smaller is nearer; of which kind depends on the mode of the search.
        score: Larger is nearer; at most 1.
        labels: As annotated, or as predicted where nobody annotated.
        shared: Those that the query has too.
        bounds: Footprint.
        footprint: Its corners (longitude, latitude), if known.
        window: The pixels of a scene that make the record; ``None`` for a whole image.
        time: Acquisition time, UTC.
        sensor: What took the image.
        group: What the image was drawn from.
        near: Near duplicates left out in its favor.
        predicted: Labels by the model; ``None`` where the search did not ask for them.
    """

    id: str
    distance: float
    score: float
    labels: tuple[str, ...]
    shared: tuple[str, ...]
    bounds: Box | None
    footprint: tuple[tuple[float, float], ...] | None
    window: Window | None
    time: datetime | None
    sensor: str | None
    group: str | None
    near: int
    predicted: tuple[str, ...] | None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Hit:
        """Read one of an answer's hits."""
        corners, predicted = value["footprint"], value.get("predicted")
        return cls(
            id=value["id"],
            distance=value["distance"],
            score=value["score"],
            labels=tuple(value["labels"]),
            shared=tuple(value["shared"]),
            bounds=read_box(value["bounds"]),
            footprint=None if corners is None else tuple((x, y) for x, y in corners),
            window=_window(value["window"]),
            time=read_time(value["time"]),
            sensor=value["sensor"],
            group=value["group"],
            near=value["near"],
            predicted=None if predicted is None else tuple(predicted),
        )


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Hits, nearest first; equal distances in the order of ids.

    Attributes:
        archive: That was searched.
        query: What was asked for.
        mode: That answered.
        hits: At most ``k``.
        labels: Of the query: annotated or predicted.
        cursor: Gives the next page; ``None`` on the last one.
        note: Why there is no hit, if there is none.
        plan: How the search went, with times.
    """

    archive: str
    query: str
    mode: str
    hits: tuple[Hit, ...]
    labels: tuple[str, ...]
    cursor: str | None
    note: str | None
    plan: Mapping[str, Any]

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> SearchPage:
        """Read an answer."""
        return cls(
            archive=value["archive"],
            query=value["query"],
            mode=value["mode"],
            hits=tuple(Hit.read(hit) for hit in value["hits"]),
            labels=tuple(value["labels"]),
            cursor=value["cursor"],
            note=value["note"],
            plan=value["plan"],
        )


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """What is known of a record.

    Attributes:
        archive: That it belongs to.
        id: Its id.
        labels: As annotated; ``None``: by nobody.
        predicted_labels: By the archive's model.
        bounds: Footprint.
        window: The pixels of a scene that make it; ``None`` for a whole image.
        time: Acquisition time, UTC.
        sensor: What took the image.
        group: What the image was drawn from.
        part: ``train``, ``val`` or ``test``, if the archive's model was trained on a split of it.
    """

    archive: str
    id: str
    labels: tuple[str, ...] | None
    predicted_labels: tuple[str, ...]
    bounds: Box | None
    window: Window | None
    time: datetime | None
    sensor: str | None
    group: str | None
    part: str | None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> FoundRecord:
        """Read an answer."""
        labels = value["labels"]
        return cls(
            archive=value["archive"],
            id=value["id"],
            labels=None if labels is None else tuple(labels),
            predicted_labels=tuple(value["predicted_labels"]),
            bounds=read_box(value["bounds"]),
            window=_window(value["window"]),
            time=read_time(value["time"]),
            sensor=value["sensor"],
            group=value["group"],
            part=value["part"],
        )


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How many records carry a label.

    Attributes:
        name: Of the label.
        annotated: Records that somebody gave it to.
        predicted: Records that the model gave it to.
        records: Annotated, or predicted where nobody annotated: what a filter finds.
    """

    name: str
    annotated: int
    predicted: int
    records: int

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> LabelCount:
        """Read one of an answer's labels."""
        return cls(value["name"], value["annotated"], value["predicted"], value["records"])


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """What an archive is and which model made it.

    Attributes:
        name: That requests call it by.
        records: How many it holds.
        version: Of its content.
        created: ISO 8601 UTC.
        updated: Likewise.
        stale: Whether a newer version lies there, which the service shows once it starts again.
        landcue: Version of LandCue that wrote it.
        fingerprint: SHA-256 of the model that made it.
        dim: Of embeddings.
        n_bits: Of hash codes.
        label_names: That its model predicts.
        metric: Of distances between embeddings.
        model: Name of that model, if known.
        encodes_images: Whether images can be searched with.
        regions: Whether similar regions of a hit can be asked for.
        card: The model's card, Markdown.
        scores: Of the model, as its maker measured them.
        archives: Names of all archives of the service, the default one first.
    """

    name: str
    records: int
    version: int
    created: str
    updated: str
    stale: bool
    landcue: str
    fingerprint: str
    dim: int
    n_bits: int
    label_names: tuple[str, ...]
    metric: str
    model: str | None
    encodes_images: bool
    regions: bool
    card: str | None
    scores: Mapping[str, Any]
    archives: tuple[str, ...]

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> ArchiveInfo:
        """Read an answer."""
        return cls(
            name=value["name"],
            records=value["records"],
            version=value["version"],
            created=value["created"],
            updated=value["updated"],
            stale=value["stale"],
            landcue=value["landcue"],
            fingerprint=value["fingerprint"],
            dim=value["dim"],
            n_bits=value["n_bits"],
            label_names=tuple(value["label_names"]),
            metric=value["metric"],
            model=value["model"],
            encodes_images=value["encodes_images"],
            regions=value["regions"],
            card=value["card"],
            scores=value["scores"],
            archives=tuple(value["archives"]),
        )


def read_box(value: list[float] | None) -> Box | None:
    """Read a footprint of an answer."""
    if value is None:
        return None
    west, south, east, north = value
    return west, south, east, north


def _window(value: list[int] | None) -> Window | None:
    if value is None:
        return None
    col, row, width, height = value
    return col, row, width, height


def read_time(value: str | None) -> datetime | None:
    """Read a time of an answer."""
    return None if value is None else datetime.fromisoformat(value)
