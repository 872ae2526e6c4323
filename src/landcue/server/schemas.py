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

Mode = Literal["auto", "embedding", "code", "cue", "two-stage", "ann"]

MAX_K = 1_000
MAX_EXAMPLES = 100
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


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Filters(_Request):
    """Which records may be found. All conditions must hold."""

    labels: str | None = Field(None, max_length=2_000, examples=["water and not ship"])
    scores: dict[_Name, _Share] = Field({}, max_length=100, examples=[{"ship": 0.7}])
    bbox: tuple[_Degrees, _Latitude, _Degrees, _Latitude] | None = Field(
        None, description="West, south, east, north in degrees; west > east crosses 180."
    )
    polygon: dict[str, Any] | None = Field(None, description="A GeoJSON polygon, in degrees.")
    after: _Time | None = Field(None, description="This or later; UTC without a zone.")
    before: _Time | None = Field(None, description="Earlier; UTC without a zone.")
    path: str | None = Field(None, max_length=1_024, description="Prefix of the relative path.")
    groups: _Names = []
    sensors: _Names = []
    parts: list[Literal["train", "val", "test"]] = Field([], max_length=3)

    @field_validator("bbox")
    @classmethod
    def _check_bbox(cls, value: Box | None) -> Box | None:
        if value is not None and not (all(map(math.isfinite, value)) and value[1] <= value[3]):
            raise ValueError(f"bounds {value}: need -90 <= south <= north <= 90 (order W,S,E,N)")
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
    """A search: by record, by uploaded images, by several of them, or by filters alone."""

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

    archive: _Name | None = Field(None, description="Its name; the first one by default.")
    id: _Id | None = Field(None, description="The query record; it is not among its hits.")
    positives: list[_Id] = Field([], max_length=MAX_EXAMPLES, description="More such records.")
    negatives: list[_Id] = Field([], max_length=MAX_EXAMPLES, description="Records to avoid.")
    crop: tuple[_Place, _Place, _Length, _Length] | None = Field(
        None, description="Of the part `image`: col, row, width, height in pixels."
    )
    rule: Literal["mean", "rocchio", "linear"] = "mean"
    negative_weight: float = Field(0.5, ge=0, le=100)
    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}))
    mode: Mode = "auto"
    k: _Whole = Field(20, ge=1, le=MAX_K)
    cursor: str | None = Field(None, max_length=4_096, description="Of the page before.")
    predicted: bool = Field(False, description="Add predicted labels to hits; in JSON alone.")
    min_score: float | None = Field(None, ge=-1_000, le=1)
    collapse: float | None = Field(None, ge=0, le=0.5)
    label_weight: _Whole = Field(1, ge=0, le=1_000)
    shortlist: _Whole = Field(200, ge=1, le=10_000)
    recall: _Share = 0.95


class FeedbackRequest(_Request):
    """A user's judgement of hits."""

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
    query: _Id | None = Field(None, description="The id of the query record, if it was one.")
    positives: list[_Id] = Field([], max_length=MAX_EXAMPLES)
    negatives: list[_Id] = Field([], max_length=MAX_EXAMPLES)
    mode: _Name | None = None
    note: str | None = Field(None, max_length=2_000)

    @model_validator(mode="after")
    def _check_any(self) -> FeedbackRequest:
        if not self.positives and not self.negatives:
            raise ValueError("give positives or negatives")
        return self


class Hit(_Answer):
    """A record that was found."""

    id: str
    distance: float = Field(description="Smaller is nearer; its unit depends on the mode.")
    score: float = Field(description="Larger is nearer; at most 1.")
    labels: tuple[str, ...] = Field(description="Annotated, or predicted where not annotated.")
    shared: tuple[str, ...] = Field(description="Labels that the query has too.")
    bounds: Box | None = Field(description="West, south, east, north in degrees.")
    footprint: tuple[Pair, ...] | None = Field(description="Corners (longitude, latitude).")
    window: PixelWindow | None = Field(
        description="Col, row, width, height of a chip in its scene; `null` for a whole image."
    )
    time: datetime | None = Field(description="Acquisition time, UTC.")
    sensor: str | None
    group: str | None = Field(description="What the image was drawn from.")
    near: int = Field(description="Near duplicates left out in its favor.")
    predicted: tuple[str, ...] | None = Field(
        None, description="Labels by the model; only where the search asks for them."
    )


class Plan(_Answer):
    """How a search went."""

    mode: str = Field(description="That answered.")
    why: str
    records: int = Field(description="Of the archive.")
    allowed: int = Field(description="Records that pass the filters.")
    scanned: int = Field(description="Records compared in the first stage.")
    reranked: int = Field(description="Candidates ranked by exact distance in a second stage.")
    recall: float | None = Field(description="Measured recall of the approximate index.")
    lists: int | None = Field(description="Lists that the approximate index visited.")
    milliseconds: float


class SearchAnswer(_Answer):
    """Hits, nearest first, equal distances in the order of ids."""

    archive: str
    query: str
    mode: str
    hits: tuple[Hit, ...]
    labels: tuple[str, ...] = Field(description="Of the query: annotated or predicted.")
    cursor: str | None = Field(description="Gives the next page; `null` on the last one.")
    note: str | None = Field(description="Why there is no hit, if there is none.")
    plan: Plan


class RecordAnswer(_Answer):
    """What is known of a record."""

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


class LabelCount(_Answer):
    """How many records carry a label."""

    name: str
    annotated: int
    predicted: int
    records: int = Field(description="Annotated, or predicted where not annotated.")


class LabelsAnswer(_Answer):
    """The labels of an archive."""

    archive: str
    labels: tuple[LabelCount, ...]


class ValueCount(_Answer):
    """How many records have a value."""

    name: str
    records: int


class FacetsAnswer(_Answer):
    """What the records of an archive can be filtered by."""

    archive: str
    modes: tuple[str, ...] = Field(description="Available; `ann` only where its index was built.")
    groups: tuple[ValueCount, ...] = Field(description="Most records first.")
    sensors: tuple[ValueCount, ...]
    parts: tuple[ValueCount, ...]
    time: Times | None = Field(description="The first and the last.")
    bounds: Box | None = Field(description="West, south, east, north of all footprints.")
    examples: tuple[str, ...] = Field(description="Some ids, spread evenly over all of them.")


class ArchiveAnswer(_Answer):
    """What an archive is and which model made it."""

    name: str
    records: int
    version: int
    created: str
    updated: str
    stale: bool = Field(description="Whether a newer version is on disk; it is shown in seconds.")
    landcue: str
    fingerprint: str
    dim: int
    n_bits: int
    label_names: tuple[str, ...]
    metric: str
    model: str | None
    encodes_images: bool
    regions: bool = Field(description="Whether similar regions of a hit are available.")
    card: str | None
    scores: dict[str, Any]
    archives: tuple[str, ...]
    basemap: str | None = Field(description="Address template of map tiles for the page.")
    basemap_credit: str | None = Field(description="Attribution of the map tiles.")


class FeedbackAnswer(_Answer):
    """That feedback was kept."""

    kept: bool


class TestScores(_Answer):
    """Scores on images that were not trained on, as the model's maker measured them."""

    about: str
    spaces: dict[str, dict[str, float]] = Field(description="Metrics by space; `chance` is one.")


class ModelAnswer(_Answer):
    """How a model is built and was made; empty where its archive does not keep it."""

    archive: str
    fingerprint: str
    settings: dict[str, str | int | float | bool] = Field(description="Backbone, sizes, space.")
    training: dict[str, str | int | float | bool] = Field(description="Data, split, seed, loss.")
    training_images: int | None
    training_labels: dict[str, int] = Field(description="Training images by label.")
    validation: dict[str, float] = Field(description="Metrics on the part it was chosen on.")
    test: TestScores | None
    regions: bool = Field(description="Whether similar regions are available.")


class LabelScore(_Answer):
    """How well the records of one label find others with labels of theirs."""

    model_config = ConfigDict(populate_by_name=True)

    mean: float | None = Field(alias="mAP", description="Mean average precision, 0..1.")
    chance: float | None = Field(description="The same, expected of a random order.")
    n_query: int
    n_gallery: int
    third: Literal["rare", "medium", "frequent"] | None = Field(description="By `n_gallery`.")


class SpaceScores(_Answer):
    """Scores in one space; `null` stands for an undefined number."""

    protocol: str
    protocol_fingerprint: str
    rules: tuple[str, ...]
    counts: dict[str, int]
    metrics: dict[str, float | None]
    chance: dict[str, float | None] = Field(description="The same of a random order.")
    intervals: dict[str, Range] = Field(description="95 % intervals by metric.")
    bands: dict[str, Range] = Field(description="Worst and best order of equal distances.")
    per_label: dict[str, LabelScore]
    macro: dict[str, float | None] = Field(description="Means over labels.")
    definitions: dict[str, str] = Field(description="Of the metrics.")


class OwnScoresAnswer(_Answer):
    """How well annotated records of an archive find each other; `null` stands for undefined."""

    archive: str
    part: Literal["test", "all"] = Field(
        description="`test`: not trained on; `all`: may include training images."
    )
    annotated: int = Field(description="Annotated records of the part.")
    taken: int = Field(description="Of these, drawn at random; each searches all others.")
    about: str
    spaces: dict[str, SpaceScores] = Field(
        description="By space: protocol, rules, counts, metrics, chance, 95 % intervals, per label."
    )


class MapPoint(NamedTuple):
    """A record on a map of embeddings: its place along two components, and its kind."""

    id: str
    x: float
    y: float
    kind: str


class MapAnswer(_Answer):
    """A sample of an archive, laid out by two principal components; lists are parallel."""

    archive: str
    records: int
    shares: Pair = Field(description="Of the variance, by component.")
    colored_by: str
    kinds: tuple[str, ...] = Field(description="Names of the kinds, frequent first.")
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
        description="What each location adds to the similarity, which is their mean for models of "
        "average pooling and linear layers."
    )
    cosines: Grid = Field(description="Cosine of each location by itself, -1..1.")


class RegionsAnswer(_Answer):
    """Where a record and a query are alike: an aid to explain a hit, not a segmentation."""

    archive: str
    id: str
    similarity: float = Field(description="Cosine of record and query, -1..1.")
    record: RegionGrid
    query: RegionGrid | None = Field(description="The same for the query, where it is one image.")


class FieldError(_Answer):
    """Why a field of a request was refused."""

    at: str
    what: str


class Problem(_Answer):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] | None = None
