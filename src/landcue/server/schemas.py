"""What requests and answers hold: the service's models, which its client uses too.

Pydantic alone is imported here. A request with any other field is refused; an answer may gain
fields in a later version.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

Mode = Literal["auto", "embedding", "code", "cue", "two-stage", "ann", "fused"]

MAX_K = 1_000
MAX_EXAMPLES = 100
MAX_CORNERS = 5_000
"""Of a polygon."""
MAX_DEPTH = 100_000
"""Rank of the last hit that pages can reach."""


def _fixed(n: int, items: dict[str, Any]) -> WithJsonSchema:
    """Describe a tuple of n equal items without ``prefixItems``, which few tools read."""
    return WithJsonSchema({"type": "array", "items": items, "minItems": n, "maxItems": n})


_NUMBER: dict[str, Any] = {"type": "number"}

Pair = Annotated[tuple[float, float], _fixed(2, _NUMBER)]
"""Two numbers."""

Box = Annotated[tuple[float, float, float, float], _fixed(4, _NUMBER)]
"""West, south, east, north in degrees; west > east crosses the antimeridian."""

PixelWindow = Annotated[tuple[int, int, int, int], _fixed(4, {"type": "integer"})]
"""Column, row, width, height in pixels of a scene."""

Grid = tuple[tuple[float, ...], ...]
"""Numbers by location: rows from the top, columns from the left, over a whole image."""

Times = Annotated[tuple[datetime, datetime], _fixed(2, {"type": "string", "format": "date-time"})]
"""The first and the last."""

Range = Annotated[
    tuple[float | None, float | None], _fixed(2, {"anyOf": [_NUMBER, {"type": "null"}]})
]
"""Lower and upper end; ``None`` where a number is undefined."""

_Id = Annotated[str, Field(min_length=1, max_length=1_024)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Names = Annotated[list[_Name], Field(max_length=100)]
_Degrees = Annotated[float, Field(ge=-180, le=180)]
_Latitude = Annotated[float, Field(ge=-90, le=90)]
_Share = Annotated[float, Field(ge=0, le=1)]


def _check_whole(value: Any) -> Any:
    """Take 20.0 for 20: JSON has one kind of number, and clients write integers either way."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Whole = Annotated[int, BeforeValidator(_check_whole)]
_Place = Annotated[int, Field(ge=0, le=100_000), BeforeValidator(_check_whole)]
_Length = Annotated[int, Field(ge=1, le=100_000), BeforeValidator(_check_whole)]


# Not strict: within a body that was parsed before, they are lists.
_Bbox = Annotated[tuple[_Degrees, _Latitude, _Degrees, _Latitude], Strict(False)]
_Crop = Annotated[tuple[_Place, _Place, _Length, _Length], Strict(False)]


def _check_date_text(value: Any) -> Any:
    """Refuse numbers, also as text, which pydantic would take for seconds since 1970."""
    if not isinstance(value, str) or not _DATE.match(value):
        raise PydanticCustomError("date", "give a date or a date and time as text (ISO 8601)")
    return value


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DATES = {"anyOf": [{"type": "string", "format": name} for name in ("date-time", "date")]}
_Time = Annotated[
    datetime, Strict(False), BeforeValidator(_check_date_text), WithJsonSchema(_DATES)
]


def count_positions(value: Any) -> int:
    """Return how many lists that hold no further list there are: the positions of a geometry."""
    count, stack = 0, [value]
    while stack:
        one = stack.pop()
        inner = list(one.values() if isinstance(one, dict) else one)
        nested = [part for part in inner if isinstance(part, dict | list)]
        count += isinstance(one, list) and not nested
        stack += nested
    return count


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Filters(_Request):
    """Conditions on the records that a search returns; all must hold."""

    labels: str | None = Field(None, max_length=2_000, examples=["water and not ship"])
    scores: dict[_Name, _Share] = Field({}, max_length=100, examples=[{"ship": 0.7}])
    bbox: _Bbox | None = Field(
        None,
        description="West, south, east, north in degrees; west > east crosses the antimeridian.",
    )
    polygon: dict[str, Any] | None = Field(
        None, description="A GeoJSON Polygon in degrees (EPSG:4326)."
    )
    after: _Time | None = Field(
        None, description="Acquired at this time or later; UTC where no zone is given."
    )
    before: _Time | None = Field(
        None, description="Acquired before this time; UTC where no zone is given."
    )
    path: str | None = Field(
        None, max_length=1_024, description="Prefix of the image's path, relative to the source."
    )
    groups: _Names = []
    sensors: _Names = []
    parts: list[Literal["train", "val", "test"]] = Field([], max_length=3)
    sources: _Names = Field([], description="Names of the archive's sources.")
    ids: list[_Id] = Field([], max_length=1_000, description="Ids of records; all must exist.")

    @field_validator("bbox")
    @classmethod
    def _check_bbox(cls, value: Box | None) -> Box | None:
        if value is not None and not (all(map(math.isfinite, value)) and value[1] <= value[3]):
            raise ValueError(f"bounds {value}: need -90 <= south <= north <= 90 (order W,S,E,N)")
        return value

    @field_validator("polygon")
    @classmethod
    def _check_polygon(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and count_positions(value) > MAX_CORNERS:
            raise ValueError(f"the polygon has more than {MAX_CORNERS:,} corners: simplify it")
        return value

    @field_validator("after", "before")
    @classmethod
    def _check_date(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        if not 1900 <= value.year <= 2200:
            raise ValueError("the year must lie in 1900..2200")
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @field_validator("path")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        if value is not None and (value.startswith(("/", "\\")) or value[1:2] == ":"):
            raise ValueError("the path must be relative to the archive's images")
        return value


class SearchRequest(_Request):
    """A search by record, by uploaded images, by several of both, or by filters alone."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": "harbor/harbor07.tif", "k": 20},
                {
                    "id": "harbor/harbor07.tif",
                    "positives": ["harbor/harbor11.tif"],
                    "negatives": ["beach/beach02.tif"],
                    "filters": {"labels": "water and not sand", "bbox": [-10, 35, 30, 60]},
                    "mode": "two-stage",
                },
            ]
        }
    )

    archive: _Name | None = Field(
        None, description="Name of the archive; the first one by default."
    )
    id: _Id | None = Field(
        None, description="Id of the query record, which is left out of the hits."
    )
    positives: list[_Id] = Field(
        [], max_length=MAX_EXAMPLES, description="Ids of further records to search for."
    )
    negatives: list[_Id] = Field(
        [], max_length=MAX_EXAMPLES, description="Ids of records to avoid."
    )
    text: str | None = Field(
        None,
        min_length=1,
        max_length=500,
        description="Description in words to search for; models with a text tower only.",
    )
    negative_text: str | None = Field(
        None, min_length=1, max_length=500, description="Description in words to avoid."
    )
    crop: _Crop | None = Field(
        None,
        description="Window of the uploaded `image` to search with: column, row, width, height.",
    )
    rule: Literal["mean", "rocchio", "linear"] = "mean"
    negative_weight: float = Field(0.5, ge=0, le=100)
    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}))
    mode: Mode = "auto"
    k: _Whole = Field(20, ge=1, le=MAX_K)
    cursor: str | None = Field(None, max_length=4_096, description="`cursor` of the previous page.")
    predicted: bool = Field(
        False, description="Add the predicted labels to each hit; JSON answers only."
    )
    min_score: float | None = Field(None, ge=-1_000, le=1)
    collapse: float | None = Field(None, ge=0, le=0.5)
    label_weight: _Whole = Field(1, ge=0, le=1_000)
    shortlist: _Whole = Field(200, ge=1, le=10_000)
    rerank: Literal["none", "alpha-qe", "k-reciprocal"] = Field(
        "none", description="How the shortlist is ranked again."
    )
    fused_weight: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Weight of the labels in mode `fused`; measured on the archive by default.",
    )
    recall: _Share = 0.95


class FeedbackRequest(_Request):
    """A user's relevance judgments of hits."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "harbor/harbor07.tif", "positives": ["harbor/harbor11.tif"]}],
            "anyOf": [
                {"properties": {name: {"minItems": 1}}, "required": [name]}
                for name in ("positives", "negatives")
            ],
        }
    )

    archive: _Name | None = None
    query: _Id | None = Field(
        None, description="Id of the query record, if the query was a record."
    )
    positives: list[_Id] = Field([], max_length=MAX_EXAMPLES)
    negatives: list[_Id] = Field([], max_length=MAX_EXAMPLES)
    mode: _Name | None = None
    note: str | None = Field(None, max_length=2_000)

    @model_validator(mode="after")
    def _check_any(self) -> FeedbackRequest:
        if not self.positives and not self.negatives:
            raise ValueError("give positives or negatives")
        return self


class ScoreParts(_Answer):
    """Parts of a fused score, which sum to it."""

    embedding: float = Field(description="Part of the embedding.")
    labels: float = Field(description="Part of the predicted labels.")


class Mark(_Request):
    """What is said of one record in a collection; one with nothing said is removed."""

    id: _Id
    mark: Literal["good", "bad"] | None = None
    note: str | None = Field(None, max_length=2_000)
    labels: list[Annotated[str, Field(pattern=r"^[^;|\s][^;|]{0,199}$")]] = Field(
        [], max_length=100
    )


class CollectionRequest(_Request):
    """A new collection of records."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "marinas", "members": [{"id": "harbor/harbor11.tif", "mark": "good"}]}
            ]
        }
    )

    archive: _Name | None = Field(None, description="Name of the archive; the first by default.")
    name: _Name
    query: SearchRequest | None = Field(None, description="The search that it belongs to.")
    members: list[Mark] = Field([], max_length=1_000)
    who: _Name | None = Field(None, description="Who marked them.")


class CollectionChange(_Request):
    """A change of a collection."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"members": [{"id": "a.tif", "labels": ["marina"]}]}]}
    )

    name: _Name | None = Field(None, description="New name.")
    query: SearchRequest | None = None
    members: list[Mark] = Field([], max_length=1_000)
    merge: _Name | None = Field(None, description="Id of a collection whose members are added.")
    who: _Name | None = Field(None, description="Who marked them.")


class Member(_Answer):
    """One record of a collection."""

    id: str
    mark: Literal["good", "bad"] | None
    note: str | None
    labels: tuple[str, ...]
    who: str | None
    time: datetime = Field(description="When it was marked, UTC.")


class CollectionAnswer(_Answer):
    """A collection with its members, in the order of their ids."""

    id: str
    archive: str
    name: str
    query: dict[str, Any] | None = Field(description="The search that it belongs to.")
    created: datetime
    updated: datetime
    revision: int = Field(description="Number of changes of members that can be undone.")
    members: tuple[Member, ...]


class CollectionSummary(_Answer):
    """A collection without its members."""

    id: str
    archive: str
    name: str
    created: datetime
    updated: datetime
    revision: int
    members: int = Field(description="Number of members.")


class CollectionsAnswer(_Answer):
    """The collections of an archive, the last changed first."""

    archive: str
    collections: tuple[CollectionSummary, ...]


class Hit(_Answer):
    """A record returned by a search."""

    id: str
    distance: float = Field(description="Smaller is more similar; the unit depends on the mode.")
    score: float = Field(description="Larger is more similar; at most 1.")
    percentile: float | None = Field(
        None,
        description="Percentage of the archive's records whose nearest neighbor is no closer than "
        "this hit; `null` where it was not measured.",
    )
    labels: tuple[str, ...] = Field(
        description="Annotated labels, or predicted ones where there is no annotation."
    )
    shared: tuple[str, ...] = Field(description="Labels shared with the query.")
    bounds: Box | None = Field(description="West, south, east, north in degrees.")
    footprint: tuple[Pair, ...] | None = Field(description="Corners as (longitude, latitude).")
    window: PixelWindow | None = Field(
        description="Column, row, width, height of a chip in its scene; `null` for a whole image."
    )
    time: datetime | None = Field(description="Acquisition time, UTC.")
    sensor: str | None
    group: str | None = Field(description="Scene or class that the image belongs to.")
    near: int = Field(description="Number of near duplicates collapsed into this hit.")
    source: str = Field(description="Name of the archive's source that the record belongs to.")
    predicted: tuple[str, ...] | None = Field(
        None, description="Predicted labels, if the search set `predicted`."
    )
    why: ScoreParts | None = Field(None, description="Parts of the score in mode `fused`.")


class Plan(_Answer):
    """How a search was executed."""

    mode: str = Field(description="Ranking method that was used.")
    why: str = Field(description="Why it was chosen.")
    records: int = Field(description="Number of records in the archive.")
    allowed: int = Field(description="Number of records that pass the filters.")
    scanned: int = Field(description="Number of records compared in the first stage.")
    reranked: int = Field(
        description="Number of candidates ranked by exact distance in the second stage."
    )
    recall: float | None = Field(description="Measured recall of the approximate index.")
    lists: int | None = Field(
        description="Number of inverted lists that the approximate index visited."
    )
    milliseconds: float


class SearchAnswer(_Answer):
    """Hits in order of distance; ties are in order of id."""

    archive: str
    query: str
    mode: str
    hits: tuple[Hit, ...]
    labels: tuple[str, ...] = Field(
        description="Labels of the query: annotated, or predicted where there is no annotation."
    )
    cursor: str | None = Field(
        description="Request the next page with it; `null` on the last page."
    )
    note: str | None = Field(description="Why the result is empty, if it is.")
    remark: str | None = Field(None, description="Says so if no hit is very similar to the query.")
    plan: Plan


class ScoresAnswer(_Answer):
    """How the scores of all records that match a search are distributed."""

    archive: str
    query: str
    mode: str = Field(description="What the scores mean; `two-stage` and `ann` are `embedding`.")
    records: int = Field(description="Number of records in the archive.")
    matched: int = Field(description="Number of records that pass the filters.")
    passing: int = Field(description="Number of these whose score is `min_score` or more.")
    counts: tuple[int, ...] = Field(description="Number of matched records by range of scores.")
    edges: tuple[float, ...] = Field(description="Edges of the ranges, one more than `counts`.")


class MapCluster(_Answer):
    """Records whose centers lie in one cell of a map."""

    longitude: float = Field(description="Mean of the centers, in degrees.")
    latitude: float
    count: int
    id: str = Field(description="The record of the best score, or the first one.")
    bbox: Box = Field(description="Around the centers: west, south, east, north in degrees.")
    score: float | None = Field(description="The best score; `null` without a query.")
    labeled: int | None = Field(description="How many carry `label`; `null` without it.")


class MapRecord(_Answer):
    """One record on a map."""

    id: str
    geometry: dict[str, Any] = Field(description="Its footprint, GeoJSON.")
    bbox: Box
    labels: tuple[str, ...]
    score: float | None = Field(description="`null` without a query.")
    percentile: float | None


class PlacesAnswer(_Answer):
    """What a map shows of a search: clusters with true counts, or single records."""

    archive: str
    records: int = Field(description="Number of records in the archive.")
    matched: int = Field(description="Number of records that pass the search, anywhere.")
    placed: int = Field(description="Number of these that have a footprint.")
    inside: int = Field(description="Number of these whose footprint touches the box.")
    clusters: tuple[MapCluster, ...] = Field(description="Empty where `footprints` holds them.")
    footprints: tuple[MapRecord, ...]


class Reading(_Answer):
    """How the numbers of a raster became a picture."""

    bands: tuple[int, ...] = Field(description="Numbers from 1, in the order red, green, blue.")
    limits: tuple[tuple[float, float], ...] | None = Field(
        description="The values of each band that became 0 and 255; `null`: its bytes as they are."
    )
    rules: tuple[str, ...] = Field(description="What was assumed.")
    warnings: tuple[str, ...] = Field(description="What GDAL reported about the file.")


class RecordAnswer(_Answer):
    """All stored values of a record except its path, vectors and thumbnail."""

    archive: str
    id: str
    labels: tuple[str, ...] | None = Field(description="`null` where not annotated.")
    predicted_labels: tuple[str, ...]
    bounds: Box | None
    window: PixelWindow | None
    time: datetime | None
    sensor: str | None
    group: str | None
    part: str | None = Field(description="`train`, `val` or `test`, where a split was applied.")
    reading: Reading | None = Field(description="Of a raster; `null` for other images.")


class LabelCount(_Answer):
    """How many records carry a label."""

    name: str
    annotated: int
    predicted: int
    records: int = Field(
        description="Annotated labels, or predicted ones where there is no annotation."
    )


class LabelsAnswer(_Answer):
    """The labels of an archive."""

    archive: str
    labels: tuple[LabelCount, ...]


class ValueCount(_Answer):
    """How many records have a value."""

    name: str
    records: int


class FacetsAnswer(_Answer):
    """Values that the records of an archive can be filtered by."""

    archive: str
    modes: tuple[str, ...] = Field(
        description="Available ranking methods; `ann` only if its index was built."
    )
    groups: tuple[ValueCount, ...] = Field(description="Most records first.")
    sensors: tuple[ValueCount, ...]
    parts: tuple[ValueCount, ...]
    sources: tuple[ValueCount, ...]
    time: Times | None = Field(description="First and last acquisition time.")
    bounds: Box | None = Field(
        description="Extent of all footprints: west, south, east, north in degrees."
    )
    examples: tuple[str, ...] = Field(description="A few ids, spread evenly over the archive.")


class ArchiveSummary(_Answer):
    """One of the archives that a service shows."""

    name: str
    records: int
    version: int
    encodes_images: bool = Field(description="Whether images can be queries.")


class ArchivesAnswer(_Answer):
    """The archives that a service shows, the default one first."""

    archives: tuple[ArchiveSummary, ...]


class ArchiveAnswer(_Answer):
    """Size, version and model of an archive."""

    name: str
    records: int
    version: int
    created: str
    updated: str
    stale: bool = Field(
        description="Whether a newer version is on disk; it is opened within seconds."
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


class FeedbackAnswer(_Answer):
    """Confirmation that feedback was stored."""

    kept: bool


class TestScores(_Answer):
    """Scores on a test split, as published with the model."""

    about: str
    spaces: dict[str, dict[str, float]] = Field(description="Metrics by space; `chance` is one.")


class ModelAnswer(_Answer):
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


class LabelScore(_Answer):
    """Own-label AP: how well the records with one label find the others with it."""

    model_config = ConfigDict(populate_by_name=True)

    mean: float | None = Field(alias="mAP", description="Own-label average precision, 0..1.")
    chance: float | None = Field(description="Expected value for a random ranking.")
    n_query: int
    n_gallery: int
    third: Literal["rare", "medium", "frequent"] | None = Field(
        description="Frequency class, by `n_gallery`."
    )


class SpaceScores(_Answer):
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


class OwnScoresAnswer(_Answer):
    """Retrieval scores of the annotated records of an archive; `null` means undefined."""

    archive: str
    part: Literal["test", "all"] = Field(
        description="`test`: not trained on; `all`: may include training images."
    )
    annotated: int = Field(description="Annotated records of the part.")
    taken: int = Field(description="Number of queries sampled at random; each searches all others.")
    about: str
    spaces: dict[str, SpaceScores] = Field(
        description="By space: protocol, rules, counts, metrics, chance, 95 % intervals, per label."
    )


class MapPoint(NamedTuple):
    """A record on an embedding map: its coordinates and its kind."""

    id: str
    x: float
    y: float
    kind: str


class MapAnswer(_Answer):
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


class RegionGrid(_Answer):
    """Values by location, rows from the top, columns from the left, over the whole image."""

    parts: Grid = Field(
        description="Contribution of each location to the similarity. For models with average "
        "pooling and linear layers, the similarity is their mean."
    )
    cosines: Grid = Field(description="Cosine similarity of each location, -1..1.")


class RegionsAnswer(_Answer):
    """Similar regions of a record and a query: an explanation of a hit, not a segmentation."""

    archive: str
    id: str
    similarity: float = Field(description="Cosine similarity of record and query, -1..1.")
    record: RegionGrid
    query: RegionGrid | None = Field(description="The same for the query, if it is a single image.")


class FieldError(_Answer):
    """Why a field of a request was refused."""

    at: str
    what: str


class Problem(_Answer):
    """An error as problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] | None = None
