"""Archives, their records, labels and values to filter by, and their models."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, model_validator

from landcue.server.schemas.base import NUMBER, AnswerModel, Box, Pair, PixelWindow, Times, fixed


class Reading(AnswerModel):
    """How the numbers of a raster became a picture."""

    bands: tuple[int, ...] = Field(description="Numbers from 1, in the order red, green, blue.")
    limits: tuple[tuple[float, float], ...] | None = Field(
        description="The values of each band that became 0 and 255; `null`: its bytes as they are."
    )
    rules: tuple[str, ...] = Field(description="What was assumed.")
    warnings: tuple[str, ...] = Field(description="What GDAL reported about the file.")


class RecordAnswer(AnswerModel):
    """All stored values of a record except its path, vectors and thumbnail."""

    archive: str
    id: str
    labels: tuple[str, ...] | None = Field(description="`null` where not annotated.")
    predicted_labels: tuple[str, ...]
    bbox: Box | None = Field(description="West, south, east, north in degrees.")
    geometry: dict[str, Any] | None = Field(description="Its footprint, GeoJSON.")
    window: PixelWindow | None
    datetime: dt.datetime | None = Field(description="Acquisition time, UTC.")
    sensor: str | None
    group: str | None
    part: str | None = Field(description="`train`, `val` or `test`, where a split was applied.")
    reading: Reading | None = Field(description="Of a raster; `null` for other images.")


class LabelCount(AnswerModel):
    """How many records carry a label."""

    name: str
    annotated: int
    predicted: int
    records: int = Field(
        description="Annotated labels, or predicted ones where there is no annotation."
    )


class LabelsAnswer(AnswerModel):
    """The labels of an archive."""

    archive: str
    labels: tuple[LabelCount, ...]


class ValueCount(AnswerModel):
    """How many records have a value."""

    name: str
    records: int


class FacetsAnswer(AnswerModel):
    """Values that the records of an archive can be filtered by."""

    archive: str
    modes: tuple[str, ...] = Field(
        description="Available ranking methods; `ann` only if its index was built."
    )
    groups: tuple[ValueCount, ...] = Field(description="Most records first.")
    sensors: tuple[ValueCount, ...]
    parts: tuple[ValueCount, ...]
    sources: tuple[ValueCount, ...]
    datetime: Times | None = Field(description="First and last acquisition time.")
    bbox: Box | None = Field(
        description="Extent of all footprints: west, south, east, north in degrees; west > east "
        "where one crosses the antimeridian."
    )
    examples: tuple[str, ...] = Field(description="A few ids, spread evenly over the archive.")


class ArchiveSummary(AnswerModel):
    """One of the archives that a service shows."""

    name: str
    records: int
    version: int
    encodes_images: bool = Field(description="Whether images can be queries.")


class ArchivesAnswer(AnswerModel):
    """The archives that a service shows, the default one first."""

    archives: tuple[ArchiveSummary, ...]


class ArchiveAnswer(AnswerModel):
    """Size, version and model of an archive."""

    name: str
    records: int
    version: int
    created: str
    updated: str
    stale: bool = Field(
        description="Whether a newer version is on disk; it is opened within seconds."
    )
    deleted: bool = Field(
        False, description="Whether its folder was deleted; what is in memory still answers."
    )
    landcue: str
    fingerprint: str
    dim: int
    n_bits: int
    label_names: tuple[str, ...]
    metric: str
    model: str | None
    encodes_images: bool
    encodes_text: bool = Field(False, description="Whether texts can be queries.")
    regions: bool = Field(description="Whether the similar regions of a hit can be computed.")
    card: str | None
    scores: dict[str, Any]
    archives: tuple[str, ...]
    basemap: str | None = Field(description="Address template of map tiles for the page.")
    basemap_credit: str | None = Field(description="Attribution of the map tiles.")
    collections: bool = Field(False, description="Whether the service keeps collections.")
    max_pixels: int = Field(0, description="Largest number of pixels of a query image.")
    max_upload_bytes: int = Field(0, description="Largest size of a form with query images.")


Grid = tuple[tuple[float, ...], ...]
"""Numbers by location: rows from the top, columns from the left, over a whole image."""

Range = Annotated[
    tuple[float | None, float | None], fixed(2, {"anyOf": [NUMBER, {"type": "null"}]})
]
"""Lower and upper end; ``None`` where a number is undefined."""


class TestScores(AnswerModel):
    """Scores on a test split, as published with the model."""

    about: str
    spaces: dict[str, dict[str, float]] = Field(description="Metrics by space; `chance` is one.")


class ModelAnswer(AnswerModel):
    """Architecture and training of a model; empty where the archive does not store them."""

    archive: str
    fingerprint: str
    settings: dict[str, str | int | float | bool] = Field(
        description="Backbone, sizes and retrieval space."
    )
    training: dict[str, str | int | float | bool] = Field(
        description="Data set, split, seed and loss."
    )
    training_images: int | None
    training_labels: dict[str, int] = Field(description="Training images by label.")
    validation: dict[str, float] = Field(
        description="Metrics on the validation split that selected the model."
    )
    test: TestScores | None
    regions: bool = Field(description="Whether the similar regions of a hit can be computed.")


class LabelScore(AnswerModel):
    """Own-label AP: how well the records with one label find the others with it."""

    model_config = ConfigDict(populate_by_name=True)

    mean: float | None = Field(alias="mAP", description="Own-label average precision, 0..1.")
    chance: float | None = Field(description="Expected value for a random ranking.")
    n_query: int
    n_gallery: int
    third: Literal["rare", "medium", "frequent"] | None = Field(
        description="Frequency class, by `n_gallery`."
    )


class SpaceScores(AnswerModel):
    """Scores in one space; `null` stands for an undefined number."""

    protocol: str
    protocol_fingerprint: str
    rules: tuple[str, ...]
    counts: dict[str, int]
    metrics: dict[str, float | None]
    chance: dict[str, float | None] = Field(description="Expected values for a random ranking.")
    intervals: dict[str, Range] = Field(description="95 % confidence interval of each metric.")
    bands: dict[str, Range] = Field(
        description="Range of each metric over the orders of tied distances."
    )
    per_label: dict[str, LabelScore]
    macro: dict[str, float | None] = Field(description="Means over labels.")
    definitions: dict[str, str] = Field(description="Definition of each metric.")


class WorstQuery(AnswerModel):
    """A record whose look-alikes rarely carry one of its labels."""

    id: str
    score: float = Field(description="Own-label AP, 0..1.")


class LabelErrorsAnswer(AnswerModel):
    """How predicted labels differ from annotations; one number or row a label."""

    labels: tuple[str, ...]
    annotated: tuple[int, ...] = Field(description="Records annotated with the label.")
    predicted: tuple[int, ...] = Field(description="Records of which it is predicted.")
    both: tuple[int, ...]
    instead: tuple[tuple[int, ...], ...] = Field(
        description="Row i, column j: records annotated with i, which is not predicted, of which "
        "j is predicted but not annotated."
    )


class OwnScoresAnswer(AnswerModel):
    """Retrieval scores of the annotated records of an archive; `null` means undefined."""

    archive: str
    part: Literal["test", "all"] = Field(
        description="`test`: not trained on; `all`: may include training images."
    )
    annotated: int = Field(description="Annotated records of the part.")
    taken: int = Field(
        description="Number of queries sampled at random; each is a query for all others."
    )
    about: str
    spaces: dict[str, SpaceScores] = Field(
        description="By space: protocol, rules, counts, metrics, chance, 95 % intervals, per label."
    )
    worst: dict[str, tuple[WorstQuery, ...]] = Field(
        {}, description="By label: queries with the smallest own-label AP of embeddings."
    )
    label_errors: LabelErrorsAnswer | None = Field(
        None, description="`null` where the model predicts no labels."
    )


class MapPoint(NamedTuple):
    """A record on an embedding map: its coordinates and its kind."""

    id: str
    x: float
    y: float
    kind: str


class MapAnswer(AnswerModel):
    """A sample of an archive on its first two principal components; the lists are parallel."""

    archive: str
    records: int
    shares: Pair = Field(description="Share of the variance explained by each component.")
    colored_by: str
    kinds: tuple[str, ...] = Field(description="Names of the kinds, most frequent first.")
    ids: tuple[str, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    kind: tuple[int, ...] = Field(description="Positions in `kinds`.")

    @model_validator(mode="after")
    def _check_lengths(self) -> MapAnswer:
        if len({len(self.ids), len(self.x), len(self.y), len(self.kind)}) > 1 or not all(
            0 <= kind < len(self.kinds) for kind in self.kind
        ):
            raise ValueError("ids, x, y and kind do not fit each other")
        return self

    @property
    def points(self) -> tuple[MapPoint, ...]:
        """The sample, one point a record."""
        columns = zip(self.ids, self.x, self.y, self.kind, strict=True)
        return tuple(MapPoint(id_, x, y, self.kinds[kind]) for id_, x, y, kind in columns)


class RegionGrid(AnswerModel):
    """Values by location, rows from the top, columns from the left, over the whole image."""

    parts: Grid = Field(
        description="Contribution of each location to the similarity. For models with average "
        "pooling and linear layers, the similarity is their mean."
    )
    cosines: Grid = Field(description="Cosine similarity of each location, -1..1.")


class RegionsAnswer(AnswerModel):
    """Similar regions of a record and a query: an explanation of a hit, not a segmentation."""

    archive: str
    id: str
    similarity: float = Field(description="Cosine similarity of record and query, -1..1.")
    record: RegionGrid
    query: RegionGrid | None = Field(description="The same for the query, if it is a single image.")
