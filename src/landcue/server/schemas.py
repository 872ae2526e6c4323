"""What requests and answers hold. Anything else in a request is refused."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

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

from landcue.errors import UsageError
from landcue.search.filters import Filter
from landcue.search.place import read_polygon
from landcue.search.plan import Mode
from landcue.types import Bounds

MAX_K = 1_000
MAX_EXAMPLES = 100
MAX_DEPTH = 100_000
"""Hits that pages may reach down to."""

_Id = Annotated[str, Field(min_length=1, max_length=1_024)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Names = Annotated[list[_Name], Field(max_length=100)]
_Degrees = Annotated[float, Field(ge=-180, le=180)]
_Latitude = Annotated[float, Field(ge=-90, le=90)]
_Share = Annotated[float, Field(ge=0, le=1)]


def _check_whole(value: Any) -> Any:
    """Take 20.0 for 20: JSON has one kind of number, and clients write whole ones either way."""
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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Filters(_Strict):
    """Which records may be found. All conditions must hold."""

    labels: str | None = Field(None, max_length=2_000, examples=["water and not ship"])
    scores: dict[_Name, _Share] = Field({}, max_length=100, examples=[{"ship": 0.7}])
    bbox: tuple[_Degrees, _Latitude, _Degrees, _Latitude] | None = Field(
        None, description="West, south, east, north in degrees; west > east crosses 180."
    )
    polygon: dict[str, Any] | None = Field(None, description="A GeoJSON polygon, in degrees.")
    after: _Time | None = Field(None, description="This or later; UTC without a zone.")
    before: _Time | None = Field(None, description="Earlier; UTC without a zone.")
    path: str | None = Field(None, max_length=1_024, description="Relative paths that start so.")
    groups: _Names = []
    sensors: _Names = []
    parts: list[Literal["train", "val", "test"]] = Field([], max_length=3)

    @field_validator("bbox")
    @classmethod
    def _check_bbox(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None:
            try:
                Bounds(*value)
            except UsageError as error:
                raise ValueError(str(error)) from None
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

    def to_filter(self) -> Filter:
        """Return the conditions as search takes them.

        Raises:
            UsageError: The polygon is none.
        """
        polygon = None if self.polygon is None else read_polygon(json.dumps(self.polygon))
        return Filter(
            expression=self.labels if self.labels and self.labels.strip(" ,") else None,
            scores=tuple(self.scores.items()),
            bbox=None if self.bbox is None else Bounds(*self.bbox),
            polygon=polygon,
            after=self.after,
            before=self.before,
            path=self.path or None,
            groups=tuple(self.groups),
            sensors=tuple(self.sensors),
            parts=tuple(self.parts),
        )


class SearchRequest(_Strict):
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
    id: _Id | None = Field(None, description="The record to look for; it does not find itself.")
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
    predicted: bool = Field(False, description="Tell predicted labels of hits; in JSON alone.")
    min_score: float | None = Field(None, ge=-1_000, le=1)
    collapse: float | None = Field(None, ge=0, le=0.5)
    label_weight: _Whole = Field(1, ge=0, le=1_000)
    shortlist: _Whole = Field(200, ge=1, le=10_000)
    recall: _Share = 0.95


class FeedbackRequest(_Strict):
    """What somebody thinks of hits."""

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
    query: _Id | None = Field(None, description="The id of the record asked with, if it was one.")
    positives: list[_Id] = Field([], max_length=MAX_EXAMPLES)
    negatives: list[_Id] = Field([], max_length=MAX_EXAMPLES)
    mode: _Name | None = None
    note: str | None = Field(None, max_length=2_000)

    @model_validator(mode="after")
    def _check_any(self) -> FeedbackRequest:
        if not self.positives and not self.negatives:
            raise ValueError("give positives or negatives")
        return self


class Hit(BaseModel):
    """A record that was found."""

    id: str
    distance: float = Field(description="Smaller is nearer; of which kind depends on the mode.")
    score: float = Field(description="Larger is nearer; at most 1.")
    labels: list[str]
    shared: list[str] = Field(description="Labels that the query has too.")
    bounds: list[float] | None
    footprint: list[list[float]] | None
    window: list[int] | None
    time: str | None
    sensor: str | None
    group: str | None
    near: int = Field(description="Near duplicates left out in its favor.")
    predicted: list[str] | None = Field(None, description="By the model; where asked for.")


class SearchAnswer(BaseModel):
    """Hits, nearest first, equal distances in the order of ids."""

    archive: str
    query: str
    mode: str
    hits: list[Hit]
    labels: list[str]
    cursor: str | None
    note: str | None
    plan: dict[str, Any]


class RecordAnswer(BaseModel):
    """What is known of a record."""

    archive: str
    id: str
    labels: list[str] | None
    predicted_labels: list[str]
    bounds: list[float] | None
    window: list[int] | None
    time: str | None
    sensor: str | None
    group: str | None
    part: str | None


class LabelCount(BaseModel):
    """How many records carry a label."""

    name: str
    annotated: int
    predicted: int
    records: int = Field(description="Annotated, or predicted where nobody annotated.")


class LabelsAnswer(BaseModel):
    """The labels of an archive."""

    archive: str
    labels: list[LabelCount]


class ValueCount(BaseModel):
    """How many records have a value."""

    name: str
    records: int


class FacetsAnswer(BaseModel):
    """What the records of an archive can be filtered by."""

    archive: str
    modes: list[str] = Field(description="That it answers; `ann` only where its index was built.")
    groups: list[ValueCount]
    sensors: list[ValueCount]
    parts: list[ValueCount]
    time: list[str] | None = Field(description="The first and the last.")
    bounds: list[float] | None = Field(description="West, south, east, north of all footprints.")
    examples: list[str] = Field(description="Some ids, spread evenly over all of them.")


class ArchiveAnswer(BaseModel):
    """What an archive is and which model made it."""

    name: str
    records: int
    version: int
    created: str
    updated: str
    stale: bool = Field(description="Whether a newer version lies there: start the service again.")
    landcue: str
    fingerprint: str
    dim: int
    n_bits: int
    label_names: list[str]
    metric: str
    model: str | None
    encodes_images: bool
    regions: bool = Field(description="Whether similar regions of a hit can be asked for.")
    card: str | None
    scores: dict[str, Any]
    archives: list[str]
    basemap: str | None = Field(description="Address template of map tiles for the page.")
    basemap_credit: str | None = Field(description="Whom the map names for its tiles.")


class FeedbackAnswer(BaseModel):
    """That feedback was kept."""

    kept: bool


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None
